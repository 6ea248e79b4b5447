//! Well-formed messages with values that no honest peer sends: dropped and counted, or taken without harm, and
//! the node keeps working.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use thane_engine::command::{KeyOperation, Ticket};
use thane_engine::config::RawConfig;
use thane_engine::context::Context;
use thane_engine::drop_reason::DropReason;
use thane_engine::event::Completion;
use thane_engine::fixtures::{Lone, PEER};
use thane_engine::node::Node;
use thane_engine::view::MemberStatus;
use thane_engine::wire::serf::{JoinIntent, LeaveIntent, Query, UserEvent};
use thane_engine::wire::{Alive, Dead, DecodeError, Incarnation, LamportTime, SerfMessage, Suspect};

fn node(change: impl FnOnce(&mut RawConfig)) -> (Node, Context) {
    let Lone { node, ctx } = Lone::new(|raw| {
        raw.node_name = "n1".to_owned();
        change(raw);
    });
    (node, ctx)
}

fn alive<'a>(name: &'a str, incarnation: u32) -> Alive<'a> {
    Alive {
        incarnation: Incarnation(incarnation),
        node: name,
        addr: vec![127, 13, 0, 2].into(),
        port: 7946,
        meta: b"\xff\x80"[..].into(),
        versions: vec![1, 5, 2, 2, 5, 5].into(),
    }
}

fn give(node: &mut Node, ctx: &mut Context, encode: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    node.handle_datagram(ctx, PEER, &mut bytes);
}

fn drops(node: &Node) -> Vec<(DropReason, u64)> {
    node.stats().all_drops().collect()
}

#[test]
fn lamport_times_at_the_end_are_refused_and_the_clocks_go_on() {
    for ltime in [u64::MAX, u64::MAX - 1, 1 << 63].map(LamportTime) {
        let (mut node, mut ctx) = node(|_| {});
        let serf = |node: &mut Node, ctx: &mut Context, encode: &dyn Fn(&mut Vec<u8>)| {
            give(node, ctx, |out| {
                out.push(8);
                encode(out);
            });
        };
        serf(&mut node, &mut ctx, &|out| JoinIntent { ltime, node: "x" }.encode(out));
        serf(&mut node, &mut ctx, &|out| LeaveIntent { ltime, node: "n1", prune: true }.encode(out));
        let event = UserEvent { ltime, name: "e", payload: b""[..].into(), coalesce: false };
        serf(&mut node, &mut ctx, &|out| event.encode(out));
        let query =
            Query { ltime, addr: b"\x7f\0\0\x01"[..].into(), timeout: 1, name: "q", ..Query::default() };
        serf(&mut node, &mut ctx, &|out| query.encode(out));
        assert_eq!(drops(&node), [(DropReason::LamportTimeRefused, 4)]);
        assert_eq!(node.clocks(), [1, 1, 1].map(LamportTime));
        node.user_event(&mut ctx, "still", &Bytes::new(), false).unwrap();
        assert_eq!(node.clocks()[1], LamportTime(2));
    }
}

#[test]
fn no_member_takes_the_last_incarnation() {
    let last = u32::MAX;
    let (mut node, mut ctx) = node(|_| {});
    give(&mut node, &mut ctx, |out| alive("n2", 1).encode(out));
    for name in ["n1", "n2"] {
        give(&mut node, &mut ctx, |out| alive(name, last).encode(out));
        give(&mut node, &mut ctx, |out| {
            Suspect { incarnation: Incarnation(last), node: name, from: "n3" }.encode(out);
        });
        give(&mut node, &mut ctx, |out| {
            Dead { incarnation: Incarnation(last), node: name, from: "n3" }.encode(out);
        });
    }
    assert_eq!(drops(&node), [(DropReason::IncarnationRefused, 6)]);
    // An ordinary one is believed, and can be outbid.
    give(&mut node, &mut ctx, |out| {
        Suspect { incarnation: Incarnation(1_000), node: "n1", from: "n3" }.encode(out);
    });
    assert_eq!(node.stats().refutations, 1);
    assert!(node.members(&ctx).iter().all(|member| member.status == MemberStatus::Alive));
}

#[test]
fn addresses_and_versions_of_any_length_do_no_harm() {
    for length in 0..40 {
        let (mut node, mut ctx) = node(|_| {});
        give(&mut node, &mut ctx, |out| {
            Alive { addr: vec![127; length].into(), ..alive("n2", 1) }.encode(out)
        });
        let taken = node.members(&ctx).len() == 2;
        assert_eq!(taken, matches!(length, 4 | 16), "an address of {length} bytes");
        assert!(
            taken || drops(&node) == [(DecodeError::BadAddress.into(), 1)],
            "{length}: {:?}",
            drops(&node)
        );
    }
    for length in 0..40 {
        let (mut node, mut ctx) = node(|_| {});
        give(&mut node, &mut ctx, |out| {
            Alive { versions: vec![2; length].into(), ..alive("n2", 1) }.encode(out)
        });
        let members = node.members(&ctx);
        assert_eq!(members.len() == 2, length <= 6, "{length} versions: {:?}", drops(&node));
    }
}

#[test]
fn names_of_any_bytes_and_lengths_are_taken_whole_or_not_at_all() {
    let long = "n".repeat(64 * 1024 - 200);
    let names = ["\n", "a\0b", "\u{1b}[2J", "a b", "\u{202e}x", "/", &long];
    let (mut node, mut ctx) = node(|raw| raw.snapshot = true);
    for name in names {
        give(&mut node, &mut ctx, |out| alive(name, 1).encode(out));
    }
    let listed: Vec<String> = node.members(&ctx).into_iter().map(|member| member.name).collect();
    assert_eq!(listed.len(), names.len(), "all but the long one, and this node: {listed:?}");
    assert!(names[..6].iter().all(|name| listed.iter().any(|known| known == name)));
    assert_eq!(drops(&node), [(DecodeError::BadName.into(), 1)]);
}

#[test]
fn keys_of_a_wrong_size_are_refused_and_nothing_changes() {
    let (mut node, mut ctx) = node(|raw| raw.keys = vec![vec![1; 16]]);
    for size in (0..70).filter(|size| !matches!(size, 16 | 24 | 32)) {
        for operation in [KeyOperation::Install, KeyOperation::Use] {
            node.key_query(&mut ctx, Ticket(size), operation, &vec![7; size as usize]).unwrap();
            let (_, _, answer) = ctx.out.completions.pop().expect("it answers itself at once");
            let Completion::QueryResponse { payload, .. } = answer else { panic!("{answer:?}") };
            let Ok(SerfMessage::KeyResponse(response)) = SerfMessage::decode(&payload) else { panic!() };
            assert!(!response.result && !response.message.is_empty(), "{operation:?} of {size} bytes");
            ctx.now = ctx.now + Duration::from_secs(60);
            while let Some((_, key)) = ctx.timers.pop_due(ctx.now) {
                node.handle_timeout(&mut ctx, key);
            }
        }
    }
    assert_eq!(node.keys().collect::<Vec<_>>(), [[1; 16]]);
}

#[test]
fn settings_out_of_range_are_refused_with_one_line() {
    type Change = fn(&mut RawConfig);
    let cases: [(Change, &str); 12] = [
        (|raw| raw.node_name.clear(), "node name has 0 bytes; it must have 1 to 512"),
        (|raw| raw.node_name = "n".repeat(513), "node name has 513 bytes; it must have 1 to 512"),
        (|raw| raw.protocol = 1, "protocol version 1 is not supported; it must be in range [2, 5]"),
        (|raw| raw.protocol = 6, "protocol version 6 is not supported; it must be in range [2, 5]"),
        (
            |raw| raw.tags = [("a".to_owned(), "b".repeat(512))].into(),
            "Encoded length of tags exceeds limit of 512 bytes",
        ),
        (|raw| raw.keys = vec![vec![0; 16], vec![0; 17]], "key size must be 16, 24 or 32 bytes, not 17"),
        (|raw| raw.label = vec![b'x'; 256], "label has 256 bytes; it may have at most 255"),
        (|raw| raw.user_event_size_limit = 9217, "user event size limit exceeds limit of 9216 bytes"),
        (|raw| raw.probe_interval = Duration::ZERO, "probe_interval must be greater than zero"),
        (|raw| raw.gossip_interval = Duration::ZERO, "gossip_interval must be greater than zero"),
        (|raw| raw.awareness_max_multiplier = 0, "awareness_max_multiplier must be greater than zero"),
        (|raw| raw.advertise.set_port(0), "advertise address 127.0.0.1:0 has no port"),
    ];
    for (change, expected) in cases {
        let mut raw = RawConfig::lan("n", "127.0.0.1:7946".parse().unwrap());
        change(&mut raw);
        assert_eq!(raw.check().unwrap_err().to_string(), expected);
    }
}
