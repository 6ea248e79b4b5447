//! Signals that the agent acts on.

use std::fmt;
use std::io;

/// A signal that the agent acts on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT or Ctrl-C: leave and exit, unless configured otherwise.
    Interrupt,
    /// SIGTERM: exit, and leave first if configured.
    Terminate,
    /// SIGHUP: read the configuration again.
    Hangup,
    /// SIGUSR1 or Ctrl-Break: write the numbers to stderr.
    Dump,
}

impl fmt::Display for Signal {
    /// Go's name of the signal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Interrupt => "interrupt",
            Signal::Terminate => "terminated",
            Signal::Hangup => "hangup",
            Signal::Dump => "user defined signal 1",
        })
    }
}

/// The stream of signals.
#[cfg(unix)]
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    dump: tokio::signal::unix::Signal,
    /// Signals that would end a process that does not take them; Go's runtime ignores them.
    _ignored: [tokio::signal::unix::Signal; 2],
}

#[cfg(unix)]
impl Signals {
    /// Installs handlers. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub(crate) fn listen() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            dump: signal(SignalKind::user_defined1())?,
            _ignored: [signal(SignalKind::user_defined2())?, signal(SignalKind::alarm())?],
        })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.hangup.recv() => Signal::Hangup,
            _ = self.dump.recv() => Signal::Dump,
        }
    }
}

/// The stream of signals.
#[cfg(windows)]
pub(crate) struct Signals {
    ctrl_c: tokio::signal::windows::CtrlC,
    ctrl_break: tokio::signal::windows::CtrlBreak,
}

#[cfg(windows)]
impl Signals {
    /// Installs handlers. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub(crate) fn listen() -> io::Result<Signals> {
        use tokio::signal::windows;
        Ok(Signals { ctrl_c: windows::ctrl_c()?, ctrl_break: windows::ctrl_break()? })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.ctrl_c.recv() => Signal::Interrupt,
            _ = self.ctrl_break.recv() => Signal::Dump,
        }
    }
}
