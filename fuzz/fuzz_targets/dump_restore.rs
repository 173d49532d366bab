//! Any bytes as a payload of RESTORE: an error and no change, or a value that DUMP gives back; and any
//! bytes as a value come out of a payload as they were.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use understudy::command::Command;
use understudy::keyspace::{HashSeed, Keyspace};
use understudy::resp::{Reply, Request};
use understudy::units::{Lsn, Millis};

struct Node {
    keyspace: Keyspace,
    lsn: Lsn,
}

impl Node {
    fn run(&mut self, args: &[&[u8]]) -> Reply {
        let args = args.iter().map(|arg| Bytes::copy_from_slice(arg)).collect();
        let Ok(Command::Keys(command)) = Command::parse(&Request { args }) else {
            panic!("a key command");
        };
        let plan = self.keyspace.plan(&command, Millis(1_700_000_000_000), 7);
        self.lsn = self.lsn.next();
        let applied = self
            .keyspace
            .apply_encoded(plan.effects.encoded(), self.lsn);
        assert_eq!(applied, Ok(()), "a plan's effects are valid");
        plan.reply
    }

    fn restore(&mut self, payload: &[u8]) -> Reply {
        self.run(&[b"RESTORE", b"k", b"0", payload, b"REPLACE"])
    }

    fn dump(&mut self) -> Bytes {
        match self.run(&[b"DUMP", b"k"]) {
            Reply::Bulk(payload) => payload,
            other => panic!("no payload: {other:?}"),
        }
    }
}

/// With a version and the checksum that it should have.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut payload = [bytes, &[10, 0]].concat();
    let checksum = crc::Crc::<u64>::new(&crc::CRC_64_REDIS).checksum(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

fuzz_target!(|bytes: &[u8]| {
    let mut node = Node {
        keyspace: Keyspace::new(HashSeed::new([1, 2])),
        lsn: Lsn::ZERO,
    };
    for payload in [bytes, &sealed(bytes)] {
        let before = node.keyspace.digest();
        match node.restore(payload) {
            Reply::Error(_) => assert_eq!(node.keyspace.digest(), before),
            reply => {
                assert_eq!(reply, Reply::OK);
                let (digest, dumped) = (node.keyspace.digest(), node.dump());
                assert_eq!(node.restore(&dumped), Reply::OK);
                assert_eq!(node.keyspace.digest(), digest);
            }
        }
    }
    node.run(&[b"SET", b"k", bytes]);
    let dumped = node.dump();
    assert!(
        dumped.len() <= bytes.len() + 20,
        "it only grows by its frame"
    );
    node.run(&[b"DEL", b"k"]);
    assert_eq!(node.restore(&dumped), Reply::OK);
    assert_eq!(
        node.run(&[b"GET", b"k"]),
        Reply::Bulk(Bytes::copy_from_slice(bytes))
    );
});
