//! Reads an expression in Go's syntax and writes one of the same meaning in crate `regex`'s.
//!
//! Captures select nothing here, so every group is written as a group without one. Every literal is written so
//! that it can only be a literal.

use super::class::{self, Cost};
use super::{COST_MAX, DEPTH_MAX, PatternError, REPEAT_MAX};

/// An expression for crate `regex`, and about how much work compiling it is.
pub(super) struct Translated {
    pub(super) expr: String,
    pub(super) cost: u32,
}

/// What a repetition may follow: a literal, a class, an assertion or a whole group.
#[derive(Copy, Clone)]
struct Atom {
    cost: Cost,
    /// The largest product of nested repetition counts in it; 1 without any.
    repeats: u32,
    /// Whether it ends with a repetition, which must not be repeated once more without a group.
    repeated: bool,
}

/// A group that is open: what came before it, and the sums of what it has so far.
#[derive(Default)]
struct Group {
    cost: Cost,
    repeats: u32,
    last: Option<Atom>,
}

impl Group {
    /// Counts the last atom in: nothing can repeat it any more.
    fn settle(&mut self) {
        if let Some(atom) = self.last.take() {
            self.cost = self.cost.saturating_add(atom.cost);
            self.repeats = self.repeats.max(atom.repeats);
        }
    }

    fn push(&mut self, atom: Atom) {
        self.settle();
        self.last = Some(atom);
    }
}

struct Translator<'e> {
    expr: &'e str,
    rest: &'e str,
    out: String,
    /// The innermost one last; the first is the whole expression.
    groups: Vec<Group>,
}

/// Translates.
///
/// # Errors
/// Go refuses the expression, or it is beyond the limits of the module.
pub(super) fn translate(expr: &str) -> Result<Translated, PatternError> {
    let groups = vec![Group { repeats: 1, ..Group::default() }];
    let out = String::with_capacity(expr.len() + 16);
    let mut translator = Translator { expr, rest: expr, out, groups };
    while let Some(c) = translator.rest.chars().next() {
        translator.step(c)?;
    }
    let mut whole = translator.groups.pop().expect("the first group is never closed");
    if !translator.groups.is_empty() {
        return Err(PatternError::MissingParen(expr.to_owned()));
    }
    whole.settle();
    if whole.cost > COST_MAX {
        return Err(PatternError::TooLarge);
    }
    Ok(Translated { expr: translator.out, cost: whole.cost })
}

impl<'e> Translator<'e> {
    fn step(&mut self, c: char) -> Result<(), PatternError> {
        match c {
            '(' => return self.open_group(),
            ')' => return self.close_group(),
            '[' => {
                let class = class::read(self.rest)?;
                self.rest = class.rest;
                self.atom(&class.out, class.cost);
                return Ok(());
            }
            '\\' => return self.escape(),
            '*' | '+' | '?' => return self.repeat(1, (0, None)),
            '{' => {
                if let Some((length, min, max)) = counts(self.rest) {
                    return self.repeat(length, (min, max));
                }
                self.literal('{');
            }
            '|' => {
                self.top().settle();
                self.out.push('|');
            }
            '.' => self.atom(".", class::DOT_COST),
            '^' | '$' => self.atom(c.encode_utf8(&mut [0; 4]), 1),
            _ => self.literal(c),
        }
        self.rest = &self.rest[c.len_utf8()..];
        Ok(())
    }

    fn top(&mut self) -> &mut Group {
        self.groups.last_mut().expect("the first group is never closed")
    }

    fn atom(&mut self, out: &str, cost: Cost) {
        self.out.push_str(out);
        self.top().push(Atom { cost, repeats: 1, repeated: false });
    }

    fn literal(&mut self, c: char) {
        class::push_literal(&mut self.out, c);
        self.top().push(Atom { cost: 1, repeats: 1, repeated: false });
    }

    fn open_group(&mut self) -> Result<(), PatternError> {
        if self.groups.len() > DEPTH_MAX {
            return Err(PatternError::TooDeep);
        }
        let after = if let Some(named) = self.rest.strip_prefix("(?P<").or(self.rest.strip_prefix("(?<")) {
            self.group_name(named)?
        } else if let Some(flags) = self.rest.strip_prefix("(?") {
            let (flags, opens, after) = read_flags(flags, self.rest)?;
            if !opens {
                // They hold until the group around them ends; nothing is opened.
                self.top().settle();
                if !flags.is_empty() {
                    self.out.push_str("(?");
                    self.out.push_str(&flags);
                    self.out.push(')');
                }
                self.rest = after;
                return Ok(());
            }
            self.out.push_str("(?");
            self.out.push_str(&flags);
            self.out.push(':');
            self.rest = after;
            self.groups.push(Group { repeats: 1, ..Group::default() });
            return Ok(());
        } else {
            &self.rest[1..]
        };
        self.out.push_str("(?:");
        self.rest = after;
        self.groups.push(Group { repeats: 1, ..Group::default() });
        Ok(())
    }

    /// Checks the name of a group; gives what follows its `>`. Two groups may have one name.
    fn group_name(&self, named: &'e str) -> Result<&'e str, PatternError> {
        let bad = || PatternError::BadName(self.rest.to_owned());
        let (name, after) = named.split_once('>').ok_or_else(bad)?;
        let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() || !is_word {
            return Err(bad());
        }
        Ok(after)
    }

    fn close_group(&mut self) -> Result<(), PatternError> {
        if self.groups.len() == 1 {
            return Err(PatternError::UnexpectedParen(self.expr.to_owned()));
        }
        let mut group = self.groups.pop().expect("there are two or more");
        group.settle();
        self.out.push(')');
        self.rest = &self.rest[1..];
        self.top().push(Atom { cost: group.cost.max(1), repeats: group.repeats, repeated: false });
        Ok(())
    }

    /// A repetition whose operator has `length` bytes: `*`, `+` and `?` count as one.
    fn repeat(&mut self, length: usize, (min, max): (u32, Option<u32>)) -> Result<(), PatternError> {
        let operator = &self.rest[..length];
        let Some(atom) = self.top().last else {
            return Err(PatternError::NothingToRepeat(operator.to_owned()));
        };
        if atom.repeated {
            return Err(PatternError::NestedRepeat(operator.to_owned()));
        }
        let mut repeats = atom.repeats;
        let mut times = 1;
        if operator.starts_with('{') {
            if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || max < min) {
                return Err(PatternError::BadCount(operator.to_owned()));
            }
            times = max.unwrap_or(min);
            repeats = repeats.saturating_mul(times.max(1));
            if times >= 2 && repeats > REPEAT_MAX {
                return Err(PatternError::BadCount(operator.to_owned()));
            }
        }
        self.out.push_str(operator);
        self.rest = &self.rest[length..];
        if let Some(rest) = self.rest.strip_prefix('?') {
            self.out.push('?');
            self.rest = rest;
        }
        let cost = atom.cost.saturating_mul(times.max(1)).saturating_add(1);
        if cost > COST_MAX {
            return Err(PatternError::TooLarge);
        }
        self.top().last = Some(Atom { cost, repeats, repeated: true });
        Ok(())
    }

    fn escape(&mut self) -> Result<(), PatternError> {
        let mut chars = self.rest[1..].chars();
        match chars.next() {
            None => return Err(PatternError::TrailingBackslash),
            Some('A') => self.atom(r"\A", 1),
            Some('z') => self.atom(r"\z", 1),
            Some('b') => self.atom(r"(?-u:\b)", 1),
            Some('B') => self.atom(r"(?-u:\B)", 1),
            Some('Q') => {
                let (quoted, after) = self.rest[2..].split_once(r"\E").unwrap_or((&self.rest[2..], ""));
                quoted.chars().for_each(|c| self.literal(c));
                self.rest = after;
                return Ok(());
            }
            _ => {
                if let Some(class) = class::read_escape(self.rest)? {
                    self.rest = class.rest;
                    self.atom(&class.out, class.cost);
                    return Ok(());
                }
                let (c, after) = class::read_escaped_char(self.rest)?;
                match char::from_u32(c) {
                    Some(c) => self.literal(c),
                    // Half a surrogate pair stands in no text.
                    None => self.atom(class::NOTHING, 1),
                }
                self.rest = after;
                return Ok(());
            }
        }
        self.rest = chars.as_str();
        Ok(())
    }
}

/// Reads the flags after `(?`. Gives them with each flag once, whether a group opens (`:`) or not (`)`), and what
/// follows. Of a flag that stands twice the last one holds.
fn read_flags<'e>(flags: &'e str, whole: &str) -> Result<(String, bool, &'e str), PatternError> {
    let bad = || PatternError::BadGroup(whole.chars().take(16).collect());
    let end = flags.find([':', ')']).ok_or_else(bad)?;
    let (letters, after) = flags.split_at(end);
    let known = letters.chars().all(|c| "imsU-".contains(c));
    if !known || letters.matches('-').count() > 1 || letters.ends_with('-') {
        return Err(bad());
    }
    let (set, unset) = letters.split_once('-').unwrap_or((letters, ""));
    let written = |wanted: &dyn Fn(char) -> bool| "imsU".chars().filter(|&c| wanted(c)).collect::<String>();
    let mut out = written(&|c| set.contains(c) && !unset.contains(c));
    if !unset.is_empty() {
        out.push('-');
        out.push_str(&written(&|c| unset.contains(c)));
    }
    Ok((out, after.starts_with(':'), &after[1..]))
}

/// Reads `{n}`, `{n,}` or `{n,m}`. Gives its length in bytes, the minimum and the maximum. What has another form
/// is no repetition.
fn counts(text: &str) -> Option<(usize, u32, Option<u32>)> {
    let end = text.find('}')?;
    let (min, max) = match text[1..end].split_once(',') {
        None => {
            let count = count(&text[1..end])?;
            (count, Some(count))
        }
        Some((min, "")) => (count(min)?, None),
        Some((min, max)) => (count(min)?, Some(count(max)?)),
    };
    Some((end + 1, min, max))
}

/// A decimal number without leading zeros. One that is too long is larger than any that is allowed.
fn count(digits: &str) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    Some(digits.parse().unwrap_or(u32::MAX))
}
