//! Address lists: `From`, `To` and their kin (RFC 5322 §3.4), with groups, routes and comments, and what real mail makes
//! of them.
//!
//! Called to render an ENVELOPE, and by whoever needs the addresses of a header. It never fails: what is no address is
//! read as the nearest thing that makes sense, each byte once. It does not judge whether an address can be delivered to
//! (that is `base::Address`), and leaves encoded words as they are.

use std::borrow::Cow;

use crate::lexer::{Lexer, trim, unescape};

/// One mailbox: `name <@route:local@domain>`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Mailbox<'a> {
    /// The display name, or else the last comment behind the address (the custom before display names, RFC 5322 §3.4);
    /// unquoted, encoded words as they stand. None when there is neither.
    pub name: Option<Cow<'a, [u8]>>,
    /// `@a,@b` (RFC 5322 §4.4 `obs-route`, without its colon).
    pub route: Option<Cow<'a, [u8]>>,
    /// Before the `@`, unquoted. Empty when there is none.
    pub local: Cow<'a, [u8]>,
    /// After the `@`, a literal with its brackets. Empty when there is none.
    pub domain: Cow<'a, [u8]>,
}

/// What an address list is made of, in the order of writing. Groups do not nest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// An address, in a group or outside.
    Mailbox(Mailbox<'a>),
    /// `name:`, the beginning of a group.
    GroupStart(Cow<'a, [u8]>),
    /// `;`. Every group is ended, if need be at the end of the list.
    GroupEnd,
}

/// The entries of an address list.
#[derive(Clone, Debug)]
pub struct Addresses<'a> {
    lexer: Lexer<'a>,
    in_group: bool,
    /// The words of the entry being read; kept for its room.
    words: Vec<Cow<'a, [u8]>>,
}

/// Reads a raw field value, folding and all.
///
/// ```
/// use mime::address::{Entry, addresses};
/// let list: Vec<_> = addresses(b"\"Doe, Jane\" <jane@x.test>, friends: joe@x.test;").collect();
/// let Entry::Mailbox(jane) = &list[0] else { panic!() };
/// assert_eq!((jane.name.as_deref(), &*jane.local), (Some(&b"Doe, Jane"[..]), &b"jane"[..]));
/// assert!(matches!(&list[1], Entry::GroupStart(name) if **name == *b"friends"));
/// assert_eq!(list[3], Entry::GroupEnd);
/// ```
pub fn addresses(value: &[u8]) -> Addresses<'_> {
    Addresses { lexer: Lexer::new(value), in_group: false, words: Vec::new() }
}

impl<'a> Iterator for Addresses<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            self.lexer.skip_cfws();
            match self.lexer.peek() {
                // RFC 5322 §4.4: empty elements between commas.
                Some(b',' | b'>') => {
                    self.lexer.take(1);
                }
                // The end of a group; outside of one, Outlook's users write it for a comma.
                Some(b';') => {
                    self.lexer.take(1);
                    if std::mem::take(&mut self.in_group) {
                        return Some(Entry::GroupEnd);
                    }
                }
                None => return std::mem::take(&mut self.in_group).then_some(Entry::GroupEnd),
                Some(_) => {
                    if let Some(entry) = self.entry() {
                        return Some(entry);
                    }
                }
            }
        }
    }
}

impl<'a> Addresses<'a> {
    /// Reads what begins here, at least one byte. None for a colon that begins no group.
    fn entry(&mut self) -> Option<Entry<'a>> {
        let mut comment = self.words();
        match self.lexer.peek() {
            Some(b'<') => {
                let name = phrase(&self.words);
                let mut mailbox = self.angle();
                comment = self.skip_to_delimiter().or(comment);
                mailbox.name = non_empty(name).or(comment.map(comment_text));
                Some(Entry::Mailbox(mailbox))
            }
            Some(b':') => {
                self.lexer.take(1);
                let begins = !self.in_group && !self.words.is_empty();
                self.in_group |= begins;
                begins.then(|| Entry::GroupStart(phrase(&self.words)))
            }
            Some(b'@') => Some(Entry::Mailbox(self.bare_address())),
            _ => Some(Entry::Mailbox(self.no_address(comment))),
        }
    }

    /// Collects words and quoted strings into `self.words`; returns the last comment between them.
    fn words(&mut self) -> Option<&'a [u8]> {
        self.words.clear();
        let mut comment = None;
        loop {
            comment = self.lexer.skip_cfws().or(comment);
            if self.lexer.peek() == Some(b'"') {
                let quoted = self.lexer.quoted();
                self.words.push(quoted);
                continue;
            }
            match self.lexer.word() {
                word if word.is_empty() => return comment,
                word => self.words.push(word),
            }
        }
    }

    /// At `@`, with the local part in `self.words`: `jane@x.test (Jane)`. Words before it that no dot ties to it are a
    /// name: `Jane Doe jane@x.test`.
    fn bare_address(&mut self) -> Mailbox<'a> {
        let local_at = (1..self.words.len()).rev().find(|i| !tied(&self.words[i - 1], &self.words[*i])).unwrap_or(0);
        let name = non_empty(phrase(&self.words[..local_at]));
        let local = local_part(&self.words[local_at..]);
        let (domain, comment) = self.domain();
        let comment = self.skip_to_delimiter().or(comment);
        if self.lexer.peek() == Some(b'<') {
            // `jane@x.test <jane@x.test>`: the first was meant as a name.
            let mut mailbox = self.angle();
            self.skip_to_delimiter();
            mailbox.name = Some([&local[..], b"@", &domain].concat().into());
            return mailbox;
        }
        Mailbox { name: name.or(comment.map(comment_text)), route: None, local, domain }
    }

    /// Words and no address: one word is a local part (`root`), more are a name.
    fn no_address(&mut self, comment: Option<&'a [u8]>) -> Mailbox<'a> {
        match &mut self.words[..] {
            [word] => Mailbox { name: comment.map(comment_text), local: std::mem::take(word), ..Mailbox::default() },
            words => Mailbox { name: non_empty(phrase(words)), ..Mailbox::default() },
        }
    }

    /// At `<`: the route, local part and domain up to `>`, or up to what shows that `>` was forgotten.
    fn angle(&mut self) -> Mailbox<'a> {
        self.lexer.take(1);
        let mut mailbox = Mailbox::default();
        self.lexer.skip_cfws();
        // RFC 5322 §4.4 obs-route: "@a,@b:". Read word by word: to look ahead for its colon would be quadratic.
        let mut route = Vec::new();
        while self.lexer.peek() == Some(b'@') {
            let (domain, _) = self.domain();
            if !route.is_empty() {
                route.push(b',');
            }
            route.push(b'@');
            route.extend_from_slice(&domain);
            while self.lexer.eat(b',') {
                self.lexer.skip_cfws();
            }
        }
        if !route.is_empty() {
            if self.lexer.eat(b':') {
                mailbox.route = Some(route.into());
            } else {
                mailbox.domain = route.split_off(1).into();
            }
        }
        self.words();
        mailbox.local = local_part(&self.words);
        if self.lexer.peek() == Some(b'@') {
            mailbox.domain = self.domain().0;
        }
        self.lexer.until(|b| matches!(b, b'>' | b',' | b';' | b'<'));
        self.lexer.eat(b'>');
        mailbox
    }

    /// At `@`: the domain behind it, without the white space that obsolete syntax allows around its dots, and the last
    /// comment in it or behind it.
    fn domain(&mut self) -> (Cow<'a, [u8]>, Option<&'a [u8]>) {
        self.lexer.take(1);
        let mut comment = self.lexer.skip_cfws();
        let mut domain = if self.lexer.peek() == Some(b'[') {
            let inside = self.lexer.rest();
            let len = self.lexer.until(|b| matches!(b, b']' | b'>' | b',')).len();
            Cow::Borrowed(&inside[..len + usize::from(self.lexer.eat(b']'))])
        } else {
            self.lexer.word()
        };
        loop {
            comment = self.lexer.skip_cfws().or(comment);
            if domain.last() != Some(&b'.') && self.lexer.peek() != Some(b'.') {
                return (domain, comment);
            }
            match self.lexer.word() {
                word if word.is_empty() => return (domain, comment),
                word => domain.to_mut().extend_from_slice(&word),
            }
        }
    }

    /// Passes over what stands between an address and the next delimiter; returns the last comment in it.
    fn skip_to_delimiter(&mut self) -> Option<&'a [u8]> {
        let mut comment = None;
        loop {
            comment = self.lexer.skip_cfws().or(comment);
            match self.lexer.peek() {
                None | Some(b',' | b';' | b'<') => return comment,
                Some(b'"') => {
                    self.lexer.quoted();
                }
                Some(_) => {
                    self.lexer.take(1);
                    self.lexer.word();
                }
            }
        }
    }
}

/// Whether a dot ties two words into one local part (RFC 5322 §4.4 `obs-local-part`).
fn tied(before: &[u8], after: &[u8]) -> bool {
    before.last() == Some(&b'.') || after.first() == Some(&b'.')
}

fn join<'a>(words: &[Cow<'a, [u8]>], spaced: impl Fn(&[u8], &[u8]) -> bool) -> Cow<'a, [u8]> {
    match words {
        [] => Cow::Borrowed(b""),
        [word] => word.clone(),
        words => {
            let mut out = words[0].to_vec();
            for pair in words.windows(2) {
                if spaced(&pair[0], &pair[1]) {
                    out.push(b' ');
                }
                out.extend_from_slice(&pair[1]);
            }
            Cow::Owned(out)
        }
    }
}

/// A display name: its words with one space between them.
fn phrase<'a>(words: &[Cow<'a, [u8]>]) -> Cow<'a, [u8]> {
    join(words, |_, _| true)
}

/// Dots tie words together. Words that none ties keep a space: `<a b@x>` must not become another's address.
fn local_part<'a>(words: &[Cow<'a, [u8]>]) -> Cow<'a, [u8]> {
    join(words, |a, b| !tied(a, b))
}

fn comment_text(raw: &[u8]) -> Cow<'_, [u8]> {
    unescape(trim(raw))
}

fn non_empty(name: Cow<'_, [u8]>) -> Option<Cow<'_, [u8]>> {
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::work;

    /// `name|route|local|domain`, `name:` and `;`: each entry as a line of text.
    fn shown(list: &str) -> Vec<String> {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        addresses(list.as_bytes())
            .map(|entry| match entry {
                Entry::Mailbox(m) => [m.name.unwrap_or_default(), m.route.unwrap_or_default(), m.local, m.domain]
                    .map(|part| text(&part))
                    .join("|"),
                Entry::GroupStart(name) => text(&name) + ":",
                Entry::GroupEnd => ";".into(),
            })
            .collect()
    }

    #[test]
    fn rfc_5322_appendix_a() {
        for (list, expected) in [
            ("John Doe <jdoe@machine.example>", &["John Doe||jdoe|machine.example"][..]),
            (
                "Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
                &["Mary Smith||mary|x.test", "||jdoe|example.org", "Who?||one|y.test"],
            ),
            (
                r#"<boss@nil.test>, "Giant; \"Big\" Box" <sysservices@example.net>"#,
                &["||boss|nil.test", r#"Giant; "Big" Box||sysservices|example.net"#],
            ),
            (
                "A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
                &["A Group:", "Ed Jones||c|a.test", "||joe|where.test", "John||jdoe|one.test", ";"],
            ),
            ("Undisclosed recipients:;", &["Undisclosed recipients:", ";"]),
            // A.5: white space and comments everywhere.
            (r"Pete(A nice \) chap) <pete(his account)@silly.test(his host)>", &["Pete||pete|silly.test"]),
            (
                "A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n joe@example.org,\r\n  \
                 John <jdoe@one.test> (my dear friend); (the end of the group)",
                &["A Group:", "Chris Jones||c|public.example", "||joe|example.org", "John||jdoe|one.test", ";"],
            ),
            ("(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", &["Hidden recipients:", ";"]),
            // A.6.1 and A.6.3: obsolete addressing.
            ("Joe Q. Public <john.q.public@example.com>", &["Joe Q. Public||john.q.public|example.com"]),
            (
                "Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
                &["Mary Smith|@node.test|mary|example.net", "||jdoe|test.example"],
            ),
        ] {
            assert_eq!(shown(list), expected, "{list}");
        }
    }

    #[test]
    fn what_real_mail_makes_of_it() {
        for (list, expected) in [
            ("", &[][..]),
            (" , ,", &[]),
            ("foo@bar.test (Real (nested) Name)", &["Real (nested) Name||foo|bar.test"]),
            ("<a@b> (Ann)", &["Ann||a|b"]),
            ("\"Joe\"Blow <joe@b>", &["Joe Blow||joe|b"]),
            ("\"\" <e@f>", &["||e|f"]),
            ("<@r1,@r2:u@h>", &["|@r1,@r2|u|h"]),
            ("<>", &["|||"]),
            ("@x, a@", &["|||x", "||a|"]),
            ("<@x>", &["|||x"]),
            ("Joe <foo>", &["Joe||foo|"]),
            ("root, Joe Blow", &["||root|", "Joe Blow|||"]),
            ("a@b; c@d", &["||a|b", "||c|d"]),
            ("foo@bar.test <foo@bar.test>", &["foo@bar.test||foo|bar.test"]),
            ("John Doe john . d@x.test", &["John Doe||john.d|x.test"]),
            ("[list] Jo <j@x.test>", &["[list] Jo||j|x.test"]),
            ("u@[IPv6:::1], v@[192.0.2.1]", &["||u|[IPv6:::1]", "||v|[192.0.2.1]"]),
            ("broken <a@b, c@d", &["broken||a|b", "||c|d"]),
            ("<a b@x>", &["||a b|x"]),
            ("\"a b\"@x", &["||a b|x"]),
            ("g: a@b", &["g:", "||a|b", ";"]),
            (": a@b, x: y: c@d;", &["||a|b", "x:", "||c|d", ";"]),
            ("Foo \\(bar\\) <a@b>, CORP\\jo <c@d>", &["Foo (bar\\)||a|b", "CORP\\jo||c|d"]),
            ("<a@b> <c@d>", &["||a|b", "||c|d"]),
            ("\"open <a@b>, c@d", &["||open <a@b>, c@d|"]),
            ("é <é@é>", &["é||é|é"]),
        ] {
            assert_eq!(shown(list), expected, "{list}");
        }
    }

    #[test]
    fn trap_06_hostile_lists_are_read_once() {
        for unit in [
            "<@", "a,", "<", "@", "a.", ". ", "a:", "(", "\"", "\\", "<a@b", "a@b<", "<@a,", "a b ", "[", "@[", "\\(",
            "\\\\",
        ] {
            let list = unit.repeat(100_000);
            work::taken();
            let entries = addresses(list.as_bytes()).count();
            assert!(entries <= list.len() + 2, "{unit}");
            assert_eq!(work::taken(), list.len(), "{unit}: each byte is read once");
        }
    }
}
