//! Who is speaking: the first frame of each side, and what a node knows about itself to fill it.
//!
//! Nothing in a `Hello` is secret, and nothing in one may be believed before the proof.

use bytes::{Buf, BufMut, TryGetError};
use thiserror::Error;

use super::proof::Secret;
use crate::units::NodeId;

/// First bytes of a `Hello`. Whoever does not send them is answered with silence.
pub const MAGIC: [u8; 8] = *b"undrstdy";

/// Longest cluster name, in bytes of UTF-8.
pub const MAX_CLUSTER_NAME_BYTES: usize = 64;

/// Length of the nonce each side draws for each connection, in bytes.
pub const NONCE_BYTES: usize = 32;

/// Versions of the peer protocol that a build speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl VersionRange {
    /// What this build speaks.
    pub const THIS_BUILD: VersionRange = VersionRange { min: 1, max: 1 };

    /// The newest version both ranges hold, if they share one.
    pub fn newest_shared(self, other: VersionRange) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min && newest >= other.min).then_some(newest)
    }
}

/// What a connection is for. The number is the byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConnectionKind {
    /// Beats, leases, votes: never behind bulk data (design, section 6).
    Heartbeat = 1,
    /// The log, snapshots and acknowledgements.
    Stream = 2,
    /// Nothing but the handshake: which process answers here (R15)?
    Probe = 3,
}

impl ConnectionKind {
    fn from_byte(byte: u8) -> Option<ConnectionKind> {
        [
            ConnectionKind::Heartbeat,
            ConnectionKind::Stream,
            ConnectionKind::Probe,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// What a node says about itself in every handshake, and the secret with which it proves it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster's id; zero while this node is in none yet.
    pub cluster_id: u128,
    /// The cluster's configured name, at most [`MAX_CLUSTER_NAME_BYTES`].
    pub cluster_name: String,
    /// This node.
    pub node: NodeId,
    /// Drawn when the process started (R15).
    pub process_incarnation: u64,
    /// The incarnation of this node's membership (R25).
    pub membership_incarnation: u64,
    /// Version of the membership this node has recorded (R26).
    pub membership_version: u64,
    /// Optional abilities of this build, one bit each.
    pub features: u64,
    /// Versions it speaks: [`VersionRange::THIS_BUILD`], except in tests.
    pub versions: VersionRange,
    /// The cluster's secret; `None` only where every address is loopback (the configuration holds
    /// that).
    pub secret: Option<Secret>,
}

/// The body of a `Hello` frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Versions the sender speaks.
    pub versions: VersionRange,
    /// Its optional abilities, one bit each.
    pub features: u64,
    /// What the connection is for; the answering side repeats it.
    pub kind: ConnectionKind,
    /// Whether the sender has a secret, so that the lack of one is called by its name.
    pub has_secret: bool,
    /// Its cluster's id; zero when it is in none yet.
    pub cluster_id: u128,
    /// The sender.
    pub node: NodeId,
    /// Drawn when its process started.
    pub process_incarnation: u64,
    /// The incarnation of its membership.
    pub membership_incarnation: u64,
    /// Version of the membership it has recorded.
    pub membership_version: u64,
    /// Drawn for this connection.
    pub nonce: [u8; NONCE_BYTES],
    /// Its cluster's configured name.
    pub cluster_name: String,
}

/// Why a body is no `Hello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HelloError {
    /// It does not begin with [`MAGIC`].
    #[error("the other side does not speak understudy's peer protocol")]
    Magic,
    /// It ends too early.
    #[error("a Hello that ends too early")]
    Short,
    /// A field holds what it never may.
    #[error("a Hello whose {0} is invalid")]
    Invalid(&'static str),
}

impl Hello {
    /// What `identity` says about itself on a connection of this kind.
    pub fn new(identity: &Identity, kind: ConnectionKind, nonce: [u8; NONCE_BYTES]) -> Hello {
        Hello {
            versions: identity.versions,
            features: identity.features,
            kind,
            has_secret: identity.secret.is_some(),
            cluster_id: identity.cluster_id,
            node: identity.node,
            process_incarnation: identity.process_incarnation,
            membership_incarnation: identity.membership_incarnation,
            membership_version: identity.membership_version,
            nonce,
            cluster_name: identity.cluster_name.clone(),
        }
    }

    /// The body's bytes. A cluster name over [`MAX_CLUSTER_NAME_BYTES`] (the configuration refuses
    /// one) is cut between characters.
    pub fn encode(&self) -> Vec<u8> {
        let name_bytes = self
            .cluster_name
            .floor_char_boundary(MAX_CLUSTER_NAME_BYTES);
        let name = &self.cluster_name.as_bytes()[..name_bytes];
        let mut body = Vec::with_capacity(128 + name.len());
        body.put_slice(&MAGIC);
        body.put_u16_le(self.versions.min);
        body.put_u16_le(self.versions.max);
        body.put_u64_le(self.features);
        body.put_u8(self.kind as u8);
        body.put_u8(u8::from(self.has_secret));
        body.put_u128_le(self.cluster_id);
        body.put_u32_le(self.node.0);
        body.put_u64_le(self.process_incarnation);
        body.put_u64_le(self.membership_incarnation);
        body.put_u64_le(self.membership_version);
        body.put_slice(&self.nonce);
        body.put_u8(name.len() as u8);
        body.put_slice(name);
        body
    }

    /// Reads a body. Bytes behind the name are left to later versions, which may append fields:
    /// the version range must stay readable for the sentence that says what differs. The proof
    /// covers them all the same.
    ///
    /// # Errors
    /// Another protocol, a body that ends too early, a field out of its range.
    pub fn decode(body: &[u8]) -> Result<Hello, HelloError> {
        let mut rest = body.strip_prefix(&MAGIC).ok_or(HelloError::Magic)?;
        let raw = RawHello::read(&mut rest).map_err(|_| HelloError::Short)?;
        let name = rest
            .get(..usize::from(raw.name_bytes))
            .ok_or(HelloError::Short)?;
        if raw.versions.min > raw.versions.max {
            return Err(HelloError::Invalid("version range"));
        }
        if raw.node == NodeId(0) {
            return Err(HelloError::Invalid("node id"));
        }
        if name.len() > MAX_CLUSTER_NAME_BYTES {
            return Err(HelloError::Invalid("cluster name"));
        }
        let name = str::from_utf8(name).map_err(|_| HelloError::Invalid("cluster name"))?;
        Ok(Hello {
            versions: raw.versions,
            features: raw.features,
            kind: ConnectionKind::from_byte(raw.kind)
                .ok_or(HelloError::Invalid("kind of connection"))?,
            has_secret: raw.has_secret != 0,
            cluster_id: raw.cluster_id,
            node: raw.node,
            process_incarnation: raw.process_incarnation,
            membership_incarnation: raw.membership_incarnation,
            membership_version: raw.membership_version,
            nonce: raw.nonce,
            cluster_name: name.to_owned(),
        })
    }
}

/// The fields as they lie on the wire, unchecked.
struct RawHello {
    versions: VersionRange,
    features: u64,
    kind: u8,
    has_secret: u8,
    cluster_id: u128,
    node: NodeId,
    process_incarnation: u64,
    membership_incarnation: u64,
    membership_version: u64,
    nonce: [u8; NONCE_BYTES],
    name_bytes: u8,
}

impl RawHello {
    fn read(rest: &mut &[u8]) -> Result<RawHello, TryGetError> {
        Ok(RawHello {
            versions: VersionRange {
                min: rest.try_get_u16_le()?,
                max: rest.try_get_u16_le()?,
            },
            features: rest.try_get_u64_le()?,
            kind: rest.try_get_u8()?,
            has_secret: rest.try_get_u8()?,
            cluster_id: rest.try_get_u128_le()?,
            node: NodeId(rest.try_get_u32_le()?),
            process_incarnation: rest.try_get_u64_le()?,
            membership_incarnation: rest.try_get_u64_le()?,
            membership_version: rest.try_get_u64_le()?,
            nonce: {
                let mut nonce = [0; NONCE_BYTES];
                rest.try_copy_to_slice(&mut nonce)?;
                nonce
            },
            name_bytes: rest.try_get_u8()?,
        })
    }
}
