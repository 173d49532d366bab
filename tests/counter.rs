//! One counter, many clients that send again whatever they heard no answer to, each increment with an id:
//! through kills, freezes and switchovers of the primary it ends at exactly the number of increments.
//!
//! 10,000 through 4 takeovers; `UNDERSTUDY_LONG=1`: 100,000 through 20.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Lab, long, until};
use understudy::cli::local_cluster::Plan;

const CLIENTS: u64 = 16;
/// For all of it.
const LIMIT: Duration = Duration::from_secs(300);

/// How often a request was sent again.
#[derive(Debug, Default)]
struct Repeats {
    /// The answer was an error or the connection broke: nobody knows what became of it.
    unknown: u64,
    /// The node refused it.
    refused: u64,
}

/// Increments so many times, one after the other, whatever it takes.
fn increment(
    client: u64,
    times: u64,
    nodes: &[SocketAddr],
    done: &AtomicU64,
    began: Instant,
) -> Repeats {
    let mut repeats = Repeats::default();
    let mut at = client as usize;
    let mut connection = None;
    for n in 0..times {
        let id = format!("{client}-{n}");
        let previous = format!("{client}-{}", n.saturating_sub(1));
        loop {
            assert!(began.elapsed() < LIMIT, "client {client} is stuck at {n}");
            if connection.is_none() {
                at += 1;
                let to = nodes[at % nodes.len()];
                match common::connect(to) {
                    Ok(fresh) => connection = Some(fresh),
                    Err(_) => {
                        std::thread::sleep(Duration::from_millis(5));
                        continue;
                    }
                }
            }
            let Some(open) = &mut connection else {
                continue;
            };
            let asked: redis::RedisResult<(i64,)> = redis::pipe()
                .cmd("CLIENT")
                .arg(&["REQUESTID", &id, "DONE", &previous])
                .ignore()
                .cmd("INCR")
                .arg("counter")
                .query(open);
            match asked {
                Ok(_) => break,
                Err(error) => {
                    let refused = ["READONLY", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS"];
                    match refused.contains(&common::code(&error).as_str()) {
                        true => repeats.refused += 1,
                        false => repeats.unknown += 1,
                    }
                    connection = None;
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    repeats
}

/// Makes another node the primary, in one way or another.
fn take_over(lab: &mut Lab, round: u64) -> &'static str {
    let all = lab.others(&[]);
    let primary = lab.primary_among(&all);
    match round % 3 {
        0 => {
            lab.cluster.kill9(primary).expect("it runs");
            lab.primary_among(&lab.others(&[primary]));
            lab.cluster.start(primary).expect("it starts");
            "kill"
        }
        1 => {
            lab.cluster.freeze(primary).expect("it runs");
            lab.primary_among(&lab.others(&[primary]));
            lab.cluster.thaw(primary).expect("it is frozen");
            "freeze"
        }
        _ => {
            let to = lab.others(&[primary])[0];
            until("a switchover", || {
                let addr = lab.http_addr(primary);
                let to = to.to_string();
                let moved = common::understudy(&["switchover", "--addr", &addr, "--to", &to]);
                moved.status.success().then_some(())
            });
            "switchover"
        }
    }
}

#[test]
fn a_counter_counts_each_request_once_through_takeovers() {
    let (increments, takeovers) = if long() { (100_000, 20) } else { (10_000, 4) };
    let (mut lab, _) = Lab::start(Plan {
        mode: "sync".to_owned(),
        level: None,
        ..Plan::three_data_nodes("count")
    });
    let ids = lab.others(&[]);
    let nodes: Vec<SocketAddr> = ids.iter().map(|id| lab.addr(*id)).collect();
    let done = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (nodes, done) = (nodes.clone(), Arc::clone(&done));
            let times = increments / CLIENTS;
            std::thread::spawn(move || increment(client, times, &nodes, &done, began))
        })
        .collect();
    let mut ways = Vec::new();
    for round in 0..takeovers {
        let goal = increments * (round + 1) / (takeovers + 1);
        while done.load(Ordering::Relaxed) < goal {
            assert!(
                began.elapsed() < LIMIT,
                "no progress before takeover {round}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        ways.push(take_over(&mut lab, round));
    }
    let mut repeats = Repeats::default();
    for client in clients {
        let one = client.join().expect("a client ends");
        repeats.unknown += one.unknown;
        repeats.refused += one.refused;
    }
    let primary = lab.primary_among(&ids);
    let counter: u64 = redis::cmd("GET")
        .arg("counter")
        .query(&mut lab.connect(primary))
        .expect("a number");
    println!(
        "{increments} increments by {CLIENTS} clients in {:.1} s through {takeovers} takeovers \
         ({ways:?}); sent again: {repeats:?}; the counter: {counter}",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(counter, increments);
    assert!(
        repeats.unknown > 0,
        "no answer was ever lost: nothing was tested"
    );
}
