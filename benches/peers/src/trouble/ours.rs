//! understudy's set-ups: started, put to sleep, woken, and asked.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use understudy::cli::local_cluster::{Folder, LocalCluster, Plan};

use crate::interrupt::Interrupt;

/// How long a cluster may take until it is ready: its nodes may have a long log to replay.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of log that no run writes: no snapshot is made because of them, and none is removed.
const NEVER: &str = "100 GiB";

/// A cluster of `serve` processes. Dropping it ends them and removes their data.
pub struct Cluster {
    local: LocalCluster,
    interrupt: Interrupt,
}

/// Two data nodes and a witness in sync mode; `retain`: bytes of log after which a snapshot is
/// made.
pub fn pair(name: &str, retain: Option<u64>, more_toml: &str) -> Plan {
    let retain = retain.map_or(format!("\"{NEVER}\""), |bytes| bytes.to_string());
    Plan {
        mode: "sync".to_owned(),
        level: None,
        more_toml: format!("[wal]\nretain = {retain}\n{more_toml}"),
        ..Plan::pair_with_witness(name)
    }
}

/// Three data nodes in sync mode: writes go on without any one of them.
pub fn three(name: &str) -> Plan {
    Plan {
        more_toml: format!("[wal]\nretain = \"{NEVER}\"\nstandby_retain = \"{NEVER}\"\n"),
        ..Plan::three_data_nodes(name)
    }
}

/// One node, which makes no snapshot.
pub fn alone(name: &str) -> Plan {
    Plan {
        data_nodes: 1,
        witness: false,
        mode: "async".to_owned(),
        level: None,
        more_toml: format!("[wal]\nretain = \"{NEVER}\"\n"),
        ..Plan::pair_with_witness(name)
    }
}

/// Two data nodes and a witness in semi-sync mode: writes go on while the standby is away, and all
/// of them are kept for it. With `unpaced` nothing that a standby is sent is held back.
pub fn semi_sync(name: &str, retain: u64, unpaced: bool) -> Plan {
    let limits = match unpaced {
        true => "[limits]\ncopy_rate = 0\n",
        false => "",
    };
    Plan {
        level: None,
        more_toml: format!("[wal]\nretain = {retain}\nstandby_retain = \"{NEVER}\"\n{limits}"),
        ..Plan::pair_with_witness(name)
    }
}

impl Cluster {
    /// Starts all of it and waits until every standby streams.
    pub fn start(
        binary: &Path,
        folder: &Path,
        plan: Plan,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Cluster> {
        let folder = Folder::create(Some(folder), &plan.name)?;
        let mut cluster = Cluster {
            local: LocalCluster::prepare(binary, plan, folder)?,
            interrupt: interrupt.clone(),
        };
        cluster.wake()?;
        Ok(cluster)
    }

    /// Starts what does not run, and waits until it is ready; the primary's number.
    pub fn wake(&mut self) -> anyhow::Result<u32> {
        self.local.start_all()?;
        self.primary()
    }

    /// Kills all nodes. Their data stay for [`Cluster::wake`].
    pub fn sleep(&mut self) -> anyhow::Result<()> {
        for id in self.local.ids() {
            if self.local.is_running(id)? {
                self.local.kill9(id)?;
            }
        }
        Ok(())
    }

    /// Waits until there is a primary that every running node follows.
    pub fn primary(&mut self) -> anyhow::Result<u32> {
        let interrupt = &self.interrupt;
        self.local.wait_ready(READY_PATIENCE, || interrupt.check())
    }

    /// Where clients reach the primary, once it is ready.
    pub fn address(&mut self) -> anyhow::Result<SocketAddr> {
        let primary = self.primary()?;
        self.client(primary)
    }

    /// Where clients reach this node.
    pub fn client(&self, id: u32) -> anyhow::Result<SocketAddr> {
        Ok(self.local.client_addr(id)?)
    }

    /// Where clients reach each node.
    pub fn clients(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let ids = self.local.ids().into_iter();
        ids.map(|id| self.client(id)).collect()
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.local.plan().name
    }

    /// The nodes that hold data.
    pub fn data_nodes(&self) -> Vec<u32> {
        let plan = self.local.plan();
        plan.ids().filter(|id| !plan.is_witness(*id)).collect()
    }

    /// A data node that follows; the last one.
    pub fn standby(&mut self) -> anyhow::Result<u32> {
        let primary = self.primary()?;
        let mut nodes = self.data_nodes().into_iter().rev();
        let standby = nodes.find(|id| *id != primary);
        standby.context("this cluster has no standby")
    }

    /// The process ids of all that runs.
    pub fn roots(&self) -> Vec<u32> {
        let ids = self.local.ids().into_iter();
        ids.filter_map(|id| self.local.process_id(id)).collect()
    }

    /// SIGKILL; returns once the process is gone.
    pub fn kill(&mut self, id: u32) -> anyhow::Result<()> {
        Ok(self.local.kill9(id)?)
    }

    /// Starts a node that does not run; does not wait for it.
    pub fn start_node(&mut self, id: u32) -> anyhow::Result<()> {
        Ok(self.local.start(id)?)
    }

    /// Removes all that a node has kept. It must not run.
    pub fn wipe(&mut self, id: u32) -> anyhow::Result<()> {
        let data = self.data_dir(id);
        std::fs::remove_dir_all(&data)
            .and_then(|()| std::fs::create_dir(&data))
            .with_context(|| format!("cannot empty {}", data.display()))
    }

    /// This folder of each data node: `wal` or `snapshot`.
    pub fn folders(&mut self, name: &str) -> Vec<PathBuf> {
        let nodes = self.data_nodes().into_iter();
        nodes.map(|id| self.data_dir(id).join(name)).collect()
    }

    fn data_dir(&mut self, id: u32) -> PathBuf {
        self.local.folder().path().join(format!("node-{id}"))
    }

    /// A number of `/metrics` (without its prefix), added up over the data nodes.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let nodes = self.data_nodes().into_iter();
        nodes.map(|id| self.metric_of(id, name)).sum()
    }

    /// A number of `/metrics` of one node.
    pub fn metric_of(&self, id: u32, name: &str) -> anyhow::Result<f64> {
        let mut text = String::new();
        let mut answer = self.local.http(id)?.download("/metrics")?;
        let read = answer.read_to_string(&mut text);
        read.with_context(|| format!("node {id} did not tell its metrics"))?;
        metric_in(&text, name).with_context(|| format!("node {id} tells no metric {name}"))
    }

    /// From its next start on, a node makes no snapshot by itself.
    pub fn keep_log(&mut self, id: u32) -> anyhow::Result<()> {
        let config = self.data_dir(id).with_extension("toml");
        let text = std::fs::read_to_string(&config);
        let text = text.with_context(|| format!("cannot read {}", config.display()))?;
        let never = format!("retain = \"{NEVER}\"");
        let line = |line: &str| match line.starts_with("retain = ") {
            true => never.clone() + "\n",
            false => line.to_owned() + "\n",
        };
        let text: String = text.lines().map(line).collect();
        std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))
    }

    /// Waits until each of these nodes has finished a snapshot and makes none.
    pub async fn until_snapshots(&mut self, nodes: &[u32]) -> anyhow::Result<()> {
        const PAUSE: Duration = Duration::from_millis(50);
        let all_there = async {
            for id in nodes {
                let folder = self.data_dir(*id).join("snapshot");
                while !has_snapshot(&folder)? {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            anyhow::Ok(())
        };
        let waited = tokio::time::timeout(READY_PATIENCE, all_there).await;
        waited.with_context(|| format!("a node made no snapshot within {READY_PATIENCE:?}"))?
    }
}

fn has_snapshot(folder: &Path) -> anyhow::Result<bool> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot look into {}", folder.display()))?;
    let names: Result<Vec<_>, _> = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect();
    let names = names.with_context(|| format!("cannot look into {}", folder.display()))?;
    let ends = |end: &str| names.iter().any(|name| name.ends_with(end));
    Ok(ends(".snap") && !ends(".tmp"))
}

fn metric_in(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines.find(|(key, _)| key.strip_prefix("understudy_") == Some(name))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# TYPE understudy_keys gauge\nunderstudy_keys_expiring 3\nunderstudy_keys 17\n";
        assert_eq!(metric_in(text, "keys"), Some(17.0));
        assert_eq!(metric_in(text, "key"), None);
    }
}
