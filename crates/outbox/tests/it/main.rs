//! The outbox against hosts in memory, good ones and bad ones, on a clock that is moved by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bodies;
mod chunks;
mod dane;
mod failing;
mod limits;
mod peer;
mod policies;
mod receipts;
mod reports;
mod sending;
mod shaping;
mod sources;
mod stopping;
mod stops;
mod streams;
mod sts;
mod tenants;
mod timing;
mod tls;
mod tls_reports;
mod verp;
mod warmup;
mod web;
mod world;
