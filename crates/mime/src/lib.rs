//! The message index: where each part of a mail is, and what it is, in one streaming pass
