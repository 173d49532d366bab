//! LATENCY: what took longer than `latency-monitor-threshold`, told as Redis tells it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Server;
use super::sparkline;
use crate::command::LatencyCommand;
use crate::node::{LatencyEvent, LatencySample, LatencySeries};
use crate::resp::Reply;

const DISABLED: &str = "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this \
    Redis instance. You may use \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order \
    to enable it. If we weren't in a deep space mission I'd suggest to take a look at \
    https://redis.io/topics/latency-monitor.\n";
const NOTHING: &str = "Dave, no latency spike was observed during the lifetime of this Redis \
    instance, not in the slightest bit. I honestly think you ought to sit down calmly, take a \
    stress pill, and think things over.\n";

pub(super) fn answer(server: &Server, command: &LatencyCommand) -> Reply {
    let latency = &server.node.latency;
    let named = |name: &Bytes| event(name).map(|event| (event, latency.of(event)));
    match command {
        LatencyCommand::Latest => Reply::Array(known(server).map(latest).collect()),
        LatencyCommand::History { event } => {
            let samples = named(event)
                .map(|(_, series)| series.samples)
                .unwrap_or_default();
            Reply::Array(samples.iter().map(pair).collect())
        }
        LatencyCommand::Reset { events } => {
            let all = events.is_empty();
            let wanted = LatencyEvent::ALL
                .into_iter()
                .filter(|known| all || events.iter().any(|name| event(name) == Some(*known)));
            let reset = wanted.filter(|event| latency.reset(*event)).count();
            Reply::Integer(reset as i64)
        }
        LatencyCommand::Graph { event } => match named(event) {
            Some((event, series)) if !series.samples.is_empty() => {
                let now = server.node.host.wall().0 / 1000;
                verbatim(sparkline::graph(event.name(), &series, now))
            }
            _ => {
                let event = String::from_utf8_lossy(event);
                let text = format!("ERR No samples available for event '{event}'");
                Reply::Error(text.into())
            }
        },
        LatencyCommand::Histogram { commands } => server.tally.histograms(commands),
        LatencyCommand::Doctor => verbatim(doctor(server)),
    }
}

fn event(name: &[u8]) -> Option<LatencyEvent> {
    let mut all = LatencyEvent::ALL.into_iter();
    all.find(|event| event.name().as_bytes().eq_ignore_ascii_case(name))
}

fn known(server: &Server) -> impl Iterator<Item = (LatencyEvent, LatencySeries)> {
    let all = LatencyEvent::ALL.into_iter();
    all.map(|event| (event, server.node.latency.of(event)))
        .filter(|(_, series)| !series.samples.is_empty())
}

fn verbatim(text: String) -> Reply {
    Reply::Verbatim(*b"txt", Bytes::from(text))
}

fn number(number: u64) -> Reply {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn pair(sample: &LatencySample) -> Reply {
    Reply::Array(vec![number(sample.seconds), number(sample.ms)])
}

fn latest((event, series): (LatencyEvent, LatencySeries)) -> Reply {
    let (seconds, ms) = series
        .samples
        .back()
        .map_or((0, 0), |last| (last.seconds, last.ms));
    Reply::Array(vec![
        Reply::text(event.name()),
        number(seconds),
        number(ms),
        number(series.max_ms),
    ])
}

/// What it may be, and what to do.
fn advice(event: LatencyEvent) -> &'static str {
    match event {
        LatencyEvent::Command => {
            "Commands that look at many keys or long values take this long (SLOWLOG GET names \
             them): use SCAN for KEYS, and smaller transactions, values and pipelines."
        }
        LatencyEvent::Commit => {
            "Writes wait for the commit rule: for the sync of the log and, by mode and level, for \
             standbys. INFO and /metrics tell how far each of them is; see wal-sync, too."
        }
        LatencyEvent::WalSync => {
            "The disk takes this long to make the log durable. Give data_dir a disk of its own, or \
             one with a write cache that outlives a power failure."
        }
    }
}

fn doctor(server: &Server) -> String {
    if server.node.tunables.latency_threshold_ms.get() == 0 {
        return DISABLED.to_string();
    }
    let mut text = String::new();
    for (place, (event, series)) in known(server).enumerate() {
        let samples: &VecDeque<LatencySample> = &series.samples;
        let sum: u64 = samples.iter().map(|sample| sample.ms).sum();
        let (count, least) = (
            samples.len() as u64,
            samples.iter().map(|sample| sample.ms).min().unwrap_or(0),
        );
        text.push_str(&format!(
            "{}. {}: {count} latency spikes (one per second; average {} ms, from {least} ms; worst \
             all time event {} ms). {}\n",
            place + 1,
            event.name(),
            sum / count.max(1),
            series.max_ms,
            advice(event),
        ));
    }
    match text.is_empty() {
        true => NOTHING.to_string(),
        false => format!("Dave, I have observed latency spikes in this instance.\n\n{text}"),
    }
}
