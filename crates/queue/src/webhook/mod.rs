//! Webhooks: who is told of the [`crate::log`], and how far that has come.
//!
//! A webhook stands at a position of the log: what is at it or before was taken, was given up, or waits for its next try in a row
//! of its own. So what is on its way costs no row, and a crash repeats what was told since the last [`progress`], and loses none.
//! One life of one node at a time sends to a webhook: who [`hold`]s it.

mod schema;

use std::collections::BTreeMap;

use base::{OrganisationId, Stream, Timestamp};
use store::{Result, Row, Tx, params};

use crate::entry::corrupt;
use crate::log::{self, Filter, What};

pub use schema::ALL;

/// Octets of [`Record::why`].
const MOST_WHY: usize = 300;

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its number.
    pub id: i64,
    /// How it was set up.
    pub setup: Setup,
    /// How it has gone.
    pub record: Record,
}

/// How a webhook was set up.
#[derive(Clone, PartialEq, Eq)]
pub struct Setup {
    /// Where it is told.
    pub url: String,
    /// Of what.
    pub filter: Filter,
    /// The key of its signatures.
    pub secret: Vec<u8>,
    /// The key before, and until when it signs too.
    pub former: Option<(Vec<u8>, Timestamp)>,
    /// Whether it is told.
    pub state: State,
    /// When it was made.
    pub made: Timestamp,
    /// How often it was set to another place.
    pub generation: i64,
}

/// Keys are nobody's to read.
impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Setup { url, filter, state, generation, .. } = self;
        write!(f, "Setup {{ {url}, {filter:?}, {state:?}, {generation} }}")
    }
}

/// How it has gone with a webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// All of the log up to there is taken, given up, or waits.
    pub position: i64,
    /// Events that were taken.
    pub taken: u64,
    /// Events that were given up: tried for days, while others were taken.
    pub given_up: u64,
    /// Positions of the log that were kept no longer than it took to come to them, and waiting events likewise.
    pub lost: u64,
    /// When it last took one.
    pub last_taken: Option<Timestamp>,
    /// Since when it has taken none of those it was sent.
    pub failing: Option<Timestamp>,
    /// Why it took none, in words; empty when it did.
    pub why: String,
}

/// Whether a webhook is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is.
    On,
    /// The administrator wants it to wait.
    Paused,
    /// It took nothing for days, or said that it is gone.
    Disabled,
}

const STATES: [State; 3] = [State::On, State::Paused, State::Disabled];

impl State {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            State::On => "on",
            State::Paused => "paused",
            State::Disabled => "disabled",
        }
    }
}

/// An event that waits for its next try, or for the one before it of the same recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried again.
    pub due: Timestamp,
    /// When it was tried first.
    pub since: Timestamp,
}

/// Events that wait, by their place in the log.
pub type AllWaiting = BTreeMap<(i64, u32), Waiting>;

fn read(r: &Row<'_>) -> Result<Webhook> {
    let text = |i: usize| Ok::<_, store::Error>(String::from_utf8_lossy(r.bytes(i)?).into_owned());
    let state = r.int(8)?;
    let known = usize::try_from(state).ok().and_then(|n| STATES.get(n)).copied();
    let former = r.opt_bytes(6)?.map(<[u8]>::to_vec);
    let setup = Setup {
        url: r.text(1)?.to_owned(),
        filter: Filter {
            organisation: r.opt_int(2)?.map(OrganisationId),
            stream: r.opt_int(3)?.map(|n| Stream::read(n).ok_or_else(|| corrupt("stream", n))).transpose()?,
            whats: r.text(4)?.split(' ').flat_map(What::named).collect(),
        },
        secret: r.bytes(5)?.to_vec(),
        former: former.zip(r.opt_int(7)?.map(Timestamp)),
        state: known.ok_or_else(|| corrupt("state of a webhook", state))?,
        made: Timestamp(r.int(9)?),
        generation: r.int(10)?,
    };
    let record = Record {
        position: r.int(11)?,
        taken: r.int(12)? as u64,
        given_up: r.int(13)? as u64,
        lost: r.int(14)? as u64,
        last_taken: r.opt_int(15)?.map(Timestamp),
        failing: r.opt_int(16)?.map(Timestamp),
        why: text(17)?,
    };
    Ok(Webhook { id: r.int(0)?, setup, record })
}

/// All of them.
///
/// # Errors
/// The store's.
pub fn all(tx: &mut Tx<'_>) -> Result<Vec<Webhook>> {
    tx.list(&schema::WEBHOOKS, params![], read)
}

/// Makes one, which is told of what happens from now on; gives its number.
///
/// # Errors
/// The store's.
pub fn add(tx: &mut Tx<'_>, url: &str, filter: &Filter, secret: &[u8], now: Timestamp) -> Result<i64> {
    let (id, position) = (tx.one(&schema::NEXT_WEBHOOK, params![], |r| r.int(0))?, log::last(tx)?);
    let types: Vec<&str> = filter.whats.iter().map(|what| what.name()).collect();
    let (organisation, stream) = (filter.organisation, filter.stream.map(Stream::stored));
    tx.execute(
        &schema::ADD,
        params![id, url, organisation, stream, types.join(" ").as_str(), secret, now, position, &b""[..]],
    )?;
    Ok(id)
}

/// Takes one away; gives whether it was there.
///
/// # Errors
/// The store's.
pub fn remove(tx: &mut Tx<'_>, id: i64) -> Result<bool> {
    tx.execute(&schema::FORGET_WAITING, params![id, -1])?;
    Ok(tx.execute(&schema::REMOVE, params![id])? == 1)
}

/// Has it wait; it says why when that is not the administrator's wish.
///
/// # Errors
/// The store's.
pub fn stop(tx: &mut Tx<'_>, id: i64, state: State, why: &str) -> Result<()> {
    let why = &why[..why.floor_char_boundary(MOST_WHY)];
    tx.execute(&schema::SET_STATE, params![id, state as i64, why.as_bytes()])?;
    Ok(())
}

/// Lets it go on where it stands; what waits is tried at once.
///
/// # Errors
/// The store's.
pub fn resume(tx: &mut Tx<'_>, id: i64, now: Timestamp) -> Result<()> {
    tx.execute(&schema::BEGIN_ANEW, params![id])?;
    tx.execute(&schema::HURRY, params![id, now])?;
    Ok(())
}

/// Gives it a new key; the one before signs too, until then.
///
/// # Errors
/// The store's.
pub fn rotate(tx: &mut Tx<'_>, id: i64, secret: &[u8], until: Timestamp) -> Result<()> {
    tx.execute(&schema::ROTATE, params![id, secret, until])?;
    Ok(())
}

/// Tells it everything again from a position on, with the ids that it had.
///
/// # Errors
/// The store's.
pub fn replay(tx: &mut Tx<'_>, id: i64, from: i64) -> Result<()> {
    tx.execute(&schema::REPLAY, params![id, from - 1])?;
    tx.execute(&schema::FORGET_WAITING, params![id, from - 1])?;
    Ok(())
}

/// Whether an epoch may send to it: nobody else does who is alive.
///
/// # Errors
/// The store's.
pub fn hold(tx: &mut Tx<'_>, id: i64, epoch: i64) -> Result<bool> {
    Ok(tx.execute(&schema::HOLD, params![id, epoch])? == 1)
}

/// Whether somebody else holds it, who is alive.
///
/// # Errors
/// The store's.
pub fn is_held(tx: &mut Tx<'_>, id: i64, epoch: i64) -> Result<bool> {
    Ok(tx.row(&schema::IS_HELD, params![id, epoch], |_| Ok(()))?.is_some())
}

/// It sends to it no longer.
///
/// # Errors
/// The store's.
pub fn let_go(tx: &mut Tx<'_>, id: i64, epoch: i64) -> Result<()> {
    tx.execute(&schema::LET_GO, params![id, epoch])?;
    Ok(())
}

/// What waits.
///
/// # Errors
/// The store's.
pub fn waiting(tx: &mut Tx<'_>, id: i64) -> Result<AllWaiting> {
    let mut all = AllWaiting::new();
    tx.rows(&schema::WAITING, params![id], |r| {
        let waiting = Waiting { tries: r.int(2)? as u32, due: Timestamp(r.int(3)?), since: Timestamp(r.int(4)?) };
        all.insert((r.int(0)?, r.int(1)? as u32), waiting);
        Ok(())
    })?;
    Ok(all)
}

/// Writes how far it has come: `record`, whose numbers are those that are new, and what waits that did not, or otherwise, and
/// what does no longer. Gives false, and changes nothing, where the webhook is another's or was set elsewhere.
///
/// # Errors
/// The store's.
pub fn progress(
    tx: &mut Tx<'_>,
    (id, epoch, generation): (i64, i64, i64),
    record: &Record,
    waits: &AllWaiting,
    waits_no_more: &[(i64, u32)],
) -> Result<bool> {
    let Record { position, taken, given_up, lost, last_taken, failing, why } = record;
    let [taken, given_up, lost] = [taken, given_up, lost].map(|n| *n as i64);
    let why = &why[..why.floor_char_boundary(MOST_WHY)];
    let row = params![id, epoch, generation, *position, taken, given_up, lost, *last_taken, *failing, why.as_bytes()];
    if tx.execute(&schema::PROGRESS, row)? != 1 {
        return Ok(false);
    }
    for (position, place) in waits_no_more {
        tx.execute(&schema::WAIT_NO_MORE, params![id, *position, *place])?;
    }
    for ((position, place), w) in waits {
        tx.execute(&schema::WAIT, params![id, *position, *place, w.tries, w.due, w.since])?;
    }
    Ok(true)
}
