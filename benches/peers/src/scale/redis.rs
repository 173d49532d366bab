//! redis-server with any number of replicas, killed and started server by server.
//!
//! Set up as in the ring (append-only file synced before each answer, no rewriting, no RDB), but
//! for one setting: a primary serves a replica that asks at once, instead of waiting five seconds
//! for others to come along, which would be counted as its catching up.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use understudy::cli::load::connection::reply_bytes;
use understudy::cli::local_cluster::Folder;
use understudy::cli::local_cluster::ports::Reservation;

use super::first_answer::{START_PATIENCE, first_answer};
use crate::servers::{Server, wait_until};
use crate::systems::redis::{answers, start_server};
use crate::systems::resp;

/// Pause between two looks at something that Redis does by itself.
const PAUSE: Duration = Duration::from_millis(5);

/// A primary and its replicas. Dropping it ends them.
pub struct Redis {
    // Before the ports and the folder: a server must be gone before these are given back.
    primary: Option<Server>,
    replicas: Vec<Server>,
    port: Reservation,
    replica_ports: Vec<Reservation>,
    folder: Folder,
}

impl Redis {
    /// Starts it and waits until all replicas are in step.
    pub async fn start(parent: &Path, replicas: usize) -> anyhow::Result<Redis> {
        let mut redis = Redis {
            primary: None,
            replicas: Vec::new(),
            port: Reservation::take()?,
            replica_ports: Vec::new(),
            folder: Folder::create(Some(parent), "redis")?,
        };
        let address = redis.address();
        let primary = redis.start_primary()?;
        let ready = || answers(address);
        wait_until("redis", START_PATIENCE, &mut [primary], ready).await?;
        let at_once: &[&[u8]] = &[b"CONFIG", b"SET", b"repl-diskless-sync-delay", b"0"];
        resp::ask(address, at_once).await?;
        for _ in 0..replicas {
            redis.add_replica()?;
        }
        redis.wait_in_step().await?;
        Ok(redis)
    }

    /// Waits until all replicas have what the primary has now. One that could not keep up while ten
    /// million keys were written is cut off, for its buffer at the primary is full, and has to copy
    /// everything; until then `WAIT` would never end.
    pub async fn wait_in_step(&mut self) -> anyhow::Result<()> {
        let (address, replicas) = (self.address(), self.replicas.len());
        let state = info(address, "replication").await?;
        let target = number(&state, "master_repl_offset").context("redis states no offset")?;
        let mut all: Vec<&mut Server> = self.primary.iter_mut().collect();
        all.extend(self.replicas.iter_mut());
        let are = || async move {
            let state = info(address, "replication").await?;
            Ok(replicas_at(&state, target) == replicas)
        };
        wait_until("redis's replicas", START_PATIENCE, &mut all, are).await
    }

    /// Where clients reach the primary.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// All its processes.
    pub fn roots(&self) -> Vec<u32> {
        let all = self.primary.iter().chain(&self.replicas);
        all.map(Server::pid).collect()
    }

    /// The primary's process.
    pub fn holder(&self) -> Option<u32> {
        self.primary.as_ref().map(Server::pid)
    }

    /// An error if one of them ended by itself.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let mut all = self.primary.iter_mut().chain(&mut self.replicas);
        all.try_for_each(Server::check)
    }

    /// SIGKILL to all, and waits until they are gone.
    pub fn kill(&mut self) {
        self.replicas.clear();
        self.primary = None;
    }

    /// Starts all again on what they left on their disks: the time until the primary answers.
    pub async fn restart(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.start_primary()?;
        for index in 0..self.replica_ports.len() {
            self.start_replica(index)?;
        }
        let address = [self.address()];
        first_answer(&address, began, || self.check()).await
    }

    /// Starts a replica that has nothing: the time until it has what the primary has now. It is
    /// gone afterwards.
    pub async fn sync_blank_replica(&mut self) -> anyhow::Result<Duration> {
        let state = info(self.address(), "replication").await?;
        let target = number(&state, "master_repl_offset").context("redis states no offset")?;
        let began = Instant::now();
        let replica = self.add_replica()?;
        let took = self.until_level(replica, target, began).await;
        self.replicas.pop();
        self.replica_ports.pop();
        let left = self.folder.path().join(replica_name(replica));
        std::fs::remove_dir_all(&left)
            .with_context(|| format!("cannot remove {}", left.display()))?;
        took
    }

    async fn until_level(
        &mut self,
        replica: SocketAddr,
        target: u64,
        began: Instant,
    ) -> anyhow::Result<Duration> {
        loop {
            self.check()?;
            // While the replica starts, it refuses.
            let state = info(replica, "replication").await.unwrap_or_default();
            let offset = number(&state, "slave_repl_offset");
            if state.contains("master_link_status:up") && offset >= Some(target) {
                return Ok(began.elapsed());
            }
            anyhow::ensure!(
                began.elapsed() < START_PATIENCE,
                "redis's replica was not level with its primary after {START_PATIENCE:?}: {}",
                self.replicas.last().map(Server::tail).unwrap_or_default()
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn start_primary(&mut self) -> anyhow::Result<&mut Server> {
        let (folder, address) = (self.folder.path(), self.address());
        let primary = start_server(folder, "redis", address, None, false)?;
        Ok(self.primary.insert(primary))
    }

    /// Returns at once. Where it is.
    fn add_replica(&mut self) -> anyhow::Result<SocketAddr> {
        let port = Reservation::take()?;
        let address = port.address();
        self.replica_ports.push(port);
        self.start_replica(self.replica_ports.len() - 1)?;
        Ok(address)
    }

    fn start_replica(&mut self, index: usize) -> anyhow::Result<()> {
        let address = self.replica_ports[index].address();
        let name = replica_name(address);
        let (folder, primary) = (self.folder.path(), Some(self.address()));
        let replica = start_server(folder, &name, address, primary, false)?;
        self.replicas.push(replica);
        Ok(())
    }

    /// Has the primary write its append-only file anew, as it does by itself when that has grown.
    pub async fn rewrite(&mut self) -> anyhow::Result<()> {
        resp::ask(self.address(), &[b"BGREWRITEAOF"]).await?;
        let began = Instant::now();
        loop {
            self.check()?;
            let state = info(self.address(), "persistence").await?;
            let is = |field: &str| number(&state, field).unwrap_or(0) > 0;
            if !is("aof_rewrite_in_progress") && !is("aof_rewrite_scheduled") {
                return Ok(());
            }
            anyhow::ensure!(
                began.elapsed() < START_PATIENCE,
                "redis did not rewrite its file within {START_PATIENCE:?}"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// By its port: what an earlier one left is not for the next.
fn replica_name(replica: SocketAddr) -> String {
    format!("replica-{}", replica.port())
}

/// How many stream and have acknowledged so much.
fn replicas_at(replication: &str, target: u64) -> usize {
    let is_there = |line: &&str| {
        let offset = line.split("offset=").nth(1);
        let offset = offset.and_then(|rest| rest.split(',').next()?.parse().ok());
        line.contains("state=online") && offset >= Some(target)
    };
    let replicas = replication.lines().filter(|line| line.starts_with("slave"));
    replicas.filter(is_there).count()
}

async fn info(address: SocketAddr, section: &str) -> anyhow::Result<String> {
    let reply = resp::ask(address, &[b"INFO", section.as_bytes()]).await?;
    let text = reply_bytes(&reply).context("no INFO")?;
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// The number in the line `field:number`.
fn number(info: &str, field: &str) -> Option<u64> {
    let mut lines = info.lines().map(str::trim);
    let value = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_counts_once_it_has_acknowledged() {
        let at =
            |state, offset| format!("slave0:ip=::1,port=1,state={state},offset={offset},lag=0");
        let info = format!(
            "role:master\r\n{}\r\n{}\r\n",
            at("online", 70),
            at("online", 69)
        );
        assert_eq!(replicas_at(&info, 69), 2);
        assert_eq!(replicas_at(&info, 70), 1);
        assert_eq!(replicas_at(&at("send_bulk", 70), 70), 0);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let info = "# Replication\r\nmaster_repl_offset_x:3\r\nmaster_repl_offset:42\r\n";
        assert_eq!(number(info, "master_repl_offset"), Some(42));
        assert_eq!(number(info, "repl_offset"), None);
    }
}
