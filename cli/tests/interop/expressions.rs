//! The same regular expression selects the same members on both kinds of agent.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::UdpSocket;

use thane_engine::pattern::Pattern;
use thane_engine::wire::{Alive, Incarnation, encode_tags};

use crate::common::{self, eventually, serf};

/// Values of the tag that expressions are asked of.
const VALUES: [&str; 26] = [
    "a", "b", "p", "[", "aa", "aab", "a{", "a{,5}", "{", "x&&", "&", "-", "a-b", "]", "ABC", "a.b*", "12",
    "1.2", "é", "\u{663}", "a b", "\u{b}", "_-<", "λ", "aé", "web-12",
];

/// Each is compared with every value; about half of them are read differently by crate `regex` alone.
const EXPRESSIONS: [&str; 118] = [
    "a",
    "a|b",
    "(a|b)",
    "a{",
    "a{,5}",
    "a{01}",
    "a{2}",
    "a{2,}",
    "a{2,3}",
    "a{2}?",
    "{",
    "{1",
    "a{1,2",
    "a{-1}",
    "a}",
    "[[p]",
    "[[]",
    "[x&&]+",
    "[a&&b]",
    "[a~~b]",
    "[a-b-]",
    "[a-]",
    "[-a]",
    "[a-b-c]",
    "[a--b]",
    "[]a]",
    "[^]a]",
    "[]",
    "[",
    "[a",
    "[b-a]",
    "[[:digit:]]+",
    "[[:^digit:]]",
    "[^[:digit:]]",
    "[[:nope:]]",
    "[[:alpha]",
    "[:alpha:]",
    "[[:word:]-]+",
    r"[\d.]+",
    r"[^\D]+",
    r"[^\d\s]",
    r"[\w-]+",
    r"[a-\d]",
    r"[\b]",
    r"[\]]",
    r"[\-a]",
    r"[\x41-C]+",
    r"\d+",
    r"\D",
    r"\w+",
    r"\W",
    r"\s",
    r"a\sb",
    r"\S+",
    r"a\b.*",
    r".*\bé",
    r"a\Bé",
    r"a\Ba.*",
    r"\pL",
    r"\pL+",
    r"\p{L}",
    r"\p{Lu}+",
    r"\PL",
    r"\p{^L}",
    r"\P{^L}",
    r"\p{Greek}",
    r"\P{Greek}",
    r"\p{greek}",
    r"\p{Nope}",
    r"\p{Alphabetic}",
    r"\p{Any}",
    r"\p",
    r"\pN+",
    r"[\pN.]+",
    r"[^\pL]",
    r"\Qa.b*\E",
    r"\Qa.b*",
    r"\E",
    r"\Qa\E+b",
    r"\101\x42\x{43}",
    r"\x4",
    r"\x{}",
    r"\x{110000}",
    r"\0",
    r"\1",
    r"\8",
    r"\12",
    r"\_\-\<",
    r"\é",
    r"\q",
    r"\C",
    r"\Z",
    r"\Aa\z",
    r"^a$",
    "a$",
    "^",
    "$",
    "a**",
    "a*+",
    "a+?",
    "a??",
    "a???",
    "*a",
    "(*a)",
    "a|*b",
    "a{1001}",
    "(a{100}){11}",
    "(a{10}){10}",
    "a{3,2}",
    "()",
    "(|a)",
    "(a",
    "a)",
    "(?i)A",
    "(?i:A)b|a",
    "(?P<n>a)",
    "(?P<>a)",
    "(?P<n>a)(?P<n>b)",
];

/// What only one of the two reads, or what is left to say about groups.
const GROUPS: [&str; 14] = [
    "(?=a)",
    "(?!a)",
    "(?#a)",
    "(?x)a",
    "(?s).+",
    "(?m)^a$",
    "(?U)a+",
    "(?-i)a",
    "(?i-s)A.*",
    "(?-)a",
    "(?)a",
    "(?ii)A",
    "(?P<n-m>a)",
    "(?:a|b)+",
];

/// A Serf agent that lists one member for each value.
fn agent_with_values(serf: &std::path::Path) -> common::Agent {
    let agent = common::Agent::start(serf, "asked", &["-tag", "k=asked"], "");
    let socket = UdpSocket::bind((agent.ip.as_str(), 0)).unwrap();
    let complete = || {
        for (place, value) in VALUES.iter().enumerate() {
            let tags = BTreeMap::from([("k".to_owned(), (*value).to_owned())]);
            let mut meta = Vec::new();
            encode_tags(&tags, &mut meta);
            let alive = Alive {
                incarnation: Incarnation(1),
                node: &format!("v{place}"),
                addr: (&[127, 11, 19, 1][..]).into(),
                port: 9,
                meta: meta.into(),
                versions: (&[1, 5, 2, 2, 5, 5][..]).into(),
            };
            let mut datagram = Vec::new();
            alive.encode(&mut datagram);
            socket.send_to(&datagram, (agent.ip.as_str(), 7946)).unwrap();
        }
        (selected(serf, &agent, ".*")?.len() == VALUES.len()).then_some(())
    };
    eventually(complete).expect("the agent lists all members");
    agent
}

/// The values that Serf finds by an expression; none where it refuses the expression.
fn selected(serf: &std::path::Path, agent: &common::Agent, expr: &str) -> Option<Vec<usize>> {
    let (rpc, tag) = (format!("-rpc-addr={}", agent.rpc()), format!("k={expr}"));
    let shown = common::run(serf, &["members", &rpc, "-format=json", "-tag", &tag], &[]);
    if shown.code != Some(0) {
        assert!(shown.err.contains("client closed") || shown.text().contains("client closed"), "{shown:?}");
        return None;
    }
    let listed: serde_json::Value = serde_json::from_slice(&shown.out).unwrap();
    let names = listed["members"].as_array().into_iter().flatten();
    let place = |member: &serde_json::Value| member["name"].as_str()?.strip_prefix('v')?.parse().ok();
    let mut places: Vec<usize> = names.filter_map(place).collect();
    places.sort_unstable();
    Some(places)
}

#[test]
fn expressions_select_what_serf_selects() {
    let Some(serf) = serf() else { return };
    let agent = agent_with_values(serf);
    let mut wrong = Vec::new();
    for expr in EXPRESSIONS.iter().chain(&GROUPS) {
        let theirs = selected(serf, &agent, expr);
        // Both wrap an expression of a member filter like this, without a group.
        let ours = Pattern::new(&format!("^{expr}$")).ok().map(|pattern| {
            let places = VALUES.iter().enumerate().filter(|(_, value)| pattern.is_match(value));
            places.map(|(place, _)| place).collect::<Vec<usize>>()
        });
        if ours != theirs {
            wrong.push(format!("{expr}: Serf {theirs:?}, ours {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
