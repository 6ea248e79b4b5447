//! Watches every agent through its RPC port: the log gives changes of members at once (a stream coalesces them for a
//! second or more), the stream gives user events and queries. One thread reads all of them and stamps the time.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thane_engine::ipc::{
    Frames, HandshakeRequest, IPC_VERSION, LogRecord, MembersResponse, MonitorRequest, RESPONSE_BYTES_MAX,
    Request, ResponseHeader, StreamRecord, StreamRequest, Value,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Time between two attempts to reach an agent.
const RETRY: Duration = Duration::from_millis(100);
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// A log line this old when it arrives is history that a monitor gives first, seconds.
const STALE_SECONDS: i64 = 2;
const MONITOR: u64 = 2;
const STREAM: u64 = 3;
const MEMBERS: u64 = 4;

/// Something that an agent said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sighting {
    pub(crate) at: Instant,
    /// Number of the agent that said it.
    pub(crate) node: usize,
    pub(crate) seen: Seen,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    /// Its streams are open.
    Up,
    /// Its streams ended.
    Down,
    /// All members it lists, once its streams are open.
    List(Vec<Listed>),
    /// A line of its log about a member.
    Change { name: String, change: Change, addr: Option<IpAddr>, stale: bool },
    /// A user event of that name.
    User(String),
    /// A query of that name.
    Query(String),
}

/// A member as an agent lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) addr: Option<IpAddr>,
}

/// What happened to a member.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Join,
    Leave,
    Failed,
    Reap,
    Update,
}

/// The thread that reads, and where its sightings arrive.
#[derive(Debug)]
pub(crate) struct Watcher {
    orders: UnboundedSender<Order>,
    pub(crate) sightings: Receiver<Sighting>,
}

enum Order {
    Watch(usize, SocketAddr),
    Forget(usize),
}

impl Watcher {
    pub(crate) fn start() -> std::io::Result<Watcher> {
        let (orders, mut inbox) = unbounded_channel();
        let (out, sightings) = channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("watch".into()).spawn(move || {
            runtime.block_on(async {
                let mut tasks: HashMap<usize, tokio::task::AbortHandle> = HashMap::new();
                // Ends with its owner.
                while let Some(order) = inbox.recv().await {
                    let node = match order {
                        Order::Watch(node, _) | Order::Forget(node) => node,
                    };
                    if let Some(task) = tasks.remove(&node) {
                        task.abort();
                        let _ = out.send(Sighting { at: Instant::now(), node, seen: Seen::Down });
                    }
                    if let Order::Watch(node, addr) = order {
                        let follow = tokio::spawn(follow(node, addr, out.clone()));
                        tasks.insert(node, follow.abort_handle());
                    }
                }
            });
        })?;
        Ok(Watcher { orders, sightings })
    }

    /// Follows that agent from now on, instead of whatever its number stood for.
    pub(crate) fn watch(&self, node: usize, addr: SocketAddr) {
        // The thread ends only with this half of the channel.
        let _ = self.orders.send(Order::Watch(node, addr));
    }

    /// Closes that agent's connection.
    pub(crate) fn forget(&self, node: usize) {
        let _ = self.orders.send(Order::Forget(node));
    }
}

async fn follow(node: usize, addr: SocketAddr, out: Sender<Sighting>) {
    let mut was_up = false;
    loop {
        let _ = session(node, addr, &out, &mut was_up).await;
        if std::mem::take(&mut was_up) {
            let _ = out.send(Sighting { at: Instant::now(), node, seen: Seen::Down });
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// One connection, to its end.
async fn session(
    node: usize,
    addr: SocketAddr,
    out: &Sender<Sighting>,
    is_up: &mut bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut stream = tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(addr)).await??;
    stream.set_nodelay(true)?;
    stream.write_all(&requests()).await?;
    let (mut frames, mut part) = (Frames::new(RESPONSE_BYTES_MAX), vec![0; 16 * 1024]);
    let mut reader = Reader::default();
    loop {
        let bytes = stream.read(&mut part).await?;
        if bytes == 0 {
            return Ok(());
        }
        let at = Instant::now();
        frames.feed(&part[..bytes]);
        while let Some(value) = frames.poll()? {
            if let Some(seen) = reader.read(value)? {
                if !std::mem::replace(is_up, true) {
                    let _ = out.send(Sighting { at, node, seen: Seen::Up });
                }
                let _ = out.send(Sighting { at, node, seen });
            }
        }
    }
}

fn requests() -> Vec<u8> {
    let mut bytes = Vec::new();
    Request::Handshake(HandshakeRequest { version: IPC_VERSION }).encode(1, &mut bytes);
    Request::Monitor(MonitorRequest { log_level: "INFO".into() }).encode(MONITOR, &mut bytes);
    Request::Stream(StreamRequest { filter: "user,query".into() }).encode(STREAM, &mut bytes);
    Request::Members.encode(MEMBERS, &mut bytes);
    bytes
}

/// Turns the values of a connection into sightings.
#[derive(Default)]
struct Reader {
    /// The header whose body comes next.
    header: Option<u64>,
    monitor_answered: bool,
    stream_answered: bool,
}

impl Reader {
    fn read(&mut self, value: &[u8]) -> Result<Option<Seen>, String> {
        let Some(seq) = self.header.take() else {
            let header = ResponseHeader::decode(value).map_err(refused)?;
            if !header.error.is_empty() {
                return Err(header.error);
            }
            let answered = match header.seq {
                MONITOR => Some(&mut self.monitor_answered),
                STREAM => Some(&mut self.stream_answered),
                MEMBERS => None,
                _ => return Ok(None),
            };
            if answered.is_none_or(|answered| std::mem::replace(answered, true)) {
                self.header = Some(header.seq);
            }
            return Ok(None);
        };
        Ok(match seq {
            MONITOR => {
                let line = LogRecord::decode(value).map_err(refused)?.log;
                change(&line).map(|(change, name, addr)| {
                    let stale = age(&line, seconds_now()).is_none_or(|age| age > STALE_SECONDS);
                    Seen::Change { name: name.to_owned(), change, addr, stale }
                })
            }
            STREAM => match StreamRecord::decode(value).map_err(refused)? {
                StreamRecord::User(record) => Some(Seen::User(record.name)),
                StreamRecord::Query(record) => Some(Seen::Query(record.name)),
                StreamRecord::Members(_) => None,
            },
            _ => Some(Seen::List(listed(MembersResponse::decode(value).map_err(refused)?))),
        })
    }
}

/// Why the engine's decoder refuses what an agent sent.
fn refused(reason: impl std::fmt::Debug) -> String {
    format!("{reason:?}")
}

pub(crate) fn listed(response: MembersResponse) -> Vec<Listed> {
    let members = response.members.into_iter();
    members.map(|member| Listed { name: member.name, status: member.status, addr: member.addr }).collect()
}

/// What a line of the log says about which member: `[INFO] serf: EventMemberFailed: n1 10.0.0.1`.
fn change(line: &str) -> Option<(Change, &str, Option<IpAddr>)> {
    let (_, said) = line.split_once("serf: EventMember")?;
    let (kind, rest) = said.split_once(": ")?;
    let change = match kind.trim_end_matches(" (forced)") {
        "Join" => Change::Join,
        "Leave" => Change::Leave,
        "Failed" => Change::Failed,
        "Reap" => Change::Reap,
        "Update" => Change::Update,
        _ => return None,
    };
    let mut words = rest.split_whitespace();
    let name = words.next()?;
    Some((change, name, words.next().and_then(|addr| addr.parse().ok())))
}

/// How many seconds before `now`, seconds of the day, a log line was written: `2026/11/28 08:40:00 [INFO] …`.
fn age(line: &str, now: i64) -> Option<i64> {
    let clock = line.get(11..19)?;
    let mut parts = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let age = (now - (hours * 3600 + minutes * 60 + seconds)).rem_euclid(86_400);
    // A line of the next second is no line of yesterday.
    Some(if age > 43_200 { age - 86_400 } else { age })
}

/// Seconds since midnight, UTC, as containers without a time zone count.
fn seconds_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs() % 86_400) as i64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn log_lines_about_members_are_read() {
        let line = "2026/11/28 08:40:00 [INFO] serf: EventMemberFailed: n1 10.201.0.10";
        assert_eq!(change(line), Some((Change::Failed, "n1", Some("10.201.0.10".parse().unwrap()))));
        assert_eq!(change("[INFO] serf: EventMemberUpdate: n2"), Some((Change::Update, "n2", None)));
        let forced = change("[INFO] serf: EventMemberLeave (forced): n3 fd00::5").unwrap();
        assert_eq!(forced, (Change::Leave, "n3", Some("fd00::5".parse().unwrap())));
        assert_eq!(change("[INFO] agent: Received event: member-failed"), None);
        assert_eq!(change("[INFO] serf: EventMemberOther: n3"), None);
    }

    #[test]
    fn lines_of_the_past_are_told_from_new_ones() {
        let line = "2026/11/28 00:00:10 [INFO] x";
        assert_eq!(age(line, 12), Some(2));
        assert_eq!(age(line, 9), Some(-1), "the clock of the line may be ahead");
        assert_eq!(age("2026/11/28 23:59:58 [INFO] x", 3), Some(5), "across midnight");
        assert_eq!(age("short", 3), None);
    }

    #[test]
    fn bodies_follow_the_headers_that_announce_them() {
        let value = |encode: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = Vec::new();
            encode(&mut bytes);
            bytes
        };
        let header = |seq| value(&|out| ResponseHeader { error: String::new(), seq }.encode(out));
        let mut reader = Reader::default();
        for seq in [1, MONITOR, STREAM, STREAM] {
            assert_eq!(reader.read(&header(seq)).unwrap(), None);
        }
        let event = thane_engine::ipc::UserEventRecord {
            event: "user".into(),
            name: "tick-1".into(),
            ..Default::default()
        };
        let seen = reader.read(&value(&|out| StreamRecord::User(event.clone()).encode(out))).unwrap();
        assert_eq!(seen, Some(Seen::User("tick-1".into())));
        let refusal =
            value(&|out| ResponseHeader { error: "Authentication required".into(), seq: 1 }.encode(out));
        assert_eq!(reader.read(&refusal).unwrap_err(), "Authentication required");
    }
}
