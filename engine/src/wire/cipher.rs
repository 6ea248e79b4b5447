//! AES-GCM with one key: by ring, which at no size of a packet is dearer than crate aes-gcm (docs/performance.md,
//! Crypto); keys of 24 bytes by crate aes-gcm, because ring has no AES-192.

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::consts::U12;
use aes_gcm::aes::Aes192;
use aes_gcm::{AesGcm, KeyInit};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;
/// Bytes of a tag.
pub const TAG_BYTES: usize = 16;
/// The crate that seals with keys of 16 and 32 bytes.
pub const BACKEND: &str = "ring";

/// The key schedule of one key.
#[derive(Clone)]
pub(super) enum Cipher {
    /// Of 16 or 32 bytes.
    Ring(Box<LessSafeKey>),
    Aes192(Box<AesGcm<Aes192, U12>>),
}

impl Cipher {
    /// None if the key has not 16, 24 or 32 bytes.
    pub(super) fn new(key: &[u8]) -> Option<Cipher> {
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            24 => return Some(Cipher::Aes192(Box::new(AesGcm::new_from_slice(key).ok()?))),
            32 => &AES_256_GCM,
            _ => return None,
        };
        Some(Cipher::Ring(Box::new(LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?))))
    }

    /// Seals in place and returns the tag.
    pub(super) fn seal(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        const SHORT: &str = "a packet is far shorter than the 64 GiB that GCM allows";
        match self {
            Cipher::Ring(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), text).expect(SHORT);
                tag.as_ref().try_into().expect("a tag has 16 bytes")
            }
            Cipher::Aes192(cipher) => {
                cipher.encrypt_inout_detached((&nonce).into(), aad, text.into()).expect(SHORT).into()
            }
        }
    }

    /// Opens in place. False: it was not sealed like this with this key, and the bytes are as they were.
    pub(super) fn open(
        &self,
        nonce: [u8; NONCE_BYTES],
        aad: &[u8],
        text: &mut [u8],
        tag: [u8; TAG_BYTES],
    ) -> bool {
        match self {
            Cipher::Ring(key) => open_or_restore(key, nonce, aad, text, tag),
            Cipher::Aes192(cipher) => {
                cipher.decrypt_inout_detached((&nonce).into(), aad, text.into(), (&tag).into()).is_ok()
            }
        }
    }
}

/// ring deciphers before it knows the tag to be right, and clears the text if it is not. But the next key wants the
/// text, and so does a node that takes plain packets too while its cluster moves to encryption.
fn open_or_restore(
    key: &LessSafeKey,
    nonce: [u8; NONCE_BYTES],
    aad: &[u8],
    text: &mut [u8],
    tag: [u8; TAG_BYTES],
) -> bool {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use aes_gcm::{Aes128Gcm, Aes256Gcm};

    use super::*;

    /// Seals with crate aes-gcm, whatever the size of the key.
    fn by_aes_gcm(key: &[u8], nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        fn seal<C: AeadInOut + KeyInit>(key: &[u8], nonce: &[u8], aad: &[u8], text: &mut [u8]) -> Vec<u8> {
            let cipher = C::new_from_slice(key).unwrap();
            cipher.encrypt_inout_detached(nonce.try_into().unwrap(), aad, text.into()).unwrap().to_vec()
        }
        let seal = match key.len() {
            16 => seal::<Aes128Gcm>,
            24 => seal::<AesGcm<Aes192, U12>>,
            _ => seal::<Aes256Gcm>,
        };
        seal(key, &nonce, aad, text).try_into().unwrap()
    }

    #[test]
    fn seals_to_the_bytes_of_aes_gcm_and_opens_these_and_nothing_else() {
        for key_bytes in [16, 24, 32] {
            let key: Vec<u8> = (0..key_bytes).collect();
            let cipher = Cipher::new(&key).unwrap();
            for len in [0usize, 1, 15, 16, 17, 1_400, 1_500, 1_501, 70_000] {
                let plain: Vec<u8> = (0..len).map(|place| place as u8).collect();
                let (mut sealed, mut other) = (plain.clone(), plain.clone());
                let tag = cipher.seal([5; 12], b"label", &mut sealed);
                assert_eq!(tag, by_aes_gcm(&key, [5; 12], b"label", &mut other), "{len} bytes");
                assert_eq!(sealed, other, "{len} bytes");
                let opens = |nonce: [u8; 12], aad: &[u8], sealed: &[u8], tag: [u8; 16]| {
                    let mut text = sealed.to_vec();
                    let opened = cipher.open(nonce, aad, &mut text, tag);
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
        assert!(Cipher::new(&[1; 17]).is_none());
    }
}
