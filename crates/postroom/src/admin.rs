//! What an administrator can ask for. A request is data: it travels to the running server or is carried out here.

use base::{AccountId, Address, BlobId, Timestamp};
use directory::{NewAccount, NewDomain, Organisation, Route};
use mailbox::verbs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Tx;

use crate::house::House;
use crate::{credential, mailq};

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Prepares an empty store.
    Init { domain: String, admin: String, password: String },
    /// A domain of ours.
    DomainAdd { name: String },
    /// All domains.
    DomainList,
    /// No longer a domain of ours.
    DomainRemove { name: String },
    /// What a domain needs in the DNS.
    DomainDns { name: String },
    /// Somebody who logs in.
    AccountAdd { address: String, name: String, password: String, quota: Option<u64>, administrator: bool },
    /// All accounts.
    AccountList,
    /// Removes an account with its mail.
    AccountRemove { address: String },
    /// A new password.
    AccountPassword { address: String, password: String },
    /// An address that leads to others.
    AliasAdd { address: String, targets: Vec<String> },
    /// An address whose mail goes to each member.
    GroupAdd { address: String, members: Vec<String> },
    /// Takes an alias or group away.
    AddressRemove { address: String },
    /// All addresses of our domains.
    AddressList,
    /// An app password for one program of an account.
    CredentialAdd { account: String, name: String },
    /// What an account can sign in with.
    CredentialList { account: String },
    /// Takes a credential away.
    CredentialRemove { account: String, id: i64 },
    /// The mailboxes of an account.
    MailboxList { account: String },
    /// What is on its way to other hosts.
    QueueList,
    /// One message of the queue.
    QueueShow { id: String },
    /// Tries a message of the queue now.
    QueueRetry { id: String },
    /// Takes a message of the queue back.
    QueueCancel { id: String },
    /// Proves the store consistent.
    Verify,
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

/// Carries a request out.
pub async fn execute(house: &House, request: Request) -> Outcome {
    let now = house.clock.now();
    match request {
        Request::Init { domain, admin, password } => init(house, domain, admin, password, now).await,
        Request::DomainAdd { name } => {
            let keys = mailq::new_keys(now).await?;
            write(house, move |tx| domain_add(tx, &name, &keys, now)).await
        }
        Request::DomainList => read(house, domain_list).await,
        Request::DomainRemove { name } => write(house, move |tx| domain_remove(tx, &name)).await,
        Request::DomainDns { name } => mailq::dns(house, name).await,
        Request::AccountAdd { address, name, password, quota, administrator } => {
            let hash = hash(house, &password).await?;
            write(house, move |tx| {
                let new = Person { address: &address, name: &name, quota, administrator };
                let id = account_add(tx, &new, &hash, now)?;
                Ok(Answer::new(format!("Added {address}"), json!({ "account": id.0, "address": address })))
            })
            .await
        }
        Request::AccountList => read(house, account_list).await,
        Request::AccountRemove { address } => write(house, move |tx| account_remove(tx, &address)).await,
        Request::AccountPassword { address, password } => {
            let hash = hash(house, &password).await?;
            write(house, move |tx| {
                let account = account(tx, &address)?;
                directory::set_password(tx, account, &hash, now)?;
                Ok(Answer::new(format!("{address} has a new password"), json!({ "address": address })))
            })
            .await
        }
        Request::AliasAdd { address, targets } => {
            write(house, move |tx| route_add(tx, &address, &targets, Route::Alias, now)).await
        }
        Request::GroupAdd { address, members } => {
            let group = |members| Route::Group { members, members_send: false };
            write(house, move |tx| route_add(tx, &address, &members, group, now)).await
        }
        Request::AddressRemove { address } => {
            write(house, move |tx| {
                directory::remove_address(tx, &parse(&address)?)?;
                Ok(Answer::new(format!("Removed {address}"), json!({ "address": address })))
            })
            .await
        }
        Request::AddressList => read(house, address_list).await,
        Request::CredentialAdd { account, name } => credential::add(house, account, name).await,
        Request::CredentialList { account } => credential::list(house, account).await,
        Request::CredentialRemove { account, id } => credential::remove(house, account, id).await,
        Request::MailboxList { account } => read(house, move |tx| mailbox_list(tx, &account)).await,
        Request::QueueList => mailq::list(house).await,
        Request::QueueShow { id } => mailq::show(house, id).await,
        Request::QueueRetry { id } => mailq::retry(house, id).await,
        Request::QueueCancel { id } => mailq::cancel(house, id).await,
        Request::Verify => verify(house).await,
    }
}

async fn write(house: &House, work: impl Fn(&mut Tx<'_>) -> store::Result<Answer> + Send + 'static) -> Outcome {
    house.store.write(work).await.map_err(words)
}

async fn read(house: &House, work: impl FnOnce(&mut Tx<'_>) -> store::Result<Answer> + Send + 'static) -> Outcome {
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

/// A refusal in words for the administrator.
pub fn refused(text: String) -> store::Error {
    base::Error::new(base::Reply::new(501, 5, 4, text)).into()
}

fn parse(address: &str) -> store::Result<Address> {
    Address::parse(address).map_err(|e| refused(format!("{address}: {e}")))
}

/// The account that signs in as `address`.
pub fn account(tx: &mut Tx<'_>, address: &str) -> store::Result<AccountId> {
    let found = directory::account_by_login(tx, &parse(address)?)?;
    found.map(|a| a.id).ok_or_else(|| refused(format!("there is no account {address}")))
}

/// The one organisation of a small office.
fn organisation(tx: &mut Tx<'_>, now: Timestamp) -> store::Result<directory::OrganisationId> {
    match directory::organisations(tx)?.first() {
        Some(Organisation { id, .. }) => Ok(*id),
        None => directory::create_organisation(tx, "main", now),
    }
}

struct Person<'a> {
    address: &'a str,
    name: &'a str,
    quota: Option<u64>,
    administrator: bool,
}

fn account_add(
    tx: &mut Tx<'_>,
    new: &Person<'_>,
    hash: &directory::PasswordHash,
    now: Timestamp,
) -> store::Result<AccountId> {
    let (login, organisation) = (parse(new.address)?, organisation(tx, now)?);
    let Person { name, quota, administrator, .. } = *new;
    let name = if name.is_empty() { login.local().to_owned() } else { name.to_owned() };
    let account = NewAccount { organisation, login: &login, name: &name, quota, administrator, created: now };
    let id = directory::create_account(tx, &account)?;
    directory::set_password(tx, id, hash, now)?;
    verbs::create_account(tx, id, quota.unwrap_or(0), now)?;
    Ok(id)
}

async fn init(house: &House, domain: String, admin: String, password: String, now: Timestamp) -> Outcome {
    let (hash, keys) = (hash(house, &password).await?, mailq::new_keys(now).await?);
    write(house, move |tx| {
        if !directory::domains(tx)?.is_empty() {
            return Err(refused("this data directory is in use already: it has a domain".into()));
        }
        let organisation = organisation(tx, now)?;
        directory::create_domain(tx, &NewDomain { organisation, name: &domain, created: now })?;
        trust::add_keys(tx, &domain.to_lowercase(), &keys)?;
        let new = Person { address: &admin, name: "Administrator", quota: None, administrator: true };
        account_add(tx, &new, &hash, now)?;
        let text = format!("Ready: domain {domain}, administrator {admin}");
        Ok(Answer::new(text, json!({ "domain": domain, "administrator": admin })))
    })
    .await
}

fn domain_add(tx: &mut Tx<'_>, name: &str, keys: &trust::NewKeys, now: Timestamp) -> store::Result<Answer> {
    let organisation = organisation(tx, now)?;
    let id = directory::create_domain(tx, &NewDomain { organisation, name, created: now })?;
    trust::add_keys(tx, &name.to_lowercase(), keys)?;
    Ok(Answer::new(format!("Added {name}"), json!({ "domain": id.0, "name": name })))
}

fn domain_list(tx: &mut Tx<'_>) -> store::Result<Answer> {
    let names: Vec<String> = directory::domains(tx)?.into_iter().map(|d| d.name).collect();
    Ok(Answer::new(names.join("\n"), json!(names)))
}

fn domain_remove(tx: &mut Tx<'_>, name: &str) -> store::Result<Answer> {
    let found = directory::domain_by_name(tx, name)?;
    let domain = found.ok_or_else(|| refused(format!("there is no domain {name}")))?;
    directory::remove_domain(tx, domain.id)?;
    trust::remove_keys(tx, &domain.name)?;
    Ok(Answer::new(format!("Removed {name}"), json!({ "name": name })))
}

/// Every account, by number.
fn all_accounts(tx: &mut Tx<'_>) -> store::Result<Vec<directory::Account>> {
    const PAGE: u32 = 1000;
    let mut all: Vec<directory::Account> = Vec::new();
    for organisation in directory::organisations(tx)? {
        let mut after = AccountId(0);
        loop {
            let page = directory::accounts(tx, organisation.id, after, PAGE)?;
            let full = page.len() == PAGE as usize;
            after = page.last().map_or(after, |a| a.id);
            all.extend(page);
            if !full {
                break;
            }
        }
    }
    Ok(all)
}

fn account_list(tx: &mut Tx<'_>) -> store::Result<Answer> {
    let (mut text, mut data) = (Vec::new(), Vec::new());
    for a in all_accounts(tx)? {
        let (used, quota) = verbs::room(tx, a.id)?;
        let role = if a.administrator { "  administrator" } else { "" };
        text.push(format!("{:32} {:>12} octets{role}", a.login.to_string(), used));
        let (login, name) = (a.login.to_string(), a.name);
        data.push(json!({ "account": a.id.0, "address": login, "name": name, "used": used, "quota": quota,
            "administrator": a.administrator, "disabled": a.disabled }));
    }
    Ok(Answer::new(text.join("\n"), Value::Array(data)))
}

fn account_remove(tx: &mut Tx<'_>, address: &str) -> store::Result<Answer> {
    let account = account(tx, address)?;
    let administrators: Vec<AccountId> =
        all_accounts(tx)?.into_iter().filter(|a| a.administrator && !a.disabled).map(|a| a.id).collect();
    if administrators == [account] {
        // RFC 5321 §4.5.1: postmaster must exist; it is the administrator.
        return Err(refused(format!("{address} is the only administrator: make another one first")));
    }
    directory::remove_account(tx, account)?;
    verbs::remove_account(tx, account)?;
    Ok(Answer::new(format!("Removed {address} and its mail"), json!({ "address": address })))
}

fn route_add(
    tx: &mut Tx<'_>,
    address: &str,
    targets: &[String],
    route: impl Fn(Vec<Address>) -> Route,
    now: Timestamp,
) -> store::Result<Answer> {
    let to: Vec<Address> = targets.iter().map(|t| parse(t)).collect::<store::Result<_>>()?;
    directory::create_address(tx, &parse(address)?, &route(to), now)?;
    let text = format!("Added {address} -> {}", targets.join(", "));
    Ok(Answer::new(text, json!({ "address": address, "targets": targets })))
}

fn address_list(tx: &mut Tx<'_>) -> store::Result<Answer> {
    const PAGE: u32 = 1000;
    let (mut text, mut data) = (Vec::new(), Vec::new());
    for domain in directory::domains(tx)? {
        let mut after = String::new();
        loop {
            let page = directory::addresses(tx, domain.id, &after, PAGE)?;
            for entry in &page {
                let targets: Vec<String> = entry.route.targets().iter().map(Address::to_string).collect();
                let (address, kind) = (entry.address.to_string(), kind(&entry.route));
                text.push(format!("{address:32} {kind:8} {}", targets.join(", ")));
                data.push(json!({ "address": address, "kind": kind, "targets": targets }));
                after = entry.address.local().to_owned();
            }
            if page.len() < PAGE as usize {
                break;
            }
        }
    }
    Ok(Answer::new(text.join("\n"), Value::Array(data)))
}

fn kind(route: &Route) -> &'static str {
    match route {
        Route::Account(_) => "account",
        Route::Alias(_) => "alias",
        Route::Group { .. } => "group",
        Route::Forward(_) => "forward",
    }
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
