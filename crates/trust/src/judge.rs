//! What the DNS says of a domain, judged: does it say what it should? The texts come from whoever asked the DNS.
//!
//! Each function takes the TXT records of one name, all that there are, as an administrator has other things there too.

use crate::{PublicKey, mta_sts};

/// How something in the DNS is; the words are for the administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// As it should be.
    Good(String),
    /// It may be meant so.
    Doubt(String),
    /// Others will not make of it what it is for.
    Wrong(String),
    /// It is not there.
    Missing,
}

use Judgement::{Doubt, Good, Missing, Wrong};

/// The tags of `a=b; c=d` (RFC 6376 §3.2), of which DKIM, DMARC, MTA-STS and TLS-RPT make their records. None: it is no
/// such list, or has a tag twice.
pub(crate) fn tags(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut tags: Vec<(&str, &str)> = Vec::new();
    let text = text.trim();
    for tag in text.strip_suffix(';').unwrap_or(text).split(';') {
        let (name, value) = tag.split_once('=')?;
        let name = name.trim();
        if name.is_empty() || tags.iter().any(|(other, _)| *other == name) {
            return None;
        }
        tags.push((name, value.trim()));
    }
    Some(tags)
}

pub(crate) fn value<'a>(tags: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    tags.iter().find(|(tag, _)| *tag == name).map(|(_, value)| *value)
}

/// The records that begin as one of this kind does, as text.
pub(crate) fn of_version<'a>(texts: &'a [Vec<u8>], version: &str) -> Vec<&'a str> {
    let begins = |text: &&str| {
        text.strip_prefix(version)
            .is_some_and(|rest| rest.trim_start().is_empty() || rest.starts_with([' ', '\t', ';']))
    };
    texts.iter().filter_map(|text| std::str::from_utf8(text).ok()).filter(begins).collect()
}

/// As much of a text as is of use, on one line: what others have in the DNS is not to speak to a terminal (trap 27).
fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

/// The record of a key, at `SELECTOR._domainkey.DOMAIN` (RFC 6376 §3.6.1).
pub fn key(key: &PublicKey, texts: &[Vec<u8>]) -> Judgement {
    let text = match texts {
        [] => return Missing,
        [one] => String::from_utf8_lossy(one),
        // §3.6.2.2: the results are undefined; verifiers take any of them, or none (trap 14).
        more => return Wrong(format!("there are {} TXT records where only the key may be", more.len())),
    };
    let Some(tags) = tags(&text) else { return Wrong(format!("this is no record of a key: {}", shown(&text))) };
    let found: String = value(&tags, "p").unwrap_or("").split_ascii_whitespace().collect();
    let lists =
        |tag: &str, word: &str| value(&tags, tag).is_none_or(|v| v.split(':').any(|w| [word, "*"].contains(&w.trim())));
    if tags.iter().position(|(name, _)| *name == "v").is_some_and(|at| at > 0 || tags[0].1 != "DKIM1") {
        Wrong("v=DKIM1 must come first".into())
    } else if value(&tags, "k").unwrap_or("rsa") != key.algorithm.key_type() {
        Wrong(format!(
            "it says k={}, and the key is k={}",
            value(&tags, "k").unwrap_or("rsa"),
            key.algorithm.key_type()
        ))
    } else if found.is_empty() {
        Wrong("p= is empty, which revokes the key".into())
    } else if found != key.key {
        Wrong("p= is another key".into())
    } else if !lists("s", "email") || value(&tags, "h").is_some_and(|h| !h.split(':').any(|w| w.trim() == "sha256")) {
        Wrong("its s= or h= does not let the key sign mail by sha256".into())
    } else if value(&tags, "t").is_some_and(|t| t.split(':').any(|flag| flag.trim() == "y")) {
        Doubt("t=y says that the domain only tests DKIM: take it out".into())
    } else {
        Good(format!("DKIM: the key {} is there", key.selector))
    }
}

/// The domain's SPF record (RFC 7208). `sender` sends its mail, by name or IP address; `mx`: the domain's MX records lead to
/// it. Whether it passes is known for sure only where the record says so itself; what others' records say is not looked up.
pub fn spf(texts: &[Vec<u8>], sender: &str, mx: bool) -> Judgement {
    let text = match of_version(texts, "v=spf1")[..] {
        [] => return Missing,
        [one] => one.to_ascii_lowercase(),
        // RFC 7208 §4.5.
        ref more => return Wrong(format!("SPF: {} records count as an error; make one of them", more.len())),
    };
    let terms: Vec<&str> = text.split_ascii_whitespace().skip(1).collect();
    let all = terms.iter().position(|term| term.trim_start_matches(['+', '-', '~', '?']) == "all");
    let counted = terms[..all.unwrap_or(terms.len())].iter().map(|term| term.strip_prefix('+').unwrap_or(term));
    let passes = |term: &str| {
        let named = ["a:", "ip4:", "ip6:"].iter().find_map(|way| term.strip_prefix(way));
        term == "mx" && mx || named.is_some_and(|name| name.trim_end_matches('.').eq_ignore_ascii_case(sender))
    };
    let may_pass = |term: &str| {
        let ways = ["include:", "redirect=", "ip4:", "ip6:", "exists:", "a:", "mx:", "a/", "mx/", "ptr"];
        matches!(term, "a" | "mx") || ways.iter().any(|way| term.starts_with(way))
    };
    if all.is_some_and(|at| matches!(terms[at], "all" | "+all")) {
        Wrong("SPF: +all lets the whole world send as this domain".into())
    } else if counted.clone().any(passes) {
        Good(format!("SPF: the record lets {sender} send"))
    } else if counted.clone().any(|term| may_pass(term) && (mx || term != "mx")) {
        Doubt(format!("SPF: see that this record lets {sender} send: {}", shown(&text)))
    } else {
        Wrong(format!("SPF: this record does not let {sender} send: {}", shown(&text)))
    }
}

/// A DMARC record, at `_dmarc.DOMAIN` (RFC 7489 §6.3).
pub fn dmarc(texts: &[Vec<u8>]) -> Judgement {
    let text = match of_version(texts, "v=DMARC1")[..] {
        [] => return Missing,
        [one] => one,
        // RFC 7489 §6.6.3: then none counts.
        ref more => return Wrong(format!("DMARC: {} records count as none; make one of them", more.len())),
    };
    let Some(tags) = tags(text) else { return Wrong(format!("DMARC: this cannot be read: {}", shown(text))) };
    match value(&tags, "p").map(str::to_ascii_lowercase).as_deref() {
        Some("none") => Good("DMARC: others only report (p=none)".into()),
        Some(p @ ("quarantine" | "reject")) => Good(format!("DMARC: p={p}")),
        _ => Wrong(format!("DMARC: p= is neither none nor quarantine nor reject: {}", shown(text))),
    }
}

/// The record that asks for reports about TLS, at `_smtp._tls.DOMAIN` (RFC 8460 §3).
pub fn tls_rpt(texts: &[Vec<u8>]) -> Judgement {
    match of_version(texts, "v=TLSRPTv1")[..] {
        [] => Missing,
        [one] => match tags(one).and_then(|tags| value(&tags, "rua")) {
            Some(rua) if rua.starts_with("mailto:") || rua.starts_with("https:") => {
                Good(format!("TLS-RPT: reports go to {}", shown(rua)))
            }
            _ => Wrong(format!("TLS-RPT: rua= names nobody to report to: {}", shown(one))),
        },
        ref more => Wrong(format!("TLS-RPT: {} records count as none; make one of them", more.len())),
    }
}

/// The record that announces a policy, at `_mta-sts.DOMAIN` (RFC 8461 §3.1).
pub fn mta_sts(texts: &[Vec<u8>]) -> Judgement {
    match of_version(texts, "v=STSv1")[..] {
        [] => Missing,
        [one] => match mta_sts::id(one) {
            Some(id) => Good(format!("MTA-STS: the policy {id} is announced")),
            None => Wrong(format!("MTA-STS: id= is not 1 to 32 letters and digits: {}", shown(one))),
        },
        ref more => Wrong(format!("MTA-STS: {} records count as none; make one of them", more.len())),
    }
}

#[cfg(test)]
mod tests {
    use base::Timestamp;

    use super::*;
    use crate::{Algorithm, State};

    fn texts(all: &[&str]) -> Vec<Vec<u8>> {
        all.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    /// The judgement as a letter: what it says is for people.
    fn letter(judged: &Judgement) -> char {
        match judged {
            Good(_) => 'g',
            Doubt(_) => 'd',
            Wrong(_) => 'w',
            Missing => 'm',
        }
    }

    fn public(algorithm: Algorithm) -> PublicKey {
        PublicKey { selector: "s".into(), algorithm, key: "QUJD".into(), state: State::Active, since: Timestamp(0) }
    }

    #[test]
    fn trap_14_records_of_keys() {
        for (records, rsa, ed) in [
            (&[][..], 'm', 'm'),
            (&["v=DKIM1; k=rsa; p=QUJD"][..], 'g', 'w'),
            (&["v=DKIM1; k=ed25519; p=QUJD;"], 'w', 'g'),
            (&["p=QU JD"], 'g', 'w'),
            (&[" k=rsa ; h=sha1:sha256; s=email:x; p = QUJD ; n=x"], 'g', 'w'),
            (&["v=DKIM1; p=QUJD; s=*"], 'g', 'w'),
            (&["v=DKIM1; p=QUJD; t=s:y"], 'd', 'w'),
            (&["v=DKIM1; p=QUJD; h=sha1"], 'w', 'w'),
            (&["v=DKIM1; p=QUJD; s=tlsrpt"], 'w', 'w'),
            (&["k=rsa; v=DKIM1; p=QUJD"], 'w', 'w'),
            (&["v=DKIM2; p=QUJD"], 'w', 'w'),
            (&["v=DKIM1; p="], 'w', 'w'),
            (&["v=DKIM1; p=QUJE"], 'w', 'w'),
            (&["v=DKIM1; p=QUJD; p=QUJD"], 'w', 'w'),
            (&["some words"], 'w', 'w'),
            (&["\u{fc}"], 'w', 'w'),
            (&["v=DKIM1; p=QUJD", "v=DKIM1; p=QUJD"], 'w', 'w'),
        ] {
            let judged = [Algorithm::Rsa, Algorithm::Ed25519].map(|how| letter(&key(&public(how), &texts(records))));
            assert_eq!(judged, [rsa, ed], "{records:?}");
        }
    }

    #[test]
    fn trap_27_what_the_dns_says_does_not_speak_to_a_terminal() {
        let hostile = |begin: &str| texts(&[&format!("{begin}\u{1b}[2J\n{}", "x".repeat(10_000))]);
        for judged in [
            key(&public(Algorithm::Rsa), &hostile("")),
            spf(&hostile("v=spf1 include:"), "mx.x.test", true),
            spf(&hostile("v=spf1 "), "mx.x.test", true),
            dmarc(&hostile("v=DMARC1; p=")),
            dmarc(&hostile("v=DMARC1; ")),
            tls_rpt(&hostile("v=TLSRPTv1; rua=mailto:")),
            tls_rpt(&hostile("v=TLSRPTv1; rua=")),
            mta_sts(&hostile("v=STSv1; id=")),
        ] {
            let (Good(words) | Doubt(words) | Wrong(words)) = &judged else { panic!("{judged:?}") };
            assert!(words.len() < 400 && !words.contains(char::is_control), "{words:?}");
        }
    }

    #[test]
    fn trap_13_records_of_spf() {
        for (records, mx, expected) in [
            (&["other"][..], true, 'm'),
            (&["v=spf10 mx"], true, 'm'),
            (&["v=spf1 mx -all", "x"], true, 'g'),
            (&["V=spf1 mx -all"], true, 'm'),
            (&["v=spf1 mx -all"], false, 'w'),
            (&["v=spf1 +MX ~all"], true, 'g'),
            (&["v=spf1 a:Mx.x.test. -all"], false, 'g'),
            (&["v=spf1 include:b.test -all"], true, 'd'),
            (&["v=spf1 redirect=b.test"], true, 'd'),
            (&["v=spf1 ip4:192.0.2.1 -all"], true, 'd'),
            (&["v=spf1 -mx -all"], true, 'w'),
            (&["v=spf1 -all mx"], true, 'w'),
            (&["v=spf1"], true, 'w'),
            (&["v=spf1 mx +all"], true, 'w'),
            (&["v=spf1 mx all"], true, 'w'),
            (&["v=spf1 mx -all", "v=spf1 -all"], true, 'w'),
        ] {
            assert_eq!(letter(&spf(&texts(records), "mx.x.test", mx)), expected, "{records:?} {mx}");
        }
        assert_eq!(letter(&spf(&texts(&["v=spf1 ip6:2001:DB8::1 ~all"]), "2001:db8::1", false)), 'g');
    }

    #[test]
    fn records_of_dmarc_tls_rpt_and_mta_sts() {
        for (judge, records, expected) in [
            (dmarc as fn(&[Vec<u8>]) -> Judgement, &["x"][..], 'm'),
            (dmarc, &["v=DMARC1; p=none; rua=mailto:a@x.test", "y"], 'g'),
            (dmarc, &["v=DMARC1;p=REJECT;"], 'g'),
            (dmarc, &["v=DMARC1"], 'w'),
            (dmarc, &["v=DMARC1; p=maybe"], 'w'),
            (dmarc, &["v=DMARC1; p=none; p=reject"], 'w'),
            (dmarc, &["v=DMARC1; p=none", "v=DMARC1; p=none"], 'w'),
            (tls_rpt, &[], 'm'),
            (tls_rpt, &["v=TLSRPTv1; rua=mailto:a@x.test"], 'g'),
            (tls_rpt, &["v=TLSRPTv1;rua=ftp:x"], 'w'),
            (mta_sts, &["v=STSv10; id=1"], 'm'),
            (mta_sts, &["v=STSv1; id=20251122T0;"], 'g'),
            (mta_sts, &["v=STSv1; id=a-b;"], 'w'),
            (mta_sts, &["v=STSv1; id=1;", "v=STSv1; id=2"], 'w'),
        ] {
            assert_eq!(letter(&judge(&texts(records))), expected, "{records:?}");
        }
    }
}
