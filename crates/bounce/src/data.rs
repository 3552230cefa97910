//! The data file: read, checked and compiled into tables that [`crate::classify`] walks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use regex::{Regex, RegexSet};
use serde::Deserialize;

use crate::class::{Class, Written};
use crate::classify::{Known, Stage};
use crate::codes::{EnhancedCodes, ReplyCodes};
use crate::pattern;

/// The taxonomy and the rules, with the source of every value.
const SHIPPED: &str = include_str!("../data/bounce-classes.toml");
/// The one format of the file that is understood.
const SCHEMA: u32 = 1;

/// The taxonomy and the rules, compiled. It takes some 10 MB, and as much again for each thread that uses it at one time:
/// a process makes one, and shares it.
#[derive(Debug)]
pub struct Classifier {
    pub(crate) classes: Vec<Class>,
    pub(crate) special: Special,
    pub(crate) known: [ClassIndex; Known::ALL.len()],
    pub(crate) tokens: Vec<Token>,
    /// The patterns of the tokens, all in one: they are short, and hardly ever found.
    pub(crate) token_patterns: RegexSet,
    pub(crate) vendor: Vec<Vendor>,
    pub(crate) strong: Vec<Words>,
    pub(crate) weak: Vec<Words>,
    pub(crate) enhanced: Vec<EnhancedRow>,
    pub(crate) replies: Vec<ReplyRow>,
}

/// A place in [`Classifier::classes`].
pub(crate) type ClassIndex = usize;

/// The classes that the procedure itself knows by name.
#[derive(Debug)]
pub(crate) struct Special {
    pub unknown: ClassIndex,
    pub delivered: ClassIndex,
    pub delayed: ClassIndex,
    pub bad_sender: ClassIndex,
    pub blocked_ip: ClassIndex,
    pub no_rdns: ClassIndex,
    pub policy: ClassIndex,
}

/// A provider's own code in the text.
#[derive(Debug)]
pub(crate) struct Token {
    pub site: Box<str>,
    pub only_there: bool,
    pub condition: Condition,
    pub pattern: Box<str>,
    pub class: ClassIndex,
}

/// Enhanced codes that some sites use in their own way.
#[derive(Debug)]
pub(crate) struct Vendor {
    pub sites: Vec<Box<str>>,
    pub condition: Condition,
    pub written: Box<str>,
    pub codes: EnhancedCodes,
    pub class: ClassIndex,
}

/// What texts say: the first pattern that is found counts.
#[derive(Debug)]
pub(crate) struct Words {
    pub condition: Condition,
    /// Compiled, and as written.
    pub patterns: Vec<(Regex, Box<str>)>,
    pub class: ClassIndex,
}

/// When a rule is looked at.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    /// How the reply code begins; empty: in any way.
    pub code: Box<str>,
    pub on: Option<On>,
}

/// The one kind of stage a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum On {
    Smtp,
    Dsn,
    Mail,
}

#[derive(Debug)]
pub(crate) struct EnhancedRow {
    pub written: Box<str>,
    pub codes: EnhancedCodes,
    pub four: ClassIndex,
    pub five: ClassIndex,
    pub weight: u8,
}

#[derive(Debug)]
pub(crate) struct ReplyRow {
    pub written: Box<str>,
    pub codes: ReplyCodes,
    pub stages: Vec<(Stage, ClassIndex)>,
    pub any: ClassIndex,
}

/// The data cannot be used. The shipped data can; a test says so.
#[derive(Debug)]
pub struct Invalid(String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bounce classes: {}", self.0)
    }
}

impl std::error::Error for Invalid {}

impl Classifier {
    /// The shipped data, compiled; that takes about a tenth of a second.
    ///
    /// # Errors
    /// Never, as long as the crate's tests pass.
    pub fn new() -> Result<Self, Invalid> {
        Classifier::from_toml(SHIPPED)
    }

    /// The same, one for the process: the first who asks makes it, and whoever asks meanwhile waits. Not to be asked where
    /// nobody may wait. None: the shipped data is wrong.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Classifier>> = OnceLock::new();
        SHARED.get_or_init(|| Classifier::new().ok()).as_ref()
    }

    /// Other data in the same format.
    ///
    /// # Errors
    /// [`Invalid`] names what is not understood: a pattern, a list of codes, a class that is not there.
    pub fn from_toml(text: &str) -> Result<Self, Invalid> {
        let file: File = toml::from_str(text).map_err(|error| Invalid(error.to_string()))?;
        if file.schema != SCHEMA {
            return Err(Invalid(format!("schema {} is not known", file.schema)));
        }
        let classes = read_classes(file.class)?;
        let names = Names(&classes);
        let tokens = collect(file.token.list, |token| names.token(token))?;
        Ok(Classifier {
            special: names.special()?,
            known: names.known(&file.local)?,
            token_patterns: pattern::compile_all(tokens.iter().map(|token| &*token.pattern))
                .map_err(|error| Invalid(format!("a pattern of a token: {error}")))?,
            tokens,
            vendor: collect(file.vendor.list, |vendor| names.vendor(vendor))?,
            strong: collect(file.strong, |words| names.words(words))?,
            weak: collect(file.weak, |words| names.words(words))?,
            enhanced: collect(file.enhanced.list, |row| names.enhanced(row))?,
            replies: collect(file.reply.list, |row| names.reply(row))?,
            classes,
        })
    }

    /// Every class, in the order of the names.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The class of that name: what a receipt that was kept means.
    pub fn class(&self, name: &str) -> Option<&Class> {
        Names(&self.classes).find(name).ok().map(|at| &self.classes[at])
    }
}

fn read_classes(written: BTreeMap<String, Written>) -> Result<Vec<Class>, Invalid> {
    let class = |(name, written): (String, Written)| {
        Class::of(&name, written)
            .ok_or_else(|| Invalid(format!("class {name}: suppress, streams and expire do not fit")))
    };
    written.into_iter().map(class).collect()
}

fn collect<T, U>(list: Vec<T>, read: impl FnMut(T) -> Result<U, Invalid>) -> Result<Vec<U>, Invalid> {
    list.into_iter().map(read).collect()
}

/// The classes, sorted by name: what the rules refer to.
struct Names<'a>(&'a [Class]);

impl Names<'_> {
    fn find(&self, name: &str) -> Result<ClassIndex, Invalid> {
        self.0
            .binary_search_by(|class| (*class.name).cmp(name))
            .map_err(|_| Invalid(format!("there is no class {name}")))
    }

    fn special(&self) -> Result<Special, Invalid> {
        Ok(Special {
            unknown: self.find("unknown")?,
            delivered: self.find("delivered")?,
            delayed: self.find("delayed")?,
            bad_sender: self.find("bad-sender")?,
            blocked_ip: self.find("blocked-ip")?,
            no_rdns: self.find("no-rdns")?,
            policy: self.find("policy")?,
        })
    }

    fn known(&self, local: &BTreeMap<String, String>) -> Result<[ClassIndex; Known::ALL.len()], Invalid> {
        let mut classes = [0; Known::ALL.len()];
        for (class, (_, name)) in classes.iter_mut().zip(Known::ALL) {
            let of = local.get(name).ok_or_else(|| Invalid(format!("[local] lacks {name}")))?;
            *class = self.find(of)?;
        }
        match local.keys().find(|name| !Known::ALL.iter().any(|(_, known)| known == name)) {
            Some(name) => Err(Invalid(format!("[local] has {name}, which nothing here can know"))),
            None => Ok(classes),
        }
    }

    fn token(&self, token: WrittenToken) -> Result<Token, Invalid> {
        Ok(Token {
            site: token.site,
            only_there: token.only,
            condition: Condition { code: token.code, on: None },
            pattern: token.pattern,
            class: self.find(&token.class)?,
        })
    }

    fn vendor(&self, vendor: WrittenVendor) -> Result<Vendor, Invalid> {
        Ok(Vendor {
            sites: vendor.site.split(',').map(Box::from).collect(),
            condition: Condition { code: vendor.code, on: None },
            codes: enhanced_codes(&vendor.codes)?,
            written: vendor.codes,
            class: self.find(&vendor.class)?,
        })
    }

    fn words(&self, words: WrittenWords) -> Result<Words, Invalid> {
        Ok(Words {
            condition: Condition { code: words.code, on: words.on },
            patterns: collect(words.patterns, |pattern| Ok((compile(&pattern)?, pattern)))?,
            class: self.find(&words.class)?,
        })
    }

    fn enhanced(&self, row: WrittenEnhanced) -> Result<EnhancedRow, Invalid> {
        Ok(EnhancedRow {
            codes: enhanced_codes(&row.codes)?,
            written: row.codes,
            four: self.find(&row.four)?,
            five: self.find(&row.five)?,
            weight: row.weight,
        })
    }

    fn reply(&self, row: WrittenReply) -> Result<ReplyRow, Invalid> {
        let WrittenReply { codes: written, any, connect, helo, mail, rcpt, data, dot } = row;
        let stages = [
            (Stage::Connect, connect),
            (Stage::Helo, helo),
            (Stage::MailFrom, mail),
            (Stage::Rcpt, rcpt),
            (Stage::Data, data),
            (Stage::Dot, dot),
        ];
        let named = stages.into_iter().filter_map(|(stage, class)| Some((stage, class?)));
        Ok(ReplyRow {
            codes: ReplyCodes::parse(&written).ok_or_else(|| Invalid(format!("{written} are no reply codes")))?,
            written,
            stages: named.map(|(stage, class)| Ok((stage, self.find(&class)?))).collect::<Result<_, Invalid>>()?,
            any: self.find(&any)?,
        })
    }
}

fn compile(text: &str) -> Result<Regex, Invalid> {
    pattern::compile(text).map_err(|error| Invalid(format!("pattern {text}: {error}")))
}

fn enhanced_codes(text: &str) -> Result<EnhancedCodes, Invalid> {
    EnhancedCodes::parse(text).ok_or_else(|| Invalid(format!("{text} are no enhanced codes")))
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    /// When the data was compiled, for people.
    #[serde(rename = "compiled")]
    _compiled: Box<str>,
    class: BTreeMap<String, Written>,
    local: BTreeMap<String, String>,
    token: List<WrittenToken>,
    vendor: List<WrittenVendor>,
    strong: Vec<WrittenWords>,
    weak: Vec<WrittenWords>,
    enhanced: List<WrittenEnhanced>,
    reply: List<WrittenReply>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List<T> {
    list: Vec<T>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToken {
    site: Box<str>,
    #[serde(default)]
    only: bool,
    #[serde(default)]
    code: Box<str>,
    #[serde(rename = "match")]
    pattern: Box<str>,
    class: Box<str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenVendor {
    site: Box<str>,
    #[serde(default)]
    code: Box<str>,
    codes: Box<str>,
    class: Box<str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWords {
    class: Box<str>,
    on: Option<On>,
    #[serde(default)]
    code: Box<str>,
    #[serde(rename = "match")]
    patterns: Vec<Box<str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEnhanced {
    codes: Box<str>,
    four: Box<str>,
    five: Box<str>,
    weight: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenReply {
    codes: Box<str>,
    any: Box<str>,
    connect: Option<Box<str>>,
    helo: Option<Box<str>>,
    mail: Option<Box<str>>,
    rcpt: Option<Box<str>>,
    data: Option<Box<str>>,
    dot: Option<Box<str>>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_shipped_data_is_consistent() {
        let classifier = Classifier::new().unwrap();
        assert_eq!(classifier.class("mailbox-full").unwrap().names.sisimai, ["mailboxfull".into()]);
        assert_eq!(classifier.class("mailbox-fool"), None);
        for (number, (known, name)) in Known::ALL.iter().enumerate() {
            assert_eq!((*known as usize, known.name()), (number, *name));
        }

        // Nothing stands there twice, and no class stands there for nothing.
        let mut used: BTreeSet<ClassIndex> = classifier.known.into();
        let words = || classifier.strong.iter().chain(&classifier.weak);
        let mut patterns = BTreeSet::new();
        for (_, pattern) in words().flat_map(|words| &words.patterns) {
            assert!(patterns.insert(pattern), "twice: {pattern}");
        }
        let mut tokens = BTreeSet::new();
        for token in &classifier.tokens {
            assert!(tokens.insert((&token.pattern, &token.condition.code)), "twice: {}", token.pattern);
        }
        used.extend(words().map(|words| words.class));
        used.extend(classifier.tokens.iter().map(|token| token.class));
        used.extend(classifier.vendor.iter().map(|vendor| vendor.class));
        used.extend(classifier.enhanced.iter().flat_map(|row| [row.four, row.five]));
        used.extend(
            classifier.replies.iter().flat_map(|row| row.stages.iter().map(|(_, class)| *class).chain([row.any])),
        );
        // What no reply says: a report, a complaint.
        used.extend(["complaint", "delayed", "delivered"].map(|name| Names(&classifier.classes).find(name).unwrap()));
        let unused: Vec<_> = (0..classifier.classes.len()).filter(|at| !used.contains(at)).collect();
        assert!(unused.is_empty(), "{:?}", unused.iter().map(|at| &classifier.classes[*at].name).collect::<Vec<_>>());
    }

    #[test]
    fn every_registered_enhanced_code_stands_in_one_row() {
        let classifier = Classifier::new().unwrap();
        // RFC 3463 §3, and what the registry added: the details of each subject.
        let registered =
            [(0, 0..=0), (1, 0..=10), (2, 0..=4), (3, 0..=6), (4, 0..=7), (5, 0..=6), (6, 0..=10), (7, 0..=30)];
        for (subject, details) in registered {
            for detail in details {
                let code = base::Enhanced(5, subject, detail);
                let rows = classifier.enhanced.iter().filter(|row| row.codes.contain(code)).count();
                assert_eq!(rows, 1, "{code}");
            }
        }
    }

    #[test]
    fn data_that_is_not_understood_is_named() {
        for (from, to, expected) in [
            ("schema = 1", "schema = 2", "schema 2"),
            ("suppress = \"5/60d\", expire = 90", "suppress = \"5/60\", expire = 90", "class mailbox-full"),
            ("suppress = \"5/60d\", expire = 90", "suppress = \"5/60d\"", "class mailbox-full"),
            ("\"hops\" = \"routing\"", "\"hops\" = \"loop\"", "no class loop"),
            ("\"hops\" = \"routing\"", "\"hop\" = \"routing\"", "[local] lacks hops"),
            ("\"hops\" = \"routing\"", "\"hops\" = \"routing\"\nx = \"routing\"", "[local] has x"),
            ("[?&/]p=NoSuchUser", "(?=NoSuchUser)", "(?=NoSuchUser)"),
            ("codes = \"7.27,7.30,7.32\"", "codes = \"7,27\"", "7,27"),
            ("codes = \"422\"", "codes = \"4x2\"", "4x2"),
        ] {
            assert!(SHIPPED.contains(from), "{from}");
            let error = Classifier::from_toml(&SHIPPED.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
