//! What a client can ask for, every argument typed and within its bounds.
//!
//! The parser makes these, the session matches on them exhaustively. Whether a command fits the session's state (is a
//! mailbox selected, was QRESYNC enabled) is the session's to say; the machine only refuses what needs a login before
//! there was one.

use crate::fetch::Fetch;
use crate::flag::Flag;
use crate::name::MailboxName;
use crate::search::Search;
use crate::sequence::SequenceSet;
use base::{ModSeq, UidValidity};
use std::fmt;

/// The client's name for a command, to be repeated in the reply that ends it.
#[derive(Clone, PartialEq, Eq)]
pub struct Tag(pub(crate) Box<str>);

impl Tag {
    /// The tag: US-ASCII, no spaces, no parentheses, no quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A command with all its arguments. APPEND is not here: it comes as events of its own, since its message is streamed.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// RFC 9051 §6.1.1.
    Capability,
    /// RFC 9051 §6.1.2.
    Noop,
    /// RFC 9051 §6.1.3.
    Logout,
    /// RFC 2971: what the client says of itself, none for NIL.
    Id(Option<Vec<IdField>>),
    /// RFC 9051 §6.2.1. All input after it is to be thrown away, and a new machine to be made for what TLS brings.
    StartTls,
    /// RFC 9051 §6.2.2; go on with [`Server::challenge`](crate::Server::challenge).
    Authenticate {
        /// In capitals, as `SCRAM-SHA-256`.
        mechanism: Box<str>,
        /// RFC 4959: decoded; `=` is an empty one.
        initial: Option<Secret>,
    },
    /// RFC 9051 §6.2.3.
    Login {
        /// Whom the client claims to be.
        user: Box<str>,
        /// What proves it.
        password: Secret,
    },
    /// RFC 9051 §6.3.1, RFC 5161.
    Enable(Enable),
    /// RFC 9051 §6.3.2.
    Select(Select),
    /// RFC 9051 §6.3.3: SELECT, read-only.
    Examine(Select),
    /// RFC 9051 §6.3.4, RFC 6154 §3.
    Create {
        /// The new mailbox; may end with the hierarchy delimiter.
        mailbox: MailboxName,
        /// `USE (…)`.
        uses: Vec<SpecialUse>,
    },
    /// RFC 9051 §6.3.5.
    Delete(MailboxName),
    /// RFC 9051 §6.3.6.
    Rename {
        /// The name it has.
        from: MailboxName,
        /// The name it shall have.
        to: MailboxName,
    },
    /// RFC 9051 §6.3.7.
    Subscribe(MailboxName),
    /// RFC 9051 §6.3.8.
    Unsubscribe(MailboxName),
    /// RFC 9051 §6.3.9, RFC 5258, RFC 5819.
    List(Box<List>),
    /// RFC 3501 §6.3.9.
    Lsub {
        /// What the pattern is relative to.
        reference: Box<str>,
        /// With `*` and `%`.
        pattern: Box<str>,
    },
    /// RFC 9051 §6.3.10, RFC 2342.
    Namespace,
    /// RFC 9051 §6.3.11.
    Status {
        /// Whose figures.
        mailbox: MailboxName,
        /// Which figures.
        items: StatusItems,
    },
    /// RFC 9051 §6.3.13; go on with [`Server::start_idle`](crate::Server::start_idle).
    Idle,
    /// RFC 3501 §6.4.1.
    Check,
    /// RFC 9051 §6.4.1.
    Close,
    /// RFC 9051 §6.4.2, RFC 3691.
    Unselect,
    /// RFC 9051 §6.4.3.
    Expunge,
    /// RFC 9051 §6.4.9, RFC 4315 §2.1.
    UidExpunge(SequenceSet),
    /// RFC 9051 §6.4.4.
    Search {
        /// UID SEARCH: the answer is in UIDs.
        uid: bool,
        /// What to look for and what to answer.
        search: Box<Search>,
    },
    /// RFC 9051 §6.4.5.
    Fetch {
        /// UID FETCH: `set` is of UIDs, and each response has the UID.
        uid: bool,
        /// Which messages.
        set: SequenceSet,
        /// What of them.
        fetch: Box<Fetch>,
    },
    /// RFC 9051 §6.4.6.
    Store {
        /// UID STORE: `set` is of UIDs.
        uid: bool,
        /// Which messages.
        set: SequenceSet,
        /// What to change.
        store: Store,
    },
    /// RFC 9051 §6.4.7.
    Copy {
        /// UID COPY: `set` is of UIDs.
        uid: bool,
        /// Which messages.
        set: SequenceSet,
        /// Where to.
        mailbox: MailboxName,
    },
    /// RFC 9051 §6.4.8, RFC 6851.
    Move {
        /// UID MOVE: `set` is of UIDs.
        uid: bool,
        /// Which messages.
        set: SequenceSet,
        /// Where to.
        mailbox: MailboxName,
    },
}

/// Bytes that must not reach a log: `Debug` hides them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Box<[u8]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A field of ID (RFC 2971 §3.3): at most 30 of them, names of 30 octets, values of 1024.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdField {
    /// Such as `name` or `version`.
    pub name: Box<str>,
    /// None for NIL.
    pub value: Option<Box<str>>,
}

/// Which of the extensions we know the client turned on; those we do not know are passed over (RFC 9051 §6.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enable {
    /// `CONDSTORE` (RFC 7162 §3.1).
    pub condstore: bool,
    /// `QRESYNC` (RFC 7162 §3.2.3); implies CONDSTORE.
    pub qresync: bool,
    /// `UTF8=ACCEPT` (RFC 6855 §3); then call [`Server::set_utf8`](crate::Server::set_utf8).
    pub utf8: bool,
    /// `IMAP4rev2` (RFC 9051 §6.3.1); then call [`Server::set_utf8`](crate::Server::set_utf8).
    pub rev2: bool,
}

/// The arguments of SELECT and EXAMINE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select {
    /// Which mailbox.
    pub mailbox: MailboxName,
    /// `CONDSTORE` (RFC 7162 §3.1.8).
    pub condstore: bool,
    /// `QRESYNC (…)` (RFC 7162 §3.2.5).
    pub qresync: Option<Box<Qresync>>,
}

/// What the client knew when it last looked (RFC 7162 §3.2.5). Its sets hold neither `*` nor `$`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qresync {
    /// When it is not ours, the client knows nothing.
    pub uid_validity: UidValidity,
    /// Tell what changed after it.
    pub mod_seq: ModSeq,
    /// The UIDs the client has; none: all below what it had seen.
    pub known_uids: Option<SequenceSet>,
    /// Message numbers and the UIDs they had, in parallel (§3.2.5.2).
    pub seq_match: Option<(SequenceSet, SequenceSet)>,
}

/// The arguments of LIST.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    /// The extended form (RFC 5258) was used, in any part.
    pub extended: bool,
    /// Selection option `SUBSCRIBED`.
    pub select_subscribed: bool,
    /// Selection option `REMOTE`.
    pub select_remote: bool,
    /// Selection option `RECURSIVEMATCH`; never alone.
    pub recursive_match: bool,
    /// Selection option `SPECIAL-USE` (RFC 6154 §2).
    pub select_special_use: bool,
    /// What the patterns are relative to; decoded.
    pub reference: Box<str>,
    /// With `*` and `%`; decoded; at least one. An empty one asks for the delimiter.
    pub patterns: Vec<Box<str>>,
    /// Return option `SUBSCRIBED`.
    pub return_subscribed: bool,
    /// Return option `CHILDREN`.
    pub return_children: bool,
    /// Return option `SPECIAL-USE`.
    pub return_special_use: bool,
    /// Return option `STATUS (…)` (RFC 5819).
    pub return_status: Option<StatusItems>,
}

/// What a mailbox is for (RFC 6154 §2, RFC 8457).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpecialUse {
    /// `\All`: every message.
    All,
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Flagged`: every flagged message.
    Flagged,
    /// `\Important` (RFC 8457)
    Important,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
}

impl SpecialUse {
    /// All there are.
    pub const EVERY: [SpecialUse; 8] = [
        SpecialUse::All,
        SpecialUse::Archive,
        SpecialUse::Drafts,
        SpecialUse::Flagged,
        SpecialUse::Important,
        SpecialUse::Junk,
        SpecialUse::Sent,
        SpecialUse::Trash,
    ];

    /// As it stands in LIST, with its backslash.
    pub const fn as_str(self) -> &'static str {
        match self {
            SpecialUse::All => "\\All",
            SpecialUse::Archive => "\\Archive",
            SpecialUse::Drafts => "\\Drafts",
            SpecialUse::Flagged => "\\Flagged",
            SpecialUse::Important => "\\Important",
            SpecialUse::Junk => "\\Junk",
            SpecialUse::Sent => "\\Sent",
            SpecialUse::Trash => "\\Trash",
        }
    }

    /// From its text, with the backslash, in any case.
    pub fn parse(text: &[u8]) -> Option<Self> {
        Self::EVERY.into_iter().find(|u| u.as_str().as_bytes().eq_ignore_ascii_case(text))
    }
}

/// One figure of STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StatusItem {
    /// `MESSAGES`
    Messages,
    /// `RECENT` (RFC 3501)
    Recent,
    /// `UIDNEXT`
    UidNext,
    /// `UIDVALIDITY`
    UidValidity,
    /// `UNSEEN`: how many.
    Unseen,
    /// `DELETED` (RFC 9051)
    Deleted,
    /// `SIZE`: octets of all messages (RFC 8438).
    Size,
    /// `HIGHESTMODSEQ` (RFC 7162 §3.1.7)
    HighestModSeq,
    /// `MAILBOXID` (RFC 8474 §4.3)
    MailboxId,
    /// `APPENDLIMIT` (RFC 7889)
    AppendLimit,
}

impl StatusItem {
    /// All there are, in the order in which we answer them.
    pub const EVERY: [StatusItem; 10] = [
        StatusItem::Messages,
        StatusItem::Recent,
        StatusItem::UidNext,
        StatusItem::UidValidity,
        StatusItem::Unseen,
        StatusItem::Deleted,
        StatusItem::Size,
        StatusItem::HighestModSeq,
        StatusItem::MailboxId,
        StatusItem::AppendLimit,
    ];

    /// As it stands in the command and the response.
    pub const fn as_str(self) -> &'static str {
        match self {
            StatusItem::Messages => "MESSAGES",
            StatusItem::Recent => "RECENT",
            StatusItem::UidNext => "UIDNEXT",
            StatusItem::UidValidity => "UIDVALIDITY",
            StatusItem::Unseen => "UNSEEN",
            StatusItem::Deleted => "DELETED",
            StatusItem::Size => "SIZE",
            StatusItem::HighestModSeq => "HIGHESTMODSEQ",
            StatusItem::MailboxId => "MAILBOXID",
            StatusItem::AppendLimit => "APPENDLIMIT",
        }
    }
}

/// A set of [`StatusItem`]s.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusItems(u16);

impl StatusItems {
    /// Adds one.
    pub fn insert(&mut self, item: StatusItem) {
        self.0 |= 1 << item as u8;
    }

    /// Is it in?
    pub fn contains(self, item: StatusItem) -> bool {
        self.0 & 1 << item as u8 != 0
    }

    /// Those that are in, in the order of [`StatusItem::EVERY`].
    pub fn iter(self) -> impl Iterator<Item = StatusItem> {
        StatusItem::EVERY.into_iter().filter(move |item| self.contains(*item))
    }
}

impl FromIterator<StatusItem> for StatusItems {
    fn from_iter<I: IntoIterator<Item = StatusItem>>(items: I) -> Self {
        let mut set = StatusItems::default();
        items.into_iter().for_each(|item| set.insert(item));
        set
    }
}

impl fmt::Debug for StatusItems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(StatusItem::as_str)).finish()
    }
}

/// What STORE does with its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreAction {
    /// `FLAGS`: these and no others.
    Replace,
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
}

/// The arguments of STORE after its set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// `(UNCHANGEDSINCE n)`: leave alone what changed after it (RFC 7162 §3.1.3).
    pub unchanged_since: Option<ModSeq>,
    /// Add, remove or replace.
    pub action: StoreAction,
    /// `.SILENT`: the client does not want to hear the new flags.
    pub silent: bool,
    /// Each once.
    pub flags: Vec<Flag>,
}
