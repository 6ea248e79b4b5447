//! The binary of `thane-loadgen`; everything is in the library.

use std::process::ExitCode;

/// States of big clusters are megabytes that come and go: the system's allocator maps them anew each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    thane_loadgen::main(std::env::args_os())
}
