//! Any bytes, in any pieces: never a panic, never more buffered than the limits allow, and what
//! decodes encodes to the same bytes.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use understudy::peer::{FrameDecoder, FrameKind, StreamMessage};

fuzz_target!(|input: (bool, u16, &[u8])| {
    let (proven, piece_bytes, bytes) = input;
    let mut decoder = if proven {
        FrameDecoder::proven()
    } else {
        FrameDecoder::unproven()
    };
    let mut buffer = BytesMut::new();
    for piece in bytes.chunks(usize::from(piece_bytes).max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            let before = buffer.clone();
            let Ok(frame) = decoder.decode(&mut buffer) else {
                return;
            };
            let Some(frame) = frame else { break };
            assert!(proven || frame.kind.allowed_unproven());
            assert!(frame.body.len() <= frame.kind.max_body_bytes());
            let (kind, epoch) = (frame.kind, frame.epoch);
            let Ok(message) = StreamMessage::decode(frame) else {
                continue;
            };
            if kind == FrameKind::Refused {
                continue; // sanitised on arrival, so not the same bytes
            }
            let mut again = BytesMut::new();
            let payload = message
                .encode(epoch, &mut again)
                .expect("it came within the limits");
            again.extend_from_slice(&payload);
            assert_eq!(again, before[..before.len() - buffer.len()]);
        }
    }
});
