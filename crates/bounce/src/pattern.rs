//! The patterns of the data file, compiled.
//!
//! One automaton for each pattern that is long: a single one for all of them has so many states that it is forty times
//! slower. The short ones are one set.

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// Octets a compiled pattern may take; the largest needs a sixth of it.
const SIZE: usize = 2 << 20;
/// Octets of the states that a pattern remembers while it is used, for each thread that uses it at the time.
const STATES: usize = 512 << 10;

/// Compiles a pattern: case is folded in all scripts, while `\w`, `\W`, `\d` and `\b` know ASCII only, which makes them a
/// tenth as large.
pub(crate) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&ascii_classes(pattern)).case_insensitive(true).size_limit(SIZE).dfa_size_limit(STATES).build()
}

/// Compiles patterns that are looked for at once.
pub(crate) fn compile_all<'a>(patterns: impl Iterator<Item = &'a str>) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(patterns.map(ascii_classes))
        .case_insensitive(true)
        .size_limit(SIZE)
        .dfa_size_limit(STATES)
        .build()
}

fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(2 * pattern.len());
    let (mut brackets, mut chars) = (0u32, pattern.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match (chars.next(), brackets > 0) {
                (Some('w'), _) => out.push_str(if brackets > 0 { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
                (Some('d'), _) => out.push_str(if brackets > 0 { "0-9" } else { "[0-9]" }),
                (Some('W'), false) => out.push_str("[^0-9A-Za-z_]"),
                (Some('b'), false) => out.push_str(r"(?-u:\b)"),
                (Some(other), _) => out.extend(['\\', other]),
                (None, _) => out.push('\\'),
            },
            '[' | ']' => {
                brackets = if c == '[' { brackets + 1 } else { brackets.saturating_sub(1) };
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_characters_are_ascii_and_letters_fold_in_every_script() {
        assert!(compile(r"^\w\W\d[\w\d-]$").unwrap().is_match("aé1-"));
        assert!(compile(r"\bfull\b").unwrap().is_match("邮箱full邮箱"));
        assert!(compile("überfüllt|ящик").unwrap().is_match("ÜBERFÜLLT"));
        assert!(compile("ящик").unwrap().is_match("ЯЩИК"));
        assert!(compile(r"\").is_err() && compile("(?=x)").is_err() && compile(r"(\w{1000}){1000}").is_err());
    }
}
