//! What all commands do about their terminal and their files.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressStyle;
use serde_json::Value;

/// Becomes true when the user wants an end: Ctrl-C, or the signals that ask for it (TERM, HUP).
pub(crate) fn stop_on_signal() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    // A second handler can't be there: this is the only one, set once.
    let _ = ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed));
    stop
}

/// A progress bar's style.
pub(crate) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is fixed and tested by every run")
}

/// Writes a JSON file into that folder, which is made if it is not there.
///
/// # Errors
/// The folder or the file can't be written; one line.
pub(crate) fn write_json(dir: &Path, name: &str, value: &Value) -> Result<(), String> {
    std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let path = dir.join(name);
    let text = serde_json::to_string_pretty(value).map_err(|error| format!("{}: {error}", path.display()))?;
    std::fs::write(&path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
}
