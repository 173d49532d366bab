//! Which files there are to look at.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::wal::{DiscardedName, Disk as _, ReadOnlyDisk, discarded_files, segment_files};

/// The files to look at, in the order in which they are reported.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) control: Vec<PathBuf>,
    pub(super) segments: Vec<PathBuf>,
    pub(super) snapshots: Vec<PathBuf>,
    pub(super) discarded: Vec<PathBuf>,
    /// The directory, where that is all that a node keeps.
    pub(super) whole: Option<PathBuf>,
}

impl Files {
    /// Those of a directory, or the one that `path` is.
    pub(super) fn at(path: &Path) -> anyhow::Result<Files> {
        let files = if path.is_file() {
            Files::one(path)
        } else {
            Files::of_directory(path).with_context(|| path.display().to_string())?
        };
        if files.all().next().is_none() {
            bail!(
                "{} holds no log: name a data directory or a file of one",
                path.display()
            );
        }
        Ok(files)
    }

    fn one(path: &Path) -> Files {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        let mut files = Files::default();
        let list = match name {
            "control.a" | "control.b" => &mut files.control,
            _ if is_snapshot(name) => &mut files.snapshots,
            _ if DiscardedName::parse(name).is_some() => &mut files.discarded,
            _ if name.ends_with(".wal") => &mut files.segments,
            _ => return files,
        };
        list.push(path.to_path_buf());
        files
    }

    fn of_directory(dir: &Path) -> std::io::Result<Files> {
        let disk = &ReadOnlyDisk;
        let (own, snapshots) = (disk.list(dir)?, disk.list(&dir.join("snapshot"))?);
        let control = ["control.a", "control.b"];
        let has_control = own.iter().any(|name| control.contains(&name.as_str()));
        let discarded = discarded_files(disk, dir)?.into_iter();
        Ok(Files {
            // Where one copy is, the other belongs.
            control: control
                .map(|name| dir.join(name))
                .into_iter()
                .filter(|_| has_control)
                .collect(),
            segments: segment_files(disk, dir)?,
            snapshots: snapshots_of(dir)?,
            discarded: discarded.map(|(_, path)| path).collect(),
            // With this mark, the log counts no more: a copy is about to replace it.
            whole: (has_control && !snapshots.iter().any(|name| name == "void"))
                .then(|| dir.to_path_buf()),
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &PathBuf> {
        let own = self.control.iter().chain(&self.segments);
        own.chain(&self.snapshots).chain(&self.discarded)
    }
}

/// The snapshots of a data directory.
pub(super) fn snapshots_of(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let dir = dir.join("snapshot");
    let names = ReadOnlyDisk.list(&dir)?.into_iter();
    Ok(names
        .filter(|name| is_snapshot(name))
        .map(|name| dir.join(name))
        .collect())
}

/// Those that count; what is unfinished or was set aside is not judged.
fn is_snapshot(name: &str) -> bool {
    name.ends_with(".snap") || name == "copy.full"
}
