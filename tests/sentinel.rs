//! SENTINEL on every node: the shapes and texts of a real Redis Sentinel, true values, its orders and its
//! news.

mod common;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::wire::{Wire, field, items, pairs, text_of, texts};
use common::{Lab, PATIENCE, until};
use understudy::cli::local_cluster::Plan;
use understudy::cli::local_cluster::ports::Reservation;
use understudy::resp::Reply;

fn wire(lab: &Lab, node: u32) -> Wire {
    Wire::connect(lab.addr(node))
}

fn sentinel(lab: &Lab, node: u32, words: &[&str]) -> Reply {
    let words: Vec<&str> = ["SENTINEL"].iter().chain(words).copied().collect();
    wire(lab, node).ask(&words)
}

fn says(lab: &Lab, node: u32, words: &[&str]) -> String {
    text_of(&sentinel(lab, node, words))
}

/// A redis-server, two Sentinels that watch it, and a replica; each ends with this.
struct Real {
    processes: Vec<Child>,
    sentinel: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Real {
    fn drop(&mut self) {
        for process in &mut self.processes {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

impl Real {
    /// `None`, said loudly, where there is no redis-server.
    fn start() -> Option<Real> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports: Vec<Reservation> = (0..4)
            .map(|_| Reservation::take().expect("a port"))
            .collect();
        let addrs: Vec<SocketAddr> = ports.iter().map(Reservation::address).collect();
        drop(ports);
        let port = |at: usize| addrs[at].port().to_string();
        let mut processes = Vec::new();
        let run = |arguments: &[&str]| {
            Command::new("redis-server")
                .args(arguments)
                .current_dir(folder.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        };
        let data = ["--bind", "127.0.0.1", "--save", "", "--port"];
        let Ok(first) = run(&[&data[..], &[&port(0)]].concat()) else {
            eprintln!("SKIPPED: redis-server is not installed; nothing was compared with it");
            return None;
        };
        processes.push(first);
        let of = format!("127.0.0.1 {}", port(0));
        let second = run(&[&data[..], &[&port(1), "--replicaof", &of]].concat());
        processes.push(second.expect("it runs"));
        for at in [2, 3] {
            let name = format!("sentinel-{at}.conf");
            let mut file = std::fs::File::create(folder.path().join(&name)).expect("a file");
            let text = format!(
                "port {}\nbind 127.0.0.1\nsentinel monitor shop {of} 2\n",
                port(at)
            );
            file.write_all(text.as_bytes()).expect("it is written");
            processes.push(run(&[&name, "--sentinel"]).expect("it runs"));
        }
        let real = Real {
            processes,
            sentinel: addrs[2],
            _folder: folder,
        };
        until("the Sentinels' meeting", || {
            std::net::TcpStream::connect(real.sentinel).ok()?;
            let master = real.ask(&["MASTER", "shop"]);
            let met = matches!(master, Reply::Array(_) | Reply::Map(_))
                && field(&master, "num-slaves") == "1"
                && field(&master, "num-other-sentinels") == "1";
            met.then_some(())
        });
        Some(real)
    }

    fn ask(&self, words: &[&str]) -> Reply {
        let words: Vec<&str> = ["SENTINEL"].iter().chain(words).copied().collect();
        Wire::connect(self.sentinel).ask(&words)
    }
}

fn names(reply: &Reply) -> Vec<String> {
    pairs(reply).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn shapes_and_texts_are_a_real_sentinels() {
    let Some(real) = Real::start() else { return };
    let (lab, _) = Lab::start(Plan::pair_with_witness("shop"));
    for node in [1, 2, 3] {
        let own = |words: &[&str]| sentinel(&lab, node, words);
        let master = |words: &[&str]| names(&real.ask(words));
        assert_eq!(
            names(&own(&["MASTER", "shop"])),
            master(&["MASTER", "shop"])
        );
        assert_eq!(
            names(&items(&own(&["MASTERS"]))[0]),
            names(&items(&real.ask(&["MASTERS"]))[0])
        );
        for list in ["REPLICAS", "SLAVES", "SENTINELS"] {
            assert_eq!(
                names(&items(&own(&[list, "shop"]))[0]),
                names(&items(&real.ask(&[list, "shop"]))[0]),
                "{list}"
            );
        }
        let same: [&[&str]; 32] = [
            &["MASTER", "x"],
            &["REPLICAS", "x"],
            &["SLAVES", "x"],
            &["SENTINELS", "x"],
            &["GET-MASTER-ADDR-BY-NAME", "x"],
            &["CKQUORUM", "x"],
            &["FAILOVER", "x"],
            &["PENDING-SCRIPTS"],
            &["IS-MASTER-DOWN-BY-ADDR", "127.0.0.1", "1", "0", "*"],
            &["IS-MASTER-DOWN-BY-ADDR", "127.0.0.1", "x", "0", "*"],
            &["IS-MASTER-DOWN-BY-ADDR", "127.0.0.1", "1", "x", "*"],
            &["IS-MASTER-DOWN-BY-ADDR", "127.0.0.1", "1", "0"],
            &[],
            &["NOSUCH"],
            &["MASTER"],
            &["MASTERS", "1"],
            &["SLAVES"],
            &["REPLICAS", "a", "b"],
            &["SENTINELS"],
            &["GET-MASTER-ADDR-BY-NAME"],
            &["CKQUORUM"],
            &["MYID", "1"],
            &["FAILOVER"],
            &["HELP", "1"],
            &["PENDING-SCRIPTS", "1"],
            &["INFO-CACHE"],
            &["RESET"],
            &["MONITOR", "a"],
            &["REMOVE"],
            &["SET", "a"],
            &["CONFIG", "GET"],
            &["SIMULATE-FAILURE"],
        ];
        for words in same {
            // Redis tells a wrong form of CONFIG after its own fashion; here there is none.
            if words.first() == Some(&"CONFIG") {
                continue;
            }
            assert_eq!(text_of(&own(words)), text_of(&real.ask(words)), "{words:?}");
        }
        // Two of the Sentinels' three lines of three: the number differs.
        let quorum = |reply: &Reply| text_of(reply).replace(['2', '3'], "N");
        let words = ["CKQUORUM", "shop"];
        assert_eq!(quorum(&own(&words)), quorum(&real.ask(&words)));
        assert_eq!(
            text_of(&own(&["MYID"])).len(),
            text_of(&real.ask(&["MYID"])).len()
        );
        let help = texts(&own(&["HELP"]));
        let known = texts(&real.ask(&["HELP"]));
        let differs = "    Hand over to the best replica, as the command switchover does.";
        for line in help.iter().filter(|line| *line != differs) {
            assert!(known.contains(line), "{line}");
        }
        for senseless in [
            &["MONITOR", "a", "127.0.0.1", "1", "1"][..],
            &["REMOVE", "shop"],
            &["SET", "shop", "quorum", "1"],
            &["RESET", "*"],
            &["FLUSHCONFIG"],
            &["INFO-CACHE", "shop"],
            &["CONFIG", "GET", "announce-ip"],
            &["DEBUG"],
            &["SIMULATE-FAILURE", "crash-after-election"],
        ] {
            let said = text_of(&own(senseless));
            assert!(said.starts_with("-ERR "), "{senseless:?}: {said}");
        }
    }
}

#[test]
fn what_the_fields_say_is_true() {
    let (mut lab, primary) = Lab::start(Plan::pair_with_witness("shop"));
    let (standby, port) = (3 - primary, |node: u32| lab.addr(node).port().to_string());
    let (primary_port, standby_port) = (port(primary), port(standby));
    let mut client = lab.connect(primary);
    redis::cmd("SET")
        .arg("k")
        .arg("v")
        .exec(&mut client)
        .expect("it writes");
    for node in [1, 2, 3] {
        let master = sentinel(&lab, node, &["MASTER", "shop"]);
        let is = |name: &str, value: &str| assert_eq!(field(&master, name), value, "{name}");
        is("name", "shop");
        is("port", &primary_port);
        is("flags", "master");
        is("num-slaves", "1");
        is("num-other-sentinels", "2");
        is("quorum", "2");
        is("config-epoch", &lab.seen_by(primary).epoch.to_string());
        let id = says(&lab, primary, &["MYID"]);
        is("runid", &id);
        let replicas = items(&sentinel(&lab, node, &["REPLICAS", "shop"]));
        let [replica] = &replicas[..] else {
            panic!("{replicas:?}")
        };
        let is = |name: &str, value: &str| assert_eq!(field(replica, name), value, "{name}");
        is("name", &format!("127.0.0.1:{standby_port}"));
        is("flags", "slave");
        is("master-port", &primary_port);
        is("master-link-status", "ok");
        is("slave-priority", "100");
        let sentinels = items(&sentinel(&lab, node, &["SENTINELS", "shop"]));
        let mut ports: Vec<String> = sentinels.iter().map(|s| field(s, "port")).collect();
        let mut others: Vec<String> = lab.others(&[node]).into_iter().map(port).collect();
        ports.sort();
        others.sort();
        assert_eq!(ports, others);
        assert_eq!(field(&sentinels[0], "name"), field(&sentinels[0], "runid"));
        let down = [
            "IS-MASTER-DOWN-BY-ADDR",
            "127.0.0.1",
            &primary_port,
            "0",
            "*",
        ];
        assert_eq!(texts(&sentinel(&lab, node, &down)), ["0", "*", "0"]);
        assert!(says(&lab, node, &["CKQUORUM", "shop"]).starts_with("OK 3 usable"));
    }
    // The standby's offset is known to the primary.
    until("the standby's offset", || {
        let replicas = items(&sentinel(&lab, primary, &["REPLICAS", "shop"]));
        (field(&replicas[0], "slave-repl-offset") != "0").then_some(())
    });
    lab.cluster.kill9(standby).expect("it runs");
    for node in [primary, 3] {
        until("a replica that is down", || {
            let replicas = items(&sentinel(&lab, node, &["REPLICAS", "shop"]));
            (field(&replicas[0], "flags") == "s_down,slave,disconnected"
                && field(&replicas[0], "master-link-status") == "err")
                .then_some(())
        });
        // One look tells all of it: the node judges a member once, in all its roles.
        let sentinels = items(&sentinel(&lab, node, &["SENTINELS", "shop"]));
        let flags = |wanted: &str| {
            let mut found = sentinels.iter().filter(|s| field(s, "port") == wanted);
            found.next().map(|s| field(s, "flags")).unwrap_or_default()
        };
        assert_eq!(flags(&standby_port), "s_down,sentinel,disconnected");
        assert_eq!(
            says(&lab, node, &["CKQUORUM", "shop"]),
            "OK 2 usable Sentinels. Quorum and failover authorization can be reached"
        );
        assert_eq!(
            says(&lab, node, &["FAILOVER", "shop"]),
            "-NOGOODSLAVE No suitable replica to promote"
        );
    }
    // The primary alone; nobody is left to take over, so everybody goes on telling who it was.
    lab.cluster.kill9(primary).expect("it runs");
    until("a primary that is down", || {
        let master = sentinel(&lab, 3, &["MASTER", "shop"]);
        field(&master, "flags")
            .starts_with("s_down,master,disconnected")
            .then_some(())
    });
    let down = [
        "IS-MASTER-DOWN-BY-ADDR",
        "127.0.0.1",
        &primary_port,
        "0",
        "*",
    ];
    assert_eq!(texts(&sentinel(&lab, 3, &down)), ["1", "*", "0"]);
    until("no quorum", || {
        let said = says(&lab, 3, &["CKQUORUM", "shop"]);
        said.starts_with("-NOQUORUM 1 usable Sentinels. ")
            .then_some(())
    });
}

/// Everything that a node publishes, in order.
struct News {
    wire: Wire,
    heard: Vec<(String, String)>,
}

impl News {
    fn of(lab: &Lab, node: u32) -> News {
        let mut wire = wire(lab, node);
        let answer = wire.ask(&["PSUBSCRIBE", "*"]);
        assert_eq!(texts(&answer), ["psubscribe", "*", "1"]);
        News {
            wire,
            heard: Vec::new(),
        }
    }

    /// Listens until this is said; what was said before it stays heard.
    fn until(&mut self, channel: &str, message: &str) {
        let said =
            |news: &[(String, String)]| news.iter().any(|(c, m)| c == channel && m == message);
        while !said(&self.heard) {
            let Some(next) = self.wire.next(PATIENCE) else {
                panic!("not heard: {channel} {message}; but {:#?}", self.heard);
            };
            let texts = texts(&next);
            assert_eq!(texts[..2], ["pmessage", "*"]);
            self.heard.push((texts[2].clone(), texts[3].clone()));
        }
    }

    fn never(&self, channel: &str) {
        let found = self.heard.iter().find(|(c, _)| c == channel);
        assert_eq!(found, None, "{:#?}", self.heard);
    }

    fn place(&self, channel: &str) -> usize {
        let found = self.heard.iter().position(|(c, _)| c == channel);
        found.unwrap_or_else(|| panic!("{channel} in {:#?}", self.heard))
    }
}

#[test]
fn a_takeover_and_the_return_of_the_old_primary_are_told_in_sentinels_words() {
    let (mut lab, old) = Lab::start(Plan::pair_with_witness("shop"));
    let (new, witness) = (3 - old, 3);
    let ports: Vec<u16> = [1, 2].map(|node| lab.addr(node).port()).into();
    let addr = |node: u32| format!("127.0.0.1 {}", ports[node as usize - 1]);
    let name = |node: u32| format!("127.0.0.1:{}", ports[node as usize - 1]);
    let old_master = format!("master shop {}", addr(old));
    let old_replica = format!("slave {} {} @ shop {}", name(old), addr(old), addr(new));
    let new_replica = format!("slave {} {} @ shop {}", name(new), addr(new), addr(old));
    let old_sentinel = format!("sentinel {} {}", says(&lab, old, &["MYID"]), addr(old));
    let switch = format!("shop {} {}", addr(old), addr(new));
    let (mut there, mut here) = (News::of(&lab, witness), News::of(&lab, new));
    lab.cluster.kill9(old).expect("it runs");
    for news in [&mut there, &mut here] {
        news.until("+switch-master", &switch);
        news.until("+slave", &old_replica);
        news.until("+sdown", &old_master);
        news.until("+sdown", &format!("{old_sentinel} @ shop {}", addr(old)));
        news.until(
            "-role-change",
            &format!("{new_replica} new reported role is master"),
        );
        assert!(news.place("-role-change") < news.place("+switch-master"));
        assert!(news.place("+sdown") < news.place("+switch-master"));
        assert!(news.place("+new-epoch") < news.place("+switch-master"));
        // It is nobody's primary any more, and not there.
        news.until("+sdown", &old_replica);
    }
    here.until("+odown", &format!("{old_master} #quorum 2/2"));
    here.until("+elected-leader", &old_master);
    lab.cluster.start(old).expect("it starts again");
    for news in [&mut there, &mut here] {
        news.until("-sdown", &old_replica);
        news.until("-sdown", &format!("{old_sentinel} @ shop {}", addr(new)));
    }
    here.until("+slave-reconf-done", &old_replica);
    here.until("+replica-reconf-done", &old_replica);
    here.until(
        "+role-change",
        &format!("{old_replica} new reported role is slave"),
    );
}

#[test]
fn failover_is_a_switchover_whoever_is_asked() {
    let (lab, first) = Lab::start(Plan::three_data_nodes("shop"));
    let mut primary = first;
    for _ in 0..2 {
        let asked = lab.others(&[primary])[0];
        let mut news = News::of(&lab, asked);
        let mut pipeline = wire(&lab, asked);
        // Whatever is sent behind it is answered behind it.
        pipeline.send(&["SENTINEL", "FAILOVER", "shop"]);
        pipeline.send(&["PING"]);
        let answers = [pipeline.next(PATIENCE), pipeline.next(PATIENCE)];
        let answers: Vec<String> = answers.iter().flatten().map(text_of).collect();
        assert_eq!(answers, ["OK", "PONG"]);
        let next = until("another primary", || {
            lab.cluster
                .primary_among(&lab.others(&[primary]))
                .expect("members")
        });
        let addr = |node: u32| format!("127.0.0.1 {}", lab.addr(node).port());
        news.until(
            "+switch-master",
            &format!("shop {} {}", addr(primary), addr(next)),
        );
        // Nobody was down.
        news.never("+sdown");
        news.never("+odown");
        primary = next;
        until("a reign that can be handed over", || {
            let seen = lab.seen_by(primary);
            let follow = seen
                .members
                .iter()
                .filter(|m| m.state == "streaming")
                .count();
            (follow == 2 && seen.mode_state == "ok").then_some(())
        });
    }
    let mut queued = wire(&lab, primary);
    queued.ask(&["MULTI"]);
    let refused = text_of(&queued.ask(&["SENTINEL", "FAILOVER", "shop"]));
    assert_eq!(refused, "-ERR Command not allowed inside a transaction");
}

#[test]
fn a_standby_without_a_primary_says_since_when() {
    let (mut lab, primary) = Lab::start(Plan::pair_with_witness("shop"));
    let standby = 3 - primary;
    // Without the witness it cannot take over, and goes on telling what it knows.
    lab.cluster.kill9(3).expect("it runs");
    lab.cluster.kill9(primary).expect("it runs");
    let replica = until("a standby without its primary", || {
        let replicas = items(&sentinel(&lab, standby, &["REPLICAS", "shop"]));
        let alone = field(&replicas[0], "master-link-status") == "err";
        alone.then(|| replicas[0].clone())
    });
    assert_eq!(field(&replica, "flags"), "slave,master_down");
    let since: u64 = field(&replica, "master-link-down-time")
        .parse()
        .expect("milliseconds");
    let follows: u64 = field(&replica, "role-reported-time")
        .parse()
        .expect("milliseconds");
    assert!(since < follows, "{since} {follows}");
    let master = sentinel(&lab, standby, &["MASTER", "shop"]);
    assert!(
        field(&master, "flags").starts_with("s_down,master,disconnected"),
        "{master:?}"
    );
    until("no quorum", || {
        let said = says(&lab, standby, &["CKQUORUM", "shop"]);
        said.starts_with("-NOQUORUM 1 usable").then_some(())
    });
    assert_eq!(
        says(&lab, standby, &["FAILOVER", "shop"]),
        "-INPROG Failover already in progress"
    );
    // Writes are sent on, reads are still answered or refused as before.
    let written = text_of(&wire(&lab, standby).ask(&["SET", "k", "v"]));
    assert!(written.starts_with("-READONLY "), "{written}");
}

#[test]
fn a_frozen_standby_is_down_for_its_primary_and_comes_back() {
    let (mut lab, primary) = Lab::start(Plan::three_data_nodes("shop"));
    let standby = lab.others(&[primary])[0];
    let addr = |node: u32| format!("127.0.0.1 {}", lab.addr(node).port());
    let name = format!("127.0.0.1:{}", lab.addr(standby).port());
    let replica = format!("slave {name} {} @ shop {}", addr(standby), addr(primary));
    let mut news = News::of(&lab, primary);
    lab.cluster.freeze(standby).expect("it runs");
    news.until("+sdown", &replica);
    lab.cluster.thaw(standby).expect("it is frozen");
    news.until("-sdown", &replica);
}

/// An order to the primary, and the wait until another has taken over.
fn switch_over(lab: &Lab, primary: u32) -> u32 {
    assert_eq!(says(lab, primary, &["FAILOVER", "shop"]), "OK");
    lab.primary_among(&lab.others(&[primary, 3]))
}

/// How long an old primary's clients may go on without being told.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn with_a_reign_its_connections_end_and_those_of_sentinel_clients_stay() {
    let (lab, primary) = Lab::start(Plan::pair_with_witness("shop"));
    let open = |words: &[&[&str]]| {
        let mut wire = wire(&lab, primary);
        for words in words {
            wire.ask(words);
        }
        wire
    };
    let mut let_go = [
        (
            "never used",
            open(&[&["HELLO", "3"], &["CLIENT", "SETNAME", "pool"]]),
        ),
        ("silent", open(&[])),
        ("idle after a write", open(&[&["SET", "k", "v"]])),
        ("idle after a read", open(&[&["GET", "k"]])),
        ("told the role", open(&[&["ROLE"]])),
        ("in a transaction", open(&[&["MULTI"], &["SET", "k", "w"]])),
        ("a subscriber", open(&[&["SUBSCRIBE", "orders"]])),
        (
            "a subscriber of a pattern",
            open(&[&["PSUBSCRIBE", "orders:*"]]),
        ),
        (
            "a Sentinel client that wrote",
            open(&[&["SENTINEL", "MASTERS"], &["SET", "k", "v"]]),
        ),
    ];
    let mut stay = [
        open(&[
            &["HELLO", "2"],
            &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop"],
        ]),
        open(&[&["HELLO", "2"], &["SUBSCRIBE", "+switch-master"]]),
        open(&[&["PSUBSCRIBE", "*"]]),
    ];
    let next = switch_over(&lab, primary);
    for (what, wire) in &mut let_go {
        assert!(wire.ends(SOON), "{what}: it is still open");
    }
    let port = lab.addr(next).port().to_string();
    let address = stay[0].ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop"]);
    assert_eq!(texts(&address), ["127.0.0.1", &port]);
    let heard = texts(&stay[1].next(PATIENCE).expect("the news"));
    assert_eq!(heard[..2], ["message", "+switch-master"]);
    assert!(heard[2].ends_with(&port), "{heard:?}");
    until("the news by a pattern", || {
        let heard = texts(&stay[2].next(PATIENCE)?);
        (heard[2] == "+switch-master").then_some(())
    });
}

#[test]
fn who_goes_on_writing_to_an_old_primary_is_told_at_once_and_let_go_soon() {
    let (lab, primary) = Lab::start(Plan::pair_with_witness("shop"));
    let mut client = wire(&lab, primary);
    assert_eq!(text_of(&client.ask(&["SET", "k", "0"])), "OK");
    let began = std::time::Instant::now();
    assert_eq!(says(&lab, primary, &["FAILOVER", "shop"]), "OK");
    let mut refused = None;
    loop {
        client.send(&["SET", "k", "1"]);
        let Some(answer) = client.next(SOON) else {
            break;
        };
        match text_of(&answer).as_str() {
            "OK" => assert_eq!(refused, None, "no reign begins again here"),
            said => {
                assert!(said.starts_with("-READONLY "), "{said}");
                refused.get_or_insert_with(|| began.elapsed());
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let refused = refused.expect("it was told before the end");
    println!(
        "refused after {refused:?}, let go after {:?}",
        began.elapsed()
    );
    assert!(began.elapsed() < SOON);
}
