//! The settings of a Node. Each has its unit, its default, its range, and what more and less of it cost.
//!
//! A [`RawConfig`] is checked once, when [`RawConfig::check`] makes a [`Config`] of it. Defaults are those of
//! [`RawConfig::lan`]; where the profiles differ, the WAN and local values follow in parentheses. All intervals
//! have a resolution of 1 ms.

mod restored;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;

pub use self::restored::Restored;
use crate::wire::{ip_to_bytes, limits};

/// Timing profile of Serf: the kind of network that the defaults are for (PROTOCOL 8).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "sim", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Profile {
    /// A local network. Serf's default.
    #[default]
    Lan,
    /// Links with round trips of 50 ms and more and some loss.
    Wan,
    /// All nodes on one machine.
    Local,
    /// A local network whose members are Thane nodes, and where failures must be known within seconds. Thane's own.
    Fast,
}

impl Profile {
    /// Its name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Lan => "lan",
            Profile::Wan => "wan",
            Profile::Local => "local",
            Profile::Fast => "fast",
        }
    }
}

impl std::str::FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Profile, String> {
        let all = [Profile::Lan, Profile::Wan, Profile::Local, Profile::Fast];
        let named = all.into_iter().find(|profile| profile.name() == text);
        named.ok_or_else(|| format!("unknown profile {text:?}: use \"lan\", \"wan\", \"local\" or \"fast\""))
    }
}

/// How news reaches all members. Both policies send ordinary gossip, and clusters may mix them, and real Serf.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "sim", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum DisseminationPolicy {
    /// Serf's: a few random members get the queued news every gossip interval.
    #[default]
    Classic,
    /// A node forwards news the moment it sees it first, along a graph in which everybody is reached about five times.
    /// Random members get it in the gossip rounds after that, the fewer the more often the node heard it again.
    Eager,
}

impl std::str::FromStr for DisseminationPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<DisseminationPolicy, String> {
        match text {
            "classic" => Ok(DisseminationPolicy::Classic),
            "eager" => Ok(DisseminationPolicy::Eager),
            other => Err(format!("unknown policy {other:?}: use \"classic\" or \"eager\"")),
        }
    }
}

/// The settings as a program or a file gives them. [`RawConfig::check`] makes a [`Config`].
#[derive(Clone, Debug)]
pub struct RawConfig {
    /// Node name, unique in the cluster. 1 to 512 bytes; no default. It travels in most messages: short names
    /// leave more room in packets.
    pub node_name: String,
    /// Refuse names of members, this node's included, other than 1 to 128 ASCII letters, digits, `-` and `.`
    /// (Serf's ValidateNodeNames). Default false: any UTF-8 text is a name. True: members with other names are never
    /// listed, and the cluster must agree on that.
    pub validate_node_names: bool,
    /// The address that this node announces; its port serves UDP and TCP. An address that other members can
    /// reach, with a port; no default.
    pub advertise: SocketAddr,
    /// Announce an IPv4 address in the 16 bytes of its IPv6-mapped form instead of 4. Default false. Serf compares
    /// announced addresses byte by byte: a node that takes the place of a Serf agent must announce the same bytes.
    /// Serf's agent uses 16 bytes for an address that it picks because it is bound to all addresses, otherwise 4.
    pub advertise_in_16_bytes: bool,
    /// Tags. At most 512 bytes encoded; default none. Every member keeps them, and every push/pull carries them.
    pub tags: BTreeMap<String, String>,
    /// Run the serf layer: user events, queries, intents, coordinates, reconnecting. Default true. Without it the
    /// node speaks plain SWIM: memberships, and messages and state as the
    /// [`Delegate`](crate::delegate::Delegate) handles them. Plain nodes and Serf's refuse to join each other.
    pub serf: bool,
    /// Serf protocol version, 2 to 5; default 5. Below 3 others see only the tag `role`; below 4 there are no
    /// queries.
    pub protocol: u8,
    /// Gossip encryption keys of 16, 24 or 32 bytes, the primary one first. Default none: no encryption. Sealing
    /// takes 29 bytes of every packet; opening tries one key after the other.
    pub keys: Vec<Vec<u8>>,
    /// Cluster label (newer memberlists); at most 255 bytes. Default empty: none. Packets with another label are
    /// refused. It takes its length and 2 bytes of every packet.
    pub label: Vec<u8>,
    /// Networks that members may have addresses in, and that news of members may come from. Default empty: all.
    pub cidrs_allowed: Vec<IpNet>,
    /// Refuse packets that no key opens. Default true. False only while a cluster moves to encryption: then
    /// every sender that reaches the port is believed.
    pub gossip_verify_incoming: bool,
    /// Seal what is sent. Default true. False only while a cluster moves to encryption: the packets can be read on
    /// their way.
    pub gossip_verify_outgoing: bool,
    /// LZW-compress what gets smaller by it: push/pulls and messages above 1,400 bytes. Default true. Costs 5 to
    /// 8 µs for 1,400 bytes; without it push/pulls are longer.
    pub compression: bool,

    /// Time between two probes. Above 0; default 1 s (WAN 5 s, local 1 s). More: failures are found later, in
    /// proportion. Less: more traffic, 2 packets a probe.
    pub probe_interval: Duration,
    /// How long a probe waits for a direct ack before it asks other members. Above 0, and below the probe
    /// interval to be of use; default 500 ms (WAN 3 s, local 200 ms). It should exceed the 99th percentile of the
    /// round trips. More: less time for the indirect probe. Less: needless indirect probes.
    pub probe_timeout: Duration,
    /// Members that are asked to ping a target that did not ack (k of SWIM 3.1). Any; default 3 (local 1). More:
    /// fewer false suspicions where packets are lost, 4 packets more each. 0: no indirect probes.
    pub indirect_checks: u32,
    /// Suspicion timeout, as a factor of the probe interval and of log10 of the cluster's size (Lifeguard's
    /// alpha). Any; default 4 (WAN 6, local 3). More: failures are declared later. Less: more false positives.
    pub suspicion_mult: u32,
    /// A suspicion that no other member confirms lasts this many times the suspicion timeout (Lifeguard's
    /// beta). Any, 0 counts as 1; default 6. More: fewer false positives of a member that is slow itself. Less:
    /// failures that few members notice are declared sooner.
    pub suspicion_max_timeout_mult: u32,
    /// The health score stays below this (Lifeguard's S); a score of h makes the probe interval h + 1 times as
    /// long. At least 1; default 8. More: a sick node accuses less, and finds failures later. 1: off.
    pub awareness_max_multiplier: u32,
    /// A ping to a suspect carries the accusation, so that the suspect can refute at once (Lifeguard's buddy
    /// system). Default true. Without it a suspect learns of the accusation by gossip: some bytes less a ping,
    /// more false positives.
    pub buddy_system: bool,
    /// Detect failures as fast as measured round trips allow. The probe timeout is 50 ms to `probe_timeout`, from the
    /// round trips of recent acks; a probe ends after four of these; eight members probe a suspect at once when they hear
    /// of it; a suspicion that `suspicion_mult` - 2 of them confirm lasts two probe intervals whatever the cluster's size,
    /// and other suspicions as long as without. Default false (fast true). Needs members that do the same: Serf nodes
    /// do not corroborate, and a suspicion that nobody confirms lasts long.
    pub fast_detection: bool,
    /// Ping over a stream too where a datagram got no ack. Default true. Without it a network that loses
    /// datagrams only makes healthy members fail.
    pub tcp_pings: bool,
    /// Deadline of a stream, from connecting to the answer. Above 0; default 10 s (WAN 30 s, local 1 s). More: a
    /// member that does not answer holds one of 256 streams for longer. Less: large states do not get through
    /// on slow links.
    pub tcp_timeout: Duration,
    /// Time between two push/pulls that this node starts, in a cluster of up to 32 members; beyond, times
    /// ceil(log2(n / 32)) + 1. Above 0; default 30 s (WAN 60 s, local 15 s). More: what gossip missed is
    /// repaired later. Less: more traffic; a state has some 128 bytes a member.
    pub push_pull_interval: Duration,
    /// How news reaches all members. Default classic, because eager was measured for single events only, and neither in
    /// fleets nor in large mixed clusters (docs/convergence.md). Eager: an event reaches 10,000 members within
    /// milliseconds, with a third of the packets; they leave at once and not spread over rounds.
    pub dissemination: DisseminationPolicy,
    /// Time between two gossip rounds while broadcasts are queued. Above 0; default 200 ms (WAN 500 ms, local
    /// 100 ms). More: news spreads more slowly. Less: more, and emptier, packets.
    pub gossip_interval: Duration,
    /// Members that each gossip round goes to. Any; default 3 (WAN 4). More: news spreads faster, in more
    /// packets. 0: broadcasts travel on pings and acks only.
    pub gossip_nodes: u32,
    /// How long gossip still goes to a dead member, so that it can refute. Any; default 30 s (WAN 60 s, local
    /// 15 s). More: packets to members that are gone, and a longer SWIM table. Less: a member that was cut off
    /// returns only when a member reconnects to it.
    pub gossip_to_the_dead: Duration,
    /// Transmissions of one broadcast: this times ceil(log10(n + 1)). Any; default 4 (local 2). More: fewer
    /// members miss a broadcast, more traffic in proportion. 0: one transmission.
    pub retransmit_mult: u32,

    /// How long a failed member stays listed before it is erased. Any; default 24 h. More: memory, and
    /// reconnection attempts. Less: a member that was away for long returns as a new one.
    pub reconnect_timeout: Duration,
    /// How long a member that left stays listed before it is erased, and how long an erased one is remembered.
    /// Any; default 24 h. More: memory. Less: old states of others may bring it back.
    pub tombstone_timeout: Duration,
    /// Time between two attempts to reach a failed member. Default 30 s; 0: never. More: a healed partition stays
    /// open for longer. Less: more connections to members that are gone.
    pub reconnect_interval: Duration,
    /// Time between two searches for members to erase. Above 0; default 15 s. More: members stay up to that much
    /// longer. Less: one pass over all departed members each time.
    pub reap_interval: Duration,
    /// How long an intent waits for a member that is not known yet. Any; default 5 min. More: memory, up to 4,096
    /// names. Less: an intent that overtakes its member by more is lost.
    pub recent_intent_timeout: Duration,
    /// How long a leave, a force-leave or new tags wait for their broadcast to go out. Any; default 5 s. More:
    /// the command takes longer in a busy cluster. Less: it completes before the news is out.
    pub broadcast_timeout: Duration,
    /// Wait after the own departure went out, so that it spreads before the node is gone. Any; default 1 s. More:
    /// a leave takes longer. Less: some members see a failure instead.
    pub leave_propagate_delay: Duration,
    /// Time between two checks of the queues' lengths. Above 0; default 30 s. More: long queues are reported
    /// later. Less: more log lines while they are long.
    pub queue_check_interval: Duration,
    /// Queues of this many broadcasts are reported to the log. Any; default 128.
    pub queue_depth_warning: usize,
    /// Queues of serf messages are cut to this many broadcasts, those sent most often first. Any; default 4,096.
    /// More: memory, and longer delays of what is queued last. Less: bursts are lost.
    pub queue_depth_max: usize,
    /// Default timeout of a query: the gossip interval times this times ceil(log10(n + 1)). Any; default 16. More:
    /// queries take longer. Less: late answers are missed.
    pub query_timeout_mult: u32,
    /// Longest encoded query, bytes. Any; default 1,024. A query above some 1,350 bytes fits no gossip packet and is
    /// refused whatever the limit.
    pub query_size_limit: usize,
    /// Longest encoded query response, bytes. Any; default 1,024. Longer responses travel as several IP fragments.
    pub query_response_size_limit: usize,
    /// Longest user event, bytes: name and payload, and also the encoded event. At most 9,216; default 512. An
    /// event above some 1,350 bytes fits no gossip packet and spreads by push/pulls only, in seconds.
    pub user_event_size_limit: usize,
    /// Coalesces member events: the longest wait and the quiet period that ends it. Default 0: every event is
    /// reported at once. More: fewer, larger and later events.
    pub coalesce_members: (Duration, Duration),
    /// Coalesces user events that allow it: the longest wait and the quiet period that ends it. Default 0: every
    /// event is reported at once. More: fewer and later events.
    pub coalesce_users: (Duration, Duration),
    /// What an earlier run wrote to the snapshot. Default nothing.
    pub restored: Restored,
    /// When another node claims this node's name, ask the cluster to vote, and end if the vote is lost. Default
    /// true. Without it two nodes fight over the name until a person ends one.
    pub resolve_name_conflicts: bool,
    /// Learn network coordinates from acks, and add this node's own to its acks: 130 bytes each. Default true.
    pub coordinates: bool,
    /// Speak the extensions between Thane nodes: a digest in pings and acks, and reconciliation instead of whole states
    /// wherever both sides have it (docs/protocol.md, section 12). Serf nodes notice nothing of either. Off: neither
    /// written nor read. Default true.
    pub extensions: bool,
    /// Emit [`SnapshotRecord`](crate::event::SnapshotRecord)s, for a driver that keeps a snapshot file. Default
    /// false. Needs the serf layer.
    pub snapshot: bool,
    /// Put changed keys out for a keyring file, and change them and answer the query only when they are written. Default
    /// false: the keys are in memory only.
    pub keyring_file: bool,
}

/// Settings of a Node that were checked. They do not change while the node runs.
#[derive(Clone, Debug)]
pub struct Config(RawConfig);

impl std::ops::Deref for Config {
    type Target = RawConfig;

    fn deref(&self) -> &RawConfig {
        &self.0
    }
}

impl Config {
    /// Whether a member may have that address. An IPv4 address counts the same in 4 and in 16 bytes.
    #[inline]
    pub fn allows(&self, ip: IpAddr) -> bool {
        self.allows_all() || self.0.cidrs_allowed.iter().any(|network| network.contains(&ip.to_canonical()))
    }

    /// Whether members may have any address.
    #[inline]
    pub(crate) fn allows_all(&self) -> bool {
        self.0.cidrs_allowed.is_empty()
    }

    /// The announced address as it goes over the wire: 4 or 16 bytes.
    pub(crate) fn advertised_ip(&self) -> Vec<u8> {
        match self.advertise.ip() {
            IpAddr::V4(v4) if self.advertise_in_16_bytes => v4.to_ipv6_mapped().octets().to_vec(),
            ip => ip_to_bytes(ip),
        }
    }

    /// Whether a member may have that name.
    pub fn allows_name(&self, name: &str) -> bool {
        !self.0.validate_node_names || is_valid_name(name)
    }
}

/// Why settings were refused. [`RawConfig::check`] changes nothing then: no node exists yet.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The node name is empty or too long. Carries its bytes.
    #[error("node name has {0} bytes; it must have 1 to {NODE_NAME_BYTES_MAX}")]
    NodeName(usize),
    /// The node name has characters, or a length, that [`RawConfig::validate_node_names`] refuses. Carries it.
    #[error(
        "node name {0:?} is not valid; it must have 1 to {VALID_NAME_BYTES_MAX} letters, digits, '-' and '.'"
    )]
    NodeNameNotValid(String),
    /// The protocol version is out of range. Carries it.
    #[error("protocol version {0} is not supported; it must be in range [2, 5]")]
    Protocol(u8),
    /// The encoded tags are too long. Carries the limit.
    #[error("Encoded length of tags exceeds limit of {0} bytes")]
    Tags(usize),
    /// A key has a wrong size. Carries its bytes.
    #[error("key size must be 16, 24 or 32 bytes, not {0}")]
    Key(usize),
    /// The label is too long. Carries its bytes.
    #[error("label has {0} bytes; it may have at most 255")]
    Label(usize),
    /// The limit of user events is above what Serf accepts.
    #[error("user event size limit exceeds limit of 9216 bytes")]
    UserEventSize,
    /// A setting that must be above 0 is 0. Carries its name.
    #[error("{0} must be greater than zero")]
    Zero(&'static str),
    /// The advertise address has no port.
    #[error("advertise address {0} has no port")]
    Advertise(SocketAddr),
    /// The advertise address is the unspecified one, which other members cannot reach.
    #[error("nobody can reach advertise address {0}; set the one that others see")]
    AdvertiseUnspecified(SocketAddr),
    /// Plain SWIM has no snapshot.
    #[error("a snapshot needs the serf layer")]
    SnapshotWithoutSerf,
}

/// Longest name of this node, bytes. Serf has no limit of its own; a longer name would leave no room in a packet.
pub const NODE_NAME_BYTES_MAX: usize = limits::NODE_NAME_BYTES_MAX;

/// Longest node name with [`RawConfig::validate_node_names`], bytes (Serf's).
pub const VALID_NAME_BYTES_MAX: usize = 128;

fn is_valid_name(name: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (1..=VALID_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_valid)
}

impl RawConfig {
    /// Serf's settings for a local network.
    pub fn lan(node_name: impl Into<String>, advertise: SocketAddr) -> RawConfig {
        let seconds = Duration::from_secs;
        let millis = Duration::from_millis;
        RawConfig {
            node_name: node_name.into(),
            validate_node_names: false,
            advertise,
            advertise_in_16_bytes: false,
            tags: BTreeMap::new(),
            serf: true,
            protocol: 5,
            keys: Vec::new(),
            label: Vec::new(),
            cidrs_allowed: Vec::new(),
            gossip_verify_incoming: true,
            gossip_verify_outgoing: true,
            compression: true,
            probe_interval: seconds(1),
            probe_timeout: millis(500),
            indirect_checks: 3,
            suspicion_mult: 4,
            suspicion_max_timeout_mult: 6,
            awareness_max_multiplier: 8,
            buddy_system: true,
            fast_detection: false,
            tcp_pings: true,
            tcp_timeout: seconds(10),
            push_pull_interval: seconds(30),
            dissemination: DisseminationPolicy::default(),
            gossip_interval: millis(200),
            gossip_nodes: 3,
            gossip_to_the_dead: seconds(30),
            retransmit_mult: 4,
            reconnect_timeout: seconds(24 * 3600),
            tombstone_timeout: seconds(24 * 3600),
            reconnect_interval: seconds(30),
            reap_interval: seconds(15),
            recent_intent_timeout: seconds(300),
            broadcast_timeout: seconds(5),
            leave_propagate_delay: seconds(1),
            queue_check_interval: seconds(30),
            queue_depth_warning: 128,
            queue_depth_max: 4096,
            query_timeout_mult: 16,
            query_size_limit: 1024,
            query_response_size_limit: 1024,
            user_event_size_limit: 512,
            coalesce_members: (Duration::ZERO, Duration::ZERO),
            coalesce_users: (Duration::ZERO, Duration::ZERO),
            restored: Restored::default(),
            resolve_name_conflicts: true,
            coordinates: true,
            extensions: true,
            snapshot: false,
            keyring_file: false,
        }
    }

    /// Serf's settings for wide area networks.
    pub fn wan(node_name: impl Into<String>, advertise: SocketAddr) -> RawConfig {
        RawConfig {
            tcp_timeout: Duration::from_secs(30),
            suspicion_mult: 6,
            push_pull_interval: Duration::from_secs(60),
            probe_timeout: Duration::from_secs(3),
            probe_interval: Duration::from_secs(5),
            gossip_nodes: 4,
            gossip_interval: Duration::from_millis(500),
            gossip_to_the_dead: Duration::from_secs(60),
            ..RawConfig::lan(node_name, advertise)
        }
    }

    /// Serf's settings for one machine.
    pub fn local(node_name: impl Into<String>, advertise: SocketAddr) -> RawConfig {
        RawConfig {
            tcp_timeout: Duration::from_secs(1),
            indirect_checks: 1,
            retransmit_mult: 2,
            suspicion_mult: 3,
            push_pull_interval: Duration::from_secs(15),
            probe_timeout: Duration::from_millis(200),
            probe_interval: Duration::from_secs(1),
            gossip_interval: Duration::from_millis(100),
            gossip_to_the_dead: Duration::from_secs(15),
            ..RawConfig::lan(node_name, advertise)
        }
    }

    /// Settings for a local network of Thane nodes, in which a crash is known everywhere within about two seconds
    /// (docs/convergence.md). Idle traffic is twice that of [`RawConfig::lan`].
    pub fn fast(node_name: impl Into<String>, advertise: SocketAddr) -> RawConfig {
        RawConfig {
            probe_interval: Duration::from_millis(500),
            probe_timeout: Duration::from_millis(250),
            suspicion_mult: 5,
            suspicion_max_timeout_mult: 10,
            fast_detection: true,
            dissemination: DisseminationPolicy::Eager,
            ..RawConfig::lan(node_name, advertise)
        }
    }

    /// The settings of a profile.
    pub fn of(profile: Profile, node_name: impl Into<String>, advertise: SocketAddr) -> RawConfig {
        match profile {
            Profile::Lan => RawConfig::lan(node_name, advertise),
            Profile::Wan => RawConfig::wan(node_name, advertise),
            Profile::Local => RawConfig::local(node_name, advertise),
            Profile::Fast => RawConfig::fast(node_name, advertise),
        }
    }

    /// Checks all settings.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub fn check(self) -> Result<Config, ConfigError> {
        if self.node_name.is_empty() || self.node_name.len() > NODE_NAME_BYTES_MAX {
            return Err(ConfigError::NodeName(self.node_name.len()));
        }
        if self.validate_node_names && !is_valid_name(&self.node_name) {
            return Err(ConfigError::NodeNameNotValid(self.node_name));
        }
        if !(2..=5).contains(&self.protocol) {
            return Err(ConfigError::Protocol(self.protocol));
        }
        let mut meta = Vec::new();
        crate::wire::encode_tags(&self.tags, &mut meta);
        if meta.len() > limits::META_BYTES_MAX {
            return Err(ConfigError::Tags(limits::META_BYTES_MAX));
        }
        if let Some(key) = self.keys.iter().find(|key| !matches!(key.len(), 16 | 24 | 32)) {
            return Err(ConfigError::Key(key.len()));
        }
        if self.label.len() > limits::LABEL_BYTES_MAX {
            return Err(ConfigError::Label(self.label.len()));
        }
        if self.user_event_size_limit > limits::USER_EVENT_BYTES_HARD_MAX {
            return Err(ConfigError::UserEventSize);
        }
        let must_not_be_zero = [
            ("probe_interval", self.probe_interval),
            ("probe_timeout", self.probe_timeout),
            ("gossip_interval", self.gossip_interval),
            ("push_pull_interval", self.push_pull_interval),
            ("tcp_timeout", self.tcp_timeout),
            ("reap_interval", self.reap_interval),
            ("queue_check_interval", self.queue_check_interval),
        ];
        if let Some((name, _)) = must_not_be_zero.iter().find(|(_, value)| value.is_zero()) {
            return Err(ConfigError::Zero(name));
        }
        if self.awareness_max_multiplier == 0 {
            return Err(ConfigError::Zero("awareness_max_multiplier"));
        }
        if self.advertise.port() == 0 {
            return Err(ConfigError::Advertise(self.advertise));
        }
        if self.advertise.ip().is_unspecified() {
            return Err(ConfigError::AdvertiseUnspecified(self.advertise));
        }
        if self.snapshot && !self.serf {
            return Err(ConfigError::SnapshotWithoutSerf);
        }
        Ok(Config(self))
    }
}
