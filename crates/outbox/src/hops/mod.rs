//! What is ready to be sent, in a line for each next hop, and how many connections serve it. Lines whose hosts are of one
//! site share what the site bears ([`crate::shape`]): a domain's mail hosts are a line, and all domains at one provider are
//! a site. All of it is in memory: the truth is in the queue's tables.

mod dead;
mod fleet;
mod line;
mod mailboxes;
mod networks;
mod others;
mod pauses;
mod ready;
mod room;
mod shown;
mod sites;
mod stops;
mod tenants;
mod traffic;
mod turns;
mod used;
mod warmup;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Address, OrganisationId, Reply, Stream};
use queue::{Content, Delivery, Group, Message};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::route::Hop;
use crate::shape::{Course, Hint, Hold, MayConnect, Policies, Policy, Ticket, Words, on_one_line, urgency};
use fleet::{Denied, Fleet};
pub(crate) use fleet::{No, choose};
use line::Line;
use mailboxes::Mailboxes;
pub use pauses::Pause;
use ready::Turn;
pub(crate) use ready::WEIGHTS;
pub(crate) use room::Rooms;
pub use shown::{Kept, SiteState, Traffic};
pub(crate) use sites::Ways;
use sites::{Place, SiteKey, Sites};
use tenants::Seat;
pub use tenants::TenantState;
use traffic::{Came, Counted};
pub(crate) use used::Then;
use warmup::day_of_hour;
pub(crate) use warmup::{Permit, Warmups, hour_of};

/// Connections in all; those that have only marketing to carry leave a tenth of them to the others.
pub(crate) const CONNECTIONS: usize = 200;
pub(crate) const CONNECTIONS_OF_MARKETING: usize = CONNECTIONS * 9 / 10;
/// How long a connection waits for more, when half of all are in use.
pub(crate) const IDLE: Duration = Duration::from_secs(5);
/// How long work waits whose organisation has as much in line as it may.
const CROWD: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// Works of a line that are looked through for domains.
const DOMAINS: usize = 20;
/// How far ahead a turn is given to what a site is too slow for.
const TURN: Duration = Duration::from_secs(6 * 3600);

/// Characters of a reply that are kept for those who look.
const SHOWN: usize = 300;

/// Deliveries of one message to one hop: a transaction to be.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) message: Arc<Message>,
    pub(crate) deliveries: Vec<Delivery>,
    /// A connection had it already, and turned out to be closed.
    pub(crate) again: bool,
    /// It may be delivered by a source that may not deliver much.
    pub(crate) permit: Option<Arc<Permit>>,
    /// Its organisation has figures of its own, and it counts.
    pub(crate) seat: Option<Arc<Seat>>,
    /// It went out: with this its site is told what came of it.
    pub(crate) ticket: Option<Ticket>,
}

impl Work {
    /// Somebody is to make it when it leaves.
    pub(crate) fn is_made(&self) -> bool {
        matches!(self.message.content, Content::Made(_))
    }

    /// The domain of the sender; empty for `<>`.
    pub(crate) fn sender(&self) -> &str {
        self.message.from.as_ref().map_or("", Address::domain)
    }
}

/// Work that is not to be begun before so long.
pub(crate) type Later = (Work, Duration);

/// The lines.
pub(crate) struct Hops {
    state: Mutex<State>,
    policies: Policies,
    /// Of which what new sources deliver is, as [`hour_of`] counts.
    hour: AtomicI64,
    /// Somebody is in [`State::called`], or in [`State::to_start`].
    has_called: AtomicBool,
}

#[derive(Default)]
struct State {
    fleet: Fleet,
    traffic: Counted,
    lines: HashMap<Hop, Line>,
    sites: Sites,
    connections: usize,
    networks: HashMap<IpAddr, usize>,
    mailboxes: Mailboxes,
    rooms: Rooms,
    /// Hops with work and no connection, as there were too many in all.
    starved: VecDeque<Hop>,
    /// Rung when one more of them waits.
    bell: Arc<Notify>,
    /// And when that is urgent.
    urgent: Arc<Notify>,
    /// Groups that may be claimed of again.
    called: BTreeSet<Group>,
    /// Hops for which a worker is counted, and is yet to be started.
    to_start: Vec<Hop>,
}

/// What became of work that was brought.
#[derive(Debug)]
pub(crate) enum Added {
    /// It is in line.
    InLine,
    /// It is in line, and a worker for this hop is to be started.
    Start(Hop),
    /// The line of this hop is too long: not before it is shorter ([`Hops::refused`]), or this time has passed.
    Full(Work, Duration, Hop),
    /// Its site wants nothing now by the source of this hop: not before this time has passed.
    Later(Work, Duration, Hop),
    /// Its organisation has sent as much as it may by that one: not before this time has passed.
    Bound(Work, Duration, Hop),
    /// No source can send it now.
    No(Work, No),
    /// One can send so many of its recipients, and no more.
    Part(Work, usize),
    /// The first may go on; the administrator stopped the domains of the second.
    Apart(Work, Work),
}

/// Those of a line, its site, and all.
pub(crate) type Bells = [Arc<Notify>; 3];

/// What a worker waits for, with bells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// Something to do.
    Work,
    /// A place where mail is made.
    Place,
}

/// What a worker is to do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// This.
    Send(Work),
    /// To wait for a bell, of its line, its site or all; it counts as idle from now on ([`Hops::wake`]).
    Rest(Bells),
    /// To wait for a place where mail of a stream is made, or for the bell of its line; it counts as one that does
    /// ([`Hops::wake`]).
    Make(Stream, Arc<Notify>),
    /// To rest as above, and so long at most: what is in line may go then.
    Until(Bells, Duration),
    /// To put this off, as its organisations have had their share: for longer than a connection rests.
    Bound(Vec<Later>),
    /// To wait for so long, as the site has had its share; or for a bell, which rings only for what is urgent.
    Wait(Bells, Duration),
    /// To put this off: its sender, or its mailbox, has had his share.
    Later(Work, Duration),
    /// To end: the connection has carried what it may, or another hop needs its place.
    Leave,
}

impl Hops {
    pub(crate) fn new(policies: Policies) -> Self {
        Hops { state: Mutex::default(), policies, hour: AtomicI64::new(0), has_called: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The counters are whole at every point where a holder could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hour it is, as [`hour_of`] counts. The first of a day begins when the day before was judged.
    pub(crate) fn begin_hour(&self, hour: i64) {
        self.hour.store(hour, Ordering::Relaxed);
    }

    /// The hour that began last.
    pub(crate) fn hour(&self) -> i64 {
        self.hour.load(Ordering::Relaxed)
    }

    /// And its day, as [`queue::source::day_of`] counts.
    pub(crate) fn today(&self) -> i64 {
        day_of_hour(self.hour())
    }

    /// How sites are treated.
    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    /// How many deliveries more may be claimed.
    pub(crate) fn rooms(&self) -> Rooms {
        self.lock().rooms.clone()
    }

    /// How many deliveries are claimed.
    pub(crate) fn in_hand(&self) -> usize {
        self.lock().rooms.in_hand()
    }

    /// So many deliveries of an organisation's stream were claimed.
    pub(crate) fn claimed(&self, stream: Stream, organisation: OrganisationId, n: usize) {
        self.lock().rooms.claimed(stream, organisation, n);
    }

    /// One of them is settled.
    pub(crate) fn settled(&self, stream: Stream, organisation: OrganisationId) {
        self.lock().rooms.settled(stream, organisation);
    }

    /// Puts work in line, for the source that is to send it.
    pub(crate) fn add(&self, hop: &Hop, mut work: Work) -> Added {
        (work.permit, work.seat) = (None, None);
        let (mut state, now) = (self.lock(), Instant::now());
        if let Some(stopped) = state.fleet.stops.apart(&mut work) {
            return Added::Apart(work, stopped);
        }
        let (hop, name) = match state.by(hop, &work, &self.policies, self.hour()) {
            Ok(found) => found,
            Err(Denied::Part(room)) => return Added::Part(work, room),
            Err(Denied::No(no)) => return Added::No(work, no),
        };
        let hop = &*hop;
        state.sites.of(&name, &self.policies);
        state.sites.bind(&name, work.message.organisation);
        if let Some(no) = state.no_place(hop, &name, &work, &self.policies, now) {
            return state.turn_away(hop, work, no);
        }
        work.seat = state.sites.get(&name).and_then(|site| site.tenants.seat(&work.message));
        work.permit = state.permit(&name, &work);
        let line = state.line(hop, &self.policies);
        let is_urgent = urgency(work.message.stream) > urgency(Stream::Marketing);
        // Who waits for a place where mail is made can send other mail meanwhile, or have it made in a place that marketing has not.
        if line.idle > 0 || line.making > 0 && (is_urgent || !work.is_made()) {
            line.bell.notify_one();
        }
        if is_urgent {
            line.urgent.notify_one();
        }
        line.ready.push_back(work);
        if state.start(hop) { Added::Start(hop.clone()) } else { Added::InLine }
    }

    /// What a worker does next whose connection has carried `sent` mails, and takes `recipients` of one. `makes`: it has a place
    /// where mail is made. Of several workers of a line whose turn it is for such mail one waits for a place, and the others send
    /// what else there is; who is alone waits when there is nothing else.
    pub(crate) fn next(&self, hop: &Hop, recipients: usize, sent: u32, makes: bool) -> Next {
        let mut state = self.lock();
        let next = self.next_of(&mut state, hop, recipients, (sent, makes));
        // What the last one carried may have been what a line waits for, and this is not.
        if let Some(name) = state.has_bound(hop) {
            let start = state.start_bound(&name);
            state.to_start.extend(start);
        }
        self.has_called.store(!state.called.is_empty() || !state.to_start.is_empty(), Ordering::Relaxed);
        next
    }

    fn next_of(&self, state: &mut State, hop: &Hop, recipients: usize, (sent, makes): (u32, bool)) -> Next {
        let now = Instant::now();
        let line = state.line(hop, &self.policies);
        let (name, bell) = (line.site.clone(), line.bell.clone());
        let Some((turn, is_to_be_made)) = state.turn(hop, &name, makes, now) else {
            let is_bound = state.is_bound(hop);
            let site = state.sites.of(&name, &self.policies);
            if !site.starved.is_empty() || !state.starved.is_empty() || is_bound && !site.bound.is_empty() {
                return Next::Leave;
            }
            let bells = [bell, site.bell.clone(), state.bell.clone()];
            let (idle, wait) = (site.ways().idle, state.bound_for(hop, &name, now));
            if let Some(wait) = wait.filter(|wait| *wait > state.idle(idle)) {
                return Next::Bound(state.all_bound(hop, wait));
            }
            state.line(hop, &self.policies).idle += 1;
            return wait.map_or(Next::Rest(bells.clone()), |wait| Next::Until(bells, wait));
        };
        let first = state.line(hop, &self.policies).ready.front(turn);
        let Some((sender, stream)) = first.map(|work| (work.sender().to_owned(), work.message.stream)) else {
            return Next::Leave;
        };
        let site = state.sites.of(&name, &self.policies);
        if sent >= site.shape.messages() || site.gives_way(turn.organisation, sent) {
            return Next::Leave;
        }
        if is_to_be_made {
            state.line(hop, &self.policies).making += 1;
            return Next::Make(stream, bell);
        }
        let recipients = recipients.min(site.shape.recipients());
        let rates = site.shape.limits().mailbox_rate.clone();
        if let Some((work, wait)) = state.not_yet(hop, turn, &rates, now) {
            return Next::Later(work, wait);
        }
        let held = state.sites.of(&name, &self.policies).shape.send((&sender, stream), now);
        match held {
            Err(Hold::Site(wait)) => Next::Wait(state.urgent_bells(hop, &name), wait),
            Err(Hold::Sender(wait)) => state.take(hop, turn, usize::MAX).map_or(Next::Leave, |w| Next::Later(w, wait)),
            Ok(ticket) => state.take(hop, turn, recipients).map_or(Next::Leave, |mut work| {
                work.ticket = Some(ticket);
                state.goes(&work, &rates, now);
                state.sites.of(&name, &self.policies).tenants.sent(&mut work, now);
                Next::Send(work)
            }),
        }
    }

    /// A worker no longer rests, or waits for a place where mail is made.
    pub(crate) fn wake(&self, hop: &Hop, what: For) {
        if let Some(line) = self.lock().lines.get_mut(hop) {
            let waiting = match what {
                For::Work => &mut line.idle,
                For::Place => &mut line.making,
            };
            *waiting = waiting.saturating_sub(1);
        }
    }

    /// Work that a worker was given was not sent: the site has nothing to answer.
    pub(crate) fn unsent(&self, hop: &Hop, work: &Work) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(site) = state.lines.get(hop).and_then(|line| state.sites.get_mut(&line.site)) {
            work.ticket.into_iter().for_each(|ticket| site.shape.unsent(ticket));
            site.tenants.unsent(work.message.organisation);
        }
    }

    /// The connection ended before a mail was answered.
    pub(crate) fn unanswered(&self, hop: &Hop, mail: Option<Ticket>) {
        self.tell(hop, mail, |site, ticket| site.shape.unanswered(ticket, Instant::now()));
    }

    /// A site is told what came of a mail.
    fn tell(&self, hop: &Hop, mail: Option<Ticket>, what: impl Fn(&mut Place, Ticket)) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let site = state.lines.get(hop).and_then(|line| state.sites.get_mut(&line.site));
        site.zip(mail).into_iter().for_each(|(site, ticket)| what(site, ticket));
    }

    /// A group waits until the line of a hop is shorter, and is called then; false when it is already.
    pub(crate) fn refused(&self, hop: &Hop, group: Group) -> bool {
        let mut state = self.lock();
        let line = state.lines.get_mut(hop).filter(|line| line.ready.deliveries(group.stream) > line.low);
        line.map(|line| line.refused.insert(group)).is_some()
    }

    /// Groups whose mail had no place, and has one now; and hops for which a worker is to be started.
    pub(crate) fn called(&self) -> (Vec<Group>, Vec<Hop>) {
        if !self.has_called.swap(false, Ordering::Relaxed) {
            return Default::default();
        }
        let mut state = self.lock();
        (std::mem::take(&mut state.called).into_iter().collect(), std::mem::take(&mut state.to_start))
    }

    /// Work that was not begun, and is the next in line; what may not stay there is given back. If the host said nothing, it
    /// may have heard of it, and have counted it.
    pub(crate) fn give_back(&self, hop: &Hop, work: Work, was_answered: bool) -> Option<Work> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let line = state.line(hop, &self.policies);
        let (name, work) = (line.site.clone(), Work { again: true, ..work });
        let site = state.sites.of(&name, &self.policies);
        match (was_answered, work.ticket) {
            (true, ticket) => {
                ticket.into_iter().for_each(|ticket| site.shape.unsent(ticket));
                site.tenants.unsent(work.message.organisation);
            }
            (false, Some(ticket)) => site.shape.unanswered(ticket, Instant::now()),
            (false, None) => {}
        }
        work.seat.iter().for_each(|seat| seat.sends(false));
        if state.fleet.stops.holds(&name, site.shape.policy(), &work) {
            return Some(work);
        }
        state.line(hop, &self.policies).ready.push_front(work);
        None
    }

    /// The reply says that the hop's site was sent too many mails.
    pub(crate) fn is_about_rate(&self, hop: &Hop, reply: &Reply) -> bool {
        let Some(policy) = self.policy(hop) else { return false };
        let hint = policy.hint(reply, &on_one_line(reply, &[])).and_then(|place| policy.hints.get(place));
        hint.is_some_and(Hint::is_about_rate)
    }

    /// The hop's site is known to count the mails it is sent.
    pub(crate) fn counts_ours(&self, hop: &Hop) -> bool {
        let state = self.lock();
        let site = state.lines.get(hop).and_then(|line| state.sites.get(&line.site));
        site.is_some_and(|site| site.shape.counts_ours())
    }

    /// A mail was refused for what it is.
    pub(crate) fn answered(&self, hop: &Hop, mail: Option<Ticket>) {
        self.tell(hop, mail, |site, ticket| site.shape.answered(ticket, Instant::now()));
    }

    /// The name of the hop's site in the policies; none of one that is not known.
    pub(crate) fn site(&self, hop: &Hop) -> Option<Arc<str>> {
        self.policy(hop)?.id.clone()
    }

    fn policy(&self, hop: &Hop) -> Option<Arc<Policy>> {
        let state = self.lock();
        let site = state.lines.get(hop).and_then(|line| state.sites.get(&line.site));
        site.map(|site| site.shape.policy().clone())
    }

    /// Takes what is asked for out of all lines.
    pub(crate) fn take_out(&self, which: impl Fn(&Work) -> bool) -> Vec<Work> {
        let (mut state, mut all) = (self.lock(), Vec::new());
        for line in state.lines.values_mut() {
            all.extend(line.ready.take_all(&which));
        }
        state.remove_empty();
        all
    }

    /// Somebody waits for a connection who has none, in all or at the hop's site: for a worker that `had_turn`, or one that
    /// is in the way of what is urgent.
    pub(crate) fn is_crowded(&self, hop: &Hop, had_turn: bool) -> bool {
        let state = self.lock();
        let Some(line) = state.lines.get(hop) else { return false };
        let site = state.sites.get(&line.site).and_then(|site| site.starved.front());
        let urgent = |hop: &Hop| state.lines.get(hop).is_some_and(Line::is_urgent);
        let mut waiting = site.into_iter().chain(state.starved.front());
        waiting.any(|hop| had_turn || urgent(hop) && !line.is_urgent())
    }

    /// What the hop's site is known to have, and wants.
    pub(crate) fn ways(&self, hop: &Hop) -> Ways {
        let (mut guard, policies) = (self.lock(), &self.policies);
        let state = &mut *guard;
        let name = state.line(hop, policies).site.clone();
        let ways = state.sites.of(&name, policies).ways();
        Ways { idle: state.idle(ways.idle), ..ways }
    }

    /// A worker connects now, or waits for so long first, or for a bell, which rings only for what is urgent: connections may
    /// not follow each other faster, nor is there to be one that could carry nothing yet.
    pub(crate) fn connect(&self, hop: &Hop) -> Result<(), (Bells, Duration)> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(line) = state.lines.get(hop) else { return Ok(()) };
        let (name, stream) = (line.site.clone(), line.ready.most_urgent());
        let connected = state.sites.get_mut(&name).map_or(Ok(()), |site| site.shape.connect(stream, Instant::now()));
        connected.map_err(|wait| (state.urgent_bells(hop, &name), wait))
    }

    /// A mail of a stream came to this for so many of its recipients. With the first that is delivered the site may have a connection more:
    /// gives the hops for which a worker is to be started.
    pub(crate) fn came_of(&self, hop: &Hop, mail: Option<Ticket>, stream: Stream, came: Came) -> Vec<Hop> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(name) = state.lines.get(hop).map(|line| line.site.clone()) else { return Vec::new() };
        let Some(site) = state.sites.get_mut(&name) else { return Vec::new() };
        state.traffic.add(&name, site, stream, came);
        let taken = mail.filter(|_| came[0] > 0);
        if !taken.is_some_and(|mail| site.shape.accepted(mail, Instant::now())) {
            return Vec::new();
        }
        state.start_starved(&name).or_else(|| state.start(hop).then(|| hop.clone())).into_iter().collect()
    }

    /// What a reply says about the traffic to a hop's site, if anything: the place of the hint that fits. `addresses` are
    /// those of the mail that it answers.
    pub(crate) fn hint(&self, hop: &Hop, reply: &Reply, addresses: &[&Address]) -> Option<(usize, Option<Duration>)> {
        // Patterns are looked for outside of the lock that all workers share.
        let policy = self.policy(hop)?;
        let text = on_one_line(reply, addresses);
        let place = policy.hint(reply, &text)?;
        self.note(hop, reply);
        if let Some(about) = policy.hints.get(place).filter(|hint| hint.alert).map(|hint| &hint.about) {
            let site = policy.id.as_deref().unwrap_or("unknown");
            tracing::warn!(site, %reply, about, "a site wants something that only its postmaster and you can settle");
        }
        Some((place, self.policies.delays.named(&text).filter(|_| reply.is_transient())))
    }

    /// For those who look.
    fn note(&self, hop: &Hop, reply: &Reply) {
        let said: String = reply.to_string().replace(['\r', '\n'], " ").chars().take(SHOWN).collect();
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(site) = state.lines.get(hop).and_then(|line| state.sites.get_mut(&line.site)) {
            site.last = Some((Instant::now(), said.into()));
        }
    }

    /// A site said this about the traffic. Gives what it means for the mail that it answered, and what is put off as the site
    /// wants nothing now.
    pub(crate) fn heard(&self, hop: &Hop, words: &Words<'_>) -> (Course, Vec<Later>) {
        let (mut guard, now) = (self.lock(), Instant::now());
        let state = &mut *guard;
        let Some(name) = state.lines.get(hop).map(|line| line.site.clone()) else { return Default::default() };
        let Some(site) = state.sites.get_mut(&name) else { return Default::default() };
        let course = site.shape.heard(words, now);
        let Some(pause) = site.shape.pause(now) else { return (course, Vec::new()) };
        let mut later = Vec::new();
        for line in state.lines.values_mut().filter(|line| line.site == name) {
            later.extend(line.ready.drain().into_iter().map(|work| (work, pause)));
        }
        state.remove_empty();
        (course, later)
    }

    /// All that is in line is put off: the first for so long, the rest as fast as the site bears it.
    pub(crate) fn put_off(&self, hop: &Hop, wait: Duration) -> Vec<Later> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(line) = state.lines.get_mut(hop) else { return Vec::new() };
        let interval = state.sites.get(&line.site).map(|site| site.shape.interval()).unwrap_or_default();
        let all = line.ready.drain();
        let turn = |(n, work)| (work, (wait + interval * n).min(TURN.max(wait)));
        (0u32..).zip(all).map(turn).collect()
    }

    /// A worker found no connection. While others have one, or still try, it was one too many for the site; else nobody is
    /// to be had there, and all that is in line is given up for now.
    pub(crate) fn unreachable(&self, hop: &Hop) -> Vec<Work> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(line) = state.lines.get_mut(hop) else { return Vec::new() };
        let others = line.connected.max(line.workers - 1);
        let site = state.sites.get_mut(&line.site);
        if others > 0 {
            site.into_iter().for_each(|site| site.shape.overrun());
            return Vec::new();
        }
        site.into_iter().for_each(|site| site.shape.lost());
        line.ready.drain()
    }

    /// A worker ends. Gives the hops for which one is to be started in its place: none when we are `stopping`, as each is
    /// counted and waited for.
    pub(crate) fn leave(&self, hop: &Hop, was_connected: bool, stopping: bool) -> Vec<Hop> {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.connections -= 1;
        let Some(line) = state.lines.get_mut(hop) else { return Vec::new() };
        line.workers -= 1;
        line.connected -= usize::from(was_connected);
        if !was_connected {
            state.keep_promise(hop);
        }
        let Some(line) = state.lines.get_mut(hop) else { return Vec::new() };
        let (name, goes_on) = (line.site.clone(), !line.ready.is_empty() || line.workers > 0);
        if let Some(site) = state.sites.get_mut(&name) {
            site.shape.exit();
        }
        if !goes_on {
            let refused = state.lines.remove(hop).map(|line| line.refused).unwrap_or_default();
            state.called.extend(refused);
            state.sites.leave(&name);
        }
        self.has_called.store(!state.called.is_empty() || !state.to_start.is_empty(), Ordering::Relaxed);
        if stopping {
            return Vec::new();
        }
        // What is urgent first: whoever leaves for it leaves its place to nobody else. Then who has none.
        let mut start = if state.is_urgent_one_starved() { state.start_starved_of_all() } else { Vec::new() };
        start.extend(std::iter::from_fn(|| state.start_starved(&name)));
        start.extend(state.start_bound(&name));
        start.extend(state.start_starved_of_all());
        if goes_on && state.start(hop) {
            start.push(hop.clone());
        }
        // What it was rung for it may have left in line, its connection gone: who rests is to have that, and was not rung.
        if let Some(line) = state.lines.get(hop).filter(|line| line.idle > 0 && !line.ready.is_empty()) {
            line.bell.notify_one();
        }
        start
    }

    /// The domains whose mail stands in line, as far as the first works tell.
    pub(crate) fn domains(&self, hop: &Hop) -> Vec<String> {
        let state = self.lock();
        let works = state.lines.get(hop).into_iter().flat_map(|line| line.ready.iter().take(DOMAINS));
        let mut domains: Vec<_> = works.filter_map(|w| Some(w.deliveries.first()?.to.domain().to_owned())).collect();
        domains.sort();
        domains.dedup();
        domains
    }

    /// Forgets sites that are as good as new.
    pub(crate) fn forget(&self) {
        self.lock().sites.forget(Instant::now());
    }

    /// Workers that have not ended.
    pub(crate) fn workers(&self) -> usize {
        self.lock().connections
    }

    /// Takes everything out of all lines.
    pub(crate) fn drain(&self) -> Vec<Work> {
        let mut state = self.lock();
        state.starved.clear();
        state.sites.feed();
        let mut all = Vec::new();
        for line in state.lines.values_mut() {
            (line.starved, line.bound) = (false, false);
            all.extend(line.ready.drain());
        }
        all
    }
}

impl State {
    /// How long a connection waits for more, where its site lets it wait for so long: others may need the place.
    fn idle(&self, idle: Duration) -> Duration {
        if self.connections > CONNECTIONS / 2 { idle.min(IDLE) } else { idle }
    }

    /// What rings for mail of a line that may go before other mail, and for urgent mail that has no connection.
    fn urgent_bells(&self, hop: &Hop, name: &SiteKey) -> Bells {
        let line = self.lines.get(hop).map(|line| line.urgent.clone());
        let site = self.sites.get(name).map(|site| site.urgent.clone());
        [line.unwrap_or_default(), site.unwrap_or_default(), self.urgent.clone()]
    }

    /// The line of a hop.
    fn line(&mut self, hop: &Hop, policies: &Policies) -> &mut Line {
        let State { lines, sites, .. } = self;
        lines.entry(hop.clone()).or_insert_with(|| {
            let (site, in_line) = sites.enter(hop, policies);
            Line::new(site, in_line)
        })
    }

    /// Lines without work and workers are none.
    fn remove_empty(&mut self) {
        let over: Vec<Line> = self.lines.extract_if(|_, line| line.is_over()).map(|(_, line)| line).collect();
        over.iter().for_each(|line| self.sites.leave(&line.site));
        let bound: HashSet<SiteKey> = over.into_iter().filter(|line| line.bound).map(|line| line.site).collect();
        bound.iter().for_each(|name| self.forget_bound(name));
    }

    /// The first of a line, with at most `recipients`; the rest remains.
    fn take(&mut self, hop: &Hop, turn: Turn, recipients: usize) -> Option<Work> {
        let line = self.lines.get_mut(hop)?;
        let mut work = line.ready.pop_front(turn)?;
        // What DKIM2 signs names its recipients, and none is to read of another.
        let own = self.fleet.verp(work.message.stream)
            || work.is_made()
            || trust::instance_of(&work.message.prefix).is_some();
        let recipients = if own { 1 } else { recipients };
        if work.deliveries.len() > recipients {
            let rest = work.deliveries.split_off(recipients);
            line.ready.push_front(Work { deliveries: rest, ..work.clone() });
            // That of the rest is the rest's.
            work.seat = None;
        }
        let n = work.deliveries.len();
        line.taken += n;
        self.call_refused(hop, work.message.stream);
        Some(work)
    }

    /// Some of a stream left a line: those that had no place in it may have one.
    fn call_refused(&mut self, hop: &Hop, stream: Stream) {
        let Some(line) = self.lines.get_mut(hop) else { return };
        if !line.refused.is_empty() && line.ready.deliveries(stream) <= line.low {
            self.called.append(&mut line.refused);
        }
    }

    /// Counts a worker more for this hop, if it needs and may have one.
    fn start(&mut self, hop: &Hop) -> bool {
        let is_bound = self.is_bound(hop);
        let Some(line) = self.lines.get_mut(hop).filter(|line| line.wants_more()) else { return false };
        let Some(site) = self.sites.get_mut(&line.site) else { return false };
        if is_bound {
            if line.workers == 0 && !std::mem::replace(&mut line.bound, true) {
                site.bound.push_back(hop.clone());
            }
            return false;
        }
        let most = if line.is_only_marketing() { CONNECTIONS_OF_MARKETING } else { CONNECTIONS };
        let (waits_at, bell, urgent) = match site.shape.may_connect(Instant::now()) {
            MayConnect::Yes if self.connections < most => {
                if std::mem::take(&mut line.bound) {
                    site.bound.retain(|waiting| waiting != hop);
                }
                site.shape.enter();
                line.workers += 1;
                self.connections += 1;
                line.promised.extend(site.tenants.promise(line.ready.organisations()));
                return true;
            }
            MayConnect::Yes => (&mut self.starved, &self.bell, &self.urgent),
            MayConnect::Full => (&mut site.starved, &site.bell, &site.urgent),
        };
        if line.workers > 0 {
            return false;
        }
        let waits = std::mem::replace(&mut line.starved, true);
        bell.notify_one();
        if line.is_urgent() {
            urgent.notify_one();
            if waits_at.front() != Some(hop) {
                waits_at.push_front(hop.clone());
            }
        } else if !waits {
            waits_at.push_back(hop.clone());
        }
        false
    }

    /// One of those that wait at a site, if the site may have a connection more.
    fn start_starved(&mut self, name: &SiteKey) -> Option<Hop> {
        for _ in 0..self.sites.get(name)?.starved.len() {
            let hop = self.sites.get_mut(name)?.starved.pop_front()?;
            if self.start_fed(&hop) {
                return Some(hop);
            }
            if self.lines.get(&hop).is_some_and(|line| line.starved) {
                // It waits again, and so do all behind it.
                return None;
            }
        }
        None
    }

    /// The next of those that wait because there were too many in all is urgent.
    fn is_urgent_one_starved(&self) -> bool {
        self.starved.front().and_then(|hop| self.lines.get(hop)).is_some_and(Line::is_urgent)
    }

    /// Those that wait because there were too many in all.
    fn start_starved_of_all(&mut self) -> Vec<Hop> {
        let mut start = Vec::new();
        for _ in 0..self.starved.len() {
            if self.connections >= CONNECTIONS {
                break;
            }
            let Some(hop) = self.starved.pop_front() else { break };
            if self.start_fed(&hop) {
                start.push(hop);
            }
        }
        start
    }

    fn start_fed(&mut self, hop: &Hop) -> bool {
        if let Some(line) = self.lines.get_mut(hop) {
            line.starved = false;
        }
        self.start(hop)
    }
}

#[cfg(test)]
pub(crate) mod tests;
