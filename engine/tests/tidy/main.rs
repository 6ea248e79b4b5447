//! The rules of the tree that the compiler does not check: which room may name which, that cited sections exist, where
//! `unsafe` may stand, how long a file may be. Each rule about rooms and citations has a canary in `canaries`.
#![allow(clippy::unwrap_used)]

mod canaries;
mod citations;
mod code;
mod rooms;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rooms::Rule::{self, Not, Only};

/// Where `unsafe` may stand: what calls the kernel, and the bare system calls that it is measured beside.
const UNSAFE: [&str; 2] = ["engine/src/io/", "bench/benches/udp_path/bare"];

/// Longest source file, lines.
const LINES_MAX: usize = 520;

const PACKAGES: [&str; 5] = ["engine", "cli", "bench", "loadgen", "testbed"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn files(dir: &Path, endings: &[&str], into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && !path.ends_with("target") {
            files(&path, endings, into);
        } else if path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known)) {
            into.push(path);
        }
    }
}

/// Files beneath a folder of the workspace: path from the workspace's root, text.
fn texts(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(&root().join(folder), endings, &mut found);
    let relative = |path: &Path| path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
    found.iter().map(|path| (relative(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// All source files of the workspace.
fn sources() -> Vec<(String, String)> {
    PACKAGES.iter().flat_map(|package| texts(package, &["rs"])).collect()
}

/// The arrows between the rooms of a package.
fn arrows(package: &str) -> Vec<rooms::Arrow> {
    let src = format!("{package}/src");
    let from_src = |(path, text): (String, String)| (path[src.len() + 1..].to_owned(), text);
    rooms::arrows(&texts(&src, &["rs"]).into_iter().map(from_src).collect::<Vec<_>>())
}

fn list(arrows: &[&rooms::Arrow]) -> String {
    let line = |arrow: &&rooms::Arrow| {
        format!("\n  {} -> {}: {} names {}", arrow.from, arrow.to, arrow.file, arrow.name)
    };
    arrows.iter().map(line).collect()
}

#[test]
fn no_rooms_import_each_other() {
    let mut found = String::new();
    for package in PACKAGES {
        for (rooms, inside) in rooms::circles(&arrows(package)) {
            found.push_str(&format!("\n{package}: the rooms {rooms:?} form a circle:{}", list(&inside)));
        }
    }
    assert!(found.is_empty(), "{found}");
}

/// The rooms that stand above the core: they drive nodes, or lend them sockets.
const SHELL: [&str; 4] = ["api", "shard", "io", "sim"];

/// (package, room, what it may name)
fn rules() -> Vec<(&'static str, &'static str, Rule)> {
    const CORE_STATE: Rule = Not(&["swim", "serf", "node", "scope", "api", "shard", "io", "sim", "ipc"]);
    vec![
        ("engine", "wire", Only(&[])),
        // Members are encoded straight from the view.
        ("engine", "ipc", Only(&["wire", "event", "tls"])),
        ("engine", "tls", Only(&[])),
        ("engine", "io", Not(&["api", "shard", "sim", "node", "ipc"])),
        ("engine", "shard", Not(&["api", "sim", "ipc"])),
        ("engine", "sim", Not(&["api", "shard", "io"])),
        ("engine", "node", Not(&SHELL)),
        ("engine", "swim", Not(&["serf", "node", "api", "shard", "io", "sim", "ipc"])),
        ("engine", "serf", Not(&["node", "api", "shard", "io", "sim", "ipc"])),
        ("engine", "scope", Not(&["swim", "serf", "node", "api", "shard", "io", "sim", "ipc"])),
        ("engine", "dissemination", CORE_STATE),
        ("engine", "delegate", CORE_STATE),
        ("engine", "roster", CORE_STATE),
        ("engine", "view", CORE_STATE),
        ("engine", "timers", CORE_STATE),
        ("engine", "random", Only(&[])),
        ("engine", "time", Only(&[])),
        ("engine", "context", CORE_STATE),
        ("engine", "config", CORE_STATE),
        ("engine", "event", CORE_STATE),
        ("engine", "stats", CORE_STATE),
        ("cli", "agent", Not(&["commands", "decode", "demo"])),
        ("cli", "decode", Not(&["agent", "commands", "demo"])),
        ("cli", "demo", Not(&["agent", "commands", "decode"])),
        ("cli", "rpc", Not(&["agent", "commands", "decode", "demo"])),
        ("cli", "output", Not(&["agent", "commands", "decode", "demo", "rpc"])),
        ("cli", "flags", Not(&["agent", "commands", "decode", "demo", "rpc"])),
        ("cli", "command", Not(&["agent", "commands", "decode", "demo"])),
        ("loadgen", "agent", Not(&["target", "fleet", "sim", "calibrate"])),
        ("loadgen", "sim", Not(&["target", "fleet", "calibrate"])),
    ]
}

#[test]
fn data_flows_one_way() {
    let mut found = String::new();
    for package in PACKAGES {
        let rules: Vec<(&str, Rule)> = rules()
            .into_iter()
            .filter(|(of, ..)| *of == package)
            .map(|(_, room, rule)| (room, rule))
            .collect();
        found.push_str(&list(&rooms::forbidden(&arrows(package), &rules)));
    }
    assert!(found.is_empty(), "arrows that must not be:{found}");
}

#[test]
fn rules_are_about_rooms_that_exist() {
    for (package, room, rule) in rules() {
        let named = match rule {
            Only(rooms) | Not(rooms) => rooms,
        };
        for room in named.iter().chain([&room]) {
            let src = root().join(package).join("src");
            let exists = src.join(room).is_dir() || src.join(format!("{room}.rs")).is_file();
            assert!(exists, "{package} has no room {room}: a rule about it holds nothing");
        }
    }
}

#[test]
fn cited_sections_exist() {
    let page = std::fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let sections: BTreeSet<&str> = citations::sections(&page);
    let endings = ["rs", "md", "toml", "txt"];
    let mut cited = 0;
    for (path, text) in texts("", &endings) {
        for section in citations::citations(&text) {
            cited += 1;
            assert!(
                sections.contains(section),
                "{path} cites PROTOCOL {section}: docs/protocol.md has no such section"
            );
        }
    }
    assert!(cited >= 50, "only {cited} citations were found: does the search still work?");
}

#[test]
fn unsafe_stands_where_the_kernel_is_called_and_says_why() {
    for (path, text) in sources() {
        let block = ["unsafe", " {"].concat();
        for (place, _) in text.match_indices(&block) {
            assert!(UNSAFE.iter().any(|place| path.starts_with(place)), "{path} has unsafe code");
            let before = &text[..place];
            let comment =
                before.rfind("// SAFETY:").unwrap_or_else(|| panic!("{path}: unsafe without SAFETY"));
            assert!(before[comment..].lines().count() <= 8, "{path}: unsafe far from its SAFETY");
        }
    }
}

#[test]
fn files_are_short_enough_to_read() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{path} has {lines} lines: is there a missing noun?");
    }
}

#[test]
fn nothing_is_left_for_later() {
    for (path, text) in sources() {
        for mark in ["TO", "FIX"].map(|mark| [mark, if mark == "TO" { "DO" } else { "ME" }].concat()) {
            assert!(!text.contains(&mark), "{path} holds a {mark}");
        }
        let ignored = ["#[ig", "nore"].concat();
        assert!(!text.contains(&ignored), "{path} has a test that does not run");
    }
}
