//! `thane keygen`: makes a key for encryption.

use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::command::{Command, Failure};
use crate::flags::Argument;
use crate::output::say;

pub(crate) const COMMAND: Command = Command {
    name: "keygen",
    arguments: "",
    synopsis: "Make a new encryption key",
    about: "Prints a new random key of 32 bytes in base64, for -encrypt, encrypt_key or a keyring file.",
    options: &[],
    run,
};

fn run(_: &[Argument]) -> Result<ExitCode, Failure> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| Failure::of("Error reading random data", error))?;
    say(STANDARD.encode(key));
    Ok(ExitCode::SUCCESS)
}
