//! What an HTTP port shows and commands: one node, and what its owner adds to it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use thane_engine::api::{Answers, ApiError, Handle, JoinError, KeyReport};
use thane_engine::command::{KeyOperation, QueryParams};
use thane_engine::event::Event;
use tokio::sync::broadcast;

use super::counters::HttpCounters;
use super::metrics::Exposition;
use crate::clients::Guesses;

/// What a method of a [`Site`] returns, later.
pub(crate) type Soon<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// How much a line of the log matters.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Debug,
    Warn,
    Error,
}

/// The node behind a port, with its owner. The commands go to the node unless the owner has more to do.
pub(crate) trait Site {
    /// The node.
    fn handle(&self) -> &Handle;

    /// Its events from now on.
    fn events(&self) -> broadcast::Receiver<Arc<Event>>;

    /// The token that clients must show; empty: none.
    fn token(&self) -> &str;

    /// The brake on those that guess it.
    fn guesses(&self) -> &Rc<Guesses>;

    /// What the port counts.
    fn counters(&self) -> &HttpCounters;

    /// Whether the joins that the node was started with have succeeded.
    fn has_joined(&self) -> bool;

    /// The datagram driver and why it was chosen.
    fn driver(&self) -> (&str, &str);

    /// Adds a line to the log.
    fn log(&self, severity: Severity, text: &dyn Display);

    /// Adds what the owner counts itself.
    fn write_metrics(&self, _: &mut Exposition) {}

    /// Called once a client's leave has finished and was answered.
    fn stop(&self);

    fn join<'a>(&'a self, addresses: &'a [String], replay: bool) -> Soon<'a, Result<usize, JoinError>> {
        Box::pin(self.handle().join(addresses, replay))
    }

    fn leave(&self) -> Soon<'_, Result<(), ApiError>> {
        Box::pin(self.handle().leave())
    }

    fn force_leave<'a>(&'a self, name: &'a str, prune: bool) -> Soon<'a, Result<(), ApiError>> {
        Box::pin(self.handle().force_leave(name, prune))
    }

    fn user_event<'a>(
        &'a self,
        name: &'a str,
        payload: Bytes,
        coalesce: bool,
    ) -> Soon<'a, Result<(), ApiError>> {
        Box::pin(self.handle().user_event(name, payload, coalesce))
    }

    fn query(&self, params: QueryParams) -> Soon<'_, Result<Answers, ApiError>> {
        Box::pin(self.handle().query(params))
    }

    /// Changes the node's tags; an error that is none of the node's is its text.
    fn change_tags(
        &self,
        set: BTreeMap<String, String>,
        delete: Vec<String>,
    ) -> Soon<'_, Result<(), TagsRefused>> {
        Box::pin(async move { self.handle().update_tags(set, delete).await.map_err(TagsRefused::Node) })
    }

    fn keys(&self, operation: KeyOperation, key: Vec<u8>) -> Soon<'_, Result<KeyReport, ApiError>> {
        Box::pin(self.handle().keys(operation, key))
    }
}

/// Why tags were not changed.
#[derive(Debug)]
pub(crate) enum TagsRefused {
    /// By the node.
    Node(ApiError),
    /// By its owner, such as for a tags file that can't be written.
    Owner(String),
}
