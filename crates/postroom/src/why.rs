//! Why a mail has not left yet, and who can do something about it.

use std::fmt::Write;

use base::{Address, Timestamp};
use bounce::{Class, Classifier, Scope};
use outbox::{Kept, Looked, SiteState, Why};
use queue::receipt::When;
use queue::source::{self, Judged, Member, Setup, Stop, What};
use queue::{Message, QueueId, Standing, State};
use serde_json::{Value, json};
use store::Tx;

use crate::admin::{Answer, Outcome, words};
use crate::house::House;
use crate::mailq::is_held_back;
use crate::organisations::Names;
use crate::policies::ends_pause;
use crate::receipts::Wanted;
use crate::{quiet, receipts, sources, stops};

/// Messages that are told of.
const SHOWN: usize = 100;

/// All that waits for an address, each with its reason.
pub async fn why(house: &House, address: &str) -> Outcome {
    let to = Address::parse(address).map_err(|e| format!("{address:?}: {e}"))?;
    let (mut waiting, _) =
        receipts::queued(&house.store, &to, When::default(), &Wanted::default(), SHOWN + 1).await.map_err(words)?;
    let more = waiting.len() > SHOWN;
    waiting.truncate(SHOWN);
    let all = move |tx: &mut Tx<'_>| Ok((found(tx, &waiting)?, source::setup(tx)?, Names::read(tx)?));
    let (found, setup, names) = house.store.read(all).await.map_err(words)?;
    let look = Look { house, setup: &setup, names: &names };
    if found.is_empty() {
        let text = format!(
            "Nothing for {to} waits here. It was sent, or given up and reported to its sender, or never came this way: postroom \
             receipt find {to} says which"
        );
        return Ok(Answer::new(text, Value::Array(Vec::new())));
    }
    // Its patterns take some megabytes, and are asked for now and then.
    let classifier = tokio::task::spawn_blocking(Classifier::shared).await.map_err(|e| e.to_string())?;
    let classifier = classifier.ok_or("the data of bounce classes cannot be used")?;
    let (mut text, mut data) = (String::new(), Vec::new());
    for (message, d) in &found {
        let class = classifier.class(&d.class);
        look.tell(&mut text, message, d, class);
        data.push(facts(message, d, class));
    }
    if more {
        let _ = writeln!(
            text,
            "There are more: postroom receipt find {to} lists them, the one accepted last first, as this does"
        );
    }
    Ok(Answer::new(text.trim_end(), Value::Array(data)))
}

fn found(tx: &mut Tx<'_>, which: &[(QueueId, u32)]) -> store::Result<Vec<(Message, Standing)>> {
    let mut found = Vec::new();
    // One message may go to many others, too.
    for (id, number) in which {
        found.extend(queue::show_one(tx, *id, *number)?);
    }
    Ok(found)
}

/// What is known of all that waits.
struct Look<'a> {
    house: &'a House,
    setup: &'a Setup,
    names: &'a Names,
}

impl Look<'_> {
    fn tell(&self, text: &mut String, m: &Message, d: &Standing, class: Option<&Class>) {
        let from = m.from.as_ref().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "{}  to <{}>, from <{from}>, accepted {}", m.id, d.delivery.to, m.created.rfc3339());
        let (due, n) = (d.due.rfc3339(), d.delivery.attempts);
        let state = match d.state {
            State::Waiting if is_held_back(m, d) => {
                format!("Its sender wants it to leave at {due}: postroom queue retry {} sends it now.", m.id)
            }
            State::Waiting if n == 0 => format!("It has not been tried yet and is due at {due}."),
            State::Waiting => format!("It waits for its next attempt at {due}; {n} so far."),
            State::Claimed => self.under_way(m, d),
            State::Cancelling => "It is being sent, and will be cancelled unless it arrives.".into(),
            State::Held => {
                format!("Its row cannot be read, so nobody tries it: postroom queue cancel {} removes it.", m.id)
            }
            State::Delivered | State::Failed | State::Cancelled => "It is finished; its report is on the way.".into(),
        };
        let _ = writeln!(text, "    {state}");
        if let Some(pool) = self.setup.pool(m.stream, m.organisation).filter(|_| d.state.is_open()) {
            let of = pool.organisation.map_or(String::new(), |own| format!(" of {}", self.names.of(own)));
            let _ = writeln!(text, "    It leaves by the pool {}{of}.", pool.name);
        }
        if let Some(held) = self.held(m, d) {
            let _ = writeln!(text, "    {held}");
        }
        if !d.reply.is_empty() {
            let who = if d.host.is_empty() { "This server" } else { &d.host };
            let _ = writeln!(text, "    {who} said last: {}", d.reply.replace(['\r', '\n'], " "));
            let means = match class {
                Some(class) => format!("That means: {} ({}). {}", class.about, class.name, blame(class)),
                None => "No host has answered for the mail: the way there, or the host, is at fault.".into(),
            };
            let _ = writeln!(text, "    {means}");
        }
        // Its time stands still while it is held.
        if d.state.is_open() && !self.setup.stops.iter().any(|stop| keeps_back(self.setup, stop, m, d)) {
            let _ = writeln!(text, "    It is given up, and its sender told, at {}.", d.delivery.expires.rfc3339());
        }
    }

    /// It is in hand: where it stands.
    fn under_way(&self, m: &Message, d: &Standing) -> String {
        let Some(outbox) = &self.house.outbox else { return "It was being sent when the server stopped.".into() };
        let Some(site) = outbox.waits_for(m.id, d.delivery.number) else {
            let looked = outbox.looks_for(m.id, d.delivery.number);
            return looked.map_or("It is being sent.".into(), |looked| looked_for(&looked, self.house.clock.now()));
        };
        let mut text = format!(
            "It stands in line for the site {} by {}, among {}: {} of {} connections are open.",
            site.site, site.source, site.in_line, site.open, site.may_open
        );
        if let Some(wait) = site.paused {
            let (seconds, ended) = (wait.as_secs(), ends_pause(&site));
            let _ = write!(text, " The site asked for a pause: nothing goes there for {seconds} s; {ended} ends it.");
        }
        text + &last_words(&site)
    }

    /// What keeps it back beside its time.
    fn held(&self, m: &Message, d: &Standing) -> Option<String> {
        let Look { house, setup, names } = *self;
        if d.state != State::Waiting {
            return None;
        }
        if let Some(stop) = setup.stops.iter().find(|stop| keeps_back(setup, stop, m, d)) {
            return Some(format!("{}: postroom queue resume lets it go on.", stops::said(setup, names, stop)));
        }
        let own = setup.quiet.iter().filter(|q| q.stream == m.stream && q.organisation == m.organisation);
        if let Some((quiet, until)) = own.filter_map(|q| Some((q, q.until(house.clock.now())?))).next() {
            return Some(format!(
                "It is in quiet hours ({}) until {}: it goes on by itself then. postroom queue quiet {}{} --none ends them.",
                quiet::words(quiet, names),
                until.rfc3339(),
                m.stream,
                names.option(m.organisation)
            ));
        }
        let outbox = house.outbox.as_ref()?;
        let (until, why) = outbox.held(m.group(&d.delivery))?;
        if until <= house.clock.now() {
            return None;
        }
        let (until, kept) = (until.rfc3339(), outbox.kept(m.group(&d.delivery)));
        Some(match why {
            Why::Busy => busy(kept.as_ref(), &until),
            Why::Bound => format!(
                "{} has sent there as much as its own figures let it for now (postroom policy list shows them). It goes on by \
                 itself, and is looked at again at {until}.",
                names.of(m.organisation)
            ),
            Why::Spent => self.spent(m, kept.as_ref(), &until),
            Why::Stopped if kept.as_ref().is_some_and(|kept| !kept.stops.is_empty()) => {
                let stops = kept.iter().flat_map(|kept| &kept.stops);
                let all: Vec<String> = stops.map(|stop| stops::said(setup, names, stop)).collect();
                format!("{}: postroom queue resume lets it go on.", all.join(", and "))
            }
            Why::Stopped => {
                let text = "An administrator of this server held or drained the site that it goes to, or what it leaves by: postroom \
                            queue holds shows what, postroom queue resume lets it go on.";
                text.into()
            }
        })
    }

    /// All that it may leave by is new: whether it was stopped, or has sent enough, and how it fared there.
    fn spent(&self, m: &Message, kept: Option<&Kept>, until: &str) -> String {
        let members = self.setup.members(m.stream, m.organisation);
        let is_here = |one: &&Judged| kept.is_some_and(|kept| kept.site == *one.site);
        let judged = |member: &Member| self.setup.judged.iter().filter(is_here).find(|one| one.source == member.source);
        let found: Vec<&Judged> = members.iter().filter_map(judged).collect();
        let name = |one: &Judged| {
            let source = self.setup.sources.iter().find(|source| source.id == one.source);
            source.map_or(source::DEFAULT, |source| &source.name).to_owned()
        };
        let said = found.iter().map(|one| format!(" {} at {}, {}.", name(one), one.site, sources::found(one)));
        let said: String = said.collect();
        if found.len() == members.len() && found.iter().all(|one| one.is_stopped) {
            return format!(
                "What it may leave by is new, and was stopped there after a bad day: postroom source warmup NAME --resume SITE lets \
                 it go on.{said}"
            );
        }
        format!(
            "What it may leave by is new, and has delivered what it may today, or in an hour (postroom source warmup NAME shows it). It \
             goes on by itself, and is looked at again at {until}.{said}"
        )
    }
}

/// Its site is not known yet.
fn looked_for(looked: &Looked, now: Timestamp) -> String {
    let since = Timestamp(now.0 - i64::try_from(looked.since.as_millis()).unwrap_or(0));
    let (domain, since) = (&looked.domain, since.rfc3339());
    format!("The mail hosts of {domain} are looked for since {since}: the DNS has not answered yet.")
}

/// There is no place for it where it goes: whether that is a pause or a limit, and of which site.
fn busy(kept: Option<&Kept>, until: &str) -> String {
    let Some(kept) = kept else {
        return format!(
            "Nothing goes to that domain before {until}: too much mail waits for it, or for the DNS to answer. It goes on by itself."
        );
    };
    let (Kept { site, source, left_alone, .. }, state) = (kept, kept.state.as_ref());
    let why = match (state.and_then(|state| Some((state, state.paused?))), left_alone, state) {
        (Some((state, wait)), ..) => {
            let (seconds, ended) = (wait.as_secs(), ends_pause(state));
            format!("asked for a pause: nothing goes there by {source} for {seconds} s, unless {ended} ends it")
        }
        (None, Some(wait), _) => {
            format!(
                "is left alone by {source} for {} s, as no connection came about several times in a row",
                wait.as_secs()
            )
        }
        (None, None, Some(SiteState { in_line, open, may_open, .. })) => format!(
            "has been sent as much as it takes by {source}, a limit: {in_line} in line, {open} of {may_open} connections are open"
        ),
        (None, None, None) => format!("had no place for more by {source}"),
    };
    let last = state.map_or(String::new(), last_words);
    format!("Nothing goes to that domain before {until}: its site {site} {why}. It goes on by itself.{last}")
}

/// What a site said, and where to look.
fn last_words(site: &SiteState) -> String {
    let said = site.last.as_ref().map(|(ago, said)| format!(" It said {} s ago: {said}", ago.as_secs()));
    format!("{}\n    postroom site show {} tells what limits it.", said.unwrap_or_default(), site.site)
}

/// Whether a stop keeps it back, as far as that is known without its site.
fn keeps_back(setup: &Setup, stop: &Stop, m: &Message, d: &Standing) -> bool {
    match stop.what {
        What::Source(id) => setup.members(m.stream, m.organisation).iter().all(|member| member.source == id),
        _ => stop.what.is_of(m.stream, m.organisation, d.delivery.to.domain()) == Some(true),
    }
}

/// Who can do something about it.
fn blame(class: &Class) -> &'static str {
    match class.scope {
        Scope::Address => "It is about the recipient's address: only the recipient, or his administrator, can mend it.",
        Scope::Domain => "It is about the recipient's domain: its administrator can mend it.",
        Scope::Message => "It is about this mail: another one, changed, may pass.",
        Scope::Sender => "It is about our sender's domain: see postroom domain dns NAME --check.",
        Scope::Source => "It is about the address that this server sends from: its reputation, or its reverse DNS.",
        // What was said names the host, and who demands it.
        Scope::Site if &*class.name == "tls-failed" => {
            "It is about TLS at the site that receives: its administrator can mend it, unless somebody sits between."
        }
        Scope::Site => "It is about the site that receives: it is busy, or takes only so much at a time.",
        Scope::Us => "It is about this server: its set-up, or its store.",
        Scope::None => "",
    }
}

fn facts(m: &Message, d: &Standing, class: Option<&Class>) -> Value {
    json!({ "id": m.id.to_string(), "to": d.delivery.to.to_string(), "state": d.state.word(),
        "attempts": d.delivery.attempts, "due": d.due.rfc3339(), "expires": d.delivery.expires.rfc3339(),
        "host": d.host, "reply": d.reply, "class": class.map(|class| &*class.name),
        "about": class.map(|class| &*class.about) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bounce::Known;

    use super::*;

    #[test]
    fn tls_that_fails_is_no_busy_site() {
        let classifier = Classifier::new().unwrap();
        for known in [Known::TlsMtaSts, Known::TlsDane, Known::TlsHandshake] {
            assert!(blame(classifier.known(known).class).contains("TLS at the site"), "{known:?}");
        }
        let busy = classifier.class("rate-limited").unwrap();
        assert!(blame(busy).contains("busy"));
    }

    #[test]
    fn whose_hosts_are_looked_for_is_told_since_when() {
        let looked = Looked { domain: "slow.test".into(), since: Duration::from_secs(7) };
        let said = looked_for(&looked, Timestamp::from_secs(1_700_000_007));
        assert!(said.starts_with("The mail hosts of slow.test are looked for since 2023-11-14T22:13:20Z"), "{said}");
    }

    #[test]
    fn what_there_is_no_place_for_names_its_site_and_whether_that_is_a_pause() {
        let state = |paused: Option<u64>| SiteState {
            source: "news-1".into(),
            site: "google".into(),
            in_line: 812,
            open: 2,
            may_open: 3,
            limits: Vec::new(),
            tenants: Vec::new(),
            paused: paused.map(Duration::from_secs),
            learned: Vec::new(),
            last: Some((Duration::from_secs(12), "421 4.7.28 too much from you".into())),
        };
        let kept = |state: Option<SiteState>, left_alone: Option<u64>| Kept {
            site: "google".into(),
            source: "news-1".into(),
            state,
            left_alone: left_alone.map(Duration::from_secs),
            stops: Vec::new(),
        };
        for (kept, words) in [
            (
                Some(kept(Some(state(Some(588))), None)),
                "google asked for a pause: nothing goes there by news-1 for 588 s, unless postroom site resume google --source news-1",
            ),
            (Some(kept(Some(state(None)), None)), "by news-1, a limit: 812 in line, 2 of 3 connections are open"),
            (Some(kept(Some(state(None)), Some(900))), "is left alone by news-1 for 900 s, as no connection"),
            (Some(kept(None, None)), "its site google had no place"),
            (None, "too much mail waits for it"),
        ] {
            let said = busy(kept.as_ref(), "then");
            assert!(said.contains(words), "{said}");
            let known = kept.is_some_and(|kept| kept.state.is_some());
            assert_eq!(
                known,
                said.contains("It said 12 s ago: 421 4.7.28") && said.contains("site show google"),
                "{said}"
            );
        }
    }
}
