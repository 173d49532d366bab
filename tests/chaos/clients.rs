//! Clients that read and write shared keys through every fault, and write down what they saw.
//!
//! Each has one request under way. It follows: on a refusal or a closed connection it asks the next
//! node. Three in four are impatient: once another primary was seen to act, they give up what is
//! silent. One in four waits for its answer as long as it takes, so that what a frozen or cut-off
//! primary says when it is back is in the history, too.
//!
//! A standby answers reads, and may be behind; that is no fault. So a client reads only on a
//! connection on which a write of its own was acknowledged: such a connection is bound to that
//! reign. Those writes (each to a key of its own) are the ledger of what must never be lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use understudy::resp::Reply;

use super::dice::Dice;
use super::observer::Board;
use super::wire::{Waited, Wire};
use crate::history::pair::{self, Said};
use crate::history::{Answer, Call, Operation, Outcome};

/// An impatient client's longest wait.
const IMPATIENT: Duration = Duration::from_secs(3);
/// A patient one's: longer than a node's own `write_timeout` and than any freeze.
const PATIENT: Duration = Duration::from_secs(12);
const CONNECT: Duration = Duration::from_millis(100);
/// After a failure, where nobody is seen to be primary.
const RETRY: Duration = Duration::from_millis(30);
/// Operations on a connection between two entries in the ledger.
const PER_ENTRY: u64 = 40;
/// Appends to one key; then the next, so that values stay short.
const PER_LIST: u64 = 60;

/// Whether the name is that of two keys, which transactions write ([`pair`]).
pub fn is_pair(name: &str) -> bool {
    name.contains(":pair:")
}

/// What a load is to be.
#[derive(Clone)]
pub struct LoadPlan {
    pub nodes: Vec<(u32, SocketAddr)>,
    pub clients: u32,
    /// What all keys of this load begin with.
    pub prefix: String,
    pub seed: u64,
    /// The one clock of the run.
    pub began: Instant,
    /// Longest pause between two operations of a client.
    pub think: Duration,
}

/// What the clients of a load saw.
#[derive(Default)]
pub struct Seen {
    pub history: Vec<Operation>,
    /// Keys written once, with themselves as value, and acknowledged.
    pub ledger: Vec<String>,
    /// When an impatient client's write was acknowledged, in microseconds, ascending.
    pub writes_at: Vec<u64>,
    /// How often each error came.
    pub errors: BTreeMap<String, u64>,
    /// Answers that no node should give.
    pub absurd: Vec<String>,
}

impl Seen {
    fn merge(&mut self, other: Seen) {
        self.history.extend(other.history);
        self.ledger.extend(other.ledger);
        self.writes_at.extend(other.writes_at);
        self.absurd.extend(other.absurd);
        for (error, times) in other.errors {
            *self.errors.entry(error).or_default() += times;
        }
    }
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    pub acknowledged: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Load {
    pub fn start(plan: &LoadPlan, board: &Arc<Board>) -> Load {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let appends = Arc::<AtomicU64>::default();
        let dice = Dice::new(plan.seed);
        let clients = (1..=plan.clients).map(|number| {
            let client = Client {
                plan: plan.clone(),
                number,
                board: Arc::clone(board),
                stop: Arc::clone(&stop),
                acknowledged: Arc::clone(&acknowledged),
                appends: Arc::clone(&appends),
                dice: dice.part(u64::from(number)),
                at: number as usize,
                entries: 0,
                unique: 0,
                last_seen: BTreeMap::new(),
                seen: Seen::default(),
            };
            std::thread::spawn(move || client.run())
        });
        Load {
            clients: clients.collect(),
            stop,
            acknowledged,
        }
    }

    /// Waits until this many more writes are acknowledged; `false` when that takes too long.
    pub fn more(&self, writes: u64, patience: Duration) -> bool {
        let goal = self.acknowledged.load(Ordering::Relaxed) + writes;
        let deadline = Instant::now() + patience;
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Lets each client finish its request.
    pub fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for client in self.clients.drain(..) {
            all.merge(client.join().expect("a client does not panic"));
        }
        all.writes_at.sort_unstable();
        all
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Client {
    plan: LoadPlan,
    number: u32,
    board: Arc<Board>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    appends: Arc<AtomicU64>,
    dice: Dice,
    /// Which node it goes to next.
    at: usize,
    entries: u64,
    unique: u64,
    last_seen: BTreeMap<String, Vec<u8>>,
    seen: Seen,
}

/// What becomes of the connection.
#[derive(PartialEq, Eq)]
enum Then {
    Stay,
    Leave,
}

impl Client {
    fn is_patient(&self) -> bool {
        self.number.is_multiple_of(4)
    }

    fn now(&self) -> u64 {
        self.plan.began.elapsed().as_micros() as u64
    }

    fn run(mut self) -> Seen {
        let mut failed = None;
        while !self.is_stopped() {
            let (node, addr) = self.next_node(failed);
            match Wire::open(addr, CONNECT) {
                Some(wire) => self.stay_at(node, wire),
                None => self.count_error("no connection"),
            }
            failed = Some(node);
            self.pause(node);
        }
        self.seen
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The primary last seen to act, unless that one just failed; else each node in turn.
    fn next_node(&mut self, failed: Option<u32>) -> (u32, SocketAddr) {
        let nodes = &self.plan.nodes;
        let primary = self.board.primary().map(|(node, _)| node);
        let known = nodes
            .iter()
            .find(|(node, _)| Some(*node) == primary && failed != primary);
        if let Some(known) = known {
            return *known;
        }
        self.at += 1;
        nodes[self.at % nodes.len()]
    }

    /// Waits a moment, or until another primary is seen: clients that ask all nodes as fast as they
    /// can would take the cores that the election needs.
    fn pause(&self, failed: u32) {
        let until = Instant::now() + RETRY;
        let elsewhere = || self.board.primary().is_some_and(|(node, _)| node != failed);
        while Instant::now() < until && !self.is_stopped() && !elsewhere() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(1));
    }

    fn count_error(&mut self, error: &str) {
        *self.seen.errors.entry(error.to_owned()).or_default() += 1;
    }

    /// Works on one connection until it must leave.
    fn stay_at(&mut self, node: u32, mut wire: Wire) {
        let mut operations = 0_u64;
        while !self.is_stopped() {
            let then = if operations.is_multiple_of(PER_ENTRY) {
                self.enter_into_ledger(node, &mut wire)
            } else {
                self.one_operation(node, &mut wire)
            };
            if then == Then::Leave {
                return;
            }
            operations += 1;
            let think = self.plan.think.as_micros() as u64;
            if think > 0 {
                std::thread::sleep(Duration::from_micros(self.dice.below(think)));
            }
        }
    }

    fn enter_into_ledger(&mut self, node: u32, wire: &mut Wire) -> Then {
        self.entries += 1;
        let key = format!(
            "{}:entry:{}:{}",
            self.plan.prefix, self.number, self.entries
        );
        let call = Call::Set(key.clone().into_bytes());
        let (outcome, then) = self.ask(node, wire, &key, &call);
        if matches!(outcome, Outcome::Ok(Answer::Done, _)) {
            self.seen.ledger.push(key);
        }
        then
    }

    fn one_operation(&mut self, node: u32, wire: &mut Wire) -> Then {
        let (key, call) = self.choose();
        let begin = self.now();
        let (outcome, then) = self.ask(node, wire, &key, &call);
        if let (Call::Get, Outcome::Ok(Answer::Value(Some(value)), _)) = (&call, &outcome) {
            self.last_seen.insert(key.clone(), value.clone());
        }
        self.seen.history.push(Operation {
            client: self.number,
            key,
            call,
            begin,
            outcome,
        });
        then
    }

    /// GET, SET, INCR, APPEND, DEL, GETSET and compare-and-set, on keys of four kinds.
    fn choose(&mut self) -> (String, Call) {
        self.unique += 1;
        let prefix = &self.plan.prefix;
        let unique = format!("{}.{}", self.number, self.unique).into_bytes();
        let number = self.dice.below(6);
        let reads = self.dice.one_in(3);
        match self.dice.below(10) {
            8 | 9 => (
                format!("{prefix}:pair:{number}"),
                self.choose_together(unique, reads),
            ),
            0..=2 => {
                let key = format!("{prefix}:register:{number}");
                let call = match (reads, self.dice.below(20)) {
                    (true, _) => Call::Get,
                    (_, 0) => Call::Del,
                    (_, 1 | 2) => Call::GetSet(unique),
                    _ => Call::Set(unique),
                };
                (key, call)
            }
            3 | 4 => {
                let key = format!("{prefix}:counter:{number}");
                (key, if reads { Call::Get } else { Call::Incr })
            }
            5 | 6 => {
                let number = self.appends.fetch_add(1, Ordering::Relaxed);
                let list = number / PER_LIST / 2 * 2 + number % 2;
                let key = format!("{prefix}:list:{list}");
                let mut word = unique;
                word.push(b',');
                (key, if reads { Call::Get } else { Call::Append(word) })
            }
            _ => self.choose_swap(format!("{prefix}:swap:{number}"), unique, reads),
        }
    }

    /// What is asked of two keys in one transaction.
    fn choose_together(&mut self, unique: Vec<u8>, reads: bool) -> Call {
        match (reads, self.dice.below(6)) {
            (true, _) => Call::Get,
            (_, 0) => Call::Del,
            (_, 1..=3) => Call::GetSet(unique),
            _ => Call::Set(unique),
        }
    }

    /// Compare-and-set of the value last seen, which somebody else may have changed since.
    fn choose_swap(&mut self, key: String, unique: Vec<u8>, reads: bool) -> (String, Call) {
        match self.last_seen.remove(&key) {
            Some(old) => (key, Call::SetIfEqual { old, value: unique }),
            None if reads || self.dice.one_in(2) => (key, Call::Get),
            None if self.dice.one_in(4) => (key, Call::Set(unique)),
            None => (key, Call::Get),
        }
    }

    /// Asks about a key, or about a pair of keys in a transaction.
    fn ask(&mut self, node: u32, wire: &mut Wire, key: &str, call: &Call) -> (Outcome, Then) {
        let said = if !is_pair(key) {
            let replies = self.converse(node, wire, &[call.words(key)]);
            replies.map(|replies| match replies.first() {
                Some(reply) => pair::single(call, reply),
                None => Said::Torn("no reply".to_owned()),
            })
        } else if let (Call::GetSet(value), true) = (call, self.dice.one_in(2)) {
            self.exchange(node, wire, key, value)
        } else {
            let replies = self.converse(node, wire, &pair::transaction(key, call));
            replies.map(|replies| pair::said(call, &replies))
        };
        match said {
            Ok(said) => self.judge(call, said),
            Err(why) => {
                self.count_error(why);
                (Outcome::Unknown, Then::Leave)
            }
        }
    }

    /// GETSET of a pair, as optimistic clients do it: nothing is done if somebody else was quicker.
    fn exchange(
        &mut self,
        node: u32,
        wire: &mut Wire,
        key: &str,
        value: &[u8],
    ) -> Result<Said, &'static str> {
        let seen = pair::watched(&self.converse(node, wire, &pair::watch(key))?);
        let Said::Answer(old) = seen else {
            return Ok(seen);
        };
        let set = Call::Set(value.to_vec());
        let replies = self.converse(node, wire, &pair::transaction(key, &set))?;
        Ok(match pair::said(&set, &replies) {
            Said::Answer(_) => Said::Answer(old),
            other => other,
        })
    }

    /// Sends requests at once and waits for what comes of them. The error says why nothing came.
    fn converse(
        &mut self,
        node: u32,
        wire: &mut Wire,
        requests: &[Vec<Vec<u8>>],
    ) -> Result<Vec<Reply>, &'static str> {
        let sent_at = Instant::now();
        if !wire.send(requests) {
            return Err("closed while sending");
        }
        let (patient, board) = (self.is_patient(), Arc::clone(&self.board));
        let epoch = board.primary().map_or(0, |(_, epoch)| epoch);
        let gives_up = || {
            let silent = sent_at.elapsed();
            if patient {
                return silent > PATIENT;
            }
            // A primary younger than the board's newest is not known there yet.
            let elsewhere = |(other, newer)| {
                other != node && (newer > epoch || silent > Duration::from_millis(100))
            };
            silent > IMPATIENT || board.primary().is_some_and(elsewhere)
        };
        let one = |_: &Vec<Vec<u8>>| match wire.receive(gives_up) {
            Waited::Reply(reply) => Ok(reply),
            Waited::Broken => Err("closed while waiting"),
            Waited::GaveUp => Err("no answer"),
        };
        requests.iter().map(one).collect()
    }

    fn judge(&mut self, call: &Call, said: Said) -> (Outcome, Then) {
        let text = match said {
            Said::Answer(answer) => {
                let now = self.now();
                if call.is_write() {
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    if !self.is_patient() {
                        self.seen.writes_at.push(now);
                    }
                }
                return (Outcome::Ok(answer, now), Then::Stay);
            }
            Said::Nothing => return (Outcome::Failed, Then::Stay),
            Said::Torn(how) => {
                self.seen.absurd.push(how);
                return (Outcome::Unknown, Then::Leave);
            }
            Said::Error(text) => text,
        };
        let code = text.split(' ').next().unwrap_or_default().to_owned();
        self.count_error(&code);
        match code.as_str() {
            "UNCONFIRMED" => (Outcome::Unknown, Then::Stay),
            "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "LOADING" | "NOREPLICAS" | "MISCONF" => {
                (Outcome::Failed, Then::Leave)
            }
            _ => {
                self.seen
                    .absurd
                    .push(format!("{call:?} was answered {text}"));
                (Outcome::Unknown, Then::Leave)
            }
        }
    }
}
