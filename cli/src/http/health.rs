//! `/v1/health`: whether the agent lives and is ready.

use hyper::StatusCode;
use serde::Serialize;
use thane_engine::view::MemberStatus;

use super::body::{self, Reply};
use super::site::Site;

#[derive(Serialize)]
struct Health {
    name: String,
    live: bool,
    ready: bool,
    /// Why it is not.
    reason: Option<&'static str>,
    members: usize,
    failed: usize,
    health_score: u32,
}

/// 200 if the agent is ready: it has joined, and it does not leave; else 503. With `live`, 200 in any case.
pub(super) async fn health(site: &dyn Site, only_live: bool) -> Reply {
    let (own, stats) = match (site.handle().local_member().await, site.handle().stats().await) {
        (Ok(own), Ok(stats)) => (own, stats),
        (Err(error), _) | (_, Err(error)) => return super::json::refusal(&error).into(),
    };
    let reason = match own.status {
        MemberStatus::Alive if site.has_joined() => None,
        MemberStatus::Alive => Some("the agent has not joined its cluster yet"),
        MemberStatus::Leaving | MemberStatus::Left => Some("the agent has left, or is leaving"),
        _ => Some("the agent is starting"),
    };
    let ready = reason.is_none();
    let (members, failed, health_score) = (stats.members, stats.failed, stats.health_score);
    let status = if ready || only_live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    body::json(status, &Health { name: own.name, live: true, ready, reason, members, failed, health_score })
}
