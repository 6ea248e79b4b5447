//! What the agent refuses to start with: one line, exit code 1, nothing left behind.

use std::net::{TcpListener, UdpSocket};

use crate::process::{Agent, THANE, outcome, run_to_end, serf};

fn refused(flags: &[&str]) -> String {
    let (code, text) = outcome(THANE, flags);
    assert_eq!(code, Some(1), "{text}");
    text
}

fn refused_file(text: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.json");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (refused(&["-config-file", &path]), path)
}

#[test]
fn same_words_as_serf() {
    let Some(serf) = serf() else { return };
    let sets: [&[&str]; 8] = [
        &["-log-level=foo"],
        &["-profile=foo"],
        &["-event-handler=bogus=x.sh"],
        &["-tag=foo"],
        &["-tag", "=foo"],
        &["-bind=127.15.30.1:99999"],
        &["-advertise=127.15.30.1:99999"],
        &["-iface=lo", "-bind=127.15.30.1"],
    ];
    for flags in sets {
        assert_eq!(outcome(THANE, flags), outcome(serf, flags), "{flags:?}");
    }
}

#[test]
fn flags_that_make_no_sense_are_told_of_on_stderr_with_help_on_stdout() {
    let Some(serf) = serf() else { return };
    let sets: [&[&str]; 4] = [&["-nope"], &["-retry-max=x"], &["-replay=maybe"], &["-node"]];
    for flags in sets {
        let (ours, serfs) = (run_to_end(THANE, flags), run_to_end(serf, flags));
        assert_eq!((ours.status.code(), &ours.stderr), (serfs.status.code(), &serfs.stderr), "{flags:?}");
        assert!(String::from_utf8(ours.stdout).unwrap().contains("Usage: "));
    }
}

#[test]
fn files_are_named_with_key_and_expectation() {
    let cases = [
        (r#"{"node_name": 5}"#, "'node_name' must be a string, not a number"),
        (r#"{"nope": 5}"#, "unknown key 'nope'"),
        (
            r#"{"retry_interval": "10"}"#,
            "'retry_interval': \"10\" is not a duration such as 3s, 1m30s or 250ms",
        ),
        ("{bad", "not valid JSON: key must be a string at line 1 column 2"),
    ];
    for (text, expected) in cases {
        let (output, path) = refused_file(text);
        assert_eq!(output, format!("==> Error decoding '{path}': {expected}\n"));
    }
    assert_eq!(
        refused(&["-config-file=/nonexistent/x.json"]),
        "==> Error reading '/nonexistent/x.json': No such file or directory (os error 2)\n"
    );
}

#[test]
fn ports_in_use_are_named() {
    let _tcp = TcpListener::bind("127.15.31.1:7946").unwrap();
    let expected = "==> Starting Serf agent...\n==> Failed to start the Serf agent: Failed to bind 127.15.31.1:7946 (TCP): Address already in use (os error 98): another process uses this address and port; stop it or choose another with -bind\n";
    assert_eq!(refused(&["-bind=127.15.31.1", "-rpc-addr=127.15.31.1:7373"]), expected);

    let _udp = UdpSocket::bind("127.15.31.2:7946").unwrap();
    assert_eq!(
        refused(&["-bind=127.15.31.2", "-rpc-addr=127.15.31.2:7373"]),
        expected.replace("127.15.31.1", "127.15.31.2").replace("TCP", "UDP")
    );

    let _rpc = TcpListener::bind("127.15.31.3:7373").unwrap();
    assert_eq!(
        refused(&["-bind=127.15.31.3", "-rpc-addr=127.15.31.3:7373"]),
        "==> Starting Serf agent...\n==> Error starting RPC listener: listen tcp 127.15.31.3:7373: Address already in use (os error 98): another process uses this address and port; stop it or choose another with -rpc-addr\n"
    );
}

#[test]
fn addresses_of_others_are_named() {
    let expected = "==> Starting Serf agent...\n==> Failed to start the Serf agent: Failed to bind 203.0.113.1:7946 (TCP): Cannot assign requested address (os error 99): no interface of this machine has this address; choose another with -bind\n";
    assert_eq!(refused(&["-bind=203.0.113.1", "-rpc-addr=127.15.32.1:7373"]), expected);
    assert_eq!(
        refused(&["-bind=127.15.32.1", "-rpc-addr=zz"]),
        "==> Starting Serf agent...\n==> Error starting RPC listener: listen tcp zz: address zz: missing port in address\n"
    );
}

#[test]
fn snapshot_keyring_and_tags_file_that_can_not_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let (bind, rpc) = ("-bind=127.15.33.1", "-rpc-addr=127.15.33.1:7373");
    let text = refused(&[bind, rpc, &format!("-snapshot={path}")]);
    let expected = format!("==> Failed to start the Serf agent: Failed to open snapshot {path}: ");
    assert!(text.contains(&expected), "{text}");
    let keys = refused(&[bind, rpc, "-keyring-file=/nonexistent/keys"]);
    assert!(keys.ends_with(
        "==> Failed to setup the Serf agent: stat /nonexistent/keys: No such file or directory (os error 2)\n"
    ));
    let text = refused(&[bind, rpc, &format!("-tags-file={path}")]);
    let expected = format!(
        "==> Starting Serf agent...\n==> Failed to setup the Serf agent: Failed to read tags file: {path}: Is a directory (os error 21)\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn garbage_from_outside_is_one_line_per_kind() {
    let mut agent = Agent::start(THANE, "127.15.34.1", &["-node=n", "-log-level=trace"]);
    let socket = UdpSocket::bind("127.15.34.2:0").unwrap();
    for _ in 0..500 {
        socket.send_to(&[0xee; 40], "127.15.34.1:7946").unwrap();
        socket.send_to(&[], "127.15.34.1:7946").unwrap();
    }
    agent.wait_for("memberlist: Refused input from 127.15.34.2:");
    agent.signal("INT");
    assert_eq!(agent.end(), Some(0));
    let told = agent.lines.iter().filter(|line| line.contains("Refused input")).count();
    assert!((1..=3).contains(&told), "{told} lines");
}

/// The largest values that a file can hold. Nothing overflows, and an agent that waits for them ends on a signal.
#[test]
fn the_largest_values_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.json");
    let times = [
        "reconnect_interval",
        "reconnect_timeout",
        "tombstone_timeout",
        "retry_interval",
        "broadcast_timeout",
    ];
    let numbers = ["query_size_limit", "query_response_size_limit", "retry_max_attempts"];
    let times = times.map(|key| format!(r#""{key}": "2562047h47m16s""#));
    let numbers = numbers.map(|key| format!(r#""{key}": {}"#, i64::MAX));
    let text = format!(r#"{{{}, {}, "retry_join": ["127.32.11.9"]}}"#, times.join(", "), numbers.join(", "));
    std::fs::write(&path, text).unwrap();
    let mut agent =
        Agent::start(THANE, "127.32.11.1", &["-node=n", &format!("-config-file={}", path.display())]);
    agent.wait_for("[WARN] agent: Join failed: 1 error occurred:");
    agent.signal("INT");
    assert_eq!(agent.end(), Some(0), "{:?}", agent.lines);
}

/// Serf's reasons in words; what follows them is the operating system's or the decoder's.
#[test]
fn keyring_files_that_can_not_be_used_are_refused_for_serfs_reasons() {
    let Some(serf) = serf() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyring");
    let (file, missing) = (format!("-keyring-file={}", path.display()), "/nonexistent/keyring");
    let good = "T2xkIGtleXMgb3BlbiBub3RoaW5nIG5ldy4gMTIzNDU=";
    let cases: [(&str, Option<&str>, &str); 9] = [
        ("none", None, "Failed to setup the Serf agent: stat /nonexistent/keyring: "),
        ("no keys", Some("[]"), "Failed to setup the Serf agent: Keyring file contains no keys"),
        ("null", Some("null"), "Failed to setup the Serf agent: Keyring file contains no keys"),
        ("an object", Some("{}"), "Failed to setup the Serf agent: Failed to decode keyring file"),
        ("cut", Some(r#"["AA"#), "Failed to setup the Serf agent: Failed to decode keyring file"),
        ("no base64", Some(r#"["!"]"#), "Failed to setup the Serf agent: Failed to decode key from keyring"),
        ("3 bytes", Some(r#"["Zm9v"]"#), "Failed to setup the Serf agent: Failed to restore keyring"),
        ("no bytes", Some(r#"[""]"#), "Failed to setup the Serf agent: Failed to restore keyring"),
        (
            "the second one",
            Some(r#"["T2xkIGtleXMgb3BlbiBub3RoaW5nIG5ldy4gMTIzNDU=", "Zm9v"]"#),
            "Failed to setup the Serf agent: Failed to restore keyring",
        ),
    ];
    let addresses = ["-bind=127.86.61.1", "-rpc-addr=127.86.61.1:7373"];
    for (what, text, reason) in cases {
        let flag = text.map_or(format!("-keyring-file={missing}"), |text| {
            std::fs::write(&path, text).unwrap();
            file.clone()
        });
        for program in [serf, THANE] {
            let (code, said) = outcome(program, &[&addresses[..], &[&flag]].concat());
            assert_eq!(code, Some(1), "{what}: {program}: {said}");
            assert!(said.contains(reason), "{what}: {program}: {said}");
        }
    }
    std::fs::write(&path, format!(r#"["{good}"]"#)).unwrap();
    for program in [serf, THANE] {
        let (code, said) =
            outcome(program, &[&addresses[..], &[&file, &format!("-encrypt={good}")]].concat());
        assert_eq!(code, Some(1), "{program}: {said}");
        assert!(said.contains("Encryption key not allowed while using a keyring\n"), "{program}: {said}");
    }
}
