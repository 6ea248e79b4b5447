//! Messages at a given rate, open loop: each is due at its time whether or not the agent keeps up, and its
//! latency counts from when it was due, so that a stalled agent is not spared (no coordinated omission).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thane_engine::wire::packet::{Assembler, Envelope, Scratch};
use thane_engine::wire::serf::UserEvent;
use thane_engine::wire::{LamportTime, Message, Ping, SeqNo, message};

use super::emulated::{self, Wrapping};

/// How long answers are waited for after the last message.
const LATE: Duration = Duration::from_millis(500);
/// The longest latency that is told apart from longer ones, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Sequence numbers of the load; far from those that agents count up from 1.
const SEQ_BASE: u32 = 0x4000_0000;
/// Alive messages in one packet.
pub(crate) const ALIVE_IN_PACKET: usize = 10;

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A ping to the agent, of that name: answered by an ack.
    Ping(String),
    /// Ten alive messages that the agent knows, of this many emulated members, which are at that address.
    KnownAlive(usize, SocketAddr),
    /// Always the same user event.
    DuplicateEvent,
}

/// What a load came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    /// Acks.
    pub(crate) answered: u64,
    /// From due to acked, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

/// Sends `rate` packets a second for `span`.
///
/// # Errors
/// The socket can't be made.
pub(crate) fn run(
    kind: &Kind,
    wrapping: Wrapping,
    from: IpAddr,
    agent: SocketAddr,
    rate: u32,
    span: Duration,
) -> std::io::Result<Outcome> {
    let socket = Arc::new(UdpSocket::bind((from, 0))?);
    socket.connect(agent)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (start, interval) = (Instant::now(), Duration::from_secs(1) / rate.max(1));
    let stop = Arc::new(AtomicBool::new(false));
    let receiving = {
        let (socket, stop) = (Arc::clone(&socket), Arc::clone(&stop));
        std::thread::spawn(move || receive(&socket, wrapping, &stop, start, interval))
    };
    let mut packets = Packets::new(kind, wrapping);
    let count = (span.as_nanos() / interval.as_nanos()) as u32;
    let (mut packet, mut sent) = (Vec::new(), 0);
    for n in 0..count {
        packets.write(n, &mut packet);
        let due = start + interval * n;
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        sent += u64::from(socket.send(&packet).is_ok());
    }
    std::thread::sleep(LATE);
    stop.store(true, Ordering::Relaxed);
    let latency = receiving.join().expect("the receiving thread has nothing to panic about");
    Ok(Outcome { sent, answered: latency.len(), latency })
}

/// Takes acks until it is stopped. An ack's number says when its ping was due.
fn receive(
    socket: &UdpSocket,
    wrapping: Wrapping,
    stop: &AtomicBool,
    start: Instant,
    interval: Duration,
) -> Histogram<u64> {
    let envelope = wrapping.envelope();
    let mut latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order");
    let (mut buffer, mut scratch) = (vec![0; 65_536], Scratch::default());
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let now = Instant::now();
        emulated::messages(&envelope, &mut buffer[..length], &mut scratch, |message| {
            let Message::Ack(ack) = message else { return };
            if let Some(n) = ack.seq.0.checked_sub(SEQ_BASE) {
                let due = start + interval * n;
                latency.saturating_record(now.saturating_duration_since(due).as_nanos() as u64);
            }
        });
    }
    latency
}

/// The packets of a load, made before it begins as far as that is possible.
enum Packets {
    Ping(String, Packer),
    Ready(Vec<Vec<u8>>),
}

impl Packets {
    fn new(kind: &Kind, wrapping: Wrapping) -> Packets {
        let mut packer = Packer::new(wrapping.envelope());
        match kind {
            Kind::Ping(node) => Packets::Ping(node.clone(), packer),
            Kind::DuplicateEvent => Packets::Ready(vec![packer.event()]),
            Kind::KnownAlive(members, addr) => {
                let packets = (*members / ALIVE_IN_PACKET).max(1);
                Packets::Ready((0..packets).map(|n| packer.alives(n * ALIVE_IN_PACKET, *addr)).collect())
            }
        }
    }

    fn write(&mut self, n: u32, out: &mut Vec<u8>) {
        out.clear();
        match self {
            Packets::Ping(node, packer) => packer.write_ping(SeqNo(SEQ_BASE + n), node, out),
            Packets::Ready(packets) => out.extend_from_slice(&packets[n as usize % packets.len()]),
        }
    }
}

/// Makes packets.
pub(crate) struct Packer {
    envelope: Envelope,
    assembler: Assembler,
    packed: u64,
}

impl Packer {
    pub(crate) fn new(envelope: Envelope) -> Packer {
        Packer { envelope, assembler: Assembler::default(), packed: 0 }
    }

    /// Appends a ping to the agent of that name.
    pub(crate) fn write_ping(&mut self, seq: SeqNo, node: &str, out: &mut Vec<u8>) {
        self.assembler.begin(1400);
        self.assembler.push(|out| Ping { seq, node, ..Ping::default() }.encode(out));
        self.finish(out);
    }

    /// Always the same user event.
    pub(crate) fn event(&mut self) -> Vec<u8> {
        let mut packet = Vec::new();
        self.assembler.begin(1400);
        self.assembler.push(|out| {
            out.push(message::USER);
            let payload = vec![b'x'; 100].into();
            UserEvent { ltime: LamportTime(5), name: "deploy", payload, coalesce: false }.encode(out);
        });
        self.finish(&mut packet);
        packet
    }

    /// [`ALIVE_IN_PACKET`] alive messages.
    pub(crate) fn alives(&mut self, first: usize, addr: SocketAddr) -> Vec<u8> {
        let mut packet = Vec::new();
        self.assembler.begin(1400);
        for n in first..first + ALIVE_IN_PACKET {
            let name = emulated::name(n);
            self.assembler.push(|out| emulated::alive(&name, addr).encode(out));
        }
        self.finish(&mut packet);
        packet
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.packed += 1;
        self.assembler.finish(out, &self.envelope, false, emulated::nonce(self.packed));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::target::emulated::Members;

    #[test]
    fn every_ping_is_answered_and_timed() {
        let ip = IpAddr::from([127, 34, 1, 2]);
        let kind = Kind::Ping(emulated::name(0));
        for wrapping in [Wrapping::Plain, Wrapping::Sealed] {
            let members = Members::start(ip, 1, wrapping).unwrap();
            let span = Duration::from_millis(100);
            let outcome = run(&kind, wrapping, ip, members.addr(), 1_000, span).unwrap();
            assert_eq!((outcome.sent, outcome.answered), (100, 100));
            assert_eq!(members.answered(), 100);
            assert!(outcome.latency.min() > 1_000, "loopback takes more than a microsecond");
        }
    }

    #[test]
    fn a_packet_holds_ten_alive_messages_within_the_budget() {
        let envelope = Wrapping::Sealed.envelope();
        let mut packet = Packer::new(envelope.clone()).alives(0, SocketAddr::from(([127, 34, 1, 3], 7946)));
        assert!(packet.len() <= 1400, "{}", packet.len());
        let mut count = 0;
        emulated::messages(&envelope, &mut packet, &mut Scratch::default(), |message| {
            count += usize::from(matches!(message, Message::Alive(_)));
        });
        assert_eq!(count, ALIVE_IN_PACKET);
    }
}
