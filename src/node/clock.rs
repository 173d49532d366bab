//! The machine's own clocks, and its chance: what a real host reads.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::units::{Micros, Millis};

/// `CLOCK_BOOTTIME`: goes on while the machine is suspended, never jumps (R12).
pub fn boot_time() -> Micros {
    let now = clock_gettime(ClockId::Boottime);
    Micros(now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000)
}

/// Wall-clock.
pub fn wall() -> Millis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Millis(since.as_millis() as u64)
}

/// The host's boot id (R14); zero where the system does not tell, which counts as always the same.
pub fn boot_id() -> u128 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0)
}

/// A random number from the operating system.
///
/// # Panics
/// Where the operating system has none to give; nothing here could be trusted then.
pub fn draw() -> u64 {
    getrandom::u64().expect("the operating system gives random numbers")
}
