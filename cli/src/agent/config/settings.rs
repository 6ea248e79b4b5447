//! The settings of configuration files and flags, unchecked.
//!
//! One table, [`KEYS`], drives reading, merging and comparing, so that none of them can miss a key.

use std::collections::BTreeMap;
use std::time::Duration;

use thane_engine::duration::{self, Nanoseconds};

/// The settings of one source, or of several merged ones. An empty value (empty text, zero, off, no entry) means "not
/// given", as in Serf: no later source can reset a setting to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) node_name: String,
    pub(crate) role: String,
    pub(crate) disable_coordinates: bool,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) tags_file: String,
    pub(crate) bind: String,
    pub(crate) advertise: String,
    pub(crate) interface: String,
    pub(crate) encrypt_key: String,
    pub(crate) keyring_file: String,
    pub(crate) log_level: String,
    pub(crate) rpc_addr: String,
    pub(crate) rpc_auth: String,
    pub(crate) protocol: i64,
    pub(crate) replay_on_join: bool,
    pub(crate) query_response_size_limit: i64,
    pub(crate) query_size_limit: i64,
    pub(crate) user_event_size_limit: i64,
    pub(crate) start_join: Vec<String>,
    pub(crate) event_handlers: Vec<String>,
    pub(crate) profile: String,
    pub(crate) snapshot_path: String,
    pub(crate) leave_on_terminate: bool,
    pub(crate) skip_leave_on_interrupt: bool,
    pub(crate) discover: String,
    pub(crate) mdns_interface: String,
    pub(crate) mdns_disable_ipv4: bool,
    pub(crate) mdns_disable_ipv6: bool,
    pub(crate) reconnect_interval: Duration,
    pub(crate) reconnect_timeout: Duration,
    pub(crate) tombstone_timeout: Duration,
    pub(crate) disable_name_resolution: bool,
    pub(crate) enable_syslog: bool,
    pub(crate) syslog_facility: String,
    pub(crate) retry_join: Vec<String>,
    pub(crate) retry_max_attempts: i64,
    pub(crate) retry_interval: Duration,
    pub(crate) rejoin_after_leave: bool,
    /// On by default, so "off" must differ from "not given".
    pub(crate) enable_compression: Option<bool>,
    pub(crate) statsite_addr: String,
    pub(crate) statsd_addr: String,
    pub(crate) broadcast_timeout: Duration,
    pub(crate) validate_node_names: bool,
    pub(crate) msgpack_use_new_time_format: bool,
    /// Thane's: the cluster's label; packets and streams with another label are refused.
    pub(crate) label: String,
    /// Thane's: networks that members' addresses may be in.
    pub(crate) cidrs_allowed: Vec<String>,
    /// Thane's: off while a cluster changes to encryption, so that plain input is accepted.
    pub(crate) encrypt_verify_incoming: Option<bool>,
    /// Thane's: off while a cluster changes to encryption, so that output is sent plain.
    pub(crate) encrypt_verify_outgoing: Option<bool>,
    /// Thane's: `classic` or `eager`.
    pub(crate) dissemination: String,
    /// Thane's: off, the node speaks to other Thane nodes as to Serf nodes.
    pub(crate) enable_extensions: Option<bool>,
    /// Thane's: `auto`, `io_uring` or `portable`.
    pub(crate) io_driver: String,
    /// Thane's: event handlers that run at the same time; 0: one.
    pub(crate) handler_concurrency: i64,
    /// Thane's: how long a script may run; zero: for ever.
    pub(crate) handler_timeout: Duration,
    /// Thane's: bytes of a script's output that are kept; 0: Serf's 8 KiB.
    pub(crate) handler_output_limit: i64,
    /// Thane's: `text` (Serf's lines) or `json`.
    pub(crate) log_format: String,
    /// Thane's: the address of the HTTP port; empty: none.
    pub(crate) http_addr: String,
    /// Thane's: the agent's certificate, in PEM form.
    pub(crate) tls_cert_file: String,
    /// Thane's: the certificate's key, in PEM form.
    pub(crate) tls_key_file: String,
    /// Thane's: the CA that others' certificates must be signed by, in PEM form.
    pub(crate) tls_ca_file: String,
    /// Thane's: the RPC port uses TLS.
    pub(crate) tls_rpc: bool,
    /// Thane's: the HTTP port uses TLS.
    pub(crate) tls_http: bool,
    /// Thane's: clients of both must show a certificate.
    pub(crate) tls_verify_clients: bool,
    /// Thane's: streams between members use TLS where both sides do.
    pub(crate) tls_gossip: bool,
    /// Thane's: plain streams between members are refused.
    pub(crate) tls_required: bool,
}

/// A key of a configuration file and its setting.
pub(crate) struct Key {
    /// Its name in a file; case is ignored.
    pub(crate) name: &'static str,
    /// The setting.
    pub(crate) slot: Slot,
}

/// A setting, by its type.
pub(crate) enum Slot {
    /// A later source replaces an earlier one.
    Text(fn(&mut Settings) -> &mut String),
    /// A later source replaces an earlier one.
    Number(fn(&mut Settings) -> &mut i64),
    /// A later source can only switch it on.
    Switch(fn(&mut Settings) -> &mut bool),
    /// On by default; a later source replaces an earlier one.
    OnSwitch(fn(&mut Settings) -> &mut Option<bool>),
    /// A later source replaces an earlier one.
    Time(fn(&mut Settings) -> &mut Duration),
    /// A later source is appended to an earlier one.
    List(fn(&mut Settings) -> &mut Vec<String>),
    /// A later source replaces an earlier one, key by key.
    Map(fn(&mut Settings) -> &mut BTreeMap<String, String>),
    /// A nested object.
    Object(&'static [Key]),
}

const fn key(name: &'static str, slot: Slot) -> Key {
    Key { name, slot }
}

/// Every key of a configuration file.
pub(crate) static KEYS: [Key; 62] = [
    key("node_name", Slot::Text(|s| &mut s.node_name)),
    key("role", Slot::Text(|s| &mut s.role)),
    key("disable_coordinates", Slot::Switch(|s| &mut s.disable_coordinates)),
    key("tags", Slot::Map(|s| &mut s.tags)),
    key("tags_file", Slot::Text(|s| &mut s.tags_file)),
    key("bind", Slot::Text(|s| &mut s.bind)),
    key("advertise", Slot::Text(|s| &mut s.advertise)),
    key("interface", Slot::Text(|s| &mut s.interface)),
    key("encrypt_key", Slot::Text(|s| &mut s.encrypt_key)),
    key("keyring_file", Slot::Text(|s| &mut s.keyring_file)),
    key("log_level", Slot::Text(|s| &mut s.log_level)),
    key("rpc_addr", Slot::Text(|s| &mut s.rpc_addr)),
    key("rpc_auth", Slot::Text(|s| &mut s.rpc_auth)),
    key("protocol", Slot::Number(|s| &mut s.protocol)),
    key("replay_on_join", Slot::Switch(|s| &mut s.replay_on_join)),
    key("query_response_size_limit", Slot::Number(|s| &mut s.query_response_size_limit)),
    key("query_size_limit", Slot::Number(|s| &mut s.query_size_limit)),
    key("user_event_size_limit", Slot::Number(|s| &mut s.user_event_size_limit)),
    key("start_join", Slot::List(|s| &mut s.start_join)),
    key("event_handlers", Slot::List(|s| &mut s.event_handlers)),
    key("profile", Slot::Text(|s| &mut s.profile)),
    key("snapshot_path", Slot::Text(|s| &mut s.snapshot_path)),
    key("leave_on_terminate", Slot::Switch(|s| &mut s.leave_on_terminate)),
    key("skip_leave_on_interrupt", Slot::Switch(|s| &mut s.skip_leave_on_interrupt)),
    key("discover", Slot::Text(|s| &mut s.discover)),
    key("mdns", Slot::Object(&MDNS_KEYS)),
    key("reconnect_interval", Slot::Time(|s| &mut s.reconnect_interval)),
    key("reconnect_timeout", Slot::Time(|s| &mut s.reconnect_timeout)),
    key("tombstone_timeout", Slot::Time(|s| &mut s.tombstone_timeout)),
    key("disable_name_resolution", Slot::Switch(|s| &mut s.disable_name_resolution)),
    key("enable_syslog", Slot::Switch(|s| &mut s.enable_syslog)),
    key("syslog_facility", Slot::Text(|s| &mut s.syslog_facility)),
    key("retry_join", Slot::List(|s| &mut s.retry_join)),
    key("retry_max_attempts", Slot::Number(|s| &mut s.retry_max_attempts)),
    key("retry_interval", Slot::Time(|s| &mut s.retry_interval)),
    key("rejoin_after_leave", Slot::Switch(|s| &mut s.rejoin_after_leave)),
    key("enable_compression", Slot::OnSwitch(|s| &mut s.enable_compression)),
    key("statsite_addr", Slot::Text(|s| &mut s.statsite_addr)),
    key("statsd_addr", Slot::Text(|s| &mut s.statsd_addr)),
    key("broadcast_timeout", Slot::Time(|s| &mut s.broadcast_timeout)),
    key("validate_node_names", Slot::Switch(|s| &mut s.validate_node_names)),
    key("MsgpackUseNewTimeFormat", Slot::Switch(|s| &mut s.msgpack_use_new_time_format)),
    key("label", Slot::Text(|s| &mut s.label)),
    key("cidrs_allowed", Slot::List(|s| &mut s.cidrs_allowed)),
    key("encrypt_verify_incoming", Slot::OnSwitch(|s| &mut s.encrypt_verify_incoming)),
    key("encrypt_verify_outgoing", Slot::OnSwitch(|s| &mut s.encrypt_verify_outgoing)),
    key("dissemination", Slot::Text(|s| &mut s.dissemination)),
    key("enable_extensions", Slot::OnSwitch(|s| &mut s.enable_extensions)),
    key("io_driver", Slot::Text(|s| &mut s.io_driver)),
    key("handler_concurrency", Slot::Number(|s| &mut s.handler_concurrency)),
    key("handler_timeout", Slot::Time(|s| &mut s.handler_timeout)),
    key("handler_output_limit", Slot::Number(|s| &mut s.handler_output_limit)),
    key("log_format", Slot::Text(|s| &mut s.log_format)),
    key("http_addr", Slot::Text(|s| &mut s.http_addr)),
    key("tls_cert_file", Slot::Text(|s| &mut s.tls_cert_file)),
    key("tls_key_file", Slot::Text(|s| &mut s.tls_key_file)),
    key("tls_ca_file", Slot::Text(|s| &mut s.tls_ca_file)),
    key("tls_rpc", Slot::Switch(|s| &mut s.tls_rpc)),
    key("tls_http", Slot::Switch(|s| &mut s.tls_http)),
    key("tls_verify_clients", Slot::Switch(|s| &mut s.tls_verify_clients)),
    key("tls_gossip", Slot::Switch(|s| &mut s.tls_gossip)),
    key("tls_required", Slot::Switch(|s| &mut s.tls_required)),
];

/// The keys of the object `mdns`.
pub(crate) static MDNS_KEYS: [Key; 3] = [
    key("interface", Slot::Text(|s| &mut s.mdns_interface)),
    key("disable_ipv4", Slot::Switch(|s| &mut s.mdns_disable_ipv4)),
    key("disable_ipv6", Slot::Switch(|s| &mut s.mdns_disable_ipv6)),
];

impl Settings {
    /// Merges a later source over these settings.
    pub(crate) fn merge(&mut self, mut later: Settings) {
        for key in &KEYS {
            self.merge_key(key, &mut later);
        }
    }

    /// The names of the settings that differ, those of a nested object with a dot.
    pub(crate) fn differences(&self, other: &Settings) -> Vec<String> {
        let (mut left, mut right) = (self.clone(), other.clone());
        let mut names = Vec::new();
        for key in &KEYS {
            match &key.slot {
                Slot::Object(inner) => {
                    let differing = inner.iter().filter(|key| key.slot.differs(&mut left, &mut right));
                    names.extend(differing.map(|inner| format!("{}.{}", key.name, inner.name)));
                }
                slot if slot.differs(&mut left, &mut right) => names.push(key.name.to_owned()),
                _ => {}
            }
        }
        names
    }

    fn merge_key(&mut self, key: &Key, later: &mut Settings) {
        match &key.slot {
            Slot::Text(get) => replace_given(get(self), get(later)),
            Slot::Number(get) => replace_given(get(self), get(later)),
            Slot::Time(get) => replace_given(get(self), get(later)),
            Slot::OnSwitch(get) => replace_given(get(self), get(later)),
            Slot::Switch(get) => *get(self) |= *get(later),
            Slot::List(get) => get(self).append(get(later)),
            Slot::Map(get) => get(self).append(get(later)),
            Slot::Object(keys) => keys.iter().for_each(|key| self.merge_key(key, later)),
        }
    }
}

impl Slot {
    fn differs(&self, left: &mut Settings, right: &mut Settings) -> bool {
        match self {
            Slot::Text(get) => get(left) != get(right),
            Slot::Number(get) => get(left) != get(right),
            Slot::Switch(get) => get(left) != get(right),
            Slot::OnSwitch(get) => get(left) != get(right),
            Slot::Time(get) => get(left) != get(right),
            Slot::List(get) => get(left) != get(right),
            Slot::Map(get) => get(left) != get(right),
            Slot::Object(keys) => keys.iter().any(|key| key.slot.differs(left, right)),
        }
    }
}

fn replace_given<T: Default + PartialEq>(earlier: &mut T, later: &mut T) {
    if *later != T::default() {
        *earlier = std::mem::take(later);
    }
}

/// Reads the duration of a setting that is raised to a second: a negative one is read as the shortest.
///
/// # Errors
/// The text, and why it is not a duration.
pub(crate) fn raised_duration(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(Nanoseconds(..0)) => Ok(Duration::from_nanos(1)),
        _ => duration(text),
    }
}

/// Reads the duration of a setting.
///
/// # Errors
/// The text, and why it is not a duration from 0 on.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let Nanoseconds(nanoseconds) = duration::parse(text).map_err(|error| format!("{text:?} is {error}"))?;
    let nanoseconds = u64::try_from(nanoseconds).map_err(|_| format!("{text:?} is negative"))?;
    Ok(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Every setting with a value that is not its default.
    pub(crate) fn everything() -> Settings {
        Settings {
            node_name: "n".to_owned(),
            role: "r".to_owned(),
            disable_coordinates: true,
            tags: [("a".to_owned(), "b".to_owned())].into(),
            tags_file: "t".to_owned(),
            bind: "1.1.1.1".to_owned(),
            advertise: "2.2.2.2".to_owned(),
            interface: "eth0".to_owned(),
            encrypt_key: "k".to_owned(),
            keyring_file: "kf".to_owned(),
            log_level: "debug".to_owned(),
            rpc_addr: "3.3.3.3:1".to_owned(),
            rpc_auth: "token".to_owned(),
            protocol: 4,
            replay_on_join: true,
            query_response_size_limit: 1,
            query_size_limit: 2,
            user_event_size_limit: 3,
            start_join: vec!["j".to_owned()],
            event_handlers: vec!["h".to_owned()],
            profile: "wan".to_owned(),
            snapshot_path: "s".to_owned(),
            leave_on_terminate: true,
            skip_leave_on_interrupt: true,
            discover: "d".to_owned(),
            mdns_interface: "i".to_owned(),
            mdns_disable_ipv4: true,
            mdns_disable_ipv6: true,
            reconnect_interval: Duration::from_secs(1),
            reconnect_timeout: Duration::from_secs(2),
            tombstone_timeout: Duration::from_secs(3),
            disable_name_resolution: true,
            enable_syslog: true,
            syslog_facility: "LOCAL1".to_owned(),
            retry_join: vec!["rj".to_owned()],
            retry_max_attempts: 5,
            retry_interval: Duration::from_secs(4),
            rejoin_after_leave: true,
            enable_compression: Some(false),
            statsite_addr: "sa".to_owned(),
            statsd_addr: "sd".to_owned(),
            broadcast_timeout: Duration::from_secs(5),
            validate_node_names: true,
            msgpack_use_new_time_format: true,
            label: "blue".to_owned(),
            cidrs_allowed: vec!["10.0.0.0/8".to_owned()],
            encrypt_verify_incoming: Some(false),
            encrypt_verify_outgoing: Some(false),
            dissemination: "eager".to_owned(),
            enable_extensions: Some(false),
            io_driver: "portable".to_owned(),
            handler_concurrency: 6,
            handler_timeout: Duration::from_secs(7),
            handler_output_limit: 8,
            log_format: "json".to_owned(),
            http_addr: "4.4.4.4:2".to_owned(),
            tls_cert_file: "tc".to_owned(),
            tls_key_file: "tk".to_owned(),
            tls_ca_file: "ta".to_owned(),
            tls_rpc: true,
            tls_http: true,
            tls_verify_clients: true,
            tls_gossip: true,
            tls_required: true,
        }
    }

    #[test]
    fn merging_covers_every_key_and_an_empty_source_changes_none() {
        let mut settings = Settings::default();
        settings.merge(everything());
        assert_eq!(settings, everything());
        settings.merge(Settings::default());
        assert_eq!(settings, everything());
    }

    #[test]
    fn merging_replaces_scalars_appends_lists_and_only_switches_on() {
        let mut settings = everything();
        let later = r#"{"node_name": "m", "protocol": 3, "retry_interval": "9s", "tags": {"a": "c", "x": "y"},
            "start_join": ["k", "j"], "leave_on_terminate": false, "enable_compression": true, "bind": ""}"#;
        settings.merge(Settings::decode(later.as_bytes(), &mut Vec::new()).unwrap());
        let expected = Settings {
            node_name: "m".to_owned(),
            protocol: 3,
            retry_interval: Duration::from_secs(9),
            tags: [("a", "c"), ("x", "y")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            start_join: vec!["j".to_owned(), "k".to_owned(), "j".to_owned()],
            enable_compression: Some(true),
            ..everything()
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn every_difference_is_found() {
        let found = everything().differences(&Settings::default());
        let expected: Vec<String> = KEYS
            .iter()
            .flat_map(|key| match &key.slot {
                Slot::Object(inner) => {
                    inner.iter().map(|inner| format!("{}.{}", key.name, inner.name)).collect()
                }
                _ => vec![key.name.to_owned()],
            })
            .collect();
        assert_eq!(found, expected);
        assert!(everything().differences(&everything()).is_empty());
    }
}
