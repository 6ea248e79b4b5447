//! The portable driver for systems other than Linux: tokio's sockets, one system call per datagram.
//!
//! Waiting looks at every socket, so it suits an agent with one node, not a fleet. Linux has `epoll` for
//! this; its tests run this driver as well, since nothing else would.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;

use slab::Slab;
use socket2::SockRef;
use tokio::net::UdpSocket;

use super::socket::Socket;
use super::{Arrival, Departure, SocketIndex, UdpCounters, UdpOptions};

/// tokio's sockets and one receive buffer.
#[derive(Debug)]
pub(super) struct Portable {
    sockets: Slab<Entry>,
    buffer: Vec<u8>,
    /// Where the next `receive` begins, so that no socket is always first.
    turn: usize,
}

#[derive(Debug)]
struct Entry {
    udp: UdpSocket,
    ipv6: bool,
}

impl Portable {
    pub(super) fn new(options: &UdpOptions) -> Portable {
        // One byte more than allowed tells a datagram that fits from one that was cut.
        Portable { sockets: Slab::new(), buffer: vec![0; options.datagram_bytes_max + 1], turn: 0 }
    }

    pub(super) fn add(&mut self, socket: Socket) -> io::Result<SocketIndex> {
        let entry = Entry { udp: UdpSocket::from_std(socket.udp)?, ipv6: socket.ipv6 };
        Ok(SocketIndex(self.sockets.insert(entry) as u32))
    }

    pub(super) fn remove(&mut self, index: SocketIndex) {
        self.sockets.try_remove(index.0 as usize);
    }

    pub(super) async fn readable(&self) {
        poll_fn(|context| {
            let ready = self.sockets.iter().any(|(_, entry)| entry.udp.poll_recv_ready(context).is_ready());
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Hands out up to `budget` datagrams, one from each ready socket in turn. An error uses up budget as a
    /// datagram does.
    pub(super) fn receive(
        &mut self,
        budget: usize,
        counters: &mut UdpCounters,
        mut on: impl FnMut(Arrival, &mut [u8]),
    ) -> usize {
        let before = counters.received;
        let datagram_bytes_max = self.buffer.len() - 1;
        let mut keys: Vec<usize> = self.sockets.iter().map(|(key, _)| key).collect();
        if !keys.is_empty() {
            self.turn = (self.turn + 1) % keys.len();
            keys.rotate_left(self.turn);
        }
        let mut left = budget;
        while left > 0 && !keys.is_empty() {
            keys.retain(|&key| {
                if left == 0 {
                    return true;
                }
                match self.sockets[key].udp.try_recv_from(&mut self.buffer) {
                    Ok((length, _)) if length > datagram_bytes_max => counters.truncated += 1,
                    Ok((length, from)) => {
                        counters.received += 1;
                        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                        let arrival = Arrival { socket: SocketIndex(key as u32), from, to: None };
                        on(arrival, &mut self.buffer[..length]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                    Err(error) if is_cut(&error) => counters.truncated += 1,
                    // Windows reports here that an earlier datagram of ours found no listener.
                    Err(_) => counters.receive_errors += 1,
                }
                left -= 1;
                true
            });
        }
        (counters.received - before) as usize
    }

    /// Sends the batch and returns how many datagrams the system took.
    pub(super) fn send<'a>(
        &mut self,
        batch: impl Iterator<Item = Departure<'a>>,
        counters: &mut UdpCounters,
    ) -> usize {
        let before = counters.sent;
        for Departure { socket, to, bytes, .. } in batch {
            let Some(entry) = self.sockets.get(socket.0 as usize) else {
                counters.send_errors += 1;
                continue;
            };
            // Straight to the socket: tokio's own send knows it as writable only after a first wait.
            match SockRef::from(&entry.udp).send_to(bytes, &reachable(to, entry.ipv6).into()) {
                Ok(_) => counters.sent += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => counters.send_would_block += 1,
                Err(_) => counters.send_errors += 1,
            }
        }
        (counters.sent - before) as usize
    }
}

/// The address in the form that the socket's family takes; what can't be converted the system refuses.
fn reachable(to: SocketAddr, ipv6: bool) -> SocketAddr {
    match to {
        SocketAddr::V4(v4) if ipv6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(v6) if !ipv6 => SocketAddr::new(v6.ip().to_canonical(), v6.port()),
        _ => to,
    }
}

/// Windows gives an error (WSAEMSGSIZE) instead of a cut datagram.
fn is_cut(error: &io::Error) -> bool {
    cfg!(windows) && error.raw_os_error() == Some(10_040)
}
