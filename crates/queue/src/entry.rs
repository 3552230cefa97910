//! What stands in the queue, as it is read and written.

use std::sync::Arc;

use base::{AccountId, Address, BlobId, OrganisationId, Stream, Timestamp};
use smtp::{BodyType, Notify, OriginalRecipient, Ret};
use store::{Error, Result, Row};

use crate::receipt::Pointer;
use crate::{Content, Group, QueueId, Recipe};

/// A message: its envelope without the recipients, and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number.
    pub id: QueueId,
    /// Who gets reports; none for `<>`, about which nobody is ever told anything (RFC 5321 §4.5.5).
    pub from: Option<Address>,
    /// Header fields of ours that stand before the blob: signature, Received.
    pub prefix: Arc<[u8]>,
    /// The mail itself.
    pub content: Content,
    /// Both together; 0 for what is not made yet.
    pub octets: u64,
    /// ENVID (RFC 3461 §4.4).
    pub envelope_id: Option<String>,
    /// RET (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// What the bytes are.
    pub body: BodyType,
    /// The header holds UTF-8 (RFC 6531); addresses speak for themselves.
    pub smtputf8: bool,
    /// RFC 8689.
    pub require_tls: bool,
    /// What the recipients' domains demand of TLS does not hold for it (RFC 8460 §3: so that reports about TLS arrive).
    pub tls_optional: bool,
    /// Who submitted it.
    pub account: Option<AccountId>,
    /// When it was accepted.
    pub created: Timestamp,
    /// How many recipients it has.
    pub total: u32,
    /// What kind of sending it belongs to.
    pub stream: Stream,
    /// Whose sending that is.
    pub organisation: OrganisationId,
    /// How urgent it is, -9 to 9 (RFC 6710).
    pub priority: i8,
    /// It was not to leave before (RFC 4865). Its recipients may be accounts of ours: they have waited here too.
    pub release: Option<Timestamp>,
    /// By when it is to be delivered (RFC 2852).
    pub deliver_by: Option<DeliverBy>,
    /// Its Message-ID, without brackets; none when it has none, or one of more than 250 octets.
    pub message_id: Option<String>,
}

/// By when a message is to be delivered (RFC 2852).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverBy {
    /// This moment.
    pub until: Timestamp,
    /// Then it is given up. Otherwise its sender is told, and it goes on.
    pub returned: bool,
    /// The sender wants to know by whom it is passed on.
    pub trace: bool,
}

/// One recipient's delivery, as far as an attempt is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its number within the message.
    pub number: u32,
    /// The recipient.
    pub to: Address,
    /// NOTIFY (RFC 3461 §4.1).
    pub notify: Option<Notify>,
    /// ORCPT (RFC 3461 §4.2).
    pub original: Option<OriginalRecipient>,
    /// When it is given up.
    pub expires: Timestamp,
    /// How many attempts it has had.
    pub attempts: u32,
    /// The sender was told that it takes long.
    pub warned: bool,
    /// So many more attempts have an outcome that nobody knows.
    pub uncertain: u32,
    /// The record of its last attempt.
    pub trail: Option<Pointer>,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// For its time.
    Waiting,
    /// Somebody is at it.
    Claimed,
    /// The next hop, or a mailbox of ours, has it.
    Delivered,
    /// Given up.
    Failed,
    /// Taken back by the administrator.
    Cancelled,
    /// Set aside: it cannot be read. Nobody tries it until [`crate::retry`].
    Held,
    /// Somebody is at it, and the administrator wants it back: cancelled, unless it is delivered first.
    Cancelling,
}

const STATES: [State; 7] =
    [State::Waiting, State::Claimed, State::Delivered, State::Failed, State::Cancelled, State::Held, State::Cancelling];

impl State {
    pub(crate) fn stored(self) -> i64 {
        self as i64
    }

    pub(crate) fn read(value: i64) -> Result<Self> {
        let state = usize::try_from(value).ok().and_then(|at| STATES.get(at));
        state.copied().ok_or_else(|| corrupt("state", value))
    }

    /// The one of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        STATES.into_iter().find(|state| state.word() == word)
    }

    /// An attempt may still come of it.
    pub fn is_open(self) -> bool {
        matches!(self, State::Waiting | State::Claimed | State::Held | State::Cancelling)
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Claimed => "claimed",
            State::Delivered => "delivered",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Held => "held",
            State::Cancelling => "cancelling",
        }
    }
}

/// The reports that a delivery owes its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Owed {
    /// That it failed.
    pub failure: bool,
    /// That it takes long.
    pub delay: bool,
    /// That it arrived.
    pub success: bool,
}

impl Message {
    /// It is to be returned now, as it was not delivered in time: what is left is less than the second that others count in.
    pub fn is_late(&self, now: Timestamp) -> bool {
        self.deliver_by.is_some_and(|by| by.returned && by.until.0 - now.0 < 1000)
    }

    /// Whom its reports are for: nobody where each recipient has a mail of its own, as the receipt tells all there is to tell.
    pub fn reports_to(&self) -> Option<&Address> {
        self.from.as_ref().filter(|_| matches!(self.content, Content::Stored(_)))
    }

    /// The group in which a delivery of it waits.
    pub fn group(&self, delivery: &Delivery) -> Group {
        Group::of(self.stream, self.organisation, delivery.to.domain(), self.priority)
    }
}

impl Owed {
    /// None.
    pub const NOTHING: Owed = Owed { failure: false, delay: false, success: false };

    /// No report is owed.
    pub fn is_nothing(self) -> bool {
        self == Owed::NOTHING
    }

    /// RFC 3461 §4.1: without NOTIFY it is up to us, and failures and delays are reported. About a mail from `<>` never
    /// anything (trap 19).
    pub(crate) fn of(from: Option<&Address>, notify: Option<Notify>, wanted: Owed) -> Owed {
        match (from, notify) {
            (None, _) | (_, Some(Notify::Never)) => Owed::NOTHING,
            (Some(_), None) => Owed { success: false, ..wanted },
            (Some(_), Some(Notify::On { success, failure, delay })) => Owed {
                failure: wanted.failure && failure,
                delay: wanted.delay && delay,
                success: wanted.success && success,
            },
        }
    }

    pub(crate) fn stored(self) -> i64 {
        i64::from(self.failure) | i64::from(self.delay) << 1 | i64::from(self.success) << 2
    }

    pub(crate) fn read(value: i64) -> Self {
        Owed { failure: value & 1 != 0, delay: value & 2 != 0, success: value & 4 != 0 }
    }
}

pub(crate) fn corrupt(what: &str, value: impl std::fmt::Display) -> Error {
    Error::Corrupt(format!("queue: {what} {value}").into())
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| corrupt("text that is no UTF-8:", bytes.escape_ascii()))
}

pub(crate) fn opt_text(bytes: Option<&[u8]>) -> Result<Option<String>> {
    bytes.map(text).transpose()
}

pub(crate) fn address(bytes: &[u8]) -> Result<Address> {
    let text = text(bytes)?;
    Address::parse(&text).map_err(|e| corrupt(&format!("address {text:?}:"), e))
}

// ---- how small things are kept ----

pub(crate) fn stored_ret(ret: Option<Ret>) -> Option<i64> {
    ret.map(|r| i64::from(r == Ret::Headers))
}

fn read_ret(value: Option<i64>) -> Option<Ret> {
    value.map(|v| if v == 0 { Ret::Full } else { Ret::Headers })
}

/// 0 is NEVER.
pub(crate) fn stored_notify(notify: Option<Notify>) -> Option<i64> {
    notify.map(|n| match n {
        Notify::Never => 0,
        Notify::On { success, failure, delay } => Owed { failure, delay, success }.stored(),
    })
}

fn read_notify(value: Option<i64>) -> Option<Notify> {
    value.map(|v| match Owed::read(v) {
        Owed::NOTHING => Notify::Never,
        Owed { failure, delay, success } => Notify::On { success, failure, delay },
    })
}

/// `rfc822;jane@example.test`
pub(crate) fn stored_original(original: Option<&OriginalRecipient>) -> Option<String> {
    original.map(|o| format!("{};{}", o.kind, o.address))
}

fn read_original(bytes: Option<&[u8]>) -> Result<Option<OriginalRecipient>> {
    let Some(bytes) = bytes else { return Ok(None) };
    let text = text(bytes)?;
    let (kind, address) = text.split_once(';').ok_or_else(|| corrupt("original recipient", &text))?;
    Ok(Some(OriginalRecipient { kind: kind.into(), address: address.into() }))
}

pub(crate) fn read_priority(value: i64) -> Result<i8> {
    i8::try_from(value).map_err(|_| corrupt("priority", value))
}

/// TLS is required, or optional whatever others demand.
pub(crate) fn stored_flags(body: BodyType, smtputf8: bool, tls: (bool, bool), by: Option<DeliverBy>) -> i64 {
    let body = match body {
        BodyType::SevenBit => 0,
        BodyType::EightBitMime => 1,
        BodyType::BinaryMime => 2,
    };
    let (returned, trace) = by.map_or((false, false), |by| (by.returned, by.trace));
    let flags = [smtputf8, tls.0, returned, trace, tls.1];
    flags.into_iter().zip(2..).fold(body, |all, (flag, bit)| all | i64::from(flag) << bit)
}

fn read_body(flags: i64) -> BodyType {
    match flags & 3 {
        0 => BodyType::SevenBit,
        1 => BodyType::EightBitMime,
        _ => BodyType::BinaryMime,
    }
}

// ---- rows ----

/// By the columns of the blob, the kind and the reference.
fn read_content(r: &Row<'_>, [blob, kind, reference]: [usize; 3]) -> Result<Content> {
    Ok(match (r.opt_int(blob)?, r.opt_int(kind)?, r.opt_bytes(reference)?) {
        (Some(blob), None, None) => Content::Stored(BlobId(blob)),
        (None, Some(kind), Some(reference)) => {
            let kind = u16::try_from(kind).map_err(|_| corrupt("kind of a body", kind))?;
            Content::Made(Recipe { kind, reference: reference.into() })
        }
        _ => return Err(corrupt("content", "neither stored nor made")),
    })
}

/// A message from the columns that begin at `at`.
pub(crate) fn read_message(r: &Row<'_>, at: usize) -> Result<Message> {
    let flags = r.int(at + 7)?;
    Ok(Message {
        id: QueueId::stored(r.int(at)?),
        content: read_content(r, [at + 1, at + 17, at + 18])?,
        prefix: r.bytes(at + 2)?.into(),
        octets: r.int(at + 3)? as u64,
        from: r.opt_bytes(at + 4)?.map(address).transpose()?,
        envelope_id: opt_text(r.opt_bytes(at + 5)?)?,
        ret: read_ret(r.opt_int(at + 6)?),
        body: read_body(flags),
        smtputf8: flags & 4 != 0,
        require_tls: flags & 8 != 0,
        tls_optional: flags & 64 != 0,
        account: r.opt_int(at + 8)?.map(AccountId),
        created: Timestamp(r.int(at + 9)?),
        total: r.int(at + 10)? as u32,
        stream: Stream::read(r.int(at + 11)?).ok_or_else(|| corrupt("stream", "an unknown one"))?,
        organisation: OrganisationId(r.int(at + 12)?),
        priority: read_priority(r.int(at + 13)?)?,
        release: r.opt_int(at + 14)?.map(Timestamp),
        deliver_by: r.opt_int(at + 15)?.map(|until| DeliverBy {
            until: Timestamp(until),
            returned: flags & 16 != 0,
            trace: flags & 32 != 0,
        }),
        message_id: r.opt_bytes(at + 16)?.map(|id| String::from_utf8_lossy(id).into_owned()),
    })
}

/// A delivery from the columns that begin at `at`.
pub(crate) fn read_delivery(r: &Row<'_>, at: usize) -> Result<Delivery> {
    Ok(Delivery {
        number: r.int(at)? as u32,
        to: address(r.bytes(at + 1)?)?,
        notify: read_notify(r.opt_int(at + 2)?),
        original: read_original(r.opt_bytes(at + 3)?)?,
        expires: Timestamp(r.int(at + 4)?),
        attempts: r.int(at + 5)? as u32,
        warned: r.int(at + 6)? != 0,
        uncertain: r.int(at + 7)? as u32,
        trail: Pointer::read(r, at + 8)?,
    })
}
