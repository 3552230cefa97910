//! Looking for what waits: the queue, page after page, the oldest first.

use base::{OrganisationId, Stream};
use store::{Result, Row, Tx, params};

use crate::receipt::Found;
use crate::{Group, QueueId, State, schema};

/// Deliveries that one page looks at: there is no index for what people ask now and then, which each delivery would pay for.
const LOOKED_AT: i64 = 20_000;

/// What is looked for: all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// The recipient.
    pub to: Option<Party>,
    /// The sender of the envelope.
    pub from: Option<Party>,
    /// The stream.
    pub stream: Option<Stream>,
    /// Whose mail it is.
    pub organisation: Option<OrganisationId>,
    /// The state.
    pub state: Option<State>,
}

/// An address, or all of a domain; in any case of letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// This one.
    Address(String),
    /// Whatever stands before the `@`.
    Domain(String),
}

impl Party {
    fn is(&self, address: &[u8]) -> bool {
        match self {
            Party::Address(all) => address.eq_ignore_ascii_case(all.as_bytes()),
            Party::Domain(domain) => {
                address.rsplit(|b| *b == b'@').next().is_some_and(|d| d.eq_ignore_ascii_case(domain.as_bytes()))
            }
        }
    }
}

/// A delivery: its message, and its number there.
pub type Place = (QueueId, u32);

/// At most `n` deliveries behind `after`, by message and number: the oldest first. What it finds may be less and not the last: it looks at
/// 20,000, so that no read is long however many wait. Rows that are damaged are found, too.
///
/// # Errors
/// The store's.
pub fn search(tx: &mut Tx<'_>, sought: &Sought, after: Option<Place>, n: usize) -> Result<Found<Place, Place>> {
    among(tx, LOOKED_AT, sought, after, n)
}

/// The same of the next few.
fn among(tx: &mut Tx<'_>, few: i64, sought: &Sought, after: Option<Place>, n: usize) -> Result<Found<Place, Place>> {
    let place = |r: &Row<'_>| Ok((QueueId::stored(r.int(0)?), r.int(1)? as u32));
    let (message, number) = after.map_or((i64::MIN, 0), |(message, number)| (message.raw(), number));
    let mut next = tx.row(&schema::DELIVERY_BEHIND, params![message, number, few - 1], place)?;
    let (last, most) = next.map_or((i64::MAX, 0), |(message, number)| (message.raw(), number));
    let domain = sought.to.as_ref().map(|to| match to {
        Party::Domain(domain) => Group::digest(&domain.to_lowercase()),
        Party::Address(all) => Group::digest(&all.rsplit('@').next().unwrap_or_default().to_lowercase()),
    });
    let (stream, state) = (sought.stream.map(Stream::stored), sought.state.map(State::stored));
    let mut all = Vec::new();
    tx.rows(&schema::SOUGHT, params![message, number, last, most, domain, stream, sought.organisation, state], |r| {
        let is = |party: &Option<Party>, address: &[u8]| party.as_ref().is_none_or(|party| party.is(address));
        if all.len() < n && is(&sought.to, r.bytes(2)?) && is(&sought.from, r.opt_bytes(3)?.unwrap_or_default()) {
            all.push(place(r)?);
        }
        Ok(())
    })?;
    if all.len() == n {
        next = all.last().copied();
    }
    Ok(Found { all, next })
}

#[cfg(test)]
mod tests {
    use base::{Address, Timestamp};
    use store::{Sql, Value};
    use testkit::{Bed, engines};

    use super::*;
    use crate::{Fate, MIGRATIONS, NewDelivery, NewMessage, Queue, Recipe, enqueue};

    /// Enqueues a message from a sender, of an organisation, to recipients.
    fn add(store: &store::Store, queue: &Queue, from: &str, (stream, of): (Stream, i64), to: &[&str]) -> QueueId {
        let (id, from) = (queue.next_id(), Address::parse(from).ok());
        let open =
            |to: &&str| NewDelivery { to: Address::parse(to).unwrap(), notify: None, original: None, fate: Fate::Open };
        let to: Vec<_> = to.iter().map(open).collect();
        let work = move |tx: &mut Tx<'_>| {
            let made = NewMessage::made(id, Recipe { kind: 1, reference: [].into() }, Timestamp(1));
            enqueue(tx, &NewMessage { from: from.as_ref(), stream, organisation: OrganisationId(of), ..made }, &to)
        };
        store.write_blocking(work).unwrap();
        id
    }

    /// All, by pages of which each looks at a few.
    fn all(store: &store::Store, few: i64, sought: &Sought, n: usize) -> Vec<Place> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let sought = sought.clone();
            let found = store.read_blocking(move |tx| among(tx, few, &sought, after, n)).unwrap();
            assert!(found.all.len() <= n.min(few as usize));
            all.extend(found.all);
            after = found.next;
            if after.is_none() {
                return all;
            }
        }
    }

    #[test]
    fn what_is_looked_for_is_found_in_the_order_in_which_it_came() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for bed in engines() {
            let store = bed.open(&[MIGRATIONS]);
            let queue = runtime.block_on(Queue::open(&store, 1, Timestamp(0))).unwrap();
            let (mail, news) = ((Stream::Mail, 1), (Stream::Marketing, 2));
            let a = add(&store, &queue, "jim@a.test", mail, &["ann@b.test", "bob@c.test"]);
            let b = add(&store, &queue, "News@d.test", news, &["Ann@b.test", "eve@b.test"]);
            let c = add(&store, &queue, "", mail, &["ann@b.test"]);
            let address = |text: &str| Some(Party::Address(text.into()));
            let domain = |text: &str| Some(Party::Domain(text.into()));
            let any = Sought::default;
            let wanted = [
                (any(), vec![(a, 0), (a, 1), (b, 0), (b, 1), (c, 0)]),
                (Sought { to: address("ANN@B.test"), ..any() }, vec![(a, 0), (b, 0), (c, 0)]),
                (Sought { to: domain("B.TEST"), ..any() }, vec![(a, 0), (b, 0), (b, 1), (c, 0)]),
                (Sought { to: domain("test"), ..any() }, vec![]),
                (Sought { from: address("news@D.test"), ..any() }, vec![(b, 0), (b, 1)]),
                (Sought { from: domain("a.test"), ..any() }, vec![(a, 0), (a, 1)]),
                (Sought { from: address(""), ..any() }, vec![(c, 0)]),
                (Sought { stream: Some(Stream::Marketing), ..any() }, vec![(b, 0), (b, 1)]),
                (Sought { organisation: Some(OrganisationId(1)), ..any() }, vec![(a, 0), (a, 1), (c, 0)]),
                (Sought { state: Some(State::Claimed), ..any() }, vec![]),
                (Sought { to: address("ann@b.test"), from: address("jim@a.test"), ..any() }, vec![(a, 0)]),
            ];
            for (sought, expected) in wanted {
                for (few, n) in [(1, 9), (2, 9), (3, 2), (9, 1), (9, 9)] {
                    assert_eq!(all(&store, few, &sought, n), expected, "{sought:?}, {few}, {n}, {}", bed.name());
                }
            }
        }
    }

    #[test]
    fn a_page_looks_at_some_of_the_queue_by_its_key() {
        let store = Bed::sqlite().open(&[MIGRATIONS]);
        let plan = |sql: &Sql, params: &'static [Value<'static>]| {
            let plan = Sql { name: "plan", text: format!("EXPLAIN QUERY PLAN {}", sql.text).leak() };
            store.read_blocking(move |tx| tx.list(&plan, params, |r| Ok(r.text(3)?.to_owned()))).unwrap()
        };
        let behind = plan(&schema::DELIVERY_BEHIND, &[Value::Int(1), Value::Int(2), Value::Int(3)]);
        assert_eq!(behind, ["SEARCH queue_delivery USING PRIMARY KEY ((message,number)>(?,?))"]);
        let sought = plan(&schema::SOUGHT, &[Value::Int(1); 8]);
        let by_key = "SEARCH d USING PRIMARY KEY ((message,number)>(?,?) AND (message,number)<(?,?))";
        assert!(sought[0] == by_key && !sought.iter().any(|step| step.contains("TEMP")), "{sought:?}");
    }
}
