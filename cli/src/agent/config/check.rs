//! The agent's checked configuration. [`Config::check`] makes it of [`Settings`]; every value in it is
//! usable, except addresses, which are resolved at start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use thane_engine::config::{DisseminationPolicy, Profile, RawConfig};
use thane_engine::io::DriverChoice;

use super::settings::Settings;
use super::tls::Tls;
use super::values::{
    check_sinks, check_sizes, dissemination, given, handler_options, handlers, io_driver, json_log, key,
    log_level, networks, profile, protocol, syslog,
};
use crate::agent::handlers::{EventHandler, HandlerOptions};
use crate::agent::level::Level;

/// Default RPC address.
pub(crate) const RPC_ADDR_DEFAULT: &str = "127.0.0.1:7373";
/// Default address to bind.
const BIND_DEFAULT: &str = "0.0.0.0";
const RETRY_INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
const BROADCAST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Shortest interval and timeout; shorter ones are raised to it, with a warning.
const SHORTEST: Duration = Duration::from_secs(1);
/// Windows for coalescing member and user events: the longest, and the quiet time that ends it early.
const COALESCE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(1));

/// A usable configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The settings that it was made of; a reload compares them.
    pub(crate) settings: Settings,
    /// Name of the node; empty: the host name.
    pub(crate) node_name: String,
    /// Tags, the role among them.
    pub(crate) tags: BTreeMap<String, String>,
    /// The tags file.
    pub(crate) tags_file: Option<PathBuf>,
    /// Address to bind, not resolved.
    pub(crate) bind: String,
    /// RPC address, not resolved.
    pub(crate) rpc_addr: String,
    /// Address of the HTTP port, not resolved; `None`: there is none.
    pub(crate) http_addr: Option<String>,
    /// Gossip key, if one is configured.
    pub(crate) key: Option<Vec<u8>>,
    /// The keyring file.
    pub(crate) keyring_file: Option<PathBuf>,
    /// Lowest level of the log lines that are printed.
    pub(crate) log_level: Level,
    /// Event handlers in configured order.
    pub(crate) handlers: Vec<EventHandler>,
    /// How scripts are run.
    pub(crate) handler_options: HandlerOptions,
    /// Whether log lines are JSON.
    pub(crate) json_log: bool,
    /// Timing of the gossip protocol.
    pub(crate) profile: Profile,
    /// The snapshot file.
    pub(crate) snapshot: Option<PathBuf>,
    /// The background join.
    pub(crate) retry: Retry,
    /// Whether gossip is compressed (LZW).
    pub(crate) compression: bool,
    /// Networks that members' addresses may be in; empty: all.
    cidrs_allowed: Vec<IpNet>,
    /// The syslog facility, if log lines go to syslog.
    pub(crate) syslog: Option<u8>,
    /// TLS of the ports for clients; `None`: none uses it.
    pub(crate) tls: Option<Tls>,
    /// The engine's datagram driver.
    pub(crate) io_driver: DriverChoice,
    /// How news reaches all members; without it the profile says.
    pub(crate) dissemination: Option<DisseminationPolicy>,
    /// Lines for the user, printed before the start.
    pub(crate) warnings: Vec<String>,
    /// Settings without effect, in Serf as well; for the log.
    pub(crate) ineffective: Vec<&'static str>,
    protocol: u8,
    broadcast_timeout: Duration,
}

/// Settings of the background join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// Addresses; empty: no background join.
    pub(crate) addresses: Vec<String>,
    /// Retries before the agent exits; `None`: no limit.
    pub(crate) retries_max: Option<u64>,
    /// Wait between attempts.
    pub(crate) interval: Duration,
}

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// One line about the first setting that can't be used.
    pub(crate) fn check(settings: Settings) -> Result<Config, String> {
        check_discovery(&settings)?;
        let mut warnings = Vec::new();
        let tags = tags(&settings, &mut warnings);
        if !settings.tags_file.is_empty() && !tags.is_empty() {
            return Err("Tags config not allowed while using tag files".to_owned());
        }
        if !settings.encrypt_key.is_empty() && !settings.keyring_file.is_empty() {
            return Err("Encryption key not allowed while using a keyring".to_owned());
        }
        let retry = Retry {
            addresses: settings.retry_join.clone(),
            retries_max: u64::try_from(settings.retry_max_attempts).ok().filter(|&tries| tries > 0),
            interval: at_least(
                given(settings.retry_interval, RETRY_INTERVAL_DEFAULT),
                "RetryInterval",
                &mut warnings,
            ),
        };
        let broadcast_timeout = at_least(
            given(settings.broadcast_timeout, BROADCAST_TIMEOUT_DEFAULT),
            "BroadcastTimeout",
            &mut warnings,
        );
        if settings.rejoin_after_leave && settings.snapshot_path.is_empty() {
            warnings.push("Warning: 'RejoinAfterLeave' enabled without snapshot file".to_owned());
        }
        check_sizes(&settings, &mut warnings)?;
        check_sinks(&settings, &mut warnings);
        let tls = Tls::check(&settings, &mut warnings)?;
        Ok(Config {
            node_name: settings.node_name.clone(),
            tags,
            tags_file: path(&settings.tags_file),
            bind: given(settings.bind.clone(), BIND_DEFAULT.to_owned()),
            rpc_addr: given(settings.rpc_addr.clone(), RPC_ADDR_DEFAULT.to_owned()),
            http_addr: Some(settings.http_addr.clone()).filter(|addr| !addr.is_empty()),
            key: key(&settings.encrypt_key)?,
            keyring_file: path(&settings.keyring_file),
            log_level: log_level(&settings.log_level)?,
            handlers: handlers(&settings.event_handlers)?,
            handler_options: handler_options(&settings)?,
            json_log: json_log(&settings.log_format)?,
            profile: profile(&settings.profile)?,
            snapshot: path(&settings.snapshot_path),
            retry,
            compression: settings.enable_compression.unwrap_or(true),
            cidrs_allowed: networks(&settings.cidrs_allowed)?,
            syslog: syslog(&settings)?,
            dissemination: dissemination(&settings.dissemination)?,
            io_driver: io_driver(&settings.io_driver)?,
            tls,
            warnings,
            ineffective: ineffective(&settings),
            protocol: protocol(settings.protocol)?,
            broadcast_timeout,
            settings,
        })
    }

    /// The name of the profile, as the banner shows it.
    pub(crate) fn profile_name(&self) -> &'static str {
        self.profile.name()
    }

    /// The engine's configuration for a node with this name, announced address, tags and gossip keys.
    pub(crate) fn engine(
        &self,
        node_name: &str,
        announced: SocketAddr,
        tags: BTreeMap<String, String>,
        keys: Vec<Vec<u8>>,
    ) -> RawConfig {
        let settings = &self.settings;
        let mut raw = RawConfig::of(self.profile, node_name, announced);
        raw.tags = tags;
        raw.protocol = self.protocol;
        raw.keys = keys;
        raw.label = settings.label.clone().into_bytes();
        raw.cidrs_allowed = self.cidrs_allowed.clone();
        raw.gossip_verify_incoming = settings.encrypt_verify_incoming.unwrap_or(true);
        raw.gossip_verify_outgoing = settings.encrypt_verify_outgoing.unwrap_or(true);
        raw.extensions = settings.enable_extensions.unwrap_or(true);
        raw.resolve_name_conflicts = !settings.disable_name_resolution;
        raw.compression = self.compression;
        raw.dissemination = self.dissemination.unwrap_or(raw.dissemination);
        raw.broadcast_timeout = self.broadcast_timeout;
        raw.reconnect_interval = given(settings.reconnect_interval, raw.reconnect_interval);
        raw.reconnect_timeout = given(settings.reconnect_timeout, raw.reconnect_timeout);
        raw.tombstone_timeout = given(settings.tombstone_timeout, raw.tombstone_timeout);
        raw.query_size_limit = size(settings.query_size_limit, raw.query_size_limit);
        raw.query_response_size_limit =
            size(settings.query_response_size_limit, raw.query_response_size_limit);
        raw.user_event_size_limit = size(settings.user_event_size_limit, raw.user_event_size_limit);
        raw.coalesce_members = COALESCE;
        raw.coalesce_users = COALESCE;
        raw
    }
}

/// The part of a configuration that a reload applies: these values and the leave switches of the settings.
pub(crate) struct Reloaded {
    /// All settings.
    pub(crate) settings: Settings,
    /// Lowest level of the log lines that are printed; an error keeps the old level.
    pub(crate) log_level: Result<Level, String>,
    /// Event handlers in configured order.
    pub(crate) handlers: Vec<EventHandler>,
    /// Tags, the role among them.
    pub(crate) tags: BTreeMap<String, String>,
    /// Lines for the user.
    pub(crate) warnings: Vec<String>,
    /// TLS of the ports for clients.
    pub(crate) tls: Result<Option<Tls>, String>,
    /// Why an agent could not start with the settings that a reload does not apply.
    pub(crate) next_start: Result<(), String>,
}

impl Reloaded {
    /// Checks the values that are applied. As in Serf, a wrong value of another setting does not prevent that.
    ///
    /// # Errors
    /// One line about the first wrong event handler.
    pub(super) fn check(settings: Settings) -> Result<Reloaded, String> {
        let handlers = handlers(&settings.event_handlers)?;
        let log_level = log_level(&settings.log_level);
        let rest = Settings { log_level: String::new(), ..settings.clone() };
        let next_start = Config::check(rest).map(drop);
        let mut warnings = Vec::new();
        let tags = tags(&settings, &mut warnings);
        let tls = Tls::check(&settings, &mut Vec::new());
        Ok(Reloaded { log_level, handlers, tags, tls, warnings, next_start, settings })
    }
}

/// The tags with the role among them.
fn tags(settings: &Settings, warnings: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut tags = settings.tags.clone();
    if !settings.role.is_empty() {
        warnings.push("Deprecation warning: 'Role' has been replaced with 'Tags'".to_owned());
        tags.insert("role".to_owned(), settings.role.clone());
    }
    tags
}

/// Serf's checks of the settings of mDNS. Whether the interface exists is seen at the start.
fn check_discovery(settings: &Settings) -> Result<(), String> {
    if settings.mdns_interface.is_empty() {
        return Ok(());
    }
    if settings.discover.is_empty() {
        return Err("mDNS interface specified without enabling mDNS discovery: give a cluster name with 'discover' (-discover)"
            .to_owned());
    }
    if settings.mdns_disable_ipv4 && settings.mdns_disable_ipv6 {
        return Err("Invalid mDNS configuration: both IPv4 and IPv6 are disabled".to_owned());
    }
    Ok(())
}

fn ineffective(settings: &Settings) -> Vec<&'static str> {
    let switches = [
        ("disable_coordinates", settings.disable_coordinates),
        ("validate_node_names", settings.validate_node_names),
        ("MsgpackUseNewTimeFormat", settings.msgpack_use_new_time_format),
    ];
    switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
}

fn at_least(duration: Duration, name: &str, warnings: &mut Vec<String>) -> Duration {
    if duration >= SHORTEST {
        return duration;
    }
    warnings.push(format!("Warning: '{name}' is too low. Setting to 1s"));
    SHORTEST
}

/// A limit in bytes; a negative one is below every message.
fn size(bytes: i64, default: usize) -> usize {
    if bytes == 0 { default } else { usize::try_from(bytes).unwrap_or(0) }
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(json: &str) -> Result<Config, String> {
        Config::check(Settings::decode(json.as_bytes(), &mut Vec::new()).unwrap())
    }

    fn refused(json: &str) -> String {
        check(json).unwrap_err()
    }

    fn engine(json: &str) -> RawConfig {
        let config = check(json).unwrap();
        let keys = config.key.iter().cloned().collect();
        config.engine("n", "127.0.0.1:7946".parse().unwrap(), config.tags.clone(), keys)
    }

    #[test]
    fn defaults_are_serfs() {
        let config = check("{}").unwrap();
        assert_eq!((config.bind.as_str(), config.rpc_addr.as_str()), ("0.0.0.0", "127.0.0.1:7373"));
        assert_eq!(config.log_level, Level::Info);
        assert_eq!(config.profile_name(), "lan");
        assert!(config.compression && config.warnings.is_empty() && config.key.is_none());
        let retry = Retry { addresses: Vec::new(), retries_max: None, interval: Duration::from_secs(30) };
        assert_eq!(config.retry, retry);
        let raw = engine("{}");
        assert_eq!((raw.protocol, raw.broadcast_timeout), (5, Duration::from_secs(5)));
        assert_eq!((raw.query_size_limit, raw.query_response_size_limit), (1024, 1024));
        assert_eq!(raw.user_event_size_limit, 512);
        assert_eq!(raw.reconnect_interval, Duration::from_secs(30));
        assert_eq!(raw.reconnect_timeout, Duration::from_secs(24 * 3600));
        assert_eq!(raw.tombstone_timeout, Duration::from_secs(24 * 3600));
        assert_eq!(raw.coalesce_members, (Duration::from_secs(3), Duration::from_secs(1)));
        assert_eq!(raw.coalesce_users, (Duration::from_secs(3), Duration::from_secs(1)));
        assert!(raw.keys.is_empty() && raw.compression && raw.resolve_name_conflicts);
    }

    #[test]
    fn settings_reach_the_engine() {
        let raw = engine(
            r#"{"tags": {"a": "b"}, "role": "web", "encrypt_key": "MTIzNDU2Nzg5MDEyMzQ1Ng==", "protocol": 3,
                "profile": "wan", "query_size_limit": 11, "enable_compression": false,
                "query_response_size_limit": 12, "user_event_size_limit": 9216, "broadcast_timeout": "7s", "disable_name_resolution": true,
                "label": "blue", "cidrs_allowed": ["10.0.0.0/8"], "encrypt_verify_incoming": false, "dissemination": "eager",
                "enable_extensions": false, "reconnect_interval": "1m", "reconnect_timeout": "2m", "tombstone_timeout": "3m"}"#,
        );
        let tags = [("a", "b"), ("role", "web")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(raw.tags, tags.into());
        assert_eq!(raw.keys, [b"1234567890123456"]);
        assert_eq!((raw.protocol, raw.probe_interval), (3, Duration::from_secs(5)));
        assert_eq!((raw.query_size_limit, raw.query_response_size_limit), (11, 12));
        assert_eq!(raw.user_event_size_limit, 9216);
        assert!(!raw.compression && !raw.resolve_name_conflicts && !raw.extensions);
        assert_eq!((&raw.label[..], raw.cidrs_allowed.len()), (&b"blue"[..], 1));
        assert!(!raw.gossip_verify_incoming && raw.gossip_verify_outgoing);
        assert_eq!(raw.broadcast_timeout, Duration::from_secs(7));
        assert_eq!(raw.dissemination, DisseminationPolicy::Eager);
        let minutes = [raw.reconnect_interval, raw.reconnect_timeout, raw.tombstone_timeout];
        assert_eq!(minutes.map(|duration| duration.as_secs()), [60, 120, 180]);
    }

    #[test]
    fn values_out_of_range_are_refused_in_serfs_words() {
        let cases = [
            (
                r#"{"log_level": "bogus"}"#,
                "Invalid log level: BOGUS. Valid log levels are: [TRACE DEBUG INFO WARN ERR]",
            ),
            (r#"{"profile": "LAN"}"#, "Unknown profile: LAN"),
            (r#"{"protocol": 99}"#, "Protocol version '99' too high. Must be in range: [2, 5]"),
            (r#"{"protocol": 300}"#, "Protocol version '300' too high. Must be in range: [2, 5]"),
            (r#"{"protocol": 1}"#, "Protocol version '1' too low. Must be in range: [2, 5]"),
            (r#"{"user_event_size_limit": 9217}"#, "user event size limit exceeds limit of 9216 bytes"),
            (
                r#"{"event_handlers": ["ok.sh", "bogus=x.sh"]}"#,
                "Invalid event script: Event 'bogus' invoking 'x.sh'",
            ),
            (
                r#"{"enable_syslog": true, "syslog_facility": "x"}"#,
                "Syslog setup failed: invalid syslog facility: x; try LOCAL0 to LOCAL7, DAEMON or USER",
            ),
            (
                r#"{"cidrs_allowed": ["10.0.0.0/33"]}"#,
                "'cidrs_allowed': \"10.0.0.0/33\" is no network such as 10.0.0.0/8 or fd00::/8",
            ),
            (r#"{"encrypt_key": "zzz"}"#, "Invalid encryption key: illegal base64 data at input byte 0"),
            (
                r#"{"encrypt_key": "Zm9v"}"#,
                "Invalid encryption key: key size must be 16, 24 or 32 bytes, not 3; 'thane keygen' makes one",
            ),
            (
                r#"{"dissemination": "x"}"#,
                "'dissemination' (-dissemination): unknown policy \"x\": use \"classic\" or \"eager\"",
            ),
            (
                r#"{"io_driver": "x"}"#,
                "'io_driver' (-io-driver): unknown driver \"x\": use \"auto\", \"io_uring\" or \"portable\"",
            ),
            (
                r#"{"keyring_file": "k", "encrypt_key": "MTIzNDU2Nzg5MDEyMzQ1Ng=="}"#,
                "Encryption key not allowed while using a keyring",
            ),
            (r#"{"tags_file": "t", "role": "r"}"#, "Tags config not allowed while using tag files"),
        ];
        for (json, expected) in cases {
            assert_eq!(refused(json), expected, "{json}");
        }
    }

    #[test]
    fn an_interface_for_mdns_needs_a_cluster_and_a_family() {
        let without = "mDNS interface specified without enabling mDNS discovery: give a cluster name with 'discover' (-discover)";
        assert_eq!(refused(r#"{"mdns": {"interface": "eth0"}}"#), without);
        let neither =
            r#"{"discover": "c", "mdns": {"interface": "eth0", "disable_ipv4": true, "disable_ipv6": true}}"#;
        assert_eq!(refused(neither), "Invalid mDNS configuration: both IPv4 and IPv6 are disabled");
        // Without the setting that they belong to these do nothing.
        for json in [
            r#"{"syslog_facility": "LOCAL7", "mdns": {"disable_ipv4": true}}"#,
            r#"{"discover": "c"}"#,
            r#"{"discover": "c", "mdns": {"interface": "eth0", "disable_ipv4": true}}"#,
        ] {
            assert!(check(json).is_ok(), "{json}");
        }
    }

    #[test]
    fn settings_without_effect_are_listed() {
        let json =
            r#"{"disable_coordinates": true, "validate_node_names": true, "MsgpackUseNewTimeFormat": true}"#;
        let expected = ["disable_coordinates", "validate_node_names", "MsgpackUseNewTimeFormat"];
        assert_eq!(check(json).unwrap().ineffective, expected);
    }

    #[test]
    fn doubtful_settings_give_warnings() {
        let config = check(
            r#"{"role": "r", "rejoin_after_leave": true, "retry_interval": "10ms", "broadcast_timeout": "1ms"}"#,
        );
        let expected = [
            "Deprecation warning: 'Role' has been replaced with 'Tags'",
            "Warning: 'RetryInterval' is too low. Setting to 1s",
            "Warning: 'BroadcastTimeout' is too low. Setting to 1s",
            "Warning: 'RejoinAfterLeave' enabled without snapshot file",
        ];
        let config = config.unwrap();
        assert_eq!(config.warnings, expected);
        assert_eq!((config.retry.interval, config.broadcast_timeout), (SHORTEST, SHORTEST));
        let config = check(r#"{"user_event_size_limit": -1, "query_size_limit": -2, "statsd_addr": "box"}"#);
        let expected = [
            "Warning: 'query_size_limit' is -2: no queries can be sent",
            "Warning: 'user_event_size_limit' is -1: no user events can be sent",
            "Warning: 'statsd_addr': \"box\" must be an address with a port, such as 127.0.0.1:8125; no metrics are sent",
        ];
        assert_eq!(config.unwrap().warnings, expected);
        assert_eq!(engine(r#"{"query_size_limit": -2}"#).query_size_limit, 0);
        let config = check(r#"{"user_event_size_limit": 9000, "query_size_limit": 4096}"#).unwrap();
        let expected = [
            "Warning: 'query_size_limit' is 4096: queries that fit no gossip packet are refused (some 1350 bytes fit)",
            "Warning: 'user_event_size_limit' is 9000: user events that fit no gossip packet spread by push/pulls, \
            which takes seconds (some 1350 bytes fit)",
        ];
        assert_eq!(config.warnings, expected);
    }

    #[test]
    fn keys_may_hold_line_ends_as_in_go() {
        let config = check(r#"{"encrypt_key": "MTIzNDU2Nzg5\nMDEyMzQ1Ng==\r\n"}"#).unwrap();
        assert_eq!(config.key.as_deref(), Some(&b"1234567890123456"[..]));
    }

    #[test]
    fn retries_are_for_ever_unless_limited() {
        let retries = |json: &str| check(json).unwrap().retry.retries_max;
        assert_eq!(retries(r#"{"retry_max_attempts": 2}"#), Some(2));
        assert_eq!(retries(r#"{"retry_max_attempts": -1}"#), None);
    }

    #[test]
    fn levels_and_numbers_that_serf_takes_are_taken() {
        assert_eq!(check(r#"{"log_level": "wArN"}"#).unwrap().log_level, Level::Warn);
        assert_eq!(engine(r#"{"protocol": -3}"#).protocol, 5);
        assert_eq!(check(r#"{"io_driver": "portable"}"#).unwrap().io_driver, DriverChoice::Portable);
    }
}
