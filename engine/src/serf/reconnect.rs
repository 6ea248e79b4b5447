//! Reconnecting: this node starts push/pulls with failed members from time to time, and after a restart with those
//! that the snapshot names (PROTOCOL 5.7, 10.1). Both carry the join flag; no join intent follows.

use std::net::SocketAddr;

use crate::deferred::Deferred;
use crate::event::Notice;
use crate::scope::Scope;
use crate::serf::Serf;
use crate::timers::TimerKind;
use crate::view::MemberStatus;

impl Serf {
    /// Perhaps tries a failed member: with probability failed / others that are not gone, so that a cluster
    /// with few failures is not flooded with attempts. As long as no other member is alive, the members of the snapshot
    /// are tried again too.
    pub(crate) fn on_reconnect_timer(&mut self, scope: &mut Scope<'_>) {
        if let Some(addr) = self.pick_failed(scope) {
            scope.defer(Deferred::Reconnect(addr));
        }
        self.rejoin_again(scope);
    }

    fn pick_failed(&mut self, scope: &mut Scope<'_>) -> Option<SocketAddr> {
        let now = scope.ctx.now;
        scope.schedule(now + scope.config.reconnect_interval, TimerKind::Reconnect, 0, 0);
        let failed = scope.view.status_count(MemberStatus::Failed);
        if failed == 0 {
            return None;
        }
        let gone = failed + scope.view.status_count(MemberStatus::Left);
        let others = scope.view.members_count().saturating_sub(gone).max(1);
        if scope.ctx.random.unit() > failed as f64 / others as f64 {
            scope.notice(Notice::ReconnectSkipped);
            return None;
        }
        let member = scope
            .view
            .random_member(&mut scope.ctx.random, |_, known| known.status == MemberStatus::Failed)?;
        let addr = scope.view.socket_addr(&scope.ctx.roster, member)?;
        let name = scope.ctx.roster.name(member).to_owned();
        scope.notice(Notice::Reconnecting { name, addr });
        Some(addr)
    }

    /// Plans to try the members that the snapshot lists as alive, without this node, in random order.
    pub(super) fn plan_rejoin(&mut self, scope: &mut Scope<'_>) {
        self.plan_round(scope, &[&scope.config.restored.alive]);
    }

    /// Tries the members of the snapshot once more, also those that had failed, as long as no other is alive:
    /// after an outage of all, the member that is back first finds no other and would stay alone.
    fn rejoin_again(&mut self, scope: &mut Scope<'_>) {
        if !self.rejoin.is_empty() || self.leaving || scope.others_alive() {
            return;
        }
        let restored = &scope.config.restored;
        self.plan_round(scope, &[&restored.failed, &restored.alive]);
        self.next_rejoin(scope);
    }

    fn plan_round(&mut self, scope: &mut Scope<'_>, lists: &[&Vec<(String, SocketAddr)>]) {
        let (me, here) = (&scope.config.node_name, scope.config.advertise);
        let others = lists.iter().copied().flatten().filter(|(name, addr)| name != me && *addr != here);
        self.rejoin = others.cloned().collect();
        scope.ctx.random.shuffle(&mut self.rejoin);
    }

    /// Tries the next member of the snapshot, if one is left.
    pub(super) fn next_rejoin(&mut self, scope: &mut Scope<'_>) {
        if let Some((name, addr)) = self.rejoin.last().cloned() {
            scope.notice(Notice::Rejoining { name, addr });
            scope.defer(Deferred::Rejoin(addr));
        }
    }

    /// The member tried last answered or did not; in the latter case the next one is tried.
    pub(crate) fn on_rejoined(&mut self, scope: &mut Scope<'_>, answered: bool) {
        let Some(tried) = self.rejoin.pop() else { return };
        if answered {
            self.rejoin.clear();
            scope.notice(Notice::Rejoined { member: Some(tried) });
        } else if self.rejoin.is_empty() {
            scope.notice(Notice::Rejoined { member: None });
        }
        self.next_rejoin(scope);
    }
}
