//! Base64: keys as Go reads them, payloads for HTTP.

use base64::DecodeError;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// As in Go, the bits that the last character has too many may be anything.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Decodes base64 with padding. As in Go, line ends are ignored wherever they stand: keys come from files.
///
/// # Errors
/// The place of the first mistake, counted without line ends, in Go's words.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let text = text.replace(['\r', '\n'], "");
    LENIENT.decode(&text).map_err(|error| {
        let place = match error {
            DecodeError::InvalidByte(place, _) | DecodeError::InvalidLastSymbol { offset: place, .. } => {
                place
            }
            _ => text.len() - text.len() % 4,
        };
        format!("illegal base64 data at input byte {place}")
    })
}

/// Encodes with padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    LENIENT.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_bits_too_many_are_ignored_and_blanks_are_not() {
        assert_eq!(decode("MTIz\nNDU2\r\n"), Ok(b"123456".to_vec()));
        assert_eq!(decode("MTIzNB=="), Ok(b"1234".to_vec()));
        for (text, place) in [(" MTIz", 0), ("MTIzN", 4), ("MTIz*TIz", 4), ("zz", 0)] {
            assert_eq!(decode(text), Err(format!("illegal base64 data at input byte {place}")), "{text}");
        }
    }
}
