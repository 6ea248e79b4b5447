//! What one input to a node works with.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::config::Config;
use crate::context::{Context, NodeId};
use crate::deferred::Deferred;
use crate::delegate::Delegate;
use crate::dissemination::{BroadcastId, Class, Dissemination, Source};
use crate::drop_reason::DropReason;
use crate::event::Notice;
use crate::reconcile::compared::Compared;
use crate::roster::MemberIndex;
use crate::sending::Sending;
use crate::stats::Stats;
use crate::time::Time;
use crate::timers::{TimerKey, TimerKind};
use crate::view::{SwimState, View};
use crate::wire::envelope::Envelope;
use crate::wire::packet::Assembler;
use crate::wire::{Extension, limits, message};

/// How many of the last notices [`Scope::drop_input`] searches for one that a further refusal can join.
const NOTICES_SEARCHED: usize = 4;

/// What one input to a node works with: the lent Context and the parts of the node that all its layers share.
pub(crate) struct Scope<'a> {
    pub(crate) ctx: &'a mut Context,
    pub(crate) node: NodeId,
    pub(crate) me: MemberIndex,
    pub(crate) config: &'a Config,
    pub(crate) view: &'a mut View,
    pub(crate) envelope: &'a mut Envelope,
    pub(crate) dissemination: &'a mut Dissemination,
    /// What the serf layer adds to acks of direct pings: this node's coordinate.
    pub(crate) ack_payload: &'a mut Vec<u8>,
    /// What this node is compared by, if it speaks the extensions.
    pub(crate) compared: &'a Compared,
    pub(crate) stats: &'a mut Stats,
    pub(crate) delegate: &'a mut Option<Box<dyn Delegate>>,
    #[cfg(feature = "sim")]
    pub(crate) canary: crate::canary::Canary,
}

/// Whether the node of a scope breaks a rule on purpose. Never, but in simulations.
macro_rules! breaks {
    ($scope:expr, $canary:ident) => {{
        #[cfg(feature = "sim")]
        let breaks = $scope.canary == $crate::canary::Canary::$canary;
        #[cfg(not(feature = "sim"))]
        let breaks = false;
        breaks
    }};
}
pub(crate) use breaks;

impl Scope<'_> {
    /// The time of this input.
    pub(crate) fn now(&self) -> Time {
        self.ctx.now
    }

    /// Arms a timer of this node.
    pub(crate) fn schedule(&mut self, at: Time, kind: TimerKind, subject: u32, generation: u32) {
        self.ctx.timers.schedule(at, self.node, TimerKey { kind, subject, generation });
    }

    /// Leaves something to do after the input.
    #[inline]
    pub(crate) fn defer(&mut self, deferred: Deferred) {
        self.ctx.deferred.push_back(deferred);
    }

    /// Reports something to the log.
    pub(crate) fn notice(&mut self, notice: Notice) {
        self.ctx.out.notices.push((self.node, notice));
    }

    /// Whether the view has a member of that name at that address, gone or not.
    pub(crate) fn is_member_at(&self, name: &str, addr: SocketAddr) -> bool {
        let known = self.view.by_name(&self.ctx.roster, name);
        known.is_some_and(|(_, known)| self.ctx.roster.fact(known.fact).socket_addr() == addr)
    }

    /// Refuses an input: counts it by reason and reports it to the log.
    pub(crate) fn drop_input(&mut self, reason: impl Into<DropReason>, from: Option<SocketAddr>) {
        self.note_drop(reason.into(), from, false);
    }

    /// The same for what came over a stream.
    pub(crate) fn drop_stream(&mut self, reason: impl Into<DropReason>, from: SocketAddr) {
        self.note_drop(reason.into(), Some(from), true);
    }

    fn note_drop(&mut self, reason: DropReason, from: Option<SocketAddr>, stream: bool) {
        self.stats.count_drop(reason);
        let recent = self.ctx.out.notices.iter_mut().rev().take(NOTICES_SEARCHED);
        for (node, notice) in recent {
            if let Notice::Dropped { reason: reported, count, .. } = notice
                && *reported == reason
                && *node == self.node
            {
                *count += 1;
                return;
            }
        }
        self.notice(Notice::Dropped { reason, from, count: 1, stream });
    }

    /// What pings and acks carry for other Thane nodes.
    pub(crate) fn extension(&self) -> Option<Extension> {
        self.config.extensions.then(|| self.compared.at(self.ctx.now))
    }

    /// Whether a member other than this node is alive.
    pub(crate) fn others_alive(&self) -> bool {
        let me_alive = self.view.get(self.me).is_some_and(|known| known.swim == SwimState::Alive);
        self.view.swim_count(SwimState::Alive) > usize::from(me_alive)
    }

    /// Disseminates the member's current state. `from` is the member that the message names as its source (the
    /// accuser; the member itself for alive and for leaving).
    pub(crate) fn broadcast_member(&mut self, member: MemberIndex, from: MemberIndex, source: Source) {
        self.stats.broadcasts_new += 1;
        self.dissemination.on_member(self.ctx, self.view, member, from, source);
    }

    /// Disseminates a serf message (serf type byte first). Counts what a full queue loses.
    pub(crate) fn broadcast(&mut self, class: Class, message: Bytes, source: Source) -> BroadcastId {
        self.stats.broadcasts_new += 1;
        let max = if breaks!(self, IgnoresQueueLimits) { usize::MAX } else { self.config.queue_depth_max };
        let (id, dropped) = self.dissemination.on_message(self.ctx, class, message, max, source);
        (0..dropped).for_each(|_| self.stats.count_drop(DropReason::QueueFull));
        id
    }

    /// The longest serf message (serf type byte first) that gossip carries: memberlist's type byte goes before it.
    pub(crate) fn gossip_bytes_max(&self) -> usize {
        let budget = limits::UDP_PACKET_BYTES_MAX - self.envelope.overhead();
        Assembler::message_bytes_max(budget).saturating_sub(1)
    }

    /// A datagram repeats the state of a member that this node has seen before.
    #[inline]
    pub(crate) fn member_repeated(&mut self, member: MemberIndex) {
        self.stats.broadcasts_repeated += 1;
        self.dissemination.on_repeated_member(self.ctx, member);
    }

    /// A datagram repeats a serf message (serf type byte first) that this node has seen before.
    #[inline]
    pub(crate) fn message_repeated(&mut self, message: &[u8]) {
        self.stats.broadcasts_repeated += 1;
        self.dissemination.on_repeated_message(self.ctx, message);
    }

    /// An input is over: broadcasts that must not wait are sent, and the timer for the rest is armed.
    pub(crate) fn settle_broadcasts(&mut self) {
        let (dissemination, mut sending) = self.split();
        dissemination.settle(&mut sending);
    }

    /// The timer of the dissemination is due.
    pub(crate) fn on_gossip_timer(&mut self, key: TimerKey) {
        let (dissemination, mut sending) = self.split();
        dissemination.on_timer(&mut sending, key);
    }

    /// Sends queued broadcasts at once, without waiting for the timer.
    pub(crate) fn gossip_now(&mut self) {
        let (dissemination, mut sending) = self.split();
        dissemination.send_now(&mut sending);
    }

    /// Sends a serf message (serf type byte first) straight to an address, whatever its size: query answers
    /// and relays. Nothing is piggybacked and no checksum is added (PROTOCOL 2.3, 5.4).
    pub(crate) fn send_user(&mut self, to: SocketAddr, serf_message: &[u8]) {
        self.ctx.assembler.begin(usize::MAX);
        self.ctx.assembler.push(|out| {
            out.push(message::USER);
            out.extend_from_slice(serf_message);
        });
        self.sending().finish_packet(to, false);
    }

    /// Sends one memberlist message with as many queued broadcasts as fit.
    pub(crate) fn send_message(&mut self, to: SocketAddr, encode: impl FnOnce(&mut Vec<u8>)) {
        let overfills = breaks!(self, OverfillsDatagrams);
        let (dissemination, mut sending) = self.split();
        sending.begin_packet();
        sending.ctx.assembler.push(encode);
        dissemination.piggyback(&mut sending);
        if overfills {
            sending
                .ctx
                .assembler
                .push(|out| out.resize(out.len() + limits::UDP_PACKET_BYTES_MAX, message::USER));
        }
        sending.finish_packet(to, false);
    }

    /// Sends one memberlist message and nothing with it: to an address that gossip does not go to.
    pub(crate) fn send_bare(&mut self, to: SocketAddr, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut sending = self.sending();
        sending.begin_packet();
        sending.ctx.assembler.push(encode);
        sending.finish_packet(to, false);
    }

    /// Sends a step of a reconciliation (type byte first) to a member of the view, alone in its datagram.
    pub(crate) fn send_reconcile(&mut self, member: MemberIndex, step: &[u8]) {
        self.ctx.assembler.begin(usize::MAX);
        self.ctx.assembler.push(|out| out.extend_from_slice(step));
        self.sending().finish_packet_to_member(member);
    }

    /// The parts of the node that sending works with.
    pub(crate) fn sending(&mut self) -> Sending<'_> {
        self.split().1
    }

    /// Whether what a method of the delegate returned has at most `bytes_max` bytes; reports a longer one to
    /// the log.
    pub(crate) fn fits(&mut self, method: &'static str, bytes: usize, bytes_max: usize) -> bool {
        self.sending().fits(method, bytes, bytes_max)
    }

    /// Takes the payload of an ack of a direct ping; [`return_ack_payload`](Self::return_ack_payload) takes
    /// it back.
    pub(crate) fn take_ack_payload(&mut self) -> Vec<u8> {
        let coordinates = self.config.serf && self.config.coordinates;
        let Some(delegate) = self.delegate.as_mut().filter(|_| !coordinates) else {
            return std::mem::take(self.ack_payload);
        };
        let payload = delegate.ack_payload();
        let fits = self.fits("ack_payload", payload.len(), limits::ACK_PAYLOAD_BYTES_MAX);
        if fits { payload } else { Vec::new() }
    }

    fn split(&mut self) -> (&mut Dissemination, Sending<'_>) {
        let sending = Sending {
            ctx: self.ctx,
            node: self.node,
            me: self.me,
            config: self.config,
            view: self.view,
            envelope: self.envelope,
            stats: self.stats,
            delegate: self.delegate,
        };
        (self.dissemination, sending)
    }
}
