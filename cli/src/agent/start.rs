//! Starts the agent in Serf's order: node, RPC port, banner, join, log.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thane_engine::api::{
    Engine, Handle, NodeOptions, Outlet, SnapshotOptions, StartError, release_unused_code,
};
use thane_engine::command::QueryToken;
use thane_engine::io::files::keyring;
use thane_engine::tls::{Current, GossipTls};
use tokio::sync::{Mutex, Notify, broadcast};
use tokio::task::spawn_local;

use super::address::{self, Addresses};
use super::backend::{Backend, EVENTS_WAITING_MAX, guesses};
use super::banner::{Banner, gap, heading};
use super::config::{Config, Tls};
use super::handlers::{EventHandler, Handlers, Responder};
use super::identity::{SelfIdentity, read_tags};
use super::level::Level;
use super::log::Log;
use super::mdns::Discovery;
use super::running::Agent;
use super::signals::Signals;
use super::telemetry::Counters;
use super::{bind, events, rpc, systemd, telemetry};
use crate::flags::Argument;
use crate::http;

/// When the start with its joins is over, and only code that goes on running is to stay in memory.
const STARTED_AFTER: Duration = Duration::from_secs(5);
/// How long code stays there that a command or a join ran, at most.
const CODE_KEPT: Duration = Duration::from_mins(1);

impl Agent {
    /// Starts node, handlers and RPC port, prints the banner, joins, and opens the log.
    ///
    /// # Errors
    /// The line for the user.
    pub(super) async fn start(
        engine: &Engine,
        arguments: &[Argument],
        config: Config,
        addresses: Addresses,
        log: Log,
    ) -> Result<Agent, String> {
        let signals = Signals::listen().map_err(|error| format!("Failed to handle signals: {error}"))?;
        let identity = Rc::new(identity(&config, &log)?);
        let keys = keys(&config, &log)?;
        let tls: Option<Current> = match &config.tls {
            Some(tls) => Some(Arc::new(tls.load().map_err(|error| error.to_string())?.into())),
            None => None,
        };
        let gossip_tls = match &config.tls {
            Some(tls) => tls.load_gossip().map_err(|error| error.to_string())?.map(Arc::new),
            None => None,
        };
        let encrypted = !keys.is_empty();
        #[cfg(unix)]
        if let Some(facility) = config.syslog {
            let syslog = super::syslog::Syslog::open(facility);
            log.attach(syslog.map_err(|error| format!("Syslog setup failed: {error}"))?);
        }
        log.add(Level::Info, "agent", "Serf agent starting");
        warn(&config, &addresses, encrypted, &log);
        let (handle, outlet) = start_node(engine, &config, &addresses, &identity, keys, &gossip_tls).await?;
        let own = handle.local_member().await.map_err(|error| error.to_string())?;
        let discovery = Discovery::open(&config.settings, &own.name, SocketAddr::new(own.addr, own.port))?;
        let listener = bind::listen(&config.rpc_addr, bind::RPC).await?;
        let http_listener = match &config.http_addr {
            Some(addr) => Some(bind::listen(addr, bind::HTTP).await?),
            None => None,
        };

        let responder = NodeResponder(handle.clone());
        let (handlers, handler_loop) = Handlers::new(
            config.handlers.clone(),
            config.handler_options,
            identity.clone(),
            responder,
            log.clone(),
        );
        let settings = &config.settings;
        let (statsd, statsite) = (settings.statsd_addr.clone(), settings.statsite_addr.clone());
        let counters = Counters::new(!(statsd.is_empty() && statsite.is_empty()));
        let delivery = Rc::default();
        let (streams, _) = broadcast::channel(EVENTS_WAITING_MAX);
        let backend = Rc::new(Backend {
            handle,
            events: streams.clone(),
            log: log.clone(),
            counters: counters.clone(),
            rpc: Default::default(),
            guesses: guesses(&log),
            handler_counts: handlers.counts(),
            delivery: Rc::clone(&delivery),
            mdns: discovery.as_ref().map(Discovery::counters),
            http: http_listener.as_ref().map(|_| Default::default()),
            joined: Cell::new(settings.start_join.is_empty() && settings.retry_join.is_empty()),
            identity,
            auth: config.settings.rpc_auth.clone(),
            handlers: scripts_by_key(&config.handlers),
            driver: (engine.driver().to_string(), engine.driver_reason().to_owned()),
            tags_file: config.tags_file.clone(),
            stop: Notify::new(),
            tags_turn: Mutex::new(()),
        });
        spawn_local(handler_loop.run());
        #[cfg(unix)]
        spawn_local(super::orphans::reap(handlers.clone(), log.clone()));
        let forwarding =
            spawn_local(events::forward(outlet, log, handlers.clone(), streams, counters, delivery));
        spawn_local(telemetry::push(
            statsd,
            statsite,
            backend.handle.clone(),
            backend.counters.clone(),
            backend.log.clone(),
        ));
        if let Some(discovery) = discovery {
            discovery.run(backend.clone());
        }
        let tls_of =
            |wanted: fn(&Tls) -> bool| tls.clone().filter(|_| config.tls.as_ref().is_some_and(wanted));
        spawn_local(rpc::serve(listener, tls_of(|tls| tls.rpc), backend.clone()));
        if let Some(listener) = http_listener {
            spawn_local(http::serve(listener, tls_of(|tls| tls.http), backend.clone()));
        }
        heading("Starting Serf agent RPC...");
        banner(&config, &addresses, &backend.identity.name, encrypted).print();

        let mut agent = Agent {
            arguments: arguments.to_vec(),
            started_with: config.settings.clone(),
            config,
            backend,
            handlers,
            forwarding,
            tls,
            gossip_tls,
            signals,
            gave_up: Rc::default(),
        };
        agent.join_at_start().await?;
        gap();
        heading("Log data will now stream in as it occurs:");
        gap();
        agent.backend.log.open();
        agent.join_in_background();
        systemd::notify(systemd::READY);
        spawn_local(systemd::keep_alive(agent.backend.handle.clone()));
        spawn_local(async {
            tokio::time::sleep(STARTED_AFTER).await;
            loop {
                release_unused_code();
                tokio::time::sleep(CODE_KEPT).await;
            }
        });
        Ok(agent)
    }
}

/// Responds to queries through the node.
struct NodeResponder(Handle);

impl Responder for NodeResponder {
    async fn respond(&self, query: QueryToken, payload: Bytes) -> Result<(), String> {
        self.0.respond(query, payload).await.map_err(|error| error.to_string())
    }
}

/// The node's own name and its tags at start.
fn identity(config: &Config, log: &Log) -> Result<SelfIdentity, String> {
    let tags = match &config.tags_file {
        Some(path) => {
            let read = read_tags(path).map_err(|error| format!("Failed to setup the Serf agent: {error}"))?;
            if let Some(tags) = &read {
                let text = format!("Restored {} tag(s) from {}", tags.len(), path.display());
                log.add(Level::Info, "agent", text);
            }
            read.unwrap_or_default()
        }
        None => config.tags.clone(),
    };
    let name = match config.node_name.as_str() {
        "" => gethostname::gethostname().to_string_lossy().into_owned(),
        name => name.to_owned(),
    };
    Ok(SelfIdentity { name, tags: RefCell::new(tags) })
}

/// The gossip keys, the primary first: those of the keyring file, or the configured one.
fn keys(config: &Config, log: &Log) -> Result<Vec<Vec<u8>>, String> {
    let Some(path) = &config.keyring_file else { return Ok(config.key.iter().cloned().collect()) };
    let keys = keyring::read(path).map_err(|error| format!("Failed to setup the Serf agent: {error}"))?;
    let text = format!("Restored keyring with {} keys from {}", keys.len(), path.display());
    log.add(Level::Info, "agent", text);
    Ok(keys)
}

/// Whether a snapshot can be kept there: not in a device such as /dev/null, with which users of Serf switch it off.
fn can_hold_a_snapshot(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |there| there.is_file() || there.is_dir())
}

fn warn(config: &Config, addresses: &Addresses, encrypted: bool, log: &Log) {
    for name in &config.ineffective {
        log.add(Level::Warn, "agent", format_args!("'{name}' has no effect"));
    }
    if let Some(path) = config.snapshot.as_ref().filter(|path| !can_hold_a_snapshot(path)) {
        let text = format!("'{}' is not a regular file: no snapshot is kept", path.display());
        log.add(Level::Warn, "agent", text);
    }
    if !encrypted && address::is_public(addresses.announced.ip()) {
        log.add(Level::Warn, "memberlist", "Binding to public address without encryption!");
    }
}

async fn start_node(
    engine: &Engine,
    config: &Config,
    addresses: &Addresses,
    identity: &SelfIdentity,
    keys: Vec<Vec<u8>>,
    tls: &Option<Arc<GossipTls>>,
) -> Result<(Handle, Outlet), String> {
    let rejoin_after_leave = config.settings.rejoin_after_leave;
    let snapshot = config.snapshot.clone().filter(|path| can_hold_a_snapshot(path));
    let snapshot = snapshot.map(|path| SnapshotOptions { path, rejoin_after_leave });
    let tags = identity.tags.borrow().clone();
    let mut settings = config.engine(&identity.name, addresses.announced, tags, keys);
    settings.advertise_in_16_bytes = addresses.picked;
    let keyring_file = config.keyring_file.clone();
    let add = async || {
        let (settings, snapshot, keyring_file) = (settings.clone(), snapshot.clone(), keyring_file.clone());
        let options = NodeOptions {
            snapshot,
            keyring_file,
            tls: tls.clone(),
            ..NodeOptions::new(settings, addresses.bind)
        };
        engine.add(options).await
    };
    let added = bind::while_in_use(add, |error| match error {
        StartError::Bind { error, .. } => Some(error.kind()),
        _ => None,
    });
    added.await.map_err(|error| {
        let advice = match &error {
            StartError::Bind { error, .. } => bind::advice(error.kind(), "-bind"),
            _ => String::new(),
        };
        format!("Failed to start the Serf agent: {error}{advice}")
    })
}

/// Scripts by event for `info`: a later handler of the same event replaces an earlier one, as in Serf.
fn scripts_by_key(handlers: &[EventHandler]) -> BTreeMap<String, String> {
    handlers.iter().map(|handler| (handler.filter.info_key(), handler.script.clone())).collect()
}

fn banner<'a>(config: &'a Config, addresses: &Addresses, node_name: &'a str, encrypted: bool) -> Banner<'a> {
    Banner {
        node_name,
        bind: addresses.bind,
        advertise: addresses.advertise,
        rpc_addr: &config.rpc_addr,
        http_addr: config.http_addr.as_deref(),
        encrypted,
        snapshot: config.snapshot.is_some(),
        profile: config.profile_name(),
        compression: config.compression,
        discover: &config.settings.discover,
    }
}
