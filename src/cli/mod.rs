//! The command line: `understudy serve | demo | bench | status | switchover | promote | history |
//! discarded …`.
//!
//! Promise: what a command prints was measured or answered by a node, never assumed. A failure is
//! one line, `error: what is wrong; what to do`, and exit status 1; a wrong command line is exit
//! status 2 (clap's own). With `--json`, standard output holds one JSON document with a `schema`
//! field and nothing else; progress and warnings go to standard error.
//!
//! This layer never decides anything about replication: it starts processes, speaks the client
//! protocol and HTTP, and prints.

pub mod answers;
pub mod bench;
mod config;
mod demo;
mod discarded;
mod history;
pub mod http_client;
mod interrupt;
pub mod load;
pub mod local_cluster;
pub mod plot;
mod promote;
mod quoted;
mod rewrite;
mod serve;
mod status;
mod switchover;
pub mod text;
mod wal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A replicated key-value store for Redis clients whose acknowledged writes survive the loss of
/// the primary.
#[derive(Debug, Parser)]
#[command(name = "understudy", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Serve(serve::Args),
    /// Start a cluster, kill its primary under load, and check that no acknowledged write is lost
    Demo(demo::Args),
    /// Measure throughput and latency of the replication modes
    Bench(bench::Args),
    /// Show the members of a cluster, their positions in the log and what they promise
    Status(status::Args),
    /// Hand the primary's role to another node without losing anything
    Switchover(switchover::Args),
    /// Make a node primary by force, after showing what that may cost
    Promote(promote::Args),
    /// Show past takeovers: when, why, how fast, and what was lost
    History(history::Args),
    /// Read what nodes gave up when they rejoined, and write chosen keys back
    Discarded(discarded::Args),
    /// Look into a write-ahead log
    Wal(wal::Args),
    /// Check a configuration file
    Config(config::Args),
}

/// Runs the command line of this process and returns its exit status.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Status(args) => status::run(args),
        Command::Switchover(args) => switchover::run(args),
        Command::Promote(args) => promote::run(args),
        Command::History(args) => history::run(args),
        Command::Discarded(args) => discarded::run(args),
        Command::Wal(args) => wal::run(args),
        Command::Config(args) => config::run(args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("error: {}", text::one_line(&error));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_parses_its_usual_flags() {
        for line in [
            "understudy demo --witness --rounds 20 --json",
            "understudy demo --mode async --max-loss 500ms --fault freeze --secs 1.5",
            "understudy bench --clients 1,10 --pipeline 16 --modes sync --svg /tmp/x",
            "understudy bench --addr 127.0.0.1:6379 --json -",
            "understudy status --addr 127.0.0.1:7381 --json",
            "understudy switchover --to 3 --secret-file /run/secret",
            "understudy promote --force --lost 1,2",
            "understudy history --json",
            "understudy discarded list --addr 127.0.0.1:7381 --json",
            "understudy discarded list --data-dir /d",
            "understudy discarded show 3-8-10.wal --key a --key \"a\\x00b\" --data-dir /d",
            "understudy discarded replay 3-8-10.wal --key a --only-missing --dry-run",
            "understudy discarded replay 3-8-10.wal --all --yes --json",
        ] {
            assert!(
                Cli::try_parse_from(line.split(' ')).is_ok(),
                "refused: {line}"
            );
        }
        for line in [
            "understudy demo --mode eventually",
            "understudy demo --rounds 0",
            "understudy demo --witness --mode async --fault melt",
            "understudy bench --clients 0",
            "understudy promote --lost 1",
            "understudy status --adr x",
            "understudy discarded list --addr 127.0.0.1:7381 --data-dir /d",
            "understudy discarded show",
            "understudy discarded show 3-8-10.wal --key \"a",
            "understudy discarded replay 3-8-10.wal",
            "understudy discarded replay 3-8-10.wal --all --key a",
        ] {
            assert!(
                Cli::try_parse_from(line.split(' ')).is_err(),
                "accepted: {line}"
            );
        }
    }
}
