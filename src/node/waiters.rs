//! Who waits for which record to be shown: woken when it is, and not at every release before it.
//!
//! (Each of fifty connections once watched the gate, and each sync woke them all, to find that it was
//! another's.)

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::driver::Node;
use super::gate::Gate;
use crate::units::{Epoch, Lsn};

/// Those who wait, by what they wait for.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    list: Mutex<BTreeMap<Place, Waker>>,
    next: AtomicU64,
}

/// What is waited for, and by whom.
type Place = (Lsn, u64);

impl Waiters {
    fn list(&self) -> MutexGuard<'_, BTreeMap<Place, Waker>> {
        self.list.lock().expect("a list is only changed here")
    }

    /// The gate has become this; what it was before is told to find out whom to wake.
    pub(super) fn gate_changed(&self, before: &Gate, now: &Gate) {
        let same_reign = before.epoch == now.epoch && before.serves == now.serves;
        let all = !same_reign || now.stopping;
        if !all && now.shown <= before.shown {
            return;
        }
        let woken = {
            let mut list = self.list();
            let later = match all {
                true => BTreeMap::new(),
                false => list.split_off(&(now.shown.next(), 0)),
            };
            std::mem::replace(&mut *list, later)
        };
        for waker in woken.into_values() {
            waker.wake();
        }
    }
}

/// Until a record is shown under a reign, or that is over.
#[must_use]
pub struct Shown<'a> {
    node: &'a Node,
    epoch: Epoch,
    place: Place,
    registered: bool,
}

impl Node {
    /// Waits until replies may show this record, or this node's reign of that epoch is over.
    pub fn until_shown(&self, epoch: Epoch, lsn: Lsn) -> Shown<'_> {
        let id = self.waiters.next.fetch_add(1, Ordering::Relaxed);
        Shown {
            node: self,
            epoch,
            place: (lsn, id),
            registered: false,
        }
    }
}

impl Shown<'_> {
    fn is_over(&self) -> bool {
        let gate = self.node.gate_now();
        gate.shown >= self.place.0 || gate.epoch != self.epoch || !gate.is_primary()
    }

    fn forget(&mut self) {
        if std::mem::take(&mut self.registered) {
            self.node.waiters.list().remove(&self.place);
        }
    }
}

impl Future for Shown<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_over() {
            let waker = context.waker();
            let mut list = self.node.waiters.list();
            match list.get_mut(&self.place) {
                Some(known) => known.clone_from(waker),
                None => drop(list.insert(self.place, waker.clone())),
            }
            drop(list);
            self.registered = true;
            // The gate may have moved before it was known that somebody waits.
            if !self.is_over() {
                return Poll::Pending;
            }
        }
        self.forget();
        Poll::Ready(())
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}
