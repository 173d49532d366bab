//! The systems of the ring, each with its servers and its client.

mod etcd;
mod etcd_messages;
pub mod ours;
mod postgres;
pub mod redis;
pub mod resp;

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use understudy::cli::load::throughput::LoadResult;

use crate::cells::{Line, SystemKind};
use crate::interrupt::Interrupt;
use crate::measure::{Load, Meter};

/// How long a server may take until it is ready.
const START_PATIENCE: Duration = Duration::from_secs(40);

/// A future of an object-safe method.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + 'a>>;

/// Servers that run, and how to press them. Dropping it ends the servers.
pub trait System {
    /// The processes that were started; all others of the system are below them.
    fn roots(&self) -> Vec<u32>;

    /// The one process that holds the data that clients ask for, where there is such a process.
    fn holder(&self) -> Option<u32>;

    /// Where redis-benchmark can press it; none where it does not speak that protocol.
    fn resp_address(&self) -> Option<SocketAddr> {
        None
    }

    /// An error if a server ended by itself.
    fn check(&mut self) -> anyhow::Result<()>;

    /// Writes all keys once and checks that they are there.
    fn fill(&mut self, keys: u64, value_bytes: usize) -> Later<'_, ()>;

    /// Runs a load, with its warm-up; tells the meter when the measurement begins and ends.
    fn load<'a>(
        &'a mut self,
        line: Line,
        load: &'a Load,
        meter: &'a mut Meter,
    ) -> Later<'a, LoadResult>;
}

/// What systems are started with.
#[derive(Clone, Copy, Debug)]
pub struct SetUp<'a> {
    /// The understudy binary.
    pub binary: &'a Path,
    /// Whether Redis rewrites an append-only file that has grown, as it does by default.
    pub aof_rewrite: bool,
    /// Raised when the user wants to stop.
    pub interrupt: &'a Interrupt,
}

/// Starts a system with its data below `folder`, and returns once it is ready.
pub async fn start(
    kind: SystemKind,
    set_up: SetUp<'_>,
    folder: &Path,
) -> anyhow::Result<Box<dyn System>> {
    let rewrite = set_up.aof_rewrite;
    Ok(match kind {
        SystemKind::OursAsync
        | SystemKind::OursSemiSync
        | SystemKind::OursSync
        | SystemKind::OursAlone => Box::new(ours::Ours::start(kind, set_up, folder)?),
        SystemKind::RedisPair => Box::new(redis::Redis::start(folder, true, rewrite).await?),
        SystemKind::RedisAlone => Box::new(redis::Redis::start(folder, false, rewrite).await?),
        SystemKind::Etcd => Box::new(etcd::Etcd::start(folder).await?),
        SystemKind::Postgres => Box::new(postgres::Postgres::start(folder).await?),
    })
}
