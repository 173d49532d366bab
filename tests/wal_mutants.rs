//! The log and the control file without one of their rules: the crash tests must notice each.
//!
//! `cargo test --features mutants --test wal_mutants -- --nocapture`

mod wal;

use std::sync::Arc;

use understudy::wal::{Disk, Guard, LogConfig};
use wal::search::{Search, configs, crashes, errors, kills, lost_segments, rot};
use wal::{Story, control};

/// More faulty disks than this, and an oracle is missing.
const BOUND: u64 = 30_000;

/// A way to look for a broken promise, and its name.
type Look<'a> = (&'static str, Box<dyn Fn() -> Search + 'a>);

/// Every way to look at the log, `of` being how it is kept.
fn everything(of: LogConfig) -> Vec<Look<'static>> {
    let stories: [(&'static str, Story); 5] = [
        ("primary", wal::primary),
        ("truncation", wal::turncoat),
        ("keeping up", wal::follower),
        ("catch-up", wal::standby),
        ("catch-up after truncation", wal::rejoiner),
    ];
    let ways: [fn(Story, LogConfig) -> Search; 4] = [crashes, kills, errors, lost_segments];
    let [_, large, _] = configs(of);
    let mut looks: Vec<Look<'static>> = vec![
        ("rot", Box::new(move || rot(wal::primary, large, 18, 7))),
        ("rot", Box::new(move || rot(wal::standby, large, 44, 29))),
    ];
    for config in configs(of) {
        for (name, story) in stories {
            looks.extend(
                ways.map(|way| -> Look<'static> { (name, Box::new(move || way(story, config))) }),
            );
        }
    }
    looks
}

/// Looks everywhere until the missing rule shows.
fn is_caught(without: Guard) {
    let config = LogConfig {
        without: Some(without),
        ..wal::config()
    };
    let load = |disk: Arc<dyn Disk>| {
        let (file, loaded) = control::load(disk)?;
        Ok((file.leaving_out(Some(without)), loaded))
    };
    let mut looks: Vec<Look<'_>> = vec![
        ("control file, dead", Box::new(|| control::crashes(&load))),
        ("control file, rot", Box::new(|| control::rot(&load))),
        (
            "control file, second lives",
            Box::new(|| control::second_lives(&load)),
        ),
    ];
    looks.extend(everything(config));
    let mut disks = 0;
    for (name, look) in looks {
        let search = look();
        disks += search.disks;
        if let Some(what) = search.broken {
            println!("without {without:?}: {disks} disks; {name}: {what}");
            assert!(disks <= BOUND, "caught late: {disks} disks");
            return;
        }
    }
    panic!("without {without:?} nothing was found on {disks} disks: an oracle is missing");
}

macro_rules! mutants {
    ($($name:ident: $guard:ident,)*) => {
        $(#[test]
        fn $name() {
            is_caught(Guard::$guard);
        })*
    };
}

mutants! {
    without_r1_control_state_is_stored_before_it_is_durable: R1Control,
    without_r2_one_control_copy: R2,
    without_r3_synced_is_said_without_a_sync: R3Sync,
    without_r3_a_segment_is_sealed_unsynced: R3Seal,
    without_r3_a_dead_process_page_cache_counts: R3Open,
    without_r3_a_failed_sync_of_a_dead_process_is_forgotten: R3OpenAgain,
    without_r3_a_dead_process_names_count: R3OpenNames,
    without_r3_a_failed_sync_is_tried_again: R3Latch,
    without_r4_the_history_outlives_its_records: R4History,
    without_r31_records_do_not_state_what_is_synced: R31Stamp,
    without_r31_damage_is_cut_like_a_torn_tail: R31Judge,
    without_r31_a_standby_believes_its_primary_statements: R31Mark,
    without_r31_a_mark_states_what_was_taken_back: R31MarkLowered,
    without_r31_a_cut_leaves_what_it_takes_back: R31CutZero,
    without_r31_a_cut_is_not_synced: R31CutSync,
    without_r31_segments_need_not_follow_each_other: R31Header,
}
