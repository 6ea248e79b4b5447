//! Watching an agent of either kind with either command line, until interrupted or until the agent leaves.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use super::agent::{Agent, Kind, cli, cli_command, send_signal};
use super::cluster::{Cluster, in_each_variant};

in_each_variant!(monitors_and_leaves, 56);

/// A `monitor` command that is running. Dropping it kills the process.
struct Monitor {
    what: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

/// Every pair of command line and agent shows log lines and events; an interrupt ends it well, a lost agent does not.
fn monitors_and_leaves(cluster: &mut Cluster) {
    cluster.start_pairs(2, |_| Vec::new());
    let cluster = &*cluster;
    let watched =
        || ["s1", "t1"].into_iter().flat_map(|name| Kind::BOTH.map(|kind| (kind, cluster.agent(name))));
    let mut monitors: Vec<Monitor> = watched().map(|(kind, agent)| Monitor::start(kind, agent)).collect();
    for monitor in &monitors {
        monitor.wait_line(cluster, "[INFO] agent: Serf agent starting");
    }
    cluster.agent("t2").serf_ok(&["event", "-coalesce=false", "seen", "zażółć"]);
    cluster.agent("s2").serf_ok(&["query", "-timeout=200ms", "asked"]);
    for monitor in &monitors {
        monitor.wait_line(cluster, "[INFO] agent: Received event: user-event: seen");
        for line in ["Event Info:", "\tEvent: \"user\"", "\tName: \"seen\"", "\tCoalesce: false"] {
            monitor.wait_line(cluster, line);
        }
        let bytes: Vec<String> = "zażółć".bytes().map(|byte| format!("{byte:#x}")).collect();
        monitor.wait_line(cluster, &format!("\tPayload: []byte{{{}}}", bytes.join(", ")));
        monitor.wait_line(cluster, "\tEvent: \"query\"");
        monitor.wait_line(cluster, "\tName: \"asked\"");
    }
    for monitor in &mut monitors {
        send_signal(monitor.child.id(), "INT");
        assert_eq!(monitor.wait_exit(cluster).code(), Some(0), "{} when interrupted", monitor.what);
    }

    let mut monitors: Vec<Monitor> = watched().map(|(kind, agent)| Monitor::start(kind, agent)).collect();
    for monitor in &monitors {
        monitor.wait_line(cluster, "[INFO] agent: Serf agent starting");
    }
    for (kind, name) in [(Kind::Thane, "s1"), (Kind::Serf, "t1")] {
        let agent = cluster.agent(name);
        let output = cli(kind, agent.rpc_addr(), &["leave"]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "Graceful leave complete\n");
        assert!(agent.wait_exit().success(), "{}", agent.dump());
    }
    for monitor in &mut monitors {
        monitor.wait_line(cluster, "Remote side ended the monitor!");
        assert_eq!(monitor.wait_exit(cluster).code(), Some(1), "{} when the agent left", monitor.what);
    }
    cluster.wait_statuses(&[("s1", "left"), ("t1", "left"), ("s2", "alive"), ("t2", "alive")]);
}

impl Monitor {
    fn start(kind: Kind, agent: &Agent) -> Monitor {
        let what = format!("{kind:?}'s monitor of {}", agent.name);
        let mut command = cli_command(kind, agent.rpc_addr(), &["monitor", "-log-level=info"]);
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{what}: {error}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let collected = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                collected.lock().expect("no holder panics").push(line);
            }
        });
        Monitor { what, child, lines }
    }

    /// Waits for a line that holds `text`.
    fn wait_line(&self, cluster: &Cluster, text: &str) {
        cluster.wait_for(&format!("{text:?} in {}", self.what), || {
            let lines = self.lines.lock().expect("no holder panics");
            if lines.iter().any(|line| line.contains(text)) { Ok(()) } else { Err(lines.join("\n")) }
        });
    }

    fn wait_exit(&mut self, cluster: &Cluster) -> ExitStatus {
        cluster.wait_for(&format!("the end of {}", self.what), || {
            self.child.try_wait().expect("the process is ours").ok_or_else(|| "still running".to_owned())
        })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
