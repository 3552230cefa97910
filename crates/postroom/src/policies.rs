//! Requests about sites: the operator's figures for them, and what is known of them now.

use std::fmt::Write;

use outbox::{Pause, SiteState};
use queue::source::{self, Rule, Scope, SourceId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Tx;

use crate::admin::{Answer, Outcome, has, read, refused, words, write};
use crate::house::House;
use crate::organisations::{self, Names};

/// Sites that a list shows.
const SHOWN: usize = 100;

/// What figures are for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Of {
    pub source: Option<String>,
    pub site: Option<String>,
    pub organisation: Option<String>,
}

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Figures for what goes to a site by a source, or what an organisation sends there; for all where none is named.
    Set { of: Of, figures: Vec<(String, String)> },
    /// Some of them less; all of them, when none are named.
    Unset { of: Of, keys: Vec<String> },
    /// All of them, or those with a word in what they are for.
    List { word: Option<String> },
    /// The sites that are sent to, or those with a word in their name; `all` of them, or those that a list shows.
    Sites { word: Option<String>, all: bool },
    /// One of them.
    Site { name: String },
    /// The end of a pause that a site asked for, of a source or of all.
    Resume { name: String, source: Option<String> },
}

/// Carries a request out.
pub async fn execute(house: &House, ask: Ask) -> Outcome {
    match ask {
        Ask::Set { of, figures } => {
            let bounds = of.organisation.is_some();
            figures.iter().try_for_each(|(key, value)| outbox::check_figure(key, value, bounds))?;
            write(house, move |tx| set(tx, &of, &figures)).await
        }
        Ask::Unset { of, keys } => write(house, move |tx| unset(tx, &of, &keys)).await,
        Ask::List { word } => read(house, move |tx| list(tx, word.as_deref())).await,
        Ask::Sites { word, all } => sites(house, word.as_deref(), all),
        Ask::Site { name } => one_site(house, &name).await,
        Ask::Resume { name, source } => resume(house, &name.to_ascii_lowercase(), source.as_deref()).await,
    }
}

fn set(tx: &mut Tx<'_>, of: &Of, figures: &[(String, String)]) -> store::Result<Answer> {
    let scope = of.scope(tx)?;
    let rule = |(key, value): &(String, String)| Rule {
        scope: scope.clone(),
        key: key.as_str().into(),
        value: value.as_str().into(),
    };
    source::set_rules(tx, &figures.iter().map(rule).collect::<Vec<_>>())?;
    let shown: Vec<String> = figures.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let data =
        json!({ "source": of.source, "site": of.site, "organisation": of.organisation, "figures": figures.len() });
    Ok(Answer::new(format!("{}: {}", of.words(), shown.join(" ")), data))
}

fn unset(tx: &mut Tx<'_>, of: &Of, keys: &[String]) -> store::Result<Answer> {
    let scope = of.scope(tx)?;
    match source::unset_rules(tx, &scope, keys)? {
        0 => Err(refused(format!("{}: no such figure is set", of.words()))),
        n => Ok(Answer::new(format!("{}: {n} taken back", of.words()), json!({ "removed": n }))),
    }
}

impl Of {
    fn scope(&self, tx: &mut Tx<'_>) -> store::Result<Scope> {
        let setup = source::setup(tx)?;
        let known = |name: &String| setup.named(name).map(|s| s.id);
        let source = self.source.as_ref();
        let source =
            source.map(|name| known(name).ok_or_else(|| refused(format!("there is no source {name}")))).transpose()?;
        let organisation = self.organisation.as_deref().map(|name| organisations::named(tx, name)).transpose()?;
        Ok(Scope { source, site: self.site.as_ref().map(|site| site.to_ascii_lowercase().into()), organisation })
    }

    /// For people.
    fn words(&self) -> String {
        let by = self.source.as_ref().map_or(String::new(), |source| format!(" by {source}"));
        let from = self.organisation.as_ref().map_or(String::new(), |organisation| format!(" of {organisation}"));
        format!("To {}{by}{from}", self.site.as_deref().unwrap_or("all sites"))
    }
}

/// The names of the columns of an export.
pub const COLUMNS: [&str; 5] = ["source", "site", "organisation", "key", "value"];

fn list(tx: &mut Tx<'_>, word: Option<&str>) -> store::Result<Answer> {
    let (setup, names) = (source::setup(tx)?, Names::read(tx)?);
    let (mut text, mut data) = (Vec::new(), Vec::new());
    for Rule { scope, key, value } in &setup.rules {
        let named = |id: SourceId| setup.sources.iter().find(|s| s.id == id).map_or(source::DEFAULT, |s| &s.name);
        let of = Of {
            source: scope.source.map(named).map(str::to_owned),
            site: scope.site.as_deref().map(str::to_owned),
            organisation: scope.organisation.map(|organisation| names.of(organisation).to_owned()),
        };
        let named = [&of.source, &of.site, &of.organisation];
        if word.is_some() && !named.into_iter().flatten().any(|name| has(name, word)) {
            continue;
        }
        text.push(format!("{:40} {key}={value}", of.words()));
        data.push(json!({ "source": of.source, "site": of.site, "organisation": of.organisation, "key": &**key,
            "value": &**value }));
    }
    if text.is_empty() && word.is_some() {
        text.push("No figure of your own is for that".into());
    } else if text.is_empty() {
        text.push("No figures of your own: sites are treated as they are known to bear it".into());
    }
    Ok(Answer::new(text.join("\n"), Value::Array(data)))
}

fn running(house: &House) -> Result<&outbox::Meter, String> {
    house.outbox.as_ref().ok_or_else(|| "no server runs: what is known of sites now, it knows".into())
}

/// The names of the columns of an export.
pub const SITE_COLUMNS: [&str; 9] =
    ["site", "source", "open", "may_open", "in_line", "paused_seconds", "limits", "learned", "said"];

fn sites(house: &House, word: Option<&str>, all: bool) -> Outcome {
    let mut found = running(house)?.sites(None, usize::MAX);
    found.retain(|site| has(&site.site, word));
    let more = found.len().saturating_sub(if all { usize::MAX } else { SHOWN });
    found.truncate(found.len() - more);
    let (mut text, mut data) = (Vec::new(), Vec::new());
    for site in &found {
        let state = match (&site.paused, site.learned.first()) {
            (Some(wait), _) => format!("paused for {} s", wait.as_secs()),
            (None, Some(learned)) => learned.clone(),
            (None, None) => String::new(),
        };
        let (open, most) = (site.open, site.may_open);
        text.push(format!(
            "{:32} {:12} {open:>3} of {most:<3} {:>6} in line  {state}",
            site.site, site.source, site.in_line
        ));
        data.push(facts(site));
    }
    match found.is_empty() {
        true if word.is_some() => text.push("No such site has been sent to lately".into()),
        true => text.push("No site has been sent to lately".into()),
        false if more > 0 => {
            text.push(format!("{more} more: postroom site export shows them, postroom site list WORD some"))
        }
        false => {}
    }
    if found.iter().any(|site| site.paused.is_some()) {
        text.push("Who is paused asked for that: postroom site resume SITE ends it before its time".into());
    }
    Ok(Answer::new(text.join("\n"), Value::Array(data)))
}

async fn one_site(house: &House, name: &str) -> Outcome {
    let name = name.to_ascii_lowercase();
    let all = running(house)?.sites(Some(&name), SHOWN);
    let names = house.store.read(Names::read).await.map_err(words)?;
    if all.is_empty() {
        let setup = house.store.read(source::setup).await.map_err(words)?;
        let limits = outbox::figures_of(&name, &setup.rules)?;
        let text = format!("{name} has not been sent to lately; it begins with: {}", figures(&limits));
        return Ok(Answer::new(text, json!([])));
    }
    let mut text = String::new();
    for site in &all {
        let _ = writeln!(text, "{} by {}", site.site, site.source);
        let _ =
            writeln!(text, "    {} of {} connections open, {} mails in line", site.open, site.may_open, site.in_line);
        if let Some(wait) = site.paused {
            let (seconds, ended) = (wait.as_secs(), ends_pause(site));
            let _ = writeln!(text, "    paused for {seconds} s: it asked for that; {ended} ends it");
        }
        match site.limits.is_empty() {
            true => text.push_str("    nothing was sent there since the server began\n"),
            false => drop(writeln!(text, "    limits: {}", figures(&site.limits))),
        }
        for tenant in &site.tenants {
            let (sending, waits) = (tenant.sending, tenant.in_line);
            let (whose, bound) = (names.of(tenant.organisation), figures(&tenant.limits));
            let _ = writeln!(text, "    of {whose} at most: {bound}; {sending} under way, {waits} in line");
        }
        for learned in &site.learned {
            let _ = writeln!(text, "    learned: {learned}");
        }
        if let Some((ago, said)) = &site.last {
            let _ = writeln!(text, "    it said {} s ago: {said}", ago.as_secs());
        }
    }
    Ok(Answer::new(text.trim_end(), all.iter().map(facts).collect()))
}

/// The command that lets mail go to a site again by a source.
pub fn ends_pause(site: &SiteState) -> String {
    format!("postroom site resume {} --source {}", site.site, site.source)
}

/// Who was asked for the pause knows of it: this server or, of several on one PostgreSQL, another one, which may be down.
async fn resume(house: &House, name: &str, source: Option<&str>) -> Outcome {
    let outbox = running(house)?;
    let (setup, lives) = house.store.read(|tx| Ok((source::setup(tx)?, queue::lives(tx)?))).await.map_err(words)?;
    let known = |by: &str| setup.named(by).map(|found| found.id).ok_or_else(|| format!("there is no source {by}"));
    let (of, others) = (source.map(known).transpose()?, lives.len() > 1);
    let (mut ended, by) = (outbox.pauses(name, of), source.map_or(String::new(), |source| format!(" by {source}")));
    let (site, now) = (name.to_owned(), house.clock.now());
    let end = move |tx: &mut Tx<'_>| source::end_pauses(tx, &site, of, now);
    let noted = house.store.write(end).await.map_err(words)?;
    // Of nodes that are down, too.
    for pause in noted.iter().filter_map(|used| Pause::noted(used, &setup, now)) {
        let is_it = |one: &Pause| (&one.site, &one.source, &one.sender) == (&pause.site, &pause.source, &pause.sender);
        if !ended.iter().any(is_it) {
            ended.push(pause);
        }
    }
    if ended.is_empty() && !others {
        let sent_to = outbox.sites(Some(name), 1);
        return Err(match sent_to.is_empty() {
            true => format!(
                "no site {name} has been sent to lately, nor asked for a pause: postroom site list shows those that were"
            ),
            false => format!("{name} is not paused{by}: postroom site show {name} tells what limits it"),
        });
    }
    let mut text: Vec<String> = ended.iter().map(ended_in_words).collect();
    if others && ended.is_empty() {
        text.push(format!("No pause of {name}{by} is noted, and this server knows of none"));
    }
    text.push(match others {
        true => "The other servers that share the queue end theirs, too; what waited for that is tried now".into(),
        false => "What waited for that is tried now".into(),
    });
    let data = ended.iter().map(|pause| {
        json!({ "site": pause.site, "source": &*pause.source, "sender": pause.sender.as_deref(),
            "left_seconds": pause.left.as_secs() })
    });
    Ok(Answer::new(text.join("\n"), data.collect()))
}

fn ended_in_words(pause: &Pause) -> String {
    let Pause { site, source, sender, left } = pause;
    let of = sender.as_ref().map_or(String::new(), |sender| format!(" from {sender}"));
    format!(
        "Mail{of} goes to {site} by {source} again, {} s before the end of the pause that it asked for",
        left.as_secs()
    )
}

fn figures(limits: &[(&str, String)]) -> String {
    limits.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

fn facts(site: &SiteState) -> Value {
    let limits: serde_json::Map<String, Value> =
        site.limits.iter().map(|(key, value)| ((*key).to_owned(), Value::from(value.as_str()))).collect();
    json!({ "site": site.site, "source": &*site.source, "open": site.open, "may_open": site.may_open,
        "in_line": site.in_line, "paused_seconds": site.paused.map(|wait| wait.as_secs()), "limits": limits,
        "learned": site.learned, "said": site.last.as_ref().map(|(_, said)| &**said) })
}

/// `KEY=VALUE`.
///
/// # Errors
/// In words.
pub fn figure(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is no figure (like connections=5)"))?;
    Ok((key.to_owned(), value.to_owned()))
}
