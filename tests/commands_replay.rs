//! Effects replay: what a log, a snapshot or both say ends in exactly the state of the node that
//! wrote them.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use understudy::command::Command;
use understudy::keyspace::{Effects, HashSeed, Keyspace, WalkBatch, WalkCursor, WalkLimit};
use understudy::resp::{Reply, Request, Version};
use understudy::units::{Lsn, Millis};

const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// One hold of a walk, encoded; whether it was the last.
fn walk(keyspace: &Keyspace, cursor: &mut WalkCursor, bytes: usize, out: &mut Vec<u8>) -> bool {
    let limit = WalkLimit {
        entries: 100,
        bytes,
    };
    let mut batch = WalkBatch::default();
    let done = keyspace.walk_batch(cursor, limit, &mut batch);
    let never = |_: &mut Vec<u8>, _: &mut u64| Err("no block is ever full");
    batch
        .encode(out, &mut 0, usize::MAX, never)
        .expect("one block takes it all");
    done
}

/// The whole state, readable: every key with value and expiry, in order, and the counters.
fn state(keyspace: &Keyspace) -> (Vec<String>, usize, usize, u64, Option<Millis>) {
    let mut payload = Vec::new();
    let mut cursor = WalkCursor::default();
    while !walk(keyspace, &mut cursor, 1, &mut payload) {}
    let effects = Effects::decode(&payload).expect("own effects");
    let mut entries: Vec<String> = effects.iter().map(|effect| format!("{effect:?}")).collect();
    entries.sort();
    let (len, expiring) = (keyspace.len(), keyspace.len_with_expiry());
    (
        entries,
        len,
        expiring,
        keyspace.digest(),
        keyspace.next_expiry(),
    )
}

fn parse(line: &str) -> Command {
    let args = line
        .split(' ')
        .map(|arg| Bytes::from(arg.to_owned()))
        .collect();
    Command::parse(&Request { args }).expect("a valid command")
}

/// Plans and applies `line`; its effects, if any.
fn run(keyspace: &mut Keyspace, line: &str, now: Millis, lsn: &mut Lsn) -> Option<Effects> {
    let Command::Keys(command) = parse(line) else {
        panic!("{line} is a key command")
    };
    let plan = keyspace.plan(&command, now, 3);
    if plan.effects.is_empty() {
        return None;
    }
    *lsn = lsn.next();
    keyspace.apply(&plan.effects, *lsn);
    Some(plan.effects)
}

fn any_line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(KEYS.to_vec());
    let forms = vec![
        "SET K V",
        "SET K V",
        "SET K V",
        "SET K V PX T",
        "SET K V KEEPTTL",
        "SET K V NX",
        "SET K V XX GET",
        "GETEX K PX T",
        "GETEX K PERSIST",
        "APPEND K V",
        "SETRANGE K 3 V",
        "INCR K",
        "INCRBYFLOAT K 0.5",
        "DEL K",
        "DEL K L",
        "GETDEL K",
        "MSET K V L V",
        "MSETNX K V L V",
        "PEXPIRE K T",
        "PEXPIREAT K T",
        "PERSIST K",
        "GET K",
        "EXISTS K L",
        "SCAN 0",
        "KEYS *",
        "RANDOMKEY",
        "FLUSHALL",
        "GETSET K V",
        "SET K V IFEQ V",
        "DELIFEQ K V",
    ];
    (
        prop::sample::select(forms),
        key.clone(),
        key,
        0u32..20,
        1u32..60,
    )
        .prop_map(|(form, key, other, value, time)| {
            let words = form.split(' ').map(|word| match word {
                "K" => key.to_owned(),
                "L" => other.to_owned(),
                "V" => value.to_string(),
                "T" => time.to_string(),
                word => word.to_owned(),
            });
            words.collect::<Vec<_>>().join(" ")
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Replay from the beginning, each record twice; and from a fuzzy snapshot, taken in small
    /// chunks while the commands went on, then every record since its begin.
    #[test]
    fn log_and_snapshot_lead_to_the_same_state(
        lines in prop::collection::vec((any_line(), 0u64..10), 1..60),
        begin in 0usize..40,
        chunk_every in 1usize..5,
        chunk_bytes in 1usize..60,
    ) {
        let mut primary = Keyspace::new(HashSeed::new([1, 2]));
        let (mut now, mut lsn) = (Millis(1_000_000), Lsn::ZERO);
        let mut log: Vec<(Lsn, Effects)> = Vec::new();
        let mut snapshot: Vec<Vec<u8>> = Vec::new();
        let (mut cursor, mut walked, mut begin_lsn) = (WalkCursor::default(), false, Lsn::ZERO);
        for (step, (line, passed)) in lines.iter().enumerate() {
            now = Millis(now.0 + passed);
            if step == begin {
                begin_lsn = lsn;
            }
            if step >= begin && !walked && step % chunk_every == 0 {
                let mut chunk = Vec::new();
                walked = walk(&primary, &mut cursor, chunk_bytes, &mut chunk);
                snapshot.push(chunk);
            }
            let expired = primary.plan_expired(now, 1);
            if step % 7 == 0 && !expired.is_empty() {
                lsn = lsn.next();
                primary.apply(&expired, lsn);
                log.push((lsn, expired));
            }
            if let Some(effects) = run(&mut primary, line, now, &mut lsn) {
                log.push((lsn, effects));
            }
        }
        if begin >= lines.len() {
            begin_lsn = lsn;
        }
        while !walked {
            let mut chunk = Vec::new();
            walked = walk(&primary, &mut cursor, chunk_bytes, &mut chunk);
            snapshot.push(chunk);
        }

        let mut replayed = Keyspace::new(HashSeed::new([3, 4]));
        for (lsn, effects) in &log {
            replayed.apply_encoded(effects.encoded(), *lsn).expect("own effects");
            let once = state(&replayed);
            replayed.apply_encoded(effects.encoded(), *lsn).expect("own effects");
            prop_assert_eq!(state(&replayed), once, "a record replayed twice");
        }
        prop_assert_eq!(state(&replayed), state(&primary), "replay from the beginning");

        let mut restored = Keyspace::new(HashSeed::new([5, 6]));
        for chunk in &snapshot {
            restored.apply_encoded(chunk, begin_lsn).expect("own effects");
        }
        for (lsn, effects) in log.iter().filter(|(lsn, _)| *lsn > begin_lsn) {
            restored.apply_encoded(effects.encoded(), *lsn).expect("own effects");
        }
        prop_assert_eq!(state(&restored), state(&primary), "snapshot, then replay");
    }

    /// A key that is there from the first SCAN to the last is returned, whatever else changes, and
    /// however much the tables grow.
    #[test]
    fn scan_returns_every_key_that_stays(
        count in 1usize..30,
        growth in 0usize..400,
        removed in prop::collection::vec(0usize..300, 0..100),
    ) {
        let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
        let (now, mut lsn) = (Millis(1000), Lsn::ZERO);
        for key in 0..100 {
            run(&mut keyspace, &format!("SET stays:{key} v"), now, &mut lsn);
            run(&mut keyspace, &format!("SET goes:{key} v"), now, &mut lsn);
        }
        let mut seen = std::collections::BTreeSet::new();
        let mut cursor = "0".to_owned();
        let mut removed = removed.into_iter();
        for round in 0usize.. {
            let Command::Keys(scan) = parse(&format!("SCAN {cursor} COUNT {count}")) else {
                panic!("SCAN is a key command");
            };
            let Reply::Array(parts) = keyspace.plan(&scan, now, 0).reply else {
                panic!("SCAN answers an array");
            };
            let [Reply::Bulk(next), Reply::Array(keys)] = &parts[..] else {
                panic!("SCAN answers a cursor and keys");
            };
            seen.extend(keys.iter().map(|key| format!("{key:?}")));
            cursor = String::from_utf8_lossy(next).into_owned();
            if cursor == "0" {
                break;
            }
            // Growth ends: keys added ahead of the cursor faster than it moves never let it arrive.
            for key in 0..growth.saturating_sub(round * 20).min(20) {
                run(&mut keyspace, &format!("SET new:{round}:{key} v"), now, &mut lsn);
            }
            if let Some(key) = removed.next() {
                run(&mut keyspace, &format!("DEL goes:{key}"), now, &mut lsn);
            }
        }
        for key in 0..100 {
            let key = format!("{:?}", Reply::Bulk(Bytes::from(format!("stays:{key}"))));
            prop_assert!(seen.contains(&key), "{} was not returned", key);
        }
    }
}

#[test]
fn a_reply_waits_for_what_it_shows() {
    let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
    let (now, mut lsn) = (Millis(1000), Lsn::ZERO);
    run(&mut keyspace, "SET a 1", now, &mut lsn);
    run(&mut keyspace, "SET b 1", now, &mut lsn);
    run(&mut keyspace, "DEL a", now, &mut lsn);
    let depends = |keyspace: &Keyspace, line: &str| {
        let Command::Keys(command) = parse(line) else {
            panic!("{line} is a key command")
        };
        keyspace.plan(&command, now, 0).depends_on
    };
    // The absence of `a` is an effect that a takeover could take back (R32).
    assert_eq!(depends(&keyspace, "GET a"), Lsn(3));
    assert_eq!(depends(&keyspace, "GET b"), Lsn(2));
    assert_eq!(depends(&keyspace, "GET c"), Lsn::ZERO);
    assert_eq!(depends(&keyspace, "MGET c b a"), Lsn(3));
    assert_eq!(depends(&keyspace, "DEL a"), Lsn(3));
    assert_eq!(depends(&keyspace, "SET b 2 NX"), Lsn(2));
    for whole in ["DBSIZE", "KEYS x", "SCAN 0", "RANDOMKEY"] {
        assert_eq!(depends(&keyspace, whole), Lsn(3), "{whole}");
    }
    keyspace.prune_released(Lsn(2));
    assert_eq!(depends(&keyspace, "GET b"), Lsn::ZERO);
    assert_eq!(depends(&keyspace, "GET a"), Lsn(3));
    run(&mut keyspace, "FLUSHALL", now, &mut lsn);
    assert_eq!(depends(&keyspace, "GET never"), Lsn(4));
    keyspace.prune_released(Lsn(4));
    assert_eq!(depends(&keyspace, "GET a"), Lsn::ZERO);
    assert_eq!(depends(&keyspace, "DBSIZE"), Lsn::ZERO);
}

#[test]
fn an_expired_key_that_is_seen_is_deleted_for_all() {
    let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
    let mut lsn = Lsn::ZERO;
    run(&mut keyspace, "SET a 1 PX 100", Millis(1000), &mut lsn);
    assert_eq!(keyspace.next_expiry(), Some(Millis(1100)));
    assert!(keyspace.plan_expired(Millis(1100), 10).is_empty());
    for line in [
        "GET a",
        "EXISTS a",
        "TTL a",
        "KEYS *",
        "SCAN 0",
        "RANDOMKEY",
        "INCR a",
        "DEL a",
    ] {
        let Command::Keys(command) = parse(line) else {
            panic!("{line} is a key command")
        };
        assert!(keyspace.plan(&command, Millis(1100), 0).depends_on >= Lsn(1));
        let plan = keyspace.plan(&command, Millis(1101), 0);
        let mut reply = BytesMut::new();
        plan.reply.encode(Version::Resp2, &mut reply);
        assert!(!plan.effects.is_empty(), "{line}");
        let mut after = Keyspace::new(HashSeed::new([3, 4]));
        after
            .apply_encoded(plan.effects.encoded(), Lsn(2))
            .expect("own effects");
        assert_eq!(after.len(), usize::from(line == "INCR a"), "{line}");
    }
    let effects = keyspace.plan_expired(Millis(1101), 10);
    keyspace.apply(&effects, Lsn(2));
    assert_eq!(
        (
            keyspace.len(),
            keyspace.len_with_expiry(),
            keyspace.digest()
        ),
        (0, 0, 0)
    );
    assert_eq!(keyspace.next_expiry(), None);
}

#[test]
fn a_bad_payload_changes_nothing() {
    let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
    let mut lsn = Lsn::ZERO;
    let mut payload = run(&mut keyspace, "SET a 1", Millis(1000), &mut lsn)
        .expect("an effect")
        .into_bytes()
        .to_vec();
    let before = state(&keyspace);
    payload.splice(0..0, [4, 0]);
    payload.push(99);
    assert!(keyspace.apply_encoded(&payload, Lsn(2)).is_err());
    assert_eq!(state(&keyspace), before);
    assert_eq!(keyspace.applied(), Lsn(1));
}

#[test]
fn counters_return_to_zero() {
    let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
    let mut lsn = Lsn::ZERO;
    let now = Millis(1000);
    for key in 0..50 {
        run(&mut keyspace, &format!("SET {key} v PX 100"), now, &mut lsn);
        run(
            &mut keyspace,
            &format!("SET {key} longer PX {}", key + 1),
            now,
            &mut lsn,
        );
    }
    assert!(keyspace.used_bytes() > 50 * 64);
    assert_eq!((keyspace.len(), keyspace.len_with_expiry()), (50, 50));
    for key in 0..50 {
        run(&mut keyspace, &format!("DEL {key}"), now, &mut lsn);
    }
    assert_eq!(
        (
            keyspace.len(),
            keyspace.len_with_expiry(),
            keyspace.used_bytes()
        ),
        (0, 0, 0)
    );
    assert_eq!(keyspace.digest(), 0);
}
