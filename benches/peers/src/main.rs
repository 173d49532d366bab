//! The fair ring: understudy beside Redis, etcd and PostgreSQL on one machine.
//!
//! Promise: all systems run at once on loopback, on the same file system, and one client process
//! presses them in turn with the same keys and values, a few seconds each, several rounds. What is
//! printed was measured in this run; ratios are computed from it. A measurement with errors, or
//! while other servers were busy, is marked and decides nothing. Whatever was started is ended by
//! its process id: at the normal end, on an error, on Ctrl-C, and when this process is killed.
//!
//! Never: services of this machine are used or stopped, ports of the ephemeral range are taken,
//! or data outside of the ring's own folder is touched.

mod cells;
mod cross_check;
mod floor;
mod interrupt;
mod lanes;
mod measure;
mod proc_table;
mod quiet;
mod report;
mod requirements;
mod ring;
mod scale;
mod servers;
mod svg;
mod systems;
mod trouble;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use understudy::cli::text::one_line;

use cells::{Line, Pressure};

/// Measure understudy beside Redis, etcd and PostgreSQL: same machine, same client, in turn.
#[derive(Debug, Parser)]
#[command(name = "ring")]
struct Args {
    /// The understudy binary to run as nodes
    #[arg(long, value_name = "FILE")]
    binary: PathBuf,
    /// Who takes part [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LINE,…")]
    lines: Vec<Line>,
    /// Connections and requests outstanding on each, CLIENTSxPIPELINE
    #[arg(long, value_delimiter = ',', value_name = "CxP,…", default_values = ["1x1", "50x1", "50x16"])]
    cells: Vec<Pressure>,
    /// How often everything is measured, in turn
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds per cell, line and round
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = parse_seconds)]
    secs: Duration,
    /// Number of different keys, all written before the first round
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    keys: u64,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    value_bytes: usize,
    /// Seed of the choice of keys
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Let Redis rewrite an append-only file that has grown, as it does by default
    #[arg(long)]
    aof_rewrite: bool,
    /// Folder to put everybody's data in [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write every round's figures to this file
    #[arg(long, value_name = "FILE", default_value = "ring.json")]
    json: PathBuf,
    /// Draw the medians into this file
    #[arg(long, value_name = "FILE", default_value = "ring.svg")]
    svg: PathBuf,
    /// Something else than the ring
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// What keys, values, clients, pipelines, standbys, replay and catching up cost as they grow
    Scale(scale::Args),
    /// Latency under trouble, restarts and catching up, beside Redis
    Trouble(trouble::Args),
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    seconds
        .filter(|seconds| (0.1..=3600.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "give a number of seconds between 0.1 and 3600".to_owned())
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.other {
        None => ring::run(&args),
        Some(Other::Scale(scale)) => scale::run(&args.binary, scale),
        Some(Other::Trouble(trouble)) => trouble::run(&args.binary, trouble),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}
