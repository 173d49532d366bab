//! Segments that a snapshot replaces go, and a crash or an error in the middle of that leaves a log
//! without a hole, which holds everything that no snapshot does.

use understudy::units::Lsn;
use understudy::wal::sim_disk::SimDisk;
use understudy::wal::{ChainPoint, LogConfig, records};

use crate::holds;
use crate::wal::search::{Search, crashes_of};
use crate::wal::{Bench, config, disk, first_history, open_from};

/// What the log promised, and what need not be in it.
#[derive(Clone, Copy, Debug, Default)]
struct Promise {
    synced: u64,
    /// Where the newest durable snapshot begins.
    replaced: ChainPoint,
}

/// Appends up to `last`, group by group.
fn append(bench: &Bench, promise: &mut Promise, last: u64) {
    for lsn in bench.log.end().lsn.0 + 1..=last {
        if !bench.append(1, &first_history(lsn)) {
            return;
        }
        bench.drive();
        promise.synced = promise.synced.max(bench.log.cursors().2.0);
    }
}

/// A snapshot is made again and again, and the log before it let go of.
fn story(disk: &SimDisk, config: LogConfig, mut promise: Promise) -> Promise {
    let Ok(bench) = open_from(disk, config, promise.replaced) else {
        return promise;
    };
    let from = bench.log.end().lsn.0;
    for round in 1..=3 {
        append(&bench, &mut promise, from + round * 12);
        let Ok(replaced) = bench.log.chain_at(Lsn(promise.synced.saturating_sub(4))) else {
            break;
        };
        promise.replaced = replaced;
        // An error is said; the next round tries again, and so does the one after it.
        let _ = bench.log.remove_before(replaced.lsn);
    }
    bench.log.close();
    promise
}

/// It opens, holds what no snapshot does, and nothing else than what was written.
fn check(image: &SimDisk, config: LogConfig, promise: &Promise) -> Result<(), String> {
    let bench = open_from(image, config, promise.replaced).map_err(|error| error.to_string())?;
    let oldest = bench.log.oldest().lsn;
    if oldest > promise.replaced.lsn || bench.log.end().lsn.0 < promise.synced {
        let end = bench.log.end().lsn;
        return Err(format!("it holds {oldest} to {end} for {promise:?}"));
    }
    let mut reader = bench
        .log
        .reader(oldest)
        .map_err(|error| error.to_string())?;
    let mut next = oldest.0;
    while let Some(chunk) = reader
        .next_chunk(Lsn(u64::MAX), 200)
        .map_err(|error| error.to_string())?
    {
        for record in records(&chunk.bytes) {
            next += 1;
            if record.payload != first_history(next) {
                return Err(format!("LSN {next} is not what was written"));
            }
        }
    }
    match next == bench.log.end().lsn.0 {
        true => Ok(()),
        false => Err(format!("it reads back to LSN {next} only")),
    }
}

/// Each operation fails once; the log's next process goes on with the same.
fn errors(config: LogConfig) -> Search {
    let mut search = Search::default();
    let whole = disk();
    story(&whole, config, Promise::default());
    for operation in 1..=whole.operations() {
        let failing = disk();
        failing.fail_at(operation);
        let first = story(&failing, config, Promise::default());
        let second = failing.kill();
        if !search.look(
            || format!("operation {operation} failed"),
            check(&second.after_crash(operation), config, &first),
        ) {
            return search;
        }
        let promise = story(&second, config, first);
        let grew = match promise.synced > first.synced {
            true => Ok(()),
            false => Err(format!("the second life wrote nothing: {promise:?}")),
        };
        let place = || format!("operation {operation} failed, second life");
        if !search.look(place, grew)
            || !search.look(
                place,
                check(&second.after_crash(operation), config, &promise),
            )
        {
            return search;
        }
    }
    search
}

#[test]
fn what_a_snapshot_replaces_goes_without_leaving_a_hole() {
    let whole = disk();
    let promise = story(&whole, config(), Promise::default());
    assert_eq!(promise.synced, 36);
    let kept = whole.durable_files().len();
    assert!((1..=4).contains(&kept), "{kept} segments are left");
    let life = |disk: &SimDisk| story(disk, config(), Promise::default());
    let crashes = crashes_of(life, |image, promise| check(image, config(), promise));
    holds("retention, crashes", &crashes);
    holds("retention, errors", &errors(config()));
}
