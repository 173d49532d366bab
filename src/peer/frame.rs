//! One frame: a header of 17 bytes, then a body. `docs/formats-peer.md` draws it.
//!
//! Promise: a length is compared with the limit of its kind before anything is allocated for it,
//! and before the handshake is over only the three handshake kinds pass, at most
//! [`MAX_HANDSHAKE_BYTES`] each. So a stranger can make a node hold no more than one such frame.
//!
//! The header carries a CRC-32 over itself and the body: a flipped bit in an acknowledgement would
//! count a copy that does not exist, and TCP's own checksum misses about one damaged segment in
//! 65,536. Raw WAL bytes are left out, since each record carries its own chained CRC (design,
//! section 4) and the standby checks that one anyway.
//!
//! Never here: a socket, a clock, the meaning of a body.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::units::Epoch;

/// Length of a frame's header: length u32, kind u8, epoch u64, CRC-32 u32, all little endian.
pub const HEADER_BYTES: usize = 17;

/// Largest body of a handshake frame, in bytes: all that an unproven peer can make us hold.
pub const MAX_HANDSHAKE_BYTES: usize = 512;

/// Largest body of a control frame and of a `Follow`, in bytes.
pub const MAX_CONTROL_BYTES: usize = 64 * 1024;

/// Largest batch of records, in bytes, before the record that makes it full.
pub const MAX_WAL_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Largest single WAL record this protocol carries, in bytes.
pub const MAX_WAL_RECORD_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a WAL frame's body in front of the raw records: the released LSN.
pub const WAL_PREFIX_BYTES: usize = 8;

/// Largest body of a WAL frame: a batch is closed by the record that fills it, so it may exceed
/// [`MAX_WAL_BATCH_BYTES`] by one record.
pub const MAX_WAL_FRAME_BYTES: usize =
    WAL_PREFIX_BYTES + MAX_WAL_BATCH_BYTES + MAX_WAL_RECORD_BYTES;

/// Largest piece of a snapshot in one frame, in bytes.
pub const MAX_SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;

/// Bytes of a snapshot chunk's body in front of the piece: its offset.
pub const SNAPSHOT_PREFIX_BYTES: usize = 8;

/// Largest batch of keys, or of their values, in bytes, before the one that makes it full.
pub const MAX_REPAIR_BATCH_BYTES: usize = 1024 * 1024;

/// Bytes of a `Values` frame's body in front of the effects: LSN and number of keys.
pub const VALUES_PREFIX_BYTES: usize = 12;

/// Largest body of a `Repair` or `Values` frame. Keys and values came into the keyspace in records,
/// so one of them is no longer than a record; the rest is lengths.
pub const MAX_REPAIR_FRAME_BYTES: usize =
    VALUES_PREFIX_BYTES + 2 * MAX_REPAIR_BATCH_BYTES + MAX_WAL_RECORD_BYTES;

/// A body up to this length is copied out of the read buffer; a longer one is read into a buffer
/// of its own. Either way a `Bytes` kept by the caller pins nothing but itself.
pub(crate) const COPIED_BODY_BYTES: usize = 16 * 1024;

/// Largest body of the messages that are a handful of numbers.
const MAX_CURSOR_BYTES: usize = 64;

/// What a frame's body is. The number is the byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Who is speaking ([`crate::peer::Hello`]).
    Hello = 1,
    /// That it knows the secret.
    Proof = 2,
    /// A sentence that says why the sender closes the connection.
    Refused = 3,
    /// A message of the takeover machine ([`crate::peer::control`]).
    Control = 16,
    /// Standby to primary: where its log ends, and which reigns it holds.
    Follow = 32,
    /// Primary to standby: the last record both logs share.
    Matched = 33,
    /// Standby to primary: truncated to the fork, send from here.
    Ready = 34,
    /// Primary to standby: a snapshot follows, the log alone cannot bring it up to date.
    SnapshotOffer = 35,
    /// A piece of the snapshot.
    SnapshotChunk = 36,
    /// The snapshot is complete.
    SnapshotEnd = 37,
    /// Raw records.
    Wal = 38,
    /// The released LSN alone, when there are no records to send.
    Released = 39,
    /// Standby to primary: what it holds.
    Ack = 40,
    /// Standby to primary: keys that it changed behind the fork.
    Repair = 41,
    /// Primary to standby: what those keys hold.
    Values = 42,
    /// Standby to primary: how much of the offered snapshot it holds already.
    SnapshotWanted = 43,
    /// Any data node to any other: records that the sender lost.
    Fetch = 44,
    /// The answer: where the records that follow begin, or have ended.
    Chain = 45,
    /// Primary to standby: another standby has a copy for it.
    CopyFrom = 46,
    /// Standby to standby: asks for that copy.
    CopyWanted = 47,
    /// Primary to standby: what somebody waits to hear it holds.
    Awaited = 48,
}

impl FrameKind {
    /// Every kind, in the order of its byte.
    pub const ALL: [FrameKind; 21] = [
        FrameKind::Hello,
        FrameKind::Proof,
        FrameKind::Refused,
        FrameKind::Control,
        FrameKind::Follow,
        FrameKind::Matched,
        FrameKind::Ready,
        FrameKind::SnapshotOffer,
        FrameKind::SnapshotChunk,
        FrameKind::SnapshotEnd,
        FrameKind::Wal,
        FrameKind::Released,
        FrameKind::Ack,
        FrameKind::Repair,
        FrameKind::Values,
        FrameKind::SnapshotWanted,
        FrameKind::Fetch,
        FrameKind::Chain,
        FrameKind::CopyFrom,
        FrameKind::CopyWanted,
        FrameKind::Awaited,
    ];

    /// The kind with this byte, if there is one.
    pub fn from_byte(byte: u8) -> Option<FrameKind> {
        FrameKind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Largest body of this kind, in bytes.
    pub const fn max_body_bytes(self) -> usize {
        match self {
            FrameKind::Hello | FrameKind::Proof | FrameKind::Refused => MAX_HANDSHAKE_BYTES,
            FrameKind::Control | FrameKind::Follow => MAX_CONTROL_BYTES,
            FrameKind::Matched
            | FrameKind::Ready
            | FrameKind::SnapshotOffer
            | FrameKind::SnapshotEnd
            | FrameKind::SnapshotWanted
            | FrameKind::Released
            | FrameKind::Fetch
            | FrameKind::Chain
            | FrameKind::CopyFrom
            | FrameKind::CopyWanted
            | FrameKind::Awaited
            | FrameKind::Ack => MAX_CURSOR_BYTES,
            FrameKind::SnapshotChunk => SNAPSHOT_PREFIX_BYTES + MAX_SNAPSHOT_CHUNK_BYTES,
            FrameKind::Wal => MAX_WAL_FRAME_BYTES,
            FrameKind::Repair | FrameKind::Values => MAX_REPAIR_FRAME_BYTES,
        }
    }

    /// Whether a peer may send this before it has proved that it knows the secret.
    pub const fn allowed_unproven(self) -> bool {
        matches!(
            self,
            FrameKind::Hello | FrameKind::Proof | FrameKind::Refused
        )
    }

    /// The part of a body of this kind that the frame's CRC covers.
    fn checked_part(self, body: &[u8]) -> &[u8] {
        match self {
            FrameKind::Wal => &body[..body.len().min(WAL_PREFIX_BYTES)],
            _ => body,
        }
    }
}

/// A frame whose length, kind and CRC have been checked; its body has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: FrameKind,
    /// The sender's epoch; zero in the handshake.
    pub epoch: Epoch,
    /// The body, without the header.
    pub body: Bytes,
}

/// Why bytes are not a frame. The connection they came on is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The kind byte is none of ours.
    #[error("frame of unknown kind {0}: the sender speaks another protocol or another version")]
    UnknownKind(u8),
    /// A kind that only a proven peer may send.
    #[error("a {0:?} frame came before the handshake was over")]
    Unproven(FrameKind),
    /// The header claims more than the kind may carry; nothing was allocated for it.
    #[error("a {kind:?} frame of {body_bytes} bytes is over its limit of {limit_bytes} bytes")]
    TooLong {
        /// The frame's kind.
        kind: FrameKind,
        /// Length of the body, claimed or asked for.
        body_bytes: u64,
        /// The most that this kind may carry.
        limit_bytes: usize,
    },
    /// The CRC does not fit.
    #[error("a {0:?} frame was damaged on its way: its checksum does not fit")]
    Damaged(FrameKind),
}

/// Which kinds a decoder lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    Unproven,
    Proven,
}

/// Finds frames in a growing buffer. It keeps no bytes itself.
#[derive(Clone, Debug)]
pub struct FrameDecoder {
    trust: Trust,
}

impl FrameDecoder {
    /// For a connection whose handshake is not over: handshake kinds only.
    pub fn unproven() -> FrameDecoder {
        FrameDecoder {
            trust: Trust::Unproven,
        }
    }

    /// For a connection whose handshake is over: every kind, each within its limit.
    pub fn proven() -> FrameDecoder {
        FrameDecoder {
            trust: Trust::Proven,
        }
    }

    /// Lets every kind pass from now on: both proofs have been checked.
    pub(crate) fn set_proven(&mut self) {
        self.trust = Trust::Proven;
    }

    /// Length of the frame that `src` begins with, header included, in bytes; `None` while the
    /// header is incomplete. The limit of its kind is already checked, so the answer may be
    /// reserved.
    pub fn frame_bytes(&self, src: &[u8]) -> Result<Option<usize>, FrameError> {
        Ok(self
            .header(src)?
            .map(|header| HEADER_BYTES + header.body_bytes))
    }

    /// Takes the next frame off the front of `src`; `None` when more bytes are needed. After an
    /// error `src` is untouched and the connection must be closed.
    pub fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.header(src)? else {
            return Ok(None);
        };
        let frame_bytes = HEADER_BYTES + header.body_bytes;
        let Some(whole) = src.get(..frame_bytes) else {
            return Ok(None);
        };
        let (head, body) = whole.split_at(HEADER_BYTES);
        if header.crc != crc(head, header.kind.checked_part(body), &[]) {
            return Err(FrameError::Damaged(header.kind));
        }
        let body = if header.body_bytes <= COPIED_BODY_BYTES {
            let copy = Bytes::copy_from_slice(body);
            src.advance(frame_bytes);
            copy
        } else if src.len() == frame_bytes {
            // The reader gave this frame a buffer of its own: hand all of it over, so that its
            // memory goes when the frame goes and is not kept as an oversized read buffer.
            std::mem::take(src).freeze().slice(HEADER_BYTES..)
        } else {
            src.split_to(frame_bytes).freeze().slice(HEADER_BYTES..)
        };
        Ok(Some(Frame {
            kind: header.kind,
            epoch: header.epoch,
            body,
        }))
    }

    fn header(&self, src: &[u8]) -> Result<Option<Header>, FrameError> {
        let Some(mut head) = src.get(..HEADER_BYTES) else {
            return Ok(None);
        };
        let body_bytes = head.get_u32_le();
        let kind_byte = head.get_u8();
        let epoch = Epoch(head.get_u64_le());
        let crc = head.get_u32_le();
        let kind = FrameKind::from_byte(kind_byte).ok_or(FrameError::UnknownKind(kind_byte))?;
        if self.trust == Trust::Unproven && !kind.allowed_unproven() {
            return Err(FrameError::Unproven(kind));
        }
        check_length(kind, u64::from(body_bytes))?;
        Ok(Some(Header {
            kind,
            epoch,
            crc,
            body_bytes: body_bytes as usize,
        }))
    }
}

struct Header {
    kind: FrameKind,
    epoch: Epoch,
    crc: u32,
    body_bytes: usize,
}

/// Appends a frame to `out`: the header, then what `write` appends. `payload` counts as the end of
/// the body but is *not* appended: the caller writes it to the socket right behind `out`, so that
/// large bytes are never copied.
///
/// # Errors
/// [`FrameError::TooLong`], with `out` as it was.
pub fn encode(
    kind: FrameKind,
    epoch: Epoch,
    payload: &[u8],
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut),
) -> Result<(), FrameError> {
    let start = out.len();
    out.put_bytes(0, HEADER_BYTES);
    write(out);
    let written = out.len() - start - HEADER_BYTES;
    let body_bytes = match check_length(kind, (written + payload.len()) as u64) {
        Ok(body_bytes) => body_bytes,
        Err(error) => {
            out.truncate(start);
            return Err(error);
        }
    };
    let (head, body) = out[start..].split_at_mut(HEADER_BYTES);
    let mut fields = &mut head[..];
    fields.put_u32_le(body_bytes);
    fields.put_u8(kind as u8);
    fields.put_u64_le(epoch.0);
    let checked_payload = if kind == FrameKind::Wal { &[] } else { payload };
    let crc = crc(head, kind.checked_part(body), checked_payload);
    head[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

fn check_length(kind: FrameKind, body_bytes: u64) -> Result<u32, FrameError> {
    let limit_bytes = kind.max_body_bytes();
    match u32::try_from(body_bytes) {
        Ok(length) if length as usize <= limit_bytes => Ok(length),
        _ => Err(FrameError::TooLong {
            kind,
            body_bytes,
            limit_bytes,
        }),
    }
}

/// CRC-32 of the header's fields in front of the CRC, then of the body's checked pieces.
fn crc(head: &[u8], body: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[..HEADER_BYTES - 4]);
    hasher.update(body);
    hasher.update(payload);
    hasher.finalize()
}
