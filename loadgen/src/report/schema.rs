//! The data of a report, as the JSON file holds it. `docs/report.md` says how each field is measured.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thane_engine::config::DisseminationPolicy;

use super::made::Made;
use crate::spread::Spread;

/// The value of the field `format`.
pub const FORMAT: &str = "thane-report";
/// The version of this schema. A change that a reader of the last version can't follow makes a new one.
pub const VERSION: u32 = 1;

/// One report: what ran where, and its measures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Always [`FORMAT`].
    pub format: String,
    /// Always [`VERSION`].
    pub version: u32,
    /// One line: scenario and size.
    pub title: String,
    /// The command and the machine.
    pub made: Made,
    /// The scenario, if the runs followed one.
    pub scenario: Option<ScenarioText>,
    /// The measured clusters, one or more. Their names differ.
    pub subjects: Vec<Subject>,
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioText {
    /// Its name.
    pub name: String,
    /// One line: what it shows.
    pub about: String,
    /// The whole scenario as TOML.
    pub toml: String,
}

/// One measured cluster, over all runs with the same settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Its name in tables and legends.
    pub name: String,
    /// The agents in it.
    pub agents: Agents,
    /// How they run.
    pub medium: Medium,
    /// How news is disseminated; none where it is not known.
    pub policy: Option<Policy>,
    /// Nodes at the start.
    pub nodes: u64,
    /// Settings that differ from the defaults, by name.
    pub settings: BTreeMap<String, String>,
    /// The runs, one or more, in order.
    pub runs: Vec<Run>,
    /// Scalar measures.
    pub measures: Vec<Measure>,
    /// Measures over time.
    pub curves: Vec<Curve>,
    /// Things that happened.
    pub marks: Vec<Mark>,
    /// Pass criteria with their verdicts.
    pub criteria: Vec<Criterion>,
}

/// The agents of a cluster.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Agents {
    /// All are Serf's.
    Serf,
    /// All are Thane's.
    Thane,
    /// Some of each.
    Mixed,
}

/// How the nodes run.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// Virtual time, no sockets.
    Sim,
    /// Complete nodes in one process, on real sockets.
    Fleet,
    /// Agent processes of one machine, on loopback.
    Processes,
    /// Agents in containers.
    Containers,
}

/// How news is disseminated.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// As Serf does.
    Classic,
    /// Thane's segment graph.
    Eager,
}

impl Policy {
    /// The word for it in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Classic => "classic",
            Policy::Eager => "eager",
        }
    }
}

impl From<DisseminationPolicy> for Policy {
    fn from(policy: DisseminationPolicy) -> Policy {
        match policy {
            DisseminationPolicy::Classic => Policy::Classic,
            DisseminationPolicy::Eager => Policy::Eager,
        }
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The seed of its choices.
    pub seed: u64,
    /// How long it lasted, in the time of the nodes: virtual seconds of a simulation, else real ones.
    pub seconds: f64,
    /// How it ended.
    pub ended: Ended,
    /// Why it ended early, or what else there is to know; may be empty.
    pub note: String,
}

/// How a run ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// All phases are measured.
    Complete,
    /// The user stopped it; the measures up to then are there.
    Stopped,
    /// Something failed; the measures up to then are there.
    Failed,
}

/// A scalar measure over the runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// The same for the same measure in every report.
    pub id: String,
    /// Its row in tables.
    pub title: String,
    /// The unit; empty for counts.
    pub unit: String,
    /// Which values are better.
    pub better: Better,
    /// One value for each run that has it, or for each repetition in the runs. At least one.
    pub values: Vec<f64>,
}

/// Which values of a measure are better.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Smaller ones.
    Lower,
    /// Larger ones.
    Higher,
    /// Neither: it describes the run.
    Neither,
}

/// A measure over time, or over another axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// The same for the same measure in every report: curves with one id share a chart.
    pub id: String,
    /// The title of the chart.
    pub title: String,
    /// Label and unit of the horizontal axis.
    pub x: String,
    /// The scale of the horizontal axis.
    pub x_scale: Scale,
    /// Label and unit of the vertical axis, which is linear and begins at 0.
    pub y: String,
    /// Which run, counted from 0.
    pub run: usize,
    /// The lines. Their names differ.
    pub lines: Vec<Line>,
}

/// The scale of an axis.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Equal distances are equal differences.
    #[default]
    Linear,
    /// Equal distances are equal ratios.
    Log,
}

/// One line of a curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// What it shows: `all`, `p99`, `ping`.
    pub name: String,
    /// Points (x, y); x never falls.
    pub points: Vec<(f64, f64)>,
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Which run, counted from 0.
    pub run: usize,
    /// When, seconds since the start of the run.
    pub at: f64,
    /// What.
    pub what: String,
}

/// A pass criterion and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    /// What is asked for, with the limit.
    pub name: String,
    /// The measured value; none if there is none.
    pub value: Option<f64>,
    /// Its unit; empty for counts.
    pub unit: String,
    /// The verdict.
    pub verdict: Verdict,
}

/// Whether a criterion is met.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is met.
    Pass,
    /// It is not met.
    Fail,
    /// There is no value to judge.
    NotMeasured,
}

impl Report {
    /// A report without subjects.
    pub fn new(title: impl Into<String>, made: Made) -> Report {
        let (format, title) = (FORMAT.to_owned(), title.into());
        Report { format, version: VERSION, title, made, scenario: None, subjects: Vec::new() }
    }

    /// Checks everything that the types do not say.
    ///
    /// # Errors
    /// The first fault, in one line with its place.
    pub fn check(&self) -> Result<(), String> {
        if self.subjects.is_empty() {
            return Err("`subjects` is empty; a report has one subject at least".to_owned());
        }
        let mut names = BTreeSet::new();
        for subject in &self.subjects {
            let name = &subject.name;
            if !names.insert(name) {
                return Err(format!("two subjects have the name `{name}`"));
            }
            subject.check().map_err(|error| format!("subject `{name}`: {error}"))?;
        }
        Ok(())
    }
}

impl Subject {
    /// A subject without runs and measures.
    pub fn new(name: impl Into<String>, agents: Agents, medium: Medium, nodes: u64) -> Subject {
        Subject {
            name: name.into(),
            agents,
            medium,
            policy: None,
            nodes,
            settings: BTreeMap::new(),
            runs: Vec::new(),
            measures: Vec::new(),
            curves: Vec::new(),
            marks: Vec::new(),
            criteria: Vec::new(),
        }
    }

    /// Adds values to a measure.
    pub fn add(&mut self, measure: Measure) {
        match self.measures.iter_mut().find(|known| known.id == measure.id) {
            Some(known) => known.values.extend(measure.values),
            None => self.measures.push(measure),
        }
    }

    /// The measure with that id.
    pub fn measure(&self, id: &str) -> Option<&Measure> {
        self.measures.iter().find(|measure| measure.id == id)
    }

    fn check(&self) -> Result<(), String> {
        if self.runs.is_empty() {
            return Err("`runs` is empty; a subject has one run at least".to_owned());
        }
        let mut ids = BTreeSet::new();
        for Measure { id, values, .. } in &self.measures {
            if !ids.insert(id) {
                return Err(format!("two measures have the id `{id}`"));
            }
            if values.is_empty() || !values.iter().all(|value| value.is_finite()) {
                return Err(format!("measure `{id}` needs values, all of them finite"));
            }
        }
        for Curve { id, run, lines, .. } in &self.curves {
            if *run >= self.runs.len() {
                return Err(format!("curve `{id}` is of run {run}, but there are {} runs", self.runs.len()));
            }
            for Line { name, points } in lines {
                let finite = points.iter().all(|(x, y)| x.is_finite() && y.is_finite());
                if !finite || !points.is_sorted_by(|one, next| one.0 <= next.0) {
                    return Err(format!(
                        "curve `{id}`, line `{name}`: points must be finite and in the order of x"
                    ));
                }
            }
        }
        match self.marks.iter().find(|mark| mark.run >= self.runs.len()) {
            Some(mark) => Err(format!("mark `{}` is of run {}, which is not there", mark.what, mark.run)),
            None => Ok(()),
        }
    }
}

impl Measure {
    /// The values with their median and ends.
    pub fn spread(&self) -> Spread {
        Spread::of(self.values.clone())
    }
}

impl Line {
    /// Most points of a line in a file.
    const POINTS_MAX: usize = 400;

    /// A line with at most 400 of these points: the first, the last and evenly chosen ones between. Coordinates are
    /// rounded to six digits.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Line {
        let last = points.len().saturating_sub(1);
        let chosen = match last {
            _ if points.len() <= Line::POINTS_MAX => points,
            _ => (0..Line::POINTS_MAX).map(|n| points[n * last / (Line::POINTS_MAX - 1)]).collect(),
        };
        let points = chosen.into_iter().map(|(x, y)| (rounded(x), rounded(y))).collect();
        Line { name: name.into(), points }
    }
}

impl Line {
    /// The rate of a counter that was sampled at (time, value): its growth by time, over windows of at least a second
    /// and a 150th of the whole. Shorter windows would show the rhythm of timers.
    pub fn rate(name: impl Into<String>, samples: &[(f64, f64)]) -> Line {
        let whole = samples.last().map_or(0.0, |last| last.0 - samples[0].0);
        let (window, mut points) = ((whole / 150.0).max(1.0), Vec::new());
        let mut begin = samples.first().copied();
        for &(at, value) in samples {
            if let Some((since, then)) = begin.filter(|begin| at - begin.0 >= window) {
                points.push((at, (value - then) / (at - since)));
                begin = Some((at, value));
            }
        }
        Line::new(name, points)
    }
}

/// Six significant digits: more is noise, and a file of them is read as the same numbers.
pub(super) fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

impl Criterion {
    /// Asks for a value of at most `limit`.
    pub fn at_most(what: &str, limit: f64, unit: &str, value: Option<f64>) -> Criterion {
        Criterion::judge(format!("{what} at most {limit} {unit}"), unit, value, |value| value <= limit)
    }

    /// Asks for a value of at least `limit`.
    pub fn at_least(what: &str, limit: f64, unit: &str, value: Option<f64>) -> Criterion {
        Criterion::judge(format!("{what} at least {limit} {unit}"), unit, value, |value| value >= limit)
    }

    fn judge(name: String, unit: &str, value: Option<f64>, meets: impl Fn(f64) -> bool) -> Criterion {
        let verdict = match value {
            None => Verdict::NotMeasured,
            Some(value) if meets(value) => Verdict::Pass,
            Some(_) => Verdict::Fail,
        };
        Criterion { name: name.trim_end().to_owned(), value, unit: unit.to_owned(), verdict }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::NotMeasured => "not measured",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn faults_are_named_with_their_place() {
        assert_eq!(example().check(), Ok(()));
        type Spoil = fn(&mut Report);
        let cases: [(Spoil, &str); 7] = [
            (|report| report.subjects.clear(), "`subjects` is empty"),
            (
                |report| report.subjects[1].name = report.subjects[0].name.clone(),
                "two subjects have the name",
            ),
            (|report| report.subjects[0].runs.clear(), "`runs` is empty"),
            (|report| report.subjects[0].measures[0].values.clear(), "needs values, all of them finite"),
            (
                |report| report.subjects[0].measures[0].values[0] = f64::NAN,
                "needs values, all of them finite",
            ),
            (|report| report.subjects[0].curves[0].run = 7, "is of run 7, but there are 2 runs"),
            (|report| report.subjects[0].curves[0].lines[0].points.reverse(), "in the order of x"),
        ];
        for (spoil, expected) in cases {
            let mut report = example();
            spoil(&mut report);
            let error = report.check().expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn long_lines_keep_their_ends() {
        let line = Line::new("all", (0..10_000).map(|n| (f64::from(n), 1.0)).collect());
        assert_eq!(line.points.len(), 400);
        assert_eq!((line.points[0].0, line.points[399].0), (0.0, 9_999.0));
        assert!(line.points.is_sorted_by(|one, next| one.0 < next.0));
    }

    #[test]
    fn a_rate_is_growth_over_whole_seconds() {
        let samples: Vec<_> = (0..=12).map(|n| (f64::from(n) * 0.25, f64::from(n * n))).collect();
        let line = Line::rate("all", &samples);
        assert_eq!(line.points, [(1.0, 16.0), (2.0, 48.0), (3.0, 80.0)]);
        assert_eq!(Line::rate("all", &[]).points, []);
        let long: Vec<_> = (0..=3000).map(|n| (f64::from(n), 2.0 * f64::from(n))).collect();
        let line = Line::rate("all", &long);
        assert_eq!((line.points.len(), line.points[0]), (150, (20.0, 2.0)));
    }

    #[test]
    fn criteria_are_judged() {
        let verdict = |value| Criterion::at_most("full views", 2.5, "s", value).verdict;
        assert_eq!(
            [None, Some(2.5), Some(2.6)].map(verdict),
            [Verdict::NotMeasured, Verdict::Pass, Verdict::Fail]
        );
        let least = Criterion::at_least("events delivered", 100.0, "", Some(99.0));
        assert_eq!((least.name.as_str(), least.verdict), ("events delivered at least 100", Verdict::Fail));
    }
}
