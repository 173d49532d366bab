//! A full copy: the snapshot that a primary sends to a standby whose log it cannot match, and what
//! the standby does with it.
//!
//! Neither side ever holds more than a piece of it in memory. The pieces are paced (`[limits]
//! copy_rate`), so that live traffic has its share. A copy that broke off goes on where it was: the
//! offer says exactly which snapshot it is, the standby answers how much of that very one it holds
//! and has checked, and the primary keeps it for a while. Nothing counts before the whole was
//! checked; what the standby had before counts until then (R24).
//!
//! Where another standby has it, that one sends the snapshot, and the primary's disk and network have
//! only the log behind it to send. The standby then asks the primary to follow it, as after a restart:
//! their histories decide whether what it took is the primary's (R4).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::copy_pace::CopyPace;
use super::driver::Node;
use super::fitness::Unfit;
use super::follow::{give_up, may_give_up_log};
use super::repair;
use super::snapshots::{self, Offered};
use super::stats::Stats;
use super::store::NEVER;
use super::stream::{StreamEnd, StreamReader, StreamWriter, next, next_within, open, refuse};
use crate::peer::StreamMessage;
use crate::units::{Epoch, Lsn, Micros, NodeId};
use crate::wal::{Reader, SnapshotKey, SnapshotReceiver};

/// Bytes per piece: a fiftieth of what goes out in a second. (A mebibyte took a tenth of a second of
/// a slow link, during which no record went out.)
fn piece_bytes(per_second: u64) -> u64 {
    match per_second {
        0 => 256 << 10,
        rate => (rate / 50).clamp(512, 256 << 10),
    }
}

/// Time between two lines that say how far a copy is.
const SAY_EVERY: Micros = Micros(1_000_000);

/// Time that another standby may take to make a snapshot where it has none that is new enough: the
/// primary may have one.
const OFFER_PATIENCE: Duration = Duration::from_secs(30);

/// Between two pieces, of which there are to be fifty a second: who sends them may be frozen.
const PIECE_PATIENCE: Duration = Duration::from_secs(5);

fn other(error: impl std::fmt::Display) -> StreamEnd {
    StreamEnd::Other(error.to_string())
}

/// Sends a snapshot. A reader of the log behind its begin, and the hold on the snapshot, to be kept
/// until the standby stands on it: with it goes the log behind its begin.
pub(super) async fn send_snapshot(
    node: &Arc<Node>,
    standby: NodeId,
    epoch: Epoch,
    reader: &mut StreamReader,
    writer: &mut StreamWriter,
) -> Result<(Reader, Offered), StreamEnd> {
    let log = node.store.log();
    let offered = snapshots::for_standby(node, standby, log.oldest().lsn);
    let offered = offered.await.map_err(other)?;
    let log_reader = log.reader(offered.begin)?;
    send(node, &offered, epoch, reader, writer).await?;
    Ok((log_reader, offered))
}

/// A standby's: sends a snapshot in the primary's stead.
///
/// R29: only one that this primary's log has matched. A deposed primary's snapshots may hold what
/// it is about to give up.
pub(super) async fn lend_snapshot(
    node: &Arc<Node>,
    standby: NodeId,
    (epoch, oldest): (Epoch, Lsn),
    reader: &mut StreamReader,
    writer: &mut StreamWriter,
) -> Result<(), StreamEnd> {
    if let Some(reason) = why_not_lend(node, epoch) {
        refuse(writer, epoch, reason.clone()).await?;
        return Err(StreamEnd::Other(reason));
    }
    let offered = snapshots::for_standby(node, standby, oldest).await;
    let offered = offered.map_err(other)?;
    send(node, &offered, epoch, reader, writer).await?;
    // It closes the stream; whether it stands on the copy, only its primary hears.
    match next(reader).await {
        Ok(_) => Err(StreamEnd::Other("it went on speaking".into())),
        Err(_) => Ok(()),
    }
}

fn why_not_lend(node: &Node, epoch: Epoch) -> Option<String> {
    let id = node.id();
    let matched = node.acks.borrow().epoch == epoch;
    if !(follows(node, epoch) && matched) {
        return Some(format!("node {id} does not follow in epoch {epoch}"));
    }
    let unfit = node.unfit_reasons().into_iter().next();
    unfit.map(|why| format!("node {id} has no copy to give: {why}"))
}

fn follows(node: &Node, epoch: Epoch) -> bool {
    let gate = node.gate_now();
    let following = gate.following;
    following.is_some_and(|(_, followed)| followed == epoch) && !gate.stopping
}

/// Offers a snapshot and sends what of it is wanted.
async fn send(
    node: &Arc<Node>,
    offered: &Offered,
    epoch: Epoch,
    reader: &mut StreamReader,
    writer: &mut StreamWriter,
) -> Result<(), StreamEnd> {
    let file = node
        .host
        .blocking(|| node.snapshots.reader(&offered.path))
        .map_err(other)?;
    let offer = file.info().key();
    let bytes = offer.bytes;
    writer.push(epoch, &StreamMessage::SnapshotOffer(offer))?;
    writer.flush().await?;
    let mut offset = match next(reader).await? {
        (_, StreamMessage::SnapshotWanted { offset }) if offset <= bytes => offset,
        (_, message) => {
            return Err(StreamEnd::Other(format!(
                "SnapshotWanted was due, {message:?} came"
            )));
        }
    };
    tracing::info!(
        "node {} takes a snapshot of {bytes} bytes from byte {offset} on",
        offered.standby
    );
    let most = piece_bytes(node.settings.copy_rate.per_second(true));
    let mut pace = CopyPace::new(node);
    while offset < bytes {
        let gate = node.gate_now();
        let reigns = gate.is_primary() && gate.epoch == epoch && !gate.stopping;
        if !reigns && !follows(node, epoch) {
            return Err(StreamEnd::Other("the reign is over".into()));
        }
        let len = most.min(bytes - offset);
        let mut piece = vec![0; len as usize];
        let read = node
            .host
            .blocking(|| file.raw_at(&mut piece, offset))
            .map_err(other)?;
        if (read as u64) < len {
            return Err(StreamEnd::Other("the snapshot was cut short".into()));
        }
        let bytes = Bytes::from(piece);
        writer.push(epoch, &StreamMessage::SnapshotChunk { offset, bytes })?;
        writer.flush().await?;
        offset += len;
        pace.spend(node, len, || 0).await;
    }
    writer.push(epoch, &StreamMessage::SnapshotEnd { bytes })?;
    writer.flush().await?;
    Stats::add(&node.stats.copies_sent, 1);
    Ok(())
}

/// Takes a full copy from another standby, telling the primary how far it is. The stream to the
/// primary is as it was: whatever comes of this, it is asked to be followed next.
pub(super) async fn borrow_snapshot(
    node: &Arc<Node>,
    (primary, epoch): (NodeId, Epoch),
    (source, oldest): (NodeId, Lsn),
    to_primary: &mut StreamWriter,
) -> Result<(), StreamEnd> {
    let (host, settings) = (node.host.as_ref(), &node.settings);
    let (mut reader, mut writer) = open(host, settings, &node.identity(), source).await?;
    writer.push(epoch, &StreamMessage::CopyWanted { oldest })?;
    writer.flush().await?;
    let offer = match next_within(OFFER_PATIENCE, &mut reader).await? {
        (_, StreamMessage::SnapshotOffer(offer)) if offer.begin >= oldest => offer,
        (_, StreamMessage::Refused { reason }) => return Err(StreamEnd::Other(reason)),
        (_, message) => {
            return Err(StreamEnd::Other(format!(
                "{:?} is no answer to CopyWanted",
                message.kind()
            )));
        }
    };
    let stream = (&mut reader, &mut writer, Some(to_primary));
    take_snapshot(node, stream, primary, epoch, &offer).await?;
    Ok(())
}

/// Takes a full copy and begins a new log behind it. Returns where it begins.
pub(super) async fn take_snapshot(
    node: &Arc<Node>,
    (reader, writer, mut to_primary): (
        &mut StreamReader,
        &mut StreamWriter,
        Option<&mut StreamWriter>,
    ),
    primary: NodeId,
    epoch: Epoch,
    offer: &SnapshotKey,
) -> Result<Lsn, StreamEnd> {
    if node.store.log().end().lsn > offer.begin {
        may_give_up_log(
            node,
            "taking a full copy, which begins before this log ends",
        )?;
    }
    node.unfit(Unfit::Copying);
    let mut receiver = node
        .host
        .blocking(|| node.snapshots.receive(*offer))
        .map_err(other)?;
    let offset = receiver.held();
    tracing::info!(
        "taking a snapshot of {} bytes, of which {offset} are here",
        offer.bytes
    );
    writer.push(epoch, &StreamMessage::SnapshotWanted { offset })?;
    writer.flush().await?;
    receive(node, reader, &mut to_primary, epoch, offer, &mut receiver).await?;
    node.host.blocking(|| stand_on(node, primary, receiver))
}

/// Takes pieces until the end.
async fn receive(
    node: &Arc<Node>,
    reader: &mut StreamReader,
    to_primary: &mut Option<&mut StreamWriter>,
    epoch: Epoch,
    offer: &SnapshotKey,
    receiver: &mut SnapshotReceiver,
) -> Result<(), StreamEnd> {
    let (began, first) = (node.host.boot_time(), receiver.held());
    let mut said = began;
    loop {
        match next_within(PIECE_PATIENCE, reader).await? {
            (_, StreamMessage::SnapshotChunk { offset, bytes }) if offset == receiver.held() => {
                Stats::add(&node.stats.stream_received, bytes.len() as u64);
                node.host
                    .blocking(|| receiver.write(&bytes))
                    .map_err(other)?;
            }
            (_, StreamMessage::SnapshotEnd { bytes })
                if bytes == receiver.held() && bytes == offer.bytes =>
            {
                return Ok(());
            }
            (_, message) => {
                return Err(StreamEnd::Other(format!(
                    "{:?} in a snapshot",
                    message.kind()
                )));
            }
        }
        if node.promised() != epoch {
            return Err(StreamEnd::Other("another epoch began".into()));
        }
        let now = node.host.boot_time();
        if now.since(said) >= SAY_EVERY {
            said = now;
            let held = receiver.held();
            if let Some(primary) = to_primary {
                primary.push(epoch, &StreamMessage::SnapshotWanted { offset: held })?;
                primary.flush().await?;
            }
            tracing::info!(
                "taking a snapshot: {} % of {} MB, {} MB/s",
                held * 100 / offer.bytes.max(1),
                offer.bytes / 1_000_000,
                (held - first) / now.since(began).0.max(1)
            );
        }
    }
}

/// Checks the copy, and puts it in the place of log and keyspace.
fn stand_on(
    node: &Arc<Node>,
    primary: NodeId,
    receiver: SnapshotReceiver,
) -> Result<Lsn, StreamEnd> {
    let copy = receiver.verify().map_err(other)?;
    let info = copy.info;
    let alone = node.rewriting.lock();
    let _alone = alone.map_err(|_| StreamEnd::Other("a task panicked".into()))?;
    node.store.end_reign();
    node.store.set_exact_from(NEVER);
    let log = node.store.log();
    give_up(node, primary, log.oldest().lsn)?;
    let snapshots = &node.snapshots;
    snapshots.void_all_but(&copy).map_err(other)?;
    log.set_cluster(node.gate_now().cluster);
    log.reset(info.begin)?;
    let path = snapshots.settle().map_err(other)?;
    let loaded = snapshots::load(node.host.as_ref(), snapshots, &path).map_err(other)?;
    node.store.replace(loaded.keyspace, info.begin, info.end);
    repair::forget(node);
    node.deposed.store(false, Ordering::Release);
    node.no_base.store(false, Ordering::Release);
    node.fit_again(Unfit::Copying);
    Ok(info.begin.lsn)
}

/// The log was matched: what is left of copies that broke off is of no use.
pub(super) fn forget_parts(node: &Node) {
    if let Err(error) = node.host.blocking(|| node.snapshots.forget_parts()) {
        tracing::warn!("removing the rest of a copy failed: {error}");
    }
}
