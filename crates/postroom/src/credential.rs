//! Requests about an account's credentials: app passwords are made, listed and taken away.

use base::{AccountId, Stream};
use directory::{CredentialId, Kind};
use serde_json::{Value, json};
use store::Tx;

use crate::admin::{Answer, Outcome, account, words};
use crate::house::House;

/// Makes an app password for one program.
pub async fn add(house: &House, address: String, name: String, stream: Option<Stream>) -> Outcome {
    let of = find(house, &address).await?;
    let made = house.directory.create_app_password(of, &name, stream).await;
    let (id, password) = made.map_err(|e| match std::error::Error::source(&e) {
        Some(_) => e.to_string(),
        None => e.reply().text.to_string(),
    })?;
    let text = format!(
        "App password for {name}: {}\nIt is shown once. The program signs in as {address} with it, by PLAIN or by SCRAM.",
        password.expose()
    );
    Ok(Answer::new(
        text,
        json!({ "credential": id.0, "name": name, "password": password.expose(), "stream": stream.map(Stream::word) }),
    ))
}

/// What an account can sign in with.
pub async fn list(house: &House, address: String) -> Outcome {
    house.store.read(move |tx| show(tx, &address)).await.map_err(words)
}

fn show(tx: &mut Tx<'_>, address: &str) -> store::Result<Answer> {
    let of = account(tx, address)?;
    let (mut text, mut data) = (Vec::new(), Vec::new());
    for c in directory::credentials(tx, of)? {
        let kind = match c.kind {
            Kind::Password => "password",
            Kind::AppPassword => "app password",
        };
        let used = c.last_used.map_or_else(|| "never used".into(), |t| format!("used {}", t.rfc3339()));
        let stream = c.stream.map_or_else(String::new, |stream| format!("  sends {stream}"));
        text.push(format!("{:>4}  {kind:12}  {:20}  made {}  {used}{stream}", c.id.0, c.name, c.created.rfc3339()));
        data.push(json!({ "credential": c.id.0, "kind": kind, "name": c.name, "created": c.created.rfc3339(),
            "last_used": c.last_used.map(|t| t.rfc3339()), "stream": c.stream.map(Stream::word) }));
    }
    Ok(Answer::new(text.join("\n"), Value::Array(data)))
}

/// Takes a credential away: whoever signs in with it is refused from now on.
pub async fn remove(house: &House, address: String, id: i64) -> Outcome {
    let removed = house.store.write(move |tx| {
        let of = account(tx, &address)?;
        directory::remove_credential(tx, of, CredentialId(id))?;
        Ok(Answer::new(format!("Removed credential {id} of {address}"), json!({ "credential": id })))
    });
    removed.await.map_err(words)
}

async fn find(house: &House, address: &str) -> Result<AccountId, String> {
    let address = address.to_owned();
    house.store.read(move |tx| account(tx, &address)).await.map_err(words)
}
