//! Requests about receipts: what became of each recipient, looked for, shown, and exported.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use base::{AccountId, Address, Civil, OrganisationId, Stream, Timestamp};
use clap::{Args, Subcommand};
use queue::receipt::{self, Attempt, End, Event, Filter, Found, Head, Key, Pointer, Receipt, Recorded, When};
use queue::{Message, QueueId, Standing, State as Waits};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Store, Tx};

use crate::admin::{Answer, Outcome, account, refused, words};
use crate::house::House;
use crate::mailq;
use crate::organisations::{self, Names};

/// Receipts of one answer.
const MOST: usize = 1000;
/// A page of a message's: octets of its text and recipients, at most or a few more; and recipients that are read together.
const PAGE: usize = 1 << 20;
const RECIPIENTS: usize = 500;
const TOGETHER: u32 = 10;
/// Segments of which one read looks at the traces.
const SEGMENTS: u32 = 2000;
/// Reads of one search, and pages of one list: beyond, it says where to go on.
const READS: usize = 500;

/// Every mail that left has a receipt for each recipient: attempts with the dialogue, how it ended, what was heard since.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// All of one message: each recipient, each attempt, what was said, and when.
    Show {
        /// A number like 3-1f, as `find`, `list` and the log show it.
        id: String,
    },
    /// Mails to an address, or with a Message-ID: the one that was accepted last first.
    ///
    /// These two are indexed. What else is given is looked at in each mail that was found by them; --from, --source, --site and
    /// --organisation in the record of its last attempt, as long as that is kept.
    Find(Sought),
    /// Finished deliveries, those of the mail that was accepted last first.
    ///
    /// There is no index for what is given: one after the other is looked at, and where that was not all the answer says where to go on. --from, --source, --site and --organisation are looked up in the record of the last attempt, as long as that
    /// is kept, which takes longer.
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many, up to 1,000.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// All finished deliveries, in the order of the list, a line each: JSON, or CSV.
    ///
    /// It looks at all of them, whatever is given. --from, --source, --site and --organisation are looked up in the record of the last
    /// attempt, as long as that is kept, which takes longer.
    Export {
        #[command(flatten)]
        which: Which,
        /// Comma-separated values, with a line of names.
        #[arg(long)]
        csv: bool,
    },
}

/// All that is given must hold.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
pub struct Which {
    /// delivered, bounced, expired or cancelled.
    #[arg(long)]
    state: Option<String>,
    #[command(flatten)]
    narrow: Narrow,
    /// Ended since: 2026-11-22, 2026-11-22T08:00:00Z, or 90m, 24h, 7d ago.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Ended before.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Go on behind this one, as the last answer said.
    #[arg(long, value_name = "ID/NUMBER")]
    after: Option<String>,
}

/// What a delivery, and its last attempt, are to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct Narrow {
    /// The class of the refusal, like mailbox-full.
    #[arg(long)]
    class: Option<String>,
    /// mail, transactional or marketing.
    #[arg(long)]
    stream: Option<String>,
    /// Submitted by this account.
    #[arg(long, value_name = "ADDRESS")]
    account: Option<String>,
    /// Of this sender (of the envelope), or of a domain's.
    #[arg(long, value_name = "ADDRESS|@DOMAIN")]
    from: Option<String>,
    /// Last tried by this source.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Last tried at this site: a provider (google), a mail host, or what all its mail hosts end in.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Of this organisation.
    #[arg(long, value_name = "NAME")]
    organisation: Option<String>,
}

/// What is looked for.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Sought {
    /// The recipient; with --message-id, a Message-ID.
    what: String,
    /// Look for a Message-ID.
    #[arg(long)]
    message_id: bool,
    /// delivered, bounced, expired or cancelled; waiting, claimed (being sent, or in line for it), held (cannot be read) or cancelling.
    #[arg(long)]
    state: Option<String>,
    #[command(flatten)]
    narrow: Narrow,
    /// Accepted since: 2026-11-22, 2026-11-22T08:00:00Z, or 90m, 24h, 7d ago.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Accepted before.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many, up to 1,000.
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

/// What is asked of the server.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Some recipients of one message, behind that number.
    Show { id: String, behind: Option<u32> },
    /// By recipient or Message-ID.
    Find(Sought),
    /// A page of all.
    List { which: Which, limit: usize },
}

impl Which {
    /// The same, behind a receipt.
    pub fn behind(&self, after: &str) -> Which {
        Which { after: Some(after.to_owned()), ..self.clone() }
    }

    fn filter(&self, tx: &mut Tx<'_>, now: Timestamp) -> store::Result<Filter> {
        let end = self.state.as_deref().map(|word| {
            End::from_word(word).ok_or_else(|| refused(format!("{word}: delivered, bounced, expired or cancelled")))
        });
        Ok(Filter {
            end: end.transpose()?,
            since: self.since.as_deref().map(|text| time(text, now)).transpose()?,
            until: self.until.as_deref().map(|text| time(text, now)).transpose()?,
            ..self.narrow.filter(tx)?
        })
    }
}

impl Narrow {
    fn filter(&self, tx: &mut Tx<'_>) -> store::Result<Filter> {
        let stream = self.stream.as_deref().map(|word| word.parse::<Stream>().map_err(|e| refused(e.to_string())));
        Ok(Filter {
            class: self.class.clone(),
            stream: stream.transpose()?,
            account: self.account.as_deref().map(|login| account(tx, login)).transpose()?,
            from: self.from.as_deref().map(mailq::party),
            source: self.source.clone(),
            site: self.site.clone(),
            organisation: self.organisation.as_deref().map(|name| organisations::named(tx, name)).transpose()?,
            ..Filter::default()
        })
    }
}

/// What is wanted of the deliveries that a search finds: all of them, where nothing is given.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    state: Option<String>,
    narrow: Narrow,
}

impl Wanted {
    fn new(state: Option<String>, narrow: Narrow) -> Result<Wanted, String> {
        let known = |word: &&String| End::from_word(word).is_none() && !OPEN.iter().any(|open| open.word() == **word);
        if let Some(word) = state.as_ref().filter(known) {
            let open: Vec<_> = OPEN.iter().map(|open| open.word()).collect();
            return Err(format!("{word}: delivered, bounced, expired or cancelled, {}", open.join(", ")));
        }
        Ok(Wanted { state, narrow })
    }

    /// Nothing is asked of them.
    fn is_all(&self) -> bool {
        self.state.is_none() && self.narrow == Narrow::default()
    }

    /// How many to read to have `n`.
    fn ask(&self, n: usize) -> usize {
        if self.is_all() { n } else { MOST }
    }

    /// Those of them that are wanted.
    async fn of(&self, store: &Store, found: Vec<(QueueId, u32)>) -> store::Result<Vec<(QueueId, u32)>> {
        if found.is_empty() || self.is_all() {
            return Ok(found);
        }
        let wanted = self.clone();
        let such = move |tx: &mut Tx<'_>| {
            let filter = wanted.narrow.filter(tx)?;
            let all = these(tx, found.into_iter())?.into_iter();
            let such = all.filter(|one| wanted.state.as_ref().is_none_or(|word| one.word() == word) && one.is(&filter));
            Ok(such.map(|one| (one.head.message, one.head.number)).collect())
        };
        store.read(such).await
    }
}

/// States of what has not ended.
const OPEN: [Waits; 4] = [Waits::Waiting, Waits::Claimed, Waits::Held, Waits::Cancelling];

/// A day, a second of it, or so long ago.
pub fn time(text: &str, now: Timestamp) -> store::Result<Timestamp> {
    let ago = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        let ms = number.parse::<u32>().ok().map(|n| i64::from(n) * seconds * 1000)?;
        Some(Timestamp(now.0.saturating_sub(ms)))
    };
    let at = || {
        let (day, clock) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
        let mut day = day.splitn(3, '-').map(|n| n.parse::<u32>().ok());
        let (year, month, day) = (day.next()??, day.next()??, day.next()??);
        let mut clock = clock.trim_end_matches('Z').splitn(3, ':').map(|n| n.parse::<u32>().ok());
        let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next().unwrap_or(Some(0))?);
        let fits = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        let fits = fits && hour < 24 && minute < 60 && second < 60;
        let (year, month, day) = (year.into(), month as u8, day as u8);
        let civil = Civil { year, month, day, hour: hour as u8, minute: minute as u8, second: second as u8 };
        fits.then(|| civil.at_offset(0))
    };
    ago()
        .or_else(at)
        .ok_or_else(|| refused(format!("{text}: a time is 2026-11-22, 2026-11-22T08:00:00Z, 90m, 24h or 7d")))
}

/// Carries a request out.
pub async fn execute(house: &House, request: Request) -> Outcome {
    match request {
        Request::Show { id, behind } => show(house, id, behind).await,
        Request::Find(sought) => find(&house.store, sought, house.clock.now()).await,
        Request::List { which, limit } => list(house, which, limit.clamp(1, MOST)).await,
    }
}

/// A delivery, finished or not.
struct One {
    head: Head,
    state: State,
    trail: Option<Pointer>,
    account: Option<AccountId>,
    /// As far as its record is kept.
    last: Option<Attempt>,
    /// What it is called.
    organisation: String,
}

enum State {
    Open(Box<Standing>),
    Ended(Receipt),
}

/// At most `n` deliveries of a message, behind that number.
fn deliveries(tx: &mut Tx<'_>, id: QueueId, behind: Option<u32>, n: u32) -> store::Result<Vec<One>> {
    let receipts = receipt::some_of_message(tx, id, behind, n)?;
    let standing = queue::show_some(tx, id, behind, n)?;
    let open = standing.into_iter().flat_map(|(message, all)| all.into_iter().map(move |d| open(&message, d)));
    let mut all: BTreeMap<u32, One> = open.map(|one| (one.head.number, one)).collect();
    // What owes a report has its receipt already.
    all.extend(ended(tx, receipts)?.into_iter().map(|one| (one.head.number, one)));
    Ok(all.into_values().take(n as usize).collect())
}

/// Deliveries, each by itself: their messages may have any number of others.
fn these(tx: &mut Tx<'_>, which: impl Iterator<Item = (QueueId, u32)>) -> store::Result<Vec<One>> {
    let (mut receipts, mut all) = (Vec::new(), Vec::new());
    for (id, number) in which {
        match receipt::receipt(tx, id, number)? {
            Some(receipt) => receipts.push(receipt),
            None => all.extend(queue::show_one(tx, id, number)?.map(|(message, d)| open(&message, d))),
        }
    }
    all.extend(ended(tx, receipts)?);
    all.sort_by_key(|one| (Reverse(one.head.message), one.head.number));
    complete(tx, all)
}

/// With what their records and their organisations' names tell.
fn complete(tx: &mut Tx<'_>, mut all: Vec<One>) -> store::Result<Vec<One>> {
    let names = Names::read(tx)?;
    let last = receipt::last(tx, &all.iter().map(|one| one.trail).collect::<Vec<_>>())?;
    for (one, last) in all.iter_mut().zip(last) {
        (one.last, one.organisation) = (last, names.of(one.head.organisation).to_owned());
    }
    Ok(all)
}

fn ended(tx: &mut Tx<'_>, receipts: Vec<Receipt>) -> store::Result<Vec<One>> {
    let heads = receipt::head(tx, &receipts.iter().map(|r| r.trail).collect::<Vec<_>>())?;
    let one = |(r, head): (Receipt, Option<Head>)| {
        // The record was kept as long as it was to be; the row may stay a little longer.
        let head = head.unwrap_or_else(|| Head {
            message: r.message,
            number: r.number,
            to: String::new(),
            from: String::new(),
            message_id: String::new(),
            created: r.at,
            stream: r.stream,
            organisation: OrganisationId::HOUSE,
        });
        One::ended(head, r)
    };
    Ok(receipts.into_iter().zip(heads).map(one).collect())
}

fn open(message: &Message, d: Standing) -> One {
    let head = Head {
        message: message.id,
        number: d.delivery.number,
        to: d.delivery.to.to_string(),
        from: message.from.as_ref().map(ToString::to_string).unwrap_or_default(),
        message_id: message.message_id.clone().unwrap_or_default(),
        created: message.created,
        stream: message.stream,
        organisation: message.organisation,
    };
    let (trail, account) = (d.delivery.trail, message.account);
    One { head, trail, account, state: State::Open(Box::new(d)), last: None, organisation: String::new() }
}

/// A page of it: some recipients, until they are long enough.
async fn show(house: &House, id: String, behind: Option<u32>) -> Outcome {
    let id: QueueId = id.parse().map_err(|e: queue::BadQueueId| format!("{id:?}: {e}"))?;
    let work = move |tx: &mut Tx<'_>| {
        let (mut text, mut data, mut last) = (String::new(), Vec::new(), behind);
        while text.len() < PAGE && data.len() < RECIPIENTS {
            let some = deliveries(tx, id, last, TOGETHER)?;
            let is_all = some.len() < TOGETHER as usize;
            last = some.last().map(|one| one.head.number);
            let some = complete(tx, some)?;
            tell_all(tx, some, &mut text, &mut data)?;
            if is_all {
                last = None;
                break;
            }
        }
        if data.is_empty() && behind.is_none() {
            return Err(refused(format!("there is no receipt of {id}: it never was, or is older than they are kept")));
        }
        Ok(Answer::new(text.trim_end(), json!({ "receipts": data, "next": last })))
    };
    house.store.read(work).await.map_err(words)
}

/// With all attempts, and all that was heard.
fn tell_all(tx: &mut Tx<'_>, all: Vec<One>, text: &mut String, data: &mut Vec<Value>) -> store::Result<()> {
    let trails: Vec<_> = all.iter().map(|one| one.trail).collect();
    for (one, attempts) in all.into_iter().zip(receipt::attempts(tx, &trails)?) {
        let events = receipt::events(tx, one.head.message, one.head.number)?;
        one.tell(text);
        attempts.iter().for_each(|attempt| tell_attempt(text, attempt));
        for event in &events {
            let Event { at, kind, class, detail } = event;
            let _ = writeln!(text, "  {} {}{}: {detail}", at.rfc3339(), kind.word(), bracketed(class));
        }
        let mut facts = one.facts();
        facts["attempts"] = attempts.iter().map(attempt_facts).collect();
        let event =
            |e: &Event| json!({ "at": e.at.rfc3339(), "kind": e.kind.word(), "class": e.class, "detail": e.detail });
        facts["events"] = events.iter().map(event).collect();
        data.push(facts);
    }
    Ok(())
}

fn bracketed(class: &str) -> String {
    if class.is_empty() { String::new() } else { format!(" ({class})") }
}

impl One {
    fn ended(head: Head, r: Receipt) -> One {
        let (trail, account) = (r.trail, r.account);
        One { head, trail, account, state: State::Ended(r), last: None, organisation: String::new() }
    }

    /// Whether it is what is looked for, but for when and how it ended.
    fn is(&self, filter: &Filter) -> bool {
        filter.class.as_ref().is_none_or(|class| class == self.class())
            && filter.stream.is_none_or(|stream| stream == self.head.stream)
            && filter.account.is_none_or(|account| Some(account) == self.account)
            && filter.has_record(&self.head, self.last.as_ref())
    }

    /// Its state.
    fn word(&self) -> &'static str {
        match &self.state {
            State::Open(d) => d.state.word(),
            State::Ended(r) => r.end.word(),
        }
    }

    fn class(&self) -> &str {
        match &self.state {
            State::Open(d) => &d.class,
            State::Ended(r) => &r.class,
        }
    }

    fn tell(&self, text: &mut String) {
        let Head { message, number, to, from, created, message_id, .. } = &self.head;
        let _ = writeln!(text, "{message}/{number}  to <{to}>, from <{from}>, accepted {}", created.rfc3339());
        if !message_id.is_empty() {
            let _ = writeln!(text, "  Message-ID <{message_id}>");
        }
        let (state, uncertain) = match &self.state {
            State::Open(d) => (format!("{}, due {}", d.state.word(), d.due.rfc3339()), d.delivery.uncertain),
            State::Ended(r) => (format!("{}{} {}", r.end.word(), bracketed(&r.class), r.at.rfc3339()), r.uncertain),
        };
        let _ = write!(text, "  {state}");
        if uncertain > 0 {
            let _ = write!(text, "; uncertain: {uncertain} attempts of unknown outcome, so it may have arrived twice");
        }
        text.push('\n');
    }

    /// In a line.
    fn line(&self) -> String {
        let Head { message, number, to, from, .. } = &self.head;
        let at = match &self.state {
            State::Open(d) => d.due,
            State::Ended(r) => r.at,
        };
        let (at, state, class) = (at.rfc3339(), self.word(), bracketed(self.class()));
        format!("{at}  {message}/{number}  {state}{class}  to <{to}>, from <{from}>")
    }

    fn facts(&self) -> Value {
        let Head { message, number, to, from, created, message_id, stream, .. } = &self.head;
        let mut facts = json!({ "id": message.to_string(), "number": number, "to": to, "from": from,
            "message_id": message_id, "accepted": created.rfc3339(), "stream": stream.word(),
            "organisation": self.organisation, "state": self.word(), "class": self.class(),
            "source": self.last.as_ref().map(Attempt::source), "host": self.last.as_ref().map(Attempt::host),
            "site": self.last.as_ref().map(Attempt::site) });
        match &self.state {
            State::Open(d) => {
                facts["due"] = d.due.rfc3339().into();
                facts["tries"] = d.delivery.attempts.into();
                facts["uncertain"] = d.delivery.uncertain.into();
            }
            State::Ended(r) => {
                facts["ended"] = r.at.rfc3339().into();
                facts["tries"] = r.attempts.into();
                facts["uncertain"] = r.uncertain.into();
            }
        }
        facts
    }
}

fn tell_attempt(text: &mut String, attempt: &Attempt) {
    let Attempt { at, tried, class, reply, host, talk, .. } = attempt;
    let who = if host.is_empty() { "this server" } else { host };
    let _ = writeln!(text, "  {} {}{}", at.rfc3339(), tried.word(), bracketed(class));
    if reply.code > 0 {
        let _ = writeln!(text, "    {who}: {}", reply.to_string().replace('\n', " "));
    }
    for line in talk.iter().flat_map(|talk| talk.to_string().lines().map(str::to_owned).collect::<Vec<_>>()) {
        let _ = writeln!(text, "    {line}");
    }
}

fn attempt_facts(attempt: &Attempt) -> Value {
    let mut facts = json!({ "at": attempt.at.rfc3339(), "outcome": attempt.tried.word(), "class": attempt.class,
        "reply": attempt.reply.to_string(), "code": attempt.reply.code,
        "status": attempt.reply.enhanced.map(|e| e.to_string()) });
    if let Some(talk) = &attempt.talk {
        let peer = &talk.peer;
        let step = |s: &receipt::Step| json!({ "ms": s.after, "command": receipt::command(s.to), "reply": s.reply.to_string() });
        facts["dialogue"] = json!({ "began": talk.began.rfc3339(), "source": peer.source, "host": peer.host,
            "address": peer.address, "site": peer.site, "tls": peer.tls, "carried_before": talk.carried,
            "steps": talk.steps.iter().map(step).collect::<Vec<_>>() });
    }
    facts
}

/// What was found, and whether there is more.
async fn find(store: &Store, sought: Sought, now: Timestamp) -> Outcome {
    let Sought { what, message_id, state, narrow, since, until, limit } = sought;
    let wanted = Wanted::new(state, narrow)?;
    let limit = limit.clamp(1, MOST);
    let moment = |text: Option<String>| text.map(|text| time(&text, now)).transpose().map_err(words);
    let when = When { since: moment(since)?, until: moment(until)? };
    let bare = what.trim_matches(['<', '>']).to_owned();
    let key = if message_id { Key::MessageId(bare) } else { Key::Recipient(bare) };
    let are = if wanted.is_all() { "There are" } else { "There may be" };
    let (found, more) = search(store, key, when, &wanted, limit).await.map_err(words)?;
    let more = more.then(|| {
        let all = if limit < MOST { format!("--limit shows up to {MOST}, ") } else { String::new() };
        format!("{are} more: {all}--since and --until narrow it to when they were accepted")
    });
    Ok(lines(&found, &format!("No mail that left here is known with {what}"), more, Value::Null))
}

/// About `n` deliveries in the queue to an address that are `wanted`, the youngest first, and whether there may be more: in steps, so that
/// no read takes long.
pub async fn queued(
    store: &Store,
    to: &Address,
    when: When,
    wanted: &Wanted,
    n: usize,
) -> store::Result<(Vec<(QueueId, u32)>, bool)> {
    let (mut all, mut after) = (Vec::new(), None);
    for _ in 0..READS {
        let (to, left) = (to.clone(), wanted.ask(n - all.len()));
        let found = store.read(move |tx| queue::by_recipient(tx, &to, when, after, left)).await?;
        all.extend(wanted.of(store, found.all).await?);
        after = found.next;
        if after.is_none() || all.len() >= n {
            break;
        }
    }
    Ok((all, after.is_some()))
}

/// At most `limit` deliveries, and whether there are more: in steps, so that no read takes long.
async fn search(store: &Store, key: Key, when: When, wanted: &Wanted, limit: usize) -> store::Result<(Vec<One>, bool)> {
    let to = match &key {
        Key::Recipient(text) => Address::parse(text).ok(),
        Key::MessageId(_) => None,
    };
    // What has not been tried yet has no record. Who looks for records behind that misses nothing that ends meanwhile.
    let (queued, is_cut) = match &to {
        Some(to) => queued(store, to, when, wanted, limit + 1).await?,
        None => (Vec::new(), false),
    };
    // By message, the youngest first; one more than is shown tells that there are more.
    let (mut recorded, mut after) = (BTreeSet::<(Reverse<QueueId>, u32)>::new(), None);
    for _ in 0..READS {
        let (key, left) = (key.clone(), wanted.ask(limit + 1 - recorded.len()));
        let found = store.read(move |tx| receipt::look_up(tx, &key, when, after, SEGMENTS, left)).await?;
        let some = found.all.iter().map(|head| (head.message, head.number)).collect();
        recorded.extend(wanted.of(store, some).await?.into_iter().map(|(id, number)| (Reverse(id), number)));
        after = found.next;
        if after.is_none() || recorded.len() > limit {
            break;
        }
    }
    let mut all = recorded;
    all.extend(queued.into_iter().map(|(id, number)| (Reverse(id), number)));
    let more = is_cut || after.is_some() || all.len() > limit;
    let shown: Vec<_> = all.into_iter().take(limit).map(|(Reverse(id), number)| (id, number)).collect();
    Ok((store.read(move |tx| these(tx, shown.iter().copied())).await?, more))
}

fn lines(found: &[One], nothing: &str, more: Option<String>, next: Value) -> Answer {
    let data: Vec<Value> = found.iter().map(One::facts).collect();
    let data = json!({ "receipts": data, "next": next, "more": more.is_some() });
    let text: Vec<String> = found.iter().map(One::line).chain(more).collect();
    Answer::new(if text.is_empty() { nothing.to_owned() } else { text.join("\n") }, data)
}

async fn list(house: &House, which: Which, limit: usize) -> Outcome {
    let now = house.clock.now();
    let mut after = which.after.as_deref().map(place).transpose()?;
    let mut found: Vec<One> = Vec::new();
    for _ in 0..READS {
        let (which, n) = (which.clone(), limit - found.len());
        let page = house.store.read(move |tx| page(tx, &which, after, n, now)).await.map_err(words)?;
        found.extend(page.all);
        after = page.next;
        if after.is_none() || found.len() >= limit {
            break;
        }
    }
    let next = after.map(|(id, number)| format!("{id}/{number}"));
    let more = next.as_ref().map(|next| format!("There may be more: --after {next}"));
    Ok(lines(&found, "There are no such receipts", more, next.into()))
}

/// Which delivery, as the end of a page says it.
pub fn place(text: &str) -> Result<(QueueId, u32), String> {
    let place = text.split_once('/').and_then(|(id, number)| Some((id.parse().ok()?, number.parse().ok()?)));
    place.ok_or_else(|| format!("{text}: a delivery has a number like 3-1f/0"))
}

fn page(
    tx: &mut Tx<'_>,
    which: &Which,
    after: Option<(QueueId, u32)>,
    n: usize,
    now: Timestamp,
) -> store::Result<Found<One, (QueueId, u32)>> {
    let (filter, names) = (which.filter(tx, now)?, Names::read(tx)?);
    let Found { all, next } = receipt::page(tx, after, &filter, n)?;
    let one = |Recorded { receipt, head, last }: Recorded| {
        let head = head?;
        let organisation = names.of(head.organisation).to_owned();
        Some(One { last, organisation, ..One::ended(head, receipt) })
    };
    Ok(Found { all: all.into_iter().filter_map(one).collect(), next })
}

/// The names of the columns of [`csv`].
pub const COLUMNS: [&str; 16] = [
    "id",
    "number",
    "to",
    "from",
    "message_id",
    "accepted",
    "ended",
    "state",
    "class",
    "stream",
    "organisation",
    "tries",
    "uncertain",
    "source",
    "host",
    "site",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_moments_and_so_long_ago() {
        let now = Timestamp(1_000_000_000);
        let ms = |text: &str| time(text, now).ok().map(|t| t.0);
        assert_eq!(ms("2m"), Some(now.0 - 120_000));
        assert_eq!(ms("3h"), Some(now.0 - 3 * 3_600_000));
        assert_eq!(ms("1970-01-02"), Some(86_400_000));
        assert_eq!(ms("1970-01-02T00:00:01Z"), Some(86_401_000));
        assert_eq!(ms("1970-01-02 01:00"), Some(90_000_000));
        for bad in ["", "d", "x", "2026-13-01", "2026-11-22T25:00:00Z", "-1d", "99999999999d", "ä"] {
            assert!(time(bad, now).is_err(), "{bad}");
        }
    }

    /// Each in a segment of its own, and more than are kept unpacked.
    #[test]
    fn a_list_reads_each_record_once_however_it_is_narrowed() {
        const ALL: u64 = 40;
        let now = Timestamp(1_700_000_000_000);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for bed in testkit::engines() {
            let store = bed.open(&[directory::MIGRATIONS, queue::MIGRATIONS]);
            let queue = runtime.block_on(queue::Queue::open(&store, 1, now)).unwrap();
            (0..ALL).for_each(|_| end_one(&store, &queue, now));
            let read = |which: Which| {
                let count = move |tx: &mut Tx<'_>| {
                    let found = page(tx, &which, None, MOST, now)?;
                    assert!(found.all.iter().all(|one| one.last.is_some()));
                    Ok((found.all.len() as u64, tx.done().statements))
                };
                store.read_blocking(count).unwrap()
            };
            let narrow = Narrow { site: Some("b.test".into()), ..Narrow::default() };
            for which in [Which::default(), Which { narrow, ..Which::default() }] {
                let (found, statements) = read(which);
                // Both halves of each, the rows, and what organisations are called.
                assert_eq!((found, statements), (ALL, 2 * ALL + 2), "{}", bed.name());
            }
        }
    }

    /// A mail that a site refuses.
    fn end_one(store: &Store, queue: &queue::Queue, now: Timestamp) {
        let (id, all) = (queue.next_id(), queue.clone());
        let to = Address::parse("jane@b.test").unwrap();
        let group = queue::Group::of(Stream::Marketing, OrganisationId::HOUSE, "b.test", 0);
        let work = move |tx: &mut Tx<'_>| {
            let recipe = queue::Recipe { kind: 1, reference: [].into() };
            let to = queue::NewDelivery { to: to.clone(), notify: None, original: None, fate: queue::Fate::Open };
            queue::enqueue(
                tx,
                &queue::NewMessage { stream: Stream::Marketing, ..queue::NewMessage::made(id, recipe, now) },
                &[to],
            )?;
            queue::claim_due(tx, &all, &[queue::Want { group, most: 1 }], now)
        };
        let claimed = store.write_blocking(work).unwrap().claimed.remove(0);
        let no = base::Reply::new(550, 7, 1, "no");
        let settled: std::sync::Arc<[_]> = [queue::Settled {
            message: claimed.message.clone(),
            delivery: claimed.deliveries[0].clone(),
            outcome: queue::Outcome::Failed,
            said: queue::Said::by("mx.b.test", bounce::Stage::Dot, no),
            class: "blocked".into(),
            rule: None,
        }]
        .into();
        let segment = receipt::Segment::of(queue, &settled, now).unwrap();
        let all = queue.clone();
        let work = move |tx: &mut Tx<'_>| queue::record(tx, &all, &settled, &segment, now);
        store.write_blocking(work).unwrap();
    }

    #[test]
    fn of_more_than_are_shown_these_are_the_youngest_and_it_is_said() {
        const ALL: usize = MOST + 3;
        let at = |n: usize| Timestamp(1_700_000_000_000 + n as i64 * 1000);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for bed in testkit::engines() {
            let store = bed.open(&[directory::MIGRATIONS, queue::MIGRATIONS]);
            let queue = runtime.block_on(queue::Queue::open(&store, 1, at(0))).unwrap();
            let ids: Vec<QueueId> = (0..ALL).map(|_| queue.next_id()).collect();
            let all = ids.clone();
            let work = move |tx: &mut Tx<'_>| {
                let one = |(n, id): (usize, &QueueId)| {
                    let recipe = queue::Recipe { kind: 1, reference: [].into() };
                    let to = Address::parse("jane@b.test").unwrap();
                    let to = queue::NewDelivery { to, notify: None, original: None, fate: queue::Fate::Open };
                    (queue::NewMessage::made(*id, recipe, at(n)), vec![to])
                };
                queue::enqueue_all(tx, &all.iter().enumerate().map(one).collect::<Vec<_>>())
            };
            store.write_blocking(work).unwrap();
            let find = |what: &str, since: Option<usize>, limit| {
                let since = since.map(|n| at(n).rfc3339());
                let (what, narrow) = (what.into(), Narrow::default());
                let sought = Sought { what, message_id: false, state: None, narrow, since, until: None, limit };
                let answer = runtime.block_on(find(&store, sought, at(ALL))).unwrap();
                let shown = answer.data["receipts"].as_array().unwrap();
                let ids: Vec<String> = shown.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
                let said = answer.text.lines().last().filter(|line| line.starts_with("There are more"));
                assert_eq!(answer.data["more"], said.is_some());
                (ids, said.map(str::to_owned))
            };
            let youngest = |n: usize| ids.iter().rev().take(n).map(ToString::to_string).collect::<Vec<_>>();
            let (shown, said) = find("jane@b.test", None, 20);
            assert_eq!(shown, youngest(20));
            assert!(said.unwrap().contains("--limit shows up to 1000"));
            let (shown, said) = find("<jane@b.test>", None, usize::MAX);
            assert_eq!(shown, youngest(MOST));
            assert!(!said.unwrap().contains("--limit"));
            assert_eq!(find("jane@b.test", Some(3), MOST), (youngest(MOST), None));
        }
    }
}
