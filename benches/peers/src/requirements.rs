//! What the ring needs beyond Rust, looked for before anything is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::cells::SystemKind;

/// Where Debian's package puts PostgreSQL's programs.
pub const POSTGRES_BIN: &str = "/usr/lib/postgresql/15/bin";

/// Free space below which a run could fill the disk.
const NEEDED_BYTES: u64 = 10 << 30;

/// An error that names the first missing program and its Debian package.
pub fn check(systems: &[SystemKind], binary: &Path, folder: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        binary.is_file(),
        "{} is no file; build it with cargo build --release",
        binary.display()
    );
    for (program, package) in needed(systems) {
        anyhow::ensure!(
            find(&program).is_some(),
            "{} is missing; install it with apt-get install {package} (benches/peers/run does)",
            program.display()
        );
    }
    check_room(folder, NEEDED_BYTES)
}

/// An error if the file system of `folder` has less room than that.
pub fn check_room(folder: &Path, needed_bytes: u64) -> anyhow::Result<()> {
    let room = rustix::fs::statvfs(folder)
        .with_context(|| format!("cannot look at {}", folder.display()))?;
    let free = room.f_bavail * room.f_frsize;
    anyhow::ensure!(
        free >= needed_bytes,
        "{} has {} GiB free, and this run wants {}; choose another folder with --dir",
        folder.display(),
        free >> 30,
        needed_bytes.div_ceil(1 << 30)
    );
    Ok(())
}

fn needed(systems: &[SystemKind]) -> Vec<(PathBuf, &'static str)> {
    let mut needed = vec![(PathBuf::from("setpriv"), "util-linux")];
    let mut need = |program: &str, package| needed.push((PathBuf::from(program), package));
    for system in systems {
        match system {
            SystemKind::RedisPair | SystemKind::RedisAlone => {
                need("redis-server", "redis-server");
                need("redis-benchmark", "redis-tools");
            }
            SystemKind::Etcd => need("etcd", "etcd-server"),
            SystemKind::Postgres => {
                for program in ["initdb", "postgres", "pg_basebackup"] {
                    need(&format!("{POSTGRES_BIN}/{program}"), "postgresql-15");
                }
            }
            _ => {}
        }
    }
    needed
}

/// The program, looked for as a shell would.
fn find(program: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An absolute program stays what it is when joined.
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// What the servers say about themselves, one line each.
pub fn versions(systems: &[SystemKind]) -> Vec<String> {
    let mut versions = Vec::new();
    for system in systems {
        let program = match system {
            SystemKind::RedisPair | SystemKind::RedisAlone => "redis-server".to_owned(),
            SystemKind::Etcd => "etcd".to_owned(),
            SystemKind::Postgres => format!("{POSTGRES_BIN}/postgres"),
            _ => continue,
        };
        let output = Command::new(&program).arg("--version").output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().next().unwrap_or("unknown version").to_owned();
        if !versions.contains(&line) {
            versions.push(line);
        }
    }
    versions
}
