//! Switchovers under load: no request fails for a client that follows, and writes pause shortly.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use understudy::cli::http_client::{ConnectArgs, HttpClient};
use understudy::resp::Reply;

use super::cluster::{Cluster, PATIENCE, Shape};
use super::report::{Floor, histogram};
use super::wire::{Waited, Wire};

const CLIENTS: u32 = 6;

/// What one client was told.
#[derive(Default)]
struct Told {
    /// When each write was acknowledged, in microseconds.
    acknowledged: Vec<u64>,
    /// Refusals that send a client on, by code.
    redirected: BTreeMap<String, u64>,
    /// Requests that ended otherwise, or in nothing.
    failed: BTreeMap<String, u64>,
}

/// A client that writes as fast as it is answered, and asks another node where it is sent away or
/// finds its connection closed.
struct Follower {
    nodes: Vec<SocketAddr>,
    number: u32,
    began: Instant,
    stop: Arc<AtomicBool>,
}

impl Follower {
    fn run(self) -> Told {
        let mut told = Told::default();
        let (mut at, mut sequence) = (0, 0_u64);
        while !self.stop.load(Ordering::Relaxed) {
            let addr = self.nodes[at % self.nodes.len()];
            at += 1;
            let Some(mut wire) = Wire::open(addr, Duration::from_secs(1)) else {
                continue;
            };
            while !self.stop.load(Ordering::Relaxed) {
                sequence += 1;
                if !self.write(&mut wire, sequence, &mut told) {
                    break;
                }
            }
        }
        told
    }

    /// One request. `false`: ask another node.
    fn write(&self, wire: &mut Wire, sequence: u64, told: &mut Told) -> bool {
        let key = format!("s:{}:{}", self.number, sequence % 1000);
        let words = ["SET", &key, "x"].map(|word| word.as_bytes().to_vec());
        let mut failed = |what: &str| *told.failed.entry(what.to_owned()).or_default() += 1;
        if !wire.send(&[words.to_vec()]) {
            // Closed while it lay idle: nothing was asked.
            return false;
        }
        let until = Instant::now() + PATIENCE;
        match wire.receive(|| Instant::now() > until) {
            Waited::Reply(Reply::Error(text)) => {
                let code = text.split(' ').next().unwrap_or_default().to_owned();
                if matches!(code.as_str(), "READONLY" | "MASTERDOWN") {
                    *told.redirected.entry(code).or_default() += 1;
                } else {
                    failed(&text);
                }
                false
            }
            Waited::Reply(_) => {
                told.acknowledged
                    .push(self.began.elapsed().as_micros() as u64);
                true
            }
            Waited::Broken => {
                failed("closed while waiting");
                false
            }
            Waited::GaveUp => {
                failed("no answer");
                false
            }
        }
    }
}

/// Hands over so often on one set-up and prints what clients saw of it. Panics when a request
/// failed.
pub fn run(shape: Shape, times: u64) {
    let mut cluster = Cluster::start(shape, None, "");
    let floor = Floor::measure(cluster.data_dir(1)).expect("a folder of ours");
    let ready = |cluster: &mut Cluster| cluster.wait_ready().unwrap_or_else(|why| panic!("{why}"));
    let mut primary = ready(&mut cluster).0;
    let (began, stop) = (Instant::now(), Arc::<AtomicBool>::default());
    let data = cluster.data_nodes();
    let clients: Vec<JoinHandle<Told>> = (0..CLIENTS)
        .map(|number| {
            let follower = Follower {
                nodes: data.iter().map(|id| cluster.client_addr(*id)).collect(),
                number,
                began,
                stop: Arc::clone(&stop),
            };
            std::thread::spawn(move || follower.run())
        })
        .collect();
    let mut handovers = Vec::new();
    for time in 0..times {
        let others: Vec<u32> = data.iter().copied().filter(|id| *id != primary).collect();
        let to = others[time as usize % others.len()];
        let from_us = began.elapsed().as_micros() as u64;
        let answer = order(&cluster, primary, to);
        assert!(answer.is_ok(), "switchover {time} to node {to}: {answer:?}");
        primary = ready(&mut cluster).0;
        assert_eq!(primary, to, "switchover {time}");
        // The load goes on for a moment between two; this is its length, not a wait.
        std::thread::sleep(Duration::from_millis(150));
        handovers.push((from_us, began.elapsed().as_micros() as u64));
    }
    stop.store(true, Ordering::Relaxed);
    let told = clients
        .into_iter()
        .map(|client| client.join().expect("it does not panic"));
    judge(shape, &told.collect::<Vec<Told>>(), &handovers, &floor);
}

fn order(cluster: &Cluster, at: u32, to: u32) -> Result<Value, String> {
    let client = HttpClient::from_args(&ConnectArgs {
        addr: cluster.http_addr(at).to_string(),
        secret_file: Some(cluster.secret_file()),
        json: false,
    });
    let client = client.map_err(|error| error.to_string())?;
    let answer = client.post("/switchover", &json!({ "to": to }));
    answer.map_err(|error| error.to_string())
}

fn judge(shape: Shape, told: &[Told], handovers: &[(u64, u64)], floor: &Floor) {
    let mut acknowledged: Vec<u64> = Vec::new();
    let (mut redirected, mut failed) = (BTreeMap::new(), BTreeMap::new());
    for told in told {
        acknowledged.extend(&told.acknowledged);
        for (code, times) in &told.redirected {
            *redirected.entry(code.clone()).or_insert(0) += times;
        }
        for (what, times) in &told.failed {
            *failed.entry(what.clone()).or_insert(0_u64) += times;
        }
    }
    acknowledged.sort_unstable();
    let mut gaps: Histogram<u64> = histogram();
    for (from, to) in handovers {
        let pairs = acknowledged.windows(2);
        let within = pairs.filter(|pair| pair[1] > *from && pair[0] < *to);
        gaps.saturating_record(
            within
                .map(|pair| pair[1] - pair[0])
                .max()
                .unwrap_or(to - from),
        );
    }
    let ms = |us: u64| us as f64 / 1000.0;
    println!(
        "{} switchovers, {}: {} writes, redirected {redirected:?}, failed {failed:?}; write gap \
         p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms\n{floor}",
        handovers.len(),
        shape.name(),
        acknowledged.len(),
        ms(gaps.value_at_quantile(0.5)),
        ms(gaps.value_at_quantile(0.99)),
        ms(gaps.max()),
    );
    assert!(failed.is_empty(), "requests failed: {failed:?}");
    assert!(
        acknowledged.len() > handovers.len() * 10,
        "hardly anything was written"
    );
}
