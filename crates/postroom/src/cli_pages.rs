//! Answers that may be long: they are asked for and written page after page, so that neither side holds all of it.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use serde_json::Value;

use crate::admin::{Answer, Request};
use crate::cli::{CliError, ask};
use crate::config::Config;
use crate::{events, mailq, receipts, suppressions};

/// Whoever closed the pipe (`| head`) wants no more: false then.
fn written(outcome: io::Result<()>) -> Result<bool, CliError> {
    match outcome {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(CliError::Failed(format!("writing the answer: {e}"))),
    }
}

/// Asks for page after page, each behind what the last one names as its `next`, until there is none or `take` wants no more.
fn pages(
    mut ask: impl FnMut(Option<&Value>) -> Result<Answer, CliError>,
    mut take: impl FnMut(Answer) -> Result<bool, CliError>,
) -> Result<(), CliError> {
    let mut next: Option<Value> = None;
    loop {
        let mut answer = ask(next.as_ref())?;
        next = answer.data.get_mut("next").map(Value::take).filter(|next| !next.is_null());
        if !take(answer)? || next.is_none() {
            return Ok(());
        }
    }
}

/// The receipts of a message: as text, or one array.
pub fn show(config: &Config, id: &str, json: bool) -> Result<(), CliError> {
    let ask = |next: Option<&Value>| {
        let behind = next.and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        ask(config, Request::Receipt(receipts::Request::Show { id: id.to_owned(), behind }))
    };
    let mut out = io::stdout().lock();
    if json {
        return show_array(&mut out, ask);
    }
    pages(ask, |answer| if answer.text.is_empty() { Ok(true) } else { written(writeln!(out, "{}", answer.text)) })
}

/// What was written before a page failed is an array too: that it is not all, the exit code says.
fn show_array(
    out: &mut impl Write,
    ask: impl FnMut(Option<&Value>) -> Result<Answer, CliError>,
) -> Result<(), CliError> {
    let mut before = "[";
    let outcome = pages(ask, |answer| {
        let rows = answer.data["receipts"].as_array().into_iter().flatten();
        let text: String = rows.map(|row| format!("{}{row}", std::mem::replace(&mut before, ","))).collect();
        written(out.write_all(text.as_bytes()))
    });
    match before {
        "[" if outcome.is_ok() => written(out.write_all(b"[]\n"))?,
        "[" => false,
        _ => written(out.write_all(b"]\n"))?,
    };
    outcome
}

/// A line for each row.
pub fn export(config: &Config, what: Export, csv: bool) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    let mut write = |line: &str| written(writeln!(out, "{line}"));
    let (rows, columns) = match &what {
        Export::Receipts(_) => ("receipts", &receipts::COLUMNS[..]),
        Export::Suppressions(_) => ("suppressions", &suppressions::COLUMNS[..]),
        Export::Queue(_) => ("queue", &mailq::COLUMNS[..]),
    };
    if csv && !write(&columns.join(","))? {
        return Ok(());
    }
    let ask = |next: Option<&Value>| {
        let after = next.and_then(Value::as_str);
        let request = match &what {
            Export::Receipts(which) => {
                let which = after.map_or_else(|| which.clone(), |after| which.behind(after));
                Request::Receipt(receipts::Request::List { which, limit: usize::MAX })
            }
            Export::Queue(which) => Request::QueuePage { which: which.clone(), after: after.map(str::to_owned) },
            Export::Suppressions(organisation) => Request::Suppression(suppressions::Ask::List {
                organisation: organisation.clone(),
                address: None,
                after: after.unwrap_or_default().to_owned(),
            }),
        };
        ask(config, request)
    };
    pages(ask, |answer| {
        let mut all = answer.data[rows].as_array().into_iter().flatten();
        let line = |row: &Value| if csv { receipts::csv(row, columns) } else { row.to_string() };
        all.try_fold(true, |wants, row| if wants { write(&line(row)) } else { Ok(false) })
    })
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
    Queue(mailq::Which),
    /// Of an organisation.
    Suppressions(Option<String>),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is written of pages, and whether all were.
    fn shown(pages: &[Option<&[u32]>]) -> (String, bool) {
        let (mut out, mut left) = (Vec::new(), pages.iter());
        let ask = |next: Option<&Value>| {
            let n = pages.len() - left.len();
            assert_eq!(next.and_then(Value::as_u64), (n > 0).then_some(n as u64));
            let page = left.next().unwrap().ok_or_else(|| CliError::Failed("gone".into()))?;
            let next = if left.len() > 0 { json!(n + 1) } else { Value::Null };
            Ok(Answer { text: String::new(), data: json!({ "receipts": page, "next": next }), good: true })
        };
        let outcome = show_array(&mut out, ask);
        (String::from_utf8(out).unwrap(), outcome.is_ok())
    }

    #[test]
    fn receipts_are_one_array_whatever_becomes_of_a_page() {
        let (one, two) = (Some(&[1, 2][..]), Some(&[3][..]));
        assert_eq!(shown(&[one, two]), ("[1,2,3]\n".into(), true));
        assert_eq!(shown(&[Some(&[])]), ("[]\n".into(), true));
        assert_eq!(shown(&[one, None]), ("[1,2]\n".into(), false));
        assert_eq!(shown(&[None]), (String::new(), false));
    }
}
