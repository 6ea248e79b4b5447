//! Tags on a command line: `name=value`.

use std::collections::BTreeMap;

/// Reads tags from `name=value`; of two with the same name the last one counts. Everything after the first `=`
/// is the value.
///
/// # Errors
/// Serf's line about the first word that has no name or no `=`.
pub(crate) fn parse(words: &[String]) -> Result<BTreeMap<String, String>, String> {
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(format!("Error: Invalid tag: '{word}'")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Vec<(String, String)>, String> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        parse(&words).map(|tags| tags.into_iter().collect())
    }

    #[test]
    fn the_last_of_a_name_counts_and_the_value_may_hold_an_equals_sign() {
        let expected = [("a", "4"), ("b", "2=3"), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(parsed(&["a=1", "b=2=3", "a=4", "c="]), Ok(expected.into()));
        assert_eq!(parsed(&[]), Ok(Vec::new()));
    }

    #[test]
    fn a_word_without_name_or_equals_sign_is_refused() {
        assert_eq!(parsed(&["a=1", "foo"]), Err("Error: Invalid tag: 'foo'".to_owned()));
        assert_eq!(parsed(&["=foo"]), Err("Error: Invalid tag: '=foo'".to_owned()));
    }
}
