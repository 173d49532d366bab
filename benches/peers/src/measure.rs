//! One measurement: a line under a shape, with the CPU time of everybody meanwhile.

use std::time::{Duration, Instant};

use serde::Serialize;
use understudy::cli::load::throughput::LoadResult;

use crate::cells::{Line, Shape};
use crate::proc_table::ProcTable;

/// Cores above which the work of the ring's other servers disturbs a measurement.
const DISTURBING_OTHERS_CORES: f64 = 0.3;
/// The same for everything that is not the ring's. The kernel's threads that sync for the measured
/// servers are in this figure, so the line is drawn higher.
pub const DISTURBING_FOREIGN_CORES: f64 = 0.5;

/// What one load is.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Operation, clients, pipeline.
    pub shape: Shape,
    /// Number of different keys, all present.
    pub keys: u64,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Load before the measurement.
    pub warm_up: Duration,
    /// Length of the measurement.
    pub length: Duration,
    /// Seed of the choice of keys.
    pub seed: u64,
}

/// Reads the CPU time used between [`Meter::begin`] and [`Meter::end`].
#[derive(Debug)]
pub struct Meter {
    measured: Vec<u32>,
    others: Vec<u32>,
    began: Option<Reading>,
    usage: Option<Usage>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    servers: Duration,
    others: Duration,
    client: Duration,
    machine: Duration,
}

/// CPU time over one measurement.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// All servers of the measured system.
    pub servers: Duration,
    /// This process.
    pub client: Duration,
    /// Servers of all other systems, in cores.
    pub others_cores: f64,
    /// All that is not of the ring, the kernel's threads included, in cores.
    pub foreign_cores: f64,
}

impl Meter {
    /// For these server processes; `others` are those of systems that should be idle.
    pub fn new(measured: Vec<u32>, others: Vec<u32>) -> Meter {
        Meter {
            measured,
            others,
            began: None,
            usage: None,
        }
    }

    /// The measurement begins now: connections are open, the warm-up is over.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        self.began = Some(self.read()?);
        Ok(())
    }

    /// The measurement ended just now.
    pub fn end(&mut self) -> anyhow::Result<()> {
        let now = self.read()?;
        let began = self.began.take();
        self.usage = began.map(|began| Usage::between(&began, &now));
        Ok(())
    }

    /// What was used, once it ended.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn read(&self) -> anyhow::Result<Reading> {
        let table = ProcTable::read()?;
        Ok(Reading {
            at: Instant::now(),
            servers: table.tree_time(&self.measured),
            others: table.tree_time(&self.others),
            client: table.own_time(),
            machine: table.machine_time(),
        })
    }
}

impl Usage {
    fn between(began: &Reading, now: &Reading) -> Usage {
        let servers = now.servers.saturating_sub(began.servers);
        let client = now.client.saturating_sub(began.client);
        let others = now.others.saturating_sub(began.others);
        let machine = now.machine.saturating_sub(began.machine);
        let foreign = machine.saturating_sub(servers + client + others);
        let span = (now.at - began.at).as_secs_f64().max(f64::MIN_POSITIVE);
        Usage {
            servers,
            client,
            others_cores: others.as_secs_f64() / span,
            foreign_cores: foreign.as_secs_f64() / span,
        }
    }
}

/// What one measurement gave. Latencies are microseconds; absent where nothing was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Which round, from 1.
    pub round: u32,
    /// Who.
    pub line: Line,
    /// Doing what.
    #[serde(flatten)]
    pub shape: Shape,
    /// Operations answered without an error, per second.
    pub per_second: f64,
    /// Those operations.
    pub operations: u64,
    /// Operations answered with an error; 1 when the load broke off.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// Half of the operations took at most this.
    pub p50_us: Option<u64>,
    /// 99 of 100.
    pub p99_us: Option<u64>,
    /// 999 of 1000.
    pub p999_us: Option<u64>,
    /// All.
    pub max_us: Option<u64>,
    /// CPU time of all servers of the system per operation.
    pub server_cpu_us: Option<f64>,
    /// CPU time of the client per operation.
    pub client_cpu_us: Option<f64>,
    /// What servers of other systems used meanwhile, in cores.
    pub others_cores: Option<f64>,
    /// What everything used that is not of the ring, in cores.
    pub foreign_cores: Option<f64>,
    /// Whether all servers had come to rest before.
    pub began_quiet: bool,
}

impl Measured {
    /// Sums up a load that ended, or says why there is none.
    pub fn new(
        round: u32,
        line: Line,
        shape: Shape,
        began_quiet: bool,
        usage: Option<Usage>,
        outcome: anyhow::Result<LoadResult>,
    ) -> Measured {
        let empty = Measured {
            round,
            line,
            shape,
            per_second: 0.0,
            operations: 0,
            errors: 1,
            first_error: None,
            p50_us: None,
            p99_us: None,
            p999_us: None,
            max_us: None,
            server_cpu_us: None,
            client_cpu_us: None,
            others_cores: usage.map(|usage| usage.others_cores),
            foreign_cores: usage.map(|usage| usage.foreign_cores),
            began_quiet,
        };
        let result = match outcome {
            Ok(result) => result,
            Err(error) => {
                return Measured {
                    first_error: Some(format!("{error:#}")),
                    ..empty
                };
            }
        };
        let some = !result.latency_us.is_empty();
        let longest = result.latency_us.max();
        // The histogram rounds up to its own resolution; never above what was seen.
        let at =
            |quantile| some.then(|| result.latency_us.value_at_quantile(quantile).min(longest));
        let each = |time: Duration| time.as_secs_f64() * 1e6 / result.operations.max(1) as f64;
        Measured {
            per_second: result.per_second(),
            operations: result.operations,
            errors: result.errors,
            first_error: result.first_error.clone(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: some.then_some(longest),
            server_cpu_us: usage.filter(|_| some).map(|usage| each(usage.servers)),
            client_cpu_us: usage.filter(|_| some).map(|usage| each(usage.client)),
            ..empty
        }
    }

    /// Whether it may count: no error, something measured.
    pub fn is_sound(&self) -> bool {
        self.errors == 0 && self.operations > 0
    }

    /// Whether others' work was in its way.
    pub fn is_disturbed(&self) -> bool {
        let above = |cores: Option<f64>, most: f64| cores.is_some_and(|cores| cores > most);
        !self.began_quiet
            || above(self.others_cores, DISTURBING_OTHERS_CORES)
            || above(self.foreign_cores, DISTURBING_FOREIGN_CORES)
    }
}
