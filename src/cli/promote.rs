//! `promote`: makes the node at `--addr` primary where no automatic takeover may.
//!
//! Without `--force` it changes nothing: it prints what the promotion may cost and how to confirm.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};

use super::answers::{Bound, Changed, Price};
use super::http_client::{ConnectArgs, HttpClient};
use super::text::count;

/// Flags of `promote`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Promote, whatever it may cost; without this flag the price is shown and nothing changes
    #[arg(long)]
    force: bool,
    /// Members that are gone for good and leave the cluster (needs --force)
    #[arg(long, value_name = "ID,…", value_delimiter = ',', requires = "force",
          value_parser = clap::value_parser!(u32).range(1..))]
    lost: Vec<u32>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Shows the price, or promotes.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = HttpClient::from_args(&args.connect)?;
    if !args.force {
        return show_price(&client, args.connect.json);
    }
    let body = json!({ "force": true, "lost": args.lost });
    let answer: Value = client.post("/promote", &body)?;
    if args.connect.json {
        anstream::println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    let Changed { primary, epoch, .. } = serde_json::from_value(answer)?;
    anstream::println!(
        "node {primary} is primary now, epoch {epoch}; `understudy history` says what was lost"
    );
    Ok(ExitCode::SUCCESS)
}

fn show_price(client: &HttpClient, as_json: bool) -> anyhow::Result<ExitCode> {
    let answer: Value = client.get("/promote-price")?;
    if as_json {
        anstream::println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::FAILURE);
    }
    let price: Price = serde_json::from_value(answer)?;
    if !price.allowed {
        bail!("node {} cannot be promoted: {}", price.node, price.reason);
    }
    anstream::println!(
        "Promoting node {} would lose {}.",
        price.node,
        say_bound(&price.bound)
    );
    anstream::println!("{}", price.reason);
    bail!(
        "nothing was changed; to go ahead: understudy promote --addr {} --force",
        client.addr()
    )
}

/// A bound as a phrase: `nothing`, `at most 12 records (340 ms of writes)`.
pub(super) fn say_bound(bound: &Bound) -> String {
    if bound.exact_zero {
        return "nothing".to_owned();
    }
    let amount = None
        .or(bound.records.map(|records| count(records, "record")))
        .or(bound.bytes.map(|bytes| count(bytes, "byte")));
    match (amount, bound.span_ms) {
        (Some(amount), Some(span)) => format!("at most {amount} ({span} ms of writes)"),
        (Some(amount), None) => format!("at most {amount}"),
        (None, Some(span)) => format!("at most {span} ms of writes"),
        (None, None) => "an unknown number of writes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_said_in_the_units_that_are_known() {
        let bound = |records, span_ms, exact_zero| Bound {
            records,
            bytes: None,
            span_ms,
            exact_zero,
        };
        assert_eq!(say_bound(&bound(Some(0), Some(0), true)), "nothing");
        assert_eq!(say_bound(&bound(Some(1), None, false)), "at most 1 record");
        assert_eq!(
            say_bound(&bound(Some(1200), Some(340), false)),
            "at most 1,200 records (340 ms of writes)"
        );
        assert_eq!(
            say_bound(&bound(None, Some(340), false)),
            "at most 340 ms of writes"
        );
        let in_bytes = Bound {
            bytes: Some(2048),
            ..bound(None, None, false)
        };
        assert_eq!(say_bound(&in_bytes), "at most 2,048 bytes");
        assert_eq!(
            say_bound(&bound(None, None, false)),
            "an unknown number of writes"
        );
    }
}
