//! Two agents of one name: who has it by majority stays, the other ends with code 0.

use super::agent::{Agent, Kind};
use super::cluster::{Cluster, Variant, member_name, run};

#[test]
fn a_third_node_decides() {
    for (place, kind) in Kind::BOTH.into_iter().enumerate() {
        let test = concat!(module_path!(), "::a_third_node_decides");
        run(test, Variant::Plain, 105 + place as u8, |cluster| newcomer_loses(cluster, kind));
    }
}

/// The newcomer is of `kind`, who has the name is of the other.
fn newcomer_loses(cluster: &mut Cluster, kind: Kind) {
    cluster.refusals_expected = true;
    cluster.start_pairs(2, |_| Vec::new());
    let owner = member_name(kind.other(), 1);
    cluster.add(kind, "newcomer");
    cluster.start("newcomer", &[&format!("-node={owner}")]);
    // What the join says depends on how far the clash has got.
    cluster.agent("newcomer").serf(&["join", &cluster.agent("s2").bind_addr().to_string()]);
    assert_loses(cluster.agent("newcomer"));
    cluster.wait_all_alive();
    // Third parties tell of it, and no more.
    for third in ["s2", "t2"] {
        let told = |line: &String| line.to_lowercase().contains(&format!("conflicting address for {owner}"));
        assert!(cluster.agent(third).log_lines().iter().any(told), "{}", cluster.agent(third).dump());
    }
    let members = cluster.agent("t2").members().expect("it answers");
    assert_eq!(members[&owner].addr, cluster.agent(&owner).bind_addr().to_string());
}

fn assert_loses(agent: &Agent) {
    assert_eq!(agent.wait_exit().code(), Some(0), "{}", agent.dump());
    let lost = |line: &String| line.contains("minority in name conflict resolution, quitting [0 / ");
    assert!(agent.log_lines().iter().any(lost), "{}", agent.dump());
}

#[test]
fn without_a_third_node_both_end() {
    run(concat!(module_path!(), "::without_a_third_node_both_end"), Variant::Plain, 107, |cluster| {
        cluster.refusals_expected = true;
        for kind in Kind::BOTH {
            let name = member_name(kind, 1);
            cluster.add(kind, &name);
            cluster.start(&name, &["-node=same"]);
        }
        cluster.agent("t1").serf(&["join", &cluster.agent("s1").bind_addr().to_string()]);
        cluster.agents().iter().for_each(assert_loses);
    });
}
