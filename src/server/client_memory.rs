//! What all clients' buffers take together, and who goes when it is too much.
//!
//! Promise: once the sum is above `maxmemory-clients`, those go who take most, until it is not, as in Redis;
//! CLIENT NO-EVICT keeps a client. Each client alone is bounded as well (`session/`), but thousands that
//! do not read what they asked for, or send much slowly, would take all memory together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::clients::{Client, Clients};

/// What each connection takes anyway counts for none of them.
pub(super) const FREE_BYTES: usize = 64 << 10;
/// Bytes still to come back from clients that have to go, behind which nobody is served before.
const MOST_LEAVING: usize = 64 << 20;
/// Turns that are given to them, before another is served.
const MOST_YIELDS: usize = 64;

/// One client's part.
#[derive(Debug)]
pub(super) struct Share {
    bytes: AtomicUsize,
    sum: Arc<AtomicUsize>,
}

impl Share {
    pub(super) fn of(sum: &Arc<AtomicUsize>) -> Share {
        Share {
            bytes: AtomicUsize::new(0),
            sum: Arc::clone(sum),
        }
    }

    /// It takes so many bytes now; what all take.
    fn set(&self, bytes: usize) -> usize {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        match bytes.cmp(&before) {
            std::cmp::Ordering::Equal => self.sum.load(Ordering::Relaxed),
            std::cmp::Ordering::Greater => {
                let more = bytes - before;
                self.sum
                    .fetch_add(more, Ordering::Relaxed)
                    .saturating_add(more)
            }
            std::cmp::Ordering::Less => {
                let less = before - bytes;
                self.sum
                    .fetch_sub(less, Ordering::Relaxed)
                    .saturating_sub(less)
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Client {
    /// It takes so many bytes now. What all take together; of one that is going anyway nothing counts.
    pub(super) fn takes(&self, bytes: usize) -> usize {
        if bytes == 0 && self.share.bytes.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        match self.end.is_cancelled() || self.facts().no_evict {
            true => self.share.set(0),
            false => self.share.set(bytes),
        }
    }
}

impl Clients {
    /// Lets those who were told to go give back what they have, for a few turns: a thousand clients that ask
    /// at once would else each be given something before the first of them is gone. One that asks for little
    /// waits only where much is still to come back: it would wait for as long as others ask for much.
    pub(super) async fn let_leave(&self, asked_bytes: usize) {
        let free = if asked_bytes > FREE_BYTES {
            0
        } else {
            MOST_LEAVING
        };
        for _ in 0..MOST_YIELDS {
            if self.leaving.load(Ordering::Relaxed) <= free {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Lets those go who take most, until the sum is not above `most` any more.
    pub(super) fn make_room(&self, most: usize) {
        let list = self.list();
        let mut all: Vec<Arc<Client>> = list.values().cloned().collect();
        all.retain(|client| !client.end.is_cancelled());
        let bytes = |client: &Arc<Client>| client.share.bytes.load(Ordering::Relaxed);
        all.sort_by_key(|client| std::cmp::Reverse(bytes(client)));
        let mut sum: usize = all.iter().map(bytes).sum();
        for client in all {
            if sum <= most {
                return;
            }
            let freed = bytes(&client);
            sum -= freed;
            client.evicted.store(freed, Ordering::Relaxed);
            self.leaving.fetch_add(freed, Ordering::Relaxed);
            client.end.cancel();
            client.share.set(0);
            tracing::warn!(
                "the client {} took {freed} bytes of buffers, more than any other, and was disconnected: \
                 all of them took more than maxmemory_clients, {most}",
                client.from
            );
        }
    }
}
