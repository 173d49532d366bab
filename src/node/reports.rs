//! The takeovers this node knows of, durable: `history`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::replica::Report;
use crate::units::{Epoch, Lsn, Millis, NodeId};
use crate::wal::{Disk, Reserve, read_all, replace_within};

/// Reports kept; older ones are let go.
const KEPT: usize = 1000;

/// How many of the discarded records had been acknowledged (R33).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acknowledged {
    /// Known, because the old primary stepped down itself.
    Exact(u64),
    /// Not more; it was killed and no longer knows.
    AtMost(u64),
}

/// What a rejoining node gave up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactLoss {
    /// Which node.
    pub node: NodeId,
    /// Records of clients.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// First LSN discarded.
    pub first_lsn: Lsn,
    /// Last LSN discarded.
    pub last_lsn: Lsn,
    /// Time of the first client record.
    pub first_ms: Millis,
    /// Time of the last.
    pub last_ms: Millis,
    /// How many had been acknowledged.
    pub acknowledged: Acknowledged,
    /// Where they are kept on that node.
    pub file: String,
    /// The fork: last LSN kept.
    pub fork: Lsn,
}

/// A takeover, and what it turned out to have cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// As the winner saw it.
    pub report: Report,
    /// From each node that rejoined with something to discard.
    pub exact: Vec<ExactLoss>,
}

/// The durable list.
pub struct Reports {
    disk: Arc<dyn Disk>,
    reserve: Arc<Reserve>,
    path: PathBuf,
    list: Mutex<Vec<Takeover>>,
}

impl std::fmt::Debug for Reports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reports")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Reports {
    /// Reads what is there; a damaged file is set aside and said so, it guards no promise.
    pub fn load(disk: Arc<dyn Disk>, reserve: Arc<Reserve>, dir: &Path) -> Reports {
        let path = dir.join("history.json");
        let list = match read_all(disk.as_ref(), &path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(
                    "{} is damaged ({error}); history begins anew",
                    path.display()
                );
                Vec::new()
            }),
            Err(_) => Vec::new(),
        };
        Reports {
            disk,
            reserve,
            path,
            list: Mutex::new(list),
        }
    }

    /// Everything, oldest first.
    pub fn all(&self) -> Vec<Takeover> {
        self.list
            .lock()
            .expect("nothing panics while it holds the reports")
            .clone()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Takeover>)) {
        let mut list = self
            .list
            .lock()
            .expect("nothing panics while it holds the reports");
        change(&mut list);
        let extra = list.len().saturating_sub(KEPT);
        list.drain(..extra);
        let bytes = match serde_json::to_vec_pretty(&*list) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!("history cannot be written down: {error}");
                return;
            }
        };
        let written = replace_within(&self.reserve, self.disk.as_ref(), &self.path, &bytes);
        if let Err(error) = written {
            tracing::error!("{} was not written: {error}", self.path.display());
        }
    }

    /// Keeps a report, replacing an earlier one of the same epoch.
    pub fn keep(&self, report: Report) {
        self.change(
            |list| match list.iter_mut().find(|t| t.report.epoch == report.epoch) {
                Some(known) => known.report = report,
                None => list.push(Takeover {
                    report,
                    exact: Vec::new(),
                }),
            },
        );
    }

    /// Adds what a node discarded to the takeover that it lost to: the first whose fork lies at or
    /// before the discarded records, seen from the epoch that wrote them.
    pub fn discarded(&self, epoch: Epoch, loss: ExactLoss) {
        self.change(|list| {
            let found = list
                .iter_mut()
                .find(|t| t.report.epoch > epoch && t.report.fork.lsn <= loss.fork);
            if let Some(takeover) = found {
                match takeover
                    .exact
                    .iter_mut()
                    .find(|known| known.node == loss.node)
                {
                    // A node that connects again has nothing left to discard.
                    Some(known) if loss.records == 0 && known.records > 0 => {}
                    Some(known) => *known = loss,
                    None => takeover.exact.push(loss),
                }
            }
        });
    }
}
