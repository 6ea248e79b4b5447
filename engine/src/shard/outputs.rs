//! Carrying out what nodes put out: datagrams, streams, completions, events, snapshot lines.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::hosted::HostedNode;
use super::item::OutletItem;
use super::mailbox::{Mailbox, Request};
use super::watch::NodeEvent;
use super::{Shard, hosted_node};
use crate::context::{Context, NodeId, StreamOperation};
use crate::drop_reason::DropReason;
use crate::event::Notice;
use crate::io::Departure;
use crate::io::files::journal::FLUSH_AFTER;
use crate::io::files::keyring;

impl Shard {
    /// Carries out what nodes put out, in the order that the Context's documentation gives: what a restart must know of
    /// events and queries is with the kernel before they reach the application.
    pub(super) fn carry_out(&mut self) {
        if self.ctx.out.is_empty() {
            return;
        }
        self.write_records();
        self.send_datagrams();
        let out = &mut self.ctx.out;
        for (node, id, operation) in out.streams.drain(..) {
            if matches!(operation, StreamOperation::Close | StreamOperation::Abort) {
                self.trimmer.stream_ended(self.ctx.now);
            }
            let hosted = self.nodes.get(node.0 as usize).and_then(Option::as_ref);
            let from = hosted.and_then(|hosted| hosted.sockets.ip());
            let tls = |to| hosted.and_then(|hosted| hosted.tls_to(to));
            let unread = self.streams.operate(node, from, id, operation, tls);
            if let Some(hosted) = hosted_node(&mut self.nodes, node).filter(|_| unread > 0) {
                hosted.node.count_drops(DropReason::StreamUnread, unread);
            }
        }
        for (node, ticket, completion) in out.completions.drain(..) {
            if let Some(hosted) = hosted_node(&mut self.nodes, node) {
                hosted.complete(ticket, completion);
            }
        }
        for (node, event) in out.events.drain(..) {
            if let Some(hosted) = hosted_node(&mut self.nodes, node) {
                if let Some(ring) = self.mailbox.watched() {
                    let node = hosted.node.config().node_name.as_str().into();
                    ring.write(NodeEvent { node, event: event.clone() });
                }
                hosted.deliver(OutletItem::Event(event));
            }
        }
        for (node, notice) in out.notices.drain(..) {
            if let Some(hosted) = hosted_node(&mut self.nodes, node) {
                hosted.deliver(OutletItem::Notice(notice));
            }
        }
        for (node, keys) in out.keyrings.drain(..) {
            let path = hosted_node(&mut self.nodes, node).and_then(|hosted| hosted.keyring_file.clone());
            if let Some(path) = path {
                write_keyring(Arc::clone(&self.mailbox), node, path, keys);
            }
        }
        for node in std::mem::take(&mut self.ctx.out.ended) {
            self.remove(node);
        }
    }

    fn send_datagrams(&mut self) {
        let Shard { udp, ctx, nodes, .. } = self;
        let (datagrams, bytes) = (&ctx.out.datagrams, &ctx.out.send_buffer);
        let hosted = |node: NodeId| nodes.get(node.0 as usize)?.as_ref();
        udp.send_departures(datagrams.iter().filter_map(|datagram| {
            let sockets = &hosted(datagram.node)?.sockets;
            let bytes = &bytes[datagram.range.clone()];
            Some(Departure { socket: sockets.socket(), from: sockets.ip(), to: datagram.to, bytes })
        }));
        // Empty, and so without memory, unless the network is gone.
        let mut refused: Vec<(NodeId, SocketAddr)> = Vec::new();
        if !udp.refused().is_empty() {
            let sent = datagrams.iter().filter(|datagram| hosted(datagram.node).is_some());
            let sent: Vec<_> = sent.map(|datagram| (datagram.node, datagram.to)).collect();
            refused.extend(udp.refused().iter().filter_map(|&place| sent.get(place).copied()));
        }
        ctx.out.clear_datagrams();
        for (node, to) in refused {
            if let Some(hosted) = hosted_node(&mut self.nodes, node) {
                hosted.node.datagram_refused(&mut self.ctx, to);
            }
        }
    }

    fn write_records(&mut self) {
        let mut records = std::mem::take(&mut self.ctx.out.records);
        // One write for each node, however many lines there are.
        records.sort_by_key(|(node, _)| node.0);
        let mut lines = records.drain(..).peekable();
        while let Some((node, record)) = lines.next() {
            let Some(hosted) = hosted_node(&mut self.nodes, node) else { continue };
            let Some(journal) = &mut hosted.journal else { continue };
            self.flush_at.get_or_insert(self.ctx.now + FLUSH_AFTER);
            let mut urgency = journal.append(record);
            while let Some((_, record)) = lines.next_if(|(next, _)| *next == node) {
                urgency = urgency.max(journal.append(record));
            }
            hosted.write_journal(urgency);
        }
        drop(lines);
        self.ctx.out.records = records;
    }

    /// Starts to write the journals' buffers if that is due.
    pub(super) fn flush_journals(&mut self) {
        if self.flush_at.is_none_or(|at| at > self.ctx.now) {
            return;
        }
        let mut again = false;
        for hosted in self.nodes.iter_mut().flatten() {
            again |= hosted.flush_journal();
        }
        self.flush_at = again.then(|| self.ctx.now + FLUSH_AFTER);
    }
}

/// Writes a keyring file on a thread of its own, because it waits for the disk, and returns the outcome to the node.
fn write_keyring(mailbox: Arc<Mailbox>, node: NodeId, path: PathBuf, keys: Vec<Vec<u8>>) {
    tokio::task::spawn_blocking(move || {
        let outcome = keyring::write(&path, &keys)
            .map_err(|error| format!("Failed to write keyring file {}: {error}", path.display()));
        let call = Box::new(move |hosted: &mut HostedNode, ctx: &mut Context| {
            if let Err(remark) = outcome.clone() {
                hosted.deliver(OutletItem::Notice(Notice::Keyring { remark }));
            }
            hosted.node.keyring_written(ctx, outcome);
        });
        // The shard may have stopped.
        let _ = mailbox.push(Request::Call(node, call));
    });
}
