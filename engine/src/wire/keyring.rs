//! The keyring and the encryption envelope (PROTOCOL 2.5): version byte, nonce, ciphertext, tag.

use thiserror::Error;

use crate::wire::cipher::Cipher;
pub use crate::wire::cipher::{BACKEND, NONCE_BYTES, TAG_BYTES};
use crate::wire::decode_error::DecodeError;

/// Version byte, nonce and tag.
pub const OVERHEAD_BYTES: usize = 1 + NONCE_BYTES + TAG_BYTES;
/// A plaintext of version 0 is padded to a multiple of this.
const PADDED_TO: usize = 16;

/// Why a keyring change was refused, in Serf's words.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyringError {
    /// Not 16, 24 or 32 bytes.
    #[error("key size must be 16, 24 or 32 bytes")]
    KeySize,
    /// Only installed keys can be used.
    #[error("Requested key is not in the keyring")]
    Unknown,
    /// The primary key stays.
    #[error("Removing the primary key is not allowed")]
    Primary,
}

/// Keys with their schedules, the primary first. Empty: no encryption.
#[derive(Clone, Default)]
pub struct Keyring {
    keys: Vec<(Vec<u8>, Cipher)>,
}

impl Keyring {
    /// A keyring of these keys, the first primary.
    ///
    /// # Errors
    /// If a key has a wrong size.
    pub fn new(keys: &[Vec<u8>]) -> Result<Keyring, KeyringError> {
        let mut keyring = Keyring::default();
        for key in keys {
            keyring.install(key)?;
        }
        Ok(keyring)
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys, the primary first.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(|(key, _)| key.as_slice())
    }

    /// Adds a key. The first one becomes primary; one that is there already is fine.
    ///
    /// # Errors
    /// If the key has a wrong size.
    pub fn install(&mut self, key: &[u8]) -> Result<(), KeyringError> {
        if !self.keys().any(|known| known == key) {
            let cipher = Cipher::new(key).ok_or(KeyringError::KeySize)?;
            self.keys.push((key.to_vec(), cipher));
        }
        Ok(())
    }

    /// Makes an installed key primary.
    ///
    /// # Errors
    /// If the key is not installed.
    pub fn make_primary(&mut self, key: &[u8]) -> Result<(), KeyringError> {
        let place = self.keys().position(|known| known == key).ok_or(KeyringError::Unknown)?;
        self.keys[..=place].rotate_right(1);
        Ok(())
    }

    /// Removes a key; one that is not there is fine.
    ///
    /// # Errors
    /// If the key is primary.
    pub fn remove(&mut self, key: &[u8]) -> Result<(), KeyringError> {
        let place = self.keys().position(|known| known == key);
        match place {
            Some(0) => Err(KeyringError::Primary),
            Some(place) => {
                self.keys.remove(place);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Seals what `out` holds from `start` on with the primary key: puts version and nonce before it and
    /// the tag behind it. There must be a key.
    pub fn seal(&self, version: u8, nonce: [u8; NONCE_BYTES], aad: &[u8], out: &mut Vec<u8>, start: usize) {
        let (_, cipher) = self.keys.first().expect("only a keyring with keys seals");
        if version == 0 {
            let padding = PADDED_TO - (out.len() - start) % PADDED_TO;
            out.resize(out.len() + padding, padding as u8);
        }
        let header = 1 + NONCE_BYTES;
        let end = out.len();
        out.resize(end + header, 0);
        out.copy_within(start..end, start + header);
        out[start] = version;
        out[start + 1..start + header].copy_from_slice(&nonce);
        let tag = cipher.seal(nonce, aad, &mut out[start + header..]);
        out.extend_from_slice(&tag);
    }

    /// Opens an envelope in place. Keys are tried primary first; a failed try leaves the bytes as they were.
    ///
    /// # Errors
    /// Why it can't be opened.
    pub fn open<'a>(&self, aad: &[u8], envelope: &'a mut [u8]) -> Result<&'a mut [u8], DecodeError> {
        self.open_by(aad, envelope).map(|(_, plain)| plain)
    }

    /// Like [`open`](Self::open), and returns the place of the key that opened it.
    ///
    /// # Errors
    /// Why it can't be opened.
    pub fn open_by<'a>(
        &self,
        aad: &[u8],
        envelope: &'a mut [u8],
    ) -> Result<(usize, &'a mut [u8]), DecodeError> {
        let (&mut version, sealed) = envelope.split_first_mut().ok_or(DecodeError::Empty)?;
        if version > 1 {
            return Err(DecodeError::BadEnvelopeVersion);
        }
        let shortest = if version == 0 { OVERHEAD_BYTES + PADDED_TO } else { OVERHEAD_BYTES };
        if 1 + sealed.len() < shortest {
            return Err(DecodeError::EnvelopeTooShort);
        }
        let (nonce, rest) = sealed.split_first_chunk_mut().ok_or(DecodeError::EnvelopeTooShort)?;
        let (ciphertext, tag) = rest.split_last_chunk_mut().ok_or(DecodeError::EnvelopeTooShort)?;
        let opens = |(_, cipher): &(Vec<u8>, Cipher)| cipher.open(*nonce, aad, ciphertext, *tag);
        let key = self.keys.iter().position(opens).ok_or(DecodeError::WrongKey)?;
        let len = match version {
            0 => unpadded_len(ciphertext).ok_or(DecodeError::BadPadding)?,
            _ => ciphertext.len(),
        };
        Ok((key, &mut ciphertext[..len]))
    }
}

/// Length without the padding of a version 0 plaintext: 1 to 16 bytes that say how many they are and fill
/// it to a multiple of 16. Go believes the last byte unchecked.
fn unpadded_len(padded: &[u8]) -> Option<usize> {
    let padding = usize::from(*padded.last()?);
    let len = padded.len().checked_sub(padding)?;
    let intact = (1..=PADDED_TO).contains(&padding)
        && padded.len().is_multiple_of(PADDED_TO)
        && padded[len..].iter().all(|&byte| usize::from(byte) == padding);
    intact.then_some(len)
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn seals_and_opens_every_size_and_version() {
        for (len, version) in [(16, 0), (16, 1), (24, 1), (32, 0), (32, 1)] {
            let old = vec![3; 16];
            let mut ring = Keyring::new(&[vec![7; len], old.clone()]).unwrap();
            for text in [0usize, 1, 15, 16, 17, 1400] {
                let mut out = b"head".to_vec();
                out.resize(4 + text, 9);
                ring.seal(version, [5; 12], b"label", &mut out, 4);
                let mut tampered = out[4..].to_vec();
                assert_eq!(ring.open(b"label", &mut out[4..].to_vec()).unwrap(), &vec![9; text][..]);
                assert_eq!(ring.open(b"other", &mut out[4..].to_vec()), Err(DecodeError::WrongKey));
                *tampered.last_mut().unwrap() ^= 1;
                assert_eq!(ring.open(b"label", &mut tampered), Err(DecodeError::WrongKey));
            }
            let mut sealed = b"several blocks of plaintext, and a part of one".to_vec();
            ring.seal(version, [5; 12], b"", &mut sealed, 0);
            ring.make_primary(&old).unwrap();
            // The primary key's failed try has changed nothing.
            assert_eq!(
                ring.open_by(b"", &mut sealed),
                Ok((1, &mut b"several blocks of plaintext, and a part of one".to_vec()[..]))
            );
            assert_eq!(ring.remove(&old), Err(KeyringError::Primary));
            assert_eq!(ring.make_primary(&[1; 16]), Err(KeyringError::Unknown));
            ring.remove(&vec![7; len]).unwrap();
            assert_eq!(ring.keys().count(), 1);
        }
        assert_eq!(Keyring::new(&[vec![1; 5]]).unwrap_err(), KeyringError::KeySize);
    }
}
