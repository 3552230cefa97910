//! The dispatcher: claims what is due and hands it to the lines; and the way back, for what has no place in them.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{BlobId, OrganisationId, Reply, Stream, Timestamp};
use queue::source::{self, DEFAULT, Delivered, Judged, Member, Setup, SourceId, What, day_of};
use queue::{Claimed, Content, Delivery, Due, Group, Held, Outcome, Release, Want};
use store::{Lane, Tx};
use tokio::time::{Instant, sleep, sleep_until};

use crate::dialogue::ours;
use crate::hops::{Added, Later, No, Then, Work, hour_of};
use crate::outbox::{Inner, PAUSE};
use crate::route::Hop;
use crate::timetable::{Stopped, Why};
use crate::{finder, lease, local, schedule, used, worker};

/// Deliveries that one job claims: a few milliseconds of work.
const BATCH: usize = 256;
/// The longest time without a look at what is set up, or at the clock, which may have been set.
const LOOK: Duration = Duration::from_secs(60);
/// And at all that waits: where other nodes write too, this often, unless it takes so much of a reader's time.
const LOOK_WITH_PEERS: Duration = Duration::from_secs(5);
const SHARE: u32 = 50;

/// How long what is stopped is not looked at again, unless something is set up otherwise.
const STOPPED: Duration = Duration::from_secs(600);

/// Where an organisation is bound by one source and another has a place, that one's mail is looked for among the rest so often.
const AMONG: Duration = Duration::from_secs(1);

/// A claim of which it is not known whether it was made.
type Doubtful = (Release, Group);

/// Claims and hands out, until the server stops. Never dropped half-way: a claim that is made must be handed out.
pub(crate) async fn run(inner: &Arc<Inner>) {
    let (mut doubtful, mut look) = (Vec::new(), Instant::now());
    loop {
        inner.until_not_held().await;
        if inner.is_stopping() {
            return;
        }
        let now = inner.clock.now();
        let is_new_day = inner.hops.today() != day_of(now);
        let changed = inner.changed.swap(false, Ordering::Relaxed);
        if changed || is_new_day || look <= Instant::now() {
            if !set_up(inner).await {
                continue;
            }
            look = Instant::now() + LOOK;
            if changed {
                inner.look.notify_one();
            }
            // What was set up otherwise meanwhile comes before what came after it.
            continue;
        }
        inner.hops.begin_hour(hour_of(now));
        let rooms = inner.hops.rooms();
        let wants = inner.timetable.pick(now, &rooms, BATCH);
        let pause = match wants.is_empty() {
            false if claim(inner, wants, &mut doubtful).await => continue,
            false => PAUSE,
            true => inner.timetable.next(now, &rooms).map_or(LOOK, |next| until(next, inner.clock.now())),
        };
        tokio::select! {
            () = inner.stopped() => return,
            () = inner.room.notified() => {}
            () = inner.timetable.bell.notified() => {}
            () = sleep(pause) => {}
            () = sleep_until(look) => {}
        }
    }
}

/// Learns what mail leaves by. Nothing is sent before that is known.
async fn set_up(inner: &Arc<Inner>) -> bool {
    let now = inner.clock.now();
    match way_out(inner, day_of(now)).await {
        Ok((setup, delivered, used)) => {
            // Not before the last was judged.
            inner.hops.begin_hour(hour_of(now));
            inner.hops.resume(&setup, used);
            if let Some(moved) = inner.hops.set_up(&setup, &delivered) {
                inner.timetable.stop(stopped(&setup));
                call(inner);
                moved.into_iter().for_each(|(hop, work)| line_up(inner, &hop, work));
            }
            true
        }
        Err(error) => not_set_up(inner, &error).await,
    }
}

/// What mail leaves by here.
type WayOut = (Setup, Vec<(SourceId, Delivered)>, Vec<Then>);

/// What mail leaves by here, what new sources have delivered, and what those have used that were not here: also as another node's.
async fn way_out(inner: &Inner, today: i64) -> store::Result<WayOut> {
    let mut setup = inner.store.read(source::setup).await?;
    lease::share(inner, &mut setup).await?;
    if judge(inner, &setup, today).await? {
        setup = inner.store.read(source::setup).await?;
        lease::share(inner, &mut setup).await?;
    }
    let of = setup.clone();
    let delivered = inner.store.read(move |tx| source::delivered(tx, &of, today)).await?;
    let used = used::read(inner, &setup).await?;
    Ok((setup, delivered, used))
}

/// Judges the last day of new sources, if there is one that was not; whether something was found.
async fn judge(inner: &Inner, setup: &Setup, today: i64) -> store::Result<bool> {
    let sources: BTreeSet<SourceId> = setup.caps.iter().map(|cap| cap.source).collect();
    let sources: Vec<SourceId> = sources.into_iter().collect();
    if sources.is_empty() {
        return Ok(false);
    }
    let (of, cold) = (sources.clone(), inner.hops.policies().warmup.cold_after_days);
    if !inner.store.read(move |tx| source::is_to_judge(tx, &of, today, cold)).await? {
        return Ok(false);
    }
    let judge = inner.hops.policies().warmup.judge.clone();
    let by = judge.clone();
    let judged = inner.store.write(move |tx| source::judge(tx, &sources, today, cold, |fared| by.of(fared))).await?;
    for Judged { source, site, finding, .. } in &judged {
        let source = setup.sources.iter().find(|s| s.id == *source).map_or(DEFAULT, |s| &s.name);
        match judge.alerts(finding) {
            true => tracing::warn!(source, %site, %finding, "a new source fares badly at a site"),
            false => tracing::info!(source, %site, %finding, "a new source does not go on at a site as planned"),
        }
    }
    // What was over is forgotten as well.
    Ok(true)
}

async fn not_set_up(inner: &Inner, error: &store::Error) -> bool {
    tracing::error!(%error, "what mail leaves by cannot be read; trying again");
    inner.changed.store(true, Ordering::Relaxed);
    tokio::select! {
        () = inner.stopped() => {}
        () = sleep(PAUSE) => {}
    }
    false
}

/// Of what nothing is claimed: by streams, that are stopped themselves or by all their sources, and domains. What leaves only by
/// sources that are another server's is that one's to claim.
fn stopped(setup: &Setup) -> Stopped {
    let quiet = setup.quiet.iter().map(|q| ((q.stream, q.organisation), *q)).collect();
    let mut stopped = Stopped { quiet, ended: setup.ended.clone(), ..Stopped::default() };
    for stop in &setup.stops {
        match &stop.what {
            What::Stream(stream) => stopped.streams[*stream as usize] = true,
            What::Domain(domain) => _ = stopped.domains.insert(Group::digest(domain)),
            What::Source(_) | What::Site(_) | What::Organisation(..) => {}
        }
    }
    let is_stopped = |source| setup.stops.iter().any(|stop| stop.what == What::Source(source));
    let none_goes = |members: &[Member]| members.iter().all(|member| is_stopped(member.source));
    for stream in Stream::ALL {
        let is_stopped = stopped.streams[stream as usize];
        for pool in setup.pools.iter().filter(|pool| pool.streams.contains(&stream)) {
            let own = |organisation| ((stream, organisation), is_stopped || none_goes(&pool.members));
            stopped.own.extend(pool.organisation.map(own));
        }
        stopped.streams[stream as usize] |= none_goes(&setup.members(stream, OrganisationId::HOUSE));
    }
    for stop in &setup.stops {
        if let What::Organisation(by, of) = stop.what {
            let all = Stream::ALL.into_iter().filter(|stream| of.is_none_or(|of| of == *stream));
            stopped.own.extend(all.map(|stream| ((stream, by), true)));
        }
    }
    stopped
}

/// Looks at what waits, when something was set up and from time to time, until the server stops. Nobody waits for that: where
/// a million wait it takes a second.
pub(crate) async fn look(inner: &Arc<Inner>) {
    let usual = if inner.peers.is_some() { LOOK_WITH_PEERS } else { LOOK };
    let mut wait = usual;
    loop {
        tokio::select! {
            () = inner.stopped() => return,
            () = inner.look.notified() => {}
            () = sleep(wait) => {}
        }
        let began = Instant::now();
        wait = match load(inner).await {
            Ok(()) => usual.max(began.elapsed() * SHARE),
            Err(error) => {
                tracing::error!(%error, "the queue cannot be read; trying again");
                PAUSE
            }
        };
    }
}

/// Learns what waits. What was claimed meanwhile may ring once more: nothing is found then.
async fn load(inner: &Inner) -> store::Result<()> {
    let mut behind = None;
    loop {
        let page = inner.store.read(move |tx| queue::scheduled(tx, behind)).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        behind = Some(*last);
        page.into_iter().for_each(|(group, due)| inner.timetable.ring(group, due));
    }
}

/// Claims what is wanted and hands it out. `doubtful` are claims of which it is not known whether they were made.
async fn claim(inner: &Arc<Inner>, wants: Vec<Want>, doubtful: &mut Vec<Doubtful>) -> bool {
    let suppressed = inner.suppressed.load(Ordering::Relaxed);
    let found = match take_back(inner, doubtful).await {
        Ok(()) => claim_due(inner, &wants, doubtful).await,
        Err(error) => Err(error),
    };
    let Due { claimed, held, next, suppressed: unsent } = match found {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, "nothing can be claimed from the queue; trying again");
            inner.timetable.failed(&wants);
            return false;
        }
    };
    for Held { message, number, why } in held {
        tracing::error!(queue = %message, number, error = %why, "a delivery cannot be read and is held");
    }
    for Claimed { message, deliveries } in &claimed {
        inner.hops.claimed(message.stream, message.organisation, deliveries.len());
    }
    inner.timetable.claimed(&next);
    if unsent > 0 {
        tracing::info!(deliveries = unsent, "not sent: the addresses are suppressed");
    }
    // Somebody was suppressed since the claim: who that was is asked again (trap 35).
    if inner.suppressed.load(Ordering::Relaxed) != suppressed {
        let now = inner.clock.now();
        claimed.iter().for_each(|c| c.deliveries.iter().for_each(|d| inner.release(&c.message, d, now)));
        return true;
    }
    for c in claimed {
        hand_out(inner, c);
    }
    true
}

async fn claim_due(inner: &Inner, wants: &[Want], doubtful: &mut Vec<Doubtful>) -> store::Result<Due> {
    let (queue, now, wants) = (inner.queue.clone(), inner.clock.now(), wants.to_vec());
    // An error may mean that the commit was not answered. What the job wanted is known then all the same.
    let wanted = Arc::new(Mutex::new(Vec::new()));
    let note = wanted.clone();
    let job = move |tx: &mut Tx<'_>, _: &[BlobId]| {
        let due = queue::claim_due(tx, &queue, &wants, now)?;
        let mut wanted = note.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.clear();
        for c in &due.claimed {
            let release = |d: &Delivery| Release { message: c.message.id, number: d.number, until: now, expires: None };
            wanted.extend(c.deliveries.iter().map(|d| (release(d), c.message.group(d))));
        }
        Ok(due)
    };
    let found = inner.store.write_with(Lane::Patient, Vec::new(), job).await;
    if found.is_err() {
        doubtful.append(&mut wanted.lock().unwrap_or_else(PoisonError::into_inner));
    }
    found
}

async fn take_back(inner: &Inner, doubtful: &mut Vec<Doubtful>) -> store::Result<()> {
    if doubtful.is_empty() {
        return Ok(());
    }
    let (queue, all) = (inner.queue.clone(), doubtful.iter().map(|(release, _)| *release).collect::<Vec<_>>());
    let now = inner.clock.now();
    inner.store.write(move |tx| queue::take_back(tx, &queue, &all, now)).await?;
    for (release, group) in doubtful.drain(..) {
        inner.timetable.ring(group, release.until);
    }
    Ok(())
}

/// From `now` to `next`, rounded up: not a millisecond too early.
fn until(next: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis((next.0 - now.0).clamp(0, LOOK.as_millis() as i64) as u64)
}

fn hand_out(inner: &Arc<Inner>, claimed: Claimed) {
    let m = &claimed.message;
    let may_be_ours = m.release.is_some() || matches!(m.content, Content::Made(_));
    if may_be_ours { local::hand_out(inner, claimed) } else { go_out(inner, claimed) }
}

/// A message's deliveries: to a hop of the administrator's all that are his, else to each domain its own.
pub(crate) fn go_out(inner: &Arc<Inner>, claimed: Claimed) {
    let Claimed { message, deliveries } = claimed;
    let (mut by_hop, mut by_domain) = (HashMap::<Hop, Vec<Delivery>>::new(), HashMap::<String, Vec<Delivery>>::new());
    for delivery in deliveries {
        match inner.routes.chosen(delivery.to.domain(), message.require_tls) {
            Some(hop) => by_hop.entry(hop).or_default().push(delivery),
            None => by_domain.entry(delivery.to.domain().to_owned()).or_default().push(delivery),
        }
    }
    let work = |deliveries| Work {
        message: message.clone(),
        deliveries,
        again: false,
        permit: None,
        seat: None,
        ticket: None,
    };
    for (hop, deliveries) in by_hop {
        line_up(inner, &hop, work(deliveries));
    }
    for (domain, deliveries) in by_domain {
        finder::find(inner, &domain, message.require_tls, work(deliveries));
    }
}

/// Puts work in line for its hop.
pub(crate) fn line_up(inner: &Arc<Inner>, hop: &Hop, work: Work) {
    let seen = inner.timetable.stops_seen();
    match inner.hops.add(hop, work) {
        Added::InLine => {}
        Added::Start(hop) => worker::start(inner, hop),
        Added::Part(mut work, room) => {
            let rest = Work { deliveries: work.deliveries.split_off(room), ..work.clone() };
            line_up(inner, hop, work);
            line_up(inner, hop, rest);
        }
        Added::Apart(work, stopped) => {
            keep(inner, hop, stopped, (Why::Stopped, seen), None);
            line_up(inner, hop, work);
        }
        Added::No(work, No::Stopped) => keep(inner, hop, work, (Why::Stopped, seen), None),
        Added::Bound(work, wait, hop) => bound(inner, &hop, work, wait, seen),
        Added::No(work, No::Spent { pending, is_for_an_hour }) => {
            let now = inner.clock.now();
            let said = "No attempt was made: what it may leave by is new, and had sent enough";
            let work = unless_over(inner, work, now, said);
            // Of the hour by which it was decided: the next may have begun already, and is not known yet.
            let hour = if is_for_an_hour { inner.hops.hour() + 1 } else { (inner.hops.today() + 1) * 24 };
            let next = Timestamp::from_secs(hour * 3600);
            // What is on its way may not arrive, and leave its place to this.
            let soon = Timestamp(now.0 + schedule::millis(STOPPED));
            keep(inner, hop, work, (Why::Spent, seen), Some(if pending { next.min(soon) } else { next }));
        }
        Added::No(work, No::OutOfReach) => {
            let text = format!("{hop} has no address of a family that our sources for this mail have");
            inner.settle_all(work, &ours(Reply::new(451, 4, 4, text)));
        }
        Added::Full(work, wait, hop) => full(inner, &hop, work, wait),
        Added::Later(work, wait, hop) => too_many_for(inner, &hop, work, wait),
    }
}

/// Its organisation has sent what it may by the source that was to send it, as things were when that was `seen`.
pub(crate) fn bound(inner: &Inner, hop: &Hop, work: Work, wait: Duration, seen: u64) {
    let now = inner.clock.now();
    let wait = inner.hops.nobody_takes(hop, &work, wait).unwrap_or(wait.min(AMONG));
    let work = unless_over(inner, work, now, "No attempt was made: its organisation had sent enough there");
    keep(inner, hop, work, (Why::Bound, seen), Some(Timestamp(now.0 + schedule::millis(wait))));
}

/// Its line is full: it keeps its time, and nothing of its kind is claimed before the line is shorter ([`call`]).
fn full(inner: &Inner, hop: &Hop, work: Work, wait: Duration) {
    let now = inner.clock.now();
    if work.deliveries.iter().any(|d| d.expires <= now) {
        return too_many(inner, work, wait);
    }
    if let Some(group) = work.deliveries.first().map(|d| work.message.group(d)) {
        inner.timetable.hold_at(hop, group, Timestamp(now.0 + schedule::millis(wait)), now);
        // In this order: a line that empties in between has nobody to call.
        if !inner.hops.refused(hop, group) {
            inner.timetable.let_go(&[group]);
        }
    }
    work.deliveries.iter().for_each(|d| inner.release(&work.message, d, now));
}

/// Those whose line was full are claimed of again, if there is room; and lines that may have a connection again get it.
pub(crate) fn call(inner: &Arc<Inner>) {
    let (called, start) = inner.hops.called();
    if !called.is_empty() {
        inner.timetable.let_go(&called);
    }
    start.into_iter().for_each(|hop| worker::start(inner, hop));
}

/// It keeps its place in the queue, and its time. Its groups are looked at again then, or soon; at once when what was seen
/// to be set up is so no longer.
fn keep(inner: &Inner, hop: &Hop, work: Work, why: (Why, u64), until: Option<Timestamp>) {
    let now = inner.clock.now();
    let until = until.unwrap_or(Timestamp(now.0 + schedule::millis(STOPPED)));
    for d in &work.deliveries {
        inner.timetable.hold_as_seen(hop, work.message.group(d), until, now, why);
        inner.release(&work.message, d, now);
    }
}

/// Those whose time is over (trap 20), and the others.
fn expired(inner: &Inner, mut work: Work, now: Timestamp) -> (Work, Work) {
    let message = work.message.clone();
    let is_over = |d: &mut Delivery| d.expires <= now && inner.timetable.longer(&message, d, now).is_none();
    let over = work.deliveries.extract_if(.., is_over).collect();
    (Work { deliveries: over, ..work.clone() }, work)
}

/// Ends what has no time left to be kept back longer, as it says; the rest.
fn unless_over(inner: &Inner, work: Work, now: Timestamp, said: &'static str) -> Work {
    let (over, rest) = expired(inner, work, now);
    let said = ours(Reply::new(451, 7, 0, said));
    over.deliveries.into_iter().for_each(|d| inner.settle(&over.message, d, Outcome::Expired, said.clone()));
    rest
}

/// All of it later, that was to go to a hop.
pub(crate) fn put_off(inner: &Inner, hop: &Hop, all: Vec<Later>) {
    all.into_iter().for_each(|(work, wait)| too_many_for(inner, hop, work, wait));
}

/// More than the hop bears of the source that was to send it: nothing of its kind is claimed before another source, or this one, takes
/// some.
pub(crate) fn too_many_for(inner: &Inner, hop: &Hop, work: Work, wait: Duration) {
    if let Some(wait) = inner.hops.nobody_takes(hop, &work, wait) {
        hold(inner, &work, wait, Some(hop));
    }
    later(inner, work, wait);
}

/// More than there is a place for: it comes again later, unless its time is over (trap 20), and nothing of its kind is claimed before.
pub(crate) fn too_many(inner: &Inner, work: Work, wait: Duration) {
    hold(inner, &work, wait, None);
    later(inner, work, wait);
}

/// Nothing of this kind is claimed before, as a hop has no place for it, if one has not.
fn hold(inner: &Inner, work: &Work, wait: Duration, hop: Option<&Hop>) {
    if let Some(d) = work.deliveries.first() {
        let now = inner.clock.now();
        let (group, until) = (work.message.group(d), Timestamp(now.0 + schedule::millis(wait)));
        match hop {
            Some(hop) => inner.timetable.hold_at(hop, group, until, now),
            None => inner.timetable.hold(group, until, now, Why::Busy),
        }
    }
}

/// This comes again later, whatever else does. What was kept back until its time was over has a while more.
pub(crate) fn later(inner: &Inner, work: Work, wait: Duration) {
    let now = inner.clock.now();
    let (over, rest) = expired(inner, work, now);
    for d in over.deliveries {
        let said = ours(Reply::new(451, 4, 5, "No attempt was made: there is too much mail for that host"));
        inner.settle(&over.message, d, Outcome::Expired, said);
    }
    let (m, until) = (&rest.message, Timestamp(now.0 + schedule::millis(wait)));
    for d in &rest.deliveries {
        match inner.timetable.longer(m, d, now).filter(|_| d.expires <= now) {
            Some(expires) => inner.prolong(m, d, until, expires),
            None => inner.release(m, d, until),
        }
    }
}

#[cfg(test)]
mod tests {
    use queue::source::{Pool, Stop};

    use super::*;
    use crate::hops::Rooms;
    use crate::timetable::Timetable;

    /// Organisations of which something is claimed, of marketing of two.
    fn claimed_of(setup: &Setup) -> Vec<i64> {
        let timetable = Timetable::default();
        timetable.stop(stopped(setup));
        for organisation in [1, 2].map(OrganisationId) {
            timetable.ring(Group { stream: Stream::Marketing, organisation, domain: 1, priority: 0 }, Timestamp(0));
        }
        let next = timetable.next(Timestamp(0), &Rooms::default());
        let wants = timetable.pick(Timestamp(0), &Rooms::default(), 9);
        assert_eq!((next.is_some(), timetable.first_due().is_some()), (!wants.is_empty(), !wants.is_empty()));
        wants.iter().map(|want| want.group.organisation.0).collect()
    }

    #[test]
    fn only_what_leaves_by_sources_of_this_server_that_go_is_claimed() {
        let [own, all] = [1, 2].map(SourceId::read);
        let pool = |source, organisation: Option<i64>| Pool {
            name: "p".into(),
            members: vec![Member { source, weight: 1 }],
            streams: vec![Stream::Marketing],
            organisation: organisation.map(OrganisationId),
        };
        let setup = Setup { pools: vec![pool(own, Some(1)), pool(all, None)], ..Setup::default() };
        let held = |held: &[SourceId]| {
            let mut setup = setup.clone();
            setup.restrict(held);
            claimed_of(&setup)
        };
        assert_eq!([held(&[own, all]), held(&[own]), held(&[all]), held(&[])], [vec![1, 2], vec![1], vec![2], vec![]]);
        let stop = |what| {
            let stops = vec![Stop { what, drains: false, since: Timestamp(0) }];
            claimed_of(&Setup { stops, ..setup.clone() })
        };
        assert_eq!([stop(What::Source(own)), stop(What::Source(all))], [vec![2], vec![1]]);
        assert!(stop(What::Stream(Stream::Marketing)).is_empty());
        let organisation = |of, stream| stop(What::Organisation(OrganisationId(of), stream));
        assert_eq!([organisation(1, None), organisation(2, Some(Stream::Marketing))], [vec![2], vec![1]]);
        assert_eq!(organisation(1, Some(Stream::Mail)), vec![1, 2]);
    }
}
