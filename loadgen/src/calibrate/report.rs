//! The sides beside each other: a table, and a report.

use std::collections::BTreeSet;
use std::fmt::Write;

use thane_engine::duration::Span;

use super::agreement::Agreement;
use super::options::Options;
use super::real::Counted;
use super::samples::{Row, Samples};
use crate::report::{Agents, Criterion, Ended, Made, Medium, Policy, Report, Run, Subject, Verdict};
use crate::spread::Spread;

/// Whose ways a side has.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Serf's: no extensions, policy classic.
    Serf,
    /// Thane's.
    Thane,
}

impl Kind {
    /// The kind of the agent of that title.
    pub(crate) fn of(title: &str) -> Kind {
        if title == "serf" { Kind::Serf } else { Kind::Thane }
    }

    /// The title of the simulated side.
    pub(crate) fn simulated(self) -> &'static str {
        match self {
            Kind::Serf => "simulated as serf",
            Kind::Thane => "simulated",
        }
    }
}

/// One side of the comparison.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) title: String,
    pub(crate) kind: Kind,
    pub(crate) simulated: bool,
    pub(crate) samples: Samples,
    /// Of real agents.
    pub(crate) counted: Counted,
    /// Mean time of a run.
    pub(crate) seconds: f64,
    pub(crate) ended: Ended,
}

/// Everything that was measured; the simulated sides come last.
#[derive(Debug)]
pub(crate) struct Sides<'a> {
    pub(crate) options: &'a Options,
    pub(crate) made: Made,
    pub(crate) sides: Vec<Side>,
    /// Why traffic of real agents was not counted.
    pub(crate) not_counted: Option<String>,
}

impl Sides<'_> {
    /// The table.
    pub(crate) fn table(&self) -> String {
        let Options { runs, events, kills, .. } = self.options;
        let nodes = self.options.nodes();
        let compression = if self.options.compression() { "" } else { ", no compression" };
        let idle = self.options.idle().as_secs_f64();
        let mut text = format!(
            "{nodes} nodes{compression}, {runs} runs with {events} events and {kills} kills each, idle for {idle} s\n"
        );
        let lines = self.lines();
        for line in &lines {
            let mut shown = String::new();
            for (place, cell) in line.iter().enumerate() {
                let width = lines.iter().map(|line| line[place].chars().count()).max().unwrap_or(0);
                let _ = write!(shown, "{cell:<width$}  ");
            }
            let _ = writeln!(text, "{}", shown.trim_end());
        }
        for real in self.reals() {
            let Counted { by_kernel, by_capture } = real.counted;
            if by_kernel > 0 {
                let _ = writeln!(
                    text,
                    "{}: {by_capture} datagrams captured while idle; the kernel counted {by_kernel}",
                    real.title
                );
            }
        }
        if let Some(why) = &self.not_counted {
            let _ = writeln!(
                text,
                "idle rows of real agents are missing: no network namespace to count in: {why}"
            );
        }
        text
    }

    /// A heading, then the measured rows: name, sides, verdicts on the simulator.
    fn lines(&self) -> Vec<Vec<String>> {
        let mut heading = vec![String::new()];
        heading.extend(self.sides.iter().map(|side| side.title.clone()));
        heading.extend(self.reals().map(|real| format!("{} and {}", real.title, real.kind.simulated())));
        let mut lines = vec![heading];
        for row in self.rows() {
            let mut line = vec![row.name().to_owned()];
            let shown = |side: &Side| side.samples.rows.get(&row).map_or("-".to_owned(), Spread::to_string);
            line.extend(self.sides.iter().map(shown));
            line.extend(self.reals().map(|real| self.verdict(real, row)));
            lines.push(line);
        }
        lines
    }

    /// The report: a subject for each side, and whether the simulated side agrees with each real one.
    pub(crate) fn report(&self) -> Report {
        let (options, nodes) = (self.options, self.options.nodes());
        let mut report = Report::new(format!("calibration, {nodes} nodes"), self.made.clone());
        for side in &self.sides {
            let agents =
                if side.kind == Kind::Serf && !side.simulated { Agents::Serf } else { Agents::Thane };
            let medium = if side.simulated { Medium::Sim } else { Medium::Processes };
            let mut subject = Subject::new(&side.title, agents, medium, nodes as u64);
            subject.policy = Some(match side.kind {
                Kind::Serf => Policy::Classic,
                Kind::Thane => Policy::from(options.policy),
            });
            for (name, value) in [
                ("compression", options.compression().to_string()),
                ("events", options.events.to_string()),
                ("kills", options.kills.to_string()),
                ("idle", Span(options.idle()).to_string()),
                ("settle", Span(options.settle()).to_string()),
            ] {
                subject.settings.insert(name.to_owned(), value);
            }
            let run = |seed| Run { seed, seconds: side.seconds, ended: side.ended, note: String::new() };
            subject.runs.extend((options.seed..options.seed.saturating_add(options.runs)).map(run));
            for (row, spread) in &side.samples.rows {
                subject.add(row.measure(spread.values().to_vec()));
            }
            subject.curves = side.samples.curves();
            if side.simulated {
                subject.criteria = self.criteria(side);
            }
            report.subjects.push(subject);
        }
        report.made.notes.extend(
            self.not_counted.iter().map(|why| format!("traffic of real agents is not counted: {why}")),
        );
        report
    }

    fn criteria(&self, simulated: &Side) -> Vec<Criterion> {
        let mut criteria = Vec::new();
        for real in self.reals().filter(|real| real.kind == simulated.kind) {
            for (row, spread) in &real.samples.rows {
                let simulated = simulated.samples.rows.get(row);
                let agreement = simulated.and_then(|simulated| Agreement::of(spread, simulated));
                criteria.push(Criterion {
                    name: format!("agrees with {}: {}", real.title, row.name()),
                    value: simulated.and_then(Spread::range).map(|range| range.median),
                    unit: String::new(),
                    verdict: match agreement.and_then(Agreement::agrees) {
                        Some(true) => Verdict::Pass,
                        Some(false) => Verdict::Fail,
                        None => Verdict::NotMeasured,
                    },
                });
            }
        }
        criteria
    }

    fn reals(&self) -> impl Iterator<Item = &Side> {
        self.sides.iter().filter(|side| !side.simulated)
    }

    fn rows(&self) -> BTreeSet<Row> {
        self.sides.iter().flat_map(|side| side.samples.rows.keys().copied()).collect()
    }

    fn verdict(&self, real: &Side, row: Row) -> String {
        let simulated = self.sides.iter().find(|side| side.simulated && side.kind == real.kind);
        let spread = |side: &'_ Side| side.samples.rows.get(&row).cloned().unwrap_or_default();
        let agreement = simulated.and_then(|simulated| Agreement::of(&spread(real), &spread(simulated)));
        agreement.map_or("-".to_owned(), |agreement| agreement.to_string())
    }
}
