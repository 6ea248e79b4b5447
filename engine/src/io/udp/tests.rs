//! Tests of what every driver must do, run on each of them.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

#[cfg(target_os = "linux")]
use super::uring::Mode;
use super::{Driver, SocketIndex, Udp, UdpOptions};

/// A test that waits this long for something has failed.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// The ring in the mode of Linux 6.1 and newer.
    #[cfg(target_os = "linux")]
    Deferred,
    /// The ring in the mode of Linux 6.0.
    #[cfg(target_os = "linux")]
    Cooperative,
    /// Driver::Portable on this system.
    Portable,
    /// Driver::Portable on other systems.
    OtherSystems,
}

impl Kind {
    fn udp(self) -> Udp {
        self.udp_with(UdpOptions::default())
    }

    fn udp_with(self, options: UdpOptions) -> Udp {
        match self {
            #[cfg(target_os = "linux")]
            Kind::Deferred => Udp::with_ring(Mode::Deferred, &options),
            #[cfg(target_os = "linux")]
            Kind::Cooperative => Udp::with_ring(Mode::Cooperative, &options),
            Kind::Portable => Udp::new(Driver::Portable, &options).unwrap(),
            Kind::OtherSystems => Udp::of_other_systems(&options),
        }
    }

    /// Runs a test on the driver's runtime. Where the system refuses rings, the tests of rings print that and
    /// return.
    fn run<F: Future<Output = ()> + 'static>(self, test: fn(Kind) -> F) {
        #[cfg(target_os = "linux")]
        if matches!(self, Kind::Deferred | Kind::Cooperative) {
            return match Driver::detect() {
                #[cfg(not(target_env = "musl"))]
                (Driver::IoUring, _) => tokio_uring::start(test(self)),
                #[cfg(target_env = "musl")]
                (Driver::IoUring, _) => on_tokio(test(self)),
                (Driver::Portable, why) => eprintln!("not run, there is no io_uring here: {why}"),
            };
        }
        on_tokio(test(self));
    }
}

fn on_tokio(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

macro_rules! on_every_driver {
    ($($test:ident)*) => {
        #[cfg(target_os = "linux")]
        mod ring_deferred { $(#[test] fn $test() { super::Kind::Deferred.run(super::$test) })* }
        #[cfg(target_os = "linux")]
        mod ring_cooperative { $(#[test] fn $test() { super::Kind::Cooperative.run(super::$test) })* }
        mod portable { $(#[test] fn $test() { super::Kind::Portable.run(super::$test) })* }
        mod other_systems { $(#[test] fn $test() { super::Kind::OtherSystems.run(super::$test) })* }
    };
}

on_every_driver! {
    ten_thousand_datagrams_arrive_over_ipv4
    ten_thousand_datagrams_arrive_over_ipv6
    an_ipv6_socket_talks_to_an_ipv4_one
    every_length_arrives_whole
    a_datagram_too_long_is_a_counted_drop
    a_lone_datagram_always_wakes
    five_hundred_sockets_hear_their_own
    more_sockets_than_expected_hear_their_own
    hundreds_of_sockets_go_at_once
    a_removed_socket_is_silent_while_others_are_not
    more_waits_than_there_are_buffers
    what_the_kernel_drops_is_counted
    ports_are_free_after_close
    a_port_is_free_after_remove
    an_unreachable_port_breaks_nothing
    a_bad_datagram_does_not_stop_its_batch
    a_budget_is_kept_and_sockets_take_turns
    an_idle_runtime_is_woken
    a_dropped_wait_loses_nothing
}

fn bind(address: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn add(udp: &mut Udp, address: &str) -> (SocketIndex, SocketAddr) {
    let (socket, address) = bind(address);
    (udp.add(socket).unwrap(), address)
}

fn send_one(udp: &mut Udp, from: SocketIndex, to: SocketAddr, bytes: &[u8]) -> usize {
    udp.send(std::iter::once((from, to, bytes)))
}

/// Datagrams in the order of their arrival.
type Heard = Vec<(SocketIndex, SocketAddr, Vec<u8>)>;

/// Receives until `count` datagrams have arrived.
async fn hear(udp: &mut Udp, count: usize) -> Heard {
    let mut heard = Heard::new();
    while heard.len() < count {
        let wait = tokio::time::timeout(PATIENCE, udp.readable());
        wait.await.unwrap_or_else(|_| panic!("{} of {count} came, {:?}", heard.len(), udp.counters()));
        udp.receive(usize::MAX, |socket, from, bytes| heard.push((socket, from, bytes.to_vec())));
    }
    heard
}

/// Pings from `a` to `b`, each answered, 32 under way at a time: each must return once.
async fn ten_thousand(kind: Kind, a: &str, b: &str) {
    const COUNT: usize = 10_000;
    let mut udp = kind.udp();
    let (a, a_address) = add(&mut udp, a);
    let (b, b_address) = add(&mut udp, b);
    let mut answered = vec![0u8; COUNT];
    let mut next = 0;
    let mut under_way = 0;
    while answered.contains(&0) {
        let pings: Vec<_> = (next..COUNT.min(next + 32 - under_way)).map(|n| n.to_le_bytes()).collect();
        assert_eq!(udp.send(pings.iter().map(|ping| (a, b_address, ping.as_slice()))), pings.len());
        next += pings.len();
        under_way += pings.len();
        let mut pongs = Vec::new();
        tokio::time::timeout(PATIENCE, udp.readable()).await.expect("datagrams are under way");
        udp.receive(usize::MAX, |socket, from, bytes| {
            let bytes: [u8; 8] = (*bytes).try_into().unwrap();
            if socket == b {
                assert_eq!(from, a_address);
                pongs.push(bytes);
            } else {
                assert_eq!((socket, from), (a, b_address));
                answered[usize::from_le_bytes(bytes)] += 1;
                under_way -= 1;
            }
        });
        assert_eq!(udp.send(pongs.iter().map(|pong| (b, a_address, pong.as_slice()))), pongs.len());
    }
    assert!(answered.iter().all(|count| *count == 1));
    let counters = udp.counters();
    assert_eq!((counters.sent, counters.received), (20_000, 20_000));
    assert_eq!((counters.kernel_drops, counters.truncated, counters.send_errors), (0, 0, 0));
}

async fn ten_thousand_datagrams_arrive_over_ipv4(kind: Kind) {
    ten_thousand(kind, "127.12.2.1:0", "127.12.2.2:0").await;
}

async fn ten_thousand_datagrams_arrive_over_ipv6(kind: Kind) {
    ten_thousand(kind, "[::1]:0", "[::1]:0").await;
}

async fn an_ipv6_socket_talks_to_an_ipv4_one(kind: Kind) {
    let mut udp = kind.udp();
    let (six, six_address) = add(&mut udp, "[::ffff:127.12.2.3]:0");
    let (four, four_address) = add(&mut udp, "127.12.2.4:0");
    let six_address = SocketAddr::new(six_address.ip().to_canonical(), six_address.port());
    assert_eq!(send_one(&mut udp, six, four_address, b"from six"), 1);
    assert_eq!(send_one(&mut udp, four, six_address, b"from four"), 1);
    let mut heard = hear(&mut udp, 2).await;
    heard.sort();
    let mut expected =
        [(six, four_address, b"from four".to_vec()), (four, six_address, b"from six".to_vec())];
    expected.sort();
    assert_eq!(heard, expected);
}

async fn every_length_arrives_whole(kind: Kind) {
    let mut udp = kind.udp();
    for ip in ["127.12.2.5:0", "[::1]:0"] {
        let (a, a_address) = add(&mut udp, ip);
        let (b, b_address) = add(&mut udp, ip);
        for length in [0, 1, 1400, 60_000, 65_507] {
            let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            assert_eq!(send_one(&mut udp, a, b_address, &bytes), 1);
            let heard = hear(&mut udp, 1).await;
            assert!(heard == [(b, a_address, bytes)], "{length} bytes over {ip}");
        }
    }
    assert_eq!(udp.counters().truncated, 0);
}

async fn a_datagram_too_long_is_a_counted_drop(kind: Kind) {
    let mut udp = kind.udp_with(UdpOptions { datagram_bytes_max: 2000, ..UdpOptions::default() });
    let (a, a_address) = add(&mut udp, "127.12.2.6:0");
    let (b, b_address) = add(&mut udp, "127.12.2.6:0");
    for length in [2001, 2000, 9000, 60_000, 1] {
        assert_eq!(send_one(&mut udp, a, b_address, &vec![5; length]), 1);
    }
    let heard = hear(&mut udp, 2).await;
    assert!(heard == [(b, a_address, vec![5; 2000]), (b, a_address, vec![5; 1])]);
    assert_eq!(udp.counters().truncated, 3);
    assert_eq!(udp.counters().received, 2);
}

/// One datagram at a time goes to another thread and comes back, so that each wait can be the one that misses a
/// wake-up.
async fn a_lone_datagram_always_wakes(kind: Kind) {
    const COUNT: u32 = 10_000;
    let mut udp = kind.udp();
    let (ours, _) = add(&mut udp, "127.12.2.17:0");
    let (theirs, their_address) = bind("127.12.2.17:0");
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let echo = std::thread::spawn(move || {
        for _ in 0..COUNT {
            let mut bytes = [0; 8];
            let (length, from) = theirs.recv_from(&mut bytes).unwrap();
            theirs.send_to(&bytes[..length], from).unwrap();
        }
    });
    for n in 0..COUNT {
        assert_eq!(send_one(&mut udp, ours, their_address, &n.to_be_bytes()), 1);
        assert_eq!(hear(&mut udp, 1).await, [(ours, their_address, n.to_be_bytes().to_vec())]);
    }
    echo.join().unwrap();
}

/// Sockets in a permutation, each sending to the next; all are heard, four times over.
async fn many_sockets(mut udp: Udp) {
    const COUNT: usize = 500;
    let sockets: Vec<_> =
        (0..COUNT).map(|n| add(&mut udp, &format!("127.12.{}.{}:0", 10 + n / 100, 1 + n % 100))).collect();
    for round in 0..4u16 {
        let texts: Vec<_> =
            (0..COUNT as u16).map(|n| [n.to_be_bytes(), round.to_be_bytes()].concat()).collect();
        let batch = texts.iter().enumerate().map(|(n, text)| {
            let to = sockets[(n * 7 + 1) % COUNT].1;
            (sockets[n].0, to, text.as_slice())
        });
        assert_eq!(udp.send(batch), COUNT);
        let heard = hear(&mut udp, COUNT).await;
        let heard: HashMap<_, _> =
            heard.into_iter().map(|(socket, from, text)| (text, (socket, from))).collect();
        for (n, text) in texts.iter().enumerate() {
            let expected = (sockets[(n * 7 + 1) % COUNT].0, sockets[n].1);
            assert_eq!(heard[text], expected, "{n} in round {round}");
        }
    }
    assert_eq!(udp.counters().received, 4 * COUNT as u64);
}

async fn five_hundred_sockets_hear_their_own(kind: Kind) {
    many_sockets(kind.udp_with(UdpOptions { sockets_expected: 500, ..UdpOptions::default() })).await;
}

/// The ring's queues are too small for all sockets at once: completions overflow, receives end.
async fn more_sockets_than_expected_hear_their_own(kind: Kind) {
    let options = UdpOptions { receive_buffers: 2, ..UdpOptions::default() };
    many_sockets(kind.udp_with(options)).await;
}

async fn hundreds_of_sockets_go_at_once(kind: Kind) {
    let mut udp = kind.udp();
    let (stays, address) = add(&mut udp, "127.12.2.18:0");
    for _ in 0..3 {
        let sockets: Vec<_> = (0..400).map(|_| add(&mut udp, "127.12.2.18:0")).collect();
        let batch = sockets.iter().map(|(_, to)| (stays, *to, &b"a wave"[..]));
        assert_eq!(udp.send(batch), 400);
        hear(&mut udp, 400).await;
        for (index, _) in &sockets {
            udp.remove(*index);
        }
        for (_, address) in &sockets {
            drop(UdpSocket::bind(address).unwrap());
        }
        assert_eq!(send_one(&mut udp, stays, address, b"still here"), 1);
        assert_eq!(hear(&mut udp, 1).await, [(stays, address, b"still here".to_vec())]);
    }
    let (index, _) = add(&mut udp, "127.12.2.18:0");
    assert!(index.0 <= 401, "indexes are used again: {index:?}");
}

async fn a_removed_socket_is_silent_while_others_are_not(kind: Kind) {
    let mut udp = kind.udp();
    let (from, from_address) = add(&mut udp, "127.12.2.7:0");
    let (stays, stays_address) = add(&mut udp, "127.12.2.7:0");
    let mut gone = Vec::new();
    for round in 0..50u8 {
        let text = [round; 9];
        let (goes, goes_address) = add(&mut udp, "127.12.2.7:0");
        let batch = (0..40).map(|n| (from, if n % 2 == 0 { goes_address } else { stays_address }, &text[..]));
        assert_eq!(udp.send(batch), 40);
        let mut stayed = 0;
        if round % 2 == 0 {
            // Some were received before it goes, some wait.
            udp.receive(10, |socket, _, _| stayed += usize::from(socket == stays));
        }
        udp.remove(goes);
        udp.remove(goes);
        gone.push(goes_address);
        assert_eq!(send_one(&mut udp, goes, stays_address, b"x"), 0, "a removed socket can't send");
        while stayed < 20 {
            for (socket, sender, bytes) in hear(&mut udp, 1).await {
                assert_eq!((socket, sender, bytes.as_slice()), (stays, from_address, &text[..]));
                stayed += 1;
            }
        }
        assert_eq!(stayed, 20);
    }
    // The index can be used again and names the new socket only.
    let (new, new_address) = add(&mut udp, "127.12.2.7:0");
    let batch = gone.iter().chain([&new_address]).map(|to| (from, *to, &b"new"[..]));
    assert_eq!(udp.send(batch), 51);
    assert_eq!(hear(&mut udp, 1).await, [(new, from_address, b"new".to_vec())]);
    assert_eq!(udp.receive(usize::MAX, |_, _, _| ()), 0);
}

async fn more_waits_than_there_are_buffers(kind: Kind) {
    let mut udp = kind.udp_with(UdpOptions { receive_buffers: 4, ..UdpOptions::default() });
    let (a, _) = add(&mut udp, "127.12.2.8:0");
    let others: Vec<_> = (0..3).map(|_| add(&mut udp, "127.12.2.8:0")).collect();
    for round in 0..3u8 {
        let bytes = [round; 1400];
        for (_, to) in &others {
            assert_eq!(
                udp.send((0..200).map(|n| (a, *to, if n % 2 == 0 { &bytes[..100] } else { &bytes[..] }))),
                200
            );
        }
        let heard = hear(&mut udp, 600).await;
        for (socket, _) in &others {
            let own = heard.iter().filter(|(to, _, bytes)| to == socket && bytes[0] == round);
            assert_eq!(own.count(), 200);
        }
    }
    let counters = udp.counters();
    assert_eq!(counters.received, 1800);
    #[cfg(target_os = "linux")]
    if matches!(kind, Kind::Deferred | Kind::Cooperative) {
        assert!(counters.no_buffers > 0, "the test means to exhaust them");
        assert!(counters.rearmed >= counters.no_buffers);
    }
    assert_eq!(counters.receive_errors, 0);
}

async fn what_the_kernel_drops_is_counted(kind: Kind) {
    let mut udp = kind.udp();
    let (a, _) = add(&mut udp, "127.12.2.9:0");
    let (b, b_address) = add(&mut udp, "127.12.2.9:0");
    let bytes = vec![1; 60_000];
    let sent = (0..200).map(|_| send_one(&mut udp, a, b_address, &bytes) as u64).sum::<u64>();
    let mut heard = 0;
    udp.receive(usize::MAX, |socket, _, bytes| {
        assert_eq!((socket, bytes.len()), (b, 60_000));
        heard += 1;
    });
    if cfg!(target_os = "linux") && kind != Kind::OtherSystems {
        let drops = udp.counters().kernel_drops;
        assert!(drops > 0);
        assert_eq!(heard + drops, sent);
        udp.remove(b);
        assert_eq!(udp.counters().kernel_drops, drops, "drops of a removed socket are remembered");
    }
}

async fn ports_are_free_after_close(kind: Kind) {
    let mut addresses: Vec<SocketAddr> = vec!["127.12.2.10:0".parse().unwrap(); 20];
    for round in 0..10 {
        let mut udp = kind.udp();
        for address in &mut addresses {
            let socket = UdpSocket::bind(*address).unwrap_or_else(|error| panic!("round {round}: {error}"));
            *address = socket.local_addr().unwrap();
            let index = udp.add(socket).unwrap();
            assert_eq!(send_one(&mut udp, index, *address, b"to itself"), 1);
        }
        hear(&mut udp, addresses.len()).await;
        udp.close().await;
    }
}

async fn a_port_is_free_after_remove(kind: Kind) {
    let mut udp = kind.udp();
    let (mut index, address) = add(&mut udp, "127.12.2.11:0");
    for _ in 0..20 {
        assert_eq!(send_one(&mut udp, index, address, b"to itself"), 1);
        hear(&mut udp, 1).await;
        udp.remove(index);
        index = udp.add(UdpSocket::bind(address).unwrap()).unwrap();
    }
}

async fn an_unreachable_port_breaks_nothing(kind: Kind) {
    let mut udp = kind.udp();
    let (a, a_address) = add(&mut udp, "127.12.2.12:0");
    let (b, b_address) = add(&mut udp, "127.12.2.12:0");
    let (closed, closed_address) = bind("127.12.2.12:0");
    drop(closed);
    for _ in 0..10 {
        send_one(&mut udp, a, closed_address, b"nobody");
        assert_eq!(send_one(&mut udp, a, b_address, b"somebody"), 1);
        assert_eq!(hear(&mut udp, 1).await, [(b, a_address, b"somebody".to_vec())]);
    }
}

async fn a_bad_datagram_does_not_stop_its_batch(kind: Kind) {
    let mut udp = kind.udp();
    let (a, a_address) = add(&mut udp, "127.12.2.13:0");
    let (b, b_address) = add(&mut udp, "127.12.2.13:0");
    let too_long = vec![0; 65_508];
    let nowhere: SocketAddr = "[::1]:9".parse().unwrap(); // an IPv4 socket can't reach it
    let mut batch = Vec::new();
    for n in 0..150u8 {
        batch.push((a, b_address, vec![n]));
        match n % 50 {
            10 => batch.push((a, b_address, too_long.clone())),
            20 => batch.push((a, nowhere, vec![n])),
            30 => batch.push((SocketIndex(77), b_address, vec![n])),
            40 => batch.push((b, a_address, vec![n])),
            _ => {}
        }
    }
    batch.push((a, b_address, too_long));
    assert_eq!(udp.send(batch.iter().map(|(from, to, bytes)| (*from, *to, bytes.as_slice()))), 153);
    let mut refused = udp.refused().to_vec();
    refused.sort_unstable();
    let bad = |(from, to, bytes): &(SocketIndex, SocketAddr, Vec<u8>)| {
        *from == SocketIndex(77) || *to == nowhere || bytes.len() > 1
    };
    let expected: Vec<usize> = (0..batch.len()).filter(|&place| bad(&batch[place])).collect();
    assert_eq!((refused.len(), &refused), (10, &expected));
    let heard = hear(&mut udp, 153).await;
    let to_b: Vec<u8> =
        heard.iter().filter(|(socket, ..)| *socket == b).map(|(_, _, bytes)| bytes[0]).collect();
    assert_eq!(to_b, (0..150).collect::<Vec<u8>>(), "in order, none lost");
    let counters = udp.counters();
    assert_eq!((counters.sent, counters.send_errors, counters.send_would_block), (153, 10, 0));
}

async fn a_budget_is_kept_and_sockets_take_turns(kind: Kind) {
    let mut udp = kind.udp();
    let (a, _) = add(&mut udp, "127.12.2.14:0");
    let (busy, busy_address) = add(&mut udp, "127.12.2.14:0");
    let (quiet, quiet_address) = add(&mut udp, "127.12.2.14:0");
    for to in [busy_address, quiet_address] {
        let count = if to == busy_address { 200 } else { 1 };
        assert_eq!(udp.send((0..count).map(|_| (a, to, &b"x"[..]))), count);
    }
    let mut order = Vec::new();
    while order.len() < 201 {
        tokio::time::timeout(PATIENCE, udp.readable()).await.expect("more waits");
        let received = udp.receive(8, |socket, _, _| order.push(socket));
        assert!(received <= 8);
    }
    assert_eq!(order.iter().filter(|socket| **socket == busy).count(), 200);
    assert!(order.contains(&quiet));
    assert_eq!(udp.receive(8, |_, _, _| ()), 0);
}

async fn an_idle_runtime_is_woken(kind: Kind) {
    let mut udp = kind.udp();
    let (receiver, to) = add(&mut udp, "127.12.2.15:0");
    let (sender, from) = bind("127.12.2.15:0");
    udp.receive(usize::MAX, |_, _, _| ());
    // The pause lets the runtime fall asleep with nothing else to wake it; the test is right without it.
    let sending = std::thread::spawn(move || {
        for n in 0..5u8 {
            std::thread::sleep(Duration::from_millis(30));
            sender.send_to(&[n], to).unwrap();
        }
    });
    let heard = hear(&mut udp, 5).await;
    let expected: Heard = (0..5u8).map(|n| (receiver, from, vec![n])).collect();
    assert_eq!(heard, expected);
    sending.join().unwrap();
}

async fn a_dropped_wait_loses_nothing(kind: Kind) {
    let mut udp = kind.udp();
    let (a, _) = add(&mut udp, "127.12.2.16:0");
    let (_, b_address) = add(&mut udp, "127.12.2.16:0");
    udp.receive(usize::MAX, |_, _, _| ());
    for _ in 0..200 {
        tokio::select! {
            biased;
            () = udp.readable() => {}
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(send_one(&mut udp, a, b_address, b"x"), 1);
        for _ in 0..3 {
            tokio::select! {
                () = udp.readable() => {} // and then looked away
                () = tokio::task::yield_now() => {}
            }
        }
        hear(&mut udp, 1).await;
    }
}
