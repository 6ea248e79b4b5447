//! The options of a node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(doc)]
use crate::api::{Engine, Handle};
use crate::config::RawConfig;
use crate::delegate::Delegate;
use crate::tls::GossipTls;

/// The options of a node: its settings, and its sockets and files on this machine.
///
/// [`start`](NodeOptions::start) gives the node an engine of its own; [`Engine::add`] lets many nodes share one.
pub struct NodeOptions {
    /// The settings, checked when the node starts. An advertise port of 0 becomes the port that was bound.
    pub config: RawConfig,
    /// The address of the node's UDP socket and TCP listener, both on the same port. Port 0: the system picks one
    /// that is free for both.
    pub bind: SocketAddr,
    /// The node's snapshot file. Default: none.
    pub snapshot: Option<SnapshotOptions>,
    /// The file that is rewritten whenever the node's keys change. The caller reads it into the settings with
    /// [`keyring::read`](crate::io::files::keyring::read) before the start. Default: none, so keys that are
    /// installed later are lost with the node.
    pub keyring_file: Option<PathBuf>,
    /// Certificates for streams by TLS: with members that announced it, or with all if it is required. Default: none.
    pub tls: Option<Arc<GossipTls>>,
    /// Addresses to join through, in the forms that [`Handle::join`] takes. Default: none.
    pub join: Vec<String>,
    /// The program's rules, called on the shard's thread, which waits for them. Default: none.
    pub delegate: Option<Box<dyn Delegate>>,
}

/// A node's snapshot file (PROTOCOL 10.1).
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// The file.
    pub path: PathBuf,
    /// Rejoin the members of the snapshot even if the last run ended with a graceful leave. Default: false.
    pub rejoin_after_leave: bool,
}

impl NodeOptions {
    /// A node with these settings on this address, without snapshot, keyring file, join and delegate.
    pub fn new(config: RawConfig, bind: SocketAddr) -> NodeOptions {
        NodeOptions {
            config,
            bind,
            snapshot: None,
            keyring_file: None,
            tls: None,
            join: Vec::new(),
            delegate: None,
        }
    }

    /// A node with Serf's settings for a local network. It announces the address that it binds.
    pub fn lan(name: impl Into<String>, bind: impl Into<SocketAddr>) -> NodeOptions {
        let bind = bind.into();
        NodeOptions::new(RawConfig::lan(name, bind), bind)
    }

    /// A node with Serf's settings for wide area networks. It announces the address that it binds.
    pub fn wan(name: impl Into<String>, bind: impl Into<SocketAddr>) -> NodeOptions {
        let bind = bind.into();
        NodeOptions::new(RawConfig::wan(name, bind), bind)
    }

    /// A node with Serf's settings for one machine. It announces the address that it binds.
    pub fn local(name: impl Into<String>, bind: impl Into<SocketAddr>) -> NodeOptions {
        let bind = bind.into();
        NodeOptions::new(RawConfig::local(name, bind), bind)
    }

    /// Sets the address that the node announces, if that is not the one that it binds.
    pub fn advertise(mut self, addr: impl Into<SocketAddr>) -> NodeOptions {
        self.config.advertise = addr.into();
        self
    }

    /// Sets a tag. All tags together may have 512 bytes when encoded.
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> NodeOptions {
        self.config.tags.insert(name.into(), value.into());
        self
    }

    /// Adds a gossip key of 16, 24 or 32 bytes. The first key is the primary key, which seals.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> NodeOptions {
        self.config.keys.push(key.into());
        self
    }

    /// Runs plain SWIM without the serf layer: memberships, and what the delegate does with messages and state.
    pub fn plain_swim(mut self) -> NodeOptions {
        self.config.serf = false;
        self
    }

    /// Changes any other setting.
    pub fn configure(mut self, change: impl FnOnce(&mut RawConfig)) -> NodeOptions {
        change(&mut self.config);
        self
    }

    /// Keeps a snapshot in this file and rejoins its members, except after a graceful leave.
    pub fn snapshot(mut self, path: impl Into<PathBuf>) -> NodeOptions {
        self.snapshot = Some(SnapshotOptions { path: path.into(), rejoin_after_leave: false });
        self
    }

    /// Speaks TLS with members that announced it, or with all if it is required.
    pub fn tls(mut self, tls: Arc<GossipTls>) -> NodeOptions {
        self.tls = Some(tls);
        self
    }

    /// Adds addresses to join through when the node has started. Events from before the join are not delivered.
    pub fn join<E: Into<String>>(mut self, entries: impl IntoIterator<Item = E>) -> NodeOptions {
        self.join.extend(entries.into_iter().map(Into::into));
        self
    }

    /// Sets the program's rules.
    pub fn delegate(mut self, delegate: impl Delegate + 'static) -> NodeOptions {
        self.delegate = Some(Box::new(delegate));
        self
    }
}

impl std::fmt::Debug for NodeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the settings, which hold the keys.
        write!(f, "NodeOptions({} on {})", self.config.node_name, self.bind)
    }
}
