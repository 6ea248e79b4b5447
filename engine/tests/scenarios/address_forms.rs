//! Addresses keep their 4 or 16 bytes on the wire, because Serf compares the bytes of announced addresses.

use thane_engine::event::Notice;
use thane_engine::fixtures::{Lone, Member, NODE};
use thane_engine::wire::{Alive, Incarnation};

use std::net::IpAddr;

use super::*;

const OTHER: [u8; 4] = [127, 81, 9, 2];

fn mapped(ip: [u8; 4]) -> Vec<u8> {
    [&[0; 10][..], &[0xff, 0xff], &ip].concat()
}

/// A node that knows one member, to which it gossips.
fn lone(change: impl FnOnce(&mut RawConfig)) -> Lone {
    let mut lone = Lone::quiet(change);
    lone.learn(&[Member::new(7)]);
    lone
}

fn hear(lone: &mut Lone, incarnation: u32, addr: &[u8]) {
    let alive = Alive {
        incarnation: Incarnation(incarnation),
        node: "other",
        addr: addr.into(),
        port: 7946,
        meta: b"\xff\x80"[..].into(),
        versions: [1, 5, 2, 2, 5, 5][..].into(),
    };
    lone.hear(|out| alive.encode(out));
}

/// Whether the node gossips these bytes within a second, as the whole value of `Addr`.
fn gossips(lone: &mut Lone, addr: &[u8]) -> bool {
    let mut field = b"\xa4Addr".to_vec();
    // The old raw format of Go's encoder: a fixed raw of fewer than 32 bytes.
    field.push(0xa0 | addr.len() as u8);
    field.extend_from_slice(addr);
    lone.clear();
    lone.pass(SECOND);
    let found = lone.ctx.out.send_buffer.windows(field.len()).any(|window| window == field);
    lone.clear();
    found
}

fn conflicts(lone: &Lone) -> usize {
    let is_conflict = |notice: &Notice| matches!(notice, Notice::AddressConflict { .. });
    lone.ctx.out.notices.iter().filter(|(_, notice)| is_conflict(notice)).count()
}

#[test]
fn the_own_address_is_announced_in_the_configured_form() {
    let IpAddr::V4(ip) = NODE.ip() else { unreachable!("the fixture has an IPv4 address") };
    let mut four = lone(|_| {});
    assert!(gossips(&mut four, &ip.octets()));
    let mut sixteen = lone(|raw| raw.advertise_in_16_bytes = true);
    assert!(gossips(&mut sixteen, &mapped(ip.octets())));
}

#[test]
fn another_form_of_the_same_address_is_no_conflict_and_a_newer_incarnations_form_is_kept() {
    let mut lone = lone(|_| {});
    hear(&mut lone, 3, &OTHER);
    assert!(gossips(&mut lone, &OTHER));
    hear(&mut lone, 4, &mapped(OTHER));
    assert!(gossips(&mut lone, &mapped(OTHER)), "the member has restarted with another form");
    hear(&mut lone, 4, &OTHER);
    hear(&mut lone, 2, &OTHER);
    assert_eq!(conflicts(&lone), 0);
    hear(&mut lone, 5, &[127, 81, 9, 3]);
    assert_eq!(conflicts(&lone), 1, "another address is one");
}
