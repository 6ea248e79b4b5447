//! The commands of an application, and the steps of a graceful leave.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::Node;
use super::layers::{MESSAGE_BYTES_MAX, gossip_message};
use crate::command::{CommandError, KeyOperation, QueryParams, QueryToken, Ticket};
use crate::context::Context;
use crate::deferred::Finished;
use crate::dissemination::{BroadcastId, Source};
use crate::event::Completion;
use crate::scope::Scope;
use crate::swim::encoded_meta;
use crate::timers::{TimerKey, TimerKind};
use crate::view::{Known, SwimState};
use crate::wire::limits::META_BYTES_MAX;

/// Tags updates and force-leaves that may wait for their broadcasts at one time.
const WAITERS_MAX: usize = 256;

/// How far this node's graceful leave got.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Not leaving.
    No,
    /// The leave intent goes out, before the departure: peers that hear of the departure first report a failure
    /// (PROTOCOL 5.7).
    Announcing(Ticket, BroadcastId),
    /// The departure goes out.
    Departing(Ticket),
    /// The departure went out and gets time to spread.
    Spreading(Ticket),
    /// This node has left.
    Left,
}

impl Node {
    /// Joins through each target by push/pull; with `ignore_old`, user events from before the join are not
    /// delivered. Completes with [`Completion::Joined`].
    ///
    /// # Errors
    /// After a leave, or with too many joins under way. Nothing was changed.
    pub fn join(
        &mut self,
        ctx: &mut Context,
        ticket: Ticket,
        targets: Vec<SocketAddr>,
        ignore_old: bool,
    ) -> Result<(), CommandError> {
        self.command(ctx, |node, ctx| {
            if node.leave != Leave::No {
                return Err(CommandError::JoinAfterLeave);
            }
            node.streams.join(&mut node.shared.scope(ctx), ticket, targets, ignore_old)
        })
    }

    /// Leaves: announces the leave and gives the news time to spread. Completes with [`Completion::Left`].
    ///
    /// # Errors
    /// While a leave is under way; nothing was changed. A node that has left completes at once.
    pub fn leave(&mut self, ctx: &mut Context, ticket: Ticket) -> Result<(), CommandError> {
        self.command(ctx, |node, ctx| {
            match node.leave {
                Leave::No => {}
                Leave::Left => {
                    ctx.out.completions.push((node.shared.id, ticket, Completion::Left));
                    return Ok(());
                }
                _ => return Err(CommandError::LeaveInProgress),
            }
            node.shared.dissemination.watch(true);
            let scope = &mut node.shared.scope(ctx);
            let Some(intent) = node.top.announce_leave(scope) else {
                node.depart(ctx, ticket);
                return Ok(());
            };
            node.leave = Leave::Announcing(ticket, intent);
            let wait = broadcast_wait(scope);
            scope.schedule(scope.now() + wait, TimerKind::Leave, 0, 0);
            // What is queued goes out at once, not with the next round.
            scope.gossip_now();
            Ok(())
        })
    }

    /// Replaces this node's tags. Completes with [`Completion::Broadcasted`].
    ///
    /// # Errors
    /// If the tags are too long, the meta is the delegate's, the node is leaving, or too many updates wait.
    /// Nothing was changed.
    pub fn set_tags(
        &mut self,
        ctx: &mut Context,
        ticket: Ticket,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), CommandError> {
        self.command(ctx, |node, ctx| {
            node.check_update()?;
            if node.swim.meta_is_delegates {
                return Err(CommandError::MetaGivenBy("the delegate"));
            }
            let scope = &mut node.shared.scope(ctx);
            if encoded_meta(scope.config.protocol, tags).len() > META_BYTES_MAX {
                return Err(CommandError::TagsTooLong(META_BYTES_MAX));
            }
            if scope.config.protocol < 3
                && let Ok(serf) = node.top.serf()
            {
                serf.hidden_tags = tags.clone();
            }
            node.swim.update_tags(scope, tags);
            node.wait_for(ctx, Finished::Member(node.shared.me), ticket);
            Ok(())
        })
    }

    /// Changes some of this node's tags: removes those in `remove`, then adds or changes those in `set`.
    /// Completes with [`Completion::Broadcasted`].
    ///
    /// # Errors
    /// As those of [`set_tags`](Self::set_tags).
    pub fn update_tags(
        &mut self,
        ctx: &mut Context,
        ticket: Ticket,
        set: BTreeMap<String, String>,
        remove: &[String],
    ) -> Result<(), CommandError> {
        let mut tags = self.local_member(ctx).tags;
        tags.retain(|name, _| !remove.contains(name));
        tags.extend(set);
        self.set_tags(ctx, ticket, &tags)
    }

    /// Asks the delegate for this node's meta again and announces it. Completes with
    /// [`Completion::Broadcasted`].
    ///
    /// # Errors
    /// If the delegate returned none when the node started or returns none now, the node is leaving, or too
    /// many updates wait. Nothing was changed.
    pub fn update_meta(&mut self, ctx: &mut Context, ticket: Ticket) -> Result<(), CommandError> {
        self.command(ctx, |node, ctx| {
            node.check_update()?;
            if !node.swim.ask_meta(&mut node.shared.scope(ctx)) {
                return Err(CommandError::MetaGivenBy("its tags"));
            }
            node.wait_for(ctx, Finished::Member(node.shared.me), ticket);
            Ok(())
        })
    }

    /// Gossips a message of the program to all other nodes; their delegates receive it. Plain SWIM only.
    ///
    /// # Errors
    /// If it is longer than 1024 bytes, or too many wait. Nothing was changed.
    pub fn broadcast(&mut self, ctx: &mut Context, message: Bytes) -> Result<(), CommandError> {
        self.command(ctx, |node, ctx| {
            node.check_plain()?;
            gossip_message(&mut node.shared.scope(ctx), message, Source::Own)
        })
    }

    /// Sends a message of the program straight to one member; its delegate receives it unless the datagram is
    /// lost. Plain SWIM only.
    ///
    /// # Errors
    /// If it is longer than 1024 bytes, or no member of that name is alive. Nothing was sent.
    pub fn send(&mut self, ctx: &mut Context, member: &str, message: &[u8]) -> Result<(), CommandError> {
        self.command(ctx, |node, ctx| {
            node.check_plain()?;
            if message.len() > MESSAGE_BYTES_MAX {
                return Err(CommandError::MessageTooLong(MESSAGE_BYTES_MAX));
            }
            let view = &node.shared.view;
            let reachable = |known: Known| matches!(known.swim, SwimState::Alive | SwimState::Suspect);
            let found = view.by_name(&ctx.roster, member).filter(|(_, known)| reachable(*known));
            let addr = found.and_then(|(member, _)| view.socket_addr(&ctx.roster, member));
            let addr = addr.ok_or_else(|| CommandError::UnknownMember(member.to_owned()))?;
            node.shared.scope(ctx).send_user(addr, message);
            Ok(())
        })
    }

    /// Runs a command, then settles what it deferred, also where it was refused.
    fn command<T>(&mut self, ctx: &mut Context, run: impl FnOnce(&mut Node, &mut Context) -> T) -> T {
        let result = run(self, ctx);
        self.settle(ctx);
        result
    }

    fn check_plain(&self) -> Result<(), CommandError> {
        if self.shared.config.serf { Err(CommandError::NotSupported) } else { Ok(()) }
    }

    /// Checks that this node's meta may be changed now.
    fn check_update(&self) -> Result<(), CommandError> {
        if self.leave != Leave::No {
            return Err(CommandError::LeaveInProgress);
        }
        if self.waiters.len() >= WAITERS_MAX {
            return Err(CommandError::Busy("tags updates"));
        }
        Ok(())
    }

    /// Declares a failed member left; with `prune` all members erase it. A member that is alive refutes it.
    /// Completes with [`Completion::Broadcasted`].
    ///
    /// # Errors
    /// With too many of them under way, or without the serf layer. Nothing was changed.
    pub fn force_leave(
        &mut self,
        ctx: &mut Context,
        ticket: Ticket,
        node: &str,
        prune: bool,
    ) -> Result<(), CommandError> {
        let member = node;
        self.command(ctx, |node, ctx| {
            if node.waiters.len() >= WAITERS_MAX {
                return Err(CommandError::Busy("force-leaves"));
            }
            let intent = node.top.serf()?.force_leave(&mut node.shared.scope(ctx), member, prune);
            node.wait_for(ctx, Finished::User(intent), ticket);
            Ok(())
        })
    }

    /// Sends a user event to all nodes, this one included. One that fits no gossip packet goes out by push/pulls, of
    /// which this node starts some at once.
    ///
    /// # Errors
    /// If it is too long, or without the serf layer. Nothing was changed.
    pub fn user_event(
        &mut self,
        ctx: &mut Context,
        name: &str,
        payload: &Bytes,
        coalesce: bool,
    ) -> Result<(), CommandError> {
        self.command(ctx, |node, ctx| {
            let scope = &mut node.shared.scope(ctx);
            if !node.top.serf()?.user_event(scope, name, payload, coalesce)? {
                node.early.spread(scope);
            }
            Ok(())
        })
    }

    /// Asks all nodes, this one included. Returns for how long answers are taken. Completes many times, with
    /// [`Completion::QueryAck`], [`Completion::QueryResponse`] and at the end [`Completion::QueryDone`].
    ///
    /// # Errors
    /// If it is too long, its name is reserved, too many run, or without the serf layer. Nothing was changed.
    pub fn query(
        &mut self,
        ctx: &mut Context,
        ticket: Ticket,
        params: &QueryParams,
    ) -> Result<Duration, CommandError> {
        self.command(ctx, |node, ctx| node.top.serf()?.query(&mut node.shared.scope(ctx), ticket, params))
    }

    /// Asks all nodes, this one included, to perform a key operation. Returns for how long answers are taken;
    /// they come like those of a query, and each payload is a key response. Listing takes no key.
    ///
    /// # Errors
    /// If too many queries run, or without the serf layer. Nothing was changed.
    pub fn key_query(
        &mut self,
        ctx: &mut Context,
        ticket: Ticket,
        operation: KeyOperation,
        key: &[u8],
    ) -> Result<Duration, CommandError> {
        self.command(ctx, |node, ctx| {
            node.top.serf()?.key_query(&mut node.shared.scope(ctx), ticket, operation, key)
        })
    }

    /// The keys that this node put out are in its keyring file, or the reason why they are not, which the answer to
    /// the query carries. The keys are unchanged then.
    pub fn keyring_written(&mut self, ctx: &mut Context, outcome: Result<(), String>) {
        self.command(ctx, |node, ctx| {
            if let Ok(serf) = node.top.serf() {
                serf.on_keyring_written(&mut node.shared.scope(ctx), outcome);
            }
        });
    }

    /// Answers a query that an event reported.
    ///
    /// # Errors
    /// If it is over, was answered already, or the answer is too long. Nothing was sent.
    pub fn respond(
        &mut self,
        ctx: &mut Context,
        query: QueryToken,
        payload: &Bytes,
    ) -> Result<(), CommandError> {
        self.command(ctx, |node, ctx| node.top.serf()?.respond(&mut node.shared.scope(ctx), query, payload))
    }

    /// The time for a step of the leave is over.
    pub(super) fn go_on_leaving(&mut self, ctx: &mut Context, key: TimerKey) {
        match (self.leave, key.generation) {
            (Leave::Announcing(ticket, _), 0) => self.depart(ctx, ticket),
            (Leave::Departing(ticket), 1) => self.spread(ctx, ticket),
            (Leave::Spreading(ticket), 2) => {
                self.leave = Leave::Left;
                self.swim.has_left = true;
                ctx.out.completions.push((self.shared.id, ticket, Completion::Left));
            }
            _ => {}
        }
    }

    fn depart(&mut self, ctx: &mut Context, ticket: Ticket) {
        self.leave = Leave::Departing(ticket);
        let scope = &mut self.shared.scope(ctx);
        self.swim.leave(scope);
        let wait = broadcast_wait(scope);
        scope.schedule(scope.now() + wait, TimerKind::Leave, 0, 1);
        scope.gossip_now();
    }

    fn spread(&mut self, ctx: &mut Context, ticket: Ticket) {
        self.leave = Leave::Spreading(ticket);
        let scope = &mut self.shared.scope(ctx);
        scope.schedule(scope.now() + scope.config.leave_propagate_delay, TimerKind::Leave, 0, 2);
    }

    /// Completes the ticket once the broadcast went out, or after the broadcast timeout. A node that is alone
    /// does not wait.
    fn wait_for(&mut self, ctx: &mut Context, broadcast: Finished, ticket: Ticket) {
        self.shared.dissemination.watch(true);
        self.next_waiter = self.next_waiter.wrapping_add(1);
        self.waiters.insert(self.next_waiter, (broadcast, ticket));
        let scope = &mut self.shared.scope(ctx);
        let wait = broadcast_wait(scope);
        let alone = u32::from(wait.is_zero());
        scope.schedule(scope.now() + wait, TimerKind::BroadcastTimeout, self.next_waiter, alone);
    }

    pub(super) fn end_waiter(&mut self, ctx: &mut Context, waiter: u32, in_time: bool) {
        if let Some((_, ticket)) = self.waiters.remove(&waiter) {
            ctx.out.completions.push((self.shared.id, ticket, Completion::Broadcasted { in_time }));
        }
    }

    /// A broadcast needs no more transmissions: a leave goes on, and commands that waited for it complete.
    pub(super) fn on_finished(&mut self, ctx: &mut Context, finished: Finished) {
        match self.leave {
            Leave::Announcing(ticket, intent) if finished == Finished::User(intent) => {
                self.depart(ctx, ticket)
            }
            Leave::Departing(ticket) if finished == Finished::Member(self.shared.me) => {
                self.spread(ctx, ticket)
            }
            _ => {}
        }
        while let Some(waiter) = self.waiter_for(finished) {
            self.end_waiter(ctx, waiter, true);
        }
    }

    fn waiter_for(&self, finished: Finished) -> Option<u32> {
        let found = self.waiters.iter().find(|(_, (awaited, _))| *awaited == finished);
        found.map(|(&waiter, _)| waiter)
    }

    /// Whether a leave or a command waits for a broadcast to finish.
    pub(super) fn awaits_broadcasts(&self) -> bool {
        matches!(self.leave, Leave::Announcing(..) | Leave::Departing(_)) || !self.waiters.is_empty()
    }
}

/// How long to wait for a broadcast to go out: not at all if there is no member to send it to.
fn broadcast_wait(scope: &Scope<'_>) -> Duration {
    if scope.others_alive() { scope.config.broadcast_timeout } else { Duration::ZERO }
}
