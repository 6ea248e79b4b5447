//! Randomness. Protocol choices come from one seeded generator, nonces from another source, so that a replayed seed
//! can't repeat a nonce under a real key, and nonces on the wire reveal nothing about protocol choices.

use std::time::{Duration, SystemTime};

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// The generator of protocol choices: same seed, same choices, on every machine.
#[derive(Clone, Debug)]
pub struct Random(Xoshiro256PlusPlus);

impl Random {
    /// A generator fully determined by `seed`.
    pub fn new(seed: u64) -> Random {
        Random(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A uniformly random 64-bit number.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A uniformly random number below `bound`. `bound` must not be zero.
    pub fn below(&mut self, bound: u32) -> u32 {
        assert!(bound > 0, "an empty range has no random element");
        // Multiply-shift; the bias of at most bound / 2^64 is far below anything observable.
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u32
    }

    /// A uniformly random number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A uniformly random duration below `bound` (zero if `bound` is zero).
    pub fn duration(&mut self, bound: Duration) -> Duration {
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(((u128::from(self.u64()) * u128::from(nanos)) >> 64) as u64)
    }

    /// Shuffles `items` in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u32 + 1) as usize;
            items.swap(i, j);
        }
    }
}

/// The source of AES-GCM nonces: the operating system's entropy for real keys, a seed in simulation. Of the system's
/// entropy nothing is kept, so a process that was forked or restored from a copy of its memory has nothing to repeat.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Nonces(Source);

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
enum Source {
    Os,
    Seeded(Random),
}

/// A seed for protocol choices from the operating system.
///
/// # Errors
/// If the operating system provides no entropy.
pub fn os_seed() -> std::io::Result<u64> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(u64::from_le_bytes(seed))
}

impl Nonces {
    /// Nonces from the operating system.
    pub fn from_os() -> Nonces {
        Nonces(Source::Os)
    }

    /// Reproducible nonces. For simulation only: two runs of one seed repeat every nonce.
    pub fn seeded(seed: u64) -> Nonces {
        Nonces(Source::Seeded(Random::new(seed)))
    }

    /// The next nonce.
    ///
    /// # Panics
    /// If the operating system provides no entropy; a predictable nonce would be worse.
    pub fn take(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        match &mut self.0 {
            Source::Seeded(random) => random.0.fill_bytes(&mut nonce),
            Source::Os => {
                getrandom::fill(&mut nonce).expect("the operating system gives entropy");
                // Two copies of a virtual machine may get the same from a kernel that does not know that it was copied.
                // They do not ask in the same nanosecond.
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let now = (now.as_nanos() as u64).to_le_bytes();
                nonce.iter_mut().zip(now).for_each(|(byte, of_time)| *byte ^= of_time);
            }
        }
        nonce
    }
}

/// A seeded permutation of `0..len` that is computed, not stored (a balanced Feistel network over the
/// next power of four, walking the cycle until the value falls in range). This is the probe order of
/// SWIM section 4.3: every member once per round, in a new random order each round.
#[derive(Copy, Clone, Debug)]
pub struct Permutation {
    len: u32,
    half_bits: u32,
    keys: [u32; 4],
}

impl Permutation {
    /// A permutation of `0..len` chosen by `random`.
    pub fn new(len: u32, random: &mut Random) -> Permutation {
        let bits = 32 - len.saturating_sub(1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(1);
        let keys = std::array::from_fn(|_| random.u64() as u32);
        Permutation { len, half_bits, keys }
    }

    /// How many elements it permutes.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it permutes nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element at `position`, which must be below `len`.
    pub fn at(&self, position: u32) -> u32 {
        assert!(position < self.len, "position {position} of a permutation of {}", self.len);
        let mut value = position;
        loop {
            value = self.encrypt(value);
            if value < self.len {
                return value;
            }
        }
    }

    fn encrypt(&self, value: u32) -> u32 {
        let mask = (1u64 << self.half_bits) as u32 - 1;
        let (mut left, mut right) = ((value >> self.half_bits) & mask, value & mask);
        for key in self.keys {
            let mixed = (right ^ key).wrapping_mul(0x9E37_79B1);
            let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x85EB_CA77);
            (left, right) = (right, left ^ ((mixed ^ (mixed >> 13)) & mask));
        }
        (left << self.half_bits) | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_visits_everything_once() {
        let mut random = Random::new(7);
        for len in [1u32, 2, 3, 4, 5, 31, 32, 33, 1000, 4097] {
            let permutation = Permutation::new(len, &mut random);
            let mut seen: Vec<u32> = (0..len).map(|i| permutation.at(i)).collect();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(0..len), "len {len}");
        }
    }

    #[test]
    fn permutations_differ_between_rounds() {
        let mut random = Random::new(7);
        let a = Permutation::new(100, &mut random);
        let b = Permutation::new(100, &mut random);
        assert!((0..100).any(|i| a.at(i) != b.at(i)));
    }

    #[test]
    fn bounded_choices_are_even() {
        let mut random = Random::new(1);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[random.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|&c| (9_500..10_500).contains(&c)), "{counts:?}");
    }

    #[test]
    fn a_copy_of_a_process_repeats_no_nonce() {
        let mut nonces = Nonces::from_os();
        for _ in 0..100 {
            nonces.take();
            // What a fork, or a virtual machine that is copied, has in memory.
            let mut copy = nonces.clone();
            assert_ne!(copy.take(), nonces.take());
        }
    }

    #[test]
    fn nonces_do_not_repeat() {
        let mut nonces = Nonces::from_os();
        let mut seen: Vec<[u8; 12]> = (0..1000).map(|_| nonces.take()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1000);
    }
}
