//! A steady load on one node, measured: how many operations per second, and how long each took.
//!
//! Each connection keeps one batch of `pipeline` requests outstanding: one write, then all its
//! replies. An operation's latency runs from the moment its batch was handed to the socket to the
//! moment its reply was read. This is a closed loop, so a stall shows as few slow operations
//! rather than many; the maximum is stated beside the percentiles for that reason.
//!
//! Only operations that end inside the measured window count. Error replies are counted apart and
//! never as throughput.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hdrhistogram::Histogram;
use thiserror::Error;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::login::Login;
use super::random::Random;
use crate::resp::{Reply, encode_request};

/// Longest latency told apart, microseconds; a longer one counts as this.
const LONGEST_US: u64 = 120_000_000;

/// When the measurement ends.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// After this long.
    Duration(Duration),
    /// After at least this many operations in all, shared evenly by the connections.
    Operations(u64),
}

/// What to send, and where.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// The node's client address.
    pub address: SocketAddr,
    /// Who we are there.
    pub login: Login,
    /// Connections; at least 1.
    pub clients: usize,
    /// Requests outstanding per connection; at least 1.
    pub pipeline: usize,
    /// Bytes of each value written.
    pub value_bytes: usize,
    /// Number of different keys; at least 1.
    pub keys: u64,
    /// Share of GETs among the operations, 0 to 100.
    pub read_percent: u8,
    /// After each batch, wait until this many Redis replicas have acknowledged it (`WAIT n 0`);
    /// 0 sends no WAIT. For comparison with Redis; the batch's latency then ends at WAIT's reply.
    pub wait_replicas: u32,
    /// Load before the measurement begins.
    pub warm_up: Duration,
    /// When the measurement ends.
    pub limit: Limit,
    /// Seed for the choice of keys and operations.
    pub seed: u64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct LoadResult {
    /// Operations answered without an error.
    pub operations: u64,
    /// Operations answered with an error.
    pub errors: u64,
    /// The first such error.
    pub first_error: Option<String>,
    /// Length of the measured window.
    pub elapsed: Duration,
    /// Latencies of the operations, microseconds.
    pub latency_us: Histogram<u64>,
}

impl LoadResult {
    /// Operations per second.
    pub fn per_second(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Why there is no measurement.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A connection failed.
    #[error("lost the connection to {address} under load: {error}")]
    Connection {
        /// The node.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// Not possible to connect.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// The node.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

/// An empty histogram of microseconds, three significant figures.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("constant bounds that the crate allows")
}

/// Runs the load to its end. All connections are open before the first request is sent.
pub async fn run(spec: &LoadSpec) -> Result<LoadResult, LoadError> {
    let mut connections = Vec::with_capacity(spec.clients);
    for _ in 0..spec.clients {
        let opened = Connection::open_as(spec.address, &spec.login).await;
        connections.push(opened.map_err(|error| LoadError::Connect {
            address: spec.address,
            error,
        })?);
    }
    let from = Instant::now() + spec.warm_up;
    let mut tasks = JoinSet::new();
    for (number, connection) in connections.into_iter().enumerate() {
        tasks.spawn(Worker::new(spec, number, connection, from).run());
    }
    let mut sum = LoadResult {
        operations: 0,
        errors: 0,
        first_error: None,
        elapsed: Duration::ZERO,
        latency_us: new_histogram(),
    };
    let mut last_end = from;
    while let Some(done) = tasks.join_next().await {
        let worker = match done {
            Ok(worker) => worker,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let worker = worker.map_err(|error| LoadError::Connection {
            address: spec.address,
            error,
        })?;
        sum.operations += worker.operations;
        sum.errors += worker.errors;
        sum.first_error = sum.first_error.or(worker.first_error);
        sum.latency_us
            .add(&worker.latency_us)
            .expect("both histograms have the same bounds");
        last_end = last_end.max(worker.last_end);
    }
    sum.elapsed = match spec.limit {
        Limit::Duration(duration) => duration,
        Limit::Operations(_) => last_end - from,
    };
    Ok(sum)
}

struct Worker {
    connection: Connection,
    requests: Requests,
    pipeline: usize,
    from: Instant,
    limit: Limit,
    operations: u64,
    errors: u64,
    first_error: Option<String>,
    latency_us: Histogram<u64>,
    last_end: Instant,
}

impl Worker {
    fn new(spec: &LoadSpec, number: usize, connection: Connection, from: Instant) -> Worker {
        let limit = match spec.limit {
            Limit::Operations(all) => Limit::Operations(all.div_ceil(spec.clients as u64)),
            duration => duration,
        };
        Worker {
            connection,
            requests: Requests::new(spec, Random::new(spec.seed, number as u64)),
            pipeline: spec.pipeline,
            from,
            limit,
            operations: 0,
            errors: 0,
            first_error: None,
            latency_us: new_histogram(),
            last_end: from,
        }
    }

    async fn run(mut self) -> io::Result<Worker> {
        while self.is_more_wanted() {
            self.requests.fill(self.pipeline);
            let sent = Instant::now();
            self.connection.send(&self.requests.bytes).await?;
            self.receive_batch(sent).await?;
        }
        Ok(self)
    }

    fn is_more_wanted(&self) -> bool {
        match self.limit {
            Limit::Duration(span) => Instant::now() < self.from + span,
            Limit::Operations(count) => self.operations + self.errors < count,
        }
    }

    async fn receive_batch(&mut self, sent: Instant) -> io::Result<()> {
        let waits = self.requests.wait_replicas > 0;
        let mut left = self.pipeline;
        let mut good = 0;
        while left > 0 {
            // One reading of the clock for all replies that came together.
            let mut together = 0;
            let mut reply = Some(self.connection.receive().await?);
            while let Some(one) = reply {
                left -= 1;
                match one {
                    Reply::Error(text) => self.note_errors(1, &text),
                    _ => together += 1,
                }
                reply = if left > 0 {
                    self.connection.received_already()?
                } else {
                    None
                };
            }
            good += together;
            if !waits {
                self.count(sent, together);
            }
        }
        if waits {
            let wanted = i64::from(self.requests.wait_replicas);
            match self.connection.receive().await? {
                Reply::Integer(copies) if copies >= wanted => self.count(sent, good),
                other => self.note_errors(good, &format!("WAIT answered {other:?}")),
            }
        }
        Ok(())
    }

    fn note_errors(&mut self, count: u64, text: &str) {
        self.errors += count;
        self.first_error.get_or_insert_with(|| text.to_owned());
    }

    /// Books `count` operations that were sent at `sent` and end now.
    fn count(&mut self, sent: Instant, count: u64) {
        let now = Instant::now();
        let past_end = matches!(self.limit, Limit::Duration(span) if now > self.from + span);
        if now < self.from || past_end || count == 0 {
            return;
        }
        let us = (now - sent).as_micros().clamp(1, u128::from(LONGEST_US)) as u64;
        self.latency_us
            .record_n(us, count)
            .expect("clamped to the histogram's bounds");
        self.operations += count;
        self.last_end = now;
    }
}

/// Encodes batches; only the key's digits change from one request to the next.
struct Requests {
    bytes: Vec<u8>,
    set: BytesMut,
    get: BytesMut,
    wait: BytesMut,
    keys: u64,
    read_percent: u8,
    wait_replicas: u32,
    random: Random,
}

/// Keys are `key:` and twelve digits, as redis-benchmark's.
const KEY_DIGITS: usize = 12;

impl Requests {
    fn new(spec: &LoadSpec, random: Random) -> Requests {
        let encoded = |words: &[&[u8]]| {
            let mut bytes = BytesMut::new();
            encode_request(words, &mut bytes);
            bytes
        };
        let key = format!("key:{:0KEY_DIGITS$}", 0);
        let set = encoded(&[b"SET", key.as_bytes(), &vec![b'x'; spec.value_bytes]]);
        let get = encoded(&[b"GET", key.as_bytes()]);
        let replicas = spec.wait_replicas.to_string();
        let wait = match spec.wait_replicas {
            0 => BytesMut::new(),
            _ => encoded(&[b"WAIT", replicas.as_bytes(), b"0"]),
        };
        Requests {
            bytes: Vec::new(),
            set,
            get,
            wait,
            keys: spec.keys.max(1),
            read_percent: spec.read_percent,
            wait_replicas: spec.wait_replicas,
            random,
        }
    }

    fn fill(&mut self, count: usize) {
        /// Both templates begin `*N CRLF $3 CRLF GET CRLF $16 CRLF key:`, so the digits of either
        /// stand at the same place.
        const DIGITS_AT: usize = "*3\r\n$3\r\nSET\r\n$16\r\nkey:".len();
        self.bytes.clear();
        for _ in 0..count {
            let is_read = self.random.below(100) < u64::from(self.read_percent);
            let start = self.bytes.len();
            self.bytes
                .extend_from_slice(if is_read { &self.get } else { &self.set });
            let mut key = self.random.below(self.keys);
            let digits = start + DIGITS_AT..start + DIGITS_AT + KEY_DIGITS;
            for digit in self.bytes[digits].iter_mut().rev() {
                *digit = b'0' + (key % 10) as u8;
                key /= 10;
            }
        }
        self.bytes.extend_from_slice(&self.wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(read_percent: u8) -> LoadSpec {
        LoadSpec {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            login: Login::default(),
            clients: 1,
            pipeline: 1,
            value_bytes: 3,
            keys: 1_000_000,
            read_percent,
            wait_replicas: 0,
            warm_up: Duration::ZERO,
            limit: Limit::Operations(1),
            seed: 7,
        }
    }

    #[test]
    fn requests_are_well_formed_and_their_keys_differ() {
        let mut requests = Requests::new(&spec(0), Random::new(7, 0));
        requests.fill(2);
        let text = String::from_utf8(requests.bytes.clone()).expect("ASCII");
        let keys: Vec<&str> = text
            .split("\r\n")
            .filter(|word| word.starts_with("key:"))
            .collect();
        assert_eq!(keys.len(), 2);
        assert_ne!(keys[0], keys[1]);
        assert!(
            keys.iter()
                .all(|key| key.len() == 16 && key[4..].parse::<u64>().is_ok())
        );
        let expected = format!("*3\r\n$3\r\nSET\r\n$16\r\n{}\r\n$3\r\nxxx\r\n", keys[0]);
        assert!(text.starts_with(&expected), "{text}");

        let mut requests = Requests::new(&spec(100), Random::new(7, 0));
        requests.fill(1);
        let text = String::from_utf8(requests.bytes).expect("ASCII");
        assert!(
            text.starts_with("*2\r\n$3\r\nGET\r\n$16\r\nkey:0"),
            "{text}"
        );
    }
}
