//! Floods on the client port: what thousands of clients that mean no good can do to the others.
//!
//! In each, another client's PING and SET are answered all the while, the process's memory stays below a
//! stated bound, and afterwards new clients come in. `UNDERSTUDY_LONG=1` runs the full sizes.

mod common;
mod reference;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use common::{Lab, PATIENCE, long, text, until};
use reference::ask;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use socket2::SockRef;
use understudy::cli::local_cluster::Plan;
use understudy::resp::{Reply, ReplyParser, encode_request};

const MIB: u64 = 1 << 20;
/// The process itself, its threads' stacks and what the allocator keeps.
const BASE: u64 = 128 * MIB;
/// Replies that one connection may be given before it is weighed, on each of a few threads.
const IN_FLIGHT: u64 = 4 * 64 * MIB;

/// One long or one short form.
fn sized(short: usize, full: usize) -> usize {
    if long() { full } else { short }
}

fn node(limits: &str) -> (Lab, u32) {
    // The flooding clients' descriptors are this process's.
    understudy::server::allow_clients(4000).expect("descriptors for the clients of this test");
    let plan = Plan {
        data_nodes: 1,
        more_toml: format!("[limits]\n{limits}\n"),
        ..Plan::three_data_nodes("floods")
    };
    Lab::start(plan)
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    // No port waits for its last packet when thousands are closed.
    let now = Some(Duration::ZERO);
    SockRef::from(&stream).set_linger(now).expect("no linger");
    stream
}

fn connects(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(addr)).collect()
}

fn request(words: &[&[u8]]) -> BytesMut {
    let mut out = BytesMut::new();
    encode_request(words, &mut out);
    out
}

/// Whether the server has closed it; what it said first is forgotten.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    let mut said = [0; 4096];
    let closed = loop {
        match stream.read(&mut said) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
            Err(_) => break true,
        }
    };
    stream.set_nonblocking(false).expect("a socket");
    closed
}

/// A client that means well, through the whole flood.
struct Bystander {
    over: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Duration)>,
}

impl Bystander {
    fn of(addr: SocketAddr) -> Bystander {
        let over = Arc::<AtomicBool>::default();
        let told = Arc::clone(&over);
        let mut stream = connect(addr);
        let thread = std::thread::spawn(move || {
            let mut parser = ReplyParser::default();
            let (mut asked, mut longest) = (0, Duration::ZERO);
            while !told.load(Ordering::Relaxed) {
                let began = Instant::now();
                let pong = ask(&mut stream, &mut parser, &[b"PING"]);
                assert_eq!(pong, Reply::Simple("PONG".into()));
                let set = ask(&mut stream, &mut parser, &[b"SET", b"bystander", b"v"]);
                assert_eq!(set, Reply::OK);
                longest = longest.max(began.elapsed());
                asked += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            (asked, longest)
        });
        Bystander { over, thread }
    }

    fn was_served(self) {
        self.over.store(true, Ordering::Relaxed);
        let (asked, longest) = self.thread.join().expect("the bystander was answered");
        println!("bystander: {asked} rounds, the longest took {longest:?}");
        assert!(asked > 0);
        assert!(longest < Duration::from_secs(10), "it waited {longest:?}");
    }
}

/// The most memory that the node's process has had, in bytes.
fn peak(lab: &Lab) -> u64 {
    let id = lab.cluster.process_id(1).expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("its peak");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("kB");
    kib * 1024
}

fn stays_below(lab: &Lab, bound: u64) {
    let peak = peak(lab);
    println!("peak {} MiB of {}", peak / MIB, bound / MIB);
    assert!(peak < bound, "{} MiB, bound {}", peak / MIB, bound / MIB);
}

/// Waits until so few are connected, the one who asks included; a new client comes in for it.
fn goes_back_to(lab: &Lab, most: u64) {
    until("the connections' end", || {
        let now: u64 = lab.info(1, "connected_clients")?.parse().ok()?;
        (now <= most).then_some(())
    });
}

fn says(addr: SocketAddr, line: &str) -> Reply {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    ask(&mut connect(addr), &mut ReplyParser::default(), &words)
}

#[test]
fn connections_beyond_the_limit_are_turned_away() {
    let (lab, node) = node("max_clients = 200");
    let addr = lab.addr(node);
    let bystander = Bystander::of(addr);
    let (at_once, attempts) = (1000, sized(5000, 100_000));
    let mut told = 0;
    for _ in 0..attempts / at_once {
        let mut all = connects(addr, at_once);
        let mut line = [0; 64];
        // The last came when it was full; whether its neighbours' places were free already is chance.
        let last = all.last_mut().expect("many");
        if let Ok(read) = last.read(&mut line) {
            assert_eq!(
                text(&line[..read]),
                "-ERR max number of clients reached\r\n"
            );
            told += 1;
        }
    }
    assert!(told > 0, "nobody was told");
    goes_back_to(&lab, 3);
    bystander.was_served();
    stays_below(&lab, BASE);
    let turned_away: usize = lab
        .info(1, "rejected_connections")
        .and_then(|count| count.parse().ok())
        .expect("a count");
    assert!(turned_away > attempts / 2, "{turned_away} of {attempts}");
}

#[test]
fn silent_clients_go_after_the_timeout_and_slow_ones_and_listeners_stay() {
    let (lab, node) = node("client_timeout = \"5s\"");
    let addr = lab.addr(node);
    let bystander = Bystander::of(addr);
    let mut slow = connects(addr, sized(200, 1000));
    let mut silent = connects(addr, sized(200, 1000));
    let mut listening = connect(addr);
    listening
        .write_all(b"SUBSCRIBE news\r\n")
        .expect("it is taken");
    let (bytes, began) = (request(&[b"SET", b"slow", &[b'x'; 4096]]), Instant::now());
    let span = Duration::from_secs(sized(9, 60) as u64);
    for byte in bytes.chunks(1) {
        if began.elapsed() > span {
            break;
        }
        for stream in &mut slow {
            stream.write_all(byte).expect("a slow client is served");
        }
        std::thread::sleep(Duration::from_millis(sized(200, 1000) as u64));
    }
    for stream in &mut silent {
        until("the end of a silent client", || {
            is_closed(stream).then_some(())
        });
    }
    assert!(!slow.iter_mut().any(is_closed), "a slow client is not idle");
    assert!(
        !is_closed(&mut listening),
        "a subscriber has nothing to say"
    );
    assert_eq!(says(addr, "CONFIG SET timeout 0"), Reply::OK);
    drop((slow, silent));
    goes_back_to(&lab, 4);
    bystander.was_served();
    stays_below(&lab, 2 * BASE);
}

#[test]
fn clients_that_ask_for_much_and_never_read_do_not_fill_memory() {
    let (lab, node) = node("maxmemory_clients = \"64 MiB\"");
    let addr = lab.addr(node);
    let value = vec![b'v'; MIB as usize];
    let set = ask(
        &mut connect(addr),
        &mut ReplyParser::default(),
        &[b"SET", b"large", &value],
    );
    assert_eq!(set, Reply::OK);
    let bystander = Bystander::of(addr);
    let gets = b"GET large\r\n".repeat(3000);
    // One reply of 3 GiB each.
    let mut mget = vec![&b"MGET"[..]];
    mget.resize(3001, b"large");
    let mget = request(&mget);
    let transaction = [b"MULTI\r\n", &gets[..], b"EXEC\r\n"].concat();
    let mut greedy = connects(addr, sized(90, 600));
    for (number, stream) in greedy.iter_mut().enumerate() {
        let requests = [&gets[..], &mget, &transaction][number % 3];
        // One that was let go already cannot be asked more.
        let _ = stream.write_all(requests);
    }
    // What asks for more in one reply than may wait is let go, whatever the others do.
    for stream in greedy.iter_mut().skip(1).step_by(3) {
        until("the end of who asks for 3 GiB", || {
            is_closed(stream).then_some(())
        });
    }
    stays_below(&lab, BASE + 64 * MIB + IN_FLIGHT);
    drop(greedy);
    goes_back_to(&lab, 3);
    bystander.was_served();
    stays_below(&lab, BASE + 64 * MIB + IN_FLIGHT);
}

#[test]
fn a_pipeline_of_large_answers_arrives_whole() {
    let (lab, node) = node("");
    let addr = lab.addr(node);
    let (mut stream, mut parser) = (connect(addr), ReplyParser::default());
    let value = vec![b'v'; MIB as usize];
    let set = ask(&mut stream, &mut parser, &[b"SET", b"large", &value]);
    assert_eq!(set, Reply::OK);
    let count = 400;
    let mut asking = stream.try_clone().expect("a socket");
    let asked = std::thread::spawn(move || {
        for number in 0..count {
            let line = format!("GET large\r\nECHO {number}\r\n");
            asking.write_all(line.as_bytes()).expect("it is taken");
        }
    });
    // More is asked for than may wait at a time.
    let mut one = vec![0; value.len() + format!("${}\r\n\r\n", value.len()).len()];
    for number in 0..count {
        stream.read_exact(&mut one).expect("a value");
        assert_eq!(one[0], b'$');
        let echo = number.to_string();
        let mut line = vec![0; format!("${}\r\n{echo}\r\n", echo.len()).len()];
        stream.read_exact(&mut line).expect("an answer");
        assert!(text(&line).contains(&echo), "{number}: {}", text(&line));
    }
    asked.join().expect("all was asked");
}

#[test]
fn claims_cost_nothing_and_what_is_sent_is_bounded() {
    let (lab, node) = node("maxmemory_clients = \"64 MiB\"");
    let addr = lab.addr(node);
    let bystander = Bystander::of(addr);
    let long_value = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nxxxx";
    let many_args = b"*1048576\r\n$4\r\nMGET\r\n$1\r\nk\r\n";
    let mut claims = connects(addr, sized(400, 2000));
    for (number, stream) in claims.iter_mut().enumerate() {
        let claim = [&long_value[..], many_args][number % 2];
        stream.write_all(claim).expect("it is read");
    }
    assert!(!claims.iter_mut().any(is_closed), "nothing is wrong yet");
    stays_below(&lab, BASE);
    // They send what they announced: together more than all clients may take.
    let part = vec![b'x'; 4 << 20];
    for stream in claims.iter_mut().step_by(2).take(sized(40, 200)) {
        let _ = stream.write_all(&part);
    }
    let gone = claims
        .iter_mut()
        .filter_map(|stream| is_closed(stream).then_some(()));
    assert!(gone.count() > 0, "those who sent most are let go");
    drop(claims);
    goes_back_to(&lab, 3);
    bystander.was_served();
    stays_below(&lab, BASE + IN_FLIGHT);
}

#[test]
fn a_queue_behind_multi_is_bounded() {
    let (lab, node) = node("maxmemory_clients = \"64 MiB\"");
    let addr = lab.addr(node);
    let bystander = Bystander::of(addr);
    let set = request(&[b"SET", b"k", &vec![b'x'; 1 << 20]]);
    let mut queues = connects(addr, 4);
    for stream in &mut queues {
        let mut sent = stream.write_all(b"MULTI\r\n");
        for _ in 0..80 {
            sent = sent.and_then(|()| stream.write_all(&set));
        }
        until("the end of who queues too much", || {
            is_closed(stream).then_some(())
        });
    }
    goes_back_to(&lab, 3);
    bystander.was_served();
    stays_below(&lab, BASE + IN_FLIGHT);
}

#[test]
fn who_has_not_authenticated_may_claim_nothing() {
    let mut lab = Lab::prepare(
        Plan {
            data_nodes: 1,
            ..Plan::three_data_nodes("floods")
        },
        |_, text| text,
    );
    let file = lab.path("password");
    std::fs::write(&file, "secret\n").expect("it is ours");
    let config = lab.config_file(1);
    let mut toml = std::fs::read_to_string(&config).expect("it was just written");
    toml.push_str(&format!(
        "\n[auth]\nrequirepass_file = '{}'\n",
        file.display()
    ));
    std::fs::write(&config, toml).expect("it is ours");
    lab.cluster.start_all().expect("it starts");
    let node = lab.ready();
    let addr = lab.addr(node);
    let mut claims = connects(addr, sized(300, 2000));
    for (number, stream) in claims.iter_mut().enumerate() {
        let (claim, wrong) = [
            (
                &b"*2\r\n$3\r\nGET\r\n$536870912\r\n"[..],
                "unauthenticated bulk length",
            ),
            (b"*1048576\r\n", "unauthenticated multibulk length"),
        ][number % 2];
        stream.write_all(claim).expect("it is read");
        let mut said = String::new();
        stream
            .read_to_string(&mut said)
            .expect("an answer and the end");
        assert_eq!(said, format!("-ERR Protocol error: {wrong}\r\n"));
    }
    stays_below(&lab, BASE);
    let mut good = connect(addr);
    let mut parser = ReplyParser::default();
    assert_eq!(
        ask(&mut good, &mut parser, &[b"AUTH", b"secret"]),
        Reply::OK
    );
    assert_eq!(
        ask(&mut good, &mut parser, &[b"SET", b"k", b"v"]),
        Reply::OK
    );
}

#[test]
fn listeners_that_do_not_read_are_let_go_and_keep_nothing() {
    let (lab, node) = node("");
    let addr = lab.addr(node);
    let bystander = Bystander::of(addr);
    let mut listeners = connects(addr, sized(60, 500));
    for (number, stream) in listeners.iter_mut().enumerate() {
        let listens = [
            &b"SUBSCRIBE news\r\n"[..],
            b"PSUBSCRIBE n*\r\n",
            b"MONITOR\r\n",
        ][number % 3];
        stream.write_all(listens).expect("it is taken");
        let mut said = [0; 3];
        stream.read_exact(&mut said).expect("it listens");
    }
    let (mut stream, mut parser) = (connect(addr), ReplyParser::default());
    let message = vec![b'm'; MIB as usize];
    for _ in 0..200 {
        let reached = ask(&mut stream, &mut parser, &[b"PUBLISH", b"news", &message]);
        assert!(matches!(reached, Reply::Integer(_)), "{reached:?}");
    }
    for (number, stream) in listeners.iter_mut().enumerate() {
        // A monitor is shown the beginning of a message, and is not far behind.
        if number % 3 < 2 {
            until("the end of a listener", || is_closed(stream).then_some(()));
        } else {
            assert!(!is_closed(stream), "a monitor's lines are short");
        }
    }
    drop(listeners);
    goes_back_to(&lab, 4);
    bystander.was_served();
    // Messages are kept once, and each connection may have one on its way.
    stays_below(&lab, BASE + IN_FLIGHT + sized(60, 500) as u64 * 3 * MIB);
}

#[test]
fn without_descriptors_the_others_are_served_and_new_ones_come_in_later() {
    let (mut lab, node) = node("");
    let addr = lab.addr(node);
    let bystander = Bystander::of(addr);
    // A log or control file that cannot be opened ends a reign, rightly: what a reign begins with is to be
    // written. (From then on a node opens files now and then only, and has a reserve for them.)
    let folder = lab.data_dir(1);
    until("a node that has settled", || {
        let is_old = |name: &str| {
            let changed = std::fs::metadata(folder.join(name)).ok()?.modified().ok()?;
            (changed.elapsed().ok()? > Duration::from_millis(500)).then_some(())
        };
        is_old("control.a")
            .and(is_old("control.b"))
            .and(is_old("history.json"))
    });
    let process = lab.cluster.process_id(1).expect("it runs");
    let pid = Pid::from_raw(process.cast_signed()).expect("a process");
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).expect("Linux");
    let few = open.count() as u64 + 20;
    // As ours, which it has inherited.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let before = prlimit(
        Some(pid),
        Resource::Nofile,
        Rlimit {
            current: Some(few),
            maximum,
        },
    );
    let before = before.expect("the process is ours");
    let flood = connects(addr, 100);
    let log = lab.log_file(1);
    until("a word in the log", || {
        let text = std::fs::read_to_string(&log).ok()?;
        text.contains("taking a client's connection failed")
            .then_some(())
    });
    drop(flood);
    goes_back_to(&lab, 4);
    bystander.was_served();
    prlimit(Some(pid), Resource::Nofile, before).expect("the process is ours");
}

#[test]
fn http_connections_that_say_nothing_take_no_place_of_others() {
    let (lab, node) = node("");
    let bystander = Bystander::of(lab.addr(node));
    let process = lab.cluster.process_id(1).expect("it runs");
    let descriptors = || {
        let open = std::fs::read_dir(format!("/proc/{process}/fd")).expect("Linux");
        open.count()
    };
    let before = descriptors();
    let http: SocketAddr = lab.http_addr(node).parse().expect("an address");
    let mut flood = connects(http, sized(600, 3000));
    for (number, stream) in flood.iter_mut().enumerate() {
        let some = [&b""[..], b"GET /hea", b"POST /promote HTTP/1.1\r\n"][number % 3];
        // One that had to go already cannot say more.
        let _ = stream.write_all(some);
    }
    for _ in 0..20 {
        assert!(lab.says_primary(node), "it is asked over HTTP");
    }
    let during = descriptors();
    assert!(during < before + 200, "{before}, then {during}");
    let open = flood
        .iter_mut()
        .filter_map(|stream| (!is_closed(stream)).then_some(()));
    let open = open.count();
    assert!((100..128).contains(&open), "{open} are let be");
    drop(flood);
    bystander.was_served();
    stays_below(&lab, BASE);
}

#[test]
fn more_clients_than_the_system_allows_are_not_promised() {
    let (mut lab, node) = node("max_clients = 2000000000");
    let addr = lab.addr(node);
    let Reply::Array(pair) = says(addr, "CONFIG GET maxclients") else {
        panic!("no pair");
    };
    let Some(Reply::Bulk(most)) = pair.get(1) else {
        panic!("{pair:?}");
    };
    let most: u64 = text(most).parse().expect("a number");
    assert!(most < 2_000_000_000);
    let log = std::fs::read_to_string(lab.log_file(1)).expect("its log");
    assert!(
        log.contains("the system allows file descriptors for"),
        "{log}"
    );
    let refused = says(addr, "CONFIG SET maxclients 2000000000");
    let Reply::Error(why) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        why.contains("The operating system is not able to handle the specified number of clients"),
        "{why}"
    );
}
