//! Reports about TLS (RFC 8460): what came of it with the hosts of domains that have a policy is counted by day, and told to
//! those domains that ask for it. The tables, the JSON and the mail; whoever sends counts, and asks the DNS.

use std::fmt::Write as _;
use std::io::Write as _;

use base::{Address, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use store::{Tx, params};

use crate::judge::{of_version, tags, value};

pub(crate) const TABLE: &str = "
CREATE TABLE tls_sessions (day {int} NOT NULL, domain {text} NOT NULL, kind {int} NOT NULL, name {text} NOT NULL,
    policy {text} NOT NULL, hosts {text} NOT NULL, good {int} NOT NULL, bad {int} NOT NULL,
    PRIMARY KEY (day, domain, kind, name)) {clustered};
CREATE TABLE tls_failures (day {int} NOT NULL, domain {text} NOT NULL, kind {int} NOT NULL, name {text} NOT NULL,
    result {int} NOT NULL, host {text} NOT NULL, ip {text} NOT NULL, sender {text} NOT NULL, why {text} NOT NULL,
    n {int} NOT NULL, PRIMARY KEY (day, domain, kind, name, result, host, ip)) {clustered};
";

store::statements! { include_str!("../sql/tls_report.sql");
    SESSIONS_ADD = "sessions_add",
    SESSIONS_MORE = "sessions_more",
    SESSIONS_ROWS = "sessions_rows",
    SESSIONS_OF = "sessions_of",
    SESSIONS_DAYS = "sessions_days",
    SESSIONS_REMOVE = "sessions_remove",
    FAILURES_ADD = "failures_add",
    FAILURES_MORE = "failures_more",
    FAILURES_ROWS = "failures_rows",
    FAILURES_OF = "failures_of",
    FAILURES_REMOVE = "failures_remove",
}

/// Policies, and kinds of failures, of one domain and day; what is beyond is not told.
const POLICIES: i64 = 50;
const FAILURES: i64 = 100;
/// Whom one record may name to be told.
const TOLD: usize = 5;
const DAY: i64 = 86_400_000;

/// The media type of a report (RFC 8460 §6.4).
pub const MEDIA: &str = "application/tlsrpt+gzip";

/// Where a domain (A-labels) says whom to tell (§3).
pub fn record_name(domain: &str) -> String {
    format!("_smtp._tls.{domain}")
}

/// The day of a moment, in UTC, since 1970.
pub fn day_of(at: Timestamp) -> i64 {
    at.0.div_euclid(DAY)
}

/// When a day is over.
pub fn end_of(day: i64) -> Timestamp {
    Timestamp((day + 1) * DAY)
}

/// What kind of policy it is (§4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// DANE.
    Tlsa,
    /// MTA-STS.
    Sts,
}

/// How a session failed (§4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ResultType {
    StartTlsNotSupported,
    CertificateHostMismatch,
    CertificateExpired,
    CertificateNotTrusted,
    ValidationFailure,
    /// There is a policy, and it cannot be had.
    StsPolicyFetchError,
}

const RESULTS: [(ResultType, &str); 6] = [
    (ResultType::StartTlsNotSupported, "starttls-not-supported"),
    (ResultType::CertificateHostMismatch, "certificate-host-mismatch"),
    (ResultType::CertificateExpired, "certificate-expired"),
    (ResultType::CertificateNotTrusted, "certificate-not-trusted"),
    (ResultType::ValidationFailure, "validation-failure"),
    (ResultType::StsPolicyFetchError, "sts-policy-fetch-error"),
];

/// A policy that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Applied {
    /// Its kind.
    pub kind: Kind,
    /// What tells it from others of its kind: an id, a host.
    pub name: String,
    /// Its lines.
    pub lines: Vec<String>,
    /// The hosts that it is for, as it names them.
    pub hosts: Vec<String>,
}

/// A kind of failure.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// How.
    pub result: ResultType,
    /// With which host; empty where none was asked.
    pub host: String,
    /// At which address.
    pub ip: String,
    /// From which of ours.
    pub sender: String,
    /// More about it.
    pub why: String,
}

/// What came of sessions by one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// The policy.
    pub applied: Applied,
    /// How many fulfilled it.
    pub good: u64,
    /// How many did not.
    pub bad: u64,
    /// Those, by kind.
    pub failures: Vec<(Failure, u64)>,
}

/// Adds sessions to what is known of a domain's day.
///
/// # Errors
/// The store's.
pub fn add(tx: &mut Tx<'_>, day: i64, domain: &str, sessions: &Sessions) -> store::Result<()> {
    let Applied { kind, name, lines, hosts } = &sessions.applied;
    let (kind, name) = (*kind as i64 + 1, name.as_str());
    let (lines, hosts) = (lines.join("\n"), hosts.join(" "));
    let (good, bad) = (sessions.good as i64, sessions.bad as i64);
    let row = params![day, domain, kind, name, lines.as_str(), hosts.as_str(), good, bad];
    if tx.execute(&SESSIONS_MORE, row)? == 0 {
        if tx.row(&SESSIONS_ROWS, params![day, domain], |r| r.int(0))?.unwrap_or(0) >= POLICIES {
            return Ok(());
        }
        tx.execute(&SESSIONS_ADD, row)?;
    }
    if sessions.failures.is_empty() {
        return Ok(());
    }
    let mut rows = tx.row(&FAILURES_ROWS, params![day, domain], |r| r.int(0))?.unwrap_or(0);
    for (failure, n) in &sessions.failures {
        let Failure { result, host, ip, sender, why } = failure;
        let (result, host, ip, n) = (*result as i64, host.as_str(), ip.as_str(), *n as i64);
        let known = tx.execute(&FAILURES_MORE, params![day, domain, kind, name, result, host, ip, n])?;
        if known == 0 && rows < FAILURES {
            let (sender, why) = (sender.as_str(), why.as_str());
            tx.execute(&FAILURES_ADD, params![day, domain, kind, name, result, host, ip, sender, why, n])?;
            rows += 1;
        }
    }
    Ok(())
}

/// Days before `day`, each with a domain, of which something is to be told; at most so many, in order, behind the one that is
/// named.
///
/// # Errors
/// The store's.
pub fn untold(tx: &mut Tx<'_>, day: i64, behind: (i64, &str), most: i64) -> store::Result<Vec<(i64, String)>> {
    tx.list(&SESSIONS_DAYS, params![day, behind.0, behind.1, most], |r| Ok((r.int(0)?, r.text(1)?.to_owned())))
}

/// What is known of a domain's day.
///
/// # Errors
/// The store's.
pub fn of(tx: &mut Tx<'_>, day: i64, domain: &str) -> store::Result<Vec<Sessions>> {
    let mut all = tx.list(&SESSIONS_OF, params![day, domain], |r| {
        let kind = if r.int(0)? == Kind::Tlsa as i64 + 1 { Kind::Tlsa } else { Kind::Sts };
        let lines = r.text(2)?.lines().map(str::to_owned).collect();
        let hosts = r.text(3)?.split_ascii_whitespace().map(str::to_owned).collect();
        let applied = Applied { kind, name: r.text(1)?.to_owned(), lines, hosts };
        Ok(Sessions { applied, good: r.int(4)? as u64, bad: r.int(5)? as u64, failures: Vec::new() })
    })?;
    for sessions in &mut all {
        let (kind, name) = (sessions.applied.kind as i64 + 1, sessions.applied.name.as_str());
        sessions.failures = tx.list(&FAILURES_OF, params![day, domain, kind, name], |r| {
            let result = usize::try_from(r.int(0)?).ok().and_then(|at| RESULTS.get(at));
            let (result, _) = *result.ok_or_else(|| store::Error::Corrupt("trust: result of a session".into()))?;
            let text = |at| r.text(at).map(str::to_owned);
            Ok((Failure { result, host: text(1)?, ip: text(2)?, sender: text(3)?, why: text(4)? }, r.int(5)? as u64))
        })?;
    }
    Ok(all)
}

/// Forgets a domain's day: it was told, or nobody wants to hear.
///
/// # Errors
/// The store's.
pub fn told(tx: &mut Tx<'_>, day: i64, domain: &str) -> store::Result<()> {
    tx.execute(&SESSIONS_REMOVE, params![day, domain])?;
    tx.execute(&FAILURES_REMOVE, params![day, domain]).map(drop)
}

/// Who is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reader {
    /// By mail.
    Mail(Address),
    /// By HTTPS, at this URL.
    Https(String),
}

/// Whom the TXT records at [`record_name`] name (§3): at most five.
pub fn readers(texts: &[Vec<u8>]) -> Vec<Reader> {
    let [record] = of_version(texts, "v=TLSRPTv1")[..] else { return Vec::new() };
    let Some(tags) = tags(record) else { return Vec::new() };
    let reader = |uri: &str| {
        let uri = uri.trim();
        match uri.split_once(':')? {
            (scheme, rest) if scheme.eq_ignore_ascii_case("mailto") => {
                // RFC 6068: fields after `?` are none of ours.
                let address = rest.split('?').next().unwrap_or("");
                Address::parse(&unescaped(address)?).ok().map(Reader::Mail)
            }
            (scheme, _) if scheme.eq_ignore_ascii_case("https") => Some(Reader::Https(uri.to_owned())),
            _ => None,
        }
    };
    value(&tags, "rua").into_iter().flat_map(|all| all.split(',')).filter_map(reader).take(TOLD).collect()
}

/// RFC 3986 §2.1.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

/// What is told of a domain's day.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Our name.
    pub hostname: &'a str,
    /// The address of ours that answers questions, and in whose name it is sent.
    pub contact: &'a Address,
    /// The domain that it is about.
    pub domain: &'a str,
    /// The day.
    pub day: i64,
    /// Makes its id unlike any other.
    pub random: u64,
    /// What came of its sessions.
    pub sessions: &'a [Sessions],
}

impl Report<'_> {
    /// `2025-11-22.1f0e…@mx.example.org`: the day and something nobody else has.
    fn id(&self) -> String {
        format!("{}.{:016x}@{}", crate::day(Timestamp(self.day * DAY)), self.random, self.hostname)
    }

    /// The report itself (§4.4).
    pub fn json(&self) -> String {
        let (start, end) = (Timestamp(self.day * DAY), Timestamp(end_of(self.day).0 - 1000));
        let policies: Vec<Value> = self.sessions.iter().map(|s| policy(self.domain, s)).collect();
        json!({
            "organization-name": self.contact.domain(),
            "date-range": { "start-datetime": start.rfc3339(), "end-datetime": end.rfc3339() },
            "contact-info": self.contact.to_string(),
            "report-id": self.id(),
            "policies": policies,
        })
        .to_string()
    }

    /// The same, compressed.
    ///
    /// # Errors
    /// None that memory does not give.
    pub fn gzip(&self) -> std::io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(self.json().as_bytes())?;
        encoder.finish()
    }

    /// The mail (§5.3), without what the server that sends it puts before it.
    ///
    /// # Errors
    /// Those of [`Report::gzip`].
    pub fn mail(&self, to: &Address, now: Timestamp) -> std::io::Result<String> {
        let (id, domain, hostname, contact) = (self.id(), self.domain, self.hostname, self.contact);
        let boundary = format!("=_{:016x}", self.random);
        let (begin, end) = (self.day * DAY / 1000, end_of(self.day).secs() - 1);
        let file = format!("{hostname}!{domain}!{begin}!{end}!{:016x}.json.gz", self.random);
        let (good, bad) = self.sessions.iter().fold((0, 0), |(good, bad), s| (good + s.good, bad + s.bad));
        let mut out = format!(
            "From: <{contact}>\r\nTo: <{to}>\r\nDate: {}\r\nMessage-ID: <tls.{id}>\r\n\
             Subject: Report Domain: {domain}\r\n Submitter: {hostname}\r\n Report-ID: <{id}>\r\n\
             TLS-Report-Domain: {domain}\r\nTLS-Report-Submitter: {hostname}\r\n\
             Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n\tboundary=\"{boundary}\"\r\n\r\n",
            now.rfc5322()
        );
        let _ = write!(
            out,
            "--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
             This is a report of the mail server {hostname}\r\nabout TLS with the mail hosts of {domain}\r\n\
             on {}: {good} sessions as the domain's policies want them, {bad} not.\r\n\r\n\
             --{boundary}\r\nContent-Type: {MEDIA}\r\nContent-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment;\r\n\tfilename=\"{file}\"\r\n\r\n",
            crate::day(Timestamp(self.day * DAY))
        );
        let body = STANDARD.encode(self.gzip()?);
        for at in (0..body.len()).step_by(76) {
            out.push_str(&body[at..body.len().min(at + 76)]);
            out.push_str("\r\n");
        }
        let _ = write!(out, "\r\n--{boundary}--\r\n");
        Ok(out)
    }
}

fn policy(domain: &str, sessions: &Sessions) -> Value {
    let Applied { kind, lines, hosts, .. } = &sessions.applied;
    let kind = match kind {
        Kind::Tlsa => "tlsa",
        Kind::Sts => "sts",
    };
    let failures: Vec<Value> = sessions.failures.iter().map(|(failure, n)| detail(failure, *n)).collect();
    json!({
        "policy": { "policy-type": kind, "policy-string": lines, "policy-domain": domain, "mx-host": hosts },
        "summary": {
            "total-successful-session-count": sessions.good,
            "total-failure-session-count": sessions.bad,
        },
        "failure-details": failures,
    })
}

fn detail(failure: &Failure, n: u64) -> Value {
    let (_, result) = RESULTS[failure.result as usize];
    let mut detail = json!({ "result-type": result, "failed-session-count": n });
    for (key, text) in [
        ("sending-mta-ip", &failure.sender),
        ("receiving-mx-hostname", &failure.host),
        ("receiving-ip", &failure.ip),
        ("failure-reason-code", &failure.why),
    ] {
        if !text.is_empty() {
            detail[key] = Value::String(text.clone());
        }
    }
    detail
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn texts(record: &str) -> Vec<Vec<u8>> {
        vec![b"other".to_vec(), record.as_bytes().to_vec()]
    }

    /// RFC 8460 §3.1.1 and its grammar.
    #[test]
    fn whom_a_domain_names() {
        let mail = |address: &str| Reader::Mail(Address::parse(address).unwrap());
        for (record, expected) in [
            ("v=TLSRPTv1; rua=mailto:reports@example.com", vec![mail("reports@example.com")]),
            (
                "v=TLSRPTv1;rua=https://reporting.example.com/v1/tlsrpt",
                vec![Reader::Https("https://reporting.example.com/v1/tlsrpt".into())],
            ),
            (
                "v=TLSRPTv1; rua=MAILTO:a%2Bb@x.test?subject=hi , http://x.test/,mailto:c@x.test;",
                vec![mail("a+b@x.test"), mail("c@x.test")],
            ),
            ("v=TLSRPTv1; rua=mailto:a%2", vec![]),
            ("v=TLSRPTv1; rua=mailto:a", vec![]),
            ("v=TLSRPTv2; rua=mailto:a@x.test", vec![]),
            ("v=TLSRPTv1", vec![]),
        ] {
            assert_eq!(readers(&texts(record)), expected, "{record}");
        }
        let many = format!("v=TLSRPTv1; rua={}", ["mailto:a@x.test"; 9].join(","));
        assert_eq!(readers(&texts(&many)).len(), 5);
        let twice = [texts("v=TLSRPTv1; rua=mailto:a@x.test"), texts("v=TLSRPTv1; rua=mailto:a@x.test")].concat();
        assert_eq!(readers(&twice), []);
    }

    #[test]
    fn results_are_stored_by_their_place() {
        for (at, (result, _)) in RESULTS.iter().enumerate() {
            assert_eq!(*result as usize, at);
        }
    }

    fn sessions() -> Vec<Sessions> {
        let applied = Applied {
            kind: Kind::Sts,
            name: "1".into(),
            lines: ["version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"]
                .map(str::to_owned)
                .to_vec(),
            hosts: vec!["*.mail.company-y.example".into()],
        };
        let failure = Failure {
            result: ResultType::CertificateExpired,
            host: "mx1.mail.company-y.example".into(),
            ip: "203.0.113.56".into(),
            sender: "2001:db8:abcd:12::1".into(),
            why: String::new(),
        };
        vec![Sessions { applied, good: 5326, bad: 303, failures: vec![(failure, 100)] }]
    }

    /// The example of RFC 8460 Appendix B, of its first kind of failure, with our names.
    #[test]
    fn a_report_as_rfc_8460_has_it() {
        let (contact, to) = ("sts-reporting@company-x.example", "reports@company-y.example");
        let (contact, to) = (Address::parse(contact).unwrap(), Address::parse(to).unwrap());
        let sessions = sessions();
        // 2016-04-01.
        let report = Report {
            hostname: "mx.company-x.example",
            contact: &contact,
            domain: "company-y.example",
            day: 16_892,
            random: 7,
            sessions: &sessions,
        };
        let expected: Value = serde_json::from_str(
            r#"{"organization-name": "company-x.example",
                "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
                "contact-info": "sts-reporting@company-x.example",
                "report-id": "2016-04-01.0000000000000007@mx.company-x.example",
                "policies": [{
                    "policy": {"policy-type": "sts",
                        "policy-string": ["version: STSv1","mode: testing","mx: *.mail.company-y.example","max_age: 86400"],
                        "policy-domain": "company-y.example", "mx-host": ["*.mail.company-y.example"]},
                    "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
                    "failure-details": [{"result-type": "certificate-expired", "sending-mta-ip": "2001:db8:abcd:12::1",
                        "receiving-mx-hostname": "mx1.mail.company-y.example", "receiving-ip": "203.0.113.56",
                        "failed-session-count": 100}]}]}"#,
        )
        .unwrap();
        assert_eq!(serde_json::from_str::<Value>(&report.json()).unwrap(), expected);
        let mail = report.mail(&to, Timestamp::from_secs(1_459_555_200)).unwrap();
        for line in [
            "From: <sts-reporting@company-x.example>",
            "Subject: Report Domain: company-y.example",
            "TLS-Report-Domain: company-y.example",
            "TLS-Report-Submitter: mx.company-x.example",
            "Content-Type: multipart/report; report-type=\"tlsrpt\";",
            "Content-Type: application/tlsrpt+gzip",
            "\tfilename=\"mx.company-x.example!company-y.example!1459468800!1459555199!0000000000000007.json.gz\"",
        ] {
            assert!(mail.split("\r\n").any(|l| l == line), "{line}\n{mail}");
        }
        assert!(mail.is_ascii() && mail.split("\r\n").all(|line| line.len() < 998 && !line.contains('\n')));
        let (_, rest) = mail.split_once(".json.gz\"\r\n\r\n").unwrap();
        let body: String = rest.split("\r\n\r\n").next().unwrap().split("\r\n").collect();
        let mut text = String::new();
        GzDecoder::new(&STANDARD.decode(body).unwrap()[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, report.json());
    }
}
