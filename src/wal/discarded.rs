//! Reading what a node gave up when it rejoined: `discarded/<epoch>-<first>-<last>.wal`, a segment's
//! header and then records, nothing behind them.
//!
//! Promises: a record is given out only once its checksum was right behind the one before it; a
//! file that ends before the LSN its name states is found out; at most one record is in memory, and
//! no length is believed before the bytes have come. Nothing is ever written here: `save_discarded`
//! (`edit.rs`) makes these files, and no program removes them.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::disk::{Disk, DiskFile};
use super::record::{self, ChainPoint, Kind, RecordError, RecordRef, UncheckedHeader};
use super::record::{HEADER_BYTES, MAX_RECORD_BYTES};
use super::segment::{HeaderError, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::units::{Epoch, Lsn, Millis};

/// Room for a record that is kept from one to the next; what a larger one took is given back.
const KEPT_BYTES: usize = 4 << 20;

/// The name of such a file: the epoch of its last record, its first and its last LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiscardedName {
    /// The reign that wrote the last of the records.
    pub epoch: Epoch,
    /// First LSN.
    pub first: Lsn,
    /// Last LSN.
    pub last: Lsn,
}

impl DiscardedName {
    /// Reads a name; `None` for any other text, in particular for any with a folder in it or that
    /// this program would not write the same way.
    pub fn parse(text: &str) -> Option<DiscardedName> {
        let mut numbers = text.strip_suffix(".wal")?.split('-').map(str::parse);
        let mut number = || numbers.next()?.ok();
        let name = DiscardedName {
            epoch: Epoch(number()?),
            first: Lsn(number()?),
            last: Lsn(number()?),
        };
        // `+1`, `01` and a fourth number are other names.
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for DiscardedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}.wal", self.epoch, self.first, self.last)
    }
}

/// The files of a data directory, oldest first; none where it has no such folder.
///
/// # Errors
/// The folder cannot be read.
pub fn discarded_files(
    disk: &dyn Disk,
    data_dir: &Path,
) -> io::Result<Vec<(DiscardedName, PathBuf)>> {
    let dir = data_dir.join("discarded");
    let names = disk.list(&dir)?;
    let mut found: Vec<_> = names
        .iter()
        .filter_map(|name| Some((DiscardedName::parse(name)?, dir.join(name))))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Why such a file cannot be read, or not to its end.
#[derive(Debug, Error)]
pub enum DiscardedError {
    /// It does not come.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not begin as a segment does.
    #[error("at offset 0: {0}")]
    Header(#[from] HeaderError),
    /// Its name states another first or last LSN, or another epoch.
    #[error("it holds LSN {first} to {last} of epoch {epoch}, and its name states otherwise")]
    Misnamed {
        /// First LSN that is there.
        first: Lsn,
        /// Last.
        last: Lsn,
        /// Epoch of the last.
        epoch: Epoch,
    },
    /// Bytes that are not the next record.
    #[error("at offset {offset}: LSN {lsn} is damaged ({why})")]
    Damaged {
        /// Where the record begins, bytes from the file's start.
        offset: u64,
        /// Which record.
        lsn: Lsn,
        /// What is wrong.
        why: RecordError,
    },
    /// Its name states records that are not there.
    #[error("it ends behind LSN {end}, and its name states records up to LSN {last}")]
    CutShort {
        /// Last LSN that is there.
        end: Lsn,
        /// As its name states.
        last: Lsn,
    },
}

/// The records of such a file, from any source of its bytes, in order.
pub struct DiscardedReader<R> {
    input: R,
    name: Option<DiscardedName>,
    header: SegmentHeader,
    end: ChainPoint,
    /// Bytes from the file's start, up to the next record.
    offset: u64,
    /// The record given out last.
    record: Vec<u8>,
}

impl<R> fmt::Debug for DiscardedReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscardedReader")
            .field("name", &self.name)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl<R: Read> DiscardedReader<R> {
    /// Reads and checks the header. With its `name`, the file is held against what that states.
    ///
    /// # Errors
    /// The bytes do not come; the header is none, damaged, or a later version's.
    pub fn new(mut input: R, name: Option<DiscardedName>) -> Result<Self, DiscardedError> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        read_up_to(&mut input, SEGMENT_HEADER_BYTES, &mut bytes)?;
        let header = SegmentHeader::decode(&bytes)?;
        Ok(DiscardedReader {
            input,
            name,
            header,
            end: header.before,
            offset: SEGMENT_HEADER_BYTES as u64,
            record: Vec::new(),
        })
    }

    /// The cluster whose records these are.
    pub fn cluster(&self) -> u128 {
        self.header.cluster
    }

    /// The last record that both histories share.
    pub fn fork(&self) -> ChainPoint {
        self.header.before
    }

    /// Bytes that have been read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record, checked; `None` behind the last.
    ///
    /// # Errors
    /// The bytes do not come; they are no record, or not those that the name states.
    pub fn next_record(&mut self) -> Result<Option<RecordRef<'_>>, DiscardedError> {
        if self.record.capacity() > KEPT_BYTES {
            self.record = Vec::new();
        }
        self.record.clear();
        read_up_to(&mut self.input, HEADER_BYTES, &mut self.record)?;
        if self.record.is_empty() {
            return self.ended().map(|()| None);
        }
        let stated = UncheckedHeader::read(&self.record).filter(UncheckedHeader::len_is_possible);
        if let Some(header) = stated {
            let behind_header = (header.len as usize).min(MAX_RECORD_BYTES) - HEADER_BYTES;
            read_up_to(&mut self.input, behind_header, &mut self.record)?;
        }
        match record::check(self.end, &self.record) {
            Ok(found) => {
                self.end = found.after;
                self.offset += self.record.len() as u64;
                Ok(Some(found))
            }
            Err(why) => Err(DiscardedError::Damaged {
                offset: self.offset,
                lsn: self.end.lsn.next(),
                why,
            }),
        }
    }

    fn ended(&self) -> Result<(), DiscardedError> {
        let (first, end) = (self.header.before.lsn.next(), self.end);
        match self.name {
            Some(name) if name.first == first && end.lsn < name.last => {
                Err(DiscardedError::CutShort {
                    end: end.lsn,
                    last: name.last,
                })
            }
            Some(name) if (name.epoch, name.first, name.last) != (end.epoch, first, end.lsn) => {
                Err(DiscardedError::Misnamed {
                    first,
                    last: end.lsn,
                    epoch: end.epoch,
                })
            }
            _ => Ok(()),
        }
    }
}

/// Appends `bytes` bytes, or as many as there are.
fn read_up_to(input: &mut impl Read, bytes: usize, into: &mut Vec<u8>) -> io::Result<()> {
    input.take(bytes as u64).read_to_end(into).map(|_| ())
}

/// A file of the disk, read from its start to its end.
pub struct FileBytes {
    file: Box<dyn DiskFile>,
    at: u64,
}

impl fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBytes")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl FileBytes {
    /// Opens a file.
    ///
    /// # Errors
    /// The disk.
    pub fn open(disk: &dyn Disk, path: &Path) -> io::Result<FileBytes> {
        let file = disk.open(path, false)?;
        Ok(FileBytes { file, at: 0 })
    }

    /// The file's length, bytes.
    ///
    /// # Errors
    /// The disk.
    pub fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    /// Whether the file is empty.
    ///
    /// # Errors
    /// The disk.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl Read for FileBytes {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(room, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Opens the file of this name, if [`discarded_files`] names it: whatever else `name` is, or leads
/// to, there is no such file.
///
/// # Errors
/// The disk.
pub fn open_discarded(
    disk: &dyn Disk,
    data_dir: &Path,
    name: &str,
) -> io::Result<Option<FileBytes>> {
    let Some(wanted) = DiscardedName::parse(name) else {
        return Ok(None);
    };
    let mut listed = discarded_files(disk, data_dir)?.into_iter();
    let found = listed.find(|(name, _)| *name == wanted);
    found
        .map(|(_, path)| FileBytes::open(disk, &path))
        .transpose()
}

/// What such a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscardedSummary {
    /// Records of clients: EpochStart records are not counted.
    pub records: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Time of the first and of the last of these records.
    pub span: Option<(Millis, Millis)>,
    /// What is wrong with the file, in a sentence; what stands above is true of the records before.
    pub problem: Option<String>,
}

/// Reads a whole file, checking all of it.
///
/// # Errors
/// The disk; damage is part of the answer.
pub fn summarize(
    disk: &dyn Disk,
    path: &Path,
    name: DiscardedName,
) -> io::Result<DiscardedSummary> {
    let file = FileBytes::open(disk, path)?;
    let mut summary = DiscardedSummary {
        bytes: file.len()?,
        ..DiscardedSummary::default()
    };
    let input = io::BufReader::with_capacity(1 << 18, file);
    match count(input, name, &mut summary) {
        Err(DiscardedError::Io(error)) => return Err(error),
        Err(damage) => summary.problem = Some(damage.to_string()),
        Ok(()) => {}
    }
    Ok(summary)
}

fn count(
    input: impl Read,
    name: DiscardedName,
    summary: &mut DiscardedSummary,
) -> Result<(), DiscardedError> {
    let mut reader = DiscardedReader::new(input, Some(name))?;
    while let Some(record) = reader.next_record()? {
        if record.kind == Kind::Effects {
            let first = summary.span.map_or(record.time, |(first, _)| first);
            summary.records += 1;
            summary.span = Some((first, record.time));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::ReadOnlyDisk;
    use crate::wal::record::{Stamp, encode};

    const NAME: DiscardedName = DiscardedName {
        epoch: Epoch(3),
        first: Lsn(8),
        last: Lsn(10),
    };

    /// LSN 8 (a reign's start) to 10; the bytes and where each record begins.
    fn file() -> (Vec<u8>, Vec<usize>) {
        let before = ChainPoint {
            lsn: Lsn(7),
            epoch: Epoch(2),
            crc: 77,
            time: Millis(100),
            offset: 700,
        };
        let mut bytes = SegmentHeader { cluster: 5, before }.encode().to_vec();
        let (mut starts, mut chain) = (Vec::new(), before);
        for n in 0..3_u64 {
            starts.push(bytes.len());
            let kind = if n == 0 {
                Kind::EpochStart
            } else {
                Kind::Effects
            };
            let stamp = Stamp {
                epoch: Epoch(3),
                time: Millis(100 + n),
                synced: Lsn(7),
                kind,
            };
            chain = encode(&mut bytes, chain, stamp, &[b"payload"]);
        }
        starts.push(bytes.len());
        (bytes, starts)
    }

    fn read(bytes: &[u8]) -> (Vec<u64>, Option<String>) {
        let mut lsns = Vec::new();
        let mut all = || -> Result<(), DiscardedError> {
            let mut reader = DiscardedReader::new(bytes, Some(NAME))?;
            while let Some(record) = reader.next_record()? {
                lsns.push(record.lsn.0);
            }
            Ok(())
        };
        let problem = all().err().map(|error| error.to_string());
        (lsns, problem)
    }

    #[test]
    fn names_are_read_as_they_are_written_and_nothing_else_is() {
        assert_eq!(NAME.to_string(), "3-8-10.wal");
        assert_eq!(DiscardedName::parse("3-8-10.wal"), Some(NAME));
        for other in [
            "",
            ".wal",
            "3-8.wal",
            "3-8-10",
            "3-8-10.wal.bad",
            "3-8-10-1.wal",
            "03-8-10.wal",
            "+3-8-10.wal",
            "../3-8-10.wal",
            "discarded/3-8-10.wal",
            "3-8-99999999999999999999.wal",
        ] {
            assert_eq!(DiscardedName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn only_a_listed_file_is_opened_and_no_path_leads_out_of_the_folder() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let folder = data.path().join("discarded");
        std::fs::create_dir(&folder).expect("it is ours");
        std::fs::write(folder.join("3-8-10.wal"), b"content").expect("it is ours");
        std::fs::write(data.path().join("3-8-10.wal"), b"outside").expect("it is ours");
        std::fs::write(data.path().join("NODE"), b"secret").expect("it is ours");
        std::os::unix::fs::symlink(data.path().join("NODE"), folder.join("1-1-1.wal"))
            .expect("it is ours");
        let open = |name| open_discarded(&ReadOnlyDisk, data.path(), name);
        let mut file = open("3-8-10.wal")
            .expect("it can be read")
            .expect("it is listed");
        let mut content = Vec::new();
        file.read_to_end(&mut content).expect("it can be read");
        assert_eq!(content, b"content");
        for other in [
            "",
            ".",
            "..",
            "NODE",
            "../NODE",
            "../3-8-10.wal",
            "discarded/3-8-10.wal",
            "./3-8-10.wal",
            "/3-8-10.wal",
            "3-8-10.wal\0",
            "3-8-11.wal",
            // A link somebody left there is no file of ours.
            "1-1-1.wal",
        ] {
            let opened = open(other).expect("the folder can be read");
            assert!(opened.is_none(), "{other:?} was opened");
        }
    }

    #[test]
    fn records_come_in_order_and_are_counted() {
        let (bytes, _) = file();
        assert_eq!(read(&bytes), (vec![8, 9, 10], None));
        let mut summary = DiscardedSummary::default();
        count(&bytes[..], NAME, &mut summary).expect("it is intact");
        assert_eq!(summary.records, 2);
        assert_eq!(summary.span, Some((Millis(101), Millis(102))));
    }

    #[test]
    fn no_flipped_bit_passes_and_what_stands_before_it_does() {
        let (bytes, starts) = file();
        // The mark's room is not used in these files.
        let used = (0..72).chain(SEGMENT_HEADER_BYTES..bytes.len());
        for at in used {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                let (lsns, problem) = read(&bad);
                let whole = starts[1..].iter().filter(|end| **end <= at).count();
                assert!(problem.is_some(), "byte {at}, bit {bit}");
                assert_eq!(lsns.len(), whole, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_file_that_was_cut_is_found_out_wherever_it_was_cut() {
        let (bytes, starts) = file();
        for len in 0..bytes.len() {
            let (lsns, problem) = read(&bytes[..len]);
            let whole = starts[1..].iter().filter(|end| **end <= len).count();
            let problem = problem.unwrap_or_else(|| panic!("{len} bytes pass"));
            assert_eq!(lsns.len(), whole, "{len} bytes: {problem}");
            if len == starts[2] {
                let said = "it ends behind LSN 9, and its name states records up to LSN 10";
                assert_eq!(problem, said);
            }
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(read(&longer).1.is_some());
    }

    #[test]
    fn another_files_name_is_found_out() {
        let (bytes, _) = file();
        for name in ["4-8-10.wal", "3-7-10.wal", "3-8-9.wal"] {
            let name = DiscardedName::parse(name).expect("a name");
            let mut summary = DiscardedSummary::default();
            let error = count(&bytes[..], name, &mut summary).expect_err("it is another");
            assert!(
                matches!(error, DiscardedError::Misnamed { .. }),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn a_length_is_not_believed() {
        let (mut bytes, starts) = file();
        bytes[starts[2]..starts[2] + 4].copy_from_slice(&(MAX_RECORD_BYTES as u32).to_le_bytes());
        let (lsns, problem) = read(&bytes);
        assert_eq!(lsns, [8, 9]);
        let problem = problem.expect("it is cut short");
        assert!(problem.contains("LSN 10 is damaged"), "{problem}");
    }
}
