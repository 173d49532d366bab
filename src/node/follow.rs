//! A standby's side of a stream: match logs, give up what the primary does not have, take records.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::copy;
use super::driver::{News, Node};
use super::fitness::Unfit;
use super::guard::Guard;
use super::repair::{self, Undo};
use super::reports::{Acknowledged, ExactLoss};
use super::stats::Stats;
use super::store::NEVER;
use super::stream::{PutOff, StreamEnd, StreamReader, StreamWriter, next, open};
use crate::keyspace::Keyspace;
use crate::peer::{self, Follow, Matched, StreamMessage};
use crate::replica::{Ack, Input, Level};
use crate::units::{Epoch, Lsn, NodeId};
use crate::wal::{AppendRawError, ChainPoint, Discarded};

/// A full standby that has room for less than that does not ask for records.
const LEAST_ROOM_BYTES: u64 = 16 << 10;

/// Follows the primary of this epoch until the stream ends. Dropped at any await point it leaves
/// nothing half done: every change of log and keyspace happens between two of them.
pub(super) async fn follow(
    node: &Arc<Node>,
    primary: NodeId,
    epoch: Epoch,
) -> Result<(), StreamEnd> {
    if !wait_for_room(node, primary, epoch).await {
        return Ok(());
    }
    let (mut reader, mut writer) = open(
        node.host.as_ref(),
        &node.settings,
        &node.identity(),
        primary,
    )
    .await?;
    let from = tokio::select! {
        from = agree(node, primary, epoch, &mut reader, &mut writer) => from?,
        // (A primary that froze in the middle of a copy once kept its standby from the next one.)
        // Not at a moment without a leader: that is how a blank node's first promise becomes durable.
        () = next_leader(node, primary, epoch) => return Ok(()),
    };
    node.enter([Input::Matched { epoch }]);
    writer.push(epoch, &StreamMessage::Ready { from: from.next() })?;
    if let Some(keys) = repair::next_ask(node) {
        writer.push(epoch, &StreamMessage::Repair { keys })?;
    }
    writer.flush().await?;
    tracing::info!(
        "following node {primary} in epoch {epoch} from LSN {}",
        from.next()
    );
    // One question at a time.
    let (ask, asks) = mpsc::channel(1);
    let (awaited, awaited_here) = watch::channel(peer::Ack::default());
    tokio::select! {
        result = take_records(node, epoch, reader, ask, awaited) => result,
        result = send_acks(node, epoch, writer, asks, awaited_here) => result,
        () = other_leader(node, primary, epoch) => Ok(()),
    }
}

/// Log and keyspace become a beginning of the primary's. The last record of that.
async fn agree(
    node: &Arc<Node>,
    primary: NodeId,
    epoch: Epoch,
    reader: &mut StreamReader,
    writer: &mut StreamWriter,
) -> Result<Lsn, StreamEnd> {
    let mut copied = false;
    loop {
        writer.push(epoch, &StreamMessage::Follow(describe(node)))?;
        writer.flush().await?;
        match next(reader).await? {
            (_, StreamMessage::Matched(matched)) => {
                node.host
                    .blocking(|| accept_match(node, primary, &matched, copied))?;
                // A copy that it began before is not needed any more: what it has is matched.
                copy::forget_parts(node);
                node.fit_again(Unfit::Copying);
                return Ok(matched.fork);
            }
            (_, StreamMessage::SnapshotOffer(offer)) => {
                let stream = (reader, writer, None);
                return copy::take_snapshot(node, stream, primary, epoch, &offer).await;
            }
            (_, StreamMessage::CopyFrom { source, oldest }) => {
                if node.store.log().end().lsn > oldest {
                    let why = "taking a full copy, which may begin before this log ends";
                    may_give_up_log(node, why)?;
                }
                let from = (source, oldest);
                let borrowed = copy::borrow_snapshot(node, (primary, epoch), from, writer);
                match borrowed.await {
                    Ok(()) => copied = true,
                    Err(end) => tracing::info!(
                        "no copy came from node {source}: {end}; asking node {primary}"
                    ),
                }
            }
            (_, StreamMessage::Refused { reason }) => return Err(StreamEnd::Other(reason)),
            (_, other) => {
                return Err(StreamEnd::Other(format!(
                    "{:?} is no answer to Follow",
                    other.kind()
                )));
            }
        }
    }
}

/// A standby that is out of disk takes nothing until it has room: what it would take would only wait
/// in memory. `false` when this node is to follow someone else meanwhile, or nobody.
async fn wait_for_room(node: &Node, primary: NodeId, epoch: Epoch) -> bool {
    let room = node.store.log().room();
    if room.full.is_none() || room.left_bytes >= LEAST_ROOM_BYTES {
        return true;
    }
    tokio::select! {
        () = node.store.log().has_room() => true,
        () = other_leader(node, primary, epoch) => false,
    }
}

/// Until this node is to follow someone else, or nobody.
async fn other_leader(node: &Node, primary: NodeId, epoch: Epoch) {
    until_following(node, |following| following != Some((primary, epoch))).await;
}

/// Until there is someone else to follow.
async fn next_leader(node: &Node, primary: NodeId, epoch: Epoch) {
    until_following(node, |following| {
        following.is_some_and(|following| following != (primary, epoch))
    })
    .await;
}

async fn until_following(node: &Node, holds: impl Fn(Option<(NodeId, Epoch)>) -> bool) {
    let mut gate = node.gate();
    // The gate lives as long as the node.
    let _ = gate.wait_for(|gate| holds(gate.following)).await;
}

fn describe(node: &Node) -> Follow {
    let log = node.store.log();
    let (end, oldest) = (log.end(), log.oldest());
    let gate = node.gate_now();
    Follow {
        node: node.id(),
        membership_incarnation: gate.incarnation,
        blank: false,
        has_snapshot: oldest.lsn > Lsn::ZERO,
        history: log.history(),
        last: end.lsn,
        last_epoch: end.epoch,
        last_crc: end.crc,
        // Without a keyspace to replay it on, no log is of use.
        log_first: match node.has_no_base() {
            true => NEVER,
            false => oldest.lsn.next(),
        },
    }
}

/// Makes the log end where it forks from the primary's. What lies behind is saved first.
/// Whoever has just taken a copy has said what that took the place of.
fn accept_match(
    node: &Arc<Node>,
    primary: NodeId,
    matched: &Matched,
    copied: bool,
) -> Result<(), StreamEnd> {
    let _alone = node
        .rewriting
        .lock()
        .map_err(|_| StreamEnd::Other("a task panicked".into()))?;
    let log = node.store.log();
    log.set_cluster(node.gate_now().cluster);
    // From here on no batch of an ended reign appends.
    node.store.end_reign();
    let fork = matched.fork;
    let at = log.chain_at(fork)?;
    if fork > Lsn::ZERO && (at.epoch, at.crc) != (matched.fork_epoch, matched.fork_crc) {
        return Err(StreamEnd::Other(format!(
            "the logs differ at LSN {fork} although their histories agree there: one of them is \
             damaged; run `understudy wal verify` on both"
        )));
    }
    let undo;
    if fork < log.end().lsn {
        let reaches = reaches_back(node, fork)?;
        if !reaches {
            let why = "no snapshot reaches back behind the fork; taking a full copy";
            may_give_up_log(node, why)?;
        }
        undo = repair::plan(node, fork)?;
        give_up(node, primary, fork)?;
        // R29: a snapshot beyond the fork goes first, and durably; with the log cut before it, a
        // crash in between left a node that could not start.
        if node.settings.keeps(Guard::R29) {
            drop_snapshots_beyond(node, fork, reaches)?;
        }
        log.truncate_after(fork)?;
    } else {
        undo = repair::plan(node, fork)?;
        if !copied {
            tell_nothing_lost(node, primary, at);
        }
    }
    match undo {
        Undo::Nothing => {}
        Undo::Keys(keys) => repair::begin(node, at, keys, matched.appended),
        Undo::Replay => rebuild(node)?,
    }
    if node.deposed.load(Ordering::Acquire) {
        // A deposed primary serves reads again once it has all that there was at this moment.
        node.store.raise_exact_from(matched.appended);
        node.deposed.store(false, Ordering::Release);
    }
    Ok(())
}

/// Saves every record behind `fork`, and tells the new primary what they were.
pub(super) fn give_up(node: &Arc<Node>, primary: NodeId, fork: Lsn) -> Result<(), StreamEnd> {
    let log = node.store.log();
    let epoch = log.end().epoch;
    let Some(saved) = log.save_discarded(fork)? else {
        return Ok(());
    };
    if saved.records == 0 {
        // Only the beginning of a reign that never served.
        tell_nothing_lost(node, primary, log.chain_at(fork)?);
        return Ok(());
    }
    Stats::add(&node.stats.discarded, saved.records);
    let acknowledged = acknowledged(node, epoch, fork, &saved);
    tracing::warn!(
        "discarding {} records behind LSN {fork} that the new primary does not have; kept in {}",
        saved.records,
        saved.path.display()
    );
    let loss = ExactLoss {
        node: node.id(),
        records: saved.records,
        bytes: saved.bytes,
        first_lsn: saved.first,
        last_lsn: saved.last,
        first_ms: saved.first_time,
        last_ms: saved.last_time,
        acknowledged,
        file: saved.path.display().to_string(),
        fork,
    };
    let _ = node.history.send(News::Discarded(epoch, loss.clone()));
    if let Some(outbox) = node.outboxes.get(&primary) {
        let _ = outbox.try_send(super::links::Word::Discarded(epoch, loss));
    }
    Ok(())
}

/// Everything here is the primary's: the history says so, too.
fn tell_nothing_lost(node: &Arc<Node>, primary: NodeId, end: ChainPoint) {
    let loss = ExactLoss {
        node: node.id(),
        records: 0,
        bytes: 0,
        first_lsn: end.lsn.next(),
        last_lsn: end.lsn,
        first_ms: end.time,
        last_ms: end.time,
        acknowledged: Acknowledged::Exact(0),
        file: String::new(),
        fork: end.lsn,
    };
    if let Some(outbox) = node.outboxes.get(&primary) {
        let _ = outbox.try_send(super::links::Word::Discarded(end.epoch, loss));
    }
}

/// R33: exact when this very process reigned in that epoch and stepped down.
fn acknowledged(node: &Node, epoch: Epoch, fork: Lsn, saved: &Discarded) -> Acknowledged {
    match node.shown.lock() {
        Ok(shown) if shown.0 == epoch && shown.1 <= fork => Acknowledged::Exact(0),
        Ok(shown) if shown.0 == epoch => {
            Acknowledged::Exact(saved.records.min(shown.1.records_since(fork)))
        }
        _ => Acknowledged::AtMost(saved.records),
    }
}

/// Whether a snapshot that ends at or before `fork`, or none, and the log behind it give the state
/// at `fork`.
fn reaches_back(node: &Node, fork: Lsn) -> Result<bool, StreamEnd> {
    let list = node.snapshots.list();
    let list = list.map_err(|error| StreamEnd::Other(error.to_string()))?;
    let kept = list.iter().rev().find(|(_, end, _)| *end <= fork);
    let begin = kept.map_or(Lsn::ZERO, |(begin, _, _)| *begin);
    Ok(begin >= node.store.log().oldest().lsn)
}

/// R14: before records go that this node may have acknowledged, it is durable that they may be gone.
/// Until then the stream ends; the next one begins only when that is done.
///
/// (Seed 7042265 of the simulator's `lagging`: a standby that had emptied its log for a copy was
/// killed, and won the next election with nothing, for what it had once acknowledged.)
pub(super) fn may_give_up_log(node: &Node, why: &str) -> Result<(), StreamEnd> {
    if node.gate_now().incomplete {
        return Ok(());
    }
    node.enter([Input::GiveUpLog]);
    Err(StreamEnd::Other(why.to_owned()))
}

/// R29: removes every snapshot that ends beyond `fork`. Where the log does not reach back to what
/// is left ([`reaches_back`]), nothing here counts any more, and everything comes anew from the
/// primary.
fn drop_snapshots_beyond(node: &Arc<Node>, fork: Lsn, reaches: bool) -> Result<(), StreamEnd> {
    let other = |error: &dyn std::fmt::Display| StreamEnd::Other(error.to_string());
    if reaches {
        return super::snapshots::drop_beyond(node, fork).map_err(|error| other(&error));
    }
    node.store.set_exact_from(NEVER);
    node.snapshots.void_all().map_err(|error| other(&error))?;
    node.store.log().reset(ChainPoint::default())?;
    node.snapshots.forget_all().map_err(|error| other(&error))?;
    node.store.replace(
        Keyspace::new(node.host.hash_seed()),
        ChainPoint::default(),
        Lsn::ZERO,
    );
    repair::forget(node);
    Err(StreamEnd::Other(
        "no snapshot reaches back behind the fork; taking a full copy".into(),
    ))
}

/// Builds the keyspace again from what is left: the newest snapshot, which holds nothing that was
/// given up, and the log from there. The caller keeps everybody else from log and snapshots.
pub(super) fn rebuild(node: &Arc<Node>) -> Result<(), StreamEnd> {
    let other = |error: &dyn std::fmt::Display| StreamEnd::Other(error.to_string());
    // First the memory of the old one: there may not be room for two.
    node.store.replace(
        Keyspace::new(node.host.hash_seed()),
        ChainPoint::default(),
        NEVER,
    );
    let log_first = Some(node.store.log().oldest().lsn.next());
    let loaded = super::snapshots::load_newest(node.host.as_ref(), &node.snapshots, log_first);
    let loaded = loaded.inspect_err(|error| {
        tracing::error!("{error}");
        node.loses_base();
    });
    let loaded = loaded.map_err(|error| other(&error))?;
    loaded
        .set_aside(&node.snapshots)
        .map_err(|error| other(&error))?;
    node.store
        .replace(loaded.keyspace, loaded.begin, loaded.end);
    repair::forget(node);
    // Nothing that the applier waits for need change at rest. (Seed 678 of the simulator's `witness`:
    // a standby built again after the last write applied nothing, and was out until the next.)
    node.repaired.notify_one();
    Ok(())
}

async fn take_records(
    node: &Arc<Node>,
    epoch: Epoch,
    mut reader: StreamReader,
    ask: mpsc::Sender<Vec<Bytes>>,
    awaited: watch::Sender<peer::Ack>,
) -> Result<(), StreamEnd> {
    loop {
        let (said, message) = next(&mut reader).await?;
        // R1, R4: nothing is stored for an epoch that is not the one promised.
        if said != epoch || node.promised() != epoch {
            return Err(StreamEnd::Other("another epoch began".into()));
        }
        let released = match message {
            StreamMessage::Wal { released, records } => {
                Stats::add(&node.stats.stream_received, records.len() as u64);
                if let Err(error) = node.store.log().append_raw(&records) {
                    if matches!(error, AppendRawError::Full(_)) {
                        // Nothing more is read: it waits at the primary, not in this memory.
                        drop(records);
                        node.store.log().has_room().await;
                    }
                    return Err(StreamEnd::Other(error.to_string()));
                }
                released
            }
            StreamMessage::Released { released } => released,
            StreamMessage::Values { at, keys, effects } => {
                Stats::add(&node.stats.stream_received, effects.len() as u64);
                let next = node
                    .host
                    .blocking(|| repair::take(node, at, keys, &effects))?;
                if let Some(keys) = next {
                    // The queue is empty: the last question has just been answered.
                    let _ = ask.try_send(keys);
                }
                continue;
            }
            StreamMessage::Awaited(cursors) => {
                awaited.send_replace(cursors);
                continue;
            }
            StreamMessage::Refused { reason } => return Err(StreamEnd::Other(reason)),
            other => {
                return Err(StreamEnd::Other(format!("{:?} in a stream", other.kind())));
            }
        };
        if released > node.gate_now().released {
            node.enter([Input::Released { epoch, released }]);
        }
    }
}

/// Whether a client's reply may be waiting for the new one.
fn is_waited_for(node: &Node, said: &Ack, ack: &Ack, awaited: &peer::Ack) -> bool {
    if ack.epoch != said.epoch {
        return true;
    }
    let asked = |said: Lsn, now: Lsn, awaited: Lsn| said < awaited && now > said;
    if asked(said.received, ack.received, awaited.received)
        || asked(said.synced, ack.synced, awaited.synced)
        || asked(said.applied, ack.applied, awaited.applied)
    {
        return true;
    }
    match node.settings.replies_wait_for() {
        None => false,
        Some(Level::Received) => ack.received > said.received,
        Some(Level::Synced) => ack.synced > said.synced,
        Some(Level::Applied) => ack.synced > said.synced || ack.applied > said.applied,
    }
}

async fn send_acks(
    node: &Arc<Node>,
    epoch: Epoch,
    mut writer: StreamWriter,
    mut asks: mpsc::Receiver<Vec<Bytes>>,
    mut awaited: watch::Receiver<peer::Ack>,
) -> Result<(), StreamEnd> {
    let mut acks = node.acks.subscribe();
    acks.mark_changed();
    let mut said = Ack::default();
    let mut put_off = PutOff::default();
    loop {
        tokio::select! {
            changed = acks.changed() => if changed.is_err() {
                return Ok(());
            },
            () = put_off.due() => {}
            Ok(()) = awaited.changed() => {}
            Some(keys) = asks.recv() => {
                writer.push(epoch, &StreamMessage::Repair { keys })?;
                writer.flush().await?;
                continue;
            }
        }
        let ack = *acks.borrow_and_update();
        if ack.epoch != epoch || ack == said {
            put_off.said();
            continue;
        }
        let waited_for = is_waited_for(node, &said, &ack, &awaited.borrow_and_update());
        if !waited_for && !put_off.is_due() {
            continue;
        }
        said = ack;
        put_off.said();
        let message = peer::Ack {
            received: ack.received,
            synced: ack.synced,
            applied: ack.applied,
        };
        writer.push(epoch, &StreamMessage::Ack(message))?;
        writer.flush().await?;
    }
}
