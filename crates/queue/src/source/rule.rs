//! The operator's own figures for sites, which go before those that the engine ships with. What a key and its value mean,
//! and whether they are any, who sends knows; here they are text.

use std::sync::Arc;

use store::{Result, Tx, params};

use super::{SourceId, changed, locked, refused, schema};

/// Rules, at most.
const MOST: usize = 10_000;
/// As it is kept when a rule is of all sources.
const ALL: i64 = -1;

/// One figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For what leaves by this source; none for all.
    pub source: Option<SourceId>,
    /// For this site; none for all.
    pub site: Option<Arc<str>>,
    /// Like `connections`.
    pub key: Arc<str>,
    /// Like `5`.
    pub value: Arc<str>,
}

pub(super) fn all(tx: &mut Tx<'_>) -> Result<Vec<Rule>> {
    tx.list(&schema::RULES, params![], |r| {
        let (source, site) = (r.int(0)?, r.text(1)?);
        Ok(Rule {
            source: (source != ALL).then(|| SourceId::read(source)),
            site: (!site.is_empty()).then(|| site.into()),
            key: r.text(2)?.into(),
            value: r.text(3)?.into(),
        })
    })
}

/// Sets figures: in the place of those with the same key for the same.
///
/// # Errors
/// A refusal in words: there are too many. The store's.
pub fn set_rules(tx: &mut Tx<'_>, rules: &[Rule]) -> Result<()> {
    if locked(tx)?.rules.len() + rules.len() > MOST {
        return Err(refused(format!("there are {MOST} figures already, which is as many as there may be")));
    }
    for rule in rules {
        let (source, site) = stored(rule.source, rule.site.as_deref());
        tx.execute(&schema::SET_RULE, params![source, site, &*rule.key, &*rule.value])?;
    }
    changed(tx)
}

/// Takes figures back: those of these keys, or all when there are none. Gives how many there were.
///
/// # Errors
/// The store's.
pub fn unset_rules(tx: &mut Tx<'_>, source: Option<SourceId>, site: Option<&str>, keys: &[String]) -> Result<u64> {
    let of = |rule: &&Rule| rule.source == source && rule.site.as_deref() == site;
    let (source_id, site_name) = stored(source, site);
    let mut removed = 0;
    for rule in locked(tx)?.rules.iter().filter(of).filter(|r| keys.is_empty() || keys.iter().any(|k| **k == *r.key)) {
        removed += tx.execute(&schema::UNSET_RULE, params![source_id, site_name, &*rule.key])?;
    }
    if removed > 0 {
        changed(tx)?;
    }
    Ok(removed)
}

fn stored(source: Option<SourceId>, site: Option<&str>) -> (i64, &str) {
    (source.map_or(ALL, SourceId::stored), site.unwrap_or(""))
}
