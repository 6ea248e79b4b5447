//! Binding and sizing of UDP sockets.

#![cfg_attr(target_os = "linux", allow(unsafe_code))]

use std::io;
use std::net::{SocketAddr, UdpSocket};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use socket2::SockRef;

/// The kernel buffer requested for each socket and direction, bytes: the size that Serf requests.
const KERNEL_BUFFER_BYTES: usize = 2 << 20;

/// Pause between two attempts to bind.
const BIND_PAUSE: Duration = Duration::from_millis(2);

/// Binds a UDP socket. An address in use is tried again until `within` has passed.
///
/// After the end of a process with an armed ring receive, its port stays in use for 5 to 12 ms, so an agent that
/// is restarted at once needs a second attempt; 100 ms are plenty. The calling thread sleeps between attempts.
///
/// # Errors
/// The system's last error: an address in use after `within`, any other error at once. Nothing stays bound.
pub fn bind_udp_with_retry(address: SocketAddr, within: Duration) -> io::Result<UdpSocket> {
    let deadline = Instant::now() + within;
    loop {
        match UdpSocket::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(BIND_PAUSE);
            }
            result => return result,
        }
    }
}

/// A bound, non-blocking socket with its buffers sized.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) udp: UdpSocket,
    /// Whether it is an IPv6 socket, to which IPv4 peers have mapped addresses.
    pub(super) ipv6: bool,
}

impl Socket {
    pub(super) fn new(udp: UdpSocket) -> io::Result<Socket> {
        udp.set_nonblocking(true)?;
        let ipv6 = udp.local_addr()?.is_ipv6();
        let socket = SockRef::from(&udp);
        enlarge(|bytes| socket.set_recv_buffer_size(bytes));
        enlarge(|bytes| socket.set_send_buffer_size(bytes));
        Ok(Socket { udp, ipv6 })
    }

    /// Datagrams that the kernel dropped because the socket's receive buffer was full.
    #[cfg(target_os = "linux")]
    pub(super) fn kernel_drops(&self) -> u64 {
        let mut info = [0u32; libc::SK_MEMINFO_DROPS as usize + 1];
        let mut length = size_of_val(&info) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, the size of `info`.
        let result = unsafe {
            let value = info.as_mut_ptr().cast();
            libc::getsockopt(self.udp.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, value, &mut length)
        };
        if result < 0 { 0 } else { u64::from(info[libc::SK_MEMINFO_DROPS as usize]) }
    }
}

/// Requests a kernel buffer, and half of it each time that the system refuses (Linux caps it silently instead).
fn enlarge(set: impl Fn(usize) -> io::Result<()>) {
    let mut bytes = KERNEL_BUFFER_BYTES;
    while set(bytes).is_err() && bytes > 1024 {
        bytes /= 2;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;

    #[test]
    fn a_taken_address_is_an_error_after_the_deadline() {
        let first = bind_udp_with_retry("127.12.1.1:0".parse().unwrap(), Duration::ZERO).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind_udp_with_retry(address, Duration::from_millis(10)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_taken_address_is_tried_until_it_is_free() {
        let first = bind_udp_with_retry("127.12.1.2:0".parse().unwrap(), Duration::ZERO).unwrap();
        let address = first.local_addr().unwrap();
        let waiting =
            std::thread::spawn(move || bind_udp_with_retry(address, Duration::from_secs(60)).is_ok());
        // Gives the other thread time to find the address in use; the result is the same without.
        std::thread::sleep(5 * BIND_PAUSE);
        drop(first);
        assert!(waiting.join().unwrap());
    }

    /// Linux caps a request at the system's limit, and reports twice what it grants.
    #[cfg(target_os = "linux")]
    #[test]
    fn buffers_are_enlarged() {
        let socket = Socket::new(UdpSocket::bind("127.12.1.3:0").unwrap()).unwrap();
        let granted = |limit: &str| {
            let text = std::fs::read_to_string(Path::new("/proc/sys/net/core").join(limit)).unwrap();
            2 * text.trim().parse::<usize>().unwrap().min(KERNEL_BUFFER_BYTES)
        };
        let buffers = SockRef::from(&socket.udp);
        assert_eq!(buffers.recv_buffer_size().unwrap(), granted("rmem_max"));
        assert_eq!(buffers.send_buffer_size().unwrap(), granted("wmem_max"));
        assert!(!socket.ipv6);
    }

    #[test]
    fn halving_ends_where_the_kernel_agrees() {
        let accepted = std::cell::Cell::new(0);
        enlarge(|bytes| {
            if bytes > 300_000 {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            accepted.set(bytes);
            Ok(())
        });
        assert_eq!(accepted.get(), 262_144);
        enlarge(|_| Err(io::ErrorKind::InvalidInput.into()));
    }
}
