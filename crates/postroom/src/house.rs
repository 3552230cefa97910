//! The floors below, opened and wired: what the server and the administrator's commands both need.

use std::sync::Arc;

use base::{Clock, SystemClock};
use directory::Directory;
use mailbox::Mailboxes;
use outbox::Meter;
use store::{Migrations, Options, References, Store};

use crate::config::Config;
use crate::outside::Outside;
use crate::webhooks::Where;

/// Everybody's tables.
const TABLES: [Migrations; 4] = [directory::MIGRATIONS, mailbox::MIGRATIONS, queue::MIGRATIONS, trust::MIGRATIONS];

/// Whose rows refer to blobs.
pub const REFERENCES: &[References] = &[mailbox::REFERENCES, queue::REFERENCES];

/// The open store and what stands on it.
#[derive(Clone)]
pub struct House {
    pub store: Store,
    pub directory: Directory,
    pub mailboxes: Mailboxes,
    /// Our name.
    pub hostname: String,
    /// The host that sends our mail on, if we do not.
    pub smarthost: Option<String>,
    /// A web server of ours has the policies of our domains.
    pub publishes: bool,
    /// It is the one that does everything, or the only one.
    pub keeps: bool,
    pub clock: Arc<dyn Clock>,
    /// The world outside.
    pub outside: Outside,
    /// Where webhooks may be.
    pub webhooks: Where,
    /// What sends, in a server.
    pub outbox: Option<Meter>,
}

impl House {
    /// Opens the store, which makes it where it is missing.
    ///
    /// # Errors
    /// [`store::Error::Busy`]: a server has it; others say what the disk or the database said.
    pub async fn open(config: &Config) -> Result<Self, store::Error> {
        let options = match config.store.url.as_str() {
            "sqlite" => Options::sqlite(&config.data),
            url => Options::postgres(&config.data, url),
        };
        let options = Options {
            shared: config.store.shared.clone(),
            keeps: config.node.keeps(),
            pack_octets: config.store.pack_octets,
            reserve: config.store.reserve_octets,
            ..options
        };
        let open = move || Store::open(&options, &TABLES);
        // Opening waits for the disk or for PostgreSQL.
        let store = tokio::task::spawn_blocking(open).await.map_err(|_| store::Error::Closed)??;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let directory = Directory::open(store.clone(), clock.clone(), directory::system_random).await?;
        let mailboxes = Mailboxes::new(store.clone(), clock.clone());
        let (hostname, smarthost) = (config.hostname.clone(), config.smarthost.as_ref());
        let publishes = config.listen.https.iter().next().is_some();
        let smarthost = smarthost.map(|smarthost| smarthost.address.0.host.clone());
        Ok(House {
            store,
            directory,
            mailboxes,
            hostname,
            smarthost,
            publishes,
            keeps: config.node.keeps(),
            outside: Outside::of(config),
            webhooks: config.webhooks.place(),
            clock,
            outbox: None,
        })
    }
}
