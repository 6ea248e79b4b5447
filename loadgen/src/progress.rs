//! The state of work that takes more than two seconds: one changing line on a terminal, else a plain line every ten
//! seconds. Both go to standard error.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Work that ends sooner shows nothing.
const QUIET: Duration = Duration::from_secs(2);
/// Time between two lines on a terminal, and elsewhere.
const TERMINAL_EVERY: Duration = Duration::from_millis(100);
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Shown characters of a line, at most, so that it does not wrap.
const WIDTH: usize = 100;

/// Work in phases.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: String,
    phase_started: Instant,
    shown: Option<Instant>,
    /// A line stands on the terminal.
    open: bool,
}

/// How far a phase is.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Step<'a> {
    /// Units done, ...
    pub done: f64,
    /// ... of so many; zero or less: unknown.
    pub total: f64,
    /// What is counted: `nodes`, `s`.
    pub unit: &'a str,
    /// More to show; may be empty.
    pub detail: &'a str,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::new(std::io::stderr().is_terminal())
    }
}

impl Progress {
    /// Work that begins now, shown as on a terminal or in plain lines.
    pub fn new(terminal: bool) -> Progress {
        let now = Instant::now();
        let state = State { phase: String::new(), phase_started: now, shown: None, open: false };
        Progress { started: now, terminal, state: Mutex::new(state) }
    }

    /// Begins a phase.
    pub fn phase(&self, name: &str) {
        let mut state = self.state();
        (state.phase, state.phase_started, state.shown) = (name.to_owned(), Instant::now(), None);
        drop(state);
        self.step(Step { done: 0.0, total: 0.0, unit: "", detail: "" });
    }

    /// Shows how far the phase is, if it is time for a line.
    pub fn step(&self, step: Step<'_>) {
        let (now, every) = (Instant::now(), if self.terminal { TERMINAL_EVERY } else { PLAIN_EVERY });
        let mut state = self.state();
        if now - self.started < QUIET || state.shown.is_some_and(|shown| now - shown < every) {
            return;
        }
        let line = line(&state.phase, now - state.phase_started, step);
        state.shown = Some(now);
        state.open = self.terminal;
        let (begin, end) = if self.terminal { ("\r", "\x1b[K") } else { ("", "\n") };
        // Without standard error nothing is shown.
        let _ = write!(std::io::stderr(), "{begin}{line}{end}");
    }

    /// Takes the line off the terminal, before other output.
    pub fn clear(&self) {
        if std::mem::take(&mut self.state().open) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `event: 412 of 1000 nodes (41 %), 120 a second, 5 s left, detail`
fn line(phase: &str, passed: Duration, step: Step<'_>) -> String {
    let Step { done, total, unit, detail } = step;
    let mut parts = Vec::new();
    if total > 0.0 {
        parts.push(format!("{done:.0} of {total:.0} {unit} ({:.0} %)", 100.0 * done / total));
    } else if done > 0.0 {
        parts.push(format!("{done:.0} {unit}"));
    }
    let rate = done / passed.as_secs_f64().max(1e-9);
    if done > 0.0 {
        parts.push(if rate < 10.0 { format!("{rate:.1} a second") } else { format!("{rate:.0} a second") });
    }
    if done > 0.0 && total > done {
        parts.push(format!("{} s left", ((total - done) / rate).ceil()));
    }
    if !detail.is_empty() {
        parts.push(detail.to_owned());
    }
    let line = if parts.is_empty() { phase.to_owned() } else { format!("{phase}: {}", parts.join(", ")) };
    line.chars().take(WIDTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_phase_share_rate_and_time_left() {
        let line = |done, total, detail| {
            super::line("event", Duration::from_secs(4), Step { done, total, unit: "nodes", detail })
        };
        assert_eq!(line(400.0, 1000.0, ""), "event: 400 of 1000 nodes (40 %), 100 a second, 6 s left");
        assert_eq!(line(1000.0, 1000.0, "x"), "event: 1000 of 1000 nodes (100 %), 250 a second, x");
        assert_eq!(line(2.0, 0.0, ""), "event: 2 nodes, 0.5 a second");
        assert_eq!(line(0.0, 0.0, ""), "event");
        assert_eq!(line(0.0, 8.0, ""), "event: 0 of 8 nodes (0 %)");
        assert_eq!(line(0.0, 0.0, &"long ".repeat(100)).len(), WIDTH);
    }
}
