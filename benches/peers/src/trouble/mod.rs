//! Latency under trouble: what SETs take while something else goes on, and how long restarts and
//! catching up take, beside Redis on the same machine.
//!
//! Promise: as the ring's (`main.rs`). The rate of the load is the same for all and well below what
//! anybody can do, and requests count from when they were due, so a stall is seen by all that it
//! held up. Only requests that were due while the trouble was under way count, as the servers
//! themselves show it: by files they make, by what they say. Rounds go through all in turn.
//!
//! The files: `paced` is the load, `windows` which requests count, `watch` how a node is seen from
//! outside; `latency` and `times` are the two parts; `report` and `draw` say what was found.

mod cases;
mod draw;
mod latency;
mod ours;
mod paced;
mod press;
mod report;
mod theirs;
mod times;
mod watch;
mod windows;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum as _;
use tokio::runtime::Runtime;
use understudy::cli::bench::machine::Machine;
use understudy::cli::local_cluster::{Folder, Plan};

use crate::cells::SystemKind;
use crate::interrupt::Interrupt;
use crate::parse_seconds;
use crate::requirements;
use crate::systems::resp;
use cases::{Case, Row};
use latency::Latencies;
use ours::Cluster;
use report::{Results, Settings};
use times::Times;

/// How long writing all keys, or all records, may take.
const WRITE_PATIENCE: Duration = Duration::from_secs(900);

/// What to measure, and how often.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ROW,…")]
    rows: Vec<Row>,
    /// How often everything is measured, in turn
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each latency measurement; some trouble takes longer
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = parse_seconds)]
    secs: Duration,
    /// Number of different keys, all written before the first round
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    keys: u64,
    /// Writes that a standby misses, or a start replays
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    records: u64,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    value_bytes: usize,
    /// SETs per second of the paced load [default: a third of the slowest closed loop]
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Seed of the choice of keys
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Folder to put everybody's data in [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write every round's figures to this file
    #[arg(long, value_name = "FILE", default_value = "trouble.json")]
    json: PathBuf,
    /// Draw the medians into this file
    #[arg(long, value_name = "FILE", default_value = "trouble.svg")]
    svg: PathBuf,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok();
    rate.filter(|rate| (1.0..=1e6).contains(rate))
        .ok_or_else(|| "give a number of SETs per second between 1 and 1,000,000".to_owned())
}

impl Args {
    /// About what the record of a SET takes in understudy's log.
    fn record_bytes(&self) -> u64 {
        self.value_bytes as u64 + 55
    }

    /// Writes all keys.
    async fn fill(&self, address: SocketAddr) -> anyhow::Result<()> {
        let filling = resp::fill(address, self.keys, self.value_bytes);
        let filled = bounded(WRITE_PATIENCE, filling).await;
        filled.with_context(|| format!("cannot fill {address}"))
    }

    /// Writes all records.
    async fn write(&self, address: SocketAddr) -> anyhow::Result<()> {
        let writing = resp::write(address, 0..self.records, self.keys, self.value_bytes);
        let written = bounded(WRITE_PATIENCE, writing).await;
        written.with_context(|| format!("cannot write {} records to {address}", self.records))
    }
}

/// What clusters are started with.
#[derive(Clone, Copy)]
struct Scene<'a> {
    /// The understudy binary.
    binary: &'a Path,
    /// Everybody's data.
    folder: &'a Path,
    interrupt: &'a Interrupt,
}

impl Scene<'_> {
    /// Starts one, and waits until it is ready.
    fn cluster(&self, plan: Plan) -> anyhow::Result<Cluster> {
        let name = plan.name.clone();
        let started = Cluster::start(self.binary, self.folder, plan, self.interrupt);
        started.with_context(|| format!("cannot start the cluster \"{name}\""))
    }
}

/// The work's outcome, or an error when time is up.
async fn bounded<T>(
    patience: Duration,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let done = tokio::time::timeout(patience, work).await;
    done.with_context(|| format!("it takes longer than {patience:?}"))?
}

/// Progress, for a person who waits.
fn say(text: &str) {
    eprintln!("{text}");
}

/// Runs all that the flags ask for.
pub fn run(binary: &Path, args: &Args) -> anyhow::Result<()> {
    let rows = match args.rows.is_empty() {
        true => Row::value_variants().to_vec(),
        false => args.rows.clone(),
    };
    let folder = Folder::create(args.dir.as_deref(), "trouble")?;
    requirements::check(&[SystemKind::RedisPair], binary, folder.path())?;
    let runtime = Runtime::new()?;
    let interrupt = Interrupt::listen(runtime.handle())?;
    let scene = Scene {
        binary,
        folder: folder.path(),
        interrupt: &interrupt,
    };
    let mut results = Results {
        settings: settings(args),
        machine: Machine::look(Some(folder.path())),
        versions: requirements::versions(&[SystemKind::RedisPair]),
        per_second: None,
        measured: Vec::new(),
        timed: Vec::new(),
    };
    // On this thread: it is the one the servers' lives are bound to (see `servers`).
    runtime.block_on(interrupt.or(measure(args, scene, &rows, &mut results)))?;
    report::publish(&results, &args.json, &args.svg)?;
    let unsound = results
        .measured
        .iter()
        .filter(|one| !one.is_sound())
        .count();
    let failed = results
        .timed
        .iter()
        .filter(|one| one.error.is_some())
        .count();
    anyhow::ensure!(
        unsound + failed == 0,
        "{} measurements failed; they are marked, and no figure with an error counts",
        unsound + failed
    );
    Ok(())
}

fn settings(args: &Args) -> Settings {
    Settings {
        rounds: args.rounds,
        secs: args.secs.as_secs_f64(),
        keys: args.keys,
        records: args.records,
        key_bytes: crate::lanes::key(0).len(),
        value_bytes: args.value_bytes,
        clients: latency::CLIENTS,
        seed: args.seed,
    }
}

/// First the latencies, then the times: no server of the one runs during the other.
async fn measure(
    args: &Args,
    scene: Scene<'_>,
    rows: &[Row],
    results: &mut Results,
) -> anyhow::Result<()> {
    let all = Case::ALL.into_iter();
    let cases: Vec<Case> = all.filter(|case| case.is_wanted(rows)).collect();
    if !cases.is_empty() {
        let mut latencies = Latencies::start(args, scene, &cases).await?;
        for round in 1..=args.rounds {
            latencies.round(round, &cases).await?;
        }
        results.per_second = Some(latencies.per_second);
        results.measured = latencies.measured;
    }
    let mut times = Times::start(args, scene, rows).await?;
    for round in 1..=args.rounds {
        times.round(round).await?;
    }
    results.timed = times.timed;
    Ok(())
}
