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
        faults: number("EXHAUST_FAULTS", 0) as u8,
        wipes: number("EXHAUST_WIPES", 1) as u8,
        changes: number("EXHAUST_CHANGES", 0) as u8,
        orders: number("EXHAUST_ORDERS", 0) as u8,
        lazy_sync: number("EXHAUST_LAZY_SYNC", 0) == 1,
    }
}

fn exhaust_all(name: &str, cluster: Cluster) {
    let limit = number("EXHAUST_STATES", 50_000_000) as usize;
    let outcome = search::exhaust(cluster, bounds(), limit);
    println!("{name}: {outcome}");
    assert!(outcome.found.is_none(), "{name}: {outcome}");
    assert!(outcome.exhausted, "{name}: stopped early: {outcome}");
}

#[test]
fn two_data_nodes_and_a_witness() {
    exhaust_all("two and a witness", Cluster::new(2, 1, Mode::SemiSync));
}

#[test]
fn three_data_nodes() {
    exhaust_all("three data nodes", Cluster::new(3, 0, Mode::Sync));
}

/// The machine without one of its rules: the search must notice each, within its bounds.
///
/// `cargo test --features mutants --test exhaust mutants -- --nocapture`
#[cfg(feature = "mutants")]
mod mutants {
    use super::exhaust::node::Cluster;
    use super::exhaust::search;
    use super::exhaust::world::Bounds;
    use understudy::replica::{Guard, Mode};

    const BOUNDS: Bounds = Bounds {
        epochs: 3,
        records: 3,
        faults: 1,
        wipes: 1,
        changes: 1,
        orders: 0,
        lazy_sync: false,
    };

    fn is_caught(without: Guard) {
        let limit = super::number("EXHAUST_STATES", 40_000) as usize;
        let clusters = [
            ("two and a witness", Cluster::new(2, 1, Mode::SemiSync)),
            ("three data nodes", Cluster::new(3, 0, Mode::Sync)),
        ];
        for (name, cluster) in clusters {
            let mut cluster = cluster;
            cluster.without = Some(without);
            let outcome = search::exhaust(cluster, BOUNDS, limit);
            println!("without {without:?}, {name}: {outcome}");
            if outcome.found.is_some() {
                return;
            }
        }
        panic!("without {without:?} nothing was found");
    }

    macro_rules! caught {
        ($($name:ident: $guard:ident,)*) => {
            $(#[test]
            fn $name() {
                is_caught(Guard::$guard);
            })*
        };
    }

    /// This one is seen before the search: even the beginning of a cluster breaks it.
    #[test]
    #[should_panic(expected = "said before durable")]
    fn without_r1() {
        is_caught(Guard::R1);
    }

    // R7, R8, R10's newest rule, and R24 with R25 need runs longer than this limit reaches: the
    // walks of `tests/mutants.rs` look for those.
    caught! {
        without_r5: R5Majority,
        without_r6: R6Old,
        without_r10_log: R10Log,
        without_r11: R11Vote,
        without_r12: R12Lease,
    }
}
