//! How fast mails are indexed: `cargo run --release --example throughput -- DIRECTORY` reads every `.eml` below it (bare
//! LF made CRLF), indexes each as it would be on arrival, in chunks of 64 KB, and prints what it took.
//!
//! Without a directory: one text mail of 4 KB, and one of 50 MB with a base64 attachment.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use mime::{Indexer, Limits};

const CHUNK: usize = 64 << 10;

fn main() -> std::io::Result<()> {
    match std::env::args_os().nth(1) {
        Some(directory) => {
            let mut mails = Vec::new();
            collect(Path::new(&directory), &mut mails)?;
            measure("directory", &mails);
        }
        None => {
            measure("4 KB text", &[text_mail()]);
            measure("50 MB attachment", &[attachment_mail(50 << 20)]);
        }
    }
    Ok(())
}

fn collect(directory: &Path, mails: &mut Vec<Vec<u8>>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, mails)?;
        } else if path.extension().is_some_and(|e| e == "eml") {
            let lines = std::fs::read(&path)?;
            let lines = lines.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
            mails.push(lines.collect::<Vec<_>>().join(&b"\r\n"[..]));
        }
    }
    Ok(())
}

/// Runs for two seconds; the fastest round counts, as the others shared the machine.
fn measure(what: &str, mails: &[Vec<u8>]) {
    let bytes: usize = mails.iter().map(Vec::len).sum();
    let (begin, mut best, mut record) = (Instant::now(), Duration::MAX, Vec::new());
    while begin.elapsed() < Duration::from_secs(2) {
        let start = Instant::now();
        for mail in mails {
            let mut indexer = Indexer::new(Limits::default());
            mail.chunks(CHUNK).for_each(|chunk| indexer.push(chunk));
            record.clear();
            indexer.finish().encode(&mut record);
            black_box(&record);
        }
        best = best.min(start.elapsed());
    }
    let each = best.as_secs_f64() / mails.len().max(1) as f64;
    println!(
        "{what}: {} mails, {bytes} bytes: {:.2} us a mail, {:.0} MB/s; the last record has {} bytes",
        mails.len(),
        each * 1e6,
        bytes as f64 / best.as_secs_f64() / 1e6,
        record.len()
    );
}

fn header() -> String {
    "Return-Path: <jane@sender.test>\r\nReceived: from mx.sender.test (mx.sender.test [192.0.2.1])\r\n\tby mx.example.test \
     with ESMTPS id abc123\r\n\tfor <joe@example.test>; Fri, 21 Nov 1997 09:55:06 -0600\r\nDKIM-Signature: v=1; a=rsa-sha256; \
     c=relaxed/relaxed; d=sender.test; s=k1;\r\n\th=from:to:subject:date; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n\t\
     b=dGhpcyBpcyBubyBzaWduYXR1cmUgYnV0IGFzIGxvbmcgYXMgb25lIHdvdWxkIGJlIGhlcmUgdG8=\r\nDate: Fri, 21 Nov 1997 09:55:06 -0600\r\n\
     From: Jane Doe <jane@sender.test>\r\nTo: Joe Blow <joe@example.test>, \"Mary, Ann\" <mary@example.test>\r\n\
     Subject: =?utf-8?q?A_subject_of?= usual length\r\nMessage-ID: <20251121.abc@sender.test>\r\nIn-Reply-To: <1@example.test>\r\n\
     References: <0@example.test> <1@example.test>\r\nMIME-Version: 1.0\r\nUser-Agent: Program/1.0\r\n"
        .into()
}

fn text_mail() -> Vec<u8> {
    let mut mail = header() + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n";
    while mail.len() < 4096 {
        mail.push_str("This line has the length that lines of text in mails usually have.\r\n");
    }
    mail.into_bytes()
}

fn attachment_mail(size: usize) -> Vec<u8> {
    let mut mail = header() + "Content-Type: multipart/mixed; boundary=\"=_b\"\r\n\r\n--=_b\r\n\r\nHello.\r\n--=_b\r\n";
    mail.push_str("Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n");
    while mail.len() < size {
        mail.push_str("JVBERi0xLjQKJcOkw7zDtsOfCjIgMCBvYmoKPDwvTGVuZ3RoIDMgMCBSL0ZpbHRlci9GbGF0ZURl\r\n");
    }
    (mail + "--=_b--\r\n").into_bytes()
}
