//! Control messages: the takeover machine's own message type, in bincode, behind one pair of
//! functions.
//!
//! Promise: bytes are decoded only from a slice that is already bounded by
//! [`MAX_CONTROL_BYTES`], with the same limit inside the decoder, so a claimed length can allocate
//! no more than that; bytes left over are an error. bincode 1.3.3 is no longer maintained
//! (RUSTSEC-2025-0141: not vulnerable), which is why nothing else may use it and why its bytes are
//! pinned by a golden test: it can be replaced here without anyone noticing.
//!
//! The version byte stands in front of the payload, so that it can be read whatever the payload's
//! format becomes.
//!
//! Invariant for whoever adds a message: no sequence of zero-sized elements, since their claimed
//! number costs no bytes and the decoder would count up to it.

use bincode::Options;
use bytes::{BufMut, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::frame::{self, FrameError, FrameKind, MAX_CONTROL_BYTES};
use crate::units::Epoch;

/// Version of the control messages: the first byte of each body.
pub const CONTROL_VERSION: u8 = 1;

/// Why a control message could not be written or read.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The body is empty: not even a version.
    #[error("an empty control message")]
    Empty,
    /// The payload is of a version this build does not read.
    #[error("control message of version {0}, this build reads version {CONTROL_VERSION}")]
    Version(u8),
    /// The payload is not a message.
    #[error("a control message that cannot be decoded: {0}")]
    Malformed(#[source] bincode::Error),
    /// The message is too large to send.
    #[error("a control message that cannot be encoded: {0}")]
    Unsendable(#[source] bincode::Error),
    /// The frame around it is too large.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .reject_trailing_bytes()
        .with_limit(MAX_CONTROL_BYTES as u64 - 1)
}

/// Appends `message` to `out` as a whole control frame.
///
/// # Errors
/// A message over [`MAX_CONTROL_BYTES`]; `out` is as it was.
pub fn encode<M: Serialize>(
    epoch: Epoch,
    message: &M,
    out: &mut BytesMut,
) -> Result<(), ControlError> {
    let payload = options()
        .serialize(message)
        .map_err(ControlError::Unsendable)?;
    frame::encode(FrameKind::Control, epoch, &[], out, |body| {
        body.put_u8(CONTROL_VERSION);
        body.put_slice(&payload);
    })?;
    Ok(())
}

/// Reads the body of a control frame.
///
/// # Errors
/// Another version, bytes that are no message, bytes behind the message.
pub fn decode<M: DeserializeOwned>(body: &[u8]) -> Result<M, ControlError> {
    let (version, payload) = body.split_first().ok_or(ControlError::Empty)?;
    if *version != CONTROL_VERSION {
        return Err(ControlError::Version(*version));
    }
    options()
        .deserialize(payload)
        .map_err(ControlError::Malformed)
}
