//! What a service manager is told, and the unit file.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use crate::process::{Agent, THANE};

#[test]
fn ready_signs_of_life_and_the_end_are_told_to_the_manager() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let told = || {
        let mut bytes = [0; 64];
        let len = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    };
    let socket = format!("NOTIFY_SOCKET={}", path.display());
    let arguments = [socket.as_str(), "WATCHDOG_USEC=200000", THANE, "agent", "-bind=127.15.121.1"];
    let arguments = [&arguments[..], &["-rpc-addr=127.15.121.1:7373"]].concat();
    let mut agent = Agent::of_command("env", &arguments, "127.15.121.1");
    assert_eq!(told(), "READY=1");
    assert_eq!([told(), told()], ["WATCHDOG=1", "WATCHDOG=1"]);
    agent.signal("TERM");
    agent.end();
    let rest: Vec<String> = std::iter::repeat_with(told).take_while(|state| state != "STOPPING=1").collect();
    assert!(rest.iter().all(|state| state == "WATCHDOG=1"), "{rest:?}");
}

#[test]
fn the_unit_file_is_one_and_is_hardened() {
    let found = Command::new("systemd-analyze").arg("--version").output();
    let can = found.is_ok_and(|output| output.status.success());
    assert!(can || std::env::var("CI").is_err(), "no systemd-analyze (apt-get install systemd)");
    if !can {
        return eprintln!("NOT RUN: the unit file: no systemd-analyze (apt-get install systemd)");
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd/thane.service");
    let text = std::fs::read_to_string(unit).unwrap().replace("/usr/local/bin/thane", THANE);
    let here = folder.path().join("thane.service");
    std::fs::write(&here, text).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&here).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("thane.service"), "{said}");
    let judged = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20"])
        .arg(&here)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&judged.stdout).into_owned();
    assert!(judged.status.success(), "{said}{}", String::from_utf8_lossy(&judged.stderr));
}
