//! DKIM2, as its working group's draft has it (draft-ietf-dkim-dkim2-spec-06; section numbers are of that): what a mail is, in a
//! `Message-Instance` that is made once, and who sent it to whom, in a `DKIM2-Signature` of each transaction.
//!
//! We are the first to sign: a mail that has fields of DKIM2 already is not signed. The signature covers only these two fields, so
//! that it is made without reading the mail again.

use aws_lc_rs::digest::{Context, SHA256, digest};
use base::{Address, Result, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mime::header::{self, Field};

use crate::canon;
use crate::sign::SigningKey;

const INSTANCE: &str = "Message-Instance";
const SIGNATURE: &str = "DKIM2-Signature";

/// §4.1: these are not signed, nor those that begin with `Received-` or `X-`; and, as they are signed otherwise, the two of DKIM2.
const UNSIGNED: [&str; 14] = [
    "Apparently-To",
    "ARC-Authentication-Results",
    "ARC-Message-Signature",
    "ARC-Seal",
    "Authentication-Results",
    "Delivered-To",
    "DKIM-Signature",
    "DL-Expansion-History",
    "Original-Recipient",
    "Received",
    "Return-Path",
    "SIO-Label-History",
    "X400-Received",
    "X400-Trace",
];

/// Until which draft these are signed has changed: a mail that has one is not signed, so that all readers agree.
const DOUBTFUL: [&str; 4] = ["Auto-Submitted", "VBR-Info", INSTANCE, SIGNATURE];

/// The hash of a body (§6.1): as it is, but for empty lines at its end. Input has CRLF line ends only, in pieces of their own.
#[derive(Clone)]
pub(crate) struct BodyHash {
    hash: Context,
    /// Line ends that count only if something follows.
    lines: u64,
}

impl BodyHash {
    pub(crate) fn new() -> Self {
        BodyHash { hash: Context::new(&SHA256), lines: 0 }
    }

    /// A piece of a line, or its whole end.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        if piece == b"\r\n" {
            self.lines += 1;
            return;
        }
        for _ in 0..std::mem::take(&mut self.lines) {
            self.hash.update(b"\r\n");
        }
        self.hash.update(piece);
    }

    fn finish(mut self) -> Vec<u8> {
        self.hash.update(b"\r\n");
        self.hash.finish().as_ref().to_vec()
    }
}

/// The field that says what a mail is (§7), with its line end; none for a mail that we are not to sign.
pub(crate) fn instance(header: &[u8], body: BodyHash) -> Option<String> {
    let mut fields: Vec<Field<'_>> = header::fields(header).collect();
    if fields.iter().any(|f| DOUBTFUL.iter().any(|name| f.is(name.as_bytes()))) {
        return None;
    }
    // §6.2: by name, and of one name the last one first.
    fields.retain(is_signed);
    fields.reverse();
    fields.sort_by_cached_key(|f| f.name.to_ascii_lowercase());
    let mut all = Vec::with_capacity(header.len());
    for field in fields {
        canon::field(field.name, field.value, &mut all);
        all.extend_from_slice(b"\r\n");
    }
    let (header, body) = (STANDARD.encode(digest(&SHA256, &all)), STANDARD.encode(body.finish()));
    Some(format!("{INSTANCE}: m=1;\r\n\th=sha256:{header}:\r\n\t{body};\r\n"))
}

fn is_signed(field: &Field<'_>) -> bool {
    let begins =
        |with: &str| field.name.get(..with.len()).is_some_and(|name| name.eq_ignore_ascii_case(with.as_bytes()));
    !field.name.is_empty()
        && !UNSIGNED.iter().any(|name| field.is(name.as_bytes()))
        && !begins("Received-")
        && !begins("X-")
}

/// Where the `Message-Instance` ends that these fields begin with; none when they do not.
pub fn instance_of(prefix: &[u8]) -> Option<usize> {
    prefix.starts_with(INSTANCE.as_bytes()).then(|| header::fields(prefix).next().map(|field| field.span.end))?
}

/// The field that says by whom, from whom and to whom it is sent (§8), with its line end.
pub(crate) fn signature(
    keys: &[SigningKey],
    instance: &str,
    from: &Address,
    to: &Address,
    now: Timestamp,
) -> Result<Option<String>> {
    let Some(first) = keys.first() else { return Ok(None) };
    let path = |address: &Address| STANDARD.encode(format!("<{address}>"));
    let mut head = format!("{SIGNATURE}: i=1; m=1; t={}; d={};\r\n\tmf=", now.secs(), first.domain);
    fold(&mut head, &path(from));
    head.push_str(";\r\n\trt=");
    fold(&mut head, &path(to));
    head.push_str(";\r\n\ts=");
    let names: Vec<String> = keys.iter().map(|key| format!("{}:{}:", key.selector, key.algorithm().name())).collect();
    // §9.6: all tags, and nothing where the signatures are to stand.
    let signed = [bare(instance), bare(&format!("{head}{};\r\n", names.join(",")))].concat();
    for (n, (key, name)) in keys.iter().zip(&names).enumerate() {
        if n > 0 {
            head.push_str(",\r\n\t");
        }
        head.push_str(name);
        head.push_str("\r\n\t");
        fold(&mut head, &STANDARD.encode(key.pair.sign(signed.as_bytes())?));
    }
    head.push_str(";\r\n");
    Ok(Some(head))
}

/// A field as it is signed (§9.6): its name in lower case, and no white space.
fn bare(field: &str) -> String {
    let (name, value) = field.split_once(':').unwrap_or((field, ""));
    let value: String = value.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    format!("{}:{value}\r\n", name.to_ascii_lowercase())
}

/// On lines that are not too long (RFC 5322 §2.1.1); white space does not count within (§2.14).
fn fold(text: &mut String, value: &str) {
    let pieces = (0..value.len()).step_by(72).map(|at| &value[at..value.len().min(at + 72)]);
    text.push_str(&pieces.collect::<Vec<_>>().join("\r\n\t"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn of(mail: &[u8], cut: usize) -> Option<String> {
        let mut digest = Digest::with_instance();
        mail.chunks(cut).for_each(|part| digest.push(part));
        digest.instance()
    }

    fn expected(header: &str, body: &str) -> String {
        let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
        format!("Message-Instance: m=1;\r\n\th=sha256:{}:\r\n\t{};\r\n", hash(header), hash(body))
    }

    #[test]
    fn fields_are_hashed_by_their_names_and_the_last_of_a_name_first() {
        let mail = b"Received: by x\r\nSUBJect: AbC  d\r\n\te \r\nX-Mailer: y\r\nFrom : a@b.test\r\nComments: 1\r\n\
            received-spf: pass\r\nDKIM-Signature: v=1\r\nComments: 2\r\nList-Id:\r\n\r\nHi\r\n";
        let header = "comments:2\r\ncomments:1\r\nfrom:a@b.test\r\nlist-id:\r\nsubject:AbC d e\r\n";
        for cut in 1..=mail.len() {
            assert_eq!(of(mail, cut).unwrap(), expected(header, "Hi\r\n"), "{cut}");
        }
    }

    #[test]
    fn a_body_ends_with_one_line_end() {
        // §6.1, with the white space of lines as it is.
        for (body, hashed) in [
            ("", "\r\n"),
            ("\r\n\r\n", "\r\n"),
            ("a", "a\r\n"),
            ("a \r\n\r\n  b\t\r\n\r\n\r\n", "a \r\n\r\n  b\t\r\n"),
            (" \r\n", " \r\n"),
            ("a\nb\r", "a\r\nb\r\n"),
        ] {
            let mail = format!("A: b\r\n\r\n{body}");
            for cut in 1..=mail.len() {
                assert_eq!(of(mail.as_bytes(), cut).unwrap(), expected("a:b\r\n", hashed), "{body:?} by {cut}");
            }
        }
        assert_eq!(of(b"A: b\r\n", 3).unwrap(), expected("a:b\r\n", "\r\n"));
    }

    #[test]
    fn what_drafts_disagree_about_and_what_others_signed_is_not_signed() {
        for name in ["Auto-Submitted", "vbr-info", "Message-Instance", "DKIM2-Signature"] {
            assert_eq!(of(format!("From: a@b.test\r\n{name}: x\r\n\r\nHi\r\n").as_bytes(), 7), None, "{name}");
        }
        let mut plain = Digest::new();
        plain.push(b"From: a@b.test\r\n\r\nHi\r\n");
        assert_eq!(plain.instance(), None, "nobody asked for it");
    }

    #[test]
    fn an_instance_is_known_by_where_it_stands() {
        let prefix = format!("{}DKIM-Signature: v=1\r\n", expected("", ""));
        assert_eq!(instance_of(prefix.as_bytes()).map(|end| &prefix[end..]), Some("DKIM-Signature: v=1\r\n"));
        assert_eq!(instance_of(b"DKIM-Signature: v=1\r\nMessage-Instance: m=1;\r\n"), None);
    }

    #[test]
    fn what_is_signed_has_no_white_space_and_no_signature() {
        assert_eq!(
            bare("DKIM2-Signature: i=1; m=1;\r\n\ts=a:rsa-sha256:,\r\n\tb:x:;\r\n"),
            "dkim2-signature:i=1;m=1;s=a:rsa-sha256:,b:x:;\r\n"
        );
    }
}
