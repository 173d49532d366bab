//! redis-benchmark for the same cell, beside our own client: neither must flatter.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::process::Command;

use crate::cells::{Line, Operation, Shape};
use crate::measure::{Load, Measured};

/// Who is checked: both sides, without WAIT, which redis-benchmark cannot send.
pub const LINES: [Line; 2] = [Line::OursSync, Line::RedisReplica];

/// One client is all waiting and no client work, and is left out.
pub fn is_checked(line: Line, shape: Shape) -> bool {
    LINES.contains(&line) && shape.pressure.clients > 1
}

/// Both clients' throughput in one round.
#[derive(Clone, Debug, Serialize)]
pub struct CrossCheck {
    /// Which round, from 1.
    pub round: u32,
    /// Who was pressed.
    pub line: Line,
    /// Doing what.
    #[serde(flatten)]
    pub shape: Shape,
    /// By our client, operations per second.
    pub own_per_second: f64,
    /// By redis-benchmark.
    pub benchmark_per_second: f64,
}

/// Runs redis-benchmark right after `own`, for about as long.
pub async fn measure(
    address: SocketAddr,
    load: &Load,
    own: &Measured,
    patience: Duration,
) -> anyhow::Result<CrossCheck> {
    let requests = (own.per_second * load.length.as_secs_f64()).max(1000.0) as u64;
    let output = Command::new("redis-benchmark")
        .args(["-h", &address.ip().to_string()])
        .args(["-p", &address.port().to_string()])
        .args(["-c", &load.shape.pressure.clients.to_string()])
        .args(["-P", &load.shape.pressure.pipeline.to_string()])
        .args(["-d", &load.value_bytes.to_string()])
        .args(["-r", &load.keys.to_string()])
        .args(["-n", &requests.to_string()])
        .args(["-t", &load.shape.operation.name().to_lowercase(), "--csv"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(patience, output)
        .await
        .with_context(|| format!("redis-benchmark did not end within {patience:?}"))?
        .context("cannot run redis-benchmark")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let per_second = parse(&text, load.shape.operation).with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!(
            "redis-benchmark measured nothing: {} {}",
            text.trim(),
            said.trim()
        )
    })?;
    Ok(CrossCheck {
        round: own.round,
        line: own.line,
        shape: own.shape,
        own_per_second: own.per_second,
        benchmark_per_second: per_second,
    })
}

/// The rate in the line `"SET","12345.67",…`.
fn parse(csv: &str, operation: Operation) -> Option<f64> {
    let head = format!("\"{}\",\"", operation.name());
    let line = csv.lines().find_map(|line| line.strip_prefix(&head))?;
    line.split('"').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_second_column() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"12345.67\",\"0.1\"\n";
        assert_eq!(parse(csv, Operation::Set), Some(12345.67));
        assert_eq!(parse(csv, Operation::Get), None);
    }
}
