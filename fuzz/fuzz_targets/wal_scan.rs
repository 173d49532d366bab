//! Any bytes as the records of a segment: never a panic, and what is taken is really the chain.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::wal::{ChainPoint, scan};

fuzz_target!(|bytes: &[u8]| {
    for sealed in [false, true] {
        let mut taken = 0;
        let found = scan(ChainPoint::default(), bytes, sealed, |record| {
            assert_eq!(record.lsn.0, taken + 1);
            taken += 1;
        });
        assert_eq!(found.end.lsn.0, taken);
        assert!(found.good_bytes <= bytes.len());
    }
});
