//! Scenarios as data: how many nodes, what network, what happens when. One TOML format, which the World
//! plays ([`super::Play`]) and which other drivers can play too.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::network::Network;
use crate::config::{DisseminationPolicy, Profile, RawConfig};
use crate::duration::Span;

/// More nodes than a World takes: 100,000 views of 100,000 members are 80 GB.
pub const NODES_MAX: u32 = 100_000;
/// Multiples of it are spread evenly between whole numbers.
const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;
/// The longest scenario.
const SPAN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// A scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// One line: what it shows.
    pub about: String,
    /// Nodes there are at the start.
    pub nodes: u32,
    /// Whether all nodes know each other at the start; else there is one node, and the others join it.
    #[serde(default)]
    pub start: Start,
    /// Share of the other members that each node does not know at a converged start, 0 to 1; others for each node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub views_missing: f64,
    /// How long it lasts.
    pub lasts: Span,
    /// What the network is like.
    #[serde(default)]
    pub network: NetworkSpec,
    /// Settings that differ from Serf's for a local network.
    #[serde(default)]
    pub settings: Settings,
    /// What happens, in any order.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
    /// At the end all faults are healed, and the views must become equal within the bound.
    #[serde(default)]
    pub settle: bool,
}

/// How the nodes come together.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// They have known each other for long.
    #[default]
    Converged,
    /// All start at once and join the first.
    Join,
}

/// What the network is like; see [`Network`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSpec {
    /// Shortest one-way delay.
    pub delay_min: Span,
    /// Longest one-way delay but for the tail.
    pub delay_max: Span,
    /// Share of packets that are delayed further.
    pub tail_share: f64,
    /// Mean of that delay.
    pub tail_mean: Span,
    /// Share of datagrams lost.
    pub loss: f64,
    /// Share of datagrams that arrive twice.
    pub duplication: f64,
    /// Bytes per second that each node can send; 0: no limit.
    pub bytes_per_second: u64,
    /// Share of stream writes that break in the middle.
    pub stream_cuts: f64,
}

impl Default for NetworkSpec {
    fn default() -> NetworkSpec {
        let network = Network::default();
        NetworkSpec {
            delay_min: Span(network.delay_min),
            delay_max: Span(network.delay_max),
            tail_share: network.tail_share,
            tail_mean: Span(network.tail_mean),
            loss: network.loss,
            duplication: network.duplication,
            bytes_per_second: network.bytes_per_second,
            stream_cuts: network.stream_cuts,
        }
    }
}

impl NetworkSpec {
    /// The World's network.
    pub fn network(&self) -> Network {
        Network {
            delay_min: self.delay_min.0,
            delay_max: self.delay_max.0,
            tail_share: self.tail_share,
            tail_mean: self.tail_mean.0,
            loss: self.loss,
            duplication: self.duplication,
            bytes_per_second: self.bytes_per_second,
            stream_cuts: self.stream_cuts,
        }
    }
}

/// Settings that differ from the profile's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The profile of timings; default `lan`.
    #[serde(skip_serializing_if = "is_default")]
    pub profile: Profile,
    /// How news reaches all members; default the profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dissemination: Option<DisseminationPolicy>,
    /// Gossip is encrypted.
    pub encrypted: bool,
    /// LZW compression; off by default here, because it takes most of a simulation's time.
    pub compression: bool,
    /// Time between push/pulls; `0s`: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push_pull_interval: Option<Span>,
    /// Share of nodes that speak no extensions between Thane nodes, as Serf nodes, 0 to 1: 0 none, 1 all.
    #[serde(skip_serializing_if = "is_default")]
    pub serf_share: f64,
    /// Queues of intents, queries and events are cut to this length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_depth_max: Option<usize>,
    /// Factor of the suspicion timeout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspicion_mult: Option<u32>,
    /// Unconfirmed suspicions wait this many times longer; 1 switches Lifeguard's dynamic suspicion off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspicion_max_timeout_mult: Option<u32>,
    /// The health score stays below this; 1 switches Lifeguard's local health off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awareness_max_multiplier: Option<u32>,
    /// Whether a ping to a suspect carries the accusation; `false` switches Lifeguard's buddy system off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buddy_system: Option<bool>,
}

impl Settings {
    /// How news reaches all members.
    pub fn policy(&self) -> DisseminationPolicy {
        let unnamed = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        self.dissemination.unwrap_or_else(|| RawConfig::of(self.profile, "", unnamed).dissemination)
    }

    /// Applies them to the settings of profile `lan`.
    pub fn apply(&self, raw: &mut RawConfig) {
        // Spread evenly over the numbers in the names.
        let number = f64::from(raw.node_name.trim_start_matches('n').parse::<u32>().unwrap_or_default());
        raw.extensions = (number * GOLDEN_RATIO).fract() >= self.serf_share;
        if raw.extensions {
            *raw = RawConfig::of(self.profile, std::mem::take(&mut raw.node_name), raw.advertise);
            raw.dissemination = self.policy();
        } else {
            // Serf's nodes know one policy, and no profile of ours.
            raw.dissemination = DisseminationPolicy::Classic;
        }
        raw.compression = self.compression;
        if self.encrypted {
            raw.keys = vec![vec![7; 32]];
        }
        if let Some(interval) = self.push_pull_interval {
            // Longer than any scenario lasts.
            raw.push_pull_interval = if interval.0.is_zero() { SPAN_MAX * 100 } else { interval.0 };
        }
        raw.queue_depth_max = self.queue_depth_max.unwrap_or(raw.queue_depth_max);
        raw.suspicion_mult = self.suspicion_mult.unwrap_or(raw.suspicion_mult);
        raw.suspicion_max_timeout_mult =
            self.suspicion_max_timeout_mult.unwrap_or(raw.suspicion_max_timeout_mult);
        raw.awareness_max_multiplier = self.awareness_max_multiplier.unwrap_or(raw.awareness_max_multiplier);
        raw.buddy_system = self.buddy_system.unwrap_or(raw.buddy_system);
    }
}

/// Something that happens. Which of the optional keys count depends on the action.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// When.
    pub at: Span,
    /// What.
    #[serde(rename = "do")]
    pub action: Action,
    /// Happens that many times, 0 counts as 1, ...
    #[serde(skip_serializing_if = "is_default")]
    pub times: u32,
    /// ... with that time between.
    #[serde(skip_serializing_if = "is_default")]
    pub every: Span,
    /// To so many nodes chosen from the seed, never the first, which watches; 1 if neither is given ...
    #[serde(skip_serializing_if = "is_default")]
    pub count: Option<u32>,
    /// ... or to that share of the running ones, 0 to 1, one node at least.
    #[serde(skip_serializing_if = "is_default")]
    pub share: Option<f64>,
    /// `event`: payload bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub bytes: usize,
    /// `restart`: from snapshots; else they join the first node.
    #[serde(skip_serializing_if = "is_default")]
    pub snapshot: bool,
    /// `restart`: under new addresses.
    #[serde(skip_serializing_if = "is_default")]
    pub moved: bool,
    /// `partition`: those cut off hear nothing, but are heard.
    #[serde(skip_serializing_if = "is_default")]
    pub one_way: bool,
    /// `link`: share of incoming packets lost.
    #[serde(skip_serializing_if = "is_default")]
    pub inbound_loss: f64,
    /// `link`: share of outgoing packets lost.
    #[serde(skip_serializing_if = "is_default")]
    pub outbound_loss: f64,
    /// `link`: bad for this time, ...
    #[serde(skip_serializing_if = "is_default")]
    pub bad: Span,
    /// ... then good for this time, and so on. Zero: always bad.
    #[serde(skip_serializing_if = "is_default")]
    pub good: Span,
    /// `starve`, `hold-messages`: paused for this time, ... `pause`: once.
    #[serde(skip_serializing_if = "is_default")]
    pub still: Span,
    /// ... then running for this time.
    #[serde(skip_serializing_if = "is_default")]
    pub runs: Span,
    /// `skew`: seconds of the node for one of the world.
    #[serde(skip_serializing_if = "is_default")]
    pub rate: f64,
    /// `install-key`, `use-key`, `remove-key`: which; 0 is the one that all nodes start with.
    #[serde(skip_serializing_if = "is_default")]
    pub key: u8,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What happens.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Not given; refused.
    #[default]
    #[serde(skip)]
    Nothing,
    /// Partitions, bad links, starvation and pauses are over.
    Heal,
    /// A random node sends a user event.
    Event,
    /// A random node sends a query and asks for acks.
    Query,
    /// Nodes are gone without a word.
    Crash,
    /// All nodes that crashed start again under their names.
    Restart,
    /// Nodes leave gracefully.
    Leave,
    /// All nodes that left start again under their names and new addresses.
    Move,
    /// The first node has all failed members pruned.
    Prune,
    /// The picked nodes and the first one: forged messages tell each of them that the others left and are pruned.
    Expel,
    /// New nodes join the first.
    Join,
    /// Nodes are cut off together from the others.
    Partition,
    /// Nodes' links lose packets.
    Link,
    /// Nodes get no CPU for a span, then get some, and so on.
    Starve,
    /// Nodes' messages wait in both directions for a span, then pass for one, and so on; timers run (the
    /// Lifeguard paper's slow members).
    HoldMessages,
    /// Nodes stand still once.
    Pause,
    /// Nodes' clocks run at another rate.
    Skew,
    /// Nodes get a datagram or a stream of random bytes each.
    Hostile,
    /// A key is added everywhere.
    InstallKey,
    /// All nodes seal with it.
    UseKey,
    /// It is taken out everywhere.
    RemoveKey,
}

impl Step {
    /// To how many of `running` nodes.
    pub fn whom(&self, running: usize) -> usize {
        match (self.count, self.share) {
            (Some(count), _) => count as usize,
            (None, Some(share)) => ((running as f64 * share).round() as usize).max(1),
            (None, None) => 1,
        }
    }
}

/// Why a scenario is refused.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// The TOML is wrong; the text names line, key and what was expected.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A value is out of range.
    #[error("{key} is {value}; it must be {expected}")]
    Range {
        /// Which key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        expected: String,
    },
}

impl Scenario {
    /// Reads and checks a scenario.
    ///
    /// # Errors
    /// Where the text is wrong and what was expected.
    pub fn parse(text: &str) -> Result<Scenario, ScenarioError> {
        let scenario: Scenario = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// The scenario as text, for a replay.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every scenario has a text")
    }

    /// Checks the ranges of all values.
    ///
    /// # Errors
    /// The first that is out of range.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let range = |key, value: String, expected: String| Err(ScenarioError::Range { key, value, expected });
        if !(1..=NODES_MAX).contains(&self.nodes) {
            return range("nodes", self.nodes.to_string(), format!("1 to {NODES_MAX}"));
        }
        if self.lasts.0 > SPAN_MAX {
            return range("lasts", self.lasts.to_string(), "seven days at most".to_owned());
        }
        let network = &self.network;
        let mut shares: BTreeMap<&'static str, f64> = [
            ("network.loss", network.loss),
            ("network.duplication", network.duplication),
            ("network.tail_share", network.tail_share),
            ("network.stream_cuts", network.stream_cuts),
            ("views_missing", self.views_missing),
            ("settings.serf_share", self.settings.serf_share),
        ]
        .into();
        if network.delay_max < network.delay_min {
            return range(
                "network.delay_max",
                network.delay_max.to_string(),
                "delay_min at least".to_owned(),
            );
        }
        for step in &self.steps {
            let required = match step.action {
                Action::Nothing => ("step.do", false),
                Action::Skew => ("step.rate", (0.01..=100.0).contains(&step.rate)),
                Action::Starve | Action::HoldMessages => {
                    ("step.runs", step.runs > Span::default() && step.still > Span::default())
                }
                Action::Pause => ("step.still", step.still > Span::default()),
                _ => ("step.times", true),
            };
            if !required.1 {
                let expected = "given, above zero (`rate`: 0.01 to 100)".to_owned();
                return range(required.0, "missing or out of range".to_owned(), expected);
            }
            let worst = |key, value: f64, shares: &mut BTreeMap<&'static str, f64>| {
                if shares.get(key).is_none_or(|known| (0.0..=1.0).contains(known)) {
                    shares.insert(key, value);
                }
            };
            worst("step.inbound_loss", step.inbound_loss, &mut shares);
            worst("step.outbound_loss", step.outbound_loss, &mut shares);
            worst("step.share", step.share.unwrap_or(0.0), &mut shares);
        }
        match shares.iter().find(|(_, share)| !(0.0..=1.0).contains(*share)) {
            Some((key, share)) => range(key, share.to_string(), "0 to 1".to_owned()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = r#"
name = "x"
about = "all kinds of steps"
nodes = 10
lasts = "1m"
[network]
loss = 0.05
[[step]]
at = "1.5s"
do = "crash"
share = 0.1
[[step]]
at = "2s"
times = 3
every = "200ms"
do = "event"
bytes = 30
[[step]]
at = "3s"
do = "starve"
count = 2
still = "128ms"
runs = "1ms"
[[step]]
at = "4s"
do = "heal"
"#;

    #[test]
    fn is_the_same_after_writing_and_reading() {
        let scenario = Scenario::parse(TEXT).unwrap();
        assert_eq!(scenario.steps.len(), 4);
        assert_eq!(scenario.steps[0].at.0, Duration::from_millis(1500));
        assert_eq!(Scenario::parse(&scenario.to_toml()).unwrap(), scenario);
    }

    #[test]
    fn tells_where_the_text_is_wrong() {
        let cases = [
            (TEXT.replace("loss = 0.05", "los = 0.05"), vec!["line 7", "los", "expected"]),
            (TEXT.replace("nodes = 10", "nodes = \"ten\""), vec!["line 4", "nodes", "u32"]),
            (TEXT.replace("\"1m\"", "\"1 fortnight\""), vec!["line 5", "not a duration"]),
            (TEXT.replace("\"crash\"", "\"crush\""), vec!["crush", "crash"]),
            (TEXT.replace("nodes = 10", "nodes = 1000000"), vec!["nodes is 1000000", "1 to 100000"]),
            (TEXT.replace("loss = 0.05", "loss = 5.0"), vec!["network.loss is 5", "0 to 1"]),
        ];
        for (text, expected) in cases {
            let error = Scenario::parse(&text).unwrap_err().to_string();
            for part in expected {
                assert!(error.contains(part), "{error:?} lacks {part:?}");
            }
        }
    }
}
