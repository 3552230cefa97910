//! Looking for what waits: the queue, page after page.

use base::{Address, OrganisationId, Stream, Timestamp};
use store::{Error, Result, Row, Tx, params};

use crate::receipt::{Found, When};
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
    pub(crate) fn is(&self, address: &[u8]) -> bool {
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
    // Where all is wanted, no more is looked at than is found.
    let few = if *sought == Sought::default() { n.min(LOOKED_AT as usize) as i64 } else { LOOKED_AT };
    among(tx, few, sought, after, n)
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

/// At most `n` deliveries to an address, whatever the case it is written in, of mails that were accepted `when`, by message and number: the
/// youngest first, from behind `after` on. What it finds may be less and not the last, as it is for [`search`].
///
/// # Errors
/// The store's.
pub fn by_recipient(
    tx: &mut Tx<'_>,
    to: &Address,
    when: When,
    after: Option<Place>,
    n: usize,
) -> Result<Found<Place, Place>> {
    let place = |r: &Row<'_>| Ok((QueueId::stored(r.int(0)?), r.int(1)? as u32));
    let (message, number) = after.map_or((i64::MAX, 0), |(message, number)| (message.raw(), number));
    let mut next = tx.row(&schema::DELIVERY_BEFORE, params![message, number, LOOKED_AT - 1], place)?;
    let (last, least) = next.map_or((i64::MIN, 0), |(message, number)| (message.raw(), number));
    let (domain, text, mut all) = (Group::digest(to.domain()), to.to_string(), Vec::new());
    let is_alike = |found: &[u8]| {
        let other = || Address::parse(str::from_utf8(found).ok()?).ok();
        let may_be = !(found.is_ascii() && text.is_ascii());
        found.eq_ignore_ascii_case(text.as_bytes()) || may_be && other().is_some_and(|other| other.is_alike(to))
    };
    let bounded = when.since.or(when.until).is_some();
    tx.rows(&schema::RECIPIENTS_BETWEEN, params![last, least, message, number, domain, bounded], |r| {
        let accepted = || Ok::<_, Error>(r.opt_int(3)?.is_none_or(|at| when.has(Timestamp(at))));
        if all.len() < n && is_alike(r.bytes(2)?) && accepted()? {
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

    /// To `?4`, of the domain `?6`: so many messages behind `?3` of so many deliveries each.
    const FILL: Sql = Sql {
        name: "fill",
        text: "INSERT INTO queue_delivery (message, number, recipient, state, epoch, due, expires, attempts, uncertain, warned, owed,
    status, reply, host, class, segment, place, stream, organisation, domain, priority)
SELECT ?3 + m.n, d.n, ?4, 0, 0, 1, 2, 0, 0, 0, 0, '', ?5, ?5, '', 0, 0, 1, 1, ?6, 0 FROM
    (WITH RECURSIVE c(n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM c WHERE n < ?1) SELECT n FROM c) AS m,
    (WITH RECURSIVE c(n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM c WHERE n < ?2) SELECT n FROM c) AS d",
    };

    #[test]
    fn a_search_for_a_recipient_reads_some_of_the_queue_at_a_time() {
        for bed in engines() {
            let store = bed.open(&[MIGRATIONS]);
            let fill = |messages: i64, each: i64, behind: i64, to: &'static str| {
                let domain = Group::digest("b.test");
                let fill = params![messages, each, behind, to.as_bytes(), &b""[..], domain].to_vec();
                store.write_blocking(move |tx| tx.execute(&FILL, &fill)).unwrap();
            };
            fill(2, 1, 0, "ann@b.test");
            fill(1, 30_000, 100, "bob@b.test");
            fill(1, 1, 200, "Ann@b.test");
            fill(500, 40, 300, "somebody.else@b.test");
            fill(1, 2, 1000, "ann@b.test");
            let search = |n| {
                let (to, mut pages, mut after) = (Address::parse("ANN@b.test").unwrap(), Vec::new(), None);
                loop {
                    let to = to.clone();
                    let some = move |tx: &mut Tx<'_>| by_recipient(tx, &to, When::default(), after, n);
                    let found = store.read_blocking(some).unwrap();
                    pages.push(found.all.iter().map(|(id, number)| (id.raw(), *number)).collect::<Vec<_>>());
                    after = found.next;
                    if after.is_none() {
                        return pages;
                    }
                }
            };
            assert_eq!(search(9), [vec![(1001, 2), (1001, 1)], vec![(201, 1)], vec![(2, 1), (1, 1)]], "{}", bed.name());
            assert_eq!(search(1).concat(), search(9).concat(), "{}", bed.name());
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
        let before = plan(&schema::DELIVERY_BEFORE, &[Value::Int(1), Value::Int(2), Value::Int(3)]);
        assert_eq!(before, ["SEARCH queue_delivery USING PRIMARY KEY ((message,number)<(?,?))"]);
        let between = plan(&schema::RECIPIENTS_BETWEEN, &[Value::Int(1); 6]);
        assert!(between[0] == by_key && !between.iter().any(|step| step.contains("TEMP")), "{between:?}");
    }
}
