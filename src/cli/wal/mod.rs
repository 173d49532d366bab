//! `understudy wal dump|verify`: looks into a log, and into all else that a node keeps, without
//! opening it: no lock is taken and nothing is changed, so both work beside a running node.

mod dump;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::quoted::quote_start;
use crate::keyspace::Effect;

/// Flags of `wal`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: WalCommand,
}

#[derive(Debug, Subcommand)]
enum WalCommand {
    /// Print the records of a data directory or a .wal file
    Dump {
        /// Data directory, wal directory or .wal file
        path: PathBuf,
        /// First LSN printed
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Last LSN printed
        #[arg(long, default_value_t = u64::MAX)]
        to: u64,
        /// One JSON document per line
        #[arg(long)]
        json: bool,
    },
    /// Check log, snapshots, control state and discarded records; exit status 1 on damage
    Verify {
        /// Data directory, wal directory, or one file of a data directory
        path: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

/// Runs `wal`.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        WalCommand::Dump {
            path,
            from,
            to,
            json,
        } => dump::run(&path, from, to, json),
        WalCommand::Verify { path, json } => verify::run(&path, json),
    }
}

/// An effect as text, what is long cut.
pub(super) fn say_effect(effect: &Effect<'_>) -> String {
    match *effect {
        Effect::Set {
            key,
            value,
            expire_at,
        } => {
            let expiry = expire_at.map_or_else(String::new, |at| format!(" expires at {at}"));
            format!("SET {} {}{expiry}", quote_start(key), quote_start(value))
        }
        Effect::Del { key } => format!("DEL {}", quote_start(key)),
        Effect::Expire {
            key,
            expire_at: Some(at),
        } => format!("EXPIRE {} at {at}", quote_start(key)),
        Effect::Expire {
            key,
            expire_at: None,
        } => format!("PERSIST {}", quote_start(key)),
        Effect::Flush => "FLUSH".to_owned(),
    }
}
