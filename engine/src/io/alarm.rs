//! Waking a shard when a timer is due.
//!
//! On Linux a descriptor (timerfd) becomes readable at that time. Other systems use the runtime's timers. On Linux
//! these cost more: each time one is set, the runtime wakes itself with a system call, and it wakes twice for a
//! time beyond the range of its finest wheel.
#![allow(unsafe_code)]

use std::io;
use std::time::Instant;

/// An alarm that rings once, at the time that it is set to.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: imp::SystemTimer,
    at: Option<Instant>,
}

impl Alarm {
    /// An alarm that is not set. Must be made inside the runtime.
    pub(crate) fn new() -> io::Result<Alarm> {
        Ok(Alarm { timer: imp::SystemTimer::new()?, at: None })
    }

    /// Sets the alarm to a time, or to none. Makes no system call if it is set to that already.
    pub(crate) fn set(&mut self, at: Option<Instant>) -> io::Result<()> {
        if self.at != at {
            self.timer.set(at)?;
            self.at = at;
        }
        Ok(())
    }

    /// Resolves when the alarm rings; sometimes earlier. Cancel safe.
    pub(crate) async fn rings(&mut self) {
        self.timer.rings().await;
        self.at = None;
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::time::{Duration, Instant};

    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    #[derive(Debug)]
    pub(super) struct SystemTimer(AsyncFd<OwnedFd>);

    impl SystemTimer {
        pub(super) fn new() -> io::Result<SystemTimer> {
            // SAFETY: takes no pointers.
            let fd = unsafe {
                libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK)
            };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the descriptor was just created and nobody else owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            // SAFETY: an OwnedFd is one open descriptor, always the same, for as long as it lives; the AsyncFd
            // owns it and deregisters before it is closed.
            Ok(SystemTimer(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?))
        }

        /// Setting it also resets the descriptor's readiness, so nothing has to be read.
        pub(super) fn set(&mut self, at: Option<Instant>) -> io::Result<()> {
            // A time of zero would disarm the timer.
            let soonest = Duration::from_nanos(1);
            let span = at.map(|at| at.saturating_duration_since(Instant::now()).max(soonest));
            let span = span.unwrap_or_default();
            let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            let value = libc::timespec { tv_sec: span.as_secs() as _, tv_nsec: span.subsec_nanos() as _ };
            let time = libc::itimerspec { it_interval: never, it_value: value };
            // SAFETY: the descriptor is open, the kernel only reads the time.
            let set = unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &time, std::ptr::null_mut()) };
            if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        }

        pub(super) async fn rings(&mut self) {
            match self.0.readable().await {
                Ok(mut guard) => guard.clear_ready(),
                // The runtime is shutting down.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;
    use std::pin::Pin;
    use std::time::Instant;

    use tokio::time::{Sleep, sleep_until};

    #[derive(Debug)]
    pub(super) struct SystemTimer(Option<Pin<Box<Sleep>>>);

    impl SystemTimer {
        pub(super) fn new() -> io::Result<SystemTimer> {
            Ok(SystemTimer(None))
        }

        pub(super) fn set(&mut self, at: Option<Instant>) -> io::Result<()> {
            match (&mut self.0, at) {
                (Some(sleep), Some(at)) => sleep.as_mut().reset(at.into()),
                (sleep, at) => *sleep = at.map(|at| Box::pin(sleep_until(at.into()))),
            }
            Ok(())
        }

        pub(super) async fn rings(&mut self) {
            match &mut self.0 {
                Some(sleep) => sleep.await,
                None => std::future::pending().await,
            }
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_rings_once_for_each_time_and_not_early() {
        let mut alarm = Alarm::new().unwrap();
        for _ in 0..3 {
            let at = Instant::now() + Duration::from_millis(3);
            alarm.set(Some(at)).unwrap();
            alarm.rings().await;
            assert!(Instant::now() >= at);
        }
        // What has passed rings at once, and a later time replaces an earlier one.
        alarm.set(Some(Instant::now())).unwrap();
        alarm.rings().await;
        let at = Instant::now() + Duration::from_millis(5);
        alarm.set(Some(at - Duration::from_millis(4))).unwrap();
        alarm.set(Some(at)).unwrap();
        while Instant::now() < at {
            alarm.rings().await;
            alarm.set(Some(at)).unwrap();
        }
        alarm.set(None).unwrap();
        let never = tokio::time::timeout(Duration::from_millis(5), alarm.rings());
        assert!(never.await.is_err());
    }
}
