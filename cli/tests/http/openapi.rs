//! docs/openapi.json against a running agent: every path and method, with what the file gives as examples and with
//! everything else.

use serde_json::{Value, json};

use crate::client::{Response, Stream, get, post, request};
use crate::process::{Agent, THANE, poll};
use crate::schema::{check, file};

const JSON: &str = "Content-Type: application/json";

/// Whether a response is one that the file describes for this operation.
fn described(file: &Value, operation: &Value, response: &Response) -> Result<(), String> {
    let status = response.status.to_string();
    let known = operation["responses"].get(&status).ok_or(format!("status {status} is not described"))?;
    let Some(content) = known.get("content") else {
        return if response.body.is_empty() { Ok(()) } else { Err(format!("{status} has a body")) };
    };
    let kind = response.header("Content-Type");
    let schema = &content.get(kind).ok_or(format!("{status} has type {kind:?}"))?["schema"];
    match kind {
        "application/json" => check(file, schema, &response.json(), &status),
        "application/x-ndjson" => response
            .text()
            .lines()
            .try_for_each(|line| check(file, schema, &serde_json::from_str(line).unwrap(), &status)),
        _ => check(file, schema, &Value::String(response.text()), &status),
    }
}

/// All operations: path, method, description.
fn operations(file: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = file["paths"].as_object().unwrap();
    let of = |(path, methods)| {
        let methods: &serde_json::Map<_, _> = Value::as_object(methods).unwrap();
        methods.iter().map(move |(method, operation)| (String::as_str(path), method.as_str(), operation))
    };
    paths.iter().flat_map(of).collect()
}

/// The path of an operation with the examples of its parameters.
fn example_path(path: &str, operation: &Value) -> String {
    let mut path = path.to_owned();
    for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let (name, Some(example)) = (parameter["name"].as_str().unwrap(), parameter.get("example")) else {
            continue;
        };
        let example = example.as_str().unwrap().replace('|', "%7C");
        match parameter["in"].as_str() {
            Some("path") => path = path.replace(&format!("{{{name}}}"), &example),
            Some("query") => {
                path += &format!("{}{name}={example}", if path.contains('?') { '&' } else { '?' })
            }
            _ => {}
        }
    }
    path
}

#[test]
fn every_operation_answers_its_example_as_described() {
    let file = file();
    let addr = "127.15.101.1:8500";
    let http = format!("-http-addr={addr}");
    let mut agent = Agent::start(
        THANE,
        "127.15.101.1",
        &["-node=n1", "-profile=local", "-encrypt=AAECAwQFBgcICQoLDA0ODw==", "-tag=old=x", &http],
    );
    let _second = Agent::start(
        THANE,
        "127.15.101.2",
        &[
            "-node=n2",
            "-profile=local",
            "-encrypt=AAECAwQFBgcICQoLDA0ODw==",
            "-join=127.15.101.1",
            "-event-handler=query:uptime=printf '\\377'",
        ],
    );
    poll("two members", || (get(addr, "/v1/health").json()["members"] == 2).then_some(()));
    let expected = |path: &str, method: &str| match (path, method) {
        ("/v1/join", _) => 502,
        ("/v1/events" | "/v1/force-leave" | "/v1/tags" | "/v1/leave", "post") => 204,
        _ => 200,
    };
    let mut all = operations(&file);
    // Nothing can be asked after it.
    all.sort_by_key(|(path, ..)| *path == "/v1/leave");
    for (path, method, operation) in all {
        if (path, method) == ("/v1/events", "get") {
            continue;
        }
        let body = operation.pointer("/requestBody/content/application~1json/example");
        let body = body.map(Value::to_string).unwrap_or_default();
        let sent = example_path(path, operation);
        let response = request(addr, &method.to_uppercase(), &sent, &[JSON], body.as_bytes());
        assert_eq!(response.status, expected(path, method), "{method} {sent}: {}", response.text());
        described(&file, operation, &response).unwrap_or_else(|why| panic!("{method} {sent}: {why}"));
    }
    assert_eq!(agent.end(), Some(0), "it has left");
}

#[test]
fn every_kind_of_event_has_the_data_that_is_described() {
    let file = file();
    let addr = "127.15.102.1:8500";
    let http = format!("-http-addr={addr}");
    let _agent = Agent::start(THANE, "127.15.102.1", &["-node=n1", "-profile=local", &http]);
    let mut stream = Stream::open(addr, &["Last-Event-ID: 0-1"]);
    let kinds = &file["paths"]["/v1/events"]["get"]["responses"]["200"]["x-events"];
    let mut next = |wanted: &str| loop {
        let sent = stream.next();
        let schema = kinds.get(&sent.event).unwrap_or_else(|| panic!("{:?} is not described", sent.event));
        check(&file, schema, &sent.data, &sent.event).unwrap();
        if sent.event == wanted {
            return sent.data;
        }
    };
    assert_eq!(next("missed"), json!({"missed": null}));
    next("member-join");
    post(addr, "/v1/events", &json!({"name": "e", "payload_base64": "/w=="}));
    assert_eq!(next("user")["payload"], Value::Null);
    post(addr, "/v1/query", &json!({"name": "q", "payload": "é", "timeout_ms": 100}));
    assert_eq!(next("query")["payload"], "é");
    let mut other =
        Agent::start(THANE, "127.15.102.2", &["-node=n2", "-profile=local", "-join=127.15.102.1", "-rejoin"]);
    next("member-join");
    other.signal("KILL");
    other.end();
    next("member-failed");
    post(addr, "/v1/force-leave", &json!({"name": "n2"}));
    next("member-leave");
    post(addr, "/v1/force-leave", &json!({"name": "n2", "prune": true}));
    next("member-reap");
    post(addr, "/v1/tags", &json!({"set": {"a": "b"}}));
    assert_eq!(next("member-update")["members"][0]["tags"], json!({"a": "b"}));
}

/// Values of every type, some of them fitting, from a small generator with a fixed seed.
struct Junk(u64);

impl Junk {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn value(&mut self, depth: u64) -> Value {
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.below(1 << 20)),
            3 => json!(-1.5),
            4 => json!("x".repeat(self.below(20_000) as usize)),
            5 => json!(["", "%", "_serf_x", "n1", "é\u{0}\n", "(", "AAEC"][self.below(7) as usize]),
            6 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => (0..self.below(4)).map(|n| (format!("k{n}"), self.value(depth - 1))).collect(),
        }
    }

    /// A body for a schema: most properties are there, most of the right type.
    fn body(&mut self, file: &Value, schema: &Value) -> Value {
        let schema = match schema.get("$ref") {
            Some(target) => file.pointer(&target.as_str().unwrap()[1..]).unwrap(),
            None => schema,
        };
        if self.below(8) == 0 {
            return self.value(2);
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let mut body = serde_json::Map::new();
        for (name, rule) in properties.into_iter().flatten() {
            let fitting = match rule.get("type").and_then(Value::as_str) {
                _ if self.below(6) == 0 => self.value(2),
                Some("string") => json!(["n1", "install", "", "AAEC", "x"][self.below(5) as usize]),
                Some("integer") => json!(self.below(200)),
                Some("boolean") => json!(true),
                Some("array") => json!(["n1"]),
                _ => json!({"a": "b"}),
            };
            if self.below(4) > 0 {
                body.insert(name.clone(), fitting);
            }
        }
        if self.below(10) == 0 {
            body.insert("extra".to_owned(), self.value(1));
        }
        Value::Object(body)
    }
}

#[test]
fn whatever_is_sent_the_answer_is_one_that_is_described() {
    let file = file();
    let addr = "127.15.103.1:8500";
    let http = format!("-http-addr={addr}");
    let _agent = Agent::start(THANE, "127.15.103.1", &["-node=n1", "-profile=local", &http]);
    let mut junk = Junk(7);
    for (path, method, operation) in operations(&file) {
        // The first ends the agent, the second has no end.
        if path == "/v1/leave" || (path, method) == ("/v1/events", "get") {
            continue;
        }
        let schema = operation.pointer("/requestBody/content/application~1json/schema");
        for round in 0..24 {
            let body = schema.map_or(String::new(), |schema| junk.body(&file, schema).to_string());
            let cut = if round % 8 == 7 { body.len() / 2 } else { body.len() };
            let body = &body.as_bytes()[..cut];
            let sent = match round % 3 {
                0 => example_path(path, operation),
                1 => format!("{}?name=(&status=%&tag.x=y", path.replace("{name}", "%ff")),
                _ => format!("{}?unknown=1", path.replace("{name}", "nobody")),
            };
            let response = request(addr, &method.to_uppercase(), &sent, &[JSON], body);
            described(&file, operation, &response)
                .unwrap_or_else(|why| panic!("{method} {sent} {}: {why}", String::from_utf8_lossy(body)));
        }
    }
    assert_eq!(get(addr, "/v1/health").json()["ready"], true, "it is unharmed");
}
