//! The stream of events across lost connections.

use serde_json::json;

use crate::client::{Stream, get, post};
use crate::process::{Agent, THANE, poll};

#[test]
fn a_reader_continues_after_its_last_event_and_is_told_what_it_missed() {
    let addr = "127.15.104.1:8500";
    let http = format!("-http-addr={addr}");
    let _agent = Agent::start(THANE, "127.15.104.1", &["-node=n1", "-profile=local", &http]);
    let fire = |n: usize| {
        let sent = post(addr, "/v1/events", &json!({"name": format!("e{n}"), "coalesce": false}));
        assert_eq!(sent.status, 204, "{}", sent.text());
    };
    // The only event that is not of this test.
    let mut stream = Stream::open(addr, &["Last-Event-ID: 0-0"]);
    while stream.next().event != "member-join" {}
    let mut stream = Stream::open(addr, &[]);
    let start = stream.next();
    assert_eq!(start.event, "", "a position comes first");
    fire(1);
    let first = stream.next();
    assert_eq!((first.event.as_str(), &first.data["name"]), ("user", &json!("e1")));
    drop(stream);
    fire(2);
    let resume = |id: &str| Stream::open(addr, &[&format!("Last-Event-ID: {id}")]);
    let mut stream = resume(&first.id);
    assert_eq!(stream.next().id, first.id);
    assert_eq!(stream.next().data["name"], "e2");
    let mut stream = resume(&start.id);
    stream.next();
    assert_eq!(stream.next(), first);
    // More than are kept.
    (3..1_200).for_each(fire);
    let mut stream = resume(&first.id);
    stream.next();
    let missed = stream.next();
    assert_eq!(missed.event, "missed");
    let count = missed.data["missed"].as_u64().unwrap() as usize;
    let after = stream.next();
    assert_eq!(after.data["name"], format!("e{}", 2 + count), "the count is exact");
    let counted = poll("the counter", || {
        let text = get(addr, "/metrics").text();
        text.lines()
            .find_map(|line| line.strip_prefix("thane_http_events_missed_total ")?.parse::<usize>().ok())
    });
    // The readers before, whose streams are open still, may have missed some too.
    assert!(counted >= count, "{counted} counted, {count} missed by this reader");
}
