//! Memory for received datagrams: anonymous pages that cost nothing until the kernel first writes to them.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;

use super::failed;

/// After a longer datagram was handled, its pages beyond this size are given back, bytes, so that a burst of large
/// datagrams does not keep memory.
const KEPT_BYTES: usize = 8 << 10;

/// Page size assumed for rounding, bytes. If real pages are larger, less is given back.
const PAGE_BYTES: usize = 4096;

/// Buffers of equal size in one anonymous mapping that forked children don't inherit.
#[derive(Debug)]
pub(super) struct Buffers {
    base: NonNull<u8>,
    stride: usize,
    count: usize,
}

impl Buffers {
    /// Maps `count` buffers of at least `bytes` each. No page is touched.
    pub(super) fn map(count: usize, bytes: usize) -> io::Result<Buffers> {
        assert!(count > 0 && bytes > 0, "an empty mapping");
        let stride = bytes.next_multiple_of(PAGE_BYTES);
        let what = || format!("{count} receive buffers of {stride} bytes");
        let length = stride.checked_mul(count).ok_or(io::ErrorKind::OutOfMemory);
        let length = length.map_err(|kind| failed(&what(), &kind.into()))?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(failed(&what(), &io::Error::last_os_error()));
        }
        for advice in [libc::MADV_NOHUGEPAGE, libc::MADV_DONTFORK] {
            // SAFETY: the range is the mapping just made. Both are hints: a kernel without huge pages refuses
            // the first, and nothing depends on either.
            unsafe { libc::madvise(base, length, advice) };
        }
        let base = NonNull::new(base.cast()).expect("mmap places nothing at address zero");
        Ok(Buffers { base, stride, count })
    }

    /// The address of buffer `index`.
    pub(super) fn address(&self, index: usize) -> *mut u8 {
        assert!(index < self.count, "buffer {index} of {}", self.count);
        // SAFETY: index < count, so the offset lies within the mapping.
        unsafe { self.base.as_ptr().add(index * self.stride) }
    }

    /// Buffer `index`.
    ///
    /// # Safety
    /// The kernel must not be able to write to this buffer while the slice lives.
    pub(super) unsafe fn buffer(&mut self, index: usize) -> &mut [u8] {
        // SAFETY: the range lies within the mapping, which is readable and writable (zero until written) and
        // lives as long as self; &mut self makes this the only reference in this process, and the caller
        // guarantees that the kernel does not write to it.
        unsafe { std::slice::from_raw_parts_mut(self.address(index), self.stride) }
    }

    /// Gives back the pages that a datagram of `used` bytes in buffer `index` left resident beyond [`KEPT_BYTES`].
    /// The buffer's content is lost.
    pub(super) fn trim(&mut self, index: usize, used: usize) {
        if used <= KEPT_BYTES {
            return;
        }
        let start = self.address(index).wrapping_add(KEPT_BYTES);
        // SAFETY: used <= stride, so the range lies within the buffer, and there is no slice of it (&mut self).
        // Dropped pages read as zero afterwards. A failure leaves the pages, which is harmless.
        unsafe { libc::madvise(start.cast(), used.min(self.stride) - KEPT_BYTES, libc::MADV_DONTNEED) };
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly the mapping made in `map`; slices of it borrow self, so there are none.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.stride * self.count) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn resident_kib(buffers: &Buffers) -> usize {
        let length = buffers.stride * buffers.count;
        let mut pages = vec![0u8; length / PAGE_BYTES];
        // SAFETY: one byte is written for each page of the mapping.
        let result = unsafe { libc::mincore(buffers.base.as_ptr().cast(), length, pages.as_mut_ptr()) };
        assert_eq!(result, 0);
        pages.iter().filter(|page| **page & 1 == 1).count() * PAGE_BYTES / 1024
    }

    #[test]
    fn only_touched_pages_cost_memory_and_large_ones_are_given_back() {
        let mut buffers = Buffers::map(64, 65_536 + 44).unwrap();
        assert_eq!((buffers.count, buffers.stride), (64, 69_632));
        assert_eq!(resident_kib(&buffers), 0);
        // SAFETY: no kernel knows of this mapping.
        let buffer = unsafe { buffers.buffer(63) };
        buffer[..60_000].fill(7);
        assert_eq!(resident_kib(&buffers), 60);
        buffers.trim(63, 60_000);
        assert_eq!(resident_kib(&buffers), 8);
        buffers.trim(63, 1400);
        assert_eq!(resident_kib(&buffers), 8);
    }

    #[test]
    fn too_much_is_an_error_that_says_what() {
        let error = Buffers::map(1 << 20, 1 << 40).unwrap_err().to_string();
        assert!(error.starts_with("1048576 receive buffers of 1099511627776 bytes: "), "{error}");
        assert!(Buffers::map(usize::MAX, 4096).is_err());
    }

    #[test]
    #[should_panic(expected = "buffer 2 of 2")]
    fn a_buffer_outside_the_mapping_is_refused() {
        Buffers::map(2, 10).unwrap().address(2);
    }
}
