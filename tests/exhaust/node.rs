//! One node: the real machine, its disk and its log; and one step of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use understudy::replica::{
    Ack, Config, Control, Envelope, Input, Kind, Level, LogPos, LogView, Machine, MaxLoss, Member,
    Message, Mode, Now, Output, RuleId,
};
use understudy::units::{Epoch, Lsn, Micros, Millis, NodeId};

use super::message::{Body, Msg, NOW};

/// The cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub data: usize,
    pub witnesses: usize,
    pub mode: Mode,
    #[cfg(feature = "mutants")]
    pub without: Option<understudy::replica::Guard>,
    configs: Vec<Vec<Arc<Config>>>,
}

pub fn id(i: usize) -> NodeId {
    NodeId(i as u32 + 1)
}

fn now() -> Now {
    Now {
        boot: NOW,
        wall: Millis(0),
    }
}

pub fn incarnation(i: usize, wipes: u8) -> u64 {
    i as u64 + 1 + 100 * u64::from(wipes)
}

/// The number of the stream that a disk's acknowledgements belong to.
pub fn stream(incarnation: u64) -> u64 {
    1 + incarnation / 100
}

/// One number for all processes of a node: see `World::end_vain_promises` for what R15 comes to.
fn process(i: usize) -> u64 {
    i as u64 + 1
}

/// More disks of one node than any search allows.
const DISKS: u8 = 6;

impl Cluster {
    pub fn new(data: usize, witnesses: usize, mode: Mode) -> Cluster {
        let mut cluster = Cluster {
            data,
            witnesses,
            mode,
            #[cfg(feature = "mutants")]
            without: None,
            configs: Vec::new(),
        };
        for i in 0..cluster.size() {
            let configs = (0..DISKS).map(|wipes| Arc::new(cluster.config(i, wipes)));
            cluster.configs.push(configs.collect());
        }
        cluster
    }

    pub fn size(&self) -> usize {
        self.data + self.witnesses
    }

    /// Whether votes count by disk (R11): what is merged because of a rule is not merged without it.
    pub fn counts_votes_by_disk(&self) -> bool {
        #[cfg(feature = "mutants")]
        return self.without != Some(understudy::replica::Guard::R11Disk);
        #[cfg(not(feature = "mutants"))]
        true
    }

    fn config(&self, i: usize, wipes: u8) -> Config {
        let members = (0..self.size()).map(|i| Member {
            id: id(i),
            kind: if i < self.data {
                Kind::Data
            } else {
                Kind::Witness
            },
            vote: true,
            priority: 1,
        });
        Config {
            id: id(i),
            members: members.collect(),
            mode: self.mode,
            level: Some(Level::Synced),
            copies: None,
            acks: 1,
            semi_sync_timeout: Micros::from_ms(1000),
            max_lag: None,
            max_loss: MaxLoss::Nothing,
            interval: Micros::from_ms(400),
            timeout: Micros::from_ms(100),
            threshold: 1,
            lease: Micros::from_ms(800),
            refused_is_dead: true,
            bootstrap: false,
            new_cluster_id: 77,
            new_incarnation: incarnation(i, wipes),
            process: process(i),
            boot: 1,
        }
    }

    pub fn node(&self, i: usize) -> Node {
        let config = self.configs[i][0].clone();
        Node {
            machine: self.machine(config, None, LogView::default()),
            disk: None,
            pending: false,
            log: Vec::new(),
            synced: 0,
            begin: None,
            stream: None,
            wipes: 0,
            past: Vec::new(),
        }
    }

    fn machine(&self, config: Arc<Config>, disk: Option<Control>, log: LogView) -> Machine {
        let machine = Machine::new(config, disk, log, now());
        #[cfg(feature = "mutants")]
        let machine = machine.leaving_out(self.without);
        machine
    }

    fn restart(&self, i: usize, node: &mut Node, wipe: bool) {
        node.log.truncate(node.synced);
        if wipe {
            let recorded = node.disk.as_ref().and_then(Control::rule_id);
            node.past.extend(recorded.map(|recorded| Past {
                incarnation: incarnation(i, node.wipes),
                recorded,
            }));
            node.wipes += 1;
            node.disk = None;
            node.log.clear();
        }
        node.synced = node.log.len();
        (node.pending, node.begin, node.stream) = (false, None, None);
        let config = self.configs[i][usize::from(node.wipes)].clone();
        node.machine = self.machine(config, node.disk.clone(), node.log_view());
    }
}

/// What a replaced disk had recorded: a voter that was counted stays counted (R25).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Past {
    pub incarnation: u64,
    pub recorded: RuleId,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub machine: Machine,
    pub disk: Option<Control>,
    /// The machine's control state is on its way to the disk.
    pub pending: bool,
    /// The epoch of each record, LSN 1 first.
    pub log: Vec<Epoch>,
    pub synced: usize,
    pub begin: Option<Epoch>,
    /// The reign whose stream feeds this log.
    pub stream: Option<Epoch>,
    pub wipes: u8,
    pub past: Vec<Past>,
}

/// Everything that may happen to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Hear(u32),
    Persist,
    Sync,
    Write,
    Begin,
    Beat,
    /// `semi_sync_timeout` is over.
    FallBack,
    /// The credit for the lease promised by this voter ends.
    EndCredit(usize),
    /// The own promise ends.
    EndPromise,
    /// Impatient twice: asks around.
    Ask,
    StopAsking,
    /// Takes that node's process for gone.
    Gone(usize),
    Abdicate,
    Switchover,
    /// A standby's stream is matched; how many disks it had before; the reign.
    Followed(usize, u8, Epoch),
    /// The log is matched with the reign's and keeps so many records.
    Match(Epoch, usize),
    /// One record of this epoch arrives; with `true`, it is synced at once.
    Append(Epoch, bool),
    Crash,
    Wipe,
    /// No oracle can ask any more what replaced disks of this node had recorded.
    ForgetPast,
    /// A primary forgets what it has no more use for: are more rules to come, and more orders?
    Content {
        rules: bool,
        orders: bool,
    },
    /// Forgets a leader whose reign is over, or its stream only.
    ForgetLeader,
    ForgetStream,
}

/// What a step came to.
#[derive(Debug)]
pub struct Ran {
    pub node: Node,
    pub sends: Vec<Msg>,
    pub won: Option<Epoch>,
    pub fault: Option<String>,
}

impl Node {
    pub fn log_view(&self) -> LogView {
        LogView {
            appended: LogPos {
                epoch: self.log.last().copied().unwrap_or(Epoch::ZERO),
                lsn: Lsn(self.log.len() as u64),
                time: Millis(0),
            },
            written: Lsn(self.log.len() as u64),
            synced: Lsn(self.synced as u64),
            applied: Lsn::ZERO,
        }
    }
}

impl Ran {
    /// Carries out `step` at node `i`, down to the canonical form.
    pub fn step(cluster: &Cluster, i: usize, node: &Node, step: Step, heard: Option<&Msg>) -> Ran {
        let mut ran = Ran::new(node.clone());
        ran.take(cluster, i, step, heard);
        if step != Step::Ask && !heard.is_some_and(Msg::is_reply_to_question) {
            ran.node.machine.stop_asking();
            ran.sends.retain(|msg| !msg.is_question());
        }
        ran.node.machine.canonical(NOW);
        let following = ran.node.machine.following().map(|(_, epoch)| epoch);
        ran.node.stream = ran.node.stream.filter(|epoch| Some(*epoch) == following);
        ran
    }

    pub fn new(node: Node) -> Ran {
        Ran {
            node,
            sends: Vec::new(),
            won: None,
            fault: None,
        }
    }

    fn take(&mut self, cluster: &Cluster, i: usize, step: Step, heard: Option<&Msg>) {
        let node = &mut self.node;
        let input = match step {
            Step::Hear(_) => heard.map(hearing).unwrap_or(Input::Tick),
            Step::Persist => return self.persist(i),
            Step::Sync => {
                node.synced = node.log.len();
                Input::Log(node.log_view())
            }
            Step::Write => {
                node.log.push(node.machine.promised());
                Input::Log(node.log_view())
            }
            Step::Begin => return self.begin(i),
            Step::Beat => {
                node.machine.make_beat_due();
                Input::Tick
            }
            Step::FallBack => {
                node.machine.end_patience();
                Input::Tick
            }
            Step::EndCredit(voter) => {
                node.machine.end_credit(id(voter));
                Input::Tick
            }
            Step::EndPromise => {
                node.machine.end_promise();
                Input::Tick
            }
            Step::Ask => {
                node.machine.make_impatient();
                self.input(i, Input::Tick);
                if self.node.machine.outline(NOW).asking {
                    return;
                }
                self.node.machine.make_impatient();
                Input::Tick
            }
            Step::StopAsking => {
                node.machine.stop_asking();
                return;
            }
            Step::Gone(peer) => Input::ProcessGone {
                peer: id(peer),
                process: process(peer),
            },
            Step::Abdicate => Input::StepDown(String::new()),
            Step::Switchover => Input::Switchover(None),
            Step::Followed(standby, wipes, epoch) => Input::Followed {
                standby: id(standby),
                incarnation: incarnation(standby, wipes),
                epoch,
                stream: stream(incarnation(standby, wipes)),
            },
            Step::Match(epoch, keep) => {
                node.log.truncate(keep);
                node.synced = node.synced.min(keep);
                node.stream = Some(epoch);
                let view = node.log_view();
                self.input(i, Input::Log(view));
                Input::Matched { epoch }
            }
            Step::Append(epoch, sync) => {
                node.log.push(epoch);
                if sync {
                    node.synced = node.log.len();
                }
                Input::Log(node.log_view())
            }
            Step::Crash => return cluster.restart(i, node, false),
            Step::Wipe => return cluster.restart(i, node, true),
            Step::ForgetPast => {
                node.past.clear();
                return;
            }
            Step::Content { rules, orders } => {
                let epoch = node.machine.promised();
                for voter in node.machine.make_content(rules, orders) {
                    let (standby, incarnation) = (voter.id, voter.incarnation);
                    let stream = stream(incarnation);
                    self.input(
                        i,
                        Input::Followed {
                            standby,
                            incarnation,
                            epoch,
                            stream,
                        },
                    );
                }
                return;
            }
            Step::ForgetLeader => {
                node.machine.forget_leader();
                return;
            }
            Step::ForgetStream => {
                node.machine.forget_stream();
                node.stream = None;
                return;
            }
        };
        self.input(i, input);
    }

    fn begin(&mut self, i: usize) {
        let Some(epoch) = self.node.begin.take() else {
            return;
        };
        self.node.log.push(epoch);
        self.node.stream = None;
        let view = self.node.log_view();
        self.input(i, Input::Log(view));
        let start = view.appended;
        self.input(i, Input::ReignBegun { epoch, start });
    }

    pub fn persist(&mut self, i: usize) {
        let node = &mut self.node;
        if !std::mem::take(&mut node.pending) {
            return;
        }
        let new = node.machine.control().clone();
        if let Some(old) = &node.disk {
            let same = old.promised == new.promised && old.vote.is_some() && old.vote != new.vote;
            if new.promised < old.promised || same {
                self.fault = Some(format!("node {} took a promise or a vote back", i + 1));
            }
        }
        node.disk = Some(new);
        let newest = node.machine.newest_generation();
        self.input(i, Input::Persisted(newest));
    }

    /// Gives one input and carries out what it asks for. A control state is made durable in the
    /// same step when nothing was said before it: a crash in between is then a crash before.
    pub fn input(&mut self, i: usize, input: Input) {
        let said = self.sends.len();
        let machine = &mut self.node.machine;
        let name = format!("{input:?}");
        if catch_unwind(AssertUnwindSafe(|| machine.handle(now(), input))).is_err() {
            self.fault = Some(format!("node {} panicked on {name}", i + 1));
            return;
        }
        let mut pause = false;
        while let Some(output) = self.node.machine.poll_output() {
            match output {
                Output::Persist { .. } => self.node.pending = true,
                Output::Send { to, envelope } => self.send(i, to, envelope),
                Output::BeginReign { epoch } => {
                    self.node.begin = Some(epoch);
                    self.node.stream = None;
                    self.won = Some(epoch);
                }
                Output::EndReign { .. } => self.node.begin = None,
                Output::Acknowledge { to, ack } => {
                    if self.node.stream == Some(ack.epoch) {
                        let own = incarnation(i, self.node.wipes);
                        let (to, body) = (to.0 as usize - 1, plain_ack(ack, own));
                        self.sends.push(Msg { from: i, to, body });
                    }
                }
                Output::PauseWrites => pause = true,
                Output::Report(_) | Output::ResumeWrites(_) | Output::PromoteFailed(_) => {}
            }
        }
        if pause {
            self.input(i, Input::WritesPaused);
        }
        if self.node.pending && self.sends.len() == said {
            self.persist(i);
        }
    }

    /// R1: what is said is durable.
    fn send(&mut self, i: usize, to: NodeId, envelope: Box<Envelope>) {
        let disk = self.node.disk.as_ref();
        let promised = disk.map_or(Epoch::ZERO, |disk| disk.promised);
        let voted = |epoch: Epoch, whom: NodeId| {
            promised > epoch || (promised == epoch && disk.and_then(|d| d.vote) == Some(whom))
        };
        let durable = match &envelope.message {
            Message::VoteAnswer { epoch, refused, .. } => refused.is_some() || voted(*epoch, to),
            Message::Vote { epoch, .. } => voted(*epoch, envelope.from),
            Message::Recorded { rule, .. } => disk.and_then(Control::rule_id) >= Some(*rule),
            Message::BeatAnswer(answer) => !answer.lease || promised >= answer.epoch,
            _ => true,
        };
        if !durable {
            let message = &envelope.message;
            self.fault = Some(format!("node {} said before durable: {message:?}", i + 1));
        }
        self.sends.extend(Msg::say(to.0 as usize - 1, envelope));
    }
}

fn plain_ack(mut ack: Ack, incarnation: u64) -> Body {
    ack.applied = Lsn::ZERO;
    let stream = stream(incarnation);
    Body::Ack { stream, ack }
}

pub fn hearing(msg: &Msg) -> Input {
    match &msg.body {
        Body::Say(envelope) => Input::Message(envelope.clone()),
        Body::Ack { stream, ack } => Input::Ack {
            standby: id(msg.from),
            stream: *stream,
            ack: *ack,
        },
    }
}
