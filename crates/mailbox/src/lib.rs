//! The mailbox log, its snapshots and its live views
