//! A node on a shard, with what the shard keeps for it: pending commands, the outlet, sockets, files.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::item::{Answer, OutletEntry, OutletItem};
use crate::command::{CommandError, Ticket};
use crate::context::Context;
use crate::event::{Completion, Notice};
use crate::io::SocketIndex;
use crate::io::files::journal::{Journal, Urgency};
use crate::node::Node;
use crate::tls::GossipTls;

/// A node on a shard.
pub(crate) struct HostedNode {
    pub(crate) node: Node,
    replies: HashMap<Ticket, Reply>,
    next_ticket: u64,
    outlet: mpsc::Sender<OutletEntry>,
    /// Events and notices that found the outlet full.
    pub(crate) outlet_dropped: u64,
    pub(crate) sockets: NodeSockets,
    /// Connections accepted so far.
    pub(crate) accepted: u64,
    pub(crate) journal: Option<Journal>,
    /// Resolves when the last lines of the snapshot are on disk.
    synced: Option<Synced>,
    pub(crate) keyring_file: Option<PathBuf>,
    /// For streams, if the node speaks TLS.
    pub(crate) tls: Option<Arc<GossipTls>>,
}

/// Resolves when a snapshot is on disk, or with the reason why it is not.
pub(crate) type Synced = oneshot::Receiver<io::Result<()>>;

/// The sockets that a node sends and receives through.
pub(crate) enum NodeSockets {
    /// A socket and a listener of its own.
    Own { socket: SocketIndex, accepting: JoinHandle<()> },
    /// The shard's shared sockets, under this address.
    Shared { socket: SocketIndex, ip: Ipv4Addr },
}

impl NodeSockets {
    /// The socket to send through.
    pub(crate) fn socket(&self) -> SocketIndex {
        match *self {
            NodeSockets::Own { socket, .. } | NodeSockets::Shared { socket, .. } => socket,
        }
    }

    /// The address to send from, if the socket has several.
    pub(crate) fn ip(&self) -> Option<Ipv4Addr> {
        match *self {
            NodeSockets::Own { .. } => None,
            NodeSockets::Shared { ip, .. } => Some(ip),
        }
    }
}

/// Where the completions of one ticket go.
pub(crate) enum Reply {
    /// To a caller that waits for one completion.
    Completion(oneshot::Sender<Result<Completion, CommandError>>),
    /// To a stream of a query's answers, until the query is done.
    Answers(mpsc::UnboundedSender<Answer>),
}

impl HostedNode {
    pub(crate) fn new(
        node: Node,
        outlet: mpsc::Sender<OutletEntry>,
        sockets: NodeSockets,
        journal: Option<Journal>,
        keyring_file: Option<PathBuf>,
        tls: Option<Arc<GossipTls>>,
    ) -> HostedNode {
        HostedNode {
            node,
            replies: HashMap::new(),
            next_ticket: 0,
            outlet,
            outlet_dropped: 0,
            sockets,
            accepted: 0,
            journal,
            synced: None,
            keyring_file,
            tls,
        }
    }

    /// What a stream to that address is opened with; None: it is plain.
    pub(crate) fn tls_to(&self, to: SocketAddr) -> Option<Arc<GossipTls>> {
        let tls = self.tls.as_ref().filter(|tls| tls.required() || self.node.takes_tls(to));
        tls.cloned()
    }

    /// Ends the node without announcing it. Its snapshot is on disk once the first returned value resolves; its
    /// own listener is closed once the returned task has ended.
    pub(crate) fn close(mut self, ctx: &mut Context) -> (Option<Synced>, Option<JoinHandle<()>>) {
        self.sync_journal();
        self.node.stop(ctx);
        let accepting = match self.sockets {
            NodeSockets::Own { accepting, .. } => {
                accepting.abort();
                Some(accepting)
            }
            NodeSockets::Shared { .. } => None,
        };
        (self.synced, accepting)
    }

    /// Writes lines of the snapshot that were just appended, if they must not wait.
    pub(crate) fn write_journal(&mut self, urgency: Urgency) {
        match urgency {
            Urgency::Later => {}
            Urgency::Write => {
                if let Some(Err(error)) = self.journal.as_mut().map(Journal::write) {
                    self.report_unwritten(&error);
                }
            }
            Urgency::Sync => self.sync_journal(),
        }
    }

    /// Writes the snapshot's buffer. A failure is reported as a notice and repaired by a later write. Returns true
    /// while the file is rewritten, so that the caller calls again.
    pub(crate) fn flush_journal(&mut self) -> bool {
        let flushed = self.journal.as_mut().map_or(Ok(false), Journal::flush);
        flushed.unwrap_or_else(|error| {
            self.report_unwritten(&error);
            false
        })
    }

    /// Writes the snapshot's buffer and starts to sync the file.
    pub(crate) fn sync_journal(&mut self) {
        match self.journal.as_mut().map(Journal::sync) {
            Some(Ok(synced)) => self.synced = Some(synced),
            Some(Err(error)) => self.report_unwritten(&error),
            None => {}
        }
    }

    fn report_unwritten(&mut self, error: &io::Error) {
        self.deliver(OutletItem::Notice(unwritten(error)));
    }

    /// Registers where completions go and returns the ticket to give to the node with the command.
    pub(crate) fn register(&mut self, reply: Reply) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.replies.insert(ticket, reply);
        ticket
    }

    /// Removes a ticket.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.replies.remove(&ticket);
    }

    /// Answers a command that the node refused.
    pub(crate) fn refuse(&mut self, ticket: Ticket, error: CommandError) {
        if let Some(Reply::Completion(reply)) = self.replies.remove(&ticket) {
            // The caller may have dropped its future.
            let _ = reply.send(Err(error));
        }
    }

    /// Passes a completion on to its caller.
    pub(crate) fn complete(&mut self, ticket: Ticket, completion: Completion) {
        if let Some(Reply::Answers(answers)) = self.replies.get(&ticket) {
            let answer = match completion {
                Completion::QueryAck { from } => Answer::Ack { from },
                Completion::QueryResponse { from, payload } => Answer::Response { from, payload },
                _ => return self.forget(ticket),
            };
            // The caller may have dropped the stream of answers; the query ends by itself.
            let _ = answers.send(answer);
        } else if let Some(Reply::Completion(reply)) = self.replies.remove(&ticket) {
            let Some(synced) = self.synced.take_if(|_| completion == Completion::Left) else {
                let _ = reply.send(Ok(completion));
                return;
            };
            let outlet = self.outlet.clone();
            tokio::task::spawn_local(async move {
                if let Ok(Err(error)) = synced.await {
                    offer(&outlet, OutletItem::Notice(unwritten(&error)));
                }
                let _ = reply.send(Ok(completion));
            });
        }
    }

    /// Puts an item into the outlet, or counts it as dropped. Never waits.
    pub(crate) fn deliver(&mut self, item: OutletItem) {
        self.outlet_dropped += u64::from(!offer(&self.outlet, item));
    }
}

fn unwritten(error: &io::Error) -> Notice {
    Notice::Snapshot { remark: format!("can't write the snapshot, will try again: {error}") }
}

/// Puts an item into the outlet. Returns whether there was room. Notices may fill only half of it, because a peer
/// can cause a notice with any packet and must not displace events. A dropped outlet counts as room.
fn offer(outlet: &mpsc::Sender<OutletEntry>, item: OutletItem) -> bool {
    if matches!(item, OutletItem::Notice(_)) && outlet.capacity() <= outlet.max_capacity() / 2 {
        return false;
    }
    !matches!(outlet.try_send((Instant::now(), item)), Err(mpsc::error::TrySendError::Full(_)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::event::{Event, MemberEventKind, Members, Notice};

    #[test]
    fn notices_leave_room_for_events() {
        let (outlet, mut items) = mpsc::channel(8);
        let notices =
            (0..100).filter(|_| offer(&outlet, OutletItem::Notice(Notice::ReconnectSkipped))).count();
        assert_eq!(notices, 4);
        let event = Event::Member { kind: MemberEventKind::Join, members: Members::default() };
        let events = (0..100).filter(|_| offer(&outlet, OutletItem::Event(event.clone()))).count();
        assert_eq!(events, 4);
        while items.try_recv().is_ok() {}
        assert!(offer(&outlet, OutletItem::Notice(Notice::ReconnectSkipped)));
    }
}
