//! The SMTP of a site's hosts.

use std::sync::Arc;
use std::time::Duration;

use net::{Deadline, Listener, Stream, Tls};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::{Instant, sleep};

use peers::{Answer, Site, Step, drawn};

const HANDSHAKE: Duration = Duration::from_secs(60);

/// Speaks SMTP for a site with whoever comes, for ever. `tls` is its certificate, if it offers TLS; its times are counted from
/// `start`.
pub async fn serve(site: Arc<Site>, tls: Option<Tls>, start: Instant, listener: Listener) {
    // Errors are the other side's leaving.
    let session = move |stream| {
        let session = Session::new(site.clone(), tls.clone(), start, stream);
        async { drop(session.run().await) }
    };
    listener.serve(std::future::pending(), session).await;
}

/// A session: one connection to a host.
pub(crate) struct Session {
    pub(crate) site: Arc<Site>,
    /// Its certificate, if it offers TLS.
    pub(crate) tls: Option<Tls>,
    pub(crate) start: Instant,
    io: BufReader<Stream>,
    /// Replies that were not written yet: those to commands that came together go together.
    replies: String,
    mail: Option<Mail>,
    mails: u32,
}

#[derive(Clone, Copy)]
struct Mail {
    number: u64,
    has_recipient: bool,
}

/// It counts as open as long as this lives.
struct Open(Arc<Site>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.exit();
    }
}

impl Session {
    pub(crate) fn new(site: Arc<Site>, tls: Option<Tls>, start: Instant, stream: Stream) -> Self {
        Session { site, tls, start, io: BufReader::new(stream), replies: String::new(), mail: None, mails: 0 }
    }

    /// Serves it to its end.
    pub(crate) async fn run(mut self) -> std::io::Result<()> {
        let (open, greeting) = (Open(self.site.clone()), self.site.enter(self.start.elapsed()));
        if !self.answer(greeting, "220 mx ESMTP") {
            return self.flush().await;
        }
        loop {
            if self.io.buffer().is_empty() {
                self.flush().await?;
            }
            let Some(line) = self.line().await? else { break };
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => self.replies += self.features(),
                "STARTTLS" => {
                    self.replies += "220 2.0.0 Go ahead\r\n";
                    self.flush().await?;
                    self = self.upgrade().await?;
                }
                _ => {
                    if !self.command(&verb, &line).await? {
                        self.flush().await?;
                        break;
                    }
                }
            }
        }
        drop(open);
        Ok(())
    }

    fn features(&self) -> &'static str {
        match &self.tls {
            Some(_) if !self.io.get_ref().is_tls() => "250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n",
            _ => "250-mx\r\n250 PIPELINING\r\n",
        }
    }

    async fn upgrade(self) -> std::io::Result<Self> {
        let Session { site, tls, start, io, .. } = self;
        let (certificate, soon) = (tls.clone().expect("it was offered"), Deadline::after(HANDSHAKE));
        let stream = io.into_inner().upgrade(&certificate, b"", soon).await?;
        Ok(Session::new(site, tls, start, stream))
    }

    /// False when the connection ends.
    async fn command(&mut self, verb: &str, line: &str) -> std::io::Result<bool> {
        match verb {
            "MAIL" => {
                self.mails += 1;
                let (number, mails) = (number(line), self.mails);
                let answer = self.site.step(Step::Mail, number, mails, self.start.elapsed());
                self.mail = (answer == Answer::Well).then_some(Mail { number, has_recipient: false });
                Ok(self.answer(answer, "250 2.1.0 OK"))
            }
            "RCPT" => {
                sleep(self.site.character.tarpit).await;
                let Some(answer) = self.step(Step::Rcpt) else { return Ok(self.say("503 5.5.1 MAIL first")) };
                if let Some(mail) = self.mail.as_mut() {
                    mail.has_recipient = answer == Answer::Well;
                }
                Ok(self.answer(answer, "250 2.1.5 OK"))
            }
            "DATA" if self.mail.is_some_and(|mail| mail.has_recipient) => self.data().await,
            "DATA" => Ok(self.say("554 5.5.1 No valid recipients")),
            "RSET" => {
                self.mail = None;
                Ok(self.say("250 2.0.0 OK"))
            }
            "QUIT" => {
                self.say("221 2.0.0 Bye");
                Ok(false)
            }
            _ => Ok(self.say("500 5.5.2 What?")),
        }
    }

    async fn data(&mut self) -> std::io::Result<bool> {
        let Some(mail) = self.mail else { return Ok(false) };
        let answer = self.step(Step::Data).unwrap_or(Answer::Cut);
        let goes_on = self.answer(answer.clone(), "354 Go ahead");
        if answer != Answer::Well {
            return Ok(goes_on);
        }
        self.flush().await?;
        if self.step(Step::Body) == Some(Answer::Cut) {
            return Ok(false);
        }
        sleep(self.site.character.reads_for).await;
        loop {
            match self.line().await? {
                None => return Ok(false),
                Some(line) if line == "." => break,
                Some(_) => {}
            }
        }
        let answer = self.step(Step::Dot).unwrap_or(Answer::Cut);
        if answer == Answer::Well {
            self.site.take(mail.number, self.start.elapsed());
        }
        self.mail = None;
        Ok(self.answer(answer, "250 2.6.0 Taken"))
    }

    fn step(&self, step: Step) -> Option<Answer> {
        self.mail.map(|mail| self.site.step(step, mail.number, self.mails, self.start.elapsed()))
    }

    /// False when the connection ends.
    fn answer(&mut self, answer: Answer, well: &str) -> bool {
        match answer {
            Answer::Well => self.say(well),
            Answer::Say(reply) => self.say(&reply.to_string()),
            Answer::Cut => false,
        }
    }

    /// False when the connection ends: 421 is goodbye (RFC 5321 §3.8).
    fn say(&mut self, reply: &str) -> bool {
        self.replies += reply;
        self.replies += "\r\n";
        !reply.starts_with("421")
    }

    /// Writes what there is, after as long as the site takes for it.
    async fn flush(&mut self) -> std::io::Result<()> {
        if self.replies.is_empty() {
            return Ok(());
        }
        sleep(self.site.character.reply).await;
        let replies = std::mem::take(&mut self.replies);
        self.io.get_mut().write_all(replies.as_bytes()).await?;
        self.io.get_mut().flush().await
    }

    async fn line(&mut self) -> std::io::Result<Option<String>> {
        let mut line = String::new();
        let read = self.io.read_line(&mut line).await?;
        Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// The mail that a sender's address names: `b+17@…`. Where it names none, all of one sender's are one.
fn number(line: &str) -> u64 {
    let of = |line: &str| line.split_once('+')?.1.split_once('@')?.0.parse().ok();
    of(line).unwrap_or_else(|| line.bytes().fold(0, |n, octet| drawn(n, &[u64::from(octet)])))
}
