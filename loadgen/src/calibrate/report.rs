//! The sides by each other: a table for people, JSON for programs.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Value, json};

use super::options::Options;
use super::real::Counted;
use super::samples::{Row, Samples};

/// What a side is called.
pub(crate) const SIMULATED: &str = "simulated";

/// One side of the comparison.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) title: String,
    pub(crate) samples: Samples,
    /// Of real agents.
    pub(crate) counted: Counted,
}

/// Everything that was measured; the simulator is the last side.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) options: &'a Options,
    pub(crate) sides: Vec<Side>,
    /// Why traffic of real agents was not counted.
    pub(crate) not_counted: Option<String>,
}

impl Report<'_> {
    /// The table.
    pub(crate) fn table(&self) -> String {
        let Options { nodes, runs, events, kills, compression, .. } = self.options;
        let compression = if *compression { "" } else { ", no compression" };
        let mut lines = vec![
            ["".to_owned()]
                .into_iter()
                .chain(self.sides.iter().map(|side| side.title.clone()))
                .collect::<Vec<_>>(),
        ];
        lines[0].extend(self.reals().map(|real| format!("{} and {SIMULATED}", real.title)));
        for row in self.rows() {
            let mut line = vec![row.name().to_owned()];
            for side in &self.sides {
                line.push(side.samples.spread(row).map_or("-".to_owned(), |spread| spread.to_string()));
            }
            line.extend(self.reals().map(|real| self.verdict(real, row)));
            lines.push(line);
        }
        let mut text = format!(
            "{nodes} nodes{compression}, {runs} runs with {events} events and {kills} kills each, idle for {} s; median (smallest–largest)\n",
            self.options.idle().as_secs_f64()
        );
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

    /// The same as JSON, with all values.
    pub(crate) fn json(&self) -> Value {
        let Options { nodes, runs, events, kills, compression, seed, .. } = self.options;
        let rows = self.rows().into_iter().map(|row| {
            let sides: serde_json::Map<String, Value> = self.sides.iter().filter_map(|side| {
                let spread = side.samples.spread(row)?;
                let values = json!({ "median": spread.median, "min": spread.min, "max": spread.max, "values": side.samples.0[&row] });
                Some((side.title.clone(), values))
            }).collect();
            let verdicts: serde_json::Map<String, Value> = self.reals().map(|real| (real.title.clone(), self.verdict(real, row).into())).collect();
            json!({ "row": row.name(), "sides": sides, "verdicts": verdicts })
        });
        json!({
            "nodes": nodes,
            "runs": runs,
            "events": events,
            "kills": kills,
            "compression": compression,
            "seed": seed,
            "idle_seconds": self.options.idle().as_secs_f64(),
            "settle_seconds": self.options.settle().as_secs_f64(),
            "traffic_not_counted": self.not_counted,
            "rows": rows.collect::<Vec<Value>>(),
        })
    }

    fn reals(&self) -> impl Iterator<Item = &Side> {
        self.sides.iter().filter(|side| side.title != SIMULATED)
    }

    fn rows(&self) -> BTreeSet<Row> {
        self.sides.iter().flat_map(|side| side.samples.0.keys().copied()).collect()
    }

    fn verdict(&self, real: &Side, row: Row) -> String {
        let simulated = self.sides.iter().find(|side| side.title == SIMULATED);
        let simulated = simulated.and_then(|side| side.samples.spread(row));
        match (real.samples.spread(row), simulated) {
            (Some(real), Some(simulated)) => real.verdict(&simulated),
            _ => "-".to_owned(),
        }
    }
}
