//! Sends the same bytes to a real `serf agent` and to ours, and compares the answers.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use thane_engine::ipc::{
    AuthRequest, CoordinateRequest, EventRequest, ForceLeaveRequest, HandshakeRequest, JoinRequest,
    MembersRequest, MonitorRequest, QueryRequest, Request, RespondRequest, StopRequest, StreamRequest,
    TagsRequest,
};

use super::fixture::{Agent, Client, Setup, Tree, eventually, local, pairs};
use super::real_serf::serf;

/// The number of the request whose reply ends a case.
const LAST: u64 = 9999;
/// Lines of the log that are compared, the first ones: about the same refused requests.
const LOG_LINES: usize = 4;

struct Case {
    name: &'static str,
    steps: Vec<Step>,
}

/// Bytes to send, and the answers to wait for before the next step or the end.
struct Step {
    bytes: Vec<u8>,
    /// At least so many replies and records with that `Seq`.
    until: &'static [(u64, usize)],
}

/// The answers: replies and records by `Seq`, each a header with its body. Different `Seq`s have no order.
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
    async fn start(program: &Path, ip: &str, arguments: &[&str]) -> Serf {
        let [bind, rpc] = [free_port(ip), free_port(ip)];
        let process = Command::new(program)
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
        timeout_ns: Duration::from_secs(1).as_nanos().try_into().unwrap(),
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

fn coordinate(node: &str) -> Request {
    Request::GetCoordinate(CoordinateRequest { node: node.to_owned() })
}

fn case(name: &'static str, bytes: Vec<u8>) -> Case {
    case_until(name, bytes, &[])
}

fn case_until(name: &'static str, bytes: Vec<u8>, until: &'static [(u64, usize)]) -> Case {
    Case { name, steps: vec![Step { bytes, until }] }
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
        case("other widths", raw(b"\x82\xd9\x07Command\xda\x00\x04stop\xa3Seq\xd3\x00\x00\x00\x00\x00\x00\x00\x09\x81\xa4Stop\xcc\x01")),
        case("unknown keys", raw(b"\x83\xa7Command\xa4stop\xa5Other\x91\x01\xa3Seq\x09\x82\xa4Stop\x01\xa1x\xc0")),
        case("a number for a header", raw(b"\x05")),
        case("a body of the wrong kind", raw(b"\x82\xa7Command\xa5event\xa3Seq\x05\xa5hallo")),
        case("a field of the wrong kind", raw(b"\x82\xa7Command\xa5event\xa3Seq\x05\x81\xa4Name\x05")),
        case("a field that overflows", raw(b"\x82\xa7Command\xa5query\xa3Seq\x05\x81\xabRelayFactor\xcd\x01\x00")),
    ]
}

/// What other people's clients send: lists and bytes as maps, nil for a struct. A field of a request in that shape.
fn shaped(command: &str, field: &str, value: &[u8]) -> Vec<u8> {
    let text = |text: &str| [&[0xa0 | text.len() as u8], text.as_bytes()].concat();
    [
        b"\x82\xa7Command",
        &*text(command),
        b"\xa3Seq\x05",
        b"\x83\xa4Name\xa1e\xa7Timeout\xce\x05\xf5\xe1\x00",
        &*text(field),
        value,
    ]
    .concat()
}

fn shapes() -> Vec<Case> {
    let after = |before: &[Request], bytes: Vec<u8>, then: &[Request]| {
        let mut all = session(before);
        all.extend(bytes);
        (20..).zip(then).for_each(|(seq, request)| request.encode(seq, &mut all));
        all
    };
    let three = [tags(&[("a", "1"), ("b", "2"), ("c", "3")], &["role"])];
    let deleting = |value: &[u8]| after(&three, shaped("tags", "DeleteTags", value), &[Request::Members]);
    let firing = |value: &[u8]| after(&[stream("user")], shaped("event", "Payload", value), &[]);
    let listing = |value: &[u8]| after(&[], shaped("members-filtered", "Tags", value), &[]);
    let asking = |field: &str, value: &[u8]| after(&[stream("query")], shaped("query", field, value), &[]);
    vec![
        case("tags to delete as a map", deleting(b"\x81\xa1a\xa1b")),
        case("tags to delete as a map with nil", deleting(b"\x82\xa1a\xc0\xa1c\xa0")),
        case("tags to delete as an empty map", deleting(b"\x80")),
        case("tags to delete as a map of numbers", deleting(b"\x81\x01\x02")),
        case("tags to delete as a text", deleting(b"\xa1a")),
        case("tags to set as a list", after(&three, shaped("tags", "Tags", b"\x91\xa1a"), &[])),
        case_until("an empty map for a payload", firing(b"\x80"), &[(1, 2)]),
        case_until("a map of numbers for a payload", firing(b"\x81\x01\x02"), &[(1, 2)]),
        case_until("a list of numbers for a payload", firing(b"\x92\x01\x02"), &[(1, 2)]),
        case("a map of texts for a payload", firing(b"\x81\xa1a\xa1b")),
        case("a list of texts for a payload", firing(b"\x91\xa1a")),
        case_until(
            "an empty map for the nodes of a query",
            asking("FilterNodes", b"\x80"),
            &[(1, 2), (5, 2)],
        ),
        case_until(
            "a map for the nodes of a query",
            asking("FilterNodes", b"\x81\xa1n\xa1x"),
            &[(1, 2), (5, 2)],
        ),
        case_until("an empty map for the payload of a query", asking("Payload", b"\x80"), &[(1, 2), (5, 2)]),
        case("an empty map for addresses", after(&[], shaped("join", "Existing", b"\x80"), &[])),
        case("nil for the tags of members", listing(b"\xc0")),
        case("nil for the expression of a tag", listing(b"\x81\xa4role\xc0")),
        case("an empty list for the tags of members", listing(b"\x90")),
        case(
            "nil for a list of members",
            [&greeting()[..], b"\x82\xa7Command\xb0members-filtered\xa3Seq\x05\xc0"].concat(),
        ),
        case(
            "a list for a list of members",
            [&greeting()[..], b"\x82\xa7Command\xb0members-filtered\xa3Seq\x05\x93\xc0\xc0\xa1e"].concat(),
        ),
        case("nil for a header forgets the last one", [&greeting()[..], b"\xc0"].concat()),
        case(
            "an empty header is the last one again",
            after(&[stop(3)], b"\x80\x81\xa4Stop\x01".to_vec(), &[]),
        ),
    ]
}

fn commands() -> Vec<Case> {
    let long = "x".repeat(513);
    vec![
        case("members", session(&[Request::Members])),
        case("members by name", session(&[members("n", "", &[]), members("x", "", &[])])),
        case("members by halves of a name", session(&[members("zz|n", "", &[]), members("n|zz", "", &[])])),
        case("members by status", session(&[members("", "alive", &[]), members("", "left|failed", &[])])),
        case(
            "members by tags",
            session(&[members("", "", &[("role", "w.b")]), members("", "", &[("role", "w")])]),
        ),
        case(
            "members by a missing tag",
            session(&[members("", "", &[("no", "")]), members("", "", &[("no", ".+")])]),
        ),
        case("a bad expression for a name", session(&[members("(", "", &[])])),
        case("a bad expression for a tag that no member has", session(&[members("zz", "", &[("no", "[")])])),
        case(
            "events that are too long",
            session(&[event(&long, b""), event(&long[..500], b""), event("", &[0; 513])]),
        ),
        case("an event without a name", session(&[event("", b"")])),
        case("joins through no address", session(&[join(&[]), stop(1)])),
        case(
            "joins that fail",
            session(&[join(&["127.16.9.9:77"]), join(&["127.16.9.9:77", "x/127.16.9.8:78"])]),
        ),
        case(
            "force-leave of an unknown member",
            session(&[Request::ForceLeave(ForceLeaveRequest { node: "zz".into(), prune: true })]),
        ),
        case("no tags", session(&[tags(&[], &[])])),
        case("tags that are too long", session(&[tags(&[("a", &long)], &[])])),
        case(
            "deleted and set",
            session(&[tags(&[("a", "1"), ("b", "2")], &["b", "none"]), tags(&[], &["a"]), Request::Members]),
        ),
        case("answers to nothing", session(&[respond(0, b""), respond(7, b"x")])),
        case("a reserved name", session(&[ask("_serf_x", b""), ask("_serf_ping", b"x")])),
        case("a query that is too long", session(&[ask(&"x".repeat(1100), b"")])),
        case(
            "filters of events",
            session(&[stream("bogus"), stream("user, query"), stream("user,member-join,query:x,*,")]),
        ),
        case("levels of logs", session(&[monitor("bogus"), monitor("")])),
        case("stop of nothing", session(&[stop(77)])),
        case("numbers", session(&[Request::Stats])),
        case("coordinates of an unknown and of the own node", session(&[coordinate("zz"), coordinate("n")])),
    ]
}

fn records() -> Vec<Case> {
    let twice = |kind: fn() -> Request| {
        let mut bytes = greeting();
        kind().encode(5, &mut bytes);
        kind().encode(5, &mut bytes);
        bytes
    };
    let mut unanswered = query("q", b"");
    unanswered.filter_nodes = vec!["zz".into()];
    let mut untagged = query("q", b"");
    untagged.filter_tags = pairs(&[("role", "nothing has it")]);
    let without_receivers = session(&[Request::Query(unanswered), Request::Query(untagged)]);
    let changes = [stream("member-update"), tags(&[("new", "1")], &[]), tags(&[], &["new"])];
    let mut answers = Vec::new();
    for (seq, request) in
        (10..).zip([respond(1, &[b'x'; 1024]), respond(1, b"a"), respond(1, b"b"), respond(2, b"c")])
    {
        request.encode(seq, &mut answers);
    }
    vec![
        case("two streams of one number", twice(|| stream("user"))),
        case_until(
            "user events",
            session(&[stream("user:a"), event("a", b"p"), event("b", b""), event("a", b"")]),
            &[(1, 3)],
        ),
        case_until(
            "a query that the agent itself receives",
            session(&[stream("query"), ask("q", b"?")]),
            &[(1, 2), (2, 3)],
        ),
        Case {
            name: "answers to a query",
            steps: vec![
                Step { bytes: session(&[stream("query"), ask("q", b"?")]), until: &[(1, 2)] },
                Step { bytes: answers, until: &[(2, 4)] },
            ],
        },
        case_until(
            "the internal ping that clients may send",
            session(&[stream("query,user"), ask("_serf_ping", b"")]),
            &[(2, 3)],
        ),
        case_until("queries without receivers", without_receivers, &[(1, 2), (2, 2)]),
        case_until("a member event", session(&changes), &[(1, 2)]),
        case_until(
            "a stopped stream",
            session(&[stream("user"), stop(1), stream("user"), event("a", b"p")]),
            &[(3, 2), (4, 1)],
        ),
        case_until("the log", session(&[monitor("err"), monitor("err")]), &[(1, 1 + LOG_LINES)]),
        // The second never comes: it ends when the agent does.
        case_until("leave", session(&[Request::Leave]), &[(1, 2)]),
    ]
}

async fn answers(addr: SocketAddr, case: &Case) -> Answers {
    let mut client = Client::connect(addr).await;
    let mut answers = Answers::default();
    let mut open = None;
    let mut steps = case.steps.iter();
    let mut until: Option<&[(u64, usize)]> = Some(&[]);
    loop {
        let missing =
            |&(seq, count): &(u64, usize)| answers.by_seq.get(&seq).is_none_or(|got| got.len() < count);
        while until.is_some_and(|until| !until.iter().any(missing)) {
            until = match steps.next() {
                Some(step) => {
                    client.send(&step.bytes).await;
                    Some(step.until)
                }
                None => {
                    client.request(LAST, &stop(0)).await;
                    None
                }
            };
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

/// Removes what must differ: addresses, values of the machine, most of the log, the system's words for an error, and
/// Serf's empty records at a deadline.
fn normal(mut answers: Answers, ip: &str) -> Answers {
    let dialed = regex::Regex::new("dial tcp [^ ]+: connect: ").unwrap();
    for messages in answers.by_seq.values_mut() {
        messages.retain(|(_, body)| !body.as_ref().is_some_and(is_spurious));
        if matches!(messages.get(1), Some((_, Some(Tree::Map(map)))) if map.contains_key("Log")) {
            messages.truncate(1 + LOG_LINES);
        }
        for (error, body) in messages {
            *error = dialed.replace_all(&error.replace(ip, "IP"), "").into_owned();
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
        // Serf writes an empty payload as its sender wrote it, Thane as nil.
        Tree::Bin(bytes) if bytes.is_empty() => *tree = Tree::Nil,
        Tree::Bin(bytes) if *bytes == octets => *bytes = b"IP".to_vec(),
        Tree::Str(text) => *text = text.replace(ip, "IP"),
        Tree::Array(elements) => elements.iter_mut().for_each(|element| normalize(element, ip)),
        Tree::Map(map) => {
            for section in ["io", "drops", "caps", "handlers", "rpc"] {
                map.remove(section);
            }
            for key in ["Port", "goroutines", "version", "event_queue", "query_queue", "intent_queue"] {
                if let Some(value) = map.get_mut(key) {
                    *value = Tree::Nil;
                }
            }
            if let Some(Tree::Str(line)) = map.get_mut("Log") {
                line.replace_range(.."2026/11/24 06:48:44 ".len(), "");
            }
            map.values_mut().for_each(|value| normalize(value, ip));
        }
        _ => {}
    }
}

fn with_token() -> Vec<Case> {
    let commands = [Request::Members, auth("x"), Request::Stats, auth("secret"), stop(1), auth("x"), stop(1)];
    vec![
        case("what a token opens", session(&commands)),
        case("a token before the handshake", requests(&[auth("secret")])),
        case("an unknown command without token", [&greeting()[..], b"\x81\xa7Command\xa5bogus"].concat()),
    ]
}

/// Runs the cases against both; the texts of those that differ.
async fn differences(serf: SocketAddr, agent: SocketAddr, cases: Vec<Case>) -> Vec<String> {
    let mut differences = Vec::new();
    for case in cases {
        let (theirs, ours) = tokio::join!(answers(serf, &case), answers(agent, &case));
        let theirs = normal(theirs, &serf.ip().to_string());
        let ours = normal(ours, &agent.ip().to_string());
        if theirs != ours {
            differences.push(format!("\n{}:\n  Serf  {theirs:?}\n  Thane {ours:?}", case.name));
        }
    }
    differences
}

#[test]
fn answers_are_serfs() {
    let Some(program) = serf() else { return };
    local(async {
        let serf = Serf::start(program, "127.16.1.1", &["-tag=role=web", "-event-handler=user:x=true"]).await;
        let setup = Setup { tags: &[("role", "web")], handlers: &[("user:x", "true")], ..Setup::default() };
        let agent = Agent::start("n", "127.16.1.2", setup).await;
        let cases = gates().into_iter().chain(shapes()).chain(commands()).chain(records()).collect();
        let differences = differences(serf.rpc, agent.rpc, cases).await;
        assert!(differences.is_empty(), "{}", differences.concat());
        agent.end().await;
    });
}

#[test]
fn answers_are_serfs_where_a_token_is_needed() {
    let Some(program) = serf() else { return };
    local(async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("auth.json");
        std::fs::write(&file, r#"{"rpc_auth": "secret"}"#).unwrap();
        let serf = Serf::start(program, "127.16.1.3", &[&format!("-config-file={}", file.display())]).await;
        let agent = Agent::start("n", "127.16.1.4", Setup { auth: "secret", ..Setup::default() }).await;
        let differences = differences(serf.rpc, agent.rpc, with_token()).await;
        assert!(differences.is_empty(), "{}", differences.concat());
        agent.end().await;
    });
}
