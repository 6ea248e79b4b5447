//! The agents of the demo, and the measurements of what they report.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thane_engine::api::{Answer, Engine, Handle, NodeOptions, Outlet, OutletItem};
use thane_engine::command::QueryParams;
use thane_engine::config::RawConfig;
use thane_engine::event::{Event, MemberEventKind};
use thane_engine::io::DriverChoice;
use tokio::sync::{broadcast, mpsc};

use super::PATIENCE;
use super::show::{Cell, Show};

/// The addresses of the demo: 127.77.0.1 and up.
const NETWORK: [u8; 3] = [127, 77, 0];

/// Events that the HTTP port may be behind.
const EVENTS_WAITING_MAX: usize = 512;

/// The running agents.
pub(super) struct Cluster {
    engine: Engine,
    agents: Vec<Handle>,
    reports: mpsc::UnboundedReceiver<Report>,
    /// The events of the first agent, for the HTTP port.
    events: broadcast::Sender<Arc<Event>>,
    started: Instant,
    started_in: Duration,
}

/// An event of an agent, and when it arrived.
struct Report {
    agent: usize,
    at: Instant,
    event: Event,
}

/// How fast the agents learned of something.
pub(super) struct Spread {
    reached: usize,
    of: usize,
    /// Time until the first agent knew.
    first: Duration,
    /// Time until half of them knew.
    pub(super) half: Duration,
    /// Time until the last one knew.
    pub(super) last: Duration,
}

/// The result of a query.
#[derive(Default)]
pub(super) struct QueryOutcome {
    pub(super) acks: usize,
    pub(super) responses: usize,
    /// Time until the last ack or response.
    pub(super) last: Duration,
}

/// The traffic of all agents.
pub(super) struct Traffic {
    pub(super) took: Duration,
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    /// Refused input: agent, reason and count.
    pub(super) drops: Vec<String>,
}

impl Cluster {
    /// Starts the agents; they do not know each other yet.
    pub(super) async fn start(count: usize, driver: DriverChoice) -> Result<Cluster, String> {
        let started = Instant::now();
        let engine = Engine::start(driver).map_err(|error| format!("can't start the engine: {error}"))?;
        let (reports_in, reports) = mpsc::unbounded_channel();
        let (events, _) = broadcast::channel(EVENTS_WAITING_MAX);
        let mut agents = Vec::with_capacity(count);
        for n in 0..count {
            let [a, b, c] = NETWORK;
            let bind = SocketAddr::from(([a, b, c, n as u8 + 1], 0));
            let config = RawConfig::lan(format!("agent-{:02}", n + 1), bind);
            let (handle, outlet) =
                engine.add(NodeOptions::new(config, bind)).await.map_err(|error| error.to_string())?;
            let shown = (n == 0).then(|| events.clone());
            tokio::spawn(forward(n, handle.clone(), outlet, reports_in.clone(), shown));
            agents.push(handle);
        }
        let started_in = started.elapsed();
        Ok(Cluster { engine, agents, reports, events, started, started_in })
    }

    pub(super) fn name(&self, agent: usize) -> &str {
        self.agents[agent].name()
    }

    pub(super) fn addr(&self, agent: usize) -> std::net::IpAddr {
        self.agents[agent].bound().ip()
    }

    /// The first agent, with its events.
    pub(super) fn first(&self) -> (Handle, broadcast::Sender<Arc<Event>>) {
        (self.agents[0].clone(), self.events.clone())
    }

    pub(super) fn driver(&self) -> String {
        self.engine.driver().to_string()
    }

    pub(super) fn driver_reason(&self) -> &str {
        self.engine.driver_reason()
    }

    pub(super) fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Joins all agents through the first one. Returns when every agent lists all.
    pub(super) async fn join_all(&mut self, show: &mut Show) -> Result<Duration, String> {
        let begun = Instant::now();
        let seed = [self.agents[0].bound().to_string()];
        for agent in &self.agents[1..] {
            let (agent, seed) = (agent.clone(), seed.clone());
            // A failed join shows in the views below.
            tokio::spawn(async move { agent.join(&seed, false).await });
        }
        let count = self.agents.len();
        let mut seen = vec![BTreeSet::new(); count];
        show.cell(0, Cell::Alive);
        let mut full = 0;
        while full < count {
            let report = self.next_report("a full view of every agent").await?;
            let Event::Member { kind: MemberEventKind::Join, members } = report.event else { continue };
            for member in members.iter() {
                seen[report.agent].insert(member.name.to_owned());
            }
            if seen[report.agent].len() == count {
                full += 1;
                show.cell(report.agent, Cell::Alive);
            }
            show.progress(&format!("{full} of {count} agents list all members"));
        }
        Ok(begun.elapsed())
    }

    /// One agent sends an event.
    pub(super) async fn event(
        &mut self,
        from: usize,
        name: &str,
        payload: &'static str,
        to: &[usize],
        show: &mut Show,
    ) -> Result<Spread, String> {
        let begun = Instant::now();
        let sent = self.agents[from].user_event(name, Bytes::from_static(payload.as_bytes()), false).await;
        sent.map_err(|error| error.to_string())?;
        let is_it = |event: &Event| matches!(event, Event::User { name: known, .. } if known == name);
        self.spread(begun, to, is_it, Cell::Reached, show).await
    }

    /// One agent sends a query and all respond. Returns at the query's timeout.
    pub(super) async fn query(
        &mut self,
        from: usize,
        name: &str,
        timeout: Duration,
    ) -> Result<QueryOutcome, String> {
        let params = QueryParams {
            name: name.to_owned(),
            request_ack: true,
            timeout: Some(timeout),
            ..QueryParams::default()
        };
        let begun = Instant::now();
        let mut asked = self.agents[from].query(params).await.map_err(|error| error.to_string())?;
        let mut outcome = QueryOutcome::default();
        while let Some(answer) = asked.next().await {
            match answer {
                Answer::Ack { .. } => outcome.acks += 1,
                Answer::Response { .. } => outcome.responses += 1,
            }
            outcome.last = begun.elapsed();
        }
        Ok(outcome)
    }

    /// One agent stops without a leave.
    pub(super) async fn kill(
        &mut self,
        agent: usize,
        to: &[usize],
        show: &mut Show,
    ) -> Result<Spread, String> {
        let name = self.name(agent).to_owned();
        let begun = Instant::now();
        self.agents[agent].shutdown().await;
        show.cell(agent, Cell::Failed);
        let is_it = |event: &Event| is_about(event, MemberEventKind::Failed, &name);
        self.spread(begun, to, is_it, Cell::Alive, show).await
    }

    /// One agent leaves.
    pub(super) async fn leave(
        &mut self,
        agent: usize,
        to: &[usize],
        show: &mut Show,
    ) -> Result<Spread, String> {
        let name = self.name(agent).to_owned();
        let begun = Instant::now();
        let leaver = self.agents[agent].clone();
        let leaving = tokio::spawn(async move { leaver.leave().await });
        show.cell(agent, Cell::Left);
        let is_it = |event: &Event| is_about(event, MemberEventKind::Leave, &name);
        let spread = self.spread(begun, to, is_it, Cell::Alive, show).await?;
        leaving.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        Ok(spread)
    }

    /// The traffic so far of all agents that still run.
    pub(super) async fn traffic(&self) -> Traffic {
        let mut traffic = Traffic { took: self.started.elapsed(), datagrams: 0, bytes: 0, drops: Vec::new() };
        for agent in &self.agents {
            // The killed agent has no stats any more.
            let Ok(stats) = agent.stats().await else { continue };
            traffic.datagrams += stats.datagrams.1;
            traffic.bytes += stats.datagram_bytes.1;
            let drops = stats.drops.iter().filter(|(reason, _)| *reason != "unknown_seq");
            traffic.drops.extend(drops.map(|(reason, count)| format!("{} {reason} {count}", agent.name())));
        }
        traffic
    }

    /// Forgets the reports that nobody waits for any more.
    pub(super) fn stop_reporting(&mut self) {
        self.reports.close();
        while self.reports.try_recv().is_ok() {}
    }

    /// Stops all agents and the engine.
    pub(super) async fn stop(&self) {
        self.engine.stop().await;
    }

    /// Waits until all agents of `to` report the event.
    async fn spread(
        &mut self,
        begun: Instant,
        to: &[usize],
        is_it: impl Fn(&Event) -> bool,
        cell: Cell,
        show: &mut Show,
    ) -> Result<Spread, String> {
        let mut times = Vec::with_capacity(to.len());
        let mut reached = BTreeSet::new();
        while reached.len() < to.len() {
            let what = format!("the news to reach all ({} of {} have it)", reached.len(), to.len());
            let report = self.next_report(&what).await?;
            if is_it(&report.event) && to.contains(&report.agent) && reached.insert(report.agent) {
                times.push(report.at.duration_since(begun));
                show.cell(report.agent, cell);
                show.progress(&format!("{} of {} agents know", reached.len(), to.len()));
            }
        }
        times.sort_unstable();
        let at = |place: usize| times.get(place).copied().unwrap_or_default();
        Ok(Spread {
            reached: times.len(),
            of: to.len(),
            first: at(0),
            half: at(times.len().div_ceil(2).saturating_sub(1)),
            last: at(times.len().saturating_sub(1)),
        })
    }

    async fn next_report(&mut self, what: &str) -> Result<Report, String> {
        match tokio::time::timeout(PATIENCE, self.reports.recv()).await {
            Ok(Some(report)) => Ok(report),
            Ok(None) => Err("all agents stopped".to_owned()),
            Err(_) => Err(format!("waited {PATIENCE:?} for {what}; is the machine very busy?")),
        }
    }
}

impl Spread {
    /// `reached 25 of 25, first 0.2 ms, half 130 ms`.
    pub(super) fn text(&self, verb: &str) -> String {
        let Spread { reached, of, first, half, .. } = self;
        format!("{verb} {reached} of {of}, first {}, half {}", Show::time(*first), Show::time(*half))
    }
}

fn is_about(event: &Event, what: MemberEventKind, name: &str) -> bool {
    matches!(event, Event::Member { kind, members } if *kind == what && members.iter().any(|m| m.name == name))
}

/// Forwards the events of an agent, and responds to queries with the agent's name.
async fn forward(
    agent: usize,
    handle: Handle,
    mut outlet: Outlet,
    reports: mpsc::UnboundedSender<Report>,
    shown: Option<broadcast::Sender<Arc<Event>>>,
) {
    while let Some(item) = outlet.next().await {
        let OutletItem::Event(event) = item else { continue };
        let at = Instant::now();
        if let Event::Query { token, .. } = &event {
            // A refused response (after the timeout) shows in the count of responses.
            let _ = handle.respond(*token, Bytes::from(format!("{} is up", handle.name()))).await;
        }
        if let Some(shown) = &shown {
            // An error means that there is no HTTP port.
            let _ = shown.send(Arc::new(event.clone()));
        }
        // An error means that the steps are over.
        let _ = reports.send(Report { agent, at, event });
    }
}
