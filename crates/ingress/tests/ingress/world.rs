//! A house with two domains, and what tests ask of it.

use std::sync::Arc;

use base::{AccountId, Address, Clock, OrganisationId, Stream, Timestamp};
use directory::{Directory, NewAccount, NewDomain, Route, system_random};
use ingress::{Ingress, Origin, Protocol, Submitter};
use mailbox::Mailboxes;
use mailbox::verbs::{self, INBOX};
use queue::{Message, Queue, QueueId, Standing, State};
use smtp::{Mail, Rcpt, Recipient};
use store::{Options, Store, Tx};
use testkit::Dir;
use trust::{Keys, NewKeys};

pub const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
pub const BODY: &str = "From: me@example.test\r\nSubject: hi\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\nhello\r\n";

pub struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }
}

/// `example.test` with `me` and `full` (whose quota is small), `other.test` with `boss`, and some addresses.
pub struct World {
    pub store: Store,
    pub ingress: Ingress,
    pub me: AccountId,
    pub full: AccountId,
    _dir: Dir,
}

pub fn at(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn people(tx: &mut Tx<'_>, keys: &NewKeys) -> store::Result<(AccountId, AccountId)> {
    let organisation = directory::create_organisation(tx, "X", NOW)?;
    for name in ["example.test", "other.test"] {
        directory::create_domain(tx, &NewDomain { organisation, name, created: NOW })?;
        trust::add_keys(tx, name, keys)?;
    }
    let account = |tx: &mut Tx<'_>, login: &str, quota: Option<u64>| {
        let login = at(login);
        let new = NewAccount { organisation, login: &login, name: "", quota, administrator: false, created: NOW };
        let id = directory::create_account(tx, &new)?;
        verbs::create_account(tx, id, quota.unwrap_or(0), NOW)?;
        Ok::<_, store::Error>(id)
    };
    let me = account(tx, "me@example.test", None)?;
    let full = account(tx, "full@example.test", Some(600))?;
    account(tx, "boss@other.test", None)?;
    let forward = Route::Forward(vec![at("me@elsewhere.test")]);
    directory::create_address(tx, &at("away@example.test"), &forward, NOW)?;
    let both = Route::Alias(vec![at("me@example.test"), at("friend@elsewhere.test")]);
    directory::create_address(tx, &at("both@example.test"), &both, NOW)?;
    let members = vec![at("me@example.test"), at("full@example.test")];
    directory::create_address(tx, &at("all@example.test"), &Route::Group { members, members_send: false }, NOW)?;
    let full_or_out = Route::Alias(vec![at("full@example.test"), at("friend@elsewhere.test")]);
    directory::create_address(tx, &at("keep@example.test"), &full_or_out, NOW)?;
    directory::create_address(tx, &at("second@example.test"), &Route::Alias(vec![at("full@example.test")]), NOW)?;
    Ok((me, full))
}

impl World {
    pub async fn new() -> Self {
        World::with(|keys| keys).await
    }

    /// With keys that sign otherwise.
    pub async fn with(signers: impl FnOnce(Keys) -> Keys) -> Self {
        let dir = Dir::new("ingress");
        let tables = [directory::MIGRATIONS, mailbox::MIGRATIONS, queue::MIGRATIONS, trust::MIGRATIONS];
        let store = Store::open(&Options::sqlite(dir.path()), &tables).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Still);
        let keys = NewKeys::generate(NOW).unwrap();
        let (me, full) = store.write(move |tx| people(tx, &keys)).await.unwrap();
        let directory = Directory::open(store.clone(), clock.clone(), system_random).await.unwrap();
        let mailboxes = Mailboxes::new(store.clone(), clock);
        let queue = Queue::open(&store, 1, NOW).await.unwrap();
        let ingress = Ingress::new(directory, mailboxes, queue, signers(Keys::new(store.clone())), "mx.example.test");
        World { store, ingress, me, full, _dir: dir }
    }

    pub fn stranger(&self) -> Origin {
        Origin {
            ip: Some([192, 0, 2, 7].into()),
            helo: "client.test".into(),
            extended: true,
            smtputf8: false,
            tls: None,
            signed_in: None,
            trusted: false,
            protocol: Protocol::Smtp,
        }
    }

    pub fn signed_in(&self) -> Origin {
        self.signed_in_for(Stream::Mail)
    }

    pub fn signed_in_for(&self, stream: Stream) -> Origin {
        let (account, login) = (self.me, at("me@example.test"));
        let who = Submitter { account, login, organisation: OrganisationId(1), stream };
        Origin { signed_in: Some(who), ..self.stranger() }
    }

    /// The replies to each RCPT, then those to the end of the body.
    pub async fn send(&self, origin: Origin, mail: Mail, to: &[Rcpt], body: &str) -> (Vec<String>, Vec<String>) {
        let words = |outcome: base::Result<()>| outcome.map_or_else(|e| e.reply().to_string(), |()| "OK".into());
        let mut incoming = self.ingress.start(Arc::new(origin), mail).await.unwrap();
        let mut named = Vec::new();
        for rcpt in to {
            named.push(words(incoming.recipient(rcpt).await));
        }
        incoming.push(body.as_bytes()).unwrap();
        let done = match incoming.commit().await {
            Ok(each) => each.into_iter().map(words).collect(),
            Err(e) => vec![e.reply().to_string()],
        };
        (named, done)
    }

    pub async fn queue(&self) -> Vec<(Message, Vec<Standing>)> {
        let all = |tx: &mut Tx<'_>| {
            let ids = queue::page(tx, QueueId::FIRST, 100)?;
            ids.into_iter().map(|id| Ok(queue::show(tx, id)?.expect("a message"))).collect()
        };
        self.store.read(all).await.unwrap()
    }

    pub async fn messages(&self, account: AccountId) -> u32 {
        let folders = self.store.read(move |tx| verbs::folders(tx, account)).await.unwrap();
        folders.iter().find(|f| f.id == INBOX).unwrap().messages
    }

    pub async fn check(&self) {
        let blobs = self.store.clone();
        let verify = move |tx: &mut Tx<'_>| {
            let length = |id| Ok(blobs.blob(id)?.len());
            Ok([mailbox::verify(tx, &length)?, queue::verify(tx, &length)?].concat())
        };
        assert_eq!(self.store.read(verify).await.unwrap(), Vec::<String>::new());
    }
}

pub fn from(address: &str) -> Mail {
    Mail { from: Address::parse(address).ok(), ..Mail::default() }
}

pub fn to(address: &str) -> Rcpt {
    Rcpt { to: Recipient::Mailbox(at(address)), notify: None, original: None }
}

pub fn recipients(deliveries: &[Standing]) -> Vec<(String, State)> {
    deliveries.iter().map(|d| (d.delivery.to.to_string(), d.state)).collect()
}
