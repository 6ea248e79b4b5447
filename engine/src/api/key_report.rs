//! The result of a key operation.

use std::collections::BTreeMap;

use crate::wire::SerfMessage;

/// The result of a key operation on all members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// Alive members when the query was sent, this node included, and those that came meanwhile and answered.
    pub nodes: usize,
    /// Members that answered.
    pub responses: usize,
    /// Members that answered with an error; their keyrings are unchanged.
    pub errors: usize,
    /// Error texts and remarks, by node name.
    pub messages: BTreeMap<String, String>,
    /// Of a list: on how many nodes each key, in base64, is installed.
    pub keys: BTreeMap<String, usize>,
}

impl KeyReport {
    /// The error in Serf's words; `None` if all members succeeded.
    pub fn error(&self) -> Option<String> {
        let KeyReport { nodes, responses, errors, .. } = self;
        if *errors > 0 {
            Some(format!("{errors}/{nodes} nodes reported failure"))
        } else if responses != nodes {
            Some(format!("{responses}/{nodes} nodes reported success"))
        } else {
            None
        }
    }

    /// Adds one member's answer.
    pub(super) fn count(&mut self, from: String, payload: &[u8]) {
        self.responses += 1;
        let response = match SerfMessage::decode(payload) {
            Ok(SerfMessage::KeyResponse(response)) => response,
            _ => {
                self.errors += 1;
                self.messages.insert(from, "Failed to decode key query response".to_owned());
                return;
            }
        };
        self.errors += usize::from(!response.result);
        if !response.message.is_empty() {
            self.messages.insert(from, response.message.to_owned());
        }
        for key in response.keys {
            *self.keys.entry(key.to_owned()).or_default() += 1;
        }
    }
}
