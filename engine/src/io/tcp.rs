//! Streams: for each, a task moves bytes between a connection and the shard. The node keeps the deadlines; a task
//! ends when the node closes or aborts its stream.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle, spawn_local};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::context::{NodeId, StreamId, StreamOperation};
use crate::drop_reason::DropReason;
use crate::tls::{self, GossipTls};

/// Capacity of the queue of stream events. When it is full the tasks wait, and so do their peers.
const EVENTS_DEPTH: usize = 256;
/// Bytes per read.
const READ_BYTES: usize = 16 * 1024;
/// How long the peer's bytes are still read after the last bytes were sent. Closing with unread bytes would reset
/// the connection and could lose what was sent.
const LINGER: Duration = Duration::from_secs(1);
/// A stream whose peer reads nothing for this time is aborted: the longest stream timeout of Serf's profiles.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of one node that its peers have not read yet. Beyond it the oldest answer is aborted; an honest peer has
/// read it long before.
const UNREAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest time for the handshake of TLS; the node's own deadline is usually shorter.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// What a stream by TLS begins with. No message of memberlist has this number.
const TLS_HANDSHAKE: u8 = 0x16;
/// Pause after a failed accept, usually for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Something that happened to a stream of a shard.
pub(crate) enum StreamEvent {
    /// A peer connected to a node.
    Accepted(NodeId, TcpStream, SocketAddr),
    /// A peer connected to the shard's shared listener, under this address.
    AcceptedAt(IpAddr, TcpStream, SocketAddr),
    /// A connection that a node opened is established.
    Opened(NodeId, StreamId),
    /// Bytes arrived.
    Bytes(NodeId, StreamId, Vec<u8>),
    /// The peer will send no more.
    Finished(NodeId, StreamId),
    /// The connection failed, with the reason.
    Failed(NodeId, StreamId, String),
    /// What the peer sent is refused.
    Refused(NodeId, StreamId, DropReason),
    /// The stream's task has ended; no event follows.
    Ended(NodeId, StreamId),
}

/// The streams of all nodes of a shard.
pub(crate) struct Streams {
    open: HashMap<(NodeId, StreamId), Open>,
    /// Streams opened so far.
    opened: u64,
    /// Unread bytes of all nodes.
    unread: Unread,
    events_in: mpsc::Sender<StreamEvent>,
    /// Events, in order for each stream.
    pub(crate) events: mpsc::Receiver<StreamEvent>,
}

/// A stream with a task.
struct Open {
    operations: mpsc::UnboundedSender<StreamOperation>,
    task: AbortHandle,
    /// The number of streams opened before it.
    before: u64,
    /// The node has closed it; what it wrote may not have been sent yet.
    closed: bool,
    unread: Unread,
}

/// Bytes that the peer has not read yet, shared with the task that writes them. However the task ends, they leave
/// the total.
#[derive(Clone, Default)]
struct Unread {
    bytes: Rc<Cell<usize>>,
    of_all: Option<Rc<Cell<usize>>>,
}

impl Unread {
    fn part_of(total: &Unread) -> Unread {
        Unread { bytes: Rc::default(), of_all: Some(Rc::clone(&total.bytes)) }
    }

    fn bytes(&self) -> usize {
        self.bytes.get()
    }

    fn set(&self, bytes: usize) {
        let before = self.bytes.replace(bytes);
        if let Some(total) = &self.of_all {
            total.set(total.get() + bytes - before);
        }
    }
}

impl Default for Streams {
    fn default() -> Streams {
        let (events_in, events) = mpsc::channel(EVENTS_DEPTH);
        Streams { open: HashMap::new(), opened: 0, unread: Unread::default(), events_in, events }
    }
}

impl Streams {
    /// Accepts connections for a node until the returned task is aborted, which closes the listener.
    pub(crate) fn listen(&self, node: NodeId, listener: TcpListener) -> JoinHandle<()> {
        let events = self.events_in.clone();
        let accepting = async move {
            loop {
                match listener.accept().await {
                    Ok((stream, from)) => {
                        if events.send(StreamEvent::Accepted(node, stream, from)).await.is_err() {
                            return;
                        }
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        };
        spawn_local(accepting)
    }

    /// Accepts connections for all nodes of the shard.
    pub(crate) fn listen_for_all(&self, listener: TcpListener) {
        let events = self.events_in.clone();
        spawn_local(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, from)) => {
                        // The connection has ended already.
                        let Ok(to) = stream.local_addr() else { continue };
                        let accepted = StreamEvent::AcceptedAt(to.ip(), stream, from);
                        if events.send(accepted).await.is_err() {
                            return;
                        }
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        });
    }

    /// Starts the task of an accepted connection; with `tls` the peer may speak TLS.
    pub(crate) fn adopt(
        &mut self,
        node: NodeId,
        id: StreamId,
        stream: TcpStream,
        tls: Option<Arc<GossipTls>>,
    ) {
        self.spawn(node, id, |task, operations| task.accept(stream, tls, operations));
    }

    /// Carries out an operation of a node. Operations for a stream that has ended are ignored. `from` is the address
    /// to connect from, if the node shares its sockets; `tls` is asked whether to connect by TLS. Returns the number of older streams that were aborted
    /// because too much is unread.
    pub(crate) fn operate(
        &mut self,
        node: NodeId,
        from: Option<Ipv4Addr>,
        id: StreamId,
        operation: StreamOperation,
        tls: impl FnOnce(SocketAddr) -> Option<Arc<GossipTls>>,
    ) -> usize {
        match operation {
            StreamOperation::Open(to) => {
                let tls = tls(to);
                self.spawn(node, id, |task, operations| task.connect(from, to, tls, operations));
            }
            StreamOperation::Write(ref bytes) => {
                if let Some(open) = self.open.get(&(node, id)).filter(|open| !open.closed) {
                    open.unread.set(open.unread.bytes() + bytes.len());
                    // A task that has ended has sent an event about it.
                    let _ = open.operations.send(operation);
                    return self.make_room(node, id);
                }
            }
            StreamOperation::Close => {
                if let Some(open) = self.open.get_mut(&(node, id)) {
                    open.closed = true;
                    let _ = open.operations.send(operation);
                }
            }
            StreamOperation::Abort => {
                if let Some(open) = self.open.remove(&(node, id)) {
                    open.abort();
                }
            }
        }
        0
    }

    /// Aborts the node's oldest answers while its peers leave too much unread. Streams that the node has not closed
    /// and the stream that was written last are spared.
    fn make_room(&mut self, node: NodeId, last: StreamId) -> usize {
        let mut cut = 0;
        // All streams are searched only in the rare case that all nodes together exceed the limit.
        while self.unread.bytes() > UNREAD_BYTES_MAX {
            let of_node =
                || self.open.iter().filter(|((owner, _), open)| *owner == node && open.unread.bytes() > 0);
            if of_node().map(|(_, open)| open.unread.bytes()).sum::<usize>() <= UNREAD_BYTES_MAX {
                break;
            }
            let answers = of_node().filter(|((_, id), open)| open.closed && *id != last);
            let Some((&oldest, _)) = answers.min_by_key(|(_, open)| open.before) else { break };
            if let Some(open) = self.open.remove(&oldest) {
                open.abort();
                cut += 1;
            }
        }
        cut
    }

    /// Forgets a stream whose task has ended.
    pub(crate) fn forget(&mut self, node: NodeId, id: StreamId) {
        if let Some(open) = self.open.remove(&(node, id)) {
            open.unread.set(0);
        }
    }

    /// Aborts all streams of a node.
    pub(crate) fn abort_node(&mut self, node: NodeId) {
        for (_, open) in self.open.extract_if(|&(owner, _), _| owner == node) {
            open.abort();
        }
    }

    fn spawn<F: Future<Output = ()> + 'static>(
        &mut self,
        node: NodeId,
        id: StreamId,
        start: impl FnOnce(Task, mpsc::UnboundedReceiver<StreamOperation>) -> F,
    ) {
        // Not bounded here: a node writes one message on a stream, and its size is capped.
        let (operations_in, operations) = mpsc::unbounded_channel();
        let unread = Unread::part_of(&self.unread);
        let task = Task { node, id, events: self.events_in.clone(), unread: unread.clone() };
        let task = spawn_local(start(task, operations)).abort_handle();
        let before = self.opened;
        self.opened += 1;
        self.open.insert((node, id), Open { operations: operations_in, task, before, closed: false, unread });
    }
}

impl Open {
    /// Ends the stream; bytes that were not sent are lost.
    fn abort(self) {
        self.task.abort();
        self.unread.set(0);
    }
}

/// One stream's task.
struct Task {
    node: NodeId,
    id: StreamId,
    events: mpsc::Sender<StreamEvent>,
    unread: Unread,
}

impl Task {
    async fn connect(
        self,
        from: Option<Ipv4Addr>,
        to: SocketAddr,
        tls: Option<Arc<GossipTls>>,
        operations: mpsc::UnboundedReceiver<StreamOperation>,
    ) {
        let mut stream = match connect(from, to).await {
            Ok(stream) => stream,
            Err(error) => {
                let step = if error.kind() == io::ErrorKind::TimedOut { "" } else { "connect: " };
                let text = format!("dial tcp {to}: {step}{}", reason(&error));
                return self.end(StreamEvent::Failed(self.node, self.id, text)).await;
            }
        };
        prepare(&stream);
        let Some(tls) = tls else {
            self.send(StreamEvent::Opened(self.node, self.id)).await;
            let (reading, writing) = stream.split();
            return self.run(reading, writing, operations).await;
        };
        let connecting = TlsConnector::from(tls.client()).connect(to.ip().into(), stream);
        match tokio::time::timeout(HANDSHAKE_WITHIN, connecting).await {
            Ok(Ok(stream)) => {
                self.send(StreamEvent::Opened(self.node, self.id)).await;
                let (reading, writing) = tokio::io::split(stream);
                self.run(reading, writing, operations).await;
            }
            Ok(Err(error)) => {
                let text = format!("TLS with {to}: {}", tls::reason(&error));
                self.end(StreamEvent::Failed(self.node, self.id, text)).await;
            }
            Err(_) => {
                let text = format!("TLS with {to}: i/o timeout");
                self.end(StreamEvent::Failed(self.node, self.id, text)).await;
            }
        }
    }

    /// The first byte tells whether the peer speaks TLS.
    async fn accept(
        self,
        mut stream: TcpStream,
        tls: Option<Arc<GossipTls>>,
        operations: mpsc::UnboundedReceiver<StreamOperation>,
    ) {
        prepare(&stream);
        if let Some(tls) = tls {
            let mut first = [0];
            // The end of a connection, or an error, is found by the first read as well.
            let came = stream.peek(&mut first).await.is_ok_and(|bytes| bytes > 0);
            if came && first == [TLS_HANDSHAKE] {
                let accepting = TlsAcceptor::from(tls.server()).accept(stream);
                return match tokio::time::timeout(HANDSHAKE_WITHIN, accepting).await {
                    Ok(Ok(stream)) => {
                        let (reading, writing) = tokio::io::split(stream);
                        self.run(reading, writing, operations).await;
                    }
                    _ => self.end(StreamEvent::Refused(self.node, self.id, DropReason::TlsRefused)).await,
                };
            }
            if came && tls.required() {
                return self.end(StreamEvent::Refused(self.node, self.id, DropReason::TlsRequired)).await;
            }
        }
        let (reading, writing) = stream.split();
        self.run(reading, writing, operations).await;
    }

    async fn run(
        self,
        reading: impl AsyncRead + Unpin,
        writing: impl AsyncWrite + Unpin,
        operations: mpsc::UnboundedReceiver<StreamOperation>,
    ) {
        let mut read = pin!(read(self.node, self.id, &self.events, reading));
        let mut write = pin!(write(writing, operations, &self.unread));
        let mut all_read = false;
        let written = loop {
            tokio::select! {
                written = &mut write => break written,
                () = &mut read, if !all_read => all_read = true,
            }
        };
        if let Err(error) = written {
            self.send(StreamEvent::Failed(self.node, self.id, reason(&error))).await;
        } else if !all_read {
            // What still arrives is discarded; a peer that sends for longer is disconnected.
            let _ = tokio::time::timeout(LINGER, read).await;
        }
        self.send(StreamEvent::Ended(self.node, self.id)).await;
    }

    /// Sends the last event but one.
    async fn end(&self, event: StreamEvent) {
        self.send(event).await;
        self.send(StreamEvent::Ended(self.node, self.id)).await;
    }

    async fn send(&self, event: StreamEvent) {
        // The channel is closed if the shard has ended.
        let _ = self.events.send(event).await;
    }
}

/// Messages are written whole, so waiting to fill a segment only delays them.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
}

async fn connect(from: Option<Ipv4Addr>, to: SocketAddr) -> io::Result<TcpStream> {
    let Some(from) = from else { return TcpStream::connect(to).await };
    let socket = TcpSocket::new_v4()?;
    // The port is then chosen from those that are free towards `to`, which are more than those that are free.
    #[cfg(target_os = "linux")]
    super::shared::bind_without_port(&socket)?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// Writes what the node writes until it closes the stream.
async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut operations: mpsc::UnboundedReceiver<StreamOperation>,
    unread: &Unread,
) -> io::Result<()> {
    while let Some(StreamOperation::Write(bytes)) = operations.recv().await {
        let sending = async {
            to.write_all(&bytes).await?;
            // TLS may hold back a part.
            to.flush().await
        };
        let sent = tokio::time::timeout(SEND_TIMEOUT, sending).await;
        sent.map_err(|_| io::ErrorKind::TimedOut)??;
        unread.set(unread.bytes() - bytes.len());
    }
    tokio::time::timeout(SEND_TIMEOUT, to.shutdown()).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Reads until the peer closes its side or the connection fails.
async fn read(
    node: NodeId,
    id: StreamId,
    events: &mpsc::Sender<StreamEvent>,
    mut from: impl AsyncRead + Unpin,
) {
    loop {
        let mut bytes = Vec::with_capacity(READ_BYTES);
        let event = match from.read_buf(&mut bytes).await {
            Ok(0) => StreamEvent::Finished(node, id),
            Ok(_) => StreamEvent::Bytes(node, id, bytes),
            Err(error) => StreamEvent::Failed(node, id, reason(&error)),
        };
        let more = matches!(event, StreamEvent::Bytes(..));
        if events.send(event).await.is_err() || !more {
            return;
        }
    }
}

/// A system error in the words of Serf's join errors, without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        // An alert of TLS: the other side judges this side's certificate after the handshake.
        io::ErrorKind::InvalidData => tls::reason(error),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NODE: NodeId = NodeId(3);
    const ANSWER_BYTES: usize = 20 * 1024 * 1024;

    /// Answers `count` connections and closes; returns the peers' ends and how many streams were cut off.
    async fn answer(streams: &mut Streams, ids: std::ops::Range<u64>) -> (Vec<TcpStream>, usize) {
        let listener = TcpListener::bind("127.46.5.1:0").await.unwrap();
        let (mut peers, mut cut) = (Vec::new(), 0);
        for id in ids.map(StreamId::accepted) {
            let connected = TcpStream::connect(listener.local_addr().unwrap());
            let (peer, accepted) = tokio::join!(connected, listener.accept());
            peers.push(peer.unwrap());
            streams.adopt(NODE, id, accepted.unwrap().0, None);
            cut += streams.operate(NODE, None, id, StreamOperation::Write(vec![1; ANSWER_BYTES]), |_| None);
            cut += streams.operate(NODE, None, id, StreamOperation::Close, |_| None);
        }
        (peers, cut)
    }

    #[tokio::test(flavor = "local")]
    async fn answers_that_nobody_reads_are_cut_off_oldest_first() {
        let mut streams = Streams::default();
        let (mut peers, cut) = answer(&mut streams, 0..5).await;
        assert_eq!(cut, 2, "three of 20 MiB fit into 64");
        assert!(streams.unread.bytes() <= UNREAD_BYTES_MAX);
        let mut bytes = Vec::new();
        for (place, peer) in peers.iter_mut().enumerate() {
            bytes.clear();
            let read = peer.read_to_end(&mut bytes).await;
            let whole = read.is_ok() && bytes.len() == ANSWER_BYTES;
            assert_eq!(whole, place >= 2, "{place}: {read:?}");
        }
        // Bytes that were read leave the total.
        drop(peers);
        let mut ended = 0;
        while ended < 3 {
            if let StreamEvent::Ended(node, id) = streams.events.recv().await.unwrap() {
                streams.forget(node, id);
                ended += 1;
            }
        }
        assert_eq!((streams.unread.bytes(), streams.open.len()), (0, 0));
        assert_eq!(answer(&mut streams, 10..13).await.1, 0);
    }
}
