//! Any frames to either side of a handshake: never a panic, and nobody is proven who does not know
//! the secret.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use understudy::peer::{
    ConnectionKind, Frame, FrameDecoder, FrameKind, Handshake, Hello, Identity, MAGIC, Secret,
    VersionRange,
};
use understudy::units::{Epoch, NodeId};

fuzz_target!(|input: (bool, Vec<(u8, &[u8])>, &[u8])| {
    let (dialed, frames, raw) = input;
    let identity = Identity {
        cluster_id: 1,
        cluster_name: "main".into(),
        node: NodeId(1),
        process_incarnation: 7,
        membership_incarnation: 1,
        membership_version: 1,
        features: 3,
        versions: VersionRange::THIS_BUILD,
        secret: Some(Secret::new(b"known to members alone").expect("not empty")),
    };
    let mut handshake = if dialed {
        Handshake::responder(&identity, &|_| Ok(()), [1; 32])
    } else {
        Handshake::initiator(&identity, ConnectionKind::Stream, NodeId(2), [1; 32]).0
    };
    // A peer that would be welcome but for the secret, so that the proof is reached.
    let other = Identity {
        node: NodeId(2),
        process_incarnation: 8,
        ..identity.clone()
    };
    for (which, bytes) in frames {
        let (kind, body) = match which % 4 {
            0 => (FrameKind::Hello, [&MAGIC, bytes].concat()),
            1 => (FrameKind::Proof, bytes.to_vec()),
            2 => (FrameKind::Refused, bytes.to_vec()),
            _ => (
                FrameKind::Hello,
                Hello::new(&other, ConnectionKind::Stream, [2; 32]).encode(),
            ),
        };
        let frame = Frame {
            kind,
            epoch: Epoch::ZERO,
            body: Bytes::from(body),
        };
        let Ok(step) = handshake.on_frame(&frame) else {
            break;
        };
        assert!(step.done.is_none(), "proven without the secret");
    }
    let mut buffer = BytesMut::from(raw);
    let mut decoder = FrameDecoder::unproven();
    while let Ok(Some(frame)) = decoder.decode(&mut buffer) {
        let Ok(step) = handshake.on_frame(&frame) else {
            break;
        };
        assert!(step.done.is_none(), "proven without the secret");
    }
});
