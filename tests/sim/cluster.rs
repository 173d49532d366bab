//! A cluster: hosts with disks and clocks, processes on them, and the network between.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use understudy::node::{Node, Settings, parse, start};
use understudy::replica::{Kind, Level, MaxLoss, View};
use understudy::server::{self, Server};
use understudy::wal::sim_disk::SimDisk;

use super::host::{Clock, SimHost};
use super::net::{Net, address};
use super::oracle::Ghost;
use super::process::{Fate, Process};
use super::random::Random;

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub name: &'static str,
    pub data: u32,
    pub witnesses: u32,
    /// Lines for `[cluster]`.
    pub cluster: &'static str,
    pub refused_is_dead: bool,
    /// Where a few records are to fill a segment; a snapshot then comes with each second one.
    pub segment_bytes: Option<u64>,
    /// Seconds of one pass of the memory scrub.
    pub scrub_secs: u32,
    /// The rule that a mutant leaves out.
    #[cfg(feature = "mutants")]
    pub without: Option<understudy::node::Guard>,
}

impl Shape {
    pub fn nodes(&self) -> u32 {
        self.data + self.witnesses
    }

    pub fn settings(&self, place: u32) -> Settings {
        let mut text = format!(
            "id = {place}\ndata_dir = '/data'\nclient_addr = '127.0.0.{place}:7379'\n\
             peer_addr = '127.0.0.{place}:7380'\nhttp_addr = '127.0.0.{place}:7381'\n\
             [heartbeat]\nrefused_is_dead = {}\n\
             [wal]\nsegment_size = '64 KiB'\nretain = '128 KiB'\nstandby_retain = '192 KiB'\n\
             [cluster]\nwrite_timeout = '2 s'\n{}\n\
             [limits]\nsnapshot_rate = '1 MiB'\ncopy_rate = '25 KiB'\nmemory_scrub = '{} s'\n",
            self.refused_is_dead, self.cluster, self.scrub_secs
        );
        for node in 1..=self.nodes() {
            let role = if node > self.data {
                "role = 'witness'\n"
            } else {
                ""
            };
            text.push_str(&format!(
                "[[cluster.member]]\nid = {node}\npeer_addr = '127.0.0.{node}:7380'\n\
                 client_addr = '127.0.0.{node}:7379'\n{role}"
            ));
        }
        let settings = parse(&text)
            .and_then(Settings::settle)
            .expect("a shape is a valid configuration");
        let settings = match self.segment_bytes {
            Some(segment_bytes) => Settings {
                segment_bytes,
                retain_bytes: 2 * segment_bytes,
                standby_retain_bytes: 2 * segment_bytes,
                ..settings
            },
            None => settings,
        };
        #[cfg(feature = "mutants")]
        let settings = Settings {
            without: self.without,
            ..settings
        };
        settings
    }

    pub fn budget(&self) -> MaxLoss {
        self.settings(1).max_loss
    }
}

/// A host: what outlives its processes.
pub struct Machine {
    pub disk: SimDisk,
    pub clock: Clock,
    pub boot: u128,
    pub disk_ms: u64,
    /// A person declared it lost: it comes back with a blank disk only (R22).
    pub condemned: bool,
    /// Its disk failed; a person starts it again.
    pub hurt: bool,
    /// A bit of its disk turned: it may refuse to start.
    pub rotten: bool,
    /// Its process, if one was started.
    pub process: Option<Arc<Process>>,
    pub host: Option<Arc<SimHost>>,
    /// Why its last process did not start.
    pub refusal: Option<String>,
}

pub struct Cluster {
    pub shape: Shape,
    pub net: Net,
    pub ghost: Arc<Ghost>,
    pub began: Instant,
    pub machines: Mutex<BTreeMap<u32, Machine>>,
    /// Until when a fault lasts on a node, and until when packets are late.
    troubles: Mutex<BTreeMap<u32, Instant>>,
    storm: Mutex<Instant>,
    random: Mutex<Random>,
}

impl Cluster {
    pub fn new(shape: Shape, seed: u64, keeps_trace: bool) -> Arc<Cluster> {
        let mut random = Random(seed);
        let net = Net::new(random.draw());
        let mut machines = BTreeMap::new();
        for place in 1..=shape.nodes() {
            let clock = Clock {
                // R12's margin is a twentieth; these differ by at most 4 %.
                rate: 980 + 10 * random.below(5),
                boot_offset: 1_000_000 + random.below(1 << 40),
                wall_offset_ms: random.below(100),
            };
            let machine = Machine {
                disk: SimDisk::new(),
                clock,
                boot: u128::from(random.draw()),
                disk_ms: 1,
                condemned: false,
                hurt: false,
                rotten: false,
                process: None,
                host: None,
                refusal: None,
            };
            machines.insert(place, machine);
        }
        Arc::new(Cluster {
            shape,
            net,
            ghost: Ghost::new(shape.budget(), keeps_trace),
            began: Instant::now(),
            machines: Mutex::new(machines),
            troubles: Mutex::default(),
            storm: Mutex::new(Instant::now()),
            random: Mutex::new(random),
        })
    }

    fn draw(&self) -> u64 {
        self.random.lock().expect("one thread").draw()
    }

    pub fn with<R>(&self, place: u32, change: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machines = self.machines.lock().expect("one thread");
        let machine = machines.get_mut(&place).expect("a place of this cluster");
        change(machine)
    }

    pub fn fate(&self, place: u32) -> Fate {
        self.with(place, |machine| {
            machine
                .process
                .as_ref()
                .map_or(Fate::Dead, |process| process.fate())
        })
    }

    pub fn node(&self, place: u32) -> Option<Arc<Node>> {
        self.with(place, |machine| {
            let process = machine.process.as_ref()?;
            (process.fate() != Fate::Dead).then_some(())?;
            process.node.get()?.upgrade()
        })
    }

    /// Something is the matter with this node for so long.
    pub fn trouble(&self, place: u32, over: Duration) {
        let end = Instant::now() + over;
        let mut troubles = self.troubles.lock().expect("one thread");
        let until = troubles.entry(place).or_insert(end);
        *until = end.max(*until);
    }

    /// Packets are late for so long.
    pub fn storm(&self, over: Duration) {
        *self.storm.lock().expect("one thread") = Instant::now() + over;
    }

    /// No fault lasts any more.
    pub fn calm(&self) {
        self.troubles.lock().expect("one thread").clear();
        self.storm(Duration::ZERO);
    }

    pub fn is_stormy(&self) -> bool {
        *self.storm.lock().expect("one thread") > Instant::now()
    }

    /// The nodes on which a fault lasts.
    pub fn troubled(&self) -> impl Iterator<Item = u32> + use<> {
        let now = Instant::now();
        let troubles = self.troubles.lock().expect("one thread").clone();
        let lasting = troubles.into_iter().filter(move |(_, until)| *until > now);
        lasting.map(|(place, _)| place)
    }

    pub fn places(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.shape.nodes()
    }

    /// Starts a process on a host that has none.
    pub fn start(self: &Arc<Cluster>, place: u32) {
        if self.with(place, |machine| std::mem::take(&mut machine.condemned)) {
            self.replace_disk(place);
        }
        let number = self.draw();
        let random = Random(self.draw());
        let (process, host) = self.with(place, |machine| {
            let process =
                Process::new(number, place, machine.disk.clone(), Arc::clone(&self.ghost));
            let host = Arc::new(SimHost {
                process: Arc::clone(&process),
                net: self.net.clone(),
                began: self.began,
                clock: Mutex::new(machine.clock),
                boot: machine.boot,
                random: Mutex::new(random),
                disk_ms: Mutex::new(machine.disk_ms),
            });
            machine.process = Some(Arc::clone(&process));
            machine.host = Some(Arc::clone(&host));
            machine.refusal = None;
            machine.hurt = false;
            // Whoever starts it has seen to its disk.
            machine.disk.fail_at(u64::MAX);
            (process, host)
        });
        self.ghost.note(&format!("node {place} starts"));
        self.ghost.begins(&process);
        let cluster = Arc::clone(self);
        let life = live(cluster, place, Arc::clone(&process), host);
        process.spawn(Box::pin(life));
    }

    /// A blank disk, in a host without a process.
    pub fn replace_disk(&self, place: u32) {
        self.with(place, |machine| machine.disk = SimDisk::new());
        self.ghost.note(&format!("node {place} has a blank disk"));
    }

    /// Gives a blank disk to every node that the primary's rule declares lost.
    pub fn replace_lost(self: &Arc<Cluster>) {
        let leader = self.serving().and_then(|place| self.node(place));
        let Some(rule) = leader.and_then(|node| node.view().rule) else {
            return;
        };
        for place in self.places() {
            let incarnation = self.node(place).map(|node| node.view().incarnation);
            if incarnation.is_some_and(|known| rule.rule.is_lost(own_id(place), known)) {
                self.kill(place);
                self.replace_disk(place);
                self.start(place);
            }
        }
    }

    /// Ends a process; its host and its page cache go on.
    pub fn kill(&self, place: u32) {
        let process = self.with(place, |machine| {
            let process = machine.process.take()?;
            machine.disk = machine.disk.kill();
            Some(process)
        });
        let Some(process) = process else { return };
        process.kill();
        self.net.close_all_of(place, process.number);
        self.ghost.note(&format!("node {place} is killed"));
    }

    /// The host loses its power: the disk decides what survives, nobody is told.
    pub fn power_off(&self, place: u32) {
        let seed = self.draw();
        let boot = u128::from(self.draw());
        self.net.darken(place);
        let process = self.with(place, |machine| {
            machine.disk = machine.disk.crash(seed);
            machine.disk.set_seed(seed);
            machine.boot = boot;
            machine.process.take()
        });
        if let Some(process) = process {
            process.kill();
            self.net.close_all_of(place, process.number);
        }
        self.ghost.note(&format!("host {place} loses power"));
    }

    /// The host is on again, and starts its process, unless somebody was faster.
    pub fn power_on(self: &Arc<Cluster>, place: u32) {
        if self.fate(place) != Fate::Dead {
            return;
        }
        self.net.lighten(place);
        self.start(place);
    }

    /// The primary that serves under a live lease, if there is one.
    pub fn serving(&self) -> Option<u32> {
        self.places().find(|place| {
            self.node(*place).is_some_and(|node| {
                let gate = node.gate_now();
                gate.is_primary()
                    && gate.lease_until > node.host.boot_time()
                    && node.view().serving
                    && self.fate(*place) == Fate::Runs
            })
        })
    }

    /// Waits, in virtual time, until this holds; `false` when it does not come to that.
    pub async fn until(&self, limit: Duration, holds: impl Fn(&Cluster) -> bool) -> bool {
        let end = Instant::now() + limit;
        while !holds(self) {
            if Instant::now() >= end || self.ghost.violation().is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Everyone follows one primary, holds what it holds, shows what it shows, and counts.
    pub fn agrees(&self) -> bool {
        let Some(primary) = self.serving() else {
            return false;
        };
        let Some(leader) = self.node(primary) else {
            return false;
        };
        let view = leader.view();
        let Some(rule) = &view.rule else { return false };
        let settled = view.released == view.log.appended.lsn && !view.paused;
        settled
            && self.places().all(|place| {
                let Some(node) = self.node(place) else {
                    return false;
                };
                let own = node.view();
                let counts = rule.rule.counts(own_id(place), own.incarnation);
                let follows = place == primary
                    || (own.primary == Some(own_id(primary)) && own.epoch == view.epoch);
                let data = node.settings.kind() == Kind::Data;
                let holds = !data
                    || (own.log.appended.lsn == view.log.appended.lsn
                        && node.store.applied() == view.log.appended.lsn
                        && own.released == view.released);
                counts && follows && holds
            })
    }

    /// Whether the nodes, all up, could elect anyone under the newest rule: at level received not
    /// when the copies of too many were in the memory of hosts that rebooted (R10, R14).
    pub fn could_elect(&self) -> bool {
        let views: Vec<_> = self
            .places()
            .filter_map(|place| Some((own_id(place), self.node(place)?.view())))
            .collect();
        let newest = views
            .iter()
            .filter_map(|(_, view)| view.rule.as_ref())
            .max_by_key(|rule| rule.id);
        let Some(newest) = newest else { return false };
        let rule = &newest.rule;
        // A voter that the newest rule admits, and that has not heard so, cannot know.
        let votes = |id, view: &View| {
            let own = view.rule.as_ref().map(|recorded| &recorded.rule);
            let knows = own.is_some_and(|own| own.counts(id, view.incarnation));
            knows && rule.counts(id, view.incarnation)
        };
        let voters = views.iter().filter(|(id, view)| votes(*id, view));
        let alone = rule.members.len() == 1;
        let members = views.iter().filter(|(id, view)| {
            let forgot = rule.level == Level::Received && view.rebooted && !alone;
            let forgot = forgot || view.incomplete;
            votes(*id, view) && rule.has_member(*id) && !forgot
        });
        voters.count() >= rule.majority() && members.count() >= rule.member_votes_needed()
    }

    /// For a failure: what each node says of itself.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for place in self.places() {
            let line = match self.node(place) {
                Some(node) => {
                    let gate = node.gate_now();
                    let view = node.view();
                    format!(
                        "{:?} epoch {} log {:?} applied {} released {} following {:?} rule {:?} \
                         held back {:?} unfit {:?}",
                        gate.serves,
                        gate.epoch,
                        view.log.appended,
                        node.store.applied(),
                        gate.released,
                        gate.following,
                        view.rule
                            .map(|rule| (rule.id, rule.rule.members, rule.rule.copies)),
                        view.held_back,
                        node.unfit_reasons(),
                    )
                }
                None => self.with(place, |machine| {
                    format!("down: {}", machine.refusal.clone().unwrap_or_default())
                }),
            };
            text.push_str(&format!("  node {place}: {line}\n"));
        }
        text.push_str(&self.net.describe());
        text
    }
}

pub fn own_id(place: u32) -> understudy::units::NodeId {
    understudy::units::NodeId(place)
}

/// The life of a process: start, serve clients, until it is killed.
async fn live(cluster: Arc<Cluster>, place: u32, process: Arc<Process>, host: Arc<SimHost>) {
    let settings = cluster.shape.settings(place);
    let running = match start(settings, host).await {
        Ok(running) => running,
        Err(error) => {
            cluster
                .ghost
                .note(&format!("node {place} does not start: {error}"));
            cluster.with(place, |machine| machine.refusal = Some(error.to_string()));
            cluster.ghost.alarm.notify_one();
            return;
        }
    };
    let _ = process.node.set(Arc::downgrade(&running.node));
    let server = Server::new(Arc::clone(&running.node));
    let Ok(ear) = cluster.net.listen(address(place, 7379), process.number) else {
        cluster
            .ghost
            .violated(format!("node {place}: its client port is taken"));
        return;
    };
    loop {
        let (end, from) = ear.take().await;
        let server: Arc<Server> = Arc::clone(&server);
        process.spawn(Box::pin(server::attend(server, end, from, None)));
    }
}
