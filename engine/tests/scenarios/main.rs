//! Scenarios in virtual time. No test sleeps; the same seed gives the same trace.
#![allow(clippy::unwrap_used)]

mod address_forms;
mod admission;
mod busy;
mod delegates;
mod departed;
mod eager;
mod early;
mod events;
mod fast;
mod keys;
mod membership;
mod names;
mod plain;
mod probes;
mod queries;
mod reconcile;
mod restart;
mod sights;

use std::net::SocketAddr;
use std::time::Duration;

use thane_engine::command::Ticket;
use thane_engine::config::RawConfig;
use thane_engine::context::NodeId;
use thane_engine::sim::{Network, World};
use thane_engine::view::{MemberStatus, SwimState};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn names(ids: &[NodeId]) -> Vec<String> {
    ids.iter().map(|id| format!("n{}", id.0 + 1)).collect()
}

pub(crate) fn target(world: &World, id: NodeId) -> SocketAddr {
    world.node(id).unwrap().config().advertise
}

/// A cluster in which all nodes list all nodes as alive.
pub(crate) fn cluster(
    seed: u64,
    n: u32,
    network: Network,
    change: impl Fn(&mut RawConfig),
) -> (World, Vec<NodeId>) {
    let mut world = World::new(seed, network);
    let ids: Vec<NodeId> = (0..n).map(|_| world.add(&change)).collect();
    for &id in &ids[1..] {
        let seed_node = target(&world, ids[0]);
        world.with(id, |node, ctx| node.join(ctx, Ticket(1), vec![seed_node], true)).unwrap();
        world.run(Duration::from_millis(5));
    }
    let all = names(&ids);
    let took = world.run_until(120 * SECOND, |w| w.all_hold(&ids, &all, SwimState::Alive));
    assert!(took.is_some(), "full view never reached");
    (world, ids)
}

pub(crate) fn status_everywhere(world: &World, ids: &[NodeId], name: &str, status: MemberStatus) -> bool {
    ids.iter().filter(|&&id| world.node(id).is_some()).all(|&id| world.status(id, name) == status)
}
