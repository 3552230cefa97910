//! Requests about return addresses of single deliveries (VERP).

use base::Stream;
use queue::source;
use serde_json::json;
use store::Tx;

use crate::admin::{Answer, Outcome, read, write};
use crate::house::House;

/// Sets a stream, or shows all.
pub async fn execute(house: &House, stream: Option<String>, on: bool) -> Outcome {
    let Some(stream) = stream else { return read(house, list).await };
    let stream: Stream = stream.parse().map_err(|e: base::BadStream| e.to_string())?;
    write(house, move |tx| {
        source::set_verp(tx, stream, on)?;
        list(tx)
    })
    .await
}

fn list(tx: &mut Tx<'_>) -> store::Result<Answer> {
    let all: Vec<&str> = source::setup(tx)?.verp.into_iter().map(Stream::word).collect();
    let text = match all.is_empty() {
        true => {
            "Recipients have a return address of their own where each has a mail of its own, and nowhere else".into()
        }
        false => format!("Each recipient has a return address of its own: {}", all.join(", ")),
    };
    Ok(Answer::new(text, json!(all)))
}
