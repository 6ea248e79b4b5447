//! `thane monitor`: shows an agent's log and events live.

use std::process::{self, ExitCode};
use std::time::Duration;

use thane_engine::ipc::{Member, MonitorRequest, Record, Request, StreamRecord, StreamRequest};

use crate::command::{Command, Failure};
use crate::commands::on_interrupt;
use crate::escape;
use crate::flags::Argument;
use crate::output::say;
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, Rpc, TIMEOUT_OPTION, TLS_OPTION};

pub(crate) const COMMAND: Command = Command {
    name: "monitor",
    arguments: "[options]",
    synopsis: "Show the log and the events of an agent",
    about: "Shows the last log lines of an agent, then new log lines and all events, until interrupted. The log \
        level of the agent does not limit the lines.",
    options: &[
        ("-log-level=info", "Lowest level to show: trace, debug, info, warn or err"),
        ADDR_OPTION,
        AUTH_OPTION,
        TLS_OPTION,
        TIMEOUT_OPTION,
    ],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let (mut rpc, mut log_level) = (Rpc::from_environment(), "INFO".to_owned());
    rpc.flags().flag("log-level", &mut log_level).parse(arguments)?;
    let mut client = rpc.connect()?;
    on_interrupt(|| process::exit(0));
    client
        .begin(&Request::Stream(StreamRequest { filter: "*".to_owned() }))
        .map_err(|error| Failure::of("Error starting stream", error))?;
    client
        .begin(&Request::Monitor(MonitorRequest { log_level }))
        .map_err(|error| Failure::of("Error starting monitor", error))?;
    // A quiet agent has nothing to show.
    client.wait_at_most(Duration::ZERO);
    while let Ok((_, record)) = client.record() {
        match record {
            Record::Log(line) => say(escape::lines(&line.log)),
            Record::Event(event) => say(format_args!("Event Info:{}", event_text(&event))),
            Record::Query(_) => {}
        }
    }
    Err(Failure::Message(
        "\nRemote side ended the monitor! The agent has most likely stopped or crashed.".to_owned(),
    ))
}

/// The fields of an event, one per line, in Go's notation, as Serf prints them.
fn event_text(event: &StreamRecord) -> String {
    let fields = match event {
        StreamRecord::Members(record) => {
            vec![("Event", quote(&record.event)), ("Members", list(record.members.iter().map(member_map)))]
        }
        StreamRecord::User(record) => vec![
            ("Coalesce", record.coalesce.to_string()),
            ("Event", quote(&record.event)),
            ("LTime", number(record.ltime.0)),
            ("Name", quote(&record.name)),
            ("Payload", bytes("[]byte", &record.payload)),
        ],
        StreamRecord::Query(record) => vec![
            ("Event", quote(&record.event)),
            ("ID", number(record.id)),
            ("LTime", number(record.ltime.0)),
            ("Name", quote(&record.name)),
            ("Payload", bytes("[]byte", &record.payload)),
        ],
    };
    fields.iter().map(|(name, value)| format!("\n\t{name}: {value}")).collect()
}

fn member_map(member: &Member) -> String {
    let addr = match member.addr {
        Some(std::net::IpAddr::V4(ip)) => bytes("[]uint8", &ip.octets()),
        Some(std::net::IpAddr::V6(ip)) => bytes("[]uint8", &ip.octets()),
        None => bytes("[]uint8", &[]),
    };
    let tags = map(member.tags.iter().map(|(name, value)| (name.as_str(), quote(value))));
    map([
        ("Addr", addr),
        ("DelegateCur", number(member.delegate_cur.into())),
        ("DelegateMax", number(member.delegate_max.into())),
        ("DelegateMin", number(member.delegate_min.into())),
        ("Name", quote(&member.name)),
        ("Port", number(member.port.into())),
        ("ProtocolCur", number(member.protocol_cur.into())),
        ("ProtocolMax", number(member.protocol_max.into())),
        ("ProtocolMin", number(member.protocol_min.into())),
        ("Status", quote(&member.status)),
        ("Tags", tags),
    ])
}

/// Go's decoder reads numbers below 128 as signed and others as unsigned; Go prints signed ones in decimal and
/// unsigned ones in hex.
fn number(number: u64) -> String {
    if number < 0x80 { number.to_string() } else { format!("{number:#x}") }
}

fn bytes(kind: &str, bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "<nil>".to_owned();
    }
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:#x}")).collect();
    format!("{kind}{{{}}}", digits.join(", "))
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[]interface {{}}{{{}}}", values.collect::<Vec<_>>().join(", "))
}

fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<String> =
        pairs.into_iter().map(|(key, value)| format!("{}:{value}", quote(key))).collect();
    format!("map[interface {{}}]interface {{}}{{{}}}", pairs.join(", "))
}

/// Text in quotes, with Go's escapes.
fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            '\r' => quoted.push_str("\\r"),
            letter if letter.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(letter))),
            letter if escape::is_active(letter) => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use thane_engine::ipc::{MemberRecord, UserEventRecord};
    use thane_engine::wire::LamportTime;

    #[test]
    fn events_look_as_go_prints_them() {
        let user = StreamRecord::User(UserEventRecord {
            event: "user".into(),
            ltime: LamportTime(300),
            name: "q\"\n\u{e9}\u{1}\u{85}".into(),
            payload: b"hi".to_vec(),
            coalesce: true,
        });
        let expected = "\n\tCoalesce: true\n\tEvent: \"user\"\n\tLTime: 0x12c\
                        \n\tName: \"q\\\"\\n\u{e9}\\x01\\u0085\"\n\tPayload: []byte{0x68, 0x69}";
        assert_eq!(event_text(&user), expected);
        let member = Member {
            name: "a1".into(),
            addr: Some([127, 11, 0, 1].into()),
            port: 7946,
            tags: [("b".to_owned(), "x<y".to_owned())].into(),
            status: "alive".into(),
            delegate_cur: 5,
            ..Member::default()
        };
        let update =
            StreamRecord::Members(MemberRecord { event: "member-update".into(), members: vec![member] });
        let expected = "\n\tEvent: \"member-update\"\n\tMembers: []interface {}{map[interface {}]interface {}\
            {\"Addr\":[]uint8{0x7f, 0xb, 0x0, 0x1}, \"DelegateCur\":5, \"DelegateMax\":0, \"DelegateMin\":0, \
            \"Name\":\"a1\", \"Port\":0x1f0a, \"ProtocolCur\":0, \"ProtocolMax\":0, \"ProtocolMin\":0, \
            \"Status\":\"alive\", \"Tags\":map[interface {}]interface {}{\"b\":\"x<y\"}}}";
        assert_eq!(event_text(&update), expected);
    }
}
