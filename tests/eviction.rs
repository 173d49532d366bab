//! `maxmemory` against running nodes: what is refused, what goes under each policy, and that a primary and
//! its standby hold the same afterwards.

mod common;

use common::{Lab, until};
use understudy::cli::local_cluster::Plan;

/// Room for about fifteen hundred of the keys below.
const LIMIT: u64 = 200 << 10;

const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

fn limits(policy: &str, bytes: u64) -> String {
    format!("[limits]\nmaxmemory = {bytes}\nmaxmemory_policy = \"{policy}\"\n")
}

fn alone(policy: &str) -> (Lab, u32) {
    Lab::start(Plan {
        data_nodes: 1,
        more_toml: limits(policy, LIMIT),
        ..Plan::three_data_nodes("alone")
    })
}

fn pair(policy: &str) -> (Lab, u32) {
    Lab::start(Plan {
        more_toml: limits(policy, LIMIT),
        ..Plan::pair_with_witness("t")
    })
}

fn number(lab: &Lab, node: u32, field: &str) -> u64 {
    let text = lab.info(node, field).expect("INFO has it");
    text.parse().expect("a number")
}

fn run(client: &mut redis::Connection, line: &str) -> Result<redis::Value, String> {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().expect("a name"));
    words.for_each(|word| {
        command.arg(word);
    });
    command.query(client).map_err(|error| {
        let (code, detail) = (error.code().unwrap_or(""), error.detail().unwrap_or(""));
        format!("{code} {detail}")
    })
}

fn done(client: &mut redis::Connection, line: &str) {
    run(client, line).unwrap_or_else(|error| panic!("{line}: {error}"));
}

/// Sets keys until memory is full; how many.
fn fill(lab: &Lab, node: u32, client: &mut redis::Connection, prefix: &str) -> u64 {
    for count in 0.. {
        let full = number(lab, node, "used_memory") > LIMIT;
        if full {
            return count * 50;
        }
        for key in 0..50 {
            // Where nothing may go, the last of these are refused.
            let _ = run(
                client,
                &format!("SET {prefix}:{count}:{key} {}", "v".repeat(80)),
            );
        }
    }
    unreachable!("memory is full at some time")
}

#[test]
fn without_a_policy_what_may_grow_is_refused_and_nothing_is_lost() {
    let (lab, node) = alone("noeviction");
    let (mut client, mut other) = (lab.connect(node), lab.connect(node));
    done(&mut client, "SET number 1");
    done(&mut client, "SET text a");
    // Queued while there was room.
    done(&mut other, "MULTI");
    done(&mut other, "SET text b");
    fill(&lab, node, &mut client, "k");
    let oom = Err(OOM.to_string());
    for line in [
        "SET x y",
        "INCR number",
        "APPEND text b",
        "SETBIT text 7 1",
        "MSET a b c d",
        "COPY text copy",
        "GETSET text b",
    ] {
        assert_eq!(run(&mut client, line), oom, "{line}");
    }
    let aborted = format!("EXECABORT Transaction discarded because of: {OOM}");
    assert_eq!(run(&mut other, "EXEC"), Err(aborted));
    let keys = run(&mut client, "DBSIZE");
    assert_eq!(number(&lab, node, "evicted_keys"), 0);
    for (line, answer) in [("GET number", "1"), ("GET text", "a")] {
        let answer = redis::Value::BulkString(answer.into());
        assert_eq!(run(&mut client, line), Ok(answer), "{line}");
    }
    // As in Redis, whatever is queued.
    done(&mut client, "MULTI");
    assert_eq!(run(&mut client, "GET text"), oom);
    let aborted = "EXECABORT Transaction discarded because of previous errors.";
    assert_eq!(run(&mut client, "EXEC"), Err(aborted.to_string()));
    done(&mut client, "EXPIRE text 100");
    done(&mut client, "RENAME text other");
    assert_eq!(run(&mut client, "DBSIZE"), keys);
    for key in 0..50 {
        done(&mut client, &format!("DEL k:0:{key}"));
    }
    done(&mut client, "SET x y");
    done(&mut client, "INCR number");
}

#[test]
fn limits_are_shown() {
    let (lab, node) = alone("volatile-lfu");
    let mut client = lab.connect(node);
    for (name, value) in [
        ("maxmemory", LIMIT.to_string()),
        ("maxmemory-policy", "volatile-lfu".into()),
        ("maxmemory-samples", "5".into()),
    ] {
        let mut get = redis::cmd("CONFIG");
        let told: Vec<String> = get
            .arg("GET")
            .arg(name)
            .query(&mut client)
            .expect("CONFIG GET");
        assert_eq!(told, [name, &value]);
    }
    assert_eq!(number(&lab, node, "maxmemory"), LIMIT);
    assert_eq!(
        lab.info(node, "maxmemory_policy").as_deref(),
        Some("volatile-lfu")
    );
    // With nothing that may go, it is as without a policy.
    fill(&lab, node, &mut client, "k");
    assert_eq!(run(&mut client, "SET x y"), Err(OOM.to_string()));
    done(&mut client, "GET x");
}

/// All keys and values of a node.
fn content(lab: &Lab, node: u32) -> Vec<(String, String)> {
    let mut client = lab.connect(node);
    let mut keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query(&mut client)
        .expect("KEYS");
    keys.sort();
    let values: Vec<String> = redis::cmd("MGET")
        .arg(&keys)
        .query(&mut client)
        .expect("MGET");
    keys.into_iter().zip(values).collect()
}

/// Memory is kept, the standby holds what the primary holds, and evicted nothing itself.
fn check(lab: &Lab, primary: u32, policy: &str) -> Vec<(String, String)> {
    let standby = 3 - primary;
    // One write may go above it, which is then for the next, or for the background.
    until("memory to come down", || {
        (number(lab, primary, "used_memory") <= LIMIT).then_some(())
    });
    assert!(number(lab, primary, "evicted_keys") > 100, "{policy}");
    // Not by the number of keys, which stays about the same.
    until("the standby's catching up", || {
        let end = number(lab, primary, "appended_lsn");
        (number(lab, standby, "applied_lsn") >= end).then_some(())
    });
    let content_here = content(lab, primary);
    let content_there = content(lab, standby);
    assert!(content_here == content_there, "{policy}: they differ");
    assert_eq!(number(lab, standby, "evicted_keys"), 0, "{policy}");
    assert_eq!(
        number(lab, standby, "used_memory"),
        number(lab, primary, "used_memory")
    );
    content_here
}

/// Keys with an expiry, `v:`, that is the later the higher the number, and without, `k:`.
fn write_both(client: &mut redis::Connection, count: u64) {
    let mut pipe = redis::pipe();
    for key in 0..count {
        pipe.cmd("SET")
            .arg(format!("v:{key:05}"))
            .arg("v".repeat(80));
        pipe.arg("EX").arg(100_000 + key).ignore();
        if key % 10 == 0 {
            pipe.cmd("SET")
                .arg(format!("k:{key:05}"))
                .arg("v".repeat(80))
                .ignore();
        }
    }
    pipe.query::<()>(client).expect("they are written");
}

fn count_of(content: &[(String, String)], prefix: &str) -> usize {
    content
        .iter()
        .filter(|(key, _)| key.starts_with(prefix))
        .count()
}

#[test]
fn what_is_chosen_at_random_goes() {
    let (lab, primary) = pair("allkeys-random");
    write_both(&mut lab.connect(primary), 4000);
    let content = check(&lab, primary, "allkeys-random");
    assert!(count_of(&content, "k:") < 399, "these may go, too");
}

#[test]
fn only_what_has_an_expiry_goes() {
    for policy in ["volatile-random", "volatile-lru", "volatile-lfu"] {
        let (lab, primary) = pair(policy);
        write_both(&mut lab.connect(primary), 4000);
        let content = check(&lab, primary, policy);
        assert_eq!(count_of(&content, "k:"), 400, "{policy}");
    }
}

#[test]
fn what_expires_soonest_goes() {
    let (lab, primary) = pair("volatile-ttl");
    write_both(&mut lab.connect(primary), 4000);
    let content = check(&lab, primary, "volatile-ttl");
    assert_eq!(count_of(&content, "k:"), 400);
    let left = count_of(&content, "v:");
    let first = format!("v:{:05}", 4000 - left);
    let soonest = content.iter().find(|(key, _)| key.starts_with("v:"));
    assert_eq!(
        soonest.map(|(key, _)| &key[..]),
        Some(&first[..]),
        "the last {left}"
    );
}

/// Half of what there is room for; then the first hundred are used, and twice the room is written.
fn used_keys_left(lab: &Lab, primary: u32, policy: &str, uses: usize, wait: bool) -> usize {
    let mut client = lab.connect(primary);
    let mut pipe = redis::pipe();
    for key in 0..800 {
        pipe.cmd("SET")
            .arg(format!("old:{key:03}"))
            .arg("v".repeat(80))
            .ignore();
    }
    pipe.query::<()>(&mut client).expect("they are written");
    if wait {
        until("the keys to be old", || {
            let idle = run(&mut client, "OBJECT IDLETIME old:799").ok()?;
            matches!(idle, redis::Value::Int(2..)).then_some(())
        });
    }
    for _ in 0..uses {
        let mut pipe = redis::pipe();
        for key in 0..100 {
            pipe.cmd("GET").arg(format!("old:{key:03}")).ignore();
        }
        pipe.query::<()>(&mut client).expect("they are read");
    }
    let mut pipe = redis::pipe();
    for key in 0..2000 {
        pipe.cmd("SET")
            .arg(format!("new:{key:04}"))
            .arg("v".repeat(80))
            .ignore();
    }
    pipe.query::<()>(&mut client).expect("they are written");
    let content = check(lab, primary, policy);
    let left = |(key, _): &&(String, String)| key.as_str() < "old:100" && key.starts_with("old:");
    content.iter().filter(left).count()
}

#[test]
fn what_was_not_used_for_longest_goes() {
    let (lab, primary) = pair("allkeys-lru");
    // All others are older, or as old. In the second that it takes to write, chance has its part.
    let left = used_keys_left(&lab, primary, "allkeys-lru", 1, true);
    let all = content(&lab, primary);
    let unused = count_of(&all, "old:") - left;
    assert!(
        left > 60 && unused < 200,
        "{left} of 100 used, {unused} of 700 unused"
    );
}

#[test]
fn what_was_not_used_often_goes() {
    let (lab, primary) = pair("allkeys-lfu");
    let left = used_keys_left(&lab, primary, "allkeys-lfu", 100, false);
    assert!(left > 95, "{left} of 100");
    let mut client = lab.connect(primary);
    let frequent = run(&mut client, "OBJECT FREQ old:000");
    assert!(
        matches!(frequent, Ok(redis::Value::Int(6..))),
        "{frequent:?}"
    );
}

/// As in Redis, an eviction is a change that who watches hears of.
#[test]
fn a_watched_key_that_goes_breaks_the_transaction() {
    let (lab, node) = alone("volatile-ttl");
    let (mut client, mut other) = (lab.connect(node), lab.connect(node));
    done(&mut client, "SET watched 1 EX 1000");
    done(&mut client, "WATCH watched");
    done(&mut client, "MULTI");
    done(&mut client, "SET done 1");
    fill(&lab, node, &mut other, "k");
    let _ = run(&mut other, "SET more 1");
    // It is gone, and there is room again.
    assert_eq!(number(&lab, node, "evicted_keys"), 1);
    for key in 0..50 {
        done(&mut other, &format!("DEL k:0:{key}"));
    }
    assert_eq!(run(&mut client, "EXEC"), Ok(redis::Value::Nil));
    assert_eq!(
        run(&mut client, "EXISTS watched done"),
        Ok(redis::Value::Int(0))
    );
}

/// The limit of a standby counts once it is the primary, and what is above it goes without a write.
#[test]
fn a_new_primary_goes_by_its_own_limit() {
    let mut lab = Lab::prepare(Plan::pair_with_witness("t"), |id, text| match id {
        2 => text + &limits("allkeys-lru", LIMIT),
        _ => text + "[limits]\nmaxmemory = 0\n",
    });
    lab.cluster.start_all().expect("they start");
    let mut primary = lab.ready();
    if primary == 2 {
        lab.cluster.kill9(2).expect("it runs");
        primary = lab.primary_among(&[1]);
        lab.cluster.start(2).expect("it starts");
        lab.ready();
    }
    write_both(&mut lab.connect(primary), 10_000);
    lab.caught_up(2, primary);
    assert!(number(&lab, 2, "used_memory") > 5 * LIMIT);
    assert_eq!(number(&lab, 2, "evicted_keys"), 0);
    lab.cluster.kill9(primary).expect("it runs");
    assert_eq!(lab.primary_among(&[2]), 2);
    until("memory to come down", || {
        (number(&lab, 2, "used_memory") <= LIMIT).then_some(())
    });
    assert!(number(&lab, 2, "evicted_keys") > 8000);
}

#[test]
fn a_client_may_read_without_using_what_it_reads() {
    let (lab, node) = alone("allkeys-lru");
    let mut client = lab.connect(node);
    done(&mut client, "SET k v");
    let idle = |client: &mut redis::Connection| match run(client, "OBJECT IDLETIME k") {
        Ok(redis::Value::Int(seconds)) => seconds,
        other => panic!("{other:?}"),
    };
    done(&mut client, "CLIENT NO-TOUCH on");
    until("it to be old", || {
        run(&mut client, "GET k").expect("it is there");
        (idle(&mut client) >= 2).then_some(())
    });
    run(&mut client, "TOUCH k").expect("it is there");
    assert!(idle(&mut client) < 2, "TOUCH is a use in any case");
    until("it to be old again", || {
        (idle(&mut client) >= 2).then_some(())
    });
    done(&mut client, "CLIENT NO-TOUCH off");
    run(&mut client, "GET k").expect("it is there");
    assert!(idle(&mut client) < 2);
    // At run time, as in Redis.
    done(
        &mut client,
        "CONFIG SET maxmemory 1mb maxmemory-policy noeviction",
    );
    assert_eq!(lab.info(node, "maxmemory").as_deref(), Some("1048576"));
    let said = run(&mut client, "CONFIG SET maxmemory-policy lru").expect_err("no policy");
    assert!(said.contains("must be one of the following"), "{said}");
    let said = run(&mut client, "CONFIG SET maxmemory 1x").expect_err("no size");
    assert!(said.contains("must be a memory value"), "{said}");
}
