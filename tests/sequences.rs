//! Random sequences of everything that keys know, with transactions, two connections, odd and long
//! arguments, over RESP2 and RESP3, under a clock that moves when a sequence says so: a real
//! redis-server and a node answer each command with the same bytes.
//!
//! Skipped, loudly, where no redis-server or no C compiler is on PATH. A sequence that fails is made
//! shorter, and printed. `SEQUENCES_SEED=n` begins elsewhere, `SEQUENCES_COUNT=n` runs more of them.

mod common;
mod reference;

use std::cell::RefCell;
use std::net::TcpStream;
use std::path::Path;

use common::{BINARY, Lab, alone};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use reference::clock::Clock;
use reference::commands::{EXPIRIES, KEYS, random_command, sorted};
use reference::{Client, Random, Redis, ask_for_bytes, from_environment};
use understudy::resp::{Reply, Version};

/// A connection to each server; both say and hear the same.
struct Pair {
    theirs: Client,
    ours: Client,
    /// Names of the commands since MULTI.
    queued: Option<Vec<String>>,
}

/// One of a sequence: what comes of it depends on nothing but itself and the clock's beginning.
#[derive(Clone, Copy, Debug)]
struct Step(u64);

enum Act {
    Ask(Vec<Vec<u8>>),
    Wait { millis: i64 },
}

/// What a sequence begins with.
#[derive(Clone, Copy, Debug)]
struct Shape {
    resp3: [bool; 2],
    /// Long values, and no LCS: it takes the product of two lengths.
    long: bool,
}

struct Servers {
    redis: Redis,
    lab: Lab,
    node: u32,
    clock: Clock,
    commands: u64,
    transactions: u64,
    broken: u64,
    expired: u64,
}

impl Step {
    /// Expiries near the clock's beginning, relative and absolute, among all others.
    fn expiries(began: i64) -> Vec<String> {
        let near = ["1", "2", "3", "40", "999", "1000", "1500"].map(str::to_owned);
        let ahead = [-1, 0, 1, 2, 50, 1000, 2500].map(|ahead| (began + ahead).to_string());
        let seconds = [0, 1, 2, 3].map(|ahead| (began / 1000 + ahead).to_string());
        // More often than those that decide nothing.
        let close: Vec<String> = near.into_iter().chain(ahead).chain(seconds).collect();
        let all = EXPIRIES.map(str::to_owned);
        close
            .iter()
            .chain(&close)
            .chain(&close)
            .chain(&all)
            .cloned()
            .collect()
    }

    /// Which connection, and what it does.
    fn act(self, shape: Shape, began: i64) -> (usize, Act) {
        let mut random = Random(self.0 | 1);
        // Neighbours begin alike.
        for _ in 0..4 {
            random.next();
        }
        let who = usize::from(random.below(4) == 0);
        let word = |text: &str| text.as_bytes().to_vec();
        let act = match random.below(40) {
            0..=3 => Act::Wait {
                millis: [1, 1, 2, 39, 500, 1000, 1500, 60_000][random.below(8)],
            },
            4..=6 => Act::Ask(vec![word("MULTI")]),
            7..=9 => Act::Ask(vec![word("EXEC")]),
            10 => Act::Ask(vec![word(random.pick(&["DISCARD", "UNWATCH"]))]),
            11 | 12 => Act::Ask(vec![
                word("WATCH"),
                word(random.pick(&KEYS)),
                word(random.pick(&KEYS)),
            ]),
            13 => Act::Ask(vec![word(random.pick(&["TIME", "PING"]))]),
            _ => Act::Ask(Step::command(&mut random, shape, began)),
        };
        (who, act)
    }

    /// For people.
    fn told(self, shape: Shape, began: i64) -> String {
        match self.act(shape, began) {
            (who, Act::Ask(args)) => format!("{who}: {}", words_of(&args)),
            (_, Act::Wait { millis }) => format!("{millis} ms pass"),
        }
    }

    fn command(random: &mut Random, shape: Shape, began: i64) -> Vec<Vec<u8>> {
        let expiries = Step::expiries(began);
        let expiries: Vec<&str> = expiries.iter().map(String::as_str).collect();
        let mut args = loop {
            let args = random_command(random, &expiries);
            let left_out = match args[0].as_str() {
                // Chance; bytes that compression may lay differently; expired keys that nobody has
                // looked at, which each server deletes at its own time.
                "RANDOMKEY" | "DUMP" | "DBSIZE" => true,
                "LCS" => shape.long,
                // An operation that fails makes the key longer all the same; Redis tells no watcher.
                "BITFIELD" => args.iter().any(|arg| arg == "FAIL"),
                _ => false,
            };
            if !left_out {
                break args.into_iter().map(String::into_bytes).collect::<Vec<_>>();
            }
        };
        if args.len() > 1 && random.below(10) == 0 {
            let at = 1 + random.below(args.len() - 1);
            // Redis shows options that it does not know whole, however long.
            let names = ["SET", "SETNX", "APPEND", "GETSET", "MSET"].map(str::as_bytes);
            let data = at == 1 || (at == 2 && names.contains(&args[0].as_slice()));
            args[at] = Step::odd(random, shape.long && data);
        }
        args
    }

    fn odd(random: &mut Random, long: bool) -> Vec<u8> {
        let length = match random.below(4) {
            0 if long => 1 << (10 + random.below(12)),
            0 | 1 => random.below(300),
            _ => random.below(5),
        };
        match random.below(3) {
            0 => b"\r\n$0*".repeat(length / 5 + 1),
            1 => vec![random.next() as u8; length],
            _ => (0..length).map(|_| random.next() as u8).collect(),
        }
    }
}

fn words_of(args: &[Vec<u8>]) -> String {
    let words: Vec<String> = args
        .iter()
        .map(|arg| arg.escape_ascii().to_string())
        .collect();
    words.join(" ")
}

fn has_error(reply: &Reply) -> bool {
    match reply {
        Reply::Array(replies) => replies.iter().any(Reply::is_error),
        reply => reply.is_error(),
    }
}

impl Pair {
    fn connect(servers: &Servers, resp3: bool) -> Pair {
        let ours = TcpStream::connect(servers.lab.addr(servers.node)).expect("the node listens");
        let mut pair = Pair {
            theirs: Client::over(servers.redis.connect()),
            ours: Client::over(ours),
            queued: None,
        };
        let version = if resp3 {
            Version::Resp3
        } else {
            Version::Resp2
        };
        pair.theirs.speaks(version);
        pair.ours.speaks(version);
        pair
    }

    /// In one order, with what is in any.
    fn sorted(&self, name: &str, reply: Reply) -> Option<Reply> {
        match (name, &self.queued, reply) {
            ("KEYS" | "SCAN", None, reply) => Some(sorted(name, reply)),
            ("EXEC", Some(queued), Reply::Array(replies)) => {
                let unsure = |name: &String| name == "KEYS" || name == "SCAN";
                queued.iter().any(unsure).then(|| {
                    let each = queued.iter().zip(replies);
                    Reply::Array(each.map(|(name, reply)| sorted(name, reply)).collect())
                })
            }
            _ => None,
        }
    }

    fn compare(&mut self, args: &[Vec<u8>]) -> Result<Reply, TestCaseError> {
        let words: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let both = [&mut self.theirs, &mut self.ours]
            .map(|client| ask_for_bytes(&mut client.stream, &mut client.parser, &words));
        let [(theirs, their_bytes), (ours, our_bytes)] = both;
        let name = String::from_utf8_lossy(&args[0]).to_ascii_uppercase();
        let alike = match self.sorted(&name, theirs.clone()) {
            Some(theirs) => Some(theirs) == self.sorted(&name, ours.clone()),
            // An error is text: of an argument's bytes it shows what is UTF-8.
            None if has_error(&theirs) => theirs == ours,
            None => their_bytes == our_bytes,
        };
        prop_assert!(
            alike,
            "{}\nRedis: {}\nours:  {}",
            words_of(args),
            their_bytes.escape_ascii(),
            our_bytes.escape_ascii()
        );
        self.follow(name, &ours);
        Ok(ours)
    }

    fn follow(&mut self, name: String, reply: &Reply) {
        match (name.as_str(), &mut self.queued) {
            ("MULTI", queued @ None) => *queued = Some(Vec::new()),
            ("EXEC" | "DISCARD", queued @ Some(_)) => *queued = None,
            (_, Some(queued)) if *reply == Reply::Simple("QUEUED".into()) => queued.push(name),
            _ => {}
        }
    }
}

impl Servers {
    fn start() -> Option<Servers> {
        let clock = Clock::at(1_800_000_000_000_000)?;
        let redis = Redis::start_as(clock.before("redis-server").as_os_str())?;
        let binary = clock.before(BINARY);
        let mut lab = Lab::prepare_as(Path::new(&binary), alone(), |_, text| text);
        lab.cluster.start_all().expect("it starts");
        let node = lab.ready();
        Some(Servers {
            redis,
            lab,
            node,
            clock,
            commands: 0,
            transactions: 0,
            broken: 0,
            expired: 0,
        })
    }

    fn run(&mut self, shape: Shape, steps: &[Step]) -> Result<(), TestCaseError> {
        // What a sequence does with the clock does not depend on the sequences before it.
        let began = (self.clock.micros() / 10_000_000 + 1) * 10_000_000;
        self.clock.set(began);
        let began = self.clock.millis();
        let mut pairs = shape.resp3.map(|resp3| Pair::connect(self, resp3));
        pairs[0].compare(&[b"FLUSHALL".to_vec()])?;
        for step in steps {
            match step.act(shape, began) {
                (who, Act::Ask(args)) => {
                    let reply = pairs[who].compare(&args)?;
                    self.commands += 1;
                    if args[0] == b"EXEC" {
                        self.transactions += u64::from(matches!(reply, Reply::Array(_)));
                        self.broken += u64::from(reply == Reply::NullArray);
                    }
                }
                (_, Act::Wait { millis }) => {
                    let keys = |pairs: &mut [Pair; 2]| pairs[1].ours.ask("KEYS *");
                    let before = (pairs[1].queued.is_none()).then(|| keys(&mut pairs));
                    self.clock.set(self.clock.micros() + millis * 1000);
                    let after = (pairs[1].queued.is_none()).then(|| keys(&mut pairs));
                    self.expired += u64::from(before != after);
                }
            }
        }
        Ok(())
    }
}

#[test]
fn sequences_are_answered_as_by_redis() {
    let Some(servers) = Servers::start() else {
        eprintln!(
            "SKIPPED: no redis-server or no C compiler, sequences were compared with nothing"
        );
        return;
    };
    let seed = from_environment("SEQUENCES_SEED", 1);
    let count = from_environment("SEQUENCES_COUNT", 60);
    eprintln!("SEQUENCES_SEED={seed} SEQUENCES_COUNT={count}");
    let servers = RefCell::new(servers);
    let config = Config {
        cases: count as u32,
        failure_persistence: None,
        ..Config::default()
    };
    let mut seeds = [0; 32];
    seeds[..8].copy_from_slice(&seed.to_le_bytes());
    let chance = TestRng::from_seed(RngAlgorithm::ChaCha, &seeds);
    let shapes = (any::<[bool; 2]>(), any::<bool>());
    let sequences = (shapes, vec(any::<u64>(), 1..300));
    let compared = TestRunner::new_with_rng(config, chance).run(&sequences, |(shape, steps)| {
        let (resp3, long) = shape;
        let steps: Vec<Step> = steps.into_iter().map(Step).collect();
        servers.borrow_mut().run(Shape { resp3, long }, &steps)
    });
    let Servers {
        commands,
        transactions,
        broken,
        expired,
        clock,
        ..
    } = servers.into_inner();
    match compared {
        Ok(()) => {}
        Err(TestError::Fail(why, ((resp3, long), steps))) => {
            let (shape, began) = (Shape { resp3, long }, clock.millis() / 10_000 * 10_000);
            for step in steps {
                eprintln!("{}", Step(step).told(shape, began));
            }
            panic!("{shape:?}: {why}");
        }
        Err(error) => panic!("{error}"),
    }
    println!(
        "{commands} commands, {transactions} transactions, {broken} broken, {expired} waits saw keys go"
    );
    assert!(transactions > count, "{transactions} transactions");
    assert!(broken > count / 10, "{broken} transactions broken");
    assert!(expired > count / 4, "{expired} waits that saw keys go");
}
