//! What mail leaves by: sources (an address of this machine and the name that it says there), pools of them, and which pool
//! serves a stream. All of it is small, is read whole ([`setup`]), and changed live: each change tells [`Event::Changed`].
//!
//! Where nothing is defined there is one source, [`DEFAULT`]: our host name, from whatever address the system chooses.

mod judged;
mod pool;
mod quiet;
mod rule;
mod schema;
mod stop;
mod used;
mod warmup;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use base::{OrganisationId, Stream};
use store::{Result, Row, Tx, params};

use crate::entry::corrupt;
use crate::node::{Told, tell};
pub use judged::{Course, Finding, Judged, Measure, is_to_judge, judge, let_go};
pub use pool::{Member, Pool, add_pool, change_pool, give_pool, remove_pool};
pub use quiet::{Quiet, set_quiet, unset_quiet};
pub use rule::{Rule, Scope, set_rules, unset_rules};
pub use schema::ALL;
pub use stop::{Ended, Stop, What, resume, stop};
pub use used::{Used, UsedOf, end_pauses, forget_used, is_within, note_used, used};
pub use warmup::{Cap, Count, Delivered, Fared, Share, count, day_of, delivered, end_plan, set_caps};
pub(crate) use warmup::{count_by_name, has_plans};

/// The name of the source that is always there.
pub const DEFAULT: &str = "default";
/// Sources, and pools, at most.
const MOST: usize = 1000;
/// Octets of a name, at most.
const NAME: usize = 64;

/// The number of a source: given once, and never to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(i64);

impl SourceId {
    /// That of the source [`DEFAULT`].
    pub const DEFAULT: SourceId = SourceId(0);

    /// As it is kept.
    pub fn stored(self) -> i64 {
        self.0
    }

    /// What [`SourceId::stored`] gave.
    pub fn read(value: i64) -> Self {
        SourceId(value)
    }
}

/// What mail leaves by: addresses of this machine, and the name that it says there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its number.
    pub id: SourceId,
    /// What the administrator calls it.
    pub name: Arc<str>,
    /// Its addresses. One that has none leaves the choice to the system; one that has only one of them does not reach hosts
    /// of the other family.
    pub v4: Option<Ipv4Addr>,
    /// See `v4`.
    pub v6: Option<Ipv6Addr>,
    /// The name for EHLO; none is our host name.
    pub ehlo: Option<Arc<str>>,
}

impl Source {
    /// The one that is always there.
    pub fn default_one() -> Self {
        Source { id: SourceId::DEFAULT, name: DEFAULT.into(), v4: None, v6: None, ehlo: None }
    }

    /// Its address to reach `to` from; none leaves it to the system.
    pub fn address_for(&self, to: IpAddr) -> Option<IpAddr> {
        match to.is_ipv4() {
            true => self.v4.map(IpAddr::V4),
            false => self.v6.map(IpAddr::V6),
        }
    }

    /// Whether it can reach an address of that family.
    pub fn reaches(&self, v4: bool) -> bool {
        match (self.v4, self.v6) {
            (None, None) => true,
            (v4_too, v6_too) => v4 && v4_too.is_some() || !v4 && v6_too.is_some(),
        }
    }
}

/// A source to be, or what one is changed to.
#[derive(Clone, Debug, Default)]
pub struct NewSource {
    /// See [`Source::v4`].
    pub v4: Option<Ipv4Addr>,
    /// See [`Source::v4`].
    pub v6: Option<Ipv6Addr>,
    /// See [`Source::ehlo`].
    pub ehlo: Option<String>,
}

/// All that is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// But for [`DEFAULT`], which is always there.
    pub sources: Vec<Source>,
    /// In the order of their names.
    pub pools: Vec<Pool>,
    /// The operator's own figures for sites.
    pub rules: Vec<Rule>,
    /// What he holds or drains.
    pub stops: Vec<Stop>,
    /// What he let go on not long ago.
    pub ended: Vec<Ended>,
    /// When streams are quiet.
    pub quiet: Vec<Quiet>,
    /// Streams of which each recipient has a return address of its own.
    pub verp: Vec<Stream>,
    /// What new sources may deliver a day.
    pub caps: Vec<Cap>,
    /// Sites at which their days do not count as they do elsewhere.
    pub judged: Vec<Judged>,
}

impl Setup {
    /// The pool for the mail of an organisation's stream: its own, or else the general one.
    pub fn pool(&self, stream: Stream, organisation: OrganisationId) -> Option<&Pool> {
        let of = |owner| move |pool: &&Pool| pool.organisation == owner && pool.streams.contains(&stream);
        self.pools.iter().find(of(Some(organisation))).or_else(|| self.pools.iter().find(of(None)))
    }

    /// What the mail of an organisation's stream leaves by; that of none ([`OrganisationId::HOUSE`]) by what is general.
    pub fn members(&self, stream: Stream, organisation: OrganisationId) -> Vec<Member> {
        let pool = self.pool(stream, organisation);
        pool.map_or_else(|| vec![Member { source: SourceId::DEFAULT, weight: 1 }], |pool| pool.members.clone())
    }

    /// Leaves in pools, and plans for, only these sources and [`DEFAULT`], which each node has for itself.
    pub fn restrict(&mut self, held: &[SourceId]) {
        let is_ours = |source: SourceId| source == SourceId::DEFAULT || held.contains(&source);
        self.pools.iter_mut().for_each(|pool| pool.members.retain(|member| is_ours(member.source)));
        self.caps.retain(|cap| is_ours(cap.source));
        self.judged.retain(|judged| is_ours(judged.source));
    }

    /// All sources that mail leaves by: those of pools, and [`DEFAULT`].
    pub fn in_use(&self) -> BTreeSet<SourceId> {
        let members = self.pools.iter().flat_map(|pool| &pool.members).map(|member| member.source);
        members.chain([SourceId::DEFAULT]).collect()
    }

    /// The source of a name.
    pub fn named(&self, name: &str) -> Option<Source> {
        if name == DEFAULT {
            return Some(Source::default_one());
        }
        self.sources.iter().find(|s| *s.name == *name).cloned()
    }
}

/// Everything, as it stands, and stands until the end of the transaction.
fn locked(tx: &mut Tx<'_>) -> Result<Setup> {
    tx.execute(&schema::LOCK, params![])?;
    setup(tx)
}

/// Everything, as it stands.
///
/// # Errors
/// The store's.
pub fn setup(tx: &mut Tx<'_>) -> Result<Setup> {
    Ok(Setup {
        sources: tx.list(&schema::SOURCES, params![], read)?,
        pools: pool::all(tx)?,
        rules: rule::all(tx)?,
        stops: stop::all(tx)?,
        ended: stop::ended(tx)?,
        quiet: quiet::all(tx)?,
        verp: verp(tx)?,
        caps: warmup::all(tx)?,
        judged: judged::all(tx)?,
    })
}

fn verp(tx: &mut Tx<'_>) -> Result<Vec<Stream>> {
    tx.list(&schema::VERP, params![], |r| Stream::read(r.int(0)?).ok_or_else(|| corrupt("stream", "an unknown one")))
}

/// Whether each recipient of a stream has a return address of its own (`trust::Verp`), and so a transaction of its own.
///
/// # Errors
/// A refusal in words: people's mail shares its transactions. The store's.
pub fn set_verp(tx: &mut Tx<'_>, stream: Stream, on: bool) -> Result<()> {
    if stream == Stream::Mail {
        return Err(refused("people's mail keeps its sender: return addresses of their own are for bulk mail".into()));
    }
    locked(tx)?;
    tx.execute(if on { &schema::SET_VERP } else { &schema::UNSET_VERP }, params![stream.stored()])?;
    changed(tx)
}

fn read(r: &Row<'_>) -> Result<Source> {
    let v4 = r.opt_bytes(2)?.map(|b| <[u8; 4]>::try_from(b).map_err(|_| corrupt("IPv4 address", b.escape_ascii())));
    let v6 = r.opt_bytes(3)?.map(|b| <[u8; 16]>::try_from(b).map_err(|_| corrupt("IPv6 address", b.escape_ascii())));
    Ok(Source {
        id: SourceId(r.int(0)?),
        name: r.text(1)?.into(),
        v4: v4.transpose()?.map(Ipv4Addr::from),
        v6: v6.transpose()?.map(Ipv6Addr::from),
        ehlo: r.opt_text(4)?.map(Into::into),
    })
}

/// A new source. Whether this machine has the addresses, the caller knows.
///
/// # Errors
/// A refusal in words: the name or one of the addresses is another's, or the name is none. The store's.
pub fn add(tx: &mut Tx<'_>, name: &str, new: &NewSource) -> Result<SourceId> {
    is_name("source", name)?;
    let setup = locked(tx)?;
    if setup.named(name).is_some() {
        return Err(refused(format!("there is a source {name} already")));
    }
    if setup.sources.len() >= MOST {
        return Err(refused(format!("there are {MOST} sources already, which is as many as there may be")));
    }
    free(&setup, SourceId::DEFAULT, new)?;
    let id = tx.one(&schema::NEXT_SOURCE, params![], |r| r.int(0))?;
    let (v4, v6, ehlo) = stored(new)?;
    let (v4, v6) = (v4.as_ref().map(|b| &b[..]), v6.as_ref().map(|b| &b[..]));
    tx.execute(&schema::ADD_SOURCE, params![id, name, v4, v6, ehlo.as_deref()])?;
    changed(tx)?;
    Ok(SourceId(id))
}

/// Gives a source other addresses, or another name for EHLO.
///
/// # Errors
/// As [`add`].
pub fn change(tx: &mut Tx<'_>, name: &str, new: &NewSource) -> Result<()> {
    let setup = locked(tx)?;
    let source = own(&setup, name)?;
    free(&setup, source, new)?;
    let (v4, v6, ehlo) = stored(new)?;
    let (v4, v6) = (v4.as_ref().map(|b| &b[..]), v6.as_ref().map(|b| &b[..]));
    tx.execute(&schema::CHANGE_SOURCE, params![source.stored(), v4, v6, ehlo.as_deref()])?;
    changed(tx)
}

/// Takes a source away that is in no pool.
///
/// # Errors
/// A refusal in words; the store's.
pub fn remove(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    let setup = locked(tx)?;
    let source = own(&setup, name)?;
    if let Some(pool) = setup.pools.iter().find(|pool| pool.members.iter().any(|m| m.source == source)) {
        return Err(refused(format!("{name} is in the pool {}: give that other sources first", pool.name)));
    }
    tx.execute(&schema::REMOVE_SOURCE, params![source.stored()])?;
    tx.execute(&schema::FORGET_RULES, params![source.stored()])?;
    stop::forget(tx, source)?;
    end_plan(tx, source)?;
    changed(tx)
}

/// Forgets what is set up for an organisation that is gone.
///
/// # Errors
/// A refusal in words: a pool is its own. The store's.
pub fn forget_organisation(tx: &mut Tx<'_>, organisation: OrganisationId) -> Result<()> {
    if let Some(pool) = locked(tx)?.pools.iter().find(|pool| pool.organisation == Some(organisation)) {
        return Err(refused(format!("the pool {} is its own: give it to all, or remove it first", pool.name)));
    }
    tx.execute(&schema::FORGET_QUIET, params![organisation])?;
    tx.execute(&schema::FORGET_BOUNDS, params![organisation])?;
    stop::forget_organisation(tx, organisation)?;
    changed(tx)
}

/// A source that can be changed.
fn own(setup: &Setup, name: &str) -> Result<SourceId> {
    if name == DEFAULT {
        let text = "the source default is this server itself: its name is `hostname` in the configuration, its address the \
                    system's choice";
        return Err(refused(text.into()));
    }
    setup.named(name).map(|s| s.id).ok_or_else(|| unknown(setup, name))
}

fn unknown(setup: &Setup, name: &str) -> store::Error {
    let names: Vec<&str> = setup.sources.iter().map(|s| &*s.name).chain([DEFAULT]).collect();
    refused(format!("there is no source {name}; there are: {}", names.join(", ")))
}

/// Two sources with one address would each send as much from it as it may.
fn free(setup: &Setup, of: SourceId, new: &NewSource) -> Result<()> {
    for other in setup.sources.iter().filter(|s| s.id != of) {
        let v4 = new.v4.filter(|ip| other.v4 == Some(*ip)).map(IpAddr::V4);
        let v6 = new.v6.filter(|ip| other.v6 == Some(*ip)).map(IpAddr::V6);
        if let Some(ip) = v4.or(v6) {
            return Err(refused(format!("{ip} is the address of the source {} already", other.name)));
        }
    }
    Ok(())
}

type Stored = (Option<[u8; 4]>, Option<[u8; 16]>, Option<String>);

fn stored(new: &NewSource) -> Result<Stored> {
    let ehlo = new.ehlo.as_deref().map(|name| {
        // It is said to every host: a name with a dot, or an address in brackets (RFC 5321 §4.1.1.1).
        let domain = base::domain(name).ok().filter(|d| d.is_ascii() && (d.contains('.') || d.starts_with('[')));
        domain.ok_or_else(|| {
            refused(format!("{name:?} is no host name to introduce ourselves by (like mx2.example.org)"))
        })
    });
    Ok((new.v4.map(|ip| ip.octets()), new.v6.map(|ip| ip.octets()), ehlo.transpose()?))
}

/// Whether something may be called so.
fn is_name(what: &str, name: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    if name.is_empty() || name.len() > NAME || !name.bytes().all(good) {
        let text = format!("{name:?} is no name for a {what}: up to {NAME} of a-z, 0-9, - . and _");
        return Err(refused(text));
    }
    Ok(())
}

fn changed(tx: &mut Tx<'_>) -> Result<()> {
    tell(tx, &Told::Changed)
}

/// A refusal in words for the administrator.
fn refused(text: String) -> store::Error {
    base::Error::new(base::Reply::new(501, 5, 4, text)).into()
}
