//! Any bytes as the body of a control message: never a panic, never a runaway allocation. The type
//! has every shape the takeover machine's messages are made of.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use understudy::peer::control;
use understudy::units::{Epoch, Lsn, NodeId};

type Message = Result<
    (Epoch, Lsn, Option<NodeId>, Vec<(NodeId, u64)>),
    (String, BTreeMap<NodeId, Vec<u8>>, u128, bool),
>;

fuzz_target!(|body: &[u8]| {
    let Ok(message) = control::decode::<Message>(body) else {
        return;
    };
    let mut frame = bytes::BytesMut::new();
    // A map's entries come back sorted, so compare messages, not bytes.
    control::encode(Epoch(1), &message, &mut frame).expect("it came within the limit");
    let body = &frame[understudy::peer::frame::HEADER_BYTES..];
    assert_eq!(
        control::decode::<Message>(body).expect("our own bytes"),
        message
    );
});
