//! Channels of this node: what Sentinel-aware clients subscribe to, and PUBLISH. A message reaches the
//! subscribers of this node and of no other.
//!
//! A message is kept once, however many wait for it; what waits for one subscriber is bounded in bytes
//! ([`Mailbox`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::mailbox::Mailbox;
use crate::command::{PubSubQuery, glob_matches};
use crate::resp::Reply;

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

/// What a subscriber is told.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// A message on its way.
    Published {
        channel: Bytes,
        payload: Bytes,
        /// What it was subscribed to by.
        by: By,
    },
    /// Permissions have changed: each looks whether it may still listen.
    Recheck,
}

/// Why a message reaches a subscriber.
#[derive(Clone, Debug)]
pub(crate) enum By {
    /// SUBSCRIBE.
    Channel,
    /// PSUBSCRIBE of this.
    Pattern(Bytes),
    /// SSUBSCRIBE.
    Shard,
}

/// By the numbers of their clients.
type Readers = BTreeMap<u64, Arc<Mailbox<Message>>>;

/// By name.
type Subscribed = BTreeMap<Bytes, Readers>;

#[derive(Debug, Default)]
struct Register {
    channels: Subscribed,
    patterns: Subscribed,
    shard: Subscribed,
    all: Readers,
}

impl Register {
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
    register: Mutex<Register>,
    /// Subscribers that have much to read.
    crowded: Arc<AtomicUsize>,
}

/// A message to all of these; how many they are.
fn send(readers: &Readers, channel: &Bytes, payload: &Bytes, by: &By) -> usize {
    for mailbox in readers.values() {
        let message = Message::Published {
            channel: channel.clone(),
            payload: payload.clone(),
            by: by.clone(),
        };
        mailbox.put(message, channel.len() + payload.len());
    }
    readers.len()
}

impl PubSub {
    pub(super) fn new() -> PubSub {
        PubSub {
            register: Mutex::default(),
            crowded: Arc::default(),
        }
    }

    fn register(&self) -> std::sync::MutexGuard<'_, Register> {
        self.register
            .lock()
            .expect("nothing panics while it holds the subscriptions")
    }

    /// Sends a message; how many subscriptions it reaches.
    pub(crate) fn publish(&self, channel: &[u8], payload: &[u8]) -> usize {
        let register = self.register();
        let here = register.channels.get(channel);
        let matches = |(pattern, _): &(&Bytes, &Readers)| glob_matches(pattern, channel, false);
        let mut patterns = register.patterns.iter().filter(matches).peekable();
        if here.is_none() && patterns.peek().is_none() {
            return 0;
        }
        // It is kept for longer than the request it is a part of.
        let copy = Bytes::copy_from_slice;
        let (channel, payload) = (copy(channel), copy(payload));
        let reached = here.map_or(0, |readers| send(readers, &channel, &payload, &By::Channel));
        let by_pattern = patterns.map(|(pattern, readers)| {
            let by = By::Pattern(pattern.clone());
            send(readers, &channel, &payload, &by)
        });
        reached + by_pattern.sum::<usize>()
    }

    /// The same on the shard's channels, which no pattern matches.
    pub(crate) fn publish_in_shard(&self, channel: &[u8], payload: &[u8]) -> usize {
        let register = self.register();
        let Some(readers) = register.shard.get(channel) else {
            return 0;
        };
        let copy = Bytes::copy_from_slice;
        send(readers, &copy(channel), &copy(payload), &By::Shard)
    }

    /// Has every subscriber look at its permissions.
    pub(super) fn recheck(&self) {
        for mailbox in self.register().all.values() {
            mailbox.put(Message::Recheck, 0);
        }
    }

    /// A subscriber has much to read: whoever publishes much may wait for it.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed) > 0
    }

    /// PUBSUB.
    pub(super) fn answer(&self, query: &PubSubQuery) -> Reply {
        let mut register = self.register();
        let space = |shard: bool| if shard { Space::Shard } else { Space::Channels };
        match query {
            PubSubQuery::Channels { shard, pattern } => {
                let matches = |name: &&Bytes| {
                    let pattern = pattern.as_ref();
                    pattern.is_none_or(|pattern| glob_matches(pattern, name, false))
                };
                let names = register.of(space(*shard)).keys();
                Reply::Array(names.filter(matches).cloned().map(Reply::Bulk).collect())
            }
            PubSubQuery::Counts { shard, channels } => {
                let known = register.of(space(*shard));
                let pairs = channels.iter().flat_map(|name| {
                    let count = known.get(name).map_or(0, Readers::len);
                    [Reply::Bulk(name.clone()), Reply::Integer(count as i64)]
                });
                Reply::Array(pairs.collect())
            }
            PubSubQuery::Patterns => Reply::Integer(register.patterns.len() as i64),
        }
    }

    /// Channels and patterns that somebody subscribed to, and channels of the shard.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let register = self.register();
        let (channels, patterns) = (register.channels.len(), register.patterns.len());
        (channels, patterns, register.shard.len())
    }

    fn enter(&self, space: Space, name: &Bytes, id: u64, mailbox: &Arc<Mailbox<Message>>) {
        let mut register = self.register();
        let readers = register.of(space).entry(name.clone()).or_default();
        readers.insert(id, Arc::clone(mailbox));
        register.all.insert(id, Arc::clone(mailbox));
    }

    fn leave(&self, space: Space, name: &Bytes, id: u64) {
        let mut register = self.register();
        let names = register.of(space);
        if let Some(readers) = names.get_mut(name) {
            readers.remove(&id);
            if readers.is_empty() {
                names.remove(name);
            }
        }
    }

    fn leave_all(&self, id: u64) {
        self.register().all.remove(&id);
    }
}

/// One session's subscriptions.
#[derive(Debug)]
pub(super) struct Subscriptions {
    /// The client's number.
    id: u64,
    /// Ends the client's connection.
    end: CancellationToken,
    /// Since the first.
    mailbox: Option<Arc<Mailbox<Message>>>,
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
    shard: BTreeSet<Bytes>,
}

impl Subscriptions {
    pub(super) fn new(id: u64, end: CancellationToken) -> Subscriptions {
        Subscriptions {
            id,
            end,
            mailbox: None,
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            shard: BTreeSet::new(),
        }
    }

    /// What waits to be told, while there are subscriptions.
    pub(super) fn mailbox(&self) -> Option<Arc<Mailbox<Message>>> {
        self.mailbox.clone()
    }

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
                let mailbox = self.mailbox.get_or_insert_with(|| {
                    let crowded = Arc::clone(&pubsub.crowded);
                    Arc::new(Mailbox::new(self.end.clone(), crowded))
                });
                pubsub.enter(space, &name, self.id, mailbox);
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
                pubsub.leave(space, &name, self.id);
            }
            answers.push(self.answer(kind, space, Reply::Bulk(name)));
        }
        self.close_if_empty(pubsub);
        answers
    }

    fn answer(&self, kind: &'static str, space: Space, name: Reply) -> Reply {
        let left = match space {
            Space::Shard => self.shard.len(),
            Space::Channels | Space::Patterns => self.channels.len() + self.patterns.len(),
        };
        Reply::Push(vec![Reply::text(kind), name, Reply::Integer(left as i64)])
    }

    fn close_if_empty(&mut self, pubsub: &PubSub) {
        if self.len() == 0 && self.mailbox.take().is_some() {
            pubsub.leave_all(self.id);
        }
    }

    /// What this session is told of a message; nothing where it has unsubscribed meanwhile.
    pub(super) fn deliver(&self, message: Message) -> Option<Reply> {
        let Message::Published {
            channel,
            payload,
            by,
        } = message
        else {
            return None;
        };
        let (hears, kind) = match &by {
            By::Channel => (self.channels.contains(&channel), "message"),
            By::Pattern(pattern) => (self.patterns.contains(pattern), "pmessage"),
            By::Shard => (self.shard.contains(&channel), "smessage"),
        };
        let mut told = vec![Reply::text(kind)];
        if let By::Pattern(pattern) = by {
            told.push(Reply::Bulk(pattern));
        }
        told.extend([Reply::Bulk(channel), Reply::Bulk(payload)]);
        hears.then_some(Reply::Push(told))
    }

    pub(super) fn clear(&mut self, pubsub: &PubSub) {
        for space in [Space::Channels, Space::Patterns, Space::Shard] {
            for name in std::mem::take(self.of(space)) {
                pubsub.leave(space, &name, self.id);
            }
        }
        self.close_if_empty(pubsub);
    }
}
