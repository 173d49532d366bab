//! How many instructions a command takes. Run under valgrind by `benches/instructions.sh`.
//!
//! Whole nodes, from the bytes of requests to the bytes of replies: session, parser, keyspace, log,
//! group commit, takeover machine, gate, streams. Their time stands still as long as there is work,
//! so no instruction depends on how fast the machine is; only the seeds of hash tables differ.
//!
//! Counted are the tasks of one node and nothing else: not the set-up, the other node, the
//! runtime's scheduler or the kernel.

mod client;
mod ground;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tempfile::TempDir;
use tokio::time::Instant;
use understudy::node::{Node, Running, Serves, Settings, parse, start};
use understudy::resp::encode_request;
use understudy::server::{self, Server};

use client::{Client, PIPELINE, Replies};
use ground::{COUNTED_NODE, Ground, Net, SOMEWHERE};

/// Keys of 16 bytes, all present.
const KEYS: usize = 100_000;
/// Those that are asked for, one after the other, all over the tables. All of them were before the
/// count begins, so that each SET replaces what a SET has left.
const HOT: usize = 4096;
const VALUE: &[u8] = &[b'v'; 100];
/// Keeps its length however often it is raised here.
const NUMBER: &[u8] = b"1000000";

/// Whose instructions are counted.
#[derive(Clone, Copy)]
enum Counted {
    Primary,
    Standby,
}

const OK: Replies = Replies(b'+', 5);

struct Case {
    name: &'static str,
    nodes: u32,
    counted: Counted,
    /// What each key holds at first.
    holds: &'static [u8],
    /// The n-th request.
    request: fn(usize, &mut BytesMut),
    replies: Replies,
}

const SET: Case = Case {
    name: "SET",
    nodes: 1,
    counted: Counted::Primary,
    holds: VALUE,
    request: |n, out| encode_request(&[b"SET", &hot_key(n), VALUE], out),
    replies: OK,
};

const CASES: [Case; 6] = [
    Case {
        name: "GET",
        request: |n, out| encode_request(&[b"GET", &hot_key(n)], out),
        replies: Replies(b'$', 6 + VALUE.len() + 2),
        ..SET
    },
    SET,
    Case {
        name: "SET_EX",
        request: set_ex,
        ..SET
    },
    Case {
        name: "INCR",
        holds: NUMBER,
        request: |n, out| encode_request(&[b"INCR", &hot_key(n)], out),
        replies: Replies(b':', 1 + NUMBER.len() + 2),
        ..SET
    },
    Case {
        name: "SET_sync_primary",
        nodes: 2,
        ..SET
    },
    Case {
        name: "SET_sync_standby",
        nodes: 2,
        counted: Counted::Standby,
        ..SET
    },
];

/// Expiries that differ, as clients' do.
fn set_ex(n: usize, out: &mut BytesMut) {
    let seconds = (1000 + n * 31 % 10_000).to_string();
    let words: [&[u8]; 5] = [b"SET", &hot_key(n), VALUE, b"EX", seconds.as_bytes()];
    encode_request(&words, out);
}

fn hot_key(n: usize) -> Vec<u8> {
    key(n % HOT * 7919 % KEYS)
}

fn key(index: usize) -> Vec<u8> {
    format!("key:{index:012}").into_bytes()
}

/// Nodes, one of which is the primary of the other.
struct Cluster {
    nodes: Vec<Running>,
    primary: usize,
    server: Arc<Server>,
    _dir: TempDir,
}

fn settings(node: u32, nodes: u32, dir: &Path) -> Settings {
    let dir = dir.join(node.to_string());
    let mut text = format!(
        "id = {node}\ndata_dir = '{}'\npeer_addr = '127.0.0.{node}:7380'\n\
         client_addr = '127.0.0.{node}:7379'\n[wal]\nsegment_size = '40 MiB'\n\
         [cluster]\nmode = 'sync'\n",
        dir.display()
    );
    for id in 1..=nodes {
        text.push_str(&format!(
            "[[cluster.member]]\nid = {id}\npeer_addr = '127.0.0.{id}:7380'\n\
             client_addr = '127.0.0.{id}:7379'\n"
        ));
    }
    parse(&text)
        .and_then(Settings::settle)
        .expect("a valid configuration")
}

impl Cluster {
    async fn start(count: u32) -> Cluster {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let net = Arc::new(Net::default());
        let mut nodes = Vec::new();
        for node in 1..=count {
            let ground = Ground::new(node, Arc::clone(&net));
            let running = start(settings(node, count, dir.path()), ground).await;
            nodes.push(running.expect("a node starts on an empty disk"));
        }
        let serves = |running: &Running| {
            let standbys = running.node.view().standbys;
            let counted = standbys.iter().filter(|standby| standby.counted).count();
            running.node.gate_now().serves == Serves::Primary && counted + 1 == count as usize
        };
        let primary = loop {
            match nodes.iter().position(serves) {
                Some(place) => break place,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let server = Server::new(Arc::clone(&nodes[primary].node));
        Cluster {
            nodes,
            primary,
            server,
            _dir: dir,
        }
    }

    fn node(&self, which: Counted) -> &Node {
        match which {
            Counted::Primary => &self.nodes[self.primary].node,
            Counted::Standby => &self.nodes[1 - self.primary].node,
        }
    }

    /// Serves a client until it has all replies.
    async fn serve(&self, client: Client) {
        let session = server::attend(Arc::clone(&self.server), client, SOMEWHERE, None);
        let host = &self.node(Counted::Primary).host;
        let served = host.spawn(Box::pin(session)).await;
        served.expect("a session does not panic");
    }

    async fn fill(&self, value: &[u8]) {
        const AT_ONCE: usize = 500;
        let many = |n: usize, out: &mut BytesMut| {
            let keys: Vec<Vec<u8>> = (n * AT_ONCE..(n + 1) * AT_ONCE).map(key).collect();
            let mut words: Vec<&[u8]> = vec![b"MSET"];
            words.extend(keys.iter().flat_map(|key| [key.as_slice(), value]));
            encode_request(&words, out);
        };
        self.serve(Client::new(0..KEYS / AT_ONCE, many, OK)).await;
    }
}

async fn run(case: &Case, count: usize) {
    let cluster = Cluster::start(case.nodes).await;
    cluster.fill(case.holds).await;
    let client = |numbers| Client::new(numbers, case.request, case.replies);
    cluster.serve(client(0..HOT)).await;
    let asks = client(HOT..HOT + count);
    let began = Instant::now();
    COUNTED_NODE.store(cluster.node(case.counted).id().0, Ordering::Relaxed);
    cluster.serve(asks).await;
    COUNTED_NODE.store(0, Ordering::Relaxed);
    let waited = began.elapsed();
    // What nodes do at rest would be counted, and a path that clients do not see.
    assert!(waited.is_zero(), "a reply waited {waited:?} for a timer");
}

fn in_virtual_time(what: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    // The order in which `select!` polls.
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(b"1"));
    let runtime = builder.build().expect("a runtime without I/O starts");
    runtime.block_on(what);
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["cases"] => CASES.iter().for_each(|case| println!("{}", case.name)),
        [name, count] if !count.starts_with('-') => {
            let case = CASES.iter().find(|case| case.name == name);
            let case = case.expect("a case that `cases` lists");
            let count = count.parse().expect("how many requests");
            in_virtual_time(async {
                run(case, count).await;
                // To free a hundred thousand keys takes a while under valgrind.
                std::process::exit(0);
            });
        }
        // `cargo bench` and `cargo test --benches`: that each case runs. To count is the script's.
        _ => {
            for case in &CASES {
                in_virtual_time(run(case, 10 * PIPELINE));
                println!("{}: runs; benches/instructions.sh counts", case.name);
            }
        }
    }
}
