//! Citations: a comment that cites a section of docs/protocol.md cites one that exists.

use std::collections::BTreeSet;

/// The numbers of the sections in a Markdown text: of `## 4 Streams` and `### 4.2 Frames`.
pub(crate) fn sections(markdown: &str) -> BTreeSet<&str> {
    let titles =
        markdown.lines().filter_map(|line| line.strip_prefix("##")).map(|rest| rest.trim_start_matches('#'));
    titles
        .filter_map(|title| title.trim_start().split(' ').next())
        .filter(|number| is_number(number))
        .collect()
}

/// The sections that a text cites: `2.3`, `section 5`, `9.3, 9.4`, `5.3 to 5.5`, `6.2 and 6.4`.
pub(crate) fn citations(text: &str) -> Vec<&str> {
    let mut cited = Vec::new();
    for (place, word) in text.match_indices("PROTOCOL") {
        let mut rest = skip_break(&text[place + word.len()..]);
        for word in ["sections", "section"] {
            rest = rest.strip_prefix(word).map_or(rest, skip_break);
        }
        let after_space = rest.len() < text.len() - place - word.len();
        while let Some(number) = leading_number(rest).filter(|_| after_space) {
            cited.push(number);
            rest = &rest[number.len()..];
            let next = [",", " and", " to"].into_iter().find_map(|between| rest.strip_prefix(between));
            rest = next.map_or("", skip_break);
        }
    }
    cited
}

/// Skips spaces, and the end of a line of comment with what begins the next.
fn skip_break(text: &str) -> &str {
    let rest = text.trim_start();
    let comment = rest.trim_start_matches(['/', '!', '#']);
    if text.len() - rest.len() > 0 { comment.trim_start() } else { text }
}

fn leading_number(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].trim_end_matches('.');
    is_number(number).then_some(number)
}

fn is_number(text: &str) -> bool {
    text.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}
