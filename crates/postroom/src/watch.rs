//! What the operator's monitoring sees: `/healthz` and `/metrics`.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use base::{Stream, Timestamp};
use http::Site;
use outbox::telemetry::Figures;
use outbox::{Meter, OUTCOMES, Traffic, Waited};
use queue::log;
use queue::webhook::{self, Webhook};
use server::{Count, Counters, ServiceCounts};

use crate::house::House;

/// A store that has not answered after this long is sick.
const PATIENCE: Duration = Duration::from_secs(5);

/// Deliveries that wait are counted so far: it is a read of some milliseconds, however long the queue is.
const COUNTED: u32 = 100_000;

/// The server, seen from outside.
pub struct Watch {
    pub house: House,
    pub outbox: Meter,
    pub counters: Arc<Counters>,
    /// Where traces are told.
    pub telemetry: Option<Arc<Figures>>,
}

impl Site for Watch {
    /// The store answers a read. That it takes writes too, each mail finds out. A disk that is nearly full is no reason to
    /// send people to another server, nor to start this one again: they are to read their mail, and to delete some.
    async fn health(&self) -> Result<String, String> {
        let read = self.house.store.read(directory::domains);
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(_)) if self.is_full() => Ok("ok, but the disk is nearly full: new mail is refused".into()),
            Ok(Ok(_)) => Ok("ok".into()),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err(format!("the store has not answered for {} s", PATIENCE.as_secs())),
        }
    }

    async fn metrics(&self) -> String {
        let (c, mut out) = (&self.counters, String::new());
        type Pick = fn(&ServiceCounts) -> &Count;
        let by_service: [(&str, &str, &str, Pick); 4] = [
            ("postroom_connections_total", "counter", "Connections accepted.", |s| &s.connections),
            ("postroom_connections_open", "gauge", "Connections open now.", |s| &s.open),
            ("postroom_sign_ins_total", "counter", "Sign-ins that succeeded.", |s| &s.signed_in),
            ("postroom_sign_ins_refused_total", "counter", "Sign-ins that were refused.", |s| &s.sign_ins_refused),
        ];
        for (metric, kind, help, pick) in by_service {
            family(&mut out, metric, kind, help);
            for (service, counts) in c.services() {
                sample(&mut out, metric, "service", service, pick(counts).get());
            }
        }
        family(&mut out, "postroom_mails_total", "counter", "Mails received whole, by what became of them.");
        for (outcome, count) in
            [("accepted", &c.mails_accepted), ("refused", &c.mails_refused), ("deferred", &c.mails_deferred)]
        {
            sample(&mut out, "postroom_mails_total", "outcome", outcome, count.get());
        }
        let (name, help) =
            ("postroom_attempts_total", "Deliveries to other hosts tried, by stream and what came of it.");
        family(&mut out, name, "counter", help);
        for stream in Stream::ALL {
            for (outcome, count) in self.outbox.outcomes_of(stream) {
                let _ = writeln!(out, "{name}{{stream=\"{stream}\",outcome=\"{outcome}\"}} {count}");
            }
        }
        sites(&mut out, &self.outbox.traffic());
        let (name, help) = ("postroom_first_attempt_seconds", "How long recipients waited for their first attempt.");
        family(&mut out, name, "histogram", help);
        for stream in Stream::ALL {
            waited(&mut out, name, stream, &self.outbox.waited(stream));
        }
        let help = "Sites, each as a source knows it, that asked for a pause.";
        gauge(&mut out, "postroom_sites_paused", help, self.outbox.paused_sites() as u64);
        let help = "1 while the disk is nearly full and new mail is refused.";
        gauge(&mut out, "postroom_disk_nearly_full", help, u64::from(self.is_full()));
        let help = "1 when the DNS resolver proves what it says (DNSSEC), so that DANE protects mail.";
        gauge(&mut out, "postroom_dnssec_validates", help, u64::from(self.outbox.validates()));
        gauge(&mut out, "postroom_queue_claimed", "Deliveries being tried now.", self.outbox.claimed() as u64);
        let help = "Groups (a domain's mail of one stream) that are held: no place for it, or its site wants none now.";
        gauge(&mut out, "postroom_queue_held_groups", help, self.outbox.held_groups() as u64);
        // A store that does not answer is for /healthz to tell: the other numbers are as good.
        if let Some(waiting) = self.waiting().await {
            let overdue = self
                .outbox
                .first_due()
                .map_or(0, |due| self.house.clock.now().0.saturating_sub(due.0).max(0) as u64 / 1000);
            let help = "Deliveries that wait, due or not; counted up to 100000.";
            gauge(&mut out, "postroom_queue_waiting", help, waiting);
            let help = "For how long the delivery that is due longest has been due.";
            gauge(&mut out, "postroom_queue_oldest_due_seconds", help, overdue);
        }
        if let Some((hooks, last)) = self.told().await {
            webhooks(&mut out, &hooks, self.house.clock.now());
            if let Some(figures) = &self.telemetry {
                telemetry(&mut out, figures, last);
            }
        }
        out
    }
}

impl Watch {
    fn is_full(&self) -> bool {
        self.house.store.check_space().is_err()
    }

    /// How many deliveries wait.
    async fn waiting(&self) -> Option<u64> {
        let read = self.house.store.read(|tx| queue::waiting(tx, COUNTED));
        tokio::time::timeout(PATIENCE, read).await.ok()?.ok()
    }

    /// How all webhooks stand, and the end of the log.
    async fn told(&self) -> Option<(Vec<Standing>, i64)> {
        let read = self.house.store.read(|tx| {
            let mut all = Vec::new();
            for hook in webhook::all(tx)? {
                let waiting = webhook::waiting(tx, hook.id)?;
                let taken = waiting.keys().next().map_or(hook.record.position, |first| first.0 - 1);
                let behind = log::behind(tx, taken)?;
                all.push(Standing { hook, waiting: waiting.len(), behind });
            }
            Ok((all, log::last(tx)?))
        });
        tokio::time::timeout(PATIENCE, read).await.ok()?.ok()
    }
}

/// By names of which there is a bounded number.
fn sites(out: &mut String, all: &[Traffic]) {
    let name = "postroom_site_recipients_total";
    family(out, name, "counter", "Recipients by source, site and stream, and what an attempt for them came to.");
    for Traffic { source, site, stream, recipients } in all {
        // Names of hosts are strangers'.
        let site: String =
            site.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' }).collect();
        for (outcome, count) in OUTCOMES.iter().zip(recipients) {
            let labels = format!("source=\"{source}\",site=\"{site}\",stream=\"{stream}\",outcome=\"{outcome}\"");
            let _ = writeln!(out, "{name}{{{labels}}} {count}");
        }
    }
}

fn waited(out: &mut String, name: &str, stream: Stream, waited: &Waited) {
    for (seconds, count) in &waited.up_to {
        let _ = writeln!(out, "{name}_bucket{{stream=\"{stream}\",le=\"{seconds}\"}} {count}");
    }
    let Waited { count, sum, .. } = waited;
    let _ = writeln!(out, "{name}_bucket{{stream=\"{stream}\",le=\"+Inf\"}} {count}");
    let _ = writeln!(out, "{name}_sum{{stream=\"{stream}\"}} {sum}\n{name}_count{{stream=\"{stream}\"}} {count}");
}

/// A webhook, what waits for its next try, and when the first was written that it did not take.
struct Standing {
    hook: Webhook,
    waiting: usize,
    behind: Option<Timestamp>,
}

/// By their numbers: an administrator may have fifty.
fn webhooks(out: &mut String, all: &[Standing], now: Timestamp) {
    let since = |then: Option<Timestamp>| then.map_or(0, |then| now.0.saturating_sub(then.0).max(0) as u64 / 1000);
    type Pick = fn(&Standing) -> u64;
    let counted: [(&str, &str, &str, Pick); 5] = [
        ("postroom_webhook_delivered_total", "counter", "Events that a webhook took.", |s| s.hook.record.taken),
        ("postroom_webhook_failed_total", "counter", "Events given up, tried for days.", |s| s.hook.record.given_up),
        ("postroom_webhook_lost_total", "counter", "Places of the log that were gone too early.", |s| {
            s.hook.record.lost
        }),
        ("postroom_webhook_waiting", "gauge", "Events that wait for their next try.", |s| s.waiting as u64),
        ("postroom_webhook_on", "gauge", "0 while it is paused or disabled.", |s| {
            u64::from(s.hook.setup.state == webhook::State::On)
        }),
    ];
    for (metric, kind, help, pick) in counted {
        family(out, metric, kind, help);
        for one in all {
            sample(out, metric, "webhook", &one.hook.id.to_string(), pick(one));
        }
    }
    type When = fn(&Standing) -> Option<Timestamp>;
    let timed: [(&str, &str, When); 2] = [
        ("postroom_webhook_lag_seconds", "Age of the oldest event that it did not take yet.", |s| s.behind),
        ("postroom_webhook_failing_seconds", "How long it has taken none.", |s| s.hook.record.failing),
    ];
    for (metric, help, pick) in timed {
        family(out, metric, "gauge", help);
        for one in all {
            sample(out, metric, "webhook", &one.hook.id.to_string(), since(pick(one)));
        }
    }
}

/// What is told of traces.
fn telemetry(out: &mut String, figures: &Figures, last: i64) {
    family(out, "postroom_telemetry_spans_total", "counter", "Spans, by what the collector made of them.");
    for (outcome, count) in [("taken", figures.taken()), ("refused", figures.refused())] {
        sample(out, "postroom_telemetry_spans_total", "outcome", outcome, count);
    }
    let counted = [
        ("postroom_telemetry_failed_requests_total", "Requests that were not answered with success.", figures.failed()),
        ("postroom_telemetry_lost_total", "Places of the log that were gone before they were read.", figures.lost()),
    ];
    for (metric, help, count) in counted {
        family(out, metric, "counter", help);
        let _ = writeln!(out, "{metric} {count}");
    }
    if let Some(position) = figures.position() {
        let help = "Places of the log that were not told yet.";
        gauge(out, "postroom_telemetry_behind", help, last.saturating_sub(position).max(0) as u64);
    }
}

fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    family(out, name, "gauge", help);
    let _ = writeln!(out, "{name} {value}");
}

/// Writing to a String does not fail.
fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn sample(out: &mut String, name: &str, label: &str, value: &str, count: u64) {
    let _ = writeln!(out, "{name}{{{label}=\"{value}\"}} {count}");
}
