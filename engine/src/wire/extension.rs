//! What Thane peers add to pings and acks under one more key. Serf peers skip keys that they don't know.

/// The key.
pub const EXTENSION_KEY: &str = "Thane";
/// The version of the extension that this node writes and reads.
const VERSION: u8 = 1;

/// The sender's capability to reconcile, and what its view is compared by.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    /// A sum over the sender's members that are alive.
    pub members: u64,
    /// How many they are.
    pub count: u32,
    /// A sum over the recent user events and queries that the sender has seen.
    pub messages: u64,
    /// A sum over the members that the sender lists as failed or left.
    pub gone: u32,
    /// For how long `members` has been what it is, in tenths of a second; 255: or longer.
    pub members_age: u8,
    /// The same of `messages`.
    pub messages_age: u8,
    /// The sender takes streams by TLS.
    pub tls: bool,
}

impl Extension {
    /// Bytes of its value at most: the last one has flags, and is left out if it has none.
    pub const BYTES_MAX: usize = 28;
    /// The flag of [`tls`](Self::tls).
    const TLS: u8 = 1;

    /// Decodes the key's value. None if it is not version 1: the peer is treated like one without the key.
    pub fn decode(bytes: &[u8]) -> Option<Extension> {
        let [VERSION, rest @ ..] = bytes else { return None };
        let (members, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (messages, rest) = rest.split_first_chunk()?;
        let (gone, rest) = rest.split_first_chunk()?;
        Some(Extension {
            members: u64::from_be_bytes(*members),
            count: u32::from_be_bytes(*count),
            messages: u64::from_be_bytes(*messages),
            gone: u32::from_be_bytes(*gone),
            members_age: *rest.first()?,
            messages_age: *rest.get(1)?,
            tls: rest.get(2).is_some_and(|flags| flags & Extension::TLS != 0),
        })
    }

    /// The key's value, written to the front of `bytes`.
    pub fn encode<'a>(&self, bytes: &'a mut [u8; Extension::BYTES_MAX]) -> &'a [u8] {
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.members.to_be_bytes());
        bytes[9..13].copy_from_slice(&self.count.to_be_bytes());
        bytes[13..21].copy_from_slice(&self.messages.to_be_bytes());
        bytes[21..25].copy_from_slice(&self.gone.to_be_bytes());
        bytes[25..28].copy_from_slice(&[
            self.members_age,
            self.messages_age,
            u8::from(self.tls) * Extension::TLS,
        ]);
        &bytes[..Extension::BYTES_MAX - usize::from(!self.tls)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_and_other_versions_are_nothing() {
        for tls in [false, true] {
            let extension = Extension {
                members: u64::MAX - 3,
                count: 10_000,
                messages: 7,
                gone: 9,
                members_age: 255,
                messages_age: 3,
                tls,
            };
            let mut buffer = [0; Extension::BYTES_MAX];
            let mut bytes = extension.encode(&mut buffer).to_vec();
            assert_eq!(bytes.len(), 27 + usize::from(tls));
            assert_eq!(Extension::decode(&bytes), Some(extension));
            for end in 0..27 {
                assert_eq!(Extension::decode(&bytes[..end]), None, "{end} bytes");
            }
            let later = [&bytes[..27], &[0xfe | u8::from(tls), 7]].concat();
            assert_eq!(Extension::decode(&later), Some(extension), "later flags are ignored");
            bytes[0] = 2;
            assert_eq!(Extension::decode(&bytes), None);
        }
    }
}
