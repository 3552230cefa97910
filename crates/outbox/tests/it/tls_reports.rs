//! Reports about TLS: what is counted, whom it is told, and that nothing is told of the telling.

use std::io::Read;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use net::{CertFiles, Tls, Tlsa};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use store::Tx;
use testkit::Dir;
use trust::NewKeys;
use trust::tls_report::{Applied, Kind, ResultType, Sessions, add, of};

use crate::peer::{Character, Peer};
use crate::sts::outcome;
use crate::tls::{certificate, offering};
use crate::web::Web;
use crate::world::{HOUR, NOW, Net, World, rules};

/// The day of [`NOW`].
const TODAY: i64 = 19_675;

struct Scene {
    net: Net,
    peer: Peer,
    web: Web,
    dir: Arc<Dir>,
}

fn tls(files: &CertFiles) -> Tls {
    Tls::load(vec![files.clone()]).unwrap()
}

/// `b.test` with a policy of this mode; its host shows the certificate of `host`.
fn scene(mode: &str, host: &str) -> Scene {
    let dir = Arc::new(Dir::new("outbox-tlsrpt"));
    let (mx, web) = (certificate(&dir, host), certificate(&dir, "mta-sts.b.test"));
    let (net, peer) = Net::default().host("b.test", 1, offering(&mx));
    let net = net.dns(|zone| zone.txt("_mta-sts.b.test", "v=STSv1; id=1;"));
    let (net, page) = net.web("mta-sts.b.test", 9, tls(&web));
    page.says("200 OK", "text/plain", &format!("version: STSv1\nmode: {mode}\nmx: mx.b.test\nmax_age: 604800\n"));
    let net = net.trusting(mx.chain).trusting(web.chain).keeping(&dir);
    Scene { net, peer, web: page, dir }
}

/// What was counted of a domain's first day: kind, good, bad, and how it failed.
async fn counted(w: &World, domain: &'static str) -> Vec<(Kind, u64, u64, Vec<ResultType>)> {
    w.pass(61).await;
    let mut all = Vec::new();
    w.until("it is counted", async || {
        all = w.store.read(move |tx| of(tx, TODAY, domain)).await.unwrap();
        !all.is_empty()
    })
    .await;
    let results = |s: &Sessions| s.failures.iter().map(|(f, _)| f.result).collect();
    all.iter().map(|s| (s.applied.kind, s.good, s.bad, results(s))).collect()
}

#[tokio::test(start_paused = true)]
async fn sessions_are_counted_by_what_the_policy_wants() {
    use ResultType::{CertificateHostMismatch, StartTlsNotSupported};
    for (mode, host, plain, good, failure) in [
        ("enforce", "mx.b.test", false, 1, vec![]),
        ("enforce", "mx.evil.test", false, 0, vec![CertificateHostMismatch]),
        ("enforce", "mx.b.test", true, 0, vec![StartTlsNotSupported]),
        ("testing", "mx.b.test", false, 1, vec![]),
        ("testing", "mx.evil.test", false, 0, vec![CertificateHostMismatch]),
        ("testing", "mx.b.test", true, 0, vec![StartTlsNotSupported]),
    ] {
        let Scene { net, peer, .. } = scene(mode, host);
        if plain {
            peer.becomes(rules(&[]));
        }
        let w = net.world().await;
        outcome(&w, &peer).await;
        assert_eq!(counted(&w, "b.test").await, [(Kind::Sts, good, 1 - good, failure)], "{mode} {host} {plain}");
    }
}

#[tokio::test(start_paused = true)]
async fn hosts_that_the_policy_does_not_name_and_policies_that_cannot_be_had_are_counted() {
    let Scene { net, peer, web, .. } = scene("enforce", "mx.b.test");
    web.says("200 OK", "text/plain", "version: STSv1\nmode: enforce\nmx: mx.c.test\nmax_age: 604800\n");
    let w = net.world().await;
    outcome(&w, &peer).await;
    assert_eq!(counted(&w, "b.test").await, [(Kind::Sts, 0, 1, vec![ResultType::ValidationFailure])]);
    drop(w);
    let Scene { net, peer, web, .. } = scene("enforce", "mx.b.test");
    web.says("404 Not Found", "text/plain", "");
    let w = net.world().await;
    outcome(&w, &peer).await;
    assert_eq!(counted(&w, "b.test").await, [(Kind::Sts, 0, 1, vec![ResultType::StsPolicyFetchError])]);
}

#[tokio::test(start_paused = true)]
async fn dane_is_counted_for_the_domain_whose_mail_it_was() {
    for fits in [true, false] {
        let dir = Dir::new("outbox-tlsrpt");
        let shown = certificate(&dir, "mx.b.test");
        let data = CertificateDer::from_pem_file(&shown.chain).unwrap().to_vec();
        let data = if fits { data } else { vec![1] };
        let (net, peer) = Net::default().host("b.test", 1, offering(&shown));
        let record = Tlsa { usage: 3, selector: 0, matching: 0, data };
        let net = net.dns(|zone| {
            zone.tlsa("mx.b.test", record).signed("b.test").signed("mx.b.test").signed("_25._tcp.mx.b.test")
        });
        let w = net.world().await;
        outcome(&w, &peer).await;
        let (good, failures) = if fits { (1, vec![]) } else { (0, vec![ResultType::CertificateNotTrusted]) };
        assert_eq!(counted(&w, "b.test").await, [(Kind::Tlsa, good, 1 - good, failures)]);
    }
}

/// The text in the last part of a report.
fn told(mail: &str) -> String {
    let (_, rest) = mail.split_once(".json.gz\"\r\n\r\n").unwrap();
    let body: String = rest.split("\r\n\r\n").next().unwrap().split("\r\n").collect();
    unzipped(&STANDARD.decode(body).unwrap())
}

fn unzipped(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

async fn with_keys(w: &World) {
    let keys = NewKeys::generate(NOW).unwrap();
    w.store.write(move |tx| trust::add_keys(tx, "example.test", &keys)).await.unwrap();
}

/// Until the day is over and its reports have gone.
async fn a_day_passes(w: &World) {
    for _ in 0..7 {
        w.pass(HOUR).await;
    }
    w.until("it is told", async || {
        w.pass(601).await;
        w.store.read(|tx| of(tx, TODAY, "b.test")).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn trap_17_a_report_goes_whatever_the_policy_says_and_none_is_made_of_it() {
    // The reports' readers are behind the policy that fails.
    let Scene { net, peer, .. } = scene("enforce", "mx.evil.test");
    let net = net.dns(|zone| zone.txt("_smtp._tls.b.test", "v=TLSRPTv1; rua=mailto:tls@b.test"));
    let w = net.world().await;
    with_keys(&w).await;
    assert!(outcome(&w, &peer).await.starts_with("451 4.7.5"));
    counted(&w, "b.test").await;
    a_day_passes(&w).await;
    w.until("the report arrives", async || {
        w.pass(1).await;
        !peer.taken().is_empty()
    })
    .await;
    let report = peer.taken().remove(0);
    assert_eq!((report.from.as_str(), report.to), ("", vec!["tls@b.test".to_owned()]));
    for words in [
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.test;",
        "a=ed25519-sha256;",
        "From: <postmaster@example.test>\r\n",
        "TLS-Report-Domain: b.test\r\n",
        "TLS-Report-Submitter: mx.example.test\r\n",
    ] {
        assert!(report.body.contains(words), "{words}\n{}", report.body);
    }
    let text = told(&report.body);
    for words in
        ["\"policy-domain\":\"b.test\"", "\"certificate-host-mismatch\"", "\"total-successful-session-count\":0"]
    {
        assert!(text.contains(words), "{text}");
    }
    // The connection that carried it is counted nowhere.
    let tomorrow = w.store.read(|tx| of(tx, TODAY + 1, "b.test")).await.unwrap();
    let good: u64 = tomorrow.iter().map(|s| s.good).sum();
    assert_eq!(good, 0);
    // That the mail itself takes long its sender may hear.
    assert!(w.inbox().await.iter().all(|mail| !mail.contains("tls@b.test")), "nobody is told of reports");
}

#[tokio::test(start_paused = true)]
async fn trap_17_a_report_that_bounces_is_reported_to_nobody() {
    let Scene { net, peer, .. } = scene("enforce", "mx.b.test");
    let net = net.dns(|zone| zone.txt("_smtp._tls.b.test", "v=TLSRPTv1; rua=mailto:tls@b.test"));
    let w = net.world().await;
    outcome(&w, &peer).await;
    counted(&w, "b.test").await;
    peer.becomes(Character { rules: vec![("RCPT", crate::peer::Act::Say("550 5.1.1 No such user"))], ..rules(&[]) });
    a_day_passes(&w).await;
    w.until("it is refused", async || {
        w.pass(1).await;
        peer.all_said().iter().any(|line| line.starts_with("RCPT TO:<tls@b.test>")) && w.metered().0[2] == 1
    })
    .await;
    assert_eq!(w.inbox().await.len(), 0);
    assert_eq!(w.store.read(|tx| of(tx, TODAY + 1, "b.test")).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_report_by_https_is_tried_until_it_is_taken() {
    let Scene { net, peer, dir, .. } = scene("testing", "mx.b.test");
    let files = certificate(&dir, "reports.b.test");
    let (net, reader) = net.web("reports.b.test", 8, tls(&files));
    reader.says("503 Busy", "text/plain", "");
    let record = "v=TLSRPTv1; rua=https://reports.b.test/v1";
    let w = net.dns(|zone| zone.txt("_smtp._tls.b.test", record)).trusting(files.chain).world().await;
    outcome(&w, &peer).await;
    counted(&w, "b.test").await;
    w.until("it is tried", async || {
        w.pass(601).await;
        !reader.asked().is_empty()
    })
    .await;
    assert_eq!(w.store.read(|tx| of(tx, TODAY, "b.test")).await.unwrap().len(), 1);
    // Not every ten minutes.
    for _ in 0..9 {
        w.pass(601).await;
    }
    assert_eq!(reader.asked().len(), 1);
    reader.says("201 Created", "text/plain", "");
    a_day_passes(&w).await;
    let asked = reader.asked().pop().unwrap();
    assert!(asked.starts_with("POST /v1 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("content-type: application/tlsrpt+gzip\r\n"), "{asked}");
    let (_, body) = asked.split_once("\r\n\r\n").unwrap();
    let body: Vec<u8> = body.chars().map(|c| c as u8).collect();
    assert!(unzipped(&body).contains("\"total-successful-session-count\":1"));
}

/// RFC 8460 §4.1: a report a day, though another of the readers is broken.
#[tokio::test(start_paused = true)]
async fn who_has_a_report_is_not_sent_it_again() {
    for order in [["good", "bad"], ["bad", "good"]] {
        let Scene { net, peer, dir, .. } = scene("testing", "mx.b.test");
        let files = ["good.b.test", "bad.b.test"].map(|host| certificate(&dir, host));
        let (net, good) = net.web("good.b.test", 7, tls(&files[0]));
        let (net, bad) = net.web("bad.b.test", 8, tls(&files[1]));
        good.says("201 Created", "text/plain", "");
        bad.says("503 Busy", "text/plain", "");
        let record = format!("v=TLSRPTv1; rua={}", order.map(|host| format!("https://{host}.b.test/")).join(","));
        let net = net.dns(|zone| zone.txt("_smtp._tls.b.test", &record));
        let [first, second] = files;
        let w = net.trusting(first.chain).trusting(second.chain).world().await;
        outcome(&w, &peer).await;
        counted(&w, "b.test").await;
        a_day_passes(&w).await;
        assert_eq!((good.asked().len(), bad.asked().len()), (1, 1), "{order:?}");
    }
}

/// Readers that never answer keep no other domain's report back.
#[tokio::test(start_paused = true)]
async fn trap_20_slow_readers_keep_no_report_from_others() {
    let Scene { net, dir, .. } = scene("testing", "mx.b.test");
    let files = ["slow.b.test", "good.b.test"].map(|host| certificate(&dir, host));
    let (net, slow) = net.web("slow.b.test", 7, tls(&files[0]));
    let (net, good) = net.web("good.b.test", 8, tls(&files[1]));
    slow.says_nothing();
    good.says("201 Created", "text/plain", "");
    let all = ["https://slow.b.test/"; 5].join(",");
    let net = net.dns(|zone| {
        let zone = zone.txt("_smtp._tls.b.test", "v=TLSRPTv1; rua=https://good.b.test/");
        zone.txt("_smtp._tls.a.test", &format!("v=TLSRPTv1; rua={all}"))
    });
    let [first, second] = files;
    let w = net.trusting(first.chain).trusting(second.chain).world().await;
    // Both are due, and the slow one is the first.
    let applied = Applied { kind: Kind::Sts, name: "1".into(), lines: vec![], hosts: vec![] };
    let sessions = Sessions { applied, good: 1, bad: 0, failures: vec![] };
    let job =
        move |tx: &mut Tx<'_>| ["a.test", "b.test"].iter().try_for_each(|domain| add(tx, TODAY - 1, domain, &sessions));
    w.store.write(job).await.unwrap();
    w.until("the slow one is asked", async || {
        w.pass(3).await;
        !slow.asked().is_empty()
    })
    .await;
    // No time passes, and so its readers have theirs still.
    w.until("the other is asked meanwhile", async || !good.asked().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_ask_is_not_told_and_today_is_not_told_yet() {
    let Scene { net, peer, .. } = scene("testing", "mx.b.test");
    let w = net.world().await;
    outcome(&w, &peer).await;
    counted(&w, "b.test").await;
    w.pass(HOUR).await;
    assert_eq!(w.store.read(|tx| of(tx, TODAY, "b.test")).await.unwrap().len(), 1);
    a_day_passes(&w).await;
    assert_eq!(peer.taken().len(), 1);
}
