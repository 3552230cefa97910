//! LIST patterns (RFC 9051 §6.3.9): `*` is anything, `%` anything within one level of the hierarchy.

/// A pattern, ready to be held against names.
///
/// Matching keeps the set of all positions in the pattern that are possible so far, so it takes at most the product of
/// the two lengths, whatever the pattern: `%*%*%*%*x` cannot make it try again and again.
///
/// ```
/// let pattern = imap::Pattern::new("", "Work/%", Some('/'));
/// assert!(pattern.matches("Work/2026"));
/// assert!(!pattern.matches("Work/2026/May"));
/// ```
#[derive(Clone, Debug)]
pub struct Pattern {
    steps: Vec<Step>,
    literals: usize,
    delimiter: Option<char>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// This character.
    One(char),
    /// `%`
    Level,
    /// `*`
    Any,
}

impl Pattern {
    /// `pattern` as LIST has it, after `reference`.
    pub fn new(reference: &str, pattern: &str, delimiter: Option<char>) -> Self {
        let mut steps: Vec<Step> = Vec::new();
        for c in reference.chars().chain(pattern.chars()) {
            let step = match c {
                '*' => Step::Any,
                '%' => Step::Level,
                c => Step::One(c),
            };
            // Of wildcards in a row, the widest says it all.
            match (steps.last(), step) {
                (Some(Step::Any), Step::Any | Step::Level) | (Some(Step::Level), Step::Level) => {}
                (Some(Step::Level), Step::Any) => {
                    steps.pop();
                    steps.push(Step::Any);
                }
                _ => steps.push(step),
            }
        }
        let literals = steps.iter().filter(|s| matches!(s, Step::One(_))).count();
        Pattern { steps, literals, delimiter }
    }

    /// What it takes at most to hold `name` against it, in comparisons: for whoever bounds the work a client may ask for.
    pub fn cost(&self, name: &str) -> usize {
        if self.literals > name.len() { 1 } else { 1 + self.steps.len() * name.len() }
    }

    /// Is `name` one of those meant? INBOX, alone or as the first level, has no case (RFC 9051 §5.1).
    pub fn matches(&self, name: &str) -> bool {
        // A long pattern is not worth a look, and keeps the work below the square of the name's length.
        if self.literals > name.len() {
            return false;
        }
        let inbox =
            name.strip_prefix("INBOX").is_some_and(|rest| rest.is_empty() || rest.starts_with(self.delimiter_or_nul()));
        let mut here = vec![false; self.steps.len() + 1];
        here[0] = true;
        self.skip_wildcards(&mut here);
        for (i, c) in name.chars().enumerate() {
            let mut next = vec![false; here.len()];
            for (at, step) in self.steps.iter().enumerate().filter(|(at, _)| here[*at]) {
                match step {
                    Step::One(wanted) if inbox && i < 5 => next[at + 1] |= wanted.eq_ignore_ascii_case(&c),
                    Step::One(wanted) => next[at + 1] |= *wanted == c,
                    Step::Level => next[at] |= Some(c) != self.delimiter,
                    Step::Any => next[at] = true,
                }
            }
            self.skip_wildcards(&mut next);
            here = next;
        }
        here[self.steps.len()]
    }

    fn delimiter_or_nul(&self) -> char {
        self.delimiter.unwrap_or('\0')
    }

    /// A wildcard may stand for nothing.
    fn skip_wildcards(&self, here: &mut [bool]) {
        for (at, step) in self.steps.iter().enumerate() {
            if here[at] && !matches!(step, Step::One(_)) {
                here[at + 1] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "a/b/c", true),
            ("%", "a", true),
            ("%", "a/b", false),
            ("%/%", "a/b", true),
            ("%/%", "a/b/c", false),
            ("a/*", "a", false),
            ("a/*", "a/b/c", true),
            ("a*", "a/b", true),
            ("*b", "a/b", true),
            ("%b", "a/b", false),
            ("*%b", "a/b", true),
            ("a%c*e", "abc/d/e", true),
            ("a%c*e", "a/c/e", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXcXbX", false),
            ("", "", true),
            ("", "a", false),
            ("台%", "台北", true),
            ("Foo", "foo", false),
        ] {
            assert_eq!(Pattern::new("", pattern, Some('/')).matches(name), expected, "{pattern} {name}");
        }
        assert!(Pattern::new("Mail/", "%", Some('/')).matches("Mail/x"));
        assert!(Pattern::new("", "%", None).matches("a/b"), "without hierarchy all is one level");
    }

    #[test]
    fn the_cost_is_the_product_of_the_lengths() {
        let pattern = Pattern::new("", &"%a".repeat(100), Some('/'));
        assert_eq!((pattern.cost(&"b".repeat(1000)), pattern.cost("b")), (200_001, 1));
    }

    #[test]
    fn inbox_has_no_case() {
        for (pattern, name, expected) in [
            ("inbox", "INBOX", true),
            ("iN%", "INBOX", true),
            ("inbox/%", "INBOX/Work", true),
            ("inbox/work", "INBOX/Work", false),
            ("inboxes", "INBOXES", false),
        ] {
            assert_eq!(Pattern::new("", pattern, Some('/')).matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn agrees_with_the_definition() {
        /// The definition, word for word, exponential.
        fn defined(pattern: &[u8], name: &[u8]) -> bool {
            match pattern {
                [] => name.is_empty(),
                [b'*', rest @ ..] => (0..=name.len()).any(|n| defined(rest, &name[n..])),
                [b'%', rest @ ..] => {
                    (0..=name.len()).take_while(|n| !name[..*n].contains(&b'/')).any(|n| defined(rest, &name[n..]))
                }
                [c, rest @ ..] => name.first() == Some(c) && defined(rest, &name[1..]),
            }
        }
        let words = |letters: &'static [u8], length: u32| {
            (0..(letters.len() as u32).pow(length)).map(move |n| {
                (0..length)
                    .map(|i| letters[(n / (letters.len() as u32).pow(i)) as usize % letters.len()])
                    .collect::<Vec<u8>>()
            })
        };
        let names: Vec<Vec<u8>> = (0..=5).flat_map(|length| words(b"a/", length)).collect();
        for pattern in (0..=4).flat_map(|length| words(b"a/*%", length)) {
            let matcher = Pattern::new("", std::str::from_utf8(&pattern).unwrap(), Some('/'));
            for name in &names {
                let name_text = std::str::from_utf8(name).unwrap();
                assert_eq!(
                    matcher.matches(name_text),
                    defined(&pattern, name),
                    "{} {name_text}",
                    pattern.escape_ascii()
                );
            }
        }
    }

    #[test]
    fn trap_05_no_pattern_takes_exponential_time() {
        let pattern = Pattern::new("", &"%*a".repeat(400), Some('/'));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(1200))));
    }
}
