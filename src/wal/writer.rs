//! The writer: writes and syncs, one piece after the other. It takes everything that arrived while
//! the last sync ran. Its own thread does the pieces ([`run`]), or whoever steps the log.
//!
//! Room for a segment is got before the one in use is sealed. Where it is refused, nothing has been
//! written: the groups stay in memory, nothing more is taken ([`State::admitted_bytes`]), and room
//! is asked for again. Every other error closes the log for good (R3).

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::disk::DiskFile;
use super::guard::Guard;
use super::log::{Fsync, LogConfig, Progress};
use super::segment::SEGMENT_HEADER_BYTES;
use super::spare::{Spare, Stop, asked};
use super::state::{Group, IDLE, Segment, Shared, State, install_segment};
use super::stepped::Step;
use crate::units::Lsn;

/// The segment being written.
struct OpenSegment {
    file: Box<dyn DiskFile>,
    segment: Segment,
    /// Where the next record goes.
    at: u64,
    /// Bytes that the file has room for.
    room: u64,
    rewritten: u64,
    /// Up to here zeroes were written, and not only promised by the file system. To the end of all
    /// where they are of no use.
    zeroed: u64,
}

impl OpenSegment {
    fn left_bytes(&self) -> u64 {
        self.room.saturating_sub(self.at)
    }

    /// Behind the group just written, of so many bytes. Room that was only reserved makes a file
    /// system note, with each sync, which of it is in use now: that took as long as the rest of the
    /// sync (ext4 without a journal), or twice as long (with one). A large group costs more anyway,
    /// and its zeroes would, too.
    fn zero_ahead(&mut self, group_bytes: u64) -> io::Result<()> {
        if self.at <= self.zeroed || group_bytes >= ZEROED_BYTES / 2 {
            return Ok(());
        }
        let upto = (self.at + ZEROED_BYTES)
            .next_multiple_of(4096)
            .min(self.room);
        let bytes = upto.saturating_sub(self.at) as usize;
        self.file.write_at(&ZEROES[..bytes], self.at)?;
        self.zeroed = upto;
        Ok(())
    }

    /// R31 on a standby. A group whose records state as synced what is not synced here would, torn
    /// by a power cut, look like damage; so a mark that says what is synced is durable before it,
    /// and from then on comes along with each group, for one sync of both. (It may be lost with its
    /// group: the older one promises less.)
    fn keep_mark(&mut self, shared: &Shared, cluster: u128, claim: Lsn) -> io::Result<()> {
        // All before this segment was synced when it was begun.
        let synced = shared.lock().synced.max(self.segment.before.lsn);
        let stale = match self.segment.floor {
            Some(floor) => floor < synced,
            None => claim > synced && shared.config.rules().keep(Guard::R31Mark),
        };
        if !stale {
            return Ok(());
        }
        let file = self.file.as_ref();
        self.segment.write_mark(file, cluster, synced)?;
        if self.segment.floor.is_none() {
            file.sync_data()?;
        }
        self.segment.floor = Some(synced);
        if let Some(last) = shared.lock().segments.last_mut() {
            last.floor = self.segment.floor;
        }
        Ok(())
    }
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    segment: Option<OpenSegment>,
    pub(super) spare: Option<Spare>,
}

/// What the writer has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Write,
    Sync,
    /// Asking for room, ahead of need or again.
    AskRoom,
    /// A sync, or asking for room again, after this long.
    In(Duration),
    Nothing,
    /// The log is closed, and everything is where it belongs.
    End,
}

impl Due {
    /// The order of the writer's work.
    pub(super) fn of(state: &State, config: &LogConfig, now: Duration) -> Due {
        if state.failed.is_some() {
            return Due::End;
        }
        let unsynced = state.synced < state.written.lsn;
        let sync_in = match config.fsync {
            Fsync::Interval(every) if unsynced => {
                Some(every.saturating_sub(now.saturating_sub(state.last_sync)))
            }
            _ => None,
        };
        // The sync first: a writer that never runs dry must not put it off.
        if state.sync_owed.is_some() || sync_in == Some(Duration::ZERO) {
            return Due::Sync;
        }
        let ask_in = state.full.as_ref().and_then(|full| full.wait(now));
        let lacks = Due::lacks_room(state, config);
        if lacks && ask_in.is_none() && !state.closing {
            return Due::AskRoom;
        }
        if state.has_due() && !state.is_stuck() {
            return Due::Write;
        }
        match sync_in.into_iter().chain(ask_in).min() {
            _ if state.closing && unsynced => Due::Sync,
            // What is stuck goes: it was never reported as written.
            _ if state.closing => Due::End,
            Some(left) => Due::In(left),
            None => Due::Nothing,
        }
    }

    pub(super) fn is_work(self) -> bool {
        matches!(self, Due::Write | Due::Sync | Due::AskRoom)
    }
}

pub(super) fn run(shared: Arc<Shared>) {
    let mut writer = Writer::new(shared);
    while writer.wait() {
        writer.step();
    }
}

/// Where zeroes are to go on in a file whose next record goes to `at`. (Asked of the file system once a
/// segment, not with each group.)
fn zeroed_upto(file: &dyn DiskFile, at: u64) -> u64 {
    match file.overwrites_in_place() {
        true => at,
        false => u64::MAX,
    }
}

/// How far zeroes are written ahead of the records: one sync in some ten to a thousand pays for
/// them, little more than for itself.
const ZEROED_BYTES: u64 = 128 << 10;

static ZEROES: [u8; ZEROED_BYTES as usize + 4096] = [0; ZEROED_BYTES as usize + 4096];

/// Bytes of groups written in one go, unless the first alone has more.
const MERGED_BYTES: u64 = 256 << 10;

/// The first groups as one, and how many: whoever ships records cuts groups faster than a disk syncs
/// (three to a sync were seen), and each would be a system call of its own.
fn merge(groups: &[Group], most_bytes: u64) -> (Group, usize) {
    let first = &groups[0];
    let mut bytes = first.bytes.len() as u64;
    let more = groups[1..].iter().take_while(|group| {
        bytes += group.bytes.len() as u64;
        bytes <= most_bytes
    });
    let count = 1 + more.count();
    if count == 1 {
        return (first.clone(), 1);
    }
    let groups = &groups[..count];
    let mut all = Vec::with_capacity(groups.iter().map(|group| group.bytes.len()).sum());
    for group in groups {
        all.extend_from_slice(&group.bytes);
    }
    let claims = groups.iter().map(|group| group.claim);
    let merged = Group {
        after: groups[count - 1].after,
        claim: claims.max().unwrap_or(first.claim),
        bytes: all.into(),
        ..first.clone()
    };
    (merged, count)
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Writer {
        Writer {
            shared,
            segment: None,
            spare: None,
        }
    }

    fn keeps(&self, guard: Guard) -> bool {
        self.shared.config.rules().keep(guard)
    }

    /// Waits for work. `false` when the log is closed.
    fn wait(&self) -> bool {
        let mut state = self.shared.lock();
        let poisoned = "a thread panicked while it held the log";
        loop {
            let due = self.shared.due(&state);
            state.writer_waits = !(due.is_work() || due == Due::End);
            state = match due {
                Due::Write | Due::Sync | Due::AskRoom => return true,
                Due::End => return false,
                Due::In(left) => {
                    let work = &self.shared.work;
                    work.wait_timeout(state, left).expect(poisoned).0
                }
                Due::Nothing => self.shared.work.wait(state).expect(poisoned),
            };
        }
    }

    /// One piece of work.
    pub(super) fn step(&mut self) -> Step {
        let (due, groups) = {
            let mut state = self.shared.lock();
            let due = self.shared.due(&state);
            let groups: Vec<Group> = match due {
                Due::Write => {
                    state.seal();
                    let from = state.tail.len() - state.unwritten;
                    state.tail.iter().skip(from).cloned().collect()
                }
                Due::Sync | Due::AskRoom => Vec::new(),
                Due::In(_) | Due::Nothing | Due::End => return Step::Idle,
            };
            state.writer_busy = true;
            (due, groups)
        };
        let done = match due {
            Due::Write => self.write_all(&groups),
            Due::AskRoom => self.ask_room().map(|()| Step::AskedRoom),
            _ => self.sync().map(|()| Step::Synced),
        };
        match done {
            Ok(step) => {
                let mut state = self.shared.lock();
                state.writer_busy = false;
                if state.sync_owed.is_none() {
                    self.shared.in_flight_since.store(IDLE, Ordering::Relaxed);
                }
                let quiescing = state.quiescing > 0;
                drop(state);
                if quiescing {
                    self.shared.idle.notify_all();
                }
                step
            }
            Err(error) => {
                self.fail(&error);
                Step::Failed
            }
        }
    }

    fn write_all(&mut self, groups: &[Group]) -> io::Result<Step> {
        let began = self.begin();
        let mut no_room = None;
        let mut written = 0;
        while written < groups.len() {
            // Only what the segment has room for: the next one begins where it would have.
            let left = self.segment.as_ref().map_or(0, OpenSegment::left_bytes);
            let (merged, count) = merge(&groups[written..], left.min(MERGED_BYTES));
            match self.write(&merged) {
                Ok(()) => written += count,
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::NoRoom(error)) => {
                    no_room = Some(error);
                    break;
                }
            }
        }
        let groups = &groups[..written];
        if let Some(error) = no_room {
            self.refused_room(&error, true);
            if groups.is_empty() {
                return Ok(Step::AskedRoom);
            }
        }
        let now = (self.shared.clock)();
        let progress = {
            let mut state = self.shared.lock();
            state.unwritten -= groups.len();
            state.written = groups.last().map_or(state.written, |last| last.after);
            state.left_bytes = self.segment.as_ref().map_or(0, OpenSegment::left_bytes);
            let keep = self.shared.config.tail_bytes;
            state.trim_tail(keep);
            if self.shared.config.fsync == Fsync::Always {
                // In flight until it is synced, however long it takes the driver to go on.
                state.sync_owed = Some(now);
            }
            self.progress(&state, now.saturating_sub(began), false)
        };
        (self.shared.on_progress)(&progress);
        let bytes = groups.iter().map(|group| group.bytes.len()).sum();
        Ok(Step::Wrote { bytes })
    }

    pub(super) fn begin(&self) -> Duration {
        let now = (self.shared.clock)();
        self.shared
            .in_flight_since
            .store(now.as_micros() as u64, Ordering::Relaxed);
        now
    }

    pub(super) fn progress(&self, state: &State, took: Duration, sync: bool) -> Progress {
        Progress {
            written: state.written,
            synced: state.synced,
            took,
            was_sync: sync,
            full: state.full.as_ref().map(|full| Arc::clone(&full.why)),
            failed: None,
        }
    }

    fn write(&mut self, group: &Group) -> Result<(), Stop> {
        let (cluster, rewritten) = {
            let state = self.shared.lock();
            (state.cluster, state.rewritten)
        };
        if self
            .segment
            .as_ref()
            .is_some_and(|segment| segment.rewritten != rewritten)
        {
            self.segment = None;
        }
        let size = group.bytes.len() as u64;
        let full = self
            .segment
            .as_ref()
            .is_some_and(|segment| segment.at + size > segment.room);
        if full {
            self.make_spare(size)?;
            // A segment is sealed synced, whatever the fsync setting: recovery relies on it.
            if self.keeps(Guard::R3Seal) {
                self.sync()?;
            }
            self.segment = Some(self.new_segment(cluster, rewritten, group)?);
        }
        if self.segment.is_none() {
            self.segment = match self.last_segment(rewritten, group)? {
                Some(last) => Some(last),
                None => {
                    self.make_spare(size)?;
                    Some(self.new_segment(cluster, rewritten, group)?)
                }
            };
        }
        let segment = self.segment.as_mut().expect("opened just above");
        assert!(
            segment.segment.before.lsn < group.first,
            "a group before its segment"
        );
        segment.keep_mark(&self.shared, cluster, group.claim)?;
        segment.file.write_at(&group.bytes, segment.at)?;
        segment.at += size;
        segment.zero_ahead(size)?;
        Ok(())
    }

    /// The last segment, when there is room in it: after opening the log or rewriting history.
    fn last_segment(&self, rewritten: u64, group: &Group) -> Result<Option<OpenSegment>, Stop> {
        let Some(last) = self.shared.lock().segments.last().cloned() else {
            return Ok(None);
        };
        let at = SEGMENT_HEADER_BYTES as u64 + (group.before.offset - last.before.offset);
        let file = self.shared.disk.open(&last.path, false)?;
        // Where another size was configured, or a full disk made it shorter, by what is there.
        let mut room = file.len()?;
        let wanted = at + group.bytes.len() as u64;
        if wanted > room && at > SEGMENT_HEADER_BYTES as u64 {
            return Ok(None);
        }
        if wanted > room {
            // It holds no record yet: the next segment would be this one again.
            asked(file.allocate(wanted))?;
            room = wanted;
        }
        Ok(Some(OpenSegment {
            zeroed: zeroed_upto(file.as_ref(), at),
            file,
            segment: last,
            at,
            room,
            rewritten,
        }))
    }

    /// Makes the spare the segment that begins with this group.
    fn new_segment(
        &mut self,
        cluster: u128,
        rewritten: u64,
        group: &Group,
    ) -> io::Result<OpenSegment> {
        let spare = self.spare.take().expect("it was made just before");
        let path = self.spare_path();
        let shared = &self.shared;
        let from = (path.as_path(), spare.file.as_ref());
        let segment = install_segment(shared, from, cluster, group.before, group.claim)?;
        let mut state = shared.lock();
        state.segments.push(segment.clone());
        state.spare_bytes = 0;
        let at = SEGMENT_HEADER_BYTES as u64;
        Ok(OpenSegment {
            zeroed: zeroed_upto(spare.file.as_ref(), at),
            file: spare.file,
            segment,
            at,
            room: spare.bytes,
            rewritten,
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        let (upto, owed) = {
            let state = self.shared.lock();
            (state.written, state.sync_owed)
        };
        let began = match owed {
            Some(since) => since,
            None => self.begin(),
        };
        if let Some(segment) = &self.segment
            && self.keeps(Guard::R3Sync)
        {
            segment.file.sync_data()?;
        }
        let now = (self.shared.clock)();
        let progress = {
            let mut state = self.shared.lock();
            state.last_sync = now;
            state.sync_owed = None;
            // Groups written to a segment that is being sealed are not `written` yet; they are
            // counted with the next sync.
            state.synced = state.synced.max(upto.lsn);
            self.progress(&state, now.saturating_sub(began), true)
        };
        (self.shared.on_progress)(&progress);
        Ok(())
    }

    /// The failure latch.
    fn fail(&mut self, error: &io::Error) {
        if !self.keeps(Guard::R3Latch) {
            self.shared.lock().writer_busy = false;
            return;
        }
        self.shared.fail(self.shared.lock(), error);
    }
}
