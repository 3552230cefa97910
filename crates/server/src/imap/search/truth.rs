//! Yes, no, and not known yet: a search program decided as far as its keys are known.

/// What is known of a key, or of a whole program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    No,
    Yes,
    Unknown,
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Truth::Yes } else { Truth::No }
    }
}

/// What combines the operands that stand between an operator and its end (exclusive), in prefix order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// The key of this number.
    Key(u16),
    And(u16),
    Or(u16),
    Not(u16),
}

/// Decides a program, whose first op is the outermost operator. `key` says what is known of each key. Costs the length of
/// the program; `open` is room for its use, given so that it need not be made for every message.
pub(super) fn decide(ops: &[Op], open: &mut Vec<(u16, Truth)>, key: impl Fn(u16) -> Truth) -> Truth {
    open.clear();
    // From the end, so that the operands of an operator are decided before it.
    for (at, op) in ops.iter().enumerate().rev() {
        let value = match *op {
            Op::Key(number) => key(number),
            Op::And(end) => fold(open, end, Truth::No, Truth::Yes),
            Op::Or(end) => fold(open, end, Truth::Yes, Truth::No),
            Op::Not(end) => match fold(open, end, Truth::No, Truth::Yes) {
                Truth::Yes => Truth::No,
                Truth::No => Truth::Yes,
                Truth::Unknown => Truth::Unknown,
            },
        };
        open.push((at as u16, value));
    }
    open.last().map_or(Truth::No, |(_, value)| *value)
}

/// Takes the operands that begin before `end`: one that is `decides` decides, else one that is not known leaves it open,
/// else it is `other`.
fn fold(open: &mut Vec<(u16, Truth)>, end: u16, decides: Truth, other: Truth) -> Truth {
    let mut outcome = other;
    while let Some((_, value)) = open.pop_if(|(at, _)| *at < end) {
        if value == decides || (value == Truth::Unknown && outcome != decides) {
            outcome = value;
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::Op::{And, Key, Not, Or};
    use super::*;

    #[test]
    fn a_program_is_decided_as_soon_as_it_can_be() {
        let (n, y, u) = (Truth::No, Truth::Yes, Truth::Unknown);
        // 0 AND (1 OR NOT 2)
        let program = [And(6), Key(0), Or(6), Key(1), Not(6), Key(2)];
        for (keys, expected) in [
            ([y, y, u], y),
            ([n, u, u], n),
            ([u, n, y], n),
            ([y, n, u], u),
            ([u, y, n], u),
            ([y, u, n], y),
            ([y, n, n], y),
        ] {
            let mut room = Vec::new();
            assert_eq!(decide(&program, &mut room, |key| keys[usize::from(key)]), expected, "{keys:?}");
        }
    }
}
