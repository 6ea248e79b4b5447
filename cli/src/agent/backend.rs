//! The agent's commands, which RPC, signals and start-up share: the node, its events, the log, tags, numbers.
//!
//! Each command logs Serf's line for it, whatever its source.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use thane_engine::api::{Answers, ApiError, Handle, JoinError, KeyReport};
use thane_engine::command::{CommandError, KeyOperation, QueryParams};
use thane_engine::event::Event;
use thane_engine::stats::Durations;
use thiserror::Error;
use tokio::sync::{Mutex, Notify, broadcast};

use super::handlers::HandlerCounts;
use super::identity::{SelfIdentity, write_tags};
use super::level::Level;
use super::log::Log;
use super::mdns::MdnsCounters;
use super::numbers::{Numbers, RpcCounters};
use super::telemetry::Counters;
use crate::clients::Guesses;
use crate::http::HttpCounters;

/// Events that [`Backend::events`] keeps for its slowest reader, which loses the oldest ones beyond it.
pub(crate) const EVENTS_WAITING_MAX: usize = 512;

/// The running agent as RPC, signals and start-up use it. Lives on the main thread; share it in an `Rc`.
pub(crate) struct Backend {
    /// The node.
    pub(crate) handle: Handle,
    /// The node's events; a channel of [`EVENTS_WAITING_MAX`].
    pub(crate) events: broadcast::Sender<Arc<Event>>,
    /// The log.
    pub(crate) log: Log,
    /// Counters for statsd and statsite.
    pub(crate) counters: Counters,
    /// What the RPC port counts, for `info`.
    pub(crate) rpc: RpcCounters,
    /// The brake on clients that guess the token, of both ports.
    pub(crate) guesses: Rc<Guesses>,
    /// What was counted of scripts.
    pub(crate) handler_counts: Rc<HandlerCounts>,
    /// How long events waited for the agent's thread.
    pub(crate) delivery: Rc<RefCell<Durations>>,
    /// What discovery counts; `None` while it is off.
    pub(crate) mdns: Option<Rc<MdnsCounters>>,
    /// What the HTTP port counts; `None` while it is off.
    pub(crate) http: Option<HttpCounters>,
    /// Whether the joins of the start have succeeded.
    pub(crate) joined: Cell<bool>,
    /// The node's own name and tags.
    pub(crate) identity: Rc<SelfIdentity>,
    /// The token that RPC clients must send; empty: none.
    pub(crate) auth: String,
    /// Scripts at start, by [`info_key`](super::filter::EventFilter::info_key); for `info`.
    pub(crate) handlers: BTreeMap<String, String>,
    /// The engine's driver and the reason for that driver; for `info`.
    pub(crate) driver: (String, String),
    /// The tags file, if there is one.
    pub(crate) tags_file: Option<PathBuf>,
    /// Notified once after an RPC client's `leave` has finished: the process exits with code 0.
    pub(crate) stop: Notify,
    /// Held during a change of tags, so that changes happen one at a time.
    pub(crate) tags_turn: Mutex<()>,
}

/// Why a change of tags failed. The texts are Serf's.
#[derive(Debug, Error)]
pub(crate) enum TagsError {
    /// The node refused the tags (nothing has changed), or the broadcast was not sent in time (the tags have
    /// changed).
    #[error(transparent)]
    Node(#[from] ApiError),
    /// Nothing has changed.
    #[error("Failed to write tags file: {}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
}

/// The brake on clients that guess the token; its lines go to the log.
pub(crate) fn guesses(log: &Log) -> Rc<Guesses> {
    let log = log.clone();
    Guesses::new(move |line| log.add(Level::Warn, "agent.ipc", line))
}

impl Backend {
    /// Joins through each entry; see [`Handle::join`]. Without entries nothing happens.
    ///
    /// # Errors
    /// No address answered.
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
    /// A leave is under way, or the node has left or stopped.
    pub(crate) async fn leave(&self) -> Result<(), ApiError> {
        self.log.add(Level::Info, "agent", "requesting graceful leave from Serf");
        self.handle.leave().await
    }

    /// Declares that a failed member has left, or erases it; see [`Handle::force_leave`].
    ///
    /// # Errors
    /// The broadcast was not sent in time.
    pub(crate) async fn force_leave(&self, node_name: &str, prune: bool) -> Result<(), ApiError> {
        let what = if prune { "Force leaving node (prune)" } else { "Force leaving node" };
        self.log.add(Level::Info, "agent", format_args!("{what}: {node_name}"));
        self.handle.force_leave(node_name, prune).await.inspect_err(|error| {
            self.log.add(Level::Warn, "agent", format_args!("failed to remove node: {error}"));
        })
    }

    /// Asks all members to list or change their keys; see [`Handle::keys`].
    ///
    /// # Errors
    /// The query could not be sent. Nothing has changed.
    pub(crate) async fn keys(&self, operation: KeyOperation, key: Vec<u8>) -> Result<KeyReport, ApiError> {
        let what = match operation {
            KeyOperation::Install => "key installation",
            KeyOperation::Use => "primary key change",
            KeyOperation::Remove => "key removal",
            KeyOperation::List => "key listing",
        };
        self.log.add(Level::Info, "agent", format_args!("Initiating {what}"));
        self.handle.keys(operation, key).await
    }

    /// Sends a user event to all members.
    ///
    /// # Errors
    /// The event is too long. Nothing was sent.
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

    /// Sends a query to all members that its filters select.
    ///
    /// # Errors
    /// The query is too long, or its name is reserved: names of Serf's internal queries begin with `_serf_`, and of
    /// these only `_serf_ping` without payload may be sent. Nothing was sent.
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

    /// Changes the node's own tags: first `delete`, then `set`. A name in both is set.
    ///
    /// # Errors
    /// See [`TagsError`], which says for each case whether the tags have changed.
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

    /// Replaces the node's own tags.
    ///
    /// # Errors
    /// As [`set_tags`](Self::set_tags).
    pub(crate) async fn replace_tags(&self, tags: BTreeMap<String, String>) -> Result<(), TagsError> {
        let _turn = self.tags_turn.lock().await;
        self.apply_tags(tags).await
    }

    /// The caller holds [`tags_turn`](Self::tags_turn).
    async fn apply_tags(&self, tags: BTreeMap<String, String>) -> Result<(), TagsError> {
        // The file first: what the cluster has, a restart has too.
        if let Some(path) = &self.tags_file {
            let written = write_tags(path.clone(), tags.clone()).await;
            written.map_err(|error| TagsError::File { path: path.clone(), error }).inspect_err(|error| {
                self.log.add(Level::Err, "agent", error);
            })?;
        }
        // The member-update event arrives before this answer, and its handlers must see the new tags.
        let before = self.identity.tags.replace(tags.clone());
        let announced = self.handle.set_tags(tags).await;
        if let Err(error) = &announced
            && *error != ApiError::TagsTimeout
        {
            self.identity.tags.replace(before.clone());
            if let Some(path) = &self.tags_file
                && let Err(error) = write_tags(path.clone(), before).await
            {
                self.log.add(Level::Err, "agent", TagsError::File { path: path.clone(), error });
            }
        }
        Ok(announced?)
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
        Ok(numbers
            .with_handlers(&self.handler_counts)
            .with_rpc(&self.rpc)
            .with_http(self.http.as_ref())
            .with_mdns(self.mdns.as_deref()))
    }
}
