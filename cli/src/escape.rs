//! Text of other nodes on its way to a terminal or a log: what would move the cursor, change colours, fake a line or
//! turn the direction of writing is shown as an escape instead. Ordinary text, also UTF-8, stays as it is.

use std::borrow::Cow;

/// Text that stands within one line.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_active)
}

/// Text that may have several lines and tabs.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| is_active(letter) && !matches!(letter, '\n' | '\t'))
}

fn escaped(text: &str, escapes: impl Fn(char) -> bool) -> Cow<'_, str> {
    // The second look is the whole truth, the first one quick.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.contains(&escapes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if escapes(letter) { out.extend(letter.escape_default()) } else { out.push(letter) }
    }
    Cow::Owned(out)
}

/// Whether a terminal does something at this letter, or shows what follows in another order: C0, DEL and C1 controls,
/// the controls of bidirectional text, separators of lines and paragraphs, and what has no width.
pub(crate) fn is_active(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}'..='\u{202e}')
        || matches!(letter, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_escaped_and_nothing_else() {
        for plain in ["", "web1", "a=b,c", "caf\u{e9} \u{65e5}\u{672c}", "\u{1f469}\u{200d}\u{1f680}", "\\"] {
            assert!(matches!(line(plain), Cow::Borrowed(same) if same == plain), "{plain:?}");
        }
        assert_eq!(line("a\x1b[31mred"), "a\\u{1b}[31mred");
        assert_eq!(line("a\nb\r\tc\x07\x7f"), "a\\nb\\r\\tc\\u{7}\\u{7f}");
        assert_eq!(line("csi\u{9b}31m"), "csi\\u{9b}31m");
        assert_eq!(line("rtl\u{202e}gnp\u{2066}\u{2028}"), "rtl\\u{202e}gnp\\u{2066}\\u{2028}");
        assert_eq!(lines("one\n\ttwo\r\x1b[2J"), "one\n\ttwo\\r\\u{1b}[2J");
    }
}
