//! The one pass over a message: lines, boundaries, headers.
//!
//! Called with every mail that arrives, chunk by chunk. Bodies are not looked at line by line: the next line that could be
//! a boundary is searched for, and line feeds are counted, both with SIMD. Of headers only the fields are kept that
//! ENVELOPE and BODYSTRUCTURE need. What a chunk border cuts is held back: at most [`HEAD`] bytes.

use memchr::{memchr, memchr_iter, memmem};

use crate::content::Content;
use crate::header::{fields, name_of_line};
use crate::part::{Index, Kind, Part};
use crate::render;

/// How much of a line decides what it is. Longer boundaries than fit (RFC 2046 §5.1.1 allows 70 bytes) are none.
const HEAD: usize = 256;
const MAX_BOUNDARY: usize = HEAD - 4;

/// What a message may cost. Past a limit the rest is one opaque leaf or is left out; it is never an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Parts in a message, multiparts and messages counted. The last one reaches to the end of the message, whatever is
    /// in it.
    pub parts: usize,
    /// Parts around a part. A multipart or message this deep is a leaf.
    pub depth: usize,
    /// Bytes kept of the recipients (To, Cc, Bcc) of one header; of each other field that matters here an eighth of it.
    /// The header itself may be longer.
    pub header: usize,
    /// Bytes kept over all headers of a message: of the fields of ENVELOPEs, and as many of `Content-` fields.
    pub headers: usize,
    /// Parameters of a field.
    pub params: usize,
    /// Addresses in one address field of an ENVELOPE.
    pub addresses: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { parts: 1000, depth: 50, header: 64 << 10, headers: 256 << 10, params: 200, addresses: 1000 }
    }
}

/// What the bytes at hand belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// A line's beginning; `head` holds what was seen of it and decides nothing yet.
    Start,
    /// A line of a header, judged.
    Header,
    /// The blank line behind a header.
    Blank,
    /// A boundary; if not the closing one, a part begins behind it.
    Boundary { part: bool },
    /// Somewhere in a body, behind a line's beginning.
    Body,
}

/// A part whose end is not seen yet.
#[derive(Debug)]
struct Open {
    part: usize,
    /// Of a multipart, until its closing boundary. Neither empty nor longer than [`MAX_BOUNDARY`].
    boundary: Option<Vec<u8>>,
    /// Line feeds before its body.
    line_feeds: u64,
}

/// A field that matters for ENVELOPE or BODYSTRUCTURE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// To, Cc or Bcc.
    Recipients,
    /// The one of this number in an ENVELOPE.
    InEnvelope(usize),
    /// The `Content-` field of this number.
    Content(usize),
}

/// How much may still be kept. Each field has room of its own, so that a long one hides no other: where all recipients
/// stand before `Content-Type`, a thousand of them would take the mail's structure away.
#[derive(Debug)]
struct Room {
    /// Of the header at hand.
    recipients: usize,
    in_envelope: [usize; render::ENVELOPE_FIELDS.len()],
    content: [usize; Content::FIELDS.len()],
    /// Of all headers.
    envelopes: usize,
    contents: usize,
}

impl Room {
    fn new(limits: Limits) -> Self {
        let mut room = Room {
            recipients: 0,
            in_envelope: [0; _],
            content: [0; _],
            envelopes: limits.headers,
            contents: limits.headers,
        };
        room.next_header(limits);
        room
    }

    fn next_header(&mut self, limits: Limits) {
        self.recipients = limits.header;
        self.in_envelope.fill(limits.header / 8);
        self.content.fill(limits.header / 8);
    }

    /// Takes up to `wanted` bytes for a field; gives how many.
    fn take(&mut self, field: Wanted, wanted: usize) -> usize {
        let (one, all) = match field {
            Wanted::Recipients => (&mut self.recipients, &mut self.envelopes),
            Wanted::InEnvelope(number) => (&mut self.in_envelope[number], &mut self.envelopes),
            Wanted::Content(number) => (&mut self.content[number], &mut self.contents),
        };
        let taken = wanted.min(*one).min(*all);
        *one -= taken;
        *all -= taken;
        taken
    }
}

/// Reads a message in chunks of any size; how it is cut makes no difference.
#[derive(Debug)]
pub struct Indexer {
    limits: Limits,
    parts: Vec<Part>,
    /// The part at hand and those around it.
    open: Vec<Open>,
    /// How many of `open` have a boundary.
    boundaries: usize,
    /// The part at hand is still in its header.
    in_header: bool,
    line: Line,
    head: Vec<u8>,
    /// What is kept of the header at hand, and which field is at hand if it matters.
    header: Vec<u8>,
    keeping: Option<Wanted>,
    room: Room,
    /// Bytes and line feeds seen.
    at: u64,
    line_feeds: u64,
    /// Where the line at hand begins, and how long the line end before it is.
    line_start: u64,
    line_end: u64,
    /// The last byte seen.
    last: u8,
    delimiter: memmem::Finder<'static>,
}

impl Indexer {
    /// At the first byte of a message.
    pub fn new(limits: Limits) -> Self {
        let mut indexer = Indexer {
            limits,
            parts: Vec::new(),
            open: Vec::new(),
            boundaries: 0,
            in_header: true,
            line: Line::Start,
            head: Vec::new(),
            header: Vec::with_capacity(1024),
            keeping: None,
            room: Room::new(limits),
            at: 0,
            line_feeds: 0,
            line_start: 0,
            line_end: 0,
            last: 0,
            delimiter: memmem::Finder::new("\n--"),
        };
        indexer.open_part(Content::default(), 0);
        indexer
    }

    /// The next bytes of the message.
    pub fn push(&mut self, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            let read = match self.line {
                Line::Start => self.start_line(chunk),
                Line::Body => self.read_body(chunk),
                Line::Header | Line::Blank | Line::Boundary { .. } => self.read_line(chunk),
            };
            chunk = &chunk[read..];
        }
    }

    /// The message ends here.
    pub fn finish(mut self) -> Index {
        if self.line == Line::Start && !self.head.is_empty() {
            let head = std::mem::take(&mut self.head);
            self.judge(&head, false);
            self.keep(&head);
        }
        self.end_headers(self.at);
        self.close_down_to(0, self.at, self.line_feeds);
        Index { parts: self.parts }
    }

    /// Decides what a line is, or puts its beginning by until that can be decided. Returns how many bytes were read.
    fn start_line(&mut self, chunk: &[u8]) -> usize {
        let may_delimit = self.boundaries > 0 && chunk[0] == b'-' && chunk.get(1).is_none_or(|b| *b == b'-');
        if !self.in_header && self.head.is_empty() && !may_delimit {
            self.line = Line::Body;
            return 0;
        }
        let window = &chunk[..chunk.len().min(HEAD - self.head.len())];
        let line_feed = memchr(b'\n', window);
        let seen = &window[..line_feed.unwrap_or(window.len())];
        if line_feed.is_none() && self.head.len() + seen.len() < HEAD {
            self.head.extend_from_slice(seen);
            self.consume(seen);
            return seen.len();
        }
        if self.head.is_empty() {
            self.judge(seen, line_feed.is_some());
            return 0;
        }
        let mut head = std::mem::take(&mut self.head);
        head.extend_from_slice(seen);
        self.consume(seen);
        self.judge(&head, line_feed.is_some());
        self.keep(&head);
        head.clear();
        self.head = head;
        seen.len()
    }

    /// `head` is a line without its line feed, or its first [`HEAD`] bytes.
    fn judge(&mut self, head: &[u8], whole: bool) {
        if let Some((level, closing)) = self.boundary_of(head) {
            // RFC 2046 §5.1.1: the line end before a boundary is part of it.
            let end = self.line_start - self.line_end;
            self.end_headers(end);
            self.close_down_to(level + 1, end, self.line_feeds.saturating_sub(1));
            if closing {
                self.open[level].boundary = None;
                self.boundaries -= 1;
            }
            self.line = Line::Boundary { part: !closing };
        } else if !self.in_header {
            self.line = Line::Body;
        } else if whole && matches!(head, b"" | b"\r") {
            self.line = Line::Blank;
        } else {
            // RFC 5322 §2.2.3: after white space the field before goes on.
            if !matches!(head.first(), Some(b' ' | b'\t')) {
                self.keeping = self.wants(name_of_line(head));
                // The field before may have been cut.
                if self.keeping.is_some() && self.header.last().is_some_and(|last| *last != b'\n') {
                    self.header.push(b'\n');
                }
            }
            self.line = Line::Header;
        }
    }

    /// The multipart whose boundary a line begins with, as a place in `open`, and whether the line closes it.
    ///
    /// RFC 2046 §5.1.1: it is enough that the boundary stands at the line's beginning. Where one is the beginning of
    /// another the longer one is meant; of two that are the same, the inner.
    fn boundary_of(&self, head: &[u8]) -> Option<(usize, bool)> {
        if self.boundaries == 0 {
            return None;
        }
        let text = head.strip_prefix(b"--")?;
        let (mut found, mut longest) = (None, 0);
        for (level, open) in self.open.iter().enumerate().rev() {
            if let Some(boundary) = &open.boundary
                && boundary.len() > longest
                && let Some(rest) = text.strip_prefix(&boundary[..])
            {
                found = Some((level, rest.starts_with(b"--")));
                longest = boundary.len();
            }
        }
        found
    }

    /// Reads to the end of a line that is not a body's.
    fn read_line(&mut self, chunk: &[u8]) -> usize {
        let line_feed = memchr(b'\n', chunk);
        let bytes = &chunk[..line_feed.map_or(chunk.len(), |n| n + 1)];
        self.keep(bytes);
        if line_feed.is_none() {
            self.consume(bytes);
            return bytes.len();
        }
        self.consume_line_end(bytes);
        match std::mem::replace(&mut self.line, Line::Start) {
            Line::Blank => self.end_header(self.at),
            Line::Boundary { part: true } => self.open_next(),
            _ => {}
        }
        bytes.len()
    }

    /// Reads a body up to the next line that could be a boundary.
    fn read_body(&mut self, chunk: &[u8]) -> usize {
        if self.boundaries == 0 {
            self.line_feeds += count_line_feeds(chunk);
            self.consume(chunk);
            return chunk.len();
        }
        let next_line = match self.delimiter.find(chunk) {
            Some(n) => n + 1,
            None if chunk.ends_with(b"\n") => chunk.len(),
            None if chunk.ends_with(b"\n-") => chunk.len() - 1,
            None => {
                self.line_feeds += count_line_feeds(chunk);
                self.consume(chunk);
                return chunk.len();
            }
        };
        self.line_feeds += count_line_feeds(&chunk[..next_line - 1]);
        self.consume_line_end(&chunk[..next_line]);
        self.line = Line::Start;
        next_line
    }

    fn consume(&mut self, bytes: &[u8]) {
        self.at += bytes.len() as u64;
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    /// `bytes` ends in a line feed; those before it were counted.
    fn consume_line_end(&mut self, bytes: &[u8]) {
        self.consume(&bytes[..bytes.len() - 1]);
        self.line_end = if self.last == b'\r' { 2 } else { 1 };
        self.consume(b"\n");
        self.line_feeds += 1;
        self.line_start = self.at;
    }

    /// Whether a field matters for ENVELOPE or BODYSTRUCTURE.
    fn wants(&self, name: &[u8]) -> Option<Wanted> {
        let number = |among: &[&[u8]]| among.iter().position(|n| n.eq_ignore_ascii_case(name));
        if let Some(number) = number(&Content::FIELDS) {
            return Some(Wanted::Content(number));
        }
        self.top().envelope.as_ref()?;
        let recipients = number(&render::RECIPIENTS).map(|_| Wanted::Recipients);
        recipients.or_else(|| number(&render::ENVELOPE_FIELDS).map(Wanted::InEnvelope))
    }

    /// Keeps the bytes of a header line, if its field matters and as far as the limits allow.
    fn keep(&mut self, bytes: &[u8]) {
        if let (Line::Header, Some(field)) = (self.line, self.keeping) {
            let kept = self.room.take(field, bytes.len());
            self.header.extend_from_slice(&bytes[..kept]);
        }
    }

    fn top(&self) -> &Part {
        &self.parts[self.open.last().map_or(0, |open| open.part)]
    }

    /// A part begins at `at` with its header. Part 0 and the part inside a `Message` have an envelope, to be filled in.
    fn open_part(&mut self, content: Content, at: u64) {
        let parent = self.open.last().map(|open| self.parts[open.part].kind);
        let envelope = (parent != Some(Kind::Multipart)).then(Vec::new);
        self.open.push(Open { part: self.parts.len(), boundary: None, line_feeds: self.line_feeds });
        self.parts.push(Part { kind: Kind::Leaf, header: at, body: at, end: at, lines: 0, next: 0, content, envelope });
        self.in_header = true;
        self.keeping = None;
        self.room.next_header(self.limits);
    }

    /// Behind a boundary: a part begins. The last one the limits allow takes all the rest: trap 6.
    fn open_next(&mut self) {
        if self.parts.len() + 1 >= self.limits.parts {
            self.open_part(Content::opaque(), self.at);
            self.in_header = false;
            self.boundaries = 0;
            self.open.iter_mut().for_each(|open| open.boundary = None);
            return;
        }
        let digest = self.top().content.is("multipart", "digest");
        self.open_part(if digest { Content::digested() } else { Content::default() }, self.at);
    }

    /// Ends the headers of the part at hand and of the messages that begin in it, as no line of them is left.
    fn end_headers(&mut self, at: u64) {
        while self.in_header {
            self.end_header(at);
        }
    }

    /// The header of the part at hand is complete and its body begins at `at`.
    fn end_header(&mut self, at: u64) {
        let header = std::mem::take(&mut self.header);
        let kept: Vec<_> = fields(&header).collect();
        let room = self.parts.len() + 1 < self.limits.parts && self.open.len() < self.limits.depth;
        self.in_header = false;
        let Some(open) = self.open.last_mut() else { return };
        let part = &mut self.parts[open.part];
        open.line_feeds = self.line_feeds;
        // Where a boundary cut the header off, its last line end is the boundary's; it may be all there was.
        part.body = at.max(part.header);
        let default = std::mem::take(&mut part.content);
        part.content = Content::read(&kept, default, self.limits.params);
        if let Some(envelope) = &mut part.envelope {
            render::envelope(&kept, self.limits.addresses, envelope);
        }
        let content = &mut part.content;
        if content.main == b"multipart" {
            match boundary(content) {
                // Without boundary it cannot be taken apart. RFC 2045 §5.2: then it is text.
                None => content.become_type_of(Content::default()),
                Some(_) if !room => content.become_type_of(Content::opaque()),
                Some(boundary) => {
                    part.kind = Kind::Multipart;
                    open.boundary = Some(boundary);
                    self.boundaries += 1;
                }
            }
        } else if content.is("message", "rfc822") || content.is("message", "global") {
            // RFC 2046 §5.2.1 forbids to encode a message. Of one that is we cannot say what is where.
            if room && content.encoding.is_identity() {
                part.kind = Kind::Message;
                let body = part.body;
                self.open_part(Content::default(), body);
            } else {
                content.become_type_of(Content::opaque());
            }
        }
        drop(kept);
        self.header = header;
        self.header.clear();
    }

    /// Ends all open parts but the outer `levels`: their bodies end at `end`, before which were `line_feeds`.
    fn close_down_to(&mut self, levels: usize, mut end: u64, mut line_feeds: u64) {
        for open in self.open.drain(levels..).rev() {
            let next = self.parts.len();
            let part = &mut self.parts[open.part];
            if part.body > end {
                // A boundary right behind the blank line: the line end between them is the header's.
                (end, line_feeds) = (part.body, self.line_feeds);
            }
            part.end = end;
            part.lines = line_feeds.saturating_sub(open.line_feeds);
            part.next = next;
            if part.kind == Kind::Multipart && next == open.part + 1 {
                // Its boundary never came: the text should be seen, and IMAP has no form for a multipart without parts.
                part.kind = Kind::Leaf;
                part.content.become_type_of(Content::default());
            }
            self.boundaries -= usize::from(open.boundary.is_some());
        }
    }
}

fn count_line_feeds(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

/// RFC 2046 §5.1.1: one to 70 bytes, no space at the end.
fn boundary(content: &Content) -> Option<Vec<u8>> {
    let boundary = content.param("boundary")?.trim_ascii_end();
    (1..=MAX_BOUNDARY).contains(&boundary.len()).then(|| boundary.to_vec())
}
