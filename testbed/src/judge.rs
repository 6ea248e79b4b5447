//! Whether a run has passed: each criterion of the scenario beside what was measured.

use crate::outcome::{Handled, Outcome, Spread};
use crate::scenario::Pass;

/// One criterion of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// The key in the scenario's file.
    pub(crate) criterion: &'static str,
    /// None where it could not be judged.
    pub(crate) passed: Option<bool>,
    /// What was measured; none where nothing was. Seconds, shares, bytes per second or a count.
    pub(crate) value: Option<f64>,
    /// What was measured, and the bound.
    pub(crate) detail: String,
}

/// What a run is compared with.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Beside {
    /// What handlers of Serf alone saw, in all runs of the same command.
    pub(crate) serf: Handled,
    /// All agents are Thane's and disseminate eagerly.
    pub(crate) is_eager: bool,
}

/// Judges a run.
pub(crate) fn judge(pass: &Pass, outcome: &Outcome, beside: Beside) -> Vec<Verdict> {
    let mut verdicts = vec![at_most("ended", outcome.ended.len() as u64, 0, outcome.ended.first())];
    verdicts.push(at_most("refused", outcome.refused.len() as u64, 0, outcome.refused.first()));
    let mut add = |verdict| verdicts.push(verdict);
    if let Some(bound) = pass.full_views {
        add(within("full_views", outcome.full_views, bound.0.as_secs_f64(), None));
    }
    if let Some(bound) = pass.event_all {
        add(spreads("event_all", &outcome.events, bound.0.as_secs_f64()));
    }
    if let Some(bound) = pass.events_lost {
        add(if outcome.events.is_empty() {
            nothing("events_lost")
        } else {
            at_most("events_lost", outcome.events_lost(), bound, None)
        });
    }
    if let Some(bound) = pass.query_acks {
        add(acks(&outcome.queries, bound));
    }
    if let Some(bound) = pass.crash_known {
        add(spreads("crash_known", &outcome.crashes, bound.0.as_secs_f64()));
    }
    if let Some(bound) = pass.leave_known {
        add(spreads("leave_known", &outcome.leaves, bound.0.as_secs_f64()));
    }
    if let Some(bound) = pass.false_failures {
        let reports = &outcome.false_failures;
        add(at_most("false_failures", reports.len() as u64, bound, reports.first()));
    }
    if let Some(bound) = pass.whole {
        add(within("whole", outcome.whole, bound.0.as_secs_f64(), outcome.wrong.as_ref()));
    }
    if let Some(bound) = pass.conflicts {
        add(at_most("conflicts", outcome.conflicts, bound, None));
    }
    if let Some(bound) = pass.sent_bytes {
        let (usage, passed) = (outcome.idle, outcome.idle.sent_bytes <= bound as f64);
        let detail = format!("{:.0} of at most {bound} bytes per second", usage.sent_bytes);
        add(Verdict {
            criterion: "sent_bytes",
            passed: (usage.readings > 0).then_some(passed),
            value: Some(usage.sent_bytes),
            detail,
        });
    }
    if let Some(wanted) = pass.io_uring.filter(|_| !outcome.drivers.is_empty()) {
        let other = outcome.drivers.iter().filter(|driver| (*driver == "io_uring") != wanted);
        add(at_most("io_uring", other.clone().count() as u64, 0, other.clone().next()));
    }
    let counts = [
        ("handled_twice", pass.handled_twice, outcome.handled.map(|handled| handled.twice)),
        ("handled_lost", pass.handled_lost, outcome.handled.map(|handled| handled.lost)),
        (
            "eager_lost",
            pass.eager_lost.filter(|_| beside.is_eager),
            outcome.handled.map(|handled| handled.lost + handled.lost_at_end),
        ),
    ];
    for (criterion, bound, count) in counts {
        let example = outcome.lost.first().filter(|_| criterion != "handled_twice");
        match (bound, count) {
            (Some(bound), Some(count)) => add(at_most(criterion, count, bound, example)),
            (Some(_), None) => add(nothing(criterion)),
            (None, _) => {}
        }
    }
    if pass.lost_as_serf {
        add(lost_as_serf(outcome, &beside.serf));
    }
    verdicts
}

/// Whether no criterion failed and at least one was judged.
pub(crate) fn has_passed(verdicts: &[Verdict]) -> bool {
    verdicts.iter().all(|verdict| verdict.passed != Some(false))
        && verdicts.iter().any(|verdict| verdict.passed.is_some())
}

fn nothing(criterion: &'static str) -> Verdict {
    Verdict { criterion, passed: Some(false), value: None, detail: "nothing was measured".into() }
}

fn at_most(criterion: &'static str, count: u64, bound: u64, example: Option<&String>) -> Verdict {
    let example = example.map(|text| format!(": {text}")).unwrap_or_default();
    let detail =
        if count <= bound { count.to_string() } else { format!("{count}, at most {bound}{example}") };
    Verdict { criterion, passed: Some(count <= bound), value: Some(count as f64), detail }
}

fn within(criterion: &'static str, seconds: Option<f64>, bound: f64, wrong: Option<&String>) -> Verdict {
    let detail = match seconds {
        Some(seconds) => format!("{seconds:.2} s of {bound:.0} s"),
        None => {
            format!("not within {bound:.0} s{}", wrong.map(|text| format!(": {text}")).unwrap_or_default())
        }
    };
    Verdict {
        criterion,
        passed: Some(seconds.is_some_and(|seconds| seconds <= bound)),
        value: seconds,
        detail,
    }
}

/// All of these reached all agents that they were due at, within the bound.
fn spreads(criterion: &'static str, all: &[Spread], bound: f64) -> Verdict {
    if all.is_empty() {
        return nothing(criterion);
    }
    let missed: usize = all.iter().map(Spread::missed).sum();
    let last = all.iter().flat_map(|spread| &spread.after).copied().fold(0.0, f64::max);
    let detail = if missed > 0 {
        format!("{missed} not reached, the others in {last:.2} s")
    } else {
        format!("{last:.2} s of {bound:.0} s")
    };
    Verdict { criterion, passed: Some(missed == 0 && last <= bound), value: Some(last), detail }
}

fn acks(queries: &[Spread], bound: f64) -> Verdict {
    let due: usize = queries.iter().map(|query| query.due).sum();
    if due == 0 {
        return nothing("query_acks");
    }
    let acked: usize = queries.iter().map(|query| query.after.len()).sum();
    let detail = format!("{acked} of {due}");
    Verdict {
        criterion: "query_acks",
        passed: Some(acked as f64 >= due as f64 * bound),
        value: Some(acked as f64 / due as f64),
        detail,
    }
}

/// Two counts of losses differ by chance: more is what lies two standard deviations above Serf's.
fn lost_as_serf(outcome: &Outcome, serf: &Handled) -> Verdict {
    let Some((ours, share)) = outcome.handled.and_then(|ours| Some((ours, ours.lost_share()?))) else {
        return nothing("lost_as_serf");
    };
    let Some(serf_share) = serf.lost_share() else {
        let detail = format!("{:.2} %; no run between Serf alone to compare with", share * 100.0);
        return Verdict { criterion: "lost_as_serf", passed: None, value: Some(share), detail };
    };
    let scale = ours.due as f64 / serf.due as f64;
    let expected = serf.all_lost() as f64 * scale;
    let deviation = (ours.all_lost() as f64 + expected * scale).sqrt();
    let detail = format!(
        "{} of {} ({:.2} %), Serf alone {} of {} ({:.2} %)",
        ours.all_lost(),
        ours.due,
        share * 100.0,
        serf.all_lost(),
        serf.due,
        serf_share * 100.0
    );
    let passed = ours.all_lost() as f64 <= expected + 2.0 * deviation;
    Verdict { criterion: "lost_as_serf", passed: Some(passed), value: Some(share), detail }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::outcome::Usage;
    use thane_engine::sim::Span;

    fn span(seconds: u64) -> Option<Span> {
        Some(Span(Duration::from_secs(seconds)))
    }

    fn failed(pass: &Pass, outcome: &Outcome) -> Vec<&'static str> {
        let failed = |verdict: &Verdict| verdict.passed == Some(false);
        judge(pass, outcome, Beside { is_eager: true, ..Beside::default() })
            .into_iter()
            .filter(failed)
            .map(|verdict| verdict.criterion)
            .collect()
    }

    #[test]
    fn each_criterion_fails_alone() {
        let well = Outcome {
            full_views: Some(1.0),
            events: vec![Spread { due: 2, after: vec![0.1, 0.3] }],
            queries: vec![Spread { due: 2, after: vec![0.1, 0.2] }],
            crashes: vec![Spread { due: 1, after: vec![9.0] }],
            leaves: vec![Spread { due: 1, after: vec![0.5] }],
            whole: Some(1.0),
            handled: Some(Handled { events: 10, due: 100, ..Handled::default() }),
            drivers: vec!["epoll".into()],
            idle: Usage { sent_bytes: 400.0, readings: 1, ..Usage::default() },
            ..Outcome::default()
        };
        let pass = Pass {
            full_views: span(2),
            event_all: span(1),
            events_lost: Some(0),
            query_acks: Some(1.0),
            crash_known: span(10),
            leave_known: span(1),
            false_failures: Some(0),
            whole: span(2),
            conflicts: Some(0),
            handled_twice: Some(0),
            handled_lost: Some(0),
            eager_lost: Some(0),
            lost_as_serf: true,
            io_uring: Some(false),
            sent_bytes: Some(500),
        };
        assert_eq!(failed(&pass, &well), [""; 0]);
        assert!(has_passed(&judge(&pass, &well, Beside::default())));
        let late = Spread { due: 2, after: vec![0.1, 30.0] };
        let handled = |twice, lost| Some(Handled { events: 10, due: 100, twice, lost, lost_at_end: 0 });
        let cases: [(Outcome, &[&str]); 14] = [
            (Outcome { drivers: vec!["io_uring".into()], ..well.clone() }, &["io_uring"]),
            (Outcome { full_views: None, ..well.clone() }, &["full_views"]),
            (Outcome { events: vec![late.clone()], ..well.clone() }, &["event_all"]),
            (
                Outcome { events: vec![Spread { due: 2, after: vec![0.1] }], ..well.clone() },
                &["event_all", "events_lost"],
            ),
            (Outcome { queries: vec![Spread { due: 2, after: vec![0.1] }], ..well.clone() }, &["query_acks"]),
            (Outcome { crashes: vec![late.clone()], ..well.clone() }, &["crash_known"]),
            (Outcome { leaves: Vec::new(), ..well.clone() }, &["leave_known"]),
            (Outcome { false_failures: vec!["a".into()], ..well.clone() }, &["false_failures"]),
            (Outcome { whole: None, ..well.clone() }, &["whole"]),
            (Outcome { conflicts: 1, ..well.clone() }, &["conflicts"]),
            (Outcome { ended: vec!["n1".into()], ..well.clone() }, &["ended"]),
            (Outcome { handled: handled(1, 0), ..well.clone() }, &["handled_twice"]),
            (Outcome { handled: handled(0, 1), ..well.clone() }, &["handled_lost", "eager_lost"]),
            (
                Outcome {
                    idle: Usage { sent_bytes: 501.0, readings: 1, ..Usage::default() },
                    ..well.clone()
                },
                &["sent_bytes"],
            ),
        ];
        for (outcome, expected) in cases {
            assert_eq!(failed(&pass, &outcome), expected);
        }
    }

    #[test]
    fn losses_are_compared_with_serf_of_the_same_run() {
        let with = |lost_at_end| Outcome {
            handled: Some(Handled { events: 10, due: 1000, twice: 0, lost: 0, lost_at_end }),
            ..Outcome::default()
        };
        let serf = |lost_at_end| Handled { events: 10, due: 1000, lost_at_end, ..Handled::default() };
        assert_eq!(lost_as_serf(&with(5), &serf(5)).passed, Some(true));
        assert_eq!(lost_as_serf(&with(9), &serf(5)).passed, Some(true), "by chance");
        assert_eq!(lost_as_serf(&with(20), &serf(5)).passed, Some(false));
        assert_eq!(lost_as_serf(&with(1), &serf(0)).passed, Some(true), "one more is chance too");
        assert_eq!(Handled::sum(&[serf(6), serf(4)]).lost_share(), Some(0.005));
        let alone = lost_as_serf(&with(6), &Handled::default());
        assert_eq!(alone.passed, None);
        assert!(alone.detail.contains("no run between Serf alone"), "{}", alone.detail);
    }
}
