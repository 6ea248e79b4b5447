//! Members, payloads, coordinates and errors in the form that they have in responses (docs/openapi.json).

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;
use thane_engine::api::ApiError;
use thane_engine::command::CommandError;
use thane_engine::event::MemberRef;
use thane_engine::wire::coordinate::Coordinate;

use super::body::{self, Refusal};
use crate::base64;

#[derive(Serialize)]
pub(super) struct Member<'a> {
    name: &'a str,
    addr: IpAddr,
    port: u16,
    status: &'static str,
    tags: BTreeMap<String, String>,
    protocol: Versions,
    delegate: Versions,
}

#[derive(Serialize)]
struct Versions {
    min: u8,
    max: u8,
    current: u8,
}

impl<'a> From<&MemberRef<'a>> for Member<'a> {
    fn from(member: &MemberRef<'a>) -> Member<'a> {
        let of = &member.versions;
        Member {
            name: member.name,
            addr: member.addr,
            port: member.port,
            status: member.status.as_str(),
            tags: member.tags(),
            protocol: Versions { min: of.protocol_min(), max: of.protocol_max(), current: of.protocol_cur() },
            delegate: Versions { min: of.delegate_min(), max: of.delegate_max(), current: of.delegate_cur() },
        }
    }
}

/// Seconds, as everything about a coordinate but its relative error.
#[derive(Serialize)]
pub(super) struct Place {
    vec: [f64; 8],
    error: f64,
    adjustment: f64,
    height: f64,
}

impl From<&Coordinate> for Place {
    fn from(coordinate: &Coordinate) -> Place {
        let &Coordinate { vec, error, adjustment, height } = coordinate;
        Place { vec, error, adjustment, height }
    }
}

/// A payload in a response: always in base64, and as text if it is that.
#[derive(Serialize)]
pub(super) struct Payload<'a> {
    payload: Option<&'a str>,
    payload_base64: String,
}

impl<'a> From<&'a Bytes> for Payload<'a> {
    fn from(bytes: &'a Bytes) -> Payload<'a> {
        Payload { payload: std::str::from_utf8(bytes).ok(), payload_base64: base64::encode(bytes) }
    }
}

/// The bytes of a payload in a request, which is given as text or in base64, or not at all.
///
/// # Errors
/// The response.
pub(super) fn given_payload(text: Option<String>, encoded: Option<String>) -> Result<Bytes, Refusal> {
    let refused = |text: &str| Err(body::error(StatusCode::BAD_REQUEST, text));
    match (text, encoded) {
        (None, None) => Ok(Bytes::new()),
        (Some(text), None) => Ok(text.into()),
        (None, Some(encoded)) => match base64::decode(&encoded) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => refused(&format!("'payload_base64' is not base64: {error}")),
        },
        (Some(_), Some(_)) => refused("give 'payload' or 'payload_base64', not both"),
    }
}

/// The response for what a node refused.
pub(super) fn refusal(error: &ApiError) -> Refusal {
    let status = match error {
        ApiError::Command(CommandError::LeaveInProgress | CommandError::JoinAfterLeave) => {
            StatusCode::CONFLICT
        }
        ApiError::Command(CommandError::Busy(_)) | ApiError::Busy | ApiError::Stopped => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ApiError::Command(_) => StatusCode::BAD_REQUEST,
        ApiError::TagsTimeout | ApiError::RemovalTimeout => StatusCode::GATEWAY_TIMEOUT,
    };
    body::error(status, error)
}
