//! Sending in batches with sendmmsg (Linux). Consecutive datagrams of a batch that go to the same address and have
//! the same length are passed to the kernel as one message, which it splits at the end of its send path
//! (UDP_SEGMENT): that path is most of what a datagram costs.
#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use super::address::{NAME_BYTES, Name, SendControl};
use super::socket::Socket;
use super::table::SocketTable;
use super::{Departure, SocketIndex, UdpCounters};

/// Datagrams per system call. The call itself costs a tenth of a microsecond and each datagram some three, so more
/// gains nothing. Also the most segments into which every kernel splits a message.
const BATCH: usize = 64;

/// The longest datagram that is sent as a segment, bytes: the size that gossip fills. The kernel refuses segments
/// that exceed the path's MTU, so longer datagrams are messages of their own.
const SEGMENT_BYTES_MAX: usize = crate::wire::limits::UDP_PACKET_BYTES_MAX;

/// All segments of a message together, bytes: the size of an IP packet.
const MESSAGE_BYTES_MAX: usize = 65_000;

/// The headers of one sendmmsg call, allocated once.
pub(super) struct Sender {
    names: Box<[Name; BATCH]>,
    controls: Box<[SendControl; BATCH]>,
    vectors: Box<[libc::iovec; BATCH]>,
    headers: Box<[libc::mmsghdr; BATCH]>,
    /// Datagrams that were added; each has an iovec.
    datagrams: usize,
    /// Their places in the batch.
    places: Box<[usize; BATCH]>,
    /// Messages that they form; each has a header.
    messages: usize,
    /// The last message, if more datagrams may be added to it.
    run: Option<Run>,
    /// The kernel or the device does not split messages.
    segments_refused: bool,
    /// Places of the datagrams of the last batch that the kernel refused.
    refused: Vec<usize>,
}

/// Consecutive datagrams that become one message.
#[derive(Clone, Copy)]
struct Run {
    from: Option<Ipv4Addr>,
    to: SocketAddr,
    segment_bytes: usize,
    bytes: usize,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("segments_refused", &self.segments_refused).finish_non_exhaustive()
    }
}

impl Sender {
    pub(super) fn new() -> Sender {
        let mut names = Box::new([Name::EMPTY; BATCH]);
        let controls = Box::new([SendControl::EMPTY; BATCH]);
        let vectors = Box::new([libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH]);
        // SAFETY: mmsghdr is plain data of the C interface, for which all zeroes are a valid (empty) value.
        let mut headers = Box::new([unsafe { std::mem::zeroed::<libc::mmsghdr>() }; BATCH]);
        for (header, name) in headers.iter_mut().zip(names.iter_mut()) {
            header.msg_hdr.msg_name = name.0.as_mut_ptr().cast();
        }
        Sender {
            names,
            controls,
            vectors,
            headers,
            datagrams: 0,
            places: Box::new([0; BATCH]),
            messages: 0,
            run: None,
            segments_refused: false,
            refused: Vec::new(),
        }
    }

    /// Places of the datagrams of the last batch that the kernel refused, except for want of space.
    pub(super) fn refused(&self) -> &[usize] {
        &self.refused
    }

    /// Sends the batch, consecutive datagrams of one socket together, and returns how many the kernel accepted.
    pub(super) fn send<'a>(
        &mut self,
        batch: impl Iterator<Item = Departure<'a>>,
        sockets: &SocketTable<Socket>,
        counters: &mut UdpCounters,
    ) -> usize {
        let before = counters.sent;
        self.refused.clear();
        let mut open: Option<(SocketIndex, &Socket)> = None;
        for (place, departure) in batch.enumerate() {
            let index = departure.socket;
            let socket = match open {
                Some((same, socket)) if same == index && self.datagrams < BATCH => socket,
                _ => {
                    if let Some((_, socket)) = open.take() {
                        self.flush(socket.udp.as_raw_fd(), counters);
                    }
                    let Some(socket) = sockets.get(index) else {
                        self.refuse(place, counters);
                        continue;
                    };
                    open = Some((index, socket));
                    socket
                }
            };
            if !self.push(socket, &departure, place) {
                self.refuse(place, counters);
            }
        }
        if let Some((_, socket)) = open {
            self.flush(socket.udp.as_raw_fd(), counters);
        }
        (counters.sent - before) as usize
    }

    fn refuse(&mut self, place: usize, counters: &mut UdpCounters) {
        counters.send_errors += 1;
        self.refused.push(place);
    }

    /// Adds a datagram; false if a socket of this family can't reach the address. The bytes must outlive the next
    /// flush, which `send` guarantees: it borrows them for the whole call.
    fn push(&mut self, socket: &Socket, departure: &Departure<'_>, place: usize) -> bool {
        let &Departure { from, to, bytes, .. } = departure;
        let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.places[self.datagrams] = place;
        if self.joins_last(departure) {
            self.vectors[self.datagrams] = vector;
            self.datagrams += 1;
            return true;
        }
        let message = self.messages;
        let Some(name_bytes) = self.names[message].encode(to, socket.ipv6) else { return false };
        assert!(name_bytes <= NAME_BYTES, "an encoded name fits its buffer");
        self.vectors[self.datagrams] = vector;
        let control = &mut self.controls[message];
        let control_bytes = control.begin(from);
        let header = &mut self.headers[message].msg_hdr;
        header.msg_namelen = name_bytes as libc::socklen_t;
        header.msg_iov = &raw mut self.vectors[self.datagrams];
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control_bytes as _;
        let segment_bytes = bytes.len();
        let alone = self.segments_refused || segment_bytes == 0 || segment_bytes > SEGMENT_BYTES_MAX;
        self.run = (!alone).then_some(Run { from, to, segment_bytes, bytes: segment_bytes });
        self.datagrams += 1;
        self.messages += 1;
        true
    }

    /// Makes the datagram a segment of the last message, if it may be one. All segments have the length of the first,
    /// except the last, which may be shorter.
    #[allow(clippy::unnecessary_cast, reason = "with musl a header's lengths are 32 bits long")]
    fn joins_last(&mut self, departure: &Departure<'_>) -> bool {
        let length = departure.bytes.len();
        let Some(run) = &mut self.run else { return false };
        let fits = length <= run.segment_bytes && run.bytes + length <= MESSAGE_BYTES_MAX;
        if run.to != departure.to || run.from != departure.from || length == 0 || !fits {
            return false;
        }
        run.bytes += length;
        let Run { segment_bytes, .. } = *run;
        if length < segment_bytes {
            self.run = None;
        }
        let header = &mut self.headers[self.messages - 1].msg_hdr;
        if header.msg_iovlen == 1 {
            let control = &mut self.controls[self.messages - 1];
            let control_bytes = control.add_segments(header.msg_controllen, segment_bytes as u16);
            header.msg_controllen = control_bytes as _;
        }
        header.msg_iovlen += 1;
        true
    }

    /// Sends what was added for one socket. A datagram that the kernel refuses is counted and skipped. When the
    /// socket's buffer is full, the rest is counted and dropped.
    fn flush(&mut self, fd: RawFd, counters: &mut UdpCounters) {
        let count = std::mem::take(&mut self.messages);
        (self.datagrams, self.run) = (0, None);
        // Messages that are done, and the datagrams before the next one.
        let (mut done, mut first) = (0, 0);
        while done < count {
            let headers = &mut self.headers[done..count];
            // SAFETY: the first `count` headers were filled by `push`: each points to a name, iovecs and perhaps
            // control messages in boxes of self that never move, the iovecs to bytes that `send` borrows until it
            // returns. The kernel only reads what they point to and writes msg_len.
            let taken = unsafe {
                libc::sendmmsg(fd, headers.as_mut_ptr(), headers.len() as u32, libc::MSG_DONTWAIT as _)
            };
            if taken > 0 {
                for header in &headers[..taken as usize] {
                    let datagrams = datagrams_of(header);
                    first += datagrams as usize;
                    counters.sent += datagrams;
                    counters.sent_as_segments += if datagrams > 1 { datagrams } else { 0 };
                }
                done += taken as usize;
                continue;
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    counters.send_would_block += headers.iter().map(datagrams_of).sum::<u64>();
                    return;
                }
                _ if datagrams_of(&headers[0]) > 1 => {
                    let datagrams = datagrams_of(&headers[0]) as usize;
                    let may_be_segments =
                        matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE));
                    self.send_one_by_one(fd, (done, first), may_be_segments, counters);
                    done += 1;
                    first += datagrams;
                }
                _ => {
                    self.refuse(self.places[first], counters);
                    done += 1;
                    first += 1;
                }
            }
        }
    }

    /// Sends the datagrams of a refused message, given by its number and that of its first datagram, one by one. If the error may be due to its segments (a device without
    /// checksum offload, a path with a small MTU, an old kernel) and they are accepted one by one, no later message
    /// has segments.
    #[allow(clippy::unnecessary_cast, reason = "with musl a header's lengths are 32 bits long")]
    fn send_one_by_one(
        &mut self,
        fd: RawFd,
        (message, first): (usize, usize),
        may_be_segments: bool,
        counters: &mut UdpCounters,
    ) {
        let mut header = self.headers[message].msg_hdr;
        let datagrams = header.msg_iovlen;
        header.msg_iovlen = 1;
        header.msg_controllen = SendControl::length_without_segments(header.msg_controllen) as _;
        for datagram in first..first + datagrams as usize {
            // SAFETY: as for sendmmsg; the header points to the next of the message's iovecs.
            let sent = unsafe { libc::sendmsg(fd, &raw const header, libc::MSG_DONTWAIT) };
            if sent >= 0 {
                counters.sent += 1;
                self.segments_refused |= may_be_segments;
                counters.segments_refused = u64::from(self.segments_refused);
            } else if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
                counters.send_would_block += 1;
            } else {
                self.refuse(self.places[datagram], counters);
            }
            header.msg_iov = header.msg_iov.wrapping_add(1);
        }
    }
}

/// The number of datagrams in a message.
fn datagrams_of(header: &libc::mmsghdr) -> u64 {
    header.msg_hdr.msg_iovlen as u64
}
