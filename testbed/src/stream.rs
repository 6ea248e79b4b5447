//! A steady stream of user events, from whichever agent runs, while the main thread does something else.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::call;
use crate::cluster::Targets;

/// An event that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) name: String,
    pub(crate) at: Instant,
    /// Number of the agent that sent it.
    pub(crate) node: usize,
}

/// The sending thread.
#[derive(Debug)]
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Sent>>>,
}

impl Stream {
    /// Sends an event each time that `every` has passed, whether or not the one before was quick (open loop).
    pub(crate) fn start(targets: &Targets, every: Duration, bytes: usize) -> Stream {
        let stop = Arc::new(AtomicBool::new(false));
        let (asked, targets) = (Arc::clone(&stop), Arc::clone(targets));
        let thread = std::thread::spawn(move || {
            let (mut sent, begin) = (Vec::new(), Instant::now());
            for number in 0.. {
                let due = begin + every * number;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if asked.load(Ordering::Relaxed) {
                    break;
                }
                // An agent may have ended a moment ago: the next one sends it then, under another name, since the
                // first may have passed it on before it could answer.
                for (node, addr) in turns(&targets, number as usize) {
                    let (name, at) = (format!("tick-{number}-{node}"), Instant::now());
                    if call::event(addr, &name, bytes).is_ok() {
                        sent.push(Sent { name, at, node });
                        break;
                    }
                }
            }
            sent
        });
        Stream { stop, thread: Some(thread) }
    }

    /// Ends it. Returns the events that an agent took.
    pub(crate) fn end(mut self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// All agents that run now, beginning with another one each time.
fn turns(targets: &Targets, number: usize) -> Vec<(usize, SocketAddr)> {
    let targets = targets.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all: Vec<(usize, SocketAddr)> = targets.iter().map(|(node, addr)| (*node, *addr)).collect();
    if !all.is_empty() {
        let first = number % all.len();
        all.rotate_left(first);
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_agents_take_turns() {
        let targets = Targets::default();
        assert!(turns(&targets, 5).is_empty());
        for node in 0..3 {
            targets.lock().unwrap().insert(node, ([127, 0, 0, 1], 7000 + node as u16).into());
        }
        let first = |number| turns(&targets, number)[0].0;
        assert_eq!([first(0), first(1), first(2), first(3)], [0, 1, 2, 0]);
        assert_eq!(turns(&targets, 1).len(), 3);
    }
}
