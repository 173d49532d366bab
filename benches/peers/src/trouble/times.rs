//! The second part: how long a restart takes, and a standby to catch up, beside Redis, in turn.
//!
//! The clock runs from the start of the process until it answers a GET with what was written last,
//! so whoever does has all that was written before.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use super::Args;
use super::cases::{Row, Run};
use super::ours::{self, Cluster};
use super::press::{mark, until_marked};
use super::theirs::{Single, resync_by};
use super::{Scene, say};
use crate::quiet;

/// How long a start or a catch-up may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long what was started before may take to come to rest.
const QUIET_PATIENCE: Duration = Duration::from_secs(20);
/// Cores that servers at rest may use.
const REST_CORES: f64 = 0.1;

/// One run of one round.
#[derive(Clone, Debug, Serialize)]
pub struct Timed {
    /// Which round, from 1.
    pub round: u32,
    /// What.
    pub run: Run,
    /// Records replayed or caught up with, or keys copied.
    pub records: u64,
    /// From the start of the process to the answer; absent where it gave none.
    pub secs: Option<f64>,
    /// Why not.
    pub error: Option<String>,
}

impl Timed {
    /// Records per second.
    pub fn per_second(&self) -> Option<f64> {
        self.secs.map(|secs| self.records as f64 / secs)
    }
}

/// The servers that stay from round to round, and what was found.
pub struct Times<'a> {
    args: &'a Args,
    scene: Scene<'a>,
    restarts: Option<(Cluster, Single)>,
    resynced: Option<Single>,
    /// Everything measured, in the order made.
    pub timed: Vec<Timed>,
}

impl<'a> Times<'a> {
    /// Starts and fills what these rows need.
    pub async fn start(args: &'a Args, scene: Scene<'a>, rows: &[Row]) -> anyhow::Result<Self> {
        let mut times = Times {
            args,
            scene,
            restarts: None,
            resynced: None,
            timed: Vec::new(),
        };
        if rows.contains(&Row::Restart) {
            say("writing the records that a start is to replay, to understudy and redis alone");
            let mut alone = scene.cluster(ours::alone("alone"))?;
            let address = alone.address()?;
            args.write(address).await?;
            mark(address, RESTARTED).await?;
            let single = start_single(&scene, "redis-alone").await?;
            args.write(single.address()).await?;
            mark(single.address(), RESTARTED).await?;
            times.restarts = Some((alone, single));
        }
        if rows.contains(&Row::CatchUpTime) {
            say("filling the redis that is to be resynced from");
            let single = start_single(&scene, "redis-primary").await?;
            args.write(single.address()).await?;
            times.resynced = Some(single);
        }
        Ok(times)
    }

    /// Measures each row's runs once.
    pub async fn round(&mut self, round: u32) -> anyhow::Result<()> {
        if let Some((mut alone, mut single)) = self.restarts.take() {
            let ours = self.restart(&mut alone).await;
            self.note(round, Run::Restart, self.args.records, ours)?;
            let theirs = restart_redis(&mut single).await;
            self.note(round, Run::RedisRestart, self.args.records, theirs)?;
            self.restarts = Some((alone, single));
        }
        if let Some(primary) = self.resynced.take() {
            let keys = self.args.keys.min(self.args.records);
            for (away, blank, unpaced) in [
                (Run::Away, Run::Blank, false),
                (Run::AwayUnpaced, Run::BlankUnpaced, true),
            ] {
                let outcome = self.catch_up(unpaced).await;
                let (first, second) = outcome.unwrap_or_else(|error| {
                    let again = anyhow::anyhow!("{error:#}");
                    (Err(error), Err(again))
                });
                self.note(round, away, self.args.records, first)?;
                self.note(round, blank, keys, second)?;
            }
            for (run, diskless) in [(Run::RedisDisk, false), (Run::RedisDiskless, true)] {
                let marker = format!("{round} {diskless}");
                let outcome = self.resync(&primary, diskless, &marker).await;
                self.note(round, run, keys, outcome)?;
            }
            self.resynced = Some(primary);
        }
        Ok(())
    }

    fn note(
        &mut self,
        round: u32,
        run: Run,
        records: u64,
        outcome: anyhow::Result<Duration>,
    ) -> anyhow::Result<()> {
        // What was interrupted is no finding.
        self.scene.interrupt.check()?;
        let (secs, error) = match outcome {
            Ok(took) => (Some(took.as_secs_f64()), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        let said = match (&secs, &error) {
            (Some(secs), _) => format!("{secs:.2} s"),
            (None, error) => format!("ERROR: {}", error.as_deref().unwrap_or("unknown")),
        };
        say(&format!("round {round}: {}: {said}", run.name()));
        self.timed.push(Timed {
            round,
            run,
            records,
            secs,
            error,
        });
        Ok(())
    }

    /// Kills the only node and starts it again.
    async fn restart(&self, alone: &mut Cluster) -> anyhow::Result<Duration> {
        let node = alone.primary()?;
        alone.kill(node)?;
        let from = Instant::now();
        alone.start_node(node)?;
        let until = until_marked(alone.client(node)?, RESTARTED, PATIENCE).await?;
        quiet::wait(&alone.roots(), REST_CORES, QUIET_PATIENCE).await?;
        Ok(until - from)
    }

    /// A new pair, whose standby is first away from the first record on, and then loses everything.
    /// The outer error: there was nothing to measure with.
    async fn catch_up(
        &self,
        unpaced: bool,
    ) -> anyhow::Result<(anyhow::Result<Duration>, anyhow::Result<Duration>)> {
        let name = if unpaced { "unpaced" } else { "paced" };
        // Once four fifths are written, so that a blank standby finds the log's beginning gone.
        let retain = self.args.records * self.args.record_bytes() * 4 / 5;
        let mut cluster = self.scene.cluster(ours::semi_sync(name, retain, unpaced))?;
        let standby = cluster.standby()?;
        cluster.kill(standby)?;
        // A snapshot of its own would come on top of what it catches up with.
        cluster.keep_log(standby)?;
        self.args.write(cluster.address()?).await?;
        let primary = cluster.primary()?;
        cluster.until_snapshots(&[primary]).await?;
        let away = return_of(&mut cluster, standby, "away").await;
        // It has everything, and counts again.
        cluster.primary()?;
        cluster.kill(standby)?;
        cluster.wipe(standby)?;
        let blank = return_of(&mut cluster, standby, "blank").await;
        let copies = cluster.metric("copies_sent_total")?;
        say(&format!(
            "    snapshots sent to the blank standby: {copies}"
        ));
        Ok((away, blank))
    }

    /// A new replica of this primary.
    async fn resync(
        &self,
        primary: &Single,
        diskless: bool,
        marker: &str,
    ) -> anyhow::Result<Duration> {
        let address = primary.address();
        resync_by(address, diskless).await?;
        mark(address, marker).await?;
        let mut replica = Single::prepare(self.scene.folder, "redis-replica", Some(address))?;
        let from = Instant::now();
        replica.start()?;
        let until = until_marked(replica.address(), marker, PATIENCE).await;
        replica.wipe()?;
        Ok(until? - from)
    }
}

/// What was written last before a restart.
const RESTARTED: &str = "before the restart";

async fn start_single(scene: &Scene<'_>, name: &str) -> anyhow::Result<Single> {
    let mut single = Single::prepare(scene.folder, name, None)?;
    single.start()?;
    single.until_ready().await?;
    Ok(single)
}

async fn restart_redis(single: &mut Single) -> anyhow::Result<Duration> {
    single.kill();
    let from = Instant::now();
    single.start()?;
    let until = until_marked(single.address(), RESTARTED, PATIENCE).await?;
    Ok(until - from)
}

/// From the start of a standby until it has what the primary has.
async fn return_of(cluster: &mut Cluster, standby: u32, marker: &str) -> anyhow::Result<Duration> {
    mark(cluster.address()?, marker).await?;
    let quiet = quiet::wait(&cluster.roots(), REST_CORES, QUIET_PATIENCE).await?;
    anyhow::ensure!(
        quiet,
        "the primary did not come to rest within {QUIET_PATIENCE:?}"
    );
    let from = Instant::now();
    cluster.start_node(standby)?;
    let until = until_marked(cluster.client(standby)?, marker, PATIENCE).await;
    let until = until.context("the standby did not catch up")?;
    Ok(until - from)
}
