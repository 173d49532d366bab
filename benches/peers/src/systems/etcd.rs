//! etcd, three members. Clients talk to the leader, which spares it a hop.
//!
//! Settings are etcd's own but for the size it may grow to: its default of 2 GB would turn it
//! read-only in a long run. Reads are linearizable, its default.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use prost::Message;
use rustix::process::Signal;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;
use understudy::cli::load::throughput::LoadResult;
use understudy::cli::local_cluster::ports::Reservation;

use super::etcd_messages::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, StatusRequest, StatusResponse,
    TxnRequest, TxnResponse,
};
use super::{Later, START_PATIENCE, System};
use crate::cells::Line;
use crate::lanes::{self, key, value};
use crate::measure::{Load, Meter};
use crate::servers::{Server, command_as, wait_until};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const MEMBERS: usize = 3;

/// The members.
pub struct Etcd {
    // Before the ports: a server must be gone before its port is given back.
    members: Vec<Server>,
    client_ports: Vec<Reservation>,
    _peer_ports: Vec<Reservation>,
}

impl Etcd {
    /// Starts three members and waits until they have a leader.
    pub async fn start(folder: &Path) -> anyhow::Result<Etcd> {
        let client_ports = take_ports()?;
        let peer_ports = take_ports()?;
        let cluster: Vec<String> = (0..MEMBERS)
            .map(|member| format!("m{member}={}", url(&peer_ports[member])))
            .collect();
        let mut members = Vec::with_capacity(MEMBERS);
        for member in 0..MEMBERS {
            let (client, peer) = (url(&client_ports[member]), url(&peer_ports[member]));
            let mut command = command_as(None, Path::new("etcd"), true);
            command
                .args(["--name", &format!("m{member}")])
                .args(["--listen-client-urls", &client])
                .args(["--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer])
                .args(["--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &cluster.join(",")])
                .args(["--initial-cluster-state", "new"])
                .args(["--quota-backend-bytes", &(8_u64 << 30).to_string()])
                .args(["--logger", "zap", "--log-level", "warn"])
                .arg("--data-dir")
                .arg(folder.join(format!("etcd-{member}")));
            let log = folder.join(format!("etcd-{member}.log"));
            let name = format!("etcd member {member}");
            members.push(Server::start(&name, command, log, Signal::KILL)?);
        }
        let mut all: Vec<&mut Server> = members.iter_mut().collect();
        wait_until("etcd", START_PATIENCE, &mut all, || async {
            Ok(leader(&client_ports).await?.is_some())
        })
        .await?;
        Ok(Etcd {
            members,
            client_ports,
            _peer_ports: peer_ports,
        })
    }

    /// Connections to the leader.
    async fn connect(&self, count: usize) -> anyhow::Result<Vec<Client>> {
        let leader = leader(&self.client_ports).await?;
        let leader = leader.context("etcd has no leader")?;
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(Client::open(&self.client_ports[leader]).await?);
        }
        Ok(clients)
    }
}

fn take_ports() -> anyhow::Result<Vec<Reservation>> {
    Ok((0..MEMBERS)
        .map(|_| Reservation::take())
        .collect::<Result<_, _>>()?)
}

fn url(port: &Reservation) -> String {
    format!("http://{}", port.address())
}

/// Which member says that it leads.
async fn leader(ports: &[Reservation]) -> anyhow::Result<Option<usize>> {
    for (member, port) in ports.iter().enumerate() {
        let client = Client::open(port).await?;
        let status: StatusResponse = client.call(STATUS, StatusRequest {}).await?;
        let own = status.header.map(|header| header.member_id);
        if status.leader != 0 && own == Some(status.leader) {
            return Ok(Some(member));
        }
    }
    Ok(None)
}

/// A connection.
#[derive(Clone)]
struct Client {
    channel: Channel,
}

impl Client {
    async fn open(port: &Reservation) -> anyhow::Result<Client> {
        let endpoint = Endpoint::from_shared(url(port))?
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(5));
        let channel = endpoint.connect().await?;
        Ok(Client { channel })
    }

    async fn call<Q, A>(&self, path: &'static str, question: Q) -> Result<A, tonic::Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready()
            .await
            .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static(path);
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let answer = grpc.unary(Request::new(question), path, codec).await?;
        Ok(answer.into_inner())
    }
}

impl lanes::Client for Client {
    async fn set(&self, key: Bytes, value: Bytes) -> Result<(), String> {
        let done: Result<PutResponse, _> = self.call(PUT, PutRequest { key, value }).await;
        done.map(drop).map_err(|status| status.to_string())
    }

    async fn get(&self, key: Bytes) -> Result<bool, String> {
        let question = RangeRequest {
            key,
            range_end: Bytes::new(),
            count_only: false,
        };
        let found: Result<RangeResponse, _> = self.call(RANGE, question).await;
        found
            .map(|found| !found.kvs.is_empty())
            .map_err(|status| status.to_string())
    }
}

/// Writes these groups of keys, each in one transaction.
async fn fill_share(
    client: Client,
    groups: Vec<std::ops::Range<u64>>,
    value: Bytes,
) -> anyhow::Result<()> {
    for group in groups {
        let success = group
            .map(|number| RequestOp {
                request_put: Some(PutRequest {
                    key: key(number),
                    value: value.clone(),
                }),
            })
            .collect();
        let done: TxnResponse = client.call(TXN, TxnRequest { success }).await?;
        anyhow::ensure!(
            done.succeeded,
            "etcd refused a transaction without conditions"
        );
    }
    Ok(())
}

async fn fill(clients: Vec<Client>, keys: u64, value_bytes: usize) -> anyhow::Result<()> {
    /// As many as etcd takes in one transaction by default.
    const GROUP: u64 = 128;
    let mut shares = vec![Vec::new(); clients.len()];
    for (number, first) in (0..keys).step_by(GROUP as usize).enumerate() {
        let share = number % clients.len();
        shares[share].push(first..keys.min(first + GROUP));
    }
    let asker = clients[0].clone();
    let work = clients.into_iter().zip(shares);
    let work = work.map(|(client, groups)| fill_share(client, groups, value(value_bytes)));
    futures_util::future::try_join_all(work).await?;
    let all = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        count_only: true,
    };
    let there: RangeResponse = asker.call(RANGE, all).await?;
    anyhow::ensure!(
        there.count == keys as i64,
        "etcd holds {} keys after {keys} were written",
        there.count
    );
    Ok(())
}

impl System for Etcd {
    fn roots(&self) -> Vec<u32> {
        self.members.iter().map(Server::pid).collect()
    }

    fn holder(&self) -> Option<u32> {
        None
    }

    fn check(&mut self) -> anyhow::Result<()> {
        self.members.iter_mut().try_for_each(Server::check)
    }

    fn fill(&mut self, keys: u64, value_bytes: usize) -> Later<'_, ()> {
        const CONNECTIONS: usize = 16;
        Box::pin(async move { fill(self.connect(CONNECTIONS).await?, keys, value_bytes).await })
    }

    fn load<'a>(
        &'a mut self,
        _line: Line,
        load: &'a Load,
        meter: &'a mut Meter,
    ) -> Later<'a, LoadResult> {
        Box::pin(async move {
            let clients = self.connect(load.shape.pressure.clients).await?;
            lanes::run(&clients, load, meter).await
        })
    }
}
