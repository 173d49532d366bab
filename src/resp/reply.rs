//! Replies: what a server writes.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use super::{format_double, push_decimal};

/// The protocol version a client has chosen with HELLO; connections start with version 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// Five types; richer ones are downgraded as Redis does it.
    #[default]
    Resp2,
    /// Maps, sets, doubles, booleans, verbatim strings and pushes as themselves.
    Resp3,
}

/// One reply, or one part of a reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A status line such as `OK`, without line ends.
    Simple(Cow<'static, str>),
    /// An error: code word, blank, text. Line ends inside are sent as blanks.
    Error(Cow<'static, str>),
    /// A signed 64-bit integer.
    Integer(i64),
    /// A byte string.
    Bulk(Bytes),
    /// The missing value (`$-1` in RESP2).
    Null,
    /// The missing array (`*-1` in RESP2; the same null as [`Reply::Null`] in RESP3).
    NullArray,
    /// A sequence.
    Array(Vec<Reply>),
    /// Pairs; in RESP2 a flat array.
    Map(Vec<(Reply, Reply)>),
    /// A set; in RESP2 an array.
    Set(Vec<Reply>),
    /// A double; in RESP2 its `%.17g` text as a bulk string.
    Double(f64),
    /// A boolean; in RESP2 the integer 1 or 0.
    Boolean(bool),
    /// Text with a three-letter format (`txt`, `mkd`); in RESP2 a bulk string.
    Verbatim([u8; 3], Bytes),
    /// A message out of turn (pub/sub); in RESP2 an array.
    Push(Vec<Reply>),
}

impl Reply {
    /// The status `OK`.
    pub const OK: Reply = Reply::Simple(Cow::Borrowed("OK"));

    /// An error whose text is known when compiling.
    pub const fn error(text: &'static str) -> Reply {
        Reply::Error(Cow::Borrowed(text))
    }

    /// A bulk string copied from `bytes`.
    pub fn bulk(bytes: &[u8]) -> Reply {
        Reply::Bulk(Bytes::copy_from_slice(bytes))
    }

    /// A bulk string out of text known when compiling; nothing is copied.
    pub const fn text(text: &'static str) -> Reply {
        Reply::Bulk(Bytes::from_static(text.as_bytes()))
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }

    /// How many bytes it takes on the wire, about; never less by much.
    pub fn bytes(&self) -> usize {
        let all = |items: &[Reply]| items.iter().map(Reply::bytes).sum::<usize>();
        16 + match self {
            Reply::Simple(text) | Reply::Error(text) => text.len(),
            Reply::Bulk(bytes) | Reply::Verbatim(_, bytes) => bytes.len(),
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => all(items),
            Reply::Map(pairs) => pairs
                .iter()
                .map(|(key, value)| key.bytes() + value.bytes())
                .sum(),
            Reply::Integer(_)
            | Reply::Double(_)
            | Reply::Boolean(_)
            | Reply::Null
            | Reply::NullArray => 8,
        }
    }

    /// Appends the reply to `out` as `version` writes it. Replies are built by this process and
    /// nest as deep as it built them (four levels), so this recurses.
    pub fn encode(&self, version: Version, out: &mut BytesMut) {
        let resp3 = version == Version::Resp3;
        match self {
            Reply::Simple(text) => put_line(b'+', text, out),
            Reply::Error(text) => put_line(b'-', text, out),
            Reply::Integer(number) => put_number(b':', *number, out),
            Reply::Bulk(bytes) => put_bulk(bytes, out),
            Reply::Null | Reply::NullArray if resp3 => out.put_slice(b"_\r\n"),
            Reply::Null => out.put_slice(b"$-1\r\n"),
            Reply::NullArray => out.put_slice(b"*-1\r\n"),
            Reply::Array(items) => put_items(b'*', items, version, out),
            Reply::Set(items) => put_items(if resp3 { b'~' } else { b'*' }, items, version, out),
            Reply::Push(items) => put_items(if resp3 { b'>' } else { b'*' }, items, version, out),
            Reply::Map(pairs) => {
                let (kind, count) = if resp3 { (b'%', 1) } else { (b'*', 2) };
                put_number(kind, (pairs.len() * count) as i64, out);
                for (key, value) in pairs {
                    key.encode(version, out);
                    value.encode(version, out);
                }
            }
            Reply::Double(number) if resp3 => put_line(b',', &format_double(*number), out),
            Reply::Double(number) => put_bulk(format_double(*number).as_bytes(), out),
            Reply::Boolean(yes) if resp3 => out.put_slice(if *yes { b"#t\r\n" } else { b"#f\r\n" }),
            Reply::Boolean(yes) => put_number(b':', i64::from(*yes), out),
            Reply::Verbatim(format, text) if resp3 => {
                put_number(b'=', text.len() as i64 + 4, out);
                out.put_slice(format);
                out.put_u8(b':');
                out.put_slice(text);
                out.put_slice(b"\r\n");
            }
            Reply::Verbatim(_, text) => put_bulk(text, out),
        }
    }
}

/// A line must stay one line, whatever a client's bytes in an error text say: a line end inside
/// it would let the client forge the next reply. One that ends it is left out, as in Redis.
fn put_line(kind: u8, text: &str, out: &mut BytesMut) {
    let text = text.trim_end_matches(['\r', '\n']);
    out.reserve(text.len() + 3);
    out.put_u8(kind);
    if memchr::memchr2(b'\r', b'\n', text.as_bytes()).is_none() {
        out.put_slice(text.as_bytes());
    } else {
        for byte in text.bytes() {
            out.put_u8(if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                byte
            });
        }
    }
    out.put_slice(b"\r\n");
}

fn put_number(kind: u8, number: i64, out: &mut BytesMut) {
    out.reserve(24);
    out.put_u8(kind);
    push_decimal(number, out);
    out.put_slice(b"\r\n");
}

fn put_bulk(bytes: &[u8], out: &mut BytesMut) {
    out.reserve(bytes.len() + 26);
    put_number(b'$', bytes.len() as i64, out);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn put_items(kind: u8, items: &[Reply], version: Version, out: &mut BytesMut) {
    put_number(kind, items.len() as i64, out);
    for item in items {
        item.encode(version, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(reply: &Reply) -> (String, String) {
        let text = |version| {
            let mut out = BytesMut::new();
            reply.encode(version, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        (text(Version::Resp2), text(Version::Resp3))
    }

    #[test]
    fn each_type_in_both_versions() {
        let one = || Reply::Integer(1);
        let two = |old: &str, new: &str| (old.to_owned(), new.to_owned());
        let same = |text: &str| two(text, text);
        assert_eq!(encoded(&Reply::OK), same("+OK\r\n"));
        assert_eq!(encoded(&Reply::error("ERR x")), same("-ERR x\r\n"));
        assert_eq!(encoded(&Reply::Integer(-12)), same(":-12\r\n"));
        assert_eq!(encoded(&Reply::text("ab")), same("$2\r\nab\r\n"));
        assert_eq!(encoded(&Reply::Null), two("$-1\r\n", "_\r\n"));
        assert_eq!(encoded(&Reply::NullArray), two("*-1\r\n", "_\r\n"));
        assert_eq!(
            encoded(&Reply::Array(vec![one(), Reply::Null])).0,
            "*2\r\n:1\r\n$-1\r\n"
        );
        let map = Reply::Map(vec![(one(), one())]);
        assert_eq!(
            encoded(&map),
            two("*2\r\n:1\r\n:1\r\n", "%1\r\n:1\r\n:1\r\n")
        );
        assert_eq!(
            encoded(&Reply::Set(vec![one()])),
            two("*1\r\n:1\r\n", "~1\r\n:1\r\n")
        );
        assert_eq!(
            encoded(&Reply::Push(vec![one()])),
            two("*1\r\n:1\r\n", ">1\r\n:1\r\n")
        );
        assert_eq!(
            encoded(&Reply::Double(1.5)),
            two("$3\r\n1.5\r\n", ",1.5\r\n")
        );
        assert_eq!(encoded(&Reply::Boolean(true)), two(":1\r\n", "#t\r\n"));
        let verbatim = Reply::Verbatim(*b"txt", Bytes::from_static(b"hi"));
        assert_eq!(encoded(&verbatim), two("$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"));
    }

    #[test]
    fn a_line_end_in_an_error_cannot_forge_a_reply() {
        let reply = Reply::Error("ERR bad 'a\r\n+OK'".into());
        assert_eq!(encoded(&reply).0, "-ERR bad 'a  +OK'\r\n");
        let reply = Reply::Error("ERR bad a\r\r\n".into());
        assert_eq!(encoded(&reply).0, "-ERR bad a\r\n");
    }
}
