//! Who is connected: what CLIENT LIST shows, and how one connection reaches another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::client_memory::Share;
use super::idle::Activity;
use crate::command::{ClientFilter, ClientKind};

/// One connected client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(super) id: u64,
    pub(super) from: SocketAddr,
    /// Our end of the connection, where it has one.
    pub(super) to: Option<SocketAddr>,
    pub(super) since: Instant,
    facts: Mutex<Facts>,
    /// Ends the connection, even in the middle of an answer that the client does not read.
    pub(super) end: CancellationToken,
    pub(super) unblock: Unblock,
    pub(super) activity: Activity,
    pub(super) share: Share,
    /// It was let go for its buffers, which took so many bytes.
    pub(super) evicted: AtomicUsize,
    /// Commands queued since MULTI; below zero outside of one.
    pub(super) queued: AtomicI64,
    /// Bytes read and not yet understood, and bytes of answers not yet sent.
    pub(super) read_bytes: AtomicUsize,
    pub(super) held_bytes: AtomicUsize,
}

/// What changes now and then.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) library: (String, String),
    pub(super) last: Instant,
    pub(super) last_command: &'static str,
    pub(super) resp: u8,
    /// Whom it has authenticated as.
    pub(super) user: Bytes,
    /// Channels and patterns.
    pub(super) subscriptions: (usize, usize),
    /// Of SSUBSCRIBE.
    pub(super) shard_subscriptions: usize,
    pub(super) monitors: bool,
    pub(super) no_evict: bool,
    pub(super) no_touch: bool,
}

/// How CLIENT UNBLOCK reaches a command that waits.
#[derive(Debug, Default)]
pub(super) struct Unblock {
    pub(super) blocked: AtomicBool,
    /// 0: nobody asked; 1: as if its time were over; 2: with an error.
    asked: AtomicU64,
    pub(super) told: Notify,
}

/// How a waiting command is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unblocked {
    Timeout,
    Error,
}

impl Unblock {
    /// `false` where nothing waits.
    pub(super) fn ask(&self, how: Unblocked) -> bool {
        let blocked = self.blocked.load(Ordering::Acquire);
        if blocked {
            let how = if how == Unblocked::Error { 2 } else { 1 };
            self.asked.store(how, Ordering::Release);
            self.told.notify_one();
        }
        blocked
    }

    /// What was asked for since the last call.
    pub(super) fn take(&self) -> Option<Unblocked> {
        match self.asked.swap(0, Ordering::AcqRel) {
            0 => None,
            2 => Some(Unblocked::Error),
            _ => Some(Unblocked::Timeout),
        }
    }
}

impl Client {
    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts
            .lock()
            .expect("nothing panics while it holds a client's facts")
    }

    /// It has sent requests; the last of them was this.
    pub(super) fn asks(&self, command: &'static str) {
        let mut facts = self.facts();
        facts.last = Instant::now();
        facts.last_command = command;
    }

    /// So many commands since MULTI, or there is none.
    pub(super) fn queues(&self, commands: Option<usize>) {
        let commands = commands.map_or(-1, |commands| commands as i64);
        self.queued.store(commands, Ordering::Relaxed);
    }

    /// RESET. What library it is stays true.
    pub(super) fn forget(&self) {
        let mut facts = self.facts();
        facts.name.clear();
        facts.resp = 2;
        facts.subscriptions = (0, 0);
        facts.shard_subscriptions = 0;
        (facts.monitors, facts.no_evict, facts.no_touch) = (false, false, false);
    }

    pub(super) fn measure(&self, read: usize, held: usize) {
        self.read_bytes.store(read, Ordering::Relaxed);
        self.held_bytes.store(held, Ordering::Relaxed);
    }

    pub(super) fn kind(&self) -> ClientKind {
        let facts = self.facts();
        match (facts.subscriptions, facts.shard_subscriptions) {
            ((0, 0), 0) => ClientKind::Normal,
            _ => ClientKind::PubSub,
        }
    }

    /// It subscribes or monitors: it has nothing to say.
    pub(super) fn only_listens(&self) -> bool {
        let monitors = self.facts().monitors;
        monitors || self.is_subscribed()
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.kind() == ClientKind::PubSub
    }

    /// Whether CLIENT KILL means this one.
    pub(super) fn is_meant(&self, filter: &ClientFilter, asking: u64) -> bool {
        let same = |wanted: &[u8], addr: Option<SocketAddr>| {
            addr.is_some_and(|addr| addr.to_string().as_bytes() == wanted)
        };
        let user = |wanted: &[u8]| self.facts().user == wanted;
        !(filter.skip_me && self.id == asking)
            && filter.id.is_none_or(|id| id == self.id)
            && filter.kind.is_none_or(|kind| kind == self.kind())
            && filter.user.as_deref().is_none_or(user)
            && filter
                .addr
                .as_deref()
                .is_none_or(|addr| same(addr, Some(self.from)))
            && filter
                .laddr
                .as_deref()
                .is_none_or(|addr| same(addr, self.to))
    }

    /// One line of CLIENT LIST.
    pub(super) fn line(&self) -> String {
        let facts = self.facts().clone();
        let (channels, patterns) = facts.subscriptions;
        let queued = self.queued.load(Ordering::Relaxed);
        let to = self.to.map(|addr| addr.to_string()).unwrap_or_default();
        let (read, held) = (
            self.read_bytes.load(Ordering::Relaxed),
            self.held_bytes.load(Ordering::Relaxed),
        );
        format!(
            "id={} addr={} laddr={to} fd=-1 name={} age={} idle={} flags={} db=0 sub={channels} \
             psub={patterns} ssub={} multi={queued} qbuf={read} qbuf-free=0 argv-mem=0 multi-mem=0 \
             rbs=0 rbp=0 obl=0 oll=0 omem={held} tot-mem={} events=r cmd={} user={} redir=-1 \
             resp={} lib-name={} lib-ver={}\n",
            self.id,
            self.from,
            facts.name,
            self.since.elapsed().as_secs(),
            facts.last.elapsed().as_secs(),
            self.flags(&facts),
            facts.shard_subscriptions,
            read + held,
            facts.last_command,
            String::from_utf8_lossy(&facts.user),
            facts.resp,
            facts.library.0,
            facts.library.1,
        )
    }

    /// As Redis writes them.
    fn flags(&self, facts: &Facts) -> String {
        let flags = [
            ('O', facts.monitors),
            (
                'P',
                facts.subscriptions != (0, 0) || facts.shard_subscriptions > 0,
            ),
            ('x', self.queued.load(Ordering::Relaxed) >= 0),
            ('b', self.unblock.blocked.load(Ordering::Relaxed)),
            ('e', facts.no_evict),
            ('T', facts.no_touch),
        ];
        let set: String = flags
            .iter()
            .filter(|(_, on)| *on)
            .map(|(flag, _)| *flag)
            .collect();
        if set.is_empty() { "N".into() } else { set }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Clients {
    list: Mutex<BTreeMap<u64, Arc<Client>>>,
    last_id: AtomicU64,
    /// Bytes of those who were let go for their buffers, and still have them.
    pub(super) leaving: AtomicUsize,
    /// Of all their buffers.
    bytes: Arc<AtomicUsize>,
}

impl Clients {
    pub(super) fn list(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.list
            .lock()
            .expect("nothing panics while it holds the list of clients")
    }

    pub(super) fn len(&self) -> usize {
        self.list().len()
    }

    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        self.list().values().cloned().collect()
    }

    pub(super) fn find(&self, id: u64) -> Option<Arc<Client>> {
        self.list().get(&id).cloned()
    }

    /// Ends the connections of users that are gone; the one who removed them still gets its answer.
    pub(super) fn end_users(&self, users: &[Bytes], but: u64) {
        for client in self.list().values() {
            if client.id != but && users.contains(&client.facts().user) {
                client.end.cancel();
            }
        }
    }

    /// How many of them wait for something other than their own client.
    pub(super) fn blocked(&self) -> usize {
        let blocked = |client: &&Arc<Client>| client.unblock.blocked.load(Ordering::Relaxed);
        self.list().values().filter(blocked).count()
    }

    pub(super) fn enter(
        &self,
        from: SocketAddr,
        to: Option<SocketAddr>,
        end: CancellationToken,
    ) -> Arc<Client> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        let client = Arc::new(Client {
            id,
            from,
            to,
            since: now,
            facts: Mutex::new(Facts {
                name: String::new(),
                library: (String::new(), String::new()),
                last: now,
                last_command: "NULL",
                resp: 2,
                user: Bytes::from_static(b"default"),
                subscriptions: (0, 0),
                shard_subscriptions: 0,
                monitors: false,
                no_evict: false,
                no_touch: false,
            }),
            end,
            unblock: Unblock::default(),
            activity: Activity::default(),
            share: Share::of(&self.bytes),
            evicted: AtomicUsize::new(0),
            queued: AtomicI64::new(-1),
            read_bytes: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
        });
        self.list().insert(id, Arc::clone(&client));
        client
    }

    pub(super) fn leave(&self, id: u64) {
        if let Some(left) = self.list().remove(&id) {
            let bytes = left.evicted.load(Ordering::Relaxed);
            self.leaving.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}
