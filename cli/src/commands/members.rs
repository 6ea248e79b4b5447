//! `thane members`: lists members.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;

use serde::Serialize;
use thane_engine::ipc::{Member, MembersRequest, MembersResponse, Request};

use crate::commands::{Command, Failure, tags};
use crate::flags::Argument;
use crate::output::{columns, formatted, say};
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, Rpc};

pub(crate) const COMMAND: Command = Command {
    name: "members",
    arguments: "[options]",
    synopsis: "List the members of the cluster",
    about: "Lists the members that the agent knows, with address, status and tags. Filters are regular \
        expressions; those given must all match.",
    options: &[
        ("-name=REGEX", "Only members with such a name"),
        ("-status=REGEX", "Only members with such a status: alive, leaving, left or failed"),
        ("-tag=NAME=REGEX", "Only members with such a tag; can be given several times"),
        ("-role=REGEX", "The old way to say -tag role=REGEX"),
        ("-detailed", "Protocol versions too (text only)"),
        ("-format=text", "text or json"),
        ADDR_OPTION,
        AUTH_OPTION,
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
    let filtered = Request::MembersFiltered(MembersRequest { tags, status, name });
    let mut members: Vec<Member> = rpc
        .connect()?
        .fetch::<MembersResponse>(&filtered)
        .map_err(|error| Failure::of("Error retrieving members", error))?
        .members;
    members.sort_by(|left, right| left.name.cmp(&right.name));
    say(formatted(&format, text(&members, detailed), &Listing::of(&members))?);
    Ok(ExitCode::SUCCESS)
}

fn text(members: &[Member], detailed: bool) -> String {
    let rows: Vec<Vec<String>> = members
        .iter()
        .map(|member| {
            let tags: Vec<String> =
                member.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let mut row = vec![member.name.clone(), addr(member), member.status.clone(), tags.join(",")];
            if detailed {
                let Member { delegate_cur, delegate_min, delegate_max, .. } = member;
                row.push(format!("Protocol Version: {delegate_cur}"));
                row.push(format!("Available Protocol Range: [{delegate_min}, {delegate_max}]"));
            }
            row
        })
        .collect();
    columns(&rows)
}

/// `address:port`, an IPv6 address in brackets; nothing before the colon where the address is not known.
fn addr(member: &Member) -> String {
    match member.addr {
        Some(ip) => SocketAddr::new(ip, member.port).to_string(),
        None => format!(":{}", member.port),
    }
}

/// The JSON form.
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
