//! The keyring file: a JSON array of keys in base64, the primary key first (PROTOCOL 10.2).

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::beside::{read_document, replace};

/// A larger file is refused, bytes. 16,000 keys fit.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// As in Go, the bits that the last character has too many may be anything.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Reads the keys of a keyring file, the primary key first.
///
/// # Errors
/// The file can't be read, is larger than 1 MiB, or is no JSON array of base64 strings with at least one element, all
/// of 16, 24 or 32 bytes: one line that says what is wrong and names the file.
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("stat {shown}: {error}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("Failed to decode keyring file {shown}: it has {size} bytes"));
    }
    let text =
        std::fs::read(path).map_err(|error| format!("Failed to read keyring file {shown}: {error}"))?;
    decode(&text, &shown.to_string())
}

/// The keys of a keyring file's text; `shown` names the file.
///
/// # Errors
/// As [`read`].
pub(crate) fn decode(text: &[u8], shown: &str) -> Result<Vec<Vec<u8>>, String> {
    // JSON's null is an empty list to Go.
    let encoded: Option<Vec<String>> =
        read_document(text).map_err(|error| format!("Failed to decode keyring file {shown}: {error}"))?;
    let encoded = encoded.unwrap_or_default();
    if encoded.is_empty() {
        return Err(format!("Keyring file contains no keys: {shown}"));
    }
    let decode = |key: &String| LENIENT.decode(key.replace(['\r', '\n'], ""));
    let keys = encoded
        .iter()
        .map(decode)
        .collect::<Result<Vec<Vec<u8>>, _>>()
        .map_err(|error| format!("Failed to decode key from keyring {shown}: {error}"))?;
    match keys.iter().find(|key| !matches!(key.len(), 16 | 24 | 32)) {
        Some(key) => Err(format!(
            "Failed to restore keyring {shown}: key size must be 16, 24 or 32 bytes, not {}",
            key.len()
        )),
        None => Ok(keys),
    }
}

/// Writes a keyring file, as [`replace`] does.
///
/// # Errors
/// The file can't be written. The old keys, or these, can be read from it.
pub fn write(path: &Path, keys: &[Vec<u8>]) -> io::Result<()> {
    let encoded: Vec<String> = keys.iter().map(|key| LENIENT.encode(key)).collect();
    let text = serde_json::to_string_pretty(&encoded).expect("strings are valid JSON");
    replace(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_keyring_is_written_as_serf_writes_it_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring");
        let keys = [vec![0; 16], vec![255; 32]];
        write(&path, &keys).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("[\n  \"AAAAAAAAAAAAAAAAAAAAAA==\",\n  \""), "{text}");
        assert!(!text.ends_with('\n'));
        assert_eq!(read(&path).unwrap(), keys);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&path), 0o600);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
            write(&path, &keys).unwrap();
            assert_eq!(mode(&path), 0o640);
        }
    }

    #[test]
    fn a_file_cut_at_any_byte_is_refused_and_never_gives_half_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring");
        let keys = [vec![3; 32], vec![5; 16]];
        write(&path, &keys).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(read(&path).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_keyring_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring");
        assert!(read(&path).unwrap_err().starts_with("stat "));
        for (text, why) in [
            ("[]", "contains no keys"),
            ("{}", "Failed to decode keyring file"),
            ("[\"AA", "Failed to decode keyring file"),
            ("[\"!\"]", "Failed to decode key from keyring"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.contains(why) && error.contains("keyring"), "{error}");
        }
    }
}
