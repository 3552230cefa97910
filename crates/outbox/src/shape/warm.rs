//! The plan for a new source that is shipped.

use std::collections::BTreeMap;

use queue::source::Share;
use serde::Deserialize;

use super::policy::DATA;

#[derive(Deserialize)]
struct File {
    warmup: Plan,
}

#[derive(Deserialize)]
struct Plan {
    per_day: Vec<u32>,
    site_share: BTreeMap<String, f64>,
}

/// What a new source may deliver a day, to all sites and of that to each.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn standard_plan() -> Result<Vec<(Share, Vec<u32>)>, String> {
    let File { warmup: Plan { per_day, site_share } } = toml::from_str(DATA).map_err(|e| e.to_string())?;
    let part = |share: f64| per_day.iter().map(|n| ((f64::from(*n) * share) as u32).max(1)).collect();
    let mut caps: Vec<(Share, Vec<u32>)> = site_share
        .iter()
        .map(|(site, share)| match site.as_str() {
            "default" => (Share::Each, part(*share)),
            site => (Share::Site(site.into()), part(*share)),
        })
        .collect();
    caps.push((Share::All, per_day));
    Ok(caps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_that_of_the_file() {
        let plan = standard_plan().unwrap();
        let of = |share: &Share| &plan.iter().find(|(s, _)| s == share).unwrap().1;
        assert_eq!(of(&Share::All)[..4], [50, 100, 250, 500]);
        // Two fifths of it for one, a fiftieth for another.
        assert_eq!(of(&Share::Site("google".into()))[..4], [20, 40, 100, 200]);
        assert_eq!(of(&Share::Site("t-online".into()))[..4], [1, 2, 5, 10]);
        assert_eq!(of(&Share::Each)[1], 25);
        assert!(plan.iter().all(|(_, days)| days.len() == 30 && days.is_sorted()));
    }
}
