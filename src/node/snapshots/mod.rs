//! Making, loading and choosing snapshots, so that the log does not grow for ever and a blank
//! standby gets a copy.
//!
//! Whatever is removed here is removed last: a snapshot once a newer one was read back and its name
//! is durable, a segment once no snapshot that is kept needs it.

mod confirm;
mod load;
mod make;
mod pace;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::driver::Node;
use crate::units::{Lsn, Micros, NodeId};
use crate::wal::SnapshotError;

pub use load::CannotLoad;
pub(super) use load::{Loaded, load, load_newest};
pub use make::NoSnapshot;
use make::make;
pub(super) use pace::Pace;

/// How long the snapshot of a copy that broke off is kept, so that the copy can go on: a standby's
/// restart and more, and no more: what a dead one leaves behind must not fill this disk.
const KEPT_FOR: Micros = Micros(120_000_000);

impl Node {
    /// A snapshot is being made.
    pub fn makes_snapshot(&self) -> bool {
        self.desk.making.try_lock().is_err()
    }
}

/// Who uses which snapshot.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Held while a snapshot is made: two walks at once would cost twice, for the same.
    making: tokio::sync::Mutex<()>,
    copies: Mutex<BTreeMap<NodeId, Copy>>,
    /// Standbys that take a copy from another standby, and behind what they will need this log.
    elsewhere: Mutex<BTreeMap<NodeId, Lsn>>,
}

#[derive(Debug)]
struct Copy {
    path: PathBuf,
    /// Streams that send it now.
    under_way: u32,
    /// Until when it is kept where none does.
    until: Micros,
}

impl Desk {
    fn copies(&self) -> MutexGuard<'_, BTreeMap<NodeId, Copy>> {
        self.copies
            .lock()
            .expect("the list of copies is only read and set")
    }

    fn elsewhere(&self) -> MutexGuard<'_, BTreeMap<NodeId, Lsn>> {
        self.elsewhere
            .lock()
            .expect("the list of copies is only read and set")
    }

    /// Behind what a standby will need the log that takes a copy from another standby now.
    pub(super) fn needed_by(&self, standby: NodeId) -> Option<Lsn> {
        self.elsewhere().get(&standby).copied()
    }

    /// The snapshots that may not be removed now.
    fn held(&self, now: Micros) -> Vec<PathBuf> {
        let mut copies = self.copies();
        copies.retain(|_, copy| copy.under_way > 0 || copy.until > now);
        copies.values().map(|copy| copy.path.clone()).collect()
    }
}

/// A snapshot that a standby is being sent, kept until [`KEPT_FOR`] after this is dropped.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) begin: Lsn,
    pub(super) path: PathBuf,
    node: Arc<Node>,
    pub(super) standby: NodeId,
}

impl Offered {
    fn new(node: &Arc<Node>, standby: NodeId, begin: Lsn, path: PathBuf) -> Offered {
        let mut copies = node.desk.copies();
        let until = node.host.boot_time().plus(KEPT_FOR);
        match copies.get_mut(&standby) {
            Some(copy) if copy.path == path => copy.under_way += 1,
            _ => {
                let path = path.clone();
                let under_way = 1;
                copies.insert(
                    standby,
                    Copy {
                        path,
                        under_way,
                        until,
                    },
                );
            }
        }
        drop(copies);
        Offered {
            begin,
            path,
            node: Arc::clone(node),
            standby,
        }
    }

    /// The standby stands on it: it is kept for nobody.
    pub(super) fn done(self) {
        let mut copies = self.node.desk.copies();
        if copies
            .get(&self.standby)
            .is_some_and(|copy| copy.path == self.path)
        {
            copies.remove(&self.standby);
        }
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        let until = self.node.host.boot_time().plus(KEPT_FOR);
        if let Some(copy) = self.node.desk.copies().get_mut(&self.standby)
            && copy.path == self.path
        {
            copy.under_way = copy.under_way.saturating_sub(1);
            copy.until = until;
        }
    }
}

/// While this is there, a standby that takes its copy elsewhere counts as one that lags: what it
/// will need of the log is kept for it, within its budget.
pub(super) struct Elsewhere {
    node: Arc<Node>,
    standby: NodeId,
    /// The log is kept from behind this record on.
    pub(super) oldest: Lsn,
}

impl Elsewhere {
    pub(super) fn new(node: &Arc<Node>, standby: NodeId) -> Elsewhere {
        let oldest = node.kept_within_budget();
        node.desk.elsewhere().insert(standby, oldest);
        Elsewhere {
            node: Arc::clone(node),
            standby,
            oldest,
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let mut elsewhere = self.node.desk.elsewhere();
        // A newer stream of the same standby may have put its own in this one's place.
        if elsewhere.get(&self.standby) == Some(&self.oldest) {
            elsewhere.remove(&self.standby);
        }
    }
}

/// R29: a snapshot that ends beyond the fork holds what was given up.
pub(super) fn drop_beyond(node: &Node, fork: Lsn) -> Result<(), SnapshotError> {
    let list = node.snapshots.list()?;
    let keep = list.iter().take_while(|(_, end, _)| *end <= fork).count();
    if keep < list.len() {
        node.snapshots.remove_newest(list.len() - keep)?;
    }
    Ok(())
}

/// A snapshot from which a standby can go on by a log that is kept from behind `oldest` on: the one
/// it has begun to take, the newest, or one made now.
pub(super) async fn for_standby(
    node: &Arc<Node>,
    standby: NodeId,
    oldest: Lsn,
) -> Result<Offered, NoSnapshot> {
    if let Some(offered) = there_already(node, standby, oldest)? {
        return Ok(offered);
    }
    let _alone = node.desk.making.lock().await;
    // Another standby may have had one made while this one waited.
    if let Some(offered) = there_already(node, standby, oldest)? {
        return Ok(offered);
    }
    let (begin, _, path) = make(node).await?;
    Ok(Offered::new(node, standby, begin, path))
}

fn there_already(
    node: &Arc<Node>,
    standby: NodeId,
    oldest: Lsn,
) -> Result<Option<Offered>, SnapshotError> {
    let begun = node
        .desk
        .copies()
        .get(&standby)
        .map(|copy| copy.path.clone());
    let mut list = node.snapshots.list()?;
    list.retain(|(begin, _, _)| *begin >= oldest);
    let again = list
        .iter()
        .position(|(_, _, path)| Some(path) == begun.as_ref());
    let chosen = again.map(|place| list.remove(place)).or_else(|| list.pop());
    Ok(chosen.map(|(begin, _, path)| Offered::new(node, standby, begin, path)))
}

/// How often the log's growth is looked at while nothing is written.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Time until the next attempt, doubled from one failure to the next.
const PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);

/// Makes a snapshot whenever the log has grown by `retain` since the last one, or for so long, and
/// lets go of segments that no snapshot, no retention and no standby needs.
pub(super) async fn keep(node: Arc<Node>) {
    let mut log_grew = node.store.log().subscribe();
    let (retain, longest) = (node.settings.retain_bytes, node.settings.retain_for);
    let mut last = snapshot_offset(&node);
    let mut last_at = node.host.boot_time();
    // Up to where the log is replaced; known once this process has made a snapshot.
    let mut replaced = Lsn::ZERO;
    let mut patience = PATIENCE;
    loop {
        let grew = tokio::time::timeout(LOOK_EVERY, log_grew.changed());
        if grew.await.is_ok_and(|changed| changed.is_err()) {
            return;
        }
        let now = node.host.boot_time();
        node.retention()
            .pace
            .note(now, node.store.log().end().offset);
        let applied = node.store.read().applied;
        let grown = applied.offset.saturating_sub(last);
        let old =
            longest.is_some_and(|longest| u128::from(now.since(last_at).0) >= longest.as_micros());
        let due = grown >= retain || (grown > 0 && old);
        if !due || !exact(&node, applied.lsn) {
            // A standby has moved on, or used its budget up.
            if node.removable(replaced) > node.store.log().oldest().lsn {
                replaced = node.host.blocking(|| tidy(&node, replaced));
            }
            // Many records come per wake-up; once in a while is enough.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        let made = {
            let _alone = node.desk.making.lock().await;
            make(&node).await
        };
        match made {
            Ok((begin, _, _)) => {
                (last, last_at, patience) = (applied.offset, now, PATIENCE);
                replaced = node.host.blocking(|| tidy(&node, begin));
            }
            Err(error) => {
                match &error {
                    NoSnapshot::Unreadable(_) => tracing::error!("{error}"),
                    _ => tracing::warn!("no snapshot was made: {error}"),
                }
                tokio::time::sleep(patience).await;
                patience = (patience * 2).min(LONGEST_PATIENCE);
            }
        }
    }
}

/// A snapshot does not read back: a new one takes its place, before it is set aside.
pub(super) async fn replace_damaged(node: &Arc<Node>, path: &Path) -> Result<(), NoSnapshot> {
    let _alone = node.desk.making.lock().await;
    make(node).await?;
    node.host.blocking(|| node.snapshots.set_aside(path))?;
    Ok(())
}

/// Whether the keyspace is exact and holds nothing that a takeover could take back, or a reign is
/// at work.
fn exact(node: &Node, applied: Lsn) -> bool {
    let gate = node.gate_now();
    node.store.is_exact() && (gate.is_primary() || applied <= gate.released)
}

fn snapshot_offset(node: &Node) -> u64 {
    let newest = node.snapshots.list().ok().and_then(|mut list| list.pop());
    let info = newest.and_then(|(_, _, path)| node.snapshots.describe(&path).ok());
    info.map_or(0, |info| info.begin.offset)
}

/// Two snapshots are kept, and those of copies. Segments go that the oldest one replaces and no
/// standby needs. Up to where the log is replaced.
fn tidy(node: &Node, newest: Lsn) -> Lsn {
    // Asked of the disk each time: a rejoin may have removed the snapshot that replaced them (R29).
    let replaced = match tidy_snapshots(node) {
        Ok(oldest) => oldest.min(newest),
        Err(error) => {
            tracing::warn!("removing old snapshots failed: {error}");
            return Lsn::ZERO;
        }
    };
    let removable = node.removable(replaced);
    // The scrub may be putting a file in the place of one of them.
    let Ok(_alone) = node.rewriting.lock() else {
        return Lsn::ZERO;
    };
    if let Err(error) = node.store.log().remove_before(removable) {
        tracing::warn!("removing old segments failed: {error}");
    }
    replaced
}

/// Where the oldest snapshot that is left begins; zero where there is none.
fn tidy_snapshots(node: &Node) -> Result<Lsn, SnapshotError> {
    let held = node.desk.held(node.host.boot_time());
    node.snapshots.prune(2, &held)?;
    let list = node.snapshots.list()?;
    let oldest = list.first().map_or(Lsn::ZERO, |(begin, _, _)| *begin);
    let aside = node.snapshots.forget_aside(oldest)?;
    if aside > 0 {
        tracing::info!("removed {aside} damaged snapshots kept aside: two good ones are newer");
    }
    Ok(oldest)
}
