#![allow(clippy::unwrap_used)]
use thane_engine::event::Members;
use thane_engine::view::MemberStatus;
use thane_engine::wire::{DecodeError, LamportTime, Versions};

use super::*;

/// The lines of these notices, each given so many seconds after the first.
fn lines(notices: &[(u64, Notice)]) -> Vec<String> {
    let log = Log::new(Level::Err);
    let mut notice_log = NoticeLog::new(log.clone());
    let start = Instant::now();
    for (seconds, notice) in notices {
        notice_log.add(notice, start + Duration::from_secs(*seconds));
    }
    let backlog = log.subscribe("t", Level::Trace).backlog;
    backlog.iter().map(|line| line.text["2026/01/01 00:00:00 ".len()..].to_owned()).collect()
}

fn line(notice: Notice) -> String {
    lines(&[(0, notice)]).remove(0)
}

fn name() -> String {
    "n1".to_owned()
}

fn addr() -> SocketAddr {
    "127.0.0.9:7946".parse().unwrap()
}

fn member(kind: MemberEventKind, forced: bool) -> String {
    let member = MemberRef {
        name: "n1",
        addr: addr().ip(),
        port: 7946,
        meta: b"",
        status: MemberStatus::Alive,
        versions: Versions::SERF,
    };
    line(Notice::Members { kind, members: Members::from_iter([member]), forced })
}

fn refused(reason: impl Into<DropReason>) -> Notice {
    let reason = reason.into();
    Notice::Dropped { reason, from: Some(addr()), count: 1, stream: false }
}

#[test]
fn member_lines_are_serfs() {
    assert_eq!(member(MemberEventKind::Join, false), "[INFO] serf: EventMemberJoin: n1 127.0.0.9");
    assert_eq!(member(MemberEventKind::Leave, false), "[INFO] serf: EventMemberLeave: n1 127.0.0.9");
    assert_eq!(member(MemberEventKind::Leave, true), "[INFO] serf: EventMemberLeave (forced): n1 127.0.0.9");
    assert_eq!(member(MemberEventKind::Failed, false), "[INFO] serf: EventMemberFailed: n1 127.0.0.9");
    assert_eq!(member(MemberEventKind::Update, false), "[INFO] serf: EventMemberUpdate: n1");
    assert_eq!(member(MemberEventKind::Reap, false), "[INFO] serf: EventMemberReap: n1");
    assert_eq!(member(MemberEventKind::Reap, true), "[INFO] serf: EventMemberReap (forced): n1 127.0.0.9");
}

#[test]
fn other_lines_are_serfs() {
    let (name, addr) = (name(), addr());
    let cases = [
        (
            Notice::SuspectNoAck { name: name.clone() },
            "[INFO] memberlist: Suspect n1 has failed, no acks received",
        ),
        (
            Notice::PingRefused { name: name.clone(), addr },
            "[ERR] memberlist: Failed to send ping: to n1 at 127.0.0.9:7946: the system refused it",
        ),
        (
            Notice::MarkingFailed { name: name.clone(), confirmations: 2 },
            "[INFO] memberlist: Marking n1 as failed, suspect timeout reached (2 peer confirmations)",
        ),
        (
            Notice::Refuting { what: "suspect", from: name.clone() },
            "[WARN] memberlist: Refuting a suspect message (from: n1)",
        ),
        (
            Notice::Refuting { what: "alive", from: name.clone() },
            "[WARN] memberlist: Refuting an alive message (from: n1)",
        ),
        (
            Notice::TcpFallbackOnly { name: name.clone() },
            "[WARN] memberlist: Was able to connect to n1 over TCP but UDP probes failed, network may be misconfigured",
        ),
        (
            Notice::AddressConflict {
                name: name.clone(),
                mine: addr,
                theirs: "[::1]:1".parse().unwrap(),
                state: 2,
            },
            "[ERR] memberlist: Conflicting address for n1. Mine: 127.0.0.9:7946 Theirs: [::1]:1 Old state: 2",
        ),
        (Notice::KeyQuery { operation: KeyOperation::Use }, "[INFO] serf: Received use-key query"),
        (
            Notice::KeyRefused { operation: KeyOperation::Use, reason: "not there".to_owned() },
            "[ERR] serf: Failed to change primary key: not there",
        ),
        (Notice::NoKeys { reason: "Keyring is empty" }, "[ERR] serf: Keyring is empty"),
        (Notice::LeaveIgnored, "[INFO] serf: Ignoring previous leave in snapshot"),
        (
            Notice::AliveVetoed { name: name.clone(), reason: "no signature".to_owned() },
            "[WARN] memberlist: ignoring alive message for 'n1': no signature",
        ),
        (
            Notice::MergeVetoed { reason: "another cluster".to_owned() },
            "[ERR] memberlist: Failed push/pull merge: another cluster",
        ),
        (
            Notice::DelegateTooLong { method: "node_meta", bytes: 600, bytes_max: 512 },
            "[ERR] memberlist: the delegate's node_meta gave 600 bytes, 512 fit: left out",
        ),
        (
            Notice::Reconnecting { name: name.clone(), addr },
            "[INFO] serf: attempting reconnect to n1 127.0.0.9:7946",
        ),
        (
            Notice::Rejoining { name: name.clone(), addr },
            "[INFO] serf: Attempting re-join to previously known node: n1: 127.0.0.9:7946",
        ),
        (
            Notice::Rejoined { member: Some((name.clone(), addr)) },
            "[INFO] serf: Re-joined to previously known node: n1: 127.0.0.9:7946",
        ),
        (Notice::Rejoined { member: None }, "[WARN] serf: Failed to re-join any previously known node"),
        (
            Notice::PushPullFailed { addr, reason: "timeout".to_owned() },
            "[ERR] memberlist: Push/Pull with 127.0.0.9:7946 failed: timeout",
        ),
        (
            Notice::QueueDepth { queue: "Event", depth: 200, dropped: 0 },
            "[WARN] serf: Event queue depth: 200",
        ),
        (
            Notice::QueueDepth { queue: "Intent", depth: 5000, dropped: 904 },
            "[WARN] serf: Intent queue depth (5000) exceeds limit (4096), dropping messages!",
        ),
        (
            Notice::TooOld { what: "query", name: "q".to_owned(), ltime: LamportTime(7) },
            "[WARN] serf: received old query q from time 7",
        ),
        (Notice::LateResponse { from: name.clone() }, "[WARN] serf: reply for non-running query From: n1"),
        (
            Notice::BadFilter { expr: "(".to_owned(), reason: "missing closing ): `(`".to_owned() },
            "[WARN] serf: failed to compile filter regex ((): error parsing regexp: missing closing ): `(`",
        ),
        (
            Notice::UnknownInternalQuery { name: "_serf_x".to_owned() },
            "[WARN] serf: Unhandled internal query '_serf_x'",
        ),
        (
            Notice::NameVote { all: 3, for_me: 2, kept: true },
            "[INFO] serf: majority in name conflict resolution [2 / 3]",
        ),
        (
            Notice::NameVote { all: 3, for_me: 1, kept: false },
            "[WARN] serf: minority in name conflict resolution, quitting [1 / 3]",
        ),
        (
            Notice::NameTaken { name: name.clone(), addr },
            "[ERR] serf: the name n1 belongs to 127.0.0.9:7946, which answers: quitting",
        ),
        (
            Notice::NameReclaimed { name: name.clone(), addr },
            "[INFO] serf: members list n1 at 127.0.0.9:7946, which does not answer: taking the name back",
        ),
        (Notice::Keyring { remark: "disk full".to_owned() }, "[ERR] serf: disk full"),
        (Notice::Snapshot { remark: "bad line".to_owned() }, "[WARN] serf: bad line"),
        (Notice::ReconnectSkipped, "[DEBUG] serf: forgoing reconnect for random throttling"),
        (
            refused(DecodeError::BadMsgpack),
            "[WARN] memberlist: Refused input from 127.0.0.9:7946: a message that is not the msgpack it should be (bad_msgpack)",
        ),
        (
            Notice::Dropped { reason: DropReason::UnknownSeq, from: None, count: 1, stream: false },
            "[DEBUG] memberlist: Refused input: an ack that no probe waits for (unknown_seq)",
        ),
        (
            Notice::Dropped {
                reason: DecodeError::StreamCut.into(),
                from: Some(addr),
                count: 1,
                stream: true,
            },
            "[ERR] memberlist: failed to receive: EOF, the stream ended within a message from=127.0.0.9:7946 (stream_cut)",
        ),
    ];
    for (notice, expected) in cases {
        assert_eq!(line(notice), expected);
    }
}

#[test]
fn names_can_not_fake_lines() {
    let notice = Notice::SuspectNoAck { name: "a\n2026/01/01 [INFO] x\u{1b}[2J".to_owned() };
    assert_eq!(
        line(notice),
        "[INFO] memberlist: Suspect a\\n2026/01/01 [INFO] x\\u{1b}[2J has failed, no acks received"
    );
}

#[test]
fn refused_input_is_logged_once_and_then_counted() {
    let bad = refused(DecodeError::BadMsgpack);
    let mut notices = vec![(0, bad.clone()), (1, refused(DecodeError::WrongKey))];
    notices.extend((0..900).map(|n| (n / 100, bad.clone())));
    notices.push((
        9,
        Notice::Dropped { reason: DecodeError::BadMsgpack.into(), from: None, count: 100, stream: false },
    ));
    notices.push((10, bad.clone()));
    notices.push((11, bad.clone()));
    notices.push((30, bad));
    const BAD: &str = "[WARN] memberlist: Refused input from 127.0.0.9:7946: a message that is not the msgpack it should be (bad_msgpack)";
    let expected = [
        BAD,
        "[ERR] memberlist: Decrypt packet failed: No installed keys could decrypt the message from=127.0.0.9:7946 (wrong_key)",
        "[WARN] memberlist: bad_msgpack: 1000 more in the last 10 s",
        BAD,
        "[WARN] memberlist: bad_msgpack: 1 more in the last 10 s",
        BAD,
    ];
    assert_eq!(lines(&notices), expected);
}

#[test]
fn left_out_lines_are_reported_without_a_further_notice() {
    let log = Log::new(Level::Err);
    let mut notice_log = NoticeLog::new(log.clone());
    let start = Instant::now();
    assert_eq!(notice_log.due(), None);
    for _ in 0..REPEATS_PER_WINDOW + 3 {
        notice_log.add(&Notice::Refuting { what: "dead", from: name() }, start);
    }
    let due = notice_log.due().unwrap();
    assert_eq!(due, start + WINDOW);
    notice_log.report_left_out(due);
    assert_eq!(notice_log.due(), None);
    let backlog = log.subscribe("t", Level::Trace).backlog;
    assert_eq!(backlog.len() as u64, REPEATS_PER_WINDOW + 1);
    assert!(backlog.last().unwrap().text.ends_with("memberlist: Refuting messages: 3 more in the last 10 s"));
}
