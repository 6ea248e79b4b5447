//! Sockets: the only part of the engine with `unsafe`, system calls and the machine's clock.
//!
//! [`udp`] is the face of the UDP data plane: one [`Udp`] per shard serves the sockets of all its nodes,
//! through an io_uring ring ([`Driver::IoUring`]) or through ordinary system calls ([`Driver::Portable`]).
//! [`bind_udp_with_retry`] binds a socket. What lies below is private: `ring` is the io_uring driver on top of
//! `uring`, the raw ring; `epoll` and `portable` are the two portable drivers (Linux with recvmmsg, everything
//! else with tokio's sockets). `send` writes datagrams in batches, `wake` waits for them and `alarm` for the
//! time, `mapping` is the memory they are received into, `address` the kernel's form of socket addresses.

#[cfg(target_os = "linux")]
mod address;
mod alarm;
mod bind;
mod clock;
#[cfg(target_os = "linux")]
mod epoll;
mod journal;
pub mod keyring_file;
pub(crate) mod mailbox;
#[cfg(target_os = "linux")]
mod mapping;
mod memory;
#[cfg(any(not(target_os = "linux"), test))]
mod portable;
#[cfg(target_os = "linux")]
mod ring;
pub(crate) mod seat;
#[cfg(target_os = "linux")]
mod send;
#[cfg(all(test, target_os = "linux"))]
mod send_tests;
pub(crate) mod shard;
#[cfg(target_os = "linux")]
pub(crate) mod shared;
mod socket;
mod tcp;
pub mod udp;
#[cfg(test)]
mod udp_tests;
#[cfg(target_os = "linux")]
mod uring;
#[cfg(target_os = "linux")]
mod wake;
mod writer;

pub use socket::bind_udp_with_retry;
pub use udp::{Arrival, Departure, Driver, DriverChoice, SocketIndex, Udp, UdpCounters, UdpOptions};

/// The error with what failed in front and without the error number behind.
#[cfg(target_os = "linux")]
fn failed(what: &str, error: &std::io::Error) -> std::io::Error {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    std::io::Error::new(error.kind(), format!("{what}: {text}"))
}
