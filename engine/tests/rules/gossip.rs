//! Where gossip goes, and which packets carry a checksum: SWM-14 and WIR-4.

use std::collections::BTreeMap;

use bytes::Bytes;
use thane_engine::wire::message::HAS_CRC;

use super::helpers::{Driven, addr_of, announced, quiet};
use super::*;

/// Sends user events and passes time until none is queued any more.
fn spread(lone: &mut Lone) {
    for number in 0..10 {
        let Lone { node, ctx } = &mut *lone;
        node.user_event(ctx, &format!("event-{number}"), &Bytes::new(), false).unwrap();
        lone.idle(Duration::from_millis(500));
    }
    lone.idle(Duration::from_secs(10));
    assert_eq!(lone.node.queue_depths(), [0, 0, 0]);
}

#[test]
fn the_age_of_a_queue_is_that_of_its_oldest_message() {
    let mut lone = quiet(|_| {});
    lone.meet(2..=2);
    lone.idle(Duration::from_secs(60));
    assert_eq!(lone.node.oldest_queued(), [None; 4]);
    let mut begun = Vec::new();
    for number in 0..3 {
        begun.push(lone.ctx.now);
        let Lone { node, ctx } = &mut lone;
        node.user_event(ctx, &format!("event-{number}"), &Bytes::new(), false).unwrap();
        lone.idle(Duration::from_millis(1));
    }
    let [intent, query, event, news] = lone.node.oldest_queued();
    assert_eq!((intent, query, news), (None, None, None));
    assert_eq!(event, Some(begun[0]));
    lone.accuse("n2", 1, "n3");
    assert_eq!(lone.node.oldest_queued()[3], Some(lone.ctx.now), "news about a member");
}

#[test]
fn swm_14_gossip_goes_to_the_alive_the_suspect_and_the_lately_dead_and_not_to_those_that_left() {
    let mut lone = quiet(|_| {});
    lone.meet(2..=7);
    lone.accuse("n4", 1, "n2");
    lone.bury("n5", 1, "n2");
    for name in ["n6", "n7"] {
        lone.bury(name, 1, name);
    }
    // They were sent their departure, which they refute if they did not leave.
    lone.clear();
    spread(&mut lone);
    let mut datagrams: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    lone.each_sent(|to, _| *datagrams.entry(to).or_default() += 1);
    let expected: Vec<SocketAddr> = [2, 3, 4, 5].map(addr_of).into();
    assert_eq!(datagrams.into_keys().collect::<Vec<_>>(), expected);

    // 30 s after its death (Serf's GossipToTheDeadTime) nothing goes to the dead member either.
    lone.idle(Duration::from_secs(31));
    lone.clear();
    spread(&mut lone);
    let mut to_the_dead = 0;
    lone.each_sent(|to, _| to_the_dead += usize::from(to == addr_of(5)));
    assert_eq!(to_the_dead, 0);
}

#[test]
fn wir_4_gossip_has_a_checksum_if_the_member_understands_protocol_5() {
    for label in ["", "blue"] {
        let mut lone = quiet(|raw| raw.label = label.into());
        let behind_label = if label.is_empty() { 0 } else { 2 + label.len() };
        for (n, newest) in [(2, 5), (3, 4), (4, 5), (5, 2)] {
            let name = format!("n{n}");
            let versions = vec![1, newest, 2, 2, 5, 5].into();
            let mut bytes = Vec::new();
            Alive { versions, ..announced(n, &name, 1) }.encode(&mut bytes);
            if !label.is_empty() {
                bytes = helpers::labelled(label.as_bytes(), &bytes);
            }
            lone.receive(&mut bytes);
        }
        lone.clear();
        spread(&mut lone);
        let mut checked: BTreeMap<SocketAddr, Vec<bool>> = BTreeMap::new();
        for datagram in &lone.ctx.out.datagrams {
            let packet = &lone.ctx.out.send_buffer[datagram.range.clone()][behind_label..];
            let has_crc = packet[0] == HAS_CRC;
            if has_crc {
                let sum = u32::from_be_bytes(packet[1..5].try_into().unwrap());
                assert_eq!(sum, crc32(&packet[5..]), "it covers what follows");
            }
            checked.entry(datagram.to).or_default().push(has_crc);
        }
        for (n, wanted) in [(2, true), (3, false), (4, true), (5, false)] {
            let packets = &checked[&addr_of(n)];
            assert!(packets.iter().all(|&has_crc| has_crc == wanted), "n{n}: {packets:?}");
        }
    }
}

/// CRC-32 as in IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    let byte = |crc: u32, &byte: &u8| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc));
    !bytes.iter().fold(u32::MAX, byte)
}
