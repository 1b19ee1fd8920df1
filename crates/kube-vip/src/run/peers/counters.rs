//! What became of heartbeats, counted by the door and read by `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use vip_proto::peers::{Refused, Stale};

/// What became of a heartbeat that the node wanted to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outgoing {
    /// The kernel took it.
    Sent,
    /// The door is closed, or there is no key to seal it with.
    Unsealed,
    /// The kernel refused it.
    Failed,
}

/// What became of a datagram that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// The node got it.
    Admitted,
    /// It is no heartbeat that may come in.
    Refused(Refused),
    /// It is authentic, and for another node.
    Astray,
    /// It is authentic, and not news.
    Stale(Stale),
}

/// The reasons for which datagrams are not heard, in the order of their counters.
const REASONS: [&str; 11] = [
    "admitted",
    "length",
    "foreign",
    "version",
    "key",
    "forged",
    "malformed",
    "astray",
    "replayed",
    "too_many",
    "overflow",
];

/// Counters of the door.
#[derive(Debug, Default)]
pub(crate) struct PeerCounters {
    sent: [AtomicU64; 3],
    heard: [AtomicU64; REASONS.len()],
}

impl PeerCounters {
    /// Counts one that went out, or did not.
    pub(super) fn count_outgoing(&self, outgoing: Outgoing) {
        self.sent[outgoing as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one that arrived.
    pub(super) fn count_incoming(&self, incoming: Incoming) {
        let reason = match incoming {
            Incoming::Admitted => "admitted",
            Incoming::Refused(refused) => refused.reason(),
            Incoming::Astray => "astray",
            Incoming::Stale(Stale::Replayed) => "replayed",
            Incoming::Stale(Stale::TooMany) => "too_many",
        };
        self.add(reason, 1);
    }

    /// Counts what the kernel dropped because the socket was full.
    pub(super) fn count_overflow(&self, count: u32) {
        self.add("overflow", u64::from(count));
    }

    fn add(&self, reason: &str, count: u64) {
        let at = REASONS.iter().position(|known| *known == reason).expect("every reason has its counter");
        self.heard[at].fetch_add(count, Ordering::Relaxed);
    }

    /// What was to be sent, by outcome.
    pub(crate) fn sent(&self) -> [(&'static str, u64); 3] {
        let at = |outgoing: Outgoing| self.sent[outgoing as usize].load(Ordering::Relaxed);
        [("sent", at(Outgoing::Sent)), ("unsealed", at(Outgoing::Unsealed)), ("failed", at(Outgoing::Failed))]
    }

    /// What arrived, by outcome.
    pub(crate) fn heard(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.into_iter().zip(self.heard.iter().map(|counter| counter.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use vip_model::peers::KeyId;

    use super::*;

    #[test]
    fn every_outcome_has_a_counter_of_its_own() {
        let counters = PeerCounters::default();
        let refused = [
            Refused::Length(1),
            Refused::Foreign,
            Refused::Version(2),
            Refused::Key(KeyId(1)),
            Refused::Forged,
            Refused::Malformed("x"),
        ];
        let others = [Incoming::Admitted, Incoming::Astray].into_iter();
        let stale = [Stale::Replayed, Stale::TooMany].map(Incoming::Stale);
        others
            .chain(refused.map(Incoming::Refused))
            .chain(stale)
            .for_each(|one| counters.count_incoming(one));
        counters.count_overflow(1);
        assert!(counters.heard().all(|(_, count)| count == 1), "{:?}", counters.heard().collect::<Vec<_>>());
        for outgoing in [Outgoing::Sent, Outgoing::Unsealed, Outgoing::Failed] {
            counters.count_outgoing(outgoing);
        }
        assert!(counters.sent().iter().all(|(_, count)| *count == 1));
    }
}
