//! Queries: filters, acks, answers, relays, deadlines.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use thane_engine::command::{CommandError, QueryParams, QueryToken};
use thane_engine::drop_reason::DropReason;
use thane_engine::event::{Completion, Event};
use thane_engine::wire::LamportTime;
use thane_engine::wire::serf::{FLAG_ACK, Filter, Query};

use super::*;

fn ask(world: &mut World, id: NodeId, params: &QueryParams) -> Duration {
    world.with(id, |node, ctx| node.query(ctx, Ticket(50), params)).unwrap()
}

/// The queries that reached the application of a node.
fn asked(world: &World, id: NodeId) -> Vec<QueryToken> {
    let token = |event: &Event| match event {
        Event::Query { token, .. } => Some(*token),
        _ => None,
    };
    world.events().iter().filter(|(node, _)| *node == id).filter_map(|(_, event)| token(event)).collect()
}

/// Sorted: `ack NAME`, `NAME ANSWER`, `done`.
fn answers(world: &World) -> Vec<String> {
    let of = |completion: &Completion| match completion {
        Completion::QueryAck { from } => Some(format!("ack {from}")),
        Completion::QueryResponse { from, payload } => {
            Some(format!("{from} {}", String::from_utf8_lossy(payload)))
        }
        Completion::QueryDone => Some("done".to_owned()),
        _ => None,
    };
    let mut answers: Vec<String> = world
        .completions()
        .iter()
        .filter(|(_, ticket, _)| *ticket == Ticket(50))
        .filter_map(|(_, _, completion)| of(completion))
        .collect();
    answers.sort_unstable();
    answers
}

/// Lets every node that gets the query answer with its name until the query is over.
fn answer_all(world: &mut World, ids: &[NodeId], timeout: Duration) {
    let mut answered = vec![0; ids.len()];
    for _ in 0..100 {
        world.run(timeout / 90);
        for (place, &id) in ids.iter().enumerate() {
            for token in asked(world, id).into_iter().skip(answered[place]) {
                answered[place] += 1;
                let payload = Bytes::from(format!("i am n{}", id.0 + 1));
                world.with(id, |node, ctx| node.respond(ctx, token, &payload)).unwrap();
            }
        }
    }
}

fn tagged_cluster(seed: u64, network: Network) -> (World, Vec<NodeId>) {
    let number = std::cell::Cell::new(0);
    cluster(seed, 8, network, |raw| {
        let role = if number.replace(number.get() + 1) % 2 == 0 { "web-front" } else { "db" };
        raw.tags.insert("role".to_owned(), role.to_owned());
    })
}

#[test]
fn everybody_acks_and_answers_once_and_the_query_ends_at_its_deadline() {
    let network = Network { duplication: 0.3, ..Network::default() };
    let (mut world, ids) = tagged_cluster(60, network);
    let params = QueryParams { name: "who".into(), request_ack: true, ..QueryParams::default() };
    let timeout = ask(&mut world, ids[3], &params);
    assert_eq!(timeout, Duration::from_millis(3200), "200 ms * 16 * ceil(log10(9))");
    answer_all(&mut world, &ids, timeout);
    let mut expected: Vec<String> =
        (1..=8).flat_map(|n| [format!("ack n{n}"), format!("n{n} i am n{n}")]).collect();
    expected.push("done".to_owned());
    expected.sort_unstable();
    assert_eq!(answers(&world), expected);
}

#[test]
fn filters_name_nodes_and_match_tags_unanchored() {
    let (mut world, ids) = tagged_cluster(61, Network::default());
    let params = QueryParams {
        name: "who".into(),
        filter_nodes: vec!["n1".into(), "n2".into(), "n3".into()],
        filter_tags: BTreeMap::from([("role".into(), "fro".into()), ("missing".into(), "^$".into())]),
        request_ack: true,
        ..QueryParams::default()
    };
    let timeout = ask(&mut world, ids[7], &params);
    answer_all(&mut world, &ids, timeout);
    assert_eq!(answers(&world), ["ack n1", "ack n3", "done", "n1 i am n1", "n3 i am n3"]);
}

#[test]
fn relays_bring_answers_through_heavy_loss() {
    // With 30 % loss a direct answer alone is lost for every third member. Five relays make that rare.
    let count = |relay_factor| {
        let network = Network { loss: 0.3, ..Network::default() };
        let mut got = 0;
        for seed in 70..75 {
            let (mut world, ids) = tagged_cluster(seed, network.clone());
            let params =
                QueryParams { name: "who".into(), request_ack: true, relay_factor, ..QueryParams::default() };
            let timeout = ask(&mut world, ids[0], &params);
            answer_all(&mut world, &ids, timeout);
            got += answers(&world).len();
        }
        got
    };
    let (direct, relayed) = (count(0), count(5));
    assert!(relayed > direct && relayed >= 5 * 15, "{direct} direct, {relayed} with relays");
}

#[test]
fn refused_queries_and_answers_say_why() {
    let (mut world, ids) = tagged_cluster(62, Network::default());
    let refused = |world: &mut World, params: QueryParams| {
        world.with(ids[0], |node, ctx| node.query(ctx, Ticket(1), &params)).unwrap_err()
    };
    let long = QueryParams { name: "q".into(), payload: vec![0; 1024].into(), ..QueryParams::default() };
    assert_eq!(refused(&mut world, long), CommandError::QueryTooLong(1024));
    let reserved = QueryParams { name: "_serf_conflict".into(), ..QueryParams::default() };
    assert_eq!(refused(&mut world, reserved), CommandError::ReservedName);

    let timeout = ask(&mut world, ids[0], &QueryParams { name: "q".into(), ..QueryParams::default() });
    world.run(timeout / 2);
    let token = asked(&world, ids[1])[0];
    let respond = |world: &mut World, token, bytes: usize| {
        world.with(ids[1], |node, ctx| node.respond(ctx, token, &vec![b'x'; bytes].into()))
    };
    assert_eq!(respond(&mut world, token, 1024), Err(CommandError::ResponseTooLong(1024)));
    assert_eq!(respond(&mut world, token, 3), Ok(()));
    assert_eq!(respond(&mut world, token, 3), Err(CommandError::AlreadyResponded));
    assert_eq!(respond(&mut world, QueryToken(999), 3), Err(CommandError::UnknownQuery));
    world.run(timeout);
    let late = asked(&world, ids[2])[0];
    let refused = world.with(ids[2], |node, ctx| node.respond(ctx, late, &Bytes::new()));
    assert_eq!(refused, Err(CommandError::PastDeadline));
    assert_eq!(answers(&world), ["done", "n2 xxx"]);
}

/// A query that a stranger sends, with one tag filter for each expression.
fn query_with_filters(ltime: u64, exprs: &[&str]) -> Vec<u8> {
    let filters: Vec<Vec<u8>> = exprs.iter().map(|expr| Filter::Tag { tag: "role", expr }.encode()).collect();
    let query = Query {
        ltime: LamportTime(ltime),
        id: 1,
        addr: (&[127, 0, 0, 9][..]).into(),
        port: 7946,
        source_node: "stranger",
        filters: filters.iter().map(Into::into).collect(),
        flags: FLAG_ACK,
        relay_factor: 0,
        timeout: 1_000_000_000,
        name: "who",
        payload: (&[][..]).into(),
    };
    let mut datagram = vec![thane_engine::wire::message::USER];
    query.encode(&mut datagram);
    datagram
}

#[test]
fn a_bad_filter_silences_but_does_not_stop_the_query() {
    let (mut world, ids) = tagged_cluster(63, Network::default());
    let from = "127.0.0.9:7946".parse().unwrap();
    world.inject(ids[0], from, &query_with_filters(40, &["("]));
    world.run(10 * SECOND);
    for &id in &ids {
        assert_eq!(world.node(id).unwrap().stats().drops(DropReason::BadFilter), 1, "{id:?} was reached");
        assert_eq!(asked(&world, id), []);
    }
}

#[test]
fn the_sender_of_a_bad_filter_gets_an_error_and_nothing_is_sent() {
    let (mut world, ids) = tagged_cluster(63, Network::default());
    let params = QueryParams {
        name: "who".into(),
        filter_tags: BTreeMap::from([("role".into(), "a**".into())]),
        ..QueryParams::default()
    };
    let refused = world.with(ids[0], |node, ctx| node.query(ctx, Ticket(50), &params)).unwrap_err();
    assert_eq!(refused.to_string(), "filter of tag \"role\": invalid nested repetition operator: `*`");
    world.run(10 * SECOND);
    assert!(answers(&world).is_empty(), "{:?}", answers(&world));
    assert_eq!(asked(&world, ids[1]), []);
}

#[test]
fn costly_filters_have_a_budget_and_no_query_stalls_a_node() {
    let (mut world, ids) = tagged_cluster(64, Network::default());
    let from = "127.0.0.9:7946".parse().unwrap();
    // Each differs, so that none is kept compiled. They match, so that all of a query's are read.
    let exprs: Vec<String> = (0..40).map(|n| format!("^.{{0,{}}}$", 290 + n)).collect();
    let exprs: Vec<&str> = exprs.iter().map(String::as_str).collect();
    for shot in 0..20 {
        world.inject(ids[0], from, &query_with_filters(40 + shot, &exprs));
    }
    world.run(SECOND / 1000);
    let drops = |world: &World, reason| world.node(ids[0]).unwrap().stats().drops(reason);
    assert_eq!(drops(&world, DropReason::FiltersTooCostly), 20, "five expressions of a second are compiled");
    world.run(2 * SECOND);
    world.inject(ids[0], from, &query_with_filters(80, &[".*"]));
    world.run(SECOND / 1000);
    assert_eq!(drops(&world, DropReason::FiltersTooCostly), 20, "the next second has a budget of its own");
    assert_eq!(asked(&world, ids[0]).len(), 1);
}
