//! Waiting until all servers have come to rest, so that one system's aftermath (a rewritten log,
//! a checkpoint, a replica that lags) is not booked to the next.

use std::time::{Duration, Instant};

use crate::proc_table::ProcTable;

/// Time over which rest is judged; the kernel counts in ticks of 10 ms.
const WINDOW: Duration = Duration::from_millis(200);

/// CPU time of `roots` and all below them over one window, in cores.
async fn busy_cores(roots: &[u32], window: Duration) -> anyhow::Result<f64> {
    let before = ProcTable::read()?.tree_time(roots);
    let at = Instant::now();
    tokio::time::sleep(window).await;
    let used = ProcTable::read()?.tree_time(roots).saturating_sub(before);
    Ok(used.as_secs_f64() / at.elapsed().as_secs_f64())
}

/// What all servers use when nobody asks them anything: the least of several long windows, so that
/// the aftermath of their filling is not taken for rest.
pub async fn at_rest(roots: &[u32]) -> anyhow::Result<f64> {
    const WINDOWS: u32 = 4;
    const WINDOW: Duration = Duration::from_secs(1);
    let mut least = f64::INFINITY;
    for _ in 0..WINDOWS {
        least = least.min(busy_cores(roots, WINDOW).await?);
    }
    Ok(least)
}

/// Waits until `roots` use hardly more than at rest, at most `patience`. Whether they do.
pub async fn wait(roots: &[u32], rest_cores: f64, patience: Duration) -> anyhow::Result<bool> {
    /// Above rest by so much of one core still counts as rest: two or three ticks.
    const SLACK_CORES: f64 = 0.15;
    let deadline = Instant::now() + patience;
    while busy_cores(roots, WINDOW).await? > rest_cores + SLACK_CORES {
        if Instant::now() >= deadline {
            return Ok(false);
        }
    }
    Ok(true)
}
