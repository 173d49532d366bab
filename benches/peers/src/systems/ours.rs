//! understudy: two data nodes and a witness in one of the modes, or one node alone.
//!
//! Each mode with its own default level and `fsync = "always"`, the default: what a user gets who
//! names only the mode.

use std::net::SocketAddr;
use std::path::Path;

use understudy::cli::load::throughput::LoadResult;
use understudy::cli::local_cluster::{Folder, LocalCluster, Plan};

use super::{Later, START_PATIENCE, SetUp, System, resp};
use crate::cells::{Line, SystemKind};
use crate::interrupt::Interrupt;
use crate::measure::{Load, Meter};

/// A cluster of `serve` processes.
pub struct Ours {
    cluster: LocalCluster,
    interrupt: Interrupt,
}

impl Ours {
    /// Starts it and waits until the standby streams.
    pub fn start(kind: SystemKind, set_up: SetUp<'_>, folder: &Path) -> anyhow::Result<Ours> {
        Ours::start_plan(plan(kind), set_up, folder)
    }

    /// The same for a cluster of any shape.
    pub fn start_plan(plan: Plan, set_up: SetUp<'_>, folder: &Path) -> anyhow::Result<Ours> {
        let folder = Folder::create(Some(folder), &plan.name)?;
        let mut cluster = LocalCluster::prepare(set_up.binary, plan, folder)?;
        cluster.start_all()?;
        let mut ours = Ours {
            cluster,
            interrupt: set_up.interrupt.clone(),
        };
        ours.primary()?;
        Ok(ours)
    }

    /// The primary's number, all its standbys streaming. A takeover in between is no harm: the next
    /// load goes to the winner.
    pub fn primary(&mut self) -> anyhow::Result<u32> {
        let interrupt = &self.interrupt;
        self.cluster
            .wait_ready(START_PATIENCE, || interrupt.check())
    }

    /// Where clients reach the primary.
    pub fn address(&mut self) -> anyhow::Result<SocketAddr> {
        let primary = self.primary()?;
        Ok(self.cluster.client_addr(primary)?)
    }

    /// Its processes, to kill and start one by one.
    pub fn cluster(&mut self) -> &mut LocalCluster {
        &mut self.cluster
    }
}

fn plan(kind: SystemKind) -> Plan {
    let mode = match kind {
        SystemKind::OursSync => "sync",
        SystemKind::OursSemiSync => "semi-sync",
        _ => "async",
    };
    let alone = kind == SystemKind::OursAlone;
    let name = if alone { "alone" } else { mode };
    Plan {
        mode: mode.to_owned(),
        level: None,
        data_nodes: if alone { 1 } else { 2 },
        witness: !alone,
        ..Plan::pair_with_witness(name)
    }
}

impl System for Ours {
    fn roots(&self) -> Vec<u32> {
        let ids = self.cluster.ids().into_iter();
        ids.filter_map(|id| self.cluster.process_id(id)).collect()
    }

    fn holder(&self) -> Option<u32> {
        let primary = self.cluster.primary().ok()??;
        self.cluster.process_id(primary)
    }

    fn check(&mut self) -> anyhow::Result<()> {
        Ok(self.cluster.notice_deaths()?)
    }

    fn fill(&mut self, keys: u64, value_bytes: usize) -> Later<'_, ()> {
        Box::pin(async move { resp::fill(self.address()?, keys, value_bytes).await })
    }

    fn load<'a>(
        &'a mut self,
        _line: Line,
        load: &'a Load,
        meter: &'a mut Meter,
    ) -> Later<'a, LoadResult> {
        Box::pin(async move { resp::run(self.address()?, 0, load, meter).await })
    }

    fn resp_address(&self) -> Option<SocketAddr> {
        let primary = self.cluster.primary().ok()??;
        self.cluster.client_addr(primary).ok()
    }
}
