//! What a refusal means: the class of a reply or a report, and what follows from it.
//!
//! Called by who sends, with each reply that is no success, and by who reads reports that came back. The taxonomy and the
//! rules are data (`data/bounce-classes.toml`, whose head is the specification of this crate); a [`Classifier`] is that file,
//! read and compiled once. [`Classifier::classify`] gives a [`Verdict`]: the [`Class`], the [`Rule`] that answered, and
//! whether the reply was final. It decides nothing: to retry, to suppress, to tell somebody is the caller's.
//!
//! Texts come from strangers. At most [`MAX_TEXT`] octets are looked at, by patterns that take linear time (no
//! backtracking); nothing here fails on input, does I/O, or knows a clock.
//!
//! ```
//! use base::Enhanced;
//! use bounce::{Classifier, Input, Stage};
//!
//! let classifier = Classifier::new()?;
//! let input = Input {
//!     code: Some(550),
//!     enhanced: Some(Enhanced(5, 1, 1)),
//!     text: "<jo@example.test>: mailbox is full",
//!     ..Input::at(Stage::Rcpt)
//! };
//! let verdict = classifier.classify(&input);
//! // The text says it plainly, so it beats the code.
//! assert_eq!(&*verdict.class.name, "mailbox-full");
//! assert!(!verdict.is_hard());
//! # Ok::<(), bounce::Invalid>(())
//! ```

mod class;
mod classify;
mod codes;
mod data;
mod pattern;
mod quoted;

pub use class::{Class, Names, Permanence, Retry, Scope, Stream, Suppression, Threshold};
pub use classify::{Input, Known, Rule, Stage, Verdict};
pub use data::{Classifier, Invalid};

use std::fmt;

/// Octets of a text that are looked at, when it is prepared: a reply of RFC 5321 that says something fits ten times.
pub const MAX_TEXT: usize = 4096;

/// What a report says happened to a recipient (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// `failed`: given up.
    Failed,
    /// `delayed`: somebody is still trying.
    Delayed,
    /// `delivered`.
    Delivered,
    /// `relayed` to a system that sends no reports.
    Relayed,
    /// `expanded`: delivered, and passed on to several.
    Expanded,
}

impl Action {
    const NAMES: [(Action, &'static str); 5] = [
        (Action::Failed, "failed"),
        (Action::Delayed, "delayed"),
        (Action::Delivered, "delivered"),
        (Action::Relayed, "relayed"),
        (Action::Expanded, "expanded"),
    ];

    /// By its name, in any case.
    pub fn from_name(name: &str) -> Option<Action> {
        Self::NAMES.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map(|(action, _)| *action)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(action, _)| action == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}
