//! The directory's contract, on a real store; where SQL decides, on both engines.

#![allow(clippy::unwrap_used, clippy::panic)]

mod resolve;
mod sasl;
mod sign_in;
mod verbs;
mod verify;
mod world;
