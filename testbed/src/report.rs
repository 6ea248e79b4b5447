//! The report of all runs as a file.

use std::path::Path;

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::judge::has_passed;
use crate::run::Played;
use crate::table;

/// Writes `report.json` into that folder, which is made if it is not there.
///
/// # Errors
/// The folder or the file can't be written.
pub(crate) fn write(folder: &Path, played: &[Played]) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
    let path = folder.join("report.json");
    let runs: Vec<Value> = played.iter().map(run).collect();
    let text = format!("{:#}\n", json!({ "runs": runs }));
    std::fs::write(&path, text).map_err(|error| Failure::file(&path, &error))
}

fn run(played: &Played) -> Value {
    let figures: serde_json::Map<String, Value> = table::figures(&played.outcome)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    let verdicts: Vec<Value> = played
        .verdicts
        .iter()
        .map(|verdict| json!({ "criterion": verdict.criterion, "passed": verdict.passed, "detail": verdict.detail }))
        .collect();
    let curve: Vec<Value> =
        played.outcome.curve.iter().map(|(at, usage)| json!([at, usage.sent_bytes, usage.cpu_ms])).collect();
    json!({
        "scenario": played.scenario.name,
        "against": played.against.name(),
        "nodes": played.nodes,
        "passed": has_passed(&played.verdicts),
        "figures": figures,
        "verdicts": verdicts,
        "curve_s_bytes_cpu_ms": curve,
    })
}
