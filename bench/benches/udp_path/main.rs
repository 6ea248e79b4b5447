//! What the UDP data plane costs beside bare loops of system calls: nanoseconds of processor time for each datagram
//! that is sent, received and handled, or echoed (a ping comes in, the ack goes out), plain and sealed.
//!
//! One thread does everything on two sockets of loopback; the far end's work is not counted. Bare loops only move
//! bytes, and seal and open them where that is measured; Thane's go through the data plane, the runtime that waits for
//! it and a node. All of a table are visited in turn, again and again, so that a busy machine slows all of them.

mod bare;
mod bare_ring;
mod ours;

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use thane_engine::fixtures::{envelope, packet_of_bytes};
use thane_engine::io::Driver;
use thane_engine::wire::keyring::Keyring;

use crate::bare::{BATCH, Bare, OneByOne, Together, thread_time};
use crate::bare_ring::{BareRing, Uses};
use crate::ours::Ours;

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    /// Visits of each contestant; the median counts.
    visits: usize,
    /// Batches of a visit.
    rounds: usize,
}

impl Effort {
    /// With `--test` everything runs once, to see that it runs; the figures mean nothing then.
    fn of_arguments() -> Effort {
        let tests = std::env::args().any(|argument| argument == "--test");
        if tests { Effort { visits: 1, rounds: 1 } } else { Effort { visits: 15, rounds: 40 } }
    }
}

/// What one contestant costs, ns for each datagram.
#[derive(Clone, Copy, Default)]
pub(crate) struct Costs {
    pub(crate) send: f64,
    pub(crate) receive: f64,
    pub(crate) echo: f64,
}

/// What all contestants work on.
pub(crate) struct Load {
    /// What they send and receive.
    pub(crate) packet: Vec<u8>,
    /// What is answered.
    pub(crate) ping: Vec<u8>,
    pub(crate) ack_bytes: usize,
    pub(crate) key: Option<Vec<u8>>,
    /// Datagrams under way at one time.
    pub(crate) batch: usize,
}

/// The far end: its work is not counted.
pub(crate) struct Far {
    socket: Together,
    pub(crate) address: SocketAddrV4,
    to: SocketAddrV4,
}

impl Far {
    /// A far end, and a near one for a contestant.
    pub(crate) fn pair() -> (Far, UdpSocket) {
        let bind = || UdpSocket::bind("127.45.0.1:0").expect("a loopback port");
        let v4 = |socket: &UdpSocket| match socket.local_addr() {
            Ok(SocketAddr::V4(address)) => address,
            other => panic!("{other:?}"),
        };
        let (far, near) = (bind(), bind());
        let (address, to) = (v4(&far), v4(&near));
        (Far { socket: Together::new(far, BATCH), address, to }, near)
    }

    pub(crate) fn send(&mut self, packets: &[Vec<u8>]) {
        self.socket.send(packets, self.to);
    }

    pub(crate) fn receive(&mut self, count: usize) {
        self.socket.receive(count, &mut |bytes| _ = std::hint::black_box(bytes));
    }
}

/// Adds up processor time over several rounds.
#[derive(Default)]
pub(crate) struct Meter(Duration);

impl Meter {
    pub(crate) fn start() -> Duration {
        thread_time()
    }

    pub(crate) fn stop(&mut self, start: Duration) {
        self.0 += thread_time() - start;
    }

    pub(crate) fn each(&self, count: usize) -> f64 {
        self.0.as_nanos() as f64 / count as f64
    }
}

/// One way to send, receive and echo.
pub(crate) trait Contestant {
    /// So many rounds of a load.
    fn visit(&mut self, load: &Load, rounds: usize) -> Costs;
}

/// A bare loop, which also seals and opens if the load is sealed.
struct Loop {
    bare: Box<dyn Bare>,
    far: Far,
}

impl Contestant for Loop {
    fn visit(&mut self, load: &Load, rounds: usize) -> Costs {
        let Loop { bare, far } = self;
        let keyring = Keyring::new(load.key.as_slice()).expect("the key has 16 bytes");
        let plain_bytes = |sealed: usize| sealed - if load.key.is_some() { 29 } else { 0 };
        let mut packets = vec![load.packet.clone(); load.batch];
        let mut replies = vec![vec![0; load.ack_bytes]; load.batch];
        let (incoming, pings) = (vec![load.packet.clone(); load.batch], vec![load.ping.clone(); load.batch]);
        let seal = |packets: &mut [Vec<u8>]| {
            for packet in packets.iter_mut().filter(|_| load.key.is_some()) {
                packet.truncate(plain_bytes(packet.len()));
                keyring.seal(1, [5; 12], b"", packet, 0);
            }
        };
        let mut open = |bytes: &mut [u8]| {
            if load.key.is_some() {
                keyring.open(b"", bytes).expect("it was sealed with this key");
            }
            std::hint::black_box(bytes);
        };
        let (mut send, mut receive, mut echo) = (Meter::default(), Meter::default(), Meter::default());
        for _ in 0..rounds {
            let start = Meter::start();
            seal(&mut packets);
            bare.send(&packets, far.address);
            send.stop(start);
            far.receive(load.batch);

            far.send(&incoming);
            let start = Meter::start();
            bare.receive(load.batch, &mut open);
            receive.stop(start);

            far.send(&pings);
            let start = Meter::start();
            bare.receive(load.batch, &mut open);
            seal(&mut replies);
            bare.send(&replies, far.address);
            echo.stop(start);
            far.receive(load.batch);
        }
        let count = rounds * load.batch;
        Costs { send: send.each(count), receive: receive.each(count), echo: echo.each(count) }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn bare_loop(make: impl FnOnce(UdpSocket) -> Box<dyn Bare>) -> Box<dyn Contestant> {
    let (far, near) = Far::pair();
    Box::new(Loop { bare: make(near), far })
}

fn ring(uses: Uses) -> Option<Box<dyn Contestant>> {
    let (far, near) = Far::pair();
    let bare = Box::new(BareRing::new(near, uses).ok()?);
    Some(Box::new(Loop { bare, far }))
}

/// The medians of all contestants under a load.
fn contest(effort: Effort, contestants: &mut [(String, Box<dyn Contestant>)], load: &Load) -> Vec<Costs> {
    let mut visits = vec![Vec::new(); contestants.len()];
    for visit in 0..=effort.visits {
        for ((_, contestant), visits) in contestants.iter_mut().zip(&mut visits) {
            let costs = contestant.visit(load, effort.rounds * BATCH / load.batch);
            // The first visit warms up.
            visits.extend((visit > 0).then_some(costs));
        }
    }
    let column = |visits: &[Costs], of: fn(&Costs) -> f64| median(visits.iter().map(of).collect());
    let costs = visits.iter().map(|visits| Costs {
        send: column(visits, |costs| costs.send),
        receive: column(visits, |costs| costs.receive),
        echo: column(visits, |costs| costs.echo),
    });
    costs.collect()
}

fn load(bytes: usize, key: Option<Vec<u8>>, batch: usize) -> Load {
    let envelope = envelope(key.as_deref());
    let packet = packet_of_bytes(&envelope, bytes, false);
    let ping = packet_of_bytes(&envelope, bytes, true);
    let ack_bytes = ours::ack_bytes(&ping, key.as_deref());
    Load { packet, ping, ack_bytes, key, batch }
}

/// All loads: the bare loops, then Thane beside the cheapest of them.
fn beside_bare(effort: Effort) {
    println!("ns of processor time for each datagram, medians of {} visits\n", effort.visits);
    for (bytes, sealed) in [(100, false), (100, true), (1_400, false), (1_400, true)] {
        for batch in [BATCH, 1] {
            let key = sealed.then(|| vec![1; 16]);
            let load = load(bytes, key.clone(), batch);
            let mut contestants = vec![
                (
                    "sendto, recvfrom".to_owned(),
                    bare_loop(|near| Box::new(OneByOne { socket: near, polls: false })),
                ),
                ("sendmmsg, recvmmsg".to_owned(), bare_loop(|near| Box::new(Together::new(near, BATCH)))),
            ];
            if batch == 1 {
                // One at a time has to be waited for, and what waits does not know that it has arrived.
                let polls = bare_loop(|near| Box::new(OneByOne { socket: near, polls: true }));
                contestants = vec![("poll, sendto, recvfrom".to_owned(), polls)];
            }
            let all = Uses { registered_descriptor: true, provided_buffers: true };
            contestants.extend(ring(all).map(|ring| ("ring".to_owned(), ring)));
            let bare = contestants.len();
            for driver in [Driver::Portable, Driver::detect().0] {
                if contestants.len() == bare || driver != Driver::Portable {
                    let ours = Box::new(Ours::new(driver, key.as_deref()));
                    contestants.push((format!("Thane, {driver}"), ours));
                }
            }
            let costs = contest(effort, &mut contestants, &load);
            let sealing = if sealed { "sealed" } else { "plain" };
            println!(
                "{bytes} B {sealing}, {batch} at a time (ping {} B, ack {} B)",
                load.ping.len(),
                load.ack_bytes
            );
            println!("| | send | receive | echo |\n| --- | --- | --- | --- |");
            for ((name, _), costs) in contestants.iter().zip(&costs) {
                println!("| {name} | {:.0} | {:.0} | {:.0} |", costs.send, costs.receive, costs.echo);
            }
            let cheapest = |of: fn(&Costs) -> f64| costs[..bare].iter().map(of).fold(f64::MAX, f64::min);
            for ((name, _), costs) in contestants.iter().zip(&costs).skip(bare) {
                println!(
                    "{name}: send {:.2} times the cheapest, receive and handle {:+.0} ns over it, echo {:.2} times",
                    costs.send / cheapest(|costs| costs.send),
                    costs.receive - cheapest(|costs| costs.receive),
                    costs.echo / cheapest(|costs| costs.echo),
                );
            }
            println!();
        }
    }
}

/// What each way of calling the kernel brings, by itself.
fn steps(effort: Effort) {
    let load = load(100, None, BATCH);
    let batches = [1, 8, 64].map(|batch| {
        let together = bare_loop(|near| Box::new(Together::new(near, batch)));
        (format!("sendmmsg, recvmmsg of {batch}"), together)
    });
    let mut contestants = vec![(
        "sendto, recvfrom".to_owned(),
        bare_loop(|near| Box::new(OneByOne { socket: near, polls: false })),
    )];
    contestants.extend(batches);
    for (registered_descriptor, provided_buffers) in [(false, false), (false, true), (true, true)] {
        let receive = if provided_buffers { "multishot into provided buffers" } else { "one request each" };
        let descriptor = if registered_descriptor { ", registered descriptor" } else { "" };
        let ring = ring(Uses { registered_descriptor, provided_buffers });
        contestants.extend(ring.map(|ring| (format!("ring, {receive}{descriptor}"), ring)));
    }
    let costs = contest(effort, &mut contestants, &load);
    println!("What each step brings, bare, 100 B plain, {BATCH} at a time");
    println!("| | send | receive | echo |\n| --- | --- | --- | --- |");
    for ((name, _), costs) in contestants.iter().zip(&costs) {
        println!("| {name} | {:.0} | {:.0} | {:.0} |", costs.send, costs.receive, costs.echo);
    }
}

fn main() {
    println!("{}", Driver::detect().1);
    let effort = Effort::of_arguments();
    beside_bare(effort);
    steps(effort);
}
