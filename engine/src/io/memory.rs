//! Memory that a burst took and the system could have back.
#![allow(unsafe_code)]

use std::time::Duration;

use crate::time::Time;

/// Bytes over streams that make it worth looking: a push/pull of some thousand members.
const WORTH_BYTES: usize = 1 << 20;
/// Quiet after the last burst before memory is given back.
const QUIET: Duration = Duration::from_secs(1);

/// How long after a burst the end of a stream may still free what came with it: the longest a stream may take.
const STREAMS_LAST: Duration = Duration::from_secs(30);

/// Gives free memory back once a burst of stream bytes is over. The allocator keeps what was freed in case it
/// is needed again, which after a push/pull with ten thousands of members is several times what stays in use.
#[derive(Debug, Default)]
pub(crate) struct HeapTrimmer {
    bytes: usize,
    due: Option<Time>,
    last_burst: Option<Time>,
}

impl HeapTrimmer {
    /// Bytes came over a stream.
    pub(crate) fn note(&mut self, bytes: usize, now: Time) {
        self.bytes += bytes;
        if self.bytes >= WORTH_BYTES {
            self.bytes = 0;
            self.due = Some(now + QUIET);
            self.last_burst = Some(now);
        }
    }

    /// A stream ended, perhaps one that held what came in a burst and never got whole.
    pub(crate) fn stream_ended(&mut self, now: Time) {
        if self.last_burst.is_some_and(|at| now <= at + STREAMS_LAST) {
            self.due = Some(now + QUIET);
        }
    }

    /// When to look next.
    pub(crate) fn due(&self) -> Option<Time> {
        self.due
    }

    /// Gives memory back if it is time. True if it was.
    pub(crate) fn look(&mut self, now: Time) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.due = None;
        give_back();
        true
    }
}

/// Lets all threads of the process share one heap, where the allocator would make one for each thread: what a
/// burst took at the end of a heap of its own is never given back, 5 MB after a push/pull of 50,000 members. For
/// a program with few threads, before it starts them. Does nothing on other systems.
pub fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes two numbers; an allocator that does not know them does nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Costs about a millisecond for each ten megabytes that are given back.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes no pointers; the allocator locks what it looks at.
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
