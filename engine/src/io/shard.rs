//! A shard: one thread with its own runtime, sockets, timers and nodes. It reads the clock, hands inputs to
//! nodes and carries out what they put out; all decisions are the nodes'.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use hashbrown::HashMap;
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::api::{NodeEvent, NodeOptions, ShardCensus, Standing, StartError, Told, end_lists};
use crate::context::{Context, NodeId, StreamId, StreamInput, StreamOperation};
use crate::event::Notice;
use crate::io::alarm::Alarm;
use crate::io::bind::bind_both;
use crate::io::clock::Clock;
use crate::io::journal::{FLUSH_AFTER, Journal, Opened};
use crate::io::mailbox::{Added, Mailbox, Request};
use crate::io::memory::Relief;
use crate::io::seat::{Door, Seat, Synced};
use crate::io::tcp::{StreamEvent, Streams};
use crate::io::{Departure, Driver, SocketIndex, Udp, UdpOptions};
use crate::node::Node;
use crate::random::{Nonces, os_seed};
use crate::time::Time;
use crate::wire::DropReason;

/// Datagrams, timers and stream events handled before outputs are carried out.
const BATCH: usize = 256;
/// Stream events handled in one go, 16 KiB of bytes each at the most: acks wait for them.
const STREAM_BATCH: usize = 32;
/// Receive buffers of a shard with many nodes.
const SHARED_BUFFERS: usize = 1024;

/// What is particular to one shard.
#[derive(Debug)]
pub(crate) struct ShardOptions {
    pub(crate) driver: Driver,
    /// Which processor the thread stays on; none: the system decides.
    pub(crate) processor: Option<usize>,
    /// The listener and the socket that many nodes share.
    pub(crate) shared: Option<(TcpListener, UdpSocket)>,
}

/// Starts a shard's thread and returns once its sockets can be made.
///
/// # Errors
/// The thread, the runtime or the data plane can't be made.
pub(crate) fn spawn(options: ShardOptions, mailbox: Arc<Mailbox>) -> io::Result<()> {
    let (ready_in, ready) = sync_channel(1);
    std::thread::Builder::new().name("thane-shard".to_owned()).spawn(move || {
        // However the thread ends, a panic of a delegate included: nobody waits for its answer for ever.
        let _closing = Closing(Arc::clone(&mailbox));
        if let Err(error) = block_on(begin(options, mailbox, ready_in.clone())) {
            let _ = ready_in.try_send(Err(error));
        }
    })?;
    ready.recv().map_err(|_| io::Error::other("the shard's thread ended at once"))?
}

/// Closes the mailbox when the thread ends.
struct Closing(Arc<Mailbox>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Makes the shard, tells the starter, serves.
async fn begin(options: ShardOptions, mailbox: Arc<Mailbox>, ready: SyncSender<io::Result<()>>) {
    #[cfg(target_os = "linux")]
    if let Some(processor) = options.processor {
        // A thread that may go anywhere works as well, only slower.
        super::shared::pin(processor);
    }
    match Shard::new(options, mailbox) {
        Ok(shard) => {
            // The starter waits; it is there.
            let _ = ready.send(Ok(()));
            shard.run().await;
        }
        Err(error) => drop(ready.send(Err(error))),
    }
}

/// Runs a future on this thread in a runtime of its own. It runs as a task: a task that its own timer or
/// socket wakes costs no system call, which waking the runtime's outermost future does.
fn block_on(future: impl Future<Output = ()> + 'static) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let ended = runtime.block_on(async { tokio::task::spawn_local(future).await });
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
    Ok(())
}

/// Everything on one shard.
struct Shard {
    mailbox: Arc<Mailbox>,
    clock: Clock,
    udp: Udp,
    streams: Streams,
    ctx: Context,
    seats: Vec<Option<Seat>>,
    /// Which node a socket belongs to.
    by_socket: Vec<NodeId>,
    /// The socket that many nodes share, and its port.
    shared: Option<(SocketIndex, u16)>,
    /// The nodes behind it.
    by_ip: HashMap<Ipv4Addr, NodeId>,
    /// When the journals' buffers are to be written, if any holds something.
    flush_at: Option<Time>,
    /// Snapshots of nodes that have ended, on their way to the disk.
    syncing: Vec<Synced>,
    relief: Relief,
    alarm: Alarm,
}

impl Shard {
    fn new(options: ShardOptions, mailbox: Arc<Mailbox>) -> io::Result<Shard> {
        let mut udp_options = UdpOptions::default();
        if options.shared.is_some() {
            udp_options.receive_buffers = SHARED_BUFFERS;
            udp_options.shared_sockets = true;
        }
        let (mut udp, streams) = (Udp::new(options.driver, &udp_options)?, Streams::default());
        let mut shared = None;
        if let Some((listener, socket)) = options.shared {
            let port = socket.local_addr()?.port();
            streams.listen_for_all(tokio::net::TcpListener::from_std(listener)?);
            shared = Some((udp.add_shared(socket)?, port));
        }
        Ok(Shard {
            mailbox,
            clock: Clock::start(),
            udp,
            streams,
            shared,
            by_ip: HashMap::new(),
            ctx: Context::new(os_seed()?, Nonces::from_os()),
            seats: Vec::new(),
            by_socket: Vec::new(),
            flush_at: None,
            syncing: Vec::new(),
            relief: Relief::default(),
            alarm: Alarm::new()?,
        })
    }

    /// Serves until it is stopped.
    async fn run(mut self) {
        loop {
            self.receive();
            self.fire_timers();
            while let Some(request) = self.mailbox.pop() {
                if let Some(reply) = self.serve(request).await {
                    self.stop().await;
                    // Whoever asked may have gone.
                    let _ = reply.send(());
                    return;
                }
            }
            self.relief.note(end_lists(&self.mailbox, &mut self.ctx.roster), self.ctx.now);
            if self.mailbox.is_abandoned() {
                return self.stop().await;
            }
            self.flush_journals();
            self.relief.look(self.ctx.now);
            let due = self.due();
            // A timer that can't be set would be a bug here, and the shard is better late than gone.
            let _ = self.alarm.set(due);
            tokio::select! {
                () = self.udp.readable() => {}
                () = self.mailbox.arrived() => {}
                event = self.streams.events.recv() => self.on_stream_events(event),
                () = self.alarm.rings() => {}
            }
        }
    }

    /// When something is due, on the machine's clock.
    fn due(&self) -> Option<Instant> {
        let later = self.flush_at.into_iter().chain(self.relief.due());
        let earliest = self.ctx.timers.next_deadline().into_iter().chain(later).min();
        earliest.map(|at| self.clock.instant(at))
    }

    fn receive(&mut self) {
        self.ctx.now = self.clock.now();
        let Shard { udp, ctx, seats, by_socket, by_ip, .. } = self;
        udp.receive_arrivals(BATCH, |arrival, bytes| {
            let id = match arrival.to {
                None => by_socket.get(arrival.socket.0 as usize),
                Some(ip) => by_ip.get(&ip),
            };
            if let Some(seat) = id.and_then(|id| seats.get_mut(id.0 as usize)?.as_mut()) {
                seat.node.handle_datagram(ctx, arrival.from, bytes);
            }
        });
        self.carry_out();
    }

    fn fire_timers(&mut self) {
        self.ctx.now = self.clock.now();
        for _ in 0..BATCH {
            let Some((id, key)) = self.ctx.timers.pop_due(self.ctx.now) else { break };
            if let Some(seat) = seat(&mut self.seats, id) {
                seat.node.handle_timeout(&mut self.ctx, key);
            }
        }
        self.carry_out();
    }

    fn on_stream_events(&mut self, first: Option<StreamEvent>) {
        self.ctx.now = self.clock.now();
        let mut next = first;
        for _ in 0..STREAM_BATCH {
            let Some(event) = next else { break };
            self.on_stream_event(event);
            next = self.streams.events.try_recv().ok();
        }
        if let Some(event) = next {
            self.on_stream_event(event);
        }
        self.carry_out();
    }

    fn on_stream_event(&mut self, event: StreamEvent) {
        let mut input = |node, id, input: StreamInput<'_>| {
            if let Some(seat) = seat(&mut self.seats, node) {
                seat.node.handle_stream(&mut self.ctx, id, input);
            }
        };
        match event {
            StreamEvent::Accepted(node, stream, from) => self.on_accepted(node, stream, from),
            StreamEvent::AcceptedAt(IpAddr::V4(ip), stream, from) => {
                if let Some(&node) = self.by_ip.get(&ip) {
                    self.on_accepted(node, stream, from);
                }
            }
            // The shared listener is an IPv4 one.
            StreamEvent::AcceptedAt(IpAddr::V6(_), ..) => {}
            StreamEvent::Opened(node, id) => input(node, id, StreamInput::Opened),
            StreamEvent::Bytes(node, id, bytes) => {
                input(node, id, StreamInput::Bytes(bytes[..].into()));
                self.relief.note(bytes.len(), self.ctx.now);
            }
            StreamEvent::Finished(node, id) => input(node, id, StreamInput::Finished),
            StreamEvent::Failed(node, id, reason) => input(node, id, StreamInput::Failed(&reason)),
            StreamEvent::Ended(node, id) => self.streams.forget(node, id),
        }
    }

    fn on_accepted(&mut self, node: NodeId, stream: TcpStream, from: SocketAddr) {
        if let Some(seat) = seat(&mut self.seats, node) {
            let id = StreamId::accepted(seat.accepted);
            seat.accepted += 1;
            self.streams.adopt(node, id, stream);
            seat.node.handle_stream(&mut self.ctx, id, StreamInput::Accepted(from));
        }
    }

    /// Serves a request; the one to stop comes back.
    async fn serve(&mut self, request: Request) -> Option<oneshot::Sender<()>> {
        self.ctx.now = self.clock.now();
        match request {
            Request::Add(options, outlet, reply) => {
                let added = self.add(*options, outlet).await;
                if let Err(Ok(added)) = reply.send(added) {
                    // Whoever asked has gone, and with it the only way to this node.
                    self.close(added.id).await;
                }
            }
            Request::Call(id, call) => {
                if let Some(seat) = seat(&mut self.seats, id) {
                    call(seat, &mut self.ctx);
                }
            }
            Request::Census(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.census());
            }
            Request::Remove(id, reply) => {
                self.close(id).await;
                // Whoever asked may have gone.
                let _ = reply.send(());
            }
            Request::Stop(reply) => return Some(reply),
        }
        self.carry_out();
        None
    }

    async fn add(&mut self, options: NodeOptions, outlet: mpsc::Sender<Told>) -> Result<Added, StartError> {
        let NodeOptions { mut config, bind, snapshot, keyring_file, delegate, join: _ } = options;
        let (sockets, bound) = match self.shared_door(bind)? {
            Some(door) => (Sockets::Shared(door), bind),
            None => {
                let (listener, socket, bound) = bind_both(bind)?;
                (Sockets::Own(listener, socket), bound)
            }
        };
        if config.advertise.port() == 0 {
            config.advertise.set_port(bound.port());
        }
        let mut remarks = Vec::new();
        let mut journal = None;
        if let Some(snapshot) = snapshot {
            let opened = Journal::open(&snapshot.path, snapshot.rejoin_after_leave)
                .map_err(|error| StartError::Snapshot { path: snapshot.path, error })?;
            let Opened { journal: opened, restored, remarks: said } = opened;
            config.snapshot = true;
            (config.restored, journal, remarks) = (restored, Some(opened), said);
        }
        let config = Arc::new(config.check()?);
        let id = NodeId(self.seats.len() as u32);
        let door = self.open_door(id, sockets, bound)?;
        let advertise = config.advertise;
        let mut node = Node::new(id, config, &mut self.ctx);
        if let Some(delegate) = delegate {
            node.set_delegate(delegate);
        }
        let mut added = Seat::new(node, outlet, door, journal, keyring_file);
        for remark in remarks {
            added.tell(Told::Notice(Notice::Snapshot { remark }));
        }
        self.seats.push(Some(added));
        if let Some(seat) = seat(&mut self.seats, id) {
            seat.node.start(&mut self.ctx);
        }
        Ok(Added { id, bound, advertise })
    }

    /// The way to a node behind the shared socket, if there is one and `bind` has its port.
    fn shared_door(&self, bind: SocketAddr) -> Result<Option<Door>, StartError> {
        let (Some((socket, port)), SocketAddr::V4(addr)) = (self.shared, bind) else { return Ok(None) };
        if addr.port() != port {
            return Ok(None);
        }
        if self.by_ip.contains_key(addr.ip()) {
            let error = io::ErrorKind::AddrInUse.into();
            return Err(StartError::Bind { what: "shared", addr: bind, error });
        }
        Ok(Some(Door::Shared { socket, ip: *addr.ip() }))
    }

    /// Lets what comes through the sockets find its node.
    fn open_door(&mut self, id: NodeId, sockets: Sockets, bound: SocketAddr) -> Result<Door, StartError> {
        match sockets {
            Sockets::Own(listener, socket) => {
                let failed = |what| move |error| StartError::Bind { what, addr: bound, error };
                let listener = tokio::net::TcpListener::from_std(listener).map_err(failed("TCP"))?;
                let socket = self.udp.add(socket).map_err(failed("UDP"))?;
                self.seat_socket(socket, id);
                Ok(Door::Own { socket, accepting: self.streams.listen(id, listener) })
            }
            Sockets::Shared(door) => {
                self.by_ip.extend(door.ip().map(|ip| (ip, id)));
                Ok(door)
            }
        }
    }

    fn census(&self) -> ShardCensus {
        let standing = |seat: &Seat| Standing::of(&seat.node);
        ShardCensus { nodes: self.seats.iter().flatten().map(standing).collect(), udp: self.udp.counters() }
    }

    fn seat_socket(&mut self, socket: SocketIndex, id: NodeId) {
        let place = socket.0 as usize;
        if self.by_socket.len() <= place {
            self.by_socket.resize(place + 1, id);
        }
        self.by_socket[place] = id;
    }

    /// Ends a node. Once the task that comes back has ended, its address is free.
    fn remove(&mut self, id: NodeId) -> Option<JoinHandle<()>> {
        let seat = self.seats.get_mut(id.0 as usize).and_then(Option::take)?;
        self.streams.abort_node(id);
        match seat.door {
            Door::Own { socket, .. } => self.udp.remove(socket),
            Door::Shared { ip, .. } => {
                self.by_ip.remove(&ip);
            }
        }
        let (synced, accepting) = seat.close(&mut self.ctx);
        self.syncing.extend(synced);
        accepting
    }

    /// Ends a node and returns when its address is free and its snapshot on disk.
    async fn close(&mut self, id: NodeId) {
        if let Some(accepting) = self.remove(id) {
            // It was aborted, which is the error it ends with.
            let _ = accepting.await;
        }
        self.synced().await;
    }

    /// Returns when the snapshots of all nodes that have ended are on disk; nobody is left to be told of a failure.
    async fn synced(&mut self) {
        for synced in self.syncing.drain(..) {
            let _ = synced.await;
        }
    }

    async fn stop(mut self) {
        for id in 0..self.seats.len() as u32 {
            self.close(NodeId(id)).await;
        }
        self.synced().await;
        self.mailbox.close();
        self.udp.close().await;
    }

    /// Carries out what nodes put out, in the order that the Context's documentation gives.
    fn carry_out(&mut self) {
        if self.ctx.out.is_empty() {
            return;
        }
        self.write_records();
        self.send_datagrams();
        let out = &mut self.ctx.out;
        for (node, id, operation) in out.streams.drain(..) {
            if matches!(operation, StreamOperation::Close | StreamOperation::Abort) {
                self.relief.stream_ended(self.ctx.now);
            }
            let from = self.seats.get(node.0 as usize).and_then(|seat| seat.as_ref()?.door.ip());
            let unread = self.streams.operate(node, from, id, operation);
            if let Some(seat) = seat(&mut self.seats, node).filter(|_| unread > 0) {
                seat.node.count_drops(DropReason::StreamUnread, unread);
            }
        }
        for (node, ticket, completion) in out.completions.drain(..) {
            if let Some(seat) = seat(&mut self.seats, node) {
                seat.complete(ticket, completion);
            }
        }
        for (node, event) in out.events.drain(..) {
            if let Some(seat) = seat(&mut self.seats, node) {
                if let Some(ring) = self.mailbox.watched() {
                    let node = seat.node.config().node_name.as_str().into();
                    ring.write(NodeEvent { node, event: event.clone() });
                }
                seat.tell(Told::Event(event));
            }
        }
        for (node, notice) in out.notices.drain(..) {
            if let Some(seat) = seat(&mut self.seats, node) {
                seat.tell(Told::Notice(notice));
            }
        }
        for node in out.keyrings.drain(..) {
            if let Some(seat) = seat(&mut self.seats, node) {
                seat.write_keyring();
            }
        }
        for node in std::mem::take(&mut self.ctx.out.ended) {
            self.remove(node);
        }
    }

    fn send_datagrams(&mut self) {
        let Shard { udp, ctx, seats, .. } = self;
        let (datagrams, bytes) = (&ctx.out.datagrams, &ctx.out.send_buffer);
        udp.send_departures(datagrams.iter().filter_map(|datagram| {
            let door = &seats.get(datagram.node.0 as usize)?.as_ref()?.door;
            let bytes = &bytes[datagram.range.clone()];
            Some(Departure { socket: door.socket(), from: door.ip(), to: datagram.to, bytes })
        }));
        ctx.out.clear_datagrams();
    }

    fn write_records(&mut self) {
        for (node, record) in self.ctx.out.records.drain(..) {
            let Some(seat) = seat(&mut self.seats, node) else { continue };
            let Some(journal) = &mut seat.journal else { continue };
            self.flush_at.get_or_insert(self.ctx.now + FLUSH_AFTER);
            if journal.append(record) {
                seat.sync_journal();
            }
        }
    }

    /// Has the journals' buffers written if it is time.
    fn flush_journals(&mut self) {
        if self.flush_at.is_none_or(|at| at > self.ctx.now) {
            return;
        }
        let mut again = false;
        for seat in self.seats.iter_mut().flatten() {
            again |= seat.flush_journal();
        }
        self.flush_at = again.then(|| self.ctx.now + FLUSH_AFTER);
    }
}

/// What a node will be reached through.
enum Sockets {
    Own(TcpListener, UdpSocket),
    Shared(Door),
}

fn seat(seats: &mut [Option<Seat>], id: NodeId) -> Option<&mut Seat> {
    seats.get_mut(id.0 as usize)?.as_mut()
}
