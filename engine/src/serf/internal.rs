//! Internal queries: they change and list the keys of all nodes (PROTOCOL 5.6, 9.8), and ask for votes (`name_votes`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::command::{CommandError, KeyOperation, Ticket};
use crate::event::Notice;
use crate::scope::Scope;
use crate::serf::query::{Asker, Question, ReplyTo};
use crate::serf::{Serf, key_changes};
use crate::wire::serf::{KeyRequest, KeyResponse};

/// Names with this prefix never reach the application.
pub(super) const PREFIX: &str = "_serf_";
/// A query that all nodes ack and none answers.
pub(super) const PING: &str = "_serf_ping";
pub(super) const CONFLICT: &str = "_serf_conflict";

impl KeyOperation {
    fn query_name(self) -> &'static str {
        match self {
            KeyOperation::Install => "_serf_install-key",
            KeyOperation::Use => "_serf_use-key",
            KeyOperation::Remove => "_serf_remove-key",
            KeyOperation::List => "_serf_list-keys",
        }
    }

    fn of_query(name: &str) -> Option<KeyOperation> {
        use KeyOperation::{Install, List, Remove, Use};
        [Install, Use, Remove, List].into_iter().find(|operation| operation.query_name() == name)
    }
}

/// Whether a query asks to list or change keys.
pub(super) fn is_about_keys(name: &str) -> bool {
    KeyOperation::of_query(name).is_some()
}

impl Serf {
    /// This node's answer to an internal query, if it has one now.
    pub(super) fn internal_answer(
        &mut self,
        scope: &mut Scope<'_>,
        reply_to: &ReplyTo,
        name: &str,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        if name == PING {
            return None;
        }
        if name == CONFLICT {
            let claimed = str::from_utf8(payload).ok()?;
            self.asked_for_vote(scope, reply_to, claimed);
            return None;
        }
        let Some(operation) = KeyOperation::of_query(name) else {
            scope.notice(Notice::UnknownInternalQuery { name: name.to_owned() });
            return None;
        };
        scope.notice(Notice::KeyQuery { operation });
        match operation {
            KeyOperation::List => Some(list_keys(scope)),
            change => self.change_keys(scope, reply_to, change, payload),
        }
    }

    /// Asks all nodes to perform a key operation. Answers come like those of a query; each payload is a key
    /// response.
    pub(crate) fn key_query(
        &mut self,
        scope: &mut Scope<'_>,
        ticket: Ticket,
        operation: KeyOperation,
        key: &[u8],
    ) -> Result<std::time::Duration, CommandError> {
        if !scope.envelope.keyring.is_empty() && !scope.envelope.seals() {
            return Err(CommandError::KeysUnsealed);
        }
        let mut payload = Vec::new();
        KeyRequest { key: key.into() }.encode(&mut payload);
        let question = Question { name: operation.query_name(), payload: &payload, ..Question::default() };
        self.ask(scope, Asker::Application(ticket), &question)
    }
}

/// This node's keys, the primary one first; as many as fit the answer.
fn list_keys(scope: &mut Scope<'_>) -> Vec<u8> {
    if scope.envelope.keyring.is_empty() {
        return key_changes::refuse_without_keys(scope, KeyOperation::List);
    }
    let mut out = Vec::new();
    let keys: Vec<String> = scope.envelope.keyring.keys().map(|key| STANDARD.encode(key)).collect();
    // The query response around it takes up to 64 bytes and the name.
    let room = scope.config.query_response_size_limit.saturating_sub(64 + scope.config.node_name.len());
    for shown in (0..=keys.len()).rev() {
        let message = if shown == keys.len() {
            String::new()
        } else {
            format!("truncated key list response, showing first {shown} of {} keys", keys.len())
        };
        let response = KeyResponse {
            result: true,
            message: &message,
            keys: keys[..shown].iter().map(String::as_str).collect(),
            primary_key: keys.first().map_or("", String::as_str),
        };
        out.clear();
        response.encode(&mut out);
        if out.len() <= room {
            break;
        }
    }
    out
}
