//! `thane-loadgen fleet`: complete nodes over pinned shards on real sockets.

mod measure;
mod options;

use std::ffi::OsString;
use std::process::ExitCode;

use self::options::{Options, USAGE};

/// The command with its arguments.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let arguments: Vec<String> =
        arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    if arguments.iter().any(|argument| matches!(argument.as_str(), "-h" | "--help")) {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(&arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("thane-loadgen fleet: {error}\n\n{USAGE}");
            return ExitCode::from(crate::EXIT_USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("thane-loadgen fleet: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(measure::measure(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thane-loadgen fleet: {error}");
            ExitCode::FAILURE
        }
    }
}
