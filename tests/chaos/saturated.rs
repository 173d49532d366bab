//! Load alone is no fault: with every core busy, nobody may be taken for dead.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::cluster::{Cluster, Shape};
use super::wire::{Waited, Wire};

/// Requests a client sends at a time.
const BATCH: u64 = 64;

/// Loads one set-up for so long, at default timers. Panics when a takeover happened.
pub fn run(shape: Shape, span: Duration) {
    let mut cluster = Cluster::start(shape, None, "");
    let (primary, _) = cluster.wait_ready().unwrap_or_else(|why| panic!("{why}"));
    let before = cluster.seen_by(primary).expect("it is ready").epoch;
    let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let threads = 2 * std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let clients: Vec<_> = (0..threads)
        .map(|client| {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            let addr = cluster.client_addr(primary);
            std::thread::spawn(move || hammer(addr, client, &stop, &answers))
        })
        .collect();
    let (busy, began) = (Cores::now(), Instant::now());
    let mut longest_silence = Duration::ZERO;
    let (mut last, mut last_at) = (0, Instant::now());
    while began.elapsed() < span {
        std::thread::sleep(Duration::from_millis(20));
        let ended = cluster.notice_deaths();
        assert!(ended.is_ok(), "{ended:?}");
        let now = answers.load(Ordering::Relaxed);
        if now > last {
            (last, last_at) = (now, Instant::now());
        }
        longest_silence = longest_silence.max(last_at.elapsed());
    }
    let share = Cores::now().busy_since(&busy);
    stop.store(true, Ordering::Relaxed);
    let ended = clients
        .into_iter()
        .map(|client| client.join().expect("it does not panic"));
    let broken: Vec<String> = ended.flatten().collect();
    let (after, _) = cluster.wait_ready().unwrap_or_else(|why| panic!("{why}"));
    let epoch = cluster.seen_by(after).expect("it is ready").epoch;
    println!(
        "{}: {:.0} s at {:.0} requests a second, cores {:.1} % busy; longest time without an \
         answer {} ms; epoch {before} then {epoch}",
        shape.name(),
        began.elapsed().as_secs_f64(),
        last as f64 / began.elapsed().as_secs_f64(),
        share * 100.0,
        longest_silence.as_millis(),
    );
    if (after, epoch) != (primary, before) {
        cluster.keep_files();
        let history = cluster.history_of(after);
        panic!(
            "a false takeover: node {primary} in epoch {before}, then node {after} in epoch {epoch}\n\
             {history:#?}\n{}\nkept: {}",
            cluster.last_words(),
            cluster.folder().display()
        );
    }
    assert!(
        broken.is_empty(),
        "clients of a healthy primary: {broken:?}"
    );
    assert!(last > 1000, "that was no load: {last} answers");
}

/// Batches of writes and reads, one after the other. Returns what ended it before its time.
fn hammer(addr: SocketAddr, client: u64, stop: &AtomicBool, answers: &AtomicU64) -> Option<String> {
    let mut wire = Wire::open(addr, Duration::from_secs(5))?;
    let mut sequence = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let requests = (0..BATCH).map(|_| {
            sequence += 1;
            let key = format!("k:{client}:{}", sequence % 5000).into_bytes();
            match sequence % 4 {
                0 => vec![b"GET".to_vec(), key],
                _ => vec![b"SET".to_vec(), key, vec![b'x'; 100]],
            }
        });
        if !wire.send(&requests.collect::<Vec<_>>()) {
            return Some("closed while sending".to_owned());
        }
        let until = Instant::now() + Duration::from_secs(20);
        for _ in 0..BATCH {
            match wire.receive(|| Instant::now() > until) {
                Waited::Reply(reply) if reply.is_error() => return Some(format!("{reply:?}")),
                Waited::Reply(_) => answers.fetch_add(1, Ordering::Relaxed),
                Waited::Broken => return Some("closed while waiting".to_owned()),
                Waited::GaveUp => return Some("no answer in 20 s".to_owned()),
            };
        }
    }
    None
}

/// The machine's time so far, in ticks of all cores.
struct Cores {
    idle: u64,
    all: u64,
}

impl Cores {
    fn now() -> Cores {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = first
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        Cores {
            // Idle, and idle with a disk at work.
            idle: ticks.iter().skip(3).take(2).sum(),
            all: ticks.iter().take(8).sum(),
        }
    }

    fn busy_since(&self, earlier: &Cores) -> f64 {
        let all = self.all.saturating_sub(earlier.all).max(1);
        1.0 - self.idle.saturating_sub(earlier.idle) as f64 / all as f64
    }
}
