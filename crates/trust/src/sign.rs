//! Making a `DKIM-Signature` field (RFC 6376 §3.5, §5).

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256};
use base::{Error, Result, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mime::header::{self, Field};

use crate::canon;
use crate::digest::Digested;

/// Fields that are signed where they are present (RFC 6376 §5.4.1, and what tells a MIME reader how to read).
const SIGNED: [&str; 24] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-ID",
    "Resent-Date",
    "Resent-From",
    "Resent-To",
    "Resent-Cc",
    "Resent-Message-ID",
    "List-Id",
    "List-Post",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Archive",
];

/// These are named once more than they stand there, so that nobody can add another (§8.15). All of them may stand in a mail
/// but once (RFC 5322 §3.6), and no list adds them.
const SEALED: [&str; 6] = ["From", "To", "Cc", "Subject", "Date", "Message-ID"];

/// So many instances of one field are signed; who sends more is up to no good.
const INSTANCES: usize = 50;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `rsa-sha256`, 2048 bits.
    Rsa,
    /// `ed25519-sha256` (RFC 8463).
    Ed25519,
}

impl Algorithm {
    /// As `a=` has it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rsa => "rsa-sha256",
            Algorithm::Ed25519 => "ed25519-sha256",
        }
    }

    /// As `k=` of a record has it (RFC 6376 §3.6.1, RFC 8463 §4.1).
    pub(crate) fn key_type(self) -> &'static str {
        match self {
            Algorithm::Rsa => "rsa",
            Algorithm::Ed25519 => "ed25519",
        }
    }
}

/// A private key, ready to sign.
#[derive(Debug)]
pub struct SigningKey {
    pub(crate) domain: String,
    pub(crate) selector: String,
    pub(crate) pair: Pair,
}

#[derive(Debug)]
pub(crate) enum Pair {
    Rsa(rsa::KeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Rsa(_) => Algorithm::Rsa,
            Pair::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// The field that vouches for this mail, with its line end.
    pub(crate) fn sign(&self, mail: &Signable, now: Timestamp) -> Result<String> {
        let mut text = format!(
            "DKIM-Signature: v=1; a={}; c=relaxed/relaxed; d={};\r\n\ts={}; t={};\r\n\t",
            self.algorithm().name(),
            self.domain,
            self.selector,
            now.secs()
        );
        fold(&mut text, "h=", &mail.names, ":");
        text.push_str(&format!("bh={};\r\n\tb=", STANDARD.encode(mail.body)));
        let signature = STANDARD.encode(self.pair.sign(&mail.signed(&text))?);
        // The last line would be too long in one piece (RFC 5322 §2.1.1); white space within b= does not count (§3.5).
        let pieces = (0..signature.len()).step_by(72).map(|at| &signature[at..signature.len().min(at + 72)]);
        text.push_str(&pieces.collect::<Vec<_>>().join("\r\n\t "));
        text.push_str("\r\n");
        Ok(text)
    }
}

/// A mail as each key signs it: made once for all of them.
pub(crate) struct Signable {
    /// What `h=` names.
    names: Vec<&'static str>,
    /// These fields in their relaxed form.
    fields: Vec<u8>,
    body: [u8; 32],
}

impl Signable {
    /// None for a mail that cannot be signed, as it has no From (§5.4).
    pub(crate) fn of(mail: &Digested) -> Option<Self> {
        let fields: Vec<Field<'_>> = header::fields(&mail.header).collect();
        if !fields.iter().any(|f| f.is(b"From")) {
            return None;
        }
        let names = names(&fields);
        Some(Signable { fields: hashed(&fields, &names), names, body: mail.body })
    }

    /// What is signed (§3.7): the named fields, then the signature's own with nothing after `b=` and without a line end.
    fn signed(&self, signature: &str) -> Vec<u8> {
        let mut out = self.fields.clone();
        let (name, value) = signature.split_once(':').unwrap_or((signature, ""));
        canon::field(name.as_bytes(), value.as_bytes(), &mut out);
        out
    }
}

impl Pair {
    pub(crate) fn sign(&self, input: &[u8]) -> Result<Vec<u8>> {
        match self {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input, &mut signature);
                signed.map_err(|_| Error::internal("the RSA key does not sign"))?;
                Ok(signature)
            }
            // RFC 8463 §3: the hash is what is signed.
            Pair::Ed25519(pair) => Ok(pair.sign(digest(&SHA256, input).as_ref()).as_ref().to_vec()),
        }
    }
}

/// What `h=` names: each field as often as it stands there, those that are sealed once more.
fn names(fields: &[Field<'_>]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for name in SIGNED {
        let there = fields.iter().filter(|f| f.is(name.as_bytes())).take(INSTANCES).count();
        let sealed = usize::from(SEALED.contains(&name));
        names.extend(std::iter::repeat_n(name, there + sealed));
    }
    names
}

/// Appends `tag` and the words, on lines of about 72 octets, and the semicolon.
fn fold(text: &mut String, tag: &str, words: &[&str], separator: &str) {
    text.push_str(tag);
    let mut width = tag.len();
    for (n, word) in words.iter().enumerate() {
        if n > 0 {
            text.push_str(separator);
        }
        if width + word.len() > 70 {
            text.push_str("\r\n\t ");
            width = 1;
        }
        text.push_str(word);
        width += word.len() + 1;
    }
    text.push_str(";\r\n\t");
}

/// The named fields in their relaxed form, of each name the last one first (§5.4.2).
fn hashed(fields: &[Field<'_>], names: &[&str]) -> Vec<u8> {
    let mut left: HashMap<String, Vec<&Field<'_>>> = HashMap::new();
    for field in fields {
        left.entry(field.name.to_ascii_lowercase().escape_ascii().to_string()).or_default().push(field);
    }
    let mut out = Vec::new();
    for name in names {
        if let Some(field) = left.get_mut(&name.to_ascii_lowercase()).and_then(Vec::pop) {
            canon::field(field.name, field.value, &mut out);
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    /// RFC 8463 Appendix A: the mail of A.3.
    const MAIL: &str = "From: Joe SixPack <joe@football.example.com>\r\n\
        To: Suzie Q <suzie@shopping.example.net>\r\n\
        Subject: Is dinner ready?\r\n\
        Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
        Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\
        \r\n\
        Hi.\r\n\
        \r\n\
        We lost the game.  Are you hungry yet?\r\n\
        \r\n\
        Joe.\r\n";
    /// The signature's field up to `b=`.
    const FIELD: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n \
        d=football.example.com; i=@football.example.com;\r\n \
        q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n \
        subject : date : message-id : from : subject : date;\r\n \
        bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=";
    const SECRET: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    const PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    const SIGNATURE: &str = "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==";

    fn digested(mail: &[u8]) -> Digested {
        let mut digest = Digest::new();
        digest.push(mail);
        digest.finish().unwrap()
    }

    #[test]
    fn the_example_of_rfc_8463() {
        let mail = digested(MAIL.as_bytes());
        assert_eq!(STANDARD.encode(mail.body), "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=");
        let fields: Vec<Field<'_>> = header::fields(&mail.header).collect();
        let names = vec!["from", "to", "subject", "date", "message-id", "from", "subject", "date"];
        let signable = Signable { fields: hashed(&fields, &names), names, body: mail.body };
        let (secret, public) = (STANDARD.decode(SECRET).unwrap(), STANDARD.decode(PUBLIC).unwrap());
        let pair = Ed25519KeyPair::from_seed_and_public_key(&secret, &public).unwrap();
        let signature = Pair::Ed25519(pair).sign(&signable.signed(FIELD)).unwrap();
        assert_eq!(STANDARD.encode(signature), SIGNATURE);
    }

    fn named(mail: &str) -> String {
        let fields: Vec<Field<'_>> = header::fields(mail.as_bytes()).collect();
        names(&fields).join(":")
    }

    #[test]
    fn what_may_stand_there_once_is_sealed() {
        assert_eq!(
            named("To: b\r\nFROM: a\r\nX: y\r\nReply-To: c\r\nReceived: d\r\n\r\n"),
            "From:From:Reply-To:To:To:Cc:Subject:Date:Message-ID"
        );
        assert_eq!(named("From: a\r\nFrom: b\r\n\r\n"), "From:From:From:To:Cc:Subject:Date:Message-ID");
    }

    #[test]
    fn of_fields_with_one_name_the_last_is_hashed_first() {
        let fields: Vec<Field<'_>> = header::fields(b"A: 1\r\nB: x\r\nA: 2\r\n\r\n").collect();
        let names = vec!["A", "A", "A", "B"];
        let signable = Signable { fields: hashed(&fields, &names), names, body: [0; 32] };
        assert_eq!(signable.signed("S: b=").escape_ascii().to_string(), r"a:2\r\na:1\r\nb:x\r\ns:b=");
    }
}
