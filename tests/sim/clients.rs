//! Clients: each asks one thing after the other, goes to whoever says it is the primary, and
//! remembers what it was told and what it never heard.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use understudy::resp::{Reply, ReplyLimits, ReplyParser, encode_request};

use super::cluster::Cluster;
use super::history::{Answer, Call, Operation, Outcome};
use super::net::{End, address};
use super::random::Random;

/// How long a client waits for an answer, and for a connection.
const PATIENCE: Duration = Duration::from_millis(2500);

/// Keys besides those that everybody fights for. They are written so rarely that what goes wrong
/// with one is not hidden by the next write. (With three busy keys alone, a node that kept a
/// snapshot of what had been given up was not noticed in 4,000 seeds.)
const RARE_KEYS: u64 = 150;

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
        let mut request = BytesMut::new();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        encode_request(&words, &mut request);
        let talk = async {
            self.end.write_all(&request).await.map_err(|_| Silence)?;
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
        };
        tokio::time::timeout(PATIENCE, talk)
            .await
            .unwrap_or(Err(Silence))
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

    /// Reads a key until it is answered; at the end of a run.
    pub async fn read_until_answered(&mut self, key: u64, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if self.ask(key, Call::Get).await {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    async fn one(&mut self) {
        let value = format!("{}", self.random.below(1_000_000)).into_bytes();
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

    /// `true` when an answer came.
    async fn ask(&mut self, key: u64, call: Call) -> bool {
        if self.connection.is_none() && !self.connect().await {
            return false;
        }
        let Some(mut connection) = self.connection.take() else {
            return false;
        };
        let name = format!("k{key}");
        let begin = self.lock().tick();
        let reply = connection.ask(&call.words(&name)).await;
        let end = self.lock().tick();
        let outcome = match &reply {
            Err(Silence) if call.is_write() => Outcome::Unknown,
            Err(Silence) => Outcome::Failed,
            Ok(Reply::Error(text)) if text.starts_with("UNCONFIRMED") => Outcome::Unknown,
            Ok(reply) => match understood(&call, reply) {
                Some(answer) => Outcome::Ok(answer, end),
                None => Outcome::Failed,
            },
        };
        let answered = matches!(outcome, Outcome::Ok(..));
        if answered {
            self.connection = Some(connection);
        } else {
            // Whoever refuses is not the primary, or not for long.
            self.next_node();
        }
        if let Outcome::Ok(Answer::Value(value), _) = &outcome
            && let Some(seen) = self.seen.get_mut(key as usize)
        {
            *seen = value.clone();
        }
        let now = self.cluster.ghost.now_ms();
        let line = format!("client {} {name} {call:?}: {outcome:?}", self.number);
        self.cluster.ghost.note(&line);
        let mut record = self.lock();
        match &outcome {
            Outcome::Ok(..) => {
                record.acknowledged += 1;
                record.last_ms = now;
            }
            Outcome::Unknown => record.unknown += 1,
            Outcome::Failed => {}
        }
        let client = self.number;
        record.operations.push(Operation {
            client,
            key: name,
            call,
            begin,
            outcome,
        });
        answered
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

/// The answer, if the reply is one; an error is a refusal before anything was executed.
fn understood(call: &Call, reply: &Reply) -> Option<Answer> {
    let value = |reply: &Reply| match reply {
        Reply::Bulk(bytes) => Some(Some(bytes.to_vec())),
        Reply::Null => Some(None),
        _ => None,
    };
    match (call, reply) {
        (Call::Get | Call::GetSet(_), reply) => value(reply).map(Answer::Value),
        (Call::Set(_), Reply::Simple(text)) if text == "OK" => Some(Answer::Done),
        (Call::SetIfEqual { .. }, Reply::Simple(text)) if text == "OK" => {
            Some(Answer::Stored(true))
        }
        (Call::SetIfEqual { .. }, Reply::Null) => Some(Answer::Stored(false)),
        (Call::Incr | Call::Append(_) | Call::Del, Reply::Integer(n)) => Some(Answer::Integer(*n)),
        (Call::Incr, Reply::Error(text)) if text.starts_with("ERR value is not an integer") => {
            Some(Answer::NotAnInteger)
        }
        _ => None,
    }
}
