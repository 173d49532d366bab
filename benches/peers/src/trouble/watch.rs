//! What comes and goes in folders, as the kernel tells it: how a node is seen to make a snapshot,
//! or to begin a segment, from outside and at no cost to it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::windows::{Window, merged};

/// How long before the new segment's name is seen requests may have met its making: its room is
/// asked for, and the segment before it is synced.
const TURNING: Duration = Duration::from_millis(10);
/// How long a turnover's windows are in all.
const TURNOVER: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// It was there when the watch began.
    Present,
    Came,
    Went,
}

#[derive(Clone, Debug)]
struct Change {
    at: Instant,
    folder: i32,
    name: String,
    what: What,
}

/// Watches folders until it is dropped.
pub struct Watch {
    began: Instant,
    changes: Arc<Mutex<Vec<Change>>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// From now on, of files in these folders, not below them.
    pub fn on(folders: &[PathBuf]) -> anyhow::Result<Watch> {
        let began = Instant::now();
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .context("the system gave no inotify queue")?;
        let wanted = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
        let mut present = Vec::new();
        for path in folders {
            let cannot = || format!("cannot watch {}", path.display());
            let folder = inotify::add_watch(&queue, path, wanted).with_context(cannot)?;
            for entry in std::fs::read_dir(path).with_context(cannot)? {
                present.push(Change {
                    at: began,
                    folder,
                    name: entry
                        .with_context(cannot)?
                        .file_name()
                        .to_string_lossy()
                        .into(),
                    what: What::Present,
                });
            }
        }
        let changes = Arc::new(Mutex::new(present));
        #[allow(
            deprecated,
            reason = "what takes its place asks for what OwnedFd promises"
        )]
        let queue = AsyncFd::new(queue).context("cannot wait for an inotify queue")?;
        let task = tokio::spawn(listen(queue, Arc::clone(&changes)));
        Ok(Watch {
            began,
            changes,
            task,
        })
    }

    /// While a snapshot was under way in any of the folders, and how many were.
    pub fn snapshots(&self) -> (Vec<Window>, u64) {
        snapshots(&lock(&self.changes), Instant::now())
    }

    /// Around each beginning of a segment, and how many began.
    pub fn turnovers(&self) -> (Vec<Window>, u64) {
        turnovers(&lock(&self.changes), self.began)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(changes: &Mutex<Vec<Change>>) -> MutexGuard<'_, Vec<Change>> {
    changes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes down what the kernel tells. An error ends it: then what is missing shows as such.
async fn listen(queue: AsyncFd<OwnedFd>, changes: Arc<Mutex<Vec<Change>>>) {
    while let Ok(mut ready) = queue.readable().await {
        let taken = ready.try_io(|queue| take(queue.get_ref(), &mut lock(&changes)));
        if matches!(taken, Ok(Err(_))) {
            return;
        }
    }
}

/// Takes all there is; "would block" when there is no more.
fn take(queue: &OwnedFd, changes: &mut Vec<Change>) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(queue, &mut room);
    let at = Instant::now();
    loop {
        let event = reader.next()?;
        let Some(name) = event.file_name() else {
            continue;
        };
        let came = ReadFlags::CREATE | ReadFlags::MOVED_TO;
        let what = match event.events().intersects(came) {
            true => What::Came,
            false => What::Went,
        };
        changes.push(Change {
            at,
            folder: event.wd(),
            name: name.to_string_lossy().into(),
            what,
        });
    }
}

/// A snapshot has a temporary name while it is made, until it has been read back.
fn snapshots(changes: &[Change], now: Instant) -> (Vec<Window>, u64) {
    let mut windows = Vec::new();
    let mut under_way: Vec<&Change> = Vec::new();
    for change in changes.iter().filter(|one| one.name.ends_with(".tmp")) {
        let same = |one: &&Change| one.folder == change.folder && one.name == change.name;
        let begun = under_way.iter().position(same);
        match (change.what, begun) {
            (What::Present | What::Came, None) => under_way.push(change),
            (What::Went, Some(place)) => windows.push(Window {
                from: under_way.swap_remove(place).at,
                until: change.at,
            }),
            _ => {}
        }
    }
    windows.extend(under_way.iter().map(|begun| Window {
        from: begun.at,
        until: now,
    }));
    let count = windows.len() as u64;
    (merged(windows), count)
}

/// A segment counts from when it has its name.
fn turnovers(changes: &[Change], began: Instant) -> (Vec<Window>, u64) {
    let is_new = |one: &&Change| one.what == What::Came && one.name.ends_with(".wal");
    let begun: Vec<&Change> = changes.iter().filter(is_new).collect();
    let window = |change: &&Change| {
        let from = change.at.checked_sub(TURNING).unwrap_or(began).max(began);
        Window {
            from,
            until: from + TURNOVER,
        }
    };
    let windows = begun.iter().map(window).collect();
    (merged(windows), begun.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(began: Instant, at_ms: u64, folder: i32, name: &str, what: What) -> Change {
        Change {
            at: began + Duration::from_millis(at_ms),
            folder,
            name: name.to_owned(),
            what,
        }
    }

    fn window(began: Instant, from_ms: u64, until_ms: u64) -> Window {
        Window {
            from: began + Duration::from_millis(from_ms),
            until: began + Duration::from_millis(until_ms),
        }
    }

    #[test]
    fn a_snapshot_is_under_way_while_it_has_its_temporary_name() {
        let began = Instant::now();
        let changes = [
            change(began, 0, 1, "5.tmp", What::Present),
            change(began, 0, 1, "1-2.snap", What::Present),
            change(began, 100, 2, "9.tmp", What::Came),
            change(began, 200, 1, "5.tmp", What::Went),
            change(began, 200, 1, "5-8.snap", What::Came),
            change(began, 300, 2, "9.tmp", What::Went),
            change(began, 500, 1, "20.tmp", What::Came),
        ];
        let (windows, count) = snapshots(&changes, began + Duration::from_millis(600));
        assert_eq!(windows, [window(began, 0, 300), window(began, 500, 600)]);
        assert_eq!(count, 3);
    }

    #[test]
    fn a_turnover_is_around_the_new_segments_name() {
        let began = Instant::now();
        let changes = [
            change(began, 0, 1, "00001.wal", What::Present),
            change(began, 4, 1, "next.tmp", What::Went),
            change(began, 4, 1, "00002.wal", What::Came),
            change(began, 100, 1, "00003.wal", What::Came),
            change(began, 101, 1, "00001.wal", What::Went),
            change(began, 120, 2, "00003.wal", What::Came),
        ];
        let (windows, count) = turnovers(&changes, began);
        assert_eq!(windows, [window(began, 0, 50), window(began, 90, 160)]);
        assert_eq!(count, 3);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_kernel_tells_what_comes_and_goes() {
        let parent = std::env::temp_dir();
        let folder = understudy::cli::local_cluster::Folder::create(Some(&parent), "watch-test");
        let folder = folder.expect("a temporary folder");
        let file = folder.path().join("1.tmp");
        let watch = Watch::on(&[folder.path().to_owned()]).expect("it can be watched");
        std::fs::write(&file, "x").expect("it is writable");
        std::fs::rename(&file, folder.path().join("1.wal")).expect("it is ours");
        let seen = async {
            while watch.turnovers().1 == 0 {
                tokio::task::yield_now().await;
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(10), seen).await;
        told.expect("the kernel tells");
        let (windows, count) = watch.snapshots();
        assert_eq!((windows.len(), count), (1, 1));
    }
}
