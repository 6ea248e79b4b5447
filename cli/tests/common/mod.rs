//! What the integration tests that need real Serf share: where its binary is.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary of real Serf: the one in PATH, else Debian's package unpacked below the target directory (no root needed).
///
/// Without Serf `test` cannot run: that is said on stderr past the harness's capture and the caller returns. Under
/// `CI=true` it is a failure instead, so that a green run there always means that Serf was met.
pub(crate) fn real_serf(test: &str) -> Option<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(|| in_path().map_or_else(unpacked, Ok)) {
        Ok(path) => Some(path),
        Err(reason) if env::var_os("CI").is_some_and(|ci| ci == "true") => {
            panic!("{test} needs real Serf: {reason}")
        }
        Err(reason) => {
            let notice = format!("NOT RUN: {test}: no real Serf: {reason}\n");
            std::io::stderr().write_all(notice.as_bytes()).expect("stderr takes a line");
            None
        }
    }
}

fn in_path() -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join("serf")).find(|file| file.is_file())
}

fn unpacked() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the tmp directory lies in target");
    let root = target.join("serf-oracle");
    let binary = root.join("usr/bin/serf");
    if binary.is_file() {
        return Ok(binary);
    }
    fs::create_dir_all(&root).map_err(|error| format!("{}: {error}", root.display()))?;
    run(Command::new("apt-get").args(["download", "serf"]).current_dir(&root))?;
    let package = fs::read_dir(&root)
        .map_err(|error| format!("{}: {error}", root.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or("apt-get download left no package behind")?;
    run(Command::new("dpkg").arg("-x").arg(package).arg(&root))?;
    if binary.is_file() { Ok(binary) } else { Err(format!("no {} in the package", binary.display())) }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}
