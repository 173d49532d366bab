//! `switchover`: a planned handover of the primary's role, without loss.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::answers::Changed;
use super::http_client::{ConnectArgs, HttpClient};

/// Flags of `switchover`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node to hand over to; by default the cluster chooses the one furthest on
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..))]
    to: Option<u32>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Asks for the handover and waits until it is done.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = HttpClient::from_args(&args.connect)?;
    let answer: Value = client.post("/switchover", &json!({ "to": args.to }))?;
    if args.connect.json {
        anstream::println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    let Changed {
        primary,
        epoch,
        pause_ms,
    } = serde_json::from_value(answer)?;
    let pause = pause_ms.map_or_else(String::new, |ms| format!("; writes waited {ms} ms"));
    anstream::println!("node {primary} is primary now, epoch {epoch}{pause}");
    Ok(ExitCode::SUCCESS)
}
