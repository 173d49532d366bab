//! Start-up: what is in `wal/`, and whether it may be trusted. The judgement itself is `scan`.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::disk::{Disk, read_all, read_written};
use super::guard::{Guard, Rules};
use super::mend::{Hole, missing_between};
use super::offline::segment_header;
use super::record::{ChainPoint, Kind, RecordError};
use super::scan::{Scan, Verdict, scan_marked, used};
use super::segment::{HeaderError, SEGMENT_HEADER_BYTES, SegmentHeader, first_lsn_of};
use super::space::is_full;
use super::state::Segment;
use crate::units::{Epoch, Lsn};

/// What recovery found.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Behind the last good record.
    pub end: ChainPoint,
    /// What the oldest record follows.
    pub oldest: ChainPoint,
    /// Records found.
    pub records: u64,
    /// A torn tail was cut; why it was no record.
    pub torn: Option<RecordError>,
    pub(super) history: Vec<(Epoch, Lsn)>,
    pub(super) segments: Vec<Segment>,
}

/// Why a log was not opened. Nothing was changed on the disk.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Synced bytes are bad.
    #[error(
        "{} is damaged at offset {offset} (LSN {lsn}): {why}; {behind}. The node does not serve. \
         Restore the file, or move the data directory away and let the node take a copy from its \
         primary",
        path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Offset of the bad record in the file.
        offset: u64,
        /// Its number.
        lsn: Lsn,
        /// What is wrong with it.
        why: RecordError,
        /// What proves that it had been synced.
        behind: String,
        /// What is missing.
        hole: Box<Hole>,
    },
    /// A segment's header is bad.
    #[error("{}: {why}", path.display())]
    Header {
        /// The segment.
        path: PathBuf,
        /// What is wrong with it.
        why: HeaderError,
        /// What is missing; `None` where nothing is, as with a later version's.
        hole: Option<Box<Hole>>,
    },
    /// The directory holds another cluster's log.
    #[error(
        "{} belongs to cluster {found:032x}, this node to {wanted:032x}; is --data-dir right?",
        path.display()
    )]
    OtherCluster {
        /// The segment.
        path: PathBuf,
        /// As stated there.
        found: u128,
        /// This node's.
        wanted: u128,
    },
    /// Records are missing between two segments, or before the first.
    #[error(
        "{} begins behind LSN {found}, but the records before it end at LSN {wanted}: a segment is \
         missing",
        path.display()
    )]
    Gap {
        /// The segment behind the gap.
        path: PathBuf,
        /// What its first record follows, by its header.
        found: Lsn,
        /// Where the log before it ends.
        wanted: Lsn,
        /// What is missing; `None` where the two are not of one history.
        hole: Option<Box<Hole>>,
    },
}

impl OpenError {
    /// The records that are missing, where that is all that is wrong: they can be had from a member.
    pub fn hole(&self) -> Option<&Hole> {
        match self {
            OpenError::Damaged { hole, .. } => Some(hole),
            OpenError::Header { hole, .. } | OpenError::Gap { hole, .. } => hole.as_deref(),
            OpenError::Io { .. } | OpenError::OtherCluster { .. } => None,
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError + '_ {
    move |source| OpenError::Io {
        path: path.to_path_buf(),
        source,
    }
}

pub(super) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    cluster: u128,
    start: ChainPoint,
    rules: Rules,
) -> Result<Recovered, OpenError> {
    let wal = dir.join("wal");
    disk.create_dir_all(&wal).map_err(io_error(&wal))?;
    let names = disk.list(&wal).map_err(io_error(&wal))?;
    let mut found: Vec<(Lsn, PathBuf)> = names
        .iter()
        .filter_map(|name| first_lsn_of(name).map(|first| (first, wal.join(name))))
        .collect();
    found.sort_unstable();
    drop_unborn_segment(disk, &mut found)?;
    if rules.keep(Guard::R3OpenNames) {
        // A process that died between creating a segment and syncing the directory leaves a name
        // that a power cut may still take, with all that we shall have synced under it.
        disk.sync_dir(&wal).map_err(io_error(&wal))?;
    }
    let mut recovered = Recovered {
        end: start,
        oldest: start,
        records: 0,
        torn: None,
        history: vec![(start.epoch, start.lsn)],
        segments: Vec::new(),
    };
    for (place, (first, path)) in found.iter().enumerate() {
        let file = File {
            path: path.clone(),
            first: *first,
            next: found.get(place + 1),
        };
        take_segment(disk, dir, &file, cluster, rules, &mut recovered)?;
    }
    if recovered.end.lsn < start.lsn {
        // The snapshot reaches further than the log: what it stands for is missing from the log,
        // so the log cannot be continued.
        let end = recovered.end;
        let hole = match recovered.segments.last() {
            None => missing_between(dir, end, start),
            Some(last) => Box::new(Hole {
                segment: last.path.clone(),
                before: Some(last.before),
                after: Some(end),
                first: end.lsn.next(),
                last: start.lsn,
                upto: None,
            }),
        };
        return Err(OpenError::Gap {
            path: wal,
            found: end.lsn,
            wanted: start.lsn,
            hole: Some(hole),
        });
    }
    Ok(recovered)
}

/// A segment file, and the one behind it.
struct File<'a> {
    path: PathBuf,
    first: Lsn,
    next: Option<&'a (Lsn, PathBuf)>,
}

impl File<'_> {
    /// What is missing behind `after`, or from the segment's beginning where that is unknown, up to
    /// `last`.
    fn hole(
        &self,
        disk: &dyn Disk,
        before: Option<ChainPoint>,
        after: Option<ChainPoint>,
        last: Lsn,
    ) -> Box<Hole> {
        let header = self.next.and_then(|(_, path)| segment_header(disk, path));
        Box::new(Hole {
            segment: self.path.clone(),
            before,
            after,
            first: after.map_or(self.first, |after| after.lsn.next()),
            last,
            upto: header.map(|header| header.before),
        })
    }

    /// The last record that belongs here, if a successor says so.
    fn last(&self) -> Option<Lsn> {
        self.next.map(|(first, _)| first.previous())
    }
}

/// A crash between creating a segment and syncing its header leaves a last file whose header is
/// missing or torn. No record can be in it: the header is durable before the first is written. (A
/// damaged header before records is another matter, and is refused later.)
fn drop_unborn_segment(disk: &dyn Disk, found: &mut Vec<(Lsn, PathBuf)>) -> Result<(), OpenError> {
    let Some((_, path)) = found.last() else {
        return Ok(());
    };
    // The whole of it is read only where it matters: this is start-up time.
    let mut header = [0; SEGMENT_HEADER_BYTES];
    let read = disk
        .open(path, false)
        .and_then(|file| file.read_at(&mut header, 0))
        .map_err(io_error(path))?;
    if !matches!(
        SegmentHeader::decode(&header[..read]),
        Err(HeaderError::Magic | HeaderError::Crc)
    ) {
        return Ok(());
    }
    let bytes = read_all(disk, path).map_err(io_error(path))?;
    if used(bytes.get(SEGMENT_HEADER_BYTES..).unwrap_or(&[])) == 0 {
        disk.remove(path).map_err(io_error(path))?;
        found.pop();
    }
    Ok(())
}

fn take_segment(
    disk: &dyn Disk,
    dir: &Path,
    file: &File,
    cluster: u128,
    rules: Rules,
    so_far: &mut Recovered,
) -> Result<(), OpenError> {
    let path = file.path.clone();
    let bytes = read_written(disk, &path).map_err(io_error(&path))?;
    let header = match SegmentHeader::decode(&bytes) {
        Ok(header) => header,
        Err(why @ HeaderError::Version(_)) => {
            let hole = None;
            return Err(OpenError::Header { path, why, hole });
        }
        Err(why) => {
            // Its first record is missing for lack of what it follows; the others may be good.
            let end = so_far.end;
            let before = (end.lsn.next() == file.first).then_some(end);
            let hole = Some(file.hole(disk, before, before, file.first));
            return Err(OpenError::Header { path, why, hole });
        }
    };
    if header.cluster != cluster {
        return Err(OpenError::OtherCluster {
            path,
            found: header.cluster,
            wanted: cluster,
        });
    }
    let (before, end) = (header.before, so_far.end);
    if so_far.segments.is_empty() && before.lsn <= end.lsn {
        so_far.end = before;
        so_far.oldest = before;
        so_far.history = vec![(before.epoch, before.lsn)];
    } else if so_far.segments.is_empty() || before != end && rules.keep(Guard::R31Header) {
        return Err(OpenError::Gap {
            path,
            found: before.lsn,
            wanted: end.lsn,
            hole: (before.lsn > end.lsn).then(|| missing_between(dir, end, before)),
        });
    }
    let records = &bytes[SEGMENT_HEADER_BYTES..];
    let floor = header.floor_in(&bytes);
    let result = scan_marked(before, records, file.next.is_some(), floor, |record| {
        if record.kind == Kind::EpochStart {
            so_far.history.push((record.epoch, record.lsn));
        }
    });
    so_far.records += result.end.lsn.records_since(before.lsn);
    so_far.end = result.end;
    settle_end(disk, file, before, &bytes, &result, rules, so_far)?;
    so_far.segments.push(Segment {
        path,
        before,
        floor,
    });
    Ok(())
}

/// Cuts a torn tail, or refuses damage.
fn settle_end(
    disk: &dyn Disk,
    file: &File,
    before: ChainPoint,
    bytes: &[u8],
    result: &Scan,
    rules: Rules,
    so_far: &mut Recovered,
) -> Result<(), OpenError> {
    let path = &file.path;
    let offset = SEGMENT_HEADER_BYTES + result.good_bytes;
    if let Verdict::Damage {
        why,
        lsn,
        intact_behind,
    } = &result.verdict
        && rules.keep(Guard::R31Judge)
    {
        let behind = match intact_behind {
            Some(lsn) => format!("an intact record (LSN {lsn}) behind it says it was synced"),
            None => "what stands there was synced".to_string(),
        };
        let last = file
            .last()
            .unwrap_or(intact_behind.map_or(*lsn, Lsn::previous).max(*lsn));
        return Err(OpenError::Damaged {
            path: path.clone(),
            offset: offset as u64,
            lsn: *lsn,
            why: why.clone(),
            behind,
            hole: file.hole(disk, Some(before), Some(result.end), last),
        });
    }
    if file.next.is_none() && rules.keep(Guard::R3Open) {
        make_durable(disk, path, &bytes[..offset], rules).map_err(io_error(path))?;
    }
    if let Verdict::TornTail { why } | Verdict::Damage { why, .. } = &result.verdict {
        so_far.torn = Some(why.clone());
        cut(disk, path, offset as u64, rules).map_err(io_error(path))?;
    }
    Ok(())
}

/// R3: what the last segment holds may be only in the page cache of a process that died, or worse:
/// after a failed sync Linux counts pages as clean that the disk lacks, and the next sync succeeds
/// without them. So before any of it counts as synced, it is written again.
fn make_durable(disk: &dyn Disk, path: &Path, bytes: &[u8], rules: Rules) -> io::Result<()> {
    let file = disk.open(path, false)?;
    if rules.keep(Guard::R3OpenAgain) {
        file.write_at(bytes, 0)?;
    }
    file.sync_data()
}

/// R31: zeroes everything behind `offset`, keeping the file's room, and syncs; a discarded tail
/// must not rise again when later records happen to end where it began.
pub(super) fn cut(disk: &dyn Disk, path: &Path, offset: u64, rules: Rules) -> io::Result<()> {
    let file = disk.open(path, false)?;
    let len = file.len()?;
    let sync = || match rules.keep(Guard::R31CutSync) {
        true => file.sync_data(),
        false => Ok(()),
    };
    if rules.keep(Guard::R31CutZero) {
        file.set_len(offset)?;
    }
    sync()?;
    match file.allocate(len) {
        // Somebody took the room meanwhile. The segment is shorter, which the writer minds.
        Err(error) if is_full(&error) => {}
        allocated => allocated?,
    }
    sync()
}
