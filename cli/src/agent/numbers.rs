//! The agent's numbers: what `thane info` shows and what SIGUSR1 writes.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

use thane_engine::api::NodeStats;
use thane_engine::caps::caps;
use thane_engine::io::UdpCounters;
use thane_engine::ipc::Stats;
use thane_engine::wire::keyring::BACKEND;

use super::handlers::HandlerCounts;
use super::mdns::MdnsCounters;
use crate::clients::Caps;
use crate::http::HttpCounters;

/// All numbers of an agent, by section. Sections `io`, `drops`, `caps`, `handlers`, `rpc`, `http` and `mdns` are Thane's, the others are Serf's.
pub(crate) struct Numbers(Vec<Section>);

/// What the RPC port counted.
#[derive(Debug, Default)]
pub(crate) struct RpcCounters {
    /// Clients that were refused because too many are connected.
    pub(crate) refused: Cell<u64>,
    /// Idle connections that were closed for others, or because no handshake came.
    pub(crate) closed_idle: Cell<u64>,
    /// Clients with whom there was no TLS.
    pub(crate) no_tls: Cell<u64>,
    /// Wrong tokens.
    pub(crate) wrong_tokens: Cell<u64>,
}

struct Section {
    name: &'static str,
    values: Vec<(Cow<'static, str>, Value)>,
}

enum Value {
    Count(u64),
    Text(String),
}

impl Numbers {
    /// The numbers of a node and of the sockets of its shard, with what the agent knows about itself: its
    /// name, its tags, its scripts by event, and the engine's driver with the reason for that driver.
    pub(crate) fn new(
        node: &NodeStats,
        udp: &UdpCounters,
        name: &str,
        tags: &BTreeMap<String, String>,
        scripts: &BTreeMap<String, String>,
        driver: &(String, String),
    ) -> Numbers {
        let texts = |pairs: &BTreeMap<String, String>| {
            pairs.iter().map(|(key, value)| (Cow::Owned(key.clone()), Value::Text(value.clone()))).collect()
        };
        // Settings of the program and not counters: text.
        let caps = caps().map(|(name, value)| (name.into(), Value::Text(value.to_string()))).into();
        Numbers(vec![
            Section { name: "agent", values: vec![("name".into(), Value::Text(name.to_owned()))] },
            Section { name: "runtime", values: runtime() },
            Section { name: "serf", values: serf(node) },
            Section { name: "tags", values: texts(tags) },
            Section { name: "event_handlers", values: texts(scripts) },
            Section { name: "io", values: io(node, udp, driver) },
            Section { name: "drops", values: drops(node) },
            Section { name: "caps", values: caps },
        ])
    }

    /// The same with what was counted of scripts.
    pub(crate) fn with_handlers(mut self, of: &HandlerCounts) -> Numbers {
        let running = of.running.borrow().len();
        let values = [
            ("runs", count(of.runs.get())),
            ("failures", count(of.failures.get())),
            ("timeouts", count(of.timeouts.get())),
            ("dropped", count(of.dropped.get())),
            ("waiting", count(of.waiting.get())),
            ("running", count(running)),
        ];
        let values = values.map(|(name, value)| (name.into(), value)).into();
        self.0.push(Section { name: "handlers", values });
        self
    }

    /// The same with what the RPC port counted.
    pub(crate) fn with_rpc(mut self, rpc: &RpcCounters) -> Numbers {
        let values = [
            ("refused", &rpc.refused),
            ("closed_idle", &rpc.closed_idle),
            ("no_tls", &rpc.no_tls),
            ("wrong_tokens", &rpc.wrong_tokens),
        ];
        let mut values: Vec<(Cow<'static, str>, Value)> =
            values.map(|(name, counter)| (name.into(), count(counter.get()))).into();
        values.extend(Caps::ALL.map(|(name, value)| (name.into(), Value::Text(value.to_string()))));
        self.0.push(Section { name: "rpc", values });
        self
    }

    /// The same with what the HTTP port counted, if there is one.
    pub(crate) fn with_http(mut self, http: Option<&HttpCounters>) -> Numbers {
        if let Some(http) = http {
            let requests = http.requests().map(|(class, n)| (format!("requests_{class}").into(), count(n)));
            let plain = http.plain().map(|(name, _, n)| (name.into(), count(n)));
            self.0.push(Section { name: "http", values: requests.into_iter().chain(plain).collect() });
        }
        self
    }

    /// The same with what discovery counted, if it is on.
    pub(crate) fn with_mdns(mut self, mdns: Option<&MdnsCounters>) -> Numbers {
        if let Some(mdns) = mdns {
            let done = mdns.done().map(|(name, _, n)| (name.into(), count(n)));
            let drops = mdns.drops().map(|(reason, n)| (format!("dropped_{reason}").into(), count(n)));
            self.0.push(Section { name: "mdns", values: done.into_iter().chain(drops).collect() });
        }
        self
    }

    /// As RPC clients get them: every value as text.
    pub(crate) fn to_stats(&self) -> Stats {
        let text = |value: &Value| match value {
            Value::Count(count) => count.to_string(),
            Value::Text(text) => text.clone(),
        };
        let section = |section: &Section| {
            let values = section.values.iter().map(|(key, value)| (key.to_string(), text(value)));
            (section.name.to_owned(), values.collect())
        };
        self.0.iter().map(section).collect()
    }

    /// The values that are counts: section, name, count.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, &str, u64)> {
        let values =
            self.0.iter().flat_map(|section| section.values.iter().map(|value| (section.name, value)));
        values.filter_map(|(section, (name, value))| match value {
            Value::Count(count) => Some((section, &**name, *count)),
            Value::Text(_) => None,
        })
    }
}

fn count(count: impl TryInto<u64>) -> Value {
    Value::Count(count.try_into().unwrap_or(u64::MAX))
}

fn serf(node: &NodeStats) -> Vec<(Cow<'static, str>, Value)> {
    let mut values = vec![
        ("members".into(), count(node.members)),
        ("failed".into(), count(node.failed)),
        ("left".into(), count(node.left)),
        ("health_score".into(), count(node.health_score)),
        ("member_time".into(), count(node.member_time.0)),
        ("event_time".into(), count(node.event_time.0)),
        ("query_time".into(), count(node.query_time.0)),
        ("intent_queue".into(), count(node.intent_queue)),
        ("event_queue".into(), count(node.event_queue)),
        ("query_queue".into(), count(node.query_queue)),
        ("encrypted".into(), Value::Text(node.encrypted.to_string())),
    ];
    values.extend(node.coordinate_resets.map(|resets| ("coordinate_resets".into(), count(resets))));
    values
}

fn io(node: &NodeStats, udp: &UdpCounters, driver: &(String, String)) -> Vec<(Cow<'static, str>, Value)> {
    let (received, sent) = node.datagrams;
    let (bytes_received, bytes_sent) = node.datagram_bytes;
    vec![
        ("driver".into(), Value::Text(driver.0.clone())),
        ("reason".into(), Value::Text(driver.1.clone())),
        ("cipher".into(), Value::Text(BACKEND.to_owned())),
        ("datagrams_received".into(), count(received)),
        ("datagrams_sent".into(), count(sent)),
        ("datagram_bytes_received".into(), count(bytes_received)),
        ("datagram_bytes_sent".into(), count(bytes_sent)),
        ("datagrams_sent_as_segments".into(), count(udp.sent_as_segments)),
        ("datagrams_truncated".into(), count(udp.truncated)),
        ("kernel_drops".into(), count(udp.kernel_drops)),
        ("receive_errors".into(), count(udp.receive_errors)),
        ("send_errors".into(), count(udp.send_errors)),
        ("send_buffer_full".into(), count(udp.send_would_block)),
    ]
}

fn drops(node: &NodeStats) -> Vec<(Cow<'static, str>, Value)> {
    let mut values: Vec<(Cow<'static, str>, Value)> =
        node.drops.iter().map(|&(reason, times)| (reason.into(), count(times))).collect();
    if node.outlet_dropped > 0 {
        values.push(("outlet".into(), count(node.outlet_dropped)));
    }
    values
}

/// Serf's keys with our values, as text: they describe the process and are not counters. Systems and processors
/// have Go's names, because scripts compare them.
fn runtime() -> Vec<(Cow<'static, str>, Value)> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        arch => arch,
    };
    let values = [
        ("os", os.to_owned()),
        ("arch", arch.to_owned()),
        ("version", format!("thane {}", env!("CARGO_PKG_VERSION"))),
        ("max_procs", cpus.clone()),
        ("goroutines", threads().to_string()),
        ("cpu_count", cpus),
    ];
    values.into_iter().map(|(key, value)| (key.into(), Value::Text(value))).collect()
}

/// Threads of this process.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Other systems offer no portable count of the process's threads; the number of tasks is the closest to what
/// Serf shows here.
#[cfg(not(target_os = "linux"))]
fn threads() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(node: &NodeStats) -> Numbers {
        let tags = [("role".to_owned(), "7".to_owned())].into();
        let driver = ("portable".to_owned(), "asked for".to_owned());
        Numbers::new(node, &UdpCounters::default(), "n", &tags, &BTreeMap::new(), &driver)
    }

    #[test]
    fn runtime_has_serfs_keys() {
        let stats = numbers(&NodeStats::default()).to_stats();
        let keys: Vec<&String> = stats["runtime"].keys().collect();
        assert_eq!(keys, ["arch", "cpu_count", "goroutines", "max_procs", "os", "version"]);
        assert_ne!(stats["runtime"]["goroutines"], "0");
    }

    #[test]
    fn counts_are_the_counters_and_no_text_that_looks_like_a_number() {
        let node = NodeStats {
            members: 5,
            drops: vec![("wrong_key", 3)],
            outlet_dropped: 2,
            ..NodeStats::default()
        };
        let numbers = numbers(&node);
        let counts: Vec<_> = numbers.counts().collect();
        for expected in [
            ("serf", "members", 5),
            ("drops", "wrong_key", 3),
            ("drops", "outlet", 2),
            ("io", "send_errors", 0),
        ] {
            assert!(counts.contains(&expected), "{expected:?}");
        }
        assert!(counts.iter().all(|(section, ..)| ["serf", "io", "drops"].contains(section)), "{counts:?}");
        assert_eq!(numbers.to_stats()["tags"]["role"], "7");
    }
}
