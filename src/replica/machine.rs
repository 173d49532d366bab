//! The machine itself: its state, its door (`handle`) and its way out (`poll_output`).
//!
//! The files beside this one each hold one of its concerns as further `impl Machine` blocks:
//! `vote` (what a voter promises), `election` (how a standby wins), `reign` (what a primary
//! does), `follow` (what a standby does), `loss` (what a takeover may have cost).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::config::{Config, Fixed, Kind, Mode};
use super::control::Control;
use super::election::{Candidacy, Force, Round, Suspicion};
use super::freshness::Freshness;
use super::guard::Guard;
use super::message::{Ballot, Envelope, LogPos, Message, Refusal, SeenBeat};
use super::reign::Reign;
use super::report::Report;
use super::rule::{RecordedRule, Rule, Voter};
use super::vote::{Asked, Lease};
use crate::units::{Epoch, Lsn, Micros, Millis, NodeId};

/// The two clocks, read once per entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Now {
    /// `CLOCK_BOOTTIME`: the only clock that timers and leases run on (R12).
    pub boot: Micros,
    /// Wall-clock: only stamped into heartbeats and reports.
    pub wall: Millis,
}

/// The log as its owner sees it: `applied` and `synced` never pass `written`, nor `written`
/// `appended`. (`synced` stands for whatever the fsync setting makes of it, R3.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogView {
    /// The last record in the buffer.
    pub appended: LogPos,
    /// Handed to the operating system.
    pub written: Lsn,
    /// Durable.
    pub synced: Lsn,
    /// Visible in the keyspace.
    pub applied: Lsn,
}

/// Everything the world may tell the machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time passed; due at the latest when `poll_deadline` said.
    Tick,
    /// A member said something.
    Message(Box<Envelope>),
    /// Control state of this generation, and all before it, is durable.
    Persisted(u64),
    /// The log moved. A truncation is told before anything is appended behind it.
    Log(LogView),
    /// `BeginReign` is done: everything is applied and EpochStart stands at this place.
    ReignBegun {
        /// The reign.
        epoch: Epoch,
        /// Where EpochStart stands.
        start: LogPos,
    },
    /// Primary: a standby's stream is matched and starts; its cursors start afresh (R4).
    Followed {
        /// The standby.
        standby: NodeId,
        /// Its incarnation of membership.
        incarnation: u64,
        /// The reign it matched with.
        epoch: Epoch,
        /// Number of the stream, rising with each handshake.
        stream: u64,
    },
    /// Primary: a standby acknowledged, on this stream.
    Ack {
        /// The standby.
        standby: NodeId,
        /// Number of the stream.
        stream: u64,
        /// What it acknowledged.
        ack: Ack,
    },
    /// Primary: a standby's stream broke.
    StreamLost {
        /// The standby.
        standby: NodeId,
        /// Number of the stream.
        stream: u64,
    },
    /// Standby: the stream of this epoch's primary is matched: every record in the log is the
    /// primary's, and so is every record that comes until the next epoch.
    Matched {
        /// The reign.
        epoch: Epoch,
    },
    /// Standby: the stream said what is released.
    Released {
        /// The reign.
        epoch: Epoch,
        /// Released there.
        released: Lsn,
    },
    /// This node saw with its own eyes that the peer's process is dead: its connection closed, and
    /// a fresh connect was refused or answered by another process (R15).
    ProcessGone {
        /// The peer.
        peer: NodeId,
        /// The process that is gone.
        process: u64,
    },
    /// Whether this node could serve (not loading, repairing, out of disk).
    Fit(bool),
    /// The log is to be given up for a full copy. It may be once [`Machine::following`] names the
    /// primary again: then this is durable (R14).
    GiveUpLog,
    /// Primary with `max_lag` in bytes or time, which only the owner of the records can measure:
    /// counted from `base`, the budget ends behind `limit`. To be told after whatever moved
    /// either.
    LagReach {
        /// What [`View::lag`](super::view::View::lag) named.
        base: Lsn,
        /// The last record within the budget.
        limit: Lsn,
    },
    /// This node must not go on as primary; for a person, why.
    StepDown(String),
    /// Hand over, to this standby or the best.
    Switchover(Option<NodeId>),
    /// `PauseWrites` is done: no write is appended any more.
    WritesPaused,
    /// A person orders a takeover past the loss budget, declaring members lost (R22).
    Promote(Vec<NodeId>),
}

/// What a standby acknowledges (R4): it holds everything up to these, of the history it matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ack {
    /// The reign it follows.
    pub epoch: Epoch,
    /// Handed to its operating system.
    pub received: Lsn,
    /// Durable there.
    pub synced: Lsn,
    /// Visible there.
    pub applied: Lsn,
}

/// Everything the machine may ask of the world, to be done in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Make this control state durable, then give `Persisted(generation)`. A later one replaces
    /// an earlier one that was not begun.
    Persist {
        /// Rises by one each time.
        generation: u64,
        /// The whole control state.
        control: Box<Control>,
    },
    /// Say this; loss and reordering are allowed.
    Send {
        /// To whom.
        to: NodeId,
        /// With the sender's name on it.
        envelope: Box<Envelope>,
    },
    /// Stop following, apply the whole log, append EpochStart, give `ReignBegun`.
    BeginReign {
        /// The new reign.
        epoch: Epoch,
    },
    /// The reign is over: answer waiting clients, drop what is unreleased (R19).
    EndReign {
        /// The reign that ended.
        epoch: Epoch,
        /// Handed over: the successor holds everything up to here, which is released, so that
        /// what was executed before may still be answered.
        settled: Option<Lsn>,
        /// For a person.
        why: String,
    },
    /// Stop appending writes, then give `WritesPaused`.
    PauseWrites,
    /// Go on appending writes: the switchover failed; for a person, why.
    ResumeWrites(String),
    /// Acknowledge on the stream of this epoch's primary.
    Acknowledge {
        /// The primary.
        to: NodeId,
        /// What.
        ack: Ack,
    },
    /// A forced promotion came to nothing; for a person, why.
    PromoteFailed(String),
    /// Keep this, replacing an earlier report of the same epoch.
    Report(Box<Report>),
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// Follows, or waits for someone to follow.
    Follower,
    /// Asks around before it stands.
    Asking(Round),
    /// Stands for election.
    Standing(Candidacy),
    /// Reigns.
    Primary(Box<Reign>),
}

/// The primary this node follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    pub(super) id: NodeId,
    pub(super) epoch: Epoch,
    pub(super) process: u64,
    pub(super) last_beat: Micros,
    /// Released there, as last told.
    pub(super) released: Lsn,
}

/// The takeover machine of one node. See the module's page for the contract.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    pub(super) config: Fixed<Config>,
    pub(super) control: Control,
    /// Rises with each change of `control`.
    pub(super) generation: u64,
    /// The newest generation known to be durable.
    pub(super) persisted: u64,
    /// The newest generation that changed what this node may store and acknowledge.
    pub(super) binding: u64,
    pub(super) log: LogView,
    pub(super) role: Role,
    /// What this node promised as a voter.
    pub(super) lease: Lease,
    /// Oldest own answer to a heartbeat that no heartbeat has echoed yet (R16).
    pub(super) unseen_answer: Option<(u64, Micros)>,
    /// How old what is read here can be.
    pub(super) freshness: Freshness,
    /// The newest reign known to have ended by abdication (R20).
    pub(super) abdicated: Epoch,
    pub(super) leader: Option<Leader>,
    /// When this node last had reason to believe in a primary.
    pub(super) quiet_since: Micros,
    pub(super) seen: Option<SeenBeat>,
    /// The reign whose history this log is known to be a prefix of.
    pub(super) matched: Option<Epoch>,
    /// Safe to apply (R23); on a primary, released.
    pub(super) released: Lsn,
    pub(super) last_ack: Ack,
    pub(super) rebooted: bool,
    pub(super) fit: bool,
    pub(super) suspicion: Option<Suspicion>,
    pub(super) next_try: Micros,
    pub(super) round: u64,
    pub(super) force: Option<Force>,
    pub(super) refusals: BTreeMap<NodeId, Refusal>,
    /// Why this node does not take over although it would like to; for `status`.
    pub(super) held_back: Option<String>,
    /// Pre-votes refused for a live lease; answered again when it ends.
    pub(super) deferred: BTreeMap<NodeId, Asked>,
    /// Blank members, and when they last said so (R24).
    pub(super) blank_seen: BTreeMap<NodeId, Micros>,
    pub(super) next_blank: Micros,
    pub(super) outputs: VecDeque<Output>,
    /// Messages that wait until the control state of this generation is durable (R1).
    pub(super) unsaid: VecDeque<(u64, NodeId, Message)>,
    /// The rule that a mutant leaves out.
    #[cfg(feature = "mutants")]
    pub(super) without: Option<Guard>,
}

impl Machine {
    /// A machine that has just started with what its disk held: its control state (or a blank
    /// one), and the end of its log.
    ///
    /// # Panics
    /// If the configuration does not list this node.
    pub fn new(config: Arc<Config>, control: Option<Control>, log: LogView, now: Now) -> Machine {
        assert!(
            config.member(config.id).is_some(),
            "node {} is not among the members",
            config.id
        );
        let control =
            control.unwrap_or_else(|| Control::blank(config.new_incarnation, config.boot));
        // R12: a voter that restarted no longer knows to whom it promised; it waits out the
        // longest lease it ever promised before it votes for anyone, itself included.
        let lease = Lease::to_someone(now.boot.plus(control.longest_lease));
        // R14. An empty log is no excuse: the reboot may have emptied it.
        let data = config.own().kind == Kind::Data;
        let rebooted = data && control.boot != config.boot;
        // Who has no other member to hear of has been listening for long enough.
        let listens = match config.others().next() {
            Some(_) => Micros::ZERO,
            None => config.worst_case_detection(),
        };
        Machine {
            config: Fixed(config),
            control,
            generation: 0,
            persisted: 0,
            binding: 0,
            log,
            role: Role::Follower,
            lease,
            unseen_answer: None,
            freshness: Freshness::default(),
            abdicated: Epoch::ZERO,
            leader: None,
            quiet_since: Micros(now.boot.0.saturating_sub(listens.0)),
            seen: None,
            matched: None,
            released: Lsn::ZERO,
            last_ack: Ack::default(),
            rebooted,
            fit: true,
            suspicion: None,
            next_try: now.boot,
            round: 0,
            force: None,
            refusals: BTreeMap::new(),
            held_back: None,
            deferred: BTreeMap::new(),
            blank_seen: BTreeMap::new(),
            next_blank: now.boot,
            outputs: VecDeque::new(),
            unsaid: VecDeque::new(),
            #[cfg(feature = "mutants")]
            without: None,
        }
    }

    /// Takes one input. Outputs are then waiting in `poll_output`.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Tick => {}
            Input::Message(envelope) => self.hear(now, *envelope),
            Input::Persisted(generation) => self.on_persisted(generation),
            Input::Log(view) => self.on_log(view),
            Input::ReignBegun { epoch, start } => self.on_reign_begun(now, epoch, start),
            Input::Followed {
                standby,
                incarnation,
                epoch,
                stream,
            } => {
                self.on_followed(standby, incarnation, epoch, stream);
            }
            Input::Ack {
                standby,
                stream,
                ack,
            } => self.on_ack(standby, stream, ack),
            Input::StreamLost { standby, stream } => self.on_stream_lost(standby, stream),
            Input::Matched { epoch } => self.on_matched(epoch),
            Input::Released { epoch, released } => self.on_released_told(epoch, released),
            Input::ProcessGone { peer, process } => self.on_process_gone(now, peer, process),
            Input::Fit(fit) => self.fit = fit,
            Input::GiveUpLog => {
                self.matched = None;
                self.change_control(|control| control.incomplete = true);
            }
            Input::LagReach { base, limit } => self.on_lag_reach(base, limit),
            Input::StepDown(why) => self.step_down(now, &why, None),
            Input::Switchover(to) => self.on_switchover(now, to),
            Input::WritesPaused => self.on_writes_paused(),
            Input::Promote(lost) => self.on_promote(now, lost),
        }
        self.follow_progress();
        self.reign_progress(now);
        self.election_progress(now);
        self.check();
    }

    /// The next thing to do, in order; `None` when all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When `Input::Tick` is due at the latest.
    pub fn poll_deadline(&self) -> Micros {
        match &self.role {
            Role::Primary(reign) => self.reign_deadline(reign),
            _ => self.election_deadline(),
        }
    }

    fn hear(&mut self, now: Now, envelope: Envelope) {
        let Envelope {
            from,
            cluster,
            incarnation,
            message,
        } = envelope;
        if self.config.member(from).is_none() || from == self.config.id {
            return;
        }
        // A member of another cluster is never heard; a blank one is heard by whoever it asks.
        if let (Some(own), Some(theirs)) = (self.control.cluster, cluster)
            && own != theirs
        {
            return;
        }
        match message {
            Message::Beat(beat) => self.on_beat(now, from, cluster, beat),
            Message::BeatAnswer(answer) => self.on_beat_answer(now, from, incarnation, answer),
            Message::PreVote {
                epoch: _,
                log,
                founding,
                round,
            } => {
                self.join_founding(cluster, founding);
                self.on_pre_vote(now, from, Asked { round, log });
            }
            Message::PreVoteAnswer {
                round,
                refused,
                ballot,
            } => {
                self.on_pre_vote_answer(now, from, round, refused, ballot);
            }
            Message::Vote {
                epoch,
                log,
                founding,
                begin,
            } => {
                self.join_founding(cluster, founding);
                let candidate = (from, incarnation);
                self.on_vote(now, candidate, epoch, log, begin);
            }
            Message::VoteAnswer {
                epoch,
                candidate,
                refused,
                ballot,
            } => {
                // R11: what was said to the disk before this one is no answer to this candidacy.
                if candidate == self.control.incarnation || !self.keeps(Guard::R11Disk) {
                    self.on_vote_answer(now, from, epoch, refused, ballot);
                }
            }
            Message::Propose { epoch, rule } => self.on_propose(now, from, cluster, epoch, rule),
            Message::Recorded { epoch, rule } => {
                self.on_recorded(from, incarnation, epoch, rule);
            }
            Message::Abdicate { epoch, to } => self.on_abdicate(now, from, epoch, to),
            Message::Blank => {
                self.blank_seen.insert(from, now.boot);
            }
        }
    }

    /// R29: after a lossy promotion a log may lose records that this node knew to be released
    /// under the old reign. What comes in their place is not released until this reign says so:
    /// an old value kept here would show it to readers, and outlive this node's own election.
    fn on_log(&mut self, view: LogView) {
        self.log = view;
        if !matches!(self.role, Role::Primary(_)) && self.keeps(Guard::R29) {
            self.released = self.released.min(view.appended.lsn);
        }
        self.note_freshness();
    }

    /// Changes the control state and asks for it to be made durable.
    pub(super) fn change_control(&mut self, change: impl FnOnce(&mut Control)) {
        let before = self.control.clone();
        change(&mut self.control);
        if self.control == before {
            return;
        }
        assert!(
            self.control.promised >= before.promised,
            "a promise is never taken back"
        );
        self.generation += 1;
        if self.control.binds_otherwise(&before) {
            self.binding = self.generation;
        }
        self.outputs.push_back(Output::Persist {
            generation: self.generation,
            control: Box::new(self.control.clone()),
        });
    }

    /// Promises a higher epoch: whatever role this node had in a lower one is over.
    pub(super) fn adopt_epoch(&mut self, now: Now, epoch: Epoch, why: &str) {
        if epoch <= self.control.promised {
            return;
        }
        if self.keeps(Guard::R18Epoch) || !matches!(self.role, Role::Primary(_)) {
            self.end_reign(now, why);
            self.role = Role::Follower;
        }
        self.change_control(|control| {
            control.promised = epoch;
            control.vote = None;
        });
        if self.leader.is_some_and(|leader| leader.epoch < epoch) {
            self.leader = None;
        }
    }

    /// R1: says it once everything the node knows is durable.
    pub(super) fn say(&mut self, to: NodeId, message: Message) {
        if self.generation == self.persisted || !self.keeps(Guard::R1) {
            self.say_at_once(to, message);
        } else {
            self.unsaid.push_back((self.generation, to, message));
        }
    }

    /// Says what depends on nothing that is not durable yet.
    pub(super) fn say_at_once(&mut self, to: NodeId, message: Message) {
        let envelope = Envelope {
            from: self.config.id,
            cluster: self.control.cluster,
            incarnation: self.control.incarnation,
            message,
        };
        self.outputs.push_back(Output::Send {
            to,
            envelope: Box::new(envelope),
        });
    }

    fn on_persisted(&mut self, generation: u64) {
        assert!(
            generation <= self.generation,
            "persisted what was never asked for"
        );
        self.persisted = self.persisted.max(generation);
        while let Some((needs, _, _)) = self.unsaid.front() {
            if *needs > self.persisted {
                break;
            }
            if let Some((_, to, message)) = self.unsaid.pop_front() {
                self.say_at_once(to, message);
            }
        }
    }

    /// Whether this node's vote and copies count, as far as it knows (R24, R25).
    pub(super) fn counts(&self) -> bool {
        let rule = self.control.rule.as_ref();
        self.control.cluster.is_some()
            && rule.is_some_and(|recorded| {
                recorded
                    .rule
                    .counts(self.config.id, self.control.incarnation)
            })
    }

    pub(super) fn is_data(&self) -> bool {
        self.config.own().kind == Kind::Data
    }

    /// The voters of the newest recorded rule, this node left out.
    pub(super) fn other_voters(&self) -> Vec<NodeId> {
        let recorded = self.control.rule.as_ref();
        let voters = recorded
            .map(|recorded| recorded.rule.voters.as_slice())
            .unwrap_or_default();
        voters
            .iter()
            .map(|voter| voter.id)
            .filter(|id| *id != self.config.id)
            .collect()
    }

    /// What this node tells about itself with a vote.
    pub(super) fn ballot(&self) -> Ballot {
        Ballot {
            log: if self.is_data() {
                self.log.appended
            } else {
                LogPos::default()
            },
            rule: self.control.rule.clone(),
            incarnation: self.control.incarnation,
            rebooted: self.rebooted,
            incomplete: self.control.incomplete,
            seen: self.seen,
            promised: self.control.promised,
        }
    }

    /// The founding rule, to be shown to blank voters that it lists.
    pub(super) fn founding_rule(&self) -> Option<RecordedRule> {
        self.control
            .rule
            .clone()
            .filter(|recorded| recorded.rule.founding)
    }

    /// A blank voter that the founding rule lists under its present incarnation has forgotten
    /// nothing: it said yes to this cluster's beginning and has heard nothing since.
    fn join_founding(&mut self, cluster: Option<u128>, founding: Option<RecordedRule>) {
        let (id, incarnation) = (self.config.id, self.control.incarnation);
        let Some(recorded) = founding else { return };
        if self.counts() || cluster.is_none() || !recorded.rule.founding {
            return;
        }
        if recorded.rule.counts(id, incarnation) && self.control.rule_id() < Some(recorded.id) {
            self.change_control(|control| {
                control.cluster = cluster;
                control.rule = Some(recorded);
            });
        }
    }

    fn check(&self) {
        let log = &self.log;
        let ordered = log.synced <= log.written && log.written <= log.appended.lsn;
        assert!(ordered, "log cursors out of order: {log:?}");
        if let Role::Primary(reign) = &self.role {
            assert_eq!(
                reign.epoch, self.control.promised,
                "a reign outlived its epoch"
            );
            assert!(
                self.released <= log.appended.lsn,
                "released what is not appended: {self:?}"
            );
        }
    }

    /// What the mode asks for with these voters.
    pub(super) fn desired_rule(&self, voters: &[Voter], lost: &[Voter]) -> Rule {
        let config = &self.config;
        let data: Vec<NodeId> = voters
            .iter()
            .filter(|voter| voter.kind == Kind::Data)
            .map(|voter| voter.id)
            .collect();
        let data_nodes = data.len() as u32;
        let (members, copies, level) = match config.mode {
            Mode::Async => (vec![config.id], 1, config.mode.level()),
            Mode::SemiSync => (
                data,
                (1 + config.acks).min(data_nodes),
                config.level.unwrap_or(config.mode.level()),
            ),
            Mode::Sync => {
                let majority = (data_nodes / 2 + 1).max(2.min(data_nodes));
                let copies = config.copies.unwrap_or(majority).min(data_nodes);
                (data, copies, config.level.unwrap_or(config.mode.level()))
            }
        };
        Rule {
            members,
            copies: copies.max(1),
            level,
            max_lag: self.lag_budget(voters),
            voters: voters.to_vec(),
            lost: lost.to_vec(),
            founding: false,
        }
    }

    /// The rule that asks for this node alone.
    pub(super) fn alone_rule(&self, like: &Rule) -> Rule {
        let mut rule = self.desired_rule(&like.voters, &like.lost);
        rule.members = vec![self.config.id];
        rule.copies = 1;
        rule.founding = like.founding;
        rule
    }
}

#[cfg(test)]
impl Machine {
    /// One of three data nodes in sync mode, with nothing on its disk.
    pub(super) fn of_three(id: u32) -> Machine {
        Machine::of(id, 3)
    }

    /// A node without others, with nothing on its disk.
    pub(super) fn alone() -> Machine {
        Machine::of(1, 1)
    }

    fn of(id: u32, data_nodes: u32) -> Machine {
        use super::config::{Kind, MaxLoss, Member, Mode};
        use crate::units::Millis;
        let members = (1..=data_nodes).map(|id| Member {
            id: NodeId(id),
            kind: Kind::Data,
            vote: true,
            priority: 1,
        });
        let config = Config {
            id: NodeId(id),
            members: members.collect(),
            mode: Mode::Sync,
            level: None,
            copies: None,
            acks: 1,
            semi_sync_timeout: Micros::from_ms(1000),
            max_lag: None,
            max_loss: MaxLoss::Nothing,
            interval: Micros::from_ms(100),
            timeout: Micros::from_ms(100),
            threshold: 5,
            lease: Micros::from_ms(800),
            refused_is_dead: true,
            bootstrap: false,
            new_cluster_id: 1,
            new_incarnation: u64::from(id),
            process: u64::from(id),
            boot: 1,
        };
        let now = Now {
            boot: Micros::ZERO,
            wall: Millis(0),
        };
        Machine::new(Arc::new(config), None, LogView::default(), now)
    }
}
