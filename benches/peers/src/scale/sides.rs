//! The servers of one measurement: clusters of ours and one Redis, side by side on one machine.

use std::net::SocketAddr;

use anyhow::Context as _;
use understudy::cli::local_cluster::Plan;

use super::Run;
use super::axis::Who;
use super::fill::fill;
use super::redis::Redis;
use crate::proc_table::resident_bytes;
use crate::quiet;
use crate::ring::QUIET_PATIENCE;
use crate::systems::SetUp;
use crate::systems::ours::Ours;

/// At rest, all servers of a measurement use less than this, in cores. (The ring, which runs three
/// times as many as most of these, measures 0.06 to 0.08.)
const REST_CORES: f64 = 0.05;

/// A primary and so many standbys, with a witness where only that gives a majority without one.
pub fn with_standbys(mode: &str, standbys: u32) -> Plan {
    Plan {
        mode: mode.to_owned(),
        level: None,
        data_nodes: standbys + 1,
        witness: standbys == 1,
        ..Plan::pair_with_witness(mode)
    }
}

/// The copies that sync mode waits for beside the primary's: a majority of the data nodes, at least
/// two where there are two.
fn copies_elsewhere(standbys: u32) -> u32 {
    standbys.div_ceil(2)
}

/// Whom to press, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// Who answers.
    pub who: Who,
    /// Where.
    pub address: SocketAddr,
    /// Redis replicas to wait for after each batch of writes; 0: none.
    pub wait_replicas: u32,
    /// The system's processes.
    pub roots: Vec<u32>,
    /// The one that holds the data that clients ask for.
    pub holder: Option<u32>,
}

/// Servers that run. Dropping it ends them.
pub struct Sides {
    /// Ours, each with the name of its curve.
    pub ours: Vec<(Who, Ours)>,
    /// Redis.
    pub redis: Redis,
    redis_lines: Vec<(Who, u32)>,
}

impl Sides {
    /// Two data nodes and a witness beside Redis and a replica.
    pub async fn start_standard(run: &Run<'_>) -> anyhow::Result<Sides> {
        let ours = [(Who::Sync, with_standbys("sync", 1))];
        Sides::start(run, ours, 1, vec![(Who::RedisWaitOne, 1)]).await
    }

    /// The same with any number of standbys and replicas, in both modes and both ways.
    pub async fn start_with_standbys(run: &Run<'_>, standbys: u32) -> anyhow::Result<Sides> {
        let ours = [
            (Who::Sync, with_standbys("sync", standbys)),
            (Who::Async, with_standbys("async", standbys)),
        ];
        let redis = vec![
            (Who::RedisWaitMajority, copies_elsewhere(standbys)),
            (Who::Redis, 0),
        ];
        Sides::start(run, ours, standbys as usize, redis).await
    }

    /// Starts clusters of ours and a Redis, and waits until all standbys follow. `redis_lines` are
    /// Redis's curves, each with the replicas that its `WAIT` names.
    async fn start(
        run: &Run<'_>,
        plans: impl IntoIterator<Item = (Who, Plan)>,
        replicas: usize,
        redis_lines: Vec<(Who, u32)>,
    ) -> anyhow::Result<Sides> {
        let mut ours = Vec::new();
        for (who, plan) in plans {
            ours.push((who, run.start_ours(plan)?));
        }
        let redis = Redis::start(run.folder, replicas).await;
        Ok(Sides {
            ours,
            redis: redis.context("cannot start redis")?,
            redis_lines,
        })
    }

    /// Everybody, as they are now: a takeover in between is no harm.
    pub fn targets(&mut self) -> anyhow::Result<Vec<Target>> {
        use crate::systems::System as _;
        let mut targets = Vec::new();
        for (who, ours) in &mut self.ours {
            targets.push(Target {
                who: *who,
                address: ours.address()?,
                wait_replicas: 0,
                roots: ours.roots(),
                holder: ours.holder(),
            });
        }
        self.redis.check()?;
        for (who, wait_replicas) in &self.redis_lines {
            targets.push(Target {
                who: *who,
                address: self.redis.address(),
                wait_replicas: *wait_replicas,
                roots: self.redis.roots(),
                holder: self.redis.holder(),
            });
        }
        Ok(targets)
    }

    /// Writes all keys into everybody. What that costs each one's holder in memory, bytes.
    pub async fn fill(&mut self, keys: u64, bytes: usize) -> anyhow::Result<Vec<(Who, u64)>> {
        let mut growth = Vec::new();
        let mut filled: Vec<SocketAddr> = Vec::new();
        for target in self.targets()? {
            if filled.contains(&target.address) {
                continue;
            }
            let before = target.holder.and_then(resident_bytes);
            fill(target.address, keys, bytes).await?;
            let after = target.holder.and_then(resident_bytes);
            if let (Some(before), Some(after)) = (before, after) {
                growth.push((target.who, after.saturating_sub(before)));
            }
            filled.push(target.address);
        }
        self.redis.wait_in_step().await?;
        Ok(growth)
    }

    /// Waits until all servers have come to rest. Whether they have.
    pub async fn wait_quiet(&mut self) -> anyhow::Result<bool> {
        let all: Vec<u32> = self
            .targets()?
            .into_iter()
            .flat_map(|one| one.roots)
            .collect();
        quiet::wait(&all, REST_CORES, QUIET_PATIENCE).await
    }
}

impl Run<'_> {
    /// Starts a cluster of ours and waits until its standbys follow.
    pub fn start_ours(&self, plan: Plan) -> anyhow::Result<Ours> {
        let set_up = SetUp {
            binary: self.binary,
            aof_rewrite: false,
            interrupt: self.interrupt,
        };
        Ours::start_plan(plan, set_up, self.folder).context("cannot start understudy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_counted_without_the_primary() {
        let elsewhere: Vec<u32> = (0..5).map(copies_elsewhere).collect();
        assert_eq!(elsewhere, [0, 1, 1, 2, 2]);
    }
}
