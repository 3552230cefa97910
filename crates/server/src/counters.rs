//! What sessions count. Plain numbers, shared by all sessions of a server; whoever shows them reads them.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, or (connections that are open) goes up and down.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted for each service.
#[derive(Debug, Default)]
pub struct ServiceCounts {
    /// Connections so far.
    pub connections: Count,
    /// Connections open now.
    pub open: Count,
    /// Sign-ins that succeeded.
    pub signed_in: Count,
    /// Sign-ins that were refused.
    pub sign_ins_refused: Count,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// SMTP, all ports.
    pub smtp: ServiceCounts,
    /// LMTP.
    pub lmtp: ServiceCounts,
    /// IMAP.
    pub imap: ServiceCounts,
    /// POP3.
    pub pop3: ServiceCounts,
    /// Mails accepted: 250 was said.
    pub mails_accepted: Count,
    /// Mails refused for good after their body, 5xx.
    pub mails_refused: Count,
    /// Mails refused for now after their body, 4xx.
    pub mails_deferred: Count,
}

impl Counters {
    /// The services by name.
    pub fn services(&self) -> [(&'static str, &ServiceCounts); 4] {
        [("smtp", &self.smtp), ("lmtp", &self.lmtp), ("imap", &self.imap), ("pop3", &self.pop3)]
    }
}
