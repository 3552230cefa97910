//! The queue's verbs on both engines.

#![allow(clippy::unwrap_used)]

mod claims;
mod nodes;
mod world;
