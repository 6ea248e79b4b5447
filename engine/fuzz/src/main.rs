//! A target of `thane_engine::targets` under libFuzzer: THANE_TARGET names it, THANE_SEEDS is the folder that gets its
//! seeds. `engine/fuzz/run` sets both.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use thane_engine::targets::{TARGETS, Target, seeds};

static TARGET: OnceLock<Target> = OnceLock::new();

fn prepare() {
    let name = std::env::var("THANE_TARGET").unwrap_or_default();
    let known = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = known.unwrap_or_else(|| panic!("THANE_TARGET={name} is no target"));
    TARGET.get_or_init(|| *target);
    if let Some(folder) = std::env::var_os("THANE_SEEDS").map(PathBuf::from) {
        for (n, seed) in seeds(&name).into_iter().enumerate() {
            let path = folder.join(format!("seed-{n}"));
            if let Err(error) = std::fs::write(&path, seed) {
                panic!("{}: {error}", path.display());
            }
        }
    }
}

libfuzzer_sys::fuzz_target!(init: prepare(), |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        target(data);
    }
});
