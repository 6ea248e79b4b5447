//! Queries of this node, queries of others, and the answers (PROTOCOL 5.3 to 5.5).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::command::{CommandError, QueryParams, QueryToken, Ticket};
use crate::dissemination::{Class, Source, ceil_log10};
use crate::drop_reason::DropReason;
use crate::event::{Completion, Event, Notice, SnapshotRecord};
use crate::roster::MemberIndex;
use crate::scope::{Scope, breaks};
use crate::serf::filters::{self, Filters};
use crate::serf::internal::{CONFLICT, PING, PREFIX, is_about_keys};
use crate::serf::name_votes::Votes;
use crate::serf::seen_queries::{SeenQueries, is_too_old};
use crate::serf::{Serf, Sight, record};
use crate::time::Time;
use crate::timers::{TimerKey, TimerKind};
use crate::view::MemberStatus;
use crate::wire::serf::{FLAG_ACK, FLAG_NO_BROADCAST, Query, QueryResponse, Relay};
use crate::wire::{DecodeError, LamportTime, ip_from_bytes, ip_to_bytes};

/// Serf protocol versions from which queries and relays are understood (PROTOCOL 7.1).
const QUERY_PROTOCOL_MIN: u8 = 4;
const RELAY_PROTOCOL_MIN: u8 = 5;
/// Queries of this node that may run at one time.
const RUNNING_MAX: usize = 1024;
/// Queries of other nodes that wait for an answer of the application. Their senders choose the timeouts, so
/// beyond it the oldest is forgotten.
const ASKED_MAX: usize = 4096;
/// Answers to a query beyond one for each member: a newcomer may hear the query before this node hears of the newcomer.
const NEWCOMERS_MAX: usize = 256;

/// Queries of askers that are no members yet, answered in a second: a query may arrive before the news about a member
/// that asks right after its join. More would let strangers have answers sent to an address of their choice.
const STRANGERS_PER_SECOND: u32 = 4;

/// The queries of one node. Takes memory from the first one on.
#[derive(Default)]
pub(super) struct Queries {
    /// Queries older than this were seen in an earlier run.
    pub(super) min: LamportTime,
    pub(super) seen: SeenQueries,
    filters: Filters,
    /// Answers to askers that were not known, in the second of the first number.
    strangers: (u64, u32),
    running: BTreeMap<LamportTime, Running>,
    asked: BTreeMap<QueryToken, Asked>,
    last_token: u64,
}

/// The receiver of the answers to this node's query.
pub(super) enum Asker {
    /// The application, by completions.
    Application(Ticket),
    /// This node, because another one claims its name.
    NameVote(Votes),
}

/// What a query asks. [`Default`] asks all nodes, without acks and relays, for the default time.
#[derive(Default)]
pub(super) struct Question<'a> {
    pub(super) name: &'a str,
    pub(super) payload: &'a [u8],
    pub(super) filters: Vec<Vec<u8>>,
    pub(super) request_ack: bool,
    pub(super) relay_factor: u8,
    pub(super) timeout: Option<Duration>,
}

/// A query of this node that still takes answers.
struct Running {
    asker: Asker,
    id: u32,
    acks: BTreeSet<String>,
    responses: BTreeSet<String>,
    /// The members there were at the start. So many answers of each kind are taken, or one for each member there is
    /// now, and [`NEWCOMERS_MAX`].
    capacity: usize,
}

/// Where the answer to a query goes.
#[derive(Clone, Debug)]
pub(super) struct ReplyTo {
    pub(super) ltime: LamportTime,
    pub(super) id: u32,
    pub(super) addr: SocketAddr,
    pub(super) node: String,
    pub(super) relay_factor: u8,
}

/// A query of another node that the application may answer.
struct Asked {
    ltime: LamportTime,
    id: u32,
    to: SocketAddr,
    source_node: String,
    relay_factor: u8,
    deadline: Time,
    answered: bool,
}

impl Queries {
    /// None yet; those older than `min` were seen in an earlier run.
    pub(super) fn new(min: LamportTime) -> Queries {
        Queries { min, ..Queries::default() }
    }

    /// Whether an answer may go to the address: to the asker's own, as far as it is known. An asker that this node
    /// has not heard of yet is answered too, a few times a second, and so is one that asks who has its name.
    fn may_answer(&mut self, scope: &Scope<'_>, query: &Query<'_>, to: SocketAddr) -> bool {
        let asker = query.source_node;
        if scope.is_member_at(asker, to) {
            return true;
        }
        let is_known = scope.view.by_name(&scope.ctx.roster, asker).is_some();
        if is_known && !(query.name == CONFLICT && *query.payload == *asker.as_bytes()) {
            return false;
        }
        let second = scope.now().as_nanos() / 1_000_000_000;
        if self.strangers.0 != second {
            self.strangers = (second, 0);
        }
        self.strangers.1 += 1;
        self.strangers.1 <= STRANGERS_PER_SECOND
    }

    /// Forgets queries that can't be answered any more.
    pub(super) fn expire(&mut self, now: Time) {
        self.asked.retain(|_, asked| asked.deadline > now);
        self.seen.expire(now);
    }
}

impl Serf {
    /// Asks all nodes, this one included. Returns for how long answers are taken; they come as completions.
    pub(crate) fn query(
        &mut self,
        scope: &mut Scope<'_>,
        ticket: Ticket,
        params: &QueryParams,
    ) -> Result<Duration, CommandError> {
        let is_ping = params.name == PING && params.payload.is_empty();
        if params.name.starts_with(PREFIX) && !is_ping {
            return Err(CommandError::ReservedName);
        }
        let question = Question {
            name: &params.name,
            payload: &params.payload,
            filters: filters::encode(params)?,
            request_ack: params.request_ack,
            relay_factor: params.relay_factor,
            timeout: params.timeout,
        };
        self.ask(scope, Asker::Application(ticket), &question)
    }

    /// Sends a query. The size limit is Serf's and counts the encoded query.
    pub(super) fn ask(
        &mut self,
        scope: &mut Scope<'_>,
        asker: Asker,
        question: &Question<'_>,
    ) -> Result<Duration, CommandError> {
        if scope.config.protocol < QUERY_PROTOCOL_MIN {
            return Err(CommandError::NotSupported);
        }
        if self.query_clock.is_exhausted() {
            return Err(CommandError::ClockExhausted("query"));
        }
        if self.queries.running.len() >= RUNNING_MAX {
            return Err(CommandError::Busy("queries"));
        }
        let timeout = question.timeout.unwrap_or_else(|| default_timeout(scope));
        let name = scope.config.node_name.clone();
        let query = Query {
            ltime: self.query_clock.time(),
            id: scope.ctx.random.below(1 << 31),
            addr: scope.config.advertised_ip().into(),
            port: scope.config.advertise.port(),
            source_node: &name,
            filters: question.filters.iter().map(Into::into).collect(),
            flags: if question.request_ack { FLAG_ACK } else { 0 },
            relay_factor: question.relay_factor,
            timeout: i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX),
            name: question.name,
            payload: question.payload.into(),
        };
        let mut bytes = Vec::new();
        query.encode(&mut bytes);
        if bytes.len() > scope.config.query_size_limit {
            return Err(CommandError::QueryTooLong(scope.config.query_size_limit));
        }
        let bytes_max = scope.gossip_bytes_max();
        if bytes.len() > bytes_max {
            return Err(CommandError::QueryFitsNoPacket { bytes: bytes.len(), bytes_max });
        }
        let running = Running {
            asker,
            id: query.id,
            acks: BTreeSet::new(),
            responses: BTreeSet::new(),
            capacity: scope.view.members_count(),
        };
        self.queries.running.insert(query.ltime, running);
        let (subject, generation) = (query.ltime.0 as u32, (query.ltime.0 >> 32) as u32);
        scope.schedule(scope.now() + timeout, TimerKind::QueryEnd, subject, generation);
        self.on_query(scope, &query);
        scope.broadcast(Class::Query, bytes.into(), Source::Own);
        Ok(timeout)
    }

    /// A query arrived. It is passed on whether or not this node answers.
    pub(super) fn on_query(&mut self, scope: &mut Scope<'_>, query: &Query<'_>) -> Sight {
        if !self.query_clock.witness(query.ltime, scope.now()) {
            scope.drop_input(DropReason::LamportTimeRefused, None);
            return Sight::Ignored;
        }
        if is_too_old(self.query_clock.time(), query.ltime) {
            scope.stats.count_drop(DropReason::QueryTooOld);
            scope.notice(Notice::TooOld { what: "query", name: query.name.to_owned(), ltime: query.ltime });
            return Sight::Ignored;
        }
        if scope.ctx.arrived_plain && !scope.envelope.keyring.is_empty() && is_about_keys(query.name) {
            // While a cluster moves to encryption, anybody could send one. It is not passed on either: others
            // would get it sealed.
            scope.drop_input(DropReason::UnsealedKeyQuery, None);
            return Sight::Ignored;
        }
        self.queries.seen.advance(self.query_clock.time());
        let passed_on = query.flags & FLAG_NO_BROADCAST == 0;
        if !self.queries.seen.insert(query.ltime, query.id, passed_on) {
            return Sight::Repeated;
        }
        if query.ltime < self.queries.min {
            // From before this node's time: remembered, so that peers see that it is known, and not answered.
            return Sight::Ignored;
        }
        if passed_on && scope.config.extensions {
            self.queries.seen.keep(query, scope.ctx.now);
        }
        record(scope, &mut self.recorded.queries, query.ltime, SnapshotRecord::QueryClock);
        if self.queries.filters.pass(scope, &self.hidden_tags, query) {
            self.answer(scope, query);
        }
        if passed_on { Sight::First } else { Sight::Ignored }
    }

    /// Answers a query of another node.
    pub(crate) fn respond(
        &mut self,
        scope: &mut Scope<'_>,
        token: QueryToken,
        payload: &Bytes,
    ) -> Result<(), CommandError> {
        let now = scope.ctx.now;
        let asked = self.queries.asked.get_mut(&token).ok_or(CommandError::UnknownQuery)?;
        if asked.answered {
            return Err(CommandError::AlreadyResponded);
        }
        if asked.deadline <= now {
            return Err(CommandError::PastDeadline);
        }
        let response = QueryResponse {
            ltime: asked.ltime,
            id: asked.id,
            from: &scope.config.node_name,
            flags: 0,
            payload: payload[..].into(),
        };
        let mut bytes = Vec::new();
        response.encode(&mut bytes);
        if bytes.len() > scope.config.query_response_size_limit {
            return Err(CommandError::ResponseTooLong(scope.config.query_response_size_limit));
        }
        asked.answered = true;
        let (to, node, relays) = (asked.to, asked.source_node.clone(), asked.relay_factor);
        self.send_answer(scope, to, &node, relays, &bytes);
        Ok(())
    }

    /// An ack of this node's query, or an answer to it.
    /// `sender`: where the datagram came from; none for this node's own answer. A vote about a name counts only straight from the member that it names as its sender, since a
    /// forged majority would end this node.
    pub(super) fn on_query_response(
        &mut self,
        scope: &mut Scope<'_>,
        response: &QueryResponse<'_>,
        sender: Option<SocketAddr>,
    ) {
        let running = self.queries.running.get_mut(&response.ltime);
        let Some(running) = running.filter(|running| running.id == response.id) else {
            scope.stats.count_drop(DropReason::QueryUnknown);
            return scope.notice(Notice::LateResponse { from: response.from.to_owned() });
        };
        let is_vote = matches!(running.asker, Asker::NameVote(_));
        if is_vote && sender.is_some_and(|sender| !scope.is_member_at(response.from, sender)) {
            return scope.drop_input(DropReason::NotAMember, sender);
        }
        let from = response.from.to_owned();
        let is_ack = response.flags & FLAG_ACK != 0;
        let known = if is_ack { &mut running.acks } else { &mut running.responses };
        let of = &mut scope.stats.serfs;
        if known.contains(&from) {
            *if is_ack { &mut of.query_acks_repeated } else { &mut of.query_responses_repeated } += 1;
            return scope.stats.count_drop(DropReason::DuplicateResponse);
        }
        // Members that came after the start may answer too, also before this node hears of them.
        if known.len() >= running.capacity.max(scope.view.members_count()) + NEWCOMERS_MAX {
            return scope.stats.count_drop(DropReason::QueueFull);
        }
        *if is_ack { &mut of.query_acks } else { &mut of.query_responses } += 1;
        known.insert(from.clone());
        let completion = if is_ack {
            Completion::QueryAck { from }
        } else {
            Completion::QueryResponse { from, payload: Bytes::copy_from_slice(&response.payload) }
        };
        match &mut running.asker {
            Asker::Application(ticket) => {
                scope.ctx.out.completions.push((scope.node, *ticket, completion));
            }
            Asker::NameVote(votes) => votes.add(scope, &response.payload),
        }
    }

    /// A query of this node is over.
    pub(crate) fn on_query_end(&mut self, scope: &mut Scope<'_>, key: TimerKey) {
        if breaks!(scope, NeverEndsQueries) {
            return;
        }
        let ltime = LamportTime(u64::from(key.generation) << 32 | u64::from(key.subject));
        if breaks!(scope, EndsQueriesTwice)
            && let Some(Running { asker: Asker::Application(ticket), .. }) = self.queries.running.get(&ltime)
        {
            scope.ctx.out.completions.push((scope.node, *ticket, Completion::QueryDone));
            return scope.schedule(
                scope.now() + Duration::from_secs(1),
                key.kind,
                key.subject,
                key.generation,
            );
        }
        if let Some(running) = self.queries.running.remove(&ltime) {
            match running.asker {
                Asker::Application(ticket) => {
                    scope.ctx.out.completions.push((scope.node, ticket, Completion::QueryDone));
                }
                Asker::NameVote(votes) => self.count_votes(scope, votes),
            }
        }
    }

    /// Passes a message on to the member that it is for. Nothing goes to an address that is no member's.
    pub(super) fn on_relay(&mut self, scope: &mut Scope<'_>, relay: &Relay<'_>) {
        match ip_from_bytes(&relay.dest_addr) {
            Some(ip) if relay.dest_port != 0 => {
                let to = SocketAddr::new(ip, relay.dest_port);
                if !scope.is_member_at(relay.dest_name, to) {
                    return scope.drop_input(DropReason::NotAMember, None);
                }
                scope.send_user(to, relay.inner);
            }
            _ => scope.drop_input(DecodeError::BadAddress, None),
        }
    }

    /// Acks the query if that is wanted and hands it to the application.
    fn answer(&mut self, scope: &mut Scope<'_>, query: &Query<'_>) {
        let Some(ip) = ip_from_bytes(&query.addr) else {
            return scope.drop_input(DecodeError::BadAddress, None);
        };
        let to = SocketAddr::new(ip, query.port);
        if !self.queries.may_answer(scope, query, to) {
            return scope.drop_input(DropReason::NotAMember, None);
        }
        if query.flags & FLAG_ACK != 0 {
            let ack = QueryResponse {
                ltime: query.ltime,
                id: query.id,
                from: &scope.config.node_name,
                flags: FLAG_ACK,
                payload: (&[][..]).into(),
            };
            let mut bytes = Vec::new();
            ack.encode(&mut bytes);
            self.send_answer(scope, to, query.source_node, query.relay_factor, &bytes);
        }
        if query.name.starts_with(PREFIX) {
            let reply_to = ReplyTo {
                ltime: query.ltime,
                id: query.id,
                addr: to,
                node: query.source_node.to_owned(),
                relay_factor: query.relay_factor,
            };
            if let Some(payload) = self.internal_answer(scope, &reply_to, query.name, &query.payload) {
                self.send_response(scope, &reply_to, &payload);
            }
            return;
        }
        let timeout = Duration::from_nanos(u64::try_from(query.timeout).unwrap_or(0));
        let token = self.remember(scope.ctx.now + timeout, to, query);
        let asked = Event::Query {
            token,
            ltime: query.ltime,
            name: query.name.to_owned(),
            payload: Bytes::copy_from_slice(&query.payload),
            source_node: query.source_node.to_owned(),
            timeout,
        };
        scope.ctx.out.events.push((scope.node, asked));
    }

    /// Answers a query.
    pub(super) fn send_response(&mut self, scope: &mut Scope<'_>, reply_to: &ReplyTo, payload: &[u8]) {
        let ReplyTo { ltime, id, addr, ref node, relay_factor } = *reply_to;
        let mut bytes = Vec::new();
        let from = &scope.config.node_name;
        QueryResponse { ltime, id, from, flags: 0, payload: payload.into() }.encode(&mut bytes);
        self.send_answer(scope, addr, node, relay_factor, &bytes);
    }

    fn remember(&mut self, deadline: Time, to: SocketAddr, query: &Query<'_>) -> QueryToken {
        let queries = &mut self.queries;
        if queries.asked.len() >= ASKED_MAX {
            queries.asked.pop_first();
        }
        queries.last_token += 1;
        let token = QueryToken(queries.last_token);
        let asked = Asked {
            ltime: query.ltime,
            id: query.id,
            to,
            source_node: query.source_node.to_owned(),
            relay_factor: query.relay_factor,
            deadline,
            answered: false,
        };
        queries.asked.insert(token, asked);
        token
    }

    /// Sends an ack or answer straight to the asker, and through relays if the asker wants that.
    fn send_answer(
        &mut self,
        scope: &mut Scope<'_>,
        to: SocketAddr,
        node: &str,
        relay_factor: u8,
        bytes: &[u8],
    ) {
        if to == scope.config.advertise {
            // Without the network, which might not route the advertised address back to this node.
            if let Ok(crate::wire::SerfMessage::QueryResponse(response)) =
                crate::wire::SerfMessage::decode(bytes)
            {
                self.on_query_response(scope, &response, None);
            }
            return;
        }
        scope.send_user(to, bytes);
        send_relays(scope, to, node, relay_factor, bytes);
    }
}

/// Sends an answer to random members, each of which passes it on to the asker.
fn send_relays(scope: &mut Scope<'_>, to: SocketAddr, node: &str, relay_factor: u8, bytes: &[u8]) {
    let count = usize::from(relay_factor);
    if count == 0 || scope.view.members_count() < count + 1 {
        return;
    }
    let dest_addr = ip_to_bytes(to.ip());
    let relay = Relay { dest_addr: dest_addr.into(), dest_port: to.port(), dest_name: node, inner: bytes };
    let mut wrapped = Vec::new();
    relay.encode(&mut wrapped);
    if wrapped.len() > scope.config.query_response_size_limit {
        return;
    }
    let mut picked: Vec<MemberIndex> = Vec::with_capacity(count);
    for _ in 0..count {
        let (me, roster) = (scope.me, &scope.ctx.roster);
        let next = scope.view.random_member(&mut scope.ctx.random, |member, known| {
            known.status == MemberStatus::Alive
                && member != me
                && roster.fact(known.fact).versions().protocol_max() >= RELAY_PROTOCOL_MIN
                && !picked.contains(&member)
        });
        let Some(member) = next else { break };
        picked.push(member);
    }
    for member in picked {
        if let Some(addr) = scope.view.socket_addr(&scope.ctx.roster, member) {
            scope.send_user(addr, &wrapped);
        }
    }
}

/// gossip interval * mult * ceil(log10(alive + 1)). With 200 ms and 16: 3.2 s up to 9 members, 6.4 s up to 99.
fn default_timeout(scope: &Scope<'_>) -> Duration {
    let alive = scope.view.status_count(MemberStatus::Alive);
    scope.config.gossip_interval * scope.config.query_timeout_mult * ceil_log10(alive + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_known_by_time_and_id() {
        let mut queries = Queries::default();
        assert!(queries.seen.insert(LamportTime(3), 7, true));
        assert!(!queries.seen.insert(LamportTime(3), 7, true));
        assert!(queries.seen.insert(LamportTime(3), 8, true));
        assert!(queries.seen.insert(LamportTime(3 + 512), 7, true), "a newer time takes the slot");
    }
}
