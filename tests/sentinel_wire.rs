//! What Jedis, Lettuce and go-redis say to Sentinels, said to the nodes of a cluster, and the answers read
//! by the same rules. The rules were read in their public sources (the comments name file and commit);
//! none of their code is here.

mod common;

use std::collections::BTreeMap;

use common::wire::{Wire, items, pairs, text_of, texts};
use common::{Lab, PATIENCE};
use understudy::cli::local_cluster::Plan;
use understudy::resp::Reply;

type Place = (String, u16);

fn place(lab: &Lab, node: u32) -> Place {
    ("127.0.0.1".to_owned(), lab.addr(node).port())
}

fn place_of(host: &str, port: &str) -> Place {
    (host.to_owned(), port.parse().expect("a port"))
}

fn map(reply: &Reply) -> BTreeMap<String, String> {
    pairs(reply).into_iter().collect()
}

/// Host and port out of a list of two strings.
fn address(reply: &Reply) -> Place {
    let [host, port] = &texts(reply)[..] else {
        panic!("no address: {reply:?}")
    };
    place_of(host, port)
}

/// The next message: channel and text.
fn message(wire: &mut Wire, kind: &str) -> (String, String) {
    let heard = texts(&wire.next(PATIENCE).expect("a message"));
    assert_eq!(heard[0], kind, "{heard:?}");
    let [.., channel, text] = &heard[..] else {
        panic!("{heard:?}")
    };
    (channel.clone(), text.clone())
}

/// redis/jedis, src/main/java/redis/clients/jedis/Connection.java (008601b),
/// providers/SentineledConnectionProvider.java (07c99d9) and JedisSentinelPool.java (003624a).
struct Jedis {
    wire: Wire,
    master: Place,
    replicas: Vec<Place>,
}

impl Jedis {
    /// What its connections say first, at once; answers that contain UNKNOWN are ignored.
    fn connect(lab: &Lab, node: u32, resp3: bool) -> Wire {
        let mut wire = Wire::connect(lab.addr(node));
        if resp3 {
            let hello = map(&wire.ask(&["HELLO", "3"]));
            assert_eq!(hello["proto"], "3");
        }
        wire.send(&["CLIENT", "SETINFO", "lib-name", "jedis"]);
        wire.send(&["CLIENT", "SETINFO", "lib-ver", "7.0.0"]);
        for _ in 0..2 {
            assert_eq!(text_of(&wire.next(PATIENCE).expect("an answer")), "OK");
        }
        wire
    }

    fn listen(lab: &Lab, node: u32, resp3: bool) -> Jedis {
        let mut wire = Jedis::connect(lab, node, resp3);
        let mut replicas = Vec::new();
        for replica in items(&wire.ask(&["SENTINEL", "SLAVES", "shop"])) {
            let replica = map(&replica);
            let unhealthy = ["s_down", "o_down", "disconnected"];
            let mut flags = replica["flags"].split(',').map(str::trim);
            if !flags.any(|flag| unhealthy.contains(&flag)) {
                replicas.push(place_of(&replica["ip"], &replica["port"]));
            }
        }
        let master = address(&wire.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop"]));
        let channels = ["+switch-master", "+sdown", "-sdown", "+slave"];
        wire.send(&[&["SUBSCRIBE"], &channels[..]].concat());
        for (at, channel) in channels.iter().enumerate() {
            let answer = texts(&wire.next(PATIENCE).expect("an answer"));
            assert_eq!(answer, ["subscribe", channel, &(at + 1).to_string()]);
        }
        Jedis {
            wire,
            master,
            replicas,
        }
    }

    fn add(&mut self, replica: Place) {
        if !self.replicas.contains(&replica) {
            self.replicas.push(replica);
        }
    }

    /// One message, by `onMessage`. Where it takes a word that is not there, its thread ends: so does
    /// this.
    fn hear(&mut self) {
        let (channel, text) = message(&mut self.wire, "message");
        let words: Vec<&str> = text.split(' ').collect();
        match channel.as_str() {
            "+switch-master" => {
                assert!(words.len() > 3, "{text}");
                if words[0] == "shop" {
                    self.master = place_of(words[3], words[4]);
                }
            }
            "+sdown" if words[0] != "master" && words[5] == "shop" => {
                let gone = place_of(words[2], words[3]);
                self.replicas.retain(|replica| *replica != gone);
            }
            "-sdown" if words.len() >= 6 && words[5] == "shop" => {
                self.add(place_of(words[2], words[3]));
            }
            "+slave" if words[5] == "shop" => {
                self.add(place_of(words[2], words[3]));
                let master = place_of(words[6], words[7]);
                self.replicas.retain(|replica| *replica != master);
            }
            _ => {}
        }
    }

    fn until(&mut self, wanted: impl Fn(&Jedis) -> bool) {
        for _ in 0..100 {
            if wanted(self) {
                return;
            }
            self.hear();
        }
        panic!("{:?} {:?}", self.master, self.replicas);
    }
}

#[test]
fn jedis_follows() {
    let (mut lab, old) = Lab::start(Plan::pair_with_witness("shop"));
    let new = 3 - old;
    let (before, after) = (place(&lab, old), place(&lab, new));
    let mut listeners: Vec<Jedis> = [(3, false), (3, true), (new, false), (new, true)]
        .into_iter()
        .map(|(node, resp3)| Jedis::listen(&lab, node, resp3))
        .collect();
    for jedis in &listeners {
        assert_eq!(jedis.master, before);
        assert_eq!(jedis.replicas, std::slice::from_ref(&after));
    }
    lab.cluster.kill9(old).expect("it runs");
    for jedis in &mut listeners {
        jedis.until(|jedis| jedis.master == after && jedis.replicas.is_empty());
        let healthy = Jedis::listen(&lab, 3, false);
        assert_eq!((healthy.master, healthy.replicas), (after.clone(), vec![]));
    }
    lab.cluster.start(old).expect("it starts again");
    for jedis in &mut listeners {
        jedis.until(|jedis| jedis.replicas == [before.clone()]);
    }
}

/// redis/lettuce, src/main/java/io/lettuce/core/RedisHandshake.java (00eec0c) and, in masterreplica/,
/// SentinelTopologyProvider.java (3637ace) and SentinelTopologyRefresh.java (1241b10).
struct Lettuce;

impl Lettuce {
    fn connect(lab: &Lab, node: u32) -> Wire {
        let mut wire = Wire::connect(lab.addr(node));
        let Reply::Map(hello) = wire.ask(&["HELLO", "3"]) else {
            panic!("RESP3 answers HELLO with a map");
        };
        // It casts them, and fails where one is of another type.
        for (name, value) in &hello {
            match text_of(name).as_str() {
                "id" => assert!(matches!(value, Reply::Integer(_)), "{value:?}"),
                "mode" | "version" | "role" => {
                    assert!(matches!(value, Reply::Bulk(_)), "{value:?}");
                }
                _ => {}
            }
        }
        // Sent and forgotten: an error is no harm.
        wire.ask(&["CLIENT", "SETINFO", "lib-name", "Lettuce"]);
        wire.ask(&["CLIENT", "SETINFO", "lib-ver", "7.0.0"]);
        wire.ask(&[
            "CLIENT",
            "MAINT_NOTIFICATIONS",
            "on",
            "moving-endpoint-type",
            "none",
        ]);
        wire
    }

    /// The primary and the replicas that it takes for there.
    fn topology(lab: &Lab, node: u32) -> (Place, Vec<Place>) {
        let mut wire = Lettuce::connect(lab, node);
        let answer = wire.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop"]);
        address(&answer);
        wire.send(&["SENTINEL", "MASTER", "shop"]);
        wire.send(&["SENTINEL", "SLAVES", "shop"]);
        let master = wire.next(PATIENCE).expect("an answer");
        assert!(matches!(master, Reply::Map(_)), "{master:?}");
        let master = map(&master);
        let replicas = items(&wire.next(PATIENCE).expect("an answer"));
        let there = |flags: &str| {
            !["s_down", "o_down", "disconnected"]
                .iter()
                .any(|flag| flags.contains(flag))
        };
        let replicas = replicas
            .iter()
            .map(map)
            .filter(|replica| there(&replica["flags"]));
        let replicas = replicas
            .map(|replica| place_of(&replica["ip"], &replica["port"]))
            .collect();
        (place_of(&master["ip"], &master["port"]), replicas)
    }

    /// Whether it looks at the topology anew.
    fn refreshes(channel: &str, text: &str) -> bool {
        let changes = [
            "+slave",
            "+sdown",
            "-sdown",
            "fix-slave-config",
            "+convert-to-slave",
            "+role-change",
        ];
        (["+elected-leader", "+reset-master"].contains(&channel)
            && text.starts_with("master shop "))
            || (changes.contains(&channel) && text.contains("@ shop "))
            || (channel == "+switch-master" && text.starts_with("shop "))
    }

    /// Whether it tries the Sentinels again that it could not reach.
    fn reconnects(channel: &str, text: &str) -> bool {
        channel == "+sentinel"
            || (["-odown", "-sdown"].contains(&channel) && text.starts_with("sentinel "))
    }
}

#[test]
fn lettuce_follows() {
    let (mut lab, old) = Lab::start(Plan::pair_with_witness("shop"));
    let new = 3 - old;
    let (before, after) = (place(&lab, old), place(&lab, new));
    for node in [1, 2, 3] {
        let topology = (before.clone(), vec![after.clone()]);
        assert_eq!(Lettuce::topology(&lab, node), topology);
    }
    let mut news: Vec<Wire> = [3, new].map(|node| Lettuce::connect(&lab, node)).into();
    for wire in &mut news {
        let answer = wire.ask(&["PSUBSCRIBE", "*"]);
        assert!(matches!(answer, Reply::Push(_)), "{answer:?}");
    }
    lab.cluster.kill9(old).expect("it runs");
    for (wire, node) in news.iter_mut().zip([3, new]) {
        // Each message that it refreshes by, until the topology is the new one.
        let mut refreshed = 0;
        loop {
            let (channel, text) = message(wire, "pmessage");
            if Lettuce::refreshes(&channel, &text) {
                refreshed += 1;
                if channel == "+switch-master" {
                    assert_eq!(Lettuce::topology(&lab, node).0, after);
                }
                if channel == "+sdown" && text.starts_with("slave ") {
                    break;
                }
            }
        }
        assert!(refreshed > 2);
        assert_eq!(Lettuce::topology(&lab, node), (after.clone(), vec![]));
    }
    lab.cluster.start(old).expect("it starts again");
    for (wire, node) in news.iter_mut().zip([3, new]) {
        let (mut refreshed, mut reconnected) = (false, false);
        while !(refreshed && reconnected) {
            let (channel, text) = message(wire, "pmessage");
            refreshed |= channel == "-sdown" && Lettuce::refreshes(&channel, &text);
            reconnected |= Lettuce::reconnects(&channel, &text);
        }
        let topology = (after.clone(), vec![before.clone()]);
        assert_eq!(Lettuce::topology(&lab, node), topology);
    }
}

/// redis/go-redis, redis.go (`initConn`) and sentinel.go (00332b2).
struct GoRedis {
    wire: Wire,
    news: Wire,
    master: Place,
}

impl GoRedis {
    fn connect(lab: &Lab, node: u32, protocol: &str) -> Wire {
        let mut wire = Wire::connect(lab.addr(node));
        let hello = map(&wire.ask(&["hello", protocol]));
        assert_eq!(hello["proto"], protocol);
        wire.send(&["client", "setinfo", "LIB-NAME", "go-redis(,go1.25)"]);
        wire.send(&["client", "setinfo", "LIB-VER", "9.17.0"]);
        for _ in 0..2 {
            assert_eq!(text_of(&wire.next(PATIENCE).expect("an answer")), "OK");
        }
        wire
    }

    fn start(lab: &Lab, node: u32, protocol: &str) -> GoRedis {
        let mut wire = GoRedis::connect(lab, node, protocol);
        let master = address(&wire.ask(&["sentinel", "get-master-addr-by-name", "shop"]));
        let known = items(&wire.ask(&["sentinel", "sentinels", "shop"]));
        let mut known: Vec<Place> = known
            .iter()
            .map(map)
            .map(|sentinel| place_of(&sentinel["ip"], &sentinel["port"]))
            .collect();
        known.push(place(lab, node));
        known.sort();
        let mut all: Vec<Place> = [1, 2, 3].map(|node| place(lab, node)).into();
        all.sort();
        assert_eq!(known, all);
        let mut news = GoRedis::connect(lab, node, protocol);
        news.send(&["subscribe", "+switch-master", "+replica-reconf-done"]);
        for channel in ["+switch-master", "+replica-reconf-done"] {
            let answer = texts(&news.next(PATIENCE).expect("an answer"));
            assert_eq!(answer[..2], ["subscribe", channel]);
        }
        // Its health check, every three seconds.
        let pong = news.ask(&["ping"]);
        let pong = match &pong {
            Reply::Simple(text) => text.to_string(),
            other => texts(other)[0].clone(),
        };
        assert!(pong.eq_ignore_ascii_case("pong"), "{pong}");
        GoRedis { wire, news, master }
    }

    fn replicas(&mut self) -> Vec<Place> {
        let replicas = items(&self.wire.ask(&["sentinel", "replicas", "shop"]));
        let down = |flag: &str| ["s_down", "o_down", "disconnected"].contains(&flag);
        let there = replicas.iter().map(map);
        let there = there.filter(|replica| !replica["flags"].split(',').any(down));
        there
            .map(|replica| place_of(&replica["ip"], &replica["port"]))
            .collect()
    }

    fn hear(&mut self) -> String {
        let (channel, text) = message(&mut self.news, "message");
        if channel == "+switch-master" {
            let words: Vec<&str> = text.split(' ').collect();
            assert_eq!(words[0], "shop");
            self.master = place_of(words[3], words[4]);
        }
        channel
    }
}

#[test]
fn go_redis_follows() {
    let (mut lab, old) = Lab::start(Plan::pair_with_witness("shop"));
    let new = 3 - old;
    let (before, after) = (place(&lab, old), place(&lab, new));
    for protocol in ["2", "3"] {
        let mut clients: Vec<GoRedis> = [3, new]
            .map(|node| GoRedis::start(&lab, node, protocol))
            .into();
        for client in &mut clients {
            assert_eq!(client.master, before);
            assert_eq!(client.replicas(), std::slice::from_ref(&after));
        }
        lab.cluster.kill9(old).expect("it runs");
        for client in &mut clients {
            while client.master != after {
                client.hear();
            }
            assert_eq!(client.replicas(), vec![]);
        }
        lab.cluster.start(old).expect("it starts again");
        // The new primary tells that the old one follows; the witness does not know.
        while clients[1].hear() != "+replica-reconf-done" {}
        assert_eq!(clients[1].replicas(), std::slice::from_ref(&before));
        drop(clients);
        if protocol == "2" {
            // Back, for the other protocol.
            lab.ready();
            let order = ["SENTINEL", "FAILOVER", "shop"];
            assert_eq!(text_of(&Wire::connect(lab.addr(new)).ask(&order)), "OK");
            lab.primary_among(&[old]);
            lab.ready();
        }
    }
}
