//! The sender as a machine: what happens next stands in a heap, and time is what is taken from it. All of it hangs on the
//! load and one number, so that the same question has the same answer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base::{OrganisationId, Reply, Stream, Timestamp};
use peers::{Answer, Site as Host, Step, drawn};
use queue::source::{Member, SourceId, What};
use tokio::time::Instant;

use super::way::{Reason, Way};
use super::{Forecast, Load, SiteForecast, Target, Terms};
use crate::hops::{CONNECTIONS, CONNECTIONS_OF_MARKETING, IDLE, Permit, Warmups, choose, hour_of};
use crate::schedule;
use crate::shape::{Course, Hold, MayConnect, Policies, Rules, Site, Ticket, Words, on_one_line};
use crate::worker::{OLD, PATIENCE, TURN};

/// Whose mail it is.
const SENDER: &str = "sender.test";
/// How soon room that came back is used.
const REFILL: Duration = Duration::from_secs(600);
const HOUR: u64 = 3600;
/// Sites by sources, at most: each pair is known for itself, in some kilobytes.
const WAYS: usize = 100_000;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A mail is to be tried again.
    Due(u32),
    /// A worker wants to connect.
    Connect(usize),
    /// A host does not let a worker in.
    TurnedAway(usize),
    /// A worker is ready for a mail.
    Ready(usize),
    /// The body of its mail is over.
    Dot(usize),
    /// Its mail is answered.
    Answered(usize),
    /// It has waited long enough for more; the number says for the how manieth time.
    Waited(usize, u64),
    /// A site is no longer left alone.
    Wake(usize),
    /// Plans may allow more.
    Refill,
}

struct Mail {
    number: u64,
    site: u32,
    attempts: u32,
    /// A connection had it already, and turned out to be closed.
    again: bool,
    permit: Option<Arc<Permit>>,
}

struct Worker {
    way: usize,
    mails: u32,
    mail: Option<(u32, Ticket)>,
    answer: Answer,
    rests: u64,
    connected: bool,
}

/// A site: how far its mail is, and what of it waits for a plan, since when.
#[derive(Default)]
struct Place {
    backlog: VecDeque<u32>,
    since: Option<Duration>,
    waited: Duration,
    /// Those that wait for their next attempt.
    put_off: u64,
}

struct Run<'a> {
    load: &'a Load,
    terms: &'a Terms,
    policies: Policies,
    members: Vec<Member>,
    warmups: Warmups,
    mails: Vec<Mail>,
    places: Vec<Place>,
    /// So many of them have mail that waits for a plan.
    kept: usize,
    /// Mails that have come to their end, by group.
    over: Vec<u64>,
    ways: Vec<Way>,
    workers: Vec<Worker>,
    free: Vec<usize>,
    /// Workers that there are.
    connections: usize,
    starved: VecDeque<usize>,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    happened: u64,
    now: Duration,
    start: Instant,
    refills: Option<Duration>,
    found: Forecast,
}

/// What a load takes by these terms.
///
/// # Errors
/// In words: no source may send; there are too many for so many sites; or what is wrong with the policies that are shipped.
pub fn forecast(load: &Load, terms: &Terms) -> Result<Forecast, String> {
    let mut run = Run::new(load, terms)?;
    for mail in 0..run.mails.len() as u32 {
        run.line_up(mail);
    }
    (0..run.ways.len()).for_each(|way| run.start(way));
    while let Some(Reverse((at, _, event))) = run.events.pop() {
        run.now = at;
        run.happens(event);
    }
    Ok(run.over())
}

impl<'a> Run<'a> {
    fn new(load: &'a Load, terms: &'a Terms) -> Result<Self, String> {
        let stopped = |source: SourceId| terms.setup.stops.iter().any(|stop| stop.what == What::Source(source));
        let members: Vec<_> = terms
            .setup
            .members(terms.stream, OrganisationId::HOUSE)
            .into_iter()
            .filter(|m| !stopped(m.source))
            .collect();
        if members.is_empty() {
            return Err(format!("no source may send what is {}: all of them are stopped", terms.stream.word()));
        }
        let (sites, sources) = (load.sites.len(), members.len());
        if sites * sources > WAYS {
            return Err(format!(
                "{sites} sites by {sources} sources are more than a forecast can know: {WAYS} of both together at most"
            ));
        }
        let rules = Rules::new(&terms.setup.rules);
        let way = |site: usize, target: &Target, member: &Member| {
            let limits = rules.limits(&target.policy.limits, member.source, false, |name| target.is(name));
            let host = Host::new(site as u64, Vec::new(), Vec::new(), target.character.clone(), target.seed);
            Way::new(Site::new(target.policy.clone(), limits), host)
        };
        let sites = load.sites.iter().enumerate();
        let ways = sites.flat_map(|(n, target)| members.iter().map(move |member| (n, target, member)));
        let ways: Vec<Way> = ways.map(|(n, target, member)| way(n, target, member)).collect();
        let mail = |(number, site): &(u64, u32)| Mail {
            number: *number,
            site: *site,
            attempts: 0,
            again: false,
            permit: None,
        };
        let group = |name: &Arc<str>| SiteForecast { name: name.clone(), ..SiteForecast::default() };
        let mut sites: Vec<SiteForecast> = load.groups.iter().map(group).collect();
        load.sites.iter().for_each(|target| sites[target.group].sites += 1);
        let policies = Policies::shipped()?;
        let hours = (hour_of(terms.start), policies.warmup.hourly);
        load.mails.iter().for_each(|(_, site)| sites[load.sites[*site as usize].group].recipients += 1);
        Ok(Run {
            load,
            terms,
            policies,
            warmups: Warmups::new(&terms.setup, &terms.delivered, hours, &Warmups::default()),
            mails: load.mails.iter().map(mail).collect(),
            places: load.sites.iter().map(|_| Place::default()).collect(),
            kept: 0,
            over: vec![0; sites.len()],
            ways,
            members,
            workers: Vec::new(),
            free: Vec::new(),
            connections: 0,
            starved: VecDeque::new(),
            events: BinaryHeap::new(),
            happened: 0,
            now: Duration::ZERO,
            start: Instant::now(),
            refills: None,
            found: Forecast { sites, ..Forecast::default() },
        })
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Due(mail) => {
                self.places[self.mails[mail as usize].site as usize].put_off -= 1;
                if let Some(way) = self.line_up(mail) {
                    self.start(way);
                }
            }
            Event::Connect(worker) => self.connect(worker),
            Event::TurnedAway(worker) => self.turned_away(worker),
            Event::Ready(worker) => self.next(worker),
            Event::Dot(worker) => self.dot(worker),
            Event::Answered(worker) => self.answered(worker),
            Event::Waited(worker, times) => self.waited(worker, times),
            Event::Wake(way) => self.start(way),
            Event::Refill => self.refill(),
        }
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.happened += 1;
        self.events.push(Reverse((self.now + wait, self.happened, event)));
    }

    fn clock(&self) -> Instant {
        self.start + self.now
    }

    fn hour(&self) -> i64 {
        hour_of(Timestamp(self.terms.start.0 + self.now.as_millis() as i64))
    }

    /// Before plans allow more.
    fn to_the_next_hour(&self) -> Duration {
        let start = (self.terms.start.0.max(0) as u64).saturating_add(self.now.as_millis() as u64);
        Duration::from_millis(HOUR * 1000 - start % (HOUR * 1000))
    }

    /// Puts a mail in line, for the source that is to send it; or where plans keep it, and it has no way yet.
    fn line_up(&mut self, mail: u32) -> Option<usize> {
        let way = self.assign(mail);
        if way.is_none() {
            let (now, place) = (self.now, &mut self.places[self.mails[mail as usize].site as usize]);
            self.kept += usize::from(place.backlog.is_empty());
            place.backlog.push_back(mail);
            if place.since.is_none() {
                place.since = Some(now);
            }
            self.refill_in(self.to_the_next_hour());
        }
        way
    }

    fn assign(&mut self, mail: u32) -> Option<usize> {
        let Mail { number, site, .. } = self.mails[mail as usize];
        let (target, hour) = (&self.load.sites[site as usize], self.hour());
        let draw = drawn(self.terms.seed, &[3, number]);
        let has_room = |source| {
            let room = self.warmups.room(source, target.label(), hour, |name| target.is(name));
            room.is_none_or(|room| room.left > 0)
        };
        let source = choose(&self.members, draw, has_room)?;
        let member = self.members.iter().position(|m| m.source == source)?;
        let way = site as usize * self.members.len() + member;
        self.mails[mail as usize].permit = self.warmups.permit(source, target.label(), 1);
        self.ways[way].ready.push_back(mail);
        Some(way)
    }

    fn refill_in(&mut self, wait: Duration) {
        let at = self.now + wait;
        if self.refills.is_none_or(|soon| at < soon || soon <= self.now) {
            self.refills = Some(at);
            self.after(wait, Event::Refill);
        }
    }

    /// What waits for a plan gets its part of what is allowed now, whoever came first.
    fn refill(&mut self) {
        if self.refills != Some(self.now) {
            return;
        }
        self.refills = None;
        let first = |(n, place): (usize, &Place)| place.backlog.front().map(|mail| Reverse((*mail, n)));
        let mut heads: BinaryHeap<_> = self.places.iter().enumerate().filter_map(first).collect();
        let mut ways = HashSet::new();
        while let Some(Reverse((mail, n))) = heads.pop() {
            let expired = self.now >= self.terms.lifetime;
            if !expired && let Some(way) = self.assign(mail) {
                ways.insert(way);
            } else if expired {
                self.ends(mail).expired += 1;
            } else {
                continue;
            }
            let (now, place) = (self.now, &mut self.places[n]);
            place.backlog.pop_front();
            match place.backlog.front() {
                Some(next) => heads.push(Reverse((*next, n))),
                None => {
                    self.kept -= 1;
                    place.waited += place.since.take().map_or(Duration::ZERO, |since| now - since);
                }
            }
        }
        let mut ways: Vec<_> = ways.into_iter().collect();
        ways.sort_unstable();
        ways.into_iter().for_each(|way| self.start(way));
        if self.kept > 0 {
            self.refill_in(self.to_the_next_hour());
        }
    }

    /// Starts as many workers as have something to do and may connect; or wakes those that wait.
    fn start(&mut self, n: usize) {
        let marketing = self.terms.stream == Stream::Marketing;
        let most = if marketing { CONNECTIONS_OF_MARKETING } else { CONNECTIONS };
        let clock = self.clock();
        loop {
            let way = &mut self.ways[n];
            if way.ready.is_empty() || self.now < way.sleeps {
                return;
            }
            if let Some(worker) = way.idle.pop() {
                self.workers[worker].rests += 1;
                self.after(Duration::ZERO, Event::Ready(worker));
                if self.ways[n].ready.len() <= self.workers_awake(n) {
                    return;
                }
                continue;
            }
            if way.ready.len() <= way.workers - way.connected || way.shape.may_connect(clock) == MayConnect::Full {
                return;
            }
            if self.connections >= most {
                if way.workers == 0 && !std::mem::replace(&mut way.starved, true) {
                    way.feels(Reason::AllConnections, self.now);
                    self.starved.push_back(n);
                }
                return;
            }
            way.shape.enter();
            way.workers += 1;
            self.connections += 1;
            let worker = Worker { way: n, mails: 0, mail: None, answer: Answer::Well, rests: 0, connected: false };
            let worker = match self.free.pop() {
                Some(free) => {
                    let rests = self.workers[free].rests + 1;
                    self.workers[free] = Worker { rests, ..worker };
                    free
                }
                None => {
                    self.workers.push(worker);
                    self.workers.len() - 1
                }
            };
            self.after(Duration::ZERO, Event::Connect(worker));
        }
    }

    fn workers_awake(&self, way: usize) -> usize {
        self.ways[way].workers - self.ways[way].idle.len()
    }

    fn connect(&mut self, worker: usize) {
        let (n, clock, now) = (self.workers[worker].way, self.clock(), self.now);
        let way = &mut self.ways[n];
        if let Err(wait) = way.shape.connect(self.terms.stream, clock) {
            way.feels(why(&way.shape, clock), now);
            if wait > PATIENCE {
                self.sleep(n, wait);
                self.leave(worker);
            } else {
                self.after(wait, Event::Connect(worker));
            }
            return;
        }
        let (answer, reply) = (way.host.enter(now), way.host.character.reply);
        if answer == Answer::Well {
            way.connected += 1;
            self.workers[worker].connected = true;
            // A greeting, and an answer to EHLO.
            self.after(reply * 2, Event::Ready(worker));
        } else {
            self.workers[worker].answer = answer;
            self.after(reply, Event::TurnedAway(worker));
        }
    }

    /// As the workers do: one connection too many teaches the site; without any, what is in line is put off.
    fn turned_away(&mut self, worker: usize) {
        let (n, clock) = (self.workers[worker].way, self.clock());
        let way = &mut self.ways[n];
        way.host.exit();
        let others = way.connected.max(way.workers - 1);
        let mut alone = VecDeque::new();
        if others > 0 {
            way.shape.overrun();
        } else {
            way.shape.lost();
            alone = std::mem::take(&mut way.ready);
        }
        let answer = std::mem::replace(&mut self.workers[worker].answer, Answer::Well);
        let course = match &answer {
            Answer::Say(reply) => self.hear(n, reply, None, OLD, clock),
            _ => None,
        };
        for mail in alone {
            self.put_off(mail, course.unwrap_or_default().wait);
        }
        self.leave(worker);
    }

    /// What a reply says about the traffic is acted upon; none when it says nothing about that.
    fn hear(&mut self, n: usize, reply: &Reply, mail: Option<Ticket>, attempts: u32, clock: Instant) -> Option<Course> {
        let way = &mut self.ways[n];
        let (policy, text) = (way.shape.policy().clone(), on_one_line(reply, &[]));
        let hint = policy.hint(reply, &text)?;
        let wait = self.policies.delays.named(&text).filter(|_| reply.is_transient());
        let sender = mail.map(|_| SENDER);
        let course = way.shape.heard(&Words { hint, wait, sender, mail, attempts }, clock);
        if let Some(pause) = way.shape.pause(clock) {
            way.feels(Reason::Asked, self.now);
            self.sleep(n, pause);
        }
        Some(course)
    }

    fn sleep(&mut self, n: usize, wait: Duration) {
        let until = self.now + wait;
        if until > self.ways[n].sleeps {
            self.ways[n].sleeps = until;
            self.after(wait, Event::Wake(n));
        }
    }

    /// A worker takes the next mail, waits, or leaves.
    fn next(&mut self, worker: usize) {
        let (n, clock, now, mails) = (self.workers[worker].way, self.clock(), self.now, self.workers[worker].mails);
        if !self.starved.is_empty() && (mails >= TURN || self.ways[n].ready.is_empty()) {
            return self.leave(worker);
        }
        let way = &mut self.ways[n];
        if way.ready.is_empty() || now < way.sleeps {
            return self.rest(worker);
        }
        if mails >= way.shape.messages() {
            return self.leave(worker);
        }
        match way.shape.send((SENDER, self.terms.stream), clock) {
            Ok(ticket) => {
                way.feels(Reason::Connections, now);
                let Some(mail) = way.ready.pop_front() else { return self.rest(worker) };
                self.workers[worker].mails += 1;
                self.begin(worker, mail, ticket);
            }
            Err(Hold::Site(wait)) => {
                way.feels(why(&way.shape, clock), now);
                if wait > self.idle(n) {
                    self.sleep(n, wait);
                    self.rest(worker);
                } else {
                    self.after(wait, Event::Ready(worker));
                }
            }
            // All of it is of one sender.
            Err(Hold::Sender(wait)) => {
                way.feels(Reason::Asked, now);
                self.sleep(n, wait);
                self.rest(worker);
            }
        }
    }

    fn idle(&self, n: usize) -> Duration {
        let idle = self.ways[n].shape.idle();
        if self.connections > CONNECTIONS / 2 { idle.min(IDLE) } else { idle }
    }

    /// What keeps a way that has nothing in line: mails of its site that were put off, if there are any.
    fn retries(&self, n: usize) -> Option<Reason> {
        let place = &self.places[n / self.members.len()];
        (place.put_off > 0).then_some(Reason::Retries)
    }

    fn rest(&mut self, worker: usize) {
        let (n, now) = (self.workers[worker].way, self.now);
        let (idle, retries) = (self.idle(n), self.retries(n));
        let way = &mut self.ways[n];
        way.idle.push(worker);
        if way.ready.is_empty() && way.idle.len() == way.workers {
            way.feels(retries, now);
        }
        self.after(idle, Event::Waited(worker, self.workers[worker].rests));
    }

    fn waited(&mut self, worker: usize, times: u64) {
        if self.workers[worker].rests != times {
            return;
        }
        let way = &mut self.ways[self.workers[worker].way];
        if let Some(at) = way.idle.iter().position(|idle| *idle == worker) {
            way.idle.remove(at);
            self.leave(worker);
        }
    }

    /// The commands go out in one flight, and the body after their answers.
    fn begin(&mut self, worker: usize, mail: u32, ticket: Ticket) {
        let (now, number) = (self.now, self.mails[mail as usize].number);
        let Worker { way, mails, .. } = self.workers[worker];
        if now >= self.terms.lifetime {
            self.ways[way].shape.unsent(ticket);
            self.mails[mail as usize].permit = None;
            self.ends(mail).expired += 1;
            return self.after(Duration::ZERO, Event::Ready(worker));
        }
        let host = &self.ways[way].host;
        let c = &host.character;
        let (mut answer, mut time) = (host.step(Step::Mail, number, mails, now), c.reply);
        if answer == Answer::Well {
            (answer, time) = (host.step(Step::Rcpt, number, mails, now), c.reply + c.tarpit);
        }
        for step in [Step::Data, Step::Body] {
            if answer == Answer::Well {
                answer = host.step(step, number, mails, now);
            }
        }
        let event = match answer {
            Answer::Well => {
                time += c.reads_for;
                Event::Dot(worker)
            }
            _ => Event::Answered(worker),
        };
        (self.workers[worker].mail, self.workers[worker].answer) = (Some((mail, ticket)), answer);
        self.after(time, event);
    }

    fn dot(&mut self, worker: usize) {
        let Worker { way, mails, mail, .. } = self.workers[worker];
        let Some((mail, _)) = mail else { return };
        let (host, number) = (&self.ways[way].host, self.mails[mail as usize].number);
        let answer = host.step(Step::Dot, number, mails, self.now);
        if answer == Answer::Well {
            host.take(number, self.now);
        }
        let reply = host.character.reply;
        self.workers[worker].answer = answer;
        self.after(reply, Event::Answered(worker));
    }

    fn answered(&mut self, worker: usize) {
        let Worker { way: n, mails, .. } = self.workers[worker];
        let answer = std::mem::replace(&mut self.workers[worker].answer, Answer::Well);
        let (Some((mail, ticket)), clock) = (self.workers[worker].mail.take(), self.clock()) else { return };
        let goes_on = match answer {
            Answer::Well => {
                self.delivered(mail);
                if self.ways[n].shape.accepted(ticket, clock) {
                    self.start(n);
                }
                true
            }
            Answer::Cut => {
                self.ways[n].shape.unanswered(ticket, clock);
                // A connection that carried others was closed before this one began: it goes on another, once.
                if mails > 1 && !self.mails[mail as usize].again {
                    self.give_back(n, mail);
                } else {
                    self.put_off(mail, None);
                }
                false
            }
            Answer::Say(reply) => self.refused(n, (mail, ticket), mails, &reply, clock),
        };
        if goes_on { self.next(worker) } else { self.leave(worker) }
    }

    fn give_back(&mut self, n: usize, mail: u32) {
        self.mails[mail as usize].again = true;
        self.ways[n].ready.push_front(mail);
    }

    /// False when the connection ends.
    fn refused(&mut self, n: usize, (mail, ticket): (u32, Ticket), mails: u32, reply: &Reply, clock: Instant) -> bool {
        let closed = reply.code == 421;
        let text = on_one_line(reply, &[]);
        let policy = self.ways[n].shape.policy();
        let about_rate = policy.hint(reply, &text).is_some_and(|at| policy.hints[at].is_about_rate());
        if closed && mails > 1 && !self.mails[mail as usize].again && !about_rate {
            self.ways[n].shape.unsent(ticket);
            self.give_back(n, mail);
            return false;
        }
        let attempts = self.mails[mail as usize].attempts;
        let course = self.hear(n, reply, Some(ticket), attempts, clock).unwrap_or_else(|| {
            self.ways[n].shape.answered(ticket, clock);
            Course::default()
        });
        if (reply.is_transient() || course.keep) && !course.stop {
            self.put_off(mail, course.wait);
        } else {
            self.mails[mail as usize].permit = None;
            self.room_came_back();
            self.ends(mail).bounced += 1;
        }
        !closed && !course.close
    }

    /// It is tried again after so long, or when the schedule says.
    fn put_off(&mut self, mail: u32, wait: Option<Duration>) {
        let m = &mut self.mails[mail as usize];
        let wait = wait.map_or_else(|| schedule::interval(&self.policies.retry, m.attempts), schedule::millis).max(0);
        let spread = drawn(self.terms.seed, &[4, m.number, u64::from(m.attempts)]) % (wait as u64 / 10).max(1);
        let first = m.attempts == 0;
        (m.attempts, m.permit, m.again) = (m.attempts + 1, None, false);
        self.room_came_back();
        let expired = self.now >= self.terms.lifetime;
        self.group(mail).deferred += u64::from(first);
        if expired {
            self.ends(mail).expired += 1;
        } else {
            self.places[self.mails[mail as usize].site as usize].put_off += 1;
            self.after(Duration::from_millis(wait as u64 + spread), Event::Due(mail));
        }
    }

    /// A plan allows somebody else what this mail did not use.
    fn room_came_back(&mut self) {
        if self.kept > 0 {
            self.refill_in(REFILL);
        }
    }

    fn delivered(&mut self, mail: u32) {
        let hour = self.hour();
        if let Some(permit) = self.mails[mail as usize].permit.take() {
            permit.delivered(hour);
        }
        let hour = (self.now.as_secs() / 3600) as usize;
        if self.found.hours.len() <= hour {
            self.found.hours.resize(hour + 1, 0);
        }
        self.found.hours[hour] += 1;
        let (now, group) = (self.now, self.ends(mail));
        (group.delivered, group.last) = (group.delivered + 1, now);
    }

    fn group(&mut self, mail: u32) -> &mut SiteForecast {
        let site = self.mails[mail as usize].site as usize;
        &mut self.found.sites[self.load.sites[site].group]
    }

    /// A mail has come to its end. With the one that makes nineteen of twenty it is known what kept them: its site is the
    /// slowest, nearly.
    fn ends(&mut self, mail: u32) -> &mut SiteForecast {
        let (n, now) = (self.mails[mail as usize].site as usize, self.now);
        let group = self.load.sites[n].group;
        self.over[group] += 1;
        if self.over[group] == (self.found.sites[group].recipients * 19).div_ceil(20) {
            let place = &self.places[n];
            let waited = place.waited + place.since.map_or(Duration::ZERO, |since| now - since);
            let ways = &mut self.ways[n * self.members.len()..(n + 1) * self.members.len()];
            let kept = ways.iter_mut().map(|way| way.kept(now)).chain([(Reason::Plan, waited)]);
            let kept = kept.max_by_key(|(_, time)| *time);
            let name = self.load.sites[n].name.clone();
            self.found.sites[group].mostly = now;
            self.found.sites[group].kept = kept.map(|(why, time)| (name, why, time));
        }
        self.group(mail)
    }

    fn leave(&mut self, worker: usize) {
        let n = self.workers[worker].way;
        let retries = self.retries(n);
        let way = &mut self.ways[n];
        if std::mem::take(&mut self.workers[worker].connected) {
            way.host.exit();
            way.connected -= 1;
        }
        way.shape.exit();
        way.workers -= 1;
        if way.workers == 0 && way.ready.is_empty() {
            way.feels(retries, self.now);
        }
        self.workers[worker].rests += 1;
        self.connections -= 1;
        self.free.push(worker);
        for _ in 0..self.starved.len() {
            if self.connections >= CONNECTIONS {
                break;
            }
            let Some(waits) = self.starved.pop_front() else { break };
            self.ways[waits].starved = false;
            self.start(waits);
        }
        self.start(n);
    }

    fn over(mut self) -> Forecast {
        let sources = self.members.len();
        for (n, target) in self.load.sites.iter().enumerate() {
            let ways = &self.ways[n * sources..(n + 1) * sources];
            let blocked: HashSet<u64> = ways.iter().flat_map(|way| way.host.ledger().blocked).collect();
            self.found.sites[target.group].blocked += blocked.len() as u64;
        }
        self.found
    }
}

/// Why a site is sent nothing now.
fn why(shape: &Site, clock: Instant) -> Reason {
    match () {
        () if shape.pause(clock).is_some() => Reason::Asked,
        () if shape.counts_ours() => Reason::ItsQuota,
        () => Reason::OurRate,
    }
}

impl Target {
    /// What the plan of a new source counts it by.
    pub(super) fn label(&self) -> &str {
        self.policy.id.as_deref().filter(|_| !self.policy.by_mx_set).unwrap_or(&self.name)
    }

    /// Whether an operator means it by a name.
    fn is(&self, name: &str) -> bool {
        self.policy.id.as_deref() == Some(name)
            || self.name.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}
