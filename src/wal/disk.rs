//! The only way to the disk. Everything else in this crate that keeps bytes goes through [`Disk`],
//! so that tests can take a node's disk away, tear it or fill it.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation, SeekFrom};

use super::space::{Reserve, is_full};

/// An open file. Offsets and lengths in bytes.
pub trait DiskFile: Send + Sync {
    /// Fills `buffer` from `offset`, or as much of it as the file has; how much.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the content, and the length, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// The length.
    fn len(&self) -> io::Result<u64>;
    /// Whether it is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends with zeroes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves room up to `len`, reading as zeroes.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Whether writing over bytes that were written before takes no new room, and changes nothing
    /// but them: not where copies are made on write.
    fn overwrites_in_place(&self) -> bool {
        false
    }
    /// A byte behind which nothing was ever written: what is there is reserved, and reads as zeroes.
    fn written_end(&self) -> io::Result<u64> {
        self.len()
    }
    /// Asks the operating system to forget what it keeps of the file in memory, so that the next
    /// read comes from the disk. Only what is synced is forgotten, and not everywhere.
    fn forget_cached(&self) {}
}

/// Bytes of a whole file that nobody writes any more.
pub trait Mapped: Deref<Target = [u8]> + Send + Sync {}

impl<T: Deref<Target = [u8]> + Send + Sync> Mapped for T {}

/// A shared map.
pub type Map = Arc<dyn Mapped<Target = [u8]>>;

/// A held lock; dropped, it is free.
pub trait Held: Send + Sync {}

/// A file system.
pub trait Disk: Send + Sync + 'static {
    /// Opens for reading and writing; `create` makes it, empty, if it is not there.
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>>;
    /// Maps a file that is not written any more. (A file that shrinks under a map is a SIGBUS.)
    fn map(&self, path: &Path) -> io::Result<Map>;
    /// Moves; durable only once the directory is synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; durable only once the directory is synced.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// File names in a directory, sorted; empty if it is not there.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory and those above it.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be taken where `dir` is, as far as that is known.
    fn free_bytes(&self, _dir: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }
    /// Takes the lock file for this process alone; `WouldBlock` when another has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>>;
}

/// As statfs(2) has them.
const EXT4_MAGIC: u64 = 0xef53;
const XFS_MAGIC: u64 = 0x5846_5342;

/// Reads a whole file.
pub fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, false)?;
    let len = file.len()?;
    read_first(file.as_ref(), len)
}

fn read_first(file: &dyn DiskFile, bytes: u64) -> io::Result<Vec<u8>> {
    let mut first = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    let read = file.read_at(&mut first, 0)?;
    first.truncate(read);
    Ok(first)
}

/// Reads what was ever written into the file; behind that there are zeroes, if anything. (Room that is only
/// reserved is 64 MiB of a segment, and took 0.2 s to be read.)
pub(super) fn read_written(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, false)?;
    let end = file.written_end()?;
    read_first(file.as_ref(), end)
}

/// Removes a file; that it is gone already is well.
pub(super) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Replaces a file as a whole: write beside it, sync, rename, sync the directory.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    Replacement::begin(None, disk, path, bytes.len())?.finish(disk, bytes)
}

/// As [`replace`], with the reserve's room where the disk has none.
pub fn replace_within(
    reserve: &Reserve,
    disk: &dyn Disk,
    path: &Path,
    bytes: &[u8],
) -> io::Result<()> {
    Replacement::begin(Some(reserve), disk, path, bytes.len())?.finish(disk, bytes)
}

/// A file about to be replaced: it has room, and nothing was written.
pub(super) struct Replacement<'a> {
    path: &'a Path,
    beside: PathBuf,
    file: Box<dyn DiskFile>,
}

impl<'a> Replacement<'a> {
    /// Asks for room. What fails here has changed nothing.
    pub(super) fn begin(
        reserve: Option<&Reserve>,
        disk: &dyn Disk,
        path: &'a Path,
        bytes: usize,
    ) -> io::Result<Replacement<'a>> {
        let beside = beside(path);
        let ask = || ask_room(disk, &beside, bytes as u64);
        let file = match reserve {
            Some(reserve) => reserve.spend(ask)?,
            None => ask()?,
        };
        Ok(Replacement { path, beside, file })
    }

    /// Write, sync, rename, sync the directory.
    pub(super) fn finish(self, disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, 0)?;
        self.file.sync_data()?;
        drop(self.file);
        disk.rename(&self.beside, self.path)?;
        disk.sync_dir(self.path.parent().unwrap_or(Path::new(".")))
    }
}

/// Ends the name of a file that is not whole yet.
pub(super) const UNFINISHED: &str = ".tmp";

/// Where a file is written that takes this name once it is whole.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

/// An empty file with room for so many bytes, which nobody relies on yet. Asked for before anything
/// is written, so that the lack of it is never a failed write.
pub(super) fn ask_room(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
    let file = disk.open(path, true)?;
    let room = file.set_len(0).and_then(|()| match bytes {
        0 => Ok(()),
        _ => file.allocate(bytes),
    });
    if room.as_ref().is_err_and(is_full) {
        // What was got of it would only be missing elsewhere.
        let _ = disk.remove(path);
    }
    room.map(|()| file)
}

/// The machine's own file system.
#[derive(Debug, Default)]
pub struct RealDisk;

/// The machine's own file system, for looking only: whatever would change anything is refused, and
/// files are opened for reading alone. So a directory can be looked at that another process uses, or
/// that this one may not write.
#[derive(Debug, Default)]
pub struct ReadOnlyDisk;

struct RealFile(File);

struct RealLock {
    _file: File,
}

impl Held for RealLock {}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // Not every file system can reserve; a sparse file works, only less predictably.
            Err(rustix::io::Errno::OPNOTSUPP) => self.0.set_len(len),
            Err(error) => Err(error.into()),
        }
    }

    fn overwrites_in_place(&self) -> bool {
        let found = rustix::fs::fstatfs(&self.0);
        found.is_ok_and(|found| [EXT4_MAGIC, XFS_MAGIC].contains(&(found.f_type as u64)))
    }

    fn written_end(&self) -> io::Result<u64> {
        let mut end = 0;
        loop {
            // What is written and not synced yet counts as data, too.
            let data = match rustix::fs::seek(&self.0, SeekFrom::Data(end)) {
                Ok(data) => data,
                Err(rustix::io::Errno::NXIO) => return Ok(end),
                // Not every file system can tell.
                Err(_) => return self.len(),
            };
            end = rustix::fs::seek(&self.0, SeekFrom::Hole(data))?;
        }
    }

    fn forget_cached(&self) {
        // A file system that refuses keeps its pages, and reads go on as before.
        let _ = rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed);
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnlyDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        if create {
            return refused();
        }
        Ok(Box::new(RealFile(File::open(path)?)))
    }

    fn map(&self, path: &Path) -> io::Result<Map> {
        // Not mapped: another process may cut the file meanwhile, and that is a SIGBUS here.
        Ok(Arc::new(read_all(self, path)?))
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Held>> {
        refused()
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn map(&self, path: &Path) -> io::Result<Map> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Arc::new(Vec::new()));
        }
        #[allow(unsafe_code)]
        // SAFETY: only sealed segments and finished snapshots are mapped; they are never written
        // or cut again (only removed, which leaves the map intact), and the data directory is
        // locked against other processes of ours.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Arc::new(map))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        // A new directory is itself a name in its parent.
        match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent),
            _ => Ok(()),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(Some(found.f_bavail.saturating_mul(found.f_frsize)))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_room_that_nothing_was_written_into_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = RealDisk.open(&path, true).unwrap();
        assert_eq!(file.written_end().unwrap(), 0);
        file.allocate(1 << 20).unwrap();
        let mut ends = Vec::new();
        // Written; behind a gap; synced; cut.
        for at in [0_u64, 300_000, 700_000] {
            file.write_at(b"bytes", at).unwrap();
            ends.push((file.written_end().unwrap(), at + 5));
            file.sync_data().unwrap();
            ends.push((file.written_end().unwrap(), at + 5));
            let bytes = read_written(&RealDisk, &path).unwrap();
            assert_eq!(&bytes[at as usize..][..5], b"bytes");
            assert!(bytes[at as usize + 5..].iter().all(|byte| *byte == 0));
        }
        file.set_len(300_005).unwrap();
        file.allocate(1 << 20).unwrap();
        ends.push((file.written_end().unwrap(), 300_005));
        for (end, least) in ends {
            assert!(end >= least, "{end} hides what was written up to {least}");
            // These file systems tell, by pages.
            let told = !file.overwrites_in_place() || end < least + (64 << 10);
            assert!(told, "{end} is far behind {least}");
        }
    }
}
