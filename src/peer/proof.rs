//! The proof that a peer knows the cluster's secret: HMAC-SHA256 over everything both sides have
//! said about themselves.
//!
//! Promise: a proof is good for one connection and one direction. It covers both `Hello`s whole
//! (both nonces, ids and incarnations, cluster id and name, the kind of connection, versions and
//! features) and the direction, so it can be neither replayed into another session nor sent back
//! to whoever made it, and nobody between the members can talk them into an older version.
//! Comparison takes the same time wherever the first difference lies. The secret is never printed.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

use super::handshake::Side;

/// Length of a proof, in bytes.
pub(crate) const PROOF_BYTES: usize = 32;

/// What the MAC begins with, so that the same secret used elsewhere never yields a proof here.
const LABEL: &[u8] = b"understudy peer proof 1\0";

/// The cluster's shared secret.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

/// Why bytes are no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SecretError {
    /// An empty secret would be the same as none, without anyone noticing.
    #[error("the cluster secret is empty: write at least one random line into secret_file")]
    Empty,
}

impl Secret {
    /// A secret of these bytes, as they are (the caller strips a file's final newline).
    ///
    /// # Errors
    /// [`SecretError::Empty`].
    pub fn new(bytes: &[u8]) -> Result<Secret, SecretError> {
        if bytes.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Secret(bytes.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The two `Hello` bodies of a connection, as they went over the wire.
pub(crate) struct Transcript<'a> {
    pub(crate) initiator: &'a [u8],
    pub(crate) responder: &'a [u8],
}

/// The proof that `prover` knows `secret`. Without a secret (loopback only) the key is empty and
/// the exchange the same.
pub(crate) fn prove(
    secret: Option<&Secret>,
    prover: Side,
    transcript: &Transcript<'_>,
) -> [u8; PROOF_BYTES] {
    mac(secret, prover, transcript)
        .finalize()
        .into_bytes()
        .into()
}

/// Whether `proof` is what [`prove`] makes of the same arguments; in constant time.
pub(crate) fn verify(
    secret: Option<&Secret>,
    prover: Side,
    transcript: &Transcript<'_>,
    proof: &[u8],
) -> bool {
    mac(secret, prover, transcript).verify_slice(proof).is_ok()
}

fn mac(secret: Option<&Secret>, prover: Side, transcript: &Transcript<'_>) -> Hmac<Sha256> {
    let key = secret.map_or(&[][..], |secret| &secret.0);
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(LABEL);
    mac.update(&[match prover {
        Side::Initiator => b'I',
        Side::Responder => b'R',
    }]);
    for hello in [transcript.initiator, transcript.responder] {
        // Lengths first, so that no two transcripts concatenate to the same bytes.
        mac.update(&(hello.len() as u64).to_le_bytes());
        mac.update(hello);
    }
    mac
}
