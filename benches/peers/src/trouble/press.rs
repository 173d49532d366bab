//! One latency measurement: a paced load, trouble meanwhile, and what came of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use understudy::cli::load::connection::{Connection, reply_bytes};

use super::cases::Case;
use super::paced::{Answers, Pace, Paced};
use super::windows::{Latency, Window, length, silence};
use crate::measure::DISTURBING_FOREIGN_CORES;
use crate::proc_table::ProcTable;

/// Load before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// What went on during a load.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// While it went on; requests due then count.
    pub windows: Vec<Window>,
    /// How much of it there was, in the unit of [`Case::counted`].
    pub amount: f64,
}

impl Trouble {
    /// From then until now.
    pub fn since(from: Instant, amount: f64) -> Trouble {
        let until = Instant::now();
        Trouble {
            windows: vec![Window { from, until }],
            amount,
        }
    }
}

/// What a load gave.
#[derive(Debug)]
pub struct Pressed {
    answers: Answers,
    trouble: Trouble,
    foreign_cores: f64,
}

/// Presses, and makes trouble meanwhile.
pub async fn press(
    pace: Pace,
    trouble: impl AsyncFnOnce() -> anyhow::Result<Trouble>,
) -> anyhow::Result<Pressed> {
    let paced = Paced::start(pace).await?;
    tokio::time::sleep(WARM_UP).await;
    let bystanders = Bystanders::begin()?;
    let trouble = trouble().await?;
    let foreign_cores = bystanders.cores()?;
    Ok(Pressed {
        answers: paced.end().await?,
        trouble,
        foreign_cores,
    })
}

/// Everything on this machine that is none of this program's.
struct Bystanders {
    at: Instant,
    busy: Duration,
}

impl Bystanders {
    fn begin() -> anyhow::Result<Bystanders> {
        Ok(Bystanders {
            at: Instant::now(),
            busy: Bystanders::busy()?,
        })
    }

    /// CPU time of the whole machine but for this process, what it started, and what it has waited
    /// for: servers that end meanwhile stay counted as its own.
    fn busy() -> anyhow::Result<Duration> {
        let table = ProcTable::read().context("cannot read /proc")?;
        let own = table.tree_time(&[std::process::id()]);
        Ok(table.machine_time().saturating_sub(own))
    }

    /// What they used since, in cores. The kernel's threads that sync for servers are among them.
    fn cores(&self) -> anyhow::Result<f64> {
        let busy = Bystanders::busy()?.saturating_sub(self.busy);
        Ok(busy.as_secs_f64() / self.at.elapsed().as_secs_f64().max(f64::MIN_POSITIVE))
    }
}

/// One case of one round.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Which round, from 1.
    pub round: u32,
    /// What.
    pub case: Case,
    /// Of the requests that count.
    #[serde(flatten)]
    pub latency: Latency,
    /// How long they became due for.
    pub window_secs: f64,
    /// How much went on, in the unit of [`Case::counted`].
    pub amount: f64,
    /// From the old primary's last answer to the new one's first.
    pub silence_us: Option<u64>,
    /// Requests without an answer; 1 where the measurement broke off.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// What everything used that is not of this program, in cores.
    pub foreign_cores: Option<f64>,
    /// Whether all servers had come to rest before.
    pub began_quiet: bool,
}

impl Measured {
    /// Sums up a load that ended, or says why there is none.
    pub fn new(
        round: u32,
        case: Case,
        began_quiet: bool,
        outcome: anyhow::Result<Pressed>,
    ) -> Measured {
        let empty = Measured {
            round,
            case,
            latency: Latency::default(),
            window_secs: 0.0,
            amount: 0.0,
            silence_us: None,
            errors: 1,
            first_error: None,
            foreign_cores: None,
            began_quiet,
        };
        match outcome {
            Ok(pressed) => empty.with(&pressed),
            Err(error) => Measured {
                first_error: Some(format!("{error:#}")),
                ..empty
            },
        }
    }

    fn with(self, pressed: &Pressed) -> Measured {
        let answers = &pressed.answers;
        let mut windows = pressed.trouble.windows.clone();
        let (mut errors, mut first_error) = (answers.errors, answers.first_error.clone());
        let mut silence_us = None;
        if self.case == Case::Takeover {
            match (windows.first_mut(), silence(answers)) {
                // It is over with the new primary's first answer.
                (Some(window), Some(silence)) => {
                    window.until = silence.until;
                    silence_us = Some((silence.until - silence.from).as_micros() as u64);
                }
                _ => {
                    errors += 1;
                    first_error.get_or_insert_with(no_successor);
                }
            }
        }
        Measured {
            latency: Latency::within(answers, &windows),
            window_secs: length(&windows).as_secs_f64(),
            amount: pressed.trouble.amount,
            silence_us,
            errors,
            first_error,
            foreign_cores: Some(pressed.foreign_cores),
            ..self
        }
    }

    /// Whether it may count.
    pub fn is_sound(&self) -> bool {
        self.errors == 0 && self.latency.requests > 0
    }

    /// Why it may not.
    pub fn fault(&self) -> Option<String> {
        let none = "no request was due meanwhile".to_owned();
        (!self.is_sound()).then(|| self.first_error.clone().unwrap_or(none))
    }

    /// Whether others' work was in its way.
    pub fn is_disturbed(&self) -> bool {
        let foreign = self.foreign_cores.unwrap_or(0.0);
        !self.began_quiet || foreign > DISTURBING_FOREIGN_CORES
    }
}

fn no_successor() -> String {
    "no new primary answered while the load went on; say more --secs".to_owned()
}

/// The key that marks how far a server is: written last, so whoever has it has all before it.
const MARKER: &[u8] = b"trouble:marker";

/// Writes a value behind everything else.
pub async fn mark(address: SocketAddr, value: &str) -> anyhow::Result<()> {
    let mut connection = Connection::open(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    let reply = connection.ask(&[b"SET", MARKER, value.as_bytes()]).await?;
    let is_ok = reply_bytes(&reply) == Some(b"OK");
    anyhow::ensure!(is_ok, "{address} answered a SET with {reply:?}");
    Ok(())
}

/// Asks again and again, every millisecond, until the answer is what was written last. When that
/// was.
pub async fn until_marked(
    address: SocketAddr,
    value: &str,
    patience: Duration,
) -> anyhow::Result<Instant> {
    const PAUSE: Duration = Duration::from_millis(1);
    let mut last = "no answer".to_owned();
    let asking = async {
        let mut open: Option<Connection> = None;
        loop {
            let answer = match &mut open {
                Some(connection) => connection.ask(&[b"GET", MARKER]).await,
                // A server that has just been started refuses at first.
                None => match Connection::open(address).await {
                    Ok(connection) => {
                        open = Some(connection);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match answer {
                Ok(reply) if reply_bytes(&reply) == Some(value.as_bytes()) => {
                    return Instant::now();
                }
                Ok(reply) => last = format!("{reply:?}"),
                Err(error) => (open, last) = (None, error.to_string()),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let seen = tokio::time::timeout(patience, asking).await;
    seen.with_context(|| {
        format!("{address} does not have what was written last after {patience:?}: {last}")
    })
}
