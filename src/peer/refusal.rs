//! What differs between two nodes, in a sentence: the reasons to refuse a peer, and the check of
//! its claims about itself.
//!
//! Promise: each sentence names both sides and fits both logs. Those said before the proof contain
//! only what a `Hello` says anyway and what the peer claimed itself.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use super::frame::{self, FrameKind};
use super::hello::{Hello, Identity, VersionRange};
use super::stream::sentence_bytes;
use crate::units::{Epoch, NodeId};

/// What differs. Displayed, it is the sentence for both sides' logs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No version of the protocol is spoken by both.
    #[error(
        "no common protocol version: node {} speaks {} to {}, node {} speaks {} to {}",
        ours.0, ours.1.min, ours.1.max, theirs.0, theirs.1.min, theirs.1.max
    )]
    Version {
        /// This node and its versions.
        ours: (NodeId, VersionRange),
        /// The peer and its versions.
        theirs: (NodeId, VersionRange),
    },
    /// The configured names differ.
    #[error(
        "cluster name differs: node {} is in {:?}, node {} is in {:?}; compare [cluster] name",
        ours.0, ours.1, theirs.0, theirs.1
    )]
    ClusterName {
        /// This node and its cluster's name.
        ours: (NodeId, String),
        /// The peer and its cluster's name.
        theirs: (NodeId, String),
    },
    /// Both are in a cluster, but not in the same.
    #[error(
        "cluster id differs: node {} belongs to {:032x}, node {} to {:032x}; one of them has the \
         data directory of another cluster",
        ours.0, ours.1, theirs.0, theirs.1
    )]
    ClusterId {
        /// This node and its cluster's id.
        ours: (NodeId, u128),
        /// The peer and its cluster's id.
        theirs: (NodeId, u128),
    },
    /// A node has dialed its own address.
    #[error("node {0} has reached itself: a member's peer_addr is node {0}'s own")]
    Itself(NodeId),
    /// Two processes use one id.
    #[error("node id {0} is used by two processes: give one of them another --id")]
    OwnId(NodeId),
    /// Another node answers at the address.
    #[error(
        "node {found} answers at the address of node {expected}: compare the members' peer_addr"
    )]
    WrongNode {
        /// Who was dialed.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
    },
    /// One side has a secret, the other has none.
    #[error(
        "node {with} has a cluster secret and node {without} has none: set secret_file on both"
    )]
    NoSecret {
        /// The side that has one.
        with: NodeId,
        /// The side that lacks one.
        without: NodeId,
    },
    /// The proof does not fit.
    #[error("node {0} does not know this cluster's secret: compare secret_file on both nodes")]
    Proof(NodeId),
    /// The admission's own sentence.
    #[error("{0}")]
    NotAdmitted(String),
}

impl Refusal {
    /// The frame that tells the peer why it is refused.
    pub fn frame(&self) -> BytesMut {
        small_frame(FrameKind::Refused, sentence_bytes(&self.to_string()))
    }
}

pub(crate) fn shared_version(identity: &Identity, theirs: &Hello) -> Result<u16, Refusal> {
    identity
        .versions
        .newest_shared(theirs.versions)
        .ok_or(Refusal::Version {
            ours: (identity.node, identity.versions),
            theirs: (theirs.node, theirs.versions),
        })
}

/// What a peer's claims about itself already rule out, whoever it is.
pub(crate) fn check_hello(identity: &Identity, theirs: &Hello) -> Result<(), Refusal> {
    let (our_node, their_node) = (identity.node, theirs.node);
    shared_version(identity, theirs)?;
    if identity.cluster_name != theirs.cluster_name {
        return Err(Refusal::ClusterName {
            ours: (our_node, identity.cluster_name.clone()),
            theirs: (their_node, theirs.cluster_name.clone()),
        });
    }
    // Zero is a node that is in no cluster yet: R24 decides what it may do.
    let both_in_one = identity.cluster_id != 0 && theirs.cluster_id != 0;
    if both_in_one && identity.cluster_id != theirs.cluster_id {
        return Err(Refusal::ClusterId {
            ours: (our_node, identity.cluster_id),
            theirs: (their_node, theirs.cluster_id),
        });
    }
    if our_node == their_node {
        return Err(
            if identity.process_incarnation == theirs.process_incarnation {
                Refusal::Itself(our_node)
            } else {
                Refusal::OwnId(our_node)
            },
        );
    }
    match (identity.secret.is_some(), theirs.has_secret) {
        (true, false) => Err(Refusal::NoSecret {
            with: our_node,
            without: their_node,
        }),
        (false, true) => Err(Refusal::NoSecret {
            with: their_node,
            without: our_node,
        }),
        _ => Ok(()),
    }
}

pub(crate) fn small_frame(kind: FrameKind, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    frame::encode(kind, Epoch::ZERO, &[], &mut out, |out| out.put_slice(body))
        .expect("handshake bodies are built within MAX_HANDSHAKE_BYTES");
    out
}
