//! The queue's verbs on both engines.

#![allow(clippy::unwrap_used)]

mod claims;
mod held;
mod nodes;
mod world;
