//! What connections do to themselves and to each other (CLIENT, MONITOR), beside a real redis-server where there
//! is one; and receipts of copies: WAIT, WAITAOF, CLIENT DURABILITY, CLIENT LASTLSN, READAFTER.

mod common;
mod reference;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use common::{Lab, PATIENCE, until};
use reference::{Redis, encoded};
use understudy::cli::local_cluster::Plan;
use understudy::resp::{Reply, ReplyLimits, ReplyParser, encode_request};

/// A connection whose replies are read one by one.
struct Wire {
    stream: TcpStream,
    parser: ReplyParser,
    input: BytesMut,
}

impl Wire {
    fn over(stream: TcpStream) -> Wire {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Wire {
            stream,
            parser: ReplyParser::new(ReplyLimits::default()),
            input: BytesMut::new(),
        }
    }

    fn to(lab: &Lab, node: u32) -> Wire {
        Wire::over(TcpStream::connect(lab.addr(node)).expect("it listens"))
    }

    fn send(&mut self, line: &str) {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut out = BytesMut::new();
        encode_request(&words, &mut out);
        self.stream.write_all(&out).expect("it reads");
    }

    /// `None` where nothing comes in time, or the connection is closed.
    fn next_within(&mut self, time: Duration) -> Option<Reply> {
        self.stream.set_read_timeout(Some(time)).expect("a timeout");
        loop {
            if let Some(reply) = self.parser.parse(&mut self.input).expect("RESP") {
                return Some(reply);
            }
            let mut some = [0; 4096];
            match self.stream.read(&mut some) {
                Ok(0) => return None,
                Ok(n) => self.input.extend_from_slice(&some[..n]),
                Err(error) => {
                    assert!(
                        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                        "{error}"
                    );
                    return None;
                }
            }
        }
    }

    fn next(&mut self) -> Reply {
        self.next_within(PATIENCE).expect("a reply")
    }

    fn ask(&mut self, line: &str) -> Reply {
        self.send(line);
        self.next()
    }

    fn says(&mut self, line: &str, wanted: &str) {
        let said = self.ask(line);
        let said = String::from_utf8_lossy(&encoded(&said)).into_owned();
        assert!(said.contains(wanted), "{line}: {said}");
    }

    /// Whether the other side closes, whatever it still says before.
    fn is_closed(&mut self) -> bool {
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
        let mut rest = [0; 4096];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::ConnectionReset,
            }
        }
    }
}

fn alone() -> (Lab, u32) {
    Lab::start(Plan {
        data_nodes: 1,
        ..Plan::three_data_nodes("alone")
    })
}

/// Ours, and Redis where there is one: the same is asked of both.
fn both(
    lab: &Lab,
    node: u32,
    redis: Option<&Redis>,
    test: impl Fn(&dyn Fn() -> Wire) -> Vec<String>,
) {
    let ours = test(&|| Wire::to(lab, node));
    match redis {
        Some(redis) => assert_eq!(ours, test(&|| Wire::over(redis.connect()))),
        None => eprintln!("SKIPPED: there is no redis-server to compare with"),
    }
}

fn shown(reply: &Reply) -> String {
    String::from_utf8_lossy(&encoded(reply)).into_owned()
}

/// Their answers do not depend on the connection.
const SAME_AS_REDIS: [&str; 41] = [
    "CLIENT TRACKING foo",
    "CLIENT TRACKING off",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "CLIENT CACHING yes",
    "CLIENT UNBLOCK 999",
    "CLIENT UNBLOCK abc",
    "CLIENT UNBLOCK 1 foo",
    "CLIENT UNBLOCK 1 ERROR more",
    "CLIENT REPLY foo",
    "CLIENT REPLY on",
    "CLIENT PAUSE abc",
    "CLIENT PAUSE -1",
    "CLIENT PAUSE 10 foo",
    "CLIENT PAUSE 0 ALL",
    "CLIENT KILL foo",
    "CLIENT KILL id 999",
    "CLIENT KILL id abc",
    "CLIENT KILL id -1",
    "CLIENT KILL type foo",
    "CLIENT KILL addr",
    "CLIENT KILL user nobody",
    "CLIENT KILL skipme foo",
    "CLIENT KILL id 5555 skipme no",
    "CLIENT KILL foo bar",
    "CLIENT KILL laddr 1:1",
    "CLIENT KILL id 1 type",
    "CLIENT KILL",
    "CLIENT NO-EVICT foo",
    "CLIENT NO-EVICT on",
    "CLIENT UNPAUSE",
    "CLIENT ID x",
    "CLIENT",
    "WAIT 0 -1",
    "WAIT abc 1",
    "WAIT -1 0",
    "WAIT 0 abc",
    "WAIT 0 0",
    "WAIT 1 1",
    "WAIT 9999999999 1",
    "MONITOR x",
];

#[test]
fn client_commands_answer_as_redis() {
    let (lab, node) = alone();
    both(&lab, node, Redis::start().as_ref(), |connect| {
        let answers = SAME_AS_REDIS.iter().map(|line| {
            let reply = shown(&connect().ask(line));
            format!("{line}: {reply}")
        });
        answers.collect()
    });
}

#[test]
fn replies_are_turned_off_and_skipped_as_in_redis() {
    let (lab, node) = alone();
    both(&lab, node, Redis::start().as_ref(), |connect| {
        let mut wire = connect();
        for line in [
            "CLIENT REPLY SKIP",
            "PING skipped",
            "SET a 1",
            "CLIENT REPLY SKIP",
            "SET a 2",
            "GET a",
            "CLIENT REPLY OFF",
            "SET a 3",
            "NOSUCHCOMMAND",
            "GET a",
            "CLIENT REPLY SKIP",
            "CLIENT REPLY ON",
            "SUBSCRIBE news",
            "UNSUBSCRIBE news",
            "GET a",
            "PING end",
        ] {
            wire.send(line);
        }
        let mut said = Vec::new();
        while said
            .last()
            .is_none_or(|last: &String| !last.contains("end"))
        {
            said.push(shown(&wire.next()));
        }
        said
    });
}

#[test]
fn who_monitors_sees_what_others_ask() {
    let (lab, node) = alone();
    both(&lab, node, Redis::start().as_ref(), |connect| {
        let (mut watching, mut other) = (connect(), connect());
        assert_eq!(watching.ask("MONITOR"), Reply::OK);
        for line in [
            "SET key odd\"\\\n\u{1}value",
            "get key",
            "INCR key",
            "CLIENT LIST",
            "NOSUCHCOMMAND",
            "HELLO 2 AUTH default secret",
            "AUTH secret",
            "PING end",
        ] {
            other.ask(line);
        }
        let mut said: Vec<String> = Vec::new();
        while said.last().is_none_or(|last| !last.contains("\"end\"")) {
            let line = shown(&watching.next());
            let (time_and_place, request) = line.split_once("] ").expect("a place");
            let (time, place) = time_and_place.split_once(" [").expect("a time");
            assert!(place.starts_with("0 127.0.0.1:"), "{line}");
            let seconds: f64 = time.trim_start_matches('+').parse().expect("a time");
            assert!(seconds > 1e9, "{line}");
            said.push(request.to_owned());
        }
        let listed = shown(&other.ask("CLIENT LIST"));
        assert!(
            listed.contains(" flags=O ") && listed.contains(" cmd=monitor "),
            "{listed}"
        );
        // RESET ends it.
        assert_eq!(watching.ask("RESET"), Reply::Simple("RESET".into()));
        other.ask("PING unseen");
        said.push(shown(&watching.ask("PING own")));
        said
    });
}

#[test]
fn paused_writes_wait_and_reads_go_on() {
    let (lab, node) = alone();
    both(&lab, node, Redis::start().as_ref(), |connect| {
        let (mut admin, mut one, mut other) = (connect(), connect(), connect());
        let mut said = vec![
            shown(&admin.ask("SET k 1")),
            shown(&admin.ask("CLIENT PAUSE 60000 WRITE")),
        ];
        one.send("GET k");
        one.send("SET k 2");
        one.send("GET k");
        said.push(shown(&one.next()));
        other.ask("MULTI");
        said.push(shown(&other.ask("GET k")));
        other.send("SET k 3");
        other.send("EXEC");
        let silent = Duration::from_millis(150);
        assert_eq!(one.next_within(silent), None, "a write was not paused");
        assert_eq!(
            other.next_within(silent),
            None,
            "a queued write was not paused"
        );
        said.push(shown(&admin.ask("GET k")));
        said.push(shown(&admin.ask("CLIENT UNPAUSE")));
        other.next();
        other.next();
        said.push(shown(&one.next()));
        one.next();
        said.push(shown(&admin.ask("CLIENT PAUSE 100 ALL")));
        let began = Instant::now();
        said.push(shown(&one.ask("EXISTS k")));
        assert!(
            began.elapsed() >= Duration::from_millis(90),
            "{:?}",
            began.elapsed()
        );
        said
    });
    // A node that does not answer PING is taken for dead, so PING is answered in any pause.
    let mut wire = Wire::to(&lab, node);
    wire.says("CLIENT PAUSE 9223372036854775807 ALL", "+OK");
    wire.says("PING", "+PONG");
    let mut other = Wire::to(&lab, node);
    other.send("GET k");
    assert_eq!(other.next_within(Duration::from_millis(100)), None);
    wire.says("CLIENT UNPAUSE", "+OK");
    assert!(matches!(other.next(), Reply::Bulk(_)));
}

fn id_of(wire: &mut Wire) -> i64 {
    match wire.ask("CLIENT ID") {
        Reply::Integer(id) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn connections_end_each_other() {
    let (lab, node) = alone();
    both(&lab, node, Redis::start().as_ref(), |connect| {
        let mut admin = connect();
        let mut said = Vec::new();
        // By its number, whatever it is doing.
        for before in [
            &[][..],
            &["SUBSCRIBE x"],
            &["MULTI", "SET a 1"],
            &["MONITOR"],
        ] {
            let mut victim = connect();
            let id = id_of(&mut victim);
            for line in before {
                victim.ask(line);
            }
            said.push(shown(&admin.ask(&format!("CLIENT KILL ID {id}"))));
            assert!(victim.is_closed(), "{before:?}");
        }
        // By its address, in the old form and the new.
        for form in ["CLIENT KILL ", "CLIENT KILL ADDR "] {
            let mut victim = connect();
            let addr = victim.stream.local_addr().expect("an address");
            victim.ask("PING");
            said.push(shown(&admin.ask(&format!("{form}{addr}"))));
            assert!(victim.is_closed(), "{form}");
        }
        // All subscribers, and nobody else.
        let (mut subscriber, mut plain) = (connect(), connect());
        subscriber.ask("SUBSCRIBE x");
        plain.ask("PING");
        said.push(shown(&admin.ask("CLIENT KILL TYPE pubsub")));
        assert!(subscriber.is_closed());
        said.push(shown(&plain.ask("PING")));
        // Oneself: answered, then closed.
        let own = plain.stream.local_addr().expect("an address");
        said.push(shown(&plain.ask(&format!("CLIENT KILL ADDR {own}"))));
        said.push(shown(
            &plain.ask(&format!("CLIENT KILL ADDR {own} SKIPME no")),
        ));
        assert!(plain.is_closed());
        said
    });
}

#[test]
fn the_list_of_clients_says_what_each_does() {
    let (lab, node) = alone();
    let mut wire = Wire::to(&lab, node);
    let line = |wire: &mut Wire| shown(&wire.ask("CLIENT INFO"));
    let first = line(&mut wire);
    let (own, theirs) = (
        wire.stream.local_addr().expect("an address"),
        wire.stream.peer_addr().expect("an address"),
    );
    for wanted in [
        format!(" addr={own} laddr={theirs} "),
        " cmd=client|info ".to_owned(),
        " flags=N ".to_owned(),
        " multi=-1 ".to_owned(),
    ] {
        assert!(first.contains(&wanted), "{wanted}: {first}");
    }
    wire.says("CLIENT SETNAME me", "+OK");
    wire.says("CLIENT NO-TOUCH on", "+OK");
    let (mut queueing, mut waiting) = (Wire::to(&lab, node), Wire::to(&lab, node));
    let id = id_of(&mut waiting);
    queueing.ask("MULTI");
    queueing.ask("SET a 1");
    waiting.send("WAIT 1 0");
    let listed = until("a client that waits", || {
        let listed = shown(&wire.ask("CLIENT LIST"));
        listed.contains(" flags=b ").then_some(listed)
    });
    assert!(listed.contains(" name=me "), "{listed}");
    assert!(listed.contains(" flags=T "), "{listed}");
    assert!(
        listed.contains(" flags=x ") && listed.contains(" multi=1 "),
        "{listed}"
    );
    assert_eq!(lab.info(node, "blocked_clients").as_deref(), Some("1"));
    wire.says(&format!("CLIENT UNBLOCK {id}"), ":1");
    assert_eq!(waiting.next(), Reply::Integer(0));
    waiting.send("WAIT 1 0");
    until("it waits again", || {
        matches!(
            wire.ask(&format!("CLIENT UNBLOCK {id} ERROR")),
            Reply::Integer(1)
        )
        .then_some(())
    });
    let said = shown(&waiting.next());
    assert!(said.starts_with("-UNBLOCKED "), "{said}");
    wire.says(&format!("CLIENT UNBLOCK {id}"), ":0");
    // A client that goes while it waits is gone.
    waiting.send("WAIT 1 0");
    drop(waiting);
    until("it is gone", || {
        (!shown(&wire.ask("CLIENT LIST")).contains(&format!("id={id} "))).then_some(())
    });
}

fn in_mode(mode: &str) -> Plan {
    Plan {
        mode: mode.to_owned(),
        level: None,
        ..Plan::pair_with_witness("shop")
    }
}

#[test]
fn waits_for_copies_end_when_the_copies_are_there() {
    for mode in ["async", "semi-sync"] {
        let (mut lab, primary) = Lab::start(in_mode(mode));
        let standby = 3 - primary;
        lab.caught_up(standby, primary);
        let mut wire = Wire::to(&lab, primary);
        wire.says("SET k 1", "+OK");
        assert_eq!(wire.ask("WAIT 1 0"), Reply::Integer(1), "{mode}");
        let both = Reply::Array(vec![Reply::Integer(1), Reply::Integer(1)]);
        assert_eq!(wire.ask("WAITAOF 1 1 0"), both, "{mode}");
        // More than there are.
        let began = Instant::now();
        assert_eq!(wire.ask("WAIT 2 120"), Reply::Integer(1), "{mode}");
        assert!(began.elapsed() >= Duration::from_millis(120));
        // In a transaction nobody waits.
        wire.ask("MULTI");
        wire.ask("SET k 2");
        wire.ask("WAIT 2 0");
        assert!(matches!(wire.ask("EXEC"), Reply::Array(_)));
        // What a standby lacks is waited for until it is back.
        lab.cluster.kill9(standby).expect("it runs");
        wire.says("SET k 3", "+OK");
        wire.send("WAITAOF 1 1 0");
        assert_eq!(wire.next_within(Duration::from_millis(100)), None, "{mode}");
        lab.cluster.start(standby).expect("it starts");
        assert_eq!(wire.next(), both, "{mode}");
        let mut there = Wire::to(&lab, standby);
        until("it serves", || {
            shown(&there.ask("WAIT 0 0"))
                .contains("replica instances")
                .then_some(())
        });
        there.says(
            "WAITAOF 0 0 0",
            "-ERR WAITAOF cannot be used with replica instances",
        );
    }
}

#[test]
fn a_wait_ends_with_the_reign() {
    let (lab, primary) = Lab::start(in_mode("semi-sync"));
    let mut wire = Wire::to(&lab, primary);
    wire.says("SET k 1", "+OK");
    wire.send("WAIT 2 0");
    assert_eq!(wire.next_within(Duration::from_millis(50)), None);
    let (addr, to) = (lab.http_addr(primary), (3 - primary).to_string());
    let moved = common::understudy(&["switchover", "--addr", &addr, "--to", &to]);
    assert!(moved.status.success(), "{moved:?}");
    let said = shown(&wire.next());
    assert!(said.starts_with("-UNBLOCKED "), "{said}");
    assert!(wire.is_closed());
}

#[test]
fn durability_asks_for_copies_of_each_write() {
    let (mut lab, primary) = Lab::start(in_mode("async"));
    let standby = 3 - primary;
    lab.caught_up(standby, primary);
    let mut wire = Wire::to(&lab, primary);
    wire.says("CLIENT DURABILITY", "off");
    wire.says(
        "CLIENT DURABILITY 2 synced 100",
        "-ERR this cluster has 1 standbys",
    );
    wire.says(
        "CLIENT DURABILITY 0 synced 100",
        "-ERR CLIENT DURABILITY wants",
    );
    wire.says(
        "CLIENT DURABILITY 1 firmly 100",
        "-ERR unknown level 'firmly'",
    );
    for level in ["received", "synced", "applied"] {
        wire.says(&format!("CLIENT DURABILITY 1 {level} 10000"), "+OK");
        wire.says("CLIENT DURABILITY", level);
        for n in 0..20 {
            wire.says(&format!("SET k{n} {level}"), "+OK");
        }
        let mut there = Wire::to(&lab, standby);
        if level == "applied" {
            there.says("GET k19", "applied");
        }
    }
    lab.cluster.kill9(standby).expect("it runs");
    wire.says("CLIENT DURABILITY 1 received 100", "+OK");
    wire.says(
        "SET k lone",
        "-UNCONFIRMED the write is done, but the copies",
    );
    wire.says("GET k", "lone");
    wire.says("CLIENT DURABILITY 1 synced 0", "+OK");
    wire.send("SET k held");
    assert_eq!(wire.next_within(Duration::from_millis(100)), None);
    lab.cluster.start(standby).expect("it starts");
    assert_eq!(wire.next(), Reply::OK);
    wire.says("CLIENT DURABILITY off", "+OK");
    lab.cluster.kill9(standby).expect("it runs");
    wire.says("SET k alone", "+OK");
}

#[test]
fn a_standby_is_read_after_ones_own_write() {
    let (lab, primary) = Lab::start(in_mode("async"));
    let standby = 3 - primary;
    lab.caught_up(standby, primary);
    let (mut here, mut there) = (Wire::to(&lab, primary), Wire::to(&lab, standby));
    assert_eq!(here.ask("CLIENT LASTLSN"), Reply::Integer(0));
    for n in 0..200 {
        here.says(&format!("SET k {n}"), "+OK");
        let Reply::Integer(lsn) = here.ask("CLIENT LASTLSN") else {
            panic!("no LSN");
        };
        there.says(&format!("READAFTER {lsn} 10000"), "+OK");
        there.says("GET k", &format!("\r\n{n}\r\n"));
    }
    there.says("READAFTER 1000000000 50", "+OK");
    there.says("GET k", "-LAGGING ");
    // Once.
    there.says("GET k", "\r\n199\r\n");
    there.says("READAFTER x 50", "-ERR value is not an integer");
}

#[test]
fn a_standby_that_may_be_too_old_is_not_read() {
    // No witness: nobody takes over meanwhile.
    let (mut lab, primary) = Lab::start(Plan {
        witness: false,
        ..in_mode("async")
    });
    let standby = 3 - primary;
    lab.caught_up(standby, primary);
    let (mut here, mut there) = (Wire::to(&lab, primary), Wire::to(&lab, standby));
    here.says("SET k v", "+OK");
    lab.caught_up(standby, primary);
    let age = |there: &mut Wire| -> Option<u64> {
        let info = shown(&there.ask("INFO replication"));
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("staleness_ms:"));
        line?.trim().parse().ok()
    };
    until("a standby that knows how old it is", || age(&mut there));
    there.says("CLIENT MAXSTALENESS 5000", "+OK");
    there.says("GET k", "\r\nv\r\n");
    // A primary is never old.
    here.says("CLIENT MAXSTALENESS 1", "+OK");
    here.says("GET k", "\r\nv\r\n");
    there.says("CLIENT MAXSTALENESS 300", "+OK");
    lab.cluster.freeze(primary).expect("it runs");
    until("a standby that grows older", || {
        age(&mut there).filter(|age| *age > 300)
    });
    there.says("GET k", "-LAGGING what is read here may be ");
    there.says("MULTI", "+OK");
    there.says("GET k", "+QUEUED");
    there.says("EXEC", "-LAGGING what is read here may be ");
    there.says("SET k w", "-READONLY");
    there.says("CLIENT MAXSTALENESS 0", "+OK");
    there.says("GET k", "\r\nv\r\n");
    there.says("CLIENT MAXSTALENESS 2000", "+OK");
    lab.cluster.thaw(primary).expect("it is frozen");
    until("a standby that is young again", || {
        let reply = there.ask("GET k");
        (reply == Reply::text("v")).then_some(())
    });
    there.says("CLIENT MAXSTALENESS x", "-ERR value is not an integer");
}

#[test]
fn a_request_with_an_id_happens_once() {
    let (mut lab, primary) = Lab::start(in_mode("semi-sync"));
    let mut wire = Wire::to(&lab, primary);
    let twice = |wire: &mut Wire, id: &str, line: &str| {
        let mut said = Vec::new();
        for _ in 0..2 {
            wire.says(&format!("CLIENT REQUESTID {id}"), "+OK");
            said.push(wire.ask(line));
        }
        assert_eq!(said[0], said[1], "{line}");
        said.remove(0)
    };
    assert_eq!(twice(&mut wire, "a", "INCR n"), Reply::Integer(1));
    // An id is for one write.
    assert_eq!(wire.ask("INCR n"), Reply::Integer(2));
    assert_eq!(twice(&mut wire, "b", "INCR n"), Reply::Integer(3));
    assert_eq!(twice(&mut wire, "c", "APPEND s x"), Reply::Integer(1));
    assert_eq!(twice(&mut wire, "d", "GETDEL s"), Reply::text("x"));
    assert_eq!(twice(&mut wire, "e", "SET s new NX"), Reply::OK);
    // Without an effect there is nothing to remember.
    wire.says("CLIENT REQUESTID f", "+OK");
    assert_eq!(wire.ask("SET s other NX"), Reply::Null);
    wire.says("DEL s", ":1");
    wire.says("CLIENT REQUESTID f", "+OK");
    assert_eq!(wire.ask("SET s other NX"), Reply::OK);
    // A transaction has one id, which comes before MULTI.
    for _ in 0..2 {
        wire.says("CLIENT REQUESTID g", "+OK");
        wire.says("MULTI", "+OK");
        wire.says("INCR n", "QUEUED");
        wire.says("PING", "QUEUED");
        wire.says("INCR n", "QUEUED");
        let both = wire.ask("EXEC");
        let pong = Reply::Simple("PONG".into());
        let wanted = vec![Reply::Integer(4), pong, Reply::Integer(5)];
        assert_eq!(both, Reply::Array(wanted));
    }
    wire.says("MULTI", "+OK");
    wire.says(
        "CLIENT REQUESTID h",
        "-ERR Command not allowed inside a transaction",
    );
    wire.says("EXEC", "-EXECABORT");
    // Nothing of it is seen among the keys.
    assert_eq!(wire.ask("DBSIZE"), Reply::Integer(2));
    assert_eq!(shown(&wire.ask("KEYS *")).matches("$1").count(), 2);
    assert!(!shown(&wire.ask("SCAN 0 COUNT 1000")).contains("understudy"));
    for _ in 0..20 {
        let Reply::Bulk(key) = wire.ask("RANDOMKEY") else {
            panic!("there are keys");
        };
        assert!(key == "n" || key == "s", "{key:?}");
    }
    for line in ["GET", "DEL", "EXISTS a"] {
        let mut out = BytesMut::new();
        let mut words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        words.push(b"\xff\xffunderstudy:request:a");
        encode_request(&words, &mut out);
        wire.stream.write_all(&out).expect("it reads");
        let said = shown(&wire.next());
        assert!(said.starts_with("-ERR keys that begin with"), "{said}");
    }
    let long = "x".repeat(70_000);
    wire.says(&format!("SET long {long}"), "+OK");
    wire.says("CLIENT REQUESTID i", "+OK");
    assert!(matches!(wire.ask("GETDEL long"), Reply::Bulk(_)));
    wire.says("CLIENT REQUESTID i", "+OK");
    wire.says("GETDEL long", "-REPEATED ");
    let wide = "t".repeat(129);
    wire.says(
        &format!("CLIENT REQUESTID {wide}"),
        "-ERR a request id has 1 to 128 bytes",
    );
    wire.says("CLIENT REQUESTID a DONE", "-ERR syntax error");
    // What was heard is forgotten with the next write.
    wire.says("CLIENT REQUESTID j DONE a b", "+OK");
    wire.says("INCR n", ":6");
    wire.says("CLIENT REQUESTID a", "+OK");
    wire.says("INCR n", ":7");
    wire.says("WAIT 1 0", ":1");

    // Another primary knows it, too, and so does a node that reads its log again.
    let standby = 3 - primary;
    lab.cluster.kill9(primary).expect("it runs");
    assert_eq!(lab.ready(), standby);
    let mut wire = Wire::to(&lab, standby);
    wire.says("CLIENT REQUESTID j", "+OK");
    wire.says("INCR n", ":6");
    wire.says("GET n", "\r\n7\r\n");
    lab.cluster.start(primary).expect("it starts");
    lab.caught_up(primary, standby);
    let (addr, to) = (lab.http_addr(standby), primary.to_string());
    until("a switchover back", || {
        let moved = common::understudy(&["switchover", "--addr", &addr, "--to", &to]);
        moved.status.success().then_some(())
    });
    let mut wire = Wire::to(&lab, primary);
    wire.says("CLIENT REQUESTID g", "+OK");
    wire.says("MULTI", "+OK");
    wire.says("INCR n", "QUEUED");
    wire.says("PING", "QUEUED");
    wire.says("INCR n", "QUEUED");
    let said = shown(&wire.ask("EXEC"));
    assert_eq!(said, "*3\r\n:4\r\n+PONG\r\n:5\r\n");
}

#[test]
fn requests_are_forgotten_in_time_and_bounded_in_number() {
    let plan = Plan {
        data_nodes: 1,
        ..Plan::three_data_nodes("alone")
    };
    let mut lab = Lab::prepare(plan, |_, text| {
        format!("{text}\n[limits]\nremember_requests = \"300 ms\"\nmax_remembered_requests = 2\n")
    });
    lab.cluster.start_all().expect("it starts");
    let node = lab.ready();
    let mut wire = Wire::to(&lab, node);
    let mut once = |id: &str| {
        wire.says(&format!("CLIENT REQUESTID {id}"), "+OK");
        shown(&wire.ask("INCR n"))
    };
    assert_eq!(once("a"), ":1\r\n");
    assert_eq!(once("b"), ":2\r\n");
    assert_eq!(once("a"), ":1\r\n");
    let full = once("c");
    assert!(full.starts_with("-BUSY as many request ids"), "{full}");
    assert_eq!(once("d DONE a"), ":3\r\n");
    until("they are forgotten", || {
        (once("b") == ":4\r\n").then_some(())
    });
    until("there is room", || once("e").starts_with(':').then_some(()));
}
