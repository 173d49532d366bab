//! Records, recovery and the log's append.

use std::hint::black_box;
use std::sync::{Arc, Condvar, Mutex};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use understudy::units::{Epoch, Lsn, Millis};
use understudy::wal::{
    ChainPoint, Disk, Fsync, Kind, Log, LogConfig, Progress, RealDisk, Stamp, encode, scan,
};

fn stamp() -> Stamp {
    Stamp {
        epoch: Epoch(1),
        time: Millis(1),
        synced: Lsn(0),
        kind: Kind::Effects,
    }
}

fn records(count: usize) -> Vec<u8> {
    let (mut bytes, mut chain) = (Vec::new(), ChainPoint::default());
    for _ in 0..count {
        chain = encode(&mut bytes, chain, stamp(), &[&[7; 140]]);
    }
    bytes
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("wal/encode");
    for size in [32, 140, 1024] {
        let payload = vec![7_u8; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size}_bytes"), |b| {
            let mut out = Vec::with_capacity(4096);
            b.iter(|| {
                out.clear();
                encode(
                    &mut out,
                    ChainPoint::default(),
                    stamp(),
                    &[black_box(&payload)],
                )
            });
        });
    }
    group.finish();
}

fn recovery(c: &mut Criterion) {
    let bytes = records(10_000);
    let mut group = c.benchmark_group("wal/scan");
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("10000_records", |b| {
        b.iter(|| scan(ChainPoint::default(), black_box(&bytes), false, |_| {}));
    });
    group.finish();
}

type Synced = Arc<(Mutex<Lsn>, Condvar)>;

fn open(dir: &std::path::Path, fsync: Fsync) -> (Log, Synced) {
    let synced: Synced = Arc::default();
    let seen = Arc::clone(&synced);
    let on_progress = Arc::new(move |progress: &Progress| {
        if let Ok(mut lsn) = seen.0.lock() {
            *lsn = progress.synced;
            seen.1.notify_all();
        }
    });
    let config = LogConfig {
        fsync,
        ..LogConfig::default()
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let opened = Log::open(disk, dir, config, 1, ChainPoint::default(), on_progress);
    (opened.expect("a log in an empty folder opens").log, synced)
}

fn append(c: &mut Criterion) {
    let payload = [7_u8; 140];
    let mut group = c.benchmark_group("wal/append");
    group.throughput(Throughput::Elements(1));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (log, _) = open(dir.path(), Fsync::Os);
    group.bench_function("buffered", |b| {
        b.iter(|| log.append(Epoch(1), Millis(1), Kind::Effects, black_box(&payload)));
    });
    drop(log);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (log, synced) = open(dir.path(), Fsync::Always);
    group.bench_function("one_at_a_time_synced", |b| {
        b.iter(|| {
            let after = log
                .append(Epoch(1), Millis(1), Kind::Effects, &payload)
                .expect("the disk takes it");
            let lsn = synced.0.lock().expect("nobody panics");
            drop(
                synced
                    .1
                    .wait_while(lsn, |lsn| *lsn < after.lsn)
                    .expect("nobody panics"),
            );
        });
    });
    group.finish();
}

criterion_group!(benches, encoding, recovery, append);
criterion_main!(benches);
