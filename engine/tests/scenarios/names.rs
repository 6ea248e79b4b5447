//! Two nodes with one name: the cluster votes.

use thane_engine::event::Notice;

use super::*;

/// Adds a node that calls itself `n2` and joins through n1.
fn claim(world: &mut World, ids: &[NodeId]) -> NodeId {
    let claimant = world.add(|raw| raw.node_name = "n2".to_owned());
    let seed_node = target(world, ids[0]);
    world.with(claimant, |node, ctx| node.join(ctx, Ticket(1), vec![seed_node], true)).unwrap();
    claimant
}

fn votes(world: &World, id: NodeId) -> Vec<bool> {
    let kept = |notice: &Notice| match notice {
        Notice::NameVote { kept, .. } => Some(*kept),
        _ => None,
    };
    world
        .notices()
        .iter()
        .filter(|(_, node, _)| *node == id)
        .filter_map(|(_, _, notice)| kept(notice))
        .collect()
}

#[test]
fn the_newcomer_loses_the_vote_and_ends() {
    let (mut world, ids) = cluster(95, 6, Network::default(), |_| {});
    let claimant = claim(&mut world, &ids);
    world.run_until(60 * SECOND, |w| w.node(claimant).is_none()).expect("it gives up");
    assert_eq!(votes(&world, claimant), [false]);
    world.run(60 * SECOND);
    assert!(world.node(ids[1]).is_some(), "who had the name keeps it");
    assert!(votes(&world, ids[1]).iter().all(|kept| *kept));
    assert!(status_everywhere(&world, &ids, "n2", MemberStatus::Alive));
}

#[test]
fn without_resolution_both_go_on() {
    let (mut world, ids) = cluster(96, 4, Network::default(), |_| {});
    let claimant = world.add(|raw| {
        raw.node_name = "n2".to_owned();
        raw.resolve_name_conflicts = false;
    });
    let seed_node = target(&world, ids[0]);
    world.with(claimant, |node, ctx| node.join(ctx, Ticket(1), vec![seed_node], true)).unwrap();
    world.run(60 * SECOND);
    assert!(world.node(claimant).is_some());
    let warned = |n: &Notice| matches!(n, Notice::AddressConflict { name, .. } if name == "n2");
    assert!(world.notices().iter().any(|(_, _, notice)| warned(notice)));
}
