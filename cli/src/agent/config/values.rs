//! How the texts and numbers of single settings become values, each with the line for the user where it can't.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use thane_engine::config::{DisseminationPolicy, Profile, RawConfig};
use thane_engine::io::DriverChoice;

use super::settings::Settings;
use crate::agent::handlers::{EventHandler, HandlerOptions};
use crate::agent::level::Level;
use crate::agent::script::Limits;
use crate::agent::telemetry;

/// Upper limit of `user_event_size_limit`, bytes; the same on every member of a cluster.
const USER_EVENT_BYTES_MAX: i64 = 9 * 1024;
/// A message up to this length fits a gossip packet with any keys and most labels, bytes.
const GOSSIP_BYTES: i64 = 1_350;
/// Most scripts at the same time, and the most output of one that is kept, bytes.
const HANDLERS_MAX: usize = 64;
const HANDLER_OUTPUT_MAX: usize = 1 << 20;
/// Versions of Serf's protocol that can be configured.
const PROTOCOLS: RangeInclusive<i64> = 2..=5;

/// Warns of sinks without a port, to which nothing can be sent. Serf starts with them.
pub(super) fn check_sinks(settings: &Settings, warnings: &mut Vec<String>) {
    let sinks = [("statsd_addr", &settings.statsd_addr), ("statsite_addr", &settings.statsite_addr)];
    for (name, addr) in sinks.into_iter().filter(|(_, addr)| !addr.is_empty()) {
        if let Err(error) = telemetry::check_address(addr) {
            warnings.push(format!("Warning: '{name}': {error}; no metrics are sent"));
        }
    }
}

/// The syslog facility, if syslog is enabled.
#[cfg(unix)]
pub(super) fn syslog(settings: &Settings) -> Result<Option<u8>, String> {
    use crate::agent::syslog::{FACILITY_DEFAULT, facility};
    let name = given(settings.syslog_facility.clone(), FACILITY_DEFAULT.to_owned());
    let wanted = settings.enable_syslog.then(|| facility(&name)).transpose();
    wanted.map_err(|error| format!("Syslog setup failed: {error}"))
}

#[cfg(not(unix))]
pub(super) fn syslog(settings: &Settings) -> Result<Option<u8>, String> {
    let refusal = "Syslog setup failed: Syslog is not supported on this platform";
    if settings.enable_syslog { Err(refusal.to_owned()) } else { Ok(None) }
}

pub(super) fn networks(texts: &[String]) -> Result<Vec<IpNet>, String> {
    let network = |text: &String| {
        text.parse()
            .map_err(|_| format!("'cidrs_allowed': {text:?} is no network such as 10.0.0.0/8 or fd00::/8"))
    };
    texts.iter().map(network).collect()
}

/// Warns of negative limits, which Serf accepts and then refuses every message, and of limits beyond what gossip
/// carries.
///
/// # Errors
/// The limit for user events is above the largest that all members accept.
pub(super) fn check_sizes(settings: &Settings, warnings: &mut Vec<String>) -> Result<(), String> {
    let sizes = [
        ("query_size_limit", settings.query_size_limit, "queries"),
        ("query_response_size_limit", settings.query_response_size_limit, "query responses"),
        ("user_event_size_limit", settings.user_event_size_limit, "user events"),
    ];
    for (name, size, refused) in sizes.into_iter().filter(|(_, size, _)| *size < 0) {
        warnings.push(format!("Warning: '{name}' is {size}: no {refused} can be sent"));
    }
    for (name, size, what) in [
        ("query_size_limit", settings.query_size_limit, "queries that fit no gossip packet are refused"),
        (
            "user_event_size_limit",
            settings.user_event_size_limit,
            "user events that fit no gossip packet spread by push/pulls, which takes seconds",
        ),
    ] {
        if size > GOSSIP_BYTES {
            warnings.push(format!("Warning: '{name}' is {size}: {what} (some {GOSSIP_BYTES} bytes fit)"));
        }
    }
    if settings.user_event_size_limit > USER_EVENT_BYTES_MAX {
        return Err(format!("user event size limit exceeds limit of {USER_EVENT_BYTES_MAX} bytes"));
    }
    Ok(())
}

pub(super) fn key(text: &str) -> Result<Option<Vec<u8>>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let key = crate::base64::decode(text).map_err(|error| format!("Invalid encryption key: {error}"))?;
    match key.len() {
        16 | 24 | 32 => Ok(Some(key)),
        length => Err(format!(
            "Invalid encryption key: key size must be 16, 24 or 32 bytes, not {length}; 'thane keygen' makes one"
        )),
    }
}

pub(super) fn log_level(text: &str) -> Result<Level, String> {
    if text.is_empty() {
        return Ok(Level::Info);
    }
    Level::parse(text).ok_or_else(|| {
        format!(
            "Invalid log level: {}. Valid log levels are: [TRACE DEBUG INFO WARN ERR]",
            text.to_uppercase()
        )
    })
}

pub(super) fn handlers(specs: &[String]) -> Result<Vec<EventHandler>, String> {
    let lists: Vec<_> = specs.iter().map(|spec| EventHandler::parse(spec)).collect::<Result<_, _>>()?;
    Ok(lists.concat())
}

/// How scripts are run. Nothing given: as in Serf.
pub(super) fn handler_options(settings: &Settings) -> Result<HandlerOptions, String> {
    let most = |name: &str, value: i64, default: usize, max: usize| match usize::try_from(value) {
        Ok(0) => Ok(default),
        Ok(value) if value <= max => Ok(value),
        _ => Err(format!("'{name}': use 1 to {max}, not {value}")),
    };
    let serfs = Limits::default();
    let time = Some(settings.handler_timeout).filter(|time| !time.is_zero());
    let output = settings.handler_output_limit;
    let output_bytes = most("handler_output_limit", output, serfs.output_bytes, HANDLER_OUTPUT_MAX)?;
    let concurrency = most("handler_concurrency", settings.handler_concurrency, 1, HANDLERS_MAX)?;
    Ok(HandlerOptions { concurrency, limits: Limits { time, output_bytes } })
}

/// Whether log lines are JSON.
pub(super) fn json_log(text: &str) -> Result<bool, String> {
    match text {
        "" | "text" => Ok(false),
        "json" => Ok(true),
        other => Err(format!("'log_format': {other:?} is neither text nor json")),
    }
}

pub(super) fn profile(text: &str) -> Result<Profile, String> {
    if text.is_empty() {
        return Ok(Profile::default());
    }
    text.parse().map_err(|_| format!("Unknown profile: {text}"))
}

pub(super) fn io_driver(text: &str) -> Result<DriverChoice, String> {
    if text.is_empty() {
        return Ok(DriverChoice::default());
    }
    text.parse().map_err(|error| format!("'io_driver' (-io-driver): {error}"))
}

pub(super) fn dissemination(text: &str) -> Result<Option<DisseminationPolicy>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| format!("'dissemination' (-dissemination): {error}"))
}

/// Zero and less mean the newest, as in Serf.
pub(super) fn protocol(number: i64) -> Result<u8, String> {
    if number <= 0 {
        return Ok(RawConfig::lan("", SocketAddr::from(([0, 0, 0, 0], 0))).protocol);
    }
    let word = if number < *PROTOCOLS.start() { "low" } else { "high" };
    u8::try_from(number).ok().filter(|&version| PROTOCOLS.contains(&i64::from(version))).ok_or_else(|| {
        format!(
            "Protocol version '{number}' too {word}. Must be in range: [{}, {}]",
            PROTOCOLS.start(),
            PROTOCOLS.end()
        )
    })
}

pub(super) fn given<T: Default + PartialEq>(value: T, default: T) -> T {
    if value == T::default() { default } else { value }
}
