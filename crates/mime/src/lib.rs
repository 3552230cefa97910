//! The message index: where each part of a mail is, and what it is, in one streaming pass.
//!
//! A mail is read once, when it arrives, in chunks of any size: [`Indexer`] keeps the boundaries and a few header
//! fields, never the body. What it found is an [`Index`], which becomes a cache record ([`Index::encode`]); from then on
//! IMAP answers out of the record ([`Cached`]): ENVELOPE and BODYSTRUCTURE are copied out as they stand, and a section
//! (`BODY[2.1.MIME]`) is a span of the stored bytes. The other modules take a header or a body apart when somebody asks:
//! a search, a threader, BINARY.
//!
//! Every string of bytes is a message: nothing here returns an error because a mail is malformed. Lines end in CRLF; a
//! bare LF is taken for a line end too. Everything is linear in its input and bounded in memory, without recursion.
//! Nothing here does I/O, knows a mailbox, or changes a mail.
//!
//! ```
//! use mime::{Cached, Indexer, Limits};
//! let mut indexer = Indexer::new(Limits::default());
//! indexer.push(b"From: Jane <jane@example.test>\r\nSubj");
//! indexer.push(b"ect: Hi\r\n\r\nHello.\r\n");
//! let mut record = Vec::new();
//! indexer.finish().encode(&mut record);
//!
//! let cached = Cached::new(&record).unwrap();
//! assert!(cached.envelope().starts_with(br#"(NIL "Hi" (("Jane" NIL "jane" "example.test"))"#));
//! assert_eq!(
//!     cached.body_structure(),
//!     br#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 8 1 NIL NIL NIL NIL)"#
//! );
//! // A prefix of 100 bytes was stored before these bytes: BODY[1] is found behind it.
//! assert_eq!(cached.section(&[1], 100).unwrap().body, 147..155);
//! ```

pub mod address;
mod cache;
pub mod charset;
mod content;
pub mod date;
pub mod header;
mod index;
mod lexer;
mod part;
mod render;
pub mod transfer;
pub mod words;

pub use cache::{Cached, MessageSpans, PartView, Section};
pub use content::{Content, Disposition, Encoding, Param};
pub use index::{Indexer, Limits};
pub use part::{Index, Kind, Part};
