//! A node that gets any inputs in any order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::Choices;
use crate::command::{KeyOperation, QueryParams, Ticket};
use crate::context::{StreamId, StreamInput, StreamOperation};
use crate::event::Event;
use crate::fixtures::{Joining, Lone, PEER, members};
use crate::wire::{Alive, Dead, Incarnation, LamportTime, Suspect};

/// Operations of one input at the most.
const OPERATIONS_MAX: usize = 200;

/// What must hold of a node whatever came in.
fn check(lone: &Lone) {
    let Lone { node, ctx } = lone;
    let own = node.local_member(ctx);
    let listed = node.members(ctx);
    assert!(node.has_left() || listed.iter().any(|member| member.name == own.name), "a node lists itself");
    let mut names: Vec<&str> = listed.iter().map(|member| member.name.as_str()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "each name once");
}

/// Bytes of a push/pull or of reconciliation reach a node that knows some members: on an accepted stream, as the answer
/// to its join, or as a datagram.
pub(super) fn merge(data: &[u8]) {
    let mut choices = Choices::new(data);
    let way = choices.below(3);
    let mut joining = Joining::default();
    if way != 1 {
        joining.lone.learn(&members(5));
    }
    let Joining { lone, stream } = &mut joining;
    match way {
        0 | 1 => {
            let id = if way == 0 { StreamId::accepted(1) } else { *stream };
            let Lone { node, ctx } = lone;
            if way == 0 {
                node.handle_stream(ctx, id, StreamInput::Accepted(PEER));
            }
            let step = 1 + choices.below(255);
            for piece in choices.rest.chunks(step.max(choices.rest.len() / 32 + 1)) {
                node.handle_stream(ctx, id, StreamInput::Bytes(Cow::Borrowed(piece)));
            }
            node.handle_stream(ctx, id, StreamInput::Finished);
        }
        _ => lone.receive(&mut choices.rest.to_vec()),
    }
    for _ in 0..20 {
        lone.pass(Duration::from_millis(100));
        lone.clear();
    }
    check(lone);
}

/// Any datagrams, streams, commands and times, in any order.
pub(super) fn node(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut lone = Lone::seeded(u64::from(choices.byte()), |_| {});
    let (mut streams, mut accepted, mut ticket) = (Vec::new(), 0, 0);
    for _ in 0..OPERATIONS_MAX {
        if choices.is_empty() {
            break;
        }
        operate(&mut lone, &mut choices, &mut streams, &mut accepted, &mut ticket);
        for (_, id, operation) in &lone.ctx.out.streams {
            match operation {
                StreamOperation::Open(_) => streams.push(*id),
                StreamOperation::Close | StreamOperation::Abort => streams.retain(|open| open != id),
                StreamOperation::Write(_) => {}
            }
        }
        lone.clear();
    }
    check(&lone);
}

fn operate(
    lone: &mut Lone,
    choices: &mut Choices<'_>,
    streams: &mut Vec<StreamId>,
    accepted: &mut u64,
    ticket: &mut u64,
) {
    *ticket += 1;
    let ticket = Ticket(*ticket);
    let name = |choices: &mut Choices<'_>| format!("node-{:05}", choices.below(6));
    match choices.below(16) {
        0 => lone.receive(&mut choices.part().to_vec()),
        1 => lone.pass(Duration::from_millis(u64::from(choices.byte()) * 20)),
        2 => lone.pass(Duration::from_secs(u64::from(choices.byte()) * 600)),
        3 => hear(lone, choices),
        4 => {
            let members = members(1 + choices.below(6) as u32);
            lone.learn(&members);
        }
        5 => {
            *accepted += 1;
            let id = StreamId::accepted(*accepted);
            streams.push(id);
            lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Accepted(PEER));
        }
        6 => {
            let Some(&id) = streams.get(choices.below(8)) else { return };
            let input = match choices.below(4) {
                0 => StreamInput::Opened,
                1 => StreamInput::Finished,
                2 => StreamInput::Failed("as the input says"),
                _ => StreamInput::Bytes(Cow::Borrowed(choices.part())),
            };
            if matches!(input, StreamInput::Failed(_)) {
                streams.retain(|open| *open != id);
            }
            lone.node.handle_stream(&mut lone.ctx, id, input);
        }
        choice => command(lone, choices, choice, ticket, &name),
    }
}

/// A message that the decoder takes, about a member of a small cluster or the node itself.
fn hear(lone: &mut Lone, choices: &mut Choices<'_>) {
    let member = &members(6)[choices.below(6)];
    let (from, incarnation) = (format!("node-{:05}", choices.below(6)), choices.wide());
    let incarnation = Incarnation(if choices.below(2) == 0 { incarnation % 8 } else { incarnation });
    match choices.below(3) {
        0 => {
            let alive: Alive<'_> = member.alive_again(incarnation.0);
            lone.hear(|out| alive.encode(out));
        }
        1 => lone.hear(|out| Suspect { incarnation, node: &member.name, from: &from }.encode(out)),
        _ => lone.hear(|out| Dead { incarnation, node: &member.name, from: &from }.encode(out)),
    }
}

/// Commands are taken or refused; that is all that this looks at.
fn command(
    lone: &mut Lone,
    choices: &mut Choices<'_>,
    choice: usize,
    ticket: Ticket,
    name: &dyn Fn(&mut Choices<'_>) -> String,
) {
    let Lone { node, ctx } = lone;
    let _ = match choice {
        7 => node.join(ctx, ticket, vec![PEER; choices.below(4)], choices.below(2) == 0),
        8 => node.leave(ctx, ticket),
        9 => {
            let tags = BTreeMap::from([(choices.text(), choices.text())]);
            node.update_tags(ctx, ticket, tags, &[choices.text()])
        }
        10 => node.force_leave(ctx, ticket, &name(choices), choices.below(2) == 0),
        11 => node.user_event(
            ctx,
            &choices.text(),
            &Bytes::copy_from_slice(choices.part()),
            choices.below(2) == 0,
        ),
        12 => {
            let params = QueryParams {
                name: choices.text(),
                payload: Bytes::copy_from_slice(choices.part()),
                filter_nodes: vec![name(choices)],
                filter_tags: BTreeMap::from([(choices.text(), choices.text())]),
                request_ack: choices.below(2) == 0,
                relay_factor: choices.byte(),
                timeout: (choices.below(2) == 0).then(|| Duration::from_millis(choices.byte().into())),
            };
            node.query(ctx, ticket, &params).map(drop)
        }
        13 => {
            let operations =
                [KeyOperation::Install, KeyOperation::Use, KeyOperation::Remove, KeyOperation::List];
            node.key_query(ctx, ticket, operations[choices.below(4)], choices.part()).map(drop)
        }
        14 => {
            let asked = ctx.out.events.iter().rev().find_map(|(_, event)| match event {
                Event::Query { token, .. } => Some(*token),
                _ => None,
            });
            asked.map_or(Ok(()), |token| node.respond(ctx, token, &Bytes::copy_from_slice(choices.part())))
        }
        _ => {
            let clocks = node.clocks();
            assert!(clocks.iter().all(|clock| *clock <= LamportTime(1 << 62)), "{clocks:?}");
            Ok(())
        }
    };
}
