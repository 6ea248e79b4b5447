//! How all nodes of a shard stand, told at once: what a fleet is watched by.

use crate::io::UdpCounters;
use crate::node::Node;
use crate::view::{MemberStatus, SwimState};
use crate::wire::LamportTime;

/// All nodes of one shard.
#[derive(Clone, Debug, Default)]
pub struct ShardCensus {
    /// Its nodes that run, in the order they were added.
    pub nodes: Vec<NodeCensus>,
    /// What its data plane counted.
    pub udp: UdpCounters,
}

/// One node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NodeCensus {
    /// Members that it knows as alive, itself included.
    pub alive: usize,
    /// Members that it accuses of not answering.
    pub suspect: usize,
    /// Members that it lists as failed.
    pub failed: usize,
    /// Its event clock: one more than the time of the newest user event that it has seen.
    pub event_time: LamportTime,
    /// Datagrams received and sent.
    pub datagrams: (u64, u64),
    /// Bytes of these datagrams.
    pub datagram_bytes: (u64, u64),
    /// Inputs refused.
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
