//! Streams of no honest member: they stall, drip, announce too much, or read nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thane_engine::fixtures::FRAME_MAX_ANNOUNCED;

use super::emulated::{self, Wrapping};

/// Streams of each kind.
const EACH: usize = 64;
/// Time between two bytes of a stream that drips.
const DRIP: Duration = Duration::from_millis(50);
/// Bytes written at once to a stream that announced too much.
static CHUNK: [u8; 65_536] = [0; 65_536];

/// The behaviour of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Nothing at all.
    Stall,
    /// Sends a frame byte by byte.
    Drip,
    /// Announces the longest frame, and sends as much of it as the agent reads.
    Announce,
    /// Requests the agent's state and does not read it.
    Ask,
}

/// Streams that are open until dropped.
pub(crate) struct Hostile {
    stop: Arc<AtomicBool>,
    cut: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Hostile {
    /// Number of streams.
    pub(crate) const COUNT: usize = 4 * EACH;
    /// Time to watch them: longer than an agent waits for a stream (10 s).
    pub(crate) const SPAN: Duration = Duration::from_secs(14);

    /// Opens all of them.
    ///
    /// # Errors
    /// The agent accepts no connections.
    pub(crate) fn open(agent: SocketAddr) -> Result<Hostile, String> {
        let failed = |error: std::io::Error| format!("can't connect to {agent}: {error}");
        let request = emulated::push_pull_request(Wrapping::Sealed);
        let mut streams = Vec::new();
        for habit in [Habit::Stall, Habit::Drip, Habit::Announce, Habit::Ask] {
            for _ in 0..EACH {
                let mut stream = TcpStream::connect(agent).map_err(failed)?;
                stream.set_nonblocking(true).map_err(failed)?;
                let first: &[u8] = match habit {
                    Habit::Stall | Habit::Drip => &[],
                    Habit::Announce => &FRAME_MAX_ANNOUNCED,
                    Habit::Ask => &request,
                };
                // The thread notices a stream that the agent cut already.
                let _ = stream.write(first);
                streams.push((habit, stream));
            }
        }
        let (stop, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = {
            let (stop, cut) = (Arc::clone(&stop), Arc::clone(&cut));
            std::thread::spawn(move || misbehave(streams, &request, &stop, &cut))
        };
        Ok(Hostile { stop, cut, thread: Some(thread) })
    }

    /// Share of them that the agent has cut so far.
    pub(crate) fn cut(&self) -> f64 {
        self.cut.load(Ordering::Relaxed) as f64 / Hostile::COUNT as f64
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has printed why.
            let _ = thread.join();
        }
    }
}

fn misbehave(mut streams: Vec<(Habit, TcpStream)>, request: &[u8], stop: &AtomicBool, cut: &AtomicUsize) {
    let (mut dripped, start) = (0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let drip = start.elapsed().as_millis() / DRIP.as_millis() > dripped as u128;
        let byte = request.get(dripped..=dripped).filter(|_| drip).unwrap_or(&[]);
        dripped += usize::from(drip);
        let mut busy = false;
        streams.retain_mut(|(habit, stream)| {
            let done = match habit {
                Habit::Stall => Ok(0),
                Habit::Drip => stream.write(byte),
                Habit::Announce => stream.write(&CHUNK),
                // It does not read, so only a failing write shows that it was cut.
                Habit::Ask => stream.write(&[0]),
            };
            busy |= *habit == Habit::Announce && done.is_ok();
            let is_cut =
                ended(&done) || *habit != Habit::Ask && ended(&stream.read(&mut [0; 512]).and_then(some));
            cut.fetch_add(usize::from(is_cut), Ordering::Relaxed);
            !is_cut
        });
        if !busy {
            std::thread::sleep(DRIP / 10);
        }
    }
}

/// No bytes means that the other side has closed.
fn some(bytes: usize) -> std::io::Result<usize> {
    if bytes == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

fn ended(done: &std::io::Result<usize>) -> bool {
    let waits =
        |error: &std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
    done.as_ref().is_err_and(|error| !waits(error))
}
