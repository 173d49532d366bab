//! Requests that were carried out, with what they were answered: a client that did not hear the answer
//! sends the request again, is told, and nothing happens twice.
//!
//! Each is an entry like a key's, in the same tables, so that logs, snapshots, digests, repairs and expiry
//! treat it as such: what is remembered is what is replicated. Its name begins as no client's key may; no
//! command on keys shows it. The format of names and values is in `docs/formats.md`.

use bytes::{Bytes, BytesMut};

use crate::resp::{Reply, ReplyLimits, ReplyParser, Version};

/// What the names of the node's own entries begin with. Clients may not name such keys.
const RESERVED: &[u8] = b"\xff\xffunderstudy:";

/// Followed by the client's token.
const REQUEST: &[u8] = b"\xff\xffunderstudy:request:";

/// Replies that are longer are not kept: only that there was one.
const MAX_REPLY_BYTES: usize = 64 << 10;

const KIND_REPLIES: u8 = 1;
const KIND_TOO_LONG: u8 = 2;

/// What the commands of a request were answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Remembered {
    /// This, one by one.
    Replies(Vec<Reply>),
    /// More than is kept.
    TooLong,
}

/// Whether clients may not name this key.
pub fn is_reserved(key: &[u8]) -> bool {
    // One look at most keys.
    key.first() == Some(&0xff) && key.starts_with(RESERVED)
}

/// The name under which a request is remembered.
pub fn request_key(token: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(REQUEST.len() + token.len());
    key.extend_from_slice(REQUEST);
    key.extend_from_slice(token);
    key.freeze()
}

/// What is kept of these replies.
pub fn encode_replies(replies: &[Reply]) -> Bytes {
    let mut value = BytesMut::from(&[KIND_REPLIES][..]);
    for reply in replies {
        reply.encode(Version::Resp3, &mut value);
        if value.len() > MAX_REPLY_BYTES {
            return Bytes::from_static(&[KIND_TOO_LONG]);
        }
    }
    value.freeze()
}

/// `None`: not of this format.
pub fn decode_replies(value: &[u8]) -> Option<Remembered> {
    let (kind, encoded) = value.split_first()?;
    match *kind {
        KIND_TOO_LONG => Some(Remembered::TooLong),
        KIND_REPLIES => {
            let mut encoded = BytesMut::from(encoded);
            let mut parser = ReplyParser::new(ReplyLimits::default());
            let mut replies = Vec::new();
            while !encoded.is_empty() {
                replies.push(parser.parse(&mut encoded).ok()??);
            }
            Some(Remembered::Replies(replies))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_back() {
        let replies = vec![
            Reply::OK,
            Reply::Null,
            Reply::Integer(-7),
            Reply::Bulk(Bytes::from_static(b"\r\n\0")),
            Reply::error("ERR no"),
            Reply::Array(vec![Reply::Null, Reply::Array(Vec::new())]),
            Reply::Map(vec![(Reply::text("a"), Reply::Integer(1))]),
        ];
        let value = encode_replies(&replies);
        assert_eq!(decode_replies(&value), Some(Remembered::Replies(replies)));
        assert_eq!(
            decode_replies(&encode_replies(&[])),
            Some(Remembered::Replies(Vec::new()))
        );
        let long = Reply::Bulk(Bytes::from(vec![b'x'; MAX_REPLY_BYTES]));
        let value = encode_replies(&[Reply::OK, long]);
        assert_eq!(decode_replies(&value), Some(Remembered::TooLong));
        for damaged in [&b""[..], b"\x09", b"\x01:1", b"\x01?"] {
            assert_eq!(decode_replies(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn names_of_requests_are_reserved_and_no_others() {
        assert!(is_reserved(&request_key(b"t")));
        assert_eq!(&request_key(b"t\0")[..], b"\xff\xffunderstudy:request:t\0");
        for key in [
            &b""[..],
            b"\xff",
            b"\xff\xffunderstud",
            b"understudy:",
            b"a",
        ] {
            assert!(!is_reserved(key), "{key:?}");
        }
    }
}
