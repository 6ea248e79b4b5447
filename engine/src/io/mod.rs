//! Sockets: the only part of the engine with `unsafe`, system calls and the machine's clock.
//!
//! [`udp`] is the face of the UDP data plane: one [`Udp`] per shard serves the sockets of all its nodes,
//! through an io_uring ring ([`Driver::IoUring`]) or through ordinary system calls ([`Driver::Portable`]).
//! [`bind_udp_with_retry`] binds a socket. What lies below is private: `epoll` and `portable` are the two
//! portable drivers (Linux with recvmmsg, everything else with tokio's sockets), `send` writes datagrams in
//! batches, `mapping` is the memory that datagrams are received into, `address` the kernel's form of socket
//! addresses.

#[cfg(target_os = "linux")]
mod address;
mod clock;
#[cfg(target_os = "linux")]
mod epoll;
mod journal;
pub mod keyring_file;
pub(crate) mod mailbox;
#[cfg(target_os = "linux")]
mod mapping;
#[cfg(any(not(target_os = "linux"), test))]
mod portable;
pub(crate) mod seat;
#[cfg(target_os = "linux")]
mod send;
pub(crate) mod shard;
mod socket;
mod tcp;
pub mod udp;
#[cfg(test)]
mod udp_tests;
#[cfg(target_os = "linux")]
mod wake;

pub use socket::bind_udp_with_retry;
pub use udp::{Driver, DriverChoice, SocketIndex, Udp, UdpCounters, UdpOptions};
