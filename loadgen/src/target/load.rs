//! Messages at a given rate, open loop: each is sent when it is due whether or not the agent keeps up, and its latency
//! counts from the time when it was due, so that a stall of the agent shows in full (no coordinated omission).

#[cfg(not(target_os = "linux"))]
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thane_engine::fixtures;
use thane_engine::wire::envelope::Envelope;
use thane_engine::wire::packet::{Assembler, Scratch};
use thane_engine::wire::{Message, Ping, SeqNo};

use super::emulated::{self, Wrapping};

/// Time for late answers after the last message.
const LATE: Duration = Duration::from_millis(500);
/// The longest latency that the histogram distinguishes from longer ones, nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Sequence numbers of the load; far from those that agents count up from 1.
const SEQ_BASE: u32 = 0x4000_0000;
/// Alive messages in one packet.
pub(crate) const ALIVE_IN_PACKET: usize = 10;

/// Packets of a burst, sent at once.
pub(crate) const BURST: u32 = 32;

/// When packets are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Packets a second.
    pub(crate) rate: u32,
    /// Duration of the load.
    pub(crate) span: Duration,
    /// Packets that are due at the same time, and sent in one system call if they are several.
    pub(crate) burst: u32,
}

impl Pace {
    /// When a packet is due, since the start.
    fn due(&self, n: u32) -> Duration {
        Duration::from_secs(1) / self.rate.max(1) * (n - n % self.burst)
    }
}

/// The packets of a load.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A ping to the agent, of that name: answered by an ack.
    Ping(String),
    /// Ten alive messages that the agent knows, of this many emulated members, which are at that address.
    KnownAlive(usize, SocketAddr),
    /// Always the same user event.
    DuplicateEvent,
}

impl Kind {
    /// Its name on the progress line.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Kind::Ping(_) => "pings",
            Kind::KnownAlive(..) => "known alive messages",
            Kind::DuplicateEvent => "duplicate events",
        }
    }
}

/// The result of a load.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    /// Acks.
    pub(crate) answered: u64,
    /// From due to acked, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

/// Sends packets at that pace.
///
/// # Errors
/// The socket can't be made; the system can't send bursts.
pub(crate) fn run(
    kind: &Kind,
    wrapping: Wrapping,
    from: IpAddr,
    agent: SocketAddr,
    pace: Pace,
) -> std::io::Result<Outcome> {
    let socket = Arc::new(UdpSocket::bind((from, 0))?);
    socket.connect(agent)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut packets = Packets::new(kind, wrapping);
    let (mut packet, mut burst, mut sent) = (Vec::new(), Vec::new(), 0);
    if pace.burst > 1 {
        packets.write(0, &mut packet);
        send_in_segments(&socket, packet.len())?;
    }
    let start = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let receiving = {
        let (socket, stop) = (Arc::clone(&socket), Arc::clone(&stop));
        std::thread::spawn(move || receive(&socket, wrapping, &stop, start, pace))
    };
    let bursts = (pace.span.as_secs_f64() * f64::from(pace.rate) / f64::from(pace.burst)) as u32;
    for first in (0..bursts).map(|n| n * pace.burst) {
        burst.clear();
        for n in first..first + pace.burst {
            packets.write(n, &mut packet);
            burst.extend_from_slice(&packet);
        }
        if let Some(early) = (start + pace.due(first)).checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        sent += if socket.send(&burst).is_ok() { u64::from(pace.burst) } else { 0 };
    }
    std::thread::sleep(LATE);
    stop.store(true, Ordering::Relaxed);
    let latency = receiving.join().expect("the receiving thread has nothing to panic about");
    Ok(Outcome { sent, answered: latency.len(), latency })
}

/// Makes the kernel split everything that is sent at once into datagrams of that length (UDP_SEGMENT): all of them
/// arrive before the receiver, which the first one wakes, reads.
#[cfg(target_os = "linux")]
fn send_in_segments(socket: &UdpSocket, bytes: usize) -> std::io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
    Ok(setsockopt(socket, UdpGsoSegment, &(bytes as i32))?)
}

#[cfg(not(target_os = "linux"))]
fn send_in_segments(_: &UdpSocket, _: usize) -> std::io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Receives acks until it is stopped. The number of an ack gives the time when its ping was due.
fn receive(
    socket: &UdpSocket,
    wrapping: Wrapping,
    stop: &AtomicBool,
    start: Instant,
    pace: Pace,
) -> Histogram<u64> {
    let envelope = wrapping.envelope();
    let mut latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order");
    let (mut buffer, mut scratch) = (vec![0; 65_536], Scratch::default());
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let now = Instant::now();
        fixtures::messages(&envelope, &mut buffer[..length], &mut scratch, |message| {
            let Message::Ack(ack) = message else { return };
            if let Some(n) = ack.seq.0.checked_sub(SEQ_BASE) {
                let due = start + pace.due(n);
                latency.saturating_record(now.saturating_duration_since(due).as_nanos() as u64);
            }
        });
    }
    latency
}

/// The packets of a load. All but pings are made before it begins.
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

/// Assembles and wraps packets.
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
        self.assembler.push(|out| fixtures::event(5, 100, out));
        self.finish(&mut packet);
        packet
    }

    /// [`ALIVE_IN_PACKET`] alive messages.
    pub(crate) fn alives(&mut self, first: usize, addr: SocketAddr) -> Vec<u8> {
        let mut packet = Vec::new();
        self.assembler.begin(1400);
        for n in first..first + ALIVE_IN_PACKET {
            let member = emulated::member(n, addr);
            self.assembler.push(|out| member.alive().encode(out));
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
        let kind = Kind::Ping("emulated-member00000".to_owned());
        for (wrapping, burst) in [(Wrapping::Plain, 1), (Wrapping::Plain, BURST), (Wrapping::Sealed, 1)] {
            let members = Members::start(ip, 1, wrapping).unwrap();
            let pace = Pace { rate: 1_000, span: Duration::from_millis(96), burst };
            let outcome = run(&kind, wrapping, ip, members.addr(), pace).unwrap();
            assert_eq!((outcome.sent, outcome.answered), (96, 96), "bursts of {burst}");
            assert_eq!(members.answered(), 96);
            assert!(outcome.latency.min() > 1_000, "loopback takes more than a microsecond");
        }
    }

    #[test]
    fn packets_of_a_burst_are_due_with_its_first() {
        let pace = Pace { rate: 1_000, span: Duration::ZERO, burst: BURST };
        let due = |n| pace.due(n).as_millis();
        assert_eq!([0, 31, 32, 63, 64].map(due), [0, 0, 32, 32, 64]);
    }

    #[test]
    fn a_packet_holds_ten_alive_messages_within_the_budget() {
        let envelope = Wrapping::Sealed.envelope();
        let mut packet = Packer::new(envelope.clone()).alives(0, SocketAddr::from(([127, 34, 1, 3], 7946)));
        assert!(packet.len() <= 1400, "{}", packet.len());
        let mut count = 0;
        fixtures::messages(&envelope, &mut packet, &mut Scratch::default(), |message| {
            count += usize::from(matches!(message, Message::Alive(_)));
        });
        assert_eq!(count, ALIVE_IN_PACKET);
    }
}
