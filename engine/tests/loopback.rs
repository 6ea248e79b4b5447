//! Nodes on real sockets of 127.0.0.0/8, on each driver that works on this machine: join, event, query, leave,
//! restart from a snapshot.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use thane_engine::api::{
    Answer, ApiError, Engine, Handle, NodeCensus, NodeOptions, Outlet, OutletItem, ShardsOptions, StartError,
};
use thane_engine::command::{CommandError, QueryParams};
use thane_engine::config::RawConfig;
use thane_engine::event::{Event, MemberEventKind};
use thane_engine::io::{Driver, DriverChoice};
use thane_engine::view::MemberStatus;
use thane_engine::wire::LamportTime;

/// Longest wait for something that must happen. Far above the time it takes; nothing is measured.
const PATIENCE: Duration = Duration::from_secs(60);

fn drivers() -> Vec<DriverChoice> {
    let (driver, reason) = Driver::detect();
    println!("{reason}");
    match driver {
        Driver::IoUring => vec![DriverChoice::Portable, DriverChoice::IoUring],
        Driver::Portable => vec![DriverChoice::Portable],
    }
}

fn options(name: &str, ip: [u8; 4]) -> NodeOptions {
    let bind = SocketAddr::from((ip, 0));
    let config = RawConfig {
        leave_propagate_delay: Duration::from_millis(100),
        // Serf's local profile sends a broadcast twice; of four nodes one often gets neither.
        retransmit_mult: 4,
        ..RawConfig::local(name, bind)
    };
    NodeOptions::new(config, bind)
}

async fn until(outlet: &mut Outlet, mut fits: impl FnMut(&Event) -> bool) -> Event {
    let wait = async {
        loop {
            match outlet.next().await.expect("the node runs") {
                OutletItem::Event(event) if fits(&event) => return event,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it happens")
}

async fn until_status(handle: &Handle, name: &str, status: MemberStatus) {
    let wait = async {
        loop {
            let members = handle.members().await.unwrap();
            if members.iter().any(|member| member.name == name && member.status == status) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{name} becomes {status:?}"));
}

fn run(test: impl AsyncFn(DriverChoice, u8)) {
    for (place, driver) in drivers().into_iter().enumerate() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(driver, place as u8));
    }
}

#[test]
fn nodes_join_send_events_ask_and_leave() {
    run(async |driver, third| {
        let engine = Engine::start(driver).unwrap();
        let mut nodes = Vec::new();
        for n in 1..=4u8 {
            let mut options = options(&format!("n{n}"), [127, 20, third, n]);
            options.config.keys = vec![vec![9; 32]];
            nodes.push(engine.add(options).await.unwrap());
        }
        let first = nodes[0].0.bound().to_string();
        for (handle, _) in &nodes[1..] {
            assert_eq!(handle.join(std::slice::from_ref(&first), false).await, Ok(1));
        }
        for (handle, _) in &nodes {
            for n in 1..=4 {
                until_status(handle, &format!("n{n}"), MemberStatus::Alive).await;
            }
        }
        // An event reaches all nodes, the sender included.
        nodes[2].0.user_event("deploy", Bytes::from_static(b"v1"), false).await.unwrap();
        for (_, outlet) in &mut nodes {
            let event = until(outlet, |event| matches!(event, Event::User { .. })).await;
            assert!(
                matches!(event, Event::User { name, payload, .. } if name == "deploy" && payload == "v1")
            );
        }
        // A query: all nodes ack, one answers.
        let params = QueryParams {
            name: "uptime".into(),
            request_ack: true,
            timeout: Some(Duration::from_secs(3)),
            ..QueryParams::default()
        };
        let mut answers = nodes[0].0.query(params).await.unwrap();
        let (handle, outlet) = &mut nodes[3];
        let Event::Query { token, .. } = until(outlet, |event| matches!(event, Event::Query { .. })).await
        else {
            unreachable!("it was just matched")
        };
        handle.respond(token, Bytes::from_static(b"1 day")).await.unwrap();
        let again = handle.respond(token, Bytes::new()).await;
        assert_eq!(again, Err(ApiError::Command(CommandError::AlreadyResponded)));
        let (mut acks, mut responses) = (Vec::new(), Vec::new());
        while let Some(answer) = answers.next().await {
            match answer {
                Answer::Ack { from } => acks.push(from),
                Answer::Response { from, payload } => responses.push((from, payload)),
            }
        }
        acks.sort_unstable();
        assert_eq!(acks, ["n1", "n2", "n3", "n4"]);
        assert_eq!(responses, [("n4".to_owned(), Bytes::from_static(b"1 day"))]);
        // One leaves, one ends without announcing it.
        nodes[1].0.leave().await.unwrap();
        nodes[1].0.shutdown().await;
        assert_eq!(nodes[1].0.stats().await, Err(ApiError::Stopped));
        nodes[2].0.shutdown().await;
        until_status(&nodes[0].0, "n2", MemberStatus::Left).await;
        until_status(&nodes[0].0, "n3", MemberStatus::Failed).await;
        until_status(&nodes[3].0, "n3", MemberStatus::Failed).await;
        assert_eq!(nodes[0].0.stats().await.unwrap().drops, [], "nothing was refused");
        engine.stop().await;
        assert_eq!(nodes[0].0.stats().await, Err(ApiError::Stopped));
    });
}

#[test]
fn a_node_finds_back_from_its_snapshot() {
    run(async |driver, third| {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::start(driver).unwrap();
        let (seed, _seed_outlet) = engine.add(options("seed", [127, 21, third, 1])).await.unwrap();
        let with_snapshot = || options("n", [127, 21, third, 2]).snapshot(dir.path().join("snapshot"));
        let (node, _outlet) = engine.add(with_snapshot()).await.unwrap();
        node.join(&[seed.bound().to_string()], false).await.unwrap();
        let port = node.bound().port();
        node.shutdown().await;
        until_status(&seed, "n", MemberStatus::Failed).await;
        let mut again = with_snapshot();
        again.bind.set_port(port);
        again.config.advertise.set_port(port);
        let (node, mut outlet) = engine.add(again).await.unwrap();
        let seen = |event: &Event| matches!(event, Event::Member { kind: MemberEventKind::Join, members } if members.iter().any(|member| member.name == "seed"));
        until(&mut outlet, seen).await;
        until_status(&seed, "n", MemberStatus::Alive).await;
        assert_eq!(node.members().await.unwrap().len(), 2);
        engine.stop().await;
    });
}

#[test]
fn what_cannot_start_says_why() {
    run(async |driver, third| {
        let engine = Engine::start(driver).unwrap();
        let (taken, _outlet) = engine.add(options("a", [127, 22, third, 1])).await.unwrap();
        let mut same = options("b", [127, 22, third, 1]);
        same.bind = taken.bound();
        let refused = engine.add(same).await.unwrap_err();
        assert!(matches!(refused, StartError::Bind { what: "TCP", .. }), "{refused}");
        let nowhere = options("c", [127, 22, third, 1]).snapshot("/nonexistent/snapshot");
        let refused = engine.add(nowhere).await.unwrap_err().to_string();
        assert!(refused.contains("/nonexistent/snapshot"), "{refused}");
        let refused = engine.add(options("", [127, 22, third, 1])).await.unwrap_err();
        assert!(matches!(refused, StartError::Config(_)), "{refused}");
        let error = taken.join(&["127.22.9.9:9".to_owned()], false).await.unwrap_err();
        let expected = "Failed to join 127.22.9.9: dial tcp 127.22.9.9:9: connect: connection refused";
        assert_eq!(error.errors, [expected]);
        engine.stop().await;
    });
}

/// Nodes that share one socket per shard, each with its own address, find each other over all shards, receive an
/// event and detect a crash.
#[cfg(target_os = "linux")]
async fn many_behind_shared_sockets(choice: DriverChoice) {
    const NODES: u8 = 12;
    let layout = ShardsOptions { shards: 2, shared_port: Some(0) };
    let engine = Engine::start_shards(choice, &layout).unwrap();
    let port = engine.shared_port().unwrap();
    let mut nodes = Vec::new();
    for n in 1..=NODES {
        let bind = SocketAddr::from(([127, 34, 5, n], port));
        let config = RawConfig::local(format!("node-{n}"), bind);
        let options = NodeOptions::new(config, bind);
        nodes.push(engine.add(options).await.unwrap());
        nodes.last().unwrap().0.join(&[format!("127.34.5.1:{port}")], false).await.unwrap();
    }
    let bind = SocketAddr::from(([127, 34, 5, 1], port));
    let config = RawConfig::local("second", bind);
    let twice = engine.add(NodeOptions::new(config, bind)).await;
    assert!(matches!(twice, Err(StartError::Bind { what: "shared", .. })), "{twice:?}");
    until_all_stand(&engine, NODES, |standing| standing.alive == usize::from(NODES)).await;
    nodes[3].0.user_event("deploy", Bytes::new(), false).await.unwrap();
    until_all_stand(&engine, NODES, |standing| standing.event_time > LamportTime(1)).await;
    nodes[5].0.shutdown().await;
    until_all_stand(&engine, NODES - 1, |standing| standing.failed == 1).await;
    let shards = engine.census().await.unwrap();
    assert!(shards.iter().all(|shard| shard.nodes.len() >= 5), "both shards have nodes");
    engine.stop().await;
}

#[cfg(target_os = "linux")]
async fn until_all_stand(engine: &Engine, nodes: u8, fits: impl Fn(&NodeCensus) -> bool) {
    let wait = async {
        loop {
            let shards = engine.census().await.unwrap();
            let fitting = shards.iter().flat_map(|shard| &shard.nodes).filter(|node| fits(node)).count();
            if fitting == usize::from(nodes) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("all nodes come to stand so");
}

#[cfg(target_os = "linux")]
#[test]
fn many_nodes_share_a_socket_on_each_driver() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    drivers().into_iter().for_each(|choice| runtime.block_on(many_behind_shared_sockets(choice)));
}

#[test]
fn nodes_on_ipv6_loopback_find_each_other() {
    run(async |driver, _| {
        let engine = Engine::start(driver).unwrap();
        let bind: SocketAddr = "[::1]:0".parse().unwrap();
        let mut nodes = Vec::new();
        for name in ["six1", "six2", "six3"] {
            let config = RawConfig::local(name, bind);
            let options = NodeOptions { bind, config, ..options(name, [127, 0, 0, 1]) };
            nodes.push(engine.add(options).await.unwrap());
        }
        // With brackets and port, and with a node name before it.
        let port = nodes[0].0.bound().port();
        assert_eq!(nodes[1].0.join(&[format!("[::1]:{port}")], false).await, Ok(1));
        assert_eq!(nodes[2].0.join(&[format!("six1/[::1]:{port}")], false).await, Ok(1));
        for (handle, _) in &nodes {
            for name in ["six1", "six2", "six3"] {
                until_status(handle, name, MemberStatus::Alive).await;
            }
        }
        nodes[2].0.user_event("deploy", Bytes::new(), false).await.unwrap();
        for (_, outlet) in &mut nodes {
            until(outlet, |event| matches!(event, Event::User { .. })).await;
        }
        nodes[1].0.shutdown().await;
        until_status(&nodes[0].0, "six2", MemberStatus::Failed).await;
        until_status(&nodes[2].0, "six2", MemberStatus::Failed).await;
        engine.stop().await;
    });
}

#[test]
fn every_address_of_a_name_is_tried() {
    run(async |driver, _| {
        let engine = Engine::start(driver).unwrap();
        let (v4, _v4_outlet) = engine.add(options("v4", [127, 0, 0, 1])).await.unwrap();
        let port = v4.bound().port();
        // The name's other addresses: where no node listens, the join goes on with the next one.
        let found: Vec<SocketAddr> = tokio::net::lookup_host(("localhost", port)).await.unwrap().collect();
        let mut listeners = 0;
        let mut other = Vec::new();
        for &addr in &found {
            if addr.is_ipv6() {
                let config = RawConfig::local("v6", addr);
                other.push(
                    engine
                        .add(NodeOptions { config, bind: addr, ..options("v6", [127, 0, 0, 1]) })
                        .await
                        .unwrap(),
                );
            }
            listeners += 1;
        }
        assert!(listeners > 0);
        let (joiner, _joiner_outlet) = engine.add(options("joiner", [127, 0, 0, 1])).await.unwrap();
        let joined =
            joiner.join(&[format!("localhost:{port}"), "no-such-host.invalid".to_owned()], false).await;
        assert_eq!(joined, Ok(listeners), "of {found:?}");
        engine.stop().await;
    });
}
