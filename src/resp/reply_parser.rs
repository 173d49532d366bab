//! Reading replies: the client's side of both protocol versions.
//!
//! Nesting is a stack on the heap with a bound, never recursion: a hostile server must not be able
//! to overflow a client's stack with a few kilobytes of `*1\r\n*1\r\n…`.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use super::Reply;
use super::request::parse_integer;

/// Most slots reserved because a server announced them.
const RESERVED_ITEMS: usize = 64;

/// Bounds on what a [`ReplyParser`] accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Deepest nesting of arrays, maps, sets and pushes.
    pub max_depth: usize,
    /// Longest string, in bytes.
    pub max_bulk_bytes: usize,
    /// Most items of one array (a map's keys and values counted both).
    pub max_items: usize,
    /// Longest line (status, error, number), in bytes.
    pub max_line_bytes: usize,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        ReplyLimits {
            max_depth: 32,
            max_bulk_bytes: 512 * 1024 * 1024,
            max_items: 64 * 1024 * 1024,
            max_line_bytes: 64 * 1024,
        }
    }
}

/// Why a byte stream is not a sequence of replies. The connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyParseError {
    /// The first byte of a reply names no type.
    #[error("reply starts with byte {0:#04x}, which names no RESP type")]
    UnknownType(u8),
    /// A length or a number cannot be read.
    #[error("reply of type byte {0} carries a malformed number")]
    MalformedNumber(u8),
    /// A length is above the limit.
    #[error("reply of type byte {0} announces {1} bytes or items, above the limit")]
    TooBig(u8, i64),
    /// A line does not end within the limit.
    #[error("reply line is longer than the limit of {0} bytes")]
    LineTooLong(usize),
    /// Arrays nest deeper than the limit.
    #[error("reply nests deeper than the limit of {0} levels")]
    TooDeep(usize),
    /// A line or a string is not followed by a carriage return and a line feed.
    #[error("reply of type byte {0} does not end with a line end")]
    MissingLineEnd(u8),
}

/// An aggregate whose items are still arriving.
#[derive(Debug)]
struct Open {
    /// Its type byte; `|` is an attribute, which is read and dropped.
    kind: u8,
    missing: usize,
    items: Vec<Reply>,
}

/// A string whose length has been read but whose bytes have not all come.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    kind: u8,
    bytes: usize,
}

/// Turns a byte stream into replies, incrementally.
///
/// Types without a [`Reply`] of their own become the nearest: a bulk error an error, a big number
/// a bulk string, an attribute nothing.
#[derive(Debug)]
pub struct ReplyParser {
    limits: ReplyLimits,
    scanned: usize,
    wanted: Option<Wanted>,
    open: Vec<Open>,
}

impl Default for ReplyParser {
    fn default() -> Self {
        Self::new(ReplyLimits::default())
    }
}

/// What one step through the input gave.
enum Step {
    NeedsMore,
    Opened,
    Complete(Reply),
}

impl ReplyParser {
    /// A parser at the start of a stream.
    pub fn new(limits: ReplyLimits) -> Self {
        ReplyParser {
            limits,
            scanned: 0,
            wanted: None,
            open: Vec::new(),
        }
    }

    /// Takes the next reply off the head of `buf`; `Ok(None)` when more bytes are needed. What has
    /// been understood leaves `buf`. After an error the stream is lost: close it.
    pub fn parse(&mut self, buf: &mut BytesMut) -> Result<Option<Reply>, ReplyParseError> {
        loop {
            let mut complete = match self.step(buf)? {
                Step::NeedsMore => return Ok(None),
                Step::Opened => None,
                Step::Complete(reply) => Some(reply),
            };
            loop {
                if let Some(reply) = complete.take() {
                    match self.open.last_mut() {
                        None => return Ok(Some(reply)),
                        Some(open) => {
                            open.items.push(reply);
                            open.missing -= 1;
                        }
                    }
                }
                if self.open.last().is_none_or(|open| open.missing > 0) {
                    break;
                }
                complete = self.open.pop().and_then(close);
            }
        }
    }

    fn step(&mut self, buf: &mut BytesMut) -> Result<Step, ReplyParseError> {
        if let Some(wanted) = self.wanted {
            return self.take_string(wanted, buf);
        }
        let Some(&kind) = buf.first() else {
            return Ok(Step::NeedsMore);
        };
        let Some(line) = self.take_line(kind, buf)? else {
            return Ok(Step::NeedsMore);
        };
        let reply = match kind {
            b'+' => Reply::Simple(String::from_utf8_lossy(&line).into_owned().into()),
            b'-' => Reply::Error(String::from_utf8_lossy(&line).into_owned().into()),
            b':' => Reply::Integer(
                parse_integer(line.strip_prefix(b"+").unwrap_or(&line))
                    .ok_or(ReplyParseError::MalformedNumber(kind))?,
            ),
            b'_' => Reply::Null,
            b'#' => match &line[..] {
                b"t" => Reply::Boolean(true),
                b"f" => Reply::Boolean(false),
                _ => return Err(ReplyParseError::MalformedNumber(kind)),
            },
            b',' => Reply::Double(
                std::str::from_utf8(&line)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .ok_or(ReplyParseError::MalformedNumber(kind))?,
            ),
            b'(' => Reply::Bulk(line),
            b'$' | b'=' | b'!' => {
                let Some(bytes) = self.length(kind, &line, self.limits.max_bulk_bytes)? else {
                    return Ok(Step::Complete(Reply::Null));
                };
                return self.take_string(Wanted { kind, bytes }, buf);
            }
            b'*' | b'%' | b'~' | b'>' | b'|' => return self.open(kind, &line),
            other => return Err(ReplyParseError::UnknownType(other)),
        };
        Ok(Step::Complete(reply))
    }

    fn open(&mut self, kind: u8, line: &[u8]) -> Result<Step, ReplyParseError> {
        let pairs = matches!(kind, b'%' | b'|');
        let most = if pairs {
            self.limits.max_items / 2
        } else {
            self.limits.max_items
        };
        let Some(count) = self.length(kind, line, most)? else {
            return Ok(Step::Complete(Reply::NullArray));
        };
        if self.open.len() >= self.limits.max_depth {
            return Err(ReplyParseError::TooDeep(self.limits.max_depth));
        }
        let missing = if pairs { count * 2 } else { count };
        let items = Vec::with_capacity(missing.min(RESERVED_ITEMS));
        self.open.push(Open {
            kind,
            missing,
            items,
        });
        Ok(Step::Opened)
    }

    /// A length line's value; `None` for the nulls of RESP2, which only `$` and `*` have.
    fn length(&self, kind: u8, line: &[u8], most: usize) -> Result<Option<usize>, ReplyParseError> {
        let number = parse_integer(line).ok_or(ReplyParseError::MalformedNumber(kind))?;
        if number == -1 && matches!(kind, b'$' | b'*') {
            return Ok(None);
        }
        match usize::try_from(number) {
            Ok(length) if length <= most => Ok(Some(length)),
            Ok(_) => Err(ReplyParseError::TooBig(kind, number)),
            Err(_) => Err(ReplyParseError::MalformedNumber(kind)),
        }
    }

    fn take_string(&mut self, wanted: Wanted, buf: &mut BytesMut) -> Result<Step, ReplyParseError> {
        if buf.len() < wanted.bytes + 2 {
            self.wanted = Some(wanted);
            return Ok(Step::NeedsMore);
        }
        self.wanted = None;
        let bytes = Bytes::copy_from_slice(buf.get(..wanted.bytes).unwrap_or_default());
        buf.advance(wanted.bytes);
        if !buf.starts_with(b"\r\n") {
            return Err(ReplyParseError::MissingLineEnd(wanted.kind));
        }
        buf.advance(2);
        Ok(Step::Complete(match (wanted.kind, &bytes[..]) {
            (b'=', [a, b, c, b':', ..]) => Reply::Verbatim([*a, *b, *c], bytes.slice(4..)),
            (b'=', _) => return Err(ReplyParseError::MalformedNumber(b'=')),
            (b'!', text) => Reply::Error(String::from_utf8_lossy(text).into_owned().into()),
            _ => Reply::Bulk(bytes),
        }))
    }

    /// Takes a line (without its type byte and line end) off the buffer.
    fn take_line(
        &mut self,
        kind: u8,
        buf: &mut BytesMut,
    ) -> Result<Option<Bytes>, ReplyParseError> {
        let from = self.scanned.min(buf.len());
        let end = memchr(b'\n', buf.get(from..).unwrap_or_default()).map(|at| from + at);
        if end.unwrap_or(buf.len()) > self.limits.max_line_bytes {
            return Err(ReplyParseError::LineTooLong(self.limits.max_line_bytes));
        }
        let Some(end) = end else {
            self.scanned = buf.len();
            return Ok(None);
        };
        self.scanned = 0;
        let Some(line) = buf.get(1..end).and_then(|line| line.strip_suffix(b"\r")) else {
            return Err(ReplyParseError::MissingLineEnd(kind));
        };
        let line = Bytes::copy_from_slice(line);
        buf.advance(end + 1);
        Ok(Some(line))
    }
}

/// The reply a complete aggregate stands for; none for an attribute.
fn close(open: Open) -> Option<Reply> {
    match open.kind {
        b'|' => None,
        b'~' => Some(Reply::Set(open.items)),
        b'>' => Some(Reply::Push(open.items)),
        b'%' => {
            let mut items = open.items.into_iter();
            let mut pairs = Vec::with_capacity(items.len() / 2);
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            Some(Reply::Map(pairs))
        }
        _ => Some(Reply::Array(open.items)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Version;
    use super::*;
    use proptest::prelude::*;

    fn parse_all(stream: &[u8], step: usize) -> Result<Vec<Reply>, ReplyParseError> {
        let mut parser = ReplyParser::default();
        let mut buf = BytesMut::new();
        let mut replies = Vec::new();
        for piece in stream.chunks(step.max(1)) {
            buf.extend_from_slice(piece);
            while let Some(reply) = parser.parse(&mut buf)? {
                replies.push(reply);
            }
        }
        Ok(replies)
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = b"*1\r\n".repeat(100_000);
        assert_eq!(parse_all(&deep, 7), Err(ReplyParseError::TooDeep(32)));
        let fits = [b"*1\r\n".repeat(32), b":1\r\n".to_vec()].concat();
        assert_eq!(parse_all(&fits, 7).map(|replies| replies.len()), Ok(1));
    }

    #[test]
    fn odd_types_become_the_nearest() {
        let stream = b"|1\r\n+a\r\n+b\r\n!5\r\nERR x\r\n(123\r\n*0\r\n%0\r\n:+5\r\n$-1\r\n*-1\r\n";
        let expected = vec![
            Reply::error("ERR x"),
            Reply::text("123"),
            Reply::Array(vec![]),
            Reply::Map(vec![]),
            Reply::Integer(5),
            Reply::Null,
            Reply::NullArray,
        ];
        assert_eq!(parse_all(stream, 1), Ok(expected));
    }

    #[test]
    fn malformed_replies_are_refused() {
        for (stream, error) in [
            (&b"?\r\n"[..], ReplyParseError::UnknownType(b'?')),
            (b":x\r\n", ReplyParseError::MalformedNumber(b':')),
            (b"$-2\r\n", ReplyParseError::MalformedNumber(b'$')),
            (b"~-1\r\n", ReplyParseError::MalformedNumber(b'~')),
            (
                b"$536870913\r\n",
                ReplyParseError::TooBig(b'$', 536_870_913),
            ),
            (b"$1\r\naxx", ReplyParseError::MissingLineEnd(b'$')),
            (b"+OK\n", ReplyParseError::MissingLineEnd(b'+')),
            (b"\n", ReplyParseError::MissingLineEnd(b'\n')),
            (b"=2\r\nab\r\n", ReplyParseError::MalformedNumber(b'=')),
            (b"#x\r\n", ReplyParseError::MalformedNumber(b'#')),
        ] {
            assert_eq!(parse_all(stream, 100), Err(error));
        }
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            "[ -~]{0,20}".prop_map(|text| Reply::Simple(text.into())),
            "[ -~]{0,20}".prop_map(|text| Reply::Error(text.into())),
            any::<i64>().prop_map(Reply::Integer),
            prop::collection::vec(any::<u8>(), 0..50).prop_map(|bytes| Reply::Bulk(bytes.into())),
            Just(Reply::Null),
            any::<bool>().prop_map(Reply::Boolean),
            prop::num::f64::NORMAL.prop_map(Reply::Double),
            prop::collection::vec(any::<u8>(), 0..20)
                .prop_map(|bytes| Reply::Verbatim(*b"txt", bytes.into())),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            let items = || prop::collection::vec(inner.clone(), 0..5);
            prop_oneof![
                items().prop_map(Reply::Array),
                items().prop_map(Reply::Set),
                items().prop_map(Reply::Push),
                prop::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(Reply::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn encoded_replies_are_read_back(
            replies in prop::collection::vec(any_reply(), 1..4),
            step in 1usize..50,
        ) {
            let mut out = BytesMut::new();
            replies.iter().for_each(|reply| reply.encode(Version::Resp3, &mut out));
            prop_assert_eq!(parse_all(&out, step), Ok(replies));
        }

        #[test]
        fn any_bytes_give_the_same_outcome_however_cut(
            stream in prop::collection::vec(prop::sample::select(b"*$+:%|~\r\n0123-a".to_vec()), 0..80),
        ) {
            prop_assert_eq!(parse_all(&stream, 1), parse_all(&stream, 1000));
        }
    }
}
