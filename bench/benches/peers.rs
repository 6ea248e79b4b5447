//! The same work by Thane, by foca (SWIM as a state machine, Rust) and by memberlist in Rust: codec, queue, merge,
//! member table. Each group lists its differences. memberlist's table and merge are private parts of a
//! running instance with sockets, so it appears with its codec and its queue only.

mod common;

use std::hint::black_box;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroU32};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::common::{ProcessorTime, criterion};
use bytes::BufMut;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use foca::{Codec, Config, Foca, Header, Identity, Notification, PostcardCodec, Runtime, Timer};
use memberlist_core::Broadcast;
use memberlist_core::queue::TransmitLimitedQueue;
use memberlist_proto::{Data, DataRef, MessageRef, Meta};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use thane_engine::fixtures::{
    Joining, Lone, META, Member, envelope, gossip_packet, members, ping, ping_packet, push_pull,
};
use thane_engine::wire::Message;
use thane_engine::wire::packet::{self, Assembler, Scratch};

/// Bytes of a packet.
const PACKET: usize = 1_400;

/// A foca identity: all fields of an alive message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Id {
    name: String,
    addr: SocketAddr,
    meta: Vec<u8>,
}

impl Id {
    fn of(member: &Member) -> Id {
        Id { name: member.name.clone(), addr: member.socket(), meta: META.to_vec() }
    }
}

impl Identity for Id {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Id> {
        None
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn win_addr_conflict(&self, _: &Id) -> bool {
        false
    }
}

type FocaNode = Foca<Id, PostcardCodec, StdRng, foca::NoCustomBroadcast>;

/// Discards the outputs of a node, as Thane's are cleared.
struct Forgetting;

impl Runtime<Id> for Forgetting {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        black_box(notification);
    }

    fn send_to(&mut self, _: Id, data: &[u8]) {
        black_box(data);
    }

    fn submit_after(&mut self, event: Timer<Id>, _: Duration) {
        black_box(event);
    }
}

fn foca_node() -> FocaNode {
    let mut config = Config::new_lan(NonZeroU32::new(10_000).expect("not zero"));
    config.max_transmissions = NonZeroU8::MAX;
    Foca::new(Id::of(&Member::new(0)), config, StdRng::seed_from_u64(1), PostcardCodec)
}

fn foca_members(members: &[Member]) -> impl Iterator<Item = foca::Member<Id>> {
    members.iter().map(|member| foca::Member::alive(Id::of(member)))
}

fn foca_knowing(members: &[Member], gossips: bool) -> FocaNode {
    let mut node = foca_node();
    node.apply_many(foca_members(members), gossips, Forgetting).expect("they are good members");
    node
}

fn foca_packet(message: foca::Message<Id>, updates: &[Member]) -> Vec<u8> {
    let (src, dst) = (Id::of(&Member::new(2)), Id::of(&Member::new(0)));
    let mut out = Vec::new();
    let header = Header { src, src_incarnation: 0, dst, message };
    PostcardCodec.encode_header(&header, &mut out).expect("a Vec has room");
    if !updates.is_empty() {
        out.put_u16(updates.len() as u16);
        for update in foca_members(updates) {
            PostcardCodec.encode_member(&update, &mut out).expect("a Vec has room");
        }
    }
    out
}

type ListMessage = memberlist_proto::Message<String, SocketAddr>;

fn list_node(member: &Member) -> memberlist_proto::Node<String, SocketAddr> {
    memberlist_proto::Node::new(member.name.clone(), member.socket())
}

fn list_alive(member: &Member) -> ListMessage {
    let meta = Meta::try_from(META).expect("it is short");
    memberlist_proto::Alive::new(1, list_node(member)).with_meta(meta).into()
}

fn list_ping() -> ListMessage {
    memberlist_proto::Ping::new(70_000, list_node(&Member::new(2)), list_node(&Member::new(1))).into()
}

fn list_decode(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        let decoded = <MessageRef<'_, &str, SocketAddr> as DataRef<ListMessage>>::decode(bytes);
        let (used, message) = decoded.expect("it was just encoded");
        black_box(message);
        bytes = &bytes[used..];
        count += 1;
    }
    count
}

/// Ours: msgpack as Go's memberlist writes it, the packet with its checksum. foca: postcard (no field names), the
/// update with owned strings, which its codec makes. memberlist: protobuf-like with tags, borrowed when decoded; its
/// framing of a packet (checksum, label) is private, so ten messages one after another.
fn codec(c: &mut Criterion<ProcessorTime>) {
    let ten = members(10);
    let mut out = Vec::new();
    let mut group = c.benchmark_group("codec");
    let alive = list_alive(&ten[0]);
    let update = foca_members(&ten).next().expect("there are ten");
    group.bench_function("encode alive, thane", |b| {
        b.iter(|| {
            out.clear();
            black_box(&ten[0]).alive().encode(&mut out);
        });
    });
    let thane_alive = out.clone();
    group.bench_function("encode alive, foca", |b| {
        b.iter(|| {
            out.clear();
            PostcardCodec.encode_member(black_box(&update), &mut out)
        });
    });
    let foca_alive = out.clone();
    group.bench_function("encode alive, memberlist", |b| {
        out.resize(PACKET, 0);
        b.iter(|| black_box(&alive).encode(&mut out));
    });
    let list_alive_bytes = alive.encode_to_vec().expect("it fits");
    group.bench_function("decode alive, thane", |b| {
        b.iter(|| black_box(Message::decode(black_box(&thane_alive))))
    });
    group.bench_function("decode alive, foca", |b| {
        b.iter(|| Codec::<Id>::decode_member(&mut PostcardCodec, black_box(&foca_alive[..])));
    });
    group
        .bench_function("decode alive, memberlist", |b| b.iter(|| list_decode(black_box(&list_alive_bytes))));

    out.clear();
    ping("node-00001").encode(&mut out);
    let (foca_ping, list_ping) = (foca_packet(foca::Message::Ping(7), &[]), list_ping());
    let list_ping = list_ping.encode_to_vec().expect("it fits");
    group.bench_function("decode ping, thane", |b| b.iter(|| black_box(Message::decode(black_box(&out)))));
    group.bench_function("decode ping, foca", |b| {
        b.iter(|| Codec::<Id>::decode_header(&mut PostcardCodec, black_box(&foca_ping[..])));
    });
    group.bench_function("decode ping, memberlist", |b| b.iter(|| list_decode(black_box(&list_ping))));

    let (envelope, mut assembler) = (envelope(None), Assembler::default());
    let mut thane = Vec::new();
    gossip_packet(&mut assembler, &envelope, &ten, &mut thane);
    let (mut received, mut scratch) = (thane.clone(), Scratch::default());
    group.bench_function("decode ten alive, thane", |b| {
        b.iter(|| {
            received.copy_from_slice(black_box(&thane));
            let plain = envelope.open(&mut received).expect("it is whole");
            packet::for_each_message(plain, &mut scratch, &mut |message| drop(black_box(message)));
        });
    });
    let foca = foca_packet(foca::Message::Gossip, &ten);
    group.bench_function("decode ten alive, foca", |b| {
        b.iter(|| {
            let mut rest = black_box(&foca[..]);
            black_box(Codec::<Id>::decode_header(&mut PostcardCodec, &mut rest)).expect("it is whole");
            rest = &rest[2..];
            while !rest.is_empty() {
                black_box(Codec::<Id>::decode_member(&mut PostcardCodec, &mut rest)).expect("it is whole");
            }
        });
    });
    let list: Vec<u8> =
        ten.iter().flat_map(|one| list_alive(one).encode_to_vec().expect("it fits")).collect();
    assert_eq!(list_decode(&list), 10);
    group.bench_function("decode ten alive, memberlist", |b| b.iter(|| list_decode(black_box(&list))));
    group.finish();
}

/// memberlist's queue holds messages.
#[derive(Debug)]
struct News(String, ListMessage);

impl Broadcast for News {
    type Id = String;
    type Message = ListMessage;

    fn id(&self) -> Option<&String> {
        Some(&self.0)
    }

    fn invalidates(&self, other: &News) -> bool {
        self.0 == other.0
    }

    fn message(&self) -> &ListMessage {
        &self.1
    }

    fn encoded_len(message: &ListMessage) -> usize {
        message.encoded_len_with_length_delimited()
    }

    async fn finished(&self) {}
}

/// The queue's futures wait for nothing when one thread uses it.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("nobody else holds the queue's lock"),
    }
}

/// memberlist counts members by that.
fn list_queue(queued: &[Member]) -> TransmitLimitedQueue<News, Arc<AtomicUsize>> {
    let queue = TransmitLimitedQueue::new(1_000_000_000, Arc::new(AtomicUsize::new(queued.len())));
    for member in queued {
        now(queue.queue_broadcast(News(member.name.clone(), list_alive(member))));
    }
    queue
}

/// A packet of 1,400 bytes is filled from that many queued messages. For Thane and foca this is the whole way from a
/// ping to an encoded ack that carries them; for memberlist the queue alone, which returns messages before encoding.
/// foca sends an update at most 255 times, so the bench makes its queue anew every hundred packets.
fn queue(c: &mut Criterion<ProcessorTime>) {
    let mut group = c.benchmark_group("packet filled from a queue");
    for queued in [1_000, 10_000] {
        let all = members(queued);
        let mut lone = Lone::endless();
        lone.learn(&all);
        let packet = ping_packet(&envelope(None), "node-00001");
        let mut received = packet.clone();
        group.bench_function(BenchmarkId::new("thane, ping to ack", queued), |b| {
            b.iter(|| {
                received.copy_from_slice(black_box(&packet));
                lone.receive(&mut received);
                lone.ctx.out.clear_datagrams();
            });
        });
        let list = list_queue(&all);
        group.bench_function(BenchmarkId::new("memberlist, the queue", queued), |b| {
            b.iter(|| now(list.get_broadcasts(black_box(PACKET))));
        });
    }
    let ping = foca_packet(foca::Message::Ping(7), &[]);
    let all = members(1_000);
    group.throughput(Throughput::Elements(100)).sample_size(10);
    group.bench_function(BenchmarkId::new("foca, 100 pings to acks", 1_000), |b| {
        b.iter_batched_ref(
            || foca_knowing(&all, true),
            |node| {
                (0..100).for_each(|_| node.handle_data(black_box(&ping), Forgetting).expect("a good ping"))
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A thousand members are learnt at once, or received again. Thane decodes a push/pull of 115 kB, verifies it and
/// reports an event of each new member; foca takes decoded members and reports the same.
fn merge(c: &mut Criterion<ProcessorTime>) {
    let all = members(1_000);
    let frame = push_pull(&all);
    let mut group = c.benchmark_group("merge of 1000");
    group.throughput(Throughput::Elements(1_000)).sample_size(20);
    group.bench_function("new, thane", |b| {
        b.iter_batched_ref(Joining::default, |joining| joining.finish(&frame), BatchSize::PerIteration);
    });
    group.bench_function("new, foca", |b| {
        b.iter_batched(
            || (foca_node(), foca_members(&all).collect::<Vec<_>>()),
            |(mut node, updates)| {
                node.apply_many(updates.into_iter(), false, Forgetting).expect("they are good members");
                node
            },
            BatchSize::PerIteration,
        );
    });
    let (mut lone, mut number) = (Joining::knowing(&all), 0);
    group.bench_function("known, and the answer, thane", |b| {
        b.iter(|| {
            lone.push_pull(number, black_box(&frame));
            number += 1;
        });
    });
    let mut node = foca_knowing(&all, false);
    group.bench_function("known, foca", |b| {
        b.iter_batched(
            || foca_members(&all).collect::<Vec<_>>(),
            |updates| node.apply_many(updates.into_iter(), false, Forgetting).expect("they are good members"),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A packet with ten known members, through a whole node that knows that many.
fn table(c: &mut Criterion<ProcessorTime>) {
    let mut group = c.benchmark_group("packet of ten known members");
    for count in [100, 1_000, 10_000] {
        let all = members(count);
        let ten = &all[all.len() - 10..];
        let mut lone = Joining::knowing(&all);
        let mut packet = Vec::new();
        gossip_packet(&mut Assembler::default(), &envelope(None), ten, &mut packet);
        let mut received = packet.clone();
        group.bench_function(BenchmarkId::new("thane", count), |b| {
            b.iter(|| {
                received.copy_from_slice(black_box(&packet));
                lone.receive(&mut received);
            });
        });
        let (mut node, packet) = (foca_knowing(&all, false), foca_packet(foca::Message::Gossip, ten));
        group.bench_function(BenchmarkId::new("foca", count), |b| {
            b.iter(|| node.handle_data(black_box(&packet), Forgetting).expect("a good packet"));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = codec, queue, merge, table
}
criterion_main!(benches);
