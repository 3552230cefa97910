//! The Sender Rewriting Scheme: forwarded mail leaves with a return address of ours, so that it passes SPF at the next host
//! (RFC 7208 §10.3, D.1); what comes back to that address goes to the sender.
//!
//! `jane@b.test` leaves as `SRS0=HASH=TT=b.test=jane@ours.test`: TT is the day, HASH proves that we wrote it. A sender that
//! is such an address of another forwarder, `SRS0=…@c.test`, leaves as `SRS1=HASH=c.test==…@ours.test`, which leads back to
//! that forwarder: however many hosts a mail passes, the address grows no more, and each host checks what it signed itself.
//! A mail server may write local parts in any case, so case does not count (the scheme's §3.2 of 2004, by Shevek).

use std::sync::Arc;

use aws_lc_rs::{constant_time, hmac, rand};
use base::{Address, Error, Result, Timestamp};
use store::{Store, Tx, params};
use tokio::sync::OnceCell;

pub(crate) const TABLE: &str = "
CREATE TABLE srs_secret (id {int} NOT NULL PRIMARY KEY, secret {bytes} NOT NULL, made {int} NOT NULL) {table};
";

store::statements! { include_str!("../sql/srs.sql");
    SECRET = "secret",
    SECRET_ADD = "secret_add",
}

/// Days in which a report can come back: longer than mail waits anywhere.
pub const WINDOW: i64 = 21;
/// A clock of another server of ours may be ahead.
const AHEAD: i64 = 1;
/// Days that two letters can tell apart.
const CYCLE: i64 = 1024;
/// RFC 4648 §6.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Letters of a hash: 40 bits, which nobody guesses in three weeks over a network.
const HASH: usize = 8;

/// What a rewritten local part is.
enum Form<'a> {
    /// All behind `SRS0`, the separator first.
    Zero(&'a str),
    /// All behind `SRS1` and the separator.
    One(&'a str),
}

/// The separator behind the tag is `=`, `+` or `-`; within, it is `=`.
fn form(local: &str) -> Option<Form<'_>> {
    let (tag, rest) = local.split_at_checked(4)?;
    let inner = rest.strip_prefix(['=', '+', '-'])?;
    match tag.to_ascii_uppercase().as_str() {
        "SRS0" => Some(Form::Zero(rest)),
        "SRS1" => Some(Form::One(inner)),
        _ => None,
    }
}

/// Whether an address is one that a forwarder made; in a domain of ours, it is ours to resolve.
pub fn is_rewritten(address: &Address) -> bool {
    form(address.local()).is_some()
}

/// Signs return addresses, and knows its own again.
#[derive(Clone)]
struct Signer(hmac::Key);

impl Signer {
    fn new(secret: &[u8]) -> Self {
        Signer(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The letters that prove `text`, in whatever case it comes back.
    fn hash(&self, tag: &str, text: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{tag}={}", text.to_ascii_lowercase()).as_bytes());
        let bits = tag.as_ref().iter().take(HASH * 5 / 8).fold(0u64, |bits, octet| bits << 8 | u64::from(*octet));
        (0..HASH).rev().map(|n| char::from(BASE32[(bits >> (5 * n)) as usize % 32])).collect()
    }

    fn is_hash(&self, hash: &str, tag: &str, text: &str) -> bool {
        let (given, own) = (hash.to_ascii_uppercase(), self.hash(tag, text));
        constant_time::verify_slices_are_equal(given.as_bytes(), own.as_bytes()).is_ok()
    }

    /// The address of ours, in `domain`, behind which `from` stands; None when it would be too long for an address.
    fn rewritten(&self, from: &Address, domain: &str, now: Timestamp) -> Option<Address> {
        let behind = match form(from.local()) {
            Some(Form::Zero(rest)) => Some(format!("{}={rest}", from.domain())),
            // What the forwarder before says of the first one stays; its signature means nothing to us.
            Some(Form::One(rest)) => rest.split_once('=').map(|(_, behind)| behind.to_owned()),
            None => None,
        };
        let local = match behind {
            Some(behind) => format!("SRS1={}={behind}", self.hash("SRS1", &behind)),
            None => {
                let signed = format!("{}={}={}", stamp(now), from.domain(), from.local());
                format!("SRS0={}={signed}", self.hash("SRS0", &signed))
            }
        };
        Address::new(&local, domain).ok()
    }

    /// Who stands behind an address; None when we did not write it, or too long ago.
    fn behind(&self, address: &Address, now: Timestamp) -> Option<Address> {
        match form(address.local())? {
            Form::Zero(rest) => {
                let (hash, signed) = rest.get(1..)?.split_once('=')?;
                let (day, sender) = signed.split_once('=')?;
                let (domain, local) = sender.split_once('=')?;
                let good = self.is_hash(hash, "SRS0", signed) && is_fresh(day, now);
                good.then(|| Address::new(local, domain).ok())?
            }
            // How old it may be is the first forwarder's business, to whom it leads.
            Form::One(rest) => {
                let (hash, behind) = rest.split_once('=')?;
                let (domain, rest) = behind.split_once('=')?;
                let good = self.is_hash(hash, "SRS1", behind);
                good.then(|| Address::new(&format!("SRS0{rest}"), domain).ok())?
            }
        }
    }
}

fn day(now: Timestamp) -> i64 {
    now.secs().div_euclid(86_400)
}

fn stamp(now: Timestamp) -> String {
    let day = day(now).rem_euclid(CYCLE) as usize;
    [BASE32[day / 32], BASE32[day % 32]].map(char::from).iter().collect()
}

fn is_fresh(stamp: &str, now: Timestamp) -> bool {
    let value = |letter: u8| BASE32.iter().position(|l| *l == letter.to_ascii_uppercase()).map(|at| at as i64);
    let &[high, low] = stamp.as_bytes() else { return false };
    let (Some(high), Some(low)) = (value(high), value(low)) else { return false };
    (day(now) + AHEAD - (high * 32 + low)).rem_euclid(CYCLE) <= WINDOW + AHEAD
}

/// Rewrites senders and knows them again. Cheap to clone.
#[derive(Clone)]
pub struct Srs {
    store: Store,
    signer: Arc<OnceCell<Signer>>,
}

impl Srs {
    /// The handle; the secret is read, or made, when it is first needed.
    pub fn new(store: Store) -> Self {
        Srs { store, signer: Arc::default() }
    }

    /// The return address, in `domain` of ours, of a mail of `from` that we forward. None: it would be too long.
    ///
    /// # Errors
    /// 451 when the secret cannot be had.
    pub async fn rewritten(&self, from: &Address, domain: &str, now: Timestamp) -> Result<Option<Address>> {
        Ok(self.signer(now).await?.rewritten(from, domain, now))
    }

    /// The sender behind a return address of ours. None: we did not make it, or more than three weeks ago.
    ///
    /// # Errors
    /// 451 when the secret cannot be had.
    pub async fn behind(&self, address: &Address, now: Timestamp) -> Result<Option<Address>> {
        Ok(self.signer(now).await?.behind(address, now))
    }

    async fn signer(&self, now: Timestamp) -> Result<&Signer> {
        let open = async || Ok(Signer::new(&open(&self.store, now).await?));
        self.signer.get_or_try_init(open).await
    }
}

/// The secret; a new one where there is none.
///
/// # Errors
/// 451 when it cannot be had.
pub(crate) async fn open(store: &Store, now: Timestamp) -> Result<Vec<u8>> {
    let mut new = [0; 32];
    rand::fill(&mut new).map_err(|_| Error::internal("no randomness"))?;
    Ok(store.write(move |tx| secret(tx, &new, now)).await?)
}

/// The same, in a job.
fn secret(tx: &mut Tx<'_>, new: &[u8], now: Timestamp) -> store::Result<Vec<u8>> {
    if let Some(there) = tx.row(&SECRET, params![], |r| Ok(r.bytes(0)?.to_vec()))? {
        return Ok(there);
    }
    tx.execute(&SECRET_ADD, params![new, now])?;
    Ok(new.to_vec())
}

/// Whom a report about a mail of `from` is for: `from` itself, or the sender behind it where it is a return address of
/// ours.
///
/// # Errors
/// The store's.
pub fn reported_to(tx: &mut Tx<'_>, from: &Address, now: Timestamp) -> store::Result<Address> {
    if !is_rewritten(from) {
        return Ok(from.clone());
    }
    let signer = tx.row(&SECRET, params![], |r| Ok(Signer::new(r.bytes(0)?)))?;
    Ok(signer.and_then(|signer| signer.behind(from, now)).unwrap_or_else(|| from.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn at(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn days(n: i64) -> Timestamp {
        Timestamp(NOW.0 + n * 86_400_000)
    }

    fn ours() -> Signer {
        Signer::new(b"a secret")
    }

    #[test]
    fn what_leaves_comes_back() {
        for from in ["jane@b.test", "Jane.Doe+x=y@b.test", "\"a b=@c\"@b.test", "a@[192.0.2.1]", "b\u{fc}ro@b.test"] {
            let sent = ours().rewritten(&at(from), "x.test", NOW).unwrap();
            assert!(is_rewritten(&sent) && sent.domain() == "x.test", "{sent}");
            // As a text, too: it stands in the queue, and on the wire.
            assert_eq!(ours().behind(&at(&sent.to_string()), NOW), Some(at(from)));
        }
    }

    /// 2023-11-14 is day 19,675 of the epoch, 219 of its cycle: 6 and 27 in base 32.
    #[test]
    fn the_form_is_the_fields() {
        let sent = ours().rewritten(&at("jane@b.test"), "x.test", NOW).unwrap();
        let parts: Vec<&str> = sent.local().split('=').collect();
        assert_eq!([parts[0], parts[2], parts[3], parts[4]], ["SRS0", "G3", "b.test", "jane"]);
        assert!(parts[1].len() == 8 && parts[1].bytes().all(|b| BASE32.contains(&b)), "{sent}");
        let on = Signer::new(b"another").rewritten(&sent, "y.test", NOW).unwrap();
        let rest = sent.local().strip_prefix("SRS0").unwrap();
        assert!(on.local().starts_with("SRS1=") && on.local().ends_with(&format!("=x.test={rest}")), "{on}");
    }

    #[test]
    fn no_address_is_rewritten_twice() {
        let (second, third) = (Signer::new(b"second"), Signer::new(b"third"));
        let first = ours().rewritten(&at("jane@b.test"), "x.test", NOW).unwrap();
        let on = second.rewritten(&first, "y.test", NOW).unwrap();
        let further = third.rewritten(&on, "z.test", NOW).unwrap();
        assert_eq!(further.local().len(), on.local().len());
        // Each leads to the first, and each host knows only its own.
        assert_eq!(second.behind(&on, NOW), Some(first.clone()));
        assert_eq!(third.behind(&further, NOW), Some(first.clone()));
        assert_eq!((third.behind(&on, NOW), ours().behind(&on, NOW)), (None, None));
        // Those of other makers, with another separator.
        let theirs = at("SRS0+ab+cd=EF=b.test=jane@c.test");
        let on = second.rewritten(&theirs, "y.test", NOW).unwrap();
        assert_eq!(second.behind(&on, NOW), Some(theirs));
        let odd = at("SRS1=x@c.test");
        assert_eq!(second.behind(&second.rewritten(&odd, "y.test", NOW).unwrap(), NOW), Some(odd));
    }

    #[test]
    fn it_is_good_for_three_weeks() {
        let sent = ours().rewritten(&at("jane@b.test"), "x.test", NOW).unwrap();
        for (day, good) in [(-2, false), (-1, true), (0, true), (21, true), (22, false), (500, false), (1000, false)] {
            assert_eq!(ours().behind(&sent, days(day)).is_some(), good, "{day}");
        }
    }

    #[test]
    fn what_somebody_else_wrote_leads_nowhere() {
        let sent = ours().rewritten(&at("jane@b.test"), "x.test", NOW).unwrap().local().to_owned();
        let on = ours().rewritten(&at("SRS0=AAAA=BB=b.test=jane@c.test"), "x.test", NOW).unwrap().local().to_owned();
        let local = |local: &str| Address::new(local, "x.test").ok().and_then(|a| ours().behind(&a, NOW));
        assert!(local(&sent.to_lowercase()).is_some() && local(&on.to_lowercase()).is_some());
        // Any character changed, taken away or added.
        for good in [&sent, &on] {
            for n in 0..good.len() {
                let (before, after) = (&good[..n], &good[n + 1..]);
                for forged in [format!("{before}{after}"), format!("{before}x{}", &good[n..])] {
                    assert_eq!(local(&forged), None, "{forged}");
                }
                let other = if good[n..].starts_with('y') { 'z' } else { 'y' };
                // The one behind the tag may be another.
                let (forged, tag) = (format!("{before}{other}{after}"), n == 4);
                assert!(tag || local(&forged).is_none(), "{forged}");
            }
        }
        for odd in
            ["SRS0", "SRS0=", "SRS0==", "SRS0====", "SRS0=A=B", "SRS1=", "SRS1===", "SRS1=A=b.test", "SRS0=\u{fc}"]
        {
            assert_eq!(local(odd), None, "{odd}");
        }
        // A hash of the other form proves nothing.
        assert_eq!(local(&sent.replace("SRS0", "SRS1")), None);
        assert_eq!(local(&on.replace("SRS1", "SRS0")), None);
        assert_eq!(Signer::new(b"another").behind(&at(&format!("{sent}@x.test")), NOW), None);
    }

    #[test]
    fn a_long_sender_has_a_return_address_and_one_too_long_has_none() {
        let name = format!("{}@{}.test", "a".repeat(64), "b".repeat(60));
        let sent = ours().rewritten(&at(&name), "x.test", NOW).unwrap();
        assert_eq!(ours().behind(&sent, NOW), Some(at(&name)));
        let domain = format!("{0}.{0}.{0}.test", "b".repeat(60));
        assert_eq!(ours().rewritten(&at(&format!("{}@{domain}", "a".repeat(64))), "x.test", NOW), None);
    }
}
