//! The handshake over in-memory streams: who gets in, who is refused and with which words on both
//! sides, and what a stranger without the secret can and cannot bring about.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use understudy::peer::{
    Accepted, Ack, Connected, ConnectionKind, Frame, FrameDecoder, FrameError, FrameKind,
    Handshake, HandshakeError, HelloError, Identity, PeerInfo, ReadError, Refusal, Secret,
    StreamMessage, VersionRange, accept, connect, frame, probe,
};
use understudy::units::{Epoch, Lsn, NodeId};

/// Far above what any handshake here takes; only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(10);

type Half<T> = Result<T, HandshakeError>;
type Dialed = Connected<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>;
type Answered = Accepted<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>;

fn identity(node: u32) -> Identity {
    Identity {
        cluster_id: 0xc1,
        cluster_name: "main".into(),
        node: NodeId(node),
        process_incarnation: 1000 + u64::from(node),
        membership_incarnation: 1,
        membership_version: 1,
        features: 0b110 << node,
        versions: VersionRange::THIS_BUILD,
        secret: Some(Secret::new(b"correct horse").expect("not empty")),
    }
}

fn anyone(_: &PeerInfo) -> Result<(), String> {
    Ok(())
}

async fn shake_as(
    initiator: &Identity,
    responder: &Identity,
    kind: ConnectionKind,
    expected: u32,
) -> (Half<Dialed>, Half<Answered>) {
    let (near, far) = duplex(1024);
    let ((near_reader, near_writer), (far_reader, far_writer)) = (split(near), split(far));
    let expected = NodeId(expected);
    tokio::join!(
        connect(near_reader, near_writer, initiator, kind, expected, LIMIT),
        accept(far_reader, far_writer, responder, &anyone, LIMIT),
    )
}

async fn shake(initiator: &Identity, responder: &Identity) -> (Half<Dialed>, Half<Answered>) {
    shake_as(
        initiator,
        responder,
        ConnectionKind::Stream,
        responder.node.0,
    )
    .await
}

/// Both sides must end with the same sentence: one refuses, the other is told.
fn refused_alike(outcome: (Half<Dialed>, Half<Answered>)) -> (Refusal, String) {
    let (Err(dialing), Err(answering)) = outcome else {
        panic!("one side let the other in")
    };
    let (refusal, told) = match (dialing, answering) {
        (HandshakeError::Refusing(refusal), HandshakeError::RefusedByPeer(told))
        | (HandshakeError::RefusedByPeer(told), HandshakeError::Refusing(refusal)) => {
            (refusal, told)
        }
        other => panic!("one side refuses and the other is told, not {other:?}"),
    };
    assert_eq!(
        refusal.to_string(),
        told,
        "both logs carry the same sentence"
    );
    (refusal, told)
}

#[tokio::test]
async fn members_with_the_same_secret_meet_and_talk() {
    let (one, two) = (identity(1), identity(2));
    let (dialed, answered) = shake(&one, &two).await;
    let (info, mut reader, mut writer) = dialed.expect("the secret is right");
    let Accepted::Connection((other, mut far_reader, mut far_writer)) =
        answered.expect("the secret is right")
    else {
        panic!("a stream is no probe");
    };
    assert_eq!((info.node, info.process_incarnation), (NodeId(2), 1002));
    assert_eq!((other.node, other.process_incarnation), (NodeId(1), 1001));
    assert_eq!((other.kind, other.version), (ConnectionKind::Stream, 1));
    assert_eq!(
        (info.features, other.features),
        (0b1000, 0b1000),
        "only what both can do"
    );

    let records = Bytes::from(vec![42; 300_000]);
    let wal = StreamMessage::Wal {
        released: Lsn(5),
        records,
    };
    let ack = StreamMessage::Ack(Ack {
        received: Lsn(9),
        synced: Lsn(8),
        applied: Lsn(5),
    });
    let talk = async {
        for _ in 0..3 {
            writer.push(Epoch(4), &wal).expect("within the limits");
            writer.push(Epoch(4), &ack).expect("within the limits");
        }
        assert!(writer.pending_bytes() > 900_000);
        writer.flush().await.expect("the other side reads");
        assert_eq!(writer.pending_bytes(), 0);
        let frame = reader.next().await.expect("a frame").expect("not closed");
        assert_eq!(StreamMessage::decode(frame).expect("an Ack"), ack);
    };
    let listen = async {
        for _ in 0..3 {
            for expected in [&wal, &ack] {
                let frame = far_reader
                    .next()
                    .await
                    .expect("a frame")
                    .expect("not closed");
                assert_eq!(frame.epoch, Epoch(4));
                assert_eq!(&StreamMessage::decode(frame).expect("a message"), expected);
            }
        }
        far_writer.push(Epoch(4), &ack).expect("within the limits");
        far_writer.shutdown().await.expect("the other side reads");
    };
    tokio::join!(talk, listen);
    assert!(reader.next().await.expect("a clean end").is_none());
}

#[tokio::test]
async fn without_any_secret_the_exchange_is_the_same() {
    let (mut one, mut two) = (identity(1), identity(2));
    (one.secret, two.secret) = (None, None);
    let (dialed, answered) = shake(&one, &two).await;
    assert_eq!(dialed.expect("no secret to lack").0.node, NodeId(2));
    assert!(matches!(answered, Ok(Accepted::Connection(_))));
}

#[tokio::test]
async fn a_blank_node_is_met_whatever_the_cluster_id() {
    let (mut blank, member) = (identity(1), identity(2));
    blank.cluster_id = 0;
    for (initiator, responder) in [(&blank, &member), (&member, &blank)] {
        let (dialed, answered) = shake(initiator, responder).await;
        assert_eq!(
            dialed.expect("blank is no contradiction").0.cluster_id,
            responder.cluster_id
        );
        assert!(answered.is_ok());
    }
}

#[tokio::test]
async fn a_probe_learns_the_incarnation_and_the_connection_ends() {
    let (one, two) = (identity(1), identity(2));
    let (near, far) = duplex(1024);
    let ((near_reader, near_writer), (far_reader, far_writer)) = (split(near), split(far));
    let (probed, answered) = tokio::join!(
        probe(near_reader, near_writer, &one, NodeId(2), LIMIT),
        accept(far_reader, far_writer, &two, &anyone, LIMIT),
    );
    assert_eq!(probed.expect("node 2 answers").process_incarnation, 1002);
    let Ok(Accepted::Probe(prober)) = answered else {
        panic!("a probe is nothing else")
    };
    assert_eq!(
        (prober.node, prober.kind),
        (NodeId(1), ConnectionKind::Probe)
    );
}

#[tokio::test]
async fn a_wrong_secret_is_refused_on_both_sides() {
    let (one, mut two) = (identity(1), identity(2));
    two.secret = Some(Secret::new(b"battery staple").expect("not empty"));
    let (refusal, told) = refused_alike(shake(&one, &two).await);
    assert_eq!(refusal, Refusal::Proof(NodeId(1)));
    assert!(
        told.contains("node 1 does not know this cluster's secret"),
        "{told}"
    );
}

#[tokio::test]
async fn no_secret_against_a_secret_is_called_by_its_name() {
    let (one, mut two) = (identity(1), identity(2));
    two.secret = None;
    for (initiator, responder) in [(&one, &two), (&two, &one)] {
        let (refusal, told) = refused_alike(shake(initiator, responder).await);
        assert_eq!(
            refusal,
            Refusal::NoSecret {
                with: NodeId(1),
                without: NodeId(2)
            }
        );
        assert!(told.contains("node 2 has none"), "{told}");
    }
}

#[tokio::test]
async fn what_differs_is_named_on_both_sides() {
    type Change = fn(&mut Identity);
    let cases: [(Change, &str); 4] = [
        (|other| other.cluster_id = 0xc2, "cluster id differs"),
        (
            |other| other.cluster_name = "staging".into(),
            "cluster name differs",
        ),
        (
            |other| other.versions = VersionRange { min: 2, max: 9 },
            "speaks 2 to 9",
        ),
        (
            |other| other.node = NodeId(1),
            "node id 1 is used by two processes",
        ),
    ];
    for (change, words) in cases {
        let (one, mut other) = (identity(1), identity(2));
        change(&mut other);
        for (initiator, responder) in [(&one, &other), (&other, &one)] {
            let (_, told) = refused_alike(shake(initiator, responder).await);
            assert!(told.contains(words), "{told}");
        }
    }
}

#[tokio::test]
async fn versions_meet_at_the_newest_shared() {
    let (mut one, mut two) = (identity(1), identity(2));
    one.versions = VersionRange { min: 1, max: 3 };
    two.versions = VersionRange { min: 2, max: 7 };
    let (dialed, _) = shake(&one, &two).await;
    assert_eq!(dialed.expect("2 and 3 are shared").0.version, 3);
}

#[tokio::test]
async fn the_wrong_node_at_an_address_is_refused_on_both_sides() {
    let outcome = shake_as(&identity(1), &identity(2), ConnectionKind::Heartbeat, 3).await;
    let (refusal, told) = refused_alike(outcome);
    assert_eq!(
        refusal,
        Refusal::WrongNode {
            expected: NodeId(3),
            found: NodeId(2)
        }
    );
    assert!(
        told.contains("node 2 answers at the address of node 3"),
        "{told}"
    );
}

#[tokio::test]
async fn a_node_that_reaches_itself_notices() {
    let one = identity(1);
    let (refusal, _) = refused_alike(shake(&one, &one).await);
    assert_eq!(refusal, Refusal::Itself(NodeId(1)));
}

/// Membership is asked behind the proof, so that no stranger can find out who is a member.
#[tokio::test]
async fn only_a_proven_peer_learns_that_it_is_no_member() {
    let asked = AtomicUsize::new(0);
    let nobody = |info: &PeerInfo| {
        asked.fetch_add(1, Ordering::Relaxed);
        Err(format!("node {} is not a member", info.node))
    };
    let (stranger, two) = (identity(7), identity(2));
    let mut imposter = identity(7);
    imposter.secret = Some(Secret::new(b"guess").expect("not empty"));
    let mut told = Vec::new();
    for initiator in [&imposter, &stranger] {
        let (near, far) = duplex(1024);
        let ((near_reader, near_writer), (far_reader, far_writer)) = (split(near), split(far));
        let kind = ConnectionKind::Stream;
        let outcome = tokio::join!(
            connect(near_reader, near_writer, initiator, kind, NodeId(2), LIMIT),
            accept(far_reader, far_writer, &two, &nobody, LIMIT),
        );
        told.push(refused_alike(outcome).1);
        let expected_asks = told.len() - 1;
        assert_eq!(
            asked.load(Ordering::Relaxed),
            expected_asks,
            "asked only behind the proof"
        );
    }
    assert!(told[0].contains("does not know"), "{}", told[0]);
    assert_eq!(told[1], "node 7 is not a member");
}

#[tokio::test]
async fn a_peer_that_says_nothing_or_too_little_runs_out_of_time() {
    let two = identity(2);
    let limit = Duration::from_millis(50);
    let (mut near, far) = duplex(1024);
    let (reader, writer) = split(far);
    // Half a header, then silence with the connection held open.
    near.write_all(&[1, 0, 0]).await.expect("room in the pipe");
    let outcome = accept(reader, writer, &two, &anyone, limit).await;
    assert!(matches!(outcome, Err(HandshakeError::TimedOut(at)) if at == limit));

    let (near, _held_open) = duplex(1024);
    let (reader, writer) = split(near);
    let outcome = connect(
        reader,
        writer,
        &two,
        ConnectionKind::Stream,
        NodeId(1),
        limit,
    )
    .await;
    assert!(matches!(outcome, Err(HandshakeError::TimedOut(_))));
}

/// The limit is for the whole handshake: a byte now and then does not extend it.
#[tokio::test]
async fn a_peer_that_drips_runs_out_of_time() {
    let two = identity(2);
    let (mut near, far) = duplex(1024);
    let (reader, writer) = split(far);
    let (_, hello) = Handshake::initiator(&two, ConnectionKind::Stream, NodeId(1), [0; 32]);
    let drip = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        for byte in hello.iter().cycle() {
            ticks.tick().await;
            if near.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    let one = identity(1);
    let limit = Duration::from_millis(60);
    tokio::select! {
        outcome = accept(reader, writer, &one, &anyone, limit) => {
            assert!(matches!(outcome, Err(HandshakeError::TimedOut(_))));
        }
        () = drip => panic!("the connection was dropped before the limit"),
    }
}

/// What a stranger's bytes bring about: the error here, and what it is answered.
async fn answer_to(bytes: &[u8]) -> (HandshakeError, Vec<u8>) {
    let two = identity(2);
    let (mut near, far) = duplex(64 * 1024);
    let (reader, writer) = split(far);
    near.write_all(bytes).await.expect("room in the pipe");
    near.shutdown().await.expect("an open pipe");
    let outcome = accept(reader, writer, &two, &anyone, LIMIT).await;
    let error = outcome.err().expect("no stranger gets in");
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.expect("an open pipe");
    (error, answer)
}

#[tokio::test]
async fn garbage_is_answered_with_silence() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"PING\r\n",
        b"",
        &[0; 4096],
    ] {
        let (error, answer) = answer_to(bytes).await;
        assert!(
            matches!(error, HandshakeError::Frame(_) | HandshakeError::Closed),
            "{error}"
        );
        assert!(answer.is_empty(), "{bytes:?} was answered with {answer:?}");
    }
    let mut no_magic = BytesMut::new();
    frame::encode(FrameKind::Hello, Epoch(0), &[], &mut no_magic, |out| {
        out.put_bytes(b'x', 99)
    })
    .expect("short");
    let (error, answer) = answer_to(&no_magic).await;
    assert!(
        matches!(error, HandshakeError::Hello(HelloError::Magic)),
        "{error}"
    );
    assert!(answer.is_empty());
}

#[tokio::test]
async fn a_stranger_gets_a_hello_and_nothing_else() {
    let guess = identity(1);
    let (_, hello) = Handshake::initiator(&guess, ConnectionKind::Stream, NodeId(2), [1; 32]);
    let mut bytes = hello.clone();
    StreamMessage::Released { released: Lsn(1) }
        .encode(Epoch(9), &mut bytes)
        .expect("short");
    let (error, answer) = answer_to(&bytes).await;
    let unproven = FrameError::Unproven(FrameKind::Released);
    assert!(
        matches!(error, HandshakeError::Frame(found) if found == unproven),
        "{error}"
    );
    let mut answer = BytesMut::from(&answer[..]);
    let frame = FrameDecoder::unproven()
        .decode(&mut answer)
        .expect("a frame")
        .expect("whole");
    assert_eq!(frame.kind, FrameKind::Hello);
    assert!(answer.is_empty(), "nothing behind the Hello");

    let (error, _) = answer_to(&[&hello[..], &hello[..]].concat()).await;
    assert!(
        matches!(error, HandshakeError::OutOfTurn(FrameKind::Hello)),
        "{error}"
    );
}

fn frame_of(bytes: &[u8]) -> Frame {
    let mut bytes = BytesMut::from(bytes);
    FrameDecoder::unproven()
        .decode(&mut bytes)
        .expect("a frame")
        .expect("a whole frame")
}

/// The frames of a complete session: Hello, Hello, Proof, Proof.
fn session(one: &Identity, two: &Identity, nonces: [u8; 2]) -> [BytesMut; 4] {
    let kind = ConnectionKind::Heartbeat;
    let (mut initiator, hello) = Handshake::initiator(one, kind, two.node, [nonces[0]; 32]);
    let mut responder = Handshake::responder(two, &anyone, [nonces[1]; 32]);
    let answer = responder
        .on_frame(&frame_of(&hello))
        .expect("a good Hello")
        .send;
    let proof = initiator
        .on_frame(&frame_of(&answer))
        .expect("a good Hello")
        .send;
    let last = responder.on_frame(&frame_of(&proof)).expect("a good proof");
    assert_eq!(last.done.expect("proven").node, one.node);
    let end = initiator
        .on_frame(&frame_of(&last.send))
        .expect("a good proof");
    assert_eq!(end.done.expect("proven").node, two.node);
    assert!(end.send.is_empty());
    [hello, answer, proof, last.send]
}

#[test]
fn a_replayed_session_proves_nothing() {
    let (one, two) = (identity(1), identity(2));
    let [hello, answer, proof, last] = session(&one, &two, [1, 2]);

    let mut responder = Handshake::responder(&two, &anyone, [3; 32]);
    responder
        .on_frame(&frame_of(&hello))
        .expect("a Hello proves nothing and is taken");
    let error = responder
        .on_frame(&frame_of(&proof))
        .expect_err("the nonce is another");
    assert!(
        matches!(error, HandshakeError::Refusing(Refusal::Proof(NodeId(1)))),
        "{error}"
    );

    let kind = ConnectionKind::Heartbeat;
    let (mut initiator, _) = Handshake::initiator(&one, kind, NodeId(2), [4; 32]);
    initiator
        .on_frame(&frame_of(&answer))
        .expect("a Hello proves nothing and is taken");
    let error = initiator
        .on_frame(&frame_of(&last))
        .expect_err("the nonce is another");
    assert!(
        matches!(error, HandshakeError::Refusing(Refusal::Proof(NodeId(2)))),
        "{error}"
    );
}

/// Whoever has no secret can hand our own proof back; the direction in it gives that away.
#[test]
fn a_reflected_proof_proves_nothing() {
    let one = identity(1);
    let kind = ConnectionKind::Heartbeat;
    let (mut initiator, _) = Handshake::initiator(&one, kind, NodeId(2), [1; 32]);
    let claimed = understudy::peer::Hello::new(&identity(2), kind, [2; 32]).encode();
    let mut claim = BytesMut::new();
    frame::encode(FrameKind::Hello, Epoch(0), &[], &mut claim, |out| {
        out.put_slice(&claimed)
    })
    .expect("short");
    let own_proof = initiator
        .on_frame(&frame_of(&claim))
        .expect("a Hello is taken")
        .send;
    let error = initiator
        .on_frame(&frame_of(&own_proof))
        .expect_err("our own proof");
    assert!(
        matches!(error, HandshakeError::Refusing(Refusal::Proof(NodeId(2)))),
        "{error}"
    );
}

/// A proof made for a probe opens no stream, and one made by node 1 does not serve node 3.
#[test]
fn a_proof_covers_kind_and_identity() {
    let two = identity(2);
    let kind = ConnectionKind::Probe;
    for (claims, proves) in [
        ((identity(1), ConnectionKind::Stream), (identity(1), kind)),
        ((identity(3), kind), (identity(1), kind)),
    ] {
        let mut responder = Handshake::responder(&two, &anyone, [9; 32]);
        let (_, claim) = Handshake::initiator(&claims.0, claims.1, NodeId(2), [1; 32]);
        let (mut prover, _) = Handshake::initiator(&proves.0, proves.1, NodeId(2), [1; 32]);
        responder
            .on_frame(&frame_of(&claim))
            .expect("a Hello is taken");
        let mut answer = BytesMut::new();
        let body = understudy::peer::Hello::new(&two, proves.1, [9; 32]).encode();
        frame::encode(FrameKind::Hello, Epoch(0), &[], &mut answer, |out| {
            out.put_slice(&body)
        })
        .expect("short");
        let proof = prover
            .on_frame(&frame_of(&answer))
            .expect("a Hello is taken")
            .send;
        let error = responder
            .on_frame(&frame_of(&proof))
            .expect_err("another claim was proved");
        assert!(
            matches!(error, HandshakeError::Refusing(Refusal::Proof(_))),
            "{error}"
        );
    }
}

#[test]
fn a_proof_before_the_hellos_is_out_of_turn() {
    let (one, two) = (identity(1), identity(2));
    let [_, _, proof, _] = session(&one, &two, [1, 2]);
    let mut responder = Handshake::responder(&two, &anyone, [2; 32]);
    let error = responder
        .on_frame(&frame_of(&proof))
        .expect_err("nothing has been said");
    assert!(
        matches!(error, HandshakeError::OutOfTurn(FrameKind::Proof)),
        "{error}"
    );
}

#[test]
fn an_unproven_refusal_cannot_forge_log_lines() {
    let one = identity(1);
    let kind = ConnectionKind::Heartbeat;
    let (mut initiator, _) = Handshake::initiator(&one, kind, NodeId(2), [1; 32]);
    let body = Bytes::from_static(b"no\r\n\x1b[31mALL IS LOST");
    let refused = Frame {
        kind: FrameKind::Refused,
        epoch: Epoch(0),
        body,
    };
    let Err(HandshakeError::RefusedByPeer(told)) = initiator.on_frame(&refused) else {
        panic!("a refusal ends the handshake");
    };
    assert!(!told.chars().any(char::is_control), "{told:?}");
}

#[test]
fn the_secret_is_never_printed() {
    assert!(!format!("{:?}", identity(1)).contains("horse"));
    assert!(
        Secret::new(b"").is_err(),
        "an empty secret would be none, unnoticed"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Someone between the members may change a `Hello` (and its checksum): no change survives the
    /// proofs, be it to the version range, the kind of connection or a byte nobody looks at.
    #[test]
    fn a_changed_hello_never_ends_in_a_proven_peer(
        at in any::<prop::sample::Index>(), bit in 0..8u8, change_answer in any::<bool>(),
        appended in any::<bool>(),
    ) {
        let (one, two) = (identity(1), identity(2));
        let kind = ConnectionKind::Stream;
        let (mut initiator, hello) = Handshake::initiator(&one, kind, NodeId(2), [1; 32]);
        let mut responder = Handshake::responder(&two, &anyone, [2; 32]);
        let tamper = |bytes: &[u8]| {
            let mut frame = frame_of(bytes);
            let mut body = frame.body.to_vec();
            if appended { body.push(0) } else { body[at.index(frame.body.len())] ^= 1 << bit }
            frame.body = body.into();
            frame
        };
        let hello = if change_answer { frame_of(&hello) } else { tamper(&hello) };
        let Ok(step) = responder.on_frame(&hello) else { return Ok(()) };
        let answer = if change_answer { tamper(&step.send) } else { frame_of(&step.send) };
        let Ok(step) = initiator.on_frame(&answer) else { return Ok(()) };
        let outcome = responder.on_frame(&frame_of(&step.send));
        prop_assert!(matches!(outcome, Err(HandshakeError::Refusing(Refusal::Proof(_)))));
    }

    #[test]
    fn arbitrary_frames_never_prove_anything(
        frames in prop::collection::vec(
            (0..3usize, prop::collection::vec(any::<u8>(), 0..200)), 0..5),
        dialed in any::<bool>(),
    ) {
        let one = identity(1);
        let kind = ConnectionKind::Stream;
        let mut handshake = if dialed {
            Handshake::responder(&one, &anyone, [1; 32])
        } else {
            Handshake::initiator(&one, kind, NodeId(2), [1; 32]).0
        };
        for (which, body) in frames {
            let kind = [FrameKind::Hello, FrameKind::Proof, FrameKind::Refused][which];
            let frame = Frame { kind, epoch: Epoch(0), body: body.into() };
            prop_assert!(!handshake.on_frame(&frame).is_ok_and(|step| step.done.is_some()));
        }
    }
}

/// `select!` drops half-done reads and writes all the time; nothing may be lost or doubled.
#[tokio::test]
async fn reads_and_writes_survive_being_cancelled() {
    let (dialed, answered) = shake(&identity(1), &identity(2)).await;
    let (_, _reader, mut writer) = dialed.expect("the secret is right");
    let Ok(Accepted::Connection((_, mut reader, _writer))) = answered else {
        panic!("a stream is no probe");
    };
    let message = |n: u64| StreamMessage::Wal {
        released: Lsn(n),
        records: Bytes::from(vec![n as u8; 20_000 * n as usize]),
    };
    let write = async {
        for n in 1..=6 {
            writer
                .push(Epoch(1), &message(n))
                .expect("within the limits");
        }
        while writer.pending_bytes() > 0 {
            tokio::select! {
                biased;
                outcome = writer.flush() => outcome.expect("the other side reads"),
                () = tokio::task::yield_now() => {}
            }
        }
    };
    let read = async {
        for n in 1..=6 {
            let frame = loop {
                tokio::select! {
                    biased;
                    frame = reader.next() => break frame.expect("a frame").expect("not closed"),
                    () = tokio::task::yield_now() => {}
                }
            };
            assert_eq!(StreamMessage::decode(frame).expect("a message"), message(n));
        }
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn a_connection_cut_inside_a_frame_is_not_a_clean_end() {
    let (dialed, answered) = shake(&identity(1), &identity(2)).await;
    let Ok(Accepted::Connection((_, mut reader, far_writer))) = answered else {
        panic!("a stream is no probe");
    };
    let (_, near_reader, mut writer) = dialed.expect("the secret is right");
    let records = Bytes::from(vec![1; 100_000]);
    writer
        .push(
            Epoch(1),
            &StreamMessage::Wal {
                released: Lsn(1),
                records,
            },
        )
        .expect("small");
    let read = async {
        // One pass of the writer fits what the pipe holds; then it is gone.
        tokio::select! {
            biased;
            _ = writer.flush() => panic!("the pipe is smaller than the frame"),
            () = tokio::task::yield_now() => {}
        }
        drop((writer, near_reader));
    };
    let (_, outcome) = tokio::join!(read, reader.next());
    assert!(matches!(outcome, Err(ReadError::Cut)), "{outcome:?}");
    drop(far_writer);
}
