//! Nodes and messages of the tests that are named after rules.

use std::net::SocketAddr;
use std::time::Duration;

use thane_engine::config::RawConfig;
use thane_engine::fixtures::{Lone, envelope};
use thane_engine::view::SwimState;
use thane_engine::wire::message::HAS_LABEL;
use thane_engine::wire::packet::{self, Scratch};
use thane_engine::wire::{Alive, Dead, Incarnation, Message, SerfMessage, Suspect};

/// The node `n1`, which sends no probe and no push/pull by itself.
pub(crate) fn quiet(change: impl FnOnce(&mut RawConfig)) -> Lone {
    Lone::quiet(|raw| {
        raw.node_name = "n1".to_owned();
        change(raw);
    })
}

/// The address of member `nN`.
pub(crate) fn addr_of(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 13, 0, n], 7946))
}

/// The alive message of member `nN`, each at an address of its own.
pub(crate) fn announced(n: u8, name: &str, incarnation: u32) -> Alive<'_> {
    Alive {
        incarnation: Incarnation(incarnation),
        node: name,
        addr: vec![127, 13, 0, n].into(),
        port: 7946,
        meta: b"\xff\x80"[..].into(),
        versions: vec![1, 5, 2, 2, 5, 5].into(),
    }
}

/// What these tests do with a node.
pub(crate) trait Driven {
    /// Makes the members `nN` known, and forgets what the node sent about them.
    fn meet(&mut self, members: impl IntoIterator<Item = u8>);
    fn accuse(&mut self, name: &str, incarnation: u32, from: &str);
    fn bury(&mut self, name: &str, incarnation: u32, from: &str);
    /// Passes time in steps of ten milliseconds.
    fn idle(&mut self, span: Duration);
    /// The SWIM state of a member.
    fn swim(&self, name: &str) -> SwimState;
    /// The messages of the datagrams that the node sent since the last call.
    fn each_sent(&mut self, visit: impl FnMut(SocketAddr, Message<'_>));
    /// The serf messages among them.
    fn each_serf_sent(&mut self, mut visit: impl FnMut(SocketAddr, SerfMessage<'_>)) {
        self.each_sent(|to, message| {
            if let Message::User(bytes) = message {
                visit(to, SerfMessage::decode(bytes).unwrap());
            }
        });
    }
}

impl Driven for Lone {
    fn meet(&mut self, members: impl IntoIterator<Item = u8>) {
        for n in members {
            self.hear(|out| announced(n, &format!("n{n}"), 1).encode(out));
        }
        self.ctx.out.clear();
    }

    fn accuse(&mut self, name: &str, incarnation: u32, from: &str) {
        let incarnation = Incarnation(incarnation);
        self.hear(|out| Suspect { incarnation, node: name, from }.encode(out));
    }

    fn bury(&mut self, name: &str, incarnation: u32, from: &str) {
        let incarnation = Incarnation(incarnation);
        self.hear(|out| Dead { incarnation, node: name, from }.encode(out));
    }

    fn idle(&mut self, span: Duration) {
        (0..span.as_millis() / 10).for_each(|_| self.pass(Duration::from_millis(10)));
    }

    fn swim(&self, name: &str) -> SwimState {
        self.node.view().by_name(&self.ctx.roster, name).unwrap().1.swim
    }

    fn each_sent(&mut self, mut visit: impl FnMut(SocketAddr, Message<'_>)) {
        let envelope = envelope(None);
        for datagram in std::mem::take(&mut self.ctx.out.datagrams) {
            let mut bytes = self.ctx.out.send_buffer[datagram.range.clone()].to_vec();
            let plain = envelope.open(&mut bytes).unwrap();
            packet::for_each_message(plain, &mut Scratch::default(), &mut |message| {
                visit(datagram.to, message.unwrap());
            });
        }
        self.ctx.out.clear_datagrams();
    }
}

/// Bytes behind a label.
pub(crate) fn labelled(label: &[u8], bytes: &[u8]) -> Vec<u8> {
    [&[HAS_LABEL, u8::try_from(label.len()).unwrap()], label, bytes].concat()
}
