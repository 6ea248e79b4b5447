//! What a run measures: when members learn of changes, the traffic, and false positives.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::delays::Delays;
use super::watch::{Seen, Watcher};
use crate::command::Ticket;
use crate::context::NodeId;
use crate::event::{Completion, Event, MemberEventKind, Notice};
use crate::time::Time;
use crate::wire::message;
use crate::wire::packet::encode_compress;

/// Packets and bytes of one kind.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams, or writes to streams.
    pub packets: u64,
    /// Their bytes, without IP and UDP headers.
    pub bytes: u64,
}

/// Members that went, by crash or by leave.
#[derive(Clone, Debug, Default)]
pub struct Departures {
    /// How many.
    pub count: u64,
    /// From each departure to the first member's suspicion.
    pub first_suspected: Delays,
    /// From each departure to the first declaration.
    pub first_declared: Delays,
    /// From each departure to the event at each member.
    pub told: Delays,
}

/// Everything measured.
#[derive(Debug, Default)]
pub struct Measures {
    /// From each user event to each delivery, all events together.
    pub events: Delays,
    /// User events sent.
    pub events_sent: u64,
    /// Datagrams that brought a user event, whether new or not; counted while at most one event is under way.
    pub event_copies: u64,
    /// Crashes.
    pub crashes: Departures,
    /// Graceful leaves.
    pub leaves: Departures,
    /// From each node's start to the join event at each other node.
    pub joins: Delays,
    /// Query acks and answers that arrived.
    pub query_answers: Delays,
    /// Queries asked, and those that ended.
    pub queries: (u64, u64),
    /// Events that report a running member as failed: members without a fault.
    pub false_about_healthy: u64,
    /// Of these: at members that nothing is wrong with.
    pub false_at_healthy: u64,
    /// Events that report a running member as failed: members with a fault.
    pub false_about_sick: u64,
    /// Datagrams sent, by the kind of their first message.
    pub datagrams: BTreeMap<&'static str, Traffic>,
    /// Writes to streams.
    pub streams: Traffic,
    /// Of these: which were also compressed in order to see how small they become.
    pub sampled: Traffic,
    /// Bytes of `sampled` as compress messages.
    pub sampled_compressed_bytes: u64,
    /// One of so many is; 0: none.
    pub(super) sample_every: u64,
    /// Longest queue seen: intents, queries, events.
    pub queue_depths: [usize; 3],
    /// The number of each node's name: restarted nodes have one name and several ids.
    numbers: Vec<u32>,
    event_times: BTreeMap<Vec<u8>, Time>,
    gone: BTreeMap<u32, Departure>,
    started: BTreeMap<u32, Time>,
    pub(super) sick: BTreeSet<u32>,
    pub(super) asked: BTreeMap<(NodeId, Ticket), Time>,
    pub(super) failed_joins: Vec<NodeId>,
}

#[derive(Debug)]
struct Departure {
    at: Time,
    graceful: bool,
    suspected: bool,
    declared: bool,
}

/// The measures of an unfinished run.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(pub(super) Rc<RefCell<Measures>>);

impl Watcher for Meter {
    fn saw(&mut self, at: Time, node: NodeId, what: Seen<'_>) {
        let measures = &mut *self.0.borrow_mut();
        match what {
            Seen::Event(event) => measures.on_event(at, node, event),
            Seen::Notice(notice) => measures.on_notice(at, notice),
            Seen::Completion(ticket, completion) => measures.on_completion(at, node, ticket, completion),
            Seen::Sent(bytes) => {
                let traffic = measures.datagrams.entry(kind(bytes)).or_default();
                traffic.packets += 1;
                traffic.bytes += bytes.len() as u64;
            }
            Seen::Arrived(bytes) => {
                if measures.events_sent > 0 && carries_event(bytes) {
                    measures.event_copies += 1;
                }
            }
            Seen::Streamed(bytes) => {
                if measures.sample_every > 0 && measures.streams.packets.is_multiple_of(measures.sample_every)
                {
                    measures.sample(bytes);
                }
                measures.streams.packets += 1;
                measures.streams.bytes += bytes.len() as u64;
            }
        }
    }
}

impl Measures {
    /// A node started; `number` is that of its name. `settled`: the others know it already.
    pub(super) fn started(&mut self, id: NodeId, number: u32, at: Time, settled: bool) {
        self.numbers.resize(id.0 as usize + 1, 0);
        self.numbers[id.0 as usize] = number;
        self.gone.remove(&number);
        if !settled {
            self.started.insert(number, at);
        }
    }

    /// A node is gone from now on.
    pub(super) fn departed(&mut self, number: u32, at: Time, graceful: bool) {
        self.gone.insert(number, Departure { at, graceful, suspected: false, declared: false });
        let departures = if graceful { &mut self.leaves } else { &mut self.crashes };
        departures.count += 1;
    }

    /// A user event is sent.
    pub(super) fn event_sent(&mut self, payload: &[u8], at: Time) {
        self.events_sent += 1;
        self.event_times.insert(payload.to_vec(), at);
    }

    /// Bytes of all writes to streams if they were compressed: estimated from those that were sampled.
    pub fn streams_compressed_bytes(&self) -> Option<f64> {
        let share = self.sampled_compressed_bytes as f64 / self.sampled.bytes as f64;
        (self.sampled.bytes > 0).then_some(share * self.streams.bytes as f64)
    }

    fn sample(&mut self, bytes: &[u8]) {
        let mut compressed = Vec::new();
        encode_compress(bytes, &mut compressed);
        self.sampled.packets += 1;
        self.sampled.bytes += bytes.len() as u64;
        self.sampled_compressed_bytes += compressed.len() as u64;
    }

    /// The number in a node's name.
    pub(super) fn number(&self, id: NodeId) -> u32 {
        self.numbers[id.0 as usize]
    }

    fn on_event(&mut self, at: Time, node: NodeId, event: &Event) {
        match event {
            Event::User { payload, .. } => {
                if let Some(&sent) = self.event_times.get(&payload[..]) {
                    self.events.add(at.since(sent));
                }
            }
            Event::Member { kind, members } => {
                for number in members.iter().filter_map(|member| number_of(member.name)) {
                    self.on_member(at, node, *kind, number);
                }
            }
            Event::Query { .. } => {}
        }
    }

    fn on_member(&mut self, at: Time, node: NodeId, kind: MemberEventKind, number: u32) {
        match (kind, self.gone.get(&number)) {
            (MemberEventKind::Failed | MemberEventKind::Leave, Some(departure)) => {
                let delay = at.since(departure.at);
                let departures = if departure.graceful { &mut self.leaves } else { &mut self.crashes };
                departures.told.add(delay);
            }
            (MemberEventKind::Failed, None) if self.sick.contains(&number) => self.false_about_sick += 1,
            (MemberEventKind::Failed, None) => {
                self.false_about_healthy += 1;
                let observer = self.numbers.get(node.0 as usize).copied().unwrap_or_default();
                self.false_at_healthy += u64::from(!self.sick.contains(&observer));
            }
            (MemberEventKind::Join, None) => {
                if let Some(&started) = self.started.get(&number) {
                    self.joins.add(at.since(started));
                }
            }
            _ => {}
        }
    }

    fn on_notice(&mut self, at: Time, notice: &Notice) {
        let (name, declared) = match notice {
            Notice::SuspectNoAck { name } => (name, false),
            Notice::MarkingFailed { name, .. } => (name, true),
            _ => return,
        };
        let Some(departure) = number_of(name).and_then(|number| self.gone.get_mut(&number)) else { return };
        let departures = if departure.graceful { &mut self.leaves } else { &mut self.crashes };
        let (seen, delays) = if declared {
            (&mut departure.declared, &mut departures.first_declared)
        } else {
            (&mut departure.suspected, &mut departures.first_suspected)
        };
        if !std::mem::replace(seen, true) {
            delays.add(at.since(departure.at));
        }
    }

    fn on_completion(&mut self, at: Time, node: NodeId, ticket: Ticket, completion: &Completion) {
        match completion {
            Completion::Joined { contacted: 0, .. } => self.failed_joins.push(node),
            Completion::QueryAck { .. } | Completion::QueryResponse { .. } => {
                if let Some(&asked) = self.asked.get(&(node, ticket)) {
                    self.query_answers.add(at.since(asked));
                }
            }
            Completion::QueryDone => {
                self.queries.1 += u64::from(self.asked.remove(&(node, ticket)).is_some());
            }
            _ => {}
        }
    }
}

/// The number in the name of one of a World's nodes.
fn number_of(name: &str) -> Option<u32> {
    name.strip_prefix('n')?.parse().ok()
}

/// The first message of a datagram, without checksum and compound.
fn inner(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    if rest.first() == Some(&message::HAS_CRC) {
        rest = rest.get(5..).unwrap_or_default();
    }
    if let [message::COMPOUND, count, ..] = rest {
        rest = rest.get(2 + 2 * usize::from(*count)..).unwrap_or_default();
    }
    rest
}

/// What a datagram is for, by its first message. A sealed or compressed one does not say.
fn kind(bytes: &[u8]) -> &'static str {
    match inner(bytes).first().copied() {
        Some(message::PING) => "ping",
        Some(message::INDIRECT_PING) => "indirect-ping",
        Some(message::ACK) => "ack",
        Some(message::NACK) => "nack",
        Some(message::SUSPECT) => "suspect",
        Some(message::ALIVE) => "alive",
        Some(message::DEAD) => "dead",
        Some(message::USER) => "user",
        Some(message::RECONCILE) => "reconcile",
        _ => "other",
    }
}

/// Whether one of a datagram's messages is a user event. Sealed and compressed ones are not opened.
fn carries_event(bytes: &[u8]) -> bool {
    const USER_EVENT: [u8; 2] = [message::USER, crate::wire::serf::USER_EVENT];
    let mut rest = bytes;
    if rest.first() == Some(&message::HAS_CRC) {
        rest = rest.get(5..).unwrap_or_default();
    }
    let [message::COMPOUND, count, parts @ ..] = rest else { return rest.starts_with(&USER_EVENT) };
    let (lengths, mut messages) = parts.split_at(parts.len().min(2 * usize::from(*count)));
    lengths.chunks_exact(2).any(|length| {
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let (part, after) = messages.split_at(messages.len().min(length));
        messages = after;
        part.starts_with(&USER_EVENT)
    })
}
