//! Keyspace events on their way to subscribers: kept until what they tell of is released, in the order of
//! the log.
//!
//! Promises: nobody is told of what may still be lost (R32): events of a record that is given up are
//! forgotten with it. Memory is bounded: where the release does not keep up, the newest events are left
//! out, as Redis leaves out what a subscriber does not read.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use super::driver::Node;
use super::gate::Gate;
use super::guard::Guard;
use super::tunables::Tunable;
use crate::keyspace::{EventClasses, Notice};
use crate::units::{Epoch, Lsn};

/// Events that wait, at most.
const MOST: usize = 1 << 20;

/// What was done under one LSN.
#[derive(Debug)]
struct Waiting {
    /// The reign that did it; none: applied by a standby.
    epoch: Option<Epoch>,
    lsn: Lsn,
    notices: Vec<Notice>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    notices: usize,
}

/// The events of one node.
#[derive(Debug)]
pub(super) struct Notices {
    queue: Mutex<Queue>,
    added: Notify,
    /// The classes that are told; see [`EventClasses::bits`].
    pub(super) classes: Tunable,
    full: AtomicBool,
}

/// What becomes of the oldest events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Told,
    Waits,
    Forgotten,
}

impl Notices {
    pub(super) fn new() -> Notices {
        Notices {
            queue: Mutex::default(),
            added: Notify::new(),
            classes: Tunable::new(0),
            full: AtomicBool::new(false),
        }
    }

    /// The classes, where anything is to be told at all.
    pub(super) fn wanted(&self) -> Option<EventClasses> {
        let classes = EventClasses::of_bits(self.classes.get());
        classes.tells().then_some(classes)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics with the queue")
    }

    pub(super) fn add(&self, epoch: Option<Epoch>, lsn: Lsn, notices: Vec<Notice>) {
        if notices.is_empty() {
            return;
        }
        let mut queue = self.lock();
        if queue.notices.saturating_add(notices.len()) > MOST {
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::warn!("more than {MOST} keyspace events wait; new ones are left out");
            }
            return;
        }
        queue.notices += notices.len();
        queue.waiting.push_back(Waiting {
            epoch,
            lsn,
            notices,
        });
        drop(queue);
        self.added.notify_one();
    }

    /// What was applied behind `fork` is taken back.
    pub(super) fn rewind(&self, fork: Lsn) {
        let mut queue = self.lock();
        queue.waiting.retain(|waiting| waiting.lsn <= fork);
        queue.notices = queue
            .waiting
            .iter()
            .map(|waiting| waiting.notices.len())
            .sum();
    }
}

fn fate(waiting: &Waiting, gate: &Gate, leased: bool) -> Fate {
    let lsn = waiting.lsn;
    match waiting.epoch {
        Some(epoch) if gate.is_primary() && gate.epoch == epoch => {
            match lsn <= gate.shown && leased {
                true => Fate::Told,
                false => Fate::Waits,
            }
        }
        // As for replies: what a handed-over reign released stays true.
        Some(epoch) => match gate.settled {
            Some((settled, last)) if settled == epoch && lsn <= last => Fate::Told,
            _ => Fate::Forgotten,
        },
        None => match lsn <= gate.released {
            true => Fate::Told,
            false => Fate::Waits,
        },
    }
}

impl Node {
    /// The next events that may be told. Ends only with the node.
    pub async fn next_notices(&self) -> Vec<Notice> {
        let mut gate = self.gate();
        loop {
            gate.mark_unchanged();
            let waits_for = match self.take_notices() {
                Ok(notices) => return notices,
                Err(waits_for) => waits_for,
            };
            tokio::select! {
                () = self.store.notices.added.notified() => {}
                () = self.shown_or_never(waits_for) => {}
                // The gate lives as long as the node.
                _ = gate.changed() => {}
            }
        }
    }

    async fn shown_or_never(&self, waits_for: Option<(Epoch, Lsn)>) {
        match waits_for {
            Some((epoch, lsn)) if self.gate_now().shown < lsn => self.until_shown(epoch, lsn).await,
            _ => std::future::pending().await,
        }
    }

    /// The oldest events, if they may be told; else the record that they wait for, if any do.
    fn take_notices(&self) -> Result<Vec<Notice>, Option<(Epoch, Lsn)>> {
        let gate = self.gate_now();
        let keeps_leases = self.settings.keeps(Guard::R18);
        let leased = !keeps_leases || self.host.boot_time() < gate.lease_until;
        let mut queue = self.store.notices.lock();
        while let Some(front) = queue.waiting.front() {
            let fate = fate(front, &gate, leased);
            if fate == Fate::Waits {
                return Err(front.epoch.map(|epoch| (epoch, front.lsn)));
            }
            if let Some(gone) = queue.waiting.pop_front() {
                queue.notices -= gone.notices.len();
                self.store.notices.full.store(false, Ordering::Relaxed);
                if fate == Fate::Told {
                    return Ok(gone.notices);
                }
            }
        }
        Err(None)
    }
}
