//! Network coordinates: each kind learns from the other's acks, and both come to believe in short round trips.

use std::io::copy;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::agent::{Agent, Kind};
use super::cluster::{Cluster, Variant, run};

/// Far above a round trip on the loopback device, far below two newcomers' first guess of each other after an error.
const CLOSE_MS: f64 = 50.0;

#[test]
fn both_kinds_converge() {
    run(concat!(module_path!(), "::both_kinds_converge"), Variant::Plain, 108, |cluster| {
        cluster.start_pairs(2, |_| Vec::new());
        for agent in cluster.agents() {
            for other in cluster.agents().iter().filter(|other| other.name != agent.name) {
                wait_close(cluster, agent, &other.name);
            }
            let info = agent.info();
            assert_eq!(info["serf"]["coordinate_resets"], "0", "{}", agent.name);
        }
    });
}

/// One way; both ways are what a ping and its ack take.
const DELAY: Duration = Duration::from_millis(20);

#[test]
fn a_known_delay_is_estimated() {
    run(concat!(module_path!(), "::a_known_delay_is_estimated"), Variant::Plain, 115, |cluster| {
        let mut advertised = Vec::new();
        for (kind, name, host) in [(Kind::Serf, "s1", 101), (Kind::Thane, "t1", 102)] {
            let back = cluster.add(kind, name).bind_addr();
            let front = SocketAddr::from((Ipv4Addr::new(127, 14, 115, host), back.port()));
            delay_path(front, back);
            advertised.push(front.to_string());
        }
        cluster.start("s1", &["-advertise", &advertised[0]]);
        cluster.start("t1", &["-advertise", &advertised[1], "-join", &advertised[0]]);
        cluster.wait_all_alive();
        let round_trip = 2.0 * DELAY.as_secs_f64() * 1000.0;
        for (name, other) in [("s1", "t1"), ("t1", "s1")] {
            let agent = cluster.agent(name);
            cluster.wait_for(&format!("{name} to estimate {round_trip} ms"), || {
                let (estimate, text) = estimate(agent, other);
                let off = (estimate.ok_or(text.clone())? - round_trip).abs() / round_trip;
                if off < 0.2 { Ok(()) } else { Err(text) }
            });
        }
    });
}

/// Passes datagrams that come to `front` on to `back` after the delay, and streams without one, for as long as
/// the test program runs.
fn delay_path(front: SocketAddr, back: SocketAddr) {
    let socket = UdpSocket::bind(front).expect("the address is this test's own");
    let sender = socket.try_clone().expect("a socket can be cloned");
    let (due_in, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(bytes) = socket.recv(&mut buffer) {
            if due_in.send((Instant::now() + DELAY, buffer[..bytes].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (at, bytes) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            // An agent that has ended takes nothing.
            let _ = sender.send_to(&bytes, back);
        }
    });
    let listener = TcpListener::bind(front).expect("the address is this test's own");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(onward) = TcpStream::connect(back) else { continue };
            pump(&stream, &onward);
            pump(&onward, &stream);
        }
    });
}

/// Copies one direction of a stream until its end.
fn pump(from: &TcpStream, to: &TcpStream) {
    let clones = from.try_clone().and_then(|from| Ok((from, to.try_clone()?)));
    let (mut from, mut to) = clones.expect("a stream can be cloned");
    thread::spawn(move || {
        // A broken stream ends like one that is through.
        let _ = copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

/// What an agent's command line says of the way to another, in milliseconds.
fn estimate(agent: &Agent, other: &str) -> (Option<f64>, String) {
    let text = String::from_utf8_lossy(&agent.serf(&["rtt", other]).stdout).into_owned();
    let number = text.trim_end().strip_suffix(" ms").and_then(|text| text.rsplit(' ').next()?.parse().ok());
    (number, text)
}

fn wait_close(cluster: &Cluster, agent: &Agent, other: &str) {
    cluster.wait_for(&format!("{} to know the way to {other}", agent.name), || {
        let (estimate, text) = estimate(agent, other);
        match estimate {
            Some(ms) if ms > 0.0 && ms < CLOSE_MS => Ok(()),
            _ => Err(text),
        }
    });
}
