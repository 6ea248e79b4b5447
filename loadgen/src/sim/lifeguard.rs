//! Lifeguard's experiment: slow members, each part of Lifeguard switched off in turn, false positives counted.

use std::collections::BTreeMap;
use std::time::Duration;

use thane_engine::sim::{Play, Scenario, Settings, Span};

use super::options::Options;
use crate::progress::{Progress, Step};
use crate::report::kinds;
use crate::spread::Spread;
use crate::stop::Stop;

/// Slow members among the 128, as in the paper's tables.
const COUNTS: [u32; 2] = [4, 16];
/// How long their messages wait, milliseconds.
const STILLS: [u64; 5] = [128, 512, 2_000, 8_000, 32_000];
/// A column: its title, the word for it in ids, and what is switched off in it.
type Column = (&'static str, &'static str, fn(&mut Settings));
const COLUMNS: [Column; 5] = [
    ("all parts", "all", |_| {}),
    ("without dynamic suspicion", "no-suspicion", |settings| settings.suspicion_max_timeout_mult = Some(1)),
    ("without local health", "no-health", |settings| settings.awareness_max_multiplier = Some(1)),
    ("without buddy", "no-buddy", |settings| settings.buddy_system = Some(false)),
    ("none (plain SWIM)", "none", |settings| {
        settings.suspicion_max_timeout_mult = Some(1);
        settings.awareness_max_multiplier = Some(1);
        settings.buddy_system = Some(false);
    }),
];

/// Runs of one row and seed.
pub(crate) const RUNS: u64 = COLUMNS.len() as u64;

/// All rows of the matrix, or those with that number of slow members and that length of their silence.
pub(crate) fn rows(count: Option<u32>, still: Option<Span>) -> Vec<(u32, Span)> {
    let counts = count.map_or(COUNTS.to_vec(), |only| vec![only]);
    let all = STILLS.map(|millis| Span(Duration::from_millis(millis)));
    let stills = still.map_or(all.to_vec(), |only| vec![only]);
    counts.iter().flat_map(|&count| stills.iter().map(move |&still| (count, still))).collect()
}

/// False failures of healthy members in one row, column by column: reported at any member, and at healthy ones.
pub(crate) struct Cells {
    anywhere: [Spread; COLUMNS.len()],
    at_healthy: [Spread; COLUMNS.len()],
}

/// Plays a row of the matrix. `ran` is called after each run.
///
/// # Errors
/// An end is wanted.
pub(crate) fn measure(
    base: &Scenario,
    (count, still): (u32, Span),
    options: &Options,
    stop: &Stop,
    ran: &mut impl FnMut(),
) -> Result<Cells, String> {
    let mut cells = Cells { anywhere: Default::default(), at_healthy: Default::default() };
    for (place, (_, _, switch)) in COLUMNS.into_iter().enumerate() {
        let scenario = cell(base, count, still, switch);
        for seed in options.seeds() {
            let outcome = Play::new(&scenario, seed).run(|_, _| !stop.is_wanted());
            stop.check()?;
            cells.anywhere[place].add(outcome.measures.false_about_healthy as f64);
            cells.at_healthy[place].add(outcome.measures.false_at_healthy as f64);
            ran();
        }
    }
    Ok(cells)
}

/// The cells of a row by the ids of the measures and the words of the columns: `false.healthy:no-buddy`.
pub(crate) fn by_id(cells: Cells) -> BTreeMap<String, Spread> {
    let kinds = [(kinds::FALSE_FAILURES.id, cells.anywhere), (kinds::FALSE_AT_HEALTHY.id, cells.at_healthy)];
    let named = kinds.into_iter().flat_map(|(id, cells)| {
        cells.into_iter().zip(COLUMNS).map(move |(spread, (_, word, _))| (format!("{id}:{word}"), spread))
    });
    named.collect()
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
        let mut ran = || {
            done += 1.0;
            progress.step(Step { done, total, unit: "runs", detail: "" });
        };
        let Ok(cells) = measure(base, (count, still), options, stop, &mut ran) else { break };
        for (table, cells) in [(&mut anywhere, cells.anywhere), (&mut at_healthy, cells.at_healthy)] {
            let cells = cells.map(|cell| cell.to_string()).join(" | ");
            table.push_str(&format!("| {count} | {still} | {cells} |\n"));
        }
    }
    progress.clear();
    let names = COLUMNS.map(|(name, _, _)| name).join(" | ");
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
        let cells = COLUMNS.map(|(_, _, switch)| cell(&base, 16, Span(Duration::from_secs(8)), switch));
        for (place, one) in cells.iter().enumerate() {
            assert_eq!(one.steps[0].count, Some(16));
            assert_eq!(one.steps[0].still.to_string(), "8s");
            assert!(cells[..place].iter().all(|other| other.settings != one.settings), "column {place}");
        }
    }
}
