//! Streams: one task each moves bytes between a connection and the shard. Deadlines are the node's; a task
//! ends when the node closes or aborts its stream.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle, spawn_local};

use crate::context::{NodeId, StreamId, StreamOperation};

/// Stream inputs that wait for the shard at one time; tasks wait when it is full, and so do their peers.
const EVENTS_DEPTH: usize = 256;
/// Bytes read in one go.
const READ_BYTES: usize = 16 * 1024;
/// After the last bytes were sent, how long the other side's are still taken. Closing with bytes unread
/// would reset the connection and could lose what was sent.
const LINGER: Duration = Duration::from_secs(1);
/// A peer that takes no bytes for so long is cut off: the longest stream timeout of Serf's profiles.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Wait after a failed accept (out of descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What happened on the streams of a shard.
pub(crate) enum StreamEvent {
    /// Somebody connected to a node.
    Accepted(NodeId, TcpStream, SocketAddr),
    /// Somebody connected to the shard's listener, under that address.
    AcceptedAt(IpAddr, TcpStream, SocketAddr),
    /// A connection that a node asked for is there.
    Opened(NodeId, StreamId),
    /// Bytes came.
    Bytes(NodeId, StreamId, Vec<u8>),
    /// No more will come.
    Finished(NodeId, StreamId),
    /// It broke.
    Failed(NodeId, StreamId, String),
    /// Its task has ended; nothing follows.
    Ended(NodeId, StreamId),
}

/// The streams of all nodes of a shard.
pub(crate) struct Streams {
    open: HashMap<(NodeId, StreamId), Open>,
    events_in: mpsc::Sender<StreamEvent>,
    /// What happened, in order for each stream.
    pub(crate) events: mpsc::Receiver<StreamEvent>,
}

/// A stream with a task.
struct Open {
    operations: mpsc::UnboundedSender<StreamOperation>,
    task: AbortHandle,
}

impl Default for Streams {
    fn default() -> Streams {
        let (events_in, events) = mpsc::channel(EVENTS_DEPTH);
        Streams { open: HashMap::new(), events_in, events }
    }
}

impl Streams {
    /// Accepts connections for a node until the task is aborted; the listener closes with it.
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
                        // One that is gone already is nobody's.
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

    /// Starts the task of an accepted connection.
    pub(crate) fn adopt(&mut self, node: NodeId, id: StreamId, stream: TcpStream) {
        self.spawn(node, id, |task, operations| task.run(stream, operations));
    }

    /// Does what a node wants done with a stream. Operations for a stream that is over are ignored.
    /// `from` is the address to connect from, if the node's is not the only one.
    pub(crate) fn operate(
        &mut self,
        node: NodeId,
        from: Option<Ipv4Addr>,
        id: StreamId,
        operation: StreamOperation,
    ) {
        match operation {
            StreamOperation::Open(to) => {
                self.spawn(node, id, |task, operations| task.connect(from, to, operations));
            }
            StreamOperation::Write(_) => {
                if let Some(open) = self.open.get(&(node, id)) {
                    // A task that has ended has said so; the node hears it next.
                    let _ = open.operations.send(operation);
                }
            }
            StreamOperation::Close => {
                if let Some(open) = self.open.remove(&(node, id)) {
                    let _ = open.operations.send(operation);
                }
            }
            StreamOperation::Abort => {
                if let Some(open) = self.open.remove(&(node, id)) {
                    open.task.abort();
                }
            }
        }
    }

    /// A stream's task has ended.
    pub(crate) fn forget(&mut self, node: NodeId, id: StreamId) {
        self.open.remove(&(node, id));
    }

    /// Ends all streams of a node.
    pub(crate) fn abort_node(&mut self, node: NodeId) {
        for (_, open) in self.open.extract_if(|&(owner, _), _| owner == node) {
            open.task.abort();
        }
    }

    fn spawn<F: Future<Output = ()> + 'static>(
        &mut self,
        node: NodeId,
        id: StreamId,
        start: impl FnOnce(Task, mpsc::UnboundedReceiver<StreamOperation>) -> F,
    ) {
        // Not bounded here: what a node writes on one stream is one message, whose size is capped.
        let (operations_in, operations) = mpsc::unbounded_channel();
        let task = Task { node, id, events: self.events_in.clone() };
        let task = spawn_local(start(task, operations)).abort_handle();
        self.open.insert((node, id), Open { operations: operations_in, task });
    }
}

/// One stream's task.
struct Task {
    node: NodeId,
    id: StreamId,
    events: mpsc::Sender<StreamEvent>,
}

impl Task {
    async fn connect(
        self,
        from: Option<Ipv4Addr>,
        to: SocketAddr,
        operations: mpsc::UnboundedReceiver<StreamOperation>,
    ) {
        match connect(from, to).await {
            Ok(stream) => {
                self.tell(StreamEvent::Opened(self.node, self.id)).await;
                self.run(stream, operations).await;
            }
            Err(error) => {
                self.tell(StreamEvent::Failed(self.node, self.id, reason(&error))).await;
                self.tell(StreamEvent::Ended(self.node, self.id)).await;
            }
        }
    }

    async fn run(self, mut stream: TcpStream, operations: mpsc::UnboundedReceiver<StreamOperation>) {
        // Messages are written whole; waiting for more to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        let (reading, writing) = stream.split();
        let mut read = pin!(read(self.node, self.id, &self.events, reading));
        let mut write = pin!(write(writing, operations));
        let mut all_read = false;
        let written = loop {
            tokio::select! {
                written = &mut write => break written,
                () = &mut read, if !all_read => all_read = true,
            }
        };
        if let Err(error) = written {
            self.tell(StreamEvent::Failed(self.node, self.id, reason(&error))).await;
        } else if !all_read {
            // What still comes is for nobody; a peer that goes on after the time is cut off.
            let _ = tokio::time::timeout(LINGER, read).await;
        }
        self.tell(StreamEvent::Ended(self.node, self.id)).await;
    }

    async fn tell(&self, event: StreamEvent) {
        // The shard has ended if nobody listens.
        let _ = self.events.send(event).await;
    }
}

async fn connect(from: Option<Ipv4Addr>, to: SocketAddr) -> io::Result<TcpStream> {
    let Some(from) = from else { return TcpStream::connect(to).await };
    let socket = TcpSocket::new_v4()?;
    // The port is then taken from those that are free towards `to`, not from all.
    #[cfg(target_os = "linux")]
    super::shared::bind_without_port(&socket)?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// Writes what the node wants written until it closes the stream.
async fn write(
    mut to: WriteHalf<'_>,
    mut operations: mpsc::UnboundedReceiver<StreamOperation>,
) -> io::Result<()> {
    while let Some(StreamOperation::Write(bytes)) = operations.recv().await {
        let sent = tokio::time::timeout(SEND_TIMEOUT, to.write_all(&bytes)).await;
        sent.map_err(|_| io::ErrorKind::TimedOut)??;
    }
    to.shutdown().await
}

/// Reads until the other side is through.
async fn read(node: NodeId, id: StreamId, events: &mpsc::Sender<StreamEvent>, mut from: ReadHalf<'_>) {
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

/// A system error in the words that join errors use, without the number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    }
}
