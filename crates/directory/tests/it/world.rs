//! A small world to test in: one organisation, `x.test`, an administrator and some accounts, and a clock that stands still.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use base::{AccountId, Address, Clock, DomainId, OrganisationId, Timestamp};
use directory::{
    Directory, MIGRATIONS, NewAccount, NewDomain, PasswordHash, Resolution, Route, create_account, create_address,
    create_domain, create_organisation, set_password, system_random,
};
use store::{Store, Tx};
use testkit::Bed;

/// A clock that is set by hand.
pub struct Stopped(AtomicI64);

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

pub struct World {
    pub directory: Directory,
    pub store: Store,
    pub organisation: OrganisationId,
    pub domain: DomainId,
    /// False for a test that breaks the tables on purpose.
    pub sound: bool,
    clock: Arc<Stopped>,
    // Last: the tables go when nobody uses them.
    _bed: Bed,
}

/// Every test ends with the tables in order.
impl Drop for World {
    fn drop(&mut self) {
        if self.sound && !std::thread::panicking() {
            let store = self.store.clone();
            // On a thread of its own, because this one may be the runtime's.
            let faults = std::thread::spawn(move || store.read_blocking(directory::verify)).join().unwrap().unwrap();
            assert_eq!(faults, Vec::<String>::new());
        }
    }
}

pub const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

pub fn at(text: &str) -> Address {
    Address::parse(text).unwrap()
}

impl World {
    /// `x.test` with its administrator `admin@x.test`, on the embedded engine.
    pub async fn new() -> Self {
        World::on(Bed::sqlite()).await
    }

    /// The same on each engine.
    pub async fn each() -> [Self; 2] {
        [World::new().await, World::on(Bed::postgres()).await]
    }

    async fn on(bed: Bed) -> Self {
        let store = bed.open(&[MIGRATIONS]);
        let clock = Arc::new(Stopped(AtomicI64::new(NOW.0)));
        let directory = Directory::open(store.clone(), clock.clone(), system_random).await.unwrap();
        let (organisation, domain) = store
            .write(|tx| {
                let organisation = create_organisation(tx, "X", NOW)?;
                let domain = create_domain(tx, &NewDomain { organisation, name: "x.test", created: NOW })?;
                Ok((organisation, domain))
            })
            .await
            .unwrap();
        let world = World { directory, store, organisation, domain, sound: true, clock, _bed: bed };
        let admin = world.account("admin@x.test").await;
        let change = directory::AccountChange { administrator: Some(true), ..Default::default() };
        world.job(move |tx| directory::change_account(tx, admin, &change)).await.unwrap();
        world
    }

    pub fn later(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    pub async fn job<T: Send + 'static>(
        &self,
        job: impl Fn(&mut Tx<'_>) -> store::Result<T> + Send + 'static,
    ) -> store::Result<T> {
        self.store.write(job).await
    }

    pub async fn account(&self, login: &str) -> AccountId {
        let (login, organisation) = (at(login), self.organisation);
        let job = move |tx: &mut Tx<'_>| {
            let new = NewAccount {
                organisation,
                login: &login,
                name: "",
                quota: Some(1000),
                administrator: false,
                created: NOW,
            };
            create_account(tx, &new)
        };
        self.job(job).await.unwrap()
    }

    /// Gives the account the password `pw`, hashed once for all tests.
    pub async fn password(&self, account: AccountId) {
        static PW: OnceLock<PasswordHash> = OnceLock::new();
        let hash = PW.get_or_init(|| PasswordHash::new(b"pw", system_random).unwrap());
        self.job(move |tx| set_password(tx, account, hash, NOW)).await.unwrap();
    }

    pub async fn try_address(&self, address: &str, route: Route) -> Result<(), String> {
        let address = at(address);
        let job = move |tx: &mut Tx<'_>| create_address(tx, &address, &route, NOW);
        self.job(job).await.map_err(|e| e.refusal().unwrap().reply().text.to_string())
    }

    pub async fn alias(&self, address: &str, targets: &[&str]) {
        self.try_address(address, Route::Alias(targets.iter().map(|t| at(t)).collect())).await.unwrap();
    }

    /// What an address resolves to, as one line.
    pub async fn shows(&self, address: &str) -> String {
        match self.directory.resolve(&at(address)).await {
            Ok(Resolution::NotOurs) => "not ours".into(),
            Ok(Resolution::Unknown) => "unknown".into(),
            Ok(Resolution::Deliver(to)) => {
                let local = to.local.iter().map(|t| match &t.detail {
                    Some(detail) => format!("{} [{detail}]", t.address),
                    None => t.address.to_string(),
                });
                let remote = to.remote.iter().map(|a| format!("-> {a}"));
                local.chain(remote).collect::<Vec<_>>().join(", ")
            }
            Err(e) => e.reply().to_string(),
        }
    }
}
