//! A client in memory.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Requests that arrive together.
pub const PIPELINE: usize = 16;

/// How every reply begins, and how long it is.
#[derive(Clone, Copy)]
pub struct Replies(pub u8, pub usize);

/// A client's connection, as its session sees it: the next requests are there as soon as the last
/// are answered.
pub struct Client {
    batches: VecDeque<(Bytes, usize)>,
    sending: Bytes,
    replies: Replies,
    owed_bytes: usize,
}

impl Client {
    pub fn new(
        numbers: Range<usize>,
        request: impl Fn(usize, &mut BytesMut),
        replies: Replies,
    ) -> Client {
        let numbers: Vec<usize> = numbers.collect();
        let batch = |numbers: &[usize]| {
            let mut bytes = BytesMut::new();
            numbers.iter().for_each(|n| request(*n, &mut bytes));
            (bytes.freeze(), numbers.len())
        };
        Client {
            batches: numbers.chunks(PIPELINE).map(batch).collect(),
            sending: Bytes::new(),
            replies,
            owed_bytes: 0,
        }
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.sending.is_empty() {
            if self.owed_bytes > 0 {
                // Who writes the replies is who reads here: nobody need be woken.
                return Poll::Pending;
            }
            let Some((bytes, replies)) = self.batches.pop_front() else {
                return Poll::Ready(Ok(()));
            };
            self.sending = bytes;
            self.owed_bytes = replies * self.replies.1;
        }
        let most = self.sending.len().min(buf.remaining());
        buf.put_slice(&self.sending[..most]);
        self.sending.advance(most);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let expected = bytes.first() == Some(&self.replies.0) && bytes.len() <= self.owed_bytes;
        assert!(
            expected,
            "not the replies of this case: {}",
            String::from_utf8_lossy(bytes)
        );
        self.owed_bytes -= bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
