//! Group commit: sends the records that sessions have appended on their way to the disk and to the
//! standbys, many at a time.
//!
//! A sync costs the same for one record as for a hundred, and so does a frame: some hundred
//! microseconds of the processors', most of it for falling asleep and being woken. So nothing goes
//! as long as each turn of the runtime brings more; a lone client's record goes after one turn that
//! brought none, which takes microseconds.

use std::sync::Arc;

use super::driver::Node;
use crate::units::Micros;

/// What has gathered for so long goes, whatever still comes.
const LONGEST: Micros = Micros(500);

/// So many bytes go: enough for a sync to be worth it.
const ENOUGH_BYTES: u64 = 64 << 10;

/// Runs until the node stops.
pub(super) async fn run(node: Arc<Node>) {
    let log = node.store.log();
    let mut sent = log.end();
    loop {
        node.store.appended.notified().await;
        let began = node.host.boot_time();
        let mut end = log.end();
        loop {
            tokio::task::yield_now().await;
            let before = std::mem::replace(&mut end, log.end());
            let enough = end.offset.saturating_sub(sent.offset) >= ENOUGH_BYTES;
            if end.lsn == before.lsn || enough || node.host.boot_time().since(began) >= LONGEST {
                break;
            }
        }
        log.announce(end.lsn);
        sent = end;
    }
}
