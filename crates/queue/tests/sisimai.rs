//! Whether we read reports as others do: the bounces that the flufl.bounce package is tested with, hard or soft, beside
//! what Sisimai says of each. docs/bounces.md has the figures, and who is right where the two differ.
//!
//! `scripts/install test` fetches both: Sisimai is a Debian package, the mails are in the cache.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use bounce::{Classifier, Permanence};
use mime::{Indexer, Limits, header};
use queue::returned::{self, Returned};

/// The mails of flufl.bounce 6.0.0.
const MAILS: usize = 117;

/// Prints `file, soft (1) or hard (0), reason` for each recipient.
const SISIMAI: &str = r#"
use Sisimai;
for my $file (@ARGV) {
    for my $said (@{ Sisimai->make($file) // [] }) {
        print join("\t", $file, $said->softbounce, $said->reason), "\n";
    }
}
"#;

/// By these Sisimai says that it does not know, or that nothing bounced.
const NO_VERDICT: [&str; 5] = ["undefined", "onhold", "vacation", "feedback", "delivered"];

fn mails() -> Vec<PathBuf> {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache/postroom");
    let cache = std::env::var_os("POSTROOM_CACHE").map_or_else(home, PathBuf::from);
    let directory = cache.join("bounces");
    let mails: BTreeSet<_> =
        std::fs::read_dir(&directory).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(mails.len(), MAILS, "mails in {}: run scripts/install test", directory.display());
    mails.into_iter().collect()
}

/// What Sisimai says of a mail: whether it is hard for a recipient, and why.
#[derive(Default)]
struct Theirs {
    hard: bool,
    reasons: BTreeSet<String>,
}

fn sisimai(mails: &[PathBuf]) -> BTreeMap<PathBuf, Theirs> {
    let perl = Command::new("perl").args(["-e", SISIMAI]).args(mails).output();
    let output = perl.expect("perl runs: scripts/install test installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut said: BTreeMap<PathBuf, Theirs> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let [file, soft, reason] = fields[..] else { panic!("{line}") };
        if !NO_VERDICT.contains(&reason) {
            let mail = said.entry(file.into()).or_default();
            mail.hard |= soft == "0";
            mail.reasons.insert(reason.to_owned());
        }
    }
    said
}

/// What we say of a mail: whether it is hard for a recipient, and the classes.
fn ours(classifier: &Classifier, path: &Path) -> (bool, BTreeSet<String>) {
    let mail = std::fs::read(path).unwrap();
    let mut indexer = Indexer::new(Limits::default());
    indexer.push(&mail);
    let null_sender = header::find(&mail, b"Return-Path").is_some_and(|field| field.value.trim_ascii() == b"<>");
    let read = returned::read(classifier, &indexer.finish(), null_sender, |span, out| {
        out.extend_from_slice(&mail[span.start as usize..span.end as usize]);
        Ok(())
    });
    let Some(Returned::Report(report)) = read.unwrap() else { return (false, BTreeSet::new()) };
    let verdicts = || report.recipients.iter().map(|recipient| recipient.verdict);
    (verdicts().any(|verdict| verdict.is_hard()), verdicts().map(|verdict| verdict.class.name.to_string()).collect())
}

/// Whether one of the classes that Sisimai's reasons are names of is hard, or one is not, as is asked.
fn taxonomy_allows(classifier: &Classifier, reasons: &BTreeSet<String>, hard: bool) -> bool {
    let named = |name: &str| reasons.contains(name);
    let mut classes = classifier.classes().iter().filter(|class| class.names.sisimai.iter().any(|name| named(name)));
    classes.any(|class| (class.permanence == Permanence::Hard) == hard)
}

#[derive(Default)]
struct Figures {
    mails: usize,
    /// Hard and hard, or not and not.
    outright: usize,
    /// Those, and where one of the classes that have the reason for a name is as hard as ours is.
    in_our_words: usize,
    their_hard: usize,
    both_hard: usize,
    /// `in_our_words` of a reader that calls every mail hard, and of one that calls none so.
    all_hard: usize,
    all_soft: usize,
}

#[test]
fn hard_and_soft_are_what_sisimai_says() {
    let classifier = Classifier::new().unwrap();
    let (mut figures, mut differences) = (Figures::default(), String::new());
    for (path, theirs) in &sisimai(&mails()) {
        let (hard, classes) = ours(&classifier, path);
        let agrees = |hard| hard == theirs.hard || taxonomy_allows(&classifier, &theirs.reasons, hard);
        figures.mails += 1;
        figures.outright += usize::from(hard == theirs.hard);
        figures.in_our_words += usize::from(agrees(hard));
        figures.their_hard += usize::from(theirs.hard);
        figures.both_hard += usize::from(theirs.hard && hard);
        figures.all_hard += usize::from(agrees(true));
        figures.all_soft += usize::from(agrees(false));
        if hard != theirs.hard {
            let (file, sign) = (path.file_name().unwrap().display(), if agrees(hard) { "in our words" } else { "NOT" });
            let (they, reasons) = (if theirs.hard { "hard" } else { "soft" }, &theirs.reasons);
            differences += &format!("{file}: Sisimai {they}, {reasons:?}; we {classes:?}: {sign}\n");
        }
    }
    let Figures { mails, outright, in_our_words, their_hard, both_hard, all_hard, all_soft } = figures;
    let told = format!(
        "of {mails} mails {outright} agree outright, {in_our_words} in our words; of {their_hard} that Sisimai calls hard, \
         {both_hard} are hard; all called hard {all_hard} would agree, all called soft {all_soft}\n{differences}"
    );
    println!("{told}");
    assert!(mails > 80, "{told}");
    assert!(in_our_words * 100 >= mails * 95, "{told}");
    assert!(both_hard * 100 >= their_hard * 95, "{told}");
    // The measure tells a good reader from a lazy one.
    assert!(all_hard.max(all_soft) * 100 < mails * 85, "{told}");
}
