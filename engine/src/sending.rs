//! How a datagram leaves a node: assembled, sealed and put into the Context's send buffer.

use std::net::SocketAddr;

use crate::config::Config;
use crate::context::{Context, Datagram, NodeId};
use crate::delegate::Delegate;
use crate::event::Notice;
use crate::roster::MemberIndex;
use crate::stats::Stats;
use crate::time::Time;
use crate::timers::{TimerKey, TimerKind};
use crate::view::View;
use crate::wire::envelope::Envelope;
use crate::wire::limits;

/// Members of memberlist protocol 5 and newer understand the checksum (PROTOCOL 2.3).
const CRC_PROTOCOL_MIN: u8 = 5;

/// What the sending of datagrams works with: the lent Context and those parts of the node that it reads.
pub(crate) struct Sending<'a> {
    pub(crate) ctx: &'a mut Context,
    pub(crate) node: NodeId,
    pub(crate) me: MemberIndex,
    pub(crate) config: &'a Config,
    pub(crate) view: &'a View,
    pub(crate) envelope: &'a Envelope,
    pub(crate) stats: &'a mut Stats,
    pub(crate) delegate: &'a mut Option<Box<dyn Delegate>>,
}

impl Sending<'_> {
    /// Starts a packet within the size budget (PROTOCOL 3).
    pub(crate) fn begin_packet(&mut self) {
        let budget = limits::UDP_PACKET_BYTES_MAX - self.envelope.overhead();
        self.ctx.assembler.begin(budget);
    }

    /// Ends the packet under assembly, with a checksum if `crc`, and puts it into the send buffer.
    pub(crate) fn finish_packet(&mut self, to: SocketAddr, crc: bool) {
        let nonce = if self.envelope.seals() { self.ctx.nonces.take() } else { [0; 12] };
        let Context { assembler, out, .. } = &mut *self.ctx;
        let range = assembler.finish(&mut out.send_buffer, self.envelope, crc, nonce);
        self.stats.datagrams_sent += 1;
        self.stats.bytes_sent += range.len() as u64;
        out.datagrams.push(Datagram { node: self.node, to, range });
    }

    /// Ends the packet under assembly, with a checksum if the member understands it. The member must be in
    /// the view.
    pub(crate) fn finish_packet_to_member(&mut self, member: MemberIndex) {
        let fact =
            self.view.fact(&self.ctx.roster, member).expect("the caller picked the member from the view");
        let (to, crc) = (fact.socket_addr(), fact.versions().protocol_max() >= CRC_PROTOCOL_MIN);
        self.finish_packet(to, crc);
    }

    /// Arms a timer of this node.
    pub(crate) fn schedule(&mut self, at: Time, kind: TimerKind, subject: u32, generation: u32) {
        self.ctx.timers.schedule(at, self.node, TimerKey { kind, subject, generation });
    }

    /// Whether the delegate is asked for broadcasts: then gossip rounds never pause.
    pub(crate) fn asks_broadcasts(&self) -> bool {
        self.delegate.is_some() && !self.config.serf
    }

    /// Whether what a method of the delegate returned has at most `bytes_max` bytes; reports a longer one to
    /// the log.
    pub(crate) fn fits(&mut self, method: &'static str, bytes: usize, bytes_max: usize) -> bool {
        if bytes > bytes_max {
            self.ctx.out.notices.push((self.node, Notice::DelegateTooLong { method, bytes, bytes_max }));
        }
        bytes <= bytes_max
    }
}
