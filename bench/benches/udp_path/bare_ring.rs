//! The bare ring: batches of SENDMSG, and multishot RECVMSG into provided buffers or one RECVMSG for each datagram.
#![allow(unsafe_code)]

use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use io_uring::types::{BufRingEntry, Fd, Fixed, RecvMsgOut};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::bare::{BATCH, BUFFER_BYTES, Bare, EMPTY_NAME, NAME_BYTES, encode};

/// Provided buffers; twice a batch, so that none is missing.
const BUFFERS: u16 = 2 * BATCH as u16;
const GROUP: u16 = 0;
/// Tells the multishot receive from everything else.
const RECEIVE: u64 = u64::MAX;

/// What a ring is used with.
#[derive(Clone, Copy)]
pub(crate) struct Uses {
    pub(crate) registered_descriptor: bool,
    pub(crate) provided_buffers: bool,
}

pub(crate) struct BareRing {
    ring: IoUring,
    socket: UdpSocket,
    uses: Uses,
    slots: Box<Slots>,
    buffers: Vec<[u8; BUFFER_BYTES]>,
    names: Vec<libc::sockaddr_in>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::msghdr>,
    /// Of the multishot receive: a vector in it would limit what a provided buffer takes.
    template: Box<libc::msghdr>,
    /// Slots given to the kernel so far.
    given: u16,
    armed: bool,
}

/// The ring of provided buffers, which must begin a page.
#[repr(C, align(4096))]
struct Slots([BufRingEntry; BUFFERS as usize]);

impl BareRing {
    pub(crate) fn new(socket: UdpSocket, uses: Uses) -> std::io::Result<BareRing> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(4 * BATCH as u32)
            .build(2 * BATCH as u32)?;
        if uses.registered_descriptor {
            ring.submitter().register_files(&[socket.as_raw_fd()])?;
        }
        // SAFETY: entries and headers are plain data of the kernel's interface, for which zeroes are valid.
        let (slots, empty) = unsafe { (Box::new(std::mem::zeroed::<Slots>()), std::mem::zeroed()) };
        let mut bare = BareRing {
            ring,
            socket,
            uses,
            slots,
            buffers: vec![[0; BUFFER_BYTES]; BUFFERS.into()],
            names: vec![EMPTY_NAME; BATCH],
            vectors: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH],
            headers: vec![empty; BATCH],
            template: Box::new(empty),
            given: 0,
            armed: false,
        };
        if uses.provided_buffers {
            let address = (&raw mut *bare.slots).addr() as u64;
            // SAFETY: the slots are boxed, aligned to a page and live as long as the ring; see Drop.
            unsafe { bare.ring.submitter().register_buf_ring_with_flags(address, BUFFERS, GROUP, 0) }?;
            (0..BUFFERS).for_each(|buffer| bare.give(buffer));
            bare.template.msg_namelen = NAME_BYTES;
        }
        Ok(bare)
    }

    /// Gives a buffer to the kernel.
    fn give(&mut self, buffer: u16) {
        let slot = &mut self.slots.0[usize::from(self.given % BUFFERS)];
        slot.set_addr(self.buffers[usize::from(buffer)].as_mut_ptr().addr() as u64);
        slot.set_len(BUFFER_BYTES as u32);
        slot.set_bid(buffer);
        self.given = self.given.wrapping_add(1);
        // SAFETY: the first slot holds the tail; the kernel reads it, we alone write it.
        unsafe {
            let tail = BufRingEntry::tail(self.slots.0.as_ptr()).cast_mut();
            std::sync::atomic::AtomicU16::from_ptr(tail)
                .store(self.given, std::sync::atomic::Ordering::Release);
        }
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: what entries point to are this ring's own vectors and buffers, which are never moved, and packets
        // that outlive the call which waits for their completion.
        unsafe { self.ring.submission().push(entry) }.expect("the queue is longer than a batch");
    }

    /// A request on the socket, by whichever descriptor is used.
    fn on_socket(
        &self,
        by_fd: impl Fn(Fd) -> squeue::Entry,
        by_fixed: impl Fn(Fixed) -> squeue::Entry,
    ) -> squeue::Entry {
        if self.uses.registered_descriptor { by_fixed(Fixed(0)) } else { by_fd(Fd(self.socket.as_raw_fd())) }
    }

    fn header(&mut self, index: usize, bytes: *mut u8, length: usize) -> *mut libc::msghdr {
        self.vectors[index] = libc::iovec { iov_base: bytes.cast(), iov_len: length };
        let header = &mut self.headers[index];
        (header.msg_iov, header.msg_iovlen) = (&raw mut self.vectors[index], 1);
        (header.msg_name, header.msg_namelen) = ((&raw mut self.names[index]).cast(), NAME_BYTES);
        header
    }

    fn receive_provided(&mut self, count: usize, on: &mut dyn FnMut(&mut [u8])) {
        let mut left = count;
        while left > 0 {
            if !self.armed {
                let header = &raw const *self.template;
                let request = self.on_socket(
                    |fd| opcode::RecvMsgMulti::new(fd, header, GROUP).build(),
                    |fixed| opcode::RecvMsgMulti::new(fixed, header, GROUP).build(),
                );
                self.push(&request.user_data(RECEIVE));
                self.armed = true;
            }
            self.ring.submit_and_wait(1).expect("the ring works");
            loop {
                let next = self.ring.completion().next();
                let Some(completion) = next else { break };
                assert!(completion.result() >= 0, "{}", completion.result());
                self.armed = cqueue::more(completion.flags());
                let buffer = cqueue::buffer_select(completion.flags()).expect("a buffer was there");
                let filled = &mut self.buffers[usize::from(buffer)][..completion.result() as usize];
                let out = RecvMsgOut::parse(filled, &self.template).expect("the kernel writes its head");
                assert!(!out.is_payload_truncated(), "a buffer takes a datagram");
                let payload = out.payload_data().len();
                let start = filled.len() - payload;
                on(&mut filled[start..]);
                self.give(buffer);
                left -= 1;
            }
        }
    }

    fn receive_one_by_one(&mut self, count: usize, on: &mut dyn FnMut(&mut [u8])) {
        for index in 0..count {
            let header = self.header(index, self.buffers[index].as_ptr().cast_mut(), BUFFER_BYTES);
            let request = self.on_socket(
                |fd| opcode::RecvMsg::new(fd, header).build(),
                |fixed| opcode::RecvMsg::new(fixed, header).build(),
            );
            self.push(&request.user_data(index as u64));
        }
        self.ring.submit_and_wait(count).expect("the ring works");
        for _ in 0..count {
            let completion = self.ring.completion().next().expect("it was waited for");
            assert!(completion.result() >= 0, "{}", completion.result());
            on(&mut self.buffers[completion.user_data() as usize][..completion.result() as usize]);
        }
    }
}

impl Bare for BareRing {
    fn send(&mut self, packets: &[Vec<u8>], to: SocketAddrV4) {
        for packets in packets.chunks(BATCH) {
            for (index, packet) in packets.iter().enumerate() {
                self.names[index] = encode(to);
                let header = self.header(index, packet.as_ptr().cast_mut(), packet.len()).cast_const();
                let request = self.on_socket(
                    |fd| opcode::SendMsg::new(fd, header).build(),
                    |fixed| opcode::SendMsg::new(fixed, header).build(),
                );
                self.push(&request);
            }
            self.ring.submit_and_wait(packets.len()).expect("the ring works");
            for _ in 0..packets.len() {
                let completion = self.ring.completion().next().expect("it was waited for");
                assert!(completion.result() >= 0, "{}", completion.result());
            }
        }
    }

    fn receive(&mut self, count: usize, on: &mut dyn FnMut(&mut [u8])) {
        if self.uses.provided_buffers {
            self.receive_provided(count, on);
        } else {
            self.receive_one_by_one(count, on);
        }
    }
}

impl Drop for BareRing {
    /// An armed receive must not outlive its buffers.
    fn drop(&mut self) {
        if self.armed {
            self.push(&opcode::AsyncCancel::new(RECEIVE).build());
            // Its own completion and that of the receive.
            let _ = self.ring.submit_and_wait(2);
        }
    }
}
