//! Status responses and their codes (RFC 9051 §7.1).

use super::{Capabilities, Writer};
use crate::command::Tag;
use crate::sequence::Ranges;
use base::{ModSeq, Uid, UidValidity};

/// How something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done; untagged: for information.
    Ok,
    /// Not done.
    No,
    /// Not understood.
    Bad,
    /// A greeting: logged in by other means.
    PreAuth,
    /// We close the connection.
    Bye,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::No => "NO",
            Status::Bad => "BAD",
            Status::PreAuth => "PREAUTH",
            Status::Bye => "BYE",
        }
    }
}

/// What a program can read out of a status response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Code<'a> {
    /// The text is to be shown to the user.
    Alert,
    /// The mailbox is there already.
    AlreadyExists,
    /// RFC 4315: the UIDs of what APPEND stored.
    AppendUid(UidValidity, &'a Ranges),
    /// Wrong user or password.
    AuthenticationFailed,
    /// May not act for that user.
    AuthorizationFailed,
    /// The charsets SEARCH knows are UTF-8 and US-ASCII.
    BadCharset,
    /// Never possible here.
    Cannot,
    /// What the server can do.
    Capability(&'a Capabilities<'a>),
    /// The client did what makes no sense.
    ClientBug,
    /// RFC 7162 §3.2.11: what follows is of the mailbox now selected.
    Closed,
    /// The administrator has to act.
    ContactAdmin,
    /// RFC 4315: the UIDs that were copied, and those they have now, in parallel.
    CopyUid(UidValidity, &'a Ranges, &'a Ranges),
    /// Data is damaged.
    Corruption,
    /// The password has expired.
    Expired,
    /// Some of the messages are expunged.
    ExpungeIssued,
    /// DELETE of a mailbox with children.
    HasChildren,
    /// RFC 7162 §3.1.2.1.
    HighestModSeq(ModSeq),
    /// Another session holds it.
    InUse,
    /// A limit of the server's.
    Limit,
    /// RFC 8474 §4.1, §4.2.
    MailboxId(&'a str),
    /// RFC 7162 §3.1.3: message numbers or UIDs that STORE left alone.
    Modified(&'a Ranges),
    /// RFC 7162 §3.1.2.2: the mailbox has no MODSEQs.
    NoModSeq,
    /// No such mailbox.
    NonExistent,
    /// No right to do so.
    NoPerm,
    /// RFC 5182: the result was not saved.
    NotSaved,
    /// No more room.
    OverQuota,
    /// A message cannot be parsed.
    Parse,
    /// The flags that can be changed for good; `\*` for new ones too.
    PermanentFlags(&'a [&'a str]),
    /// TLS is needed.
    PrivacyRequired,
    /// No change is possible.
    ReadOnly,
    /// Change is possible.
    ReadWrite,
    /// We did what makes no sense.
    ServerBug,
    /// The message is too big.
    TooBig,
    /// There is no such mailbox; CREATE would help.
    TryCreate,
    /// The next message's UID, at least.
    UidNext(Uid),
    /// RFC 4315: UIDs do not last here.
    UidNotSticky,
    /// Changes when UIDs have lost their meaning.
    UidValidity(UidValidity),
    /// Trouble that may pass.
    Unavailable,
    /// RFC 3516 §4.3: a transfer encoding that cannot be taken off.
    UnknownCte,
    /// RFC 3501: the first message without `\Seen`.
    Unseen(u32),
    /// RFC 6154 §3: the special use cannot be had.
    UseAttr,
}

impl Code<'_> {
    /// The code's name, up to its arguments.
    fn name(&self) -> &'static str {
        match self {
            Code::Alert => "ALERT",
            Code::AlreadyExists => "ALREADYEXISTS",
            Code::AppendUid(..) => "APPENDUID ",
            Code::AuthenticationFailed => "AUTHENTICATIONFAILED",
            Code::AuthorizationFailed => "AUTHORIZATIONFAILED",
            Code::BadCharset => "BADCHARSET (UTF-8 US-ASCII)",
            Code::Cannot => "CANNOT",
            Code::Capability(_) => "CAPABILITY ",
            Code::ClientBug => "CLIENTBUG",
            Code::Closed => "CLOSED",
            Code::ContactAdmin => "CONTACTADMIN",
            Code::CopyUid(..) => "COPYUID ",
            Code::Corruption => "CORRUPTION",
            Code::Expired => "EXPIRED",
            Code::ExpungeIssued => "EXPUNGEISSUED",
            Code::HasChildren => "HASCHILDREN",
            Code::HighestModSeq(_) => "HIGHESTMODSEQ ",
            Code::InUse => "INUSE",
            Code::Limit => "LIMIT",
            Code::MailboxId(_) => "MAILBOXID ",
            Code::Modified(_) => "MODIFIED ",
            Code::NoModSeq => "NOMODSEQ",
            Code::NonExistent => "NONEXISTENT",
            Code::NoPerm => "NOPERM",
            Code::NotSaved => "NOTSAVED",
            Code::OverQuota => "OVERQUOTA",
            Code::Parse => "PARSE",
            Code::PermanentFlags(_) => "PERMANENTFLAGS ",
            Code::PrivacyRequired => "PRIVACYREQUIRED",
            Code::ReadOnly => "READ-ONLY",
            Code::ReadWrite => "READ-WRITE",
            Code::ServerBug => "SERVERBUG",
            Code::TooBig => "TOOBIG",
            Code::TryCreate => "TRYCREATE",
            Code::UidNext(_) => "UIDNEXT ",
            Code::UidNotSticky => "UIDNOTSTICKY",
            Code::UidValidity(_) => "UIDVALIDITY ",
            Code::Unavailable => "UNAVAILABLE",
            Code::UnknownCte => "UNKNOWN-CTE",
            Code::Unseen(_) => "UNSEEN ",
            Code::UseAttr => "USEATTR",
        }
    }
}

impl Writer<'_> {
    /// The reply that ends a command.
    pub fn tagged(&mut self, tag: &Tag, status: Status, code: Option<Code<'_>>, text: &str) {
        self.raw(tag.as_str());
        self.status_line(status, code, text);
    }

    /// `* OK`, `* NO`, `* BYE` and so on; the greeting too.
    pub fn untagged(&mut self, status: Status, code: Option<Code<'_>>, text: &str) {
        self.raw(b"*");
        self.status_line(status, code, text);
    }

    fn status_line(&mut self, status: Status, code: Option<Code<'_>>, text: &str) {
        self.raw(b" ").raw(status.as_str()).raw(b" ");
        if let Some(code) = code {
            self.raw(b"[").code(code).raw(b"] ");
        }
        // RFC 9051 §9 `text`. A CR or LF from some error's text would let it speak in our name.
        for c in text.chars() {
            match c {
                c if c.is_ascii_control() => self.raw(b" "),
                c if c.is_ascii() || self.utf8 => self.raw(c.encode_utf8(&mut [0; 4])),
                _ => self.raw(b"?"),
            };
        }
        self.end_line();
    }

    fn code(&mut self, code: Code<'_>) -> &mut Self {
        self.raw(code.name());
        match code {
            Code::AppendUid(validity, uids) => self.number(validity.0).raw(b" ").ranges(uids),
            Code::CopyUid(validity, from, to) => self.number(validity.0).raw(b" ").ranges(from).raw(b" ").ranges(to),
            Code::Capability(capabilities) => self.capabilities(capabilities),
            Code::HighestModSeq(mod_seq) => self.number(mod_seq.0),
            Code::MailboxId(id) => self.raw(b"(").raw(id).raw(b")"),
            Code::Modified(set) => self.ranges(set),
            Code::PermanentFlags(flags) => self.flag_list(flags.iter().copied()),
            Code::UidNext(uid) => self.number(uid.0),
            Code::UidValidity(validity) => self.number(validity.0),
            Code::Unseen(number) => self.number(number),
            _ => self,
        }
    }

    /// A set of numbers.
    pub(super) fn ranges(&mut self, ranges: &Ranges) -> &mut Self {
        crate::sequence::write_ranges(self.out, ranges.as_slice().iter().cloned());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(numbers: &[u32]) -> Ranges {
        numbers.iter().copied().collect()
    }

    #[test]
    fn codes_as_the_rfcs_show_them() {
        let (saved, copied) = (ranges(&[304, 319, 320]), ranges(&[3956, 3957, 3958]));
        let append = ranges(&[3955]);
        for (status, code, text, expected) in [
            // RFC 9051 §7.1, §6.3.2; RFC 4315 §3; RFC 7162 §3.1; RFC 8474 §4.2.
            (
                Status::Ok,
                Some(Code::Unseen(12)),
                "Message 12 is first unseen",
                "* OK [UNSEEN 12] Message 12 is first unseen",
            ),
            (
                Status::Ok,
                Some(Code::UidValidity(UidValidity(3857529045))),
                "UIDs valid",
                "* OK [UIDVALIDITY 3857529045] UIDs valid",
            ),
            (
                Status::Ok,
                Some(Code::UidNext(Uid(4392))),
                "Predicted next UID",
                "* OK [UIDNEXT 4392] Predicted next UID",
            ),
            (
                Status::Ok,
                Some(Code::PermanentFlags(&["\\Deleted", "\\Seen", "\\*"])),
                "Limited",
                "* OK [PERMANENTFLAGS (\\Deleted \\Seen \\*)] Limited",
            ),
            (
                Status::Ok,
                Some(Code::AppendUid(UidValidity(38505), &append)),
                "APPEND completed",
                "* OK [APPENDUID 38505 3955] APPEND completed",
            ),
            (
                Status::Ok,
                Some(Code::CopyUid(UidValidity(38505), &saved, &copied)),
                "Done",
                "* OK [COPYUID 38505 304,319:320 3956:3958] Done",
            ),
            (
                Status::Ok,
                Some(Code::HighestModSeq(ModSeq(715194045007))),
                "Highest",
                "* OK [HIGHESTMODSEQ 715194045007] Highest",
            ),
            (
                Status::No,
                Some(Code::Modified(&ranges(&[7, 9]))),
                "Conditional STORE failed",
                "* NO [MODIFIED 7,9] Conditional STORE failed",
            ),
            (
                Status::Ok,
                Some(Code::MailboxId("F2212ea87-6097-4256-9d51-71338625")),
                "Ok",
                "* OK [MAILBOXID (F2212ea87-6097-4256-9d51-71338625)] Ok",
            ),
            (Status::Bye, None, "Autologout; idle for too long", "* BYE Autologout; idle for too long"),
        ] {
            let mut out = Vec::new();
            Writer::new(&mut out, false).untagged(status, code, text);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\r\n"));
        }
    }

    #[test]
    fn a_text_cannot_speak_in_our_name() {
        let mut out = Vec::new();
        Writer::new(&mut out, false).tagged(&Tag("a1".into()), Status::No, None, "no\r\n* BYE é");
        assert_eq!(out, b"a1 NO no  * BYE ?\r\n");
    }
}
