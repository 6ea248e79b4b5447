//! The dashboard in Chromium, with a cluster of five of which one is killed.

use serde_json::{Value, json};

use crate::browser::{Page, find};
use crate::process::{Agent, THANE, poll};

const SITE: &str = "http://127.15.120.1:8500/";

fn cluster() -> Vec<Agent> {
    let start = |n: usize| {
        let (name, tag) = (format!("-node=n{n}"), format!("-tag=role={}", if n > 3 { "db" } else { "web" }));
        let mut flags =
            vec![name.as_str(), tag.as_str(), "-profile=local", "-event-handler=query:up=echo here"];
        flags.push(if n == 1 { "-http-addr=127.15.120.1:8500" } else { "-join=127.15.120.1" });
        Agent::start(THANE, &format!("127.15.120.{n}"), &flags)
    };
    (1..=5).map(start).collect()
}

/// Waits until an expression has this value.
fn wait(page: &mut Page, expression: &str, wanted: &Value) {
    let mut last = Value::Null;
    poll(&format!("{expression} of {wanted}"), || {
        last = page.value(expression);
        (last == *wanted).then_some(())
    });
}

#[test]
fn the_dashboard_shows_a_live_cluster_and_commands_it() {
    let Some(program) = find("the dashboard") else { return };
    let mut agents = cluster();
    let mut page = Page::open(program, 1200, 900);
    page.call("Page.navigate", json!({"url": SITE}));
    let rows = "document.querySelectorAll('#members tr').length";
    wait(&mut page, rows, &json!(5));
    wait(&mut page, "document.title", &json!("Thane n1"));

    // Search, status, tag.
    page.press("/");
    assert_eq!(page.value("document.activeElement.id"), "search");
    page.call("Input.insertText", json!({"text": "role=db"}));
    wait(&mut page, rows, &json!(2));
    page.value("document.getElementById('search').value = ''; document.getElementById('search').oninput()");
    page.press("Escape");
    wait(
        &mut page,
        "[...document.getElementById('tag').options].map((o) => o.value).sort().join()",
        &json!(",role=db,role=web"),
    );
    page.value(
        "document.getElementById('tag').value = 'role=web'; document.getElementById('tag').onchange()",
    );
    wait(&mut page, rows, &json!(3));
    page.value("document.getElementById('tag').value = ''; document.getElementById('tag').onchange()");

    // One is killed: its event, its row, and the button that shows only such members.
    agents[4].signal("KILL");
    agents[4].end();
    let failed =
        "[...document.querySelectorAll('#members tr')].filter((r) => r.querySelector('td.failed')).length";
    wait(&mut page, failed, &json!(1));
    wait(
        &mut page,
        "document.getElementById('events').innerText.includes('member-failed: n5')",
        &json!(true),
    );
    page.value("document.querySelector('[data-status=failed]').click()");
    wait(&mut page, rows, &json!(1));
    assert_eq!(
        page.value("document.querySelector('[data-status=failed]').getAttribute('aria-pressed')"),
        "true"
    );
    page.value("document.querySelector('[data-status=failed]').click()");

    // An event and a query, by keyboard.
    page.press("e");
    page.call("Input.insertText", json!({"text": "deploy"}));
    page.value("document.getElementById('event-payload').value = '<img src=x onerror=alert(1)>'");
    page.press("Enter");
    page.value("document.getElementById('event-form').requestSubmit()");
    wait(&mut page, "document.getElementById('event-result').innerText", &json!("Sent."));
    wait(
        &mut page,
        "document.getElementById('events').innerText.includes('user: deploy <img')",
        &json!(true),
    );
    page.value("document.activeElement.blur()");
    page.press("q");
    page.call("Input.insertText", json!({"text": "up"}));
    page.value("document.getElementById('query-form').requestSubmit()");
    wait(
        &mut page,
        "document.getElementById('answers').innerText.includes('4 acks, 4 answers')",
        &json!(true),
    );

    // The picture and the lines.
    wait(&mut page, "document.querySelectorAll('#map circle').length >= 2", &json!(true));
    wait(
        &mut page,
        "[...document.querySelectorAll('#rates path')].every((p) => p.getAttribute('d'))",
        &json!(true),
    );

    // Narrow, light and dark.
    for width in [320, 800] {
        page.resize(width, 700);
        assert_eq!(page.value("document.documentElement.scrollWidth <= innerWidth"), true, "{width} pixels");
    }
    let mut ground = |scheme: &str| {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        page.call("Emulation.setEmulatedMedia", json!({"features": features}));
        page.value("getComputedStyle(document.body).backgroundColor")
    };
    assert_ne!(ground("light"), ground("dark"));

    // Everything that can be used has a name for those who do not see it.
    page.call("Accessibility.enable", json!({}));
    let tree = page.call("Accessibility.getFullAXTree", json!({}));
    let mut used = 0;
    for node in tree["nodes"].as_array().unwrap() {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        if ["button", "textbox", "searchbox", "combobox", "img", "log", "region"].contains(&role)
            && node["ignored"] != true
        {
            used += 1;
            assert!(node["name"]["value"].as_str().is_some_and(|name| !name.is_empty()), "{node}");
        }
    }
    assert!(used >= 12, "{used} are named");

    // Nothing came from elsewhere, and nothing was refused or thrown.
    let mut requests = 0;
    for report in &page.reports {
        match report["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => {
                requests += 1;
                let url = report["params"]["request"]["url"].as_str().unwrap();
                assert!(url.starts_with(SITE) || url.starts_with("data:"), "{url}");
            }
            "Runtime.exceptionThrown" | "Log.entryAdded" => panic!("{report}"),
            _ => {}
        }
    }
    assert!(requests > 5, "{requests} requests were seen");
}
