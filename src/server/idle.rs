//! Clients that say and read nothing for longer than `timeout` are let go.
//!
//! As in Redis: not subscribers and monitors, who have nothing to say, and nobody while a command of
//! theirs waits. Bytes count, not commands: who sends a large value slowly is not idle. A client that does
//! not read its answers is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Server;

/// Between two looks at all clients.
const EVERY: Duration = Duration::from_secs(1);

/// What one connection did lately.
#[derive(Debug)]
pub(super) struct Activity {
    /// Bytes in and out since the beginning.
    moved: AtomicU64,
    /// A command waits, or an answer for what it depends on.
    waits: AtomicBool,
    /// What `moved` was when it was last found changed, and when that was.
    seen: Mutex<(u64, Instant)>,
}

impl Default for Activity {
    fn default() -> Activity {
        Activity {
            moved: AtomicU64::new(0),
            waits: AtomicBool::new(false),
            seen: Mutex::new((0, Instant::now())),
        }
    }
}

impl Activity {
    pub(super) fn moves(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    fn seen(&self) -> MutexGuard<'_, (u64, Instant)> {
        self.seen
            .lock()
            .expect("nothing panics while it looks whether a client is idle")
    }

    /// For how long nothing has happened, as far as was looked.
    fn idle(&self, now: Instant) -> Duration {
        let moved = self.moved.load(Ordering::Relaxed);
        let mut seen = self.seen();
        if moved != seen.0 || self.waits.load(Ordering::Relaxed) {
            *seen = (moved, now);
        }
        now.duration_since(seen.1)
    }
}

/// Looks again and again, until the node stops.
pub(super) async fn watch(server: Arc<Server>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = server.node.stopping.cancelled() => return,
        }
        let timeout = server.node.tunables.client_timeout_ms.get().unsigned_abs();
        if timeout > 0 {
            let_go(&server, Duration::from_millis(timeout));
        }
    }
}

fn let_go(server: &Server, timeout: Duration) {
    let now = Instant::now();
    for client in server.clients.all() {
        let idle = client.activity.idle(now);
        if idle > timeout && !client.only_listens() {
            tracing::debug!("the client {} was idle for {idle:?}", client.from);
            client.end.cancel();
        }
    }
}

/// Has the system ask a silent client whether it is still there, as often as Redis does: the connection of
/// one that lost its power or its network ends after `after` and three questions.
pub(super) fn keep_alive(stream: &TcpStream, after: Duration) {
    if after.is_zero() {
        return;
    }
    let second = Duration::from_secs(1);
    let asks = TcpKeepalive::new()
        .with_time(after.max(second))
        .with_interval((after / 3).max(second))
        .with_retries(3);
    // A socket that is gone already tells its session.
    let _ = SockRef::from(stream).set_tcp_keepalive(&asks);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_waiting_are_no_idleness() {
        let activity = Activity::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(activity.idle(after(0)).as_secs(), 0);
        assert!(activity.idle(after(10)) >= Duration::from_secs(9));
        activity.moves(1);
        assert_eq!(activity.idle(after(20)).as_secs(), 0);
        activity.waits(true);
        assert_eq!(activity.idle(after(90)).as_secs(), 0);
        activity.waits(false);
        assert_eq!(activity.idle(after(95)), Duration::from_secs(5));
    }
}
