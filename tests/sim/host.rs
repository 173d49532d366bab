//! What a simulated node stands on.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use understudy::node::Seen;
use understudy::node::{Apart, Host, Task};
use understudy::peer::{DialError, ListenError, Listener, Network, Pending, Socket};
use understudy::units::{Micros, Millis};
use understudy::wal::Disk;

use super::net::Net;
use super::process::Process;
use super::random::Random;

/// A clock of a host: drifting from true time by a rate, its wall by jumps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Parts in a thousand; R12's margin is a twentieth.
    pub rate: u64,
    pub boot_offset: u64,
    pub wall_offset_ms: u64,
}

/// A host under one process.
pub struct SimHost {
    pub process: Arc<Process>,
    pub net: Net,
    pub began: Instant,
    pub clock: Mutex<Clock>,
    pub boot: u128,
    pub random: Mutex<Random>,
    /// Longest time of a write or sync, in milliseconds; moved by the world.
    pub disk_ms: Mutex<u64>,
}

impl SimHost {
    fn elapsed(&self) -> u64 {
        Instant::now().duration_since(self.began).as_micros() as u64
    }

    fn clock(&self) -> Clock {
        *self.clock.lock().expect("one thread")
    }
}

impl Host for SimHost {
    fn boot_time(&self) -> Micros {
        let clock = self.clock();
        Micros(clock.boot_offset + self.elapsed() * clock.rate / 1000)
    }

    fn wall(&self) -> Millis {
        Millis(1_700_000_000_000 + self.clock().wall_offset_ms + self.elapsed() / 1000)
    }

    fn boot_id(&self) -> u128 {
        self.boot
    }

    fn draw(&self) -> u64 {
        self.random.lock().expect("one thread").draw()
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.process.disk.clone())
    }

    fn network(&self) -> &dyn Network {
        self
    }

    fn has_threads(&self) -> bool {
        false
    }

    fn spawn(&self, task: Task) -> JoinHandle<()> {
        self.process.spawn(task)
    }

    fn spawn_here(&self, task: Task) -> JoinHandle<()> {
        self.process.spawn(task)
    }

    fn spawn_apart(&self, _name: &str, task: Task) -> io::Result<Apart> {
        Ok(Apart::Task(self.process.spawn(task)))
    }

    fn disk_works(&self) -> Pending<'_, ()> {
        let most = *self.disk_ms.lock().expect("one thread");
        let ms = self.random.lock().expect("one thread").below(most + 1);
        Box::pin(async move {
            match ms {
                0 => tokio::task::yield_now().await,
                ms => tokio::time::sleep(Duration::from_millis(ms)).await,
            }
        })
    }

    fn observe(&self, seen: Seen<'_>) {
        self.process.ghost.observe(&self.process, seen);
    }
}

impl Network for SimHost {
    fn dial<'a>(
        &'a self,
        addr: &'a str,
        limit: Duration,
        patience: Duration,
    ) -> Pending<'a, Result<Socket, DialError>> {
        Box::pin(async move {
            let to: SocketAddr = addr.parse().map_err(|_| DialError::Resolve {
                addr: addr.to_owned(),
                source: io::ErrorKind::InvalidInput.into(),
            })?;
            let place = self.process.place;
            let (end, peer) = self.net.dial(place, to, limit, patience).await?;
            Ok(end.into_socket(peer))
        })
    }

    fn listen<'a>(
        &'a self,
        addr: &'a str,
        _max_unproven: usize,
        _patience: Duration,
    ) -> Pending<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            let at: SocketAddr = addr.parse().map_err(|_| ListenError::Resolve {
                addr: addr.to_owned(),
                source: io::ErrorKind::InvalidInput.into(),
            })?;
            let ear = self.net.listen(at, self.process.number)?;
            Ok(Box::new(ear) as Box<dyn Listener>)
        })
    }
}
