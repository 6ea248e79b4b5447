//! Every knob of a Node: what it does, its default, and what more and less of it costs. Checked once, when
//! the [`Config`] is made from a [`RawConfig`]; after that the type carries the proof.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;

use crate::wire::{ip_to_bytes, limits};

/// Timing profile of Serf: which network the defaults are for (PROTOCOL 8).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// A local network. Serf's default.
    #[default]
    Lan,
    /// Links of 50 ms and more, some loss.
    Wan,
    /// One machine.
    Local,
}

/// The settings as somebody wrote them. All fields are public; [`RawConfig::check`] makes a [`Config`].
#[derive(Clone, Debug)]
pub struct RawConfig {
    /// Node name, unique in the cluster; 1 to 512 bytes.
    pub node_name: String,
    /// The address announced to others. Its port serves UDP and TCP.
    pub advertise: SocketAddr,
    /// Announce an IPv4 address in the 16 bytes of its IPv6-mapped form instead of 4. Serf compares announced
    /// addresses byte by byte: a node that takes the place of a Serf agent must announce the same bytes. Serf's agent
    /// uses 16 bytes for an address that it picked because it is bound to all addresses, 4 bytes for any other.
    /// Default: off.
    pub advertise_in_16_bytes: bool,
    /// Tags; encoded at most 512 bytes.
    pub tags: BTreeMap<String, String>,
    /// Run the serf layer: user events, queries, intents, coordinates, reconnecting. Without it this is plain
    /// SWIM: memberships, and whatever the [`Delegate`](crate::delegate::Delegate) makes of messages and
    /// state. Plain nodes and Serf's refuse to join each other.
    pub serf: bool,
    /// Serf protocol version, 2 to 5. Below 3 only the tag `role` travels; below 4 there are no queries.
    pub protocol: u8,
    /// Gossip encryption keys, the primary first; empty: no encryption. 16, 24 or 32 bytes each.
    pub keys: Vec<Vec<u8>>,
    /// Cluster label of newer memberlists; at most 255 bytes, empty for none.
    pub label: Vec<u8>,
    /// Networks that members may have addresses in, and that news of members may come from; empty: all.
    pub cidrs_allowed: Vec<IpNet>,
    /// Refuse packets that no key opens. Off only while a cluster moves to encryption.
    pub gossip_verify_incoming: bool,
    /// Seal what is sent. Off only while a cluster moves to encryption.
    pub gossip_verify_outgoing: bool,
    /// LZW-compress what gets smaller by it. Costs 5 to 8 µs for a full packet.
    pub compression: bool,

    /// Time between probes. Less: faster detection, more traffic (2 packets per probe).
    pub probe_interval: Duration,
    /// Wait for a direct ack before asking others. Should exceed the 99th percentile of round trips.
    pub probe_timeout: Duration,
    /// Members asked to ping on our behalf (k of SWIM 3.1).
    pub indirect_checks: u32,
    /// Suspicion timeout factor (Lifeguard alpha). Less: faster failure detection, more false positives.
    pub suspicion_mult: u32,
    /// Unconfirmed suspicions wait this many times longer (Lifeguard beta).
    pub suspicion_max_timeout_mult: u32,
    /// The health score stays below this (Lifeguard's S).
    pub awareness_max_multiplier: u32,
    /// A ping to a suspect carries the accusation, so that it can refute at once (Lifeguard's buddy system).
    /// Without it a suspect learns of it from gossip only: a few bytes less, more false positives.
    pub buddy_system: bool,
    /// Also ping over a stream when datagrams get no ack.
    pub tcp_pings: bool,
    /// Deadline of push/pull and of connecting.
    pub tcp_timeout: Duration,
    /// Time between full state exchanges in a cluster of up to 32; stretched with log2 n beyond.
    pub push_pull_interval: Duration,
    /// Time between gossip rounds while broadcasts are queued.
    pub gossip_interval: Duration,
    /// Members each round gossips to.
    pub gossip_nodes: u32,
    /// Dead members still get gossip that long, so that they can refute.
    pub gossip_to_the_dead: Duration,
    /// Transmissions of a broadcast: this times ceil(log10(n + 1)).
    pub retransmit_mult: u32,

    /// Members are told as failed that long before they are erased.
    pub reconnect_timeout: Duration,
    /// Members that left are listed that long before they are erased.
    pub tombstone_timeout: Duration,
    /// Time between attempts to reach a failed member; zero: never.
    pub reconnect_interval: Duration,
    /// Time between looks for members to erase.
    pub reap_interval: Duration,
    /// Intents for members not known yet are kept that long.
    pub recent_intent_timeout: Duration,
    /// Longest wait for a leave, force-leave or tags broadcast to go out.
    pub broadcast_timeout: Duration,
    /// Wait after the own leave went out, so that it spreads before the node is gone.
    pub leave_propagate_delay: Duration,
    /// Time between checks of queue lengths.
    pub queue_check_interval: Duration,
    /// Queues longer than this are told in the log.
    pub queue_depth_warning: usize,
    /// Queues are cut to this length.
    pub queue_depth_max: usize,
    /// Query timeout factor: gossip interval times this times ceil(log10(n + 1)).
    pub query_timeout_mult: u32,
    /// Longest encoded query, bytes.
    pub query_size_limit: usize,
    /// Longest encoded query response, bytes.
    pub query_response_size_limit: usize,
    /// Longest user event, name and payload, also encoded; at most 9216 bytes.
    pub user_event_size_limit: usize,
    /// Coalesce member events: longest wait, quiet period. Zero: no coalescing.
    pub coalesce_members: (Duration, Duration),
    /// Coalesce user events that allow it: longest wait, quiet period. Zero: no coalescing.
    pub coalesce_users: (Duration, Duration),
    /// What an earlier run left in the snapshot.
    pub restored: Restored,
    /// When another node claims this node's name, have the cluster vote and end if the vote is lost.
    pub resolve_name_conflicts: bool,
    /// Learn network coordinates from acks, and add the own one to them: 130 bytes an ack.
    pub coordinates: bool,
    /// Keep a snapshot: emit [`SnapshotRecord`](crate::event::SnapshotRecord)s.
    pub snapshot: bool,
}

/// What a snapshot file held (PROTOCOL 10.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The member clock.
    pub clock: u64,
    /// The newest user event seen.
    pub event_clock: u64,
    /// The newest query seen.
    pub query_clock: u64,
    /// Members that were alive: name and gossip address.
    pub alive: Vec<(String, SocketAddr)>,
    /// Members that had failed, which Serf forgets: where everybody failed, somebody has to look for them.
    pub failed: Vec<(String, SocketAddr)>,
}

/// Checked settings of a Node.
#[derive(Clone, Debug)]
pub struct Config(RawConfig);

impl std::ops::Deref for Config {
    type Target = RawConfig;

    fn deref(&self) -> &RawConfig {
        &self.0
    }
}

impl Config {
    /// Whether a member may have that address. An IPv4 address is the same in 4 and in 16 bytes.
    pub fn allows(&self, ip: IpAddr) -> bool {
        let networks = &self.0.cidrs_allowed;
        networks.is_empty() || networks.iter().any(|network| network.contains(&ip.to_canonical()))
    }

    /// The announced address as it goes over the wire: 4 or 16 bytes.
    pub(crate) fn advertised_ip(&self) -> Vec<u8> {
        match self.advertise.ip() {
            IpAddr::V4(v4) if self.advertise_in_16_bytes => v4.to_ipv6_mapped().octets().to_vec(),
            ip => ip_to_bytes(ip),
        }
    }
}

/// Why settings were refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Empty or too long.
    #[error("node name has {0} bytes; it must have 1 to {NODE_NAME_BYTES_MAX}")]
    NodeName(usize),
    /// Out of range.
    #[error("protocol version {0} is not supported; it must be in range [2, 5]")]
    Protocol(u8),
    /// Too long.
    #[error("Encoded length of tags exceeds limit of {0} bytes")]
    Tags(usize),
    /// Wrong size.
    #[error("key size must be 16, 24 or 32 bytes, not {0}")]
    Key(usize),
    /// Too long.
    #[error("label has {0} bytes; it may have 255")]
    Label(usize),
    /// Above the hard limit.
    #[error("user event size limit exceeds limit of 9216 bytes")]
    UserEventSize,
    /// Must not be zero.
    #[error("{0} must be greater than zero")]
    Zero(&'static str),
    /// Not an address others can reach.
    #[error("advertise address {0} has no port")]
    Advertise(SocketAddr),
    /// Every address at once is none that others can reach.
    #[error("nobody can reach advertise address {0}; set the one that others see")]
    AdvertiseUnspecified(SocketAddr),
    /// Plain SWIM has no snapshot.
    #[error("a snapshot needs the serf layer")]
    SnapshotWithoutSerf,
}

/// Longest own node name. Serf has no limit of its own; a longer name would not leave room in a packet.
pub const NODE_NAME_BYTES_MAX: usize = 512;

impl RawConfig {
    /// Serf's settings for a local network.
    pub fn lan(node_name: impl Into<String>, advertise: SocketAddr) -> RawConfig {
        let seconds = Duration::from_secs;
        let millis = Duration::from_millis;
        RawConfig {
            node_name: node_name.into(),
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
            tcp_pings: true,
            tcp_timeout: seconds(10),
            push_pull_interval: seconds(30),
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
            snapshot: false,
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

    /// The settings of a profile.
    pub fn of(profile: Profile, node_name: impl Into<String>, advertise: SocketAddr) -> RawConfig {
        match profile {
            Profile::Lan => RawConfig::lan(node_name, advertise),
            Profile::Wan => RawConfig::wan(node_name, advertise),
            Profile::Local => RawConfig::local(node_name, advertise),
        }
    }

    /// Checks everything once.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub fn check(self) -> Result<Config, ConfigError> {
        if self.node_name.is_empty() || self.node_name.len() > NODE_NAME_BYTES_MAX {
            return Err(ConfigError::NodeName(self.node_name.len()));
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
