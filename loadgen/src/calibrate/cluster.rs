//! Real agents that know each other, and everything they report, with the time of its arrival.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use thane_engine::config::DisseminationPolicy;
use thane_engine::ipc::{EventRequest, MonitorRequest, Record, Request, StreamRecord, StreamRequest};
use thane_engine::random::Random;

use super::options::Options;
use crate::addresses::Addresses;
use crate::agent::{Agent, Launch, program, title};
use crate::report::Policy;
use crate::stop::Stop;

/// Time for agents to know each other, at most.
const VIEWS_WITHIN: Duration = Duration::from_secs(120);
/// Pause between looks.
const LOOK: Duration = Duration::from_millis(50);
/// Longest time between two starts, up to a hundred agents. Each pause is random, so that the rounds of 200 ms and of a
/// second, which begin with the process, are spread as on independent machines.
const START_PACE: Duration = Duration::from_millis(200);
/// The same for more agents, which come together only if they start gently.
const START_PACE_MANY: Duration = Duration::from_millis(660);
/// The name of the user events.
const EVENT: &str = "calibrate";

/// A report of an agent.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    /// Which agent.
    pub(crate) place: usize,
    pub(crate) what: What,
}

/// The content of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A user event, with this payload.
    Event(Vec<u8>),
    /// It suspects the member because its own probe got no ack.
    Suspect(String),
    /// The member failed.
    Failed(String),
}

/// Real agents. They end when this value is dropped.
#[derive(Debug)]
pub(crate) struct Cluster<'a> {
    options: &'a Options,
    addresses: Addresses,
    word: &'a str,
    stop: &'a Stop,
    agents: Vec<Option<Agent>>,
    told: Sender<Heard>,
    heard: Receiver<Heard>,
}

impl<'a> Cluster<'a> {
    /// Starts the agents and waits until each knows all.
    ///
    /// # Errors
    /// One can't be started, they don't come together, or an end is wanted.
    pub(crate) fn start(
        options: &'a Options,
        word: &'a str,
        stop: &'a Stop,
        random: &mut Random,
    ) -> Result<Cluster<'a>, String> {
        let (told, heard) = channel();
        let addresses = options.addresses()?;
        let mut cluster = Cluster { options, addresses, word, stop, agents: Vec::new(), told, heard };
        let pace = if options.nodes() <= 100 { START_PACE } else { START_PACE_MANY };
        for place in 0..options.nodes() {
            let due = Instant::now() + random.duration(pace);
            let agent = cluster.launch(place)?;
            cluster.agents.push(Some(agent));
            stop.sleep(due.saturating_duration_since(Instant::now()))?;
        }
        cluster.wait_for_views()?;
        Ok(cluster)
    }

    /// The name of the n-th agent, counted from 0; as long as those of the simulator.
    pub(crate) fn name(place: usize) -> String {
        format!("n{}", place + 1)
    }

    /// Kills an agent. Returns the moment before.
    pub(crate) fn kill(&mut self, place: usize) -> Instant {
        let at = Instant::now();
        self.agents[place] = None;
        at
    }

    /// Starts a killed agent again and waits until each knows all.
    ///
    /// # Errors
    /// It can't be started, or does not come back.
    pub(crate) fn restart(&mut self, place: usize) -> Result<(), String> {
        self.agents[place] = Some(self.launch(place)?);
        self.wait_for_views()
    }

    /// Makes an agent send a user event. Returns the moment before.
    ///
    /// # Errors
    /// It refuses.
    pub(crate) fn send_event(&self, place: usize, payload: &[u8]) -> Result<Instant, String> {
        let agent = self.agents[place].as_ref().ok_or("the sender was killed")?;
        let mut client = agent.client()?;
        let request = EventRequest { name: EVENT.to_owned(), payload: payload.to_vec(), coalesce: false };
        let at = Instant::now();
        client.call(&Request::Event(request)).map_err(|error| format!("{}: {error}", agent.title))?;
        Ok(at)
    }

    /// The next report of an agent; none until `deadline`.
    ///
    /// # Errors
    /// An end is wanted.
    pub(crate) fn next(&self, deadline: Instant) -> Result<Option<Heard>, String> {
        loop {
            self.stop.check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            match self.heard.recv_timeout(left.min(LOOK)) {
                Ok(heard) => return Ok(Some(heard)),
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// Discards the reports up to now.
    pub(crate) fn forget(&self) {
        while self.heard.try_recv().is_ok() {}
    }

    fn launch(&self, place: usize) -> Result<Agent, String> {
        let mut flags = Vec::new();
        if place > 0 {
            flags.push(format!("-join={}", self.addresses.ip(0)));
        }
        if !self.options.compression() {
            flags.push("-disable-compression".to_owned());
        }
        // Serf has no such flag.
        if self.options.policy != DisseminationPolicy::Classic && title(self.word) != "serf" {
            flags.push(format!("-dissemination={}", Policy::from(self.options.policy).as_str()));
        }
        let agent = Agent::start(&Launch {
            title: title(self.word),
            program: program(self.word),
            node: Self::name(place),
            ip: self.addresses.ip(place).into(),
            flags,
        })?;
        self.listen(&agent, place)?;
        Ok(agent)
    }

    /// Passes on the reports of the agent, until it ends.
    fn listen(&self, agent: &Agent, place: usize) -> Result<(), String> {
        let failed = |error| format!("{} on {}: {error}", agent.title, agent.rpc);
        let mut client = agent.client()?;
        let events = StreamRequest { filter: "user".to_owned() };
        client.begin(&Request::Stream(events)).map_err(failed)?;
        // Not the stream of member events: agents coalesce those for a second or more.
        let log = MonitorRequest { log_level: "INFO".to_owned() };
        client.begin(&Request::Monitor(log)).map_err(failed)?;
        let told = self.told.clone();
        std::thread::spawn(move || {
            while let Ok((_, record)) = client.record() {
                let at = Instant::now();
                if let Some(what) = what(record)
                    && told.send(Heard { at, place, what }).is_err()
                {
                    return;
                }
            }
        });
        Ok(())
    }

    fn wait_for_views(&self) -> Result<(), String> {
        let deadline = Instant::now() + VIEWS_WITHIN;
        for agent in self.agents.iter().flatten() {
            loop {
                let alive = agent.alive()?;
                if alive == self.options.nodes() {
                    break;
                }
                if Instant::now() > deadline {
                    let (node, nodes) = (&agent.node, self.options.nodes());
                    return Err(format!("{node} knows only {alive} of {nodes} agents in time"));
                }
                self.stop.sleep(LOOK)?;
            }
        }
        Ok(())
    }
}

/// The content of a record about an event or a failure.
fn what(record: Record) -> Option<What> {
    match record {
        Record::Event(StreamRecord::User(event)) if event.name == EVENT => Some(What::Event(event.payload)),
        Record::Log(line) => what_line(&line.log),
        _ => None,
    }
}

fn what_line(line: &str) -> Option<What> {
    let after = |mark: &str| {
        let (_, rest) = line.split_once(mark)?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    // A new monitor gets the earlier log first, which has no failures yet.
    let failed = after("[INFO] serf: EventMemberFailed: ").map(What::Failed);
    failed.or_else(|| after("[INFO] memberlist: Suspect ").map(What::Suspect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_about_failures_are_understood() {
        let line = |rest: &str| what_line(&format!("2026/11/27 22:10:19 [INFO] {rest}"));
        assert_eq!(line("serf: EventMemberFailed: n3 127.42.0.3"), Some(What::Failed("n3".to_owned())));
        let suspect = "memberlist: Suspect n3 has failed, no acks received";
        assert_eq!(line(suspect), Some(What::Suspect("n3".to_owned())));
        assert_eq!(line("serf: EventMemberJoin: n3 127.42.0.3"), None);
        assert_eq!(line("agent: Received event: member-failed"), None);
    }
}
