//! `thane keys`: changes and lists the gossip keys of all members.

use std::collections::BTreeMap;
use std::process::ExitCode;

use thane_engine::ipc::{Client, KeyRequest, KeyResponse, Request};

use crate::command::{Command, Failure};
use crate::escape;
use crate::flags::Argument;
use crate::output::{Columns, say};
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, LONG_TIMEOUT_OPTION, Rpc, TLS_OPTION};

pub(crate) const COMMAND: Command = Command {
    name: "keys",
    arguments: "[options]",
    synopsis: "Change and list the encryption keys of all members",
    about: "Members of an encrypted cluster have a keyring. To change the key, install the new one, use it, and \
        then remove the old one. Each of these steps can be repeated.",
    options: &[
        ("-install=KEY", "Add the key to all keyrings, for decryption"),
        ("-use=KEY", "Encrypt with this key, which every keyring must hold"),
        ("-remove=KEY", "Remove the key from all keyrings; not the one in use"),
        ("-list", "List the keys, with the number of members that have each"),
        ADDR_OPTION,
        AUTH_OPTION,
        TLS_OPTION,
        LONG_TIMEOUT_OPTION,
    ],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let (mut rpc, mut list) = (Rpc::from_environment(), false);
    let (mut install, mut use_key, mut remove) = (String::new(), String::new(), String::new());
    rpc.flags()
        .flag("install", &mut install)
        .flag("use", &mut use_key)
        .flag("remove", &mut remove)
        .flag("list", &mut list)
        .parse(arguments)?;
    let keys = [&install, &use_key, &remove];
    match keys.into_iter().filter(|key| !key.is_empty()).count() + usize::from(list) {
        0 => return Err(Failure::Help),
        1 => {}
        _ => {
            return Err(Failure::Message("Only one of -install, -use, -remove, or -list allowed".to_owned()));
        }
    }
    let mut client = rpc.connect_and_wait()?;
    if list {
        return list_keys(&mut client);
    }
    let change = if !install.is_empty() {
        Change {
            begins: "Installing key on all members...",
            done: "Successfully installed key!",
            fails: "Error installing key",
            request: Request::InstallKey(KeyRequest { key: install }),
        }
    } else if !use_key.is_empty() {
        Change {
            begins: "Changing primary key on all members...",
            done: "Successfully changed primary key!",
            fails: "Error changing primary key",
            request: Request::UseKey(KeyRequest { key: use_key }),
        }
    } else {
        Change {
            begins: "Removing key on all members...",
            done: "Successfully removed key!",
            fails: "Error removing key",
            request: Request::RemoveKey(KeyRequest { key: remove }),
        }
    };
    ask(&mut client, &change)?;
    say(format_args!("==> {}", change.done));
    Ok(ExitCode::SUCCESS)
}

/// A request about keys, and Serf's lines before and after it.
struct Change {
    begins: &'static str,
    done: &'static str,
    fails: &'static str,
    request: Request,
}

fn list_keys(client: &mut Client) -> Result<ExitCode, Failure> {
    let list = Change {
        begins: "Asking all members for installed keys...",
        done: "Keys gathered, listing cluster keys...",
        fails: "Failed to gather member keys",
        request: Request::ListKeys,
    };
    let response = ask(client, &list)?;
    let keys: Columns = response
        .keys
        .unwrap_or_default()
        .into_iter()
        .map(|(key, have)| [key, format!("[{have}/{}]", response.num_nodes)])
        .collect();
    say(format_args!("==> {}\n\n{}", list.done, keys.into_text()));
    Ok(ExitCode::SUCCESS)
}

/// Sends the request. A failure lists the reason of each node first.
fn ask(client: &mut Client, change: &Change) -> Result<KeyResponse, Failure> {
    say(format_args!("==> {}", change.begins));
    client.keys(&change.request).map_err(|(error, response)| {
        let failures = failures(response.messages);
        let error = error.to_string();
        Failure::Message(format!("{failures}\n{}: {}", change.fails, escape::lines(&error)))
    })
}

fn failures(messages: BTreeMap<String, String>) -> String {
    if messages.is_empty() {
        return String::new();
    }
    let rows = messages.into_iter().map(|(node, message)| {
        ["failed: ".to_owned(), escape::line(&node).into_owned(), escape::line(&message).into_owned()]
    });
    rows.collect::<Columns>().into_text() + "\n"
}
