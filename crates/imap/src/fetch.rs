//! What FETCH can ask of a message (RFC 9051 §6.4.5, RFC 3516, RFC 7162, RFC 8474, RFC 8514).

use base::ModSeq;

/// The arguments of FETCH after its set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// In the client's order; macros are spelt out. At least one, at most [`Fetch::MAX_ATTRS`].
    pub attrs: Vec<FetchAttr>,
    /// `CHANGEDSINCE n`: only what changed after it; the responses then carry MODSEQ (RFC 7162 §3.1.4.1).
    pub changed_since: Option<ModSeq>,
    /// `VANISHED`: tell the expunged too (RFC 7162 §3.2.6); only with UID FETCH and `changed_since`.
    pub vanished: bool,
}

impl Fetch {
    /// The most attributes one FETCH may ask for: each is work for each message.
    pub const MAX_ATTRS: usize = 64;
}

/// One thing to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchAttr {
    /// `FLAGS`
    Flags,
    /// `INTERNALDATE`
    InternalDate,
    /// `RFC822.SIZE`
    Rfc822Size,
    /// `ENVELOPE`
    Envelope,
    /// `BODY`: BODYSTRUCTURE without extension data.
    Body,
    /// `BODYSTRUCTURE`
    BodyStructure,
    /// `UID`
    Uid,
    /// `MODSEQ` (RFC 7162 §3.1.5)
    ModSeq,
    /// `EMAILID` (RFC 8474 §5.1)
    EmailId,
    /// `THREADID` (RFC 8474 §5.2)
    ThreadId,
    /// `SAVEDATE` (RFC 8514)
    SaveDate,
    /// `RFC822` (RFC 3501): as `BODY[]`, and sets `\Seen`.
    Rfc822,
    /// `RFC822.HEADER` (RFC 3501): as `BODY.PEEK[HEADER]`.
    Rfc822Header,
    /// `RFC822.TEXT` (RFC 3501): as `BODY[TEXT]`, and sets `\Seen`.
    Rfc822Text,
    /// `BODY[section]<partial>`
    Section {
        /// `BODY.PEEK`: `\Seen` stays as it is.
        peek: bool,
        /// Which bytes.
        section: Section,
        /// Which of those.
        partial: Option<Partial>,
    },
    /// `BINARY[part]<partial>` (RFC 3516 §4.2): transfer encoding taken off.
    Binary {
        /// `BINARY.PEEK`: `\Seen` stays as it is.
        peek: bool,
        /// Empty: the whole message.
        part: Box<[u32]>,
        /// Which of the decoded bytes.
        partial: Option<Partial>,
    },
    /// `BINARY.SIZE[part]`: octets after decoding.
    BinarySize {
        /// Empty: the whole message.
        part: Box<[u32]>,
    },
}

impl FetchAttr {
    /// Does fetching it set `\Seen` (RFC 9051 §6.4.5)?
    pub fn marks_seen(&self) -> bool {
        match self {
            FetchAttr::Rfc822 | FetchAttr::Rfc822Text => true,
            FetchAttr::Section { peek, .. } | FetchAttr::Binary { peek, .. } => !peek,
            _ => false,
        }
    }
}

/// What stands between the brackets of `BODY[…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The part's path, each number from 1; empty: the message itself. At most [`Section::MAX_DEPTH`] long.
    pub part: Box<[u32]>,
    /// What of the part.
    pub text: SectionText,
}

impl Section {
    /// The deepest part that can be named.
    pub const MAX_DEPTH: usize = 100;
    /// The most names in HEADER.FIELDS.
    pub const MAX_FIELDS: usize = 256;
}

/// What of a part (RFC 9051 §9 `section-text`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionText {
    /// Nothing said: all of the message, or the body of the part.
    All,
    /// `HEADER`
    Header,
    /// `HEADER.FIELDS (…)`: names as the client wrote them.
    HeaderFields(Vec<Box<str>>),
    /// `HEADER.FIELDS.NOT (…)`
    HeaderFieldsNot(Vec<Box<str>>),
    /// `TEXT`
    Text,
    /// `MIME`: the part's own MIME header; only with a part.
    Mime,
}

/// `<offset.count>`: at most `count` octets from `offset` on, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// The response repeats it as `<offset>`.
    pub offset: u64,
    /// At least 1.
    pub count: u64,
}
