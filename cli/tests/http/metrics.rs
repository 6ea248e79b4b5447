//! `/metrics` as a scraper reads it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::client::{get, post};
use crate::process::{Agent, THANE, poll};

/// A sample: its name, its labels as written, its value.
type Sample = (String, String, f64);

/// Reads the text format by its rules.
fn parse(text: &str) -> BTreeMap<String, (String, Vec<Sample>)> {
    let mut families: BTreeMap<String, (String, Vec<Sample>)> = BTreeMap::new();
    let mut family = String::new();
    let mut helped = BTreeSet::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(helped.contains(name), "no help: {line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            name.clone_into(&mut family);
            assert!(
                families.insert(family.clone(), (kind.to_owned(), Vec::new())).is_none(),
                "twice: {line}"
            );
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = name.split_once('{').map_or((name, ""), |(name, rest)| (name, rest));
            let (kind, samples) = families.get_mut(&family).unwrap();
            let suffix =
                name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("not of {family}: {line}"));
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.contains(&suffix), "{line}");
            let sample = (name.to_owned(), labels.to_owned(), value.parse().unwrap());
            assert!(samples.iter().all(|(n, l, _)| (n, l) != (&sample.0, &sample.1)), "twice: {line}");
            samples.push(sample);
        }
    }
    families
}

#[test]
fn metrics_follow_the_rules_of_the_format_and_its_names() {
    let addr = "127.15.107.1:8500";
    let http = format!("-http-addr={addr}");
    let _agent = Agent::start(THANE, "127.15.107.1", &["-node=n1", "-profile=local", &http]);
    let mut other =
        Agent::start(THANE, "127.15.107.2", &["-node=n2", "-profile=local", "-join=127.15.107.1"]);
    let value = |families: &BTreeMap<String, (String, Vec<Sample>)>, name: &str, labels: &str| {
        let all = families.values().flat_map(|(_, samples)| samples);
        let found = all.clone().find(|(known, with, _)| known == name && with.contains(labels));
        found.unwrap_or_else(|| panic!("{name} {labels} is missing")).2
    };
    let now = || parse(&get(addr, "/metrics").text());
    poll("a probe's ack", || (value(&now(), "thane_probe_round_trip_seconds_count", "") > 0.0).then_some(()));
    let before = now();
    for (name, (kind, samples)) in &before {
        assert!(name.starts_with("thane_") || name.starts_with("process_"), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(!samples.is_empty(), "{name}");
        if kind == "histogram" {
            let buckets: Vec<f64> = samples
                .iter()
                .filter(|(name, ..)| name.ends_with("_bucket"))
                .map(|sample| sample.2)
                .collect();
            assert!(buckets.is_sorted(), "{name}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&value(&before, &format!("{name}_count"), "")));
        }
    }
    assert_eq!(value(&before, "thane_members", "alive"), 2.0);
    assert_eq!(value(&before, "thane_joined", ""), 1.0);
    assert_eq!(get(addr, "/metrics").header("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
    for class in ["intent", "query", "event", "member"] {
        let class = format!("class=\"{class}\"");
        assert!(value(&before, "thane_queue_age_seconds", &class) >= 0.0);
        assert!(value(&before, "thane_queue_depth", &class) >= 0.0);
    }
    post(addr, "/v1/events", &json!({"name": "e"}));
    other.signal("KILL");
    other.end();
    poll("the failure", || (value(&now(), "thane_members", "failed") == 1.0).then_some(()));
    let after = now();
    assert_eq!(
        value(&after, "thane_lamport_time", "event"),
        value(&before, "thane_lamport_time", "event") + 1.0
    );
    assert!(value(&after, "thane_probes_failed_total", "") >= 1.0);
    let delivered = |families: &_| value(families, "thane_event_delivery_seconds_count", "");
    poll("the event's delivery", || (delivered(&now()) > delivered(&before)).then_some(()));
    // The same series, whatever happened: none belongs to a member.
    let series = |families: &BTreeMap<String, (String, Vec<Sample>)>| -> Vec<(String, String)> {
        families.values().flat_map(|(_, all)| all.iter().map(|(n, l, _)| (n.clone(), l.clone()))).collect()
    };
    assert_eq!(series(&before), series(&after));
}
