//! Clients that write through a takeover and keep the account of what they were told.
//!
//! Each client writes its own sequence of keys, every key once, with one write outstanding. It
//! *follows*: on a closed connection, `-READONLY`, `-MASTERDOWN`, `-CLUSTERDOWN` or `-LOADING`, or
//! when no answer has come for a while and the nodes name another primary, it goes there. A write
//! is never sent twice, so each ends in exactly one [`State`].
//!
//! All times are microseconds on one monotonic clock, [`Clock`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::connection::Connection;
use super::directory::{Directory, Primary};
use crate::resp::{Reply, encode_request};

/// An answer outstanding for so long makes a client ask the nodes who is primary. It keeps waiting
/// meanwhile: a slow write is not a lost one.
const SILENCE: Duration = Duration::from_millis(100);
/// Pause after a refusal, before the next attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(2);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest wait for an answer, above a node's own `write_timeout` (5 s); then the write is unknown.
const GIVE_UP: Duration = Duration::from_secs(15);

/// The one clock all times of a run are read from.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that reads 0 now.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Microseconds since the start.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).expect("no run lasts 500,000 years")
    }
}

/// What a client knows about one of its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Answered `+OK`: it must never be lost where the mode promises so.
    Acknowledged,
    /// No answer, or `-UNCONFIRMED`: it may have taken effect or not.
    Unknown,
    /// Answered with a refusal: it must not have taken effect.
    Refused,
}

/// The account of one write; its number in the client's sequence is its place in the list.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// What became of it.
    pub state: State,
    /// When that was known.
    pub at_us: u64,
    /// Index of the node it was sent to, among the spec's nodes.
    pub node: u8,
}

/// Who writes what, and where.
#[derive(Clone, Debug)]
pub struct FollowSpec {
    /// All nodes' client addresses, witnesses too.
    pub nodes: Vec<SocketAddr>,
    /// The cluster's name, for Sentinel.
    pub cluster_name: String,
    /// Number of clients, each with one connection.
    pub clients: usize,
    /// Bytes of each value; a value is at least as long as its key.
    pub value_bytes: usize,
    /// What all keys of this run begin with.
    pub prefix: String,
}

impl FollowSpec {
    /// The key of write number `sequence` of client `client`.
    pub fn key(&self, client: usize, sequence: usize) -> String {
        format!("{}:{client}:{sequence}", self.prefix)
    }

    /// The value written under `key`: the key itself, filled up with dots.
    pub fn value(&self, key: &str) -> String {
        format!("{key:.<width$}", width = self.value_bytes)
    }
}

/// Sums over all clients so far.
#[derive(Debug, Default)]
pub struct Counters {
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
    /// Per node: 1 + the time of its first acknowledgement; 0 is none.
    first_acknowledged: Vec<AtomicU64>,
}

impl Counters {
    /// Writes acknowledged, unknown and refused.
    pub fn read(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (
            read(&self.acknowledged),
            read(&self.unknown),
            read(&self.refused),
        )
    }

    /// When node number `index` first acknowledged a write.
    pub fn first_acknowledged_us(&self, index: usize) -> Option<u64> {
        self.first_acknowledged
            .get(index)?
            .load(Ordering::Acquire)
            .checked_sub(1)
    }

    fn count(&self, write: &Write) {
        let counter = match write.state {
            State::Acknowledged => &self.acknowledged,
            State::Unknown => &self.unknown,
            State::Refused => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if write.state == State::Acknowledged
            && let Some(first) = self.first_acknowledged.get(usize::from(write.node))
            && first.load(Ordering::Relaxed) == 0
        {
            // A race between two clients keeps either of two times a few microseconds apart; the
            // full account decides what is reported.
            first.store(write.at_us + 1, Ordering::Release);
        }
    }
}

/// A running load. Dropping it stops the clients without an account.
#[derive(Debug)]
pub struct Following {
    spec: Arc<FollowSpec>,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    clients: Vec<JoinHandle<Vec<Write>>>,
}

impl Following {
    /// Starts the clients on `runtime`.
    pub fn start(runtime: &Handle, spec: FollowSpec, clock: Clock) -> Following {
        let directory = Arc::new(Directory::new(runtime, &spec.nodes, &spec.cluster_name));
        let counters = Arc::new(Counters {
            first_acknowledged: spec.nodes.iter().map(|_| AtomicU64::new(0)).collect(),
            ..Counters::default()
        });
        let spec = Arc::new(spec);
        let (stop, stopped) = watch::channel(false);
        let clients = (0..spec.clients)
            .map(|number| {
                let client = Client {
                    spec: Arc::clone(&spec),
                    counters: Arc::clone(&counters),
                    primary: directory.subscribe(),
                    directory: Arc::clone(&directory),
                    stopped: stopped.clone(),
                    clock,
                    number,
                    writes: Vec::new(),
                };
                runtime.spawn(client.run())
            })
            .collect();
        directory.report_trouble();
        Following {
            spec,
            counters,
            stop,
            clients,
        }
    }

    /// Sums so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Lets each client finish its outstanding write and returns their accounts.
    pub async fn stop(mut self) -> Account {
        self.stop.send_replace(true);
        let mut clients = Vec::with_capacity(self.clients.len());
        for client in std::mem::take(&mut self.clients) {
            match client.await {
                Ok(writes) => clients.push(writes),
                Err(failed) => std::panic::resume_unwind(failed.into_panic()),
            }
        }
        Account {
            spec: FollowSpec::clone(&self.spec),
            clients,
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        for client in &self.clients {
            client.abort();
        }
    }
}

/// Every write of a run and what its client was told.
#[derive(Clone, Debug)]
pub struct Account {
    /// How keys and values are made.
    pub spec: FollowSpec,
    /// Per client, its writes in order.
    pub clients: Vec<Vec<Write>>,
}

impl Account {
    /// All writes in this state: client, sequence, write.
    pub fn in_state(&self, state: State) -> impl Iterator<Item = (usize, usize, &Write)> {
        self.clients
            .iter()
            .enumerate()
            .flat_map(move |(client, writes)| {
                writes
                    .iter()
                    .enumerate()
                    .filter(move |(_, write)| write.state == state)
                    .map(move |(sequence, write)| (client, sequence, write))
            })
    }

    /// The times of all acknowledgements, sorted.
    pub fn acknowledged_at_us(&self) -> Vec<u64> {
        let mut times: Vec<u64> = self
            .in_state(State::Acknowledged)
            .map(|(_, _, write)| write.at_us)
            .collect();
        times.sort_unstable();
        times
    }

    /// When a node other than `old_node` first acknowledged a write sent after `fault_us`.
    pub fn first_elsewhere_us(&self, old_node: usize, fault_us: u64) -> Option<u64> {
        self.in_state(State::Acknowledged)
            .filter(|(_, _, write)| usize::from(write.node) != old_node)
            .map(|(_, _, write)| write.at_us)
            .filter(|at_us| *at_us >= fault_us)
            .min()
    }
}

/// The longest time between two acknowledgements of `times_us` (sorted) that ends after `from_us`
/// and not after `until_us`.
pub fn longest_gap_us(times_us: &[u64], from_us: u64, until_us: u64) -> Option<u64> {
    times_us
        .windows(2)
        .filter(|pair| pair[1] > from_us && pair[1] <= until_us)
        .map(|pair| pair[1] - pair[0])
        .max()
}

struct Client {
    spec: Arc<FollowSpec>,
    counters: Arc<Counters>,
    directory: Arc<Directory>,
    primary: watch::Receiver<Option<Primary>>,
    stopped: watch::Receiver<bool>,
    clock: Clock,
    number: usize,
    writes: Vec<Write>,
}

/// What became of one write, and whether the connection may go on.
struct Outcome {
    state: State,
    stay: bool,
}

impl Client {
    async fn run(mut self) -> Vec<Write> {
        let mut failed_generation = 0;
        while let Some(primary) = self.next_primary(failed_generation).await {
            failed_generation = primary.generation;
            let opened =
                tokio::time::timeout(CONNECT_TIMEOUT, Connection::open(primary.address)).await;
            if let Ok(Ok(connection)) = opened {
                self.write_to(primary, connection).await;
            }
            if self.is_stopped() {
                break;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
            self.directory.report_trouble();
        }
        self.writes
    }

    /// The first answer newer than `after`; `None` when stopped.
    async fn next_primary(&mut self, after: u64) -> Option<Primary> {
        let newer = |primary: &Option<Primary>| primary.is_some_and(|p| p.generation > after);
        tokio::select! {
            biased;
            _ = self.stopped.wait_for(|stopped| *stopped) => None,
            primary = self.primary.wait_for(newer) => primary.ok().and_then(|primary| *primary),
        }
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Writes until stopped or until this node is no longer the place to write to.
    async fn write_to(&mut self, primary: Primary, mut connection: Connection) {
        let found = self
            .spec
            .nodes
            .iter()
            .position(|address| *address == primary.address);
        let node = found
            .and_then(|index| u8::try_from(index).ok())
            .unwrap_or(u8::MAX);
        let mut request = BytesMut::new();
        while !self.is_stopped() {
            let key = self.spec.key(self.number, self.writes.len());
            request.clear();
            let value = self.spec.value(&key);
            encode_request(&[b"SET", key.as_bytes(), value.as_bytes()], &mut request);
            let outcome = self.write_one(primary, &mut connection, &request).await;
            let write = Write {
                state: outcome.state,
                at_us: self.clock.now_us(),
                node,
            };
            self.counters.count(&write);
            self.writes.push(write);
            if !outcome.stay {
                return;
            }
        }
    }

    async fn write_one(
        &mut self,
        primary: Primary,
        connection: &mut Connection,
        request: &[u8],
    ) -> Outcome {
        const LEFT_OPEN: Outcome = Outcome {
            state: State::Unknown,
            stay: false,
        };
        if connection.send(request).await.is_err() {
            return LEFT_OPEN;
        }
        let give_up = tokio::time::sleep(GIVE_UP);
        tokio::pin!(give_up);
        loop {
            tokio::select! {
                biased;
                reply = connection.receive() => {
                    return reply.map_or(LEFT_OPEN, |reply| classify(&reply));
                }
                changed = self.primary.changed() => {
                    let now = *self.primary.borrow_and_update();
                    if changed.is_err() || now.is_some_and(|now| now.address != primary.address) {
                        return LEFT_OPEN;
                    }
                }
                () = &mut give_up => return LEFT_OPEN,
                () = tokio::time::sleep(SILENCE) => self.directory.report_trouble(),
            }
        }
    }
}

fn classify(reply: &Reply) -> Outcome {
    match reply {
        Reply::Error(text) if text.starts_with("UNCONFIRMED") => Outcome {
            state: State::Unknown,
            stay: true,
        },
        Reply::Error(_) => Outcome {
            state: State::Refused,
            stay: false,
        },
        _ => Outcome {
            state: State::Acknowledged,
            stay: true,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_the_longest_one_that_ends_in_the_window() {
        let times = [0, 10, 500, 510, 700, 2000];
        // Fault at 505: the reply at 510 was in flight, the takeover ended at 700.
        assert_eq!(longest_gap_us(&times, 505, 700), Some(190));
        // The gap that the fault lies in counts from the acknowledgement before it.
        assert_eq!(longest_gap_us(&times, 20, 500), Some(490));
        assert_eq!(longest_gap_us(&times, 700, 5000), Some(1300));
        assert_eq!(longest_gap_us(&times, 3000, 5000), None);
    }

    #[test]
    fn replies_end_in_the_right_state() {
        let ok = classify(&Reply::OK);
        assert!(ok.state == State::Acknowledged && ok.stay);
        let unconfirmed = classify(&Reply::error("UNCONFIRMED stepped down"));
        assert!(unconfirmed.state == State::Unknown && unconfirmed.stay);
        for refusal in [
            "READONLY x",
            "MASTERDOWN x",
            "CLUSTERDOWN x",
            "LOADING x",
            "ERR x",
        ] {
            let refused = classify(&Reply::error(refusal));
            assert!(
                refused.state == State::Refused && !refused.stay,
                "{refusal}"
            );
        }
    }

    #[test]
    fn a_value_names_its_key() {
        let spec = FollowSpec {
            nodes: Vec::new(),
            cluster_name: String::new(),
            clients: 1,
            value_bytes: 12,
            prefix: "d:1".to_owned(),
        };
        assert_eq!(spec.value(&spec.key(2, 3)), "d:1:2:3.....");
        assert_eq!(
            spec.value("a key longer than that"),
            "a key longer than that"
        );
    }
}
