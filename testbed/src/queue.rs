//! Delay and jitter between containers, where the kernel has no netem: packets wait in a queue of the packet filter
//! for a time drawn for each, so that they also overtake each other. If this program ends, packets pass at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nfq::{Message, Queue, Verdict};

use crate::failure::Failure;
use crate::leftovers::{remove_queue_rules, table};
use crate::program::Program;

/// Packets that wait at once; further ones are lost, as in a real queue.
const WAITING_MAX: u32 = 65_536;
/// Longest sleep while nothing waits.
const IDLE: Duration = Duration::from_millis(1);

/// A thread that delays packets, and the rules that send them to it.
#[derive(Debug)]
pub(crate) struct DelayQueue {
    id: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DelayQueue {
    /// Delays what is forwarded within `subnet`, each packet for a time between the two, drawn evenly.
    ///
    /// # Errors
    /// The kernel has no queues, or the rule is refused; packets pass as before.
    pub(crate) fn start(
        id: &str,
        subnet: &str,
        shortest: Duration,
        longest: Duration,
    ) -> Result<DelayQueue, Failure> {
        let number = u16::from_str_radix(&id[id.len().saturating_sub(4)..], 16).unwrap_or(1);
        let fail = |error: std::io::Error| Failure::new(format!("delay needs the kernel's NFQUEUE: {error}"));
        let mut queue = Queue::open().map_err(fail)?;
        queue.bind(number).map_err(fail)?;
        queue.set_queue_max_len(number, WAITING_MAX).map_err(fail)?;
        queue.set_nonblocking(true);
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || delay(&mut queue, &asked, shortest, longest));
        let delaying = DelayQueue { id: id.to_owned(), stop, thread: Some(thread) };
        let arguments = rule(id, subnet, number);
        Program::new("iptables").args(&arguments).run().map_err(|failure| {
            Failure::new(format!(
                "delay needs Docker's chain DOCKER-USER and bridged packets in it: {failure}"
            ))
        })?;
        Ok(delaying)
    }

    /// Packets pass at once again.
    ///
    /// # Errors
    /// The thread failed.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Failure> {
        remove_queue_rules(&self.id);
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if ended.is_some_and(|ended| ended.is_err()) {
            Err(Failure::new("the delay's thread failed"))
        } else {
            Ok(())
        }
    }
}

impl Drop for DelayQueue {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Arguments of `iptables`: packets from and to the subnet wait in that queue while this program holds it open.
fn rule(id: &str, subnet: &str, number: u16) -> Vec<String> {
    let (comment, number) = (table(id), number.to_string());
    let words =
        ["-w", "-I", "DOCKER-USER", "-s", subnet, "-d", subnet, "-m", "comment", "--comment", &comment];
    let target = ["-j", "NFQUEUE", "--queue-num", &number, "--queue-bypass"];
    words.into_iter().chain(target).map(str::to_owned).collect()
}

fn delay(queue: &mut Queue, stop: &AtomicBool, shortest: Duration, longest: Duration) {
    let mut waiting: BTreeMap<(Instant, u64), Message> = BTreeMap::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut idle = true;
        while let Ok(message) = queue.recv() {
            let share = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
            number += 1;
            waiting
                .insert((Instant::now() + shortest + (longest - shortest).mul_f64(share), number), message);
            idle = false;
        }
        let now = Instant::now();
        while let Some(entry) = waiting.first_entry().filter(|entry| entry.key().0 <= now) {
            pass(queue, entry.remove());
            idle = false;
        }
        if idle {
            let next = waiting.first_key_value().map_or(IDLE, |((then, _), _)| *then - now);
            std::thread::sleep(next.min(IDLE));
        }
    }
    waiting.into_values().for_each(|message| pass(queue, message));
}

fn pass(queue: &mut Queue, mut message: Message) {
    message.set_verdict(Verdict::Accept);
    // A verdict that the kernel refuses is about a packet that it has given up.
    let _ = queue.verdict(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_wait_only_while_somebody_lets_them_go() {
        let line = rule("0a", "10.201.4.0/22", 7).join(" ");
        assert_eq!(
            line,
            "-w -I DOCKER-USER -s 10.201.4.0/22 -d 10.201.4.0/22 -m comment --comment thane_testbed_0a \
             -j NFQUEUE --queue-num 7 --queue-bypass"
        );
    }
}
