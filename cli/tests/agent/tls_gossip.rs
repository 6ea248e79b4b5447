//! Streams by TLS between agents, beside a real Serf that speaks none.

use std::process::Command;

use crate::common::certificates::{Authority, Pair};
use crate::process::{Agent, THANE, poll, serf};

/// Starts an agent with TLS between members.
fn agent(name: &str, addr: &str, ca: &Authority, pair: &Pair, flags: &[&str]) -> Agent {
    let own = own_flags(name, ca, pair);
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    Agent::start(THANE, addr, &[&own[..], &["-profile=local"], flags].concat())
}

fn own_flags(name: &str, ca: &Authority, pair: &Pair) -> [String; 5] {
    [
        format!("-node={name}"),
        format!("-tls-cert-file={}", pair.cert.display()),
        format!("-tls-key-file={}", pair.key.display()),
        format!("-tls-ca-file={}", ca.file().display()),
        "-tls-gossip".to_owned(),
    ]
}

/// Asks the agent on `addr` to join; whether it succeeds, and what it says.
fn join(addr: &str, to: &str) -> (bool, String) {
    let output = Command::new(THANE).args(["join", &format!("-rpc-addr={addr}:7373"), to]).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// Waits until the agent on `addr` lists so many members as alive.
fn wait_for_members(addr: &str, count: usize) {
    poll("the members", || {
        let rpc = format!("-rpc-addr={addr}:7373");
        let output = Command::new(THANE).args(["members", "-status=alive", &rpc]).output().unwrap();
        (String::from_utf8(output.stdout).unwrap().lines().count() == count).then_some(())
    });
}

/// A number of `info`.
fn info(addr: &str, name: &str) -> u64 {
    let output = Command::new(THANE).args(["info", &format!("-rpc-addr={addr}:7373")]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line =
        text.lines().find_map(|line| line.trim().strip_prefix(&format!("{name} = ")).map(str::to_owned));
    line.map_or(0, |number| number.parse().unwrap())
}

#[test]
fn agents_with_tls_and_a_serf_without_are_one_cluster() {
    let (ca, first, second) = (Authority::new(), "127.40.3.1", "127.40.3.2");
    let pair = ca.issue("member", "DNS:member");
    let _first = agent("first", first, &ca, &pair, &[]);
    let _second = agent("second", second, &ca, &pair, &[&format!("-join={first}")]);
    let serf_addr = "127.40.3.3";
    let serf = serf().map(|serf| {
        let flags = ["-node=serf", "-profile=local", &format!("-join={first}")];
        Agent::start(serf, serf_addr, &flags)
    });
    let count = 2 + usize::from(serf.is_some());
    [first, second].iter().for_each(|addr| wait_for_members(addr, count));
    if serf.is_some() {
        wait_for_members(serf_addr, count);
        for (from, to) in [(first, serf_addr), (second, serf_addr), (serf_addr, second)] {
            let (joined, text) = join(from, to);
            assert!(joined, "{from} to {to} in plain form: {text}");
        }
    }
    assert_eq!([first, second].map(|addr| info(addr, "tls_refused")), [0, 0]);
}

#[test]
fn an_agent_that_requires_tls_takes_part_with_those_that_have_it_alone() {
    let (ca, open, strict) = (Authority::new(), "127.40.3.11", "127.40.3.12");
    let pair = ca.issue("member", "DNS:member");
    let _open = agent("open", open, &ca, &pair, &[]);
    let mut agent = agent("strict", strict, &ca, &pair, &["-tls-required", &format!("-join={open}")]);
    wait_for_members(open, 2);
    // By TLS, or it would be refused: the ack of a ping has announced it.
    poll("the announcement", || join(open, strict).0.then_some(()));

    // As openssl's client sees the gossip port.
    let output = Command::new("openssl")
        .args(["s_client", "-connect", "127.40.3.12:7946", "-verify_return_error", "-CAfile"])
        .arg(ca.file())
        .args(["-cert", pair.cert.to_str().unwrap(), "-key", pair.key.to_str().unwrap()])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("TLSv1.3") && text.contains("Verify return code: 0"), "{text}");

    let mut doctor = Command::new(THANE);
    doctor.args(["doctor", "-bind=127.40.3.15", "-rpc-addr=127.40.3.15:7373", "-tls-required"]);
    doctor.args(own_flags("doctor", &ca, &pair)).arg(format!("-member={strict}"));
    let text = String::from_utf8(doctor.output().unwrap().stdout).unwrap();
    for line in
        ["ok    tls: certificate and key in '", "ok    member: TCP 127.40.3.12:7946 answers with 2 members"]
    {
        assert!(text.contains(line), "{line:?} is missing in:\n{text}");
    }

    let _plain = Agent::start(THANE, "127.40.3.13", &["-node=plain", "-profile=local"]);
    let before = info(strict, "tls_required");
    assert!(!join("127.40.3.13", strict).0, "a plain agent is refused");
    assert_eq!(info(strict, "tls_required"), before + 1);
    agent.wait_for("a plain stream, where TLS is required");
    let (joined, text) = join(strict, "127.40.3.13");
    assert!(!joined && text.contains("TLS with 127.40.3.13:7946"), "and is not asked in plain form: {text}");
    if let Some(serf) = serf() {
        let _serf = Agent::start(serf, "127.40.3.14", &["-node=serf", "-profile=local"]);
        let before = info(strict, "tls_required");
        assert!(!join("127.40.3.14", strict).0, "so is a Serf agent");
        assert_eq!(info(strict, "tls_required"), before + 1);
    }
}

#[test]
fn a_reload_takes_new_certificates_for_streams_too() {
    let (ca, addr) = (Authority::new(), "127.40.3.21");
    let (pair, newer) = (ca.issue("first", "DNS:a"), ca.issue("second", "DNS:a"));
    let client = ca.issue("client", "DNS:c");
    let mut agent = agent("n", addr, &ca, &pair, &[]);
    let subject = || {
        let mut shown = Command::new("openssl");
        shown.args(["s_client", "-connect", "127.40.3.21:7946", "-cert"]).arg(&client.cert);
        let output = shown.arg("-key").arg(&client.key).stdin(std::process::Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(subject().contains("subject=CN = first"));
    std::fs::copy(&newer.cert, &pair.cert).unwrap();
    std::fs::copy(&newer.key, &pair.key).unwrap();
    agent.signal("HUP");
    poll("the new certificate", || subject().contains("subject=CN = second").then_some(()));
    std::fs::write(ca.file(), "broken").unwrap();
    agent.signal("HUP");
    agent.wait_for("no certificate in PEM form: it begins with -----BEGIN CERTIFICATE-----; the files read");
    assert!(subject().contains("subject=CN = second"));
}
