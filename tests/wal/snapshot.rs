//! Snapshots on a simulated disk: made, copied from a peer in pieces, and every bit of them flipped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use understudy::units::{Epoch, Lsn, Millis};
use understudy::wal::sim_disk::SimDisk;
use understudy::wal::{ChainPoint, Disk, SnapshotKey, SnapshotStore, read_all};

use crate::wal::{self, DIR};

pub fn store(disk: &SimDisk) -> SnapshotStore {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    SnapshotStore::open(shared, Path::new(DIR)).unwrap()
}

fn begin(lsn: u64) -> ChainPoint {
    ChainPoint {
        lsn: Lsn(lsn),
        epoch: Epoch(3),
        crc: 0x0102_0304,
        time: Millis(5),
        offset: 6,
    }
}

/// Some that are packed, some that are not.
pub fn blocks() -> Vec<Vec<u8>> {
    let packed = (0..3_u8).map(|i| vec![i; 50 + i as usize]);
    let unpacked = (0..3_u8).map(|i| (0..40 + i).map(|n| n * 5 + i).collect());
    packed.chain(unpacked).collect()
}

/// Makes a snapshot; whether it was finished.
pub fn make(disk: &SimDisk, lsn: u64) -> bool {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let Ok(store) = SnapshotStore::open(shared, Path::new(DIR)) else {
        return false;
    };
    let Ok(mut writer) = store.create(7, begin(lsn)) else {
        return false;
    };
    let mut written = blocks()
        .into_iter()
        .map(|block| writer.block(&block, 2).is_ok());
    written.all(|done| done) && writer.finish(Lsn(lsn + 2)).is_ok()
}

pub fn read(store: &SnapshotStore, path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let mut found = Vec::new();
    let read = store.read(path, |block| {
        found.push(block.to_vec());
        Ok(())
    });
    read.map(|_| found).map_err(|error| error.to_string())
}

/// A finished snapshot's bytes and which it is.
pub fn source(lsn: u64) -> (Vec<u8>, SnapshotKey) {
    let disk = wal::disk();
    assert!(make(&disk, lsn));
    let store = store(&disk);
    let (_, _, path) = store.list().unwrap().pop().unwrap();
    let key = store.describe(&path).unwrap().key();
    (read_all(&disk, &path).unwrap(), key)
}

const OLD_SEGMENT: &str = "00000000000000000001.wal";

/// A node with a log and two snapshots.
pub fn before_copy() -> SimDisk {
    let disk = wal::disk();
    assert!(make(&disk, 10) && make(&disk, 20));
    let wal = Path::new(DIR).join("wal");
    disk.create_dir_all(&wal).unwrap();
    let segment = disk.open(&wal.join(OLD_SEGMENT), true).unwrap();
    segment.write_at(b"the log", 0).unwrap();
    segment.sync_data().unwrap();
    disk.sync_dir(&wal).unwrap();
    disk
}

/// Takes a copy in small pieces over as many connections as it takes, each good for `pieces` of
/// them; then puts it in the place of everything. Whether it was settled.
pub fn copy(disk: &SimDisk, bytes: &[u8], key: SnapshotKey, pieces: usize) -> Result<(), String> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let said = |error: understudy::wal::SnapshotError| error.to_string();
    let store = SnapshotStore::open(shared, Path::new(DIR)).map_err(said)?;
    let mut last = None;
    loop {
        let mut receiver = store.receive(key).map_err(said)?;
        let held = receiver.held() as usize;
        if last.is_some_and(|last| held < last) {
            return Err(format!("{held} bytes are held, {last:?} were before"));
        }
        last = Some(held);
        for piece in bytes[held..].chunks(100).take(pieces) {
            receiver.write(piece).map_err(said)?;
        }
        if receiver.held() < key.bytes {
            continue;
        }
        let whole = receiver.verify().map_err(said)?;
        store.void_all_but(&whole).map_err(said)?;
        let wal = Path::new(DIR).join("wal");
        let gone = disk.remove(&wal.join(OLD_SEGMENT));
        gone.and_then(|()| disk.sync_dir(&wal))
            .map_err(|error| error.to_string())?;
        return store.settle().map(|_| ()).map_err(said);
    }
}

/// After a crash during a copy: everything as before it, or the copy and nothing else. Which.
pub fn is_before_or_after(disk: &SimDisk, key: SnapshotKey) -> Result<bool, String> {
    let store = store(disk);
    let list = store.list().map_err(|error| error.to_string())?;
    for (_, _, path) in &list {
        let found = read(&store, path)?;
        if found != blocks() {
            return Err(format!("{} holds something else", path.display()));
        }
    }
    let begins: Vec<u64> = list.iter().map(|(begin, _, _)| begin.0).collect();
    let log = disk.list(&Path::new(DIR).join("wal")).unwrap();
    match (&begins[..], &log[..]) {
        ([10, 20], [segment]) if segment == OLD_SEGMENT => Ok(false),
        ([begin], []) if *begin == key.begin.0 => Ok(true),
        // The second step was under way: a snapshot of before that is still named is void only
        // with the log, and `open` has just finished that step.
        other => Err(format!("snapshots and log are {other:?}")),
    }
}

/// Flips each bit of a finished snapshot. How many, and the first that nobody noticed.
pub fn rot() -> (u64, Option<u64>) {
    let (bytes, _) = source(10);
    let disk = wal::disk();
    assert!(make(&disk, 10));
    let path: PathBuf = store(&disk).list().unwrap().pop().unwrap().2;
    let bits = bytes.len() as u64 * 8;
    let unnoticed = (0..bits).find(|bit| {
        let image = disk.kill();
        image.rot(&path, *bit);
        read(&store(&image), &path).is_ok()
    });
    (bits, unnoticed)
}

/// A file of one block with these lengths and this body, every checksum right.
pub fn forged(raw: u32, keys: u32, body: &[u8]) -> Vec<u8> {
    let seeded = |seed: u32, bytes: &[u8]| {
        let mut hasher = crc32fast::Hasher::new_with_initial(seed);
        hasher.update(bytes);
        hasher.finalize()
    };
    let whole = source(10).0;
    let mut file = whole[..68].to_vec();
    let header_crc = u32::from_le_bytes(file[64..].try_into().unwrap());
    let mut checked = Vec::new();
    for number in [raw, body.len() as u32, keys] {
        checked.extend_from_slice(&number.to_le_bytes());
    }
    file.extend_from_slice(&checked);
    checked.extend_from_slice(body);
    let block_crc = seeded(header_crc, &checked);
    file.extend_from_slice(&block_crc.to_le_bytes());
    file.extend_from_slice(body);
    let at = file.len() as u64;
    let mut footer = vec![0xff; 4];
    footer.extend_from_slice(&1_u32.to_le_bytes());
    for number in [12, at, u64::from(keys), u64::from(raw)] {
        footer.extend_from_slice(&number.to_le_bytes());
    }
    footer.extend_from_slice(&block_crc.to_le_bytes());
    let crc = seeded(header_crc, &footer);
    footer.extend_from_slice(&crc.to_le_bytes());
    file.extend_from_slice(&footer);
    file
}

/// Reads a file with these bytes as a snapshot.
pub fn read_bytes(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let disk = wal::disk();
    let store = store(&disk);
    let path = Path::new(DIR).join("snapshot/1-2.snap");
    let file = disk.open(&path, true).unwrap();
    file.write_at(bytes, 0).unwrap();
    read(&store, &path)
}
