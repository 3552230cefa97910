//! LIST in all its forms, and LSUB (RFC 9051 §6.3.9, RFC 5258, RFC 5819, RFC 6154, RFC 3501 §6.3.9).

use std::collections::BTreeMap;

use imap::{Code, List, ListAttribute, ListEntry, MailboxName, Pattern, SpecialUse, StatusItem, Tag};
use mailbox::verbs::{self, FolderInfo};

use super::{No, Session};

/// Comparisons of names with patterns before others get a turn: a fraction of a millisecond.
const AT_ONCE: usize = 100_000;
/// Comparisons of one command: thousands of mailboxes take some millions. Patterns can be made to take more.
const MOST: usize = 50_000_000;

/// A name there is something to say of: a mailbox, a level above one, a subscription.
#[derive(Clone, Copy, Default)]
struct Node<'a> {
    folder: Option<&'a FolderInfo>,
    subscribed: bool,
    /// A mailbox is below it.
    children: bool,
}

/// Every name, in order.
type Tree<'a> = BTreeMap<&'a str, Node<'a>>;

/// The levels above a name.
fn above(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..at])
}

fn tree<'a>(folders: &'a [FolderInfo], subscriptions: &'a [String]) -> Tree<'a> {
    let mut tree = Tree::new();
    for folder in folders {
        tree.entry(&folder.name).or_default().folder = Some(folder);
        above(&folder.name).for_each(|level| tree.entry(level).or_default().children = true);
    }
    for name in subscriptions {
        tree.entry(name).or_default().subscribed = true;
        above(name).for_each(|level| _ = tree.entry(level).or_default());
    }
    tree
}

impl Node<'_> {
    fn special_use(&self) -> Option<SpecialUse> {
        SpecialUse::parse(self.folder?.special_use.as_deref()?.as_bytes())
    }

    /// Is it what the selection options ask for (RFC 5258 §3.1)?
    fn is_selected(&self, list: &List) -> bool {
        if list.select_subscribed || list.select_special_use {
            return (!list.select_subscribed || self.subscribed)
                && (!list.select_special_use || self.special_use().is_some());
        }
        // A level above a mailbox is shown; one above a mere subscription is not.
        self.folder.is_some() || self.children
    }

    fn attributes(&self, list: &List) -> Vec<ListAttribute> {
        let mut all = Vec::new();
        if self.folder.is_none() {
            all.push(ListAttribute::NonExistent);
            // RFC 5258 §3: it implies \Noselect, which older clients know.
            all.extend((!list.extended).then_some(ListAttribute::NoSelect));
        }
        if list.return_subscribed || list.select_subscribed {
            all.extend(self.subscribed.then_some(ListAttribute::Subscribed));
        }
        all.push(if self.children { ListAttribute::HasChildren } else { ListAttribute::HasNoChildren });
        all.extend(self.special_use().map(ListAttribute::Use));
        all
    }
}

/// A name that is told.
struct Match<'a> {
    name: &'a str,
    node: Node<'a>,
    /// RECURSIVEMATCH: something below it is selected and not itself told (RFC 5258 §3.5).
    child_selected: bool,
}

/// What matches, in order. Matching takes its time with patterns made for that, so others get their turn.
///
/// # Errors
/// NO when it would take too much.
async fn matches<'a>(tree: &Tree<'a>, list: &List) -> Result<Vec<Match<'a>>, No> {
    let patterns: Vec<Pattern> =
        list.patterns.iter().map(|pattern| Pattern::new(&list.reference, pattern, Some('/'))).collect();
    let mut found = Vec::new();
    // Those that are selected, and that no pattern matched.
    let mut hidden = Vec::new();
    let (mut spent, mut pause_at) = (0, AT_ONCE);
    for (name, node) in tree {
        let selected = node.is_selected(list);
        let mut matched = false;
        for pattern in &patterns {
            spent += pattern.cost(name);
            if spent > MOST {
                return Err(No::refused(Code::Limit, "These patterns take too long"));
            }
            if spent >= pause_at {
                tokio::task::yield_now().await;
                pause_at = spent + AT_ONCE;
            }
            matched = pattern.matches(name);
            if matched {
                break;
            }
        }
        if matched {
            if selected || list.recursive_match {
                found.push((Match { name, node: *node, child_selected: false }, selected));
            }
        } else if selected && list.recursive_match {
            hidden.push(*name);
        }
    }
    for (one, _) in &mut found {
        let below = format!("{}/", one.name);
        let first = hidden.partition_point(|name| **name < *below);
        one.child_selected = hidden.get(first).is_some_and(|name| name.starts_with(&below));
    }
    Ok(found.into_iter().filter(|(one, selected)| *selected || one.child_selected).map(|(one, _)| one).collect())
}

impl Session {
    async fn folders_and_subscriptions(&self) -> Result<(Vec<FolderInfo>, Vec<String>), No> {
        let account = self.user()?;
        let work = move |tx: &mut store::Tx<'_>| Ok((verbs::folders(tx, account)?, verbs::subscriptions(tx, account)?));
        Ok(self.store_below().read(work).await?)
    }

    pub(super) async fn list(&mut self, tag: &Tag, list: List) -> Result<(), No> {
        if !list.extended && list.patterns.iter().all(|pattern| pattern.is_empty()) {
            // RFC 9051 §6.3.9: an empty pattern asks for the delimiter.
            self.list_root();
            return self.done(tag, None, "LIST completed").await;
        }
        if list.return_status.is_some_and(|items| items.contains(StatusItem::HighestModSeq)) {
            self.use_mod_seqs();
        }
        let (folders, subscriptions) = self.folders_and_subscriptions().await?;
        let tree = tree(&folders, &subscriptions);
        for one in matches(&tree, &list).await? {
            let Some(name) = MailboxName::new(one.name) else { continue };
            let attributes = one.node.attributes(&list);
            self.machine.writer().list(&ListEntry {
                attributes: &attributes,
                delimiter: Some('/'),
                name: &name,
                old_name: None,
                child_subscribed: one.child_selected && list.select_subscribed,
            });
            if let (Some(items), Some(folder)) = (list.return_status, one.node.folder) {
                self.write_status(&name, folder, items);
            }
            self.flush_if_full().await?;
        }
        self.done(tag, None, "LIST completed").await
    }

    fn list_root(&mut self) {
        if let Some(root) = MailboxName::new("") {
            let attributes = &[ListAttribute::NoSelect];
            let entry =
                ListEntry { attributes, delimiter: Some('/'), name: &root, old_name: None, child_subscribed: false };
            self.machine.writer().list(&entry);
        }
    }

    /// RFC 3501 §6.3.9: with `%`, a level above subscribed names is told as `\Noselect`.
    pub(super) async fn lsub(&mut self, tag: &Tag, reference: &str, pattern: &str) -> Result<(), No> {
        let (folders, subscriptions) = self.folders_and_subscriptions().await?;
        let tree = tree(&folders, &subscriptions);
        let list = List {
            select_subscribed: true,
            recursive_match: true,
            reference: reference.into(),
            patterns: vec![pattern.into()],
            ..List::default()
        };
        for one in matches(&tree, &list).await? {
            let Some(name) = MailboxName::new(one.name) else { continue };
            let attributes: &[ListAttribute] = if one.node.subscribed { &[] } else { &[ListAttribute::NoSelect] };
            let entry =
                ListEntry { attributes, delimiter: Some('/'), name: &name, old_name: None, child_subscribed: false };
            self.machine.writer().lsub(&entry);
            self.flush_if_full().await?;
        }
        self.done(tag, None, "LSUB completed").await
    }
}
