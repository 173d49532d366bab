//! Loopback ports that stay ours while a node is down.
//!
//! A killed node's port must still be free when it is started again, and tests run in parallel. So
//! a port is taken from *below* the kernel's ephemeral range (no outgoing connection is ever given
//! it) and reserved by holding its UDP twin: UDP and TCP ports are separate spaces, a node uses
//! only TCP, and the kernel gives the UDP socket back however this process ends.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;

use thiserror::Error;

/// Below this live well-known services and understudy's own default ports.
const LOWEST: u16 = 10_000;

/// Why no port could be reserved.
#[derive(Debug, Error)]
pub enum PortError {
    /// All are taken.
    #[error("no free loopback port in {0:?}; stop some local services")]
    NoneFree(Range<u16>),
    /// The system refused randomness.
    #[error("no randomness to choose a port: {0}")]
    NoRandomness(getrandom::Error),
}

/// A TCP port of 127.0.0.1 that no other [`Reservation`] of this host holds.
#[derive(Debug)]
pub struct Reservation {
    address: SocketAddr,
    _twin: UdpSocket,
}

impl Reservation {
    /// Reserves a free port, searching from a random start so that parallel callers rarely meet.
    pub fn take() -> Result<Reservation, PortError> {
        let range = below_ephemeral(&read_ephemeral_range());
        let width = u32::from(range.end - range.start);
        let start = getrandom::u32().map_err(PortError::NoRandomness)? % width;
        (0..width)
            .map(|step| range.start + ((start + step) % width) as u16)
            .find_map(Reservation::try_port)
            .ok_or(PortError::NoneFree(range))
    }

    /// The address, always on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn try_port(port: u16) -> Option<Reservation> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // The twin first: it decides between two searches at the same port.
        let twin = UdpSocket::bind(address).ok()?;
        let _probe = TcpListener::bind(address).ok()?;
        Some(Reservation {
            address,
            _twin: twin,
        })
    }
}

fn read_ephemeral_range() -> String {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default()
}

/// The ports to choose from, given the kernel's `low<tab>high`. An unreadable or unusual range
/// falls back to what lies below Linux's default of 32768.
fn below_ephemeral(kernel: &str) -> Range<u16> {
    let low = kernel
        .split_whitespace()
        .next()
        .and_then(|low| low.parse().ok())
        .unwrap_or(32_768);
    if low > LOWEST + 1_000 {
        LOWEST..low
    } else {
        LOWEST..32_768
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_lie_below_the_ephemeral_range() {
        assert_eq!(below_ephemeral("32768\t60999\n"), 10_000..32_768);
        assert_eq!(below_ephemeral("20000 60999"), 10_000..20_000);
        assert_eq!(below_ephemeral("1024 65535"), 10_000..32_768);
        assert_eq!(below_ephemeral(""), 10_000..32_768);
    }

    #[test]
    fn a_reserved_port_is_bindable_but_never_reserved_twice() {
        let held: Vec<Reservation> = (0..50)
            .map(|_| Reservation::take().expect("50 ports are free"))
            .collect();
        let mut ports: Vec<u16> = held.iter().map(|held| held.address().port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
        for reservation in &held {
            let address = reservation.address();
            assert!(
                Reservation::try_port(address.port()).is_none(),
                "{address} was given twice"
            );
            TcpListener::bind(address).expect("the node itself can bind its reserved port");
        }
    }
}
