//! Log lines to syslog: datagrams to the local syslog socket, with Serf's tag.
//!
//! Sending never waits: syslog loses a line that the socket does not take at once; the agent's own output does not.
//! The next line reconnects after a restart of the syslog daemon.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::level::Level;

/// Paths of the syslog socket on various systems.
const PATHS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// Default facility.
pub(crate) const FACILITY_DEFAULT: &str = "LOCAL0";
const TAG: &str = "serf";
const FACILITIES: [&str; 24] = [
    "KERN",
    "USER",
    "MAIL",
    "DAEMON",
    "AUTH",
    "SYSLOG",
    "LPR",
    "NEWS",
    "UUCP",
    "CRON",
    "AUTHPRIV",
    "FTP",
    "NTP",
    "SECURITY",
    "CONSOLE",
    "SOLARIS-CRON",
    "LOCAL0",
    "LOCAL1",
    "LOCAL2",
    "LOCAL3",
    "LOCAL4",
    "LOCAL5",
    "LOCAL6",
    "LOCAL7",
];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The number of a facility; case is ignored.
///
/// # Errors
/// The name is unknown.
pub(crate) fn facility(name: &str) -> Result<u8, String> {
    let found = FACILITIES.iter().position(|known| known.eq_ignore_ascii_case(name));
    let found = found.and_then(|place| u8::try_from(place).ok());
    found.ok_or_else(|| format!("invalid syslog facility: {name}; try LOCAL0 to LOCAL7, DAEMON or USER"))
}

/// A connection to syslog.
#[derive(Debug)]
pub(crate) struct Syslog {
    path: PathBuf,
    facility: u8,
    socket: Option<UnixDatagram>,
}

impl Syslog {
    /// Connects to the local syslog socket.
    ///
    /// # Errors
    /// No socket accepts a connection; the text lists the paths tried.
    pub(crate) fn open(facility: u8) -> Result<Syslog, String> {
        let opened = PATHS.iter().find_map(|path| Syslog::at(Path::new(path), facility).ok());
        opened.ok_or_else(|| format!("no syslog socket accepts a connection (tried {}): start a syslog daemon or leave -syslog out", PATHS.join(", ")))
    }

    fn at(path: &Path, facility: u8) -> io::Result<Syslog> {
        let socket = Some(connect(path)?);
        Ok(Syslog { path: path.to_owned(), facility, socket })
    }

    /// Sends a line of the agent's log. A line that the socket does not take at once is lost.
    pub(crate) fn send(&mut self, record: &Record<'_>) {
        let datagram = record.datagram(self.facility);
        for _ in 0..2 {
            if self.socket.is_none() {
                self.socket = connect(&self.path).ok();
            }
            let Some(socket) = &self.socket else { return };
            match socket.send(datagram.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.socket = None,
                _ => return,
            }
        }
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// One line of the agent's log, before it is formatted.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Record<'a> {
    /// How much it matters.
    pub(crate) level: Level,
    /// When it was logged, in local time.
    pub(crate) at: OffsetDateTime,
    /// Component and text, without time and level.
    pub(crate) message: &'a str,
}

impl Record<'_> {
    /// The datagram for syslog.
    fn datagram(&self, facility: u8) -> String {
        let severity = match self.level {
            Level::Trace => 7,
            Level::Debug => 6,
            Level::Info => 5,
            Level::Warn => 4,
            Level::Err => 3,
        };
        let priority = facility * 8 + severity;
        let month = MONTHS[usize::from(u8::from(self.at.month())) - 1];
        let (day, (hour, minute, second)) = (self.at.day(), self.at.to_hms());
        format!(
            "<{priority}>{month} {day:>2} {hour:02}:{minute:02}:{second:02} {TAG}[{}]: {}",
            std::process::id(),
            self.message
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(month: u8, day: u8, hour: u8) -> OffsetDateTime {
        let date = time::Date::from_calendar_date(2026, month.try_into().unwrap(), day).unwrap();
        date.with_hms(hour, 5, 7).unwrap().assume_offset(time::UtcOffset::from_hms(2, 0, 0).unwrap())
    }

    #[test]
    fn datagrams_carry_facility_severity_local_time_and_the_message() {
        let pid = std::process::id();
        let shown = |level, at, message| Record { level, at, message }.datagram(facility("local0").unwrap());
        assert_eq!(
            shown(Level::Info, at(11, 4, 8), "agent: Serf agent starting"),
            format!("<133>Nov  4 08:05:07 serf[{pid}]: agent: Serf agent starting")
        );
        let severities = [Level::Trace, Level::Debug, Level::Warn, Level::Err]
            .map(|level| shown(level, at(1, 24, 18), "a: b [ERR] c")[1..4].to_owned());
        assert_eq!(severities, ["135", "134", "132", "131"]);
        assert!(shown(Level::Err, at(12, 24, 18), "a: b").starts_with("<131>Dec 24 18:05:07 "));
    }

    #[test]
    fn facilities_have_names() {
        assert_eq!((facility("KERN"), facility("daemon"), facility("LOCAL7")), (Ok(0), Ok(3), Ok(23)));
        assert!(facility("LOCAL8").unwrap_err().starts_with("invalid syslog facility: LOCAL8"));
    }

    #[test]
    fn a_daemon_that_restarts_is_found_again_and_one_that_hangs_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::at(&path, 1).unwrap();
        let send = |syslog: &mut Syslog, n: usize| {
            let (at, message) = (at(1, 24, 8), format!("agent: {n}"));
            syslog.send(&Record { level: Level::Info, at, message: &message });
        };
        let next = |daemon: &UnixDatagram| {
            let mut bytes = [0; 200];
            let len = daemon.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        };
        send(&mut syslog, 1);
        assert!(next(&daemon).ends_with("agent: 1"));
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        send(&mut syslog, 2);
        let daemon = UnixDatagram::bind(&path).unwrap();
        // More than the socket's queue holds, and no reader.
        (3..5000).for_each(|n| send(&mut syslog, n));
        assert!(next(&daemon).ends_with("agent: 3"));
    }
}
