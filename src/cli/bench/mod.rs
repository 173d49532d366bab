//! `bench`: the replication modes compared, or one server given by address measured.
//!
//! Each mode runs on a fresh cluster of real processes on loopback, all alive. Each cell has a
//! short warm-up, then a closed-loop load (see `load::throughput`). Error replies are shown and
//! make the command fail: a figure with errors in it is no figure. The load client shares the
//! machine with the nodes, which the output states.

mod cell;
pub mod machine;
mod print;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::runtime::Runtime;

use super::demo::{Mode, parse_seconds};
use super::interrupt::Interrupt;
use super::load::login::{Login, LoginArgs};
use super::load::throughput::{self, Limit, LoadResult, LoadSpec};
use super::local_cluster::{Folder, LocalCluster, Plan, own_binary};
use super::text::{seconds, thousands};
use cell::Cell;
use machine::Machine;
use print::{draw, table};

const START_PATIENCE: Duration = Duration::from_secs(30);
/// Longest warm-up of a cell; a shorter measurement has a shorter one.
const WARM_UP: Duration = Duration::from_millis(500);

/// Flags of `bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Measure the server at this client address instead of starting clusters
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["modes", "topology", "dir", "binary"])]
    addr: Option<String>,
    #[command(flatten)]
    login: LoginArgs,
    /// What to call the server at --addr [default: its address]
    #[arg(long, value_name = "TEXT", requires = "addr")]
    label: Option<String>,
    /// After each batch send WAIT for so many Redis replicas, for comparison with Redis
    #[arg(long, value_name = "N", default_value_t = 0, requires = "addr")]
    wait_replicas: u32,
    /// Replication modes to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["async", "semi-sync", "sync"])]
    modes: Vec<Mode>,
    /// Numbers of concurrent connections
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values = ["1", "10", "50"],
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: Vec<u32>,
    /// Requests outstanding per connection
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values = ["1", "16"],
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pipeline: Vec<u32>,
    /// Seconds per cell and round
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = parse_seconds)]
    secs: Duration,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    value_bytes: usize,
    /// Number of different keys
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    keys: u64,
    /// Share of reads among the operations
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    read_percent: u8,
    /// Two data nodes and a witness, or three data nodes
    #[arg(long, value_enum, default_value = "witness")]
    topology: Topology,
    /// Measure each cell so many times; the median throughput counts
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seed for keys and operations
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Binary to run as nodes [default: this one]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Folder to put the nodes' data in [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write the measurements as JSON to this file; `-` is standard output, instead of the table
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Draw plots into this folder
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
}

/// The members of a cluster under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Topology {
    /// Two data nodes and a witness
    Witness,
    /// Three data nodes
    Three,
}

impl Topology {
    fn plan(self, mode: Mode) -> Plan {
        let plan = match self {
            Topology::Witness => Plan::pair_with_witness("bench"),
            Topology::Three => Plan::three_data_nodes("bench"),
        };
        // Each mode with its own default level: what a user gets who names only the mode.
        Plan {
            mode: mode.name().to_owned(),
            level: None,
            ..plan
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Topology::Witness => "2 data nodes and a witness on this machine, all alive",
            Topology::Three => "3 data nodes on this machine, all alive",
        }
    }
}

/// What all cells share.
struct Bench {
    args: Args,
    login: Login,
    runtime: Runtime,
    interrupt: Interrupt,
    bar: ProgressBar,
}

/// Runs the comparison; see the module.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new()?;
    let interrupt = Interrupt::listen(runtime.handle())?;
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}")?);
    let bench = Bench {
        login: args.login.read()?,
        args,
        runtime,
        interrupt,
        bar,
    };
    let outcome = match &bench.args.addr {
        Some(addr) => bench.measure_server(addr),
        None => bench.measure_modes(),
    };
    bench.bar.finish_and_clear();
    let (machine, cells) = outcome?;
    bench.publish(&machine, &cells)?;
    let errors: u64 = cells.iter().map(|cell| cell.errors).sum();
    if errors > 0 {
        let first = cells
            .iter()
            .find_map(|cell| cell.first_error.as_deref())
            .unwrap_or("unknown");
        anyhow::bail!(
            "{} operations failed, the first with: {first}",
            thousands(errors)
        );
    }
    Ok(ExitCode::SUCCESS)
}

impl Bench {
    fn measure_server(&self, addr: &str) -> anyhow::Result<(Machine, Vec<Cell>)> {
        let resolved = addr
            .to_socket_addrs()
            .with_context(|| format!("{addr} is no address"))?;
        let address = resolved
            .into_iter()
            .next()
            .with_context(|| format!("{addr} has no address"))?;
        let label = self.args.label.clone().unwrap_or_else(|| addr.to_owned());
        Ok((Machine::look(None), self.measure_cells(&label, address)?))
    }

    fn measure_modes(&self) -> anyhow::Result<(Machine, Vec<Cell>)> {
        let mut cells = Vec::new();
        let mut machine = None;
        for mode in &self.args.modes {
            self.bar
                .set_message(format!("{}: starting the nodes", mode.name()));
            self.bar.tick();
            let folder = Folder::create(self.args.dir.as_deref(), "bench")?;
            machine.get_or_insert_with(|| Machine::look(Some(folder.path())));
            let plan = self.args.topology.plan(*mode);
            let mut cluster =
                LocalCluster::prepare(&own_binary(self.args.binary.as_deref())?, plan, folder)?;
            cluster.start_all()?;
            let primary = cluster
                .wait_ready::<anyhow::Error>(START_PATIENCE, || self.interrupt.check())
                .inspect_err(|_| keep_logs(&mut cluster))?;
            let address = cluster.client_addr(primary)?;
            let measured = self.measure_cells(mode.name(), address);
            cells.extend(measured.inspect_err(|_| keep_logs(&mut cluster))?);
        }
        Ok((machine.unwrap_or_else(|| Machine::look(None)), cells))
    }

    /// Every combination of clients and pipeline on one server.
    fn measure_cells(&self, mode: &str, address: SocketAddr) -> anyhow::Result<Vec<Cell>> {
        let mut cells = Vec::new();
        for pipeline in &self.args.pipeline {
            for clients in &self.args.clients {
                let (clients, pipeline) = (*clients as usize, *pipeline as usize);
                let mut rounds: Vec<LoadResult> = Vec::new();
                for round in 1..=self.args.rounds {
                    self.bar.set_message(format!(
                        "{mode}: {clients} clients, pipeline {pipeline}, round {round} of {}",
                        self.args.rounds
                    ));
                    self.bar.tick();
                    let spec = self.spec(address, clients, pipeline, round);
                    rounds.push(self.runtime.block_on(throughput::run(&spec))?);
                    self.interrupt.check()?;
                }
                cells.push(Cell::sum(mode, clients, pipeline, &rounds));
            }
        }
        Ok(cells)
    }

    fn spec(&self, address: SocketAddr, clients: usize, pipeline: usize, round: u32) -> LoadSpec {
        LoadSpec {
            address,
            login: self.login.clone(),
            clients,
            pipeline,
            value_bytes: self.args.value_bytes,
            keys: self.args.keys,
            read_percent: self.args.read_percent,
            wait_replicas: self.args.wait_replicas,
            warm_up: WARM_UP.min(self.args.secs / 4),
            limit: Limit::Duration(self.args.secs),
            seed: self.args.seed.wrapping_add(u64::from(round)),
        }
    }

    fn publish(&self, machine: &Machine, cells: &[Cell]) -> anyhow::Result<()> {
        let to_stdout = self.args.json.as_deref() == Some(Path::new("-"));
        if !to_stdout {
            anstream::println!("{}\n{}\n", machine.describe(), self.describe());
            anstream::println!("{}", table(cells));
        }
        if let Some(path) = &self.args.json {
            let document = serde_json::to_string_pretty(&self.document(machine, cells))?;
            match to_stdout {
                true => anstream::println!("{document}"),
                false => std::fs::write(path, document + "\n")
                    .with_context(|| format!("cannot write {}", path.display()))?,
            }
        }
        if let Some(folder) = &self.args.svg {
            let what = format!(
                "{}\n{}",
                self.describe(),
                machine.describe().replace('\n', ", ")
            );
            for path in draw(folder, &what, cells)? {
                anstream::eprintln!("drew {}", path.display());
            }
        }
        Ok(())
    }

    /// The load in one line.
    fn describe(&self) -> String {
        let Args {
            value_bytes,
            keys,
            read_percent,
            ..
        } = self.args;
        let kind = match read_percent {
            0 => "SET".to_owned(),
            100 => "GET".to_owned(),
            percent => format!("{percent}% GET, rest SET"),
        };
        let place = match &self.args.addr {
            Some(addr) => format!("the server at {addr}"),
            None => self.args.topology.describe().to_owned(),
        };
        let wait = match self.args.wait_replicas {
            0 => String::new(),
            replicas => format!(", then WAIT {replicas} per batch"),
        };
        format!(
            "{kind}, {value_bytes}-byte values, {} keys{wait}, {} per cell, rounds {}; {place}; \
             the load client runs on this machine too",
            thousands(keys),
            seconds(self.args.secs),
            self.args.rounds
        )
    }

    fn document(&self, machine: &Machine, cells: &[Cell]) -> serde_json::Value {
        json!({
            "schema": "understudy.bench/1",
            "machine": machine,
            "load": {
                "address": self.args.addr,
                "topology": match (&self.args.addr, self.args.topology) {
                    (Some(_), _) => None,
                    (None, Topology::Witness) => Some("witness"),
                    (None, Topology::Three) => Some("three"),
                },
                "secs": self.args.secs.as_secs_f64(),
                "rounds": self.args.rounds,
                "value_bytes": self.args.value_bytes,
                "keys": self.args.keys,
                "read_percent": self.args.read_percent,
                "wait_replicas": self.args.wait_replicas,
                "seed": self.args.seed,
            },
            "cells": cells,
        })
    }
}

fn keep_logs(cluster: &mut LocalCluster) {
    let folder = cluster.folder();
    folder.keep();
    anstream::eprintln!("the nodes' logs are in {}", folder.path().display());
}
