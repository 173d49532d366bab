//! The control file: a small checksummed payload that is replaced atomically, in two copies (R2),
//! so that one bad sector does not make the only holder of the data a blank node.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use thiserror::Error;

use super::disk::{Disk, Replacement, read_all};
use super::guard::{Guard, Rules};
use super::space::{Reserve, is_full};

const MAGIC: &[u8; 8] = b"USTYCTL\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 28;
const NAMES: [&str; 2] = ["control.a", "control.b"];

/// Largest payload.
pub const MAX_CONTROL_BYTES: usize = 64 << 10;

/// Why the control state could not be read or written.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The disk refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// There is no room for it, not even with the reserve's. What was stored is as it was, and
    /// storing may be tried again.
    #[error("{}: {source}; make room there", path.display())]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Written by a later version.
    #[error(
        "{}: format version {version} is newer than this program's {VERSION}; use a newer understudy",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// As stated there.
        version: u32,
    },
}

/// What the disk held.
#[derive(Debug, PartialEq, Eq)]
pub enum Loaded {
    /// No control file: a blank node (R24).
    Missing,
    /// Control files, none of them intact: a blank node, too, but one that lost something.
    Damaged,
    /// The newest intact payload.
    Found(Vec<u8>),
}

/// The two copies of a node's control state.
pub struct ControlFile {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    generation: u64,
    reserve: Option<Arc<Reserve>>,
    rules: Rules,
}

impl std::fmt::Debug for ControlFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlFile")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

enum Copy {
    Missing,
    Damaged,
    Intact { generation: u64, payload: Vec<u8> },
}

fn read_copy(disk: &dyn Disk, path: PathBuf) -> Result<Copy, ControlError> {
    let bytes = match read_all(disk, &path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Copy::Missing),
        Err(source) => return Err(ControlError::Io { path, source }),
        Ok(bytes) => bytes,
    };
    if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC {
        return Ok(Copy::Damaged);
    }
    let mut fields = &bytes[8..];
    let version = fields.get_u32_le();
    let generation = fields.get_u64_le();
    let len = fields.get_u32_le() as usize;
    let crc = fields.get_u32_le();
    let covered = crc32fast::hash(&[&bytes[8..24], fields].concat());
    if version > VERSION && covered == crc {
        return Err(ControlError::Version { path, version });
    }
    if covered != crc || len != fields.len() {
        return Ok(Copy::Damaged);
    }
    Ok(Copy::Intact {
        generation,
        payload: fields.to_vec(),
    })
}

/// Looks at one copy and changes nothing, unlike [`ControlFile::load`]: its generation, `None` where
/// it is missing or damaged.
///
/// # Errors
/// The disk; a later version.
pub fn inspect_control(disk: &dyn Disk, path: &Path) -> Result<Option<u64>, ControlError> {
    Ok(match read_copy(disk, path.to_path_buf())? {
        Copy::Intact { generation, .. } => Some(generation),
        Copy::Missing | Copy::Damaged => None,
    })
}

impl ControlFile {
    /// Reads both copies; when they differ, or one is bad, the newest intact one is written to
    /// both again.
    pub fn load(disk: Arc<dyn Disk>, dir: &Path) -> Result<(ControlFile, Loaded), ControlError> {
        ControlFile::load_within(None, disk, dir)
    }

    /// As [`ControlFile::load`], with the reserve's room for whatever is stored on a full disk.
    pub fn load_within(
        reserve: Option<Arc<Reserve>>,
        disk: Arc<dyn Disk>,
        dir: &Path,
    ) -> Result<(ControlFile, Loaded), ControlError> {
        let mut file = ControlFile {
            disk,
            dir: dir.to_path_buf(),
            generation: 0,
            reserve,
            rules: Rules::default(),
        };
        let copies = [file.read(NAMES[0])?, file.read(NAMES[1])?];
        let damaged = copies.iter().any(|copy| matches!(copy, Copy::Damaged));
        let mut newest: Option<(u64, Vec<u8>)> = None;
        let mut same = 0;
        for copy in copies {
            if let Copy::Intact {
                generation,
                payload,
            } = copy
            {
                same += u32::from(newest.as_ref().is_none_or(|(g, _)| *g == generation));
                if newest.as_ref().is_none_or(|(g, _)| *g < generation) {
                    newest = Some((generation, payload));
                }
            }
        }
        match newest {
            None if damaged => Ok((file, Loaded::Damaged)),
            None => Ok((file, Loaded::Missing)),
            Some((generation, payload)) => {
                file.generation = generation;
                if same < 2 {
                    file.store(&payload)?;
                }
                Ok((file, Loaded::Found(payload)))
            }
        }
    }

    /// The same without one of its rules. Tests only.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn leaving_out(mut self, without: Option<Guard>) -> ControlFile {
        self.rules = Rules { without };
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn read(&self, name: &str) -> Result<Copy, ControlError> {
        read_copy(self.disk.as_ref(), self.path(name))
    }

    /// Makes this payload the control state; durable, in both copies, when it returns.
    ///
    /// # Panics
    /// If the payload is longer than [`MAX_CONTROL_BYTES`].
    pub fn store(&mut self, payload: &[u8]) -> Result<(), ControlError> {
        assert!(
            payload.len() <= MAX_CONTROL_BYTES,
            "control state of {} bytes",
            payload.len()
        );
        self.generation += 1;
        let bytes = self.encode(payload);
        for name in NAMES {
            let path = self.path(name);
            self.put(&path, &bytes)?;
            if !self.rules.keep(Guard::R2) {
                break;
            }
        }
        Ok(())
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), ControlError> {
        let at = |source| ControlError::Io {
            path: path.to_path_buf(),
            source,
        };
        if !self.rules.keep(Guard::R1Control) {
            return self.overwrite(path, bytes).map_err(at);
        }
        let (disk, reserve) = (self.disk.as_ref(), self.reserve.as_deref());
        // Only here is the lack of room no failure: nothing was written yet (R3).
        let begun = Replacement::begin(reserve, disk, path, bytes.len());
        let begun = begun.map_err(|source| match is_full(&source) {
            true => ControlError::NoRoom {
                path: path.to_path_buf(),
                source,
            },
            false => at(source),
        })?;
        begun.finish(disk, bytes).map_err(at)
    }

    /// What a mutant does.
    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.disk.open(path, true)?;
        file.set_len(0)?;
        file.write_at(bytes, 0)
    }

    fn encode(&self, payload: &[u8]) -> Vec<u8> {
        let mut middle = Vec::with_capacity(16);
        middle.put_u32_le(VERSION);
        middle.put_u64_le(self.generation);
        middle.put_u32_le(payload.len() as u32);
        let mut out = MAGIC.to_vec();
        out.extend(&middle);
        middle.extend(payload);
        out.put_u32_le(crc32fast::hash(&middle));
        out.extend(payload);
        out
    }
}
