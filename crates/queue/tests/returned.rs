//! What comes back, read: the examples of the standards, and what programs write that follow none.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::Cell;
use std::ops::Range;
use std::sync::OnceLock;

use bounce::{Action, Classifier};
use mime::{Indexer, Limits};
use queue::returned::{self, Answer, AnswerKind, Complaint, Feedback, MAX_RECIPIENTS, Recipient, Report, Returned};

fn classifier() -> &'static Classifier {
    static CLASSIFIER: OnceLock<Classifier> = OnceLock::new();
    CLASSIFIER.get_or_init(|| Classifier::new().unwrap())
}

fn read_counted(mail: &[u8], null_sender: bool) -> (Option<Returned<'static>>, u64) {
    let mut indexer = Indexer::new(Limits::default());
    indexer.push(mail);
    let fetched = Cell::new(0);
    let fetch = |span: Range<u64>, out: &mut Vec<u8>| {
        fetched.set(fetched.get() + span.end - span.start);
        out.extend_from_slice(&mail[span.start as usize..span.end as usize]);
        Ok(())
    };
    (returned::read(classifier(), &indexer.finish(), null_sender, fetch).unwrap(), fetched.get())
}

fn read(mail: &str) -> Option<Returned<'static>> {
    read_counted(mail.replace('\n', "\r\n").as_bytes(), false).0
}

#[track_caller]
fn report(mail: &str) -> Report<'static> {
    match read(mail) {
        Some(Returned::Report(report)) => report,
        other => panic!("{other:?}"),
    }
}

/// `address action class hard|soft`
fn shown(recipient: &Recipient) -> String {
    let address = recipient.address.as_ref().map_or("?".to_owned(), ToString::to_string);
    let hard = if recipient.verdict.is_hard() { "hard" } else { "soft" };
    format!("{address} {} {} {hard}", recipient.action, recipient.verdict.class)
}

fn all_shown(report: &Report) -> Vec<String> {
    report.recipients.iter().map(shown).collect()
}

#[test]
fn rfc_3464_appendix_e_1() {
    let report = report(
        "Date: Thu, 7 Jul 1994 17:16:05 -0400
From: Mail Delivery Subsystem <MAILER-DAEMON@CS.UTK.EDU>
Message-Id: <199407072116.RAA14128@CS.UTK.EDU>
Subject: Returned mail: Cannot send message for 5 days
To: <owner-info-mime@cs.utk.edu>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
      boundary=\"RAA14128.773615765/CS.UTK.EDU\"

--RAA14128.773615765/CS.UTK.EDU

The original message was received at Sat, 2 Jul 1994 17:10:28 -0400
from root@localhost

   ----- The following addresses had delivery problems -----
<louisl@larry.slip.umd.edu>  (unrecoverable error)

--RAA14128.773615765/CS.UTK.EDU
content-type: message/delivery-status

Reporting-MTA: dns; cs.utk.edu

Original-Recipient: rfc822;louisl@larry.slip.umd.edu
Final-Recipient: rfc822;louisl@larry.slip.umd.edu
Action: failed
Status: 4.0.0
Diagnostic-Code: smtp; 426 connection timed out
Last-Attempt-Date: Thu, 7 Jul 1994 17:15:49 -0400

--RAA14128.773615765/CS.UTK.EDU
content-type: message/rfc822

Message-ID: <info-mime-1@cs.utk.edu>
Subject: Message-ID: <not-this@one.test>

[original message goes here]

--RAA14128.773615765/CS.UTK.EDU--
",
    );
    assert_eq!(all_shown(&report), ["louisl@larry.slip.umd.edu failed connection-failed soft"]);
    let louis = &report.recipients[0];
    assert_eq!(louis.original, louis.address);
    assert_eq!(louis.status, Some(base::Enhanced(4, 0, 0)));
    assert_eq!(louis.diagnostic, "426 connection timed out");
    assert_eq!(report.reporting_mta.as_deref(), Some("cs.utk.edu"));
    assert_eq!(report.about.message_id.as_deref(), Some("info-mime-1@cs.utk.edu"));
}

#[test]
fn rfc_3464_appendix_e_2() {
    let report = report(
        "From: Mail Delivery Subsystem <MAILER-DAEMON@CS.UTK.EDU>
Subject: Returned mail: User unknown
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
content-type: message/delivery-status

Reporting-MTA: dns; cs.utk.edu
Original-Envelope-Id: JRR-1994/7

Original-Recipient: rfc822;arathib@vnet.ibm.com
Final-Recipient: rfc822;arathib@vnet.ibm.com
Action: failed
Status: 5.0.0 (permanent failure)
Diagnostic-Code: smtp;
 550 'arathib@vnet.IBM.COM' is not a registered gateway user
Remote-MTA: dns; vnet.ibm.com

Original-Recipient: rfc822;johnh@hpnjld.njd.hp.com
Final-Recipient: rfc822;johnh@hpnjld.njd.hp.com
Action: delayed
Status: 4.0.0 (hpnjld.njd.jp.com: host name lookup failure)

Original-Recipient: rfc822;wsnell@sdcc13.ucsd.edu
Final-Recipient: rfc822;wsnell@sdcc13.ucsd.edu
Action: failed
Status: 5.0.0
Diagnostic-Code: smtp; 550 user unknown
Remote-MTA: dns; sdcc13.ucsd.edu

--b--
",
    );
    assert_eq!(
        all_shown(&report),
        [
            "arathib@vnet.ibm.com failed no-such-user hard",
            "johnh@hpnjld.njd.hp.com delayed delayed soft",
            "wsnell@sdcc13.ucsd.edu failed no-such-user hard",
        ]
    );
    assert_eq!(report.recipients[2].remote_mta.as_deref(), Some("sdcc13.ucsd.edu"));
    assert_eq!(report.about.envelope_id.as_deref(), Some("JRR-1994/7"));
    assert_eq!(report.about.message_id, None);
}

/// The fields of a recipient, as hosts of today write them.
#[test]
fn what_is_common_today() {
    let mail = |fields: &str| {
        format!(
            "From: Mail Delivery Subsystem <mailer-daemon@x.test>
Subject: Delivery Status Notification (Failure)
X-Failed-Recipients: other@y.test
Auto-Submitted: auto-replied
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: multipart/related; boundary=c

--c
Content-Type: text/plain; charset=utf-8

Your message to jo@y.test was not delivered. Please write to <help@x.test>.
--c--
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; x.test
X-Original-Message-ID: <1@y.test>

{fields}
--b--
"
        )
    };
    for (fields, expected) in [
        // Google
        (
            "Final-Recipient: rfc822; jo@y.test
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.y.test. (192.0.2.1, the server for the domain y.test.)
Diagnostic-Code: smtp; 550-5.1.1 The email account that you tried to reach does not exist. Please try
 550-5.1.1 double-checking the recipient's email address for typos. For more information, go to
 550 5.1.1  https://support.google.com/mail/?p=NoSuchUser a1 - gsmtp
",
            "jo@y.test failed no-such-user hard",
        ),
        // Exchange
        (
            "Final-Recipient: rfc822;jo@y.test
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup
",
            "jo@y.test failed no-such-user hard",
        ),
        // Postfix: in whose session, and what was refused there
        (
            "Final-Recipient: rfc822; jo@y.test
Original-Recipient: rfc822;jo@y.test
Action: failed
Status: 5.7.1
Remote-MTA: dns; mx.y.test
Diagnostic-Code: smtp; 554 5.7.1 <jo@y.test>: Relay access denied
",
            "jo@y.test failed relay-denied soft",
        ),
        (
            "Final-Recipient: rfc822; jo@y.test
Action: delayed
Status: 4.4.1
Diagnostic-Code: X-Postfix; connect to mx.y.test[192.0.2.1]:25: Connection timed out
Will-Retry-Until: Fri, 27 Nov 2026 10:00:00 +0000 (UTC)
",
            "jo@y.test delayed delayed soft",
        ),
        // Exim: the action first
        (
            "Action: failed
Final-Recipient: rfc822;jo@y.test
Status: 5.0.0
Remote-MTA: dns; mx.y.test
Diagnostic-Code: smtp; 552 5.2.2 The email account that you tried to reach is over quota
",
            "jo@y.test failed mailbox-full soft",
        ),
        // RFC 3464 §2.3.3
        ("Final-Recipient: rfc822; jo@y.test\nAction: relayed\nStatus: 2.0.0\n", "jo@y.test relayed delivered soft"),
        // RFC 6533 §3
        (
            "Final-Recipient: utf-8; 用户@例子.test\nAction: failed\nStatus: 5.1.1\n",
            "用户@xn--fsqu00a.test failed no-such-user hard",
        ),
    ] {
        let report = report(&mail(fields));
        assert_eq!(all_shown(&report), [expected], "{fields}");
        assert_eq!(report.about.message_id.as_deref(), Some("1@y.test"));
    }
}

/// Cut or altered anywhere, a mail is still read.
#[test]
fn any_bytes_are_read() {
    let mail = "From: mailer-daemon@x.test\r\nSubject: =?utf-8?q?fail=75re?= notice\r\n\
        Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/html\r\n\r\n<p>&lt;jo@x.test&gt;:<br>用户 550-5.1.1 no\r\n550 5.1.1 such user (in reply to\r\n\
        --b\r\nContent-Type: message/delivery-status\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        Reporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; <jo@x.test>\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp;\r\n\
        550 5.1.1 \"=C3=A9\"\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <1@y.test>\r\n\r\n--b--\r\n";
    let read = |mail: &[u8]| read_counted(mail, false).0;
    for cut in 0..mail.len() {
        read(&mail.as_bytes()[..cut]);
        read(&mail.as_bytes()[cut..]);
    }
    for at in 0..mail.len() {
        for byte in [b'\n', b'@', b'<', b'.', 0, 0xff] {
            let mut altered = mail.as_bytes().to_vec();
            altered[at] = byte;
            read(&altered);
        }
    }
}

/// The words count where the fields say nothing, and the status tells that it is not for good.
#[test]
fn a_diagnostic_that_says_nothing() {
    let mail = |status: &str| {
        format!(
            "From: postmaster@x.test
Subject: Delivery report
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b

Not delivered to jo@y.test: user unknown
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; x.test

Final-Recipient: rfc822; jo@y.test
Action: failure
Status: {status}
Diagnostic-Code: x400; Reason 1 (Unable-To-Transfer)
--b--
"
        )
    };
    assert_eq!(all_shown(&report(&mail("5.0.0"))), ["jo@y.test failed no-such-user hard"]);
    assert_eq!(all_shown(&report(&mail("4.0.0"))), ["jo@y.test failed no-such-user soft"]);
}

#[test]
fn rfc_5965_appendix_b_2() {
    let complaint = read(
        "From: <abusedesk@example.com>
Date: Thu, 8 Mar 2005 17:40:36 EDT
Subject: FW: Earn money
To: <abuse@example.net>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report;
     boundary=\"part1_13d.2e68ed54_boundary\"

--part1_13d.2e68ed54_boundary
Content-Type: text/plain; charset=\"US-ASCII\"
Content-Transfer-Encoding: 7bit

This is an email abuse report for an email message received from IP
192.0.2.1 on Thu, 8 Mar 2005 14:00:00 EDT.

--part1_13d.2e68ed54_boundary
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <somespammer@example.net>
Original-Rcpt-To: <user@example.com>
Source-IP: 192.0.2.1

--part1_13d.2e68ed54_boundary
Content-Type: message/rfc822
Content-Disposition: inline

From: <somespammer@example.net>
To: <Undisclosed Recipients>
Subject: Earn money
MIME-Version: 1.0
Content-type: text/plain
Message-ID: 8787KJKJ3K4J3K4J3K4J3.mail@example.net
Date: Thu, 02 Sep 2004 12:31:03 -0500

Spam Spam Spam
--part1_13d.2e68ed54_boundary--
",
    );
    let Some(Returned::Complaint(Complaint { feedback, recipients, quoted_to, about })) = complaint else {
        panic!("{complaint:?}")
    };
    assert_eq!(feedback, Feedback::Abuse);
    assert_eq!(recipients.iter().map(ToString::to_string).collect::<Vec<_>>(), ["user@example.com"]);
    assert_eq!(quoted_to, []);
    // The example's Message-ID has no brackets: it is none (RFC 5322 §3.6.4).
    assert_eq!(about.message_id, None);
}

#[test]
fn addresses_that_prove_something_are_found_wherever_a_report_has_them() {
    let report = |fields: &str, quoted: &str| {
        let mail = format!(
            "From: fbl@x.test\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n\n\
             Somebody complained.\n--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\n{fields}--b\n\
             Content-Type: message/rfc822\n\n{quoted}Subject: a\n\nReturn-Path: <bounce+body@y.test>\n--b--\n"
        );
        let mail = mail.replace('\n', "\r\n").into_bytes();
        let mut indexer = Indexer::new(Limits::default());
        indexer.push(&mail);
        let fetch = |span: Range<u64>, out: &mut Vec<u8>| {
            out.extend_from_slice(&mail[span.start as usize..span.end as usize]);
            Ok(())
        };
        let wanted = |address: &base::Address| address.local().starts_with("bounce+");
        let all = returned::addresses(&indexer.finish(), wanted, fetch).unwrap();
        all.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(report("Original-Mail-From: <bounce+abc@y.test>\n", ""), ["bounce+abc@y.test"]);
    assert_eq!(report("", "Return-Path: <bounce+abc@y.test>\nTo: jo@x.test\n"), ["bounce+abc@y.test"]);
    let noted = "Received-SPF: pass (x.test: y.test\n\tpermits) envelope-from=\"bounce+abc@y.test\";\n";
    assert_eq!(report("", noted), ["bounce+abc@y.test"]);
    assert_eq!(
        report("", "Authentication-Results: x.test; spf=pass smtp.mailfrom=bounce+abc@y.test.\n"),
        ["bounce+abc@y.test"]
    );
    let many: String = (0..9).map(|n| format!("X-{n}: bounce+{}@y.test\n", n / 2)).collect();
    assert_eq!(report("", &many).len(), 4);
    assert_eq!(report("Original-Mail-From: jo@y.test\n", "Return-Path: <>\n"), [""; 0]);
}

#[test]
fn answers() {
    let mail = |fields: &str, subject: &str| {
        let mail = format!(
            "From: jo@x.test\nTo: us@y.test\nSubject: {subject}\nIn-Reply-To: <1@y.test>\n{fields}\nI am away.\n"
        );
        match read(&mail) {
            Some(Returned::Answer(Answer { kind, about })) => {
                assert_eq!(about.message_id.as_deref(), Some("1@y.test"));
                Some(kind)
            }
            None => None,
            other => panic!("{other:?}"),
        }
    };
    // RFC 3834 §5.
    assert_eq!(mail("Auto-Submitted: auto-replied; owner-email=\"jo@x.test\"\n", "Re: a"), Some(AnswerKind::Automatic));
    assert_eq!(mail("Auto-Submitted: auto-generated (away)\n", "Re: a"), Some(AnswerKind::Automatic));
    assert_eq!(mail("Auto-Submitted: No (a person)\n", "Re: a"), None);
    assert_eq!(mail("X-Autoreply: yes\n", "Re: a"), Some(AnswerKind::Automatic));
    assert_eq!(mail("Precedence: auto_reply\n", "Re: a"), Some(AnswerKind::Automatic));
    assert_eq!(mail("", "Automatische Antwort: a"), Some(AnswerKind::Automatic));
    assert_eq!(mail("", "=?utf-8?b?6Ieq5Yqo5Zue5aSN?= a"), Some(AnswerKind::Automatic));
    assert_eq!(mail("", "unsubscribe"), Some(AnswerKind::Unsubscribe));
    assert_eq!(mail("", "Re: lunch"), None);
}

/// RFC 3834 §3.3: such answers come from `<>`, as reports do; and they may speak of deliveries.
#[test]
fn an_answer_that_speaks_of_deliveries() {
    let mail = "From: help@x.test\r\nSubject: [#17] Your order\r\nAuto-Submitted: auto-replied\r\n\r\n\
        We got your request about a delivery problem.\r\n";
    let (read, _) = read_counted(mail.as_bytes(), true);
    assert!(matches!(read, Some(Returned::Answer(Answer { kind: AnswerKind::Automatic, .. }))), "{read:?}");
}

/// RFC 8098 §3; RFC 5429 §2.2.1: a mail may be refused so.
#[test]
fn dispositions() {
    let mail = |disposition: &str| {
        format!(
            "From: jo@x.test
Subject: Rejected: a
Content-Type: multipart/report; report-type=disposition-notification; boundary=b

--b

The mailbox of jo@x.test is full.
--b
Content-Type: message/disposition-notification

Final-Recipient: rfc822; jo@x.test
Original-Message-ID: <1@y.test>
Disposition: {disposition}
--b--
"
        )
    };
    let displayed = read(&mail("manual-action/MDN-sent-manually; displayed"));
    let Some(Returned::Answer(Answer { kind: AnswerKind::Disposition, about })) = displayed else {
        panic!("{displayed:?}")
    };
    assert_eq!(about.message_id.as_deref(), Some("1@y.test"));
    let refused = report(&mail("automatic-action/MDN-sent-automatically; deleted"));
    assert_eq!(all_shown(&refused), ["jo@x.test failed mailbox-full soft"]);
    assert_eq!(refused.about.message_id.as_deref(), Some("1@y.test"));
}

#[test]
fn words_only() {
    // https://cr.yp.to/proto/qsbmf.txt: a paragraph for each recipient.
    let qmail = report(
        "From: MAILER-DAEMON@x.test
To: us+token@y.test
Subject: failure notice

Hi. This is the qmail-send program at x.test.
I'm afraid I wasn't able to deliver your message to the following addresses.

<jo@x.test>:
Sorry, no mailbox here by that name. (#5.1.1)

<full@x.test>:
The mailbox is over quota. (#5.2.2)

--- Below this line is a copy of the message.

Return-Path: <us+token@y.test>
Received: from y.test
Message-ID: <1@y.test>
To: other@x.test

user unknown
",
    );
    assert_eq!(all_shown(&qmail), ["jo@x.test failed no-such-user hard", "full@x.test failed mailbox-full soft"]);
    assert_eq!(qmail.about.message_id.as_deref(), Some("1@y.test"));

    let exim = report(
        "From: Mail Delivery System <Mailer-Daemon@x.test>
To: us@y.test
X-Failed-Recipients: jo@x.test
Auto-Submitted: auto-replied
Subject: Mail delivery failed: returning message to sender

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  jo@x.test
    host mx.x.test [192.0.2.1]
    SMTP error from remote mail server after MAIL FROM:<us@y.test>:
    550 5.7.1 Sender address rejected: y.test does not exist
",
    );
    // After MAIL nothing is said of jo.
    assert_eq!(all_shown(&exim), ["jo@x.test failed bad-sender soft"]);

    let html = report(
        "From: postmaster@x.test
Subject: Undeliverable: a
Content-Type: text/html

<p>Your message did not reach the following recipient(s):<br>&lt;jo@x.test&gt; The e-mail account does&nbsp;not exist</p>
",
    );
    assert_eq!(all_shown(&html), ["jo@x.test failed no-such-user hard"]);

    let late =
        report("From: <>\nSubject: Warning: message delayed\n\n<jo@x.test> has not yet been delivered: user unknown\n");
    assert_eq!(all_shown(&late), ["jo@x.test delayed delayed soft"]);
    assert_eq!(late.recipients[0].action, Action::Delayed);

    // A title that only looks like that of the returned mail, and one that is.
    let titles = report(
        "From: MDaemon@x.test
Subject: Permanent Delivery Failure

The message is attached.
These addresses did NOT receive a copy of your message:

> jo@x.test
550 no such user

Your original message follows:

> other@x.test
",
    );
    assert_eq!(all_shown(&titles), ["jo@x.test failed no-such-user hard"]);

    // Whom it concerns, the address it came to says.
    let nobody = report("From: MAILER-DAEMON@x.test\nSubject: failure notice\n\nNo such user here.\n");
    assert_eq!(all_shown(&nobody), ["? failed no-such-user hard"]);
}

#[test]
fn what_people_write_is_no_report() {
    for mail in [
        "From: jo@x.test\nSubject: lunch\n\nMy mailbox is full, jo@x.test does not exist.\n",
        "From: jo@x.test\nSubject: Re: Undeliverable: a\nIn-Reply-To: <1@y.test>\n\nWhy was it not delivered?\n",
        "From: postmaster@x.test\nSubject: your question\n\nThe server is repaired.\n",
        "",
        "\n",
    ] {
        assert_eq!(read(mail), None, "{mail}");
    }
}

/// trap 6: as much as a mail can hold of what is looked for.
#[test]
fn trap_06_a_hostile_report_is_read_in_part() {
    let form = |group: &str| {
        format!(
            "From: mailer-daemon@x.test\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n\
             --b\n\n{}\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x.test\n\n{}--b--\n",
            "jo@x.test mailbox not user host \n".repeat(50_000),
            (0..50_000).map(|at| group.replace('#', &at.to_string())).collect::<String>()
        )
    };
    let free = |unit: &str| format!("From: mailer-daemon@x.test\nSubject: failure notice\n\n{unit}");
    let html = |unit: &str| format!("From: mailer-daemon@x.test\nContent-Type: text/html\n\n{}", unit.repeat(200_000));
    let mut mails = vec![
        form("Final-Recipient: rfc822; u#@x.test\nStatus: 5.0.0\nDiagnostic-Code: smtp; mailbox not user host \n\n"),
        form("\n"),
        form(" \n"),
        form("Status: 5"),
    ];
    for number in 0..4 {
        let of_many: String =
            (0..20_000).map(|at| format!("u{at}@x.test{}user host\n", [": ", " ", "\n", "@"][number])).collect();
        mails.push(free(&of_many));
    }
    mails.extend(["@", "a@", "a@b ", "<a@b.test>:\n", "\n", "Received"].map(|unit| free(&unit.repeat(200_000))));
    mails.extend(["<", "<a", "&", "<br>", "&lt;"].map(html));
    for mail in mails {
        let began = std::time::Instant::now();
        let (read, fetched) = read_counted(mail.as_bytes(), true);
        let Some(Returned::Report(report)) = read else { panic!("{}", &mail[..200]) };
        assert!(report.recipients.len() <= MAX_RECIPIENTS);
        assert!(report.recipients.iter().all(|recipient| recipient.diagnostic.len() <= 4096));
        assert!(fetched <= 8 * (64 << 10), "{fetched} octets read");
        assert!(began.elapsed().as_secs() < 5, "{:?}: {}", began.elapsed(), &mail[..200]);
    }
}
