//! The client's side: requests to bytes, bytes to replies. Used by `bench`, `demo`, the node's
//! probe of its own client port, and tests.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::reply::Reply;

/// Deepest nesting of a reply that is taken.
const MAX_DEPTH: usize = 32;
/// Longest reply that is taken.
const MAX_REPLY_BYTES: usize = 1 << 30;

/// The server does not speak the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the server's reply is malformed: {0}")]
pub struct ReplyError(pub String);

/// Appends one command.
pub fn encode_request(args: &[&[u8]], out: &mut BytesMut) {
    out.put_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.put_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.put_slice(arg);
        out.put_slice(b"\r\n");
    }
}

/// Takes replies out of a read buffer.
#[derive(Debug, Default)]
pub struct ReplyParser;

/// An aggregate under way.
struct Open {
    kind: u8,
    missing: usize,
    items: Vec<Reply>,
}

impl ReplyParser {
    /// The next whole reply in `buffer`, taken out of it; `None` when more bytes are needed.
    pub fn parse(&mut self, buffer: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        match decode(buffer)? {
            None if buffer.len() > MAX_REPLY_BYTES => Err(ReplyError("too long".into())),
            None => Ok(None),
            Some((reply, used)) => {
                buffer.advance(used);
                Ok(Some(reply))
            }
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Option<(Reply, usize)>, ReplyError> {
    let mut at = 0;
    let mut open: Vec<Open> = Vec::new();
    loop {
        let Some(end) = memchr::memchr(b'\n', &bytes[at..]) else {
            return Ok(None);
        };
        let line = &bytes[at..at + end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at += end + 1;
        let Some((&kind, text)) = line.split_first() else {
            return Err(ReplyError("an empty line".into()));
        };
        let mut done = match kind {
            b'*' | b'~' | b'>' | b'%' => {
                let n = int(text)?;
                if n < 0 {
                    Reply::NullArray
                } else {
                    let missing = if kind == b'%' {
                        n as usize * 2
                    } else {
                        n as usize
                    };
                    if open.len() >= MAX_DEPTH || missing > MAX_REPLY_BYTES {
                        return Err(ReplyError("nested too deep, or too long".into()));
                    }
                    open.push(Open {
                        kind,
                        missing,
                        items: Vec::new(),
                    });
                    match close(&mut open) {
                        Some(reply) => reply,
                        None => continue,
                    }
                }
            }
            b'$' | b'=' => {
                let n = int(text)?;
                if n < 0 {
                    Reply::Null
                } else {
                    let len = n as usize;
                    let Some(body) = bytes.get(at..at.saturating_add(len)) else {
                        return Ok(None);
                    };
                    if bytes.len() < at + len + 2 {
                        return Ok(None);
                    }
                    at += len + 2;
                    let skip = if kind == b'=' { 4.min(body.len()) } else { 0 };
                    Reply::Bulk(Bytes::copy_from_slice(&body[skip..]))
                }
            }
            _ => scalar(kind, text)?,
        };
        loop {
            let Some(top) = open.last_mut() else {
                return Ok(Some((done, at)));
            };
            top.items.push(done);
            match close(&mut open) {
                Some(reply) => done = reply,
                None => break,
            }
        }
    }
}

/// The innermost aggregate, if it is whole.
fn close(open: &mut Vec<Open>) -> Option<Reply> {
    if open.last().is_none_or(|top| top.items.len() < top.missing) {
        return None;
    }
    let top = open.pop()?;
    Some(match top.kind {
        b'~' => Reply::Set(top.items),
        b'>' => Reply::Push(top.items),
        b'%' => {
            let mut items = top.items.into_iter();
            let mut pairs = Vec::new();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            Reply::Map(pairs)
        }
        _ => Reply::Array(top.items),
    })
}

fn scalar(kind: u8, text: &[u8]) -> Result<Reply, ReplyError> {
    let string = || String::from_utf8_lossy(text).into_owned();
    Ok(match kind {
        b'+' => Reply::Simple(string().into()),
        b'-' => Reply::Error(string().into()),
        b':' => Reply::Integer(int(text)?),
        b'_' => Reply::Null,
        b'#' => Reply::Boolean(text == b"t"),
        b',' => match string().parse() {
            Ok(value) => Reply::Double(value),
            Err(_) => return Err(ReplyError(format!("{} is no number", string()))),
        },
        b'(' => Reply::Simple(string().into()),
        other => return Err(ReplyError(format!("unknown type byte {other:#04x}"))),
    })
}

fn int(text: &[u8]) -> Result<i64, ReplyError> {
    let number = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    number.ok_or_else(|| ReplyError(format!("{} is no length", String::from_utf8_lossy(text))))
}

#[cfg(test)]
mod tests {
    use super::super::reply::Version;
    use super::*;

    #[test]
    fn replies_round_trip_in_any_pieces() {
        let reply = Reply::Array(vec![
            Reply::OK,
            Reply::error("ERR no"),
            Reply::Integer(-12),
            Reply::bulk("a\r\nb"),
            Reply::Null,
            Reply::Map(vec![(Reply::bulk("k"), Reply::Array(vec![]))]),
            Reply::Set(vec![Reply::Boolean(true), Reply::Double(1.5)]),
        ]);
        let mut bytes = BytesMut::new();
        reply.encode(Version::Resp3, &mut bytes);
        for cut in 0..bytes.len() {
            let mut part = BytesMut::from(&bytes[..cut]);
            assert_eq!(ReplyParser.parse(&mut part), Ok(None), "cut at {cut}");
            part.extend_from_slice(&bytes[cut..]);
            assert_eq!(ReplyParser.parse(&mut part), Ok(Some(reply.clone())));
            assert!(part.is_empty());
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let mut bytes = BytesMut::from("*1\r\n".repeat(1000).as_str());
        assert!(ReplyParser.parse(&mut bytes).is_err());
    }
}
