//! The UDP data plane: one wait for many sockets, and datagrams passed on in the buffers that received them.
//!
//! [`Udp`] serves the sockets of all nodes of a shard. `ring` is the io_uring driver on top of `uring`, the raw
//! ring; `epoll` and `portable` are the two portable drivers (Linux with recvmmsg, other systems with tokio's
//! sockets). `send` writes datagrams in batches, `wake` waits for them, `mapping` is the memory that they are
//! received into, `address` the kernel's form of socket addresses.

#[cfg(target_os = "linux")]
mod address;
#[cfg(target_os = "linux")]
mod epoll;
#[cfg(target_os = "linux")]
mod mapping;
#[cfg(any(not(target_os = "linux"), test))]
mod portable;
#[cfg(target_os = "linux")]
mod ring;
#[cfg(target_os = "linux")]
mod send;
#[cfg(all(test, target_os = "linux"))]
mod send_tests;
mod socket;
mod table;
#[cfg(test)]
mod tests;
mod types;
#[cfg(target_os = "linux")]
mod uring;
#[cfg(target_os = "linux")]
mod wake;

use std::io;
use std::net::{SocketAddr, UdpSocket};

#[cfg(target_os = "linux")]
use self::epoll::Epoll;
#[cfg(any(not(target_os = "linux"), test))]
use self::portable::Portable;
#[cfg(target_os = "linux")]
use self::ring::Ring;
#[cfg(target_os = "linux")]
use self::send::Sender;
use self::socket::Socket;
pub use self::socket::bind_udp_with_retry;
pub use self::types::{Arrival, Departure, Driver, DriverChoice, SocketIndex, UdpCounters, UdpOptions};
#[cfg(target_os = "linux")]
use crate::io::shared;

/// The UDP sockets of one shard. It stays on the thread and the runtime that it was made in.
///
/// Both drivers run on a current-thread tokio runtime, tokio-uring's included.
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

/// The driver that receives, with its sockets.
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
    /// Opens a data plane without sockets. Must be called inside the runtime that will wait for it, on the thread
    /// that will use it.
    ///
    /// # Errors
    /// The driver does not work on this machine, or the system refuses memory or descriptors. Nothing stays open.
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

    /// The driver of other systems, so that it is tested on Linux too.
    #[cfg(test)]
    fn of_other_systems(options: &UdpOptions) -> Udp {
        Udp::with_plane(Plane::Portable(Portable::new(options)))
    }

    /// A ring in a given mode, so that the mode of older kernels is tested too.
    #[cfg(all(test, target_os = "linux"))]
    fn with_ring(mode: uring::Mode, options: &UdpOptions) -> Udp {
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

    /// Takes over a bound socket and starts to receive from it. The socket becomes non-blocking, and its kernel
    /// buffers are enlarged to 2 MiB, as far as the system allows.
    ///
    /// # Errors
    /// The system refuses one of these steps. The socket is closed.
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

    /// Takes over a socket that nodes share, bound to the unspecified address. Its datagrams are reported with the
    /// address that they came to. Its receive buffer is enlarged to 64 MiB, where the system allows.
    ///
    /// # Errors
    /// As for [`Udp::add`]; [`UdpOptions::shared_sockets`] is not set; the system is not Linux.
    pub fn add_shared(&mut self, socket: UdpSocket) -> io::Result<SocketIndex> {
        #[cfg(target_os = "linux")]
        if self.shared_sockets {
            shared::report_destinations(&socket)?;
            let index = self.add(socket.try_clone()?)?;
            shared::enlarge(&socket);
            return Ok(index);
        }
        drop(socket);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Closes a socket. Datagrams that wait in its buffers are lost. An index that names no socket is ignored.
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

    /// Resolves when [`Udp::receive`] may find something; sometimes there is nothing. Cancel safe.
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

    /// Calls `on` with up to `budget` datagrams that have arrived, without waiting: the socket, the sender and the
    /// bytes, mutable in the receive buffer, which is used again afterwards. The sockets take turns. Returns the
    /// number of datagrams. Dropped datagrams and errors use up budget too. If something is left,
    /// [`Udp::readable`] resolves at once.
    pub fn receive(
        &mut self,
        budget: usize,
        mut on: impl FnMut(SocketIndex, SocketAddr, &mut [u8]),
    ) -> usize {
        self.receive_arrivals(budget, |arrival, bytes| on(arrival.socket, arrival.from, bytes))
    }

    /// Like [`Udp::receive`], with the address that a datagram came to if the socket is shared.
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

    /// Sends datagrams without waiting. Returns the number that the kernel accepted. Consecutive datagrams of one
    /// socket share system calls, so sort by socket where that costs nothing.
    ///
    /// A datagram that can't be sent is counted, and the rest is sent. That includes a full send buffer
    /// ([`UdpCounters::send_would_block`]): a queue here would deliver late acks and outdated gossip, the protocol
    /// repeats what matters, and the enlarged buffers make it rare.
    pub fn send<'a>(&mut self, batch: impl Iterator<Item = (SocketIndex, SocketAddr, &'a [u8])>) -> usize {
        self.send_departures(batch.map(|(socket, to, bytes)| Departure { socket, from: None, to, bytes }))
    }

    /// Like [`Udp::send`], with the address to send from if the socket is shared.
    pub fn send_departures<'a>(&mut self, batch: impl Iterator<Item = Departure<'a>>) -> usize {
        let counters = &mut self.counters;
        match &mut self.plane {
            #[cfg(target_os = "linux")]
            Plane::Ring(ring) => self.sender.send(batch, ring.sockets(), counters),
            #[cfg(target_os = "linux")]
            Plane::Epoll(epoll) => self.sender.send(batch, epoll.sockets(), counters),
            #[cfg(any(not(target_os = "linux"), test))]
            Plane::Portable(portable) => portable.send(batch, counters),
        }
    }

    /// Places, counted from 0 and in no order, of the datagrams of the last batch that the system refused: there is no
    /// route to their addresses, or they are too long. A full send buffer refuses none.
    pub fn refused(&self) -> &[usize] {
        match &self.plane {
            #[cfg(target_os = "linux")]
            Plane::Ring(_) | Plane::Epoll(_) => self.sender.refused(),
            #[cfg(any(not(target_os = "linux"), test))]
            Plane::Portable(portable) => portable.refused(),
        }
    }

    /// The counters so far. Makes one system call per socket.
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
        let sockets = match &self.plane {
            Plane::Ring(ring) => ring.sockets(),
            Plane::Epoll(epoll) => epoll.sockets(),
            #[cfg(test)]
            Plane::Portable(_) => return 0,
        };
        sockets.iter().map(|(_, socket)| socket.kernel_drops()).sum()
    }

    /// Closes all sockets and waits until the kernel has released them: their ports can be bound again when this
    /// returns.
    pub async fn close(self) {
        drop(self);
    }
}

/// The error with what failed in front, without the error number at the end.
#[cfg(target_os = "linux")]
fn failed(what: &str, error: &std::io::Error) -> std::io::Error {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    std::io::Error::new(error.kind(), format!("{what}: {text}"))
}
