//! Crashes, restarts, graceful leaves and forced ones of agents of either kind, as all the others see them.

use super::cluster::{Cluster, in_each_variant};

in_each_variant!(failures_and_leaves, 30);

/// The second agent of each kind goes away in every way there is and comes back; the first ones watch.
fn failures_and_leaves(cluster: &mut Cluster) {
    cluster.profile = "local";
    cluster.start_pairs(2, |_| Vec::new());

    kill_both(cluster);
    come_back(cluster);

    // By command and by signal; each is told that it may go and its exit code says that it did.
    let said = cluster.agent("s2").serf_ok(&["leave"]);
    assert_eq!(said, "Graceful leave complete\n");
    assert!(cluster.agent("s2").wait_exit().success());
    cluster.wait_statuses(&[("s1", "alive"), ("t1", "alive"), ("t2", "alive"), ("s2", "left")]);
    cluster.agent("t2").serf_ok(&["leave"]);
    assert!(cluster.agent("t2").wait_exit().success());
    wait_gone(cluster, "left");
    come_back(cluster);
    for name in ["s2", "t2"] {
        cluster.agent(name).signal("INT");
        assert!(cluster.agent(name).wait_exit().success(), "{name} leaves when interrupted");
    }
    wait_gone(cluster, "left");
    come_back(cluster);

    kill_both(cluster);
    cluster.agent("t1").serf_ok(&["force-leave", "s2"]);
    cluster.agent("s1").serf_ok(&["force-leave", "t2"]);
    wait_gone(cluster, "left");
    come_back(cluster);

    kill_both(cluster);
    cluster.agent("t1").serf_ok(&["force-leave", "-prune", "s2"]);
    cluster.agent("s1").serf_ok(&["force-leave", "-prune", "t2"]);
    cluster.wait_all_alive();
    come_back(cluster);

    // A termination signal is no leave.
    for name in ["s2", "t2"] {
        cluster.agent(name).signal("TERM");
        assert_eq!(cluster.agent(name).wait_exit().code(), Some(1), "{name} when terminated");
    }
    wait_gone(cluster, "failed");
}

fn kill_both(cluster: &Cluster) {
    cluster.agent("s2").kill();
    cluster.agent("t2").kill();
    wait_gone(cluster, "failed");
}

fn wait_gone(cluster: &Cluster, status: &str) {
    cluster.wait_statuses(&[("s1", "alive"), ("t1", "alive"), ("s2", status), ("t2", status)]);
}

/// Each is started again and joins an agent of the other kind.
fn come_back(cluster: &Cluster) {
    cluster.start("s2", &[&cluster.join_flag("t1")]);
    cluster.start("t2", &[&cluster.join_flag("s1")]);
    cluster.wait_all_alive();
}
