//! The driver of PostgreSQL, run by the thread that waits for its answers.
//!
//! A request goes out when its future is first polled, and answers come in the order of requests: so what nobody waits for is *sent*, and
//! the next that is waited for goes out behind it before the first of them is answered. A thousand rows are a few round trips that way.

use std::collections::VecDeque;
use std::future::{Future, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::TryStreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Config, Connection, Error, NoTls, Row, Socket, Statement};

use crate::Answer;

/// So many answers are out at most: that bounds what is held for them. Down to half of them are waited for then, so that the server has
/// work meanwhile.
const MOST_SENT: usize = 128;

/// A parameter that outlives who sent it.
pub(crate) type Kept = Box<dyn ToSql + Sync + Send>;

type Awaited = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

/// A connection.
pub(crate) struct Client {
    runtime: Runtime,
    client: Arc<tokio_postgres::Client>,
    /// None once it has ended: then all that is asked fails.
    connection: Option<Connection<Socket, NoTlsStream>>,
    /// Names of statements, and their answers that nobody has heard yet.
    sent: VecDeque<(&'static str, Awaited)>,
}

/// What failed, and how: not always what was waited for.
pub(crate) struct Failed {
    pub(crate) name: &'static str,
    pub(crate) why: Error,
}

impl Client {
    pub(crate) fn connect(config: &Config) -> std::io::Result<Result<Self, Error>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(config.connect(NoTls)).map(|(client, connection)| Client {
            runtime,
            client: Arc::new(client),
            connection: Some(connection),
            sent: VecDeque::new(),
        }))
    }

    /// Statements without parameters, as text.
    pub(crate) fn batch(&mut self, name: &'static str, text: &str) -> Result<(), Failed> {
        let client = self.client.clone();
        self.wait(name, client.batch_execute(text))
    }

    pub(crate) fn prepare(&mut self, name: &'static str, text: &str) -> Result<Statement, Failed> {
        let client = self.client.clone();
        self.wait(name, client.prepare(text))
    }

    pub(crate) fn execute(
        &mut self,
        name: &'static str,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Failed> {
        let client = self.client.clone();
        self.wait(name, client.execute(statement, params))
    }

    /// Rows come as they are read; what `each` says ends them is given.
    pub(crate) fn rows<E>(
        &mut self,
        name: &'static str,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
        mut each: impl FnMut(&Row) -> Result<(), E>,
    ) -> Result<Result<(), E>, Failed> {
        let client = self.client.clone();
        let rows = self.wait(name, client.query_raw(statement, params.iter().copied()))?;
        let mut rows = pin!(rows);
        while let Some(row) = self.wait(name, rows.try_next())? {
            if let Err(e) = each(&row) {
                return Ok(Err(e));
            }
        }
        Ok(Ok(()))
    }

    /// Whether it failed, the next call says that waits.
    pub(crate) fn send(&mut self, name: &'static str, statement: Statement, params: Vec<Kept>) -> Result<(), Failed> {
        self.room(|_| ())?;
        self.begin(name, statement, params)
    }

    /// Gives each of `all` to `then` with its answer.
    pub(crate) fn each<T>(
        &mut self,
        name: &'static str,
        statement: &Statement,
        all: impl IntoIterator<Item = T>,
        with: impl Fn(&T) -> Vec<Kept>,
        mut then: impl FnMut(T, Answer),
    ) -> Result<(), Failed> {
        self.settle()?;
        let mut asked = VecDeque::new();
        for item in all {
            self.room(|answer| _ = asked.pop_front().map(|item| then(item, answer)))?;
            self.begin(name, statement.clone(), with(&item))?;
            asked.push_back(item);
        }
        self.hear(0, |answer| _ = asked.pop_front().map(|item| then(item, answer)))
    }

    /// Waits for the answers to all that was sent.
    pub(crate) fn settle(&mut self) -> Result<(), Failed> {
        self.hear(0, |_| ())
    }

    fn begin(&mut self, name: &'static str, statement: Statement, params: Vec<Kept>) -> Result<(), Failed> {
        let client = self.client.clone();
        let mut answer: Awaited = Box::pin(async move { answer(&client, &statement, params).await });
        match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => {
                let done = done.map_err(|why| Failed { name, why })?;
                self.sent.push_back((name, Box::pin(ready(Ok(done)))));
            }
            Poll::Pending => self.sent.push_back((name, answer)),
        }
        Ok(())
    }

    /// Waits until one more may be sent.
    fn room(&mut self, heard: impl FnMut(Answer)) -> Result<(), Failed> {
        if self.sent.len() < MOST_SENT { Ok(()) } else { self.hear(MOST_SENT / 2, heard) }
    }

    /// Waits for answers until no more than `most` are out.
    fn hear(&mut self, most: usize, heard: impl FnMut(Answer)) -> Result<(), Failed> {
        let Client { runtime, connection, sent, .. } = self;
        if sent.len() <= most { Ok(()) } else { drive(runtime, connection, "answers", answers(sent, most, heard)) }
    }

    /// Forgets what was sent: whatever became of it, it is taken back.
    pub(crate) fn forget(&mut self) {
        self.sent.clear();
    }

    /// Asks, and waits: for what was sent before, too.
    fn wait<T>(&mut self, name: &'static str, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Failed> {
        let Client { runtime, connection, sent, .. } = self;
        drive(runtime, connection, name, async {
            let mut asked = pin!(asked);
            let at_once = poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx))).await;
            answers(sent, 0, |_| ()).await?;
            let done = match at_once {
                Poll::Ready(done) => done,
                Poll::Pending => asked.await,
            };
            done.map_err(|why| Failed { name, why })
        })
    }
}

async fn answer(client: &tokio_postgres::Client, statement: &Statement, params: Vec<Kept>) -> Result<Answer, Error> {
    let mut rows = pin!(client.query_raw(statement, params).await?);
    let mut returned = None;
    while let Some(row) = rows.try_next().await? {
        returned = Some(row.try_get(0)?);
    }
    Ok(Answer { changed: rows.rows_affected().unwrap_or(0), returned })
}

/// In their order: an answer that nobody takes holds up all behind it.
async fn answers(
    sent: &mut VecDeque<(&'static str, Awaited)>,
    most: usize,
    mut heard: impl FnMut(Answer),
) -> Result<(), Failed> {
    while sent.len() > most
        && let Some((name, answer)) = sent.pop_front()
    {
        heard(answer.await.map_err(|why| Failed { name, why })?);
    }
    Ok(())
}

/// Reads and writes until `work` is done.
fn drive<T>(
    runtime: &Runtime,
    connection: &mut Option<Connection<Socket, NoTlsStream>>,
    name: &'static str,
    work: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    let mut work = pin!(work);
    runtime.block_on(poll_fn(|cx| {
        while let Some(Poll::Ready(message)) = connection.as_mut().map(|c| c.poll_message(cx)) {
            match message {
                Some(Ok(AsyncMessage::Notice(notice))) => tracing::warn!(notice = notice.message(), "PostgreSQL"),
                Some(Ok(_)) => {}
                // It is not to be asked again. Whoever still waits for an answer hears that there is none.
                None => *connection = None,
                Some(Err(why)) => {
                    *connection = None;
                    return Poll::Ready(Err(Failed { name, why }));
                }
            }
        }
        work.as_mut().poll(cx)
    }))
}
