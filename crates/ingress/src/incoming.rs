//! A mail on its way in: its envelope, its body, its commit.

use std::collections::HashSet;
use std::sync::Arc;

use base::{AccountId, Address, BlobId, Error, OrganisationId, Reply, Result, Stream, Timestamp};
use bounce::Classifier;
use directory::{Recipients, Resolution};
use mailbox::verbs;
use queue::{Came, Heard, QueueId};
use smtp::{BodyType, Hold, Mail, Notify, OriginalRecipient, Rcpt};
use store::{Class, Lane, Staged, Stager, Tx};
use trust::Digest;

use crate::header::{self, Gate};
use crate::outgoing::Author;
use crate::plan::{Copy, Leaving, Missed, Named, Plan};
use crate::{Ingress, Origin, Protocol, trace};

impl Ingress {
    /// Begins a mail.
    ///
    /// # Errors
    /// 501 5.5.4 when it is to be held until a time in the past; 553 5.7.1 when a signed-in sender does not own the address; 452 4.3.1 when the disk is nearly full.
    pub async fn start(&self, origin: Arc<Origin>, mail: Mail) -> Result<Incoming> {
        self.mailboxes.store().check_space()?;
        if let (Some(account), Some(from)) = (origin.account(), &mail.from)
            && !self.directory.owns(account, from).await?
        {
            let text = format!("You may not send as {from}: it is not an address of yours");
            return Err(Error::new(Reply::new(553, 7, 1, text)));
        }
        // RFC 4865 §4. What became past since is released at once.
        if matches!(mail.hold, Some(Hold::Until(at)) if at <= self.now()) {
            return Err(Error::new(Reply::new(501, 5, 4, "HOLDUNTIL is in the past")));
        }
        Ok(Incoming {
            ingress: self.clone(),
            origin,
            mail,
            recipients: Vec::new(),
            about: Vec::new(),
            reach: 0,
            allowance: None,
            body: State::Awaited,
            octets: 0,
            queued: None,
        })
    }

    /// A recipient's address, and where that leads. `<postmaster>`, and postmaster and abuse at our own host name, from
    /// which our reports come, are those of our oldest domain (RFC 5321 §4.5.1, RFC 2142). None: there is no domain yet.
    async fn resolve(&self, to: &smtp::Recipient) -> Result<Option<(Address, Resolution)>> {
        let (address, role) = match to {
            smtp::Recipient::Mailbox(address) => match (self.directory.resolve(address).await?, self.role(address)) {
                (Resolution::NotOurs, Some(role)) => (Some(address), role),
                (found, _) => return Ok(Some((address.clone(), found))),
            },
            smtp::Recipient::Postmaster => (None, "postmaster"),
        };
        let Some(role) = self.directory.role(role).await? else { return Ok(None) };
        let found = self.directory.resolve(&role).await?;
        Ok(Some((address.cloned().unwrap_or(role), found)))
    }

    fn role(&self, address: &Address) -> Option<&'static str> {
        let here = address.domain().eq_ignore_ascii_case(&self.hostname);
        ["postmaster", "abuse"].into_iter().find(|role| here && address.local().eq_ignore_ascii_case(role))
    }
}

/// A mail on its way in. Dropping it leaves nothing behind.
pub struct Incoming {
    ingress: Ingress,
    origin: Arc<Origin>,
    mail: Mail,
    recipients: Vec<Recipient>,
    /// The deliveries whose return addresses are among them.
    about: Vec<(QueueId, u32)>,
    /// How many accounts and addresses elsewhere they lead to.
    reach: usize,
    /// How many more on other hosts the account may write to today, once that was asked.
    allowance: Option<u32>,
    body: State,
    /// For the log: how large it is, and its first number in the queue.
    octets: u64,
    queued: Option<QueueId>,
}

/// What the sender named, and who gets it.
struct Recipient {
    /// As the sender wrote it: `Delivered-To`.
    address: Address,
    notify: Option<Notify>,
    original: Option<OriginalRecipient>,
    /// Where it leads.
    found: Arc<Recipients>,
    /// It is an address of ours. Else it is only passed on.
    ours: bool,
}

/// A mail reaches so many accounts and addresses elsewhere, however few recipients were named.
const REACH: usize = 10_000;

/// Domains of a mail's recipients whose mail it may be about.
const OWNERS: usize = 16;

enum State {
    /// Its first octet has not come.
    Awaited,
    Open(Box<Body>),
    Refused,
}

struct Body {
    gate: Gate,
    stager: Stager,
    /// For mailboxes of ours, and for what is to be heard.
    indexer: Option<mime::Indexer>,
    /// For other hosts, where we vouch for it.
    digest: Option<Digest>,
    author: Author,
    /// Some of it goes to other hosts.
    leaves: bool,
    /// Its Message-ID, where it leaves.
    message_id: Option<String>,
    /// It says that it answers another mail.
    answers: bool,
    /// The addresses of ours that it was forwarded from already, as [`trace::mark`] writes them.
    passed: HashSet<String>,
    /// There are octets above 127.
    eight_bit: bool,
    /// There are some in the header.
    eight_bit_header: bool,
}

impl Incoming {
    /// One recipient more.
    ///
    /// # Errors
    /// 550 5.1.1 nobody of that address; 550 5.7.1 not ours, and the sender has no right to relay, or a return address, and
    /// there is a sender; 451 4.7.1 the account has
    /// written to too many others today, or the stranger's network to too many of ours within the hour; 452 4.2.2 no room; 452 4.5.3 too many; 451 when the directory does not answer.
    pub async fn recipient(&mut self, rcpt: &Rcpt) -> Result<()> {
        if let Some(ip) = self.origin.stranger() {
            self.ingress.pace.one_more(ip, self.ingress.now())?;
        }
        if let smtp::Recipient::Mailbox(address) = &rcpt.to
            && let Some(delivery) = self.ingress.about(address).await?
        {
            // Nobody gets it, and no account needs room for it.
            self.about.push(delivery);
            let (address, found) = (address.clone(), Arc::default());
            self.recipients.push(Recipient { address, notify: None, original: None, found, ours: true });
            return Ok(());
        }
        let (address, found, ours) = self.find(&rcpt.to).await?;
        self.check_room(&found).await?;
        self.check_allowance(found.remote.len()).await?;
        let reach = self.reach + found.local.len() + found.remote.len();
        if reach > REACH {
            return Err(Error::new(Reply::new(452, 5, 3, "Too many recipients: send the others another mail")));
        }
        self.reach = reach;
        let (notify, original) = (rcpt.notify, rcpt.original.clone());
        self.recipients.push(Recipient { address, notify, original, found, ours });
        Ok(())
    }

    /// The address, where it leads, and whether it is one of ours.
    async fn find(&self, to: &smtp::Recipient) -> Result<(Address, Arc<Recipients>, bool)> {
        if let smtp::Recipient::Mailbox(address) = to
            && let Some(found) = self.ingress.returned(address, self.mail.from.as_ref()).await?
        {
            return Ok((address.clone(), found, true));
        }
        let nobody = || Error::new(Reply::new(550, 1, 1, "No such user here"));
        let (address, resolution) = self.ingress.resolve(to).await?.ok_or_else(nobody)?;
        match resolution {
            Resolution::Deliver(found) => Ok((address, found, true)),
            Resolution::NotOurs if self.origin.may_relay() => {
                let remote = vec![address.clone()];
                Ok((address, Arc::new(Recipients { local: Vec::new(), remote }), false))
            }
            Resolution::NotOurs => {
                Err(Error::new(Reply::new(550, 7, 1, "Relaying denied: sign in to send to other hosts")))
            }
            Resolution::Unknown => Err(nobody()),
        }
    }

    /// Whether the account may write to so many more on other hosts. They are counted when the mail is accepted.
    async fn check_allowance(&mut self, elsewhere: usize) -> Result<()> {
        let (Some(account), 1..) = (self.origin.account(), elsewhere) else { return Ok(()) };
        let left = match self.allowance {
            Some(left) => left,
            None => {
                let now = self.ingress.now();
                self.ingress.directory.store().read(move |tx| directory::allowance(tx, account, now)).await?
            }
        };
        let wanted = u32::try_from(elsewhere).unwrap_or(u32::MAX);
        self.allowance = Some(left.checked_sub(wanted).ok_or_else(directory::spent)?);
        Ok(())
    }

    /// Whether anybody can take a mail of this size. Who cannot, and is not alone, is reported once the mail is there: one
    /// full mailbox does not keep a group from its mail. Only accounts with a quota cost a look at the store.
    async fn check_room(&self, found: &Recipients) -> Result<()> {
        if !found.remote.is_empty() {
            return Ok(());
        }
        let size = self.mail.size.unwrap_or(1);
        for target in &found.local {
            let (Some(quota), account) = (target.quota, target.account) else { return Ok(()) };
            let (used, _) = self.ingress.mailboxes.store().read(move |tx| verbs::room(tx, account)).await?;
            if used.saturating_add(size) <= quota {
                return Ok(());
            }
        }
        Err(Error::new(Reply::new(452, 2, 2, "The mailbox is full")))
    }

    /// The next bytes of the body, cut anywhere.
    ///
    /// # Errors
    /// 554 5.4.6 a loop; 554 5.6.0 a header too large to work on; 451 when the disk does not take it. The mail is refused
    /// then: further bytes are not kept.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if let State::Awaited = self.body {
            self.body = State::Open(Box::new(self.begin()));
        }
        let State::Open(body) = &mut self.body else { return Ok(()) };
        let outcome = body.take(bytes, &self.ingress, &self.origin, self.mail.from.as_ref());
        if outcome.is_err() {
            self.body = State::Refused;
        }
        outcome
    }

    /// It may be signed. A binary mail is sent as it is, with line ends that no signature survives (RFC 6376 §5.3).
    fn vouched_for(&self) -> bool {
        self.origin.may_relay() && self.mail.body != BodyType::BinaryMime
    }

    /// All recipients are known: what is done with the bytes as they come.
    fn begin(&self) -> Body {
        let here = self.recipients.iter().any(|r| !r.found.local.is_empty());
        let elsewhere = self.recipients.iter().any(|r| !r.found.remote.is_empty());
        // What comes to an address that only forwards may be about mail of ours, too.
        let may_be_heard = !self.origin.is_submission() && self.recipients.iter().any(|r| r.ours);
        // What only passes through is soon gone.
        let class = if here { Class::Lasting } else { Class::Transit };
        Body {
            gate: Gate::new(self.origin.is_submission()),
            stager: self.ingress.mailboxes.store().stager(class),
            indexer: (here || may_be_heard).then(|| mime::Indexer::new(mime::Limits::default())),
            digest: (elsewhere && self.vouched_for()).then(|| self.ingress.keys.digest()),
            author: Author::default(),
            leaves: elsewhere,
            message_id: None,
            answers: false,
            passed: HashSet::new(),
            eight_bit: false,
            eight_bit_header: false,
        }
    }

    /// The body is complete: everything in one commit. Gives an outcome for each recipient, in the order they were named,
    /// once all of it is on disk.
    ///
    /// # Errors
    /// One reply for all: the body was refused, its author is not the user's (550 5.7.1), or nothing could be stored.
    pub async fn commit(mut self) -> Result<Vec<Result<()>>> {
        let outcome = self.keep().await;
        self.log(&outcome);
        outcome
    }

    /// A line for each mail, so that it can be found again by who sent it, and by the queue's number where it goes on.
    fn log(&self, outcome: &Result<Vec<Result<()>>>) {
        let (accepted, refusal) = match outcome {
            Ok(each) => (each.iter().filter(|one| one.is_ok()).count(), each.iter().find_map(|one| one.as_ref().err())),
            Err(e) => (0, Some(e)),
        };
        let origin = &self.origin;
        tracing::info!(
            peer = origin.ip.map(display),
            helo = ?origin.helo,
            account = origin.account().map(|account| account.0),
            from = self.mail.from.as_ref().map(display),
            recipients = self.recipients.len(),
            accepted,
            octets = self.octets,
            queue = self.queued.map(display),
            refusal = refusal.map(|e| display(e.reply())),
            "mail"
        );
    }

    async fn keep(&mut self) -> Result<Vec<Result<()>>> {
        // A mail may be empty.
        self.push(b"")?;
        let refused = || Error::new(Reply::new(554, 6, 0, "The message was refused"));
        let State::Open(mut body) = std::mem::replace(&mut self.body, State::Refused) else { return Err(refused()) };
        body.end(&self.ingress, &self.origin, self.mail.from.as_ref())?;
        if let Some(account) = self.origin.account() {
            self.ingress.check_author(account, &body.author).await?;
        }
        let now = self.ingress.now();
        self.octets = body.stager.len();
        let (instance, signatures) = self.sign(&mut body, now).await?;
        let senders = self.senders().await?;
        let plan = self.plan(&body, (&instance, &signatures), senders, now)?;
        self.queued = plan.goes_on();
        if let Some(refusals) = plan.all_refused() {
            return Ok(told(refusals));
        }
        let (mut index, mut heard) = (Vec::new(), Vec::new());
        let staged = body.stager.finish();
        if let Some(indexer) = body.indexer {
            let found = indexer.finish();
            found.encode(&mut index);
            heard = self.heard(found, &staged, body.answers, now).await;
        }
        let staged = vec![staged];
        let work = move |tx: &mut Tx<'_>, blobs: &[BlobId]| {
            let blob = *blobs.first().ok_or(store::Error::Closed)?;
            plan.spend(tx, now)?;
            let kept = plan.deliver(tx, blob, &index, now)?;
            for heard in &heard {
                queue::hear(tx, heard)?;
            }
            plan.enqueue(tx, blob, &kept, now)?;
            Ok(kept)
        };
        let kept = self.ingress.mailboxes.store().write_with(Lane::Interactive, staged, work).await?;
        for Missed { address, reply, .. } in &kept.missed {
            tracing::info!(to = %address, %reply, "no room for a copy of a mail that others have");
        }
        Ok(told(kept.outcomes))
    }

    /// What the mail says of one that left here. Only two kinds may say anything: a report (it is from `<>`, calls itself so, or
    /// came to a return address of ours), and what `answers` another mail.
    async fn heard(&self, index: mime::Index, staged: &Staged, answers: bool, now: Timestamp) -> Vec<Heard> {
        let from = self.mail.from.clone();
        let may_be_report = queue::may_be_report(&index, from.as_ref());
        if self.origin.is_submission() || !(may_be_report || answers) && self.about.is_empty() {
            return Vec::new();
        }
        let bytes = match staged.beginning() {
            Ok(bytes) => bytes.into_owned(),
            // It is stored all the same.
            Err(error) => {
                tracing::warn!(%error, "what a mail is about was not read");
                return Vec::new();
            }
        };
        let about = match &self.about[..] {
            [] if may_be_report => self.proofs(&index, &bytes).await,
            about => about.to_vec(),
        };
        let ours = self.recipients.iter().filter(|r| r.ours);
        let (queue, to) = (self.ingress.queue.clone(), ours.map(|r| r.address.clone()).collect::<Vec<_>>());
        let (is_known, is_addressed) = (about.is_empty(), !self.about.is_empty());
        // On a thread that may wait: it reads the store, and its patterns are made for the first report.
        let understood = move |tx: &mut Tx<'_>| {
            let Some(classifier) = Classifier::shared() else { return Ok(Vec::new()) };
            let of = owners(tx, &to)?;
            let (from, about) = (from.as_ref(), &about[..]);
            let came = Came { index: &index, bytes: &bytes, from, to: &to, of: &of, about, is_addressed };
            queue::understand(tx, &queue, classifier, came, now)
        };
        let heard = match self.ingress.mailboxes.store().read(understood).await {
            Ok(heard) => heard,
            Err(error) => {
                tracing::warn!(%error, "what a report is about was not found");
                Vec::new()
            }
        };
        if heard.is_empty() && !is_known {
            tracing::info!(
                from = self.mail.from.as_ref().map(display),
                "a report of a delivery that is not known any more, or of none"
            );
        }
        heard
    }

    /// The deliveries whose return addresses a report has in it, wherever it came to: providers complain at an address that was
    /// registered with them.
    async fn proofs(&self, index: &mime::Index, bytes: &[u8]) -> Vec<(QueueId, u32)> {
        let fetch = |span: std::ops::Range<u64>, out: &mut Vec<u8>| {
            let end = bytes.len().min(usize::try_from(span.end).unwrap_or(bytes.len()));
            out.extend_from_slice(bytes.get(span.start as usize..end).unwrap_or_default());
            Ok(())
        };
        let mut proven = Vec::new();
        for address in queue::returned::addresses(index, trust::is_verp, fetch).unwrap_or_default() {
            // A forged one proves nothing.
            proven.extend(self.ingress.about(&address).await.ok().flatten());
        }
        proven
    }

    /// What goes before a mail to other hosts: the `Message-Instance` of DKIM2, where its author's domain is to sign each
    /// transaction, and the signatures.
    async fn sign(&self, body: &mut Body, now: Timestamp) -> Result<(String, String)> {
        let Some(digest) = body.digest.take() else { return Ok((String::new(), String::new())) };
        let from = self.mail.from.as_ref();
        let Some(domain) = self.ingress.signer(&self.origin, &body.author, from).await? else {
            return Ok((String::new(), String::new()));
        };
        // Who signs is the one in From, and gets what comes back.
        let is_own = [body.author.only(), from].iter().all(|one| one.is_some_and(|one| one.domain() == domain));
        let instance = if is_own { digest.instance() } else { None };
        let signatures = self.ingress.keys.sign(&domain, digest, now).await?;
        // Who has no keys signs no transaction either.
        Ok((instance.filter(|_| !signatures.is_empty()).unwrap_or_default(), signatures))
    }

    /// For whom the mail leaves: first to those whom the sender names itself, then for each recipient that forwards it.
    async fn senders(&self) -> Result<Senders> {
        let ingress = &self.ingress;
        let own = match (&self.origin.signed_in, &self.mail.from) {
            (Some(who), from) => Sender { reports: from.clone(), organisation: who.organisation, stream: who.stream },
            // Who relays without a sign-in is the administrator's, and speaks for all organisations: whose mail it is, its sender says.
            (None, from) => {
                let domain = from.as_ref().map_or("", Address::domain);
                Sender::of_people(from.clone(), ingress.directory.organisation_of(domain).await?)
            }
        };
        let mut forwards = Vec::with_capacity(self.recipients.len());
        for r in &self.recipients {
            if !r.is_forwarded() {
                forwards.push(None);
                continue;
            }
            let reports = match &self.mail.from {
                Some(from) => Some(ingress.return_address(from, &r.address).await?),
                None => None,
            };
            let organisation = ingress.directory.organisation_of(r.address.domain()).await?;
            forwards.push(Some(Sender::of_people(reports, organisation)));
        }
        Ok((own, forwards))
    }

    fn plan(
        &self,
        body: &Body,
        (instance, signatures): (&str, &str),
        senders: Senders,
        now: Timestamp,
    ) -> Result<Plan> {
        let (own, forwards) = senders;
        let only = if let [one] = &self.recipients[..] { Some(&one.address) } else { None };
        let received = self.origin.received(&self.ingress.hostname, only, now);
        let octets = body.stager.len();
        // Programs say SMTPUTF8 for mails that do not need it; the next host may not have it.
        let smtputf8 = self.mail.smtputf8 && body.eight_bit_header;
        // Without it no field of ours may have more than ASCII (RFC 6531 §3.1).
        let told = only.filter(|to| smtputf8 || to.is_ascii());
        let received_out = self.origin.received(&self.ingress.hostname, told, now);
        let leaving = |sender: Sender, priority: i8, [first, fields]: [&str; 2]| {
            let prefix = format!("{first}{signatures}{fields}{received_out}");
            let (id, octets) = (self.ingress.queue.next_id(), octets + prefix.len() as u64);
            let Sender { reports: from, organisation, stream } = sender;
            Leaving { id, from, organisation, stream, priority, octets, prefix: prefix.into() }
        };
        let mut plan = Plan {
            copies: Vec::new(),
            leaving: vec![leaving(own, self.mail.priority.unwrap_or(0), [instance, ""])],
            body: match self.mail.body {
                BodyType::BinaryMime => BodyType::BinaryMime,
                _ if body.eight_bit => BodyType::EightBitMime,
                _ => BodyType::SevenBit,
            },
            smtputf8,
            mail: self.mail.clone(),
            account: self.origin.account(),
            // LMTP says for each recipient what became of it.
            one_answer: self.origin.protocol != Protocol::Lmtp,
            recipients: Vec::with_capacity(self.recipients.len()),
            release: self.mail.hold.map(|hold| match hold {
                Hold::For(seconds) => Timestamp(now.0 + i64::from(seconds) * 1000),
                Hold::Until(at) => at,
            }),
            message_id: body.message_id.clone(),
        };
        let mut reached = Reached::default();
        for (r, sender) in self.recipients.iter().zip(forwards) {
            let mut named = r.named();
            if r.was_passed(&body.passed) {
                named.refusal = Some(Reply::new(554, 4, 6, "The message was forwarded from this address before"));
            } else {
                self.copies(r, &mut plan, &mut reached, octets, &received)?;
                let new = r.found.remote.iter().filter(|a| reached.elsewhere.insert((*a).clone()));
                named.remote = new.cloned().collect();
                if let Some(sender) = sender.filter(|_| !named.remote.is_empty()) {
                    named.leaving = plan.leaving.len();
                    let mark = format!("Delivered-To: {}\r\n", trace::mark(&r.address));
                    plan.leaving.push(leaving(sender, 0, ["", &mark]));
                }
            }
            plan.recipients.push(named);
        }
        // In ascending order, so that two mails to the same people take locks in the same order.
        plan.copies.sort_by_key(|c| c.account);
        Ok(plan)
    }

    /// A recipient's copies, for accounts that have none yet.
    fn copies(&self, r: &Recipient, plan: &mut Plan, reached: &mut Reached, body: u64, received: &str) -> Result<()> {
        if r.found.local.is_empty() {
            return Ok(());
        }
        let prefix = trace::prefix(self.mail.from.as_ref(), &r.address, received);
        let octets = u32::try_from(body + prefix.len() as u64).map_err(|_| too_big())?;
        let recipient = plan.recipients.len();
        for t in r.found.local.iter().filter(|t| reached.accounts.insert(t.account)) {
            let (address, prefix) = (t.address.clone(), prefix.clone());
            plan.copies.push(Copy { recipient, account: t.account, address, octets, prefix });
        }
        Ok(())
    }
}

/// For whom a mail leaves.
struct Sender {
    /// Who gets reports about it.
    reports: Option<Address>,
    organisation: OrganisationId,
    stream: Stream,
}

impl Sender {
    /// What nobody signed in for: it is passed on from people to people.
    fn of_people(reports: Option<Address>, organisation: Option<OrganisationId>) -> Self {
        Sender { reports, organisation: organisation.unwrap_or(OrganisationId::HOUSE), stream: Stream::Mail }
    }
}

/// The sender's own mail, and for each recipient that forwards it the one who does.
type Senders = (Sender, Vec<Option<Sender>>);

/// Who gets a mail already: nobody gets it twice.
#[derive(Default)]
struct Reached {
    accounts: HashSet<AccountId>,
    elsewhere: HashSet<Address>,
}

impl Recipient {
    fn named(&self) -> Named {
        let (address, notify, original) = (self.address.clone(), self.notify, self.original.clone());
        let (found, remote) = (self.found.clone(), Vec::new());
        Named { address, notify, original, found, remote, leaving: 0, refusal: None }
    }

    /// It is ours, and leads to other hosts.
    fn is_forwarded(&self) -> bool {
        self.ours && !self.found.remote.is_empty()
    }

    /// Trap 18: what was forwarded from here once, and comes back, goes in a circle.
    fn was_passed(&self, passed: &HashSet<String>) -> bool {
        self.is_forwarded() && passed.contains(&trace::mark(&self.address))
    }
}

/// Whose addresses these are, of the first few domains.
fn owners(tx: &mut Tx<'_>, addresses: &[Address]) -> store::Result<Vec<OrganisationId>> {
    let mut domains: Vec<&str> = addresses.iter().map(Address::domain).collect();
    domains.sort_unstable();
    domains.dedup();
    let mut all = Vec::new();
    for domain in domains.into_iter().take(OWNERS) {
        let found = directory::domain_by_name(tx, domain)?.map(|domain| domain.organisation);
        all.push(found.unwrap_or(OrganisationId::HOUSE));
    }
    Ok(all)
}

fn told(refusals: Vec<Option<Reply>>) -> Vec<Result<()>> {
    refusals.into_iter().map(|refusal| refusal.map_or(Ok(()), |reply| Err(Error::new(reply)))).collect()
}

pub(crate) fn too_big() -> Error {
    Error::new(Reply::new(552, 3, 4, "The message is too big"))
}

impl Body {
    fn take(&mut self, bytes: &[u8], ingress: &Ingress, origin: &Origin, from: Option<&Address>) -> Result<()> {
        // Past the header nothing is looked at: the bytes go through.
        if self.gate.is_open() {
            return self.push(bytes);
        }
        match self.gate.push(bytes)? {
            None => Ok(()),
            Some(held) => self.open(held, ingress, origin, from),
        }
    }

    /// The header is complete (or the body ended without one).
    fn open(&mut self, held: header::Held, ingress: &Ingress, origin: &Origin, from: Option<&Address>) -> Result<()> {
        held.check_loops()?;
        self.passed = held.passed();
        self.answers = self.indexer.is_some() && held.answers();
        self.eight_bit_header = !held.header().is_ascii();
        if self.digest.is_some() || origin.account().is_some() {
            self.author = Author::of(held.header());
        }
        if self.digest.is_some() && ingress.goes_unsigned(origin, &self.author, from) {
            self.digest = None;
        }
        if origin.is_submission() {
            let fixed = held.for_submission(ingress.now(), &ingress.hostname, header::number()?);
            self.message_id = self.leaves.then(|| header::message_id(&fixed)).flatten();
            return self.push(&fixed);
        }
        self.message_id = self.leaves.then(|| header::message_id(held.header())).flatten();
        self.push(held.bytes())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(indexer) = &mut self.indexer {
            indexer.push(bytes);
        }
        if let Some(digest) = &mut self.digest {
            digest.push(bytes);
        }
        self.eight_bit |= !bytes.is_ascii();
        Ok(self.stager.push(bytes)?)
    }

    fn end(&mut self, ingress: &Ingress, origin: &Origin, from: Option<&Address>) -> Result<()> {
        match self.gate.end() {
            None => Ok(()),
            Some(held) => self.open(held, ingress, origin, from),
        }
    }
}
