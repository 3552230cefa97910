//! What the administrator holds or drains: a source, a site, a stream, an organisation's mail, or the mail to a domain. It stays so over a restart,
//! until it is resumed. A mail does not expire meanwhile, and then has as long as that lasted to find a place in line.

use std::sync::Arc;

use base::{OrganisationId, Stream, Timestamp};
use store::{Error, Result, Tx, params};

use super::{SourceId, changed, locked, refused, schema};
use crate::entry::corrupt;

/// Stops, at most.
const MOST: usize = 1000;

/// What is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// What leaves by a source. Others of its pool take over.
    Source(SourceId),
    /// What goes to a site, named as for [`super::Rule`].
    Site(Arc<str>),
    /// A stream.
    Stream(Stream),
    /// What goes to a domain, in lower case.
    Domain(Arc<str>),
    /// An organisation's mail: all of it, or that of a stream.
    Organisation(OrganisationId, Option<Stream>),
}

/// A stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// What is stopped.
    pub what: What,
    /// What stands in line already is still sent; else nothing more is begun.
    pub drains: bool,
    /// Since when.
    pub since: Timestamp,
}

/// A stop that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What was stopped.
    pub what: What,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl Ended {
    /// Whether it may have kept back the mail of a stream to a domain. By which source that would have left, and to which
    /// site, is not known.
    pub fn kept_back(&self, stream: Stream, organisation: OrganisationId, domain: &str) -> bool {
        self.what.is_of(stream, organisation, domain).unwrap_or(true)
    }
}

impl What {
    /// Whether it is the mail of an organisation's stream to a domain, in lower case; none where that is a matter of what it leaves by, or
    /// of its site.
    pub fn is_of(&self, stream: Stream, organisation: OrganisationId, domain: &str) -> Option<bool> {
        match self {
            What::Stream(stopped) => Some(*stopped == stream),
            What::Domain(stopped) => Some(**stopped == *domain),
            What::Organisation(stopped, of) => Some(*stopped == organisation && of.is_none_or(|of| of == stream)),
            What::Source(_) | What::Site(_) => None,
        }
    }

    fn stored(&self) -> (i64, String) {
        match self {
            What::Source(id) => (0, id.stored().to_string()),
            What::Site(name) => (1, name.to_string()),
            What::Stream(stream) => (2, stream.word().to_owned()),
            What::Domain(name) => (3, name.to_string()),
            What::Organisation(id, None) => (4, id.0.to_string()),
            What::Organisation(id, Some(stream)) => (4, format!("{} {stream}", id.0)),
        }
    }

    fn read(kind: i64, name: &str) -> Result<Self> {
        let bad = |_| -> Error { corrupt("stop", name) };
        Ok(match kind {
            0 => What::Source(SourceId(name.parse().map_err(|_| corrupt("stop", name))?)),
            1 => What::Site(name.into()),
            2 => What::Stream(name.parse().map_err(bad)?),
            3 => What::Domain(name.into()),
            4 => {
                let (id, stream) = name.split_once(' ').map_or((name, None), |(id, stream)| (id, Some(stream)));
                let id = OrganisationId(id.parse().map_err(|_| corrupt("stop", name))?);
                What::Organisation(id, stream.map(|stream| stream.parse().map_err(bad)).transpose()?)
            }
            _ => return Err(corrupt("stop", kind)),
        })
    }
}

pub(super) fn all(tx: &mut Tx<'_>) -> Result<Vec<Stop>> {
    tx.list(&schema::STOPS, params![], |r| {
        let what = What::read(r.int(0)?, r.text(1)?)?;
        Ok(Stop { what, drains: r.int(2)? != 0, since: Timestamp(r.int(3)?) })
    })
}

pub(super) fn ended(tx: &mut Tx<'_>) -> Result<Vec<Ended>> {
    tx.list(&schema::STOPPED, params![], |r| {
        let what = What::read(r.int(0)?, r.text(1)?)?;
        Ok(Ended { what, since: Timestamp(r.int(2)?), until: Timestamp(r.int(3)?) })
    })
}

/// Stops something, or changes how it is stopped.
///
/// # Errors
/// A refusal in words: there are too many. The store's.
pub fn stop(tx: &mut Tx<'_>, what: &What, drains: bool, now: Timestamp) -> Result<()> {
    if locked(tx)?.stops.len() >= MOST {
        return Err(refused(format!("{MOST} things are stopped already, which is as many as there may be")));
    }
    let (kind, name) = what.stored();
    tx.execute(&schema::STOP, params![kind, name.as_str(), drains, now])?;
    changed(tx)
}

/// The source is gone.
pub(super) fn forget(tx: &mut Tx<'_>, source: SourceId) -> Result<()> {
    forget_one(tx, &What::Source(source))
}

/// So is the organisation.
pub(super) fn forget_organisation(tx: &mut Tx<'_>, organisation: OrganisationId) -> Result<()> {
    let streams = Stream::ALL.into_iter().map(Some).chain([None]);
    streams.map(|stream| What::Organisation(organisation, stream)).try_for_each(|what| forget_one(tx, &what))
}

fn forget_one(tx: &mut Tx<'_>, what: &What) -> Result<()> {
    let (kind, name) = what.stored();
    tx.row(&schema::RESUME, params![kind, name.as_str()], |_| Ok(()))?;
    Ok(())
}

/// Lets it go on; false when it was not stopped.
///
/// # Errors
/// The store's.
pub fn resume(tx: &mut Tx<'_>, what: &What, now: Timestamp) -> Result<bool> {
    let ended = locked(tx)?.ended.len();
    let (kind, name) = what.stored();
    let Some(since) = tx.row(&schema::RESUME, params![kind, name.as_str()], |r| r.int(0))? else { return Ok(false) };
    let forgotten = tx.execute(&schema::FORGET_STOPPED, params![now])? as usize;
    if ended.saturating_sub(forgotten) < MOST {
        tx.execute(&schema::NOTE_STOPPED, params![kind, name.as_str(), since, now])?;
    }
    changed(tx)?;
    Ok(true)
}
