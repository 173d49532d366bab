//! `understudy config check FILE`: what a configuration means, before a node is started with it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use crate::node::{self, Settings};
use crate::server;
use crate::wal::ReadOnlyDisk;

/// Flags of `config`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration file and say what it can and cannot do
    Check {
        /// Configuration file (TOML)
        file: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

/// Runs `config`.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let ConfigCommand::Check { file, json } = args.command;
    let settings = Settings::settle(node::read(&file)?)?;
    server::check_files(&settings, &ReadOnlyDisk)?;
    let notes = settings.notes();
    let detection = settings.interval * settings.threshold + settings.timeout;
    if json {
        let document = json!({
            "schema": "understudy.config/1",
            "id": settings.id.0,
            "mode": settings.mode.name(),
            "members": settings.members.len(),
            "worst_case_detection_ms": detection.as_millis() as u64,
            "notes": notes,
        });
        anstream::println!("{document}");
        return Ok(ExitCode::SUCCESS);
    }
    anstream::println!(
        "{}: node {} of {} members, mode {}; a silent primary is suspected within {} ms",
        file.display(),
        settings.id,
        settings.members.len(),
        settings.mode.name(),
        detection.as_millis()
    );
    for note in notes {
        anstream::println!("note: {note}");
    }
    Ok(ExitCode::SUCCESS)
}
