//! The names of a simulated disk: those in use, those that are durable, and the changes between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::random::Random;

#[derive(Clone)]
pub(super) enum NameChange {
    Link(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Clone, Default)]
pub(super) struct Names {
    pub(super) now: BTreeMap<PathBuf, u64>,
    pub(super) durable: BTreeMap<PathBuf, u64>,
    changes: Vec<NameChange>,
}

/// Makes the change; the file that lost its name by it.
fn apply(names: &mut BTreeMap<PathBuf, u64>, change: &NameChange) -> Option<u64> {
    match change {
        NameChange::Link(path, inode) => names.insert(path.clone(), *inode),
        NameChange::Rename(from, to) => {
            let inode = names.remove(from)?;
            names.insert(to.clone(), inode)
        }
        NameChange::Remove(path) => names.remove(path),
    }
}

impl NameChange {
    fn is_in(&self, dir: &Path) -> bool {
        let (NameChange::Link(path, _) | NameChange::Rename(_, path) | NameChange::Remove(path)) =
            self;
        path.parent() == Some(dir)
    }
}

impl Names {
    /// Makes a change that a crash may undo; the file that lost its name by it.
    pub(super) fn change(&mut self, change: NameChange) -> Option<u64> {
        let lost = apply(&mut self.now, &change);
        self.changes.push(change);
        lost
    }

    /// Makes the names in a directory durable; those of others stay undecided.
    pub(super) fn sync(&mut self, dir: &Path) {
        let durable = &mut self.durable;
        self.changes.retain(|change| {
            let synced = change.is_in(dir);
            if synced {
                apply(durable, change);
            }
            !synced
        });
    }

    /// The power goes: any prefix of the changes survives, as in a journal.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        let survive = random.below(self.changes.len() as u64 + 1) as usize;
        for change in self.changes.drain(..).take(survive) {
            apply(&mut self.durable, &change);
        }
        self.now = self.durable.clone();
    }

    /// Every file that has a name, had one that a crash may bring back, or may get one.
    pub(super) fn inodes(&self) -> BTreeSet<u64> {
        let pending = self.changes.iter().filter_map(|change| match change {
            NameChange::Link(_, inode) => Some(*inode),
            NameChange::Rename(..) | NameChange::Remove(_) => None,
        });
        let named = self.now.values().chain(self.durable.values()).copied();
        named.chain(pending).collect()
    }
}
