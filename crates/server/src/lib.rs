//! SMTP, LMTP, IMAP and POP3 sessions: a wire machine bound to the domain
