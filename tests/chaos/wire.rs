//! A client's connection: plain blocking sockets, one request at a time, every wait bounded.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use understudy::resp::{Reply, ReplyLimits, ReplyParser, encode_request};

/// How often a waiting client looks up from its socket.
const TICK: Duration = Duration::from_millis(10);

/// What came of a wait.
pub enum Waited {
    Reply(Reply),
    /// Closed, reset, or not RESP.
    Broken,
    /// The client gave up.
    GaveUp,
}

/// An open connection.
pub struct Wire {
    stream: TcpStream,
    parser: ReplyParser,
    input: BytesMut,
}

impl Wire {
    pub fn open(addr: SocketAddr, timeout: Duration) -> Option<Wire> {
        let stream = TcpStream::connect_timeout(&addr, timeout).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(TICK)).ok()?;
        stream
            .set_write_timeout(Some(Duration::from_secs(1)))
            .ok()?;
        Some(Wire {
            stream,
            parser: ReplyParser::new(ReplyLimits::default()),
            input: BytesMut::new(),
        })
    }

    /// Sends requests without waiting. `false`: the connection is broken; some of it may have been
    /// sent.
    pub fn send(&mut self, requests: &[Vec<Vec<u8>>]) -> bool {
        let mut output = BytesMut::new();
        for words in requests {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            encode_request(&words, &mut output);
        }
        self.stream.write_all(&output).is_ok()
    }

    /// The next reply. While there is none, `gives_up` is asked every few milliseconds.
    pub fn receive(&mut self, mut gives_up: impl FnMut() -> bool) -> Waited {
        loop {
            match self.parser.parse(&mut self.input) {
                Ok(Some(reply)) => return Waited::Reply(reply),
                Ok(None) => {}
                Err(_) => return Waited::Broken,
            }
            let mut some = [0; 4096];
            match self.stream.read(&mut some) {
                Ok(0) => return Waited::Broken,
                Ok(n) => self.input.extend_from_slice(&some[..n]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                        if gives_up() {
                            return Waited::GaveUp;
                        }
                    }
                    _ => return Waited::Broken,
                },
            }
        }
    }

    /// One request and its reply, within `patience`.
    pub fn ask(&mut self, words: &[&str], patience: Duration) -> Option<Reply> {
        let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        if !self.send(&[words]) {
            return None;
        }
        let deadline = Instant::now() + patience;
        match self.receive(|| Instant::now() >= deadline) {
            Waited::Reply(reply) => Some(reply),
            Waited::Broken | Waited::GaveUp => None,
        }
    }
}
