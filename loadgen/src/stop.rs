//! The wish of the user to end: Ctrl-C, or the signals TERM and HUP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Pause between two looks at the wish.
const LOOK: Duration = Duration::from_millis(50);
/// The error of work that ended because of it.
pub const STOPPED: &str = "stopped";

/// Whether the user wants an end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Takes Ctrl-C, TERM and HUP from now on. One call for each process.
    pub fn on_signal() -> Stop {
        let stop = Stop::default();
        let wanted = stop.clone();
        // Fails only where a handler was set before, which then ends the process.
        let _ = ctrlc::set_handler(move || wanted.request());
        stop
    }

    /// Wishes an end.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether an end is wanted.
    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for `span`, less if an end is wanted.
    ///
    /// # Errors
    /// An end is wanted.
    pub fn sleep(&self, span: Duration) -> Result<(), String> {
        let end = Instant::now() + span;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.check()?;
            std::thread::sleep(left.min(LOOK));
        }
        self.check()
    }

    /// # Errors
    /// An end is wanted.
    pub fn check(&self) -> Result<(), String> {
        if self.is_wanted() { Err(STOPPED.to_owned()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_ends_a_sleep_at_once() {
        let stop = Stop::default();
        assert_eq!(stop.sleep(Duration::ZERO), Ok(()));
        stop.clone().request();
        assert_eq!(stop.sleep(Duration::from_secs(1_000_000)), Err("stopped".to_owned()));
    }
}
