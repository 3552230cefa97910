//! A mail leaves: the plain sender of people's mail.
//!
//! Floor 4. [`Outbox`] claims what is due in the queue, groups it by next hop and site, and sends it over connections that are kept
//! as long as there is more for the hop; what came of each delivery is written in batches. It is woken by the commit that
//! enqueues, not by a clock, so that a mail is on its way as soon as its sender has heard `250`. What fails, takes long or
//! was to be confirmed is reported to the sender (RFC 3461 to 3464).
//!
//! `ingress` does not know this crate: what lies between them are the verbs of `queue`. Another sender takes its place by
//! using the same verbs.
//!
//! - `timetable` and `dispatch`: what is due when, by stream and domain, and how much of it is claimed;
//! - `route` and `finder`: where mail for a domain goes;
//! - `sts`, `dane` and `guard`: what the recipients' domains demand of the way, and `tally` and `tls_reports`: what they
//!   are told of how that went;
//! - `hops`: what is ready, in a line for each next hop;
//! - `shape`: how much of it a site bears, and what its replies change about that;
//! - `worker` and `connection`: one connection and what is said on it; `bodies`: the bytes for it;
//! - `local`: mail that was held for mailboxes of ours;
//! - `dialogue`: what is noted of it for the receipts;
//! - `used`: what of all that is to be known after a restart, and `pauses`: those that are ended before their time;
//! - `journal`: what was begun, for a life after a crash;
//! - `lease`: other nodes that send from the same queue;
//! - `recorder`: outcomes, on disk before they count;
//! - `forecast`: what a load would take, by the same shaping and without sending;
//! - `reporter` and `report`: delivery status notifications;
//! - `events`, [`webhooks`] and [`telemetry`]: what happened, as programs read it, and who is told.

mod bodies;
mod connection;
mod dane;
mod dialogue;
mod dispatch;
mod events;
mod finder;
mod forecast;
mod guard;
mod hops;
mod journal;
mod lease;
mod local;
mod outbox;
mod pauses;
mod recorder;
mod report;
mod reporter;
mod route;
mod schedule;
mod shape;
mod sts;
mod tally;
pub mod telemetry;
mod timetable;
mod tls_reports;
mod unchunked;
mod used;
mod waits;
pub mod webhooks;
mod wish;
mod worker;

pub use events::event_line;
pub use finder::Looked;
pub use forecast::{Forecast, Load, Mix, RECIPIENTS, Reason, SiteForecast, Terms, forecast};
pub use hops::{Kept, Pause, SiteState, TenantState, Traffic};
pub use lease::{LEASE, Peers, journal_of};
pub use outbox::{Keep, Meter, OUTCOMES, Outbox, OutboxError, Parts, remains};
pub use route::{BadHostPort, HostPort, Routes, Smarthost};
pub use shape::{Hourly, check_figure, figures_of, standard_plan};
pub use timetable::Why;
pub use waits::Waited;
