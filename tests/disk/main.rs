//! Real processes on disks that fill up, and on disks whose sync fails.
//!
//! Full disks are tmpfs in a mount namespace of the test's own, gone with its last process; failed
//! syncs are injected by `strace`. Where one of them cannot be had, the test says `SKIPPED`.

#[path = "../common/mod.rs"]
mod common;
mod failed_sync;
mod full;
