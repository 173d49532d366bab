//! A small world around real machines: disks, logs, a network that loses, delays and reorders,
//! crashes at any point, and one clock. Everything that may happen next is an [`Event`]; the
//! oracles are checked after each.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use understudy::replica::{
    Ack, Config, Control, Envelope, Input, Kind, Level, LogPos, LogView, Machine, MaxLoss, Member,
    Message, Mode, Now, Output, Standing,
};
use understudy::units::{Epoch, Lsn, Micros, Millis, NodeId};

/// Weights of a random walk's rarer events; an ordinary delivery weighs 30.
#[derive(Clone, Copy, Debug)]
pub struct Rough {
    pub crash: u64,
    pub restart: u64,
    pub wipe: u64,
    pub ship: u64,
    pub ship_one: u64,
}

impl Default for Rough {
    fn default() -> Rough {
        Rough {
            crash: 1,
            restart: 4,
            wipe: 1,
            ship: 25,
            ship_one: 15,
        }
    }
}

/// What cluster, and how much may happen.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub data: u32,
    pub witnesses: u32,
    pub mode: Mode,
    pub level: Option<Level>,
    /// No reign beyond this epoch is explored.
    pub epochs: u64,
    /// Client writes in all.
    pub writes: u32,
    pub crashes: u32,
    /// Disks replaced in all; more than one at a time could take the only copies away.
    pub wipes: u32,
    /// Messages lost in all (unlimited losses would only hide work: a lost message is one that is
    /// never delivered, which every bound on depth explores, too).
    pub losses: u32,
    /// Messages in flight in all; beyond it nothing new is sent but lost.
    pub in_flight: usize,
    /// Steps of time.
    pub time_steps: u32,
    /// How likely a random walk takes the rarer events.
    pub rough: Rough,
    /// A rule that all machines do without.
    #[cfg(feature = "mutants")]
    pub without: Option<understudy::replica::Guard>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// Deliver the packet at this place.
    Deliver(usize),
    Lose(usize),
    /// The pending control state becomes durable.
    Persist(usize),
    /// The log's tail becomes durable.
    Sync(usize),
    /// A client writes at this primary.
    Write(usize),
    /// BeginReign is carried out.
    Begin(usize),
    /// The standby's stream brings its log up to its primary's.
    Ship(usize),
    /// It brings one record more.
    ShipOne(usize),
    Crash(usize),
    Restart(usize),
    /// A dead node comes back with an empty disk.
    Wipe(usize),
    /// Node `.0` sees that the process of `.1` is gone.
    SeeGone(usize, usize),
    /// The primary hands over.
    Switchover(usize),
    /// The clock moves on to the next deadline.
    Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Packet {
    Say {
        to: usize,
        envelope: Box<Envelope>,
    },
    Ack {
        from: usize,
        to: usize,
        stream: u64,
        ack: Ack,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub machine: Option<Machine>,
    pub process: u64,
    /// What the disk would give back.
    pub control: Option<Control>,
    /// Epoch of each record; LSN 1 first.
    pub log: Vec<Epoch>,
    pub synced: usize,
    pub pending: Option<(u64, Box<Control>)>,
    pub begin: Option<Epoch>,
    /// The reign whose primary this log was matched with, and the stream's number.
    pub stream: Option<(Epoch, u64)>,
}

/// The world at one moment.
#[derive(Clone, Debug)]
pub struct World {
    pub bounds: Arc<Bounds>,
    configs: Vec<Arc<Config>>,
    pub nodes: Vec<Node>,
    pub net: Vec<Packet>,
    pub now: Micros,
    pub writes: u32,
    pub crashes: u32,
    pub wipes: u32,
    pub losses: u32,
    pub time_steps: u32,
    streams: u64,
    /// Ghost: every record ever released, by LSN.
    pub released: Vec<Epoch>,
    /// Ghost: who won each epoch.
    pub winners: BTreeMap<Epoch, usize>,
}

/// An oracle's finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

const NOW_ZERO: Micros = Micros(1_000_000);

fn config(bounds: &Bounds, index: usize, process: u64) -> Config {
    let nodes = bounds.data + bounds.witnesses;
    let members = (0..nodes).map(|i| Member {
        id: NodeId(i + 1),
        kind: if i < bounds.data {
            Kind::Data
        } else {
            Kind::Witness
        },
        vote: true,
        priority: 1,
    });
    Config {
        id: NodeId(index as u32 + 1),
        members: members.collect(),
        mode: bounds.mode,
        level: bounds.level,
        copies: None,
        acks: 1,
        semi_sync_timeout: Micros(1000),
        max_lag_records: None,
        max_loss: MaxLoss::Nothing,
        interval: Micros(400),
        timeout: Micros(100),
        threshold: 1,
        lease: Micros(800),
        refused_is_dead: true,
        bootstrap: false,
        new_cluster_id: 77,
        new_incarnation: index as u64 + 1,
        process,
        boot: 1,
        #[cfg(feature = "mutants")]
        without: bounds.without,
    }
}

impl World {
    /// A cluster that has begun: node 1 reigns in epoch 1, the first rule is recorded everywhere,
    /// and every node has restarted since (so that leases are to be waited out, R12).
    pub fn begun(bounds: Bounds) -> World {
        let mut world = World::blank(bounds);
        world.settle();
        world
    }

    pub fn blank(bounds: Bounds) -> World {
        let count = (bounds.data + bounds.witnesses) as usize;
        let bounds = Arc::new(bounds);
        let configs: Vec<Arc<Config>> = (0..count)
            .map(|i| Arc::new(config(&bounds, i, i as u64 + 1)))
            .collect();
        let mut world = World {
            nodes: Vec::new(),
            configs,
            net: Vec::new(),
            now: NOW_ZERO,
            writes: 0,
            crashes: 0,
            wipes: 0,
            losses: 0,
            time_steps: 0,
            streams: 0,
            released: Vec::new(),
            winners: BTreeMap::new(),
            bounds,
        };
        for i in 0..count {
            world.nodes.push(Node {
                machine: None,
                process: i as u64 + 1,
                control: None,
                log: Vec::new(),
                synced: 0,
                pending: None,
                begin: None,
                stream: None,
            });
        }
        for i in 0..count {
            world.start(i);
        }
        world
    }

    /// Lets everything happen in a benign order until a primary serves.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let serving = self.nodes.iter().any(|n| {
                n.machine.as_ref().is_some_and(|m| {
                    let view = m.view();
                    view.standing == Standing::Primary && view.serving
                })
            });
            let quiet = self.net.is_empty() && self.nodes.iter().all(|n| n.pending.is_none());
            if serving && quiet {
                self.time_steps = 0;
                self.losses = 0;
                return;
            }
            let next = self.benign();
            self.apply(&next).expect("a benign run breaks no oracle");
        }
        panic!("a cluster without faults never served: {self:#?}");
    }

    /// The next event of a run without faults.
    pub fn benign(&self) -> Event {
        let events = self.events();
        let order = |event: &Event| match event {
            Event::Persist(_) => 0,
            Event::Sync(_) => 1,
            Event::Begin(_) => 2,
            Event::Deliver(_) => 3,
            Event::Ship(_) => 4,
            Event::Restart(_) => 5,
            Event::Time => 6,
            _ => 9,
        };
        events.into_iter().min_by_key(order).unwrap_or(Event::Time)
    }

    fn now(&self) -> Now {
        Now {
            boot: self.now,
            wall: Millis(self.now.0 / 1000),
        }
    }

    fn view_of_log(node: &Node) -> LogView {
        let lsn = Lsn(node.log.len() as u64);
        let epoch = node.log.last().copied().unwrap_or_default();
        LogView {
            appended: LogPos {
                epoch,
                lsn,
                time: Millis(0),
            },
            written: lsn,
            synced: Lsn(node.synced as u64),
            applied: Lsn::ZERO,
        }
    }

    fn start(&mut self, i: usize) {
        let mut config = (*self.configs[i]).clone();
        config.process = self.nodes[i].process;
        let config = Arc::new(config);
        self.configs[i] = Arc::clone(&config);
        let view = Self::view_of_log(&self.nodes[i]);
        let control = self.nodes[i].control.clone();
        self.nodes[i].machine = Some(Machine::new(config, control, view, self.now()));
    }

    /// Everything that may happen next.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut seen = BTreeSet::new();
        for (place, packet) in self.net.iter().enumerate() {
            // Equal packets are one choice.
            let key = format!("{packet:?}");
            if seen.insert(key) {
                events.push(Event::Deliver(place));
                if self.losses < self.bounds.losses {
                    events.push(Event::Lose(place));
                }
            }
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let Some(machine) = &node.machine else {
                events.push(Event::Restart(i));
                if self.wipes < self.bounds.wipes {
                    events.push(Event::Wipe(i));
                }
                continue;
            };
            let view = machine.view();
            if node.pending.is_some() {
                events.push(Event::Persist(i));
            }
            if node.synced < node.log.len() {
                events.push(Event::Sync(i));
            }
            if node.begin.is_some() {
                events.push(Event::Begin(i));
            }
            let writes = view.standing == Standing::Primary && view.begun && !view.paused;
            if writes && self.writes < self.bounds.writes {
                events.push(Event::Write(i));
            }
            if self.shippable(i).is_some() {
                events.push(Event::Ship(i));
                events.push(Event::ShipOne(i));
            }
            if self.crashes < self.bounds.crashes {
                events.push(Event::Crash(i));
            }
            for (j, other) in self.nodes.iter().enumerate() {
                let known = view.primary == Some(NodeId(j as u32 + 1)) && !view.suspected;
                let reigns = view.standing == Standing::Primary;
                if i != j && other.machine.is_none() && (known || reigns) {
                    events.push(Event::SeeGone(i, j));
                }
            }
        }
        if self.time_steps < self.bounds.time_steps {
            events.push(Event::Time);
        }
        events
    }

    /// The primary whose stream would change something at node `i`.
    fn shippable(&self, i: usize) -> Option<usize> {
        let machine = self.nodes[i].machine.as_ref()?;
        let (primary, epoch) = machine.following()?;
        let p = primary.0 as usize - 1;
        let reign = self.nodes[p].machine.as_ref()?.view();
        let reigns = reign.standing == Standing::Primary && reign.epoch == epoch && reign.begun;
        let matched = self.nodes[i].stream.is_some_and(|(e, _)| e == epoch);
        let news = !matched || self.nodes[i].log != self.nodes[p].log;
        (reigns && news).then_some(p)
    }

    pub fn apply(&mut self, event: &Event) -> Result<(), Violation> {
        match *event {
            Event::Deliver(place) => {
                let packet = self.net.remove(place);
                self.deliver(packet);
            }
            Event::Lose(place) => {
                self.net.remove(place);
                self.losses += 1;
            }
            Event::Persist(i) => {
                if let Some((generation, control)) = self.nodes[i].pending.take() {
                    self.nodes[i].control = Some(*control);
                    self.input(i, Input::Persisted(generation));
                }
            }
            Event::Sync(i) => {
                self.nodes[i].synced = self.nodes[i].log.len();
                self.log_moved(i);
            }
            Event::Write(i) => {
                let epoch = self.view(i).epoch;
                self.nodes[i].log.push(epoch);
                self.writes += 1;
                self.log_moved(i);
            }
            Event::Begin(i) => self.begin(i),
            Event::Ship(i) => self.ship(i, usize::MAX),
            Event::ShipOne(i) => self.ship(i, 1),
            Event::Crash(i) => self.crash(i),
            Event::Restart(i) => self.start(i),
            Event::Wipe(i) => self.wipe(i),
            Event::SeeGone(i, j) => {
                let (peer, process) = (NodeId(j as u32 + 1), self.nodes[j].process);
                self.input(i, Input::ProcessGone { peer, process });
            }
            Event::Switchover(i) => self.input(i, Input::Switchover(None)),
            Event::Time => self.pass_time(),
        }
        self.check()
    }

    fn view(&self, i: usize) -> understudy::replica::View {
        self.nodes[i]
            .machine
            .as_ref()
            .expect("asked of a live node")
            .view()
    }

    fn deliver(&mut self, packet: Packet) {
        match packet {
            Packet::Say { to, envelope } => self.input(to, Input::Message(envelope)),
            Packet::Ack {
                from,
                to,
                stream,
                ack,
            } => {
                let standby = NodeId(from as u32 + 1);
                self.input(
                    to,
                    Input::Ack {
                        standby,
                        stream,
                        ack,
                    },
                );
            }
        }
    }

    fn begin(&mut self, i: usize) {
        let Some(epoch) = self.nodes[i].begin.take() else {
            return;
        };
        self.nodes[i].log.push(epoch);
        self.nodes[i].stream = None;
        self.log_moved(i);
        let lsn = Lsn(self.nodes[i].log.len() as u64);
        let start = LogPos {
            epoch,
            lsn,
            time: Millis(0),
        };
        self.input(i, Input::ReignBegun { epoch, start });
    }

    fn ship(&mut self, i: usize, most: usize) {
        let Some(p) = self.shippable(i) else { return };
        let epoch = self.view(p).epoch;
        let theirs = self.nodes[p].log.clone();
        if self.nodes[i].stream.is_none_or(|(e, _)| e != epoch) {
            let own = &self.nodes[i].log;
            let fork = own.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
            self.nodes[i].log.truncate(fork);
            self.nodes[i].synced = self.nodes[i].synced.min(fork);
            self.streams += 1;
            let stream = self.streams;
            self.nodes[i].stream = Some((epoch, stream));
            let standby = NodeId(i as u32 + 1);
            let incarnation = self.view(i).incarnation;
            self.input(
                p,
                Input::Followed {
                    standby,
                    incarnation,
                    epoch,
                    stream,
                },
            );
            self.log_moved(i);
            self.input(i, Input::Matched { epoch });
        }
        let have = self.nodes[i].log.len();
        self.nodes[i]
            .log
            .extend(theirs.into_iter().skip(have).take(most));
        self.log_moved(i);
    }

    fn crash(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        node.machine = None;
        node.process += 100;
        node.pending = None;
        node.begin = None;
        node.stream = None;
        node.log.truncate(node.synced);
        self.crashes += 1;
        // Its connections die with it.
        let lsn = NodeId(i as u32 + 1);
        self.net.retain(|packet| match packet {
            Packet::Say { to, .. } => *to != i,
            Packet::Ack { to, .. } => *to != i,
        });
        for other in 0..self.nodes.len() {
            if self.nodes[other].stream.is_some()
                && self.nodes[other]
                    .machine
                    .as_ref()
                    .is_some_and(|m| m.view().primary == Some(lsn))
            {
                self.nodes[other].stream = None;
            }
        }
    }

    /// A replaced disk: no control state, no log, another incarnation (R24, R25).
    fn wipe(&mut self, i: usize) {
        self.wipes += 1;
        let mut config = (*self.configs[i]).clone();
        config.new_incarnation += 1000;
        self.configs[i] = Arc::new(config);
        let node = &mut self.nodes[i];
        node.control = None;
        node.log.clear();
        node.synced = 0;
        self.start(i);
    }

    fn pass_time(&mut self) {
        self.time_steps += 1;
        let live = self.nodes.iter().filter_map(|node| node.machine.as_ref());
        let next = live.map(Machine::poll_deadline).min().unwrap_or(self.now);
        self.now = next.max(Micros(self.now.0 + 1));
        for i in 0..self.nodes.len() {
            if self.nodes[i]
                .machine
                .as_ref()
                .is_some_and(|m| m.poll_deadline() <= self.now)
            {
                self.input(i, Input::Tick);
            }
        }
    }

    fn log_moved(&mut self, i: usize) {
        let view = Self::view_of_log(&self.nodes[i]);
        self.input(i, Input::Log(view));
    }

    pub fn input(&mut self, i: usize, input: Input) {
        let now = self.now();
        let Some(machine) = self.nodes[i].machine.as_mut() else {
            return;
        };
        machine.handle(now, input);
        let mut outputs = Vec::new();
        while let Some(output) = machine.poll_output() {
            outputs.push(output);
        }
        for output in outputs {
            self.output(i, output);
        }
    }

    fn output(&mut self, i: usize, output: Output) {
        match output {
            Output::Persist {
                generation,
                control,
            } => {
                self.nodes[i].pending = Some((generation, control));
            }
            Output::Send { to, envelope } => {
                let to = to.0 as usize - 1;
                self.send(Packet::Say { to, envelope });
            }
            Output::BeginReign { epoch } => {
                self.nodes[i].begin = Some(epoch);
                self.nodes[i].stream = None;
                if self.winners.insert(epoch, i).is_some_and(|old| old != i) {
                    self.winners.insert(epoch, usize::MAX);
                }
            }
            Output::Acknowledge { to, ack } => {
                if let Some((epoch, stream)) = self.nodes[i].stream
                    && epoch == ack.epoch
                {
                    let to = to.0 as usize - 1;
                    self.send(Packet::Ack {
                        from: i,
                        to,
                        stream,
                        ack,
                    });
                }
            }
            Output::PauseWrites => self.input(i, Input::WritesPaused),
            Output::EndReign { .. }
            | Output::ResumeWrites(_)
            | Output::PromoteFailed(_)
            | Output::Report(_) => {}
        }
    }

    fn send(&mut self, packet: Packet) {
        let to = match &packet {
            Packet::Say { to, .. } | Packet::Ack { to, .. } => *to,
        };
        let blank = matches!(&packet, Packet::Say { envelope, .. }
            if envelope.message == Message::Blank && self.winners.contains_key(&Epoch(1)));
        if self.nodes[to].machine.is_none() || self.net.len() >= self.bounds.in_flight || blank {
            return;
        }
        self.net.push(packet);
    }

    fn check(&mut self) -> Result<(), Violation> {
        let broken = |what: String| Err(Violation(what));
        if let Some((epoch, _)) = self.winners.iter().find(|(_, who)| **who == usize::MAX) {
            return broken(format!("two primaries won epoch {epoch}"));
        }
        let mut reigning = Vec::new();
        for i in 0..self.nodes.len() {
            let Some(machine) = &self.nodes[i].machine else {
                continue;
            };
            let view = machine.view();
            if view.standing != Standing::Primary {
                continue;
            }
            if view.lease_until > self.now {
                reigning.push(i);
            }
            if !view.serving {
                continue;
            }
            // What this primary says is released joins the ghost, and must agree with it.
            let upto = view.released.0 as usize;
            let log = &self.nodes[i].log;
            if upto > log.len() {
                return broken(format!("node {} released LSN {upto} beyond its log", i + 1));
            }
            for (lsn, epoch) in log.iter().enumerate().take(upto) {
                match self.released.get(lsn) {
                    Some(old) if old != epoch => {
                        return broken(format!(
                            "LSN {} was released in epoch {old} and again in epoch {epoch}",
                            lsn + 1
                        ));
                    }
                    Some(_) => {}
                    None => self.released.push(*epoch),
                }
            }
            // Every reign that serves holds all that was ever released before its epoch.
            let missing = self
                .released
                .iter()
                .enumerate()
                .find(|(lsn, epoch)| **epoch < view.epoch && log.get(*lsn) != Some(*epoch));
            if let Some((lsn, epoch)) = missing {
                return broken(format!(
                    "node {} reigns in epoch {} without LSN {} of epoch {epoch}, which was released",
                    i + 1,
                    view.epoch,
                    lsn + 1
                ));
            }
        }
        if reigning.len() > 1 {
            return broken(format!("live leases of two primaries: nodes {reigning:?}"));
        }
        Ok(())
    }

    /// Beyond the bounds there is nothing to explore.
    pub fn out_of_bounds(&self) -> bool {
        let epoch = |node: &Node| node.machine.as_ref().map(|machine| machine.promised().0);
        self.nodes.iter().filter_map(epoch).max().unwrap_or(0) > self.bounds.epochs
    }

    /// A fingerprint: equal for states from which the same can happen.
    pub fn fingerprint(&self) -> u128 {
        let mut net: Vec<String> = self.net.iter().map(|p| format!("{p:?}")).collect();
        net.sort_unstable();
        let mut low = std::hash::DefaultHasher::new();
        let mut high = std::hash::DefaultHasher::new();
        1u8.hash(&mut high);
        for hasher in [&mut low, &mut high] {
            self.nodes.hash(hasher);
            net.hash(hasher);
            self.now.hash(hasher);
            (
                self.writes,
                self.crashes,
                self.wipes,
                self.losses,
                self.time_steps,
            )
                .hash(hasher);
            self.released.hash(hasher);
        }
        (u128::from(high.finish()) << 64) | u128::from(low.finish())
    }
}
