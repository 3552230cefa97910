//! What others are measured by: ready-made mails, written by our client to the same sites, with nothing kept of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base::Address;
use net::{Deadline, Dialer};
use smtp::client::{Client, Config, Event};
use smtp::{Mail, Rcpt, Recipient};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::mail::{self, recipient, unsigned};
use crate::{SITES, address};

/// Connections to each site.
const CONNECTIONS: u32 = 4;

pub fn run(port: u16, n: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let began = Instant::now();
    runtime.block_on(async {
        let next: Arc<Vec<AtomicU32>> = Arc::new((0..SITES).map(AtomicU32::new).collect());
        let body: Arc<[u8]> = unsigned(&recipient(0), 8192).into();
        let tasks: Vec<_> = (0..SITES * CONNECTIONS)
            .map(|task| tokio::spawn(send(task % SITES, port, n, next.clone(), body.clone())))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    println!("seconds {:.3}", began.elapsed().as_secs_f64());
}

async fn send(site: u32, port: u16, n: u32, next: Arc<Vec<AtomicU32>>, body: Arc<[u8]>) {
    let deadline = Deadline::after(Duration::from_secs(10));
    let mut stream = Dialer::tcp().dial(address(site, port), None, deadline).await.unwrap();
    let mut client = Client::new(Config::new("mx.bench.test"));
    let from = Address::parse(&format!("news@{}", mail::DOMAIN)).unwrap();
    let mut input = vec![0; 4096];
    loop {
        let output = client.output().len();
        if output > 0 {
            stream.write_all(client.output()).await.unwrap();
            stream.flush().await.unwrap();
            client.sent(output);
        }
        let read = stream.read(&mut input).await.unwrap();
        let mut rest = &input[..read];
        loop {
            let step = client.step(rest);
            rest = &rest[step.consumed..];
            match step.event {
                Some(Event::Ready | Event::Done(_)) => {
                    let number = next[site as usize].fetch_add(SITES, Ordering::Relaxed);
                    if number >= n {
                        return;
                    }
                    let mail = Mail { from: Some(from.clone()), size: Some(body.len() as u64), ..Mail::default() };
                    let to = Recipient::Mailbox(recipient(number));
                    client.send(mail, vec![Rcpt { to, notify: None, original: None }]).unwrap();
                }
                Some(Event::SendBody) => {
                    client.body(&body);
                    client.body_end();
                }
                Some(event) => unreachable!("{event:?}"),
                None => break,
            }
        }
    }
}
