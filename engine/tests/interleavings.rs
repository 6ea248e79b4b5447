//! The mailbox and the broadcast ring in every order that the steps of their threads can take, with reads of older
//! values where the memory orderings allow them (loom). The engine's files are compiled here a second time, on
//! models of the types that their threads share. The cases are small: one more step per thread takes minutes.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)]

use std::sync::Arc;

use loom::future::block_on;
use loom::thread;
use thane_engine::context::NodeId;
use tokio::sync::oneshot;

#[path = "../src/shard/mailbox.rs"]
mod mailbox;
#[path = "interleavings/model.rs"]
mod sync;
#[path = "../src/shard/watch.rs"]
mod watch;

/// The types of the shard that the two files name.
mod census {
    pub(crate) use thane_engine::api::ShardCensus;
}
mod errors {
    pub(crate) use thane_engine::api::{ApiError, StartError};
}
mod hosted {
    pub(crate) struct HostedNode;
}
mod item {
    pub(crate) use thane_engine::api::OutletEntry;
}
mod options {
    pub(crate) use thane_engine::api::NodeOptions;
}
/// The types of other modules that they name.
mod context {
    pub(crate) use thane_engine::context::{Context, NodeId};
}
mod event {
    pub(crate) use thane_engine::event::Event;
}
mod node {
    pub(crate) struct ListedMember;
}

use crate::mailbox::{Mailbox, Request};
use crate::sync::QUEUE_DEPTH;
use crate::watch::{Ring, RingReader};

/// All orders with up to three preemptions, where all orders would be too many.
fn model_bounded(case: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(case);
}

/// A request, and the receiver of its answer.
fn request(node: u32) -> (Request, oneshot::Receiver<()>) {
    let (reply, answer) = oneshot::channel();
    (Request::Remove(NodeId(node), reply), answer)
}

/// Serves the mailbox as a shard does, until it is abandoned or `end_after` requests were served. Returns the
/// nodes that the requests named, in order.
fn serve(mailbox: &Mailbox, end_after: usize) -> Vec<u32> {
    let mut served = Vec::new();
    loop {
        while let Some(request) = mailbox.pop() {
            let Request::Remove(node, reply) = request else { unreachable!("only such are left") };
            let _ = reply.send(());
            served.push(node.0);
            if served.len() == end_after {
                mailbox.close();
                return served;
            }
        }
        if mailbox.is_abandoned() {
            mailbox.close();
            return served;
        }
        block_on(mailbox.arrived());
    }
}

/// The receiver gets its answer, or learns that there will be none.
fn is_told(answer: &mut oneshot::Receiver<()>) -> bool {
    !matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}

#[test]
fn every_request_wakes_the_shard() {
    model_bounded(|| {
        let mailbox = Arc::new(Mailbox::default());
        let shard = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || serve(&mailbox, 2)
        });
        let mut answers = Vec::new();
        for node in 0..2 {
            let (request, answer) = request(node);
            mailbox.push(request).unwrap();
            answers.push(answer);
        }
        assert_eq!(shard.join().unwrap(), [0, 1]);
        assert!(answers.iter_mut().all(|answer| answer.try_recv() == Ok(())));
    });
}

#[test]
fn the_last_to_go_ends_the_shard() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::default());
        let shard = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || serve(&mailbox, usize::MAX)
        });
        let (request, mut answer) = request(1);
        mailbox.push(request).unwrap();
        mailbox.abandon();
        let served = shard.join().unwrap();
        assert!(served == [1] || served.is_empty(), "{served:?}");
        assert!(is_told(&mut answer));
    });
}

#[test]
fn requests_of_two_threads_all_arrive() {
    model_bounded(|| {
        let mailbox = Arc::new(Mailbox::default());
        let asking = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || mailbox.push(request(1).0).unwrap()
        });
        mailbox.push(request(2).0).unwrap();
        let mut served = serve(&mailbox, 2);
        served.sort_unstable();
        assert_eq!(served, [1, 2]);
        asking.join().unwrap();
    });
}

#[test]
fn a_full_mailbox_says_so_and_goes_on() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::default());
        for node in 0..QUEUE_DEPTH as u32 {
            mailbox.push(request(node).0).unwrap();
        }
        let popping = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || mailbox.pop().is_some()
        });
        let (request, mut answer) = request(9);
        let taken = mailbox.push(request).is_ok();
        assert!(popping.join().unwrap(), "it was full");
        assert_eq!(is_told(&mut answer), !taken);
        let left = std::iter::from_fn(|| mailbox.pop()).count();
        assert_eq!(left, QUEUE_DEPTH - 1 + usize::from(taken));
    });
}

#[test]
fn a_mailbox_that_closes_tells_whoever_waits_for_an_answer() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::default());
        let closing = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || mailbox.close()
        });
        let (request, mut answer) = request(1);
        let _ = mailbox.push(request);
        closing.join().unwrap();
        assert!(is_told(&mut answer), "somebody would wait for ever");
    });
}

#[test]
fn who_watches_a_shard_that_ends_is_told_so() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::default());
        let closing = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || mailbox.close()
        });
        let mut reader = mailbox.watch().reader();
        assert!(block_on(reader.next()).is_none());
        closing.join().unwrap();
    });
}

/// Reads `looks` times and appends the values that it found.
fn look(reader: &mut RingReader<u64>, looks: usize, seen: &mut Vec<u64>) {
    for _ in 0..looks {
        let Some(value) = reader.try_next() else { continue };
        assert_eq!(value.0, value.1, "a value has its number");
        seen.push(value.1);
    }
}

/// All values were read or counted as lost, in order; those that the ring still holds were read.
fn check_read(seen: &[u64], lost: u64, from: u64, written: u64, depth: u64) {
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert_eq!(seen.len() as u64 + lost, written - from, "{seen:?} and {lost} lost");
    let kept = written.saturating_sub(depth).max(from);
    assert!((kept..written).all(|value| seen.contains(&value)), "{seen:?} of {written}");
}

/// One thread writes three values into a ring of this depth while another reads.
fn read_while_written(depth: u64) {
    loom::model(move || {
        let ring: Arc<Ring<u64>> = Ring::new(depth as usize);
        let mut reader = ring.reader();
        let reading = thread::spawn(move || {
            let mut seen = Vec::new();
            look(&mut reader, 2, &mut seen);
            (reader, seen)
        });
        (0..3).for_each(|value| ring.write(value));
        let (mut reader, mut seen) = reading.join().unwrap();
        look(&mut reader, 4, &mut seen);
        check_read(&seen, reader.lost(), 0, 3, depth);
    });
}

#[test]
fn a_reader_gets_all_that_a_deep_ring_holds() {
    read_while_written(3);
}

#[test]
fn a_reader_that_lags_knows_how_many_it_lost() {
    read_while_written(2);
    read_while_written(1);
}

#[test]
fn readers_have_places_of_their_own_from_when_they_were_made() {
    loom::model(|| {
        let ring: Arc<Ring<u64>> = Ring::new(2);
        let mut early = ring.reader();
        let reading = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                let (mut late, mut seen) = (ring.reader(), Vec::new());
                look(&mut late, 1, &mut seen);
                (late, seen)
            }
        });
        (0..2).for_each(|value| ring.write(value));
        let (mut late, mut late_seen) = reading.join().unwrap();
        look(&mut late, 3, &mut late_seen);
        check_read(&late_seen, late.lost(), 2 - late_seen.len() as u64, 2, 2);
        let mut seen = Vec::new();
        look(&mut early, 3, &mut seen);
        check_read(&seen, early.lost(), 0, 2, 2);
    });
}

#[test]
fn a_value_and_the_end_wake_a_reader() {
    loom::model(|| {
        let ring: Arc<Ring<u64>> = Ring::new(1);
        let mut reader = ring.reader();
        let reading = thread::spawn(move || {
            assert_eq!(block_on(reader.next()).map(|value| value.1), Some(0));
            reader
        });
        ring.write(0);
        let mut reader = reading.join().unwrap();
        let ending = thread::spawn(move || assert!(block_on(reader.next()).is_none()));
        ring.close();
        ending.join().unwrap();
    });
}

#[test]
fn what_was_written_before_the_end_is_read() {
    model_bounded(|| {
        let ring: Arc<Ring<u64>> = Ring::new(1);
        let mut reader = ring.reader();
        let reading = thread::spawn(move || {
            assert_eq!(block_on(reader.next()).map(|value| value.1), Some(0));
            assert!(block_on(reader.next()).is_none());
        });
        ring.write(0);
        ring.close();
        reading.join().unwrap();
    });
}
