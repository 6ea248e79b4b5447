//! A node distinguishes broadcasts that it sees for the first time from repeated ones: the dissemination policy
//! learns of both, and the counters show how many copies of each were needless.

use thane_engine::wire::message::USER;
use thane_engine::wire::serf::{JoinIntent, LeaveIntent, Query, UserEvent};
use thane_engine::wire::{Alive, Dead, Incarnation, LamportTime, Suspect};

use super::*;

fn alive(incarnation: u32) -> Vec<u8> {
    let alive = Alive {
        incarnation: Incarnation(incarnation),
        node: "other",
        addr: [127, 81, 6, 2][..].into(),
        port: 7946,
        meta: b"\xff\x80"[..].into(),
        versions: [1, 5, 2, 2, 5, 5][..].into(),
    };
    encoded(|out| alive.encode(out))
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn serf(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![USER];
    encode(&mut out);
    out
}

fn event() -> Vec<u8> {
    serf(|out| UserEvent { ltime: LamportTime(5), name: "e", ..UserEvent::default() }.encode(out))
}

fn query() -> Vec<u8> {
    let addr = [127, 81, 6, 9][..].into();
    let query = Query { ltime: LamportTime(5), id: 1, addr, port: 7946, name: "q", ..Query::default() };
    serf(|out| query.encode(out))
}

#[test]
fn every_first_sight_and_every_repetition_counts_once() {
    let mut world = World::new(7, Network::default());
    let id = world.add(|_| {});
    let (incarnation, node) = (Incarnation(3), "other");
    let suspect = |from| encoded(|out| Suspect { incarnation, node, from }.encode(out));
    let ltime = LamportTime;
    let (first, again, neither) = ((1, 0), (0, 1), (0, 0));
    let steps = [
        ("a new member", alive(3), first),
        ("a known member", alive(3), again),
        ("older news", alive(2), neither),
        ("an accusation", suspect("n7"), first),
        ("the same accusation", suspect("n7"), again),
        ("a refutation", alive(4), first),
        ("a stale accusation", suspect("n8"), neither),
        ("a death", encoded(|out| Dead { incarnation: Incarnation(4), node, from: "n7" }.encode(out)), first),
        (
            "the same death",
            encoded(|out| Dead { incarnation: Incarnation(4), node, from: "n8" }.encode(out)),
            again,
        ),
        ("an event", event(), first),
        ("the event", event(), again),
        ("a query", query(), first),
        ("the query", query(), again),
        ("a join", serf(|out| JoinIntent { ltime: ltime(9), node: "third" }.encode(out)), first),
        ("the join", serf(|out| JoinIntent { ltime: ltime(9), node: "third" }.encode(out)), again),
        (
            "a leave",
            serf(|out| LeaveIntent { ltime: ltime(10), node: "third", prune: false }.encode(out)),
            first,
        ),
        ("an old join", serf(|out| JoinIntent { ltime: ltime(8), node: "third" }.encode(out)), again),
    ];
    let from = "127.81.6.9:7946".parse().unwrap();
    let counts = |world: &World| {
        let stats = world.node(id).unwrap().stats();
        (stats.broadcasts_new, stats.broadcasts_repeated)
    };
    for (what, mut bytes, expected) in steps {
        let before = counts(&world);
        world.with(id, |node, ctx| node.handle_datagram(ctx, from, &mut bytes));
        let after = counts(&world);
        assert_eq!((after.0 - before.0, after.1 - before.1), expected, "{what}");
    }
}
