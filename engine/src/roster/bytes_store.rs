//! Small byte strings packed into large blocks. An allocation for each would cost 16 bytes more, and would be
//! scattered among allocations that are freed soon after, whose memory could then not be returned to the system.

/// Bytes in a block.
const BLOCK_BYTES: usize = 64 * 1024;
/// Unit in which places are counted, bytes.
const UNIT_BYTES: usize = 8;
const BLOCK_UNITS: usize = BLOCK_BYTES / UNIT_BYTES;

/// The place of a byte string.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    unit: u32,
    bytes: u32,
}

impl Stored {
    /// The empty string.
    pub(crate) const EMPTY: Stored = Stored { unit: 0, bytes: 0 };

    fn units(self) -> usize {
        (self.bytes as usize).div_ceil(UNIT_BYTES)
    }
}

/// The byte strings of one roster.
#[derive(Debug, Default)]
pub(crate) struct BytesStore {
    blocks: Vec<Box<[u8]>>,
    /// Units of the last block that are in use.
    taken: usize,
    /// Free places, by their length in units.
    free: Vec<Vec<u32>>,
}

impl BytesStore {
    /// Stores a string, given in parts.
    ///
    /// # Panics
    /// The string is longer than a block. The limits of what peers send are far below that.
    pub(crate) fn store(&mut self, parts: &[&[u8]]) -> Stored {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes == 0 {
            return Stored::EMPTY;
        }
        let stored = Stored { unit: self.find(bytes.div_ceil(UNIT_BYTES)), bytes: bytes as u32 };
        let mut rest = self.bytes_mut(stored);
        for part in parts {
            let (here, after) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        }
        stored
    }

    /// A stored string.
    pub(crate) fn get(&self, stored: Stored) -> &[u8] {
        if stored.bytes == 0 {
            return &[];
        }
        let (block, start) = position(stored);
        &self.blocks[block][start..start + stored.bytes as usize]
    }

    /// Frees a string's place.
    pub(crate) fn free(&mut self, stored: Stored) {
        let units = stored.units();
        if units == 0 {
            return;
        }
        if self.free.len() <= units {
            self.free.resize(units + 1, Vec::new());
        }
        self.free[units].push(stored.unit);
    }

    fn find(&mut self, units: usize) -> u32 {
        if let Some(unit) = self.free.get_mut(units).and_then(Vec::pop) {
            return unit;
        }
        assert!(units <= BLOCK_UNITS, "a string of {units} units");
        if self.blocks.is_empty() || self.taken + units > BLOCK_UNITS {
            self.blocks.push(vec![0; BLOCK_BYTES].into());
            self.taken = 0;
        }
        let unit = (self.blocks.len() - 1) * BLOCK_UNITS + self.taken;
        self.taken += units;
        u32::try_from(unit).expect("32 GiB of names don't fit in memory")
    }

    fn bytes_mut(&mut self, stored: Stored) -> &mut [u8] {
        let (block, start) = position(stored);
        &mut self.blocks[block][start..start + stored.bytes as usize]
    }
}

/// The block of a place, and its first byte there.
fn position(stored: Stored) -> (usize, usize) {
    let unit = stored.unit as usize;
    (unit / BLOCK_UNITS, unit % BLOCK_UNITS * UNIT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn strings_come_back_as_they_went_and_places_are_used_again() {
        let (mut store, mut random) = (BytesStore::default(), Random::new(3));
        let mut kept: Vec<(Stored, Vec<u8>)> = Vec::new();
        for n in 0..20_000u32 {
            if kept.len() == 500 {
                let (stored, bytes) = kept.swap_remove(random.below(500) as usize);
                assert_eq!(store.get(stored), bytes);
                store.free(stored);
            }
            let bytes: Vec<u8> = (0..random.below(90)).map(|i| (n + i) as u8).collect();
            let (front, back) = bytes.split_at(bytes.len() / 3);
            kept.push((store.store(&[front, back]), bytes));
        }
        assert!(kept.iter().all(|(stored, bytes)| store.get(*stored) == bytes));
        assert!(store.blocks.len() <= 4, "{} blocks for 500 strings", store.blocks.len());
    }

    #[test]
    fn the_empty_string_takes_no_place() {
        let mut store = BytesStore::default();
        let empty = store.store(&[b"", b""]);
        assert_eq!((empty, store.get(empty)), (Stored::EMPTY, &b""[..]));
        store.free(empty);
        assert!(store.blocks.is_empty());
    }
}
