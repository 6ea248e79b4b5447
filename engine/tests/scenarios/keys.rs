//! Key rotation by the cluster's own queries.

use thane_engine::command::KeyOperation;
use thane_engine::event::{Completion, Event};
use thane_engine::wire::SerfMessage;

use super::*;

/// Does a key operation everywhere. Sorted: name, whether it worked, message, keys.
fn operate(
    world: &mut World,
    id: NodeId,
    operation: KeyOperation,
    key: &[u8],
) -> Vec<(String, bool, String, usize)> {
    let before = world.completions().len();
    world.with(id, |node, ctx| node.key_query(ctx, Ticket(70), operation, key)).unwrap();
    world.run(10 * SECOND);
    let mut answers: Vec<_> = world.completions()[before..]
        .iter()
        .filter_map(|(_, _, completion)| match completion {
            Completion::QueryResponse { from, payload } => match SerfMessage::decode(payload) {
                Ok(SerfMessage::KeyResponse(r)) => {
                    Some((from.clone(), r.result, r.message.to_owned(), r.keys.len()))
                }
                other => panic!("{other:?}"),
            },
            _ => None,
        })
        .collect();
    answers.sort_unstable();
    answers
}

#[test]
fn a_rotation_loses_no_event_and_leaves_one_key_everywhere() {
    let (old, new) = (vec![1; 32], vec![2; 16]);
    let (mut world, ids) = cluster(90, 5, Network::default(), |raw| raw.keys = vec![vec![1; 32]]);
    let fine = |answers: Vec<(String, bool, String, usize)>, keys: usize| {
        assert_eq!(answers.len(), 5, "{answers:?}");
        assert!(
            answers.iter().all(|(_, ok, message, n)| *ok && message.is_empty() && *n == keys),
            "{answers:?}"
        );
    };
    let send = |world: &mut World, name: &str| {
        let payload = bytes::Bytes::from_static(b"x");
        world.with(ids[0], |node, ctx| node.user_event(ctx, name, &payload, false)).unwrap();
    };
    send(&mut world, "one");
    fine(operate(&mut world, ids[1], KeyOperation::Install, &new), 0);
    send(&mut world, "two");
    fine(operate(&mut world, ids[2], KeyOperation::List, &[]), 2);
    fine(operate(&mut world, ids[2], KeyOperation::Use, &new), 0);
    send(&mut world, "three");
    let refused = operate(&mut world, ids[0], KeyOperation::Remove, &new);
    assert!(refused.iter().all(|(_, ok, message, _)| !ok && message.contains("primary key")), "{refused:?}");
    fine(operate(&mut world, ids[3], KeyOperation::Remove, &old), 0);
    send(&mut world, "four");
    fine(operate(&mut world, ids[4], KeyOperation::List, &[]), 1);
    for &id in &ids {
        let heard = |(node, event): &&(NodeId, Event)| *node == id && matches!(event, Event::User { .. });
        assert_eq!(world.events().iter().filter(heard).count(), 4, "{id:?}");
        assert_eq!(world.node(id).unwrap().keys().collect::<Vec<_>>(), [&new[..]]);
    }
}

#[test]
fn without_encryption_there_is_no_keyring_to_change() {
    let (mut world, ids) = cluster(91, 3, Network::default(), |_| {});
    let refused = operate(&mut world, ids[0], KeyOperation::Install, &[7; 16]);
    assert_eq!(refused.len(), 3);
    assert!(
        refused
            .iter()
            .all(|(_, ok, message, _)| { !ok && message == "No keyring to modify (encryption not enabled)" })
    );
    let refused = operate(&mut world, ids[0], KeyOperation::List, &[]);
    assert!(
        refused
            .iter()
            .all(|(_, ok, message, _)| { !ok && message == "Keyring is empty (encryption not enabled)" })
    );
}

#[test]
fn more_keys_than_fit_an_answer_are_cut_with_a_remark() {
    let many: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; 32]).collect();
    let (mut world, ids) = cluster(92, 2, Network::default(), |raw| raw.keys = many.clone());
    let listed = operate(&mut world, ids[0], KeyOperation::List, &[]);
    assert_eq!(listed.len(), 2, "the answers fit");
    for (_, ok, message, shown) in listed {
        let expected = format!("truncated key list response, showing first {shown} of 40 keys");
        assert!(ok && shown > 10 && message == expected, "{message}");
    }
}
