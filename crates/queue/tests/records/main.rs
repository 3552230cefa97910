//! What is kept of mail that left, and who is not sent to: on both engines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod heard;
mod log;
mod merge;
mod receipts;
mod suppressions;
mod world;
