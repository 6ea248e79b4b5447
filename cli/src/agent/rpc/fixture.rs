//! Test fixture: an agent's RPC port with a real engine and node, and a client that returns every value it receives.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use thane_engine::api::{Engine, NodeOptions, OutletItem};
use thane_engine::config::RawConfig;
use thane_engine::io::DriverChoice;
use thane_engine::ipc::{Frames, HandshakeRequest, Request};
use thane_engine::wire::msgpack::Reader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify, broadcast};
use tokio::task::JoinSet;

use super::serve;
use crate::agent::backend::{Backend, EVENTS_WAITING_MAX, guesses};
use crate::agent::identity::SelfIdentity;
use crate::agent::level::Level;
use crate::agent::log::Log;

/// Longest wait of a test; only a failing test waits so long.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// The settings of a test agent.
#[derive(Default)]
pub(super) struct Setup {
    pub(super) auth: &'static str,
    pub(super) tags: &'static [(&'static str, &'static str)],
    pub(super) tags_file: Option<PathBuf>,
    pub(super) handlers: &'static [(&'static str, &'static str)],
}

/// An agent without its process.
pub(super) struct Agent {
    pub(super) backend: Rc<Backend>,
    pub(super) rpc: SocketAddr,
    engine: Engine,
    _tasks: JoinSet<()>,
}

impl Agent {
    /// Gossip and RPC are on `ip`, on free ports. Runs until dropped or [`end`](Agent::end)ed.
    pub(super) async fn start(name: &str, ip: &str, setup: Setup) -> Agent {
        let bind = SocketAddr::new(ip.parse().unwrap(), 0);
        let engine = Engine::start(DriverChoice::Portable).unwrap();
        let mut config = RawConfig::lan(name, bind);
        config.tags = pairs(setup.tags);
        // As in Serf's agent.
        config.coalesce_members = (Duration::from_secs(3), Duration::from_secs(1));
        config.coalesce_users = config.coalesce_members;
        let (handle, mut outlet) = engine.add(NodeOptions::new(config, bind)).await.unwrap();
        let identity = SelfIdentity { name: name.to_owned(), tags: pairs(setup.tags).into() };
        let log = Log::new(Level::Err);
        let backend = Rc::new(Backend {
            guesses: guesses(&log),
            handler_counts: Default::default(),
            delivery: Rc::default(),
            mdns: None,
            http: None,
            joined: Default::default(),
            handle,
            events: broadcast::channel(EVENTS_WAITING_MAX).0,
            log,
            counters: Default::default(),
            rpc: Default::default(),
            identity: Rc::new(identity),
            auth: setup.auth.to_owned(),
            handlers: pairs(setup.handlers),
            driver: (engine.driver().to_string(), engine.driver_reason().to_owned()),
            tags_file: setup.tags_file,
            stop: Notify::new(),
            tags_turn: Mutex::default(),
        });
        let listener = TcpListener::bind(bind).await.unwrap();
        let rpc = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn_local(serve(listener.into(), None, backend.clone()));
        let (events, log) = (backend.events.clone(), backend.log.clone());
        tasks.spawn_local(async move {
            while let Some(item) = outlet.next().await {
                match item {
                    OutletItem::Event(event) => {
                        // An error means that no stream is open.
                        let _ = events.send(Arc::new(event));
                    }
                    OutletItem::Notice(notice) => log.add(Level::Debug, "serf", format_args!("{notice:?}")),
                }
            }
        });
        Agent { backend, rpc, engine, _tasks: tasks }
    }

    /// A client after its handshake.
    pub(super) async fn client(&self) -> Client {
        let mut client = Client::connect(self.rpc).await;
        client.request(0, &Request::Handshake(HandshakeRequest { version: 1 })).await;
        assert_eq!(client.error(0).await, "");
        client
    }

    /// Lines of the log that contain `part`.
    pub(super) fn logged(&self, part: &str) -> Vec<String> {
        let lines = self.backend.log.subscribe("a test", Level::Trace).backlog;
        lines.iter().map(|line| line.text.clone()).filter(|line| line.contains(part)).collect()
    }

    pub(super) async fn end(self) {
        self.engine.stop().await;
    }
}

/// Runs a test as the agent runs: one thread and a `LocalSet`.
pub(super) fn local<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

pub(super) fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Polls until it holds.
pub(super) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Any msgpack value; text and bytes are different, because Serf's clients distinguish them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Nil,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    Bin(Vec<u8>),
    Array(Vec<Tree>),
    Map(BTreeMap<String, Tree>),
}

impl Tree {
    fn read(reader: &mut Reader<'_>) -> Tree {
        match reader.peek().unwrap() {
            0xc0 => {
                assert!(reader.nil().unwrap());
                Tree::Nil
            }
            0xc2 | 0xc3 => Tree::Bool(reader.bool().unwrap()),
            0xca | 0xcb => Tree::Float(reader.f64().unwrap()),
            0xc4..=0xc6 => Tree::Bin(reader.raw().unwrap().to_vec()),
            0xa0..=0xbf | 0xd9..=0xdb => {
                Tree::Str(String::from_utf8_lossy(reader.raw().unwrap()).into_owned())
            }
            0x90..=0x9f | 0xdc | 0xdd => {
                let len = reader.array().unwrap();
                Tree::Array((0..len).map(|_| Tree::read(reader)).collect())
            }
            0x80..=0x8f | 0xde | 0xdf => {
                let len = reader.map().unwrap();
                Tree::Map((0..len).map(|_| (Tree::read(reader).text(), Tree::read(reader))).collect())
            }
            _ => Tree::Int(reader.int().unwrap()),
        }
    }

    /// The element of a map.
    pub(super) fn at(&self, key: &str) -> &Tree {
        match self {
            Tree::Map(map) => map.get(key).unwrap_or_else(|| panic!("no {key} in {self:?}")),
            other => panic!("no map: {other:?}"),
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Tree::Str(text) => text.clone(),
            other => panic!("no text: {other:?}"),
        }
    }

    pub(super) fn int(&self) -> i128 {
        match self {
            Tree::Int(int) => *int,
            other => panic!("no integer: {other:?}"),
        }
    }

    pub(super) fn list(&self) -> &[Tree] {
        match self {
            Tree::Array(elements) => elements,
            other => panic!("no array: {other:?}"),
        }
    }

    /// `Seq` and `Error`, if it is a header.
    pub(super) fn header(&self) -> Option<(u64, String)> {
        match self {
            Tree::Map(map) if map.keys().eq(["Error", "Seq"]) => {
                Some((u64::try_from(self.at("Seq").int()).unwrap(), self.at("Error").text()))
            }
            _ => None,
        }
    }
}

/// A client that decodes msgpack and nothing else.
pub(super) struct Client {
    socket: TcpStream,
    frames: Frames,
    /// Values that were read and not returned yet.
    skipped: VecDeque<Tree>,
}

impl Client {
    pub(super) async fn connect(addr: SocketAddr) -> Client {
        let socket = TcpStream::connect(addr).await.unwrap();
        Client { socket, frames: Frames::new(64 << 20), skipped: VecDeque::new() }
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Sends bytes; that the other side has closed already shows when reading.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    pub(super) async fn request(&mut self, seq: u64, request: &Request) {
        let mut bytes = Vec::new();
        request.encode(seq, &mut bytes);
        self.send(&bytes).await;
    }

    /// The next value; `None` at the end of the connection.
    pub(super) async fn next(&mut self) -> Option<Tree> {
        match self.skipped.pop_front() {
            Some(value) => Some(value),
            None => tokio::time::timeout(DEADLINE, self.receive()).await.expect("an answer in time"),
        }
    }

    async fn receive(&mut self) -> Option<Tree> {
        loop {
            if let Some(value) = self.frames.poll().unwrap() {
                return Some(Tree::read(&mut Reader::new(value)));
            }
            let mut chunk = vec![0; 64 * 1024];
            match self.socket.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.frames.feed(&chunk[..read]),
            }
        }
    }

    /// The error in the next header, which must be that request's.
    pub(super) async fn error(&mut self, seq: u64) -> String {
        let value = self.next().await.expect("a header, not the end");
        let (got, error) = value.header().unwrap_or_else(|| panic!("no header: {value:?}"));
        assert_eq!(got, seq, "{error}");
        error
    }

    /// The body of the next reply or record, which must be that request's and no error.
    pub(super) async fn body(&mut self, seq: u64) -> Tree {
        assert_eq!(self.error(seq).await, "");
        self.next().await.expect("a body, not the end")
    }

    /// The next reply or record with that `Seq`; others are kept for later.
    pub(super) async fn body_among(&mut self, seq: u64) -> Tree {
        let mut others = VecDeque::new();
        loop {
            let value = self.next().await.expect("a record, not the end");
            if value.header().is_some_and(|(got, _)| got == seq) {
                let body = self.next().await.expect("a body, not the end");
                others.append(&mut self.skipped);
                self.skipped = others;
                return body;
            }
            others.push_back(value);
        }
    }
}
