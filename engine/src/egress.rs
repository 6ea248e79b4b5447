//! Everything a node sends by datagram: queued broadcasts are added to what is sent anyway, then the packet
//! is assembled, sealed and put into the Context's send buffer.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::config::Config;
use crate::context::{Context, Datagram, NodeId};
use crate::delegate::Delegate;
use crate::event::Notice;
use crate::roster::MemberIndex;
use crate::stats::Stats;
use crate::swim::broadcast::{BroadcastId, Class};
use crate::swim::dissemination::Dissemination;
use crate::time::Time;
use crate::timers::{TimerKey, TimerKind};
use crate::view::{SwimState, View};
use crate::wire::keyring::Keyring;
use crate::wire::packet::Envelope;
use crate::wire::{limits, message};

/// How many of the last notices are looked at for one that a further refusal can join.
const NOTICES_JOINED: usize = 4;

/// The sending side of one node.
pub(crate) struct Egress {
    pub(crate) envelope: Envelope,
    pub(crate) dissemination: Dissemination,
    /// What the layer above adds to acks of direct pings.
    pub(crate) ack_payload: Vec<u8>,
    /// The delegate is asked for that instead.
    pub(crate) asks_ack_payload: bool,
    /// The delegate is asked for broadcasts, so gossip rounds never pause.
    pub(crate) asks_broadcasts: bool,
    /// The gossip timer is armed.
    gossiping: bool,
    /// Where this node's gossip rounds lie within the interval, so that nodes don't gossip in step.
    phase: std::time::Duration,
}

/// What one input to a node works with: the lent Context and the node's shared parts.
pub(crate) struct Scope<'a> {
    pub(crate) ctx: &'a mut Context,
    pub(crate) node: NodeId,
    pub(crate) me: MemberIndex,
    pub(crate) config: &'a Config,
    pub(crate) view: &'a mut View,
    pub(crate) egress: &'a mut Egress,
    pub(crate) stats: &'a mut Stats,
    pub(crate) delegate: &'a mut Option<Box<dyn Delegate>>,
}

impl Egress {
    pub(crate) fn new(config: &Config, ctx: &mut Context) -> Egress {
        let keyring = Keyring::new(&config.keys).expect("the config's keys were checked");
        Egress {
            envelope: Envelope {
                label: config.label.clone(),
                keyring,
                compress: config.compression,
                version: 1,
                verify_incoming: config.gossip_verify_incoming,
                verify_outgoing: config.gossip_verify_outgoing,
                skip_inbound_label_check: false,
            },
            dissemination: Dissemination::default(),
            ack_payload: Vec::new(),
            asks_ack_payload: false,
            asks_broadcasts: false,
            gossiping: false,
            phase: ctx.random.duration(config.gossip_interval),
        }
    }

    /// The gossip timer fired and was not armed again.
    pub(crate) fn gossip_paused(&mut self) {
        self.gossiping = false;
    }
}

impl Scope<'_> {
    /// Now.
    pub(crate) fn now(&self) -> Time {
        self.ctx.now
    }

    /// Arms a timer of this node.
    pub(crate) fn schedule(&mut self, at: Time, kind: TimerKind, subject: u32, generation: u32) {
        self.ctx.timers.schedule(at, self.node, TimerKey { kind, subject, generation });
    }

    /// Tells the application's log.
    pub(crate) fn notice(&mut self, notice: Notice) {
        self.ctx.out.notices.push((self.node, notice));
    }

    /// Refuses an input: counted by reason, told to the log.
    pub(crate) fn drop_input(&mut self, reason: crate::wire::DropReason, from: Option<SocketAddr>) {
        self.stats.count_drop(reason);
        let recent = self.ctx.out.notices.iter_mut().rev().take(NOTICES_JOINED);
        for (node, notice) in recent {
            if let Notice::Dropped { reason: told, count, .. } = notice
                && *told == reason
                && *node == self.node
            {
                *count += 1;
                return;
            }
        }
        self.notice(Notice::Dropped { reason, from, count: 1 });
    }

    /// Queues the member's current state for gossip, replacing what is queued about it. `from` is whom the
    /// message names as its source (the accuser; the member itself for alive and for leaving).
    pub(crate) fn broadcast_member(&mut self, member: MemberIndex, from: MemberIndex) {
        let Scope { ctx, view, egress, .. } = self;
        egress.dissemination.queue_member(&mut ctx.roster, view, member, from);
        self.wake_gossip();
    }

    /// Queues a serf message (serf type byte first) for gossip. What a full queue loses is counted.
    pub(crate) fn broadcast(&mut self, class: Class, message: Bytes) -> BroadcastId {
        let max = self.config.queue_depth_max;
        let (id, dropped) = self.egress.dissemination.queue_user(class, message, max);
        (0..dropped).for_each(|_| self.stats.count_drop(crate::wire::DropReason::QueueFull));
        self.wake_gossip();
        id
    }

    /// Sends a serf message (serf type byte first) straight to an address, whatever its size: query answers
    /// and relays. Nothing is piggybacked and no checksum is added (PROTOCOL 2.3, 5.4).
    pub(crate) fn send_user(&mut self, to: SocketAddr, serf_message: &[u8]) {
        self.ctx.assembler.begin(usize::MAX);
        self.ctx.assembler.push(|out| {
            out.push(message::USER);
            out.extend_from_slice(serf_message);
        });
        self.finish_packet(to, false);
    }

    /// Sends one memberlist message with as many queued broadcasts as fit.
    pub(crate) fn send_message(&mut self, to: SocketAddr, encode: impl FnOnce(&mut Vec<u8>)) {
        self.begin_packet();
        self.ctx.assembler.push(encode);
        self.piggyback();
        self.finish_packet(to, false);
    }

    /// Starts a packet within the size budget (PROTOCOL 3).
    pub(crate) fn begin_packet(&mut self) {
        let budget = limits::UDP_PACKET_BYTES_MAX - self.egress.envelope.overhead();
        self.ctx.assembler.begin(budget);
    }

    /// Fills the packet under assembly with queued broadcasts.
    pub(crate) fn piggyback(&mut self) {
        let limit = self.transmit_limit(self.view.table_count());
        let user_limit = self.transmit_limit(self.view.members_count());
        let Scope { ctx, view, egress, .. } = self;
        egress.dissemination.fill(&mut ctx.assembler, &mut ctx.roster, view, limit, user_limit);
        if self.egress.asks_broadcasts {
            self.fill_from_delegate();
        }
    }

    /// Fills the packet under assembly with what the delegate has for the others.
    fn fill_from_delegate(&mut self) {
        while let room = self.ctx.assembler.remaining().saturating_sub(1)
            && room > 0
            && let Some(message) = self.delegate.as_mut().and_then(|delegate| delegate.broadcast(room))
            && self.fits("broadcast", message.len(), room)
        {
            self.ctx.assembler.push(|out| {
                out.push(message::USER);
                out.extend_from_slice(&message);
            });
        }
    }

    /// Whether what a method of the delegate gave is short enough; else the log is told.
    pub(crate) fn fits(&mut self, method: &'static str, bytes: usize, bytes_max: usize) -> bool {
        if bytes > bytes_max {
            self.notice(Notice::DelegateTooLong { method, bytes, bytes_max });
        }
        bytes <= bytes_max
    }

    /// Takes what goes into an ack of a direct ping; its owner puts the buffer back.
    pub(crate) fn take_ack_payload(&mut self) -> Vec<u8> {
        if !self.egress.asks_ack_payload {
            return std::mem::take(&mut self.egress.ack_payload);
        }
        let payload = self.delegate.as_mut().map(|delegate| delegate.ack_payload()).unwrap_or_default();
        let fits = self.fits("ack_payload", payload.len(), limits::ACK_PAYLOAD_BYTES_MAX);
        if fits { payload } else { Vec::new() }
    }

    /// Whether the table has anybody but this node, whatever their state.
    fn others_in_table(&self) -> bool {
        let me = self.view.get(self.me).is_some_and(|known| known.swim != SwimState::Absent);
        self.view.table_count() > usize::from(me)
    }

    /// Ends the packet under assembly and puts it into the send buffer.
    pub(crate) fn finish_packet(&mut self, to: SocketAddr, crc: bool) {
        let nonce = if self.egress.envelope.seals() { self.ctx.nonces.take() } else { [0; 12] };
        let Context { assembler, out, .. } = &mut *self.ctx;
        let range = assembler.finish(&mut out.send_buffer, &self.egress.envelope, crc, nonce);
        self.stats.datagrams_sent += 1;
        self.stats.bytes_sent += range.len() as u64;
        out.datagrams.push(Datagram { node: self.node, to, range });
    }

    /// Transmissions of a broadcast in a cluster of `n`: mult * ceil(log10(n + 1)) (PROTOCOL 9.1).
    /// With mult 4: n = 9 gives 4, n = 10 gives 8, n = 1000 gives 16.
    pub(crate) fn transmit_limit(&self, n: usize) -> u32 {
        self.config.retransmit_mult * ceil_log10(n + 1)
    }

    /// Arms the gossip timer if broadcasts wait, somebody could hear them and it is not armed.
    pub(crate) fn wake_gossip(&mut self) {
        let idle = self.egress.dissemination.is_empty() && !self.egress.asks_broadcasts;
        if self.egress.gossiping || idle || !self.others_in_table() {
            return;
        }
        self.egress.gossiping = true;
        let interval = self.config.gossip_interval.as_nanos() as u64;
        let phase = self.egress.phase.as_nanos() as u64;
        let round = (self.ctx.now.as_nanos() + interval - phase) / interval;
        self.schedule(Time::from_nanos(round * interval + phase), TimerKind::Gossip, 0, 0);
    }
}

/// ceil(log10(n)) without floating point: 0 for 1, 1 for 2 to 10, 2 for 11 to 100.
pub(crate) fn ceil_log10(n: usize) -> u32 {
    n.saturating_sub(1).checked_ilog10().map_or(0, |log| log + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceil_log10_rounds_up() {
        let cases = [(1, 0), (2, 1), (10, 1), (11, 2), (100, 2), (101, 3), (1001, 4)];
        for (n, expected) in cases {
            assert_eq!(ceil_log10(n), expected, "{n}");
        }
    }
}
