//! What waits to be read by one client that listens: subscribers and monitors.
//!
//! Promise: bounded in bytes, as Redis bounds the class `pubsub`. Who is behind by [`MOST_BYTES`], or by
//! [`MANY_BYTES`] for [`FOR_SO_LONG`], is disconnected, and what waited for it is forgotten at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Redis's limits for subscribers.
pub(super) const MOST_BYTES: usize = 32 << 20;
pub(super) const MANY_BYTES: usize = 8 << 20;
pub(super) const FOR_SO_LONG: Duration = Duration::from_secs(60);

/// Bytes from which on whoever sends much may wait for the reader.
const CROWD_BYTES: usize = MANY_BYTES / 2;
/// What an entry takes besides its own bytes, about.
const ENTRY_BYTES: usize = 128;

/// One client's.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    queue: Mutex<Queue<T>>,
    news: Notify,
    /// Ends the client's connection.
    end: CancellationToken,
    /// How many mailboxes are crowded.
    crowded: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Queue<T> {
    entries: VecDeque<(T, usize)>,
    bytes: usize,
    /// Since when it holds many.
    many_since: Option<Instant>,
    is_crowded: bool,
    closed: bool,
}

impl<T> Queue<T> {
    fn is_too_much(&mut self, now: Instant) -> bool {
        if self.bytes <= MANY_BYTES {
            self.many_since = None;
            return false;
        }
        let since = *self.many_since.get_or_insert(now);
        self.bytes > MOST_BYTES || now.duration_since(since) > FOR_SO_LONG
    }
}

impl<T> Mailbox<T> {
    pub(super) fn new(end: CancellationToken, crowded: Arc<AtomicUsize>) -> Mailbox<T> {
        Mailbox {
            queue: Mutex::new(Queue {
                entries: VecDeque::new(),
                bytes: 0,
                many_since: None,
                is_crowded: false,
                closed: false,
            }),
            news: Notify::new(),
            end,
            crowded,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue
            .lock()
            .expect("nothing panics while it holds a mailbox")
    }

    fn note_crowd(&self, queue: &mut Queue<T>) {
        let is_crowded = queue.bytes > CROWD_BYTES;
        match (queue.is_crowded, is_crowded) {
            (false, true) => drop(self.crowded.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.crowded.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        queue.is_crowded = is_crowded;
    }

    /// Puts something in that keeps so many bytes; or ends the reader's connection.
    pub(super) fn put(&self, entry: T, bytes: usize) {
        let bytes = bytes + ENTRY_BYTES;
        let mut queue = self.queue();
        if queue.closed {
            return;
        }
        queue.entries.push_back((entry, bytes));
        queue.bytes += bytes;
        let ended = queue.is_too_much(Instant::now());
        if ended {
            queue.closed = true;
            queue.entries = VecDeque::new();
            queue.bytes = 0;
        }
        self.note_crowd(&mut queue);
        drop(queue);
        if ended {
            tracing::info!("a subscriber or monitor did not keep up and was disconnected");
            self.end.cancel();
        }
        self.news.notify_one();
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.queue().bytes
    }

    /// The next; never, where the reader was given up on. One task reads.
    pub(super) async fn next(&self) -> T {
        loop {
            if let Some(entry) = self.take() {
                return entry;
            }
            self.news.notified().await;
        }
    }

    fn take(&self) -> Option<T> {
        let mut queue = self.queue();
        let (entry, bytes) = queue.entries.pop_front()?;
        queue.bytes -= bytes;
        if queue.bytes <= MANY_BYTES {
            queue.many_since = None;
        }
        self.note_crowd(&mut queue);
        Some(entry)
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        if self.queue().is_crowded {
            self.crowded.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox() -> (Mailbox<u32>, CancellationToken, Arc<AtomicUsize>) {
        let (end, crowded) = (CancellationToken::new(), Arc::default());
        (
            Mailbox::new(end.clone(), Arc::clone(&crowded)),
            end,
            crowded,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_ones_or_one_large_one_end_the_reader_and_are_forgotten() {
        let (mailbox, end, crowded) = mailbox();
        mailbox.put(1, MOST_BYTES - ENTRY_BYTES);
        assert!(!end.is_cancelled());
        assert_eq!(crowded.load(Ordering::Relaxed), 1);
        mailbox.put(2, 0);
        assert!(end.is_cancelled());
        assert_eq!(mailbox.bytes(), 0);
        assert_eq!(crowded.load(Ordering::Relaxed), 0);
        mailbox.put(3, MOST_BYTES);
        assert_eq!(mailbox.bytes(), 0, "nothing is kept for who is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn being_much_behind_is_suffered_for_a_minute() {
        let (mailbox, end, _) = mailbox();
        mailbox.put(1, MANY_BYTES);
        tokio::time::advance(FOR_SO_LONG).await;
        mailbox.put(2, 1);
        assert!(!end.is_cancelled());
        assert_eq!(mailbox.next().await, 1);
        tokio::time::advance(FOR_SO_LONG).await;
        mailbox.put(3, MANY_BYTES);
        assert!(!end.is_cancelled(), "it had caught up in between");
        tokio::time::advance(FOR_SO_LONG + Duration::from_millis(1)).await;
        mailbox.put(4, 1);
        assert!(end.is_cancelled());
    }
}
