//! What was found by looking: each thing with how it is, a line for people, an object for programs.

use serde_json::{Value, json};

use crate::admin::Answer;

/// How something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Good(String),
    /// Nothing is wrong; something could be better.
    Hint(String),
    /// Works, but not as it should.
    Doubt(String),
    Bad(String),
}

/// All of it; not good when anything is bad.
pub fn report(findings: &[Finding]) -> Answer {
    let (mut text, mut data, mut good) = (Vec::new(), Vec::new(), true);
    for finding in findings {
        let (mark, state, words) = match finding {
            Finding::Good(words) => ("ok   ", "ok", words),
            Finding::Hint(words) => ("hint ", "hint", words),
            Finding::Doubt(words) => ("look ", "look", words),
            Finding::Bad(words) => ("WRONG", "wrong", words),
        };
        good &= !matches!(finding, Finding::Bad(_));
        text.push(format!("{mark}  {words}"));
        data.push(json!({ "state": state, "text": words }));
    }
    Answer { text: text.join("\n"), data: Value::Array(data), good }
}
