//! Counters of one Node.

use std::time::Duration;

use crate::drop_reason::DropReason;

/// Durations counted by length. Of constant size, and cheap enough for the path of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    counts: [u64; DURATION_BOUNDS.len() + 1],
    total: Duration,
}

/// Upper bounds of the classes of [`Durations`], included; the last class has none.
pub const DURATION_BOUNDS: [Duration; 14] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

impl Durations {
    /// Counts one.
    pub fn add(&mut self, duration: Duration) {
        let class = DURATION_BOUNDS.iter().position(|bound| duration <= *bound);
        self.counts[class.unwrap_or(DURATION_BOUNDS.len())] += 1;
        self.total = self.total.saturating_add(duration);
    }

    /// How many there were of each class: of those up to the first bound, of those above it up to the second, and so on.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// All of them added up.
    pub fn total(&self) -> Duration {
        self.total
    }
}

/// Counters of one Node since it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    drops: [u64; DropReason::COUNT],
    /// Datagrams received, refused ones included.
    pub datagrams_received: u64,
    /// Bytes of the datagrams received.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of the datagrams sent.
    pub bytes_sent: u64,
    /// Probes started.
    pub probes: u64,
    /// Probes that ended in a suspicion.
    pub probes_failed: u64,
    /// Time from the ping of a probe to its ack, of probes that ended with an ack, those that other members passed on
    /// included.
    pub probe_round_trips: Durations,
    /// Push/pulls merged.
    pub push_pulls: u64,
    /// Exchanges with other Thane nodes that this node started because their digests differed.
    pub reconciliations: u64,
    /// Records of members and messages that came by reconciliation.
    pub records_received: u64,
    /// Answers to joins that named a few members only, because too many joined at once.
    pub referrals: u64,
    /// Times this node had to refute.
    pub refutations: u64,
    /// Broadcasts that this node saw for the first time, those that it sent itself included.
    pub broadcasts_new: u64,
    /// Broadcasts in received datagrams that this node had seen before. Divided by
    /// [`broadcasts_new`](Self::broadcasts_new): needless copies of each.
    pub broadcasts_repeated: u64,
    /// What memberlist and Serf count and the fields above do not.
    pub serfs: SerfsCounters,
}

/// Counters that Serf's agent sends to statsd, by Serf's rules: each message about a member counts once it was
/// believed and said something new.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct SerfsCounters {
    /// Members that became known, came back, or changed; this node included.
    pub alive: u64,
    /// Members that became suspected.
    pub suspect: u64,
    /// Members that became dead or left.
    pub dead: u64,
    /// Rounds of probing that were longer than configured because this node's health was doubted.
    pub probes_degraded: u64,
    /// Suspicions that ran out before as many members as wanted confirmed them.
    pub timeouts_degraded: u64,
    /// Streams that others opened.
    pub streams_accepted: u64,
    /// Push/pulls that this node began.
    pub streams_connected: u64,
    /// Bytes written to streams.
    pub stream_bytes_sent: u64,
    /// Length of the last state that was sent by push/pull, bytes.
    pub state_bytes: u64,
    /// Acks and answers to this node's queries, its own included.
    pub query_acks: u64,
    /// See [`query_acks`](Self::query_acks).
    pub query_responses: u64,
    /// The same that came again.
    pub query_acks_repeated: u64,
    /// See [`query_acks_repeated`](Self::query_acks_repeated).
    pub query_responses_repeated: u64,
    /// Members that came back within a minute of their failure.
    pub flaps: u64,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            drops: [0; DropReason::COUNT],
            datagrams_received: 0,
            bytes_received: 0,
            datagrams_sent: 0,
            bytes_sent: 0,
            probes: 0,
            probes_failed: 0,
            probe_round_trips: Durations::default(),
            push_pulls: 0,
            reconciliations: 0,
            records_received: 0,
            referrals: 0,
            refutations: 0,
            broadcasts_new: 0,
            broadcasts_repeated: 0,
            serfs: SerfsCounters::default(),
        }
    }
}

impl Stats {
    /// Counts one refused input.
    pub fn count_drop(&mut self, reason: impl Into<DropReason>) {
        self.drops[reason.into().number()] += 1;
    }

    /// How often input was refused for that reason.
    pub fn drops(&self, reason: impl Into<DropReason>) -> u64 {
        self.drops[reason.into().number()]
    }

    /// All reasons that occurred, with their counts.
    pub fn all_drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::all().map(|reason| (reason, self.drops(reason))).filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_class_whose_bound_it_does_not_exceed() {
        let mut durations = Durations::default();
        let [ms, minute] = [Duration::from_millis(1), Duration::from_secs(60)];
        for duration in [Duration::ZERO, ms, ms + Duration::from_nanos(1), minute] {
            durations.add(duration);
        }
        assert!(DURATION_BOUNDS.is_sorted());
        let class = |bound| DURATION_BOUNDS.iter().position(|known| *known == bound);
        let at = class(ms).unwrap_or_default();
        assert_eq!(durations.counts()[0], 1);
        assert_eq!(durations.counts()[at..=at + 1], [1, 1]);
        assert_eq!(durations.counts()[DURATION_BOUNDS.len()], 1);
        assert_eq!(durations.total(), minute + ms * 2 + Duration::from_nanos(1));
    }
}
