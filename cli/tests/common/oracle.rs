//! Where real Serf is, for the tests of all packages: integration tests, and by `#[path]` the agent's unit tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test crate takes what it needs")]

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// Real Serf: the one in PATH, else Debian's, unpacked under `target/`. Where there is none a test can't run:
/// under CI that is a failure, elsewhere it is said, and the test ends.
pub fn serf() -> Option<&'static Path> {
    real_serf(std::thread::current().name().unwrap_or("a test"))
}

/// [`serf`] for the test of that name.
pub fn real_serf(test: &str) -> Option<&'static Path> {
    static SERF: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match SERF.get_or_init(|| find_serf(&env::var_os("PATH").unwrap_or_default())) {
        Ok(serf) => Some(serf),
        Err(why) if env::var("CI").is_ok_and(|ci| ci == "true") => panic!("{test}: no real Serf: {why}"),
        Err(why) => {
            // Not with eprintln, whose output is only shown where a test fails.
            let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: no real Serf to compare with: {why}");
            None
        }
    }
}

/// Serf in one of these folders, else downloaded.
pub fn find_serf(path: &std::ffi::OsStr) -> Result<PathBuf, String> {
    let in_path = env::split_paths(path).map(|folder| folder.join("serf")).find(|serf| is_serf(serf));
    in_path.map_or_else(download_serf, Ok)
}

/// Whether that is Serf, and not Thane under its name.
fn is_serf(program: &Path) -> bool {
    let Ok(output) = Command::new(program).arg("version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    text.contains("Agent Protocol:") && !text.starts_with(env!("CARGO_PKG_VERSION"))
}

fn download_serf() -> Result<PathBuf, String> {
    // Not CARGO_TARGET_TMPDIR, which unit tests lack.
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace folder")?.join("target");
    fs::create_dir_all(&build).map_err(|error| format!("{}: {error}", build.display()))?;
    let target = build.join("serf-oracle");
    let serf = target.join("usr/bin/serf");
    if is_serf(&serf) {
        return Ok(serf);
    }
    let fail = |what: &str, why: String| format!("serf is not in PATH, and {what}: {}", why.trim());
    let step = |what: &str, command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(fail(what, String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(error) => Err(fail(what, error.to_string())),
    };
    let parts = TempDir::new_in(&build).map_err(|error| error.to_string())?;
    step("apt-get download serf", Command::new("apt-get").args(["download", "serf"]).current_dir(&parts))?;
    let package = fs::read_dir(&parts)
        .and_then(|mut entries| entries.next().ok_or(std::io::ErrorKind::NotFound)?)
        .map_err(|error| fail("the package", error.to_string()))?
        .path();
    let unpacked = parts.path().join("unpacked");
    step("dpkg -x", Command::new("dpkg").arg("-x").arg(package).arg(&unpacked))?;
    // Another test may have been faster; what it has is as good.
    let _ = fs::rename(&unpacked, &target);
    if is_serf(&serf) { Ok(serf) } else { Err(fail("the package has none", serf.display().to_string())) }
}
