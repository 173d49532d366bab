//! The steward: the one task that begins and ends reigns and follows primaries. Whatever changes
//! the log otherwise than by appending happens here, one thing after the other.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::mpsc;

use super::digests;
use super::driver::{Node, Order};
use super::fitness::Unfit;
use super::follow::{follow, rebuild};
use super::repair;
use super::scrub;
use crate::peer::Backoff;
use crate::replica::{Input, LogPos};
use crate::units::{Epoch, Lsn, Micros, NodeId};
use crate::wal::{AppendError, NoReader};

/// Bytes of records applied per hold of the keyspace's lock.
const APPLY_BYTES: usize = 128 << 10;

/// A log that ends so few bytes behind what is applied is applied where the task runs: in less time
/// than it takes to move the others out of its way. (That was most of a standby's context switches.)
const APPLIED_HERE_BYTES: u64 = 64 << 10;

pub(super) async fn run(node: Arc<Node>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut gate = node.gate();
    let mut backoff = Backoff::new(
        Duration::from_millis(5),
        Duration::from_millis(200),
        node.host.draw(),
    );
    let mut alone_since = node.host.boot_time();
    loop {
        let following = gate.borrow_and_update().following;
        if following.is_some() {
            alone_since = node.host.boot_time();
        }
        if gate.borrow().stopping {
            return;
        }
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(order) => carry_out(&node, order),
                None => return,
            },
            () = follow_on(&node, following, &mut backoff) => {}
            () = repair_alone(&node, alone_since), if following.is_none() => {}
            _ = gate.changed(), if following.is_none() => {}
        }
    }
}

async fn follow_on(node: &Arc<Node>, following: Option<(NodeId, Epoch)>, backoff: &mut Backoff) {
    let Some((primary, epoch)) = following else {
        return std::future::pending().await;
    };
    let began = node.host.boot_time();
    match follow(node, primary, epoch).await {
        Ok(()) => return,
        Err(end) => tracing::info!("following node {primary} in epoch {epoch}: {end}"),
    }
    if node.host.boot_time().since(began) > Micros(1_000_000) {
        backoff.reset();
    }
    tokio::time::sleep(backoff.next_delay()).await;
}

fn carry_out(node: &Arc<Node>, order: Order) {
    match order {
        Order::BeginReign(epoch) => node.host.blocking(|| begin_reign(node, epoch)),
        Order::Rebuild => node.host.blocking(|| rebuild_quarantined(node)),
        Order::EndReign(_) => node.store.end_reign(),
        Order::PauseWrites => {
            // Behind this lock no batch that saw writes allowed is under way.
            node.store.pause(true);
            node.enter([Input::WritesPaused]);
        }
        Order::ResumeWrites => {
            node.store.pause(false);
            node.enter([]);
        }
    }
}

/// A repair with nobody to ask. There may be a primary again in a moment; if not, this node may be
/// the only one left that can be one, and it must not stand before its keyspace is right.
async fn repair_alone(node: &Arc<Node>, since: Micros) {
    if !repair::is_under_way(node) {
        return std::future::pending().await;
    }
    let waited = node.host.boot_time().since(since);
    let patience = node.settings.lease;
    tokio::time::sleep(patience.saturating_sub(Duration::from_micros(waited.0))).await;
    node.host.blocking(|| replay_instead(node));
}

/// R27 and its like: snapshot and log are checked bytes, what memory made of them was not right.
fn rebuild_quarantined(node: &Arc<Node>) {
    let Ok(_alone) = node.rewriting.lock() else {
        return;
    };
    if node.gate_now().is_primary() {
        // It won while it was being judged.
        let why = "its keyspace is built again".to_owned();
        node.enter([Input::StepDown(why)]);
    }
    node.store.end_reign();
    match rebuild(node) {
        Ok(()) => digests::acquit(node),
        Err(error) => {
            tracing::error!(
                "building the keyspace again failed: {error}; this node does not serve"
            );
            node.unfit(Unfit::DiskFailed);
        }
    }
}

/// What is here suffices for a repair, it only takes longer.
fn replay_instead(node: &Arc<Node>) {
    let Ok(_alone) = node.rewriting.lock() else {
        return;
    };
    tracing::info!("nobody is there to repair from; replaying the log from the newest snapshot");
    if let Err(error) = rebuild(node) {
        tracing::error!("replaying failed: {error}; this node does not serve");
        node.unfit(Unfit::DiskFailed);
    }
}

/// Applies the whole log, then begins.
fn begin_reign(node: &Arc<Node>, epoch: Epoch) {
    if node.promised() != epoch {
        return;
    }
    if node.quarantined.load(Ordering::Acquire) || node.has_no_base() {
        return node.enter([Input::StepDown(
            "its keyspace is not what its log says".into(),
        )]);
    }
    if repair::is_under_way(node) {
        replay_instead(node);
    }
    let log = node.store.log();
    log.set_cluster(node.gate_now().cluster);
    let end = log.end();
    node.store.hold_all(end.lsn);
    if let Err(why) = apply_to(node, end.lsn) {
        node.unfit(Unfit::DiskFailed);
        node.enter([Input::StepDown(why)]);
        return;
    }
    match node.store.begin(epoch, end) {
        Ok(start) => {
            let start = LogPos {
                epoch: start.epoch,
                lsn: start.lsn,
                time: start.time,
            };
            node.enter([Input::ReignBegun { epoch, start }]);
        }
        Err(refused) => {
            if matches!(refused, AppendError::Closed(_)) {
                node.unfit(Unfit::DiskFailed);
            }
            node.enter([Input::StepDown(refused.to_string())]);
        }
    }
}

fn apply_to(node: &Arc<Node>, upto: Lsn) -> Result<(), String> {
    // The applier may still be at a batch that it began while this node followed. (A standby that
    // won right after its copy once applied a record twice over, and the process died of it.)
    let _alone = node.rewriting.lock().map_err(|error| error.to_string())?;
    let released = node.gate_now().released;
    let log = node.store.log();
    while node.store.applied() < upto {
        let mut reader = log
            .reader(node.store.applied())
            .map_err(|error| error.to_string())?;
        while let Some(chunk) = reader
            .next_chunk(upto, APPLY_BYTES)
            .map_err(|error| error.to_string())?
        {
            node.store
                .apply_records(&chunk.bytes, released)
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// A standby's applier: makes released records visible, and nothing else (R23).
pub(super) async fn apply_released(node: Arc<Node>) {
    let mut gate = node.gate();
    loop {
        let now = *gate.borrow_and_update();
        if now.stopping {
            return;
        }
        while node.rewriting.is_wanted() {
            tokio::task::yield_now().await;
        }
        // Only while a matched stream runs, on which released is always in the log.
        if now.following.is_some() && now.released > node.store.applied() {
            match apply_some(&node, now.released) {
                Ok(()) => {}
                Err(Unapplied::Damaged(what)) => {
                    node.log_is_damaged(&what);
                    scrub::mended(&node).await;
                    continue;
                }
                Err(Unapplied::Other(why)) => {
                    tracing::error!("applying records failed: {why}; this node does not serve");
                    node.unfit(Unfit::DiskFailed);
                    return;
                }
            }
        }
        let gate_now = node.gate_now();
        let nothing_new = node.store.applied() >= gate_now.released || !may_apply(&node);
        if nothing_new || gate_now.following.is_none() {
            // The gate lives as long as the node.
            tokio::select! {
                _ = gate.changed() => {}
                () = node.repaired.notified() => {}
            }
        } else {
            tokio::task::yield_now().await;
        }
    }
}

/// Whether there is a keyspace that records can be applied to.
fn may_apply(node: &Node) -> bool {
    repair::lets_apply(node) && !node.has_no_base()
}

/// Why records were not applied.
enum Unapplied {
    /// Bytes of the log are damaged; another node has them.
    Damaged(String),
    Other(String),
}

impl Unapplied {
    fn other(error: impl std::fmt::Display) -> Unapplied {
        Unapplied::Other(error.to_string())
    }

    fn of_reading(error: std::io::Error) -> Unapplied {
        match error.kind() {
            std::io::ErrorKind::InvalidData => Unapplied::Damaged(error.to_string()),
            _ => Unapplied::other(error),
        }
    }
}

fn apply_some(node: &Arc<Node>, upto: Lsn) -> Result<(), Unapplied> {
    let end = node.store.log().end().offset;
    let few = end.saturating_sub(node.store.applied_offset()) <= APPLIED_HERE_BYTES;
    if few && let Ok(alone) = node.rewriting.try_lock() {
        return apply_alone(node, upto, alone);
    }
    node.host.blocking(|| {
        let alone = node.rewriting.lock().map_err(Unapplied::other)?;
        apply_alone(node, upto, alone)
    })
}

fn apply_alone(node: &Arc<Node>, upto: Lsn, alone: MutexGuard<'_, ()>) -> Result<(), Unapplied> {
    let log = node.store.log();
    let from = node.store.applied();
    if upto > log.end().lsn || !may_apply(node) {
        return Ok(());
    }
    let mut reader = log.reader(from).map_err(|error| match error {
        NoReader::Io(error) => Unapplied::of_reading(error),
        NoReader::TooOld { .. } => Unapplied::other(error),
    })?;
    let mut compared = Vec::new();
    while let Some(chunk) = reader
        .next_chunk(upto, APPLY_BYTES)
        .map_err(Unapplied::of_reading)?
    {
        if node.store.applied() != chunk.first.previous() {
            // The keyspace was rebuilt meanwhile; begin again.
            return Ok(());
        }
        let met = node.store.apply_records(&chunk.bytes, upto);
        compared.extend(met.map_err(Unapplied::other)?);
        if node.rewriting.is_wanted() {
            break;
        }
    }
    drop(alone);
    repair::settle(node);
    for compared in compared {
        digests::note(node, compared);
    }
    node.enter([]);
    Ok(())
}
