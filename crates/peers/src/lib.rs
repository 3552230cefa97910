//! What mail hosts of others are like: their quotas, tempers and mishaps, made of a seed. A machine without clock or I/O:
//! it is told what a sender does and when, and answers as such a host would.
//!
//! Floor 1. `simnet` gives it hosts that are spoken to, for tests; `outbox` asks it what a load will take
//! (`postroom simulate`).
//!
//! - [`Site`]: one site: its [`Character`], what it has seen, and what a sender who knew it would need;
//! - [`drawn`], [`share`], [`one_of`]: chance, drawn from a seed and from whom it concerns, never from the order of events.

mod chance;
mod site;

pub use chance::{drawn, one_of, share};
pub use site::{Answer, Block, Character, Fate, Faults, Ledger, Quota, Refusal, Site, Step, Tls, Wording};
