//! SLOWLOG: executions that took longer than the threshold.
//!
//! Promises: memory is bounded (entries, and what is kept of each). What is timed is the execution under
//! the keyspace's lock, a batch at a time, so that fast commands pay for no clock of their own: where
//! one command was executed alone its entry is exact; where several were, one entry says so. The wait
//! for the commit rule is no part of it (`LATENCY` calls that `commit`).
//!
//! Of a command its name and keys are kept, not its values.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use super::Server;
use super::session_commands::bulk;
use crate::command::{KeyCommand, SlowLogCommand};
use crate::node::LatencyEvent;
use crate::resp::Reply;

/// Words that are kept of an entry, and bytes of each: Redis's limits.
const MOST_WORDS: usize = 32;
const MOST_BYTES: usize = 128;

#[derive(Clone, Debug)]
struct Entry {
    id: u64,
    seconds: u64,
    took: Duration,
    words: Vec<Bytes>,
    client: String,
    client_name: String,
}

#[derive(Debug, Default)]
struct Entries {
    /// Newest first.
    queue: VecDeque<Entry>,
    next_id: u64,
}

/// The log of one node.
#[derive(Debug, Default)]
pub(crate) struct SlowLog {
    entries: Mutex<Entries>,
}

/// Who had something executed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Executed<'a> {
    /// A batch of a pipeline, or one command.
    Batch(&'a [Bytes], usize),
    /// EXEC.
    Transaction(&'a [Bytes], usize),
}

impl SlowLog {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries
            .lock()
            .expect("nothing panics with the entries")
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.lock().queue.len()
    }

    fn add(&self, most: usize, entry: impl FnOnce(u64) -> Entry) {
        let mut entries = self.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.queue.push_front(entry(id));
        entries.queue.truncate(most);
    }

    pub(super) fn answer(&self, command: &SlowLogCommand) -> Reply {
        let mut entries = self.lock();
        match command {
            SlowLogCommand::Len => Reply::Integer(entries.queue.len() as i64),
            SlowLogCommand::Reset => {
                entries.queue = VecDeque::new();
                Reply::OK
            }
            SlowLogCommand::Get { count } => {
                let some = entries.queue.iter().take(count.unwrap_or(usize::MAX));
                Reply::Array(some.map(told).collect())
            }
        }
    }
}

fn told(entry: &Entry) -> Reply {
    let words = entry.words.iter().cloned().map(Reply::Bulk);
    Reply::Array(vec![
        Reply::Integer(entry.id as i64),
        Reply::Integer(entry.seconds as i64),
        Reply::Integer(i64::try_from(entry.took.as_micros()).unwrap_or(i64::MAX)),
        Reply::Array(words.collect()),
        bulk(&entry.client),
        bulk(&entry.client_name),
    ])
}

/// Name and keys of each of these commands, as far as an entry keeps them.
pub(super) fn words<'a>(commands: impl Iterator<Item = &'a KeyCommand>) -> Vec<Bytes> {
    let words = commands.flat_map(|command| {
        let name = Bytes::from_static(command.name().as_bytes());
        let keys = command.keys().map(Bytes::copy_from_slice);
        std::iter::once(name).chain(keys.collect::<Vec<_>>())
    });
    let mut words: Vec<Bytes> = words.take(MOST_WORDS).map(shortened).collect();
    if words.len() == MOST_WORDS {
        words.truncate(MOST_WORDS - 1);
        words.push(Bytes::from_static(b"... (more arguments)"));
    }
    words
}

fn shortened(word: Bytes) -> Bytes {
    if word.len() <= MOST_BYTES {
        return word;
    }
    let mut short = word.get(..MOST_BYTES).unwrap_or_default().to_vec();
    short.extend_from_slice(format!("... ({} more bytes)", word.len() - MOST_BYTES).as_bytes());
    Bytes::from(short)
}

impl Server {
    /// Whether what took this long is to be logged.
    pub(super) fn is_slow(&self, took: Duration) -> bool {
        let threshold = self.node.tunables.slowlog_slower_than_us.get();
        u64::try_from(threshold).is_ok_and(|least| took >= Duration::from_micros(least))
    }

    /// Commands of connection `id` were executed, and took this long.
    pub(super) fn note_execution(&self, id: u64, took: Duration, executed: Executed<'_>) {
        self.node.note_latency(LatencyEvent::Command, took);
        if !self.is_slow(took) {
            return;
        }
        let (first, words, count) = match executed {
            Executed::Batch(words, 1) => (None, words, 1),
            Executed::Batch(words, count) => (Some("PIPELINE"), words, count),
            Executed::Transaction(words, count) => (Some("EXEC"), words, count),
        };
        let title = first.into_iter().flat_map(|name| {
            let about = Bytes::from(format!("({count} commands, executed together)"));
            [Bytes::from_static(name.as_bytes()), about]
        });
        let words = title.chain(words.iter().cloned()).collect();
        let client = self.clients.find(id);
        let most = self.node.tunables.slowlog_entries.get();
        let seconds = self.node.host.wall().0 / 1000;
        self.slowlog
            .add(usize::try_from(most).unwrap_or(0), |id| Entry {
                id,
                seconds,
                took,
                words,
                client: client
                    .as_ref()
                    .map(|client| client.from.to_string())
                    .unwrap_or_default(),
                client_name: client
                    .map(|client| client.facts().name.clone())
                    .unwrap_or_default(),
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_names_and_keys_within_bounds() {
        let get = |key: Vec<u8>| KeyCommand::Get { key: key.into() };
        let one = words([get(b"a".to_vec())].iter());
        assert_eq!(one, [&b"GET"[..], b"a"]);
        let many: Vec<KeyCommand> = (0..100).map(|_| get(vec![b'x'; 1000])).collect();
        let kept = words(many.iter());
        assert_eq!(kept.len(), MOST_WORDS);
        assert!(kept.iter().all(|word| word.len() < MOST_BYTES + 32));
        assert_eq!(
            kept.last().map(|word| &word[..]),
            Some(&b"... (more arguments)"[..])
        );
    }

    #[test]
    fn only_the_newest_entries_are_kept() {
        let log = SlowLog::default();
        let entry = |id| Entry {
            id,
            seconds: 1,
            took: Duration::from_micros(5),
            words: Vec::new(),
            client: String::new(),
            client_name: String::new(),
        };
        for _ in 0..10 {
            log.add(3, entry);
        }
        assert_eq!(log.len(), 3);
        assert_eq!(log.lock().queue.front().map(|entry| entry.id), Some(9));
        log.answer(&SlowLogCommand::Reset);
        log.add(3, entry);
        assert_eq!(log.lock().queue.front().map(|entry| entry.id), Some(10));
    }
}
