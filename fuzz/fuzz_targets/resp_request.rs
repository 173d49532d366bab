//! Any bytes, in one piece and byte by byte: the same requests and the same error; and every
//! request is parsed, planned and applied without a panic.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use understudy::command::Command;
use understudy::keyspace::{HashSeed, Keyspace};
use understudy::resp::{Limits, ProtocolError, Request, RequestParser};
use understudy::units::{Lsn, Millis};

fn parse(stream: &[u8], step: usize) -> (Vec<Request>, Option<ProtocolError>) {
    let limits = Limits {
        max_inline_bytes: 256,
        max_bulk_bytes: 4096,
        ..Limits::default()
    };
    let mut parser = RequestParser::new(limits);
    let mut buf = BytesMut::new();
    let mut requests = Vec::new();
    for piece in stream.chunks(step) {
        buf.extend_from_slice(piece);
        loop {
            match parser.parse(&mut buf) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

fuzz_target!(|stream: &[u8]| {
    let whole = parse(stream, stream.len().max(1));
    assert_eq!(parse(stream, 1), whole);
    let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
    let mut lsn = Lsn::ZERO;
    for request in &whole.0 {
        if let Ok(Command::Keys(command)) = Command::parse(request) {
            // SETRANGE up to 512 MiB is allowed, and slow.
            if matches!(&command, understudy::command::KeyCommand::SetRange { offset, .. } if *offset > 4096)
            {
                continue;
            }
            let plan = keyspace.plan(&command, Millis(1_700_000_000_000), 7);
            lsn = lsn.next();
            let applied = keyspace.apply_encoded(plan.effects.encoded(), lsn);
            assert_eq!(applied, Ok(()), "a plan's effects are valid");
        }
    }
});
