//! A simulated internet: mail hosts with characters, all of them made of one number, and a clock that runs as fast as the
//! machine. A day of sending takes seconds.
//!
//! Used in `[dev-dependencies]` only; it stands outside the floors. It panics where a test cannot go on.
//!
//! - [`Internet`]: sites, their domains and hosts, and the load for them, from a seed;
//! - [`Site`]: one of them, of `peers`: its [`Character`], what it has seen, and what a sender who knew it would need;
//! - `host`: the SMTP of a site;
//! - [`run`] and [`Time`]: virtual time, which passes only when everybody waits for it.
//!
//! Whatever is left to chance is drawn from the seed and from whom it concerns, never from the order of events: a mail
//! that one seed makes fail at its second attempt does so in every run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod host;
mod internet;
mod time;

pub use host::serve;
pub use internet::{Internet, Mail, Manner};
pub use peers::{Block, Character, Fate, Faults, Ledger, Quota, Refusal, Site, Tls, Wording};
pub use time::{Time, run};
