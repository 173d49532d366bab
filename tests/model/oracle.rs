//! What must hold after every step, and the ghost that remembers what no node does: every record
//! ever released, every vote and rule ever made durable, every copy ever held.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use understudy::replica::{
    Control, Envelope, Level, LossBound, MaxLag, MaxLoss, Message, Report, RuleId, Standing, View,
};
use understudy::units::{Epoch, Lsn, Millis, NodeId};

use super::world::{Bounds, Node, RECORD_BYTES, Rec, World};

/// Nodes, and the epoch of the record that each holds.
type Holders = BTreeSet<(usize, Epoch)>;

/// An oracle's finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// What happened so far, as nobody in the world can know it.
#[derive(Clone, Debug)]
pub struct Ghost {
    /// Every record released and not given up by a lossy takeover, by LSN; and when.
    pub released: Vec<(Rec, Millis)>,
    pub winners: BTreeMap<Epoch, usize>,
    /// Durable votes: epoch, voter, its incarnation, whom for.
    votes: BTreeMap<(Epoch, usize, u64), NodeId>,
    /// The cluster that is durably a node's, by node and incarnation.
    clusters: BTreeMap<(usize, u64), u128>,
    /// The newest rule made durable, by node and incarnation.
    recorded: BTreeMap<(usize, u64), RuleId>,
    /// Per node: the records it has held at some time, handed over and synced.
    held: Vec<(Holders, Holders)>,
    /// Per node: what it took for released at the last step.
    known: Vec<Lsn>,
    /// Per node: the records that its readers have seen at some time.
    seen: Vec<Holders>,
    /// Per node: the newest promise made durable, per incarnation.
    promised: BTreeMap<(usize, u64), Epoch>,
    /// What each reign has released.
    upto: BTreeMap<Epoch, usize>,
    judged: BTreeSet<Epoch>,
    /// What the last lossy winner lacked, and how many records it kept.
    given_up: (usize, Vec<(Rec, Millis)>),
    /// Every released record that a lossy winner lacked, by place. A later winner may hold it, and
    /// knows that it was released once.
    lost_once: BTreeSet<(usize, Rec)>,
    /// Takeovers that lost records within the budget or by force.
    pub lossy: u64,
}

fn broken(what: String) -> Result<(), Violation> {
    Err(Violation(what))
}

impl Ghost {
    pub fn new(nodes: usize) -> Ghost {
        Ghost {
            released: Vec::new(),
            winners: BTreeMap::new(),
            votes: BTreeMap::new(),
            clusters: BTreeMap::new(),
            recorded: BTreeMap::new(),
            held: vec![Default::default(); nodes],
            known: vec![Lsn::ZERO; nodes],
            seen: vec![Holders::new(); nodes],
            promised: BTreeMap::new(),
            upto: BTreeMap::new(),
            judged: BTreeSet::new(),
            given_up: (0, Vec::new()),
            lost_once: BTreeSet::new(),
            lossy: 0,
        }
    }

    pub fn note_held(&mut self, i: usize, node: &Node) {
        for (lsn, rec) in node.log.iter().enumerate().take(node.handed) {
            self.held[i].0.insert((lsn, rec.epoch));
            if lsn < node.synced {
                self.held[i].1.insert((lsn, rec.epoch));
            }
        }
        // Readers may see what two others hold before it is handed over here.
        for (lsn, rec) in node.log.iter().enumerate().take(node.applied) {
            self.seen[i].insert((lsn, rec.epoch));
        }
    }

    /// R1, R11: promises only rise, and a vote once durable is the only one of its epoch.
    pub fn note_persisted(&mut self, i: usize, control: &Control) -> Option<Violation> {
        let who = (i, control.incarnation);
        let promised = self.promised.entry(who).or_default();
        if control.promised < *promised {
            return Some(Violation(format!("node {} took a promise back", i + 1)));
        }
        *promised = control.promised;
        if let Some(cluster) = control.cluster {
            self.clusters.insert(who, cluster);
        }
        if let Some(recorded) = &control.rule {
            self.recorded.insert(who, recorded.id);
        }
        let vote = control.vote?;
        let key = (control.promised, i, control.incarnation);
        let old = *self.votes.entry(key).or_insert(vote);
        (old != vote).then(|| {
            let epoch = control.promised;
            Violation(format!("node {} voted twice in epoch {epoch}", i + 1))
        })
    }

    /// R1: what is said is durable. A later control state may replace one that was never written:
    /// a higher promise, or a newer rule, keeps an older one's promise, too.
    pub fn note_said(&mut self, i: usize, to: NodeId, envelope: &Envelope) -> Option<Violation> {
        let incarnation = envelope.incarnation;
        let promised = self.promised.get(&(i, incarnation)).copied();
        let promised = promised.unwrap_or_default();
        let voted = |epoch: Epoch, whom: NodeId| {
            let vote = self.votes.get(&(epoch, i, incarnation));
            promised > epoch || vote == Some(&whom)
        };
        let recorded = |rule: &RuleId| self.recorded.get(&(i, incarnation)) >= Some(rule);
        let durable = match &envelope.message {
            Message::VoteAnswer { epoch, refused, .. } => refused.is_some() || voted(*epoch, to),
            Message::Vote { epoch, .. } => voted(*epoch, envelope.from),
            Message::Recorded { rule, .. } => recorded(rule),
            Message::BeatAnswer(answer) => !answer.lease || promised >= answer.epoch,
            _ => true,
        };
        let of_cluster = self.clusters.get(&(i, incarnation));
        let durable =
            durable && (envelope.cluster.is_none() || envelope.cluster.as_ref() == of_cluster);
        let message = &envelope.message;
        (!durable).then(|| Violation(format!("node {} said before durable: {message:?}", i + 1)))
    }

    /// `known`: what the winner knew to be released as a standby; no release of its own.
    pub fn note_winner(&mut self, i: usize, epoch: Epoch, known: Lsn) -> Option<Violation> {
        self.upto.insert(epoch, known.0 as usize);
        let old = self.winners.insert(epoch, i);
        (old.is_some()).then(|| Violation(format!("epoch {epoch} was won twice")))
    }

    /// A reign may release its last records and hand over in one step.
    pub fn note_last(&mut self, epoch: Epoch, log: &[Rec], upto: Lsn, at: Millis) {
        let known = self.released.len();
        let newest = self.winners.keys().next_back() == Some(&epoch);
        let agrees = self.released.iter().zip(log).all(|((a, _), b)| a == b);
        if newest && agrees && self.upto.contains_key(&epoch) {
            let news = log.iter().take(upto.0 as usize).skip(known);
            self.released.extend(news.map(|rec| (*rec, at)));
        }
    }

    /// The winner's log against everything ever released: nothing is missing, or the report says
    /// how much may be, and someone allowed that much.
    pub fn note_report(
        &mut self,
        report: &Report,
        log: &[Rec],
        bounds: &Bounds,
    ) -> Option<Violation> {
        if !self.judged.insert(report.epoch) {
            return None;
        }
        // A candidate may hear its last vote when a later epoch reigns already. It lacks what that
        // one released, has lost nothing by its own winning, and never gets a lease. (Seed 2017 of
        // three data nodes in sync.)
        if self.winners.keys().next_back() > Some(&report.epoch) {
            return None;
        }
        // A lossy reign that never released anything has given up nothing: its rule may never have
        // been recorded, and a log that still holds those records may win after all.
        if self.released.len() == self.given_up.0 {
            let pairs = self.given_up.1.iter().zip(log.iter().skip(self.given_up.0));
            let back = pairs.take_while(|((a, _), b)| a == *b).count();
            self.released.extend_from_slice(&self.given_up.1[..back]);
        }
        let pairs = self.released.iter().zip(log);
        let kept = pairs.take_while(|((a, _), b)| a == *b).count();
        let lost = self.released.split_off(kept);
        if lost.is_empty() {
            return None;
        }
        self.lossy += 1;
        self.given_up = (kept, lost.clone());
        let told = |place: usize, rec: &Rec| self.lost_once.contains(&(kept + place, *rec));
        let news: Vec<bool> = lost
            .iter()
            .enumerate()
            .map(|(i, (rec, _))| !told(i, rec))
            .collect();
        let places = lost.iter().enumerate();
        let places = places.map(|(place, (rec, _))| (kept + place, *rec));
        self.lost_once.extend(places);
        // What a takeover gave up, and a later winner held and did not release, was told when it
        // was given up. (Seed 2342 of "async, 5 s".)
        if !news.contains(&true) {
            return None;
        }
        let clients = client_writes(self.released.last(), &lost, &news);
        let exact = clients.len() as u64;
        let bound = &report.bound;
        let first = clients.iter().map(|(rec, _)| rec.time.0).min().unwrap_or(0);
        // Where `max_lag` bounds the time, it is that of the writes: one made in time may be
        // released late, or by the next reign of a node whose own ended before. (Seed 475.)
        let made = matches!(bounds.max_lag, Some(MaxLag::Ms(_)));
        let end = |(rec, released): &(Rec, Millis)| if made { rec.time.0 } else { released.0 };
        let last = clients.iter().map(end).max().unwrap_or(0);
        let span = last.saturating_sub(first);
        let allowed = report.forced || allows(bounds.max_loss, exact, span);
        let stated = states(bound, exact, span);
        if allowed && stated {
            return None;
        }
        let (node, epoch) = (report.new_primary, report.epoch);
        let lsn = kept + 1;
        Some(Violation(format!(
            "node {node} reigns in epoch {epoch} without {exact} released records from LSN {lsn} \
             on ({span} ms); forced: {}, budget {:?}, stated {bound:?}",
            report.forced, bounds.max_loss
        )))
    }
}

/// Those that are `news` and that a client wrote: all but the first of each epoch, which only says
/// that a reign began. Nobody loses anything with it, no report counts it, and it fits every budget
/// however late it is released. (Seed 214 of "async, 5 s": with two records at most to lose, two
/// were, and the EpochStart of a reign that nobody followed; seed 57 of "async, 400 ms": one was,
/// and four seconds later such an EpochStart.)
fn client_writes(
    before: Option<&(Rec, Millis)>,
    lost: &[(Rec, Millis)],
    news: &[bool],
) -> Vec<(Rec, Millis)> {
    let mut epoch = before.map(|(rec, _)| rec.epoch);
    let mut writes = Vec::new();
    for (write, new) in lost.iter().zip(news) {
        if *new && Some(write.0.epoch) == epoch {
            writes.push(*write);
        }
        epoch = Some(write.0.epoch);
    }
    writes
}

fn allows(budget: MaxLoss, records: u64, span: u64) -> bool {
    match budget {
        MaxLoss::Nothing => false,
        MaxLoss::Records(most) => records <= most,
        MaxLoss::Bytes(most) => records * RECORD_BYTES <= most,
        MaxLoss::SpanMs(most) => span <= most,
    }
}

fn states(bound: &LossBound, records: u64, span: u64) -> bool {
    !bound.exact_zero
        && bound.records.is_none_or(|most| records <= most)
        && bound
            .bytes
            .is_none_or(|most| records * RECORD_BYTES <= most)
        && bound.span_ms.is_none_or(|most| span <= most)
}

impl World {
    pub(super) fn check(&mut self) -> Result<(), Violation> {
        let mut reigning = Vec::new();
        for i in 0..self.nodes.len() {
            let Some(view) = self.view(i) else { continue };
            if view.standing != Standing::Primary {
                self.check_standby(i, &view)?;
                continue;
            }
            if view.lease_until > self.clock(i).boot {
                reigning.push(i + 1);
            }
            self.ghost.known[i] = view.released;
            self.check_release(i)?;
            self.check_shown(i, &view)?;
            self.check_voters(i, &view)?;
        }
        if reigning.len() > 1 {
            return broken(format!("live leases of two primaries: nodes {reigning:?}"));
        }
        Ok(())
    }

    /// Whether all these records of `log` were released once, given up by a lossy winner, and are
    /// part of the newest reign's history again. (Seed 3243 of "async, 2 records": epoch 5 released
    /// LSN 10, epoch 6 gave up the last two, and epoch 8 was won by the log that still held them.)
    fn is_back(&self, log: &[Rec], places: Range<usize>) -> bool {
        let newest = self.ghost.winners.values().next_back();
        let theirs = newest.map_or(&[][..], |winner| &self.nodes[*winner].log);
        places.into_iter().all(|place| {
            let once = self.ghost.lost_once.contains(&(place, log[place]));
            once && theirs.get(place) == Some(&log[place])
        })
    }

    /// R23, R29: what a standby takes for released is the beginning of what was released, once it
    /// follows the newest reign.
    ///
    /// A node that has heard of that reign and not compared logs yet may still hold for released
    /// what a lossy takeover gave up; it must not take more for released than before.
    fn check_standby(&mut self, i: usize, view: &View) -> Result<(), Violation> {
        let newest = self.ghost.winners.keys().next_back().copied();
        let before = std::mem::replace(&mut self.ghost.known[i], view.released);
        let follows = self.nodes[i].stream.map(|(epoch, _)| epoch);
        let learned = view.released > before && newest == Some(view.epoch);
        if !learned && (follows.is_none() || follows != newest) {
            return Ok(());
        }
        let (log, upto) = (&self.nodes[i].log, view.released.0 as usize);
        let ghost = self.ghost.released.iter().map(|(rec, _)| rec);
        let known = self.ghost.released.len().min(upto);
        if upto <= log.len()
            && ghost.take(known).eq(&log[..known])
            && self.is_back(log, known..upto)
        {
            return Ok(());
        }
        broken(format!(
            "standby {} takes LSN {upto} for released, wrongly: it holds {log:?}, released were {:?}",
            i + 1,
            self.ghost.released
        ))
    }

    /// R9: what replies may show at level applied is seen by the readers of `copies` members.
    fn check_shown(&self, i: usize, view: &View) -> Result<(), Violation> {
        let Some(recorded) = &view.rule else {
            return Ok(());
        };
        let (rule, upto) = (&recorded.rule, view.shown.0 as usize);
        let fresh = view.serving && upto > view.fork.map_or(0, |fork| fork.lsn.0 as usize);
        if rule.level != Level::Applied || !fresh || upto > self.nodes[i].log.len() {
            return Ok(());
        }
        let last = (upto - 1, self.nodes[i].log[upto - 1].epoch);
        let sees = |member: &&NodeId| {
            let member = member.0 as usize - 1;
            member == i || self.ghost.seen[member].contains(&last)
        };
        if rule.members.iter().filter(sees).count() >= rule.copies as usize {
            return Ok(());
        }
        broken(format!(
            "node {} shows LSN {upto} before enough readers see it",
            i + 1
        ))
    }

    /// R22: whom a person declared gone for good counts in no rule.
    fn check_voters(&self, i: usize, view: &View) -> Result<(), Violation> {
        let Some(recorded) = &view.rule else {
            return Ok(());
        };
        let rule = &recorded.rule;
        match rule.voters.iter().find(|voter| rule.lost.contains(voter)) {
            None => Ok(()),
            Some(voter) => broken(format!(
                "node {} counts the vote of node {}, declared lost",
                i + 1,
                voter.id
            )),
        }
    }

    /// Whatever this primary has released since the last step.
    fn check_release(&mut self, i: usize) -> Result<(), Violation> {
        let Some(view) = self.view(i) else {
            return Ok(());
        };
        let (upto, epoch) = (view.released.0 as usize, view.epoch);
        let before = *self.ghost.upto.entry(epoch).or_insert(0);
        if upto <= before {
            return Ok(());
        }
        let (node, log) = (i + 1, &self.nodes[i].log);
        if upto <= log.len() && log[upto - 1].epoch != epoch {
            return broken(format!(
                "node {node} released LSN {upto} before its EpochStart"
            ));
        }
        if upto > self.nodes[i].log.len() {
            return broken(format!("node {node} released LSN {upto} beyond its log"));
        }
        if view.lease_until <= self.clock(i).boot {
            return broken(format!("node {node} released LSN {upto} without a lease"));
        }
        if self.ghost.winners.keys().next_back() > Some(&epoch) {
            return broken(format!(
                "node {node} released LSN {upto} after its epoch {epoch}"
            ));
        }
        self.check_rule(i, upto)?;
        self.ghost.upto.insert(epoch, upto);
        let at = self.clock(i).wall;
        for lsn in 0..upto {
            let rec = self.nodes[i].log[lsn];
            match self.ghost.released.get(lsn) {
                Some((old, _)) if *old != rec => {
                    let (old, new) = (old.epoch, rec.epoch);
                    return broken(format!(
                        "LSN {} was released in epoch {old} and again in epoch {new}",
                        lsn + 1
                    ));
                }
                Some(_) => {}
                None => self.ghost.released.push((rec, at)),
            }
            self.ghost.lost_once.remove(&(lsn, rec));
        }
        Ok(())
    }

    /// R5 and the commit rule: a majority has recorded a rule of this epoch, and `copies` of its
    /// members have held the newest record.
    fn check_rule(&self, i: usize, upto: usize) -> Result<(), Violation> {
        let (node, ghost) = (i + 1, &self.ghost);
        let recorded = self.view(i).and_then(|view| view.rule);
        let Some(recorded) = recorded else {
            return broken(format!("node {node} released LSN {upto} without a rule"));
        };
        let (place, rule) = (recorded.id, &recorded.rule);
        let voters = rule.voters.iter().filter(|voter| {
            let who = (voter.id.0 as usize - 1, voter.incarnation);
            ghost.recorded.get(&who) >= Some(&place)
        });
        let epoch = self.nodes[i].machine.as_ref().map(|m| m.promised());
        if voters.count() < rule.majority() || Some(place.epoch) != epoch {
            return broken(format!(
                "node {node} released LSN {upto} under {place:?}, which no majority has recorded"
            ));
        }
        let last = (upto - 1, self.nodes[i].log[upto - 1].epoch);
        let copies = rule.members.iter().filter(|member| {
            let member = member.0 as usize - 1;
            let (handed, synced) = &ghost.held[member];
            let received = rule.level == Level::Received && member != i;
            if received {
                handed.contains(&last)
            } else {
                synced.contains(&last)
            }
        });
        if copies.count() < rule.copies as usize {
            return broken(format!(
                "node {node} released LSN {upto} with too few copies"
            ));
        }
        Ok(())
    }
}
