//! Requests about organisations: the tenants that own domains and accounts. Where there is one, no command needs its name.

use base::{OrganisationId, Timestamp};
use clap::Subcommand;
use directory::Organisation;
use queue::{source, suppression};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Tx;

use crate::admin::{Answer, Outcome, read, refused, words, write};
use crate::house::House;

/// What the first is called, unless somebody gives it another name.
const FIRST: &str = "main";
/// Rows that one job forgets.
const FORGOTTEN: u32 = 500;

/// An organisation owns domains, and the accounts and addresses in them. Its mail takes turns with that of the others, has its
/// own suppressions and quiet hours, and may have figures and pools of its own. Most servers have one, which is made with the first
/// domain, and no command needs its name.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add an organisation.
    Add {
        /// What commands call it.
        name: String,
    },
    /// All organisations, and how many domains each has.
    List,
    /// Give an organisation another name.
    Change {
        /// One that `list` shows.
        organisation: String,
        /// Its name from now on.
        #[arg(long)]
        name: String,
    },
    /// Remove an organisation that has no domains, no pools and no mail in the queue, with its suppressions, figures and quiet
    /// hours.
    Remove {
        /// One that `list` shows.
        organisation: String,
    },
}

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// One more.
    Add { name: String },
    /// All of them.
    List,
    /// Another name for one.
    Change { organisation: String, name: String },
    /// One less.
    Remove { organisation: String },
}

impl From<Command> for Ask {
    fn from(command: Command) -> Self {
        match command {
            Command::Add { name } => Ask::Add { name },
            Command::List => Ask::List,
            Command::Change { organisation, name } => Ask::Change { organisation, name },
            Command::Remove { organisation } => Ask::Remove { organisation },
        }
    }
}

/// Carries a request out.
pub async fn execute(house: &House, ask: Ask) -> Outcome {
    let now = house.clock.now();
    match ask {
        Ask::Add { name } => {
            let name = name.trim().to_owned();
            write(house, move |tx| {
                let id = directory::create_organisation(tx, &name, now)?;
                Ok(Answer::new(format!("Added {name}"), json!({ "number": id.0, "name": name })))
            })
            .await
        }
        Ask::List => read(house, list).await,
        Ask::Change { organisation, name } => {
            let name = name.trim().to_owned();
            write(house, move |tx| {
                let id = named(tx, &organisation)?;
                directory::rename_organisation(tx, id, &name)?;
                Ok(Answer::new(format!("{organisation} is called {name}"), json!({ "number": id.0, "name": name })))
            })
            .await
        }
        Ask::Remove { organisation } => remove(house, organisation).await,
    }
}

fn list(tx: &mut Tx<'_>) -> store::Result<Answer> {
    let domains = directory::domains(tx)?;
    let (mut text, mut data) = (Vec::new(), Vec::new());
    for Organisation { id, name, .. } in directory::organisations(tx)? {
        let n = domains.iter().filter(|domain| domain.organisation == id).count();
        text.push(format!("{:>4}  {name:32} {n} domains", id.0));
        data.push(json!({ "number": id.0, "name": name, "domains": n }));
    }
    Ok(Answer::new(text.join("\n"), Value::Array(data)))
}

/// First the organisation, then what only it could use: nobody finds that any more, however far this comes.
async fn remove(house: &House, name: String) -> Outcome {
    let asked = name.clone();
    let gone = house.store.write(move |tx| {
        let id = named(tx, &asked)?;
        directory::remove_organisation(tx, id)?;
        if queue::has_mail(tx, id)? {
            return Err(refused(format!("{asked} has mail in the queue: postroom queue list shows it")));
        }
        source::forget_organisation(tx, id)?;
        Ok(id)
    });
    let id = gone.await.map_err(words)?;
    while house.store.write(move |tx| suppression::forget_all(tx, id, FORGOTTEN)).await.map_err(words)? > 0 {}
    Ok(Answer::new(format!("Removed {name}"), json!({ "number": id.0, "name": name })))
}

/// The organisation of that name.
pub fn named(tx: &mut Tx<'_>, name: &str) -> store::Result<OrganisationId> {
    let all = directory::organisations(tx)?;
    let found = all.iter().find(|organisation| organisation.name == name).map(|organisation| organisation.id);
    found.ok_or_else(|| refused(format!("there is no organisation {name}; there are: {}", names(&all))))
}

/// The organisation that is named, or the only one; none where none was made yet.
///
/// # Errors
/// A refusal that names them all: there are several, and none is named.
pub fn meant(tx: &mut Tx<'_>, name: Option<&str>) -> store::Result<Option<OrganisationId>> {
    if let Some(name) = name {
        return named(tx, name).map(Some);
    }
    match &directory::organisations(tx)?[..] {
        [] => Ok(None),
        [only] => Ok(Some(only.id)),
        all => {
            Err(refused(format!("there are several organisations: say which by --organisation, one of {}", names(all))))
        }
    }
}

/// The same, but the first of all is made.
pub fn meant_or_first(tx: &mut Tx<'_>, name: Option<&str>, now: Timestamp) -> store::Result<OrganisationId> {
    match meant(tx, name)? {
        Some(id) => Ok(id),
        None => directory::create_organisation(tx, FIRST, now),
    }
}

/// The first of all, which is made where there is none.
pub fn first(tx: &mut Tx<'_>, now: Timestamp) -> store::Result<OrganisationId> {
    let first = directory::organisations(tx)?.iter().map(|organisation| organisation.id).min();
    first.map_or_else(|| directory::create_organisation(tx, FIRST, now), Ok)
}

fn names(all: &[Organisation]) -> String {
    all.iter().map(|organisation| organisation.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// What organisations are called.
pub struct Names(Vec<Organisation>);

impl Names {
    /// As they stand.
    pub fn read(tx: &mut Tx<'_>) -> store::Result<Self> {
        directory::organisations(tx).map(Names)
    }

    /// There are several: what belongs to one says so.
    pub fn are_several(&self) -> bool {
        self.0.len() > 1
    }

    /// For people; empty for one that is gone.
    pub fn of(&self, id: OrganisationId) -> &str {
        self.0.iter().find(|organisation| organisation.id == id).map_or("", |organisation| &organisation.name)
    }

    /// ` --organisation Example`, where there are several.
    pub fn option(&self, id: OrganisationId) -> String {
        if self.are_several() { format!(" --organisation {:?}", self.of(id)) } else { String::new() }
    }

    /// `  of Example`, where there are several.
    pub fn note(&self, id: OrganisationId) -> String {
        if self.are_several() { format!("  of {}", self.of(id)) } else { String::new() }
    }
}
