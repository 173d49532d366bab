//! Who is primary, asked of the nodes themselves, shared by all clients of a load.
//!
//! While somebody reports trouble, every node is asked `SENTINEL GET-MASTER-ADDR-BY-NAME` and
//! `ROLE`, again and again with a pause of a few milliseconds, each node on a connection of its own
//! so that a frozen one holds up nobody. As Sentinel-aware clients do, an address counts only when
//! some node names it *and* the node there calls itself master. (A server without Sentinel commands
//! names itself by being master.) The answer is published with a rising generation; whoever failed
//! on one generation waits for the next.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::connection::{Connection, reply_bytes};
use crate::resp::{Reply, encode_request};

/// Longest wait for one node's answer.
const ASK_TIMEOUT: Duration = Duration::from_millis(100);
/// Pause before the same node is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(2);

/// A published answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Its client address.
    pub address: SocketAddr,
    /// Rises with each answer, also when the address stays the same.
    pub generation: u64,
}

/// Finds the primary; see the module. Stops asking when dropped.
#[derive(Debug)]
pub struct Directory {
    shared: Arc<Shared>,
    askers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    nodes: Vec<SocketAddr>,
    question: BytesMut,
    trouble: watch::Sender<bool>,
    answers: Mutex<Vec<Option<Answer>>>,
    primary: watch::Sender<Option<Primary>>,
}

/// What one node last said during the present trouble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answer {
    names: Option<SocketAddr>,
    knows_sentinel: bool,
    is_master: bool,
}

impl Directory {
    /// A directory over the nodes' client addresses. Asks nothing before the first trouble.
    pub fn new(runtime: &Handle, nodes: &[SocketAddr], cluster_name: &str) -> Directory {
        let mut question = BytesMut::new();
        let name = cluster_name.as_bytes();
        encode_request(
            &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name],
            &mut question,
        );
        encode_request(&[b"ROLE"], &mut question);
        let shared = Arc::new(Shared {
            nodes: nodes.to_vec(),
            question,
            trouble: watch::Sender::new(false),
            answers: Mutex::new(vec![None; nodes.len()]),
            primary: watch::Sender::new(None),
        });
        let askers = (0..nodes.len())
            .map(|index| runtime.spawn(ask_while_troubled(Arc::clone(&shared), index)))
            .collect();
        Directory { shared, askers }
    }

    /// Something is wrong with the primary: ask the nodes until one is found.
    pub fn report_trouble(&self) {
        self.shared.trouble.send_if_modified(|trouble| {
            if *trouble {
                return false;
            }
            // Under the same lock as the change, so that no answer of an earlier trouble is used.
            self.shared.lock_answers().fill(None);
            *trouble = true;
            true
        });
    }

    /// The latest answer, and a way to wait for the next.
    pub fn subscribe(&self) -> watch::Receiver<Option<Primary>> {
        self.shared.primary.subscribe()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        for asker in &self.askers {
            asker.abort();
        }
    }
}

impl Shared {
    fn lock_answers(&self) -> std::sync::MutexGuard<'_, Vec<Option<Answer>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, index: usize, answer: Option<Answer>) {
        let found = {
            let mut answers = self.lock_answers();
            answers[index] = answer;
            decide(&self.nodes, &answers)
        };
        let Some(address) = found else { return };
        let was_troubled = self.trouble.send_if_modified(std::mem::take);
        if was_troubled {
            self.primary.send_modify(|primary| {
                let generation = primary.map_or(1, |primary| primary.generation + 1);
                *primary = Some(Primary {
                    address,
                    generation,
                });
            });
        }
    }
}

/// The primary that the answers prove, if they do.
fn decide(nodes: &[SocketAddr], answers: &[Option<Answer>]) -> Option<SocketAddr> {
    let heard = || answers.iter().flatten();
    let masters = nodes
        .iter()
        .zip(answers)
        .filter(|(_, answer)| answer.is_some_and(|a| a.is_master));
    let votes = |address: SocketAddr, own: &Option<Answer>| {
        let names_itself = own.is_some_and(|answer| !answer.knows_sentinel);
        heard()
            .filter(|answer| answer.names == Some(address))
            .count()
            + usize::from(names_itself)
    };
    masters
        .map(|(address, own)| (votes(*address, own), *address))
        .filter(|(votes, _)| *votes > 0)
        .max_by_key(|(votes, _)| *votes)
        .map(|(_, address)| address)
}

async fn ask_while_troubled(shared: Arc<Shared>, index: usize) {
    let mut trouble = shared.trouble.subscribe();
    let mut connection = None;
    while trouble.wait_for(|trouble| *trouble).await.is_ok() {
        let asked = tokio::time::timeout(ASK_TIMEOUT, ask(&shared, index, &mut connection)).await;
        let answer = asked.ok().and_then(Result::ok);
        if answer.is_none() {
            connection = None;
        }
        shared.heard(index, answer);
        tokio::time::sleep(ASK_PAUSE).await;
    }
}

async fn ask(shared: &Shared, index: usize, kept: &mut Option<Connection>) -> io::Result<Answer> {
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(Connection::open(shared.nodes[index]).await?),
    };
    connection.send(&shared.question).await?;
    let (knows_sentinel, names) = named_address(&connection.receive().await?);
    let is_master = says_master(&connection.receive().await?);
    Ok(Answer {
        names,
        knows_sentinel,
        is_master,
    })
}

fn named_address(reply: &Reply) -> (bool, Option<SocketAddr>) {
    let Reply::Array(parts) = reply else {
        return (!matches!(reply, Reply::Error(_)), None);
    };
    let part = |index: usize| {
        let bytes = parts.get(index).and_then(reply_bytes)?;
        std::str::from_utf8(bytes).ok()
    };
    let address = part(0)
        .zip(part(1))
        .and_then(|(host, port)| Some(SocketAddr::new(host.parse().ok()?, port.parse().ok()?)));
    (true, address)
}

fn says_master(reply: &Reply) -> bool {
    matches!(reply, Reply::Array(parts)
        if parts.first().and_then(reply_bytes) == Some(b"master"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn says(names: Option<u16>, is_master: bool) -> Option<Answer> {
        Some(Answer {
            names: names.map(node),
            knows_sentinel: true,
            is_master,
        })
    }

    #[test]
    fn a_primary_is_named_and_calls_itself_master() {
        let nodes = [node(1), node(2), node(3)];
        // The survivors still name the dead one: nothing is proven.
        assert_eq!(
            decide(&nodes, &[None, says(Some(1), false), says(Some(1), false)]),
            None
        );
        // The winner knows already.
        let winner = [None, says(Some(2), true), says(Some(1), false)];
        assert_eq!(decide(&nodes, &winner), Some(node(2)));
        // A thawed old primary still believes in itself; more nodes name the winner.
        let thawed = [
            says(Some(1), true),
            says(Some(2), true),
            says(Some(2), false),
        ];
        assert_eq!(decide(&nodes, &thawed), Some(node(2)));
        // Plain Redis.
        let plain = Answer {
            names: None,
            knows_sentinel: false,
            is_master: true,
        };
        assert_eq!(decide(&nodes, &[Some(plain), None, None]), Some(node(1)));
    }

    #[test]
    fn sentinel_and_role_answers_are_read() {
        let named = Reply::Array(vec![Reply::bulk(b"127.0.0.1"), Reply::bulk(b"7379")]);
        assert_eq!(named_address(&named), (true, Some(node(7379))));
        assert_eq!(named_address(&Reply::NullArray), (true, None));
        assert_eq!(
            named_address(&Reply::error("ERR unknown command")),
            (false, None)
        );
        assert!(says_master(&Reply::Array(vec![Reply::bulk(b"master")])));
        assert!(!says_master(&Reply::Array(vec![Reply::bulk(b"slave")])));
    }
}
