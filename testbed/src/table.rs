//! What is printed about runs.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::judge::has_passed;
use crate::outcome::{Outcome, Spread};
use crate::played::{Against, Played};

/// A run in one line, and a line for each criterion that failed.
pub(crate) fn line(played: &Played) -> String {
    let passed = if has_passed(&played.verdicts) { "passed" } else { "FAILED" };
    let mut text =
        format!("{passed} {:16} {:6} {:3} agents", played.scenario.name, played.against.name(), played.nodes);
    for figure in figures(&played.outcome) {
        let _ = write!(text, "  {} {}", figure.0, figure.1);
    }
    for verdict in played.verdicts.iter().filter(|verdict| verdict.passed != Some(true)) {
        let word = if verdict.passed.is_none() { "not judged" } else { "failed" };
        let _ = write!(text, "\n    {word}: {}: {}", verdict.criterion, verdict.detail);
    }
    for lost in &played.outcome.lost {
        let _ = write!(text, "\n    lost: {lost}");
    }
    text
}

/// Scenarios and kinds of clusters: which have passed, in Markdown.
pub(crate) fn verdicts(played: &[Played]) -> String {
    let kinds: BTreeSet<Against> = played.iter().map(|one| one.against).collect();
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    let mut text = format!("| scenario | agents | {} |\n", names.join(" | "));
    let _ = writeln!(text, "| --- | --- |{}", " --- |".repeat(names.len()));
    let mut rows = Vec::new();
    for one in played {
        let row = (one.scenario.name.as_str(), one.nodes);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    for (name, nodes) in rows {
        let cell = |against: &Against| {
            let of: Vec<&Played> = played
                .iter()
                .filter(|one| one.scenario.name == name && one.nodes == nodes && one.against == *against)
                .collect();
            let failed: BTreeSet<&str> = of
                .iter()
                .flat_map(|one| &one.verdicts)
                .filter(|verdict| verdict.passed == Some(false))
                .map(|verdict| verdict.criterion)
                .collect();
            match (of.is_empty(), failed.is_empty()) {
                (true, _) => String::new(),
                (false, true) => "passed".to_owned(),
                (false, false) => format!("failed: {}", failed.into_iter().collect::<Vec<_>>().join(", ")),
            }
        };
        let cells: Vec<String> = kinds.iter().map(cell).collect();
        let _ = writeln!(text, "| {name} | {nodes} | {} |", cells.join(" | "));
    }
    text
}

/// All measures, a row for each scenario, kind and size: medians of the runs, in Markdown.
pub(crate) fn measures(played: &[Played]) -> String {
    let mut keys: Vec<(&str, Against, u32)> = Vec::new();
    for one in played {
        let key = (one.scenario.name.as_str(), one.against, one.nodes);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut text = "| scenario | cluster | agents | measures |\n| --- | --- | --- | --- |\n".to_owned();
    for (name, against, nodes) in keys {
        let of: Vec<Vec<(&'static str, f64)>> = played
            .iter()
            .filter(|one| (one.scenario.name.as_str(), one.against, one.nodes) == (name, against, nodes))
            .map(|one| figures(&one.outcome))
            .collect();
        let mut names: Vec<&'static str> = Vec::new();
        of.iter().flatten().for_each(|(name, _)| {
            if !names.contains(name) {
                names.push(name)
            }
        });
        let medians: Vec<String> = names
            .iter()
            .map(|name| {
                let values = of.iter().filter_map(|figures| figures.iter().find(|(other, _)| other == name));
                format!("{name} {}", short(median(values.map(|(_, value)| *value).collect())))
            })
            .collect();
        let _ = writeln!(text, "| {name} | {} | {nodes} | {} |", against.name(), medians.join("; "));
    }
    text
}

/// The figures of a run that has them: name with unit, value.
pub(crate) fn figures(outcome: &Outcome) -> Vec<(&'static str, f64)> {
    let mut figures = Vec::new();
    let mut add = |name, value: Option<f64>| {
        figures.extend(value.map(|value| (name, (value * 1000.0).round() / 1000.0)))
    };
    add("starting_s", Some(outcome.starting));
    add("full_views_half_s", outcome.full_views_half);
    add("full_views_s", outcome.full_views);
    add("event_half_s", middle(&outcome.events, 0.5));
    add("event_all_s", middle(&outcome.events, 1.0));
    add("events_lost", (!outcome.events.is_empty()).then(|| outcome.events_lost() as f64));
    add("query_all_s", middle(&outcome.queries, 1.0));
    add("crash_first_s", middle(&outcome.crashes, 0.0));
    add("crash_all_s", middle(&outcome.crashes, 1.0));
    add("leave_all_s", middle(&outcome.leaves, 1.0));
    add("whole_s", outcome.whole);
    add("false_failures", Some(outcome.false_failures.len() as f64));
    let reported = outcome.failures_reported;
    add("failures_reported", (reported > 0).then_some(reported as f64));
    let impaired = outcome.failures_of_impaired;
    add("failures_of_impaired", (impaired > 0).then_some(impaired as f64));
    add("conflicts", (outcome.conflicts > 0).then_some(outcome.conflicts as f64));
    if let Some(handled) = outcome.handled {
        let share = |count: u64| Some(count as f64 * 100.0 / handled.due.max(1) as f64);
        add("handled_due", Some(handled.due as f64));
        add("twice", Some(handled.twice as f64));
        add("lost_percent", share(handled.lost));
        add("lost_at_end_percent", share(handled.lost_at_end));
    }
    for (usage, names) in [
        (outcome.idle, ["idle_B/s", "idle_packets/s", "idle_cpu_ms/s", "idle_rss_MB"]),
        (outcome.busy, ["busy_B/s", "busy_packets/s", "busy_cpu_ms/s", "busy_rss_MB"]),
    ] {
        if usage.readings > 0 {
            let values = [usage.sent_bytes, usage.sent_packets, usage.cpu_ms, usage.rss_mb];
            names.into_iter().zip(values).for_each(|(name, value)| add(name, Some(value)));
        }
    }
    add("rss_serf_MB", outcome.rss_serf);
    add("rss_thane_MB", outcome.rss_thane);
    figures
}

/// The median of several spreads' times until that share had it.
fn middle(spreads: &[Spread], share: f64) -> Option<f64> {
    let times: Vec<f64> = spreads.iter().filter_map(|spread| spread.quantile(share)).collect();
    (!times.is_empty()).then(|| median(times))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Three digits or so.
fn short(value: f64) -> String {
    match value.abs() {
        whole if whole.fract() == 0.0 || whole >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Beside, judge};
    use crate::scenario::Scenario;

    fn played(against: Against, whole: Option<f64>) -> Played {
        let scenario = Scenario::find("partition").expect("it comes with the testbed");
        let outcome = Outcome { whole, ..Outcome::default() };
        let verdicts = judge(&scenario.pass, &outcome, Beside::default());
        Played { scenario, against, nodes: 20, outcome, verdicts }
    }

    #[test]
    fn verdicts_stand_in_a_table_by_kind() {
        let all = [played(Against::Serf, Some(1.0)), played(Against::Thane, None)];
        let text = verdicts(&all);
        assert!(text.ends_with("| partition | 20 | passed | failed: whole |\n"), "{text}");
        assert!(line(&all[0]).starts_with("passed partition"));
        assert!(line(&all[1]).contains("failed: whole: not within 60 s"));
    }

    #[test]
    fn rows_are_medians_of_runs() {
        let all = [1.0, 9.0, 2.0].map(|whole| played(Against::Serf, Some(whole)));
        let text = measures(&all);
        assert!(
            text.contains("| partition | serf | 20 | starting_s 0; whole_s 2; false_failures 0 |"),
            "{text}"
        );
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert_eq!((short(0.126).as_str(), short(445.4).as_str()), ("0.13", "445"));
    }
}
