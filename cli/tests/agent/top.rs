//! `thane top` on a terminal of its own, with Thane's agent and Serf's.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{Agent, THANE, serf};

/// Runs `top` until the screen has shown all of these words (blanks are not drawn), then presses q; returns everything that it wrote.
fn top(rpc_addr: &str, wanted: &[&str]) -> String {
    let command = format!("stty rows 40 cols 120; exec {THANE} top -interval=200ms -rpc-addr={rpc_addr}");
    // script(1) runs the command on a terminal of its own.
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script(1) of bsdutils is installed");
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut text, mut bytes, begun) = (String::new(), [0; 4096], Instant::now());
    while !wanted.iter().all(|part| text.contains(part)) {
        let read = screen.read(&mut bytes).unwrap();
        let end = text.len().saturating_sub(2_000);
        assert!(read > 0, "{wanted:?} did not come: {:?}", text.get(end..));
        assert!(begun.elapsed() < Duration::from_secs(60), "{wanted:?} did not come: {:?}", text.get(end..));
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    keys.write_all(b"q").unwrap();
    let mut rest = Vec::new();
    // A terminal whose program has ended gives an error instead of an end.
    let _ = screen.read_to_end(&mut rest);
    text.push_str(&String::from_utf8_lossy(&rest));
    assert!(child.wait().unwrap().success());
    text
}

#[test]
fn top_shows_an_agent_of_either_kind_and_leaves_the_terminal_as_it_was() {
    let start =
        |program, name: &str, addr| Agent::start(program, addr, &[&format!("-node={name}"), "-tag=role=web"]);
    let mut agents = vec![start(THANE, "ournode", "127.15.124.1")];
    let text = top("127.15.124.1:7373", &["ournode", "role=web", "in/s"]);
    let (entered, left) = ("\u{1b}[?1049h", "\u{1b}[?1049l");
    assert!(text.contains(entered) && text.rfind(left) > text.rfind(entered), "the screen comes back");
    if let Some(serf) = serf() {
        agents.push(start(serf, "serfnode", "127.15.124.2"));
        top("127.15.124.2:7373", &["serfnode", "role=web", "Queued"]);
    }
}

#[test]
fn top_without_a_terminal_or_an_agent_says_so() {
    let run = |arguments: &[&str]| {
        let output = Command::new(THANE).arg("top").args(arguments).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&[]).contains("top needs a terminal"));
    assert!(run(&["-interval=1ms"]).contains("use 200ms or more"));
}

/// A tmux server of this test's own, with one screen; ended when dropped.
struct Screen(String);

impl Screen {
    fn of(rpc_addr: &str, width: u16, height: u16) -> Option<Screen> {
        let screen = Screen(format!("thane-{}-{width}", std::process::id()));
        let command = format!("{THANE} top -interval=200ms -rpc-addr={rpc_addr}; echo ended; sleep 60");
        let (width, height) = (width.to_string(), height.to_string());
        let size = ["-x", &width, "-y", &height];
        match screen.tmux(&[&["new-session", "-d"][..], &size, &[&command]].concat()) {
            Some(_) => Some(screen),
            None => {
                assert!(std::env::var("CI").is_err(), "top in tmux: no tmux");
                eprintln!("NOT RUN: top in tmux: no tmux");
                None
            }
        }
    }

    fn tmux(&self, arguments: &[&str]) -> Option<String> {
        let output =
            Command::new("tmux").args(["-f", "/dev/null", "-L", &self.0]).args(arguments).output().ok()?;
        assert!(output.status.success(), "tmux {arguments:?}: {output:?}");
        Some(String::from_utf8(output.stdout).unwrap())
    }

    /// Waits until the screen shows all of that, and nothing of the rest.
    fn shows(&self, wanted: &[&str], gone: &[&str]) {
        let text = || self.tmux(&["capture-pane", "-p"]).unwrap();
        let is_there = |text: &str| {
            wanted.iter().all(|part| text.contains(part)) && !gone.iter().any(|part| text.contains(part))
        };
        let begun = Instant::now();
        while !is_there(&text()) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{wanted:?} without {gone:?}:\n{}", text());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.0, "kill-server"]).output();
    }
}

#[test]
fn top_in_tmux_searches_filters_shows_a_failure_and_ends() {
    let flags =
        |name: &str| [format!("-node={name}"), "-profile=local".to_owned(), "-join=127.15.125.1".to_owned()];
    let start =
        |name: &str, addr: &str| Agent::start(THANE, addr, &flags(name).each_ref().map(String::as_str));
    let _watched = Agent::start(THANE, "127.15.125.1", &["-node=first", "-profile=local", "-tag=role=web"]);
    let (_second, mut third) = (start("second", "127.15.125.2"), start("third", "127.15.125.3"));
    // A wide screen, and a low one, on which all three fit too.
    let Some(wide) = Screen::of("127.15.125.1:7373", 120, 40) else { return };
    let low = Screen::of("127.15.125.1:7373", 70, 20).unwrap();
    for screen in [&wide, &low] {
        screen.shows(
            &["alive 3", "Members 1 to 3 of 3", "first", "second", "third", "role=web", "Queued 0"],
            &[],
        );
    }
    wide.press(&["/", "s", "e", "c", "Enter"]);
    wide.shows(&["/sec", "Members 1 to 1 of 1", "127.15.125.2:7946"], &["127.15.125.3:7946"]);
    wide.press(&["Escape"]);
    wide.shows(&["Members 1 to 3 of 3"], &["/sec"]);
    third.signal("KILL");
    third.end();
    wide.shows(&["failed 1", "alive 2", "member-failed: third"], &[]);
    wide.press(&["f"]);
    wide.shows(&["only alive", "Members 1 to 2 of 2"], &["127.15.125.3:7946"]);
    for screen in [&wide, &low] {
        screen.press(&["q"]);
        screen.shows(&["ended"], &["Members"]);
    }
}
