//! The directory's contract, on a real store in a temporary directory.

#![allow(clippy::unwrap_used, clippy::panic)]

mod resolve;
mod sign_in;
mod verbs;
mod world;
