//! The process's own code: pages that do not run any more.
#![allow(unsafe_code)]

/// Unmaps the pages of the program's code (64-bit Linux; does nothing on other systems). The system maps a page again, from
/// the page cache, when the program next executes it. A start runs code that the agent never runs again, and the system
/// maps 16 pages around each page that is touched: without this call nearly the whole program stays in the resident memory
/// of an idle agent. Call it once the program is up, and from time to time. Breakpoints that a debugger has set are lost.
pub fn release_unused_code() {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    // SAFETY: the callback gets valid program headers from the loader and keeps none; see there.
    unsafe {
        libc::dl_iterate_phdr(Some(release), std::ptr::null_mut());
    }
}

/// `dl_iterate_phdr` calls this for the program first; the result 1 ends the iteration.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
unsafe extern "C" fn release(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader passes one valid object with so many headers, for the time of the call.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    // SAFETY: takes a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    for header in headers {
        // Code that can be written may differ from the file, and would be lost.
        let is_code =
            header.p_type == libc::PT_LOAD && header.p_flags & (libc::PF_X | libc::PF_W) == libc::PF_X;
        if is_code {
            // Whole pages inside the segment.
            let start = (base + header.p_vaddr).next_multiple_of(page);
            let end = (base + header.p_vaddr + header.p_memsz) / page * page;
            if start < end {
                // SAFETY: these pages are a private mapping of the program's file that nothing has written to, so the
                // system reads them again as they are.
                unsafe {
                    libc::madvise(start as *mut libc::c_void, (end - start) as usize, libc::MADV_DONTNEED)
                };
            }
        }
    }
    1
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Kilobytes of files that are mapped and resident.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn code_that_was_mapped_is_not_resident_until_it_runs_again() {
        let before = resident();
        release_unused_code();
        let after = resident();
        assert!(after < before, "{before} kB, then {after} kB");
    }
}
