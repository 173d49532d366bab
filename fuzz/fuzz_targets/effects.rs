//! Any payload: refused without a change, or applied, with one encoding, and again without a change.

#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::keyspace::{Effects, HashSeed, Keyspace};
use understudy::units::Lsn;

fuzz_target!(|payload: &[u8]| {
    let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
    match Effects::decode(payload) {
        Err(error) => {
            assert_eq!(keyspace.apply_encoded(payload, Lsn(1)), Err(error));
            assert!(keyspace.is_empty());
        }
        Ok(effects) => {
            let mut again = Effects::new();
            effects.iter().for_each(|effect| again.push(effect));
            assert_eq!(again.encoded(), payload);
            keyspace.apply(&effects, Lsn(1));
            let once = (keyspace.len(), keyspace.digest(), keyspace.used_bytes());
            assert_eq!(keyspace.apply_encoded(payload, Lsn(1)), Ok(()));
            assert_eq!(
                (keyspace.len(), keyspace.digest(), keyspace.used_bytes()),
                once
            );
        }
    }
});
