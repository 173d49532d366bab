//! What the work costs as it grows: keys, values, clients, pipelines, standbys, the log to replay
//! and the log to catch up with, one axis after the other.
//!
//! Promise: everything that the axis does not vary is the same throughout (`press`, `sides`), Redis
//! stands beside us in the same run and in turn, and only what was measured in this run is printed.
//! A load with an error is no figure; a point that fails is named, the rest goes on, and the
//! command fails in the end. What was started is ended as in the ring.
//!
//! Never: a figure without its rounds. `scale.json` has all of them, and the curves that neither
//! the tables nor the picture show.

mod axis;
mod fill;
mod first_answer;
mod open_files;
mod picture;
mod press;
mod redis;
mod report;
mod results;
mod sides;
mod sweeps;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use tokio::runtime::Runtime;
use understudy::cli::bench::machine::Machine;
use understudy::cli::local_cluster::Folder;
use understudy::cli::text::{count, thousands};

use crate::cells::SystemKind;
use crate::interrupt::Interrupt;
use crate::requirements;
use axis::{Axis, Figure, Who};
use press::Pressure;
use results::{Failure, Place, Results, Settings};

/// What the sweeps may be told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which sweeps [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "AXIS,…")]
    axes: Vec<Axis>,
    /// How often everything is measured, in turn
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds per load
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = crate::parse_seconds)]
    secs: Duration,
    /// End of the axis of keys
    #[arg(long, value_name = "N", default_value_t = 10_000_000,
          value_parser = clap::value_parser!(u64).range(1000..=10_000_000))]
    max_keys: u64,
    /// End of the axes of records: replay and catch-up
    #[arg(long, value_name = "N", default_value_t = 10_000_000,
          value_parser = clap::value_parser!(u64).range(1000..=10_000_000))]
    max_records: u64,
    /// Folder to put everybody's data in [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write every round's figures to this file
    #[arg(long, value_name = "FILE", default_value = "scale.json")]
    json: PathBuf,
    /// Draw the medians into this file
    #[arg(long, value_name = "FILE", default_value = "scale.svg")]
    svg: PathBuf,
}

impl Args {
    fn points(&self, axis: Axis) -> Vec<u64> {
        axis.points(self.max_keys, self.max_records)
    }

    /// The largest number of keys that anybody will hold.
    fn most_keys(&self, axes: &[Axis]) -> u64 {
        let holds = |axis: &&Axis| matches!(axis, Axis::Keys | Axis::Replay | Axis::CatchUp);
        let points = axes
            .iter()
            .filter(holds)
            .flat_map(|axis| self.points(*axis));
        points.max().unwrap_or(Pressure::STANDARD.keys)
    }
}

/// Runs the sweeps as the flags say.
pub fn run(binary: &Path, args: &Args) -> anyhow::Result<()> {
    let axes = match args.axes.is_empty() {
        true => Axis::value_variants().to_vec(),
        false => args.axes.clone(),
    };
    let folder = Folder::create(args.dir.as_deref(), "scale")?;
    check_room(binary, args, &axes, folder.path())?;
    let runtime = Runtime::new()?;
    let interrupt = Interrupt::listen(runtime.handle())?;
    let mut run = Run {
        binary,
        args,
        interrupt: &interrupt,
        folder: folder.path(),
        results: Results {
            settings: settings(args),
            machine: Machine::look(Some(folder.path())),
            versions: requirements::versions(&[SystemKind::RedisPair]),
            took: Vec::new(),
            samples: Vec::new(),
            failures: Vec::new(),
        },
    };
    // On this thread: it is the one the servers' lives are bound to (see `servers`).
    runtime.block_on(interrupt.or(run.sweep_all(&axes)))?;
    report::publish(&run.results, &args.json, &args.svg)?;
    let failures = run.results.failures.len();
    anyhow::ensure!(
        failures == 0,
        "{} below the tables; what failed has no figure",
        count(failures as u64, "failure")
    );
    Ok(())
}

/// Errors that would otherwise come after minutes.
fn check_room(binary: &Path, args: &Args, axes: &[Axis], folder: &Path) -> anyhow::Result<()> {
    /// Of logs, snapshots and append-only files on all nodes together, per key or record.
    const DISK_BYTES_PER_KEY: u64 = 1000;
    /// The same in memory; a process that Redis forks to write its file doubles some of it.
    const MEMORY_BYTES_PER_KEY: u64 = 1200;
    requirements::check(&[SystemKind::RedisPair], binary, folder)?;
    let keys = args.most_keys(axes);
    requirements::check_room(folder, (5 << 30) + keys * DISK_BYTES_PER_KEY)?;
    let wanted = (1 << 30) + keys * MEMORY_BYTES_PER_KEY;
    if let Some(free) = free_memory_bytes() {
        anyhow::ensure!(
            free >= wanted,
            "this machine has {} MB of memory available, and {} keys want {} MB; give smaller \
             --max-keys and --max-records",
            thousands(free >> 20),
            thousands(keys),
            thousands(wanted >> 20)
        );
    }
    if axes.contains(&Axis::Clients) {
        let most = args.points(Axis::Clients).into_iter().max();
        open_files::allow(most.unwrap_or(0))?;
    }
    Ok(())
}

fn free_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

fn settings(args: &Args) -> Settings {
    Settings {
        rounds: args.rounds,
        secs: args.secs.as_secs_f64(),
        key_bytes: crate::lanes::key(0).len(),
        value_bytes: Pressure::STANDARD.value_bytes,
        keys: Pressure::STANDARD.keys,
        clients: Pressure::STANDARD.clients,
    }
}

/// What all sweeps share.
struct Run<'a> {
    binary: &'a Path,
    args: &'a Args,
    interrupt: &'a Interrupt,
    folder: &'a Path,
    results: Results,
}

impl Run<'_> {
    async fn sweep_all(&mut self, axes: &[Axis]) -> anyhow::Result<()> {
        for axis in axes {
            let began = Instant::now();
            self.sweep(*axis).await?;
            let took = began.elapsed();
            eprintln!("{}: {:.0} s", axis.name(), took.as_secs_f64());
            self.results.took.push((*axis, took.as_secs_f64()));
        }
        Ok(())
    }

    fn points(&self, axis: Axis) -> Vec<u64> {
        self.args.points(axis)
    }

    fn place(&self, axis: Axis, at: u64, round: u32) -> Place {
        Place { axis, at, round }
    }

    /// Notes what failed at a point; an error if the user wants to stop.
    fn settle(
        &mut self,
        axis: Axis,
        at: Option<u64>,
        done: anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.interrupt.check()?;
        if let Err(error) = done {
            let error = understudy::cli::text::one_line(&error);
            eprintln!("{}: FAILED: {error}", axis.name());
            self.results.failures.push(Failure {
                axis,
                at,
                who: None,
                error,
            });
        }
        Ok(())
    }

    fn note_restart(&mut self, place: Place, who: Who, took: Duration) {
        let seconds = took.as_secs_f64();
        self.say(place, who, &format!("restarted in {seconds:.3} s"));
        self.results
            .add(place, who, Figure::RestartSeconds, seconds);
    }

    /// Where the axis counts records.
    fn note_records(&mut self, place: Place, who: Who, took: Duration) {
        let seconds = took.as_secs_f64();
        let rate = place.at as f64 / seconds;
        self.say(place, who, &format!("{seconds:.3} s, {rate:.0} records/s"));
        self.results.add(place, who, Figure::Seconds, seconds);
        self.results.add(place, who, Figure::RecordsPerSecond, rate);
    }

    /// Progress, for a person who waits.
    fn say(&self, place: Place, who: Who, text: &str) {
        let Place { axis, at, round } = place;
        let (at, axis, who) = (thousands(at), axis.name(), who.name());
        eprintln!("round {round}: {at} {axis}: {who}: {text}");
    }
}
