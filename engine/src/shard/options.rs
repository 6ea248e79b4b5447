//! What a node is started with.

use std::net::SocketAddr;
use std::path::PathBuf;

#[cfg(doc)]
use crate::api::{Engine, Handle};
use crate::config::RawConfig;
use crate::delegate::Delegate;

/// What a node is started with: the settings and what belongs to them on this machine.
///
/// [`start`](NodeOptions::start) gives the node an engine of its own; [`Engine::add`] lets many nodes share one.
pub struct NodeOptions {
    /// The settings, checked at the start. An advertise port of 0 becomes the port that was bound.
    pub config: RawConfig,
    /// Where the node's UDP socket and TCP listener are bound, both on the same port; 0: the system picks.
    pub bind: SocketAddr,
    /// Where the node keeps its snapshot, if it keeps one.
    pub snapshot: Option<SnapshotOptions>,
    /// The file that is rewritten when keys are changed. Reading it is the caller's
    /// ([`keyring::read`](crate::io::files::keyring::read)), into the settings.
    pub keyring_file: Option<PathBuf>,
    /// Whom to join through, in the forms that [`Handle::join`] takes; empty: nobody.
    pub join: Vec<String>,
    /// The program's rules, called on the engine's thread.
    pub delegate: Option<Box<dyn Delegate>>,
}

/// A node's snapshot file (PROTOCOL 10.1).
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// The file.
    pub path: PathBuf,
    /// Rejoin the members of the snapshot even if the last run ended with a graceful leave.
    pub rejoin_after_leave: bool,
}

impl NodeOptions {
    /// These settings on this address, without snapshot, keyring file, join and delegate.
    pub fn new(config: RawConfig, bind: SocketAddr) -> NodeOptions {
        NodeOptions { config, bind, snapshot: None, keyring_file: None, join: Vec::new(), delegate: None }
    }

    /// A node with Serf's settings for a local network, which announces the address it binds.
    pub fn lan(name: impl Into<String>, bind: impl Into<SocketAddr>) -> NodeOptions {
        let bind = bind.into();
        NodeOptions::new(RawConfig::lan(name, bind), bind)
    }

    /// A node with Serf's settings for wide area networks, which announces the address it binds.
    pub fn wan(name: impl Into<String>, bind: impl Into<SocketAddr>) -> NodeOptions {
        let bind = bind.into();
        NodeOptions::new(RawConfig::wan(name, bind), bind)
    }

    /// A node with Serf's settings for one machine, which announces the address it binds.
    pub fn local(name: impl Into<String>, bind: impl Into<SocketAddr>) -> NodeOptions {
        let bind = bind.into();
        NodeOptions::new(RawConfig::local(name, bind), bind)
    }

    /// Announces another address than the one that is bound.
    pub fn advertise(mut self, addr: impl Into<SocketAddr>) -> NodeOptions {
        self.config.advertise = addr.into();
        self
    }

    /// Adds a tag.
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> NodeOptions {
        self.config.tags.insert(name.into(), value.into());
        self
    }

    /// Adds a gossip key of 16, 24 or 32 bytes; the first one seals.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> NodeOptions {
        self.config.keys.push(key.into());
        self
    }

    /// Leaves the serf layer out: memberships, and what the delegate makes of messages and state.
    pub fn plain_swim(mut self) -> NodeOptions {
        self.config.serf = false;
        self
    }

    /// Changes any other setting.
    pub fn configure(mut self, change: impl FnOnce(&mut RawConfig)) -> NodeOptions {
        change(&mut self.config);
        self
    }

    /// Keeps a snapshot in this file and rejoins from it, except after a graceful leave.
    pub fn snapshot(mut self, path: impl Into<PathBuf>) -> NodeOptions {
        self.snapshot = Some(SnapshotOptions { path: path.into(), rejoin_after_leave: false });
        self
    }

    /// Joins through these when the node has started. Events from before are not delivered.
    pub fn join<E: Into<String>>(mut self, entries: impl IntoIterator<Item = E>) -> NodeOptions {
        self.join.extend(entries.into_iter().map(Into::into));
        self
    }

    /// Gives the node the program's rules.
    pub fn delegate(mut self, delegate: impl Delegate + 'static) -> NodeOptions {
        self.delegate = Some(Box::new(delegate));
        self
    }
}

impl std::fmt::Debug for NodeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the settings: they hold the keys.
        write!(f, "NodeOptions({} on {})", self.config.node_name, self.bind)
    }
}
