//! Any request of any number of arguments, mostly of commands that exist: known or not, parsed or
//! refused, planned and applied without a panic; what can be parsed is known.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use understudy::command::{Command, CommandSpec, KeyCommand, commands};
use understudy::keyspace::{HashSeed, Keyspace};
use understudy::resp::Request;
use understudy::units::{Lsn, Millis};

const NOW: Millis = Millis(1_700_000_000_000);

/// Words that commands know, besides those that the bytes give.
const WORDS: [&str; 40] = [
    "a", "b", "c", "0", "1", "-1", "2", "100", "u8", "i16", "#1", "EX", "PX", "EXAT", "PXAT", "NX",
    "XX", "GT", "LT", "GET", "SET", "INCRBY", "OVERFLOW", "SAT", "KEEPTTL", "PERSIST", "IFEQ",
    "REPLACE", "DB", "MATCH", "COUNT", "TYPE", "string", "IDX", "LEN", "BIT", "AND", "NOT",
    "SAMPLES", "ABSTTL",
];

/// The command that a byte chooses, subcommands in two words; none: the bytes say it.
fn name(byte: u8) -> Vec<Bytes> {
    let all: Vec<&CommandSpec> = commands()
        .flat_map(|spec| std::iter::once(spec).chain(spec.subcommands()))
        .collect();
    let words = all.get(usize::from(byte)).map(|spec| spec.name.split('|'));
    let words = words.into_iter().flatten();
    words
        .map(|word| Bytes::from_static(word.as_bytes()))
        .collect()
}

/// Each argument is one of the words, or so many of the bytes that follow.
fn request(mut bytes: &[u8]) -> Option<Request> {
    let (first, rest) = bytes.split_first()?;
    let mut args = name(*first);
    bytes = rest;
    while let Some((word, rest)) = bytes.split_first() {
        bytes = rest;
        args.push(match WORDS.get(usize::from(*word)) {
            Some(word) => Bytes::from_static(word.as_bytes()),
            None => {
                let length = usize::from((word - WORDS.len() as u8) & 0x1f).min(bytes.len());
                let (own, rest) = bytes.split_at(length);
                bytes = rest;
                Bytes::copy_from_slice(own)
            }
        });
    }
    Some(Request { args })
}

/// Strings of up to 512 MiB are allowed, and slow to make.
fn is_slow(command: &KeyCommand) -> bool {
    match command {
        KeyCommand::SetRange { offset, .. } => *offset > 4096,
        KeyCommand::SetBit { offset, .. } => *offset > 1 << 15,
        KeyCommand::BitField { ops, .. } => ops.iter().any(|op| op.offset > 1 << 15),
        _ => false,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
    let mut lsn = Lsn::ZERO;
    let filling: [&[&str]; 3] = [
        &["SET", "a", "10"],
        &["SET", "b", "a longer value than that", "PX", "100"],
        &["SETBIT", "c", "9", "1"],
    ];
    let filling = filling.map(|words| Request {
        args: words
            .iter()
            .map(|word| Bytes::from_static(word.as_bytes()))
            .collect(),
    });
    for request in filling.into_iter().chain(request(bytes)) {
        let known = Command::is_known(&request);
        let Ok(command) = Command::parse(&request) else {
            continue;
        };
        let Command::Keys(command) = command else {
            continue;
        };
        assert!(known, "what is carried out exists");
        let named = command.keys().count();
        assert!(named <= request.args.len(), "keys are arguments");
        if is_slow(&command) {
            continue;
        }
        for now in [NOW, Millis(NOW.0 + 101)] {
            let plan = keyspace.plan(&command, now, 7);
            lsn = lsn.next();
            let applied = keyspace.apply_encoded(plan.effects.encoded(), lsn);
            assert_eq!(applied, Ok(()), "a plan's effects are valid");
        }
    }
});
