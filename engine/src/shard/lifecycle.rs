//! Starting and ending the nodes of a shard.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::errors::StartError;
use super::hosted::{HostedNode, NodeSockets};
use super::item::{OutletEntry, OutletItem};
use super::mailbox::Added;
use super::options::NodeOptions;
use super::{Shard, hosted_node};
use crate::context::NodeId;
use crate::io::SocketIndex;
use crate::io::bind::bind_both;
use crate::io::files::journal::{Journal, Opened};
use crate::node::Node;

impl Shard {
    pub(super) async fn add(
        &mut self,
        options: NodeOptions,
        outlet: mpsc::Sender<OutletEntry>,
    ) -> Result<Added, StartError> {
        let NodeOptions { mut config, bind, snapshot, keyring_file, tls, delegate, join: _ } = options;
        let (found, bound) = match self.shared_sockets(bind)? {
            Some(shared) => (Found::Shared(shared), bind),
            None => {
                let (listener, socket, bound) = bind_both(bind)?;
                (Found::Bound(listener, socket), bound)
            }
        };
        if config.advertise.port() == 0 {
            config.advertise.set_port(bound.port());
        }
        config.keyring_file = keyring_file.is_some();
        let mut notices = Vec::new();
        let mut journal = None;
        if let Some(snapshot) = snapshot {
            let opened = Journal::open(&snapshot.path, snapshot.rejoin_after_leave)
                .map_err(|error| StartError::Snapshot { path: snapshot.path, error })?;
            let Opened { journal: opened, restored, notices: said } = opened;
            config.snapshot = true;
            (config.restored, journal, notices) = (restored, Some(opened), said);
        }
        let config = Arc::new(config.check()?);
        let id = NodeId(self.nodes.len() as u32);
        let sockets = self.serve_sockets(id, found, bound)?;
        let advertise = config.advertise;
        let mut node = Node::new(id, config, &mut self.ctx);
        if tls.is_some() {
            node.announce_tls();
        }
        if let Some(delegate) = delegate {
            node.set_delegate(delegate);
        }
        let mut added = HostedNode::new(node, outlet, sockets, journal, keyring_file, tls);
        for notice in notices {
            added.deliver(OutletItem::Notice(notice));
        }
        self.nodes.push(Some(added));
        if let Some(hosted) = hosted_node(&mut self.nodes, id) {
            hosted.node.start(&mut self.ctx);
        }
        Ok(Added { id, bound, advertise })
    }

    /// The shared sockets under the address `bind`, if the shard has some and `bind` names their port.
    fn shared_sockets(&self, bind: SocketAddr) -> Result<Option<NodeSockets>, StartError> {
        let (Some((socket, port)), SocketAddr::V4(addr)) = (self.shared, bind) else { return Ok(None) };
        if addr.port() != port {
            return Ok(None);
        }
        if self.node_by_ip.contains_key(addr.ip()) {
            let error = io::ErrorKind::AddrInUse.into();
            return Err(StartError::Bind { what: "shared", addr: bind, error });
        }
        Ok(Some(NodeSockets::Shared { socket, ip: *addr.ip() }))
    }

    /// Starts to receive and accept for a node.
    fn serve_sockets(
        &mut self,
        id: NodeId,
        found: Found,
        bound: SocketAddr,
    ) -> Result<NodeSockets, StartError> {
        match found {
            Found::Bound(listener, socket) => {
                let failed = |what| move |error| StartError::Bind { what, addr: bound, error };
                let listener = tokio::net::TcpListener::from_std(listener).map_err(failed("TCP"))?;
                let socket = self.udp.add(socket).map_err(failed("UDP"))?;
                self.route_socket(socket, id);
                Ok(NodeSockets::Own { socket, accepting: self.streams.listen(id, listener) })
            }
            Found::Shared(shared) => {
                self.node_by_ip.extend(shared.ip().map(|ip| (ip, id)));
                Ok(shared)
            }
        }
    }

    fn route_socket(&mut self, socket: SocketIndex, id: NodeId) {
        let place = socket.0 as usize;
        if self.node_by_socket.len() <= place {
            self.node_by_socket.resize(place + 1, id);
        }
        self.node_by_socket[place] = id;
    }

    /// Ends a node. Its address is free once the returned task has ended.
    pub(super) fn remove(&mut self, id: NodeId) -> Option<JoinHandle<()>> {
        let hosted = self.nodes.get_mut(id.0 as usize).and_then(Option::take)?;
        self.streams.abort_node(id);
        match hosted.sockets {
            NodeSockets::Own { socket, .. } => self.udp.remove(socket),
            NodeSockets::Shared { ip, .. } => {
                self.node_by_ip.remove(&ip);
            }
        }
        let (synced, accepting) = hosted.close(&mut self.ctx);
        self.syncing.extend(synced);
        accepting
    }

    /// Ends a node and returns when its address is free and its snapshot on disk.
    pub(super) async fn close(&mut self, id: NodeId) {
        if let Some(accepting) = self.remove(id) {
            // It ends with an error, since it was aborted.
            let _ = accepting.await;
        }
        self.synced().await;
    }

    /// Returns when the snapshots of all nodes that have ended are on disk. A failure can't be reported any more.
    pub(super) async fn synced(&mut self) {
        for synced in self.syncing.drain(..) {
            let _ = synced.await;
        }
    }
}

/// The sockets of a node that is about to start.
enum Found {
    /// Just bound, for this node alone.
    Bound(TcpListener, UdpSocket),
    /// The shard's shared ones.
    Shared(NodeSockets),
}
