//! What fuzzing runs: each target takes any bytes and panics where a rule is broken. The programs of `engine/fuzz` and
//! the test `tests/targets.rs`, which replays a corpus, share them.

mod bytes;
mod files;
mod nodes;
mod seeds;
mod worlds;

pub use seeds::seeds;

/// Takes any bytes; panics where a rule is broken.
pub type Target = fn(&[u8]);

/// All targets and their names.
pub const TARGETS: [(&str, Target); 10] = [
    ("packet", bytes::packet),
    ("stream", bytes::stream),
    ("rpc", bytes::rpc),
    ("lzw", bytes::lzw),
    ("pattern", bytes::pattern),
    ("journal", files::journal),
    ("keyring", files::keyring),
    ("merge", nodes::merge),
    ("node", nodes::node),
    ("world", worlds::world),
];

/// The bytes of an input, which decide everything; zeros after its end.
struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    fn new(rest: &'a [u8]) -> Choices<'a> {
        Choices { rest }
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *first
    }

    /// Less than `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    fn wide(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// The next bytes, as many as the two next say, at most what is left.
    fn part(&mut self) -> &'a [u8] {
        let len = usize::from(u16::from_be_bytes([self.byte(), self.byte()]));
        let (part, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        part
    }

    fn text(&mut self) -> String {
        let len = self.below(12).min(self.rest.len());
        let (text, rest) = self.rest.split_at(len);
        self.rest = rest;
        String::from_utf8_lossy(text).into_owned()
    }
}
