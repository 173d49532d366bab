//! Who is primary, asked of each data node all the time, and whether two ever answer at once.
//!
//! A probe is three requests in one batch: INFO, a write, INFO. Where the write is acknowledged and
//! both INFOs name the same epoch, the node acted as primary in that epoch at some moment between
//! sending and receiving. From any two such probes: once a later epoch has answered, no earlier
//! one may answer a probe that was sent afterwards; and one epoch is one node's.
//!
//! A probe without an answer is not given up: its connection is kept and read on, since it is the
//! late answers (of a frozen or cut-off primary) that could be wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use understudy::resp::Reply;

use super::wire::{Waited, Wire};

/// Between two probes of a node.
const PAUSE: Duration = Duration::from_millis(5);
/// A probe without an answer for so long is set aside.
const SILENCE: Duration = Duration::from_millis(60);
/// A probe set aside is read on for so long.
const LINGER: Duration = Duration::from_secs(12);

/// A node acted as primary between two moments.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    pub node: u32,
    pub epoch: u64,
    /// Microseconds since the run began.
    pub sent: u64,
    pub received: u64,
}

/// What clients can look up: the newest primary that was seen to act.
#[derive(Default)]
pub struct Board {
    /// Epoch times 256 plus the node.
    newest: AtomicU64,
    sightings: Mutex<Vec<Sighting>>,
}

impl Board {
    /// The newest primary and its epoch.
    pub fn primary(&self) -> Option<(u32, u64)> {
        let newest = self.newest.load(Ordering::Acquire);
        (newest > 0).then_some(((newest & 255) as u32, newest >> 8))
    }

    fn add(&self, sighting: Sighting) {
        let newest = (sighting.epoch << 8) | u64::from(sighting.node);
        self.newest.fetch_max(newest, Ordering::AcqRel);
        self.sightings
            .lock()
            .expect("no holder panics")
            .push(sighting);
    }

    fn take(&self) -> Vec<Sighting> {
        std::mem::take(&mut self.sightings.lock().expect("no holder panics"))
    }
}

/// One observer a data node.
pub struct Observers {
    pub board: Arc<Board>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    seen: Vec<Sighting>,
}

impl Observers {
    pub fn start(nodes: &[(u32, SocketAddr)], began: Instant) -> Observers {
        let (board, stop) = (Arc::<Board>::default(), Arc::<AtomicBool>::default());
        let threads = nodes.iter().map(|(node, addr)| {
            let observer = Observer {
                node: *node,
                addr: *addr,
                began,
                board: Arc::clone(&board),
            };
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || observer.run(&stop))
        });
        Observers {
            threads: threads.collect(),
            board,
            stop,
            seen: Vec::new(),
        }
    }

    /// Judges all that was seen so far. Returns the number of sightings, or two that contradict
    /// each other.
    pub fn judge(&mut self) -> Result<usize, (Sighting, Sighting)> {
        self.seen.extend(self.board.take());
        two_primaries(&self.seen).map_or(Ok(self.seen.len()), Err)
    }
}

impl Drop for Observers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in there has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// Two sightings that cannot both be of a right primary.
pub fn two_primaries(seen: &[Sighting]) -> Option<(Sighting, Sighting)> {
    let mut by_epoch = std::collections::HashMap::new();
    for sighting in seen {
        let first: &Sighting = by_epoch.entry(sighting.epoch).or_insert(sighting);
        if first.node != sighting.node {
            return Some((*first, *sighting));
        }
    }
    let (mut by_sent, mut by_received) = (seen.to_vec(), seen.to_vec());
    by_sent.sort_by_key(|sighting| sighting.sent);
    by_received.sort_by_key(|sighting| sighting.received);
    let mut answered = by_received.iter().peekable();
    let mut newest: Option<&Sighting> = None;
    for sighting in &by_sent {
        while let Some(earlier) = answered.next_if(|earlier| earlier.received < sighting.sent) {
            if newest.is_none_or(|newest| newest.epoch < earlier.epoch) {
                newest = Some(earlier);
            }
        }
        if let Some(newest) = newest.filter(|newest| newest.epoch > sighting.epoch) {
            return Some((*newest, *sighting));
        }
    }
    None
}

struct Observer {
    node: u32,
    addr: SocketAddr,
    began: Instant,
    board: Arc<Board>,
}

/// A probe under way.
struct Probe {
    wire: Wire,
    sent: u64,
    replies: Vec<Reply>,
    until: Instant,
}

impl Observer {
    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn run(&self, stop: &AtomicBool) {
        let mut wire: Option<Wire> = None;
        let mut late: Vec<Probe> = Vec::new();
        let mut number = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            late.retain_mut(|probe| self.listen(probe, Duration::ZERO).is_none());
            late.retain(|probe| Instant::now() < probe.until);
            let open = wire.take().or_else(|| Wire::open(self.addr, SILENCE));
            if let Some(open) = open {
                number += 1;
                if let Some(mut probe) = self.send(open, number) {
                    match self.listen(&mut probe, SILENCE) {
                        Some(true) => wire = Some(probe.wire),
                        Some(false) => {}
                        None if late.len() < 6 => late.push(probe),
                        None => {}
                    }
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn send(&self, mut wire: Wire, number: u64) -> Option<Probe> {
        let words = |text: &str| {
            text.split(' ')
                .map(|word| word.as_bytes().to_vec())
                .collect()
        };
        let info = "INFO understudy replication";
        let write = format!("SET probe:{} {number}", self.node);
        let sent = self.now();
        wire.send(&[words(info), words(&write), words(info)])
            .then(|| Probe {
                wire,
                sent,
                replies: Vec::new(),
                until: Instant::now() + LINGER,
            })
    }

    /// Reads on for `patience`. `Some`: the probe is over; whether its connection may be used again.
    fn listen(&self, probe: &mut Probe, patience: Duration) -> Option<bool> {
        let until = Instant::now() + patience;
        while probe.replies.len() < 3 {
            match probe.wire.receive(|| Instant::now() >= until) {
                Waited::Reply(reply) => probe.replies.push(reply),
                Waited::Broken => return Some(false),
                Waited::GaveUp => return None,
            }
        }
        let received = self.now();
        let [before, write, after] = probe.replies.as_slice() else {
            return Some(false);
        };
        match (primary_in(before), primary_in(after)) {
            (Some(epoch), Some(same)) if epoch == same && *write == Reply::OK => {
                self.board.add(Sighting {
                    node: self.node,
                    epoch,
                    sent: probe.sent,
                    received,
                });
                Some(true)
            }
            // A standby: the connection is good, and cheap to keep.
            _ => Some(matches!(write, Reply::Error(text) if text.starts_with("READONLY"))),
        }
    }
}

/// The epoch that this INFO names, where it says that the node is primary.
fn primary_in(info: &Reply) -> Option<u64> {
    let Reply::Bulk(text) = info else { return None };
    let text = std::str::from_utf8(text).ok()?;
    let field = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    field("epoch")
        .filter(|_| field("role") == Some("master"))?
        .parse()
        .ok()
}
