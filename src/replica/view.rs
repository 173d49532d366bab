//! What the machine shows: everything the node needs to serve, and `status` to tell.

use super::config::{Kind, Level, Mode};
use super::lag::Lag;
use super::machine::{LogView, Machine, Role};
use super::message::LogPos;
use super::rule::RecordedRule;
use crate::units::{Epoch, Lsn, Micros, NodeId};

/// What a node is, for those outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Not in any cluster yet.
    Blank,
    /// In the cluster, its vote and copies counted nowhere yet (R24), or by configuration never.
    Learner,
    /// Follows, or waits for a primary.
    Standby,
    /// Votes only.
    Witness,
    /// Stands for election.
    Candidate,
    /// Reigns.
    Primary,
}

/// Whether the mode that was asked for is the one in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModeState {
    /// It is.
    Ok,
    /// Semi-sync that goes on with the primary alone, recorded as such.
    FallenBack,
    /// A change of rule is under way, or the reign is young.
    Changing,
}

/// One standby as its primary sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StandbyView {
    /// Which.
    pub id: NodeId,
    /// Handed to its operating system.
    pub received: Lsn,
    /// Durable there.
    pub synced: Lsn,
    /// Visible there.
    pub applied: Lsn,
    /// Its copies count (R25).
    pub counted: bool,
}

impl StandbyView {
    /// What it holds at that level.
    pub fn at(&self, level: Level) -> Lsn {
        match level {
            Level::Received => self.received,
            Level::Synced => self.synced,
            Level::Applied => self.applied,
        }
    }
}

/// The machine at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// What this node is.
    pub standing: Standing,
    /// The highest epoch it promised to.
    pub epoch: Epoch,
    /// Its cluster.
    pub cluster: Option<u128>,
    /// Its incarnation of membership.
    pub incarnation: u64,
    /// The primary it knows: itself, or whose heartbeat it heard last.
    pub primary: Option<NodeId>,
    /// That primary is suspected.
    pub suspected: bool,
    /// A primary's: until when it may answer (R18).
    pub lease_until: Micros,
    /// A voter's: until when it promised not to elect another.
    pub promised_until: Micros,
    /// Safe to apply and to show: released, as far as known here.
    pub released: Lsn,
    /// The last LSN that replies may show; below `released` at level applied (R9).
    pub shown: Lsn,
    /// Async with `max_lag`: the last LSN that may be appended now, as far as the machine knows.
    pub append_limit: Option<Lsn>,
    /// The same as a rule for whoever appends.
    pub lag: Option<Lag>,
    /// EpochStart is in the log, so writes may be appended.
    pub begun: bool,
    /// EpochStart is released, so replies go out (R17).
    pub serving: bool,
    /// A switchover has paused writes.
    pub paused: bool,
    /// The rule in force (primary), or the newest recorded.
    pub rule: Option<RecordedRule>,
    /// Whether the mode asked for is in force.
    pub mode_state: ModeState,
    /// A primary's standbys.
    pub standbys: Vec<StandbyView>,
    /// A primary's: members that say they would not stand now.
    pub unfit: Vec<NodeId>,
    /// A primary's: the standby that it would hand over to; `None` where none could take over.
    pub successor: Option<NodeId>,
    /// A primary's: per voter, when the lease it promised ends.
    pub leases: Vec<(NodeId, Micros)>,
    /// Why this node does not take over although there is no primary.
    pub held_back: Option<String>,
    /// The log as the machine saw it last.
    pub log: LogView,
    /// What the reign shares with those before it.
    pub fork: Option<LogPos>,
    /// The host rebooted since this node last acknowledged (R14).
    pub rebooted: bool,
    /// It gave up its log for a full copy and has not caught up since (R14).
    pub incomplete: bool,
}

impl View {
    /// Of a node that knows nothing; for tests to fill in what they are about.
    #[cfg(test)]
    pub(crate) fn nothing() -> View {
        View {
            standing: Standing::Blank,
            epoch: Epoch::ZERO,
            cluster: None,
            incarnation: 0,
            primary: None,
            suspected: false,
            lease_until: Micros::ZERO,
            promised_until: Micros::ZERO,
            released: Lsn::ZERO,
            shown: Lsn::ZERO,
            append_limit: None,
            lag: None,
            begun: false,
            serving: false,
            paused: false,
            rule: None,
            mode_state: ModeState::Ok,
            standbys: Vec::new(),
            unfit: Vec::new(),
            successor: None,
            leases: Vec::new(),
            held_back: None,
            log: LogView::default(),
            fork: None,
            rebooted: false,
            incomplete: false,
        }
    }
}

impl Machine {
    /// What there is to see.
    pub fn view(&self) -> View {
        let reign = match &self.role {
            Role::Primary(reign) => Some(reign.as_ref()),
            _ => None,
        };
        let start = reign.and_then(|reign| reign.start);
        View {
            standing: self.standing(),
            epoch: self.control.promised,
            cluster: self.control.cluster,
            incarnation: self.control.incarnation,
            primary: match reign {
                Some(_) => Some(self.config.id),
                None => self.leader.map(|leader| leader.id),
            },
            suspected: self.suspicion.is_some(),
            lease_until: reign.map_or(Micros::ZERO, |reign| self.lease_until(reign)),
            promised_until: self.lease.until,
            released: self.released,
            shown: reign.map_or(self.released, |reign| self.shown(reign)),
            append_limit: reign.and_then(|reign| self.append_limit(reign)),
            lag: self.lag_kept(),
            begun: start.is_some(),
            serving: start.is_some_and(|start| self.released >= start.lsn),
            paused: reign.is_some_and(|reign| reign.handover.is_some()),
            rule: match reign {
                Some(reign) => reign.rule_in_force().cloned(),
                None => self.control.rule.clone(),
            },
            mode_state: self.mode_state(),
            standbys: self.standbys_view(),
            unfit: reign.map_or_else(Vec::new, |reign| reign.unfit.iter().copied().collect()),
            successor: reign.and_then(|reign| self.best_successor(reign)),
            leases: self.leases_view(),
            held_back: self.held_back.clone(),
            log: self.log,
            fork: reign.map(|reign| reign.report.fork),
            rebooted: self.rebooted,
            incomplete: self.control.incomplete,
        }
    }

    /// The lag budget to keep to now; a primary's.
    pub fn lag_kept(&self) -> Option<Lag> {
        match &self.role {
            Role::Primary(reign) => self.lag(reign),
            _ => None,
        }
    }

    fn standing(&self) -> Standing {
        match &self.role {
            Role::Primary(_) => Standing::Primary,
            Role::Standing(candidacy) if !candidacy.begin => Standing::Candidate,
            _ if self.control.cluster.is_none() => Standing::Blank,
            _ if self.config.own().kind == Kind::Witness && self.counts() => Standing::Witness,
            _ if !self.counts() && self.config.own().vote => Standing::Learner,
            _ => Standing::Standby,
        }
    }

    fn mode_state(&self) -> ModeState {
        let (rule, changing) = match &self.role {
            Role::Primary(reign) => (
                reign.rule_in_force(),
                reign.active.is_none() || reign.proposal.is_some(),
            ),
            _ => (self.control.rule.as_ref(), false),
        };
        let Some(recorded) = rule else {
            return ModeState::Changing;
        };
        let data = recorded
            .rule
            .voters
            .iter()
            .filter(|voter| voter.kind == Kind::Data)
            .count();
        let alone = recorded.rule.members.len() == 1 && data > 1;
        if self.config.mode == Mode::SemiSync && alone {
            ModeState::FallenBack
        } else if changing {
            ModeState::Changing
        } else {
            ModeState::Ok
        }
    }

    fn standbys_view(&self) -> Vec<StandbyView> {
        let Role::Primary(reign) = &self.role else {
            return Vec::new();
        };
        let rule = reign.rule_in_force();
        let view = |(id, cursor): (&NodeId, &super::reign::Cursor)| StandbyView {
            id: *id,
            received: cursor.received,
            synced: cursor.synced,
            applied: cursor.applied,
            counted: rule.is_some_and(|rule| rule.rule.counts(*id, cursor.incarnation)),
        };
        reign.standbys.iter().map(view).collect()
    }

    fn leases_view(&self) -> Vec<(NodeId, Micros)> {
        let Role::Primary(reign) = &self.role else {
            return Vec::new();
        };
        let span = self.config.lease_at_primary();
        reign
            .leases
            .iter()
            .map(|(id, promise)| (*id, promise.sent_at.plus(span)))
            .collect()
    }

    /// Whether an acknowledgement or a stream of this epoch is still this node's business.
    pub fn promised(&self) -> Epoch {
        self.control.promised
    }

    /// The control state as it would be persisted now.
    pub fn control(&self) -> &super::control::Control {
        &self.control
    }
}
