//! One process of a node: its tasks stop when it is frozen, and are gone when it is killed.
//! Between two polls of any of its tasks the world is looked at: that is a step.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll, Waker};

use tokio::task::{AbortHandle, JoinHandle};
use understudy::node::{Node, Task};
use understudy::wal::sim_disk::SimDisk;

use super::oracle::Ghost;
use super::random::Random;

/// What becomes of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Runs,
    Frozen,
    Dead,
}

struct Inner {
    fate: Fate,
    asleep: Vec<Waker>,
    random: Random,
    tasks: Vec<AbortHandle>,
}

/// A process.
pub struct Process {
    pub number: u64,
    pub place: u32,
    pub disk: SimDisk,
    pub ghost: Arc<Ghost>,
    pub node: OnceLock<Weak<Node>>,
    inner: Mutex<Inner>,
}

impl Process {
    pub fn new(number: u64, place: u32, disk: SimDisk, ghost: Arc<Ghost>) -> Arc<Process> {
        Arc::new(Process {
            number,
            place,
            disk,
            ghost,
            node: OnceLock::new(),
            inner: Mutex::new(Inner {
                fate: Fate::Runs,
                asleep: Vec::new(),
                random: Random(number),
                tasks: Vec::new(),
            }),
        })
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("one thread, and no panic under it")
    }

    pub fn fate(&self) -> Fate {
        self.inner().fate
    }

    pub fn freeze(&self) {
        self.inner().fate = Fate::Frozen;
    }

    pub fn thaw(&self) {
        let mut inner = self.inner();
        inner.fate = Fate::Runs;
        // Its threads race when it goes on: in any order.
        let mut asleep = std::mem::take(&mut inner.asleep);
        while !asleep.is_empty() {
            let next = inner.random.below(asleep.len() as u64) as usize;
            asleep.swap_remove(next).wake();
        }
    }

    /// Nothing of it runs any more.
    pub fn kill(&self) {
        let mut inner = self.inner();
        inner.fate = Fate::Dead;
        inner.asleep.clear();
        for task in inner.tasks.drain(..) {
            task.abort();
        }
    }

    pub fn spawn(self: &Arc<Process>, task: Task) -> JoinHandle<()> {
        let handle = tokio::spawn(Guarded {
            process: Arc::clone(self),
            task,
        });
        let mut inner = self.inner();
        inner.tasks.retain(|task| !task.is_finished());
        inner.tasks.push(handle.abort_handle());
        handle
    }
}

/// A task of a process.
struct Guarded {
    process: Arc<Process>,
    task: Task,
}

impl Future for Guarded {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut inner = self.process.inner();
            match inner.fate {
                Fate::Runs => {}
                Fate::Frozen => {
                    inner.asleep.push(cx.waker().clone());
                    return Poll::Pending;
                }
                Fate::Dead => return Poll::Ready(()),
            }
        }
        let _node = tracing::info_span!("node", n = self.process.place).entered();
        let task = self.task.as_mut();
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| task.poll(cx)));
        let process = &self.process;
        match polled {
            Ok(polled) => {
                process.ghost.step(process);
                polled
            }
            Err(panic) => {
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("a panic");
                process
                    .ghost
                    .violated(format!("node {} panicked: {text}", process.place));
                Poll::Ready(())
            }
        }
    }
}
