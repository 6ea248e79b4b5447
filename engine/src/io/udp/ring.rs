//! The io_uring driver: each socket has an armed multishot receive, and all share one ring of buffers.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use super::address::{decode, destination};
use super::socket::Socket;
use super::table::SocketTable;
use super::uring::{BUFFERS_MAX, Filled, Mode, Sizes, Uring};
use super::wake::Wake;
use super::{Arrival, SocketIndex, UdpCounters, UdpOptions};

/// The sockets of one shard on a ring.
#[derive(Debug)]
pub(super) struct Ring {
    wake: Wake,
    uring: Uring,
    /// An index is held while its receive is armed, since it is the receive's token.
    sockets: SocketTable<Socket>,
    /// Sockets whose receive is not armed, oldest first.
    unarmed: VecDeque<SocketIndex>,
    /// How many receives are armed at a time. With more than there are buffers for, some would fail at once.
    arm_at_once: usize,
}

impl Ring {
    /// Opens the ring in the best mode that works on this machine.
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
        Ok(Ring { wake, uring, sockets: SocketTable::default(), unarmed: VecDeque::new(), arm_at_once })
    }

    /// Adds a socket. The next `receive` arms it, and `readable` resolves at once.
    pub(super) fn add(&mut self, socket: Socket) -> SocketIndex {
        let index = self.sockets.insert(socket);
        self.unarmed.push_back(index);
        self.wake.set_pending(true);
        index
    }

    /// Cancels the receive and returns the socket. The kernel releases the socket before this returns, unless so
    /// much work is queued that the rest is left to the next `receive`.
    pub(super) fn remove(&mut self, index: SocketIndex) -> Option<Socket> {
        let socket = self.sockets.remove(index)?;
        if !self.sockets.is_held(index) {
            self.unarmed.retain(|unarmed| *unarmed != index);
            return Some(socket);
        }
        self.wake.set_pending(true);
        // If the kernel refuses (out of memory), the request stays queued for the next `receive`.
        let _ = self.uring.cancel(index.0).and_then(|()| self.uring.enter());
        Some(socket)
    }

    pub(super) fn sockets(&self) -> &SocketTable<Socket> {
        &self.sockets
    }

    pub(super) async fn readable(&self) {
        self.wake.ready().await;
    }

    /// Calls `on` with up to `budget` datagrams in the order of their completions. Errors use up budget as datagrams
    /// do.
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
                // For example out of memory. The requests stay queued.
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

    /// Arms receives, as many as there are probably buffers for.
    fn arm(&mut self, counters: &mut UdpCounters) {
        for _ in 0..self.arm_at_once {
            let Some(index) = self.unarmed.pop_front() else { return };
            let socket = self.sockets.get(index).expect("a removed socket is not in the queue");
            if self.uring.arm(socket.udp.as_raw_fd(), index.0).is_err() {
                counters.receive_errors += 1;
                self.unarmed.push_front(index);
                return;
            }
            self.sockets.hold(index);
        }
    }

    /// Calls `on` with a datagram, unless its socket was removed, and gives the buffer back.
    fn deliver(
        &mut self,
        token: u32,
        filled: Filled,
        counters: &mut UdpCounters,
        on: &mut impl FnMut(Arrival, &mut [u8]),
    ) {
        if self.sockets.get(SocketIndex(token)).is_some()
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

    /// Counts the error of a receive.
    fn note(&mut self, token: u32, error: &io::Error, counters: &mut UdpCounters) {
        if error.raw_os_error() == Some(libc::ENOBUFS) {
            counters.no_buffers += 1;
        } else if self.sockets.get(SocketIndex(token)).is_some() {
            counters.receive_errors += 1;
        }
    }

    /// Handles the end of a receive: it is to be armed again, unless its socket was removed.
    fn ended(&mut self, token: u32, counters: &mut UdpCounters) {
        if self.sockets.release(SocketIndex(token)) {
            self.unarmed.push_back(SocketIndex(token));
            counters.rearmed += 1;
        }
    }
}

/// The best mode in which a ring works on this machine, or why none does. Tried once per process.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::UdpSocket;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A test that waits this long for something has failed.
    const PATIENCE: Duration = Duration::from_secs(60);
    const SOCKETS: usize = 300;
    const ROUNDS: usize = 80;

    /// In each round many sockets get a datagram before any is received; the last one has got two more.
    async fn receive_rounds(mode: Mode) {
        let mut ring = Ring::with_mode(mode, &UdpOptions::default()).unwrap();
        let mut addresses = Vec::new();
        for _ in 0..SOCKETS {
            let socket = UdpSocket::bind("127.82.2.1:0").unwrap();
            addresses.push(socket.local_addr().unwrap());
            ring.add(Socket::new(socket).unwrap());
        }
        let sender = UdpSocket::bind("127.82.2.2:0").unwrap();
        let (mut counters, mut sent) = (UdpCounters::default(), 0);
        for round in 0..ROUNDS {
            let last = &addresses[SOCKETS - 1..];
            for some in [last, last, &addresses[round % 20..]] {
                for address in some {
                    sender.send_to(b"news", address).unwrap();
                    sent += 1;
                }
                while counters.received < sent {
                    tokio::time::timeout(PATIENCE, ring.readable()).await.unwrap();
                    ring.receive(usize::MAX, &mut counters, |_, bytes| assert_eq!(bytes, b"news"));
                }
            }
        }
        assert_eq!(counters.receive_errors, 0);
    }

    /// A receive that brought 32 datagrams is queued again. If that happens while the kernel runs work left over from
    /// its last call, it runs the new work too, but does not clear its flag for queued work. A ring that enters
    /// until the flag is clear then never returns, since only its own thread would send to its sockets.
    #[test]
    fn a_receive_returns_though_the_kernel_reports_queued_work_that_it_has_run() {
        if let Err(why) = supported() {
            return eprintln!("not run, there is no io_uring here: {why}");
        }
        for mode in Mode::ALL {
            let (ended, end) = mpsc::channel();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(receive_rounds(mode));
                ended.send(()).unwrap();
            });
            assert_eq!(end.recv_timeout(PATIENCE), Ok(()), "{mode}: every receive returns");
        }
    }
}
