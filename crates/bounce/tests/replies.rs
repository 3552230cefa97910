//! What providers and programs really say, and what they mean by it: the expectations are from their own pages (the sources
//! at the end of the data file), from RFC 3463 and RFC 5321, never from what the classifier answers.
#![allow(clippy::unwrap_used)]

use std::sync::OnceLock;

use base::Enhanced;
use bounce::{Action, Classifier, Input, Known, Permanence, Rule, Stage, Threshold, Verdict};

fn classifier() -> &'static Classifier {
    static CLASSIFIER: OnceLock<Classifier> = OnceLock::new();
    CLASSIFIER.get_or_init(|| Classifier::new().unwrap())
}

/// `550 5.1.1 text`, `550 text`.
fn reply(stage: Stage, line: &str, site: Option<&'static str>) -> Verdict<'static> {
    let (code, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let numbers: Vec<_> = word.split('.').map_while(|n| n.parse().ok()).collect();
    let (enhanced, text) = match numbers[..] {
        [class, subject, detail] => (Some(Enhanced(class as u8, subject, detail)), text),
        _ => (None, rest),
    };
    classifier().classify(&Input { code: code.parse().ok(), enhanced, text, site, ..Input::at(stage) })
}

#[track_caller]
fn means(stage: Stage, line: &str, class: &str) {
    let verdict = reply(stage, line, None);
    assert_eq!(&*verdict.class.name, class, "{line}: {}", verdict.rule);
}

#[test]
fn google() {
    for (line, class) in [
        (
            "550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the \
             recipient's email address for typos or unnecessary spaces. For more information, go to \
             https://support.google.com/mail/?p=NoSuchUser a1-2002si - gsmtp",
            "no-such-user",
        ),
        (
            "550 5.2.1 The email account that you tried to reach is inactive. For more information, go to \
             https://support.google.com/mail/?p=DisabledUser a1 - gsmtp",
            "user-disabled",
        ),
        (
            "452 4.2.2 The recipient's inbox is out of storage space. Please direct the recipient to \
             https://support.google.com/mail/?p=OverQuotaTemp a1 - gsmtp",
            "mailbox-full",
        ),
        (
            "450 4.2.1 The user you are trying to contact is receiving mail too quickly. Please resend your message \
             at a later time. https://support.google.com/mail/?p=ReceivingRate a1 - gsmtp",
            "user-busy",
        ),
        (
            "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address. To \
             protect our users from spam, mail sent from your IP address has been temporarily rate limited. \
             https://support.google.com/mail/?p=UnsolicitedRateLimitError a1 - gsmtp",
            "rate-limited",
        ),
        (
            "550 5.7.1 [192.0.2.1] Our system has detected that this message is likely unsolicited mail. To reduce \
             the amount of spam sent to Gmail, this message has been blocked. \
             https://support.google.com/mail/?p=UnsolicitedMessageError a1 - gsmtp",
            "spam-content",
        ),
        (
            "550 5.7.26 This mail has been blocked because the sender is unauthenticated. Gmail requires all senders \
             to authenticate with either SPF or DKIM.",
            "authentication-failed",
        ),
        (
            "552 5.3.4 Your message exceeded Google's message size limits. \
             https://support.google.com/mail/?p=MaxSizeError a1 - gsmtp",
            "message-too-large",
        ),
        (
            "552 5.7.0 This message was blocked because its content presents a potential security issue. \
             https://support.google.com/mail/?p=BlockedMessage a1 - gsmtp",
            "content-refused",
        ),
    ] {
        means(Stage::Dot, line, class);
    }
}

#[test]
fn microsoft() {
    for (stage, line, site, class) in [
        (
            Stage::Rcpt,
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient jo@x.test not found by SMTP address lookup",
            None,
            "no-such-user",
        ),
        (
            Stage::Rcpt,
            "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)",
            Some("microsoft365"),
            "no-such-user",
        ),
        (Stage::Dot, "554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException", None, "mailbox-full"),
        (
            Stage::MailFrom,
            "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)",
            Some("outlook"),
            "rate-limited",
        ),
        (
            Stage::MailFrom,
            "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service \
             provider since part of their network is on our block list (S3140).",
            None,
            "blocked-ip",
        ),
        (Stage::Rcpt, "550 5.7.606 Access denied, banned sending IP [192.0.2.1]", Some("microsoft365"), "blocked-ip"),
        (
            Stage::Dot,
            "550 5.7.515 Access denied, sending domain x.test doesn't meet the required authentication level.",
            Some("outlook"),
            "authentication-failed",
        ),
        (
            Stage::Dot,
            "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required; Delivery restriction \
             check failed because the sender was not authenticated",
            None,
            "restricted",
        ),
        (
            Stage::Dot,
            "550 5.7.509 Access denied, sending domain x.test does not pass DMARC verification and has a DMARC \
             policy of reject.",
            None,
            "authentication-failed",
        ),
    ] {
        let verdict = reply(stage, line, site);
        assert_eq!(&*verdict.class.name, class, "{line}: {}", verdict.rule);
    }
}

#[test]
fn yahoo_and_others() {
    for (stage, line, class) in [
        (
            Stage::MailFrom,
            "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user \
             complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes",
            "rate-limited",
        ),
        (
            Stage::MailFrom,
            "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's list; \
             see http://postmaster.yahoo.com/550-bl23.html",
            "blocked-ip",
        ),
        (
            Stage::Dot,
            "554 delivery error: dd This user doesn't have a yahoo.com account (jo@yahoo.com) [0] - \
             mta1.mail.yahoo.com",
            "no-such-user",
        ),
        (Stage::Rcpt, "550 5.1.1 <jo@icloud.com>: user does not exist", "no-such-user"),
        (Stage::Rcpt, "552 5.2.2 <jo@icloud.com>: user is over quota", "mailbox-full"),
        (
            Stage::Connect,
            "421 RP-001 (COL004-MC1F1) Unfortunately, some messages from 192.0.2.1 weren't sent. Please try again.",
            "rate-limited",
        ),
        (Stage::Rcpt, "550 User not found: jo@163.com", "no-such-user"),
        (
            Stage::Dot,
            "554 DT:SPM 163 smtp1, please see http://mail.163.com/help/help_spam_16.htm?ip=192.0.2.1",
            "spam-content",
        ),
        (Stage::Dot, "550 Ip frequency limited. http://service.mail.qq.com/cgi-bin/help?id=1001463", "rate-limited"),
        (Stage::Rcpt, "550 邮箱不存在", "no-such-user"),
        (
            Stage::Rcpt,
            "550 5.1.1 <jo@laposte.test>: Recipient address rejected: User unknown in relay recipient table",
            "no-such-user",
        ),
        (Stage::MailFrom, "554 554 RBL rejection: https://www.spamhaus.org/query/ip/192.0.2.1", "blocked-ip"),
    ] {
        means(stage, line, class);
    }
}

#[test]
fn programs() {
    for (stage, line, class) in [
        (
            Stage::Rcpt,
            "450 4.2.0 <jo@x.test>: Recipient address rejected: Greylisted, see \
             http://postgrey.schweikert.ch/help/x.test.html",
            "greylisted",
        ),
        (Stage::Rcpt, "451 Temporary local problem - please try later", "system-busy"),
        (Stage::Rcpt, "554 5.7.1 <jo@x.test>: Relay access denied", "relay-denied"),
        (Stage::Rcpt, "550 relay not permitted", "relay-denied"),
        (Stage::Rcpt, "450 4.1.8 <me@y.test>: Sender address rejected: Domain not found", "bad-sender"),
        (Stage::Rcpt, "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]", "no-rdns"),
        (Stage::Dot, "554 5.4.6 Too many hops 27 (25 max)", "routing"),
        (Stage::Dot, "550 5.7.1 Message contains a virus: Eicar-Test-Signature", "virus"),
        (Stage::Dot, "552 5.3.4 Message size exceeds fixed limit", "message-too-large"),
        (Stage::Rcpt, "452 4.5.3 Error: too many recipients", "too-many-recipients"),
        (Stage::Connect, "421 4.7.0 mx.x.test Error: too many connections from 192.0.2.1", "too-many-connections"),
        (Stage::MailFrom, "530 5.7.0 Must issue a STARTTLS command first", "tls-required"),
        (Stage::Rcpt, "452 4.3.1 Insufficient system storage", "system-full"),
    ] {
        means(stage, line, class);
    }
}

/// RFC 3463 §3 and the registry, where the text says nothing.
#[test]
fn codes_alone() {
    for (line, class) in [
        ("550 5.1.1", "no-such-user"),
        ("550 5.1.2", "no-such-domain"),
        ("501 5.1.3", "bad-address"),
        ("551 5.1.6", "user-moved"),
        ("556 5.1.10", "no-such-domain"),
        ("550 5.2.1", "user-disabled"),
        ("552 5.2.2", "mailbox-full"),
        ("452 4.2.2", "mailbox-full"),
        ("552 5.2.3", "message-too-large"),
        ("452 4.3.1", "system-full"),
        ("554 5.4.6", "routing"),
        ("452 4.5.3", "too-many-recipients"),
        ("550 5.7.2", "restricted"),
        ("550 5.7.23", "authentication-failed"),
        ("550 5.7.25", "no-rdns"),
        ("553 5.6.7", "unsupported"),
        // RFC 5321 §4.2.3, RFC 7504.
        ("421", "system-busy"),
        ("452", "too-many-recipients"),
        ("550", "no-such-user"),
        ("553", "bad-address"),
        ("521", "not-accepting"),
        ("599", "unknown"),
        ("499", "unknown"),
    ] {
        means(Stage::Rcpt, line, class);
    }
}

#[test]
fn the_stage_decides_what_can_be_meant() {
    // Nothing is said of the recipient before RCPT.
    means(Stage::MailFrom, "550 5.1.1 User unknown", "bad-sender");
    means(Stage::Helo, "550 5.7.1 Refused by policy", "blocked-ip");
    means(Stage::Helo, "501 5.1.3", "no-rdns");
    means(Stage::MailFrom, "535 5.7.8 Bad credentials", "policy");
    let signed_in = Input { code: Some(535), text: "Bad credentials", signed_in: true, ..Input::at(Stage::MailFrom) };
    assert_eq!(&*classifier().classify(&signed_in).class.name, "login-failed");
}

#[test]
fn trap_30_the_reply_code_says_whether_it_is_over() {
    assert!(reply(Stage::Rcpt, "550 5.1.1 User unknown", None).is_hard());
    // A directory that is down says so too.
    let down = reply(Stage::Rcpt, "450 4.1.1 User unknown", None);
    assert!(&*down.class.name == "no-such-user" && !down.is_final && !down.is_hard());
    // RFC 5321 §4.2: of two that contradict each other the reply code counts.
    assert!(!reply(Stage::Rcpt, "450 5.1.1 User unknown", None).is_final);
    // RFC 5321 §4.5.3.1.10.
    assert!(!reply(Stage::Rcpt, "552 Too many recipients", None).is_final);
    assert!(reply(Stage::Dot, "552 5.3.4 Message too large", None).is_final);
    // What is said before MAIL is about the connection.
    assert!(!reply(Stage::Connect, "554 5.7.1 Go away", None).is_final);
    let full = reply(Stage::Rcpt, "550 5.2.2 Mailbox full", None);
    assert!(full.is_final && !full.is_hard());
}

#[test]
fn what_we_know_ourselves_and_what_a_report_says() {
    let nobody = classifier().known(Known::DnsNxDomain);
    assert!(&*nobody.class.name == "no-such-domain" && nobody.is_hard());
    let silence = classifier().known(Known::ConnectTimeout);
    assert!(&*silence.class.name == "connection-failed" && !silence.is_final);
    assert!(silence.rule.to_string().contains("connect.timeout"));

    for (action, class) in [
        (Action::Delayed, "delayed"),
        (Action::Delivered, "delivered"),
        (Action::Expanded, "delivered"),
        (Action::Failed, "no-such-user"),
    ] {
        let input = Input { enhanced: Some(Enhanced(5, 1, 1)), text: "x", ..Input::at(Stage::Dsn(action)) };
        let verdict = classifier().classify(&input);
        assert_eq!((&*verdict.class.name, verdict.is_hard()), (class, action == Action::Failed));
    }
    // RFC 3464 appendix E.2's words; the code of the host that refused is nearer than the report's.
    let text = "550 'arathib@vnet.ibm.com' is not a registered gateway user";
    let input = Input { enhanced: Some(Enhanced(5, 0, 0)), text, ..Input::at(Stage::Dsn(Action::Failed)) };
    assert!(classifier().classify(&input).is_hard());
}

/// Every report is titled so; of a recipient only a reply says it.
#[test]
fn words_that_need_a_code() {
    let report = |text| classifier().classify(&Input { text, ..Input::at(Stage::Dsn(Action::Failed)) });
    assert_eq!(report("undeliverable to jo@x.test").rule, Rule::Nothing);
    assert_eq!(&*report("550 undeliverable to jo@x.test").class.name, "no-such-user");
    assert_eq!(report("failed: an undisclosed address").rule, Rule::Nothing);
    assert_eq!(&*report("this is a closed address").class.name, "user-disabled");
}

#[test]
fn subjects_of_other_mail() {
    for (subject, class) in [
        ("Out of Office: your order", "auto-reply"),
        ("Automatische Antwort: Angebot", "auto-reply"),
        ("自动回复: 你好", "auto-reply"),
        ("unsubscribe", "unsubscribe"),
        ("Please confirm you are a human", "challenge"),
        ("Lunch on Friday?", "unknown"),
    ] {
        let verdict = classifier().classify(&Input { text: subject, ..Input::at(Stage::Mail) });
        assert_eq!(&*verdict.class.name, class, "{subject}");
    }
    // These words in a reply of ours are no answer of a person.
    assert_ne!(&*reply(Stage::Rcpt, "450 Out of office", None).class.name, "auto-reply");
}

#[test]
fn a_class_says_what_follows() {
    let class = |name| classifier().class(name).unwrap();
    assert_eq!(class("no-such-user").suppression.as_ref().unwrap().after, Threshold::First);
    assert_eq!(
        class("mailbox-full").suppression.as_ref().unwrap().after,
        Threshold::Repeated { messages: 5, days: 60 }
    );
    assert_eq!(class("greylisted").suppression, None);
    assert_eq!(class("mailbox-full").permanence, Permanence::Soft);
    assert_eq!(&*class("complaint").names.sparkpost, "spam_complaint");
    assert_eq!(&*class("no-such-user").names.sparkpost, "10");
    assert!(matches!(reply(Stage::Rcpt, "599", None).rule, Rule::Reply { codes: "4xx,5xx" }));
}

/// trap 6: a text may be as long as a mail, and all of it is made to be looked at for long.
#[test]
fn trap_06_hostile_texts_are_cut() {
    for unit in ["a ", "user ", "mailbox not user recipient domain host ", "é", "@", "550 5.1.1 ", "\n", "(in reply "]
    {
        let text = unit.repeat(1_000_000);
        let began = std::time::Instant::now();
        for stage in [Stage::Rcpt, Stage::Dsn(Action::Failed), Stage::Mail] {
            classifier().classify(&Input { text: &text, ..Input::at(stage) });
        }
        assert!(began.elapsed().as_secs() < 2, "{unit}: {:?}", began.elapsed());
    }
}
