//! Any bytes as the body of a control message: never a panic, never a runaway allocation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::peer::control;
use understudy::replica::Envelope;
use understudy::units::Epoch;

fuzz_target!(|body: &[u8]| {
    let Ok(message) = control::decode::<Envelope>(body) else {
        return;
    };
    let mut frame = bytes::BytesMut::new();
    control::encode(Epoch(1), &message, &mut frame).expect("it came within the limit");
    let body = &frame[understudy::peer::frame::HEADER_BYTES..];
    assert_eq!(control::decode::<Envelope>(body).expect("our own bytes"), message);
});
