//! `thane-loadgen fleet`: complete nodes over pinned shards on real sockets.

mod measure;
mod options;

use std::ffi::OsString;
use std::process::ExitCode;

use self::options::{Options, USAGE};
use crate::arguments;

/// The command with its arguments.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    arguments::run("fleet", USAGE, arguments, Options::parse, |options| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(measure::measure(options))
    })
}
