//! Queries in all directions: who acknowledges, who answers, and with which bytes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::thread;

use serde_json::Value;

use super::agent::{Agent, Kind};
use super::cluster::{Cluster, Variant, in_each_variant, run};

in_each_variant!(queries_are_answered, 26);

/// Answers are on their way for less than a tenth of this.
const TIMEOUT: &str = "-timeout=3s";
/// What no argument of a command line can hold, and what JSON has to escape.
const BINARY_ANSWER: &[u8] = b"a\0b\xff\n<&>\n";

const HANDLERS: [&str; 5] = [
    "-event-handler=query:load=echo load of $SERF_SELF_NAME",
    "-event-handler=query:echo=cat",
    r"-event-handler=query:binary=printf 'a\000b\377\n<&>\n'",
    "-event-handler=query:broken=echo not to be sent; exit 3",
    "-event-handler=query:note=sh {dir}/record.sh {dir}/queries",
];

/// One query and what has to come of it.
struct Case {
    args: Vec<&'static str>,
    payload: &'static [u8],
    acks: Vec<&'static str>,
    responses: Vec<(&'static str, String)>,
}

/// Two agents of each kind ask; acks and responses are exactly those of the members that the filters choose.
fn queries_are_answered(cluster: &mut Cluster) {
    cluster.start_pairs(2, |name| {
        let mut flags: Vec<String> = HANDLERS.iter().map(|&flag| flag.to_owned()).collect();
        flags.push(format!("-tag=role={}", if name.ends_with('1') { "web" } else { "db" }));
        flags
    });
    // Both kinds ask each question. An agent asks one at a time: Serf confuses queries of the same Lamport time.
    thread::scope(|scope| {
        for (names, cases) in
            [(["s1", "t1"], filter_cases as fn() -> Vec<Case>), (["s2", "t2"], payload_cases)]
        {
            for name in names {
                let origin = cluster.agent(name);
                scope.spawn(move || cases().iter().for_each(|case| ask(origin, case)));
            }
        }
    });
    ask_in_text(cluster);
    // Two agents asked, so each handler ran twice; an agent may answer before its handler has ended.
    let expected = [b"\x01\xfe\n".to_vec(), b"\x01\xfe\n".to_vec()];
    for agent in cluster.agents() {
        cluster.wait_for(&format!("the notes at {}", agent.name), || {
            let notes: Vec<_> = agent.records("queries").into_iter().map(|record| record.stdin).collect();
            if notes == expected { Ok(()) } else { Err(format!("{notes:?}")) }
        });
    }
}

/// Without filters, by node, by tag (not anchored), by both, relayed.
fn filter_cases() -> Vec<Case> {
    let load = |args: &[&'static str], members: &[&'static str]| Case {
        args: [args, &["load"]].concat(),
        payload: b"",
        acks: members.to_vec(),
        responses: members.iter().map(|&name| (name, format!("load of {name}\n"))).collect(),
    };
    vec![
        load(&[], &["s1", "s2", "t1", "t2"]),
        load(&["-node=s2", "-node=t1", "-node=nobody"], &["s2", "t1"]),
        load(&["-tag=role=we"], &["s1", "t1"]),
        load(&["-tag=role=^db$", "-node=s1", "-node=t2"], &["t2"]),
        load(&["-relay-factor=2"], &["s1", "s2", "t1", "t2"]),
    ]
}

/// Payloads there and back, answers that no payload should change, and no answers.
fn payload_cases() -> Vec<Case> {
    let all = ["s1", "s2", "t1", "t2"];
    let same = |answer: &str| all.iter().map(|&name| (name, answer.to_owned())).collect();
    let case = |args: &[&'static str], payload, acks: &[&'static str], responses| Case {
        args: args.to_vec(),
        payload,
        acks: acks.to_vec(),
        responses,
    };
    let text = "zażółć 🦀 <&>\nsecond line";
    vec![
        case(&["echo"], text.as_bytes(), &all, same(&format!("{text}\n"))),
        case(&["-no-ack", "echo"], b"once more\n", &[], same("once more\n")),
        case(&["binary"], b"", &all, same(&String::from_utf8_lossy(BINARY_ANSWER))),
        case(&["broken"], b"", &all, Vec::new()),
        case(&["note"], b"\x01\xfe", &all, Vec::new()),
    ]
}

/// Asks with the command line of the other kind than the agent's.
fn ask(origin: &Agent, case: &Case) {
    let mut args: Vec<&OsStr> = ["query", "-format=json", TIMEOUT].map(OsStr::new).to_vec();
    args.extend(case.args.iter().map(OsStr::new));
    if !case.payload.is_empty() {
        args.push(OsStr::from_bytes(case.payload));
    }
    let text = origin.cross_ok(&args);
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut acks: Vec<&str> =
        answer["Acks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    acks.sort_unstable();
    let responses: BTreeMap<&str, &str> = answer["Responses"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, payload)| (&**name, payload.as_str().expect("payloads are strings")))
        .collect();
    let expected = case.responses.iter().map(|(name, payload)| (*name, &**payload)).collect();
    let context = format!("{:?} from {}\n{}", case.args, origin.name, origin.dump());
    assert_eq!(acks, case.acks, "acks of {context}");
    assert_eq!(responses, expected, "responses of {context}");
}

/// The text form streams the bytes as they are.
fn ask_in_text(cluster: &Cluster) {
    for name in ["s1", "t1"] {
        let output = cluster.agent(name).cross(&["query", TIMEOUT, "-node=s2", "-node=t2", "binary"]);
        assert!(output.status.success(), "{output:?}");
        for from in ["s2", "t2"] {
            let line = [format!("Response from '{from}': ").as_bytes(), BINARY_ANSWER].concat();
            let streamed = output.stdout.windows(line.len()).any(|window| window == line);
            assert!(streamed, "no answer of {from} in \"{}\"", output.stdout.escape_ascii());
        }
    }
}

/// Copies of acks and answers come through other members, of both kinds: who asked sees each once and counts the rest.
#[test]
fn answers_are_relayed() {
    run(concat!(module_path!(), "::answers_are_relayed"), Variant::Sealed, 114, |cluster| {
        cluster.start_pairs(2, |_| vec!["-event-handler=query:load=cat".to_owned()]);
        for name in ["s1", "t1"] {
            let asker = cluster.agent(name);
            let args = ["query", "-relay-factor=3", "-timeout=2s", "-format=json", "load", "now"];
            let said: Value = serde_json::from_str(&asker.serf_ok(&args)).expect("JSON is shown");
            assert_eq!(said["Acks"].as_array().map(Vec::len), Some(4), "{said}");
            assert_eq!(said["Responses"].as_object().map(serde_json::Map::len), Some(4), "{said}");
            cluster.wait_for(&format!("the copies at {name}"), || copies(asker));
        }
    });
}

/// Whether the agent tells of second answers from the same node.
fn copies(asker: &Agent) -> Result<(), String> {
    if asker.kind == Kind::Serf {
        // Serf counts them in its metrics, which it writes to stderr; some buckets of ten seconds are there.
        asker.signal("USR1");
        let counted = asker.log_lines().into_iter().find(|line| line.contains("serf.query_duplicate_acks'"));
        return counted.map(drop).ok_or_else(|| "not counted yet".to_owned());
    }
    match asker.info()["drops"]["duplicate_response"].as_str() {
        // Three from each of the three others, acks and answers, but for what three random picks have in common.
        Some(count) if count.parse::<u32>().is_ok_and(|count| count >= 6) => Ok(()),
        count => Err(format!("{count:?}")),
    }
}
