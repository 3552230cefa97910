//! The IMAP machine against any client. The first octet chooses the session, the rest is what the client sends.
//!
//! No panic; the size of the reads makes no difference; all input is used at once; the output is bounded by the input; a
//! message has the octets it was announced with; and what a command holds (sets, searches, names) can be worked with.
#![no_main]

use std::convert::Infallible;

use fuzz::{PIECES, Trace, feed};
use imap::{Command, Config, Event, Limits, SearchOp, SearchProgram, SequenceSet, Server};

/// What the machine can say to one line beside the client's own tag.
const MAX_REPLY: usize = 256;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let whole = run(*choice, data, PIECES[0]);
    let lines = 1 + data.iter().filter(|b| **b == b'\n').count();
    assert!(whole.output.len() <= data.len() + lines * MAX_REPLY, "too much output");
    for piece in &PIECES[1..] {
        whole.must_equal(&run(*choice, data, *piece), *piece);
    }
});

fn run(choice: u8, data: &[u8], piece: usize) -> Trace {
    let on = |bit: u8| choice & 1 << bit != 0;
    // Small, so that short inputs reach them.
    let narrow = Limits { text: 200, literal: 20, literal_sum: 40, literals: 3 };
    let config = if on(0) { Config { before_login: narrow, after_login: narrow } } else { Config::default() };
    let mut imap = Server::new(config);
    if on(1) {
        imap.set_authenticated();
    }
    if on(2) {
        imap.set_utf8();
    }
    let (mut trace, mut announced) = (Trace::default(), 0);
    // The machine keeps an unfinished line itself: nothing is ever left unread.
    feed(data, piece, 1, |unread| {
        let step = imap.step(unread);
        let moved = step.consumed > 0 || step.event.is_some();
        match step.event {
            Some(Event::AppendData(part)) => trace.body.extend_from_slice(part),
            Some(event) => {
                let body = trace.event(describe(&event));
                match &event {
                    Event::AppendMessage(message) => announced = message.size,
                    Event::AppendMessageEnd => assert_eq!(body.len() as u64, announced),
                    _ => {}
                }
                answer(&mut imap, event, on(3));
            }
            None => {}
        }
        trace.output.append(imap.output());
        moved.then_some(step.consumed)
    });
    trace
}

/// `Debug` hides what is secret, which must be compared too.
fn describe(event: &Event) -> String {
    let secret = match event {
        Event::Command { command: Command::Login { password, .. }, .. } => Some(password),
        Event::Command { command: Command::Authenticate { initial, .. }, .. } => initial.as_ref(),
        _ => None,
    };
    format!("{event:?} {:?}", secret.map(|s| s.0.escape_ascii().to_string()))
}

/// A session whose answers depend on nothing but the event, and on whether it takes messages.
fn answer(imap: &mut Server, event: Event, refuses: bool) {
    match event {
        Event::Command { tag, command } => {
            work_with(&command);
            match command {
                Command::Idle => imap.start_idle(tag),
                Command::Authenticate { initial: None, .. } => imap.challenge(tag, b"more"),
                Command::Login { .. } | Command::Authenticate { .. } => imap.set_authenticated(),
                Command::Enable(enable) if enable.utf8 || enable.rev2 => imap.set_utf8(),
                _ => {}
            }
        }
        Event::AppendStart { mailbox, .. } if refuses && mailbox.is_inbox() => imap.refuse_append(),
        Event::AppendMessage(message) if refuses && message.size > 10 => imap.refuse_append(),
        Event::AppendMessageEnd if refuses => imap.refuse_append(),
        _ => {}
    }
}

/// What a session does with a command's parts.
fn work_with(command: &Command) {
    match command {
        Command::Fetch { set, .. } | Command::Store { set, .. } | Command::UidExpunge(set) => resolve(set),
        Command::Copy { set, mailbox, .. } | Command::Move { set, mailbox, .. } => {
            resolve(set);
            encode(mailbox.as_str());
        }
        Command::Search { search, .. } => evaluate(&search.program),
        Command::Select(select) | Command::Examine(select) => encode(select.mailbox.as_str()),
        Command::List(list) => list.patterns.iter().for_each(|pattern| encode(pattern)),
        _ => {}
    }
}

/// A set resolves to rising ranges, and is written in a form that means the same.
fn resolve(set: &SequenceSet) {
    let mut written = Vec::new();
    set.write(&mut written);
    let again = SequenceSet::parse(&written).expect("a set that can be read");
    for max in [0, 1, 500, u32::MAX] {
        let ranges = set.resolve(max);
        assert!(ranges.as_slice().windows(2).all(|pair| pair[0].end() < pair[1].start()), "{ranges:?}");
        assert_eq!(ranges.as_slice(), again.resolve(max).as_slice());
    }
}

/// A search ends, whatever its keys say, and asks no key twice.
fn evaluate(program: &SearchProgram) {
    let keys = program.ops().iter().filter(|op| matches!(op, SearchOp::Key(_))).count();
    assert_eq!(keys, program.keys().count());
    for answers in [0u64, u64::MAX, 0xAAAA_AAAA_AAAA_AAAA, 0x3333_5555_0F0F_1248] {
        let mut asked = 0;
        let Ok(_) = program.matches(|_| {
            asked += 1;
            Ok::<_, Infallible>(answers >> (asked % 64) & 1 == 1)
        });
        assert!(asked <= keys);
    }
}

/// A name comes back from modified UTF-7.
fn encode(name: &str) {
    let mut wire = Vec::new();
    imap::utf7_encode(name, &mut wire);
    assert!(wire.is_ascii());
    assert_eq!(imap::utf7_decode(&wire).as_deref(), Some(name));
}
