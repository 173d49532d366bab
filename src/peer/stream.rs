//! The data plane's messages: how a standby's log is matched with the primary's, and how records,
//! snapshots and acknowledgements travel. The codec is written by hand, since these carry bytes.
//!
//! The conversation, standby on the left:
//!
//! ```text
//! Follow         ->                       where my log ends, and which reigns it holds
//!                <- Matched               we agree up to `fork` ...
//! Ready          ->                       ... I have cut my log there, send from the next
//!                <- Wal | Released ...
//!                <- Awaited ...        say at once when you hold so much: a client waits for it
//! Ack ...        ->
//! Repair ...     ->                       keys that I changed behind the fork (R28)
//!                <- Values ...            what they hold, once that is released
//!
//! Follow         ->
//!                <- SnapshotOffer         your log is blank or too far behind: take exactly this ...
//! SnapshotWanted ->                       ... of which I hold so much from a copy that broke off
//!                <- SnapshotChunk ... SnapshotEnd
//! Ready          ->                       I stand on it, send what follows its begin
//!                <- Wal | Released ...
//!
//! Follow         ->
//!                <- CopyFrom              the same, but that standby has a copy for you
//! SnapshotWanted ->                       once a second: so much of it is here
//! Follow         ->                       I stand on it; or that standby had none after all
//!
//! CopyWanted     ->                       to that standby, on a stream of its own
//!                <- SnapshotOffer         and so on, to SnapshotEnd
//!
//! Fetch          ->                       records that my disk lost; any data node answers
//!                <- Chain, Wal ..., Chain where they begin, they, where they end
//!
//! either side, at any time: Refused, and the connection closes
//! ```
//!
//! R4: the fork is decided by (epoch, LSN); the CRCs beside them only check. An [`Ack`] speaks of
//! the history matched on *this* connection, so its cursors start afresh with each `Follow`.
//!
//! The epoch is not in the messages: each frame carries the sender's, once.

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use thiserror::Error;

use super::frame::{self, Frame, FrameError, FrameKind, MAX_HANDSHAKE_BYTES};
use crate::units::{Epoch, Lsn, Millis, NodeId};
use crate::wal::{ChainPoint, SnapshotKey};

/// Most reigns a [`Follow`] can state. A history that is longer loses its oldest entries on the
/// way: a fork behind them is then answered with a snapshot instead of a match, never with a wrong
/// match.
pub const MAX_HISTORY_ENTRIES: usize = 2048;

/// A standby's log, described for the primary that shall extend it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Follow {
    /// The standby.
    pub node: NodeId,
    /// The incarnation of its membership (R25).
    pub membership_incarnation: u64,
    /// It has no valid control state (R24): a learner that counts nowhere until re-admitted.
    pub blank: bool,
    /// It holds a snapshot; the log may start behind record 1.
    pub has_snapshot: bool,
    /// Each reign in its log with the LSN of that reign's EpochStart, oldest first.
    pub history: Vec<(Epoch, Lsn)>,
    /// Last record of its log; zero when the log is empty.
    pub last: Lsn,
    /// Epoch of that record.
    pub last_epoch: Epoch,
    /// CRC of that record: equal values mean equal histories, unless someone crafted them (R4).
    pub last_crc: u32,
    /// First record its log still holds.
    pub log_first: Lsn,
}

/// The primary's answer: both logs are the same up to and including `fork`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// Last record both logs share; the standby truncates behind it and is sent the next.
    pub fork: Lsn,
    /// Epoch of that record in the primary's log.
    pub fork_epoch: Epoch,
    /// CRC of that record in the primary's log; it only checks (R4).
    pub fork_crc: u32,
    /// What the primary knows to be released.
    pub released: Lsn,
    /// Last record the primary had appended: once the standby holds it, it has caught up.
    pub appended: Lsn,
}

/// How far a standby has come, in the history matched on this connection (R4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Handed to its operating system.
    pub received: Lsn,
    /// Durable: fdatasync returned (R3).
    pub synced: Lsn,
    /// Visible to its readers.
    pub applied: Lsn,
}

impl Ack {
    fn read(body: &mut Bytes, kind: FrameKind) -> Result<Ack, StreamError> {
        let mut number = || body.try_get_u64_le().map_err(|_| StreamError::Short(kind));
        Ok(Ack {
            received: Lsn(number()?),
            synced: Lsn(number()?),
            applied: Lsn(number()?),
        })
    }
}

/// One message of the data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamMessage {
    /// Standby to primary: the first message.
    Follow(Follow),
    /// Primary to standby: follow from behind the fork.
    Matched(Matched),
    /// Standby to primary: my log ends at the fork, send from here.
    Ready {
        /// First record wanted.
        from: Lsn,
    },
    /// Primary to standby: a snapshot comes.
    SnapshotOffer(SnapshotKey),
    /// Standby to primary: begin here. While another standby sends it: so far it is.
    SnapshotWanted {
        /// Bytes of the offered snapshot that it holds already, from the start.
        offset: u64,
    },
    /// Primary to standby: another standby has a copy for you; then follow me.
    CopyFrom {
        /// Which.
        source: NodeId,
        /// The primary's log is kept from behind this record on.
        oldest: Lsn,
    },
    /// Standby to standby: send me a snapshot.
    CopyWanted {
        /// One that begins here or later.
        oldest: Lsn,
    },
    /// A piece of it.
    SnapshotChunk {
        /// Where the piece belongs, in bytes from the snapshot's start.
        offset: u64,
        /// At most [`frame::MAX_SNAPSHOT_CHUNK_BYTES`].
        bytes: Bytes,
    },
    /// All pieces have been sent.
    SnapshotEnd {
        /// Length of the whole snapshot, in bytes, as offered.
        bytes: u64,
    },
    /// Whole records, byte for byte as they stand in the primary's log.
    Wal {
        /// What the primary knows to be released.
        released: Lsn,
        /// The records; never empty.
        records: Bytes,
    },
    /// The stream's heartbeat when there are no records to send.
    Released {
        /// What the primary knows to be released.
        released: Lsn,
    },
    /// Standby to primary: what it holds.
    Ack(Ack),
    /// Primary to standby: a client waits until it holds so much (WAIT), so that is to be said at once. As
    /// the standby's own cursors in shape; they only rise.
    Awaited(Ack),
    /// Standby to primary: keys whose values here are of records that were given up.
    Repair {
        /// The keys; at most about [`frame::MAX_REPAIR_BATCH_BYTES`] of them.
        keys: Vec<Bytes>,
    },
    /// Primary to standby: what the first of those keys hold.
    Values {
        /// They were read behind this record, which is released.
        at: Lsn,
        /// How many of the keys asked for, from the first on; at least one.
        keys: u32,
        /// A SET or DEL for each, as in a record's payload.
        effects: Bytes,
    },
    /// Any data node to any other: records that it lost, to mend its log with.
    Fetch {
        /// The record before them.
        after: Lsn,
        /// The last of them.
        last: Lsn,
    },
    /// In answer: what the first [`StreamMessage::Wal`] behind this follows; once more behind the
    /// last: what they ended with.
    Chain(ChainPoint),
    /// Why the sender closes the connection: one sentence, for people.
    Refused {
        /// The sentence; control characters are replaced on arrival.
        reason: String,
    },
}

/// Why a frame is not a message of the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StreamError {
    /// The body ends too early.
    #[error("a {0:?} message that ends too early")]
    Short(FrameKind),
    /// The body goes on behind the message.
    #[error("a {0:?} message with {1} bytes too many")]
    TrailingBytes(FrameKind, usize),
    /// A field holds what it never may.
    #[error("a {0:?} message whose {1} is invalid")]
    Invalid(FrameKind, &'static str),
    /// A frame of the handshake or of the control plane.
    #[error("a {0:?} frame on the data plane")]
    Misplaced(FrameKind),
}

impl StreamMessage {
    /// The kind of frame this message travels in.
    pub fn kind(&self) -> FrameKind {
        match self {
            StreamMessage::Follow(_) => FrameKind::Follow,
            StreamMessage::Matched(_) => FrameKind::Matched,
            StreamMessage::Ready { .. } => FrameKind::Ready,
            StreamMessage::SnapshotOffer(_) => FrameKind::SnapshotOffer,
            StreamMessage::SnapshotWanted { .. } => FrameKind::SnapshotWanted,
            StreamMessage::SnapshotChunk { .. } => FrameKind::SnapshotChunk,
            StreamMessage::SnapshotEnd { .. } => FrameKind::SnapshotEnd,
            StreamMessage::Wal { .. } => FrameKind::Wal,
            StreamMessage::Released { .. } => FrameKind::Released,
            StreamMessage::Ack(_) => FrameKind::Ack,
            StreamMessage::Awaited(_) => FrameKind::Awaited,
            StreamMessage::Repair { .. } => FrameKind::Repair,
            StreamMessage::Values { .. } => FrameKind::Values,
            StreamMessage::Fetch { .. } => FrameKind::Fetch,
            StreamMessage::Chain(_) => FrameKind::Chain,
            StreamMessage::CopyFrom { .. } => FrameKind::CopyFrom,
            StreamMessage::CopyWanted { .. } => FrameKind::CopyWanted,
            StreamMessage::Refused { .. } => FrameKind::Refused,
        }
    }

    /// Appends the frame to `out`, all but its payload; the payload returned (empty for most
    /// kinds) goes onto the wire right behind it, uncopied.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when the payload is over the limit of its kind; `out` is as it was.
    pub fn encode(&self, epoch: Epoch, out: &mut BytesMut) -> Result<Bytes, FrameError> {
        let payload = match self {
            StreamMessage::SnapshotChunk { bytes, .. } => bytes.clone(),
            StreamMessage::Wal { records, .. } => records.clone(),
            StreamMessage::Values { effects, .. } => effects.clone(),
            _ => Bytes::new(),
        };
        frame::encode(self.kind(), epoch, &payload, out, |body| {
            self.write_fields(body)
        })?;
        Ok(payload)
    }

    fn write_fields(&self, body: &mut BytesMut) {
        match self {
            StreamMessage::Follow(follow) => follow.write(body),
            StreamMessage::Matched(matched) => {
                body.put_u64_le(matched.fork.0);
                body.put_u64_le(matched.fork_epoch.0);
                body.put_u32_le(matched.fork_crc);
                body.put_u64_le(matched.released.0);
                body.put_u64_le(matched.appended.0);
            }
            StreamMessage::Ready { from } => body.put_u64_le(from.0),
            StreamMessage::SnapshotOffer(offer) => {
                body.put_u64_le(offer.begin.0);
                body.put_u64_le(offer.end.0);
                body.put_u64_le(offer.bytes);
                body.put_u64_le(offer.id);
            }
            StreamMessage::SnapshotWanted { offset }
            | StreamMessage::SnapshotChunk { offset, .. } => body.put_u64_le(*offset),
            StreamMessage::SnapshotEnd { bytes } => body.put_u64_le(*bytes),
            StreamMessage::Wal { released, .. } | StreamMessage::Released { released } => {
                body.put_u64_le(released.0);
            }
            StreamMessage::Ack(ack) | StreamMessage::Awaited(ack) => {
                body.put_u64_le(ack.received.0);
                body.put_u64_le(ack.synced.0);
                body.put_u64_le(ack.applied.0);
            }
            StreamMessage::Repair { keys } => write_keys(keys, body),
            StreamMessage::Values { at, keys, .. } => {
                body.put_u64_le(at.0);
                body.put_u32_le(*keys);
            }
            StreamMessage::Fetch { after, last } => {
                body.put_u64_le(after.0);
                body.put_u64_le(last.0);
            }
            StreamMessage::CopyFrom { source, oldest } => {
                body.put_u32_le(source.0);
                body.put_u64_le(oldest.0);
            }
            StreamMessage::CopyWanted { oldest } => body.put_u64_le(oldest.0),
            StreamMessage::Chain(point) => {
                body.put_u64_le(point.lsn.0);
                body.put_u64_le(point.epoch.0);
                body.put_u64_le(point.time.0);
                body.put_u64_le(point.offset);
                body.put_u32_le(point.crc);
            }
            StreamMessage::Refused { reason } => body.put_slice(sentence_bytes(reason)),
        }
    }

    /// Reads a frame of the data plane. Payloads are slices of the frame's body.
    ///
    /// # Errors
    /// Another plane's frame, a body that is too short or too long, a field out of its range.
    pub fn decode(frame: Frame) -> Result<StreamMessage, StreamError> {
        let kind = frame.kind;
        let mut body = frame.body;
        let message = StreamMessage::read_fields(kind, &mut body)?;
        if body.has_remaining() {
            return Err(StreamError::TrailingBytes(kind, body.remaining()));
        }
        Ok(message)
    }

    fn read_fields(kind: FrameKind, body: &mut Bytes) -> Result<StreamMessage, StreamError> {
        let short = |_: TryGetError| StreamError::Short(kind);
        let mut number = || body.try_get_u64_le().map_err(short);
        Ok(match kind {
            FrameKind::Follow => StreamMessage::Follow(Follow::read(body)?),
            FrameKind::Matched => StreamMessage::Matched(Matched {
                fork: Lsn(number()?),
                fork_epoch: Epoch(number()?),
                fork_crc: body.try_get_u32_le().map_err(short)?,
                released: Lsn(body.try_get_u64_le().map_err(short)?),
                appended: Lsn(body.try_get_u64_le().map_err(short)?),
            }),
            FrameKind::Ready => StreamMessage::Ready {
                from: Lsn(number()?),
            },
            FrameKind::SnapshotOffer => StreamMessage::SnapshotOffer(SnapshotKey {
                begin: Lsn(number()?),
                end: Lsn(number()?),
                bytes: number()?,
                id: number()?,
            }),
            FrameKind::SnapshotWanted => StreamMessage::SnapshotWanted { offset: number()? },
            FrameKind::SnapshotChunk => StreamMessage::SnapshotChunk {
                offset: number()?,
                bytes: std::mem::take(body),
            },
            FrameKind::SnapshotEnd => StreamMessage::SnapshotEnd { bytes: number()? },
            FrameKind::Wal => {
                let released = Lsn(number()?);
                if body.is_empty() {
                    return Err(StreamError::Invalid(kind, "batch of records (it is empty)"));
                }
                StreamMessage::Wal {
                    released,
                    records: std::mem::take(body),
                }
            }
            FrameKind::Released => StreamMessage::Released {
                released: Lsn(number()?),
            },
            FrameKind::Ack => StreamMessage::Ack(Ack::read(body, kind)?),
            FrameKind::Awaited => StreamMessage::Awaited(Ack::read(body, kind)?),
            FrameKind::Repair => StreamMessage::Repair {
                keys: read_keys(body)?,
            },
            FrameKind::Values => StreamMessage::Values {
                at: Lsn(number()?),
                keys: body.try_get_u32_le().map_err(short)?,
                effects: std::mem::take(body),
            },
            FrameKind::Fetch => StreamMessage::Fetch {
                after: Lsn(number()?),
                last: Lsn(number()?),
            },
            FrameKind::Chain => StreamMessage::Chain(ChainPoint {
                lsn: Lsn(number()?),
                epoch: Epoch(number()?),
                time: Millis(number()?),
                offset: number()?,
                crc: body.try_get_u32_le().map_err(short)?,
            }),
            FrameKind::CopyFrom => StreamMessage::CopyFrom {
                source: NodeId(body.try_get_u32_le().map_err(short)?),
                oldest: Lsn(body.try_get_u64_le().map_err(short)?),
            },
            FrameKind::CopyWanted => StreamMessage::CopyWanted {
                oldest: Lsn(number()?),
            },
            FrameKind::Refused => StreamMessage::Refused {
                reason: sentence(&std::mem::take(body)),
            },
            FrameKind::Hello | FrameKind::Proof | FrameKind::Control => {
                return Err(StreamError::Misplaced(kind));
            }
        })
    }
}

fn write_keys(keys: &[Bytes], body: &mut BytesMut) {
    body.put_u32_le(keys.len() as u32);
    for key in keys {
        body.put_u32_le(key.len() as u32);
        body.put_slice(key);
    }
}

/// Keys with a copy of their own, of no more than came.
fn read_keys(body: &mut Bytes) -> Result<Vec<Bytes>, StreamError> {
    let short = |_: TryGetError| StreamError::Short(FrameKind::Repair);
    let count = body.try_get_u32_le().map_err(short)?;
    // Not with room for `count`: nobody has checked that so many keys follow.
    let mut keys = Vec::new();
    for _ in 0..count {
        let len = body.try_get_u32_le().map_err(short)? as usize;
        if len > body.remaining() {
            return Err(StreamError::Short(FrameKind::Repair));
        }
        keys.push(Bytes::copy_from_slice(&body.split_to(len)));
    }
    Ok(keys)
}

const FOLLOW_BLANK: u8 = 1;
const FOLLOW_HAS_SNAPSHOT: u8 = 2;

impl Follow {
    fn write(&self, body: &mut BytesMut) {
        body.put_u32_le(self.node.0);
        body.put_u64_le(self.membership_incarnation);
        let blank = if self.blank { FOLLOW_BLANK } else { 0 };
        let has_snapshot = if self.has_snapshot {
            FOLLOW_HAS_SNAPSHOT
        } else {
            0
        };
        body.put_u8(blank | has_snapshot);
        body.put_u64_le(self.last.0);
        body.put_u64_le(self.last_epoch.0);
        body.put_u32_le(self.last_crc);
        body.put_u64_le(self.log_first.0);
        let newest = &self.history[self.history.len().saturating_sub(MAX_HISTORY_ENTRIES)..];
        body.put_u32_le(newest.len() as u32);
        for (epoch, start) in newest {
            body.put_u64_le(epoch.0);
            body.put_u64_le(start.0);
        }
    }

    fn read(body: &mut Bytes) -> Result<Follow, StreamError> {
        let mut follow = Follow::default();
        let count = follow
            .read_fixed(body)
            .map_err(|_| StreamError::Short(FrameKind::Follow))?;
        follow.blank = count.flags & FOLLOW_BLANK != 0;
        follow.has_snapshot = count.flags & FOLLOW_HAS_SNAPSHOT != 0;
        if count.flags & !(FOLLOW_BLANK | FOLLOW_HAS_SNAPSHOT) != 0 {
            return Err(StreamError::Invalid(FrameKind::Follow, "flags byte"));
        }
        // The entries must already be here before room is made for them.
        if count.entries > MAX_HISTORY_ENTRIES {
            return Err(StreamError::Invalid(FrameKind::Follow, "number of reigns"));
        }
        if body.remaining() < count.entries * 16 {
            return Err(StreamError::Short(FrameKind::Follow));
        }
        follow.history = (0..count.entries)
            .map(|_| (Epoch(body.get_u64_le()), Lsn(body.get_u64_le())))
            .collect();
        // Whoever looks a fork up in it relies on the order.
        if !follow
            .history
            .windows(2)
            .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1)
        {
            return Err(StreamError::Invalid(
                FrameKind::Follow,
                "history (it must rise)",
            ));
        }
        Ok(follow)
    }

    fn read_fixed(&mut self, body: &mut Bytes) -> Result<FollowCount, TryGetError> {
        self.node = NodeId(body.try_get_u32_le()?);
        self.membership_incarnation = body.try_get_u64_le()?;
        let flags = body.try_get_u8()?;
        self.last = Lsn(body.try_get_u64_le()?);
        self.last_epoch = Epoch(body.try_get_u64_le()?);
        self.last_crc = body.try_get_u32_le()?;
        self.log_first = Lsn(body.try_get_u64_le()?);
        Ok(FollowCount {
            flags,
            entries: body.try_get_u32_le()? as usize,
        })
    }
}

struct FollowCount {
    flags: u8,
    entries: usize,
}

/// A sentence as it goes onto the wire: cut, between characters, to what a frame may carry.
pub(crate) fn sentence_bytes(sentence: &str) -> &[u8] {
    &sentence.as_bytes()[..sentence.floor_char_boundary(MAX_HANDSHAKE_BYTES)]
}

/// A sentence that came over the wire, safe for a log or a terminal: a peer, perhaps an unproven
/// one, wrote it, so control characters (line breaks, escape sequences) do not survive.
pub(crate) fn sentence(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}
