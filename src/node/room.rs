//! A full disk: who goes on, who hands over, who waits.
//!
//! A full disk is known before it is in the way ([`crate::wal`], `log`). From then on a primary hands
//! over to a standby that has room, as long as there is one; else it stays: it serves reads, and
//! writes are refused at once where they have no room. A standby keeps what it has, takes no more
//! than it has room for, and does not stand while anybody else reigns. Where nobody does, a full
//! primary that serves reads is better than none. When there is room again, everything goes on by
//! itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::driver::Node;
use super::fitness::Unfit;
use crate::replica::Input;
use crate::units::Micros;

/// How long a full node leaves it to others to reign: longer than they need, whatever was missed.
const LEAVE_IT: Duration = Duration::from_secs(3);

/// How long a node that was full already has reigned before it hands over. Others that are full stand
/// as long as nobody reigns, and say only then that they would not. (Such a primary once handed over
/// to one of them, and for seconds nobody served reads.)
const SETTLED: Duration = Duration::from_secs(1);

/// Until a handover is tried again that came to nothing; doubled each time.
const TRY_AGAIN: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);

/// What the timer remembers of a full disk, from one round to the next.
#[derive(Debug)]
pub(super) struct Watch {
    /// When a primary was known last.
    led_at: Micros,
    /// When to hand over at the earliest.
    hand_over_at: Micros,
    patience: Duration,
}

impl Watch {
    pub(super) fn new(now: Micros) -> Watch {
        Watch {
            led_at: now,
            hand_over_at: Micros::ZERO,
            patience: TRY_AGAIN,
        }
    }

    /// Looks at the disk's room, and acts on it.
    pub(super) fn look(&mut self, node: &Node, now: Micros) {
        let gate = node.gate_now();
        let led = gate.is_primary() || (gate.primary.is_some() && !gate.suspected);
        if led {
            self.led_at = now;
        }
        if !node.reserve.is_held() && !node.is_full() {
            // Whoever spent it does not know the log's writer, which makes it again.
            node.store.log().ask_again();
        }
        let full = node.is_full();
        let waited = now.since(self.led_at);
        let left_to_others = led || u128::from(waited.0) < LEAVE_IT.as_micros() || gate.incomplete;
        let alone = node.settings.other_data_nodes().next().is_none();
        let unfit = full && !alone && !gate.is_primary() && left_to_others;
        match unfit {
            true => node.unfit(Unfit::DiskFull),
            false => node.fit_again(Unfit::DiskFull),
        }
        if !full || !gate.is_primary() {
            self.patience = TRY_AGAIN;
            if full {
                self.hand_over_at = now.plus(Micros(SETTLED.as_micros() as u64));
            }
        } else if now >= self.hand_over_at && node.view().successor.is_some() {
            self.hand_over_at = now.plus(Micros(self.patience.as_micros() as u64));
            self.patience = (self.patience * 2).min(LONGEST);
            tracing::warn!("the disk is full; handing over to a standby that has room");
            node.enter([Input::Switchover(None)]);
        }
    }
}

/// How a node stands with its disk, for those outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskState {
    /// Why it is full; `None` when it is not.
    pub full: Option<String>,
    /// For how long it has been.
    pub full_for: Duration,
    /// Bytes free there; `None` where not known.
    pub free_bytes: Option<u64>,
    /// The reserve is there.
    pub reserve: bool,
    /// How long the write or sync in flight has taken so far.
    pub stalled_for: Duration,
    /// It has taken longer than `wal.stall`.
    pub stalls: bool,
}

impl Node {
    /// How it stands with the disk of the data directory.
    pub fn disk_state(&self) -> DiskState {
        let log = self.store.log();
        let room = log.room();
        let stalled_for = log.stalled_for();
        let free = self.host.disk().free_bytes(&self.settings.data_dir);
        DiskState {
            full: room.full.map(|why| why.to_string()),
            full_for: room.full_for,
            free_bytes: free.unwrap_or(None),
            reserve: self.reserve.is_held(),
            stalled_for,
            stalls: stalled_for > self.settings.stall,
        }
    }

    /// Whether the log was refused room on its disk, and has not been granted any since.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// What the log's writer says of the disk's room.
    pub(super) fn note_room(&self, full: Option<&str>) {
        if self.full.swap(full.is_some(), Ordering::AcqRel) == full.is_some() {
            return;
        }
        match full {
            Some(why) => tracing::error!("{why}"),
            None => tracing::info!("the disk has room again"),
        }
        // The timer acts on it: this is the log's writer, which is not to be held up.
        self.timer.notify_one();
    }
}
