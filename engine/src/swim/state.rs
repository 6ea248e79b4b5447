//! What a message about a member changes: alive, suspect, dead (SWIM 3.2, 4.2; PROTOCOL 9.3, 9.4).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::config::Config;
use crate::deferred::{Change, Deferred};
use crate::delegate::Announcement;
use crate::dissemination::Source;
use crate::drop_reason::DropReason;
use crate::event::Notice;
use crate::roster::{Fact, MemberIndex};
use crate::scope::{Scope, breaks};
use crate::swim::Swim;
use crate::swim::claims::socket_addr_of;
use crate::swim::incarnation::INCARNATION_MAX;
use crate::swim::obituary::is_older_than_tombstone;
use crate::swim::probe::is_late;
use crate::swim::suspicion::Suspicion;
use crate::timers::{TimerKey, TimerKind};
use crate::view::{Known, SwimState};
use crate::wire::limits::META_BYTES_MAX;
use crate::wire::{Alive, Dead, DecodeError, Incarnation, Suspect, Versions, encode_tags};

impl Swim {
    /// Enters this node into its own view: alive, incarnation 1.
    pub(crate) fn introduce_self(&mut self, scope: &mut Scope<'_>) {
        let given = delegates_meta(scope);
        self.meta_is_delegates = given.is_some();
        let meta = given.unwrap_or_else(|| encoded_meta(scope.config.protocol, &scope.config.tags));
        self.announce_self(scope, Incarnation(1), &meta);
        scope.defer(Deferred::Change(Change::Joined(scope.me)));
    }

    /// Announces new tags under a new incarnation.
    pub(crate) fn update_tags(&mut self, scope: &mut Scope<'_>, tags: &BTreeMap<String, String>) {
        let meta = encoded_meta(scope.config.protocol, tags);
        self.update_meta(scope, &meta);
    }

    /// Asks the delegate for the meta again and announces it under a new incarnation. Returns false if the delegate
    /// returns none; then nothing was changed.
    pub(crate) fn ask_meta(&mut self, scope: &mut Scope<'_>) -> bool {
        let given = delegates_meta(scope).filter(|_| self.meta_is_delegates);
        if let Some(meta) = &given {
            self.update_meta(scope, meta);
        }
        given.is_some()
    }

    fn update_meta(&mut self, scope: &mut Scope<'_>, meta: &[u8]) {
        let incarnation = Incarnation(self.incarnation.0.saturating_add(1));
        self.announce_self(scope, incarnation, meta);
        scope.defer(Deferred::Change(Change::Updated(scope.me)));
    }

    /// A message says that a member is alive. `from` is the source of the datagram, if it came by one.
    pub(crate) fn on_alive(
        &mut self,
        scope: &mut Scope<'_>,
        mut alive: Alive<'_>,
        source: Source,
        from: Option<SocketAddr>,
    ) {
        if alive.port == 0 {
            // A peer of protocol 1 sends no port: memberlist then takes the receiver's.
            alive.port = scope.config.advertise.port();
        }
        let is_me = alive.node == scope.config.node_name;
        if self.leaving && is_me {
            return;
        }
        if !versions_make_sense(&alive.versions) {
            return scope.drop_input(DecodeError::BadVersions, from);
        }
        let is_allowed = |ip| scope.config.allows(ip);
        if !scope.config.allows_all()
            && (!is_allowed(address_of(&alive)) || from.is_some_and(|from| !is_allowed(from.ip())))
        {
            return scope.drop_input(DropReason::AddressNotAllowed, from);
        }
        if !scope.config.allows_name(alive.node) {
            return scope.drop_input(DropReason::NameNotAllowed, from);
        }
        if let Some(delegate) = scope.delegate
            && let Err(veto) = delegate.admit(&Announcement::from(&alive))
        {
            scope.stats.count_drop(DropReason::AliveVetoed);
            let (name, reason) = (alive.node.to_owned(), veto.to_string());
            return scope.notice(Notice::AliveVetoed { name, reason });
        }
        let named = scope.ctx.roster.member(alive.node);
        let listed = named.and_then(|member| Some((member, scope.view.get(member)?)));
        if !self.believes(scope, listed.map(|(_, known)| known), alive.incarnation, source) {
            return;
        }
        if let Some((_, known)) = listed
            && known.swim == SwimState::Absent
            && is_older_than_tombstone(scope, known, &alive)
            && !breaks!(scope, RevivesTheDeparted)
        {
            return self.send_tombstone(scope, known, &alive);
        }
        if let Some((member, known)) = listed
            && !is_at(scope.ctx.roster.fact(known.fact), &alive)
        {
            if is_me {
                return self.on_rival(scope, &alive, source, false);
            }
            return self.on_claim(scope, (member, known), &alive, source, from);
        }
        let Some((member, known)) = listed.filter(|(_, known)| known.swim != SwimState::Absent) else {
            if alive.incarnation > Incarnation(0) {
                let heard_of = matches!(source, Source::Gossip | Source::Exchange | Source::Reconciled);
                if heard_of && !self.unanswered.has_room(scope.view, scope.ctx.now) {
                    return scope.drop_input(DropReason::TooManyUnanswered, from);
                }
                let member = self.store_alive(scope, named, &alive, source);
                if heard_of {
                    self.unanswered.add(member);
                }
                scope.defer(Deferred::Change(Change::Joined(member)));
            }
            return;
        };
        let fact = scope.ctx.roster.fact(known.fact);
        // The same address in 4 and in 16 bytes (PROTOCOL 2.9) is no conflict. A newer incarnation's form replaces the
        // stored one, because its member has restarted and Serf compares bytes. Otherwise what is stored stays, so
        // that Serf sees no change.
        if fact.addr() != &*alive.addr && alive.incarnation <= fact.incarnation {
            alive.addr = fact.addr().to_vec().into();
        }
        let incarnation = fact.incarnation;
        let meta_changed = fact.meta() != &*alive.meta;
        if is_me {
            let differs = meta_changed || fact.versions_bytes() != &*alive.versions;
            if alive.incarnation > incarnation || alive.incarnation == incarnation && differs {
                self.refute(scope, alive.incarnation, "alive", alive.node, from);
            } else if alive.incarnation == incarnation {
                repeated(scope, member, source);
            }
            return;
        }
        let is_news = alive.incarnation > incarnation
            || breaks!(scope, RevivesTheDead) && known.swim == SwimState::Dead
            || breaks!(scope, BelievesOldNews) && alive.incarnation < incarnation;
        if !is_news {
            if alive.incarnation == incarnation && known.swim == SwimState::Alive {
                repeated(scope, member, source);
            }
            return;
        }
        self.end_suspicion(scope, member);
        self.store_alive(scope, named, &alive, source);
        match known.swim {
            SwimState::Dead | SwimState::Left => scope.defer(Deferred::Change(Change::Joined(member))),
            _ if meta_changed => scope.defer(Deferred::Change(Change::Updated(member))),
            _ => {}
        }
    }

    /// A message accuses a member of not answering.
    pub(crate) fn on_suspect(
        &mut self,
        scope: &mut Scope<'_>,
        suspect: &Suspect<'_>,
        source: Source,
        from: Option<SocketAddr>,
    ) {
        let Some((member, known)) = scope.view.by_name(&scope.ctx.roster, suspect.node) else { return };
        if !self.believes(scope, Some(known), suspect.incarnation, source) {
            return;
        }
        let incarnation = scope.ctx.roster.fact(known.fact).incarnation;
        if known.swim == SwimState::Absent || suspect.incarnation < incarnation {
            return;
        }
        if known.swim == SwimState::Suspect {
            return self.confirm_suspicion(scope, member, suspect, source);
        }
        if known.swim != SwimState::Alive {
            return;
        }
        if member == scope.me {
            return self.refute(scope, suspect.incarnation, "suspect", suspect.from, from);
        }
        self.take_incarnation(scope, member, suspect.incarnation);
        scope.view.set_swim(&scope.ctx.roster, member, SwimState::Suspect, scope.ctx.now);
        scope.stats.serfs.suspect += 1;
        self.pass_on(scope, member, suspect.from, source);
        self.suspicion_generation = self.suspicion_generation.wrapping_add(1);
        let from = scope.ctx.roster.intern_name(suspect.from);
        let n = scope.view.table_count();
        let mut suspicion = Suspicion::new(from, self.suspicion_generation, scope.ctx.now, n, scope.config);
        if scope.config.fast_detection {
            suspicion.delay(scope.ctx.random.duration(scope.config.probe_interval / 2));
        }
        let deadline = suspicion.arm(scope.now());
        self.suspicions.insert(member, suspicion);
        scope.schedule(deadline, TimerKind::Suspicion, member.0, self.suspicion_generation);
        if source != Source::Own {
            self.corroborate(scope, member);
        }
    }

    /// A message says that a member is dead, or, if the member says so itself, that it left.
    pub(crate) fn on_dead(
        &mut self,
        scope: &mut Scope<'_>,
        dead: &Dead<'_>,
        source: Source,
        from: Option<SocketAddr>,
    ) {
        let Some((member, known)) = scope.view.by_name(&scope.ctx.roster, dead.node) else { return };
        if !self.believes(scope, Some(known), dead.incarnation, source) {
            return;
        }
        let incarnation = scope.ctx.roster.fact(known.fact).incarnation;
        if dead.incarnation < incarnation || !matches!(known.swim, SwimState::Alive | SwimState::Suspect) {
            if dead.incarnation == incarnation && matches!(known.swim, SwimState::Dead | SwimState::Left) {
                repeated(scope, member, source);
            }
            if member == scope.me && dead.incarnation < incarnation {
                self.answer_obituary(scope, from);
            }
            return;
        }
        if member == scope.me && !self.leaving {
            return self.refute(scope, dead.incarnation, "dead", dead.from, from);
        }
        self.end_suspicion(scope, member);
        self.take_incarnation(scope, member, dead.incarnation);
        let state = if dead.from == dead.node { SwimState::Left } else { SwimState::Dead };
        scope.view.set_swim(&scope.ctx.roster, member, state, scope.ctx.now);
        scope.stats.serfs.dead += 1;
        self.pass_on(scope, member, dead.from, source);
        if state == SwimState::Left && source != Source::Own {
            self.bury(scope, member);
        }
        scope.defer(Deferred::Change(Change::Gone(member)));
    }

    /// A suspicion ran out.
    pub(crate) fn on_suspicion_timeout(&mut self, scope: &mut Scope<'_>, key: TimerKey) {
        let member = MemberIndex(key.subject);
        let Some(suspicion) = self.suspicions.get_mut(&member) else { return };
        if suspicion.generation != key.generation {
            return;
        }
        let late = scope.now().since(suspicion.due());
        if is_late(scope, suspicion.due()) && suspicion.postpone(late + scope.config.probe_timeout) {
            // This node stood still, and a refutation may wait unread.
            let deadline = suspicion.arm(scope.now());
            scope.schedule(deadline, TimerKind::Suspicion, member.0, key.generation);
            return self.awareness.apply(1);
        }
        let confirmations = suspicion.confirmations();
        scope.stats.serfs.timeouts_degraded += u64::from(suspicion.wants_more());
        let name = scope.ctx.roster.name(member).to_owned();
        scope.notice(Notice::MarkingFailed { name: name.clone(), confirmations });
        let incarnation =
            scope.view.incarnation(&scope.ctx.roster, member).expect("a suspect is in the view");
        let from = scope.config.node_name.clone();
        self.on_dead(scope, &Dead { incarnation, node: &name, from: &from }, Source::Own, None);
    }

    /// Announces the departure: this node declares itself dead. From now on no message revives it.
    pub(crate) fn leave(&mut self, scope: &mut Scope<'_>) {
        self.leaving = true;
        scope.dissemination.send_first(scope.me);
        let name = scope.config.node_name.clone();
        let dead = Dead { incarnation: self.incarnation, node: &name, from: &name };
        self.on_dead(scope, &dead, Source::Own, None);
    }

    /// Drops members from the SWIM table that gossip does not go to any longer. The serf layer still lists those
    /// that failed or left.
    pub(crate) fn forget_long_gone(&mut self, scope: &mut Scope<'_>) {
        for member in scope.view.gone() {
            let since = scope.view.swim_since(member).unwrap_or(scope.ctx.now);
            if member == scope.me || scope.ctx.now.since(since) <= scope.config.gossip_to_the_dead {
                continue;
            }
            scope.dissemination.forget_member(scope.ctx, member);
            scope.view.set_swim(&scope.ctx.roster, member, SwimState::Absent, scope.ctx.now);
        }
    }

    fn announce_self(&mut self, scope: &mut Scope<'_>, incarnation: Incarnation, meta: &[u8]) {
        self.incarnation = incarnation;
        let addr = scope.config.advertised_ip();
        let versions = Versions(own_versions(scope.config));
        let alive = Alive {
            incarnation,
            node: &scope.config.node_name,
            addr: addr.into(),
            port: scope.config.advertise.port(),
            meta: meta.into(),
            versions: versions.0[..].into(),
        };
        let fact = scope.ctx.roster.intern_fact(&alive);
        let me = scope.view.set_fact(&mut scope.ctx.roster, fact);
        scope.view.set_swim(&scope.ctx.roster, me, SwimState::Alive, scope.ctx.now);
        scope.stats.serfs.alive += 1;
        scope.broadcast_member(me, me, Source::Own);
    }

    /// Whether a message may name this incarnation of a member; counts it if not.
    #[inline]
    fn believes(
        &mut self,
        scope: &mut Scope<'_>,
        known: Option<Known>,
        named: Incarnation,
        source: Source,
    ) -> bool {
        let known = known.map(|known| scope.ctx.roster.incarnation(known.fact));
        // Most messages say nothing new.
        if known.is_some_and(|known| named <= known && known.0 <= INCARNATION_MAX) {
            return true;
        }
        let believed = source == Source::Own || self.steps.believe(known, named, source, scope.now());
        if !believed {
            scope.drop_input(DropReason::IncarnationRefused, None);
        }
        believed
    }

    /// Answers an accusation with an incarnation above the accused one (SWIM 4.2). `sender`: where the accusation
    /// came from, if it was a datagram.
    fn refute(
        &mut self,
        scope: &mut Scope<'_>,
        accused: Incarnation,
        what: &'static str,
        from: &str,
        sender: Option<SocketAddr>,
    ) {
        if breaks!(scope, IgnoresAccusations) {
            return;
        }
        self.incarnation = Incarnation(accused.max(self.incarnation).0 + 1);
        self.awareness.apply(1);
        scope.stats.refutations += 1;
        scope.notice(Notice::Refuting { what, from: from.to_owned() });
        self.take_incarnation(scope, scope.me, self.incarnation);
        scope.broadcast_member(scope.me, scope.me, Source::Own);
        // The accuser may be gone in this view in turn, and then gossip does not go to it.
        if let Some(sender) = sender.filter(|&sender| scope.view.has_departed(&scope.ctx.roster, sender)) {
            self.introduce_to(scope, sender);
        }
    }

    /// Sends this node's state to an address.
    pub(super) fn introduce_to(&self, scope: &mut Scope<'_>, to: SocketAddr) {
        let Some(known) = scope.view.get(scope.me) else { return };
        let mut message = Vec::new();
        scope.ctx.roster.fact(known.fact).alive(&scope.config.node_name).encode(&mut message);
        scope.send_message(to, |out| out.extend_from_slice(&message));
    }

    /// Stores what a member announced. `named` is the member of that name, if the roster has one.
    fn store_alive(
        &mut self,
        scope: &mut Scope<'_>,
        named: Option<MemberIndex>,
        alive: &Alive<'_>,
        source: Source,
    ) -> MemberIndex {
        let fact = scope.ctx.roster.intern_fact_of(named, alive);
        let member = scope.view.set_fact(&mut scope.ctx.roster, fact);
        scope.view.set_swim(&scope.ctx.roster, member, SwimState::Alive, scope.ctx.now);
        scope.stats.serfs.alive += 1;
        scope.broadcast_member(member, member, source);
        member
    }

    pub(super) fn pass_on(&mut self, scope: &mut Scope<'_>, member: MemberIndex, from: &str, source: Source) {
        let from = scope.ctx.roster.intern_name(from);
        scope.broadcast_member(member, from, source);
        scope.ctx.roster.release_name(from);
    }

    fn confirm_suspicion(
        &mut self,
        scope: &mut Scope<'_>,
        member: MemberIndex,
        suspect: &Suspect<'_>,
        source: Source,
    ) {
        let Some(suspicion) = self.suspicions.get_mut(&member) else { return };
        let from = scope.ctx.roster.intern_name(suspect.from);
        if !suspicion.confirm(from) {
            scope.ctx.roster.release_name(from);
            return repeated(scope, member, source);
        }
        // The suspicion keeps the reference. Its earlier timer is stale from now on.
        self.suspicion_generation = self.suspicion_generation.wrapping_add(1);
        suspicion.generation = self.suspicion_generation;
        let deadline = suspicion.arm(scope.now());
        scope.schedule(deadline, TimerKind::Suspicion, member.0, self.suspicion_generation);
        self.pass_on(scope, member, suspect.from, source);
    }

    pub(super) fn end_suspicion(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        if let Some(suspicion) = self.suspicions.remove(&member) {
            for &accuser in suspicion.accusers() {
                scope.ctx.roster.release_name(accuser);
            }
        }
    }

    pub(super) fn take_incarnation(
        &mut self,
        scope: &mut Scope<'_>,
        member: MemberIndex,
        incarnation: Incarnation,
    ) {
        let Some(known) = scope.view.get(member) else { return };
        if scope.ctx.roster.fact(known.fact).incarnation != incarnation {
            let fact = scope.ctx.roster.intern_with_incarnation(known.fact, incarnation);
            scope.view.set_fact(&mut scope.ctx.roster, fact);
        }
    }
}

/// A message says what the view has already.
#[inline]
fn repeated(scope: &mut Scope<'_>, member: MemberIndex, source: Source) {
    if source == Source::Gossip {
        scope.member_repeated(member);
    }
}

/// Whether a member is announced at the address that is known, in whatever form. Mostly the bytes are the same.
#[inline]
fn is_at(fact: Fact<'_>, alive: &Alive<'_>) -> bool {
    fact.port == alive.port && fact.addr() == &*alive.addr || fact.socket_addr() == socket_addr_of(alive)
}

pub(super) fn address_of(alive: &Alive<'_>) -> std::net::IpAddr {
    crate::wire::ip_from_bytes(&alive.addr).unwrap_or(std::net::IpAddr::from([0, 0, 0, 0]))
}

/// Tags as meta: from protocol 3 the encoded map, before that the bare role (PROTOCOL 5.2).
pub(crate) fn encoded_meta(protocol: u8, tags: &BTreeMap<String, String>) -> Vec<u8> {
    if protocol < 3 {
        return tags.get("role").map(|role| role.as_bytes().to_vec()).unwrap_or_default();
    }
    let mut meta = Vec::new();
    encode_tags(tags, &mut meta);
    meta
}

/// The delegate's meta, if it returns one that fits. With the serf layer the meta is the encoded tags.
fn delegates_meta(scope: &mut Scope<'_>) -> Option<Vec<u8>> {
    if scope.config.serf {
        return None;
    }
    let meta = scope.delegate.as_mut()?.node_meta(META_BYTES_MAX)?;
    scope.fits("node_meta", meta.len(), META_BYTES_MAX).then_some(meta)
}

/// memberlist 1 to 5, speaking 2, which every Serf maps to; serf 2 to 5, speaking what is configured
/// (PROTOCOL 7.1). Zeros without serf, as a bare memberlist announces.
fn own_versions(config: &Config) -> [u8; 6] {
    if config.serf { [1, 5, 2, 2, 5, config.protocol] } else { [1, 5, 2, 0, 0, 0] }
}

/// A range of memberlist protocols that is empty or begins at 0 is refused (PROTOCOL 7.2).
fn versions_make_sense(versions: &[u8]) -> bool {
    match versions {
        [min, max, _, ..] => *min != 0 && *max != 0 && min <= max,
        _ => true,
    }
}
