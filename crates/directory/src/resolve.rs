//! What an address resolves to: a walk from list to list, bounded in depth and number, that ends at accounts of ours and
//! at addresses elsewhere.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use base::{AccountId, Address, Error, Reply};
use store::{Result, Tx, params};

use crate::address::{self, Entry};
use crate::domain::{Domain, domain_by_name};
use crate::sql::account as sql;

/// The longest list.
pub const MAX_TARGETS: usize = 1000;

/// How many addresses a walk may pass, the ends included.
pub const MAX_VISITED: usize = 2000;

/// How many lists may stand one behind another.
pub const MAX_DEPTH: u32 = 10;

/// What RCPT TO is answered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The domain is not ours: this is relaying.
    NotOurs,
    /// The domain is ours, the address does not exist: 550 5.1.1 (RFC 3463 §3.2).
    Unknown,
    /// It ends here or elsewhere, at one recipient or many.
    Deliver(Arc<Recipients>),
}

/// Where mail to one address ends; no account and no remote address stands here twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients {
    /// Accounts of ours.
    pub local: Vec<LocalTarget>,
    /// Forwards to other hosts.
    pub remote: Vec<Address>,
}

/// An account that gets the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalTarget {
    /// Whose it is.
    pub account: AccountId,
    /// The account's own address at which the walk ended, in lower case and without the detail.
    pub address: Address,
    /// The detail of a sub-address (RFC 5233 §4) in the sender's case; it passes through aliases.
    pub detail: Option<String>,
    /// How many octets the account may keep; None: no limit.
    pub quota: Option<u64>,
}

/// Why a walk is made: it decides which lists are passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Mail passes every list.
    Deliver,
    /// The right to send as an address passes aliases, and groups that say so; never a forward.
    SendAs,
}

/// A step of the walk that is still to be made.
struct Step {
    address: Address,
    detail: Option<String>,
    depth: u32,
}

/// A walk under way.
pub(crate) struct Walk {
    purpose: Purpose,
    steps: VecDeque<Step>,
    /// Canonical spellings of what was passed.
    seen: HashSet<String>,
    /// Each domain is looked up once a walk; None: not ours.
    domains: HashMap<String, Option<Arc<Domain>>>,
    accounts: HashSet<AccountId>,
    /// Where it ended.
    pub(crate) recipients: Recipients,
    /// Addresses in domains of ours that do not exist.
    pub(crate) unknown: Vec<Address>,
}

impl Walk {
    pub(crate) fn new(purpose: Purpose) -> Self {
        Walk {
            purpose,
            steps: VecDeque::new(),
            seen: HashSet::new(),
            domains: HashMap::new(),
            accounts: HashSet::new(),
            recipients: Recipients::default(),
            unknown: Vec::new(),
        }
    }

    /// A place to begin at.
    pub(crate) fn add(&mut self, address: Address) {
        self.steps.push_back(Step { address, detail: None, depth: 0 });
    }

    /// Whether the walk passed an address, given in its canonical form.
    pub(crate) fn has_seen(&self, canonical: &str) -> bool {
        self.seen.contains(canonical)
    }

    /// Walks to all ends.
    ///
    /// # Errors
    /// 550 5.2.4 (RFC 3463 §3.3, mailing list expansion) when the lists are too deep or too many.
    pub(crate) fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        while let Some(step) = self.steps.pop_front() {
            self.step(tx, step)?;
        }
        Ok(())
    }

    fn step(&mut self, tx: &mut Tx<'_>, step: Step) -> Result<()> {
        let Some(domain) = self.domain(tx, step.address.domain())? else {
            if self.first_time(step.address.to_string())? {
                self.recipients.remote.push(step.address);
            }
            return Ok(());
        };
        let Ok(spelling) = crate::canonical(&step.address) else {
            self.unknown.push(step.address);
            return Ok(());
        };
        if !self.first_time(spelling)? {
            return Ok(());
        }
        match find(tx, &domain, step.address.local())? {
            Found::Account { account, local, detail, quota } => {
                if self.accounts.insert(account) {
                    let address = Address::new(&local, &domain.name).map_err(Error::internal)?;
                    let detail = detail.or(step.detail);
                    self.recipients.local.push(LocalTarget { account, address, detail, quota });
                }
            }
            Found::List { entry, local, detail } => {
                if self.passes(&entry) {
                    let targets = address::targets(tx, domain.id, &local)?;
                    self.follow(targets, detail.or(step.detail), step.depth)?;
                }
            }
            Found::CatchAll(target) => match self.purpose {
                Purpose::Deliver => self.follow(vec![target], step.detail, step.depth)?,
                Purpose::SendAs => {}
            },
            Found::Nothing => self.unknown.push(step.address),
        }
        Ok(())
    }

    fn domain(&mut self, tx: &mut Tx<'_>, name: &str) -> Result<Option<Arc<Domain>>> {
        if let Some(known) = self.domains.get(name) {
            return Ok(known.clone());
        }
        let found = domain_by_name(tx, name)?.map(Arc::new);
        self.domains.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    /// Whether this spelling is met for the first time: what ends loops, and counts.
    fn first_time(&mut self, spelling: String) -> Result<bool> {
        let new = self.seen.insert(spelling);
        if self.seen.len() > MAX_VISITED { Err(too_much()) } else { Ok(new) }
    }

    fn passes(&self, entry: &Entry) -> bool {
        self.purpose == Purpose::Deliver || entry.is_alias() || entry.members_send
    }

    fn follow(&mut self, targets: Vec<Address>, detail: Option<String>, depth: u32) -> Result<()> {
        if depth >= MAX_DEPTH || self.steps.len() + targets.len() > MAX_VISITED {
            return Err(too_much());
        }
        let step = |address| Step { address, detail: detail.clone(), depth: depth + 1 };
        self.steps.extend(targets.into_iter().map(step));
        Ok(())
    }
}

fn too_much() -> store::Error {
    Error::new(Reply::new(550, 2, 4, "The address expands to too many others")).into()
}

/// What a local part is, in a domain of ours.
enum Found {
    Account { account: AccountId, local: String, detail: Option<String>, quota: Option<u64> },
    List { entry: Entry, local: String, detail: Option<String> },
    CatchAll(Address),
    Nothing,
}

/// The address itself; else without its detail; else the administrator for the names every domain has; else the
/// catch-all.
fn find(tx: &mut Tx<'_>, domain: &Domain, local: &str) -> Result<Found> {
    let whole = (local.to_lowercase(), None);
    let parts = domain.detail(local).map(|(user, detail)| (user.to_lowercase(), Some(detail.to_owned())));
    for (local, detail) in [Some(whole), parts].into_iter().flatten() {
        if let Some(entry) = address::entry(tx, domain.id, &local)? {
            return Ok(match entry.account {
                Some(account) => Found::Account { account, local, detail, quota: entry.quota },
                None => Found::List { entry, local, detail },
            });
        }
        // RFC 5321 §4.5.1: mail to postmaster must be taken. RFC 2142 §4: so should be mail to abuse.
        if matches!(local.as_str(), "postmaster" | "abuse")
            && let Some((account, quota)) = administrator(tx, domain)?
        {
            return Ok(Found::Account { account, local, detail, quota });
        }
    }
    Ok(domain.catch_all.clone().map_or(Found::Nothing, Found::CatchAll))
}

fn administrator(tx: &mut Tx<'_>, domain: &Domain) -> Result<Option<(AccountId, Option<u64>)>> {
    tx.row(&sql::POSTMASTER, params![domain.organisation], |r| {
        Ok((AccountId(r.int(0)?), r.opt_int(1)?.and_then(|q| u64::try_from(q).ok())))
    })
}

/// What `address` resolves to, as the store stands now.
pub(crate) fn resolve(tx: &mut Tx<'_>, address: &Address) -> Result<Resolution> {
    if domain_by_name(tx, address.domain())?.is_none() {
        return Ok(Resolution::NotOurs);
    }
    let mut walk = Walk::new(Purpose::Deliver);
    walk.add(address.clone());
    walk.run(tx)?;
    let recipients = walk.recipients;
    if recipients.is_empty() { Ok(Resolution::Unknown) } else { Ok(Resolution::Deliver(Arc::new(recipients))) }
}

/// Whether `account` may send as `address`, as the store stands now.
pub(crate) fn owns(tx: &mut Tx<'_>, account: AccountId, address: &Address) -> Result<bool> {
    let mut walk = Walk::new(Purpose::SendAs);
    walk.add(address.clone());
    walk.run(tx)?;
    Ok(walk.recipients.local.iter().any(|t| t.account == account))
}

impl Recipients {
    /// How many get it.
    pub fn len(&self) -> usize {
        self.local.len() + self.remote.len()
    }

    /// Nobody gets it.
    pub fn is_empty(&self) -> bool {
        self.local.is_empty() && self.remote.is_empty()
    }
}
