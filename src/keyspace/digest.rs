//! The digest of one entry; a keyspace's digest is the sum of them modulo 2^64.
//!
//! A sum does not depend on order and can be updated per effect: take the old entry away, add the
//! new. xxh3 is a fixed specification, so nodes of any version and machine agree.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::entry::{Entry, Parts};

/// `xxh3(expiry as 8 bytes little-endian, seed = xxh3(value, seed = xxh3(key)))`, the expiry in
/// milliseconds since 1970, 0 for none.
pub(super) fn digest_of(parts: &Parts<'_>) -> u64 {
    let of_value = xxh3_64_with_seed(parts.value, xxh3_64(parts.key));
    xxh3_64_with_seed(&parts.expire_at_ms.to_le_bytes(), of_value)
}

pub(super) fn entry_digest(entry: &Entry) -> u64 {
    digest_of(&entry.parts())
}
