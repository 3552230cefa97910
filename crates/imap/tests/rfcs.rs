//! The RFCs' examples as dialogues: each command is understood, each literal is asked for where the RFC shows it.

mod play;

use play::play;

/// Every `C:` line but those of messages and continued exchanges is a command; each `S: +` is a continuation.
#[track_caller]
fn understood(commands: usize, transcript: &str) {
    let player = play(transcript);
    let continued = transcript.lines().filter(|line| line.trim_start().starts_with("S: +")).count();
    let said: Vec<&String> = player.log.iter().filter(|line| line.starts_with("S:")).collect();
    assert!(said.iter().all(|line| line.starts_with("S: +")), "{:#?}", player.log);
    assert_eq!((player.commands.len(), said.len()), (commands, continued), "{:#?}", player.log);
}

#[test]
fn rfc_9051_section_8_a_connection() {
    understood(
        6,
        r#"S: * OK [CAPABILITY STARTTLS AUTH=SCRAM-SHA-256 LOGINDISABLED IMAP4rev2] IMAP4rev2 Service Ready
           C: a001 login mrc secret
           S: a001 OK LOGIN completed
           C: a002 select inbox
           S: * 18 EXISTS
           S: a002 OK [READ-WRITE] SELECT completed
           C: a003 fetch 12 full
           S: a003 OK FETCH completed
           C: a004 fetch 12 body[header]
           S: a004 OK FETCH completed
           C: a005 store 12 +flags \deleted
           S: a005 OK +FLAGS completed
           C: a006 logout
           S: * BYE IMAP4rev2 server terminating connection"#,
    );
}

#[test]
fn rfc_9051_section_6() {
    understood(
        37,
        r##"C: abcd CAPABILITY
            C: a047 NOOP
            C: a001 STARTTLS
            C: a001 LOGIN SMITH SESAME
            C: A142 SELECT INBOX
            C: A932 EXAMINE blurdybloop
            C: A003 CREATE owatagu.siam.edu.example/
            C: A004 CREATE owatagu/blurdybloop
            C: A683 DELETE blurdybloop
            C: A684 DELETE "foo/bar"
            C: A683 RENAME blurdybloop sarasoop
            C: A002 SUBSCRIBE #news.comp.mail.mime
            C: A002 UNSUBSCRIBE #news.comp.mail.mime
            C: A101 LIST "" ""
            C: A102 LIST #news.comp.mail.misc ""
            C: A104 LIST /usr/staff/jones ""
            C: A202 LIST ~/Mail/ %
            C: 22 LIST "" "%" RETURN (STATUS (MESSAGES))
            C: A01 LIST (SUBSCRIBED) "" "*" RETURN (CHILDREN)
            C: A001 NAMESPACE
            C: A042 STATUS blurdybloop (UIDNEXT MESSAGES)
            C: A341 CLOSE
            C: A342 UNSELECT
            C: A202 EXPUNGE
            C: A282 SEARCH RETURN (MIN COUNT) FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
            C: A283 SEARCH RETURN () FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
            C: A284 SEARCH TEXT "string not in mailbox"
            C: A285 SEARCH RETURN (MIN MAX) 1:5000
            C: A301 SEARCH CHARSET UTF-8 TEXT {12}
            S: + Ready for literal text
            C: 3456789abcde
            C: A301 UID SEARCH RETURN (SAVE) FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
            C: A302 FETCH $ (UID FLAGS)
            C: A654 FETCH 2:4 (FLAGS BODY[HEADER.FIELDS (DATE FROM)])
            C: A003 STORE 2:4 +FLAGS (\Deleted)
            C: A003 COPY 2:4 MEETING
            C: a UID MOVE 42:69 foo
            C: A003 UID EXPUNGE 3000:3002
            C: A999 UID FETCH 4827313:4828442 FLAGS"##,
    );
}

#[test]
fn rfc_9051_section_6_3_13_idle() {
    understood(
        4,
        "C: A001 SELECT INBOX
         S: A001 OK SELECT completed
         C: A002 IDLE
         S: + idling
         C: DONE
         S: A002 OK IDLE terminated
         C: A003 FETCH 4 ALL
         C: A004 IDLE
         S: * 2 EXPUNGE
         S: + idling
         C: DONE
         S: A004 OK IDLE terminated",
    );
}

#[test]
fn rfc_7888_literals() {
    understood(
        2,
        "C: A001 LOGIN {11+}
         C: FRED FOOBAR {7+}
         C: fat man
         S: A001 OK LOGIN completed
         C: A001 LOGIN {11}
         S: + OK
         C: FRED FOOBAR {7}
         S: + OK
         C: fat man",
    );
}

#[test]
fn rfc_7162_condstore_and_qresync() {
    understood(
        16,
        r#"C: A142 SELECT INBOX (CONDSTORE)
           C: a103 UID STORE 6,4,8 (UNCHANGEDSINCE 12121230045) +FLAGS.SILENT (\Deleted)
           C: d105 STORE 7,5,9 (UNCHANGEDSINCE 320162338) +FLAGS.SILENT (\Deleted)
           C: B001 STORE 100:150 (UNCHANGEDSINCE 212030000000) +FLAGS.SILENT ($Processed)
           C: s100 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 12345)
           C: a FETCH 1:3 (MODSEQ)
           C: a SEARCH MODSEQ "/flags/\\draft" all 620162338
           C: t SEARCH OR NOT MODSEQ 720162338 LARGER 50000
           C: A042 STATUS blurdybloop (UIDNEXT MESSAGES HIGHESTMODSEQ)
           C: A02 ENABLE QRESYNC
           C: A02 SELECT INBOX (QRESYNC (67890007 20050715194045000 41,43:211,214:541))
           C: A03 SELECT INBOX (QRESYNC (67890007 90060115194045000 41:211,214:541))
           C: B04 SELECT INBOX (QRESYNC (67890007 90060115194045000 1:29997 (5000,7500,9000,9990:9999 15000,22500,27000,29970,29973,29976,29979,29982,29985,29988,29991)))
           C: s100 UID FETCH 300:500 (FLAGS) (CHANGEDSINCE 12345 VANISHED)
           C: C361 SELECT "newmailbox" (QRESYNC (3 1))
           C: A202 EXPUNGE"#,
    );
}

#[test]
fn rfc_5258_and_its_kin_list() {
    understood(
        17,
        r#"C: A01 LIST "" "*"
           C: A02 LIST (SUBSCRIBED) "" "*"
           C: A03 LIST () "" "%" RETURN (CHILDREN)
           C: A04 LIST (REMOTE) "" "%" RETURN (CHILDREN)
           C: A05 LIST (REMOTE SUBSCRIBED) "" "*"
           C: A06 LIST (REMOTE) "" "*" RETURN (SUBSCRIBED)
           C: BBB LIST "" ("INBOX" "Drafts" "Sent/%")
           C: D01 LIST (RECURSIVEMATCH SUBSCRIBED) "" "%"
           C: a1 LIST "" ("foo" "foo/*")
           C: a2 LIST (SUBSCRIBED) "" "foo*" RETURN (CHILDREN)
           C: A00 LIST "" "%" RETURN (STATUS (MESSAGES UNSEEN))
           C: A01 LIST (SUBSCRIBED RECURSIVEMATCH) "" "%" RETURN (STATUS (MESSAGES))
           C: t1 LIST "" "%" RETURN (SPECIAL-USE)
           C: t2 LIST (SPECIAL-USE) "" "*"
           C: t3 CREATE MySpecial (USE (\Drafts \Sent))
           C: 2 LIST "" % RETURN (STATUS (MAILBOXID))
           C: a LIST "" "*" RETURN (STATUS (SIZE))"#,
    );
}

#[test]
fn rfc_4731_5182_5032_8474_8514_search() {
    understood(
        17,
        r#"C: C283 SEARCH RETURN (MIN COUNT) FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
           C: C284 UID SEARCH RETURN (MIN MAX) 1:5000 UNDELETED
           C: C285 UID SEARCH RETURN (ALL) 1:5000 MODSEQ 1234
           C: A282 SEARCH RETURN (SAVE) FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
           C: A283 COPY $ "Other Messages"
           C: B282 SEARCH RETURN () OR $ 1,3000:3021 TEXT "a b"
           C: D1 UID SEARCH (SMALLER 4096) UID $
           C: B283 SEARCH RETURN (SAVE MIN) KEYWORD $Junk
           C: E282 UID SEARCH RETURN (SAVE) KEYWORD $Junk
           C: a1 SEARCH UNSEEN YOUNGER 259200
           C: a2 SEARCH FLAGGED OLDER 3600
           C: 19 SEARCH EMAILID M6d99ac3275bb4e
           C: 20 SEARCH THREADID T64b478a75b7ea9
           C: 21 SEARCH OR EMAILID M6d99ac3275bb4e THREADID T64b478a75b7ea9
           C: 22 FETCH 1:* (EMAILID THREADID SAVEDATE)
           C: s1 SEARCH SAVEDSINCE 28-Jan-2015 SAVEDBEFORE 1-Feb-2015
           C: s2 SEARCH SAVEDATESUPPORTED NOT SAVEDON 1-Feb-2015"#,
    );
}

#[test]
fn rfc_3516_6851_6855_2971_5161() {
    understood(
        11,
        r#"C: A001 FETCH 1 BINARY[1]
           C: A002 FETCH 1 (BINARY.PEEK[3]<500.600> BINARY.SIZE[3])
           C: a UID MOVE 42:69 foo
           C: b MOVE 1:2 foo
           C: t1 ENABLE UTF8=ACCEPT
           C: t2 ENABLE CONDSTORE X-GOOD-IDEA
           C: a023 ID ("name" "sodr" "version" "19.34" "vendor" "Pink Floyd Music Limited")
           C: a042 ID NIL
           C: A001 AUTHENTICATE SCRAM-SHA-256 biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=
           C: A002 STARTTLS
           C: A003 LOGOUT"#,
    );
}
