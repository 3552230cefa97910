//! What any text means. The first octet chooses the stage, the next two the codes, the rest is the text.
//!
//! No panic; every answer is a class of the table, the same each time; nothing is said of a recipient before RCPT; a 4xx
//! is never final, and only what is final is hard.
#![no_main]

use std::sync::LazyLock;

use base::Enhanced;
use bounce::{Action, Classifier, Input, Stage};

static CLASSIFIER: LazyLock<Classifier> = LazyLock::new(|| Classifier::new().expect("the shipped data is good"));

const STAGES: [Stage; 9] = [
    Stage::Connect,
    Stage::Helo,
    Stage::MailFrom,
    Stage::Rcpt,
    Stage::Data,
    Stage::Dot,
    Stage::Mail,
    Stage::Dsn(Action::Failed),
    Stage::Dsn(Action::Delayed),
];
const SITES: [Option<&str>; 4] = [None, Some("google"), Some("microsoft365"), Some("qq")];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let &[stage, code, enhanced, ref text @ ..] = data else { return };
    let stage = STAGES[usize::from(stage) % STAGES.len()];
    let input = Input {
        // 0 is none, then 400 to 654.
        code: (code > 0).then_some(399 + u16::from(code)),
        enhanced: (enhanced > 0)
            .then(|| Enhanced(4 + (enhanced & 1), u16::from(enhanced >> 5), u16::from(enhanced >> 1 & 15))),
        text: &String::from_utf8_lossy(text),
        site: SITES[usize::from(code) % SITES.len()],
        ..Input::at(stage)
    };
    let verdict = CLASSIFIER.classify(&input);
    assert_eq!(CLASSIFIER.class(&verdict.class.name), Some(verdict.class));
    assert_eq!(CLASSIFIER.classify(&input), verdict);
    assert!(!verdict.is_hard() || verdict.is_final);
    assert!(!verdict.rule.to_string().is_empty());
    if stage == Stage::MailFrom {
        assert!(!["no-such-user", "no-such-domain", "bad-address", "user-disabled"].contains(&&*verdict.class.name));
    }
    if input.code.is_some_and(|code| code < 500) && !matches!(stage, Stage::Dsn(_)) {
        assert!(!verdict.is_final, "{verdict:?}");
    }
});
