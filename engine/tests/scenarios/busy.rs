//! Busy queues: bounded, fair between classes, and no obstacle to a leave.

use bytes::Bytes;
use thane_engine::drop_reason::DropReason;
use thane_engine::event::Event;
use thane_engine::wire::serf::JoinIntent;
use thane_engine::wire::{Alive, Incarnation, LamportTime};

use super::*;

/// Sends a node join intents of unknown members: all are new and passed on to all members. Their names have up
/// to three letters: where they are longer than the node's own, a leave finds room in the gaps they leave.
fn flood_with_intents(world: &mut World, id: NodeId, count: u64) {
    let from = world.node(id).unwrap().config().advertise;
    for n in 0..count {
        let name = format!("{:X}", 40 + n);
        let mut bytes = vec![8];
        JoinIntent { ltime: LamportTime(1000 + n), node: &name }.encode(&mut bytes);
        world.with(id, |node, ctx| node.handle_datagram(ctx, from, &mut bytes));
    }
}

#[test]
fn a_leave_overtakes_thousands_of_queued_messages() {
    let (mut world, ids) = cluster(98, 6, Network::default(), |_| {});
    flood_with_intents(&mut world, ids[0], 3000);
    assert!(world.node(ids[0]).unwrap().queue_depths()[0] >= 2900);
    world.with(ids[0], |node, ctx| node.leave(ctx, Ticket(1))).unwrap();
    let left = |w: &World| {
        w.node(ids[0]).unwrap().has_left() && status_everywhere(w, &ids[1..], "n1", MemberStatus::Left)
    };
    // The agent waits three seconds for a leave; the last of them is left to the network.
    world.run_until(2 * SECOND, left).expect("the own leave goes first");
    assert!(world.node(ids[0]).unwrap().queue_depths()[0] > 1000, "the queue is still long");
}

#[test]
fn a_queue_is_cut_at_its_limit_and_what_is_lost_is_counted() {
    let mut world = World::new(99, Network::default());
    let id = world.add(|raw| raw.queue_depth_max = 1000);
    for n in 0..1500 {
        let name = format!("event{n}");
        world.with(id, |node, ctx| node.user_event(ctx, &name, &Bytes::new(), false)).unwrap();
    }
    let node = world.node(id).unwrap();
    assert_eq!(node.queue_depths(), [0, 0, 1000]);
    assert_eq!(node.stats().drops(DropReason::QueueFull), 500);
}

#[test]
fn an_event_gets_through_a_flood_about_members() {
    let (mut world, ids) = cluster(100, 4, Network::default(), |_| {});
    for n in 0..1500u32 {
        let name = format!("{n:0>100}");
        // Names that don't exist, where nodes do: what is gossiped to them arrives.
        let ip = [127, 0, 0, 2 + (n % 3) as u8];
        let alive = Alive {
            incarnation: Incarnation(1),
            node: &name,
            addr: ip[..].into(),
            port: 7946,
            meta: b"\xff\x80"[..].into(),
            versions: [1, 5, 2, 2, 5, 5][..].into(),
        };
        let mut bytes = Vec::new();
        alive.encode(&mut bytes);
        let from = world.node(ids[0]).unwrap().config().advertise;
        world.with(ids[0], |node, ctx| node.handle_datagram(ctx, from, &mut bytes));
    }
    // Too big for the gaps between the others.
    let big = Bytes::from(vec![b'x'; 400]);
    world.with(ids[0], |node, ctx| node.user_event(ctx, "deploy", &big, false)).unwrap();
    let heard = |w: &World| {
        let has = |id: &NodeId| {
            w.events().iter().any(|(at, event)| at == id && matches!(event, Event::User { .. }))
        };
        ids.iter().all(has)
    };
    world.run_until(5 * SECOND, heard).expect("a class does not starve");
}
