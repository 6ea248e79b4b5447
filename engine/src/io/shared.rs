//! One UDP socket and one TCP listener for all nodes of a shard, bound to the unspecified address. The destination
//! address of a datagram or connection selects the node, so 127.0.0.0/8 serves as many nodes as it has addresses.
//!
//! Several shards bind the same port in a group (SO_REUSEPORT). A classic BPF program of the group passes each
//! packet to the shard that serves its destination address.
#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

/// Receive buffer requested for a socket that nodes share, bytes. Datagrams to all of them may arrive at once while
/// their shard handles something else.
const KERNEL_BUFFER_BYTES: libc::c_int = 64 << 20;
/// Connections that may wait to be accepted; the system's limit is usually lower.
const BACKLOG: i32 = 16 * 1024;
/// Offset of a packet's IPv4 destination from its network header, as BPF programs of the kernel address it.
const DESTINATION: u32 = libc::SKF_NET_OFF as u32 + 16;

/// The shard that serves an address, of `shards` shards.
pub(crate) fn shard_of(ip: Ipv4Addr, shards: u32) -> u32 {
    u32::from(ip) % shards
}

/// Binds both sockets of shard `shard`. The shards must bind in order, beginning with 0: the kernel numbers the
/// group's sockets in the order in which they were bound. Port 0: the system picks one.
///
/// # Errors
/// The port is in use, or the kernel refuses the BPF program. Nothing stays bound.
pub(crate) fn bind(port: u16, shard: u32, shards: u32) -> io::Result<(TcpListener, UdpSocket)> {
    let tcp = open(Type::STREAM, Protocol::TCP, port, shards)?;
    tcp.listen(BACKLOG)?;
    let port = tcp.local_addr()?.as_socket().map_or(port, |addr| addr.port());
    let udp = open(Type::DGRAM, Protocol::UDP, port, shards)?;
    if shard == 0 && shards > 1 {
        steer(tcp.as_raw_fd(), shards)?;
        steer(udp.as_raw_fd(), shards)?;
    }
    Ok((tcp.into(), udp.into()))
}

fn open(kind: Type, protocol: Protocol, port: u16, shards: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
    if shards > 1 {
        socket.set_reuse_port(true)?;
    } else if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    Ok(socket)
}

/// Makes the kernel choose the group's socket by destination, with the arithmetic of [`shard_of`].
fn steer(socket: RawFd, shards: u32) -> io::Result<()> {
    let step = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, DESTINATION),
        step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, shards),
        step(libc::BPF_RET | libc::BPF_A, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

/// Makes the kernel report the destination address of each datagram.
pub(super) fn report_destinations(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    set(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO, &on)
}

/// Makes a later bind of an address with port 0 take no port of that address; connecting picks one.
pub(super) fn bind_without_port(socket: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    set(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &on)
}

/// Enlarges the receive buffer beyond the system's limit, if this process is allowed to.
pub(super) fn enlarge(socket: &UdpSocket) {
    // Without that right the buffer stays as it is; datagrams that don't fit are counted as kernel drops.
    let _ = set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &KERNEL_BUFFER_BYTES);
}

/// Pins the calling thread to a processor, counted from 0, modulo the number of processors. Returns false if the
/// system refuses.
pub(crate) fn pin(processor: usize) -> bool {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // SAFETY: a cpu_set_t is a plain set of bits, for which all zeroes are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number is below the set's size (CPU_SETSIZE is 1,024), and the kernel only reads the set.
    unsafe {
        libc::CPU_SET((processor % processors).min(libc::CPU_SETSIZE as usize - 1), &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
    }
}

fn set<T>(socket: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of the value, and for a BPF program the steps that it points to,
    // which the caller holds.
    let result = unsafe { libc::setsockopt(socket, level, name, std::ptr::from_ref(value).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_kernel_steers_as_shard_of_says() {
        const SHARDS: u32 = 3;
        let (first_tcp, first_udp) = bind(0, 0, SHARDS).unwrap();
        let port = first_udp.local_addr().unwrap().port();
        let mut sockets = vec![(first_tcp, first_udp)];
        sockets.extend((1..SHARDS).map(|shard| bind(port, shard, SHARDS).unwrap()));
        for last in 1..40 {
            let ip = Ipv4Addr::new(127, 34, 4, last);
            let shard = shard_of(ip, SHARDS) as usize;
            let client = UdpSocket::bind("127.34.4.200:0").unwrap();
            client.send_to(&[last], (ip, port)).unwrap();
            let (tcp, udp) = &sockets[shard];
            udp.set_nonblocking(false).unwrap();
            udp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut byte = [0];
            udp.recv(&mut byte).unwrap();
            assert_eq!(byte, [last]);
            let stream = std::net::TcpStream::connect((ip, port)).unwrap();
            tcp.set_nonblocking(false).unwrap();
            let (accepted, from) = tcp.accept().unwrap();
            assert_eq!(accepted.local_addr().unwrap(), SocketAddr::from((ip, port)));
            assert_eq!(from, stream.local_addr().unwrap());
        }
    }

    #[test]
    fn a_thread_can_be_pinned() {
        assert!(std::thread::spawn(|| pin(5)).join().unwrap());
    }
}
