//! IMAP sessions as transcripts: a real store in a temporary directory, a connection in memory.

#![allow(clippy::unwrap_used, clippy::panic)]

mod append;
mod fetch;
mod folders;
mod live;
mod messages;
mod model;
mod patience;
mod search;
mod select;
mod signing_in;
mod world;
