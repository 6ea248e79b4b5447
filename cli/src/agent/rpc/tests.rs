//! The port from outside, with a real engine behind it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thane_engine::event::Event;
use thane_engine::ipc::{
    AuthRequest, EventRequest, JoinRequest, MembersRequest, MonitorRequest, QueryRequest, Request,
    RespondRequest, StopRequest, StreamRequest, TagsRequest,
};
use thane_engine::wire::LamportTime;

use super::fixture::{Agent, Client, Setup, Tree, eventually, local, pairs};
use crate::agent::level::Level;
use crate::clients::CONNECTIONS_MAX;

fn stop(seq: u64) -> Request {
    Request::Stop(StopRequest { stop: seq })
}

fn stream(filter: &str) -> Request {
    Request::Stream(StreamRequest { filter: filter.to_owned() })
}

fn query(name: &str, timeout: Duration) -> Request {
    Request::Query(QueryRequest {
        name: name.to_owned(),
        payload: b"?".to_vec(),
        request_ack: true,
        timeout_ns: timeout.as_nanos().try_into().unwrap(),
        ..QueryRequest::default()
    })
}

fn respond(id: u64, payload: &[u8]) -> Request {
    Request::Respond(RespondRequest { id, payload: payload.to_vec() })
}

fn auth(token: &str) -> Request {
    Request::Auth(AuthRequest { auth_key: token.to_owned() })
}

#[test]
fn a_token_is_asked_for_and_refused_bodies_are_consumed() {
    local(async {
        let agent = Agent::start("n", "127.16.2.1", Setup { auth: "secret", ..Setup::default() }).await;
        let mut client = agent.client().await;
        client.request(1, &Request::MembersFiltered(MembersRequest::default())).await;
        client.request(2, &Request::Members).await;
        client.request(3, &auth("secre")).await;
        client.request(4, &stop(9)).await;
        client.request(5, &auth("secret")).await;
        client.request(6, &stop(9)).await;
        client.request(7, &auth("wrong")).await;
        client.request(8, &stop(9)).await;
        for (seq, error) in [
            (1, "Authentication required"),
            (2, "Authentication required"),
            (3, "Invalid authentication token"),
            (4, "Authentication required"),
            (5, ""),
            (6, ""),
            (7, "Invalid authentication token"),
            (8, ""),
        ] {
            assert_eq!(client.error(seq).await, error);
        }
        assert_eq!(agent.logged("[WARN] agent.ipc: Client sending commands before auth").len(), 3);
        agent.end().await;
    });
}

#[test]
fn requests_may_be_cut_anywhere() {
    local(async {
        let agent = Agent::start("n", "127.16.2.2", Setup::default()).await;
        let mut bytes = Vec::new();
        Request::Handshake(thane_engine::ipc::HandshakeRequest { version: 1 }).encode(1, &mut bytes);
        stop(7).encode(2, &mut bytes);
        Request::Members.encode(3, &mut bytes);
        let mut client = Client::connect(agent.rpc).await;
        for byte in bytes {
            client.send(&[byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.error(1).await, "");
        assert_eq!(client.error(2).await, "");
        let members = client.body(3).await;
        assert_eq!(members.at("Members").list()[0].at("Name").text(), "n");
        agent.end().await;
    });
}

#[test]
fn what_can_not_be_a_request_closes_the_connection() {
    local(async {
        let agent = Agent::start("n", "127.16.2.3", Setup::default()).await;
        for (bytes, line) in [
            (&b"\xdb\x7f\xff\xff\xff"[..], "failed to decode request: a message is too large"),
            (b"\xc1", "failed to decode request: bytes that are not msgpack"),
            (b"\x05", "failed to decode request header: "),
            (b"\x82\xa7Command\xa4stop\xa3Seq\x01\x05", "Failed to evaluate request: decode failed: "),
        ] {
            let mut client = agent.client().await;
            client.send(bytes).await;
            assert_eq!(client.next().await, None, "{bytes:x?}");
            eventually(line, async || agent.logged("[ERR] agent.ipc: ").iter().any(|l| l.contains(line)))
                .await;
        }
        let mut client = agent.client().await;
        client
            .request(1, &Request::MembersFiltered(MembersRequest { name: "(".into(), ..Default::default() }))
            .await;
        assert_eq!(client.next().await, None);
        eventually("a line about the expression", async || {
            !agent.logged("Failed to evaluate request: Failed to compile regex: `^($`: ").is_empty()
        })
        .await;
        agent.end().await;
    });
}

#[test]
fn connections_are_bounded_and_free_again_when_closed() {
    local(async {
        let agent = Agent::start("n", "127.16.2.4", Setup::default()).await;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut client = agent.client().await;
            client.request(1, &stream("user")).await;
            assert_eq!(client.error(1).await, "");
            clients.push(client);
        }
        for _ in 0..3 {
            let mut refused = Client::connect(agent.rpc).await;
            assert_eq!(refused.next().await, None);
        }
        assert_eq!(agent.backend.rpc.refused.get(), 3);
        assert_eq!(agent.logged("[WARN] agent.ipc: Refusing client ").len(), 1);
        clients.pop();
        eventually("a free connection", async || {
            let mut client = Client::connect(agent.rpc).await;
            client.request(1, &Request::Handshake(thane_engine::ipc::HandshakeRequest { version: 1 })).await;
            client.next().await.is_some()
        })
        .await;
        agent.end().await;
    });
}

#[test]
fn connections_that_prove_nothing_keep_nobody_out() {
    local(async {
        let agent = Agent::start("n", "127.16.2.6", Setup { auth: "secret", ..Setup::default() }).await;
        let mut monitor = agent.client().await;
        monitor.request(1, &auth("secret")).await;
        monitor.request(2, &stream("user")).await;
        assert_eq!((monitor.error(1).await, monitor.error(2).await), (String::new(), String::new()));
        let mut idle = Vec::new();
        for n in 0..CONNECTIONS_MAX - 1 {
            // Some make the handshake, which needs no token.
            idle.push(if n % 2 == 0 { Client::connect(agent.rpc).await } else { agent.client().await });
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        for n in 0..20 {
            let mut client = agent.client().await;
            client.request(n, &auth("secret")).await;
            client.request(n + 100, &Request::Members).await;
            assert_eq!(client.error(n).await, "");
            client.body(n + 100).await;
        }
        assert!(agent.backend.rpc.closed_idle.get() > 0);
        monitor.request(3, &stop(2)).await;
        assert_eq!(monitor.error(3).await, "", "the stream's connection is still there");
        agent.end().await;
    });
}

#[test]
fn a_client_without_handshake_is_closed_and_sends_no_long_request() {
    local(async {
        let agent = Agent::start("n", "127.16.2.7", Setup { auth: "secret", ..Setup::default() }).await;
        let mut silent = Client::connect(agent.rpc).await;
        let mut long = Client::connect(agent.rpc).await;
        let mut value = b"\xdb\x00\x0f\xff\x00".to_vec();
        value.resize(1 << 19, b'x');
        long.send(&value).await;
        assert_eq!(long.next().await, None);
        assert_eq!(silent.next().await, None);
        assert_eq!(agent.backend.rpc.closed_idle.get(), 1);
        // With its token a client may send a long one.
        let mut client = agent.client().await;
        client.request(1, &auth("secret")).await;
        assert_eq!(client.error(1).await, "");
        client
            .request(2, &Request::Join(JoinRequest { existing: vec!["x".repeat(100_000)], replay: false }))
            .await;
        assert_ne!(client.error(2).await, "");
        agent.end().await;
    });
}

#[test]
fn wrong_tokens_are_counted_and_logged_once() {
    local(async {
        let agent = Agent::start("n", "127.16.2.8", Setup { auth: "secret", ..Setup::default() }).await;
        let mut client = agent.client().await;
        for n in 1..=30 {
            client.request(n, &auth("wrong")).await;
        }
        for n in 1..=30 {
            assert_eq!(client.error(n).await, "Invalid authentication token");
        }
        assert_eq!(agent.backend.rpc.wrong_tokens.get(), 30);
        assert_eq!(agent.logged("[WARN] agent.ipc: Wrong RPC token from ").len(), 1);
        let info = agent.backend.numbers().await.unwrap().to_stats();
        assert_eq!(info["rpc"]["wrong_tokens"], "30");
        agent.end().await;
    });
}

#[test]
fn a_slow_reader_loses_events_and_hinders_nobody() {
    local(async {
        let agent = Agent::start("n", "127.16.2.5", Setup::default()).await;
        let mut slow = agent.client().await;
        slow.request(1, &stream("user")).await;
        assert_eq!(slow.error(1).await, "");
        const EVENTS: u64 = 2000;
        let mut client = agent.client().await;
        for n in 1..=EVENTS {
            let payload = Bytes::from(vec![b'x'; 50_000]);
            let event = Event::User { ltime: LamportTime(n), name: "big".into(), payload, coalesce: false };
            agent.backend.events.send(Arc::new(event)).unwrap();
            if n % 100 == 0 {
                client.request(n, &stop(0)).await;
                assert_eq!(client.error(n).await, "");
            }
        }
        let warning = format!("[WARN] agent.ipc: Dropping event to ipc.client: {}", slow.local_addr());
        eventually("a warning", async || !agent.logged(&warning).is_empty()).await;
        slow.request(2, &stop(0)).await;
        let (mut received, mut last) = (0, 0);
        loop {
            let header = slow.next().await.unwrap().header().unwrap();
            if header.0 == 2 {
                break;
            }
            let record = slow.next().await.unwrap();
            assert!(record.at("LTime").int() > last, "in order");
            last = record.at("LTime").int();
            received += 1;
        }
        assert!((512..EVENTS).contains(&received), "{received} of {EVENTS}");
        // It lost some but is not out of the game.
        let event = Event::User {
            ltime: LamportTime(EVENTS + 1),
            name: "last".into(),
            payload: Bytes::new(),
            coalesce: false,
        };
        agent.backend.events.send(Arc::new(event)).unwrap();
        while slow.body(1).await.at("Name").text() != "last" {}
        assert_eq!(agent.logged(&warning).len(), 1);
        agent.end().await;
    });
}

#[test]
fn queries_are_answered_and_end_at_their_deadline() {
    local(async {
        let one = Agent::start("one", "127.16.2.6", Setup::default()).await;
        let two = Agent::start("two", "127.16.2.7", Setup::default()).await;
        let mut asker = one.client().await;
        let entry = two.backend.handle.advertise().to_string();
        asker.request(1, &Request::Join(JoinRequest { existing: vec![entry], replay: false })).await;
        assert_eq!(asker.body(1).await.at("Num").int(), 1);
        let mut answerer = two.client().await;
        answerer.request(1, &stream("query:load")).await;
        assert_eq!(answerer.error(1).await, "");
        answerer.request(2, &stream("query")).await;
        assert_eq!(answerer.error(2).await, "");

        let timeout = Duration::from_secs(3);
        let asked = Instant::now();
        asker.request(2, &query("load", timeout)).await;
        assert_eq!(asker.error(2).await, "");
        let first = answerer.body_among(1).await;
        let second = answerer.body_among(2).await;
        let mut ids = [first.at("ID").int(), second.at("ID").int()];
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
        assert_eq!(first.at("Payload"), &Tree::Bin(b"?".to_vec()));
        answerer.request(3, &respond(1, &[b'x'; 2000])).await;
        assert!(
            answerer.error(3).await.starts_with("failed to respond to key query: response exceeds limit")
        );
        answerer.request(4, &respond(2, b"0.5")).await;
        assert_eq!(answerer.error(4).await, "");
        answerer.request(5, &respond(1, b"0.6")).await;
        assert_eq!(answerer.error(5).await, "failed to respond to key query: response already sent");
        answerer.request(6, &respond(3, b"0.7")).await;
        assert_eq!(answerer.error(6).await, "No pending queries matching ID");

        let mut records = Vec::new();
        loop {
            let record = asker.body(2).await;
            if record.at("Type").text() == "done" {
                assert_eq!(record.at("From").text(), "");
                assert_eq!(record.at("Payload"), &Tree::Nil);
                break;
            }
            records.push((record.at("Type").text(), record.at("From").text(), record.at("Payload").clone()));
        }
        assert!(asked.elapsed() >= timeout);
        records.sort_by(|left, right| (&left.0, &left.1).cmp(&(&right.0, &right.1)));
        let record = |kind: &str, from: &str, payload| (kind.to_owned(), from.to_owned(), payload);
        assert_eq!(
            records,
            [
                record("ack", "one", Tree::Nil),
                record("ack", "two", Tree::Nil),
                record("response", "two", Tree::Bin(b"0.5".to_vec())),
            ]
        );
        // The answerer counts from when the query reached it.
        let mut seq = 6;
        eventually("the end of the query", async || {
            seq += 1;
            answerer.request(seq, &respond(1, b"late")).await;
            answerer.error(seq).await == "No pending queries matching ID"
        })
        .await;
        one.end().await;
        two.end().await;
    });
}

#[test]
fn a_monitor_shows_the_kept_lines_then_live_ones_until_it_is_stopped() {
    local(async {
        let agent = Agent::start("n", "127.16.2.8", Setup::default()).await;
        let monitor = |level: &str| Request::Monitor(MonitorRequest { log_level: level.to_owned() });
        for n in 0..600 {
            agent.backend.log.add(Level::Warn, "agent", format_args!("kept {n}"));
        }
        let mut client = agent.client().await;
        client.request(1, &monitor("warn")).await;
        assert_eq!(client.error(1).await, "");
        client.request(2, &monitor("warn")).await;
        let mut lines = Vec::new();
        // Lines of the backlog and the second reply may interleave.
        let mut refused = false;
        while lines.len() < 500 || !refused {
            let (seq, error) = client.next().await.unwrap().header().unwrap();
            if seq == 2 {
                assert_eq!(error, "Monitor already exists");
                refused = true;
            } else {
                lines.push(client.next().await.unwrap().at("Log").text());
            }
        }
        while !lines.last().unwrap().ends_with("[WARN] agent: kept 599") {
            lines.push(client.body(1).await.at("Log").text());
        }
        assert!(lines.len() <= 512 && lines.iter().all(|line| line.contains("[WARN] agent: kept ")));
        agent.backend.log.add(Level::Info, "agent", "not this one");
        agent.backend.log.add(Level::Err, "agent", "live\n");
        assert!(client.body(1).await.at("Log").text().ends_with(" [ERR] agent: live"));
        client.request(3, &stop(1)).await;
        assert_eq!(client.error(3).await, "");
        agent.backend.log.add(Level::Err, "agent", "too late");
        client.request(4, &monitor("ZIP")).await;
        assert_eq!(client.error(4).await, "Unknown log level: ZIP");
        client.request(5, &monitor("Err")).await;
        assert!(client.body_among(5).await.header().is_some(), "a new monitor may start");
        agent.end().await;
    });
}

#[test]
fn tags_are_deleted_then_set_and_kept_only_if_the_node_takes_them() {
    local(async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tags.json");
        let setup =
            Setup { tags: &[("a", "1"), ("b", "2")], tags_file: Some(file.clone()), ..Setup::default() };
        let agent = Agent::start("n", "127.16.2.9", setup).await;
        let mut client = agent.client().await;
        let change = |set: &[(&str, &str)], delete: &[&str]| {
            Request::Tags(TagsRequest {
                tags: pairs(set),
                delete_tags: delete.iter().map(|&name| name.to_owned()).collect(),
            })
        };
        client.request(1, &change(&[("a", "3"), ("c", "4")], &["a", "b", "none"])).await;
        assert_eq!(client.error(1).await, "");
        let expected = pairs(&[("a", "3"), ("c", "4")]);
        assert_eq!(*agent.backend.identity.tags.borrow(), expected);
        assert_eq!(agent.backend.handle.local_member().await.unwrap().tags, expected);
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "{\n  \"a\": \"3\",\n  \"c\": \"4\"\n}");

        client.request(2, &change(&[("long", &"x".repeat(600))], &[])).await;
        assert_eq!(client.error(2).await, "Encoded length of tags exceeds limit of 512 bytes");
        assert_eq!(*agent.backend.identity.tags.borrow(), expected);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);

        std::fs::remove_dir_all(folder.path()).unwrap();
        client.request(3, &change(&[("d", "5")], &[])).await;
        assert!(client.error(3).await.starts_with("Failed to write tags file: "));
        assert_eq!(*agent.backend.identity.tags.borrow(), expected, "the file comes first");
        agent.end().await;
    });
}

#[test]
fn leave_is_answered_before_the_agent_is_stopped_even_if_the_client_goes_away() {
    local(async {
        let agent = Agent::start("n", "127.16.2.10", Setup::default()).await;
        let mut client = agent.client().await;
        client.request(1, &Request::Leave).await;
        assert_eq!(client.error(1).await, "");
        assert_eq!(client.next().await, None);
        agent.backend.stop.notified().await;
        agent.end().await;

        let agent = Agent::start("n", "127.16.2.10", Setup::default()).await;
        let mut client = agent.client().await;
        client.request(1, &Request::Leave).await;
        drop(client);
        tokio::time::timeout(super::fixture::DEADLINE, agent.backend.stop.notified()).await.unwrap();
        agent.end().await;
    });
}

#[test]
fn a_second_leave_does_not_cut_the_first_short() {
    local(async {
        let agent = Agent::start("n", "127.16.2.13", Setup::default()).await;
        let (mut first, mut second) = (agent.client().await, agent.client().await);
        first.request(1, &Request::Leave).await;
        eventually("a leave", async || !agent.logged("agent: requesting graceful leave").is_empty()).await;
        second.request(1, &Request::Leave).await;
        assert_eq!(second.error(1).await, "Leave already in progress");
        second.request(2, &stop(0)).await;
        assert_eq!(second.error(2).await, "", "it goes on");
        agent.backend.stop.notified().await;
        assert_eq!(first.error(1).await, "");
        agent.end().await;
    });
}

#[test]
fn numbers_have_serfs_sections_and_ours() {
    local(async {
        let setup = Setup { tags: &[("role", "web")], handlers: &[("user:x", "true")], ..Setup::default() };
        let agent = Agent::start("n", "127.16.2.11", setup).await;
        let mut client = agent.client().await;
        client.request(1, &Request::Stats).await;
        let stats = client.body(1).await;
        assert_eq!(stats.at("agent").at("name").text(), "n");
        assert_eq!(stats.at("serf").at("members").text(), "1");
        assert_eq!(stats.at("serf").at("encrypted").text(), "false");
        assert_eq!(stats.at("tags").at("role").text(), "web");
        assert_eq!(stats.at("event_handlers").at("user:x").text(), "true");
        assert_eq!(stats.at("io").at("driver").text(), "portable");
        assert_eq!(stats.at("io").at("kernel_drops").text(), "0");
        assert_eq!(stats.at("drops"), &Tree::Map(Default::default()));
        agent.end().await;
    });
}

#[test]
fn events_follow_the_reply_and_a_stopped_stream_is_silent() {
    local(async {
        let agent = Agent::start("n", "127.16.2.12", Setup::default()).await;
        let mut client = agent.client().await;
        let event = |name: &str| {
            Request::Event(EventRequest { name: name.to_owned(), payload: b"p".to_vec(), coalesce: false })
        };
        client.request(1, &stream("user:a,user:b")).await;
        client.request(2, &event("a")).await;
        client.request(3, &event("c")).await;
        client.request(4, &event("b")).await;
        assert_eq!(client.error(1).await, "");
        let first = client.body_among(1).await;
        assert_eq!((first.at("Event").text(), first.at("Name").text()), ("user".into(), "a".into()));
        assert_eq!(first.at("Payload"), &Tree::Bin(b"p".to_vec()));
        assert_eq!(first.at("Coalesce"), &Tree::Bool(false));
        assert_eq!(client.body_among(1).await.at("Name").text(), "b");
        for seq in 2..=4 {
            assert_eq!(client.error(seq).await, "");
        }
        client.request(5, &stream("user")).await;
        assert_eq!(client.error(5).await, "");
        client.request(6, &stop(1)).await;
        assert_eq!(client.error(6).await, "");
        client.request(7, &event("a")).await;
        assert_eq!(client.body_among(5).await.at("Name").text(), "a");
        assert_eq!(client.error(7).await, "");
        client.request(8, &stop(0)).await;
        assert_eq!(client.error(8).await, "", "no record of the stopped stream");
        agent.end().await;
    });
}
