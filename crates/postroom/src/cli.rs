//! The command line.

use std::fmt;
use std::io::{BufRead, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::Stream;
use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::admin::{self, Answer, Kind, Outcome, Request};
use crate::cli_pages::{Export, Table, export, follow, show};
use crate::cli_sending::{PolicyCommand, PoolCommand, SiteCommand, SourceCommand, Stopped};
use crate::config::Config;
use crate::house::House;
use crate::outside::Outside;
use crate::{
    certificates, control, doctor, events, guide, log, mailq, organisations, policies, privileges, quiet, receipts,
    scheduling, serve, simulate, sources, stops, suppressions, webhooks,
};

/// Where the configuration is looked for.
const CONFIG: &str = "postroom.toml";

/// Everything an organisation does with e-mail.
///
/// `postroom serve` runs the server. Every other command works on the server's data, while it runs and while it does not.
/// Exit codes: 0 done; 1 it did not work; 2 the command or the configuration is wrong.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, default_value = CONFIG)]
    config: PathBuf,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server in the foreground; logs go to standard error. SIGTERM drains and stops it.
    Serve {
        /// Only read the configuration and the certificates it names, and say what is wrong.
        #[arg(long)]
        check: bool,
    },
    /// Prepare an empty data directory: the first domain and an administrator. Prints how to connect.
    Init {
        /// The first domain whose mail is taken.
        #[arg(long)]
        domain: String,
        /// The administrator's address, in that domain.
        #[arg(long)]
        admin: String,
        /// Read the administrator's password from standard input (its first line); without it, one is made and shown.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Who owns domains and accounts, where there are several.
    #[command(subcommand)]
    Organisation(organisations::Command),
    /// Domains whose mail is taken.
    #[command(subcommand)]
    Domain(DomainCommand),
    /// People and roles that log in.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Addresses that lead to other addresses.
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Addresses whose mail goes to each member.
    #[command(subcommand)]
    Group(GroupCommand),
    /// What an account signs in with: its password, and app passwords for its programs.
    #[command(subcommand)]
    Credential(CredentialCommand),
    /// Mail on its way to other hosts.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// What mail leaves by: addresses of this machine, each with a name.
    #[command(subcommand)]
    Source(SourceCommand),
    /// Sets of sources, and the streams of mail they serve.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// What sites are sent at most, where you know better.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// The sites that are sent to, and what is known of them now.
    #[command(subcommand)]
    Site(SiteCommand),
    /// What became of mail that left, for each recipient.
    #[command(subcommand)]
    Receipt(receipts::Command),
    /// What happens to recipients, a line of JSON each, in the order in which it was written down.
    Events(events::Which),
    /// Who is told of it, by signed requests.
    #[command(subcommand)]
    Webhook(webhooks::Command),
    /// Addresses that nothing is sent to.
    #[command(subcommand)]
    Suppression(suppressions::Command),
    /// What so many recipients will take with these sources and limits: a table, and a curve by the hour. Nothing is sent.
    ///
    /// Without --sources it is asked of what this server has set up: its sources, pools, plans and figures; without a
    /// configuration, of one source. It is a forecast for other people's hosts: what they bear is an estimate.
    Simulate(simulate::Question),
    /// The mailboxes of an account.
    #[command(subcommand)]
    Mailbox(MailboxCommand),
    /// Prove the store consistent: tables, mails, and every byte of every pack. Works while the server runs.
    Verify,
    /// Look at configuration, data, certificates and DNS, and say what to do about what is wrong.
    Doctor {
        /// Ask nothing of the DNS.
        #[arg(long)]
        offline: bool,
    },
}

#[derive(Debug, Subcommand)]
enum CredentialCommand {
    /// Make an app password for one program, and show it once.
    Add {
        /// What the account signs in as.
        account: String,
        /// What its owner calls it: "phone", "backup script".
        name: String,
        /// What kind of sending the program does: mail, transactional or marketing; without it, what its account does.
        #[arg(long)]
        stream: Option<Stream>,
    },
    /// All credentials, when they were made and last used.
    List {
        /// What the account signs in as.
        account: String,
    },
    /// Take a credential away by its number.
    Remove {
        /// What the account signs in as.
        account: String,
        /// The number that `list` shows.
        id: i64,
    },
}

#[derive(Debug, Args)]
struct GivenPassword {
    /// Read the password from standard input (its first line); without it, you are asked.
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Debug, Subcommand)]
enum DomainCommand {
    /// Take mail for a domain.
    Add {
        /// Like example.org; an internationalised one as A-labels (xn--…).
        name: String,
        /// Whose it is; needed where there are several organisations.
        #[arg(long)]
        organisation: Option<String>,
    },
    /// All domains, and where mail to unknown addresses goes.
    List,
    /// Change what becomes of mail to unknown addresses, what divides sub-addresses, or what senders are asked for.
    #[command(group = ArgGroup::new("change").required(true).multiple(true))]
    Change {
        /// One that `list` shows.
        name: String,
        /// Mail to addresses that do not exist goes to this one; "" refuses it again.
        #[arg(long, value_name = "ADDRESS", group = "change")]
        catch_all: Option<String>,
        /// What divides jane+news@ into jane@ and a detail: one of + - = _ #; "" switches sub-addresses off.
        #[arg(long, value_name = "CHARACTER", group = "change", allow_hyphen_values = true)]
        separator: Option<String>,
        /// What the domain asks of those who send it mail (MTA-STS): verified TLS, that others only test it, or nothing.
        #[arg(long, value_name = "MODE", group = "change", value_parser = ["none", "testing", "enforce"])]
        mta_sts: Option<String>,
    },
    /// No longer take mail for a domain; its addresses must be gone.
    Remove {
        /// One that `list` shows.
        name: String,
    },
    /// The records to put into the DNS: MX, SPF, DKIM, DMARC, as lines of a zone file.
    Dns {
        /// One that `list` shows.
        name: String,
        /// Ask the DNS instead, and say what is missing or wrong there.
        #[arg(long)]
        check: bool,
    },
    /// The keys that sign a domain's mail (DKIM).
    #[command(subcommand)]
    Key(KeyCommand),
}

/// A domain has a pair of keys, RSA and Ed25519, and every mail two signatures. The first pair signs at once. New ones sign
/// when the server, which looks every ten minutes, sees both records in the DNS; those before stay there 30 days longer.
#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a new pair, and print the records to put into the DNS.
    Rotate {
        /// One that `domain list` shows.
        name: String,
    },
    /// All keys, and where they stand.
    List {
        /// One that `domain list` shows.
        name: String,
    },
    /// Look for the keys in the DNS now. New ones that are there sign from now on.
    Check {
        /// One that `domain list` shows.
        name: String,
        /// Ask nothing: new keys sign from now on, whatever the DNS says.
        #[arg(long)]
        force: bool,
    },
}

/// Mail to other hosts is tried at once, then after 1, 5, 15, 30 minutes and up to 6 hours, for five days (transactional two, marketing
/// three); then its sender gets a report. A report of the delay comes after four hours.
#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// What waits or is under way, the oldest first, with the last answer of the other host.
    List {
        #[command(flatten)]
        which: mailq::Which,
        /// Go on behind this one, as the last answer said.
        #[arg(long, value_name = "ID/NUMBER")]
        after: Option<String>,
        /// At most so many recipients.
        #[arg(long, default_value_t = 5000)]
        limit: usize,
    },
    /// All of it, a line for each recipient: JSON, or CSV.
    Export {
        #[command(flatten)]
        which: mailq::Which,
        /// Comma-separated values, with a line of names.
        #[arg(long)]
        csv: bool,
    },
    /// One message: each recipient, its attempts, its next one, the last answer.
    Show {
        /// A number like 3-1f, as `list` shows it.
        id: String,
    },
    /// Why mail for somebody has not left yet, and who can do something about it.
    Why {
        /// The recipient.
        address: String,
    },
    /// Try a message now, or all that is looked for, whenever its next attempt is due.
    Retry(mailq::Meant),
    /// Begin nothing more of something, until it is resumed. What waits does not expire meanwhile.
    Hold {
        #[command(flatten)]
        what: Stopped,
    },
    /// Put nothing more in line for something; what stands there is still sent.
    Drain {
        #[command(flatten)]
        what: Stopped,
    },
    /// Let it go on.
    Resume {
        #[command(flatten)]
        what: Stopped,
    },
    /// All that is held or drained.
    Holds,
    /// The servers that share this queue, and which of them are silent.
    Nodes,
    /// The hours of every day in which a stream's mail waits; without a stream, all of them.
    Quiet {
        /// mail, transactional or marketing.
        stream: Option<Stream>,
        /// When they begin, like 21:00.
        #[arg(long, value_name = "HH:MM", requires_all = ["stream", "to"])]
        from: Option<String>,
        /// When they end, like 08:00; before their begin: on the next day.
        #[arg(long, value_name = "HH:MM", requires = "from")]
        to: Option<String>,
        /// Whose clock: like +01:00. There is no summer time.
        #[arg(long, value_name = "+HH:MM", default_value = "UTC", allow_hyphen_values = true)]
        zone: String,
        /// Take them away.
        #[arg(long, requires = "stream", conflicts_with = "from")]
        none: bool,
        /// Whose stream; needed where there are several organisations.
        #[arg(long, value_name = "NAME", requires = "stream")]
        organisation: Option<String>,
    },
    /// Return addresses of its own for each recipient of a bulk stream; without a stream, which streams have them.
    Verp {
        /// transactional or marketing.
        stream: Option<Stream>,
        /// No more.
        #[arg(long, requires = "stream")]
        off: bool,
    },
    /// Send a message, or all that is looked for, no further; the sender is told nothing. What is just being sent goes on.
    Cancel(mailq::Meant),
}

#[derive(Debug, Subcommand)]
enum AccountCommand {
    /// Add an account: an address that logs in and has mailboxes.
    Add {
        /// In a domain of ours; with it and the password the account signs in.
        address: String,
        /// The name people see; without it, what stands before the @.
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
        /// Octets it may keep; no limit without.
        #[arg(long)]
        quota: Option<u64>,
        /// May administer; gets postmaster's mail.
        #[arg(long)]
        administrator: bool,
        #[command(flatten)]
        password: GivenPassword,
    },
    /// All accounts, and the room they use.
    List,
    /// Remove an account and all its mail.
    Remove {
        /// What the account signs in as.
        address: String,
    },
    /// Change an account: only what is given.
    #[command(group = ArgGroup::new("change").required(true).multiple(true))]
    Change {
        /// What the account signs in as.
        address: String,
        /// Another address of its own to sign in as.
        #[arg(long, group = "change")]
        login: Option<String>,
        /// The name people see.
        #[arg(long, group = "change")]
        name: Option<String>,
        /// Octets it may keep; 0: no limit.
        #[arg(long, value_name = "OCTETS", group = "change")]
        quota: Option<u64>,
        /// Whether it may administer, and gets postmaster's mail.
        #[arg(long, value_name = "true|false", group = "change")]
        administrator: Option<bool>,
        /// Whether it may not sign in; its mail is still taken.
        #[arg(long, value_name = "true|false", group = "change")]
        disabled: Option<bool>,
        /// What kind of sending its mail to other hosts is: mail, transactional or marketing. A credential may say otherwise.
        #[arg(long, group = "change")]
        stream: Option<Stream>,
    },
    /// Give an account a new password.
    Password {
        /// What the account signs in as.
        address: String,
        #[command(flatten)]
        password: GivenPassword,
    },
}

#[derive(Debug, Subcommand)]
enum AliasCommand {
    /// Mail to ADDRESS goes to the targets; those may send as ADDRESS.
    Add {
        /// A new one, in a domain of ours.
        address: String,
        /// Addresses of ours, or elsewhere.
        #[arg(required = true)]
        targets: Vec<String>,
        /// The targets are elsewhere, and the mail is only passed on to them.
        #[arg(long)]
        forward: bool,
    },
    /// Give an alias other targets.
    Change {
        /// One that `list` shows.
        address: String,
        /// Addresses of ours, or elsewhere.
        #[arg(required = true)]
        targets: Vec<String>,
        /// The targets are elsewhere, and the mail is only passed on to them.
        #[arg(long)]
        forward: bool,
    },
    /// All addresses, of accounts, aliases and groups.
    List,
    /// Take an alias away.
    Remove {
        /// One that `list` shows.
        address: String,
    },
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// Mail to ADDRESS goes to each member.
    Add {
        /// A new one, in a domain of ours.
        address: String,
        /// Addresses of ours, or elsewhere.
        #[arg(required = true)]
        members: Vec<String>,
        /// Members may send as ADDRESS.
        #[arg(long)]
        members_send: bool,
    },
    /// Give a group other members.
    Change {
        /// One that `alias list` shows.
        address: String,
        /// Addresses of ours, or elsewhere.
        #[arg(required = true)]
        members: Vec<String>,
        /// Members may send as ADDRESS.
        #[arg(long)]
        members_send: bool,
    },
    /// Take a group away.
    Remove {
        /// One that `alias list` shows.
        address: String,
    },
}

#[derive(Debug, Subcommand)]
enum MailboxCommand {
    /// Names, numbers of messages, octets.
    List {
        /// What the account signs in as.
        account: String,
    },
}

/// Why a command failed.
#[derive(Debug)]
pub enum CliError {
    /// It did not work.
    Failed(String),
    /// The command or the configuration is wrong.
    Usage(String),
}

impl CliError {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            CliError::Failed(_) => 1,
            CliError::Usage(_) => 2,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CliError::Failed(text) | CliError::Usage(text) => f.write_str(text),
        }
    }
}

/// Runs a command to its end.
///
/// # Errors
/// In words for the administrator.
pub fn run(cli: Cli) -> Result<(), CliError> {
    if let Command::Simulate(question) = &cli.command {
        return print(&simulate(question, &cli.config)?, cli.json);
    }
    let config = Config::read(&cli.config).map_err(CliError::Usage)?;
    let request = match cli.command {
        Command::Init { domain, admin, password_stdin } => {
            return init(&config, domain, admin, password_stdin, cli.json);
        }
        Command::Doctor { offline } => {
            let answer = doctor::run(&config, offline)?;
            print(&answer, cli.json)?;
            return if answer.good { Ok(()) } else { Err(CliError::Failed("problems were found".into())) };
        }
        Command::Serve { check: true } => {
            privileges::user(&config).and_then(|_| certificates::check(&config)).map_err(CliError::Usage)?;
            let outside = Outside::of(&config);
            config.webhooks.place().way(&outside).map_err(CliError::Usage)?;
            let telemetry = config.telemetry.as_ref();
            telemetry.map(|telemetry| telemetry.way(&outside)).transpose().map_err(CliError::Usage)?;
            println!("{}: no mistakes found", cli.config.display());
            return Ok(());
        }
        Command::Serve { check: false } => {
            let _log = log::begin();
            scheduling::begin();
            return runtime()?.block_on(serve::run(config)).map_err(CliError::Failed);
        }
        Command::Receipt(receipts::Command::Show { id }) => return show(&config, &id, cli.json),
        Command::Receipt(receipts::Command::Export { which, csv }) => {
            return export(&config, Export::Receipts(which), csv);
        }
        Command::Queue(QueueCommand::Export { which, csv }) => return export(&config, Export::Queue(which), csv),
        Command::Suppression(suppressions::Command::Export { which, csv }) => {
            return export(&config, Export::Suppressions(which), csv);
        }
        Command::Events(which) => return follow(&config, which),
        command => match command.table() {
            Some(table) => return table.write(&config, request(command)?),
            None => request(command)?,
        },
    };
    let answer = ask(&config, request)?;
    print(&answer, cli.json)?;
    if answer.good { Ok(()) } else { Err(CliError::Failed("problems were found".into())) }
}

impl Command {
    /// What is given out as a table, if it is an export of one.
    fn table(&self) -> Option<Table> {
        let (columns, csv) = match self {
            Command::Source(SourceCommand::Export(of)) => (&sources::COLUMNS[..], of.csv),
            Command::Pool(PoolCommand::Export(of)) => (&sources::POOL_COLUMNS[..], of.csv),
            Command::Policy(PolicyCommand::Export { csv, .. }) => (&policies::COLUMNS[..], *csv),
            Command::Site(SiteCommand::Export(of)) => (&policies::SITE_COLUMNS[..], of.csv),
            _ => return None,
        };
        Some(Table { columns, csv })
    }
}

/// Of what the server has set up, unless the question says otherwise. No data directory is made for it.
fn simulate(question: &simulate::Question, config: &Path) -> Result<Answer, CliError> {
    let mut known = None;
    if question.is_of_server() && (config != Path::new(CONFIG) || config.exists()) {
        let config = Config::read(config).map_err(CliError::Usage)?;
        if config.data.exists() {
            known = Some(ask(&config, Request::Facts)?.data);
        }
    }
    question.answer(known).map_err(CliError::Failed)
}

/// Whoever closed the pipe (`| head`) wants no more: that is no failure.
fn print(answer: &Answer, json: bool) -> Result<(), CliError> {
    let text = if json { answer.data.to_string() } else { answer.text.clone() };
    if text.is_empty() {
        return Ok(());
    }
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(CliError::Failed(format!("writing the answer: {e}"))),
        _ => Ok(()),
    }
}

/// The first command of all: with a password of the administrator's choice, or one that is made and shown.
fn init(config: &Config, domain: String, admin: String, given: bool, json: bool) -> Result<(), CliError> {
    let password = if given {
        GivenPassword { password_stdin: true }.read()?
    } else {
        guide::new_password().map_err(CliError::Failed)?
    };
    let request = Request::Init { domain, admin: admin.clone(), password: password.clone() };
    let mut answer = ask(config, request)?;
    let shown = (!given).then_some(password.as_str());
    answer.text += &guide::first_steps(config, &admin, shown);
    if let (Some(password), Some(data)) = (shown, answer.data.as_object_mut()) {
        data.insert("password".into(), password.into());
    }
    print(&answer, json)
}

fn request(command: Command) -> Result<Request, CliError> {
    Ok(match command {
        Command::Serve { .. }
        | Command::Init { .. }
        | Command::Doctor { .. }
        | Command::Events(_)
        | Command::Simulate(_)
        | Command::Queue(QueueCommand::Export { .. })
        | Command::Receipt(receipts::Command::Show { .. } | receipts::Command::Export { .. }) => {
            return Err(CliError::Usage("that is no request".into()));
        }
        Command::Organisation(command) => Request::Organisation(command.into()),
        Command::Domain(DomainCommand::Add { name, organisation }) => Request::DomainAdd { name, organisation },
        Command::Domain(DomainCommand::List) => Request::DomainList,
        Command::Domain(DomainCommand::Change { name, catch_all, separator, mta_sts }) => {
            Request::DomainChange { name, catch_all, separator, mta_sts }
        }
        Command::Domain(DomainCommand::Remove { name }) => Request::DomainRemove { name },
        Command::Domain(DomainCommand::Dns { name, check }) => Request::DomainDns { name, check },
        Command::Domain(DomainCommand::Key(KeyCommand::Rotate { name })) => Request::KeyRotate { name },
        Command::Domain(DomainCommand::Key(KeyCommand::List { name })) => Request::KeyList { name },
        Command::Domain(DomainCommand::Key(KeyCommand::Check { name, force })) => Request::KeyCheck { name, force },
        Command::Queue(QueueCommand::Hold { what }) => what.stop(false),
        Command::Queue(QueueCommand::Drain { what }) => what.stop(true),
        Command::Queue(QueueCommand::Resume { what }) => what.resume(),
        Command::Queue(QueueCommand::Nodes) => Request::Nodes,
        Command::Queue(QueueCommand::Holds) => Request::Stop(stops::Ask::List),
        Command::Queue(QueueCommand::Quiet { stream, from, to, zone, none, organisation }) => {
            let stream = stream.map(|stream| stream.word().to_owned());
            Request::Quiet(match (stream, from.zip(to)) {
                (Some(stream), Some((from, to))) => quiet::Ask::Set { stream, organisation, from, to, zone },
                (Some(stream), None) if none => quiet::Ask::Unset { stream, organisation },
                (Some(_), None) => return Err(CliError::Usage("say --from and --to, or --none".into())),
                (None, _) => quiet::Ask::List,
            })
        }
        Command::Queue(QueueCommand::Verp { stream, off }) => {
            Request::Verp { stream: stream.map(|stream| stream.word().to_owned()), on: !off }
        }
        Command::Queue(QueueCommand::List { which, after, limit }) => Request::QueueList { which, after, limit },
        Command::Queue(QueueCommand::Show { id }) => Request::QueueShow { id },
        Command::Queue(QueueCommand::Why { address }) => Request::QueueWhy { address },
        Command::Queue(QueueCommand::Retry(meant)) => Request::QueueRetry(meant),
        Command::Queue(QueueCommand::Cancel(meant)) => Request::QueueCancel(meant),
        Command::Account(AccountCommand::Add { address, name, quota, administrator, password }) => {
            Request::AccountAdd { address, name, quota, administrator, password: password.read()? }
        }
        Command::Account(AccountCommand::List) => Request::AccountList,
        Command::Account(AccountCommand::Remove { address }) => Request::AccountRemove { address },
        Command::Account(AccountCommand::Change { address, login, name, quota, administrator, disabled, stream }) => {
            let stream = stream.map(|stream| stream.word().into());
            Request::AccountChange { address, login, name, quota, administrator, disabled, stream }
        }
        Command::Account(AccountCommand::Password { address, password }) => {
            Request::AccountPassword { address, password: password.read()? }
        }
        Command::Alias(AliasCommand::Add { address, targets, forward }) => {
            Request::AddressSet { address, kind: alias(forward), targets, new: true }
        }
        Command::Alias(AliasCommand::Change { address, targets, forward }) => {
            Request::AddressSet { address, kind: alias(forward), targets, new: false }
        }
        Command::Alias(AliasCommand::List) => Request::AddressList,
        Command::Alias(AliasCommand::Remove { address }) | Command::Group(GroupCommand::Remove { address }) => {
            Request::AddressRemove { address }
        }
        Command::Group(GroupCommand::Add { address, members, members_send }) => {
            Request::AddressSet { address, kind: Kind::Group { members_send }, targets: members, new: true }
        }
        Command::Group(GroupCommand::Change { address, members, members_send }) => {
            Request::AddressSet { address, kind: Kind::Group { members_send }, targets: members, new: false }
        }
        Command::Credential(CredentialCommand::Add { account, name, stream }) => {
            Request::CredentialAdd { account, name, stream: stream.map(|stream| stream.word().into()) }
        }
        Command::Credential(CredentialCommand::List { account }) => Request::CredentialList { account },
        Command::Credential(CredentialCommand::Remove { account, id }) => Request::CredentialRemove { account, id },
        Command::Receipt(receipts::Command::Find(sought)) => Request::Receipt(receipts::Request::Find(sought)),
        Command::Receipt(receipts::Command::List { which, limit }) => {
            Request::Receipt(receipts::Request::List { which, limit })
        }
        Command::Suppression(command) => match command.ask() {
            Some(ask) => Request::Suppression(ask),
            None => return Err(CliError::Usage("that is no request".into())),
        },
        Command::Webhook(command) => Request::Webhook(command.into()),
        Command::Mailbox(MailboxCommand::List { account }) => Request::MailboxList { account },
        Command::Source(command) => command.into(),
        Command::Pool(command) => command.into(),
        Command::Policy(command) => command.into(),
        Command::Site(command) => command.into(),
        Command::Verify => Request::Verify,
    })
}

fn alias(forward: bool) -> Kind {
    if forward { Kind::Forward } else { Kind::Alias }
}

/// How long a server that holds the store, but does not answer yet or any more, is waited for.
const STARTING: Duration = Duration::from_secs(10);

/// Asks the running server, or works on the store itself when none runs.
pub fn ask(config: &Config, request: Request) -> Result<Answer, CliError> {
    let failed = |e: &dyn fmt::Display| CliError::Failed(e.to_string());
    let (runtime, begun) = (runtime()?, Instant::now());
    let outcome: Outcome = loop {
        let asked =
            control::ask(&config.data, &request).map_err(|e| failed(&format_args!("asking the server: {e}")))?;
        if let Some(outcome) = asked {
            break outcome;
        }
        // What is written here is the server's.
        privileges::give_up(config).map_err(CliError::Failed)?;
        match runtime.block_on(House::open(config)) {
            Ok(house) => break runtime.block_on(admin::execute(&house, request)),
            // A server that starts has the store a moment before it listens; one that stops, a moment longer.
            Err(store::Error::Busy) if begun.elapsed() < STARTING => std::thread::sleep(Duration::from_millis(100)),
            Err(store::Error::Busy) => {
                let data = config.data.display();
                return Err(CliError::Failed(format!("{data} is in use by a process that does not answer")));
            }
            Err(e) => return Err(failed(&e)),
        }
    };
    outcome.map_err(CliError::Failed)
}

impl GivenPassword {
    fn read(&self) -> Result<String, CliError> {
        let failed = |e| CliError::Failed(format!("reading the password: {e}"));
        let mut line = String::new();
        if self.password_stdin || !std::io::stdin().is_terminal() {
            std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
        } else {
            line = rpassword::prompt_password("Password: ").map_err(failed)?;
            // It is not seen while it is typed.
            if rpassword::prompt_password("The same again: ").map_err(failed)? != line {
                return Err(CliError::Usage("the two are not the same".into()));
            }
        }
        let password = line.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(CliError::Usage("the password is empty".into()));
        }
        Ok(password.to_owned())
    }
}

/// The threads that sessions and requests run on.
///
/// # Errors
/// The system's.
pub fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|e| CliError::Failed(format!("starting: {e}")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn every_command_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
