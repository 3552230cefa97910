//! Texts compared without case, in any script: both sides are folded, then it is a search for octets.

use memchr::memmem::Finder;

use super::question::Program;

/// A text to be found, folded.
#[derive(Debug)]
pub(super) struct Needle(Finder<'static>);

impl Needle {
    pub fn new(text: &str) -> Self {
        let mut folded = Vec::with_capacity(text.len());
        fold(text, &mut folded);
        Needle(Finder::new(&folded).into_owned())
    }

    /// Octets, folded.
    pub fn len(&self) -> usize {
        self.0.needle().len()
    }

    /// Is it in a text that was folded?
    pub fn is_in(&self, folded: &[u8]) -> bool {
        self.0.find(folded).is_some()
    }
}

/// Appends a text without its case: what differs in case only is the same octets.
pub(super) fn fold(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let ascii = rest.bytes().position(|b| !b.is_ascii()).unwrap_or(rest.len());
        let (plain, other) = rest.split_at(ascii);
        let from = out.len();
        out.extend_from_slice(plain.as_bytes());
        out[from..].make_ascii_lowercase();
        let ends = other.bytes().position(|b| b.is_ascii()).unwrap_or(other.len());
        let (other, after) = other.split_at(ends);
        other.chars().for_each(|c| fold_char(c, out));
        rest = after;
    }
}

fn fold_char(c: char, out: &mut Vec<u8>) {
    let mut utf8 = [0; 4];
    // CJK, which has no case.
    if ('\u{2e80}'..='\u{a63f}').contains(&c) || ('\u{ac00}'..='\u{d7a3}').contains(&c) {
        return out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
    }
    // By way of the capital, so that both forms of a small sigma, and ß and ss, are one.
    for lower in c.to_uppercase().flat_map(char::to_lowercase) {
        out.extend_from_slice(lower.encode_utf8(&mut utf8).as_bytes());
    }
}

/// Looks for several texts in one that comes in pieces.
pub(super) struct Scan {
    /// The questions whose texts were not found yet.
    wanted: Vec<usize>,
    /// Folded text: the last piece, and as much before it as a needle may reach back.
    held: Vec<u8>,
    reach: usize,
    pub found: Vec<usize>,
}

impl Scan {
    /// `wanted` are the numbers of questions with texts.
    pub fn new(program: &Program, wanted: Vec<usize>) -> Self {
        let lengths = wanted.iter().filter_map(|number| program.needle(*number)).map(Needle::len);
        let reach = lengths.max().unwrap_or(1).saturating_sub(1);
        Scan { wanted, held: Vec::new(), reach, found: Vec::new() }
    }

    /// Takes more of the text; false when there is nothing left to be found.
    pub fn push(&mut self, program: &Program, text: &str) -> bool {
        let keep = self.held.len().saturating_sub(self.reach);
        self.held.drain(..keep);
        fold(text, &mut self.held);
        let (held, found) = (&self.held, &mut self.found);
        self.wanted.retain(|number| {
            let here = program.needle(*number).is_some_and(|needle| needle.is_in(held));
            found.extend(here.then_some(*number));
            !here
        });
        !self.wanted.is_empty()
    }

    /// What comes next is another text: nothing reaches across.
    pub fn cut(&mut self) {
        self.held.clear();
    }

    /// What was not found.
    pub fn left(self) -> Vec<usize> {
        self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        let mut out = Vec::new();
        fold(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn case_makes_no_difference() {
        for (one, other) in [
            ("Quarterly REPORT", "qUARTERLY report"),
            ("GĘŚLĄ", "gęślą"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("STRASSE", "straße"),
            ("ДОМ", "дом"),
        ] {
            assert_eq!(folded(one), folded(other));
        }
        assert_eq!(folded("台北 한국 ABC"), "台北 한국 abc");
        assert_ne!(folded("resume"), folded("résumé"));
    }

    #[test]
    fn a_text_cut_anywhere_is_found() {
        let text = "say Żółw and 台北 now";
        let program = Program::of_texts(&["żÓŁw AND", "台北", "never"]);
        for cut in text.char_indices().map(|(at, _)| at) {
            let mut scan = Scan::new(&program, vec![0, 1, 2]);
            scan.push(&program, &text[..cut]);
            assert!(scan.push(&program, &text[cut..]));
            scan.found.sort_unstable();
            assert_eq!(scan.found, [0, 1], "cut at {cut}");
        }
        let mut scan = Scan::new(&program, vec![1]);
        scan.push(&program, "台");
        scan.cut();
        assert!(scan.push(&program, "北") && scan.left() == [1]);
    }
}
