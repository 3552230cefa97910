//! What sources used before they were here.

use queue::source::{Member, Pool, Rule, Scope, Setup, Source, SourceId};

use super::*;

/// Mail by these sources, with a rate of mails at the site `a`.
pub(super) fn setup(sources: &[i64]) -> Setup {
    let sources: Vec<_> = sources.iter().map(|id| SourceId::read(*id)).collect();
    let source = |id: &SourceId| Source { id: *id, name: id.stored().to_string().into(), ..Source::default_one() };
    let members = sources.iter().map(|source| Member { source: *source, weight: 1 }).collect();
    let pool = Pool { name: "p".into(), members, streams: vec![Stream::Mail], organisation: None };
    let scope = Scope { site: Some("a".into()), ..Scope::default() };
    let rule = Rule { scope, key: "rate".into(), value: "100/h".into() };
    Setup { sources: sources.iter().map(source).collect(), pools: vec![pool], rules: vec![rule], ..Setup::default() }
}

/// Sends as many as may go at once.
fn burst(hops: &Hops, hop: &Hop) -> usize {
    (0..20).for_each(|_| drop(hops.add(hop, work(1))));
    (0..20).filter(|_| next(hops, &hop.by(SourceId::read(1))).is_some()).count()
}

fn noted(hops: &Hops) -> Vec<Then> {
    let then = |(at, name, used): (_, _, crate::shape::Used)| Then { at, name, what: used.what, until: used.until };
    hops.used(Instant::now()).into_iter().map(then).collect()
}

#[tokio::test(start_paused = true)]
async fn who_takes_a_source_over_knows_what_the_other_sent() {
    let ([one, two], a, own) = ([hops(), hops()], hop("a"), SourceId::read(1));
    for (hops, sources) in [(&one, &[1][..]), (&two, &[])] {
        let setup = setup(sources);
        assert_eq!(hops.not_here(&setup), setup.in_use());
        hops.resume(&setup, Vec::new());
        hops.set_up(&setup, &[]).unwrap();
        assert!(hops.not_here(&setup).is_empty());
    }
    assert_eq!(burst(&one, &a), 10);
    // The other has it now: whether it has mail already or not.
    let both = setup(&[1]);
    assert_eq!(two.not_here(&both).into_iter().collect::<Vec<_>>(), [own]);
    let used = noted(&one);
    assert_eq!(used.len(), 1, "{used:?}");
    two.resume(&both, used);
    two.set_up(&both, &[]).unwrap();
    assert_eq!(burst(&two, &a), 0);
    // It comes back. Who has it not writes nothing of it.
    one.resume(&setup(&[]), Vec::new());
    assert!(noted(&one).is_empty());
    tokio::time::advance(Duration::from_secs(300)).await;
    assert!(burst(&two, &a) > 5);
    assert_eq!(one.not_here(&both).into_iter().collect::<Vec<_>>(), [own]);
    one.resume(&both, noted(&two));
    assert_eq!(burst(&one, &a), 0);
}

/// A site that nobody sends to is none that is forgotten, nor one that is kept for ever.
#[tokio::test(start_paused = true)]
async fn what_was_used_is_known_until_it_is_over() {
    let (one, a, setup) = (hops(), hop("a"), setup(&[1]));
    one.resume(&setup, Vec::new());
    one.set_up(&setup, &[]).unwrap();
    burst(&one, &a);
    let used = noted(&one);
    let two = hops();
    two.resume(&setup, used);
    two.set_up(&setup, &[]).unwrap();
    two.forget();
    tokio::time::advance(Duration::from_secs(40)).await;
    assert_eq!(burst(&two, &a), 1);
    let third = hops();
    third.resume(&setup, noted(&two));
    tokio::time::advance(Duration::from_secs(3600)).await;
    third.forget();
    assert!(third.lock().sites.before.is_empty());
}

/// Who had a source before may have ended what its sites asked for: that is read when the source comes back, and not remembered.
#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_source_goes_with_it() {
    let (hops, here, gone) = (hops(), setup(&[1]), setup(&[]));
    let at = (SourceId::read(1), 7, None);
    let until = Instant::now() + Duration::from_secs(3600);
    hops.resume(&here, vec![Then { at, name: "a".into(), what: crate::shape::What::Pause, until }]);
    assert_eq!(hops.pauses("a", None).len(), 1);
    hops.resume(&gone, Vec::new());
    hops.resume(&here, Vec::new());
    assert_eq!(hops.pauses("a", None), []);
}

/// Else who looks would be told of another source, and another source would be asked whether it takes what this one has not.
#[tokio::test(start_paused = true)]
async fn who_is_turned_away_hears_of_the_source_that_was_to_send_it() {
    let (hops, setup, a) = (hops(), setup(&[1]), mail_hosts("a.l.google.com"));
    let by = a.by(SourceId::read(1));
    hops.resume(&setup, Vec::new());
    hops.set_up(&setup, &[]).unwrap();
    hops.add(&a, work(1));
    let reply = Reply::new(450, 7, 25, "The IP address has no PTR record, try again in 5 minutes");
    let (hint, wait) = hops.hint(&by, &reply, &[]).unwrap();
    hops.heard(&by, &Words { hint, wait, sender: None, mail: Some(Ticket::of_none()), attempts: 0 });
    assert!(matches!(hops.add(&a, work(1)), Added::Later(_, _, hop) if hop == by));
}
