//! Findings: one line each, with what to do.

use crate::escape;

/// How bad a finding is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// It is as it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Something will not work as well as it could, or later.
    Warning,
    /// Something does not work.
    Bad,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Good => "ok",
            Severity::Note => "note",
            Severity::Warning => "WARN",
            Severity::Bad => "FAIL",
        }
    }
}

/// All findings, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<(Severity, &'static str, String)>);

impl Report {
    /// Adds a finding about a subject.
    pub(super) fn add(&mut self, severity: Severity, subject: &'static str, text: String) {
        self.0.push((severity, subject, text));
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(severity, subject, text)| {
            // Texts may quote files and other nodes.
            let text = text.trim_end().replace('\n', "; ");
            format!("{:4}  {subject}: {}", severity.word(), escape::line(&text))
        })
    }

    /// 0: all is well; 1: warnings; 2: failures.
    pub(super) fn exit_code(&self) -> u8 {
        match self.0.iter().map(|(severity, ..)| *severity).max() {
            Some(Severity::Bad) => 2,
            Some(Severity::Warning) => 1,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_is_the_exit_code_and_each_has_one_line() {
        let mut report = Report::default();
        assert_eq!(report.exit_code(), 0);
        report.add(Severity::Good, "a", "x".to_owned());
        report.add(Severity::Note, "b", "y".to_owned());
        assert_eq!(report.exit_code(), 0);
        report.add(Severity::Warning, "c", "one\ntwo\u{1b}\n".to_owned());
        assert_eq!(report.exit_code(), 1);
        report.add(Severity::Bad, "d", "z".to_owned());
        assert_eq!(report.exit_code(), 2);
        let lines: Vec<String> = report.lines().collect();
        assert_eq!(lines, ["ok    a: x", "note  b: y", "WARN  c: one; two\\u{1b}", "FAIL  d: z"]);
    }
}
