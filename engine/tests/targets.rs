//! Replays inputs through every target of fuzzing: the seeds, what fuzzing found, and changed seeds.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use thane_engine::targets::{TARGETS, seeds};

/// Changed inputs of each target: a world takes a tenth of a second.
fn changed(target: &str) -> usize {
    match target {
        "world" => 12,
        "node" | "merge" => 300,
        _ => 3_000,
    }
}

/// A generator of numbers; the same in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    /// A seed with some bytes changed, removed, doubled, or taken from another.
    fn change(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1));
            let end = (at + 1 + self.below(8)).min(bytes.len());
            match self.below(5) {
                0 => bytes.get_mut(at..end).unwrap_or_default().fill([0, 0x7f, 0x80, 0xff][self.below(4)]),
                1 => drop(bytes.drain(at.min(end)..end)),
                2 => bytes.extend_from_within(at.min(end)..end),
                3 => {
                    let other = &seeds[self.below(seeds.len())];
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[self.below(other.len().max(1)).min(other.len())..]);
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
        }
        bytes
    }
}

#[test]
fn no_input_breaks_a_rule() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        seeds.iter().for_each(|seed| target(seed));
        target(&[]);
        let mut draw = Draw(1);
        for _ in 0..changed(name) {
            target(&draw.change(&seeds));
        }
    }
}

#[test]
fn inputs_that_found_something_stay_fixed() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/found").join(name);
        let Ok(found) = std::fs::read_dir(folder) else { continue };
        for entry in found {
            target(&std::fs::read(entry.unwrap().path()).unwrap());
        }
    }
}
