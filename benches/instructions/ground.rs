//! What the nodes stand on: one thread, the clock of a runtime in virtual time, a network in
//! memory, and the machine's disk, whose system calls valgrind does not count.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use understudy::node::{Apart, Host, Task};
use understudy::peer::{DialError, ListenError, Listener, Network, Pending, Socket, Unproven};
use understudy::units::{Micros, Millis};
use understudy::wal::{Disk, RealDisk};

/// The node whose tasks are counted now; zero: none.
pub static COUNTED_NODE: AtomicU32 = AtomicU32::new(0);

/// A task of a node.
struct OfNode {
    node: u32,
    task: Task,
}

impl Future for OfNode {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match COUNTED_NODE.load(Ordering::Relaxed) == self.node {
            true => only_what_runs_in_here_is_counted(&mut self.task, cx),
            false => self.task.as_mut().poll(cx),
        }
    }
}

/// valgrind knows it by name, and collects from its call to its return.
#[inline(never)]
fn only_what_runs_in_here_is_counted(task: &mut Task, cx: &mut Context<'_>) -> Poll<()> {
    // (A call at the very end would become a jump, and the return be another function's.)
    black_box(task.as_mut().poll(cx))
}

/// What a node stands on.
pub struct Ground {
    node: u32,
    net: Arc<Net>,
    began: Instant,
    drawn: AtomicU64,
}

impl Ground {
    pub fn new(node: u32, net: Arc<Net>) -> Arc<Ground> {
        Arc::new(Ground {
            node,
            net,
            began: Instant::now(),
            drawn: AtomicU64::new(0),
        })
    }
}

impl Host for Ground {
    fn boot_time(&self) -> Micros {
        Micros(1_000_000 + self.began.elapsed().as_micros() as u64)
    }

    fn wall(&self) -> Millis {
        Millis(1_700_000_000_000 + self.began.elapsed().as_millis() as u64)
    }

    fn boot_id(&self) -> u128 {
        u128::from(self.node)
    }

    fn draw(&self) -> u64 {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed) + u64::from(self.node);
        drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk)
    }

    fn network(&self) -> &dyn Network {
        self.net.as_ref()
    }

    fn has_threads(&self) -> bool {
        false
    }

    fn spawn(&self, task: Task) -> JoinHandle<()> {
        let node = self.node;
        tokio::spawn(OfNode { node, task })
    }

    fn spawn_here(&self, task: Task) -> JoinHandle<()> {
        self.spawn(task)
    }

    fn spawn_apart(&self, _name: &str, task: Task) -> io::Result<Apart> {
        Ok(Apart::Task(self.spawn(task)))
    }

    fn disk_works(&self) -> Pending<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Who listens where.
#[derive(Default)]
pub struct Net(Mutex<BTreeMap<String, mpsc::UnboundedSender<Socket>>>);

struct Ear {
    came: tokio::sync::Mutex<mpsc::UnboundedReceiver<Socket>>,
    places: Arc<Semaphore>,
}

pub const SOMEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn socket(end: DuplexStream) -> Socket {
    let (reader, writer) = tokio::io::split(end);
    Socket {
        reader: Box::new(reader),
        writer: Box::new(writer),
        peer: SOMEWHERE,
    }
}

impl Network for Net {
    fn dial<'a>(
        &'a self,
        addr: &'a str,
        _limit: Duration,
        _patience: Duration,
    ) -> Pending<'a, Result<Socket, DialError>> {
        let (here, there) = tokio::io::duplex(1 << 20);
        let ear = self.0.lock().expect("one thread").get(addr).cloned();
        let taken = ear.is_some_and(|ear| ear.send(socket(there)).is_ok());
        let addr = addr.to_owned();
        Box::pin(std::future::ready(match taken {
            true => Ok(socket(here)),
            false => Err(DialError::Refused { addr }),
        }))
    }

    fn listen<'a>(
        &'a self,
        addr: &'a str,
        max_unproven: usize,
        _patience: Duration,
    ) -> Pending<'a, Result<Box<dyn Listener>, ListenError>> {
        let (ear, came) = mpsc::unbounded_channel();
        self.0.lock().expect("one thread").insert(addr.into(), ear);
        let ear: Box<dyn Listener> = Box::new(Ear {
            came: tokio::sync::Mutex::new(came),
            places: Arc::new(Semaphore::new(max_unproven)),
        });
        Box::pin(std::future::ready(Ok(ear)))
    }
}

impl Listener for Ear {
    fn accept(&self) -> Pending<'_, io::Result<(Socket, Unproven)>> {
        Box::pin(async move {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let place = place.map_err(io::Error::other)?;
            let socket = self.came.lock().await.recv().await;
            let socket = socket.ok_or_else(|| io::Error::other("nobody dials any more"))?;
            Ok((socket, Unproven::new(place)))
        })
    }
}
