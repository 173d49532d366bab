//! The takeover machine against everything that can happen within small bounds, to the end.
//! See `docs/model-exhaustive.md`; the oracles stand in `exhaust/oracle.rs`.

#[path = "exhaust/mod.rs"]
mod exhaust;

use exhaust::node::Cluster;
use exhaust::search;
use exhaust::world::Bounds;
use understudy::replica::Mode;

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(default)
}

/// The bounds of the short run; `EXHAUST_*` raises each.
fn bounds() -> Bounds {
    Bounds {
        epochs: number("EXHAUST_EPOCHS", 2),
        records: number("EXHAUST_RECORDS", 2) as usize,
        faults: number("EXHAUST_FAULTS", 1) as u8,
        wipes: number("EXHAUST_WIPES", 1) as u8,
        crashes: number("EXHAUST_CRASHES", 2) as u8,
        changes: number("EXHAUST_CHANGES", 1) as u8,
        orders: number("EXHAUST_ORDERS", 0) as u8,
        lazy_sync: number("EXHAUST_LAZY_SYNC", 0) == 1,
    }
}

fn exhaust_all(name: &str, cluster: Cluster, bounds: Bounds) {
    let limit = number("EXHAUST_STATES", 200_000_000) as usize;
    let outcome = search::exhaust(cluster, bounds, limit);
    println!("{name}: {outcome}");
    assert!(outcome.found.is_none(), "{name}: {outcome}");
    assert!(outcome.exhausted, "{name}: stopped early: {outcome}");
}

#[test]
fn two_data_nodes_and_a_witness() {
    let cluster = Cluster::new(2, 1, Mode::SemiSync);
    exhaust_all("two and a witness", cluster, bounds());
}

#[test]
fn three_data_nodes() {
    let cluster = Cluster::new(3, 0, Mode::Sync);
    exhaust_all("three data nodes", cluster, bounds());
}

/// The machine without one of its rules: the search must notice each, within its bounds.
///
/// `cargo test --features mutants --test exhaust mutants -- --nocapture`
#[cfg(feature = "mutants")]
mod mutants {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::exhaust::node::Cluster;
    use super::exhaust::search;
    use super::exhaust::world::Bounds;
    use understudy::replica::{Guard, Mode};

    /// Each of these shows within so many epochs and records, with a fault and a change of rule. Those
    /// that are not here need more, or what this search leaves out: the walks of `tests/mutants.rs`
    /// look for them.
    const CAUGHT: &[(Guard, u64)] = &[
        (Guard::R4, 2),
        (Guard::R5Majority, 2),
        (Guard::R5OneProposal, 3),
        (Guard::R6Old, 2),
        (Guard::R6New, 3),
        (Guard::R8, 3),
        (Guard::R10NewestRule, 2),
        (Guard::R10Members, 2),
        (Guard::R10Log, 2),
        (Guard::R11Vote, 2),
        (Guard::R11Disk, 2),
        (Guard::R12Lease, 2),
        (Guard::R12Own, 2),
        (Guard::R12Restart, 2),
        (Guard::R18Lease, 2),
        (Guard::R18Epoch, 2),
        (Guard::R21Budget, 2),
        (Guard::R23, 2),
        (Guard::R24Vote, 2),
        (Guard::R24Begin, 2),
        (Guard::R25Majority, 2),
        (Guard::R25Lease, 2),
        (Guard::R26, 2),
    ];

    fn caught(without: Guard, epochs: u64, records: usize) -> bool {
        let limit = super::number("EXHAUST_STATES", 1_500_000) as usize;
        let clusters = [
            ("two and a witness", Cluster::new(2, 1, Mode::SemiSync)),
            ("three data nodes", Cluster::new(3, 0, Mode::Sync)),
        ];
        clusters.into_iter().any(|(name, mut cluster)| {
            cluster.without = Some(without);
            let bounds = Bounds {
                epochs,
                records,
                faults: 1,
                wipes: 1,
                crashes: 1,
                changes: 1,
                orders: 0,
                lazy_sync: false,
            };
            let outcome = search::exhaust(cluster, bounds, limit);
            println!("without {without:?}, {name}: {outcome}");
            outcome.found.is_some()
        })
    }

    #[test]
    fn each_is_caught() {
        let next = AtomicUsize::new(0);
        let hunt = || {
            let mine = std::iter::from_fn(|| CAUGHT.get(next.fetch_add(1, Ordering::Relaxed)));
            let missed = mine.filter(|(guard, size)| !caught(*guard, *size, *size as usize));
            missed.map(|(guard, _)| *guard).collect::<Vec<Guard>>()
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let missed = std::thread::scope(|scope| {
            let hunters: Vec<_> = (0..cores).map(|_| scope.spawn(hunt)).collect();
            let missed = hunters
                .into_iter()
                .map(|hunter| hunter.join().expect("no panic"));
            missed.flatten().collect::<Vec<Guard>>()
        });
        assert!(
            missed.is_empty(),
            "these rules can be left out unseen: {missed:?}"
        );
    }

    /// All there are, for the table in `docs/model-exhaustive.md`.
    #[test]
    #[ignore = "half an hour"]
    fn which_are_caught() {
        let epochs = super::number("EXHAUST_EPOCHS", 2);
        let records = super::number("EXHAUST_RECORDS", 2) as usize;
        for guard in Guard::ALL {
            let seen = std::panic::catch_unwind(|| caught(*guard, epochs, records));
            println!("{guard:?}: {seen:?}");
        }
    }

    /// This one is seen before the search: even the beginning of a cluster breaks it.
    #[test]
    #[should_panic(expected = "said before durable")]
    fn without_r1() {
        caught(Guard::R1, 2, 2);
    }
}
