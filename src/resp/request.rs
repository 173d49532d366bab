//! Requests: what a server reads.
//!
//! The parser remembers how far it has looked and what length it waits for, so a large value that
//! arrives in a thousand reads costs a thousand comparisons, not a thousand scans. Arguments leave
//! the read buffer as soon as they are complete, and take their part of it along: no copy, and no
//! allocation each. A buffer lives as long as the last argument out of it; whoever keeps an argument
//! for longer than its request copies it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memchr::memchr;

use super::inline::split_args;
use super::{Limits, push_decimal};

/// Most argument slots reserved because a client announced them. More come as they arrive: an
/// announcement costs the client a dozen bytes and must not cost us a mebibyte.
const RESERVED_ARGS: usize = 64;

/// One command as the client sent it: the name and its arguments, never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The command's name, then its arguments.
    pub args: Vec<Bytes>,
}

/// Why a byte stream is not a sequence of requests. The connection cannot go on: where the next
/// request starts is unknown. `Display` is the text Redis answers before it closes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The count behind `*` is no number, or above the limit.
    #[error("ERR Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// The length behind `$` is no number, negative, or above the limit.
    #[error("ERR Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// The count behind `*` is above what a client may send that has not authenticated.
    #[error("ERR Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// The length behind `$` is above what a client may send that has not authenticated.
    #[error("ERR Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// An argument does not start with `$`.
    #[error("ERR Protocol error: expected '$', got '{}'", *.0 as char)]
    ExpectedBulk(u8),
    /// The line behind `*` does not end within the limit.
    #[error("ERR Protocol error: too big mbulk count string")]
    CountTooLong,
    /// The line behind `$` does not end within the limit.
    #[error("ERR Protocol error: too big bulk count string")]
    LengthTooLong,
    /// An inline command does not end within the limit.
    #[error("ERR Protocol error: too big inline request")]
    InlineTooLong,
    /// An inline command's quotes do not balance.
    #[error("ERR Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// All arguments together exceed the limit.
    #[error("ERR Protocol error: too big request, the limit is {0} bytes")]
    RequestTooBig(usize),
}

/// Turns a byte stream into requests, incrementally.
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
    /// Bytes at the head of the buffer known to hold no line end.
    scanned: usize,
    /// Arguments still to come of the array being read; 0 between requests.
    missing_args: usize,
    /// The announced length of the argument whose bytes come next.
    bulk_bytes: Option<usize>,
    /// Arguments read so far.
    args: Vec<Bytes>,
    /// Bytes of arguments read or announced so far.
    request_bytes: usize,
}

impl RequestParser {
    /// A parser at the start of a stream.
    pub fn new(limits: Limits) -> Self {
        RequestParser {
            limits,
            scanned: 0,
            missing_args: 0,
            bulk_bytes: None,
            args: Vec::new(),
            request_bytes: 0,
        }
    }

    /// Changes the limits from the next length line on (a server is stricter with a client that
    /// has not authenticated yet).
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether the client has yet to authenticate; [`Limits::unauthenticated`].
    pub fn set_unauthenticated(&mut self, unauthenticated: bool) {
        self.limits.unauthenticated = unauthenticated;
    }

    /// How many bytes must still arrive before [`parse`](Self::parse) can give the next argument;
    /// at least 1. A reader may reserve that much, but no more than a read's size at a time.
    pub fn wanted_bytes(&self, buffered: usize) -> usize {
        self.bulk_bytes
            .map_or(1, |bytes| (bytes + 2).saturating_sub(buffered).max(1))
    }

    /// How much memory the request being read takes so far, besides the read buffer.
    pub fn kept_bytes(&self) -> usize {
        let announced = self.bulk_bytes.unwrap_or(0);
        let slots = self.args.capacity() * size_of::<Bytes>();
        self.request_bytes.saturating_sub(announced) + slots
    }

    /// Takes the next request off the head of `buf`; `Ok(None)` when more bytes are needed. What
    /// has been understood leaves `buf`. After an error the stream is lost: close it.
    pub fn parse(&mut self, buf: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        while self.missing_args == 0 {
            let Some(first) = buf.first() else {
                return Ok(None);
            };
            if *first != b'*' {
                match self.parse_inline(buf)? {
                    Some(args) if args.is_empty() => continue,
                    Some(args) => return Ok(Some(Request { args })),
                    None => return Ok(None),
                }
            }
            if !self.parse_count(buf)? {
                return Ok(None);
            }
        }
        while self.missing_args > 0 {
            if !self.parse_arg(buf)? {
                return Ok(None);
            }
        }
        self.request_bytes = 0;
        Ok(Some(Request {
            args: std::mem::take(&mut self.args),
        }))
    }

    fn parse_inline(&mut self, buf: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let Some(end) = self.find(b'\n', buf) else {
            self.bound_line(buf.len(), ProtocolError::InlineTooLong)?;
            return Ok(None);
        };
        self.bound_line(end, ProtocolError::InlineTooLong)?;
        let line = buf.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let args = split_args(line).ok_or(ProtocolError::UnbalancedQuotes)?;
        buf.advance(end + 1);
        if args.len() > self.limits.max_args {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        Ok(Some(args))
    }

    /// Reads `*<count>\r\n`. A count of zero or less is an empty request, which Redis skips.
    fn parse_count(&mut self, buf: &mut BytesMut) -> Result<bool, ProtocolError> {
        let Some(end) = self.find_line(buf, ProtocolError::CountTooLong)? else {
            return Ok(false);
        };
        let count = buf.get(1..end).and_then(parse_integer);
        let count = count.ok_or(ProtocolError::InvalidMultibulkLength)?;
        let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
        if count > self.limits.max_args {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        if self.limits.unauthenticated && count > Limits::STRANGER_ARGS {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        buf.advance(end + 2);
        self.missing_args = count;
        self.args = Vec::with_capacity(count.min(RESERVED_ARGS));
        Ok(true)
    }

    /// Reads one `$<length>\r\n<bytes>\r\n`. As in Redis, the two bytes behind an argument are
    /// skipped, not looked at.
    fn parse_arg(&mut self, buf: &mut BytesMut) -> Result<bool, ProtocolError> {
        let bytes = match self.bulk_bytes {
            Some(bytes) => bytes,
            None => match self.parse_length(buf)? {
                Some(bytes) => bytes,
                None => return Ok(false),
            },
        };
        if buf.len() < bytes + 2 {
            self.bulk_bytes = Some(bytes);
            return Ok(false);
        }
        self.args.push(buf.split_to(bytes).freeze());
        buf.advance(2);
        self.bulk_bytes = None;
        self.missing_args -= 1;
        Ok(true)
    }

    fn parse_length(&mut self, buf: &mut BytesMut) -> Result<Option<usize>, ProtocolError> {
        let Some(end) = self.find_line(buf, ProtocolError::LengthTooLong)? else {
            return Ok(None);
        };
        match buf.first() {
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::ExpectedBulk(*other)),
            None => return Ok(None),
        }
        let length = buf.get(1..end).and_then(parse_integer);
        let length = length.and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= self.limits.max_bulk_bytes);
        let length = length.ok_or(ProtocolError::InvalidBulkLength)?;
        if self.limits.unauthenticated && length > Limits::STRANGER_BULK_BYTES {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        self.request_bytes = self.request_bytes.saturating_add(length);
        if self.request_bytes > self.limits.max_request_bytes {
            return Err(ProtocolError::RequestTooBig(self.limits.max_request_bytes));
        }
        buf.advance(end + 2);
        Ok(Some(length))
    }

    /// Where the `\r` of a length line stands, once the byte behind it has arrived, too.
    fn find_line(
        &mut self,
        buf: &BytesMut,
        too_long: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let Some(end) = self.find(b'\r', buf) else {
            self.bound_line(buf.len(), too_long)?;
            return Ok(None);
        };
        self.bound_line(end, too_long)?;
        if end + 1 >= buf.len() {
            self.scanned = end;
            return Ok(None);
        }
        Ok(Some(end))
    }

    /// The line's length counts whether or not its end has been seen: otherwise the answer would
    /// depend on how the stream was cut into reads.
    fn bound_line(&self, line_bytes: usize, error: ProtocolError) -> Result<(), ProtocolError> {
        if line_bytes > self.limits.max_inline_bytes {
            Err(error)
        } else {
            Ok(())
        }
    }

    fn find(&mut self, byte: u8, buf: &BytesMut) -> Option<usize> {
        let from = self.scanned.min(buf.len());
        match memchr(byte, buf.get(from..)?) {
            Some(at) => {
                self.scanned = 0;
                Some(from + at)
            }
            None => {
                self.scanned = buf.len();
                None
            }
        }
    }
}

/// A decimal `i64` as Redis's `string2ll` reads it: no plus sign, no leading zeros, no blanks.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut magnitude: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        magnitude = magnitude
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
    }
    if negative {
        0i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// Appends `args` to `out` as a client sends them: an array of bulk strings.
pub fn encode_request(args: &[&[u8]], out: &mut BytesMut) {
    out.reserve(16 + args.iter().map(|arg| arg.len() + 16).sum::<usize>());
    out.put_u8(b'*');
    push_decimal(args.len() as i64, out);
    out.put_slice(b"\r\n");
    for arg in args {
        out.put_u8(b'$');
        push_decimal(arg.len() as i64, out);
        out.put_slice(b"\r\n");
        out.put_slice(arg);
        out.put_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Outcome = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

    /// Feeds `stream` in pieces ending at `cuts` and collects what comes out.
    fn parse_all(stream: &[u8], cuts: &[usize], limits: Limits) -> Outcome {
        let mut parser = RequestParser::new(limits);
        let mut buf = BytesMut::new();
        let mut requests = Vec::new();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        ends.push(stream.len());
        ends.sort_unstable();
        let mut from = 0;
        for end in ends {
            buf.extend_from_slice(&stream[from..end]);
            from = end;
            loop {
                match parser.parse(&mut buf) {
                    Ok(Some(request)) => {
                        requests.push(request.args.iter().map(|arg| arg.to_vec()).collect());
                    }
                    Ok(None) => break,
                    Err(error) => return (requests, Some(error)),
                }
            }
        }
        (requests, None)
    }

    fn error_of(stream: &[u8]) -> String {
        let (_, error) = parse_all(stream, &[], Limits::default());
        error.map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn a_client_that_has_not_authenticated_may_send_little() {
        let error_of = |stream: &[u8]| {
            let (requests, error) = parse_all(stream, &[], Limits::for_strangers());
            (requests.len(), error.map(|error| error.to_string()))
        };
        let text = |tail: &str| Some(format!("ERR Protocol error: {tail}"));
        let longest = [
            b"*2\r\n$4\r\nauth\r\n$16384\r\n".as_slice(),
            &[b'x'; 16_384],
            b"\r\n",
        ]
        .concat();
        assert_eq!(error_of(&longest), (1, None));
        assert_eq!(
            error_of(b"*2\r\n$16385\r\n"),
            (0, text("unauthenticated bulk length"))
        );
        assert_eq!(error_of(b"*10\r\n"), (0, None));
        assert_eq!(
            error_of(b"*11\r\n"),
            (0, text("unauthenticated multibulk length"))
        );
        assert_eq!(
            error_of(b"*2147483648\r\n"),
            (0, text("invalid multibulk length"))
        );
        assert_eq!(
            error_of(b"*1\r\n$999999999999\r\n"),
            (0, text("invalid bulk length"))
        );
    }

    #[test]
    fn errors_carry_the_texts_of_redis() {
        let text = |tail: &str| format!("ERR Protocol error: {tail}");
        let long = [b"*1\r\n$".as_slice(), &[b'1'; 70_000]].concat();
        assert_eq!(error_of(b"*abc\r\n"), text("invalid multibulk length"));
        assert_eq!(error_of(b"*+1\r\n"), text("invalid multibulk length"));
        assert_eq!(error_of(b"*01\r\n"), text("invalid multibulk length"));
        assert_eq!(error_of(b"*1048577\r\n"), text("invalid multibulk length"));
        assert_eq!(error_of(b"*1\r\nx\r\n"), text("expected '$', got 'x'"));
        assert_eq!(error_of(b"*1\r\n$-1\r\n"), text("invalid bulk length"));
        assert_eq!(error_of(b"*1\r\n$\r\n"), text("invalid bulk length"));
        assert_eq!(
            error_of(b"*1\r\n$536870913\r\n"),
            text("invalid bulk length")
        );
        assert_eq!(
            error_of(b"*1\r\n$4\nPING\r\n\r\n"),
            text("invalid bulk length")
        );
        assert_eq!(
            error_of(&[b'*'; 70_000]),
            text("too big mbulk count string")
        );
        assert_eq!(error_of(&long), text("too big bulk count string"));
        assert_eq!(error_of(&[b'a'; 70_000]), text("too big inline request"));
        assert_eq!(error_of(b"\"abc\r\n"), text("unbalanced quotes in request"));
    }

    #[test]
    fn empty_requests_are_skipped_and_trailers_not_looked_at() {
        let stream = b"\r\n*0\r\n*-1\r\n\n*1\r\n$4\r\nPINGxxget a\r\n";
        let (requests, error) = parse_all(stream, &[], Limits::default());
        assert_eq!(error, None);
        assert_eq!(
            requests,
            [vec![b"PING".to_vec()], vec![b"get".to_vec(), b"a".to_vec()]]
        );
    }

    #[test]
    fn announced_sizes_allocate_nothing() {
        let mut parser = RequestParser::new(Limits::default());
        let mut buf = BytesMut::from(&b"*1048576\r\n$536870912\r\nabc"[..]);
        assert_eq!(parser.parse(&mut buf), Ok(None));
        assert!(parser.args.capacity() <= RESERVED_ARGS);
        assert_eq!(&buf[..], b"abc");
        assert_eq!(parser.wanted_bytes(buf.len()), 512 * 1024 * 1024 + 2 - 3);
    }

    #[test]
    fn all_arguments_together_are_bounded() {
        let limits = Limits {
            max_request_bytes: 10,
            ..Limits::default()
        };
        let (requests, error) = parse_all(b"*2\r\n$6\r\nabcdef\r\n$6\r\nabcdef\r\n", &[], limits);
        assert!(requests.is_empty());
        assert_eq!(error, Some(ProtocolError::RequestTooBig(10)));
    }

    #[test]
    fn a_large_argument_survives_being_split_off() {
        let value = vec![b'v'; 70_000];
        let mut stream = BytesMut::new();
        encode_request(&[b"SET", b"k", &value], &mut stream);
        encode_request(&[b"GET", b"k"], &mut stream);
        let (requests, error) = parse_all(&stream, &[10, 20_000, 40_000], Limits::default());
        assert_eq!(error, None);
        assert_eq!(requests[0][2], value);
        assert_eq!(requests[1], [b"GET".to_vec(), b"k".to_vec()]);
    }

    #[test]
    fn a_buffer_is_used_again_when_the_last_argument_out_of_it_is_gone() {
        let mut buf = BytesMut::with_capacity(1000);
        for _ in 0..100 {
            encode_request(&[b"SET", b"k", &[b'v'; 500]], &mut buf);
            let mut parser = RequestParser::new(Limits::default());
            let request = parser.parse(&mut buf).unwrap().unwrap();
            assert!(!buf.try_reclaim(1000), "an argument is still in use");
            drop(request);
            assert!(buf.try_reclaim(1000));
        }
    }

    #[test]
    fn integers_are_read_as_string2ll_does() {
        for (text, number) in [
            ("0", Some(0)),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("", None),
            ("-", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), number, "{text}");
        }
    }

    fn any_stream() -> impl Strategy<Value = Vec<u8>> {
        let request = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..5);
        let encoded = request.prop_map(|args| {
            let mut out = BytesMut::new();
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            encode_request(&args, &mut out);
            out.to_vec()
        });
        let inline = "[ -~]{0,30}\r?\n".prop_map(String::into_bytes);
        let odd = prop::sample::select(vec![
            b"*0\r\n".to_vec(),
            b"*-1\r\n".to_vec(),
            b"*1\r\n".to_vec(),
            b"$3\r\n".to_vec(),
            b"\r\n".to_vec(),
            b"*2\r".to_vec(),
        ]);
        let part = prop_oneof![8 => encoded, 3 => inline, 1 => odd];
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn cuts_do_not_change_what_is_read(
            stream in any_stream(),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let limits = Limits { max_inline_bytes: 64, max_request_bytes: 150, ..Limits::default() };
            let whole = parse_all(&stream, &[], limits);
            prop_assert_eq!(&parse_all(&stream, &cuts, limits), &whole);
            let every: Vec<usize> = (0..stream.len()).collect();
            prop_assert_eq!(&parse_all(&stream, &every, limits), &whole);
        }

        #[test]
        fn what_a_client_encodes_is_what_the_server_reads(
            args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..5),
        ) {
            let mut out = BytesMut::new();
            encode_request(&args.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut out);
            prop_assert_eq!(parse_all(&out, &[], Limits::default()), (vec![args], None));
        }
    }
}
