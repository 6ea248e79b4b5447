//! The order in which a node handles what arrives together: by Lamport time, however the sender packed it.

use super::*;

/// A datagram of these user messages, in this order.
fn hear_together(lone: &mut Lone, messages: &[Vec<u8>]) {
    lone.hear(|out| {
        out.extend([7, messages.len() as u8]);
        for message in messages {
            out.extend((message.len() as u16 + 1).to_be_bytes());
        }
        for message in messages {
            out.push(8);
            out.extend(message);
        }
    });
}

fn event(ltime: u64, name: &str, coalesce: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let payload = b""[..].into();
    UserEvent { ltime: LamportTime(ltime), name, payload, coalesce }.encode(&mut out);
    out
}

fn asked(ltime: u64, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    question(ltime, name).encode(&mut out);
    out
}

#[test]
fn events_and_queries_of_one_datagram_are_handled_by_lamport_time_and_equal_times_as_they_came() {
    let sent = [
        event(4, "one", false),
        event(5, "two-is-longer", false),
        event(5, "a-tie", false),
        event(6, "three", false),
        asked(2, "first"),
        asked(3, "second"),
    ];
    let expected = [
        "user one 4",
        "user two-is-longer 5",
        "user a-tie 5",
        "user three 6",
        "query first 2",
        "query second 3",
    ];
    // Newest first, as packets are filled; queries first, as Serf fills them; and a mixture. The tie keeps its order.
    for packing in [[0, 1, 2, 3, 4, 5], [5, 4, 3, 1, 2, 0], [3, 4, 1, 0, 5, 2]] {
        let mut lone = lone(|_| {});
        events(&mut lone);
        hear_together(&mut lone, &packing.map(|place: usize| sent[place].clone()));
        assert_eq!(events(&mut lone), expected, "packed as {packing:?}");
        // What arrives again is known.
        hear_together(&mut lone, &sent);
        assert!(events(&mut lone).is_empty());
    }
}

#[test]
fn a_message_that_can_not_be_decoded_takes_nothing_with_it() {
    let mut lone = lone(|_| {});
    events(&mut lone);
    hear_together(
        &mut lone,
        &[event(6, "b", false), vec![3, 0x81], asked(2, "q"), vec![4], event(5, "a", false)],
    );
    assert_eq!(events(&mut lone), ["user a 5", "user b 6", "query q 2"]);
    assert_eq!(lone.node.stats().all_drops().map(|(_, count)| count).sum::<u64>(), 2);
}

#[test]
fn coalesced_events_are_reported_by_lamport_time_and_equal_times_as_they_came() {
    let mut lone = lone(|raw| {
        raw.coalesce_users = (Duration::from_secs(3), Duration::from_secs(1));
    });
    events(&mut lone);
    let sent = [event(9, "z", true), event(8, "m", true), event(9, "a", true), event(7, "y", true)];
    hear_together(&mut lone, &sent);
    hear_together(&mut lone, &[event(6, "m", true), event(10, "b", true), event(10, "a", true)]);
    assert!(events(&mut lone).is_empty(), "they wait");
    wait(&mut lone, 1_100);
    assert_eq!(events(&mut lone), ["user y 7", "user m 8", "user z 9", "user b 10", "user a 10"]);
}
