//! The commands that answer once: join, leave, force-leave, tags, keys.

use std::collections::BTreeMap;

use hyper::StatusCode;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use thane_engine::command::KeyOperation;

use super::body::{self, Refusal, Reply};
use super::json::refusal;
use super::site::{Site, TagsRefused};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    addresses: Vec<String>,
    #[serde(default)]
    replay: bool,
}

pub(super) async fn join(site: &dyn Site, request: Incoming) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Joined {
        joined: usize,
    }
    let Join { addresses, replay } = body::read(request).await?;
    if addresses.is_empty() {
        return Err(body::error(StatusCode::BAD_REQUEST, "'addresses' is empty"));
    }
    match site.join(&addresses, replay).await {
        Ok(joined) => Ok(body::json(StatusCode::OK, &Joined { joined })),
        Err(error) => Err(body::error(StatusCode::BAD_GATEWAY, error)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Leaves. After the response the agent ends.
pub(super) async fn leave(site: &dyn Site, request: Incoming) -> Result<Reply, Refusal> {
    let Nothing {} = body::read(request).await?;
    site.leave().await.map_err(|error| refusal(&error))?;
    Ok(body::done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForceLeave {
    name: String,
    #[serde(default)]
    prune: bool,
}

pub(super) async fn force_leave(site: &dyn Site, request: Incoming) -> Result<Reply, Refusal> {
    let ForceLeave { name, prune } = body::read(request).await?;
    site.force_leave(&name, prune).await.map_err(|error| refusal(&error))?;
    Ok(body::done())
}

pub(super) async fn tags(site: &dyn Site) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Tags {
        tags: BTreeMap<String, String>,
    }
    let tags = site.handle().tags().await.map_err(|error| refusal(&error))?;
    Ok(body::json(StatusCode::OK, &Tags { tags }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeTags {
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    delete: Vec<String>,
}

pub(super) async fn change_tags(site: &dyn Site, request: Incoming) -> Result<Reply, Refusal> {
    let ChangeTags { set, delete } = body::read(request).await?;
    match site.change_tags(set, delete).await {
        Ok(()) => Ok(body::done()),
        Err(TagsRefused::Node(error)) => Err(refusal(&error)),
        Err(TagsRefused::Owner(text)) => Err(body::error(StatusCode::INTERNAL_SERVER_ERROR, text)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeKeys {
    operation: Change,
    key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Change {
    Install,
    Use,
    Remove,
}

pub(super) async fn list_keys(site: &dyn Site) -> Result<Reply, Refusal> {
    keys(site, KeyOperation::List, Vec::new()).await
}

pub(super) async fn change_keys(site: &dyn Site, request: Incoming) -> Result<Reply, Refusal> {
    let ChangeKeys { operation, key } = body::read(request).await?;
    let key = crate::base64::decode(&key)
        .map_err(|error| body::error(StatusCode::BAD_REQUEST, format!("the key is not base64: {error}")))?;
    let operation = match operation {
        Change::Install => KeyOperation::Install,
        Change::Use => KeyOperation::Use,
        Change::Remove => KeyOperation::Remove,
    };
    keys(site, operation, key).await
}

/// 502 if a member did not do it: the report says which.
async fn keys(site: &dyn Site, operation: KeyOperation, key: Vec<u8>) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Report {
        error: Option<String>,
        nodes: usize,
        responses: usize,
        errors: usize,
        messages: BTreeMap<String, String>,
        /// On how many nodes each key is; of a list only.
        keys: BTreeMap<String, usize>,
    }
    let report = site.keys(operation, key).await.map_err(|error| refusal(&error))?;
    let error = report.error();
    let status = if error.is_some() { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
    let (nodes, responses, errors) = (report.nodes, report.responses, report.errors);
    let (messages, keys) = (report.messages, report.keys);
    Ok(body::json(status, &Report { error, nodes, responses, errors, messages, keys }))
}
