//! Commands of the RFCs' examples, and what is no command.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod play;

use base::{ModSeq, UidValidity};
use imap::{
    Command, Enable, Fetch, FetchAttr, Flag, List, MailboxName, Partial, Qresync, Section, SectionText, Select,
    SequenceSet, SpecialUse, StatusItem, Store, StoreAction,
};
use play::{Player, command, fault, play, play_by};

fn set(text: &str) -> SequenceSet {
    SequenceSet::parse(text.as_bytes()).unwrap()
}

fn name(text: &str) -> MailboxName {
    MailboxName::new(text).unwrap()
}

#[test]
fn commands_without_arguments() {
    for (line, expected) in [
        ("abcd CAPABILITY", Command::Capability),
        ("a002 noop", Command::Noop),
        ("A023 LOGOUT", Command::Logout),
        ("a002 STARTTLS", Command::StartTls),
        ("A001 NAMESPACE", Command::Namespace),
        ("FXXZ CHECK", Command::Check),
        ("A341 CLOSE", Command::Close),
        ("A342 UNSELECT", Command::Unselect),
        ("A202 EXPUNGE", Command::Expunge),
        ("A002 IDLE", Command::Idle),
        ("A003 UID EXPUNGE 3000:3002", Command::UidExpunge(set("3000:3002"))),
    ] {
        assert_eq!(command(line), expected, "{line}");
    }
}

#[test]
fn login_and_its_secrets() {
    let player = play_by(Player::stranger, b"a001 LOGIN SMITH SESAME\r\nb LOGIN {4}\r\nfred {3+}\r\nx y\r\n");
    let Command::Login { user, password } = &player.commands[0].1 else { panic!() };
    assert_eq!((&**user, &*password.0), ("SMITH", &b"SESAME"[..]));
    let Command::Login { user, password } = &player.commands[1].1 else { panic!() };
    assert_eq!((&**user, &*password.0), ("fred", &b"x y"[..]));
    assert!(!player.log.join("\n").contains("SESAME"), "a password in a log");
}

#[test]
fn authenticate_as_a_dialogue() {
    // RFC 4959 §3's example, then one step by step, cancelled, and spoilt.
    let player = play_by(
        Player::stranger,
        b"C01 AUTHENTICATE PLAIN dGVzdAB0ZXN0AHRlc3Q=\r\nC02 authenticate plain\r\ndGVzdAB0ZXN0AHRlc3Q=\r\n\
          C03 AUTHENTICATE EXTERNAL =\r\nC04 AUTHENTICATE PLAIN\r\n*\r\nC05 AUTHENTICATE PLAIN\r\ndGVzdA\r\nC06 NOOP\r\n",
    );
    let lines: Vec<&str> = player.log.iter().map(String::as_str).collect();
    assert_eq!(
        lines,
        [
            "E: Command { tag: C01, command: Authenticate { mechanism: \"PLAIN\", initial: Some((secret)) } }",
            "E: Command { tag: C02, command: Authenticate { mechanism: \"PLAIN\", initial: None } }",
            "S: +",
            "E: AuthResponse([116, 101, 115, 116, 0, 116, 101, 115, 116, 0, 116, 101, 115, 116])",
            "E: Command { tag: C03, command: Authenticate { mechanism: \"EXTERNAL\", initial: Some((secret)) } }",
            "E: Command { tag: C04, command: Authenticate { mechanism: \"PLAIN\", initial: None } }",
            "S: +",
            "S: C04 BAD Cancelled",
            "E: Bad { tag: Some(C04), text: \"Cancelled\" }",
            "E: Command { tag: C05, command: Authenticate { mechanism: \"PLAIN\", initial: None } }",
            "S: +",
            "S: C05 BAD Not base64",
            "E: Bad { tag: Some(C05), text: \"Not base64\" }",
            "E: Command { tag: C06, command: Noop }",
        ]
    );
}

#[test]
fn idle_as_a_dialogue() {
    let player = play("C: A003 IDLE\nC: done\nC: A004 IDLE\nC: A005 NOOP\nC: A006 NOOP");
    let lines: Vec<&str> = player.log.iter().map(String::as_str).collect();
    assert_eq!(
        lines,
        [
            "E: Command { tag: A003, command: Idle }",
            "S: + idling",
            "E: IdleDone",
            "E: Command { tag: A004, command: Idle }",
            "S: + idling",
            "S: A004 BAD Expected DONE",
            "E: Bad { tag: Some(A004), text: \"Expected DONE\" }",
            "E: Command { tag: A006, command: Noop }",
        ]
    );
}

#[test]
fn strangers_are_told_to_log_in() {
    let player = play_by(Player::stranger, b"a SELECT x\r\nb APPEND x {3+}\r\nabc\r\nc FOO\r\nd NOOP\r\n");
    let said: Vec<&String> = player.log.iter().filter(|l| l.starts_with("S:")).collect();
    assert_eq!(said, ["S: a BAD Log in first", "S: b BAD Log in first", "S: c BAD Unknown command"]);
    assert_eq!(player.commands.len(), 1);
}

#[test]
fn id_rfc_2971() {
    let Command::Id(Some(fields)) = command(r#"a023 ID ("name" "sodr" "version" "19.34" "vendor" NIL)"#) else {
        panic!()
    };
    let pairs: Vec<_> = fields.iter().map(|f| (&*f.name, f.value.as_deref())).collect();
    assert_eq!(pairs, [("name", Some("sodr")), ("version", Some("19.34")), ("vendor", None)]);
    assert_eq!(command("a042 ID NIL"), Command::Id(None));
    assert_eq!(command("a042 ID ()"), Command::Id(Some(vec![])));
}

#[test]
fn enable_passes_over_the_unknown() {
    assert_eq!(
        command("a1 ENABLE CONDSTORE X-GOOD-IDEA utf8=accept"),
        Command::Enable(Enable { condstore: true, utf8: true, ..Enable::default() })
    );
    assert_eq!(command("a1 ENABLE IMAP4rev2"), Command::Enable(Enable { rev2: true, ..Enable::default() }));
}

#[test]
fn select_and_its_parameters() {
    let plain = |mailbox| Select { mailbox: name(mailbox), condstore: false, qresync: None };
    assert_eq!(command("A142 SELECT inbox"), Command::Select(plain("INBOX")));
    assert_eq!(command("A932 EXAMINE blurdybloop"), Command::Examine(plain("blurdybloop")));
    // RFC 7162 §3.1.8, §3.2.5.
    assert_eq!(command("A142 SELECT INBOX (CONDSTORE)"), Command::Select(Select { condstore: true, ..plain("INBOX") }));
    let qresync = |known: Option<&str>, seq_match: Option<(&str, &str)>| {
        let qresync = Qresync {
            uid_validity: UidValidity(67_890_007),
            mod_seq: ModSeq(90_060_115_194_045_000),
            known_uids: known.map(set),
            seq_match: seq_match.map(|(n, u)| (set(n), set(u))),
        };
        Command::Select(Select { qresync: Some(Box::new(qresync)), ..plain("INBOX") })
    };
    for (arguments, expected) in [
        ("67890007 90060115194045000", qresync(None, None)),
        ("67890007 90060115194045000 41:211,214:541", qresync(Some("41:211,214:541"), None)),
        (
            "67890007 90060115194045000 1:29997 (5000,7500,9000,9990:9999 15000,22500,27000,29970,29973)",
            qresync(Some("1:29997"), Some(("5000,7500,9000,9990:9999", "15000,22500,27000,29970,29973"))),
        ),
        ("67890007 90060115194045000 (5 6)", qresync(None, Some(("5", "6")))),
    ] {
        assert_eq!(command(&format!("A SELECT INBOX (QRESYNC ({arguments}))")), expected);
    }
    for bad in ["(QRESYNC (0 1))", "(QRESYNC (1 1 1:*))", "(QRESYNC (1 1 $))", "(QRESYNC 1 1)", "(FOO)", "()", "("] {
        assert!(fault(&format!("A SELECT INBOX {bad}")).starts_with("S: A BAD "), "{bad}");
    }
}

#[test]
fn mailbox_names_by_mode() {
    assert_eq!(command("a CREATE &U,BTFw-"), Command::Create { mailbox: name("台北"), uses: vec![] });
    assert_eq!(command(r#"a DELETE "a \"b\" \\c""#), Command::Delete(name(r#"a "b" \c"#)));
    assert_eq!(command("a SUBSCRIBE #news.comp.mail.mime"), Command::Subscribe(name("#news.comp.mail.mime")));
    assert_eq!(command("a UNSUBSCRIBE a&-b"), Command::Unsubscribe(name("a&b")));
    assert_eq!(command("a RENAME x]y {1}\r\nz"), Command::Rename { from: name("x]y"), to: name("z") });
    for bad in ["a CREATE a&b", "a CREATE \"\u{e9}\"", "a CREATE &AGE-"] {
        assert_eq!(fault(bad), "S: a BAD Not a mailbox name");
    }
    let utf8 = || {
        let mut player = Player::logged_in();
        player.server.set_utf8();
        player
    };
    let player = play_by(utf8, "a CREATE \"é&b\"\r\nb CREATE &AOk-\r\nc CREATE \"\u{7}\"\r\n".as_bytes());
    assert_eq!(player.commands[0].1, Command::Create { mailbox: name("é&b"), uses: vec![] });
    assert_eq!(player.commands[1].1, Command::Create { mailbox: name("&AOk-"), uses: vec![] });
    assert!(player.log.contains(&"S: c BAD Not a mailbox name".to_owned()));
}

#[test]
fn create_with_a_special_use_rfc_6154() {
    assert_eq!(
        command("t1 CREATE Everything (USE (\\All \\sent))"),
        Command::Create { mailbox: name("Everything"), uses: vec![SpecialUse::All, SpecialUse::Sent] }
    );
    assert_eq!(fault("t1 CREATE x (USE (\\Foo))"), "S: t1 NO [USEATTR] No such special use here");
}

fn list(line: &str) -> List {
    let Command::List(list) = command(line) else { panic!("{line}") };
    *list
}

#[test]
fn list_plain_and_extended() {
    let plain = |reference: &str, pattern: &str| List {
        reference: reference.into(),
        patterns: vec![pattern.into()],
        ..List::default()
    };
    assert_eq!(list(r#"A101 LIST "" """#), plain("", ""));
    assert_eq!(list(r##"A102 LIST #news.comp.mail.misc """##), plain("#news.comp.mail.misc", ""));
    assert_eq!(list("A202 LIST ~/Mail/ %"), plain("~/Mail/", "%"));
    assert_eq!(list(r#"A202 LIST "" &U,BTFw-/*"#), plain("", "台北/*"));
    assert_eq!(
        command("A002 LSUB \"#news.\" \"comp.mail.*\""),
        Command::Lsub { reference: "#news.".into(), pattern: "comp.mail.*".into() }
    );
    // RFC 5258 §5, RFC 5819 §3, RFC 6154 §5.2.
    let extended = List { extended: true, ..plain("", "*") };
    assert_eq!(list(r#"A02 LIST (SUBSCRIBED) "" "*""#), List { select_subscribed: true, ..extended.clone() });
    assert_eq!(list(r#"A03 LIST () "" "*" RETURN (CHILDREN)"#), List { return_children: true, ..extended.clone() });
    assert_eq!(
        list(r#"A04 LIST (REMOTE) "" "%" RETURN ()"#),
        List { extended: true, select_remote: true, ..plain("", "%") }
    );
    assert_eq!(
        list(r#"BBB LIST "" ("INBOX" "Drafts" "Sent/%")"#).patterns,
        ["INBOX", "Drafts", "Sent/%"].map(Into::into)
    );
    assert_eq!(
        list(r#"C04 LIST (SUBSCRIBED RECURSIVEMATCH) "" "%" RETURN (STATUS (MESSAGES UNSEEN) SPECIAL-USE SUBSCRIBED)"#),
        List {
            extended: true,
            select_subscribed: true,
            recursive_match: true,
            return_subscribed: true,
            return_special_use: true,
            return_status: Some([StatusItem::Messages, StatusItem::Unseen].into_iter().collect()),
            ..plain("", "%")
        }
    );
    for bad in [
        r#"A LIST (RECURSIVEMATCH) "" "*""#,
        r#"A LIST (REMOTE RECURSIVEMATCH) "" "*""#,
        r#"A LIST (FOO) "" "*""#,
        r#"A LIST "" "*" RETURN (FOO)"#,
        r#"A LIST "" ()"#,
        r#"A LIST """#,
        r#"A LIST "" "*" RETURN (STATUS ())"#,
    ] {
        assert!(fault(bad).starts_with("S: A BAD "), "{bad}");
    }
}

#[test]
fn status_items() {
    let Command::Status { mailbox, items } = command("A042 STATUS blurdybloop (UIDNEXT MESSAGES SIZE mailboxid)")
    else {
        panic!()
    };
    let items: Vec<_> = items.iter().map(StatusItem::as_str).collect();
    assert_eq!((mailbox, items), (name("blurdybloop"), vec!["MESSAGES", "UIDNEXT", "SIZE", "MAILBOXID"]));
    assert_eq!(fault("a STATUS x (FOO)"), "S: a BAD Unknown STATUS item");
}

fn fetch(arguments: &str) -> Fetch {
    let Command::Fetch { fetch, .. } = command(&format!("a UID FETCH 1 {arguments}")) else { panic!("{arguments}") };
    *fetch
}

fn section(part: &[u32], text: SectionText) -> FetchAttr {
    FetchAttr::Section { peek: false, section: Section { part: part.into(), text }, partial: None }
}

#[test]
fn fetch_attributes() {
    use FetchAttr::*;
    for (text, attrs) in [
        ("FAST", vec![Flags, InternalDate, Rfc822Size]),
        ("all", vec![Flags, InternalDate, Rfc822Size, Envelope]),
        ("FULL", vec![Flags, InternalDate, Rfc822Size, Envelope, Body]),
        ("FLAGS", vec![Flags]),
        ("(UID MODSEQ EMAILID THREADID SAVEDATE)", vec![Uid, ModSeq, EmailId, ThreadId, SaveDate]),
        ("(RFC822 RFC822.HEADER RFC822.TEXT)", vec![Rfc822, Rfc822Header, Rfc822Text]),
        ("BODYSTRUCTURE", vec![BodyStructure]),
        ("BODY[]", vec![section(&[], SectionText::All)]),
        ("BODY[1]", vec![section(&[1], SectionText::All)]),
        ("BODY[4.2.2.1]", vec![section(&[4, 2, 2, 1], SectionText::All)]),
        ("BODY[HEADER]", vec![section(&[], SectionText::Header)]),
        ("BODY[4.1.MIME]", vec![section(&[4, 1], SectionText::Mime)]),
        ("BODY[3.TEXT]", vec![section(&[3], SectionText::Text)]),
        (
            "(FLAGS BODY[HEADER.FIELDS (DATE FROM)])",
            vec![Flags, section(&[], SectionText::HeaderFields(vec!["DATE".into(), "FROM".into()]))],
        ),
        ("BODY[2.HEADER.FIELDS.NOT (\"x-y\")]", vec![section(&[2], SectionText::HeaderFieldsNot(vec!["x-y".into()]))]),
        (
            "body.peek[text]<0.2048>",
            vec![Section {
                peek: true,
                section: imap::Section { part: [].into(), text: SectionText::Text },
                partial: Some(Partial { offset: 0, count: 2048 }),
            }],
        ),
        (
            "(BINARY[1]<5.6> BINARY.PEEK[] BINARY.SIZE[2.1])",
            vec![
                Binary { peek: false, part: [1].into(), partial: Some(Partial { offset: 5, count: 6 }) },
                Binary { peek: true, part: [].into(), partial: None },
                BinarySize { part: [2, 1].into() },
            ],
        ),
    ] {
        assert_eq!(fetch(text).attrs, attrs, "{text}");
    }
    for bad in [
        "",
        "()",
        "(FAST)",
        "FOO",
        "FLAGS UID",
        "BODY[",
        "BODY[MIME]",
        "BODY[1.]",
        "BODY[0]",
        "BODY[.1]",
        "BODY[1.FOO]",
        "BODY[1..2]",
        "BODY[1HEADER]",
        "BODY[]<0.0>",
        "BODY[]<5>",
        "BINARY[1.TEXT]",
        "BODY[HEADER.FIELDS ()]",
        "BODY[HEADER.FIELDS (\"a\r\nb\")]",
        "FLAGS[1]",
        "(FLAGS",
        "(FLAGS UID))",
        "BODY.PEEK",
    ] {
        assert!(fault(&format!("a FETCH 1 {bad}")).starts_with("S: "), "{bad}");
    }
}

#[test]
fn fetch_modifiers_rfc_7162() {
    let fetched = fetch("(FLAGS) (CHANGEDSINCE 12345 VANISHED)");
    assert_eq!((fetched.changed_since, fetched.vanished), (Some(ModSeq(12345)), true));
    assert!(fault("s100 FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)").starts_with("S: s100 BAD"));
    assert!(fault("s100 UID FETCH 1:* (FLAGS) (VANISHED)").starts_with("S: s100 BAD"));
    assert!(fault("s100 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 9223372036854775808)").starts_with("S: s100 BAD"));
}

#[test]
fn store_in_all_its_forms() {
    let store = |action, silent, flags: &[Flag], since: Option<u64>| Store {
        unchanged_since: since.map(ModSeq),
        action,
        silent,
        flags: flags.to_vec(),
    };
    for (line, uid, text, expected) in [
        ("A003 STORE 2:4 +FLAGS (\\Deleted)", false, "2:4", store(StoreAction::Add, false, &[Flag::Deleted], None)),
        ("A STORE 1 -flags.silent \\Seen \\SEEN", false, "1", store(StoreAction::Remove, true, &[Flag::Seen], None)),
        ("A UID STORE $ FLAGS ()", true, "$", store(StoreAction::Replace, false, &[], None)),
        (
            "a103 UID STORE 6,4,8 (UNCHANGEDSINCE 12121230045) +FLAGS.SILENT (\\Deleted)",
            true,
            "6,4,8",
            store(StoreAction::Add, true, &[Flag::Deleted], Some(12_121_230_045)),
        ),
        ("d STORE 7 (UNCHANGEDSINCE 0) FLAGS ()", false, "7", store(StoreAction::Replace, false, &[], Some(0))),
    ] {
        assert_eq!(command(line), Command::Store { uid, set: set(text), store: expected }, "{line}");
    }
    for bad in ["1 FLAGS", "1 FLAGS \\Recent", "1 *FLAGS ()", "1 LABELS (x)", "1 FLAGS (a", "1 FLAGS a b)", "0 FLAGS a"]
    {
        assert!(fault(&format!("A STORE {bad}")).starts_with("S: A BAD"), "{bad}");
    }
}

#[test]
fn copy_and_move() {
    let to = || name("MEETING");
    assert_eq!(command("A003 COPY 2:4 MEETING"), Command::Copy { uid: false, set: set("2:4"), mailbox: to() });
    assert_eq!(command("A003 UID COPY $ MEETING"), Command::Copy { uid: true, set: set("$"), mailbox: to() });
    assert_eq!(command("a MOVE *:2 MEETING"), Command::Move { uid: false, set: set("*:2"), mailbox: to() });
    assert_eq!(command("a UID MOVE 42:69 MEETING"), Command::Move { uid: true, set: set("42:69"), mailbox: to() });
}

#[test]
fn what_is_no_command() {
    for (line, told) in [
        ("", "S: * BAD A command begins with a tag and a space"),
        ("a", "S: * BAD A command begins with a tag and a space"),
        ("+ NOOP", "S: * BAD A command begins with a tag and a space"),
        ("a+b NOOP", "S: * BAD A command begins with a tag and a space"),
        ("a  NOOP", "S: a BAD A word is missing"),
        ("a NOOP ", "S: a BAD The command should end sooner"),
        ("a FOO", "S: a BAD Unknown command"),
        ("a UID NOOP", "S: a BAD Unknown command"),
        ("a UID EXPUNGE", "S: a BAD A space is missing"),
        ("a LOGIN a", "S: a BAD A space is missing"),
        ("a LOGIN \"a b", "S: a BAD A quoted string does not end"),
        ("a LOGIN \"a\\b\" c", "S: a BAD Only a quote or a backslash may be escaped"),
        ("a AUTHENTICATE PLAIN x", "S: a BAD Not base64"),
    ] {
        assert_eq!(fault(line), told, "{line:?}");
    }
    // A bare LF ends a line too; a bare CR is in no word.
    let player = play_by(Player::logged_in, b"a NOOP\nb NO\rOP\r\nc NOOP\n");
    assert_eq!(player.commands.len(), 2);
}
