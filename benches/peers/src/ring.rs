//! The run: start all, fill all, measure in turn, report, end all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum as _;
use tokio::runtime::Runtime;
use understudy::cli::bench::machine::Machine;
use understudy::cli::load::throughput::LoadResult;
use understudy::cli::local_cluster::Folder;

use crate::Args;
use crate::cells::{Line, Operation, Shape, SystemKind, shapes};
use crate::cross_check;
use crate::floor;
use crate::interrupt::Interrupt;
use crate::measure::{Load, Measured, Meter};
use crate::proc_table::resident_bytes;
use crate::quiet;
use crate::report::{self, Memory, Results, Settings};
use crate::requirements;
use crate::systems::{self, SetUp, System};

/// Longest warm-up of a cell; a shorter measurement has a shorter one.
pub const WARM_UP: Duration = Duration::from_millis(500);
/// How long a load may take beyond its length: a server that hangs is an error, not a wait.
pub const LOAD_PATIENCE: Duration = Duration::from_secs(30);
/// How long a system may take to be filled.
pub const FILL_PATIENCE: Duration = Duration::from_secs(900);
/// How long servers may take to come to rest before a measurement; it is marked if they do not.
pub const QUIET_PATIENCE: Duration = Duration::from_secs(20);

/// Runs the ring as the flags say.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let lines = match args.lines.is_empty() {
        true => Line::value_variants().to_vec(),
        false => args.lines.clone(),
    };
    let kinds: BTreeSet<SystemKind> = lines.iter().map(|line| line.system()).collect();
    let kinds: Vec<SystemKind> = kinds.into_iter().collect();
    let folder = Folder::create(args.dir.as_deref(), "ring")?;
    requirements::check(&kinds, &args.binary, folder.path())?;
    let runtime = Runtime::new()?;
    let interrupt = Interrupt::listen(runtime.handle())?;
    // On this thread: it is the one the servers' lives are bound to (see `servers`).
    let results = runtime.block_on(async {
        let mut ring = Ring {
            args,
            interrupt: &interrupt,
            folder: folder.path(),
            systems: BTreeMap::new(),
            rest_cores: 0.0,
            results: Results::new(settings(args), Machine::look(Some(folder.path()))),
        };
        ring.results.versions = requirements::versions(&kinds);
        ring.start(&kinds).await?;
        ring.measure(&lines).await?;
        anyhow::Ok(ring.results)
    })?;
    report::publish(&results, &args.json, &args.svg)?;
    let unsound = results
        .measured
        .iter()
        .filter(|one| !one.is_sound())
        .count();
    let unchecked = results.check_errors.len();
    anyhow::ensure!(
        unsound + unchecked == 0,
        "{unsound} measurements had errors and {unchecked} runs of redis-benchmark failed; \
         they are marked, and no figure with an error counts"
    );
    Ok(())
}

fn settings(args: &Args) -> Settings {
    Settings {
        rounds: args.rounds,
        secs: args.secs.as_secs_f64(),
        keys: args.keys,
        key_bytes: crate::lanes::key(0).len(),
        value_bytes: args.value_bytes,
        seed: args.seed,
        aof_rewrite: args.aof_rewrite,
    }
}

struct Ring<'a> {
    args: &'a Args,
    interrupt: &'a Interrupt,
    folder: &'a Path,
    systems: BTreeMap<SystemKind, Box<dyn System>>,
    rest_cores: f64,
    results: Results,
}

impl Ring<'_> {
    /// Starts and fills every system, one after the other, and measures what all use at rest.
    async fn start(&mut self, kinds: &[SystemKind]) -> anyhow::Result<()> {
        for kind in kinds {
            let name = kind.name();
            say(&format!("starting {name}"));
            let system = self.start_one(*kind).await;
            let mut system = system.with_context(|| format!("cannot start {name}"))?;
            say(&format!("filling {name}"));
            let filled = self.fill(*kind, system.as_mut()).await;
            filled.with_context(|| format!("cannot fill {name}"))?;
            self.systems.insert(*kind, system);
        }
        let all = self.roots(|_| true);
        self.rest_cores = self.interrupt.or(quiet::at_rest(&all)).await?;
        self.results.rest_cores = self.rest_cores;
        say(&format!(
            "all servers at rest use {:.2} cores",
            self.rest_cores
        ));
        Ok(())
    }

    async fn start_one(&self, kind: SystemKind) -> anyhow::Result<Box<dyn System>> {
        let folder = self.folder.join(kind.name().replace(' ', "-"));
        std::fs::create_dir(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let set_up = SetUp {
            binary: &self.args.binary,
            aof_rewrite: self.args.aof_rewrite,
            interrupt: self.interrupt,
        };
        let starting = systems::start(kind, set_up, &folder);
        self.interrupt.or(starting).await
    }

    /// Writes all keys, and notes what that costs in memory.
    async fn fill(&mut self, kind: SystemKind, system: &mut dyn System) -> anyhow::Result<()> {
        let Args {
            keys, value_bytes, ..
        } = *self.args;
        let before = system.holder().and_then(resident_bytes);
        let filling = tokio::time::timeout(FILL_PATIENCE, system.fill(keys, value_bytes));
        let filling = async { filling.await.context("it takes too long")? };
        self.interrupt.or(filling).await?;
        let after = system.holder().and_then(resident_bytes);
        if let (Some(before), Some(after)) = (before, after) {
            self.results.memory.push(Memory {
                system: kind.name().to_owned(),
                bytes_per_key: after.saturating_sub(before) as f64 / keys as f64,
            });
        }
        Ok(())
    }

    fn roots(&self, wanted: impl Fn(SystemKind) -> bool) -> Vec<u32> {
        let systems = self.systems.iter().filter(|(kind, _)| wanted(**kind));
        systems.flat_map(|(_, system)| system.roots()).collect()
    }

    /// All rounds: within each, every shape; within that, every line in turn.
    async fn measure(&mut self, lines: &[Line]) -> anyhow::Result<()> {
        for round in 1..=self.args.rounds {
            self.wait_quiet().await?;
            let (bytes, secs) = (self.args.value_bytes, self.args.secs);
            let floor = floor::measure(round, self.folder, bytes, secs)?;
            say(&format!("round {round}: floor {:.0} us", floor.p50_us));
            self.results.floors.push(floor);
            for shape in shapes(&self.args.cells) {
                for line in lines {
                    if shape.operation == Operation::Set || line.reads() {
                        self.measure_line(round, *line, shape).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn wait_quiet(&self) -> anyhow::Result<bool> {
        let all = self.roots(|_| true);
        let waiting = quiet::wait(&all, self.rest_cores, QUIET_PATIENCE);
        self.interrupt.or(waiting).await
    }

    async fn measure_line(&mut self, round: u32, line: Line, shape: Shape) -> anyhow::Result<()> {
        let kind = line.system();
        let began_quiet = self.wait_quiet().await?;
        let others = self.roots(|other| other != kind);
        let system = self.systems.get_mut(&kind).context("it was started")?;
        let mut meter = Meter::new(system.roots(), others);
        let load = load(self.args, round, shape);
        let outcome = self
            .interrupt
            .or(async { Ok(bounded_load(system.as_mut(), line, &load, &mut meter).await) })
            .await?;
        let usage = meter.usage();
        let measured = Measured::new(round, line, shape, began_quiet, usage, outcome);
        say(&describe(&measured));
        if measured.is_sound()
            && cross_check::is_checked(line, shape)
            && let Err(error) = self.cross_check(&measured, &load).await
        {
            self.interrupt.check()?;
            say(&format!("    {error:#}"));
            self.results.check_errors.push(format!("{error:#}"));
        }
        self.results.measured.push(measured);
        Ok(())
    }

    async fn cross_check(&mut self, own: &Measured, load: &Load) -> anyhow::Result<()> {
        self.wait_quiet().await?;
        let system = self.systems.get(&own.line.system());
        let Some(address) = system.and_then(|system| system.resp_address()) else {
            return Ok(());
        };
        // A tenth of our rate would be a finding, not a hang.
        let patience = self.args.secs * 10 + LOAD_PATIENCE;
        let checking = cross_check::measure(address, load, own, patience);
        let check = self.interrupt.or(checking).await?;
        say(&format!(
            "    redis-benchmark: {:.0}/s, ours {:.0}/s",
            check.benchmark_per_second, check.own_per_second
        ));
        self.results.checks.push(check);
        Ok(())
    }
}

async fn bounded_load(
    system: &mut dyn System,
    line: Line,
    load: &Load,
    meter: &mut Meter,
) -> anyhow::Result<LoadResult> {
    system.check()?;
    let patience = load.warm_up + load.length + LOAD_PATIENCE;
    let loading = system.load(line, load, meter);
    let done = tokio::time::timeout(patience, loading).await;
    done.with_context(|| format!("the load did not end within {patience:?}"))?
}

fn load(args: &Args, round: u32, shape: Shape) -> Load {
    Load {
        shape,
        keys: args.keys,
        value_bytes: args.value_bytes,
        warm_up: WARM_UP.min(args.secs / 4),
        length: args.secs,
        seed: args.seed.wrapping_add(u64::from(round)),
    }
}

fn describe(measured: &Measured) -> String {
    let mut text = format!(
        "round {}: {}: {}: {:.0}/s",
        measured.round,
        measured.shape,
        measured.line.name(),
        measured.per_second
    );
    if measured.is_disturbed() {
        text.push_str(", disturbed by other work");
    }
    if measured.errors > 0 {
        let first = measured.first_error.as_deref().unwrap_or("unknown");
        text.push_str(&format!(", {} ERRORS: {first}", measured.errors));
    }
    text
}

/// Progress, for a person who waits.
fn say(text: &str) {
    eprintln!("{text}");
}
