//! Clients: each asks one thing after the other, goes to whoever says it is the primary, and
//! remembers what it was told and what it never heard.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use understudy::resp::{Reply, ReplyLimits, ReplyParser, encode_request};

use super::cluster::Cluster;
use super::history::pair::{self, Said};
use super::history::{Answer, Call, Operation, Outcome};
use super::net::{End, address};
use super::random::Random;

/// How long a client waits for an answer, and for a connection.
const PATIENCE: Duration = Duration::from_millis(2500);

/// Keys besides those that everybody fights for. They are written so rarely that what goes wrong
/// with one is not hidden by the next write. (With three busy keys alone, a node that kept a
/// snapshot of what had been given up was not noticed in 4,000 seeds.)
const RARE_KEYS: u64 = 150;

/// Pairs of keys that transactions write.
const PAIRS: u64 = 2;

/// The key of increments with request ids.
const COUNTER: &str = "counter";

/// What clients did.
#[derive(Default)]
pub struct Record {
    pub operations: Vec<Operation>,
    pub acknowledged: u64,
    pub unknown: u64,
    /// When a write was acknowledged last, and the longest time without one.
    pub last_ms: u64,
    pub tick: u64,
}

impl Record {
    fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }
}

pub struct Connection {
    end: End,
    parser: ReplyParser,
    buffer: BytesMut,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Silence;

impl Connection {
    pub fn new(end: End) -> Connection {
        Connection {
            end,
            parser: ReplyParser::new(ReplyLimits::default()),
            buffer: BytesMut::new(),
        }
    }

    pub async fn ask(&mut self, words: &[Vec<u8>]) -> Result<Reply, Silence> {
        let mut replies = self.ask_all(&[words.to_vec()]).await?;
        replies.pop().ok_or(Silence)
    }

    /// Sends all at once; a reply each.
    async fn ask_all(&mut self, requests: &[Vec<Vec<u8>>]) -> Result<Vec<Reply>, Silence> {
        let mut sent = BytesMut::new();
        for words in requests {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            encode_request(&words, &mut sent);
        }
        let talk = async {
            self.end.write_all(&sent).await.map_err(|_| Silence)?;
            let mut replies = Vec::new();
            while replies.len() < requests.len() {
                replies.push(self.next_reply().await?);
            }
            Ok(replies)
        };
        tokio::time::timeout(PATIENCE, talk)
            .await
            .unwrap_or(Err(Silence))
    }

    async fn next_reply(&mut self) -> Result<Reply, Silence> {
        loop {
            match self.parser.parse(&mut self.buffer) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(_) => return Err(Silence),
            }
            match self.end.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Err(Silence),
                Ok(_) => {}
            }
        }
    }

    async fn ask_of(&mut self, whom: &Subject, call: &Call) -> Result<Said, Silence> {
        match whom {
            Subject::Key(key) => {
                let reply = self.ask(&call.words(key)).await?;
                Ok(pair::single(call, &reply))
            }
            Subject::Pair(pair) => {
                let replies = self.ask_all(&pair::transaction(pair, call)).await?;
                Ok(pair::said(call, &replies))
            }
        }
    }

    /// GETSET of a pair, as optimistic clients do it: nothing is done if somebody else was quicker.
    async fn exchange(&mut self, pair: &str, value: &[u8]) -> Result<Said, Silence> {
        let seen = pair::watched(&self.ask_all(&pair::watch(pair)).await?);
        let Said::Answer(old) = seen else {
            return Ok(seen);
        };
        let set = Call::Set(value.to_vec());
        let replies = self.ask_all(&pair::transaction(pair, &set)).await?;
        Ok(match pair::said(&set, &replies) {
            Said::Answer(_) => Said::Answer(old),
            other => other,
        })
    }
}

/// What is asked about.
enum Subject {
    Key(String),
    /// Two keys, in a transaction.
    Pair(String),
}

impl Subject {
    fn name(&self) -> &str {
        match self {
            Subject::Key(name) | Subject::Pair(name) => name,
        }
    }
}

/// One client, until told to stop.
pub struct Client {
    pub cluster: Arc<Cluster>,
    pub record: Arc<Mutex<Record>>,
    pub number: u32,
    pub random: Random,
    pub stop_at: Instant,
    pub keys: u64,
    connection: Option<Connection>,
    at: u32,
    /// With ids, so far.
    requests: u64,
    /// What it saw last on each key, for compare-and-set.
    seen: Vec<Option<Vec<u8>>>,
}

impl Client {
    pub fn new(
        cluster: Arc<Cluster>,
        record: Arc<Mutex<Record>>,
        number: u32,
        mut random: Random,
        stop_at: Instant,
        keys: u64,
    ) -> Client {
        let at = 1 + random.below(u64::from(cluster.shape.data)) as u32;
        Client {
            cluster,
            record,
            number,
            random,
            stop_at,
            keys,
            connection: None,
            at,
            requests: 0,
            seen: vec![None; keys as usize],
        }
    }

    /// Asks until the time is over.
    pub async fn run(mut self) {
        while Instant::now() < self.stop_at {
            // Now and then long enough to sleep through a takeover, and to ask where one asked before.
            let pause = match self.random.one_in(60) {
                true => self.random.below(2000),
                false => self.random.below(12),
            };
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.one().await;
        }
    }

    /// Reads all keys that everybody fights for; at the end of a run. `false` where one is not answered.
    pub async fn read_all(&mut self, limit: Duration) -> bool {
        let keys = (0..self.keys).map(|key| Subject::Key(format!("k{key}")));
        let pairs = (0..PAIRS).map(|pair| Subject::Pair(format!("p{pair}")));
        let counter = std::iter::once(Subject::Key(COUNTER.to_owned()));
        for subject in keys.chain(pairs).chain(counter) {
            let end = Instant::now() + limit;
            while !self.answers(&subject, Call::Get).await {
                if Instant::now() >= end {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        true
    }

    async fn one(&mut self) {
        let value = format!("{}", self.random.below(1_000_000)).into_bytes();
        if self.random.one_in(12) {
            self.increment_once().await;
            return;
        }
        if self.random.one_in(6) {
            let pair = Subject::Pair(format!("p{}", self.random.below(PAIRS)));
            let call = match self.random.below(6) {
                0 | 1 => Call::Get,
                2 => Call::Incr,
                3 => Call::Set(value),
                4 => Call::Del,
                _ => Call::GetSet(value),
            };
            self.ask_of(&pair, call).await;
            return;
        }
        if self.random.one_in(5) {
            let key = self.keys + self.random.below(RARE_KEYS);
            let call = match self.random.below(4) {
                0 => Call::Get,
                1 => Call::Del,
                _ => Call::Set(value),
            };
            self.ask(key, call).await;
            return;
        }
        let key = self.random.below(self.keys);
        let call = match self.random.below(10) {
            0..=2 => Call::Get,
            3..=4 => Call::Set(value),
            5..=6 => Call::Incr,
            7 => Call::Append(value[..1].to_vec()),
            8 => match self.seen[key as usize].clone() {
                Some(old) => Call::SetIfEqual { old, value },
                None => Call::Get,
            },
            _ if self.random.one_in(3) => Call::Del,
            // Long enough that segments are sealed and snapshots made.
            _ if self.random.one_in(2) => Call::Set(value.repeat(700)),
            _ => Call::Set(value),
        };
        self.ask(key, call).await;
    }

    async fn ask(&mut self, key: u64, call: Call) {
        let subject = Subject::Key(format!("k{key}"));
        let outcome = self.ask_of(&subject, call).await;
        if let Some(Outcome::Ok(Answer::Value(value), _)) = &outcome
            && let Some(seen) = self.seen.get_mut(key as usize)
        {
            *seen = value.clone();
        }
    }

    async fn answers(&mut self, whom: &Subject, call: Call) -> bool {
        matches!(self.ask_of(whom, call).await, Some(Outcome::Ok(..)))
    }

    /// One increment with a request id, sent until it is answered, by whomever. To the judge it is one
    /// operation: had two of the requests an effect, a number would be missing among the answers.
    async fn increment_once(&mut self) {
        self.requests += 1;
        let id = format!("{}-{}", self.number, self.requests).into_bytes();
        let with_id = [b"CLIENT".to_vec(), b"REQUESTID".to_vec(), id].to_vec();
        let requests = [with_id, Call::Incr.words(COUNTER)];
        let begin = self.lock().tick();
        let mut outcome = Outcome::Unknown;
        while Instant::now() < self.stop_at {
            if self.connection.is_none() && !self.connect().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
            let Some(mut connection) = self.connection.take() else {
                continue;
            };
            let replies = connection.ask_all(&requests).await.unwrap_or_default();
            if let Some(Reply::Integer(number)) = replies.get(1) {
                let end = self.lock().tick();
                outcome = Outcome::Ok(Answer::Integer(*number), end);
                self.connection = Some(connection);
                break;
            }
            self.next_node();
        }
        self.note(COUNTER, Call::Incr, begin, &outcome);
    }

    /// What came of it; `None` where nobody could be asked.
    async fn ask_of(&mut self, whom: &Subject, call: Call) -> Option<Outcome> {
        if self.connection.is_none() && !self.connect().await {
            return None;
        }
        let mut connection = self.connection.take()?;
        let begin = self.lock().tick();
        let watches = self.random.one_in(2);
        let said = match (whom, &call) {
            (Subject::Pair(pair), Call::GetSet(value)) if watches => {
                connection.exchange(pair, value).await
            }
            _ => connection.ask_of(whom, &call).await,
        };
        let end = self.lock().tick();
        let nothing_done = matches!(said, Ok(Said::Nothing));
        let outcome = match said {
            Err(Silence) if call.is_write() => Outcome::Unknown,
            Err(Silence) | Ok(Said::Nothing) => Outcome::Failed,
            Ok(Said::Answer(answer)) => Outcome::Ok(answer, end),
            Ok(Said::Error(text)) if text.starts_with("UNCONFIRMED") => Outcome::Unknown,
            Ok(Said::Error(_)) => Outcome::Failed,
            Ok(Said::Torn(how)) => {
                let of = whom.name();
                self.cluster.ghost.violated(format!("{of}: {how}"));
                Outcome::Failed
            }
        };
        if nothing_done || matches!(outcome, Outcome::Ok(..)) {
            self.connection = Some(connection);
        } else {
            // Whoever refuses is not the primary, or not for long.
            self.next_node();
        }
        self.note(whom.name(), call, begin, &outcome);
        Some(outcome)
    }

    /// For the trace, and for the judge.
    fn note(&self, key: &str, call: Call, begin: u64, outcome: &Outcome) {
        let client = self.number;
        let line = format!("client {client} {key} {call:?}: {outcome:?}");
        self.cluster.ghost.note(&line);
        let now = self.cluster.ghost.now_ms();
        let mut record = self.lock();
        match outcome {
            Outcome::Ok(..) => {
                record.acknowledged += 1;
                record.last_ms = now;
            }
            Outcome::Unknown => record.unknown += 1,
            Outcome::Failed => {}
        }
        record.operations.push(Operation {
            client,
            key: key.to_owned(),
            call,
            begin,
            outcome: outcome.clone(),
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().expect("one thread")
    }

    fn next_node(&mut self) {
        self.at = self.at % self.cluster.shape.data + 1;
    }

    /// Connects to the node it believes in, and stays if that says it is the primary.
    async fn connect(&mut self) -> bool {
        let to = address(self.at, 7379);
        let from = 100 + self.number;
        let dialed = self.cluster.net.dial(from, to, PATIENCE, PATIENCE).await;
        let Ok((end, _)) = dialed else {
            self.next_node();
            return false;
        };
        let mut connection = Connection::new(end);
        let role = connection.ask(&[b"ROLE".to_vec()]).await;
        let primary = match role {
            Ok(Reply::Array(parts)) => {
                matches!(parts.first(), Some(Reply::Bulk(name)) if name == "master")
            }
            _ => false,
        };
        if !primary {
            self.next_node();
            return false;
        }
        self.connection = Some(connection);
        true
    }
}
