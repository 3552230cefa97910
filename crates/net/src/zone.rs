//! The resolver's form in memory: a table that a test writes down.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::dns::{normal, reverse};
use crate::resolve::{Data, Record};
use crate::{DnsError, Tlsa};

/// A table of DNS records, for tests of the floors above.
///
/// Names that have no record of any type do not exist. A name that is not one is a mistake in the test, and is kept as
/// it is: nobody will find it.
///
/// ```
/// use net::{Resolver, Zone};
/// let dns = Resolver::memory(
///     Zone::default().mx("example.test", 10, "mx1.example.test").ip("mx1.example.test", "192.0.2.25".parse().unwrap()),
/// );
/// ```
#[derive(Clone, Debug, Default)]
pub struct Zone {
    names: HashMap<String, Vec<Entry>>,
    signed: HashSet<String>,
    unvalidated: bool,
}

#[derive(Clone, Debug)]
enum Entry {
    Data(Data),
    Fails,
    Silent,
}

impl Zone {
    fn with(mut self, name: &str, entry: Entry) -> Self {
        self.names.entry(lower(name)).or_default().push(entry);
        self
    }

    /// Adds an MX record. The host `.` makes it a null MX (RFC 7505).
    #[must_use]
    pub fn mx(self, domain: &str, preference: u16, host: &str) -> Self {
        let host = if host == "." { String::new() } else { lower(host) };
        self.with(domain, Entry::Data(Data::Mx(preference, host)))
    }

    /// Adds an A or AAAA record.
    #[must_use]
    pub fn ip(self, host: &str, ip: IpAddr) -> Self {
        self.with(host, Entry::Data(Data::Ip(ip)))
    }

    /// Adds a TXT record.
    #[must_use]
    pub fn txt(self, name: &str, text: &str) -> Self {
        self.with(name, Entry::Data(Data::Txt(text.into())))
    }

    /// Adds a PTR record.
    #[must_use]
    pub fn ptr(self, ip: IpAddr, name: &str) -> Self {
        self.with(&reverse(ip), Entry::Data(Data::Ptr(lower(name))))
    }

    /// Makes `alias` another name of `target`.
    #[must_use]
    pub fn cname(self, alias: &str, target: &str) -> Self {
        self.with(alias, Entry::Data(Data::Cname(lower(target))))
    }

    /// The servers of `name` fail (SERVFAIL).
    #[must_use]
    pub fn fails(self, name: &str) -> Self {
        self.with(name, Entry::Fails)
    }

    /// The servers of `name` never answer.
    #[must_use]
    pub fn silent(self, name: &str) -> Self {
        self.with(name, Entry::Silent)
    }

    /// Adds a TLSA record for mail (port 25).
    #[must_use]
    pub fn tlsa(self, host: &str, record: Tlsa) -> Self {
        self.with(&format!("_25._tcp.{host}"), Entry::Data(Data::Tlsa(record)))
    }

    /// Takes away all that a name has.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.names.remove(&lower(name));
        self
    }

    /// DNSSEC proves what `name` has.
    #[must_use]
    pub fn signed(mut self, name: &str) -> Self {
        self.signed.insert(lower(name));
        self
    }

    /// The resolver passes nothing on by which DNSSEC proves anything.
    #[must_use]
    pub fn without_dnssec(self) -> Self {
        Zone { signed: HashSet::new(), unvalidated: true, ..self }
    }

    pub(crate) fn validates(&self) -> bool {
        !self.unvalidated
    }

    /// What a recursive server would answer: the aliases passed, and the records of their last name. None: it never does.
    pub(crate) fn ask(&self, name: &str) -> Option<Result<Vec<Record>, DnsError>> {
        let mut answer = Vec::new();
        let mut at = name.to_owned();
        // An alias that leads to itself is cut off after a while, as real servers do.
        for _ in 0..20 {
            let Some(entries) = self.names.get(&at) else { return Some(Err(DnsError::NoSuchName)) };
            let mut next = None;
            for entry in entries {
                match entry {
                    Entry::Fails => return Some(Err(DnsError::Transient("SERVFAIL".into()))),
                    Entry::Silent => return None,
                    Entry::Data(data) => {
                        if let Data::Cname(target) = data {
                            next = Some(target.clone());
                        }
                        answer.push(Record {
                            owner: at.clone(),
                            data: data.clone(),
                            secure: self.signed.contains(&at),
                        });
                    }
                }
            }
            match next {
                Some(target) => at = target,
                None => break,
            }
        }
        Some(Ok(answer))
    }
}

fn lower(name: &str) -> String {
    normal(name).unwrap_or_else(|_| name.to_owned())
}
