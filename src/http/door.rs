//! The HTTP port's door.
//!
//! Promise: at most [`MOST`] connections, so that they never take the file descriptors that the log and the
//! control file need (512 are kept from clients for those, the members and these). Who comes when it is
//! full is let in, and the one that has been still for longest has to go: a health check is answered, however
//! many connections somebody holds open.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Connections at a time.
const MOST: usize = 128;
/// Before taking connections is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes connections.
pub(super) struct Door {
    listener: TcpListener,
    inside: Arc<Inside>,
    last_id: u64,
}

/// Who is in.
#[derive(Default)]
struct Inside {
    visits: Mutex<BTreeMap<u64, Visit>>,
    freed: Notify,
}

struct Visit {
    moved: Instant,
    end: CancellationToken,
}

/// One connection.
pub(super) struct Visitor {
    stream: TcpStream,
    id: u64,
    inside: Arc<Inside>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Door {
    pub(super) fn of(listener: TcpListener) -> Door {
        Door {
            listener,
            inside: Arc::default(),
            last_id: 0,
        }
    }
}

impl Listener for Door {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        let (stream, from) = loop {
            match self.listener.accept().await {
                Ok(taken) => break taken,
                Err(error) => {
                    tracing::warn!("taking an HTTP connection failed: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        self.inside.make_room().await;
        self.last_id += 1;
        let end = CancellationToken::new();
        let visitor = Visitor {
            stream,
            id: self.last_id,
            inside: Arc::clone(&self.inside),
            ended: Box::pin(end.clone().cancelled_owned()),
        };
        let moved = Instant::now();
        let visit = Visit { moved, end };
        self.inside.visits().insert(self.last_id, visit);
        (visitor, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Inside {
    fn visits(&self) -> MutexGuard<'_, BTreeMap<u64, Visit>> {
        self.visits
            .lock()
            .expect("nothing panics while it holds the list of connections")
    }

    /// Ends the stillest, where it is full, and waits until it is gone.
    async fn make_room(&self) {
        loop {
            {
                let visits = self.visits();
                if visits.len() < MOST {
                    return;
                }
                let going = visits.values().any(|visit| visit.end.is_cancelled());
                let stillest = visits.values().min_by_key(|visit| visit.moved);
                if let Some(stillest) = stillest.filter(|_| !going) {
                    stillest.end.cancel();
                }
            }
            self.freed.notified().await;
        }
    }
}

impl Visitor {
    /// Whether this connection was ended; whoever polls hears of it.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.ended.as_mut().poll(cx).is_ready()
    }

    fn moved<T>(&self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready()
            && let Some(visit) = self.inside.visits().get_mut(&self.id)
        {
            visit.moved = Instant::now();
        }
        done
    }
}

fn over<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
}

impl AsyncRead for Visitor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(cx) {
            return over();
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.moved(read)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_over(cx) {
            return over();
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.moved(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.inside.visits().remove(&self.id);
        self.inside.freed.notify_one();
    }
}
