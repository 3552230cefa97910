//! New sources that were judged.

use queue::source::{Cap, Course, Delivered, Finding, Judged, Measure, Setup, Share, SourceId};

use super::*;

#[test]
fn what_stands_in_line_for_a_site_where_its_source_was_stopped_leaves_it() {
    let (hops, a, b) = (hops(), hop("a"), hop("b"));
    let source = SourceId::DEFAULT;
    let caps = vec![Cap { source, share: Share::Each, days: [60, 80].into(), began: Timestamp(7) }];
    let delivered = [(source, Delivered::default())];
    let judged = Judged {
        source,
        site: "a".into(),
        day: 0,
        finding: Finding { measure: Measure::Bounced, count: 4, among: 60, course: Course::Stop },
        days: 1,
        behind: 1,
        is_stopped: true,
    };
    hops.set_up(&Setup { caps: caps.clone(), ..Setup::default() }, &delivered).unwrap();
    (0..3).for_each(|_| drop([hops.add(&a, work(1)), hops.add(&b, work(1))]));
    let moved = hops.set_up(&Setup { caps, judged: vec![judged], ..Setup::default() }, &delivered).unwrap();
    assert!(moved.len() == 3 && moved.iter().all(|(hop, _)| *hop == a), "{moved:?}");
    let (_, work) = moved.into_iter().next().unwrap();
    assert!(matches!(hops.add(&a, work), Added::No(_, No::Spent { pending: false, is_for_an_hour: false })));
    assert_eq!(in_line(&hops), 3);
}
