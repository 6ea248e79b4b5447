//! Sending in batches with sendmmsg (Linux).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::address::{CONTROL_BYTES, Control, NAME_BYTES, Name};
use super::socket::Socket;
use super::udp::{Departure, SocketIndex, UdpCounters};

/// Datagrams per system call. The call's own cost is a tenth of a microsecond against some three for each
/// datagram, so more gains nothing.
const BATCH: usize = 64;

/// The headers of one sendmmsg call, allocated once.
pub(super) struct Sender {
    names: Box<[Name; BATCH]>,
    controls: Box<[Control; BATCH]>,
    vectors: Box<[libc::iovec; BATCH]>,
    headers: Box<[libc::mmsghdr; BATCH]>,
    filled: usize,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    pub(super) fn new() -> Sender {
        let mut names = Box::new([Name::EMPTY; BATCH]);
        let controls = Box::new([Control::EMPTY; BATCH]);
        let mut vectors = Box::new([libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH]);
        // SAFETY: mmsghdr is plain data of the C interface, for which all zeroes are a valid (empty) value.
        let mut headers = Box::new([unsafe { std::mem::zeroed::<libc::mmsghdr>() }; BATCH]);
        for ((header, name), vector) in headers.iter_mut().zip(names.iter_mut()).zip(vectors.iter_mut()) {
            header.msg_hdr.msg_name = name.0.as_mut_ptr().cast();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        Sender { names, controls, vectors, headers, filled: 0 }
    }

    /// Sends the batch, consecutive datagrams of one socket together, and returns how many the kernel took.
    pub(super) fn send<'a, 's>(
        &mut self,
        batch: impl Iterator<Item = Departure<'a>>,
        socket_of: impl Fn(SocketIndex) -> Option<&'s Socket>,
        counters: &mut UdpCounters,
    ) -> usize {
        let before = counters.sent;
        let mut open: Option<(SocketIndex, &Socket)> = None;
        for departure in batch {
            let index = departure.socket;
            let socket = match open {
                Some((same, socket)) if same == index && self.filled < BATCH => socket,
                _ => {
                    if let Some((_, socket)) = open.take() {
                        self.flush(socket.udp.as_raw_fd(), counters);
                    }
                    let Some(socket) = socket_of(index) else {
                        counters.send_errors += 1;
                        continue;
                    };
                    open = Some((index, socket));
                    socket
                }
            };
            if !self.push(socket, &departure) {
                counters.send_errors += 1;
            }
        }
        if let Some((_, socket)) = open {
            self.flush(socket.udp.as_raw_fd(), counters);
        }
        (counters.sent - before) as usize
    }

    /// Adds a datagram; false when the socket's family can't reach the address. The bytes must outlive the
    /// next flush, which `send` sees to: they are borrowed for the whole call.
    fn push(&mut self, socket: &Socket, departure: &Departure<'_>) -> bool {
        let &Departure { from, to, bytes, .. } = departure;
        let Some(name_bytes) = self.names[self.filled].encode(to, socket.ipv6) else { return false };
        debug_assert!(name_bytes <= NAME_BYTES, "a name fits its room");
        self.vectors[self.filled] =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let header = &mut self.headers[self.filled].msg_hdr;
        header.msg_namelen = name_bytes as libc::socklen_t;
        (header.msg_control, header.msg_controllen) = (std::ptr::null_mut(), 0);
        if let Some(from) = from {
            let control = &mut self.controls[self.filled];
            control.encode(from);
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
        }
        self.filled += 1;
        true
    }

    /// Sends what was added to one socket. A datagram that the kernel refuses is counted and skipped; when
    /// the socket's buffer is full, the rest is counted and dropped.
    fn flush(&mut self, fd: RawFd, counters: &mut UdpCounters) {
        let count = std::mem::take(&mut self.filled);
        let mut done = 0;
        while done < count {
            let headers = &mut self.headers[done..count];
            // SAFETY: the first `count` headers were filled by `push`: each points to a name, an iovec and perhaps a control message
            // in boxes of self that never move, the iovec to bytes that `send` borrows until it returns. The
            // kernel only reads what they point to and writes msg_len.
            let taken = unsafe {
                libc::sendmmsg(fd, headers.as_mut_ptr(), headers.len() as u32, libc::MSG_DONTWAIT as _)
            };
            if taken > 0 {
                counters.sent += taken as u64;
                done += taken as usize;
                continue;
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    counters.send_would_block += (count - done) as u64;
                    return;
                }
                _ => {
                    counters.send_errors += 1;
                    done += 1;
                }
            }
        }
    }
}
