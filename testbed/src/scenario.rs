//! Scenarios for containers: what the cluster is like, what happens when, and when a run of it has passed. The keys
//! are those of the simulator's scenarios where they mean the same.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use thane_engine::sim::Span;

use crate::failure::Failure;

/// A scenario.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// One line: what it shows.
    pub(crate) about: String,
    /// How long it lasts, from the first full view (with `start = "join"`, from the last start).
    pub(crate) lasts: Span,
    #[serde(default)]
    pub(crate) start: Start,
    #[serde(default)]
    pub(crate) settings: Settings,
    #[serde(default, rename = "step")]
    pub(crate) steps: Vec<Step>,
    /// When a run has passed.
    #[serde(default)]
    pub(crate) pass: Pass,
    /// All of this as it was written.
    #[serde(skip)]
    pub(crate) text: String,
}

/// When the scenario's clock starts.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Start {
    /// All have full views and the gossip of their joins is over.
    #[default]
    Converged,
    /// The last agent was started.
    Join,
}

/// How the agents are started.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Gossip is encrypted, with key 0.
    pub(crate) encrypted: bool,
    /// Each has a snapshot file, which it finds again when it is restarted.
    pub(crate) snapshot: bool,
    /// Each has a handler that writes a line for each user event.
    pub(crate) handlers: bool,
    /// Gossip over IPv6 only.
    pub(crate) ipv6: bool,
    /// Largest packet of the network, bytes.
    pub(crate) mtu: Option<u32>,
    /// They join by one DNS name that has all seeds' addresses.
    pub(crate) dns: bool,
    /// Agents that the others join: the first so many.
    pub(crate) seeds: u32,
    /// All agents are started at one moment, once their containers are there, where the backend can; also by `restart`
    /// and `move`.
    pub(crate) together: bool,
    /// io_uring is denied by the containers' seccomp profile.
    pub(crate) deny_io_uring: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            encrypted: false,
            snapshot: false,
            handlers: false,
            ipv6: false,
            mtu: None,
            dns: false,
            seeds: 3,
            together: false,
            deny_io_uring: false,
        }
    }
}

impl Settings {
    /// The key of that number in base64, 32 bytes; made from the number.
    pub(crate) fn key(&self, number: u8) -> Option<String> {
        (number < 16).then(|| BASE64_STANDARD.encode([number * 16 + 7; 32]))
    }
}

/// Something that happens. Which of the optional keys count depends on the action.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Step {
    /// When, from the scenario's start.
    pub(crate) at: Span,
    #[serde(rename = "do")]
    pub(crate) action: Option<Action>,
    /// It happens that many times, 0 counts as 1, ...
    pub(crate) times: u32,
    /// ... with that time between. `roll`: time between one agent's full view and the next one's end.
    pub(crate) every: Span,
    /// To so many agents, the last ones that are not seeds; 1 if neither is given ...
    pub(crate) count: Option<u32>,
    /// ... or to that share of all running ones, 0 to 1, one at least.
    pub(crate) share: Option<f64>,
    /// To the seeds instead.
    pub(crate) seeds: bool,
    /// `event`: payload bytes.
    pub(crate) bytes: usize,
    /// `pause`, `disconnect`: how long it lasts; for good if zero.
    pub(crate) still: Span,
    /// `loss`: share of the packets that they send, 0 to 1.
    pub(crate) loss: f64,
    /// `delay`: shortest and longest one-way delay.
    pub(crate) delay_min: Span,
    pub(crate) delay_max: Span,
    /// `bandwidth`: bytes per second that each can send.
    pub(crate) bytes_per_second: u64,
    /// `cpu`: share of one core, 0.01 at least.
    pub(crate) cpus: f64,
    /// `install-key`, `use-key`, `remove-key`: which, 0 to 15.
    pub(crate) key: u8,
    /// `roll`: what each agent becomes.
    pub(crate) to: Become,
    /// `roll`, `restart`: how the old ones are ended.
    pub(crate) end: End,
}

/// What happens.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// An agent sends a user event.
    Event,
    /// An agent sends a query to all and requests acks.
    Query,
    /// From now on, an event `every` so often, from whichever agent runs, to the scenario's end.
    Stream,
    /// Containers are killed.
    Crash,
    /// All crashed ones start again at their addresses, with their snapshots.
    Restart,
    /// All crashed ones start again in new containers: same names, other addresses, nothing kept.
    Move,
    /// Agents are killed and started at once in new containers: same names, other addresses, nothing kept.
    Replace,
    /// Agents leave gracefully.
    Leave,
    /// New agents join.
    Join,
    /// Processes stand still.
    Pause,
    /// Containers lose their network's interface, and get it back.
    Disconnect,
    /// They are cut off together from the others.
    Partition,
    /// Partitions, loss and limits are over.
    Heal,
    /// What they send is lost at a share.
    Loss,
    /// All packets between agents are delayed.
    Delay,
    /// What they send is limited.
    Bandwidth,
    /// Their CPU time is limited.
    Cpu,
    /// A key is added everywhere.
    InstallKey,
    /// All agents seal with it.
    UseKey,
    /// It is removed everywhere.
    RemoveKey,
    /// One after the other is ended and started again, as the same or the other software.
    Roll,
}

/// What an agent is after its turn of a roll.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Become {
    #[default]
    Same,
    /// Thane if it is Serf, and Serf if it is Thane.
    Other,
}

/// How an agent is ended.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    #[default]
    Term,
    Kill,
}

/// When a run has passed. What is not given is not judged, but no agent may ever end by itself.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pass {
    /// All have full views so soon after the last start.
    pub(crate) full_views: Option<Span>,
    /// Each event is heard by all that run and are connected, so soon.
    pub(crate) event_all: Option<Span>,
    /// So many pairs of event and agent may lack, of those that run and are connected.
    pub(crate) events_lost: Option<u64>,
    /// Each query is acked by this share of all that run, at least.
    pub(crate) query_acks: Option<f64>,
    /// All others know a crash so soon.
    pub(crate) crash_known: Option<Span>,
    /// All others know a leave so soon.
    pub(crate) leave_known: Option<Span>,
    /// Reports by healthy agents of failed members that run and are connected.
    pub(crate) false_failures: Option<u64>,
    /// All views are equal and right so soon after the last step.
    pub(crate) whole: Option<Span>,
    /// Lines about conflicting addresses or names in all logs.
    pub(crate) conflicts: Option<u64>,
    /// Events that a handler saw twice.
    pub(crate) handled_twice: Option<u64>,
    /// Pairs of event and agent that no handler saw, though the agent ran and ran on for 5 s.
    pub(crate) handled_lost: Option<u64>,
    /// Pairs of event and agent that no handler saw, in a cluster of Thane agents that all disseminate eagerly.
    pub(crate) eager_lost: Option<u64>,
    /// Not more lost by agents that end soon after than between Serf alone, in the same command.
    pub(crate) lost_as_serf: bool,
    /// Whether Thane's agents, all of them, use io_uring.
    pub(crate) io_uring: Option<bool>,
    /// What each agent sends, bytes per second, at most.
    pub(crate) sent_bytes: Option<u64>,
}

/// Name and text of the scenarios that come with the testbed, in the order of a run of all.
const TEXTS: &[(&str, &str)] = &[
    ("smoke", include_str!("../scenarios/smoke.toml")),
    ("standard", include_str!("../scenarios/standard.toml")),
    ("bootstrap", include_str!("../scenarios/bootstrap.toml")),
    ("idle", include_str!("../scenarios/idle.toml")),
    ("event", include_str!("../scenarios/event.toml")),
    ("query", include_str!("../scenarios/query.toml")),
    ("crash", include_str!("../scenarios/crash.toml")),
    ("crash-tenth", include_str!("../scenarios/crash-tenth.toml")),
    ("crash-half", include_str!("../scenarios/crash-half.toml")),
    ("leave", include_str!("../scenarios/leave.toml")),
    ("pause", include_str!("../scenarios/pause.toml")),
    ("disconnect", include_str!("../scenarios/disconnect.toml")),
    ("partition", include_str!("../scenarios/partition.toml")),
    ("loss-5", include_str!("../scenarios/loss-5.toml")),
    ("loss-25", include_str!("../scenarios/loss-25.toml")),
    ("delay", include_str!("../scenarios/delay.toml")),
    ("bandwidth", include_str!("../scenarios/bandwidth.toml")),
    ("cpu", include_str!("../scenarios/cpu.toml")),
    ("mtu", include_str!("../scenarios/mtu.toml")),
    ("ipv6", include_str!("../scenarios/ipv6.toml")),
    ("dns", include_str!("../scenarios/dns.toml")),
    ("no-io-uring", include_str!("../scenarios/no-io-uring.toml")),
    ("rolling-restart", include_str!("../scenarios/rolling-restart.toml")),
    ("pods", include_str!("../scenarios/pods.toml")),
    ("seed-loss", include_str!("../scenarios/seed-loss.toml")),
    ("restart-all", include_str!("../scenarios/restart-all.toml")),
    ("key-rotation", include_str!("../scenarios/key-rotation.toml")),
    ("upgrade", include_str!("../scenarios/upgrade.toml")),
    ("upgrade-kill", include_str!("../scenarios/upgrade-kill.toml")),
];

/// All names and what they show.
pub(crate) fn catalog() -> Vec<Scenario> {
    TEXTS.iter().map(|(_, text)| Scenario::parse(text).expect("a test parses them all")).collect()
}

impl Scenario {
    /// The scenario of that name, or in that file.
    ///
    /// # Errors
    /// No such scenario; or the file's line and what is wrong with it.
    pub(crate) fn find(name: &str) -> Result<Scenario, Failure> {
        if let Some((_, text)) = TEXTS.iter().find(|(known, _)| *known == name) {
            return Scenario::parse(text);
        }
        let path = std::path::Path::new(name);
        if path.extension().is_none_or(|ending| ending != "toml") {
            let names: Vec<&str> = TEXTS.iter().map(|(name, _)| *name).collect();
            return Err(Failure::new(format!(
                "no scenario {name}: there are {}, and any file whose name ends in .toml",
                names.join(", ")
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
        Scenario::parse(&text).map_err(|failure| Failure::new(format!("{name}: {failure}")))
    }

    /// # Errors
    /// Where the text is wrong and what was expected.
    pub(crate) fn parse(text: &str) -> Result<Scenario, Failure> {
        let mut scenario: Scenario = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
            Failure::new(format!("line {line}: {}", error.message()))
        })?;
        scenario.check()?;
        text.clone_into(&mut scenario.text);
        Ok(scenario)
    }

    fn check(&self) -> Result<(), Failure> {
        let refuse = |text: String| Err(Failure::new(text));
        for (place, step) in self.steps.iter().enumerate() {
            let number = place + 1;
            let Some(action) = step.action else { return refuse(format!("step {number} has no `do`")) };
            if step.at > self.lasts {
                return refuse(format!("step {number} is at {}, after the end at {}", step.at, self.lasts));
            }
            let shares = [("share", step.share.unwrap_or(1.0)), ("loss", step.loss)];
            if let Some((key, share)) = shares.iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
                return refuse(format!("step {number}: {key} is {share}; it must be 0 to 1"));
            }
            let lacks = match action {
                Action::Loss if step.loss == 0.0 => Some("loss"),
                Action::Delay if step.delay_max.0.is_zero() => Some("delay_max"),
                Action::Delay if step.delay_max < step.delay_min => Some("a delay_max above delay_min"),
                Action::Bandwidth if step.bytes_per_second == 0 => Some("bytes_per_second"),
                Action::Cpu if !(0.01..=16.0).contains(&step.cpus) => Some("cpus of 0.01 to 16"),
                Action::Stream if step.every.0.is_zero() => Some("every"),
                Action::InstallKey | Action::UseKey | Action::RemoveKey if step.key > 15 => {
                    Some("a key of 0 to 15")
                }
                Action::InstallKey | Action::UseKey | Action::RemoveKey if !self.settings.encrypted => {
                    Some("settings with encrypted = true")
                }
                _ if step.times > 1 && step.every.0.is_zero() => Some("every, with times"),
                _ => None,
            };
            if let Some(key) = lacks {
                return refuse(format!("step {number}: {action:?} needs {key}"));
            }
        }
        let judges_handlers = self.pass.handled_twice.is_some()
            || self.pass.handled_lost.is_some()
            || self.pass.eager_lost.is_some()
            || self.pass.lost_as_serf;
        if judges_handlers && !self.settings.handlers {
            return refuse("pass judges handlers, but settings have no handlers = true".into());
        }
        Ok(())
    }

    /// The same between Serf alone, for comparison: nothing becomes other software, and only what agents do by
    /// themselves is judged. None where this scenario replaces nothing.
    pub(crate) fn between_serf(&self) -> Option<Scenario> {
        let mut alone = Scenario { name: format!("{}-serf-alone", self.name), ..self.clone() };
        alone.steps.iter_mut().for_each(|step| step.to = Become::Same);
        alone.pass = Pass::default();
        (alone.steps != self.steps).then_some(alone)
    }

    /// When what happens: steps that happen several times are several, in the order of time.
    pub(crate) fn schedule(&self) -> Vec<(Duration, &Step)> {
        let each = |step: &'_ Step| {
            (0..step.times.max(1)).map(|time| step.at.0 + step.every.0 * time).collect::<Vec<_>>()
        };
        let mut all: Vec<(Duration, &Step)> =
            self.steps.iter().flat_map(|step| each(step).into_iter().map(move |at| (at, step))).collect();
        all.sort_by_key(|(at, _)| *at);
        all
    }
}

impl Step {
    /// How many of `running` agents it is about.
    pub(crate) fn whom(&self, running: usize) -> usize {
        match (self.count, self.share) {
            (Some(count), _) => count as usize,
            (None, Some(share)) => ((running as f64 * share).round() as usize).max(1),
            (None, None) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HEAD: &str = "name = \"x\"\nabout = \"y\"\nlasts = \"10s\"\n";

    #[test]
    fn all_scenarios_are_understood_and_named_as_their_files() {
        for (name, text) in TEXTS {
            let scenario = Scenario::parse(text).unwrap_or_else(|failure| panic!("{name}: {failure}"));
            assert_eq!(scenario.name, *name);
            assert!(scenario.pass != Pass::default(), "{name} judges nothing");
        }
        assert_eq!(catalog().len(), TEXTS.len());
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let cases = [
            ("[[step]]\nat = \"1s\"\ndo = \"crush\"\n", "line 6: unknown variant `crush`"),
            ("[[step]]\nat = \"1s\"\n", "step 1 has no `do`"),
            ("[[step]]\nat = \"11s\"\ndo = \"crash\"\n", "after the end at 10s"),
            ("[[step]]\ndo = \"crash\"\nshare = 1.5\n", "share is 1.5; it must be 0 to 1"),
            ("[[step]]\ndo = \"loss\"\n", "Loss needs loss"),
            ("[[step]]\ndo = \"use-key\"\n", "encrypted = true"),
            ("[[step]]\ndo = \"event\"\ntimes = 3\n", "every, with times"),
            ("[pass]\nhandled_twice = 0\n", "handlers = true"),
            ("bogus = 1\n", "unknown field `bogus`"),
        ];
        for (text, expected) in cases {
            let said = Scenario::parse(&format!("{HEAD}{text}")).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
        let said = Scenario::find("nothing").unwrap_err().to_string();
        assert!(said.contains("bootstrap") && !said.contains('\n'), "{said}");
    }

    #[test]
    fn steps_repeat_and_are_put_in_order() {
        let text = format!(
            "{HEAD}[[step]]\nat = \"1s\"\ndo = \"event\"\ntimes = 3\nevery = \"2s\"\n\
             [[step]]\nat = \"2s\"\ndo = \"heal\"\n"
        );
        let scenario = Scenario::parse(&text).unwrap();
        let at: Vec<(u64, Action)> =
            scenario.schedule().iter().map(|(at, step)| (at.as_secs(), step.action.unwrap())).collect();
        assert_eq!(at, [(1, Action::Event), (2, Action::Heal), (3, Action::Event), (5, Action::Event)]);
    }

    #[test]
    fn an_upgrade_is_compared_with_restarts_of_serf() {
        let alone = Scenario::find("upgrade").unwrap().between_serf().unwrap();
        assert_eq!(alone.name, "upgrade-serf-alone");
        assert!(alone.steps.iter().all(|step| step.to == Become::Same) && alone.steps.len() == 3);
        assert_eq!(Scenario::find("rolling-restart").unwrap().between_serf(), None);
    }

    #[test]
    fn keys_are_different_and_of_a_length_that_all_take() {
        let settings = Settings::default();
        let keys: std::collections::BTreeSet<String> =
            (0..16).map(|key| settings.key(key).unwrap()).collect();
        assert_eq!(keys.len(), 16);
        assert_eq!(settings.key(16), None);
    }
}
