//! Frames over a byte stream: a reader with a bounded buffer and a writer that sends a batch with
//! one flush.
//!
//! Promise: the reader holds at most one frame in the making; a large frame is read straight into
//! a buffer of its own, so whoever keeps its bytes keeps nothing else alive. The writer never
//! copies a payload. Both may be dropped at any await and picked up again (`select!`) without
//! losing a byte.
//!
//! Flow control is the caller's: [`FramedWriter::pending_bytes`] says how much waits.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::control::{self, ControlError};
use super::frame::{
    COPIED_BODY_BYTES, Frame, FrameDecoder, FrameError, HEADER_BYTES, MAX_HANDSHAKE_BYTES,
};
use super::stream::StreamMessage;
use crate::units::Epoch;

/// Read buffer before the proof: one handshake frame.
const UNPROVEN_BUFFER_BYTES: usize = HEADER_BYTES + MAX_HANDSHAKE_BYTES;

/// Read buffer behind the proof; frames above it get a buffer of their own.
const PROVEN_BUFFER_BYTES: usize = HEADER_BYTES + COPIED_BODY_BYTES;

/// Pieces handed to the system in one call.
const MAX_PIECES: usize = 64;

/// Why no frame could be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The bytes are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream ended inside a frame.
    #[error("the connection was closed in the middle of a frame")]
    Cut,
    /// The stream failed.
    #[error("reading from the peer failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Why frames could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The message is over the limit of its kind; nothing of it was queued.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The control message cannot be encoded; nothing of it was queued.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The stream failed.
    #[error("writing to the peer failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads frames.
#[derive(Debug)]
pub struct FramedReader<R> {
    inner: R,
    buffer: BytesMut,
    buffer_bytes: usize,
    decoder: FrameDecoder,
}

impl<R: AsyncRead + Unpin> FramedReader<R> {
    /// For a connection whose handshake is not over.
    pub(crate) fn unproven(inner: R) -> FramedReader<R> {
        FramedReader {
            inner,
            buffer: BytesMut::new(),
            buffer_bytes: UNPROVEN_BUFFER_BYTES,
            decoder: FrameDecoder::unproven(),
        }
    }

    /// What is read from.
    pub(crate) fn inner(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Both proofs have been checked: every kind may come, each within its limit.
    pub(crate) fn set_proven(&mut self) {
        self.decoder.set_proven();
        self.buffer_bytes = PROVEN_BUFFER_BYTES;
    }

    /// The next frame; `None` when the peer closed the connection between two frames. Safe to
    /// cancel.
    ///
    /// # Errors
    /// After an error the connection is of no further use.
    pub async fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            let room = self.make_room()?;
            let mut limited = (&mut self.buffer).limit(room);
            if self.inner.read_buf(&mut limited).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(ReadError::Cut)
                };
            }
        }
    }

    /// Makes room for the rest of the frame in the making, and says how much may be read: never
    /// beyond that frame when it has a buffer of its own.
    fn make_room(&mut self) -> Result<usize, FrameError> {
        let have = self.buffer.len();
        let wanted = match self.decoder.frame_bytes(&self.buffer)? {
            Some(frame_bytes) if frame_bytes > self.buffer_bytes => frame_bytes,
            _ => self.buffer_bytes,
        };
        if wanted > self.buffer_bytes && self.buffer.capacity() < wanted {
            let mut own = BytesMut::with_capacity(wanted);
            own.extend_from_slice(&self.buffer);
            self.buffer = own;
        }
        let room = wanted - have;
        self.buffer.reserve(room);
        Ok(room)
    }
}

/// Queues frames and writes them in one go.
#[derive(Debug)]
pub struct FramedWriter<W> {
    inner: W,
    /// Whole pieces, in order.
    queue: VecDeque<Bytes>,
    /// Small frames behind the queue, not yet cut off as a piece.
    tail: BytesMut,
    queued_bytes: usize,
}

impl<W: AsyncWrite + Unpin> FramedWriter<W> {
    pub(crate) fn new(inner: W) -> FramedWriter<W> {
        FramedWriter {
            inner,
            queue: VecDeque::new(),
            tail: BytesMut::new(),
            queued_bytes: 0,
        }
    }

    /// What is written to.
    pub(crate) fn inner(&mut self) -> &mut W {
        &mut self.inner
    }

    /// Queues a control message.
    ///
    /// # Errors
    /// A message over its limit; nothing was queued.
    pub fn push_control<M: Serialize>(
        &mut self,
        epoch: Epoch,
        message: &M,
    ) -> Result<(), WriteError> {
        control::encode(epoch, message, &mut self.tail)?;
        Ok(())
    }

    /// Queues a message of the data plane; its payload is kept by reference until it is written.
    ///
    /// # Errors
    /// A payload over its limit; nothing was queued.
    pub fn push(&mut self, epoch: Epoch, message: &StreamMessage) -> Result<(), WriteError> {
        let payload = message.encode(epoch, &mut self.tail)?;
        if !payload.is_empty() {
            self.seal_tail();
            self.queued_bytes += payload.len();
            self.queue.push_back(payload);
        }
        Ok(())
    }

    /// Queues whole frames that are already encoded.
    pub(crate) fn push_raw(&mut self, frames: &[u8]) {
        self.tail.put_slice(frames);
    }

    /// Bytes queued and not yet taken by the stream.
    pub fn pending_bytes(&self) -> usize {
        self.queued_bytes + self.tail.len()
    }

    /// Writes all that is queued, then flushes once. Safe to cancel: what the stream has taken is
    /// off the queue, the rest goes with the next call.
    ///
    /// # Errors
    /// After an error the connection is of no further use.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        self.seal_tail();
        while !self.queue.is_empty() {
            let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
            for (slot, piece) in pieces.iter_mut().zip(&self.queue) {
                *slot = IoSlice::new(piece);
            }
            let count = self.queue.len().min(MAX_PIECES);
            let taken = self.inner.write_vectored(&pieces[..count]).await?;
            if taken == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::WriteZero).into());
            }
            self.forget(taken);
        }
        self.inner.flush().await?;
        Ok(())
    }

    /// Writes all that is queued and closes this direction.
    ///
    /// # Errors
    /// As [`FramedWriter::flush`].
    pub async fn shutdown(&mut self) -> Result<(), WriteError> {
        self.flush().await?;
        self.inner.shutdown().await?;
        Ok(())
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            let piece = self.tail.split().freeze();
            self.queued_bytes += piece.len();
            self.queue.push_back(piece);
        }
    }

    /// Takes the `taken` bytes that the stream has accepted off the queue.
    fn forget(&mut self, mut taken: usize) {
        self.queued_bytes -= taken;
        while let Some(piece) = self.queue.front_mut() {
            if taken < piece.len() {
                piece.advance(taken);
                return;
            }
            taken -= piece.len();
            self.queue.pop_front();
        }
    }
}
