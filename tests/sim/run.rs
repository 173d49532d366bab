//! One seed: begin, faults and clients at once, heal, and the demands at the end.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::RngSeed;
use tokio::time::{Instant, sleep};

use super::clients::{Client, Record};
use super::cluster::{Cluster, Shape};
use super::faults::{Counts, Nemesis, mind_refusals, replace_unmendable, revive};
use super::history;
use super::illness::is_everyone_well;
use super::oracle::Sums;
use super::process::Fate;
use super::random::Random;

/// Clusters that are simulated.
pub const SHAPES: [Shape; 6] = [
    Shape {
        name: "witness",
        data: 2,
        witnesses: 1,
        cluster: "mode = 'semi-sync'\nlevel = 'synced'",
        refused_is_dead: true,
        scrub_secs: 2,
        segment_bytes: Some(16 << 10),
        #[cfg(feature = "mutants")]
        without: None,
    },
    Shape {
        name: "three",
        data: 3,
        witnesses: 0,
        cluster: "mode = 'sync'",
        refused_is_dead: false,
        scrub_secs: 2,
        segment_bytes: Some(16 << 10),
        #[cfg(feature = "mutants")]
        without: None,
    },
    Shape {
        name: "five",
        data: 5,
        witnesses: 0,
        cluster: "mode = 'sync'",
        refused_is_dead: true,
        scrub_secs: 2,
        segment_bytes: Some(16 << 10),
        #[cfg(feature = "mutants")]
        without: None,
    },
    Shape {
        name: "two_witnesses",
        data: 3,
        witnesses: 2,
        cluster: "mode = 'semi-sync'\nlevel = 'synced'",
        refused_is_dead: false,
        scrub_secs: 2,
        segment_bytes: Some(16 << 10),
        #[cfg(feature = "mutants")]
        without: None,
    },
    Shape {
        name: "received",
        data: 3,
        witnesses: 0,
        cluster: "mode = 'semi-sync'",
        refused_is_dead: true,
        scrub_secs: 2,
        segment_bytes: Some(16 << 10),
        #[cfg(feature = "mutants")]
        without: None,
    },
    Shape {
        name: "lagging",
        data: 2,
        witnesses: 1,
        cluster: "mode = 'async'\nmax_lag = 20\nmax_loss = 20",
        refused_is_dead: true,
        scrub_secs: 2,
        segment_bytes: Some(16 << 10),
        #[cfg(feature = "mutants")]
        without: None,
    },
];

/// The last of them, with the budget in bytes: some dozen records. Apart, so that the seeds of the
/// others stay what they are.
pub const LAGGING_IN_BYTES: Shape = Shape {
    name: "lagging_in_bytes",
    cluster: "mode = 'async'\nmax_lag = '1 KiB'\nmax_loss = '1 KiB'",
    ..SHAPES[5]
};

/// How long faults go on, in virtual time.
const FAULTS_FOR: Duration = Duration::from_secs(6);
/// A healed cluster serves within this, and agrees within twice as long.
const HEALED_WITHIN: Duration = Duration::from_secs(15);
/// Clients, and the keys they share.
const CLIENTS: u32 = 4;
const KEYS: u64 = 3;

/// What a seed came to.
#[derive(Debug, Default)]
pub struct Verdict {
    pub failed: Option<String>,
    pub trace: String,
    pub digest: u64,
    pub sums: Sums,
    pub faults: Counts,
    pub acknowledged: u64,
    pub unknown: u64,
    /// Healed, and could not be asked to serve: too many promises were lost (R10, R14).
    pub refused: bool,
}

/// Seeds together.
#[derive(Debug, Default)]
pub struct Sum {
    pub seeds: u64,
    pub sums: Sums,
    pub faults: Counts,
    pub acknowledged: u64,
    pub unknown: u64,
    pub refused: u64,
}

impl Sum {
    pub fn add(&mut self, verdict: &Verdict) {
        self.seeds += 1;
        self.sums.steps += verdict.sums.steps;
        self.sums.takeovers += verdict.sums.takeovers;
        self.sums.released += verdict.sums.released;
        self.sums.lossy += verdict.sums.lossy;
        self.sums.repairs += verdict.sums.repairs;
        self.sums.sick_reigns += verdict.sums.sick_reigns;
        self.sums.fresh += verdict.sums.fresh;
        for (end, count) in &verdict.sums.ends {
            *self.sums.ends.entry(*end).or_default() += count;
        }
        self.acknowledged += verdict.acknowledged;
        self.unknown += verdict.unknown;
        self.refused += u64::from(verdict.refused);
        for (fault, count) in &verdict.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} seeds, {} steps, {} reigns ({} with loss, within the budget), {} records released, \
             {} repairs by key, {} looks at how old a standby is, {} answers, {} unknown, {} rightly refused to serve; faults: {:?}; \
             wrong memory: {:?}, {} of them a primary's",
            self.seeds,
            self.sums.steps,
            self.sums.takeovers,
            self.sums.lossy,
            self.sums.released,
            self.sums.repairs,
            self.sums.fresh,
            self.acknowledged,
            self.unknown,
            self.refused,
            self.faults,
            self.sums.ends,
            self.sums.sick_reigns,
        )
    }
}

/// Runs one seed.
pub fn run(shape: Shape, seed: u64, keeps_trace: bool) -> Verdict {
    in_virtual_time(seed, simulate(shape, seed, keeps_trace))
}

/// Runs something on one thread and in virtual time.
pub fn in_virtual_time<T>(seed: u64, what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
        .build()
        .expect("a runtime without I/O always starts");
    runtime.block_on(what)
}

async fn simulate(shape: Shape, seed: u64, keeps_trace: bool) -> Verdict {
    let mut random = Random(seed ^ 0x5eed);
    let cluster = Cluster::new(shape, random.draw(), keeps_trace);
    let record = Arc::new(Mutex::new(Record::default()));
    let mut verdict = Verdict::default();
    let failed = trial(&cluster, &record, &mut random, &mut verdict)
        .await
        .err();
    verdict.failed = match (cluster.ghost.violation(), failed) {
        (Some(violation), _) => Some(violation),
        (None, Some(why)) => Some(format!("{why}\n{}", cluster.describe())),
        // Where records were given up within a budget, what was acknowledged may be gone.
        (None, None) if cluster.ghost.sums().lossy > 0 => None,
        // Nor is what a primary answered whose memory was wrong.
        (None, None) if cluster.ghost.sums().sick_reigns > 0 => None,
        (None, None) => linearizable(&record).err(),
    };
    let record = record.lock().expect("one thread");
    (verdict.acknowledged, verdict.unknown) = (record.acknowledged, record.unknown);
    verdict.sums = cluster.ghost.sums();
    verdict.trace = cluster.ghost.trace();
    verdict.digest = cluster.ghost.digest_of_trace();
    for place in cluster.places() {
        cluster.kill(place);
    }
    verdict
}

fn linearizable(record: &Mutex<Record>) -> Result<(), String> {
    let record = record.lock().expect("one thread");
    history::check(&record.operations)
        .map(drop)
        .map_err(|fault| format!("the clients' history is not linearizable: {fault}"))
}

async fn trial(
    cluster: &Arc<Cluster>,
    record: &Arc<Mutex<Record>>,
    random: &mut Random,
    verdict: &mut Verdict,
) -> Result<(), String> {
    for place in cluster.places() {
        cluster.start(place);
    }
    if !cluster
        .until(HEALED_WITHIN, |cluster| cluster.serving().is_some())
        .await
    {
        return Err("the cluster did not begin".into());
    }
    let stop_at = Instant::now() + FAULTS_FOR;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = Client::new(
                Arc::clone(cluster),
                Arc::clone(record),
                number,
                random.fork(),
                stop_at + Duration::from_secs(1),
                KEYS,
            );
            tokio::spawn(client.run())
        })
        .collect();
    tokio::spawn(mind_power(Arc::clone(cluster), random.fork()));
    let nemesis = Nemesis {
        cluster: Arc::clone(cluster),
        random: random.fork(),
        counts: Counts::new(),
    };
    verdict.faults = nemesis.run(stop_at).await;
    // Faults that last end by themselves within three seconds.
    sleep(Duration::from_millis(3600)).await;
    heal(cluster);
    for client in clients {
        // A client ends at its time, or with its last answer's patience.
        let _ = client.await;
    }
    if cluster.ghost.violation().is_some() {
        return Ok(());
    }
    if !cluster
        .until(HEALED_WITHIN, |cluster| cluster.serving().is_some())
        .await
    {
        if cluster.ghost.violation().is_none() && !cluster.could_elect() {
            verdict.refused = true;
            return Ok(());
        }
        return Err("nobody serves although everything is healed".into());
    }
    // Who was declared lost after its disk was replaced gets another one, as it is told to (R22).
    let settled = async |cluster: &Arc<Cluster>| {
        for _ in 0..4 {
            let well = |cluster: &Cluster| cluster.agrees() && is_everyone_well(cluster).is_ok();
            if cluster.until(HEALED_WITHIN / 2, well).await {
                return true;
            }
            cluster.replace_lost();
            replace_unmendable(cluster);
        }
        false
    };
    if !settled(cluster).await {
        let why = is_everyone_well(cluster).err().unwrap_or_default();
        return Err(format!(
            "the nodes do not come to agree although everything is healed; {why}"
        ));
    }
    let mut reader = Client::new(
        Arc::clone(cluster),
        Arc::clone(record),
        CLIENTS,
        random.fork(),
        Instant::now(),
        KEYS,
    );
    match reader.read_all(HEALED_WITHIN).await {
        true => Ok(()),
        false => Err("a read is not answered although everything is healed".into()),
    }
}

/// Turns hosts on again whose power went in the middle of a write.
async fn mind_power(cluster: Arc<Cluster>, mut random: Random) {
    loop {
        cluster.ghost.alarm.notified().await;
        mind_refusals(&cluster);
        for place in cluster.places() {
            if cluster.with(place, |machine| machine.disk.is_off()) {
                cluster.power_off(place);
                let cluster = Arc::clone(&cluster);
                let after = Duration::from_millis(random.below(1500));
                tokio::spawn(async move {
                    sleep(after).await;
                    cluster.power_on(place);
                });
            }
        }
    }
}

/// Ends every fault and starts what is down.
fn heal(cluster: &Arc<Cluster>) {
    cluster.ghost.note("HEAL");
    cluster.calm();
    cluster.net.mend();
    cluster.net.weather(1, 0);
    for place in cluster.places() {
        cluster.net.refuse(place, false);
        cluster.with(place, |machine| {
            machine.disk_ms = 1;
            machine.disk.set_capacity(None);
            machine.disk.crash_at(u64::MAX);
            if let Some(host) = &machine.host {
                *host.disk_ms.lock().expect("one thread") = 1;
            }
        });
        if cluster.with(place, |machine| machine.disk.is_off()) {
            cluster.power_off(place);
        }
        if cluster.with(place, |machine| machine.hurt) {
            cluster.kill(place);
        }
        if cluster.fate(place) == Fate::Frozen
            && let Some(process) = cluster.with(place, |machine| machine.process.clone())
        {
            process.thaw();
        }
        revive(cluster, place);
    }
}
