//! Counts and clocks of one node.

use std::time::Duration;

use crate::node::Node;
use crate::stats::Stats;
use crate::time::Time;
use crate::view::{MemberStatus, SwimState};
use crate::wire::LamportTime;

/// Counts and clocks of one node, as `info` and metrics show them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Listed members of any status, this node included.
    pub members: usize,
    /// Members listed as failed.
    pub failed: usize,
    /// Members listed as left.
    pub left: usize,
    /// Members listed as leaving: they have announced it and still answer.
    pub leaving: usize,
    /// Members that are suspected; most of them are listed as alive.
    pub suspected: usize,
    /// Local health score: 0 is healthy, the maximum is `awareness_max_multiplier` - 1.
    pub health_score: u32,
    /// Member clock.
    pub member_time: LamportTime,
    /// Event clock.
    pub event_time: LamportTime,
    /// Query clock.
    pub query_time: LamportTime,
    /// Queued intents.
    pub intent_queue: usize,
    /// Queued user events.
    pub event_queue: usize,
    /// Queued queries.
    pub query_queue: usize,
    /// Members with queued news.
    pub member_queue: usize,
    /// How long the oldest of the queued intents, queries, user events and news about members waits; zero where nothing
    /// does.
    pub queue_ages: [Duration; 4],
    /// Whether gossip is encrypted.
    pub encrypted: bool,
    /// Refused inputs by reason, for the reasons that occurred.
    pub drops: Vec<(&'static str, u64)>,
    /// Times this node's coordinate became invalid and was reset; `None` without coordinates.
    pub coordinate_resets: Option<u64>,
    /// Events and notices that were dropped because the outlet was full.
    pub outlet_dropped: u64,
    /// Datagrams received and sent.
    pub datagrams: (u64, u64),
    /// Bytes of these datagrams, received and sent, without UDP and IP headers.
    pub datagram_bytes: (u64, u64),
    /// All that the node counts of the protocol.
    pub protocol: Stats,
}

impl NodeStats {
    pub(super) fn of(node: &Node, outlet_dropped: u64, now: Time) -> NodeStats {
        let (view, stats) = (node.view(), node.stats());
        let [member_time, event_time, query_time] = node.clocks();
        let [intent_queue, query_queue, event_queue] = node.queue_depths();
        NodeStats {
            members: view.members_count(),
            failed: view.status_count(MemberStatus::Failed),
            left: view.status_count(MemberStatus::Left),
            leaving: view.status_count(MemberStatus::Leaving),
            suspected: view.swim_count(SwimState::Suspect),
            health_score: node.health_score(),
            member_time,
            event_time,
            query_time,
            intent_queue,
            event_queue,
            query_queue,
            member_queue: node.news_depth(),
            queue_ages: node.oldest_queued().map(|at| at.map_or(Duration::ZERO, |at| now.since(at))),
            encrypted: node.encrypted(),
            coordinate_resets: node.coordinate_resets(),
            drops: stats.all_drops().map(|(reason, count)| (reason.as_str(), count)).collect(),
            outlet_dropped,
            datagrams: (stats.datagrams_received, stats.datagrams_sent),
            datagram_bytes: (stats.bytes_received, stats.bytes_sent),
            protocol: stats.clone(),
        }
    }
}
