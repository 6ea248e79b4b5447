//! The rules of the tree that the compiler does not check: which module may name which, where `unsafe` may
//! stand, how long a file may be.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// Where `unsafe` may stand: what calls the kernel, and the bare system calls that it is measured beside.
const UNSAFE: [&str; 2] = ["engine/src/io/", "bench/benches/udp_path/bare"];

/// Longest source file, lines.
const LINES_MAX: usize = 520;

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

/// All source files of the workspace: path from its root, text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for package in ["engine", "cli", "bench", "loadgen", "testbed"] {
        rust_files(&root.join(package), &mut files);
    }
    let relative = |path: &Path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (relative(path), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn data_flows_one_way() {
    // (folder or file, what it must not name)
    let arrows: [(&str, &[&str]); 8] = [
        ("engine/src/wire/", &["swim", "serf::", "node", "io", "sim", "roster", "view", "context", "egress"]),
        ("engine/src/swim/", &["serf", "node", "io", "sim", "api", "streams"]),
        ("engine/src/serf/", &["node", "io", "sim", "api", "streams"]),
        ("engine/src/upper.rs", &["node", "io", "sim", "api", "streams"]),
        ("engine/src/delegate.rs", &["swim", "serf", "io", "sim", "streams", "context", "egress"]),
        ("engine/src/node/", &["io", "sim", "api"]),
        ("engine/src/sim/", &["io", "api"]),
        ("engine/src/ipc/", &["swim", "serf", "node", "sim"]),
    ];
    for (path, text) in sources() {
        for (from, forbidden) in arrows.iter().filter(|(from, _)| path.starts_with(from)) {
            for module in *forbidden {
                let name = format!("crate::{module}");
                let named = text.match_indices(&name).find(|(place, _)| {
                    let after = text[place + name.len()..].chars().next();
                    module.ends_with(':') || after.is_none_or(|c| !c.is_alphanumeric() && c != '_')
                });
                assert!(named.is_none(), "{path} names {name}, but {from} must not");
            }
        }
    }
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
