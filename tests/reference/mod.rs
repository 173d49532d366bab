//! A real redis-server to compare with, and chance that can be repeated.

// Each test binary compiles this file and uses a part of it.
#![allow(dead_code)]

pub mod clock;
pub mod commands;

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use understudy::resp::{Reply, ReplyParser, Version, encode_request};

/// A redis-server of our own, killed when dropped.
pub struct Redis {
    child: Child,
    port: u16,
    /// Its working directory, kept until it is gone.
    dir: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Redis {
    /// None where there is no redis-server.
    pub fn start() -> Option<Redis> {
        Redis::start_as(OsStr::new("redis-server"))
    }

    /// None where there is no such program.
    pub fn start_as(program: &OsStr) -> Option<Redis> {
        let mut dir = tempfile::tempdir().expect("a temporary directory");
        // Below the ephemeral range, so that no outgoing connection takes the port meanwhile.
        for port in (20_000..32_000)
            .step_by(37)
            .skip(std::process::id() as usize % 300)
        {
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
                continue;
            }
            let child = Process::new(program)
                .args([
                    "--port",
                    &port.to_string(),
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--databases",
                    "1",
                ])
                .args(["--dir", &dir.path().to_string_lossy()])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let Ok(child) = child else { return None };
            let mut redis = Redis { child, port, dir };
            if redis.is_ready() {
                return Some(redis);
            }
            dir = tempfile::tempdir().expect("a temporary directory");
        }
        panic!("no free port below 32000");
    }

    /// Waits until it answers; false where it could not have the port, because another test run
    /// was faster. That one would answer in its place, so the process id is compared.
    fn is_ready(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self
            .child
            .try_wait()
            .expect("the state of redis-server")
            .is_none()
        {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            match self.process_id() {
                Ok(Some(id)) if id == self.child.id() => return true,
                _ => std::thread::yield_now(),
            }
        }
        false
    }

    /// Who answers here. Another test may just be trying whether the port is free: its listener is
    /// gone a moment after it took a connection.
    fn process_id(&self) -> std::io::Result<Option<u32>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"INFO server\r\nQUIT\r\n")?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        let id = said
            .lines()
            .find_map(|line| line.strip_prefix("process_id:"));
        Ok(id.and_then(|id| id.trim().parse().ok()))
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("redis-server");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a read timeout");
        stream.set_nodelay(true).expect("no delay");
        stream
    }
}

/// xorshift64*: the same list for the same seed, everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// As RESP2 has it.
pub fn encoded(reply: &Reply) -> Bytes {
    encoded_as(Version::Resp2, reply)
}

/// As RESP3 has it: a reply of RESP2 says as much as before, one of RESP3 what it is, too.
pub fn encoded_as(version: Version, reply: &Reply) -> Bytes {
    let mut out = BytesMut::new();
    reply.encode(version, &mut out);
    out.freeze()
}

/// What a server answers.
pub fn ask(stream: &mut TcpStream, parser: &mut ReplyParser, args: &[&[u8]]) -> Reply {
    ask_for_bytes(stream, parser, args).0
}

/// What a server answers, and the bytes it did it with.
pub fn ask_for_bytes(
    stream: &mut TcpStream,
    parser: &mut ReplyParser,
    args: &[&[u8]],
) -> (Reply, Vec<u8>) {
    let mut buf = BytesMut::new();
    encode_request(args, &mut buf);
    stream.write_all(&buf).expect("the server reads");
    buf.clear();
    let (mut bytes, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        if let Some(reply) = parser.parse(&mut buf).expect("a reply") {
            assert!(buf.is_empty(), "more than one reply");
            return (reply, bytes);
        }
        let read = stream.read(&mut chunk).expect("a reply");
        assert!(read > 0, "the server closed the connection");
        bytes.extend_from_slice(&chunk[..read]);
        buf.extend_from_slice(&chunk[..read]);
    }
}

/// One connection, to either server.
pub struct Client {
    pub stream: TcpStream,
    pub parser: ReplyParser,
}

impl Client {
    pub fn over(stream: TcpStream) -> Client {
        stream.set_nodelay(true).expect("no delay");
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).expect("a read timeout");
        Client {
            stream,
            parser: ReplyParser::default(),
        }
    }

    pub fn to(addr: SocketAddr) -> Client {
        Client::over(TcpStream::connect(addr).expect("the node listens"))
    }

    /// From here on.
    pub fn speaks(&mut self, version: Version) {
        if version == Version::Resp3 {
            let hello = self.ask("HELLO 3");
            assert!(matches!(hello, Reply::Map(_)), "{hello:?}");
        }
    }

    pub fn send(&mut self, words: &[&str]) -> Reply {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        ask(&mut self.stream, &mut self.parser, &words)
    }

    /// The words of a line.
    pub fn ask(&mut self, line: &str) -> Reply {
        let words: Vec<&str> = line.split(' ').collect();
        self.send(&words)
    }

    /// As RESP2 has it, on one line.
    pub fn text(&mut self, line: &str) -> String {
        let bytes = encoded(&self.ask(line));
        let text = String::from_utf8_lossy(&bytes).replace("\r\n", " ");
        text.trim_end().to_string()
    }

    pub fn ok(&mut self, line: &str) {
        assert_eq!(self.text(line), "+OK", "{line}");
    }

    /// Whether the other side has ended the connection.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Asks both the same, line by line, and compares; over each version.
pub fn answers_as(redis: &Redis, ours: SocketAddr, lines: &[&str]) {
    for version in [Version::Resp2, Version::Resp3] {
        let (mut theirs, mut ours) = (Client::over(redis.connect()), Client::to(ours));
        theirs.speaks(version);
        ours.speaks(version);
        for line in lines {
            let words: Vec<&str> = line
                .split(' ')
                .map(|w| if w == "''" { "" } else { w })
                .collect();
            let [wanted, got] =
                [theirs.send(&words), ours.send(&words)].map(|reply| encoded_as(version, &reply));
            assert_eq!(got, wanted, "{version:?}: {line}");
            if *line == "RESET" {
                theirs.speaks(version);
                ours.speaks(version);
            }
        }
    }
}

/// A number out of the environment.
pub fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}
