//! Ways to look for a broken promise: each tells stories to disks with one kind of fault.

use understudy::wal::sim_disk::SimDisk;
use understudy::wal::{Fsync, LogConfig};

use super::{Story, check, contents, disk, first_history, go_on, open};

/// How a search went.
#[derive(Debug, Default)]
pub struct Search {
    /// Faulty disks looked at.
    pub disks: u64,
    /// The first broken promise, and where it was broken.
    pub broken: Option<String>,
}

impl Search {
    /// Looks at one disk; whether to go on.
    pub fn look(&mut self, place: impl FnOnce() -> String, found: Result<(), String>) -> bool {
        self.disks += 1;
        if let Err(what) = found {
            self.broken = Some(format!("{}: {what}", place()));
        }
        self.broken.is_none()
    }
}

/// The disk dies at each operation of the story; several images of each.
pub fn crashes(story: Story, config: LogConfig) -> Search {
    crashes_of(
        |disk| story(disk, config),
        |image, promise| check(image, config, promise),
    )
}

/// The same of any life of a disk that promises something, and is held to it.
pub fn crashes_of<P>(
    life: impl Fn(&SimDisk) -> P,
    check: impl Fn(&SimDisk, &P) -> Result<(), String>,
) -> Search {
    let mut search = Search::default();
    let whole = disk();
    life(&whole);
    for boundary in 1..=whole.operations() + 1 {
        let dying = disk();
        dying.crash_at(boundary);
        let promise = life(&dying);
        for seed in 0..6 {
            let image = dying.after_crash(seed * 1000 + boundary);
            let place = || format!("dead at operation {boundary}, seed {seed}");
            if !search.look(place, check(&image, &promise)) {
                return search;
            }
        }
    }
    search
}

/// The process dies at each operation; the next one finds its page cache, goes on, and loses power.
pub fn kills(story: Story, config: LogConfig) -> Search {
    let whole = disk();
    story(&whole, config);
    second_lives(whole.operations() + 1, story, config, |boundary| {
        let dying = disk();
        dying.crash_at(boundary);
        dying
    })
}

/// Each operation fails once; the process is started again over the same page cache (which, after
/// a failed sync, claims what the disk lacks), goes on, and loses power.
pub fn errors(story: Story, config: LogConfig) -> Search {
    let whole = disk();
    story(&whole, config);
    second_lives(whole.operations(), story, config, |operation| {
        let failing = disk();
        failing.set_seed(operation);
        failing.fail_at(operation);
        failing
    })
}

fn second_lives(
    last: u64,
    story: Story,
    config: LogConfig,
    faulty: impl Fn(u64) -> SimDisk,
) -> Search {
    let mut search = Search::default();
    for operation in 1..=last {
        let first = faulty(operation);
        let promise = story(&first, config);
        for again in [false, true] {
            let (second, promise) = if again {
                let second = first.kill();
                let promise = go_on(&second, config, promise.clone());
                (second, promise)
            } else {
                (first.clone(), promise.clone())
            };
            for seed in 0..3 {
                let place = || format!("operation {operation}, seed {seed}, second life: {again}");
                let image = second.after_crash(seed * 1000 + operation);
                if !search.look(place, check(&image, config, &promise)) {
                    return search;
                }
            }
        }
    }
    search
}

/// One bit of the synced log rots. The next start refuses, or nothing is missing but what no later
/// record states as synced: `known` records are there. Never another value.
pub fn rot(story: Story, config: LogConfig, known: usize, step: usize) -> Search {
    let mut search = Search::default();
    let whole = disk();
    story(&whole, config);
    for file in whole.durable_files() {
        for bit in (0..file.used * 8).step_by(step) {
            let image = whole.after_crash(0);
            assert!(image.rot(&file.path, bit), "durable bytes can rot");
            let place = || format!("{} bit {bit}", file.path.display());
            if !search.look(place, refuses_or_holds(&image, config, known)) {
                return search;
            }
        }
    }
    search
}

/// A segment, but not the last, is gone. (A lost last one looks like a log that ended before it.)
pub fn lost_segments(story: Story, config: LogConfig) -> Search {
    use understudy::wal::Disk;
    let mut search = Search::default();
    let whole = disk();
    story(&whole, config);
    let mut files = whole.durable_files();
    files.retain(|file| file.path.extension().is_some_and(|kind| kind == "wal"));
    for lost in files.iter().rev().skip(1) {
        let image = whole.after_crash(0);
        image.remove(&lost.path).unwrap();
        let found = match open(&image, config) {
            Ok(_) => Err("the log was opened".to_string()),
            Err(_) => Ok(()),
        };
        if !search.look(|| format!("{} lost", lost.path.display()), found) {
            return search;
        }
    }
    search
}

fn refuses_or_holds(image: &SimDisk, config: LogConfig, known: usize) -> Result<(), String> {
    let Ok(bench) = open(image, config) else {
        return Ok(());
    };
    let found = contents(&bench.log)?;
    if found.len() < known {
        return Err(format!("cut to {} records", found.len()));
    }
    for (before, record) in found.iter().enumerate() {
        if *record != first_history(before as u64 + 1) {
            return Err(format!("LSN {} has another value", before + 1));
        }
    }
    Ok(())
}

/// Segments for a few records each; one for all; and one synced only when it is sealed.
pub fn configs(of: LogConfig) -> [LogConfig; 3] {
    let large = LogConfig {
        segment_bytes: 8 << 10,
        ..of
    };
    let lazy = LogConfig {
        fsync: Fsync::Os,
        ..of
    };
    [of, large, lazy]
}
