//! Reading a snapshot back into a keyspace, with every core the host has; and choosing which.
//!
//! A damaged snapshot is passed over for the one before it only where the log reaches back to that
//! one: the same state comes of it, later. It is said loudly, and the damaged file is kept aside.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use thiserror::Error;

use crate::keyspace::{Keyspace, LoadRoom, Loader};
use crate::node::host::Host;
use crate::units::{Lsn, Micros};
use crate::wal::{ChainPoint, SnapshotError, SnapshotReader, SnapshotStore, StoredBlock};

/// Time between two lines that say how far the loading is.
const SAY_EVERY: Micros = Micros(1_000_000);

/// A keyspace read back.
#[derive(Debug)]
pub(in crate::node) struct Loaded {
    pub(in crate::node) keyspace: Keyspace,
    pub(in crate::node) begin: ChainPoint,
    pub(in crate::node) end: Lsn,
    /// Snapshots newer than this that are damaged. They count still: see [`Loaded::set_aside`].
    pub(in crate::node) damaged: Vec<Damaged>,
}

/// A snapshot that could not be loaded.
#[derive(Debug)]
pub(in crate::node) struct Damaged {
    path: PathBuf,
    /// By its name: what it held reached this record.
    pub(in crate::node) end: Lsn,
    why: SnapshotError,
}

/// Why no snapshot was loaded. Nothing was changed on the disk.
#[derive(Debug, Error)]
pub enum CannotLoad {
    /// The disk; another version.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// The newest is damaged, and there is no other way to the same state.
    #[error(
        "{damaged}. {missing}. Restore the file, or move the data directory \
         away and let the node take a copy from its primary"
    )]
    NothingElse {
        /// Which snapshots, and what is wrong with them.
        damaged: String,
        /// Which records are missing for doing without.
        missing: String,
    },
}

/// Loads the newest snapshot. Where that is damaged: the newest that is not, if the log (whose first
/// record is `log_first`) reaches back to it; where none is left, nothing, if the log is complete.
pub(in crate::node) fn load_newest(
    host: &dyn Host,
    store: &SnapshotStore,
    log_first: Option<Lsn>,
) -> Result<Loaded, CannotLoad> {
    let mut damaged: Vec<Damaged> = Vec::new();
    let mut list = store.list()?;
    loop {
        let next = list.pop();
        let begin = next.as_ref().map_or(Lsn::ZERO, |(begin, _, _)| *begin);
        if !damaged.is_empty() && log_first.is_none_or(|first| first > begin.next()) {
            return Err(nothing_else(&damaged, next.is_some(), begin, log_first));
        }
        let Some((_, end, path)) = next else {
            let loaded = Loaded::nothing(host);
            return Ok(Loaded { damaged, ..loaded });
        };
        match load(host, store, &path) {
            Ok(loaded) => return Ok(Loaded { damaged, ..loaded }),
            Err(why @ SnapshotError::OtherVersion { .. }) => return Err(why.into()),
            Err(why) => {
                tracing::error!("a snapshot cannot be loaded: {why}");
                damaged.push(Damaged { path, end, why });
            }
        }
    }
}

fn nothing_else(
    damaged: &[Damaged],
    older: bool,
    begin: Lsn,
    log_first: Option<Lsn>,
) -> CannotLoad {
    let said: Vec<String> = damaged.iter().map(|one| one.why.to_string()).collect();
    let from = begin.next();
    let without = if older {
        format!("The snapshot before it needs the log from LSN {from} on")
    } else {
        "There is no snapshot before it, and without one the log is needed from LSN 1 on".into()
    };
    let missing = match log_first {
        Some(first) => format!(
            "{without}, but the log begins at LSN {first}: LSN {from} to {} are missing",
            first.previous()
        ),
        None => format!("{without}, but there is no log"),
    };
    CannotLoad::NothingElse {
        damaged: said.join("; "),
        missing,
    }
}

impl Loaded {
    /// An empty keyspace, as before the first record.
    pub(in crate::node) fn nothing(host: &dyn Host) -> Loaded {
        Loaded {
            keyspace: Keyspace::new(host.hash_seed()),
            begin: ChainPoint::default(),
            end: Lsn::ZERO,
            damaged: Vec::new(),
        }
    }

    /// Puts the damaged snapshots aside, the node having found another way, and says so.
    pub(in crate::node) fn set_aside(&self, store: &SnapshotStore) -> Result<(), SnapshotError> {
        for damaged in &self.damaged {
            let aside = store.set_aside(&damaged.path)?;
            tracing::error!(
                "going on from the state at LSN {} and the log behind it, without the damaged \
                 snapshot, which is kept as {} until two good ones are newer. Look after this disk",
                self.begin.lsn,
                aside.display()
            );
        }
        Ok(())
    }
}

/// What the threads share: the file, read by one after the other.
struct Source<'a> {
    host: &'a dyn Host,
    reader: SnapshotReader,
    /// The first error; or that the file has been read.
    over: Option<Result<(), SnapshotError>>,
    began: Micros,
    said: Micros,
}

/// Reads one snapshot.
pub(in crate::node) fn load(
    host: &dyn Host,
    store: &SnapshotStore,
    path: &Path,
) -> Result<Loaded, SnapshotError> {
    let reader = store.reader(path)?;
    let info = reader.info();
    // What a file says is believed only as far as its length bears it out.
    let loader = Loader::new(host.hash_seed(), info.keys.min(info.bytes / 32));
    let now = host.boot_time();
    let source = Mutex::new(Source {
        host,
        reader,
        over: None,
        began: now,
        said: now,
    });
    let helpers = match host.has_threads() {
        true => std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1),
        false => 0,
    };
    std::thread::scope(|scope| {
        // As many as the work is worth, and as the operating system gives.
        for _ in 0..helpers.min(info.blocks as usize / 4) {
            let thread = std::thread::Builder::new().name("snapshot-loader".into());
            if let Err(error) = thread.spawn_scoped(scope, || work(&source, &loader)) {
                tracing::warn!("loading with fewer threads: {error}");
                break;
            }
        }
        work(&source, &loader);
    });
    let source = source
        .into_inner()
        .expect("a thread panicked while it loaded a snapshot");
    if let Some(Err(error)) = source.over {
        return Err(error);
    }
    Ok(Loaded {
        keyspace: loader.finish(),
        begin: info.begin,
        end: info.end,
        damaged: Vec::new(),
    })
}

fn lock<'a, 'b>(source: &'a Mutex<Source<'b>>) -> MutexGuard<'a, Source<'b>> {
    source
        .lock()
        .expect("a thread panicked while it loaded a snapshot")
}

/// One thread's part: read a block alone; check it, unpack it and add what it holds beside the
/// others.
fn work(source: &Mutex<Source<'_>>, loader: &Loader) {
    let (mut block, mut room) = (StoredBlock::default(), Vec::new());
    let mut entries = LoadRoom::default();
    while lock(source).next(&mut block) {
        let added = block.unpack(&mut room).and_then(|bytes| {
            let keys = loader.add(bytes, &mut entries);
            keys.map_err(|error| error.to_string())
        });
        let what = match added {
            Ok(keys) if keys == u64::from(block.keys()) => continue,
            Ok(keys) => format!("a block of {keys} keys says it has {}", block.keys()),
            Err(what) => what,
        };
        return lock(source).fail(what);
    }
}

impl Source<'_> {
    fn next(&mut self, block: &mut StoredBlock) -> bool {
        if self.over.is_some() {
            return false;
        }
        let next = self.reader.next_block(block);
        self.say();
        match next {
            Ok(true) => return true,
            Ok(false) => self.over = Some(Ok(())),
            Err(error) => self.over = Some(Err(error)),
        }
        false
    }

    fn fail(&mut self, what: String) {
        if !matches!(self.over, Some(Err(_))) {
            let path = self.reader.path().to_path_buf();
            self.over = Some(Err(SnapshotError::Bad { path, what }));
        }
    }

    fn say(&mut self) {
        let now = self.host.boot_time();
        if now.since(self.said) < SAY_EVERY {
            return;
        }
        self.said = now;
        let (read, all) = (self.reader.bytes_read(), self.reader.info().bytes);
        let micros = now.since(self.began).0.max(1);
        tracing::info!(
            "loading a snapshot: {} % of {} MB, {} MB/s, {} of {} keys",
            read * 100 / all.max(1),
            all / 1_000_000,
            read / micros,
            self.reader.keys_read(),
            self.reader.info().keys
        );
    }
}
