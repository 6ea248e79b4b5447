//! Filters of queries, and names that two nodes claim.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use thane_engine::event::Notice;
use thane_engine::fixtures::{Lone, PEER};
use thane_engine::wire::serf::{Filter, Query, QueryResponse};
use thane_engine::wire::{Alive, Dead, Incarnation, SerfMessage};

use super::*;

#[test]
fn a_node_answers_a_query_only_if_all_filters_match_and_all_are_understood() {
    let names = |names: &[&'static str]| Filter::Nodes(names.to_vec()).encode();
    let tag = |tag, expr| Filter::Tag { tag, expr }.encode();
    let cases: [(&str, Vec<Vec<u8>>, bool); 11] = [
        ("none", vec![], true),
        ("the name", vec![names(&["n0", "n1"])], true),
        ("a part of the name", vec![names(&["n"])], false),
        ("other names", vec![names(&["n2"])], false),
        ("a part of the value", vec![tag("role", "ron")], true),
        ("another value", vec![tag("role", "^ron")], false),
        ("a missing tag is empty", vec![tag("zone", "^$")], true),
        ("all match", vec![names(&["n1"]), tag("role", "^front$")], true),
        ("one does not", vec![names(&["n1"]), tag("role", "back")], false),
        ("a bad expression", vec![tag("role", "(")], false),
        ("an unknown type", vec![[&[7], &names(&["n1"])[1..]].concat()], false),
    ];
    for (what, filters, answers) in cases {
        let mut lone = lone(|raw| raw.tags = BTreeMap::from([("role".to_owned(), "front".to_owned())]));
        lone.hear(|out| alive("n2").encode(out));
        lone.clear();
        let filters = filters.into_iter().map(Into::into).collect();
        hear_serf(&mut lone, |out| Query { filters, ..question(5, "q") }.encode(out));
        assert_eq!(events(&mut lone), if answers { vec!["query q 5"] } else { vec![] }, "{what}");
        assert_eq!(lone.node.queue_depths(), [0, 1, 0], "{what}: it goes on to others in any case");
        let mut acks = 0;
        sent(&mut lone, |to, message| {
            acks += usize::from(to == PEER && matches!(message, SerfMessage::QueryResponse(_)));
        });
        assert_eq!(acks, usize::from(answers), "{what}");
    }
}

/// Another node claims a name: the conflicting addresses that the node reports, and the queries that it sends.
fn claim(lone: &mut Lone, name: &str) -> (Vec<SocketAddr>, Vec<(String, Vec<u8>)>) {
    lone.hear(|out| alive("n2").encode(out));
    lone.clear();
    notices(lone);
    lone.hear(|out| {
        Alive { addr: vec![127, 13, 0, 66].into(), incarnation: Incarnation(9), ..alive(name) }.encode(out)
    });
    wait(lone, 1_000);
    let conflicts = notices(lone).into_iter().filter_map(|notice| match notice {
        Notice::AddressConflict { theirs, .. } => Some(theirs),
        _ => None,
    });
    (conflicts.collect(), queries_sent(lone))
}

#[test]
fn a_conflict_about_another_name_is_reported_and_nothing_more() {
    let mut lone = lone(|_| {});
    let (conflicts, queries) = claim(&mut lone, "n2");
    assert_eq!(conflicts, [SocketAddr::from(([127, 13, 0, 66], 7946))]);
    assert!(queries.is_empty(), "{queries:?}");
    assert_eq!(lone.node.members(&lone.ctx)[1].addr, PEER.ip(), "the address stays");
    assert!(lone.ctx.out.ended.is_empty());
}

#[test]
fn a_conflict_about_the_nodes_own_name_is_reported_and_put_to_the_vote_unless_that_is_off() {
    for resolve in [true, false] {
        let mut lone = lone(|raw| raw.resolve_name_conflicts = resolve);
        let (conflicts, queries) = claim(&mut lone, "n1");
        assert_eq!(conflicts, [SocketAddr::from(([127, 13, 0, 66], 7946))]);
        let asked: BTreeSet<(String, Vec<u8>)> = queries.into_iter().collect();
        let vote = ("_serf_conflict".to_owned(), b"n1".to_vec());
        assert_eq!(asked, BTreeSet::from_iter(resolve.then_some(vote)));
    }
}

#[test]
fn a_vote_names_the_member_that_is_known_and_a_node_of_that_name_has_none() {
    for (claimed, vote) in [("n2", Some("n2")), ("n1", None), ("nobody", None)] {
        let mut lone = lone(|_| {});
        lone.hear(|out| alive("n2").encode(out));
        lone.clear();
        events(&mut lone);
        let payload = claimed.as_bytes().into();
        hear_serf(&mut lone, |out| {
            Query { payload, flags: 0, ..question(5, "_serf_conflict") }.encode(out);
        });
        assert_eq!(events(&mut lone), Vec::<String>::new(), "the application has no part in it");
        let votes: Vec<_> = votes(&mut lone).into_iter().map(|vote| vote.map(|(name, _)| name)).collect();
        let expected = if claimed == "n1" { vec![] } else { vec![vote.map(str::to_owned)] };
        assert_eq!(votes, expected, "{claimed}");
    }
}

/// The votes that the node sent: whom it lists under the name, and where.
fn votes(lone: &mut Lone) -> Vec<Option<(String, Vec<u8>)>> {
    let mut votes = Vec::new();
    sent(lone, |_, message| {
        let SerfMessage::QueryResponse(QueryResponse { payload, .. }) = message else { return };
        let Ok(SerfMessage::ConflictResponse(record)) = SerfMessage::decode(&payload) else {
            panic!("{payload:?}")
        };
        votes.push(record.map(|record| (record.name.to_owned(), record.addr.to_vec())));
    });
    votes
}

/// A member that moved asks for votes as soon as it hears of its former self, and Serf ends if it gets too few.
#[test]
fn a_vote_that_another_address_asks_for_waits_for_its_announcement() {
    for announced in [false, true] {
        let mut lone = lone(|_| {});
        lone.hear(|out| alive("n2").encode(out));
        lone.hear(|out| Dead { incarnation: Incarnation(1), node: "n2", from: "n2" }.encode(out));
        lone.clear();
        let moved = vec![127, 13, 0, 9];
        hear_serf(&mut lone, |out| {
            let asked = question(5, "_serf_conflict");
            let (addr, payload) = (moved.clone().into(), b"n2"[..].into());
            Query { addr, payload, flags: 0, source_node: "n2", ..asked }.encode(out);
        });
        wait(&mut lone, 400);
        assert_eq!(votes(&mut lone), [], "announced: {announced}");
        if announced {
            let (addr, incarnation) = (moved.clone().into(), Incarnation(2));
            lone.hear(|out| Alive { addr, incarnation, ..alive("n2") }.encode(out));
        }
        wait(&mut lone, 600);
        let where_it_is = if announced { moved } else { vec![127, 13, 0, 2] };
        let heard: Vec<_> = votes(&mut lone).into_iter().flatten().collect();
        assert_eq!(heard.len(), 1, "announced: {announced}");
        assert!(heard[0].1.ends_with(&where_it_is), "announced: {announced}: {heard:?}");
    }
}
