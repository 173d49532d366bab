//! Rejoining in proportion to the divergence: a node that applied records which the new primary
//! does not have differs from it in the keys that those records touched, and asks for these alone.
//!
//! R28: a repair's values are read at the primary like any read: they are sent when everything up to
//! the record behind which they were read is released. A stream that breaks begins the asking again.
//! Until replay has passed that record this node serves no reads, makes no snapshot, states no
//! digest and does not stand.
//!
//! The log goes on meanwhile: a primary may need this node's copies to release what it read. Only
//! the applier waits, since a value set behind its replay would take a key back in time.
//!
//! Nothing of this is durable, and nothing needs to be: snapshots hold no given-up record (R29, R30),
//! so after a restart replay alone is exact. The same replay, of the newest snapshot and the log, is
//! the way out where there is nobody to ask, or too much to ask for.

use std::sync::{Arc, MutexGuard};

use bytes::Bytes;

use super::driver::Node;
use super::fitness::Unfit;
use super::guard::Guard;
use super::host::Seen;
use super::stats::Stats;
use super::store::NEVER;
use super::stream::StreamEnd;
use crate::keyspace::Touched;
use crate::peer::frame::MAX_REPAIR_BATCH_BYTES;
use crate::units::{Lsn, Micros};
use crate::wal::{ChainPoint, Kind, records};

/// Keys asked for at once.
const MAX_KEYS: usize = 4096;

/// Keys waiting for their values.
#[derive(Debug)]
pub(super) struct Repair {
    keys: Vec<Bytes>,
    /// How many of them have their values.
    done: usize,
    /// Bytes of these.
    bytes: u64,
    /// The greatest record behind which values were read.
    at: Lsn,
    began: Micros,
}

impl Repair {
    fn is_filled(&self) -> bool {
        self.done == self.keys.len()
    }
}

/// What undoes the records that are given up, in the keyspace.
#[derive(Debug)]
pub(super) enum Undo {
    /// None was applied.
    Nothing,
    /// Values of these keys from the primary.
    Keys(Vec<Bytes>),
    /// The newest snapshot that is left, and the log behind it.
    Replay,
}

fn repair(node: &Node) -> MutexGuard<'_, Option<Repair>> {
    let repair = node.repair.lock();
    repair.expect("a repair is only begun, counted and ended under its lock")
}

/// What it takes when the records behind `fork` go; asked before they do.
pub(super) fn plan(node: &Node, fork: Lsn) -> Result<Undo, StreamEnd> {
    let applied = node.store.applied();
    let unpassed = repair(node).as_ref().map(|repair| repair.keys.clone());
    if applied <= fork && unpassed.is_none() {
        return Ok(Undo::Nothing);
    }
    if unpassed.is_none() && !node.store.is_exact() {
        // It holds parts of records that it has not applied: a fuzzy snapshot's.
        return Ok(Undo::Replay);
    }
    let known = unpassed.unwrap_or_default();
    let mut touched = Touched::Keys(known.into_iter().collect());
    if applied > fork {
        let mut reader = node.store.log().reader(fork)?;
        while let Some(chunk) = reader.next_chunk(applied, 1 << 20)? {
            for record in records(&chunk.bytes).filter(|record| record.kind == Kind::Effects) {
                touched
                    .add(record.payload)
                    .map_err(|error| StreamEnd::Other(error.to_string()))?;
            }
        }
    }
    let (len, _, _) = node.store.size();
    Ok(match touched {
        // A replay costs as much as there is data, whatever was given up.
        Touched::Keys(keys) if keys.len() <= len / 2 + MAX_KEYS => {
            let mut keys: Vec<Bytes> = keys.into_iter().collect();
            keys.sort_unstable();
            Undo::Keys(keys)
        }
        Touched::Keys(_) | Touched::Everything => Undo::Replay,
    })
}

/// The log ends at `fork` now, or did before: from here on the keys wait for their values.
/// Nothing is read here before `floor` is applied, whatever the values say.
pub(super) fn begin(node: &Arc<Node>, fork: ChainPoint, keys: Vec<Bytes>, floor: Lsn) {
    node.unfit(Unfit::Repairing);
    if node.store.applied() > fork.lsn {
        node.store.rewind(fork);
    } else {
        node.store.set_exact_from(NEVER);
    }
    if keys.is_empty() {
        // Only reigns began in what was given up.
        node.store.set_exact_from(floor);
        return forget(node);
    }
    tracing::info!(
        "{} keys hold what was given up behind LSN {}; asking the primary for them",
        keys.len(),
        fork.lsn
    );
    *repair(node) = Some(Repair {
        keys,
        done: 0,
        bytes: 0,
        at: floor,
        began: node.host.boot_time(),
    });
}

/// The keyspace was replaced: there is nothing to repair in it.
pub(super) fn forget(node: &Node) {
    *repair(node) = None;
    node.fit_again(Unfit::Repairing);
}

/// Whether keys wait for their values, or these for replay to pass them.
pub(super) fn is_under_way(node: &Node) -> bool {
    repair(node).is_some()
}

/// Whether the applier may go on.
pub(super) fn lets_apply(node: &Node) -> bool {
    repair(node).as_ref().is_none_or(Repair::is_filled)
}

/// The next keys to ask for.
pub(super) fn next_ask(node: &Node) -> Option<Vec<Bytes>> {
    let repair = repair(node);
    let left = repair.as_ref().map(|repair| &repair.keys[repair.done..])?;
    let mut bytes = 0;
    let mut keys = Vec::new();
    for key in left.iter().take(MAX_KEYS) {
        keys.push(key.clone());
        bytes += key.len();
        if bytes >= MAX_REPAIR_BATCH_BYTES {
            break;
        }
    }
    (!keys.is_empty()).then_some(keys)
}

/// Values came: of the first `count` keys asked for, read behind `at`. The next keys to ask for.
pub(super) fn take(
    node: &Arc<Node>,
    at: Lsn,
    count: u32,
    effects: &[u8],
) -> Result<Option<Vec<Bytes>>, StreamEnd> {
    let other = |why: String| Err(StreamEnd::Other(why));
    let _alone = match node.rewriting.lock() {
        Ok(alone) => alone,
        Err(_) => return other("a task panicked".into()),
    };
    {
        let mut repair = repair(node);
        let Some(repair) = repair.as_mut() else {
            return other("values that nobody asked for".into());
        };
        let count = count as usize;
        let asked = &repair.keys[repair.done..];
        let mut touched = Touched::default();
        let told = touched.add(effects).map(|()| touched);
        let wanted = asked.get(..count).map(|keys| keys.iter().cloned());
        if count == 0 || wanted.map(|keys| Touched::Keys(keys.collect())) != told.clone().ok() {
            return other(format!(
                "values of other keys than those asked for ({told:?})"
            ));
        }
        if let Err(error) = node.store.repair(effects) {
            return other(error.to_string());
        }
        repair.done += count;
        repair.bytes += effects.len() as u64;
        repair.at = repair.at.max(at);
        if repair.is_filled() {
            let passed = match node.settings.keeps(Guard::R28) {
                true => repair.at,
                false => Lsn::ZERO,
            };
            node.store.set_exact_from(passed);
            Stats::add(&node.stats.repaired_keys, repair.keys.len() as u64);
            Stats::add(&node.stats.repaired_bytes, repair.bytes);
        }
    }
    let next = next_ask(node);
    if next.is_none() {
        node.repaired.notify_one();
    }
    Ok(next)
}

/// Replay has come further: perhaps it has passed the values.
pub(super) fn settle(node: &Node) {
    let passed = |repair: &mut Repair| repair.is_filled() && node.store.is_exact();
    let Some(done) = repair(node).take_if(passed) else {
        return;
    };
    node.host.observe(Seen::Repaired(done.keys.len()));
    tracing::info!(
        "rejoined: {} keys repaired with {} bytes from the primary in {} ms",
        done.keys.len(),
        done.bytes,
        node.host.boot_time().since(done.began).as_ms()
    );
    node.fit_again(Unfit::Repairing);
}
