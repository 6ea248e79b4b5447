//! The io_uring driver: an armed multishot receive for each socket, all into one ring of buffers.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use slab::Slab;

use super::address::{decode, destination};
use super::socket::Socket;
use super::uring::{BUFFERS_MAX, Filled, Mode, Sizes, Uring};
use super::wake::Wake;
use super::{Arrival, SocketIndex, UdpCounters, UdpOptions};

/// The sockets of one shard on a ring.
#[derive(Debug)]
pub(super) struct Ring {
    wake: Wake,
    uring: Uring,
    entries: Slab<Entry>,
    /// Sockets whose receive is to be armed, oldest first.
    unarmed: VecDeque<u32>,
    /// How many are armed at a time: arming more than there are buffers for would only make them fail.
    arm_at_once: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None` once removed. The index is used again only after the receive's last completion.
    socket: Option<Socket>,
    armed: bool,
}

impl Ring {
    /// Opens the ring in the best mode that works here.
    pub(super) fn new(options: &UdpOptions) -> io::Result<Ring> {
        match supported() {
            Ok(mode) => Ring::with_mode(*mode, options),
            Err(why) => Err(io::Error::new(io::ErrorKind::Unsupported, why.as_str())),
        }
    }

    pub(super) fn with_mode(mode: Mode, options: &UdpOptions) -> io::Result<Ring> {
        let buffers = options.receive_buffers.clamp(1, BUFFERS_MAX).next_power_of_two();
        let sockets = options.sockets_expected.clamp(1, BUFFERS_MAX);
        let sizes = Sizes {
            requests: sockets.next_power_of_two().clamp(8, 256),
            completions: (2 * buffers + sockets).next_power_of_two(),
            buffers,
            datagram_bytes_max: options.datagram_bytes_max,
            controls: options.shared_sockets,
        };
        let (uring, event) = Uring::open(mode, &sizes)?;
        let wake = Wake::new(event)?;
        let arm_at_once = (buffers / 4).max(1);
        Ok(Ring { wake, uring, entries: Slab::new(), unarmed: VecDeque::new(), arm_at_once })
    }

    /// The receive is armed by the next `receive`, which `readable` brings about.
    pub(super) fn add(&mut self, socket: Socket) -> SocketIndex {
        let index = self.entries.insert(Entry { socket: Some(socket), armed: false }) as u32;
        self.unarmed.push_back(index);
        self.wake.set_pending(true);
        SocketIndex(index)
    }

    /// Ends the receive and hands the socket back. The kernel lets go of it before this returns, unless it
    /// has so much else to do that the rest is left to the next `receive`.
    pub(super) fn remove(&mut self, index: SocketIndex) -> Option<Socket> {
        let entry = self.entries.get_mut(index.0 as usize)?;
        let socket = entry.socket.take()?;
        if !entry.armed {
            self.unarmed.retain(|unarmed| *unarmed != index.0);
            self.entries.remove(index.0 as usize);
            return Some(socket);
        }
        self.wake.set_pending(true);
        // Should the kernel refuse (out of memory), the request stays queued for the next `receive`.
        let _ = self.uring.cancel(index.0).and_then(|()| self.uring.enter());
        Some(socket)
    }

    pub(super) fn socket(&self, index: SocketIndex) -> Option<&Socket> {
        self.entries.get(index.0 as usize)?.socket.as_ref()
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.entries.iter().filter_map(|(_, entry)| entry.socket.as_ref())
    }

    pub(super) async fn readable(&self) {
        self.wake.ready().await;
    }

    /// Hands out up to `budget` datagrams in the order of their completions. Errors use up budget as
    /// datagrams do.
    pub(super) fn receive(
        &mut self,
        budget: usize,
        counters: &mut UdpCounters,
        mut on: impl FnMut(Arrival, &mut [u8]),
    ) -> usize {
        let before = counters.received;
        let mut left = budget;
        self.wake.set_pending(true);
        self.uring.mute();
        while left > 0 {
            self.arm(counters);
            if self.uring.wants_enter() && self.uring.enter().is_err() {
                // Out of memory, say. The requests stay queued.
                counters.receive_errors += 1;
                break;
            }
            let had = left;
            while left > 0
                && let Some(completion) = self.uring.next()
            {
                left -= 1;
                match completion.result {
                    Ok(filled) => self.deliver(completion.token, filled, counters, &mut on),
                    Err(error) => self.note(completion.token, &error, counters),
                }
                if !completion.goes_on {
                    self.ended(completion.token, counters);
                }
            }
            self.uring.publish();
            if had == left && self.unarmed.is_empty() {
                if self.uring.unmute().unwrap_or(true) {
                    self.uring.mute();
                } else {
                    self.wake.set_pending(false);
                    break;
                }
            }
        }
        (counters.received - before) as usize
    }

    /// Starts receives that are due, as many as there are likely buffers for.
    fn arm(&mut self, counters: &mut UdpCounters) {
        for _ in 0..self.arm_at_once {
            let Some(index) = self.unarmed.pop_front() else { return };
            let entry = &mut self.entries[index as usize];
            let socket = entry.socket.as_ref().expect("a removed socket is not in the queue");
            if self.uring.arm(socket.udp.as_raw_fd(), index).is_err() {
                counters.receive_errors += 1;
                self.unarmed.push_front(index);
                return;
            }
            entry.armed = true;
        }
    }

    /// Hands a datagram out, unless its socket was removed, and gives the buffer back.
    fn deliver(
        &mut self,
        token: u32,
        filled: Filled,
        counters: &mut UdpCounters,
        on: &mut impl FnMut(Arrival, &mut [u8]),
    ) {
        if self.entries[token as usize].socket.is_some()
            && let Some(parts) = self.uring.parts(&filled)
        {
            if parts.truncated {
                counters.truncated += 1;
            } else if let Some(from) = decode(parts.name) {
                counters.received += 1;
                let arrival = Arrival { socket: SocketIndex(token), from, to: destination(parts.control) };
                on(arrival, parts.payload);
            }
        }
        self.uring.recycle(filled);
    }

    /// Counts why a receive brought nothing.
    fn note(&mut self, token: u32, error: &io::Error, counters: &mut UdpCounters) {
        if error.raw_os_error() == Some(libc::ENOBUFS) {
            counters.no_buffers += 1;
        } else if self.entries[token as usize].socket.is_some() {
            counters.receive_errors += 1;
        }
    }

    /// A receive has ended: it is armed again, or its index is free at last.
    fn ended(&mut self, token: u32, counters: &mut UdpCounters) {
        let entry = &mut self.entries[token as usize];
        entry.armed = false;
        if entry.socket.is_some() {
            self.unarmed.push_back(token);
            counters.rearmed += 1;
        } else {
            self.entries.remove(token as usize);
        }
    }
}

/// The best mode in which a ring works on this machine, or why none does. Tried once in the process's life.
pub(super) fn supported() -> &'static Result<Mode, String> {
    static SUPPORTED: OnceLock<Result<Mode, String>> = OnceLock::new();
    SUPPORTED.get_or_init(|| {
        let mut why = String::new();
        for mode in Mode::ALL {
            match super::uring::try_out(mode) {
                Ok(()) => return Ok(mode),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    })
}
