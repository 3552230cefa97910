//! Mailboxes against a plain model: what every view was told adds up to what is there.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base::{AccountId, BlobId, EmailId, MailboxId, SystemClock, Timestamp};
use mailbox::verbs::{self, INBOX, NewEmail, StoreRequest};
use mailbox::{FlagOp, Flags, Index, MIGRATIONS, Mailboxes, REFERENCES, UidSet, View};
use store::{Class, Lane, References, Sql, Store, params};
use testkit::Bed;

const ME: AccountId = AccountId(7);
const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Opens the mailboxes of a bed; waits until what ran beside earlier sessions has let go of the store.
fn open(bed: &Bed) -> Mailboxes {
    tokio::task::block_in_place(|| {
        for _ in 0..500 {
            match Store::open(bed.options(), &[MIGRATIONS]) {
                Ok(store) => return Mailboxes::new(store, Arc::new(SystemClock)),
                Err(store::Error::Busy) => std::thread::sleep(Duration::from_millis(10)),
                Err(e) => panic!("{}: {e}", bed.name()),
            }
        }
        panic!("{}: the store is still in use", bed.name());
    })
}

/// Runs a test on each engine.
fn on_each_engine(test: impl AsyncFn(&Bed)) {
    for bed in testkit::engines() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test(&bed));
        drop(runtime);
    }
}

async fn account(m: &Mailboxes) {
    m.write(|tx| verbs::create_account(tx, ME, 0, NOW)).await.unwrap();
}

async fn deliver(m: &Mailboxes, mailbox: MailboxId, body: &[u8], flags: Flags) -> verbs::Arrival {
    let mut stager = m.store().stager(Class::Lasting);
    stager.push(body).unwrap();
    let octets = body.len() as u32 + 3;
    let staged = vec![stager.finish()];
    let work = move |tx: &mut store::Tx<'_>, blobs: &[BlobId]| {
        let (prefix, index, keywords) = (b"P: " as &[u8], b"" as &[u8], &[][..]);
        let new = NewEmail { blob: blobs[0], octets, received: NOW, prefix, index, flags, keywords };
        verbs::deliver(tx, ME, mailbox, &new, NOW)
    };
    m.store().write_with(Lane::Interactive, staged, work).await.unwrap()
}

async fn check(m: &Mailboxes) {
    let store = m.store().clone();
    let blobs = store.clone();
    let wrong = store.read(move |tx| mailbox::verify(tx, &|id| Ok(blobs.blob(id)?.len()))).await.unwrap();
    assert_eq!(wrong, Vec::<String>::new());
}

fn request(uids: UidSet, op: FlagOp, flags: Flags, keywords: &[&str]) -> StoreRequest {
    StoreRequest {
        uids,
        op,
        flags,
        keywords: keywords.iter().map(|k| (*k).to_owned()).collect(),
        unchanged_since: None,
    }
}

/// What a client believes: it only knows what it was told.
struct Client {
    view: View,
    known: Vec<(u32, EmailId, Flags)>,
}

impl Client {
    async fn new(m: &Mailboxes, mailbox: MailboxId) -> Self {
        let view = m.open(ME, mailbox).await.unwrap().unwrap();
        let known = view.index().iter().map(|(_, e)| (e.uid.0, e.email, e.flags)).collect();
        Client { view, known }
    }

    async fn listen(&mut self) {
        let told = self.view.sync(true).await.unwrap().unwrap();
        let index = self.view.index();
        for seq in told.expunged.iter().rev() {
            self.known.remove(*seq as usize - 1);
        }
        for seq in told.changed {
            let e = index.get(seq).unwrap();
            self.known[seq as usize - 1].2 = e.flags;
        }
        let from = index.len() - told.arrived + 1;
        self.known.extend(index.iter_from(from).map(|(_, e)| (e.uid.0, e.email, e.flags)));
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
fn what_clients_were_told_adds_up_to_what_is_there() {
    on_each_engine(async |bed| {
        let mut m = open(bed);
        account(&m).await;
        let other = MailboxId(2);
        for seed in 0..4 {
            let mut r = Random(seed);
            let mut clients =
                vec![Client::new(&m, INBOX).await, Client::new(&m, INBOX).await, Client::new(&m, other).await];
            for _ in 0..120 {
                let who = r.below(3) as usize;
                let view = clients[who].view.clone();
                let max = u64::from(view.index().max_uid()) + 2;
                let from = r.below(max) as u32;
                let uids = UidSet::from_ranges([(from, from + r.below(12) as u32)]);
                match r.below(8) {
                    0..=2 => drop(deliver(&m, view.mailbox(), b"Subject: hello\r\n\r\n", Flags(r.below(32))).await),
                    3 => drop(
                        view.store_flags(request(uids, FlagOp::Add, Flags(1 << r.below(5)), &["a"])).await.unwrap(),
                    ),
                    4 => {
                        drop(view.store_flags(request(uids, FlagOp::Replace, Flags::SEEN, &["b", "c"])).await.unwrap())
                    }
                    5 => drop(view.expunge(None, false).await.unwrap()),
                    6 => drop(view.copy(uids, INBOX, false).await.unwrap()),
                    _ => drop(view.copy(uids, other, true).await.unwrap()),
                }
                let listener = r.below(3) as usize;
                clients[listener].listen().await;
            }
            for c in &mut clients {
                c.listen().await;
            }
            // A new process knows only what is on disk.
            let mailboxes: Vec<_> = clients.iter().map(|c| c.view.mailbox()).collect();
            let known: Vec<_> = clients.into_iter().map(|c| c.known).collect();
            drop(m);
            m = open(bed);
            for (mailbox, known) in mailboxes.into_iter().zip(known) {
                assert_eq!(Client::new(&m, mailbox).await.known, known, "seed {seed}");
            }
            check(&m).await;
        }
    });
}

/// Two mailboxes as plain maps from UID to mail and flags.
#[derive(Clone, Debug, Default)]
struct Model {
    places: [BTreeMap<u32, (EmailId, Flags)>; 2],
    next: [u32; 2],
}

const BOTH: [MailboxId; 2] = [INBOX, MailboxId(2)];

/// A verb, and the index that its job knows the mailbox by: that of some moment, however long ago.
#[derive(Clone)]
enum Verb {
    Deliver(usize, Flags),
    Store(usize, Arc<Index>, StoreRequest),
    Expunge(usize, Arc<Index>, UidSet),
    Copy { from: usize, known: Arc<Index>, to: usize, uids: UidSet, and_remove: bool },
}

impl Verb {
    fn random(r: &mut Random, seen: &[Vec<Arc<Index>>; 2], next: [u32; 2]) -> Self {
        let at = r.below(2) as usize;
        let known = seen[at][r.below(seen[at].len() as u64) as usize].clone();
        // Most often the newest mails: those whose rows a later job reads first.
        let to = next[at].saturating_sub(r.below(3) as u32);
        let from = to.saturating_sub(r.below(4) as u32);
        let (uids, flags) = (UidSet::from_ranges([(from, to)]), Flags(1 << r.below(5)));
        match r.below(6) {
            0 | 1 => Verb::Deliver(at, Flags(r.below(32))),
            2 => Verb::Store(at, known, request(uids, FlagOp::Add, flags, &[])),
            3 => Verb::Store(at, known, request(uids, FlagOp::Remove, flags, &[])),
            4 => Verb::Expunge(at, known, uids),
            _ => Verb::Copy { from: at, known, to: r.below(2) as usize, uids, and_remove: r.below(2) == 0 },
        }
    }

    fn run(&self, tx: &mut store::Tx<'_>, blob: BlobId) -> store::Result<()> {
        match self {
            Verb::Deliver(at, flags) => {
                let (prefix, index, keywords) = (b"P: " as &[u8], b"" as &[u8], &[][..]);
                let new = NewEmail { blob, octets: 4, received: NOW, prefix, index, flags: *flags, keywords };
                verbs::deliver(tx, ME, BOTH[*at], &new, NOW).map(drop)
            }
            Verb::Store(at, known, request) => verbs::store_flags(tx, ME, BOTH[*at], known, request).map(drop),
            Verb::Expunge(at, known, uids) => verbs::expunge(tx, ME, BOTH[*at], known, Some(uids), true).map(drop),
            Verb::Copy { from, known, to, uids, and_remove } => {
                let from = (BOTH[*from], known);
                let verb = if *and_remove { verbs::move_places } else { verbs::copy };
                verb(tx, ME, from, BOTH[*to], uids, NOW).map(drop)
            }
        }
    }

    fn apply(&self, model: &mut Model, next_email: &mut i64) {
        match self {
            Verb::Deliver(at, flags) => {
                model.places[*at].insert(model.next[*at], (EmailId(*next_email), *flags));
                model.next[*at] += 1;
                *next_email += 1;
            }
            Verb::Store(at, _, request) => {
                for (_, (_, flags)) in model.places[*at].iter_mut().filter(|(uid, _)| request.uids.contains(**uid)) {
                    *flags = request.op.apply(*flags, request.flags);
                }
            }
            Verb::Expunge(at, _, uids) => model.places[*at].retain(|uid, _| !uids.contains(*uid)),
            Verb::Copy { from, to, uids, and_remove, .. } => {
                let originals: Vec<_> = model.places[*from].iter().filter(|(uid, _)| uids.contains(**uid)).collect();
                let originals: Vec<_> = originals.into_iter().map(|(uid, place)| (*uid, *place)).collect();
                for (uid, place) in originals {
                    model.places[*to].insert(model.next[*to], place);
                    model.next[*to] += 1;
                    if *and_remove {
                        model.places[*from].remove(&uid);
                    }
                }
            }
        }
    }
}

/// Rows of what was expunged stay until they are reaped, and a job may know the mailbox from before: nothing comes back.
#[test]
fn what_was_expunged_stays_away_however_old_the_index_that_a_job_knows() {
    on_each_engine(async |bed| {
        let mut m = open(bed);
        account(&m).await;
        let mut stager = m.store().stager(Class::Lasting);
        stager.push(b"x").unwrap();
        let staged = vec![stager.finish()];
        let blob = m.store().write_with(Lane::Interactive, staged, |_, blobs| Ok(blobs[0])).await.unwrap();
        let (mut model, mut next_email) = (Model { next: [1, 1], ..Model::default() }, 1);
        for seed in 0..6 {
            let mut r = Random(seed);
            let mut seen = [Vec::new(), Vec::new()];
            let views = [m.open(ME, BOTH[0]).await.unwrap().unwrap(), m.open(ME, BOTH[1]).await.unwrap().unwrap()];
            for step in 0..60 {
                for (view, seen) in views.iter().zip(&mut seen) {
                    seen.push(view.latest().await.unwrap());
                }
                let verbs: Vec<_> = (0..1 + r.below(4)).map(|_| Verb::random(&mut r, &seen, model.next)).collect();
                verbs.iter().for_each(|verb| verb.apply(&mut model, &mut next_email));
                if r.below(2) == 0 {
                    m.write(move |tx| verbs.iter().try_for_each(|verb| verb.run(tx, blob))).await.unwrap();
                } else {
                    // Jobs of one group: their events come when all of it is committed. PostgreSQL has no groups, nor an
                    // order among jobs that are under way.
                    let at_once = if bed.name() == "SQLite" { verbs.len() } else { 1 };
                    for group in verbs.chunks(at_once) {
                        let begin = |verb: Verb| {
                            m.store().write_with(Lane::Interactive, Vec::new(), move |tx, _| verb.run(tx, blob))
                        };
                        let under_way: Vec<_> = group.iter().cloned().map(begin).collect();
                        for job in under_way {
                            job.await.unwrap();
                        }
                    }
                }
                for (view, model) in views.iter().zip(&model.places) {
                    let there = view.latest().await.unwrap();
                    let there: BTreeMap<_, _> = there.iter().map(|(_, e)| (e.uid.0, (e.email, e.flags))).collect();
                    assert_eq!(there, *model, "{}, seed {seed}, step {step}", bed.name());
                }
                check(&m).await;
            }
            drop((views, m));
            m = open(bed);
        }
    });
}

#[test]
fn rows_that_a_crash_left_are_reaped_at_the_next_start() {
    on_each_engine(async |bed| {
        let m = open(bed);
        account(&m).await;
        let gone = deliver(&m, INBOX, b"a", Flags::default()).await.email;
        let kept = deliver(&m, INBOX, b"b", Flags::default()).await.email;
        let one = UidSet::from_ranges([(1, 1)]);
        // Without the view's tidying: that is what a crash cuts off.
        m.write(move |tx| verbs::expunge(tx, ME, INBOX, &Arc::default(), Some(&one), true)).await.unwrap();
        drop(m);
        let m = open(bed);
        let there = async |email| m.store().read(move |tx| verbs::email(tx, ME, email)).await.unwrap().is_some();
        assert!(there(gone).await && there(kept).await);
        m.tidy_up().await.unwrap();
        assert!(!there(gone).await && there(kept).await, "{}", bed.name());
        check(&m).await;
    });
}

#[test]
fn trap_10_numbers_are_never_used_twice() {
    on_each_engine(async |bed| {
        let mut m = open(bed);
        account(&m).await;
        let first = deliver(&m, INBOX, b"a", Flags::DELETED).await;
        let view = m.open(ME, INBOX).await.unwrap().unwrap();
        assert_eq!(view.expunge(None, false).await.unwrap().ranges(), [(1, 1)]);
        drop(view);
        drop(m);
        m = open(bed);
        let second = deliver(&m, INBOX, b"b", Flags::default()).await;
        assert_eq!((first.uid.0, second.uid.0, first.uid_validity), (1, 2, second.uid_validity));
        assert_ne!(first.email, second.email);
        // A mailbox made anew under an old name has another UIDVALIDITY, within the same second.
        let validity = async |m: &Mailboxes| {
            let all = m.store().read(|tx| verbs::folders(tx, ME)).await.unwrap();
            all.iter().find(|f| f.name == "X").unwrap().uid_validity
        };
        m.write(|tx| verbs::create(tx, ME, "X", None, NOW)).await.unwrap();
        let before = validity(&m).await;
        m.write(|tx| verbs::delete(tx, ME, "X")).await.unwrap();
        m.write(|tx| verbs::create(tx, ME, "X", None, NOW)).await.unwrap();
        assert!(validity(&m).await > before);
    });
}

#[test]
fn a_store_unchanged_since_passes_over_what_changed() {
    on_each_engine(async |bed| {
        let m = open(bed);
        account(&m).await;
        for _ in 0..4 {
            deliver(&m, INBOX, b"a", Flags::default()).await;
        }
        let mut view = m.open(ME, INBOX).await.unwrap().unwrap();
        let since = view.index().modseq;
        let all = UidSet::from_ranges([(1, u32::MAX)]);
        let two = UidSet::from_ranges([(2, 2)]);
        view.store_flags(request(two.clone(), FlagOp::Add, Flags::FLAGGED, &[])).await.unwrap();
        let conditional = StoreRequest { unchanged_since: Some(since), ..request(all, FlagOp::Add, Flags::SEEN, &[]) };
        let stored = view.store_flags(conditional).await.unwrap();
        assert_eq!((stored.modified, stored.changed), (two, UidSet::from_ranges([(1, 1), (3, 4)])));
        assert_eq!(view.sync(true).await.unwrap().unwrap().changed, [1, 2, 3, 4]);
        check(&m).await;
    });
}

#[test]
fn vanished_tells_what_went_after_a_modseq() {
    on_each_engine(async |bed| {
        let m = open(bed);
        account(&m).await;
        for i in 0..6 {
            deliver(&m, INBOX, b"a", if i % 2 == 0 { Flags::DELETED } else { Flags::default() }).await;
        }
        let view = m.open(ME, INBOX).await.unwrap().unwrap();
        let (early, index) = (view.index().modseq, view.index().clone());
        view.expunge(Some(UidSet::from_ranges([(1, 3)])), false).await.unwrap();
        let later = view.latest().await.unwrap().modseq;
        view.expunge(None, false).await.unwrap();
        let newest = view.latest().await.unwrap();
        let vanished = async |since| {
            let index = newest.clone();
            m.store().read(move |tx| verbs::vanished(tx, ME, INBOX, &index, since)).await.unwrap()
        };
        assert_eq!(vanished(early).await, UidSet::from_ranges([(1, 1), (3, 3), (5, 5)]));
        assert_eq!(vanished(later).await, UidSet::from_ranges([(5, 5)]));
        // Trap 9: below what is remembered, all that is absent, up to UIDNEXT.
        assert_eq!(vanished(base::ModSeq(0)).await, UidSet::from_ranges([(1, 1), (3, 3), (5, 5)]));
        assert_eq!(index.len(), 6);
    });
}

const ONE_BELOW: Sql = Sql {
    name: "one_below",
    text: "INSERT INTO mailbox (account, id, name, uid_validity, uid_next, modseq, before, folded, reaped, floor, messages,
        unseen, deleted, octets, special_use) SELECT account, id + ?2, CAST(?3 AS TEXT), uid_validity, uid_next, modseq, before,
        folded, reaped, floor, messages, unseen, deleted, octets, special_use FROM mailbox WHERE account = ?1 AND name = 'Top'",
};
const COUNT_ON: Sql = Sql { name: "count_on", text: "UPDATE mail_account SET next_mailbox = 20000 WHERE account = ?1" };

#[test]
fn as_many_mailboxes_as_there_may_be_are_renamed_in_one_short_job() {
    on_each_engine(async |bed| {
        let m = open(bed);
        account(&m).await;
        m.write(|tx| verbs::create(tx, ME, "Top", None, NOW)).await.unwrap();
        let there = m.store().read(|tx| verbs::folders(tx, ME)).await.unwrap().len();
        let fill = move |tx: &mut store::Tx<'_>| {
            tx.execute(&COUNT_ON, params![ME])?;
            (there..10_000)
                .try_for_each(|n| tx.execute(&ONE_BELOW, params![ME, n as i64, format!("Top/{n}").as_str()]).map(drop))
        };
        m.write(fill).await.unwrap();
        let one_more = m.write(|tx| verbs::create(tx, ME, "Top/x", None, NOW)).await.unwrap_err();
        assert_eq!(one_more.refusal().unwrap().reply().to_string()[..9], *"452 4.2.4");
        let mut least = Duration::MAX;
        for (from, to) in [("Top", "Bottom"), ("Bottom", "Top"), ("Top", "Côté")] {
            let began = Instant::now();
            assert!(m.write(move |tx| verbs::rename(tx, ME, from, to, NOW)).await.unwrap());
            least = least.min(began.elapsed());
        }
        let all = m.store().read(|tx| verbs::folders(tx, ME)).await.unwrap();
        assert_eq!(all.iter().filter(|f| f.name.starts_with("Côté/")).count(), 10_000 - there);
        // One statement for each took a second on PostgreSQL.
        assert!(least < Duration::from_millis(300), "{}: {least:?}", bed.name());
        check(&m).await;
    });
}

#[test]
fn what_is_below_a_mailbox_moves_with_it_or_not_at_all() {
    on_each_engine(async |bed| {
        let m = open(bed);
        account(&m).await;
        let names = async || {
            let all = m.store().read(|tx| verbs::folders(tx, ME)).await.unwrap();
            let of_test = all.into_iter().map(|f| f.name).filter(|name| name.starts_with('a') || name.starts_with('z'));
            of_test.collect::<Vec<_>>()
        };
        for name in ["a/b/b/b", "a/b/c", "a0", "ab", "z/c"] {
            m.write(move |tx| verbs::create(tx, ME, name, None, NOW)).await.unwrap();
        }
        m.write(|tx| verbs::delete(tx, ME, "z")).await.unwrap();
        // An engine that goes by age meets a/b/b/b first.
        m.write(|tx| verbs::delete(tx, ME, "a/b/b")).await.unwrap();
        m.write(|tx| verbs::create(tx, ME, "a/b/b", None, NOW)).await.unwrap();
        // z/c is in the way.
        let refused = m.write(|tx| verbs::rename(tx, ME, "a/b", "z", NOW)).await.unwrap_err();
        assert!(refused.refusal().unwrap().reply().text.contains("exists"), "{refused}");
        let before = ["a", "a/b", "a/b/b", "a/b/b/b", "a/b/c", "a0", "ab", "z/c"];
        assert_eq!(names().await, before, "{}", bed.name());
        // A level up, where each takes the name of its parent.
        m.write(|tx| verbs::delete(tx, ME, "a")).await.unwrap();
        m.write(|tx| verbs::rename(tx, ME, "a/b", "a", NOW)).await.unwrap();
        assert_eq!(names().await, ["a", "a/b", "a/b/b", "a/c", "a0", "ab", "z/c"], "{}", bed.name());
        check(&m).await;
    });
}

#[test]
fn mailboxes_are_made_renamed_and_deleted() {
    on_each_engine(async |bed| {
        let m = open(bed);
        account(&m).await;
        let names = async |m: &Mailboxes| {
            let all = m.store().read(|tx| verbs::folders(tx, ME)).await.unwrap();
            all.into_iter().map(|f| (f.name, f.id)).collect::<BTreeMap<_, _>>()
        };
        m.write(|tx| verbs::create(tx, ME, "Work/Plans/2024", None, NOW)).await.unwrap();
        let before = names(&m).await;
        assert!(before.contains_key("Work") && before.contains_key("Work/Plans"));
        assert!(m.write(|tx| verbs::rename(tx, ME, "Work", "Old/Work", NOW)).await.unwrap());
        let after = names(&m).await;
        assert_eq!(after["Old/Work/Plans/2024"], before["Work/Plans/2024"]);
        assert!(after.contains_key("Old") && !after.contains_key("Work"));
        for (bad, why) in [
            ("Old/Work/x/y", None),
            ("inbox", Some("exists")),
            ("Old", Some("exists")),
            ("a//b", Some("valid")),
            ("a*", Some("valid")),
            ("", Some("valid")),
            ("a\r\nb", Some("valid")),
        ] {
            let made = m.write(move |tx| verbs::create(tx, ME, bad, None, NOW)).await;
            match (made, why) {
                (Ok(_), None) => {}
                (Err(e), Some(word)) => assert!(e.refusal().unwrap().reply().text.contains(word), "{bad:?}: {e}"),
                (made, _) => panic!("{bad:?}: {made:?}"),
            }
        }
        for (from, to) in [("Old", "Old/x"), ("Nowhere", "x"), ("Old", "Sent")] {
            assert!(m.write(move |tx| verbs::rename(tx, ME, from, to, NOW)).await.is_err(), "{from} to {to}");
        }
        assert!(m.write(|tx| verbs::delete(tx, ME, "INBOX")).await.is_err());
        let folder = async |name| m.store().read(move |tx| verbs::folder(tx, ME, name)).await.unwrap().map(|f| f.id);
        assert_eq!((folder("inbox").await, folder("Work").await), (Some(INBOX), None));
        let work = after["Old/Work"];
        deliver(&m, work, b"x", Flags::default()).await;
        let view = m.open(ME, work).await.unwrap().unwrap();
        m.write(|tx| verbs::delete(tx, ME, "Old/Work")).await.unwrap();
        assert!(view.is_deleted() && m.open(ME, work).await.unwrap().is_none());
        m.purge().await.unwrap();
        check(&m).await;
        assert!(names(&m).await.contains_key("Old/Work/Plans"));
    });
}

#[test]
fn over_quota_is_refused_and_changes_nothing() {
    on_each_engine(async |bed| {
        let m = open(bed);
        m.write(|tx| verbs::create_account(tx, ME, 10, NOW)).await.unwrap();
        deliver(&m, INBOX, b"12345", Flags::default()).await;
        let view = m.open(ME, INBOX).await.unwrap().unwrap();
        let copied = view.copy(UidSet::from_ranges([(1, 1)]), MailboxId(2), false).await;
        assert_eq!(copied.unwrap_err().refusal().unwrap().reply().code, 452);
        check(&m).await;
    });
}

/// RFC 6851 §4.1: nothing grows, and moving to Trash is how programs delete.
#[test]
fn mail_of_a_full_account_can_be_moved() {
    on_each_engine(async |bed| {
        let m = open(bed);
        m.write(|tx| verbs::create_account(tx, ME, 10, NOW)).await.unwrap();
        deliver(&m, INBOX, b"12345", Flags::default()).await;
        m.write(|tx| verbs::set_quota(tx, ME, 4)).await.unwrap();
        let view = m.open(ME, INBOX).await.unwrap().unwrap();
        let moved = view.copy(UidSet::from_ranges([(1, 1)]), MailboxId(2), true).await.unwrap();
        assert_eq!((moved.from, moved.to), (vec![1], vec![1]));
        assert_eq!(view.latest().await.unwrap().len(), 0);
        check(&m).await;
        let room = m.store().read(|tx| verbs::room(tx, ME)).await.unwrap();
        assert_eq!(room, (8, 4));
    });
}

#[test]
fn a_copy_says_which_mailbox_is_missing() {
    on_each_engine(async |bed| {
        let m = open(bed);
        account(&m).await;
        let (one, nowhere) = (UidSet::from_ranges([(1, 1)]), MailboxId(99));
        for and_remove in [false, true] {
            let work = m.write(|tx| verbs::create(tx, ME, "Work", None, NOW)).await.unwrap();
            deliver(&m, work, b"12345", Flags::default()).await;
            let view = m.open(ME, work).await.unwrap().unwrap();
            let to_nowhere = view.copy(one.clone(), nowhere, and_remove).await.unwrap_err();
            m.write(|tx| verbs::delete(tx, ME, "Work")).await.unwrap();
            let from_nowhere = view.copy(one.clone(), INBOX, and_remove).await.unwrap_err();
            let refusals = [to_nowhere, from_nowhere].map(|e| mailbox::Refusal::of(e.refusal().unwrap().reply()));
            assert_eq!(refusals, [Some(mailbox::Refusal::NoDestination), Some(mailbox::Refusal::NoMailbox)]);
        }
    });
}

/// UIDs, numbers of mails and what was copied stay as they are while the bytes move.
#[test]
fn mail_comes_goes_is_copied_and_moved_while_packs_are_compacted() {
    const TABLES: &[References] = &[REFERENCES];
    for bed in testkit::engines().map(|bed| bed.with(|options| options.pack_octets = 4096)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let m = open(&bed);
            account(&m).await;
            let (other, stop) = (MailboxId(2), Arc::new(AtomicBool::new(false)));
            let (store, told) = (m.store().clone(), stop.clone());
            let compactor = tokio::task::spawn_blocking(move || {
                let mut copied = 0;
                while !told.load(Ordering::Relaxed) {
                    copied += store.compact(TABLES, &mut || true).unwrap().copied;
                }
                copied
            });
            let (mut r, mut sent) = (Random(1), BTreeMap::new());
            let mut clients = vec![Client::new(&m, INBOX).await, Client::new(&m, other).await];
            for n in 0..300 {
                let body = format!("Subject: {n}\r\n\r\n{}", "hello\r\n".repeat(30));
                let arrival = deliver(&m, INBOX, body.as_bytes(), Flags::default()).await;
                sent.insert(arrival.email, body);
                let view = clients[n % 2].view.clone();
                let max = u64::from(view.index().max_uid()) + 2;
                let from = r.below(max) as u32;
                let uids = UidSet::from_ranges([(from, from + r.below(8) as u32)]);
                match r.below(6) {
                    0 => drop(view.expunge(Some(uids), true).await.unwrap()),
                    1 => drop(view.copy(uids, other, false).await.unwrap()),
                    2 => drop(view.copy(uids, if n % 2 == 0 { other } else { INBOX }, true).await.unwrap()),
                    _ => {}
                }
                clients[n % 2].listen().await;
                for (_, email, _) in clients[n % 2].known.clone() {
                    let blobs = m.store().clone();
                    let read = move |tx: &mut store::Tx<'_>| {
                        let mut bytes = Vec::new();
                        if let Some(row) = verbs::email(tx, ME, email)? {
                            blobs.blob(row.blob)?.read(0, u64::MAX, &mut bytes)?;
                        }
                        Ok(bytes)
                    };
                    let bytes = m.store().read(read).await.unwrap();
                    assert!(bytes.is_empty() || bytes == sent[&email].as_bytes(), "{}", bed.name());
                }
            }
            stop.store(true, Ordering::Relaxed);
            assert!(compactor.await.unwrap() > 0, "{}", bed.name());
            for client in &mut clients {
                client.listen().await;
                let fresh = Client::new(&m, client.view.mailbox()).await;
                assert_eq!(client.known, fresh.known, "{}", bed.name());
            }
            check(&m).await;
            // Emptied, all but what is written to is given back.
            for client in clients {
                client.view.expunge(None, true).await.unwrap();
                client.view.expunge(Some(UidSet::from_ranges([(1, u32::MAX)])), true).await.unwrap();
            }
            let store = m.store().clone();
            tokio::task::spawn_blocking(move || {
                let left = || store.scan_packs(|_, _, _| {}).unwrap().len();
                for _ in 0..500 {
                    store.compact(TABLES, &mut || true).unwrap();
                    if left() <= 1 {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                panic!("{} packs are left", left());
            })
            .await
            .unwrap();
            check(&m).await;
        });
        drop(runtime);
    }
}

#[test]
fn every_statement_is_understood() {
    for bed in testkit::engines() {
        let store = bed.open(&[MIGRATIONS]);
        for sql in mailbox::ALL {
            store.read_blocking(move |tx| tx.prepare(sql)).unwrap();
        }
    }
}
