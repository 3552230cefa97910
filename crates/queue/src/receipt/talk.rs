//! What was said in an attempt: with whom, and each reply with its time.

use std::fmt::{self, Write};
use std::sync::Arc;

use base::{Reply, Timestamp};
use smtp::client::Answered;

use super::wire::{Reader, Writer};

/// The host at the other end, and how it was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The source that we sent from: its name, empty for the only one.
    pub source: String,
    /// The name of the host.
    pub host: String,
    /// Its address and port; empty when it is not known.
    pub address: String,
    /// Version and cipher of TLS, and what the certificate was worth; empty in the clear.
    pub tls: String,
    /// The site, by its name in the policies; empty when nothing is known of it.
    pub site: String,
    /// As what a new source counts its mail there ([`crate::source::Count`]), where that is neither the site nor, without one, the host;
    /// else empty.
    pub counted: String,
}

/// A dialogue: of a connection's first mail from the connecting on, of a later one from its MAIL on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talk {
    /// When it began.
    pub began: Timestamp,
    /// Mails that the connection had carried before.
    pub carried: u32,
    /// With whom.
    pub peer: Arc<Peer>,
    /// The replies, in order.
    pub steps: Vec<Step>,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Milliseconds from the beginning of the dialogue to its end.
    pub after: u32,
    /// What it answered.
    pub to: Answered,
    /// What was said.
    pub reply: Reply,
}

impl Talk {
    /// What concerns the recipient of this place in the transaction.
    pub(super) fn of(&self, place: usize) -> impl DoubleEndedIterator<Item = &Step> {
        self.steps.iter().filter(move |s| !matches!(s.to, Answered::Rcpt(n) | Answered::EndFor(n) if n != place))
    }

    /// Without what was said of other recipients than the one of this place; it becomes the first.
    pub(super) fn write(&self, place: usize, out: &mut Writer) {
        out.int(self.began.0 as u64);
        out.int(self.carried.into());
        let Peer { source, host, address, tls, site, counted } = &*self.peer;
        [source, host, address, tls].into_iter().for_each(|text| out.text(text));
        // Hardly any has the second, and takes no octet for it.
        match counted.is_empty() {
            true => out.text(site),
            false => out.text(&format!("{site}\n{counted}")),
        }
        out.int(self.of(place).count() as u64);
        for step in self.of(place) {
            out.int(step.after.into());
            out.int(code(step.to));
            out.reply(&step.reply);
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Option<Talk> {
        let (began, carried) = (Timestamp(r.int()? as i64), r.number()?);
        let [source, host, address, tls, both] = [r.string()?, r.string()?, r.string()?, r.string()?, r.string()?];
        let (site, counted) = both.split_once('\n').unwrap_or((&both, ""));
        let peer = Peer { source, host, address, tls, site: site.to_owned(), counted: counted.to_owned() };
        let steps: usize = r.number()?;
        let mut talk = Talk { began, carried, peer: Arc::new(peer), steps: Vec::new() };
        for _ in 0..steps {
            talk.steps.push(Step { after: r.number()?, to: answered(r.int()?), reply: r.reply()? });
        }
        Some(talk)
    }
}

/// Part of what is on disk.
const CODES: [Answered; 14] = [
    Answered::Connection,
    Answered::Ehlo,
    Answered::Helo,
    Answered::StartTls,
    Answered::Auth,
    Answered::Rset,
    Answered::Mail,
    Answered::Rcpt(0),
    Answered::Data,
    Answered::Chunk,
    Answered::End,
    Answered::EndFor(0),
    Answered::Quit,
    Answered::Nothing,
];

fn code(to: Answered) -> u64 {
    let to = match to {
        Answered::Rcpt(_) => Answered::Rcpt(0),
        Answered::EndFor(_) => Answered::EndFor(0),
        other => other,
    };
    CODES.iter().position(|one| *one == to).unwrap_or(CODES.len() - 1) as u64
}

fn answered(code: u64) -> Answered {
    usize::try_from(code).ok().and_then(|n| CODES.get(n)).copied().unwrap_or(Answered::Nothing)
}

/// What the reply answered, as a client says it.
pub fn command(to: Answered) -> &'static str {
    match to {
        Answered::Connection => "(connected)",
        Answered::Ehlo => "EHLO",
        Answered::Helo => "HELO",
        Answered::StartTls => "STARTTLS",
        Answered::Auth => "AUTH",
        Answered::Rset => "RSET",
        Answered::Mail => "MAIL FROM",
        Answered::Rcpt(_) => "RCPT TO",
        Answered::Data => "DATA",
        Answered::Chunk => "BDAT",
        Answered::End | Answered::EndFor(_) => "(end of the mail)",
        Answered::Quit => "QUIT",
        Answered::Nothing => "(unasked)",
    }
}

/// For people: a line for each reply, with its milliseconds.
impl fmt::Display for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Peer { source, host, address, tls, site, counted: _ } = &*self.peer;
        write!(f, "{host}")?;
        for (before, text) in [(" ", address), (", of ", site), (", from ", source), (", ", tls)] {
            if !text.is_empty() {
                write!(f, "{before}{text}")?;
            }
        }
        match self.carried {
            0 => {}
            n => write!(f, ", mail {} of the connection", u64::from(n) + 1)?,
        }
        for step in &self.steps {
            let mut reply = String::new();
            write!(reply, "{}", step.reply)?;
            write!(
                f,
                "\n{:>7} ms  {:<18} {}",
                step.after,
                command(step.to),
                reply.replace('\n', "\n                                ")
            )?;
        }
        Ok(())
    }
}
