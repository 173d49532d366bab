//! What a snapshot costs: how long its walk holds the keyspace's lock, how long it takes to write, to
//! read back and to load. Measurements, run by hand with optimisation: `cargo test --profile sim --test snapshot_cost -- --ignored --nocapture`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use understudy::keyspace::{
    Effect, Effects, HashSeed, Keyspace, LoadRoom, Loader, WalkBatch, WalkCursor, WalkLimit,
};
use understudy::units::Lsn;
use understudy::wal::{
    ChainPoint, RealDisk, SnapshotError, SnapshotReader, SnapshotStore, StoredBlock,
};

/// Of this thread. (By the clock, a machine that runs other things, too, once made 8 ms out of a
/// hold of 0.1 ms.)
fn processor_time() -> Duration {
    time_of(rustix::time::ClockId::ThreadCPUTime)
}

fn time_of(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// `KEYS` keys (5 million unless told), values of 100 bytes, half of each hard to compress.
fn filled() -> Keyspace {
    let keys = std::env::var("KEYS").map_or(5_000_000, |keys| keys.parse().expect("a number"));
    let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
    for n in 0..keys {
        let (key, mut value) = (format!("key:{n:012}"), vec![b'v'; 100]);
        let mut seed: u64 = n;
        for byte in &mut value[..50] {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (seed >> 56) as u8;
        }
        let mut effects = Effects::new();
        effects.push(Effect::Set {
            key: key.as_bytes(),
            value: &value,
            expire_at: None,
        });
        keyspace.apply(&effects, Lsn::ZERO);
    }
    keyspace
}

#[test]
#[ignore = "a measurement over 5 million keys; wants --profile sim"]
fn no_hold_of_the_lock_is_longer_than_a_millisecond() {
    let keyspace = filled();
    let limit = WalkLimit::default();
    let (mut cursor, mut batch) = (WalkCursor::default(), WalkBatch::with_room(limit));
    let (mut holds, mut encoding, mut longest) = (Vec::new(), Duration::ZERO, Duration::ZERO);
    let (mut block, mut keys, mut bytes) = (Vec::new(), 0, 0);
    loop {
        let (began, worked) = (Instant::now(), processor_time());
        let done = keyspace.walk_batch(&mut cursor, limit, &mut batch);
        holds.push(processor_time() - worked);
        longest = longest.max(began.elapsed());
        let began = Instant::now();
        let full = |block: &mut Vec<u8>, _: &mut u64| {
            bytes += block.len();
            block.clear();
            Ok::<(), ()>(())
        };
        batch
            .encode(&mut block, &mut keys, 256 << 10, full)
            .expect("it never fails");
        encoding += began.elapsed();
        if done {
            break;
        }
    }
    let place = (0..holds.len()).max_by_key(|place| holds[*place]);
    holds.sort_unstable();
    let at = |part: f64| holds[((holds.len() - 1) as f64 * part) as usize];
    println!(
        "{} keys: {} holds of the lock, processor time p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?} \
         (hold {place:?}), all {:?}; longest by the clock {longest:?}; encoding {} MB took {encoding:?}",
        keyspace.len(),
        holds.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        holds.iter().sum::<Duration>(),
        (bytes + block.len()) / 1_000_000,
    );
    assert_eq!(keys, keyspace.len() as u64);
    assert!(at(1.0) < Duration::from_millis(1));
}

fn load(reader: SnapshotReader, threads: usize) -> Keyspace {
    let loader = Loader::new(HashSeed::new([1, 2]), reader.info().keys);
    let reader = Mutex::new(reader);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let (mut block, mut room) = (StoredBlock::default(), Vec::new());
                let mut entries = LoadRoom::default();
                loop {
                    let more = reader.lock().unwrap().next_block(&mut block).unwrap();
                    if !more {
                        return;
                    }
                    let bytes = block.unpack(&mut room).unwrap();
                    loader.add(bytes, &mut entries).unwrap();
                }
            });
        }
    });
    loader.finish()
}

#[test]
#[ignore = "a measurement over 5 million keys; wants --profile sim"]
fn a_snapshot_is_written_and_loaded() {
    let keyspace = filled();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = SnapshotStore::open(Arc::new(RealDisk), dir.path()).expect("it is empty");
    let mut writer = store
        .create(7, ChainPoint::default())
        .expect("there is room");
    let began = Instant::now();
    let limit = WalkLimit::default();
    let (mut cursor, mut batch) = (WalkCursor::default(), WalkBatch::with_room(limit));
    let (mut block, mut keys, mut done) = (Vec::new(), 0, false);
    while !done {
        done = keyspace.walk_batch(&mut cursor, limit, &mut batch);
        let mut full = |block: &mut Vec<u8>, keys: &mut u64| {
            writer.block(block, *keys as u32)?;
            block.clear();
            *keys = 0;
            Ok::<(), SnapshotError>(())
        };
        let encoded = batch.encode(&mut block, &mut keys, 256 << 10, &mut full);
        encoded
            .and_then(|()| match done && keys > 0 {
                true => full(&mut block, &mut keys),
                false => Ok(()),
            })
            .expect("the disk takes it");
    }
    let sealed = writer.seal(Lsn::ZERO).expect("the disk takes it");
    let wrote = began.elapsed();
    let began = Instant::now();
    let mut reader = sealed.reader().expect("it is whole");
    let (mut stored, mut room) = (StoredBlock::default(), Vec::new());
    while reader.next_block(&mut stored).expect("it is readable") {
        stored.unpack(&mut room).expect("it is intact");
    }
    let read_back = began.elapsed();
    let path = sealed.install().expect("the disk takes it");
    let info = store.describe(&path).expect("it is whole");
    println!(
        "{} keys, {} MB, {} MB packed: walked, packed and written in {wrote:?}, read back from the \
         disk in {read_back:?}",
        info.keys,
        info.raw_bytes / 1_000_000,
        info.bytes / 1_000_000
    );
    let digest = keyspace.digest();
    drop(keyspace);
    for threads in [1, 2, 1, 2] {
        let reader = store.reader(&path).expect("it is whole");
        let all_threads = || time_of(rustix::time::ClockId::ProcessCPUTime);
        let (began, worked) = (Instant::now(), all_threads());
        let loaded = load(reader, threads);
        println!(
            "loaded by {threads} threads in {:?}, processor time {:?}",
            began.elapsed(),
            all_threads() - worked
        );
        assert_eq!(loaded.digest(), digest);
    }
}
