//! `demo`: real processes, real clients, a real fault, and the account of every write.
//!
//! It starts a cluster, lets clients write, kills (or freezes) the primary, keeps writing, brings
//! the old primary back, and reads back every write. Everything printed was measured in this run.
//! The exit status is 1 if one acknowledged write is missing where the mode promises none, if an
//! async takeover lost more than it said, if a thawed node answered a stale read, or if the old
//! primary did not come back.

mod outcome;
mod print;
mod round;
mod timeline;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::runtime::Runtime;

use super::answers::Cluster;
use super::interrupt::Interrupt;
use super::load::follow::Clock;
use super::local_cluster::{Folder, LocalCluster, Plan, own_binary};
use outcome::{Round, Spread};

/// Longest wait for the cluster's first start.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Flags of `demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Two data nodes and a witness instead of three data nodes
    #[arg(long)]
    witness: bool,
    /// Replication mode [default: sync; with --witness: semi-sync with level synced]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Budget of an automatic takeover in async mode, such as 500ms
    #[arg(long, value_name = "BUDGET")]
    max_loss: Option<String>,
    /// What happens to the primary
    #[arg(long, value_enum, default_value = "kill")]
    fault: Fault,
    /// How many times
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Seconds of load before each fault [default: 3; with several rounds: 1]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    secs: Option<Duration>,
    /// Concurrent clients
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = parse_clients)]
    clients: usize,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    value_bytes: usize,
    /// Binary to run as nodes [default: this one]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Folder to put the nodes' data in [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the cluster running afterwards, until Ctrl-C
    #[arg(long)]
    stay: bool,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// A replication mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// The primary alone
    Async,
    /// One standby has it
    SemiSync,
    /// A majority of the data nodes has it on disk
    Sync,
}

impl Mode {
    /// As in the configuration file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::Async => "async",
            Mode::SemiSync => "semi-sync",
            Mode::Sync => "sync",
        }
    }
}

/// What is done to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fault {
    /// SIGKILL, and a restart later
    Kill,
    /// SIGSTOP, and SIGCONT later
    Freeze,
}

impl Args {
    fn mode(&self) -> Mode {
        self.mode.unwrap_or(if self.witness {
            Mode::SemiSync
        } else {
            Mode::Sync
        })
    }

    /// Whether the mode promises that no acknowledged write is lost.
    fn is_lossless(&self) -> bool {
        self.mode() != Mode::Async
    }

    fn load_span(&self) -> Duration {
        let default = if self.rounds > 1 { 1 } else { 3 };
        self.secs.unwrap_or(Duration::from_secs(default))
    }

    fn plan(&self) -> anyhow::Result<Plan> {
        let mode = self.mode();
        match (mode, &self.max_loss) {
            (Mode::Async, None) => anyhow::bail!(
                "in async mode a takeover may lose writes; say how much: --max-loss 500ms"
            ),
            (Mode::SemiSync | Mode::Sync, Some(_)) => anyhow::bail!(
                "--max-loss goes with --mode async; {} mode loses nothing",
                mode.name()
            ),
            _ => {}
        }
        let plan = match self.witness {
            true => Plan::pair_with_witness("demo"),
            false => Plan::three_data_nodes("demo"),
        };
        Ok(Plan {
            mode: mode.name().to_owned(),
            level: plan.level.filter(|_| mode == Mode::SemiSync),
            max_loss: self.max_loss.clone(),
            ..plan
        })
    }
}

/// A positive number of seconds from the command line.
pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.1..=86_400.0).contains(&seconds) {
        return Err("must be between 0.1 and 86400".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn parse_clients(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(clients @ 1..=10_000) => Ok(clients),
        _ => Err("must be between 1 and 10000".to_owned()),
    }
}

/// What all steps of a run share. The cluster comes first: it must be gone before the runtime.
struct Demo {
    cluster: LocalCluster,
    args: Args,
    clock: Clock,
    interrupt: Interrupt,
    bar: ProgressBar,
    runtime: Runtime,
}

impl Demo {
    /// The live line; shown only when standard error is a terminal.
    fn progress(&self, text: String) {
        self.bar.set_message(text);
        self.bar.tick();
    }

    /// Prints a line for good, unless JSON was asked for.
    fn say(&self, text: &str) {
        if !self.args.json {
            self.bar.suspend(|| anstream::println!("{text}"));
        }
    }
}

/// Runs the demo; see the module.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let plan = args.plan()?;
    let runtime = Runtime::new()?;
    let interrupt = Interrupt::listen(runtime.handle())?;
    let folder = Folder::create(args.dir.as_deref(), "demo")?;
    let cluster = LocalCluster::prepare(&own_binary(args.binary.as_deref())?, plan, folder)?;
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}")?);
    let mut demo = Demo {
        cluster,
        args,
        clock: Clock::start(),
        interrupt,
        bar,
        runtime,
    };
    let outcome = play(&mut demo);
    demo.bar.finish_and_clear();
    let is_good = matches!(outcome, Ok(true));
    if !is_good && !demo.interrupt.is_raised() {
        let folder = demo.cluster.folder();
        folder.keep();
        anstream::eprintln!("the nodes' logs are in {}", folder.path().display());
    }
    if outcome? && demo.args.stay {
        stay(&mut demo)?;
    }
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// All rounds. Returns whether every promise was kept.
fn play(demo: &mut Demo) -> anyhow::Result<bool> {
    demo.progress("starting the nodes".to_owned());
    demo.cluster.start_all()?;
    let mut primary = wait_ready(demo)?;
    let cluster = demo.cluster.cluster_json(primary)?.unwrap_or_default();
    demo.say(&print::header(&demo.args, &cluster));
    if demo.args.rounds > 1 {
        demo.say(&print::heading());
    }
    let mut rounds = Vec::new();
    for number in 1..=demo.args.rounds {
        let round = round::run(demo, number, primary)?;
        let text = match demo.args.rounds {
            1 => print::round_in_full(&round),
            _ => print::round_in_a_line(&round),
        };
        demo.say(text.trim_end_matches('\n'));
        for failure in &round.failures {
            anstream::eprintln!("broken promise in round {number}: {failure}");
        }
        let is_good = round.failures.is_empty();
        rounds.push(round);
        if !is_good {
            break;
        }
        if number < demo.args.rounds {
            primary = wait_ready(demo)?;
        }
    }
    conclude(demo, &cluster, &rounds)
}

fn wait_ready(demo: &mut Demo) -> anyhow::Result<u32> {
    let Demo {
        cluster, interrupt, ..
    } = demo;
    cluster.wait_ready(START_PATIENCE, || interrupt.check())
}

fn conclude(demo: &mut Demo, cluster: &Cluster, rounds: &[Round]) -> anyhow::Result<bool> {
    let is_good = rounds.iter().all(|round| round.failures.is_empty());
    if rounds.len() > 1 {
        demo.say(print::spreads(rounds).trim_end_matches('\n'));
    }
    demo.say(&print::verdict(&demo.args, rounds));
    if demo.args.json {
        let sum = |pick: fn(&Round) -> u64| rounds.iter().map(pick).sum::<u64>();
        let document = json!({
            "schema": "understudy.demo/1",
            "version": env!("CARGO_PKG_VERSION"),
            "mode": demo.args.mode().name(),
            "witness": demo.args.witness,
            "rule": cluster.rule,
            "fault": match demo.args.fault { Fault::Kill => "kill", Fault::Freeze => "freeze" },
            "clients": demo.args.clients,
            "value_bytes": demo.args.value_bytes,
            "acknowledged": sum(|round| round.writes.acknowledged),
            "lost": sum(|round| round.writes.lost),
            "gap": Spread::of(rounds.iter().map(|round| round.gap_us)),
            "rto": Spread::of(rounds.iter().map(|round| round.rto_us)),
            "rejoin": Spread::of(rounds.iter().map(|round| round.rejoin_us)),
            "ok": is_good,
            "rounds": rounds,
        });
        anstream::println!("{}", serde_json::to_string_pretty(&document)?);
    }
    Ok(is_good)
}

/// Leaves the cluster running until the user has had enough.
fn stay(demo: &mut Demo) -> anyhow::Result<()> {
    let primary = wait_ready(demo)?;
    let client = demo.cluster.client_addr(primary)?;
    let http = demo.cluster.http_addr(primary)?;
    anstream::eprintln!(
        "\nthe cluster is still running; node {primary} is primary\n\n  \
         redis-cli -p {}\n  understudy status --addr {http}\n\nCtrl-C stops and removes it",
        client.port()
    );
    while !demo.interrupt.is_raised() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Args {
        Line::parse_from(std::iter::once("demo").chain(line.split_whitespace())).args
    }

    #[test]
    fn the_two_set_ups_are_those_of_the_design() {
        let plan = args("").plan().expect("the default is valid");
        assert_eq!(
            (plan.data_nodes, plan.witness, plan.mode.as_str()),
            (3, false, "sync")
        );
        assert_eq!(plan.level, None);
        let plan = args("--witness").plan().expect("valid");
        assert_eq!(
            (plan.data_nodes, plan.witness, plan.mode.as_str()),
            (2, true, "semi-sync")
        );
        assert_eq!(plan.level.as_deref(), Some("synced"));
        let plan = args("--mode async --max-loss 1s").plan().expect("valid");
        assert_eq!(
            (plan.mode.as_str(), plan.max_loss.as_deref()),
            ("async", Some("1s"))
        );
    }

    #[test]
    fn async_needs_a_budget_and_the_others_have_none() {
        assert!(args("--mode async").plan().is_err());
        assert!(args("--max-loss 1s").plan().is_err());
        assert!(!args("--mode async --max-loss 1s").is_lossless());
        assert!(args("--mode semi-sync").is_lossless() && args("").is_lossless());
    }

    #[test]
    fn the_load_is_shorter_in_many_rounds() {
        assert_eq!(args("").load_span(), Duration::from_secs(3));
        assert_eq!(args("--rounds 20").load_span(), Duration::from_secs(1));
        assert_eq!(
            args("--rounds 20 --secs 2.5").load_span(),
            Duration::from_millis(2500)
        );
    }
}
