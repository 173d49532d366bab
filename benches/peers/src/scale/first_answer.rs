//! How long servers that were just started take until one of them answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;
use understudy::resp::Reply;

use crate::lanes::key;
use crate::systems::resp;

/// Pause between two questions to a server that refuses.
const PAUSE: Duration = Duration::from_millis(2);
/// Pause between two looks at whether they still run.
const CHECK_PAUSE: Duration = Duration::from_millis(50);
/// How long a start may take.
pub const START_PATIENCE: Duration = Duration::from_secs(300);
/// A key that every filled server holds.
const KNOWN_KEY: u64 = 7;

/// Asks all of them for a key that was written until one gives its value: the time since `began`.
/// A server that refuses (it loads, or is not primary) is asked again; one that does not know the
/// key has lost it, which is an error. `check` says whether the servers still run.
pub async fn first_answer(
    addresses: &[SocketAddr],
    began: Instant,
    mut check: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    let mut asking = JoinSet::new();
    for address in addresses {
        asking.spawn(ask_until_answered(*address, began));
    }
    loop {
        tokio::select! {
            answered = asking.join_next() => {
                return answered.context("somebody must be asked")??;
            }
            () = tokio::time::sleep(CHECK_PAUSE) => check()?,
        }
    }
}

async fn ask_until_answered(address: SocketAddr, began: Instant) -> anyhow::Result<Duration> {
    let key = key(KNOWN_KEY);
    loop {
        let left = START_PATIENCE.saturating_sub(began.elapsed());
        // A server may take the connection long before it answers.
        let answer = tokio::time::timeout(left, resp::ask(address, &[b"GET", &key])).await;
        let refused = match answer {
            Ok(Ok(Reply::Bulk(_))) => return Ok(began.elapsed()),
            Ok(Ok(Reply::Error(text))) => text.into_owned(),
            Ok(Ok(other)) => anyhow::bail!("{address} lost a key: it answered {other:?}"),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "it says nothing".to_owned(),
        };
        anyhow::ensure!(
            began.elapsed() < START_PATIENCE,
            "{address} did not answer within {START_PATIENCE:?} of its start: {refused}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}
