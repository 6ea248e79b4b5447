//! `thane-testbed images`: the container images, made without a registry. Thane's is a static binary built here;
//! Serf's is Debian's binary with the libraries that it names. Both exist a second time with busybox's shell, for
//! event handlers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::docker::{self, LABEL};
use crate::failure::Failure;
use crate::program::Program;

/// Largest file of Thane's image, bytes. It has 6.1 million, one of them TLS; 5 million are the goal.
const THANE_BYTES_MAX: u64 = 6_500_000;
/// Names that busybox answers to in the images; handlers need no others.
const APPLETS: [&str; 8] = ["sh", "cat", "echo", "date", "ip", "ping", "sleep", "wget"];
/// Building the static binary compiles the whole engine with fat LTO.
const BUILD_PATIENCE: std::time::Duration = std::time::Duration::from_secs(3600);

/// How images are made.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ImagesOptions {
    /// A static `thane` binary to take instead of building one.
    #[arg(long, value_name = "FILE")]
    thane: Option<PathBuf>,
    /// Make only the image of this kind (`thane` or `serf`) instead of both.
    #[arg(long, value_name = "KIND", value_parser = ["thane", "serf"])]
    only: Option<String>,
    /// Accept a `thane` binary above 6.5 MB, as builds without fat LTO make.
    #[arg(long)]
    any_size: bool,
}

/// Which program a container runs.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Software {
    Serf,
    Thane,
}

impl Software {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Software::Serf => "serf",
            Software::Thane => "thane",
        }
    }

    /// Its image without a shell.
    pub(crate) fn image(self) -> String {
        format!("{}:testbed", self.name())
    }

    /// Its image with a shell.
    pub(crate) fn shell_image(self) -> String {
        format!("{}:testbed-shell", self.name())
    }
}

/// Makes the images and prints the name and size of each.
///
/// # Errors
/// One line: what could not be built, downloaded or imported. Images made before it stay.
pub(crate) fn make(options: &ImagesOptions) -> Result<(), Failure> {
    docker::version()?;
    let folder = workspace().join("target/testbed");
    fs::create_dir_all(&folder).map_err(|error| Failure::file(&folder, &error))?;
    let busybox = package_file(&folder, "busybox-static", "bin/busybox")?;
    let wanted = |software: Software| options.only.as_ref().is_none_or(|only| only == software.name());
    if wanted(Software::Thane) {
        let binary = match &options.thane {
            Some(binary) => binary.clone(),
            None => build_thane(&folder)?,
        };
        let bytes = fs::metadata(&binary).map_err(|error| Failure::file(&binary, &error))?.len();
        if bytes > THANE_BYTES_MAX && !options.any_size {
            return Err(Failure::new(format!(
                "{} is {:.1} MB, more than 6.5 MB: build with the release profile as it is, or give --any-size",
                binary.display(),
                bytes as f64 / 1e6
            )));
        }
        require_static(&binary)?;
        import(&folder, Software::Thane, &[(binary, "usr/bin/thane".into())], &busybox)?;
    }
    if wanted(Software::Serf) {
        let serf = serf_binary(&folder)?;
        let printed = Program::new("ldd").args([&serf]).run()?;
        let mut files: Vec<(PathBuf, PathBuf)> = libraries(&printed)
            .into_iter()
            .map(|library| (library.clone(), library.strip_prefix("/").unwrap_or(&library).to_owned()))
            .collect();
        files.push((serf, "usr/bin/serf".into()));
        import(&folder, Software::Serf, &files, &busybox)?;
    }
    Ok(())
}

/// The folder of the source tree that this program was built from.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Builds the static binary. Only its last step, which links the crates, differs from that of `cargo build --release`:
/// the crates are compiled once for both.
fn build_thane(folder: &Path) -> Result<PathBuf, Failure> {
    println!("building thane, static; the first time takes some minutes");
    let printed = Program::new("cargo")
        .args(["rustc", "--release", "--locked", "-p", "thane", "--bin", "thane"])
        .args(["--message-format=json-render-diagnostics", "--", "-C", "target-feature=+crt-static"])
        // 0.3 MB less: relocations take a bit each, and functions of the same code are kept once.
        .args(["-C", "link-arg=-Wl,-z,pack-relative-relocs", "-C", "link-arg=-Wl,--icf=all"])
        .folder(workspace())
        .within(BUILD_PATIENCE)
        .run()?;
    let built = executable(&printed).ok_or_else(|| Failure::new("cargo named no executable of thane"))?;
    let stripped = folder.join("thane-stripped");
    Program::new("strip").args(["-o"]).args([&stripped, &built]).run()?;
    Ok(stripped)
}

/// The program that cargo names in its messages, a JSON object a line.
fn executable(messages: &str) -> Option<PathBuf> {
    let named = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(message.get("executable")?.as_str()?.into())
    };
    messages.lines().rev().find_map(named)
}

/// A binary with a program interpreter would not start in an image without libraries.
fn require_static(binary: &Path) -> Result<(), Failure> {
    let printed = Program::new("ldd").args([binary]).print()?;
    let text = format!("{}{}", printed.out, printed.err);
    if text.contains("statically linked") || text.contains("not a dynamic executable") {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} needs shared libraries: build it with `cargo rustc --release -p thane --bin thane -- -C \
         target-feature=+crt-static`",
        binary.display()
    )))
}

/// Debian's Serf: the package's, else the installed one.
fn serf_binary(folder: &Path) -> Result<PathBuf, Failure> {
    package_file(folder, "serf", "usr/bin/serf").or_else(|failure| {
        let installed = PathBuf::from("/usr/bin/serf");
        let version = Program::new("/usr/bin/serf").args(["version"]).run().unwrap_or_default();
        if version.contains("Agent Protocol") { Ok(installed) } else { Err(failure) }
    })
}

/// A file of a Debian package, which is downloaded once and kept below `folder`.
fn package_file(folder: &Path, package: &str, file: &str) -> Result<PathBuf, Failure> {
    let unpacked = folder.join("packages").join(package);
    let wanted = unpacked.join(file);
    if wanted.is_file() {
        return Ok(wanted);
    }
    let parts = folder.join("packages").join(format!("{package}.part"));
    let _ = fs::remove_dir_all(&parts);
    fs::create_dir_all(&parts).map_err(|error| Failure::file(&parts, &error))?;
    Program::new("apt-get").args(["download", "-q", package]).folder(&parts).run().map_err(|failure| {
        Failure::new(format!(
            "Debian's package {package} can't be downloaded ({failure}): try `apt-get update`"
        ))
    })?;
    let archive = fs::read_dir(&parts)
        .ok()
        .and_then(|mut entries| entries.find_map(|entry| Some(entry.ok()?.path())))
        .ok_or_else(|| Failure::new(format!("apt-get downloaded no file for package {package}")))?;
    let _ = fs::remove_dir_all(&unpacked);
    Program::new("dpkg").args(["-x"]).args([&archive, &unpacked]).run()?;
    let _ = fs::remove_dir_all(&parts);
    if wanted.is_file() {
        Ok(wanted)
    } else {
        Err(Failure::new(format!("Debian's package {package} holds no {file}")))
    }
}

/// The files that `ldd` names.
fn libraries(ldd: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let found = line.split_once("=>").map_or(line, |(_, found)| found).trim();
        found.split_whitespace().next().filter(|path| path.starts_with('/')).map(PathBuf::from)
    };
    ldd.lines().filter_map(path).collect()
}

/// Makes the image without a shell, then the one with it.
fn import(
    folder: &Path,
    software: Software,
    files: &[(PathBuf, PathBuf)],
    busybox: &Path,
) -> Result<(), Failure> {
    let root = folder.join(format!("root-{}", software.name()));
    let _ = fs::remove_dir_all(&root);
    let mut bytes = 0;
    let mut put = |from: &Path, to: &Path| {
        let to = root.join(to);
        let parent = to.parent().unwrap_or(&root);
        let copy = || {
            fs::create_dir_all(parent)?;
            fs::copy(from, &to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
            fs::metadata(&to)
        };
        let copied = copy().map_err(|error| Failure::file(&to, &error))?;
        bytes += copied.len();
        Ok::<u64, Failure>(bytes)
    };
    let mut size = 0;
    for (from, to) in files {
        size = put(from, to)?;
    }
    let program = format!("/usr/bin/{}", software.name());
    let changes = [
        format!("ENTRYPOINT [\"{program}\"]"),
        "CMD [\"agent\"]".to_owned(),
        "ENV PATH=/bin:/usr/bin".to_owned(),
        format!("LABEL {LABEL}.image={}", software.name()),
    ];
    docker::import(&root, &software.image(), &changes)?;
    println!("{} {:.1} MB", software.image(), size as f64 / 1e6);
    size = put(busybox, Path::new("bin/busybox"))?;
    for applet in APPLETS {
        let link = root.join("bin").join(applet);
        std::os::unix::fs::symlink("busybox", &link).map_err(|error| Failure::file(&link, &error))?;
    }
    docker::import(&root, &software.shell_image(), &changes)?;
    println!("{} {:.1} MB", software.shell_image(), size as f64 / 1e6);
    fs::remove_dir_all(&root).map_err(|error| Failure::file(&root, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_program_is_named_by_cargo() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/release/thane\"}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(messages), Some("/t/release/thane".into()));
        assert_eq!(executable("{\"executable\":null}\nno json"), None);
    }

    #[test]
    fn libraries_are_read_from_ldd() {
        let printed = "\tlinux-vdso.so.1 (0x00007fe11aa8e000)\n\
                       \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fe11a89b000)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007fe11aa90000)\n";
        let found: Vec<String> = libraries(printed).iter().map(|path| path.display().to_string()).collect();
        assert_eq!(found, ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert!(libraries("\tstatically linked\n").is_empty());
    }
}
