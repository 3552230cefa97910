//! Lists of codes, as the data file writes them.

use std::ops::RangeInclusive;

use base::Enhanced;

/// Enhanced codes without their first digit: `7.27,7.606-649`.
#[derive(Clone, Debug)]
pub(crate) struct EnhancedCodes(Vec<(u16, RangeInclusive<u16>)>);

impl EnhancedCodes {
    /// None where the text is no such list.
    pub fn parse(text: &str) -> Option<Self> {
        let one = |code: &str| {
            let (subject, detail) = code.split_once('.')?;
            let (first, last) = detail.split_once('-').unwrap_or((detail, detail));
            Some((subject.parse().ok()?, first.parse().ok()?..=last.parse().ok()?))
        };
        text.split(',').map(one).collect::<Option<_>>().map(EnhancedCodes)
    }

    pub fn contain(&self, code: Enhanced) -> bool {
        self.0.iter().any(|(subject, details)| *subject == code.1 && details.contains(&code.2))
    }
}

/// Reply codes: `421,450`, and `5xx` for all that begin so.
#[derive(Clone, Debug)]
pub(crate) struct ReplyCodes(Vec<RangeInclusive<u16>>);

impl ReplyCodes {
    /// None where the text is no such list.
    pub fn parse(text: &str) -> Option<Self> {
        let one = |code: &str| match code.strip_suffix("xx") {
            Some(digit) => digit.parse::<u16>().ok().filter(|d| *d < 10).map(|d| d * 100..=d * 100 + 99),
            None => code.parse().ok().map(|code: u16| code..=code),
        };
        text.split(',').map(one).collect::<Option<_>>().map(ReplyCodes)
    }

    pub fn contain(&self, code: u16) -> bool {
        self.0.iter().any(|range| range.contains(&code))
    }
}
