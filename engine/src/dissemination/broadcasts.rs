//! The queued broadcasts of one node, and how they fill a packet.
//!
//! Broadcasts about members are kept as member indices and encoded from the view into the packet; a member is
//! queued at most once, and what is sent about it is what the view says at that moment. Serf messages are kept
//! as the bytes that arrived.

use bytes::Bytes;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::queue::{BroadcastQueue, Class, Place};
use crate::context::Context;
use crate::deferred::{Deferred, DeferredQueue, Finished};
use crate::ids::BroadcastId;
use crate::roster::{MemberIndex, Roster};
use crate::time::Time;
use crate::view::{SwimState, View};
use crate::wire::{Dead, Suspect, message};

/// In how many packets a broadcast goes out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// One about a member.
    pub(super) member: u32,
    /// A serf message.
    pub(super) user: u32,
}

/// One of this many packets begins with a serf message.
const PACKETS_IN_TURN: u32 = 4;

/// A broadcast that a policy follows from its queueing on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// News about a member.
    Member(MemberIndex, BroadcastId),
    /// The serf message with that key.
    Message(u64, BroadcastId),
}

/// Queued news about one member.
#[derive(Copy, Clone, Debug)]
struct News {
    id: BroadcastId,
    member: MemberIndex,
    /// The member that the message names as its source. Holds a reference to the name.
    from: MemberIndex,
    /// The policy follows it.
    followed: bool,
    /// When it was queued.
    at: Time,
}

/// A queued serf message.
#[derive(Debug)]
struct Message {
    id: BroadcastId,
    /// By which the policy finds it again, if it follows it.
    key: Option<u64>,
    bytes: Bytes,
    /// When it was queued.
    at: Time,
}

/// The queued broadcasts of one node.
#[derive(Debug, Default)]
pub(super) struct Broadcasts {
    next_id: u64,
    news: BroadcastQueue<News>,
    places: HashMap<MemberIndex, Place, foldhash::fast::FixedState>,
    user: [BroadcastQueue<Message>; 4],
    /// Where the followed serf messages are.
    keys: HashMap<u64, (Class, Place), foldhash::fast::FixedState>,
    /// Cut from each of `user` since the last call of `take_dropped`.
    dropped: [usize; 4],
    /// Packets filled; decides whose turn it is.
    packets: u32,
    /// The member whose news goes before all other news: this node, once it leaves.
    pub(super) first: Option<MemberIndex>,
    /// A command waits for broadcasts to finish: those that do are deferred.
    pub(super) watched: bool,
}

impl Broadcasts {
    /// Queues the member's state as the view has it. Replaces what is queued about the member. Returns it if it is
    /// `followed`.
    pub(super) fn queue_member(
        &mut self,
        ctx: &mut Context,
        view: &View,
        member: MemberIndex,
        from: MemberIndex,
        followed: bool,
    ) -> Option<Item> {
        let Some(bytes) = encoded_len(&ctx.roster, view, member, from) else {
            self.forget_member(ctx, member);
            return None;
        };
        ctx.roster.retain_name(from);
        let id = self.new_id();
        let news = News { id, member, from, followed, at: ctx.now };
        match self.places.entry(member) {
            Entry::Vacant(place) => {
                place.insert(self.news.push(id, bytes, news));
            }
            Entry::Occupied(mut place) => {
                let old = self.news.remove(*place.get());
                *place.get_mut() = self.news.push(id, bytes, news);
                ctx.roster.release_name(old.from);
                self.finish(&mut ctx.deferred, Finished::Member(member));
            }
        }
        followed.then_some(Item::Member(member, id))
    }

    /// Drops what is queued about a member: it became stale or the member is gone.
    #[inline]
    pub(super) fn forget_member(&mut self, ctx: &mut Context, member: MemberIndex) {
        if !self.places.is_empty() {
            self.take_member(ctx, member);
        }
    }

    fn take_member(&mut self, ctx: &mut Context, member: MemberIndex) {
        if let Some(place) = self.places.remove(&member) {
            ctx.roster.release_name(self.news.remove(place).from);
            self.finish(&mut ctx.deferred, Finished::Member(member));
        }
    }

    /// Queues a serf message; with a `key` it is followed. Beyond `max` of a class those sent most often are dropped;
    /// returns how many.
    pub(super) fn queue_user(
        &mut self,
        ctx: &mut Context,
        class: Class,
        bytes: Bytes,
        max: usize,
        key: Option<u64>,
    ) -> (BroadcastId, usize) {
        let dropped = self.prune_user(ctx, class, max.saturating_sub(1));
        let id = self.new_id();
        // Serf counts the user message's type byte as overhead.
        let place =
            self.user[class as usize].push(id, bytes.len() + 1, Message { id, key, bytes, at: ctx.now });
        if let Some(key) = key {
            self.keys.insert(key, (class, place));
        }
        (id, dropped)
    }

    /// Counts one transmission of a followed broadcast that another node made to this one.
    pub(super) fn heard_member(&mut self, ctx: &mut Context, member: MemberIndex, limits: Limits) {
        if let Some(&place) = self.places.get(&member)
            && let Some(news) = self.news.get(place)
            && news.followed
        {
            self.advance(ctx, Item::Member(member, news.id), 1, limits);
        }
    }

    /// The same for a serf message.
    pub(super) fn heard_message(&mut self, ctx: &mut Context, key: u64, limits: Limits) {
        if let Some(message) = self.message(key) {
            self.advance(ctx, Item::Message(key, message.id), 1, limits);
        }
    }

    /// Counts so many transmissions of a followed broadcast that did not go out through [`fill`](Self::fill).
    pub(super) fn advance(&mut self, ctx: &mut Context, item: Item, times: u32, limits: Limits) {
        if !self.holds(item) {
            return;
        }
        let id = self.new_id();
        match item {
            Item::Member(member, _) => {
                if let Some(news) = self.news.advance(self.places[&member], times, limits.member, id) {
                    self.places.remove(&member);
                    ctx.roster.release_name(news.from);
                    self.finish(&mut ctx.deferred, Finished::Member(member));
                }
            }
            Item::Message(key, _) => {
                let (class, place) = self.keys[&key];
                if let Some(message) = self.user[class as usize].advance(place, times, limits.user, id) {
                    self.finish_message(&mut ctx.deferred, &message);
                }
            }
        }
    }

    /// Whether a followed broadcast is still queued, and not replaced.
    fn holds(&self, item: Item) -> bool {
        match item {
            Item::Member(member, id) => {
                let news = self.places.get(&member).and_then(|&place| self.news.get(place));
                news.is_some_and(|news| news.id == id)
            }
            Item::Message(key, id) => self.message(key).is_some_and(|message| message.id == id),
        }
    }

    fn message(&self, key: u64) -> Option<&Message> {
        let &(class, place) = self.keys.get(&key)?;
        self.user[class as usize].get(place)
    }

    /// Appends a followed broadcast to the packet under assembly, without counting that. Returns false if there is no
    /// room for it. One that is not queued any more is skipped.
    pub(super) fn append(&self, ctx: &mut Context, view: &View, item: Item) -> bool {
        if !self.holds(item) {
            return true;
        }
        let Context { assembler, roster, .. } = ctx;
        match item {
            Item::Member(member, _) => {
                let Some(&news) = self.news.get(self.places[&member]) else { return true };
                let bytes = encoded_len(roster, view, member, news.from).unwrap_or_default();
                let fits = bytes <= assembler.remaining();
                if fits {
                    assembler.push(|out| encode(roster, view, news, out));
                }
                fits
            }
            Item::Message(key, _) => {
                let Some(message) = self.message(key) else { return true };
                let fits = message.bytes.len() < assembler.remaining();
                if fits {
                    assembler.push(|out| encode_user(&message.bytes, out));
                }
                fits
            }
        }
    }

    /// How many members have queued news.
    pub(super) fn news_len(&self) -> usize {
        self.news.len()
    }

    /// Whether the queues are empty.
    pub(super) fn is_empty(&self) -> bool {
        self.news.is_empty() && self.user.iter().all(BroadcastQueue::is_empty)
    }

    /// How many serf messages of a class are queued.
    pub(super) fn user_len(&self, class: Class) -> usize {
        self.user[class as usize].len()
    }

    /// Since when the oldest serf message of a class is queued.
    pub(super) fn oldest_user(&self, class: Class) -> Option<Time> {
        self.user[class as usize].values().map(|message| message.at).min()
    }

    /// Since when the oldest news about a member is queued.
    pub(super) fn oldest_news(&self) -> Option<Time> {
        self.news.values().map(|news| news.at).min()
    }

    /// How many serf messages of a class were dropped since the last call.
    pub(super) fn take_dropped(&mut self, class: Class) -> usize {
        std::mem::take(&mut self.dropped[class as usize])
    }

    /// Cuts a class to `max` entries, those sent most often first. Returns how many were dropped.
    fn prune_user(&mut self, ctx: &mut Context, class: Class, max: usize) -> usize {
        let mut dropped = 0;
        let keys = &mut self.keys;
        self.user[class as usize].prune(max, |_, message| {
            dropped += 1;
            if let Some(key) = message.key {
                keys.remove(&key);
            }
            if self.watched {
                ctx.deferred.push_back(Deferred::Finished(Finished::User(message.id)));
            }
        });
        self.dropped[class as usize] += dropped;
        dropped
    }

    /// One more packet is about to be filled, or there is nothing to fill it with.
    pub(super) fn count_packet(&mut self) {
        self.packets = self.packets.wrapping_add(1);
    }

    /// Fills the packet under assembly: members first, then intents, queries and events. Every fourth packet
    /// begins with one of the latter, in turn, so that a flood about members does not hold them up for good.
    pub(super) fn fill(&mut self, ctx: &mut Context, view: &View, limits: Limits) {
        self.fill_user(ctx, Class::OwnLeave, limits);
        if self.packets.is_multiple_of(PACKETS_IN_TURN) {
            let turn = (self.packets / PACKETS_IN_TURN) as usize % Class::ALL.len();
            self.fill_user(ctx, Class::ALL[turn], limits);
        }
        self.fill_members(ctx, view, limits);
        self.news.unpark();
        for class in Class::ALL {
            self.fill_user(ctx, class, limits);
        }
        self.user.iter_mut().for_each(BroadcastQueue::unpark);
    }

    /// Empties the queues and returns the references to names; the node is gone.
    pub(super) fn clear(&mut self, roster: &mut Roster) {
        for news in self.news.take_all() {
            roster.release_name(news.from);
        }
        *self = Broadcasts::default();
    }

    fn fill_members(&mut self, ctx: &mut Context, view: &View, limits: Limits) {
        if let Some(place) = self.first.and_then(|member| self.places.get(&member).copied()) {
            let id = self.new_id();
            if let Some(&news) = self.news.take(place, ctx.assembler.remaining(), id) {
                self.send_news(ctx, view, limits, news);
            }
        }
        while let Some(&news) = self.news.take_best(ctx.assembler.remaining()) {
            self.send_news(ctx, view, limits, news);
        }
    }

    /// Sends what was just taken.
    fn send_news(&mut self, ctx: &mut Context, view: &View, limits: Limits, news: News) {
        let Context { assembler, roster, deferred, .. } = ctx;
        assembler.push(|out| encode(roster, view, news, out));
        if self.news.sent(limits.member).is_some() {
            self.places.remove(&news.member);
            roster.release_name(news.from);
            self.finish(deferred, Finished::Member(news.member));
        }
    }

    fn fill_user(&mut self, ctx: &mut Context, class: Class, limits: Limits) {
        while let Some(message) = self.user[class as usize].take_best(ctx.assembler.remaining()) {
            ctx.assembler.push(|out| encode_user(&message.bytes, out));
            if let Some((_, message)) = self.user[class as usize].sent(limits.user) {
                self.finish_message(&mut ctx.deferred, &message);
            }
        }
    }

    fn finish_message(&mut self, deferred: &mut DeferredQueue, message: &Message) {
        if let Some(key) = message.key {
            self.keys.remove(&key);
        }
        self.finish(deferred, Finished::User(message.id));
    }

    fn finish(&self, deferred: &mut DeferredQueue, finished: Finished) {
        if self.watched {
            deferred.push_back(Deferred::Finished(finished));
        }
    }

    fn new_id(&mut self) -> BroadcastId {
        self.next_id += 1;
        BroadcastId(self.next_id)
    }
}

fn encode_user(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(message::USER);
    out.extend_from_slice(bytes);
}

/// Length of the message about a member, without encoding it. `None` if there is no message.
fn encoded_len(roster: &Roster, view: &View, member: MemberIndex, from: MemberIndex) -> Option<usize> {
    let known = view.get(member)?;
    let fact = roster.fact(known.fact);
    let (node, from) = (roster.name(member), roster.name(from));
    match known.swim {
        SwimState::Absent => None,
        SwimState::Alive => Some(fact.alive(node).encoded_len()),
        SwimState::Suspect => Some(Suspect { incarnation: fact.incarnation, node, from }.encoded_len()),
        SwimState::Dead | SwimState::Left => {
            Some(Dead { incarnation: fact.incarnation, node, from }.encoded_len())
        }
    }
}

fn encode(roster: &Roster, view: &View, news: News, out: &mut Vec<u8>) {
    let known = view.get(news.member).expect("news about a forgotten member is forgotten too");
    let fact = roster.fact(known.fact);
    let (node, from) = (roster.name(news.member), roster.name(news.from));
    match known.swim {
        SwimState::Absent => unreachable!("news about a member that left the table is forgotten"),
        SwimState::Alive => fact.alive(node).encode(out),
        SwimState::Suspect => Suspect { incarnation: fact.incarnation, node, from }.encode(out),
        SwimState::Dead | SwimState::Left => {
            Dead { incarnation: fact.incarnation, node, from }.encode(out);
        }
    }
}
