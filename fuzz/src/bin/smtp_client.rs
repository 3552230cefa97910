//! The SMTP and LMTP client machine against any host. The first octet chooses what is sent and how; then comes the mail's
//! body up to an octet of 255, then what the host says.
//!
//! No panic; the size of the reads makes no difference; all input is used at once; every recipient gets one verdict;
//! the output is bounded; and whatever the body is, its wire form ends where the mail ends and nowhere else (trap 2).
#![no_main]

use base::Address;
use fuzz::{PIECES, Trace, feed};
use smtp::client::{Client, Config, Event};
use smtp::{BodyType, Mail, Notify, Protocol, Rcpt, Recipient, Ret};

/// Mails sent before we quit.
const MAILS: usize = 3;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let end = data.iter().position(|octet| *octet == 255).unwrap_or(data.len());
    let (body, host) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let whole = run(*choice, body, host, PIECES[0]);
    // Six octets of body are the least of a BDAT; the rest are commands of a known number.
    assert!(whole.output.len() <= MAILS * (8 * body.len() + 1024) + 1024, "too much output");
    for piece in &PIECES[1..] {
        whole.must_equal(&run(*choice, body, host, *piece), *piece);
    }
});

/// The caller: starts TLS and signs in if that was chosen, sends some mails, and quits.
struct Caller<'a> {
    body: &'a [u8],
    body_type: BodyType,
    /// By BDAT; with a lead before the body, or without.
    chunks: Option<&'static [u8]>,
    starts_tls: bool,
    signs_in: bool,
    mails: usize,
    closed: bool,
}

fn run(choice: u8, body: &[u8], host: &[u8], piece: usize) -> Trace {
    let on = |bit: u8| choice & 1 << bit != 0;
    let mut client = Client::new(Config {
        protocol: if on(0) { Protocol::Lmtp } else { Protocol::Smtp },
        auth_in_clear: true,
        listen: true,
        ..Config::new("sender.test")
    });
    let body_type = [BodyType::SevenBit, BodyType::EightBitMime, BodyType::BinaryMime, BodyType::SevenBit];
    let body_type = body_type[usize::from(choice >> 4 & 3)];
    let chunks = on(1).then_some(if on(6) { &b"X-Lead: yes\r\n"[..] } else { b"" });
    let mut caller = Caller { body, body_type, chunks, starts_tls: on(2), signs_in: on(3), mails: 0, closed: false };
    let mut trace = Trace::default();
    // The machine keeps an unfinished reply itself: nothing is ever left unread.
    feed(host, piece, 1, |unread| {
        let step = client.step(unread);
        let moved = step.consumed > 0 || step.event.is_some();
        if let Some(event) = step.event {
            // A host that goes on talking is found out before this event, or after, as its words come.
            if event != Event::StartTls {
                trace.event(format!("{event:?}"));
            }
            caller.hear(&mut client, event);
        }
        trace.output.extend_from_slice(client.output());
        client.sent(client.output().len());
        moved.then_some(step.consumed)
    });
    trace
}

impl Caller<'_> {
    fn hear(&mut self, client: &mut Client, event: Event) {
        assert!(!self.closed, "{event:?} after the end");
        match event {
            Event::Ready | Event::TlsRefused(_) | Event::Authenticated | Event::AuthRefused(_) => self.go_on(client),
            // TLS never comes up here.
            Event::StartTls => {}
            Event::SendBody => self.send_body(client),
            Event::Done(verdicts) => {
                assert_eq!(verdicts.len(), recipients().len());
                self.go_on(client);
            }
            Event::Closed(_) => self.closed = true,
        }
    }

    fn go_on(&mut self, client: &mut Client) {
        if std::mem::take(&mut self.starts_tls) && client.starttls().is_ok() {
            return;
        }
        if std::mem::take(&mut self.signs_in) && client.sign_in("joe", "se\r\ncret").is_ok() {
            return;
        }
        let mail = Mail {
            from: Address::parse("joe@sender.test").ok(),
            size: Some(self.body.len() as u64),
            body: self.body_type,
            ret: Some(Ret::Headers),
            envelope_id: Some("QQ=314159".into()),
            deliver_by: Some(smtp::DeliverBy { seconds: 120, returned: false, trace: true }),
            priority: Some(-3),
            ..Mail::default()
        };
        self.mails += 1;
        let send = || match self.chunks {
            Some(lead) => client.send_in_chunks(mail, recipients(), lead),
            None => client.send(mail, recipients()),
        };
        if self.mails > MAILS || send().is_err() {
            client.quit();
        }
    }

    fn send_body(&mut self, client: &mut Client) {
        let before = client.output().len();
        self.body.chunks(6).for_each(|part| client.body(part));
        client.body_end();
        let wire = &client.output()[before..];
        // The last line of a text is ended, whichever way it goes.
        let mut text = lines(self.body);
        if !text.is_empty() && !text.ends_with(b"\r\n") {
            text.extend_from_slice(b"\r\n");
        }
        if wire.starts_with(b"BDAT ") {
            let sent = if self.body_type == BodyType::BinaryMime { self.body.to_vec() } else { text };
            assert_eq!(behind_chunks(wire), sent);
        } else {
            assert_eq!(received(wire), text, "{}", wire.escape_ascii());
        }
    }
}

fn recipients() -> Vec<Rcpt> {
    let jane = Address::parse("jane@example.test").expect("an address");
    let notify = Some(Notify::On { success: true, failure: true, delay: false });
    vec![
        Rcpt { to: Recipient::Mailbox(jane), notify, original: None },
        Rcpt { to: Recipient::Postmaster, notify: None, original: None },
    ]
}

/// A body with each CR, LF and CRLF as CRLF.
fn lines(body: &[u8]) -> Vec<u8> {
    let (mut out, mut before) = (Vec::new(), 0);
    for octet in body {
        match (before, octet) {
            (b'\r', b'\n') => {}
            (_, b'\r' | b'\n') => out.extend_from_slice(b"\r\n"),
            _ => out.push(*octet),
        }
        before = *octet;
    }
    out
}

/// RFC 5321 §4.5.2: what the most careless host takes a DATA body for, one that ends lines at any CR or LF. It must see
/// the end where it is.
fn received(wire: &[u8]) -> Vec<u8> {
    let (mut body, mut rest) = (Vec::new(), wire);
    loop {
        let end = rest.iter().position(|octet| matches!(octet, b'\r' | b'\n')).expect("a line ends");
        let (line, after) = rest.split_at(end);
        let after = after.strip_prefix(b"\r\n").expect("CRLF and nothing else");
        if line == b"." {
            assert!(after.is_empty(), "the body ended early");
            return body;
        }
        body.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        body.extend_from_slice(b"\r\n");
        rest = after;
    }
}

/// RFC 3030 §2: the octets of the chunks, the last of which is at the end.
fn behind_chunks(wire: &[u8]) -> Vec<u8> {
    let (mut body, mut rest) = (Vec::new(), wire);
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a command ends");
        let command = str::from_utf8(&rest[..end]).expect("ASCII");
        let size = command.strip_prefix("BDAT ").expect("BDAT");
        let (size, last) = size.strip_suffix(" LAST").map_or((size, false), |size| (size, true));
        let (chunk, after) = rest[end + 2..].split_at(size.parse().expect("a length"));
        body.extend_from_slice(chunk);
        if last {
            assert!(after.is_empty(), "octets behind the last chunk");
            return body;
        }
        rest = after;
    }
}
