//! `monitor` beside real Serf's, on the same agent.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

mod common;

use common::{Agent, PATIENCE, command, eventually, run, serf, thane, words};

/// A monitor that runs, and the lines that it prints.
struct Monitor {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Monitor {
    fn start(program: &Path, rpc: &str) -> Monitor {
        let mut command = command(program, &["monitor", "-log-level=info"], &[("SERF_RPC_ADDR", rpc)]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Monitor { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that holds `text`.
    fn until(&mut self, text: &str) {
        while !self.seen.last().is_some_and(|line| line.contains(text)) {
            let line = self.lines.recv_timeout(PATIENCE);
            self.seen.push(line.unwrap_or_else(|_| panic!("no {text} in {:?}", self.seen)));
        }
    }

    /// The events that were seen whole, the fields of each in one order.
    fn events(&self) -> BTreeSet<Vec<String>> {
        let mut blocks: Vec<Vec<String>> = Vec::new();
        for line in &self.seen {
            match blocks.last_mut() {
                _ if line == "Event Info:" => blocks.push(Vec::new()),
                Some(block) if line.starts_with('\t') => block.push(line.clone()),
                _ => {}
            }
        }
        blocks.pop();
        blocks.iter_mut().for_each(|block| block.sort());
        blocks.into_iter().collect()
    }

    fn interrupt(&mut self) -> Option<i32> {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.exit_code()
    }

    fn exit_code(&mut self) -> Option<i32> {
        eventually(|| self.child.try_wait().unwrap()).unwrap().code()
    }
}

#[test]
fn monitors_show_the_same_events_and_end_alike() {
    let Some(serf) = serf() else { return };
    let mut agent = Agent::start(serf, "watched", &[], "");
    let rpc = agent.rpc();
    let mut monitors = [serf, thane()].map(|program| Monitor::start(program, &rpc));
    // The log comes after the stream of events was begun.
    monitors.iter_mut().for_each(|monitor| monitor.until("Accepted client"));
    let fire = |line: &str| assert_eq!(run(serf, &words(line), &[("SERF_RPC_ADDR", &rpc)]).code, Some(0));
    fire("event -coalesce=false de\"ploy\\ v<1>");
    fire("event -coalesce=false bare");
    fire("query -timeout=100ms up payload");
    fire("tags -set role=web -set a=\u{e9}");
    monitors.iter_mut().for_each(|monitor| monitor.until("\"member-update\""));
    fire("event -coalesce=false end-of-test");
    monitors.iter_mut().for_each(|monitor| monitor.until("\"end-of-test\""));
    let [theirs, ours] = monitors.each_ref().map(Monitor::events);
    assert_eq!(ours, theirs);
    assert!(ours.len() >= 4, "{ours:?}");
    assert_eq!(monitors.each_mut().map(Monitor::interrupt), [Some(0), Some(0)]);

    let mut monitors = [serf, thane()].map(|program| Monitor::start(program, &rpc));
    monitors.iter_mut().for_each(|monitor| monitor.until("Accepted client"));
    agent.kill();
    for monitor in &mut monitors {
        monitor.until("Remote side ended the monitor!");
        assert_eq!(monitor.seen[monitor.seen.len() - 2], "");
        assert_eq!(monitor.exit_code(), Some(1));
    }
}
