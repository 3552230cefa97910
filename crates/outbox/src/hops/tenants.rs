//! What one organisation may send to a site by a source at most, beside what the site bears: so that it does not use up what all
//! share. There is an entry only for an organisation that has such figures, and mail for the site.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base::{OrganisationId, Stream};
use queue::Message;
use tokio::time::Instant;

use super::ready::Turn;
use super::sites::SiteKey;
use super::used::Then;
use super::{Later, State, TURN, Work};
use crate::route::Hop;
use crate::shape::{Bound, Pace, Used, What, kept, of_paces, resume};

/// What stands in line is not to wait longer than this for its turn: the rest waits in the queue, and takes no place of others.
const AHEAD: Duration = Duration::from_secs(4);
/// From one look to the next for who waits until others of its organisation are through.
const LOOK: Duration = Duration::from_secs(1);

/// Organisations that have figures of their own.
#[derive(Default)]
pub(super) struct Tenants {
    all: HashMap<OrganisationId, Tenant>,
    /// What others used before, that have had no mail here since.
    before: Vec<(OrganisationId, Then)>,
}

struct Tenant {
    bound: Bound,
    sends: Vec<Pace>,
    counts: Arc<Counts>,
    /// Connections that are about to be made to carry its mail.
    promised: usize,
}

#[derive(Debug, Default)]
struct Counts {
    /// Works that stand in line or are under way, by stream.
    in_hand: [AtomicUsize; 3],
    /// Those that are under way.
    sending: [AtomicUsize; 3],
}

fn all(counts: &[AtomicUsize; 3]) -> usize {
    counts.iter().map(|n| n.load(Ordering::Relaxed)).sum()
}

/// A work of an organisation that has figures of its own: it is counted as long as this lives.
#[derive(Debug)]
pub(crate) struct Seat {
    counts: Arc<Counts>,
    stream: Stream,
    sends: AtomicBool,
}

/// Why there is no place for an organisation's work.
pub(super) enum NoSeat {
    /// It has its turn after so long.
    Turn(Duration),
    /// As many stand in line as may.
    Crowd,
}

/// An organisation at a site, for those who look.
#[derive(Clone, Debug)]
pub struct TenantState {
    /// The organisation.
    pub organisation: OrganisationId,
    /// Its figures, as an operator writes them.
    pub limits: Vec<(&'static str, String)>,
    /// Transactions that are under way.
    pub sending: usize,
    /// And those that stand in line.
    pub in_line: usize,
}

impl Seat {
    fn new(counts: &Arc<Counts>, stream: Stream) -> Self {
        counts.in_hand[stream as usize].fetch_add(1, Ordering::Relaxed);
        Seat { counts: counts.clone(), stream, sends: AtomicBool::new(false) }
    }

    /// The work is under way, or stands in line again.
    pub(super) fn sends(&self, sends: bool) {
        let sending = &self.counts.sending[self.stream as usize];
        match (self.sends.swap(sends, Ordering::Relaxed), sends) {
            (false, true) => _ = sending.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = sending.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sends(false);
        self.counts.in_hand[self.stream as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tenant {
    fn new(bound: Bound) -> Self {
        Tenant {
            sends: bound.rate.iter().copied().map(Pace::new).collect(),
            bound,
            counts: Arc::default(),
            promised: 0,
        }
    }

    fn in_hand(&self) -> usize {
        all(&self.counts.in_hand)
    }

    fn sending(&self) -> usize {
        all(&self.counts.sending)
    }

    /// How many of a stream stand in line or are under way; and those in line.
    fn of(&self, stream: Stream) -> (usize, usize) {
        let n = |counts: &[AtomicUsize; 3]| counts[stream as usize].load(Ordering::Relaxed);
        let in_hand = n(&self.counts.in_hand);
        (in_hand, in_hand.saturating_sub(n(&self.counts.sending)))
    }

    /// How many more may be under way.
    fn left(&self) -> usize {
        self.bound.connections.map_or(usize::MAX, |most| most.saturating_sub(self.sending()))
    }

    /// How many connections more would find something to carry.
    fn free(&self) -> usize {
        self.left().saturating_sub(self.promised)
    }

    /// How long the next has to wait.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let rate = self.sends.iter().map(|pace| pace.wait(1.0, now)).max().unwrap_or_default();
        let wait = if self.left() == 0 { rate.max(LOOK) } else { rate };
        Some(wait).filter(|wait| !wait.is_zero())
    }

    /// When one more of a stream would have its turn, if no other stream had any.
    fn ahead(&self, stream: Stream, now: Instant) -> Duration {
        let waiting = u32::try_from(self.of(stream).1).unwrap_or(u32::MAX);
        let of = |pace: &Pace| pace.wait(1.0, now).saturating_add(pace.interval(1.0).saturating_mul(waiting));
        self.sends.iter().map(of).max().unwrap_or_default()
    }

    /// From one work to the next.
    fn interval(&self) -> Duration {
        self.sends.iter().map(|pace| pace.interval(1.0)).max().unwrap_or_default()
    }

    fn resume(&mut self, then: &Then, now: Instant) {
        if let What::Mails(rate) = then.what {
            resume(&mut self.sends, rate, then.until, now);
        }
    }

    fn is_at_rest(&self, now: Instant) -> bool {
        self.in_hand() == 0 && self.sends.iter().all(|pace| pace.is_at_rest(now))
    }
}

impl Tenants {
    /// What an organisation's figures are now, if it has mail here.
    pub(super) fn learn(&mut self, organisation: OrganisationId, bound: Option<Bound>) {
        match (self.all.get_mut(&organisation), bound) {
            (None, None) => {}
            (Some(_), None) => _ = self.all.remove(&organisation),
            (None, Some(bound)) => {
                let mut tenant = Tenant::new(bound);
                for (_, then) in self.before.extract_if(.., |(of, _)| *of == organisation) {
                    tenant.resume(&then, Instant::now());
                }
                self.all.insert(organisation, tenant);
            }
            (Some(known), Some(bound)) if known.bound != bound => {
                known.sends = kept(&bound.rate, &known.sends);
                known.bound = bound;
            }
            (Some(_), Some(_)) => {}
        }
    }

    /// Those that are known.
    pub(super) fn all(&self) -> Vec<OrganisationId> {
        self.all.keys().copied().collect()
    }

    pub(super) fn knows(&self, organisation: OrganisationId) -> bool {
        self.all.contains_key(&organisation)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Why there is no place in line for an organisation's work of a stream, of which at most so many may stand there.
    pub(super) fn no_seat(
        &self,
        organisation: OrganisationId,
        (stream, most): (Stream, usize),
        now: Instant,
    ) -> Option<NoSeat> {
        let tenant = self.all.get(&organisation)?;
        let ahead = tenant.ahead(stream, now);
        if ahead > AHEAD {
            return Some(NoSeat::Turn(ahead - AHEAD / 2));
        }
        (tenant.of(stream).0 >= most).then_some(NoSeat::Crowd)
    }

    /// A place in line for work whose organisation has figures of its own.
    pub(super) fn seat(&self, message: &Message) -> Option<Arc<Seat>> {
        let tenant = self.all.get(&message.organisation)?;
        Some(Arc::new(Seat::new(&tenant.counts, message.stream)))
    }

    /// How long a work of an organisation has to wait, if it has to.
    pub(super) fn wait(&self, organisation: OrganisationId, now: Instant) -> Option<Duration> {
        self.all.get(&organisation)?.wait(now)
    }

    /// How many connections more would find something of an organisation's to carry.
    fn free(&self, organisation: OrganisationId) -> usize {
        self.all.get(&organisation).map_or(usize::MAX, Tenant::free)
    }

    /// Some organisation that counts its connections may have one more.
    fn has_free(&self) -> bool {
        self.all.values().any(|tenant| tenant.free() > 0)
    }

    /// A connection is about to be made for a line of these: whose mail it is to carry, if all of them count their connections.
    pub(super) fn promise(
        &mut self,
        mut organisations: impl Iterator<Item = (OrganisationId, usize)>,
    ) -> Option<OrganisationId> {
        if self.is_empty() {
            return None;
        }
        let first = organisations.try_fold(None, |first: Option<OrganisationId>, (organisation, _)| {
            let free = self.free(organisation);
            (self.counts_connections(organisation)).then_some(first.or((free > 0).then_some(organisation)))
        })??;
        self.all.get_mut(&first)?.promised += 1;
        Some(first)
    }

    /// It is made, or will not be.
    fn keep(&mut self, organisation: OrganisationId) {
        if let Some(tenant) = self.all.get_mut(&organisation) {
            tenant.promised = tenant.promised.saturating_sub(1);
        }
    }

    /// Connections are what an organisation is short of, or may be.
    pub(super) fn counts_connections(&self, organisation: OrganisationId) -> bool {
        self.all.get(&organisation).is_some_and(|tenant| tenant.bound.connections.is_some())
    }

    /// A work is under way.
    pub(super) fn sent(&mut self, work: &mut Work, now: Instant) {
        let Some(tenant) = self.all.get_mut(&work.message.organisation) else { return };
        tenant.sends.iter_mut().for_each(|pace| pace.take(1.0, now));
        work.seat.get_or_insert_with(|| Arc::new(Seat::new(&tenant.counts, work.message.stream))).sends(true);
    }

    /// The last was not sent.
    pub(super) fn unsent(&mut self, organisation: OrganisationId) {
        let tenant = self.all.get_mut(&organisation);
        tenant.into_iter().flat_map(|tenant| &mut tenant.sends).for_each(|pace| pace.give_back(1.0));
    }

    /// What is used up of their figures.
    pub(super) fn used(&self, now: Instant, next: Instant) -> impl Iterator<Item = (OrganisationId, Used)> {
        self.all.iter().flat_map(move |(organisation, tenant)| {
            of_paces(&tenant.sends, What::Mails, 1.0, [now, next]).map(|used| (*organisation, used))
        })
    }

    /// What one used before: noted until it has mail here.
    pub(super) fn resume(&mut self, then: Then, now: Instant) {
        let Some(organisation) = then.at.2 else { return };
        match self.all.get_mut(&organisation) {
            Some(tenant) => tenant.resume(&then, now),
            None => self.before.push((organisation, then)),
        }
    }

    /// Forgets those of whom nothing would be lost; true when that is all.
    pub(super) fn rest(&mut self, now: Instant) -> bool {
        self.all.retain(|_, tenant| !tenant.is_at_rest(now));
        self.before.retain(|(_, then)| then.until > now);
        self.all.is_empty() && self.before.is_empty()
    }

    /// For those who look.
    pub(super) fn shown(&self) -> Vec<TenantState> {
        let state = |(organisation, tenant): (&OrganisationId, &Tenant)| TenantState {
            organisation: *organisation,
            limits: tenant.bound.words(),
            sending: tenant.sending(),
            in_line: tenant.in_hand().saturating_sub(tenant.sending()),
        };
        let mut all: Vec<_> = self.all.iter().map(state).collect();
        all.sort_by_key(|state| state.organisation);
        all
    }
}

impl State {
    /// The next of a line, of those who may send now, and whether it is to be made first. Of a line whose turn it is for such mail
    /// one worker waits, unless it `makes` it, and the others send what else there is.
    pub(super) fn turn(&self, hop: &Hop, name: &SiteKey, makes: bool, now: Instant) -> Option<(Turn, bool)> {
        let (line, site) = (self.lines.get(hop)?, self.sites.get(name)?);
        let may = |organisation| site.tenants.wait(organisation, now).is_none();
        let awaits = |stream| site.shape.awaits(stream, now);
        let first = line.ready.turn(true, may, awaits)?;
        let is_to_be_made = !makes && line.ready.front(first).is_some_and(Work::is_made);
        // Somebody is to wait for it, and somebody to be there for the rest.
        let waits = line.making == 0 && line.connected > 1;
        let other = if is_to_be_made && !waits { line.ready.turn(false, may, awaits) } else { None };
        Some(other.map_or((first, is_to_be_made), |other| (other, false)))
    }

    /// How long all of a line waits as its organisations have sent what they may.
    pub(super) fn bound_for(&self, hop: &Hop, name: &SiteKey, now: Instant) -> Option<Duration> {
        let (line, site) = (self.lines.get(hop)?, self.sites.get(name)?);
        line.ready.organisations().filter_map(|(organisation, _)| site.tenants.wait(organisation, now)).min()
    }

    /// All of a line is put off, as its organisations have sent what they may: each of their works to its turn, the first after
    /// `wait` or later.
    pub(super) fn all_bound(&mut self, hop: &Hop, wait: Duration) -> Vec<Later> {
        let now = Instant::now();
        let Some(line) = self.lines.get_mut(hop) else { return Vec::new() };
        let (site, mut turns) = (self.sites.get(&line.site), HashMap::<OrganisationId, u32>::new());
        let turn = |work: Work| {
            let organisation = work.message.organisation;
            let n = turns.entry(organisation).or_default();
            let tenant = site.and_then(|site| site.tenants.all.get(&organisation));
            let first = tenant.and_then(|tenant| tenant.wait(now)).unwrap_or(wait);
            let later = first + tenant.map_or(Duration::ZERO, Tenant::interval).saturating_mul(*n);
            *n = n.saturating_add(1);
            (Work { seat: None, permit: None, ..work }, later.min(TURN.max(first)))
        };
        let all = line.ready.drain();
        all.into_iter().map(turn).collect()
    }

    /// All in a line is of organisations that have as many connections as they may, but for what those can take who rest or are
    /// about to be connected.
    pub(super) fn is_bound(&self, hop: &Hop) -> bool {
        let Some(line) = self.lines.get(hop) else { return false };
        let Some(site) = self.sites.get(&line.site).filter(|site| !site.tenants.is_empty()) else { return false };
        let may_go = line.ready.organisations().map(|(organisation, n)| n.min(site.tenants.free(organisation)));
        let others = (line.workers - line.connected).saturating_sub(line.promised.len());
        line.wants_more() && may_go.fold(0, usize::saturating_add) <= line.idle + others
    }

    /// A worker of a line is connected, or ends without having been.
    pub(super) fn keep_promise(&mut self, hop: &Hop) {
        let Some(line) = self.lines.get_mut(hop) else { return };
        if let (Some(organisation), Some(site)) = (line.promised.pop(), self.sites.get_mut(&line.site)) {
            site.tenants.keep(organisation);
        }
    }

    /// The site of a hop, if lines wait there until others of their organisations are through, and some may go.
    pub(super) fn has_bound(&self, hop: &Hop) -> Option<SiteKey> {
        let name = &self.lines.get(hop)?.site;
        let site = self.sites.get(name)?;
        (!site.bound.is_empty() && site.tenants.has_free()).then(|| name.clone())
    }

    /// Lines that are no more wait for nothing.
    pub(super) fn forget_bound(&mut self, name: &SiteKey) {
        let State { sites, lines, .. } = self;
        let Some(site) = sites.get_mut(name) else { return };
        site.bound.retain(|hop| lines.get(hop).is_some_and(|line| line.bound));
    }

    /// Of those that wait at a site until others of their organisation are through, as many as may go.
    pub(super) fn start_bound(&mut self, name: &SiteKey) -> Vec<Hop> {
        let mut start = Vec::new();
        for _ in 0..self.sites.get(name).map_or(0, |site| site.bound.len()) {
            let Some(hop) = self.sites.get_mut(name).and_then(|site| site.bound.pop_front()) else { break };
            self.lines.get_mut(&hop).into_iter().for_each(|line| line.bound = false);
            // Who may still not go waits behind the others.
            if self.start(&hop) {
                start.push(hop);
            }
        }
        start
    }
}
