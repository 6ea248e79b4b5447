//! Older protocols: agents that speak version 2, 3 or 4 beside ones that speak 5, of both kinds. And ways to say whom to
//! join.

use super::agent::{Agent, Kind};
use super::cluster::{Cluster, Variant, run};

#[test]
fn protocol_2() {
    run(concat!(module_path!(), "::protocol_2"), Variant::Plain, 100, |cluster| speaks(cluster, 2));
}

#[test]
fn protocol_3() {
    run(concat!(module_path!(), "::protocol_3"), Variant::Plain, 101, |cluster| speaks(cluster, 3));
}

#[test]
fn protocol_4() {
    run(concat!(module_path!(), "::protocol_4"), Variant::Plain, 102, |cluster| speaks(cluster, 4));
}

/// An old agent and a new one of each kind: equal member lists, events in all directions, queries where they exist.
fn speaks(cluster: &mut Cluster, old: u64) {
    // The refusal of a query is logged in words that are looked for.
    cluster.refusals_expected = old < 4;
    const RECORD: &str = "-event-handler=user=sh {dir}/record.sh {dir}/events";
    cluster.start_pairs(2, |name| {
        let mut flags = vec![RECORD.to_owned(), "-role=web".to_owned(), "-tag=zone=a".to_owned()];
        flags.extend(name.ends_with('1').then(|| format!("-protocol={old}")));
        flags
    });
    let all = ["s1", "t1", "s2", "t2"];
    let members = cluster.wait_statuses(&all.map(|name| (name, "alive")));
    for name in all {
        let spoken = if name.ends_with('1') { old } else { 5 };
        assert_eq!(members[name].protocol, [2, 5, spoken], "{name}");
        let tags: Vec<&str> = members[name].tags.keys().map(String::as_str).collect();
        let expected = if spoken == 2 { vec!["role"] } else { vec!["role", "zone"] };
        assert_eq!(tags, expected, "{name}");
    }
    for origin in cluster.agents() {
        origin.serf_ok(&["event", "-coalesce=false", &format!("from-{}", origin.name)]);
    }
    let expected = ["from-s1", "from-s2", "from-t1", "from-t2"];
    for agent in cluster.agents() {
        cluster.wait_for(&format!("the events at {}", agent.name), || {
            let mut names: Vec<String> =
                agent.records("events").into_iter().map(|record| record.name).collect();
            names.sort_unstable();
            if names == expected { Ok(()) } else { Err(format!("{names:?}")) }
        });
    }
    let said = |agent: &Agent| {
        let output = agent.serf(&["query", "-timeout=2s", "-tag", "zone=a", "-format=json", "anybody"]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    if old < 4 {
        let told = said(cluster.agent("s1"));
        assert!(told.1.contains("Feature not supported"), "{told:?}");
        assert_eq!(told, said(cluster.agent("t1")));
    }
    // All agents understand queries, whatever they speak; a filter looks at tags that don't travel, too.
    for origin in ["s2", "t2"] {
        let (code, text) = said(cluster.agent(origin));
        assert_eq!((code, text.matches("\n    \"").count()), (Some(0), 4), "{origin}: {text}");
    }
}

/// The name before an address is for transports that route by it. Serf's does not look at it, so ours must not.
#[test]
fn a_name_before_an_address_is_not_compared() {
    let test = concat!(module_path!(), "::a_name_before_an_address_is_not_compared");
    run(test, Variant::Plain, 103, |cluster| {
        for (kind, name) in [(Kind::Serf, "s1"), (Kind::Thane, "t1"), (Kind::Thane, "t2")] {
            cluster.add(kind, name);
            cluster.start(name, &[]);
        }
        for (joiner, to) in [("s1", "t1"), ("t1", "s1"), ("t2", "t1")] {
            let joiner = cluster.agent(joiner);
            let entry = |name: &str| format!("{name}/{}", cluster.agent(to).bind_addr());
            let said = joiner.serf_ok(&["join", &entry("somebody-else")]);
            assert_eq!(said, "Successfully joined cluster by contacting 1 nodes.\n");
            let refused = joiner.serf(&["join", &entry("")]);
            let said = String::from_utf8_lossy(&refused.stdout).to_lowercase();
            assert!(!refused.status.success() && said.contains("empty node name provided"), "{said}");
        }
        cluster.wait_all_alive();
    });
}

/// Both kinds on the IPv6 loopback address.
#[test]
fn ipv6() {
    run(concat!(module_path!(), "::ipv6"), Variant::Sealed, 104, |cluster| {
        let port = |name: &str| match name {
            "s1" => 17_961,
            "t1" => 17_962,
            _ => 17_963,
        };
        for (kind, name) in [(Kind::Serf, "s1"), (Kind::Thane, "t1"), (Kind::Thane, "t2")] {
            cluster.add(kind, name);
            let record = "-event-handler=user=sh {dir}/record.sh {dir}/events";
            cluster.start(name, &[&format!("-bind=[::1]:{}", port(name)), record]);
        }
        cluster.agent("s1").serf_ok(&["join", &format!("[::1]:{}", port("t1"))]);
        cluster.agent("t2").serf_ok(&["join", &format!("[::1]:{}", port("s1"))]);
        let members = cluster.wait_statuses(&["s1", "t1", "t2"].map(|name| (name, "alive")));
        assert!(
            members.iter().all(|(name, member)| member.addr == format!("[::1]:{}", port(name))),
            "{members:?}"
        );
        for origin in cluster.agents() {
            origin.serf_ok(&["event", "-coalesce=false", &origin.name]);
        }
        for agent in cluster.agents() {
            cluster.wait_for(&format!("the events at {}", agent.name), || {
                let count = agent.records("events").len();
                if count == 3 { Ok(()) } else { Err(format!("{count}")) }
            });
        }
    });
}
