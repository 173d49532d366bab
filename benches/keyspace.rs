//! Plan and apply, over 100,000 keys of 16 bytes with values of 100.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use understudy::command::{Command, KeyCommand};
use understudy::keyspace::{HashSeed, Keyspace};
use understudy::resp::Request;
use understudy::units::{Lsn, Millis};

const KEYS: usize = 100_000;
const NOW: Millis = Millis(1_700_000_000_000);

fn command(name: &'static str, index: usize, value: Option<&'static [u8]>) -> KeyCommand {
    let key = Bytes::from(format!("key:{:012}", index % KEYS));
    let mut args = vec![Bytes::from_static(name.as_bytes()), key];
    args.extend(value.map(Bytes::from_static));
    match Command::parse(&Request { args }) {
        Ok(Command::Keys(command)) => command,
        other => panic!("{name} is a key command, not {other:?}"),
    }
}

/// As a primary runs it: plan, apply, and now and then learn what is released.
fn execute(keyspace: &mut Keyspace, command: &KeyCommand, lsn: &mut Lsn) {
    let plan = keyspace.plan(command, NOW, 0);
    if !plan.effects.is_empty() {
        *lsn = lsn.next();
        keyspace.apply(&plan.effects, *lsn);
        if lsn.0.is_multiple_of(256) {
            keyspace.prune_released(lsn.previous());
        }
    }
    std::hint::black_box(plan.reply);
}

fn keyspace(c: &mut Criterion) {
    let mut group = c.benchmark_group("keyspace");
    group.throughput(Throughput::Elements(1));
    for (name, first, value) in [
        ("SET", "SET", Some(&[b'v'; 100][..])),
        ("GET", "SET", None),
        ("INCR", "SET", None),
    ] {
        let (mut keyspace, mut lsn) = (Keyspace::new(HashSeed::new([1, 2])), Lsn::ZERO);
        let filling: &[u8] = if name == "INCR" { b"1" } else { &[b'v'; 100] };
        for index in 0..KEYS {
            execute(
                &mut keyspace,
                &command(first, index, Some(filling)),
                &mut lsn,
            );
        }
        let commands: Vec<KeyCommand> = (0..KEYS)
            .map(|index| command(name, index * 7919, value))
            .collect();
        let mut turn = commands.iter().cycle();
        group.bench_function(name, |b| {
            b.iter(|| {
                let command = turn.next().unwrap_or(&commands[0]);
                execute(&mut keyspace, command, &mut lsn);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, keyspace);
criterion_main!(benches);
