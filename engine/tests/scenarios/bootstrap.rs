//! Many that join at once: each through one that joined before it, as a fleet that starts does.

use thane_engine::random::Random;

use super::*;

const NODES: u32 = 60;

/// Nodes that joined within a third of a second, and the time when they began.
fn fleet(seed: u64) -> (World, Vec<NodeId>) {
    let (mut world, mut random) = (World::new(seed, Network::default()), Random::new(seed));
    let ids: Vec<NodeId> = (0..NODES).map(|_| world.add(|_| {})).collect();
    for (before, &id) in (1..).zip(&ids[1..]) {
        let through = target(&world, ids[random.below(before) as usize]);
        world.with(id, |node, ctx| node.join(ctx, Ticket(1), vec![through], true)).unwrap();
        world.run(Duration::from_millis(5));
    }
    (world, ids)
}

#[test]
fn all_see_all_within_two_seconds_and_gossip_is_quiet_soon() {
    for seed in 0..5 {
        let (mut world, ids) = fleet(seed);
        let all = names(&ids);
        let took = world.run_until(2 * SECOND, |world| world.all_hold(&ids, &all, SwimState::Alive));
        assert!(took.is_some(), "seed {seed}");
        world.run(5 * SECOND);
        let sent = |world: &World| -> u64 {
            ids.iter().map(|&id| world.node(id).unwrap().stats().datagrams_sent).sum()
        };
        let before = sent(&world);
        world.run(10 * SECOND);
        // A probe and an answer to one a second, and hardly anything else; Serf's rate of gossip would be 15.
        let rate = (sent(&world) - before) / u64::from(10 * NODES);
        assert!(rate <= 4, "seed {seed}: {rate} datagrams a second and node");
    }
}

#[test]
fn a_late_joiner_is_known_to_all_by_gossip_before_any_exchange() {
    let (mut world, mut ids) = fleet(7);
    world.run(60 * SECOND);
    let late = world.add(|_| {});
    let through = target(&world, ids[11]);
    world.with(late, |node, ctx| node.join(ctx, Ticket(1), vec![through], true)).unwrap();
    ids.push(late);
    let took = world.run_until(3 * SECOND, |world| world.all_hold(&ids, &names(&[late]), SwimState::Alive));
    assert!(took.is_some());
}
