//! Chromium without a window, driven through its debugging pipe (Chrome DevTools Protocol): messages of JSON, each
//! followed by a zero byte.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A page takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where Chromium is. Without it the test can't run: under CI that is a failure.
pub(crate) fn find(test: &str) -> Option<&'static str> {
    let runs = |name: &&&str| {
        let asked =
            Command::new(**name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let found = ["chromium", "chromium-browser", "google-chrome"].iter().find(runs).copied();
    assert!(
        found.is_some() || std::env::var("CI").is_err(),
        "{test}: no Chromium (apt-get install chromium)"
    );
    if found.is_none() {
        eprintln!("NOT RUN: {test}: no Chromium (apt-get install chromium)");
    }
    found
}

/// A page in a browser of its own.
pub(crate) struct Page {
    child: Child,
    to: File,
    from: Receiver<Value>,
    /// What the browser reported without being asked.
    pub(crate) reports: Vec<Value>,
    session: String,
    last: u64,
    _folder: TempDir,
}

impl Page {
    /// Starts a browser with an empty page of this width and height.
    pub(crate) fn open(program: &str, width: u32, height: u32) -> Page {
        let folder = TempDir::new().unwrap();
        let pipe = |name: &str| {
            let path = folder.path().join(name);
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        };
        let (there, back) = (pipe("there"), pipe("back"));
        // The browser reads descriptor 3 and writes descriptor 4.
        let line = "exec \"$0\" \"$@\" 3<\"$THERE\" 4>\"$BACK\"";
        let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
        let child = Command::new("sh")
            .args(["-c", line, program, "--headless=new", "--no-sandbox", "--disable-gpu"])
            .args(["--no-first-run", "--disable-dev-shm-usage", "--disable-background-networking"])
            .args(["--remote-debugging-pipe", &profile, "about:blank"])
            .env("THERE", &there)
            .env("BACK", &back)
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = File::options().write(true).open(there).unwrap();
        let (messages, from) = channel();
        let mut reader = BufReader::new(File::open(back).unwrap());
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            while reader.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
                bytes.pop();
                let message = serde_json::from_slice(&bytes).unwrap();
                if messages.send(message).is_err() {
                    return;
                }
                bytes.clear();
            }
        });
        let session = String::new();
        let mut page = Page { child, to, from, reports: Vec::new(), session, last: 0, _folder: folder };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        page.session = page.call("Target.attachToTarget", attach)["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.resize(width, height);
        page
    }

    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Calls a method of the protocol.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut answer =
                self.from.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{method}: no answer"));
            if answer["id"] != self.last {
                self.reports.push(answer);
                continue;
            }
            assert!(answer.get("error").is_none(), "{method}: {answer}");
            return answer["result"].take();
        }
    }

    /// The value of an expression of JavaScript.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", asked);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" && key.len() == 1 { key } else { "" };
            self.call("Input.dispatchKeyEvent", json!({"type": kind, "key": key, "text": text}));
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
