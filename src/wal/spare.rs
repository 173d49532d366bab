//! The next segment, made ahead of need, and what the writer does when the disk has no room for it.
//!
//! Promises: what is refused room here has written nothing; the file has no name that counts until
//! the writer gives it one; nothing but the lack of room is forgiven.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::disk::DiskFile;
use super::log::LogConfig;
use super::segment::SEGMENT_HEADER_BYTES;
use super::space::{ASK_AGAIN, Full, is_full};
use super::state::State;
use super::writer::{Due, Writer};

/// The next segment, made ahead of need: a file with room and no name yet that counts.
pub(super) struct Spare {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) bytes: u64,
}

/// Why a group was not written.
pub(super) enum Stop {
    /// There is no room for its segment; nothing was written.
    NoRoom(io::Error),
    /// The disk failed.
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Failed(error)
    }
}

/// Only where room is asked for: elsewhere a full disk is a failed one.
pub(super) fn asked<T>(result: io::Result<T>) -> Result<T, Stop> {
    result.map_err(|error| match is_full(&error) {
        true => Stop::NoRoom(error),
        false => Stop::Failed(error),
    })
}

impl Due {
    /// Half of a segment is room enough for what is in flight; sooner would only take twice the
    /// room of a small log.
    pub(super) fn lacks_spare(state: &State, config: &LogConfig) -> bool {
        let half_used = state.left_bytes < config.segment_bytes / 2;
        let ahead = state.spare_bytes == 0 && half_used && !state.segments.is_empty();
        ahead || state.is_stuck()
    }

    pub(super) fn lacks_room(state: &State, config: &LogConfig) -> bool {
        let reserve = state.reserve.as_ref().is_some_and(|r| !r.is_held());
        Due::lacks_spare(state, config) || reserve || state.full.is_some()
    }
}

impl Writer {
    /// Makes what is missing: first the reserve, which would else lose the room to the log.
    pub(super) fn ask_room(&mut self) -> io::Result<()> {
        self.begin();
        let (reserve, waiting, spare_missing) = {
            let state = self.shared.lock();
            let from = state.tail.len() - state.unwritten;
            let waiting = state.tail.get(from).map_or(0, |group| group.bytes.len());
            let missing = Due::lacks_spare(&state, &self.shared.config);
            (state.reserve.clone(), waiting as u64, missing)
        };
        let reserved = reserve.map_or(Ok(()), |reserve| reserve.make());
        let got = asked(reserved).and_then(|()| match spare_missing {
            true => self.make_spare(waiting),
            false => Ok(()),
        });
        match got {
            Ok(()) => self.granted_room(),
            Err(Stop::NoRoom(error)) => self.refused_room(&error, false),
            Err(Stop::Failed(error)) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn spare_path(&self) -> PathBuf {
        self.shared.dir.join("wal").join("next.tmp")
    }

    /// Makes room for the next segment, which holds at least a group of so many bytes. One that a
    /// process before has left is as good: it holds zeroes.
    pub(super) fn make_spare(&mut self, group_bytes: u64) -> Result<(), Stop> {
        let bytes = SEGMENT_HEADER_BYTES as u64 + group_bytes;
        let bytes = bytes.max(self.shared.config.segment_bytes);
        if self
            .spare
            .as_ref()
            .is_some_and(|spare| spare.bytes >= bytes)
        {
            return Ok(());
        }
        let path = self.spare_path();
        let disk = self.shared.disk.as_ref();
        let opened = asked(disk.open(&path, true))?;
        self.spare = None;
        let made = opened.allocate(bytes);
        if made.as_ref().is_err_and(is_full) {
            // What was got of it would only be missing elsewhere.
            self.shared.lock().spare_bytes = 0;
            disk.remove(&path)?;
        }
        asked(made)?;
        self.spare = Some(Spare {
            file: opened,
            bytes,
        });
        self.shared.lock().spare_bytes = bytes;
        Ok(())
    }

    fn granted_room(&self) {
        let mut state = self.shared.lock();
        if state.full.take().is_some() {
            let progress = self.progress(&state, Duration::ZERO, false);
            drop(state);
            self.shared.is_full.send_replace(false);
            (self.shared.on_progress)(&progress);
        }
    }

    /// `stuck`: for a group that is in memory.
    pub(super) fn refused_room(&self, error: &io::Error, stuck: bool) {
        let now = (self.shared.clock)();
        let mut state = self.shared.lock();
        let news = state.full.is_none();
        let dir = self.shared.dir.display();
        let full = state.full.get_or_insert_with(|| Full {
            since: now,
            why: format!(
                "the disk under {dir} is full ({error}): make room there, and writes go on by \
                 themselves"
            )
            .into(),
            again_at: now,
            stuck: false,
        });
        full.again_at = now + ASK_AGAIN;
        full.stuck |= stuck;
        let progress = self.progress(&state, Duration::ZERO, false);
        drop(state);
        if news {
            self.shared.is_full.send_replace(true);
            (self.shared.on_progress)(&progress);
        }
    }
}
