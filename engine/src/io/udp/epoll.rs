//! The portable driver on Linux: one epoll instance for all sockets, and recvmmsg.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::address::{CONTROL_BYTES, Control, NAME_BYTES, Name, decode, destination};
use super::mapping::Buffers;
use super::socket::Socket;
use super::table::SocketTable;
use super::wake::Wake;
use super::{Arrival, SocketIndex, UdpCounters, UdpOptions, failed};

/// Ready sockets per epoll_wait call at most.
const EVENTS: usize = 64;

/// Datagrams per recvmmsg call at most.
const BATCH: usize = 64;

/// Sockets in one epoll instance, which the runtime watches.
#[derive(Debug)]
pub(super) struct Epoll {
    wake: Wake,
    sockets: SocketTable<Socket>,
    batch: Batch,
}

impl Epoll {
    pub(super) fn new(options: &UdpOptions) -> io::Result<Epoll> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(failed("epoll", &io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was just created and nobody else owns it.
        let wake = Wake::new(unsafe { OwnedFd::from_raw_fd(fd) })?;
        let batch = Batch::new(options)?;
        Ok(Epoll { wake, sockets: SocketTable::default(), batch })
    }

    pub(super) fn add(&mut self, socket: Socket) -> io::Result<SocketIndex> {
        let fd = socket.udp.as_raw_fd();
        let index = self.sockets.insert(socket);
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: u64::from(index.0) };
        // SAFETY: both descriptors are open, the kernel copies the event.
        if unsafe { libc::epoll_ctl(self.wake.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) } < 0 {
            let error = failed("epoll", &io::Error::last_os_error());
            self.sockets.remove(index);
            return Err(error);
        }
        Ok(index)
    }

    pub(super) fn remove(&mut self, index: SocketIndex) -> Option<Socket> {
        let socket = self.sockets.remove(index)?;
        let fd = socket.udp.as_raw_fd();
        // SAFETY: both descriptors are open and a removal reads no event. It fails only for a descriptor that is
        // not in the instance. Closing alone does not remove it while a child process holds a copy.
        unsafe { libc::epoll_ctl(self.wake.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
        Some(socket)
    }

    pub(super) fn sockets(&self) -> &SocketTable<Socket> {
        &self.sockets
    }

    pub(super) async fn readable(&self) {
        self.wake.ready().await;
    }

    /// Calls `on` with up to `budget` datagrams, a fair share from each ready socket in turn. Errors use up budget as
    /// datagrams do, so that a socket that only fails can't block the shard.
    pub(super) fn receive(
        &mut self,
        budget: usize,
        counters: &mut UdpCounters,
        mut on: impl FnMut(Arrival, &mut [u8]),
    ) -> usize {
        let before = counters.received;
        let mut left = budget;
        let mut more = true;
        while more && left > 0 {
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
            // A socket that was reported moves to the end of the kernel's list, so ask for no more than get a share.
            let room = EVENTS.min(left);
            let ready = self.wait(&mut events[..room]);
            more = ready == room;
            for (handled, event) in events[..ready].iter().enumerate() {
                let index = SocketIndex(event.u64 as u32);
                let Some(socket) = self.sockets.get(index) else { continue };
                if left == 0 {
                    more = true;
                    break;
                }
                let share = (left / (ready - handled)).max(1);
                let fd = socket.udp.as_raw_fd();
                let took = self.batch.receive(fd, index, share, counters, &mut on);
                left -= took.count.clamp(1, left);
                more |= took.more;
            }
        }
        self.wake.set_pending(more);
        (counters.received - before) as usize
    }

    /// Gets ready sockets without waiting.
    fn wait(&self, events: &mut [libc::epoll_event]) -> usize {
        loop {
            // SAFETY: the kernel writes at most events.len() entries.
            let ready = unsafe {
                libc::epoll_wait(self.wake.as_raw_fd(), events.as_mut_ptr(), events.len() as i32, 0)
            };
            if ready >= 0 {
                return ready as usize;
            }
            let error = io::Error::last_os_error();
            assert_eq!(error.kind(), io::ErrorKind::Interrupted, "epoll_wait on our own descriptor: {error}");
        }
    }
}

/// The result of one recvmmsg call.
struct Took {
    count: usize,
    /// Another call may find more.
    more: bool,
}

/// Headers and buffers of one recvmmsg call, allocated once.
struct Batch {
    names: Box<[Name]>,
    /// Empty without shared sockets.
    controls: Box<[Control]>,
    headers: Box<[libc::mmsghdr]>,
    /// Only the kernel reads them, through the headers.
    _vectors: Box<[libc::iovec]>,
    buffers: Buffers,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("buffers", &self.buffers).finish_non_exhaustive()
    }
}

impl Batch {
    fn new(options: &UdpOptions) -> io::Result<Batch> {
        let count = options.receive_buffers.clamp(1, BATCH);
        let buffers = Buffers::map(count, options.datagram_bytes_max)?;
        let mut names = vec![Name::EMPTY; count].into_boxed_slice();
        let controls_count = if options.shared_sockets { count } else { 0 };
        let mut controls = vec![Control::EMPTY; controls_count].into_boxed_slice();
        let mut vectors: Box<[libc::iovec]> = (0..count)
            .map(|index| libc::iovec {
                iov_base: buffers.address(index).cast(),
                iov_len: options.datagram_bytes_max,
            })
            .collect();
        let mut headers: Box<[libc::mmsghdr]> = names
            .iter_mut()
            .zip(vectors.iter_mut())
            .map(|(name, vector)| {
                // SAFETY: mmsghdr is plain data of the C interface, for which all zeroes are a valid value.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_name = name.0.as_mut_ptr().cast();
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_namelen = NAME_BYTES as libc::socklen_t;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        for (header, control) in headers.iter_mut().zip(controls.iter_mut()) {
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
        }
        Ok(Batch { names, controls, headers, _vectors: vectors, buffers })
    }

    /// One recvmmsg call for up to `share` datagrams.
    fn receive(
        &mut self,
        fd: RawFd,
        socket: SocketIndex,
        share: usize,
        counters: &mut UdpCounters,
        on: &mut impl FnMut(Arrival, &mut [u8]),
    ) -> Took {
        let share = share.min(self.headers.len());
        // SAFETY: the headers point to names, iovecs, controls and buffers that self owns and that never move; the
        // kernel writes within the lengths given there.
        let came = unsafe {
            let headers = self.headers.as_mut_ptr();
            libc::recvmmsg(fd, headers, share as u32, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
        };
        if came < 0 {
            let kind = io::Error::last_os_error().kind();
            let failed = kind != io::ErrorKind::WouldBlock && kind != io::ErrorKind::Interrupted;
            counters.receive_errors += u64::from(failed);
            return Took { count: 0, more: kind != io::ErrorKind::WouldBlock };
        }
        let count = came as usize;
        for (index, header) in self.headers[..count].iter_mut().enumerate() {
            let length = header.msg_len as usize;
            let name_bytes = (header.msg_hdr.msg_namelen as usize).min(NAME_BYTES);
            header.msg_hdr.msg_namelen = NAME_BYTES as libc::socklen_t;
            let control = self.controls.get(index).map(|control| {
                let bytes = header.msg_hdr.msg_controllen.min(CONTROL_BYTES);
                header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
                &control.0[..bytes]
            });
            if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                counters.truncated += 1;
            } else if let Some(from) = decode(&self.names[index].0[..name_bytes]) {
                counters.received += 1;
                let arrival = Arrival { socket, from, to: control.and_then(destination) };
                // SAFETY: the kernel writes to the buffers only during recvmmsg, which has returned.
                on(arrival, &mut unsafe { self.buffers.buffer(index) }[..length]);
            }
            self.buffers.trim(index, length);
        }
        Took { count, more: count == share }
    }
}
