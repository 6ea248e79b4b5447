//! Numbers and lines that go elsewhere: statsd, statsite, syslog; and joining that does not stop at oneself.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::process::{Agent, THANE, can_make_namespaces, outcome, poll, serf};

fn config(text: &str) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.json");
    std::fs::write(&path, text).unwrap();
    (format!("-config-file={}", path.display()), folder)
}

/// Lines that an agent with a sink sends in any case.
const TOLD: [&str; 4] = [
    "serf-agent.serf.member.join:1.000000|c",
    "serf-agent.agent.ipc.accept:1.000000|c",
    "serf-agent.serf.events.deploy:1.000000|c",
    "serf-agent.serf.queue.Intent:0.000000|ms",
];

fn cause_numbers(addr: &str) {
    let rpc_addr = format!("-rpc-addr={addr}:7373");
    let output = Command::new(THANE).args(["event", &rpc_addr, "deploy"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn statsd_gets_lines_in_datagrams() {
    let statsd = UdpSocket::bind("127.32.2.9:8125").unwrap();
    statsd.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (file, _folder) = config(r#"{"statsd_addr": "127.32.2.9:8125"}"#);
    let _agent = Agent::start(THANE, "127.32.2.1", &["-node=n", &file]);
    cause_numbers("127.32.2.1");
    let mut lines = Vec::new();
    poll("the numbers", || {
        let mut bytes = [0; 2000];
        let len = statsd.recv(&mut bytes).ok()?;
        lines.extend(String::from_utf8_lossy(&bytes[..len]).lines().map(str::to_owned));
        TOLD.iter().all(|line| lines.iter().any(|told| told == line)).then_some(())
    });
    assert!(lines.iter().any(|line| line.ends_with(".memberlist.health.score:0.000000|g")), "{lines:?}");
}

/// Names and kinds (`c`, `g`, `ms`) of the numbers that an agent sends to statsd while members join, ask, answer, leave,
/// fail and come back, until there are all of `wanted`.
fn names_sent(program: &str, net: &str, wanted: &[&str]) -> BTreeSet<String> {
    let addr = |n: u8| format!("{net}.{n}");
    let sink = addr(9);
    let statsd = UdpSocket::bind((sink.as_str(), 8125)).unwrap();
    let (sent, names) = channel();
    // Read all the time: the kernel keeps a few hundred datagrams only. Ends with the test's process.
    std::thread::spawn(move || {
        let mut bytes = [0; 65_536];
        while let Ok(len) = statsd.recv(&mut bytes) {
            for line in String::from_utf8_lossy(&bytes[..len]).lines() {
                let parts = line.rsplit_once(':').and_then(|(name, value)| {
                    Some((name.strip_prefix("serf-agent.")?, value.rsplit_once('|')?.1))
                });
                let Some((name, kind)) = parts else { continue };
                if sent.send(format!("{name} {kind}")).is_err() {
                    return;
                }
            }
        }
    });
    let (file, _folder) = config(&format!(r#"{{"statsd_addr": "{sink}:8125"}}"#));
    let mut agent = Agent::start(program, &addr(1), &["-node=n", "-profile=local", &file]);
    agent.wait_for("EventMemberJoin: n");
    let join = format!("-join={}", addr(1));
    let start = |n: u8, name: &str| {
        let name = format!("-node={name}");
        Agent::start(program, &addr(n), &[&name, "-profile=local", &join, "-event-handler=query:up=echo yes"])
    };
    let (mut failing, mut leaving) = (start(2, "failing"), start(3, "leaving"));
    agent.wait_for("EventMemberJoin: leaving");
    agent.wait_for("EventMemberJoin: failing");
    let run = |n: u8, command: &str, arguments: &[&str]| {
        let rpc_addr = format!("-rpc-addr={}:7373", addr(n));
        let output = Command::new(THANE).args([command, &rpc_addr]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    };
    run(1, "event", &["de ploy:x"]);
    run(1, "query", &["-timeout=1s", "up"]);
    run(1, "join", &[&addr(2)]);
    run(2, "tags", &["-set", "a=b"]);
    failing.signal("KILL");
    failing.end();
    agent.wait_for("EventMemberFailed: failing");
    let mut again = start(2, "failing");
    agent.wait_for_count("EventMemberJoin: failing", 2);
    leaving.signal("INT");
    leaving.end();
    // Nobody is left to say that the agent is not the one to blame: its health is doubted.
    again.signal("KILL");
    again.end();
    let mut seen = BTreeSet::new();
    poll(&format!("{wanted:?}"), || {
        seen.extend(names.try_iter());
        wanted.iter().all(|name| seen.iter().any(|sent| sent.ends_with(name))).then_some(())
    });
    seen
}

/// Serf sends each number when it occurs, the health score when it changes, and samples of queues every 30 seconds, which
/// this test does not wait for.
#[test]
fn counters_and_gauges_have_the_names_that_serf_sends_in_the_same_run() {
    let Some(serf) = serf() else { return };
    let happens = [
        "agent.ipc.accept c",
        "agent.ipc.command c",
        "memberlist.degraded.probe c",
        "memberlist.msg.alive c",
        "memberlist.msg.dead c",
        "memberlist.msg.suspect c",
        "memberlist.tcp.accept c",
        "memberlist.tcp.connect c",
        "memberlist.tcp.sent c",
        "memberlist.udp.received c",
        "memberlist.udp.sent c",
        "serf.events c",
        "serf.events.de_ploy_x c",
        "serf.member.failed c",
        "serf.member.flap c",
        "serf.member.join c",
        "serf.member.left c",
        "serf.member.update c",
        "serf.queries c",
        "serf.queries.up c",
        "serf.query_acks c",
        "serf.query_responses c",
        ".memberlist.health.score g",
    ];
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| names_sent(serf, "127.86.63", &happens));
        (names_sent(THANE, "127.86.64", &happens), theirs.join().unwrap())
    });
    // Whether a suspicion is confirmed in time is chance; Go's numbers are not a node's.
    let compared = |name: &&String| {
        let added =
            ["thane.", "memberlist.node.instances.", "memberlist.size.local", "memberlist.degraded.timeout"];
        !name.ends_with(" ms") && !name.contains("runtime.") && !added.iter().any(|part| name.contains(part))
    };
    let of = |names: &BTreeSet<String>| names.iter().filter(compared).cloned().collect::<Vec<_>>();
    assert_eq!(of(&ours), of(&theirs));
    // What the newest Serf sends besides.
    for name in
        ["memberlist.node.instances.alive g", "memberlist.node.instances.left g", "memberlist.size.local g"]
    {
        assert!(ours.iter().any(|sent| sent.ends_with(name)), "{name}: {ours:?}");
    }
}

#[test]
fn statsite_gets_the_lines_of_statsd_and_is_found_again_whenever_it_was_away() {
    let statsd = UdpSocket::bind("127.32.3.8:8125").unwrap();
    statsd.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (file, _folder) = config(r#"{"statsite_addr": "127.32.3.9:8125", "statsd_addr": "127.32.3.8:8125"}"#);
    let mut agent = Agent::start(THANE, "127.32.3.1", &["-node=n", &file]);
    agent.wait_for("[WARN] agent: can't send metrics to 127.32.3.9:8125, retrying every second: ");
    let statsite = TcpListener::bind("127.32.3.9:8125").unwrap();
    // The second connection is made after the first one was lost.
    for _ in 0..2 {
        let (stream, _) = statsite.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        cause_numbers("127.32.3.1");
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "serf-agent.serf.events.deploy:1.000000|c"));
        // The gauges of one report, in its order.
        let gauges: Vec<String> = lines.filter(|line| line.ends_with("|g")).take(8).collect();
        let mut bytes = [0; 65_536];
        let of_statsd = poll("the same gauges", || {
            let len = statsd.recv(&mut bytes).ok()?;
            let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
            let found: Vec<String> =
                text.lines().filter(|line| line.ends_with("|g")).map(str::to_owned).collect();
            (found.len() == 8).then_some(found)
        });
        assert_eq!(gauges, of_statsd);
    }
}

#[test]
fn a_missing_syslog_socket_is_an_error() {
    // Where the machine has one of the sockets, the agent sees a file without a listener in its place.
    let sockets = ["/dev/log", "/var/run/syslog", "/var/run/log"];
    let is_socket = |path: &&str| std::fs::metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let present: Vec<&str> = sockets.into_iter().filter(is_socket).collect();
    if !present.is_empty() && !can_make_namespaces("a_missing_syslog_socket_is_an_error") {
        return;
    }
    let hide: String = present.iter().map(|socket| format!("mount --bind /dev/null {socket} && ")).collect();
    let script = format!("{hide}exec {THANE} agent -bind=127.32.4.1 -rpc-addr=127.32.4.1:7373 -syslog");
    let shell = if present.is_empty() { vec!["sh"] } else { vec!["unshare", "-m", "sh"] };
    let output = Command::new(shell[0]).args(&shell[1..]).args(["-c", &script]).output().unwrap();
    let expected = "==> Starting Serf agent...\n==> Syslog setup failed: no syslog socket accepts a connection (tried /dev/log, /var/run/syslog, /var/run/log): start a syslog daemon or leave -syslog out\n";
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{stderr}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn background_join_through_itself_goes_on_until_somebody_else_is_there() {
    let retry = ["-node=a", "-retry-join=127.32.5.1", "-retry-join=127.32.5.2", "-retry-interval=1s"];
    let mut lonely = Agent::start(THANE, "127.32.5.1", &retry);
    lonely.wait_for("[WARN] agent: Join failed: only this agent itself answered, retrying in 1s");
    let _late = Agent::start(THANE, "127.32.5.2", &["-node=b"]);
    lonely.wait_for("[INFO] agent: Join completed. Synced with 2 initial agents");
    lonely.wait_for("EventMemberJoin: b 127.32.5.2");
}

#[test]
fn labels_and_allowed_networks_keep_agents_apart() {
    let (blue, _blue_folder) = config(r#"{"label": "blue"}"#);
    // Streams on the loopback network come from 127.0.0.1, whatever the agent is bound to.
    let (near, _near_folder) =
        config(r#"{"label": "blue", "cidrs_allowed": ["127.32.6.0/24", "127.0.0.1/32"]}"#);
    let mut near = Agent::start(THANE, "127.32.6.1", &["-node=near", &near]);
    let _blue = Agent::start(THANE, "127.32.6.2", &["-node=blue", &blue, "-join=127.32.6.1"]);
    near.wait_for("EventMemberJoin: blue 127.32.6.2");
    let (code, text) =
        outcome(THANE, &["-node=plain", "-bind=127.32.6.3", "-rpc-addr=127.32.6.3:7373", "-join=127.32.6.1"]);
    assert_eq!(code, Some(1), "{text}");
    let _far = Agent::start(THANE, "127.32.7.1", &["-node=far", &blue, "-join=127.32.6.1"]);
    near.wait_for("address_not_allowed");
    assert!(!near.has("EventMemberJoin: far"));
}
