//! AES-GCM with one key: by crate aes-gcm, or with feature `ring` by ring, which is several times faster on full
//! packets and streams but has no AES-192 and does not wipe a key's schedule from memory.

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::consts::U12;
use aes_gcm::aes::Aes192;
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm, KeyInit};

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;
/// Bytes of a tag.
pub const TAG_BYTES: usize = 16;
/// The crate that seals with keys of 16 and 32 bytes.
pub const BACKEND: &str = if cfg!(feature = "ring") { "ring" } else { "aes-gcm" };

/// The key schedule of one key.
#[derive(Clone)]
pub(super) enum Cipher {
    Aes128(Box<Aes128Gcm>),
    Aes192(Box<AesGcm<Aes192, U12>>),
    Aes256(Box<Aes256Gcm>),
    #[cfg(feature = "ring")]
    Ring(Box<ring::aead::LessSafeKey>),
}

impl Cipher {
    /// None if the key has not 16, 24 or 32 bytes.
    pub(super) fn new(key: &[u8]) -> Option<Cipher> {
        #[cfg(feature = "ring")]
        if let Some(cipher) = Cipher::ring(key) {
            return Some(cipher);
        }
        Cipher::aes_gcm(key)
    }

    fn aes_gcm(key: &[u8]) -> Option<Cipher> {
        Some(match key.len() {
            16 => Cipher::Aes128(Box::new(Aes128Gcm::new_from_slice(key).ok()?)),
            24 => Cipher::Aes192(Box::new(AesGcm::new_from_slice(key).ok()?)),
            32 => Cipher::Aes256(Box::new(Aes256Gcm::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }

    /// None if ring can't do it: there is no AES-192 in it.
    #[cfg(feature = "ring")]
    fn ring(key: &[u8]) -> Option<Cipher> {
        use ring::aead::{AES_128_GCM, AES_256_GCM, LessSafeKey, UnboundKey};
        let algorithms = [&AES_128_GCM, &AES_256_GCM];
        let algorithm = algorithms.into_iter().find(|algorithm| algorithm.key_len() == key.len())?;
        Some(Cipher::Ring(Box::new(LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?))))
    }

    /// Seals in place and returns the tag.
    pub(super) fn seal(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        const SHORT: &str = "a packet is far shorter than the 64 GiB that GCM allows";
        let nonce_of = (&nonce).into();
        match self {
            Cipher::Aes128(cipher) => cipher.encrypt_inout_detached(nonce_of, aad, text.into()),
            Cipher::Aes192(cipher) => cipher.encrypt_inout_detached(nonce_of, aad, text.into()),
            Cipher::Aes256(cipher) => cipher.encrypt_inout_detached(nonce_of, aad, text.into()),
            #[cfg(feature = "ring")]
            Cipher::Ring(key) => {
                use ring::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), text).expect(SHORT);
                return tag.as_ref().try_into().expect("a tag has 16 bytes");
            }
        }
        .expect(SHORT)
        .into()
    }

    /// Opens in place. False: it was not sealed like this with this key, and the bytes are as they were.
    pub(super) fn open(
        &self,
        nonce: [u8; NONCE_BYTES],
        aad: &[u8],
        text: &mut [u8],
        tag: [u8; TAG_BYTES],
    ) -> bool {
        let (nonce_of, tag_of) = ((&nonce).into(), (&tag).into());
        match self {
            Cipher::Aes128(cipher) => {
                cipher.decrypt_inout_detached(nonce_of, aad, text.into(), tag_of).is_ok()
            }
            Cipher::Aes192(cipher) => {
                cipher.decrypt_inout_detached(nonce_of, aad, text.into(), tag_of).is_ok()
            }
            Cipher::Aes256(cipher) => {
                cipher.decrypt_inout_detached(nonce_of, aad, text.into(), tag_of).is_ok()
            }
            #[cfg(feature = "ring")]
            Cipher::Ring(key) => open_or_restore(key, nonce, aad, text, tag),
        }
    }
}

/// ring deciphers before it knows the tag to be right, and clears the text if it is not. But the next key wants the
/// text, and so does a node that takes plain packets too while its cluster moves to encryption.
#[cfg(feature = "ring")]
fn open_or_restore(
    key: &ring::aead::LessSafeKey,
    nonce: [u8; NONCE_BYTES],
    aad: &[u8],
    text: &mut [u8],
    tag: [u8; TAG_BYTES],
) -> bool {
    use ring::aead::{Aad, Nonce};
    let (mut packet, stream);
    let before = if text.len() <= 1_500 {
        // Packets come too often for an allocation each.
        packet = [0; 1_500];
        packet[..text.len()].copy_from_slice(text);
        &packet[..text.len()]
    } else {
        stream = text.to_vec();
        stream.as_slice()
    };
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened = key.open_in_place_separate_tag(nonce, Aad::from(aad), tag.into(), text, 0..).is_ok();
    if !opened {
        text.copy_from_slice(before);
    }
    opened
}

#[cfg(all(test, feature = "ring"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ring_and_aes_gcm_open_what_the_other_sealed_and_nothing_else() {
        for key_bytes in [16, 24, 32] {
            let key: Vec<u8> = (0..key_bytes).collect();
            let ours = Cipher::new(&key).unwrap();
            assert_eq!(matches!(ours, Cipher::Ring(_)), key_bytes != 24, "there is no AES-192 in ring");
            let ciphers = [ours, Cipher::aes_gcm(&key).unwrap()];
            for len in [0usize, 1, 15, 16, 17, 1_400, 1_500, 1_501, 70_000] {
                let plain: Vec<u8> = (0..len).map(|place| place as u8).collect();
                for (sealer, opener) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let mut sealed = plain.clone();
                    let tag = ciphers[sealer].seal([5; 12], b"label", &mut sealed);
                    let opens = |nonce: [u8; 12], aad: &[u8], sealed: &[u8], tag: [u8; 16]| {
                        let mut text = sealed.to_vec();
                        let opened = ciphers[opener].open(nonce, aad, &mut text, tag);
                        assert_eq!(text, if opened { &plain[..] } else { sealed }, "{len} bytes");
                        opened
                    };
                    assert!(opens([5; 12], b"label", &sealed, tag));
                    assert!(!opens([6; 12], b"label", &sealed, tag));
                    assert!(!opens([5; 12], b"other", &sealed, tag));
                    let mut wrong = tag;
                    wrong[15] ^= 1;
                    assert!(!opens([5; 12], b"label", &sealed, wrong));
                    for place in [0, len / 2, len.saturating_sub(1)].into_iter().filter(|_| len > 0) {
                        let mut tampered = sealed.clone();
                        tampered[place] ^= 1;
                        assert!(!opens([5; 12], b"label", &tampered, tag));
                    }
                }
            }
        }
        assert!(Cipher::new(&[1; 17]).is_none());
    }
}
