//! The packets of a flood, made before it begins and sent in turn.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::ValueEnum;
use clap::builder::PossibleValue;
use thane_engine::fixtures;
use thane_engine::random::Random;
use thane_engine::wire::SeqNo;

use super::emulated::Wrapping;
use super::load::{ALIVE_IN_PACKET, Packer};

/// Different packets of one kind of junk; sent again and again.
const JUNK_PACKETS: usize = 2_000;
/// Packets of one kind in a row: packets of equal length leave the sender in one message (UDP_SEGMENT), without
/// which it would be slower than an agent.
const RUN: usize = 16;
/// Most packets with alive messages.
const ALIVE_PACKETS_MAX: usize = 500;
/// Sequence numbers of a flood's pings; far from those that agents count up from 1 and from a load's.
const SEQ_BASE: u32 = 0x2000_0000;
/// A key that no agent under test has.
const OTHER_KEY: [u8; 16] = *b"not the agent's!";

/// The packets of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deck {
    /// In turn some pings, packets with ten known alive messages each, and duplicate events.
    Gossip,
    /// Random bytes.
    Garbage,
    /// Packets that end early.
    Cut,
    /// Plain packets, for an agent with a key.
    Unsealed,
    /// Packets sealed with a key that the agent does not have.
    WrongKey,
    /// Packets that were valid once: pings, known alive messages, an old event.
    Replayed,
}

impl Deck {
    /// All kinds of junk.
    pub(crate) const JUNK: [Deck; 5] =
        [Deck::Garbage, Deck::Cut, Deck::Unsealed, Deck::WrongKey, Deck::Replayed];

    /// One of this many packets is a ping, which is answered; 0: none is.
    pub(crate) fn ping_every(self) -> u64 {
        match self {
            Deck::Gossip | Deck::Replayed => 3,
            _ => 0,
        }
    }

    /// The packets for the agent `node`, which knows that many emulated members at that address.
    pub(crate) fn packets(
        self,
        wrapping: Wrapping,
        node: &str,
        members: usize,
        addr: SocketAddr,
    ) -> Vec<Vec<u8>> {
        let mut random = Random::new(46);
        let gossip = |mut packer: Packer| {
            let alives = (members / ALIVE_IN_PACKET).clamp(1, ALIVE_PACKETS_MAX);
            let mut packets = Vec::new();
            for first in (0..alives).step_by(RUN) {
                let run = first..alives.min(first + RUN);
                for n in run.clone() {
                    let mut ping = Vec::new();
                    packer.write_ping(SeqNo(SEQ_BASE + n as u32), node, &mut ping);
                    packets.push(ping);
                }
                packets.extend(run.clone().map(|n| packer.alives(n * ALIVE_IN_PACKET, addr)));
                packets.extend(run.map(|_| packer.event()));
            }
            packets
        };
        match self {
            Deck::Gossip | Deck::Replayed => gossip(Packer::new(wrapping.envelope())),
            Deck::Unsealed => gossip(Packer::new(Wrapping::Plain.envelope())),
            Deck::WrongKey => gossip(Packer::new(fixtures::envelope([&OTHER_KEY[..]]))),
            Deck::Cut => {
                let mut packets = gossip(Packer::new(wrapping.envelope()));
                for packet in &mut packets {
                    packet.truncate(1 + random.below(packet.len() as u32 - 1) as usize);
                }
                packets
            }
            Deck::Garbage => (0..JUNK_PACKETS)
                .map(|_| (0..1 + random.below(1400)).map(|_| random.u64() as u8).collect())
                .collect(),
        }
    }
}

impl Deck {
    /// Its name, also on the command line of the sender.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Deck::Gossip => "gossip",
            Deck::Garbage => "garbage",
            Deck::Cut => "cut",
            Deck::Unsealed => "unsealed",
            Deck::WrongKey => "wrong-key",
            Deck::Replayed => "replayed",
        }
    }
}

impl ValueEnum for Deck {
    fn value_variants<'a>() -> &'a [Deck] {
        &[Deck::Gossip, Deck::Garbage, Deck::Cut, Deck::Unsealed, Deck::WrongKey, Deck::Replayed]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

/// The n-th address from `first` on, leaving out those that end in 0 or 255.
pub(crate) fn source(first: Ipv4Addr, n: u32) -> IpAddr {
    let last = u32::from(first.octets()[3].max(1)) - 1 + n;
    let network = u32::from(first) & !0xff;
    IpAddr::V4(Ipv4Addr::from(network + (last / 254) * 256 + last % 254 + 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use thane_engine::wire::packet::Scratch;
    use thane_engine::wire::{DecodeError, Message};

    fn packets(deck: Deck) -> Vec<Vec<u8>> {
        deck.packets(Wrapping::Sealed, "subject", 100, SocketAddr::from(([127, 46, 1, 1], 7946)))
    }

    #[test]
    fn a_third_of_gossip_is_pings_and_the_agents_key_opens_all() {
        let (mut pings, mut alives, mut events) = (0, 0, 0);
        for mut packet in packets(Deck::Gossip) {
            let envelope = Wrapping::Sealed.envelope();
            fixtures::messages(&envelope, &mut packet, &mut Scratch::default(), |message| match message {
                Message::Ping(_) => pings += 1,
                Message::Alive(_) => alives += 1,
                Message::User(_) => events += 1,
                other => panic!("{other:?}"),
            });
        }
        assert_eq!((pings, alives, events), (10, 100, 10));
    }

    #[test]
    fn the_agents_key_opens_no_junk() {
        let envelope = Wrapping::Sealed.envelope();
        for deck in [Deck::Garbage, Deck::Cut, Deck::Unsealed, Deck::WrongKey] {
            for mut packet in packets(deck) {
                let refused = envelope.open(&mut packet).unwrap_err();
                if deck == Deck::WrongKey {
                    assert_eq!(refused, DecodeError::WrongKey);
                }
            }
        }
    }

    #[test]
    fn words_and_addresses() {
        for deck in [Deck::Gossip].into_iter().chain(Deck::JUNK) {
            assert_eq!(Deck::from_str(deck.as_str(), false), Ok(deck));
        }
        let source = |n| super::source(Ipv4Addr::new(127, 46, 1, 254), n).to_string();
        assert_eq!([source(0), source(1), source(254)], ["127.46.1.254", "127.46.2.1", "127.46.2.254"]);
    }
}
