//! The command line: what mail leaves by, and how.

use std::net::IpAddr;

use clap::{ArgGroup, Args, Subcommand};

use crate::admin::Request;
use crate::policies;
use crate::sources::{self, Ask, Plan};
use crate::stops::{self, Named};

/// What is exported, and how.
#[derive(Debug, Args)]
pub struct Exported {
    /// Only those with this in their name.
    pub word: Option<String>,
    /// Comma-separated values, with a line of names.
    #[arg(long)]
    pub csv: bool,
}

/// A source is an address of this machine with the name that is said there. Without any, mail leaves by the source "default":
/// our host name, from the address that the system chooses. Changes count at once.
#[derive(Debug, Subcommand)]
pub enum SourceCommand {
    /// Add a source. It sends once it is in a pool.
    Add {
        /// What you call it.
        name: String,
        /// An address of this machine; one of each family may be given. Without, the system chooses.
        #[arg(long, value_name = "IP")]
        address: Vec<IpAddr>,
        /// The name that it says (EHLO); without, our host name. It should lead to the address, and the address to it.
        #[arg(long, value_name = "NAME")]
        ehlo: Option<String>,
        /// Also when this machine has not got the address (yet).
        #[arg(long)]
        anyway: bool,
    },
    /// Change a source: only what is given.
    #[command(group = ArgGroup::new("change").required(true).multiple(true))]
    Change {
        /// One that `list` shows.
        name: String,
        /// Its addresses from now on.
        #[arg(long, value_name = "IP", group = "change")]
        address: Vec<IpAddr>,
        /// No address: the system chooses.
        #[arg(long, group = "change", conflicts_with = "address")]
        any_address: bool,
        /// The name that it says; "" for our host name.
        #[arg(long, value_name = "NAME", group = "change")]
        ehlo: Option<String>,
        /// Also when this machine has not got the address (yet).
        #[arg(long)]
        anyway: bool,
    },
    /// Remove a source that is in no pool.
    Remove {
        /// One that `list` shows.
        name: String,
    },
    /// What a new source may deliver a day, so that nobody takes it for a spammer's; without an option, show it. What is more
    /// goes to the others of its pool, or waits for the next day. A day is one of UTC on which it delivered something; after
    /// the last day of the plan there is no cap. After a bad day at a site the next there is the same, or an earlier one, or the
    /// source sends nothing more there before it is resumed. Where servers share a queue, `default` has one plan for all of them.
    Warmup {
        /// One that `list` shows.
        name: String,
        /// The plan that is shipped: 50 on the first day, and a part of that to each site; a million after a month.
        #[arg(long, group = "plan")]
        standard: bool,
        /// Day by day (50,100,200), or from where, by what factor, and to where (50x1.4..10000): to each site.
        #[arg(long, value_name = "DAYS", group = "plan", value_parser = sources::days)]
        days: Option<sources::Days>,
        /// The days are for this site.
        #[arg(long, requires = "days")]
        site: Option<String>,
        /// The days are for all sites together.
        #[arg(long, requires = "days", conflicts_with = "site")]
        total: bool,
        /// No plan any more.
        #[arg(long, group = "plan")]
        stop: bool,
        /// Send to this site again, where it was stopped after a bad day.
        #[arg(long, group = "plan", value_name = "SITE")]
        resume: Option<String>,
    },
    /// All sources, and the pools they are in.
    List {
        /// Only those with this in their name.
        word: Option<String>,
        /// Ask the DNS as well, and say what other hosts will not like.
        #[arg(long)]
        check: bool,
    },
    /// All sources, a line each: JSON, or CSV.
    Export(Exported),
}

/// A pool is a set of sources that share the mail of some streams (mail, transactional, marketing) by their weights. One that is
/// given to an organisation serves its mail alone, which leaves by no other for these streams.
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// Add a pool.
    Add {
        /// What you call it.
        name: String,
        /// Its sources: NAME, or NAME:WEIGHT.
        #[arg(required = true, value_parser = sources::member)]
        sources: Vec<(String, u32)>,
        /// A stream that leaves by it; may be given more than once.
        #[arg(long, value_name = "STREAM")]
        stream: Vec<String>,
        /// Only for the mail of this organisation.
        #[arg(long, value_name = "NAME")]
        organisation: Option<String>,
    },
    /// Give a pool other sources, or other streams.
    #[command(group = ArgGroup::new("change").required(true).multiple(true))]
    Change {
        /// One that `list` shows.
        name: String,
        /// All its sources from now on.
        #[arg(value_parser = sources::member, group = "change")]
        sources: Vec<(String, u32)>,
        /// All its streams from now on.
        #[arg(long, value_name = "STREAM", group = "change")]
        stream: Vec<String>,
        /// It serves no stream.
        #[arg(long, group = "change", conflicts_with = "stream")]
        no_stream: bool,
        /// Only for the mail of this organisation; "" for that of all who have no pool of their own.
        #[arg(long, value_name = "NAME", group = "change")]
        organisation: Option<String>,
    },
    /// Remove a pool: what it served leaves by the general pool, or the source "default", again.
    Remove {
        /// One that `list` shows.
        name: String,
    },
    /// All pools, their sources with weights, and what leaves by them.
    List {
        /// Only those with this in their name.
        word: Option<String>,
    },
    /// All pools, a line each: JSON, or CSV.
    Export(Exported),
}

impl From<SourceCommand> for Request {
    fn from(command: SourceCommand) -> Self {
        Request::Source(match command {
            SourceCommand::Add { name, address, ehlo, anyway } => Ask::Add { name, addresses: address, ehlo, anyway },
            SourceCommand::Change { name, address, any_address, ehlo, anyway } => {
                let addresses = (any_address || !address.is_empty()).then_some(address);
                Ask::Change { name, addresses, ehlo, anyway }
            }
            SourceCommand::Remove { name } => Ask::Remove { name },
            SourceCommand::Warmup { name, standard, days, site, total, stop, resume } => {
                let plan = match (days, resume) {
                    (Some(sources::Days(days)), _) => Plan::Caps { site, total, days },
                    (None, Some(site)) => Plan::Resume { site },
                    (None, None) if standard => Plan::Standard,
                    (None, None) if stop => Plan::Stop,
                    (None, None) => Plan::Show,
                };
                Ask::WarmUp { name, plan }
            }
            SourceCommand::List { check: true, word } => Ask::Check { word },
            SourceCommand::List { word, .. } | SourceCommand::Export(Exported { word, .. }) => Ask::List { word },
        })
    }
}

impl From<PoolCommand> for Request {
    fn from(command: PoolCommand) -> Self {
        Request::Source(match command {
            PoolCommand::Add { name, sources, stream, organisation } => {
                Ask::PoolAdd { name, organisation, members: sources, streams: stream }
            }
            PoolCommand::Change { name, sources, stream, no_stream, organisation } => {
                let members = (!sources.is_empty()).then_some(sources);
                let streams = (no_stream || !stream.is_empty()).then_some(stream);
                Ask::PoolChange { name, organisation, members, streams }
            }
            PoolCommand::Remove { name } => Ask::PoolRemove { name },
            PoolCommand::List { word } | PoolCommand::Export(Exported { word, .. }) => Ask::PoolList { word },
        })
    }
}

/// Figures of your own for sites go before those that are known of them; what a site says and teaches lowers both. A site is
/// named as `site list` does: a provider (google, yahoo), a mail host, or what all its mail hosts end in. Values for a source
/// go before values for a site, and values for both before either. KEY=VALUE: connections=5, start_connections=2,
/// connection_rate=10/m, messages=100, recipients=50, rate=20/s,3600/h (or none), mailbox_rate=60/m (to one
/// mailbox, from all sources), idle=30 (seconds),
/// tls=opportunistic|encrypt|verify, family=any|v4-first|v4-only.
///
/// With --organisation connections and rate bound what that organisation sends to each site by each source, beside what the
/// site bears, so that the others have their share; no other figure can be an organisation's. Of several for one organisation the
/// same order holds.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Set figures. They count at once.
    Set {
        /// Only for what leaves by this source.
        #[arg(long)]
        source: Option<String>,
        /// Only for this site; without, for all sites but the hosts of your own routes.
        #[arg(long)]
        site: Option<String>,
        /// What this organisation sends at most.
        #[arg(long, value_name = "NAME")]
        organisation: Option<String>,
        /// KEY=VALUE.
        #[arg(required = true, value_parser = policies::figure)]
        figures: Vec<(String, String)>,
    },
    /// Take figures back: those named, or all for this source, site and organisation.
    Unset {
        /// As it was set.
        #[arg(long)]
        source: Option<String>,
        /// As it was set.
        #[arg(long)]
        site: Option<String>,
        /// As it was set.
        #[arg(long, value_name = "NAME")]
        organisation: Option<String>,
        /// Like connections.
        keys: Vec<String>,
    },
    /// All figures of your own.
    List {
        /// Only those with this in the name of their source, site or organisation.
        word: Option<String>,
    },
    /// All figures of your own, a line each: JSON, or CSV.
    Export {
        /// Only those with this in the name of their source, site or organisation.
        word: Option<String>,
        /// Comma-separated values, with a line of names.
        #[arg(long)]
        csv: bool,
    },
}

/// A site is the group of mail hosts that serves many domains, as one source knows it.
#[derive(Debug, Subcommand)]
pub enum SiteCommand {
    /// The sites that are sent to, those with most mail in line first: a hundred.
    List {
        /// Only those with this in their name.
        word: Option<String>,
    },
    /// All sites that are sent to, a line each: JSON, or CSV.
    Export(Exported),
    /// What is known of one: limits in force, what was learned, what it said last.
    Show {
        /// As `list` shows it.
        name: String,
    },
    /// End a pause that it asked for. What was put back because of it is tried at once; what was learned of the site stays.
    Resume {
        /// As `list` shows it, or what all its mail hosts end in.
        name: String,
        /// Only for what leaves by this source.
        #[arg(long)]
        source: Option<String>,
    },
}

impl From<PolicyCommand> for Request {
    fn from(command: PolicyCommand) -> Self {
        Request::Policy(match command {
            PolicyCommand::Set { source, site, organisation, figures } => {
                policies::Ask::Set { of: policies::Of { source, site, organisation }, figures }
            }
            PolicyCommand::Unset { source, site, organisation, keys } => {
                policies::Ask::Unset { of: policies::Of { source, site, organisation }, keys }
            }
            PolicyCommand::List { word } | PolicyCommand::Export { word, .. } => policies::Ask::List { word },
        })
    }
}

impl From<SiteCommand> for Request {
    fn from(command: SiteCommand) -> Self {
        Request::Policy(match command {
            SiteCommand::List { word } => policies::Ask::Sites { word, all: false },
            SiteCommand::Export(Exported { word, .. }) => policies::Ask::Sites { word, all: true },
            SiteCommand::Show { name } => policies::Ask::Site { name },
            SiteCommand::Resume { name, source } => policies::Ask::Resume { name, source },
        })
    }
}

/// What is held, drained or resumed.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Stopped {
    /// What leaves by a source; the others of its pool take over.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["site", "stream", "organisation", "domain"])]
    source: Option<String>,
    /// What goes to a site, named as `site list` does.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["stream", "organisation", "domain"])]
    site: Option<String>,
    /// A stream: mail, transactional or marketing.
    #[arg(long, value_name = "STREAM", conflicts_with = "domain")]
    stream: Option<String>,
    /// The mail of an organisation; with --stream, only that.
    #[arg(long, value_name = "NAME", conflicts_with = "domain")]
    organisation: Option<String>,
    /// What goes to a domain.
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
}

impl Stopped {
    /// Of nothing named, a domain without a name, which is refused.
    fn named(self) -> Named {
        match self {
            Stopped { source: Some(name), .. } => Named::Source(name),
            Stopped { site: Some(name), .. } => Named::Site(name),
            Stopped { organisation: Some(name), stream, .. } => Named::Organisation(name, stream),
            Stopped { stream: Some(stream), .. } => Named::Stream(stream),
            Stopped { domain, .. } => Named::Domain(domain.unwrap_or_default()),
        }
    }

    pub fn stop(self, drains: bool) -> Request {
        Request::Stop(stops::Ask::Stop { what: self.named(), drains })
    }

    pub fn resume(self) -> Request {
        Request::Stop(stops::Ask::Resume { what: self.named() })
    }
}
