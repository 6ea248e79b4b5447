//! Which nodes may talk to each other: allowed networks, labels, and a cluster that moves to encryption step by
//! step.

use bytes::Bytes;
use thane_engine::drop_reason::DropReason;
use thane_engine::event::Event;

use super::*;

#[test]
fn members_outside_the_allowed_networks_are_not_taken() {
    let mut world = World::new(101, Network::default());
    let picky = world.add(|raw| raw.cidrs_allowed = vec!["127.0.0.0/24".parse().unwrap()]);
    let inside = world.add(|_| {});
    let outside = world.add(|raw| raw.advertise.set_ip([127, 0, 1, 9].into()));
    for id in [inside, outside] {
        let seed = target(&world, picky);
        world.with(id, |node, ctx| node.join(ctx, Ticket(1), vec![seed], true)).unwrap();
        world.run(5 * SECOND);
    }
    world.run(60 * SECOND);
    assert_eq!(world.status(picky, "n2"), MemberStatus::Alive);
    assert_eq!(world.status(picky, "n3"), MemberStatus::None);
    assert_eq!(world.status(inside, "n3"), MemberStatus::Alive, "who allows all hears of it");
    assert!(world.node(picky).unwrap().stats().drops(DropReason::AddressNotAllowed) > 0);
}

fn plain(_: &mut RawConfig) {}

fn keys(raw: &mut RawConfig) {
    raw.keys = vec![vec![7; 32]];
    (raw.gossip_verify_incoming, raw.gossip_verify_outgoing) = (false, false);
}

fn seals(raw: &mut RawConfig) {
    keys(raw);
    raw.gossip_verify_outgoing = true;
}

fn strict(raw: &mut RawConfig) {
    seals(raw);
    raw.gossip_verify_incoming = true;
}

/// Whether two nodes of these settings join and hear each other's events by gossip.
fn understand(settings: [fn(&mut RawConfig); 2], label: &[u8]) -> bool {
    let mut world = World::new(102, Network::default());
    let ids = settings.map(|change| {
        world.add(|raw| {
            change(raw);
            raw.label = label.to_vec();
        })
    });
    let seed = target(&world, ids[0]);
    world.with(ids[1], |node, ctx| node.join(ctx, Ticket(1), vec![seed], true)).unwrap();
    world.run(2 * SECOND);
    for (id, name) in ids.into_iter().zip(["one", "two"]) {
        world.with(id, |node, ctx| node.user_event(ctx, name, &Bytes::new(), false)).unwrap();
    }
    // Before the next push/pull could carry them.
    world.run(2 * SECOND);
    let heard = |id: NodeId, wanted: &str| {
        let fits = |(at, event): &(NodeId, Event)| {
            *at == id && matches!(event, Event::User { name, .. } if name == wanted)
        };
        world.events().iter().any(fits)
    };
    heard(ids[0], "two") && heard(ids[1], "one")
}

#[test]
fn a_cluster_moves_to_encryption_step_by_step() {
    type Step = fn(&mut RawConfig);
    let steps: [Step; 4] = [plain, keys, seals, strict];
    for label in [&b""[..], b"blue"] {
        for (place, &step) in steps.iter().enumerate() {
            assert!(understand([step, step], label), "step {place}");
            if let Some(&next) = steps.get(place + 1) {
                assert!(understand([step, next], label), "from step {place} to the next");
                assert!(understand([next, step], label), "the next of step {place} is there already");
            }
        }
        // Skipping a step is what the steps are for.
        assert!(!understand([plain, seals], label));
        assert!(!understand([keys, strict], label));
    }
}

#[test]
fn protocols_2_to_5_live_together() {
    let mut world = World::new(103, Network::default());
    let tags = || [("role", "web"), ("zone", "a")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let ids: Vec<NodeId> = (2..=5)
        .map(|protocol| {
            world.add(|raw| {
                raw.protocol = protocol;
                raw.tags = tags();
            })
        })
        .collect();
    for &id in &ids[1..] {
        let seed = target(&world, ids[0]);
        world.with(id, |node, ctx| node.join(ctx, Ticket(1), vec![seed], true)).unwrap();
        world.run(SECOND);
    }
    let all = names(&ids);
    let everybody = |w: &World| all.iter().all(|name| status_everywhere(w, &ids, name, MemberStatus::Alive));
    world.run_until(60 * SECOND, everybody).expect("all see all");
    let members = world.with(ids[3], |node, ctx| node.members(ctx));
    let shown: Vec<(u8, usize)> =
        members.iter().map(|member| (member.versions.delegate_cur(), member.tags.len())).collect();
    assert_eq!(shown, [(2, 1), (3, 2), (4, 2), (5, 2)], "protocol 2 has no tags but the role");
    assert_eq!(members[0].tags["role"], "web");
    world.with(ids[0], |node, ctx| node.user_event(ctx, "deploy", &Bytes::new(), false)).unwrap();
    let heard = |w: &World| {
        let has = |id: &NodeId| {
            w.events().iter().any(|(at, event)| at == id && matches!(event, Event::User { .. }))
        };
        ids.iter().all(has)
    };
    world.run_until(10 * SECOND, heard).expect("events go through all of them");
}
