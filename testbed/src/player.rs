//! Plays a scenario on a cluster, and keeps what it did and when.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use thane_engine::ipc::{Client, ClientError, KeyRequest, QueryRecord, QueryRequest, Record, Request};

use crate::call;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::images::Software;
use crate::links::Links;
use crate::scenario::{Action, Become, End, Scenario, Start, Step};
use crate::stop;
use crate::stream::{Sent, Stream};

/// How long views may take to become full before the scenario starts.
const BOOTSTRAP_PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks whether all containers still run meanwhile.
const BOOTSTRAP_LOOK: Duration = Duration::from_secs(3);
/// The gossip of the joins is over so long after the last full view.
const QUIET: Duration = Duration::from_secs(8);
/// How long a query's answers count.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one agent may take to be a member again before a roll goes on.
const ROLL_PATIENCE: Duration = Duration::from_secs(30);

/// What was done to a cluster and when.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The first and the last start of an agent.
    pub(crate) first_start: Instant,
    pub(crate) last_start: Instant,
    /// When the last agent's view was full; none if that took too long.
    pub(crate) full: Option<Instant>,
    /// When each agent's view was full.
    pub(crate) full_each: Vec<Instant>,
    /// The scenario's start.
    pub(crate) zero: Instant,
    /// Single events, and those of the steady stream.
    pub(crate) events: Vec<Sent>,
    pub(crate) stream: Vec<Sent>,
    pub(crate) queries: Vec<Asked>,
    /// Numbers of the agents that crashed and left, and when.
    pub(crate) crashes: Vec<(Instant, usize)>,
    pub(crate) leaves: Vec<(Instant, usize)>,
    /// When the first step was, and when the last one was over.
    pub(crate) first_step: Option<Instant>,
    pub(crate) last_step: Instant,
    /// The scenario's end.
    pub(crate) end: Instant,
    /// When all lists were right after the last step, or what was still wrong.
    pub(crate) whole: Result<Instant, String>,
    /// The datagram drivers of Thane's agents, as they say.
    pub(crate) drivers: Vec<String>,
    /// Each step, when it began.
    pub(crate) marks: Vec<(Instant, String)>,
    /// Steps that failed, and why: an agent that refuses its RPC command.
    pub(crate) refused: Vec<String>,
}

/// A query.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) due: usize,
    /// When each ack came.
    pub(crate) acks: Vec<Instant>,
}

/// Plays one scenario.
pub(crate) struct Player<'a> {
    cluster: &'a mut Cluster,
    scenario: &'a Scenario,
    facts: Facts,
    links: Links,
    stream: Option<Stream>,
    /// What ends by itself: when, whom, and what it was.
    pending: Vec<(Instant, usize, Action)>,
    queries: Vec<(Instant, usize, Receiver<Vec<Instant>>)>,
    limited: Vec<(usize, Action)>,
    number: u32,
}

impl<'a> Player<'a> {
    /// Starts `nodes` agents and plays the scenario to its end.
    ///
    /// # Errors
    /// The machine or the backend fails, or the user asked for the end. What agents do wrong is in the facts.
    pub(crate) fn play(cluster: &mut Cluster, scenario: &Scenario, nodes: u32) -> Result<Facts, Failure> {
        let now = Instant::now();
        let facts = Facts {
            first_start: now,
            last_start: now,
            full: None,
            full_each: Vec::new(),
            zero: now,
            events: Vec::new(),
            stream: Vec::new(),
            queries: Vec::new(),
            crashes: Vec::new(),
            leaves: Vec::new(),
            first_step: None,
            last_step: now,
            end: now,
            whole: Err("not reached".into()),
            drivers: Vec::new(),
            marks: Vec::new(),
            refused: Vec::new(),
        };
        let mut player = Player {
            cluster,
            scenario,
            facts,
            links: Links::default(),
            stream: None,
            pending: Vec::new(),
            queries: Vec::new(),
            limited: Vec::new(),
            number: 0,
        };
        player.bootstrap(nodes)?;
        player.steps()?;
        player.finish()?;
        Ok(player.facts)
    }

    fn bootstrap(&mut self, nodes: u32) -> Result<(), Failure> {
        for _ in 0..nodes {
            stop::check()?;
            self.cluster.add()?;
            self.facts.last_start = Instant::now();
            self.cluster.pump(Instant::now(), |_| false)?;
        }
        if self.cluster.starts_together() {
            self.facts.first_start = Instant::now();
            let all: Vec<usize> = (0..self.cluster.nodes.len()).collect();
            self.cluster.release(&all)?;
            self.facts.last_start = Instant::now();
        }
        let (all, deadline) = (self.cluster.running(), Instant::now() + BOOTSTRAP_PATIENCE);
        while self.facts.full.is_none() && Instant::now() < deadline {
            if let Some(dead) = self.cluster.ended()?.first() {
                return Err(Failure::new(format!("an agent ended at its start: {dead}")));
            }
            self.facts.full = self.cluster.await_full(&all, BOOTSTRAP_LOOK)?;
        }
        self.facts.full_each =
            self.cluster.nodes.iter().filter_map(|node| Some(node.memberships.first()?.0)).collect();
        self.facts.zero = self.facts.last_start;
        if self.scenario.start == Start::Converged {
            self.cluster.pump(Instant::now() + QUIET, |_| false)?;
            self.facts.zero = Instant::now();
        }
        self.facts.last_step = self.facts.full.map_or(self.facts.zero, |full| full.max(self.facts.zero));
        Ok(())
    }

    fn steps(&mut self) -> Result<(), Failure> {
        let scenario = self.scenario;
        for (at, step) in scenario.schedule() {
            self.run_until(self.facts.zero + at)?;
            let action = step.action.expect("the scenario was checked");
            self.facts.first_step.get_or_insert_with(Instant::now);
            self.facts.marks.push((Instant::now(), format!("{action:?}").to_lowercase()));
            self.act(action, step)?;
            if action != Action::Stream {
                self.facts.last_step = Instant::now();
            }
        }
        Ok(())
    }

    /// Waits until then, and ends what is to end by itself.
    fn run_until(&mut self, then: Instant) -> Result<(), Failure> {
        loop {
            let next = self.pending.iter().map(|(at, ..)| *at).min().filter(|at| *at <= then);
            self.cluster.pump(next.unwrap_or(then), |_| false)?;
            let Some(next) = next else { return Ok(()) };
            let due: Vec<(Instant, usize, Action)> =
                self.pending.extract_if(.., |(at, ..)| *at <= next).collect();
            for (_, number, action) in due {
                match action {
                    Action::Pause => self.cluster.pause(number, false)?,
                    _ => self.cluster.disconnect(number, false)?,
                }
            }
            self.facts.marks.push((Instant::now(), "over".to_owned()));
            self.facts.last_step = Instant::now();
        }
    }

    fn act(&mut self, action: Action, step: &Step) -> Result<(), Failure> {
        let chosen = self.choose(action, step);
        let now = Instant::now();
        match action {
            Action::Event => self.event(step.bytes)?,
            Action::Query => self.query()?,
            Action::Stream => {
                self.stream = Some(Stream::start(&self.cluster.targets, step.every.0, step.bytes));
            }
            Action::Crash => {
                self.facts.crashes.extend(chosen.iter().map(|&number| (now, number)));
                self.cluster.kill(&chosen)?;
            }
            Action::Restart | Action::Move => self.restart(action)?,
            Action::Replace => {
                for number in chosen {
                    self.cluster.kill(&[number])?;
                    self.cluster.relocate(number)?;
                    self.cluster.start(number, true)?;
                }
            }
            Action::Leave => {
                for number in chosen {
                    self.facts.leaves.push((Instant::now(), number));
                    let left = self.cluster.leave(number);
                    self.note(left);
                }
            }
            Action::Join => {
                for _ in 0..step.whom(self.cluster.running().len()) {
                    self.cluster.add()?;
                }
            }
            Action::Pause | Action::Disconnect => {
                for number in chosen {
                    match action {
                        Action::Pause => self.cluster.pause(number, true)?,
                        _ => self.cluster.disconnect(number, true)?,
                    }
                    if !step.still.0.is_zero() {
                        self.pending.push((Instant::now() + step.still.0, number, action));
                    }
                }
            }
            Action::Partition => {
                self.links.cut_off = chosen.iter().filter_map(|&number| self.cluster.ip(number)).collect();
                chosen.iter().for_each(|&number| self.cluster.group(number, 1));
                self.cluster.backend().set_links(&self.links)?;
            }
            Action::Loss => {
                self.links.lossy = chosen.iter().filter_map(|&number| self.cluster.ip(number)).collect();
                self.links.loss = step.loss;
                self.cluster.backend().set_links(&self.links)?;
            }
            Action::Delay => self.cluster.backend().set_delay(Some((step.delay_min.0, step.delay_max.0)))?,
            Action::Bandwidth | Action::Cpu => {
                for number in chosen {
                    self.limit(number, action, step)?;
                }
            }
            Action::Heal => self.heal()?,
            Action::InstallKey | Action::UseKey | Action::RemoveKey => self.key(action, step.key)?,
            Action::Roll => self.roll(&chosen, step)?,
        }
        Ok(())
    }

    /// The agents that a step is about: the last ones that are no seeds, or the seeds; all, where it says so.
    fn choose(&self, action: Action, step: &Step) -> Vec<usize> {
        let running = self.cluster.running();
        let rolls_all = action == Action::Roll && step.count.is_none() && step.share.is_none();
        if rolls_all || step.share == Some(1.0) {
            return running;
        }
        let is_seed = |number: &usize| self.cluster.nodes[*number].is_seed;
        let mut eligible: Vec<usize> =
            running.iter().copied().filter(|number| is_seed(number) == step.seeds).collect();
        if !step.seeds {
            // A cluster of few seeds and fewer others has to take some of them.
            eligible.splice(0..0, running.iter().copied().filter(is_seed));
        }
        let count = step.whom(running.len()).min(running.len().saturating_sub(1));
        eligible.split_off(eligible.len().saturating_sub(count))
    }

    /// An agent's refusal is a fact about it, not a failure of the testbed.
    fn note(&mut self, result: Result<(), Failure>) {
        if let Err(failure) = result {
            self.facts.refused.push(failure.to_string());
        }
    }

    /// The agent that sends what is sent next.
    fn sender(&mut self) -> Result<usize, Failure> {
        let healthy = self.cluster.healthy();
        self.number += 1;
        // Not always the same one, and not the first: a seed has more to do than others.
        let place = self.number as usize % healthy.len().max(1);
        healthy.get(place).copied().ok_or_else(|| Failure::new("no agent runs that could send"))
    }

    fn event(&mut self, bytes: usize) -> Result<(), Failure> {
        let node = self.sender()?;
        let (name, rpc, at) = (format!("event-{}", self.number), self.cluster.rpc(node)?, Instant::now());
        match call::event(rpc, &name, bytes) {
            Ok(()) => self.facts.events.push(Sent { name, at, node }),
            Err(failure) => self.facts.refused.push(failure.to_string()),
        }
        Ok(())
    }

    fn query(&mut self) -> Result<(), Failure> {
        let node = self.sender()?;
        let rpc = self.cluster.rpc(node)?;
        let request = QueryRequest {
            name: format!("query-{}", self.number),
            request_ack: true,
            timeout_ns: QUERY_TIMEOUT.as_nanos() as i64,
            ..QueryRequest::default()
        };
        let (out, acks) = channel();
        std::thread::spawn(move || {
            let asked = call::call(rpc, QUERY_TIMEOUT * 2, move |client| ask(client, request));
            let _ = out.send(asked.unwrap_or_default());
        });
        self.queries.push((Instant::now(), self.cluster.healthy().len(), acks));
        Ok(())
    }

    fn restart(&mut self, action: Action) -> Result<(), Failure> {
        let down: Vec<usize> = (0..self.cluster.nodes.len())
            .filter(|&number| {
                !self.cluster.nodes[number].history.now().runs && !self.cluster.nodes[number].has_left
            })
            .collect();
        if action == Action::Move {
            down.iter().try_for_each(|&number| self.cluster.relocate(number))?;
        }
        let joins = action == Action::Move || !self.scenario.settings.snapshot;
        self.cluster.start_all(&down, joins)?;
        // These crashes are over: no agent has to report them any more.
        self.facts.crashes.retain(|(_, number)| !down.contains(number));
        Ok(())
    }

    fn limit(&mut self, number: usize, action: Action, step: &Step) -> Result<(), Failure> {
        self.limited.push((number, action));
        match action {
            Action::Cpu => self.cluster.limit_cpu(number, Some(step.cpus)),
            _ => {
                let name = self.cluster.nodes[number].name.clone();
                self.cluster.backend().limit_bandwidth(&name, Some(step.bytes_per_second))
            }
        }
    }

    fn heal(&mut self) -> Result<(), Failure> {
        // First, because what one side believed of the other travels as soon as the rules are gone.
        (0..self.cluster.nodes.len()).for_each(|number| self.cluster.group(number, 0));
        self.links = Links::default();
        self.cluster.backend().set_links(&self.links)?;
        self.cluster.backend().set_delay(None)?;
        for (number, action) in std::mem::take(&mut self.limited) {
            match action {
                Action::Cpu => self.cluster.limit_cpu(number, None)?,
                _ => {
                    let name = self.cluster.nodes[number].name.clone();
                    self.cluster.backend().limit_bandwidth(&name, None)?;
                }
            }
        }
        Ok(())
    }

    fn key(&mut self, action: Action, number: u8) -> Result<(), Failure> {
        let key =
            self.scenario.settings.key(number).ok_or_else(|| Failure::new(format!("no key {number}")))?;
        let (rpc, nodes) = (self.cluster.rpc(0)?, self.cluster.healthy().len() as i32);
        let request = match action {
            Action::InstallKey => Request::InstallKey(KeyRequest { key }),
            Action::UseKey => Request::UseKey(KeyRequest { key }),
            _ => Request::RemoveKey(KeyRequest { key }),
        };
        let answer = call::call(rpc, call::PATIENCE * 3, move |client| {
            client.keys(&request).map_err(|(error, _)| error)
        });
        match answer {
            Ok(answer) if answer.num_resp == nodes && answer.num_err == 0 => {}
            Ok(answer) => self.facts.refused.push(format!(
                "{action:?}: {} of {nodes} agents answered, {} with errors",
                answer.num_resp, answer.num_err
            )),
            Err(failure) => self.facts.refused.push(format!("{action:?}: {failure}")),
        }
        Ok(())
    }

    fn roll(&mut self, chosen: &[usize], step: &Step) -> Result<(), Failure> {
        for &number in chosen {
            match step.end {
                End::Term => self.cluster.stop(number)?,
                End::Kill => self.cluster.kill(&[number])?,
            }
            let software = &mut self.cluster.nodes[number].software;
            *software = match (step.to, *software) {
                (Become::Same, same) => same,
                (Become::Other, Software::Serf) => Software::Thane,
                (Become::Other, Software::Thane) => Software::Serf,
            };
            self.cluster.start(number, true)?;
            if self.cluster.await_full(&[number], ROLL_PATIENCE)?.is_none() {
                let name = &self.cluster.nodes[number].name;
                self.facts
                    .refused
                    .push(format!("{name} had no full view {} s after its restart", ROLL_PATIENCE.as_secs()));
            }
            self.cluster.pump(Instant::now() + step.every.0, |_| false)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        if let Some(last) = self.pending.iter().map(|(at, ..)| *at).max() {
            self.run_until(last)?;
        }
        let last_step = self.facts.last_step;
        let judged = self.scenario.pass.whole.map_or(Duration::ZERO, |whole| whole.0);
        // Steps that took long, such as rolls, still get their time to be known.
        let rest = self
            .scenario
            .lasts
            .0
            .saturating_sub(self.scenario.schedule().last().map_or(Duration::ZERO, |(at, _)| *at));
        let end = (self.facts.zero + self.scenario.lasts.0).max(last_step + rest);
        self.facts.whole = self.cluster.await_whole(end.max(last_step + judged))?;
        self.run_until(end)?;
        for (at, due, acks) in std::mem::take(&mut self.queries) {
            let acks = acks.recv_timeout(QUERY_TIMEOUT * 2).unwrap_or_default();
            self.facts.queries.push(Asked { at, due, acks });
        }
        if let Some(stream) = self.stream.take() {
            self.facts.stream = stream.end();
            // The last events are still on their way, and their handlers at work.
            self.cluster.pump(Instant::now() + Duration::from_secs(6), |_| false)?;
        }
        self.facts.end = Instant::now();
        for number in self.cluster.healthy() {
            if self.cluster.nodes[number].software == Software::Thane {
                // An agent that has ended does not answer, and is reported as ended.
                let stats = call::stats(self.cluster.rpc(number)?).unwrap_or_default();
                self.facts.drivers.extend(stats.get("io").and_then(|io| io.get("driver")).cloned());
            }
        }
        Ok(())
    }
}

/// Sends a query and waits for its acks.
fn ask(client: &mut Client, request: QueryRequest) -> Result<Vec<Instant>, ClientError> {
    client.begin(&Request::Query(request))?;
    let mut acks = Vec::new();
    loop {
        match client.record()? {
            (_, Record::Query(record)) if record.kind == QueryRecord::ACK => acks.push(Instant::now()),
            (_, Record::Query(record)) if record.kind == QueryRecord::DONE => return Ok(acks),
            _ => {}
        }
    }
}
