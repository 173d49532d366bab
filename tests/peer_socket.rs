//! Dialing, listening and talking over real loopback sockets. R15 rests on telling a refused
//! connection apart from every other failure.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpStream;
use understudy::peer::{
    Accepted, Backoff, ConnectionKind, DialError, HandshakeError, Identity, ListenError,
    PeerListener, Refusal, Secret, StreamMessage, VersionRange, accept, connect, dial, listen,
    probe, set_up_socket,
};
use understudy::units::{Epoch, Lsn, NodeId};

/// Far above what anything here takes; only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(10);

fn identity(node: u32) -> Identity {
    Identity {
        cluster_id: 0xc1,
        cluster_name: "main".into(),
        node: NodeId(node),
        process_incarnation: 1000 + u64::from(node),
        membership_incarnation: 1,
        membership_version: 1,
        features: 0,
        versions: VersionRange::THIS_BUILD,
        secret: Some(Secret::new(b"correct horse").expect("not empty")),
    }
}

async fn loopback() -> (PeerListener, String) {
    let listener = listen("127.0.0.1:0", 8).await.expect("loopback binds");
    let addr = listener
        .local_addr()
        .expect("a bound listener has an address")
        .to_string();
    (listener, addr)
}

#[tokio::test]
async fn records_travel_over_real_sockets() {
    let (listener, addr) = loopback().await;
    let records = Bytes::from((0..3_000_000u32).map(|n| n as u8).collect::<Vec<_>>());
    let message = StreamMessage::Wal {
        released: Lsn(7),
        records,
    };
    let primary = async {
        let (stream, _, unproven) = listener.accept().await.expect("a connection");
        set_up_socket(&stream, Duration::from_secs(2)).expect("a TCP socket");
        let (reader, writer) = stream.into_split();
        let outcome = accept(reader, writer, &identity(1), &|_| Ok(()), LIMIT).await;
        drop(unproven);
        let Ok(Accepted::Connection((info, _reader, mut writer))) = outcome else {
            panic!("node 2 knows the secret");
        };
        assert_eq!(info.node, NodeId(2));
        writer.push(Epoch(3), &message).expect("within the limits");
        writer.shutdown().await.expect("the standby reads");
    };
    let standby = async {
        let stream = dial(&addr, LIMIT).await.expect("somebody listens");
        let (reader, writer) = stream.into_split();
        let two = identity(2);
        let (_, mut reader, _writer) = connect(
            reader,
            writer,
            &two,
            ConnectionKind::Stream,
            NodeId(1),
            LIMIT,
        )
        .await
        .expect("node 1 knows the secret");
        let frame = reader.next().await.expect("a frame").expect("not closed");
        assert_eq!(StreamMessage::decode(frame).expect("a message"), message);
        assert!(reader.next().await.expect("a clean end").is_none());
    };
    tokio::join!(primary, standby);
}

/// R15: the process behind an address was restarted, and a fresh connection tells.
#[tokio::test]
async fn a_probe_sees_that_another_process_answers() {
    let (listener, addr) = loopback().await;
    let mut seen = Vec::new();
    for process_incarnation in [7, 8] {
        let answering = Identity {
            process_incarnation,
            ..identity(1)
        };
        let answer = async {
            let (stream, _, _unproven) = listener.accept().await.expect("a connection");
            let (reader, writer) = stream.into_split();
            accept(reader, writer, &answering, &|_| Ok(()), LIMIT).await
        };
        let ask = async {
            let (reader, writer) = dial(&addr, LIMIT).await.expect("it listens").into_split();
            probe(reader, writer, &identity(2), NodeId(1), LIMIT).await
        };
        let (answered, asked) = tokio::join!(answer, ask);
        assert!(matches!(answered, Ok(Accepted::Probe(_))));
        seen.push(asked.expect("node 1 answers").process_incarnation);
    }
    assert_eq!(seen, [7, 8]);
}

/// The sentence must arrive although the refusing side closes at once.
#[tokio::test]
async fn a_refusal_arrives_over_a_real_socket() {
    let (listener, addr) = loopback().await;
    let stranger = Identity {
        cluster_name: "staging".into(),
        ..identity(2)
    };
    let answer = async {
        let (stream, _, _unproven) = listener.accept().await.expect("a connection");
        let (reader, writer) = stream.into_split();
        accept(reader, writer, &identity(1), &|_| Ok(()), LIMIT)
            .await
            .err()
    };
    let ask = async {
        let (reader, writer) = dial(&addr, LIMIT).await.expect("it listens").into_split();
        connect(
            reader,
            writer,
            &stranger,
            ConnectionKind::Stream,
            NodeId(1),
            LIMIT,
        )
        .await
        .err()
    };
    let (answered, asked) = tokio::join!(answer, ask);
    let Some(HandshakeError::Refusing(refusal @ Refusal::ClusterName { .. })) = answered else {
        panic!("{answered:?}");
    };
    let Some(HandshakeError::RefusedByPeer(told)) = asked else {
        panic!("{asked:?}")
    };
    assert_eq!(told, refusal.to_string());
}

#[tokio::test]
async fn a_closed_port_refuses() {
    let (listener, addr) = loopback().await;
    drop(listener);
    let error = dial(&addr, LIMIT).await.expect_err("nobody listens");
    assert!(
        matches!(&error, DialError::Refused { addr: named } if *named == addr),
        "{error}"
    );
}

/// A host that is silent, or a listener that is stuck (SIGSTOP fills its backlog), is no refusal.
#[tokio::test]
async fn silence_is_a_timeout_and_never_a_refusal() {
    let stuck = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any_port: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    stuck.bind(&any_port.into()).expect("loopback binds");
    stuck.listen(0).expect("a bound socket listens");
    let addr = stuck
        .local_addr()
        .expect("bound")
        .as_socket()
        .expect("IPv4")
        .to_string();
    let mut held = Vec::new();
    let error = loop {
        match dial(&addr, Duration::from_millis(100)).await {
            Ok(stream) => held.push(stream),
            Err(error) => break error,
        }
        assert!(held.len() < 64, "a backlog of 0 takes a connection or two");
    };
    assert!(matches!(error, DialError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn other_failures_are_told_apart() {
    let error = dial("name.invalid:7380", LIMIT)
        .await
        .expect_err("reserved, never resolves");
    assert!(matches!(error, DialError::Resolve { .. }), "{error}");
    let error = dial("no port", LIMIT).await.expect_err("no address");
    assert!(matches!(error, DialError::Resolve { .. }), "{error}");
    // TCP to a multicast address has no route on any host.
    let error = dial("224.0.0.1:7380", LIMIT).await.expect_err("no route");
    assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn names_are_resolved() {
    let listener = listen("localhost:0", 8).await.expect("localhost binds");
    let port = listener.local_addr().expect("bound").port();
    let dialed = dial(&format!("localhost:{port}"), LIMIT)
        .await
        .expect("it listens");
    let (accepted, from, _) = listener.accept().await.expect("a connection");
    assert_eq!(dialed.local_addr().expect("connected"), from);
    drop(accepted);
}

#[tokio::test]
async fn an_address_in_use_names_the_address_and_the_flag() {
    let (_listener, addr) = loopback().await;
    let error = listen(&addr, 8).await.expect_err("in use");
    assert!(matches!(error, ListenError::InUse { .. }), "{error}");
    let sentence = error.to_string();
    assert!(
        sentence.contains(&addr) && sentence.contains("--peer-addr"),
        "{sentence}"
    );
    for bad in ["name.invalid:1", "192.0.2.1:1"] {
        let sentence = listen(bad, 8).await.expect_err("not ours").to_string();
        assert!(
            sentence.contains(bad) && sentence.contains("--peer-addr"),
            "{sentence}"
        );
    }
}

/// R15: if the listener could be shared, a connect would be answered, or refused, by another
/// process. Even one that asks for sharing must fail.
#[tokio::test]
async fn the_listener_is_never_shared() {
    let (listener, addr) = loopback().await;
    let intruder = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    intruder.set_reuse_address(true).expect("an option");
    intruder.set_reuse_port(true).expect("an option");
    let address: SocketAddr = addr.parse().expect("an address");
    let shared = intruder
        .bind(&address.into())
        .and_then(|()| intruder.listen(1));
    assert_eq!(
        shared.expect_err("in use").kind(),
        std::io::ErrorKind::AddrInUse
    );
    drop(listener);
}

/// A restart must not wait for the old connections' TIME_WAIT.
#[tokio::test]
async fn an_address_is_free_again_after_a_restart() {
    let (listener, addr) = loopback().await;
    let dialed = dial(&addr, LIMIT).await.expect("it listens");
    let (accepted, _, _) = listener.accept().await.expect("a connection");
    // The accepting side closes first, so the old connection lingers at the listener's address.
    drop((accepted, listener));
    let mut end = [0; 1];
    let end = dialed
        .readable()
        .await
        .and_then(|()| dialed.try_read(&mut end));
    assert_eq!(end.expect("a clean end"), 0);
    drop(dialed);
    listen(&addr, 8).await.expect("free again");
}

#[tokio::test]
async fn strangers_are_bounded_in_number() {
    let listener = listen("127.0.0.1:0", 2).await.expect("loopback binds");
    let addr = listener.local_addr().expect("bound").to_string();
    let mut dialed: Vec<TcpStream> = Vec::new();
    for _ in 0..3 {
        // The third waits in the backlog: connected, never refused.
        dialed.push(dial(&addr, LIMIT).await.expect("it listens"));
    }
    let (_first, _, first_place) = listener.accept().await.expect("a place");
    let (_second, _, _second_place) = listener.accept().await.expect("a place");
    let third = tokio::time::timeout(Duration::from_millis(30), listener.accept()).await;
    assert!(third.is_err(), "no place is left");
    drop(first_place);
    let (_, from, _) = listener.accept().await.expect("a place again");
    assert_eq!(from, dialed[2].local_addr().expect("connected"));
}

#[tokio::test]
async fn sockets_are_prepared() {
    let (_listener, addr) = loopback().await;
    let stream = dial(&addr, LIMIT).await.expect("it listens");
    set_up_socket(&stream, Duration::from_millis(2500)).expect("a TCP socket");
    let socket = SockRef::from(&stream);
    assert!(socket.tcp_nodelay().expect("an option"));
    assert!(socket.keepalive().expect("an option"));
    let user_timeout = socket.tcp_user_timeout().expect("an option");
    assert_eq!(user_timeout, Some(Duration::from_millis(2500)));
}

#[test]
fn delays_double_within_their_bounds_and_follow_the_seed() {
    let (shortest, longest) = (Duration::from_millis(20), Duration::from_millis(500));
    let delays = |seed| {
        let mut backoff = Backoff::new(shortest, longest, seed);
        (0..10).map(|_| backoff.next_delay()).collect::<Vec<_>>()
    };
    for seed in 0..200 {
        let mut step = shortest;
        for delay in delays(seed) {
            assert!(
                step / 2 <= delay && delay <= step,
                "seed {seed}: {delay:?} at {step:?}"
            );
            step = (step * 2).min(longest);
        }
        assert_eq!(delays(seed), delays(seed));
    }
    assert_ne!(delays(1), delays(2), "members must not return in step");
    let mut backoff = Backoff::new(shortest, longest, 1);
    for _ in 0..10 {
        backoff.next_delay();
    }
    backoff.reset();
    assert!(backoff.next_delay() <= shortest);
    assert_eq!(
        Backoff::new(Duration::ZERO, Duration::ZERO, 1).next_delay(),
        Duration::ZERO
    );
}
