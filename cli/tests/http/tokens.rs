//! Who gets an answer: tokens, and pages of other sites.

use crate::client::{Response, get, request};
use crate::process::{Agent, THANE, poll};

fn counter(addr: &str, token: &str, name: &str) -> u64 {
    let text = request(addr, "GET", "/metrics", &[&format!("Authorization: Bearer {token}")], b"").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    line.parse().unwrap()
}

#[test]
fn with_a_token_only_health_and_the_page_are_open_and_wrong_tokens_count() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.json");
    std::fs::write(&config, r#"{"rpc_auth": "secret", "http_addr": "127.15.105.1:8500"}"#).unwrap();
    let flags = ["-node=n1", "-profile=local", &format!("-config-file={}", config.display())];
    let mut agent = Agent::start(THANE, "127.15.105.1", &flags);
    let addr = "127.15.105.1:8500";
    for (path, status) in
        [("/", 200), ("/v1/health", 200), ("/metrics", 401), ("/v1/members", 401), ("/v1/no", 404)]
    {
        assert_eq!(get(addr, path).status, status, "{path}");
    }
    let with = |header: &str| request(addr, "GET", "/v1/members", &[header], b"");
    for right in
        ["Authorization: Bearer secret", "authorization: bearer secret", "Authorization: Bearer  secret"]
    {
        assert_eq!(with(right).status, 200, "{right}");
    }
    for wrong in ["Bearer secres", "Bearer secret2", "Bearer sécret"] {
        let refused = with(&format!("Authorization: {wrong}"));
        assert_eq!((refused.status, refused.header("WWW-Authenticate")), (401, "Bearer"), "{wrong}");
    }
    for none in ["Basic c2VjcmV0", "Bearer ", "secret"] {
        assert_eq!(with(&format!("Authorization: {none}")).status, 401, "{none}");
    }
    assert_eq!(counter(addr, "secret", "thane_http_wrong_tokens_total"), 3);
    assert_eq!(counter(addr, "secret", "thane_http_without_token_total"), 5);
    agent.wait_for("[WARN] agent.ipc: Wrong RPC token from 127.0.0.1:");
    let info = std::process::Command::new(THANE)
        .args(["info", "-rpc-addr=127.15.105.1:7373", "-rpc-auth=secret"])
        .output()
        .unwrap();
    let info = String::from_utf8(info.stdout).unwrap();
    assert!(info.contains("wrong_tokens = 3"), "{info}");
}

#[test]
fn pages_of_other_sites_command_nothing() {
    let addr = "127.15.106.1:8500";
    let http = format!("-http-addr={addr}");
    let _agent = Agent::start(THANE, "127.15.106.1", &["-node=n1", "-profile=local", &http]);
    let body = br#"{"name": "e"}"#;
    let fire = |headers: &[&str]| request(addr, "POST", "/v1/events", headers, body);
    let json = "Content-Type: application/json";
    assert_eq!(fire(&[json]).status, 204);
    assert_eq!(fire(&[json, "Origin: http://127.15.106.1:8500"]).status, 204, "its own page");
    assert_eq!(fire(&[json, "Origin: http://evil.example"]).status, 403);
    assert_eq!(fire(&[json, "Origin: null"]).status, 403);
    // What browsers send without asking first.
    for simple in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        assert_eq!(fire(&[&format!("Content-Type: {simple}")]).status, 415, "{simple}");
    }
    assert_eq!(fire(&[]).status, 415);
    // A name that somebody else has pointed here.
    let rebound = raw(addr, "evil.example:8500");
    assert_eq!(rebound.status, 403, "{}", rebound.text());
    assert_eq!(raw(addr, "localhost:8500").status, 204);
    let options = request(addr, "OPTIONS", "/v1/events", &["Origin: http://evil.example"], b"");
    assert_eq!((options.status, options.header("Allow")), (405, "GET, HEAD, POST"));
    assert_eq!(options.header("Access-Control-Allow-Origin"), "");
    poll("three refusals", || (counter(addr, "", "thane_http_cross_site_total") == 3).then_some(()));
}

/// Fires an event under this name of the host.
fn raw(addr: &str, host: &str) -> Response {
    use std::io::{BufReader, Write};
    let mut stream = crate::client::connect(addr);
    write!(
        stream,
        "POST /v1/events HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{{\"name\": \"e\"}}"
    )
    .unwrap();
    crate::client::read_head(&mut BufReader::new(stream))
}
