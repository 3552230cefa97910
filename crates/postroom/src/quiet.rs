//! Requests about quiet hours.

use base::Stream;
use queue::source::{self, Quiet};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Tx;

use crate::admin::{Answer, Outcome, read, refused, write};
use crate::house::House;
use crate::organisations::{self, Names};

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Quiet hours for a stream: `21:00`, `08:00`, `+01:00`.
    Set { stream: String, organisation: Option<String>, from: String, to: String, zone: String },
    /// None any more.
    Unset { stream: String, organisation: Option<String> },
    /// All of them.
    List,
}

/// Carries a request out.
pub async fn execute(house: &House, ask: Ask) -> Outcome {
    let now = house.clock.now();
    match ask {
        Ask::Set { stream, organisation, from, to, zone } => {
            let stream = named(&stream)?;
            let (from, to) = (minutes(&from)?, minutes(&to)?);
            let zone = offset(&zone)?;
            write(house, move |tx| {
                let organisation = organisations::meant_or_first(tx, organisation.as_deref(), now)?;
                let quiet = Quiet { stream, organisation, from, to, zone };
                source::set_quiet(tx, &quiet)?;
                let names = Names::read(tx)?;
                Ok(Answer::new(format!("Quiet hours of {}", words(&quiet, &names)), facts(&quiet, &names)))
            })
            .await
        }
        Ask::Unset { stream, organisation } => {
            let stream = named(&stream)?;
            write(house, move |tx| {
                let organisation = organisations::meant_or_first(tx, organisation.as_deref(), now)?;
                match source::unset_quiet(tx, stream, organisation)? {
                    true => Ok(Answer::new(format!("No quiet hours of {stream}"), json!({ "stream": stream.word() }))),
                    false => Err(refused(format!("{stream} has no quiet hours"))),
                }
            })
            .await
        }
        Ask::List => read(house, list).await,
    }
}

fn list(tx: &mut Tx<'_>) -> store::Result<Answer> {
    let (all, names) = (source::setup(tx)?.quiet, Names::read(tx)?);
    let mut text: Vec<String> = all.iter().map(|quiet| words(quiet, &names)).collect();
    if text.is_empty() {
        text.push("No stream has quiet hours".into());
    }
    Ok(Answer::new(text.join("\n"), all.iter().map(|quiet| facts(quiet, &names)).collect()))
}

/// `marketing: 21:00 to 08:00 (+01:00)`, and whose stream that is where there are several organisations.
pub fn words(q: &Quiet, names: &Names) -> String {
    let sign = if q.zone < 0 { '-' } else { '+' };
    let of = names.note(q.organisation);
    format!("{}: {} to {} ({sign}{}){of}", q.stream, clock(q.from), clock(q.to), clock(q.zone.abs()))
}

fn facts(q: &Quiet, names: &Names) -> Value {
    json!({ "stream": q.stream.word(), "organisation": names.of(q.organisation), "from": clock(q.from), "to": clock(q.to),
        "zone_minutes": q.zone })
}

fn clock(minutes: i64) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn named(stream: &str) -> Result<Stream, String> {
    stream.parse().map_err(|e: base::BadStream| e.to_string())
}

fn minutes(text: &str) -> Result<i64, String> {
    let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i64>().ok())?;
    let found = text.split_once(':').and_then(|(h, m)| Some((number(h)?, number(m)?)));
    let time = found.filter(|(h, m)| *h < 24 && *m < 60).map(|(h, m)| h * 60 + m);
    time.ok_or_else(|| format!("{text:?} is no time of day like 21:00"))
}

fn offset(text: &str) -> Result<i64, String> {
    let (sign, time) = match (text, text.split_at_checked(1)) {
        ("Z" | "UTC", _) => return Ok(0),
        (_, Some(("+", time))) => (1, time),
        (_, Some(("-", time))) => (-1, time),
        _ => return Err(format!("{text:?} is no zone like +01:00, -05:00 or UTC")),
    };
    Ok(sign * minutes(time)?)
}
