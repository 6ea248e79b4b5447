//! The steps of a World: the next arrival or timer, handed to its node, and what the node puts out, handed to
//! the network.

use std::net::SocketAddr;
use std::time::Duration;

use super::World;
use super::fault::{Held, Peer, Stall};
use super::flights::{Flight, Load};
use super::watch::Seen;
use crate::context::{Context, NodeId, StreamId, StreamInput, StreamOperation};
use crate::node::Node;
use crate::time::Time;

/// What happens next.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// A node resumes or stops.
    Stall(NodeId),
    Arrival,
    Timer,
    /// A timer of the node with that skewed clock.
    SkewedTimer(usize),
}

impl World {
    /// Does the next thing that happens up to `end`. False if there is none.
    pub(super) fn step(&mut self, end: Time) -> bool {
        let Some((at, next)) = self.next().filter(|&(at, _)| at <= end) else { return false };
        self.ctx.now = self.ctx.now.max(at);
        match next {
            Next::Stall(id) => self.turn_stall(at, id),
            Next::Arrival => {
                if let Some(flight) = self.flights.arrive() {
                    self.arrive(at, flight);
                }
            }
            Next::Timer => {
                if let Some((id, key)) = self.ctx.timers.pop_due(self.ctx.now) {
                    self.input(id, Held::Timer(key));
                }
            }
            Next::SkewedTimer(place) => {
                let skew = &mut self.skews[place];
                let now = skew.local(self.ctx.now);
                if let Some((id, key)) = skew.timers.pop_due(now) {
                    self.input(id, Held::Timer(key));
                }
            }
        }
        true
    }

    fn next(&self) -> Option<(Time, Next)> {
        let arrival = self.flights.next_arrival().map(|at| (at, Next::Arrival));
        let timer = self.ctx.timers.next_deadline().map(|at| (at, Next::Timer));
        let earliest = match (arrival, timer) {
            (Some(arrival), Some(timer)) => Some(arrival.min(timer)),
            (arrival, timer) => arrival.or(timer),
        };
        if self.skews.is_empty() && self.stalled.is_empty() {
            return earliest;
        }
        let stall = self.stalled.first().map(|&(at, id)| (at, Next::Stall(id)));
        let skewed = self.skews.iter().enumerate();
        let skewed =
            skewed.filter_map(|(place, skew)| Some((skew.next_deadline()?, Next::SkewedTimer(place))));
        earliest.into_iter().chain(stall).chain(skewed).min()
    }

    /// Lends a node its context, with the time of that node.
    pub(super) fn lend<T>(
        &mut self,
        id: NodeId,
        call: impl FnOnce(&mut Node, &mut Context) -> T,
    ) -> Option<T> {
        let node = self.nodes[id.0 as usize].as_mut()?;
        let Some(skew) = self.skews.iter_mut().find(|skew| skew.id == id) else {
            return Some(call(node, &mut self.ctx));
        };
        let now = self.ctx.now;
        self.ctx.now = skew.local(now);
        std::mem::swap(&mut self.ctx.timers, &mut skew.timers);
        let result = call(node, &mut self.ctx);
        std::mem::swap(&mut self.ctx.timers, &mut skew.timers);
        self.ctx.now = now;
        Some(result)
    }

    fn arrive(&mut self, at: Time, flight: Flight) {
        let Flight { to, load } = flight;
        self.trace.mix(at.as_nanos());
        self.trace.mix(u64::from(to.0));
        if let Load::Datagram(_, bytes) | Load::Bytes(_, bytes) = &load {
            self.trace.mix_bytes(bytes);
        }
        if let Load::Datagram(_, bytes) = &load
            && self.nodes[to.0 as usize].is_some()
        {
            self.watchers.iter_mut().for_each(|watcher| watcher.saw(at, to, Seen::Arrived(bytes)));
        }
        self.input(to, Held::Load(load));
    }

    /// An input for a node, at once or, if it is paused, when it resumes.
    fn input(&mut self, id: NodeId, input: Held) {
        match &mut self.stalls[id.0 as usize] {
            Some(stall) if stall.holds(&input) => stall.hold(input),
            _ => self.handle(id, input),
        }
    }

    fn handle(&mut self, id: NodeId, input: Held) {
        self.steps += 1;
        let spent = match input {
            Held::Timer(key) => {
                self.lend(id, |node, ctx| node.handle_timeout(ctx, key));
                None
            }
            Held::Load(load) => self.lend(id, |node, ctx| deliver(node, ctx, load)).flatten(),
        };
        if let Some(buffer) = spent {
            self.flights.give_back(buffer);
        }
        self.drain();
        self.check_after(id);
    }

    pub(super) fn check_after(&mut self, id: NodeId) {
        if let (Some(checker), Some(node)) = (&mut self.checker, &self.nodes[id.0 as usize]) {
            checker.after_input(self.ctx.now, node, &self.ctx.roster);
        }
    }

    pub(super) fn stall(&mut self, id: NodeId, stall: Stall) {
        if self.nodes[id.0 as usize].is_some() {
            self.end_stall(id);
            self.stalled.insert((stall.until, id));
            self.stalls[id.0 as usize] = Some(Box::new(stall));
        }
    }

    /// A phase is over: waiting inputs are handled, or a starved node pauses again.
    fn turn_stall(&mut self, at: Time, id: NodeId) {
        self.stalled.remove(&(at, id));
        let Some(stall) = self.stalls[id.0 as usize].as_mut() else { return };
        let held = stall.turn(at);
        if stall.is_over() {
            self.stalls[id.0 as usize] = None;
        } else {
            self.stalled.insert((stall.until, id));
        }
        held.into_iter().for_each(|input| self.handle(id, input));
    }

    /// Ends a stall early.
    pub(super) fn end_stall(&mut self, id: NodeId) {
        if let Some(mut stall) = self.stalls[id.0 as usize].take() {
            self.stalled.remove(&(stall.until, id));
            stall.release().into_iter().for_each(|input| self.handle(id, input));
        }
    }

    /// Takes what nodes put out.
    pub(super) fn drain(&mut self) {
        if self.ctx.out.is_empty() {
            return;
        }
        let now = self.ctx.now;
        if !self.ctx.out.datagrams.is_empty() {
            self.send_datagrams(now);
        }
        for (node, id, operation) in std::mem::take(&mut self.ctx.out.streams) {
            self.operate(node, id, operation);
        }
        self.ctx.out.keyrings.clear();
        self.drain_news(now);
        for node in std::mem::take(&mut self.ctx.out.ended) {
            self.crash(node);
        }
    }

    fn drain_news(&mut self, now: Time) {
        let out = &mut self.ctx.out;
        if let Some(checker) = &mut self.checker {
            for (node, event) in &out.events {
                checker.after_event(now, *node, event);
            }
            for (node, ticket, completion) in &out.completions {
                checker.after_completion(now, *node, *ticket, completion);
            }
        }
        for watcher in &mut self.watchers {
            for (node, ticket, completion) in &out.completions {
                watcher.saw(now, *node, Seen::Completion(*ticket, completion));
            }
            for (node, event) in &out.events {
                watcher.saw(now, *node, Seen::Event(event));
            }
            for (node, notice) in &out.notices {
                watcher.saw(now, *node, Seen::Notice(notice));
            }
        }
        if self.keep {
            self.completions.append(&mut out.completions);
            self.events.append(&mut out.events);
            self.records.append(&mut out.records);
            self.notices.extend(out.notices.drain(..).map(|(node, notice)| (now, node, notice)));
        } else {
            out.completions.clear();
            out.events.clear();
            out.records.clear();
            out.notices.clear();
        }
    }

    fn send_datagrams(&mut self, now: Time) {
        let datagrams = std::mem::take(&mut self.ctx.out.datagrams);
        let buffer = std::mem::take(&mut self.ctx.out.send_buffer);
        for datagram in &datagrams {
            self.send(now, datagram.node, datagram.to, &buffer[datagram.range.clone()]);
        }
        self.ctx.out.datagrams = datagrams;
        self.ctx.out.send_buffer = buffer;
        self.ctx.out.clear_datagrams();
    }

    fn send(&mut self, now: Time, from: NodeId, to: SocketAddr, bytes: &[u8]) {
        if let (Some(checker), Some(node)) = (&mut self.checker, &self.nodes[from.0 as usize]) {
            checker.after_send(now, node, bytes);
        }
        for watcher in &mut self.watchers {
            watcher.saw(now, from, Seen::Sent(bytes));
        }
        let Some(&target) = self.by_addr.get(&to) else { return };
        let Some(source) = self.address_of(from) else { return };
        let Some(at) = self.links.datagram(now, from, target, bytes.len()) else { return };
        let at = self.after_stall(from, at);
        let copy = self.flights.buffer(bytes);
        self.flights.depart(at, target, Load::Datagram(source, copy));
        if self.links.duplicates() {
            let at = now + self.links.delay();
            let at = self.after_stall(from, at);
            let copy = self.flights.buffer(bytes);
            self.flights.depart(at, target, Load::Datagram(source, copy));
        }
    }

    fn operate(&mut self, node: NodeId, id: StreamId, operation: StreamOperation) {
        match operation {
            StreamOperation::Open(to) => self.connect(node, id, to),
            StreamOperation::Write(bytes) => self.write(node, id, bytes),
            StreamOperation::Close | StreamOperation::Abort => {
                if let Some(peer) = self.peers.remove(&(node, id)) {
                    self.depart_in_order(node, peer, 0, Load::Finished(peer.id));
                }
            }
        }
    }

    fn write(&mut self, node: NodeId, id: StreamId, mut bytes: Vec<u8>) {
        let Some(&peer) = self.peers.get(&(node, id)) else { return };
        for watcher in &mut self.watchers {
            watcher.saw(self.ctx.now, node, Seen::Streamed(&bytes));
        }
        let sent = bytes.len();
        let Some(arrives) = self.links.cut(sent) else {
            return self.depart_in_order(node, peer, sent, Load::Bytes(peer.id, bytes));
        };
        bytes.truncate(arrives);
        self.depart_in_order(node, peer, arrives, Load::Bytes(peer.id, bytes));
        if let Some(&peer) = self.peers.get(&(node, id)) {
            self.depart_in_order(node, peer, 0, Load::Failed(peer.id, RESET));
        }
        self.peers.remove(&(node, id));
        self.peers.remove(&(peer.node, peer.id));
        let at = self.ctx.now + self.links.delay() * 2;
        self.flights.depart(at, node, Load::Failed(id, RESET));
    }

    fn connect(&mut self, node: NodeId, id: StreamId, to: SocketAddr) {
        let now = self.ctx.now;
        let round_trip = self.links.delay() * 2;
        let target = self.by_addr.get(&to).copied();
        let target = target.filter(|&target| self.nodes[target.0 as usize].is_some());
        let (Some(target), Some(source)) = (target, self.address_of(node)) else {
            return self.flights.depart(now + round_trip, node, Load::Failed(id, "connection refused"));
        };
        if self.links.stream(now, node, target, 0).is_none() {
            // No answer, not even a refusal: the node's deadline ends it.
            return;
        }
        let accepted = StreamId::accepted(self.accepted);
        self.accepted += 1;
        self.peers.insert((node, id), Peer { node: target, id: accepted, busy_until: now });
        self.peers.insert((target, accepted), Peer { node, id, busy_until: now });
        let peer = Peer { node: target, id: accepted, busy_until: now };
        self.depart_in_order(node, peer, 0, Load::Accepted(accepted, source));
        self.flights.depart(now + round_trip, node, Load::Opened(id));
    }

    /// Sends a load over a stream: it arrives after what was sent before, or never.
    fn depart_in_order(&mut self, from: NodeId, to: Peer, bytes: usize, load: Load) {
        let now = self.ctx.now;
        let Some(at) = self.links.stream(now, from, to.node, bytes) else { return };
        let at = self.after_stall(from, at).max(to.busy_until + Duration::from_nanos(1));
        // The far end knows under which id this end writes to it.
        if let Some(back) = self.peers.get(&(to.node, to.id)).map(|back| (back.node, back.id))
            && let Some(peer) = self.peers.get_mut(&back)
        {
            peer.busy_until = at;
        }
        self.flights.depart(at, to.node, load);
    }

    /// When what would arrive at `at` arrives if the sender's messages wait now.
    fn after_stall(&self, from: NodeId, at: Time) -> Time {
        let sends_at = self.stalls[from.0 as usize].as_ref().and_then(|stall| stall.sends_at());
        sends_at.map_or(at, |sends| sends + at.since(self.ctx.now))
    }

    fn address_of(&self, id: NodeId) -> Option<SocketAddr> {
        self.node(id).map(|node| node.config().advertise)
    }
}

const RESET: &str = "connection reset by peer";

/// Hands a node what arrived. Returns a datagram's buffer.
fn deliver(node: &mut Node, ctx: &mut Context, load: Load) -> Option<Vec<u8>> {
    match load {
        Load::Datagram(from, mut bytes) => {
            node.handle_datagram(ctx, from, &mut bytes);
            return Some(bytes);
        }
        Load::Accepted(id, from) => node.handle_stream(ctx, id, StreamInput::Accepted(from)),
        Load::Opened(id) => node.handle_stream(ctx, id, StreamInput::Opened),
        Load::Bytes(id, bytes) => node.handle_stream(ctx, id, StreamInput::Bytes(bytes.into())),
        Load::Finished(id) => node.handle_stream(ctx, id, StreamInput::Finished),
        Load::Failed(id, reason) => node.handle_stream(ctx, id, StreamInput::Failed(reason)),
    }
    None
}
