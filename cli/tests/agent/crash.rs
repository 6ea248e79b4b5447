//! Killed at any moment: the agent starts again, finds back, and has lost nothing that was on disk.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{Agent, THANE, poll};

/// Rounds in the normal run. `THANE_CRASH_ROUNDS=200 cargo test -p thane --test agent crash` makes more.
const ROUNDS: usize = 8;
/// The agent writes an event's time before it reports the event; a busy machine may be late.
const FLUSHED_WITHIN: Duration = Duration::from_secs(10);
const PEER: &str = "127.32.1.1";
const ADDR: &str = "127.32.1.2";

fn send(name: &str) {
    let rpc_addr = format!("-rpc-addr={PEER}:7373");
    let output = Command::new(THANE).args(["event", &rpc_addr, "-coalesce=false", name]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The newest event time in the snapshot.
fn event_clock(path: &Path) -> u64 {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let clocks = whole.lines().filter_map(|line| line.strip_prefix("event-clock: ")?.parse().ok());
    clocks.max().unwrap_or_default()
}

#[test]
fn a_killed_agent_starts_again_and_keeps_what_was_flushed() {
    let rounds =
        std::env::var("THANE_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let flags = ["-node=n", "-log-level=debug", &format!("-snapshot={}", path.display())];
    let _peer = Agent::start(THANE, PEER, &["-node=peer"]);
    let mut first = Agent::start(THANE, ADDR, &[&flags[..], &["-join=127.32.1.1"]].concat());
    first.wait_for("EventMemberJoin: peer");
    // From then on the snapshot brings it back.
    poll("the peer in the snapshot", || {
        std::fs::read_to_string(&path).ok()?.contains("alive: peer").then_some(())
    });
    let mut agent = first;
    let (mut sent, mut slowest) = (0, Duration::ZERO);
    for round in 0..rounds {
        // Something new on disk, then more, and the end in the middle of it.
        sent += 1;
        send(&format!("event-{sent}"));
        agent.wait_for(&format!("user-event: event-{sent}"));
        let before = Instant::now();
        poll("the event's time on disk", || (event_clock(&path) >= sent).then_some(()));
        slowest = slowest.max(before.elapsed());
        let noise = std::thread::spawn(move || (0..3).for_each(|n| send(&format!("event-{}", sent + 1 + n))));
        std::thread::sleep(moment(round));
        agent.signal("KILL");
        agent.end();
        noise.join().unwrap();
        let kept = event_clock(&path);
        assert!(kept >= sent, "round {round}: {kept} of {sent}");
        sent += 3;

        // Killed while it starts, too.
        let early = Agent::spawn(THANE, ADDR, &flags);
        std::thread::sleep(moment(round) / 6);
        early.signal("KILL");
        drop(early);
        // The agent may have recorded the newest events just before either end: they do not come again either.
        let known = event_clock(&path);
        assert!(known >= kept, "round {round}");
        agent = Agent::start(THANE, ADDR, &flags);
        agent.wait_for("Re-joined to previously known node: peer");
        if known < sent {
            agent.wait_for(&format!("user-event: event-{sent}"));
        }
        for old in 1..=known {
            let again = format!("user-event: event-{old}");
            assert!(
                !agent.lines.iter().any(|line| line.ends_with(&again)),
                "round {round}: event {old} came again"
            );
        }
    }
    println!("{rounds} rounds, new lines were on disk within {slowest:?}");
    assert!(slowest < FLUSHED_WITHIN);
}

/// Somewhere in the first 400 ms, another place each round and in each run.
fn moment(round: usize) -> Duration {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    Duration::from_micros(u64::from(nanos / 1000 + 137 * round as u32) * 7 % 400_000)
}
