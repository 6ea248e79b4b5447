//! The UDP data plane's face: many sockets behind one wait, datagrams handed out where they were received.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

#[cfg(target_os = "linux")]
use super::epoll::Epoll;
#[cfg(any(not(target_os = "linux"), test))]
use super::portable::Portable;
#[cfg(target_os = "linux")]
use super::ring::Ring;
#[cfg(target_os = "linux")]
use super::send::Sender;
use super::socket::Socket;

/// The kind of data plane, chosen once at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// An io_uring ring: multishot receive into a ring of buffers. Linux 6.0 or newer, where allowed.
    IoUring,
    /// Ordinary system calls: epoll, recvmmsg and sendmmsg on Linux, tokio's sockets elsewhere.
    Portable,
}

impl Driver {
    /// Chooses the driver for this machine by trying what the ring needs, and says why in one line, such as
    /// `io_uring: multishot receive, buffer ring, deferred work` or `portable: io_uring_setup: Operation not permitted`.
    /// Needs no runtime; takes well under a millisecond.
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

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// The ring where it works, else portable: [`Driver::detect`].
    #[default]
    Auto,
    /// The ring or nothing.
    IoUring,
    /// Portable, even where the ring works.
    Portable,
}

impl DriverChoice {
    /// The driver to use and one line that says why. Fails only when the ring is demanded and doesn't work.
    pub fn resolve(self) -> io::Result<(Driver, String)> {
        match self {
            DriverChoice::Portable => Ok((Driver::Portable, "portable: asked for".into())),
            DriverChoice::Auto => Ok(Driver::detect()),
            DriverChoice::IoUring => match Driver::detect() {
                (Driver::IoUring, why) => Ok((Driver::IoUring, why)),
                (Driver::Portable, why) => {
                    let text = format!("io_uring was asked for but does not work here ({why}); try \"auto\"");
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
    /// How many sockets will be added, about. Sizes the ring's queues; more sockets still work, only with
    /// more system calls when all of them have something at once.
    pub sockets_expected: usize,
    /// Receive buffers that all sockets share, rounded up to a power of two, at most 32,768. They are address
    /// space; memory is used for what arrives. More take a larger burst in one go, fewer leave it in the
    /// sockets' kernel buffers a little longer. The portable driver uses up to 64.
    pub receive_buffers: usize,
    /// The longest datagram that is accepted, in bytes; a longer one is a counted drop. Serf peers may send
    /// 65,535 bytes less the headers, so a smaller value is for fleets of known peers only.
    pub datagram_bytes_max: usize,
    /// Tell for each datagram which of the socket's addresses it came to, and let senders choose theirs: what
    /// many nodes behind one socket need ([`Udp::add_shared`]). IPv4 on Linux only.
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

/// Names a socket of one [`Udp`] from [`Udp::add`] to [`Udp::remove`]; small numbers, used again after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketIndex(pub u32);

/// Where a datagram came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Through which socket.
    pub socket: SocketIndex,
    /// Who sent it.
    pub from: SocketAddr,
    /// To which of the socket's addresses, if that is a shared socket.
    pub to: Option<Ipv4Addr>,
}

/// A datagram to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure<'a> {
    /// Through which socket.
    pub socket: SocketIndex,
    /// From which of its addresses, if that is a shared socket.
    pub from: Option<Ipv4Addr>,
    /// To whom.
    pub to: SocketAddr,
    /// What.
    pub bytes: &'a [u8],
}

/// What a data plane counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// Datagrams handed out.
    pub received: u64,
    /// Datagrams the kernel took.
    pub sent: u64,
    /// Of those, datagrams that went to the kernel as segments of one message with their neighbours (Linux).
    pub sent_as_segments: u64,
    /// 1 once the kernel or the device has refused segments; from then on each datagram is a message.
    pub segments_refused: u64,
    /// Datagrams longer than [`UdpOptions::datagram_bytes_max`], dropped.
    pub truncated: u64,
    /// Datagrams that the kernel dropped because a socket's receive buffer was full (Linux only).
    pub kernel_drops: u64,
    /// Times a socket found no free receive buffer. Nothing is lost by it: what arrived waits in the kernel.
    pub no_buffers: u64,
    /// Multishot receives that ended and were started again.
    pub rearmed: u64,
    /// Errors reported by a receive.
    pub receive_errors: u64,
    /// Datagrams refused: no route, too long, forbidden, a socket that was removed.
    pub send_errors: u64,
    /// Datagrams dropped because a socket's send buffer was full.
    pub send_would_block: u64,
}

/// The sockets of one shard. Bound to the thread and the runtime that it was made in.
///
/// Both drivers run on a plain current-thread tokio runtime; the ring runs in tokio-uring's too, which is one.
///
/// ```
/// use thane_engine::io::{Driver, Udp, UdpOptions, bind_udp_with_retry};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// # runtime.block_on(async {
/// let (driver, why) = Driver::detect();
/// println!("{why}");
/// let mut udp = Udp::new(driver, &UdpOptions::default())?;
/// let socket = bind_udp_with_retry("127.0.0.1:0".parse().unwrap(), std::time::Duration::from_millis(100))?;
/// let to_myself = socket.local_addr()?;
/// let me = udp.add(socket)?;
/// udp.send([(me, to_myself, &b"ping"[..])].into_iter());
/// let mut received = 0;
/// while received == 0 {
///     udp.readable().await;
///     received += udp.receive(64, |socket, from, bytes| {
///         assert_eq!((socket, from, &*bytes), (me, to_myself, &b"ping"[..]));
///     });
/// }
/// udp.close().await;
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Udp {
    plane: Plane,
    #[cfg(target_os = "linux")]
    sender: Sender,
    counters: UdpCounters,
    #[cfg(target_os = "linux")]
    shared_sockets: bool,
    /// Kernel drops of sockets that were removed.
    #[cfg(target_os = "linux")]
    past_kernel_drops: u64,
}

/// Who receives.
#[derive(Debug)]
enum Plane {
    #[cfg(target_os = "linux")]
    Ring(Box<Ring>),
    #[cfg(target_os = "linux")]
    Epoll(Epoll),
    #[cfg(any(not(target_os = "linux"), test))]
    Portable(Portable),
}

impl Udp {
    /// Opens a data plane without sockets. Must be called inside the runtime that will wait for it, on the
    /// thread that will use it. Fails where the driver doesn't work, so that the caller can take the other.
    pub fn new(driver: Driver, options: &UdpOptions) -> io::Result<Udp> {
        let plane = match driver {
            #[cfg(target_os = "linux")]
            Driver::IoUring => Plane::Ring(Box::new(Ring::new(options)?)),
            #[cfg(not(target_os = "linux"))]
            Driver::IoUring => return Err(io::ErrorKind::Unsupported.into()),
            #[cfg(target_os = "linux")]
            Driver::Portable => Plane::Epoll(Epoll::new(options)?),
            #[cfg(not(target_os = "linux"))]
            Driver::Portable => Plane::Portable(Portable::new(options)),
        };
        #[cfg_attr(not(target_os = "linux"), expect(unused_mut, reason = "only Linux shares sockets"))]
        let mut udp = Udp::with_plane(plane);
        #[cfg(target_os = "linux")]
        {
            udp.shared_sockets = options.shared_sockets;
        }
        Ok(udp)
    }

    /// The driver of other systems, here to be tested.
    #[cfg(test)]
    pub(super) fn of_other_systems(options: &UdpOptions) -> Udp {
        Udp::with_plane(Plane::Portable(Portable::new(options)))
    }

    /// A ring in the mode of an older kernel, here to be tested.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn with_ring(mode: super::uring::Mode, options: &UdpOptions) -> Udp {
        let ring = Ring::with_mode(mode, options).expect("the mode is supported");
        Udp::with_plane(Plane::Ring(Box::new(ring)))
    }

    fn with_plane(plane: Plane) -> Udp {
        Udp {
            plane,
            #[cfg(target_os = "linux")]
            sender: Sender::new(),
            counters: UdpCounters::default(),
            #[cfg(target_os = "linux")]
            shared_sockets: false,
            #[cfg(target_os = "linux")]
            past_kernel_drops: 0,
        }
    }

    /// Takes over a bound socket and starts to receive from it. It becomes non-blocking and its kernel
    /// buffers are enlarged towards 2 MiB, as far as the system allows.
    pub fn add(&mut self, socket: UdpSocket) -> io::Result<SocketIndex> {
        let socket = Socket::new(socket)?;
        match &mut self.plane {
            #[cfg(target_os = "linux")]
            Plane::Ring(ring) => Ok(ring.add(socket)),
            #[cfg(target_os = "linux")]
            Plane::Epoll(epoll) => epoll.add(socket),
            #[cfg(any(not(target_os = "linux"), test))]
            Plane::Portable(portable) => portable.add(socket),
        }
    }

    /// Takes over a socket that many nodes share, bound to the unspecified address. Datagrams say which of the
    /// machine's addresses they came to. Its receive buffer may become much larger than that of [`Udp::add`],
    /// where the system allows.
    ///
    /// # Errors
    /// As for [`Udp::add`]; the plane was made without [`UdpOptions::shared_sockets`]; not Linux.
    pub fn add_shared(&mut self, socket: UdpSocket) -> io::Result<SocketIndex> {
        #[cfg(target_os = "linux")]
        if self.shared_sockets {
            super::shared::tell_destinations(&socket)?;
            let index = self.add(socket.try_clone()?)?;
            super::shared::enlarge(&socket);
            return Ok(index);
        }
        drop(socket);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Closes a socket. Nothing is handed out for it any more, what waited in its buffers is lost. An index
    /// that names no socket is ignored.
    pub fn remove(&mut self, socket: SocketIndex) {
        #[cfg(target_os = "linux")]
        let drops = |socket: Option<Socket>| socket.as_ref().map_or(0, Socket::kernel_drops);
        match &mut self.plane {
            #[cfg(target_os = "linux")]
            Plane::Ring(ring) => self.past_kernel_drops += drops(ring.remove(socket)),
            #[cfg(target_os = "linux")]
            Plane::Epoll(epoll) => self.past_kernel_drops += drops(epoll.remove(socket)),
            #[cfg(any(not(target_os = "linux"), test))]
            Plane::Portable(portable) => portable.remove(socket),
        }
    }

    /// Resolves when [`Udp::receive`] may find something, sometimes in vain. Dropping the future loses
    /// nothing, so it can stand in a `select!`.
    pub async fn readable(&self) {
        match &self.plane {
            #[cfg(target_os = "linux")]
            Plane::Ring(ring) => ring.readable().await,
            #[cfg(target_os = "linux")]
            Plane::Epoll(epoll) => epoll.readable().await,
            #[cfg(any(not(target_os = "linux"), test))]
            Plane::Portable(portable) => portable.readable().await,
        }
    }

    /// Hands out up to `budget` datagrams that have arrived, without waiting: the socket, the sender and the
    /// bytes, mutable in the buffer they were received in, which is used again afterwards. The sockets take
    /// turns. Returns how many it handed out. A datagram that is dropped and an error use up budget too;
    /// [`Udp::readable`] knows whether anything is left.
    pub fn receive(
        &mut self,
        budget: usize,
        mut on: impl FnMut(SocketIndex, SocketAddr, &mut [u8]),
    ) -> usize {
        self.receive_arrivals(budget, |arrival, bytes| on(arrival.socket, arrival.from, bytes))
    }

    /// Like [`Udp::receive`], and tells for shared sockets to which address a datagram came.
    pub fn receive_arrivals(&mut self, budget: usize, on: impl FnMut(Arrival, &mut [u8])) -> usize {
        match &mut self.plane {
            #[cfg(target_os = "linux")]
            Plane::Ring(ring) => ring.receive(budget, &mut self.counters, on),
            #[cfg(target_os = "linux")]
            Plane::Epoll(epoll) => epoll.receive(budget, &mut self.counters, on),
            #[cfg(any(not(target_os = "linux"), test))]
            Plane::Portable(portable) => portable.receive(budget, &mut self.counters, on),
        }
    }

    /// Sends datagrams without waiting and returns how many the kernel took. Consecutive datagrams of one
    /// socket share system calls, so sort by socket where it costs nothing.
    ///
    /// What can't be sent is counted and never stops the rest. That includes a full send buffer
    /// ([`UdpCounters::send_would_block`]): a queue here would deliver late acks and an old view of the
    /// cluster, the protocol repeats what matters, and the enlarged buffers make it rare.
    pub fn send<'a>(&mut self, batch: impl Iterator<Item = (SocketIndex, SocketAddr, &'a [u8])>) -> usize {
        self.send_departures(batch.map(|(socket, to, bytes)| Departure { socket, from: None, to, bytes }))
    }

    /// Like [`Udp::send`], and chooses the sender's address where the socket is shared.
    pub fn send_departures<'a>(&mut self, batch: impl Iterator<Item = Departure<'a>>) -> usize {
        let counters = &mut self.counters;
        match &mut self.plane {
            #[cfg(target_os = "linux")]
            Plane::Ring(ring) => self.sender.send(batch, |index| ring.socket(index), counters),
            #[cfg(target_os = "linux")]
            Plane::Epoll(epoll) => self.sender.send(batch, |index| epoll.socket(index), counters),
            #[cfg(any(not(target_os = "linux"), test))]
            Plane::Portable(portable) => portable.send(batch, counters),
        }
    }

    /// What was counted so far. Asks the kernel about each socket, so not for every datagram.
    pub fn counters(&self) -> UdpCounters {
        #[cfg_attr(not(target_os = "linux"), expect(unused_mut, reason = "only Linux tells its drops"))]
        let mut counters = self.counters;
        #[cfg(target_os = "linux")]
        {
            counters.kernel_drops = self.past_kernel_drops + self.live_kernel_drops();
        }
        counters
    }

    #[cfg(target_os = "linux")]
    fn live_kernel_drops(&self) -> u64 {
        match &self.plane {
            Plane::Ring(ring) => ring.sockets().map(Socket::kernel_drops).sum(),
            Plane::Epoll(epoll) => epoll.sockets().map(Socket::kernel_drops).sum(),
            #[cfg(test)]
            Plane::Portable(_) => 0,
        }
    }

    /// Closes all sockets and waits until the kernel has let go of them, so that their ports can be bound
    /// again when this returns.
    pub async fn close(self) {
        drop(self);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn drivers_have_the_names_of_the_config() {
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
