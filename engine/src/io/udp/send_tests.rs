//! Datagrams that travel as segments of one message, on both drivers.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::{Departure, Driver, SocketIndex, Udp, UdpCounters, UdpOptions};

/// Bytes that contain their place in the batch.
fn filled(place: usize, length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + place) as u8).collect()
}

/// On each driver that works here, sends from `bind` what `batch` makes of the socket, and lets `check` look at
/// the counters and at what came.
fn send(
    bind: &str,
    prepare: fn(&UdpSocket),
    batch: impl Fn(SocketIndex) -> Vec<Departure<'static>>,
    check: impl Fn(UdpCounters),
) {
    let (detected, why) = Driver::detect();
    let drivers = [Driver::Portable, Driver::IoUring];
    let works = |driver: &Driver| *driver == Driver::Portable || *driver == detected;
    println!("{why}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for driver in drivers.into_iter().filter(works) {
            let shared = bind.starts_with("0.0.0.0");
            let options = UdpOptions { shared_sockets: shared, ..UdpOptions::default() };
            let mut udp = Udp::new(driver, &options).unwrap();
            let socket = UdpSocket::bind(bind).unwrap();
            prepare(&socket);
            let index = if shared { udp.add_shared(socket) } else { udp.add(socket) }.unwrap();
            udp.send_departures(batch(index).into_iter());
            check(udp.counters());
            udp.close().await;
        }
    });
}

fn receiver(ip: [u8; 4]) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(SocketAddr::from((ip, 0))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Takes one datagram of each length in turn and checks whose it is.
fn expect(socket: &UdpSocket, lengths: &[usize]) {
    let mut buffer = vec![0; 70_000];
    for (place, length) in lengths.iter().enumerate() {
        let got = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..got], filled(place, *length), "datagram {place} of {lengths:?}");
    }
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut buffer).is_err(), "nothing more comes");
    socket.set_nonblocking(false).unwrap();
}

fn no_preparation(_: &UdpSocket) {}

fn leak(place: usize, length: usize) -> &'static [u8] {
    filled(place, length).leak()
}

/// Runs of equal lengths, shorter ends, lengths that can't be segments, and more than one message holds.
#[test]
fn whatever_the_lengths_every_datagram_arrives_whole_and_in_order() {
    let cases: [(&[usize], u64); 6] = [
        (&[120; 100], 100),
        (&[1400; 60], 60),
        (&[300, 300, 20, 300, 300, 300], 6),
        (&[20, 300, 20, 300], 2),
        (&[100, 0, 100, 100, 0, 0, 100], 2),
        (&[2000, 2000, 1401, 9000, 9000], 0),
    ];
    for (lengths, segments) in cases {
        let (socket, to) = receiver([127, 46, 2, 1]);
        let batch = |socket| {
            let departure =
                |(place, &length)| Departure { socket, from: None, to, bytes: leak(place, length) };
            lengths.iter().enumerate().map(departure).collect()
        };
        send("127.46.2.2:0", no_preparation, batch, |counters| {
            expect(&socket, lengths);
            assert_eq!(counters.sent, lengths.len() as u64);
            assert_eq!(counters.sent_as_segments, segments, "{lengths:?}");
            assert_eq!((counters.send_errors, counters.segments_refused), (0, 0));
        });
    }
}

#[test]
fn only_neighbours_with_the_same_source_and_destination_share_a_message() {
    let (one, to_one) = receiver([127, 46, 2, 3]);
    let (two, to_two) = receiver([127, 46, 2, 4]);
    let sources = [Ipv4Addr::new(127, 46, 2, 5), Ipv4Addr::new(127, 46, 2, 6)];
    // To one: places 0, 1, 2, 3 from sources 0, 0, 1, 1; to two: one datagram between them.
    let batch = |socket| {
        let departure = |from: usize, to, place| Departure {
            socket,
            from: Some(sources[from]),
            to,
            bytes: leak(place, 200),
        };
        vec![
            departure(0, to_one, 0),
            departure(0, to_one, 1),
            departure(1, to_one, 2),
            departure(1, to_two, 0),
            departure(1, to_one, 3),
        ]
    };
    send("0.0.0.0:0", no_preparation, batch, |counters| {
        let mut buffer = [0; 2048];
        for (place, source) in [0, 0, 1, 1].into_iter().enumerate() {
            let (length, from) = one.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], filled(place, 200));
            assert_eq!(from.ip(), sources[source]);
        }
        expect(&two, &[200]);
        assert_eq!((counters.sent, counters.sent_as_segments), (5, 2));
    });
}

/// A socket without checksums: the kernel takes its datagrams, but no segments.
#[test]
fn refused_segments_arrive_one_by_one_and_are_not_tried_again() {
    fn no_checksums(socket: &UdpSocket) {
        let on: libc::c_int = 1;
        let length = size_of_val(&on) as libc::socklen_t;
        // SAFETY: the kernel reads `length` bytes of the value.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NO_CHECK,
                (&raw const on).cast(),
                length,
            )
        };
        assert_eq!(set, 0);
    }
    let (socket, to) = receiver([127, 46, 2, 7]);
    let lengths = [150; 130];
    let batch = |socket| {
        let departure = |(place, &length)| Departure { socket, from: None, to, bytes: leak(place, length) };
        lengths.iter().enumerate().map(departure).collect()
    };
    send("127.46.2.8:0", no_checksums, batch, |counters| {
        expect(&socket, &lengths);
        assert_eq!((counters.sent, counters.sent_as_segments, counters.send_errors), (130, 0, 0));
        assert_eq!(counters.segments_refused, 1);
    });
}

/// Port 0 can't be sent to: such datagrams are refused, with segments and without.
#[test]
fn an_address_that_nobody_can_have_does_not_end_segments_for_others() {
    let (socket, to) = receiver([127, 46, 2, 9]);
    let nobody = SocketAddr::from(([127, 46, 2, 9], 0));
    let batch = |socket| {
        let departure = |to, place| Departure { socket, from: None, to, bytes: leak(place, 90) };
        vec![departure(nobody, 0), departure(nobody, 1), departure(to, 0), departure(to, 1)]
    };
    send("127.46.2.10:0", no_preparation, batch, |counters| {
        expect(&socket, &[90, 90]);
        assert_eq!((counters.sent, counters.sent_as_segments, counters.send_errors), (2, 2, 2));
        assert_eq!(counters.segments_refused, 0);
    });
}
