//! TLS of the RPC and the HTTP port: with openssl's client and our own, with certificates of every kind, and reloads.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::certificates::{Authority, Pair};
use crate::process::{Agent, THANE, poll};

/// Variables that switch TLS on for commands.
const VARIABLES: [&str; 5] =
    ["THANE_TLS", "THANE_TLS_CA_FILE", "THANE_TLS_CERT_FILE", "THANE_TLS_KEY_FILE", "THANE_TLS_SERVER_NAME"];

fn flag(name: &str, path: &Path) -> String {
    format!("-tls-{name}={}", path.display())
}

fn pair_flags(pair: &Pair) -> [String; 2] {
    [flag("cert-file", &pair.cert), flag("key-file", &pair.key)]
}

/// Starts an agent with this pair and these flags.
fn agent(addr: &str, pair: &Pair, flags: &[&str]) -> Agent {
    let own = pair_flags(pair);
    Agent::start(THANE, addr, &[&["-node=n", &own[0], &own[1]], flags].concat())
}

/// `thane members` with these flags and variables: exit code and output.
fn members(addr: &str, flags: &[&str], variables: &[(&str, &Path)]) -> (Option<i32>, String) {
    let mut command = Command::new(THANE);
    VARIABLES.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.envs(variables.iter().copied());
    let output = command.arg("members").arg(format!("-rpc-addr={addr}:7373")).args(flags).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// What `openssl s_client` prints when it sends this text, and whether it ended well.
fn s_client(addr: &str, ca: &Path, arguments: &[&str], text: &str) -> (bool, String) {
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", addr, "-verify_return_error", "-CAfile"])
        .arg(ca)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = client.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

const HEALTH: &str = "GET /v1/health HTTP/1.1\r\nHost: 127.40.1.1\r\nConnection: close\r\n\r\n";

#[test]
fn rpc_and_http_speak_tls_with_openssl_and_with_the_commands() {
    let ca = Authority::new();
    let pair = ca.issue("agent", "IP:127.40.1.1,DNS:agent.test");
    let (addr, http) = ("127.40.1.1", "-http-addr=127.40.1.1:8500");
    let mut agent = agent(addr, &pair, &["-tls-rpc", "-tls-http", http]);

    let (good, text) = s_client("127.40.1.1:7373", &ca.file(), &["-verify_ip", addr], "");
    assert!(good && text.contains("TLSv1.3") && text.contains("Verify return code: 0"), "{text}");
    let quiet = ["-quiet", "-verify_hostname", "agent.test"];
    let (_, text) = s_client("127.40.1.1:8500", &ca.file(), &quiet, HEALTH);
    assert!(text.contains("HTTP/1.1 200") && text.contains("\"ready\""), "{text}");
    let (good, text) = s_client("127.40.1.1:7373", &ca.file(), &["-tls1_2"], "");
    assert!(!good, "TLS 1.2 is refused: {text}");

    let ca_flag = flag("ca-file", &ca.file());
    let (code, text) = members(addr, &[&ca_flag], &[]);
    assert!(code == Some(0) && text.starts_with("n "), "{text}");
    let (code, text) = members(addr, &[], &[("THANE_TLS_CA_FILE", &ca.file())]);
    assert!(code == Some(0) && text.starts_with("n "), "{text}");
    let (code, text) = members(addr, &["-tls", &ca_flag, "-tls-server-name=agent.test"], &[]);
    assert!(code == Some(0) && text.starts_with("n "), "{text}");

    let stranger = Authority::new();
    let other = flag("ca-file", &stranger.file());
    for (flags, why) in [
        (&[][..], "the agent's port speaks TLS: use -tls with -tls-ca-file"),
        (&["-tls"], "TLS needs the CA of the agent's certificate: give -tls-ca-file"),
        (
            &[&ca_flag, "-tls-server-name=other.test"],
            "TLS with 127.40.1.1:7373: its certificate is for 127.40.1.1, agent.test, not for other.test",
        ),
        (&[&other], "its certificate is not signed by the CA of the CA file"),
    ] {
        let (code, text) = members(addr, flags, &[]);
        assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
        assert!(text.starts_with("Error connecting to Serf agent: ") && text.contains(why), "{why}: {text}");
    }
    agent.wait_for("[WARN] agent.ipc: No TLS with client");
}

#[test]
fn a_command_with_tls_tells_that_an_agent_speaks_none() {
    let ca = Authority::new();
    let _agent = Agent::start(THANE, "127.40.1.2", &["-node=n"]);
    let (code, text) = members("127.40.1.2", &[&flag("ca-file", &ca.file())], &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("TLS with 127.40.1.2:7373: ") && text.contains("speak TLS?"), "{text}");
}

#[test]
fn clients_need_a_certificate_of_the_ca_where_that_is_wanted() {
    let (ca, stranger) = (Authority::new(), Authority::new());
    let addr = "127.40.1.3";
    let pair = ca.issue("agent", "IP:127.40.1.3");
    let ca_flag = flag("ca-file", &ca.file());
    let http = "-http-addr=127.40.1.3:8500";
    let wanted = ["-tls-rpc", "-tls-http", http, "-tls-verify-clients", &ca_flag];
    let mut agent = agent(addr, &pair, &wanted);
    let own = pair_flags(&ca.issue("client", "DNS:client"));
    let (code, text) = members(addr, &[&ca_flag, &own[0], &own[1]], &[]);
    assert!(code == Some(0) && text.starts_with("n "), "{text}");

    let foreign = pair_flags(&stranger.issue("client", "DNS:client"));
    let old = ca.issue_expired("old", "DNS:old");
    let (code, text) = members(addr, &[&ca_flag], &[]);
    assert!(code == Some(1) && text.contains("the other side wants a certificate"), "{text}");
    agent.wait_for("No TLS with client 127.0.0.1:");
    let (code, text) = members(addr, &[&ca_flag, &foreign[0], &foreign[1]], &[]);
    assert!(code == Some(1) && text.contains("it is not signed by its CA"), "{text}");
    // Our command refuses its own expired certificate; openssl's client sends it.
    let expired = pair_flags(&old);
    let (code, text) = members(addr, &[&ca_flag, &expired[0], &expired[1]], &[]);
    assert!(code == Some(1) && text.contains("the certificate expired on 2021-01-01"), "{text}");
    let files = [old.cert.to_str().unwrap(), old.key.to_str().unwrap()];
    let (_, text) =
        s_client("127.40.1.3:8500", &ca.file(), &["-quiet", "-cert", files[0], "-key", files[1]], HEALTH);
    assert!(!text.contains("HTTP/1.1") && text.contains("certificate expired"), "{text}");
    agent.wait_for("agent.http: No TLS with client");
    let (_, text) = s_client("127.40.1.3:8500", &ca.file(), &["-quiet"], HEALTH);
    assert!(!text.contains("HTTP/1.1"), "{text}");
    let info = Command::new(THANE)
        .args(["info", "-rpc-addr=127.40.1.3:7373", &ca_flag, &own[0], &own[1]])
        .output()
        .unwrap();
    let info = String::from_utf8(info.stdout).unwrap();
    assert!(info.lines().any(|line| line.trim() == "no_tls = 2"), "counted at its port: {info}");
}

#[test]
fn a_reload_takes_new_files_and_a_broken_one_leaves_the_old_ones() {
    let ca = Authority::new();
    let (pair, newer) = (ca.issue("first", "IP:127.40.1.4"), ca.issue("second", "IP:127.40.1.4"));
    let mut agent = agent("127.40.1.4", &pair, &["-tls-rpc"]);
    let subject = || s_client("127.40.1.4:7373", &ca.file(), &[], "").1;
    assert!(subject().contains("subject=CN = first"));
    std::fs::copy(&newer.cert, &pair.cert).unwrap();
    std::fs::copy(&newer.key, &pair.key).unwrap();
    agent.signal("HUP");
    agent.wait_for_count("Configuration reloaded", 1);
    poll("the new certificate", || subject().contains("subject=CN = second").then_some(()));

    std::fs::write(&pair.cert, "not a certificate").unwrap();
    agent.signal("HUP");
    agent.wait_for_count("Configuration reloaded", 2);
    let line = agent.wait_for("[ERR] agent: TLS certificate file");
    assert!(
        line.ends_with("begins with -----BEGIN CERTIFICATE-----; the files read before stay in use"),
        "{line}"
    );
    assert!(subject().contains("subject=CN = second"), "the old certificate stays");
    std::fs::copy(&ca.issue_expired("third", "IP:127.40.1.4").cert, &pair.cert).unwrap();
    agent.signal("HUP");
    agent.wait_for("the certificate expired on 2021-01-01 00:00:00 UTC");
    assert!(subject().contains("subject=CN = second"), "the old certificate stays");
}

#[test]
fn files_that_cannot_be_used_end_the_start_with_one_line() {
    let ca = Authority::new();
    let (pair, other) = (ca.issue("agent", "DNS:a"), ca.issue("other", "DNS:a"));
    let (old, text) = (ca.issue_expired("old", "DNS:a"), ca.path("text"));
    std::fs::write(&text, "text").unwrap();
    let sealed = ca.path("sealed.key");
    let encrypted = Command::new("openssl")
        .args(["pkcs8", "-topk8", "-passout", "pass:x", "-in"])
        .arg(&pair.key)
        .arg("-out")
        .arg(&sealed)
        .status();
    assert!(encrypted.unwrap().success());
    let none = ca.path("none");
    let cases: [(&Path, &Path, Option<&Path>, &str); 8] = [
        (&old.cert, &old.key, None, "old.pem': the certificate expired on 2021-01-01 00:00:00 UTC: renew it"),
        (&none, &pair.key, None, "none': No such file or directory: check the path"),
        (&pair.cert, &none, None, "TLS key file '"),
        (&text, &pair.key, None, "no certificate in PEM form: it begins with -----BEGIN CERTIFICATE-----"),
        (&pair.cert, &text, None, "no private key in PEM form: it begins with -----BEGIN PRIVATE KEY-----"),
        (&pair.cert, &sealed, None, "the key is encrypted: store it without a passphrase"),
        (&pair.cert, &other.key, None, "other.key': this is not the key of the certificate in '"),
        (&pair.cert, &pair.key, Some(&text), "TLS CA file '"),
    ];
    for (cert, key, authority, why) in cases {
        let mut command = Command::new(THANE);
        command.args(["agent", "-bind=127.40.1.5", "-rpc-addr=127.40.1.5:7373", "-tls-rpc"]);
        command.args([flag("cert-file", cert), flag("key-file", key)]);
        if let Some(authority) = authority {
            command.args(["-tls-verify-clients".to_owned(), flag("ca-file", authority)]);
        }
        let output = command.output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{why}: {shown}");
        let lines: Vec<&str> = shown.lines().filter(|line| line.contains("TLS")).collect();
        assert!(lines.len() == 1 && lines[0].contains(why), "{why}: {shown}");
    }
}
