//! `postroom.toml`: where to listen, where the data is, who is trusted. Everything else lives in the store.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use base::Address;
use net::{Cidr, ListenAddr};
use outbox::{HostPort, Smarthost};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::de::{DeArray, DeTable};

use crate::telemetry::TelemetryConfig;
use crate::webhooks::Where;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Our name: in greetings, `Received` and Message-IDs.
    pub hostname: String,
    /// Who the server becomes once its ports are open, when it is started as root.
    pub user: Option<String>,
    /// Where everything is kept; relative to the file.
    pub data: PathBuf,
    /// Where to listen.
    #[serde(default)]
    pub listen: Listen,
    /// Who is trusted.
    #[serde(default)]
    pub network: Network,
    /// In place of the internet.
    pub laboratory: Option<Laboratory>,
    /// How users sign in.
    #[serde(default)]
    pub sign_in: SignIn,
    /// The certificates; without any, one is made.
    #[serde(default)]
    pub tls: Certificates,
    /// An authority that issues one.
    pub acme: Option<AcmeConfig>,
    /// Which engine keeps the tables.
    #[serde(default)]
    pub store: StoreConfig,
    /// Which of several servers on one PostgreSQL this is.
    #[serde(default)]
    pub node: NodeConfig,
    /// Domains whose mail goes to a fixed next hop: `"example.org" = "192.0.2.1:25"`.
    #[serde(default)]
    pub routes: BTreeMap<String, Parsed<HostPort>>,
    /// How long receipts are kept.
    #[serde(default)]
    pub receipts: ReceiptsConfig,
    /// What programs are told.
    #[serde(default)]
    pub events: EventsConfig,
    /// Where those may be who are told by requests.
    #[serde(default)]
    pub webhooks: WebhooksConfig,
    /// How mail is signed.
    #[serde(default)]
    pub dkim: DkimConfig,
    /// Where traces are told.
    pub telemetry: Option<TelemetryConfig>,
    /// What hosts are shown that ask for a certificate of ours when we send.
    pub client_certificate: Option<TlsFiles>,
    /// A host that takes all other mail for elsewhere.
    pub smarthost: Option<SmarthostConfig>,
    /// The largest mail, in octets.
    #[serde(default = "max_message")]
    pub max_message: u64,
    /// The file itself, and what it says: mistakes are told by their line.
    #[serde(skip)]
    file: (PathBuf, String),
}

fn max_message() -> u64 {
    50 << 20
}

/// Addresses to listen on, by what is spoken there; each one address or a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Other servers bring mail: port 25.
    pub smtp: Many<Parsed<ListenAddr>>,
    /// Users' programs send, a second port: 2525.
    pub alternative: Many<Parsed<ListenAddr>>,
    /// Users' programs send, STARTTLS: 587.
    pub submission: Many<Parsed<ListenAddr>>,
    /// Users' programs send, TLS: 465.
    pub submissions: Many<Parsed<ListenAddr>>,
    /// Local delivery: loopback or a Unix socket only.
    pub lmtp: Many<Parsed<ListenAddr>>,
    /// The mode of LMTP's Unix socket, `0o660`; None: for our user only.
    pub lmtp_mode: Option<u32>,
    /// 143.
    pub imap: Many<Parsed<ListenAddr>>,
    /// 993.
    pub imaps: Many<Parsed<ListenAddr>>,
    /// 110.
    pub pop3: Many<Parsed<ListenAddr>>,
    /// 995.
    pub pop3s: Many<Parsed<ListenAddr>>,
    /// `/healthz` and `/metrics`: loopback only.
    pub http: Many<Parsed<ListenAddr>>,
    /// What the authority of `[acme]` asks: 80.
    pub acme_http: Many<Parsed<ListenAddr>>,
    /// The MTA-STS policies of our domains: 443.
    pub https: Many<Parsed<ListenAddr>>,
}

impl Listen {
    /// Every address, with its key and its place in that key's list.
    fn all(&self) -> impl Iterator<Item = (&'static str, usize, &ListenAddr)> {
        let keys = [
            ("smtp", &self.smtp),
            ("alternative", &self.alternative),
            ("submission", &self.submission),
            ("submissions", &self.submissions),
            ("lmtp", &self.lmtp),
            ("imap", &self.imap),
            ("imaps", &self.imaps),
            ("pop3", &self.pop3),
            ("pop3s", &self.pop3s),
            ("http", &self.http),
            ("acme_http", &self.acme_http),
            ("https", &self.https),
        ];
        keys.into_iter().flat_map(|(key, list)| list.iter().enumerate().map(move |(n, addr)| (key, n, addr)))
    }
}

/// Who is trusted; nobody by default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// May send to other hosts without signing in.
    pub trusted: Vec<Parsed<Cidr>>,
    /// Passwords may come without TLS from this machine.
    pub cleartext_login_on_loopback: bool,
    /// Whose connections begin with a PROXY header.
    pub proxy_protocol_from: Vec<Parsed<Cidr>>,
}

/// An internet on this machine, for tests of the whole server: nothing leaves it. All three are needed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Laboratory {
    /// Its DNS.
    pub dns: SocketAddr,
    /// A file with the DNSKEY of its root.
    pub anchor: PathBuf,
    /// A file with certificates of its authorities (PEM).
    pub roots: PathBuf,
}

/// How users sign in.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignIn {
    /// Offer SCRAM-SHA-256 (and -PLUS): for app passwords. Programs that prefer it fail with a chosen password.
    pub scram: bool,
}

/// A host that takes all our mail for elsewhere.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmarthostConfig {
    /// Host and port; on 465 TLS comes first.
    pub address: Parsed<HostPort>,
    /// Who we sign in as.
    pub user: Option<String>,
    /// A file whose first line is the password; relative to the configuration.
    pub password_file: Option<PathBuf>,
}

impl SmarthostConfig {
    /// Reads the password.
    ///
    /// # Errors
    /// The key that is wrong, and why, in words for the administrator.
    fn open(&self) -> Result<Smarthost, (&'static str, String)> {
        let login = match (&self.user, &self.password_file) {
            (None, None) => None,
            (Some(user), Some(file)) => {
                let text = std::fs::read_to_string(file);
                let text = text.map_err(|e| ("password_file", format!("[smarthost] {}: {e}", file.display())))?;
                Some((user.clone(), text.lines().next().unwrap_or("").to_owned()))
            }
            (user, _) => {
                let key = if user.is_some() { "user" } else { "password_file" };
                return Err((key, "[smarthost]: user and password_file go together".into()));
            }
        };
        Ok(Smarthost { address: self.address.0.clone(), login })
    }
}

/// `[tls]` for one certificate, `[[tls]]` for each of several. The first is for clients that name none of our hosts.
#[derive(Debug, Default)]
pub struct Certificates(pub Vec<TlsFiles>);

impl<'de> Deserialize<'de> for Certificates {
    /// By hand, because serde's untagged enums forget what is missing, and in which line.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Certificates;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[tls], or [[tls]] for each of several certificates")
            }

            fn visit_map<A: MapAccess<'de>>(self, one: A) -> Result<Certificates, A::Error> {
                TlsFiles::deserialize(MapAccessDeserializer::new(one)).map(|one| Certificates(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Certificates, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Certificates)
            }
        }

        d.deserialize_any(OneOrMore)
    }
}

/// A certificate on disk; relative to the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM: certificate, then chain.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// An authority that issues certificates (ACME, RFC 8555).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcmeConfig {
    /// The authority's terms of service are agreed to; nothing goes without.
    #[serde(default)]
    pub agree_to_terms: bool,
    /// Where the authority can reach a person.
    pub contact: Option<String>,
    /// For whom the certificate is; our hostname without.
    #[serde(default)]
    pub names: Vec<String>,
    /// Where the authority's directory is.
    #[serde(default = "lets_encrypt")]
    pub directory: String,
    /// Roots beside Mozilla's by which the authority's own server is verified, PEM; relative to the configuration.
    pub ca_file: Option<PathBuf>,
}

fn lets_encrypt() -> String {
    "https://acme-v02.api.letsencrypt.org/directory".into()
}

/// As many names as Let's Encrypt puts into one certificate.
const MOST_NAMES: usize = 100;

impl AcmeConfig {
    /// What types cannot say: where in `[acme]` it is, and what.
    fn check(&self) -> Result<(), (Vec<String>, String)> {
        let at = |key: &str| vec![key.to_owned()];
        if !self.agree_to_terms {
            let why = "read the terms of service of the authority, then say agree_to_terms = true";
            return Err((at("agree_to_terms"), why.into()));
        }
        if let Some(contact) = &self.contact {
            Address::parse(contact).map_err(|e| (at("contact"), format!("contact = {contact:?}: {e}")))?;
        }
        // HTTP-01 proves no wildcards (RFC 8555 §8.3), and authorities know no names without a dot.
        if let Some((n, name)) =
            self.names.iter().enumerate().find(|(_, name)| !is_host_name(name) || !name.contains('.'))
        {
            let why = format!("names: {name:?} is no host name like mail.example.org");
            return Err((vec!["names".into(), n.to_string()], why));
        }
        if self.names.len() > MOST_NAMES {
            return Err((at("names"), format!("names: more than {MOST_NAMES}")));
        }
        Ok(())
    }
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
}

/// Which engine keeps the tables, and how the packs are kept.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `sqlite`, or `postgres://user@host/database`.
    pub url: String,
    /// The directory of the packs, when several servers share them and a PostgreSQL; none is the data directory.
    pub shared: Option<PathBuf>,
    /// A pack of mailboxes' mail is full at this many octets.
    pub pack_octets: u64,
    /// With fewer octets free on the disk no new mail is taken; 0: never mind.
    pub reserve_octets: u64,
    /// Seconds from one look for dead space in the packs to the next.
    pub compact_seconds: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        StoreConfig {
            url: "sqlite".into(),
            shared: None,
            pack_octets: 1 << 30,
            reserve_octets: 256 << 20,
            compact_seconds: 3600,
        }
    }
}

/// One of several servers that share a PostgreSQL and a directory of packs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// What people call it; none is our host name.
    pub name: Option<String>,
    /// What it does.
    pub role: NodeRole,
}

/// What a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Everything; one at a time.
    #[default]
    All,
    /// It sends what is in the queue, beside the one that does everything.
    Send,
}

impl NodeConfig {
    /// Whether it is the one that does everything, and so looks after what all share.
    pub fn keeps(&self) -> bool {
        self.role == NodeRole::All
    }
}

/// How long receipts of mail that left are kept.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiptsConfig {
    /// Who, when, how it ended.
    pub days: u32,
    /// What was said.
    pub dialogue_days: u32,
}

impl Default for ReceiptsConfig {
    fn default() -> Self {
        ReceiptsConfig { days: 90, dialogue_days: 30 }
    }
}

impl ReceiptsConfig {
    /// For the sender.
    pub fn keep(&self) -> outbox::Keep {
        let days = |n: u32| Duration::from_secs(u64::from(n) * 24 * 3600);
        outbox::Keep { receipts: days(self.days), dialogues: days(self.dialogue_days) }
    }
}

/// How mail of ours is signed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DkimConfig {
    /// By DKIM2 too, which is a draft.
    pub dkim2: bool,
}

/// What programs are told of mail that leaves.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// A file that all events are appended to; relative to the configuration.
    pub file: Option<PathBuf>,
}

/// Where webhooks may be: public addresses, by https, and what is named here.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhooksConfig {
    /// Networks of ours; there they may have no TLS.
    pub networks: Vec<Parsed<Cidr>>,
    /// Roots beside Mozilla's by which they are verified, PEM; relative to the configuration.
    pub ca_file: Option<PathBuf>,
}

impl WebhooksConfig {
    /// For who tells them.
    pub fn place(&self) -> Where {
        Where { networks: self.networks.iter().map(|network| network.0).collect(), ca_file: self.ca_file.clone() }
    }
}

/// One, or a list.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    bound = "T: Deserialize<'de>",
    expecting = "expected an address like \"127.0.0.1:25\", \"[::]:25\" or \"unix:/path\", or a list of them"
)]
pub enum Many<T> {
    /// One.
    One(T),
    /// Any number.
    List(Vec<T>),
}

impl<T> Default for Many<T> {
    fn default() -> Self {
        Many::List(Vec::new())
    }
}

impl<T> Many<Parsed<T>> {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let all = match self {
            Many::One(one) => std::slice::from_ref(one),
            Many::List(list) => &list[..],
        };
        all.iter().map(|p| &p.0)
    }
}

/// A value written as text; a mistake in it is reported at its line.
#[derive(Debug)]
pub struct Parsed<T>(pub T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map(Parsed).map_err(de::Error::custom)
    }
}

impl Config {
    /// Reads the file; paths in it become relative to where it is.
    ///
    /// # Errors
    /// In words for the administrator, with the line.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Self::parse(path, text)
    }

    fn parse(path: &Path, text: String) -> Result<Self, String> {
        let config: Config =
            toml::from_str(&text).map_err(|e| format!("{}: {}", path.display(), e.to_string().trim_end()))?;
        let mut config = Config { file: (path.into(), text), ..config };
        let base = path.parent().unwrap_or(Path::new("."));
        config.data = base.join(&config.data);
        config.store.shared = config.store.shared.take().map(|shared| base.join(shared));
        for tls in config.tls.0.iter_mut().chain(&mut config.client_certificate) {
            tls.certificate = base.join(&tls.certificate);
            tls.key = base.join(&tls.key);
        }
        if let Some(file) = config.acme.as_mut().and_then(|acme| acme.ca_file.as_mut()) {
            *file = base.join(&file);
        }
        if let Some(Laboratory { anchor, roots, .. }) = &mut config.laboratory {
            (*anchor, *roots) = (base.join(&anchor), base.join(&roots));
        }
        if let Some(file) = config.webhooks.ca_file.as_mut() {
            *file = base.join(&file);
        }
        if let Some(file) = config.telemetry.as_mut().and_then(|telemetry| telemetry.ca_file.as_mut()) {
            *file = base.join(&file);
        }
        if let Some(file) = config.events.file.as_mut() {
            *file = base.join(&file);
        }
        if let Some(file) = config.smarthost.as_mut().and_then(|s| s.password_file.as_mut()) {
            *file = base.join(&file);
        }
        config.check()?;
        Ok(config)
    }

    /// Says where a mistake is: `key` is the path to it, of names, and of numbers (from 0) in lists.
    pub fn at(&self, key: &[&str], why: impl fmt::Display) -> String {
        let (path, text) = &self.file;
        match line(text, key) {
            Some(line) => format!("{}: line {line}: {why}", path.display()),
            None => format!("{}: {why}", path.display()),
        }
    }

    /// The next hops of domains that have a fixed one.
    ///
    /// # Errors
    /// In words for the administrator: what is no domain, or stands there twice.
    pub fn fixed_routes(&self) -> Result<BTreeMap<String, HostPort>, String> {
        let (mut routes, mut written) = (BTreeMap::new(), HashMap::new());
        for (domain, to) in &self.routes {
            let name = base::domain(domain);
            let name = name.map_err(|e| self.at(&["routes", domain], format!("[routes]: {domain}: {e}")))?;
            if let Some(other) = written.insert(name.clone(), domain) {
                // They come by name; of the file, the second is the mistake.
                let mut both = [other, domain];
                both.sort_by_key(|domain| line(&self.file.1, &["routes", domain]));
                let [first, second] = both;
                return Err(self.at(&["routes", second], format!("[routes]: {second} is the same domain as {first}")));
            }
            routes.insert(name, to.0.clone());
        }
        Ok(routes)
    }

    /// The smart host, with its password.
    ///
    /// # Errors
    /// In words for the administrator: that its file cannot be read, or half of a login is missing.
    pub fn smarthost(&self) -> Result<Option<Smarthost>, String> {
        let opened = self.smarthost.as_ref().map(SmarthostConfig::open).transpose();
        opened.map_err(|(key, why)| self.at(&["smarthost", key], why))
    }

    /// What types cannot say.
    fn check(&self) -> Result<(), String> {
        if !is_host_name(&self.hostname) {
            let why = format!("hostname = {:?}: a host name has letters, digits, hyphens and dots", self.hostname);
            return Err(self.at(&["hostname"], why));
        }
        if self.max_message < 64 * 1024 {
            let why = format!("max_message = {}: at least 65536 octets (RFC 5321 §4.5.3.1.7)", self.max_message);
            return Err(self.at(&["max_message"], why));
        }
        self.check_listen()?;
        self.check_acme()?;
        self.check_store()?;
        self.check_node()?;
        self.fixed_routes()?;
        self.smarthost()?;
        let telemetry = self.telemetry.as_ref().map(TelemetryConfig::check);
        telemetry
            .transpose()
            .map_err(|(key, why)| self.at(&["telemetry", key], format!("[telemetry] {key}: {why}")))?;
        Ok(())
    }

    fn check_listen(&self) -> Result<(), String> {
        let mut taken = HashMap::new();
        for (key, n, addr) in self.listen.all() {
            let wrong =
                |why: String| self.at(&["listen", key, &n.to_string()], format!("[listen] {key} = \"{addr}\": {why}"));
            let local = match addr {
                ListenAddr::Unix(_) => true,
                ListenAddr::Tcp(addr) => addr.ip().is_loopback(),
            };
            match key {
                "lmtp" if !local => {
                    return Err(wrong("LMTP trusts its peer, so it listens on loopback or a Unix socket only".into()));
                }
                "http" if !local => {
                    let why = "health and metrics are for this machine, so it listens on loopback only";
                    return Err(wrong(why.into()));
                }
                _ => {}
            }
            // Each listener on port 0 gets a free port of its own.
            let shared = matches!(addr, ListenAddr::Tcp(addr) if addr.port() == 0);
            if let Some(other) = taken.insert(addr.to_string(), key).filter(|_| !shared) {
                return Err(wrong(format!("that is where {other} listens")));
            }
        }
        if let Some(mode) = self.listen.lmtp_mode.filter(|mode| *mode > 0o777) {
            let why = format!("[listen] lmtp_mode = 0o{mode:o}: a mode is 0o777 at most, and begins with 0o");
            return Err(self.at(&["listen", "lmtp_mode"], why));
        }
        Ok(())
    }

    fn check_acme(&self) -> Result<(), String> {
        match (&self.acme, self.listen.acme_http.iter().next()) {
            (Some(acme), Some(_)) => acme.check().map_err(|(key, why)| {
                let key: Vec<&str> = std::iter::once("acme").chain(key.iter().map(String::as_str)).collect();
                self.at(&key, format!("[acme] {why}"))
            }),
            (Some(_), None) => {
                let why = "[acme]: the authority asks port 80: say [listen] acme_http = \"0.0.0.0:80\"";
                Err(self.at(&["acme"], why))
            }
            (None, Some(_)) => {
                Err(self.at(&["listen", "acme_http"], "[listen] acme_http: there is no [acme] that needs it"))
            }
            (None, None) => Ok(()),
        }
    }

    fn check_node(&self) -> Result<(), String> {
        if self.store.shared.is_some() && self.store.url == "sqlite" {
            let why = "[store] shared: only with PostgreSQL, as SQLite's tables are one process's";
            return Err(self.at(&["store", "shared"], why));
        }
        if self.node.keeps() {
            return Ok(());
        }
        if self.store.shared.is_none() {
            let why = "[node] role = \"send\": it needs [store] shared, the directory that it shares with the server beside \
                       which it sends";
            return Err(self.at(&["node", "role"], why));
        }
        match self.listen.all().find(|(key, ..)| *key != "http") {
            Some((key, ..)) => {
                let why =
                    format!("[listen] {key}: a server of [node] role = \"send\" takes no mail; http is for its health");
                Err(self.at(&["listen", key], why))
            }
            None => Ok(()),
        }
    }

    fn check_store(&self) -> Result<(), String> {
        let store = &self.store;
        let scheme = store.url.split_once("://").map(|(scheme, _)| scheme);
        if store.url != "sqlite" && !matches!(scheme, Some("postgres" | "postgresql")) {
            return Err(self.at(&["store", "url"], "[store] url: \"sqlite\", or \"postgres://user@host/database\""));
        }
        if !(64 << 10..16 << 30).contains(&store.pack_octets) {
            let why = format!("[store] pack_octets = {}: from 65536 up to 16 GiB", store.pack_octets);
            return Err(self.at(&["store", "pack_octets"], why));
        }
        if store.compact_seconds == 0 {
            return Err(self.at(&["store", "compact_seconds"], "[store] compact_seconds = 0: at least 1"));
        }
        Ok(())
    }
}

/// The line, from 1, of what `key` leads to. A step that leads nowhere is passed over: a key that is missing is told by the
/// line of its table, and one value may stand for a list of one.
fn line(text: &str, key: &[&str]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let (mut table, mut list, mut found) = (Some(document.get_ref()), None::<&DeArray<'_>>, None);
    for &step in key {
        let named = table.and_then(|table| table.iter().find(|(name, _)| name.get_ref() == step));
        let numbered = step.parse().ok().and_then(|n: usize| list?.get(n));
        let (span, value) = match (named, numbered) {
            (Some((name, value)), _) => (name.span(), value),
            (None, Some(value)) => (value.span(), value),
            (None, None) => continue,
        };
        found = Some(span.start);
        (table, list) = (value.get_ref().as_table(), value.get_ref().as_array());
    }
    Some(1 + text.get(..found?)?.matches('\n').count())
}

#[cfg(test)]
mod tests;
