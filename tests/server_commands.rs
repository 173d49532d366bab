//! Commands about the server: as Redis answers them, where there is nothing to differ in, and what
//! handing over and ending a node do here.

mod common;
mod reference;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{Lab, alone, connect, until};
use redis::cmd;
use reference::{Client, Redis, answers_as};
use understudy::cli::local_cluster::Plan;
use understudy::resp::Reply;

const SAME: &[&str] = &[
    "SPUBLISH a b",
    "PUBSUB",
    "PUBSUB CHANNELS a b",
    "PUBSUB CHANNELS",
    "PUBSUB CHANNELS *",
    "PUBSUB SHARDCHANNELS",
    "PUBSUB NUMSUB",
    "PUBSUB NUMSUB a b",
    "PUBSUB NUMPAT",
    "PUBSUB NUMPAT x",
    "PUBSUB SHARDNUMSUB a",
    "PUBSUB x",
    "PUBSUB HELP",
    "OBJECT HELP",
    "ACL HELP",
    "ACL CAT a b",
    "ACL LOG 1 2",
    "FUNCTION FLUSH SYNC x",
    "SLOWLOG GET 1 2 3",
    "PUBSUB CHANNELS a b c",
    "SWAPDB 0 0",
    "SWAPDB 0 1",
    "SWAPDB x 0",
    "SWAPDB 0 x",
    "SWAPDB 99999999999 0",
    "SWAPDB 0 99999999999",
    "SWAPDB 0",
    "MOVE k 0",
    "MOVE k 1",
    "MOVE k x",
    "MOVE k 99999999999",
    "MOVE k -1",
    "FAILOVER",
    "FAILOVER x",
    "FAILOVER ABORT",
    "FAILOVER ABORT TO a 1",
    "FAILOVER TO a x",
    "FAILOVER TO a",
    "FAILOVER TO a 1 FORCE",
    "FAILOVER TIMEOUT 0",
    "FAILOVER TIMEOUT x",
    "FAILOVER TIMEOUT 1 TIMEOUT 1",
    "FAILOVER FORCE TIMEOUT 5",
    "SHUTDOWN x",
    "SHUTDOWN ABORT",
    "SHUTDOWN ABORT NOW",
    "SHUTDOWN NOSAVE SAVE",
    "SHUTDOWN NOW x",
    "FUNCTION",
    "FUNCTION FLUSH",
    "FUNCTION FLUSH ASYNC",
    "FUNCTION FLUSH x",
    "FUNCTION FLUSH SYNC x",
    "FUNCTION LIST",
    "FUNCTION LIST x",
    "FUNCTION LIST LIBRARYNAME",
    "FUNCTION LIST LIBRARYNAME a WITHCODE",
    "FUNCTION LIST WITHCODE WITHCODE",
    "FUNCTION DUMP",
    "FUNCTION STATS",
    "FUNCTION KILL",
    "FUNCTION DELETE x",
    "SCRIPT FLUSH",
    "SCRIPT FLUSH x",
    "SCRIPT FLUSH SYNC ASYNC",
    "SCRIPT FLUSH SYNC",
    "SCRIPT EXISTS",
    "SCRIPT EXISTS a b",
    "SCRIPT KILL",
    "LOLWUT VERSION x",
    "COMMAND HELP",
    "COMMAND GETKEYSANDFLAGS SET a b",
    "COMMAND GETKEYSANDFLAGS SET a b GET",
    "COMMAND GETKEYSANDFLAGS SET get b",
    "COMMAND GETKEYSANDFLAGS MSET a b c d",
    "COMMAND GETKEYSANDFLAGS RENAME a b",
    "COMMAND GETKEYSANDFLAGS BITOP AND d a b",
    "COMMAND GETKEYSANDFLAGS BITFIELD a GET u8 0",
    "COMMAND GETKEYSANDFLAGS BITFIELD a SET u8 0 1",
    "COMMAND GETKEYSANDFLAGS BITFIELD set GET u8 0",
    "COMMAND GETKEYSANDFLAGS PING x",
    "COMMAND GETKEYSANDFLAGS PING",
    "COMMAND GETKEYSANDFLAGS GET x y",
    "COMMAND GETKEYSANDFLAGS nosuch x",
    "COMMAND GETKEYSANDFLAGS WATCH a b",
    "COMMAND GETKEYSANDFLAGS GETEX a",
    "COMMAND GETKEYSANDFLAGS COPY a b",
    "COMMAND GETKEYSANDFLAGS DEL a b",
    "COMMAND GETKEYSANDFLAGS SSUBSCRIBE a b",
    "COMMAND GETKEYS SPUBLISH a b",
    "COMMAND GETKEYS MOVE a b",
    "DEBUG",
    "CONFIG HELP",
    "SSUBSCRIBE a",
    "PING",
    "SUNSUBSCRIBE a",
    "SUNSUBSCRIBE",
    "SSUBSCRIBE a",
    "RESET",
    "PUBSUB SHARDCHANNELS",
];

#[test]
fn the_server_answers_as_redis_does() {
    let Some(redis) = Redis::start() else {
        eprintln!("skipped: there is no redis-server");
        return;
    };
    let (lab, node) = Lab::start(alone());
    answers_as(&redis, lab.addr(node), SAME);
}

#[test]
fn what_is_not_here_says_what_to_do_instead() {
    let (lab, node) = Lab::start(alone());
    let mut client = Client::to(lab.addr(node));
    for (request, wanted) in [
        ("REPLICAOF NO ONE", "understudy switchover"),
        ("SLAVEOF a 1", "understudy promote"),
        ("EVAL x 0", "scripts and functions are not supported"),
        ("evalsha x 0", "WATCH"),
        ("FCALL f 0", "not supported"),
        ("SCRIPT LOAD x", "not supported"),
        ("FUNCTION LOAD x", "not supported"),
        ("DEBUG JMAP", "Try DEBUG HELP"),
        ("DEBUG ERROR two\r\nlines", "two  lines"),
        ("DEBUG SLEEP x", "not a valid float"),
        ("CLUSTER INFO", "cluster support disabled"),
    ] {
        let Reply::Error(text) = client.ask(request) else {
            panic!("{request} is not refused");
        };
        assert!(text.contains(wanted), "{request}: {text}");
    }
    assert_eq!(
        client.ask("COMMAND INFO eval"),
        Reply::Array(vec![Reply::Null])
    );
    assert_eq!(client.ask("MULTI"), Reply::OK);
    for refused in ["SHUTDOWN", "DEBUG SLEEP 1", "SSUBSCRIBE a"] {
        assert!(client.ask(refused).is_error(), "{refused}");
    }
    assert!(client.ask("EXEC").is_error());
}

#[test]
fn a_shard_message_reaches_those_who_asked_for_it() {
    let (lab, node) = Lab::start(alone());
    let (mut hears, mut says) = (Client::to(lab.addr(node)), Client::to(lab.addr(node)));
    hears.ask("SSUBSCRIBE news");
    assert_eq!(says.ask("PUBLISH news plain"), Reply::Integer(0));
    assert_eq!(says.ask("SPUBLISH news shard"), Reply::Integer(1));
    let message = Reply::Array(["smessage", "news", "shard"].map(Reply::text).to_vec());
    let pong = hears.stream.try_clone().expect("a second handle");
    let mut buffer = bytes::BytesMut::new();
    let mut chunk = [0; 256];
    let told = loop {
        if let Some(reply) = hears.parser.parse(&mut buffer).expect("a reply") {
            break reply;
        }
        let read = std::io::Read::read(&mut &pong, &mut chunk).expect("the message");
        assert!(read > 0, "the node closed the connection");
        buffer.extend_from_slice(&chunk[..read]);
    };
    assert_eq!(told, message);
}

#[test]
fn a_sleeping_connection_stops_no_other() {
    let (lab, node) = Lab::start(alone());
    let (mut sleeps, mut other) = (Client::to(lab.addr(node)), Client::to(lab.addr(node)));
    let began = Instant::now();
    let asleep = std::thread::spawn(move || (sleeps.ask("DEBUG SLEEP 1.5"), began.elapsed()));
    while began.elapsed() < Duration::from_millis(300) {
        assert_eq!(other.ask("PING"), Reply::Simple("PONG".into()));
    }
    assert!(!asleep.is_finished(), "it sleeps while others are served");
    let (reply, took) = asleep.join().expect("it wakes up");
    assert_eq!(reply, Reply::OK);
    assert!(took >= Duration::from_millis(1500), "{took:?}");
}

#[test]
fn failover_hands_over_without_loss() {
    let (lab, first) = Lab::start(Plan::three_data_nodes("failover"));
    let to = lab.others(&[first])[0];
    let mut client = lab.connect(first);
    let () = cmd("SET")
        .arg("k")
        .arg("v")
        .query(&mut client)
        .expect("a write");
    let target = lab.addr(to);
    let failover = |addr: SocketAddr, more: &[&str]| {
        let mut command = cmd("FAILOVER");
        command
            .arg("TO")
            .arg(addr.ip().to_string())
            .arg(addr.port());
        command.arg(more);
        command
    };
    for (more, wanted) in [
        (&["FORCE", "TIMEOUT", "9000"][..], "could lose"),
        (&["TIMEOUT", "10"], "called off after 5000 ms"),
    ] {
        let refused = failover(target, more).query::<()>(&mut client);
        let refused = refused.expect_err("it is refused").to_string();
        assert!(refused.contains(wanted), "{refused}");
    }
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let refused = failover(nobody, &[]).query::<()>(&mut client);
    let refused = refused.expect_err("nobody is there").to_string();
    assert!(refused.contains("is not a replica"), "{refused}");
    until("the standby is fit to take over", || {
        failover(target, &["TIMEOUT", "9000"])
            .query::<()>(&mut client)
            .ok()
    });
    assert_eq!(lab.primary_among(&[to]), to);
    let value: String = until("the value is there", || {
        let mut client = connect(lab.addr(to)).ok()?;
        cmd("GET").arg("k").query(&mut client).ok()
    });
    assert_eq!(value, "v");
    let refused = cmd("FAILOVER").query::<()>(&mut lab.connect(first));
    let refused = refused.expect_err("it is a standby now").to_string();
    assert!(
        refused.contains("is not valid when server is a replica"),
        "{refused}"
    );
}

#[test]
fn shutdown_hands_over_and_ends_the_node() {
    let (mut lab, first) = Lab::start(Plan::three_data_nodes("shutdown"));
    let mut client = Client::to(lab.addr(first));
    assert_eq!(client.ask("SET k v"), Reply::OK);
    let mut out = bytes::BytesMut::new();
    understudy::resp::encode_request(&[b"SHUTDOWN", b"NOSAVE"], &mut out);
    std::io::Write::write_all(&mut client.stream, &out).expect("it reads");
    let mut said = Vec::new();
    // The connection may be cut off as the process ends.
    let _ = std::io::Read::read_to_end(&mut client.stream, &mut said);
    assert!(said.is_empty(), "Redis answers nothing either");
    until("the node ends", || {
        (!lab.cluster.is_running(first).ok()?).then_some(())
    });
    let others = lab.others(&[first]);
    let next = lab.primary_among(&others);
    let value: String = until("the value is there", || {
        let mut client = connect(lab.addr(next)).ok()?;
        cmd("GET").arg("k").query(&mut client).ok()
    });
    assert_eq!(value, "v");
}

#[test]
fn who_subscribes_late_is_not_taken_for_slow() {
    let (lab, node) = Lab::start(alone());
    let mut late = Client::to(lab.addr(node));
    assert_eq!(late.ask("PING"), Reply::Simple("PONG".into()));
    let (mut hears, mut says) = (Client::to(lab.addr(node)), Client::to(lab.addr(node)));
    hears.ask("SUBSCRIBE news");
    // Once more than a subscriber may be behind, all of it before the late one asks for any.
    for _ in 0..1500 {
        assert_eq!(says.ask("PUBLISH news x"), Reply::Integer(1));
    }
    assert!(!late.ask("SUBSCRIBE news").is_error());
    assert_eq!(says.ask("PUBLISH news last"), Reply::Integer(2));
    let mut told = [0; 64];
    let read = std::io::Read::read(&mut late.stream, &mut told).expect("the message");
    assert!(told[..read].ends_with(b"last\r\n"), "{:?}", &told[..read]);
}

/// Names and numbers, without times, of what was counted since CONFIG RESETSTAT.
fn counted(client: &mut Client) -> Vec<String> {
    let text = ["INFO commandstats", "INFO errorstats"].map(|line| match client.ask(line) {
        Reply::Bulk(text) => String::from_utf8_lossy(&text).into_owned(),
        reply => panic!("{line}: {reply:?}"),
    });
    let text = text.concat();
    let lines = text.lines().filter(|line| line.contains(':'));
    let timeless = lines.map(|line| {
        let fields = line.split(',').filter(|field| !field.starts_with("usec"));
        fields.collect::<Vec<_>>().join(",")
    });
    let mut lines: Vec<String> = timeless.collect();
    lines.sort_unstable();
    lines
}

#[test]
fn commands_and_errors_are_counted_as_redis_counts_them() {
    let Some(redis) = Redis::start() else {
        eprintln!("skipped: there is no redis-server");
        return;
    };
    let (lab, node) = Lab::start(alone());
    let mut both = [Client::over(redis.connect()), Client::to(lab.addr(node))];
    for client in &mut both {
        for line in [
            "CONFIG RESETSTAT",
            "SET a b",
            "SET a",
            "SET a b c",
            "INCR a",
            "INCR n",
            "GET a",
            "GET a",
            "SETEX a 10 b",
            "NOSUCH",
            "CONFIG GET port",
            "CONFIG GET",
            "CONFIG nosuch",
            "CLIENT NO-EVICT",
            "PING",
            "PING a b c",
            "EXEC",
            "MULTI",
            "SET x y",
            "INCR x",
            "PING",
            "EXEC",
            "MULTI",
            "SET x",
            "EXEC",
            "MULTI",
            "DISCARD",
            "WATCH a",
            "UNWATCH",
            "ACL SETUSER u on nopass +get ~a*",
            "HELLO 2 AUTH u x",
            "GET b",
            "SET a b",
            "AUTH u x",
            "GET ab",
        ] {
            client.ask(line);
        }
        client.ask("AUTH default x");
    }
    let [redis, ours] = both.map(|mut client| counted(&mut client));
    assert_eq!(ours, redis);
    assert!(
        ours.iter()
            .any(|line| line.starts_with("cmdstat_set:calls=3")),
        "{ours:?}"
    );
}
