//! Workers: each connects to one hop and sends what stands in its line, one mail after another, until there is no more for
//! a while. A worker never waits for the store to write: what came of a mail goes to the recorder.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::{Address, Reply, Stream, Timestamp};
use net::{ClientTls, Deadline};
use queue::source::Source;
use queue::{Cause, Delivery, Message, Outcome, Said};
use smtp::client::Stage;
use smtp::{Mail, Rcpt, Recipient};
use tokio::sync::Notify;

use crate::bodies::{self, Bytes};
use crate::connection::{Connection, Letter, NoWay, Sent, Terms, Tls, TlsFault};
use crate::dialogue::{self, ours};
use crate::dispatch::{bound, call, later, line_up, put_off, too_many};
use crate::guard::Guard;
use crate::hops::{Bells, For, Next, Work};
use crate::outbox::{Inner, counted};
use crate::route::{self, Hop, Target, To};
use crate::schedule;
use crate::shape::{Course, Ticket, TlsLevel, Words};
use crate::tally;

/// How long a worker waits until its site bears a connection more; else its line is put off.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// For connecting to all hosts of a hop, one after another, until one is ready for mail.
const IN_ALL: Duration = Duration::from_secs(600);
/// A refusal before any mail is of none: nothing is to be tried again at once for it.
pub(crate) const OLD: u32 = u32::MAX;
/// Mails that a worker sends while others wait for a connection.
pub(crate) const TURN: u32 = 20;
/// How long mail waits for a network that has all the connections it may have.
const CROWDED: Duration = Duration::from_secs(30);
/// How long a connection waits until mail is made; hosts wait for five minutes (RFC 5321 §4.5.3.2.7).
const UNTIL_PLACE: Duration = Duration::from_secs(120);
/// And after a panic.
const AFTER_PANIC: Duration = Duration::from_secs(300);
/// RFC 8314 §3.3
const SUBMISSIONS: u16 = 465;
/// RFC 2852 §4: nine digits.
const MOST_BY: i64 = 999_999_999;

/// Starts a worker for a hop; it has been counted already.
pub(crate) fn start(inner: &Arc<Inner>, hop: Hop) {
    let inner = inner.clone();
    tokio::spawn(async move { work(Slot { inner, hop, connected: false }).await });
}

/// A worker's place. It is given back however the worker ends, a panic included.
struct Slot {
    inner: Arc<Inner>,
    hop: Hop,
    connected: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(hop = %self.hop, "a worker panicked");
            // The next might too, and the next: what is in line waits.
            put_off(&self.inner, &self.hop, self.inner.hops.put_off(&self.hop, AFTER_PANIC));
        }
        // What is in line at a stop is given back by who stops.
        let next = self.inner.hops.leave(&self.hop, self.connected, self.inner.is_stopping());
        call(&self.inner);
        next.into_iter().for_each(|hop| start(&self.inner, hop));
        self.inner.left.notify_one();
    }
}

/// A mail that is being tried: when the worker panics, it waits like any that failed.
struct InHand<'a> {
    inner: &'a Inner,
    hop: &'a Hop,
    work: Option<Work>,
}

impl InHand<'_> {
    fn done(mut self) -> Option<Work> {
        self.work.take()
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        self.inner.hops.unanswered(self.hop, work.ticket);
        let (now, said) =
            (self.inner.clock.now(), ours(Reply::new(451, 3, 0, "This server failed while it sent the mail")));
        for d in work.deliveries {
            let outcome = if now >= d.expires {
                Outcome::Expired
            } else {
                Outcome::Deferred(Timestamp(now.0 + schedule::millis(AFTER_PANIC)))
            };
            self.inner.settle(&work.message, d, outcome, said.clone());
        }
    }
}

/// A connection counts in its network as long as this lives.
struct Place {
    inner: Arc<Inner>,
    ip: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ip.iter().for_each(|ip| self.inner.hops.exit(*ip));
    }
}

/// Why there is no connection.
enum NoneFound {
    /// What all mail for the hop is answered, for now or for good.
    Said(Said),
    /// Other hops have all connections to its network.
    Crowded,
    /// Its addresses are all of a family that the source has not.
    OutOfReach,
    Stopping,
}

async fn work(mut slot: Slot) {
    let (inner, hop) = (slot.inner.clone(), slot.hop.clone());
    let (inner, hop) = (&inner, &hop);
    if !may_connect(inner, hop).await {
        return;
    }
    let mut way = VecDeque::new();
    match connect(inner, hop, &mut way).await {
        Ok((connection, place)) => {
            inner.hops.connected(hop);
            slot.connected = true;
            serve(inner, hop, connection, place, way).await;
        }
        // What stands in line is given back by who stops.
        Err(NoneFound::Stopping) => {}
        Err(NoneFound::OutOfReach) => {
            tracing::info!(%hop, source = &*inner.hops.source(hop).name, "no address to reach it from");
            inner.hops.out_of_reach(hop).into_iter().for_each(|work| line_up(inner, hop, work));
        }
        Err(NoneFound::Crowded) => {
            inner.hops.unreachable(hop).into_iter().for_each(|work| too_many(inner, work, CROWDED));
        }
        Err(NoneFound::Said(said)) => {
            tracing::info!(%hop, host = said.host, reply = %said.reply, "no connection");
            if let Some(sts) = hop.sts.as_ref().filter(|sts| sts.enforces()) {
                inner.guards.was_in_the_way(&sts.domain, inner.clock.now());
            }
            turned_away(inner, hop, &said);
        }
    }
}

/// Waits until the site bears a connection more; false when this worker is not to have it.
async fn may_connect(inner: &Arc<Inner>, hop: &Hop) -> bool {
    loop {
        match inner.hops.connect(hop) {
            Ok(()) => return true,
            Err((_, wait)) if wait > PATIENCE => {
                put_off(inner, hop, inner.hops.put_off(hop, wait));
                return false;
            }
            Err(_) if inner.hops.is_crowded(hop, false) => return false,
            Err((bells, wait)) => {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = rung(&bells) => {}
                    () = inner.stopped() => return false,
                }
            }
        }
    }
}

/// All mail for the hop was refused before any was begun.
fn turned_away(inner: &Inner, hop: &Hop, said: &Said) {
    let by_peer = !said.host.is_empty();
    // RFC 7504 §4: only these say that the host takes no mail at all. Else a 5xx speaks of the connection, or of us, and no
    // mail fails by it.
    let keep = by_peer && ![521, 556].contains(&said.reply.code);
    let hint = if by_peer { inner.hops.hint(hop, &said.reply, &[]) } else { None };
    if !by_peer && said.talk.is_some() {
        inner.hops.failed(hop);
    }
    // Those who were turned away, before all others are put off.
    let turned_away = inner.hops.unreachable(hop);
    let (course, put_back) = hint.map_or_else(Default::default, |(hint, wait)| {
        inner.hops.heard(hop, &Words { hint, wait, sender: None, mail: None, attempts: OLD })
    });
    put_off(inner, hop, put_back);
    for work in turned_away {
        for delivery in work.deliveries {
            let course = Course { keep: keep || course.keep, stop: false, ..course };
            let (permit, transient) = (work.permit.as_deref(), said.reply.is_transient());
            inner.settle_failure(permit, &work.message, delivery, said.clone(), transient, course);
        }
    }
}

/// Looks for the way there, and connects to the first host that takes it; what is left of the way is in `way`.
async fn connect(inner: &Arc<Inner>, hop: &Hop, way: &mut VecDeque<Target>) -> Result<(Connection, Place), NoneFound> {
    let (random, family) = (|| inner.random(), inner.hops.ways(hop).family);
    if let (Some(sts), To::Hosts(hosts)) = (hop.sts.as_ref().filter(|sts| sts.enforces() && !hop.dane), &hop.to) {
        hosts.names().filter(|host| !sts.policy.names(host)).for_each(|host| tally::unnamed(inner, sts, host));
    }
    let found = async {
        let found = route::targets(&inner.routes, hop, family, inner.dns(), random).await;
        let (found, source) =
            (found.map_err(|reply| NoneFound::Said(softened(hop, ours(reply))))?, inner.hops.source(hop));
        way.extend(found.into_iter().filter(|target| source.reaches(target.ip.is_ipv4())));
        if way.is_empty() {
            return Err(NoneFound::OutOfReach);
        }
        follow(inner, hop, way).await
    };
    tokio::select! {
        found = found => found,
        () = inner.stopped() => Err(NoneFound::Stopping),
    }
}

/// A connection to the first host of `way` that gives one.
async fn follow(inner: &Arc<Inner>, hop: &Hop, way: &mut VecDeque<Target>) -> Result<(Connection, Place), NoneFound> {
    let deadline = Deadline::after(IN_ALL);
    let (mut failure, mut crowded): (Option<Said>, bool) = (None, false);
    while let Some(target) = way.pop_front() {
        if deadline.left().is_zero() {
            break;
        }
        // Where the administrator says so, all go to one network.
        let ip = matches!(hop.to, To::Hosts(_)).then_some(target.ip);
        if !ip.is_none_or(|ip| inner.hops.enter(hop, ip)) {
            crowded = true;
            continue;
        }
        let place = Place { inner: inner.clone(), ip };
        let said = match open(inner, hop, &target, deadline).await {
            Ok(connection) => return Ok((connection, place)),
            Err(said) => said,
        };
        // Of several hosts, one that may take it later counts.
        if failure.as_ref().is_none_or(|f| !f.reply.is_transient()) {
            failure = Some(said);
        }
    }
    if crowded {
        return Err(NoneFound::Crowded);
    }
    let nobody = || ours(Reply::new(451, 4, 4, "There is no host to connect to"));
    Err(NoneFound::Said(softened(hop, failure.unwrap_or_else(nobody))))
}

/// The administrator chose this way: what is wrong with it is not the mail's fault.
fn softened(hop: &Hop, said: Said) -> Said {
    if said.reply.is_transient() || matches!(hop.to, To::Hosts(_)) {
        return said;
    }
    let who = if said.host.is_empty() { hop.to_string() } else { said.host.clone() };
    Said {
        reply: Reply::new(451, 7, 0, format!("{who}: {}", said.reply)),
        host: String::new(),
        cause: Cause::Ours,
        ..said
    }
}

async fn open(inner: &Inner, hop: &Hop, target: &Target, deadline: Deadline) -> Result<Connection, Said> {
    let (source, site) = (inner.hops.source(hop), inner.hops.site(hop));
    let by_dane = match &target.guard {
        Guard::Dane(dane) => Some(inner.opportunistic.by_dane(dane.clone())),
        _ => None,
    };
    let counted = inner.hops.counted(hop, site.as_deref().unwrap_or(&target.host));
    let names = [site.as_deref(), counted.as_deref()];
    let terms = terms(inner, hop, (&source, names), target, by_dane.as_ref(), deadline);
    let count = |sender, fault| tally::session(inner, hop, target, sender, fault);
    match Connection::open(&inner.dialer, target, &terms).await {
        Ok(connection) => {
            let tested = hop.sts.as_ref().filter(|_| tally::is_tested(hop, target));
            let fault = tested.and_then(|sts| tally::tested(sts, &target.host, connection.trust().as_ref()));
            count(connection.sender(), fault);
            Ok(connection)
        }
        Err(NoWay::Refused(said)) => Err(said),
        Err(NoWay::Ourselves) => Err(ours(route::to_ourselves())),
        Err(NoWay::TlsFailed(said, fault)) if !matches!(terms.tls, Tls::IfOffered(_)) => {
            tracing::info!(%hop, host = target.host, reply = %said.reply, ?fault, "no TLS that is good enough");
            count(None, Some(tally::fault(fault, &said.reply.text)));
            Err(target.guard.explained(&target.host, said))
        }
        Err(NoWay::TlsFailed(said, TlsFault::OurCertificate)) if let Some(nameless) = &inner.nameless => {
            // What is wrong with ours is no reason to send in the clear.
            tracing::warn!(%hop, host = target.host, reply = %said.reply, "the host does not take our certificate");
            let terms = Terms { tls: Tls::Demanded(nameless), ..terms };
            Connection::open(&inner.dialer, target, &terms).await.map_err(NoWay::said)
        }
        Err(NoWay::TlsFailed(said, fault)) => {
            // RFC 7435 §3: no TLS is no worse than what we would have done without the offer; on a new connection, as this
            // one is in an unknown state.
            tracing::info!(%hop, host = target.host, reply = %said.reply, ?fault, "trying without TLS");
            count(None, Some(tally::fault(fault, &said.reply.text)));
            let terms = Terms { tls: Tls::Never, ..terms };
            Connection::open(&inner.dialer, target, &terms).await.map_err(NoWay::said)
        }
    }
}

/// With `by_dane` where the DNS names the host's certificate.
fn terms<'a>(
    inner: &'a Inner,
    hop: &Hop,
    (source, [site, counted]): (&'a Source, [Option<&'a str>; 2]),
    target: &Target,
    by_dane: Option<&'a ClientTls>,
    deadline: Deadline,
) -> Terms<'a> {
    let hostname = &inner.hostname;
    let (ehlo, from) = (source.ehlo.as_deref().unwrap_or(hostname), source.address_for(target.ip));
    let smarthost = inner.routes.smarthost.as_ref().filter(|_| hop.to == To::Smarthost);
    let login = smarthost.and_then(|s| s.login.as_ref());
    let level = |level| match (&target.guard, by_dane) {
        (_, Some(tls)) => Tls::Demanded(tls),
        // RFC 8689 §4.2.1
        _ if hop.require_tls => Tls::Demanded(&inner.verified),
        (Guard::Sts(_), _) => Tls::Demanded(&inner.verified),
        (Guard::Encrypted, _) if level == TlsLevel::Opportunistic => Tls::Demanded(&inner.opportunistic),
        _ => match level {
            TlsLevel::Opportunistic => Tls::IfOffered(&inner.opportunistic),
            TlsLevel::Encrypt => Tls::Demanded(&inner.opportunistic),
            TlsLevel::Verify => Tls::Demanded(&inner.verified),
        },
    };
    let tls = match (smarthost, login) {
        (Some(s), _) if hop.require_tls && s.address.port == SUBMISSIONS => Tls::First(&inner.verified),
        (Some(_), _) if hop.require_tls => Tls::Demanded(&inner.verified),
        (Some(s), None) if s.address.port == SUBMISSIONS => Tls::First(&inner.opportunistic),
        (Some(s), Some(_)) if s.address.port == SUBMISSIONS => Tls::First(&inner.verified),
        // On this machine nobody listens in, and certificates rarely fit.
        (Some(s), Some(_)) if s.address.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()) => {
            Tls::IfOffered(&inner.opportunistic)
        }
        (Some(_), Some(_)) => Tls::Demanded(&inner.verified),
        _ => level(inner.hops.ways(hop).tls),
    };
    let login = login.map(|(user, password)| (user.as_str(), password.as_str()));
    let not_ourselves = matches!(hop.to, To::Hosts(_));
    let (clock, require_tls, name) = (inner.clock.clone(), hop.require_tls, &*source.name);
    let unchunked = &inner.unchunked;
    Terms {
        hostname,
        ehlo,
        from,
        clock,
        source: name,
        site,
        counted,
        tls,
        require_tls,
        login,
        not_ourselves,
        unchunked,
        deadline,
    }
}

/// `way` leads to further hosts. When the first mail finds no mercy with a host, the next is tried, once (RFC 5321 §5.1: a
/// backup is of use also when the first host is up and unwell).
async fn serve(inner: &Arc<Inner>, hop: &Hop, mut connection: Connection, mut place: Place, mut way: VecDeque<Target>) {
    let mut sent = 0;
    while let Some((work, at)) = next(inner, hop, &mut connection, sent).await {
        sent += 1;
        let before = connection.host().to_owned();
        way.retain(|target| target.host != before);
        let next = sent == 1 && !way.is_empty() && !inner.hops.counts_ours(hop);
        let again = attempt(inner, hop, &mut connection, (work, at), next).await;
        let Some((work, said)) = again else { continue };
        let in_hand = InHand { inner, hop, work: Some(work) };
        connection.close().await;
        drop(place);
        let found = tokio::select! {
            found = follow(inner, hop, &mut way) => found,
            () = inner.stopped() => Err(NoneFound::Stopping),
        };
        let Some(work) = in_hand.done() else { return };
        match found {
            Ok(found) => (connection, place) = found,
            Err(_) => {
                let permit = work.permit.as_deref();
                for (d, said) in work.deliveries.into_iter().zip(said) {
                    inner.settle_failure(permit, &work.message, d, said, true, Course::default());
                }
                return;
            }
        }
        tracing::info!(%hop, before, host = connection.host(), "trying the next host");
        attempt(inner, hop, &mut connection, (work, None), false).await;
    }
    connection.close().await;
}

/// How long the quiet hours of some work still are, if it is in them.
fn quiet_for(inner: &Inner, work: &Work) -> Option<Duration> {
    let (now, m) = (inner.clock.now(), &work.message);
    let until = inner.timetable.quiet(m.stream, m.organisation, now)?;
    Some(Duration::from_millis((until.0 - now.0).max(0) as u64))
}

/// A mail in hand, and the place where it is to be made.
type Taken = (Work, Option<bodies::Place>);

/// The next mail for this connection; waits a little for one.
async fn next(inner: &Arc<Inner>, hop: &Hop, connection: &mut Connection, sent: u32) -> Option<Taken> {
    let (mut queued, mut place) = (None, None);
    loop {
        // Trap 21: while outcomes cannot be written, nothing more is sent.
        inner.until_not_held().await;
        if inner.is_stopping() || connection.is_spent() || inner.hops.is_crowded(hop, sent >= TURN) {
            return None;
        }
        // Asked when there is a wait, not for each mail.
        let idle = || inner.hops.ways(hop).idle;
        let next = inner.hops.next(hop, connection.max_recipients(), connection.mails(), place.is_some());
        call(inner);
        // Who is in the queue for a place and does not wait there would be given one, and make nothing.
        if !matches!(next, Next::Make(..)) {
            queued = None;
        }
        let (goes_on, rests) = (!matches!(next, Next::Rest(_)), matches!(next, Next::Rest(_) | Next::Until(..)));
        let (bells, wait) = match next {
            Next::Send(work) => match quiet_for(inner, &work) {
                None => return Some((work, place)),
                // It stood in line when they began.
                Some(wait) => {
                    inner.hops.unsent(hop, &work);
                    later(inner, work, wait);
                    continue;
                }
            },
            Next::Leave => return None,
            Next::Later(work, wait) => {
                later(inner, work, wait);
                continue;
            }
            Next::Wait(_, wait) if wait > idle() => {
                put_off(inner, hop, inner.hops.put_off(hop, wait));
                continue;
            }
            Next::Bound(works) => {
                let seen = inner.timetable.stops_seen();
                works.into_iter().for_each(|(work, wait)| bound(inner, hop, work, wait, seen));
                continue;
            }
            Next::Wait(bells, wait) | Next::Until(bells, wait) => (bells, wait),
            Next::Rest(bells) => (bells, idle()),
            Next::Make(stream, bell) => {
                place = until_place(inner, hop, connection, (stream, &bell), &mut queued).await?;
                continue;
            }
        };
        // Not kept over a wait: others can use it.
        place = None;
        let waits = rests.then(|| Waits { inner, hop, what: For::Work });
        let go_on = tokio::select! {
            () = rung(&bells) => true,
            () = connection.wait_for_end() => false,
            () = tokio::time::sleep(wait) => goes_on,
            () = inner.stopped() => false,
        };
        drop(waits);
        if !go_on {
            return None;
        }
    }
}

async fn rung([line, site, all]: &Bells) {
    tokio::select! {
        () = line.notified() => {}
        () = site.notified() => {}
        () = all.notified() => {}
    }
}

/// Counts as waiting as long as it lives.
struct Waits<'a> {
    inner: &'a Inner,
    hop: &'a Hop,
    what: For,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.inner.hops.wake(self.hop, self.what);
    }
}

/// A turn in the queue for a place where mail of a stream is made.
type Queued<'a> = Option<(Stream, Pin<Box<dyn Future<Output = bodies::Place> + Send + 'a>>)>;

/// Waits for a place where mail is made, or for other mail: who is called away keeps his turn in the queue. None: the connection
/// is to end.
async fn until_place<'a>(
    inner: &'a Inner,
    hop: &Hop,
    connection: &mut Connection,
    (stream, bell): (Stream, &Notify),
    queued: &mut Queued<'a>,
) -> Option<Option<bodies::Place>> {
    let _waits = Waits { inner, hop, what: For::Place };
    queued.take_if(|(queued, _)| !bodies::same_places(*queued, stream));
    let (_, queue) = queued.get_or_insert_with(|| (stream, Box::pin(inner.makers.place(stream))));
    let place = tokio::select! {
        place = queue => Some(place),
        () = bell.notified() => None,
        () = connection.wait_for_end() => return None,
        () = tokio::time::sleep(UNTIL_PLACE) => return None,
        () = inner.stopped() => return None,
    };
    if place.is_some() {
        *queued = None;
    }
    Some(place)
}

/// Tries a mail. With `next`, gives what another host may be tried with at once, and what this one said to each.
async fn attempt(
    inner: &Arc<Inner>,
    hop: &Hop,
    connection: &mut Connection,
    (work, place): Taken,
    next: bool,
) -> Option<(Work, Vec<Said>)> {
    let in_hand = InHand { inner, hop, work: Some(work.clone()) };
    let again = send(inner, hop, connection, (work, place), next).await;
    in_hand.done();
    again
}

async fn send(
    inner: &Arc<Inner>,
    hop: &Hop,
    connection: &mut Connection,
    (work, place): Taken,
    next: bool,
) -> Option<(Work, Vec<Said>)> {
    let (m, now) = (&work.message, inner.clock.now());
    // RFC 2852 §4.1.4: it is not passed on without time.
    if m.is_late(now) {
        inner.hops.unsent(hop, &work);
        let said = ours(Reply::new(550, 4, 7, "There was no way to deliver it in time"));
        work.deliveries.into_iter().for_each(|d| inner.settle(&work.message, d, Outcome::Expired, said.clone()));
        return None;
    }
    let suppressed = inner.suppressed.load(Ordering::Relaxed);
    let bytes = match bodies::get(inner, place, m, work.deliveries.first()?).await {
        // Trap 35: somebody was suppressed while it was made; who that was is asked again.
        Ok(Bytes::Made(_)) if inner.suppressed.load(Ordering::Relaxed) != suppressed => {
            inner.hops.unsent(hop, &work);
            work.deliveries.iter().for_each(|d| inner.release(m, d, now));
            return None;
        }
        Ok(bytes) => bytes,
        Err(missing) => {
            inner.hops.unsent(hop, &work);
            bodies::settle(inner, &work.message, work.deliveries, missing);
            return None;
        }
    };
    let (prefix, blob, octets, (body, smtputf8)) = match &bytes {
        Bytes::Stored(blob) => (&*m.prefix, Some(blob), m.octets, (m.body, m.smtputf8)),
        Bytes::Made(made) => (&*made.bytes, None, made.bytes.len() as u64, made.demands()),
    };
    let from = sender(inner, &work).await;
    let signed = signed_hop(inner, &work, from.as_ref(), prefix).await;
    let (prefix, octets) = match &signed {
        Some(signed) => (&**signed, octets - prefix.len() as u64 + signed.len() as u64),
        None => (prefix, octets),
    };
    let mail = Mail {
        from,
        size: Some(octets),
        body,
        smtputf8,
        require_tls: m.require_tls,
        ret: m.ret,
        envelope_id: m.envelope_id.clone(),
        auth: None,
        hold: None,
        deliver_by: m.deliver_by.map(|by| smtp::DeliverBy {
            seconds: ((by.until.0 - now.0) / 1000).clamp(-MOST_BY, MOST_BY) as i32,
            returned: by.returned,
            trace: by.trace,
        }),
        priority: (m.priority != 0).then_some(m.priority),
    };
    let rcpt =
        |d: &Delivery| Rcpt { to: Recipient::Mailbox(d.to.clone()), notify: d.notify, original: d.original.clone() };
    let rcpts = work.deliveries.iter().map(rcpt).collect();
    inner.journal.begun(m.id, work.deliveries.iter().map(|d| d.number));
    let letter = Letter { mail, rcpts, prefix, blob, lease: &inner.lease, again: work.again };
    match connection.send(letter).await {
        // Trap 30: what the host lacks is not left out of the mail.
        Err(unable) => {
            inner.hops.unsent(hop, &work);
            let reply = unable.reply();
            let text = format!("{}: {}", connection.host(), reply.text);
            inner.settle_all(work, &ours(Reply { text: text.into(), ..reply }));
            None
        }
        // A host that closes the connection for the mails that it had before is to be heard.
        Ok(sent) if sent.untouched && !work.again && !is_about_rate(inner, hop, &sent) => {
            inner.journal.over(work.deliveries.iter().map(|d| (work.message.id, d.number)));
            let was_answered = sent.verdicts.iter().any(|verdict| verdict.by_peer);
            inner.hops.give_back(hop, work, was_answered).into_iter().for_each(|work| line_up(inner, hop, work));
            None
        }
        Ok(sent) => settle(inner, hop, connection, work, sent, next),
    }
}

/// The fields before a mail that is to have a signature of DKIM2 for each transaction: with that, or without what it would sign.
async fn signed_hop(inner: &Inner, work: &Work, from: Option<&Address>, prefix: &[u8]) -> Option<Vec<u8>> {
    let (instance, rest) = prefix.split_at(trust::instance_of(prefix)?);
    let ([delivery], Some(from), Ok(text)) = (&work.deliveries[..], from, str::from_utf8(instance)) else {
        return Some(rest.to_vec());
    };
    match inner.keys.sign_hop(text, from, &delivery.to, inner.clock.now()).await {
        Ok(Some(signature)) => Some([signature.as_bytes(), prefix].concat()),
        Ok(None) => Some(rest.to_vec()),
        Err(error) => {
            tracing::warn!(queue = %work.message.id, %error, "a mail leaves without a signature of DKIM2");
            Some(rest.to_vec())
        }
    }
}

/// Who gets what comes back: the sender, or an address that stands for this delivery alone.
async fn sender(inner: &Inner, work: &Work) -> Option<Address> {
    let (m, from) = (&work.message, work.message.from.as_ref()?);
    let [delivery] = &work.deliveries[..] else { return Some(from.clone()) };
    if !inner.hops.wants_verp(m) {
        return Some(from.clone());
    }
    let own = async {
        if !inner.directory.is_ours(from.domain()).await? {
            return Ok(None);
        }
        inner.verp.address(m.id.bits(), delivery.number, from.domain(), inner.clock.now()).await
    };
    let own = own.await.unwrap_or_else(|error: base::Error| {
        tracing::warn!(queue = %m.id, %error, "a mail leaves without a return address of its own");
        None
    });
    Some(own.unwrap_or_else(|| from.clone()))
}

fn is_about_rate(inner: &Inner, hop: &Hop, sent: &Sent) -> bool {
    sent.verdicts.first().is_some_and(|v| v.by_peer && inner.hops.is_about_rate(hop, &v.reply))
}

fn settle(
    inner: &Arc<Inner>,
    hop: &Hop,
    connection: &mut Connection,
    work: Work,
    sent: Sent,
    next: bool,
) -> Option<(Work, Vec<Said>)> {
    if let Some(error) = &sent.unreadable {
        tracing::error!(queue = %work.message.id, %error, "a message in the queue cannot be read");
    }
    if !sent.verdicts.iter().any(|verdict| verdict.by_peer) {
        inner.hops.unanswered(hop, work.ticket);
    }
    // By what the attempt came to.
    let (mut came, permit) = ([0; 4], work.permit.as_deref());
    let (mut again, mut heard) = ((Vec::new(), Vec::new()), Heard { mail: work.ticket, ..Heard::default() });
    for (place, (delivery, verdict)) in work.deliveries.into_iter().zip(sent.verdicts).enumerate() {
        let (yes, transient) = (verdict.is_delivered(), verdict.is_transient());
        // After the final dot the host may have the mail, whatever is heard of it.
        let untaken = transient && verdict.stage != Stage::DataEnd && sent.unreadable.is_none();
        let said = match verdict.by_peer {
            true => Said::by(connection.host(), dialogue::stage(verdict.stage), verdict.reply),
            false => ours(verdict.reply),
        };
        let said = Said { talk: Some(sent.talk.clone()), place, ..said };
        if yes {
            came[0] += 1;
            let outcome = Outcome::Delivered { reports: connection.reports() };
            inner.settle_by(permit, &work.message, delivery, outcome, said);
            continue;
        }
        let course =
            if verdict.by_peer { heard.course(inner, hop, &work.message, &delivery, &said) } else { Course::default() };
        if next && untaken && course == Course::default() {
            inner.journal.over(std::iter::once((work.message.id, delivery.number)));
            came[1] += 1;
            again.0.push(delivery);
            again.1.push(said);
        } else {
            let outcome = inner.settle_failure(permit, &work.message, delivery, said, transient, course);
            counted(outcome).into_iter().for_each(|i| came[i] += 1);
        }
    }
    if heard.close {
        connection.retire();
    }
    inner.hops.came_of(hop, work.ticket, work.message.stream, came).into_iter().for_each(|hop| start(inner, hop));
    let (deliveries, said) = again;
    (!deliveries.is_empty()).then_some((Work { deliveries, ..work }, said))
}

/// What a host said in one transaction about the traffic. However many recipients hear the same, it is said once.
#[derive(Default)]
struct Heard {
    mail: Option<Ticket>,
    courses: HashMap<usize, Course>,
    close: bool,
    /// It said something that is not about the traffic.
    answered: bool,
}

impl Heard {
    fn course(&mut self, inner: &Inner, hop: &Hop, message: &Message, delivery: &Delivery, said: &Said) -> Course {
        let addresses: Vec<&Address> = message.from.iter().chain([&delivery.to]).collect();
        let Some((hint, wait)) = inner.hops.hint(hop, &said.reply, &addresses) else {
            if !std::mem::replace(&mut self.answered, true) {
                inner.hops.answered(hop, self.mail);
            }
            return Course::default();
        };
        if let Some(course) = self.courses.get(&hint) {
            return *course;
        }
        // What is only passed on by us has a sender whom anybody may have named.
        let sender = message.from.as_ref().filter(|_| message.account.is_some()).map(Address::domain);
        let words = Words { hint, wait, sender, mail: self.mail, attempts: delivery.attempts };
        let (course, put_back) = inner.hops.heard(hop, &words);
        put_off(inner, hop, put_back);
        self.close |= course.close;
        self.courses.insert(hint, course);
        course
    }
}
