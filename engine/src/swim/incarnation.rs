//! Which incarnations are believed.
//!
//! In memberlist a message with the last incarnation there is ends a member: nobody can outbid it. Here an
//! incarnation above [`INCARNATION_MAX`] is refused from anybody, and a message may raise what this node knows by
//! a bounded step only. A member raises its incarnation by one with each refutation and each change of its tags, so
//! honest steps are small; a large one is what a node sees that was away for long, or that hears of its own former
//! life after a restart. Only the answer to this node's own join is free of the steps.

use std::time::Duration;

use crate::dissemination::Source;
use crate::time::Time;
use crate::wire::Incarnation;

/// The largest incarnation that is believed: half of the range.
pub(super) const INCARNATION_MAX: u32 = u32::MAX / 2;
/// The largest step of one message, and the largest incarnation of a member that was not known.
const STEP_MAX: u32 = 1 << 20;
/// A step beyond this is a large one, of which one is believed per [`LARGE_STEP_INTERVAL`]: `INCARNATION_MAX` is then
/// 34 hours of forged messages away.
const LARGE_STEP: u32 = 1 << 10;
const LARGE_STEP_INTERVAL: Duration = Duration::from_secs(60);

/// The steps of one node.
#[derive(Debug, Default)]
pub(super) struct IncarnationSteps {
    /// When the last large step was believed.
    large_at: Option<Time>,
}

impl IncarnationSteps {
    /// Whether a message may name this incarnation of a member, of which `known` is the newest that this node knows.
    pub(super) fn believe(
        &mut self,
        known: Option<Incarnation>,
        named: Incarnation,
        source: Source,
        now: Time,
    ) -> bool {
        if named.0 > INCARNATION_MAX || source == Source::JoinAnswer {
            return named.0 <= INCARNATION_MAX;
        }
        let Some(known) = known else { return named.0 <= STEP_MAX };
        let step = named.0.saturating_sub(known.0);
        if step <= LARGE_STEP {
            return true;
        }
        let is_due = self.large_at.is_none_or(|at| now.since(at) >= LARGE_STEP_INTERVAL);
        if step > STEP_MAX || !is_due {
            return false;
        }
        self.large_at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn believed(steps: &mut IncarnationSteps, known: Option<u32>, named: u32, seconds: u64) -> bool {
        let now = Time::from_nanos(seconds * 1_000_000_000);
        steps.believe(known.map(Incarnation), Incarnation(named), Source::Gossip, now)
    }

    #[test]
    fn no_message_takes_a_member_to_an_incarnation_that_it_cannot_outbid() {
        let mut steps = IncarnationSteps::default();
        for named in [u32::MAX, u32::MAX - 1, INCARNATION_MAX + 1, INCARNATION_MAX, STEP_MAX + 2] {
            assert!(!believed(&mut steps, Some(1), named, 0), "{named}");
            assert!(!believed(&mut steps, None, named, 0), "{named} of a stranger");
        }
        assert!(believed(&mut steps, None, STEP_MAX, 0));
        assert!(believed(&mut steps, Some(5), 3, 0), "older ones are for the caller to ignore");
        assert!(believed(&mut steps, Some(1), 1 + LARGE_STEP, 0));
    }

    #[test]
    fn one_large_step_a_minute_is_believed() {
        let mut steps = IncarnationSteps::default();
        assert!(believed(&mut steps, Some(1), 50_000, 100), "a restarted member hears of its former life");
        assert!(!believed(&mut steps, Some(50_000), 100_000, 159));
        assert!(believed(&mut steps, Some(50_000), 50_001, 159), "small steps go on");
        assert!(believed(&mut steps, Some(50_000), 100_000, 160));
    }

    #[test]
    fn the_answer_to_an_own_join_is_believed_up_to_the_ceiling() {
        let mut steps = IncarnationSteps::default();
        let mut join = |named| steps.believe(None, Incarnation(named), Source::JoinAnswer, Time::ZERO);
        assert!(join(INCARNATION_MAX));
        assert!(!join(INCARNATION_MAX + 1));
    }
}
