//! Faults of a node: it is paused, is starved of CPU, or its clock runs at another rate.

use std::collections::VecDeque;
use std::time::Duration;

use crate::context::{NodeId, StreamId};
use crate::sim::flights::Load;
use crate::time::Time;
use crate::timers::{TimerKey, Timers};

/// Inputs that wait for a paused node; a socket's buffer is finite too. Datagrams beyond it are
/// lost.
const HELD_DATAGRAMS_MAX: usize = 4096;

/// A node that gets its inputs late.
#[derive(Debug)]
pub(super) struct Stall {
    /// Whether it is paused now; a starved node also runs from time to time.
    pub(super) still: bool,
    /// When that changes.
    pub(super) until: Time,
    /// Timers run; only what comes in and goes out waits.
    pub(super) messages_only: bool,
    /// Starved of CPU: paused for the first span, runs for the second, and so on.
    cycle: Option<(Duration, Duration)>,
    held: VecDeque<Held>,
    datagrams: usize,
}

/// An input that waits.
#[derive(Debug)]
pub(super) enum Held {
    Load(Load),
    Timer(TimerKey),
}

impl Stall {
    pub(super) fn new(until: Time, cycle: Option<(Duration, Duration)>) -> Stall {
        Stall { still: true, until, messages_only: false, cycle, held: VecDeque::new(), datagrams: 0 }
    }

    /// The phase ends at `at`. Returns what is to be handled now.
    pub(super) fn turn(&mut self, at: Time) -> VecDeque<Held> {
        self.still = !self.still;
        if let Some((still, runs)) = self.cycle {
            self.until = at + if self.still { still } else { runs };
        }
        self.release()
    }

    /// Whether the node runs for good.
    pub(super) fn is_over(&self) -> bool {
        !self.still && self.cycle.is_none()
    }

    /// Whether that input waits.
    pub(super) fn holds(&self, input: &Held) -> bool {
        self.still && !(self.messages_only && matches!(input, Held::Timer(_)))
    }

    /// Until when what the node sends waits, if it does.
    pub(super) fn sends_at(&self) -> Option<Time> {
        (self.still && self.messages_only).then_some(self.until)
    }

    /// Keeps an input for later.
    pub(super) fn hold(&mut self, input: Held) {
        if matches!(input, Held::Load(Load::Datagram(..))) {
            if self.datagrams >= HELD_DATAGRAMS_MAX {
                return;
            }
            self.datagrams += 1;
        }
        self.held.push_back(input);
    }

    /// Everything kept, in the order it came.
    pub(super) fn release(&mut self) -> VecDeque<Held> {
        self.datagrams = 0;
        std::mem::take(&mut self.held)
    }
}

/// A clock that does not run at the world's rate. The node has a separate timer wheel, in its time.
#[derive(Debug)]
pub(super) struct Skew {
    pub(super) id: NodeId,
    /// Seconds of the node for one second of the world.
    rate: f64,
    /// When the rate was set: until then both clocks agreed.
    since: Time,
    pub(super) timers: Timers,
}

impl Skew {
    pub(super) fn new(id: NodeId, rate: f64, since: Time) -> Skew {
        Skew { id, rate, since, timers: Timers::default() }
    }

    /// The node's time at a time of the world.
    pub(super) fn local(&self, now: Time) -> Time {
        self.since + now.since(self.since).mul_f64(self.rate)
    }

    /// When the node's next timer is due, in the world's time: the first nanosecond at which the node's
    /// clock has got there.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let local = self.timers.next_deadline()?;
        let mut at = self.since + local.since(self.since).div_f64(self.rate);
        while self.local(at) < local {
            at = at + Duration::from_nanos(1);
        }
        Some(at)
    }
}

/// The far end of a stream, seen from one end.
#[derive(Copy, Clone, Debug)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) id: StreamId,
    /// When the last bytes towards the far end arrive: streams keep their order.
    pub(super) busy_until: Time,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timers::{TICK, TimerKind};

    #[test]
    fn inputs_come_out_in_order_and_datagrams_are_bounded() {
        let mut stall = Stall::new(Time::ZERO, None);
        let from = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        for n in 0..HELD_DATAGRAMS_MAX + 10 {
            stall.hold(Held::Load(Load::Datagram(from, vec![n as u8])));
        }
        let key = TimerKey { kind: TimerKind::Probe, subject: 0, generation: 0 };
        stall.hold(Held::Timer(key));
        let held = stall.release();
        assert_eq!(held.len(), HELD_DATAGRAMS_MAX + 1);
        assert!(matches!(held.back(), Some(Held::Timer(_))));
        assert!(stall.release().is_empty());
    }

    #[test]
    fn a_skewed_deadline_is_reached_when_it_is_due() {
        let key = TimerKey { kind: TimerKind::Probe, subject: 0, generation: 0 };
        for rate in [0.5, 0.9, 1.0, 1.1, 3.0] {
            let mut skew = Skew::new(NodeId(0), rate, Time::from_nanos(1_000_000));
            skew.timers.schedule(Time::from_nanos(7_000_000), NodeId(0), key);
            let at = skew.next_deadline().expect("one is scheduled");
            assert!(skew.local(at) >= Time::from_nanos(7_000_000), "{rate}");
            assert!(skew.local(at) <= Time::from_nanos(7_000_000) + TICK, "{rate}");
        }
    }
}
