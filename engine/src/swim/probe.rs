//! Probing: one member per interval, in a random order that visits every member once per round (SWIM 3.1, 4.3),
//! with indirect pings, a ping over a stream, and Lifeguard's nacks (PROTOCOL 9.2).

use std::net::SocketAddr;
use std::time::Duration;

use hashbrown::HashMap;

use crate::config::Config;
use crate::deferred::{Acked, Asked, Compared, Deferred, StreamPing};
use crate::delegate::Announcement;
use crate::dissemination::Source;
use crate::drop_reason::DropReason;
use crate::event::Notice;
use crate::random::Permutation;
use crate::roster::MemberIndex;
use crate::scope::{Scope, breaks};
use crate::swim::Swim;
use crate::swim::corroborate::CORROBORATIONS_MAX;
use crate::swim::round_trip::RoundTrips;
use crate::time::Time;
use crate::timers::{TimerKey, TimerKind};
use crate::view::SwimState;
use crate::wire::{
    Ack, DecodeError, Extension, Incarnation, IndirectPing, Nack, Ping, SeqNo, Suspect, ip_from_bytes,
    ip_to_bytes,
};

/// Peers from memberlist protocol 4 on send nacks, from 3 on answer pings over a stream.
const NACK_PROTOCOL_MIN: u8 = 4;
const STREAM_PING_PROTOCOL_MIN: u8 = 3;
/// Pings relayed for other members at one time. A relay lasts for one probe timeout, so honest peers stay far
/// below this; beyond it requests are dropped and counted.
const RELAYS_MAX: usize = 1024;

/// Inquiries under way at one time; each lasts one probe timeout.
const INQUIRIES_MAX: usize = 16;
/// With fast detection a probe ends after so many timeouts: one for the ping, one for the relays' pings, and as much
/// again for what these and a ping over a stream take besides.
const TIMEOUTS_PER_PROBE: u32 = 4;

/// The probe under way, those of suspects of others, the pings relayed for others, and those sent for a digest.
#[derive(Default)]
pub(super) struct Prober {
    order: Option<Permutation>,
    position: u32,
    current: Option<Probe>,
    corroborations: Vec<Probe>,
    round_trips: RoundTrips,
    relays: HashMap<SeqNo, Relay, foldhash::fast::FixedState>,
    inquiries: Vec<Inquiry>,
}

/// A ping sent for the digest in its ack.
struct Inquiry {
    seq: SeqNo,
    member: MemberIndex,
    asked: Asked,
    sent_at: Time,
}

struct Probe {
    target: MemberIndex,
    /// The target's when the probe began. If it has refuted since, the probe accuses it no more.
    incarnation: Incarnation,
    seq: SeqNo,
    sent_at: Time,
    /// When it ends. Its timer may run late.
    ends_at: Time,
    nacks_expected: u32,
    nacks: u32,
    answered_over_stream: bool,
    /// Others were asked to ping too, so the time of an ack is no round trip.
    asked_others: bool,
    /// Its end was late once.
    was_late: bool,
}

impl Prober {
    fn probe_mut(&mut self, seq: SeqNo) -> Option<&mut Probe> {
        self.current.iter_mut().chain(&mut self.corroborations).find(|probe| probe.seq == seq)
    }

    fn take_probe(&mut self, seq: SeqNo) -> Option<Probe> {
        let current = self.current.take_if(|probe| probe.seq == seq);
        current.or_else(|| {
            let place = self.corroborations.iter().position(|probe| probe.seq == seq)?;
            Some(self.corroborations.swap_remove(place))
        })
    }

    fn put_back(&mut self, probe: Probe, is_current: bool) {
        if is_current {
            self.current = Some(probe);
        } else {
            self.corroborations.push(probe);
        }
    }
}

/// A ping that this node sent on behalf of another member.
struct Relay {
    requester: SocketAddr,
    requester_seq: SeqNo,
    nack: bool,
}

impl Swim {
    /// Starts the next probe and arms the one after it.
    pub(crate) fn probe(&mut self, scope: &mut Scope<'_>) {
        let period = self.awareness.scale(scope.config.probe_interval);
        scope.stats.serfs.probes_degraded += u64::from(period > scope.config.probe_interval);
        let now = scope.ctx.now;
        self.challenges = 0;
        self.send_obituaries(scope);
        if let Some(target) = self.next_target(scope) {
            self.prober.current = self.start_probe(scope, target, period);
        }
        scope.schedule(now + period, TimerKind::Probe, 0, 0);
    }

    /// Whether a probe of that member is under way.
    pub(super) fn probes(&self, member: MemberIndex) -> bool {
        let mut probes = self.prober.current.iter().chain(&self.prober.corroborations);
        probes.any(|probe| probe.target == member)
    }

    /// Probes a suspect of others, unless many are being probed.
    pub(super) fn start_corroboration(&mut self, scope: &mut Scope<'_>, suspect: MemberIndex) {
        if self.prober.corroborations.len() < CORROBORATIONS_MAX {
            let period = self.awareness.scale(scope.config.probe_interval);
            let probe = self.start_probe(scope, suspect, period);
            self.prober.corroborations.extend(probe);
        }
    }

    /// Pings a member and arms the timers of its probe, which lasts for `period` at most.
    fn start_probe(&mut self, scope: &mut Scope<'_>, target: MemberIndex, period: Duration) -> Option<Probe> {
        let incarnation = scope.view.incarnation(&scope.ctx.roster, target)?;
        let (now, seq) = (scope.now(), self.fresh_seq(scope));
        scope.stats.probes += 1;
        self.ping_member(scope, target, seq);
        let mut timeout = self.probe_timeout(scope);
        let mut lasts = period;
        if scope.config.fast_detection {
            timeout = self.awareness.scale(timeout);
            lasts = lasts.min(timeout * TIMEOUTS_PER_PROBE);
        }
        let ends_at = now + lasts;
        scope.schedule(now + timeout, TimerKind::ProbeTimeout, seq.0, 0);
        scope.schedule(ends_at, TimerKind::ProbeEnd, seq.0, 0);
        Some(Probe {
            target,
            incarnation,
            seq,
            sent_at: now,
            ends_at,
            nacks_expected: 0,
            nacks: 0,
            answered_over_stream: false,
            asked_others: false,
            was_late: false,
        })
    }

    /// How long to wait for the ack of a direct ping.
    fn probe_timeout(&self, scope: &Scope<'_>) -> Duration {
        let longest = scope.config.probe_timeout;
        if scope.config.fast_detection { self.prober.round_trips.timeout(longest) } else { longest }
    }

    /// The direct ping got no ack in time: asks other members to ping, and pings over a stream.
    pub(crate) fn on_probe_timeout(&mut self, scope: &mut Scope<'_>, key: TimerKey) {
        let Some(probe) = self.prober.probe_mut(SeqNo(key.subject)) else { return };
        probe.asked_others = true;
        let (target, seq) = (probe.target, probe.seq);
        let Some(fact) = scope.view.fact(&scope.ctx.roster, target) else { return };
        let (addr, target_protocol) = (fact.socket_addr(), fact.versions().protocol_max());
        let mut asked: Vec<MemberIndex> = Vec::new();
        for _ in 0..scope.config.indirect_checks {
            let me = scope.me;
            let picked = scope.view.random_member(&mut scope.ctx.random, |member, known| {
                known.swim == SwimState::Alive && member != me && member != target && !asked.contains(&member)
            });
            let Some(member) = picked else { break };
            asked.push(member);
            let fact = scope.view.fact(&scope.ctx.roster, member).expect("it was just picked");
            let nack = fact.versions().protocol_max() >= NACK_PROTOCOL_MIN;
            probe.nacks_expected += u32::from(nack);
            let to = fact.socket_addr();
            send_indirect_ping(scope, to, target, addr, seq, nack);
        }
        if scope.config.tcp_pings && target_protocol >= STREAM_PING_PROTOCOL_MIN {
            scope.defer(Deferred::StreamPing(StreamPing { member: target, addr, seq }));
        }
    }

    /// No datagram could be sent to that address: a probe of the member there, which nobody else was asked about yet,
    /// ends as if it had not begun.
    pub(crate) fn on_refused(&mut self, scope: &mut Scope<'_>, to: SocketAddr) {
        let refused = |probe: &Probe| {
            !probe.asked_others && scope.view.socket_addr(&scope.ctx.roster, probe.target) == Some(to)
        };
        let current = self.prober.current.take_if(|probe| refused(probe));
        let others = self.prober.corroborations.extract_if(.., |probe| refused(probe));
        let ended: Vec<Probe> = current.into_iter().chain(others).collect();
        for probe in ended {
            let name = scope.ctx.roster.name(probe.target).to_owned();
            scope.notice(Notice::PingRefused { name, addr: to });
        }
    }

    /// The protocol period is over: a probe without an ack becomes a suspicion.
    pub(crate) fn on_probe_end(&mut self, scope: &mut Scope<'_>, key: TimerKey) {
        let seq = SeqNo(key.subject);
        let is_current = self.prober.current.as_ref().is_some_and(|probe| probe.seq == seq);
        let Some(mut probe) = self.prober.take_probe(seq) else { return };
        if !probe.was_late && is_late(scope, probe.ends_at) {
            // This node stood still, and the ack may wait unread.
            self.awareness.apply(1);
            (probe.was_late, probe.ends_at) = (true, scope.now() + self.probe_timeout(scope));
            scope.schedule(probe.ends_at, TimerKind::ProbeEnd, seq.0, 0);
            return self.prober.put_back(probe, is_current);
        }
        let name = scope.ctx.roster.name(probe.target).to_owned();
        if probe.answered_over_stream {
            self.awareness.apply(-1);
            return scope.notice(Notice::TcpFallbackOnly { name });
        }
        // Lifeguard 4.1: members that were asked and sent no nack either are evidence against this node's own
        // connection, not against the target.
        let missed = probe.nacks_expected.saturating_sub(probe.nacks);
        self.awareness.apply(if probe.nacks_expected > 0 { missed as i32 } else { 1 });
        scope.stats.probes_failed += 1;
        if breaks!(scope, IgnoresFailedProbes) {
            return;
        }
        let mut incarnation = probe.incarnation;
        if breaks!(scope, RaisesOthersIncarnations) {
            incarnation.0 += 1;
        }
        scope.notice(Notice::SuspectNoAck { name: name.clone() });
        let from = scope.config.node_name.clone();
        let suspect = Suspect { incarnation, node: &name, from: &from };
        self.on_suspect(scope, &suspect, Source::Own, None);
    }

    /// A member pings this node.
    pub(crate) fn on_ping(&mut self, scope: &mut Scope<'_>, ping: &Ping<'_>, from: SocketAddr) {
        if !ping.node.is_empty() && ping.node != scope.config.node_name {
            return scope.drop_input(DropReason::WrongNodeName, Some(from));
        }
        if self.has_left || self.former.is_own_ping(ping.seq) {
            return;
        }
        if !ping.source_node.is_empty() {
            self.challenge(scope, ping, from);
        }
        let to = reply_address(scope, ping.source_node, (&ping.source_addr, ping.source_port), from);
        let payload = scope.take_ack_payload();
        let extension = ping.extension.and_then(|_| scope.extension());
        let ack = Ack { seq: ping.seq, payload: (&payload[..]).into(), extension };
        scope.send_message(to, |out| ack.encode(out));
        *scope.ack_payload = payload;
    }

    /// A member asks this node to ping a third one.
    pub(crate) fn on_indirect_ping(
        &mut self,
        scope: &mut Scope<'_>,
        request: &IndirectPing<'_>,
        from: SocketAddr,
    ) {
        let Some(ip) = ip_from_bytes(&request.target) else {
            return scope.drop_input(DecodeError::BadAddress, Some(from));
        };
        if self.prober.relays.len() >= RELAYS_MAX {
            return scope.drop_input(DropReason::QueueFull, Some(from));
        }
        let port = if request.port == 0 { scope.config.advertise.port() } else { request.port };
        let seq = self.fresh_seq(scope);
        let target = SocketAddr::new(ip, port);
        let source = (&*request.source_addr, request.source_port);
        let requester = reply_address(scope, request.source_node, source, from);
        if !scope.is_member_at(request.node, target) {
            // No ping goes to an address that only a stranger names. The requester learns that this node is alive.
            scope.drop_input(DropReason::NotAMember, Some(from));
            if request.nack {
                let nack = Nack { seq: request.seq };
                scope.send_message(requester, |out| nack.encode(out));
            }
            return;
        }
        let relay = Relay { requester, requester_seq: request.seq, nack: request.nack };
        self.prober.relays.insert(seq, relay);
        let deadline = scope.ctx.now + self.probe_timeout(scope);
        scope.schedule(deadline, TimerKind::RelayTimeout, seq.0, 0);
        send_ping(scope, target, request.node, seq);
    }

    /// An ack of this node's probe, or of a ping that it relayed for another member.
    /// Its sequence number proves that its sender got the ping: a member with several addresses may ack from another one.
    pub(crate) fn on_ack(&mut self, scope: &mut Scope<'_>, ack: &Ack<'_>) {
        if let Some(probe) = self.prober.take_probe(ack.seq) {
            self.awareness.apply(-1);
            self.unanswered.answered(probe.target);
            let round_trip = scope.ctx.now.since(probe.sent_at);
            scope.stats.probe_round_trips.add(round_trip);
            if !probe.asked_others {
                self.prober.round_trips.add(round_trip);
            }
            if !probe.asked_others && scope.delegate.is_some() {
                report_round_trip(scope, probe.target, round_trip, &ack.payload);
            }
            if scope.config.extensions && !probe.asked_others {
                let (member, asked, extension) = (probe.target, Asked::Probe, ack.extension);
                scope.defer(Deferred::Compared(Compared { member, asked, extension }));
            }
            if !ack.payload.is_empty() {
                let payload = ack.payload.to_vec();
                scope.defer(Deferred::Acked(Acked { member: probe.target, round_trip, payload }));
            }
        } else if let Some(relay) = self.prober.relays.remove(&ack.seq) {
            let forwarded = Ack { seq: relay.requester_seq, ..Ack::default() };
            scope.send_message(relay.requester, |out| forwarded.encode(out));
        } else if let Some(place) = self.prober.inquiries.iter().position(|inquiry| inquiry.seq == ack.seq) {
            let Inquiry { member, asked, sent_at, .. } = self.prober.inquiries.swap_remove(place);
            if scope.delegate.is_some() {
                let round_trip = scope.ctx.now.since(sent_at);
                report_round_trip(scope, member, round_trip, &ack.payload);
            }
            scope.defer(Deferred::Compared(Compared { member, asked, extension: ack.extension }));
        } else if !self.answers_claim(scope, ack.seq) && !self.answers_inquest(scope, ack.seq) {
            // Late acks are normal; they are counted and not logged.
            scope.stats.count_drop(DropReason::UnknownSeq);
        }
    }

    /// Pings a member for the digest in its ack. Whatever comes of it is deferred as [`Deferred::Compared`].
    pub(crate) fn inquire(&mut self, scope: &mut Scope<'_>, member: MemberIndex, asked: Asked) {
        let Some(to) = scope.view.socket_addr(&scope.ctx.roster, member) else { return };
        if self.prober.inquiries.len() >= INQUIRIES_MAX {
            return;
        }
        let (name, seq) = (scope.ctx.roster.name(member).to_owned(), self.fresh_seq(scope));
        let sent_at = scope.ctx.now;
        self.prober.inquiries.push(Inquiry { seq, member, asked, sent_at });
        scope.schedule(scope.ctx.now + scope.config.probe_timeout, TimerKind::InquiryEnd, seq.0, 0);
        send_ping(scope, to, &name, seq);
    }

    /// A member that was asked for its digest had time to answer.
    pub(crate) fn on_inquiry_end(&mut self, scope: &mut Scope<'_>, key: TimerKey) {
        let Some(place) = self.prober.inquiries.iter().position(|inquiry| inquiry.seq.0 == key.subject)
        else {
            return;
        };
        let Inquiry { member, asked, .. } = self.prober.inquiries.swap_remove(place);
        scope.defer(Deferred::Compared(Compared { member, asked, extension: None }));
    }

    /// A member that was asked to ping got no ack either, but is alive itself.
    pub(crate) fn on_nack(&mut self, scope: &mut Scope<'_>, nack: Nack) {
        match self.prober.probe_mut(nack.seq) {
            Some(probe) => probe.nacks += 1,
            None => scope.stats.count_drop(DropReason::UnknownSeq),
        }
    }

    /// A relayed ping got no ack in time.
    pub(crate) fn on_relay_timeout(&mut self, scope: &mut Scope<'_>, key: TimerKey) {
        let Some(relay) = self.prober.relays.remove(&SeqNo(key.subject)) else { return };
        if relay.nack {
            let nack = Nack { seq: relay.requester_seq };
            scope.send_message(relay.requester, |out| nack.encode(out));
        }
    }

    /// The probed member acked over a stream.
    pub(crate) fn on_stream_ack(&mut self, seq: SeqNo) {
        if let Some(probe) = self.prober.probe_mut(seq) {
            probe.answered_over_stream = true;
        }
    }

    /// A ping and, to a suspect, the accusation beside it so that it can refute at once (Lifeguard 4.3).
    fn ping_member(&mut self, scope: &mut Scope<'_>, target: MemberIndex, seq: SeqNo) {
        let known = scope.view.get(target).expect("the target was just picked");
        let fact = scope.ctx.roster.fact(known.fact);
        let (to, incarnation) = (fact.socket_addr(), fact.incarnation);
        let name = scope.ctx.roster.name(target).to_owned();
        if known.swim != SwimState::Suspect || !scope.config.buddy_system {
            return send_ping(scope, to, &name, seq);
        }
        scope.sending().begin_packet();
        let ping = own_ping(scope.config, scope.extension(), &name, seq);
        scope.ctx.assembler.push(|out| ping.encode(out));
        let suspect = Suspect { incarnation, node: &name, from: &scope.config.node_name };
        scope.ctx.assembler.push(|out| suspect.encode(out));
        scope.sending().finish_packet_to_member(target);
    }

    fn next_target(&mut self, scope: &mut Scope<'_>) -> Option<MemberIndex> {
        let me = scope.view.get(scope.me).map(|known| known.swim);
        let probed = [SwimState::Alive, SwimState::Suspect].map(|state| {
            let counts_me = me == Some(state);
            scope.view.swim_count(state) - usize::from(counts_me)
        });
        if probed == [0, 0] {
            // No member to find; the search would visit all places of the view.
            self.forget_long_gone(scope);
            return None;
        }
        // The rest of this round, then one whole new round.
        for _ in 0..2 {
            if let Some(order) = self.prober.order {
                while self.prober.position < order.len() {
                    let member = MemberIndex(order.at(self.prober.position));
                    self.prober.position += 1;
                    let state = scope.view.get(member).map(|known| known.swim);
                    if member != scope.me && matches!(state, Some(SwimState::Alive | SwimState::Suspect)) {
                        return Some(member);
                    }
                }
            }
            self.forget_long_gone(scope);
            self.prober.order = Some(Permutation::new(scope.view.index_end(), &mut scope.ctx.random));
            self.prober.position = 0;
        }
        None
    }

    /// A sequence number that nobody can guess and that no relay uses: an ack proves that its sender got the ping.
    pub(super) fn fresh_seq(&self, scope: &mut Scope<'_>) -> SeqNo {
        loop {
            let [a, b, c, d, ..] = scope.ctx.nonces.take();
            let seq = SeqNo(u32::from_le_bytes([a, b, c, d]));
            if !self.prober.relays.contains_key(&seq) {
                return seq;
            }
        }
    }
}

/// Whether a timer that was due then runs so late that this node stood still: news may wait unread.
pub(super) fn is_late(scope: &Scope<'_>, due: Time) -> bool {
    scope.now().since(due) > scope.config.probe_timeout / 2
}

fn report_round_trip(scope: &mut Scope<'_>, member: MemberIndex, round_trip: Duration, payload: &[u8]) {
    let Scope { ctx, view, delegate, .. } = scope;
    if let (Some(delegate), Some(fact)) = (delegate, view.fact(&ctx.roster, member)) {
        let announced = fact.alive(ctx.roster.name(member));
        delegate.on_ping(&Announcement::from(&announced), round_trip, payload);
    }
}

fn own_ping<'a>(config: &'a Config, extension: Option<Extension>, node: &'a str, seq: SeqNo) -> Ping<'a> {
    Ping {
        seq,
        node,
        extension,
        source_addr: config.advertised_ip().into(),
        source_port: config.advertise.port(),
        source_node: &config.node_name,
    }
}

fn send_ping(scope: &mut Scope<'_>, to: SocketAddr, node: &str, seq: SeqNo) {
    let ping = own_ping(scope.config, scope.extension(), node, seq);
    scope.send_message(to, |out| ping.encode(out));
}

/// Pings an address under a name which may be another one's.
pub(super) fn ask_for_name(scope: &mut Scope<'_>, to: SocketAddr, node: &str, seq: SeqNo) {
    let ping = own_ping(scope.config, None, node, seq);
    scope.send_bare(to, |out| ping.encode(out));
}

fn send_indirect_ping(
    scope: &mut Scope<'_>,
    to: SocketAddr,
    target: MemberIndex,
    target_addr: SocketAddr,
    seq: SeqNo,
    nack: bool,
) {
    let config = scope.config;
    let node = scope.ctx.roster.name(target).to_owned();
    let request = IndirectPing {
        seq,
        target: ip_to_bytes(target_addr.ip()).into(),
        port: target_addr.port(),
        node: &node,
        nack,
        source_addr: config.advertised_ip().into(),
        source_port: config.advertise.port(),
        source_node: &config.node_name,
    };
    scope.send_message(to, |out| request.encode(out));
}

/// Where a reply goes: to the source that the message names if it is that member's address, else to where the
/// datagram came from. Nobody can have replies sent to a third address.
fn reply_address(scope: &Scope<'_>, node: &str, (addr, port): (&[u8], u16), from: SocketAddr) -> SocketAddr {
    let named = ip_from_bytes(addr).filter(|_| port != 0).map(|ip| SocketAddr::new(ip, port));
    // Mostly it is the same address, and no member needs to be looked up.
    named.filter(|&named| named != from && scope.is_member_at(node, named)).unwrap_or(from)
}
