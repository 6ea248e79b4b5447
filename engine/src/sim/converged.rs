//! Clusters that are there from the start: every node knows every other, nothing is queued, no join was
//! simulated. For measurements that don't ask about the bootstrap.

use crate::config::RawConfig;
use crate::context::NodeId;
use crate::sim::{Network, World};
use crate::time::Time;
use crate::view::{MemberStatus, SwimState, View};
use crate::wire::LamportTime;

impl World {
    /// A world of `n` nodes that all know each other, as after a join that settled long ago.
    pub fn converged(seed: u64, network: Network, n: u32, mut change: impl FnMut(&mut RawConfig)) -> World {
        let mut world = World::new(seed, network);
        let mut template = View::default();
        for number in 1..=n {
            let config = world.next_config(&mut change);
            let id = world.seat(config);
            let node = world.nodes[id.0 as usize].as_mut().expect("it was just seated");
            let fact = node.start_settled(&mut world.ctx, n as usize);
            let member = template.set_fact(&mut world.ctx.roster, fact);
            template.set_swim(&world.ctx.roster, member, SwimState::Alive, Time::ZERO);
            template.set_status(&world.ctx.roster, member, MemberStatus::Alive, Time::ZERO);
            // One joined after the other, each at another Lamport time: every push/pull carries these times.
            template.set_status_ltime(&world.ctx.roster, member, LamportTime(u64::from(number)));
        }
        for node in world.nodes.iter_mut().flatten() {
            node.know_from_the_start(&mut world.ctx, &template, LamportTime(u64::from(n)));
        }
        // What nodes announced while they started is no news.
        let out = &mut world.ctx.out;
        out.events.clear();
        out.notices.clear();
        out.records.clear();
        template.clear(&mut world.ctx.roster);
        world
    }

    /// Takes other members out of each node's view, that share of them chosen from the seed, as if the nodes had
    /// missed when they joined.
    pub(super) fn forget_members(&mut self, share: f64) {
        let World { ctx, nodes, .. } = self;
        for node in nodes.iter_mut().flatten() {
            let (view, me) = (&mut node.shared.view, node.shared.me);
            for _ in 0..(view.table_count() as f64 * share).round() as usize {
                if let Some(member) = view.random_member(&mut ctx.random, |member, _| member != me) {
                    view.remove(&mut ctx.roster, member);
                }
            }
        }
    }

    /// The ids of all nodes ever added.
    pub fn ids(&self) -> Vec<NodeId> {
        (0..self.nodes.len() as u32).map(NodeId).collect()
    }
}
