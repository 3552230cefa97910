//! FETCH: what is in the mailbox's index is written at once; the rest is read from the store in batches, the next one
//! while the last is on its way to the client.

mod batch;
mod binary;
mod output;
mod plan;
mod section;
mod send;

use std::io;
use std::sync::Arc;

use imap::{Fetch, SequenceSet, Tag};
use mailbox::verbs::StoreRequest;
use mailbox::{Entry, FlagOp, Flags, UidSet};

use super::select::entries;
use super::tell::Mention;
use super::{No, PIECE, Session, ranges};
use crate::conn::REVOKED;
use batch::{Batch, Item, Trouble};
use output::Piece;
use plan::Plan;

/// Messages of a chunk.
const CHUNK: usize = 500;
/// Octets that are marked `\Seen` in one job: about what is sent while nobody could say where the client stopped reading.
const MARKED: u64 = 4 << 20;

/// Which messages a FETCH is about.
struct Wanted {
    numbers: UidSet,
    /// CHANGEDSINCE (RFC 7162 §3.1.4).
    since: Option<base::ModSeq>,
    /// Those before it are done.
    from: u32,
    /// UIDs this FETCH marked `\Seen`.
    marked: Vec<u32>,
}

impl Session {
    pub(super) async fn fetch(&mut self, tag: &Tag, uid: bool, set: &SequenceSet, fetch: Fetch) -> Result<(), No> {
        let numbers = self.selected()?.numbers(uid, set)?;
        let plan = Plan::new(&fetch, uid, self.enabled.utf8 || self.enabled.rev2);
        if plan.uses_mod_seqs {
            self.use_mod_seqs();
        }
        if fetch.vanished {
            self.tell_vanished(set, &fetch).await?;
        }
        let mut wanted = Wanted { numbers, since: fetch.changed_since, from: 1, marked: Vec::new() };
        let trouble = if plan.reads_store() {
            self.fetch_from_store(plan, &mut wanted).await?
        } else {
            self.fetch_from_index(&plan, &wanted).await?;
            None
        };
        let marked: UidSet = wanted.marked.into_iter().collect();
        self.tell_but(uid, mention_but(&marked, self.enabled.condstore)).await?;
        // RFC 9051 §6.4.9: UIDs that are not there are passed over.
        if let Some(trouble) = trouble.filter(|trouble| !uid || *trouble != Trouble::Gone) {
            return Err(trouble.into());
        }
        self.ok(tag, None, "FETCH completed");
        Ok(())
    }

    /// RFC 7162 §3.2.6; trap 9: UIDs above the highest that is there are among them.
    async fn tell_vanished(&mut self, set: &SequenceSet, fetch: &Fetch) -> Result<(), No> {
        if !self.enabled.qresync {
            return Err(No::Wrong("ENABLE QRESYNC first"));
        }
        let Some(since) = fetch.changed_since else { return Ok(()) };
        let selected = self.selected()?;
        // `*` reaches as far as UIDs were given.
        let mut among = super::uid_set(&set.resolve(selected.view.index().uid_next.saturating_sub(1).max(1)));
        if set.has_saved() {
            among.union(&selected.saved);
        }
        let gone = self.vanished(since, &among).await?;
        self.machine.writer().vanished(true, &ranges(&gone));
        Ok(())
    }

    async fn fetch_from_index(&mut self, plan: &Plan, wanted: &Wanted) -> Result<(), No> {
        let Some(selected) = self.selected.take() else { return Ok(()) };
        let index = selected.view.index();
        let mut outcome = Ok(());
        for (seq, entry) in entries(index, &wanted.numbers, 1).filter(|(_, entry)| wanted.concerns(entry)) {
            let entry = Entry { flags: selected.flags_of(entry), ..*entry };
            plan.write_index_items(self.machine.output(), seq, &entry, selected.keywords());
            if self.machine.output().len() >= PIECE {
                outcome = self.flush().await;
                if outcome.is_err() {
                    break;
                }
            }
        }
        self.selected = Some(selected);
        Ok(outcome?)
    }

    /// Reads and sends in turn: the next batch is read while the last is sent. Gives what went wrong with single
    /// messages.
    async fn fetch_from_store(&mut self, plan: Plan, wanted: &mut Wanted) -> Result<Option<Trouble>, No> {
        let (plan, mut trouble) = (Arc::new(plan), None);
        let mut chunk = self.next_chunk(&plan, wanted).await?;
        let mut ready = self.read_batch(&plan, &chunk, 0).await?;
        loop {
            trouble = trouble.or(ready.trouble);
            let mut done = ready.done;
            if done == chunk.len() {
                (chunk, done) = (self.next_chunk(&plan, wanted).await?, 0);
            }
            if chunk.is_empty() {
                self.send_last(ready.pieces).await?;
                return Ok(trouble);
            }
            // What was written before goes before.
            self.flush().await?;
            if self.is_revoked() {
                return Err(io::Error::other(REVOKED).into());
            }
            let reading = self.read_batch(&plan, &chunk, done);
            let (sent, read) = tokio::join!(send::pieces(&mut self.conn, ready.pieces), reading);
            sent?;
            ready = read?;
        }
    }

    /// The last batch, which may be all: it is sent together with the command's end.
    async fn send_last(&mut self, pieces: Vec<Piece>) -> io::Result<()> {
        for piece in pieces {
            match piece {
                Piece::Octets(octets) => self.machine.output().extend_from_slice(&octets),
                large => {
                    self.flush().await?;
                    send::pieces(&mut self.conn, vec![large]).await?;
                }
            }
        }
        Ok(())
    }

    /// The next messages; where their bodies are read they are marked `\Seen` first (RFC 9051 §6.4.5), all in one job.
    async fn next_chunk(&mut self, plan: &Plan, wanted: &mut Wanted) -> Result<Arc<Vec<Item>>, No> {
        let selected = self.selected()?;
        let marks = plan.marks_seen && !selected.read_only;
        let mut octets = 0;
        let mut items: Vec<Item> = entries(selected.view.index(), &wanted.numbers, wanted.from)
            .filter(|(_, entry)| wanted.concerns(entry))
            .take(CHUNK)
            .take_while(|(_, entry)| {
                let room = !marks || octets < MARKED;
                octets += u64::from(entry.octets);
                room
            })
            .map(|(seq, entry)| Item { seq, entry: Entry { flags: selected.flags_of(entry), ..*entry }, marked: false })
            .collect();
        if let Some(last) = items.last() {
            wanted.from = last.seq + 1;
        }
        if marks {
            self.mark_seen(&mut items, &mut wanted.marked).await;
        }
        Ok(Arc::new(items))
    }

    /// Where that fails (the disk is full, say) the messages can be read all the same, and stay unseen.
    async fn mark_seen(&mut self, items: &mut [Item], marked: &mut Vec<u32>) {
        let unseen = |item: &&mut Item| !item.entry.flags.has(Flags::SEEN);
        let uids: UidSet = items.iter_mut().filter(unseen).map(|item| item.entry.uid.0).collect();
        let Some(selected) = self.selected.as_ref().filter(|_| !uids.is_empty()) else { return };
        let (op, flags) = (FlagOp::Add, Flags::SEEN);
        let request = StoreRequest { uids: uids.clone(), op, flags, keywords: Vec::new(), unchanged_since: None };
        if let Err(error) = selected.view.store_flags(request).await {
            tracing::warn!(%error, "messages that are read could not be marked as seen");
            return;
        }
        for item in items.iter_mut().filter(unseen) {
            item.marked = true;
            item.entry.flags = item.entry.flags.with(Flags::SEEN);
        }
        marked.extend(uids.iter());
    }

    /// Reads the next batch of a chunk; nothing for one that is empty.
    fn read_batch(
        &self,
        plan: &Arc<Plan>,
        chunk: &Arc<Vec<Item>>,
        from: usize,
    ) -> impl Future<Output = Result<Batch, No>> + use<> {
        let store = self.store_below().clone();
        let reader = self.selected.as_ref().filter(|_| !chunk.is_empty()).map(|selected| batch::Reader {
            store: store.clone(),
            account: selected.view.account(),
            mailbox: selected.view.mailbox(),
            keywords: selected.keywords().clone(),
            plan: plan.clone(),
        });
        let chunk = chunk.clone();
        async move {
            let Some(reader) = reader else { return Ok(Batch::default()) };
            let mut batch = store.read(move |tx| reader.read(tx, &chunk[from..])).await?;
            batch.done += from;
            Ok(batch)
        }
    }
}

impl Wanted {
    fn concerns(&self, entry: &Entry) -> bool {
        self.since.is_none_or(|since| entry.modseq > since)
    }
}

/// What was marked `\Seen` by this FETCH was told with it, but for its MODSEQ.
fn mention_but(marked: &UidSet, condstore: bool) -> impl Fn(Option<&Entry>, &Entry) -> Mention {
    move |before, now| {
        let expected = before.map(|entry| entry.flags.with(Flags::SEEN));
        let told = !condstore && marked.contains(now.uid.0) && expected == Some(now.flags);
        if told { Mention::Nothing } else { Mention::Flags }
    }
}
