//! A raw io_uring ring for one purpose: multishot RECVMSG into a ring of provided buffers.
//!
//! All unsafe calls of the ring are here, behind types that can't be misused: a [`Filled`] buffer belongs to this
//! process until it is recycled, and the ring is not dropped before the kernel has released every buffer.
//!
//! The kernel runs the ring's work only when the ring is entered (DEFER_TASKRUN), so that one system call handles
//! everything that has arrived. Such a ring does not become readable while its thread sleeps, because the work that
//! would fill its completion queue waits for that thread; only an eventfd that is registered with the ring is
//! signalled when work is queued. The runtime therefore watches the eventfd.
#![allow(unsafe_code)]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU16, Ordering, fence};
use std::time::Duration;

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::address::{CONTROL_BYTES, NAME_BYTES};
use super::failed;
use super::mapping::Buffers;

/// Bytes that the kernel writes before each datagram: lengths and flags as four u32, then the sender's address.
/// Control messages follow, if they were requested.
const HEAD_BYTES: usize = 16 + NAME_BYTES;

/// Where the flags are in that head.
const HEAD_FLAGS: std::ops::Range<usize> = 12..16;

/// The id of the ring's only buffer group.
const GROUP: u16 = 0;

/// User data of cancel requests; tokens are smaller.
const CANCEL: u64 = u64::MAX;

/// Pieces of queued work that the kernel runs each time a ring is entered without waiting
/// (IO_LOCAL_TW_DEFAULT_MAX); the rest is left to the next call. Older kernels run all.
const WORKS_PER_ENTER: usize = 20;

/// The most buffers that the kernel accepts in a ring.
pub(super) const BUFFERS_MAX: usize = 1 << 15;

/// When a ring runs the work that received datagrams cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// When the ring is entered, by the one thread that owns it. Linux 6.1.
    Deferred,
    /// At that thread's next system call of any kind. Linux 6.0.
    Cooperative,
}

impl Mode {
    /// Best first.
    pub(super) const ALL: [Mode; 2] = [Mode::Deferred, Mode::Cooperative];
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Mode::Deferred => "deferred work",
            Mode::Cooperative => "cooperative work",
        })
    }
}

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Requests that can be handed over in one system call.
    pub(super) requests: usize,
    /// Completions that fit. Beyond it the kernel keeps completions and ends the multishot receives that cause them.
    pub(super) completions: usize,
    /// Receive buffers, a power of two, at most [`BUFFERS_MAX`].
    pub(super) buffers: usize,
    /// The longest datagram, bytes.
    pub(super) datagram_bytes_max: usize,
    /// Leave room for control messages.
    pub(super) controls: bool,
}

impl Sizes {
    fn control_bytes(&self) -> usize {
        if self.controls { CONTROL_BYTES } else { 0 }
    }
}

/// The ring, its buffers and the eventfd that it signals.
pub(super) struct Uring {
    ring: IoUring,
    buffers: ManuallyDrop<BufferRing>,
    /// The template of every receive. The kernel reads it when a receive is submitted.
    template: Box<libc::msghdr>,
    /// Receives that were armed and have not ended.
    armed: usize,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring").field("armed", &self.armed).field("buffers", &self.buffers).finish()
    }
}

/// A buffer with a datagram in it, which the kernel does not write to until it is recycled.
#[derive(Debug)]
pub(super) struct Filled {
    buffer: u16,
    /// Bytes that the kernel wrote, head included.
    bytes: usize,
}

/// A completion of a receive.
#[derive(Debug)]
pub(super) struct Completion {
    /// The receive's token.
    pub(super) token: u32,
    /// Whether the receive goes on; otherwise it has ended.
    pub(super) goes_on: bool,
    /// A datagram, or the error.
    pub(super) result: Result<Filled, io::Error>,
}

/// The parts of a received datagram.
pub(super) struct Parts<'a> {
    pub(super) name: &'a [u8],
    pub(super) control: &'a [u8],
    pub(super) payload: &'a mut [u8],
    pub(super) truncated: bool,
}

impl Uring {
    /// Opens a ring and the eventfd that it signals when there may be completions. Only the calling thread may use
    /// it.
    pub(super) fn open(mode: Mode, sizes: &Sizes) -> io::Result<(Uring, OwnedFd)> {
        let mut builder = IoUring::<squeue::Entry, cqueue::Entry>::builder();
        builder.setup_clamp().setup_submit_all().setup_single_issuer().setup_taskrun_flag().dontfork();
        builder.setup_cqsize(sizes.completions as u32);
        match mode {
            Mode::Deferred => builder.setup_defer_taskrun(),
            Mode::Cooperative => builder.setup_coop_taskrun(),
        };
        let ring = builder.build(sizes.requests as u32).map_err(|error| failed("io_uring_setup", &error))?;
        let buffers = BufferRing::register(&ring, sizes)?;
        // SAFETY: takes no pointers.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if event < 0 {
            return Err(failed("eventfd", &io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was just created and nobody else owns it.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        ring.submitter().register_eventfd(event.as_raw_fd()).map_err(|error| failed("eventfd", &error))?;
        // SAFETY: msghdr is plain data of the C interface, for which all zeroes are a valid (empty) value.
        let mut template: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        template.msg_namelen = NAME_BYTES as libc::socklen_t;
        template.msg_controllen = sizes.control_bytes() as _;
        Ok((Uring { ring, buffers: ManuallyDrop::new(buffers), template, armed: 0 }, event))
    }

    /// Queues a multishot receive. A token may have one armed receive at a time.
    pub(super) fn arm(&mut self, socket: RawFd, token: u32) -> io::Result<()> {
        let receive = opcode::RecvMsgMulti::new(Fd(socket), &raw const *self.template, GROUP);
        // SAFETY: the template is boxed and lives as long as the ring. The kernel writes only to buffers of the
        // registered group, which outlive every armed receive (see Drop).
        unsafe { self.push(&receive.build().user_data(u64::from(token))) }?;
        self.armed += 1;
        Ok(())
    }

    /// Queues the cancellation of a receive, which then ends with a completion.
    pub(super) fn cancel(&mut self, token: u32) -> io::Result<()> {
        let request = opcode::AsyncCancel::new(u64::from(token)).build().user_data(CANCEL);
        // SAFETY: the request refers to no memory.
        unsafe { self.push(&request.flags(squeue::Flags::SKIP_SUCCESS)) }
    }

    /// Stops signalling the eventfd, while the caller looks for completions.
    pub(super) fn mute(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    /// Allows the eventfd to be signalled again. Returns true if there are completions, for which it was not
    /// signalled; false if it will be signalled for the next one.
    pub(super) fn unmute(&mut self) -> io::Result<bool> {
        self.ring.completion().enable_eventfd();
        // The kernel queues work, then checks whether it may signal; this allows it, then checks for work. With a
        // full barrier on both sides one of the two sees the other.
        fence(Ordering::SeqCst);
        if cfg!(not(any(target_arch = "x86_64", target_arch = "x86"))) {
            // There the kernel's flag for queued work may become visible later than the work; entering runs it.
            self.enter()?;
        }
        // The flag can also be set while no work is queued. A receive that brought 32 datagrams is queued again; if
        // the kernel is running work left over from an earlier call, it runs the new work too and does not clear
        // the flag. Only running all work that there may be tells the two cases apart: each receive has at most one
        // piece left over and one queued, and for what is queued after those the eventfd is signalled.
        for _ in 0..2 * self.armed.div_ceil(WORKS_PER_ENTER) + 1 {
            if !self.ring.completion().is_empty() || !self.wants_enter() {
                break;
            }
            self.enter()?;
        }
        Ok(!self.ring.completion().is_empty())
    }

    /// Whether requests are queued, or the kernel reports work to be run by entering the ring.
    pub(super) fn wants_enter(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Submits queued requests and runs queued work. Does not wait.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        const GETEVENTS: u32 = 1;
        loop {
            let queued = self.ring.submission().len() as u32;
            // SAFETY: no argument is passed, and `arm` guarantees that what queued requests refer to is valid.
            let result = unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(drop),
            }
        }
    }

    /// Takes the next completion of a receive, if there is one.
    pub(super) fn next(&mut self) -> Option<Completion> {
        loop {
            let entry = self.ring.completion().next()?;
            if entry.user_data() == CANCEL {
                continue;
            }
            let goes_on = cqueue::more(entry.flags());
            if !goes_on {
                self.armed -= 1;
            }
            let result = match (entry.result(), cqueue::buffer_select(entry.flags())) {
                (bytes, Some(buffer)) if bytes >= 0 => Ok(Filled { buffer, bytes: bytes as usize }),
                (code, buffer) => {
                    if let Some(buffer) = buffer {
                        self.recycle(Filled { buffer, bytes: 0 });
                    }
                    Err(io::Error::from_raw_os_error(-code))
                }
            };
            return Some(Completion { token: entry.user_data() as u32, goes_on, result });
        }
    }

    /// Splits a received datagram into its parts; `None` if the kernel wrote less than its head.
    pub(super) fn parts(&mut self, filled: &Filled) -> Option<Parts<'_>> {
        // SAFETY: a Filled comes from a completion, after which the kernel does not write to the buffer until
        // `recycle` consumes the Filled.
        let buffer = unsafe { self.buffers.memory.buffer(usize::from(filled.buffer)) };
        let head_bytes = HEAD_BYTES + self.template.msg_controllen;
        let (head, payload) = buffer.get_mut(..filled.bytes)?.split_at_mut_checked(head_bytes)?;
        let flags = i32::from_ne_bytes(*head[HEAD_FLAGS].first_chunk()?);
        let (name, control) = head[HEAD_FLAGS.end..].split_at(NAME_BYTES);
        Some(Parts { name, control, payload, truncated: flags & libc::MSG_TRUNC != 0 })
    }

    /// Returns a buffer, which the kernel may use from the next [`Uring::publish`] on.
    pub(super) fn recycle(&mut self, filled: Filled) {
        self.buffers.memory.trim(usize::from(filled.buffer), filled.bytes);
        self.buffers.give(filled.buffer);
    }

    /// Makes recycled buffers visible to the kernel.
    pub(super) fn publish(&mut self) {
        self.buffers.publish();
    }

    /// Queues a request; submits what is queued first if there is no room.
    ///
    /// # Safety
    /// What the request refers to must stay valid until the request has ended.
    unsafe fn push(&mut self, request: &squeue::Entry) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.enter()?;
        }
        // SAFETY: the caller guarantees it.
        unsafe { self.ring.submission().push(request) }.map_err(|_| io::ErrorKind::WouldBlock.into())
    }

    /// Cancels all receives and waits for their last completions. Returns false if they don't come within a second.
    fn drain(&mut self) -> bool {
        const PAUSE: Duration = Duration::from_millis(10);
        let pause = Timespec::from(PAUSE);
        for _ in 0..100 {
            if self.armed == 0 {
                return true;
            }
            let all = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(CANCEL);
            // SAFETY: the request refers to no memory. If there is no room for it, the next round tries again.
            let _ = unsafe { self.push(&all) };
            let mut silent = false;
            while self.armed > 0 && !silent {
                // If the ring can't be entered, the rounds run out.
                let _ = self.enter();
                silent = true;
                while let Some(completion) = self.next() {
                    silent = false;
                    if let Ok(filled) = completion.result {
                        self.recycle(filled);
                    }
                }
                self.publish();
            }
            if self.armed > 0 {
                let args = SubmitArgs::new().timespec(&pause);
                let _ = self.ring.submitter().submit_with_args(1, &args);
            }
        }
        false
    }
}

impl Drop for Uring {
    /// Ends every receive before the buffers are unmapped: a receive that outlived them would write into memory that
    /// is mapped there later. It also frees the ports at once, which otherwise takes the kernel some 10 ms.
    fn drop(&mut self) {
        if self.drain() {
            // SAFETY: dropped once, here, and not used afterwards; no receive is left that writes to the buffers.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        }
        // Otherwise the buffers stay mapped until the process ends, which costs address space only.
    }
}

/// The receive buffers, and the ring through which the kernel gets them.
#[derive(Debug)]
struct BufferRing {
    /// `entries` slots of 16 bytes, shared with the kernel.
    slots: Buffers,
    entries: u16,
    memory: Buffers,
    /// Bytes of each buffer that the kernel may write.
    bytes: u32,
    /// Slots filled so far, modulo 2^16.
    tail: u16,
}

impl BufferRing {
    /// Maps the buffers, registers their ring and adds all of them to it.
    fn register(ring: &IoUring, sizes: &Sizes) -> io::Result<BufferRing> {
        let count = sizes.buffers;
        assert!(count.is_power_of_two() && count <= BUFFERS_MAX, "{count} buffers");
        let entries = count as u16;
        let bytes = sizes.datagram_bytes_max + HEAD_BYTES + sizes.control_bytes();
        let slots = Buffers::map(1, count * size_of::<BufRingEntry>())?;
        let memory = Buffers::map(count, bytes)?;
        let address = slots.address(0) as u64;
        // SAFETY: the slots are a page-aligned mapping of the size that `entries` asks for. It lives until the
        // Uring is dropped; the kernel has pinned the pages, so it does no harm if the ring is freed later.
        let registered = unsafe { ring.submitter().register_buf_ring_with_flags(address, entries, GROUP, 0) };
        registered.map_err(|error| failed("buffer ring", &error))?;
        let mut buffers = BufferRing { slots, entries, memory, bytes: bytes as u32, tail: 0 };
        for buffer in 0..entries {
            buffers.give(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Writes a buffer into the next free slot. There always is one, since each buffer is in at most one slot.
    fn give(&mut self, buffer: u16) {
        let slot = usize::from(self.tail & (self.entries - 1));
        let address = self.memory.address(usize::from(buffer)) as u64;
        // SAFETY: slot < entries, so it lies in the mapping, which is page-aligned, and zeroes are a valid
        // entry. The kernel does not read slots past the published tail, so nobody else uses this one.
        let entry = unsafe { &mut *self.slots.address(0).cast::<BufRingEntry>().add(slot) };
        entry.set_addr(address);
        entry.set_len(self.bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes the slots that were filled so far visible to the kernel.
    fn publish(&mut self) {
        // SAFETY: the argument is the first of the registered slots, initialised by `register`.
        let tail = unsafe { BufRingEntry::tail(self.slots.address(0).cast()) };
        // SAFETY: the tail is an aligned u16 in the mapping, which this line and the kernel access atomically only.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }.store(self.tail, Ordering::Release);
    }
}

/// Tries with a small ring, without a network, everything that the driver relies on: a receive that is armed once
/// reports several datagrams, each in a buffer of its own, and the eventfd is signalled for one that comes later.
pub(super) fn try_out(mode: Mode) -> io::Result<()> {
    let sizes = Sizes { requests: 2, completions: 8, buffers: 4, datagram_bytes_max: 64, controls: false };
    let (ours, theirs) = UnixDatagram::pair().map_err(|error| failed("socket pair", &error))?;
    let (mut uring, event) = Uring::open(mode, &sizes)?;
    let silent = |what: &str| failed("multishot receive", &io::Error::other(what));
    uring.arm(theirs.as_raw_fd(), 0)?;
    uring.enter().map_err(|error| failed("io_uring_enter", &error))?;
    for text in [&b"first"[..], b"second"] {
        ours.send(text).map_err(|error| failed("socket pair", &error))?;
        let mut poll = libc::pollfd { fd: event.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the count is one, as is the number of pollfds; the kernel writes its revents.
        if unsafe { libc::poll(&mut poll, 1, 1000) } != 1 {
            return Err(silent("its eventfd is silent"));
        }
        let mut count = 0u64;
        // SAFETY: reads at most the 8 bytes of `count`.
        unsafe { libc::read(event.as_raw_fd(), (&raw mut count).cast(), size_of_val(&count)) };
        uring.enter().map_err(|error| failed("io_uring_enter", &error))?;
        let completion = uring.next().ok_or_else(|| silent("nothing came"))?;
        let filled = completion.result.map_err(|error| failed("multishot receive", &error))?;
        let came = uring.parts(&filled).is_some_and(|parts| parts.payload == text && !parts.truncated);
        if !came || !completion.goes_on {
            return Err(silent("it does not go on"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Makes a system call fail with `errno` for the calling thread, as a container's seccomp profile does.
    fn forbid(call: libc::c_long, errno: i32) {
        let statement = |code: u32, jump_if_not: u8, k: u32| libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf: jump_if_not,
            k,
        };
        let mut program = [
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // the call's number
            statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32),
            statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
            statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: takes no pointers.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
        // SAFETY: the kernel copies the program, which lives until the end of this function.
        let result =
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    /// Tries a ring on a thread where `call` is forbidden.
    fn refusal(call: libc::c_long, errno: i32) -> String {
        let trying = std::thread::spawn(move || {
            forbid(call, errno);
            Mode::ALL.map(|mode| try_out(mode).unwrap_err().to_string())
        });
        let [first, second] = trying.join().unwrap();
        assert_eq!(first, second);
        first
    }

    #[test]
    fn a_machine_that_forbids_rings_says_so_in_one_line() {
        let refused = refusal(libc::SYS_io_uring_setup, libc::EPERM);
        assert_eq!(refused, "io_uring_setup: Operation not permitted");
        let unknown = refusal(libc::SYS_io_uring_setup, libc::ENOSYS);
        assert_eq!(unknown, "io_uring_setup: Function not implemented");
    }

    #[test]
    fn a_kernel_without_buffer_rings_says_so_in_one_line() {
        let refused = refusal(libc::SYS_io_uring_register, libc::EINVAL);
        // Where rings are forbidden altogether there is nothing more to find out.
        if !refused.starts_with("io_uring_setup") {
            assert_eq!(refused, "buffer ring: Invalid argument");
        }
    }

    #[test]
    fn a_ring_dropped_with_armed_receives_lets_go_of_sockets_and_buffers() {
        let sizes =
            Sizes { requests: 2, completions: 4, buffers: 2, datagram_bytes_max: 2000, controls: false };
        for mode in Mode::ALL {
            let Ok((mut uring, _event)) = Uring::open(mode, &sizes) else {
                eprintln!("not run, there is no {mode} ring here");
                continue;
            };
            let sockets: Vec<_> =
                (0..40).map(|_| std::net::UdpSocket::bind("127.12.2.19:0").unwrap()).collect();
            for (token, socket) in sockets.iter().enumerate() {
                uring.arm(socket.as_raw_fd(), token as u32).unwrap();
                socket.send_to(&[1; 1400], socket.local_addr().unwrap()).unwrap();
            }
            assert!(uring.drain(), "{mode}");
            assert_eq!(uring.armed, 0);
            drop(uring);
            for socket in sockets {
                let address = socket.local_addr().unwrap();
                drop(socket);
                std::net::UdpSocket::bind(address).unwrap();
            }
        }
    }
}
