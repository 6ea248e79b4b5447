//! What an agent is started with, Thane's and Serf's alike.

use std::net::IpAddr;

use crate::images::Software;
use crate::scenario::Settings;

/// Where every agent answers its RPC clients.
pub(crate) const RPC_PORT: u16 = 7373;
/// By this name the network's DNS knows all seeds.
pub(crate) const SEEDS_NAME: &str = "seeds";
/// The file below `/state` where a handler writes a line for each user event: its name and Lamport time.
pub(crate) const HANDLED: &str = "handled";
const HANDLER: &str = r#"user=echo "$SERF_USER_EVENT $SERF_USER_LTIME" >> /state/handled"#;

/// An agent to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentSpec {
    pub(crate) name: String,
    pub(crate) software: Software,
    /// Number of its address; another number is another address.
    pub(crate) place: u32,
    /// Found by the seeds' common name.
    pub(crate) is_seed: bool,
    /// Its container waits for the backend's release before it runs the agent.
    pub(crate) waits: bool,
    pub(crate) arguments: Vec<String>,
}

/// Arguments of the `agent` command. `join` are the addresses that it joins, `bind` the address it has to take where the default,
/// all addresses, is not meant; `config` a file with further settings.
pub(crate) fn arguments(
    name: &str,
    settings: &Settings,
    join: &[String],
    bind: Option<IpAddr>,
    config: Option<&str>,
) -> Vec<String> {
    let mut arguments = vec!["agent".to_owned(), format!("-node={name}")];
    arguments.push(format!("-rpc-addr=0.0.0.0:{RPC_PORT}"));
    // The quickest that Serf takes, for those that start before a seed listens.
    arguments.push("-retry-interval=1s".to_owned());
    arguments.extend(join.iter().map(|address| format!("-retry-join={address}")));
    arguments.extend(bind.map(|ip| format!("-bind={}", with_port(ip))));
    if let Some(key) = settings.key(0).filter(|_| settings.encrypted) {
        arguments.push(format!("-encrypt={key}"));
    }
    if settings.snapshot {
        arguments.push("-snapshot=/state/snapshot".to_owned());
    }
    if settings.handlers {
        arguments.push(format!("-event-handler={HANDLER}"));
    }
    arguments.extend(config.map(|file| format!("-config-file={file}")));
    arguments
}

fn with_port(ip: IpAddr) -> String {
    std::net::SocketAddr::new(ip, 7946).to_string()
}

/// Lines of [`HANDLED`]: names of the events in the order of their handling.
pub(crate) fn handled(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_become_flags_that_serf_knows() {
        let plain = arguments("n01", &Settings::default(), &["10.201.0.10".into()], None, None);
        assert_eq!(
            plain.join(" "),
            "agent -node=n01 -rpc-addr=0.0.0.0:7373 -retry-interval=1s -retry-join=10.201.0.10"
        );
        let settings = Settings { encrypted: true, snapshot: true, handlers: true, ..Settings::default() };
        let all = arguments("n", &settings, &[], Some("fd00::5".parse().unwrap()), Some("/state/extra.json"));
        assert!(all.contains(&"-bind=[fd00::5]:7946".to_owned()));
        assert!(all.iter().any(|flag| flag.starts_with("-encrypt=") && flag.len() > 30));
        assert!(all.contains(&"-snapshot=/state/snapshot".to_owned()));
        assert!(all.contains(&"-config-file=/state/extra.json".to_owned()));
        assert!(HANDLER.ends_with(&format!("/state/{HANDLED}")));
    }

    #[test]
    fn handled_events_are_read_by_name() {
        assert_eq!(handled("tick-1 4\ntick-2 5\n\n").collect::<Vec<_>>(), ["tick-1", "tick-2"]);
    }
}
