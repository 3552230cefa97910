//! Batches on their way to the client. What is large is read here, a piece at a time; when it cannot be read to its end the
//! connection breaks, so that the client never takes a part for the whole.

use std::io;
use std::ops::Range;

use super::binary::Measure;
use super::output::{Later, Piece, mask_nul, write_item};
use crate::conn::Conn;
use crate::imap::source::{PIECE, Source};

pub(super) async fn pieces(conn: &mut Conn, pieces: Vec<Piece>) -> io::Result<()> {
    for piece in pieces {
        match piece {
            Piece::Octets(octets) => conn.write(&octets).await?,
            Piece::Span { source, span } => send_span(conn, &source, span).await?,
            Piece::Binary(later) => send_binary(conn, &later).await?,
        }
    }
    Ok(())
}

async fn send_span(conn: &mut Conn, source: &Source, mut span: Range<u64>) -> io::Result<()> {
    let mut octets = Vec::new();
    while !span.is_empty() {
        let to = span.end.min(span.start + PIECE);
        octets.clear();
        source.read(span.start..to, &mut octets).map_err(io::Error::other)?;
        mask_nul(&mut octets);
        conn.write(&octets).await?;
        span.start = to;
    }
    Ok(())
}

/// Decodes twice: to see how much it is, and to send it.
async fn send_binary(conn: &mut Conn, later: &Later) -> io::Result<()> {
    let (binary, mut text, mut measure) = (&later.binary, Vec::new(), Measure::default());
    let mut decoding = binary.decoding().map_err(io::Error::other)?;
    while decoding.next(&binary.source, &mut text).map_err(io::Error::other)? {
        measure.add(&text);
        text.clear();
        tokio::task::yield_now().await;
    }
    write_item(&mut text, later.utf8, later.first, |fetch| binary.write(fetch, &measure));
    conn.write(&text).await?;
    text.clear();
    let (follows, mut at) = (binary.follows(&measure), 0);
    let mut decoding = binary.decoding().map_err(io::Error::other)?;
    while at < follows.end && decoding.next(&binary.source, &mut text).map_err(io::Error::other)? {
        let length = text.len() as u64;
        let (from, to) = (follows.start.saturating_sub(at).min(length), (follows.end - at).min(length));
        conn.write(&text[from as usize..to as usize]).await?;
        at += length;
        text.clear();
    }
    Ok(())
}
