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

/// Facts as comma-separated values (RFC 4180). Trap 27: a field that a spreadsheet would calculate is text.
fn csv(facts: &Value, columns: &[&str]) -> String {
    let field = |name: &&str| {
        let text = cell(&facts[*name]);
        let text = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text };
        if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    };
    columns.iter().map(field).collect::<Vec<_>>().join(",")
}

/// A list is its words, as a command takes them: a source and its weight are `news-1:3`, a figure and its value `rate=20/s`.
fn cell(fact: &Value) -> String {
    match fact {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(all) => {
            let one = |each: &Value| match each {
                Value::Object(pair) => pair.values().map(cell).collect::<Vec<_>>().join(":"),
                other => cell(other),
            };
            all.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        Value::Object(all) => all.iter().map(|(k, v)| format!("{k}={}", cell(v))).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn line(row: &Value, columns: &[&str], csv: bool) -> String {
    if csv { self::csv(row, columns) } else { row.to_string() }
}

/// What is set up, or known of sites: it comes in one answer.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub columns: &'static [&'static str],
    pub csv: bool,
}

impl Table {
    /// A line for each row.
    pub fn write(self, config: &Config, request: Request) -> Result<(), CliError> {
        let answer = ask(config, request)?;
        let rows = answer.data.as_array().into_iter().flatten().map(|row| line(row, self.columns, self.csv));
        let names = self.csv.then(|| self.columns.join(","));
        let mut out = io::stdout().lock();
        let mut wanted = true;
        for line in names.into_iter().chain(rows) {
            wanted = wanted && written(writeln!(out, "{line}"))?;
        }
        Ok(())
    }
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
            Export::Suppressions(which) => Request::Suppression(suppressions::Ask::List {
                which: which.clone(),
                address: None,
                after: after.unwrap_or_default().to_owned(),
            }),
        };
        ask(config, request)
    };
    pages(ask, |answer| {
        let mut all = answer.data[rows].as_array().into_iter().flatten();
        all.try_fold(true, |wants, row| if wants { write(&line(row, columns, csv)) } else { Ok(false) })
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
    Suppressions(suppressions::Which),
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
    fn trap_27_no_field_of_an_export_is_a_formula() {
        let receipt =
            json!({ "id": "1-1", "number": 0, "to": "=1+1@x.test", "from": "a,\"b\"@x.test", "message_id": "@x" });
        let columns = ["id", "number", "to", "from", "message_id", "class"];
        assert_eq!(csv(&receipt, &columns), "1-1,0,'=1+1@x.test,\"a,\"\"b\"\"@x.test\",'@x,");
    }

    #[test]
    fn a_list_in_a_field_is_its_words() {
        let row = json!({ "name": "news", "members": [{ "source": "a", "weight": 3 }, { "source": "b", "weight": 1 }],
            "streams": ["mail", "marketing"], "limits": { "connections": "5", "rate": "20/s" }, "organisation": null,
            "said": [] });
        let columns = ["name", "members", "streams", "limits", "organisation", "said"];
        assert_eq!(csv(&row, &columns), "news,a:3 b:1,mail marketing,connections=5 rate=20/s,,");
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
