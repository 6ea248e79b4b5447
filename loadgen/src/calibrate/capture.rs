//! The traffic of agents: every IPv4 packet that arrives on the loopback of the namespace, counted by purpose.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use thane_engine::fixtures;
use thane_engine::wire::Message;
use thane_engine::wire::packet::Scratch;

use crate::agent::GOSSIP_PORT;

/// The kind of datagrams that are neither pings nor acks.
pub(crate) const OTHER: &str = "other";

/// The EtherType of IPv4; packet sockets take it in network byte order.
const ETH_P_IP: u16 = 0x0800;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Bytes of a UDP header.
const UDP_HEADER: usize = 8;
/// Pause between looks at whether it is time to end.
const LOOK: Duration = Duration::from_millis(50);
/// Receive buffer in bytes; a join of a hundred agents fills it with many packets at once.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Packets and bytes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// The counts on the gossip port. RPC has another port, and is not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Datagrams by the kind of their first message; bytes without IP and UDP headers.
    pub(crate) datagrams: BTreeMap<&'static str, Count>,
    /// Segments of streams with a payload; bytes without IP and TCP headers.
    pub(crate) streams: Count,
    /// Streams that were opened.
    pub(crate) opened: u64,
}

impl Counts {
    /// The difference to an earlier count.
    pub(crate) fn since(&self, earlier: &Counts) -> Counts {
        let less = |now: Count, then: Count| Count {
            packets: now.packets - then.packets,
            bytes: now.bytes - then.bytes,
        };
        let then = |kind| earlier.datagrams.get(kind).copied().unwrap_or_default();
        Counts {
            datagrams: self.datagrams.iter().map(|(kind, now)| (*kind, less(*now, then(kind)))).collect(),
            streams: less(self.streams, earlier.streams),
            opened: self.opened - earlier.opened,
        }
    }
}

/// A thread that counts until this value is dropped.
#[derive(Debug)]
pub(crate) struct Capture {
    counts: Arc<Mutex<Counts>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Begins to count.
    ///
    /// # Errors
    /// The process may not open a packet socket.
    pub(crate) fn start() -> std::io::Result<Capture> {
        // A packet socket for one protocol gets incoming packets only: each packet once.
        let protocol = Protocol::from(i32::from(ETH_P_IP.to_be()));
        let mut socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
        socket.set_recv_buffer_size(WAITING_BYTES_MAX)?;
        socket.set_read_timeout(Some(LOOK))?;
        let (counts, stop) = (Arc::new(Mutex::new(Counts::default())), Arc::new(AtomicBool::new(false)));
        let (into, until) = (Arc::clone(&counts), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (mut buffer, mut scratch) = (vec![0; 65_536], Scratch::default());
            while !until.load(Ordering::Relaxed) {
                match socket.read(&mut buffer) {
                    Ok(len) => {
                        let mut counts = into.lock().unwrap_or_else(PoisonError::into_inner);
                        count(&mut buffer[..len], &mut scratch, &mut counts);
                    }
                    Err(error) if is_pause(&error) => {}
                    Err(_) => return,
                }
            }
        });
        Ok(Capture { counts, stop, thread: Some(thread) })
    }

    /// The counts so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has printed why.
            let _ = thread.join();
        }
    }
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// The kernel's count of datagrams sent in this namespace since its start.
pub(crate) fn kernel_datagrams() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/net/snmp").ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let place = lines.next()?.split_whitespace().position(|name| name == "OutDatagrams")?;
    lines.next()?.split_whitespace().nth(place)?.parse().ok()
}

/// Counts one IPv4 packet to or from the gossip port.
fn count(ip: &mut [u8], scratch: &mut Scratch, counts: &mut Counts) {
    let Some(&first) = ip.first() else { return };
    let header = usize::from(first & 15) * 4;
    let Some(&protocol) = ip.get(9) else { return };
    let Some(rest) = ip.get_mut(header..) else { return };
    let Some(&[a, b, c, d]) = rest.first_chunk() else { return };
    if ![u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])].contains(&GOSSIP_PORT) {
        return;
    }
    match protocol {
        UDP => {
            let Some(datagram) = rest.get_mut(UDP_HEADER..) else { return };
            let bytes = datagram.len() as u64;
            let count = counts.datagrams.entry(kind(datagram, scratch)).or_default();
            count.packets += 1;
            count.bytes += bytes;
        }
        TCP => {
            let (Some(&offset), Some(&flags)) = (rest.get(12), rest.get(13)) else { return };
            let bytes = rest.len().saturating_sub(usize::from(offset >> 4) * 4) as u64;
            counts.streams.packets += u64::from(bytes > 0);
            counts.streams.bytes += bytes;
            let (syn, ack) = (flags & 0x02 != 0, flags & 0x10 != 0);
            counts.opened += u64::from(syn && !ack);
        }
        _ => {}
    }
}

/// The kind of a datagram: its first message, decompressed.
fn kind(datagram: &mut [u8], scratch: &mut Scratch) -> &'static str {
    let mut first = None;
    fixtures::messages(&fixtures::envelope(None), datagram, scratch, |message| {
        first.get_or_insert(match message {
            Message::Ping(_) => "ping",
            Message::Ack(_) => "ack",
            _ => OTHER,
        });
    });
    first.unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use thane_engine::wire::{Ping, SeqNo};

    /// An IPv4 packet with that protocol and transport header and payload.
    fn ip(protocol: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20];
        (packet[0], packet[9]) = (0x45, protocol);
        [packet.as_slice(), rest].concat()
    }

    fn udp(to: u16, payload: &[u8]) -> Vec<u8> {
        let ports = [4000u16.to_be_bytes(), to.to_be_bytes()].concat();
        ip(UDP, &[&ports, &[0; 4][..], payload].concat())
    }

    fn tcp(flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; 24];
        header[..2].copy_from_slice(&GOSSIP_PORT.to_be_bytes());
        (header[12], header[13]) = (6 << 4, flags);
        ip(TCP, &[&header, payload].concat())
    }

    #[test]
    fn packets_are_counted_by_purpose() {
        let mut ping = Vec::new();
        Ping { seq: SeqNo(7), node: "n1", ..Ping::default() }.encode(&mut ping);
        let mut counts = Counts::default();
        let packets = [
            udp(GOSSIP_PORT, &ping),
            udp(GOSSIP_PORT, b"\xc1 is nothing"),
            udp(7373, &ping),
            tcp(0x02, b""),
            tcp(0x12, b""),
            tcp(0x18, b"states"),
            ip(1, b"destination unreachable"),
        ];
        for mut packet in packets {
            count(&mut packet, &mut Scratch::default(), &mut counts);
        }
        let one = |bytes: u64| Count { packets: 1, bytes };
        assert_eq!(counts.datagrams, BTreeMap::from([("ping", one(ping.len() as u64)), (OTHER, one(12))]));
        assert_eq!((counts.streams, counts.opened), (one(6), 1));
        assert_eq!(counts.since(&counts).streams, Count::default());
    }

    #[test]
    fn truncated_packets_do_not_panic() {
        let (udp, tcp) = (udp(GOSSIP_PORT, b"1234"), tcp(0x18, b"1234"));
        for whole in [udp, tcp] {
            for len in 0..whole.len() {
                count(&mut whole[..len].to_vec(), &mut Scratch::default(), &mut Counts::default());
            }
        }
    }
}
