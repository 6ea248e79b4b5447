//! Whether the user, or a run that failed, asked for the end. Every wait of the testbed looks at it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Takes Ctrl-C, TERM and HUP as the request to clean up and end.
pub(crate) fn listen() {
    // Fails only where a second handler is set; this is the only call.
    let _ = ctrlc::set_handler(ask);
}

/// Asks for the end.
pub(crate) fn ask() {
    ASKED.store(true, Ordering::Relaxed);
}

/// # Errors
/// Somebody asked for the end.
pub(crate) fn check() -> Result<(), Failure> {
    if ASKED.load(Ordering::Relaxed) { Err(Failure::stopped()) } else { Ok(()) }
}
