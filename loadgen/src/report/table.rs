//! Reports as text: one column for each subject.

use std::fmt::Write;

use super::kinds::MEASURES;
use super::schema::{Ended, Measure, Report, Subject};
use crate::spread::short;

/// The measures, criteria and marks of all subjects side by side. From the second subject on each cell has the ratio
/// of its median to the first subject's.
pub fn table(reports: &[Report]) -> String {
    let subjects: Vec<&Subject> = reports.iter().flat_map(|report| &report.subjects).collect();
    let mut lines =
        vec![[String::new()].into_iter().chain(subjects.iter().map(|s| s.name.clone())).collect()];
    let runs =
        |subject: &&Subject| format!("{} of {} nodes", counted(subject.runs.len(), "run"), subject.nodes);
    lines.push(["runs".to_owned()].into_iter().chain(subjects.iter().map(runs)).collect());
    for row in rows(&subjects) {
        let cells = row.cells.iter().map(|cell| match cell {
            None => "-".to_owned(),
            Some(Cell { spread, ratio: None }) => spread.clone(),
            Some(Cell { spread, ratio: Some(ratio) }) => format!("{spread} {}", times(*ratio)),
        });
        lines.push([row.heading()].into_iter().chain(cells).collect());
    }
    let mut text = aligned(&lines);
    for subject in subjects {
        for run in subject.runs.iter().filter(|run| run.ended != Ended::Complete || !run.note.is_empty()) {
            let ended = match run.ended {
                Ended::Complete => "",
                Ended::Stopped => "stopped early ",
                Ended::Failed => "failed ",
            };
            let _ = writeln!(text, "{}, run of seed {}: {ended}{}", subject.name, run.seed, run.note);
        }
        for criterion in &subject.criteria {
            let value = criterion.value.map_or(String::new(), |value| {
                format!(" ({} {})", short(value), criterion.unit).replace(" )", ")")
            });
            let _ = writeln!(text, "{}: {}: {}{value}", criterion.verdict, subject.name, criterion.name);
        }
    }
    text
}

/// One measure of all subjects.
pub(super) struct Row {
    pub(super) title: String,
    pub(super) unit: String,
    /// In the order of the subjects.
    pub(super) cells: Vec<Option<Cell>>,
}

/// One measure of one subject.
pub(super) struct Cell {
    pub(super) spread: String,
    /// Its median by that of the first subject; none for the first itself, and where that is 0 or missing.
    pub(super) ratio: Option<f64>,
}

impl Row {
    /// Title and unit.
    pub(super) fn heading(&self) -> String {
        if self.unit.is_empty() { self.title.clone() } else { format!("{}, {}", self.title, self.unit) }
    }
}

/// All measures of the subjects: first the known kinds in their order, then others as they come.
pub(super) fn rows(subjects: &[&Subject]) -> Vec<Row> {
    let known = |id: &str| MEASURES.iter().position(|kind| kind.id == id).unwrap_or(MEASURES.len());
    let mut kinds: Vec<&Measure> = Vec::new();
    for measure in subjects.iter().flat_map(|subject| &subject.measures) {
        if !kinds.iter().any(|kind| kind.id == measure.id) {
            kinds.push(measure);
        }
    }
    kinds.sort_by_key(|measure| known(&measure.id));
    let row = |kind: &Measure| {
        let median = |subject: &Subject| Some(subject.measure(&kind.id)?.spread().range()?.median);
        let first = subjects.first().and_then(|subject| median(subject)).filter(|first| *first != 0.0);
        let cell = |(place, subject): (usize, &&Subject)| {
            let spread = subject.measure(&kind.id)?.spread().to_string();
            let ratio = first.filter(|_| place > 0).zip(median(subject)).map(|(first, own)| own / first);
            Some(Cell { spread, ratio })
        };
        let (title, unit) = (kind.title.clone(), kind.unit.clone());
        Row { title, unit, cells: subjects.iter().enumerate().map(cell).collect() }
    };
    kinds.into_iter().map(row).collect()
}

/// A ratio: `×0.012`.
pub(super) fn times(ratio: f64) -> String {
    format!("×{}", short(ratio))
}

/// `1 run`, `5 runs`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Lines of cells in columns, the first to the left, the others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let mut text = String::new();
    for line in lines {
        let mut shown = String::new();
        for (place, cell) in line.iter().enumerate() {
            let width = lines.iter().map(|line| line[place].chars().count()).max().unwrap_or(0);
            let _ = match place {
                0 => write!(shown, "{cell:<width$}"),
                _ => write!(shown, "  {cell:>width$}"),
            };
        }
        let _ = writeln!(text, "{}", shown.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_table_has_a_column_for_each_subject_with_ratios() {
        let mut report = example();
        report.subjects[1].runs[0].ended = Ended::Stopped;
        report.subjects[1].runs[0].note = "by Ctrl-C".to_owned();
        let expected = "\
            \x20                               classic in \"sim\"         eager in \"sim\"
runs                             2 runs of 100 nodes    2 runs of 100 nodes
event: all, s                         1.50 (1–2)  0.0150 (0.0100–0.0200) ×0.0100
false failures of healthy members                  0                                0
";
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = table(&[report]);
        let (head, tail) = shown.split_once("FAIL").unwrap_or((&shown, ""));
        assert_eq!(squeezed(head), squeezed(expected), "{shown}");
        let expected = ": classic in \"sim\": event at all nodes within at most 0.1 s (1.50 s)
not measured: classic in \"sim\": queries answered at least 1
eager in \"sim\", run of seed 1: stopped early by Ctrl-C
pass: eager in \"sim\": event at all nodes within at most 0.1 s (0.0150 s)
not measured: eager in \"sim\": queries answered at least 1
";
        assert_eq!(tail, expected);
    }
}
