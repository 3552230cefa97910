//! What sources have used up of what sites bear of them, and how long sites want nothing of them. It is here so that neither a
//! restart nor another node that takes a source over begins anew. What a row is about, who sends knows; here it is text.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::{OrganisationId, Timestamp};
use store::{Result, Row, Tx, params};

use super::{SourceId, schema};
use crate::Queue;
use crate::node::{Told, tell};

/// Rows that are read at most: those that last longest.
const MOST: u32 = 50_000;
/// As it is kept when a row is of no organisation.
const NONE: i64 = -1;

/// What is used up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UsedOf {
    /// By this source.
    pub source: SourceId,
    /// At this site: a digest of what tells it apart.
    pub site: i64,
    /// Of what this organisation may send there; none is of what the site bears, whoever sends.
    pub organisation: Option<OrganisationId>,
    /// Like `mails 3600/h`.
    pub what: Arc<str>,
}

/// How far it is used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// What it is.
    pub of: UsedOf,
    /// What the site is called, for those who look; empty where nobody does.
    pub name: Arc<str>,
    /// Nothing of it is used up from then on.
    pub until: Timestamp,
}

impl Used {
    fn read(row: &Row<'_>) -> Result<Self> {
        let (source, site, organisation) = (SourceId::read(row.int(0)?), row.int(1)?, row.int(2)?);
        let organisation = (organisation != NONE).then_some(OrganisationId(organisation));
        let of = UsedOf { source, site, organisation, what: row.text(3)?.into() };
        Ok(Used { of, until: Timestamp(row.int(4)?), name: row.text(5)?.into() })
    }
}

/// Whether a host is the one of that name, or below it; both in lower case.
pub fn is_within(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// [`SourceId::DEFAULT`] is each node's own, and so is what it used.
fn node(queue: &Queue, source: SourceId) -> i64 {
    if source == SourceId::DEFAULT { queue.node() } else { 0 }
}

/// What these sources have used up by now.
///
/// # Errors
/// The store's.
pub fn used(tx: &mut Tx<'_>, queue: &Queue, sources: &BTreeSet<SourceId>, now: Timestamp) -> Result<Vec<Used>> {
    let mut all = tx.list(&schema::USED, params![queue.node(), now, MOST], Used::read)?;
    all.retain(|used| sources.contains(&used.of.source));
    Ok(all)
}

/// Notes what is used up, in the place of what was noted of the same. Nothing where another node took over from this one: the sources
/// are that one's.
///
/// # Errors
/// The store's.
pub fn note_used(tx: &mut Tx<'_>, queue: &Queue, used: &[Used]) -> Result<()> {
    if !queue.stands(tx)? {
        return Ok(());
    }
    let row = |used: &Used| {
        let of = &used.of;
        let organisation = of.organisation.map_or(NONE, OrganisationId::as_i64);
        [of.source.stored(), node(queue, of.source), of.site, organisation, used.until.0]
    };
    tx.each(
        &schema::NOTE_USED,
        used.iter().map(|used| (row(used), used)),
        |([source, node, site, organisation, until], used)| {
            let (what, name) = ((&*used.of.what).into(), (&*used.name).into());
            [(*source).into(), (*node).into(), (*site).into(), (*organisation).into(), what, (*until).into(), name]
        },
        |_, _| {},
    )
}

/// The administrator ends pauses that a site asked for, named in lower case, of a source or of all: who has any there ends them, and
/// writes that down ([`crate::Event::PausesEnded`]). What is noted of them is forgotten here, also of a node that is down and hears
/// nothing; gives that, those that last longest first, and of several nodes each.
///
/// # Errors
/// The store's.
pub fn end_pauses(tx: &mut Tx<'_>, site: &str, source: Option<SourceId>, now: Timestamp) -> Result<Vec<Used>> {
    let mut noted = tx.list(&schema::PAUSES, params![now, MOST], Used::read)?;
    noted.retain(|used| is_within(&used.name, site) && source.is_none_or(|source| source == used.of.source));
    for UsedOf { source, site, what, .. } in noted.iter().map(|used| &used.of) {
        tx.send(&schema::END_PAUSE, params![source.stored(), *site, &**what])?;
    }
    tell(tx, &Told::PausesEnded(site.into(), source, noted.as_slice().into()))?;
    Ok(noted)
}

/// Forgets what is over. Reads all of it.
///
/// # Errors
/// The store's.
pub fn forget_used(tx: &mut Tx<'_>, queue: &Queue, now: Timestamp) -> Result<()> {
    if queue.stands(tx)? {
        tx.execute(&schema::FORGET_USED, params![now])?;
    }
    Ok(())
}
