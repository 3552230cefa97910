//! What the tests of this crate share.
#![allow(dead_code)] // each test program uses some of it
#![allow(clippy::unwrap_used)]

use mime::{Cached, Index, Indexer, Limits};

pub fn index(message: &[u8]) -> Index {
    let mut indexer = Indexer::new(Limits::default());
    indexer.push(message);
    indexer.finish()
}

pub fn record(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    index(message).encode(&mut out);
    out
}

pub fn cached(message: &[u8], check: impl Fn(Cached<'_>)) {
    check(Cached::new(&record(message)).unwrap());
}

/// A text as it goes over the wire.
pub fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// A small generator of numbers (xorshift64*): a seed gives the same run everywhere.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
