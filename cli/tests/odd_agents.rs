//! What agents seldom say: our command line beside Serf's, against an agent that follows a script.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use thane_engine::ipc::{
    Coordinate, CoordinateResponse, KeyResponse, Member, MembersResponse, QueryRecord, Request,
};

mod common;

use common::scripted::{self, Answer, End, record};
use common::{run, serf, thane, words};

fn member(name: &str, status: &str) -> Member {
    Member {
        name: name.to_owned(),
        addr: Some([127, 0, 0, 1].into()),
        port: 7946,
        status: status.to_owned(),
        delegate_min: 2,
        delegate_cur: 5,
        delegate_max: 5,
        ..Member::default()
    }
}

fn members() -> Vec<Member> {
    let mut odd = member("dddd", "alive");
    odd.addr = Some("::1".parse().unwrap());
    odd.tags = BTreeMap::from([("x".to_owned(), "1|2".to_owned())]);
    let mut lost = member("éé", "leaving");
    lost.addr = None;
    lost.tags = BTreeMap::from([("y".to_owned(), "éé".to_owned())]);
    vec![member("aa", "alive"), member("bb", "alive"), member("cc", "failed"), odd, lost]
}

/// Serf's output and ours against the same agent.
fn both(rpc: &str, line: &str) -> Option<(common::Shown, common::Shown)> {
    let variables = [("SERF_RPC_ADDR", rpc)];
    let theirs = run(serf()?, &words(line), &variables);
    Some((theirs, run(thane(), &words(line), &variables)))
}

fn assert_same(rpc: &str, line: &str) {
    let Some((theirs, ours)) = both(rpc, line) else { return };
    assert_eq!(ours.sorted(), theirs.sorted(), "{line}\nthane:\n{}\nserf:\n{}", ours.text(), theirs.text());
}

#[test]
fn unusual_members_are_shown_alike() {
    let rpc = scripted::start(|request| match request {
        Request::MembersFiltered(_) => Answer::body(&MembersResponse { members: members() }),
        _ => Answer::error("only members"),
    });
    for line in ["members", "members -detailed", "members -format=json"] {
        let Some((theirs, ours)) = both(&rpc, line) else { return };
        assert_eq!((ours.sorted(), ours.out.len()), (theirs.sorted(), theirs.out.len()), "{line}");
    }
    for line in ["leave", "event x", "tags -set a=b", "force-leave x", "monitor", "query x"] {
        assert_same(&rpc, line);
    }
}

/// An agent whose members confirm a query so.
fn acking(acks: &'static [&'static str]) -> String {
    scripted::start(move |request| match request {
        Request::Members => Answer::body(&MembersResponse { members: members() }),
        Request::Query(query) => {
            assert!(query.payload.is_empty() && query.request_ack && query.timeout_ns == 0);
            Answer {
                records: acks.iter().map(|from| record(QueryRecord::ACK, from, b"")).collect(),
                end: End::Late(record(QueryRecord::DONE, "", b"")),
                ..Answer::default()
            }
        }
        _ => Answer::error("only queries"),
    })
}

#[test]
fn reachability_sees_what_serf_sees() {
    for acks in [
        &["aa", "bb", "dddd"][..],
        &["aa", "bb", "zz"],
        &["aa", "bb"],
        &["aa", "bb", "cc", "dddd"],
        &["aa", "aa", "bb", "dddd"],
        &["aa", "aa", "bb"],
        &[],
    ] {
        let rpc = acking(acks);
        let Some((theirs, ours)) = both(&rpc, "reachability") else { return };
        // Serf's advice is a sentence and tips after it; ours is in other words.
        let findings = |shown: &common::Shown, advice: &[&str]| {
            let text = shown.text();
            let is_advice = |line: &&str| advice.iter().any(|advice| line.starts_with(advice));
            let mut lines: Vec<String> =
                text.lines().take_while(|line| !is_advice(line)).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let [theirs_found, ours_found] = [
            findings(&theirs, &["This could mean"]),
            findings(&ours, &["These members are listed as", "Gossip packets"]),
        ];
        assert_eq!(ours_found, theirs_found, "{acks:?}");
        assert_eq!((ours.code, ours.err), (theirs.code, theirs.err), "{acks:?}");
    }
}

#[test]
fn answers_of_any_bytes_are_shown_alike() {
    let answers = |hang_up: bool| {
        scripted::start(move |_| Answer {
            records: vec![
                record(QueryRecord::ACK, "aa", b""),
                record(QueryRecord::RESPONSE, "aa", b"one\n\n"),
                record(QueryRecord::RESPONSE, "bb", b"x<y&\xff\x08"),
                record(QueryRecord::RESPONSE, "cc", b""),
            ],
            end: if hang_up { End::HangUp } else { End::Late(record(QueryRecord::DONE, "", b"")) },
            ..Answer::default()
        })
    };
    for line in ["query x", "query -no-ack x", "query -format=json x"] {
        assert_same(&answers(false), line);
    }
    assert_same(&answers(true), "query x");
}

/// Names and tags are other nodes' text; JSON is for programs and stays as it is.
#[test]
fn what_other_nodes_are_called_reaches_no_terminal_as_it_is() {
    const NAME: &str = "esc\x1b]0;owned\x07\u{9b}31m\nrtl\u{202e}gnp";
    const SHOWN: &str = "esc\\u{1b}]0;owned\\u{7}\\u{9b}31m\\nrtl\\u{202e}gnp";
    let rpc = scripted::start(|request| match request {
        Request::Members | Request::MembersFiltered(_) => {
            let mut odd = member(NAME, "alive");
            odd.tags = BTreeMap::from([(NAME.to_owned(), NAME.to_owned())]);
            Answer::body(&MembersResponse { members: vec![odd, member("caf\u{e9}", "alive")] })
        }
        Request::Stats => {
            let tags = BTreeMap::from([(NAME.to_owned(), NAME.to_owned())]);
            Answer::body(&BTreeMap::from([("tags".to_owned(), tags)]))
        }
        Request::Query(_) => Answer {
            records: vec![record(QueryRecord::ACK, NAME, b""), record(QueryRecord::RESPONSE, NAME, b"x")],
            end: End::Late(record(QueryRecord::DONE, "", b"")),
            ..Answer::default()
        },
        Request::InstallKey(_) => {
            let messages = BTreeMap::from([(NAME.to_owned(), NAME.to_owned())]);
            let body = KeyResponse { messages, keys: None, num_nodes: 1, num_err: 1, num_resp: 1 };
            Answer { error: NAME.to_owned(), ..Answer::body(&body) }
        }
        _ => Answer::error(NAME),
    });
    let show = |line: &str| run(thane(), &words(line), &[("THANE_RPC_ADDR", &rpc)]).text();
    for (line, times) in [
        ("members", 3),
        ("info", 2),
        ("query x", 2),
        ("reachability -verbose", 1),
        ("keys -install=x", 2),
        ("event x", 0),
    ] {
        let shown = show(line);
        let is_active =
            |letter: char| letter.is_control() && !"\n\t".contains(letter) || letter == '\u{202e}';
        assert!(!shown.contains(is_active), "{line}: {shown:?}");
        assert!(shown.matches(SHOWN).count() >= times, "{line}: {shown:?}");
    }
    assert!(show("members").contains("caf\u{e9} "));
    assert!(!show("members -format=json").contains("\\u{"), "JSON has its own escapes");
}

/// Some agents send records without a sender at the deadline. Serf's client may end at the first of them.
#[test]
fn records_without_a_sender_mean_nothing() {
    let rpc = scripted::start(|_| Answer {
        records: vec![
            record(QueryRecord::ACK, "aa", b""),
            record(QueryRecord::RESPONSE, "", b""),
            record(QueryRecord::ACK, "", b""),
            record(QueryRecord::RESPONSE, "bb", b"late"),
            record(QueryRecord::DONE, "", b""),
        ],
        ..Answer::default()
    });
    let shown = run(thane(), &["query", "x"], &[("THANE_RPC_ADDR", &rpc)]);
    let expected =
        "Query 'x' dispatched\nAck from 'aa'\nResponse from 'bb': late\nTotal Acks: 1\nTotal Responses: 1\n";
    assert_eq!((shown.text().as_str(), shown.code), (expected, Some(0)));
}

/// An agent that takes force-leaves of all members but `cc`, and counts what it is asked for.
fn pruned(requests: &Arc<Mutex<Vec<String>>>) -> String {
    let requests = Arc::clone(requests);
    scripted::start(move |request| {
        let (asked, answer) = match request {
            Request::MembersFiltered(filter) => (
                format!("list {:?} {:?} {:?}", filter.name, filter.status, filter.tags),
                Answer::body(&MembersResponse { members: members() }),
            ),
            Request::ForceLeave(leave) => (
                format!("leave {} {}", leave.node, leave.prune),
                if leave.node == "cc" { Answer::error("too many") } else { Answer::default() },
            ),
            other => panic!("{other:?}"),
        };
        requests.lock().unwrap().push(asked);
        answer
    })
}

#[test]
fn force_leave_takes_the_filters_of_members_and_says_how_many_left() {
    let requests = Arc::default();
    let rpc = pruned(&requests);
    let asked = |line: &str| {
        let shown = run(thane(), &words(line), &[("SERF_RPC_ADDR", &rpc)]);
        let mut requests = std::mem::take(&mut *requests.lock().unwrap());
        requests.sort();
        (shown.text(), shown.code, requests)
    };
    let leaves = |prune: bool| ["aa", "bb", "cc", "dddd", "éé"].map(|name| format!("leave {name} {prune}"));
    let with = |list: &str, prune| [&leaves(prune)[..], &[list.to_owned()]].concat();
    let text = |what: &str| format!("Error force leaving 'cc': too many\n{what}: 4 of 5 members\n");
    assert_eq!(
        asked("force-leave -name=x.* -tag=a=1"),
        (text("Forced to leave"), Some(1), with(r#"list "x.*" "failed" {"a": "1"}"#, false))
    );
    assert_eq!(
        asked("force-leave -prune -name=x"),
        (text("Pruned"), Some(1), with(r#"list "x" "(failed|left)" {}"#, true))
    );
    let status = asked("force-leave -prune -status=alive");
    assert_eq!(status, (text("Pruned"), Some(1), with(r#"list "" "alive" {}"#, true)));
    // Nothing that may be a slip asks the agent for anything.
    for line in ["force-leave", "force-leave -prune", "force-leave -name=", "force-leave -name=x y"] {
        let (text, code, requests) = asked(line);
        assert!(text.contains("Usage: thane force-leave"), "{text}");
        assert_eq!((code, requests), (Some(1), vec![]), "{line}");
    }
}

#[test]
fn key_failures_name_the_nodes() {
    let fails = scripted::start(|_| {
        let messages =
            BTreeMap::from([("n1".to_owned(), "oops".to_owned()), ("nnnn2".to_owned(), String::new())]);
        let body = KeyResponse { messages, keys: None, num_nodes: 3, num_err: 1, num_resp: 2 };
        Answer { error: "1/3 nodes reported failure".to_owned(), ..Answer::body(&body) }
    });
    let works = scripted::start(|_| {
        let keys = Some(BTreeMap::from([("kkk".to_owned(), 2), ("longer".to_owned(), 1)]));
        let messages = BTreeMap::from([("n1".to_owned(), "truncated".to_owned())]);
        Answer::body(&KeyResponse { messages, keys, num_nodes: 3, num_err: 0, num_resp: 3 })
    });
    for line in ["keys -list", "keys -install x", "keys -use x", "keys -remove x"] {
        assert_same(&fails, line);
        assert_same(&works, line);
    }
}

#[test]
fn round_trips_are_estimated_alike() {
    let rpc = scripted::start(|request| {
        let Request::GetCoordinate(of) = request else { return Answer::error("only coordinates") };
        let (at, adjustment) = match of.node.as_str() {
            "near" => (0.0001, 0.00005),
            "odd" => (0.0123456789, -5.0),
            _ => (0.0371, 0.0),
        };
        let vec = vec![at, -at, at / 3.0, 0.0, 0.0, 0.0, 0.0, at];
        let coord = Coordinate { vec, error: 0.5, adjustment, height: 0.0002 };
        Answer::body(&CoordinateResponse { coord, ok: true })
    });
    for line in ["rtt near far", "rtt near odd", "rtt far odd", "rtt odd odd"] {
        assert_same(&rpc, line);
    }
    let flat = scripted::start(|request| {
        let dimensions = if let Request::GetCoordinate(of) = request { of.node.len() } else { 1 };
        let coord = Coordinate { vec: vec![0.0; dimensions], ..Coordinate::default() };
        Answer::body(&CoordinateResponse { coord, ok: true })
    });
    let shown = run(thane(), &["rtt", "a", "bb"], &[("SERF_RPC_ADDR", &flat)]);
    let expected = "The coordinate of \"a\" has 1 dimensions, not 8\n";
    assert_eq!((shown.text().as_str(), shown.code), (expected, Some(1)));
}

#[test]
fn refusals_are_reported_alike() {
    let rpc = scripted::start(|_| Answer::error("some error"));
    for line in ["event x", "leave", "force-leave x", "tags -set a=b", "monitor", "query x"] {
        assert_same(&rpc, line);
    }
    // Serf's client waits for ever for the body that its agents send after such an error.
    for (line, tried) in [("members", "Error retrieving members"), ("info", "Error querying agent")] {
        let shown = run(thane(), &words(line), &[("SERF_RPC_ADDR", &rpc)]);
        assert_eq!((shown.text(), shown.code), (format!("{tried}: some error\n"), Some(1)));
    }
}

#[test]
fn agents_that_hang_up_are_reported_alike() {
    let rpc = scripted::start(|_| None);
    for line in [
        "members",
        "event x",
        "leave",
        "force-leave x",
        "tags -set a=b",
        "join x",
        "info",
        "rtt a b",
        "rtt a",
        "keys -list",
        "keys -install x",
        "keys -use x",
        "keys -remove x",
        "reachability",
    ] {
        assert_same(&rpc, line);
    }
    // Serf's client says either this or "Stream closed", as chance will have it.
    for (line, tried) in [("query x", "Error sending query"), ("monitor", "Error starting stream")] {
        let shown = run(thane(), &words(line), &[("SERF_RPC_ADDR", &rpc)]);
        assert_eq!((shown.text(), shown.code), (format!("{tried}: client closed\n"), Some(1)));
    }
}
