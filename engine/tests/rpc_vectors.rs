//! Golden vectors of the RPC protocol: what real Serf agents and clients sent, decoded and encoded back.
//!
//! `vectors/rpc.json` is Serf 0.9.4's command line against its agent, one entry per run and direction.
//! In `vectors/wire.json` a Python client asked, so its requests have another order of keys.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::Value as Json;
use thane_engine::ipc::{
    Command, CoordinateResponse, EventRequest, Frames, HandshakeRequest, JoinRequest, JoinResponse,
    KeyRequest, KeyResponse, LogRecord, MemberRecord, MembersRequest, MembersResponse, QueryRecord,
    QueryRequest, REQUEST_BYTES_MAX, Request, RequestHeader, RespondRequest, ResponseHeader, Stats,
    StreamRecord, TagsRequest, Value,
};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn wire_vectors(direction: &str) -> Vec<(String, Vec<u8>)> {
    let all: Vec<Json> = serde_json::from_str(include_str!("vectors/wire.json")).unwrap();
    all.iter()
        .filter(|vector| vector["transport"] == "rpc" && vector["direction"] == direction)
        .map(|vector| (vector["name"].as_str().unwrap().to_owned(), hex(vector["hex"].as_str().unwrap())))
        .collect()
}

fn captures(direction: &str) -> Vec<(String, Vec<Vec<u8>>)> {
    let all: Vec<Json> = serde_json::from_str(include_str!("vectors/rpc.json")).unwrap();
    all.iter()
        .filter(|capture| capture["direction"] == direction)
        .map(|capture| {
            let bytes = hex(capture["hex"].as_str().unwrap());
            (capture["command"].as_str().unwrap().to_owned(), values(&bytes))
        })
        .collect()
}

fn values(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut frames, mut values) = (Frames::new(REQUEST_BYTES_MAX), Vec::new());
    frames.feed(bytes);
    while let Some(value) = frames.poll().unwrap() {
        values.push(value.to_vec());
    }
    assert!(!frames.is_mid_value());
    values
}

fn requests(values: &[Vec<u8>]) -> Vec<(u64, Request)> {
    let (mut values, mut requests) = (values.iter(), Vec::new());
    while let Some(header) = values.next() {
        let header = RequestHeader::decode(header).unwrap();
        let Some(command) = Command::parse(&header.command) else { continue };
        let body: &[u8] = if command.has_body() { values.next().unwrap() } else { &[] };
        requests.push((header.seq, Request::decode(command, body).unwrap()));
    }
    requests
}

fn again<V: Value>(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    V::decode(bytes).unwrap().encode(&mut out);
    out
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Encodes a body or record of the agent back, by the keys that are in it.
fn body_again(bytes: &[u8]) -> Vec<u8> {
    let has = |key: &[u8]| contains(bytes, key);
    match () {
        () if has(b"\xa5Error\xa0\xa3Seq") || bytes.starts_with(b"\x82\xa5Error") => {
            again::<ResponseHeader>(bytes)
        }
        () if has(b"\xa7runtime") => again::<Stats>(bytes),
        () if has(b"\xa5Coord") => again::<CoordinateResponse>(bytes),
        () if has(b"\xa7NumResp") => again::<KeyResponse>(bytes),
        () if has(b"\xa3Num") => again::<JoinResponse>(bytes),
        () if has(b"\xa4From") => again::<QueryRecord>(bytes),
        () if has(b"\xa3Log") => again::<LogRecord>(bytes),
        () if has(b"\xa5Event") => again::<StreamRecord>(bytes),
        () if has(b"\xa7Members") => again::<MembersResponse>(bytes),
        () => panic!("nobody's body: {bytes:x?}"),
    }
}

/// Go writes maps in random order, so where several entries are in one only the bytes can be compared.
fn assert_same(ours: &[u8], theirs: &[u8], name: &str) -> bool {
    let go_map = [&b"\xa7runtime"[..], b"\xa8Messages\x83", b"\xa4Tags\x82", b"\xa4Tags\x83"];
    if go_map.iter().any(|map| contains(theirs, map)) {
        let sorted = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.sort_unstable();
            bytes
        };
        assert_eq!(sorted(ours), sorted(theirs), "{name}");
        return false;
    }
    assert_eq!(ours, theirs, "{name}");
    true
}

#[test]
fn requests_of_serfs_client_encode_back_to_the_same_bytes() {
    let mut seen = Vec::new();
    for (name, values) in captures("C>S") {
        let theirs = values.concat();
        let mut ours = Vec::new();
        for (seq, request) in requests(&values) {
            request.encode(seq, &mut ours);
            seen.push(request.command());
        }
        assert_same(&ours, &theirs, &name);
    }
    for &command in Command::ALL {
        let captured = seen.contains(&command);
        let never = [Command::Members, Command::Stop, Command::Respond].contains(&command);
        assert!(captured || never, "{command:?}");
    }
}

#[test]
fn what_agents_sent_encodes_back_to_the_same_bytes() {
    let mut same = 0;
    for (name, values) in captures("S>C") {
        for value in values {
            same += usize::from(assert_same(&body_again(&value), &value, &name));
        }
    }
    for (name, bytes) in wire_vectors("S>C") {
        for value in values(&bytes) {
            same += usize::from(assert_same(&body_again(&value), &value, &name));
        }
    }
    assert!(same > 100, "{same} values");
}

#[test]
fn requests_of_another_client_mean_what_they_say() {
    let text = str::to_owned;
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (text(key), text(value))).collect()
    };
    let expected = [
        ("rpc_members_c2s", 1, Request::Members),
        ("rpc_handshake_c2s", 1, Request::Handshake(HandshakeRequest { version: 2 })),
        (
            "rpc_members-filtered_c2s",
            5,
            Request::MembersFiltered(MembersRequest {
                tags: map(&[("role", "web")]),
                status: text("alive"),
                name: String::new(),
            }),
        ),
        (
            "rpc_join_c2s",
            10,
            Request::Join(JoinRequest { existing: vec![text("127.0.77.2:17946")], replay: false }),
        ),
        (
            "rpc_event_c2s",
            12,
            Request::Event(EventRequest {
                name: text("deploy"),
                payload: b"v1.2.3".to_vec(),
                coalesce: false,
            }),
        ),
        (
            "rpc_query_c2s",
            15,
            Request::Query(QueryRequest {
                filter_nodes: Vec::new(),
                filter_tags: BTreeMap::new(),
                request_ack: true,
                relay_factor: 0,
                timeout_ns: 2_000_000_000,
                name: text("load"),
                payload: b"pp".to_vec(),
            }),
        ),
        ("rpc_respond_c2s", 4, Request::Respond(RespondRequest { id: 3, payload: b"my answer".to_vec() })),
        (
            "rpc_tags_c2s",
            20,
            Request::Tags(TagsRequest { tags: map(&[("new", "t")]), delete_tags: vec![text("dc")] }),
        ),
        (
            "rpc_install-key_c2s",
            22,
            Request::InstallKey(KeyRequest { key: text("AAAAAAAAAAAAAAAAAAAAAA==") }),
        ),
    ];
    let vectors: BTreeMap<String, Vec<u8>> = wire_vectors("C>S").into_iter().collect();
    for (name, seq, request) in expected {
        assert_eq!(requests(&values(&vectors[name])), vec![(seq, request)], "{name}");
    }
}

#[test]
fn cut_and_flipped_bytes_never_panic() {
    for (_, bytes) in wire_vectors("C>S").into_iter().chain(wire_vectors("S>C")) {
        for place in 0..bytes.len() {
            let mut frames = Frames::new(REQUEST_BYTES_MAX);
            frames.feed(&bytes[..place]);
            while let Ok(Some(_)) = frames.poll() {}
            for bits in [0x01, 0x40, 0x80, 0xff] {
                let mut flipped = bytes.clone();
                flipped[place] ^= bits;
                let mut frames = Frames::new(REQUEST_BYTES_MAX);
                frames.feed(&flipped);
                while let Ok(Some(value)) = frames.poll() {
                    for &command in Command::ALL {
                        let _ = Request::decode(command, value);
                    }
                    let _ = (RequestHeader::decode(value), ResponseHeader::decode(value));
                    let _ = (MembersResponse::decode(value), MemberRecord::decode(value));
                    let _ = (Stats::decode(value), KeyResponse::decode(value));
                }
            }
        }
    }
}
