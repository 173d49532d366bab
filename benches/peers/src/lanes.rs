//! The load for clients that are not Redis's: a closed loop, as `understudy::cli::load::throughput`
//! runs for those that are.
//!
//! Each connection has `pipeline` lanes, and each lane one request outstanding. That is never worse
//! for the server than the batches the Redis clients send: a lane whose answer is there need not
//! wait for its neighbours'.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;
use understudy::cli::load::random::Random;
use understudy::cli::load::throughput::{LoadResult, new_histogram};

use crate::cells::Operation;
use crate::measure::{Load, Meter};

/// A connection; clones share it.
pub trait Client: Clone + Send + 'static {
    /// Writes a value.
    fn set(&self, key: Bytes, value: Bytes) -> impl Future<Output = Result<(), String>> + Send;
    /// Reads a value; whether it was there.
    fn get(&self, key: Bytes) -> impl Future<Output = Result<bool, String>> + Send;
}

/// The key of that number, as the Redis load and redis-benchmark write it: 16 bytes.
pub fn key(number: u64) -> Bytes {
    Bytes::from(format!("key:{number:012}"))
}

/// The value that every client writes.
pub fn value(bytes: usize) -> Bytes {
    Bytes::from(vec![b'x'; bytes])
}

/// Presses over these connections: warm-up, then the measurement.
pub async fn run<C: Client>(
    connections: &[C],
    load: &Load,
    meter: &mut Meter,
) -> anyhow::Result<LoadResult> {
    press(connections, load, load.warm_up, load.seed ^ u64::MAX).await?;
    meter.begin()?;
    let result = press(connections, load, load.length, load.seed).await;
    meter.end()?;
    result
}

async fn press<C: Client>(
    connections: &[C],
    load: &Load,
    length: Duration,
    seed: u64,
) -> anyhow::Result<LoadResult> {
    let until = Instant::now() + length;
    let mut tasks = JoinSet::new();
    for (number, connection) in connections.iter().enumerate() {
        for lane in 0..load.shape.pressure.pipeline {
            let stream = (number * load.shape.pressure.pipeline + lane) as u64;
            let random = Random::new(seed, stream);
            tasks.spawn(run_lane(connection.clone(), *load, random, until));
        }
    }
    let mut sum = empty(length);
    while let Some(lane) = tasks.join_next().await {
        let lane = lane?;
        sum.operations += lane.operations;
        sum.errors += lane.errors;
        sum.first_error = sum.first_error.or(lane.first_error);
        sum.latency_us.add(&lane.latency_us)?;
    }
    Ok(sum)
}

fn empty(elapsed: Duration) -> LoadResult {
    LoadResult {
        operations: 0,
        errors: 0,
        first_error: None,
        elapsed,
        latency_us: new_histogram(),
    }
}

/// One lane to its end. It stops at its first error: a server that refuses everything would
/// otherwise be asked in a busy loop.
async fn run_lane<C: Client>(
    client: C,
    load: Load,
    mut random: Random,
    until: Instant,
) -> LoadResult {
    let mut result = empty(Duration::ZERO);
    let value = value(load.value_bytes);
    while Instant::now() < until {
        let key = key(random.below(load.keys));
        let sent = Instant::now();
        let answer = match load.shape.operation {
            Operation::Set => client.set(key, value.clone()).await,
            Operation::Get => client.get(key).await.and_then(|found| match found {
                true => Ok(()),
                false => Err("a key that was written is not there".to_owned()),
            }),
        };
        let now = Instant::now();
        if let Err(error) = answer {
            result.errors += 1;
            result.first_error = Some(error);
            break;
        }
        if now <= until {
            result.operations += 1;
            let us = (now - sent).as_micros() as u64;
            result.latency_us.saturating_record(us.max(1));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_sixteen_bytes() {
        assert_eq!(&key(7)[..], b"key:000000000007");
        assert_eq!(key(999_999_999_999).len(), 16);
    }
}
