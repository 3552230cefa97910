//! Answers that may be long: they are asked for and written page after page, so that neither side holds all of it.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use crate::admin::Request;
use crate::cli::{CliError, ask};
use crate::config::Config;
use crate::{events, receipts, suppressions};

/// Whoever closed the pipe (`| head`) wants no more: false then.
fn written(outcome: io::Result<()>) -> Result<bool, CliError> {
    match outcome {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(CliError::Failed(format!("writing the answer: {e}"))),
    }
}

/// The receipts of a message: as text, or one array.
pub fn show(config: &Config, id: &str, json: bool) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    let (mut behind, mut before) = (None, "[");
    loop {
        let answer = ask(config, Request::Receipt(receipts::Request::Show { id: id.to_owned(), behind }))?;
        let mut text = String::new();
        if json {
            for row in answer.data["receipts"].as_array().into_iter().flatten() {
                text += std::mem::replace(&mut before, ",");
                text += &row.to_string();
            }
        } else if !answer.text.is_empty() {
            text = answer.text + "\n";
        }
        behind = answer.data["next"].as_u64().and_then(|number| u32::try_from(number).ok());
        if json && behind.is_none() {
            text += "]\n";
        }
        if !written(out.write_all(text.as_bytes()))? || behind.is_none() {
            return Ok(());
        }
    }
}

/// Page after page, so that neither side holds all of it.
pub fn export(config: &Config, what: Export, csv: bool) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    let mut write = |line: &str| written(writeln!(out, "{line}"));
    let (rows, columns) = match &what {
        Export::Receipts(_) => ("receipts", &receipts::COLUMNS[..]),
        Export::Suppressions(_) => ("suppressions", &suppressions::COLUMNS[..]),
    };
    if csv && !write(&columns.join(","))? {
        return Ok(());
    }
    let mut after: Option<String> = None;
    loop {
        let request = match &what {
            Export::Receipts(which) => {
                let which = after.as_ref().map_or_else(|| which.clone(), |after| which.behind(after));
                Request::Receipt(receipts::Request::List { which, limit: usize::MAX })
            }
            Export::Suppressions(organisation) => Request::Suppression(suppressions::Ask::List {
                organisation: organisation.clone(),
                address: None,
                after: after.clone().unwrap_or_default(),
            }),
        };
        let data = ask(config, request)?.data;
        for row in data[rows].as_array().into_iter().flatten() {
            let line = if csv { receipts::csv(row, columns) } else { row.to_string() };
            if !write(&line)? {
                return Ok(());
            }
        }
        match data["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(()),
        }
    }
}

/// From one question for more events to the next.
const ASK: Duration = Duration::from_millis(500);

/// Events, answer after answer; for ever, if that is wanted.
pub fn follow(config: &Config, mut which: events::Which) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    loop {
        let data = ask(config, Request::Events(which.clone()))?.data;
        if let Some(lost @ 1..) = data["lost"].as_u64() {
            eprintln!("postroom: {lost} places of the log were kept no longer: what happened there is missing");
        }
        let mut lines = data["lines"].as_array().into_iter().flatten().filter_map(|line| line.as_str());
        let written = lines.try_for_each(|line| out.write_all(line.as_bytes()));
        if !self::written(written.and_then(|()| out.flush()))? {
            return Ok(());
        }
        which = which.behind(data["next"].as_str().unwrap_or_default());
        match data["more"].as_bool() {
            Some(true) => {}
            _ if which.follow => std::thread::sleep(ASK),
            _ => return Ok(()),
        }
    }
}

/// What is given page by page.
pub enum Export {
    Receipts(receipts::Which),
    /// Of an organisation.
    Suppressions(Option<String>),
}
