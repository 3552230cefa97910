//! The sites: one process, one thread, that answers as fast as it can and keeps nothing but counts. Ends with its input.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use crate::{SITES, address};

/// Recipients taken, deferred and bounced.
#[derive(Default)]
struct Counts([Cell<u64>; 3]);

impl Counts {
    fn add(&self, what: usize) {
        self.0[what].set(self.0[what].get() + 1);
    }
}

pub fn run(port: u16, refused: [u32; 2]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async move {
        let counts = Rc::<Counts>::default();
        for site in 0..SITES {
            let listener = TcpListener::bind(address(site, port)).await.unwrap();
            let counts = counts.clone();
            tokio::task::spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::task::spawn_local(serve(stream, counts.clone(), refused));
                }
            });
        }
        println!("listening {SITES}");
        let _ = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await;
        let [taken, deferred, bounced] = counts.0.each_ref().map(Cell::get);
        println!("taken {taken}\ndeferred {deferred}\nbounced {bounced}");
    });
}

async fn serve(mut stream: TcpStream, counts: Rc<Counts>, refused: [u32; 2]) {
    let _ = stream.set_nodelay(true);
    let (mut input, mut output, mut rcpts, mut body) = (Vec::with_capacity(16 * 1024), Vec::new(), 0, false);
    output.extend_from_slice(b"220 sink.test ESMTP\r\n");
    loop {
        if !output.is_empty() && stream.write_all(&output).await.is_err() {
            return;
        }
        output.clear();
        if !matches!(stream.read_buf(&mut input).await, Ok(n) if n > 0) {
            return;
        }
        if body {
            // Nothing comes behind the end before it is answered.
            if !input.ends_with(b"\r\n.\r\n") {
                input.drain(..input.len().saturating_sub(4));
                continue;
            }
            (0..rcpts).for_each(|_| counts.add(0));
            (body, rcpts) = (false, 0);
            input.clear();
            output.extend_from_slice(b"250 2.0.0 OK\r\n");
            continue;
        }
        let mut used = 0;
        while let Some(end) = input[used..].iter().position(|b| *b == b'\n') {
            let line = &input[used..used + end];
            used += end + 1;
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            match &verb[..] {
                b"EHLO" => output.extend_from_slice(b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n"),
                b"RCPT" => match refusal(line, refused) {
                    None => {
                        rcpts += 1;
                        output.extend_from_slice(b"250 2.1.5 OK\r\n");
                    }
                    Some((what, reply)) => {
                        counts.add(what);
                        output.extend_from_slice(reply);
                    }
                },
                b"DATA" if rcpts == 0 => output.extend_from_slice(b"503 5.5.1 No recipients\r\n"),
                b"DATA" => {
                    body = true;
                    output.extend_from_slice(b"354 Go ahead\r\n");
                }
                b"QUIT" => {
                    let _ = stream.write_all(b"221 2.0.0 Bye\r\n").await;
                    return;
                }
                _ => output.extend_from_slice(b"250 2.0.0 OK\r\n"),
            }
        }
        input.drain(..used);
    }
}

/// By the number of the recipient. What comes first of a transactional message is told with its time.
fn refusal(line: &[u8], [deferred, bounced]: [u32; 2]) -> Option<(usize, &'static [u8])> {
    let local = line.split(|b| *b == b'<').nth(1)?.split(|b| *b == b'@').next()?;
    if let Some(n) = local.strip_prefix(b"first-") {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        println!("first {} {now}", n.escape_ascii());
        return None;
    }
    let n: u32 = str::from_utf8(local.get(1..)?).ok()?.parse().ok()?;
    // Spread evenly over the sites.
    match n / SITES % 100 {
        of if of < bounced => Some((2, b"550 5.1.1 No such user here\r\n")),
        of if of < bounced + deferred => Some((1, b"452 4.2.2 The mailbox is full\r\n")),
        _ => None,
    }
}
