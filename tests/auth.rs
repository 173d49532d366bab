//! Passwords on the client port, protected mode, and users: as Redis answers, on real nodes.

mod common;
mod reference;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use common::{Lab, alone, until};
use reference::{Client, Redis, ask, encoded};
use understudy::cli::local_cluster::Plan;
use understudy::resp::{Reply, encode_request};

/// A node with a file beside it, named in `[auth]`.
fn with_file(key: &str, content: &str) -> (Lab, u32, PathBuf) {
    let mut lab = Lab::prepare(alone(), |_, text| text);
    let file = lab.path(key);
    fs::write(&file, content).expect("it is ours");
    let config = lab.config_file(1);
    let mut text = fs::read_to_string(&config).expect("it was just written");
    text.push_str(&format!("\n[auth]\n{key} = '{}'\n", file.display()));
    fs::write(&config, text).expect("it is ours");
    lab.cluster.start_all().expect("it starts");
    let node = lab.ready();
    (lab, node, file)
}

/// Everything up to the end of the connection, which a reset is, too.
fn rest_of(client: &mut Client) -> String {
    let mut rest = Vec::new();
    let ended = client.stream.read_to_end(&mut rest);
    if let Err(error) = ended {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8_lossy(&rest).into_owned()
}

#[test]
fn a_password_is_asked_for_as_in_redis() {
    let Some(redis) = Redis::start() else {
        eprintln!("SKIPPED: no redis-server on PATH");
        return;
    };
    let (lab, node, _) = with_file("requirepass_file", "se cret\n");
    let mut theirs = Client::over(redis.connect());
    assert_eq!(
        ask(
            &mut theirs.stream,
            &mut theirs.parser,
            &[b"CONFIG", b"SET", b"requirepass", b"se cret"]
        ),
        Reply::OK
    );
    let requests: [&[&[u8]]; 26] = [
        &[b"PING"],
        &[b"GET", b"a"],
        &[b"GET"],
        &[b"NOSUCH"],
        &[b"HELLO"],
        &[b"HELLO", b"3"],
        &[b"MULTI"],
        &[b"EXEC"],
        &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", b"a", b"b", b"c"],
        &[b"ACL", b"WHOAMI"],
        &[b"AUTH", b"x"],
        &[b"AUTH", b"default", b"x"],
        &[b"AUTH", b"nobody", b"se cret"],
        &[b"AUTH", b"a", b"b", b"c"],
        &[b"HELLO", b"2", b"AUTH", b"default", b"x"],
        &[b"RESET"],
        &[b"GET", b"a"],
        &[b"AUTH", b"se cret"],
        &[b"GET", b"a"],
        &[b"RESET"],
        &[b"GET", b"a"],
        &[
            b"HELLO", b"2", b"AUTH", b"default", b"se cret", b"SETNAME", b"a b",
        ],
        &[b"ACL", b"WHOAMI"],
        &[b"HELLO", b"2", b"SETNAME", b"me", b"WHAT"],
        &[b"CLIENT", b"GETNAME"],
        &[b"QUIT"],
    ];
    let mut pair = [Client::over(redis.connect()), Client::to(lab.addr(node))];
    for request in requests {
        let [theirs, ours] = pair
            .each_mut()
            .map(|client| ask(&mut client.stream, &mut client.parser, request));
        if request[0] == b"SENTINEL" {
            // Redis has no such command; here it takes one name.
            let text =
                "ERR wrong number of arguments for 'sentinel|get-master-addr-by-name' command";
            assert_eq!(ours, Reply::error(text));
            continue;
        }
        assert_eq!(encoded(&theirs), encoded(&ours), "{:?}", request);
    }
    // What was sent behind AUTH is judged after it.
    let mut both = [Client::over(redis.connect()), Client::to(lab.addr(node))];
    let mut pipeline = BytesMut::new();
    for words in [
        &[&b"GET"[..], b"a"][..],
        &[b"AUTH", b"se cret"],
        &[b"SET", b"a", b"1"],
        &[b"RESET"],
        &[b"GET", b"a"],
        &[b"QUIT"],
    ] {
        encode_request(words, &mut pipeline);
    }
    let [theirs, ours] = both.each_mut().map(|client| {
        client.stream.write_all(&pipeline).expect("it reads");
        rest_of(client)
    });
    assert_eq!(theirs, ours);
    assert!(
        ours.starts_with("-NOAUTH Authentication required.\r\n+OK\r\n+OK\r\n+RESET\r\n-NOAUTH")
    );
    for stranger in [
        &b"*11\r\n"[..],
        b"*2\r\n$16385\r\n",
        b"*2147483648\r\n",
        b"*2\r\n$999999999999\r\n",
    ] {
        let mut both = [Client::over(redis.connect()), Client::to(lab.addr(node))];
        let [theirs, ours] = both.each_mut().map(|client| {
            client.stream.write_all(stranger).expect("it reads");
            rest_of(client)
        });
        assert_eq!(theirs, ours, "{stranger:?}");
    }
}

#[test]
fn the_probe_and_the_command_line_come_in_by_themselves() {
    let (mut lab, node, file) = with_file("requirepass_file", "p\n");
    let mut client = Client::to(lab.addr(node));
    client.ok("AUTH p");
    client.ok("SET key value");
    let connections = |client: &mut Client| {
        let Reply::Bulk(text) = client.ask("INFO stats") else {
            panic!("no INFO");
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("total_connections_received:"));
        line.and_then(|count| count.parse::<u64>().ok())
            .expect("it is counted")
    };
    let before = connections(&mut client);
    until("two probes", || {
        (connections(&mut client) >= before + 2).then_some(())
    });
    let log = fs::read_to_string(lab.log_file(node)).expect("its log");
    assert!(!log.contains("the probe of this node"), "{log}");
    let binary = env!("CARGO_BIN_EXE_understudy");
    let bench = |more: &[&str]| {
        assert_cmd::Command::new(binary)
            .args([
                "bench",
                "--addr",
                &lab.addr(node).to_string(),
                "--secs",
                "0.2",
            ])
            .args(["--clients", "1", "--pipeline", "1"])
            .args(more)
            .timeout(Duration::from_secs(30))
            .output()
            .expect("it runs")
    };
    let refused = bench(&[]);
    assert!(!refused.status.success());
    let let_in = bench(&["--password-file", &file.to_string_lossy()]);
    assert!(
        let_in.status.success(),
        "{}",
        String::from_utf8_lossy(&let_in.stderr)
    );
}

/// An address of this machine beyond loopback, if it has one. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[test]
fn protected_mode_keeps_others_out_until_there_is_a_password() {
    let Some(own) = own_address() else {
        eprintln!("SKIPPED: this machine has no address beyond loopback");
        return;
    };
    let mut lab = Lab::prepare(alone(), |_, text| text);
    let port = lab.addr(1).port();
    let config = lab.config_file(1);
    let text = fs::read_to_string(&config).expect("it was just written");
    let text = text.replacen(
        &format!("client_addr = \"127.0.0.1:{port}\""),
        &format!("client_addr = \"0.0.0.0:{port}\""),
        1,
    );
    fs::write(&config, &text).expect("it is ours");
    lab.cluster.start_all().expect("it starts");
    let node = lab.ready();
    let outside = SocketAddr::new(own, port);
    let mut stranger = Client::to(outside);
    let said = rest_of(&mut stranger);
    assert!(
        said.starts_with("-DENIED understudy is running in protected mode"),
        "{said}"
    );
    let mut inside = Client::to(lab.addr(node));
    inside.ok("SET a 1");
    assert_eq!(
        inside.text("CONFIG GET protected-mode"),
        "*2 $14 protected-mode $3 yes"
    );
    // The default user's password, given at run time, opens the door; its removal closes it.
    inside.ok("ACL SETUSER default >p");
    let mut known = Client::to(outside);
    assert_eq!(known.text("GET a"), "-NOAUTH Authentication required.");
    known.ok("AUTH p");
    assert_eq!(known.text("GET a"), "$1 1");
    inside.ok("ACL SETUSER default nopass");
    assert!(rest_of(&mut Client::to(outside)).starts_with("-DENIED"));
    assert_eq!(known.text("GET a"), "$1 1", "it came in by a password");
    drop(lab);

    let mut lab = Lab::prepare(alone(), |_, text| text);
    let config = lab.config_file(1);
    let port = lab.addr(1).port();
    let text = fs::read_to_string(&config).expect("it was just written");
    let text = text.replacen(
        &format!("client_addr = \"127.0.0.1:{port}\""),
        &format!("client_addr = \"0.0.0.0:{port}\""),
        1,
    );
    fs::write(&config, text + "\n[auth]\nprotected_mode = false\n").expect("it is ours");
    lab.cluster.start_all().expect("it starts");
    lab.ready();
    assert_eq!(Client::to(SocketAddr::new(own, port)).text("PING"), "+PONG");
}

#[test]
fn an_order_reaches_the_primary_behind_a_password_and_is_passed_on_once() {
    let plan = Plan::pair_with_witness("passed-on");
    let mut lab = Lab::prepare(plan, |_, text| text);
    let file = lab.path("password");
    fs::write(&file, "secret\n").expect("it is ours");
    for id in lab.cluster.ids() {
        let config = lab.config_file(id);
        let mut text = fs::read_to_string(&config).expect("it was just written");
        let more = format!("\n[auth]\nrequirepass_file = '{}'\n", file.display());
        text.push_str(&more);
        fs::write(&config, text).expect("it is ours");
    }
    lab.cluster.start_all().expect("they start");
    let primary = lab.ready();
    let standby = if primary == 1 { 2 } else { 1 };
    // As if a node had passed it on that takes the standby for the primary.
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .http_status_as_error(false)
        .build()
        .into();
    let secret = fs::read_to_string(lab.config_file(standby)).expect("its configuration");
    let secret = secret
        .lines()
        .find_map(|line| line.strip_prefix("secret_file = "))
        .map(|path| fs::read_to_string(path.trim_matches(['"', '\''])).expect("the secret"));
    let mut order = agent
        .post(format!("http://{}/switchover", lab.http_addr(standby)))
        .header("x-understudy-request", "1")
        .header("x-understudy-hops", "1");
    if let Some(secret) = secret {
        order = order.header("authorization", format!("Bearer {}", secret.trim()));
    }
    let answer = order.send_json(serde_json::json!({ "to": null }));
    assert_eq!(answer.expect("an answer").status().as_u16(), 409);
    let mut client = Client::to(lab.addr(standby));
    assert_eq!(client.ask("AUTH secret"), Reply::OK);
    until("the order's success", || {
        let reply = client.ask("SENTINEL FAILOVER passed-on");
        (reply == Reply::OK).then_some(())
    });
    until("the standby's reign", || {
        lab.says_primary(standby).then_some(())
    });
}
