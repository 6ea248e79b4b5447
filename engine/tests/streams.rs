//! Streams of hostile peers: the memory that they hold together is capped, and they lock no other peer out.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use thane_engine::command::Ticket;
use thane_engine::context::{StreamId, StreamInput, StreamOperation};
use thane_engine::drop_reason::DropReason;
use thane_engine::fixtures::{FRAME_MAX_ANNOUNCED, Lone, envelope};
use thane_engine::wire::stream::{Role, encode_push_pull_header, encode_stream};

const KEY: [u8; 16] = [7; 16];
const MIB: usize = 1024 * 1024;

/// The node under test, with the key.
struct Alone(Lone);

impl Alone {
    fn new() -> Alone {
        Alone(Lone::new(|raw| raw.keys = vec![KEY.to_vec()]))
    }

    fn input(&mut self, id: StreamId, input: StreamInput<'_>) {
        self.0.node.handle_stream(&mut self.0.ctx, id, input);
    }

    fn accept(&mut self, n: u64) -> StreamId {
        self.accept_from(n, [127, 13, 0, 2])
    }

    fn accept_from(&mut self, n: u64, ip: [u8; 4]) -> StreamId {
        let id = StreamId::accepted(n);
        self.input(id, StreamInput::Accepted((ip, 7946).into()));
        id
    }

    /// What the node wants done with that stream since the last time.
    fn operations(&mut self, id: StreamId) -> Vec<StreamOperation> {
        self.0
            .ctx
            .out
            .streams
            .extract_if(.., |(_, of, _)| *of == id)
            .map(|(_, _, operation)| operation)
            .collect()
    }

    fn feed(&mut self, id: StreamId, bytes: usize) {
        let part = [0; 16 * 1024];
        for _ in 0..bytes / part.len() {
            self.input(id, StreamInput::Bytes(part[..].into()));
        }
    }
}

/// A push/pull without members, sealed.
fn request() -> Vec<u8> {
    let (mut raw, mut out) = (Vec::new(), Vec::new());
    encode_push_pull_header(0, 0, false, &mut raw);
    encode_stream(&raw, &envelope([&KEY[..]]), Role::Dialler, [3; 12], &mut out);
    out
}

#[test]
fn streams_together_hold_no_more_than_allowed_and_the_longest_goes() {
    let mut alone = Alone::new();
    let measured = allocation_counter::measure(|| {
        // 19 + 18 + ... MiB announced frames that never get whole.
        let greedy: Vec<StreamId> = (0..12).map(|n| alone.accept(n)).collect();
        for (n, &id) in greedy.iter().enumerate() {
            alone.input(id, StreamInput::Bytes(FRAME_MAX_ANNOUNCED[..].into()));
            alone.feed(id, (19 - n) * MIB);
        }
        let cut = alone.0.node.stats().drops(DropReason::StreamsFull);
        // 19, 18, 17 fit; from then on the longest goes whenever 64 MiB are passed.
        assert!(cut >= 3, "{cut} were cut");
        assert!(!alone.operations(greedy[0]).is_empty(), "the longest is over");
        assert!(alone.operations(greedy[11]).is_empty(), "the shortest is not");

        let honest = alone.accept(100);
        alone.input(honest, StreamInput::Bytes(request().into()));
        let answered = alone.operations(honest);
        assert!(matches!(answered[..], [StreamOperation::Write(_), StreamOperation::Close]), "{answered:?}");
    });
    // Buffers grow by doubling, and the old one is there while the new one is filled.
    assert!(measured.bytes_max < 200 * MIB as u64, "{} MiB", measured.bytes_max / MIB as u64);
}

#[test]
fn streams_of_others_leave_room_for_the_nodes_own() {
    let mut alone = Alone::new();
    let ids: Vec<StreamId> = (0..300).map(|n| alone.accept_from(n, [127, 13, 1, (n % 250) as u8])).collect();
    let refused = ids.iter().filter(|&&id| alone.operations(id) == [StreamOperation::Abort]).count();
    assert_eq!(refused, 44);
    let stats = alone.0.node.stats();
    assert_eq!(stats.drops(DropReason::TooManyStreams) + stats.drops(DropReason::StreamIdle), 44);
    let other = SocketAddr::from(([127, 13, 0, 3], 7946));
    alone.0.node.join(&mut alone.0.ctx, Ticket(1), vec![other], true).unwrap();
    assert_eq!(alone.operations(StreamId::opened(0)), [StreamOperation::Open(other)]);
}

#[test]
fn idle_streams_keep_no_peer_out() {
    for silent in [true, false] {
        let mut alone = Alone::new();
        let idle: Vec<StreamId> = (0..256).map(|n| alone.accept(n)).collect();
        if !silent {
            // The first byte of a sealed message, and nothing more.
            idle.iter().for_each(|&id| alone.input(id, StreamInput::Bytes([10][..].into())));
        }
        let refused = idle.iter().filter(|&&id| alone.operations(id) == [StreamOperation::Abort]).count();
        assert_eq!(refused, 64, "one source has 192 of 256");
        alone.0.pass(Duration::from_millis(if silent { 300 } else { 2_000 }));
        // The same source, and another one.
        for (n, ip) in [(300, [127, 13, 0, 2]), (301, [127, 13, 0, 9])] {
            let honest = alone.accept_from(n, ip);
            alone.input(honest, StreamInput::Bytes(request().into()));
            let answered = alone.operations(honest);
            assert!(matches!(answered[..], [StreamOperation::Write(_), StreamOperation::Close]), "{silent}");
        }
        assert_eq!(alone.operations(idle[0]), [StreamOperation::Abort], "the oldest idle one made room");
        assert_eq!(alone.0.node.stats().drops(DropReason::StreamIdle), 1);
    }
}

#[test]
fn a_peer_has_three_seconds_for_its_first_byte_and_the_stream_timeout_for_the_rest() {
    let mut alone = Alone::new();
    let (silent, slow) = (alone.accept(1), alone.accept(2));
    alone.input(slow, StreamInput::Bytes([10][..].into()));
    alone.0.pass(Duration::from_millis(2_900));
    assert!(alone.operations(silent).is_empty());
    alone.0.pass(Duration::from_millis(200));
    assert_eq!(alone.operations(silent), [StreamOperation::Abort]);
    assert_eq!(alone.0.node.stats().drops(DropReason::StreamIdle), 1);
    alone.0.pass(Duration::from_millis(6_800));
    assert!(alone.operations(slow).is_empty(), "9.9 s of 10");
    alone.0.pass(Duration::from_millis(200));
    assert_eq!(alone.operations(slow), [StreamOperation::Abort]);
    assert_eq!(alone.0.node.stats().drops(DropReason::StreamTimeout), 1);
}
