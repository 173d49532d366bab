//! PostgreSQL 15: a primary and one synchronous streaming standby.
//!
//! `synchronous_commit` is set per session. Memory and checkpoints are set more generously than
//! the defaults, which are meant for small machines; all else is as Debian's package has it. The
//! servers run under the `postgres` account when the ring runs as root, which they refuse.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use rustix::process::{Signal, geteuid};
use tokio_postgres::{NoTls, Statement};
use understudy::cli::load::throughput::LoadResult;
use understudy::cli::local_cluster::ports::Reservation;

use super::{Later, START_PATIENCE, System};
use crate::cells::Line;
use crate::lanes;
use crate::measure::{Load, Meter};
use crate::requirements::POSTGRES_BIN;
use crate::servers::{Account, Server, command_as, run_to_end, wait_until};

const SETTINGS: [&str; 6] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=1100",
    "shared_buffers=1GB",
    "max_wal_size=4GB",
    "synchronous_standby_names=standby",
];

const UPSERT: &str = "INSERT INTO kv (key, value) VALUES ($1, $2) \
                      ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value";
const SELECT: &str = "SELECT value FROM kv WHERE key = $1";

/// The two servers.
pub struct Postgres {
    // The standby goes first, and both before the ports.
    standby: Server,
    primary: Server,
    address: SocketAddr,
    _ports: [Reservation; 2],
}

impl Postgres {
    /// Makes a database, copies it with pg_basebackup, and waits until the standby is synchronous.
    pub async fn start(folder: &Path) -> anyhow::Result<Postgres> {
        let place = Place::prepare(folder)?;
        let ports = [Reservation::take()?, Reservation::take()?];
        let [address, standby_address] = [ports[0].address(), ports[1].address()];
        place.init().await?;
        let mut primary = place.start_server("primary", address, None)?;
        wait_until("postgres", START_PATIENCE, &mut [&mut primary], || async {
            connect(address).await.map(|_| true)
        })
        .await?;
        place.copy(address).await?;
        let mut standby = place.start_server("standby", standby_address, Some(address))?;
        let mut both = [&mut primary, &mut standby];
        wait_until("postgres's standby", START_PATIENCE, &mut both, || {
            is_synchronous(address)
        })
        .await?;
        let client = connect(address).await?;
        let table = "CREATE TABLE kv (key bytea PRIMARY KEY, value bytea NOT NULL)";
        client.batch_execute(table).await?;
        Ok(Postgres {
            standby,
            primary,
            address,
            _ports: ports,
        })
    }
}

/// Where the data is, and under whose name.
struct Place {
    folder: PathBuf,
    account: Option<Account>,
}

impl Place {
    fn prepare(folder: &Path) -> anyhow::Result<Place> {
        let folder = folder.join("postgres");
        std::fs::create_dir(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let account = match geteuid().is_root() {
            true => Some(Account::find("postgres")?),
            false => None,
        };
        if let Some(Account { uid, gid }) = account {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid))
                .with_context(|| format!("cannot give {} to postgres", folder.display()))?;
        }
        Ok(Place { folder, account })
    }

    fn command(&self, program: &str, leashed: bool) -> Command {
        let program = Path::new(POSTGRES_BIN).join(program);
        let mut command = command_as(self.account, &program, leashed);
        // Where it may be, whoever it is.
        command.current_dir(&self.folder);
        command
    }

    async fn init(&self) -> anyhow::Result<()> {
        let mut command = self.command("initdb", true);
        command
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--pgdata"])
            .arg(self.folder.join("primary"));
        run_to_end(command, "initdb", START_PATIENCE)
            .await
            .context("its account must be able to reach the folder given by --dir")
    }

    async fn copy(&self, primary: SocketAddr) -> anyhow::Result<()> {
        let mut command = self.command("pg_basebackup", true);
        command
            .args(["--host", &primary.ip().to_string()])
            .args(["--port", &primary.port().to_string()])
            .args(["--username=postgres", "--checkpoint=fast"])
            .args(["--wal-method=stream", "--write-recovery-conf", "--pgdata"])
            .arg(self.folder.join("standby"));
        run_to_end(command, "pg_basebackup", START_PATIENCE).await
    }

    fn start_server(
        &self,
        name: &str,
        address: SocketAddr,
        primary: Option<SocketAddr>,
    ) -> anyhow::Result<Server> {
        let mut command = self.command("postgres", true);
        command.arg("-D").arg(self.folder.join(name));
        command.args(["-c", &format!("port={}", address.port())]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        if let Some(primary) = primary {
            let from = format!(
                "primary_conninfo=host={} port={} user=postgres application_name=standby",
                primary.ip(),
                primary.port()
            );
            command.args(["-c", &from]);
        }
        let log = self.folder.join(format!("{name}.log"));
        // SIGQUIT: at once, all backends with it.
        Server::start(&format!("postgres {name}"), command, log, Signal::QUIT)
    }
}

async fn connect(address: SocketAddr) -> anyhow::Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::Config::new()
        .hostaddr(address.ip())
        .port(address.port())
        .user("postgres")
        .dbname("postgres")
        .connect(NoTls)
        .await?;
    // Its errors reach the client, too.
    tokio::spawn(connection);
    Ok(client)
}

async fn is_synchronous(primary: SocketAddr) -> anyhow::Result<bool> {
    let client = connect(primary).await?;
    let standbys = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync' \
                    AND state = 'streaming'";
    Ok(client.query(standbys, &[]).await?.len() == 1)
}

/// A session with its statements prepared.
#[derive(Clone)]
struct Client(Arc<Session>);

struct Session {
    client: tokio_postgres::Client,
    upsert: Statement,
    select: Statement,
}

impl Client {
    async fn open(address: SocketAddr, synchronous_commit: &str) -> anyhow::Result<Client> {
        let client = connect(address).await?;
        let level = format!("SET synchronous_commit = {synchronous_commit}");
        client.batch_execute(&level).await?;
        let upsert = client.prepare(UPSERT).await?;
        let select = client.prepare(SELECT).await?;
        Ok(Client(Arc::new(Session {
            client,
            upsert,
            select,
        })))
    }
}

impl lanes::Client for Client {
    async fn set(&self, key: Bytes, value: Bytes) -> Result<(), String> {
        let Session { client, upsert, .. } = &*self.0;
        let done = client
            .execute(upsert, &[&key.as_ref(), &value.as_ref()])
            .await;
        match done {
            Ok(1) => Ok(()),
            Ok(rows) => Err(format!("an upsert changed {rows} rows")),
            Err(error) => Err(describe(&error)),
        }
    }

    async fn get(&self, key: Bytes) -> Result<bool, String> {
        let Session { client, select, .. } = &*self.0;
        let row = client.query_opt(select, &[&key.as_ref()]).await;
        row.map(|row| row.is_some())
            .map_err(|error| describe(&error))
    }
}

/// The error with what the server said, which its own text leaves out.
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{error}: {said}"),
        None => error.to_string(),
    }
}

fn synchronous_commit(line: Line) -> &'static str {
    match line {
        Line::PostgresRemoteWrite => "remote_write",
        Line::PostgresRemoteApply => "remote_apply",
        _ => "on",
    }
}

async fn fill(address: SocketAddr, keys: u64, value_bytes: usize) -> anyhow::Result<()> {
    let client = connect(address).await?;
    let insert = format!(
        "INSERT INTO kv SELECT convert_to('key:' || lpad(n::text, 12, '0'), 'UTF8'), \
         convert_to(repeat('x', {value_bytes}), 'UTF8') \
         FROM generate_series(0::bigint, {}) AS n",
        keys - 1
    );
    client.batch_execute(&insert).await?;
    client.batch_execute("VACUUM ANALYZE kv").await?;
    client.batch_execute("CHECKPOINT").await?;
    let count: i64 = client
        .query_one("SELECT count(*) FROM kv", &[])
        .await?
        .get(0);
    anyhow::ensure!(
        count == keys as i64,
        "postgres holds {count} keys after {keys} were written"
    );
    Ok(())
}

impl System for Postgres {
    fn roots(&self) -> Vec<u32> {
        vec![self.primary.pid(), self.standby.pid()]
    }

    fn holder(&self) -> Option<u32> {
        None
    }

    fn check(&mut self) -> anyhow::Result<()> {
        self.primary.check()?;
        self.standby.check()
    }

    fn fill(&mut self, keys: u64, value_bytes: usize) -> Later<'_, ()> {
        Box::pin(fill(self.address, keys, value_bytes))
    }

    fn load<'a>(
        &'a mut self,
        line: Line,
        load: &'a Load,
        meter: &'a mut Meter,
    ) -> Later<'a, LoadResult> {
        Box::pin(async move {
            let mut clients = Vec::with_capacity(load.shape.pressure.clients);
            for _ in 0..load.shape.pressure.clients {
                clients.push(Client::open(self.address, synchronous_commit(line)).await?);
            }
            lanes::run(&clients, load, meter).await
        })
    }
}
