//! Deliberate rewriting of history: only a standby that rejoins does this, and only after what it
//! gives up is saved.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::disk::{DiskFile, UNFINISHED, ask_room, beside, remove_if_there};
use super::guard::Guard;
use super::log::{Log, LogClosed};
use super::record::{ChainPoint, Kind, records};
use super::recover::cut;
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::state::{State, left_in_newest};
use crate::units::{Lsn, Millis};

/// What a node gave up when it rejoined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// The file, in the format of a segment.
    pub path: PathBuf,
    /// Records of clients: EpochStart records are not counted.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// First LSN discarded.
    pub first: Lsn,
    /// Last LSN discarded.
    pub last: Lsn,
    /// Time of the first discarded client record.
    pub first_time: Millis,
    /// Time of the last.
    pub last_time: Millis,
}

/// Why history was not rewritten.
#[derive(Debug, Error)]
pub enum EditError {
    /// The log is closed.
    #[error(transparent)]
    Closed(#[from] LogClosed),
    /// The disk refused.
    #[error("rewriting the log failed: {0}")]
    Io(#[from] io::Error),
    /// That record is not kept here.
    #[error("the log no longer holds LSN {0}")]
    NotKept(Lsn),
}

impl Log {
    /// The chain behind `lsn`, while that is kept.
    pub fn chain_at(&self, lsn: Lsn) -> Result<ChainPoint, EditError> {
        let end = self.end();
        if lsn == end.lsn {
            return Ok(end);
        }
        // What precedes the oldest record is known from its segment's header. (A fork exactly
        // there, a snapshot having let everything before it go, once kept a deposed primary from
        // ever rejoining.)
        let oldest = self.oldest();
        if lsn == oldest.lsn {
            return Ok(oldest);
        }
        let mut reader = self
            .reader(lsn.previous())
            .map_err(|_| EditError::NotKept(lsn))?;
        if reader.position().lsn == lsn {
            return Ok(reader.position());
        }
        reader.next_chunk(lsn, 1)?.ok_or(EditError::NotKept(lsn))?;
        Ok(reader.position())
    }

    /// Copies every record behind `after` to `discarded/`, durably; `None` if there is none.
    ///
    /// # Errors
    /// Where the disk is full even with the reserve's room, nothing is left of the file, and the
    /// log is as it was.
    pub fn save_discarded(&self, after: Lsn) -> Result<Option<Discarded>, EditError> {
        let end = self.end();
        if after >= end.lsn {
            return Ok(None);
        }
        let mut reader = self
            .reader(after)
            .map_err(|_| EditError::NotKept(after.next()))?;
        let before = reader.position();
        let dir = self.shared.dir.join("discarded");
        let disk = self.shared.disk.as_ref();
        disk.create_dir_all(&dir)?;
        // What a crash left half done is begun anew; nobody else writes here.
        for name in disk.list(&dir)?.iter().filter(|n| n.ends_with(UNFINISHED)) {
            disk.remove(&dir.join(name))?;
        }
        let name = format!("{}-{}-{}.wal", end.epoch, after.next(), end.lsn);
        let path = dir.join(name);
        let bytes = SEGMENT_HEADER_BYTES as u64 + (end.offset - before.offset);
        // Whoever lists them meanwhile sees whole files only.
        let unfinished = beside(&path);
        let file = self.ask_room(&unfinished, bytes)?;
        let cluster = self.shared.lock().cluster;
        file.write_at(&SegmentHeader { cluster, before }.encode(), 0)?;
        let mut at = SEGMENT_HEADER_BYTES as u64;
        let mut saved = Discarded {
            path,
            records: 0,
            bytes: 0,
            first: after.next(),
            last: end.lsn,
            first_time: Millis(0),
            last_time: Millis(0),
        };
        while let Some(chunk) = reader.next_chunk(end.lsn, 1 << 20)? {
            for record in records(&chunk.bytes).filter(|record| record.kind == Kind::Effects) {
                if saved.records == 0 {
                    saved.first_time = record.time;
                }
                saved.records += 1;
                saved.bytes += record.after.offset;
                saved.last_time = record.time;
            }
            file.write_at(&chunk.bytes, at)?;
            at += chunk.bytes.len() as u64;
        }
        file.sync_data()?;
        disk.rename(&unfinished, &saved.path)?;
        disk.sync_dir(&dir)?;
        Ok(Some(saved))
    }

    fn ask_room(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let disk = self.shared.disk.as_ref();
        let reserve = self.shared.lock().reserve.clone();
        match reserve {
            Some(reserve) => reserve.spend(|| ask_room(disk, path, bytes)),
            None => ask_room(disk, path, bytes),
        }
    }

    /// Takes back every record behind `lsn`. What was reported synced stays so up to `lsn`.
    pub fn truncate_after(&self, lsn: Lsn) -> Result<ChainPoint, EditError> {
        let target = self.chain_at(lsn)?;
        let mut state = self.quiesce();
        if let Some(why) = &state.failed {
            return Err(LogClosed(why.clone()).into());
        }
        state.drop_stuck();
        if target.lsn > state.end.lsn {
            // What led up to there never reached the disk: the next handshake says so.
            let end = state.end.lsn;
            drop(state);
            self.rewound(end);
            return Err(EditError::NotKept(lsn));
        }
        if let Err(error) = self.take_back(&mut state, target) {
            // Neither the old log nor the new one: nothing may be written behind it.
            self.shared.fail(state, &error);
            return Err(error.into());
        }
        state.rewind(target, self.shared.config.rules());
        state.left_bytes = left_in_newest(self.shared.disk.as_ref(), &state.segments, target);
        drop(state);
        self.ask_again();
        self.rewound(lsn);
        Ok(target)
    }

    fn take_back(&self, state: &mut State, target: ChainPoint) -> io::Result<()> {
        let (disk, rules) = (self.shared.disk.as_ref(), self.shared.config.rules());
        // Newest first: a crash half-way leaves a prefix.
        while let Some(segment) = state.segments.pop_if(|s| s.before.lsn > target.lsn) {
            disk.remove(&segment.path)?;
            disk.sync_dir(&self.shared.dir.join("wal"))?;
        }
        let cluster = state.cluster;
        let Some(segment) = state.segments.last_mut() else {
            return Ok(());
        };
        // A mark must not go on stating what is about to be taken back: new records in its place,
        // torn, would look like damage.
        let stale = segment.floor.is_some_and(|floor| floor > target.lsn);
        if stale && rules.keep(Guard::R31MarkLowered) {
            let file = disk.open(&segment.path, false)?;
            segment.write_mark(file.as_ref(), cluster, target.lsn)?;
            file.sync_data()?;
            segment.floor = Some(target.lsn);
        }
        let offset = SEGMENT_HEADER_BYTES as u64 + (target.offset - segment.before.offset);
        cut(disk, &segment.path, offset, rules)
    }

    /// Begins a new log behind `start`, after a snapshot was installed: the old segments are
    /// removed (they were saved before, where they held anything that the snapshot lacks).
    pub fn reset(&self, start: ChainPoint) -> Result<(), EditError> {
        let mut state = self.quiesce();
        if let Some(why) = &state.failed {
            return Err(LogClosed(why.clone()).into());
        }
        state.drop_stuck();
        if let Err(error) = self.remove_all(&mut state) {
            self.shared.fail(state, &error);
            return Err(error.into());
        }
        state.rewind(start, self.shared.config.rules());
        State::restart_history(&mut state, start);
        state.left_bytes = 0;
        drop(state);
        self.ask_again();
        self.rewound(start.lsn);
        Ok(())
    }

    fn remove_all(&self, state: &mut State) -> io::Result<()> {
        let disk = self.shared.disk.as_ref();
        while let Some(segment) = state.segments.pop() {
            disk.remove(&segment.path)?;
        }
        while let Some(path) = state.superfluous.back() {
            remove_if_there(disk, path)?;
            state.superfluous.pop_back();
        }
        disk.sync_dir(&self.shared.dir.join("wal"))
    }
}
