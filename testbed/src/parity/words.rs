//! Command lines as cases write them.

/// Splits a line into words: blanks separate, '…' and "…" join.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            (_, Some(end)) if c == end => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Replaces `{NAME}` by what is known under that name, and `{xN}` by N times `x`.
pub(super) fn filled(text: &str, known: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        filled.push_str(&rest[..start]);
        rest = &rest[start..];
        let name = rest.find('}').map(|end| &rest[1..end]);
        let repeated = |name: &str| Some("x".repeat(name.strip_prefix('x')?.parse().ok()?));
        match name.and_then(|name| Some((name, known(name).or_else(|| repeated(name))?))) {
            Some((name, value)) => {
                filled.push_str(&value);
                rest = &rest[name.len() + 2..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_join_what_blanks_separate() {
        assert_eq!(words("a  'b c' d=\"e f\" ''"), ["a", "b c", "d=e f", ""]);
    }

    #[test]
    fn only_known_names_are_filled_in() {
        let known = |name: &str| (name == "ip").then(|| "127.0.0.1".to_owned());
        assert_eq!(filled(r#"{ip}:1 {"a": {}} {x3} {y}"#, known), r#"127.0.0.1:1 {"a": {}} xxx {y}"#);
    }
}
