//! The write-ahead log, the control file and the snapshots: everything that touches the disk.
//!
//! Promises: a record that was reported synced is there after any crash. Corrupt bytes are never
//! served, shipped or acknowledged, and never truncated away while intact records follow them. The
//! first failed write or sync closes the log for good; a full disk does not (`space`).
//!
//! The formats stand in `docs/formats.md`. All access goes through [`Disk`].

mod control_file;
mod discarded;
mod disk;
mod edit;
mod examine;
mod guard;
mod log;
mod mend;
mod offline;
mod reader;
mod record;
mod recover;
mod scan;
mod segment;
pub mod sim_disk;
mod snapshot_file;
mod space;
mod spare;
mod state;
mod stepped;
mod writer;

pub use control_file::{ControlError, ControlFile, Loaded, MAX_CONTROL_BYTES, inspect_control};
pub use discarded::{
    DiscardedError, DiscardedName, DiscardedReader, DiscardedSummary, FileBytes, discarded_files,
    open_discarded, summarize,
};
pub use disk::{
    Disk, DiskFile, Held, Map, Mapped, ReadOnlyDisk, RealDisk, read_all, replace, replace_within,
};
pub use edit::{Discarded, EditError};
pub use examine::{Examination, Examined, Finding, Sealed};
#[cfg(feature = "mutants")]
pub use guard::Guard;
pub use log::{
    AppendError, AppendRawError, Fsync, Log, LogClosed, LogConfig, OnProgress, Opened, Progress,
};
pub use mend::{Hole, MendError, mend};
pub use offline::{SegmentReport, inspect, segment_files, segment_first, segment_header};
pub use reader::{Chunk, NoReader, Reader};
pub use record::{
    ChainPoint, HEADER_BYTES, Kind, MAX_RECORD_BYTES, RecordError, RecordRef, Stamp, check, encode,
    records,
};
pub use recover::{OpenError, Recovered};
pub use scan::{Scan, Verdict, scan};
pub use segment::{HeaderError, SEGMENT_HEADER_BYTES, SegmentHeader, segment_path};
pub use snapshot_file::{
    FullCopy, MAX_BLOCK_BYTES, SealedSnapshot, SnapshotError, SnapshotInfo, SnapshotKey,
    SnapshotReader, SnapshotReceiver, SnapshotStore, SnapshotWriter, StoredBlock,
};
pub use space::{DiskFull, RESERVE_BYTES, Reserve, Room, is_full};
pub use stepped::{Clock, Step};
