//! Making a snapshot: walk, seal, read back, install.
//!
//! Promise: the keyspace's lock is held for less than a millisecond at a time, and the machine is
//! taken no more than `[limits] snapshot_rate` says. Before a file counts, everything it may hold is
//! released and synced (R30), the keyspace was one history from begin to end, the whole file has been
//! read back from the disk, and another node has confirmed the keyspace it was made of. Until then
//! nothing that was there before is touched.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thiserror::Error;

use super::confirm::confirm;
use super::pace::Pace;
use crate::keyspace::{WalkBatch, WalkCursor, WalkLimit};
use crate::node::driver::Node;
use crate::node::guard::Guard;
use crate::node::stats::Stats;
use crate::units::{Epoch, Lsn};
use crate::wal::{
    ChainPoint, SealedSnapshot, SnapshotError, SnapshotInfo, SnapshotWriter, StoredBlock,
};

/// Bytes of effects per block, but for the entry that fills it.
const BLOCK_BYTES: usize = 256 << 10;

/// Why there is no snapshot.
#[derive(Debug, Error)]
pub enum NoSnapshot {
    /// The disk, or its content.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// What was written is not what the disk gives back.
    #[error(
        "the snapshot that was just written does not read back: {0}. It was removed; the snapshots \
         before it are kept, and the log behind them. Look after this disk"
    )]
    Unreadable(SnapshotError),
    /// The keyspace may hold what a takeover takes back.
    #[error("the epoch changed while the snapshot was made")]
    EpochChanged,
    /// The keyspace became another while it was walked.
    #[error("the keyspace was replaced while the snapshot was made")]
    Replaced,
    /// It holds effects of records that it has not applied.
    #[error("the keyspace is not exact yet")]
    Inexact,
    /// Memory lost a bit; the keyspace is being built again.
    #[error("memory does not hold what was written to it")]
    Unsound,
    /// The log failed.
    #[error("the log is closed")]
    LogClosed,
}

/// What a snapshot is made of: one keyspace, from one moment on.
pub(super) struct Walk {
    pub(super) epoch: Epoch,
    pub(super) begin: ChainPoint,
    /// [`crate::node::store::Inner::replaced`] at the beginning.
    history: u64,
    pub(super) pace: Pace,
}

/// Makes one; only one at a time. Where it begins and ends, and the file.
pub(in crate::node) async fn make(node: &Arc<Node>) -> Result<(Lsn, Lsn, PathBuf), NoSnapshot> {
    let made = make_one(node).await;
    let stats = &node.stats;
    match &made {
        Ok((begin, ..)) => {
            Stats::add(&stats.snapshots, 1);
            let seconds = node.host.wall().0 / 1000;
            stats.last_snapshot_at.store(seconds, Ordering::Relaxed);
            stats.last_snapshot_lsn.store(begin.0, Ordering::Relaxed);
            stats.snapshot_failed.store(false, Ordering::Relaxed);
        }
        Err(NoSnapshot::File(_) | NoSnapshot::Unreadable(_)) => {
            stats.snapshot_failed.store(true, Ordering::Relaxed);
        }
        // It was not the time for one.
        Err(_) => {}
    }
    made
}

async fn make_one(node: &Arc<Node>) -> Result<(Lsn, Lsn, PathBuf), NoSnapshot> {
    let began = node.host.boot_time();
    let mut walk = begin(node)?;
    let begin = walk.begin;
    let cluster = node.gate_now().cluster;
    let mut writer = node
        .host
        .blocking(|| node.snapshots.create(cluster, begin))?;
    let end = match fill(node, &mut walk, &mut writer).await {
        Ok(end) => end,
        Err(error) => {
            // Whatever stands in the way of removing it: the next one, or a start, removes it.
            let _ = writer.abandon();
            return Err(error);
        }
    };
    let sealed = node.host.blocking(|| writer.seal(end))?;
    let info = match read_back(node, &sealed, &mut walk.pace).await {
        Ok(info) => info,
        Err(error) => {
            Stats::add(&node.stats.snapshots_unreadable, 1);
            let _ = sealed.remove();
            return Err(NoSnapshot::Unreadable(error));
        }
    };
    let path = node.host.blocking(|| install(node, &walk, sealed))?;
    tracing::info!(
        "snapshot of LSN {} to {end} finished and read back in {} ms: {} keys, {} bytes, {} packed; \
         the keyspace was never held longer than {} us",
        begin.lsn,
        node.host.boot_time().since(began).as_ms(),
        info.keys,
        info.raw_bytes,
        info.bytes,
        Stats::get(&node.stats.longest_walk_us),
    );
    Ok((begin.lsn, end, path))
}

/// R28, and the end of a fuzzy snapshot: a walk over a keyspace that holds effects of records to
/// come would claim to be exact before these.
fn begin(node: &Node) -> Result<Walk, NoSnapshot> {
    let epoch = node.gate_now().epoch;
    let inner = node.store.read();
    if !inner.is_exact() {
        return Err(NoSnapshot::Inexact);
    }
    Ok(Walk {
        epoch,
        begin: inner.applied,
        history: inner.replaced,
        pace: Pace::with_rests(node.settings.snapshot_rate),
    })
}

/// Walks the keyspace while writes go on. From where on what was walked over is exact, once that is
/// confirmed, and everything up to there is released and synced (R30).
async fn fill(
    node: &Arc<Node>,
    walk: &mut Walk,
    writer: &mut SnapshotWriter,
) -> Result<Lsn, NoSnapshot> {
    let mut cursor = WalkCursor::default();
    let mut batch = WalkBatch::with_room(WalkLimit::default());
    let (mut block, mut keys) = (Vec::new(), 0);
    let end = loop {
        let (done, applied) = hold(node, walk, &mut cursor, &mut batch)?;
        let mut spent = 0;
        let mut full = |block: &mut Vec<u8>, keys: &mut u64| {
            writer.block(block, u32::try_from(*keys).unwrap_or(u32::MAX))?;
            spent += block.len() as u64;
            block.clear();
            *keys = 0;
            Ok::<(), SnapshotError>(())
        };
        node.host.blocking(|| {
            batch.encode(&mut block, &mut keys, BLOCK_BYTES, &mut full)?;
            match done && !block.is_empty() {
                true => full(&mut block, &mut keys),
                false => Ok(()),
            }
        })?;
        if block.capacity() > 8 * BLOCK_BYTES {
            // A large value came by.
            block = block.to_vec();
        }
        walk.pace.spend(spent).await;
        if done {
            break applied;
        }
    };
    let end = confirm(node, walk, end).await?;
    wait_until_safe(node, walk.epoch, end).await?;
    Ok(end)
}

/// Takes the next entries; whether they were the last, and what was applied then. Nothing else
/// happens under the keyspace's lock; the time is counted.
fn hold(
    node: &Node,
    walk: &Walk,
    cursor: &mut WalkCursor,
    batch: &mut WalkBatch,
) -> Result<(bool, Lsn), NoSnapshot> {
    let inner = node.store.read();
    if inner.replaced != walk.history {
        return Err(NoSnapshot::Replaced);
    }
    let began = node.host.boot_time();
    let done = inner
        .keyspace
        .walk_batch(cursor, WalkLimit::default(), batch);
    let (held, applied) = (node.host.boot_time().since(began), inner.applied.lsn);
    drop(inner);
    node.stats.observe_walk(held);
    Ok((done, applied))
}

async fn wait_until_safe(node: &Arc<Node>, epoch: Epoch, end: Lsn) -> Result<(), NoSnapshot> {
    let mut gate = node.gate();
    loop {
        let now = *gate.borrow_and_update();
        if now.epoch != epoch || now.stopping {
            return Err(NoSnapshot::EpochChanged);
        }
        if node.store.log().failure().is_some() {
            return Err(NoSnapshot::LogClosed);
        }
        let released = now.released >= end || !node.settings.keeps(Guard::R30);
        if released && node.store.log().cursors().2 >= end {
            return Ok(());
        }
        // A sync alone does not always move the gate.
        let _ = tokio::time::timeout(Duration::from_millis(100), gate.changed()).await;
    }
}

/// Reads the whole file and checks every block.
async fn read_back(
    node: &Arc<Node>,
    sealed: &SealedSnapshot,
    pace: &mut Pace,
) -> Result<SnapshotInfo, SnapshotError> {
    let mut reader = node.host.blocking(|| sealed.reader())?;
    let (mut block, mut room) = (StoredBlock::default(), Vec::new());
    loop {
        let more = node.host.blocking(|| {
            let more = reader.next_block(&mut block)?;
            if more {
                let checked = block.unpack(&mut room);
                checked.map_err(|what| SnapshotError::Bad {
                    path: sealed.path().to_path_buf(),
                    what,
                })?;
            }
            Ok::<bool, SnapshotError>(more)
        })?;
        if !more {
            return Ok(reader.info());
        }
        pace.spend(block.raw_bytes()).await;
    }
}

/// Gives the file its name, unless the log became another meanwhile: with a snapshot that begins
/// behind its log's end, a node does not start.
fn install(node: &Node, walk: &Walk, sealed: SealedSnapshot) -> Result<PathBuf, NoSnapshot> {
    let alone = node.rewriting.lock();
    let _alone = alone.map_err(|_| NoSnapshot::LogClosed)?;
    let refused = if node.store.read().replaced != walk.history {
        NoSnapshot::Replaced
    } else if node.gate_now().epoch != walk.epoch && node.settings.keeps(Guard::R30) {
        NoSnapshot::EpochChanged
    } else {
        return Ok(sealed.install()?);
    };
    let _ = sealed.remove();
    Err(refused)
}
