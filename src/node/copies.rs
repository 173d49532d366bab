//! Receipts: how many standbys hold a record, and who waits for how many.
//!
//! They are counted from what standbys say of themselves, whatever the commit rule asks for, and never
//! change what is released or what an election knows (R8). Standbys put off words that no rule waits for;
//! whom a client waits for is told so ([`Node::await_copies`]), and says it at once.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::sync::watch;

use super::driver::Node;
use crate::peer;
use crate::replica::{Level, Standing, View};
use crate::units::{Epoch, Lsn};

/// The copies that somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Copies {
    /// How many standbys.
    pub standbys: u32,
    /// How firmly each holds it.
    pub level: Level,
    /// And durable here.
    pub here: bool,
}

impl Copies {
    /// The last record of which there are so many; none where there are not so many standbys.
    fn reached(&self, view: &View) -> Option<Lsn> {
        let mut held: Vec<Lsn> = view.standbys.iter().map(|s| s.at(self.level)).collect();
        held.sort_unstable_by(|a, b| b.cmp(a));
        let away = match (self.standbys as usize).checked_sub(1) {
            Some(place) => held.get(place).copied()?,
            None => Lsn(u64::MAX),
        };
        Some(match self.here {
            true => away.min(view.log.synced),
            false => away,
        })
    }
}

/// Who waits, by the copies they ask for and the record.
type Waiting = BTreeMap<Copies, BTreeMap<(Lsn, u64), Waker>>;

/// Who waits for copies, by what they ask for.
#[derive(Debug, Default)]
pub(super) struct CopyWaiters {
    list: Mutex<Waiting>,
    next: AtomicU64,
    /// What standbys are to say at once that they hold.
    pub(super) awaited: watch::Sender<peer::Ack>,
}

impl CopyWaiters {
    fn list(&self) -> MutexGuard<'_, Waiting> {
        self.list.lock().expect("a list is only changed here")
    }

    /// The machine has moved. The caller holds its lock: nobody registers between a look and this.
    pub(super) fn moved(&self, view: &View, reign_moved: bool) {
        let mut list = self.list();
        if list.is_empty() {
            return;
        }
        let mut woken = Vec::new();
        list.retain(|copies, waiting| {
            let all = reign_moved || view.standing != Standing::Primary;
            let later = match (all, copies.reached(view)) {
                (true, _) => BTreeMap::new(),
                (false, Some(reached)) => waiting.split_off(&(Lsn(reached.0.saturating_add(1)), 0)),
                (false, None) => return true,
            };
            woken.extend(std::mem::replace(waiting, later).into_values());
            !waiting.is_empty()
        });
        drop(list);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Node {
    /// How many standbys hold the record at that level now, and whether it is durable here.
    pub fn copies_of(&self, lsn: Lsn, level: Level) -> (usize, bool) {
        let view = self.view();
        let holds = view.standbys.iter().filter(|s| s.at(level) >= lsn);
        (holds.count(), view.log.synced >= lsn)
    }

    /// Whether there are so many copies of the record.
    pub fn is_copied(&self, lsn: Lsn, copies: Copies) -> bool {
        let reached = copies.reached(&self.view());
        reached.is_some_and(|reached| reached >= lsn)
    }

    /// Asks the standbys to say at once when they hold the record at that level.
    pub fn await_copies(&self, lsn: Lsn, level: Level) {
        self.copy_waiters.awaited.send_if_modified(|awaited| {
            let cursor = match level {
                Level::Received => &mut awaited.received,
                Level::Synced => &mut awaited.synced,
                Level::Applied => &mut awaited.applied,
            };
            let higher = *cursor < lsn;
            *cursor = lsn.max(*cursor);
            higher
        });
    }

    /// Waits until readers here see the record.
    pub async fn until_applied(&self, lsn: Lsn) {
        let mut acks = self.acks.subscribe();
        acks.mark_changed();
        while self.store.applied() < lsn && acks.changed().await.is_ok() {}
    }

    /// Waits until there are so many copies of the record, or this node's reign of that epoch is over.
    pub fn until_copied(&self, epoch: Epoch, lsn: Lsn, copies: Copies) -> Copied<'_> {
        let id = self.copy_waiters.next.fetch_add(1, Ordering::Relaxed);
        Copied {
            node: self,
            epoch,
            copies,
            place: (lsn, id),
            registered: false,
        }
    }
}

/// Until there are enough copies of a record under a reign, or that is over.
#[must_use]
pub struct Copied<'a> {
    node: &'a Node,
    epoch: Epoch,
    copies: Copies,
    place: (Lsn, u64),
    registered: bool,
}

impl Copied<'_> {
    fn is_over(&self) -> bool {
        let gate = self.node.gate_now();
        gate.epoch != self.epoch
            || !gate.is_primary()
            || gate.stopping
            || self.node.is_copied(self.place.0, self.copies)
    }

    fn forget(&mut self) {
        if std::mem::take(&mut self.registered) {
            let mut list = self.node.copy_waiters.list();
            if let Some(waiting) = list.get_mut(&self.copies) {
                waiting.remove(&self.place);
                if waiting.is_empty() {
                    list.remove(&self.copies);
                }
            }
        }
    }
}

impl Future for Copied<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_over() {
            let waker = context.waker().clone();
            let mut list = self.node.copy_waiters.list();
            list.entry(self.copies)
                .or_default()
                .insert(self.place, waker);
            drop(list);
            self.registered = true;
            // It may have moved before it was known that somebody waits.
            if !self.is_over() {
                return Poll::Pending;
            }
        }
        self.forget();
        Poll::Ready(())
    }
}

impl Drop for Copied<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}
