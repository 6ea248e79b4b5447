//! Joining, equal member lists, tag updates.

use super::agent::Kind;
use super::cluster::{Cluster, in_each_variant};

in_each_variant!(joins_both_ways, 10);
in_each_variant!(lists_are_equal, 13);
in_each_variant!(tag_updates_reach_all, 16);

/// Each kind joins the other, once at its start and once by command.
fn joins_both_ways(cluster: &mut Cluster) {
    for (number, kind) in Kind::BOTH.into_iter().enumerate() {
        let (first, second, third) =
            (format!("first{number}"), format!("second{number}"), format!("third{number}"));
        let address = cluster.add(kind, &first).bind_addr().to_string();
        cluster.add(kind.other(), &second);
        cluster.add(kind.other(), &third);
        cluster.start(&first, &[]);
        cluster.start(&second, &[&format!("-join={address}")]);
        let agent = cluster.agent(&second);
        cluster.wait_for("the banner of the join", || {
            let banner = "Join completed. Synced with 1 initial agents";
            agent.log_lines().iter().find(|line| line.contains(banner)).map(drop).ok_or(banner.to_owned())
        });
        cluster.wait_statuses(&[(&first, "alive"), (&second, "alive")]);

        cluster.start(&third, &[]);
        let said = cluster.agent(&third).serf_ok(&["join", &address]);
        assert_eq!(said, "Successfully joined cluster by contacting 1 nodes.\n");
        cluster.wait_all_alive();
        for agent in cluster.running() {
            agent.kill();
        }
    }
}

/// Three agents of each kind show the same members, addresses, tags and versions.
fn lists_are_equal(cluster: &mut Cluster) {
    let tags = |name: &str| {
        vec![format!("-tag=role={name}"), "-tag=zone=a=b, ż".to_owned(), "-tag=empty=".to_owned()]
    };
    cluster.start_pairs(3, tags);
    let statuses = ["s1", "t1", "s2", "t2", "s3", "t3"].map(|name| (name, "alive"));
    let members = cluster.wait_statuses(&statuses);
    for agent in cluster.agents() {
        let member = &members[&agent.name];
        assert_eq!(member.addr, agent.bind_addr().to_string());
        assert_eq!(member.protocol, [2, 5, 5], "protocol of {}", agent.name);
        let tags: Vec<(&str, &str)> = member.tags.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(tags, [("empty", ""), ("role", &*agent.name), ("zone", "a=b, ż")]);
    }
}

/// An agent of each kind changes its tags: all lists show it and a member-update handler runs on every agent.
fn tag_updates_reach_all(cluster: &mut Cluster) {
    let handler = "-event-handler=member-update=sh {dir}/record.sh {dir}/updates";
    cluster
        .start_pairs(2, |_| vec![handler.to_owned(), "-tag=role=old".to_owned(), "-tag=kept=yes".to_owned()]);
    for origin in ["s2", "t2"] {
        let said = cluster.agent(origin).serf_ok(&["tags", "-set=color=blå", "-set=kept=no", "-delete=role"]);
        assert_eq!(said, "Successfully updated agent tags\n");
        for agent in cluster.agents() {
            cluster.wait_for(&format!("the tags of {origin} at {}", agent.name), || {
                let tags = &agent.members()?[origin].tags;
                let seen: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (&**key, &**value)).collect();
                if seen == [("color", "blå"), ("kept", "no")] { Ok(()) } else { Err(format!("{seen:?}")) }
            });
            let address = cluster.agent(origin).bind_addr().ip();
            // Name, address, role, tags in any order; no role any more.
            let told = ["color=blå,kept=no", "kept=no,color=blå"]
                .map(|tags| format!("{origin}\t{address}\t\t{tags}\n").into_bytes());
            cluster.wait_for(&format!("the update of {origin} at {}'s handler", agent.name), || {
                let records = agent.records("updates");
                let ran = records.iter().any(|record| {
                    record.event == "member-update"
                        && told
                            .iter()
                            .any(|told| record.stdin.windows(told.len()).any(|window| window == told))
                });
                if ran { Ok(()) } else { Err(format!("{records:?}")) }
            });
        }
    }
    cluster.wait_all_alive();
}
