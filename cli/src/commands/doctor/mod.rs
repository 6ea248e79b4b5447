//! `thane doctor`: why an agent does not start, or does not find its cluster. It takes the agent's flags and files, and
//! changes nothing.

mod finding;
mod here;
mod holder;
mod member;
mod ports;

use std::process::ExitCode;

use self::finding::{Report, Severity};
use crate::agent::{Config, read_config};
use crate::command::{Command, Failure};
use crate::flags::Argument;
use crate::output::say;

pub(crate) const COMMAND: Command = Command {
    name: "doctor",
    arguments: "[-member=ADDR] [options of the agent]",
    synopsis: "Check why an agent does not start or does not find its cluster",
    about: "Checks the configuration, ports, addresses, DNS, descriptors, the clock, buffers, io_uring and files of an \
        agent with these options, and, with a member, whether its ports answer, whether key and label are the same, \
        whether long datagrams arrive, and whether the node's name is free. One line for each finding, with what to \
        do. Exit code: 0 all is well, 1 warnings, 2 failures.",
    options: &[
        (
            "-member=ADDR",
            "A member of the cluster, host or host:port; default: the first of -join and -retry-join",
        ),
        ("...", "Every option of 'thane agent', such as -config-file, -bind, -encrypt"),
    ],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let (member, rest) = member_of(arguments)?;
    let mut report = Report::default();
    let config = match read_config(&rest) {
        Ok(config) => config,
        Err(Failure::Message(why)) => {
            report.add(Severity::Bad, "config", format!("{why}: an agent does not start with this"));
            return Ok(end(&report));
        }
        Err(other) => return Err(other),
    };
    examine(&config, member.as_deref(), &mut report);
    Ok(end(&report))
}

fn end(report: &Report) -> ExitCode {
    report.lines().for_each(say);
    ExitCode::from(report.exit_code())
}

fn examine(config: &Config, member: Option<&str>, report: &mut Report) {
    here::config(config, report);
    ports::tls_files(config, report);
    let agent = ports::rpc(config, report);
    let free = ports::gossip(config, agent.as_ref(), report);
    here::names(config, report);
    here::descriptors(report);
    here::clock(report);
    here::buffers(agent.as_ref(), report);
    here::driver(config, report);
    here::snapshot(config, report);
    let keys = here::keys(config, report);
    let known = config.settings.start_join.iter().chain(&config.retry.addresses).next();
    match member.map(str::to_owned).or_else(|| known.cloned()) {
        Some(addr) => member::examine(config, &addr, keys, free, agent.as_ref(), report),
        None => report.add(
            Severity::Note,
            "member",
            "none is named: -member=ADDR checks the way to one".to_owned(),
        ),
    }
}

/// The member, and the options that are the agent's.
fn member_of(arguments: &[Argument]) -> Result<(Option<String>, Vec<Argument>), Failure> {
    let (mut member, mut rest) = (None, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let name = argument.trim_start_matches('-');
        match name.split_once('=') {
            Some(("member", addr)) => member = Some(addr.to_owned()),
            None if name == "member" => {
                let next = arguments.next().ok_or(Failure::Usage("-member needs an address."))?;
                member = Some(next.to_string());
            }
            _ => rest.push(argument.clone()),
        }
    }
    Ok((member, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_member_is_told_from_the_options_of_the_agent() {
        let of = |line: &str| {
            let arguments: Vec<Argument> = line.split(' ').map(Argument::from).collect();
            let (member, rest) = member_of(&arguments).unwrap();
            (member, rest.iter().map(Argument::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(of("-node=a -member=b -bind c"), (Some("b".to_owned()), "-node=a -bind c".to_owned()));
        assert_eq!(of("--member b:1 -join=x"), (Some("b:1".to_owned()), "-join=x".to_owned()));
        assert_eq!(of("-join=x"), (None, "-join=x".to_owned()));
    }
}
