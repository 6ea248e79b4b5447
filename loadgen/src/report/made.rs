//! The command and the machine that made a report.

use std::fs;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How a report was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// The command line.
    pub command: String,
    /// Program and version.
    pub program: String,
    /// When it began: RFC 3339, UTC.
    pub at: String,
    /// The machine.
    pub machine: Machine,
    /// What a reader should know: what else ran, what could not be measured and why.
    pub notes: Vec<String>,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The processor's model; empty if it is not known.
    pub processor: String,
    /// Processors that this process may use.
    pub processors: u64,
    /// Memory in bytes; 0 if it is not known.
    pub memory_bytes: u64,
    /// Operating system, kernel version and architecture.
    pub system: String,
    /// Load average of the last minute when the command began; none if it is not known.
    pub load_average: Option<f64>,
}

impl Made {
    /// This process, now, on this machine. `program` is its name and version.
    pub fn here(program: &str) -> Made {
        let words: Vec<String> = std::env::args_os().map(|word| quoted(&word.to_string_lossy())).collect();
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Made {
            command: words.join(" "),
            program: program.to_owned(),
            at: now.format(&Rfc3339).unwrap_or_default(),
            machine: Machine::this(),
            notes: Vec::new(),
        }
    }
}

impl Machine {
    /// This one.
    pub fn this() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory_kb = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
        let kernel = read("/proc/sys/kernel/osrelease");
        let load = read("/proc/loadavg").split_whitespace().next().and_then(|load| load.parse().ok());
        Machine {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            memory_bytes: memory_kb.unwrap_or(0) * 1024,
            system: format!("{} {} {}", std::env::consts::OS, kernel.trim(), std::env::consts::ARCH),
            load_average: load,
        }
    }

    /// One line.
    pub fn summary(&self) -> String {
        let processor = if self.processor.is_empty() { "unknown processor" } else { &self.processor };
        let load =
            self.load_average.map_or(String::new(), |load| format!(", load average {load} before it began"));
        format!(
            "{} processors ({processor}), {:.1} GB, {}{load}",
            self.processors,
            self.memory_bytes as f64 / 1e9,
            self.system
        )
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,+@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_this_command_are_described() {
        let made = Made::here("test 1");
        assert!(made.command.contains("thane"), "{}", made.command);
        assert!(made.at.ends_with('Z') && made.at.len() == 20, "{}", made.at);
        assert!(made.machine.processors > 0 && made.machine.summary().contains("processors"));
        assert_eq!(quoted("0..1000"), "0..1000");
        assert_eq!(quoted("it's two"), r"'it'\''s two'");
    }
}
