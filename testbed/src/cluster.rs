//! A cluster under test: its agents, what was done to them, and what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::agent::{self, AgentSpec};
use crate::backend::{Backend, Placed, last_lines};
use crate::book::{Book, wrong};
use crate::call;
use crate::condition::Condition;
use crate::failure::Failure;
use crate::images::Software;
use crate::node::{Make, Node, Sample};
use crate::scenario::Settings;
use crate::stop;
use crate::watch::Watcher;

/// Time between two readings of the containers' counters.
const SAMPLE: Duration = Duration::from_secs(1);
/// Time that an agent gets to end after TERM.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at all lists.
const LOOK: Duration = Duration::from_millis(500);

/// Addresses of the agents that events can be sent to, by number.
pub(crate) type Targets = Arc<Mutex<BTreeMap<usize, SocketAddr>>>;

pub(crate) struct Cluster {
    backend: Box<dyn Backend>,
    settings: Settings,
    make: Make,
    pub(crate) nodes: Vec<Node>,
    watcher: Watcher,
    pub(crate) book: Book,
    pub(crate) samples: Vec<Sample>,
    sampled: Instant,
    next_place: u32,
    /// Names and logs of containers that are gone.
    logs: Vec<(String, String)>,
    /// What the backend said of agents that had ended before they were to be killed.
    ended_before: Vec<String>,
    pub(crate) targets: Targets,
}

impl Cluster {
    /// No agent yet.
    ///
    /// # Errors
    /// The watching thread can't be started.
    pub(crate) fn new(
        backend: Box<dyn Backend>,
        settings: &Settings,
        make: Make,
    ) -> Result<Cluster, Failure> {
        let watcher = Watcher::start().map_err(|error| Failure::new(format!("watching thread: {error}")))?;
        Ok(Cluster {
            backend,
            settings: settings.clone(),
            make,
            nodes: Vec::new(),
            watcher,
            book: Book::default(),
            samples: Vec::new(),
            sampled: Instant::now(),
            next_place: 0,
            logs: Vec::new(),
            ended_before: Vec::new(),
            targets: Targets::default(),
        })
    }

    /// Adds an agent and starts it.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn add(&mut self) -> Result<usize, Failure> {
        let number = self.nodes.len();
        let place = self.take_place()?;
        let is_seed = number < self.settings.seeds as usize;
        self.nodes.push(Node::new(number, self.make.software(number), is_seed, place));
        self.begin(number, true, self.starts_together())?;
        Ok(number)
    }

    /// Whether agents are started at one moment, by [`Cluster::release`].
    pub(crate) fn starts_together(&self) -> bool {
        self.settings.together && self.backend.can_wait()
    }

    /// Starts these agents, which wait, at one moment.
    ///
    /// # Errors
    /// The backend can't.
    pub(crate) fn release(&mut self, numbers: &[usize]) -> Result<(), Failure> {
        let names: Vec<String> = numbers.iter().map(|&number| self.nodes[number].name.clone()).collect();
        self.backend.release(&names)?;
        numbers.iter().try_for_each(|&number| self.runs(number))
    }

    fn take_place(&mut self) -> Result<u32, Failure> {
        let place = self.next_place;
        if place >= self.backend.places() {
            return Err(Failure::new("no address of the subnet is left: give a larger one with --subnet"));
        }
        self.next_place += 1;
        Ok(place)
    }

    /// Starts an agent that does not run, at its address; it joins the seeds, or only the members in its
    /// snapshot.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn start(&mut self, number: usize, joins: bool) -> Result<(), Failure> {
        self.begin(number, joins, false)
    }

    /// Starts agents that do not run as [`Cluster::start`] does, at one moment if the settings say so.
    ///
    /// # Errors
    /// One can't be started.
    pub(crate) fn start_all(&mut self, numbers: &[usize], joins: bool) -> Result<(), Failure> {
        let waits = self.starts_together();
        numbers.iter().try_for_each(|&number| self.begin(number, joins, waits))?;
        if waits { self.release(numbers) } else { Ok(()) }
    }

    fn begin(&mut self, number: usize, joins: bool, waits: bool) -> Result<(), Failure> {
        self.remove_container(number)?;
        let node = &self.nodes[number];
        let mut join = Vec::new();
        if joins && (self.nodes.len() > 1 || waits) {
            join = self.backend.seeds(self.settings.seeds, self.settings.dns);
            // An agent that reaches itself counts that as a join and does not retry.
            if join.len() > 1 && number < join.len() {
                join.remove(number);
            }
        }
        let config = match (&self.make.thane_config, node.software) {
            (Some(text), Software::Thane) => Some(self.backend.put(&node.name, "extra.json", text)?),
            _ => None,
        };
        let bind = self.backend.bind(node.place);
        let spec = AgentSpec {
            name: node.name.clone(),
            software: node.software,
            place: node.place,
            is_seed: node.is_seed,
            waits,
            arguments: agent::arguments(&node.name, &self.settings, &join, bind, config.as_deref()),
        };
        let placed = self.backend.start(&spec)?;
        let node = &mut self.nodes[number];
        (node.has_container, node.has_left, node.last) = (true, false, None);
        node.placed = Some(placed);
        if waits { Ok(()) } else { self.runs(number) }
    }

    /// From now on it runs, and is watched.
    fn runs(&mut self, number: usize) -> Result<(), Failure> {
        let placed = self.placed(number)?;
        self.watcher.watch(number, placed.rpc);
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).insert(number, placed.rpc);
        let history = &mut self.nodes[number].history;
        let now = Condition { runs: true, impaired: false, ip: Some(placed.ip), ..history.now() };
        history.becomes(Instant::now(), now);
        Ok(())
    }

    /// The next start is under another address, and with nothing kept.
    ///
    /// # Errors
    /// No address is left, or the old state can't be removed.
    pub(crate) fn relocate(&mut self, number: usize) -> Result<(), Failure> {
        self.nodes[number].place = self.take_place()?;
        let name = self.nodes[number].name.clone();
        self.remove_container(number)?;
        self.backend.forget_state(&name)
    }

    fn remove_container(&mut self, number: usize) -> Result<(), Failure> {
        if std::mem::take(&mut self.nodes[number].has_container) {
            let name = self.nodes[number].name.clone();
            let log = self.backend.remove(&name)?;
            self.logs.push((name, log));
        }
        Ok(())
    }

    fn ends(&mut self, number: usize) {
        self.watcher.forget(number);
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        let now = Instant::now();
        let node = &mut self.nodes[number];
        node.history.becomes(now, Condition { runs: false, ..node.history.now() });
        if let Some((_, until @ None)) = node.memberships.last_mut() {
            *until = Some(now);
        }
        node.last = None;
    }

    /// Kills agents at one moment.
    ///
    /// # Errors
    /// The backend can't.
    pub(crate) fn kill(&mut self, numbers: &[usize]) -> Result<(), Failure> {
        let names: Vec<String> = numbers.iter().map(|&number| self.nodes[number].name.clone()).collect();
        numbers.iter().for_each(|&number| self.ends(number));
        match self.backend.kill(&names) {
            // The agent's own end, which the run is judged by; the others were killed.
            Err(failure) if failure.to_string().contains("is not running") => {
                self.ended_before.push(failure.to_string());
                Ok(())
            }
            result => result,
        }
    }

    /// Ends an agent by TERM.
    ///
    /// # Errors
    /// The backend can't.
    pub(crate) fn stop(&mut self, number: usize) -> Result<(), Failure> {
        self.ends(number);
        let name = self.nodes[number].name.clone();
        self.backend.stop(&name, STOP_PATIENCE)
    }

    /// It leaves by its RPC command and ends.
    ///
    /// # Errors
    /// It refuses.
    pub(crate) fn leave(&mut self, number: usize) -> Result<(), Failure> {
        let rpc = self.rpc(number)?;
        self.ends(number);
        self.nodes[number].has_left = true;
        let leave = |client: &mut thane_engine::ipc::Client| client.call(&thane_engine::ipc::Request::Leave);
        call::call(rpc, STOP_PATIENCE, leave)
    }

    /// It stands still, or goes on.
    ///
    /// # Errors
    /// The backend can't.
    pub(crate) fn pause(&mut self, number: usize, still: bool) -> Result<(), Failure> {
        self.impair(number, true);
        self.backend.pause(&self.nodes[number].name.clone(), still)?;
        self.impair(number, still);
        Ok(())
    }

    /// It loses its network, or gets it back.
    ///
    /// # Errors
    /// The backend can't.
    pub(crate) fn disconnect(&mut self, number: usize, off: bool) -> Result<(), Failure> {
        self.impair(number, true);
        let (name, placed) = (self.nodes[number].name.clone(), self.placed(number)?);
        if off {
            self.watcher.forget(number);
            self.targets.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        }
        self.backend.disconnect(&name, &placed, off)?;
        if !off {
            self.watcher.watch(number, placed.rpc);
            self.targets.lock().unwrap_or_else(PoisonError::into_inner).insert(number, placed.rpc);
        }
        self.nodes[number].last = None;
        self.impair(number, off);
        Ok(())
    }

    fn impair(&mut self, number: usize, impaired: bool) {
        let history = &mut self.nodes[number].history;
        history.becomes(Instant::now(), Condition { impaired, ..history.now() });
    }

    /// It gets that share of a core; none is no limit.
    ///
    /// # Errors
    /// The backend can't.
    pub(crate) fn limit_cpu(&mut self, number: usize, cpus: Option<f64>) -> Result<(), Failure> {
        self.impair(number, true);
        self.backend.limit_cpu(&self.nodes[number].name.clone(), cpus)?;
        self.impair(number, cpus.is_some());
        Ok(())
    }

    /// Moves agents to a group that reaches no other; the rules are the caller's.
    pub(crate) fn group(&mut self, number: usize, group: u8) {
        let history = &mut self.nodes[number].history;
        history.becomes(Instant::now(), Condition { group, ..history.now() });
    }

    pub(crate) fn backend(&mut self) -> &mut dyn Backend {
        &mut *self.backend
    }

    fn placed(&self, number: usize) -> Result<Placed, Failure> {
        let node = &self.nodes[number];
        node.placed.clone().ok_or_else(|| Failure::new(format!("{} was never started", node.name)))
    }

    /// Where its RPC port is.
    ///
    /// # Errors
    /// It was never started.
    pub(crate) fn rpc(&self, number: usize) -> Result<SocketAddr, Failure> {
        self.placed(number).map(|placed| placed.rpc)
    }

    pub(crate) fn ip(&self, number: usize) -> Option<IpAddr> {
        self.nodes[number].history.now().ip
    }

    /// Numbers of the agents that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&number| self.nodes[number].history.now().runs).collect()
    }

    /// Numbers of those that run and that no fault keeps from the others.
    pub(crate) fn healthy(&self) -> Vec<usize> {
        let mut healthy = self.running();
        healthy.retain(|&number| !self.nodes[number].history.now().impaired);
        healthy
    }

    /// Takes what agents say until then, or until `done`. Returns when `done` became true.
    ///
    /// # Errors
    /// The user asked for the end.
    pub(crate) fn pump(
        &mut self,
        until: Instant,
        mut done: impl FnMut(&Book) -> bool,
    ) -> Result<Option<Instant>, Failure> {
        loop {
            stop::check()?;
            self.sample();
            let left = until.saturating_duration_since(Instant::now());
            match self.watcher.sightings.recv_timeout(left.min(Duration::from_millis(50))) {
                Ok(sighting) => {
                    let at = sighting.at;
                    self.book.take(sighting);
                    if done(&self.book) {
                        return Ok(Some(at));
                    }
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::new("the watching thread ended")),
            }
        }
    }

    fn sample(&mut self) {
        let now = Instant::now();
        let span = now - self.sampled;
        if span >= SAMPLE {
            self.sampled = now;
            self.samples.extend(self.nodes.iter_mut().filter_map(|node| node.sample(now, span)));
        }
    }

    /// Waits until these have full views, and counts them as members since then. Returns when the last of them had.
    ///
    /// # Errors
    /// The user asked for the end.
    pub(crate) fn await_full(
        &mut self,
        numbers: &[usize],
        patience: Duration,
    ) -> Result<Option<Instant>, Failure> {
        let members = self.healthy().len();
        self.book.expect_full(members, Instant::now());
        let full = |book: &Book, number: usize| book.view(number).and_then(|view| view.full_at);
        let all = |book: &Book| numbers.iter().all(|&number| full(book, number).is_some());
        if !all(&self.book) {
            self.pump(Instant::now() + patience, all)?;
        }
        let times: Option<Vec<Instant>> = numbers.iter().map(|&number| full(&self.book, number)).collect();
        if let Some(times) = &times {
            for (&number, &at) in numbers.iter().zip(times) {
                let node = &mut self.nodes[number];
                if node.memberships.last().is_none_or(|(_, until)| until.is_some()) {
                    node.memberships.push((at, None));
                }
            }
        }
        Ok(times.and_then(|times| times.into_iter().max()))
    }

    /// Waits until all healthy agents list exactly each other as alive, at their addresses. Returns when it was so,
    /// or what was still wrong.
    ///
    /// # Errors
    /// The user asked for the end.
    pub(crate) fn await_whole(&mut self, deadline: Instant) -> Result<Result<Instant, String>, Failure> {
        loop {
            let healthy = self.healthy();
            let names: BTreeSet<String> =
                healthy.iter().map(|&number| self.nodes[number].name.clone()).collect();
            let whole = |book: &Book| {
                healthy.iter().all(|&number| book.view(number).is_some_and(|view| view.has_alive(&names)))
            };
            // The log says when; the lists then say whether it is so.
            let look = deadline.min(Instant::now() + LOOK * 4);
            let at = if whole(&self.book) { Some(Instant::now()) } else { self.pump(look, whole)? };
            let expected: BTreeMap<String, IpAddr> = healthy
                .iter()
                .filter_map(|&number| Some((self.nodes[number].name.clone(), self.ip(number)?)))
                .collect();
            let mut fault = None;
            for &number in &healthy {
                let name = &self.nodes[number].name;
                match call::members(self.rpc(number)?) {
                    Ok(list) => fault = wrong(&list, &expected).map(|what| format!("at {name} {what}")),
                    Err(failure) => fault = Some(format!("{name} does not answer: {failure}")),
                }
                if fault.is_some() {
                    break;
                }
            }
            match fault {
                None => return Ok(Ok(at.unwrap_or_else(Instant::now))),
                Some(fault) if Instant::now() >= deadline => return Ok(Err(fault)),
                Some(_) => drop(self.pump(deadline.min(Instant::now() + LOOK), |_| false)?),
            }
        }
    }

    /// Agents that the testbed did not end and that do not run, with the end of their logs.
    ///
    /// # Errors
    /// The backend can't be asked.
    pub(crate) fn ended(&self) -> Result<Vec<String>, Failure> {
        let mut ended = self.ended_before.clone();
        for number in self.running() {
            let node = &self.nodes[number];
            if !self.backend.is_running(&node.name)? {
                let log = last_lines(&self.backend.log(&node.name)?);
                ended.push(format!("{} ({}), its log: {log}", node.name, node.software.name()));
            }
        }
        Ok(ended)
    }

    /// The names and logs of all containers, those that are gone too.
    ///
    /// # Errors
    /// The backend can't be asked.
    pub(crate) fn all_logs(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut logs = self.logs.clone();
        for node in self.nodes.iter().filter(|node| node.has_container) {
            logs.push((node.name.clone(), self.backend.log(&node.name)?));
        }
        Ok(logs)
    }

    /// Names of the events that an agent's handler saw, in order.
    ///
    /// # Errors
    /// The file can't be read.
    pub(crate) fn handled(&self, number: usize) -> Result<Vec<String>, Failure> {
        let text = self.backend.state(&self.nodes[number].name, agent::HANDLED)?;
        Ok(agent::handled(&text).map(str::to_owned).collect())
    }

    /// Removes everything.
    ///
    /// # Errors
    /// Something is left.
    pub(crate) fn close(mut self) -> Result<(), Failure> {
        self.backend.close()
    }
}
