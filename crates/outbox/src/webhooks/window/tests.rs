use base::{OrganisationId, Stream};
use queue::QueueId;
use queue::log::What;
use queue::receipt::Head;

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const HOUR: i64 = 3_600_000;

fn later(ms: i64) -> Timestamp {
    Timestamp(NOW.0 + ms)
}

fn line(at: At, to: &str) -> Line {
    let head = Head {
        message: QueueId::FIRST,
        number: at.1,
        to: to.to_owned(),
        from: "joe@ours.test".into(),
        message_id: String::new(),
        created: NOW,
        stream: Stream::Mail,
        organisation: OrganisationId(1),
    };
    Line {
        at,
        what: What::Delivered,
        time: Timestamp(NOW.0 + at.0),
        head,
        attempts: 1,
        uncertain: 0,
        class: String::new(),
        host: String::new(),
        reply: None,
        talk: None,
        detail: String::new(),
    }
}

/// A window that has read so many positions from 1 on, each with a line for each of these.
fn window(positions: i64, to: &[&str]) -> Window {
    let mut window = Window::new(&Record::default());
    for position in 1..=positions {
        let lines: Vec<Line> = to.iter().zip(0..).map(|(to, place)| line((position, place), to)).collect();
        window.read(&lines, Cursor::before(position + 1), 0);
    }
    window
}

fn begun(window: &mut Window, now: Timestamp) -> Vec<At> {
    std::iter::from_fn(|| window.begin(now).map(|(at, ..)| at)).collect()
}

const DOWN: Failure = Failure::Down(None);

#[test]
fn events_of_one_recipient_go_one_after_the_other() {
    let mut w = window(3, &["jane@b.test", "Jim@b.test"]);
    assert_eq!(begun(&mut w, NOW), [(1, 0), (1, 1)]);
    w.taken((1, 1), NOW);
    assert_eq!(begun(&mut w, NOW), [(2, 1)]);
    // One is not taken: only those of its recipient wait for it, in whatever letters it is written.
    assert_eq!(w.failed((1, 0), Failure::Refused, "no".into(), NOW, 0), Fate::Again);
    w.taken((2, 1), NOW);
    assert_eq!(begun(&mut w, NOW), [(3, 1)]);
    w.taken((3, 1), NOW);
    w.read(&[line((4, 0), "JANE@b.test"), line((4, 1), "joan@b.test")], Cursor::before(5), 0);
    assert_eq!((begun(&mut w, NOW), begun(&mut w, later(4999))), (vec![(4, 1)], vec![]));
    assert_eq!(w.wakes(), Some(later(5000)));
    assert_eq!(begun(&mut w, later(5000)), [(1, 0)]);
    for at in [(1, 0), (2, 0), (3, 0), (4, 0)] {
        w.taken(at, later(6000));
        begun(&mut w, later(6000));
    }
    w.taken((4, 1), later(6000));
    assert_eq!((w.wakes(), w.stands().0.taken, w.stands().0.position), (None, 8, 4));
}

#[test]
fn what_is_written_down_is_what_a_crash_may_not_lose() {
    let mut w = window(2, &["a@b.test", "b@b.test"]);
    // Nothing was taken: all of it is read again.
    assert_eq!((begun(&mut w, NOW).len(), w.stands().0.position, w.stands().1.len()), (2, 0, 0));
    w.failed((1, 0), Failure::Refused, "no".into(), NOW, 0);
    assert_eq!(w.stands().0.position, 0, "the other of the batch is still on its way");
    w.taken((1, 1), NOW);
    // The first waits in a row; nothing of the second place is done.
    let (record, waits) = w.stands();
    assert_eq!((record.position, waits.keys().copied().collect::<Vec<_>>()), (1, vec![(1, 0)]));
    assert_eq!(begun(&mut w, NOW), [(2, 1)]);
    w.taken((2, 1), NOW);
    // What stands behind the one that waits, waits in a row too.
    let (record, waits) = w.stands();
    assert_eq!((record.position, waits.keys().copied().collect::<Vec<_>>()), (2, vec![(1, 0), (2, 0)]));
    assert_eq!((waits[&(1, 0)].tries, waits[&(2, 0)].tries), (1, 0));
    // A life later.
    let mut again = Window::new(&record);
    assert_eq!(again.wants(), Some(Cursor::before(3)));
    waits.iter().for_each(|(at, waiting)| again.restore(&line(*at, "a@b.test"), *waiting));
    assert_eq!((begun(&mut again, NOW), begun(&mut again, later(5000))), (vec![], vec![(1, 0)]));
    again.taken((1, 0), later(5000));
    assert_eq!(begun(&mut again, later(5000)), [(2, 0)]);
    again.taken((2, 0), later(5000));
    let (record, waits) = again.stands();
    assert_eq!((record.position, record.taken, waits.len()), (2, 2, 0), "only what is new is counted");
    again.written(&record);
    assert_eq!(again.stands().0.taken, 0);
}

#[test]
fn tries_are_spread_over_days() {
    let mut w = window(1, &["a@b.test"]);
    let (mut now, mut waits) = (NOW, Vec::new());
    loop {
        assert_eq!(begun(&mut w, now), [(1, 0)]);
        let fate = w.failed((1, 0), Failure::Refused, "no".into(), now, u64::MAX);
        if fate != Fate::Again {
            assert_eq!(fate, Fate::Hopeless);
            break;
        }
        let wait = w.wakes().unwrap().0 - now.0;
        assert_eq!(begun(&mut w, Timestamp(now.0 + wait - 1)), []);
        (now, _) = (Timestamp(now.0 + wait), waits.push(wait));
    }
    // The schedule of the specification, and up to a tenth more.
    let schedule = [5_000, 300_000, 1_800_000, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
    assert_eq!(waits.len(), schedule.len());
    assert!(
        waits.iter().zip(schedule).all(|(wait, at_least)| (at_least..=at_least / 10 * 11).contains(wait)),
        "{waits:?}"
    );
    // Nothing was taken meanwhile: it is kept.
    assert_eq!((w.stands().0.given_up, w.stands().1.len()), (0, 1));
    assert_eq!((w.stands().0.failing, w.stands().0.why.as_str()), (Some(NOW), "no"));
}

#[test]
fn what_is_never_taken_is_given_up_while_others_are() {
    let mut w = window(1, &["a@b.test", "b@b.test"]);
    w.read(&[line((2, 0), "a@b.test")], Cursor::before(3), 0);
    assert_eq!(begun(&mut w, NOW).len(), 2);
    w.failed((1, 0), Failure::Refused, "no".into(), NOW, 0);
    w.taken((1, 1), later(1));
    for _ in 0..8 {
        let now = w.wakes().unwrap();
        begun(&mut w, now);
        assert_eq!(w.failed((1, 0), Failure::Refused, "no".into(), now, 0), Fate::Again);
    }
    let now = w.wakes().unwrap();
    assert_eq!(begun(&mut w, now), [(1, 0)]);
    assert_eq!(w.failed((1, 0), Failure::Refused, "no".into(), now, 0), Fate::GivenUp);
    assert_eq!((w.stands().0.given_up, begun(&mut w, now)), (1, vec![(2, 0)]), "the next of its recipient goes on");
}

#[test]
fn nobody_is_hammered_who_is_down() {
    let to: Vec<String> = (0..100).map(|n| format!("u{n}@b.test")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let mut w = window(1, &to);
    let first = begun(&mut w, NOW);
    assert_eq!(first.len(), FLYING);
    for at in first {
        w.failed(at, DOWN, "refused".into(), NOW, 0);
    }
    // One at a time, at growing intervals, however many wait.
    let (mut now, mut tries) = (NOW, 0);
    while now < later(HOUR) {
        now = w.wakes().unwrap();
        let all = begun(&mut w, now);
        assert_eq!(all.len(), 1, "at {}", now.0 - NOW.0);
        w.failed(all[0], DOWN, "refused".into(), now, 0);
        tries += 1;
        assert!(tries < 40, "so many in {} s", (now.0 - NOW.0) / 1000);
    }
    assert!(tries > 10, "{tries} in an hour");
    // It is up again: all at once.
    now = w.wakes().unwrap();
    let all = begun(&mut w, now);
    w.taken(all[0], now);
    assert_eq!((begun(&mut w, now).len(), w.stands().0.failing), (FLYING, None));
}

#[test]
fn a_wish_for_a_pause_is_granted_within_bounds() {
    for (wish, pause) in [(30, 30), (7200, 3600)] {
        let mut w = window(2, &["a@b.test", "b@b.test"]);
        let first = begun(&mut w, NOW);
        w.failed(first[0], Failure::Down(Some(Duration::from_secs(wish))), "429".into(), NOW, 0);
        w.taken(first[1], NOW);
        // Others, too; and the one that was refused not before the time that was asked for.
        assert_eq!((begun(&mut w, NOW), w.wakes()), (vec![], Some(later(pause * 1000))));
        assert_eq!(begun(&mut w, later(pause * 1000)).contains(&first[0]), wish == 30);
        assert_eq!(w.stands().1.get(&first[0]).map_or(wish as i64 * 1000, |one| one.due.0 - NOW.0), wish as i64 * 1000);
    }
}

#[test]
fn the_window_is_bounded() {
    let mut w = window(0, &[]);
    let mut read = 0;
    while let Some(from) = w.wants() {
        w.read(
            &[line((from.position, 0), &format!("u{}@b.test", from.position))],
            Cursor::before(from.position + 1),
            0,
        );
        read += 1;
    }
    assert_eq!(read, MOST);
    let first = begun(&mut w, NOW);
    first.iter().for_each(|at| w.taken(*at, NOW));
    assert!(w.wants().is_some());
}
