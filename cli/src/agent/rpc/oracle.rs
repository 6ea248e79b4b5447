//! The same bytes to a real `serf agent` and to ours, and the same answers back. Does nothing but say so where
//! Serf is not installed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use thane_engine::ipc::{
    AuthRequest, EventRequest, ForceLeaveRequest, HandshakeRequest, JoinRequest, MembersRequest,
    MonitorRequest, QueryRequest, Request, RespondRequest, StopRequest, StreamRequest, TagsRequest,
};

use super::fixture::{Agent, Client, Setup, Tree, eventually, local, pairs};

const SERF: &str = "/usr/bin/serf";
/// The number of the request whose reply ends a case.
const LAST: u64 = 9999;

/// Bytes to send, and what must have come back before the case can end.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    /// So many replies and records with that `Seq`.
    until: &'static [(u64, usize)],
}

/// What came back: replies and records by `Seq`, each a header with the body after it. Between different
/// numbers there is no order.
#[derive(Debug, Default, PartialEq)]
struct Answers {
    by_seq: BTreeMap<u64, Vec<(String, Option<Tree>)>>,
    closed: bool,
}

struct Serf {
    process: Child,
    rpc: SocketAddr,
}

impl Serf {
    async fn start(ip: &str, arguments: &[&str]) -> Serf {
        let [bind, rpc] = [free_port(ip), free_port(ip)];
        let process = Command::new(SERF)
            .args(["agent", "-node=n", &format!("-bind={bind}"), &format!("-rpc-addr={rpc}")])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let serf = Serf { process, rpc };
        eventually("Serf's port", async || tokio::net::TcpStream::connect(rpc).await.is_ok()).await;
        serf
    }
}

impl Drop for Serf {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that was free a moment ago.
fn free_port(ip: &str) -> SocketAddr {
    std::net::TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// Header and body of each request, numbered from 1.
fn requests(requests: &[Request]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (seq, request) in (1..).zip(requests) {
        request.encode(seq, &mut bytes);
    }
    bytes
}

/// The same after a handshake.
fn session(list: &[Request]) -> Vec<u8> {
    [greeting(), requests(list)].concat()
}

fn greeting() -> Vec<u8> {
    let mut bytes = Vec::new();
    handshake(1).encode(0, &mut bytes);
    bytes
}

fn handshake(version: i32) -> Request {
    Request::Handshake(HandshakeRequest { version })
}

fn auth(token: &str) -> Request {
    Request::Auth(AuthRequest { auth_key: token.to_owned() })
}

fn stop(seq: u64) -> Request {
    Request::Stop(StopRequest { stop: seq })
}

fn stream(filter: &str) -> Request {
    Request::Stream(StreamRequest { filter: filter.to_owned() })
}

fn monitor(level: &str) -> Request {
    Request::Monitor(MonitorRequest { log_level: level.to_owned() })
}

fn event(name: &str, payload: &[u8]) -> Request {
    Request::Event(EventRequest { name: name.to_owned(), payload: payload.to_vec(), coalesce: false })
}

fn members(name: &str, status: &str, tags: &[(&str, &str)]) -> Request {
    let (name, status, tags) = (name.to_owned(), status.to_owned(), pairs(tags));
    Request::MembersFiltered(MembersRequest { tags, status, name })
}

fn query(name: &str, payload: &[u8]) -> QueryRequest {
    QueryRequest {
        name: name.to_owned(),
        payload: payload.to_vec(),
        request_ack: true,
        timeout_ns: Duration::from_millis(400).as_nanos().try_into().unwrap(),
        ..QueryRequest::default()
    }
}

fn ask(name: &str, payload: &[u8]) -> Request {
    Request::Query(query(name, payload))
}

fn tags(set: &[(&str, &str)], delete: &[&str]) -> Request {
    let delete_tags = delete.iter().map(|&name| name.to_owned()).collect();
    Request::Tags(TagsRequest { tags: pairs(set), delete_tags })
}

fn join(entries: &[&str]) -> Request {
    let existing = entries.iter().map(|&entry| entry.to_owned()).collect();
    Request::Join(JoinRequest { existing, replay: false })
}

fn respond(id: u64, payload: &[u8]) -> Request {
    Request::Respond(RespondRequest { id, payload: payload.to_vec() })
}

fn case(name: &'static str, bytes: Vec<u8>) -> Case {
    Case { name, bytes, until: &[] }
}

fn gates() -> Vec<Case> {
    let raw = |bytes: &[u8]| [&greeting(), bytes].concat();
    vec![
        case("another command first", requests(&[Request::Members])),
        case("an unknown command first", b"\x82\xa7Command\xa3foo\xa3Seq\x05".to_vec()),
        case("a wrong version, then a right one", requests(&[handshake(2), handshake(1), stop(1)])),
        case("a wrong version, then a command", requests(&[handshake(2), Request::Members])),
        case("a negative version", requests(&[handshake(-1)])),
        case("a second handshake", session(&[handshake(1), handshake(2), stop(1)])),
        case("a token where none is needed", session(&[auth(""), auth("x"), stop(1)])),
        case("an unknown command", raw(b"\x82\xa7Command\xa5bogus\xa3Seq\x05")),
        case("nil for a header and nothing known yet", b"\xc0".to_vec()),
        case("a header that lacks the number", raw(b"\x82\xa7Command\xa4stop\xa3Seq\x09\x81\xa4Stop\x01\x81\xa7Command\xa4stop\x80")),
        case("a header that lacks the command", raw(b"\x82\xa7Command\xa4stop\xa3Seq\x09\x81\xa4Stop\x01\x81\xa3Seq\x0a\xc0")),
        case("structs as arrays", raw(b"\x92\xa4stop\x09\x91\x03\x92\xb0members-filtered\x0a\x93\x80\xa5alive\xa1n")),
        case("old msgpack and bytes for text", raw(b"\x82\xa7Command\xc4\x04stop\xa3Seq\xd3\x00\x00\x00\x00\x00\x00\x00\x09\x81\xa4Stop\xcc\x01")),
        case("unknown keys", raw(b"\x83\xa7Command\xa4stop\xa5Other\x91\x01\xa3Seq\x09\x82\xa4Stop\x01\xa1x\xc0")),
        case("a number for a header", raw(b"\x05")),
        case("a body of the wrong kind", raw(b"\x82\xa7Command\xa5event\xa3Seq\x05\xa5hallo")),
        case("a field of the wrong kind", raw(b"\x82\xa7Command\xa5event\xa3Seq\x05\x81\xa4Name\x05")),
        case("a field that overflows", raw(b"\x82\xa7Command\xa5query\xa3Seq\x05\x81\xabRelayFactor\xcd\x01\x00")),
    ]
}

fn commands() -> Vec<Case> {
    let long = "x".repeat(513);
    vec![
        case("members", session(&[Request::Members])),
        case("members by name", session(&[members("n", "", &[]), members("x", "", &[])])),
        case("members by halves of a name", session(&[members("zz|n", "", &[]), members("n|zz", "", &[])])),
        case("members by status", session(&[members("", "alive", &[]), members("", "left|failed", &[])])),
        case("members by tags", session(&[members("", "", &[("role", "w.b")]), members("", "", &[("role", "w")])])),
        case("members by a missing tag", session(&[members("", "", &[("no", "")]), members("", "", &[("no", ".+")])])),
        case("a bad expression for a name", session(&[members("(", "", &[])])),
        case("a bad expression for a tag that nobody has", session(&[members("zz", "", &[("no", "[")])])),
        case("events that are too long", session(&[event(&long, b""), event(&long[..500], b""), event("", &[0; 513])])),
        case("an event without a name", session(&[event("", b"")])),
        case("joins of nobody", session(&[join(&[]), stop(1)])),
        case("force-leave of nobody", session(&[Request::ForceLeave(ForceLeaveRequest { node: "zz".into(), prune: true })])),
        case("no tags", session(&[tags(&[], &[])])),
        case("tags that are too long", session(&[tags(&[("a", &long)], &[])])),
        case("deleted and set", session(&[tags(&[("a", "1"), ("b", "2")], &["b", "none"]), tags(&[], &["a"]), Request::Members])),
        case("answers to nothing", session(&[respond(0, b""), respond(7, b"x")])),
        case("a reserved name", session(&[ask("_serf_x", b""), ask("_serf_ping", b"x")])),
        case("a query that is too long", session(&[ask(&"x".repeat(1100), b"")])),
        case("filters of events", session(&[stream("bogus"), stream("user, query"), stream("user,member-join,query:x,*,")])),
        case("levels of logs", session(&[monitor("bogus"), monitor("")])),
        case("stop of nothing", session(&[stop(77)])),
        case("numbers", session(&[Request::Stats])),
    ]
}

fn records() -> Vec<Case> {
    let twice = |kind: fn() -> Request| {
        let mut bytes = greeting();
        kind().encode(5, &mut bytes);
        kind().encode(5, &mut bytes);
        bytes
    };
    let mut nobody = query("q", b"");
    nobody.filter_nodes = vec!["zz".into()];
    let mut untagged = query("q", b"");
    untagged.filter_tags = pairs(&[("role", "(")]);
    let mut over = query("q", b"");
    over.timeout_ns = -5;
    let all = |list: &[QueryRequest]| session(&list.iter().cloned().map(Request::Query).collect::<Vec<_>>());
    vec![
        case("two streams of one number", twice(|| stream("user"))),
        Case {
            name: "user events",
            bytes: session(&[stream("user:a"), event("a", b"p"), event("b", b""), event("a", b"")]),
            until: &[(1, 3)],
        },
        Case {
            name: "a query of the own",
            bytes: session(&[stream("query"), ask("q", b"?")]),
            until: &[(1, 2), (2, 3)],
        },
        Case {
            name: "the ping that anybody may send",
            bytes: session(&[stream("*"), ask("_serf_ping", b"")]),
            until: &[(2, 3)],
        },
        Case { name: "queries for nobody", bytes: all(&[nobody, untagged]), until: &[(1, 2), (2, 2)] },
        Case { name: "a query that is over before it begins", bytes: all(&[over]), until: &[(1, 2)] },
        Case {
            name: "a member event",
            bytes: session(&[stream("member-update"), tags(&[("new", "1")], &[]), tags(&[], &["new"])]),
            until: &[(1, 2)],
        },
        Case {
            name: "a stopped stream",
            bytes: session(&[stream("user"), stop(1), event("a", b"p"), stream("user"), stop(2)]),
            until: &[],
        },
    ]
}

async fn answers(addr: SocketAddr, case: &Case) -> Answers {
    let mut client = Client::connect(addr).await;
    client.send(&case.bytes).await;
    let mut answers = Answers::default();
    let mut open = None;
    let mut asked = false;
    loop {
        let missing = |&(seq, count): &(u64, usize)| answers.by_seq.get(&seq).is_none_or(|got| got.len() < count);
        // The body of what ends the case comes with its header.
        if !asked && !case.until.iter().any(missing) {
            asked = true;
            client.request(LAST, &stop(0)).await;
        }
        let Some(value) = client.next().await else {
            answers.closed = true;
            return answers;
        };
        match value.header() {
            Some((LAST, _)) => return answers,
            Some((seq, error)) => {
                answers.by_seq.entry(seq).or_default().push((error, None));
                open = Some(seq);
            }
            None => {
                let seq = open.take().expect("a header before the body");
                answers.by_seq.get_mut(&seq).unwrap().last_mut().unwrap().1 = Some(value);
            }
        }
    }
}

/// Takes out what can't be equal: addresses, numbers of the machine, and Serf's empty records at a deadline.
fn normal(mut answers: Answers, ip: &str) -> Answers {
    for messages in answers.by_seq.values_mut() {
        messages.retain(|(_, body)| !body.as_ref().is_some_and(is_spurious));
        for (error, body) in messages {
            *error = error.replace(ip, "IP");
            if let Some(body) = body {
                normalize(body, ip);
            }
        }
    }
    answers
}

fn is_spurious(body: &Tree) -> bool {
    match body {
        Tree::Map(map) if map.keys().eq(["From", "Payload", "Type"]) => {
            body.at("From").text().is_empty() && body.at("Type").text() != "done"
        }
        _ => false,
    }
}

fn normalize(tree: &mut Tree, ip: &str) {
    let octets = ip.parse::<std::net::Ipv4Addr>().unwrap().octets();
    match tree {
        Tree::Bin(bytes) if *bytes == octets => *bytes = b"IP".to_vec(),
        Tree::Str(text) => *text = text.replace(ip, "IP"),
        Tree::Array(elements) => elements.iter_mut().for_each(|element| normalize(element, ip)),
        Tree::Map(map) => {
            for section in ["io", "drops"] {
                map.remove(section);
            }
            map.remove("coordinate_resets");
            for key in ["Port", "goroutines", "version", "event_queue", "query_queue", "intent_queue"] {
                if let Some(value) = map.get_mut(key) {
                    *value = Tree::Nil;
                }
            }
            map.values_mut().for_each(|value| normalize(value, ip));
        }
        _ => {}
    }
}

#[test]
fn answers_are_serfs() {
    if !std::path::Path::new(SERF).exists() {
        eprintln!("skipped: {SERF} is not installed");
        return;
    }
    local(async {
        let (theirs_ip, ours_ip) = ("127.16.1.1", "127.16.1.2");
        let serf = Serf::start(theirs_ip, &["-tag=role=web", "-event-handler=user:x=true"]).await;
        let setup =
            Setup { tags: &[("role", "web")], handlers: &[("user:x", "true")], ..Setup::default() };
        let agent = Agent::start("n", ours_ip, setup).await;
        let mut differences = Vec::new();
        for case in gates().into_iter().chain(commands()).chain(records()) {
            let theirs = normal(answers(serf.rpc, &case).await, theirs_ip);
            let ours = normal(answers(agent.rpc, &case).await, ours_ip);
            if theirs != ours {
                differences.push(format!("{}:\n  Serf  {theirs:?}\n  Thane {ours:?}", case.name));
            }
        }
        assert!(differences.is_empty(), "\n{}", differences.join("\n"));
        agent.end().await;
    });
}
