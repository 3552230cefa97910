//! The client machine in dialogues.
//!
//! `S:` the server writes a line; `C:` the client's next line is this; `E:` the client's next event begins so; `>` the
//! caller does something. Each dialogue is played with the server's lines cut into pieces of every size.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::VecDeque;

use base::{Address, Reply};
use common::octets;
use smtp::client::{Client, Config, End, Event, Stage, Unable, Verdict};
use smtp::{BodyType, DeliverBy, Hold, Mail, Notify, OriginalRecipient, Protocol, Rcpt, Recipient, Ret};

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn mail(from: &str) -> Mail {
    Mail { from: (from != "<>").then(|| address(from)), ..Mail::default() }
}

fn rcpts(list: &str) -> Vec<Rcpt> {
    let rcpt = |to| Rcpt { to: Recipient::Mailbox(address(to)), notify: None, original: None };
    list.split(',').map(rcpt).collect()
}

/// Plays `script` with every cut; the client as it is at the end, and the verdicts of all mails.
fn play(config: &Config, script: &str) -> (Client, Vec<Vec<Verdict>>) {
    let mut outcome = None;
    for cut in [1, 2, 3, 5, 8, 13, usize::MAX] {
        outcome = Some(play_cut(config, script, cut));
    }
    outcome.unwrap()
}

fn play_cut(config: &Config, script: &str, cut: usize) -> (Client, Vec<Vec<Verdict>>) {
    let mut client = Client::new(config.clone());
    let (mut dialogue, mut flight, mut events, mut verdicts) = (String::new(), Vec::new(), VecDeque::new(), Vec::new());
    for line in script.lines().map(str::trim_start).filter(|l| !l.is_empty()) {
        let (who, text) = line.split_once(' ').unwrap_or((line, ""));
        if who == "S:" {
            flight.extend([octets(text), b"\r\n".to_vec()].concat());
            continue;
        }
        feed(&mut client, &std::mem::take(&mut flight), cut, &mut events);
        dialogue += &format!("{line}\n");
        match who {
            "C:" => {
                let output = String::from_utf8_lossy(client.output()).into_owned();
                let said = output.split_inclusive("\r\n").next().unwrap_or("(nothing)\r\n");
                assert_eq!(said, format!("{text}\r\n"), "{dialogue}");
                client.sent(said.len());
            }
            "E:" => {
                let event: Event = events.pop_front().unwrap_or_else(|| panic!("{dialogue}no event; {client:?}"));
                assert!(format!("{event:?}").starts_with(text), "{dialogue}got {event:?}");
                if let Event::Done(it) = event {
                    verdicts.push(it);
                }
            }
            ">" => act(&mut client, text),
            _ => panic!("not a transcript: {line}"),
        }
    }
    feed(&mut client, &flight, cut, &mut events);
    assert_eq!((String::from_utf8_lossy(client.output()).as_ref(), &events), ("", &VecDeque::new()), "{dialogue}");
    (client, verdicts)
}

fn feed(client: &mut Client, input: &[u8], cut: usize, events: &mut VecDeque<Event>) {
    for mut chunk in input.chunks(cut).chain([&b""[..]]) {
        loop {
            let step = client.step(chunk);
            chunk = &chunk[step.consumed..];
            match step.event {
                Some(event) => events.push_back(event),
                None => break,
            }
        }
        assert_eq!(chunk, b"");
    }
}

fn act(client: &mut Client, what: &str) {
    let words: Vec<_> = what.split(' ').collect();
    match words[..] {
        ["starttls"] => client.starttls().unwrap(),
        ["tls"] => client.tls_started(),
        ["login", user, password] => client.sign_in(user, password).unwrap(),
        ["send", from, to] => client.send(mail(from), rcpts(to)).unwrap(),
        ["chunks", from, to] => client.send_in_chunks(mail(from), rcpts(to), b"").unwrap(),
        ["chunks", from, to, lead] => client.send_in_chunks(mail(from), rcpts(to), &octets(lead)).unwrap(),
        ["binary", from, to] => {
            client.send(Mail { body: BodyType::BinaryMime, ..mail(from) }, rcpts(to)).unwrap();
        }
        ["body", text] => client.body(&octets(text)),
        ["line", n] => client.body(&line(n.parse().unwrap())),
        ["end"] => client.body_end(),
        ["quit"] => client.quit(),
        ["lost"] => client.abandon(Reply::new(451, 4, 2, "Connection lost")),
        _ => panic!("not an action: {what}"),
    }
}

/// So many octets.
fn line(n: usize) -> Vec<u8> {
    [&b"x".repeat(n - 2)[..], b"\r\n"].concat()
}

fn shown(verdicts: &[Verdict]) -> Vec<String> {
    verdicts.iter().map(|v| format!("{:?} {}", v.stage, v.reply)).collect()
}

const PLAIN: &str = "S: 220 foo.com
    C: EHLO bar.com
    S: 250 foo.com
    E: Ready
    ";
const PIPELINING: &str = "S: 220 foo.com
    C: EHLO bar.com
    S: 250-foo.com
    S: 250-CHUNKING
    S: 250-BINARYMIME
    S: 250 PIPELINING
    E: Ready
    ";

fn config() -> Config {
    Config::new("bar.com")
}

#[test]
fn rfc_5321_appendix_d1_a_typical_transaction() {
    let (client, verdicts) = play(
        &config(),
        "S: 220 foo.com Simple Mail Transfer Service Ready
         C: EHLO bar.com
         S: 250-foo.com greets bar.com
         S: 250-8BITMIME
         S: 250-SIZE
         S: 250-DSN
         S: 250 HELP
         E: Ready
         > send Smith@bar.com Jones@foo.com,Green@foo.com,Brown@foo.com
         C: MAIL FROM:<Smith@bar.com>
         S: 250 OK
         C: RCPT TO:<Jones@foo.com>
         S: 250 OK
         C: RCPT TO:<Green@foo.com>
         S: 550 No such user here
         C: RCPT TO:<Brown@foo.com>
         S: 250 OK
         C: DATA
         S: 354 Start mail input; end with <CRLF>.<CRLF>
         E: SendBody
         > body Blah\\x20blah\\x20blah...\\r\\n...etc.\\x20etc.\\x20etc.
         > end
         C: Blah blah blah...
         C: ....etc. etc. etc.
         C: .
         S: 250 OK
         E: Done
         > quit
         C: QUIT
         S: 221 foo.com Service closing transmission channel
         E: Closed(Quit)",
    );
    assert_eq!(shown(&verdicts[0]), ["DataEnd 250 OK", "Rcpt 550 No such user here", "DataEnd 250 OK"]);
    assert_eq!(verdicts[0].iter().map(Verdict::is_delivered).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!((client.peer().size, client.peer().dsn, client.peer().name.as_str()), (Some(0), true, "foo.com"));
    assert_eq!(client.stage(), Stage::Closed);
}

#[test]
fn rfc_2920_section_4_2_one_flight_and_many_mails() {
    let (_, verdicts) = play(
        &config(),
        &format!(
            "{PIPELINING}> send a@bar.com b@foo.com,c@foo.com
             C: MAIL FROM:<a@bar.com>
             C: RCPT TO:<b@foo.com>
             C: RCPT TO:<c@foo.com>
             C: DATA
             S: 250 2.1.0 OK
             S: 250 2.1.5 OK
             S: 452 4.2.2 Full
             S: 354 Go
             E: SendBody
             > body x
             > end
             C: x
             C: .
             S: 250 2.0.0 Queued
             E: Done
             > send <> b@foo.com
             C: MAIL FROM:<>
             C: RCPT TO:<b@foo.com>
             C: DATA
             S: 250 OK
             S: 550 no
             S: 554 No valid recipients
             E: Done
             > send <> d@foo.com
             C: RSET
             C: MAIL FROM:<>
             C: RCPT TO:<d@foo.com>
             C: DATA
             S: 250 OK
             S: 250 OK
             S: 550-5.1.1 no
             S: 550 5.1.1 never
             S: 354 Go
             C: .
             S: 250 what for?
             E: Done
             > send <> e@foo.com
             C: MAIL FROM:<>
             C: RCPT TO:<e@foo.com>
             C: DATA
             S: 553 no
             S: 503 no MAIL
             S: 503 no RCPT
             E: Done"
        ),
    );
    assert_eq!(shown(&verdicts[0]), ["DataEnd 250 2.0.0 Queued", "Rcpt 452 4.2.2 Full"]);
    assert_eq!(shown(&verdicts[1]), ["Rcpt 550 no"]);
    assert_eq!(shown(&verdicts[2]), ["Rcpt 550 5.1.1 no\nnever"]);
    assert_eq!(shown(&verdicts[3]), ["Mail 553 no"]);
}

/// RFC 3030 §2: with a lead in as many round trips as DATA.
#[test]
fn rfc_3030_section_2_chunks_with_a_lead_in_the_flight_of_the_envelope() {
    let (_, verdicts) = play(
        &config(),
        &format!(
            r"{PIPELINING}> chunks a@bar.com b@foo.com,c@foo.com From:\x20a\r\n
             C: MAIL FROM:<a@bar.com>
             C: RCPT TO:<b@foo.com>
             C: RCPT TO:<c@foo.com>
             C: BDAT 9
             C: From: a
             S: 250 OK
             S: 250 OK
             S: 550 no
             S: 250 9 octets
             E: SendBody
             > body .a\nb\r\n
             > body c\r
             > end
             C: BDAT 10 LAST
             C: .a
             C: b
             C: c
             S: 250 2.6.0 OK
             E: Done
             > chunks a@bar.com b@foo.com From:\x20a\r\n
             C: MAIL FROM:<a@bar.com>
             C: RCPT TO:<b@foo.com>
             C: BDAT 9
             C: From: a
             S: 250 OK
             S: 250 OK
             S: 250 OK
             E: SendBody
             > end
             C: BDAT 0 LAST
             S: 250 OK
             E: Done"
        ),
    );
    assert_eq!(shown(&verdicts[0]), ["DataEnd 250 2.6.0 OK", "Rcpt 550 no"]);
    assert!(verdicts[1][0].is_delivered());
}

/// Who does not pass over its octets answers them, too: that was taken for answers to the next mail.
#[test]
fn a_lead_that_is_refused_ends_the_connection_and_what_was_said_to_recipients_counts() {
    let cases = [
        ("550 no", "500 What?", "Rcpt 550 no", true),
        ("550 no", "502 What?", "Rcpt 550 no", true),
        // All recipients were refused: that is what a good host says.
        ("550 no", "503 nobody is left", "Rcpt 550 no", false),
        ("550 no", "554 nobody is left", "Rcpt 550 no", false),
        ("450 later", "451 later", "Rcpt 450 later", false),
        ("250 OK", "554 5.7.1 not from you", "Body 554 5.7.1 not from you", false),
        ("250 OK", "452 full", "Body 452 full", false),
    ];
    for (to_rcpt, to_lead, verdict, lacks) in cases {
        let end = if lacks { "Nonsense(Body" } else { "Refused(Body" };
        let (mut client, verdicts) = play(
            &config(),
            &format!(
                r"{PIPELINING}> chunks a@bar.com b@foo.com From:\x20a\r\n
                 C: MAIL FROM:<a@bar.com>
                 C: RCPT TO:<b@foo.com>
                 C: BDAT 9
                 C: From: a
                 S: 250 OK
                 S: {to_rcpt}
                 S: {to_lead}
                 S: 500 From: is no command
                 E: Done
                 E: Closed({end}"
            ),
        );
        assert_eq!((shown(&verdicts[0]), client.lacks_bdat()), (vec![verdict.to_owned()], lacks), "{to_lead}");
        assert!(verdicts[0][0].by_peer);
        assert_eq!(client.send(mail("a@bar.com"), rcpts("b@foo.com")), Err(Unable::NotReady));
    }
}

#[test]
fn a_chunk_that_is_refused_ends_the_connection_and_no_other_follows() {
    let long = String::from_utf8(line(65536)).unwrap();
    let (_, verdicts) = play(
        &config(),
        &format!(
            r"{PIPELINING}> chunks a@bar.com b@foo.com From:\x20a\r\n
             C: MAIL FROM:<a@bar.com>
             C: RCPT TO:<b@foo.com>
             C: BDAT 9
             C: From: a
             S: 250 OK
             S: 250 OK
             S: 250 OK
             E: SendBody
             > line 65536
             C: BDAT 65536
             C: {long}> body x
             S: 452 4.3.1 Disk full
             E: Done
             E: Closed(Refused(Body
             > body y
             > end"
        ),
    );
    assert_eq!(shown(&verdicts[0]), ["Body 452 4.3.1 Disk full"]);
}

/// What it takes for commands is a field of a header, and no more of the mail.
#[test]
fn a_host_that_offers_chunking_and_does_not_know_bdat_is_shown_no_body() {
    for said in ["500 What?", "502 5.5.1 What?", "503 5.5.1 Not now", "504 5.5.4 Not so"] {
        let (client, verdicts) = play(
            &config(),
            &format!(
                r"{PIPELINING}> chunks a@bar.com b@foo.com From:\x20a\r\n
                 C: MAIL FROM:<a@bar.com>
                 C: RCPT TO:<b@foo.com>
                 C: BDAT 9
                 C: From: a
                 S: 250 OK
                 S: 250 OK
                 S: {said}
                 S: 500 5.5.1 From: is no command
                 E: Done
                 E: Closed(Nonsense"
            ),
        );
        assert!(client.lacks_bdat());
        let verdict = &verdicts[0][0];
        assert_eq!((verdict.stage, verdict.by_peer, verdict.is_transient()), (Stage::Body, false, true), "{said}");
    }
}

#[test]
fn without_chunking_the_lead_begins_the_data() {
    play(
        &config(),
        &format!(
            r"{PLAIN}> chunks a@bar.com b@foo.com ..x\r\n
             C: MAIL FROM:<a@bar.com>
             S: 250 OK
             C: RCPT TO:<b@foo.com>
             S: 250 OK
             C: DATA
             S: 354 Go
             E: SendBody
             > body .y\r\n
             > end
             C: ...x
             C: ..y
             C: .
             S: 250 OK
             E: Done"
        ),
    );
}

#[test]
fn rfc_3030_section_3_binary_goes_as_it_is() {
    let (mut client, _) = play(
        &config(),
        &format!(
            "{PIPELINING}> binary a@bar.com b@foo.com
             C: MAIL FROM:<a@bar.com> BODY=BINARYMIME
             C: RCPT TO:<b@foo.com>
             S: 250 OK
             S: 250 OK
             E: SendBody"
        ),
    );
    client.body(b".\n\0\r.");
    client.body_end();
    assert_eq!(client.output(), b"BDAT 5 LAST\r\n.\n\0\r.");
}

#[test]
fn rfc_5321_section_3_2_an_old_host_gets_helo() {
    let (mut client, _) = play(
        &config(),
        "S: 220 foo.com
         C: EHLO bar.com
         S: 502 5.5.1 What?
         C: HELO bar.com
         S: 250 foo.com
         E: Ready",
    );
    assert_eq!(client.peer().name, "foo.com");
    assert_eq!(client.starttls(), Err(Unable::StartTls));
}

const WITH_TLS: &str = "S: 220 mail.imc.org SMTP service ready
    C: EHLO bar.com
    S: 250-mail.imc.org offers a warm hug of welcome
    S: 250-8BITMIME
    S: 250-STARTTLS
    S: 250 DSN
    E: Ready
    > starttls
    C: STARTTLS
    ";

#[test]
fn rfc_3207_section_5_starttls() {
    let (client, _) = play(
        &config(),
        &format!(
            "{WITH_TLS}S: 454 4.7.0 TLS not available
             E: TlsRefused
             > starttls
             C: STARTTLS
             S: 220 Go ahead
             E: StartTls
             > tls
             C: EHLO bar.com
             S: 250-mail.imc.org touches your hand gently for a moment
             S: 250 AUTH PLAIN
             E: Ready"
        ),
    );
    // What was said in the clear is forgotten.
    assert!(!client.peer().dsn && !client.peer().starttls);
}

#[test]
fn trap_03_nothing_may_stand_behind_the_answer_to_starttls() {
    for cut in 1..60 {
        let mut client = Client::new(config());
        let mut events = VecDeque::new();
        feed(&mut client, b"220 a\r\n250-a\r\n250 STARTTLS\r\n", cut, &mut events);
        client.starttls().unwrap();
        feed(&mut client, b"220 go ahead\r\n250-a\r\n250 AUTH PLAIN\r\n", cut, &mut events);
        let last = events.pop_back();
        assert!(matches!(last, Some(Event::Closed(End::Nonsense(Stage::StartTls, _)))), "{cut}: {last:?}");
        // Where it is seen in the same read, the caller is never told to shake hands.
        assert!(cut < 40 || events == [Event::Ready], "{cut}: {events:?}");
        client.tls_started();
        assert_eq!(client.stage(), Stage::Closed);
    }
}

#[test]
fn rfc_4954_section_4_sign_in() {
    let (mut client, _) = play(&config(), "S: 220 a\nC: EHLO bar.com\nS: 250-a\nS: 250 AUTH PLAIN\nE: Ready");
    assert_eq!(client.sign_in("tim", "tanstaaftanstaaf"), Err(Unable::AuthInClear));
    // The RFC's own example of PLAIN has test, test, 1234 and tim with an authorization identity; ours has none.
    let hello = "> tls
         S: 220 smtp.example.com ESMTP
         C: EHLO bar.com
         S: 250-smtp.example.com
         S: 250 AUTH GSSAPI MECHS
         E: Ready
         ";
    play(
        &config(),
        &format!(
            "{}> login tim tanstaaftanstaaf
             C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
             S: 535 5.7.8 Authentication credentials invalid
             E: AuthRefused
             > login tim tanstaaftanstaaf
             C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
             S: 334 More?
             C: *
             S: 501 5.7.0 cancelled
             E: AuthRefused
             > login tim tanstaaftanstaaf
             C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
             S: 235 2.7.0 Authentication successful
             E: Authenticated",
            hello.replace("MECHS", "LOGIN PLAIN")
        ),
    );
    play(
        &config(),
        &format!(
            "{}> login tim tanstaaftanstaaf
             C: AUTH LOGIN
             S: 334 VXNlcm5hbWU6
             C: dGlt
             S: 334 UGFzc3dvcmQ6
             C: dGFuc3RhYWZ0YW5zdGFhZg==
             S: 235 2.7.0 Authentication successful
             E: Authenticated",
            hello.replace("MECHS", "LOGIN")
        ),
    );
    let (mut client, _) = play(&config(), &hello.replace("MECHS", "NTLM"));
    assert_eq!(client.sign_in("tim", "x"), Err(Unable::Auth));
}

#[test]
fn rfc_2033_section_4_2_lmtp() {
    let mut config = config();
    config.protocol = Protocol::Lmtp;
    let (_, verdicts) = play(
        &config,
        "S: 220 foo.edu LMTP server ready
         C: LHLO bar.com
         S: 250-foo.edu
         S: 250-PIPELINING
         S: 250 SIZE
         E: Ready
         > send chris@bar.com pat@foo.edu,jones@foo.edu,green@foo.edu
         C: MAIL FROM:<chris@bar.com>
         C: RCPT TO:<pat@foo.edu>
         C: RCPT TO:<jones@foo.edu>
         C: RCPT TO:<green@foo.edu>
         C: DATA
         S: 250 OK
         S: 250 OK
         S: 550 No such user here
         S: 250 OK
         S: 354 Start mail input; end with <CRLF>.<CRLF>
         E: SendBody
         > body Blah
         > end
         C: Blah
         C: .
         S: 250 OK
         S: 452 <green@foo.edu> is temporarily over quota
         E: Done",
    );
    let expected = ["DataEnd 250 OK", "Rcpt 550 No such user here"];
    assert_eq!(shown(&verdicts[0])[..2], expected);
    assert_eq!(shown(&verdicts[0])[2], "DataEnd 452 <green@foo.edu> is temporarily over quota");
    let (_, verdicts) = play(
        &config,
        "S: 220 foo.edu
         C: LHLO bar.com
         S: 250 foo.edu
         E: Ready
         > send <> a@foo.edu,b@foo.edu
         C: MAIL FROM:<>
         S: 250 OK
         C: RCPT TO:<a@foo.edu>
         S: 250 OK
         C: RCPT TO:<b@foo.edu>
         S: 250 OK
         C: DATA
         S: 354 Go
         E: SendBody
         > end
         C: .
         S: 250 OK
         > lost
         E: Done
         E: Closed(Abandoned(DataEnd",
    );
    assert_eq!(shown(&verdicts[0]), ["DataEnd 250 OK", "DataEnd 451 4.4.2 Connection lost"]);
}

#[test]
fn rfc_3461_section_10_1_dsn_parameters_go_where_they_are_understood() {
    let mail = Mail {
        size: Some(4000),
        ret: Some(Ret::Headers),
        envelope_id: Some("QQ 3=1".into()),
        ..mail("Alice@Example.ORG")
    };
    let mut to = rcpts("Carol@Ivory.EDU,Fred@Bombs.AF.MIL");
    to[0].notify = Some(Notify::On { success: true, failure: true, delay: false });
    to[0].original = Some(OriginalRecipient { kind: "rfc822".into(), address: "Carol+x@Ivory.EDU".into() });
    to[1].notify = Some(Notify::Never);
    let hello = "S: 220 a\nC: EHLO bar.com\nS: 250-a\nS: 250-PIPELINING\n";
    let (mut client, _) = play(&config(), &format!("{hello}S: 250-SIZE 5000\nS: 250 DSN\nE: Ready"));
    client.send(mail.clone(), to.clone()).unwrap();
    assert_eq!(
        String::from_utf8_lossy(client.output()),
        "MAIL FROM:<Alice@example.org> SIZE=4000 RET=HDRS ENVID=QQ+203+3D1\r\n\
         RCPT TO:<Carol@ivory.edu> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Carol+2Bx@Ivory.EDU\r\n\
         RCPT TO:<Fred@bombs.af.mil> NOTIFY=NEVER\r\nDATA\r\n"
    );
    let (mut client, _) = play(&config(), &format!("{hello}S: 250 X\nE: Ready"));
    client.send(mail, to).unwrap();
    assert!(client.output().starts_with(b"MAIL FROM:<Alice@example.org>\r\nRCPT TO:<Carol@ivory.edu>\r\n"));
}

#[test]
fn trap_30_what_the_peer_lacks_is_named_and_nothing_is_sent() {
    let (mut client, _) = play(&config(), PLAIN);
    let needs = |change: &dyn Fn(&mut Mail)| {
        let mut mail = mail("a@bar.com");
        change(&mut mail);
        mail
    };
    let to = || rcpts("b@foo.com");
    for (mail, lacks, code) in [
        (needs(&|m| m.smtputf8 = true), Unable::SmtpUtf8, "550 5.6.7"),
        (needs(&|m| m.from = Some(address("用户@bar.com"))), Unable::SmtpUtf8, "550 5.6.7"),
        (needs(&|m| m.body = BodyType::EightBitMime), Unable::EightBitMime, "550 5.6.3"),
        (needs(&|m| m.body = BodyType::BinaryMime), Unable::BinaryMime, "550 5.6.3"),
        (needs(&|m| m.require_tls = true), Unable::RequireTls, "550 5.7.30"),
    ] {
        assert_eq!(client.send(mail, to()), Err(lacks));
        assert!(lacks.reply().to_string().starts_with(code));
    }
    assert_eq!(client.send(mail("a@bar.com"), rcpts("用户@foo.com")), Err(Unable::SmtpUtf8));
    assert_eq!(client.send(mail("a@bar.com"), vec![]), Err(Unable::NoRecipients));
    assert_eq!((client.output(), client.stage()), (&b""[..], Stage::Ready));
    client.send(mail("a@bar.com"), to()).unwrap();
    assert_eq!(client.send(mail("a@bar.com"), to()), Err(Unable::NotReady));

    let hello = "S: 220 a\nC: EHLO bar.com\nS: 250-a\nS: 250-SIZE 100\nS: 250-REQUIRETLS\nS: 250-8BITMIME\nS: 250 SMTPUTF8\nE: Ready";
    let (mut client, _) = play(&config(), hello);
    assert_eq!(client.send(needs(&|m| m.size = Some(101)), to()), Err(Unable::Size(100)));
    // In the clear the keyword is worth nothing (RFC 8689 §2).
    assert_eq!(client.send(needs(&|m| m.require_tls = true), to()), Err(Unable::RequireTls));
    let (mut client, _) = play(&config(), &format!("> tls\n{hello}"));
    let mail = needs(&|m| {
        (m.require_tls, m.body, m.size) = (true, BodyType::EightBitMime, Some(100));
        m.from = Some(address("用户@bar.com"));
    });
    client.send(mail, to()).unwrap();
    let said = String::from_utf8_lossy(client.output()).into_owned();
    assert_eq!(said, "MAIL FROM:<用户@bar.com> SIZE=100 BODY=8BITMIME SMTPUTF8 REQUIRETLS\r\n");
}

#[test]
fn trap_30_552_to_a_recipient_is_transient() {
    let verdict = |stage, code| Verdict { stage, reply: Reply::plain(code, "x"), by_peer: true }.is_transient();
    assert!(verdict(Stage::Rcpt, 552) && verdict(Stage::Rcpt, 452) && verdict(Stage::Mail, 421));
    assert!(!verdict(Stage::DataEnd, 552) && !verdict(Stage::Mail, 552) && !verdict(Stage::Rcpt, 550));
}

#[test]
fn a_peer_may_close_at_any_point() {
    let send = format!("{PLAIN}> send <> b@foo.com,c@foo.com\nC: MAIL FROM:<>\n");
    for (script, at, verdict) in [
        ("S: 421 busy\nE: Closed(Refused(Greeting".to_owned(), None, ""),
        ("S: 554 no\nE: Closed(Refused(Greeting".to_owned(), None, ""),
        ("S: 220 a\nC: EHLO bar.com\nS: 450 no\nE: Closed(Refused(Hello".to_owned(), None, ""),
        (format!("{PLAIN}S: 421 idle\nE: Closed(Refused(Ready"), None, ""),
        (format!("{send}S: 421 4.3.2 bye\nE: Done\nE: Closed(Refused(Mail"), Some(0), "Mail 421 4.3.2 bye"),
        (
            format!("{send}S: 250 a\nC: RCPT TO:<b@foo.com>\nS: 421 4.3.2 bye\nE: Done\nE: Closed(Refused(Rcpt"),
            Some(0),
            "Rcpt 421 4.3.2 bye",
        ),
        (
            format!("{send}S: 250 a\nC: RCPT TO:<b@foo.com>\n> lost\nE: Done\nE: Closed(Abandoned(Rcpt"),
            Some(0),
            "Rcpt 451 4.4.2 Connection lost",
        ),
    ] {
        let (client, verdicts) = play(&config(), &script);
        assert_eq!(client.stage(), Stage::Closed, "{script}");
        if let Some(n) = at {
            assert_eq!(shown(&verdicts[n]), [verdict, verdict], "{script}");
        }
    }
}

#[test]
fn a_body_cut_short_by_the_peer_ends_the_connection() {
    let data = "> send <> b@foo.com
        C: MAIL FROM:<>
        S: 250 OK
        C: RCPT TO:<b@foo.com>
        S: 250 OK
        C: DATA
        S: 354 Go
        E: SendBody
        > body abc\\r\\n
        C: abc
        ";
    let (_, verdicts) = play(
        &config(),
        &format!("{PLAIN}{data}S: 552 5.3.4 Too big\nE: Done\nE: Closed(Refused(Body\n> body abc\n> end"),
    );
    assert_eq!(shown(&verdicts[0]), ["Body 552 5.3.4 Too big"]);
    let (_, verdicts) = play(&config(), &format!("{PLAIN}{data}S: 250 thanks\nE: Done\nE: Closed(Nonsense(Body"));
    assert!(!verdicts[0][0].is_delivered() && verdicts[0][0].is_transient());
}

#[test]
fn an_answer_of_the_wrong_kind_is_no_success() {
    let send = format!("{PLAIN}> send <> b@foo.com\nC: MAIL FROM:<>\n");
    let mailed = format!("{send}S: 250 OK\nC: RCPT TO:<b@foo.com>\n");
    let data = format!("{mailed}S: 250 OK\nC: DATA\n");
    for script in [
        format!("{send}S: 354 x\nE: Done"),
        format!("{mailed}S: 354 x\nE: Done"),
        format!("{data}S: 250 x\nE: Done"),
        format!("{data}S: 354 x\nE: SendBody\n> end\nC: .\nS: 354 y\nE: Done"),
    ] {
        let (_, verdicts) = play(&config(), &script);
        assert!(verdicts[0][0].is_transient(), "{script}: {verdicts:?}");
    }
    for script in ["S: +OK\n", "S: 250 hello\n", "S: 220-a\nS: 221 b\n", "S: 334 a\n"] {
        play(&config(), &format!("{script}E: Closed(Nonsense(Greeting"));
    }
    play(&config(), &format!("S: 220 {}\nE: Closed(Nonsense(Greeting", "x".repeat(3000)));
    play(&config(), &format!("{PLAIN}S: 250 again\nE: Closed(Nonsense(Ready"));
}

#[test]
fn a_thousand_recipients_do_not_all_go_at_once() {
    let (mut client, _) = play(&config(), PIPELINING);
    let to: Vec<_> = (0..1000).map(|n| format!("u{n}@foo.com")).collect();
    client.send(mail("<>"), rcpts(&to.join(","))).unwrap();
    let (mut sent, mut answered, mut data) = (0, 0, false);
    loop {
        let flight = String::from_utf8(client.output().to_vec()).unwrap();
        client.sent(flight.len());
        sent += flight.lines().count();
        assert!(sent - answered <= 100);
        data |= flight.ends_with("DATA\r\n");
        if answered == 1001 {
            break;
        }
        answered += 1;
        assert!(client.step(b"250 OK\r\n").event.is_none());
    }
    assert!(data && sent == 1002);
    assert_eq!(client.step(b"354 Go\r\n").event, Some(Event::SendBody));
}

#[test]
fn a_name_from_configuration_cannot_hold_a_command() {
    let mut client = Client::new(Config::new("bar.com\r\nQUIT x"));
    client.step(b"220 a\r\n");
    assert_eq!(client.output(), b"EHLO bar.comQUITx\r\n");
}

/// RFC 2852 and RFC 6710: passed on where they are offered; what is to be returned goes nowhere else.
#[test]
fn time_and_priority_go_where_they_are_offered() {
    let by = |seconds, returned| Some(DeliverBy { seconds, returned, trace: true });
    let said = |offers: &str, deliver_by| {
        let (mut client, _) = play(&config(), &format!("S: 220 a\nC: EHLO bar.com\n{offers}\nE: Ready"));
        let mail = Mail { deliver_by, priority: Some(-4), hold: Some(Hold::For(9)), ..mail("a@x.test") };
        let sent = client.send(mail, rcpts("b@x.test"));
        sent.map(|()| String::from_utf8_lossy(client.output()).lines().next().unwrap().to_owned())
    };
    let all = "S: 250-a\nS: 250-DELIVERBY 100\nS: 250 MT-PRIORITY";
    assert_eq!(said(all, by(100, true)).unwrap(), "MAIL FROM:<a@x.test> BY=100;RT MT-PRIORITY=-4");
    assert_eq!(said(all, by(-7, false)).unwrap(), "MAIL FROM:<a@x.test> BY=-7;NT MT-PRIORITY=-4");
    assert_eq!(said(all, by(99, true)), Err(Unable::DeliverBy));
    assert_eq!(said("S: 250 a", by(5, false)).unwrap(), "MAIL FROM:<a@x.test>");
    assert_eq!(said("S: 250 a", by(5000, true)), Err(Unable::DeliverBy));
}
