//! The IMAP wire machine: commands in, responses out, without I/O
