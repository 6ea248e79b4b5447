//! Character classes and escapes of Go's syntax.

use std::fmt::Write as _;

use super::PatternError;

/// About how many steps of a compiled expression something takes.
pub(super) type Cost = u32;

/// Any character: the ways in which UTF-8 encodes one.
pub(super) const DOT_COST: Cost = 12;
/// A class of ASCII ranges.
const ASCII_COST: Cost = 8;
/// A class that has most characters: the complement of a small one.
const WIDE_COST: Cost = 40;
/// A class of Unicode's, with hundreds of ranges.
const UNICODE_COST: Cost = 600;

/// A class that no character is in.
pub(super) const NOTHING: &str = r"[^\x{0}-\x{10FFFF}]";

/// A class that was read.
pub(super) struct Class<'e> {
    /// The same in crate `regex`'s syntax.
    pub(super) out: String,
    pub(super) cost: Cost,
    /// What follows it.
    pub(super) rest: &'e str,
}

/// Go's `\d`, `\s` and `\w`, and what is in them.
const PERL: [(char, &str); 3] = [('d', "0-9"), ('s', r"\t\n\x0C\r\x20"), ('w', "0-9A-Za-z_")];

/// The names between `[:` and `:]`.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// Unicode's general categories as Go names them.
const CATEGORIES: &str =
    " C Cc Cf Co L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs ";

/// Writes a character so that it can only be a literal, inside and outside of classes.
pub(super) fn push_literal(out: &mut String, c: char) {
    if c.is_ascii() && !c.is_ascii_alphanumeric() {
        write!(out, r"\x{:02X}", u32::from(c)).expect("a String takes everything");
    } else {
        out.push(c);
    }
}

/// Reads a class that starts with `[`.
///
/// # Errors
/// Go refuses it.
pub(super) fn read(text: &str) -> Result<Class<'_>, PatternError> {
    let unclosed = || PatternError::MissingBracket(text.to_owned());
    let (mut rest, negated) = match text.strip_prefix("[^") {
        Some(rest) => (rest, true),
        None => (&text[1..], false),
    };
    let mut out = String::from(if negated { "[^" } else { "[" });
    let mut cost = if negated { WIDE_COST } else { ASCII_COST };
    let mut is_empty = true;
    while !rest.starts_with(']') || is_empty {
        is_empty = false;
        if rest.is_empty() {
            return Err(unclosed());
        }
        if let Some((named, after)) = read_posix(rest)? {
            out.push_str(named);
            rest = after;
            continue;
        }
        if rest.starts_with('\\')
            && let Some(class) = read_escape(rest)?
        {
            out.push_str(&class.out);
            cost = cost.max(class.cost);
            rest = class.rest;
            continue;
        }
        let start = rest;
        let (low, after) = read_class_char(rest, text)?;
        rest = after;
        let mut high = low;
        if let Some(after) = rest.strip_prefix('-').filter(|after| !after.starts_with(']')) {
            (high, rest) = read_class_char(after, text)?;
            if high < low {
                return Err(PatternError::BadRange(start[..start.len() - rest.len()].to_owned()));
            }
        }
        push_range(&mut out, low, high);
        if !char::from_u32(high).is_some_and(|c| c.is_ascii()) {
            cost = cost.max(WIDE_COST);
        }
    }
    // A class of halves of surrogate pairs only has nothing that a text can hold.
    if out.ends_with('[') || out.ends_with("[^") {
        out = if negated { r"[\x{0}-\x{10FFFF}]".to_owned() } else { NOTHING.to_owned() };
    } else {
        out.push(']');
    }
    Ok(Class { out, cost, rest: &rest[1..] })
}

/// Writes a range without the halves of surrogate pairs, which are no characters here.
fn push_range(out: &mut String, low: u32, high: u32) {
    let low = if (0xD800..=0xDFFF).contains(&low) { 0xE000 } else { low };
    let high = if (0xD800..=0xDFFF).contains(&high) { 0xD7FF } else { high };
    if low > high {
        return;
    }
    let is_plain = |c: u32| char::from_u32(c).is_some_and(|c| !c.is_ascii() || c.is_ascii_alphanumeric());
    for (place, c) in [low, high].into_iter().enumerate() {
        if place == 1 {
            if low == high {
                return;
            }
            out.push('-');
        }
        match char::from_u32(c).filter(|_| is_plain(c)) {
            Some(c) => out.push(c),
            None => write!(out, r"\x{{{c:X}}}").expect("a String takes everything"),
        }
    }
}

/// Reads `[:name:]` or `[:^name:]`. None if the text is not of that form.
fn read_posix(text: &str) -> Result<Option<(&str, &str)>, PatternError> {
    let Some(end) = text.strip_prefix("[:").and_then(|after| after.find(":]")).map(|end| end + 4) else {
        return Ok(None);
    };
    let (named, rest) = text.split_at(end);
    let name = named[2..end - 2].trim_start_matches('^');
    if POSIX.contains(&name) && named.matches('^').count() <= 1 {
        return Ok(Some((named, rest)));
    }
    Err(PatternError::BadRange(named.to_owned()))
}

/// Reads an escape that stands for a class: `\d` and its like, `\pL`, `\p{Greek}`. None if it is another one.
///
/// # Errors
/// A Unicode class that Go does not know.
pub(super) fn read_escape(text: &str) -> Result<Option<Class<'_>>, PatternError> {
    let mut chars = text[1..].chars();
    let Some(letter) = chars.next() else { return Err(PatternError::TrailingBackslash) };
    if matches!(letter, 'p' | 'P') {
        return read_unicode(text, letter == 'P', chars.as_str()).map(Some);
    }
    let known = |(name, _): &&(char, &str)| name.eq_ignore_ascii_case(&letter);
    Ok(PERL.iter().find(known).map(|(_, ranges)| {
        let negated = letter.is_ascii_uppercase();
        let out = format!("[{}{ranges}]", if negated { "^" } else { "" });
        Class { out, cost: if negated { WIDE_COST } else { ASCII_COST }, rest: chars.as_str() }
    }))
}

/// Reads what follows `\p` or `\P`.
fn read_unicode<'e>(whole: &str, negated: bool, text: &'e str) -> Result<Class<'e>, PatternError> {
    let bad = || PatternError::BadRange(whole.chars().take(24).collect());
    let (name, rest) = match text.strip_prefix('{') {
        Some(braced) => braced.split_once('}').ok_or_else(bad)?,
        None => text.split_at(text.chars().next().ok_or_else(bad)?.len_utf8()),
    };
    let (name, negated) = match name.strip_prefix('^') {
        Some(name) => (name, !negated),
        None => (name, negated),
    };
    let letter = if negated { 'P' } else { 'p' };
    let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let starts_upper = name.starts_with(|c: char| c.is_ascii_uppercase());
    let out = match name {
        "Any" if negated => NOTHING.to_owned(),
        "Any" => r"[\x{0}-\x{10FFFF}]".to_owned(),
        // Halves of surrogate pairs: no text holds one.
        "Cs" if negated => r"[\x{0}-\x{10FFFF}]".to_owned(),
        "Cs" => NOTHING.to_owned(),
        _ if CATEGORIES.contains(&format!(" {name} ")) => format!(r"\{letter}{{gc={name}}}"),
        // Crate `regex` refuses names that are no script's.
        _ if is_word && starts_upper && name.len() > 2 => format!(r"\{letter}{{sc={name}}}"),
        _ => return Err(bad()),
    };
    Ok(Class { out, cost: UNICODE_COST, rest })
}

/// Reads one character of a class, escaped or not; `class` is the whole class, for the error.
fn read_class_char<'e>(text: &'e str, class: &str) -> Result<(u32, &'e str), PatternError> {
    match text.chars().next() {
        None => Err(PatternError::MissingBracket(class.to_owned())),
        Some('\\') => read_escaped_char(text),
        Some(c) => Ok((u32::from(c), &text[c.len_utf8()..])),
    }
}

/// Reads an escape that stands for one character. Gives its number, which may be half a surrogate pair.
///
/// # Errors
/// It stands for nothing in Go.
pub(super) fn read_escaped_char(text: &str) -> Result<(u32, &str), PatternError> {
    let bad = || PatternError::BadEscape(text.chars().take(8).collect());
    let mut chars = text[1..].chars();
    let Some(c) = chars.next() else { return Err(PatternError::TrailingBackslash) };
    let rest = chars.as_str();
    let octal =
        |text: &str, max: usize| text.bytes().take(max).take_while(|b| (b'0'..=b'7').contains(b)).count();
    match c {
        // A single digit that is not zero would be a back reference.
        '1'..='7' if octal(rest, 1) == 0 => Err(bad()),
        '0'..='7' => {
            let (digits, after) = text[1..].split_at(1 + octal(rest, 2));
            Ok((u32::from_str_radix(digits, 8).map_err(|_| bad())?, after))
        }
        'x' => {
            let (digits, after) = match rest.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or_else(bad)?,
                None => rest.split_at_checked(2).ok_or_else(bad)?,
            };
            let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = u32::from_str_radix(digits, 16).ok().filter(|&n| is_hex && n <= 0x10_FFFF);
            Ok((number.ok_or_else(bad)?, after))
        }
        'a' => Ok((0x07, rest)),
        'f' => Ok((0x0C, rest)),
        'n' => Ok((0x0A, rest)),
        'r' => Ok((0x0D, rest)),
        't' => Ok((0x09, rest)),
        'v' => Ok((0x0B, rest)),
        _ if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok((u32::from(c), rest)),
        _ => Err(bad()),
    }
}
