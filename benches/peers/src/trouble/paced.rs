//! A paced load: requests become due at a fixed rate, whatever the server does.
//!
//! Promise: every request that became due is accounted for, with the time from when it was due to
//! when its answer was read. Who cannot be served at once waits in one line for the next free
//! connection, and the waiting counts: a stall shows in all requests that met it, not in the few
//! that were under way. Each connection has one request outstanding, as those of an application's
//! pool have.
//!
//! The load runs on a thread of its own, so that nothing else of this process holds it up, and is
//! woken by a timer of the kernel: the runtime's own timers are no finer than a millisecond.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::BytesMut;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use understudy::cli::load::connection::Connection;
use understudy::cli::load::directory::{Directory, Primary};
use understudy::cli::load::random::Random;
use understudy::resp::{Reply, encode_request};

use crate::lanes::{key, value};

/// How long the last requests may take once no more become due.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// Pause after a refusal, before the next attempt elsewhere.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// Where requests go.
#[derive(Clone, Debug)]
pub enum Place {
    /// One server; losing it is an error.
    Server(SocketAddr),
    /// Whoever is primary. A request that gets no answer, or a refusal, goes to the next one: SETs
    /// may be repeated.
    Cluster {
        /// Client addresses of all members.
        nodes: Vec<SocketAddr>,
        /// The cluster's name, for Sentinel.
        name: String,
    },
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Where.
    pub place: Place,
    /// Requests that become due per second.
    pub per_second: f64,
    /// Connections.
    pub clients: usize,
    /// Number of different keys.
    pub keys: u64,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// `WAIT n 0` behind each write, its answer being the request's; 0: none.
    pub wait_replicas: u32,
    /// Seed of the choice of keys.
    pub seed: u64,
}

/// One request that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was due, since the load began.
    pub due: Duration,
    /// From then until its answer was read.
    pub took: Duration,
    /// Whether it came from the primary that was found first, or from a later one.
    pub reign: Reign,
}

/// Whose answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reign {
    /// Of the server asked from the beginning on.
    First,
    /// Of one found after that was lost.
    Later,
}

/// What became of all requests.
#[derive(Clone, Debug)]
pub struct Answers {
    /// When the first was due.
    pub began: Instant,
    /// Those that were answered, in no order.
    pub samples: Vec<Sample>,
    /// Those that were not.
    pub errors: u64,
    /// Why the first was not.
    pub first_error: Option<String>,
}

/// A load under way. It ends when this is dropped.
pub struct Paced {
    stop: oneshot::Sender<()>,
    answers: oneshot::Receiver<anyhow::Result<Answers>>,
}

impl Paced {
    /// Starts it; returns once every connection is open.
    pub async fn start(pace: Pace) -> anyhow::Result<Paced> {
        let (stop, stopped) = oneshot::channel();
        let (started, starting) = oneshot::channel();
        let (give, answers) = oneshot::channel();
        let thread = std::thread::Builder::new().name("paced-load".into());
        thread
            .spawn(move || {
                // Nobody waits for it any more: then nobody wants to hear of it, either.
                let _ = give.send(run(&pace, started, stopped));
            })
            .context("cannot start the load's thread")?;
        let paced = Paced { stop, answers };
        match starting.await {
            Ok(()) => Ok(paced),
            // It ended before it began, and says why.
            Err(_) => Err(match paced.answers.await {
                Ok(Err(error)) => error,
                _ => anyhow::anyhow!("the load's thread ended before the load began"),
            }),
        }
    }

    /// Lets no more requests become due, and returns once all are answered.
    pub async fn end(self) -> anyhow::Result<Answers> {
        // Gone already: then the answers say why.
        let _ = self.stop.send(());
        let answers = tokio::time::timeout(END_PATIENCE, self.answers).await;
        let answers =
            answers.with_context(|| format!("requests have no answer after {END_PATIENCE:?}"))?;
        answers.context("the load's thread ended without an account")?
    }
}

/// The load's thread, from its begin to its end.
fn run(
    pace: &Pace,
    started: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<Answers> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build();
    let runtime = runtime.context("cannot start the load")?;
    runtime.block_on(async {
        let interval = Duration::from_secs_f64(1.0 / pace.per_second);
        let ways = open(pace).await?;
        let timer = Timer::every(interval).context("the system gave no timer")?;
        let line = Arc::new(Line::begin(interval));
        let mut clients = JoinSet::new();
        for (number, way) in ways.into_iter().enumerate() {
            let client = Client {
                line: Arc::clone(&line),
                way,
                random: Random::new(pace.seed, number as u64),
                keys: pace.keys,
                value: value(pace.value_bytes),
                wait: (pace.wait_replicas > 0).then(|| pace.wait_replicas.to_string()),
                request: BytesMut::new(),
            };
            clients.spawn(client.run());
        }
        // Whoever started it may be gone; then it ends at once.
        let _ = started.send(());
        line.let_in(&timer, stopped, pace.clients).await?;
        let mut all = Answers {
            began: line.began,
            samples: Vec::new(),
            errors: 0,
            first_error: None,
        };
        while let Some(account) = clients.join_next().await {
            let (samples, error) = account.context("a client of the load panicked")?;
            all.samples.extend(samples);
            all.errors += u64::from(error.is_some());
            all.first_error = all.first_error.or(error);
        }
        anyhow::Ok(all)
    })
}

/// The line in which requests that are due wait for a free connection.
struct Line {
    began: Instant,
    interval: Duration,
    due: Semaphore,
    /// The next request's number; it is due so many intervals after the begin.
    next: AtomicU64,
    /// How many there are in all, once that is known.
    all: AtomicU64,
}

impl Line {
    fn begin(interval: Duration) -> Line {
        Line {
            began: Instant::now(),
            interval,
            due: Semaphore::new(0),
            next: AtomicU64::new(0),
            all: AtomicU64::new(u64::MAX),
        }
    }

    /// Lets requests in as they become due, until stopped. Then one end for each client follows.
    async fn let_in(
        &self,
        timer: &Timer,
        mut stopped: oneshot::Receiver<()>,
        clients: usize,
    ) -> io::Result<()> {
        let mut let_in = 0;
        loop {
            tokio::select! {
                _ = &mut stopped => break,
                rang = timer.rang() => rang?,
            }
            let due = self.began.elapsed().as_nanos() / self.interval.as_nanos().max(1) + 1;
            let due = u64::try_from(due).expect("a load is no 500 years long");
            self.due.add_permits((due - let_in) as usize);
            let_in = due;
        }
        self.all.store(let_in, Ordering::Release);
        self.due.add_permits(clients);
        Ok(())
    }

    /// The next request: when it was due, since the begin. `None`: there are no more.
    async fn next(&self) -> Option<Duration> {
        let permit = self.due.acquire().await;
        permit.expect("the line is never closed").forget();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let seconds = number as f64 * self.interval.as_secs_f64();
        (number < self.all.load(Ordering::Acquire)).then(|| Duration::from_secs_f64(seconds))
    }
}

/// A timer of the kernel, fine to microseconds.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    fn every(interval: Duration) -> io::Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let every = Timespec::try_from(interval).map_err(io::Error::other)?;
        let times = Itimerspec {
            it_interval: every,
            it_value: every,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        #[allow(
            deprecated,
            reason = "what takes its place asks for what OwnedFd promises"
        )]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        Ok(Timer(timer))
    }

    /// Returns when it has rung since it was asked last.
    async fn rang(&self) -> io::Result<()> {
        let mut times = [0; 8];
        let read = |timer: &OwnedFd| rustix::io::read(timer, &mut times).map_err(io::Error::from);
        self.0.async_io(Interest::READABLE, read).await?;
        Ok(())
    }
}

/// A client's way to a server.
enum Way {
    Server(Connection),
    Cluster(Following),
}

/// Finds the primary again when it is lost, as a client that knows Sentinel does.
struct Following {
    directory: Arc<Directory>,
    primary: watch::Receiver<Option<Primary>>,
    /// The answer of the directory that proved wrong.
    failed: u64,
    open: Option<(u64, Connection)>,
}

async fn open(pace: &Pace) -> anyhow::Result<Vec<Way>> {
    let mut ways = Vec::with_capacity(pace.clients);
    match &pace.place {
        Place::Server(address) => {
            for _ in 0..pace.clients {
                let opened = Connection::open(*address).await;
                let opened = opened.with_context(|| format!("cannot connect to {address}"))?;
                ways.push(Way::Server(opened));
            }
        }
        Place::Cluster { nodes, name } => {
            let directory = Arc::new(Directory::new(&Handle::current(), nodes, name));
            directory.report_trouble();
            for _ in 0..pace.clients {
                let mut following = Following {
                    primary: directory.subscribe(),
                    directory: Arc::clone(&directory),
                    failed: 0,
                    open: None,
                };
                following.connection().await;
                ways.push(Way::Cluster(following));
            }
        }
    }
    Ok(ways)
}

impl Following {
    /// The connection to the primary; waits until there is one.
    async fn connection(&mut self) -> &mut Connection {
        while self.open.is_none() {
            let failed = self.failed;
            let newer = |found: &Option<Primary>| found.is_some_and(|one| one.generation > failed);
            let found = self.primary.wait_for(newer).await.ok().and_then(|one| *one);
            let found = found.expect("the directory lives as long as its clients");
            match Connection::open(found.address).await {
                Ok(connection) => self.open = Some((found.generation, connection)),
                Err(_) => self.lost(found.generation).await,
            }
        }
        &mut self.open.as_mut().expect("it was opened just above").1
    }

    /// Whether the primary was ever lost.
    fn reign(&self) -> Reign {
        if self.failed == 0 {
            Reign::First
        } else {
            Reign::Later
        }
    }

    /// This answer of the directory leads nowhere any more.
    async fn lost(&mut self, generation: u64) {
        self.failed = generation;
        self.open = None;
        tokio::time::sleep(RETRY_PAUSE).await;
        self.directory.report_trouble();
    }
}

struct Client {
    line: Arc<Line>,
    way: Way,
    random: Random,
    keys: u64,
    value: bytes::Bytes,
    /// How many replicas to wait for, in words.
    wait: Option<String>,
    request: BytesMut,
}

impl Client {
    /// Until there are no more requests, or to the first error: the others take what is left.
    async fn run(mut self) -> (Vec<Sample>, Option<String>) {
        let mut samples = Vec::new();
        while let Some(due) = self.line.next().await {
            let reign = match self.write().await {
                Ok(reign) => reign,
                Err(error) => return (samples, Some(error)),
            };
            let took = self.line.began.elapsed().saturating_sub(due);
            samples.push(Sample { due, took, reign });
        }
        (samples, None)
    }

    /// One write, until it is acknowledged.
    async fn write(&mut self) -> Result<Reign, String> {
        let key = key(self.random.below(self.keys));
        self.request.clear();
        encode_request(&[b"SET", &key, &self.value], &mut self.request);
        if let Some(replicas) = &self.wait {
            encode_request(&[b"WAIT", replicas.as_bytes(), b"0"], &mut self.request);
        }
        let (request, waits) = (&self.request, self.wait.is_some());
        let following = match &mut self.way {
            Way::Server(connection) => {
                return ask(connection, request, waits).await.map(|()| Reign::First);
            }
            Way::Cluster(following) => following,
        };
        let began = Instant::now();
        loop {
            let asked = ask(following.connection().await, request, waits).await;
            let Err(error) = asked else {
                return Ok(following.reign());
            };
            if began.elapsed() > END_PATIENCE {
                return Err(format!("no node takes it for {END_PATIENCE:?}: {error}"));
            }
            let generation = following.open.as_ref().map_or(0, |open| open.0);
            following.lost(generation).await;
        }
    }
}

async fn ask(connection: &mut Connection, request: &[u8], waits: bool) -> Result<(), String> {
    let lost = |error: io::Error| format!("lost the connection: {error}");
    connection.send(request).await.map_err(lost)?;
    match connection.receive().await.map_err(lost)? {
        Reply::Error(text) => return Err(format!("a SET was answered {text:?}")),
        _ if !waits => return Ok(()),
        _ => {}
    }
    match connection.receive().await.map_err(lost)? {
        Reply::Integer(1..) => Ok(()),
        other => Err(format!("WAIT was answered {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_was_due_is_accounted_for_and_waiting_counts() {
        let line = Line::begin(Duration::from_millis(10));
        line.due.add_permits(3);
        line.all.store(2, Ordering::Release);
        assert_eq!(line.next().await, Some(Duration::ZERO));
        assert_eq!(line.next().await, Some(Duration::from_millis(10)));
        assert_eq!(line.next().await, None, "an end, not a request");
    }

    #[tokio::test]
    async fn the_line_keeps_its_rate_and_ends_with_every_client() {
        let line = Line::begin(Duration::from_micros(500));
        let timer = Timer::every(line.interval).expect("there are timers");
        let (stop, stopped) = oneshot::channel();
        let letting_in = line.let_in(&timer, stopped, 3);
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stop.send(()).expect("it listens");
        };
        let (done, ()) = tokio::join!(letting_in, stopping);
        done.expect("the timer works");
        let all = line.all.load(Ordering::Acquire);
        let most = line.began.elapsed().as_micros() as u64 / 500 + 1;
        assert!((150..=most).contains(&all), "{all} of at most {most}");
        assert_eq!(line.due.available_permits() as u64, all + 3);
    }
}
