//! Runs as reports of the load generator's format: one for each scenario, a subject for each kind and size of
//! cluster, so that simulated runs can be laid over them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thane_loadgen::report::{
    Agents, Better, Criterion, Curve, Ended, Line, Made, Mark, Measure, Medium, Policy, Report, Run,
    ScenarioText, Subject, Verdict, kinds,
};

use crate::failure::Failure;
use crate::judge;
use crate::outcome::{Outcome, Spread};
use crate::played::{Against, Played};
use crate::table;

/// Program and version, for reports.
const PROGRAM: &str = concat!("thane-testbed ", env!("CARGO_PKG_VERSION"));

/// Makes the folder for reports, before hours are spent on what they would say.
///
/// # Errors
/// It can't be made or written to.
pub(crate) fn require_folder(folder: &Path) -> Result<(), Failure> {
    let probe = folder.join(".thane-testbed");
    let probed = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&probe, "may be removed\n"))
        .and_then(|()| std::fs::remove_file(&probe));
    probed.map_err(|error| Failure::file(folder, &error))
}

/// Writes a JSON file and a page for each scenario, the tables of all as `verdicts.md` and the logs of runs that have
/// not passed, into that folder. Returns the pages.
///
/// # Errors
/// A file can't be written; files before it are there.
pub(crate) fn write(folder: &Path, played: &[Played], notes: &[String]) -> Result<Vec<PathBuf>, Failure> {
    let mut pages = Vec::new();
    for report in reports(played, notes) {
        let stem = report.scenario.as_ref().map_or("report", |scenario| scenario.name.as_str()).to_owned();
        let [_, page] = report.write(folder, &stem).map_err(Failure::new)?;
        pages.push(page);
    }
    let path = folder.join("verdicts.md");
    let text = format!("{}\n{}", table::verdicts(played), table::measures(played));
    std::fs::write(&path, text).map_err(|error| Failure::file(&path, &error))?;
    for (number, one) in played.iter().enumerate().filter(|(_, one)| !judge::has_passed(&one.verdicts)) {
        let name = format!("logs/{}-{}-{}-{}", one.scenario.name, one.against.name(), one.nodes, number + 1);
        write_logs(&folder.join(name), &one.outcome.logs)?;
    }
    Ok(pages)
}

/// A file for each agent; an agent that ran in several containers has their logs one after the other.
fn write_logs(folder: &Path, logs: &[(String, String)]) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
    let mut texts: BTreeMap<&str, String> = BTreeMap::new();
    for (name, log) in logs {
        let text = texts.entry(name).or_default();
        text.push_str(log.trim());
        text.push('\n');
    }
    for (name, text) in texts {
        let path = folder.join(format!("{name}.log"));
        std::fs::write(&path, text).map_err(|error| Failure::file(&path, &error))?;
    }
    Ok(())
}

fn reports(played: &[Played], notes: &[String]) -> Vec<Report> {
    let mut reports: Vec<Report> = Vec::new();
    for one in played {
        let name = &one.scenario.name;
        let has_name =
            |report: &Report| report.scenario.as_ref().is_some_and(|scenario| scenario.name == *name);
        let place = reports.iter().position(has_name).unwrap_or_else(|| {
            let mut report = Report::new(format!("{name}, in containers"), Made::here(PROGRAM));
            report.made.notes = notes.to_vec();
            let about = one.scenario.about.clone();
            report.scenario =
                Some(ScenarioText { name: name.clone(), about, toml: one.scenario.text.clone() });
            reports.push(report);
            reports.len() - 1
        });
        let subjects = &mut reports[place].subjects;
        let subject_name = format!("{}, {} containers", one.against.name(), one.nodes);
        let place = subjects.iter().position(|subject| subject.name == subject_name).unwrap_or_else(|| {
            let agents = match one.against {
                Against::Serf => Agents::Serf,
                Against::Thane | Against::Classic | Against::Eager => Agents::Thane,
                Against::Mixed => Agents::Mixed,
            };
            let mut subject = Subject::new(subject_name, agents, Medium::Containers, one.nodes.into());
            subject.policy = match one.against {
                Against::Serf | Against::Classic => Some(Policy::Classic),
                Against::Eager => Some(Policy::Eager),
                Against::Thane | Against::Mixed => None,
            };
            subjects.push(subject);
            subjects.len() - 1
        });
        add(&mut subjects[place], one);
    }
    reports
}

fn add(subject: &mut Subject, played: &Played) {
    let (run, outcome) = (subject.runs.len(), &played.outcome);
    let note = outcome
        .ended
        .iter()
        .chain(&outcome.refused)
        .chain(&outcome.lost)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    subject.runs.push(Run { seed: run as u64, seconds: outcome.lasted, ended: Ended::Complete, note });
    measures(outcome).into_iter().for_each(|measure| subject.add(measure));
    subject.curves.extend(curves(run, outcome));
    subject.marks.extend(outcome.marks.iter().map(|(at, what)| Mark { run, at: *at, what: what.clone() }));
    for verdict in &played.verdicts {
        criterion(&mut subject.criteria, verdict);
    }
}

/// One row for each criterion over all runs: it fails where one run fails, with that run's value.
fn criterion(criteria: &mut Vec<Criterion>, verdict: &judge::Verdict) {
    let new = Criterion {
        name: format!("{}: {}", verdict.criterion, verdict.detail),
        value: verdict.value,
        unit: String::new(),
        verdict: match verdict.passed {
            Some(true) => Verdict::Pass,
            Some(false) => Verdict::Fail,
            None => Verdict::NotMeasured,
        },
    };
    let same = |known: &&mut Criterion| known.name.split(':').next() == Some(verdict.criterion);
    match criteria.iter_mut().find(same) {
        Some(known) if known.verdict != Verdict::Fail && new.verdict == Verdict::Fail => *known = new,
        Some(_) => {}
        None => criteria.push(new),
    }
}

fn measures(outcome: &Outcome) -> Vec<Measure> {
    let mut all = Vec::new();
    // From the first start it is a figure of the agents only where all were started at one moment.
    let together = outcome.full_views.filter(|_| outcome.starting < 1.0);
    let from_first = together.map(|full| outcome.starting + full);
    all.extend(from_first.map(|seconds| kinds::FULL_VIEWS.value(seconds)));
    let own = |id: &str, title: &str, unit: &str, value: Option<f64>| {
        value.filter(|value| value.is_finite()).map(|value| Measure {
            id: format!("testbed.{id}"),
            title: title.to_owned(),
            unit: unit.to_owned(),
            better: Better::Lower,
            values: vec![value],
        })
    };
    all.extend(own("starting", "starts of all containers", "s", Some(outcome.starting)));
    all.extend(own("views-after-start", "full views after the last start", "s", outcome.full_views));
    let spreads = [
        (&outcome.events, [kinds::EVENT_P50, kinds::EVENT_P99, kinds::EVENT_ALL]),
        (&outcome.queries, [kinds::QUERY_P50, kinds::QUERY_P99, kinds::QUERY_ALL]),
        (&outcome.crashes, [kinds::CRASH_P50, kinds::CRASH_P99, kinds::CRASH_ALL]),
        (&outcome.leaves, [kinds::LEAVE_P50, kinds::LEAVE_P99, kinds::LEAVE_ALL]),
    ];
    for (spreads, quantiles) in spreads {
        for (kind, share) in quantiles.into_iter().zip([0.5, 0.99, 1.0]) {
            let values: Vec<f64> = spreads.iter().filter_map(|spread| spread.quantile(share)).collect();
            if !values.is_empty() {
                all.push(kind.values(values));
            }
        }
    }
    let first: Vec<f64> = outcome.crashes.iter().filter_map(|spread| spread.quantile(0.0)).collect();
    if !first.is_empty() {
        all.push(kinds::CRASH_FIRST.values(first));
    }
    if !outcome.events.is_empty() {
        all.push(kinds::EVENT_MISSED.value(outcome.events_lost() as f64));
    }
    all.extend(outcome.whole.map(|seconds| kinds::SETTLED.value(seconds)));
    all.push(kinds::FALSE_FAILURES.value(outcome.failures_reported as f64));
    all.push(kinds::FALSE_SICK.value(outcome.failures_of_impaired as f64));
    all.push(kinds::FALSE_AT_HEALTHY.value(outcome.false_failures.len() as f64));
    all.extend(own("conflicts", "log lines about conflicts", "", Some(outcome.conflicts as f64)));
    if let Some(handled) = outcome.handled {
        let percent = |count: u64| Some(count as f64 * 100.0 / handled.due.max(1) as f64);
        all.push(kinds::EVENT_REPEATED.value(handled.twice as f64));
        all.extend(own("handled-lost", "events no handler saw", "%", percent(handled.lost)));
        all.extend(own(
            "handled-lost-at-end",
            "the same, agent ended within 5 s",
            "%",
            percent(handled.lost_at_end),
        ));
    }
    if outcome.idle.readings > 0 {
        all.push(kinds::IDLE_BYTES.value(outcome.idle.sent_bytes));
        all.push(kinds::IDLE_PACKETS.value(outcome.idle.sent_packets));
        all.push(kinds::IDLE_CPU.value(outcome.idle.cpu_ms * 60.0));
    }
    if outcome.busy.readings > 0 {
        all.push(kinds::BYTES_SENT.value(outcome.busy.sent_bytes));
        all.push(kinds::PACKETS_SENT.value(outcome.busy.sent_packets));
        all.extend(own("cpu", "CPU per node and second, in the scenario", "ms/s", Some(outcome.busy.cpu_ms)));
    }
    all.extend(own("rss-serf", "resident memory of a Serf agent", "MB", outcome.rss_serf));
    all.extend(own("rss-thane", "resident memory of a Thane agent", "MB", outcome.rss_thane));
    all
}

fn curves(run: usize, outcome: &Outcome) -> Vec<Curve> {
    let mut all = Vec::new();
    let mut add = |kind: &kinds::CurveKind, points: Vec<(f64, f64)>| {
        if !points.is_empty() {
            all.push(kind.curve(run, vec![Line::new("all", points)]));
        }
    };
    let series = |value: fn(&crate::outcome::Usage) -> f64| -> Vec<(f64, f64)> {
        outcome.curve.iter().map(|(at, usage)| (*at, value(usage))).collect()
    };
    add(&kinds::MEMBERS_KNOWN, outcome.known.iter().map(|(at, share)| (*at, share * 100.0)).collect());
    add(&kinds::EVENT_REACH, reach(&outcome.events));
    add(&kinds::QUERY_REACH, reach(&outcome.queries));
    add(&kinds::CRASH_REACH, reach(&outcome.crashes));
    add(&kinds::LEAVE_REACH, reach(&outcome.leaves));
    add(&kinds::BYTES, series(|usage| usage.sent_bytes));
    add(&kinds::PACKETS, series(|usage| usage.sent_packets));
    add(&kinds::CPU, series(|usage| usage.cpu_ms / 10.0));
    add(&kinds::RSS, series(|usage| usage.rss_mb));
    all
}

/// The share of all that something was due at, in percent, by time.
fn reach(spreads: &[Spread]) -> Vec<(f64, f64)> {
    let due: usize = spreads.iter().map(|spread| spread.due).sum();
    let mut after: Vec<f64> = spreads.iter().flat_map(|spread| spread.after.iter().copied()).collect();
    after.sort_by(f64::total_cmp);
    let share = |place: usize| (place + 1) as f64 * 100.0 / due.max(1) as f64;
    after.into_iter().enumerate().map(|(place, at)| (at, share(place))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::outcome::Usage;
    use crate::scenario::Scenario;

    fn played(against: Against, whole: Option<f64>) -> Played {
        let scenario = Scenario::find("crash").unwrap();
        let outcome = Outcome {
            full_views: Some(0.5),
            starting: 0.25,
            crashes: vec![Spread { due: 3, after: vec![6.0, 6.1, 6.3] }],
            whole,
            curve: vec![(1.0, Usage { sent_bytes: 400.0, readings: 3, ..Usage::default() })],
            marks: vec![(12.0, "crash".into())],
            logs: [("n01", "first\n\n"), ("n02", "other"), ("n01", "again")]
                .map(|(name, log)| (name.into(), log.into()))
                .into(),
            lasted: 40.0,
            ..Outcome::default()
        };
        let verdicts = judge::judge(&scenario.pass, &outcome, judge::Beside::default());
        Played { scenario, against, nodes: 4, outcome, verdicts }
    }

    #[test]
    fn runs_of_one_scenario_are_one_report_with_a_subject_for_each_kind() {
        let all = [
            played(Against::Serf, Some(1.0)),
            played(Against::Serf, None),
            played(Against::Thane, Some(2.0)),
        ];
        let reports = reports(&all, &["a note".into()]);
        assert_eq!(reports.len(), 1);
        let report = &reports[0];
        assert_eq!(report.check(), Ok(()));
        let names: Vec<&str> = report.subjects.iter().map(|subject| subject.name.as_str()).collect();
        assert_eq!(names, ["serf, 4 containers", "thane, 4 containers"]);
        let serf = &report.subjects[0];
        assert_eq!(serf.measure("crash.all").unwrap().values, [6.3, 6.3]);
        assert_eq!(serf.measure("views.full").unwrap().values[0], 0.75);
        let whole = serf.criteria.iter().find(|criterion| criterion.name.starts_with("whole")).unwrap();
        assert_eq!(whole.verdict, Verdict::Fail, "one run of two failed");
        assert_eq!(report.subjects[1].criteria.iter().filter(|one| one.verdict == Verdict::Fail).count(), 0);
        assert!(report.scenario.as_ref().unwrap().toml.contains("crash_known"));
        let folder = tempfile::tempdir().unwrap();
        let pages = write(folder.path(), &all, &[]).unwrap();
        assert!(pages[0].ends_with("crash.html") && folder.path().join("verdicts.md").is_file());
        let log = |run: &str| std::fs::read_to_string(folder.path().join(format!("logs/{run}/n01.log")));
        assert_eq!(log("crash-serf-4-2").unwrap(), "first\nagain\n", "the run that failed");
        assert!(log("crash-serf-4-1").is_err());
    }

    #[test]
    fn a_reach_ends_below_all_where_some_were_missed() {
        let spreads = [Spread { due: 2, after: vec![0.2] }, Spread { due: 2, after: vec![0.1, 0.4] }];
        assert_eq!(reach(&spreads), [(0.1, 25.0), (0.2, 50.0), (0.4, 75.0)]);
    }
}
