//! The MTA-STS policies of our own domains (RFC 8461): what others are to demand when they send us mail. Each begins in
//! testing, where nobody is kept from anything, until the administrator has seen from reports that it would hold.

use aws_lc_rs::digest::{SHA256, digest};
use store::{Tx, params};

use crate::mta_sts::Mode;

pub(crate) const TABLE: &str = "
CREATE TABLE own_policy (domain {text} NOT NULL PRIMARY KEY, mode {int} NOT NULL) {clustered};
";

store::statements! { include_str!("../sql/own_policy.sql");
    OWN_MODE = "own_mode",
    OWN_MODE_SET = "own_mode_set",
    OWN_MODE_REMOVE = "own_mode_remove",
}

/// How long others keep a policy, in seconds: a mistake that is enforced lasts as long, and so does the protection while our
/// web server is down.
const ENFORCED: u64 = 7 * 86_400;
const ELSE: u64 = 86_400;

/// What the policy of a domain (lower case A-labels) asks.
///
/// # Errors
/// The store's.
pub fn mode(tx: &mut Tx<'_>, domain: &str) -> store::Result<Mode> {
    match tx.row(&OWN_MODE, params![domain], |r| r.int(0))? {
        None => Ok(Mode::Testing),
        Some(n) => Mode::read(n),
    }
}

/// From now on it asks this.
///
/// # Errors
/// The store's.
pub fn set_mode(tx: &mut Tx<'_>, domain: &str, mode: Mode) -> store::Result<()> {
    tx.execute(&OWN_MODE_SET, params![domain, mode.stored()]).map(drop)
}

/// The domain is ours no more.
///
/// # Errors
/// The store's.
pub fn remove(tx: &mut Tx<'_>, domain: &str) -> store::Result<()> {
    tx.execute(&OWN_MODE_REMOVE, params![domain]).map(drop)
}

/// The policy of a domain whose mail this host takes, as others fetch it (§3.2).
pub fn text(mode: Mode, hostname: &str) -> String {
    let max_age = if mode == Mode::Enforce { ENFORCED } else { ELSE };
    format!("version: STSv1\r\nmode: {}\r\nmx: {hostname}\r\nmax_age: {max_age}\r\n", mode.word())
}

/// The id under which it is announced: another for each other text, so that whatever changes it is seen.
pub fn id(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().take(10).map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mta_sts::{Announced, Policy, announced};

    #[test]
    fn what_we_publish_others_can_read() {
        for (mode, days) in [(Mode::Enforce, 7), (Mode::Testing, 1), (Mode::None, 1)] {
            let text = text(mode, "mx.x.test");
            let policy = Policy::parse(text.as_bytes()).unwrap();
            assert_eq!((policy.mode, policy.max_age), (mode, Duration::from_secs(days * 86_400)));
            assert!(policy.names("mx.x.test") && !policy.names("mx.y.test"));
            let id = id(&text);
            let record = format!("v=STSv1; id={id};").into_bytes();
            assert_eq!(announced(&[record]), Announced::Id(id));
        }
        let (one, other) = (id(&text(Mode::Enforce, "mx.x.test")), id(&text(Mode::Enforce, "mx.y.test")));
        assert!(one != other && one != id(&text(Mode::Testing, "mx.x.test")));
    }
}
