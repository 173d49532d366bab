//! redis-server's set-ups: a server that is killed and started again, a guest replica, and what it
//! is asked to do in the background.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use understudy::cli::load::connection::{Connection, reply_bytes};
use understudy::cli::local_cluster::ports::Reservation;
use understudy::resp::Reply;

use super::windows::Window;
use crate::servers::{Server, wait_until};
use crate::systems::redis::{answers, start_server};
use crate::systems::resp;

/// How long Redis may take for what it does in the background.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it may take to start with nothing to load.
const READY_PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two looks at whether it still does: it tells nobody when it is done.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// What redis-server does in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore {
    /// BGSAVE
    Save,
    /// BGREWRITEAOF
    Rewrite,
}

impl Chore {
    fn command(self) -> &'static str {
        match self {
            Chore::Save => "BGSAVE",
            Chore::Rewrite => "BGREWRITEAOF",
        }
    }

    /// Whether this `INFO persistence` says that it is done, and well; an error if not well.
    fn is_done(self, info: &str) -> anyhow::Result<bool> {
        let (running, status) = match self {
            Chore::Save => (["rdb_bgsave_in_progress"; 2], "rdb_last_bgsave_status"),
            Chore::Rewrite => (
                ["aof_rewrite_in_progress", "aof_rewrite_scheduled"],
                "aof_last_bgrewrite_status",
            ),
        };
        let is = |name: &str, wanted: &str| field(info, name) == Some(wanted);
        if !running.iter().all(|name| is(name, "0")) {
            return Ok(false);
        }
        let command = self.command();
        anyhow::ensure!(is(status, "ok"), "redis says that its {command} failed");
        Ok(true)
    }

    /// Has it done once; from the order, since the fork is within it, to the end.
    pub async fn run(self, address: SocketAddr) -> anyhow::Result<Window> {
        let command = self.command();
        let mut connection = Connection::open(address).await?;
        let from = Instant::now();
        let reply = connection.ask(&[command.as_bytes()]).await?;
        if let Reply::Error(text) = reply {
            anyhow::bail!("redis answered {command} with {text:?}");
        }
        while !self.is_done(&info(&mut connection).await?)? {
            anyhow::ensure!(
                from.elapsed() < PATIENCE,
                "redis is not done with {command} after {PATIENCE:?}"
            );
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        let until = Instant::now();
        Ok(Window { from, until })
    }
}

async fn info(connection: &mut Connection) -> anyhow::Result<String> {
    let reply = connection.ask(&[b"INFO", b"persistence"]).await?;
    let text = reply_bytes(&reply).map(String::from_utf8_lossy);
    Ok(text.context("redis did not answer INFO")?.into_owned())
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = info.lines().filter_map(|line| line.split_once(':'));
    let found = fields.find(|(key, _)| *key == name);
    found.map(|(_, value)| value.trim())
}

/// Whether a full resync goes by way of a file or over the socket, at once in both cases.
pub async fn resync_by(address: SocketAddr, diskless: bool) -> anyhow::Result<()> {
    let yes_or_no: &[u8] = if diskless { b"yes" } else { b"no" };
    for (name, value) in [
        (&b"repl-diskless-sync"[..], yes_or_no),
        (b"repl-diskless-sync-delay", b"0"),
    ] {
        let reply = resp::ask(address, &[b"CONFIG", b"SET", name, value]).await?;
        anyhow::ensure!(
            reply == Reply::OK,
            "redis answered {reply:?} to CONFIG SET {}",
            String::from_utf8_lossy(name)
        );
    }
    Ok(())
}

/// One redis-server that can be killed and started again, or a replica that comes and goes.
pub struct Single {
    // Before the port: the server must be gone before its port is given back.
    server: Option<Server>,
    folder: PathBuf,
    name: String,
    primary: Option<SocketAddr>,
    port: Reservation,
}

impl Single {
    /// Prepares one with its data in `folder/name`; starts nothing.
    pub fn prepare(
        folder: &Path,
        name: &str,
        primary: Option<SocketAddr>,
    ) -> anyhow::Result<Single> {
        Ok(Single {
            server: None,
            folder: folder.to_owned(),
            name: name.to_owned(),
            primary,
            port: Reservation::take()?,
        })
    }

    /// Starts it; does not wait until it answers.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let (name, address) = (&self.name, self.port.address());
        let server = start_server(&self.folder, name, address, self.primary, false)?;
        self.server = Some(server);
        Ok(())
    }

    /// Waits until it answers.
    pub async fn until_ready(&mut self) -> anyhow::Result<()> {
        let address = self.port.address();
        let server = self.server.as_mut().context("it was not started")?;
        wait_until(&self.name, READY_PATIENCE, &mut [server], || {
            answers(address)
        })
        .await
    }

    /// Kills it; its data stay.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Kills it and removes its data.
    pub fn wipe(&mut self) -> anyhow::Result<()> {
        self.kill();
        let data = self.folder.join(&self.name);
        std::fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chore_is_done_when_redis_says_so_and_that_it_went_well() {
        let saving = "# Persistence\r\nrdb_bgsave_in_progress:1\r\nrdb_last_bgsave_status:ok\r\n";
        assert!(!Chore::Save.is_done(saving).expect("it is under way"));
        let saved = saving.replace(":1", ":0");
        assert!(Chore::Save.is_done(&saved).expect("it is done"));
        let failed = saved.replace(":ok", ":err");
        assert!(Chore::Save.is_done(&failed).is_err());
        let waiting = "aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:1\r\n";
        assert!(!Chore::Rewrite.is_done(waiting).expect("it is to come"));
    }
}
