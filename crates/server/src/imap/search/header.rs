//! The header as a search sees it: a field is decoded and folded once, however many keys ask for it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use mime::address::{Entry, addresses};
use mime::header::fields;
use mime::words;

use super::question::Question;
use super::text::fold;
use super::truth::Truth;

/// Fields of one name that are looked at: a header of tens of thousands, and a search of two thousand keys, would hold a
/// reader thread for long.
const FIELDS: u32 = 1000;

/// The fields whose addresses are looked at too.
const ADDRESSES: [&[u8]; 4] = [b"bcc", b"cc", b"from", b"to"];

/// The names of fields that are asked for, in lower case and in order, with the numbers of the questions.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(Vec<u8>, Vec<usize>)>);

impl Names {
    pub fn new(questions: &[Question]) -> Self {
        let mut names: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        for (number, question) in questions.iter().enumerate() {
            if let Question::Field(name, _) = question {
                names.entry(name.to_ascii_lowercase().into_bytes()).or_default().push(number);
            }
        }
        Names(names.into_iter().collect())
    }

    /// Answers the questions about fields.
    pub fn ask(&self, head: &[u8], questions: &[Question], known: &mut [Truth]) {
        let mut seen = vec![0; self.0.len()];
        for field in fields(head) {
            let Ok(at) = self.0.binary_search_by(|(name, _)| compare(name, field.name)) else { continue };
            seen[at] += 1;
            if seen[at] <= FIELDS {
                let (name, numbers) = &self.0[at];
                ask_field(name, field.value, numbers, questions, known);
            }
        }
        for number in self.0.iter().flat_map(|(_, numbers)| numbers) {
            if known[*number] == Truth::Unknown {
                known[*number] = Truth::No;
            }
        }
    }
}

fn ask_field(name: &[u8], value: &[u8], numbers: &[usize], questions: &[Question], known: &mut [Truth]) {
    let mut text = Vec::new();
    fold(&words::decode(value), &mut text);
    look(&text, numbers, questions, known);
    if ADDRESSES.contains(&name) && numbers.iter().any(|number| known[*number] == Truth::Unknown) {
        // RFC 9051 §6.4.4: it is the ENVELOPE's field, whose addresses have no comments and no white space inside.
        text.clear();
        fold_addresses(value, &mut text);
        look(&text, numbers, questions, known);
    }
}

fn look(text: &[u8], numbers: &[usize], questions: &[Question], known: &mut [Truth]) {
    for number in numbers {
        if let (Truth::Unknown, Some(Question::Field(_, needle))) = (known[*number], questions.get(*number))
            && needle.is_in(text)
        {
            known[*number] = Truth::Yes;
        }
    }
}

/// Every `mailbox@host`, a line each.
fn fold_addresses(value: &[u8], out: &mut Vec<u8>) {
    for entry in addresses(value) {
        if let Entry::Mailbox(mailbox) = entry {
            fold(&String::from_utf8_lossy(&mailbox.local), out);
            out.push(b'@');
            fold(&String::from_utf8_lossy(&mailbox.domain), out);
            out.push(b'\n');
        }
    }
}

/// Compares a name in lower case with one in any.
fn compare(lower: &[u8], name: &[u8]) -> Ordering {
    lower.iter().copied().cmp(name.iter().map(u8::to_ascii_lowercase))
}
