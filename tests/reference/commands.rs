//! Random commands: mostly right, often with odd arguments, sometimes with the wrong number of them.

use understudy::resp::Reply;

use super::{Random, encoded};

pub const KEYS: [&str; 9] = [
    "a", "b", "c", "key:1", "key:2", "h[x]", "", "counter", "float",
];
pub const VALUES: [&str; 26] = [
    "",
    "v",
    "hello world",
    "0",
    "1",
    "-1",
    "10",
    "007",
    " 1",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "3.25",
    "-0.1",
    "1e10",
    "0x1p3",
    "nan",
    "inf",
    "1e-20",
    "123456789.123456789",
    "1e300",
    "1e4932",
    "5e-5000",
    "\u{1}\u{0}binary",
    "99999999999999999",
    "0.1",
];
const NUMBERS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "2",
    "5",
    "-3",
    "100",
    "x",
    "",
    "1.5",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "3.0e3",
    "0.1",
    "-0.3",
];
/// Days away, in the past, or wrong: time does not decide what is answered.
pub const EXPIRIES: [&str; 12] = [
    "100000",
    "200000",
    "300000",
    "0",
    "-1",
    "x",
    "9223372036854775807",
    "9223372036854775",
    "9223372036854776",
    "-9223372036854775808",
    "-9223372036854776",
    "4102444800000",
];
const OFFSETS: [&str; 10] = [
    "0",
    "1",
    "3",
    "-1",
    "-3",
    "-100",
    "100",
    "536870912",
    "9223372036854775807",
    "x",
];
const PATTERNS: [&str; 12] = [
    "*", "key:*", "?", "[a-b]", "[^a]", "h\\[x\\]", "h[[]x]", "*:*", "**", "", "k*y*1", "[c-a]",
];
const SET_OPTIONS: [&str; 12] = [
    "NX", "xx", "GET", "KEEPTTL", "EX", "PX", "EXAT", "PXAT", "PERSIST", "bogus", "get", "Ex",
];
const BITS: [&str; 13] = [
    "0",
    "1",
    "7",
    "8",
    "9",
    "31",
    "100",
    "-1",
    "-9",
    "#1",
    "#3",
    "4294967296",
    "x",
];
const FIELDS: [&str; 14] = [
    "u1", "u8", "i8", "i16", "i5", "u7", "u63", "i64", "u64", "i65", "u0", "x8", "i", "U8",
];
const NAMES: [&str; 62] = [
    "SET",
    "SET",
    "SET",
    "GET",
    "GET",
    "GETDEL",
    "GETEX",
    "MGET",
    "MSET",
    "MSETNX",
    "SETNX",
    "SETEX",
    "PSETEX",
    "APPEND",
    "STRLEN",
    "INCR",
    "DECR",
    "INCRBY",
    "DECRBY",
    "INCRBYFLOAT",
    "INCRBYFLOAT",
    "DEL",
    "UNLINK",
    "EXISTS",
    "EXPIRE",
    "PEXPIRE",
    "EXPIREAT",
    "PEXPIREAT",
    "TTL",
    "PTTL",
    "EXPIRETIME",
    "PEXPIRETIME",
    "PERSIST",
    "TYPE",
    "KEYS",
    "SCAN",
    "RANDOMKEY",
    "TOUCH",
    "GETRANGE",
    "SUBSTR",
    "SETRANGE",
    "GETSET",
    "FLUSHALL",
    "FLUSHDB",
    "nosuch",
    "get",
    "DBSIZE",
    "SETBIT",
    "GETBIT",
    "BITCOUNT",
    "BITPOS",
    "BITOP",
    "BITFIELD",
    "BITFIELD",
    "BITFIELD_RO",
    "LCS",
    "RENAME",
    "RENAMENX",
    "COPY",
    "DUMP",
    "DUMP",
    "RESTORE",
];

/// A command; expiries are taken from `expiries`.
pub fn random_command(random: &mut Random, expiries: &[&str]) -> Vec<String> {
    let name = random.pick(&NAMES);
    let mut args = vec![name.to_owned()];
    let add = |args: &mut Vec<String>, text: &str| args.push(text.to_owned());
    match name.to_ascii_uppercase().as_str() {
        "SET" | "GETEX" => {
            add(&mut args, random.pick(&KEYS));
            if name == "SET" {
                add(&mut args, random.pick(&VALUES));
            }
            for _ in 0..random.below(4) {
                let option = random.pick(&SET_OPTIONS);
                add(&mut args, option);
                if option.len().is_multiple_of(2)
                    && !option.eq_ignore_ascii_case("nx")
                    && option != "xx"
                {
                    add(&mut args, random.pick(expiries));
                }
            }
        }
        "MSET" | "MSETNX" => {
            for _ in 0..=random.below(3) {
                add(&mut args, random.pick(&KEYS));
                add(&mut args, random.pick(&VALUES));
            }
        }
        "SETEX" | "PSETEX" => {
            add(&mut args, random.pick(&KEYS));
            add(&mut args, random.pick(expiries));
            add(&mut args, random.pick(&VALUES));
        }
        "SETNX" | "APPEND" | "GETSET" => {
            add(&mut args, random.pick(&KEYS));
            add(&mut args, random.pick(&VALUES));
        }
        "INCRBY" | "DECRBY" => {
            add(&mut args, random.pick(&KEYS));
            add(&mut args, random.pick(&NUMBERS));
        }
        "INCRBYFLOAT" => {
            add(&mut args, random.pick(&KEYS));
            let list: &[&str] = if random.below(2) == 0 {
                &NUMBERS
            } else {
                &VALUES
            };
            add(&mut args, random.pick(list));
        }
        "EXPIRE" | "PEXPIRE" | "EXPIREAT" | "PEXPIREAT" => {
            add(&mut args, random.pick(&KEYS));
            add(&mut args, random.pick(expiries));
            for _ in 0..random.below(3) {
                add(&mut args, random.pick(&["NX", "xx", "GT", "lt", "bogus"]));
            }
        }
        "GETRANGE" | "SUBSTR" => {
            add(&mut args, random.pick(&KEYS));
            add(&mut args, random.pick(&OFFSETS));
            add(&mut args, random.pick(&OFFSETS));
        }
        "SETRANGE" => {
            add(&mut args, random.pick(&KEYS));
            add(&mut args, random.pick(&OFFSETS));
            add(&mut args, random.pick(&VALUES));
        }
        "SETBIT" | "GETBIT" => {
            add(&mut args, random.pick(&KEYS));
            add(&mut args, random.pick(&BITS));
            if name == "SETBIT" {
                add(&mut args, random.pick(&["0", "1", "1", "2", "-1", "x"]));
            }
        }
        "BITCOUNT" | "BITPOS" => {
            add(&mut args, random.pick(&KEYS));
            if name == "BITPOS" {
                add(&mut args, random.pick(&["0", "1", "0", "1", "2", "x"]));
            }
            for _ in 0..random.below(3) {
                add(&mut args, random.pick(&OFFSETS));
            }
            if random.below(2) == 0 {
                add(&mut args, random.pick(&["BIT", "byte", "bit", "x"]));
            }
        }
        "BITOP" => {
            add(&mut args, random.pick(&["AND", "or", "XOR", "NOT", "x"]));
            for _ in 0..=random.below(4) {
                add(&mut args, random.pick(&KEYS));
            }
        }
        "BITFIELD" | "BITFIELD_RO" => {
            add(&mut args, random.pick(&KEYS));
            for _ in 0..random.below(5) {
                let op = random.pick(&["GET", "set", "INCRBY", "INCRBY", "OVERFLOW"]);
                add(&mut args, op);
                if op == "OVERFLOW" {
                    add(
                        &mut args,
                        random.pick(&["WRAP", "sat", "FAIL", "FAIL", "x"]),
                    );
                    continue;
                }
                // Mostly right: one mistake refuses all operations.
                let fields = &FIELDS[..if random.below(8) == 0 { 14 } else { 8 }];
                let bits = &BITS[..if random.below(8) == 0 { 13 } else { 7 }];
                add(&mut args, random.pick(fields));
                add(&mut args, random.pick(bits));
                if op != "GET" {
                    let numbers = [
                        "0",
                        "1",
                        "-1",
                        "100",
                        "-300",
                        "65535",
                        "9223372036854775807",
                        "-9223372036854775808",
                    ];
                    add(&mut args, random.pick(&numbers));
                }
            }
        }
        "LCS" => {
            add(&mut args, random.pick(&KEYS));
            add(&mut args, random.pick(&KEYS));
            for _ in 0..random.below(4) {
                let option =
                    random.pick(&["IDX", "LEN", "WITHMATCHLEN", "idx", "MINMATCHLEN", "x"]);
                add(&mut args, option);
                if option == "MINMATCHLEN" {
                    add(&mut args, random.pick(&["0", "1", "2", "-1", "x"]));
                }
            }
        }
        "RENAME" | "RENAMENX" | "COPY" => {
            add(&mut args, random.pick(&KEYS));
            add(&mut args, random.pick(&KEYS));
            for _ in 0..random.below(3) {
                if name == "COPY" {
                    add(&mut args, random.pick(&["REPLACE", "DB", "x"]));
                    if random.below(2) == 0 {
                        add(&mut args, random.pick(&["0", "1", "-1", "x", "3000000000"]));
                    }
                }
            }
        }
        // What payloads hold is compared by a test of its own.
        "RESTORE" => {
            add(&mut args, random.pick(&KEYS));
            add(&mut args, random.pick(&["0", "100000", "-1", "x", ""]));
            add(&mut args, random.pick(&VALUES));
            for _ in 0..random.below(4) {
                let option = random.pick(&["REPLACE", "absttl", "IDLETIME", "freq", "x"]);
                add(&mut args, option);
                if matches!(option, "IDLETIME" | "freq") && random.below(8) > 0 {
                    add(&mut args, random.pick(&["0", "255", "256", "-1", "x"]));
                }
            }
        }
        "KEYS" => add(&mut args, random.pick(&PATTERNS)),
        "SCAN" => {
            add(
                &mut args,
                random.pick(&["0", "00", "+0", "-0", "x", "1x", "", "0 "]),
            );
            for _ in 0..random.below(4) {
                match random.below(4) {
                    0 => {
                        add(&mut args, "MATCH");
                        add(&mut args, random.pick(&PATTERNS));
                    }
                    1 => {
                        add(&mut args, "type");
                        add(&mut args, random.pick(&["string", "STRING", "hash", "x"]));
                    }
                    _ => {
                        add(&mut args, "COUNT");
                        add(&mut args, random.pick(&["1000", "1000", "0", "-1", "x"]));
                    }
                }
            }
            add(&mut args, "COUNT");
            add(&mut args, "1000");
        }
        "FLUSHALL" | "FLUSHDB" => {
            // Rarely: what follows needs keys to work on.
            let mode = if random.below(8) == 0 {
                "sync"
            } else {
                "bogus"
            };
            add(&mut args, mode);
        }
        "RANDOMKEY" | "DBSIZE" => {}
        _ => {
            for _ in 0..=random.below(3) {
                add(&mut args, random.pick(&KEYS));
            }
        }
    }
    match random.below(40) {
        0 => add(&mut args, "extra"),
        1 if args.len() > 1 => {
            args.pop();
        }
        _ => {}
    }
    args
}

/// What may come in any order, in one order.
pub fn sorted(name: &str, reply: Reply) -> Reply {
    match (name, reply) {
        ("KEYS", Reply::Array(mut keys)) => {
            keys.sort_by_key(encoded);
            Reply::Array(keys)
        }
        ("SCAN", Reply::Array(parts)) => {
            Reply::Array(parts.into_iter().map(|part| sorted("KEYS", part)).collect())
        }
        (_, reply) => reply,
    }
}
