//! The real resolver against a DNS server of a few lines, over UDP on loopback.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, CNAME, MX, PTR, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use net::{Deadline, DnsError, MailHosts, Resolver};
use tokio::net::UdpSocket;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// What the server says to a question; None: nothing at all.
fn answer(name: &str, kind: RecordType) -> Option<(ResponseCode, Vec<Record>)> {
    let record = |owner: &str, data| Record::from_rdata(Name::from_ascii(owner).unwrap(), 60, data);
    let host = |name: &str| Name::from_ascii(name).unwrap();
    let mx = |owner, preference, to: &str| record(owner, RData::MX(MX::new(preference, host(to))));
    let records = match (name, kind) {
        ("silent.test.", _) => return None,
        ("broken.test.", _) => return Some((ResponseCode::ServFail, vec![])),
        ("refused.test.", _) => return Some((ResponseCode::Refused, vec![])),
        ("example.test.", RecordType::MX) => {
            vec![mx("example.test.", 20, "MX2.example.test."), mx("example.test.", 10, "mx1.example.test.")]
        }
        ("null.test.", RecordType::MX) => vec![mx("null.test.", 0, ".")],
        ("alias.test.", RecordType::MX) => vec![
            record("alias.test.", RData::CNAME(CNAME(host("example.test.")))),
            mx("example.test.", 10, "mx1.example.test."),
        ],
        ("mx1.example.test.", RecordType::A) => vec![
            record("mx1.example.test.", RData::A(A::new(192, 0, 2, 1))),
            record("unasked.example.test.", RData::A(A::new(192, 0, 2, 66))),
        ],
        ("example.test.", RecordType::TXT) => {
            vec![record("example.test.", RData::TXT(TXT::new(vec!["v=spf1 ".into(), "-all".into()])))]
        }
        ("1.2.0.192.in-addr.arpa.", RecordType::PTR) => {
            vec![record("1.2.0.192.in-addr.arpa.", RData::PTR(PTR(host("mx1.example.test."))))]
        }
        ("example.test." | "mx1.example.test." | "null.test.", _) => vec![],
        _ => return Some((ResponseCode::NXDomain, vec![])),
    };
    Some((ResponseCode::NoError, records))
}

async fn server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 4096];
        while let Ok((len, peer)) = socket.recv_from(&mut packet).await {
            let question = Message::from_vec(&packet[..len]).unwrap();
            let query = question.queries[0].clone();
            let name = query.name().to_lowercase().to_ascii();
            let Some((code, records)) = answer(&name, query.query_type()) else { continue };
            let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
            reply.metadata.response_code = code;
            reply.metadata.recursion_available = true;
            reply.add_query(query);
            reply.add_answers(records);
            socket.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    addr
}

#[tokio::test]
async fn what_servers_say_is_told_apart() {
    let dns = Resolver::servers(&[server().await], false).unwrap();
    let mx = async |domain| dns.mail_hosts(domain, || 0, soon()).await;

    let Ok(MailHosts::Mx(found)) = mx("example.test").await else { panic!() };
    let hosts: Vec<_> = found.records.iter().map(|mx| (mx.preference, mx.host.as_str())).collect();
    assert_eq!(hosts, [(10, "mx1.example.test"), (20, "mx2.example.test")]);
    assert!(!found.secure);
    let Ok(MailHosts::Mx(found)) = mx("alias.test").await else { panic!() };
    assert_eq!((found.name.as_str(), found.records.len()), ("example.test", 1));
    assert_eq!(mx("null.test").await, Ok(MailHosts::Null));
    assert_eq!(mx("mx1.example.test").await, Ok(MailHosts::Implicit));
    assert_eq!(mx("missing.test").await, Err(DnsError::NoSuchName));
    assert!(mx("broken.test").await.unwrap_err().is_transient());
    assert!(mx("refused.test").await.unwrap_err().is_transient());

    let ips = dns.addresses("mx1.example.test", soon()).await.unwrap();
    assert_eq!(ips.records, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(dns.addresses("example.test", soon()).await, Err(DnsError::NoData));
    assert_eq!(dns.txt("example.test", soon()).await.unwrap().records, [b"v=spf1 -all"]);
    assert_eq!(dns.ptr("192.0.2.1".parse().unwrap(), soon()).await.unwrap().records, ["mx1.example.test"]);
}

#[tokio::test]
async fn a_silent_server_costs_no_more_than_the_deadline() {
    let dns = Resolver::servers(&[server().await], false).unwrap();
    let found = dns.mail_hosts("silent.test", || 0, Deadline::after(Duration::from_millis(50))).await;
    assert!(found.unwrap_err().is_transient());
}
