//! The simulated network: TCP as its users see it. Bytes of a connection arrive in order, late, or
//! never, and then the connection breaks; connections overtake each other; links are cut one way or
//! both; a dead process's host refuses, a dead host keeps silent.
//!
//! What does not exist here because TCP does not show it: lost, doubled or reordered bytes within a
//! connection. A lost packet is a delay (retransmission), a reset loses everything under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};
use understudy::peer::{DialError, ListenError, Listener, Pending, Socket, Unproven};

use super::random::Random;

/// A host on the network: a node's number, or a client's.
pub type Place = u32;

/// Longest time after which a retransmission arrives once a cut is mended.
const RETRANSMIT_MS: u64 = 200;

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    chunks: VecDeque<(Instant, Vec<u8>)>,
    last_at: Option<Instant>,
    /// No more will come; everything before it arrives.
    ended: Option<Instant>,
    reader: Option<Waker>,
    /// Since when bytes wait behind a cut.
    stuck_since: Option<Instant>,
}

/// A connection: `pipes[0]` carries from the dialing side.
pub struct Link {
    pub ends: [Place; 2],
    patience: [Duration; 2],
    pipes: [Pipe; 2],
    /// Why an end is broken.
    broken: [Option<io::ErrorKind>; 2],
    /// Nobody reads at this end any more.
    deaf: [bool; 2],
}

impl Link {
    fn wake(&mut self) {
        for pipe in &mut self.pipes {
            if let Some(waker) = pipe.reader.take() {
                waker.wake();
            }
        }
    }

    fn break_end(&mut self, end: usize, why: io::ErrorKind) {
        self.broken[end].get_or_insert(why);
        self.pipes[1 - end].chunks.clear();
        self.wake();
    }
}

type SharedLink = Arc<Mutex<Link>>;

struct Taker {
    queue: VecDeque<(SharedLink, SocketAddr)>,
    came: Arc<Notify>,
    /// Which process listens, so that only its own end removes it.
    process: u64,
}

struct Inner {
    random: Random,
    /// Directed cuts.
    cut: BTreeSet<(Place, Place)>,
    /// Hosts that are off.
    dark: BTreeSet<Place>,
    /// Hosts whose firewall answers every connect with a refusal.
    refusing: BTreeSet<Place>,
    listeners: BTreeMap<SocketAddr, Taker>,
    links: Vec<(Place, Place, Weak<Mutex<Link>>)>,
    next: u64,
    /// Longest ordinary delay, and how often in a thousand a chunk is retransmitted.
    delay_ms: u64,
    lossy: u64,
    pub resets: u64,
}

/// The network; clones share it.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Mutex<Inner>>,
}

fn place_of(addr: SocketAddr) -> Place {
    match addr.ip() {
        IpAddr::V4(ip) => u32::from(ip.octets()[3]),
        IpAddr::V6(_) => 0,
    }
}

/// Where a place is.
pub fn address(place: Place, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, place as u8), port))
}

fn lock(link: &SharedLink) -> MutexGuard<'_, Link> {
    link.lock().expect("one thread, and no panic under it")
}

impl Net {
    pub fn new(seed: u64) -> Net {
        Net {
            inner: Arc::new(Mutex::new(Inner {
                random: Random(seed),
                cut: BTreeSet::new(),
                dark: BTreeSet::new(),
                refusing: BTreeSet::new(),
                listeners: BTreeMap::new(),
                links: Vec::new(),
                next: 1,
                delay_ms: 1,
                lossy: 0,
                resets: 0,
            })),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("one thread, and no panic under it")
    }

    /// Sets the weather: longest ordinary delay, and retransmissions per thousand chunks.
    pub fn weather(&self, delay_ms: u64, lossy: u64) {
        let mut inner = self.inner();
        (inner.delay_ms, inner.lossy) = (delay_ms, lossy);
    }

    pub fn cut(&self, from: Place, to: Place) {
        self.inner().cut.insert((from, to));
    }

    /// Mends every cut; what waited arrives as retransmissions do.
    pub fn mend(&self) {
        self.inner().cut.clear();
        self.resume();
    }

    /// The host loses power: nothing comes from it, not even a refusal.
    pub fn darken(&self, place: Place) {
        self.inner().dark.insert(place);
    }

    /// The host is back; it knows nothing of its old connections.
    pub fn lighten(&self, place: Place) {
        self.inner().dark.remove(&place);
        self.break_all_of(place, io::ErrorKind::ConnectionReset);
    }

    pub fn refuse(&self, place: Place, refuses: bool) {
        let mut inner = self.inner();
        if refuses {
            inner.refusing.insert(place);
        } else {
            inner.refusing.remove(&place);
        }
    }

    fn links_where(&self, wanted: impl Fn(Place, Place) -> bool) -> Vec<SharedLink> {
        let mut inner = self.inner();
        inner.links.retain(|(_, _, link)| link.strong_count() > 0);
        inner
            .links
            .iter()
            .filter(|(a, b, _)| wanted(*a, *b))
            .filter_map(|(_, _, link)| link.upgrade())
            .collect()
    }

    /// A process is gone: its kernel closes every connection, and nobody listens.
    pub fn close_all_of(&self, place: Place, process: u64) {
        self.inner()
            .listeners
            .retain(|addr, taker| place_of(*addr) != place || taker.process != process);
        self.break_all_of(place, io::ErrorKind::ConnectionReset);
    }

    fn break_all_of(&self, place: Place, why: io::ErrorKind) {
        for link in self.links_where(|a, b| a == place || b == place) {
            let mut link = lock(&link);
            let own = usize::from(link.ends[0] != place);
            link.break_end(own, io::ErrorKind::BrokenPipe);
            let other = link.ends[1 - own];
            if self.open(place, other) && self.open(other, place) {
                link.break_end(1 - own, why);
            } else {
                // The other side hears of it when it tries again after the cut, or gives up.
                let patience = link.patience[1 - own];
                drop(link);
                self.give_up_later(place, other, patience);
            }
        }
    }

    fn give_up_later(&self, a: Place, b: Place, patience: Duration) {
        let net = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(patience.max(Duration::from_secs(1))).await;
            for link in net.links_where(|x, y| (x, y) == (a, b) || (x, y) == (b, a)) {
                let mut link = lock(&link);
                let dead = (0..2).find(|end| link.broken[*end].is_some());
                if let Some(end) = dead {
                    link.break_end(1 - end, io::ErrorKind::TimedOut);
                }
            }
        });
    }

    /// Breaks one connection between two places, at both ends at once.
    pub fn reset_one(&self, a: Place, b: Place) -> bool {
        let links = self.links_where(|x, y| (x, y) == (a, b) || (x, y) == (b, a));
        if links.is_empty() {
            return false;
        }
        let pick = {
            let mut inner = self.inner();
            inner.resets += 1;
            inner.random.below(links.len() as u64) as usize
        };
        let mut link = lock(&links[pick]);
        link.break_end(0, io::ErrorKind::ConnectionReset);
        link.break_end(1, io::ErrorKind::ConnectionReset);
        true
    }

    /// Whether packets go from `a` to `b`.
    pub fn open(&self, a: Place, b: Place) -> bool {
        let inner = self.inner();
        !inner.cut.contains(&(a, b)) && !inner.dark.contains(&a) && !inner.dark.contains(&b)
    }

    fn delay(&self) -> Duration {
        let mut inner = self.inner();
        let longest = inner.delay_ms;
        let lossy = inner.lossy;
        if lossy > 0 && inner.random.below(1000) < lossy {
            return Duration::from_millis(40 + inner.random.below(RETRANSMIT_MS));
        }
        Duration::from_millis(inner.random.below(longest + 1))
    }

    /// What waits behind links that are open again goes on.
    fn resume(&self) {
        for link in self.links_where(|_, _| true) {
            let ends = lock(&link).ends;
            if !self.open(ends[0], ends[1]) || !self.open(ends[1], ends[0]) {
                continue;
            }
            let late = {
                let mut inner = self.inner();
                Duration::from_millis(inner.random.below(RETRANSMIT_MS))
            };
            let mut link = lock(&link);
            if let Some(end) = (0..2).find(|end| link.broken[*end].is_some()) {
                link.break_end(1 - end, io::ErrorKind::ConnectionReset);
            }
            for pipe in &mut link.pipes {
                if pipe.stuck_since.take().is_some() {
                    let at = Instant::now() + late;
                    for chunk in &mut pipe.chunks {
                        chunk.0 = chunk.0.max(at);
                    }
                    pipe.last_at = pipe.chunks.back().map(|chunk| chunk.0);
                }
            }
            link.wake();
        }
    }

    /// For a failure: what is under way.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for link in self.links_where(|_, _| true) {
            let link = lock(&link);
            for (side, pipe) in link.pipes.iter().enumerate() {
                if let Some((at, bytes)) = pipe.chunks.front() {
                    let late = Instant::now().saturating_duration_since(*at).as_millis();
                    text.push_str(&format!(
                        "  from {} to {}: {} chunks, first of {} bytes, {late} ms due, watched {}, \
                         stuck {}, broken {:?}\n",
                        link.ends[side],
                        link.ends[1 - side],
                        pipe.chunks.len(),
                        bytes.len(),
                        pipe.reader.is_some(),
                        pipe.stuck_since.is_some(),
                        link.broken
                    ));
                }
            }
        }
        text
    }

    /// Connects from one place to an address.
    pub async fn dial(
        &self,
        from: Place,
        to: SocketAddr,
        limit: Duration,
        patience: Duration,
    ) -> Result<(End, SocketAddr), DialError> {
        let addr = to.to_string();
        let place = place_of(to);
        let there = self.delay();
        tokio::time::sleep(there).await;
        if !self.open(from, place) || !self.open(place, from) {
            tokio::time::sleep(limit.saturating_sub(there)).await;
            return Err(DialError::TimedOut { addr, limit });
        }
        let mut inner = self.inner();
        let number = inner.next;
        inner.next += 1;
        let refuses = inner.refusing.contains(&place);
        let Some(taker) = inner.listeners.get_mut(&to).filter(|_| !refuses) else {
            return Err(DialError::Refused { addr });
        };
        let link = Arc::new(Mutex::new(Link {
            ends: [from, place],
            patience: [patience, patience],
            pipes: Default::default(),
            broken: [None, None],
            deaf: [false, false],
        }));
        let source = address(from, 40_000 + (number % 20_000) as u16);
        taker.queue.push_back((Arc::clone(&link), source));
        taker.came.notify_one();
        inner.links.push((from, place, Arc::downgrade(&link)));
        drop(inner);
        Ok((End::new(self, link, 0), to))
    }

    /// Listens, for a process.
    pub fn listen(&self, addr: SocketAddr, process: u64) -> Result<Ear, ListenError> {
        let mut inner = self.inner();
        if inner.listeners.contains_key(&addr) {
            return Err(ListenError::InUse {
                addr: addr.to_string(),
            });
        }
        let came = Arc::new(Notify::new());
        let taker = Taker {
            queue: VecDeque::new(),
            came: Arc::clone(&came),
            process,
        };
        inner.listeners.insert(addr, taker);
        Ok(Ear {
            net: self.clone(),
            addr,
            came,
            places: Arc::new(Semaphore::new(64)),
        })
    }
}

/// A listener.
pub struct Ear {
    net: Net,
    addr: SocketAddr,
    came: Arc<Notify>,
    places: Arc<Semaphore>,
}

impl Ear {
    /// The next connection.
    pub async fn take(&self) -> (End, SocketAddr) {
        loop {
            let next = {
                let mut inner = self.net.inner();
                let taker = inner.listeners.get_mut(&self.addr);
                taker.and_then(|taker| taker.queue.pop_front())
            };
            match next {
                Some((link, from)) => return (End::new(&self.net, link, 1), from),
                None => self.came.notified().await,
            }
        }
    }
}

impl Listener for Ear {
    fn accept(&self) -> Pending<'_, io::Result<(Socket, Unproven)>> {
        Box::pin(async move {
            let place = Arc::clone(&self.places)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let (end, peer) = self.take().await;
            Ok((end.into_socket(peer), Unproven::new(place)))
        })
    }
}

/// One end of a connection, reading and writing. Dropped, the connection is closed in order.
pub struct End {
    net: Net,
    link: SharedLink,
    /// 0: the dialing side.
    side: usize,
    timer: Option<Pin<Box<Sleep>>>,
    reads: bool,
    writes: bool,
}

impl End {
    fn new(net: &Net, link: SharedLink, side: usize) -> End {
        End {
            net: net.clone(),
            link,
            side,
            timer: None,
            reads: true,
            writes: true,
        }
    }

    /// Two halves.
    pub fn into_socket(mut self, peer: SocketAddr) -> Socket {
        let reader = End {
            net: self.net.clone(),
            link: Arc::clone(&self.link),
            side: self.side,
            timer: None,
            reads: true,
            writes: false,
        };
        self.reads = false;
        Socket {
            reader: Box::new(reader),
            writer: Box::new(self),
            peer,
        }
    }

    /// Whether bytes written here would arrive; if not, when they have waited too long.
    fn watch_stuck(&self, link: &mut Link) {
        let pipe = &mut link.pipes[self.side];
        if pipe.stuck_since.is_some() {
            return;
        }
        let since = Instant::now();
        pipe.stuck_since = Some(since);
        let (patience, side) = (link.patience[self.side], self.side);
        let weak = Arc::downgrade(&self.link);
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            if let Some(link) = weak.upgrade() {
                let mut link = lock(&link);
                if link.pipes[side].stuck_since == Some(since) {
                    link.break_end(side, io::ErrorKind::TimedOut);
                }
            }
        });
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let mut link = lock(&this.link);
            if let Some(why) = link.broken[this.side] {
                return Poll::Ready(Err(why.into()));
            }
            let [from, to] = match this.side {
                0 => [link.ends[1], link.ends[0]],
                _ => link.ends,
            };
            let open = this.net.open(from, to);
            let now = Instant::now();
            let pipe = &mut link.pipes[1 - this.side];
            pipe.reader = Some(cx.waker().clone());
            let next = pipe.chunks.front().map(|(at, _)| *at);
            let due = match next.or(pipe.ended) {
                Some(at) if at <= now && open => {
                    // At the end nothing is put, which says so.
                    if let Some((_, bytes)) = pipe.chunks.front_mut() {
                        let most = bytes.len().min(buf.remaining());
                        buf.put_slice(&bytes[..most]);
                        bytes.drain(..most);
                        if bytes.is_empty() {
                            pipe.chunks.pop_front();
                        }
                    }
                    return Poll::Ready(Ok(()));
                }
                Some(at) if at > now => at,
                // Nothing, or behind a cut: whoever changes that wakes us.
                _ => return Poll::Pending,
            };
            drop(link);
            let timer = this.timer.insert(Box::pin(sleep_until(due)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let delay = self.net.delay();
        let mut link = lock(&self.link);
        if let Some(why) = link.broken[self.side] {
            return Poll::Ready(Err(why.into()));
        }
        let other = 1 - self.side;
        if link.deaf[other] {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let (from, to) = (link.ends[self.side], link.ends[other]);
        // Without the way back nothing is acknowledged, so that counts as stuck, too.
        if !self.net.open(from, to) || !self.net.open(to, from) {
            self.watch_stuck(&mut link);
        }
        let pipe = &mut link.pipes[self.side];
        let at = (Instant::now() + delay).max(pipe.last_at.unwrap_or_else(Instant::now));
        pipe.last_at = Some(at);
        pipe.chunks.push_back((at, bytes.to_vec()));
        if let Some(waker) = pipe.reader.take() {
            waker.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        end_pipe(&self.link, self.side);
        Poll::Ready(Ok(()))
    }
}

fn end_pipe(link: &SharedLink, side: usize) {
    let mut link = lock(link);
    let pipe = &mut link.pipes[side];
    let at = pipe.last_at.unwrap_or_else(Instant::now);
    pipe.ended.get_or_insert(at);
    link.wake();
}

impl Drop for End {
    fn drop(&mut self) {
        if self.writes {
            end_pipe(&self.link, self.side);
        }
        if self.reads {
            lock(&self.link).deaf[self.side] = true;
        }
    }
}
