//! Log lines that operators search for: the same from Thane as from Serf, which runs beside it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;

use thane_engine::wire::{Alive, Incarnation};

use crate::process::{Agent, THANE, poll, serf};

const OLD: &str = "MTIzNDU2Nzg5MDEyMzQ1Ng==";
const NEW: &str = "NjU0MzIxMDk4NzY1NDMyMQ==";
/// What the lines are about: keys, joins, refused streams, conflicts, expressions, the end.
const ABOUT: [&str; 14] = [
    "agent: Initiating ",
    "serf: Received ",
    "serf: Failed to ",
    "Restored keyring",
    "error joining",
    "* Failed to join",
    "failed to receive: ",
    "Conflicting address",
    "onflict",
    "e-join",
    "compile regex",
    "requesting serf shutdown",
    "Shutdown without",
    "shutdown complete",
];

/// Runs a command against an agent of either kind; its outcome is not what is tested.
fn command(addr: &str, name: &str, arguments: &[&str]) {
    let rpc_addr = format!("-rpc-addr={addr}:7373");
    let output = Command::new(THANE).args([name, &rpc_addr]).args(arguments).output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("Error connecting"), "{output:?}");
}

/// Opens a gossip stream, sends this, and waits until the agent has closed it.
fn send(addr: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect((addr, 7946)).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    // It may be reset instead.
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Tells an agent that a member of that name is at another address.
fn claim(addr: &str, name: &str, claimed: [u8; 4]) {
    let alive = Alive {
        incarnation: Incarnation(9),
        node: name,
        addr: claimed.to_vec().into(),
        port: 7946,
        meta: b"\xff\x80"[..].into(),
        versions: vec![1, 5, 2, 2, 5, 4].into(),
    };
    let mut bytes = Vec::new();
    alive.encode(&mut bytes);
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&bytes, (addr, 7946)).unwrap();
}

/// A sealed stream, with no key that anybody has.
fn sealed() -> Vec<u8> {
    [&[10, 0, 0, 0, 64, 1][..], &[7; 63]].concat()
}

/// The agent's lines of this test, without what must differ: addresses, the times, and Thane's names of reasons.
fn lines(agent: &mut Agent, net: &str, folder: &Path) -> BTreeSet<String> {
    agent.signal("TERM");
    agent.end();
    let reason = regex::Regex::new(r" \([a-z_]+\)$").unwrap();
    let port = regex::Regex::new(r"127\.0\.0\.1:\d+|127\.[0-9.]+:\d{5}").unwrap();
    let line = |line: &String| {
        let line = line.replace(net, "NET").replace(&folder.display().to_string(), "FOLDER");
        let line = reason.replace(&line, "");
        let text = line.split_once(" [").map_or(&*line, |(_, text)| text);
        port.replace_all(text, "PEER").trim().to_owned()
    };
    let told = agent.lines.iter().filter(|line| ABOUT.iter().any(|about| line.contains(about)));
    told.map(line).collect()
}

fn encrypted(program: &str, net: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let keyring = folder.path().join("keyring");
    std::fs::write(&keyring, format!("[\"{OLD}\"]")).unwrap();
    let addr = format!("{net}.1");
    let keyring = format!("-keyring-file={}", keyring.display());
    let mut agent = Agent::start(program, &addr, &["-node=n", "-profile=local", &keyring]);
    for change in ["-install", "-use"] {
        command(&addr, "keys", &[&format!("{change}={NEW}")]);
    }
    command(&addr, "keys", &[&format!("-remove={OLD}")]);
    command(&addr, "keys", &["-list"]);
    command(&addr, "keys", &[&format!("-remove={NEW}")]);
    command(&addr, "keys", &["-install=QUJD"]);
    command(&addr, "join", &[&format!("{net}.77:9"), &format!("{net}.78")]);
    command(&addr, "members", &["-name=("]);
    send(&addr, &[6, 0x83]);
    agent.wait_for("failed to receive: Encryption is configured");
    lines(&mut agent, net, folder.path())
}

fn plain(program: &str, net: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = format!("-snapshot={}", folder.path().join("snapshot").display());
    let (addr, other) = (format!("{net}.2"), format!("{net}.3"));
    let _other = Agent::start(program, &other, &["-node=other", "-profile=local"]);
    let flags = ["-node=n", "-profile=local", &snapshot];
    let join = format!("-join={other}");
    let mut first = Agent::start(program, &addr, &[&flags[..], &[&join]].concat());
    first.wait_for("EventMemberJoin: other");
    // Serf writes the lines of its snapshot when later ones come.
    poll("the other member in the snapshot", || {
        command(&addr, "event", &["e"]);
        let text = std::fs::read_to_string(folder.path().join("snapshot")).unwrap_or_default();
        text.contains("alive: other").then_some(())
    });
    first.signal("TERM");
    first.end();
    let mut agent = Agent::start(program, &addr, &flags);
    agent.wait_for("Re-joined to previously known node");
    let octets: Vec<u8> = net.split('.').map(|octet| octet.parse().unwrap()).collect();
    claim(&addr, "other", [octets[0], octets[1], octets[2], 66]);
    agent.wait_for("Name conflict for 'other'");
    claim(&addr, "n", [octets[0], octets[1], octets[2], 67]);
    agent.wait_for("Node name conflicts with another node");
    send(&addr, &sealed());
    agent.wait_for("failed to receive: Remote state is encrypted");
    lines(&mut agent, net, folder.path())
}

#[test]
fn lines_that_operators_search_for_are_serfs() {
    let Some(serf) = serf() else { return };
    for (scenario, nets) in
        [(encrypted as fn(&str, &str) -> _, ["127.32.15", "127.32.16"]), (plain, ["127.32.17", "127.32.18"])]
    {
        let theirs = std::thread::spawn(move || scenario(serf, nets[0]));
        let ours = scenario(THANE, nets[1]);
        assert_eq!(ours, theirs.join().unwrap());
    }
}
