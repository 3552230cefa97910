//! One mail: commands out, as many at a time as the peer takes; replies in, each to its command; a verdict for each
//! recipient.

use std::collections::VecDeque;
use std::io::Write;

use base::{Address, Reply};

use super::event::{Answered, Stage, Verdict};
use super::peer::Peer;
use crate::body::Stuffer;
use crate::envelope::{BodyType, Mail, Notify, Rcpt, Recipient, Ret};
use crate::{Protocol, xtext};

/// Commands without an answer at a time: RFC 2920 §3.1 warns of two hosts that write and do not read.
const MAX_IN_FLIGHT: usize = 100;

/// Octets of a body from which on they are sent as a chunk. What is less waits for more, or for the end: the last chunk is one with
/// what it ends.
const CHUNK: usize = 64 * 1024;

/// A command that waits for its turn.
#[derive(Clone, Copy, Debug)]
enum Command {
    Rset,
    Mail,
    Rcpt(usize),
    Data,
    /// A chunk that shows whether the peer knows BDAT.
    Lead,
    /// None by itself: once all others are answered, the body goes by BDAT.
    Chunks,
}

/// An answer that is to come.
#[derive(Clone, Copy, Debug)]
enum Awaited {
    Rset,
    Mail,
    Rcpt(usize),
    Data,
    /// To the first BDAT, which came with the envelope.
    Lead,
    /// To another BDAT that is not the last.
    Chunk,
    /// To the body's end, for all recipients.
    End,
    /// To the body's end, for one recipient (LMTP).
    EndFor(usize),
    /// To the end of the empty body that is sent when DATA was accepted and no recipient was.
    EndOfNothing,
}

/// What an answer means for the connection.
#[derive(Debug)]
pub(super) enum Taken {
    /// The transaction goes on, or is over.
    Fine,
    /// The peer waits for the body.
    SendBody,
    /// The peer has refused a chunk, or the body half-way: what it says next answers nothing we know of.
    CutShort(Reply),
    /// The peer does not know BDAT, and may answer the octets of the lead as well. Recipients that it took have no verdict yet.
    NoBdat,
    /// That was no answer.
    Nonsense(&'static str),
}

#[derive(Debug)]
pub(super) struct Transaction {
    mail: Mail,
    rcpts: Vec<Rcpt>,
    fates: Vec<Fate>,
    protocol: Protocol,
    to_write: VecDeque<Command>,
    awaited: VecDeque<Awaited>,
    /// The beginning of the body.
    lead: Vec<u8>,
    body: Body,
    /// The peer has answered the body's end: it is in no transaction any more.
    complete: bool,
}

#[derive(Debug)]
enum Fate {
    Unknown,
    /// RCPT was accepted.
    Taken,
    Decided(Verdict),
}

#[derive(Debug)]
enum Body {
    /// Not asked for yet, or not any more.
    Closed,
    Data(Stuffer),
    Chunks {
        /// None: octets go as they are.
        stuffer: Option<Stuffer>,
        /// What is to be sent.
        held: Vec<u8>,
    },
}

/// True when an address makes SMTPUTF8 necessary (RFC 6531 §3.1).
pub(super) fn needs_utf8(mail: &Mail, rcpts: &[Rcpt]) -> bool {
    let utf8 = |a: &Address| !a.is_ascii();
    mail.from.as_ref().is_some_and(utf8)
        || rcpts.iter().any(|r| matches!(&r.to, Recipient::Mailbox(address) if utf8(address)))
}

impl Transaction {
    /// With the beginning of the body, and whether it goes by BDAT.
    pub(super) fn new(
        mut mail: Mail,
        rcpts: Vec<Rcpt>,
        (chunked, lead): (bool, Vec<u8>),
        protocol: Protocol,
        stale: bool,
    ) -> Self {
        mail.smtputf8 |= needs_utf8(&mail, &rcpts);
        let mut to_write = VecDeque::with_capacity(rcpts.len() + 4);
        to_write.extend(stale.then_some(Command::Rset));
        to_write.push_back(Command::Mail);
        to_write.extend((0..rcpts.len()).map(Command::Rcpt));
        to_write.extend((chunked && !lead.is_empty()).then_some(Command::Lead));
        to_write.push_back(if chunked { Command::Chunks } else { Command::Data });
        Transaction {
            fates: rcpts.iter().map(|_| Fate::Unknown).collect(),
            mail,
            rcpts,
            protocol,
            to_write,
            awaited: VecDeque::new(),
            lead,
            body: Body::Closed,
            complete: false,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        match self.awaited.front() {
            Some(Awaited::Rset | Awaited::Mail) => Stage::Mail,
            Some(Awaited::Rcpt(_)) => Stage::Rcpt,
            Some(Awaited::Data) => Stage::Data,
            Some(Awaited::End | Awaited::EndFor(_) | Awaited::EndOfNothing) => Stage::DataEnd,
            Some(Awaited::Lead | Awaited::Chunk) | None => Stage::Body,
        }
    }

    /// What the next reply answers.
    pub(super) fn answered(&self) -> Answered {
        match self.awaited.front() {
            Some(Awaited::Rset) => Answered::Rset,
            Some(Awaited::Mail) => Answered::Mail,
            Some(Awaited::Rcpt(n)) => Answered::Rcpt(*n),
            Some(Awaited::Data) => Answered::Data,
            Some(Awaited::Lead | Awaited::Chunk) => Answered::Chunk,
            Some(Awaited::End | Awaited::EndOfNothing) => Answered::End,
            Some(Awaited::EndFor(n)) => Answered::EndFor(*n),
            None => Answered::Nothing,
        }
    }

    /// Every recipient has its verdict, and every answer has come.
    pub(super) fn is_over(&self) -> bool {
        self.to_write.is_empty() && self.awaited.is_empty() && matches!(self.body, Body::Closed)
    }

    /// See the field.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// One for each recipient.
    pub(super) fn verdicts(self) -> Vec<Verdict> {
        let lost = || Verdict {
            stage: Stage::DataEnd,
            reply: Reply::new(451, 5, 0, "No answer for this recipient"),
            by_peer: false,
        };
        let verdict = |fate| if let Fate::Decided(verdict) = fate { verdict } else { lost() };
        self.fates.into_iter().map(verdict).collect()
    }

    /// `reply` is the verdict for all that have none.
    pub(super) fn fail(&mut self, reply: &Reply, by_peer: bool) {
        self.verdict_for_rest(self.stage(), reply, by_peer);
    }

    fn decide_rest(&mut self, stage: Stage, reply: &Reply) {
        self.verdict_for_rest(stage, reply, true);
    }

    fn verdict_for_rest(&mut self, stage: Stage, reply: &Reply, by_peer: bool) {
        for fate in self.fates.iter_mut().filter(|f| !matches!(f, Fate::Decided(_))) {
            *fate = Fate::Decided(Verdict { stage, reply: reply.clone(), by_peer });
        }
    }

    /// There is a recipient who may get the mail.
    fn is_wanted(&self) -> bool {
        self.fates.iter().any(|f| !matches!(f, Fate::Decided(_)))
    }

    // ---- commands ----

    /// Writes the commands whose turn it is; true when it is the body's (by BDAT).
    pub(super) fn write(&mut self, peer: &Peer, out: &mut Vec<u8>) -> bool {
        let window = if peer.pipelining { MAX_IN_FLIGHT } else { 1 };
        while self.awaited.len() < window {
            let awaited = match self.to_write.front() {
                None => break,
                Some(Command::Rset) => {
                    out.extend_from_slice(b"RSET\r\n");
                    Awaited::Rset
                }
                Some(Command::Mail) => {
                    self.write_mail(peer, out);
                    Awaited::Mail
                }
                Some(&Command::Rcpt(n)) => {
                    self.write_rcpt(&self.rcpts[n], peer, out);
                    Awaited::Rcpt(n)
                }
                // Refused by all before it was sent: no need to ask.
                Some(Command::Data | Command::Lead | Command::Chunks) if !self.is_wanted() => {
                    self.to_write.clear();
                    break;
                }
                Some(Command::Data) => {
                    out.extend_from_slice(b"DATA\r\n");
                    Awaited::Data
                }
                Some(Command::Lead) => {
                    write_chunk(&self.begin_chunks().1, "", out);
                    Awaited::Lead
                }
                Some(Command::Chunks) if !self.awaited.is_empty() => break,
                Some(Command::Chunks) => {
                    self.to_write.clear();
                    self.body = Body::Chunks { stuffer: self.begin_chunks().0, held: Vec::new() };
                    return true;
                }
            };
            self.to_write.pop_front();
            self.awaited.push_back(awaited);
        }
        false
    }

    fn write_mail(&self, peer: &Peer, out: &mut Vec<u8>) {
        let mail = &self.mail;
        out.extend_from_slice(b"MAIL FROM:<");
        if let Some(from) = &mail.from {
            // Writing to a Vec does not fail.
            let _ = write!(out, "{from}");
        }
        out.push(b'>');
        if let (Some(_), Some(size)) = (peer.size, mail.size) {
            let _ = write!(out, " SIZE={size}");
        }
        out.extend_from_slice(match mail.body {
            BodyType::SevenBit => b"",
            BodyType::EightBitMime => b" BODY=8BITMIME",
            BodyType::BinaryMime => b" BODY=BINARYMIME",
        });
        if mail.smtputf8 {
            out.extend_from_slice(b" SMTPUTF8");
        }
        if mail.require_tls {
            out.extend_from_slice(b" REQUIRETLS");
        }
        if let (Some(_), Some(by)) = (peer.deliver_by, mail.deliver_by) {
            let _ = write!(out, " BY={by}");
        }
        if let Some(priority) = mail.priority.filter(|_| peer.mt_priority) {
            let _ = write!(out, " MT-PRIORITY={priority}");
        }
        if peer.dsn {
            out.extend_from_slice(match mail.ret {
                None => b"",
                Some(Ret::Full) => b" RET=FULL",
                Some(Ret::Headers) => b" RET=HDRS",
            });
            if let Some(id) = &mail.envelope_id {
                out.extend_from_slice(b" ENVID=");
                xtext::encode(id, out);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_rcpt(&self, rcpt: &Rcpt, peer: &Peer, out: &mut Vec<u8>) {
        let _ = write!(out, "RCPT TO:<{}>", rcpt.to);
        if peer.dsn {
            match rcpt.notify {
                None => {}
                Some(Notify::Never) => out.extend_from_slice(b" NOTIFY=NEVER"),
                Some(Notify::On { success, failure, delay }) => {
                    let words = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
                    let words: Vec<_> = words.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
                    let _ = write!(out, " NOTIFY={}", words.join(","));
                }
            }
            if let Some(original) = &rcpt.original {
                let _ = write!(out, " ORCPT={};", original.kind);
                match original.kind.as_str() {
                    "utf-8" => xtext::encode_utf8(&original.address, self.mail.smtputf8, out),
                    _ => xtext::encode(&original.address, out),
                }
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    // ---- the body ----

    pub(super) fn body(&mut self, part: &[u8], out: &mut Vec<u8>) {
        match &mut self.body {
            Body::Closed => {}
            Body::Data(stuffer) => stuffer.push(part, out),
            Body::Chunks { stuffer, held } => {
                match stuffer {
                    Some(stuffer) => stuffer.push(part, held),
                    None => held.extend_from_slice(part),
                }
                if held.len() >= CHUNK {
                    write_chunk(held, "", out);
                    held.clear();
                    self.awaited.push_back(Awaited::Chunk);
                }
            }
        }
    }

    /// What makes line ends of the body's (a binary one has none that are ours to make), as it is behind the lead; and the lead,
    /// as it goes out.
    fn begin_chunks(&self) -> (Option<Stuffer>, Vec<u8>) {
        if self.mail.body == BodyType::BinaryMime {
            return (None, self.lead.clone());
        }
        let (mut stuffer, mut lead) = (Stuffer::new(false), Vec::with_capacity(self.lead.len()));
        stuffer.push(&self.lead, &mut lead);
        (Some(stuffer), lead)
    }

    pub(super) fn body_end(&mut self, out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.body, Body::Closed) {
            Body::Closed => return,
            Body::Data(mut stuffer) => stuffer.finish(out),
            Body::Chunks { stuffer, mut held } => {
                stuffer.into_iter().for_each(|mut stuffer| stuffer.finish(&mut held));
                write_chunk(&held, " LAST", out);
            }
        }
        match self.protocol {
            Protocol::Smtp => self.awaited.push_back(Awaited::End),
            // RFC 2033 §4.2: one answer for each recipient that was accepted.
            Protocol::Lmtp => {
                let taken = self.fates.iter().enumerate().filter(|(_, fate)| matches!(fate, Fate::Taken));
                self.awaited.extend(taken.map(|(n, _)| Awaited::EndFor(n)));
            }
        }
    }

    // ---- answers ----

    pub(super) fn take(&mut self, reply: Reply, out: &mut Vec<u8>) -> Taken {
        let stage = self.stage();
        let accepted = (200..300).contains(&reply.code);
        match self.awaited.pop_front() {
            Some(Awaited::Rset) => {}
            Some(Awaited::Mail) if accepted => {}
            Some(Awaited::Mail) => {
                self.decide_rest(stage, &refusal(reply));
                self.to_write.clear();
            }
            Some(Awaited::Rcpt(n)) => {
                if let Fate::Unknown = self.fates[n] {
                    self.fates[n] = if accepted {
                        Fate::Taken
                    } else {
                        Fate::Decided(Verdict { stage, reply: refusal(reply), by_peer: true })
                    };
                }
            }
            Some(Awaited::Data) if reply.code == 354 => return self.begin_data(out),
            Some(Awaited::Data) => self.decide_rest(stage, &refusal(reply)),
            Some(Awaited::Lead | Awaited::Chunk) if accepted => {}
            Some(Awaited::Lead) if self.lacks_bdat(reply.code) => return Taken::NoBdat,
            Some(Awaited::Lead | Awaited::Chunk) => {
                // RFC 3030 §2: no further chunk may be sent.
                let reply = refusal(reply);
                self.decide_rest(stage, &reply);
                self.body = Body::Closed;
                // Who does not pass over the octets of what he refuses answers them, too, line by line: whoever reads on
                // takes those answers for such to his next mail. In LMTP nobody knows either how often the last chunk is
                // answered now (RFC 2033).
                return Taken::CutShort(reply);
            }
            Some(Awaited::End) => {
                self.complete = accepted;
                self.decide_rest(stage, &if accepted { reply } else { refusal(reply) });
            }
            Some(Awaited::EndFor(n)) => {
                self.complete = true;
                let reply = if accepted { reply } else { refusal(reply) };
                if let Fate::Taken = self.fates[n] {
                    self.fates[n] = Fate::Decided(Verdict { stage, reply, by_peer: true });
                }
            }
            Some(Awaited::EndOfNothing) => self.complete = true,
            None if !reply.is_positive() && matches!(self.body, Body::Data(_)) => return Taken::CutShort(reply),
            None => return Taken::Nonsense("it answers what was not asked"),
        }
        Taken::Fine
    }

    /// What RFC 5321 §4.2.4 has for commands that are not known or not done; but 503 may say that all recipients were refused.
    fn lacks_bdat(&self, code: u16) -> bool {
        matches!(code, 500 | 502 | 504) || code == 503 && self.is_wanted()
    }

    /// 354.
    fn begin_data(&mut self, out: &mut Vec<u8>) -> Taken {
        if self.is_wanted() {
            let mut stuffer = Stuffer::new(true);
            stuffer.push(&self.lead, out);
            self.body = Body::Data(stuffer);
            return Taken::SendBody;
        }
        if self.protocol == Protocol::Lmtp {
            return Taken::Nonsense("it takes a mail for nobody");
        }
        // RFC 2920 §3.1: DATA went out before all recipients were refused; only a dot gets us out of it.
        out.extend_from_slice(b".\r\n");
        self.awaited.push_back(Awaited::EndOfNothing);
        Taken::Fine
    }
}

fn write_chunk(octets: &[u8], last: &str, out: &mut Vec<u8>) {
    // Writing to a Vec does not fail.
    let _ = write!(out, "BDAT {}{last}\r\n", octets.len());
    out.extend_from_slice(octets);
}

/// What is no acceptance must not be taken for one, whatever its code says.
fn refusal(reply: Reply) -> Reply {
    if reply.is_positive() {
        return Reply::new(451, 5, 0, format!("Unexpected answer of the receiving host: {reply}"));
    }
    reply
}
