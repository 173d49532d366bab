//! Any bytes as a segment header, a control file and a snapshot on a simulated disk: never a panic.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use understudy::wal::sim_disk::SimDisk;
use understudy::wal::{ControlFile, Disk, SegmentHeader, SnapshotStore};

fuzz_target!(|bytes: &[u8]| {
    let _ = SegmentHeader::decode(bytes);
    let disk = SimDisk::new();
    for name in ["/d/control.a", "/d/snapshot/1-2.snap"] {
        let file = disk.open(Path::new(name), true).expect("a simulated file opens");
        file.write_at(bytes, 0).expect("a simulated disk takes bytes");
    }
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let _ = ControlFile::load(Arc::clone(&disk), Path::new("/d"));
    if let Ok(store) = SnapshotStore::open(disk, Path::new("/d")) {
        let _ = store.read(Path::new("/d/snapshot/1-2.snap"), |_| Ok(()));
    }
});
