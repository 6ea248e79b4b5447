//! The sides by each other: a table for people, JSON for programs.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::options::Options;
use super::real::Counted;
use super::samples::{self, Row, Samples};
use crate::spread::{Range, Spread};

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

    /// A heading, then what was measured: the row's name, the sides, what they say about the simulator.
    fn lines(&self) -> Vec<Vec<String>> {
        let mut heading = vec![String::new()];
        heading.extend(self.sides.iter().map(|side| side.title.clone()));
        heading.extend(self.reals().map(|real| format!("{} and {SIMULATED}", real.title)));
        let mut lines = vec![heading];
        for row in self.rows() {
            let mut line = vec![row.name().to_owned()];
            let shown = |side: &Side| side.samples.0.get(&row).map_or("-".to_owned(), Spread::to_string);
            line.extend(self.sides.iter().map(shown));
            line.extend(self.reals().map(|real| self.verdict(real, row)));
            lines.push(line);
        }
        lines
    }

    /// The same as JSON, with all values.
    fn json(&self) -> Value {
        let Options { runs, events, kills, seed, .. } = self.options;
        let values = |side: &Side, row: Row| {
            let spread = side.samples.0.get(&row)?;
            let Range { median, min, max } = spread.range()?;
            let values = json!({ "median": median, "min": min, "max": max, "values": spread.values() });
            Some((side.title.clone(), values))
        };
        let rows = self.rows().into_iter().map(|row| {
            let sides = self.sides.iter().filter_map(|side| values(side, row));
            let verdicts = self.reals().map(|real| (real.title.clone(), self.verdict(real, row).into()));
            json!({
                "row": row.name(),
                "sides": sides.collect::<Map<String, Value>>(),
                "verdicts": verdicts.collect::<Map<String, Value>>(),
            })
        });
        json!({
            "nodes": self.options.nodes(),
            "runs": runs,
            "events": events,
            "kills": kills,
            "compression": self.options.compression(),
            "seed": seed,
            "idle_seconds": self.options.idle().as_secs_f64(),
            "settle_seconds": self.options.settle().as_secs_f64(),
            "traffic_not_counted": self.not_counted,
            "rows": rows.collect::<Vec<Value>>(),
        })
    }

    /// Writes the JSON file.
    ///
    /// # Errors
    /// The folder or the file can't be written; one line.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), String> {
        let path = dir.join(format!("calibrate-{}.json", self.options.nodes()));
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        std::fs::create_dir_all(dir).map_err(failed)?;
        std::fs::write(&path, format!("{:#}\n", self.json())).map_err(failed)
    }

    fn reals(&self) -> impl Iterator<Item = &Side> {
        self.sides.iter().filter(|side| side.title != SIMULATED)
    }

    fn rows(&self) -> BTreeSet<Row> {
        self.sides.iter().flat_map(|side| side.samples.0.keys().copied()).collect()
    }

    fn verdict(&self, real: &Side, row: Row) -> String {
        let simulated = self.sides.iter().find(|side| side.title == SIMULATED);
        let range = |side: &Side| side.samples.0.get(&row).and_then(Spread::range);
        match (range(real), simulated.and_then(range)) {
            (Some(real), Some(simulated)) => samples::verdict(real, simulated),
            _ => "-".to_owned(),
        }
    }
}
