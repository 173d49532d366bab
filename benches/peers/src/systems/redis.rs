//! redis-server, alone or with one replica, its append-only file synced before each answer on both.
//!
//! Rewriting of a grown append-only file is off unless asked for: it takes a core for a second or
//! two of every few measurements, which is hard on Redis where there are two. All other settings
//! are redis-server's own.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use rustix::process::Signal;
use understudy::cli::load::connection::reply_bytes;
use understudy::cli::load::throughput::LoadResult;
use understudy::cli::local_cluster::ports::Reservation;

use super::{Later, START_PATIENCE, System, resp};
use crate::cells::{Line, Operation};
use crate::measure::{Load, Meter};
use crate::servers::{Server, command_as, wait_until};

/// A primary, and perhaps its replica.
pub struct Redis {
    // Before the ports: a server must be gone before its port is given back.
    primary: Server,
    replica: Option<Server>,
    address: SocketAddr,
    _ports: Vec<Reservation>,
}

impl Redis {
    /// Starts it and waits until the replica is in step.
    pub async fn start(folder: &Path, with_replica: bool, rewrite: bool) -> anyhow::Result<Redis> {
        let port = Reservation::take()?;
        let address = port.address();
        let mut ports = vec![port];
        let mut primary = start_server(folder, "redis", address, None, rewrite)?;
        wait_until("redis", START_PATIENCE, &mut [&mut primary], || {
            answers(address)
        })
        .await?;
        let mut replica = None;
        if with_replica {
            let port = Reservation::take()?;
            let mut server = start_server(
                folder,
                "redis-replica",
                port.address(),
                Some(address),
                rewrite,
            )?;
            let mut both = [&mut primary, &mut server];
            wait_until("redis's replica", START_PATIENCE, &mut both, || {
                is_linked(address)
            })
            .await?;
            replica = Some(server);
            ports.push(port);
        }
        Ok(Redis {
            primary,
            replica,
            address,
            _ports: ports,
        })
    }
}

/// Starts one redis-server with its data in `folder/name`, which may be there from before: a replica
/// where a primary is named. It is ended with SIGKILL.
pub fn start_server(
    folder: &Path,
    name: &str,
    address: SocketAddr,
    primary: Option<SocketAddr>,
    rewrite: bool,
) -> anyhow::Result<Server> {
    let data = folder.join(name);
    std::fs::create_dir_all(&data).with_context(|| format!("cannot create {}", data.display()))?;
    let mut command = command_as(None, Path::new("redis-server"), true);
    command
        .args(["--bind", "127.0.0.1", "--daemonize", "no"])
        .args(["--port", &address.port().to_string()])
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .args(["--save", ""])
        .arg("--dir")
        .arg(&data);
    if !rewrite {
        command.args(["--auto-aof-rewrite-percentage", "0"]);
    }
    if let Some(primary) = primary {
        let (host, port) = (primary.ip().to_string(), primary.port().to_string());
        command.arg("--replicaof").arg(host).arg(port);
    }
    let log = folder.join(format!("{name}.log"));
    Server::start(name, command, log, Signal::KILL)
}

/// Whether a server answers there.
pub async fn answers(address: SocketAddr) -> anyhow::Result<bool> {
    let reply = resp::ask(address, &[b"PING"]).await?;
    Ok(reply_bytes(&reply) == Some(b"PONG"))
}

/// Whether the primary streams to a replica that has its first copy.
async fn is_linked(primary: SocketAddr) -> anyhow::Result<bool> {
    let info = resp::ask(primary, &[b"INFO", b"replication"]).await?;
    let info = reply_bytes(&info).map(String::from_utf8_lossy);
    Ok(info.is_some_and(|info| info.contains("state=online")))
}

impl System for Redis {
    fn roots(&self) -> Vec<u32> {
        let replica = self.replica.as_ref().map(Server::pid);
        std::iter::once(self.primary.pid()).chain(replica).collect()
    }

    fn holder(&self) -> Option<u32> {
        Some(self.primary.pid())
    }

    fn check(&mut self) -> anyhow::Result<()> {
        self.primary.check()?;
        self.replica.as_mut().map_or(Ok(()), Server::check)
    }

    fn fill(&mut self, keys: u64, value_bytes: usize) -> Later<'_, ()> {
        Box::pin(resp::fill(self.address, keys, value_bytes))
    }

    fn load<'a>(
        &'a mut self,
        line: Line,
        load: &'a Load,
        meter: &'a mut Meter,
    ) -> Later<'a, LoadResult> {
        let waits = line == Line::RedisWait && load.shape.operation == Operation::Set;
        Box::pin(resp::run(self.address, u32::from(waits), load, meter))
    }

    fn resp_address(&self) -> Option<SocketAddr> {
        Some(self.address)
    }
}
