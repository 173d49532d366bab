//! What a node stands on: clocks, chance, disk, network, and somebody to run its tasks. Real in
//! `serve`; simulated, from one seed and in virtual time, in `tests/sim`.
//!
//! A simulated host has one thread. There, nothing blocks: what the real host does on threads of
//! their own (control plane, log writer, control state, history) runs as tasks beside the others.

use std::io;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::clock;
use crate::keyspace::HashSeed;
use crate::peer::{Network, Pending, Tcp};
use crate::replica::{Control, Now, Output};
use crate::units::{Micros, Millis};
use crate::wal::{Disk, RealDisk};

/// Something to run.
pub type Task = Pending<'static, ()>;

/// For oracles: what a node did.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// The takeover machine says this; it is about to be carried out.
    Said(&'a Output),
    /// This control state is durable now.
    Durable(&'a Control),
    /// So many keys were set to the primary's values, and replay has passed them (R28).
    Repaired(usize),
}

/// The ground under one node.
pub trait Host: Send + Sync + 'static {
    /// `CLOCK_BOOTTIME`: goes on while the machine is suspended, never jumps (R12).
    fn boot_time(&self) -> Micros;
    /// Wall-clock; may jump.
    fn wall(&self) -> Millis;
    /// Which boot of the host this is (R14).
    fn boot_id(&self) -> u128;
    /// A random number.
    fn draw(&self) -> u64;
    /// The file system.
    fn disk(&self) -> Arc<dyn Disk>;
    /// The way to the members.
    fn network(&self) -> &dyn Network;
    /// Whether there are threads: whether a task may block, and others go on meanwhile.
    fn has_threads(&self) -> bool;
    /// Runs a task beside the node's others.
    fn spawn(&self, task: Task) -> JoinHandle<()>;
    /// Runs a task where the caller runs.
    fn spawn_here(&self, task: Task) -> JoinHandle<()>;
    /// Runs a task on a thread of its own, that nothing else can starve; it may block there.
    fn spawn_apart(&self, name: &str, task: Task) -> io::Result<Apart>;
    /// The time that a simulated disk takes for a write or a sync.
    fn disk_works(&self) -> Pending<'_, ()>;
    /// Sees what this node does that no other part of it shows. For oracles.
    fn observe(&self, _seen: Seen<'_>) {}

    /// Both clocks.
    fn now(&self) -> Now {
        Now {
            boot: self.boot_time(),
            wall: self.wall(),
        }
    }
}

impl dyn Host {
    /// For a keyspace.
    pub(super) fn hash_seed(&self) -> HashSeed {
        HashSeed::new([self.draw(), self.draw()])
    }

    /// Work that blocks: others are moved out of its way.
    pub(crate) fn blocking<R>(&self, work: impl FnOnce() -> R) -> R {
        if self.has_threads() {
            tokio::task::block_in_place(work)
        } else {
            work()
        }
    }
}

/// A task apart.
#[derive(Debug)]
pub enum Apart {
    /// On its thread.
    Thread(std::thread::JoinHandle<()>),
    /// Among the others.
    Task(JoinHandle<()>),
}

impl Apart {
    /// Waits for its end, where it has a thread; a task among others is ended.
    pub(super) fn join(self) {
        match self {
            // A thread that panicked has said so already.
            Apart::Thread(thread) => drop(thread.join()),
            Apart::Task(task) => task.abort(),
        }
    }
}

/// The machine that this process runs on.
#[derive(Debug)]
pub struct RealHost {
    data: Handle,
}

impl RealHost {
    /// The host, with this runtime for the node's tasks.
    ///
    /// # Panics
    /// Outside a multi-threaded runtime of tokio.
    pub fn new() -> Arc<RealHost> {
        let data = Handle::current();
        Arc::new(RealHost { data })
    }
}

impl Host for RealHost {
    fn boot_time(&self) -> Micros {
        clock::boot_time()
    }

    fn wall(&self) -> Millis {
        clock::wall()
    }

    fn boot_id(&self) -> u128 {
        clock::boot_id()
    }

    fn draw(&self) -> u64 {
        clock::draw()
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk)
    }

    fn network(&self) -> &dyn Network {
        &Tcp
    }

    fn has_threads(&self) -> bool {
        true
    }

    fn spawn(&self, task: Task) -> JoinHandle<()> {
        self.data.spawn(task)
    }

    fn spawn_here(&self, task: Task) -> JoinHandle<()> {
        tokio::spawn(task)
    }

    fn spawn_apart(&self, name: &str, task: Task) -> io::Result<Apart> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || runtime.block_on(task))?;
        Ok(Apart::Thread(thread))
    }

    fn disk_works(&self) -> Pending<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
