//! How long a query takes answers, and how many: QRY-2 and QRY-8.

use std::net::SocketAddr;

use thane_engine::command::{QueryParams, Ticket};
use thane_engine::event::Completion;
use thane_engine::wire::serf::QueryResponse;

use super::helpers::{Driven, quiet};
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
fn answers(lone: &mut Lone) -> (Vec<String>, Vec<String>) {
    let (mut acks, mut answers) = (Vec::new(), Vec::new());
    for (_, _, completion) in std::mem::take(&mut lone.ctx.out.completions) {
        match completion {
            Completion::QueryAck { from } => acks.push(from),
            Completion::QueryResponse { from, .. } => answers.push(from),
            _ => {}
        }
    }
    (acks, answers)
}

/// The cap is the members at the start or now, whichever are more. Members that are erased while the query runs
/// make room for others, so that more answers than that can come.
#[test]
fn qry_8_a_query_takes_no_more_acks_and_answers_than_there_are_members() {
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
    let taken = |from: &str| (vec![from.to_owned()], vec![from.to_owned()]);
    let refused = (Vec::<String>::new(), Vec::<String>::new());
    // This node acks its own query.
    assert_eq!(answers(&mut lone).0, ["n1"]);
    for name in ["n2", "n3", "n4"] {
        assert_eq!(respond(&mut lone, name), taken(name));
        assert_eq!(respond(&mut lone, name), refused, "{name} again");
    }
    for (ltime, node) in [(5, "n2"), (6, "n3"), (7, "n4")] {
        lone.hear_serf(|out| LeaveIntent { ltime: LamportTime(ltime), node, prune: true }.encode(out));
        lone.bury(node, 1, node);
    }
    lone.meet(5..=6);
    assert_eq!(lone.node.members(&lone.ctx).len(), 3, "fewer than at the start");
    let full = lone.node.stats().drops(DropReason::QueueFull);
    // Four acks and three answers came; there is room for one answer more.
    assert_eq!(respond(&mut lone, "n5"), (vec![], vec!["n5".to_owned()]));
    assert_eq!(respond(&mut lone, "n6"), refused);
    assert_eq!(lone.node.stats().drops(DropReason::QueueFull) - full, 3);
    // More members than at the start: each may answer.
    lone.meet(7..=8);
    assert_eq!(respond(&mut lone, "n7"), taken("n7"));
    assert_eq!(respond(&mut lone, "n8"), refused);
}
