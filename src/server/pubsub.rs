//! Channels of this node: what Sentinel-aware clients subscribe to, and PUBLISH. A message reaches the
//! subscribers of this node and of no other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::broadcast;

use crate::command::{PubSubQuery, glob_matches};
use crate::resp::Reply;

/// Messages a slow subscriber may be behind before it is disconnected.
const BACKLOG: usize = 1024;

/// What is subscribed to: three name spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// SUBSCRIBE.
    Channels,
    /// PSUBSCRIBE.
    Patterns,
    /// SSUBSCRIBE: channels of the shard, which is this node.
    Shard,
}

/// What subscribers are told.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// A message on its way.
    Published {
        channel: Bytes,
        payload: Bytes,
        /// SPUBLISH.
        shard: bool,
    },
    /// Permissions have changed: each looks whether it may still listen.
    Recheck,
}

type Subscribed = HashMap<Bytes, usize>;

#[derive(Debug, Default)]
struct Counts {
    channels: Subscribed,
    patterns: Subscribed,
    shard: Subscribed,
}

impl Counts {
    fn of(&mut self, space: Space) -> &mut Subscribed {
        match space {
            Space::Channels => &mut self.channels,
            Space::Patterns => &mut self.patterns,
            Space::Shard => &mut self.shard,
        }
    }
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
        self.send(reached, channel, payload, false)
    }

    /// The same on the shard's channels, which no pattern matches.
    pub(crate) fn publish_in_shard(&self, channel: &[u8], payload: &[u8]) -> usize {
        let reached = self.counts().shard.get(channel).copied().unwrap_or(0);
        self.send(reached, channel, payload, true)
    }

    fn send(&self, reached: usize, channel: &[u8], payload: &[u8], shard: bool) -> usize {
        if reached > 0 {
            let copy = Bytes::copy_from_slice;
            // Nobody listening any more is no error.
            let _ = self.sender.send(Message::Published {
                channel: copy(channel),
                payload: copy(payload),
                shard,
            });
        }
        reached
    }

    /// Has every subscriber look at its permissions.
    pub(super) fn recheck(&self) {
        let _ = self.sender.send(Message::Recheck);
    }

    /// A subscriber has much to read: whoever publishes much may wait for it.
    pub(super) fn is_crowded(&self) -> bool {
        self.sender.len() > BACKLOG / 2
    }

    pub(super) fn receive(&self) -> broadcast::Receiver<Message> {
        self.sender.subscribe()
    }

    /// PUBSUB.
    pub(super) fn answer(&self, query: &PubSubQuery) -> Reply {
        let mut counts = self.counts();
        let space = |shard: bool| if shard { Space::Shard } else { Space::Channels };
        match query {
            PubSubQuery::Channels { shard, pattern } => {
                let matches = |name: &Bytes| {
                    let pattern = pattern.as_ref();
                    pattern.is_none_or(|pattern| glob_matches(pattern, name, false))
                };
                let names = counts.of(space(*shard)).keys();
                let mut names: Vec<Bytes> = names.filter(|name| matches(name)).cloned().collect();
                names.sort_unstable();
                Reply::Array(names.into_iter().map(Reply::Bulk).collect())
            }
            PubSubQuery::Counts { shard, channels } => {
                let known = counts.of(space(*shard));
                let pairs = channels.iter().flat_map(|name| {
                    let count = known.get(name).copied().unwrap_or(0);
                    [Reply::Bulk(name.clone()), Reply::Integer(count as i64)]
                });
                Reply::Array(pairs.collect())
            }
            PubSubQuery::Patterns => Reply::Integer(counts.patterns.len() as i64),
        }
    }

    /// Channels and patterns that somebody subscribed to, and channels of the shard.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let counts = self.counts();
        let (channels, patterns) = (counts.channels.len(), counts.patterns.len());
        (channels, patterns, counts.shard.len())
    }

    fn count(&self, space: Space, name: &Bytes, up: bool) {
        let mut counts = self.counts();
        let map = counts.of(space);
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
    shard: BTreeSet<Bytes>,
}

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.channels.len() + self.patterns.len() + self.shard.len()
    }

    /// Channels and patterns.
    pub(super) fn names(&self) -> (&BTreeSet<Bytes>, &BTreeSet<Bytes>) {
        (&self.channels, &self.patterns)
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        (self.channels.len(), self.patterns.len())
    }

    /// Channels of the shard.
    pub(super) fn in_shard(&self) -> usize {
        self.shard.len()
    }

    fn of(&mut self, space: Space) -> &mut BTreeSet<Bytes> {
        match space {
            Space::Channels => &mut self.channels,
            Space::Patterns => &mut self.patterns,
            Space::Shard => &mut self.shard,
        }
    }

    /// SUBSCRIBE and its like: one answer per name.
    pub(super) fn add(&mut self, pubsub: &PubSub, space: Space, names: Vec<Bytes>) -> Vec<Reply> {
        let kind = match space {
            Space::Channels => "subscribe",
            Space::Patterns => "psubscribe",
            Space::Shard => "ssubscribe",
        };
        let mut answers = Vec::new();
        for name in names {
            // It is kept for longer than the request it is a part of.
            let name = Bytes::copy_from_slice(&name);
            if self.of(space).insert(name.clone()) {
                pubsub.count(space, &name, true);
            }
            answers.push(self.answer(kind, space, Reply::Bulk(name)));
        }
        answers
    }

    /// UNSUBSCRIBE and its like; no names means all.
    pub(super) fn remove(
        &mut self,
        pubsub: &PubSub,
        space: Space,
        names: Vec<Bytes>,
    ) -> Vec<Reply> {
        let kind = match space {
            Space::Channels => "unsubscribe",
            Space::Patterns => "punsubscribe",
            Space::Shard => "sunsubscribe",
        };
        let names = if names.is_empty() {
            self.of(space).iter().cloned().collect()
        } else {
            names
        };
        if names.is_empty() {
            return vec![self.answer(kind, space, Reply::Null)];
        }
        let mut answers = Vec::new();
        for name in names {
            if self.of(space).remove(&name) {
                pubsub.count(space, &name, false);
            }
            answers.push(self.answer(kind, space, Reply::Bulk(name)));
        }
        answers
    }

    fn answer(&self, kind: &'static str, space: Space, name: Reply) -> Reply {
        let left = match space {
            Space::Shard => self.shard.len(),
            Space::Channels | Space::Patterns => self.channels.len() + self.patterns.len(),
        };
        Reply::Push(vec![Reply::text(kind), name, Reply::Integer(left as i64)])
    }

    /// What this session is told of a message.
    pub(super) fn deliver(&self, message: &Message) -> Vec<Reply> {
        let mut told = Vec::new();
        let Message::Published {
            channel,
            payload,
            shard,
        } = message
        else {
            return told;
        };
        let bulk = |bytes: &Bytes| Reply::Bulk(bytes.clone());
        let plain = |kind| {
            let (channel, payload) = (bulk(channel), bulk(payload));
            Reply::Push(vec![Reply::text(kind), channel, payload])
        };
        if *shard {
            let hears = self.shard.contains(channel);
            return hears.then(|| plain("smessage")).into_iter().collect();
        }
        if self.channels.contains(channel) {
            told.push(plain("message"));
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
        for space in [Space::Channels, Space::Patterns, Space::Shard] {
            for name in std::mem::take(self.of(space)) {
                pubsub.count(space, &name, false);
            }
        }
    }
}
