//! Log lines for the engine's notices, in Serf's words.
//!
//! Lines that a peer can cause with one packet each are limited: a peer that sends garbage must not fill the log.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use thane_engine::drop_reason::DropReason;
use thane_engine::event::{MemberEventKind, MemberRef, Notice};
use thane_engine::wire::DecodeError;

use super::level::Level;
use super::log::Log;
use crate::escape::line as shown;

/// Length of a window. At its end one line counts the lines that were left out, and the next window begins.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines per window about refused input, for each reason.
const REFUSALS_PER_WINDOW: u64 = 1;
/// Lines per window for each other kind that a peer can cause.
const REPEATS_PER_WINDOW: u64 = 10;

/// Writes notices to the log.
pub(crate) struct NoticeLog {
    log: Log,
    windows: BTreeMap<&'static str, Window>,
}

/// The lines of one kind in its current window.
struct Window {
    since: Instant,
    level: Level,
    component: &'static str,
    count: u64,
    left_out: u64,
}

/// A line before it is logged.
struct Line {
    level: Level,
    component: &'static str,
    text: String,
    /// The kind that it is counted with and that kind's lines per window; `None`: no limit.
    limit: Option<(&'static str, u64)>,
}

impl NoticeLog {
    /// Writes to this log.
    pub(crate) fn new(log: Log) -> NoticeLog {
        NoticeLog { log, windows: BTreeMap::new() }
    }

    /// Logs a notice, unless the window of its kind is full.
    pub(crate) fn add(&mut self, notice: &Notice, now: Instant) {
        self.report_left_out(now);
        if let &Notice::Members { kind, ref members, forced } = notice {
            let lines = members.iter().map(|member| MemberLine { kind, member, forced });
            self.log.add_all(Level::Info, "serf", lines);
        }
        let Some(line) = Line::of(notice) else { return };
        let times = if let Notice::Dropped { count, .. } = notice { *count } else { 1 };
        if let Some((kind, per_window)) = line.limit {
            let (level, component) = (line.level, line.component);
            let window = self.windows.entry(kind).or_insert(Window {
                since: now,
                level,
                component,
                count: 0,
                left_out: 0,
            });
            let room = per_window.saturating_sub(window.count);
            window.count += times;
            // The line is about the first input; the others of the same notice count as left out.
            window.left_out += times - room.min(1);
            if room == 0 {
                return;
            }
        }
        self.log.add(line.level, line.component, line.text);
    }

    /// When the next window ends; call [`report_left_out`](Self::report_left_out) then.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.windows.values().map(|window| window.since + WINDOW).min()
    }

    /// Ends the windows that are over, and logs a line for each that left lines out.
    pub(crate) fn report_left_out(&mut self, now: Instant) {
        let log = &self.log;
        self.windows.retain(|kind, window| {
            let over = now.duration_since(window.since) >= WINDOW;
            if over && window.left_out > 0 {
                let text = format!("{kind}: {} more in the last {} s", window.left_out, WINDOW.as_secs());
                log.add(window.level, window.component, text);
            }
            !over
        });
    }
}

impl Line {
    /// The line about a notice; `None` for members, which have one line each.
    fn of(notice: &Notice) -> Option<Line> {
        use Level::{Debug, Err, Info, Warn};
        let line = match notice {
            Notice::Members { .. } => return None,
            Notice::SuspectNoAck { name } => {
                Line::memberlist(Info, format!("Suspect {} has failed, no acks received", shown(name)))
            }
            Notice::MarkingFailed { name, confirmations } => Line::memberlist(
                Info,
                format!(
                    "Marking {} as failed, suspect timeout reached ({confirmations} peer confirmations)",
                    shown(name)
                ),
            ),
            Notice::Refuting { what, from } => {
                let article = if what.starts_with('a') { "an" } else { "a" };
                Line::memberlist(Warn, format!("Refuting {article} {what} message (from: {})", shown(from)))
                    .limited("Refuting messages", REPEATS_PER_WINDOW)
            }
            Notice::TcpFallbackOnly { name } => Line::memberlist(
                Warn,
                format!(
                    "Was able to connect to {} over TCP but UDP probes failed, network may be misconfigured",
                    shown(name)
                ),
            ),
            Notice::AddressConflict { name, mine, theirs } => Line::memberlist(
                Err,
                format!("Conflicting address for {}. Mine: {mine} Theirs: {theirs}", shown(name)),
            )
            .limited("Conflicting addresses", REPEATS_PER_WINDOW),
            Notice::Reconnecting { name, addr } => {
                Line::serf(Info, format!("attempting reconnect to {} {addr}", shown(name)))
            }
            Notice::Rejoining { name, addr } => Line::serf(
                Info,
                format!("Attempting re-join to previously known node: {}: {addr}", shown(name)),
            ),
            Notice::Rejoined { name: Some(name) } => {
                Line::serf(Info, format!("Re-joined to previously known node: {}", shown(name)))
            }
            Notice::Rejoined { name: None } => {
                Line::serf(Warn, "Failed to re-join any previously known node".to_owned())
            }
            Notice::PushPullFailed { addr, reason } => {
                Line::memberlist(Err, format!("Push/Pull with {addr} failed: {}", shown(reason)))
                    .limited("Failed push/pulls", REPEATS_PER_WINDOW)
            }
            Notice::LargeState { bytes, bytes_max } => {
                Line::memberlist(Warn, format!("Remote node state size is ({bytes}) limit is ({bytes_max})"))
            }
            Notice::Dropped { reason, from, .. } => refusal(*reason, *from),
            Notice::AliveVetoed { name, reason } => Line::memberlist(
                Warn,
                format!("ignoring alive message for '{}': {}", shown(name), shown(reason)),
            )
            .limited("Vetoed alive messages", REPEATS_PER_WINDOW),
            Notice::MergeVetoed { reason } => {
                Line::memberlist(Err, format!("Failed push/pull merge: {}", shown(reason)))
                    .limited("Vetoed merges", REPEATS_PER_WINDOW)
            }
            Notice::DelegateTooLong { method, bytes, bytes_max } => Line::memberlist(
                Err,
                format!("the delegate's {method} gave {bytes} bytes, {bytes_max} fit: left out"),
            )
            .limited("Answers of the delegate that are too long", REPEATS_PER_WINDOW),
            Notice::QueueDepth { queue, depth, dropped: 0 } => {
                Line::serf(Warn, format!("{queue} queue depth: {depth}"))
            }
            Notice::QueueDepth { queue, depth, dropped } => {
                let limit = depth.saturating_sub(*dropped);
                Line::serf(
                    Warn,
                    format!("{queue} queue depth ({depth}) exceeds limit ({limit}), dropping messages!"),
                )
            }
            Notice::TooOld { what, name, ltime } => {
                Line::serf(Warn, format!("received old {what} {} from time {}", shown(name), ltime.0))
                    .limited("Old events and queries", REPEATS_PER_WINDOW)
            }
            Notice::LateResponse { from } => {
                Line::serf(Warn, format!("reply for non-running query From: {}", shown(from)))
                    .limited("Replies for non-running queries", REPEATS_PER_WINDOW)
            }
            Notice::BadFilter { expr, reason } => {
                Line::serf(Warn, format!("failed to compile filter regex ({}): {reason}", shown(expr)))
                    .limited("Filters that do not compile", REPEATS_PER_WINDOW)
            }
            Notice::UnknownInternalQuery { name } => {
                Line::serf(Warn, format!("Unhandled internal query '{}'", shown(name)))
                    .limited("Unhandled internal queries", REPEATS_PER_WINDOW)
            }
            Notice::NameVote { all, for_me, kept: true } => {
                Line::serf(Info, format!("majority in name conflict resolution [{for_me} / {all}]"))
            }
            Notice::NameVote { all, for_me, kept: false } => {
                Line::serf(Warn, format!("minority in name conflict resolution, quitting [{for_me} / {all}]"))
            }
            Notice::NameTaken { name, addr } => Line::serf(
                Err,
                format!("the name {} belongs to {addr}, which answers: quitting", shown(name)),
            ),
            Notice::NameReclaimed { name, addr } => Line::serf(
                Info,
                format!(
                    "members list {} at {addr}, which does not answer: taking the name back",
                    shown(name)
                ),
            ),
            Notice::Keyring { remark } => Line::serf(Err, shown(remark).into_owned()),
            Notice::Snapshot { remark } => Line::serf(Warn, shown(remark).into_owned()),
            Notice::ReconnectSkipped => {
                Line::serf(Debug, "forgoing reconnect for random throttling".to_owned())
            }
        };
        Some(line)
    }

    fn serf(level: Level, text: String) -> Line {
        Line { level, component: "serf", text, limit: None }
    }

    fn memberlist(level: Level, text: String) -> Line {
        Line { level, component: "memberlist", text, limit: None }
    }

    fn limited(self, kind: &'static str, per_window: u64) -> Line {
        Line { limit: Some((kind, per_window)), ..self }
    }
}

/// The log line about one member of an event.
struct MemberLine<'a> {
    kind: MemberEventKind,
    member: MemberRef<'a>,
    forced: bool,
}

impl fmt::Display for MemberLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, addr) = (shown(self.member.name), self.member.addr);
        let what = match self.kind {
            MemberEventKind::Join => "EventMemberJoin",
            MemberEventKind::Leave => "EventMemberLeave",
            MemberEventKind::Failed => "EventMemberFailed",
            MemberEventKind::Update => return write!(f, "EventMemberUpdate: {name}"),
            MemberEventKind::Reap if !self.forced => return write!(f, "EventMemberReap: {name}"),
            MemberEventKind::Reap => "EventMemberReap",
        };
        let forced = match self.kind {
            MemberEventKind::Leave | MemberEventKind::Reap if self.forced => " (forced)",
            _ => "",
        };
        write!(f, "{what}{forced}: {name} {addr}")
    }
}

fn refusal(reason: DropReason, from: Option<SocketAddr>) -> Line {
    let text = match from {
        Some(from) => format!("Refused input from {from}: {reason}"),
        None => format!("Refused input: {reason}"),
    };
    let level = if is_harmless(reason) { Level::Debug } else { Level::Warn };
    Line::memberlist(level, text).limited(reason.as_str(), REFUSALS_PER_WINDOW)
}

/// Whether healthy peers cause it too: late and repeated input.
fn is_harmless(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::UnknownSeq
            | DropReason::WrongNodeName
            | DropReason::EventTooOld
            | DropReason::QueryTooOld
            | DropReason::QueryUnknown
            | DropReason::DuplicateResponse
            | DropReason::Undecodable(DecodeError::StreamCut)
            | DropReason::StreamTimeout
            | DropReason::StreamIdle
    )
}

#[cfg(test)]
mod tests {
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
        Notice::Dropped { reason, from: Some(addr()), count: 1 }
    }

    #[test]
    fn member_lines_are_serfs() {
        assert_eq!(member(MemberEventKind::Join, false), "[INFO] serf: EventMemberJoin: n1 127.0.0.9");
        assert_eq!(member(MemberEventKind::Leave, false), "[INFO] serf: EventMemberLeave: n1 127.0.0.9");
        assert_eq!(
            member(MemberEventKind::Leave, true),
            "[INFO] serf: EventMemberLeave (forced): n1 127.0.0.9"
        );
        assert_eq!(member(MemberEventKind::Failed, false), "[INFO] serf: EventMemberFailed: n1 127.0.0.9");
        assert_eq!(member(MemberEventKind::Update, false), "[INFO] serf: EventMemberUpdate: n1");
        assert_eq!(member(MemberEventKind::Reap, false), "[INFO] serf: EventMemberReap: n1");
        assert_eq!(
            member(MemberEventKind::Reap, true),
            "[INFO] serf: EventMemberReap (forced): n1 127.0.0.9"
        );
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
                },
                "[ERR] memberlist: Conflicting address for n1. Mine: 127.0.0.9:7946 Theirs: [::1]:1",
            ),
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
                Notice::Rejoined { name: Some(name.clone()) },
                "[INFO] serf: Re-joined to previously known node: n1",
            ),
            (Notice::Rejoined { name: None }, "[WARN] serf: Failed to re-join any previously known node"),
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
            (
                Notice::LateResponse { from: name.clone() },
                "[WARN] serf: reply for non-running query From: n1",
            ),
            (
                Notice::BadFilter { expr: "(".to_owned(), reason: "missing closing ): `(`".to_owned() },
                "[WARN] serf: failed to compile filter regex ((): missing closing ): `(`",
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
                "[WARN] memberlist: Refused input from 127.0.0.9:7946: bad_msgpack",
            ),
            (
                Notice::Dropped { reason: DropReason::UnknownSeq, from: None, count: 1 },
                "[DEBUG] memberlist: Refused input: unknown_seq",
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
        notices.push((9, Notice::Dropped { reason: DecodeError::BadMsgpack.into(), from: None, count: 100 }));
        notices.push((10, bad.clone()));
        notices.push((11, bad.clone()));
        notices.push((30, bad));
        let expected = [
            "[WARN] memberlist: Refused input from 127.0.0.9:7946: bad_msgpack",
            "[WARN] memberlist: Refused input from 127.0.0.9:7946: wrong_key",
            "[WARN] memberlist: bad_msgpack: 1000 more in the last 10 s",
            "[WARN] memberlist: Refused input from 127.0.0.9:7946: bad_msgpack",
            "[WARN] memberlist: bad_msgpack: 1 more in the last 10 s",
            "[WARN] memberlist: Refused input from 127.0.0.9:7946: bad_msgpack",
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
        assert!(
            backlog.last().unwrap().text.ends_with("memberlist: Refuting messages: 3 more in the last 10 s")
        );
    }
}
