//! What a node that crashes leaves on disk.

use crate::config::Restored;
use crate::node::Node;
use crate::sim::World;
use crate::view::MemberStatus;

/// What a node's snapshot would hold.
pub(super) fn snapshot(world: &World, node: &Node) -> Restored {
    let roster = &world.ctx.roster;
    let named = |status: MemberStatus| {
        let members = node.view().iter().filter(|(_, known)| known.status == status);
        let addr = |member| Some((roster.name(member).to_owned(), node.view().socket_addr(roster, member)?));
        members.filter_map(|(member, _)| addr(member)).collect()
    };
    let [clock, event_clock, query_clock] = node.clocks().map(|time| time.0 - 1);
    let (alive, failed) = (named(MemberStatus::Alive), named(MemberStatus::Failed));
    Restored { clock, event_clock, query_clock, lags: false, alive, failed }
}
