//! What the callers of the UDP data plane name: the drivers, sizes, datagrams and counters.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

#[cfg(doc)]
use super::Udp;

/// How a data plane receives and sends, chosen once at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// An io_uring ring: multishot receive into a ring of buffers. Linux 6.0 or newer, where allowed.
    IoUring,
    /// Ordinary system calls: epoll, recvmmsg and sendmmsg on Linux, tokio's sockets elsewhere.
    Portable,
}

impl Driver {
    /// Chooses the driver for this machine by trying everything that the ring needs. The second value is the reason
    /// in one line, such as `io_uring: multishot receive, buffer ring, deferred work` or
    /// `portable: io_uring_setup: Operation not permitted`. Needs no runtime and takes less than a millisecond.
    pub fn detect() -> (Driver, String) {
        #[cfg(target_os = "linux")]
        return match super::ring::supported() {
            Ok(mode) => (Driver::IoUring, format!("io_uring: multishot receive, buffer ring, {mode}")),
            Err(why) => (Driver::Portable, format!("portable: {why}")),
        };
        #[cfg(not(target_os = "linux"))]
        (Driver::Portable, "portable: io_uring is Linux only".into())
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::IoUring => "io_uring",
            Driver::Portable => "portable",
        })
    }
}

/// The driver that the configuration asks for. Default: `Auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// The ring where it works, otherwise portable: [`Driver::detect`].
    #[default]
    Auto,
    /// The ring, or an error where it does not work.
    IoUring,
    /// Portable, even where the ring works.
    Portable,
}

impl DriverChoice {
    /// The driver to use, and the reason in one line.
    ///
    /// # Errors
    /// [`DriverChoice::IoUring`] on a machine where the ring does not work. Nothing stays open.
    pub fn resolve(self) -> io::Result<(Driver, String)> {
        match self {
            DriverChoice::Portable => Ok((Driver::Portable, "portable: asked for".into())),
            DriverChoice::Auto => Ok(Driver::detect()),
            DriverChoice::IoUring => match Driver::detect() {
                (Driver::IoUring, why) => Ok((Driver::IoUring, why)),
                (Driver::Portable, why) => {
                    let text = format!(
                        "io_uring was asked for but does not work on this machine ({why}); try \"auto\""
                    );
                    Err(io::Error::new(io::ErrorKind::Unsupported, text))
                }
            },
        }
    }
}

impl FromStr for DriverChoice {
    type Err = String;

    fn from_str(word: &str) -> Result<DriverChoice, String> {
        match word {
            "auto" => Ok(DriverChoice::Auto),
            "io_uring" => Ok(DriverChoice::IoUring),
            "portable" => Ok(DriverChoice::Portable),
            _ => Err(format!("unknown driver {word:?}: use \"auto\", \"io_uring\" or \"portable\"")),
        }
    }
}

/// Sizes of a data plane.
#[derive(Clone, Debug)]
pub struct UdpOptions {
    /// About how many sockets will be added, 1 to 32,768; default 1. Sizes the ring's queues. More sockets still
    /// work, with more system calls when many of them receive at once.
    pub sockets_expected: usize,
    /// Receive buffers that all sockets share, 1 to 32,768, rounded up to a power of two; default 64. They reserve
    /// address space; memory is used for what arrives. More buffers take a larger burst at a time, with fewer the
    /// rest waits longer in the sockets' kernel buffers. The portable driver uses at most 64.
    pub receive_buffers: usize,
    /// The longest datagram that is accepted, bytes; default 65,536. Longer ones are dropped and counted. Serf peers
    /// may send up to 65,507 bytes, so smaller values are for fleets of known peers only.
    pub datagram_bytes_max: usize,
    /// Report for each datagram to which of the socket's addresses it came, and send from a chosen address, as
    /// nodes that share a socket need ([`Udp::add_shared`]). IPv4 on Linux only. Default: false.
    pub shared_sockets: bool,
}

impl Default for UdpOptions {
    /// One socket, 64 buffers, datagrams of any length.
    fn default() -> UdpOptions {
        UdpOptions {
            sockets_expected: 1,
            receive_buffers: 64,
            datagram_bytes_max: 65_536,
            shared_sockets: false,
        }
    }
}

/// Names a socket of one [`Udp`] from [`Udp::add`] to [`Udp::remove`]. Indexes are small and are used again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketIndex(pub u32);

/// Where a datagram came from, and through which socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The socket that received it.
    pub socket: SocketIndex,
    /// The sender's address.
    pub from: SocketAddr,
    /// The address that it came to, if the socket is shared.
    pub to: Option<Ipv4Addr>,
}

/// A datagram to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure<'a> {
    /// The socket to send through.
    pub socket: SocketIndex,
    /// The address to send from, if the socket is shared.
    pub from: Option<Ipv4Addr>,
    /// The address to send to.
    pub to: SocketAddr,
    /// The payload.
    pub bytes: &'a [u8],
}

/// Counters of a data plane since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// Datagrams received and passed on.
    pub received: u64,
    /// Datagrams that the kernel accepted.
    pub sent: u64,
    /// Of those, datagrams that were passed to the kernel as segments of one message with their neighbours (Linux).
    pub sent_as_segments: u64,
    /// 1 once the kernel or the device has refused segments; from then on each datagram is a message of its own.
    pub segments_refused: u64,
    /// Datagrams longer than [`UdpOptions::datagram_bytes_max`], dropped.
    pub truncated: u64,
    /// Datagrams that the kernel dropped because a socket's receive buffer was full (Linux only).
    pub kernel_drops: u64,
    /// Times that a receive ended for lack of a free buffer. No datagram is lost: it waits in the kernel.
    pub no_buffers: u64,
    /// Multishot receives that ended and were armed again.
    pub rearmed: u64,
    /// Errors of receives.
    pub receive_errors: u64,
    /// Datagrams that were refused: no route, too long, forbidden, a socket that was removed.
    pub send_errors: u64,
    /// Datagrams dropped because a socket's send buffer was full.
    pub send_would_block: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn drivers_have_the_names_of_the_configuration() {
        for (word, choice) in [
            ("auto", DriverChoice::Auto),
            ("io_uring", DriverChoice::IoUring),
            ("portable", DriverChoice::Portable),
        ] {
            assert_eq!(word.parse(), Ok(choice));
        }
        let error = "uring".parse::<DriverChoice>().unwrap_err();
        assert_eq!(error, r#"unknown driver "uring": use "auto", "io_uring" or "portable""#);
        assert_eq!(Driver::IoUring.to_string(), "io_uring");
        assert_eq!(Driver::Portable.to_string(), "portable");
    }

    #[test]
    fn portable_can_be_asked_for_everywhere() {
        let (driver, why) = DriverChoice::Portable.resolve().unwrap();
        assert_eq!((driver, why.as_str()), (Driver::Portable, "portable: asked for"));
    }

    #[test]
    fn the_choice_agrees_with_what_works() {
        let (driver, why) = Driver::detect();
        assert!(why.starts_with(&format!("{driver}: ")), "{why}");
        assert!(!why.contains('\n'));
        assert_eq!(DriverChoice::Auto.resolve().unwrap().0, driver);
        assert_eq!(DriverChoice::IoUring.resolve().is_ok(), driver == Driver::IoUring);
    }
}
