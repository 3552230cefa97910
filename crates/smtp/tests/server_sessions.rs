//! The RFCs' example sessions, with the texts left out where they are ours to choose.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use base::{Address, Timestamp};
use common::play;
use smtp::server::Protocol;
use smtp::{BodyType, Config, DeliverBy, FutureRelease, Hold, Notify, Ret};

fn config() -> Config {
    Config::new("foo.com")
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

#[test]
fn rfc_5321_appendix_d1_a_typical_transaction() {
    let seen = play(
        config(),
        "S: 220 foo.com ESMTP
         C: EHLO bar.com
         S: 250-foo.com
         S: 250-PIPELINING
         S: 250-SIZE 52428800
         S: 250-8BITMIME
         S: 250-ENHANCEDSTATUSCODES
         S: 250-LIMITS RCPTMAX=1000
         S: 250-SMTPUTF8
         S: 250-CHUNKING
         S: 250-BINARYMIME
         S: 250 DSN
         C: MAIL FROM:<Smith@bar.com>
         S: 250 2.1.0
         C: RCPT TO:<Jones@foo.com>
         S: 550 5.1.1
         C: RCPT TO:<Brown@foo.com>
         S: 250 2.1.5
         C: DATA
         S: 354
         C: Blah blah blah...
         C: ...etc. etc. etc.
         C: .
         S: 250 2.0.0 OK
         C: QUIT
         S: 221 2.0.0",
    );
    // The second line lost a dot: RFC 5321 §4.5.2 asks senders to write two.
    assert_eq!(seen.bodies, [b"Blah blah blah...\r\n..etc. etc. etc.\r\n"]);
    assert_eq!(seen.events, ["Hello", "Mail", "Rcpt", "Rcpt", "Data", "Body", "BodyEnd", "Close"]);
}

#[test]
fn rfc_5321_appendix_d2_an_aborted_transaction() {
    let seen = play(
        config(),
        "S: 220
         C: HELO bar.com
         S: 250 foo.com
         C: MAIL FROM:<Smith@bar.com>
         S: 250
         C: RCPT TO:<Brown@foo.com>
         S: 250
         C: RCPT TO:<Green@foo.com>
         S: 550
         C: RSET
         S: 250
         C: QUIT
         S: 221",
    );
    assert_eq!(seen.events, ["Hello", "Mail", "Rcpt", "Rcpt", "Abort", "Close"]);
}

#[test]
fn rfc_5321_appendix_d3_a_source_route_is_dropped() {
    let seen = play(
        config(),
        "S: 220
         C: HELO bar.com
         S: 250
         C: MAIL FROM:<JQP@bar.com>
         S: 250
         C: RCPT TO:<@foo.com:Jones@XYZ.COM>
         S: 550
         C: RCPT TO:<@foo.com:Brown@XYZ.COM>
         S: 250
         C: QUIT
         S: 221",
    );
    assert_eq!(seen.rcpts[0].to.to_string(), "Jones@xyz.com");
}

#[test]
fn rfc_2920_section_4_2_pipelining_and_no_valid_recipients() {
    play(
        config(),
        "S: 220
         C: EHLO dbc.mtview.ca.us
         S: 250-foo.com
         S: 250-PIPELINING
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250 DSN
         C: MAIL FROM:<mrose@dbc.mtview.ca.us>
         C: RCPT TO:<nsb@thumper.bellcore.com>
         C: RCPT TO:<nobody@foo.com>
         C: DATA
         S: 250 2.1.0
         S: 250 2.1.5
         S: 550 5.1.1
         S: 354
         C: .
         C: RSET
         C: MAIL FROM:<>
         C: RCPT TO:<nobody@foo.com>
         C: DATA
         C: QUIT
         S: 250 2.0.0
         S: 250 2.0.0
         S: 250 2.1.0
         S: 550 5.1.1
         S: 554 5.5.1
         S: 221",
    );
}

#[test]
fn rfc_3030_section_4_1_a_simple_chunk() {
    // The RFC's message has 86 octets; ours ends like a DATA body and goes on like a command.
    let seen = play(
        config(),
        "S: 220
         C: HELO cnri.reston.va.us
         S: 250
         C: MAIL FROM:<Sam@Random.com>
         S: 250
         C: RCPT TO:<Susan@Random.com>
         S: 250
         C: bdat 26 last
         c: Hello\\r\\n.\\r\\nMAIL FROM:<>\\r\\n
         c: ..
         S: 250 2.0.0
         C: QUIT
         S: 221",
    );
    assert_eq!(seen.bodies, [b"Hello\r\n.\r\nMAIL FROM:<>\r\n.."]);
}

#[test]
fn rfc_3030_section_4_2_binary_in_two_chunks_and_an_empty_last_one() {
    let seen = play(
        config(),
        "S: 220
         C: HELO x
         S: 250
         C: EHLO cnri.reston.va.us
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250
         C: MAIL FROM:<ned@ymir.claremont.edu> BODY=BINARYMIME
         C: RCPT TO:<gvaudre@cnri.reston.va.us>
         C: RCPT TO:<jstewart@cnri.reston.va.us>
         C: BDAT 7
         c: \\r.\\n\\0\\xff\\r\\n
         C: BDAT 3
         c: .\\r\\n
         C: BDAT 0 LAST
         S: 250 2.1.0
         S: 250 2.1.5
         S: 250 2.1.5
         S: 250 2.0.0
         S: 250 2.0.0
         S: 250 2.0.0
         C: MAIL FROM:<> BODY=BINARYMIME
         C: RCPT TO:<a@x.test>
         C: DATA
         S: 250
         S: 250
         S: 503 5.5.1",
    );
    assert_eq!(seen.bodies, [b"\r.\n\0\xff\r\n.\r\n"]);
    assert_eq!(seen.mails[0].body, BodyType::BinaryMime);
}

#[test]
fn rfc_3207_section_5_starttls() {
    let mut config = config();
    (config.starttls, config.requiretls, config.auth) = (true, true, vec!["PLAIN"]);
    let hello = "S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-";
    play(
        config,
        &format!(
            "S: 220
         C: EHLO mail.example.com
         {hello}
         S: 250-DSN
         S: 250 STARTTLS
         C: AUTH PLAIN dGVzdAB0ZXN0ADEyMzQ=
         S: 538 5.7.11
         C: STARTTLS now
         S: 501 5.5.4
         C: STARTTLS
         S: 220 2.0.0
         T:
         C: MAIL FROM:<a@x.test>
         S: 503 5.5.1
         C: EHLO mail.example.com
         {hello}
         S: 250-DSN
         S: 250-REQUIRETLS
         S: 250 AUTH PLAIN
         C: STARTTLS
         S: 503 5.5.1
         C: MAIL FROM:<a@x.test> REQUIRETLS
         S: 250 2.1.0"
        ),
    );
}

#[test]
fn rfc_4954_section_4_authentication() {
    let mut config = config();
    (config.auth_in_clear, config.max_errors) = (vec!["PLAIN", "LOGIN"], 100);
    let seen = play(
        config,
        "S: 220
         C: AUTH PLAIN
         S: 503 5.5.1
         C: EHLO client.example.com
         S: 250-foo.com
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250 AUTH PLAIN LOGIN
         C: AUTH
         S: 501 5.5.4
         C: AUTH CRAM-MD5
         S: 504 5.5.4
         C: AUTH PLAIN dGVz=
         S: 501 5.5.2
         C: AUTH PLAIN =
         S: 535 5.7.8
         C: AUTH PLAIN
         S: 334
         C: *
         S: 501 5.7.0
         C: AUTH PLAIN
         S: 334
         C: dGVzd!B0ZXN0
         S: 501 5.5.2
         C: AUTH PLAIN dGVzdAB0ZXN0ADEyMzQ=
         S: 535 5.7.8 Authentication credentials invalid
         C: MAIL FROM:<a@x.test>
         S: 250
         C: AUTH PLAIN
         S: 503 5.5.1
         C: RSET
         S: 250
         C: auth plain
         S: 334
         C: AHRpbQB0YW5zdGFhZnRhbnN0YWFm
         S: 235 2.7.0
         C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
         S: 503 5.5.1
         C: MAIL FROM:<e=mc2@example.com> AUTH=e+3Dmc2@example.com
         S: 250 2.1.0",
    );
    assert_eq!(seen.mails[1].auth, Some(Some(address("e=mc2@example.com"))));
}

#[test]
fn rfc_2033_section_4_2_lmtp() {
    let mut config = config();
    config.protocol = Protocol::Lmtp;
    config.chunking = smtp::server::Chunking::Off;
    config.max_errors = 100;
    let seen = play(
        config,
        "S: 220 foo.com LMTP
         C: EHLO foo.edu
         S: 500
         C: LHLO foo.edu
         S: 250-foo.com
         S: 250-PIPELINING
         S: 250-SIZE
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250 DSN
         C: MAIL FROM:<chris@bar.com>
         S: 250 2.1.0
         C: RCPT TO:<pat@foo.edu>
         S: 250 2.1.5
         C: RCPT TO:<Jones@foo.edu>
         S: 550 5.1.1
         C: RCPT TO:<green@foo.edu>
         S: 250 2.1.5
         C: DATA
         S: 354
         C: Blah blah blah...
         C: ...etc. etc. etc.
         C: .
         S: 250 2.0.0
         S: 452 4.2.1
         C: MAIL FROM:<chris@bar.com>
         C: RCPT TO:<Jones@foo.edu>
         C: DATA
         S: 250
         S: 550
         S: 503 5.5.1
         C: RSET
         C: MAIL FROM:<chris@bar.com>
         C: RCPT TO:<a@foo.edu>
         C: RCPT TO:<b@foo.edu>
         C: DATA
         C: bare\\nline
         C: .
         S: 250
         S: 250
         S: 250
         S: 250
         S: 354
         S: 554 5.6.0
         S: 554 5.6.0
         C: QUIT
         S: 221",
    );
    assert_eq!(seen.bodies.len(), 1);
}

#[test]
fn rfc_3461_section_10_1_dsn_parameters() {
    let seen = play(
        config(),
        "S: 220
         C: EHLO Example.ORG
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250 DSN
         C: MAIL FROM:<Alice@Example.ORG> RET=HDRS ENVID=QQ314159
         C: RCPT TO:<Bob@Example.COM> NOTIFY=SUCCESS ORCPT=rfc822;Bob@Example.COM
         C: RCPT TO:<Carol@Ivory.EDU> NOTIFY=FAILURE ORCPT=rfc822;Carol@Ivory.EDU
         C: RCPT TO:<Dana@Ivory.EDU> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Dana@Ivory.EDU
         C: RCPT TO:<Fred@Bombs.AF.MIL> NOTIFY=NEVER
         S: 250
         S: 250
         S: 250
         S: 250
         S: 250",
    );
    assert_eq!((seen.mails[0].ret, seen.mails[0].envelope_id.as_deref()), (Some(Ret::Headers), Some("QQ314159")));
    assert_eq!(seen.rcpts[2].notify, Some(Notify::On { success: true, failure: true, delay: false }));
    assert_eq!(seen.rcpts[3].notify, Some(Notify::Never));
}

#[test]
fn rfc_6531_section_3_5_utf8_addresses() {
    let seen = play(
        config(),
        "S: 220
         C: EHLO x
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250
         C: MAIL FROM:<用户@x.test>
         S: 553 5.6.7
         C: MAIL FROM:<a@x.test>
         S: 250
         C: RCPT TO:<用户@x.test>
         S: 553 5.6.7
         C: RSET
         S: 250
         C: MAIL FROM:<用户@例子.test> SMTPUTF8
         S: 250
         C: RCPT TO:<ü@x.test>
         S: 250
         C: VRFY 用户 SMTPUTF8
         S: 250 2.1.5 用户 <用户@x.test>
         C: RSET
         S: 250
         C: VRFY yonghu
         S: 252 2.1.5 Perhaps ??",
    );
    assert_eq!(seen.mails[1].from, Some(address("用户@例子.test")));
}

/// What the extensions announce; their parameters are 555 without it.
#[test]
fn times_and_priorities_are_announced_with_their_limits() {
    let mut config = config();
    config.future_release = Some(FutureRelease { most: 86_400, until: Timestamp::from_secs(86_400) });
    (config.deliver_by, config.mt_priority) = (Some(60), true);
    let seen = play(
        config,
        "S: 220
         C: EHLO bar.com
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-
         S: 250-MT-PRIORITY
         S: 250-FUTURERELEASE 86400 1970-01-02T00:00:00Z
         S: 250 DELIVERBY 60
         C: MAIL FROM:<a@x.test> HOLDFOR=86401
         S: 501 5.5.4
         C: MAIL FROM:<a@x.test> HOLDFOR=600 BY=120;R MT-PRIORITY=3
         S: 250",
    );
    let mail = &seen.mails[0];
    assert_eq!((mail.hold, mail.priority), (Some(Hold::For(600)), Some(3)));
    assert_eq!(mail.deliver_by, Some(DeliverBy { seconds: 120, returned: true, trace: false }));
}
