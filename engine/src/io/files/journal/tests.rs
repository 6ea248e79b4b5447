//! What a journal writes, and what it makes of the files that it finds.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::wire::LamportTime;

fn alive(name: &str) -> SnapshotRecord {
    SnapshotRecord::Alive { name: name.into(), addr: "127.0.0.1:7946".parse().unwrap() }
}

/// Flushes and waits.
fn flush(journal: &mut Journal) -> io::Result<()> {
    while journal.flush()? {
        std::thread::yield_now();
    }
    Ok(())
}

fn sync(journal: &mut Journal) {
    journal.sync().unwrap().blocking_recv().unwrap().unwrap();
}

fn open(path: &Path) -> Opened {
    Journal::open(path, false).unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let mut opened = open(&path);
    for record in [
        alive("a b"),
        alive("c"),
        SnapshotRecord::NotAlive { name: "c".into() },
        SnapshotRecord::Clock(LamportTime(7)),
        SnapshotRecord::EventClock(LamportTime(8)),
        SnapshotRecord::QueryClock(LamportTime(9)),
    ] {
        opened.journal.append(record);
    }
    flush(&mut opened.journal).unwrap();
    drop(opened.journal);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("alive: a b 127.0.0.1:7946\nalive: c"), "{text}");
    let restored = open(&path).restored;
    assert_eq!((restored.clock, restored.event_clock, restored.query_clock), (7, 8, 9));
    assert_eq!(restored.alive, [("a b".to_owned(), "127.0.0.1:7946".parse().unwrap())]);
}

#[test]
fn a_leave_clears_all_unless_asked_to_rejoin_and_only_clocks_follow_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let mut journal = open(&path).journal;
    journal.append(alive("a"));
    assert_eq!(journal.append(SnapshotRecord::Leave), Urgency::Sync);
    journal.append(SnapshotRecord::NotAlive { name: "a".into() });
    journal.append(SnapshotRecord::Clock(LamportTime(3)));
    sync(&mut journal);
    drop(journal);
    let kept = Journal::open(&path, true).unwrap();
    assert_eq!((kept.restored.alive.len(), kept.restored.clock), (1, 3));
    assert_eq!(kept.notices, [Notice::LeaveIgnored]);
    drop(kept.journal);
    let cleared = open(&path).restored;
    assert_eq!((cleared.alive.len(), cleared.clock), (0, 3));
}

#[test]
fn a_file_cut_at_any_byte_opens_and_goes_on_with_whole_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let text = "# serf\nalive: a 127.0.0.1:7946\nclock: 12\ncoordinate: x\nwhat\nevent-clock: 5\n";
    for cut in 0..=text.len() {
        std::fs::write(&path, &text[..cut]).unwrap();
        let mut opened = open(&path);
        opened.journal.append(SnapshotRecord::QueryClock(LamportTime(4)));
        flush(&mut opened.journal).unwrap();
        drop(opened.journal);
        let again = open(&path);
        assert_eq!(again.restored.query_clock, 4, "cut at {cut}");
        assert!(again.restored.clock == 12 || again.restored.clock == 0, "never half a number");
    }
    let remark = "Unrecognized snapshot line: what".to_owned();
    assert_eq!(open(&path).notices, [Notice::Snapshot { remark }]);
}

#[test]
fn a_file_that_grew_is_rewritten_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let mut journal = open(&path).journal;
    journal.append(alive("a"));
    journal.append(SnapshotRecord::EventClock(LamportTime(7)));
    journal.append(SnapshotRecord::QueryClock(LamportTime(8)));
    for time in 0..20_000 {
        journal.append(SnapshotRecord::Clock(LamportTime(time)));
        if time % 100 == 0 {
            flush(&mut journal).unwrap();
        }
    }
    sync(&mut journal);
    assert!(std::fs::metadata(&path).unwrap().len() < 2 * COMPACT_BYTES_MIN);
    drop(journal);
    let restored = open(&path).restored;
    assert_eq!((restored.clock, restored.alive.len()), (19_999, 1));
    assert_eq!((restored.event_clock, restored.query_clock), (7, 8), "SNP-4: no clock is lost");
}

#[test]
fn lines_that_could_not_be_written_are_written_later_and_the_failure_is_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let mut journal = open(&path).journal;
    let whole = std::mem::replace(&mut journal.file, File::open(&path).unwrap());
    for n in 0..40_000 {
        journal.append(alive(&format!("a-name-of-some-length-{n:06}")));
        if n % 1_000 == 0 {
            assert_eq!(journal.write().is_err(), n == 0);
            assert!(journal.buffer.len() < 2 * WAITING_BYTES_MAX);
        }
    }
    journal.sync().unwrap_err();
    journal.file = whole;
    journal.append(alive("b"));
    journal.write().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(Content::read(text.as_bytes(), false).0.members(), 40_001);
    assert!(text.starts_with("#content: "), "lines were dropped, so the whole content was written");
}

#[test]
fn times_of_events_and_queries_are_with_the_kernel_before_anything_else_happens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let mut journal = open(&path).journal;
    assert_eq!(journal.append(alive("a")), Urgency::Later);
    assert_eq!(journal.append(SnapshotRecord::Clock(LamportTime(1))), Urgency::Later);
    assert_eq!(journal.append(SnapshotRecord::EventClock(LamportTime(2))), Urgency::Write);
    assert_eq!(journal.append(SnapshotRecord::QueryClock(LamportTime(3))), Urgency::Write);
    journal.write().unwrap();
    let text = "alive: a 127.0.0.1:7946\nclock: 1\nevent-clock: 2\nquery-clock: 3\n#thane\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    // Somebody empties the file: what follows begins at its new end.
    std::fs::write(&path, "").unwrap();
    journal.append(SnapshotRecord::EventClock(LamportTime(4)));
    journal.write().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "event-clock: 4\n#thane\n");
}

#[test]
fn a_second_journal_on_the_same_file_is_refused_before_and_after_a_rewrite() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let mut journal = open(&path).journal;
    let refused = || Journal::open(&path, false).unwrap_err().to_string();
    assert!(refused().starts_with("another agent has it open"));
    journal.file_bytes = 2 * COMPACT_BYTES_MIN;
    journal.append(alive("a"));
    flush(&mut journal).unwrap();
    assert!(refused().starts_with("another agent has it open"));
    drop(journal);
    assert_eq!(open(&path).restored.alive.len(), 1);
}

/// What a process that ends at that moment leaves behind: after each line, and each step of a rewrite.
#[test]
fn no_time_that_was_written_is_missing_at_any_moment_of_a_rewrite() {
    for in_place in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snap");
        let mut journal = open(&path).journal;
        (journal.in_place, journal.compact_at) = (in_place, u64::MAX);
        let (mut time, mut steps) = (0, Vec::new());
        let ended = |steps: &[_]| steps.len() > 1 && steps.last() == steps.first();
        while !ended(&steps) {
            time += 1;
            journal.append(alive(["a", "b"][time as usize % 2]));
            journal.append(SnapshotRecord::EventClock(LamportTime(time)));
            journal.write().unwrap();
            if time >= 5_000 {
                let first = steps.is_empty();
                journal.compact_at = if first { u64::MAX } else { journal.compact_at };
                journal.flush().unwrap();
                if first {
                    journal.compact_at = 0;
                }
                let step = std::mem::discriminant(&journal.rewrite);
                if steps.last() != Some(&step) {
                    steps.push(step);
                }
                let text = std::fs::read(&path).unwrap();
                let restored = Content::read(&text, false).0.restored();
                assert_eq!((restored.event_clock, restored.alive.len()), (time, 2), "in place: {in_place}");
            }
        }
        assert_eq!(steps.len(), if in_place { 3 } else { 4 });
        assert!(std::fs::metadata(&path).unwrap().len() < COMPACT_BYTES_MIN);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(journal);
        let opened = open(&path);
        assert_eq!((opened.restored.alive.len(), opened.notices), (2, Vec::new()));
    }
}

#[test]
fn where_the_rewritten_file_can_not_take_its_place_it_is_rewritten_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let mut journal = open(&path).journal;
    journal.append(alive("a"));
    for time in 0..20_000 {
        journal.append(SnapshotRecord::EventClock(LamportTime(time)));
    }
    // A folder that is not there stands for one that is not writable, which a test run by root does not have.
    let missing = dir.path().join("no/snap");
    let path_of_the_file = std::mem::replace(&mut journal.path, missing);
    assert!(journal.flush().unwrap());
    let filled = loop {
        match journal.flush() {
            Ok(_) if !journal.in_place => std::thread::yield_now(),
            outcome => break outcome,
        }
    };
    assert!(filled.is_err() && journal.in_place, "the file is not found either");
    journal.path = path_of_the_file;
    journal.compact_at = 0;
    flush(&mut journal).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "alive: a 127.0.0.1:7946\nclock: 0\nevent-clock: 19999\nquery-clock: 0\n#thane\n");
}
#[test]
fn names_can_not_write_lines_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let mut journal = open(&path).journal;
    let addr = "127.0.0.1:7946".parse().unwrap();
    for name in ["x\nleave", "x\nclock: 99\ny"] {
        journal.append(alive(name));
        journal.append(SnapshotRecord::Failed { name: name.into(), addr });
        journal.append(SnapshotRecord::NotAlive { name: name.into() });
    }
    journal.append(alive("\u{1b}[2J #"));
    flush(&mut journal).unwrap();
    drop(journal);
    let Opened { restored, notices, .. } = open(&path);
    assert_eq!((restored.alive.len(), restored.clock, notices), (1, 0, Vec::new()));
}

#[test]
fn failed_members_are_remembered_and_those_that_left_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let addr = "127.0.0.1:7946".parse().unwrap();
    let mut journal = open(&path).journal;
    for name in ["a", "b", "c d"] {
        journal.append(alive(name));
        journal.append(SnapshotRecord::Failed { name: name.into(), addr });
    }
    journal.append(alive("a"));
    journal.append(SnapshotRecord::NotAlive { name: "b".into() });
    flush(&mut journal).unwrap();
    let read = |path: &Path| {
        let Restored { alive, failed, .. } = Content::read(&std::fs::read(path).unwrap(), false).0.restored();
        [alive, failed].map(|list| list.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
    };
    assert_eq!(read(&path), [["a"], ["c d"]]);
    journal.broken = true;
    journal.append(SnapshotRecord::Clock(LamportTime(1)));
    flush(&mut journal).unwrap();
    assert_eq!(read(&path), [["a"], ["c d"]], "a rewritten file says the same");
}

#[test]
fn clocks_that_fall_in_the_file_do_not_fall() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let text = ["clock", "event-clock", "query-clock"].map(|name| format!("{name}: 9\n{name}: 5\n"));
    std::fs::write(&path, text.concat()).unwrap();
    let restored = open(&path).restored;
    assert_eq!((restored.clock, restored.event_clock, restored.query_clock), (9, 9, 9));
}

#[test]
fn the_clocks_of_a_file_lag_from_serfs_last_write_until_the_node_has_made_up_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap");
    let lags = |text: &str| {
        std::fs::write(&path, text).unwrap();
        open(&path).restored.lags
    };
    let serf = "alive: a 127.0.0.1:7946\nclock: 3\nevent-clock: 5\n";
    assert!(!lags("") && !lags(&format!("{serf}leave\nclock: 4\n")), "nothing ran, or what ran has left");
    assert!(lags(serf) && !lags(&format!("{serf}#thane\n")));
    for after in ["clock: 4\n", "alive: b 127.0.0.1:1\n", "#thane", "even"] {
        assert!(lags(&format!("{serf}#thane\n{after}")), "{after:?} came after what Thane wrote");
    }

    let read = || Content::read(&std::fs::read(&path).unwrap(), false).0.restored();
    for rewritten in [false, true] {
        assert!(lags(serf));
        let mut journal = open(&path).journal;
        journal.append(alive("c"));
        journal.append(SnapshotRecord::EventClock(LamportTime(6)));
        if rewritten {
            journal.compact_at = 0;
            journal.file_bytes = COMPACT_BYTES_MIN;
        }
        flush(&mut journal).unwrap();
        assert!(read().lags, "an event of its own tells nothing of those that Serf handled");
        journal.append(SnapshotRecord::EventClock(LamportTime(9)));
        assert_eq!(journal.append(SnapshotRecord::Settled), Urgency::Write);
        journal.write().unwrap();
        assert!(!read().lags && read().event_clock == 9);
        journal.append(SnapshotRecord::EventClock(LamportTime(10)));
        journal.write().unwrap();
        assert!(!read().lags);
        if rewritten {
            journal.compact_at = 0;
            journal.file_bytes = COMPACT_BYTES_MIN;
            journal.append(alive("d"));
            flush(&mut journal).unwrap();
            assert!(!read().lags);
        }
    }
}
