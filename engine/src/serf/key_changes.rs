//! Changes of this node's keys that other nodes' queries ask for (PROTOCOL 9.8). With a keyring file each is written
//! first, then takes effect, then is answered: a key that is reported as installed is still there after a restart.

use std::collections::VecDeque;

use crate::command::KeyOperation;
use crate::event::Notice;
use crate::scope::Scope;
use crate::serf::Serf;
use crate::serf::query::ReplyTo;
use crate::wire::SerfMessage;
use crate::wire::keyring::{Keyring, KeyringError};
use crate::wire::serf::{KeyRequest, KeyResponse};

/// Changes that wait for the file; further ones are refused.
const WAITING_MAX: usize = 64;

/// Changes that wait for the keyring file.
#[derive(Default)]
pub(super) struct KeyChanges {
    /// The keys that are being written, and where to answer.
    writing: Option<(ReplyTo, Keyring)>,
    waiting: VecDeque<(ReplyTo, KeyOperation, Vec<u8>)>,
}

impl Serf {
    /// Performs a change, or starts to. Returns the answer, unless that comes after the file is written.
    pub(super) fn change_keys(
        &mut self,
        scope: &mut Scope<'_>,
        reply_to: &ReplyTo,
        operation: KeyOperation,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        if scope.envelope.keyring.is_empty() {
            return Some(refuse_without_keys(scope, operation));
        }
        let Ok(SerfMessage::KeyRequest(KeyRequest { key })) = SerfMessage::decode(payload) else {
            return Some(refuse(scope, operation, "Failed to decode key request"));
        };
        if !scope.config.keyring_file {
            return Some(match change(&mut scope.envelope.keyring, operation, &key) {
                Ok(()) => answer(Ok(())),
                Err(error) => refuse(scope, operation, &error.to_string()),
            });
        }
        if self.key_changes.waiting.len() >= WAITING_MAX {
            return Some(refuse(scope, operation, "too many changes wait for the keyring file"));
        }
        self.key_changes.waiting.push_back((reply_to.clone(), operation, key.to_vec()));
        self.write_keys(scope);
        None
    }

    /// The keys that were put out last are in the file, or not, for that reason.
    pub(crate) fn on_keyring_written(&mut self, scope: &mut Scope<'_>, outcome: Result<(), String>) {
        let Some((reply_to, keyring)) = self.key_changes.writing.take() else { return };
        if outcome.is_ok() {
            scope.envelope.keyring = keyring;
        }
        self.send_response(scope, &reply_to, &answer(outcome));
        self.write_keys(scope);
    }

    /// Puts out the keys of the next change that is allowed, unless some are being written.
    fn write_keys(&mut self, scope: &mut Scope<'_>) {
        while self.key_changes.writing.is_none()
            && let Some((reply_to, operation, key)) = self.key_changes.waiting.pop_front()
        {
            let mut keyring = scope.envelope.keyring.clone();
            if let Err(error) = change(&mut keyring, operation, &key) {
                let refusal = refuse(scope, operation, &error.to_string());
                self.send_response(scope, &reply_to, &refusal);
                continue;
            }
            scope.ctx.out.keyrings.push((scope.node, keyring.keys().map(<[u8]>::to_vec).collect()));
            self.key_changes.writing = Some((reply_to, keyring));
        }
    }
}

fn change(keyring: &mut Keyring, operation: KeyOperation, key: &[u8]) -> Result<(), KeyringError> {
    match operation {
        KeyOperation::Install => keyring.install(key),
        KeyOperation::Use => keyring.make_primary(key),
        KeyOperation::Remove => keyring.remove(key),
        KeyOperation::List => Ok(()),
    }
}

/// The answer of a node that does not do that, which the log tells too.
pub(super) fn refuse(scope: &mut Scope<'_>, operation: KeyOperation, reason: &str) -> Vec<u8> {
    scope.notice(Notice::KeyRefused { operation, reason: reason.to_owned() });
    answer(Err(reason.to_owned()))
}

/// The answer of a node that has no keys at all, which Serf logs with other words than other refusals.
pub(super) fn refuse_without_keys(scope: &mut Scope<'_>, operation: KeyOperation) -> Vec<u8> {
    let reason = match operation {
        KeyOperation::List => "Keyring is empty (encryption not enabled)",
        KeyOperation::Install | KeyOperation::Use | KeyOperation::Remove => {
            "No keyring to modify (encryption not enabled)"
        }
    };
    scope.notice(Notice::NoKeys { reason });
    answer(Err(reason.to_owned()))
}

/// The answer of a node. The texts are memberlist's, because Serf's command line prints them.
pub(super) fn answer(outcome: Result<(), String>) -> Vec<u8> {
    let result = outcome.is_ok();
    let message = outcome.err().unwrap_or_default();
    let mut out = Vec::new();
    KeyResponse { result, message: &message, ..KeyResponse::default() }.encode(&mut out);
    out
}
