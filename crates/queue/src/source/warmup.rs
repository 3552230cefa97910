//! Warm-up: a new address sends little at first, and more each day, or it is taken for a spammer's. A plan caps what a source
//! delivers a day, to each site and in all; how much it delivered, and what else came of the day at each site ([`super::judge`]), is
//! counted here, so that a restart does not begin anew.

use std::sync::Arc;

use base::Timestamp;
use bounce::{Class, Permanence, Scope};
use store::{Result, Tx, params};

use super::{DEFAULT, Setup, SourceId, changed, locked, refused, schema, setup};
use crate::entry::corrupt;

/// Days of a plan, at most.
const DAYS: usize = 365;
/// Caps of one source, at most.
const CAPS: usize = 200;

/// What a cap is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Share {
    /// All sites together.
    All,
    /// Each site that has no cap of its own, by itself.
    Each,
    /// Each site of that name, as for [`super::Rule`].
    Site(Arc<str>),
}

/// How much a source may deliver a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cap {
    /// The source.
    pub source: SourceId,
    /// To whom.
    pub share: Share,
    /// Deliveries on its first day, its second, and so on; after them there is no cap. A day is one of UTC on which it
    /// delivered something.
    pub days: Arc<[u32]>,
    /// When the source's plan began.
    pub began: Timestamp,
}

/// What a source has delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Days before today on which it delivered something.
    pub days: u32,
    /// Today, in all.
    pub today: u32,
    /// Today, by the names of sites.
    pub sites: Vec<(Arc<str>, u32)>,
}

/// What is counted together: what a source sent to a site on a day ([`day_of`]).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count {
    /// The source.
    pub source: SourceId,
    /// The site.
    pub site: Arc<str>,
    /// The day.
    pub day: i64,
}

/// Recipients, by how mail for them fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fared {
    /// It was delivered.
    pub sent: u32,
    /// A host answered its first attempt.
    pub tried: u32,
    /// It was delivered, or an attempt was told that there is no such address.
    pub ended: u32,
    /// There is no such address: an attempt or a report says so.
    pub bounced: u32,
    /// They call it spam, each once for a mail.
    pub complained: u32,
    /// The first attempt was refused for what it was, or for who sent it.
    pub blocked: u32,
    /// The first attempt was put off, as the site has no time or has had enough.
    pub deferred: u32,
}

impl Fared {
    /// One was delivered.
    pub fn sent(is_first: bool) -> Fared {
        Fared { sent: 1, tried: u32::from(is_first), ended: 1, ..Fared::default() }
    }

    /// A host refused one, for now or for good, for a reason of that class. A recipient counts as refused once, and what speaks of his
    /// mailbox, of the host's set-up or of ours says nothing of the source. Nor does greylisting, which meets everybody.
    pub fn refused(class: Option<&Class>, is_first: bool, is_final: bool) -> Fared {
        let (permanence, scope) =
            class.map_or((Permanence::None, Scope::None), |class| (class.permanence, class.scope));
        let is_of_mail = matches!(scope, Scope::Source | Scope::Sender | Scope::Message);
        let bounced = u32::from(is_final && permanence == Permanence::Hard && is_of_address(scope));
        Fared {
            tried: u32::from(is_first),
            ended: bounced,
            bounced,
            blocked: u32::from(is_first && permanence == Permanence::Block && is_of_mail),
            deferred: u32::from(is_first && !is_final && permanence == Permanence::Soft && scope == Scope::Site),
            ..Fared::default()
        }
    }

    /// A report came: one that was thought delivered was not, for a reason of that class. That one counts as ended already, on the day
    /// of which this is.
    pub fn returned(class: &Class) -> Fared {
        let is_hard = class.permanence == Permanence::Hard && is_of_address(class.scope);
        Fared { bounced: u32::from(is_hard), ..Fared::default() }
    }

    /// So many more.
    pub fn add(&mut self, more: Fared) {
        let Fared { sent, tried, ended, bounced, complained, blocked, deferred } = more;
        self.sent += sent;
        self.tried += tried;
        self.ended += ended;
        self.bounced += bounced;
        self.complained += complained;
        self.blocked += blocked;
        self.deferred += deferred;
    }
}

fn is_of_address(scope: Scope) -> bool {
    matches!(scope, Scope::Address | Scope::Domain)
}

/// Days since 1970, in UTC.
pub fn day_of(now: Timestamp) -> i64 {
    now.secs().div_euclid(86_400)
}

impl Share {
    fn stored(&self) -> &str {
        match self {
            Share::All => "",
            Share::Each => "*",
            Share::Site(name) => name,
        }
    }

    fn read(text: &str) -> Self {
        match text {
            "" => Share::All,
            "*" => Share::Each,
            name => Share::Site(name.into()),
        }
    }
}

pub(super) fn all(tx: &mut Tx<'_>) -> Result<Vec<Cap>> {
    tx.list(&schema::CAPS, params![], |r| {
        let days: Option<Vec<u32>> = r.text(2)?.split(',').map(|n| n.parse().ok()).collect();
        let days = days.ok_or_else(|| corrupt("caps of source", r.int(0).unwrap_or(-1)))?;
        let (source, began) = (SourceId(r.int(0)?), Timestamp(r.int(3)?));
        Ok(Cap { source, share: Share::read(r.text(1)?), days: days.into(), began })
    })
}

/// Caps what a source delivers, in the place of caps for the same. With its first the plan begins today.
///
/// # Errors
/// A refusal in words; the store's.
pub fn set_caps(tx: &mut Tx<'_>, source: SourceId, caps: &[(Share, Vec<u32>)], now: Timestamp) -> Result<()> {
    let before = locked(tx)?;
    let began = before.caps.iter().find(|cap| cap.source == source).map(|cap| cap.began);
    if began.is_none() {
        // Where two servers write at once a count may have met the end of a plan.
        forget(tx, source)?;
    }
    let began = began.unwrap_or(now);
    if before.caps.iter().filter(|cap| cap.source == source).count() + caps.len() > CAPS {
        return Err(refused(format!("{CAPS} caps are as many as a source may have")));
    }
    for (share, days) in caps {
        if days.is_empty() || days.len() > DAYS {
            return Err(refused(format!("a plan is for 1 to {DAYS} days")));
        }
        let days = days.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        tx.execute(&schema::SET_CAP, params![source.stored(), share.stored(), days.as_str(), began])?;
    }
    changed(tx)
}

/// Ends the plan of a source, and forgets what it delivered and how it was judged.
///
/// # Errors
/// The store's.
pub fn end_plan(tx: &mut Tx<'_>, source: SourceId) -> Result<bool> {
    forget(tx, source)?;
    let ended = tx.execute(&schema::END_PLAN, params![source.stored()])? > 0;
    if ended {
        changed(tx)?;
    }
    Ok(ended)
}

fn forget(tx: &mut Tx<'_>, source: SourceId) -> Result<()> {
    for all in [&schema::FORGET_DELIVERED, &schema::FORGET_ALL_JUDGED, &schema::FORGET_JUDGED_TO] {
        tx.execute(all, params![source.stored()])?;
    }
    Ok(())
}

/// What each source with a plan has delivered.
///
/// # Errors
/// The store's.
pub fn delivered(tx: &mut Tx<'_>, setup: &Setup, today: i64) -> Result<Vec<(SourceId, Delivered)>> {
    let mut all: Vec<(SourceId, Delivered)> = Vec::new();
    for cap in &setup.caps {
        if !all.iter().any(|(source, _)| *source == cap.source) {
            all.push((cap.source, Delivered::default()));
        }
    }
    for (source, found) in &mut all {
        tx.rows(&schema::DELIVERED, params![source.stored()], |r| {
            let (site, day, n) = (r.text(0)?, r.int(1)?, u32::try_from(r.int(2)?).unwrap_or(u32::MAX));
            match (site.is_empty(), day == today) {
                (true, true) => found.today = n,
                (true, false) if day < today => found.days += 1,
                (false, true) if n > 0 => found.sites.push((site.into(), n)),
                _ => {}
            }
            Ok(())
        })?;
    }
    Ok(all)
}

/// So much more came of what sources sent, as far as they have plans.
///
/// # Errors
/// The store's.
pub fn count(tx: &mut Tx<'_>, counts: &[(Count, Fared)]) -> Result<()> {
    for (Count { source, site, day }, fared) in counts {
        let Fared { sent, tried, ended, bounced, complained, blocked, deferred } = *fared;
        let all = params![source.stored(), &**site, *day, sent, tried, ended, bounced, complained, blocked, deferred];
        tx.execute(&schema::COUNT, all)?;
        if sent > 0 {
            // A day is one on which something was delivered.
            tx.execute(&schema::COUNT, params![source.stored(), "", *day, sent, 0, 0, 0, 0, 0, 0])?;
        }
    }
    Ok(())
}

/// Whether any source has a plan.
pub(crate) fn has_plans(tx: &mut Tx<'_>) -> Result<bool> {
    Ok(tx.row(&schema::ANY_CAP, params![], |_| Ok(()))?.is_some())
}

/// The same as [`count`], for a source of that name; nothing where it has no plan, or is gone.
pub(crate) fn count_by_name(tx: &mut Tx<'_>, name: &str, site: &str, day: i64, fared: Fared) -> Result<()> {
    let setup = setup(tx)?;
    let source = setup.named(if name.is_empty() { DEFAULT } else { name }).map(|source| source.id);
    let Some(source) = source.filter(|source| setup.caps.iter().any(|cap| cap.source == *source)) else {
        return Ok(());
    };
    count(tx, &[(Count { source, site: site.into(), day }, fared)])
}

#[cfg(test)]
mod tests {
    use bounce::Classifier;

    use super::super::Measure;
    use super::*;

    /// On another day than it was tried on first, or after the host had been down.
    #[test]
    fn what_ends_by_a_retry_is_among_those_of_which_bounces_are_a_share() {
        let class = Classifier::shared().unwrap().class("no-such-user").unwrap();
        let mut fared = Fared::sent(false);
        fared.add(Fared::refused(Some(class), false, true));
        assert_eq!((fared.tried, Measure::Bounced.of(&fared)), (0, (1, 2)));
        // A report speaks of one that ended.
        fared.add(Fared::returned(class));
        assert_eq!(Measure::Bounced.of(&fared), (2, 2));
        // First attempts, of which only one ended.
        (0..9).for_each(|_| fared.add(Fared { tried: 1, ..Fared::default() }));
        assert_eq!((fared.ended, Measure::Bounced.of(&fared)), (2, (2, 9)));
    }
}
