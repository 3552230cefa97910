//! How many refused sign-ins are written to the log: enough to see an attack, not so many that they are one.

use std::sync::{Mutex, PoisonError};

use base::Timestamp;

/// Lines in any one second.
const LINES: u32 = 20;

/// What was written in the present second.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<Second>);

#[derive(Default)]
struct Second {
    number: i64,
    lines: u32,
    left_out: u64,
}

impl Refusals {
    /// Whether one more may be written; if so, how many were left out since the last.
    pub(crate) fn one_more(&self, now: Timestamp) -> Option<u64> {
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = now.0.div_euclid(1000);
        if second.number != number {
            (second.number, second.lines) = (number, 0);
        }
        if second.lines == LINES {
            second.left_out += 1;
            return None;
        }
        second.lines += 1;
        Some(std::mem::take(&mut second.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_tells_what_was_left_out() {
        let refusals = Refusals::default();
        let told = |ms: i64, n: usize| (0..n).filter_map(|_| refusals.one_more(Timestamp(ms))).collect::<Vec<_>>();
        assert_eq!(told(5_000, 100), vec![0; LINES as usize]);
        assert_eq!(told(5_999, 3), vec![]);
        assert_eq!(told(6_000, 2), vec![83, 0]);
        assert_eq!(told(4_000, 1), vec![0], "a clock that was set back silences nobody");
    }
}
