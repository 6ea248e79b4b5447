//! The trace hash: one number over everything that happened, in order. It is the same on every machine, so
//! two runs of one seed that differ anywhere are told apart.

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
        let product = u128::from(self.hash ^ value) * u128::from(FACTOR);
        self.hash = (product >> 64) as u64 ^ (product as u64).rotate_left(31) ^ value.rotate_left(17);
    }

    pub(super) fn mix_bytes(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        if self.level == TraceLevel::Arrivals {
            return;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last));
    }
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
        for bit in 0..160 {
            let mut bytes = [7; 20];
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(hash(TraceLevel::Bytes, &bytes), base, "bit {bit}");
        }
        assert_ne!(hash(TraceLevel::Bytes, &[7; 21]), base);
        assert_eq!(hash(TraceLevel::Arrivals, &[7; 20]), hash(TraceLevel::Arrivals, &[8; 20]));
        assert_ne!(hash(TraceLevel::Arrivals, &[7; 20]), hash(TraceLevel::Arrivals, &[7; 21]));
    }
}
