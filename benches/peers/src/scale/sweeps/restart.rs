//! Data nodes of ours that are killed and started again.

use std::time::{Duration, Instant};

use understudy::cli::local_cluster::LocalCluster;

use crate::scale::first_answer::first_answer;

fn data_nodes(cluster: &LocalCluster) -> Vec<u32> {
    let plan = cluster.plan();
    plan.ids().filter(|id| !plan.is_witness(*id)).collect()
}

/// Kills all data nodes, the one named last: its standby would take over.
pub fn kill_data_nodes(cluster: &mut LocalCluster, last: Option<u32>) -> anyhow::Result<()> {
    let mut nodes = data_nodes(cluster);
    nodes.sort_by_key(|id| Some(*id) == last);
    for id in nodes {
        cluster.kill9(id)?;
    }
    Ok(())
}

/// Starts all data nodes on what they left on their disks: the time until one answers.
pub async fn restart(cluster: &mut LocalCluster) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut addresses = Vec::new();
    for id in data_nodes(cluster) {
        cluster.start(id)?;
        addresses.push(cluster.client_addr(id)?);
    }
    first_answer(&addresses, began, || Ok(cluster.notice_deaths()?)).await
}
