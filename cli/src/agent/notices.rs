//! Log lines for the engine's notices, in Serf's words.
//!
//! Lines that a peer can cause with one packet each are limited: a peer that sends garbage must not fill the log.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use thane_engine::command::KeyOperation;
use thane_engine::drop_reason::DropReason;
use thane_engine::event::{MemberEventKind, MemberRef, Notice};
use thane_engine::wire::stream::refusal_text;

use super::events::name_taken_by;
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
            Notice::PingRefused { name, addr } => Line::memberlist(
                Err,
                format!("Failed to send ping: to {} at {addr}: the system refused it", shown(name)),
            )
            .limited("Pings that the system refused", REPEATS_PER_WINDOW),
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
            Notice::AddressConflict { name, mine, theirs, state } => Line::memberlist(
                Err,
                format!(
                    "Conflicting address for {}. Mine: {mine} Theirs: {theirs} Old state: {state}",
                    shown(name)
                ),
            )
            .limited("Conflicting addresses", REPEATS_PER_WINDOW),
            Notice::NameConflict { theirs, own: Some(resolved), .. } => Line::serf(
                Err,
                format!(
                    "Node name conflicts with another node at {theirs}. Names must be unique! (Resolution \
                    enabled: {resolved})"
                ),
            )
            .limited("Conflicts about the own name", REPEATS_PER_WINDOW),
            Notice::NameConflict { name, mine, theirs, own: None } => Line::serf(
                Warn,
                format!("Name conflict for '{}' both {mine} and {theirs} are claiming", shown(name)),
            )
            .limited("Name conflicts", REPEATS_PER_WINDOW),
            Notice::Reconnecting { name, addr } => {
                Line::serf(Info, format!("attempting reconnect to {} {addr}", shown(name)))
            }
            Notice::Rejoining { name, addr } => Line::serf(
                Info,
                format!("Attempting re-join to previously known node: {}: {addr}", shown(name)),
            ),
            Notice::Rejoined { member: Some((name, addr)) } => {
                Line::serf(Info, format!("Re-joined to previously known node: {}: {addr}", shown(name)))
            }
            Notice::Rejoined { member: None } => {
                Line::serf(Warn, "Failed to re-join any previously known node".to_owned())
            }
            Notice::PushPullFailed { addr, reason } => {
                Line::memberlist(Err, format!("Push/Pull with {addr} failed: {}", shown(reason)))
                    .limited("Failed push/pulls", REPEATS_PER_WINDOW)
            }
            Notice::LargeState { bytes, bytes_max } => {
                Line::memberlist(Warn, format!("Remote node state size is ({bytes}) limit is ({bytes_max})"))
            }
            Notice::Dropped { reason, from, stream, .. } => refusal(*reason, *from, *stream),
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
            Notice::BadFilter { expr, reason } => Line::serf(
                Warn,
                format!("failed to compile filter regex ({}): error parsing regexp: {reason}", shown(expr)),
            )
            .limited("Filters that do not compile", REPEATS_PER_WINDOW),
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
            Notice::KeyQuery { operation } => {
                let query = match operation {
                    KeyOperation::Install => "install-key",
                    KeyOperation::Use => "use-key",
                    KeyOperation::Remove => "remove-key",
                    KeyOperation::List => "list-keys",
                };
                Line::serf(Info, format!("Received {query} query"))
                    .limited("Queries about keys", REPEATS_PER_WINDOW)
            }
            Notice::KeyRefused { operation, reason } => {
                let what = match operation {
                    KeyOperation::Install => "install key",
                    KeyOperation::Use => "change primary key",
                    KeyOperation::Remove => "remove key",
                    KeyOperation::List => "list keys",
                };
                Line::serf(Err, format!("Failed to {what}: {}", shown(reason)))
                    .limited("Refused queries about keys", REPEATS_PER_WINDOW)
            }
            Notice::NoKeys { reason } => Line::serf(Err, (*reason).to_owned())
                .limited("Refused queries about keys", REPEATS_PER_WINDOW),
            Notice::NameTaken { name, addr } => {
                Line::serf(Err, format!("{}: quitting", name_taken_by(name, addr)))
            }
            Notice::NameReclaimed { name, addr } => Line::serf(
                Info,
                format!(
                    "members list {} at {addr}, which does not answer: taking the name back",
                    shown(name)
                ),
            ),
            Notice::Keyring { remark } => Line::serf(Err, shown(remark).into_owned()),
            Notice::LeaveIgnored => Line::serf(Info, "Ignoring previous leave in snapshot".to_owned()),
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

/// Refused streams and what no key opens have Serf's lines, which operators search for; all have the name that `info`
/// counts them under.
fn refusal(reason: DropReason, from: Option<SocketAddr>, stream: bool) -> Line {
    let undecodable = match reason {
        DropReason::Undecodable(error) => Some(error),
        _ => None,
    };
    let serfs_words = undecodable.and_then(refusal_text);
    let words = serfs_words.unwrap_or(reason.words());
    let (level, text) = match from {
        Some(from) if stream && undecodable.is_some() => {
            (Level::Err, format!("failed to receive: {words} from={from} ({reason})"))
        }
        Some(from) if serfs_words.is_some() => {
            (Level::Err, format!("Decrypt packet failed: {words} from={from} ({reason})"))
        }
        Some(from) => (Level::Warn, format!("Refused input from {from}: {words} ({reason})")),
        None => (Level::Warn, format!("Refused input: {words} ({reason})")),
    };
    let level = if is_harmless(reason) { Level::Debug } else { level };
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
            | DropReason::StreamTimeout
            | DropReason::StreamIdle
    )
}

#[cfg(test)]
mod tests;
