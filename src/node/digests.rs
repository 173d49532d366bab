//! Proof of sameness: keyspaces of one history have equal digests at equal LSNs.
//!
//! With each round of heartbeats the primary says the digest of its keyspace behind some record.
//! Each standby notes its own when it applies just that record, compares, and answers with it. The
//! primary judges what differs ([`judge`]):
//!
//! - Two standbys that agree with each other, and more nodes than with the primary, make the primary
//!   the sick one: it steps down (R27).
//! - Any other that differs is the sick one. It is told so, serves no reads, does not stand, and builds
//!   its keyspace again from its own snapshot and log, whose bytes are checked.
//! - If that differs again, nobody can say who is right: it stays out of service, a person is told, and
//!   nothing of what it holds is replaced.
//!
//! Digests say what effects made, not what memory still holds: a slow scrub adds that up
//! ([`scrub_memory`]). A primary that finds itself wrong steps down, too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::driver::{Node, Order};
use super::fitness::Unfit;
use super::links::Word;
use super::stats::Stats;
use super::store::{Compared, Expected};
use crate::keyspace::Keyspace;
use crate::replica::Input;
use crate::units::{Epoch, Lsn, Micros, NodeId};

/// Digests of the last rounds that are remembered: some seconds.
const ROUNDS: usize = 64;

/// How long the primary waits for a third opinion, and a standby for the primary's judgement.
const PATIENCE: Micros = Micros(500_000);

/// A standby's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// Behind this record.
    lsn: Lsn,
    digest: u64,
    /// How often the standby's keyspace was replaced: what is said of one before is no news.
    keyspace: u64,
}

/// What one round came to.
#[derive(Debug)]
struct Round {
    lsn: Lsn,
    digest: u64,
    number: u64,
    said: Micros,
    answers: BTreeMap<NodeId, Held>,
}

/// The last comparison with another node that showed no difference.
#[derive(Clone, Copy, Debug)]
struct Same {
    /// The reign.
    epoch: Epoch,
    lsn: Lsn,
    number: u64,
}

/// A difference that nobody has judged yet.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    epoch: Epoch,
    since: Micros,
    /// Of which keyspace: what took its place is not doubted. (Seed 9102253 of the simulator's
    /// `three`: a second difference was met while the first was being mended, the primary froze, and
    /// what had just been built from checked bytes was condemned for it.)
    keyspace: u64,
}

/// What is known of sameness; a primary's rounds, or a standby's doubt.
#[derive(Debug, Default)]
struct Board {
    epoch: Epoch,
    rounds: VecDeque<Round>,
    /// The newest record behind which each node's digest was the primary's; on a standby its own
    /// entry only.
    proven: BTreeMap<NodeId, Lsn>,
    /// Comparisons so far: a primary's rounds, what a standby compared.
    number: u64,
    same: Option<Same>,
    /// A standby's: it differed from the primary of this epoch, since then, and nobody has judged.
    doubt: Option<Doubt>,
    /// A standby's: it was rebuilt because it differed, and has not been the same since.
    rebuilt: bool,
    /// The memory scrub's next part.
    part: usize,
}

/// What this node knows of sameness.
#[derive(Debug, Default)]
pub(super) struct Digests {
    board: Mutex<Board>,
    confirmed: Notify,
}

impl Digests {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().expect("the board is only read and set")
    }

    /// How many comparisons have begun.
    pub(super) fn number(&self) -> u64 {
        self.board().number
    }

    /// The record from `lsn` on, if any, behind which another node's keyspace was the same as this
    /// one in this reign, in a comparison after the one of that number. (At rest the record alone
    /// says nothing: the keyspace was right behind it a moment ago.)
    pub(super) fn confirmed(&self, epoch: Epoch, lsn: Lsn, number: u64) -> Option<Lsn> {
        let same = self.board().same?;
        let since = same.epoch == epoch && same.lsn >= lsn && same.number > number;
        since.then_some(same.lsn)
    }

    /// Resolves when another node's keyspace was found to be the same, from this call on.
    pub(super) fn news(&self) -> impl Future<Output = ()> {
        self.confirmed.notified()
    }

    /// The newest record behind which this node's digest was the primary's, as far as known here.
    pub(super) fn proven(&self, node: NodeId) -> Option<Lsn> {
        self.board().proven.get(&node).copied()
    }
}

/// Who is sick.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Judgement {
    /// Nobody, or it cannot be said yet.
    Nobody,
    /// These standbys.
    Standbys(Vec<NodeId>),
    /// The primary (R27).
    Primary,
}

/// `own`: the primary's digest; `answers`: the standbys' behind the same record; `all`: nobody else
/// will answer.
fn judge(own: u64, answers: &BTreeMap<NodeId, Held>, all: bool) -> Judgement {
    let differs = |(node, held): (&NodeId, &Held)| (held.digest != own).then_some(*node);
    let differing: Vec<NodeId> = answers.iter().filter_map(differs).collect();
    if differing.is_empty() {
        return Judgement::Nobody;
    }
    let with_primary = 1 + answers.len() - differing.len();
    let holders = |digest: u64| {
        let same = answers.values().filter(|held| held.digest == digest);
        same.count()
    };
    let most = differing.iter().map(|node| holders(answers[node].digest));
    let most = most.max();
    match most.unwrap_or(0) {
        most if most >= 2 && most > with_primary => Judgement::Primary,
        _ if with_primary >= 2 || all => Judgement::Standbys(differing),
        _ => Judgement::Nobody,
    }
}

/// Says digests while this node reigns, and sees to it that doubts end.
pub(super) async fn run(node: Arc<Node>) {
    loop {
        let gate = node.gate_now();
        if gate.stopping {
            return;
        }
        if gate.is_primary() {
            say(&node, gate.epoch);
            settle_rounds(&node);
        } else {
            end_doubt(&node);
        }
        tokio::time::sleep(node.settings.interval).await;
    }
}

fn say(node: &Arc<Node>, epoch: Epoch) {
    let Some((at, digest)) = node.store.digest() else {
        return;
    };
    let lsn = at.lsn;
    {
        let mut board = node.digests.board();
        if board.epoch != epoch {
            *board = Board {
                epoch,
                part: board.part,
                number: board.number,
                ..Board::default()
            };
        }
        // A record that is still the last one is asked for anew: keyspaces go bad also at rest.
        board.rounds.pop_back_if(|round| round.lsn == lsn);
        board.number += 1;
        let number = board.number;
        board.rounds.push_back(Round {
            lsn,
            digest,
            number,
            said: node.host.boot_time(),
            answers: BTreeMap::new(),
        });
        while board.rounds.len() > ROUNDS {
            board.rounds.pop_front();
        }
        board.proven.insert(node.id(), lsn);
    }
    for standby in node.settings.other_data_nodes() {
        let behind = Expected {
            lsn,
            epoch: at.epoch,
            digest,
        };
        tell(node, standby, Word::Digest(epoch, behind));
    }
}

fn tell(node: &Node, to: NodeId, word: Word) {
    if let Some(outbox) = node.outboxes.get(&to) {
        // A full queue is a peer that does not read; the next round says it again.
        let _ = outbox.try_send(word);
    }
}

/// A standby heard the primary's digest.
pub(super) fn heard(node: &Arc<Node>, primary: NodeId, epoch: Epoch, expected: Expected) {
    if node.gate_now().following == Some((primary, epoch))
        && let Some(compared) = node.store.expect_digest(expected)
    {
        note(node, compared);
    }
}

/// A standby compared.
pub(super) fn note(node: &Arc<Node>, compared: Compared) {
    let Some((primary, epoch)) = node.gate_now().following else {
        return;
    };
    let Compared {
        lsn,
        keyspace,
        own,
        theirs,
    } = compared;
    {
        let mut board = node.digests.board();
        if own == theirs {
            board.proven.insert(node.id(), lsn);
            board.number += 1;
            let number = board.number;
            board.same = Some(Same { epoch, lsn, number });
            board.doubt = None;
            board.rebuilt = false;
        } else if board
            .doubt
            .is_none_or(|doubt| (doubt.epoch, doubt.keyspace) != (epoch, keyspace))
        {
            tracing::error!(
                "this node's keyspace differs from the primary's at LSN {lsn}: digest {own:016x}, \
                 node {primary} has {theirs:016x}"
            );
            board.doubt = Some(Doubt {
                epoch,
                since: node.host.boot_time(),
                keyspace,
            });
        }
    }
    if own == theirs {
        acquit(node);
        node.digests.confirmed.notify_waiters();
    }
    let held = Held {
        lsn,
        digest: own,
        keyspace,
    };
    tell(node, primary, Word::DigestHere(epoch, held));
}

/// A standby's answer came.
pub(super) fn answered(node: &Arc<Node>, from: NodeId, epoch: Epoch, held: Held) {
    {
        let mut board = node.digests.board();
        if board.epoch != epoch {
            return;
        }
        let mut rounds = board.rounds.iter_mut();
        let Some(round) = rounds.find(|round| round.lsn == held.lsn) else {
            return;
        };
        round.answers.insert(from, held);
        if round.digest == held.digest {
            let (lsn, number) = (round.lsn, round.number);
            board.same = Some(Same { epoch, lsn, number });
            let proven = board.proven.entry(from).or_insert(held.lsn);
            *proven = held.lsn.max(*proven);
        }
    }
    node.digests.confirmed.notify_waiters();
    settle_rounds(node);
}

/// Judges what can be judged.
fn settle_rounds(node: &Arc<Node>) {
    let gate = node.gate_now();
    if !gate.is_primary() {
        return;
    }
    let streaming = node.view().standbys.len();
    let now = node.host.boot_time();
    let mut sick: BTreeMap<NodeId, Held> = BTreeMap::new();
    let mut own = None;
    {
        let mut board = node.digests.board();
        if board.epoch != gate.epoch {
            return;
        }
        for round in &mut board.rounds {
            let all = round.answers.len() >= streaming || now.since(round.said) >= PATIENCE;
            match judge(round.digest, &round.answers, all) {
                Judgement::Nobody => continue,
                Judgement::Standbys(nodes) => {
                    sick.extend(nodes.into_iter().map(|node| (node, round.answers[&node])));
                }
                Judgement::Primary => own = Some(round.lsn),
            }
            // Once is enough; the next round tells whether it helped.
            round.answers.clear();
        }
    }
    if let Some(lsn) = own {
        let why =
            format!("two standbys agree on another keyspace than this primary's at LSN {lsn}");
        return step_down(node, &why);
    }
    let epoch = gate.epoch;
    for (standby, held) in sick {
        let lsn = held.lsn;
        tracing::error!("node {standby} has another keyspace than this primary at LSN {lsn}");
        tell(node, standby, Word::Differs(epoch, held));
    }
}

/// R27: what this primary shows is not what its log says.
fn step_down(node: &Arc<Node>, why: &str) {
    tracing::error!("{why}; stepping down, and building the keyspace again from snapshot and log");
    quarantine(node);
    node.enter([Input::StepDown(why.to_owned())]);
    node.order(Order::Rebuild);
}

/// The primary judged that this standby is the sick one.
pub(super) fn judged(node: &Arc<Node>, primary: NodeId, epoch: Epoch, held: Held) {
    let same = held.keyspace == node.store.keyspace_number();
    if same && node.gate_now().following == Some((primary, epoch)) {
        differs(node, held.lsn);
    }
}

fn differs(node: &Arc<Node>, lsn: Lsn) {
    let again = {
        let mut board = node.digests.board();
        board.doubt = None;
        std::mem::replace(&mut board.rebuilt, true)
    };
    let first = quarantine(node);
    if !again {
        tracing::error!("out of service, and building the keyspace again from snapshot and log");
        node.order(Order::Rebuild);
    } else if first {
        tracing::error!(
            "this node's keyspace differs from the primary's at LSN {lsn} also after it was built \
             again from this node's checked log: one of the two logs or memories is bad. This node \
             stays out of service. Run `understudy wal verify` on both; restarting the primary makes \
             it build its keyspace again from its log"
        );
    }
}

/// Nobody judged a doubt: the primary is gone, or does not answer. What is suspected is not served.
fn end_doubt(node: &Arc<Node>) {
    let Some(doubt) = node.digests.board().doubt else {
        return;
    };
    let following = node.gate_now().following;
    let over = following.is_none_or(|(_, epoch)| epoch != doubt.epoch);
    if over || doubt.keyspace != node.store.keyspace_number() {
        // The reign is over, perhaps because its primary was the sick one; or the keyspace is.
        node.digests.board().doubt = None;
    } else if node.host.boot_time().since(doubt.since) >= PATIENCE {
        differs(node, node.store.applied());
    }
}

/// Out of service; whether it was in it.
fn quarantine(node: &Arc<Node>) -> bool {
    let was_in = !node.quarantined.swap(true, Ordering::AcqRel);
    if was_in {
        Stats::add(&node.stats.quarantines, 1);
    }
    // It publishes the gate, too: no reads from here on.
    node.unfit(Unfit::Quarantined);
    was_in
}

/// The keyspace was built again, or turned out to be the same.
pub(super) fn acquit(node: &Node) {
    if node.quarantined.swap(false, Ordering::AcqRel) {
        tracing::info!("in service again");
        node.fit_again(Unfit::Quarantined);
    }
}

/// Adds up what memory holds, a part at a time, so that all is seen once in the time that is set.
pub(super) async fn scrub_memory(node: Arc<Node>) {
    let pass = node.settings.memory_scrub;
    if pass.is_zero() {
        return;
    }
    // A timer is no finer than a millisecond: where parts are due more often, several at a time.
    let pause = (pass / Keyspace::SCRUB_PARTS as u32).max(Duration::from_millis(10));
    let parts = Keyspace::SCRUB_PARTS as u128 * pause.as_micros() / pass.as_micros().max(1);
    loop {
        tokio::time::sleep(pause).await;
        if node.gate_now().stopping {
            return;
        }
        for _ in 0..=parts {
            scrub_next(&node);
        }
    }
}

/// Adds up the next part.
fn scrub_next(node: &Arc<Node>) {
    let part = {
        let mut board = node.digests.board();
        let part = board.part;
        board.part = (part + 1) % Keyspace::SCRUB_PARTS;
        part
    };
    if !node.quarantined.load(Ordering::Acquire) {
        scrub_part(node, part);
    }
}

/// Adds up a part, and takes this node out of service if memory does not hold it; whether it does.
pub(super) fn scrub_part(node: &Arc<Node>, part: usize) -> bool {
    if node.store.read().keyspace.is_sound(part) {
        return true;
    }
    let why = "this node's memory does not hold what was written to it";
    Stats::add(&node.stats.memory_errors, 1);
    if node.gate_now().is_primary() {
        step_down(node, why);
    } else {
        tracing::error!("{why}; building the keyspace again from snapshot and log");
        quarantine(node);
        node.order(Order::Rebuild);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_sick_is_what_fewer_say() {
        let standbys =
            |list: &[u32]| Judgement::Standbys(list.iter().map(|n| NodeId(*n)).collect());
        let held = |digest: &u64| Held {
            lsn: Lsn(1),
            digest: *digest,
            keyspace: 0,
        };
        let answers = |list: &[u64]| -> BTreeMap<NodeId, Held> {
            (2..).map(NodeId).zip(list.iter().map(held)).collect()
        };
        // The primary says 7. Answers, whether they are all, and who is sick.
        let cases: [(&[u64], bool, Judgement); 13] = [
            (&[], true, Judgement::Nobody),
            (&[7], false, Judgement::Nobody),
            (&[7, 7], true, Judgement::Nobody),
            // One against one: the primary's word, once nobody else can be asked.
            (&[8], false, Judgement::Nobody),
            (&[8], true, standbys(&[2])),
            (&[8, 7], false, standbys(&[2])),
            (&[7, 8], true, standbys(&[3])),
            // R27.
            (&[8, 8], false, Judgement::Primary),
            (&[8, 8, 8, 7], true, Judgement::Primary),
            // Three different ones.
            (&[8, 9], false, Judgement::Nobody),
            (&[8, 9], true, standbys(&[2, 3])),
            // As many with the primary as against it, it included.
            (&[8, 8, 7], true, standbys(&[2, 3])),
            (&[8, 8, 7, 7], true, standbys(&[2, 3])),
        ];
        for (list, all, sick) in cases {
            assert_eq!(judge(7, &answers(list), all), sick, "{list:?}, all: {all}");
        }
    }
}
