//! Several servers on one PostgreSQL: which of them this one is.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use outbox::{LEASE, Peers, journal_of};
use queue::Node;

use serde_json::{Value, json};
use store::Tx;

use crate::admin::Answer;
use crate::config::Config;
use crate::sources::is_here;

/// Who this server is among those that share its queue. Its number is made once and stays in the data directory, which one
/// process has at a time.
///
/// # Errors
/// In words: the number cannot be read or written.
pub fn this(config: &Config) -> Result<Node, String> {
    if config.store.shared.is_none() {
        return Ok(Node::alone());
    }
    let name = config.node.name.clone().unwrap_or_else(|| config.hostname.clone());
    Ok(Node { number: number(&config.data.join("node-id"))?, name, lease: Some(LEASE) })
}

/// The others.
pub fn peers(config: &Config) -> Option<Peers> {
    let journals = config.store.shared.clone()?;
    let can_use = |source: &queue::source::Source| {
        let all = [source.v4.map(Into::into), source.v6.map(Into::into)];
        all.into_iter().flatten().all(is_here)
    };
    Some(Peers { journals, keeps: config.node.keeps(), can_use })
}

/// Where attempts are noted, for the life after a crash, and for who takes over.
pub fn journal(config: &Config, node: &Node) -> PathBuf {
    config.store.shared.as_ref().map_or_else(|| config.data.join("attempts"), |shared| journal_of(shared, node.number))
}

/// The servers that share the queue.
pub fn list(tx: &mut Tx<'_>) -> store::Result<Answer> {
    let (mut text, mut data) = (String::new(), Vec::new());
    for life in queue::lives(tx)? {
        let name = if life.name.is_empty() { "this server" } else { &life.name };
        let silent = life.lapsed.map(|late| (late + LEASE).as_secs());
        let state = silent.map_or("lives".into(), |s| format!("was last heard {s} s ago, and will be taken over"));
        let _ = writeln!(text, "{name}  since {}, {state}", life.began.rfc3339());
        data.push(
            json!({ "name": name, "epoch": life.epoch, "since": life.began.rfc3339(), "silent_seconds": silent }),
        );
    }
    Ok(Answer::new(text.trim_end(), Value::Array(data)))
}

fn number(path: &Path) -> Result<i64, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(|_| format!("{}: it is to be one number", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let mut bytes = [0; 8];
            directory::system_random(&mut bytes).map_err(|e| e.to_string())?;
            // 1 is who is alone.
            let number = (i64::from_le_bytes(bytes) & i64::MAX).max(2);
            let new = path.with_extension("new");
            let mut file = std::fs::File::create(&new).map_err(failed)?;
            file.write_all(format!("{number}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            std::fs::rename(&new, path).map_err(failed)?;
            Ok(number)
        }
        Err(e) => Err(failed(e)),
    }
}
