//! Streams by TLS between nodes of this process: big states, members that announced it, members that require it, and
//! peers that send what is no TLS.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, unreachable_pub, reason = "the agent's tests take more of it")]
#[path = "../../cli/tests/common/certificates.rs"]
mod certificates;
#[path = "common/live.rs"]
mod live;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certificates::{Authority, Pair};
use live::{run, until};
use thane_engine::api::{Engine, Handle, NodeOptions};
use thane_engine::delegate::Delegate;
use thane_engine::drop_reason::DropReason;
use thane_engine::io::DriverChoice;
use thane_engine::tls::{GossipTls, Own};

fn tls(pair: &Pair, ca: &Authority, required: bool) -> Arc<GossipTls> {
    let own = Own { cert: pair.cert.clone(), key: pair.key.clone() };
    Arc::new(GossipTls::new(&own, &ca.file(), required).unwrap())
}

fn options(name: &str, tls: Option<Arc<GossipTls>>) -> NodeOptions {
    let options = NodeOptions::local(name, ([127, 40, 2, 1], 0));
    tls.into_iter().fold(options, NodeOptions::tls)
}

async fn add(engine: &Engine, name: &str, tls: Option<Arc<GossipTls>>) -> Handle {
    engine.add(options(name, tls)).await.unwrap().0
}

async fn join(node: &Handle, to: SocketAddr) -> Result<usize, String> {
    node.join(&[to.to_string()], false).await.map_err(|error| error.to_string())
}

async fn dropped(node: &Handle, reason: DropReason) -> u64 {
    node.stats().await.unwrap().protocol.drops(reason)
}

/// Gives a state, and keeps the last one that it is given.
struct Big(Vec<u8>, Arc<Mutex<Vec<u8>>>);

impl Delegate for Big {
    fn local_state(&mut self, _join: bool) -> Vec<u8> {
        self.0.clone()
    }

    fn merge_state(&mut self, state: &[u8], _join: bool) {
        *self.1.lock().unwrap() = state.to_vec();
    }
}

#[test]
fn states_of_megabytes_arrive_in_both_directions() {
    run(async {
        let (engine, ca) = (Engine::start(DriverChoice::Auto).unwrap(), Authority::new());
        let tls = tls(&ca.issue("node", "DNS:node"), &ca, true);
        let (mut nodes, mut states, mut received) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..2_u32 {
            let state: Vec<u8> =
                (0..3_000_000_u32).map(|place| (place.wrapping_mul(2_654_435_761 + n) >> 24) as u8).collect();
            let of_other = Arc::<Mutex<Vec<u8>>>::default();
            let big = Big(state.clone(), of_other.clone());
            let options = options(&format!("n{n}"), Some(tls.clone())).configure(|config| {
                // A build without optimization compresses for seconds.
                config.compression = false;
                config.tcp_timeout = Duration::from_secs(30);
            });
            let options = options.plain_swim().delegate(big);
            nodes.push(engine.add(options).await.unwrap().0);
            states.push(state);
            received.push(of_other);
        }
        assert_eq!(join(&nodes[1], nodes[0].bound()).await, Ok(1));
        until(async || *received[0].lock().unwrap() == states[1]).await;
        assert!(*received[1].lock().unwrap() == states[0]);
    });
}

#[test]
fn a_member_that_announced_tls_is_dialled_by_it_and_plain_streams_are_refused_where_it_is_required() {
    run(async {
        let (engine, ca) = (Engine::start(DriverChoice::Auto).unwrap(), Authority::new());
        let pair = ca.issue("node", "DNS:node");
        let strict = add(&engine, "strict", Some(tls(&pair, &ca, true))).await;
        let open = add(&engine, "open", Some(tls(&pair, &ca, false))).await;
        let plain = add(&engine, "plain", None).await;

        // Nothing is known of the other side yet, so the stream is plain.
        assert!(join(&open, strict.bound()).await.is_err());
        assert_eq!(dropped(&strict, DropReason::TlsRequired).await, 1);
        assert_eq!(join(&strict, open.bound()).await, Ok(1));
        until(async || join(&open, strict.bound()).await == Ok(1)).await;

        assert!(join(&plain, strict.bound()).await.is_err());
        assert!(join(&strict, plain.bound()).await.unwrap_err().contains("TLS with 127.40.2.1:"));
        assert_eq!(join(&plain, open.bound()).await, Ok(1), "a plain member and one that also takes TLS");
        until(async || open.members().await.unwrap().len() == 3).await;
        assert_eq!(join(&open, plain.bound()).await, Ok(1));
    });
}

#[test]
fn certificates_of_another_ca_are_refused_on_both_sides_until_a_reload() {
    run(async {
        let engine = Engine::start(DriverChoice::Auto).unwrap();
        let (ca, stranger) = (Authority::new(), Authority::new());
        let (pair, foreign) = (ca.issue("node", "DNS:node"), stranger.issue("node", "DNS:node"));
        let node = add(&engine, "node", Some(tls(&pair, &ca, true))).await;
        let other = add(&engine, "other", Some(tls(&foreign, &stranger, true))).await;
        let error = join(&other, node.bound()).await.unwrap_err();
        assert!(error.contains("its certificate is not signed by the CA of the CA file"), "{error}");
        // It takes the certificate, but its own is of the other CA.
        let half = tls(&foreign, &ca, true);
        let third = add(&engine, "third", Some(half.clone())).await;
        let error = join(&third, node.bound()).await.unwrap_err();
        assert!(error.contains("refuses this side's certificate"), "{error}");
        until(async || dropped(&node, DropReason::TlsRefused).await == 2).await;

        let broken = Own { cert: ca.path("none"), key: pair.key.clone() };
        assert!(half.reload(&broken, &ca.file()).is_err());
        assert!(join(&third, node.bound()).await.is_err(), "a failed reload changes nothing");
        let own = Own { cert: pair.cert.clone(), key: pair.key.clone() };
        half.reload(&own, &ca.file()).unwrap();
        assert_eq!(join(&third, node.bound()).await, Ok(1));
    });
}

#[test]
fn what_begins_as_tls_and_is_none_is_refused_and_counted() {
    run(async {
        let (engine, ca) = (Engine::start(DriverChoice::Auto).unwrap(), Authority::new());
        let node = add(&engine, "node", Some(tls(&ca.issue("node", "DNS:node"), &ca, false))).await;
        let to = node.bound();
        let received = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(to).unwrap();
            stream.write_all(&[0x16, 3, 1, 0, 4, 9, 9, 9, 9]).unwrap();
            let mut received = Vec::new();
            // A reset is as good as an end.
            let _ = stream.read_to_end(&mut received);
            received
        });
        let received = received.await.unwrap();
        assert!(received.is_empty() || received[0] == 0x15, "an alert at most: {received:?}");
        until(async || dropped(&node, DropReason::TlsRefused).await == 1).await;
    });
}
