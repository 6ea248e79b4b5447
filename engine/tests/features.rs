//! docs/features.md says of every feature of Serf how it stands here: none is forgotten, and what is named as
//! proof is there.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every id of the inventory.
const IDS: &str = include_str!("feature_ids.txt");
const STATUSES: [&str; 3] = ["works", "difference", "later"];

struct Row {
    id: String,
    status: String,
    /// Names of tests.
    proof: Vec<String>,
    remark: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(root().join("docs/features.md")).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [id, _what, status, proof, remark] = cells[..] else { panic!("not five cells: {line}") };
        let proof =
            proof.split(", ").map(|name| name.trim_matches('`').trim()).filter(|name| !name.is_empty());
        Row {
            id: id.trim_start_matches("| ").to_owned(),
            status: status.to_owned(),
            proof: proof.map(str::to_owned).collect(),
            remark: remark.trim_end_matches('|').trim().to_owned(),
        }
    };
    let is_row =
        |line: &&str| line.starts_with("| ") && !line.starts_with("| Id ") && !line.starts_with("| ---");
    text.lines().filter(is_row).map(row).collect()
}

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

/// The functions that `#[test]` stands before, and the scenarios that are run in each variant.
fn tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    for folder in ["engine/src", "engine/tests", "cli/src", "cli/tests"] {
        rust_files(&root().join(folder), &mut files);
    }
    let mut names = BTreeSet::new();
    for text in files.iter().map(|path| std::fs::read_to_string(path).unwrap()) {
        let mut parts = text.split("#[test]");
        parts.next();
        names.extend(parts.filter_map(|part| Some(part.split_once("fn ")?.1.split_once('(')?.0.to_owned())));
        let scenarios = text.split("in_each_variant!(").skip(1);
        names.extend(scenarios.filter_map(|part| Some(part.split_once(',')?.0.to_owned())));
        // Properties are written inside a macro of their own.
        let properties = text.split("proptest! {").skip(1).flat_map(|part| part.split("fn ").skip(1));
        names.extend(properties.filter_map(|part| Some(part.split_once('(')?.0.to_owned())));
    }
    names
}

#[test]
fn no_feature_is_forgotten() {
    let listed: Vec<String> = rows().into_iter().map(|row| row.id).collect();
    let expected: BTreeSet<&str> = IDS.lines().collect();
    assert_eq!(listed.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected);
    assert_eq!(listed.len(), expected.len(), "an id has two rows");
}

#[test]
fn every_row_has_a_status_and_every_proof_exists() {
    let tests = tests();
    for Row { id, status, proof, remark } in rows() {
        assert!(STATUSES.contains(&status.as_str()), "{id}: {status:?} is no status");
        for name in &proof {
            assert!(tests.contains(name), "{id}: there is no test {name}");
        }
        assert!(status == "later" || !proof.is_empty(), "{id} {status} without proof");
        assert!(status == "works" || !remark.is_empty(), "{id}: {status} without a remark");
    }
}
