//! What this node knows of who is there: the primary by its heartbeats, the other members by its own
//! control connections to them. For Sentinel's answers and news; nothing is decided by it.
//!
//! Promises: nothing here is guessed. What another node knows and this one does not (whether a standby
//! follows, for anyone but the two; whether a member that owes this node no answers is frozen) is not
//! claimed. It is drawn from what the driver hears anyway: no message is sent for it.

use std::collections::BTreeMap;

use super::config::Settings;
use super::driver::{Node, NodeEvent};
use crate::replica::{Input, Message, Standing, View};
use crate::units::{Epoch, Micros, NodeId};

/// One other member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// This node's control connection to it is open.
    pub linked: bool,
    /// Since when it is, or is not.
    pub linked_since: Micros,
    /// It was open once since this node started.
    pub met: bool,
    /// Its host answers that no process listens there.
    refused: bool,
    /// When it said something last.
    pub heard: Option<Micros>,
    /// Since when it counts as down. Of the primary, [`Outlook::down`] tells.
    pub down: Option<Micros>,
    /// Since when it has the role that it has.
    pub role_since: Micros,
    /// The reign in which it follows the primary, where this node is one of the two.
    pub follows: Option<Epoch>,
    /// Since when it does, or does not.
    pub follows_since: Micros,
}

impl Presence {
    /// A connection to it is open, or one of its own as a standby.
    pub fn reached(&self) -> bool {
        self.linked || self.follows.is_some()
    }
}

/// Everything of it.
#[derive(Clone, Debug, Default)]
pub struct Outlook {
    /// The newest primary that was known, also after it is gone.
    pub primary: Option<NodeId>,
    /// The epoch it reigns in.
    pub reign: Epoch,
    /// Since when this node takes it for down.
    pub down: Option<Micros>,
    /// Since when a majority of voters is known to.
    pub agreed: Option<Micros>,
    /// A takeover is under way: this node stands, hands over, or knows that the primary's reign is over.
    pub failover: bool,
    /// The members, this one among them.
    pub members: BTreeMap<NodeId, Presence>,
    /// The highest epoch promised.
    epoch: Option<Epoch>,
    /// The newest reign that ended by the primary's own word.
    abdicated: Epoch,
}

/// After how long without a sign of life a member counts as down: as long as a silent primary does.
pub fn down_after(settings: &Settings) -> Micros {
    let worst = settings.interval * settings.threshold + settings.timeout;
    Micros(worst.as_micros() as u64)
}

impl Outlook {
    pub(super) fn new(members: impl Iterator<Item = NodeId>, now: Micros) -> Outlook {
        let unknown = Presence {
            linked_since: now,
            role_since: now,
            follows_since: now,
            ..Presence::default()
        };
        Outlook {
            members: members.map(|id| (id, unknown)).collect(),
            ..Outlook::default()
        }
    }

    /// Notes what an input tells besides what the machine makes of it.
    pub(super) fn hear(&mut self, own: NodeId, input: &Input, now: Micros) -> Vec<NodeEvent> {
        match input {
            Input::Message(envelope) => {
                if let Message::Abdicate { epoch, .. } = envelope.message
                    && Some(envelope.from) == self.primary
                {
                    self.abdicated = self.abdicated.max(epoch);
                }
                Vec::new()
            }
            Input::Followed { standby, epoch, .. } => self.follows(*standby, *epoch, now),
            Input::Matched { epoch } => self.follows(own, *epoch, now),
            Input::StreamLost { standby, .. } => {
                self.follows_no_more(*standby, now);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Who follows is there, also before this node has reached it by itself.
    fn follows(&mut self, standby: NodeId, epoch: Epoch, now: Micros) -> Vec<NodeEvent> {
        let Some(member) = self.members.get_mut(&standby) else {
            return Vec::new();
        };
        member.heard = Some(now);
        if member.follows.replace(epoch) == Some(epoch) {
            return Vec::new();
        }
        member.follows_since = now;
        let back = member.down.take().map(|_| NodeEvent::MemberUp(standby));
        back.into_iter()
            .chain([NodeEvent::Follows(standby)])
            .collect()
    }

    fn follows_no_more(&mut self, standby: NodeId, now: Micros) {
        if let Some(member) = self.members.get_mut(&standby)
            && member.follows.take().is_some()
        {
            member.follows_since = now;
        }
    }

    /// This node's reign is over.
    pub(super) fn reign_ended(&mut self, epoch: Epoch) {
        self.abdicated = self.abdicated.max(epoch);
    }

    /// Takes in the machine's view; what is new in it.
    pub(super) fn note(&mut self, view: &View, now: Micros) -> Vec<NodeEvent> {
        let mut news = Vec::new();
        if self.epoch != Some(view.epoch) {
            // What it was when this process started is no news.
            if self.epoch.replace(view.epoch).is_some() {
                news.push(NodeEvent::EpochPromised(view.epoch));
            }
        }
        if let Some(new) = view.primary
            && self.primary != Some(new)
        {
            news.push(self.changes(new, view.epoch, now));
        }
        let Some(primary) = self.primary else {
            return news;
        };
        let believed = view.primary.is_some() && !view.suspected;
        if believed {
            self.reign = view.epoch;
        }
        let over = self.abdicated >= self.reign;
        let candidate = view.standing == Standing::Candidate;
        self.failover = view.paused || candidate || (over && !believed);
        if believed || over {
            if self.down.take().is_some() {
                let agreed = self.agreed.take().is_some();
                news.push(NodeEvent::PrimaryUp { primary, agreed });
            }
            return news;
        }
        if self.down.is_none() {
            self.down = Some(now);
            news.push(NodeEvent::PrimaryDown(primary));
        }
        // A candidate was told by a majority that it would vote (R13); and for a higher epoch nobody
        // is asked to vote before that.
        if self.agreed.is_none() && (candidate || view.epoch > self.reign) {
            self.agreed = Some(now);
            news.push(NodeEvent::PrimaryAgreedDown(primary));
        }
        news
    }

    fn changes(&mut self, new: NodeId, epoch: Epoch, now: Micros) -> NodeEvent {
        let old = self.primary.replace(new);
        (self.reign, self.down, self.agreed) = (epoch, None, None);
        for (id, member) in &mut self.members {
            if *id == new || Some(*id) == old {
                member.role_since = now;
                // Whatever it was told to be as the other, it is judged anew.
                member.down = None;
            }
            if member.follows.take().is_some() {
                member.follows_since = now;
            }
        }
        NodeEvent::PrimaryChanged { old, new }
    }

    fn linked(&mut self, peer: NodeId, linked: bool, now: Micros) -> Option<NodeEvent> {
        let member = self.members.get_mut(&peer)?;
        if member.linked != linked {
            (member.linked, member.linked_since) = (linked, now);
        }
        if !linked {
            return None;
        }
        member.refused = false;
        (!std::mem::replace(&mut member.met, true)).then_some(NodeEvent::Met(peer))
    }

    /// Who is down by now, and who is back.
    fn judge(&mut self, view: &View, settings: &Settings, now: Micros) -> Vec<NodeEvent> {
        let mut news = Vec::new();
        let patience = down_after(settings);
        let reigns = view.standing == Standing::Primary;
        for (id, member) in &mut self.members {
            if *id == settings.id || Some(*id) == self.primary {
                continue;
            }
            let lost = !member.reached() && now.since(member.linked_since) >= patience;
            let refused = member.refused && !member.reached();
            // A voter owes its primary an answer to each heartbeat, frozen or not.
            let votes = settings.member(*id).is_some_and(|it| it.member.vote);
            let promise = view.leases.iter().find(|(voter, _)| voter == id);
            let silent = reigns
                && votes
                && promise.map_or_else(
                    || member.heard.is_none_or(|at| now.since(at) >= patience),
                    |(_, until)| *until <= now,
                );
            let down = refused || lost || silent;
            if down != member.down.is_some() {
                member.down = down.then_some(now);
                news.push(match down {
                    true => NodeEvent::MemberDown(*id),
                    false => NodeEvent::MemberUp(*id),
                });
            }
        }
        news
    }
}

impl Node {
    /// Who is there, as far as this node knows.
    pub fn outlook(&self) -> Outlook {
        self.outlook_now().clone()
    }

    pub(super) fn outlook_now(&self) -> std::sync::MutexGuard<'_, Outlook> {
        self.outlook
            .lock()
            .expect("noting who is there does not panic")
    }

    pub(super) fn tell(&self, news: impl IntoIterator<Item = NodeEvent>) {
        for event in news {
            // Nobody listening is no error.
            let _ = self.events.send(event);
        }
    }

    /// Looks who is down by now; several times a second.
    pub(super) fn look_around(&self) {
        let (view, now) = (self.view(), self.host.boot_time());
        let news = self.outlook_now().judge(&view, &self.settings, now);
        self.tell(news);
    }

    pub(super) fn linked(&self, peer: NodeId, linked: bool) {
        let news = self
            .outlook_now()
            .linked(peer, linked, self.host.boot_time());
        self.tell(news);
    }

    /// Nobody listens at its address: it is not there, and nothing has to be waited for.
    pub(super) fn refused_by(&self, peer: NodeId) {
        if let Some(member) = self.outlook_now().members.get_mut(&peer) {
            member.refused = true;
        }
    }

    pub(super) fn heard_from(&self, peer: NodeId) {
        let now = self.host.boot_time();
        if let Some(member) = self.outlook_now().members.get_mut(&peer) {
            member.heard = Some(now);
        }
    }

    /// Words for it that have not left yet.
    pub fn unsaid(&self, peer: NodeId) -> usize {
        let outbox = self.outboxes.get(&peer);
        outbox.map_or(0, |outbox| outbox.max_capacity() - outbox.capacity())
    }
}
