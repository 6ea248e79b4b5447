//! Base64: keys as Go reads them, payloads for HTTP.

use base64::DecodeError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Decodes base64 with padding. As in Go, line ends are ignored wherever they stand: keys come from files.
///
/// # Errors
/// The place and the kind of the first mistake, counted without line ends.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    STANDARD.decode(text.replace(['\r', '\n'], ""))
}

/// Encodes with padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_ignored_and_blanks_are_not() {
        assert_eq!(decode("MTIz\nNDU2\r\n"), Ok(b"123456".to_vec()));
        assert!(decode(" MTIz").is_err());
        assert!(decode("MTIzN").is_err());
    }
}
