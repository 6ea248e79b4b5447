//! One fleet's life: it is started, comes to know itself, hears an event, loses a node. Everything is read off
//! the nodes' own views.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thane_engine::api::{Engine, Handle, NodeCensus, NodeOptions, ShardCensus, ShardsOptions};
use thane_engine::config::RawConfig;
use thane_engine::event::Event;
use thane_engine::random::Random;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::options::Options;
use crate::process;

/// Between two looks at all nodes: a look at a thousand takes their shards some hundred microseconds.
const LOOK: Duration = Duration::from_millis(10);
/// The name of the event that is sent.
const EVENT: &str = "deploy";
/// Quiet between two measurements.
const SETTLE: Duration = Duration::from_secs(3);

/// Runs the fleet and prints what it took.
///
/// # Errors
/// One line: nodes can't be started, or something took too long; what was measured until then is printed.
pub(crate) async fn measure(options: &Options) -> Result<(), String> {
    let fleet = Fleet::start(options).await?;
    let result = fleet.live().await;
    fleet.engine.stop().await;
    result
}

struct Fleet<'a> {
    options: &'a Options,
    engine: Engine,
    nodes: Vec<Handle>,
}

impl<'a> Fleet<'a> {
    async fn start(options: &'a Options) -> Result<Fleet<'a>, String> {
        let layout = ShardsOptions { shards: options.shards, shared_port: Some(options.port) };
        let engine = Engine::start_shards(options.driver, &layout).map_err(|error| {
            format!("can't start {} shards on port {}: {error}", options.shards, options.port)
        })?;
        let Options { nodes: count, shards, .. } = options;
        println!("{count} nodes on {shards} shards, {}", engine.driver_reason());
        let started = Instant::now();
        let mut nodes = Vec::with_capacity(*count);
        for n in 0..*count {
            let bind = SocketAddr::from((options.ip(n), options.port));
            let mut config = RawConfig::lan(format!("node-{n:05}"), bind);
            config.compression = options.compress;
            let node = NodeOptions::new(config, bind);
            // The events are for nobody: the fleet is watched by its views.
            let (handle, _) = engine
                .add(node)
                .await
                .map_err(|error| format!("can't start node {n} of {count}: {error}"))?;
            nodes.push(handle);
        }
        row("nodes started", seconds(started.elapsed()));
        Ok(Fleet { options, engine, nodes })
    }

    async fn live(&self) -> Result<(), String> {
        self.join_all().await?;
        tokio::time::sleep(SETTLE).await;
        self.idle().await?;
        self.event().await?;
        self.crash().await?;
        self.sums().await
    }

    async fn join_all(&self) -> Result<(), String> {
        let (start, cpu) = (Instant::now(), process::cpu(std::process::id()));
        for _ in 0..self.options.passes.max(1) {
            self.join_once(start).await?;
        }
        let count = self.nodes.len();
        self.until("full views", count, start, |node| node.alive == count).await?;
        row("full views", seconds(start.elapsed()));
        let used = process::cpu(std::process::id()) - cpu;
        row("CPU until then", seconds(used));
        row("CPU a node", format!("{:.2} ms", used.as_secs_f64() * 1e3 / count as f64));
        row("RSS then", megabytes("VmRSS:"));
        let sums = Sums::of(&self.look().await?);
        row("datagrams a node until then", format!("{:.0}", sums.received as f64 / count as f64));
        Ok(())
    }

    /// Every node joins, a few at a time: through one that joined before it, or through the first.
    async fn join_once(&self, start: Instant) -> Result<(), String> {
        let mut random = Random::new(1);
        let mut waiting: VecDeque<usize> = (1..self.nodes.len()).collect();
        let (mut joined, mut failed) = (vec![0], 0);
        let mut joins = JoinSet::new();
        while !waiting.is_empty() || !joins.is_empty() {
            while joins.len() < self.options.joining
                && let Some(n) = waiting.pop_front()
            {
                let seeds = if self.options.passes > 1 { 1 } else { joined.len() as u32 };
                let seed = joined[random.below(seeds) as usize];
                let entry = [SocketAddr::from((self.options.ip(seed), self.options.port)).to_string()];
                let node = self.nodes[n].clone();
                joins.spawn(async move { (n, node.join(&entry, false).await) });
            }
            match joins.join_next().await {
                Some(Ok((n, Ok(_)))) => joined.push(n),
                Some(Ok((n, Err(_)))) => {
                    failed += 1;
                    waiting.push_back(n);
                }
                Some(Err(error)) => return Err(format!("a join ended early: {error}")),
                None => {}
            }
            if start.elapsed() > self.options.within {
                return Err(format!("only {} of {} joined in time", joined.len(), self.nodes.len()));
            }
        }
        row("all joined", seconds(start.elapsed()));
        row("joins that had to be repeated", failed.to_string());
        Ok(())
    }

    async fn idle(&self) -> Result<(), String> {
        let (before, cpu) = (Sums::of(&self.look().await?), process::cpu(std::process::id()));
        tokio::time::sleep(self.options.idle).await;
        let (after, used) = (Sums::of(&self.look().await?), process::cpu(std::process::id()) - cpu);
        let per = self.options.idle.as_secs_f64().max(0.001) * self.nodes.len() as f64;
        row(
            "idle: CPU of one processor",
            format!("{:.1} %", used.as_secs_f64() * 100.0 / self.options.idle.as_secs_f64().max(0.001)),
        );
        row("idle: CPU a node", format!("{:.1} ms a minute", used.as_secs_f64() * 6e4 / per));
        row(
            "idle: datagrams a node",
            format!("{:.1} a second", (after.received - before.received) as f64 / per),
        );
        row("idle: bytes a node", format!("{:.0} a second", (after.bytes - before.bytes) as f64 / per));
        Ok(())
    }

    /// Sends an event and watches it arrive at every node.
    async fn event(&self) -> Result<(), String> {
        let count = self.nodes.len();
        let (arrived_in, mut arrived) = mpsc::unbounded_channel();
        let mut watching = JoinSet::new();
        for mut watch in self.engine.watch() {
            let arrived = arrived_in.clone();
            watching.spawn(async move {
                while let Some(told) = watch.next().await {
                    if matches!(&told.1.event, Event::User { name, .. } if name == EVENT) {
                        // The other side ends when it has heard enough.
                        let _ = arrived.send(Instant::now());
                    }
                }
            });
        }
        let start = Instant::now();
        let payload = Bytes::from_static(b"v1");
        self.nodes[count / 2].user_event(EVENT, payload, false).await.map_err(|error| error.to_string())?;
        let mut times = Vec::with_capacity(count);
        while times.len() < count {
            let left = self.options.within.saturating_sub(start.elapsed());
            let Ok(Some(at)) = tokio::time::timeout(left, arrived.recv()).await else {
                return Err(format!("an event: {} of {count} nodes in time", times.len()));
            };
            times.push(at - start);
        }
        times.sort_unstable();
        row("event at half the nodes", seconds(times[count / 2]));
        row("event at 99 % of the nodes", seconds(times[count * 99 / 100]));
        row("event at all nodes", seconds(times[count - 1]));
        Ok(())
    }

    async fn crash(&self) -> Result<(), String> {
        let false_ones = |shards: &[ShardCensus]| {
            shards.iter().flat_map(|shard| &shard.nodes).map(|node| node.failed).max().unwrap_or(0)
        };
        row("falsely failed before the crash", false_ones(&self.look().await?).to_string());
        let (count, start) = (self.nodes.len() - 1, Instant::now());
        self.nodes[count / 3].shutdown().await;
        self.until("a crash", 1, start, |node| node.failed > 0).await?;
        row("crash noticed by the first", seconds(start.elapsed()));
        self.until("a crash", count, start, |node| node.failed > 0).await?;
        row("crash noticed by all", seconds(start.elapsed()));
        row("falsely failed after it", (false_ones(&self.look().await?) - 1).to_string());
        Ok(())
    }

    async fn sums(&self) -> Result<(), String> {
        let sums = Sums::of(&self.look().await?);
        row("peak RSS", megabytes("VmHWM:"));
        row("datagrams received", sums.received.to_string());
        row("dropped by the kernel", sums.kernel_drops.to_string());
        row("not sent (buffer full, error)", sums.unsent.to_string());
        row("refused inputs", sums.refused.to_string());
        Ok(())
    }

    /// Looks until `count` nodes stand so.
    async fn until(
        &self,
        what: &str,
        count: usize,
        start: Instant,
        fits: impl Fn(&NodeCensus) -> bool,
    ) -> Result<(), String> {
        loop {
            let shards = self.look().await?;
            let fitting = shards.iter().flat_map(|shard| &shard.nodes).filter(|node| fits(node)).count();
            if fitting >= count {
                return Ok(());
            }
            if start.elapsed() > self.options.within {
                self.sums().await?;
                let within = self.options.within.as_secs();
                return Err(format!("{what}: {fitting} of {count} nodes after {within} s"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self) -> Result<Vec<ShardCensus>, String> {
        self.engine.census().await.map_err(|error| format!("can't look at the nodes: {error}"))
    }
}

/// What all nodes did together.
struct Sums {
    received: u64,
    bytes: u64,
    kernel_drops: u64,
    unsent: u64,
    refused: u64,
}

impl Sums {
    fn of(shards: &[ShardCensus]) -> Sums {
        let nodes = || shards.iter().flat_map(|shard| &shard.nodes);
        Sums {
            received: nodes().map(|node| node.datagrams.0).sum(),
            bytes: nodes().map(|node| node.datagram_bytes.1).sum(),
            kernel_drops: shards.iter().map(|shard| shard.udp.kernel_drops).sum(),
            unsent: shards.iter().map(|shard| shard.udp.send_would_block + shard.udp.send_errors).sum(),
            refused: nodes().map(|node| node.drops).sum(),
        }
    }
}

fn row(name: &str, value: String) {
    println!("{name:<32} {value:>16}");
}

fn seconds(span: Duration) -> String {
    format!("{:.3} s", span.as_secs_f64())
}

fn megabytes(field: &str) -> String {
    let kb = process::status_kb(std::process::id(), field).unwrap_or(0);
    format!("{:.1} MB", kb as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_small_fleet_lives_its_whole_life() {
        let arguments = ["--nodes", "8", "--shards", "2", "--port", "27947", "--idle", "0"];
        let arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
        let options = Options::parse(&arguments).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(measure(&options)).unwrap();
    }
}
