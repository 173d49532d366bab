//! The steward: the one task that begins and ends reigns and follows primaries. Whatever changes
//! the log otherwise than by appending happens here, one thing after the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::driver::{Node, Order};
use super::follow::follow;
use crate::peer::Backoff;
use crate::replica::{Input, LogPos};
use crate::units::{Epoch, Lsn, Micros, NodeId};

/// Bytes of records applied per hold of the keyspace's lock.
const APPLY_BYTES: usize = 128 << 10;

pub(super) async fn run(node: Arc<Node>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut gate = node.gate();
    let mut backoff = Backoff::new(
        Duration::from_millis(5),
        Duration::from_millis(200),
        node.host.draw(),
    );
    loop {
        let following = gate.borrow_and_update().following;
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

/// Applies the whole log, then begins.
fn begin_reign(node: &Arc<Node>, epoch: Epoch) {
    if node.promised() != epoch {
        return;
    }
    let log = node.store.log();
    log.set_cluster(node.gate_now().cluster);
    let end = log.end();
    if let Err(why) = apply_to(node, end.lsn) {
        node.enter([Input::Fit(false), Input::StepDown(why)]);
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
        Err(closed) => node.enter([Input::Fit(false), Input::StepDown(closed.to_string())]),
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
        // Only while a matched stream runs, on which released is always in the log.
        if now.following.is_some()
            && now.released > node.store.applied()
            && let Err(why) = node.host.blocking(|| apply_some(&node, now.released))
        {
            tracing::error!("applying records failed: {why}; this node does not serve");
            node.enter([Input::Fit(false)]);
            return;
        }
        if node.store.applied() >= node.gate_now().released || node.gate_now().following.is_none() {
            if gate.changed().await.is_err() {
                return;
            }
        } else {
            tokio::task::yield_now().await;
        }
    }
}

fn apply_some(node: &Arc<Node>, upto: Lsn) -> Result<(), String> {
    let alone = node.rewriting.lock().map_err(|error| error.to_string())?;
    let log = node.store.log();
    let from = node.store.applied();
    if upto > log.end().lsn {
        return Ok(());
    }
    let mut reader = log.reader(from).map_err(|error| error.to_string())?;
    while let Some(chunk) = reader
        .next_chunk(upto, APPLY_BYTES)
        .map_err(|error| error.to_string())?
    {
        if node.store.applied() != chunk.first.previous() {
            // The keyspace was rebuilt meanwhile; begin again.
            return Ok(());
        }
        node.store
            .apply_records(&chunk.bytes, upto)
            .map_err(|error| error.to_string())?;
    }
    drop(alone);
    node.enter([]);
    Ok(())
}
