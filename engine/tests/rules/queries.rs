//! How long a query takes answers, and how many: QRY-2 and QRY-8.

use std::net::SocketAddr;

use thane_engine::command::{QueryParams, Ticket};
use thane_engine::event::Completion;
use thane_engine::wire::serf::QueryResponse;

use super::helpers::{Driven, announced, quiet};
use super::*;

fn ask(lone: &mut Lone) -> Duration {
    let params = QueryParams { name: "q".to_owned(), request_ack: true, ..QueryParams::default() };
    let Lone { node, ctx } = lone;
    node.query(ctx, Ticket(1), &params).unwrap()
}

#[test]
fn qry_2_the_default_timeout_counts_the_members_that_are_alive() {
    // Members, failed ones, ones that left; 200 ms * 16 * ceil(log10(alive + 1)), this node counted.
    for (others, failed, left, millis) in [
        (2, 0, 0, 3_200),
        (8, 0, 0, 3_200),
        (9, 0, 0, 6_400),
        (12, 4, 0, 3_200),
        (12, 0, 4, 3_200),
        (12, 2, 1, 6_400),
    ] {
        let mut lone = quiet(|_| {});
        lone.meet(2..2 + others);
        let names: Vec<String> = (2..2 + others).map(|n| format!("n{n}")).collect();
        for name in &names[..failed] {
            lone.bury(name, 1, "n99");
        }
        for name in &names[failed..failed + left] {
            lone.bury(name, 1, name);
        }
        assert_eq!(lone.node.members(&lone.ctx).len(), usize::from(others) + 1, "all are listed");
        assert_eq!(
            ask(&mut lone),
            Duration::from_millis(millis),
            "{others} others, {failed} failed, {left} left"
        );
    }
}

/// Acks and answers that the application got since the last call.
fn answers(lone: &mut Lone) -> [usize; 2] {
    let (mut acks, mut answers) = (0, 0);
    for (_, _, completion) in std::mem::take(&mut lone.ctx.out.completions) {
        match completion {
            Completion::QueryAck { .. } => acks += 1,
            Completion::QueryResponse { .. } => answers += 1,
            _ => {}
        }
    }
    [acks, answers]
}

/// One of each kind for each member at the start or now, whichever are more, and 256 of newcomers. Here newcomers
/// join, answer and are erased, one after the other, so there is never more than one.
#[test]
fn qry_8_the_acks_and_answers_to_a_query_are_bounded_and_each_node_has_one() {
    const NEWCOMERS: usize = 256;
    let mut lone = quiet(|_| {});
    lone.meet(2..=4);
    ask(&mut lone);
    lone.idle(Duration::from_millis(300));
    let mut asked = None;
    lone.each_serf_sent(|_: SocketAddr, message| {
        if let SerfMessage::Query(query) = message {
            asked = Some((query.ltime, query.id));
        }
    });
    let (ltime, id) = asked.expect("the query is on its way");
    let respond = |lone: &mut Lone, from: &str| {
        for flags in [FLAG_ACK, 0] {
            let payload = b"x"[..].into();
            lone.hear_serf(|out| QueryResponse { ltime, id, from, flags, payload }.encode(out));
        }
        answers(lone)
    };
    assert_eq!(answers(&mut lone), [1, 0], "this node acks its own query");
    for name in ["n2", "n3", "n4"] {
        assert_eq!(respond(&mut lone, name), [1, 1]);
        assert_eq!(respond(&mut lone, name), [0, 0], "{name} again");
    }
    let mut taken = [4, 3];
    for number in 0..NEWCOMERS + 50 {
        let name = format!("newcomer-{number}");
        lone.hear(|out| announced(5, &name, 1).encode(out));
        let [acks, answers] = respond(&mut lone, &name);
        taken = [taken[0] + acks, taken[1] + answers];
        let leave = LeaveIntent { ltime: LamportTime(5 + number as u64), node: &name, prune: true };
        lone.hear_serf(|out| leave.encode(out));
        lone.bury(&name, 1, &name);
        assert_eq!(lone.node.members(&lone.ctx).len(), 4, "{name} is erased");
    }
    assert_eq!(taken, [5 + NEWCOMERS; 2]);
    let refused = lone.node.stats().drops(DropReason::QueueFull) as usize;
    assert_eq!(refused, 2 * (NEWCOMERS + 50) - (1 + NEWCOMERS) - (2 + NEWCOMERS));
    // Seven members instead of five: two more may answer.
    lone.meet(5..=7);
    let late = ["n5", "n6", "n7"].map(|name| respond(&mut lone, name));
    assert_eq!(late, [[1, 1], [1, 1], [0, 0]]);
}
