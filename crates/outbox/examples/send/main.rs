//! Bulk mail to many sites on loopback, for `bench/run send` and `bench/run first`, which run it step by step, each step a
//! process of its own, and read what it prints: a word and a figure on each line.
//!
//! - `send sink PORT [DEFERRED BOUNCED]`: the sites; of a hundred recipients so many are refused;
//! - `send reference PORT N`: ready-made mails, with nothing but our client;
//! - `send fill DIR N`: deliveries of which each is made when it leaves;
//! - `send drain DIR PORT N`: sends them;
//! - `send first DIR PORT SAMPLES`: begins to, with transactional messages in between.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod engine;
mod mail;
mod reference;
mod sink;

use std::net::SocketAddr;

/// Sites, each with an address of its own.
const SITES: u32 = 50;

/// Where a site listens.
fn address(site: u32, port: u16) -> SocketAddr {
    ([127, 50, 0, site as u8 + 1], port).into()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let port = |text: &str| text.parse::<u16>().unwrap();
    let number = |text: &str| text.parse::<u32>().unwrap();
    match words[..] {
        ["sink", at] => sink::run(port(at), [0, 0]),
        ["sink", at, deferred, bounced] => sink::run(port(at), [number(deferred), number(bounced)]),
        ["reference", at, n] => reference::run(port(at), number(n)),
        ["fill", dir, n] => engine::fill(dir.as_ref(), number(n)),
        ["drain", dir, at, n] => engine::drain(dir.as_ref(), port(at), number(n)),
        ["first", dir, at, n] => engine::first(dir.as_ref(), port(at), number(n)),
        _ => {
            println!("send sink|reference|fill|drain|first …: see bench/sending.py");
            std::process::exit(2);
        }
    }
}
