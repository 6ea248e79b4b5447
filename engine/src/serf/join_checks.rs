//! Questions to the targets of joins: whom do you list under my name? They are asked like votes about a name
//! (`name_votes`), which Serf members answer as well, but straight, and with a Lamport time that moves nobody's clock.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::deferred::{Deferred, JoinAnswer, JoinTarget};
use crate::scope::Scope;
use crate::serf::Serf;
use crate::serf::internal::CONFLICT;
use crate::view::MemberStatus;
use crate::wire::serf::{FLAG_NO_BROADCAST, Query, QueryResponse};
use crate::wire::{LamportTime, SerfMessage, ip_from_bytes};

/// Questions that are remembered; beyond it the oldest is forgotten, and asked again.
const ASKED_MAX: usize = 512;
/// How long an answer is of use to a member that puts it off, in nanoseconds.
const TIMEOUT: i64 = 3_000_000_000;

/// The questions that were asked.
#[derive(Debug, Default)]
pub(super) struct JoinChecks(VecDeque<(LamportTime, u32, JoinTarget)>);

impl Serf {
    /// Asks the target of a join. False if this node's protocol has no queries.
    pub(crate) fn ask_whether_known(
        &mut self,
        scope: &mut Scope<'_>,
        to: SocketAddr,
        target: JoinTarget,
    ) -> bool {
        if scope.config.protocol < super::query::QUERY_PROTOCOL_MIN {
            return false;
        }
        let name = scope.config.node_name.as_str();
        let query = Query {
            ltime: LamportTime(self.query_clock.time().0.saturating_sub(1)),
            id: scope.ctx.random.below(1 << 31),
            addr: scope.config.advertised_ip().into(),
            port: scope.config.advertise.port(),
            source_node: name,
            flags: FLAG_NO_BROADCAST,
            timeout: TIMEOUT,
            name: CONFLICT,
            payload: name.as_bytes().into(),
            ..Query::default()
        };
        let mut bytes = Vec::new();
        query.encode(&mut bytes);
        if self.join_checks.0.len() >= ASKED_MAX {
            self.join_checks.0.pop_front();
        }
        self.join_checks.0.push_back((query.ltime, query.id, target));
        scope.send_user(to, &bytes);
        true
    }

    /// Whether a response answers such a question; hands the answer on if so.
    pub(super) fn is_join_answer(&mut self, scope: &mut Scope<'_>, response: &QueryResponse<'_>) -> bool {
        let asked = &self.join_checks.0;
        let is_it =
            |(ltime, id, _): &&(LamportTime, u32, JoinTarget)| *ltime == response.ltime && *id == response.id;
        let Some(&(_, _, target)) = asked.iter().find(is_it) else { return false };
        let has_us = match SerfMessage::decode(&response.payload) {
            Ok(SerfMessage::ConflictResponse(Some(record))) => {
                let there = ip_from_bytes(&record.addr).map(|ip| SocketAddr::new(ip, record.port));
                let here = [MemberStatus::Alive, MemberStatus::Leaving].map(|status| status as u8);
                there == Some(scope.config.advertise) && here.contains(&record.status)
            }
            _ => false,
        };
        let from = response.from.to_owned();
        scope.defer(Deferred::JoinAnswered(JoinAnswer { target, from, has_us }));
        true
    }
}
