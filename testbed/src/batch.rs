//! Several runs, some of them at the same time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::played::Against;
use crate::scenario::Scenario;
use crate::stop;

/// So many runs that can't be played end the rest: the machine is at fault.
const FAILURES_MAX: usize = 3;

/// A run to play.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) scenario: Scenario,
    pub(crate) against: Against,
    pub(crate) nodes: u32,
    /// The scenario whose losses between Serf alone are what others may lose.
    pub(crate) yardstick: String,
}

/// Plays all tasks, at most `at_once` of them at a time, and hands their outcomes to `take` in the tasks' order. A run
/// that can't be played is named and the others go on.
///
/// # Errors
/// The first failure. Where the user asked for the end, or [`FAILURES_MAX`] runs failed, no other run is started and
/// those under way are told to end.
pub(crate) fn play(
    tasks: &[Task],
    at_once: usize,
    play: impl Fn(&Task) -> Result<Outcome, Failure> + Sync,
    mut take: impl FnMut(&Task, Outcome),
) -> Result<(), Failure> {
    let (next, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (out, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(tasks.len()) {
            let (out, next, failures, play) = (out.clone(), &next, &failures, &play);
            scope.spawn(move || {
                while let Some((number, task)) = claim(next, tasks) {
                    let result = stop::check().and_then(|()| play(task));
                    let failed = result.is_err();
                    // Before the others are told to end, which they report as failures too.
                    let _ = out.send((number, result));
                    if failed && failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
                        stop::ask();
                    }
                    if stop::check().is_err() {
                        break;
                    }
                }
            });
        }
        drop(out);
        let (mut outcomes, mut taken, mut first) = (BTreeMap::new(), 0, None);
        for (number, result) in results {
            if let Err(failure) = &result {
                let task = &tasks[number];
                println!("not played {} {}: {failure}", task.scenario.name, task.against.name());
                first.get_or_insert(failure.clone());
            }
            outcomes.insert(number, result.ok());
            while let Some(outcome) = outcomes.remove(&taken) {
                outcome.into_iter().for_each(|outcome| take(&tasks[taken], outcome));
                taken += 1;
            }
        }
        // Runs that were never started leave gaps.
        for (number, outcome) in outcomes {
            outcome.into_iter().for_each(|outcome| take(&tasks[number], outcome));
        }
        first.map_or(Ok(()), Err)
    })
}

/// The next task that nobody plays.
fn claim<'a>(next: &AtomicUsize, tasks: &'a [Task]) -> Option<(usize, &'a Task)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    tasks.get(number).map(|task| (number, task))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Barrier;

    use super::*;

    /// One test for both, since a failure ends all runs of the process.
    #[test]
    fn outcomes_are_taken_in_order_without_those_that_failed_and_three_failures_end_the_rest() {
        let scenario = Scenario::find("idle").unwrap();
        let task = |nodes| Task {
            scenario: scenario.clone(),
            against: Against::Thane,
            nodes,
            yardstick: "idle".into(),
        };
        let outcome = |task: &Task| Outcome { conflicts: task.nodes.into(), ..Outcome::default() };
        let tasks: Vec<Task> = (0..6).map(task).collect();
        // Only runs at the same time pass the barrier.
        let together = Barrier::new(3);
        let mut taken = Vec::new();
        let one_fails = |task: &Task| {
            together.wait();
            if task.nodes == 1 { Err(Failure::new("the disk is full")) } else { Ok(outcome(task)) }
        };
        let failed = play(&tasks, 3, one_fails, |task, outcome| taken.push((task.nodes, outcome.conflicts)));
        assert_eq!(failed, Err(Failure::new("the disk is full")));
        assert_eq!(taken, [0, 2, 3, 4, 5].map(|number| (number, u64::from(number))));

        let started = AtomicUsize::new(0);
        let mut taken = Vec::new();
        let all_but_the_first_fail = |task: &Task| {
            started.fetch_add(1, Ordering::Relaxed);
            if task.nodes > 0 {
                return Err(Failure::new("no engine"));
            }
            while stop::check().is_ok() {
                std::thread::yield_now();
            }
            Ok(outcome(task))
        };
        let failed = play(&tasks, 2, all_but_the_first_fail, |task, _| taken.push(task.nodes));
        assert_eq!(failed, Err(Failure::new("no engine")));
        assert_eq!((started.into_inner(), taken), (4, vec![0]));
    }
}
