//! What an administrator can ask for. A request is data: it travels to the running server or is carried out here.

use base::{AccountId, Address, BlobId, Stream, Timestamp};
use directory::{AccountChange, NewDomain};
use mailbox::verbs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Tx;

use crate::house::House;
use crate::people::{self, Person};
use crate::{
    addresses, credential, events, mailq, node, organisations, policies, published, quiet, receipts, simulate, sources,
    stops, suppressions, verp, webhooks, why,
};

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Prepares an empty store.
    Init { domain: String, admin: String, password: String },
    /// Who owns domains and accounts.
    Organisation(organisations::Ask),
    /// A domain of ours, of an organisation.
    DomainAdd { name: String, organisation: Option<String> },
    /// All domains.
    DomainList,
    /// No longer a domain of ours.
    DomainRemove { name: String },
    /// What becomes of mail to unknown addresses of a domain, and of sub-addresses; an empty text takes it away. What its
    /// policy asks of those who send it mail.
    DomainChange { name: String, catch_all: Option<String>, separator: Option<String>, mta_sts: Option<String> },
    /// What a domain needs in the DNS; or whether that is there.
    DomainDns { name: String, check: bool },
    /// New keys for a domain.
    KeyRotate { name: String },
    /// The keys of a domain.
    KeyList { name: String },
    /// Whether the keys of a domain are in the DNS; new ones sign then, or when they are told to.
    KeyCheck { name: String, force: bool },
    /// Somebody who logs in.
    AccountAdd { address: String, name: String, password: String, quota: Option<u64>, administrator: bool },
    /// All accounts.
    AccountList,
    /// Removes an account with its mail.
    AccountRemove { address: String },
    /// Changes what is given; a quota of 0 is none.
    AccountChange {
        address: String,
        login: Option<String>,
        name: Option<String>,
        quota: Option<u64>,
        administrator: Option<bool>,
        disabled: Option<bool>,
        stream: Option<String>,
    },
    /// A new password.
    AccountPassword { address: String, password: String },
    /// An address that leads to others; made anew, or changed where it is there.
    AddressSet { address: String, kind: Kind, targets: Vec<String>, new: bool },
    /// Takes an alias or group away.
    AddressRemove { address: String },
    /// All addresses of our domains.
    AddressList,
    /// An app password for one program of an account.
    CredentialAdd { account: String, name: String, stream: Option<String> },
    /// What an account can sign in with.
    CredentialList { account: String },
    /// Takes a credential away.
    CredentialRemove { account: String, id: i64 },
    /// The servers that share the queue.
    Nodes,
    /// The mailboxes of an account.
    MailboxList { account: String },
    /// What is on its way to other hosts.
    QueueList { which: mailq::Which, after: Option<String>, limit: usize },
    /// A page of it, a row for each delivery.
    QueuePage { which: mailq::Which, after: Option<String> },
    /// One message of the queue.
    QueueShow { id: String },
    /// Why mail for somebody has not left yet.
    QueueWhy { address: String },
    /// Tries some of the queue now.
    QueueRetry(mailq::Meant),
    /// Takes some of the queue back.
    QueueCancel(mailq::Meant),
    /// What mail leaves by.
    Source(sources::Ask),
    /// What is held back.
    Stop(stops::Ask),
    /// Return addresses of single deliveries; without a stream, where there are any.
    Verp { stream: Option<String>, on: bool },
    /// When streams are quiet.
    Quiet(quiet::Ask),
    /// How sites are treated.
    Policy(policies::Ask),
    /// What became of mail that left.
    Receipt(receipts::Request),
    /// What happened, from a place in the log on.
    Events(events::Which),
    /// Who is told of it.
    Webhook(webhooks::Ask),
    /// Addresses that nothing is sent to.
    Suppression(suppressions::Ask),
    /// What mail leaves by, for a forecast.
    Facts,
    /// Proves the store consistent.
    Verify,
}

/// What an address with targets is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Another name for its targets.
    Alias,
    /// Its mail goes on to its targets.
    Forward,
    /// Its targets are its members.
    Group {
        /// They may send as the group.
        members_send: bool,
    },
}

/// What a request came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// For people.
    pub text: String,
    /// For programs.
    pub data: Value,
    /// False when the request was carried out, and what it found is bad (verify).
    pub good: bool,
}

/// An answer, or why there is none, in words for the administrator.
pub type Outcome = Result<Answer, String>;

impl Answer {
    /// An answer to a request that was carried out.
    pub fn new(text: impl Into<String>, data: Value) -> Self {
        Answer { text: text.into(), data, good: true }
    }
}

impl Request {
    /// It changes what sessions and signers remember, each in its own process.
    fn is_for_who_serves(&self) -> bool {
        use Request as R;
        matches!(
            self,
            R::Init { .. }
                | R::Organisation(organisations::Ask::Add { .. })
                | R::Organisation(organisations::Ask::Change { .. })
                | R::Organisation(organisations::Ask::Remove { .. })
                | R::DomainAdd { .. }
                | R::DomainRemove { .. }
                | R::DomainChange { .. }
                | R::KeyRotate { .. }
                | R::KeyCheck { .. }
                | R::AccountAdd { .. }
                | R::AccountRemove { .. }
                | R::AccountChange { .. }
                | R::AccountPassword { .. }
                | R::AddressSet { .. }
                | R::AddressRemove { .. }
                | R::CredentialAdd { .. }
                | R::CredentialRemove { .. }
        )
    }
}

/// Carries a request out.
pub async fn execute(house: &House, request: Request) -> Outcome {
    if !house.keeps && request.is_for_who_serves() {
        return Err("this server only sends ([node] role = \"send\"): say that to the one that does everything".into());
    }
    let now = house.clock.now();
    match request {
        Request::Init { domain, admin, password } => init(house, domain, admin, password, now).await,
        Request::Organisation(ask) => organisations::execute(house, ask).await,
        Request::DomainAdd { name, organisation } => {
            let keys = published::new_keys(now).await?;
            write(house, move |tx| addresses::add_domain(tx, &name, organisation.as_deref(), &keys, now)).await
        }
        Request::DomainList => read(house, addresses::domains).await,
        Request::DomainChange { name, catch_all, separator, mta_sts } => {
            write(house, move |tx| {
                addresses::change_domain(tx, &name, catch_all.as_deref(), separator.as_deref(), mta_sts.as_deref())
            })
            .await
        }
        Request::DomainRemove { name } => write(house, move |tx| addresses::remove_domain(tx, &name)).await,
        Request::DomainDns { name, check: false } => published::records(house, name).await,
        Request::DomainDns { name, check: true } => published::check(house, name).await,
        Request::KeyRotate { name } => published::rotate(house, name).await,
        Request::KeyList { name } => published::keys(house, name).await,
        Request::KeyCheck { name, force } => published::check_keys(house, name, force).await,
        Request::AccountAdd { address, name, password, quota, administrator } => {
            let hash = hash(house, &password).await?;
            write(house, move |tx| {
                let new = Person { address: &address, name: &name, quota, administrator };
                let id = people::add(tx, &new, &hash, now)?;
                Ok(Answer::new(format!("Added {address}"), json!({ "account": id.0, "address": address })))
            })
            .await
        }
        Request::AccountList => read(house, people::list).await,
        Request::AccountRemove { address } => write(house, move |tx| people::remove(tx, &address)).await,
        Request::AccountChange { address, login, name, quota, administrator, disabled, stream } => {
            let stream = named_stream(stream)?;
            write(house, move |tx| {
                let login = login.as_deref().map(parse).transpose()?;
                let quota = quota.map(|q| Some(q).filter(|q| *q > 0));
                people::change(
                    tx,
                    &address,
                    &AccountChange { login, name: name.clone(), quota, administrator, disabled, stream },
                )
            })
            .await
        }
        Request::AccountPassword { address, password } => {
            let hash = hash(house, &password).await?;
            write(house, move |tx| {
                let account = account(tx, &address)?;
                directory::set_password(tx, account, &hash, now)?;
                Ok(Answer::new(format!("{address} has a new password"), json!({ "address": address })))
            })
            .await
        }
        Request::AddressSet { address, kind, targets, new } => {
            write(house, move |tx| addresses::set(tx, &address, kind, &targets, new, now)).await
        }
        Request::AddressRemove { address } => write(house, move |tx| addresses::remove(tx, &address)).await,
        Request::Nodes => read(house, node::list).await,
        Request::AddressList => read(house, addresses::list).await,
        Request::CredentialAdd { account, name, stream } => {
            credential::add(house, account, name, named_stream(stream)?).await
        }
        Request::CredentialList { account } => credential::list(house, account).await,
        Request::CredentialRemove { account, id } => credential::remove(house, account, id).await,
        Request::MailboxList { account } => read(house, move |tx| mailbox_list(tx, &account)).await,
        Request::QueueList { which, after, limit } => mailq::list(house, which, after, limit).await,
        Request::QueuePage { which, after } => mailq::page(house, which, after).await,
        Request::QueueShow { id } => mailq::show(house, id).await,
        Request::QueueWhy { address } => why::why(house, &address).await,
        Request::QueueRetry(meant) => mailq::retry(house, meant).await,
        Request::QueueCancel(meant) => mailq::cancel(house, meant).await,
        Request::Source(ask) => sources::execute(house, ask).await,
        Request::Stop(ask) => stops::execute(house, ask).await,
        Request::Verp { stream, on } => verp::execute(house, stream, on).await,
        Request::Quiet(ask) => quiet::execute(house, ask).await,
        Request::Policy(ask) => policies::execute(house, ask).await,
        Request::Receipt(request) => receipts::execute(house, request).await,
        Request::Webhook(ask) => webhooks::execute(house, ask).await,
        Request::Events(which) => events::execute(house, which).await,
        Request::Suppression(ask) => suppressions::execute(house, ask).await,
        Request::Facts => simulate::facts(house).await,
        Request::Verify => verify(house).await,
    }
}

/// A change to the store.
pub async fn write(house: &House, work: impl Fn(&mut Tx<'_>) -> store::Result<Answer> + Send + 'static) -> Outcome {
    house.store.write(work).await.map_err(words)
}

/// A look at the store.
pub async fn read(house: &House, work: impl FnOnce(&mut Tx<'_>) -> store::Result<Answer> + Send + 'static) -> Outcome {
    house.store.read(work).await.map_err(words)
}

/// A refusal's text is meant for people; everything else is said whole.
pub fn words(e: store::Error) -> String {
    match e.refusal() {
        Some(refusal) => refusal.reply().text.to_string(),
        None => e.to_string(),
    }
}

async fn hash(house: &House, password: &str) -> Result<directory::PasswordHash, String> {
    let hash = house.directory.hash_password(password.as_bytes()).await;
    hash.map_err(|e| e.reply().text.to_string())
}

/// A stream that was named, if one was.
fn named_stream(stream: Option<String>) -> Result<Option<Stream>, String> {
    stream.map(|word| word.parse()).transpose().map_err(|e: base::BadStream| e.to_string())
}

/// A refusal in words for the administrator.
pub fn refused(text: String) -> store::Error {
    base::Error::new(base::Reply::new(501, 5, 4, text)).into()
}

/// Whether a name has this word in it, in any case of letters; where none is given, each is wanted.
pub fn has(name: &str, word: Option<&str>) -> bool {
    word.is_none_or(|word| name.to_lowercase().contains(&word.to_lowercase()))
}

/// An address that somebody wrote.
pub fn parse(address: &str) -> store::Result<Address> {
    Address::parse(address).map_err(|e| refused(format!("{address}: {e}")))
}

/// The account that signs in as `address`.
pub fn account(tx: &mut Tx<'_>, address: &str) -> store::Result<AccountId> {
    let found = directory::account_by_login(tx, &parse(address)?)?;
    found.map(|a| a.id).ok_or_else(|| refused(format!("there is no account {address}")))
}

async fn init(house: &House, domain: String, admin: String, password: String, now: Timestamp) -> Outcome {
    let (hash, keys) = (hash(house, &password).await?, published::new_keys(now).await?);
    write(house, move |tx| {
        if !directory::domains(tx)?.is_empty() {
            return Err(refused("this data directory is in use already: it has a domain".into()));
        }
        let organisation = organisations::first(tx, now)?;
        directory::create_domain(tx, &NewDomain { organisation, name: &domain, created: now })?;
        trust::add_keys(tx, &domain.to_lowercase(), &keys)?;
        let new = Person { address: &admin, name: "Administrator", quota: None, administrator: true };
        people::add(tx, &new, &hash, now)?;
        let text = format!("Ready: domain {domain}, administrator {admin}");
        Ok(Answer::new(text, json!({ "domain": domain, "administrator": admin })))
    })
    .await
}

fn mailbox_list(tx: &mut Tx<'_>, address: &str) -> store::Result<Answer> {
    let account = account(tx, address)?;
    let (mut text, mut data) = (Vec::new(), Vec::new());
    for f in verbs::folders(tx, account)? {
        text.push(format!("{:32} {:>8} messages {:>8} unseen {:>12} octets", f.name, f.messages, f.unseen, f.octets));
        data.push(json!({ "id": f.id.0, "name": f.name, "messages": f.messages, "unseen": f.unseen,
            "octets": f.octets, "uid_validity": f.uid_validity.0, "uid_next": f.uid_next, "modseq": f.modseq.0,
            "special_use": f.special_use }));
    }
    Ok(Answer::new(text.join("\n"), Value::Array(data)))
}

/// What each crate says of its own tables. `whole` are the blobs known to be as they were written, in order: of the others
/// only those that something refers to are looked at, for a crash leaves torn records that nothing refers to.
fn tables(tx: &mut Tx<'_>, blobs: &store::Store, whole: &[BlobId]) -> store::Result<Vec<String>> {
    let mut wrong = directory::verify(tx)?;
    let length = |id| {
        let blob = blobs.blob(id)?;
        if whole.binary_search(&id).is_err() {
            blob.verify()?;
        }
        Ok(blob.len())
    };
    wrong.extend(mailbox::verify(tx, &length)?);
    wrong.extend(queue::verify(tx, &length)?);
    wrong.extend(trust::verify(tx)?);
    Ok(wrong)
}

/// Reads everything: every record of every pack, then tables against each other and against what the packs hold.
async fn verify(house: &House) -> Outcome {
    let store = house.store.clone();
    let blobs = house.store.clone();
    let scan = tokio::task::spawn_blocking(move || {
        let mut whole = Vec::new();
        let packs = store.scan_packs(|id, _, verdict| whole.extend(verdict.is_ok().then_some(id)))?;
        Ok::<_, store::Error>((packs, whole))
    });
    let (packs, whole) = scan.await.map_err(|e| e.to_string())?.map_err(words)?;
    let wrong = house.store.read(move |tx| tables(tx, &blobs, &whole)).await.map_err(words)?;
    let records: u64 = packs.iter().map(|p| p.records).sum();
    let octets: u64 = packs.iter().map(|p| p.octets).sum();
    let good = wrong.is_empty();
    let text = if good {
        format!("The store is consistent: {records} records in {} packs, {octets} octets", packs.len())
    } else {
        wrong.join("\n")
    };
    let data =
        json!({ "consistent": good, "problems": wrong, "packs": packs.len(), "records": records, "octets": octets });
    Ok(Answer { text, data, good })
}
