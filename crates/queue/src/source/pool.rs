//! Pools: sources with weights, and the streams they serve.

use std::sync::Arc;

use base::{OrganisationId, Stream};
use store::{Result, Tx, params};

use super::{DEFAULT, MOST, SourceId, changed, is_name, locked, refused, schema, setup, unknown};
use crate::entry::corrupt;

/// A weight, at most.
const WEIGHT: u32 = 1000;

/// Sources that share the mail of some streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What the administrator calls it.
    pub name: Arc<str>,
    /// At least one.
    pub members: Vec<Member>,
    /// What it serves; a stream has one pool at most, and one more for each organisation.
    pub streams: Vec<Stream>,
    /// Only the mail of this organisation leaves by it, and by no other pool for these streams.
    pub organisation: Option<OrganisationId>,
}

/// A source in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The source.
    pub source: SourceId,
    /// Its share of the mail, by the sum of all weights; at least 1.
    pub weight: u32,
}

pub(super) fn all(tx: &mut Tx<'_>) -> Result<Vec<Pool>> {
    let mut pools = tx.list(&schema::POOLS, params![], |r| {
        let organisation = r.opt_int(1)?.map(OrganisationId);
        Ok(Pool { name: r.text(0)?.into(), members: Vec::new(), streams: Vec::new(), organisation })
    })?;
    let named = |pools: &mut [Pool], name: &str, change: &mut dyn FnMut(&mut Pool)| {
        pools.iter_mut().filter(|p| *p.name == *name).for_each(change);
    };
    tx.rows(&schema::MEMBERS, params![], |r| {
        let member = Member { source: SourceId::read(r.int(1)?), weight: r.int(2)?.clamp(1, i64::from(WEIGHT)) as u32 };
        named(&mut pools, r.text(0)?, &mut |pool| pool.members.push(member));
        Ok(())
    })?;
    tx.rows(&schema::SERVED, params![], |r| {
        let stream = r.int(0)?;
        let stream = Stream::read(stream).ok_or_else(|| corrupt("stream", stream))?;
        named(&mut pools, r.text(1)?, &mut |pool| pool.streams.push(stream));
        Ok(())
    })?;
    Ok(pools)
}

/// A new pool of these sources, each with its weight, for these streams.
///
/// # Errors
/// A refusal in words: the name is taken or none, it has no sources or unknown ones, a stream has a pool, or one of its sources
/// sends the mail of an organisation alone. The store's.
pub fn add_pool(tx: &mut Tx<'_>, name: &str, members: &[(String, u32)], streams: &[Stream]) -> Result<()> {
    is_name("pool", name)?;
    let pools = locked(tx)?.pools;
    if pools.iter().any(|p| *p.name == *name) {
        return Err(refused(format!("there is a pool {name} already")));
    }
    if pools.len() >= MOST {
        return Err(refused(format!("there are {MOST} pools already, which is as many as there may be")));
    }
    tx.execute(&schema::ADD_POOL, params![name])?;
    set_members(tx, name, members)?;
    set_streams(tx, name, streams)?;
    shares_none(tx, name)?;
    changed(tx)
}

/// Gives a pool other sources, or other streams.
///
/// # Errors
/// As [`add_pool`].
pub fn change_pool(
    tx: &mut Tx<'_>,
    name: &str,
    members: Option<&[(String, u32)]>,
    streams: Option<&[Stream]>,
) -> Result<()> {
    known(tx, name)?;
    if let Some(members) = members {
        set_members(tx, name, members)?;
    }
    if let Some(streams) = streams {
        set_streams(tx, name, streams)?;
    }
    shares_none(tx, name)?;
    changed(tx)
}

/// Gives a pool to an organisation, or to all again.
///
/// # Errors
/// A refusal in words: it serves a stream that has such a pool, or one of its sources sends others' mail too. The store's.
pub fn give_pool(tx: &mut Tx<'_>, name: &str, to: Option<OrganisationId>) -> Result<()> {
    let pool = known(tx, name)?;
    tx.execute(&schema::GIVE_POOL, params![name, to])?;
    set_streams(tx, name, &pool.streams)?;
    shares_none(tx, name)?;
    changed(tx)
}

/// Takes a pool away: what it served leaves by the general pool again, or by the default source.
///
/// # Errors
/// A refusal in words; the store's.
pub fn remove_pool(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    known(tx, name)?;
    tx.execute(&schema::REMOVE_MEMBERS, params![name])?;
    tx.execute(&schema::SERVE_NO_MORE, params![name])?;
    tx.execute(&schema::REMOVE_POOL, params![name])?;
    changed(tx)
}

fn known(tx: &mut Tx<'_>, name: &str) -> Result<Pool> {
    let pools = locked(tx)?.pools;
    if let Some(pool) = pools.iter().find(|p| *p.name == *name) {
        return Ok(pool.clone());
    }
    let names: Vec<&str> = pools.iter().map(|p| &*p.name).collect();
    Err(refused(match names.is_empty() {
        true => format!("there is no pool {name}, nor any other"),
        false => format!("there is no pool {name}; there are: {}", names.join(", ")),
    }))
}

fn set_members(tx: &mut Tx<'_>, name: &str, members: &[(String, u32)]) -> Result<()> {
    if members.is_empty() {
        return Err(refused(format!("the pool {name} needs a source to send by")));
    }
    let setup = setup(tx)?;
    tx.execute(&schema::REMOVE_MEMBERS, params![name])?;
    for (place, (source, weight)) in members.iter().enumerate() {
        let id = setup.named(source).ok_or_else(|| unknown(&setup, source))?.id;
        if members[..place].iter().any(|(other, _)| other == source) {
            return Err(refused(format!("{source} stands there twice: a weight says how much it sends")));
        }
        if !(1..=WEIGHT).contains(weight) {
            return Err(refused(format!("{weight} is no weight: 1 to {WEIGHT}")));
        }
        tx.execute(&schema::ADD_MEMBER, params![name, id.stored(), *weight])?;
    }
    Ok(())
}

/// Whoever has an address for himself shares it with no other: neither with an organisation nor with all. A pool that serves
/// nothing takes nothing.
fn shares_none(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    let setup = setup(tx)?;
    let Some(pool) = setup.pools.iter().find(|pool| *pool.name == *name && !pool.streams.is_empty()) else {
        return Ok(());
    };
    let of_others = setup.pools.iter().filter(|o| o.organisation != pool.organisation && !o.streams.is_empty());
    for other in of_others {
        let shared = |member: &&Member| other.members.iter().any(|m| m.source == member.source);
        if let Some(shared) = pool.members.iter().find(shared) {
            let source = setup.sources.iter().find(|source| source.id == shared.source);
            return Err(refused(format!(
                "the source {} sends for the pool {} already: the sources of an organisation's pool send its mail alone",
                source.map_or(DEFAULT, |source| &source.name),
                other.name
            )));
        }
    }
    Ok(())
}

fn set_streams(tx: &mut Tx<'_>, name: &str, streams: &[Stream]) -> Result<()> {
    tx.execute(&schema::SERVE_NO_MORE, params![name])?;
    let pools = all(tx)?;
    let of = pools.iter().find(|pool| *pool.name == *name).and_then(|pool| pool.organisation);
    for (place, stream) in streams.iter().enumerate() {
        if let Some(other) = pools.iter().find(|pool| pool.organisation == of && pool.streams.contains(stream)) {
            return Err(refused(format!(
                "the stream {stream} is served by the pool {}: take it from there first",
                other.name
            )));
        }
        if !streams[..place].contains(stream) {
            tx.execute(&schema::SERVE, params![stream.stored(), name])?;
        }
    }
    Ok(())
}
