//! The first part: SETs at a fixed rate, at rest and while something goes on.
//!
//! understudy's pair and Redis run all the time; the pairs that are configured to make trouble all
//! the time are dead but for their own measurements, and three data nodes begin anew each round.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use understudy::cli::load::login::Login;
use understudy::cli::load::throughput::{self, Limit, LoadSpec};

use super::Args;
use super::cases::{Case, Who};
use super::ours::{self, Cluster};
use super::paced::{Pace, Place};
use super::press::{Measured, Pressed, Trouble, mark, press, until_marked};
use super::theirs::{Chore, Single, resync_by};
use super::watch::Watch;
use super::windows::{Window, length};
use super::{Scene, bounded, say};
use crate::quiet;
use crate::systems::System;
use crate::systems::redis::Redis;

/// Connections of the load.
pub const CLIENTS: usize = 20;
/// Share of the slowest closed loop that the paced load is.
const SHARE: f64 = 1.0 / 3.0;
/// Length of a closed loop that is only to find the rate.
const CALIBRATION: Duration = Duration::from_secs(1);
/// How long servers may take to come to rest before a measurement; it is marked if they do not.
const QUIET_PATIENCE: Duration = Duration::from_secs(20);
/// How long a standby may take to catch up.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(120);

/// Log that grows by so much is replaced by a snapshot: less than is written while one is made, so
/// that one follows the other.
const RETAIN_LITTLE: u64 = 64 << 10;
/// So small that there are several turnovers a second.
const SMALL_SEGMENTS: &str = "segment_size = \"256 KiB\"\n";
/// The scrub begins while the load is on, and all memory is added up in ten seconds.
const SCRUB_SOON: &str = "[limits]\nscrub_rest = \"5 s\"\nmemory_scrub = \"10 s\"\n";
/// How long the scrub may take to begin.
const SCRUB_PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two chores of Redis's, so that the second is not what became of the first.
const CHORE_PAUSE: Duration = Duration::from_millis(500);

/// The servers, and what was found.
pub struct Latencies<'a> {
    args: &'a Args,
    scene: Scene<'a>,
    pair: Cluster,
    redis: Redis,
    redis_address: SocketAddr,
    /// Pairs that are dead but for their own case.
    sleepers: BTreeMap<Case, Cluster>,
    three: Option<Cluster>,
    rest_cores: f64,
    /// Requests that become due per second.
    pub per_second: f64,
    /// Everything measured, in the order made.
    pub measured: Vec<Measured>,
}

impl<'a> Latencies<'a> {
    /// Starts and fills the servers of these cases, and finds the rate.
    pub async fn start(
        args: &'a Args,
        scene: Scene<'a>,
        cases: &[Case],
    ) -> anyhow::Result<Latencies<'a>> {
        say("starting understudy and redis, filling both");
        let mut pair = scene.cluster(ours::pair("pair", None, ""))?;
        args.fill(pair.address()?).await?;
        let redis = start_redis(&scene).await?;
        let redis_address = redis.resp_address().context("redis has an address")?;
        args.fill(redis_address).await?;
        let mut latencies = Latencies {
            args,
            scene,
            pair,
            redis,
            redis_address,
            sleepers: BTreeMap::new(),
            three: None,
            rest_cores: 0.0,
            per_second: 0.0,
            measured: Vec::new(),
        };
        for case in cases {
            latencies.start_sleeper(*case).await?;
        }
        latencies.rest_cores = quiet::at_rest(&latencies.roots()).await?;
        latencies.per_second = match args.rate {
            Some(rate) => rate,
            None => latencies.calibrate().await?,
        };
        Ok(latencies)
    }

    /// The pair of a case that needs one of its own: filled, then put to sleep.
    async fn start_sleeper(&mut self, case: Case) -> anyhow::Result<()> {
        let Some((name, retain, more)) = own_pair(case, self.args) else {
            return Ok(());
        };
        say(&format!("filling another pair: {}", case.name()));
        let mut cluster = self.scene.cluster(ours::pair(name, retain, more))?;
        self.args.fill(cluster.address()?).await?;
        if case == Case::Scrub {
            // Without one there would be less to read back than a node usually has.
            let nodes = cluster.data_nodes();
            cluster.until_snapshots(&nodes).await?;
        }
        cluster.sleep()?;
        self.sleepers.insert(case, cluster);
        Ok(())
    }

    /// A third of what the slower of both gives in a closed loop with as many clients.
    async fn calibrate(&mut self) -> anyhow::Result<f64> {
        let ours = closed_loop(self.args, self.pair.address()?, 0).await?;
        let theirs = closed_loop(self.args, self.redis_address, 1).await?;
        let rate = (ours.min(theirs) * SHARE).round().max(1.0);
        say(&format!(
            "closed loop, {CLIENTS} clients: understudy sync {ours:.0}/s, redis WAIT 1 \
             {theirs:.0}/s; the paced load is {rate:.0}/s for all"
        ));
        Ok(rate)
    }

    /// What runs now.
    fn roots(&self) -> Vec<u32> {
        let three = self.three.iter().flat_map(Cluster::roots);
        let ours = self.pair.roots().into_iter().chain(three);
        ours.chain(self.redis.roots()).collect()
    }

    /// Measures each case once.
    pub async fn round(&mut self, round: u32, cases: &[Case]) -> anyhow::Result<()> {
        for case in cases {
            self.redis.check()?;
            let quiet = quiet::wait(&self.roots(), self.rest_cores, QUIET_PATIENCE).await?;
            let outcome = self.measure(round, *case).await;
            // What was interrupted is no finding.
            self.scene.interrupt.check()?;
            if let Some(sleeper) = self.sleepers.get_mut(case) {
                sleeper.sleep()?;
            }
            if outcome.is_err() {
                // Whatever became of them, the next case has new ones.
                self.three = None;
            }
            let measured = Measured::new(round, *case, quiet, outcome);
            say(&describe(&measured));
            self.measured.push(measured);
        }
        self.three = None;
        Ok(())
    }

    fn pace(&self, round: u32, case: Case, place: Place) -> Pace {
        Pace {
            place,
            per_second: self.per_second,
            clients: CLIENTS,
            keys: self.args.keys,
            value_bytes: self.args.value_bytes,
            wait_replicas: u32::from(case.who() == Who::Redis),
            seed: self.args.seed.wrapping_add(u64::from(round)),
        }
    }

    async fn measure(&mut self, round: u32, case: Case) -> anyhow::Result<Pressed> {
        match case.who() {
            Who::Redis => self.measure_redis(round, case).await,
            Who::Pair => self.measure_pair(round, case).await,
            Who::Three => self.measure_three(round, case).await,
        }
    }

    async fn measure_redis(&mut self, round: u32, case: Case) -> anyhow::Result<Pressed> {
        let (address, secs) = (self.redis_address, self.args.secs);
        let pace = self.pace(round, case, Place::Server(address));
        let keys = self.args.keys as f64;
        match case {
            Case::RedisSave => press(pace, || again_and_again(Chore::Save, address, secs)).await,
            Case::RedisRewrite => {
                press(pace, || again_and_again(Chore::Rewrite, address, secs)).await
            }
            Case::RedisResync => {
                resync_by(address, true).await?;
                let mut guest = Single::prepare(self.scene.folder, "guest", Some(address))?;
                let pressed = press(pace, async || {
                    mark(address, &format!("resync {round}")).await?;
                    let from = Instant::now();
                    guest.start()?;
                    let marker = format!("resync {round}");
                    until_marked(guest.address(), &marker, CATCH_UP_PATIENCE).await?;
                    Ok(Trouble::since(from, keys))
                });
                let pressed = pressed.await;
                guest.wipe()?;
                pressed
            }
            _ => press(pace, || stay(secs)).await,
        }
    }

    async fn measure_pair(&mut self, round: u32, case: Case) -> anyhow::Result<Pressed> {
        let cluster = match self.sleepers.get_mut(&case) {
            Some(sleeper) => sleeper,
            None => &mut self.pair,
        };
        let primary = cluster.wake()?;
        let place = Place::Server(cluster.client(primary)?);
        let snapshots = cluster.folders("snapshot");
        let segments = cluster.folders("wal");
        let pace = self.pace(round, case, place);
        let secs = self.args.secs;
        let cluster = self.sleepers.get(&case).unwrap_or(&self.pair);
        match case {
            Case::Snapshot => press(pace, || watched(&snapshots, secs, Watch::snapshots)).await,
            Case::Turnover => press(pace, || watched(&segments, secs, Watch::turnovers)).await,
            Case::Scrub => press(pace, || scrub(cluster, secs)).await,
            _ => press(pace, || stay(secs)).await,
        }
    }

    async fn measure_three(&mut self, round: u32, case: Case) -> anyhow::Result<Pressed> {
        if self.three.is_none() {
            self.three = Some(self.start_three(case == Case::CatchUp).await?);
            quiet::wait(&self.roots(), self.rest_cores, QUIET_PATIENCE).await?;
        }
        let three = self.three.as_mut().context("it was just started")?;
        let (primary, standby) = (three.primary()?, three.standby()?);
        let address = three.client(primary)?;
        let (nodes, name) = (three.clients()?, three.name().to_owned());
        let place = match case {
            Case::Takeover => Place::Cluster { nodes, name },
            _ => Place::Server(address),
        };
        let pace = self.pace(round, case, place);
        let args = self.args;
        let three = self.three.as_mut().context("it was just there")?;
        match case {
            Case::CatchUp => press(pace, async || catch_up(args, three, standby).await).await,
            Case::Takeover => {
                press(pace, async || {
                    let from = Instant::now();
                    three.kill(primary)?;
                    tokio::time::sleep(args.secs).await;
                    Ok(Trouble::since(from, 1.0))
                })
                .await
            }
            _ => press(pace, || stay(args.secs)).await,
        }
    }

    /// Three data nodes that hold all records, or two of them do and the third is away: from the
    /// first record on, so that it has nothing of its own to replay before it catches up.
    async fn start_three(&self, one_away: bool) -> anyhow::Result<Cluster> {
        let mut three = self.scene.cluster(ours::three("three"))?;
        if one_away {
            let standby = three.standby()?;
            three.kill(standby)?;
        }
        self.args.write(three.address()?).await?;
        Ok(three)
    }
}

/// Name, `retain` and further configuration of the pair that a case needs for itself.
fn own_pair(case: Case, args: &Args) -> Option<(&'static str, Option<u64>, &'static str)> {
    match case {
        Case::Snapshot => Some(("snapshots", Some(RETAIN_LITTLE), "")),
        // The keys' first writing makes one snapshot, at two thirds, and later rounds none.
        Case::Scrub => {
            let retain = args.keys * args.record_bytes() * 2 / 3;
            Some(("scrub", Some(retain), SCRUB_SOON))
        }
        Case::Turnover => Some(("segments", None, SMALL_SEGMENTS)),
        _ => None,
    }
}

async fn start_redis(scene: &Scene<'_>) -> anyhow::Result<Redis> {
    let folder = scene.folder.join("redis");
    std::fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Redis::start(&folder, true, false).await
}

/// SETs per second of a closed loop.
async fn closed_loop(args: &Args, address: SocketAddr, wait: u32) -> anyhow::Result<f64> {
    let spec = LoadSpec {
        login: Login::default(),
        address,
        clients: CLIENTS,
        pipeline: 1,
        value_bytes: args.value_bytes,
        keys: args.keys,
        read_percent: 0,
        wait_replicas: wait,
        warm_up: CALIBRATION / 2,
        limit: Limit::Duration(CALIBRATION),
        seed: args.seed,
    };
    let result = bounded(CALIBRATION * 30, async {
        Ok(throughput::run(&spec).await?)
    })
    .await?;
    anyhow::ensure!(
        result.errors == 0,
        "{address} answered {} SETs with an error: {}",
        result.errors,
        result.first_error.as_deref().unwrap_or("unknown")
    );
    Ok(result.per_second())
}

/// Nothing else.
async fn stay(secs: Duration) -> anyhow::Result<Trouble> {
    let from = Instant::now();
    tokio::time::sleep(secs).await;
    Ok(Trouble::since(from, 0.0))
}

/// What shows in these folders for so long.
async fn watched(
    folders: &[PathBuf],
    secs: Duration,
    look: fn(&Watch) -> (Vec<Window>, u64),
) -> anyhow::Result<Trouble> {
    let watch = Watch::on(folders)?;
    tokio::time::sleep(secs).await;
    let (windows, count) = look(&watch);
    let amount = count as f64;
    Ok(Trouble { windows, amount })
}

/// A chore of Redis's, until it has gone on for so long together.
async fn again_and_again(
    chore: Chore,
    address: SocketAddr,
    secs: Duration,
) -> anyhow::Result<Trouble> {
    let mut windows = Vec::new();
    loop {
        windows.push(chore.run(address).await?);
        if length(&windows) >= secs {
            break;
        }
        tokio::time::sleep(CHORE_PAUSE).await;
    }
    let amount = windows.len() as f64;
    Ok(Trouble { windows, amount })
}

/// From before the scrub begins on both nodes until it has gone on for so long: it reads a segment
/// as a whole, then waits until its rate allows the next.
async fn scrub(cluster: &Cluster, secs: Duration) -> anyhow::Result<Trouble> {
    const LOOK_PAUSE: Duration = Duration::from_millis(100);
    let nodes = cluster.data_nodes();
    let read = || -> anyhow::Result<Vec<f64>> {
        let nodes = nodes.iter();
        nodes
            .map(|id| cluster.metric_of(*id, "scrubbed_bytes_total"))
            .collect()
    };
    let before = read()?;
    let from = Instant::now();
    while read()?
        .iter()
        .zip(&before)
        .any(|(now, before)| now <= before)
    {
        anyhow::ensure!(
            from.elapsed() < SCRUB_PATIENCE,
            "a node read nothing back within {SCRUB_PATIENCE:?}: there is too little to read; say \
             more --keys"
        );
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    tokio::time::sleep(secs).await;
    let bytes = read()?.iter().sum::<f64>() - before.iter().sum::<f64>();
    Ok(Trouble::since(from, bytes / 1e6))
}

/// From the start of a standby that was away until it has all that the primary had then.
async fn catch_up(args: &Args, three: &mut Cluster, standby: u32) -> anyhow::Result<Trouble> {
    let primary = three.primary()?;
    let from = Instant::now();
    mark(three.client(primary)?, "caught up").await?;
    three.start_node(standby)?;
    until_marked(three.client(standby)?, "caught up", CATCH_UP_PATIENCE).await?;
    Ok(Trouble::since(from, args.records as f64))
}

fn describe(measured: &Measured) -> String {
    let span = |us: Option<u64>| us.map_or("-".to_owned(), understudy::cli::text::span_us);
    let latency = &measured.latency;
    let mut text = format!(
        "round {}: {}, {}: {} requests in {:.2} s, p50 {}, p99 {}, p99.9 {}, max {}",
        measured.round,
        measured.case.who().name(),
        measured.case.name(),
        latency.requests,
        measured.window_secs,
        span(latency.p50_us),
        span(latency.p99_us),
        span(latency.p999_us),
        span(latency.max_us),
    );
    if let Some(counted) = measured.case.counted() {
        text.push_str(&format!(", {:.0} {counted}", measured.amount));
    }
    if measured.is_disturbed() {
        text.push_str(", disturbed by other work");
    }
    if let Some(fault) = measured.fault() {
        text.push_str(&format!(", ERROR: {fault}"));
    }
    text
}
