//! Waiting for a descriptor that represents many sockets, without losing a wake-up and without polling twice.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor watched by the runtime. The runtime reports edges, so readiness is cleared before the caller
/// receives, never after: what arrives while it receives is a new edge.
#[derive(Debug)]
pub(super) struct Wake {
    fd: AsyncFd<OwnedFd>,
    /// There may be more to receive, so the next wait returns at once.
    pending: Cell<bool>,
}

impl Wake {
    /// Watches `fd`. Must be called inside the runtime.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Wake> {
        // SAFETY: an OwnedFd is one open descriptor, always the same, for as long as it lives; the AsyncFd
        // owns it and deregisters before it is closed.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Wake { fd, pending: Cell::new(true) })
    }

    /// Resolves when there may be something to receive. Cancel safe.
    pub(super) async fn ready(&self) {
        if self.pending.get() {
            // A caller that always has more to receive must still let the runtime's other tasks run.
            return tokio::task::coop::consume_budget().await;
        }
        match self.fd.readable().await {
            Ok(mut guard) => guard.clear_ready(),
            // The runtime is shutting down.
            Err(_) => std::future::pending().await,
        }
        self.pending.set(true);
    }

    /// Sets whether the caller left something to receive.
    pub(super) fn set_pending(&self, pending: bool) {
        self.pending.set(pending);
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn edges_are_kept_until_the_caller_has_looked() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut reader = theirs.try_clone().unwrap();
        let wake = Wake::new(theirs.into()).unwrap();
        wake.ready().await;
        wake.set_pending(false);
        let waiting = tokio::time::timeout(Duration::from_millis(5), wake.ready()).await;
        assert!(waiting.is_err(), "nothing was written");
        ours.write_all(b"x").unwrap();
        wake.ready().await;
        wake.ready().await; // not lost by a caller that did not receive
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
        ours.write_all(b"y").unwrap(); // arrives after reading and before `set_pending`
        wake.set_pending(false);
        wake.ready().await;
    }
}
