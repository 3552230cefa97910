//! The IMAP wire machine: commands in, responses out, without I/O.
//!
//! [`Server`] takes what a client sends, in pieces of any size, and gives [`Event`]s: whole [`Command`]s with typed
//! arguments, and the messages of an APPEND in slices that are never copied. What it has to say by itself
//! (continuations, BAD) it writes to [`Server::output`], where the session writes its responses too.
//!
//! IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051) with the extensions named at their commands. The machine has no clock,
//! no socket and no store, and everything a client can make it keep or do is bounded by [`Limits`] and by constants
//! that stand beside the types.
//!
//! ```
//! use imap::{Command, Config, Event, Server, Status};
//!
//! let mut server = Server::new(Config::default());
//! let mut input: &[u8] = b"a LOGIN fred {6}\r\nsesame\r\nb SELECT inbox\r\n";
//! let mut commands = Vec::new();
//! loop {
//!     let step = server.step(input);
//!     input = &input[step.consumed..];
//!     match step.event {
//!         Some(Event::Command { tag, command }) => {
//!             if let Command::Login { user, .. } = &command {
//!                 assert_eq!(&**user, "fred");
//!                 server.set_authenticated(); // once the password was checked
//!             }
//!             server.writer().tagged(&tag, Status::Ok, None, "Done");
//!             commands.push(command);
//!         }
//!         Some(_) => unreachable!("nothing else was sent"),
//!         None => break, // read more from the socket
//!     }
//! }
//! assert!(matches!(&commands[1], Command::Select(select) if select.mailbox.is_inbox()));
//! assert_eq!(server.output(), b"+ OK\r\na OK Done\r\nb OK Done\r\n");
//! ```

mod base64;
mod command;
mod date;
mod fetch;
mod flag;
mod name;
mod parse;
mod pattern;
mod search;
mod sequence;
mod server;
mod write;

pub use command::{
    Command, Enable, IdField, List, Qresync, Secret, Select, SpecialUse, StatusItem, StatusItems, Store, StoreAction,
    Tag,
};
pub use date::Day;
pub use fetch::{Fetch, FetchAttr, Partial, Section, SectionText};
pub use flag::{Flag, Keyword, KeywordMap};
pub use name::{MailboxName, utf7_decode, utf7_encode};
pub use pattern::Pattern;
pub use search::{Search, SearchKey, SearchOp, SearchProgram, SearchReturn};
pub use sequence::{Ranges, SequenceSet, write_ranges, write_set};
pub use server::{AppendMessage, Config, Event, Limits, Server, Step};
pub use write::{Capabilities, Code, Esearch, FetchWriter, ListAttribute, ListEntry, Status, StatusValue, Writer};
