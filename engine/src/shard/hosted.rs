//! What a shard keeps for one of its nodes beside the node: who waits for which answer, and the way to the
//! application.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::item::{Answer, OutletItem};
use crate::command::{CommandError, Ticket};
use crate::context::Context;
use crate::event::{Completion, Notice};
use crate::io::SocketIndex;
use crate::io::files::journal::Journal;
use crate::io::files::keyring;
use crate::node::Node;

/// One node's place on a shard.
pub(crate) struct HostedNode {
    pub(crate) node: Node,
    replies: HashMap<Ticket, Reply>,
    next_ticket: u64,
    outlet: mpsc::Sender<OutletItem>,
    /// Events and notices that found the outlet full.
    pub(crate) outlet_dropped: u64,
    pub(crate) sockets: NodeSockets,
    /// Connections accepted so far.
    pub(crate) accepted: u64,
    pub(crate) journal: Option<Journal>,
    /// The snapshot's last lines on their way to the disk.
    synced: Option<Synced>,
    keyring_file: Option<PathBuf>,
}

/// Tells when a snapshot is on disk, or why it is not.
pub(crate) type Synced = oneshot::Receiver<io::Result<()>>;

/// Through what a node is reached.
pub(crate) enum NodeSockets {
    /// A socket and a listener of its own.
    Own { socket: SocketIndex, accepting: JoinHandle<()> },
    /// The shard's shared ones, under this address.
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

/// Who waits for the completions of one ticket.
pub(crate) enum Reply {
    /// One completion ends it.
    Completion(oneshot::Sender<Result<Completion, CommandError>>),
    /// A query's answers, until it is done.
    Answers(mpsc::UnboundedSender<Answer>),
}

impl HostedNode {
    pub(crate) fn new(
        node: Node,
        outlet: mpsc::Sender<OutletItem>,
        sockets: NodeSockets,
        journal: Option<Journal>,
        keyring_file: Option<PathBuf>,
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
        }
    }

    /// Ends the node without a word. Once the first that comes back is there, its snapshot is on disk; once the
    /// second has ended, its own listener is closed.
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

    /// Has the snapshot's buffer written. A failure is told, and repaired later. True if it is to be asked again
    /// how it went.
    pub(crate) fn flush_journal(&mut self) -> bool {
        let flushed = self.journal.as_mut().map_or(Ok(false), Journal::flush);
        flushed.unwrap_or_else(|error| {
            self.tell_unwritten(&error);
            false
        })
    }

    /// Has the snapshot's buffer written down to the disk.
    pub(crate) fn sync_journal(&mut self) {
        match self.journal.as_mut().map(Journal::sync) {
            Some(Ok(synced)) => self.synced = Some(synced),
            Some(Err(error)) => self.tell_unwritten(&error),
            None => {}
        }
    }

    fn tell_unwritten(&mut self, error: &io::Error) {
        self.tell(OutletItem::Notice(unwritten(error)));
    }

    /// Writes the keyring file, if there is one: the node's keys changed.
    pub(crate) fn write_keyring(&mut self) {
        let Some(path) = &self.keyring_file else { return };
        if let Err(error) = keyring::write(path, self.node.keys()) {
            let remark = format!("can't write the keyring file {}: {error}", path.display());
            self.tell(OutletItem::Notice(Notice::Keyring { remark }));
        }
    }

    /// Registers who waits; the ticket goes to the node with the command.
    pub(crate) fn expect(&mut self, reply: Reply) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.replies.insert(ticket, reply);
        ticket
    }

    /// Nobody waits any more.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.replies.remove(&ticket);
    }

    /// The node refused the command.
    pub(crate) fn refuse(&mut self, ticket: Ticket, error: CommandError) {
        if let Some(Reply::Completion(reply)) = self.replies.remove(&ticket) {
            // Whoever asked may have gone; nothing is lost then.
            let _ = reply.send(Err(error));
        }
    }

    /// The node completed something.
    pub(crate) fn complete(&mut self, ticket: Ticket, completion: Completion) {
        if let Some(Reply::Answers(answers)) = self.replies.get(&ticket) {
            let answer = match completion {
                Completion::QueryAck { from } => Answer::Ack { from },
                Completion::QueryResponse { from, payload } => Answer::Response { from, payload },
                _ => return self.forget(ticket),
            };
            // A caller that dropped its receiver wants no more answers; the query ends by itself.
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

    /// Tells the application. Never waits for it.
    pub(crate) fn tell(&mut self, told: OutletItem) {
        self.outlet_dropped += u64::from(!offer(&self.outlet, told));
    }
}

fn unwritten(error: &io::Error) -> Notice {
    Notice::Snapshot { remark: format!("can't write the snapshot, will try again: {error}") }
}

/// Whether there was room. Notices leave half of it to events: peers can cause a notice with any packet, and
/// must not push events out with them. An application that is gone counts as room.
fn offer(outlet: &mpsc::Sender<OutletItem>, told: OutletItem) -> bool {
    if matches!(told, OutletItem::Notice(_)) && outlet.capacity() <= outlet.max_capacity() / 2 {
        return false;
    }
    !matches!(outlet.try_send(told), Err(mpsc::error::TrySendError::Full(_)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::event::{Event, MemberEventKind, Members, Notice};

    #[test]
    fn notices_leave_room_for_events() {
        let (outlet, mut told) = mpsc::channel(8);
        let notices =
            (0..100).filter(|_| offer(&outlet, OutletItem::Notice(Notice::ReconnectSkipped))).count();
        assert_eq!(notices, 4);
        let event = Event::Member { kind: MemberEventKind::Join, members: Members::default() };
        let events = (0..100).filter(|_| offer(&outlet, OutletItem::Event(event.clone()))).count();
        assert_eq!(events, 4);
        while told.try_recv().is_ok() {}
        assert!(offer(&outlet, OutletItem::Notice(Notice::ReconnectSkipped)));
    }
}
