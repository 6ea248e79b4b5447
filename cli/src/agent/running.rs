//! The running agent: what start-up makes, and what serving, reloading and joining work on.

use std::rc::Rc;
use std::sync::Arc;

use thane_engine::tls::{Current, GossipTls};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::backend::Backend;
use super::config::{Config, Settings};
use super::handlers::Handlers;
use super::signals::Signals;
use crate::flags::Argument;

/// The running agent. Lives on the main thread.
pub(super) struct Agent {
    /// The command line, parsed again on reload.
    pub(super) arguments: Vec<Argument>,
    /// The configuration at start, with the settings of the last reload.
    pub(super) config: Config,
    /// The settings at start, which a reload compares with.
    pub(super) started_with: Settings,
    /// The node and what belongs to it.
    pub(super) backend: Rc<Backend>,
    /// Where events for scripts are queued.
    pub(super) handlers: Handlers,
    /// Forwards the node's events; ends when the node does, with why if another node has its name.
    pub(super) forwarding: JoinHandle<Option<String>>,
    /// TLS of the ports for clients, if one uses it; a reload replaces it.
    pub(super) tls: Option<Current>,
    /// The same of streams between members.
    pub(super) gossip_tls: Option<Arc<GossipTls>>,
    /// Signals of the operating system.
    pub(super) signals: Signals,
    /// Notified when the background join has used up its tries.
    pub(super) gave_up: Rc<Notify>,
}
