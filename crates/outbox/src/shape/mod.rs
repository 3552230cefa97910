//! How mail to a site is shaped: how many connections, how fast, and what the site's own words change about it.
//!
//! - `policy`: what a site is known to bear, as data (`data/site-policies.toml`);
//! - `hint`: what a reply says about the traffic, and not about the mail;
//! - `flight`: mails that are on their way there;
//! - `learn`: what a site bears that nobody wrote down;
//! - `rate`: so many in a time, never more;
//! - `rules`: the operator's own figures;
//! - `used`: what of it outlasts this server;
//! - `site`: the state of one site: a machine without clock or I/O;
//! - `warm`: how a new source begins, and by what it is judged.

mod flight;
mod hint;
mod learn;
mod policy;
mod rate;
mod rules;
mod site;
mod used;
mod warm;

pub(crate) use flight::{Ticket, urgency};
pub(crate) use hint::{Hint, on_one_line};
pub(crate) use policy::{Dead, Family, Limits, MAILBOX_RATES, Policies, Policy, Text, TlsLevel};
pub(crate) use rate::{Pace, Rate, kept};
pub(crate) use rules::{Bound, Rules};
pub use rules::{check_figure, figures_of};
pub(crate) use site::{Course, Hold, MayConnect, Site, Words};
pub(crate) use used::{Used, What, nothing_from, of_paces, resume};
pub use warm::{Hourly, standard_plan};
