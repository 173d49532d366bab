//! Making, loading and choosing snapshots, so that the log does not grow for ever and a blank
//! standby gets a copy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::driver::Node;
use super::guard::Guard;
use crate::keyspace::{Keyspace, WalkBatch, WalkCursor, WalkLimit};
use crate::units::{Epoch, Lsn};
use crate::wal::{ChainPoint, SnapshotError, SnapshotStore};

/// Bytes of effects per block, but for the entry that fills it.
const BLOCK_BYTES: usize = 256 << 10;

/// Why there is no snapshot.
#[derive(Debug, Error)]
pub enum NoSnapshot {
    /// The disk, or its content.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// The keyspace may hold what a takeover takes back.
    #[error("the epoch changed while the snapshot was made")]
    EpochChanged,
    /// The log failed.
    #[error("the log is closed")]
    LogClosed,
}

/// A keyspace read back.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) keyspace: Keyspace,
    pub(super) begin: ChainPoint,
    pub(super) end: Lsn,
}

pub(super) fn load(store: &SnapshotStore, path: &Path) -> Result<Loaded, SnapshotError> {
    let mut keyspace = Keyspace::new();
    let info = store.read(path, |block| {
        keyspace
            .apply_encoded(block, Lsn::ZERO)
            .map_err(|error| error.to_string())
    })?;
    Ok(Loaded {
        keyspace,
        begin: info.begin,
        end: info.end,
    })
}

pub(super) fn load_newest(store: &SnapshotStore) -> Result<Loaded, SnapshotError> {
    match store.list()?.pop() {
        Some((_, _, path)) => load(store, &path),
        None => Ok(Loaded::default()),
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

/// A snapshot from which a standby can go on by the log: the newest, or one made now.
pub(super) async fn for_standby(node: &Arc<Node>) -> Result<(Lsn, Lsn, PathBuf), NoSnapshot> {
    if let Some(newest) = node.snapshots.list()?.pop()
        && newest.0 >= node.store.log().oldest().lsn
    {
        return Ok(newest);
    }
    make(node).await
}

/// Walks the keyspace while writes go on; counts only once everything it may hold is released and
/// synced (R30).
pub(super) async fn make(node: &Arc<Node>) -> Result<(Lsn, Lsn, PathBuf), NoSnapshot> {
    let epoch = node.gate_now().epoch;
    let began = node.host.boot_time();
    let begin = node.store.read().applied;
    let mut writer = node.snapshots.create(node.gate_now().cluster, begin)?;
    let mut cursor = WalkCursor::default();
    let mut batch = WalkBatch::with_room(WalkLimit::default());
    let (mut block, mut keys) = (Vec::new(), 0);
    loop {
        let done = hold(node, &mut cursor, &mut batch);
        node.host.blocking(|| {
            batch.encode(&mut block, &mut keys, BLOCK_BYTES, |block, keys| {
                writer.block(block)?;
                block.clear();
                *keys = 0;
                Ok::<(), SnapshotError>(())
            })
        })?;
        if done {
            break;
        }
        tokio::task::yield_now().await;
    }
    if !block.is_empty() {
        node.host.blocking(|| writer.block(&block))?;
    }
    let end = node.store.applied();
    if let Err(error) = wait_until_safe(node, epoch, end).await {
        writer.abandon()?;
        return Err(error);
    }
    let path = node.host.blocking(|| writer.finish(end))?;
    tracing::info!(
        "snapshot of LSN {} to {end} finished in {} ms",
        begin.lsn,
        node.host.boot_time().since(began).as_ms()
    );
    Ok((begin.lsn, end, path))
}

/// Takes the next entries. Nothing else happens under the keyspace's lock, which is held for less
/// than a millisecond; the time is counted.
fn hold(node: &Node, cursor: &mut WalkCursor, batch: &mut WalkBatch) -> bool {
    let inner = node.store.read();
    let began = node.host.boot_time();
    let done = inner
        .keyspace
        .walk_batch(cursor, WalkLimit::default(), batch);
    let held = node.host.boot_time().since(began);
    drop(inner);
    node.stats.observe_walk(held);
    done
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

/// Makes a snapshot whenever the log has grown by `retain` since the last one, and lets go of
/// segments that no snapshot and no retention needs.
pub(super) async fn keep(node: Arc<Node>) {
    let mut log_grew = node.store.log().subscribe();
    let retain = node.settings.retain_bytes;
    let mut last = snapshot_offset(&node);
    loop {
        if log_grew.changed().await.is_err() {
            return;
        }
        let applied = node.store.read().applied;
        if applied.offset.saturating_sub(last) < retain || !exact(&node, applied.lsn) {
            // Many records come per wake-up; once in a while is enough.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        match make(&node).await {
            Ok((begin, _, _)) => {
                last = applied.offset;
                if let Err(error) = tidy(&node, begin) {
                    tracing::warn!("removing old segments and snapshots failed: {error}");
                }
            }
            Err(error) => {
                tracing::warn!("no snapshot was made: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Whether the keyspace holds nothing that a takeover could take back, or a reign is at work.
fn exact(node: &Node, applied: Lsn) -> bool {
    let gate = node.gate_now();
    gate.is_primary() || applied <= gate.released
}

fn snapshot_offset(node: &Node) -> u64 {
    let newest = node.snapshots.list().ok().and_then(|mut list| list.pop());
    let loaded = newest.and_then(|(_, _, path)| node.snapshots.read(&path, |_| Ok(())).ok());
    loaded.map_or(0, |info| info.begin.offset)
}

/// Two snapshots are kept. Segments go that the older one does not need, once the log is longer
/// than `retain` behind it.
fn tidy(node: &Node, newest: Lsn) -> Result<(), SnapshotError> {
    node.snapshots.prune(2)?;
    let oldest = node
        .snapshots
        .list()?
        .first()
        .map_or(newest, |(begin, _, _)| *begin);
    if let Err(error) = node.store.log().remove_before(oldest) {
        tracing::warn!("removing old segments failed: {error}");
    }
    Ok(())
}
