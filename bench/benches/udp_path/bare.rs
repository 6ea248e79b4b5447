//! Bare loops: what sending and receiving datagrams costs with nothing around it.
#![allow(unsafe_code)]

use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Datagrams per system call at most, and the most that are under way at one time.
pub(crate) const BATCH: usize = 64;

/// Room for one datagram.
pub(crate) const BUFFER_BYTES: usize = 2_048;

/// Something that sends and receives on its socket.
pub(crate) trait Bare {
    /// Sends all of these.
    fn send(&mut self, packets: &[Vec<u8>], to: SocketAddrV4);
    /// Receives that many datagrams, which have all arrived.
    fn receive(&mut self, count: usize, on: &mut dyn FnMut(&mut [u8]));
}

/// sendto and recvfrom, with a poll before the first of those that have arrived together if it has to wait.
pub(crate) struct OneByOne {
    pub(crate) socket: UdpSocket,
    pub(crate) polls: bool,
}

impl Bare for OneByOne {
    fn send(&mut self, packets: &[Vec<u8>], to: SocketAddrV4) {
        for packet in packets {
            self.socket.send_to(packet, SocketAddr::V4(to)).expect("loopback takes it");
        }
    }

    fn receive(&mut self, count: usize, on: &mut dyn FnMut(&mut [u8])) {
        if self.polls {
            let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, as said; the kernel writes its revents.
            taken(unsafe { libc::poll(&mut poll, 1, -1) });
        }
        let mut buffer = [0; BUFFER_BYTES];
        for _ in 0..count {
            let (bytes, _) = self.socket.recv_from(&mut buffer).expect("it was sent");
            on(&mut buffer[..bytes]);
        }
    }
}

/// sendmmsg and recvmmsg with that many datagrams at a time.
pub(crate) struct Together {
    pub(crate) socket: UdpSocket,
    pub(crate) batch: usize,
    buffers: Vec<[u8; BUFFER_BYTES]>,
}

impl Together {
    pub(crate) fn new(socket: UdpSocket, batch: usize) -> Together {
        Together { socket, batch: batch.min(BATCH), buffers: vec![[0; BUFFER_BYTES]; BATCH] }
    }
}

impl Bare for Together {
    fn send(&mut self, packets: &[Vec<u8>], to: SocketAddrV4) {
        let mut name = encode(to);
        for packets in packets.chunks(self.batch) {
            let mut vectors = [const { VECTOR }; BATCH];
            let mut headers = [const { empty_header() }; BATCH];
            for ((packet, vector), header) in packets.iter().zip(&mut vectors).zip(&mut headers) {
                *vector = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
                (header.msg_hdr.msg_iov, header.msg_hdr.msg_iovlen) = (vector, 1);
                header.msg_hdr.msg_name = (&raw mut name).cast();
                header.msg_hdr.msg_namelen = NAME_BYTES;
            }
            let mut done = 0;
            while done < packets.len() {
                let rest = &mut headers[done..packets.len()];
                // SAFETY: each header points to a name, a vector and bytes that outlive this call.
                let sent = unsafe {
                    libc::sendmmsg(self.socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0)
                };
                done += taken(sent);
            }
        }
    }

    fn receive(&mut self, count: usize, on: &mut dyn FnMut(&mut [u8])) {
        let mut left = count;
        while left > 0 {
            let share = left.min(self.batch);
            let mut names = [const { EMPTY_NAME }; BATCH];
            let mut vectors = [const { VECTOR }; BATCH];
            let mut headers = [const { empty_header() }; BATCH];
            let parts = self.buffers.iter_mut().zip(&mut vectors).zip(&mut names).zip(&mut headers);
            for (((buffer, vector), name), header) in parts.take(share) {
                *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: BUFFER_BYTES };
                (header.msg_hdr.msg_iov, header.msg_hdr.msg_iovlen) = (vector, 1);
                header.msg_hdr.msg_name = (&raw mut *name).cast();
                header.msg_hdr.msg_namelen = NAME_BYTES;
            }
            let (fd, flags) = (self.socket.as_raw_fd(), libc::MSG_WAITFORONE as _);
            // SAFETY: each header points to a name, a vector and a buffer that outlive this call, with their sizes.
            let came = unsafe {
                libc::recvmmsg(fd, headers.as_mut_ptr(), share as u32, flags, std::ptr::null_mut())
            };
            let came = taken(came);
            for (buffer, header) in self.buffers.iter_mut().zip(&headers[..came]) {
                on(&mut buffer[..header.msg_len as usize]);
            }
            left -= came;
        }
    }
}

const VECTOR: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
pub(crate) const EMPTY_NAME: libc::sockaddr_in =
    libc::sockaddr_in { sin_family: 0, sin_port: 0, sin_addr: libc::in_addr { s_addr: 0 }, sin_zero: [0; 8] };
pub(crate) const NAME_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

const fn empty_header() -> libc::mmsghdr {
    // SAFETY: mmsghdr is plain data of the C interface, for which all zeroes are a valid (empty) value.
    unsafe { std::mem::zeroed() }
}

pub(crate) fn encode(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

fn taken(result: i32) -> usize {
    usize::try_from(result).unwrap_or_else(|_| panic!("{}", io::Error::last_os_error()))
}

/// The processor time of the calling thread.
pub(crate) fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "every thread has a clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
