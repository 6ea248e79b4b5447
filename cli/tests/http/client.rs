//! A client that sends what it is told, and reads what comes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Nothing here takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

pub(crate) fn connect(addr: &str) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a request with these lines of header and reads the response to the end of the connection.
pub(crate) fn request(addr: &str, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Response {
    let mut stream = connect(addr);
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
    headers.iter().for_each(|line| head.push_str(&format!("{line}\r\n")));
    if method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    // The agent may refuse the request before it has all of it.
    let _ = stream.write_all(&[head.as_bytes(), b"\r\n", body].concat());
    read_response(&mut BufReader::new(stream), method == "HEAD")
}

pub(crate) fn get(addr: &str, path: &str) -> Response {
    request(addr, "GET", path, &[], b"")
}

pub(crate) fn post(addr: &str, path: &str, body: &Value) -> Response {
    request(addr, "POST", path, &["Content-Type: application/json"], body.to_string().as_bytes())
}

/// Reads status and headers.
pub(crate) fn read_head(from: &mut impl BufRead) -> Response {
    let line = |from: &mut dyn BufRead| {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let first = line(from);
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
    let status = status.unwrap_or_else(|| panic!("no response: {first:?}"));
    let mut headers = Vec::new();
    while let Some((name, value)) = line(from).split_once(": ") {
        headers.push((name.to_owned(), value.to_owned()));
    }
    Response { status, headers, body: Vec::new() }
}

fn read_response(from: &mut impl BufRead, head_only: bool) -> Response {
    let mut response = read_head(from);
    if head_only {
        return response;
    }
    if response.header("Transfer-Encoding") == "chunked" {
        while let Some(chunk) = read_chunk(from) {
            response.body.extend(chunk);
        }
    } else {
        let length = response.header("Content-Length").parse().unwrap_or(0);
        response.body.resize(length, 0);
        from.read_exact(&mut response.body).unwrap();
    }
    response
}

/// The next piece of a response in chunks; `None` after the last.
pub(crate) fn read_chunk(from: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    let length = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("no chunk: {line:?}"));
    let mut chunk = vec![0; length + 2];
    from.read_exact(&mut chunk).unwrap();
    chunk.truncate(length);
    (length > 0).then_some(chunk)
}

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: Value,
}

/// An open stream of events.
pub(crate) struct Stream {
    from: BufReader<TcpStream>,
    text: String,
}

impl Stream {
    pub(crate) fn open(addr: &str, headers: &[&str]) -> Stream {
        let mut stream = connect(addr);
        let more: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        write!(stream, "GET /v1/events HTTP/1.1\r\nHost: {addr}\r\n{more}\r\n").unwrap();
        let mut from = BufReader::new(stream);
        let head = read_head(&mut from);
        assert_eq!((head.status, head.header("Content-Type")), (200, "text/event-stream"));
        Stream { from, text: String::new() }
    }

    /// The next event, or the position that begins a stream.
    pub(crate) fn next(&mut self) -> Sent {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let mut sent = Sent::default();
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("id", id)) => sent.id = id.to_owned(),
                        Some(("event", event)) => sent.event = event.to_owned(),
                        Some(("data", data)) => sent.data = serde_json::from_str(data).unwrap(),
                        _ => {}
                    }
                }
                // A block without any of them is a sign of life.
                if sent != Sent::default() {
                    return sent;
                }
                continue;
            }
            let chunk = read_chunk(&mut self.from).expect("the stream goes on");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}
