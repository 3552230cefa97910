//! LIST and LSUB (RFC 9051 §6.3.9, RFC 5258 §6, RFC 5819 §4, RFC 6154 §6).

use super::{Cursor, Fault, Result};
use crate::command::{Command, List};

/// The most patterns one LIST may have: each is work for each mailbox.
const MAX_PATTERNS: usize = 32;

impl Cursor<'_> {
    pub(super) fn lsub(&mut self) -> Result<Command> {
        self.space()?;
        let reference = self.reference()?;
        self.space()?;
        Ok(Command::Lsub { reference, pattern: self.pattern()? })
    }

    pub(super) fn list_command(&mut self) -> Result<Command> {
        let mut list = List::default();
        self.space()?;
        if self.peek() == Some(b'(') {
            self.selection(&mut list)?;
            self.space()?;
        }
        list.reference = self.reference()?;
        self.space()?;
        if self.peek() == Some(b'(') {
            list.extended = true;
            list.patterns = self.full_list(MAX_PATTERNS, Cursor::pattern)?;
        } else {
            list.patterns = vec![self.pattern()?];
        }
        if self.eat(b' ') {
            self.returns(&mut list)?;
        }
        Ok(Command::List(Box::new(list)))
    }

    fn reference(&mut self) -> Result<Box<str>> {
        let wire = self.astring()?;
        let name = crate::name::decode_name(&wire, self.mode.utf8).filter(|n| !n.contains(char::is_control));
        name.map(Into::into).ok_or(Fault::Bad("Not a mailbox name"))
    }

    /// RFC 9051 §9 `list-select-opts`.
    fn selection(&mut self, list: &mut List) -> Result<()> {
        list.extended = true;
        self.list(16, |c| {
            match &*c.word()? {
                b"SUBSCRIBED" => list.select_subscribed = true,
                b"REMOTE" => list.select_remote = true,
                b"RECURSIVEMATCH" => list.recursive_match = true,
                b"SPECIAL-USE" => list.select_special_use = true,
                _ => return Err(Fault::Bad("Unknown LIST selection option")),
            }
            Ok(())
        })?;
        // RFC 5258 §3: it must not stand alone, nor with REMOTE alone.
        if list.recursive_match && !list.select_subscribed && !list.select_special_use {
            return Err(Fault::Bad("RECURSIVEMATCH needs another selection option"));
        }
        Ok(())
    }

    /// RFC 9051 §9 `list-return-opts`.
    fn returns(&mut self, list: &mut List) -> Result<()> {
        list.extended = true;
        if *self.word()? != *b"RETURN" {
            return Err(Fault::Bad("RETURN is missing"));
        }
        self.space()?;
        self.list(16, |c| {
            match &*c.word()? {
                b"SUBSCRIBED" => list.return_subscribed = true,
                b"CHILDREN" => list.return_children = true,
                b"SPECIAL-USE" => list.return_special_use = true,
                b"STATUS" => {
                    c.space()?;
                    list.return_status = Some(c.status_items()?);
                }
                _ => return Err(Fault::Bad("Unknown LIST return option")),
            }
            Ok(())
        })?;
        Ok(())
    }
}
