//! Writing many keys as fast as a server takes them.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::ring::FILL_PATIENCE;
use crate::systems::resp;

/// Connections that write side by side, so that the server need not wait while one encodes.
const WRITERS: u64 = 4;

/// Writes keys 0 to `keys` once each, and checks that the server holds just these.
pub async fn fill(address: SocketAddr, keys: u64, value_bytes: usize) -> anyhow::Result<()> {
    let filling = tokio::time::timeout(FILL_PATIENCE, write_all(address, keys, value_bytes));
    let filled = filling.await.context("writing the keys takes too long")?;
    filled.with_context(|| format!("cannot write {keys} keys to {address}"))?;
    resp::has(address, keys).await
}

async fn write_all(address: SocketAddr, keys: u64, value_bytes: usize) -> anyhow::Result<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let share = keys * writer / WRITERS..keys * (writer + 1) / WRITERS;
        writers.spawn(resp::write(address, share, keys, value_bytes));
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    Ok(())
}
