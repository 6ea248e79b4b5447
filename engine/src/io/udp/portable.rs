//! The portable driver for systems other than Linux: tokio's sockets, one system call per datagram.
//!
//! Each wait polls every socket, which suits an agent with one node, not a fleet. Linux uses `epoll` instead; the
//! tests run this driver on Linux too.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;

use socket2::SockRef;
use tokio::net::UdpSocket;

use super::socket::Socket;
use super::table::SocketTable;
use super::{Arrival, Departure, SocketIndex, UdpCounters, UdpOptions};

/// tokio's sockets and one receive buffer.
#[derive(Debug)]
pub(super) struct Portable {
    sockets: SocketTable<AsyncSocket>,
    buffer: Vec<u8>,
    /// The socket with which the next `receive` begins, so that none is always first.
    turn: usize,
    /// Places of the datagrams of the last batch that the system refused.
    refused: Vec<usize>,
}

#[derive(Debug)]
struct AsyncSocket {
    udp: UdpSocket,
    ipv6: bool,
}

impl Portable {
    pub(super) fn new(options: &UdpOptions) -> Portable {
        // One byte more than allowed, to tell a datagram that fits from one that was truncated.
        let buffer = vec![0; options.datagram_bytes_max + 1];
        Portable { sockets: SocketTable::default(), buffer, turn: 0, refused: Vec::new() }
    }

    /// Places of the datagrams of the last batch that the system refused, except for want of space.
    pub(super) fn refused(&self) -> &[usize] {
        &self.refused
    }

    pub(super) fn add(&mut self, socket: Socket) -> io::Result<SocketIndex> {
        let socket = AsyncSocket { udp: UdpSocket::from_std(socket.udp)?, ipv6: socket.ipv6 };
        Ok(self.sockets.insert(socket))
    }

    pub(super) fn remove(&mut self, index: SocketIndex) {
        self.sockets.remove(index);
    }

    pub(super) async fn readable(&self) {
        poll_fn(|context| {
            let ready = self.sockets.iter().any(|(_, socket)| socket.udp.poll_recv_ready(context).is_ready());
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Calls `on` with up to `budget` datagrams, one from each ready socket in turn. An error uses up budget as a
    /// datagram does.
    pub(super) fn receive(
        &mut self,
        budget: usize,
        counters: &mut UdpCounters,
        mut on: impl FnMut(Arrival, &mut [u8]),
    ) -> usize {
        let before = counters.received;
        let datagram_bytes_max = self.buffer.len() - 1;
        let mut indexes: Vec<SocketIndex> = self.sockets.iter().map(|(index, _)| index).collect();
        if !indexes.is_empty() {
            self.turn = (self.turn + 1) % indexes.len();
            indexes.rotate_left(self.turn);
        }
        let mut left = budget;
        while left > 0 && !indexes.is_empty() {
            indexes.retain(|&index| {
                if left == 0 {
                    return true;
                }
                let Some(socket) = self.sockets.get(index) else { return false };
                match socket.udp.try_recv_from(&mut self.buffer) {
                    Ok((length, _)) if length > datagram_bytes_max => counters.truncated += 1,
                    Ok((length, from)) => {
                        counters.received += 1;
                        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                        let arrival = Arrival { socket: index, from, to: None };
                        on(arrival, &mut self.buffer[..length]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                    Err(error) if is_cut(&error) => counters.truncated += 1,
                    // Windows reports here that an earlier datagram was sent to a port without a listener.
                    Err(_) => counters.receive_errors += 1,
                }
                left -= 1;
                true
            });
        }
        (counters.received - before) as usize
    }

    /// Sends the batch and returns the number of datagrams that the system accepted.
    pub(super) fn send<'a>(
        &mut self,
        batch: impl Iterator<Item = Departure<'a>>,
        counters: &mut UdpCounters,
    ) -> usize {
        let before = counters.sent;
        self.refused.clear();
        for (place, Departure { socket, to, bytes, .. }) in batch.enumerate() {
            let Some(socket) = self.sockets.get(socket) else {
                counters.send_errors += 1;
                self.refused.push(place);
                continue;
            };
            // Without tokio, whose send considers the socket writable only after a first wait.
            match SockRef::from(&socket.udp).send_to(bytes, &reachable(to, socket.ipv6).into()) {
                Ok(_) => counters.sent += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => counters.send_would_block += 1,
                Err(_) => {
                    counters.send_errors += 1;
                    self.refused.push(place);
                }
            }
        }
        (counters.sent - before) as usize
    }
}

/// The address in the form of the socket's family. The system refuses what can't be converted.
fn reachable(to: SocketAddr, ipv6: bool) -> SocketAddr {
    match to {
        SocketAddr::V4(v4) if ipv6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(v6) if !ipv6 => SocketAddr::new(v6.ip().to_canonical(), v6.port()),
        _ => to,
    }
}

/// Whether the datagram was truncated: Windows returns an error (WSAEMSGSIZE) instead of a short datagram.
fn is_cut(error: &io::Error) -> bool {
    cfg!(windows) && error.raw_os_error() == Some(10_040)
}
