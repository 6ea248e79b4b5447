//! The agent's log: lines in Serf's format, a level filter, a queue that holds lines back until the banner
//! is printed, a ring of the last lines of every level, and subscribers (`thane monitor`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::rc::Rc;

use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
use tokio::sync::mpsc;

use super::level::Level;
use super::printer::STDOUT;
#[cfg(unix)]
use super::syslog::{Record, Syslog};

/// Lines kept in the ring for monitors that connect later.
const RING_LINES_MAX: usize = 512;
/// Lines queued for one monitor; further ones are dropped.
const SUBSCRIBER_LINES_MAX: usize = 512;
/// Longest line, bytes; the rest is cut, so that the ring stays below 4 MiB whatever a script prints.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Capacity that the print buffer keeps, bytes.
const PRINTED_BYTES_KEPT: usize = 4096;
/// Interval for looking up the offset of the local time zone (daylight saving), seconds.
const OFFSET_LOOKUP_SECONDS: i64 = 600;

/// The log. Clones share it.
#[derive(Clone)]
pub(crate) struct Log(Rc<RefCell<State>>);

struct State {
    level: Level,
    /// Whether lines are printed as JSON.
    json: bool,
    /// Lines held back; `None` once the log is open.
    held: Option<Vec<Rc<Line>>>,
    ring: VecDeque<Rc<Line>>,
    subscribers: Vec<Subscriber>,
    /// Lines to write to stdout at the end of an addition, in one write.
    printed: String,
    /// Lines that nobody read from stdout, since the last one that was printed.
    lost: usize,
    #[cfg(unix)]
    syslog: Option<Syslog>,
    /// The second of the lines that are being added, in local time, and as it stands at their beginning.
    now: OffsetDateTime,
    stamp: String,
    offset: UtcOffset,
    offset_looked_up: i64,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Line {
    /// Its level.
    pub(crate) level: Level,
    /// The line, without indent and newline.
    pub(crate) text: String,
    at: OffsetDateTime,
    /// Where component and text begin in it, after time and level.
    message_at: usize,
}

struct Subscriber {
    name: String,
    level: Level,
    queue: mpsc::Sender<Rc<Line>>,
    dropped: u64,
}

/// A subscription: the kept lines, then new ones.
pub(crate) struct Subscription {
    /// Lines of the ring that pass the level, oldest first.
    pub(crate) backlog: Vec<Rc<Line>>,
    /// New lines.
    pub(crate) live: mpsc::Receiver<Rc<Line>>,
}

impl Log {
    /// A closed log: it holds lines back until [`open`](Log::open) is called.
    pub(crate) fn new(level: Level) -> Log {
        Log(Rc::new(RefCell::new(State {
            level,
            json: false,
            held: Some(Vec::new()),
            ring: VecDeque::new(),
            subscribers: Vec::new(),
            #[cfg(unix)]
            syslog: None,
            printed: String::new(),
            lost: 0,
            now: OffsetDateTime::UNIX_EPOCH,
            stamp: String::new(),
            offset: UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC),
            offset_looked_up: OffsetDateTime::now_utc().unix_timestamp(),
        })))
    }

    /// Prints the lines held back, and every later line at once.
    pub(crate) fn open(&self) {
        let mut state = self.0.borrow_mut();
        for line in state.held.take().into_iter().flatten() {
            state.print(&line);
        }
        state.flush();
    }

    /// Sends every printed line to syslog as well.
    #[cfg(unix)]
    pub(crate) fn attach(&self, syslog: Syslog) {
        self.0.borrow_mut().syslog = Some(syslog);
    }

    /// Prints lines as JSON from now on.
    pub(crate) fn print_json(&self) {
        self.0.borrow_mut().json = true;
    }

    /// Sets the lowest level of printed lines.
    pub(crate) fn set_level(&self, level: Level) {
        self.0.borrow_mut().level = level;
    }

    /// Adds a line. `component` is `agent`, `agent.ipc`, `serf` or `memberlist`.
    pub(crate) fn add(&self, level: Level, component: &str, text: impl fmt::Display) {
        self.add_all(level, component, std::iter::once(text));
    }

    /// Adds several lines with one write to stdout.
    pub(crate) fn add_all<T: fmt::Display>(
        &self,
        level: Level,
        component: &str,
        texts: impl Iterator<Item = T>,
    ) {
        let mut state = self.0.borrow_mut();
        state.update_clock();
        for text in texts {
            let line = Rc::new(state.line(level, component, &text));
            for name in state.publish(&line) {
                let text = format!("Dropping logs to {name}");
                let line = state.line(Level::Warn, "agent.ipc", &text);
                // The slow monitor counts as lagging already, so this does not repeat itself.
                state.publish(&Rc::new(line));
            }
        }
        state.flush();
    }

    /// Subscribes to lines of this level and above; warnings about a slow subscriber show `name`.
    pub(crate) fn subscribe(&self, name: impl Into<String>, level: Level) -> Subscription {
        let (queue, live) = mpsc::channel(SUBSCRIBER_LINES_MAX);
        let mut state = self.0.borrow_mut();
        state.subscribers.push(Subscriber { name: name.into(), level, queue, dropped: 0 });
        let backlog = state.ring.iter().filter(|line| line.level >= level).cloned().collect();
        Subscription { backlog, live }
    }

    /// Live monitors.
    #[cfg(test)]
    fn subscribers_count(&self) -> usize {
        self.0.borrow().subscribers.len()
    }
}

impl Line {
    /// An object of JSON in a line of its own. Components have no colon.
    fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Shown<'a> {
            time: String,
            level: String,
            component: &'a str,
            message: &'a str,
        }
        let message = &self.text[self.message_at..];
        let (component, message) = message.split_once(": ").unwrap_or(("", message));
        // A time of this era can be written.
        let time = self.at.format(&Rfc3339).unwrap_or_default();
        let shown = Shown { time, level: self.level.as_str().to_lowercase(), component, message };
        let mut text = serde_json::to_string(&shown).expect("its keys are texts");
        text.push('\n');
        text
    }
}

impl State {
    fn update_clock(&mut self) {
        let now = OffsetDateTime::now_utc();
        if now.unix_timestamp() == self.now.unix_timestamp() {
            return;
        }
        if now.unix_timestamp() - self.offset_looked_up >= OFFSET_LOOKUP_SECONDS {
            self.offset_looked_up = now.unix_timestamp();
            // Fails while other threads run, because it reads the environment: keep the last offset.
            self.offset = UtcOffset::local_offset_at(now).unwrap_or(self.offset);
        }
        let now = now.to_offset(self.offset);
        self.now = now;
        let (date, (hour, minute, second)) = (now.date(), now.to_hms());
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        self.stamp = format!("{year:04}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}");
    }

    /// Formats a line with the current time.
    fn line(&self, level: Level, component: &str, text: &dyn fmt::Display) -> Line {
        /// Enough for most lines.
        const USUAL_BYTES: usize = 112;
        let mut line = String::with_capacity(USUAL_BYTES);
        for part in [self.stamp.as_str(), " [", level.as_str(), "] "] {
            line.push_str(part);
        }
        let message_at = line.len();
        line.push_str(component);
        line.push_str(": ");
        // Writing to a String can't fail; a failing `Display` leaves the part before its error.
        let _ = write!(line, "{text}");
        if line.len() > LINE_BYTES_MAX {
            line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
        }
        line.truncate(line.trim_end_matches('\n').len());
        Line { level, at: self.now, text: line, message_at }
    }

    /// Prints a line, keeps it and passes it to the monitors; returns the names of those that begin to lag.
    fn publish(&mut self, line: &Rc<Line>) -> Vec<String> {
        if line.level >= self.level {
            #[cfg(unix)]
            if let Some(syslog) = &mut self.syslog {
                syslog.send(&Record {
                    level: line.level,
                    at: self.now,
                    message: &line.text[line.message_at..],
                });
            }
            match &mut self.held {
                Some(held) => held.push(line.clone()),
                None => self.print(line),
            }
        }
        if self.ring.len() == RING_LINES_MAX {
            self.ring.pop_front();
        }
        self.ring.push_back(line.clone());

        let mut lagging = Vec::new();
        self.subscribers.retain_mut(|subscriber| {
            if line.level < subscriber.level {
                return !subscriber.queue.is_closed();
            }
            match subscriber.queue.try_send(line.clone()) {
                Ok(()) => {
                    subscriber.dropped = 0;
                    true
                }
                Err(mpsc::error::TrySendError::Full(_)) => {
                    if subscriber.dropped == 0 {
                        lagging.push(subscriber.name.clone());
                    }
                    subscriber.dropped += 1;
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
        lagging
    }

    /// Adds a line to the print buffer.
    fn print(&mut self, line: &Line) {
        let text = self.printable(line);
        self.printed.push_str(&text);
    }

    /// A line with its end: indented as Serf does, or JSON.
    fn printable(&self, line: &Line) -> String {
        if self.json {
            return line.to_json();
        }
        line.text.split('\n').map(|part| format!("    {part}\n")).collect()
    }

    /// Writes the print buffer to stdout. After lines that nobody read, a line counts them first.
    fn flush(&mut self) {
        if self.printed.is_empty() {
            return;
        }
        if self.lost > 0 && STDOUT.has_room() {
            let text = format!("Lost {} lines of the log, because nobody read them", self.lost);
            let line = self.line(Level::Warn, "agent", &text);
            if STDOUT.print(&self.printable(&line)) {
                self.lost = 0;
            }
        }
        if self.lost > 0 || !STDOUT.print(&self.printed) {
            self.lost += self.printed.lines().count();
        }
        self.printed.clear();
        self.printed.shrink_to(PRINTED_BYTES_KEPT);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn line_has_serfs_format() {
        let log = Log::new(Level::Err);
        let mut monitor = log.subscribe("m", Level::Trace);
        log.add(Level::Info, "agent", "Serf agent starting");
        let line = monitor.live.try_recv().unwrap();
        let pattern =
            regex::Regex::new(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[INFO\] agent: Serf agent starting$")
                .unwrap();
        assert!(pattern.is_match(&line.text), "{}", line.text);
    }

    #[test]
    fn a_line_in_json_has_all_its_parts() {
        let log = Log::new(Level::Err);
        let mut monitor = log.subscribe("m", Level::Trace);
        log.add(Level::Warn, "agent.ipc", "a \"b\": c\nd");
        let line = monitor.live.try_recv().unwrap();
        let json = line.to_json();
        assert_eq!(json.matches('\n').count(), 1, "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let object = value.as_object().unwrap();
        assert_eq!(object.keys().collect::<Vec<_>>(), ["time", "level", "component", "message"]);
        let parts = [&value["level"], &value["component"], &value["message"]];
        assert_eq!(parts, ["warn", "agent.ipc", "a \"b\": c\nd"]);
        let time = value["time"].as_str().unwrap();
        let form = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$";
        assert!(regex::Regex::new(form).unwrap().is_match(time), "{time}");
    }

    #[test]
    fn ring_keeps_512_lines_of_all_levels_and_filters_for_the_monitor() {
        let log = Log::new(Level::Err);
        for n in 0..600 {
            log.add(if n % 2 == 0 { Level::Debug } else { Level::Warn }, "serf", n);
        }
        assert_eq!(log.subscribe("all", Level::Trace).backlog.len(), 512);
        let warnings = log.subscribe("some", Level::Warn).backlog;
        assert_eq!(warnings.len(), 256);
        assert!(warnings.last().unwrap().text.ends_with("serf: 599"));
    }

    #[test]
    fn slow_monitor_loses_lines_with_one_warning() {
        let log = Log::new(Level::Err);
        let mut slow = log.subscribe("127.0.0.1:5", Level::Trace);
        for n in 0..2000 {
            log.add(Level::Debug, "serf", n);
        }
        let mut received = 0;
        while slow.live.try_recv().is_ok() {
            received += 1;
        }
        assert_eq!(received, 512);
        let warnings = log.subscribe("other", Level::Warn).backlog;
        assert!(warnings.len() <= 1, "{} warnings", warnings.len());
        drop(slow);
        log.add(Level::Debug, "serf", "x");
        assert_eq!(log.subscribers_count(), 0);
    }
}
