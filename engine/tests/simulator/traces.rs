//! Scenarios with an expected trace: events and notices, one line each, in
//! `tests/traces/NAME.txt`. `THANE_UPDATE_TRACES=1 cargo test -p thane-engine --test simulator traces` writes
//! them anew, for review.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use thane_engine::context::NodeId;
use thane_engine::event::{Event, Notice};
use thane_engine::sim::{Play, Scenario, Seen, Watcher};
use thane_engine::time::Time;

/// The lines of a trace so far.
#[derive(Clone, Default)]
struct Lines(Rc<RefCell<Vec<String>>>);

impl Watcher for Lines {
    fn saw(&mut self, at: Time, node: NodeId, what: Seen<'_>) {
        let text = match what {
            Seen::Event(Event::Member { kind, members }) => {
                let names: Vec<&str> = members.iter().map(|member| member.name).collect();
                format!("{} {}", kind.as_str(), names.join(" "))
            }
            Seen::Event(Event::User { name, ltime, .. }) => format!("user {name} of {}", ltime.0),
            Seen::Event(Event::Query { name, ltime, .. }) => format!("query {name} of {}", ltime.0),
            Seen::Notice(Notice::SuspectNoAck { name }) => format!("suspects {name}"),
            Seen::Notice(Notice::MarkingFailed { name, confirmations }) => {
                format!("declares {name} failed, {confirmations} confirmations")
            }
            Seen::Notice(Notice::Refuting { what, from }) => format!("refutes {what} from {from}"),
            Seen::Notice(Notice::Reconnecting { name, .. }) => format!("reconnects to {name}"),
            Seen::Notice(Notice::TcpFallbackOnly { name }) => format!("reaches {name} by stream only"),
            _ => return,
        };
        let seconds = at.as_nanos() as f64 / 1e9;
        self.0.borrow_mut().push(format!("{seconds:9.3} n{}: {text}", node.0 + 1));
    }
}

fn trace_of(text: &str) -> String {
    let scenario = Scenario::parse(text).unwrap();
    let lines = Lines::default();
    let mut play = Play::new(&scenario, 1);
    play.check();
    play.world().watch(Box::new(lines.clone()));
    let outcome = play.run(|_, _| true);
    assert_eq!((outcome.violations, outcome.unsettled), (Vec::new(), None));
    let lines = lines.0.borrow();
    format!("# {}: {}\n{}\n", scenario.name, scenario.about, lines.join("\n"))
}

fn expect(text: &str) {
    let name = Scenario::parse(text).unwrap().name;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/traces/{name}.txt"));
    let got = trace_of(text);
    if std::env::var_os("THANE_UPDATE_TRACES").is_some() {
        std::fs::write(&path, &got).unwrap();
    }
    let expected = std::fs::read_to_string(&path).expect("the update mode writes it");
    let first = got.lines().zip(expected.lines()).find(|(got, expected)| got != expected);
    assert!(
        got == expected,
        "{name} differs, first in (got, expected) {first:?}; update mode: see the module"
    );
}

const FIVE: &str = "nodes = 5\nsettle = true\n";

#[test]
fn crash() {
    expect(&format!(
        "name = \"crash-of-one\"\nabout = \"suspected, confirmed, declared once, told everywhere\"\nlasts = \"20s\"\n{FIVE}
        [[step]]\nat = \"1s\"\ndo = \"crash\""
    ));
}

#[test]
fn pause() {
    expect(&format!(
        "name = \"pause\"\nabout = \"a member that stands still is suspected and refutes when it goes on\"\nlasts = \"20s\"\n{FIVE}
        [[step]]\nat = \"1s\"\ndo = \"pause\"\nstill = \"4s\""
    ));
}

#[test]
fn leave() {
    expect(&format!(
        "name = \"leave\"\nabout = \"who announces it has left, nobody says failed\"\nlasts = \"20s\"\n{FIVE}
        [[step]]\nat = \"1s\"\ndo = \"leave\""
    ));
}

#[test]
fn partition() {
    expect(&format!(
        "name = \"partition-and-heal\"\nabout = \"both sides declare the other failed, reconnect and refute\"\nlasts = \"60s\"\n{FIVE}
        [[step]]\nat = \"1s\"\ndo = \"partition\"\ncount = 2\n[[step]]\nat = \"40s\"\ndo = \"heal\""
    ));
}

#[test]
fn restart() {
    expect(&format!(
        "name = \"restart-from-snapshot\"\nabout = \"back under the old name before anybody declares it failed, no event heard twice\"\nlasts = \"20s\"\n{FIVE}
        [[step]]\nat = \"1s\"\ndo = \"event\"\n[[step]]\nat = \"3s\"\ndo = \"crash\"\n[[step]]\nat = \"5s\"\ndo = \"restart\"\nsnapshot = true"
    ));
}

#[test]
fn moved() {
    expect(&format!(
        "name = \"new-address\"\nabout = \"who left may come back under another address\"\nlasts = \"30s\"\n{FIVE}
        [[step]]\nat = \"1s\"\ndo = \"leave\"\n[[step]]\nat = \"15s\"\ndo = \"move\""
    ));
}

#[test]
fn prune() {
    expect(&format!(
        "name = \"prune\"\nabout = \"a failed member is pruned: it left, and is erased everywhere\"\nlasts = \"40s\"\n{FIVE}
        [[step]]\nat = \"1s\"\ndo = \"crash\"\n[[step]]\nat = \"25s\"\ndo = \"prune\""
    ));
}

#[test]
fn join_event_and_query() {
    expect(&format!(
        "name = \"join-event-and-query\"\nabout = \"a newcomer is told of all and told to all; each hears event and query once, although datagrams come twice\"\nlasts = \"20s\"\n{FIVE}
        [network]\nduplication = 1.0\n[[step]]\nat = \"1s\"\ndo = \"join\"\n[[step]]\nat = \"5s\"\ndo = \"event\"\n[[step]]\nat = \"10s\"\ndo = \"query\""
    ));
}
