//! Peer frames and messages: what goes in comes out, in any pieces; hostile bytes end in an error
//! and never in a panic or an allocation; the formats are pinned by golden bytes.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use understudy::peer::frame::{
    self, HEADER_BYTES, MAX_CONTROL_BYTES, MAX_HANDSHAKE_BYTES, MAX_SNAPSHOT_CHUNK_BYTES,
    MAX_WAL_FRAME_BYTES,
};
use understudy::peer::stream::MAX_HISTORY_ENTRIES;
use understudy::peer::{
    Ack, ConnectionKind, ControlError, Follow, Frame, FrameDecoder, FrameError, FrameKind, Hello,
    HelloError, Matched, StreamError, StreamMessage, VersionRange, control,
};
use understudy::units::{Epoch, Lsn, Millis, NodeId};
use understudy::wal::{ChainPoint, SnapshotKey};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Sample {
    Beat { sequence: u64, released: Lsn },
    Votes(Vec<(NodeId, Epoch)>),
    Note(String),
}

fn wire(epoch: Epoch, message: &StreamMessage) -> BytesMut {
    let mut out = BytesMut::new();
    let payload = message.encode(epoch, &mut out).expect("within the limits");
    out.put_slice(&payload);
    out
}

fn decode_one(mut bytes: BytesMut) -> Frame {
    let frame = FrameDecoder::proven()
        .decode(&mut bytes)
        .expect("a frame")
        .expect("a whole frame");
    assert!(bytes.is_empty(), "bytes left behind the frame: {bytes:?}");
    frame
}

fn header(kind: u8, body_bytes: u32) -> BytesMut {
    let mut head = BytesMut::new();
    head.put_u32_le(body_bytes);
    head.put_u8(kind);
    head.put_u64_le(7);
    head.put_u32_le(0);
    head
}

fn history() -> impl Strategy<Value = Vec<(Epoch, Lsn)>> {
    prop::collection::vec((1..1000u64, 1..1000u64), 0..20).prop_map(|steps| {
        let (mut epoch, mut lsn) = (0, 0);
        steps
            .into_iter()
            .map(|(more_epochs, more_records)| {
                (epoch, lsn) = (epoch + more_epochs, lsn + more_records);
                (Epoch(epoch), Lsn(lsn))
            })
            .collect()
    })
}

prop_compose! {
    fn follow()(
        (node, membership_incarnation, blank, has_snapshot) in any::<(u32, u64, bool, bool)>(),
        history in history(),
        (last, last_epoch, last_crc, log_first) in any::<(u64, u64, u32, u64)>(),
    ) -> Follow {
        Follow {
            node: NodeId(node),
            membership_incarnation,
            blank,
            has_snapshot,
            history,
            last: Lsn(last),
            last_epoch: Epoch(last_epoch),
            last_crc,
            log_first: Lsn(log_first),
        }
    }
}

fn message() -> impl Strategy<Value = StreamMessage> {
    let lsn = || any::<u64>().prop_map(Lsn);
    let bytes = |from| prop::collection::vec(any::<u8>(), from..40_000).prop_map(Bytes::from);
    prop_oneof![
        follow().prop_map(StreamMessage::Follow),
        (lsn(), any::<u64>(), any::<u32>(), lsn(), lsn()).prop_map(
            |(fork, epoch, fork_crc, released, appended)| {
                let fork_epoch = Epoch(epoch);
                StreamMessage::Matched(Matched {
                    fork,
                    fork_epoch,
                    fork_crc,
                    released,
                    appended,
                })
            }
        ),
        lsn().prop_map(|from| StreamMessage::Ready { from }),
        (lsn(), lsn(), any::<u64>(), any::<u64>()).prop_map(|(begin, end, bytes, id)| {
            let offer = SnapshotKey {
                begin,
                end,
                bytes,
                id,
            };
            StreamMessage::SnapshotOffer(offer)
        }),
        any::<u64>().prop_map(|offset| StreamMessage::SnapshotWanted { offset }),
        (any::<u64>(), bytes(0))
            .prop_map(|(offset, bytes)| StreamMessage::SnapshotChunk { offset, bytes }),
        any::<u64>().prop_map(|bytes| StreamMessage::SnapshotEnd { bytes }),
        (lsn(), bytes(1)).prop_map(|(released, records)| StreamMessage::Wal { released, records }),
        lsn().prop_map(|released| StreamMessage::Released { released }),
        (lsn(), lsn(), lsn()).prop_map(|(received, synced, applied)| {
            StreamMessage::Ack(Ack {
                received,
                synced,
                applied,
            })
        }),
        (lsn(), lsn(), lsn()).prop_map(|(received, synced, applied)| {
            StreamMessage::Awaited(Ack {
                received,
                synced,
                applied,
            })
        }),
        "[ -~äöü]{0,100}".prop_map(|reason| StreamMessage::Refused { reason }),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40).prop_map(|keys| {
            let keys = keys.into_iter().map(Bytes::from).collect();
            StreamMessage::Repair { keys }
        }),
        (lsn(), lsn()).prop_map(|(after, last)| StreamMessage::Fetch { after, last }),
        (any::<u32>(), lsn()).prop_map(|(source, oldest)| StreamMessage::CopyFrom {
            source: NodeId(source),
            oldest,
        }),
        lsn().prop_map(|oldest| StreamMessage::CopyWanted { oldest }),
        (lsn(), any::<[u64; 3]>(), any::<u32>()).prop_map(|(lsn, [epoch, time, offset], crc)| {
            StreamMessage::Chain(ChainPoint {
                lsn,
                epoch: Epoch(epoch),
                time: Millis(time),
                offset,
                crc,
            })
        }),
        (lsn(), any::<u32>(), bytes(0)).prop_map(|(at, keys, effects)| StreamMessage::Values {
            at,
            keys,
            effects
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_survive_the_wire_in_any_pieces(
        messages in prop::collection::vec((any::<u64>(), message()), 1..6),
        pieces in prop::collection::vec(1..20_000usize, 1..20),
    ) {
        let mut sent = BytesMut::new();
        for (epoch, message) in &messages {
            sent.unsplit(wire(Epoch(*epoch), message));
        }
        let mut decoder = FrameDecoder::proven();
        let (mut received, mut buffer) = (Vec::new(), BytesMut::new());
        let mut sizes = pieces.iter().cycle();
        while !sent.is_empty() {
            let size = (*sizes.next().expect("cycle never ends")).min(sent.len());
            buffer.extend_from_slice(&sent.split_to(size));
            while let Some(frame) = decoder.decode(&mut buffer).expect("a frame") {
                let epoch = frame.epoch.0;
                received.push((epoch, StreamMessage::decode(frame).expect("a message")));
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(received, messages);
    }

    #[test]
    fn a_flipped_bit_never_passes_for_another_message(
        message in message(),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let mut bytes = wire(Epoch(5), &message);
        // Raw records are left to their own CRCs.
        let covered = match &message {
            StreamMessage::Wal { records, .. } => bytes.len() - records.len(),
            _ => bytes.len(),
        };
        bytes[at.index(covered)] ^= 1 << bit;
        let decoded = FrameDecoder::proven().decode(&mut bytes);
        prop_assert!(!matches!(decoded, Ok(Some(_))), "{:?}", decoded);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        kind in prop::sample::select(FrameKind::ALL.to_vec()),
    ) {
        for mut decoder in [FrameDecoder::proven(), FrameDecoder::unproven()] {
            let _ = decoder.decode(&mut BytesMut::from(&bytes[..]));
        }
        let body = Bytes::from(bytes.clone());
        let _ = StreamMessage::decode(Frame { kind, epoch: Epoch(1), body });
        let _ = Hello::decode(&bytes);
        let mut hello = understudy::peer::MAGIC.to_vec();
        hello.extend_from_slice(&bytes);
        let _ = Hello::decode(&hello);
        let _ = control::decode::<Sample>(&bytes);
        let mut versioned = vec![control::CONTROL_VERSION];
        versioned.extend_from_slice(&bytes);
        let _ = control::decode::<Sample>(&versioned);
    }

    #[test]
    fn a_message_cut_anywhere_is_short(message in message(), at in any::<prop::sample::Index>()) {
        let frame = decode_one(wire(Epoch(1), &message));
        // These bodies end with bytes of any number; only their fixed part can be cut.
        let fixed_bytes = match &message {
            StreamMessage::Wal { .. } | StreamMessage::SnapshotChunk { .. } => 8,
            StreamMessage::Values { .. } => 12,
            StreamMessage::Refused { .. } => return Ok(()),
            _ => frame.body.len(),
        };
        let body = frame.body.slice(..at.index(fixed_bytes));
        let kind = frame.kind;
        prop_assert_eq!(
            StreamMessage::decode(Frame { body, ..frame }),
            Err(StreamError::Short(kind))
        );
    }

    #[test]
    fn control_messages_survive_the_wire(
        sequence in any::<u64>(), released in any::<u64>(),
        votes in prop::collection::vec(any::<(u32, u64)>(), 0..50), note in ".{0,200}",
    ) {
        let votes = votes.into_iter().map(|(node, epoch)| (NodeId(node), Epoch(epoch))).collect();
        for message in [
            Sample::Beat { sequence, released: Lsn(released) },
            Sample::Votes(votes),
            Sample::Note(note),
        ] {
            let mut out = BytesMut::new();
            control::encode(Epoch(3), &message, &mut out).expect("a small message");
            let frame = decode_one(out);
            prop_assert_eq!((frame.kind, frame.epoch), (FrameKind::Control, Epoch(3)));
            prop_assert_eq!(control::decode::<Sample>(&frame.body).expect("our own"), message);
        }
    }
}

#[test]
fn the_frame_format_is_pinned() {
    let ack = StreamMessage::Ack(Ack {
        received: Lsn(3),
        synced: Lsn(2),
        applied: Lsn(1),
    });
    let bytes = wire(Epoch(0x0102), &ack);
    let mut golden = vec![24, 0, 0, 0, 40, 2, 1, 0, 0, 0, 0, 0, 0];
    golden.extend_from_slice(&[0x4a, 0x67, 0x7f, 0xbb]);
    golden.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[..], golden[..]);
}

#[test]
fn the_frames_of_a_copy_are_pinned() {
    let offer = StreamMessage::SnapshotOffer(SnapshotKey {
        begin: Lsn(1),
        end: Lsn(2),
        bytes: 3,
        id: 0x0807_0605_0403_0201,
    });
    let mut golden = vec![32, 0, 0, 0, 35, 7, 0, 0, 0, 0, 0, 0, 0];
    golden.extend_from_slice(&[0x06, 0xcf, 0x4e, 0x42]);
    for number in [1_u64, 2, 3] {
        golden.extend_from_slice(&number.to_le_bytes());
    }
    golden.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(wire(Epoch(7), &offer)[..], golden[..]);
    let wanted = StreamMessage::SnapshotWanted { offset: 5 };
    let mut golden = vec![8, 0, 0, 0, 43, 7, 0, 0, 0, 0, 0, 0, 0];
    golden.extend_from_slice(&[0x0c, 0x1c, 0xc6, 0x4a]);
    golden.extend_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(wire(Epoch(7), &wanted)[..], golden[..]);
}

#[test]
fn the_wal_frame_format_is_pinned() {
    let records = Bytes::from_static(b"rec");
    let bytes = wire(
        Epoch(9),
        &StreamMessage::Wal {
            released: Lsn(4),
            records,
        },
    );
    let mut golden = vec![11, 0, 0, 0, 38, 9, 0, 0, 0, 0, 0, 0, 0];
    golden.extend_from_slice(&[0xc8, 0xcb, 0x4e, 0xcf]);
    golden.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(b"rec");
    assert_eq!(bytes[..], golden[..]);
}

#[test]
fn the_control_format_is_pinned() {
    let mut out = BytesMut::new();
    let message = Sample::Votes(vec![(NodeId(2), Epoch(5))]);
    control::encode(Epoch(1), &message, &mut out).expect("a small message");
    let mut golden = vec![control::CONTROL_VERSION, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    golden.extend_from_slice(&[2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(out[HEADER_BYTES..], golden[..]);
}

#[test]
fn the_hello_format_is_pinned() {
    let hello = Hello {
        versions: VersionRange { min: 1, max: 2 },
        features: 3,
        kind: ConnectionKind::Stream,
        has_secret: true,
        cluster_id: 4,
        node: NodeId(5),
        process_incarnation: 6,
        membership_incarnation: 7,
        membership_version: 8,
        nonce: [9; 32],
        cluster_name: "main".into(),
    };
    let mut golden = b"undrstdy\x01\0\x02\0\x03\0\0\0\0\0\0\0\x02\x01".to_vec();
    golden.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
    for number in [6u64, 7, 8] {
        golden.extend_from_slice(&number.to_le_bytes());
    }
    golden.extend_from_slice(&[9; 32]);
    golden.extend_from_slice(b"\x04main");
    assert_eq!(hello.encode(), golden);
    assert_eq!(Hello::decode(&golden), Ok(hello.clone()));
    // A later version may append fields; its version range must stay readable.
    golden.push(1);
    assert_eq!(Hello::decode(&golden), Ok(hello));
}

#[test]
fn lengths_over_the_limit_are_refused_from_the_header_alone() {
    for kind in FrameKind::ALL {
        let limit_bytes = kind.max_body_bytes();
        for claimed in [limit_bytes as u32 + 1, u32::MAX] {
            let mut src = header(kind as u8, claimed);
            let capacity = src.capacity();
            let error = FrameError::TooLong {
                kind,
                body_bytes: u64::from(claimed),
                limit_bytes,
            };
            assert_eq!(FrameDecoder::proven().frame_bytes(&src), Err(error));
            assert_eq!(FrameDecoder::proven().decode(&mut src), Err(error));
            assert_eq!(
                src.capacity(),
                capacity,
                "nothing may be reserved for {kind:?}"
            );
        }
        let within = header(kind as u8, limit_bytes as u32);
        assert_eq!(
            FrameDecoder::proven().frame_bytes(&within),
            Ok(Some(HEADER_BYTES + limit_bytes))
        );
    }
}

#[test]
fn the_limits_are_what_the_formats_page_says() {
    assert_eq!(FrameKind::Hello.max_body_bytes(), 512);
    assert_eq!(FrameKind::Control.max_body_bytes(), 65_536);
    assert_eq!(FrameKind::SnapshotChunk.max_body_bytes(), 1_048_584);
    assert_eq!(MAX_WAL_FRAME_BYTES, 75_497_480);
    assert_eq!(FrameKind::Repair.max_body_bytes(), 69_206_028);
    assert_eq!(FrameKind::Values.max_body_bytes(), 69_206_028);
}

#[test]
fn an_unproven_peer_may_send_only_the_handshake() {
    for kind in FrameKind::ALL {
        let src = header(kind as u8, 1);
        let verdict = FrameDecoder::unproven().frame_bytes(&src);
        match kind {
            FrameKind::Hello | FrameKind::Proof | FrameKind::Refused => {
                assert_eq!(verdict, Ok(Some(HEADER_BYTES + 1)));
            }
            _ => assert_eq!(verdict, Err(FrameError::Unproven(kind))),
        }
    }
}

#[test]
fn unknown_kinds_are_refused() {
    for byte in (0..=255u8).filter(|byte| FrameKind::from_byte(*byte).is_none()) {
        let verdict = FrameDecoder::proven().decode(&mut header(byte, 0));
        assert_eq!(verdict, Err(FrameError::UnknownKind(byte)));
    }
}

#[test]
fn messages_over_their_limit_are_not_sent() {
    let mut out = BytesMut::from(&b"before"[..]);
    let bytes = Bytes::from(vec![0; MAX_SNAPSHOT_CHUNK_BYTES + 1]);
    let chunk = StreamMessage::SnapshotChunk { offset: 0, bytes };
    assert!(matches!(
        chunk.encode(Epoch(1), &mut out),
        Err(FrameError::TooLong { .. })
    ));
    let note = Sample::Note("x".repeat(MAX_CONTROL_BYTES));
    let error = control::encode(Epoch(1), &note, &mut out).expect_err("too long");
    assert!(matches!(error, ControlError::Unsendable(_)), "{error}");
    assert_eq!(
        &out[..],
        b"before",
        "a refused message leaves nothing behind"
    );
}

#[test]
fn hostile_control_bodies_are_errors() {
    let decode = |body: &[u8]| control::decode::<Sample>(body);
    assert!(matches!(decode(&[]), Err(ControlError::Empty)));
    assert!(matches!(decode(&[9, 0]), Err(ControlError::Version(9))));
    // A list, and a text, that claim more elements than memory holds.
    for tag in [1u8, 2] {
        let mut body = vec![control::CONTROL_VERSION, tag, 0, 0, 0];
        body.extend_from_slice(&[0xff; 8]);
        assert!(matches!(decode(&body), Err(ControlError::Malformed(_))));
    }
    let mut out = BytesMut::new();
    control::encode(Epoch(1), &Sample::Note("n".into()), &mut out).expect("a small message");
    out.put_u8(0);
    assert!(
        matches!(
            decode(&out[HEADER_BYTES..]),
            Err(ControlError::Malformed(_))
        ),
        "trailing"
    );
}

#[test]
fn hostile_follows_are_errors() {
    let good = Follow {
        history: vec![(Epoch(1), Lsn(1)), (Epoch(3), Lsn(9))],
        ..Follow::default()
    };
    let body = decode_one(wire(Epoch(1), &StreamMessage::Follow(good))).body;
    let decode = |body: Vec<u8>| {
        let kind = FrameKind::Follow;
        StreamMessage::decode(Frame {
            kind,
            epoch: Epoch(1),
            body: body.into(),
        })
    };
    let count_at = body.len() - 2 * 16 - 4;
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = body.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        decode(changed)
    };
    let invalid = |what| Err(StreamError::Invalid(FrameKind::Follow, what));
    assert_eq!(with(count_at, &[0xff; 4]), invalid("number of reigns"));
    assert_eq!(
        with(count_at, &[3, 0, 0, 0]),
        Err(StreamError::Short(FrameKind::Follow))
    );
    assert_eq!(
        with(count_at, &[1, 0, 0, 0]),
        Err(StreamError::TrailingBytes(FrameKind::Follow, 16))
    );
    assert_eq!(with(12, &[0x80]), invalid("flags byte"));
    assert_eq!(
        with(body.len() - 16, &[1]),
        invalid("history (it must rise)")
    );
    assert_eq!(
        with(body.len() - 8, &[1]),
        invalid("history (it must rise)")
    );
}

#[test]
fn a_history_too_long_for_a_frame_loses_its_oldest_reigns() {
    let history: Vec<_> = (1..=MAX_HISTORY_ENTRIES as u64 + 5)
        .map(|n| (Epoch(n), Lsn(n * 10)))
        .collect();
    let sent = Follow {
        history: history.clone(),
        ..Follow::default()
    };
    let frame = decode_one(wire(Epoch(1), &StreamMessage::Follow(sent)));
    let Ok(StreamMessage::Follow(received)) = StreamMessage::decode(frame) else {
        panic!("a Follow stays a Follow");
    };
    assert_eq!(received.history, history[5..]);
}

#[test]
fn empty_batches_and_other_planes_frames_are_errors() {
    let decode = |kind, body: &'static [u8]| {
        StreamMessage::decode(Frame {
            kind,
            epoch: Epoch(1),
            body: Bytes::from_static(body),
        })
    };
    assert!(matches!(
        decode(FrameKind::Wal, &[0; 8]),
        Err(StreamError::Invalid(..))
    ));
    for kind in [FrameKind::Hello, FrameKind::Proof, FrameKind::Control] {
        assert_eq!(decode(kind, &[0; 8]), Err(StreamError::Misplaced(kind)));
    }
    assert_eq!(
        decode(FrameKind::Ack, &[0; 25]),
        Err(StreamError::TrailingBytes(FrameKind::Ack, 1))
    );
}

#[test]
fn a_refusal_cannot_forge_log_lines_or_escape_sequences() {
    let body = Bytes::from_static(b"no\n2026 INFO all is well \x1b[2J \xff");
    let message = StreamMessage::decode(Frame {
        kind: FrameKind::Refused,
        epoch: Epoch(0),
        body,
    });
    let Ok(StreamMessage::Refused { reason }) = message else {
        panic!("{message:?}")
    };
    assert!(reason.starts_with("no"));
    assert!(!reason.chars().any(char::is_control), "{reason:?}");
}

#[test]
fn a_long_sentence_is_cut_between_characters() {
    let reason = format!("x{}", "ä".repeat(MAX_HANDSHAKE_BYTES));
    let frame = decode_one(wire(
        Epoch(1),
        &StreamMessage::Refused {
            reason: reason.clone(),
        },
    ));
    assert_eq!(frame.body.len(), MAX_HANDSHAKE_BYTES - 1);
    let Ok(StreamMessage::Refused { reason: cut }) = StreamMessage::decode(frame) else {
        panic!("a Refused stays a Refused");
    };
    assert!(reason.starts_with(&cut));
}

#[test]
fn a_kept_batch_pins_nothing_of_the_read_buffer() {
    let records = Bytes::from(vec![7; 100]);
    let message = StreamMessage::Wal {
        released: Lsn(1),
        records,
    };
    let mut buffer = wire(Epoch(1), &message);
    buffer.unsplit(wire(Epoch(1), &message));
    let start = buffer.as_ptr() as usize;
    let end = start + buffer.len();
    let frame = FrameDecoder::proven()
        .decode(&mut buffer)
        .expect("a frame")
        .expect("whole");
    let kept = frame.body.as_ptr() as usize;
    assert!(
        kept < start || kept >= end,
        "a small body is copied out of the shared buffer"
    );
}

#[test]
fn hellos_that_are_none_say_why() {
    let invalid = |body: &[u8]| Hello::decode(body).expect_err("no Hello");
    assert_eq!(invalid(b"GET / HTTP/1.1\r\n"), HelloError::Magic);
    assert_eq!(invalid(b"undrstdy\x01\0"), HelloError::Short);
    let mut out = BytesMut::new();
    frame::encode(FrameKind::Hello, Epoch(0), &[], &mut out, |body| {
        body.put_slice(b"undrstdy")
    })
    .expect("short");
    assert_eq!(invalid(&decode_one(out).body), HelloError::Short);
}
