//! Counts of all nodes of a shard, read in one request: what the load generator watches a fleet by.

use crate::io::UdpCounters;
use crate::node::Node;
use crate::view::{MemberStatus, SwimState};
use crate::wire::LamportTime;

/// Counts of all nodes of one shard.
#[derive(Clone, Debug, Default)]
pub struct ShardCensus {
    /// The running nodes, in the order in which they were added.
    pub nodes: Vec<NodeCensus>,
    /// The counters of the shard's data plane.
    pub udp: UdpCounters,
}

/// Counts of one node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NodeCensus {
    /// Members that it lists as alive in SWIM, itself included.
    pub alive: usize,
    /// Members that it suspects.
    pub suspect: usize,
    /// Members that it lists as failed.
    pub failed: usize,
    /// Its event clock: one more than the time of the newest user event that it has seen.
    pub event_time: LamportTime,
    /// Datagrams received and sent.
    pub datagrams: (u64, u64),
    /// Bytes of these datagrams, received and sent, without UDP and IP headers.
    pub datagram_bytes: (u64, u64),
    /// Refused inputs.
    pub drops: u64,
}

impl NodeCensus {
    pub(crate) fn of(node: &Node) -> NodeCensus {
        let (view, stats) = (node.view(), node.stats());
        NodeCensus {
            alive: view.swim_count(SwimState::Alive),
            suspect: view.swim_count(SwimState::Suspect),
            failed: view.status_count(MemberStatus::Failed),
            event_time: node.clocks()[1],
            datagrams: (stats.datagrams_received, stats.datagrams_sent),
            datagram_bytes: (stats.bytes_received, stats.bytes_sent),
            drops: stats.all_drops().map(|(_, count)| count).sum(),
        }
    }
}
