//! Joining, equal member lists, tag updates.

use super::agent::Kind;
use super::cluster::{Cluster, in_each_variant};

in_each_variant!(joins_both_ways, 10);
in_each_variant!(lists_are_equal, 13);

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
