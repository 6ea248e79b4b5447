//! The levels of log lines, as Serf names them.

/// How much a log line matters.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Level {
    /// Every packet.
    Trace,
    /// Every message.
    Debug,
    /// What happens to the cluster.
    Info,
    /// What may need attention.
    Warn,
    /// What failed.
    Err,
}

impl Level {
    /// All levels, lowest first.
    const ALL: [Level; 5] = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Err];

    /// Reads a level in any case.
    pub(crate) fn parse(text: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text))
    }

    /// The word in the brackets of a line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "TRACE",
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Err => "ERR",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_in_any_case() {
        assert_eq!(Level::parse("wArN"), Some(Level::Warn));
        assert_eq!(Level::parse("WARNING"), None);
        assert!(Level::Trace < Level::Err);
        assert!(Level::ALL.is_sorted());
        assert!(Level::ALL.iter().all(|level| Level::parse(level.as_str()) == Some(*level)));
    }
}
