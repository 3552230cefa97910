//! Untagged responses but for FETCH (RFC 9051 §7.2 to §7.4).

use super::Writer;
use crate::command::{Enable, IdField, SpecialUse, StatusItem, Tag};
use crate::name::MailboxName;
use crate::sequence::Ranges;
use base::ModSeq;

/// What CAPABILITY tells, which depends on where the session stands (RFC 9051 §6.1.1, §11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Capabilities<'a> {
    /// After the login: everything; before: what helps to log in.
    pub authenticated: bool,
    /// STARTTLS can be had.
    pub starttls: bool,
    /// No password may be sent on this connection: LOGINDISABLED.
    pub login_disabled: bool,
    /// SASL mechanisms that may be used on this connection.
    pub mechanisms: &'a [&'a str],
    /// The largest message APPEND takes anywhere (RFC 7889), in octets.
    pub append_limit: Option<u64>,
}

/// Known before the login too.
const ALWAYS: &str = "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE";

/// Of use after the login. RFC 9051 includes many; clients of IMAP4rev1 look for them.
const AFTER_LOGIN: &str = " IDLE NAMESPACE CHILDREN UIDPLUS UNSELECT LIST-EXTENDED LIST-STATUS SPECIAL-USE \
    CREATE-SPECIAL-USE MOVE ESEARCH SEARCHRES CONDSTORE QRESYNC BINARY MULTIAPPEND STATUS=SIZE OBJECTID SAVEDATE \
    WITHIN UTF8=ACCEPT APPENDLIMIT";

/// What LIST says of a mailbox (RFC 9051 §7.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListAttribute {
    /// `\Noinferiors`: no children, ever.
    NoInferiors,
    /// `\Noselect`: a place in the hierarchy, no mailbox.
    NoSelect,
    /// `\NonExistent` (RFC 5258); implies `\Noselect`.
    NonExistent,
    /// `\Marked`
    Marked,
    /// `\Unmarked`
    Unmarked,
    /// `\HasChildren` (RFC 3348)
    HasChildren,
    /// `\HasNoChildren` (RFC 3348)
    HasNoChildren,
    /// `\Subscribed` (RFC 5258)
    Subscribed,
    /// `\Remote` (RFC 5258)
    Remote,
    /// What it is for (RFC 6154).
    Use(SpecialUse),
}

impl ListAttribute {
    /// As it stands in the response.
    pub const fn as_str(self) -> &'static str {
        match self {
            ListAttribute::NoInferiors => "\\Noinferiors",
            ListAttribute::NoSelect => "\\Noselect",
            ListAttribute::NonExistent => "\\NonExistent",
            ListAttribute::Marked => "\\Marked",
            ListAttribute::Unmarked => "\\Unmarked",
            ListAttribute::HasChildren => "\\HasChildren",
            ListAttribute::HasNoChildren => "\\HasNoChildren",
            ListAttribute::Subscribed => "\\Subscribed",
            ListAttribute::Remote => "\\Remote",
            ListAttribute::Use(special) => special.as_str(),
        }
    }
}

/// One line of LIST.
#[derive(Clone, Copy, Debug)]
pub struct ListEntry<'a> {
    /// What there is to say of it.
    pub attributes: &'a [ListAttribute],
    /// Between levels; none: the name space is flat.
    pub delimiter: Option<char>,
    /// The mailbox.
    pub name: &'a MailboxName,
    /// The name the client used for it, or it had (RFC 9051 §6.3.9.7).
    pub old_name: Option<&'a MailboxName>,
    /// RECURSIVEMATCH found something subscribed below it (RFC 5258 §3.5).
    pub child_subscribed: bool,
}

/// A figure of STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusValue<'a> {
    /// Most are numbers.
    Number(u64),
    /// MAILBOXID.
    Id(&'a str),
    /// APPENDLIMIT, when there is none.
    Nil,
}

/// The answer to SEARCH RETURN (RFC 9051 §7.3.4, RFC 4731 §3.1): what was asked for and found.
#[derive(Clone, Copy, Debug)]
pub struct Esearch<'a> {
    /// The command's.
    pub tag: &'a Tag,
    /// It was UID SEARCH.
    pub uid: bool,
    /// None when not asked for, or nothing matched.
    pub min: Option<u32>,
    /// None when not asked for, or nothing matched.
    pub max: Option<u32>,
    /// None when not asked for.
    pub count: Option<u32>,
    /// None when not asked for; an empty set is left out.
    pub all: Option<&'a Ranges>,
    /// The highest of the messages told, when MODSEQ was among the keys (RFC 7162 §3.1.10).
    pub mod_seq: Option<ModSeq>,
}

impl Writer<'_> {
    /// `* CAPABILITY …`
    pub fn capability(&mut self, capabilities: &Capabilities<'_>) {
        self.raw(b"* CAPABILITY ").capabilities(capabilities).end_line();
    }

    pub(super) fn capabilities(&mut self, capabilities: &Capabilities<'_>) -> &mut Self {
        self.raw(ALWAYS);
        if capabilities.starttls {
            self.raw(b" STARTTLS");
        }
        if capabilities.authenticated {
            self.raw(AFTER_LOGIN);
            return match capabilities.append_limit {
                Some(octets) => self.raw(b"=").number(octets),
                None => self,
            };
        }
        if capabilities.login_disabled {
            self.raw(b" LOGINDISABLED");
        }
        for mechanism in capabilities.mechanisms {
            self.raw(b" AUTH=").raw(mechanism);
        }
        self
    }

    /// `* ENABLED …` (RFC 9051 §7.2.1): those turned on now.
    pub fn enabled(&mut self, enable: Enable) {
        self.raw(b"* ENABLED");
        for (on, name) in [
            (enable.condstore, " CONDSTORE"),
            (enable.qresync, " QRESYNC"),
            (enable.utf8, " UTF8=ACCEPT"),
            (enable.rev2, " IMAP4rev2"),
        ] {
            if on {
                self.raw(name);
            }
        }
        self.end_line();
    }

    /// `* ID (…)` (RFC 2971 §3.2); NIL for none.
    pub fn id(&mut self, fields: &[IdField]) {
        self.raw(b"* ID ");
        if fields.is_empty() {
            self.raw(b"NIL");
        } else {
            for (i, field) in fields.iter().enumerate() {
                self.raw(if i == 0 { "(" } else { " " }).string(&*field.name).raw(b" ");
                self.nstring(field.value.as_deref().map(str::as_bytes));
            }
            self.raw(b")");
        }
        self.end_line();
    }

    /// `* NAMESPACE …` (RFC 9051 §7.3.3): prefix and delimiter of each personal, other users' and shared one.
    pub fn namespace(&mut self, personal: &[(&str, char)], others: &[(&str, char)], shared: &[(&str, char)]) {
        self.raw(b"* NAMESPACE");
        for namespaces in [personal, others, shared] {
            self.raw(if namespaces.is_empty() { " NIL" } else { " (" });
            for (prefix, delimiter) in namespaces {
                self.raw(b"(").prefix(prefix).raw(b" ").delimiter(Some(*delimiter)).raw(b")");
            }
            if !namespaces.is_empty() {
                self.raw(b")");
            }
        }
        self.end_line();
    }

    /// The beginning of mailbox names, always quoted.
    fn prefix(&mut self, prefix: &str) -> &mut Self {
        if self.utf8 {
            return self.string(prefix);
        }
        let mut wire = Vec::new();
        crate::name::utf7_encode(prefix, &mut wire);
        self.string(wire)
    }

    fn delimiter(&mut self, delimiter: Option<char>) -> &mut Self {
        match delimiter {
            Some(c) => self.string(&*c.encode_utf8(&mut [0; 4])),
            None => self.raw(b"NIL"),
        }
    }

    /// `* LIST …`
    pub fn list(&mut self, entry: &ListEntry<'_>) {
        self.raw(b"* LIST ").list_body(entry);
        if entry.child_subscribed || entry.old_name.is_some() {
            self.raw(b" (");
            if entry.child_subscribed {
                self.raw(b"\"CHILDINFO\" (\"SUBSCRIBED\")");
            }
            if let Some(old) = entry.old_name {
                self.raw(if entry.child_subscribed { " " } else { "" }).raw(b"\"OLDNAME\" (").mailbox(old).raw(b")");
            }
            self.raw(b")");
        }
        self.end_line();
    }

    /// `* LSUB …` (RFC 3501 §7.2.3).
    pub fn lsub(&mut self, entry: &ListEntry<'_>) {
        self.raw(b"* LSUB ").list_body(entry).end_line();
    }

    fn list_body(&mut self, entry: &ListEntry<'_>) -> &mut Self {
        self.flag_list(entry.attributes.iter().map(|a| a.as_str()));
        self.raw(b" ").delimiter(entry.delimiter).raw(b" ").mailbox(entry.name)
    }

    /// `* STATUS …`: the figures asked for.
    pub fn status<'v>(
        &mut self,
        mailbox: &MailboxName,
        figures: impl IntoIterator<Item = (StatusItem, StatusValue<'v>)>,
    ) {
        self.raw(b"* STATUS ").mailbox(mailbox).raw(b" (");
        for (i, (item, value)) in figures.into_iter().enumerate() {
            self.raw(if i == 0 { "" } else { " " }).raw(item.as_str()).raw(b" ");
            match value {
                StatusValue::Number(n) => self.number(n),
                StatusValue::Id(id) => self.raw(b"(").raw(id).raw(b")"),
                StatusValue::Nil => self.raw(b"NIL"),
            };
        }
        self.raw(b")").end_line();
    }

    /// `* SEARCH …` (RFC 3501 §7.2.5); `mod_seq` as in [`Esearch`].
    pub fn search(&mut self, numbers: impl IntoIterator<Item = u32>, mod_seq: Option<ModSeq>) {
        self.raw(b"* SEARCH");
        for number in numbers {
            self.raw(b" ").number(number);
        }
        if let Some(mod_seq) = mod_seq {
            self.raw(b" (MODSEQ ").number(mod_seq.0).raw(b")");
        }
        self.end_line();
    }

    /// `* ESEARCH …`
    pub fn esearch(&mut self, found: &Esearch<'_>) {
        self.raw(b"* ESEARCH (TAG ").string(found.tag.as_str()).raw(b")");
        if found.uid {
            self.raw(b" UID");
        }
        for (name, value) in [(" MIN ", found.min), (" MAX ", found.max), (" COUNT ", found.count)] {
            if let Some(value) = value {
                self.raw(name).number(value);
            }
        }
        if let Some(all) = found.all.filter(|all| !all.is_empty()) {
            self.raw(b" ALL ").ranges(all);
        }
        if let Some(mod_seq) = found.mod_seq {
            self.raw(b" MODSEQ ").number(mod_seq.0);
        }
        self.end_line();
    }

    /// `* FLAGS (…)`: those there are in the mailbox.
    pub fn flags<'f>(&mut self, flags: impl IntoIterator<Item = &'f str>) {
        self.raw(b"* FLAGS ").flag_list(flags).end_line();
    }

    /// `* n EXISTS`
    pub fn exists(&mut self, messages: u32) {
        self.raw(b"* ").number(messages).raw(b" EXISTS").end_line();
    }

    /// `* n RECENT` (RFC 3501 §7.3.2).
    pub fn recent(&mut self, messages: u32) {
        self.raw(b"* ").number(messages).raw(b" RECENT").end_line();
    }

    /// `* n EXPUNGE`: the message is gone, those after it move up.
    pub fn expunge(&mut self, number: u32) {
        self.raw(b"* ").number(number).raw(b" EXPUNGE").end_line();
    }

    /// `* VANISHED …` (RFC 7162 §3.2.10): UIDs that are gone; `earlier` ones change no message number.
    pub fn vanished(&mut self, earlier: bool, uids: &Ranges) {
        if !uids.is_empty() {
            self.raw(b"* VANISHED ").raw(if earlier { "(EARLIER) " } else { "" }).ranges(uids).end_line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(utf8: bool, write: impl FnOnce(&mut Writer<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out, utf8));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn capabilities_by_state() {
        let plain = Capabilities { starttls: true, login_disabled: true, ..Capabilities::default() };
        assert_eq!(
            written(false, |w| w.capability(&plain)),
            "* CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE STARTTLS LOGINDISABLED\r\n"
        );
        let tls = Capabilities { mechanisms: &["PLAIN", "SCRAM-SHA-256"], ..Capabilities::default() };
        assert!(written(false, |w| w.capability(&tls)).ends_with(" ENABLE AUTH=PLAIN AUTH=SCRAM-SHA-256\r\n"));
        let inside = Capabilities { authenticated: true, append_limit: Some(257890), ..tls };
        let line = written(false, |w| w.capability(&inside));
        assert!(
            line.contains(" IDLE ") && line.contains(" APPENDLIMIT=257890\r\n") && !line.contains("AUTH="),
            "{line}"
        );
        assert!(!line.contains("  "), "{line}");
    }

    #[test]
    fn lists_as_the_rfcs_show_them() {
        let name = |text| MailboxName::new(text).unwrap();
        let entry = |attributes, name| ListEntry {
            attributes,
            delimiter: Some('/'),
            name,
            old_name: None,
            child_subscribed: false,
        };
        // RFC 5258 §5 examples 8 and 2, RFC 9051 §6.3.9.7, RFC 6154 §5.1, RFC 3501 §7.2.3.
        let (foo, fruit, sent, old, new) =
            (name("Foo"), name("Fruit/Apple"), name("SentMail"), name("&a"), name("Entwürfe"));
        let subscribed = ListEntry { child_subscribed: true, ..entry(&[ListAttribute::NonExistent][..], &foo) };
        assert_eq!(
            written(false, |w| w.list(&subscribed)),
            "* LIST (\\NonExistent) \"/\" Foo (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n"
        );
        let attributes = [ListAttribute::Subscribed, ListAttribute::HasNoChildren];
        assert_eq!(
            written(false, |w| w.list(&entry(&attributes, &fruit))),
            "* LIST (\\Subscribed \\HasNoChildren) \"/\" Fruit/Apple\r\n"
        );
        let attributes = [ListAttribute::Marked, ListAttribute::Use(SpecialUse::Sent)];
        assert_eq!(
            written(false, |w| w.list(&entry(&attributes, &sent))),
            "* LIST (\\Marked \\Sent) \"/\" SentMail\r\n"
        );
        let renamed = ListEntry { old_name: Some(&old), delimiter: None, ..entry(&[], &new) };
        assert_eq!(written(false, |w| w.list(&renamed)), "* LIST () NIL Entw&APw-rfe (\"OLDNAME\" (&-a))\r\n");
        assert_eq!(written(true, |w| w.list(&renamed)), "* LIST () NIL \"Entwürfe\" (\"OLDNAME\" (&a))\r\n");
        assert_eq!(written(false, |w| w.lsub(&entry(&[], &foo))), "* LSUB () \"/\" Foo\r\n");
        assert_eq!(
            written(false, |w| w.namespace(&[("", '/')], &[("~", '/')], &[])),
            "* NAMESPACE ((\"\" \"/\")) ((\"~\" \"/\")) NIL\r\n"
        );
    }

    #[test]
    fn figures_as_the_rfcs_show_them() {
        let mailbox = MailboxName::new("blurdybloop").unwrap();
        let figures = [
            (StatusItem::Messages, StatusValue::Number(231)),
            (StatusItem::UidNext, StatusValue::Number(44292)),
            (StatusItem::MailboxId, StatusValue::Id("F1")),
            (StatusItem::AppendLimit, StatusValue::Nil),
        ];
        assert_eq!(
            written(false, |w| w.status(&mailbox, figures)),
            "* STATUS blurdybloop (MESSAGES 231 UIDNEXT 44292 MAILBOXID (F1) APPENDLIMIT NIL)\r\n"
        );
        let gone: Ranges = [405, 407, 408, 410].into_iter().collect();
        assert_eq!(written(false, |w| w.vanished(false, &gone)), "* VANISHED 405,407:408,410\r\n");
        assert_eq!(written(false, |w| w.vanished(true, &gone)), "* VANISHED (EARLIER) 405,407:408,410\r\n");
        assert_eq!(written(false, |w| w.vanished(true, &Ranges::default())), "");
        assert_eq!(written(false, |w| w.search([2, 84, 882], None)), "* SEARCH 2 84 882\r\n");
        assert_eq!(written(false, |w| w.search([], None)), "* SEARCH\r\n");
        assert_eq!(
            written(false, |w| w.search([2, 5], Some(ModSeq(917162500)))),
            "* SEARCH 2 5 (MODSEQ 917162500)\r\n"
        );
        assert_eq!(
            written(false, |w| {
                w.exists(18);
                w.recent(0);
                w.expunge(44);
                w.flags(["\\Answered", "$Work"]);
                w.enabled(Enable { condstore: true, rev2: true, ..Enable::default() });
                w.id(&[
                    IdField { name: "name".into(), value: Some("Cyrus".into()) },
                    IdField { name: "os".into(), value: None },
                ]);
                w.id(&[]);
            }),
            "* 18 EXISTS\r\n* 0 RECENT\r\n* 44 EXPUNGE\r\n* FLAGS (\\Answered $Work)\r\n* ENABLED CONDSTORE IMAP4rev2\r\n\
             * ID (\"name\" \"Cyrus\" \"os\" NIL)\r\n* ID NIL\r\n"
        );
    }

    #[test]
    fn esearch_as_rfc_9051_shows_it() {
        let tag = Tag("A282".into());
        let all: Ranges = [2, 10, 11].into_iter().collect();
        let none = Esearch { tag: &tag, uid: false, min: None, max: None, count: None, all: None, mod_seq: None };
        let found = Esearch { min: Some(2), count: Some(3), ..none };
        assert_eq!(written(false, |w| w.esearch(&found)), "* ESEARCH (TAG \"A282\") MIN 2 COUNT 3\r\n");
        let found = Esearch { uid: true, all: Some(&all), mod_seq: Some(ModSeq(1236)), ..none };
        assert_eq!(written(false, |w| w.esearch(&found)), "* ESEARCH (TAG \"A282\") UID ALL 2,10:11 MODSEQ 1236\r\n");
        let found = Esearch { all: Some(&Ranges::default()), count: Some(0), ..none };
        assert_eq!(written(false, |w| w.esearch(&found)), "* ESEARCH (TAG \"A282\") COUNT 0\r\n");
    }
}
