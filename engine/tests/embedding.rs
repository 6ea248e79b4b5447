//! The library inside a program, on real sockets: delegates, streams of answers, lifetimes.
#![allow(clippy::unwrap_used)]

#[path = "common/live.rs"]
mod live;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use live::{run, until};
use thane_engine::api::{Answer, ApiError, Engine, Handle, NodeOptions, OutletItem, StartError};
use thane_engine::command::{CommandError, QueryParams};
use thane_engine::delegate::{Announcement, Announcements, Delegate, Onward, Veto};
use thane_engine::event::{Event, MemberEventKind};
use thane_engine::io::DriverChoice;
use thane_engine::view::MemberStatus;

async fn lists(handle: &Handle, name: &str, status: MemberStatus) -> bool {
    let members = handle.members().await.unwrap();
    members.iter().any(|member| member.name == name && member.status == status)
}

/// Returns once the address can be bound.
async fn until_free(addr: SocketAddr) {
    until(async || TcpListener::bind(addr).is_ok()).await;
}

/// Polls a future once. Returns whether it is ready.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> bool {
    std::future::poll_fn(|ctx| std::task::Poll::Ready(future.as_mut().poll(ctx).is_ready())).await
}

fn options(name: &str, third: u8) -> NodeOptions {
    NodeOptions::local(name, ([127, 31, third, 1], 0)).configure(|config| {
        config.leave_propagate_delay = Duration::from_millis(100);
        // Often enough for gossip to reach all members of a cluster of three.
        config.retransmit_mult = 8;
    })
}

/// Admits members that know the password, and notes its calls.
#[derive(Clone, Default)]
struct Doorman(Arc<Mutex<Vec<String>>>);

impl Doorman {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn noted(&self, start: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.starts_with(start))
    }
}

impl Delegate for Doorman {
    fn admit(&mut self, announced: &Announcement<'_>) -> Result<(), Veto> {
        let tags = announced.tags().map_err(|reason| reason.to_string())?;
        if tags.get("password").map(String::as_str) == Some("swordfish") {
            return Ok(());
        }
        self.note(format!("turned away {}", announced.name));
        Err("no password".into())
    }

    fn admit_merge(&mut self, theirs: Announcements<'_>) -> Result<(), Veto> {
        self.note(format!("merge of {}", theirs.len()));
        Ok(())
    }

    fn ack_payload(&mut self) -> Vec<u8> {
        b"at the door".to_vec()
    }

    fn on_ping(&mut self, member: &Announcement<'_>, round_trip: Duration, payload: &[u8]) {
        assert!(round_trip < Duration::from_secs(1));
        self.note(format!("ping {} {}", member.name, String::from_utf8_lossy(payload)));
    }
}

#[test]
fn a_delegate_decides_who_is_in() {
    run(async {
        let engine = Engine::start(DriverChoice::Auto).unwrap();
        let doorman = Doorman::default();
        let door = |name: &str| {
            let quiet = |config: &mut thane_engine::config::RawConfig| config.coordinates = false;
            options(name, 10).configure(quiet).tag("password", "swordfish").delegate(doorman.clone())
        };
        let (first, _first_outlet) = engine.add(door("first")).await.unwrap();
        let seed = first.bound().to_string();
        let (second, mut outlet) = engine.add(door("second").join([seed.clone()])).await.unwrap();
        let (stranger, _stranger_outlet) = engine.add(options("stranger", 10).join([seed])).await.unwrap();
        until(async || lists(&first, "second", MemberStatus::Alive).await).await;
        until(async || doorman.noted("ping second at the door")).await;
        until(async || doorman.noted("turned away stranger")).await;
        assert!(doorman.noted("merge of 1"));
        assert!(!first.members().await.unwrap().iter().any(|member| member.name == "stranger"));
        let drops = first.stats().await.unwrap().drops;
        assert!(drops.iter().any(|(reason, count)| *reason == "alive_vetoed" && *count > 0), "{drops:?}");
        assert_eq!(stranger.members().await.unwrap().len(), 3, "the stranger sees them");
        let Some(Event::Member { kind: MemberEventKind::Join, .. }) = outlet.next_event().await else {
            panic!("a node is told of itself first")
        };
        drop(second);
        engine.stop().await;
    });
}

/// Notes messages; those that begin with `all` are gossiped on.
#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<Vec<u8>>>>);

impl Delegate for Inbox {
    fn on_message(&mut self, message: &[u8]) -> Onward {
        let mut seen = self.0.lock().unwrap();
        let new = !seen.iter().any(|known| known == message);
        seen.push(message.to_vec());
        if new && message.starts_with(b"all") { Onward::Gossip } else { Onward::Stop }
    }
}

#[test]
fn plain_swim_carries_the_programs_own_messages() {
    run(async {
        let engine = Engine::start(DriverChoice::Auto).unwrap();
        let inboxes: [Inbox; 3] = Default::default();
        let mut nodes: Vec<Handle> = Vec::new();
        for (n, inbox) in inboxes.iter().enumerate() {
            let seed = nodes.first().map(|first| first.bound().to_string());
            let options = options(&format!("n{n}"), 11).plain_swim().delegate(inbox.clone()).join(seed);
            nodes.push(engine.add(options).await.unwrap().0);
        }
        until(async || lists(&nodes[1], "n2", MemberStatus::Alive).await).await;
        nodes[0].broadcast("all hands".into()).await.unwrap();
        nodes[1].send("n2", "just you".into()).await.unwrap();
        let has = |n: usize, message: &[u8]| inboxes[n].0.lock().unwrap().iter().any(|seen| seen == message);
        until(async || has(1, b"all hands") && has(2, b"all hands") && has(2, b"just you")).await;
        assert!(!has(0, b"just you") && !has(1, b"just you"));
        let refused = nodes[0].user_event("e", Bytes::new(), false).await;
        assert_eq!(refused, Err(ApiError::Command(CommandError::NotSupported)));
        nodes[1].leave().await.unwrap();
        nodes[2].shutdown().await;
        until(async || lists(&nodes[0], "n1", MemberStatus::Left).await).await;
        until(async || lists(&nodes[0], "n2", MemberStatus::Failed).await).await;
        engine.stop().await;
    });
}

#[test]
fn tags_can_be_changed_in_parts() {
    run(async {
        let (node, _outlet) = options("n", 12).tag("a", "1").tag("b", "2").start().await.unwrap();
        let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let (first, second) = tokio::join!(
            node.update_tags(one("c", "3"), vec!["a".to_owned()]),
            node.update_tags(one("b", "4"), Vec::new()),
        );
        assert_eq!((first, second), (Ok(()), Ok(())));
        let tags: Vec<String> =
            node.tags().await.unwrap().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(tags, ["b=4", "c=3"]);
        let too_long = node.update_tags(one("d", &"x".repeat(600)), Vec::new()).await;
        assert_eq!(too_long, Err(ApiError::Command(CommandError::TagsTooLong(512))));
        assert_eq!(node.tags().await.unwrap().len(), 2, "refused tags change nothing");
    });
}

/// Polls any stream for its next item.
async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|ctx| Pin::new(&mut *stream).poll_next(ctx)).await
}

#[test]
fn answers_and_events_are_streams() {
    run(async {
        let (node, mut outlet) = options("n", 13).start().await.unwrap();
        let params = QueryParams {
            name: "load".into(),
            request_ack: true,
            timeout: Some(Duration::from_millis(500)),
            ..QueryParams::default()
        };
        let mut answers = node.query(params).await.unwrap();
        assert_eq!(answers.timeout, Duration::from_millis(500));
        let token = loop {
            if let OutletItem::Event(Event::Query { token, .. }) = next(&mut outlet).await.unwrap() {
                break token;
            }
        };
        node.respond(token, "0.7".into()).await.unwrap();
        let ack = Answer::Ack { from: "n".to_owned() };
        assert_eq!(next(&mut answers).await, Some(ack));
        let response = Answer::Response { from: "n".to_owned(), payload: "0.7".into() };
        assert_eq!(next(&mut answers).await, Some(response));
        assert_eq!(next(&mut answers).await, None, "it ends at the deadline");
    });
}

#[test]
fn an_engine_ends_with_its_last_handle() {
    run(async {
        // A node with an engine of its own: two handles, then one, then none.
        let (node, mut outlet) = options("alone", 14).start().await.unwrap();
        let addr = node.bound();
        let other = node.clone();
        drop(node);
        assert_eq!(other.members().await.unwrap().len(), 1);
        assert!(TcpListener::bind(addr).is_err());
        drop(other);
        while outlet.next().await.is_some() {}
        until_free(addr).await;
        // The engine is dropped first, then the handle; one outlet is not read.
        let engine = Engine::start(DriverChoice::Auto).unwrap();
        let (a, a_outlet) = engine.add(options("a", 14)).await.unwrap();
        let (b, _b_outlet) = engine.add(options("b", 14)).await.unwrap();
        drop((engine, a_outlet));
        a.join(&[b.bound().to_string()], false).await.unwrap();
        let addr = a.bound();
        drop(a);
        until(async || lists(&b, "a", MemberStatus::Alive).await).await;
        drop(b);
        until_free(addr).await;
        // A handle outlives its engine.
        let engine = Engine::start(DriverChoice::Auto).unwrap();
        let (late, mut outlet) = engine.add(options("late", 14)).await.unwrap();
        engine.stop().await;
        assert_eq!(late.members().await, Err(ApiError::Stopped));
        assert!(matches!(engine.add(options("too late", 14)).await, Err(StartError::Api(ApiError::Stopped))));
        late.shutdown().await;
        engine.stop().await;
        while outlet.next().await.is_some() {}
        until_free(late.bound()).await;
    });
}

#[test]
fn dropping_the_future_of_a_start_leaves_no_node_behind() {
    run(async {
        let free = TcpListener::bind("127.31.15.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let engine = Engine::start(DriverChoice::Auto).unwrap();
        let mut adding = Box::pin(engine.add(NodeOptions::local("n", addr)));
        // The first poll sends the request.
        assert!(!poll_once(adding.as_mut()).await);
        drop(adding);
        until_free(addr).await;
        // A node that can't join ends too.
        let refused = engine.add(NodeOptions::local("n", addr).join(["127.31.15.9:9"])).await.unwrap_err();
        assert!(
            refused.to_string().contains("Failed to join 127.31.15.9: dial tcp 127.31.15.9:"),
            "{refused}"
        );
        until_free(addr).await;
        let everywhere = engine.add(NodeOptions::local("n", ([0, 0, 0, 0], 0))).await.unwrap_err();
        assert!(
            everywhere.to_string().contains("nobody can reach advertise address 0.0.0.0"),
            "{everywhere}"
        );
    });
}

/// Panics when it is asked about a member.
struct Panicking;

impl Delegate for Panicking {
    fn admit(&mut self, announced: &Announcement<'_>) -> Result<(), Veto> {
        panic!("a panic on purpose, about {}", announced.name);
    }
}

#[test]
fn a_panic_in_a_delegate_ends_its_engine_and_no_call_waits_for_ever() {
    run(async {
        let (victim, mut outlet) = options("victim", 16).delegate(Panicking).start().await.unwrap();
        let (other, _outlet) = options("other", 16).start().await.unwrap();
        // The victim's engine ends during the join; the other engine goes on.
        let _ = other.join(&[victim.bound().to_string()], false).await;
        while outlet.next().await.is_some() {}
        assert_eq!(victim.members().await, Err(ApiError::Stopped));
        assert_eq!(victim.leave().await, Err(ApiError::Stopped));
        assert!(other.members().await.is_ok());
    });
}

/// Blocks its shard in `node_meta`, except at the start, until the other end of the channel is dropped.
struct Blocking {
    started: bool,
    released: std::sync::mpsc::Receiver<()>,
}

impl Delegate for Blocking {
    fn node_meta(&mut self, _: usize) -> Option<Vec<u8>> {
        if std::mem::replace(&mut self.started, true) {
            let _ = self.released.recv();
        }
        Some(Vec::new())
    }
}

#[test]
fn a_full_mailbox_refuses_requests_but_not_a_shutdown() {
    run(async {
        let (release, released) = std::sync::mpsc::channel();
        let blocking = Blocking { started: false, released };
        let (node, mut outlet) = options("n", 18).plain_swim().delegate(blocking).start().await.unwrap();
        let mut calls: Vec<_> = vec![Box::pin(node.update_meta())];
        assert!(!poll_once(calls[0].as_mut()).await);
        let refused = loop {
            let mut call = Box::pin(node.update_meta());
            if poll_once(call.as_mut()).await {
                break calls.len();
            }
            calls.push(call);
        };
        assert!((1024..=1025).contains(&refused), "{refused} requests wait");
        assert_eq!(node.stats().await, Err(ApiError::Busy));
        let mut ending = Box::pin(node.shutdown());
        assert!(!poll_once(ending.as_mut()).await);
        drop(release);
        ending.await;
        assert_eq!(node.stats().await, Err(ApiError::Stopped));
        while outlet.next().await.is_some() {}
    });
}

#[test]
fn handles_work_from_any_thread_and_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (node, _outlet) = runtime.block_on(options("n", 17).start()).unwrap();
    drop(runtime);
    // The runtime that it was started in has ended; the node still runs.
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let node = node.clone();
            std::thread::spawn(move || run(async { assert_eq!(node.members().await.unwrap().len(), 1) }))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
