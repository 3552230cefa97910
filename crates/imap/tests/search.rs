//! SEARCH: the RFCs' examples as programs, and programs run against messages.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod play;

use base::ModSeq;
use imap::{Command, Day, Flag, Keyword, Search, SearchKey, SearchOp, SearchProgram, SearchReturn, SequenceSet};
use play::{command, fault, play_by};
use std::convert::Infallible;

fn search(arguments: &str) -> Search {
    let Command::Search { search, .. } = command(&format!("a SEARCH {arguments}")) else { panic!("{arguments}") };
    *search
}

fn set(text: &str) -> SequenceSet {
    SequenceSet::parse(text.as_bytes()).unwrap()
}

/// The program as text: `(a & b)`, `(a | b)`, `!a`, keys in Debug. Written apart from the code under test.
fn shown(program: &SearchProgram) -> String {
    fn show(ops: &[SearchOp], at: usize) -> (String, usize) {
        let operands = |end: u16| {
            let (mut texts, mut at) = (Vec::new(), at + 1);
            while at < usize::from(end) {
                let (text, next) = show(ops, at);
                texts.push(text);
                at = next;
            }
            (texts, at)
        };
        match &ops[at] {
            SearchOp::Key(key) => (format!("{key:?}"), at + 1),
            SearchOp::And { end } => (format!("({})", operands(*end).0.join(" & ")), usize::from(*end)),
            SearchOp::Or { end } => (format!("({})", operands(*end).0.join(" | ")), usize::from(*end)),
            SearchOp::Not { end } => (format!("!{}", operands(*end).0.join(" ")), usize::from(*end)),
        }
    }
    let (text, end) = show(program.ops(), 0);
    assert_eq!(end, program.ops().len());
    text
}

#[test]
fn every_key() {
    let header = |name: &str, text: &str| SearchKey::Header { name: name.into(), text: text.into() };
    let flag = SearchKey::Flag;
    let keyword = || Flag::Keyword(Keyword::new(b"$Work").unwrap());
    // 1-Feb-1994 is day 8797: 24 years of 365 days, 6 leap days, 31 days of January.
    let day = Day(24 * 365 + 6 + 31);
    for (text, key) in [
        ("ALL", SearchKey::All),
        ("answered", flag(Flag::Answered)),
        ("DELETED", flag(Flag::Deleted)),
        ("DRAFT", flag(Flag::Draft)),
        ("FLAGGED", flag(Flag::Flagged)),
        ("RECENT", flag(Flag::Recent)),
        ("SEEN", flag(Flag::Seen)),
        ("KEYWORD $Work", flag(keyword())),
        ("FROM \"Smith\"", header("From", "Smith")),
        ("TO {2+}\r\nab", header("To", "ab")),
        ("CC x", header("Cc", "x")),
        ("BCC x", header("Bcc", "x")),
        ("SUBJECT \"\u{e9}\"", header("Subject", "é")),
        ("HEADER Message-ID \"\"", header("Message-ID", "")),
        ("BODY x", SearchKey::Body("x".into())),
        ("TEXT \"a b\"", SearchKey::Text("a b".into())),
        ("BEFORE 1-Feb-1994", SearchKey::Before(day)),
        ("ON 01-feb-1994", SearchKey::On(day)),
        ("SINCE \"1-Feb-1994\"", SearchKey::Since(day)),
        ("SENTBEFORE 1-Feb-1994", SearchKey::SentBefore(day)),
        ("SENTON 1-Feb-1994", SearchKey::SentOn(day)),
        ("SENTSINCE 1-Feb-1994", SearchKey::SentSince(day)),
        ("SAVEDBEFORE 1-Feb-1994", SearchKey::SavedBefore(day)),
        ("SAVEDON 1-Feb-1994", SearchKey::SavedOn(day)),
        ("SAVEDSINCE 1-Feb-1994", SearchKey::SavedSince(day)),
        ("SAVEDATESUPPORTED", SearchKey::SaveDateSupported),
        ("LARGER 0", SearchKey::Larger(0)),
        ("SMALLER 5000000000", SearchKey::Smaller(5_000_000_000)),
        ("OLDER 3600", SearchKey::Older(3600)),
        ("YOUNGER 259200", SearchKey::Younger(259_200)),
        ("MODSEQ 620162338", SearchKey::ModSeq(ModSeq(620_162_338))),
        ("MODSEQ \"/flags/\\\\draft\" all 620162338", SearchKey::ModSeq(ModSeq(620_162_338))),
        ("EMAILID M6d99ac3275bb4e", SearchKey::EmailId("M6d99ac3275bb4e".into())),
        ("THREADID T-1_2", SearchKey::ThreadId("T-1_2".into())),
        ("2:4,*", SearchKey::Sequence(set("2:4,*"))),
        ("$", SearchKey::Sequence(set("$"))),
        ("*", SearchKey::Sequence(set("*"))),
        ("UID 443:557", SearchKey::Uid(set("443:557"))),
    ] {
        let program = search(text).program;
        assert_eq!(program.ops(), [SearchOp::And { end: 2 }, SearchOp::Key(key)], "{text}");
    }
}

#[test]
fn operators() {
    for (text, expected) in [
        (
            "FLAGGED SINCE 1-Jan-1970 NOT FROM x",
            "(Flag(Flagged) & Since(1970-01-01) & !Header { name: \"From\", text: \"x\" })",
        ),
        ("UNSEEN", "(!Flag(Seen))"),
        ("NEW", "((Flag(Recent) & !Flag(Seen)))"),
        ("OLD", "(!Flag(Recent))"),
        ("UNKEYWORD a NOT UNDRAFT", "(!Flag(Keyword(a)) & !!Flag(Draft))"),
        ("OR 1 (2 3) 4", "((Sequence(1) | (Sequence(2) & Sequence(3))) & Sequence(4))"),
        ("OR OR 1 2 NOT OR 3 4", "(((Sequence(1) | Sequence(2)) | !(Sequence(3) | Sequence(4))))"),
        (
            "((1)) (2 (OR (3) NEW))",
            "(((Sequence(1))) & (Sequence(2) & (((Sequence(3)) | (Flag(Recent) & !Flag(Seen))))))",
        ),
    ] {
        assert_eq!(shown(&search(text).program), expected, "{text}");
    }
}

#[test]
fn return_options_and_charset() {
    let none = SearchReturn::default();
    for (text, returns) in [
        ("RETURN (MIN COUNT) FLAGGED", Some(SearchReturn { min: true, count: true, ..none })),
        ("RETURN () FLAGGED", Some(SearchReturn { all: true, ..none })),
        ("return (SAVE) FLAGGED", Some(SearchReturn { save: true, ..none })),
        ("RETURN (ALL max) CHARSET utf-8 FLAGGED", Some(SearchReturn { all: true, max: true, ..none })),
        ("CHARSET US-ASCII FLAGGED", None),
    ] {
        let search = search(text);
        assert_eq!(search.returns, returns, "{text}");
        assert_eq!(shown(&search.program), "(Flag(Flagged))");
    }
    assert_eq!(
        fault("a SEARCH CHARSET KOI8-R TEXT {3+}\r\n\u{1}ab"),
        "S: a NO [BADCHARSET (UTF-8 US-ASCII)] Search in UTF-8, please"
    );
}

#[test]
fn what_is_no_search() {
    for bad in [
        "",
        "()",
        "(",
        ")",
        "1)",
        "(1",
        "1  2",
        "NOT",
        "NOT ",
        "OR 1",
        "OR 1 ",
        "FOO",
        "FOO 1",
        "KEYWORD \\Seen",
        "KEYWORD",
        "BEFORE 31-Feb-1994",
        "LARGER x",
        "OLDER 0",
        "UID",
        "UID 0",
        "HEADER",
        "HEADER \"a b\" c",
        "HEADER a",
        "EMAILID a.b",
        "MODSEQ",
        "RETURN MIN 1",
        "RETURN (FOO) 1",
        "RETURN (MIN)",
        "CHARSET UTF-8",
        "TEXT {2+}\r\n\0x",
        "1,",
        "SUBJECT",
    ] {
        let told = fault(&format!("a SEARCH {bad}"));
        assert!(told.starts_with("S: a BAD "), "{bad:?} {told}");
    }
    let player = play_by(play::Player::logged_in, b"a SEARCH TEXT {1+}\r\n\xff\r\n");
    assert_eq!(player.log[0], "S: a BAD A string is not UTF-8");
}

/// Does message `n` match, when a key `Sequence(x)` holds for the bits of `n`: bit x of n.
fn run(program: &SearchProgram, n: u32) -> (bool, u32) {
    let mut asked = 0;
    let held = program.matches(|key| {
        asked += 1;
        let SearchKey::Sequence(set) = key else { panic!() };
        Ok::<bool, Infallible>(n >> (set.resolve(0).last().unwrap() - 1) & 1 == 1)
    });
    (held.unwrap(), asked)
}

#[test]
fn programs_run_as_logic_says() {
    let bit = |n: u32, x: u32| n >> (x - 1) & 1 == 1;
    type Logic = fn(&dyn Fn(u32) -> bool) -> bool;
    let cases: [(&str, Logic); 7] = [
        ("1 2 3", |b| b(1) && b(2) && b(3)),
        ("OR 1 2 3", |b| (b(1) || b(2)) && b(3)),
        ("OR (1 2) (3 4)", |b| b(1) && b(2) || b(3) && b(4)),
        ("NOT OR 1 NOT (2 NOT 3) 4", |b| !b(1) && (b(2) && !b(3)) && b(4)),
        ("OR OR 1 2 OR 3 4 5", |b| (b(1) || b(2) || b(3) || b(4)) && b(5)),
        ("NOT NOT (1 (2 (3 NOT (4 5))))", |b| b(1) && b(2) && b(3) && !(b(4) && b(5))),
        ("OR NOT 1 (OR 2 NOT (3)) NOT (4 OR 5 1)", |b| (!b(1) || b(2) || !b(3)) && !(b(4) && (b(5) || b(1)))),
    ];
    for (text, logic) in cases {
        let program = search(text).program;
        for n in 0..32 {
            assert_eq!(run(&program, n).0, logic(&|x| bit(n, x)), "{text} {n:05b}");
        }
    }
    assert_eq!(run(&search("1 2 3 4").program, 0), (false, 1), "the first answer decides");
    assert_eq!(run(&search("OR 1 (2 3) NOT 4").program, 1), (true, 2));
    let failed = search("1 2").program.matches(|_| Err::<bool, _>("the disk is on fire"));
    assert_eq!(failed, Err("the disk is on fire"));
}

#[test]
fn trap_05_keys_nest_to_a_bound_and_no_further() {
    let bound = SearchProgram::MAX_DEPTH - 3;
    for (open, close) in [("(", ")"), ("NOT ", ""), ("OR 1 ", ""), ("(OR 1 (NOT ", "))")] {
        let nested = |n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
        run(&search(&nested(bound / 4)).program, 1);
        let told = fault(&format!("a SEARCH {}", nested(20_000 / open.len())));
        assert_eq!(told, "S: a BAD Search keys are nested too deep");
    }
    // As deep as it goes, it runs.
    let deepest = format!("{}NEW", "NOT ".repeat(bound));
    let held = search(&deepest).program.matches(|_| Ok::<_, Infallible>(true)).unwrap();
    assert_eq!(held, bound % 2 == 1, "NEW does not hold where all is seen");
    assert_eq!(fault(&format!("a SEARCH {}NEW", "NOT ".repeat(bound + 1))), "S: a BAD Search keys are nested too deep");
}

#[test]
fn trap_05_keys_are_counted() {
    let keys = |n: usize| vec!["1"; n].join(" ");
    assert_eq!(search(&keys(SearchProgram::MAX_OPS - 1)).program.ops().len(), SearchProgram::MAX_OPS);
    assert_eq!(fault(&format!("a SEARCH {}", keys(SearchProgram::MAX_OPS))), "S: a BAD Too many search keys");
}
