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
    fn start(addr: &str, text: &str, flags: &[&str]) -> Configured {
        Configured::start_of(THANE, addr, text, flags)
    }

    fn start_of(program: &str, addr: &str, text: &str, flags: &[&str]) -> Configured {
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
    let mut configured = Configured::start("127.15.50.1", &config("info", "1", &first, false), &[]);
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
    let mut configured = Configured::start("127.15.51.1", r#"{"tags": {"a": "1", "b": "2", "c": "3"}}"#, &[]);
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

#[test]
fn a_mistake_changes_nothing() {
    let mut configured = Configured::start("127.15.52.1", r#"{"leave_on_terminate": true}"#, &[]);
    let path = configured.file.display().to_string();
    let mistakes = [
        (r#"{"nope": 1}"#, format!("==> Error decoding '{path}': unknown key 'nope'")),
        (
            r#"{"event_handlers": ["bogus=x.sh"], "tags": {"a": "b"}}"#,
            "==> Invalid event script: Event 'bogus' invoking 'x.sh'".to_owned(),
        ),
    ];
    for (n, (text, expected)) in mistakes.into_iter().enumerate() {
        configured.reload(text);
        configured.agent.wait_for_count("==> Failed to reload configs", n + 1);
        assert!(configured.agent.lines.contains(&expected), "{:?}", configured.agent.lines);
    }
    configured.agent.signal("TERM");
    assert_eq!(configured.agent.end(), Some(0));
    assert!(!configured.agent.has("EventMemberUpdate"));
}

/// What a program shows after a reload of this text: its lines from then on, and its tags.
fn reloaded(program: &str, serf: &str, addr: &str, text: &str) -> (Vec<String>, bool) {
    let mut configured = Configured::start_of(program, addr, r#"{"tags": {"a": "1"}}"#, &[]);
    // Serf listens for signals a moment after it says that it runs; by the end of a command it does.
    configured.agent.rpc(serf, "members", &[]);
    configured.reload(text);
    // A command is answered after the reload, which signals do not overtake.
    let has_tags = |wanted: &str| configured.agent.rpc(serf, "members", &[]).contains(wanted);
    let applied = !text.contains("\"a\": \"2\"") || {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while !has_tags("a=2") && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        has_tags("a=2")
    };
    configured.agent.signal("INT");
    configured.agent.end();
    let lines = configured.agent.lines.iter().skip_while(|line| !line.contains("Reloading"));
    let headings =
        lines.filter(|line| line.starts_with("==> ")).skip(1).take_while(|line| !line.contains("Caught"));
    (headings.map(|line| line.replace(&configured.file.display().to_string(), "FILE")).collect(), applied)
}

#[test]
fn one_wrong_value_leaves_the_rest_applied_as_with_serf() {
    let Some(serf) = serf() else { return };
    let wrong = [
        r#""log_level": "zzz""#,
        r#""event_handlers": ["bogus=x"]"#,
        r#""encrypt_key": "zzz""#,
        r#""profile": "zzz""#,
        r#""protocol": 99"#,
        r#""user_event_size_limit": 99999"#,
        r#""enable_syslog": true, "syslog_facility": "x""#,
        r#""bind": "999.1.1.1""#,
        r#""log_level": "debug""#,
    ];
    for value in wrong {
        let text = format!(r#"{{"tags": {{"a": "2"}}, {value}}}"#);
        let ours = reloaded(THANE, serf, "127.83.2.1", &text);
        assert_eq!(ours, reloaded(serf, serf, "127.83.2.2", &text), "{value}");
    }
}

#[test]
fn a_reload_is_confirmed_in_the_log_and_what_the_next_start_refuses_is_named() {
    let mut configured = Configured::start("127.83.2.3", "{}", &[]);
    configured.reload(r#"{"log_level": "info"}"#);
    configured.agent.wait_for("[INFO] agent: Configuration reloaded");
    configured.reload(r#"{"profile": "zzz"}"#);
    configured
        .agent
        .wait_for("[WARN] agent: The next start will fail with this configuration: Unknown profile: zzz");
    configured.agent.wait_for_count("[INFO] agent: Configuration reloaded", 2);
    configured.reload("{bad");
    configured.agent.wait_for("==> Failed to reload configs");
    configured.agent.signal("INT");
    configured.agent.end();
    let confirmed = configured.agent.lines.iter().filter(|line| line.contains("Configuration reloaded"));
    assert_eq!(confirmed.count(), 2);
}

#[test]
fn tags_that_do_not_fit_are_refused_and_the_old_ones_stay() {
    let Some(serf) = serf() else { return };
    let mut configured = Configured::start("127.15.53.1", r#"{"tags": {"a": "old"}}"#, &[]);
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
    let mut configured = Configured::start("127.15.54.1", "{}", &[&flag]);
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
