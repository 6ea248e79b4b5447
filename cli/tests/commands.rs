//! Every command beside real Serf's, against the same real agent: stdout, stderr and exit code must be the
//! same. Words of our own are the help, the advice of `reachability` and why a host can't be looked up.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value as Json;

mod common;

use common::{Agent, Shown, eventually, run, serf, thane, words};

/// What Serf and what Thane show.
fn both(serf: &Path, rpc: &str, arguments: &[&str]) -> (Shown, Shown) {
    let variables = [("SERF_RPC_ADDR", rpc)];
    (run(serf, arguments, &variables), run(thane(), arguments, &variables))
}

fn assert_same(serf: &Path, rpc: &str, line: &str) {
    let (theirs, ours) = both(serf, rpc, &words(line));
    assert_eq!(ours.sorted(), theirs.sorted(), "{line}\nthane:\n{}\nserf:\n{}", ours.text(), theirs.text());
}

/// For what changes by itself, such as queues: the same at some time.
fn assert_same_eventually(serf: &Path, rpc: &str, line: &str) {
    let mut last = None;
    let same = eventually(|| {
        let (theirs, ours) = both(serf, rpc, &words(line));
        let same = ours.sorted() == theirs.sorted();
        last = Some((ours.text(), theirs.text()));
        same.then_some(())
    });
    assert!(same.is_some(), "{line}: thane and serf: {last:?}");
}

fn serf_json(serf: &Path, rpc: &str, arguments: &[&str]) -> Json {
    serde_json::from_slice(&run(serf, arguments, &[("SERF_RPC_ADDR", rpc)]).out).unwrap()
}

fn tags_of(serf: &Path, agent: &Agent) -> Json {
    let name = format!("-name={}", agent.name);
    serf_json(serf, &agent.rpc(), &["members", "-format=json", &name])["members"][0]["tags"].clone()
}

fn event_time(serf: &Path, agent: &Agent) -> u64 {
    let info = serf_json(serf, &agent.rpc(), &["info", "-format=json"]);
    info["serf"]["event_time"].as_str().unwrap().parse().unwrap()
}

/// Members with and without tags.
struct Cluster {
    agents: Vec<Agent>,
}

impl Cluster {
    /// The first so many of four.
    fn start(serf: &Path, size: usize) -> Cluster {
        let handler = "-event-handler=query:up=echo \"<$SERF_SELF_NAME>\"";
        let all: [(&str, &[&str]); 4] = [
            ("web1", &["-tag", "role=web", "-tag", "dc=a&b<c>", handler]),
            ("db-number-2", &["-tag", "role=db", handler]),
            ("bare", &[]),
            ("gone", &["-tag", "role=web"]),
        ];
        let start = |&(name, flags): &(&str, &[&str])| Agent::start(serf, name, flags, "");
        let cluster = Cluster { agents: all[..size].iter().map(start).collect() };
        for agent in &cluster.agents[1..] {
            let joined = run(serf, &["join", &cluster.agents[0].ip], &[("SERF_RPC_ADDR", &agent.rpc())]);
            assert_eq!(joined.code, Some(0), "{joined:?}");
        }
        for (name, _) in &all[..size] {
            cluster.agents.iter().for_each(|agent| wait_for_status(serf, agent, name, Some("alive")));
        }
        cluster
    }

    fn rpc(&self) -> String {
        self.agents[0].rpc()
    }
}

/// Waits until `agent` lists `name` so, or not at all.
fn wait_for_status(serf: &Path, agent: &Agent, name: &str, expected: Option<&str>) {
    let filter = format!("-name={name}");
    let reached = eventually(|| {
        let members = serf_json(serf, &agent.rpc(), &["members", &filter, "-format=json"]);
        (members["members"][0]["status"].as_str() == expected).then_some(())
    });
    assert!(reached.is_some(), "{name} is not {expected:?} for {}: {}", agent.name, agent.log());
}

#[test]
fn members_and_info_are_shown_alike() {
    let Some(serf) = serf() else { return };
    let mut cluster = Cluster::start(serf, 4);
    cluster.agents[3].kill();
    wait_for_status(serf, &cluster.agents[0], "gone", Some("failed"));
    for line in [
        "members",
        "members -detailed",
        "members --detailed=true -format text",
        "members -format=xml",
        "members -name=web1 -format=json",
        "members -name=bare -format json",
        "members -name=gone -detailed -format=json",
        "members -status=failed",
        "members -status=alive -tag role=web",
        "members -tag role=web -tag dc=.*",
        "members -tag role=",
        "members -tag role=.*",
        "members -name=zz|2",
        "members -name=nobody",
        "members -name=nobody -format=json",
        "members -role=db",
        "members -role=db -tag role=web",
        "members -name=(",
        "members -tag role=[",
        "members -tag foo",
        "members -tag =x",
        "members some words",
        "members - -name=web1",
        "members -- -name=web1",
        "info -format=xml",
    ] {
        assert_same(serf, &cluster.rpc(), line);
    }
    assert_same_eventually(serf, &cluster.rpc(), "info");
    assert_same_eventually(serf, &cluster.rpc(), "info -format=json");
    let sorted = |shown: Shown| {
        let mut json: Json = serde_json::from_slice(&shown.out).unwrap();
        json["members"].as_array_mut().unwrap().sort_by_key(|member| member["name"].to_string());
        json
    };
    let (theirs, ours) = both(serf, &cluster.rpc(), &["members", "-format=json"]);
    assert_eq!(sorted(ours), sorted(theirs));
}

#[test]
fn queries_round_trips_and_reachability_are_shown_alike() {
    let Some(serf) = serf() else { return };
    let cluster = Cluster::start(serf, 2);
    for line in [
        "query -timeout=.3s -node=nobody up",
        "query -timeout=100ms -tag role=( up",
        "query -timeout=-1s up",
        "query -timeout=5 up",
        "query -timeout=9999999h up",
        "query -relay-factor=256 up",
        "query -relay-factor=-1 up",
        "query -tag foo up",
        "query -format=xml up",
        "query -timeout=100ms _serf_foo",
        "query -timeout=100ms _serf_ping payload",
        "rtt web1 nobody",
        "rtt nobody",
        "rtt web1 web1",
    ] {
        assert_same_up_to_help(serf, &cluster.rpc(), line);
    }
    // Handlers take their time, and the network may lose a packet. Among more than two members that is not
    // even rare: who gets a query is left to gossip.
    for line in [
        "query -timeout=300ms -node web1 up",
        "query -timeout=300ms -node=web1 -format=json up payload",
        "query -timeout=300ms -node web1 -no-ack -tag role=w.* up",
        "query -timeout=300ms -node web1 -no-ack -format=json up",
        "query -timeout=1s up",
        "query -timeout=1s -format=json -relay-factor=0x1 -tag role=db up",
        "rtt web1 db-number-2",
        "rtt db-number-2",
        "reachability",
    ] {
        assert_same_eventually(serf, &cluster.rpc(), line);
    }
    let big = "x".repeat(1100);
    assert_same(serf, &cluster.rpc(), &format!("query up {big}"));
}

#[test]
fn events_tags_joins_and_force_leaves_do_what_they_say() {
    let Some(serf) = serf() else { return };
    let cluster = Cluster::start(serf, 1);
    let (agent, rpc) = (&cluster.agents[0], cluster.rpc());
    let ours = |line: &str| run(thane(), &words(line), &[("SERF_RPC_ADDR", &rpc)]);

    let before = event_time(serf, agent);
    assert_same(serf, &rpc, "event deploy v1");
    assert_same(serf, &rpc, "event -coalesce=false deploy");
    assert_eq!(event_time(serf, agent), before + 4);
    assert_same(serf, &rpc, &format!("event {}", "x".repeat(600)));

    assert_eq!(ours("tags -set one=1 -set two=2=2 -delete dc").code, Some(0));
    assert_eq!(tags_of(serf, agent), serde_json::json!({"one": "1", "role": "web", "two": "2=2"}));
    for line in [
        "tags -set x=1 -set x=2",
        "tags -set x= -delete x",
        "tags -delete nobody",
        "tags -set foo",
        "tags -set =x",
        &format!("tags -set big={}", "x".repeat(600)),
    ] {
        assert_same(serf, &rpc, line);
    }

    let mut late = Agent::start(serf, "late", &[], "");
    let late_rpc = late.rpc();
    let empty = common::fresh_ip();
    for line in [
        format!("join -replay {}", agent.ip),
        format!("join {} {empty}", agent.ip),
        format!("join {empty} {empty}:9"),
    ] {
        assert_same(serf, &late_rpc, &line);
    }
    wait_for_status(serf, agent, "late", Some("alive"));
    late.kill();
    wait_for_status(serf, agent, "late", Some("failed"));
    assert_eq!(ours("force-leave late"), Shown { out: Vec::new(), err: String::new(), code: Some(0) });
    wait_for_status(serf, agent, "late", Some("left"));
    assert_eq!(ours("force-leave -prune late").code, Some(0));
    wait_for_status(serf, agent, "late", None);
    assert_same(serf, &rpc, "force-leave nobody");
}

#[test]
fn keys_are_changed_and_listed_alike() {
    let Some(serf) = serf() else { return };
    let plain = Agent::start(serf, "plain", &[], "");
    for line in [
        "keys -list",
        "keys -install QUFBQUFBQUFBQUFBQUFBQQ==",
        "keys -use zz",
        "keys -remove zz",
        "keys -list -use x",
    ] {
        assert_same(serf, &plain.rpc(), line);
    }
    let folder = tempfile::TempDir::new().unwrap();
    let ring = folder.path().join("ring");
    std::fs::write(&ring, "[\"QUFBQUFBQUFBQUFBQUFBQQ==\"]").unwrap();
    let sealed = Agent::start(serf, "sealed", &["-keyring-file", ring.to_str().unwrap()], "");
    for line in [
        "keys -list",
        "keys -install QkJCQkJCQkJCQkJCQkJCQg==",
        "keys -list",
        "keys --use=QkJCQkJCQkJCQkJCQkJCQg==",
        "keys -remove QkJCQkJCQkJCQkJCQkJCQg==",
        "keys -remove QUFBQUFBQUFBQUFBQUFBQQ==",
        "keys -use QUFBQUFBQUFBQUFBQUFBQQ==",
        "keys -list=false -list",
    ] {
        assert_same(serf, &sealed.rpc(), line);
    }
    let key = run(thane(), &["keygen"], &[]).text();
    let installed = run(thane(), &["keys", "-install", key.trim()], &[("SERF_RPC_ADDR", &sealed.rpc())]);
    assert_eq!(installed.code, Some(0));
    assert!(std::fs::read_to_string(&ring).unwrap().contains(key.trim()));
}

#[test]
fn a_leave_ends_the_agent() {
    let Some(serf) = serf() else { return };
    let mut shown = Vec::new();
    for program in [serf, thane()] {
        let mut agent = Agent::start(serf, "leaver", &[], "");
        shown.push(run(program, &["leave"], &[("SERF_RPC_ADDR", &agent.rpc())]));
        assert_eq!(agent.exit_code(), Some(0));
    }
    assert_eq!(shown[1], shown[0]);
}

#[test]
fn a_token_is_asked_for_and_shown() {
    let Some(serf) = serf() else { return };
    let agent = Agent::start(serf, "guarded", &[], r#"{"rpc_auth": "token"}"#);
    for line in [
        "members",
        "members -format=xml",
        "members -rpc-auth=wrong",
        "members -rpc-auth token",
        "event x",
        "query x",
        "join x",
        "force-leave x",
        "tags -set a=b",
        "keys -list",
        "keys -install x",
        "keys -use x",
        "keys -remove x",
        "info",
        "rtt a",
        "rtt a b",
        "monitor",
        "reachability",
        "leave",
        "monitor -rpc-auth=token -log-level=bogus",
    ] {
        assert_same(serf, &agent.rpc(), line);
    }
    let rpc = agent.rpc();
    let with = |variables: &[(&str, &str)]| run(thane(), &["members"], variables).code;
    assert_eq!(with(&[("SERF_RPC_ADDR", &rpc), ("SERF_RPC_AUTH", "token")]), Some(0));
    assert_eq!(with(&[("SERF_RPC_ADDR", &rpc), ("SERF_RPC_AUTH", "wrong")]), Some(1));
    let wins = [("SERF_RPC_ADDR", "127.11.0.0:1"), ("SERF_RPC_AUTH", "wrong"), ("THANE_RPC_ADDR", &rpc)];
    assert_eq!(with(&[&wins[..], &[("THANE_RPC_AUTH", "token")]].concat()), Some(0));
}

/// Help is in our words: what comes before it, where it goes and the exit code must be the same.
fn assert_same_up_to_help(serf: &Path, rpc: &str, line: &str) {
    let up_to_help = |shown: &Shown| {
        let cut = |text: &str| {
            let place = text.find("Usage: ");
            (text[..place.unwrap_or(text.len())].to_owned(), place.is_some())
        };
        (cut(&shown.sorted_unless_help()), cut(&shown.err), shown.code)
    };
    let (theirs, ours) = both(serf, rpc, &words(line));
    assert_eq!(up_to_help(&ours), up_to_help(&theirs), "{line}\nthane:\n{}", ours.text());
}

impl Shown {
    fn sorted_unless_help(&self) -> String {
        if self.text().contains("Usage: ") { self.text() } else { self.sorted().text() }
    }
}

#[test]
fn wrong_command_lines_are_refused_alike() {
    let Some(serf) = serf() else { return };
    let agent = Agent::start(serf, "lines", &[], "");
    for line in [
        "",
        "-h",
        "--help",
        "-help",
        "help",
        "bogus",
        "bogus -h",
        "-bogus",
        "-bogus -h",
        "-- members",
        "mem",
        "members -h",
        "members --help",
        "members -name x -help",
        "members words -h",
        "-h members",
        "members -h=x",
        "members -bogus",
        "members --bogus=3",
        "members -detailed=maybe",
        "members -detailed=",
        "members -name",
        "members -=x",
        "members ---x",
        "event",
        "event a b c",
        "event -coalesce=2 x",
        "event x -h",
        "query",
        "query a b c",
        "query -relay-factor=256",
        "query -relay-factor=1__0 x",
        "query -relay-factor=99999999999999999999 x",
        "query -timeout=1d x",
        "join",
        "join -replay",
        "leave -bogus",
        "force-leave",
        "force-leave a b",
        "keys",
        "keys -install",
        "keys -install=",
        "keys -list=false",
        "keys words",
        "tags",
        "tags words",
        "rtt",
        "rtt a b c",
        "info -format",
        "monitor -h",
        "reachability -verbose=2",
    ] {
        assert_same_up_to_help(serf, &agent.rpc(), line);
    }
    let (theirs, ours) = both(serf, &agent.rpc(), &["-rpc-addr=x", "members"]);
    assert_eq!((ours.code, ours.out), (theirs.code, theirs.out));
    let nobody = format!("{}:1", common::fresh_ip());
    for line in [
        "members",
        "event x",
        "query x",
        "join x",
        "leave",
        "force-leave x",
        "keys -list",
        "tags -set foo",
        "info",
        "rtt",
        "monitor",
        "reachability",
        "query -format=xml x",
        "members -tag foo",
        "query -relay-factor=300 x",
    ] {
        assert_same(serf, &nobody, line);
    }
    for addr in [
        "host",
        "a:b:c",
        "127.11.0.1:99999",
        "127.11.0.1:port",
        "[::1]:9",
        ":9",
        &format!("{}:7946", agent.ip),
    ] {
        assert_same(serf, &agent.rpc(), &format!("members -rpc-addr={addr}"));
    }
    assert_eq!(
        both(serf, "", &["members", "-rpc-addr="]).1.text(),
        both(serf, "", &["members", "-rpc-addr="]).0.text()
    );
    assert_same(serf, &agent.rpc(), "monitor -log-level=bogus");
}

#[test]
fn versions_and_keys_need_no_agent() {
    for line in ["version", "-v", "--version", "members -v", "event -- --version", "version words"] {
        let shown = run(thane(), &words(line), &[]);
        let expected = concat!(env!("CARGO_PKG_VERSION"), "\nAgent Protocol: 5 (Understands back to: 2)\n");
        assert_eq!(
            (shown.text().as_str(), shown.err.as_str(), shown.code),
            (expected, "", Some(0)),
            "{line}"
        );
    }
    let keys: BTreeSet<String> = (0..3).map(|_| run(thane(), &["keygen", "words"], &[]).text()).collect();
    assert_eq!(keys.len(), 3);
    let length = |key: &String| {
        let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, key.trim());
        decoded.unwrap().len()
    };
    assert!(keys.iter().all(|key| length(key) == 32));
}

#[test]
fn the_binary_answers_to_the_name_serf() {
    let folder = tempfile::TempDir::new().unwrap();
    let alias = folder.path().join("serf");
    std::fs::copy(thane(), &alias).unwrap();
    assert_eq!(run(&alias, &["version"], &[]), run(thane(), &["version"], &[]));
}
