//! Channels of this node: what Sentinel-aware clients subscribe to, and PUBLISH.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::broadcast;

use crate::command::glob_matches;
use crate::resp::Reply;

/// Messages a slow subscriber may be behind before it is disconnected.
const BACKLOG: usize = 1024;

/// What subscribers are told.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// A message on its way.
    Published { channel: Bytes, payload: Bytes },
    /// Permissions have changed: each looks whether it may still listen.
    Recheck,
}

#[derive(Debug, Default)]
struct Counts {
    channels: HashMap<Bytes, usize>,
    patterns: HashMap<Bytes, usize>,
}

/// All channels.
#[derive(Debug)]
pub(crate) struct PubSub {
    sender: broadcast::Sender<Message>,
    counts: Mutex<Counts>,
}

impl PubSub {
    pub(super) fn new() -> PubSub {
        PubSub {
            sender: broadcast::Sender::new(BACKLOG),
            counts: Mutex::default(),
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts
            .lock()
            .expect("nothing panics while it holds the subscriptions")
    }

    /// Sends a message; how many subscriptions it reaches.
    pub(crate) fn publish(&self, channel: &[u8], payload: &[u8]) -> usize {
        let reached = {
            let counts = self.counts();
            let patterns = counts
                .patterns
                .iter()
                .filter(|(p, _)| glob_matches(p, channel, false));
            counts.channels.get(channel).copied().unwrap_or(0)
                + patterns.map(|(_, count)| count).sum::<usize>()
        };
        if reached > 0 {
            let copy = Bytes::copy_from_slice;
            // Nobody listening any more is no error.
            let _ = self.sender.send(Message::Published {
                channel: copy(channel),
                payload: copy(payload),
            });
        }
        reached
    }

    /// Has every subscriber look at its permissions.
    pub(super) fn recheck(&self) {
        let _ = self.sender.send(Message::Recheck);
    }

    pub(super) fn receive(&self) -> broadcast::Receiver<Message> {
        self.sender.subscribe()
    }

    fn count(&self, pattern: bool, name: &Bytes, up: bool) {
        let mut counts = self.counts();
        let map = if pattern {
            &mut counts.patterns
        } else {
            &mut counts.channels
        };
        let count = map.entry(name.clone()).or_insert(0);
        *count = if up {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        if *count == 0 {
            map.remove(name);
        }
    }
}

/// One session's subscriptions.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
}

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// Channels and patterns.
    pub(super) fn names(&self) -> (&BTreeSet<Bytes>, &BTreeSet<Bytes>) {
        (&self.channels, &self.patterns)
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        (self.channels.len(), self.patterns.len())
    }

    /// SUBSCRIBE and PSUBSCRIBE: one answer per name.
    pub(super) fn add(&mut self, pubsub: &PubSub, pattern: bool, names: Vec<Bytes>) -> Vec<Reply> {
        let kind = if pattern { "psubscribe" } else { "subscribe" };
        let mut answers = Vec::new();
        for name in names {
            // It is kept for longer than the request it is a part of.
            let name = Bytes::copy_from_slice(&name);
            let set = if pattern {
                &mut self.patterns
            } else {
                &mut self.channels
            };
            if set.insert(name.clone()) {
                pubsub.count(pattern, &name, true);
            }
            answers.push(self.answer(kind, Reply::Bulk(name)));
        }
        answers
    }

    /// UNSUBSCRIBE and PUNSUBSCRIBE; no names means all.
    pub(super) fn remove(
        &mut self,
        pubsub: &PubSub,
        pattern: bool,
        names: Vec<Bytes>,
    ) -> Vec<Reply> {
        let kind = if pattern {
            "punsubscribe"
        } else {
            "unsubscribe"
        };
        let set = if pattern {
            &self.patterns
        } else {
            &self.channels
        };
        let names = if names.is_empty() {
            set.iter().cloned().collect()
        } else {
            names
        };
        if names.is_empty() {
            return vec![self.answer(kind, Reply::Null)];
        }
        let mut answers = Vec::new();
        for name in names {
            let set = if pattern {
                &mut self.patterns
            } else {
                &mut self.channels
            };
            if set.remove(&name) {
                pubsub.count(pattern, &name, false);
            }
            answers.push(self.answer(kind, Reply::Bulk(name)));
        }
        answers
    }

    fn answer(&self, kind: &'static str, name: Reply) -> Reply {
        Reply::Push(vec![
            Reply::text(kind),
            name,
            Reply::Integer(self.len() as i64),
        ])
    }

    /// What this session is told of a message.
    pub(super) fn deliver(&self, message: &Message) -> Vec<Reply> {
        let mut told = Vec::new();
        let Message::Published { channel, payload } = message else {
            return told;
        };
        let bulk = |bytes: &Bytes| Reply::Bulk(bytes.clone());
        if self.channels.contains(channel) {
            told.push(Reply::Push(vec![
                Reply::text("message"),
                bulk(channel),
                bulk(payload),
            ]));
        }
        for pattern in self
            .patterns
            .iter()
            .filter(|p| glob_matches(p, channel, false))
        {
            told.push(Reply::Push(vec![
                Reply::text("pmessage"),
                bulk(pattern),
                bulk(channel),
                bulk(payload),
            ]));
        }
        told
    }

    pub(super) fn clear(&mut self, pubsub: &PubSub) {
        for name in std::mem::take(&mut self.channels) {
            pubsub.count(false, &name, false);
        }
        for name in std::mem::take(&mut self.patterns) {
            pubsub.count(true, &name, false);
        }
    }
}
