//! The simulated disk as a [`Disk`]: each call is one operation, checked before it takes effect.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::inode::Inode;
use super::names::NameChange;
use super::{Operation, SimDisk};
use crate::wal::disk::{Disk, DiskFile, Held, Map};

struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Some(inode) = self.disk.inner().inodes.get_mut(&self.inode) {
            inode.handles -= 1;
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.inner();
        inner.check(Operation::Read)?;
        Ok(inner.inode(self.inode).now().read(buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.check(Operation::Write)?;
        let len = inner.inode(self.inode).now().len();
        inner.make_room(self.inode, len.max(offset + bytes.len() as u64))?;
        let sector = inner.sector;
        inner.inode_mut(self.inode).write(offset, bytes, sector);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.inner();
        let checked = inner.check(Operation::Sync);
        if checked.is_err() && !inner.off {
            let mut random = inner.random;
            let sector = inner.sector;
            inner.inode_mut(self.inode).fail_sync(sector, &mut random);
            inner.random = random;
        }
        checked?;
        inner.inode_mut(self.inode).sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let inner = self.disk.inner();
        inner.check_power()?;
        Ok(inner.inode(self.inode).now().len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.check(Operation::Write)?;
        inner.make_room(self.inode, len)?;
        inner.inode_mut(self.inode).set_len(len);
        Ok(())
    }

    fn overwrites_in_place(&self) -> bool {
        true
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.len()? < len {
            self.set_len(len)
        } else {
            Ok(())
        }
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Held for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.inner().locks.remove(&self.path);
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.inner();
        inner.check_power()?;
        let inode = match inner.names.now.get(path) {
            Some(inode) => *inode,
            None if create => {
                inner.check(Operation::Name)?;
                let inode = inner.next_inode;
                inner.next_inode += 1;
                inner.inodes.insert(inode, Inode::default());
                inner.change(NameChange::Link(path.to_path_buf(), inode));
                inode
            }
            None => return Err(not_found(path)),
        };
        inner.inode_mut(inode).handles += 1;
        drop(inner);
        Ok(Box::new(SimFile {
            disk: self.clone(),
            inode,
        }))
    }

    fn map(&self, path: &Path) -> io::Result<Map> {
        let mut inner = self.inner();
        inner.check(Operation::Read)?;
        let inode = *inner.names.now.get(path).ok_or_else(|| not_found(path))?;
        Ok(Arc::new(inner.inode(inode).now().bytes()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.check(Operation::Name)?;
        if !inner.names.now.contains_key(from) {
            return Err(not_found(from));
        }
        inner.change(NameChange::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.check(Operation::Name)?;
        if !inner.names.now.contains_key(path) {
            return Err(not_found(path));
        }
        inner.change(NameChange::Remove(path.to_path_buf()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut inner = self.inner();
        inner.check(Operation::Read)?;
        let names = inner.names.now.keys();
        let names = names.filter(|path| path.parent() == Some(dir));
        let names = names.filter_map(|path| path.file_name());
        Ok(names
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        self.inner().check_power()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.check(Operation::SyncDir)?;
        inner.names.sync(dir);
        // Each replaced file leaves one behind; now and then they are swept up.
        if inner.inodes.len() > 2 * inner.names.now.len() + 16 {
            inner.forget_nameless();
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        let mut inner = self.inner();
        inner.check_power()?;
        if !inner.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(inner);
        Ok(Box::new(SimLock {
            disk: self.clone(),
            path: path.to_path_buf(),
        }))
    }
}
