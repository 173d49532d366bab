//! Settings that contradict each other, and what a set-up can and cannot do.

use std::collections::HashSet;
use std::time::Duration;

use super::{ConfigError, Settings, wrong};
use crate::node::memory_limits::MOST_SAMPLES;
use crate::replica::{Kind, Level, MaxLag, MaxLoss, Member, Mode};
use crate::wal::Fsync;

impl Settings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for member in &self.members {
            if !seen.insert(member.member.id) {
                return wrong(format!("member {} is listed twice", member.member.id));
            }
        }
        let known: Vec<String> = self
            .members
            .iter()
            .map(|m| m.member.id.to_string())
            .collect();
        if !self.members.iter().any(|m| m.member.id == self.id) {
            return wrong(format!(
                "node {} is not a member; members: {}",
                self.id,
                known.join(", ")
            ));
        }
        let data = self
            .members
            .iter()
            .filter(|m| m.member.kind == Kind::Data && m.member.vote);
        let data = data.count() as u32;
        if data == 0 {
            return wrong("no voting data node is listed: nobody could ever be primary");
        }
        if self.mode == Mode::Sync {
            if self.fsync != Fsync::Always {
                return wrong("mode = \"sync\" needs wal.fsync = \"always\"");
            }
            if self.level == Some(Level::Received) {
                return wrong("mode = \"sync\" needs level = \"synced\" or \"applied\"");
            }
        }
        if self.level.is_some_and(|level| level >= Level::Synced) && self.fsync != Fsync::Always {
            return wrong("level = \"synced\" needs wal.fsync = \"always\"");
        }
        if self
            .copies
            .is_some_and(|copies| copies == 0 || copies > data)
        {
            return wrong(format!(
                "copies must be from 1 to {data}, the number of data nodes"
            ));
        }
        if self.threshold == 0 || self.interval.is_zero() {
            return wrong("heartbeat.threshold and heartbeat.interval must be above 0");
        }
        if self.lease < self.interval * 2 {
            return wrong("heartbeat.lease must be at least two heartbeat intervals");
        }
        // A pass over little takes no time, and the next would follow on its heels.
        if self.scrub_rest < Duration::from_secs(1) {
            return wrong(
                "limits.scrub_rest must be at least 1 s; limits.scrub_rate = 0 turns the scrub off",
            );
        }
        if self.remember_requests.is_zero() {
            return wrong("limits.remember_requests must be above 0");
        }
        if !(1..=MOST_SAMPLES).contains(&self.maxmemory_samples) {
            return wrong(format!(
                "limits.maxmemory_samples must be from 1 to {MOST_SAMPLES}; 5 is usual"
            ));
        }
        self.check_server()?;
        self.check_addresses()
    }

    fn check_server(&self) -> Result<(), ConfigError> {
        if self.slowlog_log_slower_than < -1 {
            return wrong("server.slowlog_log_slower_than: say microseconds, or -1 for none");
        }
        if self.slowlog_max_len > 100_000 {
            return wrong("server.slowlog_max_len must be at most 100000");
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        if self.segment_bytes < 1 << 16 {
            return wrong("wal.segment_size must be at least 64 KiB");
        }
        // Before anything is concluded from an address: what is none was once called "beyond
        // loopback".
        let port = |addr: &str| {
            addr.rsplit_once(':')
                .is_some_and(|(host, p)| !host.is_empty() && p.parse::<u16>().is_ok())
        };
        let own_addresses = [&self.client_addr, &self.peer_addr, &self.http_addr];
        let members = self.members.iter();
        let told = members.flat_map(|m| {
            [&m.peer_addr, &m.client_addr]
                .into_iter()
                .chain(&m.http_addr)
        });
        for addr in own_addresses.into_iter().chain(told) {
            if !port(addr) {
                return wrong(format!("\"{addr}\" is no address; say HOST:PORT"));
            }
        }
        let open = |addr: &str| !is_loopback(addr);
        let members_open = self.members.iter().any(|m| open(&m.peer_addr));
        if self.secret.is_none() && (members_open || open(&self.peer_addr)) {
            return wrong(
                "members beyond loopback need a secret: put one into a file and say \
                 cluster.secret_file",
            );
        }
        if self.secret.is_none() && open(&self.http_addr) {
            return wrong("http_addr beyond loopback needs cluster.secret_file");
        }
        Ok(())
    }

    /// Sentences for `config check` and `status`: what this set-up can and cannot do.
    pub fn notes(&self) -> Vec<String> {
        let voters: Vec<&Member> = self
            .members
            .iter()
            .map(|m| &m.member)
            .filter(|m| m.vote)
            .collect();
        let data = voters.iter().filter(|m| m.kind == Kind::Data).count();
        let all_data = self
            .members
            .iter()
            .filter(|m| m.member.kind == Kind::Data)
            .count();
        let mut notes = Vec::new();
        if self.auth.shuts_out_others() && !is_loopback(&self.client_addr) {
            notes.push(
                "Protected mode: clients from other hosts are refused, since no password is set. \
                 Say auth.requirepass_file or auth.acl_file, or auth.protected_mode = false."
                    .to_string(),
            );
        }
        if voters.len() == 1 && all_data > 1 {
            notes.push(
                "One voter: there is no automatic takeover. The first node goes on alone when \
                 others are gone; a person promotes another with `promote --force --lost ID`."
                    .to_string(),
            );
        }
        if voters.len() == 2 {
            notes.push(
                "Two voters: the loss of either stops both. Add a witness, or set vote = false on \
                 one."
                    .to_string(),
            );
        }
        if self.mode == Mode::Sync && data == 2 {
            notes.push(
                "Sync on two data nodes never writes alone: when one is gone the other serves \
                 reads, and writes wait for it."
                    .to_string(),
            );
        }
        if self.mode == Mode::Async && self.max_loss == MaxLoss::Nothing && voters.len() > 1 {
            notes.push(
                "Async with max_loss = 0 never takes over by itself: no standby can know that it \
                 has everything."
                    .to_string(),
            );
        }
        let unit = match (self.max_loss, self.max_lag) {
            (MaxLoss::Records(_), Some(MaxLag::Records(_)))
            | (MaxLoss::Bytes(_), Some(MaxLag::Bytes(_)))
            | (MaxLoss::Nothing | MaxLoss::SpanMs(_), _) => None,
            (MaxLoss::Records(_), _) => Some("records"),
            (MaxLoss::Bytes(_), _) => Some("bytes"),
        };
        if let Some(unit) = unit {
            notes.push(format!(
                "max_loss in {unit} without max_lag in {unit} always refuses: the loss is not \
                 bounded in {unit}."
            ));
        }
        if self.max_lag.is_some() && self.mode != Mode::Async {
            notes.push(format!(
                "max_lag has no effect in {} mode: it is the budget of async mode.",
                self.mode.name()
            ));
        }
        notes
    }
}

fn is_loopback(addr: &str) -> bool {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}
