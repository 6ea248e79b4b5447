//! Several runs, some of them at the same time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::played::Against;
use crate::scenario::Scenario;
use crate::stop;

/// A run to play.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) scenario: Scenario,
    pub(crate) against: Against,
    pub(crate) nodes: u32,
    /// The scenario whose losses between Serf alone are what others may lose.
    pub(crate) yardstick: String,
}

/// Plays all tasks, at most `at_once` of them at a time, and hands their outcomes to `take` in the tasks' order.
///
/// # Errors
/// The first failure; runs that are under way are then told to end, and no other is started. Outcomes from before it
/// were taken.
pub(crate) fn play(
    tasks: &[Task],
    at_once: usize,
    play: impl Fn(&Task) -> Result<Outcome, Failure> + Sync,
    mut take: impl FnMut(&Task, Outcome),
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    let (out, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(tasks.len()) {
            let (out, next, play) = (out.clone(), &next, &play);
            scope.spawn(move || {
                while let Some((number, task)) = claim(next, tasks) {
                    let result = stop::check().and_then(|()| play(task));
                    let has_failed = result.is_err();
                    // Before the others are told to end, which they report as failures too.
                    let _ = out.send((number, result));
                    if has_failed {
                        next.store(tasks.len(), Ordering::Relaxed);
                        stop::ask();
                    }
                }
            });
        }
        drop(out);
        let (mut outcomes, mut taken, mut failed) = (BTreeMap::new(), 0, None);
        for (number, result) in results {
            match result {
                Ok(outcome) => drop(outcomes.insert(number, outcome)),
                Err(failure) => drop(failed.get_or_insert(failure)),
            }
            while let Some(outcome) = outcomes.remove(&taken) {
                take(&tasks[taken], outcome);
                taken += 1;
            }
        }
        // After a failure there are gaps.
        outcomes.into_iter().for_each(|(number, outcome)| take(&tasks[number], outcome));
        failed.map_or(Ok(()), Err)
    })
}

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
    fn outcomes_are_taken_in_order_and_a_failure_ends_what_is_under_way() {
        let scenario = Scenario::find("idle").unwrap();
        let task = |nodes| Task {
            scenario: scenario.clone(),
            against: Against::Thane,
            nodes,
            yardstick: "idle".into(),
        };
        let tasks: Vec<Task> = (0..6).map(task).collect();
        let outcome = |task: &Task| Outcome { conflicts: task.nodes.into(), ..Outcome::default() };
        // Only runs at the same time pass the barrier.
        let together = Barrier::new(3);
        let mut taken = Vec::new();
        let all = |task: &Task| {
            together.wait();
            Ok(outcome(task))
        };
        play(&tasks, 3, all, |task, outcome| taken.push((task.nodes, outcome.conflicts))).unwrap();
        assert_eq!(taken, (0..6).map(|number| (number, u64::from(number))).collect::<Vec<_>>());

        let started = AtomicUsize::new(0);
        let (mut taken, second) = (Vec::new(), Barrier::new(2));
        let fails = |task: &Task| {
            started.fetch_add(1, Ordering::Relaxed);
            second.wait();
            if task.nodes == 0 {
                return Err(Failure::new("the disk is full"));
            }
            while stop::check().is_ok() {
                std::thread::yield_now();
            }
            stop::check().map(|()| outcome(task))
        };
        let failed = play(&tasks, 2, fails, |task, _| taken.push(task.nodes)).unwrap_err();
        assert_eq!(failed, Failure::new("the disk is full"));
        assert_eq!((started.into_inner(), taken.len()), (2, 0));
    }
}
