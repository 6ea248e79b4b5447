//! Lifeguard's experiment: slow members, each part of Lifeguard switched off in turn, false positives counted.

use std::time::Duration;

use thane_engine::sim::{Play, Scenario, Settings, Span};

use super::options::Options;
use crate::progress::{Progress, Step};
use crate::spread::Spread;
use crate::stop::Stop;

/// Slow members among the 128, as in the paper's tables.
const COUNTS: [u32; 2] = [4, 16];
/// How long their messages wait, milliseconds.
const STILLS: [u64; 5] = [128, 512, 2_000, 8_000, 32_000];
/// A column: its title, and what is switched off in it.
type Column = (&'static str, fn(&mut Settings));
const COLUMNS: [Column; 5] = [
    ("all parts", |_| {}),
    ("without dynamic suspicion", |settings| settings.suspicion_max_timeout_mult = Some(1)),
    ("without local health", |settings| settings.awareness_max_multiplier = Some(1)),
    ("without buddy", |settings| settings.buddy_system = Some(false)),
    ("none (plain SWIM)", |settings| {
        settings.suspicion_max_timeout_mult = Some(1);
        settings.awareness_max_multiplier = Some(1);
        settings.buddy_system = Some(false);
    }),
];

/// All rows of the matrix, or those with that number of slow members and that length of their silence.
pub(crate) fn rows(count: Option<u32>, still: Option<Span>) -> Vec<(u32, Span)> {
    let counts = count.map_or(COUNTS.to_vec(), |only| vec![only]);
    let all = STILLS.map(|millis| Span(Duration::from_millis(millis)));
    let stills = still.map_or(all.to_vec(), |only| vec![only]);
    counts.iter().flat_map(|&count| stills.iter().map(move |&still| (count, still))).collect()
}

/// Plays rows of the matrix and prints two tables: false failures of healthy members, reported at any member and at
/// healthy ones. Stopped early, it prints the rows that are complete.
pub(crate) fn run(base: &Scenario, rows: &[(u32, Span)], options: &Options, stop: &Stop) {
    let total = (rows.len() * COLUMNS.len() * options.seeds().count()) as f64;
    let progress = Progress::default();
    progress.phase("lifeguard");
    let mut done = 0.0;
    let (mut anywhere, mut at_healthy) = (String::new(), String::new());
    for &(count, still) in rows {
        let mut cells = [Vec::new(), Vec::new()];
        for (_, switch) in COLUMNS {
            let scenario = cell(base, count, still, switch);
            let [mut told, mut told_healthy] = [Spread::default(), Spread::default()];
            for seed in options.seeds() {
                let outcome = Play::new(&scenario, seed).run(|_, _| !stop.is_wanted());
                told.add(outcome.measures.false_about_healthy as f64);
                told_healthy.add(outcome.measures.false_at_healthy as f64);
                done += 1.0;
                progress.step(Step { done, total, unit: "runs", detail: "" });
            }
            cells[0].push(told.to_string());
            cells[1].push(told_healthy.to_string());
        }
        if stop.is_wanted() {
            break;
        }
        for (table, cells) in [&mut anywhere, &mut at_healthy].into_iter().zip(cells) {
            table.push_str(&format!("| {count} | {still} | {} |\n", cells.join(" | ")));
        }
    }
    progress.clear();
    let names = COLUMNS.map(|(name, _)| name).join(" | ");
    let ruler = "| --- ".repeat(2 + COLUMNS.len());
    for (title, table) in [("anywhere", anywhere), ("at healthy members", at_healthy)] {
        println!("False failures of healthy members, reported {title}, in {}:\n", base.lasts);
        println!("| slow members | D | {names} |\n{ruler}|\n{table}");
    }
}

fn cell(base: &Scenario, count: u32, still: Span, switch: fn(&mut Settings)) -> Scenario {
    let mut scenario = base.clone();
    for step in &mut scenario.steps {
        step.count = Some(count);
        step.still = still;
    }
    switch(&mut scenario.settings);
    scenario
}

#[cfg(test)]
mod tests {
    use super::*;
    use thane_engine::sim::catalog;

    #[test]
    fn the_matrix_has_all_rows_or_those_asked_for() {
        let eight = Span(Duration::from_secs(8));
        assert_eq!(rows(None, None).len(), 10);
        assert_eq!(rows(Some(16), Some(eight)), [(16, eight)]);
        assert_eq!(rows(None, Some(eight)).len(), 2);
    }

    #[test]
    fn each_column_switches_something_else_off() {
        let base = catalog::named("starved").expect("it comes with the engine");
        let cells = COLUMNS.map(|(_, switch)| cell(&base, 16, Span(Duration::from_secs(8)), switch));
        for (place, one) in cells.iter().enumerate() {
            assert_eq!(one.steps[0].count, Some(16));
            assert_eq!(one.steps[0].still.to_string(), "8s");
            assert!(cells[..place].iter().all(|other| other.settings != one.settings), "column {place}");
        }
    }
}
