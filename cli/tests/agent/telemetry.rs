//! Numbers and lines that go elsewhere: statsd, statsite, syslog; and joining that does not stop at oneself.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::process::Command;
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

/// Names and kinds (`c`, `g`, `ms`) of the numbers that an agent sends to statsd, until `enough`.
fn names_sent(
    program: &str,
    addr: &str,
    sink: &str,
    enough: impl Fn(&BTreeSet<String>) -> bool,
) -> BTreeSet<String> {
    let statsd = UdpSocket::bind((sink, 8125)).unwrap();
    statsd.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (file, _folder) = config(&format!(r#"{{"statsd_addr": "{sink}:8125"}}"#));
    let mut agent = Agent::start(program, addr, &["-node=n", &file]);
    agent.wait_for("EventMemberJoin: n");
    let rpc_addr = format!("-rpc-addr={addr}:7373");
    for arguments in [&["event", &rpc_addr, "de ploy:x"][..], &["query", &rpc_addr, "-timeout=1s", "up"]] {
        assert!(Command::new(THANE).args(arguments).output().unwrap().status.success());
    }
    let mut names = BTreeSet::new();
    poll("the names", || {
        let mut bytes = [0; 65_536];
        let len = statsd.recv(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes[..len]);
        names.extend(text.lines().filter_map(|line| {
            let (name, value) = line.rsplit_once(':')?;
            Some(format!("{name} {}", value.rsplit_once('|')?.1))
        }));
        enough(&names).then_some(())
    });
    names
}

/// All that happened here, and how much was received and sent: Serf sends these at once. Queues it samples every 30
/// seconds, and the health score when it changes.
#[test]
fn names_and_kinds_of_numbers_are_those_that_serf_sends() {
    let Some(serf) = serf() else { return };
    let counted = |name: &&String| name.ends_with(" c") && !name.contains(".thane.");
    // The event is reported after a second without another one.
    let last = ["serf-agent.serf.queries.up c", "serf-agent.serf.events.de_ploy_x c"];
    let ours = names_sent(THANE, "127.86.63.1", "127.86.63.9", |names| {
        last.iter().all(|name| names.contains(*name))
    });
    let wanted: BTreeSet<&String> = ours.iter().filter(counted).collect();
    assert!(wanted.len() >= 6, "{wanted:?}");
    names_sent(serf, "127.86.64.1", "127.86.64.9", |names| wanted.iter().all(|name| names.contains(*name)));
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
        let gauges: Vec<String> = lines.filter(|line| line.ends_with("|g")).take(4).collect();
        let mut bytes = [0; 65_536];
        let of_statsd = poll("the same gauges", || {
            let len = statsd.recv(&mut bytes).ok()?;
            let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
            let found: Vec<String> =
                text.lines().filter(|line| line.ends_with("|g")).map(str::to_owned).collect();
            (found.len() == 4).then_some(found)
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
