//! Configuration files and flags that Serf starts with: the agent starts with them too, and warns where they may be a
//! mistake.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{THANE, serf};

/// The lines of an agent up to its banner, or all lines if it fails before.
fn first_lines(program: &str, addr: &str, flags: &[OsString]) -> (bool, Vec<String>) {
    let mut child = Command::new(program)
        .arg("agent")
        .args(["-node=n", &format!("-bind={addr}"), &format!("-rpc-addr={addr}:7373")])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        let runs = line.contains("agent running!");
        lines.push(line);
        if runs {
            child.kill().unwrap();
            child.wait().unwrap();
            return (true, lines);
        }
    }
    child.wait().unwrap();
    (false, lines)
}

fn file_flag(path: &Path) -> Vec<OsString> {
    let mut flag = OsString::from("-config-file=");
    flag.push(path);
    vec![flag]
}

#[test]
fn what_serf_starts_with_is_started_with() {
    let Some(serf) = serf() else { return };
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        file_flag(&path)
    };
    let odd = folder.path().join(OsString::from_vec(b"d\xe9".to_vec()));
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join("c.json"), "{}").unwrap();
    // Name, flags, and a part of the warning; an empty one means that there is none.
    let cases: Vec<(&str, Vec<OsString>, &str)> = vec![
        (
            "a whole number with a point",
            written("a", br#"{"query_size_limit": 1024.0, "protocol": 4.0}"#),
            "",
        ),
        ("an exponent", written("b", br#"{"retry_max_attempts": 1e1}"#), ""),
        ("a fraction", written("c", br#"{"protocol": 4.5}"#), "4.5 is truncated"),
        ("Latin-1", written("d", b"{\"tags\":{\"city\":\"M\xfcnchen\"}}"), "not UTF-8"),
        (
            "two objects",
            written("e", b"{\"role\":\"web\"}\n{\"role\":\"db\"}\n"),
            "after the first JSON object",
        ),
        ("a comment", written("f", b"{}\n# managed by x\n"), "after the first JSON object"),
        ("null", written("g", b"null"), ""),
        (
            "negative limits",
            written("h", br#"{"user_event_size_limit": -1, "query_size_limit": -1}"#),
            "is -1",
        ),
        ("a sink without port", written("i", br#"{"statsd_addr": "box"}"#), "must be an address with a port"),
        ("a key with line ends", written("j", br#"{"encrypt_key": "MTIzNDU2Nzg5\nMDEyMzQ1Ng==\n"}"#), ""),
        ("a path that is not UTF-8", file_flag(&odd.join("c.json")), ""),
        ("a folder that is not UTF-8", vec!["-config-dir".into(), odd.clone().into()], ""),
        (
            "a stray word",
            ["-replay", "true", "-retry-max=x"].map(OsString::from).into(),
            "'true' is not a flag",
        ),
        ("no snapshot", vec!["-snapshot=/dev/null".into()], ""),
    ];
    for (name, flags, warning) in cases {
        let (theirs_runs, theirs) = first_lines(serf, "127.83.3.1", &flags);
        assert!(theirs_runs, "{name}: Serf refuses it: {theirs:?}");
        let (runs, lines) = first_lines(THANE, "127.83.3.2", &flags);
        assert!(runs, "{name}: {lines:?}");
        let warnings: Vec<&String> = lines.iter().filter(|line| line.starts_with("==> Warning: ")).collect();
        if warning.is_empty() {
            assert!(warnings.is_empty(), "{name}: {warnings:?}");
        } else {
            assert!(warnings.iter().any(|line| line.contains(warning)), "{name}: {lines:?}");
        }
    }
}
