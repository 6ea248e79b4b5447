//! Coalescing: COA-3 and COA-5.

use super::helpers::{Driven, announced, quiet};
use super::*;

/// Longest wait and quiet time of Serf's agent.
const WINDOW: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(1));

/// What is reported in the next four seconds: member events with their members, user events with their payloads.
fn reported(lone: &mut Lone) -> Vec<String> {
    lone.idle(Duration::from_secs(4));
    let mut texts = Vec::new();
    for (_, event) in std::mem::take(&mut lone.ctx.out.events) {
        match event {
            Event::Member { kind, members } => {
                let names: Vec<&str> = members.iter().map(|member| member.name).collect();
                texts.push(format!("{} {}", kind.as_str(), names.join(" ")));
            }
            Event::User { name, payload, .. } => {
                texts.push(format!("{name} {}", String::from_utf8_lossy(&payload)));
            }
            Event::Query { name, .. } => texts.push(name),
        }
    }
    texts
}

#[test]
fn coa_3_the_kind_that_was_reported_last_of_a_member_is_not_reported_again() {
    let mut lone = quiet(|raw| raw.coalesce_members = WINDOW);
    lone.meet([2, 3]);
    assert_eq!(reported(&mut lone), ["member-join n1 n2 n3"]);
    // It fails and returns within one window: the join repeats what was reported last.
    lone.bury("n2", 1, "n3");
    lone.hear(|out| announced(2, "n2", 2).encode(out));
    assert_eq!(reported(&mut lone), [] as [&str; 0]);
    lone.bury("n2", 2, "n3");
    assert_eq!(reported(&mut lone), ["member-failed n2"]);
    // It returns and fails within one window.
    lone.hear(|out| announced(2, "n2", 3).encode(out));
    lone.bury("n2", 3, "n3");
    assert_eq!(reported(&mut lone), [] as [&str; 0]);
    lone.hear(|out| announced(2, "n2", 4).encode(out));
    assert_eq!(reported(&mut lone), ["member-join n2"], "another kind is news");
    for (incarnation, meta) in [(5, &b"\xff\x81\xa1a\xa1b"[..]), (6, b"\xff\x81\xa1a\xa1c")] {
        lone.hear(|out| Alive { meta: meta.into(), ..announced(2, "n2", incarnation) }.encode(out));
        assert_eq!(reported(&mut lone), ["member-update n2"], "updates are always reported");
    }
}

#[test]
fn coa_3_a_join_and_an_update_in_one_window_are_both_reported_in_order() {
    let with_meta =
        |incarnation, meta: &'static [u8]| Alive { meta: meta.into(), ..announced(2, "n2", incarnation) };
    let mut lone = quiet(|raw| raw.coalesce_members = WINDOW);
    reported(&mut lone);
    lone.hear(|out| announced(2, "n2", 1).encode(out));
    lone.hear(|out| with_meta(2, b"\xff\x81\xa1a\xa1b").encode(out));
    assert_eq!(reported(&mut lone), ["member-join n2", "member-update n2"]);
    // A join that repeats what was reported last is not reported; its update is.
    lone.bury("n2", 2, "n3");
    lone.hear(|out| with_meta(3, b"\xff\x81\xa1a\xa1c").encode(out));
    reported(&mut lone);
    lone.bury("n2", 3, "n3");
    lone.hear(|out| with_meta(4, b"\xff\x81\xa1a\xa1c").encode(out));
    lone.hear(|out| with_meta(5, b"\xff\x81\xa1a\xa1d").encode(out));
    assert_eq!(reported(&mut lone), ["member-update n2"]);
    // Two updates are one.
    lone.hear(|out| with_meta(6, b"\xff\x81\xa1a\xa1e").encode(out));
    lone.hear(|out| with_meta(7, b"\xff\x81\xa1a\xa1f").encode(out));
    assert_eq!(reported(&mut lone), ["member-update n2"]);
    // What happens after an update replaces it.
    lone.hear(|out| with_meta(8, b"\xff\x81\xa1a\xa1g").encode(out));
    lone.bury("n2", 8, "n3");
    assert_eq!(reported(&mut lone), ["member-failed n2"]);
}

#[test]
fn coa_5_all_events_of_a_names_newest_lamport_time_are_kept() {
    let mut lone = quiet(|raw| raw.coalesce_users = WINDOW);
    lone.meet([2]);
    reported(&mut lone);
    for (ltime, name, payload) in [
        (5, "a", "old"),
        (7, "a", "one"),
        (7, "a", "two"),
        (6, "a", "late"),
        (7, "a", "three"),
        (4, "b", "other"),
    ] {
        let payload = payload.as_bytes().into();
        let event = UserEvent { ltime: LamportTime(ltime), name, payload, coalesce: true };
        lone.hear_serf(|out| event.encode(out));
    }
    assert_eq!(reported(&mut lone), ["b other", "a one", "a two", "a three"]);
}
