//! What is heard of mail that left, from reports to replies: on both engines.

use std::sync::{Arc, Mutex};

use base::{OrganisationId, Reply, Stream, Timestamp};
use bounce::{Classifier, Stage};
use mime::{Indexer, Limits};
use queue::log::{self, Cursor, Filter, What};
use queue::receipt::{self, Attached, End, Event, Kind, Peer, Receipt, Talk};
use queue::source::{self, Share, SourceId};
use queue::suppression::{self, Suppression};
use queue::{Came, Claimed, Outcome, Queue, QueueId, Said, Settled};

use crate::world::{DELIVERED, NOW, US, World, at, block_on, later, worlds};

impl World {
    fn claim_news(&self, now: Timestamp) -> Claimed {
        self.claim(US, Stream::Marketing, "b.test", now).claimed.swap_remove(0)
    }

    /// What each claimed delivery comes to.
    fn comes(&self, claimed: &Claimed, outcome: Outcome, now: Timestamp) {
        let one = |delivery: &queue::Delivery| {
            let (message, delivery) = (claimed.message.clone(), delivery.clone());
            let said = Said::by("mx.b.test", Stage::Dot, Reply::new(250, 0, 0, "Ok"));
            Settled { message, delivery, outcome, said, class: String::new(), rule: None }
        };
        self.record(claimed.deliveries.iter().map(one).collect(), now);
    }

    fn told(&self, id: QueueId) -> Receipt {
        self.store.read_blocking(move |tx| receipt::receipt(tx, id, 0)).unwrap().unwrap()
    }

    fn events_of(&self, id: QueueId) -> Vec<&'static str> {
        let events = self.store.read_blocking(move |tx| receipt::events(tx, id, 0)).unwrap();
        events.iter().map(|event| event.kind.word()).collect()
    }

    fn attach(&self, id: QueueId, kind: Kind, class: &str) -> Option<Attached> {
        let event = Event { at: later(5), kind, class: class.into(), detail: String::new() };
        self.store.write_blocking(move |tx| receipt::attach(tx, id, 0, &event)).unwrap()
    }

    /// News that was delivered to jane@b.test.
    fn delivered(&self, message_id: &str) -> QueueId {
        let id = self.news(message_id, &["jane@b.test"]);
        self.comes(&self.claim_news(NOW), DELIVERED, later(1));
        id
    }

    /// A mail comes in, and is stored; gives what was heard.
    fn arrives(&self, mail: &str, from: &str, whole: Arrival) -> Vec<&'static str> {
        let bytes = mail.replace('\n', "\r\n").into_bytes();
        let mut indexer = Indexer::new(Limits::default());
        indexer.push(&bytes);
        let (index, queue, from) = (indexer.finish(), self.queue.clone(), base::Address::parse(from).ok());
        let understood = move |tx: &mut store::Tx<'_>| {
            let (to, of) = ([at(whole.to)], [whole.of]);
            let (from, about) = (from.as_ref(), &whole.about[..]);
            let came =
                Came { index: &index, bytes: &bytes, from, to: &to, of: &of, about, is_addressed: whole.is_addressed };
            queue::understand(tx, &queue, Classifier::shared().unwrap(), came, later(5))
        };
        let heard = self.store.read_blocking(understood).unwrap();
        let kinds = heard.iter().map(|heard| heard.event.kind.word()).collect();
        self.store.write_blocking(move |tx| heard.iter().try_for_each(|one| queue::hear(tx, one).map(drop))).unwrap();
        kinds
    }

    fn suppressions(&self) -> Vec<(String, Option<Stream>, String)> {
        let all = self.store.read_blocking(|tx| suppression::page(tx, US, "", 9)).unwrap();
        all.into_iter().map(|Suppression { address, stream, reason, .. }| (address, stream, reason)).collect()
    }

    /// Of all that was heard: what, with how many attempts until then, and how it is known again.
    fn lines(&self) -> Vec<(What, u32, String)> {
        let all = move |tx: &mut store::Tx<'_>| log::read(tx, Cursor::START, &Filter::default(), 100);
        let lines = self.store.read_blocking(all).unwrap().lines;
        let heard = lines.iter().filter(|line| !line.what.name().starts_with("delivery."));
        heard.map(|line| (line.what, line.attempts, line.id())).collect()
    }
}

/// Where a mail arrives, and what it proves to be about.
struct Arrival {
    to: &'static str,
    of: OrganisationId,
    about: Vec<(QueueId, u32)>,
    is_addressed: bool,
}

fn to(to: &'static str) -> Arrival {
    Arrival { to, of: US, about: Vec::new(), is_addressed: false }
}

/// As a provider complains of a mail (RFC 5965): `fields` of the report, and the mail as it had it.
fn complaint(kind: &str, fields: &str, quoted: &str) -> String {
    format!(
        "From: Feedback <feedback@provider.test>
To: fbl@ours.test
Subject: A user did not want this
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary=\"cut\"

--cut
Content-Type: text/plain

One of our users pressed the button.
--cut
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: Provider-FBL/2
Version: 1
{fields}Reported-Domain: ours.test
--cut
Content-Type: message/rfc822

{quoted}From: News <joe@ours.test>
Subject: Our news

All that is new.
--cut--
"
    )
}

const NAMED: &str = "Original-Rcpt-To: <Jane@b.test>\n";
const QUOTED: &str = "Message-ID: <5e.a1@ours.test>\n";

#[test]
fn a_complaint_at_any_address_of_the_organisation_suppresses_who_complains() {
    let quoted_to = format!("To: jane@b.test\n{QUOTED}");
    for (fields, quoted) in [(NAMED, QUOTED), ("", &*quoted_to), ("Original-Rcpt-To: <hidden@b.test>\n", &*quoted_to)] {
        for w in worlds() {
            let (other, id) = (w.delivered("4e.77@ours.test"), w.delivered("5e.a1@ours.test"));
            let mail = complaint("abuse", fields, quoted);
            assert_eq!(w.arrives(&mail, "feedback@provider.test", to("fbl@ours.test")), ["complained"]);
            assert_eq!((w.events_of(id), w.events_of(other)), (vec!["complained"], vec![]));
            let suppressed = ("jane@b.test".to_owned(), Some(Stream::Marketing), "complaint".to_owned());
            assert_eq!(w.suppressions(), [suppressed]);
            // It is found again behind what left since.
            w.store.write_blocking(|tx| suppression::remove(tx, US, &at("jane@b.test"), None)).unwrap();
            w.delivered("6e.99@ours.test");
            let mail = complaint("abuse", NAMED, "Message-ID: <6E.99@ours.test>\n");
            assert_eq!(w.arrives(&mail, "", to("abuse@ours.test")), ["complained"]);
        }
    }
}

#[test]
fn what_is_heard_counts_for_the_site_that_a_new_source_sent_to() {
    for w in worlds() {
        let plan = |source| move |tx: &mut store::Tx<'_>| source::set_caps(tx, source, &[(Share::Each, vec![9])], NOW);
        w.store.write_blocking(plan(SourceId::DEFAULT)).unwrap();
        let before = later(-86_400_000);
        let by = |source: &str, site: &str, message_id: &str, when| {
            let id = w.news(message_id, &["jane@b.test"]);
            let claimed = w.claim_news(NOW);
            let peer = Peer { source: source.into(), host: "mx.b.test".into(), site: site.into(), ..Peer::default() };
            let talk = Talk { began: NOW, carried: 0, peer: peer.into(), steps: Vec::new() };
            let said = Said::by("mx.b.test", Stage::Dot, Reply::new(250, 0, 0, "Ok"));
            let said = Said { talk: Some(talk.into()), ..said };
            let (message, delivery) = (claimed.message.clone(), claimed.deliveries[0].clone());
            w.record(
                vec![Settled { message, delivery, outcome: DELIVERED, said, class: String::new(), rule: None }],
                when,
            );
            id
        };
        let hear = |id, kind: Kind, status: &str| {
            let mail = match kind {
                Kind::Complained => complaint("abuse", NAMED, ""),
                _ => report(&[("jane@b.test", "failed", status)]),
            };
            let about = Arrival { about: vec![(id, 0)], ..to("bounce@ours.test") };
            assert_eq!(w.arrives(&mail, "", about), [kind.word()]);
        };
        // Before anybody is suppressed.
        let [first, second, third, full, gone] = [
            by("default", "google", "1@ours.test", before),
            by("", "google", "2@ours.test", NOW),
            by("", "", "3@ours.test", before),
            by("", "", "4@ours.test", NOW),
            by("gone", "google", "5@ours.test", NOW),
        ];
        hear(first, Kind::Complained, "");
        hear(second, Kind::Complained, "");
        hear(second, Kind::Complained, "");
        hear(third, Kind::Bounced, "5.1.1");
        hear(full, Kind::Bounced, "5.2.2");
        hear(gone, Kind::Complained, "");
        let (seen, tomorrow) = (Arc::new(Mutex::new(Vec::new())), source::day_of(NOW) + 1);
        let note = seen.clone();
        let judge = move |tx: &mut store::Tx<'_>| {
            note.lock().unwrap().clear();
            let look = |fared: &source::Fared| {
                note.lock().unwrap().push((fared.complained, fared.bounced));
                None
            };
            source::judge(tx, &[SourceId::DEFAULT], tomorrow, 30, look)
        };
        assert_eq!(w.store.write_blocking(judge).unwrap(), []);
        // Of the day of the mail, at the host of a site that has no name; and of the day that says so.
        assert_eq!(*seen.lock().unwrap(), [(0, 1), (2, 0)]);
    }
}

#[test]
fn what_left_long_before_the_first_mail_asks_is_found_page_by_page() {
    for w in worlds() {
        let id = w.delivered("5e.a1@ours.test");
        w.news("6e.99@ours.test", &["jim@b.test"]);
        // As many segments of one time.
        for _ in 0..510 {
            w.comes(&w.claim_news(NOW), Outcome::Deferred(NOW), later(1));
        }
        let mail = complaint("abuse", NAMED, QUOTED);
        assert_eq!(w.arrives(&mail, "feedback@provider.test", to("fbl@ours.test")), ["complained"]);
        assert_eq!(w.events_of(id), ["complained"]);
    }
}

#[test]
fn what_left_is_found_by_its_message_id_when_its_segment_was_merged() {
    for mut w in worlds() {
        let first = w.delivered("0e.a1@ours.test");
        // From here on all is known that left before, and the log tells the rest.
        assert!(
            w.arrives(&complaint("abuse", NAMED, "Message-ID: <none@ours.test>\n"), "", to("fbl@ours.test")).is_empty()
        );
        let ids: Vec<_> = (1..9).map(|n| (n, w.delivered(&format!("{n}e.a1@ours.test")))).collect();
        let (queue, late) = (w.queue.clone(), later(2 * 3_600_000));
        let merge = w.store.read_blocking(move |tx| receipt::to_merge(tx, &queue, 0, late)).unwrap().unwrap();
        assert_eq!(merge.segments(), 9);
        w.store.write_blocking(move |tx| merge.write(tx)).unwrap();
        let hears = |w: &World, n: u32, id| {
            let mail = complaint("abuse", NAMED, &format!("Message-ID: <{n}e.a1@ours.test>\n"));
            assert_eq!(w.arrives(&mail, "feedback@provider.test", to("fbl@ours.test")), ["complained"], "{n}");
            assert_eq!(w.events_of(id).last(), Some(&"complained"));
        };
        hears(&w, 0, first);
        ids.iter().for_each(|(n, id)| hears(&w, *n, *id));
        // Another life reads them as they are now.
        w.queue = block_on(Queue::open(&w.store, 1, NOW)).unwrap();
        ids.iter().for_each(|(n, id)| hears(&w, *n, *id));
        assert_eq!(w.events_of(first).len(), 1);
    }
}

/// However often a Message-ID stands in the records, one mail that names it costs only so much; and from what was not looked at nothing
/// is concluded.
#[test]
fn of_a_message_id_that_left_too_often_only_the_youngest_are_told() {
    for w in worlds() {
        let (first, last) = (w.delivered("5e.a1@ours.test"), 1_100);
        let all: Vec<String> = (0..last).map(|n| format!("u{n}@b.test")).collect();
        w.news("5e.a1@ours.test", &all);
        let mut told = Vec::new();
        while told.len() < last {
            let claimed = w.claim_news(NOW);
            told.extend(claimed.deliveries.iter().map(|delivery| delivery.to.to_string()));
            w.comes(&claimed, DELIVERED, later(2));
        }
        let complains = |who: &str| {
            let mail = complaint("abuse", &format!("Original-Rcpt-To: {who}\n"), QUOTED);
            w.arrives(&mail, "feedback@provider.test", to("fbl@ours.test"))
        };
        assert_eq!(complains(&told[last - 1]), ["complained"]);
        assert_eq!(complains("jane@b.test"), [""; 0]);
        // Of whom it is, is said by To alone: there may be others.
        let mail = complaint("abuse", "", &format!("To: jane@b.test, {}\n{QUOTED}", told[last - 1]));
        assert_eq!(w.arrives(&mail, "feedback@provider.test", to("fbl@ours.test")), [""; 0]);
        assert_eq!(w.events_of(first), [""; 0]);
    }
}

/// Nobody takes another from a list by writing a complaint.
#[test]
fn a_complaint_of_who_has_not_seen_the_mail_is_nothing() {
    for w in worlds() {
        let id = w.delivered("5e.a1@ours.test");
        let guessed = "To: jane@b.test\nMessage-ID: <5e.a2@ours.test>\n";
        let two = format!("To: jane@b.test, jim@b.test\n{QUOTED}");
        let both = w.news("7e.1@ours.test", &["jane@b.test", "jim@b.test"]);
        let claimed = w.claim_news(NOW);
        w.comes(&claimed, DELIVERED, later(1));
        for (kind, fields, quoted, whole) in [
            ("abuse", NAMED, guessed, to("fbl@ours.test")),
            ("abuse", "", guessed, to("joe@ours.test")),
            ("abuse", NAMED, "", to("fbl@ours.test")),
            ("abuse", "Original-Rcpt-To: bob@b.test\n", QUOTED, to("fbl@ours.test")),
            // Of whom it is, is hidden.
            ("abuse", "", QUOTED, to("joe@ours.test")),
            ("not-spam", NAMED, QUOTED, to("fbl@ours.test")),
            ("abuse", NAMED, QUOTED, Arrival { of: OrganisationId(2), ..to("fbl@theirs.test") }),
            // One of two, and nobody says which.
            ("abuse", "", &two.replace("5e.a1", "7e.1"), to("fbl@ours.test")),
        ] {
            assert_eq!(
                w.arrives(&complaint(kind, fields, quoted), "x@b.test", whole),
                [""; 0],
                "{kind} {fields} {quoted}"
            );
        }
        assert_eq!((w.events_of(id), w.events_of(both), w.suppressions()), (vec![], vec![], vec![]));
    }
}

#[test]
fn a_complaint_that_proves_what_it_is_about_need_name_nobody() {
    for w in worlds() {
        let id = w.delivered("5e.a1@ours.test");
        let whole = Arrival { about: vec![(id, 0)], ..to("fbl@ours.test") };
        let mail = complaint("abuse", "Original-Rcpt-To: <redacted@b.test>\n", "To: redacted@b.test\n");
        assert_eq!(w.arrives(&mail, "feedback@provider.test", whole), ["complained"]);
        assert_eq!((w.events_of(id), w.suppressions().len()), (vec!["complained"], 1));
    }
}

/// A report (RFC 3464) of what became of a mail for each of some recipients.
fn report(each: &[(&str, &str, &str)]) -> String {
    let one = |(to, action, status): &(&str, &str, &str)| {
        format!("\nFinal-Recipient: rfc822; {to}\nAction: {action}\nStatus: {status}\n")
    };
    let each: String = each.iter().map(one).collect();
    format!(
        "From: MAILER-DAEMON@b.test
To: joe@ours.test
Subject: What became of your mail
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=\"cut\"

--cut
Content-Type: text/plain

Well.
--cut
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.b.test
{each}
--cut
Content-Type: text/rfc822-headers

{QUOTED}
--cut--
"
    )
}

/// A mail that somebody sends on has the return address in it of the one to whom it was sent: it proves nothing of whom that goes to.
#[test]
fn a_report_that_only_has_a_return_address_in_it_counts_for_nobody_else() {
    for w in worlds() {
        let id = w.delivered("4e.77@ours.test");
        let arrives = |named: &str, is_addressed: bool| {
            let whole = Arrival { about: vec![(id, 0)], is_addressed, ..to("jo@ours.test") };
            w.arrives(&report(&[(named, "failed", "5.1.1")]), "", whole)
        };
        assert_eq!(arrives("old@c.test", false), [""; 0]);
        assert_eq!((w.events_of(id), w.suppressions()), (vec![], vec![]));
        assert_eq!(arrives("jane@b.test", false), ["bounced"]);
        // It was sent there, and forwarded.
        assert_eq!(arrives("old@c.test", true), ["bounced"]);
    }
}

/// What a person or a machine writes back.
fn answer(from: &str, fields: &str) -> String {
    format!("From: {from}\nTo: joe@ours.test\n{fields}\nWell.\n")
}

#[test]
fn answers_of_the_recipient_are_told_and_those_of_machines_as_such() {
    let (reply, thread) = ("In-Reply-To: <5e.a1@ours.test>\n", "References: <0@b.test> <5e.a1@ours.test>\n");
    let subject = |text: &str| format!("Subject: {text}\n{reply}");
    for w in worlds() {
        let id = w.delivered("5e.a1@ours.test");
        let joe = || to("joe@ours.test");
        for (from, author, fields, whole, heard) in [
            ("jane@b.test", "jane@b.test", reply.to_owned(), joe(), "replied"),
            ("bounces@b.test", "Jane <JANE@b.test>", thread.into(), to("info@ours.test"), "replied"),
            ("jane@b.test", "jane@b.test", "References: <5e.a1@ours.test> <9@c.test>\n".into(), joe(), "replied"),
            ("jane@b.test", "jane@b.test", format!("Auto-Submitted: auto-replied\n{reply}"), joe(), "auto-replied"),
            ("jane@b.test", "jane@b.test", subject("Automatic reply: Our news"), joe(), "auto-replied"),
            ("", "team@b.test", format!("Auto-Submitted: auto-replied\n{reply}"), joe(), "auto-replied"),
            ("", "jane@b.test", reply.into(), joe(), "auto-replied"),
            // Of somebody else, at somebody else's, about something else.
            ("jim@b.test", "jim@b.test", reply.into(), joe(), ""),
            ("jane@b.test", "jane@b.test", reply.into(), Arrival { of: OrganisationId(2), ..to("a@theirs.test") }, ""),
            ("jane@b.test", "jane@b.test", "In-Reply-To: <5e.a2@ours.test>\n".into(), joe(), ""),
            ("jane@b.test", "jane@b.test", "Subject: Our news\n".into(), joe(), ""),
        ] {
            let heard = if heard.is_empty() { vec![] } else { vec![heard] };
            assert_eq!(w.arrives(&answer(author, &fields), from, whole), heard, "{from} {author} {fields}");
        }
        assert_eq!(w.events_of(id).len(), 7);
        assert_eq!(w.suppressions(), []);
        assert_eq!(w.arrives(&answer("jane@b.test", &subject("unsubscribe")), "jane@b.test", joe()), ["replied"]);
        assert_eq!(w.suppressions()[0].2, "unsubscribe");
    }
}

#[test]
fn an_answer_that_comes_at_once_finds_what_is_still_in_hand() {
    for mut w in worlds() {
        w.delivered("4e.77@ours.test");
        let id = w.news("5e.a1@ours.test", &["jane@b.test"]);
        w.claim_news(later(2));
        let mail = answer("jane@b.test", "Auto-Submitted: auto-replied\nIn-Reply-To: <5e.a1@ours.test>\n");
        assert_eq!(w.arrives(&mail, "", to("joe@ours.test")), ["auto-replied"]);
        // Nobody knows whether that had arrived: an answer says that it had.
        w.queue = block_on(Queue::open(&w.store, 1, later(11))).unwrap();
        let mail = answer("jane@b.test", "In-Reply-To: <5e.a1@ours.test>\n");
        assert_eq!(w.arrives(&mail, "jane@b.test", to("joe@ours.test")), ["replied"]);
        w.comes(&w.claim_news(later(11)), DELIVERED, later(20));
        assert_eq!((w.told(id).end, w.events_of(id)), (End::Delivered, vec!["auto-replied", "replied"]));
    }
}

/// Dialogues, and the log with them, may be kept for less time than receipts.
#[test]
fn an_answer_finds_its_mail_though_the_log_has_forgotten_it() {
    for w in worlds() {
        let answered = |id: &str| {
            let mail = answer("jane@b.test", &format!("In-Reply-To: <{id}>\n"));
            w.arrives(&mail, "jane@b.test", to("joe@ours.test"))
        };
        w.delivered("1@ours.test");
        assert_eq!(answered("1@ours.test"), ["replied"]);
        w.delivered("2@ours.test");
        assert!(w.store.write_blocking(|tx| log::forget(tx, later(1_000_000), 100)).unwrap() > 2);
        assert_eq!(answered("2@ours.test"), ["replied"]);
    }
}

/// One has its record already, the other's report is faster.
#[test]
fn what_is_in_hand_is_found_beside_what_has_left_and_neither_speaks_for_the_other() {
    for w in worlds() {
        let id = w.news("5e.a1@ours.test", &["jane@b.test", "bob@c.test"]);
        w.comes(&w.claim_news(NOW), DELIVERED, later(1));
        let in_line = answer("team@c.test", "Auto-Submitted: auto-replied\nIn-Reply-To: <5e.a1@ours.test>\n");
        assert_eq!(w.arrives(&in_line, "team@c.test", to("joe@ours.test")), [""; 0], "bob's has not even left");
        let bobs = w.claim(US, Stream::Marketing, "c.test", NOW).claimed.swap_remove(0);
        assert_eq!(w.arrives(&in_line, "", to("joe@ours.test")), [""; 0], "either may be away");
        assert_eq!(w.arrives(&report(&[("bob@c.test", "failed", "5.1.1")]), "", to("joe@ours.test")), ["bounced"]);
        let events = w.store.read_blocking(move |tx| receipt::events(tx, id, 1)).unwrap();
        assert_eq!((w.events_of(id), events.len()), (vec![], 1));
        // What is said of several is told in one order, whatever a stranger writes, so that no two wait for each other.
        let both = report(&[("bob@c.test", "failed", "5.1.1"), ("jane@b.test", "delayed", "4.4.1")]);
        assert_eq!(w.arrives(&both, "", to("joe@ours.test")), ["delayed", "bounced"]);
        w.comes(&bobs, DELIVERED, later(20));
        let ended = w.store.read_blocking(move |tx| receipt::receipt(tx, id, 1)).unwrap().unwrap();
        assert_eq!((ended.end, w.told(id).end), (End::Bounced, End::Delivered));
    }
}

#[test]
fn what_is_heard_of_an_open_delivery_is_told_at_once_and_stays_with_its_receipt() {
    for mut w in worlds() {
        let id = w.news("1@ours.test", &["jane@b.test"]);
        let claimed = w.claim_news(NOW);
        w.comes(&claimed, Outcome::Deferred(later(10)), later(1));
        assert_eq!(w.attach(id, Kind::Delayed, ""), Some(Attached::Open));
        // It dies in the middle of an attempt: the mail may have arrived.
        w.claim_news(later(10));
        w.queue = block_on(Queue::open(&w.store, 1, later(11))).unwrap();
        assert_eq!(w.attach(id, Kind::Answered, ""), Some(Attached::Open));
        let lines = w.lines();
        let short: Vec<_> = lines.iter().map(|(what, attempts, _)| (*what, *attempts)).collect();
        assert_eq!(short, [(What::ReportDelayed, 1), (What::Answered, 2)]);
        w.comes(&w.claim_news(later(11)), DELIVERED, later(20));
        assert_eq!((w.told(id).end, w.events_of(id)), (End::Delivered, vec!["delayed", "auto-replied"]));
        assert_eq!(w.lines(), lines, "whoever reads them again knows them again");
        let gone = w.news("2@ours.test", &["jim@b.test"]);
        w.store.write_blocking(move |tx| queue::cancel(tx, gone, 0, later(30))).unwrap();
        let none = QueueId::of_bits(gone.bits() + 1);
        assert_eq!((w.attach(none, Kind::Answered, ""), w.events_of(none)), (None, vec![]));
    }
}

#[test]
fn a_failure_that_is_reported_faster_than_it_is_noted_that_it_was_delivered_counts() {
    for w in worlds() {
        let id = w.news("1@ours.test", &["jane@b.test"]);
        let claimed = w.claim_news(NOW);
        assert_eq!(w.attach(id, Kind::Bounced, "no-such-user"), Some(Attached::Open));
        w.comes(&claimed, DELIVERED, later(20));
        let told = w.told(id);
        assert_eq!((told.end, told.class.as_str(), w.events_of(id)), (End::Bounced, "no-such-user", vec!["bounced"]));
    }
}
