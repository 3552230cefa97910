//! The mails: 8 KB, signed by an RSA key and an Ed25519 key.

use base::{Address, Timestamp};
use queue::{Bodies, Delivery, Message, NotMade, Recipe};
use trust::{Digest, Keys};

use crate::SITES;

/// Ours.
pub const DOMAIN: &str = "bench.test";
/// Octets of a mail, its signatures included.
const OCTETS: usize = 8192;

/// The n-th recipient.
pub fn recipient(n: u32) -> Address {
    Address::parse(&format!("u{n}@s{}.test", n % SITES)).unwrap()
}

/// A mail without signatures.
pub fn unsigned(to: &Address, octets: usize) -> Vec<u8> {
    let mut mail = format!(
        "From: News <news@{DOMAIN}>\r\nTo: {to}\r\nSubject: News for {to}\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\n\
         Message-ID: <{to}.7@{DOMAIN}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\
         List-Unsubscribe: <https://{DOMAIN}/u/{to}>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\n"
    );
    for n in 0.. {
        let line = format!("Dear {to}, this is line {n} of what there is to tell you today.\r\n");
        if mail.len() + line.len() > octets {
            break;
        }
        mail.push_str(&line);
    }
    mail.into_bytes()
}

/// With its signatures before it.
pub fn signed(keys: &Keys, to: &Address) -> Vec<u8> {
    // What two signatures take.
    let mail = unsigned(to, OCTETS - 1300);
    let mut digest = Digest::new();
    digest.push(&mail);
    let signatures = keys.sign_blocking(DOMAIN, digest, Timestamp::from_secs(1_700_000_000)).unwrap();
    [signatures.as_bytes(), &mail].concat()
}

/// Makes them when they leave.
pub struct Maker(pub Keys);

impl Bodies for Maker {
    fn make(&self, _: &Recipe, _: &Message, delivery: &Delivery) -> Result<Vec<u8>, NotMade> {
        Ok(signed(&self.0, &delivery.to))
    }
}
