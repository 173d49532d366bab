//! A standby that was killed, and away while many records were written, comes back: from its start
//! until it has applied what the primary had then. Nobody writes meanwhile.
//!
//! Two data nodes and a witness, semi-sync: in sync mode the primary would not have written alone.
//! Each round has clusters of its own, so that each standby lacks new keys, as an empty replica of
//! Redis does, which gets all of the same data.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use understudy::cli::local_cluster::Plan;

use crate::scale::Run;
use crate::scale::axis::{Axis, Who};
use crate::scale::fill::fill;
use crate::scale::first_answer::START_PATIENCE;
use crate::scale::press::Pressure;
use crate::scale::redis::Redis;
use crate::systems::ours::Ours;

/// A log that no run fills: no snapshot is made, and no record goes.
pub(super) const KEEPS_ITS_LOG: &str =
    "[wal]\nretain = \"1000 GiB\"\nstandby_retain = \"1000 GiB\"\n";
const UNPACED: &str = "[limits]\ncopy_rate = 0\n";

/// From so many records on there is one round where others have three.
const LONG_RECORDS: u64 = 5_000_000;
/// Pause between two looks at a standby.
const PAUSE: Duration = Duration::from_millis(5);

impl Run<'_> {
    pub(super) async fn catch_up(&mut self, records: u64) -> anyhow::Result<()> {
        let value_bytes = Pressure::STANDARD.value_bytes;
        let mut redis = Redis::start(self.folder, 0).await?;
        fill(redis.address(), records, value_bytes).await?;
        for round in 1..=self.catch_up_rounds(records) {
            let place = self.place(Axis::CatchUp, records, round);
            for (who, limits) in [(Who::Unpaced, UNPACED), (Who::Paced, "")] {
                let plan = Plan {
                    more_toml: format!("{KEEPS_ITS_LOG}{limits}"),
                    ..Plan::pair_with_witness("catch-up")
                };
                let mut ours = self.start_ours(plan)?;
                let took = self.catch_up_once(&mut ours, records).await?;
                self.note_records(place, who, took);
            }
            let took = redis.sync_blank_replica().await?;
            self.note_records(place, Who::Redis, took);
        }
        Ok(())
    }

    /// Every round writes all records twice, which for ten million of them takes minutes.
    fn catch_up_rounds(&self, records: u64) -> u32 {
        let rounds = self.args.rounds;
        if records < LONG_RECORDS {
            rounds
        } else {
            rounds.div_ceil(3)
        }
    }

    async fn catch_up_once(&self, ours: &mut Ours, records: u64) -> anyhow::Result<Duration> {
        let primary = ours.primary()?;
        let address = ours.address()?;
        let cluster = ours.cluster();
        let plan = cluster.plan().clone();
        let mut others = plan.ids().filter(|id| *id != primary);
        let standby = others.find(|id| !plan.is_witness(*id));
        let standby = standby.context("there are two data nodes")?;
        cluster.kill9(standby)?;
        fill(address, records, Pressure::STANDARD.value_bytes).await?;
        let target = applied(ours, primary)?.context("the primary does not say what it applied")?;
        let began = Instant::now();
        ours.cluster().start(standby)?;
        loop {
            self.interrupt.check()?;
            ours.cluster().notice_deaths()?;
            let reached = applied(ours, standby)?;
            if reached >= Some(target) {
                return Ok(began.elapsed());
            }
            anyhow::ensure!(
                began.elapsed() < START_PATIENCE,
                "the standby was not level after {START_PATIENCE:?}: it has applied {reached:?} of \
                 {target} records"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The last record that a node says its readers see; none while it does not answer.
fn applied(ours: &mut Ours, id: u32) -> anyhow::Result<Option<u64>> {
    let seen = ours.cluster().cluster_json(id)?;
    Ok(seen.and_then(|seen| seen.member(id)?.applied_lsn))
}
