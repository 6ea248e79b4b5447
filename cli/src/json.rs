//! JSON as Go's encoder writes it: indented by two spaces, with characters escaped that are special in HTML and
//! JavaScript.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter};

/// The value as indented JSON. Use sorted maps: Go sorts keys when it writes them.
pub(crate) fn to_string(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut out, GoFormatter(PrettyFormatter::new()));
    value.serialize(&mut serializer).expect("what is printed has text for keys, and memory takes all writes");
    String::from_utf8(out).expect("serde_json writes UTF-8")
}

/// Indents like serde's formatter and escapes like Go.
struct GoFormatter(PrettyFormatter<'static>);

impl Formatter for GoFormatter {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut plain = 0;
        for (place, letter) in fragment.char_indices() {
            // U+FFFD replaces bytes that are not UTF-8; Go escapes it too.
            if matches!(letter, '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{fffd}') {
                out.write_all(&fragment.as_bytes()[plain..place])?;
                write!(out, "\\u{:04x}", u32::from(letter))?;
                plain = place + letter.len_utf8();
            }
        }
        out.write_all(&fragment.as_bytes()[plain..])
    }

    fn write_char_escape<W: Write + ?Sized>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::Backspace => out.write_all(b"\\u0008"),
            CharEscape::FormFeed => out.write_all(b"\\u000c"),
            other => self.0.write_char_escape(out, other),
        }
    }

    fn begin_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn escapes_and_indents_as_go_does() {
        let text = "a<b>&\"\\\u{8}\u{c}\n\u{7f}\u{2028}\u{fffd}\u{e9}";
        let escaped = "\"a\\u003cb\\u003e\\u0026\\\"\\\\\\u0008\\u000c\\n\u{7f}\\u2028\\ufffd\u{e9}\"";
        assert_eq!(to_string(&text), escaped);
        let map = BTreeMap::from([("b", Some(vec![1])), ("a", None), ("c", Some(vec![]))]);
        assert_eq!(to_string(&map), "{\n  \"a\": null,\n  \"b\": [\n    1\n  ],\n  \"c\": []\n}");
    }
}
