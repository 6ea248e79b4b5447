//! The flags of `thane agent`, and how flags and files become a [`Config`].

use std::cell::RefCell;
use std::path::PathBuf;

use super::check::{Config, Reloaded};
use super::files;
use super::settings::{KEYS, Key, Settings, Slot};
use crate::command::Failure;
use crate::escape::line;
use crate::flags::{Argument, FlagValue, Flags};
use crate::tags;

/// Flags, and the keys of configuration files that they set.
const FLAGS: [(&str, &str); 40] = [
    ("advertise", "advertise"),
    ("bind", "bind"),
    ("broadcast-timeout", "broadcast_timeout"),
    ("disable-compression", "enable_compression"),
    ("disable-extensions", "enable_extensions"),
    ("discover", "discover"),
    ("dissemination", "dissemination"),
    ("encrypt", "encrypt_key"),
    ("event-handler", "event_handlers"),
    ("http-addr", "http_addr"),
    ("iface", "interface"),
    ("io-driver", "io_driver"),
    ("join", "start_join"),
    ("keyring-file", "keyring_file"),
    ("log-level", "log_level"),
    ("mdns-disable-ipv4", "mdns.disable_ipv4"),
    ("mdns-disable-ipv6", "mdns.disable_ipv6"),
    ("mdns-iface", "mdns.interface"),
    ("node", "node_name"),
    ("profile", "profile"),
    ("protocol", "protocol"),
    ("rejoin", "rejoin_after_leave"),
    ("replay", "replay_on_join"),
    ("retry-interval", "retry_interval"),
    ("retry-join", "retry_join"),
    ("retry-max", "retry_max_attempts"),
    ("role", "role"),
    ("rpc-addr", "rpc_addr"),
    ("snapshot", "snapshot_path"),
    ("syslog", "enable_syslog"),
    ("tag", "tags"),
    ("tags-file", "tags_file"),
    ("tls-ca-file", "tls_ca_file"),
    ("tls-cert-file", "tls_cert_file"),
    ("tls-gossip", "tls_gossip"),
    ("tls-http", "tls_http"),
    ("tls-key-file", "tls_key_file"),
    ("tls-required", "tls_required"),
    ("tls-rpc", "tls_rpc"),
    ("tls-verify-clients", "tls_verify_clients"),
];

/// Reads the flags and the files that they name, merges the files in their order and then the flags, and checks the
/// result.
///
/// # Errors
/// One line about the first flag, file or value that can't be used.
pub(crate) fn read_config(arguments: &[Argument]) -> Result<Config, Failure> {
    let (settings, warnings) = read(arguments)?;
    let mut config = Config::check(settings).map_err(shown)?;
    config.warnings.splice(..0, warnings);
    Ok(config)
}

/// The error as one line: it may quote what a file or a flag says.
fn shown(error: String) -> Failure {
    Failure::Message(line(&error).into_owned())
}

/// [`read_config`] for a reload: wrong values of settings that a reload does not apply are no error.
///
/// # Errors
/// One line about the first flag, file or event handler that can't be used.
pub(crate) fn read_again(arguments: &[Argument]) -> Result<Reloaded, Failure> {
    let (settings, warnings) = read(arguments)?;
    let mut reloaded = Reloaded::check(settings).map_err(shown)?;
    reloaded.warnings.splice(..0, warnings);
    Ok(reloaded)
}

/// The merged settings, and lines for the user.
fn read(arguments: &[Argument]) -> Result<(Settings, Vec<String>), Failure> {
    let mut warnings = Vec::new();
    let (paths, flags) = parse(arguments, &mut warnings)?;
    let mut settings = files::read_settings(&paths, &mut warnings).map_err(shown)?;
    settings.merge(flags);
    Ok((settings, warnings.iter().map(|warning| line(warning).into_owned()).collect()))
}

/// The paths of configuration files and folders, and the settings of the flags.
fn parse(arguments: &[Argument], warnings: &mut Vec<String>) -> Result<(Vec<PathBuf>, Settings), Failure> {
    let mut given: Vec<Given> = FLAGS.iter().map(|(_, path)| Given::nothing_for(&key(path).slot)).collect();
    let paths = RefCell::new(Vec::new());
    let (mut files, mut folders) = (Paths(&paths), Paths(&paths));
    let mut flags = Flags::default().flag("config-file", &mut files).flag("config-dir", &mut folders);
    for ((name, _), given) in FLAGS.iter().zip(&mut given) {
        flags = flags.flag(name, given);
    }
    if let Some(stray) = flags.parse(arguments)?.first() {
        // As Go's flag package: the first word that is not a flag ends the flags.
        warnings.push(format!(
            "Warning: '{stray}' is not a flag: this word and the flags after it are ignored; a switch takes its value as in -replay=true"
        ));
    }
    let mut settings = Settings::default();
    for ((name, path), given) in FLAGS.iter().zip(given) {
        let put = given.put(&key(path).slot, &mut settings);
        put.map_err(|error| match error {
            PutError::Tag(line) => Failure::Message(line),
            PutError::Value(error) => Failure::Message(format!("Error: -{name}: {error}")),
        })?;
    }
    Ok((paths.into_inner(), settings))
}

/// The key for a path such as `mdns.interface`.
fn key(path: &str) -> &'static Key {
    let (outer, inner) = path.split_once('.').map_or((path, None), |(outer, inner)| (outer, Some(inner)));
    let find = |keys: &'static [Key], name: &str| keys.iter().find(|key| key.name == name);
    let found = find(&KEYS, outer).and_then(|key| match (&key.slot, inner) {
        (Slot::Object(keys), Some(inner)) => find(keys, inner),
        (_, None) => Some(key),
        _ => None,
    });
    found.expect("FLAGS names keys that are there")
}

/// Files and folders share one list, because their order matters.
struct Paths<'a>(&'a RefCell<Vec<PathBuf>>);

impl FlagValue for Paths<'_> {
    fn set(&mut self, text: &str) -> Result<(), &'static str> {
        self.set_word(&Argument::from(text))
    }

    fn set_word(&mut self, word: &Argument) -> Result<(), &'static str> {
        self.0.borrow_mut().push(word.path());
        Ok(())
    }
}

/// The values given for one flag.
enum Given {
    Words(Vec<String>),
    Number(i64),
    Switch(Option<bool>),
}

impl Given {
    fn nothing_for(slot: &Slot) -> Given {
        match slot {
            Slot::Switch(_) | Slot::OnSwitch(_) => Given::Switch(None),
            Slot::Number(_) => Given::Number(0),
            _ => Given::Words(Vec::new()),
        }
    }

    fn put(self, slot: &Slot, settings: &mut Settings) -> Result<(), PutError> {
        match (slot, self) {
            (Slot::Switch(get), Given::Switch(on)) => *get(settings) = on == Some(true),
            // `-disable-compression` and `-disable-extensions` turn off switches that are on by default.
            (Slot::OnSwitch(get), Given::Switch(off)) => *get(settings) = off.map(|off| !off),
            (Slot::Number(get), Given::Number(number)) => *get(settings) = number,
            (Slot::List(get), Given::Words(words)) => *get(settings) = words,
            (Slot::Text(get), Given::Words(mut words)) => *get(settings) = words.pop().unwrap_or_default(),
            (Slot::Time(get), Given::Words(words)) => {
                if let Some(text) = words.last().filter(|text| !text.is_empty()) {
                    *get(settings) = super::settings::raised_duration(text).map_err(PutError::Value)?;
                }
            }
            (Slot::Map(get), Given::Words(words)) => {
                *get(settings) = tags::parse(&words).map_err(PutError::Tag)?;
            }
            _ => unreachable!("nothing_for makes what put takes, and no flag sets an object"),
        }
        Ok(())
    }
}

impl FlagValue for Given {
    fn set(&mut self, text: &str) -> Result<(), &'static str> {
        match self {
            Given::Words(words) => words.set(text),
            Given::Number(number) => number.set(text),
            Given::Switch(on) => on.get_or_insert_default().set(text),
        }
    }

    fn is_switch(&self) -> bool {
        matches!(self, Given::Switch(_))
    }
}

/// Why the words of a flag are not a value.
enum PutError {
    /// Not `name=value`: the line for the user.
    Tag(String),
    /// The mistake.
    Value(String),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::super::settings::tests::everything;
    use super::*;

    type Parsed = (Vec<PathBuf>, Settings);

    fn parsed(line: &str) -> Result<Parsed, String> {
        let (parsed, warnings) = parsed_with_warnings(line)?;
        assert!(warnings.is_empty(), "{warnings:?}");
        Ok(parsed)
    }

    fn parsed_with_warnings(line: &str) -> Result<(Parsed, Vec<String>), String> {
        let arguments: Vec<Argument> = line.split_whitespace().map(Argument::from).collect();
        let mut warnings = Vec::new();
        let parsed = parse(&arguments, &mut warnings);
        parsed.map(|parsed| (parsed, warnings)).map_err(|failure| match failure {
            Failure::Message(text) => text,
            Failure::Flag(error) => format!("stderr: {error}"),
            Failure::Usage(_) | Failure::Help => panic!("flags have no usage of their own"),
        })
    }

    #[test]
    fn every_flag_sets_its_key() {
        let (_, settings) = parsed(
            "-advertise=2.2.2.2 -bind 1.1.1.1 -broadcast-timeout=5s --disable-compression -disable-extensions -discover=d -dissemination=eager -encrypt=k
             -event-handler=h -http-addr=4.4.4.4:2 -iface=eth0 -io-driver=portable -join=j -keyring-file kf -log-level=debug
             -mdns-disable-ipv4 -mdns-disable-ipv6=true -mdns-iface=i --node=n -profile=wan -protocol=4 -rejoin
             -replay -retry-interval=4s -retry-join=rj -retry-max=5 -role=r -rpc-addr=3.3.3.3:1 -snapshot=s
             -syslog -tag=a=b -tags-file=t -tls-ca-file=ta -tls-cert-file=tc -tls-key-file=tk -tls-http -tls-rpc
             -tls-verify-clients -tls-gossip -tls-required",
        )
        .unwrap();
        let without_flags = Settings {
            disable_coordinates: false,
            rpc_auth: String::new(),
            query_response_size_limit: 0,
            query_size_limit: 0,
            user_event_size_limit: 0,
            leave_on_terminate: false,
            skip_leave_on_interrupt: false,
            reconnect_interval: Duration::ZERO,
            reconnect_timeout: Duration::ZERO,
            tombstone_timeout: Duration::ZERO,
            disable_name_resolution: false,
            syslog_facility: String::new(),
            statsite_addr: String::new(),
            statsd_addr: String::new(),
            validate_node_names: false,
            msgpack_use_new_time_format: false,
            label: String::new(),
            cidrs_allowed: Vec::new(),
            encrypt_verify_incoming: None,
            encrypt_verify_outgoing: None,
            handler_concurrency: 0,
            handler_timeout: Duration::ZERO,
            handler_output_limit: 0,
            log_format: String::new(),
            ..everything()
        };
        assert_eq!(settings, without_flags);
    }

    #[test]
    fn repeated_flags_replace_or_gather() {
        let (paths, settings) = parsed(
            "-config-dir=d -config-file=f -config-dir=e -node=a -node=b -join=x -join y -tag a=1 -tag b=2=3 -tag a=4",
        )
        .unwrap();
        assert_eq!(paths, ["d", "f", "e"].map(PathBuf::from));
        assert_eq!(settings.node_name, "b");
        assert_eq!(settings.start_join, ["x", "y"]);
        let tags = [("a", "4"), ("b", "2=3")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(settings.tags, tags.into());
        assert_eq!(parsed("-disable-compression=false").unwrap().1.enable_compression, Some(true));
        assert_eq!(parsed("").unwrap(), (Vec::new(), Settings::default()));
    }

    #[test]
    fn what_is_wrong_is_said_in_serfs_words() {
        let cases = [
            ("-nope=3", "stderr: flag provided but not defined: -nope"),
            ("-retry-max=x", "stderr: invalid value \"x\" for flag -retry-max: parse error"),
            ("-replay=maybe", "stderr: invalid boolean value \"maybe\" for -replay: parse error"),
            ("-node", "stderr: flag needs an argument: -node"),
            ("-tag foo", "Error: Invalid tag: 'foo'"),
            ("-tag =foo", "Error: Invalid tag: '=foo'"),
            (
                "-retry-interval=5",
                "Error: -retry-interval: \"5\" is not a duration such as 3s, 1m30s or 250ms",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parsed(line).unwrap_err(), expected, "{line}");
        }
    }

    #[test]
    fn a_stray_word_ends_the_flags_with_a_warning() {
        let ((_, settings), warnings) = parsed_with_warnings("-replay false -node=x").unwrap();
        assert!(settings.replay_on_join && settings.node_name.is_empty());
        assert_eq!(
            warnings,
            [
                "Warning: 'false' is not a flag: this word and the flags after it are ignored; a switch takes its value as in -replay=true"
            ]
        );
    }

    #[test]
    fn flags_win_over_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, r#"{"node_name": "file", "profile": "wan", "start_join": ["a"]}"#).unwrap();
        let arguments = ["-node=flag", "-config-file", path.to_str().unwrap(), "-join=b"].map(Argument::from);
        let config = read_config(&arguments).unwrap();
        assert_eq!((config.node_name.as_str(), config.profile_name()), ("flag", "wan"));
        assert_eq!(config.settings.start_join, ["a", "b"]);
    }
}
