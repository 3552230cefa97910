//! SEARCH (RFC 9051 §6.4.4): what the mailbox's index knows is asked first, at once; where that does not decide, the mails
//! are read in bounded pieces.

mod body;
mod header;
mod question;
mod reader;
mod text;
mod truth;

use std::sync::Arc;

use base::ModSeq;
use imap::{Code, Esearch, Ranges, Search, SearchKey, SearchReturn, Tag};
use mailbox::{Entry, UidSet};

use super::{No, Session};
use question::Program;
use truth::Truth;

/// Messages that are asked without a pause, and that are read in one go at most.
const CHUNK: usize = 2000;

/// What was found: message numbers, rising.
type Found = Vec<u32>;

/// Does a large mail match? Others get their turn between its pieces.
async fn search_large(mut large: Box<reader::Large>, program: &Program) -> store::Result<bool> {
    while large.step(program)? {
        tokio::task::yield_now().await;
    }
    Ok(large.matches(program))
}

impl Session {
    pub(super) async fn search(&mut self, tag: &Tag, uid: bool, search: Search) -> Result<(), No> {
        let with_mod_seq = search.program.keys().any(|key| matches!(key, SearchKey::ModSeq(_)));
        if with_mod_seq {
            self.use_mod_seqs();
        }
        let now = self.services.mailboxes.clock().now();
        let selected = self.selected()?;
        let program = Arc::new(Program::new(&search.program, selected, now));
        if search.returns.is_some_and(|returns| returns.save) {
            // RFC 5182 §2.1: after a SEARCH with SAVE that fails, `$` is empty.
            selected.saved = UidSet::new();
        }
        let found = self.find_messages(program).await?;
        self.write_found(tag, uid, search.returns, with_mod_seq, &found)?;
        self.tell(uid).await?;
        let behind = !uid && self.selected.as_ref().is_some_and(|selected| selected.ahead.is_some());
        self.ok(tag, behind.then_some(Code::ExpungeIssued), "SEARCH completed");
        Ok(())
    }

    async fn find_messages(&mut self, program: Arc<Program>) -> Result<Found, No> {
        let selected = self.selected()?;
        let index = selected.view.index().clone();
        let (mut found, mut open, mut next) = (Found::new(), Vec::new(), 1);
        while next <= index.len() {
            for (seq, entry) in index.iter_from(next).take(CHUNK) {
                let entry = Entry { flags: self.selected()?.flags_of(entry), ..*entry };
                match program.ask_index(seq, &entry) {
                    Truth::Yes => found.push(seq),
                    Truth::No => {}
                    Truth::Unknown => open.push((seq, entry)),
                }
                next = seq + 1;
            }
            if open.len() >= CHUNK || next > index.len() {
                self.read_open(&program, std::mem::take(&mut open), &mut found).await?;
            } else {
                tokio::task::consume_budget().await;
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Reads those that the index could not decide.
    async fn read_open(
        &mut self,
        program: &Arc<Program>,
        open: Vec<(u32, Entry)>,
        found: &mut Found,
    ) -> Result<(), No> {
        let (open, mut from) = (Arc::new(open), 0);
        while from < open.len() {
            let selected = self.selected()?;
            let reader = reader::Reader {
                account: selected.view.account(),
                mailbox: selected.view.mailbox(),
                store: self.store_below().clone(),
                program: program.clone(),
            };
            let rest = open.clone();
            let read = self.store_below().read(move |tx| reader.read(tx, &rest[from..])).await?;
            found.extend(read.found);
            from += read.done;
            let Some(large) = read.large else { continue };
            let seq = large.seq;
            match search_large(large, program).await {
                Ok(matches) => found.extend(matches.then_some(seq)),
                // One mail that cannot be read does not hide the others.
                Err(error) => tracing::error!(seq, %error, "a mail cannot be read"),
            }
        }
        Ok(())
    }

    /// Answers in the form that was asked for, and keeps `$`.
    fn write_found(
        &mut self,
        tag: &Tag,
        uid: bool,
        returns: Option<SearchReturn>,
        with_mod_seq: bool,
        found: &Found,
    ) -> Result<(), No> {
        let rev2 = self.enabled.rev2;
        let selected = self.selected()?;
        let index = selected.view.index().clone();
        let number = |seq: u32| if uid { index.get(seq).map_or(0, |entry| entry.uid.0) } else { seq };
        let highest = |among: &[u32]| -> Option<ModSeq> {
            among.iter().filter_map(|seq| index.get(*seq)).map(|entry| entry.modseq).max().filter(|_| with_mod_seq)
        };
        // RFC 9051 §6.4.4: IMAP4rev2 always answers with ESEARCH.
        let returns = match returns {
            None if rev2 => SearchReturn { all: true, ..SearchReturn::default() },
            None => {
                self.machine.writer().search(found.iter().map(|seq| number(*seq)), highest(found));
                return Ok(());
            }
            Some(returns) => returns,
        };
        let (first, last) = (found.first().copied(), found.last().copied());
        let ends: Vec<u32> = first.filter(|_| returns.min).into_iter().chain(last.filter(|_| returns.max)).collect();
        let only_ends = !returns.all && !returns.count;
        if returns.save {
            // RFC 5182 §2.4: with MIN or MAX alone, these are saved.
            let saved = if only_ends && (returns.min || returns.max) { &ends } else { found };
            let uids: Vec<u32> = saved.iter().filter_map(|seq| index.get(*seq)).map(|entry| entry.uid.0).collect();
            selected.saved = UidSet::from_ranges(uids.iter().map(|uid| (*uid, *uid)));
        }
        if returns == (SearchReturn { save: true, ..SearchReturn::default() }) {
            return Ok(());
        }
        let all: Option<Ranges> = returns.all.then(|| found.iter().map(|seq| number(*seq)).collect());
        self.machine.writer().esearch(&Esearch {
            tag,
            uid,
            min: first.filter(|_| returns.min).map(number),
            max: last.filter(|_| returns.max).map(number),
            count: returns.count.then_some(found.len() as u32),
            all: all.as_ref(),
            // RFC 7162 §3.1.10: of what is told.
            mod_seq: highest(if only_ends { &ends } else { found }),
        });
        Ok(())
    }
}
