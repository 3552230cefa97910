//! Writing a delivery status notification (RFC 3461 §6, RFC 3464): what happened, in words and in fields, and the mail it
//! happened to. Pure: who sends it where is [`crate::reporter`]'s business.
//!
//! Replies of other hosts and header fields of strangers are quoted here: whatever they hold, no line we write is too long,
//! none begins a field of their making, and what must be ASCII is (traps 27, 31).

use std::fmt::Write;
use std::net::IpAddr;

use base::{Address, Timestamp};
use mime::header;
use queue::{Message, Standing, State};
use smtp::OriginalRecipient;

/// The width of lines in the part for people.
const WIDTH: usize = 76;
/// Octets of anything quoted; it may be one word, and a line has at most 998 (RFC 5322 §2.1.1).
const QUOTED: usize = 800;

/// What is reported.
pub(crate) struct Report<'a> {
    pub(crate) hostname: &'a str,
    /// The message that the report is about.
    pub(crate) message: &'a Message,
    /// Those of its deliveries that owe a report.
    pub(crate) about: &'a [Standing],
    /// Whom it tells.
    pub(crate) to: &'a Address,
    /// The domain in whose name it tells.
    pub(crate) domain: &'a str,
    pub(crate) now: Timestamp,
    /// Makes Message-ID and boundary unlike any other.
    pub(crate) random: u64,
}

/// How much of the mail is returned.
pub(crate) enum Original<'a> {
    /// All of it (RET=FULL).
    Whole(&'a [u8]),
    /// Its header (RET=HDRS).
    Header(&'a [u8]),
    /// Nothing: it is lost.
    Nothing,
}

impl Original<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Original::Whole(bytes) | Original::Header(bytes) => bytes,
            Original::Nothing => b"",
        }
    }
}

/// RFC 3463 §3.5: delivery time expired.
const EXPIRED: &str = "4.4.7";
const EIGHT_BIT: &str = "Content-Transfer-Encoding: 8bit\r\n";

/// RFC 3464 §2.3.3
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Failed,
    Delayed,
    Delivered,
    Relayed,
}

impl Action {
    fn of(standing: &Standing) -> Self {
        match standing.state {
            State::Failed => Action::Failed,
            State::Delivered if standing.host.is_empty() => Action::Delivered,
            // RFC 3461 §5.2.2: the next host does not report, so this is the last that we know.
            State::Delivered => Action::Relayed,
            State::Waiting | State::Claimed | State::Cancelled | State::Held | State::Cancelling => Action::Delayed,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Action::Failed => "failed",
            Action::Delayed => "delayed",
            Action::Delivered => "delivered",
            Action::Relayed => "relayed",
        }
    }
}

impl Report<'_> {
    /// The whole notification.
    pub(crate) fn write(&self, original: &Original<'_>) -> Vec<u8> {
        let boundary = format!("=_{:016x}", self.random);
        let text = self.text();
        // RFC 2045 §6.4: the whole is no less than its parts.
        let encoding = if text.is_ascii() && original.bytes().is_ascii() { "" } else { EIGHT_BIT };
        let mut out = self.header(original, &boundary, encoding);
        self.part(&mut out, &boundary, "Notification", &content_type("text/plain", &text));
        out.push_str(&text);
        self.part(&mut out, &boundary, "Delivery report", "Content-Type: message/delivery-status\r\n");
        out.push_str(&self.status());
        let returned = match original {
            // RFC 6533 §3: with UTF-8 in the header, they are of another type.
            Original::Whole(bytes) if self.message.smtputf8 => Some(("message/global", bytes)),
            Original::Header(bytes) if self.message.smtputf8 => Some(("message/global-headers", bytes)),
            Original::Whole(bytes) => Some(("message/rfc822", bytes)),
            Original::Header(bytes) => Some(("text/rfc822-headers", bytes)),
            // RFC 6522 §3: the third part may be missing.
            Original::Nothing => None,
        };
        if let Some((kind, bytes)) = returned {
            let eight_bit = if bytes.is_ascii() { "" } else { EIGHT_BIT };
            self.part(&mut out, &boundary, "The mail", &format!("Content-Type: {kind}\r\n{eight_bit}"));
        }
        let mut out = out.into_bytes();
        out.extend_from_slice(original.bytes());
        if !out.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        out
    }

    fn part(&self, out: &mut String, boundary: &str, description: &str, content: &str) {
        let _ = write!(out, "\r\n--{boundary}\r\nContent-Description: {description}\r\n{content}\r\n");
    }

    fn header(&self, original: &Original<'_>, boundary: &str, encoding: &str) -> String {
        let (domain, date) = (self.domain, self.now.rfc5322());
        let mut out = format!("From: Mail Delivery System <postmaster@{domain}>\r\nTo: <{}>\r\n", self.to);
        let _ = write!(out, "Subject: {}\r\nDate: {date}\r\n", self.subject());
        let _ = write!(out, "Message-ID: <{:x}.{:016x}@{}>\r\n", self.now.0, self.random, self.hostname);
        let bytes = original.bytes();
        // Programs show the notification beside the mail. An id that is no id is not repeated (trap 31).
        let id =
            header::find(bytes, b"Message-ID").and_then(|f| header::message_ids(f.value).next().map(<[u8]>::to_vec));
        let id = id.filter(|id| id.len() < 900 && id.iter().all(|b| b.is_ascii_graphic() && !b"<>".contains(b)));
        if let Some(id) = id {
            let id = String::from_utf8_lossy(&id);
            let _ = write!(out, "In-Reply-To: <{id}>\r\nReferences: <{id}>\r\n");
        }
        // RFC 3834 §5: no program may answer this.
        out.push_str("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
        let _ = write!(
            out,
            "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n{encoding}\r\n\
             This is a delivery status notification in MIME format.\r\n"
        );
        out
    }

    fn has(&self, action: Action) -> bool {
        self.about.iter().any(|s| Action::of(s) == action)
    }

    fn subject(&self) -> &'static str {
        match (self.has(Action::Failed), self.has(Action::Delayed)) {
            (true, _) => "Your mail could not be delivered",
            (false, true) => "Your mail has not been delivered yet",
            (false, false) => "Your mail has been delivered",
        }
    }

    /// The part for people.
    fn text(&self) -> String {
        let sent = self.message.created.rfc5322();
        let mut out = String::new();
        wrap(&mut out, "", &format!("This is the mail system at {}, about your mail of {sent}.", self.hostname));
        for (action, words) in [
            (Action::Failed, "It could not be delivered to these recipients, and will not be tried again:"),
            (
                Action::Delayed,
                "It could not be delivered to these recipients yet. You need not send it again: it will be tried until \
                 the time given below.",
            ),
            (Action::Delivered, "It was delivered to:"),
            (Action::Relayed, "It was passed on to these recipients' mail host, which will not report any further:"),
        ] {
            if self.has(action) {
                out.push_str("\r\n");
                wrap(&mut out, "", words);
            }
            for s in self.about.iter().filter(|s| Action::of(s) == action) {
                out.push_str("\r\n");
                self.person(&mut out, s, action);
            }
        }
        out
    }

    fn person(&self, out: &mut String, s: &Standing, action: Action) {
        let to = s.delivery.to.to_string();
        let original = s.delivery.original.as_ref().filter(|o| !o.address.eq_ignore_ascii_case(&to));
        match original {
            Some(o) => wrap(out, "  ", &format!("<{to}> (sent to {})", visible(&o.address, 500))),
            None => wrap(out, "  ", &format!("<{to}>")),
        }
        if matches!(action, Action::Failed | Action::Delayed) && !s.reply.is_empty() {
            let reply = visible(&s.reply, QUOTED);
            if s.status == EXPIRED {
                wrap(out, "    ", "Given up, as it took too long. The last that happened:");
            }
            match s.host.as_str() {
                "" => wrap(out, "    ", &reply),
                host => wrap(out, "    ", &format!("{} answered: {reply}", visible(host, 255))),
            }
        }
        if action == Action::Delayed {
            wrap(out, "    ", &format!("It will be tried until {}.", s.delivery.expires.rfc5322()));
        }
    }

    /// The part for programs (RFC 3464 §2).
    fn status(&self) -> String {
        let mut out = String::new();
        if let Some(id) = &self.message.envelope_id {
            field(&mut out, "Original-Envelope-Id", id);
        }
        field(&mut out, "Reporting-MTA", &format!("dns; {}", self.hostname));
        field(&mut out, "Arrival-Date", &self.message.created.rfc5322());
        // RFC 2852 §5.
        if let Some(by) = self.message.deliver_by {
            field(&mut out, "Deliver-By-Date", &by.until.rfc5322());
        }
        for s in self.about {
            let (action, d) = (Action::of(s), &s.delivery);
            out.push_str("\r\n");
            if let Some(OriginalRecipient { kind, address }) = &d.original {
                field(&mut out, "Original-Recipient", &typed(kind, address));
            }
            let kind = if d.to.is_ascii() { "rfc822" } else { "utf-8" };
            field(&mut out, "Final-Recipient", &typed(kind, &d.to.to_string()));
            field(&mut out, "Action", action.word());
            field(&mut out, "Status", &status_code(s, action));
            // Only what the host did say (RFC 3464 §2.3.5, §2.3.6).
            if !s.host.is_empty() {
                field(&mut out, "Remote-MTA", &format!("dns; {}", mta(&s.host)));
                field(&mut out, "Diagnostic-Code", &format!("smtp; {}", s.reply));
            }
            if action == Action::Delayed {
                field(&mut out, "Will-Retry-Until", &d.expires.rfc5322());
            }
        }
        out
    }
}

fn status_code(s: &Standing, action: Action) -> String {
    match action {
        Action::Delivered | Action::Relayed if !s.status.starts_with('2') => "2.0.0".into(),
        // 552 at RCPT is to be tried again, whatever its class says.
        Action::Delayed if s.status.starts_with('5') => format!("4{}", &s.status[1..]),
        _ => s.status.clone(),
    }
}

/// An address literal stands in brackets.
fn mta(host: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V4(ip)) => format!("[{ip}]"),
        Ok(IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
        Err(_) => host.to_owned(),
    }
}

/// An address with its type; only `utf-8` knows how to write what is not ASCII.
fn typed(kind: &str, address: &str) -> String {
    if kind.eq_ignore_ascii_case("utf-8") { format!("{kind};{}", xtext(address)) } else { format!("{kind};{address}") }
}

/// UTF-8 on one line, and not for ever.
fn visible(text: &str, most: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text[..text.floor_char_boundary(most)].to_owned()
}

/// RFC 6533 §3: how an address outside of ASCII stands in a report that is in ASCII.
fn xtext(address: &str) -> String {
    let mut out = String::new();
    for c in address.chars() {
        match c {
            '\\' => out.push_str("\\x{5C}"),
            ' '..='~' => out.push(c),
            c => drop(write!(out, "\\x{{{:X}}}", u32::from(c))),
        }
    }
    out
}

/// A field of ours: ASCII, folded.
fn field(out: &mut String, name: &str, value: &str) {
    let plain = |c: char| match c {
        ' '..='~' => c,
        c if c.is_control() => ' ',
        _ => '?',
    };
    let value: String = value.chars().take(QUOTED).map(plain).collect();
    lines(out, &format!("{name}: "), " ", &value);
}

/// A paragraph, each line with the indent.
fn wrap(out: &mut String, indent: &str, text: &str) {
    lines(out, indent, indent, text);
}

/// Words on lines, of which the first begins differently from the others.
fn lines(out: &mut String, first: &str, others: &str, text: &str) {
    let (mut line, mut empty) = (first.to_owned(), true);
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(&line);
            out.push_str("\r\n");
            line = others.to_owned();
        } else if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push_str("\r\n");
}

fn content_type(kind: &str, text: &str) -> String {
    if text.is_ascii() {
        format!("Content-Type: {kind}; charset=us-ascii\r\n")
    } else {
        format!("Content-Type: {kind}; charset=utf-8\r\n{EIGHT_BIT}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::BlobId;
    use queue::{Delivery, Owed};
    use smtp::BodyType;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn message(envelope_id: Option<&str>) -> Message {
        Message {
            id: "1-1".parse().unwrap(),
            from: Some(Address::parse("me@example.test").unwrap()),
            prefix: Arc::from(&b""[..]),
            content: queue::Content::Stored(BlobId(1)),
            octets: 0,
            envelope_id: envelope_id.map(str::to_owned),
            ret: None,
            body: BodyType::SevenBit,
            smtputf8: false,
            require_tls: false,
            tls_optional: false,
            account: None,
            created: NOW,
            total: 1,
            stream: base::Stream::Mail,
            organisation: base::OrganisationId::HOUSE,
            priority: 0,
            release: None,
            deliver_by: None,
            message_id: None,
        }
    }

    fn standing(to: &str, state: State, status: &str, reply: &str, host: &str) -> Standing {
        let delivery = Delivery {
            number: 0,
            to: Address::parse(to).unwrap(),
            notify: None,
            original: None,
            expires: Timestamp(NOW.0 + 5 * 86_400_000),
            attempts: 1,
            warned: false,
            uncertain: 0,
            trail: None,
        };
        let (status, reply, host) = (status.to_owned(), reply.to_owned(), host.to_owned());
        Standing { delivery, state, due: NOW, owed: Owed::NOTHING, status, reply, host, class: String::new() }
    }

    fn written(message: &Message, about: &[Standing], original: &Original<'_>) -> String {
        let to = message.from.clone().unwrap();
        let report = Report {
            hostname: "mx.example.test",
            message,
            about,
            to: &to,
            domain: "example.test",
            now: NOW,
            random: 0xabc,
        };
        String::from_utf8(report.write(original)).unwrap()
    }

    const HEADER: Original<'_> = Original::Header(b"Subject: hi\r\nMessage-ID: <1@client.test>\r\n");

    #[test]
    fn a_failure_as_rfc_3464_has_it() {
        let about = [standing("jane@b.test", State::Failed, "5.1.1", "550 5.1.1 No such user", "mx.b.test")];
        let text = written(&message(Some("QQ314159")), &about, &HEADER);
        let expected = "From: Mail Delivery System <postmaster@example.test>\r\n\
            To: <me@example.test>\r\n\
            Subject: Your mail could not be delivered\r\n\
            Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n\
            Message-ID: <18bcfe56800.0000000000000abc@mx.example.test>\r\n\
            In-Reply-To: <1@client.test>\r\n\
            References: <1@client.test>\r\n\
            Auto-Submitted: auto-replied\r\n\
            MIME-Version: 1.0\r\n\
            Content-Type: multipart/report; report-type=delivery-status;\r\n\
            \tboundary=\"=_0000000000000abc\"\r\n\
            \r\n\
            This is a delivery status notification in MIME format.\r\n\
            \r\n\
            --=_0000000000000abc\r\n\
            Content-Description: Notification\r\n\
            Content-Type: text/plain; charset=us-ascii\r\n\
            \r\n\
            This is the mail system at mx.example.test, about your mail of Tue, 14 Nov\r\n\
            2023 22:13:20 +0000.\r\n\
            \r\n\
            It could not be delivered to these recipients, and will not be tried again:\r\n\
            \r\n  <jane@b.test>\r\n    mx.b.test answered: 550 5.1.1 No such user\r\n\
            \r\n\
            --=_0000000000000abc\r\n\
            Content-Description: Delivery report\r\n\
            Content-Type: message/delivery-status\r\n\
            \r\n\
            Original-Envelope-Id: QQ314159\r\n\
            Reporting-MTA: dns; mx.example.test\r\n\
            Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n\
            \r\n\
            Final-Recipient: rfc822;jane@b.test\r\n\
            Action: failed\r\n\
            Status: 5.1.1\r\n\
            Remote-MTA: dns; mx.b.test\r\n\
            Diagnostic-Code: smtp; 550 5.1.1 No such user\r\n\
            \r\n\
            --=_0000000000000abc\r\n\
            Content-Description: The mail\r\n\
            Content-Type: text/rfc822-headers\r\n\
            \r\n\
            Subject: hi\r\n\
            Message-ID: <1@client.test>\r\n\
            \r\n\
            --=_0000000000000abc--\r\n";
        assert_eq!(text, expected);
    }

    /// Who sends by us can read what we report: what was written stands in the fields that are read.
    #[test]
    fn what_we_write_we_read() {
        let about = [
            standing("jane@b.test", State::Failed, "5.2.2", "552 5.2.2 Over quota", "mx.b.test"),
            standing("jo@b.test", State::Waiting, "4.4.1", "", ""),
        ];
        let mail = written(&message(Some("QQ314159")), &about, &HEADER).into_bytes();
        let mut indexer = mime::Indexer::new(mime::Limits::default());
        indexer.push(&mail);
        let classifier = bounce::Classifier::new().unwrap();
        let read = queue::returned::read(&classifier, &indexer.finish(), true, |span, out| {
            out.extend_from_slice(&mail[span.start as usize..span.end as usize]);
            Ok(())
        });
        let Some(queue::returned::Returned::Report(report)) = read.unwrap() else { panic!("it is a report") };
        let recipients: Vec<_> =
            report.recipients.iter().map(|r| (r.address.clone().unwrap(), r.verdict.class)).collect();
        let class = |name| classifier.class(name).unwrap();
        assert_eq!(recipients[0], (about[0].delivery.to.clone(), class("mailbox-full")));
        assert_eq!(recipients[1], (about[1].delivery.to.clone(), class("delayed")));
        assert_eq!(report.recipients[0].diagnostic, "552 5.2.2 Over quota");
        assert_eq!(report.about.message_id.as_deref(), Some("1@client.test"));
        assert_eq!(report.about.envelope_id.as_deref(), Some("QQ314159"));
    }

    #[test]
    fn each_action_has_its_words_and_fields() {
        let mut delayed = standing("a@b.test", State::Waiting, "4.4.1", "451 4.4.1 no answer", "");
        delayed.delivery.original = Some(OriginalRecipient { kind: "rfc822".into(), address: "list@x.test".into() });
        let about = [
            delayed,
            standing("b@example.test", State::Delivered, "2.0.0", "", ""),
            standing("c@b.test", State::Delivered, "2.6.0", "250 2.6.0 Queued", "mx.b.test"),
        ];
        let text = written(&message(None), &about, &HEADER);
        for part in [
            "Subject: Your mail has not been delivered yet\r\n",
            "  <a@b.test> (sent to list@x.test)\r\n    451 4.4.1 no answer\r\n    It will be tried until Sun, 19 Nov 2023 22:13:20 +0000.\r\n",
            "Original-Recipient: rfc822;list@x.test\r\nFinal-Recipient: rfc822;a@b.test\r\nAction: delayed\r\nStatus: 4.4.1\r\nWill-Retry-Until: Sun, 19 Nov 2023 22:13:20 +0000\r\n",
            "Final-Recipient: rfc822;b@example.test\r\nAction: delivered\r\nStatus: 2.0.0\r\n\r\n",
            "Final-Recipient: rfc822;c@b.test\r\nAction: relayed\r\nStatus: 2.6.0\r\nRemote-MTA: dns; mx.b.test\r\n",
        ] {
            assert!(text.contains(part), "{part}\n---\n{text}");
        }
    }

    #[test]
    fn trap_27_no_reply_makes_a_field_or_a_part_of_its_own() {
        let reply = "550 5.1.1 \0no\u{1b}[2J\r\nAction: delivered\n\n--=_0000000000000abc--\r\nX: y";
        let text =
            written(&message(None), &[standing("a@b.test", State::Failed, "5.1.1", reply, "mx\r\nX: y")], &HEADER);
        let starts = |with: &str| text.split("\r\n").filter(|line| line.starts_with(with)).count();
        assert_eq!((starts("Action:"), starts("X:"), starts("--=_0000000000000abc")), (1, 0, 4));
        assert!(!text.replace("\r\n", "").contains(|c: char| c.is_control() && c != '\t'));
    }

    #[test]
    fn trap_31_no_line_is_too_long_and_no_id_is_bracketed_twice() {
        let reply = format!("550 {} {}", "x".repeat(3000), "word ".repeat(500));
        let about = [standing("a@b.test", State::Failed, "5.0.0", &reply, &"h".repeat(255))];
        let text = written(&message(Some(&"e".repeat(100))), &about, &HEADER);
        assert!(text.split("\r\n").all(|line| line.len() <= 998), "{text}");
        for (id, repeated) in [
            ("<<a@b>>", Some("<a@b>")),
            ("<a@b> <c@d>", Some("<a@b>")),
            ("a@b", None),
            ("<a b@c>", None),
            ("<a@b\r\n\tc>", None),
            ("<\u{e9}@b>", None),
        ] {
            let header = format!("Message-ID: {id}\r\n");
            let text = written(&message(None), &about, &Original::Header(header.as_bytes()));
            let (ours, _) = text.split_once("\r\n\r\n").unwrap();
            let found = ours.split("\r\n").find_map(|line| line.strip_prefix("In-Reply-To: "));
            assert_eq!(found, repeated, "{id}");
        }
    }

    #[test]
    fn trap_31_what_is_not_ascii_is_said_so() {
        let mut about = [standing("用户@例子.test", State::Failed, "5.1.1", "550 5.1.1 ¡no!", "mx.b.test")];
        about[0].delivery.original = Some(OriginalRecipient { kind: "utf-8".into(), address: "é\\@x.test".into() });
        let text = written(&message(None), &about, &Original::Whole("Subject: ü\r\n\r\nhello".as_bytes()));
        for part in [
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
            "  <用户@xn--fsqu00a.test> (sent to é\\@x.test)\r\n    mx.b.test answered: 550 5.1.1 ¡no!\r\n",
            "Original-Recipient: utf-8;\\x{E9}\\x{5C}@x.test\r\n",
            "Final-Recipient: utf-8;\\x{7528}\\x{6237}@xn--fsqu00a.test\r\n",
            "Diagnostic-Code: smtp; 550 5.1.1 ?no!\r\n",
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: ü\r\n\r\nhello\r\n\r\n--",
            "\tboundary=\"=_0000000000000abc\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\nThis is",
        ] {
            assert!(text.contains(part), "{part}\n---\n{text}");
        }
    }

    #[test]
    fn words_of_ours_are_not_the_hosts_and_fields_are_of_their_type() {
        let mut expired =
            standing("\"a\\\\b\"@b.test", State::Failed, "4.4.7", "451 4.4.1 No connection to mx.b.test", "");
        expired.delivery.original = Some(OriginalRecipient { kind: "rfc822".into(), address: "a\\b@x.test".into() });
        let about = [
            expired,
            standing("b@b.test", State::Failed, "5.1.1", "550 5.1.1 No", "127.0.0.1"),
            standing("c@b.test", State::Waiting, "5.5.3", "552 5.5.3 Too many", "2001:db8::1"),
        ];
        let text = written(&Message { smtputf8: true, ..message(None) }, &about, &HEADER);
        for part in [
            "    Given up, as it took too long. The last that happened:\r\n    451 4.4.1 No connection to mx.b.test\r\n",
            "Original-Recipient: rfc822;a\\b@x.test\r\nFinal-Recipient: rfc822;\"a\\\\b\"@b.test\r\nAction: failed\r\nStatus: 4.4.7\r\n\r\n",
            "Remote-MTA: dns; [127.0.0.1]\r\nDiagnostic-Code: smtp; 550 5.1.1 No\r\n",
            "Action: delayed\r\nStatus: 4.5.3\r\nRemote-MTA: dns; [IPv6:2001:db8::1]\r\n",
            "Content-Type: message/global-headers\r\n",
        ] {
            assert!(text.contains(part), "{part}\n---\n{text}");
        }
        assert_eq!(text.matches("Diagnostic-Code").count(), 2);
    }
}
