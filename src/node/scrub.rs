//! The scrub: sealed segments and snapshots are read back from the disk in the background, at `[limits]
//! scrub_rate`, so that rot is found before the bytes are needed. What is damaged in the log is mended
//! with records from another data node; a damaged snapshot is replaced by a new one. Whoever stumbles
//! over damage before the scrub does calls it at once.
//!
//! Not read: the newest segment, which is being written. Its damage is found at the next start.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::driver::Node;
use super::fitness::Unfit;
use super::mend::Asker;
use super::snapshots::{self, Pace};
use super::stats::Stats;
use crate::units::Micros;
use crate::wal::{
    ChainPoint, Examination, Examined, Finding, Hole, Sealed, SnapshotError, StoredBlock, mend,
};

/// What the scrub has seen, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubState {
    /// Whole passes since this process started.
    pub passes: u64,
    /// Bytes read in this pass.
    pub bytes: u64,
    /// When the last whole pass ended, on the node's clock.
    pub last_pass: Option<Micros>,
    /// What was found last, in a sentence; kept until a pass finds nothing.
    pub finding: Option<String>,
}

/// The scrub's state.
#[derive(Debug, Default)]
pub(super) struct Scrub(Mutex<ScrubState>);

impl Scrub {
    fn state(&self) -> MutexGuard<'_, ScrubState> {
        self.0.lock().expect("the state is only read and set")
    }
}

impl Node {
    /// What the scrub has seen.
    pub fn scrub_state(&self) -> ScrubState {
        self.scrub.state().clone()
    }

    /// Somebody found bytes of the log damaged: they are looked after now, and nothing else.
    pub(super) fn log_is_damaged(&self, what: &str) {
        tracing::error!("{what}");
        self.unfit(Unfit::Damaged);
        self.damaged.notify_one();
    }
}

pub(super) async fn run(node: Arc<Node>) {
    let (rate, rest) = (node.settings.scrub_rate, node.settings.scrub_rest);
    loop {
        let called = tokio::select! {
            () = node.damaged.notified() => true,
            () = tokio::time::sleep(rest), if rate > 0 => false,
        };
        if node.gate_now().stopping {
            return;
        }
        pass(&node, if called { 0 } else { rate }).await;
        // Whoever waits for whole bytes looks again.
        node.mended.notify_waiters();
    }
}

/// Looks at everything once. `rate`: bytes per second, 0 for as fast as it goes.
async fn pass(node: &Arc<Node>, rate: u64) {
    let mut pace = Pace::new(rate);
    node.scrub.state().bytes = 0;
    let mut damaged = 0;
    for sealed in node.store.log().sealed() {
        if node.gate_now().stopping {
            return;
        }
        damaged += u64::from(!segment(node, &sealed, &mut pace).await);
    }
    if damaged == 0 {
        node.fit_again(Unfit::Damaged);
    }
    damaged += all_snapshots(node, &mut pace).await;
    let mut state = node.scrub.state();
    state.passes += 1;
    state.last_pass = Some(node.host.boot_time());
    if damaged == 0 {
        state.finding = None;
    }
}

fn read(node: &Node, bytes: u64) {
    Stats::add(&node.stats.scrubbed_bytes, bytes);
    node.scrub.state().bytes += bytes;
}

fn found(node: &Node, what: String) {
    Stats::add(&node.stats.scrub_findings, 1);
    tracing::error!("{what}");
    node.scrub.state().finding = Some(what);
}

/// Looks at one segment, and mends it; whether it is whole.
async fn segment(node: &Arc<Node>, sealed: &Sealed, pace: &mut Pace) -> bool {
    // A segment may have several holes; each mending closes the first.
    for attempt in 0.. {
        let result = examine(node, sealed, pace).await;
        // Removed, or cut, since it was listed: there is nothing to look at.
        if !node.store.log().is_sealed(sealed) {
            return true;
        }
        let path = sealed.path.display();
        // A bad sector: all of it is asked for.
        let finding = result.unwrap_or_else(|error| {
            Some(Finding {
                what: error.to_string(),
                hole: whole(sealed),
            })
        });
        let Some(Finding { what, hole }) = finding else {
            if attempt > 0 {
                Stats::add(&node.stats.scrub_mended, 1);
            }
            return true;
        };
        if attempt == 0 {
            found(node, format!("{path}: {what}"));
        }
        if let Err(why) = ask(node, sealed, &hole).await {
            found(node, format!("{path}: {what}; not mended: {why}"));
            return false;
        }
    }
    true
}

/// Reads a segment piece by piece; what is wrong with it, if anything is. (Read in one go, 64 MiB held up
/// the log's next sync for a tenth of a second.)
async fn examine(
    node: &Node,
    sealed: &Sealed,
    pace: &mut Pace,
) -> std::io::Result<Option<Finding>> {
    let disk = node.host.disk();
    let mut examination = Examination::new(sealed);
    loop {
        match node.host.blocking(|| examination.step(disk.as_ref()))? {
            Examined::Some(bytes) => {
                read(node, bytes);
                pace.spend(bytes).await;
            }
            Examined::All(finding) => return Ok(finding),
        }
    }
}

fn whole(sealed: &Sealed) -> Hole {
    Hole {
        segment: sealed.path.clone(),
        before: Some(sealed.before),
        after: Some(sealed.before),
        first: sealed.before.lsn.next(),
        last: sealed.end.lsn,
        upto: Some(sealed.end),
    }
}

async fn ask(node: &Arc<Node>, sealed: &Sealed, hole: &Hole) -> Result<(), String> {
    if node.settings.other_data_nodes().next().is_none() {
        return Err(
            "there is no other data node to have the records from; the data in memory are good, and \
             the log is not needed any more once two snapshots are newer"
                .into(),
        );
    }
    let gate = node.gate_now();
    let asker = Asker {
        host: &node.host,
        settings: &node.settings,
        cluster: gate.cluster,
        incarnation: gate.incarnation,
        promised: node.promised(),
        process: node.process,
    };
    let put = |after: ChainPoint, records: &[u8]| {
        // Nobody removes, cuts or replaces the segment meanwhile.
        let alone = node.rewriting.lock();
        let _alone = alone.map_err(|_| "a task panicked".to_owned())?;
        if !node.store.log().is_sealed(sealed) {
            return Ok(0);
        }
        let disk = node.host.disk();
        let mended = mend(
            disk.as_ref(),
            gate.cluster,
            asker.promised,
            hole,
            after,
            records,
        );
        mended.map_err(|error| error.to_string())
    };
    asker.fill_once(hole, &put).await
}

/// Reads all snapshots back; how many are damaged and could not be replaced.
async fn all_snapshots(node: &Arc<Node>, pace: &mut Pace) -> u64 {
    let list = match node.snapshots.list() {
        Ok(list) => list,
        Err(error) => {
            found(node, error.to_string());
            return 1;
        }
    };
    let mut damaged = 0;
    for (begin, _, path) in list {
        let Err(error) = one_snapshot(node, &path, pace).await else {
            continue;
        };
        // Gone meanwhile, for newer ones.
        let listed = node.snapshots.list().unwrap_or_default();
        if !listed.iter().any(|(_, _, other)| *other == path) {
            continue;
        }
        found(node, format!("the snapshot of LSN {begin}: {error}"));
        match snapshots::replace_damaged(node, &path).await {
            Ok(()) => Stats::add(&node.stats.scrub_mended, 1),
            Err(why) => {
                tracing::error!("no new snapshot in its place: {why}");
                damaged += 1;
            }
        }
    }
    damaged
}

async fn one_snapshot(
    node: &Arc<Node>,
    path: &std::path::Path,
    pace: &mut Pace,
) -> Result<(), SnapshotError> {
    let mut reader = node.host.blocking(|| node.snapshots.reader(path))?;
    let (mut block, mut room) = (StoredBlock::default(), Vec::new());
    let bad = |what| SnapshotError::Bad {
        path: path.to_path_buf(),
        what,
    };
    loop {
        let more = node.host.blocking(|| {
            let more = reader.next_block(&mut block)?;
            if more {
                block.unpack(&mut room).map_err(bad)?;
            }
            Ok::<bool, SnapshotError>(more)
        })?;
        if !more || node.stopping.is_cancelled() {
            return Ok(());
        }
        read(node, block.raw_bytes());
        pace.spend(block.raw_bytes()).await;
    }
}

/// Waits until the scrub has looked after what was damaged, or for a while.
pub(super) async fn mended(node: &Node) {
    let whole = node.mended.notified();
    let _ = tokio::time::timeout(Duration::from_secs(1), whole).await;
}
