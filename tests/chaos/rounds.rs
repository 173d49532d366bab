//! A run: one cluster, its schedule of faults, clients all the while, and the verdicts.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use understudy::resp::Reply;

use super::clients::{Load, LoadPlan, Seen, is_pair};
use super::cluster::{Cluster, PATIENCE, Shape};
use super::dice::Dice;
use super::faults::{Fault, Planned};
use super::hosts::Hosts;
use super::observer::Observers;
use super::report::{Effect, Floor, Report};
use super::wire::Wire;
use crate::history::{self, Call, Operation, Outcome, pair};

/// Faults in one history.
const PER_HISTORY: usize = 5;
const CLIENTS: u32 = 12;
/// Between two faults. A voter that has just started votes for nobody until the longest lease it
/// ever promised is over (600 ms); a fault before that would be the second one at a time.
const SETTLED: Duration = Duration::from_millis(700);

/// What a run is to be.
pub struct Run<'a> {
    pub shape: Shape,
    pub seed: u64,
    pub schedule: &'a [Planned],
    /// Each node on a host of its own, or all on loopback.
    pub hosts: bool,
    /// With `refused_is_dead = false`.
    pub not_dead: bool,
    pub title: String,
}

/// Runs it. Panics with what went wrong, all files kept.
pub fn run(run: &Run<'_>, report: &mut Report) -> Floor {
    let folder = understudy::cli::local_cluster::Folder::create(None, "chaos-hosts");
    let folder = folder.expect("a temporary folder");
    let hosts = run.hosts.then(|| Hosts::create(folder.path()));
    let mut more = "[wal]\nsegment_size = \"1 MiB\"\n".to_owned();
    if run.not_dead {
        more += "[heartbeat]\nrefused_is_dead = false\n";
    }
    let mut cluster = Cluster::start(run.shape, hosts, &more);
    let floor = Floor::measure(cluster.data_dir(1)).expect("a folder of ours");
    let mut course = Course {
        run,
        began: Instant::now(),
        ledger: Vec::new(),
        last_history: Vec::new(),
    };
    if std::env::var_os("CHAOS_KEEP").is_some() {
        println!("keeping {}", cluster.folder().display());
        cluster.keep_files();
    }
    if let Err(wrong) = course.go(&mut cluster, report) {
        let words = cluster.last_words();
        cluster.keep_files();
        let kept = cluster.folder().join("history.txt");
        let written = std::fs::write(&kept, history::write(&course.last_history));
        panic!(
            "{}, seed {}: {wrong}\n{words}\nkept: {} ({written:?}) and the nodes' logs beside it",
            run.title,
            run.seed,
            kept.display(),
        );
    }
    floor
}

/// One fault as it went.
struct Happened {
    planned: Planned,
    hit_primary: bool,
    took_over: bool,
    began_us: u64,
    healed_us: u64,
    recovery: Duration,
}

struct Course<'a> {
    run: &'a Run<'a>,
    began: Instant,
    ledger: Vec<String>,
    last_history: Vec<Operation>,
}

impl Course<'_> {
    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn go(&mut self, cluster: &mut Cluster, report: &mut Report) -> Result<(), String> {
        cluster.wait_ready()?;
        let nodes = cluster.data_nodes();
        let nodes: Vec<_> = nodes
            .iter()
            .map(|id| (*id, cluster.client_addr(*id)))
            .collect();
        let mut observers = Observers::start(&nodes, self.began);
        let dice = Dice::new(self.run.seed);
        for (number, faults) in self.run.schedule.chunks(PER_HISTORY).enumerate() {
            let plan = LoadPlan {
                nodes: nodes.clone(),
                clients: CLIENTS,
                prefix: format!("h{number}"),
                seed: dice.part(number as u64).next(),
                began: self.began,
                think: Duration::from_millis(4),
            };
            self.one_history(cluster, &observers, &plan, faults, report)?;
            report.sightings += observers.judge().map_err(|(first, second)| {
                format!("two primaries answered: {first:?} and then {second:?}")
            })? as u64;
        }
        self.everybody_has_all(cluster)
    }

    /// Some faults under one load, whose history is then judged.
    fn one_history(
        &mut self,
        cluster: &mut Cluster,
        observers: &Observers,
        plan: &LoadPlan,
        faults: &[Planned],
        report: &mut Report,
    ) -> Result<(), String> {
        let load = Load::start(plan, &observers.board);
        let mut happened = Vec::new();
        let mut wrong = progress(&load).err();
        for planned in faults {
            if wrong.is_some() {
                break;
            }
            match self.one_fault(cluster, &load, planned) {
                Ok(done) => {
                    report.slowest_recovery_ms = report
                        .slowest_recovery_ms
                        .max(done.recovery.as_millis() as u64);
                    happened.push(done);
                }
                Err(error) => wrong = Some(format!("{planned:?}: {error}")),
            }
        }
        let mut seen = load.stop();
        self.last_history = std::mem::take(&mut seen.history);
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        let primary = cluster.wait_ready()?.0;
        self.read_all(cluster, primary)?;
        self.judge(cluster, &seen, report)?;
        for done in happened {
            let effect = effect(&done, &seen.writes_at, self.run.not_dead);
            self.tell(&effect, &done);
            report.add(&effect);
        }
        Ok(())
    }

    fn one_fault(
        &self,
        cluster: &mut Cluster,
        load: &Load,
        planned: &Planned,
    ) -> Result<Happened, String> {
        let (primary, _) = cluster.wait_ready()?;
        let epoch = cluster.seen_by(primary).map_or(0, |seen| seen.epoch);
        let first = planned.first;
        let node = first.node(self.run.shape, primary);
        let began_us = self.now_us();
        first.inject(cluster, node);
        let second: Option<(Fault, u32)> = planned.second.map(|(after, fault)| {
            std::thread::sleep(after);
            let other = cluster
                .primary()
                .filter(|id| *id != node)
                .unwrap_or(primary % 3 + 1);
            let hit = fault.node(self.run.shape, other);
            let hit = if hit == node { node % 3 + 1 } else { hit };
            fault.inject(cluster, hit);
            (fault, hit)
        });
        // How long the fault lasts, not a wait for something to happen.
        std::thread::sleep(second.map_or(first.lasts, |(fault, _)| first.lasts.max(fault.lasts)));
        let healed_us = self.now_us();
        first.heal(cluster, node);
        if let Some((fault, node)) = second {
            fault.heal(cluster, node);
        }
        let (after, recovery) = cluster.wait_ready()?;
        std::thread::sleep(SETTLED);
        progress(load)?;
        let later = cluster.seen_by(after).map_or(epoch, |seen| seen.epoch);
        Ok(Happened {
            planned: *planned,
            hit_primary: node == primary,
            took_over: later > epoch,
            began_us,
            healed_us,
            recovery,
        })
    }

    /// Every key once more, so that what is lost shows.
    fn read_all(&mut self, cluster: &Cluster, primary: u32) -> Result<(), String> {
        let keys: BTreeSet<String> = self.last_history.iter().map(|op| op.key.clone()).collect();
        let mut wire = bound(cluster, primary)?;
        for key in keys {
            let begin = self.now_us();
            let [left, right] = pair::keys(&key);
            let together = is_pair(&key);
            let reply = match together {
                true => wire.ask(&["MGET", &left, &right], PATIENCE),
                false => wire.ask(&["GET", &key], PATIENCE),
            };
            let reply = reply.ok_or("the primary does not answer a last read")?;
            let said = match together {
                true => pair::alike(&Call::Get, &reply),
                false => pair::single(&Call::Get, &reply),
            };
            let pair::Said::Answer(answer) = said else {
                return Err(format!("{reply:?} to a last read of {key}"));
            };
            self.last_history.push(Operation {
                client: 0,
                key,
                call: Call::Get,
                begin,
                outcome: Outcome::Ok(answer, self.now_us()),
            });
        }
        Ok(())
    }

    fn judge(&mut self, cluster: &Cluster, seen: &Seen, report: &mut Report) -> Result<(), String> {
        if let Some(absurd) = seen.absurd.first() {
            return Err(absurd.clone());
        }
        let checked = history::check(&self.last_history).map_err(|fault| fault.to_string())?;
        self.ledger.extend(seen.ledger.iter().cloned());
        let primary = cluster.primary().ok_or("no primary")?;
        missing(cluster, primary, &seen.ledger)?;
        let refused = self
            .last_history
            .iter()
            .filter(|op| op.outcome == Outcome::Failed);
        report.refused += refused.count() as u64;
        report.operations += (checked.explained + checked.unknown) as u64;
        report.unknown += checked.unknown as u64;
        report.steps += checked.steps;
        report.histories += 1;
        report.ledger += seen.ledger.len() as u64;
        for (error, times) in &seen.errors {
            *report.errors.entry(error.clone()).or_default() += times;
        }
        Ok(())
    }

    /// At the end each data node must show every write that was ever acknowledged.
    fn everybody_has_all(&self, cluster: &mut Cluster) -> Result<(), String> {
        cluster.wait_ready()?;
        for node in cluster.data_nodes() {
            let deadline = Instant::now() + PATIENCE;
            // A standby may be a moment behind.
            while let Err(wrong) = missing(cluster, node, &self.ledger) {
                if Instant::now() > deadline {
                    return Err(wrong);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    fn tell(&self, effect: &Effect, done: &Happened) {
        let first = &done.planned.first;
        let gap = effect
            .gap_us
            .map_or("-".to_owned(), |us| format!("{:.1} ms", us as f64 / 1e3));
        println!(
            "  {:>8.1} s  {:<12} {:<8} {:>5} ms{}  gap {gap}{}{}, all well {} ms after",
            done.began_us as f64 / 1e6,
            effect.kind.name(),
            format!("{:?}", first.target).to_lowercase(),
            first.lasts.as_millis(),
            if let Some((_, second)) = done.planned.second {
                format!(" and {} of {:?}", second.kind.name(), second.target).to_lowercase()
            } else {
                String::new()
            },
            if effect.took_over { ", takeover" } else { "" },
            if effect.until_healed {
                ", until healed"
            } else {
                ""
            },
            effect.recovery_ms,
        );
    }
}

fn effect(done: &Happened, writes_at: &[u64], not_dead: bool) -> Effect {
    let gap = longest_gap(writes_at, done.began_us, done.healed_us);
    Effect {
        kind: done.planned.first.kind,
        not_dead,
        doubled: done.planned.second.is_some(),
        hit_primary: done.hit_primary,
        took_over: done.took_over,
        gap_us: gap.map(|(from, to)| to - from),
        until_healed: gap.is_some_and(|(_, to)| to > done.healed_us),
        recovery_ms: done.recovery.as_millis() as u64,
    }
}

/// The longest time between two acknowledgements that ended after `from` and began before `to`.
fn longest_gap(writes_at: &[u64], from: u64, to: u64) -> Option<(u64, u64)> {
    let pairs = writes_at.windows(2).map(|pair| (pair[0], pair[1]));
    pairs
        .filter(|(before, after)| *after > from && *before < to)
        .max_by_key(|(b, a)| a - b)
}

fn progress(load: &Load) -> Result<(), String> {
    let before = load.acknowledged.load(Ordering::Relaxed);
    if load.more(100, PATIENCE) {
        return Ok(());
    }
    let after = load.acknowledged.load(Ordering::Relaxed);
    Err(format!(
        "only {} writes in {PATIENCE:?} although all is healed",
        after - before
    ))
}

/// A connection to the primary on which a write was acknowledged: what it reads is not stale.
fn bound(cluster: &Cluster, primary: u32) -> Result<Wire, String> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let wire = Wire::open(cluster.client_addr(primary), Duration::from_secs(1));
        if let Some(mut wire) = wire {
            let reply = wire.ask(&["SET", "last-reader", "here"], PATIENCE);
            if reply.is_some_and(|reply| reply == Reply::OK) {
                return Ok(wire);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!(
        "node {primary} says it is primary, and takes no write"
    ))
}

/// An error unless this node shows every entry.
fn missing(cluster: &Cluster, node: u32, ledger: &[String]) -> Result<(), String> {
    let wire = Wire::open(cluster.client_addr(node), Duration::from_secs(1));
    let mut wire = wire.ok_or_else(|| format!("node {node} takes no connection"))?;
    let mut lost = Vec::new();
    for keys in ledger.chunks(500) {
        let mut words = vec!["MGET"];
        words.extend(keys.iter().map(String::as_str));
        match wire.ask(&words, PATIENCE) {
            Some(Reply::Array(values)) => {
                for (key, value) in keys.iter().zip(values) {
                    if value != Reply::bulk(key.as_bytes()) {
                        lost.push(key.clone());
                    }
                }
            }
            other => return Err(format!("node {node} answers MGET with {other:?}")),
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    let (count, of) = (lost.len(), ledger.len());
    lost.truncate(5);
    Err(format!(
        "node {node} lacks {count} of {of} acknowledged writes, such as {lost:?}"
    ))
}
