//! Sockets, files, memory and the machine's clock: the only part of the engine with `unsafe` and system calls.
//!
//! [`udp`] is the UDP data plane: one [`Udp`] per shard serves the sockets of all its nodes, through an io_uring
//! ring ([`Driver::IoUring`]) or through ordinary system calls ([`Driver::Portable`]). `tcp` moves the bytes of
//! streams, `bind` and `shared` bind sockets, [`files`] holds the snapshot and keyring files, `alarm` wakes a
//! shard at a time, `clock` reads the time, `memory` returns freed memory to the system.
//!
//! Nothing here names the shard or the embedding interface: data flows from `api` through `shard` to `io`.

pub(crate) mod alarm;
pub(crate) mod bind;
pub(crate) mod clock;
pub(crate) mod code;
pub mod files;
pub(crate) mod memory;
#[cfg(target_os = "linux")]
pub(crate) mod shared;
pub(crate) mod tcp;
pub mod udp;

pub use self::udp::{
    Arrival, Departure, Driver, DriverChoice, SocketIndex, Udp, UdpCounters, UdpOptions, bind_udp_with_retry,
};
