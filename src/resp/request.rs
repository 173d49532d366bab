//! Requests: arrays of bulk strings, and inline commands.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// Bounds on what a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Arguments of one command.
    pub max_args: usize,
    /// Bytes of one argument.
    pub max_bulk_bytes: usize,
    /// Bytes of an inline command, or of a length line.
    pub max_inline_bytes: usize,
    /// Bytes of one whole request.
    pub max_request_bytes: usize,
}

impl Default for Limits {
    /// Redis's own, and 1 GiB less a mebibyte for a whole request: it must fit into one record.
    fn default() -> Limits {
        Limits {
            max_args: 1024 * 1024,
            max_bulk_bytes: 512 << 20,
            max_inline_bytes: 64 << 10,
            max_request_bytes: (1 << 30) - (1 << 20),
        }
    }
}

/// The client does not speak the protocol; the connection is closed after this.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("ERR Protocol error: {0}")]
pub struct ProtocolError(pub String);

fn broken<T>(what: impl Into<String>) -> Result<T, ProtocolError> {
    Err(ProtocolError(what.into()))
}

/// One command with its arguments; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The command's name first.
    pub args: Vec<Bytes>,
}

/// Takes requests out of a read buffer. Remembers how far it came, so that a request that arrives
/// in many pieces is looked at once.
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
    /// Arguments still to come in the array under way.
    missing: usize,
    /// Length of the bulk under way.
    bulk: Option<usize>,
    args: Vec<Bytes>,
    taken_bytes: usize,
    /// Bytes at the start of the buffer known to hold no line end.
    searched: usize,
}

impl RequestParser {
    /// A parser at the start of a connection.
    pub fn new(limits: Limits) -> RequestParser {
        RequestParser {
            limits,
            missing: 0,
            bulk: None,
            args: Vec::new(),
            taken_bytes: 0,
            searched: 0,
        }
    }

    /// The next whole request in `buffer`, taken out of it; `None` when more bytes are needed.
    pub fn parse(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        loop {
            if self.missing > 0 {
                if !self.take_bulks(buffer)? {
                    return Ok(None);
                }
                return Ok(Some(Request {
                    args: std::mem::take(&mut self.args),
                }));
            }
            match buffer.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(line) = self.line(buffer, "too big mbulk count string")? else {
                        return Ok(None);
                    };
                    self.missing = self.array_length(&line[1..])?;
                    self.args = Vec::with_capacity(self.missing.min(64));
                    self.taken_bytes = 0;
                }
                Some(_) => {
                    let Some(line) = self.line(buffer, "too big inline request")? else {
                        return Ok(None);
                    };
                    let args = split_inline(&line)?;
                    if !args.is_empty() {
                        return Ok(Some(Request { args }));
                    }
                }
            }
        }
    }

    fn array_length(&self, digits: &[u8]) -> Result<usize, ProtocolError> {
        match parse_int(digits) {
            Some(n) if n <= 0 => Ok(0),
            Some(n) if n as usize <= self.limits.max_args => Ok(n as usize),
            _ => broken("invalid multibulk length"),
        }
    }

    /// Takes bulks until the array is whole.
    fn take_bulks(&mut self, buffer: &mut BytesMut) -> Result<bool, ProtocolError> {
        while self.missing > 0 {
            let len = match self.bulk {
                Some(len) => len,
                None => {
                    let Some(len) = self.bulk_length(buffer)? else {
                        return Ok(false);
                    };
                    self.bulk = Some(len);
                    len
                }
            };
            if buffer.len() < len + 2 {
                return Ok(false);
            }
            // Copied: a slice would keep the whole read buffer alive for as long as the value.
            self.args.push(Bytes::copy_from_slice(&buffer[..len]));
            buffer.advance(len + 2);
            self.bulk = None;
            self.missing -= 1;
        }
        Ok(true)
    }

    fn bulk_length(&mut self, buffer: &mut BytesMut) -> Result<Option<usize>, ProtocolError> {
        match buffer.first() {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => {
                let shown = char::from(*other);
                return broken(format!("expected '$', got '{shown}'"));
            }
        }
        let Some(line) = self.line(buffer, "too big bulk count string")? else {
            return Ok(None);
        };
        let len = match parse_int(&line[1..]) {
            Some(n) if n >= 0 && n as usize <= self.limits.max_bulk_bytes => n as usize,
            _ => return broken("invalid bulk length"),
        };
        self.taken_bytes += len;
        if self.taken_bytes > self.limits.max_request_bytes {
            return broken("too big request");
        }
        Ok(Some(len))
    }

    /// Takes a line without its end; what is `too_long` for the error.
    fn line(
        &mut self,
        buffer: &mut BytesMut,
        too_long: &str,
    ) -> Result<Option<BytesMut>, ProtocolError> {
        let from = self.searched.min(buffer.len());
        match memchr::memchr(b'\n', &buffer[from..]) {
            None => {
                self.searched = buffer.len();
                if buffer.len() > self.limits.max_inline_bytes {
                    return broken(too_long);
                }
                Ok(None)
            }
            Some(place) => {
                self.searched = 0;
                let mut line = buffer.split_to(from + place + 1);
                line.truncate(line.len() - 1);
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                if line.len() > self.limits.max_inline_bytes {
                    return broken(too_long);
                }
                Ok(Some(line))
            }
        }
    }
}

fn parse_int(digits: &[u8]) -> Option<i64> {
    // Redis's string2ll: no plus sign, no spaces, no leading zeroes.
    let text = std::str::from_utf8(digits).ok()?;
    let plain = text.strip_prefix('-').unwrap_or(text);
    let canonical = plain == "0" && plain.len() == text.len()
        || (!plain.is_empty() && !plain.starts_with(['0', '+']));
    canonical.then(|| text.parse().ok())?
}

/// Redis's `sdssplitargs`: words, "quoted \x41 strings", 'single quoted'.
fn split_inline(line: &[u8]) -> Result<Vec<Bytes>, ProtocolError> {
    let mut args = Vec::new();
    let mut rest = line;
    loop {
        while let Some((first, tail)) = rest.split_first()
            && first.is_ascii_whitespace()
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Ok(args);
        }
        let (word, tail) = inline_word(rest)?;
        args.push(Bytes::from(word));
        rest = tail;
    }
}

fn inline_word(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), ProtocolError> {
    let unbalanced = || ProtocolError("unbalanced quotes in request".into());
    let mut word = Vec::new();
    while let Some((&first, tail)) = rest.split_first() {
        rest = match first {
            b'"' => quoted(tail, b'"', &mut word).ok_or_else(unbalanced)?,
            b'\'' => quoted(tail, b'\'', &mut word).ok_or_else(unbalanced)?,
            byte if byte.is_ascii_whitespace() || byte == 0 => break,
            byte => {
                word.push(byte);
                tail
            }
        };
        let closed = matches!(first, b'"' | b'\'');
        if closed {
            if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                return Err(unbalanced());
            }
            break;
        }
    }
    Ok((word, rest.strip_prefix(&[0]).unwrap_or(rest)))
}

/// The rest behind the closing quote; `None` if there is none.
fn quoted<'a>(mut rest: &'a [u8], quote: u8, word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (&first, tail) = rest.split_first()?;
        rest = tail;
        if first == quote {
            return Some(rest);
        }
        if first != b'\\' {
            word.push(first);
            continue;
        }
        if quote == b'\'' {
            if rest.first() == Some(&b'\'') {
                word.push(b'\'');
                rest = &rest[1..];
            } else {
                word.push(b'\\');
            }
            continue;
        }
        let (&escaped, tail) = rest.split_first()?;
        rest = tail;
        if escaped == b'x'
            && let Some(byte) = rest.get(..2).and_then(hex)
        {
            word.push(byte);
            rest = &rest[2..];
            continue;
        }
        word.push(match escaped {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'a' => 7,
            other => other,
        });
    }
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(digits[0])? * 16 + digit(digits[1])?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8], piece: usize) -> Result<Vec<Vec<Bytes>>, ProtocolError> {
        let mut parser = RequestParser::new(Limits {
            max_inline_bytes: 100,
            ..Limits::default()
        });
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for bytes in input.chunks(piece) {
            buffer.extend_from_slice(bytes);
            while let Some(request) = parser.parse(&mut buffer)? {
                found.push(request.args);
            }
        }
        Ok(found)
    }

    fn words(text: &[&str]) -> Vec<Bytes> {
        text.iter()
            .map(|word| Bytes::copy_from_slice(word.as_bytes()))
            .collect()
    }

    #[test]
    fn requests_in_any_pieces() {
        let input = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n\r\nPING \"a b\\x41\" 'c d'\r\n*0\r\n*-1\r\n*1\r\n$0\r\n\r\n";
        let wanted = vec![
            words(&["GET", "a"]),
            words(&["PING", "a bA", "c d"]),
            words(&[""]),
        ];
        for piece in 1..input.len() {
            assert_eq!(all(input, piece).unwrap(), wanted, "pieces of {piece}");
        }
    }

    #[test]
    fn errors_are_redis_own() {
        let long = [b'a'; 200];
        let cases: [(&[u8], &str); 8] = [
            (b"*1000000000\r\n", "invalid multibulk length"),
            (b"*abc\r\n", "invalid multibulk length"),
            (b"*1\r\n:3\r\n", "expected '$', got ':'"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$99999999999\r\n", "invalid bulk length"),
            (b"GET \"a\r\n", "unbalanced quotes in request"),
            (b"GET \"a\"b\r\n", "unbalanced quotes in request"),
            (&long, "too big inline request"),
        ];
        for (input, wanted) in cases {
            let error = all(input, 7).unwrap_err();
            assert_eq!(error.to_string(), format!("ERR Protocol error: {wanted}"));
        }
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        let mut parser = RequestParser::new(Limits::default());
        let mut buffer = BytesMut::from(&b"*1000000\r\n$500000000\r\nabc"[..]);
        assert_eq!(parser.parse(&mut buffer), Ok(None));
        assert!(parser.args.capacity() <= 64 && buffer.capacity() < 1 << 20);
    }
}
