//! Outputs without what must differ between two runs: addresses, times, counters, the words of help texts.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::agent::Ended;

/// What a world calls its addresses and folders.
pub(super) type Names = Vec<(String, String)>;

fn expression(text: &str) -> Regex {
    match Regex::new(text) {
        Ok(expression) => expression,
        Err(error) => panic!("{text} in normal.rs: {error}"),
    }
}

/// The text with names instead of addresses and folders.
pub(super) fn named(text: &str, names: &Names) -> String {
    names.iter().fold(text.to_owned(), |text, (what, name)| text.replace(what, name))
}

/// A program's output in one text: both streams and the exit code.
pub(super) fn transcript(ended: &Ended, names: &Names) -> String {
    let stream = |name: &str, text: &str| {
        let text = steady(&without_help(&named(text, names)));
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\\\n" };
        if text.is_empty() { String::new() } else { format!("{name}:\n{text}{end}") }
    };
    format!("{}{}exit: {}\n", stream("out", &ended.out), stream("err", &ended.err), ended.exit)
}

/// Marks a help text.
pub(super) const HELP_MARK: &str = "«help»";

/// Of a help text only the commands and flags that it names: its words are each program's own.
fn without_help(text: &str) -> String {
    static NAMED: LazyLock<Regex> =
        LazyLock::new(|| expression(r"(?m)^ +(?:(-[a-z][a-z0-9-]*)\b|([a-z][a-z-]*) {2,})"));
    // The name before the colon is the program's: `Usage of members:` is Go's own.
    let Some(start) = text.find("Usage: ").or_else(|| text.find("usage: ")) else { return text.to_owned() };
    let (before, help) = text.split_at(start);
    let named: BTreeSet<&str> = NAMED
        .captures_iter(help)
        .filter_map(|found| found.get(1).or(found.get(2)))
        .map(|m| m.as_str())
        .collect();
    let flags: Vec<&str> = named.into_iter().collect();
    format!("{before}{HELP_MARK} {}\n", flags.join(" "))
}

/// The text without measured times and counters that change by themselves.
pub(super) fn steady(text: &str) -> String {
    static COUNTER: LazyLock<Regex> = LazyLock::new(|| {
        expression(r#"(goroutines|_time|_queue|health_score|coordinate_resets|LTime)("?(?: =|:) "?)\d+"#)
    });
    static VERSION: LazyLock<Regex> =
        LazyLock::new(|| expression(r#"(version)("?(?: =|:) "?)(go|thane )?\d[0-9a-z.]*"#));
    static DURATION: LazyLock<Regex> = LazyLock::new(|| expression(r"\d+\.\d+ (ms|sec)"));
    static LOG_TIME: LazyLock<Regex> = LazyLock::new(|| expression(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d "));
    static CLIENT: LazyLock<Regex> =
        LazyLock::new(|| expression(r"(from=|client: |client |from )(<\w+>|127\.0\.0\.1):\d+"));
    static PICKED_PORT: LazyLock<Regex> =
        LazyLock::new(|| expression(r#"(<\w+>:|"port": )(3[3-9]|4\d|5\d|6[0-5])\d{3}\b"#));
    static KEY: LazyLock<Regex> = LazyLock::new(|| expression("(?m)^[A-Za-z0-9+/]{43}=$"));
    let text = KEY.replace_all(text, "«key»");
    let text = PICKED_PORT.replace_all(&text, "$1#");
    let text = COUNTER.replace_all(&text, "$1$2#");
    let text = VERSION.replace_all(&text, "$1$2#");
    let text = DURATION.replace_all(&text, "# $1");
    let text = LOG_TIME.replace_all(&text, "");
    CLIENT.replace_all(&text, "$1$2:#").into_owned()
}

/// The lines in one order, and so the tags in a line; a list's commas in JSON are dropped with it.
pub(super) fn sorted(text: &str) -> String {
    static TAGS: LazyLock<Regex> = LazyLock::new(|| expression(r"\S+=\S+"));
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let line = TAGS.replace_all(line, |found: &Captures| {
                let mut tags: Vec<&str> = found[0].split(',').collect();
                tags.sort_unstable();
                tags.join(",")
            });
            line.trim_end().trim_end_matches(',').to_owned() + "\n"
        })
        .collect();
    lines.sort_unstable();
    lines.concat()
}

/// The lines that only one of two texts has, in their order.
pub(super) fn difference(serf: &str, thane: &str) -> String {
    let (theirs, ours): (Vec<&str>, Vec<&str>) = (serf.lines().collect(), thane.lines().collect());
    // How many lines the texts have in common from each pair of places on.
    let mut common = vec![vec![0_u32; ours.len() + 1]; theirs.len() + 1];
    for (i, line) in theirs.iter().enumerate().rev() {
        for (j, other) in ours.iter().enumerate().rev() {
            common[i][j] =
                if line == other { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < theirs.len() || j < ours.len() {
        if i < theirs.len() && j < ours.len() && theirs[i] == ours[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == ours.len() || (i < theirs.len() && common[i + 1][j] >= common[i][j + 1]) {
            text += &format!("    serf  {}\n", shortened(theirs[i]));
            i += 1;
        } else {
            text += &format!("    thane {}\n", shortened(ours[j]));
            j += 1;
        }
    }
    text
}

fn shortened(line: &str) -> String {
    const CHARS_MAX: usize = 400;
    match line.char_indices().nth(CHARS_MAX) {
        Some((cut, _)) => format!("{}… ({} bytes)", &line[..cut], line.len()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_help_text_is_reduced_to_what_it_names() {
        let text = "wrong\nUsage: serf members [options]\n\n  Words.\n\nOptions:\n\n  -name=<re>    Words\n  -x\n  agent    Words\n";
        assert_eq!(without_help(text), "wrong\n«help» -name -x agent\n");
    }

    #[test]
    fn times_and_counters_are_left_out() {
        let text = "2026/11/28 11:54:04 [INFO] rtt: 0.326 ms\n\tmember_time = 77\n\"version\": \"go1.19\"";
        assert_eq!(steady(text), "[INFO] rtt: # ms\n\tmember_time = #\n\"version\": \"#\"");
    }

    #[test]
    fn a_difference_shows_the_lines_that_one_side_has() {
        assert_eq!(difference("a\nb\nd\ne\n", "a\nc\nd\nf\ne\n"), "    serf  b\n    thane c\n    thane f\n");
    }
}
