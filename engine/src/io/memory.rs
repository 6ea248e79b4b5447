//! Returning freed memory to the system after a burst.
#![allow(unsafe_code)]

use std::time::Duration;

use crate::time::Time;

/// Stream bytes that count as a burst: a push/pull of some thousand members.
const WORTH_BYTES: usize = 1 << 20;
/// Time without a burst before memory is returned.
const QUIET: Duration = Duration::from_secs(1);

/// How long after a burst the end of a stream may free what came with it: the longest time that a stream may take.
const STREAMS_LAST: Duration = Duration::from_secs(30);

/// Returns free memory to the system once a burst of stream bytes is over. The allocator keeps freed memory for
/// later, and after a push/pull with tens of thousands of members that is several times what stays in use.
#[derive(Debug, Default)]
pub(crate) struct HeapTrimmer {
    bytes: usize,
    due: Option<Time>,
    last_burst: Option<Time>,
}

impl HeapTrimmer {
    /// Counts bytes that a stream brought.
    pub(crate) fn note(&mut self, bytes: usize, now: Time) {
        self.bytes += bytes;
        if self.bytes >= WORTH_BYTES {
            self.bytes = 0;
            self.due = Some(now + QUIET);
            self.last_burst = Some(now);
        }
    }

    /// Notes that a stream ended, which may have held an incomplete message of a burst.
    pub(crate) fn stream_ended(&mut self, now: Time) {
        if self.last_burst.is_some_and(|at| now <= at + STREAMS_LAST) {
            self.due = Some(now + QUIET);
        }
    }

    /// When [`look`](Self::look) is due next.
    pub(crate) fn due(&self) -> Option<Time> {
        self.due
    }

    /// Returns memory to the system if that is due. Returns whether it was.
    pub(crate) fn look(&mut self, now: Time) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.due = None;
        give_back();
        true
    }
}

/// Makes all threads of the process share one heap (Linux with glibc; does nothing on other systems). Otherwise the
/// allocator makes a heap for each thread, and memory at the end of such a heap is never returned to the system:
/// 5 MB after a push/pull of 50,000 members. For programs with few threads; call it before starting them.
pub fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes two numbers; an allocator that does not know the option ignores it.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Takes about a millisecond for each ten megabytes that are returned.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes no pointers; the allocator locks what it reads.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_a_second_after_the_last_burst() {
        let (mut trimmer, at) = (HeapTrimmer::default(), |millis| Time::ZERO + Duration::from_millis(millis));
        trimmer.note(WORTH_BYTES - 1, at(0));
        assert_eq!(trimmer.due(), None, "too little to look for");
        trimmer.note(1, at(10));
        assert!(!trimmer.look(at(1_009)));
        trimmer.note(WORTH_BYTES, at(1_009));
        assert!(!trimmer.look(at(2_008)));
        assert!(trimmer.look(at(2_009)));
        assert!(!trimmer.look(at(9_000)), "once");
        trimmer.stream_ended(at(11_009));
        assert!(trimmer.look(at(12_009)), "a stream may have held it for so long");
        trimmer.stream_ended(at(31_010));
        assert_eq!(trimmer.due(), None, "nothing of the burst is left");
    }
}
