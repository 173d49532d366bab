//! The floor under one synced write on two nodes: two fdatasyncs side by side, and two loopback
//! round trips (client and primary, primary and standby), with nothing else around them.
//!
//! Two files, preallocated and zeroed, each get the bytes of the log record that understudy writes
//! for such a SET. The two parts are measured one after the other, since the machine may have no
//! more cores than the first needs, and their medians are added.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::BytesMut;
use serde::Serialize;
use understudy::cli::local_cluster::ports::Reservation;
use understudy::keyspace::{Effect, Effects};
use understudy::resp::encode_request;
use understudy::units::{Epoch, Lsn, Millis};
use understudy::wal::{ChainPoint, Kind, Stamp, encode};

use crate::lanes::{key, value};

/// Bytes of each file: as a log segment has.
const FILE_BYTES: usize = 64 << 20;

/// Medians of one round, microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Floor {
    /// Which round, from 1.
    pub round: u32,
    /// Bytes written before each sync.
    pub record_bytes: usize,
    /// Two writes and syncs begun together, until both have ended.
    pub syncs_us: f64,
    /// Two round trips.
    pub trips_us: f64,
    /// Both.
    pub p50_us: f64,
}

/// Measures for about `length`, with files in `folder`.
pub fn measure(
    round: u32,
    folder: &Path,
    value_bytes: usize,
    length: Duration,
) -> anyhow::Result<Floor> {
    let record = record(value_bytes);
    let syncs = syncs(folder, &record, length / 2)?;
    let trips = trips(&record, value_bytes, length / 2)?;
    let (syncs_us, trips_us) = (median_us(syncs)?, median_us(trips)?);
    Ok(Floor {
        round,
        record_bytes: record.len(),
        syncs_us,
        trips_us,
        p50_us: syncs_us + trips_us,
    })
}

/// The log record of one SET.
fn record(value_bytes: usize) -> Vec<u8> {
    let mut effects = Effects::new();
    effects.push(Effect::Set {
        key: &key(0),
        value: &value(value_bytes),
        expire_at: None,
    });
    let stamp = Stamp {
        epoch: Epoch(1),
        time: Millis(1),
        synced: Lsn(0),
        kind: Kind::Effects,
    };
    let mut record = Vec::new();
    encode(
        &mut record,
        ChainPoint::default(),
        stamp,
        &[effects.encoded()],
    );
    record
}

fn syncs(folder: &Path, record: &[u8], length: Duration) -> anyhow::Result<Vec<Duration>> {
    let files = [
        zeroed(&folder.join("floor-a"))?,
        zeroed(&folder.join("floor-b"))?,
    ];
    let start = Start::default();
    let until = Instant::now() + length;
    let [ours, theirs] = std::thread::scope(|scope| {
        let other = scope.spawn(|| start.guarded(|| sync_often(&files[1], record, &start, None)));
        let own = start.guarded(|| sync_often(&files[0], record, &start, Some(until)));
        let other = other.join();
        [
            own,
            other.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        ]
    });
    let pairs = ours?.into_iter().zip(theirs?);
    Ok(pairs.map(|(own, other)| own.max(other)).collect())
}

fn zeroed(path: &Path) -> anyhow::Result<File> {
    let make = || {
        let mut file = File::create(path)?;
        file.write_all(&vec![0; FILE_BYTES])?;
        file.sync_all()?;
        Ok(file)
    };
    make().map_err(|error: std::io::Error| {
        anyhow::anyhow!("cannot write {}: {error}", path.display())
    })
}

/// Lets two threads begin together, again and again.
#[derive(Default)]
struct Start {
    arrived: AtomicUsize,
    stop: AtomicBool,
}

impl Start {
    /// Waits, without sleeping, until both have arrived for the `turn`-th time (from 1); whether
    /// they go on.
    fn wait(&self, turn: usize) -> bool {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        while self.arrived.load(Ordering::SeqCst) < 2 * turn && !self.is_stopped() {
            std::thread::yield_now();
        }
        !self.is_stopped()
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Whatever way `work` ends, the other thread is not left waiting.
    fn guarded<T>(&self, work: impl FnOnce() -> T) -> T {
        let done = work();
        self.stop.store(true, Ordering::SeqCst);
        done
    }
}

/// Writes and syncs in step with the other thread; the thread that has an end decides on it.
fn sync_often(
    file: &File,
    record: &[u8],
    start: &Start,
    until: Option<Instant>,
) -> anyhow::Result<Vec<Duration>> {
    let mut spans = Vec::new();
    for turn in 1..=FILE_BYTES / record.len() {
        if until.is_some_and(|until| Instant::now() >= until) || !start.wait(turn) {
            break;
        }
        let began = Instant::now();
        file.write_all_at(record, ((turn - 1) * record.len()) as u64)?;
        file.sync_data()?;
        spans.push(began.elapsed());
    }
    Ok(spans)
}

/// Bytes of a standby's acknowledgement, about.
const ACK_BYTES: usize = 32;
const OK: &[u8] = b"+OK\r\n";

fn trips(record: &[u8], value_bytes: usize, length: Duration) -> anyhow::Result<Vec<Duration>> {
    let mut request = BytesMut::new();
    encode_request(&[b"SET", &key(0), &value(value_bytes)], &mut request);
    let port = Reservation::take()?;
    let listener = TcpListener::bind(port.address())?;
    let sizes = [request.len(), record.len()];
    let answering = std::thread::spawn(move || answer_often(&listener, sizes));
    let spans = ask_often(port.address(), &request, record, length);
    let answered = answering.join();
    let answered = answered.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    // The asker's error comes first: the other's follows from it.
    let spans = spans?;
    answered.context("the loopback connection broke")?;
    Ok(spans)
}

fn ask_often(
    address: SocketAddr,
    request: &[u8],
    record: &[u8],
    length: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let until = Instant::now() + length;
    let mut spans = Vec::new();
    let (mut reply, mut ack) = ([0; OK.len()], [0; ACK_BYTES]);
    while Instant::now() < until {
        let began = Instant::now();
        socket.write_all(request)?;
        socket.read_exact(&mut reply)?;
        socket.write_all(record)?;
        socket.read_exact(&mut ack)?;
        spans.push(began.elapsed());
    }
    Ok(spans)
}

/// Answers until the asker is gone.
fn answer_often(listener: &TcpListener, [request, record]: [usize; 2]) -> std::io::Result<()> {
    let (mut socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let (mut request, mut record) = (vec![0; request], vec![0; record]);
    loop {
        match socket.read_exact(&mut request) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        socket.write_all(OK)?;
        socket.read_exact(&mut record)?;
        socket.write_all(&[0; ACK_BYTES])?;
    }
}

fn median_us(mut spans: Vec<Duration>) -> anyhow::Result<f64> {
    spans.sort_unstable();
    let middle = spans.get(spans.len() / 2);
    let middle = middle.context("nothing was measured under the floor; give more --secs")?;
    Ok(middle.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_above_nothing_and_its_parts_add_up() {
        let folder = std::env::temp_dir().join(format!("ring-floor-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("it is new");
        let floor = measure(1, &folder, 100, Duration::from_millis(100)).expect("it measures");
        std::fs::remove_dir_all(&folder).expect("it was made here");
        assert!(floor.syncs_us > 0.0 && floor.trips_us > 0.0);
        assert!((floor.p50_us - floor.syncs_us - floor.trips_us).abs() < 1e-9);
        assert!(floor.record_bytes > 116, "key, value and a header");
    }
}
