//! The engine's way: a node behind a data plane, waited for by a runtime as a shard does.

use std::net::SocketAddr;

use thane_engine::fixtures::{Lone, envelope};
use thane_engine::io::{Driver, SocketIndex, Udp, UdpOptions};
use thane_engine::wire::envelope::Envelope;
use thane_engine::wire::packet::Assembler;
use tokio::runtime::{LocalOptions, LocalRuntime};

use crate::{Contestant, Costs, Far, Load, Meter};

/// A node with a key or without.
fn node(key: Option<&[u8]>) -> Lone {
    Lone::quiet(|raw| raw.keys.extend(key.map(<[u8]>::to_vec)))
}

/// The length of the ack to a ping.
pub(crate) fn ack_bytes(ping: &[u8], key: Option<&[u8]>) -> usize {
    let mut lone = node(key);
    // The first carries broadcasts: of the node itself, and the event's.
    for _ in 0..100 {
        lone.ctx.out.clear();
        lone.receive(&mut ping.to_vec());
    }
    assert_eq!(lone.ctx.out.datagrams.len(), 1, "a ping is answered");
    lone.ctx.out.send_buffer.len()
}

/// Everything of a shard that a datagram meets.
struct Parts {
    udp: Udp,
    socket: SocketIndex,
    lone: Lone,
    assembler: Assembler,
    envelope: Envelope,
    /// What is assembled.
    out: Vec<u8>,
}

pub(crate) struct Ours {
    runtime: LocalRuntime,
    parts: Option<(Parts, Far)>,
}

impl Ours {
    pub(crate) fn new(driver: Driver, key: Option<&[u8]>) -> Ours {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .expect("a runtime");
        let (far, near) = Far::pair();
        let (udp, socket) = runtime.block_on(async {
            let mut udp = Udp::new(driver, &UdpOptions::default()).expect("a driver that was detected");
            let socket = udp.add(near).expect("a fresh socket");
            (udp, socket)
        });
        let (assembler, envelope) = (Assembler::default(), envelope(key));
        let parts = Parts { udp, socket, lone: node(key), assembler, envelope, out: Vec::new() };
        Ours { runtime, parts: Some((parts, far)) }
    }
}

impl Contestant for Ours {
    fn visit(&mut self, load: &Load, rounds: usize) -> Costs {
        let (mut parts, mut far) = self.parts.take().expect("it came back from the last visit");
        let Load { batch, .. } = *load;
        let message = vec![b'x'; load.packet.len() - parts.envelope.overhead()];
        let (incoming, pings) = (vec![load.packet.clone(); batch], vec![load.ping.clone(); batch]);
        // A task, as a shard is: the runtime's outermost future would cost a system call at each wake.
        let visit = async move {
            let (mut send, mut receive, mut echo) = (Meter::default(), Meter::default(), Meter::default());
            for _ in 0..rounds {
                let start = Meter::start();
                parts.send(&message, batch, SocketAddr::V4(far.address));
                send.stop(start);
                far.receive(batch);

                far.send(&incoming);
                let start = Meter::start();
                parts.receive(batch).await;
                receive.stop(start);

                far.send(&pings);
                let start = Meter::start();
                parts.receive(batch).await;
                parts.answer(SocketAddr::V4(far.address));
                echo.stop(start);
                far.receive(batch);
            }
            let count = rounds * batch;
            let costs =
                Costs { send: send.each(count), receive: receive.each(count), echo: echo.each(count) };
            assert_eq!(parts.lone.node.stats().all_drops().count(), 0, "nothing is refused");
            (costs, parts, far)
        };
        let visited = self.runtime.block_on(async { tokio::task::spawn_local(visit).await });
        let (costs, parts, far) = visited.expect("it does not panic");
        self.parts = Some((parts, far));
        costs
    }
}

impl Parts {
    /// Assembles and sends.
    fn send(&mut self, message: &[u8], batch: usize, to: SocketAddr) {
        let Parts { udp, socket, assembler, envelope, out, .. } = self;
        out.clear();
        for _ in 0..batch {
            assembler.begin(usize::MAX);
            assembler.push(|out| out.extend_from_slice(message));
            assembler.finish(out, envelope, false, [5; 12]);
        }
        let packets = out.chunks(out.len() / batch);
        assert_eq!(udp.send(packets.map(|packet| (*socket, to, packet))), batch, "loopback takes all");
    }

    /// Waits until the node has handled that many datagrams.
    async fn receive(&mut self, batch: usize) {
        let Parts { udp, lone, .. } = self;
        let mut received = 0;
        while received < batch {
            udp.readable().await;
            let Lone { node, ctx } = &mut *lone;
            received += udp.receive(256, |_, from, bytes| node.handle_datagram(ctx, from, bytes));
        }
    }

    /// Sends what the node put out; to the far end, where the ping's source would be.
    fn answer(&mut self, to: SocketAddr) {
        let Parts { udp, socket, lone, .. } = self;
        let out = &lone.ctx.out;
        udp.send(out.datagrams.iter().map(|datagram| {
            let range = datagram.range.clone();
            (*socket, to, &out.send_buffer[range])
        }));
        lone.ctx.out.clear();
    }
}
