//! The phases of a fleet: start, join, idle, an event, a crash. All measures come from the nodes' own views.

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
use super::record::{Record, Sums, rss_mb};
use crate::addresses::Addresses;
use crate::progress::{Progress, Step};
use crate::report::{Ended, Line, Report, kinds};
use crate::stop::{STOPPED, Stop};

/// Between two looks at all nodes: a look at a thousand takes their shards some hundred microseconds.
const LOOK: Duration = Duration::from_millis(10);
/// Between two looks where only curves are drawn.
const SAMPLE: Duration = Duration::from_millis(250);
/// The name of the event that is sent.
const EVENT: &str = "deploy";
/// Quiet between two measurements.
const SETTLE: Duration = Duration::from_secs(3);

/// Runs the fleet. Returns its report, and the error that ended it early, if any.
///
/// # Errors
/// One line: the nodes can't be started, so there is nothing to report.
pub(crate) async fn measure(
    options: &Options,
    addresses: Addresses,
    stop: &Stop,
) -> Result<(Report, Result<(), String>), String> {
    let mut fleet = Fleet::start(options, addresses, stop).await?;
    let result = fleet.phases().await;
    fleet.progress.clear();
    let Fleet { engine, mut record, .. } = fleet;
    engine.stop().await;
    match &result {
        Ok(()) => record.end(Ended::Complete, ""),
        Err(error) if error == STOPPED => record.end(Ended::Stopped, "by a signal"),
        Err(error) => record.end(Ended::Failed, error),
    }
    Ok((record.report, result))
}

struct Fleet<'a> {
    options: &'a Options,
    addresses: Addresses,
    stop: &'a Stop,
    engine: Engine,
    nodes: Vec<Handle>,
    record: Record,
    progress: Progress,
}

impl<'a> Fleet<'a> {
    async fn start(options: &'a Options, addresses: Addresses, stop: &'a Stop) -> Result<Fleet<'a>, String> {
        let layout = ShardsOptions { shards: options.shards, shared_port: Some(options.port) };
        let engine = Engine::start_shards(options.driver, &layout).map_err(|error| {
            format!("can't start {} shards on port {}: {error}", options.shards, options.port)
        })?;
        let (count, shards) = (options.nodes(), options.shards);
        eprintln!("{count} nodes on {shards} shards, {}", engine.driver_reason());
        let progress = Progress::default();
        progress.phase("start");
        let record = Record::new(options, engine.driver_reason());
        let mut nodes = Vec::with_capacity(count);
        for n in 0..count {
            let bind = SocketAddr::from((addresses.ip(n), options.port));
            let mut config = RawConfig::of(options.profile, format!("node-{n:05}"), bind);
            config.compression = options.compress;
            config.dissemination = options.policy();
            // No outlet reads the events: the fleet is watched by its views.
            let (handle, _) = engine
                .add(NodeOptions::new(config, bind))
                .await
                .map_err(|error| format!("can't start node {n} of {count}: {error}"))?;
            nodes.push(handle);
            progress.step(Step { done: n as f64, total: count as f64, unit: "nodes", detail: "" });
            stop.check()?;
        }
        Ok(Fleet { options, addresses, stop, engine, nodes, record, progress })
    }

    async fn phases(&mut self) -> Result<(), String> {
        self.record.mark("joins begin");
        self.join_all().await?;
        self.rest("settle", SETTLE).await?;
        self.idle().await?;
        self.event().await?;
        self.crash().await
    }

    async fn join_all(&mut self) -> Result<(), String> {
        let (start, before) = (Instant::now(), Sums::of(&self.look().await?));
        for _ in 0..self.options.passes {
            self.join_once(start).await?;
        }
        let count = self.nodes.len();
        self.until("full views", count, start, |node| node.alive == count, |_, _| ()).await?;
        let sums = Sums::of(&self.look().await?);
        self.record.mark("full views");
        self.record.add(&kinds::FULL_VIEWS, start.elapsed().as_secs_f64());
        let cpu = sums.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e3 / count as f64;
        self.record.add(&kinds::JOIN_CPU, cpu);
        self.record.add(&kinds::MEMORY, rss_mb("VmRSS:"));
        Ok(())
    }

    /// Every node joins, a few at a time: through one that joined before it, or through the first.
    async fn join_once(&mut self, start: Instant) -> Result<(), String> {
        let mut random = Random::new(1);
        let mut waiting: VecDeque<usize> = (1..self.nodes.len()).collect();
        let mut joined = vec![0];
        let mut joins = JoinSet::new();
        self.progress.phase("join");
        while !waiting.is_empty() || !joins.is_empty() {
            while joins.len() < self.options.joining as usize
                && let Some(n) = waiting.pop_front()
            {
                let seeds = if self.options.passes > 1 { 1 } else { joined.len() as u32 };
                let seed = joined[random.below(seeds) as usize];
                let entry = [SocketAddr::from((self.addresses.ip(seed), self.options.port)).to_string()];
                let node = self.nodes[n].clone();
                joins.spawn(async move { (n, node.join(&entry, false).await) });
            }
            match joins.join_next().await {
                Some(Ok((n, Ok(_)))) => joined.push(n),
                Some(Ok((n, Err(_)))) => waiting.push_back(n),
                Some(Err(error)) => return Err(format!("a join ended early: {error}")),
                None => {}
            }
            self.stop.check()?;
            if self.record.wants_sample() {
                let shards = self.look().await?;
                self.show(joined.len(), self.nodes.len(), &shards);
            }
            if start.elapsed() > self.options.within {
                return Err(format!("only {} of {} joined in time", joined.len(), self.nodes.len()));
            }
        }
        Ok(())
    }

    async fn idle(&mut self) -> Result<(), String> {
        let (before, start) = (Sums::of(&self.look().await?), Instant::now());
        self.record.mark("idle");
        self.rest("idle", self.options.idle).await?;
        let (after, seconds) = (Sums::of(&self.look().await?), start.elapsed().as_secs_f64());
        if self.options.idle.is_zero() {
            return Ok(());
        }
        let per = seconds * self.nodes.len() as f64;
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        self.record.add(&kinds::IDLE_CPU, cpu * 6e4 / per);
        self.record.add(&kinds::IDLE_PACKETS, (after.sent - before.sent) as f64 / per);
        self.record.add(&kinds::IDLE_BYTES, (after.bytes_sent - before.bytes_sent) as f64 / per);
        Ok(())
    }

    /// Sends an event and times its delivery at every node.
    async fn event(&mut self) -> Result<(), String> {
        let count = self.nodes.len();
        let (arrived_in, mut arrived) = mpsc::unbounded_channel();
        let mut watching = JoinSet::new();
        for mut watch in self.engine.watch() {
            let arrived = arrived_in.clone();
            watching.spawn(async move {
                while let Some(seen) = watch.next().await {
                    if matches!(&seen.1.event, Event::User { name, .. } if name == EVENT) {
                        // The receiver is dropped once all deliveries are there.
                        let _ = arrived.send(Instant::now());
                    }
                }
            });
        }
        self.record.mark("event");
        self.progress.phase("event");
        let start = Instant::now();
        let payload = Bytes::from_static(b"v1");
        self.nodes[count / 2].user_event(EVENT, payload, false).await.map_err(|error| error.to_string())?;
        let mut times = Vec::with_capacity(count);
        while times.len() < count && start.elapsed() < self.options.within {
            self.stop.check()?;
            if let Ok(Some(at)) = tokio::time::timeout(SAMPLE, arrived.recv()).await {
                times.push(at.saturating_duration_since(start).as_secs_f64());
            }
            if self.record.wants_sample() {
                let shards = self.look().await?;
                self.show(times.len(), count, &shards);
            }
        }
        times.sort_unstable_by(f64::total_cmp);
        let reached = times.iter().enumerate().map(|(n, at)| (*at, 100.0 * (n + 1) as f64 / count as f64));
        let line = Line::new("all events", reached.collect());
        self.record.subject().curves.push(kinds::EVENT_REACH.curve(0, vec![line]));
        self.record.add(&kinds::EVENT_MISSED, (count - times.len()) as f64);
        for (kind, share) in [
            (&kinds::EVENT_P50, 0.5),
            (&kinds::EVENT_P99, 0.99),
            (&kinds::EVENT_P999, 0.999),
            (&kinds::EVENT_ALL, 1.0),
        ] {
            // The time at which that share of all nodes has it.
            let place = (count as f64 * share).ceil() as usize - 1;
            times.get(place).into_iter().for_each(|at| self.record.add(kind, *at));
        }
        match times.len() {
            all if all == count => Ok(()),
            some => Err(format!("an event: {some} of {count} nodes in time")),
        }
    }

    async fn crash(&mut self) -> Result<(), String> {
        let (count, start) = (self.nodes.len() - 1, Instant::now());
        self.record.mark("crash");
        self.nodes[count / 3].shutdown().await;
        let mut points = vec![(0.0, 0.0)];
        let watched = |at: f64, known: usize| {
            if points.last().is_some_and(|last| last.1 < known as f64) {
                points.push((at, known as f64));
            }
        };
        let result = self.until("a crash", count, start, |node| node.failed > 0, watched).await;
        let at_share = |share: f64| {
            points.iter().find(|point| point.1 >= (count as f64 * share).max(1.0)).map(|point| point.0)
        };
        for (kind, share) in [
            (&kinds::CRASH_FIRST, 0.0),
            (&kinds::CRASH_P50, 0.5),
            (&kinds::CRASH_P99, 0.99),
            (&kinds::CRASH_ALL, 1.0),
        ] {
            at_share(share).into_iter().for_each(|at| self.record.add(kind, at));
        }
        let shares = points.iter().map(|(at, known)| (*at, 100.0 * known / count as f64)).collect();
        let curve = kinds::CRASH_REACH.curve(0, vec![Line::new("all", shares)]);
        self.record.subject().curves.push(curve);
        result
    }

    /// Looks until `count` nodes fit; `watched` gets the seconds and their number at each look.
    async fn until(
        &mut self,
        what: &str,
        count: usize,
        start: Instant,
        fits: impl Fn(&NodeCensus) -> bool,
        mut watched: impl FnMut(f64, usize),
    ) -> Result<(), String> {
        self.progress.phase(what);
        loop {
            self.stop.check()?;
            let shards = self.look().await?;
            let fitting = shards.iter().flat_map(|shard| &shard.nodes).filter(|node| fits(node)).count();
            watched(start.elapsed().as_secs_f64(), fitting);
            self.show(fitting, count, &shards);
            if fitting >= count {
                return Ok(());
            }
            if start.elapsed() > self.options.within {
                let within = self.options.within.as_secs();
                return Err(format!("{what}: {fitting} of {count} nodes after {within} s"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Samples during that span.
    async fn rest(&mut self, phase: &str, span: Duration) -> Result<(), String> {
        self.progress.phase(phase);
        let end = Instant::now() + span;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.stop.check()?;
            let shards = self.look().await?;
            self.record.sample(&shards);
            let (done, total) = (span.saturating_sub(left).as_secs_f64(), span.as_secs_f64());
            self.progress.step(Step { done, total, unit: "s", detail: "" });
            tokio::time::sleep(left.min(SAMPLE)).await;
        }
        Ok(())
    }

    /// Samples and shows how far a phase is.
    fn show(&mut self, done: usize, total: usize, shards: &[ShardCensus]) {
        let detail = format!("{:.1} % of the views full", self.record.sample(shards));
        let step = Step { done: done as f64, total: total as f64, unit: "nodes", detail: &detail };
        self.progress.step(step);
    }

    async fn look(&self) -> Result<Vec<ShardCensus>, String> {
        self.engine.census().await.map_err(|error| format!("can't look at the nodes: {error}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fleet::options::tests::parse;

    fn run(line: &str, stop: &Stop) -> (Report, Result<(), String>) {
        let options = parse(line).unwrap();
        let addresses = options.addresses().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(measure(&options, addresses, stop)).unwrap()
    }

    #[test]
    fn a_small_fleet_goes_through_all_phases() {
        let (report, result) = run("--nodes 8 --shards 2 --port 27947 --idle 1500ms", &Stop::default());
        assert_eq!((result, report.check()), (Ok(()), Ok(())));
        let subject = &report.subjects[0];
        for kind in [kinds::FULL_VIEWS, kinds::IDLE_BYTES, kinds::EVENT_ALL, kinds::CRASH_ALL] {
            assert!(subject.measure(kind.id).is_some_and(|measure| measure.values[0] > 0.0), "{}", kind.id);
        }
        assert_eq!(subject.measure(kinds::EVENT_MISSED.id).unwrap().values, [0.0]);
        for kind in [kinds::MEMBERS_KNOWN, kinds::EVENT_REACH, kinds::CRASH_REACH, kinds::BYTES, kinds::RSS] {
            let curve = subject.curves.iter().find(|curve| curve.id == kind.id).unwrap();
            assert!(!curve.lines[0].points.is_empty(), "{}", kind.id);
        }
        assert_eq!(subject.runs[0].ended, Ended::Complete);
    }

    #[test]
    fn a_fleet_that_ends_early_has_a_report_too() {
        let line = "--nodes 8 --shards 2 --port 27948 --first 127.34.17.1 --idle 1h --within 0s";
        let (report, result) = run(line, &Stop::default());
        assert!(result.unwrap_err().contains("in time"));
        assert_eq!(report.subjects[0].runs[0].ended, Ended::Failed);
        report.check().unwrap();
    }
}
