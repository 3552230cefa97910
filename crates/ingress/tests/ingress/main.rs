//! Mails on their way in, and what follows from them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod forwards;
mod outgoing;
mod signed;
mod verp;
mod world;
