//! Reports: one data model for simulations, fleets, agents and containers; a table, a JSON file, one HTML page.
//!
//! An instrument fills a [`Report`]: one [`Subject`] for each measured cluster, with the kinds of measures and curves
//! of [`kinds`], so that reports of different instruments can be laid over each other. [`Report::write`] makes the
//! JSON file and the page, [`table()`] the text for a terminal, [`compare()`] one table and page of several reports.
//! `docs/report.md` describes the JSON and how each field is measured.

mod chart;
mod compare;
mod files;
pub mod kinds;
mod made;
mod page;
mod schema;
mod table;

pub use compare::compare;
pub use kinds::{CurveKind, MeasureKind};
pub use made::{Machine, Made};
pub use page::page;
pub use schema::{
    Agents, Better, Criterion, Curve, Ended, FORMAT, Line, Mark, Measure, Medium, Policy, Report, Run, Scale,
    ScenarioText, Subject, VERSION, Verdict,
};
pub use table::table;

#[cfg(test)]
pub(crate) use self::tests::example;

#[cfg(test)]
mod tests {
    use super::*;

    /// A report with everything in it: two subjects, several runs, curves, marks, criteria of all verdicts.
    pub(crate) fn example() -> Report {
        let mut report = Report::new("event, 100 nodes", Made::here("thane-loadgen 0"));
        let (name, about) = ("event".to_owned(), "one event <to> all".to_owned());
        report.scenario = Some(ScenarioText { name, about, toml: "nodes = 100\n".to_owned() });
        report.made.machine.load_average = Some(0.5);
        for (policy, faster) in [(Policy::Classic, 1.0), (Policy::Eager, 0.01)] {
            let name = format!("{policy:?} in \"sim\"").to_lowercase();
            let mut subject = Subject::new(name, Agents::Thane, Medium::Sim, 100);
            subject.policy = Some(policy);
            subject.settings.insert("loss".to_owned(), "0.05".to_owned());
            for run in 0..2 {
                subject.runs.push(Run {
                    seed: 1 + run,
                    seconds: 20.0,
                    ended: Ended::Complete,
                    note: String::new(),
                });
                let delay = faster * (1.0 + run as f64);
                subject.add(kinds::EVENT_ALL.value(delay));
                subject.add(kinds::FALSE_FAILURES.value(0.0));
                let points = (0..=100).map(|part| (delay * f64::from(part) / 100.0, f64::from(part)));
                let lines = vec![Line::new("all events", points.collect())];
                subject.curves.push(kinds::EVENT_REACH.curve(run as usize, lines));
                let bytes =
                    (0..20).map(|second| (f64::from(second), 200.0 + f64::from(second % 3))).collect();
                let lines = vec![Line::new("all", bytes), Line::new("ping", vec![(0.0, 60.0), (19.0, 60.0)])];
                subject.curves.push(kinds::BYTES.curve(run as usize, lines));
            }
            subject.marks.push(Mark { run: 0, at: 5.0, what: "event".to_owned() });
            let all = subject.measure(kinds::EVENT_ALL.id).and_then(|measure| measure.spread().range());
            subject.criteria = vec![
                Criterion::at_most("event at all nodes within", 0.1, "s", all.map(|range| range.median)),
                Criterion::at_least("queries answered", 1.0, "", None),
            ];
            report.subjects.push(subject);
        }
        report
    }

    #[test]
    fn the_document_names_every_field_and_every_kind() {
        let document = include_str!("../../../docs/report.md");
        let value = serde_json::to_value(example()).expect("a report has a JSON form");
        let mut names = Vec::new();
        fields(&value, &mut names);
        names.extend(kinds::MEASURES.iter().map(|kind| kind.id.to_owned()));
        names.extend(kinds::CURVES.iter().map(|kind| kind.id.to_owned()));
        // Keys of the map of settings are free.
        for name in names.iter().filter(|name| *name != "loss") {
            assert!(document.contains(&format!("`{name}`")), "docs/report.md does not name `{name}`");
        }
        assert!(document.contains(&format!("version {VERSION}")), "docs/report.md is of another version");
    }

    fn fields(value: &serde_json::Value, names: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (name, value) in map {
                    names.push(name.clone());
                    fields(value, names);
                }
            }
            serde_json::Value::Array(values) => values.iter().for_each(|value| fields(value, names)),
            _ => {}
        }
    }
}
