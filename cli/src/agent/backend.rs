//! What the agent's doors (RPC, signals, start-up) work with: the node, its events, the log, tags, numbers.
//!
//! Each command here logs what Serf's agent logs for it, whoever asked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use thane_engine::api::{Answers, ApiError, Handle, JoinError};
use thane_engine::command::{CommandError, QueryParams};
use thane_engine::event::Event;
use thiserror::Error;
use tokio::sync::{Mutex, Notify, broadcast};

use super::identity::{SelfIdentity, write_tags};
use super::level::Level;
use super::log::Log;
use super::numbers::{Numbers, RpcCounters};
use super::telemetry::Counters;

/// Events that wait for the slowest reader of [`Backend::events`]; it loses the oldest beyond that.
pub(crate) const EVENTS_WAITING_MAX: usize = 512;

/// The running agent, as its doors see it. Lives on the agent's one thread; share it in an `Rc`.
pub(crate) struct Backend {
    /// The node.
    pub(crate) handle: Handle,
    /// The node's events as they come; made with [`EVENTS_WAITING_MAX`].
    pub(crate) events: broadcast::Sender<Arc<Event>>,
    /// The log.
    pub(crate) log: Log,
    /// What is counted for statsd and statsite.
    pub(crate) counters: Counters,
    /// What the RPC port counts, for `info`.
    pub(crate) rpc: RpcCounters,
    /// The own name and tags.
    pub(crate) identity: Rc<SelfIdentity>,
    /// The token that RPC clients must show; empty: none.
    pub(crate) auth: String,
    /// Scripts by [`info_key`](super::filter::EventFilter::info_key), as they were at start; for `info`.
    pub(crate) handlers: BTreeMap<String, String>,
    /// The engine's driver and why that one; for `info`.
    pub(crate) driver: (String, String),
    /// Where the tags are kept; `None`: nowhere.
    pub(crate) tags_file: Option<PathBuf>,
    /// Told once when a client asked the agent to leave and it has left: end the process with code 0.
    pub(crate) stop: Notify,
    /// One change of tags at a time.
    pub(crate) tags_turn: Mutex<()>,
}

/// Why tags could not be changed. The texts are Serf's.
#[derive(Debug, Error)]
pub(crate) enum TagsError {
    /// The node refused them, or could not tell others in time.
    #[error(transparent)]
    Node(#[from] ApiError),
    /// The node has them but the file does not.
    #[error("Failed to write tags file: {}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
}

impl Backend {
    /// Joins through each entry; see [`Handle::join`]. No entries are no error.
    ///
    /// # Errors
    /// If no address answered.
    pub(crate) async fn join(&self, entries: &[String], replay: bool) -> Result<usize, JoinError> {
        self.log.add(Level::Info, "agent", format_args!("joining: [{}] replay: {replay}", entries.join(" ")));
        let joined = if entries.is_empty() { Ok(0) } else { self.handle.join(entries, replay).await };
        match &joined {
            Ok(0) => {}
            Ok(count) => self.log.add(Level::Info, "agent", format_args!("joined: {count} nodes")),
            Err(error) => self.log.add(Level::Warn, "agent", format_args!("error joining: {error}")),
        }
        joined
    }

    /// Leaves gracefully. The caller ends the process afterwards.
    ///
    /// # Errors
    /// If it leaves already, or has left.
    pub(crate) async fn leave(&self) -> Result<(), ApiError> {
        self.log.add(Level::Info, "agent", "requesting graceful leave from Serf");
        self.handle.leave().await
    }

    /// Declares a failed member left, or erases it; see [`Handle::force_leave`].
    ///
    /// # Errors
    /// If the broadcast did not go out in time.
    pub(crate) async fn force_leave(&self, node_name: &str, prune: bool) -> Result<(), ApiError> {
        let what = if prune { "Force leaving node (prune)" } else { "Force leaving node" };
        self.log.add(Level::Info, "agent", format_args!("{what}: {node_name}"));
        self.handle.force_leave(node_name, prune).await.inspect_err(|error| {
            self.log.add(Level::Warn, "agent", format_args!("failed to remove node: {error}"));
        })
    }

    /// Sends a user event to everybody.
    ///
    /// # Errors
    /// If it is too long.
    pub(crate) async fn user_event(
        &self,
        name: &str,
        payload: Bytes,
        coalesce: bool,
    ) -> Result<(), ApiError> {
        let shown = String::from_utf8_lossy(&payload);
        self.log.add(
            Level::Debug,
            "agent",
            format_args!("Requesting user event send: {name}. Coalesced: {coalesce}. Payload: {shown:?}"),
        );
        self.handle.user_event(name, payload, coalesce).await.inspect_err(|error| {
            self.log.add(Level::Warn, "agent", format_args!("failed to send user event: {error}"));
        })
    }

    /// Asks everybody.
    ///
    /// # Errors
    /// If it is too long or its name is reserved: Serf's own queries begin with `_serf_`, and only
    /// `_serf_ping` without payload is anybody's.
    pub(crate) async fn query(&self, params: QueryParams) -> Result<Answers, ApiError> {
        if params.name.starts_with("_serf_") && !(params.name == "_serf_ping" && params.payload.is_empty()) {
            return Err(CommandError::ReservedName.into());
        }
        let shown = String::from_utf8_lossy(&params.payload);
        self.log.add(
            Level::Debug,
            "agent",
            format_args!("Requesting query send: {}. Payload: {shown:?}", params.name),
        );
        self.handle.query(params).await.inspect_err(|error| {
            self.log.add(Level::Warn, "agent", format_args!("failed to start user query: {error}"));
        })
    }

    /// Changes the own tags: first `delete`, then `set`. A name in both is set.
    ///
    /// # Errors
    /// If the node refuses them: nothing has changed then. Any other error comes after the change.
    pub(crate) async fn set_tags(
        &self,
        set: BTreeMap<String, String>,
        delete: &[String],
    ) -> Result<(), TagsError> {
        let _turn = self.tags_turn.lock().await;
        let mut tags = self.identity.tags.borrow().clone();
        tags.retain(|name, _| !delete.contains(name));
        tags.extend(set);
        self.apply_tags(tags).await
    }

    /// Replaces the own tags.
    ///
    /// # Errors
    /// As [`set_tags`](Self::set_tags).
    pub(crate) async fn replace_tags(&self, tags: BTreeMap<String, String>) -> Result<(), TagsError> {
        let _turn = self.tags_turn.lock().await;
        self.apply_tags(tags).await
    }

    /// The caller holds the turn.
    async fn apply_tags(&self, tags: BTreeMap<String, String>) -> Result<(), TagsError> {
        // The node's member-update comes before its answer does, and its handlers must see the new tags.
        let before = self.identity.tags.replace(tags.clone());
        let told = self.handle.set_tags(tags.clone()).await;
        if let Err(error) = &told
            && *error != ApiError::TagsTimeout
        {
            self.identity.tags.replace(before);
            return Err(error.clone().into());
        }
        if let Some(path) = self.tags_file.clone() {
            let written = write_tags(path.clone(), tags).await;
            written.map_err(|error| TagsError::File { path, error }).inspect_err(|error| {
                self.log.add(Level::Err, "agent", error);
            })?;
        }
        Ok(told?)
    }

    /// The numbers that `info` shows.
    ///
    /// # Errors
    /// If the node has stopped.
    pub(crate) async fn numbers(&self) -> Result<Numbers, ApiError> {
        let node = self.handle.stats().await?;
        let udp = self.handle.udp_counters().await?;
        let SelfIdentity { name, tags } = &*self.identity;
        let numbers = Numbers::new(&node, &udp, name, &tags.borrow(), &self.handlers, &self.driver);
        Ok(numbers.with_rpc(&self.rpc))
    }
}
