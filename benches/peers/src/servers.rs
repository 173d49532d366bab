//! Server processes of others, started and ended by their process id.
//!
//! Each runs under `setpriv --pdeathsig KILL`, so that it goes even when the ring is killed. That
//! signal is bound to the *thread* that started it, so servers are started from the main thread,
//! which lives as long as the process. A server's output goes to its log file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// How long a server that is asked to end may take before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two looks at a process that is ending.
const END_PAUSE: Duration = Duration::from_millis(5);

/// An account of this machine that servers may run under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Account {
    /// The account of that name, from `/etc/passwd`.
    pub fn find(name: &str) -> anyhow::Result<Account> {
        let passwd = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let account = passwd.lines().find_map(|line| account_in(line, name));
        account.with_context(|| format!("there is no user {name}; its Debian package makes it"))
    }
}

fn account_in(line: &str, name: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let number = |index: usize| fields.get(index)?.parse().ok();
    (fields.first() == Some(&name)).then_some(Account {
        uid: number(2)?,
        gid: number(3)?,
    })
}

/// A command line that runs `program` under `account`, or as this process's user.
pub fn command_as(account: Option<Account>, program: &Path, leashed: bool) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(Account { uid, gid }) = account {
        command.arg(format!("--reuid={uid}"));
        command.arg(format!("--regid={gid}"));
        command.arg("--clear-groups");
    }
    if leashed {
        command.args(["--pdeathsig", "KILL"]);
    }
    command.arg("--").arg(program).stdin(Stdio::null());
    command
}

/// Runs a helper program to its end, at most `patience`; an error with what it said if it failed.
pub async fn run_to_end(command: Command, what: &str, patience: Duration) -> anyhow::Result<()> {
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(patience, output)
        .await
        .with_context(|| format!("{what} did not end within {patience:?}"))?
        .with_context(|| format!("cannot run {what}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::bail!("{what} failed ({}): {}", output.status, said.trim())
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
    ends_on: Signal,
}

impl Server {
    /// Starts a server. `ends_on` is the signal it is ended with.
    pub fn start(
        name: &str,
        mut command: Command,
        log: PathBuf,
        ends_on: Signal,
    ) -> anyhow::Result<Server> {
        let output = File::create(&log)
            .and_then(|file| Ok((file.try_clone()?, file)))
            .with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdout(output.0)
            .stderr(output.1)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Server {
            name: name.to_owned(),
            child,
            log,
            ends_on,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of its log if it is not running any more.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let ended: Option<ExitStatus> = self
            .child
            .try_wait()
            .with_context(|| format!("cannot watch {}", self.name))?;
        match ended {
            None => Ok(()),
            Some(status) => {
                anyhow::bail!("{} ended by itself ({status}): {}", self.name, self.tail())
            }
        }
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        const LINES: usize = 4;
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        match lines.len() {
            0 => "it said nothing".to_owned(),
            all => lines[all.saturating_sub(LINES)..].join(" | "),
        }
    }

    fn has_ended_by(&mut self, deadline: Instant) -> bool {
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(END_PAUSE);
        }
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A child that was not waited for keeps its number, so this never hits a stranger.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // Already gone is what we want; anything else shows in the wait.
        let _ = kill_process(Pid::from_child(&self.child), self.ends_on);
        if !self.has_ended_by(Instant::now() + END_PATIENCE) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Asks `is_ready` again and again until it says yes; an error when `servers` end or time is up.
pub async fn wait_until<F>(
    what: &str,
    patience: Duration,
    servers: &mut [&mut Server],
    mut is_ready: impl FnMut() -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<bool>>,
{
    const PAUSE: Duration = Duration::from_millis(50);
    let deadline = Instant::now() + patience;
    loop {
        for server in servers.iter_mut() {
            server.check()?;
        }
        // While a server starts it refuses; the reason is told only when time is up.
        let state = match tokio::time::timeout(patience, is_ready()).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => "not there yet".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() >= deadline {
            let logs: Vec<String> = servers.iter().map(|server| server.tail()).collect();
            anyhow::bail!(
                "{what}: not ready after {patience:?}: {state}; logs: {}",
                logs.join(" || ")
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let line = "postgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash";
        let expected = Account { uid: 101, gid: 104 };
        assert_eq!(account_in(line, "postgres"), Some(expected));
        assert_eq!(account_in(line, "post"), None);
    }

    #[test]
    fn a_dropped_server_is_gone_and_one_that_ended_says_why() {
        let folder = std::env::temp_dir();
        let log = folder.join(format!("ring-test-{}.log", std::process::id()));
        let mut sleeping = command_as(None, Path::new("sleep"), true);
        sleeping.arg("100");
        let server = Server::start("sleep", sleeping, log.clone(), Signal::TERM).expect("starts");
        let pid = server.pid();
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        let mut failing = command_as(None, Path::new("sh"), true);
        failing.args(["-c", "echo no room; exit 3"]);
        let mut server = Server::start("sh", failing, log.clone(), Signal::TERM).expect("starts");
        assert!(server.has_ended_by(Instant::now() + END_PATIENCE));
        let error = server.check().expect_err("it ended").to_string();
        assert!(
            error.contains("no room") && error.contains("sh ended"),
            "{error}"
        );
        drop(server);
        std::fs::remove_file(log).expect("it was written");
    }
}
