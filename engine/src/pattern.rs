//! Regular expressions in the dialect of Go's package `regexp`, run by crate `regex`.
//!
//! Filters travel between members (queries) and from clients (`members -tag`), so a mixed cluster needs one
//! dialect: the same expression must select the same members on a Serf agent and here. [`Pattern`] reads Go's
//! syntax, refuses what Go refuses, and hands crate `regex` an expression of the same meaning. What Go reads
//! differently: a `{` that starts no repetition is a literal, `\Q…\E` quotes, `\123` is octal, a `[` inside a
//! class is a literal, classes have no set operations, and `\d`, `\s`, `\w` and `\b` know ASCII only.
//!
//! Three limits have no counterpart in Go, because an expression from a stranger must not stall an agent:
//! [`COST_MAX`], [`COMPILED_BYTES_MAX`] and [`DEPTH_MAX`].

mod class;
mod translate;

use regex::{Regex, RegexBuilder};

/// Longest compiled form of one expression, bytes.
pub const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Largest [cost](Pattern::cost) of one expression, some milliseconds of work. `[a-z0-9-]+` costs 9, `.{300}`
/// 3,601, `(\pL{20})?` would cost 12,002.
pub const COST_MAX: u32 = 4_000;
/// Deepest nesting of groups.
pub const DEPTH_MAX: usize = 100;
/// Largest count of one repetition, and of nested ones multiplied, as in Go.
const REPEAT_MAX: u32 = 1000;

/// A compiled expression. It matches anywhere in a text unless it is anchored.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    cost: u32,
}

/// Why an expression is refused. The text begins with Go's words where Go refuses it too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// `[` without its `]`.
    #[error("missing closing ]: `{0}`")]
    MissingBracket(String),
    /// `(` without its `)`.
    #[error("missing closing ): `{0}`")]
    MissingParen(String),
    /// `)` without its `(`.
    #[error("unexpected ): `{0}`")]
    UnexpectedParen(String),
    /// A range whose end comes before its start, or an unknown class name.
    #[error("invalid character class range: `{0}`")]
    BadRange(String),
    /// A backslash before something that has no meaning there.
    #[error("invalid escape sequence: `{0}`")]
    BadEscape(String),
    /// The expression ends with a backslash.
    #[error("trailing backslash at end of expression: ``")]
    TrailingBackslash,
    /// `(?` and then something that Go does not know, such as a look-ahead.
    #[error("invalid or unsupported Perl syntax: `{0}`")]
    BadGroup(String),
    /// A group name that is empty or has other characters than letters, digits and `_`.
    #[error("invalid named capture: `{0}`")]
    BadName(String),
    /// A repetition of nothing.
    #[error("missing argument to repetition operator: `{0}`")]
    NothingToRepeat(String),
    /// A repetition of a repetition.
    #[error("invalid nested repetition operator: `{0}`")]
    NestedRepeat(String),
    /// More than 1000 repetitions, alone or multiplied, or a maximum below the minimum.
    #[error("invalid repeat count: `{0}`")]
    BadCount(String),
    /// Nested deeper than [`DEPTH_MAX`]. Go allows 1000.
    #[error("expression nests too deeply: more than {DEPTH_MAX} groups")]
    TooDeep,
    /// Beyond [`COST_MAX`] or [`COMPILED_BYTES_MAX`]. Go allows more.
    #[error("expression too large")]
    TooLarge,
}

impl Pattern {
    /// Compiles an expression in Go's syntax.
    ///
    /// # Errors
    /// Go refuses it, or it is beyond one of this module's limits.
    pub fn new(expr: &str) -> Result<Pattern, PatternError> {
        let translated = translate::translate(expr)?;
        let built = RegexBuilder::new(&translated.expr).size_limit(COMPILED_BYTES_MAX).build();
        match built {
            Ok(regex) => Ok(Pattern { regex, cost: translated.cost }),
            Err(regex::Error::Syntax(_)) => Err(PatternError::BadRange(expr.to_owned())),
            Err(_) => Err(PatternError::TooLarge),
        }
    }

    /// Whether the expression matches some part of the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// About how much work compiling it was: 1 for a literal, more for classes, multiplied by repetitions.
    pub fn cost(&self) -> u32 {
        self.cost
    }

    /// The cost of an expression without compiling it, so that a caller with a budget can refuse it early.
    ///
    /// # Errors
    /// As those of [`new`](Self::new), except that an unknown Unicode class passes.
    pub fn cost_of(expr: &str) -> Result<u32, PatternError> {
        translate::translate(expr).map(|translated| translated.cost)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn matches(expr: &str, text: &str) -> bool {
        Pattern::new(expr).unwrap_or_else(|error| panic!("{expr}: {error}")).is_match(text)
    }

    #[test]
    fn a_brace_that_starts_no_repetition_is_a_literal() {
        assert!(matches("^a{$", "a{"));
        assert!(matches("^{,5}$", "{,5}"));
        assert!(matches("^a{01}$", "a{01}"));
        assert!(matches("^a{2}$", "aa"));
        assert!(matches("^a{2,}$", "aaaa"));
        assert!(!matches("^a{2,3}$", "aaaa"));
    }

    #[test]
    fn classes_have_no_nesting_and_no_set_operations() {
        assert!(matches("^[[p]$", "["));
        assert!(matches("^[x&&]+$", "x&&"));
        assert!(Pattern::new("^[a--b]$").is_err(), "a range from a to -");
        assert!(matches("^[]a]+$", "]a"));
        assert!(matches("^[a~~b]+$", "a~b"));
        assert!(matches("^[[:digit:]x]+$", "7x"));
        assert!(!matches("^[^[:digit:]]$", "7"));
        assert!(matches(r"^[\d.]+$", "1.2"));
        assert!(matches(r"^[^\D]+$", "12"));
    }

    #[test]
    fn perl_classes_know_ascii_only() {
        assert!(!matches(r"^\d$", "٣"));
        assert!(!matches(r"^\w$", "é"));
        assert!(matches(r"^\W$", "é"));
        assert!(!matches(r"^\s$", "\u{b}"), "Go's \\s has no vertical tab");
        assert!(matches(r"é\b", "éa"), "é is no word character, a is");
        assert!(matches(r"^\pL$", "é"));
        assert!(matches(r"^\p{Greek}$", "λ"));
        assert!(!matches(r"^\P{Greek}$", "λ"));
        assert!(!matches(r"^\p{^Greek}$", "λ"));
    }

    #[test]
    fn quotes_and_numbers_are_literals() {
        assert!(matches(r"^\Qa.b*\E$", "a.b*"));
        assert!(matches(r"^\Qa.b", "a.b"));
        assert!(matches(r"^\101\x42\x{43}$", "ABC"));
        assert!(matches(r"^\_\-\<$", "_-<"));
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for expr in [
            "a**",
            "a*+",
            "a{2}{3}",
            "*a",
            "(*a)",
            "a|*b",
            "a{1001}",
            "(a{100}){11}",
            "a{3,2}",
            "(a",
            "a)",
            "[a",
            r"\8",
            r"\1",
            r"\Z",
            r"\C",
            r"\q",
            r"\é",
            "a\\",
            "(?=a)",
            "(?x)a",
            "(?<!a)b",
            "(?P<>a)",
            "(?P<n-m>a)",
            "[b-a]",
            "[[:nope:]]",
            r"[\b]",
            r"\x{110000}",
            r"\p{Nope}",
            r"\p{greek}",
        ] {
            assert!(Pattern::new(expr).is_err(), "{expr}");
        }
    }

    #[test]
    fn one_expression_costs_a_bounded_amount() {
        for expr in [r"(\pL{900})?", "((.{100}){10})?", r"(\w{30}){30}", r"(?i)([a-z\pL]{100})?"] {
            assert_eq!(Pattern::new(expr).err(), Some(PatternError::TooLarge), "{expr}");
        }
        assert_eq!(Pattern::new(&"(".repeat(DEPTH_MAX + 1)).err(), Some(PatternError::TooDeep));
        assert!(Pattern::new("web-[0-9]{1,3}|db.*").unwrap().cost() < 100);
    }
}
