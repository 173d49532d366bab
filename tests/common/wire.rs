//! A raw connection: requests and answers as they are on the wire, without a client library's opinions.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use understudy::resp::{Reply, ReplyLimits, ReplyParser, encode_request};

use super::PATIENCE;

pub struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
    parser: ReplyParser,
}

impl Wire {
    pub fn connect(addr: SocketAddr) -> Wire {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("it connects");
        stream.set_nodelay(true).expect("no delay");
        Wire {
            stream,
            buffer: BytesMut::new(),
            parser: ReplyParser::new(ReplyLimits::default()),
        }
    }

    pub fn send(&mut self, words: &[&str]) {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let mut request = BytesMut::new();
        encode_request(&words, &mut request);
        // Where the server has closed the connection, the next answer tells.
        self.stream.write_all(&request).ok();
    }

    /// The next answer or message; `None` where the server closed the connection or, by then, said
    /// nothing more.
    pub fn next(&mut self, patience: Duration) -> Option<Reply> {
        let deadline = Instant::now() + patience;
        loop {
            let parsed = self.parser.parse(&mut self.buffer);
            if let Some(reply) = parsed.expect("an answer is well-formed") {
                return Some(reply);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream
                .set_read_timeout(Some(left))
                .expect("above zero");
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::TimedOut => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub fn ask(&mut self, words: &[&str]) -> Reply {
        self.send(words);
        let answer = self.next(PATIENCE);
        answer.unwrap_or_else(|| panic!("{words:?}: no answer"))
    }

    /// Whether the server closes the connection within this time, whatever it says before.
    pub fn ends(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.next(left).is_none() {
                return Instant::now() < deadline;
            }
        }
        false
    }
}

/// An answer's text; of an error its text with `-` before it.
pub fn text_of(reply: &Reply) -> String {
    match reply {
        Reply::Simple(text) => text.to_string(),
        Reply::Error(text) => format!("-{text}"),
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Integer(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// The items of an array, a push, or a map as RESP2 has it.
pub fn items(reply: &Reply) -> Vec<Reply> {
    match reply {
        Reply::Array(items) | Reply::Push(items) | Reply::Set(items) => items.clone(),
        Reply::Map(pairs) => pairs
            .iter()
            .flat_map(|(k, v)| [k.clone(), v.clone()])
            .collect(),
        other => panic!("no array: {other:?}"),
    }
}

pub fn texts(reply: &Reply) -> Vec<String> {
    items(reply).iter().map(text_of).collect()
}

/// Fields and values, in order.
pub fn pairs(reply: &Reply) -> Vec<(String, String)> {
    let all = texts(reply);
    all.chunks(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect()
}

/// The value of one field.
pub fn field(reply: &Reply, name: &str) -> String {
    let found = pairs(reply).into_iter().find(|(key, _)| key == name);
    found.unwrap_or_else(|| panic!("no {name} in {reply:?}")).1
}
