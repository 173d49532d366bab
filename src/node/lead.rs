//! A primary's side of a stream: match logs, send a snapshot where they cannot be matched, then
//! send records as they come, and take acknowledgements.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::copy::{lend_snapshot, send_snapshot};
use super::copy_pace::CopyPace;
use super::driver::Node;
use super::mend;
use super::snapshots::Elsewhere;
use super::stream::{PutOff, StreamEnd, StreamReader, StreamWriter, next, next_within, refuse};
use crate::peer::{self, Follow, Matched, PeerInfo, StreamMessage, frame::MAX_REPAIR_BATCH_BYTES};
use crate::replica::{Ack, Input, StandbyView};
use crate::units::{Epoch, Lsn, NodeId};
use crate::wal::{NoReader, Reader};

/// Bytes of records per frame.
const BATCH_BYTES: usize = 256 << 10;

/// A standby that lacks less than this is sent records as they come.
const LAGS_BYTES: u64 = 4 << 20;

/// Longest silence of a standby that takes a copy elsewhere; it says each second how far it is. (To
/// check and load what it took takes a while, too.)
const COPY_PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn serve(
    node: Arc<Node>,
    info: PeerInfo,
    stream: u64,
    reader: StreamReader,
    writer: StreamWriter,
) {
    let standby = info.node;
    match lead(&node, &info, stream, reader, writer).await {
        Ok(()) => {}
        Err(StreamEnd::Read(_) | StreamEnd::Write(_)) => {
            tracing::info!("node {standby}: its stream broke");
        }
        Err(StreamEnd::Log(error) | StreamEnd::NoReader(NoReader::Io(error)))
            if error.kind() == std::io::ErrorKind::InvalidData =>
        {
            node.log_is_damaged(&error.to_string());
        }
        Err(end) => tracing::info!("node {standby}: its stream ended: {end}"),
    }
}

async fn lead(
    node: &Arc<Node>,
    info: &PeerInfo,
    stream: u64,
    mut reader: StreamReader,
    mut writer: StreamWriter,
) -> Result<(), StreamEnd> {
    let mut elsewhere = None;
    let (epoch, follow, log_reader, offered) = loop {
        let (epoch, message) = first_words(&mut reader, elsewhere.is_some()).await?;
        let mut follow = match message {
            StreamMessage::Follow(follow) => follow,
            // How far the copy is that it takes elsewhere.
            StreamMessage::SnapshotWanted { .. } if elsewhere.is_some() => continue,
            StreamMessage::Fetch { after, last } => {
                mend::answer(node, epoch, after, last, &mut writer).await?;
                continue;
            }
            StreamMessage::CopyWanted { oldest } => {
                let wanted = (epoch, oldest);
                return lend_snapshot(node, info.node, wanted, &mut reader, &mut writer).await;
            }
            _ => return Err(StreamEnd::Other("it did not begin with Follow".into())),
        };
        follow.node = info.node;
        follow.membership_incarnation = info.membership_incarnation;
        if let Some(reason) = objection(node, epoch, &follow) {
            refuse(&mut writer, epoch, reason.clone()).await?;
            return Err(StreamEnd::Other(reason));
        }
        if let Some(fork) = common_point(node, &follow) {
            let log_reader = tell_match(node, epoch, fork, &mut writer).await?;
            break (epoch, follow, log_reader, None);
        }
        // Asked once: whatever came of that, this node has all that is needed.
        if elsewhere.is_none()
            && let Some(source) = other_source(node, info.node)
        {
            let copying = Elsewhere::new(node, info.node);
            let oldest = copying.oldest;
            tracing::info!(
                "node {} is to take a snapshot from node {source}",
                info.node
            );
            writer.push(epoch, &StreamMessage::CopyFrom { source, oldest })?;
            writer.flush().await?;
            elsewhere = Some(copying);
            continue;
        }
        let sent = send_snapshot(node, info.node, epoch, &mut reader, &mut writer);
        let (log_reader, offered) = sent.await?;
        break (epoch, follow, log_reader, Some(offered));
    };
    match next(&mut reader).await? {
        (_, StreamMessage::Ready { from }) if from == log_reader.position().lsn.next() => {}
        (_, other) => {
            return Err(StreamEnd::Other(format!(
                "Ready was due, {:?} came",
                other.kind()
            )));
        }
    }
    if let Some(offered) = offered {
        offered.done();
    }
    drop(elsewhere);
    let stream = Stream {
        number: stream,
        epoch,
        reader,
        writer,
    };
    ship(node, &follow, log_reader, stream).await
}

/// What a data node says before it follows. One that takes its copy elsewhere says how far it is.
async fn first_words(
    reader: &mut StreamReader,
    copies: bool,
) -> Result<(Epoch, StreamMessage), StreamEnd> {
    match copies {
        true => next_within(COPY_PATIENCE, reader).await,
        false => next(reader).await,
    }
}

async fn tell_match(
    node: &Node,
    epoch: Epoch,
    fork: Lsn,
    writer: &mut StreamWriter,
) -> Result<Reader, StreamEnd> {
    let log_reader = node.store.log().reader(fork)?;
    let at = log_reader.position();
    let matched = Matched {
        fork,
        fork_epoch: at.epoch,
        fork_crc: at.crc,
        released: node.gate_now().shown,
        appended: node.store.log().end().lsn,
    };
    writer.push(epoch, &StreamMessage::Matched(matched))?;
    writer.flush().await?;
    Ok(log_reader)
}

/// A standby that follows, is fit, and has applied most: its snapshot does as well, and leaves this
/// node to its clients.
fn other_source(node: &Node, but_for: NodeId) -> Option<NodeId> {
    let view = node.view();
    let fit = |standby: &&StandbyView| {
        standby.id != but_for && standby.counted && !view.unfit.contains(&standby.id)
    };
    let standbys = view.standbys.iter().filter(fit);
    standbys
        .max_by_key(|standby| standby.applied)
        .map(|standby| standby.id)
}

fn objection(node: &Node, epoch: Epoch, follow: &Follow) -> Option<String> {
    let view = node.view();
    let gate = node.gate_now();
    if !gate.is_primary() || gate.epoch != epoch {
        return Some(format!(
            "node {} does not reign in epoch {epoch}",
            node.id()
        ));
    }
    let rule = view.rule?;
    if rule
        .rule
        .is_lost(follow.node, follow.membership_incarnation)
    {
        return Some(format!(
            "node {} was declared lost (promote --force --lost); wipe its data directory to let it \
             join again",
            follow.node
        ));
    }
    None
}

/// The last record that both logs share, by the epoch histories alone (R4); `None` if it is not
/// kept here any more.
fn common_point(node: &Node, follow: &Follow) -> Option<Lsn> {
    let log = node.store.log();
    let (ours, end) = (log.history(), log.end());
    let oldest = log.oldest();
    if follow.last == Lsn::ZERO && !follow.has_snapshot {
        return (oldest.lsn == Lsn::ZERO).then_some(Lsn::ZERO);
    }
    let fork = fork(&ours, end.lsn, &follow.history, follow.last)?;
    let theirs_oldest = follow.log_first.previous();
    (fork >= oldest.lsn && fork >= theirs_oldest).then_some(fork)
}

/// Last LSN up to which two histories agree. Each is a list of epochs with the LSN of their first
/// record, oldest first; the first entry is what precedes the oldest record kept.
fn fork(
    ours: &[(Epoch, Lsn)],
    our_end: Lsn,
    theirs: &[(Epoch, Lsn)],
    their_end: Lsn,
) -> Option<Lsn> {
    let last_of = |history: &[(Epoch, Lsn)], place: usize, end: Lsn| {
        history
            .get(place + 1)
            .map_or(end, |(_, next)| next.previous())
    };
    // The newest epoch that both know: up to the shorter one's end in it they are the same,
    // because one primary wrote all of that epoch, and its log before it was one log.
    for (place, (epoch, _)) in theirs.iter().enumerate().rev() {
        let Some(our_place) = ours.iter().rposition(|(known, _)| known == epoch) else {
            continue;
        };
        let theirs_last = last_of(theirs, place, their_end);
        let ours_last = last_of(ours, our_place, our_end);
        return Some(theirs_last.min(ours_last));
    }
    None
}

/// A standby's stream once it has begun.
struct Stream {
    /// Rises with each connection that a standby makes.
    number: u64,
    epoch: Epoch,
    reader: StreamReader,
    writer: StreamWriter,
}

async fn ship(
    node: &Arc<Node>,
    follow: &Follow,
    log_reader: Reader,
    stream: Stream,
) -> Result<(), StreamEnd> {
    let Stream {
        number: stream,
        epoch,
        reader,
        writer,
    } = stream;
    let standby = follow.node;
    let incarnation = follow.membership_incarnation;
    node.enter([Input::Followed {
        standby,
        incarnation,
        epoch,
        stream,
    }]);
    tracing::info!(
        "node {standby} follows from LSN {}",
        log_reader.position().lsn.next()
    );
    // One answer at a time: the next question comes when it has arrived.
    let (answer, answers) = mpsc::channel(1);
    let result = tokio::select! {
        result = send_records(node, epoch, log_reader, writer, answers) => result,
        result = take_acks(node, standby, stream, reader, answer) => result,
    };
    node.enter([Input::StreamLost { standby, stream }]);
    result
}

/// What a standby's keys hold here; to be said when what was read is released (R28).
struct Answer {
    at: Lsn,
    keys: u32,
    effects: Bytes,
}

async fn send_records(
    node: &Arc<Node>,
    epoch: Epoch,
    mut log_reader: Reader,
    mut writer: StreamWriter,
    mut answers: mpsc::Receiver<Answer>,
) -> Result<(), StreamEnd> {
    let mut appended = node.store.log().subscribe();
    let mut gate = node.gate();
    let mut catch_up = CatchUp(CopyPace::new(node));
    let mut told = Lsn::ZERO;
    let mut awaited = node.copy_waiters.awaited.subscribe();
    let mut awaited_there = peer::Ack::default();
    // A release that no records take along.
    let mut put_off = PutOff::default();
    let mut held: Option<Answer> = None;
    loop {
        // What still gathers behind that goes with the next group.
        let upto = *appended.borrow_and_update();
        let now = *gate.borrow_and_update();
        if !now.is_primary() || now.epoch != epoch || now.stopping {
            return Ok(());
        }
        if let Some(Answer { at, keys, effects }) = held.take_if(|held| held.at <= now.released) {
            let message = StreamMessage::Values { at, keys, effects };
            writer.push(epoch, &message)?;
            writer.flush().await?;
        }
        if let Some(chunk) = log_reader.next_chunk(upto, BATCH_BYTES)? {
            let bytes = chunk.bytes.len() as u64;
            told = now.released;
            put_off.said();
            let message = StreamMessage::Wal {
                released: told,
                records: chunk.bytes,
            };
            writer.push(epoch, &message)?;
            writer.flush().await?;
            catch_up
                .sent(node, log_reader.position().offset, bytes)
                .await;
            continue;
        }
        let wanted = *awaited.borrow_and_update();
        if wanted != awaited_there {
            awaited_there = wanted;
            writer.push(epoch, &StreamMessage::Awaited(wanted))?;
            writer.flush().await?;
            continue;
        }
        // Nothing is applied before it is known to be released (R23).
        if now.released > told && (put_off.is_due() || told < wanted.applied) {
            told = now.released;
            put_off.said();
            writer.push(epoch, &StreamMessage::Released { released: told })?;
            writer.flush().await?;
            continue;
        }
        tokio::select! {
            _ = appended.changed() => {}
            () = put_off.due() => {}
            _ = gate.changed() => {}
            _ = awaited.changed() => {}
            answer = answers.recv(), if held.is_none() => held = answer,
        }
    }
}

/// The share that a standby which lags may take of this machine.
///
/// As for a full copy ([`CopyPace`]), but always well above what clients write: it must come nearer.
/// What is up to date is never held back.
struct CatchUp(CopyPace);

impl CatchUp {
    /// So many bytes went out, up to this byte offset of the log.
    async fn sent(&mut self, node: &Node, offset: u64, bytes: u64) {
        let end = node.store.log().end().offset;
        if end.saturating_sub(offset) < LAGS_BYTES {
            return;
        }
        let twice_what_is_written = || {
            let now = node.host.boot_time();
            let written = node.retention().pace.bytes_per_second(now, end);
            written.saturating_mul(2)
        };
        self.0.spend(node, bytes, twice_what_is_written).await;
    }
}

async fn take_acks(
    node: &Arc<Node>,
    standby: NodeId,
    stream: u64,
    mut reader: StreamReader,
    answer: mpsc::Sender<Answer>,
) -> Result<(), StreamEnd> {
    loop {
        let (epoch, message) = next(&mut reader).await?;
        let ack = match message {
            StreamMessage::Ack(ack) => ack,
            StreamMessage::Repair { keys } => {
                let (at, told, effects) = node.store.values_of(&keys, MAX_REPAIR_BATCH_BYTES);
                let told = Answer {
                    at,
                    keys: told as u32,
                    effects: effects.into(),
                };
                if answer.try_send(told).is_err() {
                    let why = "it asked for more keys before it had the last";
                    return Err(StreamEnd::Other(why.into()));
                }
                continue;
            }
            message => {
                return Err(StreamEnd::Other(format!(
                    "Ack was due, {:?} came",
                    message.kind()
                )));
            }
        };
        let ack = Ack {
            epoch,
            received: ack.received,
            synced: ack.synced,
            applied: ack.applied,
        };
        node.enter([Input::Ack {
            standby,
            stream,
            ack,
        }]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(entries: &[(u64, u64)]) -> Vec<(Epoch, Lsn)> {
        entries
            .iter()
            .map(|(epoch, lsn)| (Epoch(*epoch), Lsn(*lsn)))
            .collect()
    }

    #[test]
    fn forks() {
        // Ours: epoch 1 from 1, epoch 3 from 11, up to 20.
        let ours = history(&[(0, 0), (1, 1), (3, 11)]);
        type Case<'a> = (&'a [(u64, u64)], u64, Option<u64>);
        let cases: [Case<'_>; 6] = [
            (&[(0, 0), (1, 1)], 7, Some(7)),
            (&[(0, 0), (1, 1)], 10, Some(10)),
            // It went on in epoch 1 beyond our epoch 3's start.
            (&[(0, 0), (1, 1)], 15, Some(10)),
            // It had an epoch 2 of its own.
            (&[(0, 0), (1, 1), (2, 9)], 12, Some(8)),
            (&[(0, 0), (1, 1), (3, 11)], 14, Some(14)),
            (&[(2, 30)], 40, None),
        ];
        for (theirs, end, wanted) in cases {
            let found = fork(&ours, Lsn(20), &history(theirs), Lsn(end));
            assert_eq!(found, wanted.map(Lsn), "{theirs:?} to {end}");
        }
    }
}
