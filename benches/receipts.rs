//! What receipts of copies cost: WAIT and WAITAOF on idle clusters of two data nodes and a witness, one
//! client, beside a write that is synced on two nodes (sync mode) in the same run.
//!
//! `cargo bench --bench receipts`; half a minute. Without `--bench` (as `cargo test --benches` runs it) a
//! few rounds, to see that it runs.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use understudy::cli::local_cluster::{Folder, LocalCluster, LocalError, Plan};
use understudy::resp::{Reply, ReplyLimits, ReplyParser, encode_request};

const PATIENCE: Duration = Duration::from_secs(30);

struct Client {
    stream: TcpStream,
    parser: ReplyParser,
    input: BytesMut,
}

impl Client {
    fn to(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect(addr).expect("the primary listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Client {
            stream,
            parser: ReplyParser::new(ReplyLimits::default()),
            input: BytesMut::new(),
        }
    }

    /// The reply, and how long it took.
    fn ask(&mut self, words: &[&str]) -> (Reply, Duration) {
        let mut out = BytesMut::new();
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        encode_request(&words, &mut out);
        let began = Instant::now();
        self.stream.write_all(&out).expect("it reads");
        let mut some = [0; 4096];
        loop {
            if let Some(reply) = self.parser.parse(&mut self.input).expect("RESP") {
                return (reply, began.elapsed());
            }
            let read = self.stream.read(&mut some).expect("a reply");
            assert!(read > 0, "the connection was closed");
            self.input.extend_from_slice(&some[..read]);
        }
    }
}

/// One thing's times, in order.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn at(&self, share: f64) -> f64 {
        let place = ((self.0.len() - 1) as f64 * share) as usize;
        self.0[place].as_secs_f64() * 1e3
    }

    fn print(&mut self, mode: &str, what: &str) -> f64 {
        self.0.sort_unstable();
        let (p50, p99) = (self.at(0.5), self.at(0.99));
        println!("{mode:>9}  {what:<28} p50 {p50:>7.3} ms   p99 {p99:>7.3} ms");
        p50
    }
}

/// Medians: a write, WAIT behind one, a write with WAITAOF.
struct Medians {
    set: f64,
    wait: f64,
    set_and_waitaof: f64,
}

fn measure(mode: &str, rounds: usize) -> Result<Medians, Box<dyn std::error::Error>> {
    let plan = Plan {
        mode: mode.to_owned(),
        level: None,
        ..Plan::pair_with_witness("receipts")
    };
    let folder = Folder::create(None, "receipts")?;
    let binary = Path::new(env!("CARGO_BIN_EXE_understudy"));
    let mut cluster = LocalCluster::prepare(binary, plan, folder)?;
    cluster.start_all()?;
    let primary = cluster.wait_ready(PATIENCE, || Ok::<(), LocalError>(()))?;
    let mut client = Client::to(cluster.client_addr(primary)?);
    // Until the standby is there.
    client.ask(&["SET", "key", "value"]);
    let (there, _) = client.ask(&["WAIT", "1", "30000"]);
    assert_eq!(there, Reply::Integer(1), "the standby follows");
    let (mut set, mut wait, mut both) = (Times::default(), Times::default(), Times::default());
    for round in 0..rounds {
        let value = round.to_string();
        set.0.push(client.ask(&["SET", "key", &value]).1);
        let (copies, time) = client.ask(&["WAIT", "1", "0"]);
        assert_eq!(copies, Reply::Integer(1));
        wait.0.push(time);
    }
    for round in 0..rounds {
        let value = round.to_string();
        let (_, written) = client.ask(&["SET", "key", &value]);
        let (copies, time) = client.ask(&["WAITAOF", "1", "1", "0"]);
        let both_copies = Reply::Array(vec![Reply::Integer(1), Reply::Integer(1)]);
        assert_eq!(copies, both_copies);
        both.0.push(written + time);
    }
    Ok(Medians {
        set: set.print(mode, "SET"),
        wait: wait.print(mode, "WAIT 1 0, behind a SET"),
        set_and_waitaof: both.print(mode, "SET and WAITAOF 1 1 0"),
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds = match std::env::args().any(|arg| arg == "--bench") {
        true => 3000,
        false => 20,
    };
    let synced = measure("sync", rounds)?.set;
    for mode in ["async", "semi-sync"] {
        let medians = measure(mode, rounds)?;
        println!(
            "{mode:>9}  WAIT 1: {:.3} ms (aim: below 1); SET and WAITAOF 1 1: {:.2} times a SET in sync mode \
             (aim: below 1.5); SET: {:.2} times",
            medians.wait,
            medians.set_and_waitaof / synced,
            medians.set / synced
        );
    }
    Ok(())
}
