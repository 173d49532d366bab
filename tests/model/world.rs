//! A small world around real machines: disks, logs, clocks that drift, and a network that loses,
//! delays, duplicates and reorders. Nothing here knows what is right: that is `oracle`.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use understudy::replica::{
    Ack, Config, Control, Envelope, Input, Kind, Level, LogPos, LogView, Machine, MaxLag, MaxLoss,
    Member, Message, Mode, Now, Output, View,
};
use understudy::units::{Epoch, Lsn, Micros, Millis, NodeId};

use super::event::Event;
use super::oracle::{Ghost, Violation};

/// What cluster, and how much may happen.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub data: u32,
    pub witnesses: u32,
    /// Data nodes with `vote = false`, counted in `data`, last.
    pub silent: u32,
    pub mode: Mode,
    pub level: Option<Level>,
    pub max_loss: MaxLoss,
    pub max_lag: Option<MaxLag>,
    /// No reign beyond this epoch is explored.
    pub epochs: u64,
    /// Client writes in all.
    pub writes: u32,
    pub crashes: u32,
    /// Messages lost or doubled in all.
    pub losses: u32,
    /// Messages in flight in all; beyond it nothing new is sent but lost.
    pub in_flight: usize,
    /// Steps of time.
    pub time_steps: u32,
    /// Clocks drift, hosts reboot, disks are replaced, processes pause, people order things.
    pub rich: bool,
    /// No faults any more but the crashes that are left: what a stage is walked from.
    pub calm: bool,
    /// The rule that the machines leave out.
    #[cfg(feature = "mutants")]
    pub without: Option<understudy::replica::Guard>,
}

/// What a record counts for under a budget in bytes.
pub const RECORD_BYTES: u64 = 10;

/// A record: who wrote it, when. Equal places with equal records are the same record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rec {
    pub epoch: Epoch,
    pub time: Millis,
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

impl Packet {
    pub fn to(&self) -> usize {
        match self {
            Packet::Say { to, .. } | Packet::Ack { to, .. } => *to,
        }
    }

    pub fn from(&self) -> usize {
        match self {
            Packet::Say { envelope, .. } => envelope.from.0 as usize - 1,
            Packet::Ack { from, .. } => *from,
        }
    }

    /// What is said; `None` for an acknowledgement.
    pub fn message(&self) -> Option<&Message> {
        match self {
            Packet::Say { envelope, .. } => Some(&envelope.message),
            Packet::Ack { .. } => None,
        }
    }

    pub fn is_recorded(&self) -> bool {
        matches!(self.message(), Some(Message::Recorded { .. }))
    }

    /// The epoch that it asks a vote for.
    pub fn vote(&self) -> Option<Epoch> {
        match self {
            Packet::Say { envelope, .. } => match envelope.message {
                Message::Vote { epoch, .. } => Some(epoch),
                _ => None,
            },
            Packet::Ack { .. } => None,
        }
    }

    /// Whether `newer` from the same sender makes this one stale: a heartbeat, its answer or an
    /// acknowledgement that has been overtaken.
    fn replaced_by(&self, newer: &Packet) -> bool {
        let same_way = self.to() == newer.to() && self.from() == newer.from();
        same_way
            && match (self, newer) {
                (Packet::Ack { .. }, Packet::Ack { .. }) => true,
                (Packet::Say { envelope: a, .. }, Packet::Say { envelope: b, .. }) => matches!(
                    (&a.message, &b.message),
                    (Message::Beat(_), Message::Beat(_))
                        | (Message::BeatAnswer(_), Message::BeatAnswer(_))
                ),
                _ => false,
            }
    }
}

/// What a node does not get done until the world heals.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hold {
    /// No tail of the log becomes durable.
    pub sync: bool,
    /// The stream brings nothing.
    pub ship: bool,
    /// No control state becomes durable before this.
    pub persist: Micros,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub machine: Option<Machine>,
    pub paused: bool,
    pub process: u64,
    /// The process that died last.
    pub dead_process: u64,
    pub boot: u128,
    pub incarnation: u64,
    /// A person declared this disk gone (R22): it comes back replaced or not at all.
    pub condemned: bool,
    /// It stays down until the world heals.
    pub buried: bool,
    /// What its disk and its stream do not get done.
    pub hold: Hold,
    /// The lease its configuration asks for when it starts.
    pub lease: Micros,
    /// What the disk would give back.
    pub control: Option<Control>,
    /// LSN 1 first.
    pub log: Vec<Rec>,
    pub handed: usize,
    pub synced: usize,
    /// Visible to readers. Told to the machine only at level applied: elsewhere it is a state more
    /// and means nothing.
    pub applied: usize,
    pub pending: Option<(u64, Box<Control>)>,
    pub begin: Option<Epoch>,
    /// The reign whose primary this log was matched with, and the stream's number.
    pub stream: Option<(Epoch, u64)>,
}

/// The world at one moment.
#[derive(Clone, Debug)]
pub struct World {
    pub bounds: Arc<Bounds>,
    pub nodes: Vec<Node>,
    pub net: Vec<Packet>,
    /// True time; no node sees it.
    pub now: Micros,
    /// Of each node's clock, in thousandths of true time.
    pub rates: Vec<u64>,
    /// One-way cuts: from, to.
    pub cut: BTreeSet<(usize, usize)>,
    pub writes: u32,
    pub crashes: u32,
    pub losses: u32,
    pub time_steps: u32,
    streams: u64,
    pub ghost: Ghost,
    violation: Option<Violation>,
}

pub fn id(i: usize) -> NodeId {
    NodeId(i as u32 + 1)
}

fn config(bounds: &Bounds, i: usize, node: &Node) -> Config {
    let members = (0..bounds.data + bounds.witnesses).map(|i| Member {
        id: NodeId(i + 1),
        kind: if i < bounds.data {
            Kind::Data
        } else {
            Kind::Witness
        },
        vote: i >= bounds.data || i < bounds.data - bounds.silent,
        priority: 1,
    });
    Config {
        id: id(i),
        members: members.collect(),
        mode: bounds.mode,
        level: bounds.level,
        copies: None,
        acks: 1,
        semi_sync_timeout: Micros::from_ms(1000),
        max_lag: bounds.max_lag,
        max_loss: bounds.max_loss,
        interval: Micros::from_ms(400),
        timeout: Micros::from_ms(100),
        threshold: 1,
        lease: node.lease,
        refused_is_dead: true,
        bootstrap: false,
        new_cluster_id: u128::from(node.process),
        new_incarnation: node.incarnation,
        process: node.process,
        boot: node.boot,
    }
}

impl World {
    /// A cluster that has begun: someone reigns in epoch 1 and serves, and no message is under
    /// way.
    pub fn begun(bounds: Bounds) -> World {
        World::try_begun(bounds).unwrap_or_else(|violation| panic!("{}", violation.0))
    }

    /// The same; a mutant may fail already here.
    pub fn try_begun(bounds: Bounds) -> Result<World, Violation> {
        let mut world = World::blank(bounds);
        world.settle()?;
        world.time_steps = 0;
        Ok(world)
    }

    pub fn blank(bounds: Bounds) -> World {
        let count = (bounds.data + bounds.witnesses) as usize;
        let mut world = World {
            bounds: Arc::new(bounds),
            nodes: Vec::new(),
            net: Vec::new(),
            now: Micros::from_ms(1_000),
            rates: vec![1000; count],
            cut: BTreeSet::new(),
            writes: 0,
            crashes: 0,
            losses: 0,
            time_steps: 0,
            streams: 0,
            ghost: Ghost::new(count),
            violation: None,
        };
        for i in 0..count {
            world.nodes.push(Node {
                machine: None,
                paused: false,
                process: i as u64 + 1,
                dead_process: 0,
                boot: 1,
                incarnation: i as u64 + 1,
                condemned: false,
                buried: false,
                hold: Hold::default(),
                lease: Micros::from_ms(800),
                control: None,
                log: Vec::new(),
                handed: 0,
                synced: 0,
                applied: 0,
                pending: None,
                begin: None,
                stream: None,
            });
            world.start(i);
        }
        world
    }

    /// What node `i`'s clocks say.
    pub fn clock(&self, i: usize) -> Now {
        let boot = 10_000_000 * (i as u64 + 1) + self.now.0 * self.rates[i] / 1000;
        let wall = if self.bounds.rich {
            self.now.as_ms()
        } else {
            0
        };
        Now {
            boot: Micros(boot),
            wall: Millis(wall),
        }
    }

    fn view_of_log(&self, i: usize) -> LogView {
        let node = &self.nodes[i];
        LogView {
            appended: LogPos {
                epoch: node.log.last().map_or(Epoch::ZERO, |rec| rec.epoch),
                lsn: Lsn(node.log.len() as u64),
                time: node.log.last().map_or(Millis(0), |rec| rec.time),
            },
            written: Lsn(node.handed as u64),
            synced: Lsn(node.synced as u64),
            applied: Lsn(node.applied as u64),
        }
    }

    pub fn start(&mut self, i: usize) {
        if self.nodes[i].condemned {
            self.wipe(i);
            self.nodes[i].condemned = false;
        }
        let config = Arc::new(config(&self.bounds, i, &self.nodes[i]));
        let control = self.nodes[i].control.clone();
        let machine = Machine::new(config, control, self.view_of_log(i), self.clock(i));
        #[cfg(feature = "mutants")]
        let machine = machine.leaving_out(self.bounds.without);
        self.nodes[i].machine = Some(machine);
    }

    /// A replaced disk.
    pub fn wipe(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        node.control = None;
        node.log.clear();
        (node.handed, node.synced, node.applied) = (0, 0, 0);
        node.incarnation += 100;
    }

    pub fn alive(&self, i: usize) -> Option<&Machine> {
        self.nodes[i].machine.as_ref()
    }

    pub fn view(&self, i: usize) -> Option<View> {
        self.alive(i).map(Machine::view)
    }

    /// The primary whose stream would change something at node `i`.
    pub fn shippable(&self, i: usize) -> Option<usize> {
        let (primary, epoch) = self.alive(i)?.following()?;
        let p = primary.0 as usize - 1;
        let reigns = self.reigns(p)? == epoch;
        let matched = self.nodes[i].stream.is_some_and(|(e, _)| e == epoch);
        let news = !matched || self.nodes[i].log != self.nodes[p].log;
        let open = !self.cut.contains(&(p, i)) && !self.cut.contains(&(i, p));
        (reigns && news && open && !self.nodes[p].paused).then_some(p)
    }

    /// How much of node `i`'s log its readers may see: on a primary all of it (R9).
    pub fn appliable(&self, i: usize) -> usize {
        let whole = self.nodes[i].log.len();
        if self.bounds.level != Some(Level::Applied) || i >= self.bounds.data as usize {
            return self.nodes[i].applied;
        }
        match self.view(i) {
            Some(view) if view.begun => whole,
            Some(view) => whole.min(view.released.0 as usize),
            None => self.nodes[i].applied,
        }
    }

    /// The reign of a primary that has begun.
    pub fn reigns(&self, i: usize) -> Option<Epoch> {
        let view = self.view(i)?;
        view.begun.then_some(view.epoch)
    }

    pub fn apply(&mut self, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Deliver(place) => {
                let packet = self.net.remove(*place);
                self.deliver(packet);
            }
            Event::Double(place) => {
                self.losses += 1;
                let packet = self.net[*place].clone();
                self.deliver(packet);
            }
            Event::Lose(place) => {
                let packet = self.net.remove(*place);
                self.losses += 1;
                self.end_stream_of(&packet);
            }
            Event::Persist(i) => self.persist(*i),
            Event::Hand(i) => {
                self.nodes[*i].handed = self.nodes[*i].log.len();
                self.log_moved(*i);
            }
            Event::Sync(i) => {
                let node = &mut self.nodes[*i];
                node.handed = node.log.len();
                node.synced = node.log.len();
                self.log_moved(*i);
            }
            Event::Apply(i) => {
                self.nodes[*i].applied = self.appliable(*i);
                self.log_moved(*i);
            }
            Event::Write(i) => {
                self.writes += 1;
                if let Some(epoch) = self.reigns(*i) {
                    self.append(*i, epoch);
                    self.log_moved(*i);
                }
            }
            Event::Begin(i) => self.begin(*i),
            Event::Ship(i) => self.ship(*i, usize::MAX),
            Event::ShipOne(i) => self.ship(*i, 1),
            Event::BreakStream(i) => self.break_stream(*i),
            Event::Crash(i) => self.crash(*i, !self.bounds.rich),
            Event::CrashHost(i) => self.crash(*i, true),
            Event::Wipe(i) => self.wipe(*i),
            Event::Restart(i) => self.start(*i),
            Event::Pause(i) => self.nodes[*i].paused = true,
            Event::Resume(i) => {
                self.nodes[*i].paused = false;
                self.input(*i, Input::Tick);
            }
            Event::SeeGone(i, j) => {
                let (peer, process) = (id(*j), self.nodes[*j].dead_process);
                self.input(*i, Input::ProcessGone { peer, process });
            }
            Event::Switchover(i) => self.input(*i, Input::Switchover(None)),
            Event::StepDown(i) => self.input(*i, Input::StepDown("told to".into())),
            Event::Promote(i, lost) => {
                for j in lost {
                    self.nodes[*j].condemned = true;
                }
                let lost = lost.iter().map(|j| id(*j)).collect();
                self.input(*i, Input::Promote(lost));
            }
            Event::Cut(from, to) => {
                self.cut.insert((*from, *to));
                self.losses += 1;
            }
            Event::Mend => self.cut.clear(),
            Event::Time => self.pass_time(1, Micros(u64::MAX)),
            Event::SomeTime => self.pass_time(2, Micros(u64::MAX)),
            Event::TimeUpTo(then) => self.pass_time(1, *then),
        }
        if let Some(violation) = self.violation.take() {
            return Err(violation);
        }
        self.check()
    }

    fn persist(&mut self, i: usize) {
        if let Some((generation, control)) = self.nodes[i].pending.take() {
            let fault = self.ghost.note_persisted(i, &control);
            self.violation = self.violation.take().or(fault);
            self.nodes[i].control = Some(*control);
            self.input(i, Input::Persisted(generation));
        }
    }

    fn append(&mut self, i: usize, epoch: Epoch) {
        let time = self.clock(i).wall;
        let time = self.nodes[i]
            .log
            .last()
            .map_or(time, |rec| time.max(rec.time));
        self.nodes[i].log.push(Rec { epoch, time });
    }

    fn deliver(&mut self, packet: Packet) {
        let to = packet.to();
        let input = match packet {
            Packet::Say { envelope, .. } => Input::Message(envelope),
            Packet::Ack {
                from, stream, ack, ..
            } => Input::Ack {
                standby: id(from),
                stream,
                ack,
            },
        };
        self.input(to, input);
    }

    fn begin(&mut self, i: usize) {
        let Some(epoch) = self.nodes[i].begin.take() else {
            return;
        };
        self.append(i, epoch);
        self.nodes[i].stream = None;
        self.log_moved(i);
        let start = self.view_of_log(i).appended;
        self.input(i, Input::ReignBegun { epoch, start });
    }

    fn ship(&mut self, i: usize, records: usize) {
        let Some(p) = self.shippable(i) else { return };
        let Some(epoch) = self.reigns(p) else { return };
        let theirs = self.nodes[p].log.clone();
        if self.nodes[i].stream.is_none_or(|(e, _)| e != epoch) {
            let node = &mut self.nodes[i];
            let fork = node
                .log
                .iter()
                .zip(&theirs)
                .take_while(|(a, b)| a == b)
                .count();
            node.log.truncate(fork);
            node.synced = node.synced.min(fork);
            node.handed = node.handed.min(fork);
            node.applied = node.applied.min(fork);
            self.streams += 1;
            let stream = self.streams;
            node.stream = Some((epoch, stream));
            let (standby, incarnation) = (id(i), node.incarnation);
            let followed = Input::Followed {
                standby,
                incarnation,
                epoch,
                stream,
            };
            self.input(p, followed);
            self.log_moved(i);
            self.input(i, Input::Matched { epoch });
        }
        let node = &mut self.nodes[i];
        let from = node.log.len();
        let upto = theirs.len().min(from.saturating_add(records));
        node.log.extend_from_slice(&theirs[from..upto]);
        self.log_moved(i);
    }

    /// A connection that loses an acknowledgement is over: what a living stream carries arrives, and
    /// a new stream begins with what the standby holds. (Seed 880 of "async, 2 records": an ack lost
    /// within a stream that lived on left a learner unadmitted for ever, since a primary at its
    /// `append_limit` writes nothing that would bring the next. No connection does that.)
    fn end_stream_of(&mut self, lost: &Packet) {
        if let Packet::Ack { from, stream, .. } = lost
            && self.nodes[*from]
                .stream
                .is_some_and(|(_, own)| own == *stream)
        {
            self.break_stream(*from);
        }
    }

    fn break_stream(&mut self, i: usize) {
        let Some((_, stream)) = self.nodes[i].stream.take() else {
            return;
        };
        let standby = id(i);
        for p in 0..self.nodes.len() {
            self.input(p, Input::StreamLost { standby, stream });
        }
    }

    fn crash(&mut self, i: usize, host: bool) {
        let node = &mut self.nodes[i];
        node.machine = None;
        node.paused = false;
        node.dead_process = node.process;
        node.process += 100;
        node.pending = None;
        node.begin = None;
        node.stream = None;
        let kept = if host { node.synced } else { node.handed };
        node.boot += u128::from(host);
        node.log.truncate(kept);
        node.handed = kept;
        node.applied = 0;
        self.crashes += 1;
        // Its connections die with it; what it has sent may still arrive, and what was said to it
        // while a connection was being made arrives at its next process.
        let rich = self.bounds.rich;
        let kept = |packet: &Packet| packet.to() != i || (rich && packet.message().is_some());
        self.net.retain(kept);
        for j in 0..self.nodes.len() {
            let follows = self.view(j).is_some_and(|view| view.primary == Some(id(i)));
            if follows {
                self.nodes[j].stream = None;
            }
        }
    }

    /// Moves true time to the next deadline of any node, or a part of the way, or to `then`.
    fn pass_time(&mut self, part: u64, then: Micros) {
        self.time_steps += 1;
        let until = |i: usize| {
            let deadline = self.alive(i)?.poll_deadline();
            let left = deadline.since(self.clock(i).boot).0;
            (!self.nodes[i].paused).then_some(left * 1000 / self.rates[i] + 1)
        };
        let next = (0..self.nodes.len()).filter_map(until).min();
        let step = (next.unwrap_or(100_000) / part).max(1);
        self.now.0 += step.min(then.since(self.now).0);
        for i in 0..self.nodes.len() {
            let now = self.clock(i).boot;
            let due = self.alive(i).is_some_and(|m| m.poll_deadline() <= now);
            if due && !self.nodes[i].paused {
                self.input(i, Input::Tick);
                let spins = self.alive(i).is_some_and(|m| m.poll_deadline() <= now);
                if spins {
                    self.blame(format!("node {} asks for a tick that did nothing", i + 1));
                }
            }
        }
    }

    fn blame(&mut self, what: String) {
        self.violation = self.violation.take().or(Some(Violation(what)));
    }

    fn log_moved(&mut self, i: usize) {
        if !self.bounds.rich {
            self.nodes[i].handed = self.nodes[i].log.len();
        }
        self.ghost.note_held(i, &self.nodes[i]);
        let view = self.view_of_log(i);
        self.input(i, Input::Log(view));
    }

    pub fn input(&mut self, i: usize, input: Input) {
        self.tell(i, input);
        self.measure_lag(i);
    }

    /// The owner's part of a lag budget in bytes or time.
    fn measure_lag(&mut self, i: usize) {
        let machine = self.nodes[i].machine.as_ref();
        let Some(lag) = machine.and_then(Machine::lag_kept) else {
            return;
        };
        let (base, log) = (lag.base, &self.nodes[i].log);
        let since = log.get(base.0 as usize).map_or(0, |rec| rec.time.0);
        let limit = match lag.budget {
            MaxLag::Records(_) => return,
            MaxLag::Bytes(bytes) => Lsn(base.0 + bytes / RECORD_BYTES),
            MaxLag::Ms(ms) => {
                let end = log
                    .iter()
                    .take_while(|rec| rec.time.0 <= since + ms)
                    .count();
                Lsn(end as u64).max(base)
            }
        };
        self.tell(i, Input::LagReach { base, limit });
    }

    /// Whether the lag budget admits one record more.
    pub fn has_room(&self, i: usize, view: &View) -> bool {
        let Some(lag) = view.lag else { return true };
        let (log, now) = (&self.nodes[i].log, self.clock(i).wall.0);
        let since = log.get(lag.base.0 as usize).map_or(now, |rec| rec.time.0);
        match lag.budget {
            MaxLag::Ms(ms) => now - since <= ms,
            _ => view
                .append_limit
                .is_some_and(|limit| limit > view.log.appended.lsn),
        }
    }

    fn tell(&mut self, i: usize, input: Input) {
        let now = self.clock(i);
        let Some(machine) = self.nodes[i].machine.as_mut() else {
            return;
        };
        let name = format!("{input:?}");
        let handled = catch_unwind(AssertUnwindSafe(|| machine.handle(now, input)));
        if handled.is_err() {
            self.blame(format!("node {} panicked on {name}", i + 1));
            self.nodes[i].machine = None;
            return;
        }
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
            } => self.nodes[i].pending = Some((generation, control)),
            Output::Send { to, envelope } => {
                let said = self.ghost.note_said(i, to, &envelope);
                self.violation = self.violation.take().or(said);
                let to = to.0 as usize - 1;
                self.send(Packet::Say { to, envelope });
            }
            Output::BeginReign { epoch } => {
                self.nodes[i].begin = Some(epoch);
                self.nodes[i].stream = None;
                let control = self.nodes[i].control.as_ref();
                if !control.is_some_and(|c| c.cluster.is_some() && c.promised >= epoch) {
                    let node = i + 1;
                    self.blame(format!(
                        "node {node} begins epoch {epoch} before it is durable"
                    ));
                }
                let known = self.view(i).map_or(Lsn::ZERO, |view| view.released);
                let fault = self.ghost.note_winner(i, epoch, known);
                self.violation = self.violation.take().or(fault);
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
            Output::Report(report) => {
                let log = &self.nodes[i].log;
                let fault = self.ghost.note_report(&report, log, &self.bounds);
                self.violation = self.violation.take().or(fault);
            }
            Output::EndReign { epoch, .. } => {
                self.nodes[i].begin = None;
                let upto = self.view(i).map_or(Lsn::ZERO, |view| view.released);
                let at = self.clock(i).wall;
                self.ghost.note_last(epoch, &self.nodes[i].log, upto, at);
            }
            Output::ResumeWrites(_) | Output::PromoteFailed(_) => {}
        }
    }

    fn send(&mut self, packet: Packet) {
        let (from, to) = (packet.from(), packet.to());
        let blank = matches!(&packet, Packet::Say { envelope, .. }
            if envelope.message == Message::Blank && !self.ghost.winners.is_empty());
        if self.alive(to).is_none() || blank || self.cut.contains(&(from, to)) {
            return self.end_stream_of(&packet);
        }
        if !self.bounds.rich {
            self.net.retain(|old| !old.replaced_by(&packet));
        }
        if self.net.len() < self.bounds.in_flight {
            self.net.push(packet);
        } else {
            self.end_stream_of(&packet);
        }
    }

    /// Beyond the bounds there is nothing to explore.
    pub fn out_of_bounds(&self) -> bool {
        // A forced promotion leaps; what counts is how often someone stood since.
        let used = |machine: &Machine| machine.promised().0 % (1 << 32);
        let epoch = |node: &Node| node.machine.as_ref().map(used);
        self.nodes.iter().filter_map(epoch).max().unwrap_or(0) > self.bounds.epochs
    }
}
