//! Before a snapshot counts, another node has said the same of the keyspace it was made of.
//!
//! A node whose keyspace is found wrong builds it again from its newest snapshot, and a blank standby
//! begins with the primary's: one that holds what memory lost, or what a bug made of a record, would
//! carry it on, past everything that looks for it. (Seed 0 of the simulator's `witness`: a standby's
//! snapshot of 80 ms between a wrong effect and its discovery; built again from it, the standby was as
//! wrong as before, and stayed out of service for good.)
//!
//! Two looks, both after the walk has ended:
//!
//! - Memory: each part still adds up to what effects made it. A bit that turned in a key that is
//!   written later leaves its part wrong for good, so none is missed.
//! - The log: behind a record at or after the walk's end the digest is the primary's, or, on a
//!   primary, some standby's. A wrong key was then never walked over, or is set right by a record up
//!   to that one: so the snapshot is exact from there on, and says so. (Seed 4295 of `lagging`.)
//!
//! A primary waits for that so long and no longer: where its standbys are busy with copies or far
//! behind, or nobody can say who is right, the log must not grow for ever. A standby waits for as long
//! as the reign lasts.

use std::sync::Arc;

use super::make::{NoSnapshot, Walk};
use crate::keyspace::Keyspace;
use crate::node::digests;
use crate::node::driver::Node;
use crate::node::guard::Guard;
use crate::units::{Lsn, Micros};

/// How long a primary waits for a standby's word: some rounds of heartbeats, and that of a third.
const PATIENCE: Micros = Micros(2_000_000);

/// Parts of the keyspace that are added up in one go.
const PARTS_AT_ONCE: usize = 8;

/// Returns when a snapshot whose walk ended at `end` may count, and from which record on what it
/// holds is exact: `end`, or the later one behind which it was confirmed.
pub(super) async fn confirm(
    node: &Arc<Node>,
    walk: &mut Walk,
    end: Lsn,
) -> Result<Lsn, NoSnapshot> {
    if !node.settings.keeps(Guard::R30Confirmed) {
        return Ok(end);
    }
    let used = node.store.read().keyspace.used_bytes();
    let bytes = (used / Keyspace::SCRUB_PARTS * PARTS_AT_ONCE) as u64;
    for first in (0..Keyspace::SCRUB_PARTS).step_by(PARTS_AT_ONCE) {
        let mut parts = first..first + PARTS_AT_ONCE;
        let sound = node
            .host
            .blocking(|| parts.all(|part| digests::scrub_part(node, part)));
        if !sound {
            return Err(NoSnapshot::Unsound);
        }
        walk.pace.spend(bytes).await;
    }
    let (began, number) = (node.host.boot_time(), node.digests.number());
    let mut gate = node.gate();
    loop {
        let news = node.digests.news();
        let now = *gate.borrow_and_update();
        if now.epoch != walk.epoch || now.stopping {
            return Err(NoSnapshot::EpochChanged);
        }
        if let Some(confirmed) = node.digests.confirmed(walk.epoch, end, number) {
            return Ok(confirmed);
        }
        let waited = node.host.boot_time().since(began);
        let patient = !now.is_primary() || waited < PATIENCE;
        if !patient || (now.is_primary() && node.view().standbys.is_empty()) {
            tracing::info!(
                "no standby could confirm the snapshot of LSN {}",
                walk.begin.lsn
            );
            return Ok(end);
        }
        tokio::select! {
            () = news => {}
            _ = gate.changed() => {}
            () = tokio::time::sleep(node.settings.interval) => {}
        }
    }
}
