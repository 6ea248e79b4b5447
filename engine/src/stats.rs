//! Counters of one Node.

use crate::drop_reason::DropReason;

/// Counters of one Node since it started.
#[derive(Clone, Debug)]
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
            push_pulls: 0,
            reconciliations: 0,
            records_received: 0,
            referrals: 0,
            refutations: 0,
            broadcasts_new: 0,
            broadcasts_repeated: 0,
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
