//! Scripts: what they see, and what becomes of their output, side by side with `serf agent`.

use std::path::Path;

use crate::process::{Agent, THANE, serf, wait_for_file};

/// A handler that appends to a file what it was run with, and "end" in a line of its own.
fn recorder(file: &Path) -> String {
    let file = file.display();
    format!("-event-handler=(env | grep ^SERF_ | sort; cat; echo end) >> {file}")
}

#[test]
fn scripts_see_what_serfs_scripts_see() {
    let Some(serf) = serf() else { return };
    let folder = tempfile::tempdir().unwrap();
    let record = |program: &str, name: &str| {
        let file = folder.path().join(name);
        let flags = ["-node=n1", "-tag=role=web", "-tag=my-tag.x=a b", &recorder(&file)];
        let mut agent = Agent::start(program, "127.15.40.1", &flags);
        let runs =
            |count| wait_for_file(&file, |text| text.lines().filter(|line| *line == "end").count() >= count);
        runs(1);
        agent.rpc(serf, "event", &["-coalesce=false", "deploy", "one\ttwo"]);
        runs(2);
        agent.rpc(serf, "event", &["-coalesce=false", "empty"]);
        runs(3);
        agent.rpc(serf, "query", &["-timeout=1s", "load", "how much"]);
        runs(4);
        agent.rpc(serf, "tags", &["-set", "zone=eu", "-delete", "my-tag.x"]);
        let seen = runs(5);
        // Not by surprise: the next one has the same address.
        agent.signal("TERM");
        agent.end();
        seen
    };
    let (ours, serfs) = (record(THANE, "ours"), in_order(&record(serf, "serfs")));
    assert!(serfs.contains("SERF_TAG_MY_TAG_X=a b\n"), "{serfs}");
    assert_eq!(ours, serfs);
}

/// Serf writes the tags of a member in any order.
fn in_order(text: &str) -> String {
    let line = |line: &str| match line.rsplit_once('\t') {
        Some((before, tags)) if tags.contains('=') => {
            let mut tags: Vec<&str> = tags.split(',').collect();
            tags.sort_unstable();
            format!("{before}\t{}\n", tags.join(","))
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn query_from_serf_is_answered_by_a_script_and_the_other_way_round() {
    let Some(serf) = serf() else { return };
    let ours = Agent::start(
        THANE,
        "127.15.41.1",
        &["-node=ours", "-event-handler=query:load=cat; echo from ours >&2"],
    );
    let serfs = Agent::start(
        serf,
        "127.15.41.2",
        &["-node=serfs", "-join=127.15.41.1", "-event-handler=query:load=cat; echo from serf"],
    );
    for asked in [&ours, &serfs] {
        let answers = asked.rpc(serf, "query", &["-timeout=2s", "load", "now"]);
        for line in ["Ack from 'ours'", "Ack from 'serfs'", "Total Acks: 2", "Total Responses: 2"] {
            assert!(answers.contains(line), "{line} is missing in:\n{answers}");
        }
        assert!(answers.contains("Response from 'ours': now\nfrom ours\n"), "{answers}");
        assert!(answers.contains("Response from 'serfs': now\nfrom serf\n"), "{answers}");
    }
}

#[test]
fn output_and_failure_of_scripts_are_logged_as_serf_logs_them() {
    let mut agent = Agent::start(
        THANE,
        "127.15.42.1",
        &[
            "-log-level=debug",
            "-event-handler=member-join=echo hello; exit 3",
            "-event-handler=member-join=sleep 1.2",
        ],
    );
    agent.wait_for("[DEBUG] agent: Event 'member-join' script output: hello");
    agent.wait_for("[ERR] agent: Error invoking script 'echo hello; exit 3': exit status 3");
    agent.wait_for("[WARN] agent: Script 'sleep 1.2' slow, execution exceeding 1s");
}

#[test]
fn the_first_of_several_scripts_answers_a_query() {
    let Some(serf) = serf() else { return };
    let run = |program, addr| {
        let handlers =
            ["silent=:", "load=echo first", "load=echo second"].map(|h| format!("-event-handler=query:{h}"));
        let flags = [&["-node=n"], &handlers.each_ref().map(String::as_str)[..]].concat();
        let mut agent = Agent::start(program, addr, &flags);
        let answers = agent.rpc(serf, "query", &["-timeout=1s", "load"]);
        agent.wait_for("response already sent");
        // Ack and response are two datagrams, which may arrive in either order.
        let mut lines: Vec<String> = answers.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    let answers = run(THANE, "127.32.10.1");
    assert!(answers.contains("Response from 'n': first\n") && !answers.contains("second"), "{answers}");
    assert_eq!(answers, run(serf, "127.32.10.2"));
}

/// The longest answer in bytes that this agent sends, and what it logs of a longer one.
fn longest_answer(serf: &str, program: &str, addr: &str) -> (usize, String) {
    let handler = "-event-handler=query:big=head -c $(cat) /dev/zero | tr '\\0' x";
    let mut agent = Agent::start(program, addr, &["-node=n12", handler]);
    let is_sent = |bytes: usize| {
        let said = agent.rpc(serf, "query", &["-timeout=1s", "big", &bytes.to_string()]);
        said.contains(&"x".repeat(bytes))
    };
    let (mut sent, mut refused) = (800, 1_100);
    assert!(is_sent(sent) && !is_sent(refused));
    while refused - sent > 1 {
        let middle = usize::midpoint(sent, refused);
        *(if is_sent(middle) { &mut sent } else { &mut refused }) = middle;
    }
    let line = agent.wait_for("Failed to respond to query");
    (sent, line[line.find('[').unwrap()..].to_owned())
}

#[test]
fn answers_over_the_limit_are_not_sent_and_logged_as_serf_does() {
    let Some(serf) = serf() else { return };
    let serfs = std::thread::spawn(move || longest_answer(serf, serf, "127.86.62.1"));
    let ours = longest_answer(serf, THANE, "127.86.62.2");
    assert_eq!(ours, serfs.join().unwrap());
    assert!(
        (900..1024).contains(&ours.0) && ours.1.ends_with("response exceeds limit of 1024 bytes"),
        "{ours:?}"
    );
}
