//! SIGHUP: what is applied, what is not, and what a mistake does.

use std::path::PathBuf;

use crate::process::{Agent, THANE, poll, serf, wait_for_file};

struct Configured {
    agent: Agent,
    file: PathBuf,
    _folder: tempfile::TempDir,
    reloads: usize,
}

impl Configured {
    fn start(addr: &str, text: &str, flags: &[&str], program: &str) -> Configured {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.json");
        std::fs::write(&file, text).unwrap();
        let config = format!("-config-file={}", file.display());
        let agent = Agent::start(program, addr, &[&["-node=n", config.as_str()], flags].concat());
        Configured { agent, file, _folder: folder, reloads: 0 }
    }

    fn reload(&mut self, text: &str) {
        // At once, because the agent may still be reading for the reload before.
        let new = self.file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
        self.agent.signal("HUP");
        self.reloads += 1;
        self.agent.wait_for_count("==> Reloading configuration...", self.reloads);
    }
}

#[test]
fn level_handlers_tags_and_switches_are_applied() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("1"), folder.path().join("2"));
    let config = |level: &str, tag: &str, file: &PathBuf, leave: bool| {
        let script = format!("member-update=echo $SERF_TAG_X >> {}", file.display());
        format!(
            r#"{{"log_level": "{level}", "tags": {{"x": "{tag}"}}, "event_handlers": ["{script}"], "leave_on_terminate": {leave}}}"#
        )
    };
    let mut configured = Configured::start("127.15.50.1", &config("info", "1", &first, false), &[], THANE);
    configured.reload(&config("info", "2", &first, false));
    configured.agent.wait_for("[INFO] serf: EventMemberUpdate: n");
    wait_for_file(&first, |text| text == "2\n");
    assert!(!configured.agent.has("[DEBUG]"));

    configured.reload(&config("debug", "3", &second, true));
    wait_for_file(&second, |text| text == "3\n");
    configured.agent.wait_for("[DEBUG] agent: Event 'member-update' script output");
    assert_eq!(std::fs::read_to_string(&first).unwrap(), "2\n");

    configured.agent.signal("TERM");
    assert_eq!(configured.agent.end(), Some(0), "leave_on_terminate was not applied");
}

#[test]
fn unchanged_tags_are_not_announced_again() {
    let mut configured =
        Configured::start("127.15.51.1", r#"{"tags": {"a": "1", "b": "2", "c": "3"}}"#, &[], THANE);
    for n in 0..4 {
        configured
            .reload(&format!(r#"{{"tags": {{"a": "1", "b": "2", "c": "3"}}, "rpc_auth": "other{n}"}}"#));
    }
    configured.agent.wait_for_count("[WARN] agent: Changed, but applied at the next start only: rpc_auth", 4);
    configured.reload(r#"{"tags": {"last": "1"}}"#);
    configured.agent.wait_for("EventMemberUpdate: n");
    let updates = configured.agent.lines.iter().filter(|line| line.contains("EventMemberUpdate"));
    assert_eq!(updates.count(), 1, "{:?}", configured.agent.lines);
}

/// Reloads that set the tag `x` to their number, with something else in each: which of them are applied, the lines
/// between headings, and the exit code of an interrupt at the end.
fn reloads(program: &str, addr: &str) -> (Vec<bool>, Vec<String>, Option<i32>) {
    let rest = [
        r#""log_level": "zip""#,
        r#""event_handlers": ["bogus=x.sh"]"#,
        r#""profile": "bogus""#,
        r#""protocol": 9, "rpc_auth": "other""#,
        r#""encrypt_key": "zz""#,
        r#""reconnect_interval": 5"#,
        r#""nope": 1"#,
        r#""skip_leave_on_interrupt": true"#,
    ];
    let mut configured = Configured::start(addr, "{}", &["-log-level=info"], program);
    // Serf listens for signals a moment after it says that it runs.
    configured.agent.wait_for("Received event: member-join");
    let mut applied = Vec::new();
    let (updated, failed) = ("[INFO] serf: EventMemberUpdate: n", "==> Failed to reload configs");
    for (number, rest) in rest.into_iter().enumerate() {
        configured.reload(&format!(r#"{{"tags": {{"x": "{number}"}}, {rest}}}"#));
        let agent = &mut configured.agent;
        let line = agent.wait_for_any(&[updated, failed], number + 1);
        applied.push(line.contains(updated));
    }
    configured.agent.signal("INT");
    let code = configured.agent.end();
    let said = configured.agent.lines.iter().filter(|line| line.starts_with("==> Invalid"));
    (applied, said.cloned().collect(), code)
}

#[test]
fn a_reload_applies_what_serf_applies_whatever_else_the_files_say() {
    let Some(serf) = serf() else { return };
    let (serfs, ours) = (reloads(serf, "127.86.50.1"), reloads(THANE, "127.86.50.2"));
    assert_eq!(ours, serfs);
    assert_eq!(ours.0, [true, false, true, true, true, false, false, true]);
    assert_eq!(ours.2, Some(1), "skip_leave_on_interrupt is applied");
}

#[test]
fn a_mistake_is_named_and_what_the_next_start_would_refuse_is_logged() {
    let mut configured = Configured::start("127.15.52.1", r#"{"leave_on_terminate": true}"#, &[], THANE);
    let path = configured.file.display().to_string();
    configured.reload(r#"{"nope": 1}"#);
    configured.agent.wait_for("==> Failed to reload configs");
    let expected = format!("==> Error decoding '{path}': unknown key 'nope'");
    assert!(configured.agent.lines.contains(&expected), "{:?}", configured.agent.lines);
    configured.reload(r#"{"leave_on_terminate": true, "profile": "bogus"}"#);
    configured.agent.wait_for("[WARN] agent: Changed, but applied at the next start only: profile");
    configured.agent.wait_for("[WARN] agent: The next start would fail: Unknown profile: bogus");
    configured.agent.wait_for("[INFO] agent: Configuration reloaded");
    configured.agent.signal("TERM");
    assert_eq!(configured.agent.end(), Some(0), "leave_on_terminate stays");
    assert!(!configured.agent.has("EventMemberUpdate"));
}

#[test]
fn tags_that_do_not_fit_are_refused_and_the_old_ones_stay() {
    let Some(serf) = serf() else { return };
    let mut configured = Configured::start("127.15.53.1", r#"{"tags": {"a": "old"}}"#, &[], THANE);
    configured.reload(&format!(r#"{{"tags": {{"a": "{}"}}}}"#, "x".repeat(600)));
    configured.agent.wait_for("==> Failed to update tags: Encoded length of tags exceeds limit of 512 bytes");
    assert!(configured.agent.rpc(serf, "members", &[]).contains("a=old"));
}

#[test]
fn tags_file_is_kept_and_survives_reload_and_restart() {
    let Some(serf) = serf() else { return };
    let has_both = |members: &str| members.contains("a=1") && members.contains("b=2");
    let folder = tempfile::tempdir().unwrap();
    let tags = folder.path().join("tags.json");
    let flag = format!("-tags-file={}", tags.display());
    let mut configured = Configured::start("127.15.54.1", "{}", &[&flag], THANE);
    configured.agent.rpc(serf, "tags", &["-set", "a=1", "-set", "b=2"]);
    assert_eq!(std::fs::read_to_string(&tags).unwrap(), "{\n  \"a\": \"1\",\n  \"b\": \"2\"\n}");

    configured.reload(r#"{"log_level": "debug"}"#);
    configured.agent.rpc(serf, "event", &["after", "reload"]);
    assert!(has_both(&configured.agent.rpc(serf, "members", &[])));

    let refused = std::process::Command::new(serf)
        .args(["tags", "-rpc-addr=127.15.54.1:7373", "-set", &format!("c={}", "x".repeat(600))])
        .output()
        .unwrap();
    assert!(!refused.status.success());
    assert!(!std::fs::read_to_string(&tags).unwrap().contains("\"c\""), "a refused tag is in the file");

    configured.agent.signal("INT");
    assert_eq!(configured.agent.end(), Some(0));
    let again = Agent::start(THANE, "127.15.54.1", &["-node=n", &flag]);
    poll("the kept tags", || has_both(&again.rpc(serf, "members", &[])).then_some(()));
}
