//! The agent's stdout and stderr. Where a reader may stop reading (a pipe, a terminal), a thread writes, so that the
//! agent goes on; what does not fit the queue in front of it is lost.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes from which on no more wait for a reader; enough for the lines of a burst of 50,000 members.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// The thread calls `write` and nothing else.
const STACK_BYTES: usize = 64 << 10;

/// One of the two.
pub(crate) struct Printer {
    open: fn() -> Box<dyn Write + Send>,
    blocks: fn() -> bool,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What waits for the thread.
struct Queue {
    thread: Thread,
    waiting: Vec<u8>,
    /// The thread has taken bytes and not written them all yet.
    writing: bool,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Thread {
    NotNeededYet,
    Runs,
    /// Writes don't block: the caller does them.
    Without,
}

/// The agent's stdout.
pub(crate) static STDOUT: Printer = Printer::new(|| Box::new(io::stdout()), || may_block(io::stdout()));
/// The agent's stderr.
pub(crate) static STDERR: Printer = Printer::new(|| Box::new(io::stderr()), || may_block(io::stderr()));

impl Printer {
    const fn new(open: fn() -> Box<dyn Write + Send>, blocks: fn() -> bool) -> Printer {
        let queue = Queue { thread: Thread::NotNeededYet, waiting: Vec::new(), writing: false };
        Printer { open, blocks, queue: Mutex::new(queue), changed: Condvar::new() }
    }

    /// Prints a text. Returns false if that is lost, because too much waits to be read. A closed output is no error.
    pub(crate) fn print(&'static self, text: &str) -> bool {
        let mut queue = self.lock();
        if queue.thread == Thread::NotNeededYet {
            let run = || std::thread::Builder::new().stack_size(STACK_BYTES).spawn(|| self.run()).is_ok();
            queue.thread = if (self.blocks)() && run() { Thread::Runs } else { Thread::Without };
        }
        if queue.thread == Thread::Without {
            drop(queue);
            write(&mut *(self.open)(), text.as_bytes());
            return true;
        }
        let fits = queue.waiting.len() < WAITING_BYTES_MAX;
        if fits {
            queue.waiting.extend_from_slice(text.as_bytes());
            drop(queue);
            self.changed.notify_all();
        }
        fits
    }

    /// Whether a reader that had stopped has read again.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().waiting.len() <= WAITING_BYTES_MAX / 2
    }

    /// Waits until everything is written, but not longer than that.
    pub(crate) fn finish(&self, within: Duration) {
        let under_way = |queue: &mut Queue| queue.writing || !queue.waiting.is_empty();
        drop(self.changed.wait_timeout_while(self.lock(), within, under_way));
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits, for ever.
    fn run(&self) {
        let mut output = (self.open)();
        let mut queue = self.lock();
        loop {
            queue.writing = false;
            self.changed.notify_all();
            let empty = |queue: &mut Queue| queue.waiting.is_empty();
            queue = self.changed.wait_while(queue, empty).unwrap_or_else(PoisonError::into_inner);
            queue.writing = true;
            let bytes = std::mem::take(&mut queue.waiting);
            drop(queue);
            write(&mut *output, &bytes);
            queue = self.lock();
        }
    }
}

/// Writes as much as the output takes: a closed one must not end the agent.
fn write(output: &mut dyn Write, bytes: &[u8]) {
    let _ = output.write_all(bytes).and_then(|()| output.flush());
}

/// Whether a write may wait for a reader: not in a file and not in /dev/null.
#[cfg(unix)]
fn may_block(output: impl std::os::fd::AsFd + io::IsTerminal) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let kind = output.as_fd().try_clone_to_owned().and_then(|fd| std::fs::File::from(fd).metadata());
    let reads = |kind: std::fs::FileType| kind.is_fifo() || kind.is_socket();
    output.is_terminal() || kind.is_ok_and(|kind| reads(kind.file_type()))
}

#[cfg(not(unix))]
fn may_block(_: impl Sized) -> bool {
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Writes wait until the test lets them go on, and are counted.
    struct Held(Receiver<()>, Sender<usize>);

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.send(bytes.len()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    static HELD: Mutex<Option<Held>> = Mutex::new(None);
    static PRINTER: Printer = Printer::new(|| Box::new(HELD.lock().unwrap().take().unwrap()), || true);

    #[test]
    fn a_reader_that_stops_holds_up_nobody_and_loses_only_what_does_not_fit() {
        let ((go_on, held), (written, counts)) = (channel(), channel());
        *HELD.lock().unwrap() = Some(Held(held, written));
        let line = "x".repeat(1 << 10) + "\n";
        let fitting = WAITING_BYTES_MAX / line.len();
        let printed = (0..3 * fitting).filter(|_| PRINTER.print(&line)).count();
        // What the thread took before it was held is not in the queue.
        assert!((fitting..=2 * fitting + 2).contains(&printed), "{printed}");
        assert!(!PRINTER.has_room());
        PRINTER.finish(Duration::ZERO);
        drop(go_on);
        PRINTER.finish(Duration::from_secs(60));
        assert_eq!(counts.try_iter().sum::<usize>(), printed * line.len());
        assert!(PRINTER.has_room() && PRINTER.print("again\n"));
    }
}
