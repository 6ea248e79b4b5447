//! When this node reconciles, with whom, and what it does with the messages of a reconciliation.
//!
//! Peers compare what they announced with every ping and ack. A difference that is older than news needs to
//! travel starts an exchange; so does any difference while the view grows, because then waiting for news to
//! arrive by gossip is what reconciliation replaces.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::Node;
use super::growth::Growth;
use crate::context::{Context, StreamId};
use crate::deferred::{Asked, Compared, Deferred, Told};
#[cfg(feature = "sim")]
use crate::digest::Digest;
use crate::dissemination::Source;
use crate::drop_reason::DropReason;
use crate::reconcile::answer::{self, Head, Holdings, Limits};
use crate::reconcile::compared::is_as_old_as;
use crate::reconcile::members::Members;
use crate::roster::MemberIndex;
use crate::scope::Scope;
use crate::swim::Swim;
use crate::time::Time;
use crate::timers::TimerKind;
use crate::view::{MemberStatus, SwimState};
use crate::wire::extension::Extension;
use crate::wire::limits::UDP_PACKET_BYTES_MAX;
use crate::wire::reconcile::{Reconcile, ReconcileSet, Section};
use crate::wire::record::MemberRecord;
use crate::wire::stream::RECONCILE_FRAME_BYTES;
use crate::wire::{DecodeError, NodeState, WireState};

/// News has had time to travel after so many gossip intervals: with 200 ms, one second.
const SETTLED_ROUNDS: u32 = 5;
/// Under constant news two views may never be settled; a difference to everybody for so many gossip intervals counts too.
/// Of members, as a list that differs is no harm for some seconds: 3 s. Of messages, which are remembered for the time of
/// 512 of them: less than the time between two probes.
const DIFFERS_ROUNDS: [u32; 2] = [15, 4];
/// Thane nodes whose digests are equal exchange whole states all the same after so many periods, ...
const BACKSTOP_INTERVALS: u32 = 8;
/// ... or after so long for each member, whichever is later: a state of 100 bytes for each costs 40 bytes a second.
const BACKSTOP_PER_MEMBER: Duration = Duration::from_secs(5);
/// Exchanges without news double the wait for the next one, up to 2^so many times.
const FRUITLESS_MAX: u32 = 6;
/// After so many exchanges without news they go over streams, ...
const FRUITLESS_STREAM: u32 = 2;
/// ... and after so many whole states are exchanged at the times of periodic push/pulls.
const FRUITLESS_STATES: u32 = 4;
/// More members of difference than this, and than a sixteenth of the view, go over a stream.
const STREAM_DIFFERENCE: u32 = 64;
/// Ranges and records that may be left to the next exchange; more go over a stream at once.
const MISSING_MAX: u32 = 8;
/// An answer has at most so many bytes for each byte of what it answers, so that nobody gains much by naming
/// somebody else as the sender.
const ANSWER_FACTOR: usize = 16;
/// Steps that ask for something are padded to so many bytes, so that a whole packet may answer them.
const ASKING_BYTES_MIN: usize = UDP_PACKET_BYTES_MAX.div_ceil(ANSWER_FACTOR);
/// Bytes of answers by datagram in one second, to all senders together.
const ANSWER_BYTES_PER_SECOND: usize = 512 * 1024;
/// Records applied in one input, so that no ack waits behind a long message: about a millisecond.
const SLICE_RECORDS: usize = 500;
/// Messages from streams whose records wait to be applied.
const WAITING_MAX: usize = 64;

/// The state of reconciliation in one node.
#[derive(Default)]
pub(super) struct Reconciler {
    /// Since when every comparison differed: of members, of messages.
    differs_since: [Option<Time>; 2],
    /// No exchange starts before.
    next_start: Time,
    /// No exchange that did not fit datagrams goes on over a stream before.
    next_stream: Time,
    /// Exchanges started since the view changed last.
    fruitless: u32,
    /// The view's sum when the last exchange started.
    started_with: u64,
    pub(super) growth: Growth,
    /// When this node started a push/pull last.
    exchanged_at: Time,
    /// Bytes that answers by datagram may still have in this second.
    answer_bytes: usize,
    answer_second: u64,
    waiting: VecDeque<Waiting>,
}

/// A message from a stream, some of whose records are not applied yet.
struct Waiting {
    bytes: Vec<u8>,
    next: usize,
}

impl Reconciler {
    /// For simulations: the view has been what it is for long.
    #[cfg(feature = "sim")]
    pub(super) fn has_known(&mut self, view: &Digest) {
        self.growth.count = view.alive().count;
    }

    /// Bytes that an answer to `received` bytes may have.
    fn answer_room(&mut self, scope: &Scope<'_>, received: usize) -> usize {
        let second = scope.now().as_nanos() / 1_000_000_000;
        if second != self.answer_second {
            (self.answer_second, self.answer_bytes) = (second, ANSWER_BYTES_PER_SECOND);
        }
        (received * ANSWER_FACTOR).min(datagram_room(scope)).min(self.answer_bytes)
    }
}

fn datagram_room(scope: &Scope<'_>) -> usize {
    UDP_PACKET_BYTES_MAX - scope.envelope.overhead()
}

impl Node {
    /// A member answered a ping, or did not.
    pub(super) fn on_compared(&mut self, ctx: &mut Context, compared: Compared) {
        let Compared { member, asked, extension } = compared;
        let scope = &mut self.shared.scope(ctx);
        let now = scope.now();
        if let (true, Some(theirs)) = (scope.compared.announces_tls, extension)
            && let Some(addr) = scope.view.socket_addr(&scope.ctx.roster, member)
        {
            self.tls_peers.note(addr, theirs.tls, scope.view.digest().alive().count as usize);
        }
        let mine = scope.compared.at(now);
        let Some(theirs) = extension else {
            // A Serf node, or one that does not answer: whole states are exchanged as Serf does.
            if asked == Asked::Exchange {
                self.exchange_states(ctx, member);
            }
            return;
        };
        if (mine.members, mine.messages) == (theirs.members, theirs.messages) {
            self.reconciler.differs_since = [None; 2];
            // Who is failed, left or pruned may differ: only whole states say all about that.
            let backstop = scope.config.push_pull_interval * BACKSTOP_INTERVALS;
            let backstop = backstop.max(BACKSTOP_PER_MEMBER * mine.count);
            let due = now.since(self.reconciler.exchanged_at) >= backstop;
            if asked == Asked::Exchange && (mine.gone != theirs.gone || due) {
                self.exchange_states(ctx, member);
            }
            return;
        }
        let settled = scope.config.gossip_interval * SETTLED_ROUNDS;
        let sets = [
            (mine.members, mine.members_age, theirs.members, theirs.members_age),
            (mine.messages, mine.messages_age, theirs.messages, theirs.messages_age),
        ];
        let mut starts = [false; 2];
        for (set, (mine, my_age, theirs, their_age)) in sets.into_iter().enumerate() {
            let since = &mut self.reconciler.differs_since[set];
            if mine == theirs {
                *since = None;
                continue;
            }
            let long = scope.config.gossip_interval * DIFFERS_ROUNDS[set];
            let for_long = now.since(*since.get_or_insert(now)) >= long;
            let both_settled = is_as_old_as(my_age, settled) && is_as_old_as(their_age, settled);
            starts[set] = asked != Asked::Probe || both_settled || for_long;
        }
        let [_, misses_messages] = starts;
        if misses_messages && self.reconciler.growth.wait == 0 {
            // The exchange may lose a packet, and the next probe may come too late.
            self.start_looks(ctx);
        }
        if asked == Asked::Exchange && self.reconciler.fruitless >= FRUITLESS_STATES {
            return self.exchange_states(ctx, member);
        }
        if starts != [false; 2] {
            self.start_exchange(ctx, member, &theirs, starts);
        }
    }

    /// Starts a push/pull with a member.
    fn exchange_states(&mut self, ctx: &mut Context, member: MemberIndex) {
        let scope = &mut self.shared.scope(ctx);
        self.reconciler.exchanged_at = scope.now();
        if let Some(addr) = scope.view.socket_addr(&scope.ctx.roster, member) {
            self.streams.push_pull(scope, addr);
        }
    }

    /// Starts an exchange with a member that announced something else, unless the last one was just now.
    fn start_exchange(
        &mut self,
        ctx: &mut Context,
        member: MemberIndex,
        theirs: &Extension,
        [members, messages]: [bool; 2],
    ) {
        let Node { shared, reconciler, .. } = self;
        let scope = &mut shared.scope(ctx);
        let now = scope.now();
        if now < reconciler.next_start {
            return;
        }
        let mine = scope.compared.at(now);
        let sum = mine.members ^ mine.messages;
        reconciler.fruitless =
            if sum == reconciler.started_with { (reconciler.fruitless + 1).min(FRUITLESS_MAX) } else { 0 };
        reconciler.started_with = sum;
        reconciler.next_start = now + scope.config.gossip_interval / 4 * (1 << reconciler.fruitless);
        scope.stats.reconciliations += 1;
        if messages {
            self.open_exchange(ctx, member, ReconcileSet::Messages);
        }
        if members {
            let difference = mine.count.abs_diff(theirs.count);
            // A peer that does not know this node, or not at its address, answers over streams only.
            let fruitless = self.reconciler.fruitless >= FRUITLESS_STREAM;
            if fruitless || difference > STREAM_DIFFERENCE.max(mine.count / 16) {
                self.stream_exchange(ctx, member, ReconcileSet::Members);
            } else {
                self.open_exchange(ctx, member, ReconcileSet::Members);
            }
        }
    }

    /// Sends the first datagram of an exchange.
    fn open_exchange(&mut self, ctx: &mut Context, member: MemberIndex, set: ReconcileSet) {
        let salt = ctx.random.u64() as u32;
        let limits = Limits::datagram(datagram_room(&self.shared.scope(ctx)));
        let bytes = self
            .compose(ctx, set, salt, |holdings, head| Some(answer::open(holdings, head, limits, Vec::new())));
        if let Some(bytes) = bytes {
            self.send_step(ctx, member, bytes);
        }
    }

    fn send_step(&mut self, ctx: &mut Context, member: MemberIndex, mut step: Vec<u8>) {
        // What only records lie in asks for nothing; but it is rarely shorter.
        step.resize(step.len().max(ASKING_BYTES_MIN), 0);
        self.shared.scope(ctx).send_reconcile(member, &step);
    }

    fn stream_exchange(&mut self, ctx: &mut Context, member: MemberIndex, set: ReconcileSet) {
        let scope = &mut self.shared.scope(ctx);
        if let Some(addr) = scope.view.socket_addr(&scope.ctx.roster, member) {
            self.streams.reconcile(scope, addr, set);
        }
    }

    /// What the node announces, after every input; and whether its view grows fast.
    pub(super) fn observe(&mut self, ctx: &mut Context) {
        if !self.shared.config.extensions {
            return;
        }
        #[cfg(feature = "sim")]
        if self.shared.canary == crate::canary::Canary::AnnouncesAnOldDigest {
            return;
        }
        let messages = self.top.messages_digest();
        let alive = self.shared.view.digest().alive();
        self.shared.compared.observe(self.shared.view.digest(), messages, ctx.now);
        self.watch_growth(ctx, alive.count);
    }

    /// Composes a message about one of the sets. None if there is nothing to say, or no such set.
    fn compose(
        &mut self,
        ctx: &mut Context,
        set: ReconcileSet,
        salt: u32,
        write: impl FnOnce(&dyn Holdings, Head<'_>) -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let [_, event_clock, query_clock] = self.top.clocks();
        let clocks = [event_clock.0, query_clock.0];
        let head = Head { set, salt, from: &self.shared.config.node_name, clocks };
        match set {
            ReconcileSet::Members => write(&Members::new(&self.shared.view, ctx.roster.order()), head),
            ReconcileSet::Messages => write(&self.top.serf().ok()?.recent_messages(), head),
        }
    }

    /// A datagram of an exchange arrived. Only members are answered, at the address they are known by.
    pub(super) fn on_reconcile(&mut self, ctx: &mut Context, from: SocketAddr, message: &Reconcile<'_>) {
        let scope = &mut self.shared.scope(ctx);
        if !scope.config.extensions {
            return scope.drop_input(DecodeError::UnknownType, Some(from));
        }
        let sender = scope.view.by_name(&scope.ctx.roster, message.from).filter(|(member, known)| {
            *member != scope.me && scope.ctx.roster.fact(known.fact).socket_addr() == from
        });
        let member = match sender {
            Some((member, known)) if matches!(known.swim, SwimState::Alive | SwimState::Suspect) => member,
            // It is back, and this node has not heard of it yet.
            Some(_) => return scope.stats.count_drop(DropReason::Departed),
            None => return scope.stats.count_drop(DropReason::UnknownSender),
        };
        let room = self.reconciler.answer_room(scope, message.bytes());
        let limits = Limits::datagram(room);
        let answered = self.compose(ctx, message.set, message.salt, |holdings, head| {
            answer::answer(message, holdings, head, limits, Vec::new())
        });
        if let Some(answered) = answered {
            self.reconciler.answer_bytes = self.reconciler.answer_bytes.saturating_sub(answered.len());
            self.send_step(ctx, member, answered);
        }
        self.apply_records(ctx, message, Some(from));
        // The side that began goes on over a stream if much did not fit, or if what is missing never fits.
        let missing: u32 = message.sections().map(|section| missing(&section)).sum();
        let streams = missing > MISSING_MAX || missing > 0 && self.reconciler.fruitless > 0;
        if streams && message.step % 2 == 1 && ctx.now >= self.reconciler.next_stream {
            self.reconciler.next_stream = ctx.now + self.shared.config.gossip_interval;
            self.stream_exchange(ctx, member, message.set);
        }
    }

    /// A stream of an exchange that this node opened is there.
    pub(super) fn on_reconcile_opened(&mut self, ctx: &mut Context, id: StreamId, set: ReconcileSet) {
        let salt = ctx.random.u64() as u32;
        let bytes = self.compose(ctx, set, salt, |holdings, head| {
            Some(answer::open(holdings, head, Limits::stream(), frame()))
        });
        let scope = &mut self.shared.scope(ctx);
        self.streams.send_step(scope, id, bytes);
    }

    /// A message of an exchange came over a stream. An answer goes back over it; without one it is closed.
    pub(super) fn on_reconcile_step(&mut self, ctx: &mut Context, id: StreamId, bytes: Vec<u8>) {
        let message = match Reconcile::decode(&bytes) {
            Ok(message) => message,
            Err(reason) => {
                let scope = &mut self.shared.scope(ctx);
                scope.drop_input(reason, None);
                return self.streams.send_step(scope, id, None);
            }
        };
        let answered = self.compose(ctx, message.set, message.salt, |holdings, head| {
            answer::answer(&message, holdings, head, Limits::stream(), frame())
        });
        let scope = &mut self.shared.scope(ctx);
        self.streams.send_step(scope, id, answered);
        if message.set == ReconcileSet::Messages {
            return self.apply_records(ctx, &message, None);
        }
        if self.reconciler.waiting.len() >= WAITING_MAX {
            return self.shared.scope(ctx).drop_input(DropReason::QueueFull, None);
        }
        self.reconciler.waiting.push_back(Waiting { bytes, next: 0 });
        self.on_apply_timer(ctx);
    }

    /// Applies the next slice of what came over streams.
    pub(super) fn on_apply_timer(&mut self, ctx: &mut Context) {
        let Some(mut waiting) = self.reconciler.waiting.pop_front() else { return };
        let message = Reconcile::decode(&waiting.bytes).expect("it was decoded when it came");
        let records = message.sections().filter_map(record_of).skip(waiting.next);
        let mut told = Vec::new();
        let scope = &mut self.shared.scope(ctx);
        let mut applied = 0;
        for record in records.take(SLICE_RECORDS) {
            apply_member(scope, &mut self.swim, record, None, &mut told);
            applied += 1;
        }
        scope.defer(Deferred::Told(told));
        waiting.next += applied;
        if applied == SLICE_RECORDS {
            self.reconciler.waiting.push_front(waiting);
        }
        if !self.reconciler.waiting.is_empty() {
            let now = ctx.now;
            self.shared.scope(ctx).schedule(now, TimerKind::Reconcile, 0, 0);
        }
    }

    /// Applies the records of a short message at once.
    fn apply_records(&mut self, ctx: &mut Context, message: &Reconcile<'_>, from: Option<SocketAddr>) {
        let scope = &mut self.shared.scope(ctx);
        let records = message.sections().filter_map(record_of);
        match message.set {
            ReconcileSet::Members => {
                let mut told = Vec::new();
                records.for_each(|record| apply_member(scope, &mut self.swim, record, from, &mut told));
                if !told.is_empty() {
                    scope.defer(Deferred::Told(told));
                }
            }
            ReconcileSet::Messages => {
                if let Ok(serf) = self.top.serf() {
                    serf.merge_messages(scope, from, message.clocks, records);
                }
            }
        }
    }
}

fn missing(section: &Section<'_>) -> u32 {
    match section {
        Section::More(count) => (*count).min(u32::from(u16::MAX)),
        _ => 0,
    }
}

fn record_of<'a>(section: Section<'a>) -> Option<&'a [u8]> {
    match section {
        Section::Record(record) => Some(record),
        _ => None,
    }
}

/// Applies a member's record by the rules of a push/pull. What it says of the serf layer is appended to `told`.
fn apply_member(
    scope: &mut Scope<'_>,
    swim: &mut Swim,
    bytes: &[u8],
    from: Option<SocketAddr>,
    told: &mut Vec<Told>,
) {
    let record = match MemberRecord::decode(bytes) {
        Ok(record) => record,
        Err(reason) => return scope.drop_input(reason, from),
    };
    scope.stats.records_received += 1;
    // Others learn who is alive as this node did. A departure goes on to the member itself, which may refute it.
    if let Some(state) = record.state {
        let source = if state == WireState::Alive { Source::Reconciled } else { Source::Exchange };
        let state = NodeState {
            name: record.name,
            addr: record.addr.into(),
            port: record.port,
            meta: record.meta.into(),
            incarnation: record.incarnation,
            state,
            versions: record.versions.into(),
        };
        swim.merge_state(scope, state, source);
    }
    let Some((member, known)) = scope.view.by_name(&scope.ctx.roster, record.name) else { return };
    let status = MemberStatus::from_number(record.status);
    if let Some(status) = status
        && (record.status_ltime > known.status_ltime
            || status == MemberStatus::Left && known.status != status)
    {
        told.push(Told { member, status, ltime: record.status_ltime });
    }
}

/// Room for the frame of a message on a stream.
fn frame() -> Vec<u8> {
    vec![0; RECONCILE_FRAME_BYTES]
}
