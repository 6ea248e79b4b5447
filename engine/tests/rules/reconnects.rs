//! Reconnecting to failed members: ENG-20.

use thane_engine::event::Notice;

use super::helpers::{Driven, quiet};
use super::*;

const ROUNDS: u32 = 400;

/// Reconnection attempts in 400 intervals, with so many other members of which so many have failed.
fn attempts(others: u8, failed: u8) -> u32 {
    let mut lone = quiet(|raw| raw.reconnect_interval = Duration::from_secs(1));
    lone.meet(2..2 + others);
    for n in 2..2 + failed {
        lone.bury(&format!("n{n}"), 1, "n99");
    }
    let (mut attempts, mut skipped) = (0, 0);
    for _ in 0..ROUNDS {
        lone.pass(Duration::from_secs(1));
        for (_, notice) in std::mem::take(&mut lone.ctx.out.notices) {
            attempts += u32::from(matches!(notice, Notice::Reconnecting { .. }));
            skipped += u32::from(matches!(notice, Notice::ReconnectSkipped));
        }
        lone.ctx.out.clear();
    }
    if failed > 0 {
        assert_eq!(attempts + skipped, ROUNDS, "each interval decides once");
    }
    attempts
}

/// Serf tries with the chance failed / alive in each interval.
#[test]
fn eng_20_reconnects_are_as_rare_as_failed_members() {
    assert_eq!(attempts(50, 0), 0);
    assert_eq!(attempts(2, 2), ROUNDS, "as many failed as alive: always");
    // One of 51 is 2 %: 8 expected. A quarter: 100 expected.
    let few = attempts(51, 1);
    assert!((1..=25).contains(&few), "{few}");
    let some = attempts(49, 10);
    assert!((70..=135).contains(&some), "{some}");
}
