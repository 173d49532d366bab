//! What Redis and understudy have in common: the protocol, and so the client.

use std::net::SocketAddr;
use std::ops::Range;

use anyhow::Context as _;
use understudy::cli::load::connection::Connection;
use understudy::cli::load::login::Login;
use understudy::cli::load::throughput::{self, Limit, LoadResult, LoadSpec};
use understudy::resp::{Reply, encode_request};

use crate::cells::Operation;
use crate::lanes::{key, value};
use crate::measure::{Load, Meter};

/// Presses one server: warm-up, then the measurement, with `WAIT wait_replicas 0` after each batch
/// of writes where that is not 0.
pub async fn run(
    address: SocketAddr,
    wait_replicas: u32,
    load: &Load,
    meter: &mut Meter,
) -> anyhow::Result<LoadResult> {
    let mut spec = LoadSpec {
        login: Login::default(),
        address,
        clients: load.shape.pressure.clients,
        pipeline: load.shape.pressure.pipeline,
        value_bytes: load.value_bytes,
        keys: load.keys,
        read_percent: match load.shape.operation {
            Operation::Set => 0,
            Operation::Get => 100,
        },
        wait_replicas,
        warm_up: std::time::Duration::ZERO,
        limit: Limit::Duration(load.warm_up),
        seed: load.seed ^ u64::MAX,
    };
    throughput::run(&spec).await?;
    spec.limit = Limit::Duration(load.length);
    spec.seed = load.seed;
    meter.begin()?;
    let result = throughput::run(&spec).await;
    meter.end()?;
    Ok(result?)
}

/// Writes all keys, in order, then checks their number.
pub async fn fill(address: SocketAddr, keys: u64, value_bytes: usize) -> anyhow::Result<()> {
    write(address, 0..keys, keys, value_bytes).await?;
    has(address, keys).await
}

/// An error unless the server holds so many keys.
pub async fn has(address: SocketAddr, keys: u64) -> anyhow::Result<()> {
    let size = ask(address, &[b"DBSIZE"]).await?;
    anyhow::ensure!(
        size == Reply::Integer(keys as i64),
        "{address} holds {size:?} keys after {keys} were written"
    );
    Ok(())
}

/// Makes the writes of these numbers, in batches: all keys in order, again and again.
pub async fn write(
    address: SocketAddr,
    numbers: Range<u64>,
    keys: u64,
    value_bytes: usize,
) -> anyhow::Result<()> {
    /// Requests sent before their replies are read, at most.
    const BATCH_REQUESTS: u64 = 1000;
    /// Bytes of values, at most, or one value.
    const BATCH_BYTES: u64 = 1 << 20;
    let most = (BATCH_BYTES / value_bytes.max(1) as u64).clamp(1, BATCH_REQUESTS);
    let mut connection = Connection::open(address).await?;
    let value = value(value_bytes);
    let mut requests = bytes::BytesMut::new();
    for first in numbers.clone().step_by(most as usize) {
        let batch = first..numbers.end.min(first + most);
        requests.clear();
        for number in batch.clone() {
            encode_request(&[b"SET", &key(number % keys), &value], &mut requests);
        }
        connection.send(&requests).await?;
        for _ in batch {
            if let Reply::Error(text) = connection.receive().await? {
                anyhow::bail!("{address} answered {text:?} while it was filled");
            }
        }
    }
    Ok(())
}

/// One question on a connection of its own.
pub async fn ask(address: SocketAddr, words: &[&[u8]]) -> anyhow::Result<Reply> {
    let mut connection = Connection::open(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    Ok(connection.ask(words).await?)
}
