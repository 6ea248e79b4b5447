//! The trace hash: one number over everything that happened, in order. It is the same on every machine, so
//! two runs of one seed that differ anywhere get different hashes.

/// How much goes into the trace hash.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum TraceLevel {
    /// Arrival times, receivers and every byte.
    #[default]
    Bytes,
    /// Arrival times, receivers and lengths: cheaper where megabytes of push/pull arrive.
    Arrivals,
}

/// A running hash: eight bytes for one multiplication.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    hash: u64,
    pub(super) level: TraceLevel,
}

/// Odd, with well mixed bits (the golden ratio's fraction).
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Trace {
    pub(super) fn new() -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, level: TraceLevel::default() }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn mix(&mut self, value: u64) {
        self.hash = mixed(self.hash, value);
    }

    pub(super) fn mix_bytes(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        if self.level == TraceLevel::Arrivals {
            return;
        }
        let (blocks, rest) = bytes.as_chunks::<{ 8 * LANES }>();
        if !blocks.is_empty() {
            // Each lane waits only for itself: a state of a megabyte is mixed as fast as it is read.
            let mut lanes = [self.hash; LANES];
            for block in blocks {
                let (words, _) = block.as_chunks::<8>();
                for (lane, word) in lanes.iter_mut().zip(words) {
                    *lane = mixed(*lane, u64::from_le_bytes(*word));
                }
            }
            lanes.into_iter().for_each(|lane| self.mix(lane));
        }
        let (words, rest) = rest.as_chunks::<8>();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last));
    }
}

/// Hashes side by side over long bytes.
const LANES: usize = 8;

fn mixed(hash: u64, value: u64) -> u64 {
    let product = u128::from(hash ^ value) * u128::from(FACTOR);
    (product >> 64) as u64 ^ (product as u64).rotate_left(31) ^ value.rotate_left(17)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(level: TraceLevel, bytes: &[u8]) -> u64 {
        let mut trace = Trace { level, ..Trace::new() };
        trace.mix_bytes(bytes);
        trace.hash()
    }

    #[test]
    fn every_bit_counts_and_the_value_is_fixed() {
        let base = hash(TraceLevel::Bytes, &[7; 20]);
        for bytes in [20, 64, 150] {
            let base = hash(TraceLevel::Bytes, &vec![7; bytes]);
            for bit in 0..bytes * 8 {
                let mut bytes = vec![7; bytes];
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(hash(TraceLevel::Bytes, &bytes), base, "bit {bit} of {}", bytes.len());
            }
        }
        assert_ne!(hash(TraceLevel::Bytes, &[7; 21]), base);
        assert_eq!(hash(TraceLevel::Arrivals, &[7; 20]), hash(TraceLevel::Arrivals, &[8; 20]));
        assert_ne!(hash(TraceLevel::Arrivals, &[7; 20]), hash(TraceLevel::Arrivals, &[7; 21]));
    }
}
