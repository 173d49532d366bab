//! Replies, and their bytes in either version of the protocol.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// RESP2, as every connection begins.
    #[default]
    Resp2,
    /// RESP3, after `HELLO 3`.
    Resp3,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A status, such as OK.
    Simple(Cow<'static, str>),
    /// An error, its code first.
    Error(Cow<'static, str>),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// No value.
    Null,
    /// No array (only RESP2 tells it from no value).
    NullArray,
    /// Several answers.
    Array(Vec<Reply>),
    /// Keys and values; a flat array in RESP2.
    Map(Vec<(Reply, Reply)>),
    /// Several answers without order; an array in RESP2.
    Set(Vec<Reply>),
    /// A floating-point number; a bulk in RESP2.
    Double(f64),
    /// True or false; 1 or 0 in RESP2.
    Boolean(bool),
    /// Text with a three-letter format; a bulk in RESP2.
    Verbatim(&'static str, String),
    /// Out of band; an array in RESP2.
    Push(Vec<Reply>),
}

impl Reply {
    /// `+OK`.
    pub const OK: Reply = Reply::Simple(Cow::Borrowed("OK"));

    /// An error with this text, its code first.
    pub fn error(text: impl Into<Cow<'static, str>>) -> Reply {
        Reply::Error(text.into())
    }

    /// A bulk with a copy of these bytes.
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Reply {
        Reply::Bulk(Bytes::copy_from_slice(bytes.as_ref()))
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }

    /// Appends its bytes. Replies nest only as deep as this program makes them.
    pub fn encode(&self, version: Version, out: &mut BytesMut) {
        let three = version == Version::Resp3;
        match self {
            Reply::Simple(text) => line(out, b'+', text.as_bytes()),
            Reply::Error(text) => {
                // A line break inside would end the reply early.
                let clean = text.replace(['\r', '\n'], " ");
                line(out, b'-', clean.as_bytes());
            }
            Reply::Integer(n) => number(out, b':', *n),
            Reply::Bulk(bytes) => bulk(out, b'$', bytes),
            Reply::Null if three => out.put_slice(b"_\r\n"),
            Reply::Null => out.put_slice(b"$-1\r\n"),
            Reply::NullArray if three => out.put_slice(b"_\r\n"),
            Reply::NullArray => out.put_slice(b"*-1\r\n"),
            Reply::Array(items) => list(out, b'*', items, version),
            Reply::Set(items) => list(out, if three { b'~' } else { b'*' }, items, version),
            Reply::Push(items) => list(out, if three { b'>' } else { b'*' }, items, version),
            Reply::Map(pairs) => {
                let (kind, len) = if three {
                    (b'%', pairs.len())
                } else {
                    (b'*', pairs.len() * 2)
                };
                number(out, kind, len as i64);
                for (key, value) in pairs {
                    key.encode(version, out);
                    value.encode(version, out);
                }
            }
            Reply::Double(value) if three => line(out, b',', value.to_string().as_bytes()),
            Reply::Double(value) => bulk(out, b'$', value.to_string().as_bytes()),
            Reply::Boolean(value) if three => line(out, b'#', if *value { b"t" } else { b"f" }),
            Reply::Boolean(value) => number(out, b':', i64::from(*value)),
            Reply::Verbatim(format, text) if three => {
                bulk(out, b'=', format!("{format}:{text}").as_bytes());
            }
            Reply::Verbatim(_, text) => bulk(out, b'$', text.as_bytes()),
        }
    }
}

fn line(out: &mut BytesMut, kind: u8, text: &[u8]) {
    out.reserve(text.len() + 3);
    out.put_u8(kind);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

fn number(out: &mut BytesMut, kind: u8, n: i64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut left = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if n < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    line(out, kind, &digits[at..]);
}

fn bulk(out: &mut BytesMut, kind: u8, bytes: &[u8]) {
    number(out, kind, bytes.len() as i64);
    out.reserve(bytes.len() + 2);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn list(out: &mut BytesMut, kind: u8, items: &[Reply], version: Version) {
    number(out, kind, items.len() as i64);
    for item in items {
        item.encode(version, out);
    }
}
