//! Serf's command line and Thane's say the same about an agent of either kind.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::thread;

use regex::{Captures, Regex};

use super::agent::{Agent, Kind, cli, cli_command, finish};
use super::cluster::{Cluster, Variant, in_each_variant};

in_each_variant!(commands_agree, 50);
in_each_variant!(tokens_agree, 53);

/// How two outputs are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    /// Equal lines, in any order, without the figures that change from one run to the next.
    Lines,
    /// Equal first lines of both streams: help texts follow, which differ.
    Head,
    /// Only exit codes: the output starts with a help text.
    Code,
}

use Compare::{Code, Head, Lines};

/// Commands that change nothing that another command shows, and their exit codes. `{other}` is the gossip address of the
/// other agent.
const COMMANDS: &[(i32, Compare, &[&str])] = &[
    (0, Lines, &["members"]),
    (0, Lines, &["members", "-format=json"]),
    (0, Lines, &["members", "-detailed"]),
    (0, Lines, &["members", "--detailed=true", "--format", "text"]),
    (0, Lines, &["members", "-status=alive"]),
    (0, Lines, &["members", "-status=failed"]),
    (0, Lines, &["members", "-status=left"]),
    (0, Lines, &["members", "-status=left", "-format=json"]),
    (0, Lines, &["members", "-status", "alive|failed"]),
    (0, Lines, &["members", "-tag=role=web"]),
    (0, Lines, &["members", "-tag=role=we"]),
    (0, Lines, &["members", "-tag=role=w.*", "-tag=odd=.+"]),
    (0, Lines, &["members", "-tag=missing="]),
    (0, Lines, &["members", "-role=web"]),
    (0, Lines, &["members", "-name=.1"]),
    (0, Lines, &["members", "-name=zz|1"]),
    (1, Lines, &["members", "-name=("]),
    (1, Lines, &["members", "-tag=foo"]),
    (1, Lines, &["members", "-format=xml"]),
    (1, Code, &["members", "-bogus"]),
    (0, Lines, &["info"]),
    (0, Lines, &["info", "-format=json"]),
    (0, Lines, &["event", "deploy"]),
    (0, Lines, &["event", "-coalesce=false", "deploy", "a payload\nof two lines"]),
    (1, Head, &["event"]),
    (1, Head, &["event", "one", "two", "three"]),
    (0, Lines, &["query", "-timeout=1500ms", "load"]),
    (0, Lines, &["query", "-timeout=1500ms", "-format=json", "load", "<&>"]),
    (0, Lines, &["query", "-timeout=1500ms", "-no-ack", "-node=s1", "load"]),
    (0, Lines, &["query", "-timeout=200ms", "-node=nobody", "-format=json", "load"]),
    (0, Lines, &["query", "-timeout=1500ms", "-tag=role=web", "-relay-factor=1", "load"]),
    (1, Head, &["query"]),
    (1, Lines, &["query", "-relay-factor=300", "load"]),
    (1, Lines, &["query", "-format=xml", "load"]),
    (1, Code, &["query", "-timeout=5", "load"]),
    (0, Lines, &["join", "{other}"]),
    (0, Lines, &["join", "-replay", "{other}", "127.14.255.254:17946"]),
    (1, Lines, &["join", "127.14.255.254:17946"]),
    (1, Head, &["join"]),
    (0, Lines, &["force-leave", "nobody"]),
    (1, Head, &["force-leave"]),
    (0, Lines, &["reachability"]),
    (0, Lines, &["reachability", "-verbose"]),
    (0, Lines, &["rtt", "s1", "t1"]),
    (0, Lines, &["rtt", "s1"]),
    (1, Lines, &["rtt", "s1", "nobody"]),
    (1, Head, &["rtt"]),
    (1, Lines, &["monitor", "-log-level=zip"]),
    (1, Code, &["keys"]),
    (1, Lines, &["keys", "-list", "-use=T2xkIGtleXMgb3BlbiBub3RoaW5nIG5ldy4gMTIzNDU="]),
];

/// Commands that change what the others show.
const CHANGES: &[(i32, Compare, &[&str])] = &[
    (0, Lines, &["tags", "-set=new=value", "-delete=never-there"]),
    (0, Lines, &["tags", "-delete=new"]),
    (1, Lines, &["tags", "-set=bad"]),
    (1, Code, &["tags"]),
    (0, Lines, &["members"]),
    (0, Lines, &["info", "-format=json"]),
];

/// Both command lines, command by command, against an agent of each kind.
fn commands_agree(cluster: &mut Cluster) {
    cluster.start_pairs(1, |name| {
        let tag = if name == "s1" { "-tag=role=web" } else { "-tag=role=db" };
        vec![
            tag.to_owned(),
            "-tag=odd=<a&b>".to_owned(),
            "-event-handler=query:load=cat; echo done".to_owned(),
        ]
    });
    cluster.add(Kind::Serf, "gone");
    cluster.start("gone", &[&cluster.join_flag("t1")]);
    cluster.wait_all_alive();
    cluster.agent("gone").kill();
    cluster.wait_statuses(&[("s1", "alive"), ("t1", "alive"), ("gone", "failed")]);
    wait_coordinates(cluster);
    let cluster = &*cluster;

    let pairs = [("s1", "t1"), ("t1", "s1")].map(|(one, two)| (cluster.agent(one), cluster.agent(two)));
    thread::scope(|scope| {
        for (agent, other) in pairs {
            scope.spawn(move || {
                assert_all_agree(agent, other, COMMANDS);
                let code = i32::from(cluster.variant != Variant::Sealed);
                assert_agree(agent, code, Lines, &["keys", "-list"].map(str::to_owned));
                assert_address_from_environment(agent);
            });
        }
    });
    for (agent, other) in pairs {
        assert_all_agree(agent, other, CHANGES);
    }
    assert_agree(cluster.agent("t1"), 0, Lines, &["force-leave", "gone"].map(str::to_owned));
    cluster.wait_statuses(&[("s1", "alive"), ("t1", "alive"), ("gone", "left")]);
    assert_agree(cluster.agent("s1"), 0, Lines, &["force-leave", "-prune", "gone"].map(str::to_owned));
    cluster.wait_all_alive();
    assert_no_agent_agrees(cluster.agent("gone"));
}

/// The agent wants a token: with it, with a wrong one, without.
fn tokens_agree(cluster: &mut Cluster) {
    for name in ["s1", "t1"] {
        let kind = if name == "s1" { Kind::Serf } else { Kind::Thane };
        let agent = cluster.add(kind, name);
        std::fs::write(agent.file("agent.json"), r#"{"rpc_auth": "sesame"}"#).expect("the config is written");
        cluster.start(name, &["-config-file={dir}/agent.json"]);
        let agent = cluster.agent(name);
        let said = [
            ("-rpc-auth=sesame", 0, ""),
            ("-rpc-auth=tomato", 1, "Invalid authentication token"),
            ("-rpc-auth=", 1, "Authentication required"),
        ];
        for (flag, code, reason) in said {
            let args = ["members", flag].map(str::to_owned);
            let text = assert_agree(agent, code, Lines, &args);
            assert!(text.contains(reason), "{flag}: {text}");
            assert_agree(agent, code, Lines, &["event", flag, "deploy"].map(str::to_owned));
        }
        let [serf, thane] = Kind::BOTH.map(|kind| {
            let mut command = cli_command(kind, agent.rpc_addr(), &["members"]);
            command.env("SERF_RPC_AUTH", "sesame");
            finish(command)
        });
        assert_equal("members with SERF_RPC_AUTH", 0, Lines, &serf, &thane, agent);
    }
    for (name, other) in [("s1", "t1"), ("t1", "s1")] {
        let agent = cluster.agent(name);
        let address = cluster.agent(other).bind_addr().to_string();
        assert_agree(agent, 0, Lines, &["join".to_owned(), "-rpc-auth=sesame".to_owned(), address]);
        // The checks at the end of every scenario know no token: they see what a stranger sees.
        assert!(agent.members().is_err_and(|error| error.contains("Authentication required")));
    }
    for agent in cluster.agents() {
        agent.serf_ok(&["leave", "-rpc-auth=sesame"]);
        assert!(agent.wait_exit().success());
    }
}

fn assert_all_agree(agent: &Agent, other: &Agent, commands: &[(i32, Compare, &[&str])]) {
    let address = other.bind_addr().to_string();
    for (code, compare, args) in commands {
        let args: Vec<String> = args.iter().map(|arg| arg.replace("{other}", &address)).collect();
        assert_agree(agent, *code, *compare, &args);
    }
}

/// Runs one command by both command lines, checks that they agree, and returns what they print.
fn assert_agree(agent: &Agent, code: i32, compare: Compare, args: &[String]) -> String {
    let run = || Kind::BOTH.map(|kind| cli(kind, agent.rpc_addr(), args));
    let mut outputs = run();
    if compare == Lines && steady_lines(&text(&outputs[0].stdout)) != steady_lines(&text(&outputs[1].stdout))
    {
        // The agent lives: what it tells may have changed between the two. It must not differ again.
        outputs = run();
    }
    let [serf, thane] = outputs;
    assert_equal(&args.join(" "), code, compare, &serf, &thane, agent);
    String::from_utf8_lossy(&serf.stdout).into_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_equal(what: &str, code: i32, compare: Compare, serf: &Output, thane: &Output, agent: &Agent) {
    let both = || {
        let [serf, thane] = [serf, thane].map(|output| {
            let [stdout, stderr] =
                [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
            format!("{}\n{stdout}[stderr]\n{stderr}", output.status)
        });
        format!("\n--- serf {what} at {}: {serf}\n--- thane: {thane}\n{}", agent.name, agent.dump())
    };
    assert_eq!(serf.status.code(), Some(code), "Serf's exit code{}", both());
    assert_eq!(thane.status.code(), Some(code), "Thane's exit code{}", both());
    for (serf, thane) in [(&serf.stdout, &thane.stdout), (&serf.stderr, &thane.stderr)] {
        let [serf, thane] = [serf, thane].map(|bytes| String::from_utf8_lossy(bytes));
        let equal = match compare {
            Lines => steady_lines(&serf) == steady_lines(&thane),
            Head => serf.lines().next() == thane.lines().next(),
            Code => true,
        };
        assert!(equal, "outputs differ{}", both());
    }
}

/// The lines of an output, sorted, without measured times and counters. Serf's order is random: of lines, of the tags in
/// a line, and so of the entries of a JSON list that a comma follows.
fn steady_lines(text: &str) -> Vec<String> {
    let counter = Regex::new(
        r#"(goroutines|_time|_queue|health_score|coordinate_resets|_received|_sent|unknown_seq|duplicate_response)("?(?: =|:) "?)\d+"#,
    );
    let counter = counter.expect("a valid expression");
    let time = Regex::new(r"\d+\.\d+ (ms|sec)").expect("a valid expression");
    let tags = Regex::new(r"\S+=\S+").expect("a valid expression");
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let line = counter.replace_all(line, "$1$2#");
            let line = tags.replace_all(&line, |found: &Captures| {
                let mut tags: Vec<&str> = found[0].split(',').collect();
                tags.sort_unstable();
                tags.join(",")
            });
            time.replace_all(&line, "# $1").trim_end().trim_end_matches(',').to_owned()
        })
        .collect();
    lines.sort_unstable();
    lines
}

/// Waits until both agents know the coordinates that `rtt` needs: each comes with an answered probe.
fn wait_coordinates(cluster: &Cluster) {
    for name in ["s1", "t1"] {
        cluster.wait_for(&format!("the coordinates at {name}"), || {
            let output = cluster.agent(name).serf(&["rtt", "s1", "t1"]);
            if output.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&output.stdout).into_owned())
            }
        });
    }
}

fn assert_address_from_environment(agent: &Agent) {
    let [serf, thane] = Kind::BOTH.map(|kind| {
        let mut command: Command = kind.command();
        command.env("SERF_RPC_ADDR", agent.rpc_addr().to_string()).arg("members");
        finish(command)
    });
    assert_equal("members with SERF_RPC_ADDR", 0, Lines, &serf, &thane, agent);
}

/// Where no agent listens, every command that needs one says so in the same way.
fn assert_no_agent_agrees(agent: &Agent) {
    let mut said = BTreeSet::new();
    for args in
        [&["members"][..], &["info"], &["event", "deploy"], &["query", "load"], &["join", "x"], &["leave"]]
    {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        said.insert(assert_agree(agent, 1, Lines, &args));
    }
    let expected = format!(
        "Error connecting to Serf agent: dial tcp {}: connect: connection refused\n",
        agent.rpc_addr()
    );
    assert_eq!(said.into_iter().collect::<Vec<_>>(), [expected]);
}
