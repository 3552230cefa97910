//! The POP3 wire machine, without I/O: bytes in, events and bytes out.
//!
//! `server` drives one [`Server`] for each connection: it feeds what it read to [`Server::step`], answers each [`Event`]
//! out of its mailbox, and writes what gathers in [`Server::output`]. The machine knows the protocol (RFC 1939, with the
//! extensions of RFC 2449, 2595, 3206, 5034 and 6856): states, syntax, limits, pipelining, dot-stuffing. It never opens a
//! socket, reads a clock, keeps a list of mails, judges a password or decodes base64.
//!
//! One event is open at a time: until it is answered, [`Server::step`] takes no further command, so pipelined commands
//! are answered in order (RFC 2449 §6.6). The whole dialogue of a sign-in:
//!
//! ```
//! use pop3::{Config, Event, Server, Tls};
//! let mut pop = Server::new(Config { hostname: "mail.example.test".into(), tls: Tls::On, ..Config::default() });
//! let mut input: &[u8] = b"USER jane\r\nPASS open sesame\r\nSTAT\r\n";
//! loop {
//!     let step = pop.step(input);
//!     input = &input[step.consumed..];
//!     match step.event {
//!         Some(Event::Login { user, password }) if user == "jane" && password.0 == b"open sesame" => pop.ok("Welcome"),
//!         Some(Event::Login { .. }) => pop.err(Some(pop3::Code::Auth), "No"),
//!         Some(Event::Stat) => pop.ok("2 320"),
//!         Some(_) => pop.err(None, "Not in this example"),
//!         None if step.consumed == 0 => break,
//!         None => {}
//!     }
//! }
//! let said = String::from_utf8_lossy(pop.output());
//! assert_eq!(said, "+OK mail.example.test ready\r\n+OK Password please\r\n+OK Welcome\r\n+OK 2 320\r\n");
//! ```

mod body;
mod command;
mod server;

pub use server::{Code, Config, Event, MAX_LINE, Secret, Server, Step, Tls};
