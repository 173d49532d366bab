//! Any bytes, in one piece and byte by byte: the same replies and the same error; what is read can
//! be written.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use understudy::resp::{Reply, ReplyParseError, ReplyParser, Version};

fn parse(stream: &[u8], step: usize) -> (Vec<Reply>, Option<ReplyParseError>) {
    let mut parser = ReplyParser::default();
    let mut buf = BytesMut::new();
    let mut replies = Vec::new();
    for piece in stream.chunks(step) {
        buf.extend_from_slice(piece);
        loop {
            match parser.parse(&mut buf) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

fn encoded(replies: &[Reply]) -> BytesMut {
    let mut out = BytesMut::new();
    replies
        .iter()
        .for_each(|reply| reply.encode(Version::Resp3, &mut out));
    out
}

fuzz_target!(|stream: &[u8]| {
    let (whole, whole_error) = parse(stream, stream.len().max(1));
    let (cut, cut_error) = parse(stream, 1);
    // Compared by their bytes: a NaN is not equal to itself.
    assert_eq!((encoded(&whole), whole_error), (encoded(&cut), cut_error));
});
