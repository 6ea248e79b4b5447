//! `thane members`: lists members.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::ExitCode;

use serde::Serialize;
use thane_engine::ipc::{
    Client, ClientError, Member, MembersRequest, MembersResponse, ReceivedMember, ReceivedTags, Request,
};

use crate::command::{Command, Failure};
use crate::escape;
use crate::flags::Argument;
use crate::output::{Columns, formatted, say};
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, Rpc, TIMEOUT_OPTION, TLS_OPTION};
use crate::tags;

pub(crate) const COMMAND: Command = Command {
    name: "members",
    arguments: "[options]",
    synopsis: "List the members of the cluster",
    about: "Lists the members that the agent knows, with address, status and tags. Filters are regular \
        expressions; a member is listed if all of them match.",
    options: &[
        ("-name=REGEX", "Only members whose name matches"),
        ("-status=REGEX", "Only members whose status (alive, leaving, left, failed) matches"),
        ("-tag=NAME=REGEX", "Only members whose tag NAME matches; can be given several times"),
        ("-role=REGEX", "Deprecated: use -tag role=REGEX"),
        ("-detailed", "Show protocol versions too (text format only)"),
        ("-format=text", "text or json"),
        ADDR_OPTION,
        AUTH_OPTION,
        TLS_OPTION,
        TIMEOUT_OPTION,
    ],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let (mut rpc, mut detailed, mut format) = (Rpc::from_environment(), false, "text".to_owned());
    let (mut name, mut role, mut status) = (String::new(), String::new(), String::new());
    let mut tag = Vec::new();
    rpc.flags()
        .flag("detailed", &mut detailed)
        .flag("format", &mut format)
        .flag("name", &mut name)
        .flag("role", &mut role)
        .flag("status", &mut status)
        .flag("tag", &mut tag)
        .parse(arguments)?;
    let deprecated = !role.is_empty();
    if deprecated {
        say("Deprecation warning: 'Role' has been replaced with 'Tags'");
    }
    let mut tags = tags::parse(&tag)?;
    if deprecated {
        tags.insert("role".to_owned(), role);
    }
    let filter = MembersRequest { tags, status, name };
    let mut client = rpc.connect()?;
    if format == "text" {
        say(text(&mut client, filter, detailed).map_err(failed)?.trim());
        return Ok(ExitCode::SUCCESS);
    }
    let response = client.fetch::<MembersResponse>(&Request::MembersFiltered(filter)).map_err(failed)?;
    let mut members = response.members;
    members.sort_by(|left, right| left.name.cmp(&right.name));
    say(formatted(&format, String::new(), &Listing::of(&members))?);
    Ok(ExitCode::SUCCESS)
}

fn failed(error: ClientError) -> Failure {
    Failure::of("Error retrieving members", error)
}

fn text(client: &mut Client, filter: MembersRequest, detailed: bool) -> Result<String, ClientError> {
    let mut rows = Columns::default();
    client.members(filter, |member| {
        rows.row(&escape::line(&member.name));
        rows.cell(|text| push_addr(text, member.addr, member.port));
        rows.cell(|text| text.push_str(&member.status));
        rows.cell(|text| push_tags(text, &member.tags));
        if detailed {
            let ReceivedMember { delegate_cur, delegate_min, delegate_max, .. } = member;
            let range = format!("Available Protocol Range: [{delegate_min}, {delegate_max}]");
            rows.cell(|text| text.push_str(&format!("Protocol Version: {delegate_cur}")));
            rows.cell(|text| text.push_str(&range));
        }
    })?;
    rows.sort();
    Ok(rows.into_text())
}

fn push_tags(text: &mut String, tags: &ReceivedTags<'_>) {
    let mut between = "";
    tags.for_each(|name, value| {
        for part in [between, &escape::line(name), "=", &escape::line(value)] {
            text.push_str(part);
        }
        between = ",";
    });
}

/// Appends `address:port`, an IPv6 address in brackets; an unknown address is empty.
fn push_addr(text: &mut String, addr: Option<IpAddr>, port: u16) {
    match addr {
        // The standard formatter takes as long as the rest of the row.
        Some(IpAddr::V4(ip)) => {
            for (place, octet) in ip.octets().into_iter().enumerate() {
                if place > 0 {
                    text.push('.');
                }
                push_number(text, octet.into());
            }
        }
        Some(IpAddr::V6(ip)) => text.push_str(&format!("[{ip}]")),
        None => {}
    }
    text.push(':');
    push_number(text, port);
}

fn push_number(text: &mut String, number: u16) {
    if number >= 10 {
        push_number(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

/// The list in JSON format.
#[derive(Serialize)]
struct Listing<'a> {
    members: Option<Vec<Listed<'a>>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    addr: String,
    port: u16,
    tags: &'a BTreeMap<String, String>,
    status: &'a str,
    protocol: Protocol,
}

#[derive(Serialize)]
struct Protocol {
    max: u8,
    min: u8,
    version: u8,
}

impl Listing<'_> {
    fn of(members: &[Member]) -> Listing<'_> {
        Listing { members: (!members.is_empty()).then(|| members.iter().map(Listed::of).collect()) }
    }
}

fn addr(member: &Member) -> String {
    let mut text = String::new();
    push_addr(&mut text, member.addr, member.port);
    text
}

impl Listed<'_> {
    fn of(member: &Member) -> Listed<'_> {
        Listed {
            name: &member.name,
            addr: addr(member),
            port: member.port,
            tags: &member.tags,
            status: &member.status,
            protocol: Protocol {
                max: member.delegate_max,
                min: member.delegate_min,
                version: member.delegate_cur,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_written_as_the_system_writes_them() {
        for addr in
            ["0.0.0.0:0", "127.44.100.9:7946", "255.10.1.255:65535", "[::1]:70", "[2001:db8::7:0]:10000"]
        {
            let parsed: std::net::SocketAddr = addr.parse().unwrap();
            let mut text = String::new();
            push_addr(&mut text, Some(parsed.ip()), parsed.port());
            assert_eq!(text, addr);
        }
        let mut text = String::new();
        push_addr(&mut text, None, 7946);
        assert_eq!(text, ":7946");
    }
}
