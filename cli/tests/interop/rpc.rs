//! A bare RPC connection, for what no command line can say: payloads with zero bytes, and events in quick succession.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use serde::{Deserialize, Serialize};

use super::agent::DEADLINE;

/// A connection after its handshake.
pub(crate) struct RpcConnection {
    stream: TcpStream,
    seq: u64,
}

impl RpcConnection {
    /// Connects and shakes hands.
    pub(crate) fn open(address: SocketAddr) -> RpcConnection {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline is a valid timeout");
        let mut connection = RpcConnection { stream, seq: 0 };
        connection.call("handshake", &Handshake { version: 1 });
        connection
    }

    /// Dispatches a user event.
    pub(crate) fn event(&mut self, name: &str, payload: &[u8], coalesce: bool) {
        self.call("event", &Event { name, payload, coalesce });
    }

    /// Dispatches user events of one name in one write, so that no answer comes between two of them.
    pub(crate) fn burst(&mut self, name: &str, payloads: impl IntoIterator<Item = Vec<u8>>, coalesce: bool) {
        let (mut bytes, before) = (Vec::new(), self.seq);
        for payload in payloads {
            self.seq += 1;
            encode(&mut bytes, &Request { command: "event", seq: self.seq });
            encode(&mut bytes, &Event { name, payload: &payload, coalesce });
        }
        self.stream.write_all(&bytes).expect("the agent reads");
        (before + 1..=self.seq).for_each(|seq| self.read_header(seq, "event"));
    }

    /// Sends a request whose answer is a header only.
    fn call(&mut self, command: &str, body: &impl Serialize) {
        self.seq += 1;
        let mut bytes = Vec::new();
        encode(&mut bytes, &Request { command, seq: self.seq });
        encode(&mut bytes, body);
        self.stream.write_all(&bytes).expect("the agent reads");
        self.read_header(self.seq, command);
    }

    fn read_header(&mut self, seq: u64, command: &str) {
        let reply: Reply = rmp_serde::from_read(&self.stream).expect("the agent answers with a header");
        assert_eq!((reply.seq, &*reply.error), (seq, ""), "answer to {command}");
    }
}

fn encode(bytes: &mut Vec<u8>, value: &impl Serialize) {
    let mut serializer = rmp_serde::Serializer::new(bytes).with_struct_map();
    value.serialize(&mut serializer).expect("a Vec takes all bytes");
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    command: &'a str,
    seq: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Handshake {
    version: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Event<'a> {
    name: &'a str,
    #[serde(with = "serde_bytes")]
    payload: &'a [u8],
    coalesce: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
    seq: u64,
    error: String,
}
