//! Changes of keys with a keyring file, and answers to queries from members that came meanwhile.

use thane_engine::command::{KeyOperation, QueryParams};
use thane_engine::context::NodeId;
use thane_engine::wire::serf::QueryResponse;

use super::*;

const OLD: [u8; 16] = [1; 16];
const NEW: [u8; 16] = [2; 16];

/// The answers to key queries since the last call: ticket, whether it worked, message.
fn answers(lone: &mut Lone) -> Vec<(u64, bool, String)> {
    let completions = std::mem::take(&mut lone.ctx.out.completions);
    let answer = |(_, ticket, completion): (NodeId, Ticket, Completion)| match completion {
        Completion::QueryResponse { payload, .. } => match SerfMessage::decode(&payload) {
            Ok(SerfMessage::KeyResponse(r)) => Some((ticket.0, r.result, r.message.to_owned())),
            other => panic!("{other:?}"),
        },
        _ => None,
    };
    completions.into_iter().filter_map(answer).collect()
}

/// The keys that were put out for the file since the last call.
fn put_out(lone: &mut Lone) -> Vec<Vec<Vec<u8>>> {
    std::mem::take(&mut lone.ctx.out.keyrings).into_iter().map(|(_, keys)| keys).collect()
}

fn keys(lone: &Lone) -> Vec<Vec<u8>> {
    lone.node.keys().map(<[u8]>::to_vec).collect()
}

fn ask(lone: &mut Lone, ticket: u64, operation: KeyOperation, key: &[u8]) {
    let Lone { node, ctx } = lone;
    node.key_query(ctx, Ticket(ticket), operation, key).unwrap();
}

#[test]
fn a_change_of_keys_is_written_then_made_then_answered_and_one_that_fails_is_not_made() {
    let mut lone = lone(|raw| {
        raw.keys = vec![OLD.to_vec()];
        raw.keyring_file = true;
    });
    ask(&mut lone, 1, KeyOperation::Install, &NEW);
    ask(&mut lone, 2, KeyOperation::Use, &NEW);
    ask(&mut lone, 3, KeyOperation::Remove, &OLD);
    ask(&mut lone, 4, KeyOperation::Remove, &[9; 16]);
    // One at a time: the next may depend on it.
    assert_eq!(put_out(&mut lone), [[OLD.to_vec(), NEW.to_vec()]]);
    assert_eq!((answers(&mut lone), keys(&lone)), (vec![], vec![OLD.to_vec()]), "nothing is written yet");

    lone.node.keyring_written(&mut lone.ctx, Ok(()));
    assert_eq!(answers(&mut lone), [(1, true, String::new())]);
    assert_eq!(keys(&lone), [OLD, NEW]);
    assert_eq!(put_out(&mut lone), [[NEW.to_vec(), OLD.to_vec()]]);

    let reason = "Failed to write keyring file /etc/serf/keyring: Read-only file system";
    lone.node.keyring_written(&mut lone.ctx, Err(reason.to_owned()));
    assert_eq!(keys(&lone), [OLD, NEW], "the file has these");
    // So the old key is still primary, which needs no file to be refused.
    let refused = "Removing the primary key is not allowed";
    assert_eq!(answers(&mut lone), [(2, false, reason.to_owned()), (3, false, refused.to_owned())]);

    assert_eq!(put_out(&mut lone), [[OLD.to_vec(), NEW.to_vec()]]);
    lone.node.keyring_written(&mut lone.ctx, Ok(()));
    assert_eq!(answers(&mut lone), [(4, true, String::new())]);
    lone.node.keyring_written(&mut lone.ctx, Ok(()));
    assert!(answers(&mut lone).is_empty() && put_out(&mut lone).is_empty(), "nothing was being written");
}

#[test]
fn without_a_keyring_file_a_change_is_made_at_once() {
    let mut lone = lone(|raw| raw.keys = vec![OLD.to_vec()]);
    ask(&mut lone, 1, KeyOperation::Install, &NEW);
    assert_eq!(answers(&mut lone), [(1, true, String::new())]);
    assert_eq!(keys(&lone), [OLD, NEW]);
    assert!(put_out(&mut lone).is_empty());
}

#[test]
fn a_newcomer_may_answer_before_this_node_hears_of_it_but_not_anybody() {
    let mut lone = lone(|_| {});
    lone.hear(|out| alive("n2").encode(out));
    let Lone { node, ctx } = &mut lone;
    node.query(ctx, Ticket(1), &QueryParams { name: "q".into(), ..QueryParams::default() }).unwrap();
    wait(&mut lone, 300);
    let mut asked = None;
    sent(&mut lone, |_, message| {
        if let SerfMessage::Query(query) = message {
            asked = Some((query.ltime, query.id));
        }
    });
    let (ltime, id) = asked.expect("the query is gossiped to n2");
    let mut answer = |from: &str| {
        hear_serf(&mut lone, |out| {
            QueryResponse { ltime, id, from, flags: 0, payload: b"yes"[..].into() }.encode(out)
        });
        let completions = std::mem::take(&mut lone.ctx.out.completions);
        completions.iter().any(|(_, _, completion)| matches!(completion, Completion::QueryResponse { .. }))
    };
    // This node has not answered: nothing does that for the application.
    for from in ["n2", "n3", "n4", "n5"] {
        assert!(answer(from), "{from}");
    }
    let taken = (0..1_000).filter(|n| answer(&format!("invented-{n}"))).count();
    assert!((100..500).contains(&taken), "{taken} answers of members that nobody knows");
    assert_eq!(lone.node.stats().drops(DropReason::QueueFull), 1_000 - taken as u64);
}
