//! The operator's own figures for sites, which go before those that the engine ships with, and what an organisation may send
//! to one at most. What a key and its value mean, and whether they are any, who sends knows; here they are text.

use std::sync::Arc;

use base::OrganisationId;
use store::{Result, Tx, params};

use super::{SourceId, changed, locked, refused, schema};

/// Rules, at most.
const MOST: usize = 10_000;
/// As it is kept when a rule is of all sources, or of no organisation.
const ALL: i64 = -1;

/// One figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For what.
    pub scope: Scope,
    /// Like `connections`.
    pub key: Arc<str>,
    /// Like `5`.
    pub value: Arc<str>,
}

/// What a figure is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// For what leaves by this source; none for all.
    pub source: Option<SourceId>,
    /// For this site; none for all.
    pub site: Option<Arc<str>>,
    /// It bounds the mail of this organisation; none is of the site itself, whoever sends to it.
    pub organisation: Option<OrganisationId>,
}

impl Scope {
    fn stored(&self) -> (i64, &str, i64) {
        let organisation = self.organisation.map_or(ALL, OrganisationId::as_i64);
        (self.source.map_or(ALL, SourceId::stored), self.site.as_deref().unwrap_or(""), organisation)
    }
}

pub(super) fn all(tx: &mut Tx<'_>) -> Result<Vec<Rule>> {
    tx.list(&schema::RULES, params![], |r| {
        let (source, site, organisation) = (r.int(0)?, r.text(1)?, r.int(2)?);
        let scope = Scope {
            source: (source != ALL).then(|| SourceId::read(source)),
            site: (!site.is_empty()).then(|| site.into()),
            organisation: (organisation != ALL).then_some(OrganisationId(organisation)),
        };
        Ok(Rule { scope, key: r.text(3)?.into(), value: r.text(4)?.into() })
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
        let (source, site, organisation) = rule.scope.stored();
        tx.execute(&schema::SET_RULE, params![source, site, organisation, &*rule.key, &*rule.value])?;
    }
    changed(tx)
}

/// Takes figures back: those of these keys, or all when there are none. Gives how many there were.
///
/// # Errors
/// The store's.
pub fn unset_rules(tx: &mut Tx<'_>, scope: &Scope, keys: &[String]) -> Result<u64> {
    let of = |rule: &&Rule| rule.scope == *scope;
    let (source, site, organisation) = scope.stored();
    let mut removed = 0;
    for rule in locked(tx)?.rules.iter().filter(of).filter(|r| keys.is_empty() || keys.iter().any(|k| **k == *r.key)) {
        removed += tx.execute(&schema::UNSET_RULE, params![source, site, organisation, &*rule.key])?;
    }
    if removed > 0 {
        changed(tx)?;
    }
    Ok(removed)
}
