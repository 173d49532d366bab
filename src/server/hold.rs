//! Replies that wait: in order, each with what it depends on.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::time::Instant;

use super::receipt::Durability;
use crate::node::{Copies, Gate};
use crate::resp::{Reply, Version};
use crate::units::{Epoch, Lsn, Micros};

/// A reply under a reign.
#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: usize,
    /// What must be shown first, and the reign that executed it; `None`: depends on nothing.
    wait: Option<(Epoch, Lsn)>,
    wrote: bool,
    /// Copies to wait for besides.
    durability: Option<Durability>,
    since: Instant,
    version: Version,
}

impl Held {
    fn receipt_until(&self) -> Option<Instant> {
        self.durability.and_then(|asked| asked.until(self.since))
    }
}

/// What became of the replies at the front.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Let {
    /// Longest wait of a write that was let go.
    pub(super) longest: Option<Duration>,
    /// Writes answered with -UNCONFIRMED.
    pub(super) unconfirmed: u64,
    /// What was answered in a reply's place.
    pub(super) errors: Vec<&'static str>,
}

/// One connection's replies that may not go out yet.
#[derive(Debug, Default)]
pub(super) struct Hold {
    queue: VecDeque<Held>,
    encoded: BytesMut,
}

impl Hold {
    pub(super) fn push(
        &mut self,
        reply: &Reply,
        version: Version,
        wait: Option<(Epoch, Lsn)>,
        wrote: bool,
        durability: Option<Durability>,
        now: Instant,
    ) {
        let before = self.encoded.len();
        reply.encode(version, &mut self.encoded);
        let bytes = self.encoded.len() - before;
        self.queue.push_back(Held {
            bytes,
            wait,
            wrote,
            durability,
            since: now,
            version,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.encoded.len()
    }

    /// What the reply at the front depends on.
    pub(super) fn front(&self) -> Option<(Epoch, Lsn)> {
        self.queue.front()?.wait
    }

    /// The copies that the reply at the front waits for besides.
    pub(super) fn front_copies(&self) -> Option<Copies> {
        Some(self.queue.front()?.durability?.copies)
    }

    /// When the reply at the front has waited too long.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Instant> {
        let front = self.queue.front()?;
        let rule = front.since + patience;
        match front.durability {
            // The rule may be met by then.
            Some(_) if rule <= Instant::now() => front.receipt_until(),
            Some(_) => front.receipt_until().map(|until| until.min(rule)),
            None => Some(rule),
        }
    }

    /// Moves to `out` what may go now (R18: judged at this moment, not when it was executed), and
    /// turns into errors what never will.
    pub(super) fn let_go(
        &mut self,
        gate: &Gate,
        clock: Micros,
        patience: Duration,
        copied: impl Fn(Lsn, Copies) -> bool,
        out: &mut BytesMut,
    ) -> Let {
        let mut done = Let::default();
        let now = Instant::now();
        let mut going = 0;
        while let Some(held) = self.queue.front().copied() {
            let verdict = match judge(&held, gate, clock, now, patience) {
                Verdict::Go => judge_receipt(&held, gate, now, &copied),
                verdict => verdict,
            };
            match verdict {
                Verdict::Wait => break,
                Verdict::Go => {
                    going += held.bytes;
                    if held.wrote {
                        let waited = now.duration_since(held.since);
                        done.longest = Some(done.longest.map_or(waited, |l| l.max(waited)));
                    }
                }
                Verdict::Never(text) => {
                    self.hand_over(std::mem::take(&mut going), out);
                    self.encoded.advance(held.bytes);
                    Reply::error(text).encode(held.version, out);
                    done.unconfirmed += u64::from(held.wrote);
                    done.errors.push(text);
                }
            }
            self.queue.pop_front();
        }
        self.hand_over(going, out);
        done
    }

    /// All at once where nothing stays behind, without copying.
    fn hand_over(&mut self, bytes: usize, out: &mut BytesMut) {
        if out.is_empty() && bytes == self.encoded.len() {
            std::mem::swap(&mut self.encoded, out);
            return;
        }
        out.extend_from_slice(self.encoded.get(..bytes).unwrap_or_default());
        self.encoded.advance(bytes);
    }
}

enum Verdict {
    Go,
    Wait,
    Never(&'static str),
}

fn judge(held: &Held, gate: &Gate, clock: Micros, now: Instant, patience: Duration) -> Verdict {
    let Some((epoch, lsn)) = held.wait else {
        return Verdict::Go;
    };
    // A reign that was handed over: all of it was released under live leases before it ended, and
    // the successor began with it. What was executed then was true then.
    if gate
        .settled
        .is_some_and(|(reign, last)| reign == epoch && lsn <= last)
    {
        return Verdict::Go;
    }
    if !gate.is_primary() || gate.epoch != epoch {
        return Verdict::Never(if held.wrote {
            "UNCONFIRMED this node stepped down before the write was confirmed; it may still take \
             effect"
        } else {
            "MASTERDOWN this node stepped down before what was read was known to be safe; ask the \
             primary"
        });
    }
    if lsn <= gate.shown && clock < gate.lease_until {
        return Verdict::Go;
    }
    if now.duration_since(held.since) < patience {
        return Verdict::Wait;
    }
    Verdict::Never(if held.wrote {
        "UNCONFIRMED not enough copies confirmed the write in time; it may still take effect"
    } else {
        "CLUSTERDOWN what was read was not confirmed by enough copies in time"
    })
}

/// Whether a write that the rule has released has the copies that its connection asked for.
fn judge_receipt(
    held: &Held,
    gate: &Gate,
    now: Instant,
    copied: impl Fn(Lsn, Copies) -> bool,
) -> Verdict {
    let (Some(durability), Some((epoch, lsn))) = (held.durability, held.wait) else {
        return Verdict::Go;
    };
    if !gate.is_primary() || gate.epoch != epoch {
        return Verdict::Never(
            "UNCONFIRMED the write is done, but this node stepped down before the copies asked for by \
             CLIENT DURABILITY were confirmed",
        );
    }
    if copied(lsn, durability.copies) {
        return Verdict::Go;
    }
    match held.receipt_until() {
        Some(until) if until <= now => Verdict::Never(
            "UNCONFIRMED the write is done, but the copies asked for by CLIENT DURABILITY were not \
             confirmed in time",
        ),
        _ => Verdict::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Serves;

    fn gate(serves: Serves, epoch: u64, shown: u64, lease: u64) -> Gate {
        Gate {
            serves,
            epoch: Epoch(epoch),
            lease_until: Micros(lease),
            shown: Lsn(shown),
            released: Lsn(shown),
            lag: None,
            primary: None,
            suspected: false,
            following: None,
            incomplete: false,
            cluster: 1,
            incarnation: 1,
            settled: None,
            stopping: false,
        }
    }

    /// A write at LSN 5, then a read that depends on nothing.
    fn held() -> Hold {
        let mut hold = Hold::default();
        let now = Instant::now();
        hold.push(
            &Reply::OK,
            Version::Resp2,
            Some((Epoch(3), Lsn(5))),
            true,
            None,
            now,
        );
        hold.push(
            &Reply::Integer(7),
            Version::Resp2,
            Some((Epoch(3), Lsn::ZERO)),
            false,
            None,
            now,
        );
        hold
    }

    fn outcome(gate: &Gate, clock: u64, patience: u64) -> (String, usize) {
        let (mut hold, mut out) = (held(), BytesMut::new());
        let patience = Duration::from_secs(patience);
        hold.let_go(gate, Micros(clock), patience, |_, _| false, &mut out);
        (String::from_utf8_lossy(&out).into_owned(), hold.len())
    }

    #[test]
    fn replies_wait_in_order_for_release_and_lease() {
        let waiting = (String::new(), 2);
        assert_eq!(
            outcome(&gate(Serves::Primary, 3, 4, 100), 50, 9),
            waiting,
            "not released"
        );
        assert_eq!(
            outcome(&gate(Serves::Primary, 3, 5, 100), 100, 9),
            waiting,
            "no lease"
        );
        let both = ("+OK\r\n:7\r\n".to_string(), 0);
        assert_eq!(outcome(&gate(Serves::Primary, 3, 5, 100), 99, 9), both);
    }

    #[test]
    fn a_deposed_primary_answers_unconfirmed_and_shows_nothing() {
        for now in [
            gate(Serves::Standby, 3, 9, 100),
            gate(Serves::Primary, 4, 9, 100),
        ] {
            let (out, left) = outcome(&now, 50, 9);
            assert!(out.starts_with("-UNCONFIRMED "), "{out}");
            assert!(out.contains("\r\n-MASTERDOWN "), "{out}");
            assert_eq!(left, 0);
        }
    }

    #[test]
    fn what_a_handed_over_reign_released_is_still_answered() {
        let mut now = gate(Serves::Standby, 4, 9, 0);
        now.settled = Some((Epoch(3), Lsn(5)));
        assert_eq!(outcome(&now, 50, 9), ("+OK\r\n:7\r\n".to_string(), 0));
        now.settled = Some((Epoch(3), Lsn(4)));
        assert!(outcome(&now, 50, 9).0.starts_with("-UNCONFIRMED "));
    }

    #[test]
    fn patience_ends() {
        let (out, left) = outcome(&gate(Serves::Primary, 3, 4, 100), 50, 0);
        assert!(
            out.starts_with("-UNCONFIRMED ") && out.ends_with(":7\r\n"),
            "{out}"
        );
        assert_eq!(left, 0);
    }
}
