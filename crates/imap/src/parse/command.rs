//! Commands and their arguments (RFC 9051 §9 `command`), but for those that fill files of their own.

use super::{Cursor, Fault, Result};
use crate::base64::{self, Form};
use crate::command::{
    Command, Enable, IdField, Qresync, Secret, Select, SpecialUse, StatusItem, StatusItems, Store, StoreAction,
};
use crate::write::Code;
use base::{Timestamp, UidValidity};

/// RFC 2971 §3.3: at most 30 fields, of 30 and 1024 octets.
const MAX_ID: (usize, usize, usize) = (30, 30, 1024);

/// What stands before an APPEND's message.
pub(crate) struct AppendOptions {
    pub flags: Vec<crate::flag::Flag>,
    pub date: Option<Timestamp>,
    /// `UTF8 (` was opened (RFC 6855 §4); a `)` follows the message.
    pub utf8: bool,
}

impl Cursor<'_> {
    /// The command's name and arguments, to the end.
    pub fn command(&mut self) -> Result<Command> {
        self.space()?;
        let name = self.word()?;
        let command = match (&*name, self.mode.authenticated) {
            (b"CAPABILITY", _) => Command::Capability,
            (b"NOOP", _) => Command::Noop,
            (b"LOGOUT", _) => Command::Logout,
            (b"STARTTLS", _) => Command::StartTls,
            (b"ID", _) => self.id()?,
            (b"LOGIN", _) => self.login()?,
            (b"AUTHENTICATE", _) => self.authenticate()?,
            // Nothing more is read from strangers: what they cannot reach, they cannot attack.
            (known, false) if is_command(known) => return Err(Fault::Bad("Log in first")),
            (name, true) => self.after_login(name)?,
            _ => return Err(Fault::Bad("Unknown command")),
        };
        self.end()?;
        Ok(command)
    }

    /// Is this the beginning of an APPEND? Leaves the cursor before the mailbox if so.
    pub fn is_append(&mut self) -> bool {
        let start = self.at;
        let found = self.mode.authenticated
            && self.eat(b' ')
            && self.word().is_ok_and(|name| *name == *b"APPEND")
            && self.eat(b' ');
        if !found {
            self.at = start;
        }
        found
    }

    fn after_login(&mut self, name: &[u8]) -> Result<Command> {
        Ok(match name {
            b"ENABLE" => self.enable()?,
            b"SELECT" => Command::Select(self.select()?),
            b"EXAMINE" => Command::Examine(self.select()?),
            b"CREATE" => self.create()?,
            b"DELETE" => Command::Delete(self.mailbox_argument()?),
            b"RENAME" => {
                let from = self.mailbox_argument()?;
                Command::Rename { from, to: self.mailbox_argument()? }
            }
            b"SUBSCRIBE" => Command::Subscribe(self.mailbox_argument()?),
            b"UNSUBSCRIBE" => Command::Unsubscribe(self.mailbox_argument()?),
            b"LIST" => self.list_command()?,
            b"LSUB" => self.lsub()?,
            b"NAMESPACE" => Command::Namespace,
            b"STATUS" => {
                let mailbox = self.mailbox_argument()?;
                self.space()?;
                Command::Status { mailbox, items: self.status_items()? }
            }
            b"IDLE" => Command::Idle,
            b"CHECK" => Command::Check,
            b"CLOSE" => Command::Close,
            b"UNSELECT" => Command::Unselect,
            b"EXPUNGE" => Command::Expunge,
            b"APPEND" => return Err(Fault::Bad("APPEND ends with the message as a literal")),
            b"UID" => {
                self.space()?;
                let name = self.word()?;
                self.on_messages(&name, true)?
            }
            name => self.on_messages(name, false)?,
        })
    }

    /// Commands that have a UID form.
    fn on_messages(&mut self, name: &[u8], uid: bool) -> Result<Command> {
        let known = matches!(name, b"SEARCH" | b"FETCH" | b"STORE" | b"COPY" | b"MOVE") || uid && name == b"EXPUNGE";
        if !known {
            return Err(Fault::Bad("Unknown command"));
        }
        self.space()?;
        if name == b"SEARCH" {
            return Ok(Command::Search { uid, search: Box::new(self.search()?) });
        }
        let set = self.sequence_set()?;
        if name == b"EXPUNGE" {
            return Ok(Command::UidExpunge(set));
        }
        self.space()?;
        Ok(match name {
            b"FETCH" => Command::Fetch { uid, set, fetch: Box::new(self.fetch(uid)?) },
            b"STORE" => Command::Store { uid, set, store: self.store()? },
            b"COPY" => Command::Copy { uid, set, mailbox: self.mailbox()? },
            _ => Command::Move { uid, set, mailbox: self.mailbox()? },
        })
    }

    fn mailbox_argument(&mut self) -> Result<crate::name::MailboxName> {
        self.space()?;
        self.mailbox()
    }

    /// RFC 2971 §3.1.
    fn id(&mut self) -> Result<Command> {
        self.space()?;
        if self.peek() != Some(b'(') {
            return match &*self.word()? {
                b"NIL" => Ok(Command::Id(None)),
                _ => Err(Fault::Bad("ID takes NIL or a list")),
            };
        }
        let (max_fields, max_name, max_value) = MAX_ID;
        let fields = self.list(max_fields, |c| {
            let name = c.id_text(max_name)?.ok_or(Fault::Bad("An ID field has no name"))?;
            c.space()?;
            Ok(IdField { name, value: c.id_text(max_value)? })
        })?;
        Ok(Command::Id(Some(fields)))
    }

    /// RFC 9051 §9 `nstring`, of at most `max` octets.
    fn id_text(&mut self, max: usize) -> Result<Option<Box<str>>> {
        if matches!(self.peek(), Some(b'N' | b'n')) {
            return if *self.word()? == *b"NIL" { Ok(None) } else { Err(Fault::Bad("A string is missing")) };
        }
        let text = self.string()?;
        if text.len() > max { Err(Fault::Bad("An ID field is too long")) } else { Self::text(text).map(Some) }
    }

    fn login(&mut self) -> Result<Command> {
        self.space()?;
        let user = self.astring()?;
        self.space()?;
        let password = self.astring()?;
        Ok(Command::Login { user: Self::text(user)?, password: Secret(password.into()) })
    }

    /// RFC 9051 §6.2.2, RFC 4959 §3.
    fn authenticate(&mut self) -> Result<Command> {
        self.space()?;
        let name = self.atom()?.to_ascii_uppercase();
        let mechanism = String::from_utf8(name).map_err(|_| Fault::Bad("Not a mechanism"))?.into();
        if !self.eat(b' ') {
            return Ok(Command::Authenticate { mechanism, initial: None });
        }
        let text = self.take_while(|b| b != b' ');
        let initial = if text == b"=" { Some(Vec::new()) } else { base64::decode(Form::Padded, text) };
        let initial = initial.filter(|_| !text.is_empty()).ok_or(Fault::Bad("Not base64"))?;
        Ok(Command::Authenticate { mechanism, initial: Some(Secret(initial.into())) })
    }

    fn enable(&mut self) -> Result<Command> {
        let mut enable = Enable::default();
        loop {
            self.space()?;
            match &*self.word()? {
                b"CONDSTORE" => enable.condstore = true,
                b"QRESYNC" => enable.qresync = true,
                b"UTF8=ACCEPT" => enable.utf8 = true,
                b"IMAP4REV2" => enable.rev2 = true,
                _ => {}
            }
            if self.is_at_end() {
                return Ok(Command::Enable(enable));
            }
        }
    }

    /// RFC 9051 §9 `select`, RFC 7162 §7 `select-param`.
    fn select(&mut self) -> Result<Select> {
        let mut select = Select { mailbox: self.mailbox_argument()?, condstore: false, qresync: None };
        if !self.eat(b' ') {
            return Ok(select);
        }
        self.full_list(8, |c| match &*c.word()? {
            b"CONDSTORE" => {
                select.condstore = true;
                Ok(())
            }
            b"QRESYNC" => {
                select.qresync = Some(Box::new(c.qresync()?));
                Ok(())
            }
            _ => Err(Fault::Bad("Unknown SELECT parameter")),
        })?;
        Ok(select)
    }

    /// RFC 7162 §7 `select-param =/ "QRESYNC" …`.
    fn qresync(&mut self) -> Result<Qresync> {
        self.space()?;
        self.expect(b'(', "QRESYNC takes a list")?;
        let uid_validity = UidValidity(self.nonzero32()?);
        self.space()?;
        let mut qresync = Qresync { uid_validity, mod_seq: self.mod_seq()?, known_uids: None, seq_match: None };
        let mut more = self.eat(b' ');
        if more && self.peek() != Some(b'(') {
            qresync.known_uids = Some(self.known_set()?);
            more = self.eat(b' ');
        }
        if more {
            self.expect(b'(', "QRESYNC's last argument is a list")?;
            let numbers = self.known_set()?;
            self.space()?;
            qresync.seq_match = Some((numbers, self.known_set()?));
            self.expect(b')', "QRESYNC's last argument is a list of two sets")?;
        }
        self.expect(b')', "QRESYNC's list does not end")?;
        Ok(qresync)
    }

    /// RFC 9051 §9 `create`, RFC 6154 §6.
    fn create(&mut self) -> Result<Command> {
        let mailbox = self.mailbox_argument()?;
        let mut uses = Vec::new();
        if self.eat(b' ') {
            self.full_list(4, |c| {
                if *c.word()? != *b"USE" {
                    return Err(Fault::Bad("Unknown CREATE parameter"));
                }
                c.space()?;
                uses = c.list(SpecialUse::EVERY.len(), Cursor::special_use)?;
                Ok(())
            })?;
        }
        Ok(Command::Create { mailbox, uses })
    }

    fn special_use(&mut self) -> Result<SpecialUse> {
        let start = self.at;
        self.expect(b'\\', "A special use begins with a backslash")?;
        self.atom()?;
        // RFC 6154 §3: a use the server does not know fails with USEATTR.
        SpecialUse::parse(&self.bytes[start..self.at]).ok_or(Fault::No(Code::UseAttr, "No such special use here"))
    }

    pub(super) fn status_items(&mut self) -> Result<StatusItems> {
        let item = |c: &mut Self| {
            let name = c.word()?;
            let known = StatusItem::EVERY.into_iter().find(|item| item.as_str().as_bytes() == &*name);
            known.ok_or(Fault::Bad("Unknown STATUS item"))
        };
        self.full_list(32, item).map(|items| items.into_iter().collect())
    }

    /// RFC 9051 §9 `store`, RFC 7162 §3.1.3.
    fn store(&mut self) -> Result<Store> {
        let mut unchanged_since = None;
        if self.peek() == Some(b'(') {
            self.full_list(4, |c| {
                if *c.word()? != *b"UNCHANGEDSINCE" {
                    return Err(Fault::Bad("Unknown STORE modifier"));
                }
                c.space()?;
                unchanged_since = Some(c.mod_seq()?);
                Ok(())
            })?;
            self.space()?;
        }
        let action = match self.peek() {
            Some(b'+') => StoreAction::Add,
            Some(b'-') => StoreAction::Remove,
            _ => StoreAction::Replace,
        };
        self.at += usize::from(action != StoreAction::Replace);
        let silent = match &*self.word()? {
            b"FLAGS" => false,
            b"FLAGS.SILENT" => true,
            _ => return Err(Fault::Bad("STORE changes FLAGS only")),
        };
        self.space()?;
        let flags = if self.peek() == Some(b'(') { self.flag_list()? } else { self.bare_flags()? };
        Ok(Store { unchanged_since, action, silent, flags })
    }

    /// RFC 9051 §9 `store-att-flags` without parentheses.
    fn bare_flags(&mut self) -> Result<Vec<crate::flag::Flag>> {
        let mut flags = Vec::new();
        loop {
            let flag = self.flag()?;
            if !flags.contains(&flag) {
                flags.push(flag);
            }
            if !self.eat(b' ') {
                return Ok(flags);
            }
            if flags.len() == super::MAX_FLAGS {
                return Err(Fault::Bad("Too many flags"));
            }
        }
    }

    /// The mailbox of an APPEND; [`Fault::NeedsLiteral`] when it is the literal just announced.
    pub fn append_mailbox(&mut self) -> Result<crate::name::MailboxName> {
        let mailbox = self.mailbox()?;
        self.space()?;
        Ok(mailbox)
    }

    /// What stands between mailbox and message of an APPEND (RFC 9051 §9 `append-message`, RFC 6855 §4), up to the
    /// literal's announcement.
    pub fn append_options(&mut self) -> Result<AppendOptions> {
        let mut options = AppendOptions { flags: Vec::new(), date: None, utf8: false };
        if self.peek() == Some(b'(') {
            options.flags = self.flag_list()?;
            self.space()?;
        }
        if self.peek() == Some(b'"') {
            let text = self.quoted()?;
            options.date = Some(crate::date::date_time(&text).ok_or(Fault::Bad("Not a date and time"))?);
            self.space()?;
        }
        if matches!(self.peek(), Some(b'U' | b'u')) {
            options.utf8 = *self.word()? == *b"UTF8" && self.eat(b' ') && self.eat(b'(');
        }
        self.eat(b'~');
        // The announcement the machine found is all that is left.
        if memchr::memrchr(b'{', self.rest()) == Some(0) {
            Ok(options)
        } else {
            Err(Fault::Bad("APPEND takes the message as a literal"))
        }
    }
}

/// Names that are commands after a login.
fn is_command(name: &[u8]) -> bool {
    matches!(
        name,
        b"ENABLE" | b"SELECT" | b"EXAMINE" | b"CREATE" | b"DELETE" | b"RENAME" | b"SUBSCRIBE" | b"UNSUBSCRIBE"
    ) || matches!(name, b"LIST" | b"LSUB" | b"NAMESPACE" | b"STATUS" | b"APPEND" | b"IDLE" | b"CHECK" | b"CLOSE")
        || matches!(name, b"UNSELECT" | b"EXPUNGE" | b"SEARCH" | b"FETCH" | b"STORE" | b"COPY" | b"MOVE" | b"UID")
}
