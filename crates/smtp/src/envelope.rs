//! What MAIL and RCPT carry (RFC 5321 §4.1.1.2-3 and the extensions' parameters), parsed strictly. The server hands these
//! out; the client takes them. It decides nothing: whether an address may send or exists is the caller's to say.

use std::fmt;

use base::{Address, Reply};

use crate::timing::{self, DeliverBy, FutureRelease, Hold};
use crate::xtext;

/// `MAIL FROM:`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Mail {
    /// The reverse-path, source route dropped; none for `<>` (RFC 5321 §4.5.5: a notification, never to be answered).
    pub from: Option<Address>,
    /// SIZE (RFC 1870), octets, as declared; already within the server's maximum.
    pub size: Option<u64>,
    /// BODY (RFC 6152, RFC 3030).
    pub body: BodyType,
    /// SMTPUTF8 (RFC 6531): addresses and header may hold UTF-8.
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689): the mail goes on by verified TLS only.
    pub require_tls: bool,
    /// RET (RFC 3461 §4.3): how much of the mail a failure report returns.
    pub ret: Option<Ret>,
    /// ENVID (RFC 3461 §4.4), decoded: printable ASCII.
    pub envelope_id: Option<String>,
    /// AUTH (RFC 4954 §5): who submitted the mail at its origin, `Some(None)` for `AUTH=<>`. To be believed only from
    /// a trusted peer.
    pub auth: Option<Option<Address>>,
    /// HOLDFOR or HOLDUNTIL (RFC 4865); within what is announced.
    pub hold: Option<Hold>,
    /// BY (RFC 2852).
    pub deliver_by: Option<DeliverBy>,
    /// MT-PRIORITY (RFC 6710), -9 to 9. To be believed only from a trusted peer.
    pub priority: Option<i8>,
}

/// What octets a body may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BodyType {
    /// BODY=7BIT, and the default.
    #[default]
    SevenBit,
    /// BODY=8BITMIME (RFC 6152): octets above 127, still lines.
    EightBitMime,
    /// BODY=BINARYMIME (RFC 3030 §3): no lines; by BDAT only.
    BinaryMime,
}

/// How much of a mail its failure report returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// RET=FULL
    Full,
    /// RET=HDRS
    Headers,
}

/// `RCPT TO:`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rcpt {
    /// The forward-path, source route dropped.
    pub to: Recipient,
    /// NOTIFY (RFC 3461 §4.1).
    pub notify: Option<Notify>,
    /// ORCPT (RFC 3461 §4.2).
    pub original: Option<OriginalRecipient>,
}

/// Whom a mail is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// `<postmaster>` without a domain, in any case (RFC 5321 §4.5.1).
    Postmaster,
    /// Any other.
    Mailbox(Address),
}

/// When the sender wants a report (RFC 3461 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    /// NOTIFY=NEVER
    Never,
    /// At least one of the three.
    On {
        /// It was delivered.
        success: bool,
        /// It could not be.
        failure: bool,
        /// It takes long.
        delay: bool,
    },
}

/// ORCPT: the recipient as the sender first wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalRecipient {
    /// `rfc822`, `utf-8` (RFC 6533), …; in lower case.
    pub kind: String,
    /// Decoded; no control characters.
    pub address: String,
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Recipient::Postmaster => f.write_str("postmaster"),
            Recipient::Mailbox(address) => address.fmt(f),
        }
    }
}

/// What a server lets a client ask for; anything else is 555.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offered {
    /// EHLO or LHLO was said; a HELO session has no parameters.
    pub extensions: bool,
    pub smtputf8: bool,
    pub binarymime: bool,
    pub dsn: bool,
    pub requiretls: bool,
    pub auth: bool,
    pub future_release: Option<FutureRelease>,
    /// The least that is taken, in seconds.
    pub deliver_by: Option<u32>,
    pub mt_priority: bool,
    /// Octets.
    pub max_size: u64,
}

/// Parses what follows `MAIL `.
///
/// # Errors
/// The reply the client gets.
pub(crate) fn parse_mail(args: &str, offered: &Offered) -> Result<Mail, Reply> {
    let args = strip_keyword(args, "FROM:").ok_or(Reply::new(501, 5, 4, "Syntax: MAIL FROM:<address>"))?;
    let (path, params) = split_path(args).ok_or(Reply::new(501, 1, 7, "The sender must stand in angle brackets"))?;
    let from = match path {
        "" => None,
        path => Some(Address::parse(path).map_err(|e| Reply::new(501, 1, 7, format!("Bad sender address: {e}")))?),
    };
    let mut mail = Mail { from, ..Mail::default() };
    let mut seen = Seen::default();
    for param in params.split(' ').filter(|p| !p.is_empty()) {
        let param = Param::parse(param)?;
        let known = seen.once(&param)?;
        match known {
            Known::Size if offered.extensions => mail.size = Some(param.size(offered.max_size)?),
            Known::Body if offered.extensions => mail.body = param.body(offered)?,
            Known::SmtpUtf8 if offered.smtputf8 => mail.smtputf8 = param.flag()?,
            Known::RequireTls if offered.requiretls => mail.require_tls = param.flag()?,
            Known::Ret if offered.dsn => mail.ret = Some(param.ret()?),
            Known::EnvId if offered.dsn => mail.envelope_id = Some(param.envelope_id()?),
            Known::Auth if offered.auth => mail.auth = Some(param.auth()?),
            Known::HoldFor | Known::HoldUntil if offered.future_release.is_some() => {
                // RFC 4865 §4: one of the two.
                mail.hold =
                    Some(param.hold(known, offered).filter(|_| mail.hold.is_none()).ok_or_else(|| param.bad())?);
            }
            Known::By if offered.deliver_by.is_some() => mail.deliver_by = Some(param.deliver_by(offered)?),
            Known::MtPriority if offered.mt_priority => {
                mail.priority = Some(timing::priority(param.value()?).ok_or_else(|| param.bad())?);
            }
            _ => return Err(param.unknown()),
        }
    }
    // As it was written: an address knows its domain by A-labels only.
    if !path.is_ascii() && !mail.smtputf8 {
        return Err(needs_smtputf8());
    }
    Ok(mail)
}

/// Parses what follows `RCPT `; `smtputf8` is what MAIL agreed.
///
/// # Errors
/// The reply the client gets.
pub(crate) fn parse_rcpt(args: &str, offered: &Offered, smtputf8: bool) -> Result<Rcpt, Reply> {
    let args = strip_keyword(args, "TO:").ok_or(Reply::new(501, 5, 4, "Syntax: RCPT TO:<address>"))?;
    let (path, params) = split_path(args).ok_or(Reply::new(501, 1, 3, "The recipient must stand in angle brackets"))?;
    let to = if path.eq_ignore_ascii_case("postmaster") {
        Recipient::Postmaster
    } else {
        let address = Address::parse(path);
        Recipient::Mailbox(address.map_err(|e| Reply::new(501, 1, 3, format!("Bad recipient address: {e}")))?)
    };
    let mut rcpt = Rcpt { to, notify: None, original: None };
    let mut seen = Seen::default();
    for param in params.split(' ').filter(|p| !p.is_empty()) {
        let param = Param::parse(param)?;
        match seen.once(&param)? {
            Known::Notify if offered.dsn => rcpt.notify = Some(param.notify()?),
            Known::Orcpt if offered.dsn => rcpt.original = Some(param.original_recipient(smtputf8)?),
            _ => return Err(param.unknown()),
        }
    }
    if path.is_ascii() || smtputf8 { Ok(rcpt) } else { Err(needs_smtputf8()) }
}

/// RFC 6531 §3.5: the code for MAIL and RCPT.
fn needs_smtputf8() -> Reply {
    Reply::new(553, 6, 7, "An address outside US-ASCII needs MAIL with SMTPUTF8")
}

/// What follows `keyword`, without the spaces that RFC 5321 §3.3 forbids there and many clients send.
fn strip_keyword<'a>(args: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, tail) = args.split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then(|| tail.trim_start_matches(' '))
}

/// `<path> rest` as (path, rest): brackets off, source route dropped; a `>` within quotes does not end it.
fn split_path(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    let end = inner.bytes().position(|b| {
        let ends = b == b'>' && !quoted;
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ => {}
        }
        ends
    })?;
    let (path, rest) = (&inner[..end], &inner[end + 1..]);
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    // RFC 5321 §4.1.1.3, appendix C: `@a,@b:user@host` means user@host today.
    let path = if path.starts_with('@') { drop_route(path)? } else { path };
    Some((path, rest))
}

/// What follows the first colon that is not in an address literal.
fn drop_route(path: &str) -> Option<&str> {
    let mut literal = false;
    let colon = path.bytes().position(|b| {
        match b {
            b'[' => literal = true,
            b']' => literal = false,
            _ => {}
        }
        b == b':' && !literal
    })?;
    // An empty mailbox here must not become the null sender.
    Some(&path[colon + 1..]).filter(|mailbox| !mailbox.is_empty())
}

/// The parameters we know; each may stand once in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Size,
    Body,
    SmtpUtf8,
    RequireTls,
    Ret,
    EnvId,
    Auth,
    Notify,
    Orcpt,
    HoldFor,
    HoldUntil,
    By,
    MtPriority,
}

const KNOWN: [(&str, Known); 13] = [
    ("SIZE", Known::Size),
    ("BODY", Known::Body),
    ("SMTPUTF8", Known::SmtpUtf8),
    ("REQUIRETLS", Known::RequireTls),
    ("RET", Known::Ret),
    ("ENVID", Known::EnvId),
    ("AUTH", Known::Auth),
    ("NOTIFY", Known::Notify),
    ("ORCPT", Known::Orcpt),
    ("HOLDFOR", Known::HoldFor),
    ("HOLDUNTIL", Known::HoldUntil),
    ("BY", Known::By),
    ("MT-PRIORITY", Known::MtPriority),
];

/// Which parameters a command has had.
#[derive(Default)]
struct Seen(u16);

impl Seen {
    fn once(&mut self, param: &Param<'_>) -> Result<Known, Reply> {
        let known = KNOWN.iter().find(|(name, _)| name.eq_ignore_ascii_case(param.keyword));
        let known = known.ok_or_else(|| param.unknown())?.1;
        let bit = 1 << known as u16;
        if self.0 & bit != 0 {
            return Err(Reply::new(501, 5, 4, format!("{} stands twice", param.keyword)));
        }
        self.0 |= bit;
        Ok(known)
    }
}

/// `keyword` or `keyword=value` (RFC 5321 §4.1.2 `esmtp-param`).
struct Param<'a> {
    keyword: &'a str,
    value: Option<&'a str>,
}

impl<'a> Param<'a> {
    fn parse(text: &'a str) -> Result<Self, Reply> {
        let (keyword, value) = match text.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (text, None),
        };
        let well_formed = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
            && keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && value.is_none_or(|v| !v.is_empty());
        well_formed.then_some(Param { keyword, value }).ok_or(Reply::new(501, 5, 4, "Bad parameter syntax"))
    }

    /// RFC 5321 §4.1.1.11.
    fn unknown(&self) -> Reply {
        Reply::new(555, 5, 4, format!("Parameter {} is not recognised here", self.keyword))
    }

    fn bad(&self) -> Reply {
        Reply::new(501, 5, 4, format!("Bad value for {}", self.keyword))
    }

    fn value(&self) -> Result<&'a str, Reply> {
        self.value.ok_or_else(|| self.bad())
    }

    fn flag(&self) -> Result<bool, Reply> {
        if self.value.is_none() { Ok(true) } else { Err(self.bad()) }
    }

    /// RFC 1870 §4: up to 20 digits. §6.1: too big is refused here, before a single octet is sent.
    fn size(&self, max: u64) -> Result<u64, Reply> {
        let value = self.value()?;
        if value.len() > 20 || !value.bytes().all(|b| b.is_ascii_digit()) {
            return Err(self.bad());
        }
        match value.parse() {
            Ok(size) if size <= max => Ok(size),
            _ => Err(too_big(max)),
        }
    }

    fn body(&self, offered: &Offered) -> Result<BodyType, Reply> {
        match self.value()? {
            v if v.eq_ignore_ascii_case("7BIT") => Ok(BodyType::SevenBit),
            v if v.eq_ignore_ascii_case("8BITMIME") => Ok(BodyType::EightBitMime),
            v if v.eq_ignore_ascii_case("BINARYMIME") && offered.binarymime => Ok(BodyType::BinaryMime),
            _ => Err(self.bad()),
        }
    }

    fn ret(&self) -> Result<Ret, Reply> {
        match self.value()? {
            v if v.eq_ignore_ascii_case("FULL") => Ok(Ret::Full),
            v if v.eq_ignore_ascii_case("HDRS") => Ok(Ret::Headers),
            _ => Err(self.bad()),
        }
    }

    /// RFC 3461 §4.4: at most 100 characters.
    fn envelope_id(&self) -> Result<String, Reply> {
        let value = self.value()?;
        if value.len() > 100 {
            return Err(self.bad());
        }
        xtext::decode(value).ok_or_else(|| self.bad())
    }

    /// RFC 4954 §5.
    fn auth(&self) -> Result<Option<Address>, Reply> {
        let text = xtext::decode(self.value()?).ok_or_else(|| self.bad())?;
        if text == "<>" {
            return Ok(None);
        }
        Address::parse(&text).map(Some).map_err(|_| self.bad())
    }

    /// RFC 4865 §4: no longer than is offered.
    fn hold(&self, known: Known, offered: &Offered) -> Option<Hold> {
        let value = self.value?;
        let hold = if known == Known::HoldFor { timing::hold_for(value) } else { timing::hold_until(value) };
        hold.filter(|hold| offered.future_release.is_some_and(|most| most.allows(*hold)))
    }

    /// RFC 2852 §4: what is to be returned needs as much time as is announced.
    fn deliver_by(&self, offered: &Offered) -> Result<DeliverBy, Reply> {
        let by = timing::deliver_by(self.value()?).ok_or_else(|| self.bad())?;
        let least = offered.deliver_by.unwrap_or(0);
        if by.returned && i64::from(by.seconds) < i64::from(least) {
            return Err(Reply::new(
                555,
                5,
                4,
                format!("Delivery within less than {least} seconds is not promised here"),
            ));
        }
        Ok(by)
    }

    /// RFC 3461 §4.1: NEVER stands alone.
    fn notify(&self) -> Result<Notify, Reply> {
        let value = self.value()?;
        if value.eq_ignore_ascii_case("NEVER") {
            return Ok(Notify::Never);
        }
        let (mut success, mut failure, mut delay) = (false, false, false);
        for word in value.split(',') {
            let flag = match word {
                w if w.eq_ignore_ascii_case("SUCCESS") => &mut success,
                w if w.eq_ignore_ascii_case("FAILURE") => &mut failure,
                w if w.eq_ignore_ascii_case("DELAY") => &mut delay,
                _ => return Err(self.bad()),
            };
            *flag = true;
        }
        Ok(Notify::On { success, failure, delay })
    }

    /// RFC 3461 §4.2: at most 500 characters, `addr-type;xtext`. RFC 6533 §3: UTF-8 as such only after SMTPUTF8.
    fn original_recipient(&self, smtputf8: bool) -> Result<OriginalRecipient, Reply> {
        let value = self.value()?;
        let (kind, address) = value.split_once(';').ok_or_else(|| self.bad())?;
        let is_atom = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if value.len() > 500 || !is_atom || address.is_empty() || !(smtputf8 || value.is_ascii()) {
            return Err(self.bad());
        }
        let kind = kind.to_ascii_lowercase();
        let address = if kind == "utf-8" { xtext::decode_utf8(address) } else { xtext::decode(address) };
        Ok(OriginalRecipient { kind, address: address.ok_or_else(|| self.bad())? })
    }
}

/// RFC 1870 §6.1 and §6.3, RFC 3463 §3.4 (X.3.4).
pub(crate) fn too_big(max: u64) -> Reply {
    Reply::new(552, 3, 4, format!("The message is larger than the {max} octets accepted here"))
}

#[cfg(test)]
mod tests {
    use base::Timestamp;

    use super::*;

    const ALL: Offered = Offered {
        extensions: true,
        smtputf8: true,
        binarymime: true,
        dsn: true,
        requiretls: true,
        auth: true,
        future_release: Some(FutureRelease { most: 1000, until: Timestamp(1_000_000) }),
        deliver_by: Some(60),
        mt_priority: true,
        max_size: 1000,
    };

    fn mail(args: &str) -> Result<Mail, String> {
        parse_mail(args, &ALL).map_err(|r| r.to_string()[..9].to_string())
    }

    fn rcpt(args: &str) -> Result<Rcpt, String> {
        parse_rcpt(args, &ALL, false).map_err(|r| r.to_string()[..9].to_string())
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn senders() {
        assert_eq!(mail("FROM:<>").unwrap(), Mail::default());
        for (args, from) in [
            ("FROM:<a@x.test>", "a@x.test"),
            ("from: <a@x.test>", "a@x.test"),
            ("FROM:<@r.test,@[IPv6:::1]:a@x.test>", "a@x.test"),
            ("FROM:<\"a> b\\\"\"@x.test>", "\"a> b\\\"\"@x.test"),
            ("FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        ] {
            assert_eq!(mail(args).unwrap().from, Some(address(from)), "{args}");
        }
        for (args, error) in [
            ("", "501 5.5.4"),
            ("FROM", "501 5.5.4"),
            ("TO:<a@x.test>", "501 5.5.4"),
            ("FROM:a@x.test", "501 5.1.7"),
            ("FROM:<a@x.test", "501 5.1.7"),
            ("FROM:<a@x.test>SIZE=1", "501 5.1.7"),
            ("FROM:<a>", "501 5.1.7"),
            ("FROM:<@r.test:>", "501 5.1.7"),
            ("FROM:<@r.test>", "501 5.1.7"),
            ("FROM:<a b@x.test>", "501 5.1.7"),
            ("FROM:<用户@x.test>", "553 5.6.7"),
            ("FROM:<a@例子.test>", "553 5.6.7"),
        ] {
            assert_eq!(mail(args), Err(error.into()), "{args}");
        }
    }

    #[test]
    fn mail_parameters() {
        let m =
            mail("FROM:<用@x.test>  size=999 BODY=8bitMIME SMTPUTF8 REQUIRETLS RET=HDRS ENVID=a+2Bb AUTH=<>").unwrap();
        assert_eq!((m.size, m.body, m.smtputf8, m.require_tls), (Some(999), BodyType::EightBitMime, true, true));
        assert_eq!((m.ret, m.envelope_id.as_deref(), m.auth), (Some(Ret::Headers), Some("a+b"), Some(None)));
        // RFC 4954 §5's example has AUTH=e+3Dmc2@example.com.
        assert_eq!(mail("FROM:<e=mc2@example.com> AUTH=e+3Dmc2@example.com").unwrap().auth, {
            Some(Some(address("e=mc2@example.com")))
        });
        for (params, error) in [
            ("SIZE", "501 5.5.4"),
            ("SIZE=", "501 5.5.4"),
            ("SIZE=1x", "501 5.5.4"),
            ("SIZE=-1", "501 5.5.4"),
            ("SIZE=1001", "552 5.3.4"),
            ("SIZE=99999999999999999999", "552 5.3.4"),
            ("SIZE=999999999999999999999", "501 5.5.4"),
            ("SIZE=1 SIZE=1", "501 5.5.4"),
            ("BODY=9BIT", "501 5.5.4"),
            ("SMTPUTF8=1", "501 5.5.4"),
            ("RET=SOME", "501 5.5.4"),
            ("ENVID=a=b", "501 5.5.4"),
            ("AUTH=nobody", "501 5.5.4"),
            ("NOTIFY=NEVER", "555 5.5.4"),
            ("HOLDFOR=1001", "501 5.5.4"),
            ("HOLDFOR", "501 5.5.4"),
            ("HOLDUNTIL=1970-01-01T01:00:00Z", "501 5.5.4"),
            ("HOLDFOR=1 HOLDUNTIL=1970-01-01T00:00:01Z", "501 5.5.4"),
            ("HOLDFOR=1 HOLDFOR=1", "501 5.5.4"),
            ("BY=59;R", "555 5.5.4"),
            ("BY=0;R", "501 5.5.4"),
            ("BY", "501 5.5.4"),
            ("MT-PRIORITY=10", "501 5.5.4"),
            ("MT-PRIORITY", "501 5.5.4"),
            ("X=1", "555 5.5.4"),
            ("=1", "501 5.5.4"),
            ("-X", "501 5.5.4"),
        ] {
            assert_eq!(mail(&format!("FROM:<> {params}")), Err(error.into()), "{params}");
        }
        let m = mail("FROM:<> HoldFor=1000 By=-5;NT mt-Priority=-3").unwrap();
        assert_eq!(
            (m.hold, m.deliver_by.unwrap().to_string(), m.priority),
            (Some(Hold::For(1000)), "-5;NT".into(), Some(-3))
        );
        assert_eq!(mail("FROM:<> BY=60;R").unwrap().deliver_by.unwrap().seconds, 60);
        assert_eq!(mail(&format!("FROM:<> ENVID={}", "a".repeat(101))), Err("501 5.5.4".into()));
    }

    #[test]
    fn what_is_not_offered_is_not_recognised() {
        let offered = Offered { extensions: true, max_size: 1000, ..Offered::default() };
        for param in
            ["SMTPUTF8", "REQUIRETLS", "RET=FULL", "ENVID=a", "AUTH=<>", "HOLDFOR=1", "BY=99;N", "MT-PRIORITY=1"]
        {
            assert_eq!(parse_mail(&format!("FROM:<> {param}"), &offered).unwrap_err().code, 555, "{param}");
        }
        assert_eq!(parse_mail("FROM:<> BODY=BINARYMIME", &offered).unwrap_err().code, 501);
        assert_eq!(parse_mail("FROM:<> SIZE=1", &Offered::default()).unwrap_err().code, 555);
        assert_eq!(parse_rcpt("TO:<a@x.test> NOTIFY=NEVER", &offered, false).unwrap_err().code, 555);
    }

    #[test]
    fn recipients() {
        assert_eq!(rcpt("TO:<PostMaster>").unwrap().to, Recipient::Postmaster);
        assert_eq!(rcpt("TO:<@a,@b:j@x.test>").unwrap().to, Recipient::Mailbox(address("j@x.test")));
        for args in ["TO:<>", "TO:<jane>", "TO:jane@x.test", "TO:<j@x.test>>", "TO:<\"j@x.test>"] {
            assert_eq!(rcpt(args), Err("501 5.1.3".into()), "{args}");
        }
        let utf8 = "TO:<用户@x.test>";
        assert_eq!(rcpt(utf8), Err("553 5.6.7".into()));
        assert_eq!(parse_rcpt(utf8, &ALL, true).unwrap().to, Recipient::Mailbox(address("用户@x.test")));
    }

    #[test]
    fn recipient_parameters() {
        // RFC 3461 §10.1's command.
        let r = rcpt("TO:<Carol@Ivory.EDU> NOTIFY=FAILURE ORCPT=rfc822;Carol@Ivory.EDU").unwrap();
        assert_eq!(r.notify, Some(Notify::On { success: false, failure: true, delay: false }));
        assert_eq!(r.original, Some(OriginalRecipient { kind: "rfc822".into(), address: "Carol@Ivory.EDU".into() }));
        assert_eq!(rcpt("TO:<a@x.test> NOTIFY=never").unwrap().notify, Some(Notify::Never));
        let all = rcpt("TO:<a@x.test> NOTIFY=DELAY,SUCCESS,FAILURE").unwrap();
        assert_eq!(all.notify, Some(Notify::On { success: true, failure: true, delay: true }));
        for params in [
            "NOTIFY=NEVER,DELAY",
            "NOTIFY=",
            "NOTIFY=SUCCESS,",
            "ORCPT=a@x.test",
            "ORCPT=;a",
            "ORCPT=rfc822;",
            "ORCPT=rfc822;a+0D+0Ab",
            "ORCPT=utf-8;用@x.test",
        ] {
            assert_eq!(rcpt(&format!("TO:<a@x.test> {params}")), Err("501 5.5.4".into()), "{params}");
        }
        let utf8 = parse_rcpt("TO:<a@x.test> ORCPT=utf-8;用@x.test", &ALL, true).unwrap().original.unwrap();
        assert_eq!(utf8.address, "用@x.test");
    }
}
