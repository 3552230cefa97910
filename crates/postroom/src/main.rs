//! Postroom: everything an organisation does with e-mail, in one binary.
//!
//! Floor 6: configuration, the command line, listeners; wires the floors below together. `postroom serve` is the server;
//! every other command is an administrator's request, answered by the running server over the socket in its data
//! directory, or, when none runs, by opening the store itself.

mod acme;
mod addresses;
mod admin;
mod certificates;
mod cli;
mod cli_pages;
mod cli_sending;
mod compact;
mod config;
mod control;
mod credential;
mod descriptors;
mod doctor;
mod events;
mod findings;
mod guide;
mod house;
mod log;
mod mailq;
mod mta_sts;
mod node;
mod organisations;
mod outside;
mod people;
mod policies;
mod privileges;
mod published;
mod quiet;
mod receipts;
mod scheduling;
mod serve;
mod simulate;
mod sources;
mod spf;
mod stops;
mod suppressions;
mod telemetry;
mod verp;
mod watch;
mod webhooks;
mod why;

use std::process::ExitCode;

use clap::Parser;

/// Large blocks go back to the system, whichever thread freed them: hashing a password takes 19 MiB for a moment, and
/// glibc's allocator keeps as much for every thread that ever did (300 MB were measured after 100 sign-ins).
/// SQLite, zstd and the cryptography, which ask for memory in C, have it from here too (its feature `override`): relaying is a
/// twelfth faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postroom: {error}");
            ExitCode::from(error.code())
        }
    }
}
