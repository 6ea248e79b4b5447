//! The UDP data plane beside bare system calls: one thread sends a batch of datagrams to its own socket and
//! receives them again. One element is one datagram, sent and received. `bare` is sendto and recvfrom without
//! any waiting; the drivers wait through the runtime, as a shard does.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use thane_engine::io::{Driver, SocketIndex, Udp, UdpOptions};
use tokio::runtime::{Builder, Runtime};

/// One socket on a data plane, and the runtime that waits for it.
struct Plane {
    udp: Udp,
    runtime: Runtime,
    socket: SocketIndex,
    address: SocketAddr,
}

impl Plane {
    fn open(driver: Driver) -> Plane {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (socket, address) = bind();
        let (udp, socket) = runtime.block_on(async {
            let mut udp = Udp::new(driver, &UdpOptions::default()).expect("a driver that was detected");
            let socket = udp.add(socket).expect("a fresh socket");
            (udp, socket)
        });
        Plane { runtime, udp, socket, address }
    }

    fn run(&mut self, bytes: &[u8], batch: usize, rounds: u64) -> Duration {
        let Plane { runtime, udp, socket, address } = self;
        runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..rounds {
                let sent = udp.send((0..batch).map(|_| (*socket, *address, bytes)));
                let mut received = 0;
                while received < sent {
                    udp.readable().await;
                    received += udp.receive(256, |_, _, bytes| {
                        std::hint::black_box(bytes);
                    });
                }
            }
            start.elapsed()
        })
    }
}

fn bind() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback port");
    let address = socket.local_addr().expect("a bound socket has an address");
    (socket, address)
}

fn bare(bytes: &[u8], batch: usize, rounds: u64) -> Duration {
    let (socket, address) = bind();
    let mut buffer = vec![0; 65_536];
    let start = Instant::now();
    for _ in 0..rounds {
        for _ in 0..batch {
            socket.send_to(bytes, address).expect("loopback takes it");
        }
        for _ in 0..batch {
            socket.recv_from(&mut buffer).expect("it was sent");
        }
    }
    start.elapsed()
}

fn udp_path(criterion: &mut Criterion) {
    let (detected, why) = Driver::detect();
    println!("{why}");
    for length in [100, 1400] {
        let bytes = vec![7; length];
        let mut group = criterion.benchmark_group(format!("udp_path/{length} B"));
        for batch in [1, 8, 64] {
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(BenchmarkId::new("bare", batch), |bencher| {
                bencher.iter_custom(|rounds| bare(&bytes, batch, rounds));
            });
            for driver in [Driver::Portable, Driver::IoUring] {
                if driver == Driver::IoUring && detected != driver {
                    continue;
                }
                let mut plane = Plane::open(driver);
                group.bench_function(BenchmarkId::new(driver.to_string(), batch), |bencher| {
                    bencher.iter_custom(|rounds| plane.run(&bytes, batch, rounds));
                });
            }
        }
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    udp_path(&mut criterion);
    criterion.final_summary();
}
