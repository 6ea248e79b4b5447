//! Clients that are slow, dead, greedy or hostile: what they may take is bounded, and counted.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::client::{connect, get, read_head, request};
use crate::process::{Agent, THANE, poll};

fn start(ip: &str) -> (Agent, String) {
    let addr = format!("{ip}:8500");
    let agent = Agent::start(THANE, ip, &["-node=n1", "-profile=local", &format!("-http-addr={addr}")]);
    (agent, addr)
}

/// Waits until a counter has this value.
fn counted(addr: &str, name: &str, wanted: u64) {
    poll(&format!("{name} of {wanted}"), || {
        let text = get(addr, "/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
        (line.parse::<u64>().unwrap() == wanted).then_some(())
    });
}

/// The status of what answers these bytes; `None` if nothing does.
fn answer(addr: &str, bytes: &[u8]) -> Option<u16> {
    let mut stream = connect(addr);
    // The agent may have closed the connection already.
    let _ = stream.write_all(bytes);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    std::str::from_utf8(text.get(9..12)?).ok()?.parse().ok()
}

#[test]
fn heads_and_bodies_that_are_too_long_are_refused_and_counted() {
    let (_agent, addr) = start("127.15.108.1");
    let flood = |lines: usize| {
        let lines: String = (0..lines).map(|n| format!("X-{n}: y\r\n")).collect();
        answer(&addr, format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}Connection: close\r\n\r\n").as_bytes())
    };
    assert_eq!(flood(40), Some(200));
    assert_eq!(flood(100), Some(431));
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(64 << 10));
    assert_eq!(answer(&addr, long.as_bytes()), Some(431));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(64 << 10));
    assert!(matches!(answer(&addr, long.as_bytes()), Some(414 | 431)));
    let json = ["Content-Type: application/json"];
    assert_eq!(request(&addr, "POST", "/v1/events", &json, &[b' '; 70 << 10]).status, 413);
    let head = "POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n";
    let announced = format!("{head}Content-Length: 9999999999999\r\nConnection: close\r\n\r\n");
    assert_eq!(answer(&addr, announced.as_bytes()), Some(413), "at once");
    let chunk = format!("2000\r\n{}\r\n", " ".repeat(0x2000)).repeat(9);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunk}0\r\n\r\n");
    assert_eq!(answer(&addr, chunked.as_bytes()), Some(413));
    counted(&addr, "thane_http_too_large_total", 6);
}

#[test]
fn what_is_not_http_ends_the_connection_and_is_counted() {
    let (_agent, addr) = start("127.15.109.1");
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"HELO x\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
    {
        assert!(matches!(answer(&addr, bytes), None | Some(400)), "{bytes:?}");
    }
    counted(&addr, "thane_http_malformed_total", 3);
    // Two lengths are how requests are smuggled.
    let two = "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(answer(&addr, two.as_bytes()), Some(400));
    assert_eq!(get(&addr, "/../v1/members").status, 404);
    assert_eq!(get(&addr, "/v1/members/..%2f..%2fetc%2fpasswd").status, 404);
}

#[test]
fn slow_heads_slow_bodies_and_silence_end_after_a_while_and_are_counted() {
    let (_agent, addr) = start("127.15.110.1");
    let mut silent = connect(&addr);
    let mut slow = connect(&addr);
    slow.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    let mut body = connect(&addr);
    let head = "POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    body.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_head(&mut BufReader::new(body)).status, 408);
    let mut rest = Vec::new();
    let ended = |stream: &mut TcpStream, rest: &mut Vec<u8>| stream.read_to_end(rest).is_ok();
    assert!(ended(&mut silent, &mut rest) && ended(&mut slow, &mut rest));
    poll("three timeouts", || {
        let text = get(&addr, "/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix("thane_http_timeouts_total "));
        (line?.parse::<u64>().ok()? >= 3).then_some(())
    });
}

#[test]
fn a_client_that_reads_nothing_is_closed_and_others_are_served_meanwhile() {
    let (_agent, addr) = start("127.15.111.1");
    let mut stuck = connect(&addr);
    socket2::SockRef::from(&stuck).set_recv_buffer_size(4096).unwrap();
    stuck.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    // Requests until the agent takes no more, because nobody takes its answers.
    let request = format!("GET / HTTP/1.1\r\nHost: {addr}\r\n\r\n").repeat(64);
    while stuck.write_all(request.as_bytes()).is_ok() {}
    assert_eq!(get(&addr, "/v1/health").status, 200);
    counted(&addr, "thane_http_stalled_total", 1);
}

#[test]
fn silent_clients_keep_nobody_out() {
    let (_agent, addr) = start("127.15.112.1");
    let silent: Vec<TcpStream> = (0..300).map(|_| connect(&addr)).collect();
    let request = format!("GET /v1/health HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    for _ in 0..20 {
        // For a quarter of a second nobody has been silent for long enough to make room.
        poll("an answer", || (answer(&addr, request.as_bytes()) == Some(200)).then_some(()));
    }
    drop(silent);
    let text = get(&addr, "/metrics").text();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.parse::<u64>().unwrap()
    };
    assert!(of("thane_http_closed_idle_total ") + of("thane_http_refused_total ") > 0, "{text}");
}
