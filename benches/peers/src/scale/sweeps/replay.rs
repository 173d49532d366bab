//! A start that has no snapshot: every record of the log is read and applied, beside Redis, which
//! loads an append-only file of the same SETs. One node each; both files are in the page cache.

use understudy::cli::local_cluster::Plan;

use super::catch_up::KEEPS_ITS_LOG;
use super::restart::{kill_data_nodes, restart};
use crate::scale::Run;
use crate::scale::axis::{Axis, Who};
use crate::scale::fill::fill;
use crate::scale::press::Pressure;
use crate::scale::redis::Redis;
use crate::scale::sides::with_standbys;

impl Run<'_> {
    pub(super) async fn replay(&mut self, records: u64) -> anyhow::Result<()> {
        let plan = Plan {
            more_toml: KEEPS_ITS_LOG.to_owned(),
            ..with_standbys("async", 0)
        };
        let mut ours = self.start_ours(plan)?;
        let mut redis = Redis::start(self.folder, 0).await?;
        fill(ours.address()?, records, Pressure::STANDARD.value_bytes).await?;
        fill(redis.address(), records, Pressure::STANDARD.value_bytes).await?;
        let cluster = ours.cluster();
        kill_data_nodes(cluster, None)?;
        redis.kill();
        for round in 1..=self.args.rounds {
            let place = self.place(Axis::Replay, records, round);
            let took = restart(cluster).await?;
            self.note_records(place, Who::Alone, took);
            kill_data_nodes(cluster, None)?;
            let took = redis.restart().await?;
            self.note_records(place, Who::Redis, took);
            redis.kill();
        }
        Ok(())
    }
}
