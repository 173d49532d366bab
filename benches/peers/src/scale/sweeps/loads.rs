//! Keys, values, clients, pipelines and standbys: what a load costs as they grow.
//!
//! Each round presses everybody in turn at each of the points that share their servers.

use anyhow::Context as _;

use super::restart::{kill_data_nodes, restart};
use crate::cells::Operation::{self, Get, Set};
use crate::scale::Run;
use crate::scale::axis::{Axis, Figure, Who};
use crate::scale::press::Pressure;
use crate::scale::sides::Sides;

impl Run<'_> {
    pub(super) async fn loads(&mut self, axis: Axis, points: &[u64]) -> anyhow::Result<()> {
        let first = *points.first().context("a sweep has a point")?;
        let Pressure {
            keys, value_bytes, ..
        } = Pressure::at(axis, first);
        let mut sides = match axis {
            Axis::Standbys => Sides::start_with_standbys(self, first as u32).await?,
            _ => Sides::start_standard(self).await?,
        };
        let growth = sides.fill(keys, value_bytes).await?;
        if axis == Axis::Keys {
            self.note_memory(keys, &growth);
        }
        for round in 1..=self.args.rounds {
            for at in points {
                let place = self.place(axis, *at, round);
                let pressure = Pressure::at(axis, *at);
                self.press(&mut sides, place, pressure, operations(axis))
                    .await?;
            }
        }
        if axis == Axis::Keys {
            self.restarts(&mut sides, keys).await?;
        }
        Ok(())
    }

    fn note_memory(&mut self, keys: u64, growth: &[(Who, u64)]) {
        for (who, bytes) in growth {
            let place = self.place(Axis::Keys, keys, 1);
            let each = *bytes as f64 / keys as f64;
            self.say(place, *who, &format!("{each:.0} bytes of memory per key"));
            self.results.add(place, *who, Figure::BytesPerKey, each);
        }
    }

    /// Kills all data nodes, then each round starts those of one system after the other: from
    /// their start to the first answer, from what is on their disks. Our witness stays, as another
    /// machine would; the primary alone would not answer, since what it read back is known to be
    /// released only once its standby has confirmed the new epoch (R8).
    async fn restarts(&mut self, sides: &mut Sides, keys: u64) -> anyhow::Result<()> {
        // Unless told not to, Redis would have done so by itself meanwhile, as we make snapshots.
        sides.redis.rewrite().await?;
        let (_, ours) = sides.ours.first_mut().context("one of ours was started")?;
        let primary = ours.primary()?;
        kill_data_nodes(ours.cluster(), Some(primary))?;
        sides.redis.kill();
        for round in 1..=self.args.rounds {
            let place = self.place(Axis::Keys, keys, round);
            let took = restart(ours.cluster()).await?;
            self.note_restart(place, Who::Sync, took);
            kill_data_nodes(ours.cluster(), None)?;
            let took = sides.redis.restart().await?;
            self.note_restart(place, Who::RedisWaitOne, took);
            sides.redis.kill();
        }
        Ok(())
    }
}

/// Writes have the long way; what a read costs depends on the number of keys alone.
fn operations(axis: Axis) -> &'static [Operation] {
    match axis {
        Axis::Keys => &[Set, Get],
        _ => &[Set],
    }
}
